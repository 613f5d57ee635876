// The keys of the lines seen so far, as a tree: which keys came after which. In: the bytes of a key, and the spot where it stands. Out:
// what the catalogue knows of it and which spots lie behind it and within it. Guarantee: what a key means is worked out once for each
// spot; no key of a spot is the same as one before it in its object, so nobody has to look for keys given twice; memory is bounded,
// whatever the keys.
//
// Lines of one producer look alike: what followed a key the last time is tried first (`Spot.guess`), and then finding it costs one
// comparison. That is how V8 finds the properties of objects, too.
import { FIELDS, type FieldGroup, type FieldType } from '../../core/catalogue.ts';
import type { Masker } from '../../core/secrets/mask.ts';
import { isForeignError, SHAPE_KEYS } from '../shapes.ts';

/** Top-level keys that logpipe adds, or that mark a foreign shape: with one of them, a record's own bytes cannot be the document. */
export const SLOW_KEYS: ReadonlySet<string> = new Set([
  '@timestamp',
  'tags',
  'kafka',
  'extra',
  'extraRaw',
  ...SHAPE_KEYS,
]);

/** May this key of a producer's own stay as it is at the top level: no dots to resolve, not blank, nothing that could be a prototype? */
export function isPlainKey(key: string): boolean {
  return key !== '' && !key.includes('.') && key.charCodeAt(0) !== 95 && key.length <= MAX_KEY && key.trim() !== '';
}

// ---- fields, numbered ----

/** Every field of the catalogue that is no group, by its number; `call.status` for one in a group. */
export const FIELD_PATHS: readonly string[] = pathsOf(FIELDS, '');

function pathsOf(group: FieldGroup, above: string): string[] {
  return Object.entries(group).flatMap(([name, type]) =>
    typeof type === 'string' ? [above + name] : pathsOf(type, `${above}${name}.`),
  );
}

const GROUP_NAMES = Object.entries(FIELDS as FieldGroup).flatMap(([name, type]) =>
  typeof type === 'string' ? [] : [name],
);
const NUMBERS = new Map([...FIELD_PATHS, ...GROUP_NAMES].map((path, number) => [path, number]));
/** So many numbers there are. */
export const FIELD_COUNT = NUMBERS.size;

/** Of a field that is no group; undefined for what the catalogue does not have, or what no line may hold. */
export function knownField(path: string): number | undefined {
  const number = NUMBERS.get(path);
  return number !== undefined && number < FIELD_PATHS.length ? number : undefined;
}

/** Of a field, or of a group. @throws RangeError for a path that the catalogue does not have. */
export function fieldNumber(path: string): number {
  const number = NUMBERS.get(path);
  if (number === undefined) throw new RangeError(`${path} is no field of the catalogue`);
  return number;
}

/** What may stand behind a key. */
export const ANYTHING = 0;
/** A text, a number or a truth value. */
export const SCALAR = 1;
export const TEXT = 2;
export const LONG = 3;
export const SHORT = 4;
export const FLOAT = 5;
export const BOOLEAN = 6;
export const GROUP = 7;
/** A line with this key may have to take the slow path. */
export const NOTHING = 8;
/** A line with this key has to take the slow path. */
export const FOREIGN = 9;

/** Without them a line has another shape. */
const REQUIRED = new Set(['timestamp', 'level', 'message']);
const BY_TYPE: Readonly<Record<FieldType, number>> = {
  ...{ keyword: SCALAR, text: SCALAR, long: LONG, short: SHORT, float: FLOAT, boolean: BOOLEAN },
  // `timestamp` is looked at by itself; the others are logpipe's own.
  ...{ date: NOTHING, flattened: NOTHING, raw: NOTHING },
};

// ---- the tree ----

const QUOTE = 34;
const MAX_KEY = 256;
const MAX_KEYS = 4_096;
/** More different keys in one spot are names of things, not of fields. */
const MAX_SIBLINGS = 48;
const POOL_BYTES = 1 << 18;
/** Behind the place of a key: for the value that it had last, quotes included. */
export const VALUE_ROOM = 34;
/** A tree that is full is begun anew when more keys were not learnt than it would cost to learn all of it again. */
const LEAST_REFUSED = 64;

/** Where in an object a key may stand: behind the same keys as before. */
export class Spot {
  /** What stood here last. */
  guess: Key | undefined = undefined;
  readonly keys: Key[] = [];
  /** The key before it in its object. */
  readonly before: Key | undefined;
  /** What the object is. */
  readonly holder: Holder;

  constructor(holder: Holder, before: Key | undefined) {
    this.holder = holder;
    this.before = before;
  }
}

export class Key {
  /** In the tree's `pool`, quotes included. */
  readonly at: number;
  readonly length: number;
  readonly takes: number;
  /** Of the catalogue; -1 for another. */
  readonly field: number;
  /** No other key has it, not even of a tree that was forgotten. */
  readonly id: number;
  readonly from: Spot;
  readonly after: Spot;
  readonly inside: Spot;
  /** Of the text it had last, which was found harmless; 0 for none. It lies behind the key. */
  valueLength = 0;
  /** Falls while the texts differ each time. */
  worth = 8;

