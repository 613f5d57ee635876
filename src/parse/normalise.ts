// Brings foreign shapes to the catalogue's: objects by the tables of shapes.ts, lines by the formats below. In: a parsed object
// from any producer, or a line of text; out: a new object in the catalogue's vocabulary. Guarantee: nothing is deleted: what has
// no place in the catalogue stays where it was, what finds its place taken goes to `extra`, and no word of a line is lost.
// Linear: a group is copied once, however much moves, and only the beginning of a line is examined.
import {
  createFreeNames,
  FIELD_MAP,
  LEVEL_SCALES,
  NORMAL_LEVELS,
  normaliseLevel,
  setAside,
  type TimeParser,
} from './conform.ts';
import { ExactNumber, isObject, type ReadObject, readObject } from './json.ts';
import {
  createPlans,
  ERROR_MOVES,
  ERROR_NAMES,
  type GroupMoves,
  isWrapper,
  type Path,
  type Plan,
  toPath,
} from './shapes.ts';

type Json = Record<string, unknown>;

/** A longer dotted name is not a path into one of the catalogue's groups. */
const MAX_DOTTED = 256;
/** A record inside a message inside a record …: no shipper nests deeper. */
const MAX_WRAPPERS = 4;
/** The year 2000: an earlier value under a time's name is something else. */
const LEAST_MS = 946_684_800_000;
const LINE_END = /\r?\n$/;

/**
 * Fields that a JSON document in the message cannot set when the record is not a wrapper, so that a logged text forges nothing. A
 * record always has a `message`, and `kafka` is not the producer's to set.
 */
const NOT_FROM_A_MESSAGE: ReadonlySet<string> = new Set(
  (
    'level severity timestamp time tags service environment host tenantId eventId event error call http queue db process ' +
    'system message kafka'
  ).split(' '),
);

interface Context {
  /** The record's header carries an event id: logpipe's own transport sent it, so nothing wraps it. */
  readonly hasId: boolean;
  /** Record time in ms; supplies the year where a line has none. */
  readonly recordMs: number;
}

export interface Normalised {
  readonly doc: Json;
  /** An object had a key twice: the first value is in `extra`. */
  readonly repeated: boolean;
  /** Some of its numbers may be ExactNumbers. */
  readonly exact: boolean;
}

interface Normaliser {
  object(input: ReadObject, context: Context): Normalised;
  /** Undefined when the text is not a line of a known format. */
  line(text: string, context: Context): Normalised | undefined;
}

const OWN_LEVEL = [toPath('level')];
const TIMES = { timestamp: toPath('timestamp'), '@timestamp': toPath('@timestamp') };
const TIMESTAMP_PARTS = { seconds: toPath('timestampSeconds'), nanos: toPath('timestampNanos') };

