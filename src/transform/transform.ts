// Parsed event -> the event as operators want it, or none: rename, set, remove, tag, drop and sample, a closed list in the
// configuration. In: what the parser made of a record. Out: the same kind of event; or a dropped one, which the counts may still see.
// Guarantee: the same record gives the same result in every role, at every reading; no value is lost but by remove, drop and sample
// (one that has to make room goes to `extra`, one that does not fit its new field too); nothing that was masked shows again, and
// what comes to a secret name is masked; never throws.
//
// Steps act one after the other, each on what the one before it left. What decides a record's place is not theirs to change: its
// id, its time, and what logpipe writes itself. A dropped event passes the later steps as well, because the counts must see the
// fields that they would see without the drop. Without steps there is no stage: the parser itself is returned.
import type { FieldType } from '../core/catalogue.ts';
import {
  type Condition,
  compileCondition,
  conditionSchema,
  type Scalar,
  type Test,
  type Where,
} from '../core/condition.ts';
import type { ConfigProblem } from '../core/config-loader.ts';
import { errorText } from '../core/errors.ts';
import { type Chunk, documentId, type RawRecord } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import {
  conform,
  createTimeParser,
  FIELD_MAP,
  type FieldMap,
  fits,
  NORMAL_LEVELS,
  normaliseLevel,
  setAside,
  type TimeParser,
} from '../parse/conform.ts';
import {
  ExactNumber,
  hasExactNumbers,
  isObject,
  keepsAll,
  toExactNumbers,
  toPlainNumbers,
  valueAt,
  writeJson,
} from '../parse/json.ts';
import type { ParsedEvent, ParseResult, Parser } from '../parse/parse.ts';

const ACTIONS = ['set', 'rename', 'remove', 'tag', 'drop', 'sample'] as const;
type Action = (typeof ACTIONS)[number];

const MAX_STEPS = 100;
const MAX_PATH = 256;
const MAX_PARTS = 8;
const MAX_TEXT = 1_000;

const name = { type: 'string', minLength: 1, maxLength: MAX_PATH };
const scalar = { type: ['string', 'number', 'boolean'] };
const words = { type: 'string', minLength: 1, maxLength: MAX_TEXT };

export const transformsSection = {
  type: 'array',
  description:
    'Steps between reading and indexing, in this order: each has one of `set`, `rename`, `remove`, `tag`, `drop`, `sample`, and may ' +
    'have `where` ([transforms](transforms.md)).',
  maxItems: MAX_STEPS,
  default: [],
  items: {
    type: 'object',
    additionalProperties: false,
    properties: {
      where: {
        type: 'object',
        minProperties: 1,
        maxProperties: 20,
        propertyNames: name,
        additionalProperties: conditionSchema({ startsWith: words, contains: words }),
      },
      set: {
        type: 'object',
        minProperties: 1,
        maxProperties: 50,
        propertyNames: name,
        additionalProperties: { anyOf: [scalar, { type: 'array', items: scalar, minItems: 1, maxItems: 50 }] },
      },
      rename: { type: 'object', minProperties: 1, maxProperties: 50, propertyNames: name, additionalProperties: name },
      remove: { type: 'array', minItems: 1, maxItems: 50, items: name },
      tag: { type: 'array', minItems: 1, maxItems: 20, items: { type: 'string', minLength: 1, maxLength: 100 } },
      drop: { type: 'boolean', enum: [true] },
      sample: { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 },
      counts: { type: 'boolean' },
    },
  },
} as const;

type SetValue = Scalar | readonly Scalar[];

/** One entry of the list: a condition, and exactly one action. */
export interface TransformStep {
  readonly where?: Where;
  readonly set?: Readonly<Record<string, SetValue>>;
  /** Old path -> new path. */
  readonly rename?: Readonly<Record<string, string>>;
  readonly remove?: readonly string[];
  readonly tag?: readonly string[];
  readonly drop?: true;
  /** The share that is kept, between 0 and 1. */
  readonly sample?: number;
  /** Of drop and sample: what they take away is not counted either. */
  readonly counts?: boolean;
}

export type TransformsConfig = readonly TransformStep[];

