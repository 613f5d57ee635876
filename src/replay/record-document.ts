// Records to documents and back, by the pipeline's own stages. In: a raw record with its origin, or a document as it was
// indexed or exported. Out: the document that the record becomes, with the path it took, or why there is none; or the record that
// the document came from, which the present stages turn into the document again. Guarantee: no record makes it throw; id and origin
// stay, and so does the day, unless the parser reads the time differently; numbers keep their text, even those that JavaScript
// cannot represent: 9007199254740993, 1e400, -0.
import { errorText } from '../core/errors.ts';
import { type Chunk, type ChunkOrigin, type DeadLetterReason, eventIdIn, type RawRecord } from '../core/record.ts';
import { toJson } from '../core/safe-json.ts';
import { MASK, type Masker } from '../core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../indexing/batch.ts';
import { createTimeParser, isErrorLevel } from '../parse/conform.ts';
import { hasExactNumbers, isObject, readExact, tooDeep, toPlainNumbers, writeJson } from '../parse/json.ts';
import { correctionOf, createParser, type ParseConfig, type ParseObserver } from '../parse/parse.ts';
import { createTagger } from '../tag/tag.ts';
import {
  createTransformingParser,
  type DroppedEvent,
  type TransformObserver,
  type TransformsConfig,
} from '../transform/transform.ts';

type RecordDocument =
  | {
      readonly ok: true;
      readonly path: 'fast' | 'slow';
      readonly tags: readonly string[];
      readonly index: string;
      readonly document: Record<string, unknown>;
      /** Set when a step keeps it from the index: the document is what it would have been. */
      readonly dropped?: Pick<DroppedEvent, 'by' | 'counted'>;
    }
  | { readonly ok: false; readonly reason: DeadLetterReason; readonly detail: string };

