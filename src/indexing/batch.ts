// The unit between assembling and writing. In: tagged events. Out: one NDJSON bulk body and, item by item, the record it came
// from. Guarantee: the body is written once, by copying the record's own bytes where they can be used; sinks read slices of it;
// the same record always gets the same id.
import { type Chunk, detached, documentId, lengthOf, type RawRecord } from '../core/record.ts';
import type { TimeParser } from '../parse/conform.ts';
import { documentText } from '../parse/json.ts';
import { ScannedEvent } from '../parse/scan/scanned-event.ts';
import type { TaggedEvent } from '../tag/tag.ts';

export interface BatchItem {
  readonly record: RawRecord;
  readonly chunk: Chunk;
}

/** Bookkeeping per record, counted against the in-flight limit: tiny records cost memory too. */
export const RECORD_OVERHEAD = 256;

/** What a record counts against the in-flight limit, in bytes. */
export function weightOf(record: RawRecord): number {
  return lengthOf(record) + RECORD_OVERHEAD;
}

/** The item, to be kept while the batch and the chunk are let go. */
export function apart({ record, chunk }: BatchItem): BatchItem {
  const { origin, done } = chunk;
  return { record: detached(record), chunk: { origin, records: [], bytes: 0, done } };
}

const NEWLINE = 10;
const OPEN = 123;

/** A growing bulk body. A class, because one is filled per few thousand records on the hot path. */
export class Batch {
  /** Action line and document line per item, each ended by a newline. Valid up to `length`. */
  buffer: Buffer;
  length = 0;
  /** The chunk of item i, and the position of its record there: the record becomes an object only for whoever asks. */
  private readonly chunks: Chunk[] = [];
  private readonly positions: number[] = [];
  /** Where item i begins (its action line). */
  private readonly starts: number[] = [];
  /** Where the document line of item i begins. */
  private readonly documents: number[] = [];
  /** Bytes of the records as consumed, for the in-flight limit: its filler's to count. */
  consumedBytes = 0;

  constructor(capacity: number) {
    this.buffer = Buffer.allocUnsafeSlow(capacity);
  }

  get count(): number {
    return this.chunks.length;
  }

  /**
   * Appends one item, made of the record at `position` of the chunk.
   * @param action the action line without its newline
   * @param head the beginning of the document, `{"@timestamp":…,`
   * @param ascii true when action and head hold no character above 0x7f
   * @param rest the remaining bytes of the document, from `restStart` to `restEnd`
   * @param put what to write in between, before the byte at `at`
   */
  add(
    chunk: Chunk,
    position: number,
    action: string,
    head: string,
    ascii: boolean,
    rest: Buffer,
    restStart: number,
    restEnd = rest.length,
    put?: { readonly at: number; readonly text: string },
  ): void {
    const added = action.length + head.length + (put?.text.length ?? 0);
    const most = added * (ascii ? 1 : 3) + (restEnd - restStart) + 2;
    if (this.length + most > this.buffer.length) this.grow(this.length + most);
    const { buffer } = this;
    const start = this.length;
    let end = start;
    // One call for both: a call costs as much as the characters it writes.
    const document = end + (ascii ? action.length : Buffer.byteLength(action)) + 1;
    end += buffer.write(`${action}\n${head}`, end, ascii ? 'latin1' : 'utf8');
    if (put !== undefined) {
      end += rest.copy(buffer, end, restStart, put.at);
      end += buffer.write(put.text, end);
    }
    end += rest.copy(buffer, end, put?.at ?? restStart, restEnd);
    buffer[end++] = NEWLINE;
    // Only now, so that a failure leaves no half-written item.
    this.starts.push(start);
    this.documents.push(document);
    this.length = end;
    this.chunks.push(chunk);
    this.positions.push(position);
  }

  /** The chunk that item `index` came with. */
  chunk(index: number): Chunk {
    return this.chunks[index]!;
  }

  /** What item `index` was made of. */
  source(index: number): BatchItem {
    const chunk = this.chunks[index]!;
    return { record: chunk.records.at(this.positions[index]!)!, chunk };
  }

  /** The whole body. */
  body(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  /** Action and document line of item `index`. */
  item(index: number): Buffer {
    return this.buffer.subarray(this.starts[index], this.starts[index + 1] ?? this.length);
  }

  /** The document of item `index`, without its newline. */
  document(index: number): Buffer {
    return this.buffer.subarray(this.documents[index], (this.starts[index + 1] ?? this.length) - 1);
  }

  /** Index name and document id of item `index`, read back from its action line. */
  action(index: number): { index: string; id: string } {
    const line = this.buffer.toString('utf8', this.starts[index], this.documents[index]);
    const [target] = Object.values(JSON.parse(line) as Record<string, { _index: string; _id: string }>);
    return { index: target!._index, id: target!._id };
  }

  /** Empties the batch for reuse; its buffer must no longer be read by anyone. */
  clear(): void {
    this.length = 0;
    this.chunks.length = 0;
    this.positions.length = 0;
    this.starts.length = 0;
    this.documents.length = 0;
    this.consumedBytes = 0;
  }

  private grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }
}