/** An event that a step keeps from the index. */
export interface DroppedEvent {
  readonly ok: false;
  readonly reason: 'configured';
  readonly event: ParsedEvent;
  /** Do the counts see it all the same? */
  readonly counted: boolean;
  /** The step, as in the configuration: `transforms.2.drop`. */
  readonly by: string;
}

export type TransformResult = ParseResult | DroppedEvent;

/** A parser with the steps behind it; without steps, a parser. */
export interface TransformingParser extends Pick<Parser, 'degrade' | 'time'> {
  /** @param from where the record comes from, which may be part of its id */
  parse(record: RawRecord, from: Pick<Chunk, 'origin'>): TransformResult;
  /** As the parser's: the slow path alone, then the same steps. */
  reparse(record: RawRecord, from: Pick<Chunk, 'origin'>): TransformResult;
}

/** What steps did to a record, told once it is done. */
export interface TransformObserver {
  /** @param step as in the configuration: `transforms.2.rename` */
  readonly transformed: (step: string, what: string) => void;
}

interface TransformDeps {
  /** The parser's own. */
  readonly masker: Masker;
  readonly observer?: TransformObserver | undefined;
}

/** @param steps checked by `transformProblems` */
export function createTransformingParser(
  parser: Parser,
  steps: TransformsConfig,
  deps: TransformDeps,
): TransformingParser {
  if (steps.length === 0) return parser;
  const { observer } = deps;
  const transform = compileSteps(steps, parser.time, deps);

  function apply(result: ParseResult, record: RawRecord, from: Pick<Chunk, 'origin'>): TransformResult {
    if (!result.ok) return result;
    try {
      const { event } = result;
      let done = transform(event, record, from);
      // The record's bytes are no longer the document, and what was parsed of them may be less than they hold.
      if (event.verbatim && done.event.doc !== event.doc && !keepsAll(record.value!.toString(), event.doc)) {
        const again = parser.reparse(record);
        if (!again.ok) return again;
        done = transform(again.event, record, from);
      }
      if (observer !== undefined) for (const [step, what] of done.told) observer.transformed(step, what);
      const { dropped } = done;
      if (dropped === undefined) return { ok: true, event: done.event };
      return { ok: false, reason: 'configured', event: done.event, ...dropped };
    } catch (error) {
      // No way to get here is known.
      return { ok: false, reason: 'processing_failed', detail: errorText(error) };
    }
  }

  return {
    time: parser.time,
    degrade: parser.degrade,
    parse: (record, from) => apply(parser.parse(record), record, from),
    reparse: (record, from) => apply(parser.reparse(record), record, from),
  };
}

// ---- the steps, compiled ----

type Json = Record<string, unknown>;

/** Says what a step did. Without a listener nothing is worked out. */
type Tell = (what: () => string) => void;
type Told = readonly [step: string, what: string];

const tellNobody: Tell = () => {};

interface Transformed {
  readonly event: ParsedEvent;
  readonly dropped: Pick<DroppedEvent, 'counted' | 'by'> | undefined;
  readonly told: readonly Told[];
}

interface CompiledStep {
  readonly place: string;
  readonly test: ((draft: Draft) => boolean) | undefined;
  /** Changes the draft; `drop` and `sample` decide instead. */
  readonly change: ((draft: Draft, tell: Tell) => void) | undefined;
  /** The share that is kept; 0 for a drop. */
  readonly share: number;
  readonly counts: boolean;
}

function compileSteps(
  steps: TransformsConfig,
  time: TimeParser,
  { masker, observer }: TransformDeps,
): (event: ParsedEvent, record: RawRecord, from: Pick<Chunk, 'origin'>) => Transformed {
  const compiled = steps.map((step, i) => compileStep(step, `transforms.${i}`, masker));

  return (event, record, from) => {
    const draft = createDraft(event);
    const told: Told[] = [];
    let dropped: Transformed['dropped'];
    let position: number | undefined;
    for (const { place, test, change, share, counts } of compiled) {
      if (test !== undefined && !test(draft)) continue;
      if (change !== undefined) {
        change(draft, observer === undefined ? tellNobody : (what) => void told.push([place, what()]));
        continue;
      }
      if (share > 0) {
        position ??= positionOf(documentId(record, from));
        if (position < share) continue;
      }
      if (observer !== undefined) told.push([place, counts ? 'dropped, not counted either' : 'dropped, still counted']);
      if (dropped === undefined || counts) dropped = { by: place, counted: !counts };
      // Nobody will look at the event.
      if (counts) break;
    }
    return { event: eventOf(event, draft, time), dropped, told };
  };
}