/** @param onShape is told the name of each shape or format that is recognised */
export function createNormaliser(time: TimeParser, onShape?: (name: string) => void): Normaliser {
  const plan = createPlans();

  function normalise(input: ReadObject, context: Context, depth: number, wraps: boolean): Draft {
    let source = input.value;
    const said = plan(source);
    const { shapes } = said;
    if (onShape !== undefined) for (const { name } of shapes) onShape(name);
    for (const { rebuild } of shapes) if (rebuild !== undefined) source = rebuild(source);
    const draft = new Draft(source, said.unfold);
    for (const [path, value] of input.repeated) draft.aside(path, value);
    draft.repeated = input.repeated.length > 0;
    draft.exact = input.exact;
    placeLevel(draft, said);
    placeMessage(draft, said);
    placeTime(draft, said);
    placeError(draft);
    for (const move of said.moves) draft.move(move);
    draft.close(shapes.length > 0);
    const wrapping = wraps || shapes.some((shape) => isWrapper(shape, draft.doc));
    return unwrap(draft, context, { depth, shaped: wrapping, lendsMessage: said.lendsMessage });
  }

  /** The first readable time wins; a group such as `{ epochSecond, nanoOfSecond }` counts as one. */
  function placeTime(draft: Draft, plan: Plan): void {
    const { doc } = draft;
    const { timestamp, '@timestamp': atTimestamp } = TIMES;
    const own = time.parse(doc.timestamp) === undefined ? atTimestamp : timestamp;
    if (time.parse(draft.find(own)) !== undefined) {
      const rest = draft.take(own === timestamp ? atTimestamp : timestamp);
      // Left alone where it already stands: both paths write the fields in the same order.
      if (own === atTimestamp) doc.timestamp = draft.take(own);
      if (rest !== undefined && rest !== doc.timestamp)
        draft.aside(own === timestamp ? '@timestamp' : 'timestamp', rest);
      return;
    }
    for (const path of plan.time) {
      const value = draft.find(path);
      if (value === undefined) continue;
      const ms = isObject(value) ? fromParts(value) : isDay(value) ? undefined : time.parse(value);
      // A smaller number is a duration.
      if (ms === undefined || ms < LEAST_MS) continue;
      const { text } = path;
      if (text !== 'timestamp') draft.setAside(timestamp);
      if (text !== '@timestamp') draft.setAside(atTimestamp);
      // Kept unchanged where the field can hold it; conform.ts writes any other form canonically and keeps the original.
      if (isObject(value)) {
        if (text === 'timestamp' || text === '@timestamp') draft.setAside(path);
        doc.timestamp = time.iso(ms);
      } else {
        draft.take(path);
        doc.timestamp = value;
      }
      return;
    }
    // Google Cloud's other form: two fields of the record itself, which stay where they are.
    const { seconds, nanos } = TIMESTAMP_PARTS;
    const apart = fromParts({ seconds: draft.find(seconds), nanos: draft.find(nanos) });
    if (apart !== undefined && apart >= LEAST_MS) {
      draft.setAside(timestamp);
      draft.setAside(atTimestamp);
      doc.timestamp = time.iso(apart);
      return;
    }
    // There is none: conform.ts will find that what stands there is not a time.
    if (doc.timestamp === undefined) doc.timestamp = draft.take(atTimestamp);
    else draft.setAside(atTimestamp);
    if (doc.timestamp === undefined) delete doc.timestamp;
  }

  /** Seconds and nanoseconds in separate fields, as Log4j and Google Cloud write them. */
  function fromParts(value: Json): number | undefined {
    const seconds = time.parse(value.epochSecond ?? value.seconds);
    const nanos = Number(value.nanoOfSecond ?? value.nanos ?? 0);
    return seconds === undefined || !(nanos >= 0 && nanos < 1e9) ? undefined : seconds + Math.floor(nanos / 1e6);
  }

  /** A JSON document in the message: in a wrapper it becomes the record, in any other record it adds what is missing. */
  function unwrap(
    draft: Draft,
    context: Context,
    { depth, shaped, lendsMessage }: { depth: number; shaped: boolean; lendsMessage: boolean },
  ): Draft {
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
    if (wrapper) fillGaps(inner, draft, lendsMessage ? message : undefined, time);
    else addLacking(draft, inner);
    return wrapper ? inner : draft;
  }

  function lineDraft(text: string, context: Context, depth: number): Draft | undefined {
    const line = readLine(text, context.recordMs, onShape);
    return line && normalise({ value: line.record, repeated: [], exact: false }, context, depth, line.wraps);
  }

  return {
    object: (input, context) => normalise(input, context, 0, false),
    line: (text, context) => lineDraft(text, context, 0),
  };
}

/** A cheap check before parsing: does the text start with a brace? */
export function looksLikeObject(text: string): boolean {
  return text.charCodeAt(0) === 123 || text.trimStart().charCodeAt(0) === 123;
}

function isDay(value: unknown): boolean {
  return typeof value === 'string' && value.length <= 10 && value.includes('-');
}

/** Takes the first name that holds a level; the original is kept if it was written differently. */
function placeLevel(draft: Draft, { level, scale, silent }: Plan): void {
  const own = normaliseLevel(draft.doc.level, scale);
  const isOwn = own !== undefined && typeof draft.doc.level === 'string' && NORMAL_LEVELS.has(own);
  let found: { path: Path; name: string } | undefined;
  for (const path of isOwn ? OWN_LEVEL : level) {
    const value = draft.find(path);
    const name = normaliseLevel(value, scale);
    if (name === undefined) continue;
    found ??= { path, name };
    // A number of no known scale gives way to any name, but to nothing else.
    if (NORMAL_LEVELS.has(name) || !/^\d/.test(name)) {
      found = { path, name };
      break;
    }
  }
  const { doc } = draft;
  if (found === undefined) {
    if (silent !== undefined && doc.level === undefined) doc.level = silent;
    return;
  }
  const { path, name } = found;
  const isMoved = path.text !== 'level';
  const original = isMoved ? draft.take(path) : doc.level;
  if (isMoved && doc.level !== undefined && doc.level !== null) draft.aside('level', doc.level);
  doc.level = name;
  if (original !== name) draft.aside(path.text, original);
}

