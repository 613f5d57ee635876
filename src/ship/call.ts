// What one logging call says. In: the arguments as the application gave them, or the info object that Winston's own methods and
// formats made of them. Out: the fields of the record. Guarantee: no argument vanishes, and none replaces the level or the
// message. Objects are metadata, left to right; of two values for one field, the first keeps it, and others go to `extra`. The
// first error is `error`. Whatever is not an object fills the `%` tokens of the message; what is left goes to `extra.args`.
import { inspect, types } from 'node:util';
import { isError, isPlain, type Normaliser, read, safeString } from './serialise.ts';

export const LEVEL = Symbol.for('level');
export const MESSAGE = Symbol.for('message');
export const SPLAT = Symbol.for('splat');

/** Info objects as they leave Winston's formats; anything may be in them. */
export type Info = Record<PropertyKey, unknown>;

type Fields = Record<string, unknown>;

/** Winston's own expression: with one of these in the message, Winston leaves the object after it alone. */
const TOKENS = /%[scdjifoO%]/;
const ALL_TOKENS = /%[scdjifoO%]/g;
const ERROR_KEYS = ['error', 'err', 'exception', 'e', 'cause'];
/** For an error, these are in `error`; Winston writes `level` into an error that is logged alone. */
const OF_ERROR = new Set(['name', 'message', 'stack', 'cause', 'errors', 'code', 'level']);
/** What format.metadata() and the usual formats after it leave at the top level. */
const BESIDE_METADATA = new Set(['level', 'message', 'metadata', 'timestamp', 'label', 'ms']);
const LOGSTASH = /^\{"@(?:message|timestamp|fields)":/;
const FIRST_COLOUR = /^\u001b\[[0-9;]{1,20}m/;
const LAST_COLOUR = /\u001b\[[0-9;]{1,20}m$/;
/** The last colours of a line and the first of the next. */
const LINE_COLOURS = /(?:\u001b\[[0-9;]{1,20}m){1,4}\n(?:\u001b\[[0-9;]{1,20}m){1,4}/g;
const MAX_COLOURS = 4;
/** Longer ones are not looked for in the text. */
const MAX_WORD = 256;
const MAX_TRIES = 16;

interface Said {
  readonly level: string;
  readonly first: unknown;
  readonly rest: readonly unknown[];
  /** What Winston has merged. Absent for a call taken as it was made. */
  readonly merged?: Merged;
  /** Fields of a child logger; the call's own take precedence. */
  readonly below?: object;
  /** Is the level taken from the first argument? */
  readonly levelInFirst?: boolean;
}

interface Merged {
  readonly info: Info;
  /** Its fields, except the one of this key. */
  fields(errorKey: string | undefined): Fields | undefined;
  /** Has Winston copied the first of `rest` into it? */
  readonly spread: boolean;
}

/** The arguments, sorted by what becomes of them. */
interface Sorted {
  /** The message, before its tokens are filled. */
  template: string | undefined;
  /** Objects whose fields are metadata. */
  readonly metas: object[];
  readonly errors: unknown[];
  /** What can fill a token, in order. */
  readonly given: unknown[];
  /** The first argument, when it is an object that may bring the message along. */
  first: object | undefined;
}

/**
 * @param args Of `logger.info(…args)`, or of `logger.log(level, …args)`.
 * @param below Fields of the child logger.
 * @param levelInFirst For `logger.log({ level, … })`.
 */
export function recordOfCall(
  level: string,
  args: readonly unknown[],
  below: object,
  normaliser: Normaliser,
  levelInFirst = false,
): Fields {
  const rest = args.length > 1 ? args.slice(1) : [];
  return assemble({ level, first: args[0], rest, below, levelInFirst }, normaliser);
}

/** @param maxChars A line of the format that is longer is not read. */
export function recordOfInfo(given: Info, normaliser: Normaliser, maxChars: number): Fields {
  const info = unfolded(given, maxChars);
  const level = read(info, LEVEL) ?? read(info, 'level') ?? 'info';
  const call = isError(given)
    ? { first: given, rest: [], spread: true }
    : undone(uncoloured(read(info, 'message')), read(info, SPLAT));
  const { first, rest, spread } = call;
  const fields = (errorKey: string | undefined) => {
    const record =
      (info === given ? ownLine(info, normaliser, maxChars) : undefined) ??
      normaliser.fields(info, 'message', errorKey);
    if (record !== undefined && !spread && typeof rest[0] === 'string') dropCharacters(record, rest[0]);
    return record;
  };
  return assemble(
    { level: typeof level === 'string' ? level : safeString(level), first, rest, merged: { info, fields, spread } },
    normaliser,
  );
}

/** Is there nothing but a text, and metadata that Winston copied as it was? Then the info object says everything. */
export function saysAll(info: Info): boolean {
  const message = info.message as string;
  if (message.charCodeAt(0) === 0x1b || info.metadata !== undefined) return false;
  const splat = info[SPLAT];
  if (splat === undefined) return true;
  if (!Array.isArray(splat) || splat.length > 1) return false;
  if (splat.length === 0) return true;
  const meta = splat[0] as Fields | null;
  if (typeof meta !== 'object' || meta === null) return false;
  const prototype: unknown = Object.getPrototypeOf(meta);
  if (prototype !== Object.prototype && prototype !== null) return false;
  return meta.level === undefined && meta.message === undefined && !hasTokens(message);
}

function assemble(said: Said, normaliser: Normaliser): Fields {
  const { merged, level, below = {} } = said;
  const sorted = sort(said, normaliser);
  const { metas, errors, given } = sorted;
  // The message first, then the error, then the rest: in this order they use up the room of a record.
  let message = sorted.template === undefined ? undefined : normaliser.text(sorted.template);
  let leftOver: unknown[] = [];
  if (given.length > 0) {
    if (message !== undefined && hasTokens(message)) [message, leftOver] = filled(message, given, normaliser);
    else leftOver = given.filter((one) => one !== undefined && kindOf(one) !== 'fields');
  }
  const sources = merged === undefined ? [...metas, below] : [merged.info, ...metas];
  const found: Found | undefined = errors.length > 0 ? { error: errors[0] } : errorIn(sources);
  const error = found === undefined ? undefined : normaliser.error(found.error);
  // format.logstash() takes the text out of an error that is logged alone.
  if (error?.message === '' && typeof merged?.info.message === 'string') error.message = merged.info.message;
  const errorKeyIn = (holder: object) => (found?.holder === holder ? found.key : undefined);

  let record: Fields = Object.create(null);
  /** An object that has a `stack` without being an error: what format.errors() or a child logger leaves of one. */
  let remains: { holder: object; message: unknown } | undefined;
  if (merged !== undefined) {
    const fields = merged.fields(errorKeyIn(merged.info));
    if (fields === undefined) leftOver.push('[unreadable]');
    else record = fields;
    delete record.level;
    delete record.message;
    // Winston copies these from the error to the record; they are in `error` now.
    if (found !== undefined && merged.spread && isFirstError(said, found.error)) {
      delete record.stack;
      if (read(found.error, 'cause')) delete record.cause;
      if (record.name === error?.name) delete record.name;
      if (typeof record.code !== 'object' && String(record.code) === error?.code) delete record.code;
    }
    if (typeof record.stack === 'string') remains = { holder: merged.info, message };
    lostByWinston(said, record, normaliser);
  }
  for (const meta of metas) {
    const isFirst = meta === sorted.first;
    const fields = normaliser.fields(meta, isFirst ? 'message' : undefined, errorKeyIn(meta));
    if (fields === undefined || (isEmpty(fields) && !hasPlainPrototype(meta))) {
      if (!isFirst || read(meta, 'message') === undefined) {
        leftOver.push(fields === undefined ? '[unreadable]' : `[${nameOf(meta)}]`);
      }
      continue;
    }
    if (typeof fields.stack === 'string') remains ??= { holder: meta, message: fields.message ?? message };
    const { level: itsLevel, message: itsMessage } = fields;
    delete fields.level;
    delete fields.message;
    if (isEmpty(record)) record = fields;
    else for (const key of Object.keys(fields)) addField(record, key, fields[key]);
    if (itsLevel !== undefined && itsLevel !== level && !(isFirst && said.levelInFirst)) {
      addExtra(record, 'level', itsLevel);
    }
    if (itsMessage !== undefined && remains?.holder !== meta) addExtra(record, 'message', itsMessage);
  }
  if (merged === undefined) {
    if (found !== undefined && found.holder === undefined) addOwnFields(record, found.error as object, normaliser);
    addBelow(record, below, errorKeyIn(below), normaliser);
  }
  if (found !== undefined && found.holder !== undefined) {
    for (const [key, value] of Object.entries(normaliser.ownFields(found.error as object))) {
      if (!OF_ERROR.has(key)) addField(record, key, value);
    }
  }
  for (const further of errors.slice(1)) addExtra(record, 'errors', [normaliser.value(further)]);
  if (leftOver.length > 0) addExtra(record, 'args', normaliser.value(leftOver));
  if (error !== undefined) {
    if (record.error !== undefined) addExtra(record, 'error', record.error);
    record.error = error;
    if (typeof record.stack === 'string' && error.stack?.startsWith(record.stack)) delete record.stack;
  } else if (remains !== undefined && record.error === undefined) {
    record.error = fromRemains(record, remains, normaliser);
  }
  record.level = level;
  record.message = message ?? error?.message ?? '';
  return record;
}

function sort(said: Said, normaliser: Normaliser): Sorted {
  const out: Sorted = { template: undefined, metas: [], errors: [], given: [], first: undefined };
  const first = resolved(said.first);
  const kind = kindOf(first);
  if (kind === 'text') out.template = first as string;
  else if (kind === 'error') out.errors.push(first);
  else if (kind === 'fields') {
    out.first = first as object;
    out.metas.push(out.first);
    const inner = read(out.first, 'message');
    const innerKind = kindOf(inner);
    if (innerKind === 'text') out.template = inner as string;
    else if (innerKind === 'error') out.errors.push(inner);
    else if (innerKind === 'fields') out.metas.push(inner as object);
    else if (inner !== undefined && inner !== null) out.template = textOf(inner, normaliser);
  } else if (first !== undefined && first !== null) out.template = textOf(first, normaliser);
  for (let i = 0; i < said.rest.length; i++) {
    const argument = resolved(said.rest[i]);
    const itsKind = kindOf(argument);
    if (itsKind === 'error') out.errors.push(argument);
    else if (itsKind === 'text' && out.template === undefined) out.template = argument as string;
    else {
      out.given.push(argument);
      // What Winston has copied went through the application's formats; the original must not bypass them.
      if (itsKind === 'fields' && !(i === 0 && said.merged?.spread)) out.metas.push(argument as object);
    }
  }
  return out;
}

/** `value` is what stands for itself: numbers, lists, dates and the like. */
function kindOf(value: unknown): 'text' | 'error' | 'fields' | 'value' {
  if (typeof value === 'string') return 'text';
  if (typeof value !== 'object' || value === null) return 'value';
  try {
    if (isError(value)) return 'error';
    if (Array.isArray(value) || value instanceof Map || value instanceof Set) return 'value';
    if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value) || types.isBoxedPrimitive(value)) return 'value';
    return types.isDate(value) || types.isRegExp(value) ? 'value' : 'fields';
  } catch {
    return 'value';
  }
}

/** What an object becomes in JSON: a URL is a text, and an object mapper's document has fields other than its object's. */
function resolved(value: unknown): unknown {
  if (kindOf(value) !== 'fields') return value;
  const toJson = read(value, 'toJSON');
  if (typeof toJson !== 'function') return value;
  try {
    return toJson.call(value, '');
  } catch {
    return value;
  }
}

interface Found {
  readonly error: unknown;
  /** Where it was a field; absent when it was an argument. */
  readonly holder?: object;
  readonly key?: string;
}

function errorIn(sources: readonly object[]): Found | undefined {
  for (const holder of sources) {
    for (const key of ERROR_KEYS) {
      const error = read(holder, key);
      if (typeof error !== 'object' || error === null || !isError(error)) continue;
      // Next to the stack of an error that Winston has taken apart, this is that error's cause.
      if (key === 'cause' && typeof read(holder, 'stack') === 'string') continue;
      return { error, holder, key };
    }
  }
  return undefined;
}

function isFirstError(said: Said, error: unknown): boolean {
  return said.first === error || said.rest[0] === error;
}

/** Winston overwrites the level and message of the metadata that it copies with its own. */
function lostByWinston(said: Said, record: Fields, normaliser: Normaliser): void {
  const meta = said.rest[0];
  if (!said.merged?.spread || typeof meta !== 'object' || meta === null || isError(meta)) return;
  const level = read(meta, 'level');
  if (level !== undefined && level !== said.level) addExtra(record, 'level', normaliser.value(level));
  const message = read(meta, 'message');
  if (message !== undefined && typeof read(meta, 'stack') !== 'string') {
    addExtra(record, 'message', normaliser.value(message));
  }
}

/** An error that is an argument brings its own fields along, as it does in Winston. */
function addOwnFields(record: Fields, error: object, normaliser: Normaliser): void {
  const fields = normaliser.fields(error) ?? {};
  for (const key of Object.keys(fields)) if (!OF_ERROR.has(key)) addField(record, key, fields[key]);
}

function addBelow(record: Fields, below: object, errorKey: string | undefined, normaliser: Normaliser): void {
  if (isEmpty(below)) return;
  const fields = normaliser.fields(below, errorKey) ?? {};
  for (const key of Object.keys(fields)) {
    if (key === 'level' || key === 'message') addExtra(record, key, fields[key]);
    else if (record[key] === undefined) record[key] = fields[key];
  }
}

function fromRemains(record: Fields, remains: { holder: object; message: unknown }, normaliser: Normaliser): Fields {
  const stack = String(record.stack);
  const causes = normaliser.causes(read(remains.holder, 'cause'));
  const named = typeof record.name === 'string' && stack.startsWith(record.name);
  const name = named ? record.name : (/^(?:Uncaught )?([A-Za-z_$][\w$]{0,100})/.exec(stack)?.[1] ?? 'Error');
  const message = typeof remains.message === 'string' ? remains.message : JSON.stringify(remains.message ?? '');
  const error: Fields = { name, message, stack: causes === '' ? stack : `${stack}\n${causes}` };
  delete record.stack;
  if (named) delete record.name;
  if (causes !== '') delete record.cause;
  return error;
}

function addField(record: Fields, key: string, value: unknown): void {
  if (value === undefined || record[key] === value) return;
  if (record[key] === undefined) record[key] = value;
  else addExtra(record, key, value);
}

/** Keeps what lost its place. A second value for the same field makes a list. */
export function addExtra(record: Fields, key: string, value: unknown): void {
  const before = record.extra;
  let extra = before as Fields;
  if (typeof before !== 'object' || before === null || Array.isArray(before)) {
    extra = Object.create(null);
    if (before !== undefined) extra.extra = before;
    record.extra = extra;
  }
  const there = extra[key];
  if (there === undefined) extra[key] = value;
  else if (Array.isArray(there)) there.push(...(Array.isArray(value) ? value : [value]));
  else extra[key] = Array.isArray(value) ? [there, ...value] : [there, value];
}

/** The text with its tokens filled as util.format fills them, and the arguments that it does not show in full. */
function filled(template: string, given: readonly unknown[], normaliser: Normaliser): [string, unknown[]] {
  const isMeta = given.map((one) => kindOf(one) === 'fields');
  const taken = given.map(() => false);
  const whole = given.map(() => false);
  let nextValue = 0;
  let nextAny = 0;
  const next = (any: boolean): number => {
    while (nextValue < given.length && (taken[nextValue] || isMeta[nextValue])) nextValue++;
    while (nextAny < given.length && taken[nextAny]) nextAny++;
    return any ? nextAny : nextValue;
  };
  const text = template.replace(ALL_TOKENS, (token) => {
    if (token === '%%') return '%';
    const at = next(token === '%j' || token === '%o' || token === '%O');
    if (at >= given.length) return token;
    taken[at] = true;
    const shown = shownAs(token, given[at], normaliser);
    whole[at] = showsAll(token, given[at], shown);
    return shown;
  });
  const leftOver = given.filter((one, i) => one !== undefined && !whole[i] && !isMeta[i]);
  // As in util.format, a text without arguments is left alone.
  const alone = isMeta.every((meta, i) => meta && !taken[i]);
  return [alone ? template : text, leftOver];
}

function shownAs(token: string, value: unknown, normaliser: Normaliser): string {
  const isObject = typeof value === 'object' && value !== null;
  switch (token) {
    case '%d':
      if (typeof value === 'bigint') return `${safeString(value)}n`;
      return isObject || typeof value === 'symbol' ? 'NaN' : numberText(Number(value));
    case '%i':
      if (typeof value === 'bigint') return `${safeString(value)}n`;
      return isObject || typeof value === 'symbol' ? 'NaN' : numberText(Number.parseInt(safeString(value), 10));
    case '%f':
      return isObject || typeof value === 'symbol' ? 'NaN' : numberText(Number.parseFloat(safeString(value)));
    case '%j':
      return JSON.stringify(normaliser.value(value)) ?? 'undefined';
    case '%o':
    case '%O':
      return inspected(value, token === '%o', normaliser);
    case '%c':
      return '';
    default:
      if (typeof value === 'bigint') return `${safeString(value)}n`;
      return typeof value === 'number' ? numberText(value) : textOf(value, normaliser);
  }
}

function showsAll(token: string, value: unknown, shown: string): boolean {
  if (token === '%c') return value === undefined;
  if (token !== '%d' && token !== '%i' && token !== '%f') return true;
  return typeof value === 'bigint' ? token !== '%f' : shown === safeString(value);
}

function inspected(value: unknown, showHidden: boolean, normaliser: Normaliser): string {
  if (typeof value === 'bigint') return `${safeString(value)}n`;
  if (typeof value === 'number') return numberText(value);
  if (typeof value !== 'string' && typeof value !== 'object') return textOf(value, normaliser);
  // Via JSON, which alone has a bounded size and ordinary prototypes.
  const plain: unknown = JSON.parse(JSON.stringify(normaliser.value(value)) ?? 'null');
  return normaliser.text(inspect(plain, { depth: 4, showHidden }));
}

function numberText(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

function textOf(value: unknown, normaliser: Normaliser): string {
  if (value === undefined || value === null) return String(value);
  const plain = normaliser.value(value);
  return typeof plain === 'object' ? JSON.stringify(plain) : String(plain);
}

function hasTokens(message: string): boolean {
  return message.includes('%') && TOKENS.test(message);
}

function isEmpty(value: object): boolean {
  for (const _key in value) return false;
  return true;
}

function hasPlainPrototype(value: object): boolean {
  try {
    const prototype: unknown = Object.getPrototypeOf(value);
    return prototype === Object.prototype || prototype === null;
  } catch {
    return false;
  }
}

function nameOf(value: object): string {
  const name = read(read(value, 'constructor'), 'name');
  return typeof name === 'string' && name !== '' ? name.slice(0, 100) : 'object';
}

// ---- undoing what Winston's own methods and formats did to a call ----

/** The arguments of a call that went through Winston's `log`. */
function undone(message: unknown, splat: unknown): { first: unknown; rest: unknown[]; spread: boolean } {
  if (!isList(splat) || splat.length === 0) return { first: message, rest: [], spread: false };
  const rest = [...splat];
  const meta: unknown = rest[0];
  const isObject = typeof meta === 'object' && meta !== null;
  if (typeof message !== 'string') return { first: message, rest, spread: isObject };
  if (!isObject) return { first: message, rest: withoutShown(message, rest), spread: false };
  // Winston appends the metadata's message to the text.
  const added = read(meta, 'message');
  const suffix = typeof added === 'object' && added !== null ? ' [object Object]' : ` ${safeString(added)}`;
  const original = added && message.endsWith(suffix) ? message.slice(0, -suffix.length) : message;
  const spread = !hasTokens(original);
  const first = spread ? original : message;
  return { first, rest: withoutShown(first, rest), spread };
}

/** After format.splat(), a left-over text has become one field per character. */
function dropCharacters(record: Fields, text: string): void {
  for (let i = 0; i < text.length && record[i] === text[i]; i++) delete record[i];
}

/** Arguments that format.splat() has written into the text are there already. */
function withoutShown(message: string, rest: unknown[]): unknown[] {
  let at = 0;
  for (const argument of rest) {
    if (kindOf(argument) === 'fields' || kindOf(argument) === 'error' || argument === undefined) continue;
    const text = typeof argument === 'object' && argument !== null ? undefined : safeString(argument);
    if (text === undefined) return rest;
    const found = wordAt(message, text, at);
    if (found < 0) return rest;
    at = found + text.length;
  }
  return rest.map((argument) => (kindOf(argument) === 'fields' || kindOf(argument) === 'error' ? argument : undefined));
}

/** Where `word` stands alone in `text`; -1 if nowhere. */
function wordAt(text: string, word: string, from: number): number {
  if (word.length > MAX_WORD) return -1;
  let at = text.indexOf(word, from);
  for (let tries = 0; at >= 0 && tries < MAX_TRIES; tries++) {
    if (!isWordCharacter(text[at - 1]) && !isWordCharacter(text[at + word.length])) return at;
    at = text.indexOf(word, at + 1);
  }
  return -1;
}

function isWordCharacter(character: string | undefined): boolean {
  return character !== undefined && /[\p{L}\p{N}]/u.test(character);
}

/** What the format wrote, if it wrote JSON and nothing in the info object got lost that way (errors become `{}`). */
function ownLine(info: Info, normaliser: Normaliser, maxChars: number): Fields | undefined {
  try {
    const line = info[MESSAGE];
    if (typeof line !== 'string' || line.length > maxChars || !line.startsWith('{') || !isPlain(info)) return undefined;
    const parsed: unknown = JSON.parse(line);
    return normaliser.fields(parsed as object, 'message');
  } catch {
    return undefined;
  }
}

/** The info object as it was before format.logstash() or format.metadata(); unchanged when neither was used. */
function unfolded(info: Info, maxChars: number): Info {
  try {
    const { metadata } = info;
    if (isFieldsOfOthers(info, metadata)) {
      const { metadata: _inside, ...outside } = info;
      return { ...(metadata as object), ...outside };
    }
    const line = info[MESSAGE];
    if (typeof line !== 'string' || !LOGSTASH.test(line)) return info;
    const { '@message': message, '@timestamp': timestamp } = logstashHead(line, maxChars);
    // It takes both out of the info object, but leaves an empty message.
    return {
      ...info,
      message: Object.hasOwn(info, 'message') ? info.message : message,
      ...(timestamp === undefined ? {} : { timestamp }),
    };
  } catch {
    return info;
  }
}

/** Did format.metadata() put it there, rather than the application? */
function isFieldsOfOthers(info: Info, metadata: unknown): boolean {
  if (typeof metadata !== 'object' || metadata === null || kindOf(metadata) !== 'fields') return false;
  const splat = info[SPLAT];
  if (isList(splat) && read(splat[0], 'metadata') === metadata) return false;
  return Object.keys(info).every((key) => BESIDE_METADATA.has(key));
}

function logstashHead(line: string, maxChars: number): Fields {
  if (line.length <= maxChars) return JSON.parse(line) as Fields;
  // Too long to be parsed as a whole: only the text it begins with, as much of it as may be kept anyway.
  const start = '{"@message":"';
  if (!line.startsWith(start)) return {};
  let end = start.length;
  const stop = Math.min(line.length, start.length + maxChars);
  while (end < stop && line[end] !== '"') end += line[end] === '\\' ? (line[end + 1] === 'u' ? 6 : 2) : 1;
  return { '@message': JSON.parse(`"${line.slice(start.length, end)}"`) as string };
}

/** A text that format.colorize() has wrapped as a whole, without its colours. */
function uncoloured(message: unknown): unknown {
  if (typeof message !== 'string' || message.charCodeAt(0) !== 0x1b || !message.endsWith('m')) return message;
  let text = message;
  for (let n = 0; n < MAX_COLOURS; n++) {
    const last = LAST_COLOUR.exec(text.slice(-24))?.[0].length ?? 0;
    text = text.slice(FIRST_COLOUR.exec(text)?.[0].length ?? 0, text.length - last);
  }
  return text.replace(LINE_COLOURS, '\n');
}

function isList(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}
