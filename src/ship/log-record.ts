// One Winston info object as one record. In: info, after the logger's formats. Out: one line of JSON, its event id and its Kafka
// key. Guarantee: never throws, no raw newline, no secret, at most `maxRecordBytes` bytes; even of a record that is too long,
// who, when and how severe (KEPT) survive.
import { createEventIds } from '../core/record.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { addExtra, type Info, LEVEL, MESSAGE, recordOfCall, recordOfInfo, SPLAT, saysAll } from './call.ts';
import type { TransportSettings } from './options.ts';
import { createNormaliser, isPlain, KEPT, type Normaliser, wellEnded } from './serialise.ts';

export { type Info, LEVEL, MESSAGE, SPLAT };
/** Where the format of `createLogger` leaves the finished record for the transport. */
export const RECORD = Symbol('logpipe.record');

export interface ShipRecord {
  readonly line: string;
  readonly eventId: string;
  readonly key: string | null;
  /** UTF-8 bytes of `line`. */
  readonly bytes: number;
  /** An earlier process may have sent it. */
  readonly resent?: boolean;
  /** Set when nothing of it was made a text yet; the four fields above then make one each time. */
  readonly inPlace?: InPlace;
}

/** A record that writes itself; each function returns where it ends. */
export interface InPlace {
  readonly keyBytes: number;
  /** By which a partition is chosen (`murmur2`). */
  readonly keyHash: number;
  writeKey(out: Buffer, at: number): number;
  writeValue(out: Buffer, at: number): number;
  writeEventId(out: Buffer, at: number): number;
}

export interface RecordBuilder {
  /** From an info object as it leaves Winston's formats. `tag` is added to the record's tags. */
  (info: Info, tag?: string): ShipRecord;
  /** From a call as it was made: `logger.info(…args)`. The other parameters are as in `recordOfCall`. */
  fromCall(level: string, args: readonly unknown[], below: object, levelInFirst: boolean): ShipRecord;
}

