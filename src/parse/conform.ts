// Makes a document acceptable to the index: catalogue fields keep their type, everything that cannot be mapped goes to `extra`
// (flattened, bounded), and what does not fit even there goes into one bounded string. In: a parsed object; out: a new one.
// Guarantee: every value is in the new object, or the document is marked as degraded; linear, whatever the nesting. Below that: what becomes
// of a single level or time, whatever producers call it and however they write it.
import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { ExactNumber, Fields, isObject, tooDeep, writeJson } from './json.ts';

type Json = Record<string, unknown>;

/** More unknown top-level keys than this would use up the index's field limit: then they all go to `extra`. */
export const MAX_UNKNOWN_KEYS = 100;
const MAX_EXTRA_DEPTH = 8;
const MAX_EXTRA_LEAVES = 500;
const MAX_KEY_LENGTH = 256;
const MAX_KEY_PARTS = 16;
const MAX_RAW_LENGTH = 8_192;

interface Conformed {
  readonly doc: Json;
  /** True when a value did not fit its field, or no field at all. */
  readonly degraded: boolean;
}

/** Why a value stands elsewhere than it was. `own`: the field is logpipe's to write. */
export type MoveReason = 'type' | 'converted' | 'group' | 'below' | 'name' | 'depth' | 'many' | 'size' | 'own';

/** A value that left its field, or was converted to the field's type; then its original may be kept. */
export interface Move {
  readonly from: string;
  /** `extra.…` or `extraRaw`; the field itself when the original is not kept. */
  readonly to: string;
  readonly why: MoveReason;
  readonly value: unknown;
  /** What the field takes, where that is the reason. */
  readonly type?: FieldType;
}

type OnMove = (move: Move) => void;

/**
 * @param onMove is told of each value that is moved
 * @param strict also move every key that the catalogue does not know: the remedy for a mapping conflict that the server reported
 */
export function conform(source: Json, strict: boolean, time: TimeParser, onMove?: OnMove): Conformed {
  const extra = createExtra(onMove);
  const moveUnknown = strict || hasManyUnknown(Object.keys(source));
  const doc = pick(source, FIELD_MAP, '', moveUnknown, extra, time);
  return { doc: extra.mergeInto(doc), degraded: extra.moved() };
}

function hasManyUnknown(keys: readonly string[]): boolean {
  return keys.length > MAX_UNKNOWN_KEYS && keys.filter((key) => !FIELD_MAP.has(key)).length > MAX_UNKNOWN_KEYS;
}

function pick(source: Json, known: FieldMap, path: string, moveUnknown: boolean, extra: Extra, time: TimeParser): Json {
  const kept: Json = new Fields();
  for (const key of Object.keys(source)) {
    const value = source[key];
    const type = known.get(key);
    if (type === undefined) {
      if (moveUnknown) extra.add(path + key, value, 'many');
      else if (!isFieldName(key)) extra.add(path + key, value, 'name');
      else if (tooDeep(value)) extra.add(path + key, value, 'depth');
      else if (known.has(head(key))) extra.keep(path + key, value, 'below');
      else kept[key] = value;
    } else if (typeof type !== 'string') {
      if (isObject(value)) kept[key] = pick(value, type, `${path}${key}.`, moveUnknown, extra, time);
      else if (value === null) kept[key] = null;
      else extra.add(path + key, value, 'group');
    } else if (type === 'flattened') {
      if (isObject(value)) for (const name of Object.keys(value)) extra.keep(name, value[name]);
      else if (value === null) extra.keep(key, null);
      else extra.add(path + key, value, 'type', type);
    } else {
      place(kept, key, type, value, path, extra, time);
    }
  }
  return kept;
}

function place(kept: Json, key: string, type: FieldType, value: unknown, path: string, extra: Extra, time: TimeParser) {
  if (fits(type, value, time)) {
    kept[key] = value;
    return;
  }
  const coerced = coerce(type, value, time);
  if (coerced === undefined) {
    extra.add(path + key, value, 'type', type);
    return;
  }
  kept[key] = coerced;
  // Where the converted value is written differently (a date in another form, 007), the original is kept too.
  if (String(coerced) !== value) extra.keep(path + key, value, 'converted', type);
  else extra.converted(path + key, value, type);
}

