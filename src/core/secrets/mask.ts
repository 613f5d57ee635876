// Takes secrets out of log data. In: a serialised line, a text or a JSON value; out: the same with secrets replaced by MASK.
// Guarantee: linear in what comes in; never throws; masking twice changes nothing more; what holds no secret is returned as it
// came (same reference), so that a caller detects a hit by comparing. `docs/secrets.md` lists what counts as a secret.
import { createAnchors, DIGITS, GO_ON, STOP } from './anchors.ts';
import { createPersonal, type PersonalKey, type PersonalOptions, VERSION_VALUE } from './personal.ts';
import {
  type Cut,
  cutCards,
  cutDotted,
  FORM_RULES,
  looksRandom,
  MASK,
  mayHoldCard,
  mayHoldDotted,
  type Rule,
} from './secret-forms.ts';
import { type KeyKind, kindBelow, kindOfKey } from './secret-keys.ts';
import {
  COMMAND_ANCHORS,
  createTextRules,
  cutCommands,
  cutInserts,
  isAbout,
  isOpaque,
  isWorkingFolder,
  saysNothing,
  WORD_ANCHORS,
} from './secret-text.ts';

// ---- masking ----

export { MASK };

const MAX_DEPTH = 64;
const TOO_DEEP = '[nested too deeply]';
/** Keys longer than this are not remembered. */
const MAX_CACHED_KEY = 64;
const MAX_CACHE_CHARS = 131_072;
const MAX_SETTLED_LENGTH = 256;
const MAX_SETTLED = 512;
/** Rounds before a text is masked as a whole: cutting one secret may reveal another, but not for ever. */
const MAX_ROUNDS = 4;
/** JSON texts within JSON texts: deeper ones are masked by their words alone. */
const MAX_EMBEDDED = 4;

/** The switches mask personal data too, which is not secret: see `personal.ts`. */
export interface MaskOptions extends PersonalOptions {
  /** Further key names that hold secrets; compared without case and punctuation. */
  readonly keys?: readonly string[];
  /** Further regular expressions (source text, case-sensitive) whose whole match is a secret. */
  readonly patterns?: readonly string[];
}

/** For what shows the operator's own configuration and connections: the addresses in it are nobody's. */
export function secretsOnly({ keys = [], patterns = [] }: MaskOptions): MaskOptions {
  return { keys, patterns };
}

export interface Masker {
  /**
   * May this serialised line hold a secret? One cheap pass. Never false when `value` of what the line holds, or `text` of
   * the line, would mask something; sometimes true when they would not.
   */
  suspicious(line: string): boolean;
  /**
   * May these bytes, of valid UTF-8 without NULs and `\u`, hold anything that `suspicious` would look at further? For a part of a line
   * too. Undefined while what the operator has named takes a look at whole texts.
   */
  readonly mayHoldSecret: ((bytes: Buffer, from: number, to: number) => boolean) | undefined;
  /**
   * Would masking change the line? `suspicious`, and then the masking itself. Also sees the first value of a key that is given
   * twice.
   */
  holdsSecret(line: string): boolean;
  isSecretKey(key: string): boolean;
  /** May the key be secret, by itself or through the keys around it, or hold a secret? Never false when it is or does. */
  leads(key: string): boolean;
  /** The text with secrets masked; the same string when there were none. */
  text(value: string): string;
  /** The same for a text that stands under this key in a value, unless the key leads to secrets or personal data. */
  textUnder(key: string, value: string): string;
  /** The JSON value with secrets masked and nesting below 64 levels cut; the same reference when nothing was changed. */
  value(value: unknown): unknown;
}

interface KeyFacts {
  readonly kind: KeyKind | undefined;
  /** Holds a word that leads to secrets, so it may make the key below it secret, as `card` does with `code`. */
  readonly leads: boolean;
  /** The key with the secrets in it masked, which is almost always the key itself. */
  readonly shown: string;
  /** Names an id, a time or a phone number: long digits are not a card number. */
  readonly names: boolean;
  /** Undefined while the switches are off. */
  readonly personal: PersonalKey | undefined;
  /** What stands below it may be personal by this key, or the key is so itself. */
  readonly leadsToPersonal: boolean;
}

