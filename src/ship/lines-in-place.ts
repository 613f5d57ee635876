// Lines of a file on their way to Kafka, left where they were read. In: the lines of one read. Out: records that know where their line
// lies and write themselves into a record batch, which is the only copy that is made of it. Guarantee: what is written is byte for byte
// what the long way (`createLineBuilder` in shipping.ts) would make of the line. A line that needs more than to be copied, because it
// may hold a secret, comes from a foreign logger, is no valid UTF-8, or only looks like JSON, takes the long way; so does any in doubt.
//
//   {"level":"info", ... }   its bytes stay; what the input knows and the line lacks is put behind the first brace
//   any other text           {"shippedLine":" its bytes, with backslashes where JSON wants them ", and what the input knows }
//
// A read stays in memory until its last line is delivered. Where lines of one partition wait while those of others go, `compact`
// copies the rest together, so that what is held stays in proportion to what waits.
import { isUtf8 } from 'node:buffer';
import {
  BACKSLASH,
  blankEnd,
  CLOSE,
  CLOSE_LIST,
  COLON,
  COMMA,
  KINDS,
  NOT_ASCII,
  numberEnd,
  OPEN,
  OPEN_LIST,
  QUOTE,
  SMALL_U,
  SPECIAL,
  wordEnd,
} from '../core/json-bytes.ts';
import { isEventIdAt, type LineIds, type Lines, type RawRecord } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import type { InPlace, ShipRecord } from './log-record.ts';
import { murmur2 } from './queue.ts';

/** Lines of one file go to one partition for so long: it must be the same whenever they are read. */
const BLOCK_BYTES = 1024 * 1024;

/** The key of a line that belongs to no call. */
export function blockKey(identity: string, offset: number): string {
  return `${identity.slice(0, 20)} ${Math.floor(offset / BLOCK_BYTES).toString(36)}`;
}

export interface LineRecord extends ShipRecord {
  /** Of the chunk that the line came with. */
  done(count: number): void;
  refused?(count: number): void;
}

/** One read of a file, and what all of its lines have in common. */
export interface Read {
  readonly lines: Lines;
  readonly identity: string;
  readonly ids: LineIds;
  /** A former run may have sent what begins before this. */
  readonly knownBelow: number;
  done(count: number): void;
}

interface LineOptions {
  /** What the input knows. */
  readonly fields: Readonly<Record<string, string>>;
  /** Top-level keys that only other loggers write. */
  readonly foreignKeys: Iterable<string>;
  readonly masker: Masker;
  /** Longer records take the long way, which cuts them. */
  readonly maxBytes: number;
}

/** `record` is built the long way. */
export type LineReader = (
  read: Read,
  long: (record: RawRecord) => LineRecord,
) => { held: HeldRead; records: LineRecord[] };

export function createLineReader({ fields, foreignKeys, masker, maxBytes }: LineOptions): LineReader {
  const names = Object.keys(fields);
  const parts = names.map((name) => `${JSON.stringify(name)}:${JSON.stringify(fields[name])}`);
  /** What is put in front of a JSON line, by the bits of what it lacks. */
  const prefixes = Array.from({ length: 1 << names.length }, (_, missing) =>
    Buffer.from(`{${parts.filter((_part, i) => missing & (1 << i)).join(',')},`),
  );
  const frame: Frame = { prefixes, tail: Buffer.from(`"${parts.map((part) => `,${part}`).join('')}}`) };
  const scanner = createScanner(names, foreignKeys, masker);

  return (read, long) => {
    const { bytes, offset, starts, ends, timeMs } = read.lines;
    const held = new HeldRead(read, frame);
    const records: LineRecord[] = read.lines.apart.map(long);
    for (let i = 0; i < starts.length; i++) {
      const [start, end] = [starts[i]!, ends[i]!];
      if (scanner.scan(bytes, start, end) && held.sizeOf(scanner) <= maxBytes) {
        records.push(held.add(i, start, end, scanner));
      } else {
        const value = bytes.subarray(start, end);
        records.push(long({ value, offset: offset + start, timeMs, eventId: undefined }));
      }
    }
    if (held.left === 0) held.free();
    return { held, records };
  };
}

