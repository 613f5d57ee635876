// Event times. In: whatever a producer put into its time field; out: milliseconds since the epoch, or undefined.

const DAY_MS = 86_400_000;
/** First and last millisecond that ISO 8601 writes with four year digits, which is all Elasticsearch's date takes. */
const MIN_MS = Date.parse('0000-01-01T00:00:00.000Z');
const MAX_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
const ISO_LIKE = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? ?(Z|[+-]\d\d(?::?\d\d)?)?$/i;

export interface TimeParser {
  /**
   * ISO 8601 (without a zone it is read as UTC), epoch milliseconds, or epoch seconds (numbers below 1e11).
   * Undefined for everything else, impossible dates such as 30 February included.
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
    const match = ISO_LIKE.exec(text.trim());
    if (match === null) return /^\d{10,13}$/.test(text) ? fromNumber(Number(text)) : undefined;
    const [, date, clock = '00:00', seconds = '00', fraction = '0', zone = 'Z'] = match;
    const offset = /^z$/i.test(zone) ? 'Z' : zone.length === 3 ? `${zone}:00` : zone.replace(/^(...):?(..)$/, '$1:$2');
    const day = Date.parse(`${date}T00:00Z`);
    if (!Number.isFinite(day) || !new Date(day).toISOString().startsWith(date!)) return undefined;
    const ms = Date.parse(`${date}T${clock}:${seconds}.${fraction.padEnd(3, '0').slice(0, 3)}${offset}`);
    return inRange(ms);
  }

  return {
    parse(value) {
      if (typeof value === 'string') return (value.length === 24 ? canonical(value) : undefined) ?? lenient(value);
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
  return text.length === 24 && text.charCodeAt(10) === 84 && text.charCodeAt(19) === 46 && text.charCodeAt(23) === 90;
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
  return inRange(Math.round(value < 1e11 ? value * 1000 : value));
}

function inRange(ms: number): number | undefined {
  return ms >= MIN_MS && ms <= MAX_MS ? ms : undefined;
}