// ---- one item: what is added to a record's bytes ----
// The index is a fixed prefix and the UTC day of the event time; the id is the event id of the record header or, without one, the
// record's place in its source.

/** Live log indices; retention and data views rely on this exact form. */
export const INDEX_PREFIX = 'calling-platform-';
export const INDEX_PATTERN = /^calling-platform-\d{4}\.\d\d\.\d\d$/;
/** Indices that replays make. */
export const REPLAY_PREFIX = 'logpipe-replay-';

export interface DocumentWriter {
  /** @param position of the record in the chunk */
  append(batch: Batch, event: TaggedEvent, record: RawRecord, chunk: Chunk, position: number): void;
  /** The same item with another document body, to be sent after the server refused the first. */
  rewrite(event: TaggedEvent, doc: Record<string, unknown>, record: RawRecord, chunk: Chunk): Buffer;
}

export interface DocumentOptions {
  /** The part of the index name before the day; plain characters only. Default: that of the live log indices. */
  readonly prefix?: string;
  /** `create` leaves a document with the same id alone, `index` overwrites it. Default: `create`. */
  readonly action?: 'create' | 'index';
}

export function createDocumentWriter(time: TimeParser, options: DocumentOptions = {}): DocumentWriter {
  const { prefix = INDEX_PREFIX, action = 'create' } = options;
  const head = `{"${action}":{"_index":"${prefix}`;

  function actionLine(event: TaggedEvent, record: RawRecord, chunk: Chunk): string {
    // Only an id that somebody else chose may need escaping.
    const id =
      record.documentId === undefined ? `"${documentId(record, chunk)}"` : asciiJson(documentId(record, chunk));
    return `${head}${time.day(event.timeMs)}","_id":${id}}}`;
  }

  return {
    append(batch, event, record, chunk, position) {
      const action = actionLine(event, record, chunk);
      const { grouping } = event;
      const scanned = event instanceof ScannedEvent ? event : undefined;
      const errorEnd = scanned?.errorEnd;
      // The template goes into an error group that the event has. Where that ends is known of a line that was scanned; any other has to
      // be serialised.
      const ownError =
        grouping !== undefined && (scanned === undefined ? event.doc.error !== undefined : errorEnd !== undefined);
      if (event.verbatim && (!ownError || errorEnd !== undefined)) {
        const head = openDocument(event, record, chunk, time, grouping !== undefined && !ownError);
        // Tags and templates may hold any character; without them everything here is ASCII.
        const ascii = event.tags.length === 0;
        const bytes = record.bytes ?? record.value!;
        const { start = 0, end = bytes.length } = record;
        const put = errorEnd === undefined ? undefined : joint(bytes, start + errorEnd - 1, grouping!);
        batch.add(chunk, position, action, head, ascii, bytes, start + 1, end, put);
      } else {
        const rest = serialise(withGrouping(event, event.doc));
        const head = openDocument(event, record, chunk, time, false);
        batch.add(chunk, position, action, joinHead(head, rest), false, rest, 1);
      }
    },
    rewrite(event, doc, record, chunk) {
      const tags = event.tags.includes('_mapping_degraded') ? event.tags : [...event.tags, '_mapping_degraded'];
      const rest = serialise(withGrouping(event, doc));
      const head = joinHead(openDocument({ ...event, tags }, record, chunk, time, false), rest);
      return Buffer.concat([
        Buffer.from(`${actionLine(event, record, chunk)}\n${head}`),
        rest.subarray(1),
        Buffer.from('\n'),
      ]);
    },
  };
}

/** `{"@timestamp":…,` and what else logpipe adds, each followed by a comma. */
function openDocument(
  event: TaggedEvent,
  record: RawRecord,
  chunk: Chunk,
  time: TimeParser,
  withError: boolean,
): string {
  let head = `{"@timestamp":"${event.timeText ?? time.iso(event.timeMs)}",`;
  if (event.tags.length > 0) head += `"tags":${JSON.stringify(event.tags)},`;
  if (withError) head += `"error":${JSON.stringify(event.grouping)},`;
  const { origin } = chunk;
  if (origin.kind === 'kafka') {
    head += `"kafka":{"topic":"${origin.topic}","partition":${origin.partition},"offset":${record.offset}},`;
  }
  return head;
}

/** Adds the members of an object before the brace at `at`, behind those that are there. */
function joint(bytes: Buffer, at: number, added: object): { at: number; text: string } {
  let last = at - 1;
  while (bytes[last] === 0x20 || bytes[last] === 9) last -= 1;
  const members = JSON.stringify(added).slice(1, -1);
  return { at, text: bytes[last] === OPEN ? members : `,${members}` };
}

/** In an empty document nothing follows the comma. */
function joinHead(head: string, rest: Buffer): string {
  return rest.length > 2 ? head : head.slice(0, -1);
}

function withGrouping(event: TaggedEvent, doc: Record<string, unknown>): Record<string, unknown> {
  if (event.grouping === undefined) return doc;
  const error = typeof doc.error === 'object' && doc.error !== null ? doc.error : {};
  return { ...doc, error: { ...error, ...event.grouping } };
}

/** Action lines are written as ASCII. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function serialise(doc: Record<string, unknown>): Buffer {
  return Buffer.from(documentText(doc));
}
