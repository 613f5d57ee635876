// Event times. In: whatever a producer put into its time field; out: milliseconds since the epoch, or undefined.

import { ExactNumber } from './json.ts';

const DAY_MS = 86_400_000;
/** First and last millisecond that ISO 8601 writes with four year digits, which is all Elasticsearch's date takes. */
const MIN_MS = Date.parse('0000-01-01T00:00:00.000Z');
const MAX_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
const ISO_LIKE =
  /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$/i;
/** What the mapping's `strict_date_optional_time` surely takes; Elasticsearch knows no hour 24 and no zone beyond 18:00. */
const SERVER_DATE =
  /^\d{4}-\d\d-\d\d(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|[+-](?:(?:0\d|1[0-7]):[0-5]\d|18:00))?)?$/;
/** No time is longer. */
const MAX_TEXT = 64;
/** Epoch times by size: seconds below, milliseconds up to the year 9999, microseconds below, nanoseconds. */
const LEAST_MILLIS = 1e11;
const LEAST_NANOS = 1e17;

export interface TimeParser {
  /**
   * ISO 8601 (without a zone it is read as UTC), or an epoch time in seconds, milliseconds, microseconds or nanoseconds,
   * told apart by its size and also read from text. Undefined for everything else, impossible dates such as 30 February
   * included.
   */
  parse(value: unknown): number | undefined;
  /** The canonical 24-character form `2026-11-24T08:00:00.000Z`. */
  iso(ms: number): string;
  /** The UTC day as it stands in index names, `2026.11.24`. */
  day(ms: number): string;
}

/** A parser that remembers the last minute and day it met, because log lines arrive in runs of the same minute. */
export function createTimeParser(): TimeParser {
  let minuteText = '';
  let minuteMs = 0;
  let dayNumber = Number.NaN;
  let dayText = '';

  /** The form every Winston timestamp has: 24 characters, milliseconds, Z. */
  function canonical(text: string): number | undefined {
    const seconds = digits(text, 17, 2);
    const millis = digits(text, 20, 3);
    if (seconds < 0 || seconds > 59 || millis < 0) return undefined;
    if (text.charCodeAt(16) !== 58 || text.charCodeAt(19) !== 46 || text.charCodeAt(23) !== 90) return undefined;
    if (minuteText === '' || !text.startsWith(minuteText)) {
      const minute = text.slice(0, 16);
      const ms = Date.parse(`${minute}Z`);
      // V8 rolls 30 February over to March; writing the date back shows it.
      if (!Number.isFinite(ms) || !new Date(ms).toISOString().startsWith(minute)) return undefined;
      minuteText = minute;
      minuteMs = ms;
    }
    return minuteMs + seconds * 1000 + millis;
  }

  function lenient(text: string): number | undefined {
    if (text.length > MAX_TEXT) return undefined;
    const match = ISO_LIKE.exec(text.trim());
    if (match === null) return /^\d{9,19}(?:\.\d{1,9})?$/.test(text) ? fromNumber(Number(text)) : undefined;
    const [, date, clock = '00:00', seconds = '00', fraction = '0', zone = 'Z'] = match;
    const offset = /^[zug]/i.test(zone)
      ? 'Z'
      : zone.length === 3
        ? `${zone}:00`
        : zone.replace(/^(...):?(..)$/, '$1:$2');
    const day = Date.parse(`${date}T00:00Z`);
    if (!Number.isFinite(day) || !new Date(day).toISOString().startsWith(date!)) return undefined;
    const ms = Date.parse(`${date}T${clock}:${seconds}.${fraction.padEnd(3, '0').slice(0, 3)}${offset}`);
    return inRange(ms);
  }

  return {
    parse(value) {
      if (typeof value === 'string') return (value.length === 24 ? canonical(value) : undefined) ?? lenient(value);
      if (value instanceof ExactNumber) return fromNumber(value.value);
      return typeof value === 'number' ? fromNumber(value) : undefined;
    },
    iso: (ms) => new Date(ms).toISOString(),
    day(ms) {
      const number = Math.floor(ms / DAY_MS);
      if (number !== dayNumber) {
        dayNumber = number;
        dayText = new Date(ms).toISOString().slice(0, 10).replaceAll('-', '.');
      }
      return dayText;
    },
  };
}

/** Of a text that `parse` took: is it already written the way `iso` would write it? */
export function isCanonical(text: string): boolean {
  return (
    text.length === 24 &&
    text.charCodeAt(10) === 84 &&
    text.charCodeAt(19) === 46 &&
    text.charCodeAt(23) === 90 &&
    // The one other time of this form: hour 24.
    (text.charCodeAt(11) !== 50 || text.charCodeAt(12) !== 52)
  );
}

/** Of a value that `parse` took: will Elasticsearch take it too (`strict_date_optional_time||epoch_millis`)? */
export function isServerDate(value: unknown): boolean {
  if (typeof value === 'number') return Number.isInteger(value) && value >= LEAST_MILLIS && value <= MAX_MS;
  return SERVER_DATE.test(value as string);
}

function digits(text: string, start: number, count: number): number {
  let value = 0;
  for (let i = start; i < start + count; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (!(digit >= 0 && digit <= 9)) return -1;
    value = value * 10 + digit;
  }
  return value;
}

function fromNumber(value: number): number | undefined {
  if (!(value > 0)) return undefined;
  if (value < LEAST_MILLIS) return inRange(Math.round(value * 1000));
  if (value <= MAX_MS) return Math.round(value);
  return inRange(Math.floor(value < LEAST_NANOS ? value / 1e3 : value / 1e6));
}

function inRange(ms: number): number | undefined {
  return ms >= MIN_MS && ms <= MAX_MS ? ms : undefined;
}