/** Is it a name that Elasticsearch resolves without ambiguity: no empty part between, before or after dots, and few parts? */
function isFieldName(key: string): boolean {
  if (key.length > MAX_KEY_LENGTH || key.includes('\0')) return false;
  if (!key.includes('.')) return key.trim() !== '';
  const parts = key.split('.');
  return parts.length <= MAX_KEY_PARTS && parts.every((part) => part.trim() !== '');
}

/** `service` of `service.id`, which cannot coexist with a text in `service`; empty for a name without a dot. */
function head(key: string): string {
  const dot = key.indexOf('.');
  return dot < 0 ? '' : key.slice(0, dot);
}

type Extra = ReturnType<typeof createExtra>;

/** Gathers what goes to `extra`, and what does not fit even there, which goes to `extraRaw`. */
export function createExtra(onMove?: OnMove) {
  const fields: Json = new Fields();
  const overflow: Json = new Fields();
  const names = createFreeNames();
  let leaves = 0;
  let moved = false;

  function put(path: string, value: unknown, why?: MoveReason, type?: FieldType) {
    const name = path.replaceAll('\0', '').trim();
    const bounded = name !== '' && name.length <= MAX_KEY_LENGTH ? bound(value, 1) : undefined;
    const holder = bounded === undefined ? overflow : fields;
    const free = names.free(holder, bounded === undefined ? path.slice(0, MAX_KEY_LENGTH) : name);
    holder[free] = bounded === undefined ? value : bounded;
    if (onMove === undefined || (why === undefined && holder === fields)) return;
    const to = holder === fields ? `extra.${free}` : 'extraRaw';
    onMove({ from: path, to, why: why ?? 'size', value, ...(type === undefined ? {} : { type }) });
  }

  /** The value itself when it is small enough for a flattened field, else undefined. */
  function bound(value: unknown, depth: number): unknown {
    if (!isObject(value) && !Array.isArray(value)) {
      leaves += 1;
      return leaves > MAX_EXTRA_LEAVES ? undefined : value;
    }
    if (depth >= MAX_EXTRA_DEPTH) return undefined;
    for (const key of Object.keys(value)) {
      if (!Array.isArray(value) && (key === '' || key.length > MAX_KEY_LENGTH || key.includes('\0'))) return undefined;
      if (bound((value as Json)[key], depth + 1) === undefined) return undefined;
    }
    return value;
  }

  return {
    /** A value that fits no field: the document is degraded. */
    add(path: string, value: unknown, why?: MoveReason, type?: FieldType) {
      moved = true;
      put(path, value, why, type);
    },
    /** A value that the producer put into `extra`, or that a shape moved there without harm. */
    keep: put,
    /** A value whose original says nothing more than what it was converted to. */
    converted(path: string, value: unknown, type: FieldType) {
      onMove?.({ from: path, to: path, why: 'converted', value, type });
    },
    mergeInto(doc: Json): Json {
      if (Object.keys(fields).length > 0) doc.extra = fields;
      if (Object.keys(overflow).length > 0) {
        // The producer's own `extraRaw` makes room.
        if (doc.extraRaw !== undefined) overflow[names.free(overflow, 'extraRaw')] = doc.extraRaw;
        doc.extraRaw = writeJson(overflow, MAX_RAW_LENGTH).slice(0, MAX_RAW_LENGTH);
      }
      return doc;
    },
    moved: () => moved || Object.keys(overflow).length > 0,
  };
}

/** Names that overwrite nothing: `a`, then `a_2`, `a_3`. Constant work per name, however often it recurs. */
export function createFreeNames() {
  let last: Map<string, number> | undefined;
  return {
    free(holder: Json, name: string): string {
      if (!Object.hasOwn(holder, name)) return name;
      last ??= new Map();
      let number = last.get(name) ?? 1;
      let free: string;
      do {
        number += 1;
        free = `${name}_${number}`;
      } while (Object.hasOwn(holder, free));
      last.set(name, number);
      return free;
    },
  };
}

