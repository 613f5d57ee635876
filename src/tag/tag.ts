// Parsed event -> tagged event: the error tag, the error's template and fingerprint, the event contract. Guarantee: a template is a
// pure function of the first line of the error's text, and linear in it.
import { createHash } from 'node:crypto';
import { Ajv, type ValidateFunction } from 'ajv';
import { CALL_STATUSES, EVENTS, FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { isErrorLevel } from '../parse/conform.ts';
import type { ParsedEvent } from '../parse/parse.ts';
import { fieldNumber } from '../parse/scan/key-tree.ts';
import { ScannedEvent } from '../parse/scan/scanned-event.ts';
import type { Scan } from '../parse/scan/scanner.ts';

export interface TaggedEvent extends ParsedEvent {
  /** What groups events tagged `error`; undefined for others. */
  readonly grouping: ErrorGrouping | undefined;
}

/** The returned function tags one event. Pure apart from bounded caches. */
export function createTagger(): (event: ParsedEvent) => TaggedEvent {
  const keepsContract = createEventCheck();
  const keepsContractAt = createScannedCheck();
  const groupError = createErrorGrouping();

  return (event) => {
    const scan = event instanceof ScannedEvent ? event.scan : undefined;
    // Whether a contract was broken, and how, is for the document to say.
    if (scan !== undefined && (!scan.has(EVENT) || keepsContractAt(scan))) {
      const scanned = event as ScannedEvent;
      if (!scan.isError) return scanned.tagged();
      if (!scan.has(ERROR) || scan.bytes[scan.places[2 * ERROR]!] === OPEN)
        return scanned.grouped(addTags(event.tags, true, false), groupingAt(scan));
    }
    const { doc } = event;
    const isError = isErrorLevel(doc.level);
    const invalid = doc.event !== undefined && !keepsContract(doc);
    const tags = isError || invalid ? addTags(event.tags, isError, invalid) : event.tags;
    return {
      doc,
      verbatim: event.verbatim,
      timeMs: event.timeMs,
      timeText: event.timeText,
      tags,
      grouping: isError ? grouping(doc) : undefined,
    };
  };

  function grouping(doc: Record<string, unknown>): ErrorGrouping {
    const error = typeof doc.error === 'object' && doc.error !== null ? (doc.error as Record<string, unknown>) : {};
    return groupingOf(doc.message, error);
  }

  function groupingAt(scan: Scan): ErrorGrouping {
    const name = scan.valueOf(ERROR_NAME);
    return groupingOf(scan.valueOf(MESSAGE), {
      name,
      code: scan.valueOf(ERROR_CODE),
      message: scan.valueOf(ERROR_MESSAGE),
    });
  }

  function groupingOf(message: unknown, error: Record<string, unknown>): ErrorGrouping {
    // The log message says what failed for the caller; the error's own text is used when there is no message.
    const text = firstText(message, error.message, error.name) ?? 'unknown error';
    return groupError(text, String(error.name ?? ''), String(error.code ?? ''));
  }
}

function addTags(tags: readonly string[], isError: boolean, invalid: boolean): readonly string[] {
  const all = new Set(tags);
  if (isError) all.add('error');
  if (invalid) all.add('_event_invalid');
  return [...all];
}

function firstText(...candidates: unknown[]): string | undefined {
  return candidates.find((text): text is string => typeof text === 'string' && text.trim() !== '');
}

// ---- the application's event contract, as JSON schemas made from the catalogue ----

const JSON_TYPES: Partial<Record<FieldType, object>> = {
  keyword: { type: 'string', minLength: 1 },
  text: { type: 'string' },
  long: { type: 'number' },
  short: { type: 'integer' },
  float: { type: 'number' },
  boolean: { type: 'boolean' },
};

/** The JSON schema of one declared event; published in docs/fields.md. */
export function eventSchema(required: readonly string[]): object {
  const root: { type: string; required: string[]; properties: Record<string, unknown> } = {
    type: 'object',
    required: [],
    properties: {},
  };
  for (const path of required) {
    const [head, leaf] = path.split('.') as [string, string | undefined];
    const field = (FIELDS as FieldGroup)[head]!;
    if (!root.required.includes(head)) root.required.push(head);
    if (leaf === undefined) {
      root.properties[head] = JSON_TYPES[field as FieldType];
      continue;
    }
    root.properties[head] ??= { type: 'object', required: [], properties: {} };
    const group = root.properties[head] as typeof root;
    group.required.push(leaf);
    group.properties[leaf] =
      path === 'call.status' ? { enum: CALL_STATUSES } : JSON_TYPES[(field as FieldGroup)[leaf] as FieldType];
  }
  return root;
}

const CONTRACTS = new Map<unknown, readonly string[]>(
  Object.entries(EVENTS).map(([name, { required }]) => [name, required]),
);

/** True when the document keeps its event's contract, or declares no known event. */
export function createEventCheck(): (doc: Record<string, unknown>) => boolean {
  const checks = new Map<unknown, ValidateFunction>();
  // Most events are judged where their lines lie: what is not asked for need not be compiled at each start.
  let ajv: Ajv | undefined;
  return (doc) => {
    let check = checks.get(doc.event);
    if (check === undefined) {
      const required = CONTRACTS.get(doc.event);
      if (required === undefined) return true;
      ajv ??= new Ajv({ strict: true, allErrors: false });
      check = ajv.compile(eventSchema(required));
      checks.set(doc.event, check);
    }
    return check(doc);
  };
}

const EVENT = fieldNumber('event');
const MESSAGE = fieldNumber('message');
const ERROR = fieldNumber('error');
const ERROR_NAME = fieldNumber('error.name');
const ERROR_CODE = fieldNumber('error.code');
const ERROR_MESSAGE = fieldNumber('error.message');
/** Those whose texts tagging reads, by number. */
export const TAGGED_BY: readonly number[] = [EVENT, MESSAGE, ERROR_NAME, ERROR_CODE, ERROR_MESSAGE];

/** The same for a line that was scanned. False when the document has to be asked. */
function createScannedCheck(): (scan: Scan) => boolean {
  const contracts = Object.entries(EVENTS).map(([name, { required }]) => ({
    name,
    fields: required.map((path): Required => {
      const [head, leaf] = path.split('.') as [string, string | undefined];
      const field = (FIELDS as FieldGroup)[head]!;
      const type = (leaf === undefined ? field : (field as FieldGroup)[leaf]) as FieldType;
      return { number: fieldNumber(path), type, statuses: path === 'call.status' ? CALL_STATUSES : undefined };
    }),
  }));

  /** Of the last event that has one: it mostly comes again soon. */
  let last = contracts[0]!;

  return (scan) => {
    if (!scan.isText(EVENT, last.name)) {
      const contract = contracts.find(({ name }) => scan.isText(EVENT, name));
      if (contract === undefined) return true;
      last = contract;
    }
    const { fields } = last;
    for (let i = 0; i < fields.length; i++) if (!keeps(scan, fields[i]!)) return false;
    return true;
  };
}

function keeps(scan: Scan, { number, type, statuses }: Required): boolean {
  if (!scan.has(number)) return false;
  if (statuses !== undefined) {
    for (let i = 0; i < statuses.length; i++) if (scan.isText(number, statuses[i]!)) return true;
    return false;
  }
  const { bytes, places } = scan;
  const from = places[2 * number]!;
  const first = bytes[from]!;
  if (type === 'keyword' || type === 'text') return first === QUOTE && bytes[from + 1] !== QUOTE;
  if (type === 'boolean') return first === SMALL_T || first === SMALL_F;
  if (first !== MINUS && !(first >= ZERO && first <= NINE)) return false;
  // Of an integer only that all are digits is certain.
  return type !== 'short' || !bytes.subarray(from, places[2 * number + 1]).includes(DOT);
}

interface Required {
  readonly number: number;
  readonly type: FieldType;
  /** All that it may be. */
  readonly statuses: readonly string[] | undefined;
}

const [QUOTE, MINUS, DOT, ZERO, NINE, SMALL_F, SMALL_T, OPEN] = [34, 45, 46, 48, 57, 102, 116, 123];

// ---- error templates: the message with what varies replaced, so that one fault is one line in a chart ----
// In: an error text of any length; out: at most 256 characters, and a fingerprint of 16 hex digits. `npm run bench:templates`
// measures how well it groups.
//
// It walks over the characters instead of using regular expressions: what varies is recognised by the shape of a token (digits,
// slashes, dots) and by what stands before it (`=`, `user`, a month). Whatever contains a digit varies. Neighbours of one kind
// become one, so that lists of any length give the same template.

/** Raise it with every change to what a text becomes: what was learned from older templates is then learned anew. */
export const ERROR_TEMPLATE_VERSION = 2;

const MAX_SOURCE = 512;
const MAX_TEMPLATE = 256;
const MAX_CACHED = 5_000;

const QUOTED = '<quoted>';
// Few kinds, because where a host may stand, so may an address, and where a path, a URL.
const PATH = '<path>';
const USER = '<user>';
const VALUE = '<value>';
const LIST = '<list>';
const ID = '<id>';
const NUMBER = '<n>';

// Classes of characters.
const OTHER = 0;
const LETTER = 1;
const DIGIT = 2;
/** May stand within a token. */
const INNER = 3;
const SPACE = 4;

const CLASS = new Uint8Array(128).fill(OTHER);
for (let c = 0; c < 128; c++) {
  const char = String.fromCharCode(c);
  if (/[A-Za-z_]/.test(char)) CLASS[c] = LETTER;
  else if (/\d/.test(char)) CLASS[c] = DIGIT;
  else if ('.-/\\:@%+#~$*&?!'.includes(char)) CLASS[c] = INNER;
  else if (/\s/.test(char)) CLASS[c] = SPACE;
}

/** Between neighbours of one kind these carry no meaning. */
const JOINT = new Uint8Array(128);
for (const char of ' ,:;./#+-|*x') JOINT[char.charCodeAt(0)] = 1;

const UNITS = /^(?:[mnuµ]?s|min|secs?|[hdkKMGx%CFVWLb]|[kKMGT]i?[Bb]|B|st|nd|rd|th|px|k?Hz|[MG]Hz|rpm|T\d.*|Z)$/;
const MONTHS = new Set('Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' '));
const WEEKDAYS = new Set('Mon Tue Wed Thu Fri Sat Sun'.split(' '));
const ZONES = new Set('AM PM am pm UTC GMT CST CDT PST PDT EST EDT CET CEST'.split(' '));
const LEVELS = new Set('TRACE DEBUG INFO WARN WARNING ERROR FATAL'.split(' '));
/** What may follow `user` without being its name. */
const NO_NAME = new Set(
  'is was are has had not does did name names id ids from by in on with to and or for of at can cannot could may must will should agent input session sessions account data group interface token'.split(
    ' ',
  ),
);
/** `password for root`: the user's name follows the `for`. */
const BEFORE_FOR = new Set('password publickey failures failure login logon access authentication'.split(' '));
const METHODS = /^(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS|CONNECT) /;
const TOP_LEVEL =
  /\.(?:com|net|org|edu|gov|io|cn|hk|de|uk|tw|jp|ru|info|biz|us|fr|nl|br|in|au|co|eu|dev|local|internal|lan|cloud|pl|it|es|ch|cz|kr)$/;
/** Names of packages and settings; the name of a class has a capital letter and stays. */
const PROPERTY = /^(?:com|org|net|system|android|sys|mapred|mapreduce|dfs)(?:\.[a-z\d_]+){2,}$/;
const PACKAGE = /^(?:com|org|net|java|javax|io|edu|sun|android)\./;

/** The first line of `text` with what varies replaced by placeholders. */
export function errorTemplate(text: string): string {
  const start = text.slice(0, MAX_SOURCE).trim();
  const end = start.search(/[\r\n]/);
  const template = new Walk(end < 0 ? start : start.slice(0, end)).template();
  // A cut surrogate pair would make the text invalid.
  return (template.length <= MAX_TEMPLATE ? template : template.slice(0, MAX_TEMPLATE)).toWellFormed();
}

class Walk {
  private readonly line: string;
  private out = '';
  /** Everything before it is in `out`. */
  private done = 0;
  private last = '';
  /** The words before the present one, as far as they matter. */
  private word = '';
  private wordBefore = '';
  /** A time was read at the line's beginning, so the host comes next. */
  private hostNext = false;

  constructor(line: string) {
    this.line = line;
  }

  template(): string {
    const { line } = this;
    for (let at = 0; at < line.length; ) {
      const code = line.charCodeAt(at);
      const kind = code < 128 ? CLASS[code]! : LETTER;
      if (kind === SPACE) at += 1;
      else if (kind !== OTHER) at = this.token(at);
      else at = this.sign(at, code);
    }
    return this.done === 0 ? line : this.out + line.slice(this.done);
  }

  /** Replaces what lies between; neighbours of one kind become one. */
  private put(from: number, to: number, placeholder: string): number {
    const { last } = this;
    if (last !== '' && this.joined(from)) {
      const both = last === placeholder ? last : merged(last, placeholder);
      if (both !== undefined) {
        if (both !== last) this.out = this.out.slice(0, -last.length) + both;
        this.last = both;
        this.done = to;
        return to;
      }
    }
    this.out += this.line.slice(this.done, from) + placeholder;
    this.last = placeholder;
    this.done = to;
    return to;
  }

  private joined(to: number): boolean {
    for (let i = this.done; i < to; i++) {
      const code = this.line.charCodeAt(i);
      if (code > 127 || JOINT[code] === 0) return false;
    }
    return true;
  }

  /** A character outside of tokens: quotations, assignments and lists begin with one. */
  private sign(at: number, code: number): number {
    const { line } = this;
    switch (code) {
      case 0x22: // "
      case 0x60: // `
        return this.quotation(at, code);
      case 0x27: // '
        // Inside a word (can't) it opens no quotation.
        return at > 0 && isWordLike(line.charCodeAt(at - 1)) ? at + 1 : this.quotation(at, code);
      case 0x3d: // =
        return this.assignment(at);
      case 0x5b: // [
        return this.list(at);
      case 0x3c: // <
        // `<1 sec` is a time like any other.
        if (line.startsWith('<1 sec', at)) return this.put(at, at + 6, NUMBER);
        return at + 1;
      default:
        return at + 1;
    }
  }

  private quotation(at: number, quote: number): number {
    const { line } = this;
    const end = line.indexOf(String.fromCharCode(quote), at + 1);
    if (end < 0) return at + 1;
    const method = METHODS.exec(line.slice(at + 1, at + 9));
    if (method === null) return this.put(at, end + 1, QUOTED);
    this.put(at + 1 + method[0].length, end, PATH);
    return end + 1;
  }

  /** `key=value`, `key = value` and `key= `. */
  private assignment(at: number): number {
    const { line } = this;
    const next = line.charCodeAt(at + 1);
    const before = line.charCodeAt(at - 1);
    // ==, =>, <=, !=, and rulers like ===.
    if (next === 0x3d || next === 0x3e || before === 0x3d || before === 0x3c || before === 0x3e || before === 0x21) {
      return at + 1;
    }
    if (!isWordLike(before) && before !== 0x20 && before !== 0x5d && before !== 0x29) return at + 1;
    let from = at + 1;
    while (from < line.length && line.charCodeAt(from) === 0x20) from++;
    if (from >= line.length) return this.put(at + 1, from, VALUE);
    let to = from;
    let depth = 0;
    const first = line.charCodeAt(from);
    if (first === 0x22 || first === 0x27) {
      const end = line.indexOf(line[from]!, from + 1);
      if (end > 0) return this.put(at + 1, end + 1, VALUE);
    }
    for (; to < line.length; to++) {
      const code = line.charCodeAt(to);
      if (code === 0x7b || code === 0x5b || code === 0x28) depth += 1;
      else if (code === 0x7d || code === 0x5d || code === 0x29) {
        if (depth === 0) break;
        depth -= 1;
      } else if (depth === 0) {
        if (code === 0x20 || code === 0x2c || code === 0x3b || code === 0x7c) break;
        // After a space, this is the next key, so the present one is empty.
        if (code === 0x3d && from > at + 1) return this.put(at + 1, at + 1, VALUE);
      }
    }
    if (to > from && to < line.length && line.charCodeAt(to - 1) === 0x3a) to -= 1;
    return this.put(at + 1, Math.max(to, at + 1), VALUE);
  }

  /** `[a, b, c]` of plain words. */
  private list(at: number): number {
    const { line } = this;
    // The thread in a Java logger's layout, and OpenStack's request with its user.
    if ((LEVELS.has(this.word) && this.out.length < 200) || line.startsWith('[req-', at)) {
      const end = closing(line, at);
      if (end > 0) {
        this.word = '';
        return this.put(at + 1, end, ID) && end + 1;
      }
    }
    let items = 1;
    for (let i = at + 1; i < line.length; i++) {
      const code = line.charCodeAt(i);
      if (code === 0x5d) {
        if (items === 1) return at + 1;
        this.put(at + 1, i, LIST);
        return i + 1;
      }
      if (code === 0x2c) items += 1;
      else if (code === 0x5b || code === 0x3d || code === 0x22 || code === 0x28 || code === 0x7b) return at + 1;
    }
    return at + 1;
  }

  private token(from: number): number {
    const { line } = this;
    let to = from;
    let digits = 0;
    let letters = 0;
    let dots = 0;
    let slashes = 0;
    let marks = 0;
    for (; to < line.length; to++) {
      const code = line.charCodeAt(to);
      const kind = code < 128 ? CLASS[code]! : LETTER;
      if (kind === LETTER) letters += 1;
      else if (kind === DIGIT) digits += 1;
      else if (kind !== INNER) break;
      else if (code === 0x2e) dots += 1;
      else if (code === 0x2f || code === 0x5c) {
        slashes += 1;
        if (code === 0x2f && line.charCodeAt(to - 1) === 0x2f && line.charCodeAt(to - 2) === 0x3a) {
          return this.url(from, to);
        }
      } else if (code === 0x40) marks += 1;
    }
    let end = to;
    while (end > from && isTrailing(line.charCodeAt(end - 1))) end--;
    if (digits === 0) {
      if (letters === 0) return to;
      // A key says what its value means, so it stays.
      if (line.charCodeAt(to) === 0x3d) return to;
      if (slashes > 0 && this.isPath(from, end, slashes, dots)) return this.put(from, this.pathEnd(to, end), PATH);
      if (marks > 0 && dots > 0) return this.put(from, end, ID);
      if (dots > 0) return this.dotted(from, to, end);
      return this.plain(from, to, end);
    }
    if (line.charCodeAt(to) === 0x3d && letters > 0 && slashes === 0) return to;
    return this.mixed(from, to, end, { digits, letters, dots, slashes, marks });
  }

  /** A word without digits, which varies only because of what stands before it. */
  private plain(from: number, to: number, end: number): number {
    const { line, word, wordBefore } = this;
    const present = line.slice(from, end);
    this.wordBefore = word;
    this.word = present;
    if (this.hostNext) {
      this.hostNext = false;
      return this.put(from, end, ID) && to;
    }
    if ((word === 'user' || word === 'User') && this.follows(from) && !NO_NAME.has(present) && end === to) {
      return this.put(from, end, USER);
    }
    if (
      word === 'for' &&
      BEFORE_FOR.has(wordBefore) &&
      present !== 'invalid' &&
      present !== 'user' &&
      present !== 'illegal'
    ) {
      return this.put(from, end, USER) && to;
    }
    switch (present.length) {
      case 2:
        if (this.last === NUMBER && ZONES.has(present) && this.joined(from)) return this.put(from, end, NUMBER) && to;
        break;
      case 3:
        if ((MONTHS.has(present) && this.beforeDigit(to)) || (WEEKDAYS.has(present) && this.beforeDate(to))) {
          return this.put(from, end, NUMBER) && to;
        }
        if (this.last === NUMBER && ZONES.has(present) && this.joined(from)) return this.put(from, end, NUMBER) && to;
        if (present === 'CMD' && line.charCodeAt(to) === 0x20 && line.charCodeAt(to + 1) === 0x28) {
          const close = line.lastIndexOf(')');
          if (close > to + 2) return this.put(to + 2, close, QUOTED);
        }
        break;
      case 4:
        if (present === 'true') return this.put(from, end, VALUE) && to;
        break;
      case 5:
        if (present === 'false') return this.put(from, end, VALUE) && to;
        break;
      default:
    }
    return to;
  }

  /** Does it follow the previous word, with nothing but a space between? */
  private follows(from: number): boolean {
    return from > 1 && this.line.charCodeAt(from - 1) === 0x20 && isWordLike(this.line.charCodeAt(from - 2));
  }

  private beforeDigit(to: number): boolean {
    let i = to;
    while (this.line.charCodeAt(i) === 0x20) i++;
    return i > to && CLASS[this.line.charCodeAt(i)] === DIGIT;
  }

  private beforeDate(to: number): boolean {
    let i = to;
    while (this.line.charCodeAt(i) === 0x20 || this.line.charCodeAt(i) === 0x2c) i++;
    return (i > to && CLASS[this.line.charCodeAt(i)] === DIGIT) || MONTHS.has(this.line.slice(i, i + 3));
  }

  private url(from: number, slash: number): number {
    const { line } = this;
    let to = slash + 1;
    for (; to < line.length; to++) {
      const code = line.charCodeAt(to);
      // Space, quotation marks, < > ) ] }
      if (
        code <= 0x22 ||
        code === 0x27 ||
        code === 0x3c ||
        code === 0x3e ||
        code === 0x29 ||
        code === 0x5d ||
        code === 0x7d
      ) {
        break;
      }
    }
    while (to > slash + 1 && isTrailing(line.charCodeAt(to - 1))) to--;
    if (line.charCodeAt(to - 1) === 0x2c) to--;
    return this.put(from, to, PATH);
  }

  /** Is a token with slashes and no digits a path? */
  private isPath(from: number, end: number, slashes: number, dots: number): boolean {
    const { line } = this;
    const first = line.charCodeAt(from);
    if (end - from < 2) return false;
    if (first === 0x2f || first === 0x7e || line.charCodeAt(from + 1) === 0x3a) return true;
    if (first === 0x2e && slashes > 0) return true;
    return slashes > 1 || dots > 0 || line.slice(from, end).includes('\\');
  }

  /** Paths continue past characters that end other tokens: `a=1`, `~{x}`. */
  private pathEnd(to: number, end: number): number {
    const { line } = this;
    if (line.charCodeAt(to) !== 0x3d) return end;
    let i = to;
    while (i < line.length && line.charCodeAt(i) > 0x20 && line.charCodeAt(i) !== 0x2c && line.charCodeAt(i) !== 0x29)
      i++;
    return i;
  }

  /** Dots and letters: a host, a program, or a name that stays as it is. */
  private dotted(from: number, to: number, end: number): number {
    const token = this.line.slice(from, end);
    this.wordBefore = this.word;
    this.word = token;
    if (token.endsWith('.exe')) {
      // ` *64` follows the name of a program that runs in another mode.
      return this.put(from, this.line.startsWith(' *64', end) ? end + 4 : end, PATH);
    }
    if (this.hostNext || PROPERTY.test(token) || (TOP_LEVEL.test(token) && !PACKAGE.test(token))) {
      this.hostNext = false;
      return this.put(from, end, ID) && to;
    }
    return to;
  }

  private mixed(
    from: number,
    to: number,
    end: number,
    has: { digits: number; letters: number; dots: number; slashes: number; marks: number },
  ): number {
    const { line, word, wordBefore } = this;
    this.wordBefore = word;
    this.word = '';
    if (this.hostNext) {
      this.hostNext = false;
      return this.put(from, end, ID) && to;
    }
    if ((word === 'user' || word === 'User') && this.follows(from)) return this.put(from, end, USER) && to;
    if (word === 'for' && BEFORE_FOR.has(wordBefore)) return this.put(from, end, USER) && to;
    if (has.letters === 0) {
      if (has.dots >= 3 && isAddress(line, from, end)) return this.put(from, end, ID) && to;
      // Hexadecimal that happens to consist of digits only.
      const isHex = end - from >= 8 && has.dots === 0 && line.charCodeAt(from) === 0x30 && has.digits === end - from;
      const number = this.sized(this.put(from, end, isHex ? ID : NUMBER) && to);
      // `Jun  9 06:06:01 host`, as syslog begins.
      if (from < 20 && this.out === NUMBER && isClock(line, from, end) && MONTHS.has(line.slice(0, 3))) {
        this.hostNext = true;
      }
      return number;
    }
    if (has.dots >= 3 && isAddress(line, from, end)) return this.put(from, end, ID) && to;
    if (has.marks > 0) {
      // Class@1f2e3d: the class stays.
      const at = line.indexOf('@', from);
      const isClass = at > from && /^[A-Za-z$.]+$/.test(line.slice(from, at)) && !line.slice(at, end).includes('.');
      return this.put(isClass ? at + 1 : from, end, ID) && to;
    }
    if (has.slashes > 0) {
      if (this.isPath(from, end, has.slashes, 0)) return this.put(from, this.pathEnd(to, end), PATH);
      return this.put(from, end, ID) && to;
    }
    // number and unit
    let i = from;
    if (line.charCodeAt(i) === 0x2d || line.charCodeAt(i) === 0x2b) i++;
    if (isDigit(line.charCodeAt(i))) {
      while (i < end && (isDigit(line.charCodeAt(i)) || isInnerNumber(line.charCodeAt(i)))) i++;
      if (end - i <= 30 && UNITS.test(line.slice(i, end))) return this.put(from, end, NUMBER) && to;
    }
    const colon = line.indexOf(':', from);
    if (colon > from && colon < end) return this.colons(from, to, end);
    return this.put(from, end, ID) && to;
  }

  /** The unit of a size belongs to its number: 384.0 B and 1.2 KB are alike. */
  private sized(to: number): number {
    const { line } = this;
    if (line.charCodeAt(to) !== 0x20) return to;
    let end = to + 1;
    if ('KMGTk'.includes(line[end] ?? ' ')) end += 1;
    if (line[end] === 'i') end += 1;
    if (line[end] !== 'B' || isWordLike(line.charCodeAt(end + 1))) return to;
    this.done = end + 1;
    return end + 1;
  }

  /** `host:port`, an IPv6 address, or parts of which some vary. */
  private colons(from: number, to: number, end: number): number {
    const { line } = this;
    const token = line.slice(from, end);
    if (
      /^[a-z][a-z\d-]*(?:(?:\.[a-z\d-]+)+:\d{2,5}|:\d{4,5})$/.test(token) &&
      !/\.(?:java|c|h|cc|cpp|ts|js|py|go|rb|scala|rs|kt):/.test(token)
    ) {
      return this.put(from, end, ID) && to;
    }
    if (/^[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7}$/.test(token)) return this.put(from, end, ID) && to;
    for (let start = from; start < end; ) {
      let stop = line.indexOf(':', start);
      if (stop < 0 || stop > end) stop = end;
      const part = line.slice(start, stop);
      // In registers and the like, a hexadecimal value may have no letter.
      if (/\d/.test(part)) this.put(start, stop, start > from || /^[+-]?\d[\d.,-]*$/.test(part) ? NUMBER : ID);
      start = stop + 1;
    }
    return to;
  }
}

/** The bracket that closes the one at `at`; -1 without one. */
function closing(line: string, at: number): number {
  let depth = 0;
  for (let i = at; i < line.length; i++) {
    const code = line.charCodeAt(i);
    if (code === 0x5b) depth += 1;
    else if (code === 0x5d && --depth === 0) return i;
  }
  return -1;
}

/** What a number next to an id becomes, since both may be parts of one thing. */
function merged(one: string, other: string): string | undefined {
  if (one === VALUE && (other === NUMBER || other === ID)) return VALUE;
  return (one === NUMBER && other === ID) || (one === ID && other === NUMBER) ? ID : undefined;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** . , : - / within a number, a date or a time. */
function isInnerNumber(code: number): boolean {
  return code === 0x2e || code === 0x2c || code === 0x3a || code === 0x2d || code === 0x2f;
}

/** Is it punctuation of the sentence, not the end of a token? */
function isTrailing(code: number): boolean {
  return code === 0x2e || code === 0x3a || code === 0x21 || code === 0x3f || code === 0x2d;
}

function isWordLike(code: number): boolean {
  return code > 127 || CLASS[code] === LETTER || CLASS[code] === DIGIT;
}

/** Does it contain d.d.d.d anywhere? `/10.0.0.1:80`, `name/10.0.0.1`. */
function isAddress(line: string, from: number, end: number): boolean {
  let run = 0;
  let groups = 0;
  for (let i = from; i < end; i++) {
    const code = line.charCodeAt(i);
    if (isDigit(code)) {
      run += 1;
      if (run === 1) groups += 1;
      if (groups === 4) return true;
      if (run > 3) groups = -100;
    } else if (code !== 0x2e || run === 0) {
      run = 0;
      groups = 0;
    } else run = 0;
  }
  return false;
}

function isClock(line: string, from: number, end: number): boolean {
  return end - from === 8 && line.charCodeAt(from + 2) === 0x3a && line.charCodeAt(from + 5) === 0x3a;
}

export interface ErrorGrouping {
  readonly template: string;
  readonly fingerprint: string;
}

/** Templates and fingerprints. Fingerprints are cached, within bounds, because an incident repeats a few templates often. */
export function createErrorGrouping(): (text: string, name: string, code: string) => ErrorGrouping {
  const known = new Map<string, string>();
  return (text, name, code) => {
    const template = errorTemplate(text);
    const identity = `${name}\0${code}\0${template}`;
    let fingerprint = known.get(identity);
    if (fingerprint === undefined) {
      fingerprint = createHash('sha1').update(identity).digest('hex').slice(0, 16);
      if (known.size >= MAX_CACHED) known.clear();
      known.set(identity, fingerprint);
    }
    return { template, fingerprint };
  };
}
