// A query line in Kibana's syntax (KQL), a subset of it: docs/api.md. In: what a person typed. Out: a query for Elasticsearch, and a
// predicate that says the same of a document in hand. Guarantee: what was typed becomes a value or the checked name of a field, never a
// part of the query's structure; length, terms, depth and wildcards are bounded, and the work grows with the length alone; whatever is
// wrong is a QueryLineError with the column and what was expected there.
import { FIELDS, type FieldGroup, type FieldType } from '../../core/catalogue.ts';
import { oneLine } from '../../core/safe-json.ts';
import { isObject } from '../../parse/json.ts';
import { parseTime } from '../../replay/sources.ts';

/** A template of an error, of 1,024 characters that are all escaped, is still a value. */
export const MAX_CHARACTERS = 2_200;
const MAX_TERMS = 50;
const MAX_DEPTH = 20;
const MAX_WILDCARDS = 3;
const MAX_FIELD = 128;
const FIELD = /^[A-Za-z_@][\w.@-]*$/;
/** Where a word without a field is looked for. */
export const WORD_FIELDS = ['message', 'error.message'] as const;

/** What is wrong with a query line, for whoever typed it. */
export class QueryLineError extends Error {
  /** From 1 on. */
  readonly column: number;

  constructor(column: number, text: string) {
    super(`column ${column}: ${text}`);
    this.column = column;
  }
}

type Comparison = '<' | '<=' | '>' | '>=';

export type QueryNode =
  | { readonly kind: 'all' }
  | { readonly kind: 'and' | 'or'; readonly parts: readonly QueryNode[] }
  | { readonly kind: 'not'; readonly part: QueryNode }
  | { readonly kind: 'exists'; readonly field: string }
  /** Without a field: in any of WORD_FIELDS. A time is in ISO 8601. */
  | { readonly kind: 'is'; readonly field: string | undefined; readonly text: string }
  /** Pieces of text with anything between them. */
  | { readonly kind: 'like'; readonly field: string | undefined; readonly pieces: readonly string[] }
  | { readonly kind: 'range'; readonly field: string; readonly comparison: Comparison; readonly text: string };

/**
 * @param nowMs what `now-2h` counts from
 * @throws QueryLineError
 */
export function parseQueryLine(text: string, nowMs: number): QueryNode {
  if (text.length > MAX_CHARACTERS) {
    throw new QueryLineError(MAX_CHARACTERS + 1, `the query is longer than ${MAX_CHARACTERS} characters`);
  }
  return createReader(tokensOf(text), nowMs).whole();
}

// ---- tokens ----

type Sign = '(' | ')' | ':' | Comparison;
type Token =
  | { readonly kind: 'sign'; readonly sign: Sign; readonly column: number }
  | { readonly kind: 'phrase'; readonly text: string; readonly column: number }
  /** `plain`: as typed, without escapes, so that it may be `and`, `or` or `not`. */
  | { readonly kind: 'word'; readonly pieces: readonly string[]; readonly plain: boolean; readonly column: number }
  | { readonly kind: 'end'; readonly column: number };

const SPECIAL = '():<>"{}';

function isBlank(character: string): boolean {
  return /\s/.test(character);
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const character = text[at]!;
    const column = at + 1;
    if (isBlank(character)) at += 1;
    else if (character === '(' || character === ')' || character === ':') {
      tokens.push({ kind: 'sign', sign: character, column });
      at += 1;
    } else if (character === '<' || character === '>') {
      const sign: Comparison = text[at + 1] === '=' ? `${character}=` : character;
      tokens.push({ kind: 'sign', sign, column });
      at += sign.length;
    } else if (character === '{' || character === '}') {
      throw new QueryLineError(column, `"${character}" is not understood here; put the text into quotes`);
    } else if (character === '"') {
      const { value, end } = phraseAt(text, at);
      tokens.push({ kind: 'phrase', text: value, column });
      at = end;
    } else {
      const { token, end } = wordAt(text, at);
      tokens.push(token);
      at = end;
    }
  }
  tokens.push({ kind: 'end', column: text.length + 1 });
  return tokens;
}