/** @throws SyntaxError for a pattern that is not a regular expression (the configuration schema checks that first). */
export function createMasker(options: MaskOptions = {}): Masker {
  const custom = new Set((options.keys ?? []).map(plain).filter((name) => name !== ''));
  const customTest = custom.size === 0 ? undefined : new RegExp([...custom].map(loose).join('|'), 'giu');
  const patterns = createPatterns(options.patterns ?? []);
  const personal = createPersonal(options);
  const textRules = createTextRules((name) => custom.has(plain(name)));
  const isPlain = !patterns.present && customTest === undefined && personal === undefined;
  const table = anchorTable([...FORM_RULES, ...textRules]);
  const cache = new Map<string, KeyFacts>();
  let cachedChars = 0;
  const settled = createSettled();
  let embedded = 0;
  let renamedAny = false;

  /** The cheap test, without the operator's patterns. */
  function shows(line: string): boolean {
    return table.reached(line) || mayHoldDotted(line) || (customTest !== undefined && line.search(customTest) >= 0);
  }

  function suspicious(line: string): boolean {
    return patterns.present || shows(line) || personal?.mayHold(line) === true;
  }

  function facts(key: string): KeyFacts {
    const known = cache.get(key);
    if (known !== undefined) return known;
    // The quote stands for the end of a key in a line.
    const leads = shows(`${key}"`);
    const isPersonal = personal?.mayHold(key) === true;
    const said = personal?.key(key);
    const made: KeyFacts = {
      kind:
        (leads ? kindOfKey(key) : undefined) ?? (custom.size > 0 && custom.has(plain(key)) ? 'password' : undefined),
      leads,
      // A plain name holds no secret; that takes a sign, or the length of a token.
      shown: patterns.present || isPersonal || (leads && (key.length > 15 || /[=: ]/.test(key))) ? text(key) : key,
      names: /(?:^|[^a-z])(?:ids?|uuid|time|timestamp|ts|at|ms|phone|tel|offset|seq|sequence|imei|imsi|iccid)$/i.test(
        key.slice(-16).replace(/([a-z])([A-Z])/g, '$1_$2'),
      ),
      personal: said,
      leadsToPersonal: isPersonal || said?.phone !== undefined,
    };
    if (key.length <= MAX_CACHED_KEY) {
      if (cachedChars + key.length > MAX_CACHE_CHARS || cache.size >= 5_000) {
        cache.clear();
        cachedChars = 0;
      }
      cachedChars += key.length;
      cache.set(key, made);
    }
    return made;
  }

  // ---- texts ----

  function text(value: string): string {
    try {
      if (!suspicious(value)) return value;
      let masked = value;
      for (let round = 0; round < MAX_ROUNDS; round++) {
        if (settled.has(masked)) return masked;
        const again = once(masked);
        if (again === masked) {
          // Of a text within another one, a part may have been too deep to be looked at.
          if (embedded === 0) settled.add(masked);
          return masked;
        }
        masked = again;
      }
      return MASK;
    } catch {
      return MASK;
    }
  }

  /** One round over a text. */
  function once(value: string): string {
    const read = withoutNuls(value);
    const plainText = rounds(read);
    if (plainText !== read) return plainText;
    const unescaped = undoEscapes(read);
    if (unescaped !== read) {
      const masked = rounds(unescaped);
      if (masked !== unescaped) return masked;
    }
    return value;
  }

  function rounds(value: string): string {
    let masked = cutCustom(cut(value));
    masked = cutDotted(cutCards(masked));
    if (/into/i.test(masked))
      masked = cutInserts(masked, (column) => facts(column.trim().slice(0, MAX_CACHED_KEY)).kind !== undefined);
    if (COMMAND_ANCHORS.some((anchor) => masked.includes(anchor))) masked = cutCommands(masked);
    masked = patterns.mask(masked);
    if (personal !== undefined) masked = personal.cut(masked);
    return embeddedJson(masked);
  }

  /** A text that is JSON as a whole is looked at once more, as the value it stands for. */
  function embeddedJson(value: string): string {
    const first = value.charCodeAt(0);
    const last = value.charCodeAt(value.length - 1);
    if (!((first === 123 && last === 125) || (first === 91 && last === 93)) || embedded >= MAX_EMBEDDED) return value;
    let parsed: unknown;
    try {
      parsed = JSON.parse(value);
    } catch {
      return value;
    }
    embedded += 1;
    try {
      const masked = walk(parsed, 0, undefined);
      return masked === parsed ? value : JSON.stringify(masked);
    } finally {
      embedded -= 1;
    }
  }

  function cut(value: string): string {
    let out = '';
    let done = 0;
    table.find(value, (found) => {
      if (found.from < done) return GO_ON;
      out += value.slice(done, found.from) + found.put;
      done = found.to;
      return found.to;
    });
    return done === 0 ? value : out + value.slice(done);
  }

  /** The operator's keys in a text: no anchors lead to them. */
  function cutCustom(value: string): string {
    if (customTest === undefined) return value;
    const [byKey] = textRules;
    let out = '';
    let done = 0;
    for (const { index, 0: name } of value.matchAll(customTest)) {
      const found = index < done ? undefined : byKey!.find(value, index, index + name.length);
      if (found === undefined) continue;
      out += value.slice(done, found.from) + found.put;
      done = found.to;
    }
    return out + value.slice(done);
  }

  // ---- values ----

  function walk(value: unknown, depth: number, above: string | undefined): unknown {
    if (typeof value === 'string') return text(value);
    if (value === null || typeof value !== 'object') return value;
    if (depth >= MAX_DEPTH) return TOO_DEEP;
    if (Array.isArray(value)) return walkList(value, depth, above);
    const source = value as Record<string, unknown>;
    const keys = Object.keys(source);
    const named = namedKind(source);
    let changed: unknown[] | undefined;
    let renamed = false;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      const before = source[key];
      const known = facts(key);
      if (known.shown !== key) {
        renamed = true;
        renamedAny = true;
      }
      const after = member(before, key, known, depth, above, named);
      if (after === before) continue;
      changed ??= keys.map((name) => source[name]);
      changed[i] = after;
    }
    if (changed === undefined && !renamed) return value;
    return rebuilt(
      renamed ? keys.map((key) => facts(key).shown) : keys,
      changed ?? keys.map((name) => source[name]),
      renamed,
    );
  }

  function member(
    value: unknown,
    key: string,
    known: KeyFacts,
    depth: number,
    above: string | undefined,
    named: KeyKind | undefined,
  ): unknown {
    if (value === null || value === undefined || typeof value === 'boolean') return value;
    let { kind } = known;
    if (
      kind === undefined &&
      above !== undefined &&
      key.length <= MAX_CACHED_KEY &&
      (known.leads || facts(above).leads)
    ) {
      kind = kindBelow(above, key);
    }
    if (kind === undefined && named !== undefined && PAIR_VALUES.has(key)) kind = named;
    if (kind === undefined) {
      const said = personal === undefined ? undefined : personally(value, key, above);
      if (said !== undefined) return said;
      if (typeof value === 'string') return textNamed(known, value);
      return walk(value, depth + 1, key.length <= MAX_CACHED_KEY ? key : undefined);
    }
    return hidden(value, kind, key, depth + 1);
  }

  /** Long digits may be an id, when their key says so. */
  function textNamed(known: KeyFacts, value: string): string {
    return known.names && value.length <= 40 && /^[\d -]+$/.test(value) ? patterns.mask(value) : text(value);
  }

  /** A text or number whose key says whether it is personal; undefined when that is for its form to say. */
  function personally(value: unknown, key: string, above: string | undefined): string | undefined {
    // A number that keeps its text is an object.
    const plainValue = typeof value === 'object' ? numberOf(value) : value;
    if (typeof plainValue !== 'string' && typeof plainValue !== 'number') return undefined;
    const own = facts(key);
    if (own.personal!.version && typeof plainValue === 'string' && VERSION_VALUE.test(plainValue.slice(0, 16)))
      return patterns.mask(plainValue);
    let { phone } = own.personal!;
    if ((key === 'from' || key === 'to') && above !== undefined && facts(above).personal!.counts) return undefined;
    // `caller: { id }`
    if (phone === undefined && above !== undefined && key === 'id') phone = personal!.key(`${above}_id`).phone;
    if (phone === undefined && above !== undefined) {
      const owner = facts(above).personal!.phone;
      // A text there is a number to call, if it looks like one; a number of JSON may just as well be an amount or a time.
      const isOfOwner = typeof value === 'string' ? !own.names : own.personal!.which;
      if (owner !== undefined && (own.personal!.part || (owner.grouped && isOfOwner)))
        phone = { ...owner, minDigits: 7, vague: false };
    }
    return phone === undefined ? undefined : personal!.under(plainValue, phone);
  }

  /** What stands under a secret key. */
  function hidden(value: unknown, kind: KeyKind, key: string, depth: number): unknown {
    if (typeof value === 'string') {
      if (value === MASK) return value;
      const read = withoutNuls(value);
      if (saysNothing(read, kind === 'password')) return value;
      if (read.startsWith('/') && isWorkingFolder(key)) return text(value);
      if (kind === 'opaque') return isOpaque(read) ? MASK : text(value);
      if (kind === 'tokens' && /^\d+$/.test(read.slice(0, 30))) return value;
      if ((kind === 'secret' || kind === 'cookie') && /^\d{1,3}$/.test(read)) return value;
      return MASK;
    }
    if (typeof value === 'number' || typeof value === 'bigint') {
      return kind === 'password' || kind === 'code' || (kind === 'secret' && Math.abs(Number(value)) >= 100_000)
        ? MASK
        : value;
    }
    if (value === null || typeof value !== 'object') return value;
    if (kind === 'opaque' || /^session$/i.test(key)) return walk(value, depth, key);
    return leaves(value, kind, depth);
  }

  /** Every text and number below a secret key; keys that look random are secrets themselves. */
  function leaves(value: unknown, kind: KeyKind, depth: number): unknown {
    if (value === null || typeof value !== 'object')
      return hidden(value, kind === 'tokens' || kind === 'secret' ? kind : 'password', '', depth);
    if (depth >= MAX_DEPTH) return TOO_DEEP;
    if (Array.isArray(value)) {
      const masked = value.map((item) => leaves(item, kind, depth + 1));
      return masked.some((item, i) => item !== value[i]) ? masked : value;
    }
    const keys = Object.keys(value);
    const shown = keys.map((key) =>
      looksRandom(key, 12) || /^[0-9a-f-]{20,}$/i.test(key.slice(0, 300)) ? MASK : facts(key).shown,
    );
    const before = keys.map((key) => (value as Record<string, unknown>)[key]);
    const after = before.map((item, i) =>
      isAbout(keys[i]!, kind)
        ? walk(item, depth + 1, undefined)
        : leaves(item, stricter(facts(keys[i]!).kind, kind), depth + 1),
    );
    const renamed = shown.some((key, i) => key !== keys[i]);
    if (renamed) renamedAny = true;
    return !renamed && after.every((item, i) => item === before[i]) ? value : rebuilt(shown, after, renamed);
  }

  /** `{ name: 'X-Api-Key', value: … }`, `{ op: 'replace', path: '/password', value: … }`: the kind of the named key. */
  function namedKind(source: Record<string, unknown>): KeyKind | undefined {
    for (const role of PAIR_NAMES) {
      const given = source[role];
      if (given === undefined) continue;
      const name = Array.isArray(given) ? given.at(-1) : given;
      if (typeof name !== 'string' || name === '' || name.length > MAX_CACHED_KEY) continue;
      const last = name.slice(name.lastIndexOf('/') + 1);
      const { kind } = facts(last);
      if (kind !== undefined) return kind;
    }
    return undefined;
  }

  function walkList(value: readonly unknown[], depth: number, above: string | undefined): unknown {
    let copy: unknown[] | undefined;
    for (let i = 0; i < value.length; i++) {
      const before = value[i];
      const kind = i > 0 ? kindBefore(value[i - 1], before) : undefined;
      const said =
        kind === undefined && personal !== undefined && above !== undefined
          ? personally(before, above, undefined)
          : undefined;
      const after = said ?? (kind === undefined ? walk(before, depth + 1, above) : hidden(before, kind, '', depth + 1));
      if (after === before) continue;
      copy ??= [...value];
      copy[i] = after;
    }
    return copy ?? value;
  }

  /** `["--password", "x"]`, and Node's rawHeaders: a name followed by what belongs to it. */
  function kindBefore(name: unknown, value: unknown): KeyKind | undefined {
    if (typeof name !== 'string' || typeof value !== 'string' || name.length > MAX_CACHED_KEY || name.length < 2)
      return undefined;
    // What is partly masked was not a name before either.
    if (/[\s=[\]{}]/.test(name)) return undefined;
    const flag = name.startsWith('-');
    const { kind } = facts(name.replace(/^-{1,2}/, '').replace(/:$/, ''));
    if (kind === undefined) return undefined;
    if (flag) return value.startsWith('-') ? undefined : kind;
    return looksRandom(value, 8) || ((kind === 'cookie' || kind === 'header') && /[=\s]/.test(value.slice(0, 300)))
      ? kind
      : undefined;
  }

  return {
    suspicious,
    mayHoldSecret: isPlain ? ANCHORS.mayStand : undefined,
    holdsSecret(line) {
      if (!suspicious(line)) return false;
      let parsed: unknown;
      try {
        parsed = JSON.parse(line);
      } catch {
        return text(line) !== line;
      }
      if (walk(parsed, 0, undefined) !== parsed) return true;
      return membersOf(line) !== countMembers(parsed, 0) && text(line) !== line;
    },
    isSecretKey: (key) => facts(key).kind !== undefined,
    leads: (key) => facts(key).leads || facts(key).leadsToPersonal || patterns.present,
    text,
    textUnder: (key, value) => textNamed(facts(key), value),
    value(value) {
      let masked = walk(value, 0, undefined);
      // A key that was masked may have decided what stands below it.
      for (let round = 1; renamedAny && round < MAX_ROUNDS; round++) {
        renamedAny = false;
        masked = walk(masked, 0, undefined);
      }
      renamedAny = false;
      return masked;
    },
  };
}

