// JSON exactly as it was written: numbers keep their text, keys given twice are reported, nesting has a bound of our own. In:
// text that JSON.parse accepted, or values made from it; out: values, or text again. Guarantee: linear in the input, whatever it
// is; deeper values do not use more stack, so a record is treated alike on every machine.

type Json = Record<string, unknown>;

/** Deeper values leave their place (conform.ts). Elasticsearch refuses objects nested more than 20 deep. */
export const MAX_DEPTH = 16;

/**
 * Holds the texts of an object's numbers: key -> text. A symbol, so that it is copied by `{ ...object }` but otherwise unseen.
 */
const TOKENS = Symbol('number texts');

/** A number whose text differs from what JavaScript would write: 9007199254740993, 1e400, -0, 1.50. */
export class ExactNumber {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }
  get text(): string {
    return this.#text;
  }
  /** The nearest number JavaScript has. */
  get value(): number {
    return Number(this.#text);
  }
  /** For what takes any object that stands for a number. */
  valueOf(): number {
    return this.value;
  }
}

/**
 * An object without a prototype's names, in which `__proto__` is a key like any other. One of `Object.create(null)` is a hash table, which
 * costs more to fill and to serialise.
 */
export class Fields {
  [key: string]: unknown;
}
Object.setPrototypeOf(Fields.prototype, null);
Reflect.deleteProperty(Fields.prototype, 'constructor');

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber);
}