function compileStep(step: TransformStep, at: string, masker: Masker): CompiledStep {
  const action = actionsOf(step)[0]!;
  const { where, set, rename, remove, tag, sample = 0, counts = false } = step;
  const base = { place: `${at}.${action}`, test: where && compileWhere(where), share: sample, counts };
  switch (action) {
    case 'set':
      return { ...base, change: settings(set!) };
    case 'rename':
      return { ...base, change: renaming(rename!, masker) };
    case 'remove':
      return { ...base, change: (draft, tell) => removeAll(draft, remove!, tell) };
    case 'tag':
      return { ...base, change: (draft, tell) => addTags(draft, tag!, tell) };
    case 'drop':
    case 'sample':
      return { ...base, change: undefined };
  }
}

function actionsOf(step: TransformStep): Action[] {
  return ACTIONS.filter((action) => step[action] !== undefined);
}

function compileWhere(where: Where): (draft: Draft) => boolean {
  const tests = Object.entries(where).map(([path, condition]): ((draft: Draft) => boolean) => {
    const test: Test = compileCondition(condition);
    if (path === 'tags') return ({ tags }) => test(tags);
    return ({ doc }) => {
      const value = valueAt(doc, path);
      return test(value instanceof ExactNumber ? value.value : value);
    };
  });
  return (draft) => {
    for (let i = 0; i < tests.length; i++) if (!tests[i]!(draft)) return false;
    return true;
  };
}

// ---- sample ----
// By the id of the document, so that a record that is read again, by another instance or in a replay, is decided on alike; what a
// share keeps, every larger share keeps too.

/** Where between 0 and 1 an id lies: FNV-1a, then the finaliser of MurmurHash3, because ids differ mostly at their end. */
function positionOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000;
}

// ---- an event that is being changed ----
// Events are read-only: the document is copied when it is first written to, each of its groups too.

interface Draft {
  doc: Json;
  tags: readonly string[];
  /** Objects that are copies. */
  readonly owned: Set<object>;
  /** Numbers in the document are ExactNumbers. */
  exact: boolean;
  /** Something came to a place that may not take it. */
  unchecked: boolean;
}

function createDraft({ doc, tags }: ParsedEvent): Draft {
  return { doc, tags, owned: new Set(), exact: false, unchecked: false };
}

function eventOf(event: ParsedEvent, draft: Draft, time: TimeParser): ParsedEvent {
  const { exact, unchecked } = draft;
  let { doc, tags } = draft;
  if (doc === event.doc && tags === event.tags) return event;
  if (unchecked) {
    const conformed = conform(doc, false, time);
    if (conformed.degraded) tags = withTag(tags, '_mapping_degraded');
    doc = conformed.doc;
  }
  if (exact) toPlainNumbers(doc);
  const { timeMs, timeText } = event;
  // Tags stand beside the record's own bytes, so they leave them usable.
  return { doc, verbatim: event.verbatim && doc === event.doc, timeMs, timeText, tags };
}

function withTag(tags: readonly string[], tag: string): readonly string[] {
  return tags.includes(tag) ? tags : [...tags, tag];
}

function ownDocument(draft: Draft): Json {
  if (draft.owned.has(draft.doc)) return draft.doc;
  if (hasExactNumbers(draft.doc)) {
    // Values that move take their numbers' texts with them.
    draft.doc = toExactNumbers(draft.doc);
    draft.exact = true;
    draft.owned.add(draft.doc);
  } else draft.doc = copyOf(draft, draft.doc);
  return draft.doc;
}

function ownGroup(draft: Draft, holder: Json, key: string): Json {
  const group = holder[key] as Json;
  if (draft.owned.has(group)) return group;
  const own = copyOf(draft, group);
  holder[key] = own;
  return own;
}