const PAIR_NAMES = [
  'name',
  'key',
  'header',
  'field',
  'path',
  'param',
  'parameter',
  'property',
  'attribute',
  'variable',
  'label',
  'k',
  'headerName',
  'column',
] as const;
const PAIR_VALUES = new Set([
  'value',
  'val',
  'values',
  'v',
  'newValue',
  'oldValue',
  'new_value',
  'old_value',
  'new',
  'old',
  'lhs',
  'rhs',
  'before',
  'after',
  'content',
  'headerValue',
  'data',
  'from',
  'to',
]);

/** May a text under this key say what the value beside it is, as in `{ name: 'X-Api-Key', value: … }`? */
export function isPairName(key: string): boolean {
  return (PAIR_NAMES as readonly string[]).includes(key);
}

/** The kind of a key or of the one above it, whichever is stricter. */
function stricter(own: KeyKind | undefined, above: KeyKind): KeyKind {
  return own === 'password' || own === 'code' ? own : above;
}

/** The number that an object without members stands for. */
function numberOf(value: object | null): unknown {
  return value !== null && !Array.isArray(value) && typeof value.valueOf === 'function' ? value.valueOf() : undefined;
}

/** An object with these keys; one that is there already gets a number, so that nothing is lost. */
function rebuilt(keys: readonly string[], values: readonly unknown[], renamed: boolean): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  const seen = renamed ? new Map<string, number>() : undefined;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!;
    const times = (seen?.get(key) ?? 0) + 1;
    seen?.set(key, times);
    const name = times === 1 ? key : `${key} ${times}`;
    const value = values[i];
    // Plain assignment would replace the prototype instead of the field.
    if (name === '__proto__')
      Object.defineProperty(made, name, { value, enumerable: true, configurable: true, writable: true });
    else made[name] = value;
  }
  return made;
}