/** The value at a dotted path, whether the document nests it or has dots in its keys. */
export function valueAt(value: unknown, path: string): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const fields = value as Record<string, unknown>;
  if (Object.hasOwn(fields, path)) return fields[path];
  for (let dot = path.indexOf('.'); dot > 0; dot = path.indexOf('.', dot + 1)) {
    const head = path.slice(0, dot);
    const found = Object.hasOwn(fields, head) ? valueAt(fields[head], path.slice(dot + 1)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Is the value nested deeper than `limit` objects or lists? Looks no deeper than that. */
export function tooDeep(value: unknown, limit: number = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (limit === 0) return true;
  if (Array.isArray(value)) return value.some((item) => tooDeep(item, limit - 1));
  for (const key in value) if (tooDeep((value as Json)[key], limit - 1)) return true;
  return false;
}

/** A number that may have to keep its text: 16 characters or more, an exponent, or -0 at the beginning. */
const UNUSUAL_NUMBER = /[:[,]\s*(?:-0|-?\d(?:[\d.]{0,14}[eE]|[\d.]{15}))/;

/** Does an object in `text` have a key twice? `value` is what JSON.parse made of it. May wrongly say yes, never wrongly no. */
export function mayRepeatKey(text: string, value: unknown): boolean {
  // Only keys that end with a backslash are missed.
  return text.includes('\\\\"') || countKeyEnds(text) !== countKeys(value, MAX_DEPTH + 2);
}

/** Colons with a quote before them, blanks between or not: keys end so, for a quote inside a text is escaped. */
function countKeyEnds(text: string): number {
  let count = 0;
  for (let colon = text.indexOf(':'); colon >= 0; colon = text.indexOf(':', colon + 1)) {
    let at = colon - 1;
    while (text.charCodeAt(at) <= 32) at -= 1;
    if (text.charCodeAt(at) === QUOTE && text.charCodeAt(at - 1) !== BACKSLASH) count += 1;
  }
  return count;
}

/** May `text` have a number that JavaScript would change? */
export function mayHoldUnusualNumber(text: string): boolean {
  return UNUSUAL_NUMBER.test(text);
}

/** Does JSON.parse make of `text` a value that holds all of it: no number changed, no key given twice? May wrongly say no. */
export function keepsAll(text: string, value: unknown): boolean {
  return !UNUSUAL_NUMBER.test(text) && !mayRepeatKey(text, value);
}

/** NaN when nested deeper than `limit`. */
function countKeys(value: unknown, limit: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  if (limit === 0) return Number.NaN;
  let count = 0;
  for (const key in value) count += 1 + countKeys((value as Json)[key], limit - 1);
  return Array.isArray(value) ? count - value.length : count;
}

/** A value that lost its place to a later one under the same key. */
export type Repeated = readonly [path: string, value: unknown];

export interface ReadObject {
  readonly value: Json;
  readonly repeated: readonly Repeated[];
  /** May it contain ExactNumbers? */
  readonly exact: boolean;
}

/** The object that a text holds; undefined when it holds none. Numbers that JavaScript would change are ExactNumbers. */
export function readObject(text: string): ReadObject | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  if (keepsAll(text, value)) return { value, repeated: [], exact: false };
  const read = readJson(text);
  return { value: read.value as Json, repeated: read.repeated, exact: true };
}

/** Like JSON.parse, but numbers that JavaScript would change are ExactNumbers. @throws SyntaxError */
export function readExact(text: string): unknown {
  const value: unknown = JSON.parse(text);
  return UNUSUAL_NUMBER.test(text) ? readJson(text).value : value;
}

const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const OPEN_LIST = 91;
const CLOSE_LIST = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

interface Open {
  readonly holder: Json | unknown[];
  /** Its own key, if it has one. */
  readonly name: string | undefined;
  /** Key of the value that comes next. */
  key: string | undefined;
}

/** Reads text that JSON.parse has already accepted, so it looks for no errors. */
export function readJson(text: string): { value: unknown; repeated: Repeated[] } {
  const repeated: Repeated[] = [];
  const open: Open[] = [];
  let top: Open | undefined;
  let root: unknown;
  let at = 0;

  function place(value: unknown): void {
    if (top === undefined) root = value;
    else if (Array.isArray(top.holder)) top.holder.push(value);
    else {
      const key = top.key!;
      if (Object.hasOwn(top.holder, key)) repeated.push([pathOf(open, key), top.holder[key]]);
      top.holder[key] = value;
      top.key = undefined;
    }
  }

  function begin(holder: Json | unknown[]): void {
    const name = top?.key;
    place(holder);
    top = { holder, name, key: undefined };
    open.push(top);
    at += 1;
  }

  function string(): string {
    let end = text.indexOf('"', at + 1);
    while (isEscaped(text, end)) end = text.indexOf('"', end + 1);
    const inside = text.slice(at + 1, end);
    const value = inside.includes('\\') ? (JSON.parse(text.slice(at, end + 1)) as string) : inside;
    at = end + 1;
    return value;
  }

  function literal(): unknown {
    const start = at;
    while (at < text.length && !endsLiteral(text.charCodeAt(at))) at += 1;
    const token = text.slice(start, at);
    if (token === 'true') return true;
    if (token === 'false') return false;
    if (token === 'null') return null;
    const number = Number(token);
    // -0 is written as 0.
    return String(number) === token ? number : new ExactNumber(token);
  }

  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code <= 32 || code === COMMA) at += 1;
    else if (code === CLOSE_OBJECT || code === CLOSE_LIST) {
      open.pop();
      top = open.at(-1);
      at += 1;
    } else if (top !== undefined && top.key === undefined && !Array.isArray(top.holder)) {
      top.key = string();
      at = text.indexOf(':', at) + 1;
    } else if (code === QUOTE) place(string());
    else if (code === OPEN_OBJECT) begin(Object.create(null));
    else if (code === OPEN_LIST) begin([]);
    else place(literal());
  }
  return { value: root, repeated };
}

function endsLiteral(code: number): boolean {
  return code <= 32 || code === COMMA || code === CLOSE_LIST || code === CLOSE_OBJECT;
}

/** Is the quote at `end` preceded by an odd number of backslashes? */
function isEscaped(text: string, end: number): boolean {
  let start = end;
  while (text.charCodeAt(start - 1) === 92) start -= 1;
  return (end - start) % 2 === 1;
}

/** The dotted path of a key; if that is deep or long, a part that still identifies it. */
function pathOf(open: readonly Open[], key: string): string {
  const groups = open.slice(-4).flatMap(({ name }) => name ?? []);
  return [...groups, key].map((name) => name.slice(0, 50)).join('.');
}

/**
 * Turns the ExactNumbers of a document into numbers, so that every stage can calculate with them, and remembers their texts for
 * `documentText`. In place; expects what `conform` returns (bounded nesting, objects of its own or of this record).
 */
