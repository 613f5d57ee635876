// Any JavaScript value as plain JSON data. In: whatever an application logs. Out: null, booleans, numbers, strings, arrays
// and objects without prototype. Guarantee: never throws, never loops, bounded work whatever the value is.
import { types } from 'node:util';

const MAX_DEPTH = 32;
const MAX_NODES = 20_000;
const MAX_CAUSES = 10;
const MAX_BASE64_BYTES = 1_024;

export interface ErrorFields {
  name: string;
  code?: string;
  message: string;
  /** Followed by the stacks of its causes and, for an AggregateError, of the errors it holds. */
  stack?: string;
}

/** One pass over one record; remembers whether something had to be left out. */
export interface Normaliser {
  value(value: unknown): unknown;
  error(error: unknown): ErrorFields;
  /** Own enumerable fields, each read on its own so that one throwing getter costs one field. */
  fields(value: object): Record<string, unknown>;
  readonly cut: boolean;
}

/** Is this an error, also one of another realm, or an error behind a hostile proxy? */
export function isError(value: unknown): boolean {
  try {
    return value instanceof Error || types.isNativeError(value);
  } catch {
    return false;
  }
}

/** Never throws. */
export function safeString(value: unknown): string {
  try {
    return String(value);
  } catch {
    return `[unprintable ${typeof value}]`;
  }
}

export function createNormaliser(): Normaliser {
  const above = new Set<object>();
  let nodes = 0;
  let cut = false;

  function leaf(mark: string): string {
    cut = true;
    return mark;
  }

  function visit(value: unknown, depth: number): unknown {
    switch (typeof value) {
      case 'string':
      case 'boolean':
      case 'undefined':
        return value;
      case 'number':
        return Number.isFinite(value) ? value : String(value);
      case 'bigint':
        return value.toString();
      case 'symbol':
        return value.toString();
      case 'function':
        return `[function ${safeString(read(value, 'name') ?? '')}]`;
      default:
        return value === null ? null : object(value as object, depth);
    }
  }

  function object(value: object, depth: number): unknown {
    if (above.has(value)) return '[Circular]';
    if (depth >= MAX_DEPTH) return leaf('[nested too deeply]');
    if (++nodes > MAX_NODES) return leaf('[cut]');
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
    if (isError(value)) return error(value);
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
    if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return bytes(value);
    if (value instanceof RegExp) return value.toString();
    if (value instanceof Map) return map(value, depth);
    if (value instanceof Set) return list([...value].slice(0, MAX_NODES), depth);
    if (Array.isArray(value)) return list(value, depth);
    if (value instanceof Number || value instanceof String || value instanceof Boolean) return value.valueOf();
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

  function list(values: readonly unknown[], depth: number): unknown[] {
    const out: unknown[] = [];
    for (let i = 0; i < values.length; i++) {
      if (++nodes > MAX_NODES) {
        out.push(leaf('[cut]'));
        break;
      }
      out.push(visit(read(values, i), depth + 1) ?? null);
    }
    return out;
  }

  function map(value: Map<unknown, unknown>, depth: number): Record<string, unknown> {
    const out: Record<string, unknown> = Object.create(null);
    for (const [key, entry] of value) {
      if (++nodes > MAX_NODES) {
        leaf('');
        break;
      }
      out[safeString(key)] = visit(entry, depth + 1);
    }
    return out;
  }

  function fields(value: object, depth: number): Record<string, unknown> {
    // Without prototype a field called `__proto__` is a field like any other.
    const out: Record<string, unknown> = Object.create(null);
    for (const key of Object.keys(value)) {
      if (++nodes > MAX_NODES) {
        leaf('');
        break;
      }
      out[key] = visit(read(value, key), depth + 1);
    }
    return out;
  }

  function error(value: unknown): ErrorFields {
    const code = read(value, 'code');
    const result: ErrorFields = {
      name: textOf(read(value, 'name')) || 'Error',
      message: textOf(read(value, 'message')),
    };
    if (code !== undefined && code !== null) result.code = textOf(code);
    const stack = stackWithCauses(value);
    if (stack !== '') result.stack = stack;
    return result;
  }

  return {
    value: (value) => visit(value, 0),
    error,
    fields: (value) => {
      above.add(value);
      try {
        return fields(value, 0);
      } catch {
        return Object.create(null) as Record<string, unknown>;
      } finally {
        above.delete(value);
      }
    },
    get cut() {
      return cut;
    },
  };
}

function stackWithCauses(error: unknown): string {
  const seen = new Set<unknown>();
  const parts: string[] = [];
  const add = (value: unknown, heading: string): void => {
    if (value === undefined || value === null || seen.has(value) || parts.length >= MAX_CAUSES) return;
    seen.add(value);
    const error = isError(value);
    const own = error ? textOf(read(value, 'stack')) || headline(value) : describe(value);
    parts.push(heading + own);
    if (!error) return;
    const errors = read(value, 'errors');
    if (Array.isArray(errors)) for (const one of errors.slice(0, MAX_CAUSES)) add(one, 'Holds: ');
    add(read(value, 'cause'), 'Caused by: ');
  };
  add(error, '');
  return parts.join('\n');
}

function describe(value: unknown): string {
  if (typeof value !== 'object') return safeString(value);
  try {
    return JSON.stringify(createNormaliser().value(value));
  } catch {
    return '[unprintable]';
  }
}

function headline(error: unknown): string {
  return `${textOf(read(error, 'name'))}: ${textOf(read(error, 'message'))}`;
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? '' : safeString(value);
}

function bytes(value: ArrayBuffer | SharedArrayBuffer | ArrayBufferView): string {
  const data = ArrayBuffer.isView(value)
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.from(value);
  return data.length <= MAX_BASE64_BYTES ? data.toString('base64') : `[${data.length} bytes]`;
}

function read(value: unknown, key: PropertyKey): unknown {
  try {
    return (value as Record<PropertyKey, unknown>)[key];
  } catch {
    return '[unreadable]';
  }
}
