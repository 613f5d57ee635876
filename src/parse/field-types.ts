// Does a value fit the type its catalogue field is mapped to? Checked before sending, so that a conflict costs no
// round trip and harms no other document.
import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { ExactNumber } from './json.ts';
import { isServerDate, type TimeParser } from './time.ts';

/** The catalogue as maps: constant-time look-ups, and names such as `constructor` are simply not in it. */
export type FieldMap = Map<string, FieldType | FieldMap>;

export const FIELD_MAP: FieldMap = toMap(FIELDS);

function toMap(group: FieldGroup): FieldMap {
  return new Map(
    Object.entries(group).map(([name, type]) => [name, typeof type === 'string' ? type : toMap(type)] as const),
  );
}

/** True when Elasticsearch will take `value` (or each value of an array) for a field of this type. null always fits. */
export function fits(type: FieldType, value: unknown, time: TimeParser): boolean {
  if (value === null) return true;
  // Its text would be sent: 1795514399123.0 is no date to Elasticsearch.
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
export function coerce(type: FieldType, value: unknown, time: TimeParser): unknown {
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
