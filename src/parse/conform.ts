// Makes a document acceptable to the index: catalogue fields keep their type, everything that cannot be mapped goes to `extra`
// (flattened, bounded), and what does not fit even there goes into one bounded string. In: a parsed object; out: a new one.
// Guarantee: every value is in the new object, or the document is marked as degraded; linear, whatever the nesting.
import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { ExactNumber, isObject, tooDeep, writeJson } from './json.ts';
import { isServerDate, type TimeParser } from './scalars.ts';

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
  const fields: Json = Object.create(null);
  const overflow: Json = Object.create(null);
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
  const last = new Map<string, number>();
  return {
    free(holder: Json, name: string): string {
      if (!Object.hasOwn(holder, name)) return name;
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