/** Puts a value into the document's `extra`, overwriting nothing. Returns its name there. */
export function setAside(doc: Json, name: string, value: unknown, names = createFreeNames()): string {
  if (!isObject(doc.extra)) doc.extra = doc.extra === undefined ? Object.create(null) : { extra: doc.extra };
  const extra = doc.extra as Json;
  const free = names.free(extra, name);
  extra[free] = value;
  return free;
}

// ---- does a value fit the type its field is mapped to? ----

// Checked before sending, so that a conflict costs no round trip and harms no other document.

/** The catalogue as maps: constant-time look-ups, and names such as `constructor` are not found. */
export type FieldMap = Map<string, FieldType | FieldMap>;

export const FIELD_MAP: FieldMap = toMap(FIELDS);

function toMap(group: FieldGroup): FieldMap {
  return new Map(
    Object.entries(group).map(([name, type]) => [name, typeof type === 'string' ? type : toMap(type)] as const),
  );
}

/** True when Elasticsearch will accept `value` (or each value of an array) in a field of this type. null always fits. */
export function fits(type: FieldType, value: unknown, time: TimeParser): boolean {
  if (value === null) return true;
  // Its text would be sent, and 1795514399123.0 is not a date to Elasticsearch.
  if (value instanceof ExactNumber) return type !== 'date' && fits(type, value.value, time);
  if (Array.isArray(value)) return value.every((item) => !Array.isArray(item) && fits(type, item, time));
  switch (type) {
    case 'keyword':
    case 'text':
      return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    case 'long':
      return typeof value === 'number' && Math.abs(value) <= Number.MAX_SAFE_INTEGER;
    case 'short':
      return typeof value === 'number' && value >= -32_768 && value <= 32_767;
    case 'float':
      return typeof value === 'number' && Math.abs(value) <= 3.4e38;
    case 'boolean':
      return typeof value === 'boolean';
    case 'date':
      return time.parse(value) !== undefined && isServerDate(value);
    case 'flattened':
      return typeof value === 'object';
    case 'raw':
      return typeof value === 'string';
  }
}

/**
 * What a producer plainly meant: `"200"` for a number, `"true"` for a boolean. Undefined when there is no such reading.
 */
function coerce(type: FieldType, value: unknown, time: TimeParser): unknown {
  if (type === 'date') {
    const ms = time.parse(value);
    return ms === undefined ? undefined : time.iso(ms);
  }
  if (typeof value !== 'string') return undefined;
  if (type === 'boolean') return value === 'true' ? true : value === 'false' ? false : undefined;
  if (type !== 'long' && type !== 'short' && type !== 'float') return undefined;
  if (!/^-?\d{1,15}(?:\.\d{1,15})?$/.test(value)) return undefined;
  const number = Number(value);
  return fits(type, number, time) ? number : undefined;
}

// ---- levels: npm and syslog levels, numbers of many scales, any case ----
// A number of no known scale never counts as an error; what cannot be read is undefined, and nothing is guessed. The same holds of times.

const ERROR_LEVELS = new Set([
  'error',
  'err',
  'severe',
  'fatal',
  'crit',
  'critical',
  'alert',
  'emerg',
  'emergency',
  'panic',
  'dpanic',
]);

/** Short and odd names of the same levels. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ['information', 'info'],
  ['informational', 'info'],
  ['inf', 'info'],
  ['wrn', 'warn'],
  ['ftl', 'fatal'],
  ['dbg', 'debug'],
  ['vrb', 'verbose'],
  ['eror', 'error'],
  ['dbug', 'debug'],
]);

/** A scale of numbered levels: a number has the name of the highest step that does not exceed it. */
interface LevelScale {
  readonly least: number;
  readonly most: number;
  readonly steps: readonly (readonly [number: number, name: string])[];
}

