// Any JavaScript value as plain JSON data. In: whatever an application logs. Out: null, booleans, numbers, strings, arrays and
// objects without prototype. Guarantee: never throws, never loops; the work is bounded by `maxRecordBytes` and not by the value:
// at most MAX_NODES values and four times `maxRecordBytes` characters are taken over, however often one text is referred to.
import { types } from 'node:util';

const MAX_DEPTH = 32;
const MAX_NODES = 20_000;
const MAX_CAUSES = 10;
/** How many of the errors that one error holds are looked at; many may be the same. */
const MAX_HELD = 100;
const MAX_BASE64_BYTES = 1_024;
/** What a text may keep once three quarters of the characters are used up: an id or a name, no more. */
const SHORT_TEXT = 64;
/** How far a cut goes back to the last gap between words: half a secret must not look like an ordinary word. */
const MAX_BACK = 256;
const GAP = ' \t\r\n"\',;';
/** `BigInt.prototype.toString` takes more than linear time; bigger ones are replaced by a placeholder. */
const MAX_BIGINT = 2n ** 4_096n;
/** In objects with more keys than this, the KEPT keys are read first. */
const MANY_KEYS = 1_000;

/** Who, when and how severe: what every record keeps. */
export const KEPT: ReadonlySet<string> = new Set([
  ...['timestamp', 'level', 'service', 'environment', 'version', 'host', 'pid', 'eventId', 'event', 'tags'],
  ...['originalBytes', 'callId', 'tenantId'],
]);

interface ErrorFields {
  name: string;
  code?: string;
  message: string;
  /** Followed by the stacks of its causes and, for an AggregateError, of the errors it holds. */
  stack?: string;
}

/** Makes one pass over one record; remembers whether something had to be left out. */
export interface Normaliser {
  value(value: unknown): unknown;
  text(value: string): string;
  error(error: unknown): ErrorFields;
  /** The stacks of an error's causes, each on a line of its own after `Caused by: `; empty without one. */
  causes(cause: unknown): string;
  /**
   * Own enumerable fields, each read on its own so that one throwing getter costs one field. Undefined when not even the
   * names can be read. The keys to skip cost nothing.
   */
  fields(value: object, skip?: string, skipToo?: string): Record<string, unknown> | undefined;
  /** Fields of an error besides the usual ones, except objects. */
  ownFields(error: object): Record<string, unknown>;
  readonly cut: boolean;
  /** Characters left out, as far as they were counted. */
  readonly leftOut: number;
}

/** Is this an error, possibly one from another realm? False for a hostile proxy. */
export function isError(value: unknown): boolean {
  try {
    return value instanceof Error || types.isNativeError(value);
  } catch {
    return false;
  }
}

/** For everything except objects, whose own `toString` may do anything. Never throws. */
export function safeString(value: unknown): string {
  try {
    if (typeof value === 'bigint' && (value > MAX_BIGINT || value < -MAX_BIGINT)) return '[bigint of over 4096 bits]';
    return typeof value === 'object' && value !== null ? '[object]' : String(value);
  } catch {
    return `[unprintable ${typeof value}]`;
  }
}

/** What reading a property gives; a throwing getter gives `[unreadable]`. */
export function read(value: unknown, key: PropertyKey): unknown {
  try {
    return (value as Record<PropertyKey, unknown>)[key];
  } catch {
    return '[unreadable]';
  }
}

