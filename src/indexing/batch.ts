// The unit between assembling and writing. In: tagged events. Out: one NDJSON bulk body and, item by item, the record it came
// from. Guarantee: the body is written once, by copying the record's own bytes where they can be used; sinks read slices of it;
// the same record always gets the same id.
import { type Chunk, detached, documentId, ID_LENGTH, isEventId, lengthOf, type RawRecord } from '../core/record.ts';
import type { TimeParser } from '../parse/conform.ts';
import { documentText } from '../parse/json.ts';
import { ScannedEvent, TIME_LENGTH } from '../parse/scan/scanned-event.ts';
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
const [TAB, SPACE, OPEN] = [9, 32, 123];
const EMPTY_LENGTH = '{}'.length;
const ACTION_END = pieceOf('"}}');
const TIME_START = pieceOf('{"@timestamp":"');
const TIME_END = pieceOf('",');
const ORIGIN_END = pieceOf('},');
/** More than the rest of a head needs: braces and names, an id, a time, an offset. */
const PLAIN_HEAD = 128;
/** Up to so many bytes, moving them here costs less than a call out of JavaScript. */
const FEW_BYTES = 1_024;
/** A digit of a number below this costs a division of small integers. */
const SMALL_NUMBERS = 2 ** 30;

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
  private view: DataView;
  /** What was moved from last. */
  private last: Piece = ACTION_END;
  /** Bytes of the records as consumed, for the in-flight limit: its filler's to count. */
  consumedBytes = 0;
  /** Where the item that is being written ends so far, and where its document line begins. */
  private end = 0;
  private documentStart = 0;

  constructor(capacity: number) {
    this.buffer = Buffer.allocUnsafeSlow(capacity);
    this.view = viewOf(this.buffer);
  }

  get count(): number {
    return this.chunks.length;
  }

  /**
   * Appends one item, made of the record at `position` of the chunk.
   * @param action the action line without its newline
   * @param head the beginning of the document, `{"@timestamp":…,`
   * @param rest the remaining bytes of the document, after the first
   */
  add(chunk: Chunk, position: number, action: string, head: string, rest: Buffer): void {
    this.begin((action.length + head.length) * 3 + rest.length);
    this.write(action);
    this.endAction();
    this.write(head);
    this.finish(chunk, position, rest, 1, rest.length);
  }

  // An item written piece by piece, as most are: `begin`, the action line by `put`, `endAction`, the beginning of the document by
  // `put`, `finish`.

  /** @param most what the pieces may need, in bytes */
  begin(most: number): void {
    const needed = this.length + most + 2;
    if (needed > this.buffer.length) this.grow(needed);
    this.end = this.length;
  }

  // Here, and not by a call out of JavaScript, which costs several times as much for so few bytes.

  /** What many items have. */
  put({ bytes, view }: Piece): void {
    this.move(view, 0, bytes.length);
  }

  /** A text without characters above 0x7f. */
  putText(text: string): void {
    const { buffer } = this;
    let { end } = this;
    for (let i = 0; i < text.length; i++) buffer[end++] = text.charCodeAt(i);
    this.end = end;
  }

  /** A whole number, not negative. */
  putNumber(number: number): void {
    if (number >= SMALL_NUMBERS) {
      this.putText(String(number));
      return;
    }
    const { buffer } = this;
    let rest = number | 0;
    let length = 1;
    for (let limit = 10; rest >= limit; limit *= 10) length += 1;
    this.end += length;
    for (let at = this.end - 1, i = 0; i < length; at--, i++) {
      buffer[at] = 48 + (rest % 10);
      rest = (rest / 10) | 0;
    }
  }

  /** Any text. */
  write(text: string): void {
    this.end += this.buffer.write(text, this.end);
  }

  /** A part of valid UTF-8. */
  copy(bytes: Buffer, from: number, to: number): void {
    if (to - from > FEW_BYTES) {
      this.end += bytes.copy(this.buffer, this.end, from, to);
      return;
    }
    if (this.last.bytes !== bytes) this.last = { bytes, view: viewOf(bytes) };
    this.move(this.last.view, from, to);
  }

  private move(from: DataView, start: number, stop: number): void {
    const { view, end } = this;
    const length = stop - start;
    this.end = end + length;
    if (length < 8) {
      for (let i = 0; i < length; i++) view.setUint8(end + i, from.getUint8(start + i));
      return;
    }
    // Eight at once, the last ones perhaps twice. As numbers they stay what they are: no eight bytes of UTF-8
    // are one of those that are no number, whose bits may change.
    const last = length - 8;
    for (let i = 0; i < last; i += 8) view.setFloat64(end + i, from.getFloat64(start + i, true), true);
    view.setFloat64(end + last, from.getFloat64(start + last, true), true);
  }

  endAction(): void {
    this.buffer[this.end++] = NEWLINE;
    this.documentStart = this.end;
  }

  /** With the remaining bytes of the document. The item is in the batch only now: a failure leaves no half of one. */
  finish(chunk: Chunk, position: number, rest: Buffer, restStart: number, restEnd: number): void {
    this.check(this.end + (restEnd - restStart) + 1);
    this.copy(rest, restStart, restEnd);
    this.settle(chunk, position);
  }

  /** What does not fit would be left out in silence. */
  private check(needed: number): void {
    if (needed > this.buffer.length) throw new RangeError(`an item of ${needed - this.length} bytes has no room`);
  }

  private settle(chunk: Chunk, position: number): void {
    this.buffer[this.end++] = NEWLINE;
    this.starts.push(this.length);
    this.documents.push(this.documentStart);
    this.length = this.end;
    this.chunks.push(chunk);
    this.positions.push(position);
  }

  /** The same with the document's own text, braces included. @param length in bytes */
  finishText(chunk: Chunk, position: number, text: string, length: number): void {
    this.check(this.end + length);
    // In an empty document nothing follows the comma.
    if (length === EMPTY_LENGTH) this.end -= 1;
    this.write(text.slice(1));
    this.settle(chunk, position);
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
    // Not to keep what was fetched.
    this.last = ACTION_END;
  }

  private grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
    this.view = viewOf(larger);
  }
}