const scale = (most: number, ...steps: [number, string][]): LevelScale => ({ least: steps[0]![0], most, steps });

/**
 * The scales in use. A shape names its own (shapes.ts), because the same number is a debug message for one logger and
 * an emergency for another.
 */
export const LEVEL_SCALES = {
  /** RFC 5424, table 2; also GELF and journald. */
  syslog: scale(
    7,
    [0, 'emerg'],
    [1, 'alert'],
    [2, 'crit'],
    [3, 'error'],
    [4, 'warning'],
    [5, 'notice'],
    [6, 'info'],
    [7, 'debug'],
  ),
  /** https://getpino.io/#/docs/api?id=logger-levels, the same for Bunyan; custom levels lie between. */
  pino: scale(69, [10, 'trace'], [20, 'debug'], [30, 'info'], [40, 'warn'], [50, 'error'], [60, 'fatal']),
  /** Python's `logging`: 50 is CRITICAL. */
  python: scale(59, [10, 'debug'], [20, 'info'], [30, 'warning'], [40, 'error'], [50, 'critical']),
  /** https://github.com/Seldaek/monolog/blob/main/doc/01-usage.md#log-levels */
  monolog: scale(
    600,
    [100, 'debug'],
    [200, 'info'],
    [250, 'notice'],
    [300, 'warning'],
    [400, 'error'],
    [500, 'critical'],
    [550, 'alert'],
    [600, 'emergency'],
  ),
  /** Log4j's `intLevel` falls with severity. */
  log4j: scale(600, [100, 'fatal'], [200, 'error'], [300, 'warn'], [400, 'info'], [500, 'debug'], [600, 'trace']),
  /** `java.util.logging.Level` */
  java: scale(1000, [300, 'trace'], [500, 'debug'], [800, 'info'], [900, 'warning'], [1000, 'error']),
  /** https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
  otel: scale(24, [1, 'trace'], [5, 'debug'], [9, 'info'], [13, 'warn'], [17, 'error'], [21, 'fatal']),
  /** `Microsoft.Extensions.Logging.LogLevel` */
  dotnet: scale(5, [0, 'trace'], [1, 'debug'], [2, 'info'], [3, 'warning'], [4, 'error'], [5, 'critical']),
} as const satisfies Record<string, LevelScale>;
export type LevelScaleName = keyof typeof LEVEL_SCALES;

/** Numbers that only one scale has, so they are unambiguous: pino's tens, the upper levels of Java. */
const UNMISTAKABLE: ReadonlyMap<number, string> = new Map([
  [10, 'trace'] as const,
  ...LEVEL_SCALES.pino.steps.slice(1),
  ...LEVEL_SCALES.java.steps.slice(2),
]);

const COLOUR = /\u001b\[[0-9;]{0,20}m/g;
/** No level's name is longer. */
const MAX_NAME = 64;

/** True for `error` and everything more severe. Expects a normalised level. */
export function isErrorLevel(level: unknown): boolean {
  return typeof level === 'string' && ERROR_LEVELS.has(level);
}

/**
 * A lower-case level name; undefined for values that are not a level, for numbers outside `scale` and, without a scale, for
 * ambiguous numbers.
 */
export function normaliseLevel(level: unknown, scale?: LevelScaleName): string | undefined {
  if (level instanceof ExactNumber) return normaliseLevel(level.value, scale);
  if (typeof level === 'number') return scale === undefined ? UNMISTAKABLE.get(level) : onScale(level, scale);
  if (typeof level !== 'string') return undefined;
  if (level.length > MAX_NAME) return level.toLowerCase();
  const text = level.replace(COLOUR, '').trim().toLowerCase();
  if (/^\d{1,4}$/.test(text)) return normaliseLevel(Number(text), scale) ?? text;
  if (text === '') return undefined;
  // slog writes levels between its own as ERROR+2.
  const name = /^([a-z]+)[+-]\d{1,3}$/.exec(text)?.[1] ?? text;
  return ALIASES.get(name) ?? name;
}

function onScale(level: number, name: LevelScaleName): string | undefined {
  const { least, most, steps } = LEVEL_SCALES[name];
  if (!(level >= least && level <= most)) return undefined;
  return steps.findLast(([number]) => level >= number)?.[1];
}

/** Level names that need no normalising: npm's and syslog's. */
export const NORMAL_LEVELS: ReadonlySet<string> = new Set([
  ...ERROR_LEVELS,
  'warn',
  'warning',
  'notice',
  'info',
  'http',
  'verbose',
  'debug',
  'silly',
  'trace',
]);

// ---- times: ISO dates and epochs ----

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** First and last millisecond that ISO 8601 writes with four year digits, which is all Elasticsearch's date takes. */
const MIN_MS = Date.parse('0000-01-01T00:00:00.000Z');
const MAX_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
const ISO_LIKE =
  /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$/i;
/** What the mapping's `strict_date_optional_time` certainly accepts; Elasticsearch knows no hour 24 and no zone beyond 18:00. */
const SERVER_DATE =
  /^\d{4}-\d\d-\d\d(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|[+-](?:(?:0\d|1[0-7]):[0-5]\d|18:00))?)?$/;