/** A null prototype makes `__proto__` an ordinary key. */
function copyOf({ owned }: Draft, group: object): Json {
  const copy: Json = Object.assign(Object.create(null), group);
  owned.add(copy);
  return copy;
}

/** The keys under which a path stands: its parts, unless some of them are one key with dots. Undefined when there is nothing. */
function keysTo(value: unknown, path: string): readonly string[] | undefined {
  if (!isObject(value)) return undefined;
  if (Object.hasOwn(value, path)) return [path];
  for (let dot = path.indexOf('.'); dot > 0; dot = path.indexOf('.', dot + 1)) {
    const head = path.slice(0, dot);
    const rest = Object.hasOwn(value, head) ? keysTo(value[head], path.slice(dot + 1)) : undefined;
    if (rest !== undefined) return [head, ...rest];
  }
  return undefined;
}

/** A record may have a path twice: nested, and as one key with dots. Ends where `act` leaves something in the same place. */
function eachPlace(draft: Draft, path: string, act: (keys: readonly string[]) => void): void {
  const seen = new Set<string>();
  for (let keys = keysTo(draft.doc, path); keys !== undefined; keys = keysTo(draft.doc, path)) {
    const place = keys.join('\0');
    if (seen.has(place)) return;
    seen.add(place);
    act(keys);
  }
}

/** Takes out what stands under `keys`, and groups that are empty then. */
function take(draft: Draft, keys: readonly string[]): unknown {
  const holders = [ownDocument(draft)];
  for (const key of keys.slice(0, -1)) holders.push(ownGroup(draft, holders.at(-1)!, key));
  const value = holders.at(-1)![keys.at(-1)!];
  for (let i = keys.length - 1; i >= 0; i--) {
    const holder = holders[i]!;
    delete holder[keys[i]!];
    if (Object.keys(holder).length > 0) break;
  }
  return value;
}

/** Puts a value in its place, or into `extra` when something stands above that place. Returns where it is. */
function put(draft: Draft, path: string, value: unknown): string {
  let holder = ownDocument(draft);
  const keys = keysTo(holder, path) ?? path.split('.');
  for (const key of keys.slice(0, -1)) {
    const group = Object.hasOwn(holder, key) ? holder[key] : undefined;
    if (isObject(group)) holder = ownGroup(draft, holder, key);
    else if (group === undefined || group === null) {
      const made = copyOf(draft, {});
      holder[key] = made;
      holder = made;
    } else return keepAside(draft, path, value);
  }
  holder[keys.at(-1)!] = value;
  return path;
}

/** Into `extra`, unless it has the same there already. Returns where it is. */
function keepAside(draft: Draft, path: string, value: unknown): string {
  const doc = ownDocument(draft);
  const at = path.startsWith('extra.') ? path.slice('extra.'.length) : path;
  if (isObject(doc.extra)) {
    if (Object.hasOwn(doc.extra, at) && isSame(doc.extra[at], value)) return `extra.${at}`;
    ownGroup(draft, doc, 'extra');
  }
  draft.unchecked = true;
  return `extra.${setAside(doc, at, value)}`;
}

function isSame(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== 'object' || one === null || typeof other !== 'object' || other === null) return false;
  return writeJson(one) === writeJson(other);
}

const isNothing = (value: unknown) => value === undefined || value === null;

// ---- the actions that change it ----

type Change = NonNullable<CompiledStep['change']>;

function settings(set: NonNullable<TransformStep['set']>): Change {
  // What is set fits the catalogue's field (`transformProblems`); what goes elsewhere counts against the bounds of a document.
  const entries = Object.entries(set).map(([path, value]) => ({
    path,
    value,
    fits: typeof placeOf(path) === 'string',
  }));
  return (draft, tell) => {
    for (const { path, value, fits: isChecked } of entries) {
      const former = valueAt(draft.doc, path);
      if (isSame(former, value)) continue;
      const where = put(draft, path, value);
      if (!isChecked) draft.unchecked = true;
      const kept = isNothing(former) ? '' : `; ${keepAside(draft, path, former)} has what was there`;
      tell(() => `${where}${kept}`);
    }
  };
}

