// Raw record -> parsed event. Fast path: the raw bytes go into the document unchanged. One look at them is mostly enough to know that
// they may (the folder scan/); where it is not, one JSON.parse and one look at the top-level keys are. If nothing but secrets is in the
// way, the document is what was looked at, masked. Everything else takes the slow path: re-shaped, masked, conformed, re-serialised.
// Guarantee: never throws, whatever the bytes; the result is an event, the same by whichever path, or a refusal with a reason from a
// closed list.
import { isUtf8 } from 'node:buffer';
import type { FieldType, Tag } from '../core/catalogue.ts';
import { beginsLineId, type DeadLetterReason, firstArrivalMs, type RawRecord } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import {
  conform,
  createTimeParser,
  FIELD_MAP,
  type FieldMap,
  fits,
  isCanonical,
  isErrorLevel,
  MAX_UNKNOWN_KEYS,
  type Move,
  NORMAL_LEVELS,
  setAside,
  type TimeParser,
} from './conform.ts';

import {
  hasExactNumbers,
  isObject,
  keepsAll,
  MAX_DEPTH,
  mayHoldUnusualNumber,
  mayRepeatKey,
  type ReadObject,
  readObject,
  toExactNumbers,
  toPlainNumbers,
} from './json.ts';
import { createNormaliser, looksLikeObject, type Normalised } from './normalise.ts';
import { FIELD_PATHS, isPlainKey, SLOW_KEYS } from './scan/key-tree.ts';
import { ScannedEvent } from './scan/scanned-event.ts';
import { createScanner, type Scanner } from './scan/scanner.ts';
import { isForeignError } from './shapes.ts';

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
      description:
        'An event time further ahead of the record time is replaced by the record time and tagged `_time_out_of_range`.',
    },
    maxBehindMs: {
      type: 'integer',
      minimum: 0,
      default: 2_592_000_000,
      description:
        'An event time further behind the record time is replaced by the record time and tagged `_time_out_of_range`.',
    },
  },
} as const;

export interface ParseConfig {
  readonly maxRecordBytes: number;
  readonly maxAheadMs: number;
  readonly maxBehindMs: number;
}