/** @param maxRecordBytes the length of the longest text that is taken over, and a quarter of all characters */
export function createNormaliser(maxRecordBytes: number): Normaliser {
  // A value takes at least two bytes.
  const maxNodes = Math.min(MAX_NODES, maxRecordBytes >> 1);
  const above = new Set<object>();
  let nodes = 0;
  let left = 3 * maxRecordBytes;
  let leftOut = 0;
  let cut = false;

  function leaf(mark: string): string {
    cut = true;
    return mark;
  }

  function text(value: string): string {
    const most = Math.min(maxRecordBytes, Math.max(left, left > -maxRecordBytes ? SHORT_TEXT : 0));
    if (value.length <= most) {
      left -= value.length;
      return value;
    }
    cut = true;
    const short = beginning(value, most);
    left -= short.length;
    leftOut += value.length - short.length;
    return short;
  }

  function visit(value: unknown, depth: number): unknown {
    switch (typeof value) {
      case 'string':
        return text(value);
      case 'boolean':
      case 'undefined':
        return value;
      case 'number':
        return Number.isFinite(value) ? value : String(value);
      case 'bigint':
      case 'symbol':
        return text(safeString(value));
      case 'function':
        return `[function ${textOf(read(value, 'name'))}]`;
      default:
        return value === null ? null : object(value as object, depth);
    }
  }

  function object(value: object, depth: number): unknown {
    if (above.has(value)) return '[Circular]';
    if (depth >= MAX_DEPTH) return leaf('[nested too deeply]');
    if (++nodes > maxNodes) return leaf('[cut]');
    above.add(value);
    try {
      return special(value, depth);
    } catch {
      return '[unreadable]';
    } finally {
      above.delete(value);
    }
  }

  function special(value: object, depth: number): unknown {
    if (isError(value)) return { ...ownFields(value), ...error(value) };
    // Each by its built-in method: an overridden one may return anything.
    if (types.isDate(value)) return dateText(value);
    if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return bytes(value);
    if (types.isRegExp(value)) return text(RegExp.prototype.toString.call(value));
    if (value instanceof Map) return map(value, depth);
    if (value instanceof Set) return list(value, depth);
    if (Array.isArray(value)) return list(indexed(value), depth);
    if (types.isBoxedPrimitive(value)) return visit(unboxed(value), depth);
    const toJson = read(value, 'toJSON');
    if (typeof toJson === 'function') {
      try {
        const json: unknown = toJson.call(value, '');
        if (json !== value) return visit(json, depth + 1);
      } catch {
        // Its fields are still there.
      }
    }
    return fields(value, depth);
  }

  function list(values: Iterable<unknown>, depth: number): unknown[] {
    const out: unknown[] = [];
    for (const value of values) {
      if (++nodes > maxNodes) {
        out.push(leaf('[cut]'));
        break;
      }
      out.push(visit(value, depth + 1) ?? null);
    }
    return out;
  }

  function map(value: Map<unknown, unknown>, depth: number): Record<string, unknown> {
    const out: Record<string, unknown> = Object.create(null);
    for (const [key, entry] of value) {
      if (++nodes > maxNodes) {
        leaf('');
        break;
      }
      put(out, typeof key === 'string' ? key : textOf(key), entry, depth);
    }
    return out;
  }

  function fields(value: object, depth: number, skip?: string, skipToo?: string): Record<string, unknown> {
    // Without a prototype, a field called `__proto__` is a field like any other.
    const out: Record<string, unknown> = Object.create(null);
    if (nodes >= maxNodes) {
      leaf('');
      return out;
    }
    const keys = Object.keys(value);
    if (keys.length > MANY_KEYS) {
      for (const key of KEPT) if (Object.hasOwn(value, key)) put(out, key, read(value, key), depth);
    }
    for (const key of keys) {
      if (++nodes > maxNodes) {
        leaf('');
        break;
      }
      if (key === skip || key === skipToo) continue;
      if (keys.length <= MANY_KEYS || !KEPT.has(key)) put(out, key, read(value, key), depth);
    }
    return out;
  }

  /** A key that does not fit is left out together with its value: cut keys would collide. */
  function put(out: Record<string, unknown>, key: string, value: unknown, depth: number): void {
    if (key.length > SHORT_TEXT && key.length > Math.min(left, maxRecordBytes)) {
      leaf('');
      leftOut += key.length;
      return;
    }
    left -= key.length;
    out[key] = visit(value, depth + 1);
  }

  function error(value: unknown): ErrorFields {
    const code = read(value, 'code');
    const result: ErrorFields = {
      name: textOf(read(value, 'name')) || 'Error',
      message: textOf(read(value, 'message')),
    };
    if (code !== undefined && code !== null) result.code = textOf(code);
    const stack = stacks(value, '');
    if (stack !== '') result.stack = stack;
    return result;
  }

  function ownFields(value: object): Record<string, unknown> {
    const out: Record<string, unknown> = Object.create(null);
    try {
      for (const key of Object.keys(value)) {
        if (++nodes > maxNodes) {
          leaf('');
          break;
        }
        const entry = read(value, key);
        if (entry === null || (typeof entry !== 'object' && typeof entry !== 'function')) put(out, key, entry, 0);
      }
    } catch {
      // A hostile proxy; its name and message are tried on their own.
    }
    return out;
  }

  function stacks(first: unknown, heading: string): string {
    const seen = new Set<unknown>();
    const parts: string[] = [];
    const add = (value: unknown, how: string): void => {
      if (value === undefined || value === null || seen.has(value)) return;
      if (parts.length >= MAX_CAUSES || ++nodes > maxNodes) {
        leaf('');
        return;
      }
      seen.add(value);
      const known = isError(value);
      parts.push(how + (known ? textOf(read(value, 'stack')) || headline(value) : textOf(value)));
      if (!known) return;
      const held = read(value, 'errors');
      let looked = 0;
      for (const one of isArray(held) ? indexed(held) : []) {
        if (parts.length >= MAX_CAUSES || ++looked > MAX_HELD) {
          leaf('');
          break;
        }
        add(one, 'Holds: ');
      }
      add(read(value, 'cause'), 'Caused by: ');
    };
    add(first, heading);
    return parts.join('\n');
  }

  function headline(value: unknown): string {
    return `${textOf(read(value, 'name'))}: ${textOf(read(value, 'message'))}`;
  }

  /** For an object, its JSON: `String` of nested lists may take for ever. */
  function textOf(value: unknown): string {
    if (typeof value === 'string') return text(value);
    if (value === undefined || value === null) return '';
    if (typeof value !== 'object') return text(safeString(value));
    const plain = visit(value, 0);
    return typeof plain === 'string' ? plain : (JSON.stringify(plain) ?? '');
  }

  return {
    value: (value) => visit(value, 0),
    text,
    error,
    causes: (cause) => stacks(cause, 'Caused by: '),
    fields: (value, skip, skipToo) => {
      above.add(value);
      try {
        return fields(value, 0, skip, skipToo);
      } catch {
        return undefined;
      } finally {
        above.delete(value);
      }
    },
    ownFields,
    get cut() {
      return cut;
    },
    get leftOut() {
      return leftOut;
    },
  };
}