function renaming(rename: NonNullable<TransformStep['rename']>, masker: Masker): Change {
  const entries = Object.entries(rename);
  return (draft, tell) => {
    for (const [from, to] of entries) {
      eachPlace(draft, from, (keys) => {
        const what = move(draft, { from, keys, to }, masker);
        tell(() => what);
      });
    }
  };
}

/** Moves what stands under `keys`. Says what it did. */
function move(
  draft: Draft,
  { from, keys, to }: { readonly from: string; readonly keys: readonly string[]; readonly to: string },
  masker: Masker,
): string {
  const former = valueAt(draft.doc, to);
  if (from === `extra.${to}` && !isNothing(former)) return `${from} stays: ${to} has a value`;
  const given = take(draft, keys);
  if (given === null && former !== undefined) return `${from}: it was empty`;
  draft.unchecked = true;
  const masked = maskedAt(to, given, masker);
  if (masked !== given) draft.tags = withTag(draft.tags, '_masked');
  const value = to === 'level' ? levelOf(draft, from, masked) : masked;
  if (value === undefined) return `${from} stays, in extra: it is no level`;
  if (isSame(former, value)) return `${from} → ${to}, which had the same`;
  const where = put(draft, to, value);
  const kept = isNothing(former) ? '' : `; ${keepAside(draft, to, former)} has what was there`;
  return `${from} → ${where}${kept}`;
}

/** As the parser writes levels; what that leaves out is kept aside. */
function levelOf(draft: Draft, from: string, value: unknown): string | undefined {
  const level = normaliseLevel(value);
  if (level === undefined || String(value).toLowerCase() !== level) keepAside(draft, from, value);
  return level;
}

/** A value as it must look under its new name. */
function maskedAt(path: string, value: unknown, masker: Masker): unknown {
  const parts = path.split('.');
  const nested = parts.reduceRight<unknown>((inner, part) => ({ [part]: inner }), value);
  let masked = masker.value(nested);
  if (masked === nested) return value;
  for (const _ of parts) {
    // All of a group is one secret.
    if (!isObject(masked)) return masked;
    masked = Object.values(masked)[0];
  }
  return masked;
}

function removeAll(draft: Draft, paths: readonly string[], tell: Tell): void {
  for (const path of paths) {
    eachPlace(draft, path, (keys) => {
      take(draft, keys);
      tell(() => path);
    });
  }
}

function addTags(draft: Draft, tags: readonly string[], tell: Tell): void {
  for (const tag of tags) {
    if (draft.tags.includes(tag)) continue;
    draft.tags = [...draft.tags, tag];
    tell(() => tag);
  }
}

// ---- what is wrong with the steps, beyond what the schema can say ----

/** What a path is to the catalogue: a field, a group of fields, something below a field; undefined when it is none of its. */
function placeOf(path: string): FieldType | FieldMap | 'below' | undefined {
  let at: FieldType | FieldMap | undefined = FIELD_MAP;
  for (const part of path.split('.')) {
    if (at === undefined || at === 'flattened') return undefined;
    if (typeof at === 'string') return 'below';
    at = at.get(part);
  }
  return at;
}

const TIME = 'decides the day and the index of the document';
const WRITTEN = 'is written by logpipe after these steps';

/** Nobody's to change, with what stands below it. */
const FIXED: Readonly<Record<string, readonly [why: string, fix: string]>> = {
  '@timestamp': [TIME, 'correct it where the record is written'],
  timestamp: [TIME, 'correct it where the record is written'],
  eventId: ['names the record, so that it is indexed once', 'set another field'],
  tags: ['belongs to records and to logpipe together', 'a step `tag` adds to it'],
  kafka: [WRITTEN, 'set another field'],
  'error.template': [WRITTEN, 'set another field'],
  'error.fingerprint': [WRITTEN, 'set another field'],
};
/** What no step finds in an event, because it comes later. */
const NOT_YET = ['@timestamp', 'kafka', 'error.template', 'error.fingerprint'];
/** Only a step `remove` may name them as a whole. */
const COLLECTIONS = ['extra', 'extraRaw'];

const NUMBERS: readonly unknown[] = ['long', 'short', 'float'];

