// Foreign shapes to the catalogue's, by the tables of shapes.ts and lines.ts. In: a parsed object of any producer, or a line
// of text; out: a new object in the catalogue's vocabulary. Guarantee: nothing is deleted: what has no place in the catalogue
// stays where it was, what finds its place taken goes to `extra`. Linear: a group is copied once, however much moves.
import { createFreeNames } from './conform.ts';
import { FIELD_MAP } from './field-types.ts';
import { ExactNumber, isObject, type ReadObject, readObject } from './json.ts';
import { NORMAL_LEVELS, normaliseLevel } from './level.ts';
import { readLine } from './lines.ts';
import { ERROR_NAMES, SHAPES, type Shape, USUAL_NAMES } from './shapes.ts';
import type { TimeParser } from './time.ts';

type Json = Record<string, unknown>;

/** A record inside a message inside a record …: no shipper nests deeper. */
const MAX_WRAPPERS = 4;
/** A longer dotted name is no path into one of the catalogue's groups. */
const MAX_DOTTED = 256;
/** The year 2000: what calls itself a time and is earlier is something else. */
const LEAST_MS = 946_684_800_000;
const LINE_END = /\r?\n$/;

/**
 * What a JSON document in the message of a record that is no wrapper cannot set, so that a logged text forges nothing.
 * `message`, `kafka` and `extra` are never lacking or never the producer's to set.
 */
const NOT_FROM_A_MESSAGE: ReadonlySet<string> = new Set([
  'level',
  'severity',
  'timestamp',
  'time',
  'tags',
  'service',
  'environment',
  'host',
  'tenantId',
  'eventId',
  'event',
  'error',
  'call',
  'http',
  'queue',
  'db',
  'process',
  'system',
  'message',
  'kafka',
]);

export interface Context {
  /** The record's header carries an event id: logpipe's own transport sent it, so nothing wraps it. */
  readonly hasId: boolean;
  /** Record time in ms; tells the year where a line does not. */
  readonly recordMs: number;
}

export interface Normalised {
  readonly doc: Json;
  /** A key stood twice in an object: the first value is in `extra`. */
  readonly repeated: boolean;
  /** Some of its numbers may be ExactNumbers. */
  readonly exact: boolean;
}

export interface Normaliser {
  object(input: ReadObject, context: Context): Normalised;
  /** Undefined when the text is no line of a known format. */
  line(text: string, context: Context): Normalised | undefined;
}

const SHAPES_BY_KEY = new Map<string, Shape[]>();
for (const shape of SHAPES) {
  for (const key of shape.keys) SHAPES_BY_KEY.set(key, [...(SHAPES_BY_KEY.get(key) ?? []), shape]);
}