/** At most `most` characters, not ending in half a word when there is a gap before it. */
function beginning(value: string, most: number): string {
  for (let at = most; at > 0 && at > most - MAX_BACK; at--) {
    if (GAP.includes(value[at]!)) return wellEnded(value, at);
  }
  return most > MAX_BACK ? wellEnded(value, most) : '[cut]';
}

/** The first `end` characters, less one where that is in the middle of a surrogate pair. */
export function wellEnded(value: string, end: number): string {
  const last = value.charCodeAt(end - 1);
  return value.slice(0, last >= 0xd800 && last <= 0xdbff ? end - 1 : end);
}

function* indexed(values: readonly unknown[]): Iterable<unknown> {
  for (let i = 0; i < values.length; i++) yield read(values, i);
}

function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

function dateText(value: Date): string {
  return Number.isNaN(Date.prototype.getTime.call(value)) ? 'Invalid Date' : Date.prototype.toISOString.call(value);
}

function unboxed(value: object): unknown {
  if (types.isNumberObject(value)) return Number.prototype.valueOf.call(value);
  if (types.isStringObject(value)) return String.prototype.valueOf.call(value);
  if (types.isBooleanObject(value)) return Boolean.prototype.valueOf.call(value);
  if (types.isBigIntObject(value)) return BigInt.prototype.valueOf.call(value);
  return Symbol.prototype.valueOf.call(value);
}

function bytes(value: ArrayBuffer | SharedArrayBuffer | ArrayBufferView): string {
  const data = ArrayBuffer.isView(value)
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.from(value);
  return data.length <= MAX_BASE64_BYTES ? data.toString('base64') : `[${data.length} bytes]`;
}

// ---- is a value plain JSON data, so that any serialiser writes it the same way? If in doubt, no. ----

const PLAIN_DEPTH = 8;
const PLAIN_ITEMS = 200;
/** Values in all: an object that is referred to many times must not be walked many times. */
const MAX_VALUES = 2_000;

/** True for objects whose values, all the way down, are strings, numbers, booleans, null, undefined, arrays or plain objects. */
export function isPlain(value: object): boolean {
  return plainObject(value as Record<string, unknown>, 0, { left: MAX_VALUES });
}

function plainObject(value: Record<string, unknown>, depth: number, values: { left: number }): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  if (depth > PLAIN_DEPTH) return false;
  let items = 0;
  for (const key in value) {
    const entry = value[key];
    if (--values.left < 0) return false;
    if (typeof entry === 'string') continue;
    if (++items > PLAIN_ITEMS || !plainValue(entry, depth + 1, values)) return false;
  }
  return true;
}

function plainValue(value: unknown, depth: number, values: { left: number }): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined':
      return true;
    case 'number':
      return Number.isFinite(value);
    case 'object':
      if (value === null) return true;
      if (!Array.isArray(value)) return plainObject(value as Record<string, unknown>, depth, values);
      if (depth > PLAIN_DEPTH || value.length > PLAIN_ITEMS) return false;
      values.left -= value.length;
      return values.left >= 0 && value.every((entry: unknown) => plainValue(entry, depth + 1, values));
    default:
      return false;
  }
}
