// Records and documents, both ways, by the pipeline's own stages. In: a raw record with its origin, or a document as it was
// indexed or exported. Out: the document it becomes, with the path it took, or why there is none; the record it came from,
// which the present stages turn into the document again. Guarantee: whatever a record holds, nothing throws; id and origin
// stay, the day too, unless the parser reads the time otherwise; numbers keep their text, also those that JavaScript has
// not: 9007199254740993, 1e400, -0.
import { errorText } from '../core/errors.ts';
import { type Chunk, type ChunkOrigin, type DeadLetterReason, isEventId, type RawRecord } from '../core/record.ts';
import { toJson } from '../core/safe-json.ts';
import { MASK, type Masker } from '../core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../indexing/batch.ts';
import { hasExactNumbers, isObject, readExact, tooDeep, toPlainNumbers, writeJson } from '../parse/json.ts';
import { correctionOf, createParser, type ParseConfig } from '../parse/parse.ts';
import { createTimeParser, isErrorLevel } from '../parse/scalars.ts';
import { createTagger } from '../tag/tag.ts';

type RecordDocument =
  | {
      readonly ok: true;
      readonly path: 'fast' | 'slow';
      readonly tags: readonly string[];
      readonly index: string;
      readonly document: Record<string, unknown>;
    }
  | { readonly ok: false; readonly reason: DeadLetterReason; readonly detail: string };

/** For commands that show or export records. */
export function createRecordReader(
  config: ParseConfig,
  deps: { readonly masker: Masker; readonly duplicatesRefused?: boolean },
): (record: RawRecord, origin: Chunk['origin']) => RecordDocument {
  const parser = createParser(config, deps);
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const batch = new Batch(64 * 1024);

  function read(record: RawRecord, origin: Chunk['origin']): RecordDocument {
    const result = parser.parse(record);
    if (!result.ok) return { ok: false, reason: result.reason, detail: result.detail };
    let event = tag(result.event);
    const chunk: Chunk = { origin, records: [record], bytes: 0, done() {} };
    batch.clear();
    try {
      documents.append(batch, event, record, chunk);
    } catch {
      // As the indexer has it: what is nested deeper than can be serialised leaves its place.
      batch.clear();
      const tags = [...event.tags, '_mapping_degraded'];
      event = { ...event, doc: parser.degrade(event.doc), tags, verbatim: false };
      documents.append(batch, event, record, chunk);
    }
    return {
      ok: true,
      path: event.verbatim ? 'fast' : 'slow',
      tags: event.tags,
      index: batch.action(0).index,
      document: documentOf(batch.document(0).toString()),
    };
  }

  return (record, origin) => {
    try {
      return read(record, origin);
    } catch (error) {
      return { ok: false, reason: 'processing_failed', detail: errorText(error) };
    }
  };
}

/** What will be indexed, number by number: `storedText` writes it again as it stands there. */
function documentOf(text: string): Record<string, unknown> {
  const document = storedObject(text) ?? {};
  settleStored(document);
  return document;
}

// --- Text of a record, shown ---

/**
 * The beginning of a record's text, masked; null for a tombstone. Masked as a whole first: a cut may hide what a secret is
 * known by.
 */
export function shownText(value: Buffer | null, masker: Masker, maxCharacters: number): string | null {
  if (value === null) return null;
  const text = value.toString();
  return maskedText(maskedJson(text, masker) ?? text, masker)
    .slice(0, maxCharacters)
    .replace(/[\ud800-\udbff]$/, '');
}

/** A text that cannot be masked is masked as a whole. */
export function maskedText(text: string, masker: Masker): string {
  try {
    return masker.text(text);
  } catch {
    return MASK;
  }
}

/** By its keys, which a text does not show when they are escaped. Undefined for what is no JSON object, or has nothing to mask. */
function maskedJson(text: string, masker: Masker): string | undefined {
  try {
    const value = readExact(text);
    const masked = masker.value(value);
    return masked === value ? undefined : writeJson(masked);
  } catch {
    return undefined;
  }
}