function placeMessage(draft: Draft, plan: Plan): void {
  const { doc } = draft;
  if (doc.message !== undefined && doc.message !== null) return;
  for (const path of plan.message) {
    const value = draft.find(path);
    if (typeof value !== 'string' || value === '') continue;
    draft.take(path);
    // Docker and the like keep the end of each line.
    doc.message = path.text === 'log' ? value.replace(LINE_END, '') : value;
    return;
  }
}

/** `err`, `exception`, or an error given as text: all become the `error` group. */
function placeError(draft: Draft): void {
  const { doc } = draft;
  for (const name of ERROR_NAMES) {
    const value = doc[name];
    if (doc.error !== undefined || !(isObject(value) || typeof value === 'string')) continue;
    // A text of several lines has the stack after its first line.
    doc.error = typeof value === 'string' && value.includes('\n') ? { stack: value } : value;
    delete doc[name];
  }
  if (typeof doc.error === 'string') doc.error = { message: doc.error };
  if (isObject(doc.error)) for (const move of ERROR_MOVES) draft.move(move);
}

/**
 * Puts the wrapper's own fields into the record it wraps, or into its `extra` where something stands already.
 * @param message of the wrapper, for a record that has none
 */
function fillGaps(inner: Draft, wrapper: Draft, message: string | undefined, time: TimeParser): void {
  const { doc } = inner;
  if (time.parse(doc.timestamp) === undefined) inner.setAside(TIMES.timestamp);
  inner.repeated ||= wrapper.repeated;
  inner.exact ||= wrapper.exact;
  for (const key of Object.keys(wrapper.doc)) {
    const value = wrapper.doc[key];
    if (key === 'message' && (typeof doc.message === 'string' || message === undefined)) continue;
    if (key === 'extra' && isObject(value)) for (const name of Object.keys(value)) inner.aside(name, value[name]);
    else if (FIELD_MAP.get(key) instanceof Map && isObject(value)) {
      for (const part of Object.keys(value)) {
        if (!inner.put([key, ...part.split('.')], value[part])) inner.aside(`${key}.${part}`, value[part]);
      }
    } else if (doc[key] === undefined) doc[key] = key === 'message' ? message : value;
    else if (doc[key] !== value) inner.aside(key, value);
  }
}

/** Adds to a record what the JSON document in its message has and the record lacks. */
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

/**
 * A record whose values can be moved: a shallow copy, in which a group is copied when it is first written to. A class, because one is made
 * for each line.
 */
class Draft {
  readonly doc: Json = Object.create(null);
  repeated = false;
  exact = false;
  /** Groups where the catalogue has a text: `service`, `host` and `event` in the Elastic Common Schema. */
  private misfits: Json | undefined = undefined;
  private readonly owned = new Set<object>();
  private readonly names = createFreeNames();
  private ownsExtra = false;
  /** Its keys with dots that belong to no group of the catalogue. */
  private readonly dotted: string[] = [];

  /** @param unfold names groups whose contents belong to the top level */
  constructor(source: Json, unfold: readonly string[]) {
    const { doc } = this;
    const groups = unfold.filter((name) => Object.hasOwn(source, name) && isObject(source[name]));
    const dotted: string[] = [];
    for (const key of Object.keys(source)) {
      if (key.includes('.')) dotted.push(key);
      else if (!groups.includes(key)) this.add(key, source[key]);
    }
    for (const key of dotted) {
      if (this.nest(key, source[key])) continue;
      doc[key] = source[key];
      this.dotted.push(key);
    }
    for (const name of groups) {
      const group = source[name] as Json;
      for (const key of Object.keys(group)) {
        const taken = Object.hasOwn(doc, key) || this.misfits?.[key] !== undefined;
        if (taken || (key.includes('.') && !this.nest(key, group[key]))) this.aside(`${name}.${key}`, group[key]);
        else if (!key.includes('.')) this.add(key, group[key]);
      }
    }
  }

  /** Puts a value into `extra`. */
  aside(name: string, value: unknown): void {
    const { doc } = this;
    if (!this.ownsExtra && isObject(doc.extra)) doc.extra = this.copy(doc.extra);
    this.ownsExtra = true;
    setAside(doc, name, value, this.names);
  }

  /** The value at a path, or under that literal name; undefined when there is none. */
  find(path: Path): unknown {
    return findIn(this.doc, path) ?? (this.misfits === undefined ? undefined : findIn(this.misfits, path));
  }

  /** The same, removed together with every group that this leaves empty. */
  take(path: Path): unknown {
    return (
      this.takeFrom(this.doc, path) ?? (this.misfits === undefined ? undefined : this.takeFrom(this.misfits, path))
    );
  }