export function toPlainNumbers(doc: Json): void {
  if (hadExact(doc)) (doc as Tokens)[TOKENS] ??= {};
}

type Tokens = { [TOKENS]?: Record<string, string> };

function hadExact(holder: object): boolean {
  let found = false;
  for (const key of Object.keys(holder)) {
    const value = (holder as Json)[key];
    if (typeof value !== 'object' || value === null) continue;
    if (value instanceof ExactNumber) {
      const tokens = (holder as Tokens)[TOKENS] ?? (Object.create(null) as Record<string, string>);
      tokens[key] = value.text;
      (holder as Tokens)[TOKENS] = tokens;
      (holder as Json)[key] = value.value;
      found = true;
    } else if (hadExact(value)) found = true;
  }
  return found;
}

/** Has `toPlainNumbers` found any in this document? */
export function hasExactNumbers(doc: object): boolean {
  return (doc as Tokens)[TOKENS] !== undefined;
}

/** The reverse of `toPlainNumbers`, as a copy: for a document that is conformed again. */
export function toExactNumbers(doc: Json): Json {
  return exact(doc) as Json;
}

function exact(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const tokens = (value as Tokens)[TOKENS];
  const copy = (Array.isArray(value) ? [] : Object.create(null)) as Json;
  for (const key of Object.keys(value)) {
    const inner = (value as Json)[key];
    copy[key] = holds(tokens?.[key], inner) ? new ExactNumber(tokens![key]!) : exact(inner);
  }
  return copy;
}

/** A text belongs to its number only while that number is still there. */
function holds(token: string | undefined, value: unknown): token is string {
  return token !== undefined && Object.is(Number(token), value);
}

/** The text of a document: numbers as they were given; lone surrogates as U+FFFD, which Elasticsearch accepts. */
export function documentText(doc: object): string {
  if (hasExactNumbers(doc)) return writeJson(doc);
  const text = JSON.stringify(doc);
  // JSON.stringify writes lone surrogates as escapes, which Elasticsearch refuses.
  return text.includes('\\ud') ? writeJson(doc) : text;
}

interface Writing {
  readonly holder: object;
  /** undefined for a list. */
  readonly keys: readonly string[] | undefined;
  next: number;
  empty: boolean;
}

/** JSON text of any nesting. Stops soon after `limit` characters, wherever that is. */
export function writeJson(root: unknown, limit: number = Number.POSITIVE_INFINITY): string {
  const open: Writing[] = [];
  let text = '';

  function begin(value: unknown, token: string | undefined): void {
    if (typeof value !== 'object' || value === null || value instanceof ExactNumber) {
      text += scalar(value, token, limit);
      return;
    }
    const list = Array.isArray(value);
    text += list ? '[' : '{';
    open.push({ holder: value, keys: list ? undefined : Object.keys(value), next: 0, empty: true });
  }

  begin(root, undefined);
  while (open.length > 0 && text.length < limit) {
    const top = open.at(-1)!;
    const { holder, keys } = top;
    if (top.next === (keys ?? (holder as readonly unknown[])).length) {
      text += keys === undefined ? ']' : '}';
      open.pop();
      continue;
    }
    const key = keys === undefined ? String(top.next) : keys[top.next]!;
    top.next += 1;
    const value = (holder as Json)[key];
    if (value === undefined && keys !== undefined) continue;
    if (!top.empty) text += ',';
    top.empty = false;
    if (keys !== undefined) text += `${quoted(key, limit)}:`;
    begin(value, (holder as Tokens)[TOKENS]?.[key]);
  }
  return text;
}

function scalar(value: unknown, token: string | undefined, limit: number): string {
  if (typeof value === 'string') return quoted(value, limit);
  if (value instanceof ExactNumber) return value.text;
  if (holds(token, value)) return token;
  if (Object.is(value, -0)) return '-0';
  return JSON.stringify(value) ?? 'null';
}

function quoted(text: string, limit: number): string {
  return JSON.stringify((text.length > limit ? text.slice(0, limit) : text).toWellFormed());
}