// --- From a document to its record ---

interface StoredDocument {
  readonly record: RawRecord;
  /** Undefined when the document does not tell. */
  readonly origin: ChunkOrigin | undefined;
  /** False when it has the time it was given. */
  readonly hasTime: boolean;
}

/** No document is nested deeper; what is deeper all the same is written as JavaScript has it. */
const MAX_DEPTH = 100;

/** The object a line of a file holds, its numbers as `readExact` has them; undefined when it holds none. */
export function storedObject(line: string): Record<string, unknown> | undefined {
  try {
    const value = readExact(line);
    if (!isObject(value)) return undefined;
    return tooDeep(value, MAX_DEPTH) ? (JSON.parse(line) as Record<string, unknown>) : value;
  } catch {
    return undefined;
  }
}

/** Makes its numbers countable, in place; their texts stay with it for `storedText`. */
export function settleStored(doc: Record<string, unknown>): void {
  if (!tooDeep(doc, MAX_DEPTH)) toPlainNumbers(doc);
}

/** JSON of an object whose numbers were settled, or of a part of it. */
export function storedText(doc: object): string {
  return hasExactNumbers(doc) ? writeJson(doc) : toJson(doc);
}

/**
 * Reads documents again. Tags: those of its producer stay, and those that tell what happened to the record that is no more; what the
 * present stages give again is left to them: `error` with the level, with `freshTags` also `_event_invalid`. Time: that of the
 * document, `@timestamp`; one that has none is of the time `fallbackMs`.
 * The returned function settles the numbers of `source` in place.
 */
export function createDocumentReader({ freshTags }: { readonly freshTags: boolean }) {
  const time = createTimeParser();

  return (id: string, source: Record<string, unknown>, fallbackMs: number): StoredDocument => {
    settleStored(source);
    const { '@timestamp': at, kafka, tags, error, ...doc } = source;
    const rest: Record<string, unknown> = doc;
    const found: readonly unknown[] = Array.isArray(tags) ? tags : [];
    if (rest.timestamp === undefined && at !== undefined && !found.includes('_time_missing')) rest.timestamp = at;
    const again = (tag: unknown) =>
      (tag === 'error' && isErrorLevel(rest.level)) || (freshTags && tag === '_event_invalid');
    const others = found.filter((tag) => !again(tag));
    if (others.length > 0) rest.tags = others;
    const bare = withoutGrouping(error);
    if (bare !== undefined) rest.error = bare;
    // Relative to the record: an event time out of range then was replaced by the record time, which is this one.
    const timeMs = time.parse(at);
    const clockErrorMs = correctionOf(source);
    const record: RawRecord = {
      value: Buffer.from(storedText(rest)),
      offset: numberAt(kafka, 'offset') ?? 0,
      timeMs: timeMs ?? fallbackMs,
      eventId: isEventId(id) ? id : undefined,
      documentId: id,
      mark: 'replayed',
      // The clock of its host was wrong then, and by as much.
      ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    };
    return { record, origin: originOf(kafka), hasTime: timeMs !== undefined };
  };
}

function originOf(kafka: unknown): ChunkOrigin | undefined {
  const topic = typeof kafka === 'object' && kafka !== null ? (kafka as { topic?: unknown }).topic : undefined;
  const partition = numberAt(kafka, 'partition');
  // It becomes a part of the document without escapes.
  return typeof topic === 'string' && /^[\w.-]{1,249}$/.test(topic) && partition !== undefined
    ? { kind: 'kafka', topic, partition }
    : undefined;
}

function numberAt(value: unknown, key: string): number | undefined {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  return Number.isSafeInteger(found) ? (found as number) : undefined;
}

/** Template and fingerprint are made again. */
function withoutGrouping(error: unknown): unknown {
  if (typeof error !== 'object' || error === null || Array.isArray(error)) return error;
  const { template: _, fingerprint: __, ...rest } = error as Record<string, unknown>;
  return Object.keys(rest).length === 0 ? undefined : rest;
}