/** Finds everything that the schema lets pass; `steps` keep the schema. Nothing secret is in a message. */
export function transformProblems(steps: TransformsConfig, masker: Masker): ConfigProblem[] {
  const time = createTimeParser();
  const found: ConfigProblem[] = [];
  steps.forEach((step, i) => {
    const at = `transforms.${i}`;
    const add = (key: string, message: string, fix: string, value?: unknown) =>
      found.push({
        path: key === '' ? at : `${at}.${key}`,
        ...(value === undefined ? {} : { value: JSON.stringify(value) }),
        message,
        fix,
      });
    checkActions(step, add);
    for (const [path, condition] of Object.entries(step.where ?? {})) checkCondition(path, condition, add);
    for (const [path, value] of Object.entries(step.set ?? {})) checkSet(path, value, { add, time, masker });
    for (const [from, to] of Object.entries(step.rename ?? {})) checkRename(from, to, add);
    for (const path of step.remove ?? []) checkName('remove', path, add) && checkChange('remove', path, add);
    for (const tag of step.tag ?? []) {
      if (tag !== 'error' && !tag.startsWith('_')) continue;
      add('tag', 'is one of logpipe’s own tags, or looks like one', 'choose a name that does not begin with _', tag);
    }
  });
  return [...found, ...repeats(steps)];
}

type Add = (key: string, message: string, fix: string, value?: unknown) => void;

function checkActions(step: TransformStep, add: Add): void {
  const actions = actionsOf(step);
  if (actions.length === 0) add('', 'does nothing', `give it one of ${ACTIONS.join(', ')}`);
  else if (actions.length > 1) add('', `has ${actions.join(' and ')}`, 'a step does one thing; write a step for each');
  const [action] = actions;
  if (step.counts !== undefined && action !== 'drop' && action !== 'sample') {
    add('counts', 'is for drop and sample', 'leave it out; the counts see what every other step makes');
  }
  if (action === 'drop' && step.where === undefined) {
    add('drop', 'would drop every record', 'say with `where` which ones are meant');
  }
}

/** Is it the name of a field? */
function checkName(key: string, path: string, add: Add): boolean {
  const parts = path.split('.');
  const place = placeOf(path);
  if (parts.some((part) => part.trim() === '') || /[\u0000-\u001f]/.test(path)) {
    add(key, 'is no path of a field', 'write names with single dots between them, like http.status', path);
  } else if (parts.length > MAX_PARTS) add(key, 'is nested too deeply', `at most ${MAX_PARTS} names`, path);
  else if (place === 'below') {
    const field = parts[0]!;
    const fix = `what a record has there is in extra: write extra.${path}`;
    add(key, `can hold nothing: ${field} is a field, not a group`, fix, path);
  } else return true;
  return false;
}

/** May a step change it? */
function checkChange(key: string, path: string, add: Add): boolean {
  const fixed = Object.entries(FIXED).find(([field]) => isWithin(path, field));
  if (fixed === undefined) return true;
  const [why, fix] = fixed[1];
  add(key, `${fixed[0]} ${why}, so no step may change it`, fix, path);
  return false;
}

/** May a step put something there? */
function checkTarget(key: string, path: string, add: Add): boolean {
  if (!checkName(key, path, add) || !checkChange(key, path, add)) return false;
  const place = placeOf(path);
  if (COLLECTIONS.includes(path)) {
    add(key, 'holds what has no field', 'name a field in it, like extra.source', path);
  } else if (place !== undefined && typeof place !== 'string') {
    add(key, `is a group: ${[...place.keys()].map((field) => `${path}.${field}`).join(', ')}`, 'name a field', path);
  } else if (path.startsWith('_')) {
    add(key, 'begins with _, which Elasticsearch keeps for itself', 'choose another name', path);
  } else return true;
  return false;
}

function checkSet(
  path: string,
  value: SetValue,
  { add, time, masker }: { add: Add; time: TimeParser; masker: Masker },
): void {
  const key = `set.${path}`;
  if (!checkTarget(key, path, add)) return;
  if (maskedAt(path, value, masker) !== value) {
    // Not shown, whatever it is.
    add(key, 'is or would become a secret, by its name or its value, and documents hold none', 'leave it out');
    return;
  }
  const type = placeOf(path);
  if (path === 'level' && !NORMAL_LEVELS.has(value as string)) {
    add(key, 'is no level', `one of ${[...NORMAL_LEVELS].join(', ')}`, value);
  } else if (typeof type === 'string' && type !== 'below' && !fits(type, value, time)) {
    add(key, `the field is ${type}`, `give a value that it takes, or set another field`, value);
  }
}