function phraseAt(text: string, start: number): { value: string; end: number } {
  let value = '';
  for (let at = start + 1; at < text.length; at++) {
    const character = text[at]!;
    if (character === '"') return { value, end: at + 1 };
    if (character === '\\' && at + 1 < text.length) at += 1;
    value += text[at];
  }
  throw new QueryLineError(start + 1, 'the quotes are not closed');
}

function wordAt(text: string, start: number): { token: Token; end: number } {
  const pieces = [''];
  let plain = true;
  let at = start;
  for (; at < text.length; at++) {
    const character = text[at]!;
    if (isBlank(character) || SPECIAL.includes(character)) break;
    if (character === '*') {
      plain = false;
      // Two of them say no more than one.
      if (pieces.length === 1 || pieces.at(-1) !== '') pieces.push('');
      continue;
    }
    if (character === '\\') {
      if (at + 1 === text.length) throw new QueryLineError(at + 1, 'a character has to follow the backslash');
      plain = false;
      at += 1;
    }
    pieces[pieces.length - 1] += text[at]!;
  }
  return { token: { kind: 'word', pieces, plain, column: start + 1 }, end: at };
}

// ---- from tokens to nodes ----

const OPERATORS = ['and', 'or', 'not'] as const;
type Operator = (typeof OPERATORS)[number];

function operatorOf(token: Token): Operator | undefined {
  if (token.kind !== 'word' || !token.plain) return undefined;
  const word = token.pieces[0]!.toLowerCase();
  return OPERATORS.find((operator) => operator === word);
}

function isSign(token: Token, sign: Sign): boolean {
  return token.kind === 'sign' && token.sign === sign;
}

function found(token: Token): string {
  switch (token.kind) {
    case 'end':
      return 'the end';
    case 'sign':
      return `"${token.sign}"`;
    case 'phrase':
      return `"${oneLine(token.text, 40)}"`;
    case 'word':
      return `"${oneLine(token.pieces.join('*'), 40)}"`;
  }
}