/** A text of two bytes per character, read as one byte each, has NULs in between; its reader does not see them. */
function withoutNuls(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '') : text;
}

/** `\u0070` and the like, also with several backslashes, as what they stand for; quotes and backslashes stay. */
function undoEscapes(text: string): string {
  if (!/\\u00/i.test(text)) return text;
  return text.replace(/\\u00([2-7][0-9a-f])/gi, (found, hex: string) => {
    const char = String.fromCharCode(Number.parseInt(hex, 16));
    return char === '"' || char === '\\' ? found : char;
  });
}

/** Colons outside strings: the members of all objects in a valid JSON text, keys given twice included. */
function membersOf(json: string): number {
  let count = 0;
  for (let i = 0; i < json.length; i++) {
    const code = json.charCodeAt(i);
    if (code === 58) count += 1;
    else if (code === 34) {
      i += 1;
      while (i < json.length && json.charCodeAt(i) !== 34) i += json.charCodeAt(i) === 92 ? 2 : 1;
    }
  }
  return count;
}

function countMembers(value: unknown, depth: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  // Deeper ones have been cut by then.
  if (depth > MAX_DEPTH) return 0;
  const inner = Object.values(value);
  let count = Array.isArray(value) ? 0 : inner.length;
  for (const item of inner) count += countMembers(item, depth + 1);
  return count;
}

