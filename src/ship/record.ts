// One Winston info object as one record. In: info, after the logger's formats. Out: one line of JSON, its event id and its
// Kafka key. Guarantee: never throws, no raw newline, no secret, at most `maxRecordBytes` bytes.
import { createEventIds } from '../core/event-id.ts';
import { createMasker } from '../core/mask.ts';
import { cutRecord, withTag } from './cut.ts';
import { createNormaliser, isError, type Normaliser, safeString } from './normalise.ts';
import type { TransportSettings } from './options.ts';
import { isPlain } from './plain.ts';
import { createTrust } from './trust.ts';

export const LEVEL = Symbol.for('level');
export const MESSAGE = Symbol.for('message');
export const SPLAT = Symbol.for('splat');
/** Where the format of `createLogger` leaves the finished record for the transport behind it. */
export const RECORD = Symbol('logpipe.record');

export interface ShipRecord {
  readonly line: string;
  readonly eventId: string;
  readonly key: string | null;
  /** UTF-8 bytes of `line`. */
  readonly bytes: number;
}

/** Info objects as they leave Winston's formats; anything may be in them. */
export type Info = Record<PropertyKey, unknown>;

export type RecordBuilder = (info: Info) => ShipRecord;

const BASE = ['service', 'environment', 'version', 'host', 'pid', 'tenantId'] as const;
const ERROR_KEYS = ['error', 'err', 'exception', 'e', 'cause'];
const TEMPLATE_CHARS = /["\\\u0000-\u001f]/;

/** @param now Wall clock in ms, for event ids and missing time stamps. */
export function createRecordBuilder(settings: TransportSettings, now: () => number = Date.now): RecordBuilder {
  const masker = createMasker(settings.mask);
  const nextId = createEventIds(now);
  const trust = createTrust();
  const base: Record<string, unknown> = {};
  for (const key of BASE) if (settings[key] !== undefined) base[key] = settings[key];
  const baseKeys = Object.keys(base);
  // `,"service":"api"` and so on; what a record says itself is left out.
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

  /** The format's own line with our fields in front, when that is certain to be the same record; else undefined. */
  function spliced(info: Info, eventId: string): string | undefined {
    const line = info[MESSAGE];
    if (typeof line !== 'string' || line.length > settings.maxRecordBytes) return undefined;
    if (!line.startsWith('{"') || line.charCodeAt(line.length - 1) !== 0x7d) return undefined;
    const { message } = info;
    if (typeof message !== 'string' || info.level !== info[LEVEL]) return undefined;
    // `stack` is what Winston's own format.errors leaves of an error.
    if (info.stack !== undefined || info.eventId !== undefined || !isPlain(info)) return undefined;
    if (masker.holdsSecret(line) || !trust.accepts(line, info, TEMPLATE_CHARS.test(message))) return undefined;
    let missing = 0;
    for (let i = 0; i < baseKeys.length; i++) if (info[baseKeys[i]!] === undefined) missing |= 1 << i;
    const time = info.timestamp === undefined ? `"timestamp":"${isoNow()}",` : '';
    return `{${prefixes[missing]}"eventId":"${eventId}",${time}${line.slice(1)}`;
  }

  /** From the info object itself, however strange: slower, and the reference for what `spliced` must equal. */
  function rebuilt(info: Info, eventId: string): ShipRecord {
    const normaliser = createNormaliser();
    let record = asRecord(info, normaliser);
    record.timestamp ??= isoNow();
    for (const key of baseKeys) record[key] ??= base[key];
    record.eventId = eventId;
    if (normaliser.cut) record.tags = withTag(record.tags, '_truncated');
    if (masker.suspicious(JSON.stringify(record))) {
      const masked = masker.value(record) as Record<string, unknown>;
      if (masked !== record) {
        record = masked;
        record.tags = withTag(record.tags, '_masked');
      }
    }
    let line = JSON.stringify(record);
    let bytes = Buffer.byteLength(line);
    if (bytes > settings.maxRecordBytes) {
      line = cutRecord(record, settings.maxRecordBytes, bytes);
      bytes = Buffer.byteLength(line);
    }
    return { line, eventId, key: keyOf(record.callId), bytes };
  }

  return (info) => {
    const eventId = nextId();
    try {
      const line = spliced(info, eventId);
      if (line !== undefined) {
        const bytes = Buffer.byteLength(line);
        if (bytes <= settings.maxRecordBytes) return { line, eventId, key: keyOf(info.callId), bytes };
      }
    } catch {
      // A getter or proxy inside; the slow path reads each field on its own.
    }
    try {
      return rebuilt(info, eventId);
    } catch {
      const record = { ...base, level: 'error', message: '[a record that could not be serialised]' };
      const line = JSON.stringify({ ...record, timestamp: isoNow(), eventId });
      return { line, eventId, key: null, bytes: Buffer.byteLength(line) };
    }
  };
}

function keyOf(callId: unknown): string | null {
  if (typeof callId === 'string' && callId !== '') return callId;
  return typeof callId === 'number' ? String(callId) : null;
}

/** The fields of the record, `error` and `message` in their places. */
function asRecord(info: Info, normaliser: Normaliser): Record<string, unknown> {
  const record = ownLine(info, normaliser) ?? normaliser.fields(info);
  const level = attempt(() => info[LEVEL]) ?? record.level;
  const message = attempt(() => info.message);
  const found = findError(info);
  if (found !== undefined) {
    if (found.key !== undefined && found.key !== 'error') delete record[found.key];
    const error = normaliser.error(found.error);
    record.error = error;
    // Winston copies these three from the error to the record; they are in `error` now.
    for (const key of ['stack', 'cause', 'code'] as const) {
      if (found.spread && !(key === 'code' && error.code === undefined)) delete record[key];
    }
  } else if (typeof record.stack === 'string' && record.error === undefined) {
    const stack = record.stack;
    const name = /^(?:Uncaught )?([A-Za-z_$][\w$]*)/.exec(stack)?.[1] ?? 'Error';
    record.error = { name, message: messageText(message, normaliser), stack };
    delete record.stack;
  }
  record.level = typeof level === 'string' ? level : safeString(level ?? 'info');
  record.message = messageText(message, normaliser);
  return record;
}

/** What the format wrote, when it wrote JSON and nothing in the info object is lost by that (errors become `{}`). */
function ownLine(info: Info, normaliser: Normaliser): Record<string, unknown> | undefined {
  try {
    const line = info[MESSAGE];
    if (typeof line !== 'string' || !line.startsWith('{') || !isPlain(info)) return undefined;
    const parsed: unknown = JSON.parse(line);
    return normaliser.fields(parsed as object);
  } catch {
    return undefined;
  }
}

interface FoundError {
  error: unknown;
  /** The field it was in; absent when it was the record itself or Winston's second argument. */
  key?: string;
  /** Did Winston spread its fields over the record? */
  spread: boolean;
}

function findError(info: Info): FoundError | undefined {
  if (isError(info)) return { error: info, spread: true };
  const message = attempt(() => info.message);
  if (isError(message)) return { error: message, spread: false };
  const splat = attempt(() => info[SPLAT]);
  const at = Array.isArray(splat) ? (attempt(() => splat.findIndex(isError)) ?? -1) : -1;
  if (at >= 0) return { error: (splat as unknown[])[at], spread: at === 0 };
  for (const key of ERROR_KEYS) {
    const error = attempt(() => info[key]);
    if (isError(error)) return { error, key, spread: false };
  }
  return undefined;
}

function messageText(message: unknown, normaliser: Normaliser): string {
  if (typeof message === 'string') return message;
  if (message === undefined || message === null) return '';
  if (isError(message)) return normaliser.error(message).message;
  if (typeof message !== 'object') return safeString(normaliser.value(message));
  return JSON.stringify(normaliser.value(message));
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