/** For commands that show or export records. */
export function createRecordReader(
  config: { readonly parse: ParseConfig; readonly transforms: TransformsConfig },
  deps: {
    readonly masker: Masker;
    readonly duplicatesRefused?: boolean;
    readonly observer?: (ParseObserver & TransformObserver) | undefined;
  },
): (record: RawRecord, origin: Chunk['origin']) => RecordDocument {
  const parser = createTransformingParser(createParser(config.parse, deps), config.transforms, deps);
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const batch = new Batch(64 * 1024);

  function read(record: RawRecord, origin: Chunk['origin']): RecordDocument {
    const result = parser.parse(record, { origin });
    if (!result.ok && result.reason !== 'configured') {
      return { ok: false, reason: result.reason, detail: result.detail };
    }
    let event = tag(result.event);
    const chunk: Chunk = { origin, records: [record], bytes: 0, done() {} };
    batch.clear();
    try {
      documents.append(batch, event, record, chunk, 0);
    } catch {
      // As in the indexer: what is nested too deeply to be serialised is moved.
      batch.clear();
      const tags = [...event.tags, '_mapping_degraded'];
      event = { ...event, doc: parser.degrade(event.doc), tags, verbatim: false };
      documents.append(batch, event, record, chunk, 0);
    }
    return {
      ok: true,
      path: event.verbatim ? 'fast' : 'slow',
      tags: event.tags,
      index: batch.action(0).index,
      document: documentOf(batch.document(0).toString()),
      ...(result.ok ? {} : { dropped: { by: result.by, counted: result.counted } }),
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

/** The document as it will be indexed, with the texts of its numbers, so that `storedText` writes them unchanged. */
function documentOf(text: string): Record<string, unknown> {
  const document = storedObject(text) ?? {};
  settleStored(document);
  return document;
}

// ---- text of a record, shown ----

/**
 * The beginning of a record's text, masked; null for a tombstone. It is masked before it is cut: a cut may remove what a secret is
 * recognised by.
 */
export function shownText(value: Buffer | null, masker: Masker, maxCharacters: number): string | null {
  if (value === null) return null;
  const text = value.toString();
  return maskedText(maskedJson(text, masker) ?? text, masker)
    .slice(0, maxCharacters)
    .replace(/[\ud800-\udbff]$/, '');
}

/** A text that cannot be masked is replaced as a whole. */
export function maskedText(text: string, masker: Masker): string {
  try {
    return masker.text(text);
  } catch {
    return MASK;
  }
}

/**
 * Masks JSON by its keys, which its text hides when they are escaped. Undefined for what is not JSON or has nothing to mask.
 */
function maskedJson(text: string, masker: Masker): string | undefined {
  try {
    const value = readExact(text);
    const masked = masker.value(value);
    return masked === value ? undefined : writeJson(masked);
  } catch {
    return undefined;
  }
}

// ---- from a document to its record ----

interface StoredDocument {
  readonly record: RawRecord;
  /** Undefined when the document does not say. */
  readonly origin: ChunkOrigin | undefined;
  /** False when the document has no time of its own and got `fallbackMs`. */
  readonly hasTime: boolean;
}

/** No document should be nested deeper; numbers of one that is are written as JavaScript has them. */
const MAX_DEPTH = 100;

/** The object in a line of a file, with its numbers as `readExact` gives them; undefined when the line holds none. */
export function storedObject(line: string): Record<string, unknown> | undefined {
  try {
    const value = readExact(line);
    if (!isObject(value)) return undefined;
    return tooDeep(value, MAX_DEPTH) ? (JSON.parse(line) as Record<string, unknown>) : value;
  } catch {
    return undefined;
  }
}

/** Turns its numbers into plain ones, in place; their texts are kept for `storedText`. */
export function settleStored(doc: Record<string, unknown>): void {
  if (!tooDeep(doc, MAX_DEPTH)) toPlainNumbers(doc);
}

/** JSON of an object whose numbers were settled, or of a part of it. */
export function storedText(doc: object): string {
  return hasExactNumbers(doc) ? writeJson(doc) : toJson(doc);
}

/**
 * Turns documents into records again. Tags: those of the producer stay, and those that tell what happened to the original record; tags
 * that the present stages give anew are left to them: `error`, which follows from the level, and with `freshTags` also
 * `_event_invalid`. Time: the document's `@timestamp`, else `fallbackMs`.
 * The returned function changes `source` in place: see `settleStored`.
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
    // An event time that was out of range was replaced by the record time, so `@timestamp` is the record time then.
    const timeMs = time.parse(at);
    const clockErrorMs = correctionOf(source);
    const record: RawRecord = {
      value: Buffer.from(storedText(rest)),
      offset: numberAt(kafka, 'offset') ?? 0,
      timeMs: timeMs ?? fallbackMs,
      eventId: eventIdIn(id),
      documentId: id,
      mark: 'replayed',
      // The clock of its host was wrong by this much.
      ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    };
    return { record, origin: originOf(kafka), hasTime: timeMs !== undefined };
  };
}

function originOf(kafka: unknown): ChunkOrigin | undefined {
  const topic = typeof kafka === 'object' && kafka !== null ? (kafka as { topic?: unknown }).topic : undefined;
  const partition = numberAt(kafka, 'partition');
  // The name is written into the document without escapes.
  return typeof topic === 'string' && /^[\w.-]{1,249}$/.test(topic) && partition !== undefined
    ? { kind: 'kafka', topic, partition }
    : undefined;
}

function numberAt(value: unknown, key: string): number | undefined {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  return Number.isSafeInteger(found) ? (found as number) : undefined;
}

/** Without template and fingerprint, which are computed again. */
function withoutGrouping(error: unknown): unknown {
  if (typeof error !== 'object' || error === null || Array.isArray(error)) return error;
  const { template: _, fingerprint: __, ...rest } = error as Record<string, unknown>;
  return Object.keys(rest).length === 0 ? undefined : rest;
}