export function createNormaliser(time: TimeParser): Normaliser {
  function normalise(input: ReadObject, context: Context, depth: number, wraps: boolean): Draft {
    let source = input.value;
    const shapes = shapesOf(source);
    for (const { rebuild } of shapes) if (rebuild !== undefined) source = rebuild(source);
    const draft = createDraft(
      source,
      shapes.flatMap(({ unfold }) => unfold ?? []),
    );
    for (const [path, value] of input.repeated) draft.aside(path, value);
    draft.repeated = input.repeated.length > 0;
    draft.exact = input.exact;
    settleLevel(draft, shapes);
    settleMessage(draft, shapes);
    settleTime(draft, shapes);
    settleError(draft);
    for (const { moves } of shapes) for (const from in moves) draft.move(from, moves[from]!);
    draft.close(shapes.length > 0);
    const wrapping = wraps || shapes.some((shape) => isWrapper(shape, draft.doc));
    return unwrap(draft, context, depth, wrapping);
  }

  /** First readable time wins; a group such as `{ epochSecond, nanoOfSecond }` counts as one. */
  function settleTime(draft: Draft, shapes: readonly Shape[]): void {
    const { doc } = draft;
    const own = time.parse(doc.timestamp) === undefined ? '@timestamp' : 'timestamp';
    if (time.parse(draft.find(own)) !== undefined) {
      const other = own === 'timestamp' ? '@timestamp' : 'timestamp';
      const rest = draft.take(other);
      // Not touched where it stands already: both paths write the fields in the same order.
      if (own === '@timestamp') doc.timestamp = draft.take(own);
      if (rest !== undefined && rest !== doc.timestamp) draft.aside(other, rest);
      return;
    }
    const paths = [...shapes.flatMap((shape) => shape.time ?? []), ...USUAL_NAMES.time];
    for (const path of ['timestamp', '@timestamp', ...paths]) {
      const value = draft.find(path);
      const ms = isObject(value) ? fromParts(value) : isDay(value) ? undefined : time.parse(value);
      // A small number is a duration.
      if (ms === undefined || ms < LEAST_MS) continue;
      for (const name of ['timestamp', '@timestamp']) if (name !== path) draft.setAside(name);
      // Kept as it is where the field can hold it; conform.ts writes any other form canonically and keeps the original.
      if (isObject(value)) {
        if (path === 'timestamp' || path === '@timestamp') draft.setAside(path);
        doc.timestamp = time.iso(ms);
      } else {
        draft.take(path);
        doc.timestamp = value;
      }
      return;
    }
    // Google Cloud's other form: two fields of the record itself, which stay where they are.
    const apart = fromParts({ seconds: draft.find('timestampSeconds'), nanos: draft.find('timestampNanos') });
    if (apart !== undefined && apart >= LEAST_MS) {
      for (const name of ['timestamp', '@timestamp']) draft.setAside(name);
      doc.timestamp = time.iso(apart);
      return;
    }
    // None: conform.ts says that what stands there is no time.
    if (doc.timestamp === undefined) doc.timestamp = draft.take('@timestamp');
    else draft.setAside('@timestamp');
    if (doc.timestamp === undefined) delete doc.timestamp;
  }

  /** Seconds and nanoseconds apart, as Log4j and Google Cloud write them. */
  function fromParts(value: Json): number | undefined {
    const seconds = time.parse(value.epochSecond ?? value.seconds);
    const nanos = Number(value.nanoOfSecond ?? value.nanos ?? 0);
    return seconds === undefined || !(nanos >= 0 && nanos < 1e9) ? undefined : seconds + Math.floor(nanos / 1e6);
  }

  /** A JSON document in the message. Of a wrapper it becomes the record, of any other record it adds what is lacking. */
  function unwrap(draft: Draft, context: Context, depth: number, shaped: boolean): Draft {
    const { message } = draft.doc;
    if (typeof message !== 'string' || depth >= MAX_WRAPPERS) return draft;
    const wrapper = shaped || (draft.doc.level === undefined && !context.hasId);
    let inner: Draft | undefined;
    if (looksLikeObject(message)) {
      const read = readObject(message);
      if (read !== undefined) inner = normalise(read, context, depth + 1, false);
    }
    if (inner === undefined && shaped) inner = lineDraft(message.replace(LINE_END, ''), context, depth + 1);
    if (inner === undefined) return draft;
    if (wrapper) fillGaps(inner, draft, message, time);
    else addLacking(draft, inner);
    return wrapper ? inner : draft;
  }

  function lineDraft(text: string, context: Context, depth: number): Draft | undefined {
    const line = readLine(text, context.recordMs);
    return line && normalise({ value: line.record, repeated: [], exact: false }, context, depth, line.wraps);
  }

  return {
    object: (input, context) => normalise(input, context, 0, false),
    line: (text, context) => lineDraft(text, context, 0),
  };
}

/** Cheap look before parsing: does the text start with a brace? */
export function looksLikeObject(text: string): boolean {
  return text.charCodeAt(0) === 123 || text.trimStart().charCodeAt(0) === 123;
}

function shapesOf(doc: Json): readonly Shape[] {
  const candidates = new Set<Shape>();
  for (const key in doc) for (const shape of SHAPES_BY_KEY.get(key) ?? []) candidates.add(shape);
  if (candidates.size === 0) return [];
  return SHAPES.filter((shape) => candidates.has(shape) && (shape.is === undefined || shape.is(doc)));
}

function isWrapper({ wraps }: Shape, doc: Json): boolean {
  return wraps === 'always' || (wraps !== undefined && doc.level === undefined);
}

function isDay(value: unknown): boolean {
  return typeof value === 'string' && value.length <= 10 && value.includes('-');
}

/** The first of the names that holds a level; what stood there is kept where the name for it is another. */
function settleLevel(draft: Draft, shapes: readonly Shape[]): void {
  const scale = shapes.find((shape) => shape.scale !== undefined)?.scale;
  const own = normaliseLevel(draft.doc.level, scale);
  const others = [...shapes.flatMap(({ level }) => level ?? []), 'level', ...USUAL_NAMES.level];
  const paths = own !== undefined && typeof draft.doc.level === 'string' && NORMAL_LEVELS.has(own) ? ['level'] : others;
  let found: { path: string; name: string } | undefined;
  for (const path of paths) {
    const value = draft.find(path);
    const name = normaliseLevel(value, scale);
    if (name === undefined) continue;
    found ??= { path, name };
    // A number of no known scale makes way for any name, and only for that.
    if (NORMAL_LEVELS.has(name) || !/^\d/.test(name)) {
      found = { path, name };
      break;
    }
  }
  const { doc } = draft;
  if (found === undefined) {
    const silent = shapes.find((shape) => shape.silent !== undefined)?.silent;
    if (silent !== undefined && doc.level === undefined) doc.level = silent;
    return;
  }
  const { path, name } = found;
  const original = path === 'level' ? doc.level : draft.take(path);
  if (path !== 'level' && doc.level !== undefined && doc.level !== null) draft.aside('level', doc.level);
  doc.level = name;
  if (original !== name) draft.aside(path, original);
}