  /** False when the place is taken. */
  put(path: readonly string[], value: unknown): boolean {
    const end = path.length - 1;
    let holder = this.doc;
    for (let i = 0; i < end; i++) {
      const part = path[i]!;
      if (part === '') return false;
      if (!Object.hasOwn(holder, part) || holder[part] === null) holder[part] = this.copy({});
      else if (!isObject(holder[part])) return false;
      holder = this.own(holder, part);
    }
    const last = path[end]!;
    if (last === '' || (Object.hasOwn(holder, last) && holder[last] !== null)) return false;
    holder[last] = value;
    return true;
  }

  /** Moves the value to `extra`, if there is one. */
  setAside(path: Path): void {
    const value = this.take(path);
    if (value !== undefined) this.aside(path.text, value);
  }

  /** Moves plain values, each when its place is free; they stay otherwise. */
  move({ head, moves }: GroupMoves): void {
    const { doc, misfits, dotted } = this;
    const isThere = doc[head] !== undefined || misfits?.[head] !== undefined;
    if (!isThere && !dotted.some((key) => key.startsWith(head))) return;
    for (const { from, to } of moves) {
      const value = this.find(from);
      if (value === undefined || (typeof value === 'object' && !(value instanceof ExactNumber))) continue;
      if (to[0] === 'extra') this.aside(to.slice(1).join('.'), this.take(from));
      else if (this.put(to, value)) this.take(from);
    }
  }

  /** Groups in the place of a text go to `extra` when there is a text too, or when a known shape has them. */
  close(foreign: boolean): void {
    const { doc, misfits } = this;
    if (misfits === undefined) return;
    for (const name of Object.keys(misfits)) {
      const group = misfits[name] as Json;
      if (!foreign && doc[name] === undefined) doc[name] = group;
      else for (const key of Object.keys(group)) this.aside(`${name}.${key}`, group[key]);
    }
  }

  private add(key: string, value: unknown): void {
    if (isObject(value) && isText(key)) {
      this.misfits ??= Object.create(null) as Json;
      this.misfits[key] = value;
    } else this.doc[key] = value;
  }

  /** `"call.status": x` becomes nested, so that every later stage sees one shape. */
  private nest(key: string, value: unknown): boolean {
    const head = key.slice(0, key.indexOf('.'));
    return FIELD_MAP.get(head) instanceof Map && key.length <= MAX_DOTTED && this.put(key.split('.'), value);
  }

  private takeFrom(holder: Json, path: Path): unknown {
    const { text, head, rest } = path;
    if (Object.hasOwn(holder, text)) {
      const value = holder[text];
      delete holder[text];
      return value;
    }
    if (rest === undefined || !hasGroup(holder, head)) return undefined;
    const given = holder[head] as Json;
    const found = findIn(given, rest);
    if (found === undefined) return undefined;
    // Then there is no need to copy it.
    if (holdsOnly(given, rest.text)) {
      delete holder[head];
      return found;
    }
    const group = this.own(holder, head);
    const value = this.takeFrom(group, rest);
    if (rest.rest !== undefined && isEmpty(group)) delete holder[head];
    return value;
  }

  private own(holder: Json, key: string): Json {
    const group = holder[key] as Json;
    if (this.owned.has(group)) return group;
    const own = this.copy(group);
    holder[key] = own;
    return own;
  }

  private copy(group: object): Json {
    const own: Json = Object.assign(Object.create(null), group);
    this.owned.add(own);
    return own;
  }
}

function findIn(holder: Json, { text, head, rest }: Path): unknown {
  if (Object.hasOwn(holder, text)) return holder[text];
  return rest !== undefined && hasGroup(holder, head) ? findIn(holder[head] as Json, rest) : undefined;
}

/** Is there a group of that name? */
function hasGroup(holder: Json, name: string): boolean {
  return Object.hasOwn(holder, name) && isObject(holder[name]);
}