function checkRename(from: string, to: string, add: Add): void {
  const key = `rename.${from}`;
  if (checkName(key, from, add) && checkChange(key, from, add) && COLLECTIONS.includes(from)) {
    add(key, 'holds what has no field', 'name a field in it, like extra.source', from);
  }
  if (!checkTarget(key, to, add)) return;
  if (isWithin(from, to) || isWithin(to, from)) {
    add(key, 'one holds the other', 'name a field outside of it', to);
  }
}

function checkCondition(path: string, condition: Condition, add: Add): void {
  const key = `where.${path}`;
  if (!checkName(key, path, add)) return;
  const place = placeOf(path);
  const compares =
    typeof condition === 'object' && ['gt', 'gte', 'lt', 'lte'].some((name) => Object.hasOwn(condition, name));
  const late = NOT_YET.find((field) => isWithin(path, field));
  if (late !== undefined) add(key, `${late} ${WRITTEN}`, 'ask for another field', path);
  else if (typeof place === 'object' && !isPresence(condition)) {
    add(key, `is a group: ${[...place.keys()].map((field) => `${path}.${field}`).join(', ')}`, 'name a field', path);
  } else if (compares && typeof place === 'string' && !NUMBERS.includes(place)) {
    add(key, `gt, gte, lt and lte need a number, and the field is ${place}`, 'name a value, or a list of values');
  }
}

function isPresence(condition: Condition): boolean {
  return typeof condition === 'object' && Object.keys(condition).every((name) => name === 'exists');
}

/** Is the path `field`, or below it? */
function isWithin(path: string, field: string): boolean {
  return path === field || path.startsWith(`${field}.`);
}

type Touch = 'renames' | 'removes' | 'sets';

/**
 * Steps that would change a document again when it is replayed from its index: what an earlier step renames, removes or sets, a later
 * one must not write to, nor take away what was set. Where the earlier step is for some records only, the later one may be for others.
 */
function repeats(steps: TransformsConfig): ConfigProblem[] {
  const found: ConfigProblem[] = [];
  const touched: { readonly path: string; readonly how: Touch; readonly step: string; readonly where?: string }[] = [];
  steps.forEach((step, i) => {
    const at = `transforms.${i}`;
    const where = step.where === undefined ? {} : { where: JSON.stringify(step.where) };
    const isForSame = (other: string | undefined) => other === undefined || other === where.where;
    const check = (key: string, path: string, isSet: boolean) => {
      const before = touched.find(
        (one) =>
          (isWithin(path, one.path) || isWithin(one.path, path)) &&
          // What is removed first is set again each time.
          !(isSet && one.how === 'removes') &&
          isForSame(one.where),
      );
      if (before === undefined) return;
      const message = `${before.step} ${before.how} ${before.path} before, so a document that is replayed would be changed again`;
      const fix = 'let this step come first, or name another field';
      found.push({ path: `${at}.${key}`, value: JSON.stringify(path), message, fix });
    };
    const checkUndone = (key: string, path: string) => {
      const given = touched.find((one) => one.how === 'sets' && isWithin(one.path, path) && isForSame(one.where));
      if (given === undefined) return;
      const message = `${given.step} sets it before, so a document that is replayed would get it again`;
      const fix = `leave one of the two out, or let ${given.step} set what is meant in the end`;
      found.push({ path: `${at}.${key}`, value: JSON.stringify(path), message, fix });
    };
    const touch = (path: string, how: Touch) => void touched.push({ path, how, step: at, ...where });
    for (const path of Object.keys(step.set ?? {})) {
      check(`set.${path}`, path, true);
      touch(path, 'sets');
    }
    for (const [from, to] of Object.entries(step.rename ?? {})) {
      check(`rename.${from}`, to, false);
      checkUndone(`rename.${from}`, from);
      touch(from, 'renames');
    }
    for (const path of step.remove ?? []) {
      checkUndone('remove', path);
      touch(path, 'removes');
    }
  });
  return found;
}
