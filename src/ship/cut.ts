// Records that are too long. In: a record and the number of bytes it may have. Out: its JSON, not longer than that, tagged
// `_truncated` and with `originalBytes`. Guarantee: who, when and how severe (KEPT) always survive; short fields before long
// ones; each value is serialised once and written once.
import { KEPT, wellEnded } from './normalise.ts';

const MAX_KEPT_CHARS = 200;
/** Bytes. Less of a field than this tells nothing: then whole fields are left out, the longest first. */
const MIN_SHARE = 256;
const MAX_DEPTH = 32;

/** The record's tags with one more; whatever was there before stays first. */
export function withTag(tags: unknown, tag: string): unknown[] {
  const list = Array.isArray(tags) ? tags : tags === undefined || tags === null ? [] : [tags];
  return list.includes(tag) ? list : [...list, tag];
}

interface Field {
  readonly key: string;
  /** `"key":value` and the comma behind it. */
  readonly json: string;
  /** UTF-8. */
  readonly bytes: number;
}

/**
 * `record` is plain JSON data and is changed in place. `maxBytes` counts UTF-8 and is at least 1,000.
 * The room is divided among the fields that are no KEPT ones: `message` and `error` may have half of it between them, the
 * rest goes to the others by max-min fairness (https://en.wikipedia.org/wiki/Max-min_fairness): what is shorter than the
 * share is kept whole, what is longer gets the share.
 */
export function cutRecord(record: Record<string, unknown>, maxBytes: number, originalBytes: number): string {
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

/** Where a field's share is below `minShare`, whole ones are taken as long as they fit. */
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
  // Six bytes are the most that a character can take.
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