/** Remembers texts that masking leaves as they are: masked ones look alike, and so does much that only looks like a secret. */
function createSettled() {
  const texts = new Set<string>();
  return {
    has: (text: string) => text.length <= MAX_SETTLED_LENGTH && texts.has(text),
    add(text: string): void {
      if (text.length > MAX_SETTLED_LENGTH) return;
      if (texts.size >= MAX_SETTLED) texts.clear();
      // As a text of its own, not as a part of one that may be longer.
      texts.add(` ${text}`.slice(1));
    },
  };
}

function plain(key: string): string {
  return key.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
}

/** Punctuation may stand between any two characters of a custom key, as in `door-code` for `doorCode`. */
function loose(name: string): string {
  return [...name].join('[^\\p{L}\\p{N}]{0,2}');
}

/** All literals that lead to a rule; the same for every masker, so that their tables are made once. */
const LITERALS = [
  ...new Set(
    [...[...FORM_RULES, ...createTextRules(() => false)].flatMap((rule) => rule.anchors), ...COMMAND_ANCHORS].map(
      (literal) => literal.toLowerCase(),
    ),
  ),
];
const ANCHORS = createAnchors(LITERALS);
const BOUNDS = new Map(WORD_ANCHORS.map(({ word, at }) => [word, at]));

