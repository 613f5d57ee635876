// Tagged event -> item of a bulk body. The index is the UTC day of the event time behind a fixed prefix; the id is the
// event id of the record header or, without one, the record's place in its source: the same record, the same id.
import type { Chunk, RawRecord } from '../core/record.ts';
import { documentText } from '../parse/json.ts';
import type { TimeParser } from '../parse/time.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { Batch } from './batch.ts';

/** Live log indices; retention and data views rely on this exact form. */
export const INDEX_PREFIX = 'calling-platform-';
export const INDEX_PATTERN = /^calling-platform-\d{4}\.\d\d\.\d\d$/;

export interface DocumentWriter {
  append(batch: Batch, event: TaggedEvent, record: RawRecord, chunk: Chunk): void;
  /** The same item with another document body: what is sent after the server refused the first. */
  rewrite(event: TaggedEvent, doc: Record<string, unknown>, record: RawRecord, chunk: Chunk): Buffer;
}

export interface DocumentOptions {
  /** Stands before the day; plain characters only. Default: that of the live log indices. */
  readonly prefix?: string;
  /** `create` leaves a document with the same id alone, `index` overwrites it. Default: `create`. */
  readonly action?: 'create' | 'index';
}

export function createDocumentWriter(time: TimeParser, options: DocumentOptions = {}): DocumentWriter {
  const { prefix = INDEX_PREFIX, action = 'create' } = options;
  const head = `{"${action}":{"_index":"${prefix}`;

  function actionLine(event: TaggedEvent, record: RawRecord, chunk: Chunk): string {
    // Only an id that somebody else chose can hold what JSON has to escape.
    const id =
      record.documentId === undefined ? `"${documentId(record, chunk)}"` : asciiJson(documentId(record, chunk));
    return `${head}${time.day(event.timeMs)}","_id":${id}}}`;
  }

  return {
    append(batch, event, record, chunk) {
      const action = actionLine(event, record, chunk);
      // An event with an error group of its own has to be serialised, for the template goes into that group.
      const ownError = event.grouping !== undefined && event.doc.error !== undefined;
      if (event.verbatim && !ownError) {
        const head = openDocument(event, record, chunk, time, event.grouping !== undefined);
        // Tags and templates may hold any character; without them everything here is ASCII.
        const ascii = event.tags.length === 0;
        batch.add({ record, chunk }, action, head, ascii, record.value!, 1);
      } else {
        const rest = serialise(withGrouping(event, event.doc));
        const head = openDocument(event, record, chunk, time, false);
        batch.add({ record, chunk }, action, joinHead(head, rest), false, rest, 1);
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

/** The document id; also the dead letter's, so that a redrive cannot index a record twice. */
export function documentId(record: RawRecord, chunk: Pick<Chunk, 'origin'>): string {
  if (record.documentId !== undefined) return record.documentId;
  if (record.eventId !== undefined) return record.eventId;
  const { origin } = chunk;
  if (origin.kind === 'file') return `${origin.identity}-${record.offset}`;
  // The record time tells a re-created topic's records from those of its predecessor.
  return `${origin.topic}-${origin.partition}-${record.offset}-${record.timeMs.toString(36)}`;
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

/** An empty document has nothing to follow the comma. */
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