  constructor(
    from: Spot,
    place: { id: number; at: number; length: number },
    means: { takes: number; field: number; inside: Holder },
  ) {
    this.id = place.id;
    this.at = place.at;
    this.length = place.length;
    this.takes = means.takes;
    this.field = means.field;
    this.from = from;
    this.after = new Spot(from.holder, this);
    this.inside = new Spot(means.inside, undefined);
  }
}

/** `fields`: of the catalogue, at the top level and in its groups; undefined for what is a producer's own. */
interface Holder {
  readonly path: string;
  readonly fields: FieldGroup | undefined;
}

const TOP: Holder = { path: '', fields: FIELDS };
const OWN: Holder = { path: '', fields: undefined };
const GROUPS = new Map(
  Object.entries(FIELDS as FieldGroup).flatMap(([name, fields]): [string, Holder][] =>
    typeof fields === 'string' ? [] : [[name, { path: `${name}.`, fields }]],
  ),
);

export interface KeyTree {
  /** The spot of a line's first key. */
  root: Spot;
  /** Holds the bytes of all keys. */
  readonly pool: Buffer;
  /**
   * The key that begins at `at`, learnt if need be; undefined when it does not end before `to`, is not plain ASCII without escapes, or
   * cannot be learnt any more.
   */
  find(spot: Spot, bytes: Buffer, at: number, to: number): Key | undefined;
  /** To be called between lines: begins anew if that is due. */
  tidy(): void;
}

export function createKeyTree(masker: Pick<Masker, 'leads'>): KeyTree {
  const pool = Buffer.alloc(POOL_BYTES);
  let used = 0;
  let count = 0;
  let refused = 0;
  let lastId = 0;

  function find(spot: Spot, bytes: Buffer, at: number, to: number): Key | undefined {
    const { keys } = spot;
    for (let i = 0; i < keys.length; i++) if (stands(keys[i]!, bytes, at)) return keys[i];
    let end = at + 1;
    // As in a text: see the scanner.
    if (bytes[end] === 58 || bytes[end] === 0x20) return undefined;
    for (; end < to; end++) {
      const byte = bytes[end]!;
      if (byte === QUOTE) break;
      if (byte < 0x20 || byte >= 0x7f || byte === 92) return undefined;
    }
    if (end >= to || bytes[at] !== QUOTE) return undefined;
    return learn(spot, bytes, at, end + 1);
  }

  function stands({ at: place, length }: Key, bytes: Buffer, at: number): boolean {
    for (let i = 0; i < length; i++) if (pool[place + i] !== bytes[at + i]) return false;
    return true;
  }

  function learn(spot: Spot, bytes: Buffer, at: number, end: number): Key | undefined {
    const length = end - at;
    const isFull = count >= MAX_KEYS || used + length + VALUE_ROOM > POOL_BYTES || spot.keys.length >= MAX_SIBLINGS;
    if (length - 2 > MAX_KEY || isFull) {
      refused += 1;
      return undefined;
    }
    const name = bytes.toString('latin1', at + 1, end - 1);
    const place = { id: ++lastId, at: used, length };
    bytes.copy(pool, used, at, end);
    const key = new Key(spot, place, isGivenTwice(spot, place) ? UNFIT : meaningOf(spot.holder, name));
    used += length + VALUE_ROOM;
    count += 1;
    spot.keys.push(key);
    return key;
  }

  function isGivenTwice(spot: Spot, { at, length }: { at: number; length: number }): boolean {
    for (let { before } = spot; before !== undefined; before = before.from.before) {
      if (before.length === length && stands(before, pool, at)) return true;
    }
    return false;
  }

  function meaningOf({ path, fields }: Holder, name: string) {
    const isTop = fields === FIELDS;
    if (isTop && SLOW_KEYS.has(name)) return STRANGE;
    const type = fields !== undefined && Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (typeof type === 'object') return { takes: GROUP, field: fieldNumber(name), inside: GROUPS.get(name)! };
    // Names that others give to the parts of an error, and what logpipe writes itself.
    if (path === 'error.' && (isForeignError({ [name]: '' }) || name === 'template' || name === 'fingerprint'))
      return UNFIT;
    if (type !== undefined) {
      return { takes: REQUIRED.has(path + name) ? TEXT : BY_TYPE[type], field: fieldNumber(path + name), inside: OWN };
    }
    if (masker.leads(name)) return UNFIT;
    if (isTop ? !isPlainKey(name) : fields !== undefined && (name.includes('.') || name.trim() === '')) return UNFIT;
    return { takes: ANYTHING, field: -1, inside: OWN };
  }

  const tree: KeyTree = {
    root: new Spot(TOP, undefined),
    pool,
    find,
    tidy() {
      if (refused < LEAST_REFUSED + 2 * count) return;
      tree.root = new Spot(TOP, undefined);
      used = 0;
      count = 0;
      refused = 0;
    },
  };
  return tree;
}

const UNFIT = { takes: NOTHING, field: -1, inside: OWN };
const STRANGE = { takes: FOREIGN, field: -1, inside: OWN };

/** Do names of catalogue fields lead to secrets? The operator's keys may make them. */
export function catalogueLeads(masker: Pick<Masker, 'leads'>): boolean {
  return FIELD_PATHS.some((path) => path.split('.').some((name) => masker.leads(name)));
}