/** Bytes that are moved more than once. */
interface Piece {
  readonly bytes: Buffer;
  readonly view: DataView;
}

function pieceOf(text: string): Piece {
  const bytes = Buffer.from(text);
  return { bytes, view: viewOf(bytes) };
}

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length);
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
  /** The parts of a head that records share, as the last ones had them. */
  let lastDay = '';
  let actionHead = pieceOf('');
  let lastOrigin: Chunk['origin'] | undefined;
  let origin = pieceOf('');

  /**
   * Begins an item: its action line, and the document as far as logpipe's own fields go, each followed by a comma. Hardly a text is made for
   * it.
   * @param most what follows may need, in bytes
   */
  function openItem(batch: Batch, event: TaggedEvent, record: RawRecord, chunk: Chunk, most: number): void {
    const day = time.day(event.timeMs);
    if (day !== lastDay) {
      lastDay = day;
      actionHead = pieceOf(`${head}${day}","_id":"`);
    }
    if (chunk.origin !== lastOrigin) {
      lastOrigin = chunk.origin;
      origin = pieceOf(originField(chunk.origin));
    }
    const { bytes, idAt = -1 } = record;
    const id =
      idAt >= 0 ? '' : hasPlainId(record) ? documentId(record, chunk) : asciiJson(record.documentId!).slice(1, -1);
    // Tags may hold any character.
    const tags = event.tags.length === 0 ? '' : `"tags":${JSON.stringify(event.tags)},`;
    batch.begin(actionHead.bytes.length + id.length + 3 * tags.length + origin.bytes.length + PLAIN_HEAD + most);
    batch.put(actionHead);
    if (idAt < 0) batch.putText(id);
    else batch.copy(bytes!, idAt, idAt + ID_LENGTH);
    batch.put(ACTION_END);
    batch.endAction();
    batch.put(TIME_START);
    if (event instanceof ScannedEvent && event.timeAt >= 0)
      batch.copy(event.bytes, event.timeAt, event.timeAt + TIME_LENGTH);
    else batch.putText(event.timeText ?? time.iso(event.timeMs));
    batch.put(TIME_END);
    if (tags !== '') batch.write(tags);
    if (origin.bytes.length > 0) {
      batch.put(origin);
      batch.putNumber(record.offset);
      batch.put(ORIGIN_END);
    }
  }

  /** A scanned line with an error group of its own, into which the template goes. */
  function appendGrouped(
    batch: Batch,
    { event, errorEnd }: { event: TaggedEvent; errorEnd: number },
    record: RawRecord,
    chunk: Chunk,
    position: number,
  ): void {
    const bytes = record.bytes ?? record.value!;
    const { start = 0, end = bytes.length } = record;
    const close = start + errorEnd - 1;
    let last = close - 1;
    while (bytes[last] === SPACE || bytes[last] === TAB) last -= 1;
    const members = JSON.stringify(event.grouping).slice(1, -1);
    const added = bytes[last] === OPEN ? members : `,${members}`;
    openItem(batch, event, record, chunk, 3 * added.length + (end - start));
    batch.copy(bytes, start + 1, close);
    batch.write(added);
    batch.finish(chunk, position, bytes, close, end);
  }

  function appendText(
    batch: Batch,
    event: TaggedEvent,
    doc: Record<string, unknown>,
    record: RawRecord,
    chunk: Chunk,
    position: number,
  ): void {
    const text = documentText(doc);
    const length = Buffer.byteLength(text);
    openItem(batch, event, record, chunk, length);
    batch.finishText(chunk, position, text, length);
  }

  return {
    append(batch, event, record, chunk, position) {
      const { grouping } = event;
      const errorEnd = event instanceof ScannedEvent ? event.errorEnd : undefined;
      if (errorEnd !== undefined) return appendGrouped(batch, { event, errorEnd }, record, chunk, position);
      // Any other event with an error group of its own has to be serialised, because the template goes into that group.
      const ownError = grouping !== undefined && !(event instanceof ScannedEvent) && event.doc.error !== undefined;
      if (event.verbatim && !ownError) {
        const bytes = record.bytes ?? record.value!;
        const { start = 0, end = bytes.length } = record;
        const error = grouping === undefined ? '' : `"error":${JSON.stringify(grouping)},`;
        openItem(batch, event, record, chunk, 3 * error.length + (end - start));
        if (error !== '') batch.write(error);
        batch.finish(chunk, position, bytes, start + 1, end);
      } else appendText(batch, event, withGrouping(event, event.doc), record, chunk, position);
    },
    rewrite(event, doc, record, chunk) {
      const tags = event.tags.includes('_mapping_degraded') ? event.tags : [...event.tags, '_mapping_degraded'];
      const alone = new Batch(0);
      appendText(alone, { ...event, tags }, withGrouping(event, doc), record, chunk, 0);
      return alone.item(0);
    },
  };
}

/** All but the offset. */
function originField(origin: Chunk['origin']): string {
  return origin.kind === 'kafka' ? `"kafka":{"topic":"${origin.topic}","partition":${origin.partition},"offset":` : '';
}

/** Is the id of its document an event id, a line's, or made here? */
function hasPlainId(record: RawRecord): boolean {
  return (record.idAt ?? -1) >= 0 || record.documentId === undefined || isEventId(record.documentId);
}

function withGrouping(event: TaggedEvent, doc: Record<string, unknown>): Record<string, unknown> {
  if (event.grouping === undefined) return doc;
  const error = typeof doc.error === 'object' && doc.error !== null ? doc.error : {};
  return { ...doc, error: { ...error, ...event.grouping } };
}

/** JSON in ASCII, as action lines are written. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