function holdsOnly(group: Json, name: string): boolean {
  for (const key in group) if (key !== name) return false;
  return Object.hasOwn(group, name);
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

// ---- lines that are not JSON: Kubernetes (CRI), syslog, logfmt, and the usual beginnings of text logs ----

// A line becomes a record in somebody's vocabulary, which shapes.ts then brings to ours; or nothing, if its format is unknown.

interface Line {
  readonly record: Json;
  /** The line wraps what somebody else wrote: a JSON document in its message is the record. */
  readonly wraps: boolean;
}

interface LineFormat {
  readonly name: string;
  /** Shown in docs/shapes.md with what becomes of it. */
  readonly example: string;
  /** `recordMs` supplies the year where a line has none. */
  readonly read: (text: string, recordMs: number) => Line | undefined;
}

/** As much of a line as it takes to recognise its format. */
const MAX_HEAD = 600;

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const CRI = /^(\d{4}-\d\d-\d\dT[\d:.]{8,20}(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::\w{1,20}){0,3} /;
const SYSLOG_5424 = /^<(\d{1,3})>1 (\S{1,64}) (\S{1,255}) (\S{1,128}) (\S{1,128}) (\S{1,128}) /;
const SYSLOG_3164 =
  /^(?:<(\d{1,3})>)?(?:([A-Z][a-z]{2}) {1,2}(\d{1,2})(?: (\d{4}))? (\d\d:\d\d:\d\d(?:\.\d{1,9})?)|(\d{4}-\d\d-\d\dT[\d:.]{8,20}(?:Z|[+-]\d\d:\d\d))) /;
const SYSLOG_HOST = /^([\w.:-]{1,255}) /;
const SYSLOG_TAG = /^([^\s:[]{1,128})(?:\[([^\s\]]{1,128})\])?:(?= |$)/;
const PRIORITY = /^<(\d{1,3})>/;
const KLOG = /^([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d{1,9}) {1,10}\d{1,10} [^\s:\]]{1,255}:\d{1,7}\] /;
const ACCESS = /^\S{1,255} \S{1,64} \S{1,128} \[(\d\d)\/([A-Z][a-z]{2})\/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})\] "/;
const TIME_FIRST =
  /^\[?(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d)(?![\w:]))?/;