function createReader(tokens: readonly Token[], nowMs: number) {
  let at = 0;
  let terms = 0;
  let depth = 0;

  const next = () => tokens[at]!;

  function taken(): Token {
    const token = next();
    if (token.kind !== 'end') at += 1;
    return token;
  }

  /** @param field inside of `field: ( … )`, where there are values only */
  function either(field: Field | undefined): QueryNode {
    return joined('or', () => joined('and', () => negated(field)));
  }

  function joined(operator: 'and' | 'or', part: () => QueryNode): QueryNode {
    const parts = [part()];
    while (operatorOf(next()) === operator) {
      at += 1;
      parts.push(part());
    }
    return parts.length === 1 ? parts[0]! : { kind: operator, parts: parts.flatMap((one) => flat(operator, one)) };
  }

  function negated(field: Field | undefined): QueryNode {
    if (operatorOf(next()) !== 'not') return operand(field);
    return deeper(taken(), () => ({ kind: 'not', part: negated(field) }));
  }

  function deeper(token: Token, read: () => QueryNode): QueryNode {
    depth += 1;
    if (depth > MAX_DEPTH) throw new QueryLineError(token.column, `nested more than ${MAX_DEPTH} levels deep`);
    const node = read();
    depth -= 1;
    return node;
  }

  function group(field: Field | undefined): QueryNode {
    const open = taken();
    return deeper(open, () => {
      const node = either(field);
      const close = taken();
      if (isSign(close, ')')) return node;
      throw new QueryLineError(
        close.column,
        `found ${found(close)}; expected and, or, or the ")" for the "(" in column ${open.column}${QUOTE_WORDS}`,
      );
    });
  }

  function operand(field: Field | undefined): QueryNode {
    if (isSign(next(), '(')) return group(field);
    const token = taken();
    if ((token.kind !== 'word' && token.kind !== 'phrase') || operatorOf(token) !== undefined) {
      throw new QueryLineError(token.column, `found ${found(token)}; expected a word, "a phrase", field: value or "("`);
    }
    const sign = next();
    if (sign.kind !== 'sign' || sign.sign === '(' || sign.sign === ')') return leafOf(token, field);
    if (field !== undefined) {
      throw new QueryLineError(sign.column, `found ${found(sign)}; in the parentheses after a field are values only`);
    }
    at += 1;
    const named = fieldOf(token);
    if (sign.sign !== ':') return rangeOf(named, sign.sign, taken());
    if (isSign(next(), '(')) return group(named);
    const value = taken();
    if ((value.kind === 'word' && operatorOf(value) === undefined) || value.kind === 'phrase') {
      return leafOf(value, named);
    }
    throw new QueryLineError(
      value.column,
      `found ${found(value)}; expected a value for ${named.name}: a word, "a phrase", * or ( … or … )`,
    );
  }

  function counted(token: Token): void {
    terms += 1;
    if (terms > MAX_TERMS) throw new QueryLineError(token.column, `more than ${MAX_TERMS} terms`);
  }

  function leafOf(token: Extract<Token, { kind: 'word' | 'phrase' }>, field: Field | undefined): QueryNode {
    counted(token);
    if (token.kind === 'phrase') return isOf(token.text, token.column, field);
    const { pieces, column } = token;
    if (pieces.length === 1) return isOf(pieces[0]!, column, field);
    if (pieces.every((piece) => piece === '')) {
      return field === undefined ? { kind: 'all' } : { kind: 'exists', field: field.name };
    }
    if (pieces[0] === '') {
      throw new QueryLineError(
        column,
        'a wildcard at the beginning would read everything; begin with a letter or digit',
      );
    }
    if (pieces.length - 1 > MAX_WILDCARDS) {
      throw new QueryLineError(column, `more than ${MAX_WILDCARDS} wildcards in a value`);
    }
    const { name, type } = field ?? { name: undefined, type: 'text' };
    if (type !== 'keyword' && type !== 'text' && type !== 'unknown') {
      throw new QueryLineError(column, `${name} is ${IN_WORDS[type]}; wildcards are for text`);
    }
    return { kind: 'like', field: name, pieces };
  }

  function isOf(text: string, column: number, field: Field | undefined): QueryNode {
    if (field === undefined) return { kind: 'is', field, text };
    return { kind: 'is', field: field.name, text: checkedValue(field, text, column) };
  }

  function rangeOf(field: Field, comparison: Comparison, token: Token): QueryNode {
    counted(token);
    const isValue = token.kind === 'phrase' || (token.kind === 'word' && token.pieces.length === 1);
    if (!isValue || operatorOf(token) !== undefined) {
      throw new QueryLineError(token.column, `found ${found(token)}; expected a number or a time after ${comparison}`);
    }
    const text = token.kind === 'phrase' ? token.text : token.pieces[0]!;
    switch (field.type) {
      case 'number':
      case 'date':
        break;
      case 'unknown':
        numberIn({ ...field, type: 'number' }, text, token.column);
        break;
      default:
        throw new QueryLineError(
          token.column,
          `${field.name} is ${IN_WORDS[field.type]}; ${comparison} is for numbers and times`,
        );
    }
    return { kind: 'range', field: field.name, comparison, text: checkedValue(field, text, token.column) };
  }

  function checkedValue(field: Field, text: string, column: number): string {
    switch (field.type) {
      case 'number':
        return numberIn(field, text, column);
      case 'date':
        return timeIn(field, text, column, nowMs);
      case 'boolean':
        if (text === 'true' || text === 'false') return text;
        throw new QueryLineError(column, `${field.name} is true or false; found "${oneLine(text, 40)}"`);
      default:
        return text;
    }
  }

  return {
    whole(): QueryNode {
      if (next().kind === 'end') return { kind: 'all' };
      const node = either(undefined);
      const rest = next();
      if (rest.kind === 'end') return node;
      throw new QueryLineError(rest.column, `found ${found(rest)}; expected and, or, or the end${QUOTE_WORDS}`);
    },
  };
}

