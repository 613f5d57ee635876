// Is a value plain JSON data, so that any serialiser writes it the same way? Errs on the side of "no".

const MAX_DEPTH = 8;
const MAX_ITEMS = 200;
/** Values in all: objects that are referred to again and again must not be walked again and again. */
const MAX_VALUES = 2_000;

/** True for objects whose values, all the way down, are strings, numbers, booleans, null, undefined, arrays or plain objects. */
export function isPlain(value: object): boolean {
  return plainObject(value as Record<string, unknown>, 0, { left: MAX_VALUES });
}

function plainObject(value: Record<string, unknown>, depth: number, values: { left: number }): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  if (depth > MAX_DEPTH) return false;
  let items = 0;
  for (const key in value) {
    const entry = value[key];
    if (--values.left < 0) return false;
    if (typeof entry === 'string') continue;
    if (++items > MAX_ITEMS || !plainValue(entry, depth + 1, values)) return false;
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
      if (depth > MAX_DEPTH || value.length > MAX_ITEMS) return false;
      values.left -= value.length;
      return values.left >= 0 && value.every((entry: unknown) => plainValue(entry, depth + 1, values));
    default:
      return false;
  }
}