// ---- the lines of one read, and a record for each ----

interface Frame {
  /** Of a JSON line, brace included, by the bits of what it lacks. */
  readonly prefixes: readonly Buffer[];
  /** Behind a text. */
  readonly tail: Buffer;
}

const TEXT_HEAD = Buffer.from('{"shippedLine":"');

/** What is known of a line. `START`: where it lies now; `ORIGIN`: where it was read; the others count from its first byte. */
const [START, ORIGIN, LENGTH, FORM, BODY, KEY_AT, KEY_BYTES, KEY_HASH, ID_AT] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const SLOTS = 9;
/** Forms: the bits of what a JSON line lacks; a text, with and without what has to be escaped. */
const PLAIN_TEXT = -1;
const TEXT = -2;
const NO_ID = -1;

/** A read, as long as lines of it are under way. */
export class HeldRead {
  /** Without its lines: they would keep alive what was read after `compact` has copied the rest. */
  readonly read: Omit<Read, 'lines'>;
  /** Of the first byte that was read. */
  readonly offset: number;
  readonly frame: Frame;
  bytes: Buffer;
  /** What `bytes` lie in, and where: asking them each time takes longer than to copy a line. */
  memory: ArrayBufferLike;
  shift: number;
  slots: Int32Array;
  /** Those of them that were delivered, too, until `compact`. */
  #records: LineInPlace[] = [];
  /** Lines that are under way, and their bytes. */
  left = 0;
  leftBytes = 0;
  #reuse: Lines['reuse'];
  #block = -1;
  #key = Buffer.alloc(0);
  #keyHash = 0;

  constructor({ lines, ...read }: Read, frame: Frame) {
    this.read = read;
    this.offset = lines.offset;
    this.frame = frame;
    this.#reuse = lines.reuse;
    this.bytes = lines.bytes;
    this.memory = this.bytes.buffer;
    this.shift = this.bytes.byteOffset;
    this.slots = new Int32Array(lines.starts.length * SLOTS);
  }

  /** A record for the line in which this was found. */
  add(index: number, start: number, end: number, found: Found): LineInPlace {
    const { slots } = this;
    const at = index * SLOTS;
    const { form, keyBytes } = found;
    slots[at + START] = start;
    slots[at + ORIGIN] = start;
    slots[at + LENGTH] = end - start;
    slots[at + FORM] = form;
    slots[at + BODY] = found.body;
    slots[at + KEY_AT] = found.keyAt;
    slots[at + KEY_BYTES] = keyBytes;
    slots[at + ID_AT] = found.idAt;
    if (keyBytes > 0) slots[at + KEY_HASH] = murmur2(this.bytes, start + found.keyAt, start + found.keyAt + keyBytes);
    else {
      this.keyFor(start);
      slots[at + KEY_HASH] = this.#keyHash;
    }
    this.left += 1;
    this.leftBytes += end - start;
    const record = new LineInPlace(this, at, this.sizeOf(found));
    this.#records.push(record);
    return record;
  }

  /** Bytes of the record's value. */
  sizeOf({ form, body, escapes }: Found): number {
    if (form < 0) return TEXT_HEAD.length + body + escapes + this.frame.tail.length;
    return form === 0 ? body : body + this.frame.prefixes[form]!.length - 1;
  }

  /** The key of a line that was read at `origin` and has none of its own. */
  keyFor(origin: number): Buffer {
    const offset = this.offset + origin;
    const block = Math.floor(offset / BLOCK_BYTES);
    if (block !== this.#block) {
      this.#block = block;
      this.#key = Buffer.from(blockKey(this.read.identity, offset));
      this.#keyHash = murmur2(this.#key, 0, this.#key.length);
    }
    return this.#key;
  }