const QUOTE_WORDS = '; several words, and text with : < > ( ) in it, go into quotes';

function flat(operator: 'and' | 'or', node: QueryNode): readonly QueryNode[] {
  return node.kind === operator ? node.parts : [node];
}

// ---- fields and their types ----

type Type = 'keyword' | 'text' | 'number' | 'date' | 'boolean' | 'flattened' | 'unknown';

interface Field {
  readonly name: string;
  readonly type: Type;
}

const TYPES: Readonly<Record<Exclude<FieldType, 'raw'>, Type>> = {
  date: 'date',
  keyword: 'keyword',
  text: 'text',
  long: 'number',
  short: 'number',
  float: 'number',
  boolean: 'boolean',
  flattened: 'flattened',
};

const IN_WORDS: Readonly<Record<Type, string>> = {
  keyword: 'a text',
  text: 'a text',
  number: 'a number',
  date: 'a time',
  boolean: 'true or false',
  flattened: 'kept as whole values',
  unknown: 'of an unknown type',
};

/** The catalogue's type; undefined where it has none. */
function catalogued(name: string): FieldType | FieldGroup | undefined {
  let at: FieldType | FieldGroup | undefined = FIELDS as FieldGroup;
  for (const part of name.split('.')) {
    if (at === 'flattened' || at === 'raw') return at;
    if (typeof at !== 'object' || !Object.hasOwn(at, part)) return undefined;
    at = at[part];
  }
  return at;
}

function typeOf(name: string): Type {
  const type = catalogued(name);
  return typeof type === 'string' && type !== 'raw' ? TYPES[type] : 'unknown';
}

function fieldOf(token: Token): Field {
  const name = token.kind === 'word' ? token.pieces.join('*') : '';
  if (name.length > MAX_FIELD || !FIELD.test(name)) {
    throw new QueryLineError(
      token.column,
      `found ${found(token)} before a colon or comparison; expected a field's name, like http.status, without quotes and wildcards; text with a colon goes into quotes`,
    );
  }
  const type = catalogued(name);
  if (type === 'raw') throw new QueryLineError(token.column, `${name} is kept, and cannot be searched`);
  if (typeof type === 'object') {
    const [first] = Object.keys(type);
    throw new QueryLineError(token.column, `${name} is a group of fields; name one of them, like ${name}.${first}`);
  }
  return { name, type: typeOf(name) };
}

function numberIn(field: Field, text: string, column: number): string {
  if (/^-?\d{1,16}(?:\.\d{1,9})?$/.test(text) && Math.abs(Number(text)) <= Number.MAX_SAFE_INTEGER) {
    return text;
  }
  throw new QueryLineError(column, `${field.name} takes a number, like 500 or 0.5; found "${oneLine(text, 40)}"`);
}

function timeIn(field: Field, text: string, column: number, nowMs: number): string {
  try {
    return new Date(parseTime(text.replace(/^now(?=-)/, ''), { place: field.name, now: nowMs })).toISOString();
  } catch {
    throw new QueryLineError(
      column,
      `${field.name} is a time; found "${oneLine(text, 40)}"; expected now-2h, now, or "2026-01-31T08:00:00Z" in quotes`,
    );
  }
}

// ---- back to text ----

/** As a query line writes a value. */
export function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