function settleMessage(draft: Draft, shapes: readonly Shape[]): void {
  const { doc } = draft;
  if (doc.message !== undefined && doc.message !== null) return;
  for (const path of [...shapes.flatMap(({ message }) => message ?? []), ...USUAL_NAMES.message]) {
    const value = draft.find(path);
    if (typeof value !== 'string' || value === '') continue;
    draft.take(path);
    // Docker and its kin end each line as it was written.
    doc.message = path === 'log' ? value.replace(LINE_END, '') : value;
    return;
  }
}

/** Names that others give the parts of an error. */
const ERROR_PARTS: readonly [from: string, to: string][] = [
  ['type', 'name'],
  ['kind', 'name'],
  ['class', 'name'],
  ['className', 'name'],
  ['stack_trace', 'stack'],
  ['stacktrace', 'stack'],
  ['stackTrace', 'stack'],
];

/** Would an `error` group change here? */
export function isForeignError(error: Json): boolean {
  return ERROR_PARTS.some(([from, to]) => error[from] !== undefined && error[to] === undefined);
}

/** `err`, `exception`, or an error given as text: all become the `error` group. */
function settleError(draft: Draft): void {
  const { doc } = draft;
  for (const name of ERROR_NAMES) {
    const value = doc[name];
    if (doc.error !== undefined || !(isObject(value) || typeof value === 'string')) continue;
    // A text of several lines has the stack below its first.
    doc.error = typeof value === 'string' && value.includes('\n') ? { stack: value } : value;
    delete doc[name];
  }
  if (typeof doc.error === 'string') doc.error = { message: doc.error };
  if (isObject(doc.error)) for (const [from, to] of ERROR_PARTS) draft.move(`error.${from}`, `error.${to}`);
}

/** The wrapper's own fields into the record it wraps: where something stands there already, into its `extra`. */
function fillGaps(inner: Draft, wrapper: Draft, message: string, time: TimeParser): void {
  const { doc } = inner;
  if (time.parse(doc.timestamp) === undefined) inner.setAside('timestamp');
  inner.repeated ||= wrapper.repeated;
  inner.exact ||= wrapper.exact;
  for (const key of Object.keys(wrapper.doc)) {
    const value = wrapper.doc[key];
    if (key === 'message' && typeof doc.message === 'string') continue;
    if (key === 'extra' && isObject(value)) for (const name of Object.keys(value)) inner.aside(name, value[name]);
    else if (FIELD_MAP.get(key) instanceof Map && isObject(value)) {
      for (const part of Object.keys(value)) {
        if (!inner.put(`${key}.${part}`, value[part])) inner.aside(`${key}.${part}`, value[part]);
      }
    } else if (doc[key] === undefined) doc[key] = key === 'message' ? message : value;
    else if (doc[key] !== value) inner.aside(key, value);
  }
}

/** What a JSON document in a message adds to the record whose message it is. */
function addLacking(draft: Draft, inner: Draft): void {
  const { doc } = draft;
  draft.repeated ||= inner.repeated;
  draft.exact ||= inner.exact;
  for (const key of Object.keys(inner.doc)) {
    const value = inner.doc[key];
    if (key === 'extra' && isObject(value)) for (const name of Object.keys(value)) draft.aside(name, value[name]);
    else if (NOT_FROM_A_MESSAGE.has(key) || key.includes('.') || doc[key] !== undefined) draft.aside(key, value);
    else doc[key] = value;
  }
}

/** Puts a value into the document's `extra`, over nothing. */
export function setAside(doc: Json, name: string, value: unknown, names = createFreeNames()): void {
  if (!isObject(doc.extra)) doc.extra = doc.extra === undefined ? Object.create(null) : { extra: doc.extra };
  const extra = doc.extra as Json;
  extra[names.free(extra, name)] = value;
}

type Draft = ReturnType<typeof createDraft>;

/**
 * A record whose values can be moved: a shallow copy, of which a group is copied when it is first written to. `unfold` names
 * groups whose contents belong to the top level.
 */