/** The rules by the anchors that lead to them. */
function anchorTable(rules: readonly Rule[]) {
  const wanted = new Map<string, Rule[]>(LITERALS.map((literal) => [literal, []]));
  for (const rule of rules) for (const anchor of new Set(rule.anchors)) wanted.get(anchor.toLowerCase())?.push(rule);
  const leads = LITERALS.map((literal) => ({
    rules: wanted.get(literal)!,
    word: BOUNDS.get(literal),
    // They have no rule: commands are looked for line by line.
    always: COMMAND_ANCHORS.includes(literal),
  }));

  function leadsTo(text: string, start: number, end: number, word: 'start' | 'whole' | undefined): boolean {
    if (word === undefined) return true;
    return startsWord(text, start) && (word === 'start' || endsWord(text, end));
  }

  return {
    /** Does any rule want to look? */
    reached(text: string): boolean {
      // These are undone before the rules look.
      if (text.includes('\\u') || text.includes('\0')) return true;
      let reached = false;
      ANCHORS.scan(text, (index, start, end) => {
        if (index === DIGITS) {
          // A card around these digits reaches no further than its own length.
          reached = mayHoldCard(text.slice(Math.max(0, start - 24), end + 24));
          return reached ? STOP : GO_ON;
        }
        const { rules: wanted, word, always } = leads[index]!;
        if (!always) {
          if (!leadsTo(text, start, end, word)) return GO_ON;
          if (!wanted.some((rule) => rule.near?.(text, start, end) ?? true)) return GO_ON;
        }
        reached = true;
        return STOP;
      });
      return reached;
    },
    /** Hands over what the rules find; `take` answers where to go on, or `GO_ON`. */
    find(text: string, take: (found: Cut) => number): void {
      ANCHORS.scan(text, (index, start, end) => {
        if (index === DIGITS) return GO_ON;
        const { rules: wanted, word } = leads[index]!;
        if (!leadsTo(text, start, end, word)) return GO_ON;
        for (const rule of wanted) {
          const found = rule.find(text, start, end);
          if (found !== undefined) return take(found);
        }
        return GO_ON;
      });
    },
  };
}