  view(from: number, to: number): Uint8Array {
    return new Uint8Array(this.memory, this.shift + from, to - from);
  }

  write(out: Buffer, to: number, from: number, end: number): number {
    out.set(this.view(from, end), to);
    return to + end - from;
  }

  /** A line is delivered. */
  letGo(at: number): void {
    const { slots } = this;
    this.left -= 1;
    this.leftBytes -= slots[at + LENGTH]!;
    slots[at + LENGTH] = 0;
    if (this.left === 0) this.free();
  }

  /** Nothing needs what was read any more. */
  free(): void {
    this.#reuse?.();
    this.#reuse = undefined;
  }

  /** Frees what is not needed any more, if that is at least half. */
  compact(): void {
    const { bytes, slots } = this;
    if (2 * this.leftBytes > bytes.length) return;
    const rest = Buffer.allocUnsafeSlow(this.leftBytes);
    const records = this.#records.filter(({ at }) => slots[at + LENGTH]! > 0);
    const known = new Int32Array(records.length * SLOTS);
    let end = 0;
    for (const [n, record] of records.entries()) {
      const { at } = record;
      const start = slots[at + START]!;
      record.at = n * SLOTS;
      known.set(slots.subarray(at, at + SLOTS), record.at);
      known[record.at + START] = end;
      end += bytes.copy(rest, end, start, start + slots[at + LENGTH]!);
    }
    this.#records = records;
    this.slots = known;
    this.bytes = rest;
    this.memory = rest.buffer;
    this.shift = rest.byteOffset;
    this.free();
  }
}

export class LineInPlace implements LineRecord, InPlace {
  readonly held: HeldRead;
  /** Of its slots, which `compact` moves. */
  at: number;
  readonly bytes: number;

  constructor(held: HeldRead, at: number, bytes: number) {
    this.held = held;
    this.at = at;
    this.bytes = bytes;
  }

  get inPlace(): InPlace {
    return this;
  }

  get done(): Read['done'] {
    return this.held.read.done;
  }

  get resent(): boolean {
    return this.offset < this.held.read.knownBelow;
  }

  get offset(): number {
    return this.held.offset + this.held.slots[this.at + ORIGIN]!;
  }

  get keyHash(): number {
    return this.held.slots[this.at + KEY_HASH]!;
  }

  get keyBytes(): number {
    const own = this.held.slots[this.at + KEY_BYTES]!;
    return own > 0 ? own : this.held.keyFor(this.held.slots[this.at + ORIGIN]!).length;
  }

  // These three are for whoever wants texts; a batch is written without them.

  get line(): string {
    const out = Buffer.alloc(this.bytes);
    return out.toString('utf8', 0, this.writeValue(out, 0));
  }

  get key(): string {
    const out = Buffer.alloc(this.keyBytes);
    return out.toString('utf8', 0, this.writeKey(out, 0));
  }

  get eventId(): string {
    const out = Buffer.alloc(EVENT_ID_BYTES);
    return out.toString('latin1', 0, this.writeEventId(out, 0));
  }

  writeKey(out: Buffer, to: number): number {
    const { held, at } = this;
    const { slots } = held;
    const length = slots[at + KEY_BYTES]!;
    if (length === 0) {
      const key = held.keyFor(slots[at + ORIGIN]!);
      out.set(key, to);
      return to + key.length;
    }
    const start = slots[at + START]! + slots[at + KEY_AT]!;
    for (let i = 0; i < length; i++) out[to + i] = held.bytes[start + i]!;
    return to + length;
  }

  writeValue(out: Buffer, to: number): number {
    const { held } = this;
    const { slots, frame } = held;
    const start = slots[this.at + START]!;
    const end = start + slots[this.at + BODY]!;
    const form = slots[this.at + FORM]!;
    if (form === 0) return held.write(out, to, start, end);
    if (form > 0) {
      const prefix = frame.prefixes[form]!;
      out.set(prefix, to);
      return held.write(out, to + prefix.length, start + 1, end);
    }
    out.set(TEXT_HEAD, to);
    const from = to + TEXT_HEAD.length;
    const behind = form === TEXT ? writeEscaped(out, from, held.bytes, start, end) : held.write(out, from, start, end);
    out.set(frame.tail, behind);
    return behind + frame.tail.length;
  }