function createDraft(source: Json, unfold: readonly string[]) {
  const doc: Json = Object.create(null);
  /** Groups where the catalogue has a text: `service`, `host`, `event` of the Elastic Common Schema. */
  const misfits: Json = Object.create(null);
  const owned = new Set<object>();
  const names = createFreeNames();
  let ownsExtra = false;

  function aside(name: string, value: unknown): void {
    if (!ownsExtra && isObject(doc.extra)) doc.extra = copy(doc.extra);
    ownsExtra = true;
    setAside(doc, name, value, names);
  }

  function copy(group: object): Json {
    const own: Json = Object.assign(Object.create(null), group);
    owned.add(own);
    return own;
  }

  function own(holder: Json, key: string): Json {
    const group = holder[key] as Json;
    if (owned.has(group)) return group;
    const own = copy(group);
    holder[key] = own;
    return own;
  }

  /** A path's first name and the rest; undefined when there is no group of that name. */
  function step(holder: Json, path: string): [key: string, rest: string] | undefined {
    const dot = path.indexOf('.');
    const key = path.slice(0, dot);
    return dot > 0 && Object.hasOwn(holder, key) && isObject(holder[key]) ? [key, path.slice(dot + 1)] : undefined;
  }

  function findIn(holder: Json, path: string): unknown {
    if (Object.hasOwn(holder, path)) return holder[path];
    const inside = step(holder, path);
    return inside && findIn(holder[inside[0]] as Json, inside[1]);
  }

  function takeFrom(holder: Json, path: string): unknown {
    if (Object.hasOwn(holder, path)) {
      const value = holder[path];
      delete holder[path];
      return value;
    }
    const inside = step(holder, path);
    if (inside === undefined || findIn(holder[inside[0]] as Json, inside[1]) === undefined) return undefined;
    const group = own(holder, inside[0]);
    const value = takeFrom(group, inside[1]);
    if (isEmpty(group)) delete holder[inside[0]];
    return value;
  }

  const find = (path: string): unknown => findIn(doc, path) ?? findIn(misfits, path);
  const take = (path: string): unknown => takeFrom(doc, path) ?? takeFrom(misfits, path);

  /** False when the place is taken. */
  function put(path: string, value: unknown): boolean {
    const parts = path.split('.');
    const last = parts.pop()!;
    let holder = doc;
    for (const part of parts) {
      if (part === '') return false;
      if (!Object.hasOwn(holder, part) || holder[part] === null) holder[part] = copy({});
      else if (!isObject(holder[part])) return false;
      holder = own(holder, part);
    }
    if (last === '' || (Object.hasOwn(holder, last) && holder[last] !== null)) return false;
    holder[last] = value;
    return true;
  }

  /** `"call.status": x` becomes nested, so that every later stage sees one shape. */
  function nest(key: string, value: unknown): boolean {
    const head = key.slice(0, key.indexOf('.'));
    return FIELD_MAP.get(head) instanceof Map && key.length <= MAX_DOTTED && put(key, value);
  }

  function add(key: string, value: unknown): void {
    if (isObject(value) && isText(key)) misfits[key] = value;
    else doc[key] = value;
  }

  const keys = Object.keys(source);
  const groups = new Set(unfold.filter((name) => Object.hasOwn(source, name) && isObject(source[name])));
  for (const key of keys) if (!key.includes('.') && !groups.has(key)) add(key, source[key]);
  for (const key of keys) if (key.includes('.') && !nest(key, source[key])) doc[key] = source[key];
  for (const name of groups) {
    const group = source[name] as Json;
    for (const key of Object.keys(group)) {
      const taken = Object.hasOwn(doc, key) || Object.hasOwn(misfits, key);
      if (taken || (key.includes('.') && !nest(key, group[key]))) aside(`${name}.${key}`, group[key]);
      else if (!key.includes('.')) add(key, group[key]);
    }
  }

  return {
    doc,
    repeated: false,
    exact: false,
    aside,
    /** The value at a path, or under that very name; undefined when there is none. */
    find,
    /** The same, taken out, and with it every group that this leaves empty. */
    take,
    put,
    /** To `extra`, when there is something. */
    setAside(path: string): void {
      const value = take(path);
      if (value !== undefined) aside(path, value);
    },
    /** Moves a plain value when its place is free; it stays otherwise. */
    move(from: string, to: string): void {
      const value = find(from);
      if (value === undefined || (typeof value === 'object' && !isNumber(value))) return;
      if (to.startsWith('extra.')) aside(to.slice('extra.'.length), take(from));
      else if (put(to, value)) take(from);
    },
    /** Groups that are no text: beside a text, or as a known shape has them, they go to `extra`. */
    close(foreign: boolean): void {
      for (const name of Object.keys(misfits)) {
        const group = misfits[name] as Json;
        if (!foreign && doc[name] === undefined) doc[name] = group;
        else for (const key of Object.keys(group)) aside(`${name}.${key}`, group[key]);
      }
    },
  };
}

function isEmpty(group: Json): boolean {
  for (const _ in group) return false;
  return true;
}

/** Does the catalogue have a plain value under this name? */
function isText(key: string): boolean {
  const type = FIELD_MAP.get(key);
  return typeof type === 'string' && type !== 'flattened' && type !== 'raw';
}

function isNumber(value: object | null): boolean {
  return value instanceof ExactNumber;
}
