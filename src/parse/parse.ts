// Raw record -> parsed event. Fast path: the raw bytes can go into the document as they are, after one JSON.parse and
// one look at the top-level keys. Everything else takes the slow path: re-shaped, masked, conformed, re-serialised.
// Guarantee: never throws for any bytes; the result is an event or a refusal with a reason of a closed list.
import { isUtf8 } from 'node:buffer';
import type { Tag } from '../core/catalogue.ts';
import type { Masker } from '../core/mask.ts';
import type { DeadLetterReason, RawRecord } from '../core/record.ts';
import { conform, isObject } from './conform.ts';
import { NORMAL_LEVELS } from './level.ts';
import { looksLikeObject, normalise } from './shapes.ts';
import { createTimeParser, isCanonical, type TimeParser } from './time.ts';
import { createVerbatimCheck } from './verbatim.ts';

export const parseSection = {
  type: 'object',
  description: 'How records are read.',
  additionalProperties: false,
  default: {},
  properties: {
    maxRecordBytes: {
      type: 'integer',
      minimum: 1_000,
      maximum: 50_000_000,
      default: 5_000_000,
      description: 'Longer records go to the dead letters (`too_large`).',
    },
    maxAheadMs: {
      type: 'integer',
      minimum: 0,
      default: 600_000,
      description: 'An event time further ahead of the record time is replaced by it and tagged `_time_out_of_range`.',
    },
    maxBehindMs: {
      type: 'integer',
      minimum: 0,
      default: 2_592_000_000,
      description: 'An event time further behind the record time is replaced by it and tagged `_time_out_of_range`.',
    },
  },
} as const;

export interface ParseConfig {
  readonly maxRecordBytes: number;
  readonly maxAheadMs: number;
  readonly maxBehindMs: number;
}

export interface ParsedEvent {
  /** The document in the catalogue's vocabulary, without what logpipe adds. Read-only. */
  readonly doc: Record<string, unknown>;
  /** True when the record's own bytes are a valid document body, so that they need not be serialised again. */
  readonly verbatim: boolean;
  /** Event time in ms; decides the index. */
  readonly timeMs: number;
  /** The canonical text of `timeMs` when the record held it, saving its formatting. */
  readonly timeText: string | undefined;
  /** logpipe's tags and the producer's own. */
  readonly tags: readonly string[];
}

export type ParseResult =
  | { readonly ok: true; readonly event: ParsedEvent }
  | { readonly ok: false; readonly reason: DeadLetterReason; readonly detail: string };

type Json = Record<string, unknown>;

const NO_TAGS: readonly string[] = Object.freeze([]);
const MAX_PRODUCER_TAGS = 20;
const MAX_TAG_LENGTH = 100;

export interface Parser {
  parse(record: RawRecord): ParseResult;
  /** The slow path's way to make a document acceptable after the server reported a mapping conflict. */
  degrade(doc: Json): Json;
  readonly time: TimeParser;
}