  writeEventId(out: Buffer, to: number): number {
    const { bytes, slots, read } = this.held;
    const start = slots[this.at + START]!;
    const own = slots[this.at + ID_AT]!;
    if (own === NO_ID) {
      const line = this.held.view(start, start + slots[this.at + LENGTH]!);
      return read.ids.write(out, to, this.offset, line);
    }
    for (let i = 0; i < EVENT_ID_BYTES; i++) out[to + i] = bytes[start + own + i]!;
    return to + EVENT_ID_BYTES;
  }
}

export function isInPlace(record: LineRecord): record is LineInPlace {
  return record instanceof LineInPlace;
}

/** As `JSON.stringify` does it. */
function writeEscaped(out: Buffer, to: number, bytes: Buffer, from: number, end: number): number {
  let next = to;
  for (let i = from; i < end; i++) {
    const byte = bytes[i]!;
    const written = ESCAPES[byte];
    if (written === undefined) out[next++] = byte;
    else next += out.write(written, next, 'latin1');
  }
  return next;
}

/** By byte; undefined for what needs none. */
const ESCAPES = Array.from({ length: 256 }, (_, byte) => {
  const written = JSON.stringify(String.fromCharCode(byte)).slice(1, -1);
  return written.length > 1 ? written : undefined;
});

// ---- what a line is ----

interface Found {
  form: number;
  /** Its length without white space at its end. */
  body: number;
  /** Bytes by which escapes make it longer. */
  escapes: number;
  keyAt: number;
  /** 0 without a key of its own. */
  keyBytes: number;
  idAt: number;
}

interface Scanner extends Found {
  /** False for a line that has to take the long way. What was found holds until the next call. */
  scan(bytes: Buffer, from: number, to: number): boolean;
}

const EVENT_ID_BYTES = 26;
/** A longer key is cut, as `keyOf` does it. */
const MAX_KEY_BYTES = 256;
const MAX_DEPTH = 60;

const ESCAPABLE = new Set(Buffer.from('"\\/bfnrt'));

/** What a top-level key means. The bits of the input's fields are positive. */
const [NOTHING, FOREIGN, CALL_ID, EVENT_ID] = [0, -1, -2, -3];

/**
 * Most lines are like one before them, but for a few values. So a line is compared with some that were scanned: where it is the same,
 * it is as valid and as free of secrets as that one was, and only the values that differ are looked at byte by byte. That holds because
 * nothing that masking looks for lies across two values of a line (test/unit/ship/lines-in-place.test.ts).
 */
interface Pattern {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly length: number;
  /** Where its values begin and end, two numbers each. */
  readonly values: Int32Array;
  readonly form: number;
  readonly keyBytes: number;
  readonly idAt: number;
  /** Which of the values are these; -1 for none. */
  readonly callValue: number;
  readonly idValue: number;
}

const PATTERNS = 4;
const SHORT_NUMBER = 8;
const MAX_PATTERN_BYTES = 8 * 1024;
const MAX_VALUES = 256;
/** In a log of which no line is like another, few are compared. */
const [HIT, MAX_WORTH, IDLE_LINES] = [3, 64, 64];