export interface ParsedEvent {
  /**
   * The document in the catalogue's vocabulary, without what logpipe adds. Read-only. Of a line that was only scanned it is made when it
   * is asked for.
   */
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
const CORRECTED: readonly Tag[] = Object.freeze(['_clock_corrected']);
const MASKED: readonly Tag[] = Object.freeze(['_masked']);
const DEGRADED: Tag = '_mapping_degraded';
const MASKED_AND_CORRECTED: readonly Tag[] = Object.freeze([...MASKED, ...CORRECTED]);
/** From the event to the sending of its record; the transport states no time of sending for records that waited longer. */
const MAX_WAIT_MS = 120_000;
const MAX_PRODUCER_TAGS = 20;
const MAX_TAG_LENGTH = 100;

export interface Parser {
  parse(record: RawRecord): ParseResult;
  /** The same by the slow path alone, for a record whose own bytes the server refused: with a key given twice, say. */
  reparse(record: RawRecord): ParseResult;
  /** Makes a document acceptable after the server reported a mapping conflict. */
  degrade(doc: Json): Json;
  readonly time: TimeParser;
}

/**
 * What a parser did to a record and why, told where it is done, to whoever wants to show it. Without a listener nothing is worked
 * out; on the fast path nothing is told either.
 */
export interface ParseObserver {
  /** The record's own bytes cannot be the document. */
  readonly slow: (reason: string) => void;
  /** A shape of `shapes.ts` or a format of lines was recognised. */
  readonly shape: (name: string) => void;
  /** A step made `after` of `before`: brought it to the catalogue's names, or masked it. Both are for reading, and only now. */
  readonly step: (name: 'named' | 'masked', before: Readonly<Json>, after: Readonly<Json>) => void;
  /** A value went to `extra` or `extraRaw`. Secrets are masked by then. */
  readonly moved: (move: Move) => void;
}

interface ParserDeps {
  readonly masker: Masker;
  /** Records go only to Elasticsearch, which refuses JSON with a key given twice. */
  readonly duplicatesRefused?: boolean;
  readonly observer?: ParseObserver | undefined;
  /**
   * For who counts: of no event anything is read but these fields of the catalogue, by number, and logpipe's tags for errors. What else a
   * line holds may then be a secret that was not looked for.
   */
  readonly read?: ReadonlySet<number> | undefined;
}

export function createParser(config: ParseConfig, deps: ParserDeps): Parser {
  const { masker, duplicatesRefused = false, observer } = deps;
  const time = createTimeParser();
  const normaliser = createNormaliser(time, observer?.shape);
  const leftVerbatim = createVerbatimCheck(masker, time, { duplicatesRefused, observer });
  // It has no words for what it finds.
  const scanned = observer === undefined ? createScannedWay() : undefined;

  /** Leaves the fast path. */
  function leave(why: () => string): undefined {
    if (observer !== undefined) observer.slow(why());
  }

  function aside(doc: Json, name: string, value: unknown): void {
    const to = setAside(doc, name, value);
    observer?.moved({ from: name, to: `extra.${to}`, why: 'own', value });
  }

  function inRange(ms: number, recordMs: number): boolean {
    return ms <= recordMs + config.maxAheadMs && ms >= recordMs - config.maxBehindMs;
  }

  /** The fast path without a look at the text; undefined when that is not enough, `slow` for what has to take the slow one. */
  function createScannedWay(): ((record: RawRecord, ...place: Place) => ParsedEvent | 'slow' | undefined) | undefined {
    const scanner = createScanner({ masker, time, read: deps.read });
    if (scanner === undefined) return undefined;
    const memoryOf = createMemory();

    return (record, value, from, to) => {
      let [bytes, start, end] = [value, from, to];
      if (record.bytes === undefined) {
        bytes = memoryOf(value);
        start += value.byteOffset;
        end += value.byteOffset;
      }
      const idAt = eventIdAt(record);
      const id = idAt < 0 ? record.eventId : undefined;
      const isFit = scanner.scan(bytes, start, end, id, idAt);
      if (!isFit && scanner.masked.length === 0) return scanner.isForeign ? 'slow' : undefined;
      const ownMs = scanner.timeMs;
      const ms = corrected(ownMs, record);
      if (!inRange(ms, firstArrivalMs(record))) return isFit ? undefined : 'slow';
      if (!isFit) return maskedEvent(bytes.toString('utf8', start, end), scanner, ms) ?? 'slow';
      return new ScannedEvent(scanner, end, ms, ms === ownMs, ms === ownMs ? NO_TAGS : CORRECTED);
    };
  }

  function fast(record: RawRecord, text: string): ParsedEvent | undefined {
    // A line break would end the bulk item early; \u may hide a key name from every test on the raw text.
    if (text.charCodeAt(0) !== 123 || text.includes('\n') || text.includes('\r') || text.includes('\\u'))
      return leave(() =>
        text.charCodeAt(0) === 123 ? 'it holds a line break or an escape \\u' : 'it does not begin with {',
      );
    const doc = JSON.parse(text) as Json;
    const { timestamp, level, message, eventId, error } = doc;
    if (typeof timestamp !== 'string') return leave(() => 'timestamp is not a text');
    if (typeof level !== 'string' || !NORMAL_LEVELS.has(level))
      return leave(() => `level is none of ${[...NORMAL_LEVELS].join(', ')}`);
    if (typeof message !== 'string') return leave(() => 'message is not a text');
    if (looksLikeObject(message)) return leave(() => 'message may hold JSON');
    if (record.eventId !== undefined && record.eventId !== eventId)
      return leave(() => 'eventId is not that of the record’s header');
    if (isObject(error) && (isForeignError(error) || (isErrorLevel(level) && isGrouped(error))))
      return leave(() => 'error has names that the catalogue has others for, or that logpipe writes itself');
    const ownMs = time.parse(timestamp);
    if (ownMs === undefined) return leave(() => 'timestamp is not a time');
    const timeMs = corrected(ownMs, record);
    if (!inRange(timeMs, firstArrivalMs(record)))
      return leave(() => 'timestamp is too far from the time of the record');
    const canonical = isCanonical(timestamp);
    const seen = { canonicalTime: canonical, eventId: record.eventId !== undefined };
    const left = leftVerbatim(text, doc, seen);
    const timeText = canonical && timeMs === ownMs ? timestamp : undefined;
    if (left === doc) return { doc, verbatim: true, timeMs, timeText, tags: timeMs === ownMs ? NO_TAGS : CORRECTED };
    // What has been looked at must have stayed, and what it is masked with may not fit where it stands.
    const stays = left?.timestamp === timestamp && left.level === level && left.eventId === eventId;
    if (left === undefined || !stays || !keepsAll(text, doc)) return undefined;
    const conformed = conform(left, false, time);
    const tags = timeMs === ownMs ? MASKED : MASKED_AND_CORRECTED;
    return {
      doc: conformed.doc,
      verbatim: false,
      timeMs,
      timeText,
      tags: conformed.degraded ? [...tags, DEGRADED] : tags,
    };
  }

  function slow(record: RawRecord, text: string, valid: boolean): ParsedEvent {
    const tags = new Set<string>();
    const tag = (name: Tag) => tags.add(name);
    if (!valid) tag('_parse_failed');
    const normalised = read(record, text, tag);
    if (normalised.repeated) tag('_mapping_degraded');

    let { doc } = normalised;
    if (!valid || mayHoldSecret(record, text)) {
      const masked = masker.value(doc) as Json;
      if (masked !== doc) {
        observer?.step('masked', doc, masked);
        tag('_masked');
        doc = Object.assign(Object.create(null), masked) as Json;
      }
    }

    const { timestamp } = doc;
    const ownMs = time.parse(timestamp);
    const timeMs = eventTime(ownMs, record, tag);
    const isCanonicalText = typeof timestamp === 'string' && isCanonical(timestamp);
    const timeText = isCanonicalText && timeMs === ownMs ? timestamp : undefined;
    const producerTags = takeTags(doc, aside);
    // These fields are logpipe's own to write.
    if (doc.kafka !== undefined) {
      aside(doc, 'kafka', doc.kafka);
      delete doc.kafka;
    }
    if (isObject(doc.error) && isErrorLevel(doc.level) && isGrouped(doc.error)) {
      const { template, fingerprint, ...error } = doc.error;
      if (template !== undefined) aside(doc, 'error.template', template);
      if (fingerprint !== undefined) aside(doc, 'error.fingerprint', fingerprint);
      doc.error = error;
    }
    if (record.eventId !== undefined) {
      if (doc.eventId !== undefined && doc.eventId !== record.eventId) aside(doc, 'eventId', doc.eventId);
      doc.eventId = record.eventId;
    }

    const conformed = conform(doc, false, time, observer?.moved);
    if (normalised.exact) toPlainNumbers(conformed.doc);
    if (conformed.degraded) tag('_mapping_degraded');
    for (const name of producerTags) tags.add(name);
    return { doc: conformed.doc, verbatim: false, timeMs, timeText, tags: [...tags] };
  }

  /** Never false when masking would change something in the record, whose bytes are valid. */
  function mayHoldSecret({ bytes, start, end }: RawRecord, text: string): boolean {
    if (text.includes('\\u') || text.includes('\0')) return true;
    // Bytes are looked at more quickly, when many records lie in the same.
    if (bytes !== undefined && masker.mayHoldSecret?.(bytes, start!, end!) === false) return false;
    return masker.suspicious(text);
  }

  function read(record: RawRecord, text: string, tag: (name: Tag) => void): Normalised {
    const context = { hasId: record.eventId !== undefined, recordMs: firstArrivalMs(record) };
    const json = text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    const object = readObject(json);
    if (object !== undefined) {
      const made = normaliser.object(object, context);
      observer?.step('named', asGiven(object), made.doc);
      return made;
    }
    const line = normaliser.line(json.trimEnd(), context);
    if (line !== undefined) {
      observer?.step('named', { line: json.trimEnd() }, line.doc);
      return line;
    }
    if (/^\s*[{["]/.test(json)) tag('_parse_failed');
    return { doc: { message: text.trimEnd() }, repeated: false, exact: false };
  }

  /** The record time stands in for an event time that is missing or out of range. */
  function eventTime(ownMs: number | undefined, record: RawRecord, tag: (name: Tag) => void): number {
    if (ownMs === undefined) {
      tag('_time_missing');
      return firstArrivalMs(record);
    }
    const ms = corrected(ownMs, record);
    if (!inRange(ms, firstArrivalMs(record))) {
      tag('_time_out_of_range');
      return firstArrivalMs(record);
    }
    if (ms !== ownMs) tag('_clock_corrected');
    return ms;
  }

  function parse(record: RawRecord, mayBeFast: boolean): ParseResult {
    if (record.refusal !== undefined) return { ok: false, ...record.refusal };
    const bytes = record.bytes ?? record.value;
    if (bytes === null) return refusal('null_value', 'the record has no value (a tombstone)');
    const { start = 0, end = bytes.length } = record;
    const length = end - start;
    if (length > config.maxRecordBytes) {
      return refusal('too_large', `${length} bytes, the limit is ${config.maxRecordBytes} (parse.maxRecordBytes)`);
    }
    const event = mayBeFast ? scanned?.(record, bytes, start, end) : undefined;
    if (typeof event === 'object') return { ok: true, event };
    const text = bytes.toString('utf8', start, end);
    // U+FFFD stands for every undecodable byte; in the one-byte strings that ASCII decodes to, looking for it costs nothing.
    const valid = !text.includes('\uFFFD') || isUtf8(bytes.subarray(start, end));
    if (!valid) observer?.slow('it is no UTF-8');
    try {
      if (valid && mayBeFast && event !== 'slow') {
        const event = fast(record, text);
        if (event !== undefined) return { ok: true, event };
      }
    } catch {
      // Not JSON: the slow path finds out what it is.
      observer?.slow('it is no JSON');
    }
    if (text.trim() === '') return refusal('empty_value', `the record holds ${length} blank bytes`);
    try {
      return { ok: true, event: slow(record, text, valid) };
    } catch (error) {
      // No way to get here is known.
      return refusal('processing_failed', error instanceof Error ? error.message : 'unknown failure');
    }
  }

  return {
    time,
    parse: (record) => parse(record, true),
    reparse: (record) => parse(record, false),
    degrade(doc) {
      if (!hasExactNumbers(doc)) return conform(doc, true, time).doc;
      const conformed = conform(toExactNumbers(doc), true, time);
      toPlainNumbers(conformed.doc);
      return conformed.doc;
    },
  };
}

/** Where in its bytes the event id of its header stands; -1 when it has none, or not there. */
function eventIdAt({ bytes, idAt = -1 }: RawRecord): number {
  return idAt >= 0 && !beginsLineId(bytes!, idAt) ? idAt : -1;
}

/** What the slow path makes of a line that is fit but for texts to be masked. Undefined when its numbers have to keep their texts. */
function maskedEvent(text: string, scan: Scanner, timeMs: number): ParsedEvent | undefined {
  if (mayHoldUnusualNumber(text)) return undefined;
  const doc = JSON.parse(text) as Json;
  for (const { field, text } of scan.masked) {
    const path = FIELD_PATHS[field]!;
    const dot = path.indexOf('.');
    if (dot < 0) doc[path] = text;
    else (doc[path.slice(0, dot)] as Json)[path.slice(dot + 1)] = text;
  }
  const isOwnTime = timeMs === scan.timeMs;
  return {
    doc,
    verbatim: false,
    timeMs,
    timeText: scan.isCanonical && isOwnTime ? (doc.timestamp as string) : undefined,
    tags: isOwnTime ? MASKED : MASKED_AND_CORRECTED,
  };
}

type Place = readonly [bytes: Buffer, start: number, end: number];

/** What a Buffer lies in, as one: those of one fetch or read lie in one, and whoever looks at many keeps what it knows of it. */
function createMemory(): (part: Buffer) => Buffer {
  let memory: ArrayBufferLike | undefined;
  let whole: Buffer = Buffer.alloc(0);
  return ({ buffer }) => {
    if (buffer !== memory) {
      memory = buffer;
      whole = Buffer.from(buffer);
    }
    return whole;
  };
}

/** The object with the first values of keys that it has twice. */
function asGiven({ value, repeated }: ReadObject): Json {
  return Object.assign({ ...value }, ...repeated.map(([path, first]) => ({ [`${path} (given twice)`]: first })));
}

/**
 * Converts a time that the sending host's clock gave shortly before sending to the brokers' clock; leaves any other unchanged.
 */
function corrected(ms: number, record: RawRecord): number {
  const { clockErrorMs } = record;
  if (clockErrorMs === undefined) return ms;
  const correctedMs = ms + clockErrorMs;
  return Math.abs(correctedMs - firstArrivalMs(record)) <= MAX_WAIT_MS ? correctedMs : ms;
}

/** What was added to the host's time of a document made here; undefined when nothing was. */
export function correctionOf(document: Readonly<Json>): number | undefined {
  const { '@timestamp': time, timestamp, tags } = document;
  if (!Array.isArray(tags) || !tags.includes(CORRECTED[0])) return undefined;
  const correction =
    Date.parse(String(time)) - (typeof timestamp === 'number' ? timestamp : Date.parse(String(timestamp)));
  return Number.isFinite(correction) ? correction : undefined;
}

/** Does the producer's error already have the fields that logpipe adds? */
function isGrouped(error: Json): boolean {
  return error.template !== undefined || error.fingerprint !== undefined;
}

function refusal(reason: DeadLetterReason, detail: string): ParseResult {
  return { ok: false, reason, detail };
}

/** The producer's own tags, bounded; anything else goes to `extra`, so that the field is free for logpipe's tags. */
function takeTags(doc: Json, aside: (doc: Json, name: string, value: unknown) => void): string[] {
  const { tags } = doc;
  if (tags === undefined) return [];
  delete doc.tags;
  if (tags === null) return [];
  const list: unknown = typeof tags === 'string' ? [tags] : tags;
  const usable = (tag: unknown): tag is string => typeof tag === 'string' && tag !== '' && tag.length <= MAX_TAG_LENGTH;
  if (Array.isArray(list) && list.length <= MAX_PRODUCER_TAGS && list.every(usable)) return list;
  aside(doc, 'tags', tags);
  return [];
}

// ---- may a record's own bytes go into the document? ----

// Only when every key is plain, every value fits its catalogue type, and nothing in it looks secret.

const TO_BE_MASKED = 'something in it is to be masked';

/** What the caller has already checked. */
interface Seen {
  /** `timestamp` is in the canonical form. */
  readonly canonicalTime: boolean;
  /** `eventId` is that of the record's header. */
  readonly eventId: boolean;
}

/** A catalogue field, or a group of them, as this check knows it. */
interface Field {
  readonly type: FieldType | undefined;
  readonly group: ReadonlyMap<string, Field> | undefined;
  /** Short values found to hold no secret: most fields repeat a few values. */
  readonly clean: Set<string>;
  /** False once it had more values than are worth remembering. */
  repeats: boolean;
  /** The value that joins the clean ones if the whole record is found clean. */
  next: string;
}

/** Longer values differ from record to record. */
const MAX_REMEMBERED_LENGTH = 32;
const MAX_REMEMBERED = 64;

/**
 * What is left of a plain document when it is masked: the same, when its own bytes may go into the index. Undefined when the slow path has
 * to be taken. `text` is what `doc` was parsed from. A key given twice is in the text but not in the object: such a line is left to the slow
 * path, which keeps both values. With `duplicatesRefused` this is not checked: the sink refuses such a text, and is then sent
 * what the slow path makes of it (Parser.reparse).
 */
function createVerbatimCheck(
  masker: Masker,
  time: TimeParser,
  options: { duplicatesRefused: boolean; observer: ParseObserver | undefined },
): (text: string, doc: Json, seen: Seen) => Json | undefined {
  const { duplicatesRefused, observer } = options;
  /** Do names of catalogue fields lead to secrets? The operator's keys may make them. */
  let ledByCatalogue = false;
  const fields = copy(FIELD_MAP);
  /** The record's texts that have to be checked, one per line; no secret that is found by its form spans lines. */
  let texts = '';
  /** Some key leads to secrets, so only masking itself can tell. */
  let led = false;
  let fresh: Field[] = [];
  /** Where in a group it is that a value does not match. */
  let misfit = '';

  function copy(map: FieldMap): ReadonlyMap<string, Field> {
    const copied = new Map<string, Field>();
    for (const [name, type] of map) {
      if (masker.leads(name)) ledByCatalogue = true;
      const group = typeof type === 'string' ? undefined : copy(type);
      copied.set(name, {
        type: typeof type === 'string' ? type : undefined,
        group,
        clean: new Set(),
        repeats: true,
        next: '',
      });
    }
    return copied;
  }

  function left(text: string, doc: Json, seen: Seen): Json | undefined {
    texts = '';
    led = ledByCatalogue;
    if (fresh.length > 0) fresh = [];
    if (!isPlain(doc, seen)) return undefined;
    if (!duplicatesRefused) {
      if (mayRepeatKey(text, doc)) leave(() => 'a key may be given twice');
      else if (masker.holdsSecret(text)) leave(() => TO_BE_MASKED);
      else return doc;
      return undefined;
    }
    if (led || masker.suspicious(texts)) {
      const masked = masker.value(doc) as Json;
      if (masked !== doc) {
        leave(() => TO_BE_MASKED);
        // Whoever watches is told by the slow path what becomes of it.
        return observer === undefined ? masked : undefined;
      }
    }
    for (const field of fresh) remember(field);
    return doc;
  }

  function leave(why: () => string): false {
    if (observer !== undefined) observer.slow(why());
    return false;
  }

  function isPlain(doc: Json, seen: Seen): boolean {
    let unknown = 0;
    let keys = 0;
    for (const key in doc) {
      keys += 1;
      const value = doc[key];
      const field = fields.get(key);
      if (field === undefined) {
        unknown += 1;
        if (unknown > MAX_UNKNOWN_KEYS) return leave(() => `it has more than ${MAX_UNKNOWN_KEYS} fields of its own`);
        if (SLOW_KEYS.has(key)) return leave(() => `${key} may belong to the format of another logger`);
        if (!isPlainKey(key)) return leave(() => `${key} is not a plain name of a field`);
        if (masker.leads(key)) led = true;
        if (!gather(value, 0)) return leave(() => `${key} is nested too deeply`);
        continue;
      }
      if ((seen.eventId && key === 'eventId') || (seen.canonicalTime && key === 'timestamp')) continue;
      if (SLOW_KEYS.has(key)) return leave(() => `${key} is logpipe’s to write`);
      misfit = '';
      if (!matches(field, value))
        return leave(() => `${key}${misfit} has a value or name that its place does not take`);
    }
    return keys > 0;
  }

  function matches(field: Field, value: unknown): boolean {
    const { type, group } = field;
    if (type !== undefined) {
      // By far the most common case, handled without a call.
      if (typeof value === 'string' && (type === 'keyword' || type === 'text')) {
        const mayRepeat = field.repeats && value.length <= MAX_REMEMBERED_LENGTH;
        if (mayRepeat && field.clean.has(value)) return true;
        texts += `${value}\n`;
        if (!mayRepeat) return true;
        field.next = value;
        fresh.push(field);
        return true;
      }
      return fits(type, value, time) && gather(value, 0);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value === null;
    for (const key in value) {
      const inner = group!.get(key);
      if (inner !== undefined) {
        if (!matches(inner, (value as Json)[key])) {
          misfit = `.${key}${misfit}`;
          return false;
        }
      } else {
        if (key.includes('.') || key.length > 256 || key.trim() === '') return false;
        if (masker.leads(key)) led = true;
        if (!gather((value as Json)[key], 0)) return false;
      }
    }
    return true;
  }

  function remember(field: Field): void {
    field.clean.add(field.next);
    if (field.clean.size <= MAX_REMEMBERED) return;
    field.repeats = false;
    field.clean.clear();
  }

  /** Collects all texts and keys in the value; false when it is nested more deeply than the slow path would leave it. */
  function gather(value: unknown, depth: number): boolean {
    if (typeof value === 'string') texts += `${value}\n`;
    if (typeof value !== 'object' || value === null) return true;
    if (depth >= MAX_DEPTH) return false;
    const isList = Array.isArray(value);
    for (const key in value) {
      if (!isList && masker.leads(key)) led = true;
      if (!gather((value as Json)[key], depth + 1)) return false;
    }
    return true;
  }

  return left;
}