/** `duplicatesRefused`: records go to Elasticsearch alone, which refuses JSON with a key given twice. */
export function createParser(config: ParseConfig, deps: { masker: Masker; duplicatesRefused?: boolean }): Parser {
  const { masker, duplicatesRefused = false } = deps;
  const time = createTimeParser();
  const isVerbatim = createVerbatimCheck(masker, time, { duplicatesRefused });

  function inRange(ms: number, recordMs: number): boolean {
    return ms <= recordMs + config.maxAheadMs && ms >= recordMs - config.maxBehindMs;
  }

  function fast(record: RawRecord, text: string): ParsedEvent | undefined {
    // A line break would end the bulk item early; \u may hide a key name from every test on the raw text.
    if (text.charCodeAt(0) !== 123 || text.includes('\n') || text.includes('\r') || text.includes('\\u'))
      return undefined;
    const doc = JSON.parse(text) as Json;
    const { timestamp, level, message, eventId } = doc;
    if (typeof timestamp !== 'string' || typeof level !== 'string' || !NORMAL_LEVELS.has(level)) return undefined;
    if (typeof message === 'string' && looksLikeObject(message)) return undefined;
    if (record.eventId !== undefined && record.eventId !== eventId) return undefined;
    const timeMs = time.parse(timestamp);
    if (timeMs === undefined || !inRange(timeMs, record.timeMs)) return undefined;
    const canonical = isCanonical(timestamp);
    const seen = { canonicalTime: canonical, eventId: record.eventId !== undefined };
    if (!isVerbatim(text, doc, seen)) return undefined;
    return {
      doc,
      verbatim: true,
      timeMs,
      timeText: canonical ? timestamp : undefined,
      tags: NO_TAGS,
    };
  }

  function slow(record: RawRecord, text: string, valid: boolean): ParsedEvent {
    const tags = new Set<string>();
    const tag = (name: Tag) => tags.add(name);
    if (!valid) tag('_parse_failed');
    const plainText = !/^[\s\uFEFF]*[{["]/.test(text);
    let parsed = parseObject(text);
    if (parsed === undefined) {
      if (!plainText) tag('_parse_failed');
      parsed = { message: text.trimEnd() };
    }

    let doc = normalise(parsed);
    if (masker.suspicious(text) || text.includes('\\u') || !valid) {
      const masked = masker.value(doc) as Json;
      if (masked !== doc) tag('_masked');
      doc = masked;
    }
    doc = Object.assign(Object.create(null), doc) as Json;

    const timeMs = takeTime(doc, record.timeMs, tag);
    const producerTags = takeTags(doc);
    delete doc.kafka;
    if (record.eventId !== undefined) doc.eventId = record.eventId;

    const conformed = conform(doc, false, time);
    if (conformed.degraded) tag('_mapping_degraded');
    for (const name of producerTags) tags.add(name);
    return { doc: conformed.doc, verbatim: false, timeMs, timeText: undefined, tags: [...tags] };
  }

  /** Takes the event time out of the document's time fields; the original stays in `timestamp`. */
  function takeTime(doc: Json, recordMs: number, tag: (name: Tag) => void): number {
    const original = doc.timestamp ?? doc['@timestamp'] ?? doc.time;
    if (doc.timestamp === undefined && original !== undefined) {
      doc.timestamp = original;
      if (doc['@timestamp'] === undefined) delete doc.time;
    }
    delete doc['@timestamp'];
    const ms = time.parse(original);
    if (ms === undefined) tag('_time_missing');
    else if (!inRange(ms, recordMs)) tag('_time_out_of_range');
    else return ms;
    return recordMs;
  }

  return {
    time,
    parse(record) {
      const { value } = record;
      if (record.refusal !== undefined) return { ok: false, ...record.refusal };
      if (value === null) return refusal('null_value', 'the record has no value (a tombstone)');
      if (value.length > config.maxRecordBytes) {
        return refusal(
          'too_large',
          `${value.length} bytes, permitted are ${config.maxRecordBytes} (parse.maxRecordBytes)`,
        );
      }
      const text = value.toString();
      // U+FFFD stands for every undecodable byte, and is instantly absent from the one-byte strings ASCII decodes to.
      const valid = !text.includes('\uFFFD') || isUtf8(value);
      try {
        if (valid) {
          const event = fast(record, text);
          if (event !== undefined) return { ok: true, event };
        }
      } catch {
        // No JSON: the slow path finds out what it is.
      }
      if (text.trim() === '') return refusal('empty_value', `the record holds ${value.length} blank bytes`);
      try {
        return { ok: true, event: slow(record, text, valid) };
      } catch (error) {
        // Nesting deeper than the stack is the one known way here.
        return refusal('processing_failed', error instanceof Error ? error.message : 'unknown failure');
      }
    },
    degrade: (doc) => conform(doc, true, time).doc,
  };
}

function refusal(reason: DeadLetterReason, detail: string): ParseResult {
  return { ok: false, reason, detail };
}

function parseObject(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The producer's own tags, bounded; values that are no tags stay in the document and are degraded with it. */
function takeTags(doc: Json): string[] {
  const { tags } = doc;
  const list = typeof tags === 'string' ? [tags] : tags;
  if (!Array.isArray(list)) {
    // No list at all: under another name it is an unknown field like any other.
    if (tags !== undefined && tags !== null) doc.producerTags = tags;
    delete doc.tags;
    return [];
  }
  const usable = (tag: unknown): tag is string => typeof tag === 'string' && tag !== '' && tag.length <= MAX_TAG_LENGTH;
  if (list.length > MAX_PRODUCER_TAGS || !list.every(usable)) {
    // Under another name, so that logpipe's own tags keep the field.
    doc.producerTags = tags;
    delete doc.tags;
    return [];
  }
  delete doc.tags;
  return list;
}