const isLower = (code: number) => code >= 97 && code <= 122;
const isUpper = (code: number) => code >= 65 && code <= 90;

function startsWord(text: string, start: number): boolean {
  const before = text.charCodeAt(start - 1);
  if (!(isLower(before) || isUpper(before))) return true;
  const first = text.charCodeAt(start);
  if (isUpper(first) && (isLower(before) || isLower(text.charCodeAt(start + 1)))) return true;
  // After a written-out line break, or %3A.
  return text.charCodeAt(start - 2) === 92 || text.charCodeAt(start - 3) === 37;
}

function endsWord(text: string, end: number): boolean {
  const after = text.charCodeAt(end);
  return !isLower(after) || (after === 115 && !isLower(text.charCodeAt(end + 1)));
}

// ---- the operator's own patterns ----

// A pattern sees at most 4,096 characters at a time, so one that is quadratic in what it searches costs a bounded amount per
// character; windows overlap by 1,024 characters, which is the longest match that is certainly found.

export const WINDOW = 4_096;
export const OVERLAP = 1_024;

interface Patterns {
  readonly present: boolean;
  mask(text: string): string;
}

/** @throws SyntaxError for a source that is not a regular expression. */
function createPatterns(sources: readonly string[]): Patterns {
  const patterns = sources.map((source) => new RegExp(source, 'g'));
  return {
    present: patterns.length > 0,
    mask: (text) => patterns.reduce((masked, pattern) => replaceAll(masked, pattern), text),
  };
}

function replaceAll(text: string, pattern: RegExp): string {
  if (text.length <= WINDOW) return text.replace(pattern, (found) => (found === '' ? '' : MASK));
  let out = '';
  let done = 0;
  for (let from = 0; from < text.length; from += WINDOW - OVERLAP) {
    const window = text.slice(from, from + WINDOW);
    for (const { index, 0: found } of window.matchAll(pattern)) {
      const at = from + index;
      if (found === '' || at + found.length <= done) continue;
      // A match that begins inside an earlier one masks what it adds.
      out += at >= done ? text.slice(done, at) + MASK : '';
      done = at + found.length;
    }
    if (from + WINDOW >= text.length) break;
  }
  return out + text.slice(done);
}