const BASE = ['service', 'environment', 'version', 'host', 'pid', 'tenantId'] as const;
const MAX_KEY_CHARS = 256;
/** The format's own line is not parsed when it is longer than so many records of the greatest length. */
const MAX_LINES = 4;
const TEMPLATE_CHARS = /["\\\u0000-\u001f]/;

/** @param now Wall clock in ms, for event ids and missing time stamps. */
export function createRecordBuilder(settings: TransportSettings, now: () => number = Date.now): RecordBuilder {
  const masker = createMasker(settings.mask);
  const nextId = createEventIds(now);
  const trust = createTrust();
  const base: Record<string, unknown> = {};
  for (const key of BASE) if (settings[key] !== undefined) base[key] = settings[key];
  const baseKeys = Object.keys(base);
  // What is put in front of a line must need no masking either.
  const isBaseClean = masker.value(base) === base;
  // `"service":"api",` and so on; what a record says itself is left out.
  const parts = baseKeys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(base[key])},`);
  const prefixes = Array.from({ length: 1 << baseKeys.length }, (_, missing) =>
    parts.filter((_part, i) => missing & (1 << i)).join(''),
  );
  let stampMs = -1;
  let stamp = '';

  function isoNow(): string {
    const ms = now();
    if (ms !== stampMs) {
      stampMs = ms;
      stamp = new Date(ms).toISOString();
    }
    return stamp;
  }

  /** The format's own line with our fields in front, if that is certain to be the same record; else undefined. */
  function spliced(info: Info, eventId: string): string | undefined {
    const line = info[MESSAGE];
    if (typeof line !== 'string' || line.length > settings.maxRecordBytes || !isBaseClean) return undefined;
    if (!line.startsWith('{"') || line.charCodeAt(line.length - 1) !== 0x7d) return undefined;
    const { message } = info;
    if (typeof message !== 'string' || info.level !== info[LEVEL]) return undefined;
    // `stack` is what Winston's own format.errors leaves of an error.
    if (info.stack !== undefined || info.eventId !== undefined || !saysAll(info) || !isPlain(info)) return undefined;
    if (masker.holdsSecret(line) || !trust.accepts(line, info, TEMPLATE_CHARS.test(message))) return undefined;
    let missing = 0;
    for (let i = 0; i < baseKeys.length; i++) if (info[baseKeys[i]!] === undefined) missing |= 1 << i;
    const time = info.timestamp === undefined ? `"timestamp":"${isoNow()}",` : '';
    return `{${prefixes[missing]}"eventId":"${eventId}",${time}${line.slice(1)}`;
  }

  /** The record's line, from its fields: slower than `spliced`, which must give the same record. */
  function written(
    eventId: string,
    fields: (normaliser: Normaliser) => Record<string, unknown>,
    tag: string | undefined,
  ): ShipRecord {
    const normaliser = createNormaliser(settings.maxRecordBytes);
    let record = fields(normaliser);
    record.timestamp ??= isoNow();
    for (const key of baseKeys) record[key] ??= base[key];
    if (record.eventId !== undefined) addExtra(record, 'eventId', record.eventId);
    record.eventId = eventId;
    if (tag !== undefined) record.tags = withTag(record.tags, tag);
    let line = JSON.stringify(record);
    if (masker.suspicious(line)) {
      const masked = masker.value(record) as Record<string, unknown>;
      if (masked !== record) {
        record = masked;
        record.tags = withTag(record.tags, '_masked');
        line = JSON.stringify(record);
      }
    }
    let bytes = Buffer.byteLength(line);
    if (bytes > settings.maxRecordBytes || normaliser.cut) {
      if (record.originalBytes !== undefined) addExtra(record, 'originalBytes', record.originalBytes);
      line = cutRecord(record, settings.maxRecordBytes, bytes + normaliser.leftOut);
      bytes = Buffer.byteLength(line);
    }
    return { line, eventId, key: keyOf(record.callId), bytes };
  }

  function safely(eventId: string, build: () => ShipRecord): ShipRecord {
    try {
      return build();
    } catch {
      const record = { ...base, level: 'error', message: '[a record that could not be serialised]' };
      const line = JSON.stringify({ ...record, timestamp: isoNow(), eventId });
      return { line, eventId, key: null, bytes: Buffer.byteLength(line) };
    }
  }

  function rebuilt(info: Info, eventId: string, tag: string | undefined): ShipRecord {
    const maxChars = MAX_LINES * settings.maxRecordBytes;
    return safely(eventId, () => written(eventId, (normaliser) => recordOfInfo(info, normaliser, maxChars), tag));
  }

  function fromInfo(info: Info, tag?: string): ShipRecord {
    const eventId = nextId();
    try {
      const line = tag === undefined ? spliced(info, eventId) : undefined;
      if (line !== undefined) {
        const bytes = Buffer.byteLength(line);
        if (bytes <= settings.maxRecordBytes) return { line, eventId, key: keyOf(info.callId), bytes };
      }
    } catch {
      // A getter or proxy threw; the slow path reads each field on its own.
    }
    return rebuilt(info, eventId, tag);
  }

  return Object.assign(fromInfo, {
    fromCall(level: string, args: readonly unknown[], below: object, levelInFirst: boolean): ShipRecord {
      const eventId = nextId();
      return safely(eventId, () =>
        written(eventId, (normaliser) => recordOfCall(level, args, below, normaliser, levelInFirst), undefined),
      );
    },
  });
}

/** A record's line for people: `2026-01-01T00:00:00.000Z info  message`, with the stack of an error below. */
export function readableText(line: string): string {
  const { timestamp, level, message, error } = JSON.parse(line) as Record<string, unknown>;
  const stack = (error as { stack?: unknown } | undefined)?.stack;
  const below = typeof stack === 'string' && !String(message).includes(stack) ? `\n${stack}` : '';
  return `${timestamp} ${String(level).padEnd(5)} ${message}${below}`;
}

/** A longer id is cut: the same call still has the same key. */
/** Records of one call go to one partition. */
export function keyOf(callId: unknown): string | null {
  if (typeof callId === 'string' && callId !== '') return callId.slice(0, MAX_KEY_CHARS);
  return typeof callId === 'number' ? String(callId) : null;
}

// ---- records that are too long ----

// They are cut, tagged `_truncated` and given `originalBytes`. Short fields are kept before long ones; each value is serialised
// once and written once.

const MAX_KEPT_CHARS = 200;
/** Bytes. Less of a field than this tells nothing: instead whole fields are left out, the longest first. */
const MIN_SHARE = 256;
const MAX_DEPTH = 32;

/** The record's tags with one more; whatever was there before stays first. */
function withTag(tags: unknown, tag: string): unknown[] {
  const list = Array.isArray(tags) ? tags : tags === undefined || tags === null ? [] : [tags];
  return list.includes(tag) ? list : [...list, tag];
}

interface Field {
  readonly key: string;
  /** `"key":value` and the comma after it. */
  readonly json: string;
  /** UTF-8. */
  readonly bytes: number;
}

/**
 * `record` is plain JSON data and is changed in place. `maxBytes` counts UTF-8 and is at least 1,000. The room that the KEPT
 * fields leave is divided: `message` and `error` may have half of it between them, and the rest goes to the others by max-min
 * fairness (https://en.wikipedia.org/wiki/Max-min_fairness): what is shorter than the share is kept whole, what is longer gets
 * the share.
 */
function cutRecord(record: Record<string, unknown>, maxBytes: number, originalBytes: number): string {
  record.originalBytes = originalBytes;
  record.tags = withTag(record.tags, '_truncated');
  const all = Object.keys(record).flatMap((key) => fieldOf(key, record[key]) ?? []);
  let out = all.filter(({ key }) => KEPT.has(key));
  if (sum(out) > maxBytes >> 1) {
    out = out.flatMap(({ key }) => fieldOf(key, brief(key, record[key])) ?? []);
    out = divide(out, (maxBytes >> 2) * 3, maxBytes, record);
  }
  let room = maxBytes - 2 - sum(out);
  const take = (fields: readonly Field[], share: number, minShare: number) => {
    const chosen = divide(fields, share, minShare, record);
    out.push(...chosen);
    room -= sum(chosen);
  };
  const others = all.filter(({ key }) => !KEPT.has(key) && key !== 'message' && key !== 'error');
  const told = all.filter(({ key }) => key === 'message' || key === 'error');
  take(told, Math.max(room >> 1, room - sum(others)), 0);
  take(others, room, MIN_SHARE);
  return `{${out.map(({ json }) => json.slice(0, -1)).join(',')}}`;
}

/** Where a field's share is below `minShare`, whole fields are taken as long as they fit. */
function divide(fields: readonly Field[], share: number, minShare: number, record: Record<string, unknown>): Field[] {
  const rising = [...fields].sort((a, b) => a.bytes - b.bytes);
  const out: Field[] = [];
  let room = share;
  for (const [i, field] of rising.entries()) {
    const most = Math.floor(room / (rising.length - i));
    if (field.bytes <= room && (field.bytes <= most || most < minShare)) out.push(field);
    else if (most >= minShare) {
      const key = `${JSON.stringify(field.key)}:`;
      const json = within(record[field.key], most - Buffer.byteLength(key) - 1, 0);
      if (json === undefined) continue;
      out.push({ key: field.key, json: `${key}${json},`, bytes: Buffer.byteLength(key) + Buffer.byteLength(json) + 1 });
    } else break;
    room -= out.at(-1)!.bytes;
  }
  return out;
}

function fieldOf(key: string, value: unknown): Field | undefined {
  const text = JSON.stringify(value);
  if (text === undefined) return undefined;
  const json = `${JSON.stringify(key)}:${text},`;
  return { key, json, bytes: Buffer.byteLength(json) };
}

function sum(fields: readonly Field[]): number {
  return fields.reduce((total, { bytes }) => total + bytes, 0);
}

/** A KEPT field that is far longer than its meaning needs. */
function brief(key: string, value: unknown): unknown {
  if (key === 'tags') return ['_truncated'];
  if (typeof value === 'string')
    return value
      .slice(0, MAX_KEPT_CHARS)
      .toWellFormed()
      .replace(/["\\\p{Cc}]/gu, ' ');
  return typeof value === 'object' ? undefined : value;
}

/** The beginning of a value as JSON of at most `room` bytes; undefined when nothing of it fits. */
function within(value: unknown, room: number, depth: number): string | undefined {
  if (typeof value === 'string') {
    const end = fitting(value, room - 2);
    return room >= 2 ? JSON.stringify(end < value.length ? wellEnded(value, end) : value) : undefined;
  }
  if (typeof value !== 'object' || value === null) {
    const json = JSON.stringify(value);
    return json !== undefined && json.length <= room ? json : undefined;
  }
  if (room < 2 || depth >= MAX_DEPTH) return undefined;
  const parts: string[] = [];
  const isList = Array.isArray(value);
  let left = room - 2;
  for (const key of Object.keys(value)) {
    const name = isList ? '' : `${JSON.stringify(key)}:`;
    const nameBytes = Buffer.byteLength(name);
    const json = within((value as Record<string, unknown>)[key], left - nameBytes - 1, depth + 1);
    if (json !== undefined) {
      parts.push(name + json);
      left -= nameBytes + Buffer.byteLength(json) + 1;
    }
    if (left <= 3) break;
  }
  return isList ? `[${parts.join(',')}]` : `{${parts.join(',')}}`;
}

/** How many characters of `value` make at most `room` bytes of JSON text, quotes not counted. */
function fitting(value: string, room: number): number {
  // A character takes six bytes at most.
  if (value.length * 6 <= room) return value.length;
  let left = room;
  for (let at = 0; at < value.length; at++) {
    const code = value.charCodeAt(at);
    left -= bytesOf(code, value.charCodeAt(at + 1), value.charCodeAt(at - 1));
    if (left < 0) return at;
  }
  return value.length;
}

/** UTF-8 bytes of one UTF-16 unit in JSON; a pair's are counted at its first half. */
function bytesOf(code: number, next: number, before: number): number {
  if (code < 0x20) return code === 0x0a || code === 0x0d || code === 0x09 || code === 0x08 || code === 0x0c ? 2 : 6;
  if (code === 0x22 || code === 0x5c) return 2;
  if (code < 0x80) return 1;
  if (code < 0x800) return 2;
  if (code < 0xd800 || code > 0xdfff) return 3;
  if (code <= 0xdbff) return next >= 0xdc00 && next <= 0xdfff ? 4 : 6;
  return before >= 0xd800 && before <= 0xdbff ? 0 : 6;
}

// ---- does the logger's format write real JSON, and nothing but this info object? ----

// A format written as a template (`{"message":"${message}"}`) looks like JSON until a quote is logged, and a format may add
// fields of its own. Parsing every line would cost more than anything else here, so trust is earned first and then checked now
// and again.

const PROBATION = 50;
const SAMPLE_EVERY = 256;

interface Trust {
  /**
   * Is `line` one line of JSON, with no top-level fields other than those of `info`? `risky`: it holds text that a template would
   * get wrong. A single line that fails ends the trust for good.
   */
  accepts(line: string, info: object, risky: boolean): boolean;
}

function createTrust(): Trust {
  let seen = 0;
  let broken = false;
  return {
    accepts(line, info, risky) {
      if (broken) return false;
      seen = (seen + 1) & 0x3fffffff;
      if (!risky && seen > PROBATION && seen % SAMPLE_EVERY !== 0) return true;
      broken = !matches(line, info);
      return !broken;
    },
  };
}

function matches(line: string, info: object): boolean {
  if (line.includes('\n')) return false;
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== 'object' || parsed === null) return false;
    const fields = Object.keys(parsed);
    return fields.includes('level') && fields.includes('message') && fields.every((key) => Object.hasOwn(info, key));
  } catch {
    return false;
  }
}