/** No time is longer. */
const MAX_TEXT = 64;
/**
 * Epoch times by size: seconds below LEAST_MILLIS, then milliseconds up to the year 9999, then microseconds, then nanoseconds.
 */
const LEAST_MILLIS = 1e11;
const LEAST_NANOS = 1e17;

export interface TimeParser {
  /**
   * ISO 8601 (without a zone it is read as UTC), or an epoch time in seconds, milliseconds, microseconds or nanoseconds, told
   * apart by size; numbers in a text count too. Undefined for everything else, impossible dates such as 30 February included.
   */
  parse(value: unknown): number | undefined;
  /** The canonical 24-character form `2026-11-24T08:00:00.000Z`. */
  iso(ms: number): string;
  /** The UTC day as it stands in index names, `2026.11.24`. */
  day(ms: number): string;
}

/** A parser that remembers the last minute and day it saw, because log lines arrive in runs of the same minute. */
export function createTimeParser(): TimeParser {
  let minuteText = '';
  let minuteMs = 0;
  /** One time is asked for several times. */
  let lastText = '';
  let lastMs = 0;
  let isoMinute = Number.NaN;
  let isoText = '';
  let dayNumber = Number.NaN;
  let dayText = '';

  /** The form of every Winston timestamp: 24 characters, milliseconds, Z. */
  function canonical(text: string): number | undefined {
    if (text === lastText) return lastMs;
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
    lastText = text;
    lastMs = minuteMs + seconds * 1000 + millis;
    return lastMs;
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
    iso(ms) {
      const minute = Math.floor(ms / MINUTE_MS);
      if (minute !== isoMinute) {
        isoText = new Date(minute * MINUTE_MS).toISOString().slice(0, -7);
        isoMinute = minute;
      }
      const rest = Math.floor(ms - minute * MINUTE_MS);
      const seconds = Math.floor(rest / 1_000);
      return `${isoText}${padded(seconds, 2)}.${padded(rest - seconds * 1_000, 3)}Z`;
    },
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

/** For a text that `parse` accepted: is it already written as `iso` would write it? */
export function isCanonical(text: string): boolean {
  return (
    text.length === 24 &&
    text.charCodeAt(10) === 84 &&
    text.charCodeAt(19) === 46 &&
    text.charCodeAt(23) === 90 &&
    // One other time has this form: hour 24.
    (text.charCodeAt(11) !== 50 || text.charCodeAt(12) !== 52)
  );
}

/** For a value that `parse` accepted: will Elasticsearch accept it too (`strict_date_optional_time||epoch_millis`)? */
export function isServerDate(value: unknown): boolean {
  if (typeof value === 'number') return Number.isInteger(value) && value >= LEAST_MILLIS && value <= MAX_MS;
  return isCanonical(value as string) || SERVER_DATE.test(value as string);
}

function padded(number: number, digits: number): string {
  return String(number).padStart(digits, '0');
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