function createScanner(names: readonly string[], foreignKeys: Iterable<string>, masker: Masker): Scanner {
  const { mayHoldSecret } = masker;
  const meanings = new Map<string, number>([...foreignKeys].map((key) => [key, FOREIGN]));
  meanings.set('callId', CALL_ID).set('eventId', EVENT_ID);
  names.forEach((name, i) => void meanings.set(name, 1 << i));
  const allMissing = (1 << names.length) - 1;
  /** By length and first byte. */
  const byHead: { readonly codes: Buffer; readonly meaning: number }[][] = Array.from({ length: 32 * 128 }, () => []);
  for (const [key, meaning] of meanings) {
    const codes = Buffer.from(key);
    byHead[headOf(codes.length, codes[0]!)]!.push({ codes, meaning });
  }
  const isList = new Uint8Array(MAX_DEPTH + 1);
  /** The last one that was like a line comes first. */
  const patterns: Pattern[] = [];
  /** What the texts of this line hold. */
  let isAscii = true;
  let hasEscape = false;
  const values = new Int32Array(2 * MAX_VALUES);
  let valueCount = 0;
  let callValue = -1;
  let idValue = -1;
  let worth = MAX_WORTH;
  let idle = 0;

  function meaningOf(bytes: Buffer, from: number, to: number): number {
    for (const { codes, meaning } of byHead[headOf(to - from, bytes[from]!)]!) {
      if (codes.length !== to - from) continue;
      let i = 0;
      while (i < codes.length && bytes[from + i] === codes[i]) i++;
      if (i === codes.length) return meaning;
    }
    return NOTHING;
  }

  /** From behind an opening quote to the closing one; -1 when that is not certain. */
  function text(bytes: Buffer, from: number): number {
    for (let at = from; ; at++) {
      const kind = KINDS[bytes[at]!];
      if (kind === 0) continue;
      if (kind === NOT_ASCII) isAscii = false;
      else if (kind !== SPECIAL) return -1;
      else if (bytes[at] === QUOTE) return at;
      else {
        hasEscape = true;
        at += 1;
        // `\u` may stand for anything, also where its backslash is itself escaped: masking undoes that too.
        if (!ESCAPABLE.has(bytes[at]!) || (bytes[at] === BACKSLASH && bytes[at + 1] === SMALL_U)) return -1;
      }
    }
  }

  /** Behind a text, number or word that begins at `at`, -1 when that is not certain. `line`: where the line begins. */
  function scalar(bytes: Buffer, at: number, meaning: number, line: number): number {
    const first = bytes[at]!;
    if (first !== QUOTE) {
      // A key that is no text takes the long way; an id is a text or none.
      if (meaning === CALL_ID) return -1;
      if (meaning === EVENT_ID) scanner.idAt = NO_ID;
      return first < COLON ? numberEnd(bytes, at) : wordEnd(bytes, at);
    }
    const [outerAscii, outerEscape] = [isAscii, hasEscape];
    isAscii = true;
    hasEscape = false;
    const end = text(bytes, at + 1);
    if (end < 0) return -1;
    if (meaning < 0) {
      if (hasEscape || !isAscii) return -1;
      if (meaning === CALL_ID) {
        scanner.keyAt = at + 1 - line;
        scanner.keyBytes = Math.min(end - at - 1, MAX_KEY_BYTES);
      } else {
        const isId = end - at - 1 === EVENT_ID_BYTES && isEventIdAt(bytes, at + 1);
        scanner.idAt = isId ? at + 1 - line : NO_ID;
      }
    }
    isAscii = isAscii && outerAscii;
    hasEscape = hasEscape || outerEscape;
    return end + 1;
  }

  /** A whole object, byte by byte. */
  function object(bytes: Buffer, from: number, to: number): boolean {
    let missing = allMissing;
    let depth = 0;
    let at = from;
    // Each turn takes a value; in an object its key comes before it.
    for (;;) {
      let meaning = NOTHING;
      if (depth > 0 && isList[depth] === 0) {
        at = blankEnd(bytes, at);
        if (bytes[at] !== QUOTE) return false;
        hasEscape = false;
        const end = text(bytes, at + 1);
        if (end < 0) return false;
        if (depth === 1) {
          if (hasEscape) return false;
          meaning = meaningOf(bytes, at + 1, end);
          if (meaning === FOREIGN) return false;
          if (meaning > 0) missing &= ~meaning;
        }
        at = blankEnd(bytes, end + 1);
        if (bytes[at] !== COLON) return false;
        at += 1;
      }
      at = blankEnd(bytes, at);
      const byte = bytes[at]!;
      if (byte === OPEN || byte === OPEN_LIST) {
        if (depth === MAX_DEPTH || meaning < 0) return false;
        const list = byte === OPEN_LIST;
        at = blankEnd(bytes, at + 1);
        if (bytes[at] !== (list ? CLOSE_LIST : CLOSE)) {
          depth += 1;
          isList[depth] = list ? 1 : 0;
          continue;
        }
        // An empty line would have nothing to be put in front of.
        if (depth === 0) return false;
        at += 1;
      } else {
        if (meaning === CALL_ID) {
          if (callValue >= 0) return false;
          callValue = valueCount;
        } else if (meaning === EVENT_ID) {
          if (idValue >= 0) return false;
          idValue = valueCount;
        }
        const end = scalar(bytes, at, meaning, from);
        if (end < 0) return false;
        if (valueCount < MAX_VALUES) {
          values[2 * valueCount] = at - from;
          values[2 * valueCount + 1] = end - from;
        }
        valueCount += 1;
        at = end;
      }
      // Behind a value: whatever it ends, then the next.
      for (;;) {
        at = blankEnd(bytes, at);
        const next = bytes[at];
        at += 1;
        if (next === COMMA) break;
        if (next !== (isList[depth] === 1 ? CLOSE_LIST : CLOSE)) return false;
        depth -= 1;
        if (depth > 0) continue;
        scanner.form = missing;
        return at === to;
      }
    }
  }

  /** Is the line like the pattern, but for its values? False when that is not certain. */
  function isLike(pattern: Pattern, bytes: Buffer, from: number, to: number): boolean {
    const { values: places, callValue: call, idValue: id } = pattern;
    const view = viewFor(bytes);
    const count = places.length / 2;
    let at = 0;
    let here = from;
    let value = 0;
    for (;;) {
      const equal = equalBytes(pattern, at, view, here, to);
      at += equal;
      here += equal;
      const shift = here - from - at;
      // Not one that ends just here: a number may go on.
      for (; value < count && places[2 * value + 1]! < at; value++) {
        if (value === call) scanner.keyAt = places[2 * value]! + 1 + shift;
        else if (value === id && scanner.idAt !== NO_ID) scanner.idAt = places[2 * value]! + 1 + shift;
      }
      if (at === pattern.length && here === to) return true;
      if (value === count || at < places[2 * value]!) return false;
      const start = from + places[2 * value]! + shift;
      const end = scalar(bytes, start, value === call ? CALL_ID : value === id ? EVENT_ID : NOTHING, from);
      // A number is a secret by its length alone.
      const isShort = end - start < SHORT_NUMBER && bytes[start]! < COLON && bytes[start] !== QUOTE;
      if (end < 0 || (!isShort && mayHoldSecret!(bytes, start, end))) return false;
      at = places[2 * value + 1]!;
      here = end;
      value += 1;
    }
  }

  function isLikeOne(bytes: Buffer, from: number, to: number): boolean {
    for (let i = 0; i < patterns.length; i++) {
      const pattern = patterns[i]!;
      begin(pattern);
      if (!isLike(pattern, bytes, from, to)) continue;
      if (i > 0) patterns.unshift(...patterns.splice(i, 1));
      return true;
    }
    return false;
  }

  function begin(pattern: Pattern | undefined): void {
    isAscii = true;
    hasEscape = false;
    valueCount = 0;
    callValue = -1;
    idValue = -1;
    scanner.form = pattern?.form ?? 0;
    scanner.keyBytes = pattern?.keyBytes ?? 0;
    scanner.idAt = pattern?.idAt ?? NO_ID;
  }

  function remember(bytes: Buffer, from: number, to: number): void {
    if (!isAscii || to - from > MAX_PATTERN_BYTES || valueCount > MAX_VALUES) return;
    const copy = Buffer.from(bytes.subarray(from, to));
    const { form, keyBytes, idAt } = scanner;
    patterns.unshift({
      ...{ bytes: copy, view: new DataView(copy.buffer, copy.byteOffset, copy.length), length: copy.length },
      ...{ values: values.slice(0, 2 * valueCount), form, keyBytes, idAt, callValue, idValue },
    });
    if (patterns.length > PATTERNS) patterns.pop();
  }

  function json(bytes: Buffer, from: number, to: number): boolean {
    const isWorthIt = mayHoldSecret !== undefined && (worth > 0 || ++idle % IDLE_LINES === 0);
    if (isWorthIt && isLikeOne(bytes, from, to)) worth = Math.min(worth + HIT, MAX_WORTH);
    else {
      begin(undefined);
      if (!object(bytes, from, to)) return false;
      if (isSuspicious(bytes, from, to)) return false;
      if (isWorthIt) {
        worth = Math.max(worth - 1, 0);
        remember(bytes, from, to);
      }
    }
    scanner.body = to - from;
    return isAscii || isUtf8(bytes.subarray(from, to));
  }

  function plain(bytes: Buffer, from: number, to: number): boolean {
    const first = bytes[from]!;
    // These begin JSON, or white space that may be followed by it.
    if (first <= 0x20 || first >= 0x80 || first === QUOTE || first === OPEN_LIST) return false;
    let end = to;
    while (bytes[end - 1] === 0x20 || (bytes[end - 1]! >= 9 && bytes[end - 1]! <= 13)) end -= 1;
    // It may be white space too.
    if (bytes[end - 1]! >= 0x80) return false;
    let escapes = 0;
    let ascii = true;
    for (let at = from; at < end; at++) {
      const kind = KINDS[bytes[at]!];
      if (kind === 0) continue;
      const byte = bytes[at]!;
      if (kind === NOT_ASCII) ascii = false;
      else if (byte === 0 || (byte === BACKSLASH && bytes[at + 1] === SMALL_U)) return false;
      else escapes += ESCAPES[byte]!.length - 1;
    }
    begin(undefined);
    scanner.form = escapes === 0 ? PLAIN_TEXT : TEXT;
    scanner.body = end - from;
    scanner.escapes = escapes;
    return (ascii || isUtf8(bytes.subarray(from, to))) && !isSuspicious(bytes, from, to);
  }

  function isSuspicious(bytes: Buffer, from: number, to: number): boolean {
    if (mayHoldSecret !== undefined && !mayHoldSecret(bytes, from, to)) return false;
    return masker.suspicious(bytes.toString('utf8', from, to));
  }

  const scanner: Scanner = {
    ...{ form: 0, body: 0, escapes: 0, keyAt: 0, keyBytes: 0, idAt: NO_ID },
    scan: (bytes, from, to) => (bytes[from] === OPEN ? json(bytes, from, to) : plain(bytes, from, to)),
  };
  return scanner;
}

/** The last buffer: one read is looked at line by line. */
let viewed: Buffer | undefined;
let lastView: DataView = new DataView(new ArrayBuffer(0));

function viewFor(bytes: Buffer): DataView {
  if (viewed !== bytes) {
    viewed = bytes;
    lastView = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  return lastView;
}

/** How many bytes are the same from there and from here on. */
function equalBytes(pattern: Pattern, at: number, view: DataView, here: number, to: number): number {
  const most = Math.min(pattern.length - at, to - here);
  const other = pattern.view;
  let count = 0;
  // Eight at once: numbers that are equal have equal bytes, zero excepted, which no line holds.
  while (count + 8 <= most && view.getFloat64(here + count, true) === other.getFloat64(at + count, true)) count += 8;
  while (count < most && view.getUint8(here + count) === other.getUint8(at + count)) count += 1;
  return count;
}

function headOf(length: number, first: number): number {
  return (length & 31) * 128 + (first & 127);
}