/** A line that means the same. */
export function printQueryLine(node: QueryNode): string {
  switch (node.kind) {
    case 'all':
      return '*';
    case 'and':
    case 'or':
      return node.parts.map((part) => inside(part, node.kind)).join(` ${node.kind} `);
    case 'not':
      return `not ${inside(node.part, 'not')}`;
    case 'exists':
      return `${node.field}: *`;
    case 'is':
      return `${before(node.field)}${quoted(node.text)}`;
    case 'like':
      return `${before(node.field)}${node.pieces.map(escaped).join('*')}`;
    case 'range':
      return `${node.field} ${node.comparison} ${quoted(node.text)}`;
  }
}

function before(field: string | undefined): string {
  return field === undefined ? '' : `${field}: `;
}

function inside(part: QueryNode, around: 'and' | 'or' | 'not'): string {
  const text = printQueryLine(part);
  const binds = around === 'or' ? part.kind === 'or' : part.kind === 'and' || part.kind === 'or';
  return binds ? `(${text})` : text;
}

function escaped(text: string): string {
  return text.replace(/[\s():<>"{}*\\]/g, '\\$&');
}

// ---- for Elasticsearch ----

type Query = Readonly<Record<string, unknown>>;

/** The query of Elasticsearch that means the same. */
export function toElasticsearch(node: QueryNode): Query {
  switch (node.kind) {
    case 'all':
      return { match_all: {} };
    case 'and':
      return { bool: { filter: node.parts.map(toElasticsearch) } };
    case 'or':
      return anyOf(node.parts.map(toElasticsearch));
    case 'not':
      return { bool: { must_not: [toElasticsearch(node.part)] } };
    case 'exists':
      return { exists: { field: node.field } };
    case 'is':
      if (node.field !== undefined) return isQuery(node.field, node.text);
      return anyOf(WORD_FIELDS.map((field) => isQuery(field, node.text)));
    case 'like':
      if (node.field !== undefined) return likeQuery(node.field, node.pieces);
      return anyOf(WORD_FIELDS.map((field) => likeQuery(field, node.pieces)));
    case 'range':
      return rangeQuery(node.field, node.comparison, node.text);
  }
}

function anyOf(queries: readonly Query[]): Query {
  return { bool: { should: queries, minimum_should_match: 1 } };
}

function isQuery(field: string, text: string): Query {
  switch (typeOf(field)) {
    case 'text':
      return { match_phrase: { [field]: { query: text } } };
    case 'number': {
      const value = Number(text);
      return fits(field, value) ? { term: { [field]: { value } } } : { match_none: {} };
    }
    case 'date':
      return { range: { [field]: { gte: text, lte: text, format: 'strict_date_optional_time' } } };
    case 'boolean':
      return { term: { [field]: { value: text === 'true' } } };
    case 'keyword':
    case 'flattened':
      return { term: { [field]: { value: text } } };
    case 'unknown':
      // A number or a text: a text that is no number is not found in numbers, which without `lenient` would be an error.
      return { match: { [field]: { query: text, lenient: true } } };
  }
}

function likeQuery(field: string, pieces: readonly string[]): Query {
  const value = pieces.map((piece) => cased(field, piece).replace(/[\\*?]/g, '\\$&')).join('*');
  return { wildcard: { [field]: { value } } };
}

const BOUNDS: Readonly<Record<Comparison, string>> = { '<': 'lt', '<=': 'lte', '>': 'gt', '>=': 'gte' };

function rangeQuery(field: string, comparison: Comparison, text: string): Query {
  if (typeOf(field) === 'date') {
    return { range: { [field]: { [BOUNDS[comparison]]: text, format: 'strict_date_optional_time' } } };
  }
  // Beyond what a field can hold, a server may refuse the number instead of comparing it.
  const value = catalogued(field) === 'short' ? Math.min(Math.max(Number(text), -SHORT - 1), SHORT + 1) : Number(text);
  return { range: { [field]: { [BOUNDS[comparison]]: value } } };
}

const SHORT = 32_768;

function fits(field: string, value: number): boolean {
  const type = catalogued(field);
  if (type === 'short') return Number.isInteger(value) && value >= -SHORT && value < SHORT;
  return type !== 'long' || Number.isInteger(value);
}

/** Text is indexed in words of small letters. */
function cased(field: string, text: string): string {
  return typeOf(field) === 'text' ? text.toLowerCase() : text;
}

// ---- for a document in hand ----

export type Predicate = (document: Readonly<Record<string, unknown>>) => boolean;

/** What Elasticsearch would say of the document, under logpipe's index template. */
export function toPredicate(node: QueryNode): Predicate {
  switch (node.kind) {
    case 'all':
      return () => true;
    case 'and':
    case 'or': {
      const parts = node.parts.map(toPredicate);
      return node.kind === 'and'
        ? (document) => parts.every((part) => part(document))
        : (document) => parts.some((part) => part(document));
    }
    case 'not': {
      const part = toPredicate(node.part);
      return (document) => !part(document);
    }
    case 'exists':
      return anyValue([node.field], () => true, true);
    case 'is':
      return anyValue(
        node.field === undefined ? WORD_FIELDS : [node.field],
        isTest(node.field ?? WORD_FIELDS[0], node.text),
      );
    case 'like':
      return anyValue(
        node.field === undefined ? WORD_FIELDS : [node.field],
        likeTest(node.field ?? WORD_FIELDS[0], node.pieces),
      );
    case 'range':
      return anyValue([node.field], rangeTest(node.field, node.comparison, node.text));
  }
}

type Leaf = string | number | boolean;
type Test = (value: Leaf) => boolean;

/** @param groups whether a group of fields that the catalogue does not know has the values of all its fields */
function anyValue(fields: readonly string[], test: Test, groups = false): Predicate {
  const wanted = fields.map((field) => {
    const path = field.split('.');
    const type = typeOf(field);
    const deep = type === 'flattened' ? path.length === 1 : groups && type === 'unknown';
    return { path, deep, test: (leaf: Leaf) => (type === 'text' || isIndexed(leaf)) && test(leaf) };
  });
  return (document) => wanted.some((one) => someLeaf(document, one, 0));
}

/** Longer values are in no index of texts. */
const IGNORE_ABOVE = 1_024;
const MAX_NESTING = 64;

function isIndexed(leaf: Leaf): boolean {
  return typeof leaf !== 'string' || leaf.length <= IGNORE_ABOVE;
}

interface Wanted {
  readonly path: readonly string[];
  /** What stands anywhere below the path is looked at, too. */
  readonly deep: boolean;
  readonly test: Test;
}

/** A dot in a key is the same as an object in an object. Lists are searched. */
function someLeaf(value: unknown, wanted: Wanted, from: number, depth = 0): boolean {
  const { path, deep, test } = wanted;
  if (depth > MAX_NESTING) return false;
  if (Array.isArray(value)) return value.some((item) => someLeaf(item, wanted, from, depth + 1));
  if (isObject(value)) {
    if (from === path.length) {
      return deep && Object.values(value).some((item) => someLeaf(item, wanted, from, depth + 1));
    }
    for (let to = from + 1; to <= path.length; to++) {
      const key = path.slice(from, to).join('.');
      if (Object.hasOwn(value, key) && someLeaf(value[key], wanted, to, depth + 1)) return true;
    }
    return false;
  }
  if (from !== path.length || value === null || value === undefined) return false;
  return test(value as Leaf);
}

function isTest(field: string, text: string): Test {
  switch (typeOf(field)) {
    case 'text': {
      const wanted = wordsOf(text);
      if (wanted.length === 0) return () => false;
      // Finding the boundaries of words takes a microsecond a character.
      return (value) => mayHold(value, wanted) && phraseOf(wordsOf(String(value))).includes(phraseOf(wanted));
    }
    case 'number': {
      const hold = held(field);
      const wanted = Number(text);
      return (value) => fits(field, wanted) && hold(value) === (catalogued(field) === 'float' ? hold(wanted) : wanted);
    }
    case 'date': {
      const wanted = Date.parse(text);
      return (value) => timeOf(value) === wanted;
    }
    case 'unknown':
      return (value) =>
        typeof value === 'number' ? text.trim() !== '' && Number(text) === value : String(value) === text;
    default:
      return (value) => String(value) === text;
  }
}

function likeTest(field: string, pieces: readonly string[]): Test {
  const wanted = pieces.map((piece) => cased(field, piece));
  if (typeOf(field) === 'text') {
    return (value) => mayHold(value, wanted) && wordsOf(String(value)).some((word) => isLike(word, wanted));
  }
  return (value) => isLike(String(value), wanted);
}

function isLike(text: string, pieces: readonly string[]): boolean {
  const [first = '', ...rest] = pieces;
  const last = rest.pop() ?? '';
  if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false;
  let at = first.length;
  for (const piece of rest) {
    const place = text.indexOf(piece, at);
    if (place < 0) return false;
    at = place + piece.length;
  }
  return at <= text.length - last.length;
}

function rangeTest(field: string, comparison: Comparison, text: string): Test {
  if (typeOf(field) === 'date') return compared(timeOf, comparison, Date.parse(text));
  const isFloat = catalogued(field) === 'float';
  const numbers = compared(held(field), comparison, isFloat ? Math.fround(Number(text)) : Number(text));
  if (typeOf(field) !== 'unknown') return numbers;
  const texts = compared(String, comparison, text);
  return (value) => (typeof value === 'number' ? numbers(value) : texts(value));
}

function compared<T extends number | string>(read: (value: Leaf) => T, comparison: Comparison, bound: T): Test {
  switch (comparison) {
    case '<':
      return (value) => read(value) < bound;
    case '<=':
      return (value) => read(value) <= bound;
    case '>':
      return (value) => read(value) > bound;
    case '>=':
      return (value) => read(value) >= bound;
  }
}

/** The number as the index has it. */
function held(field: string): (value: Leaf) => number {
  const type = catalogued(field);
  if (type === 'float') return (value) => Math.fround(Number(value));
  return type === 'long' || type === 'short' ? (value) => Math.trunc(Number(value)) : Number;
}

function timeOf(value: Leaf): number {
  return typeof value === 'number' ? value : Date.parse(String(value));
}

const SEGMENTS = new Intl.Segmenter('en', { granularity: 'word' });
/** Elasticsearch cuts a word that is longer. */
const MAX_WORD = 255;

/** The same for ASCII, a hundred times as fast: what joins letters, and what joins digits. */
const ASCII_WORD = /(?:[A-Za-z0-9_]|(?<=[A-Za-z])[:.'](?=[A-Za-z])|(?<=\d)[,;.'](?=\d))+/g;

/** As Elasticsearch's standard analyzer does it: by the word boundaries of Unicode, in small letters. */
export function wordsOf(text: string): string[] {
  const words: string[] = [];
  for (const word of isAscii(text) ? asciiWords(text) : unicodeWords(text)) {
    // Only letters and digits make a word.
    if (!/[\p{L}\p{N}]/u.test(word)) continue;
    for (let at = 0; at < word.length; at += MAX_WORD) words.push(word.slice(at, at + MAX_WORD).toLowerCase());
  }
  return words;
}

function isAscii(text: string): boolean {
  return !/[\u0080-\uffff]/.test(text);
}

function asciiWords(text: string): string[] {
  return text.match(ASCII_WORD) ?? [];
}

function unicodeWords(text: string): string[] {
  return [...SEGMENTS.segment(text)].flatMap(({ segment, isWordLike }) => (isWordLike === true ? [segment] : []));
}

/** Each word between two characters that no word has. */
function phraseOf(words: readonly string[]): string {
  return `\0${words.join('\0')}\0`;
}

function mayHold(value: Leaf, words: readonly string[]): boolean {
  const text = String(value).toLowerCase();
  return words.every((word) => text.includes(word));
}
