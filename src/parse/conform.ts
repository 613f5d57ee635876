// Makes a document acceptable to the index: catalogue fields keep their type, everything that cannot be mapped goes to
// `extra` (flattened, bounded), what does not fit even there to one bounded string. In: a parsed object; out: a new one.
import type { FieldType } from '../core/catalogue.ts';
import { coerce, FIELD_MAP, type FieldMap, fits } from './field-types.ts';
import type { TimeParser } from './time.ts';

type Json = Record<string, unknown>;

/** More unknown top-level keys than this would eat the index's field limit: they all go to `extra`. */
export const MAX_UNKNOWN_KEYS = 100;
const MAX_EXTRA_DEPTH = 8;
const MAX_EXTRA_LEAVES = 500;
const MAX_KEY_LENGTH = 256;
const MAX_RAW_LENGTH = 8_192;

export interface Conformed {
  readonly doc: Json;
  /** True when a value had to leave its place. */
  readonly degraded: boolean;
}

/**
 * @param strict also move every key the catalogue does not know: the answer to a mapping conflict the server reported.
 */
export function conform(source: Json, strict: boolean, time: TimeParser): Conformed {
  const extra = createExtra();
  let unknown = 0;
  for (const key of Object.keys(source)) if (!FIELD_MAP.has(key)) unknown += 1;
  const moveUnknown = strict || unknown > MAX_UNKNOWN_KEYS;

  const doc = pick(source, FIELD_MAP, '', moveUnknown, extra, time);
  return { doc: extra.mergeInto(doc), degraded: extra.moved() };
}

function pick(source: Json, known: FieldMap, path: string, moveUnknown: boolean, extra: Extra, time: TimeParser): Json {
  // A null prototype makes `__proto__` an ordinary key.
  const kept: Json = Object.create(null);
  for (const key of Object.keys(source)) {
    const value = source[key];
    const type = known.get(key);
    if (type === undefined) {
      if (moveUnknown || !isFieldName(key)) extra.add(path + key, value);
      else kept[key] = value;
    } else if (typeof type !== 'string') {
      if (isObject(value)) kept[key] = pick(value, type, `${path}${key}.`, moveUnknown, extra, time);
      else if (value !== null) extra.add(path + key, value);
    } else if (type === 'flattened') {
      if (isObject(value)) for (const [name, inner] of Object.entries(value)) extra.keep(name, inner);
      else if (value !== null) extra.add(path + key, value);
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
  if (coerced === undefined) extra.add(path + key, value);
  else kept[key] = coerced;
}

/** Names Elasticsearch resolves without ambiguity: no empty part between, before or after dots. */
function isFieldName(key: string): boolean {
  return key.length <= MAX_KEY_LENGTH && key.trim() !== '' && !/^\.|\.$|\.\.|\. *\.|\0/.test(key);
}

type Extra = ReturnType<typeof createExtra>;

/** Gathers what goes to `extra`, and to `extraRaw` what does not fit even there. */
export function createExtra() {
  const fields: Json = Object.create(null);
  const overflow: Json = Object.create(null);
  let leaves = 0;
  let moved = false;

  function put(path: string, value: unknown) {
    const name = path.replaceAll('\0', '').trim();
    const bounded = name !== '' && name.length <= MAX_KEY_LENGTH ? bound(value, 1) : undefined;
    if (bounded === undefined) overflow[path.slice(0, MAX_KEY_LENGTH)] = value;
    else fields[name] = bounded;
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
    /** A value that left its place. */
    add(path: string, value: unknown) {
      moved = true;
      put(path, value);
    },
    /** A value the producer itself put into `extra`. */
    keep: put,
    mergeInto(doc: Json): Json {
      if (Object.keys(fields).length > 0) doc.extra = fields;
      if (Object.keys(overflow).length > 0) doc.extraRaw = rawText(overflow);
      return doc;
    },
    moved: () => moved || Object.keys(overflow).length > 0,
  };
}

function rawText(value: Json): string {
  try {
    return JSON.stringify(value).slice(0, MAX_RAW_LENGTH);
  } catch {
    // Nested deeper than the stack: name the keys, the value cannot be written.
    return JSON.stringify({ nestedTooDeeply: Object.keys(value) }).slice(0, MAX_RAW_LENGTH);
  }
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