const PYTHON = /^(DEBUG|INFO|WARNING|ERROR|CRITICAL):[\w.-]{1,128}:/;
const NPM = /^(error|warn|info|http|verbose|debug|silly): /;
const LEVEL_FIRST = /^\[?(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)(?:\]|:|\s)/;
const LEVEL_WORDS = new Set(
  'trace debug verbose info notice warn warning error severe fatal crit critical alert emerg emergency panic log dbg inf wrn err ftl'.split(
    ' ',
  ),
);
const COLOUR = /\u001b\[[0-9;]{0,20}m/g;

/** In the order they are tried. */
export const LINE_FORMATS: readonly LineFormat[] = [
  {
    name: 'Kubernetes (CRI): containerd, CRI-O',
    example: '2026-11-28T14:22:41.607123456Z stdout F {"level":"error","message":"call failed","callId":"CA1"}',
    read(text) {
      const match = CRI.exec(text);
      if (match === null) return undefined;
      const [head, timestamp, stream, logtag] = match;
      return wrapping({ timestamp, stream, logtag, message: text.slice(head.length) });
    },
  },
  {
    name: 'syslog, RFC 5424',
    example:
      '<11>1 2026-11-28T14:22:41.607Z web1 su 411 ID47 [origin ip="10.0.0.1"] \'su root\' failed for lonvick on /dev/pts/8',
    read: syslog5424,
  },
  {
    name: 'syslog, RFC 3164 and files of rsyslog',
    example: '<11>Nov 28 14:22:41 web1 sshd[411]: error: kex_exchange_identification: banner line too long',
    read: syslog3164,
  },
  {
    name: 'a syslog priority before any text (systemd)',
    example: '<3>disk quota exceeded',
    read(text) {
      const match = PRIORITY.exec(text);
      const priority = Number(match?.[1] ?? 192);
      if (match === null || priority > 191) return undefined;
      return wrapping({ ...priorityFields(priority), message: text.slice(match[0].length) });
    },
  },
  {
    name: 'klog and glog',
    example: 'E1128 14:22:41.607123   1 reflector.go:125] Failed to list pods',
    read(text, recordMs) {
      const match = KLOG.exec(text);
      if (match === null) return undefined;
      const [, letter, month, day, clock] = match;
      const level = { I: 'info', W: 'warning', E: 'error', F: 'fatal' }[letter!];
      return whole(text, { level, timestamp: withYear(`${month}-${day}T${clock}Z`, recordMs) });
    },
  },
  {
    name: 'logfmt',
    example: 'time=2026-11-28T14:22:41.607Z level=error msg="call failed" callId=CA1',
    read: logfmt,
  },
  {
    name: 'a time first: Logback, Log4j, Spring Boot, Python, Laravel, nginx errors, PostgreSQL',
    example: '2026-11-28 14:22:41,607 - calls.worker - ERROR - provider timeout',
    read(text) {
      const match = TIME_FIRST.exec(text);
      if (match === null) return undefined;
      const [head, year, month, day, clock, fraction = '0', zone = ''] = match;
      const timestamp = `${year}-${month}-${day}T${clock}.${fraction.padEnd(3, '0')}${isoZone(zone)}`;
      return whole(text, { timestamp, level: levelAfter(text.slice(head.length, head.length + 160)) });
    },
  },
  {
    name: 'access log (common and combined): nginx, Apache',
    example: '10.0.0.1 - - [28/Nov/2026:14:22:41 +0000] "GET /calls HTTP/1.1" 502 157 "-" "curl/8"',
    read(text) {
      const match = ACCESS.exec(text);
      if (match === null) return undefined;
      const [, day, name, year, clock, zone] = match;
      const month = monthOf(name!);
      return month === undefined
        ? undefined
        : whole(text, { timestamp: `${year}-${month}-${day}T${clock}${isoZone(zone!)}` });
    },
  },
  {
    name: 'a level first: Winston’s `simple()`, Python’s default, Django',
    example: 'error: provider timeout {"callId":"CA1"}',
    read(text) {
      // Colours are ignored here, and kept in the message.
      const head = text.slice(0, MAX_HEAD).replace(COLOUR, '');
      const level = (NPM.exec(head) ?? PYTHON.exec(head) ?? LEVEL_FIRST.exec(head))?.[1];
      return level === undefined ? undefined : whole(text, { level });
    },
  },
];

/** The record a line of text stands for; undefined for plain prose. */
function readLine(text: string, recordMs: number, onShape?: (name: string) => void): Line | undefined {
  for (const format of LINE_FORMATS) {
    const line = format.read(text, recordMs);
    if (line === undefined) continue;
    onShape?.(format.name);
    return line;
  }
  return undefined;
}

function wrapping(record: Json): Line {
  return { record, wraps: true };
}

/** The whole line stays the message; fields found in it are added. */
function whole(text: string, found: Json): Line {
  const record: Json = { message: text };
  for (const [key, value] of Object.entries(found)) if (value !== undefined) record[key] = value;
  return { record, wraps: false };
}

function priorityFields(priority: number): Json {
  const severity = priority % 8;
  return {
    level: LEVEL_SCALES.syslog.steps[severity]![1],
    syslog: { priority, severity, facility: (priority - severity) / 8 },
  };
}

function syslog5424(text: string): Line | undefined {
  const match = SYSLOG_5424.exec(text);
  if (match === null || Number(match[1]) > 191) return undefined;
  const [head, priority, timestamp, host, appName, procId, msgId] = match;
  const { level, syslog } = priorityFields(Number(priority)) as { level: string; syslog: Json };
  const end = endOfStructuredData(text, head.length);
  const given = end === undefined ? '-' : text.slice(head.length, end);
  const elements = given === '-' ? undefined : structuredData(given);
  if (msgId !== '-') syslog.msgId = msgId;
  if (given !== '-' && elements === undefined) syslog.structuredData = given;
  return wrapping({
    ...(timestamp === '-' ? {} : { timestamp }),
    ...(host === '-' ? {} : { host }),
    ...writer(syslog, appName === '-' ? undefined : appName, procId === '-' ? undefined : procId),
    level,
    syslog,
    // rsyslog puts the space that ended the tag before the message.
    message: withoutCookie(text.slice(end ?? head.length).replace(/^ {2}(?! )/, ' ')),
    // Names that anybody may choose become no fields of the index.
    ...(elements === undefined ? {} : { extra: { structuredData: elements } }),
  });
}

/** Service and process of a syslog line. A process that is not named by a number goes to `syslog`. */
function writer(syslog: Json, service: string | undefined, procId: string | undefined): Json {
  const found: Json = service === undefined ? {} : { service };
  const pid = Number(procId);
  if (String(pid) === procId && Number.isSafeInteger(pid)) found.pid = pid;
  else if (procId !== undefined) syslog.procId = procId;
  return found;
}

/** More, or longer, structured data than this stay text: `extra` is bounded. */
const MAX_ELEMENTS = 100;
const MAX_DATA_LENGTH = 4_096;

/**
 * Structured data are `-`, or elements in brackets, `[name key="value" …]`, whose values escape `"`, `\` and `]`. Undefined when
 * what stands there is neither: then it belongs to the message.
 */
function endOfStructuredData(text: string, start: number): number | undefined {
  let at = start;
  if (text[at] === '-') at += 1;
  else {
    while (text[at] === '[') {
      const end = endOfElement(text, at, at === start);
      if (end === undefined) return undefined;
      at = end;
    }
  }
  return at > start && (at === text.length || text[at] === ' ') ? at : undefined;
}

function endOfElement(
  text: string,
  start: number,
  isFirst: boolean,
  onPair?: (key: string, value: string) => void,
): number | undefined {
  let at = endOfName(text, start + 1);
  if (at === start + 1) return undefined;
  // `[error] text` is a message without structured data.
  let isElement = !isFirst || text.slice(start, at).includes('@');
  for (;;) {
    const isSpaced = text[at] === ' ';
    while (text[at] === ' ') at += 1;
    if (text[at] === ']') return isElement ? at + 1 : undefined;
    if (!isSpaced) return undefined;
    const nameEnd = endOfName(text, at);
    if (nameEnd === at || !text.startsWith('="', nameEnd)) return undefined;
    let end = nameEnd + 2;
    while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
    if (end >= text.length) return undefined;
    onPair?.(text.slice(at, nameEnd), text.slice(nameEnd + 2, end));
    isElement = true;
    at = end + 1;
  }
}

function endOfName(text: string, start: number): number {
  let at = start;
  while (at < text.length && !' =]"'.includes(text[at]!)) at += 1;
  return at;
}

/** The elements by name, each a group of its pairs; a name that comes again makes a list. Undefined when there are too many. */
function structuredData(text: string): Json | undefined {
  if (text.length > MAX_DATA_LENGTH) return undefined;
  const elements: Json = Object.create(null);
  let count = 0;
  for (let at = 0; at < text.length; ) {
    const pairs: Json = Object.create(null);
    const name = text.slice(at + 1, endOfName(text, at + 1));
    at = endOfElement(text, at, at === 0, (key, value) => {
      count += 1;
      addTo(pairs, key, value.replace(/\\(["\\\]])/g, '$1'));
    })!;
    count += 1;
    addTo(elements, name, pairs);
  }
  return count > MAX_ELEMENTS ? undefined : elements;
}

function addTo(holder: Json, name: string, value: unknown): void {
  const there = holder[name];
  if (Array.isArray(there)) there.push(value);
  else holder[name] = there === undefined ? value : [there, value];
}

function syslog3164(text: string, recordMs: number): Line | undefined {
  const match = SYSLOG_3164.exec(text);
  if (match === null) return undefined;
  const [head, priority, monthName, day, year, clock, iso] = match;
  if (Number(priority ?? 0) > 191) return undefined;
  let timestamp = iso;
  if (timestamp === undefined) {
    const month = monthOf(monthName!);
    const date = `${month}-${day!.padStart(2, '0')}T${clock}Z`;
    timestamp = year === undefined ? withYear(date, recordMs) : realTime(`${year}-${date}`);
    if (month === undefined || timestamp === undefined) return undefined;
  }
  const { host, appName, procId, message } = sourceOf(text.slice(head.length));
  // Without a priority, "2026-11-28T14:22:41Z ERROR calls: …" looks alike.
  if (priority === undefined && host === undefined) return undefined;
  const { level, syslog } = (priority === undefined ? { syslog: {} } : priorityFields(Number(priority))) as {
    level?: string;
    syslog: Json;
  };
  return wrapping({
    timestamp,
    ...(host === undefined ? {} : { host }),
    ...writer(syslog, appName, procId),
    ...(level === undefined ? {} : { level }),
    ...(isEmpty(syslog) ? {} : { syslog }),
    message: withoutCookie(message),
  });
}

interface SyslogSender {
  readonly host?: string | undefined;
  readonly appName?: string | undefined;
  readonly procId?: string | undefined;
  readonly message: string;
}

/** `host tag[pid]: message`, or `tag: message` as programs write it on their own host; anything else is the message. */
function sourceOf(text: string): SyslogSender {
  const host = SYSLOG_HOST.exec(text)?.[1];
  if (host !== undefined && !/[^:]:$/.test(host) && !LEVEL_WORDS.has(host.toLowerCase())) {
    const rest = text.slice(host.length + 1);
    const tagged = withoutTag(rest);
    if (tagged !== undefined) return { host, ...tagged };
  }
  const tagged = withoutTag(text);
  return tagged === undefined || LEVEL_WORDS.has(tagged.appName?.toLowerCase() ?? '') ? { message: text } : tagged;
}

function withoutTag(text: string): SyslogSender | undefined {
  const match = SYSLOG_TAG.exec(text);
  if (match === null) return undefined;
  const [tag, appName, procId] = match;
  // Network devices number their messages, `12345: `, or begin with a code, `%SYS-5-CONFIG_I: `: neither names a program.
  const isName = /^[^%*\d]|^\d{1,64}[A-Za-z]/.test(appName!);
  return isName ? { appName, procId, message: text.slice(tag.length) } : { message: text };
}

/** JSON in syslog may be announced by a word: https://cee.mitre.org */
function withoutCookie(message: string): string {
  const text = message.charCodeAt(0) === 32 ? message.slice(1) : message;
  return text.startsWith('@cee:') ? text.slice(5).trimStart() : text.replace(/^\uFEFF/, '');
}

/** `+0100` and `UTC` in the form that Elasticsearch accepts. */
function isoZone(zone: string): string {
  return /^[+-]\d{4}$/.test(zone) ? `${zone.slice(0, 3)}:${zone.slice(3)}` : zone.replace(/^(?:UTC|GMT)$/, 'Z');
}

function monthOf(name: string): string | undefined {
  const index = MONTHS.indexOf(name);
  return index < 0 ? undefined : String(index + 1).padStart(2, '0');
}

/** `11-28T14:22:41Z` with the year that comes nearest to the record's time. */
function withYear(text: string, recordMs: number): string | undefined {
  const year = new Date(recordMs).getUTCFullYear();
  const distance = (candidate: number) => Math.abs(Date.parse(`${candidate}-${text}`) - recordMs);
  const best = [year, year - 1, year + 1].reduce((a, b) => (distance(b) < distance(a) ? b : a));
  return realTime(`${best}-${text}`);
}

/** The time itself, unless there is no such day or hour: V8 rolls 30 February over to March. */
function realTime(text: string): string | undefined {
  const ms = Date.parse(text);
  return Number.isFinite(ms) && new Date(ms).toISOString().startsWith(text.slice(0, 10)) ? text : undefined;
}

/** The level, before which such words may stand after a time: `[main]`, `1`, `---`, `name -`. */
function levelAfter(head: string): string | undefined {
  let at = 0;
  for (let words = 0; words < 6; words++) {
    while (' \t-|]:'.includes(head[at] ?? 'x')) at += 1;
    const bracketed = head[at] === '[' || head[at] === '(' || head[at] === '<';
    if (bracketed) at += 1;
    const start = at;
    while (at < head.length && !' \t]|:)>'.includes(head[at]!)) at += 1;
    const word = head.slice(start, at).replace(COLOUR, '');
    const name = word.slice(word.lastIndexOf('.') + 1);
    if (LEVEL_WORDS.has(name.toLowerCase()) && (bracketed || name === name.toUpperCase())) return name.toLowerCase();
    const named = head.startsWith(' - ', at);
    if (!(bracketed || named || /^\d{1,10}$/.test(word))) return undefined;
    if (bracketed) at = Math.max(at, head.indexOf(']', at));
  }
  return undefined;
}

const MAX_PAIRS = 1_000;

/** `key=value key="a value" …`: at least two pairs, one of them a level, a message or a time, and nothing else. */
function logfmt(text: string): Line | undefined {
  if (!/^[\w.@-]{1,64}=/.test(text)) return undefined;
  const record: Json = Object.create(null);
  let pairs = 0;
  let at = 0;
  while (at < text.length) {
    while (text.charCodeAt(at) <= 32) at += 1;
    if (at >= text.length) break;
    const start = at;
    while (at < text.length && text.charCodeAt(at) > 32 && text[at] !== '=' && text[at] !== '"') at += 1;
    const key = text.slice(start, at);
    if (key === '' || text[at] !== '=' || Object.hasOwn(record, key) || pairs >= MAX_PAIRS) return undefined;
    const end = endOfValue(text, at + 1);
    const raw = text.slice(at + 1, end);
    const value = raw.startsWith('"') ? unquoted(raw) : raw;
    if (value === undefined) return undefined;
    record[key] = value;
    pairs += 1;
    at = end;
  }
  const has = (key: string) => Object.hasOwn(record, key);
  if (pairs < 2 || !['level', 'lvl', 'severity', 'msg', 'message', 'time', 'ts', 'timestamp'].some(has))
    return undefined;
  if (!has('msg') && !has('message')) record.message = text;
  return { record, wraps: false };
}

function endOfValue(text: string, start: number): number {
  let at = start;
  if (text[at] !== '"') {
    while (at < text.length && text.charCodeAt(at) > 32) at += 1;
    return at;
  }
  for (at += 1; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at += 1;
  return Math.min(at + 1, text.length);
}

function unquoted(raw: string): string | undefined {
  try {
    return JSON.parse(raw) as string;
  } catch {
    // Go escapes a little more than JSON does.
    return raw.length > 1 && raw.endsWith('"') ? raw.slice(1, -1) : undefined;
  }
}
