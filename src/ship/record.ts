// One Winston info object as one record. In: info, after the logger's formats. Out: one line of JSON, its event id and its
// Kafka key. Guarantee: never throws, no raw newline, no secret, at most `maxRecordBytes` bytes.
import { createEventIds } from '../core/event-id.ts';
import { createMasker } from '../core/mask.ts';
import { addExtra, type Info, LEVEL, MESSAGE, recordOfCall, recordOfInfo, SPLAT, saysAll } from './call.ts';
import { cutRecord, withTag } from './cut.ts';
import { createNormaliser, type Normaliser } from './normalise.ts';
import type { TransportSettings } from './options.ts';
import { isPlain } from './plain.ts';
import { createTrust } from './trust.ts';

export { type Info, LEVEL, MESSAGE, SPLAT };
/** Where the format of `createLogger` leaves the finished record for the transport behind it. */
export const RECORD = Symbol('logpipe.record');

export interface ShipRecord {
  readonly line: string;
  readonly eventId: string;
  readonly key: string | null;
  /** UTF-8 bytes of `line`. */
  readonly bytes: number;
}

export interface RecordBuilder {
  /** Of an info object as it leaves Winston's formats. `tag` is added to the record's tags. */
  (info: Info, tag?: string): ShipRecord;
  /** Of a call as it was made: `logger.info(…args)`. The others are as in `recordOfCall`. */
  fromCall(level: string, args: readonly unknown[], below: object, levelInFirst: boolean): ShipRecord;
}

const BASE = ['service', 'environment', 'version', 'host', 'pid', 'tenantId'] as const;
const MAX_KEY_CHARS = 256;
/** Of the format's own line, in records' greatest length: a longer one is not parsed. */
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
    if (info.stack !== undefined || info.eventId !== undefined || !saysAll(info) || !isPlain(info)) return undefined;
    if (masker.holdsSecret(line) || !trust.accepts(line, info, TEMPLATE_CHARS.test(message))) return undefined;
    let missing = 0;
    for (let i = 0; i < baseKeys.length; i++) if (info[baseKeys[i]!] === undefined) missing |= 1 << i;
    const time = info.timestamp === undefined ? `"timestamp":"${isoNow()}",` : '';
    return `{${prefixes[missing]}"eventId":"${eventId}",${time}${line.slice(1)}`;
  }

  /** The record's line, from its fields: slower than `spliced`, and the reference for what that must equal. */
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
      // A getter or proxy inside; the slow path reads each field on its own.
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

/** A longer one is cut: the same call still has the same key. */
function keyOf(callId: unknown): string | null {
  if (typeof callId === 'string' && callId !== '') return callId.slice(0, MAX_KEY_CHARS);
  return typeof callId === 'number' ? String(callId) : null;
}
