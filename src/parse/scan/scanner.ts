// One look at a line's bytes, in place of an object made of it. In: a line of JSON where it was fetched. Out: whether its own bytes may be
// the document, and if so where each field of the catalogue stands. Guarantee: what is taken is valid JSON in valid UTF-8, has the
// catalogue's shape and types, no key given twice, and nothing that masking would change; the parser beside this folder (parse.ts) makes
// the same event of it by its own means, and of everything in doubt. Linear in the line, without recursion; nothing is allocated, except
// for what is seen for the first time and for the odd value that takes a closer look.
//
// Bytes above 0x7f are only noted on the way: a line that has any is checked as a whole. Texts are looked at for secrets where they lie;
// a short one that is the same as in the line before has been looked at already.
import { isUtf8 } from 'node:buffer';
import {
  BACKSLASH,
  blankEnd,
  CLOSE,
  CLOSE_LIST,
  COLON,
  COMMA,
  DOT,
  digitsEnd,
  KINDS,
  MINUS,
  NOT_ASCII,
  numberEnd,
  OPEN,
  OPEN_LIST,
  QUOTE,
  SMALL_N,
  SMALL_U,
  SPECIAL,
  standsAt,
  wordEnd,
  ZERO,
} from '../../core/json-bytes.ts';
import { ID_LENGTH } from '../../core/record.ts';
import { isPairName, type Masker } from '../../core/secrets/mask.ts';
import {
  isCanonical,
  isErrorLevel,
  isServerDate,
  MAX_UNKNOWN_KEYS,
  NORMAL_LEVELS,
  type TimeParser,
} from '../conform.ts';
import { MAX_DEPTH } from '../json.ts';
import { looksLikeObject } from '../normalise.ts';
import {
  ANYTHING,
  BOOLEAN,
  catalogueLeads,
  createKeyTree,
  FIELD_COUNT,
  FIELD_PATHS,
  FLOAT,
  FOREIGN,
  fieldNumber,
  GROUP,
  type Key,
  LONG,
  NOTHING,
  SCALAR,
  SHORT,
  type Spot,
  TEXT,
  VALUE_ROOM,
} from './key-tree.ts';

/** What became of the last line. All of it holds until the next one is scanned. */
export interface Scan {
  /** Counts the lines. */
  readonly line: number;
  /** The bytes in which it lies, and where in them it begins. */
  readonly bytes: Buffer;
  readonly start: number;
  /** Where the value of field or group n begins and ends, quotes included: 2n and 2n + 1. Only of those that `has` knows. */
  readonly places: Int32Array;
  /** Its own time. */
  readonly timeMs: number;
  /** Is it written as logpipe writes times? */
  readonly isCanonical: boolean;
  readonly isError: boolean;
  /**
   * What it has at any depth that is none of the catalogue's: a number for each place with a value, another one for each place with an
   * object, the same in every line. As many as `ownCount` says, which is -1 when there are too many.
   */
  readonly ownPlaces: Int32Array;
  readonly ownCount: number;
  /** Does it have a value, null included? */
  has(field: number): boolean;
  /** What is it? Undefined when it is missing; not for groups. */
  valueOf(field: number): unknown;
  /** Is it this text, of plain ASCII? */
  isText(field: number, text: string): boolean;
}

export interface Scanner extends Scan {
  /**
   * False for a line that has to go the slow way.
   * @param eventId what its `eventId` must be, if anything: then it has been looked at already
   * @param idAt the same, where it stands in these bytes; -1 without one
   */
  scan(bytes: Buffer, from: number, to: number, eventId: string | undefined, idAt: number): boolean;
  /**
   * Nobody else need look whether the bytes of the last line may stay as they are: it has a key of another logger's, or something else
   * than a text where each line of ours has one.
   */
  readonly isForeign: boolean;
  /**
   * The texts of its fields that are to be masked, if the last line is fit in all but this. Then the document is what the line holds, with
   * these instead of its own.
   */
  readonly masked: readonly MaskedText[];
}

export interface MaskedText {
  /** Of the field, as `fieldNumber` says. */
  readonly field: number;
  /** What is left of it. */
  readonly text: string;
}

/** Behind a backslash. Not `\/` and `\u`, which may hide what a text says. */
const ESCAPABLE = Uint8Array.from({ length: 256 }, (_, byte) => Number('"\\bfnrt'.includes(String.fromCharCode(byte))));
/** The record itself, a value of its own, and what that may hold. */
const MAX_OPEN = MAX_DEPTH + 1;
/** Any number of so many digits fits the type. */
const [LONG_DIGITS, SHORT_DIGITS, FLOAT_DIGITS] = [15, 4, 38];
/** Quotes included. No literal that leads to a secret is shorter. */
const LEAST_SECRET = 5;
const CANONICAL_LENGTH = 26;
const MAX_OWN = 256;
const MINUTE_LENGTH = 16;
const MINUTE_MS = 60_000;
/** Then counting begins anew. */
const MAX_LINE = 2 ** 30;

const TIMESTAMP = fieldNumber('timestamp');
const LEVEL = fieldNumber('level');
const MESSAGE = fieldNumber('message');
const EVENT_ID = fieldNumber('eventId');

/** The last names of their paths: what masking knows them by. */
const FIELD_NAMES = FIELD_PATHS.map((path) => path.slice(path.lastIndexOf('.') + 1));
/** `name` and the like: with what stands beside them they may make a pair. */
const IS_NAME = Uint8Array.from(FIELD_NAMES, (name) => Number(isPairName(name)));

const NONE_MASKED: readonly MaskedText[] = [];

const LEVELS = Array.from({ length: 16 }, (_, length) =>
  [...NORMAL_LEVELS]
    .filter((level) => level.length === length)
    .map((level) => ({ codes: Buffer.from(level), isError: isErrorLevel(level) })),
);

interface ScannerDeps {
  readonly masker: Masker;
  readonly time: TimeParser;
  /** The only fields whose texts anybody will read, by number: in others secrets are not looked for. Default: all, and a line's own. */
  readonly read?: ReadonlySet<number> | undefined;
}

/** Undefined while the operator has named secrets of his own: no bytes lead to those. */
export function createScanner({ masker, time, read }: ScannerDeps): Scanner | undefined {
  const { mayHoldSecret } = masker;
  if (mayHoldSecret === undefined || catalogueLeads(masker)) return undefined;
  const tree = createKeyTree(masker);
  const { pool } = tree;
  const poolView = new DataView(pool.buffer, pool.byteOffset, pool.length);
  const isRead = Uint8Array.from({ length: FIELD_COUNT }, (_, field) => Number(read?.has(field) ?? true));
  const places = new Int32Array(2 * FIELD_COUNT);
  /** The line in which a field stood last. */
  const seen = new Int32Array(FIELD_COUNT);
  const ownPlaces = new Int32Array(MAX_OWN);
  /** Whose value is open at each depth. */
  const keys: (Key | undefined)[] = new Array(MAX_OPEN + 1).fill(undefined);
  const isList = new Uint8Array(MAX_OPEN + 1);
  const minute = Buffer.alloc(MINUTE_LENGTH);
  const minuteView = new DataView(minute.buffer, minute.byteOffset, minute.length);
  let minuteMs = 0;
  let view: DataView = new DataView(new ArrayBuffer(0));
  let isAscii = true;
  let masked = NONE_MASKED;
  let isForeign = false;
  let ownCount = 0;

  /** From a text's opening quote to behind its closing one; -1 when that is not certain. */
  function text(bytes: Buffer, from: number, to: number): number {
    // Before a colon, the opening quote looks like the end of a key to whoever counts those.
    const first = bytes[from + 1]!;
    if (first === COLON || ((first <= 0x20 || first >= 0x80) && /^\s*:/.test(bytes.toString('utf8', from + 1, to))))
      return -1;
    const lineView = view;
    let at = from + 1;
    while (at < to) {
      // Four at once, as long as none of them is anything but itself.
      while (at + 4 <= to && isOrdinary(lineView.getInt32(at, true))) at += 4;
      for (; at < to; at++) {
        const kind = KINDS[bytes[at]!];
        if (kind === 0) continue;
        if (kind === NOT_ASCII) isAscii = false;
        else if (kind !== SPECIAL) return -1;
        else if (bytes[at] === QUOTE) return at + 1;
        else break;
      }
      const escaped = bytes[at + 1]!;
      if (ESCAPABLE[escaped] === 0) return -1;
      if (escaped === BACKSLASH) {
        // `\\u` may be read as an escape, and `\\"` as the end of a key.
        const next = bytes[at + 2];
        if (next === SMALL_U || next === QUOTE || (next === BACKSLASH && bytes[at + 3] === QUOTE)) return -1;
      }
      at += 2;
    }
    return -1;
  }

  /** Is such a text looked at by itself? A field's is, whatever stands beside it; but a name may say what its neighbour is. */
  function standsAlone(field: number): boolean {
    return field >= 0 && IS_NAME[field] === 0;
  }

  /** May the text at `at` hold a secret, or make another one secret? Cheap, and mostly enough. */
  function mayBeSecret(bytes: Buffer, at: number, end: number): boolean {
    return end - at >= LEAST_SECRET && mayHoldSecret!(bytes, at, end);
  }

  /** What masking leaves of the text of a field that stands alone; undefined when it changes nothing. */
  function maskedText(bytes: Buffer, at: number, end: number, field: number): string | undefined {
    const inside = bytes.toString('utf8', at + 1, end - 1);
    const given = inside.includes('\\') ? (JSON.parse(`"${inside}"`) as string) : inside;
    const left = masker.textUnder(FIELD_NAMES[field]!, given);
    return left === given ? undefined : left;
  }

  /** A text that is the value of `key`. */
  function textValue(key: Key, bytes: Buffer, at: number, to: number): number {
    const { field, takes, valueLength } = key;
    if (field === TIMESTAMP) return timestamp(bytes, at, to);
    // Another one in each line, and looked at when it is known to be no record's own (`hasId`).
    if (field === EVENT_ID) return text(bytes, at, to);
    const room = key.at + key.length;
    if (valueLength > 0 && at + valueLength <= to && same(view, at, poolView, room, valueLength)) {
      if (key.worth < 16) key.worth += 1;
      return at + valueLength;
    }
    if (takes !== SCALAR && takes !== TEXT && takes !== ANYTHING) return -1;
    const wasAscii = isAscii;
    isAscii = true;
    const end = text(bytes, at, to);
    if (end < 0) return -1;
    if ((field < 0 ? read === undefined : isRead[field] === 1) && mayBeSecret(bytes, at, end)) {
      if (!standsAlone(field)) {
        // What is the producer's own may be innocent, after all.
        if (masker.suspicious(bytes.toString('utf8', at, end))) return -1;
      } else {
        const left = maskedText(bytes, at, end, field);
        if (left !== undefined) {
          masked = [...masked, { field, text: left }];
          isAscii &&= wasAscii;
          return end;
        }
      }
    }
    if (key.worth > 0) {
      key.worth -= 1;
      // Escapes may stand in it: the same bytes are the same text.
      const isShort = isAscii && end - at <= VALUE_ROOM;
      key.valueLength = isShort ? end - at : 0;
      if (isShort) for (let i = at; i < end; i++) pool[room + i - at] = bytes[i]!;
    } else key.valueLength = 0;
    isAscii &&= wasAscii;
    return end;
  }

  function timestamp(bytes: Buffer, at: number, to: number): number {
    const from = at + 1;
    if (at + CANONICAL_LENGTH <= to && same(view, from, minuteView, 0, MINUTE_LENGTH)) {
      const seconds = pair(bytes, from + 17);
      const last = bytes[from + 22]! - ZERO;
      const millis = last >= 0 && last < 10 ? 10 * pair(bytes, from + 20) + last : 1_000;
      const isWritten = bytes[from + 16] === COLON && bytes[from + 19] === DOT && bytes[from + 23] === 90;
      if (isWritten && seconds < 60 && millis < 1_000 && bytes[from + 24] === QUOTE) {
        scanner.timeMs = minuteMs + seconds * 1_000 + millis;
        scanner.isCanonical = true;
        return at + CANONICAL_LENGTH;
      }
    }
    const end = text(bytes, at, to);
    // An escape is no part of a time.
    const written = end < 0 ? '' : bytes.toString('latin1', from, end - 1);
    const ms = time.parse(written);
    if (ms === undefined) return -1;
    scanner.timeMs = ms;
    scanner.isCanonical = isCanonical(written);
    if (!scanner.isCanonical) return isServerDate(written) && !mayBeSecret(bytes, at, end) ? end : -1;
    minute.write(written.slice(0, MINUTE_LENGTH), 'latin1');
    minuteMs = Math.floor(ms / MINUTE_MS) * MINUTE_MS;
    return end;
  }

  /** What is neither text, object nor list; -1 when it is nothing, or does not fit. */
  function plainValue(takes: number, bytes: Buffer, at: number): number {
    const first = bytes[at]!;
    if (first < COLON) {
      const end = numberEnd(bytes, at);
      if (takes === ANYTHING || takes === SCALAR) return end;
      if (takes === LONG) return hasDigits(bytes, at, end, LONG_DIGITS) ? end : -1;
      if (takes === FLOAT) return hasDigits(bytes, at, end, FLOAT_DIGITS) ? end : -1;
      return takes === SHORT && hasDigits(bytes, at, end, SHORT_DIGITS) ? end : -1;
    }
    if (takes === TEXT) return -1;
    if (first !== SMALL_N && takes !== ANYTHING && takes !== SCALAR && takes !== BOOLEAN) return -1;
    return wordEnd(bytes, at);
  }

  function addOwn(place: number): void {
    // Of a list all items have one place.
    if (ownCount > 0 && ownPlaces[ownCount - 1] === place) return;
    if (ownCount < MAX_OWN) ownPlaces[ownCount] = place;
    ownCount = Math.min(ownCount + 1, MAX_OWN + 1);
  }

  /** All keys and values. Each turn takes a value; in an object its key comes before it. */
  function object(bytes: Buffer, from: number, to: number): boolean {
    const { line } = scanner;
    const lineView = view;
    let spot: Spot = tree.root;
    let key: Key | undefined;
    let depth = 1;
    ownCount = 0;
    let topKeys = 0;
    let at = blankEnd(bytes, from + 1);
    isList[1] = 0;
    for (;;) {
      if (isList[depth] === 0) {
        key = spot.guess;
        if (key === undefined || at + key.length > to || !same(lineView, at, poolView, key.at, key.length)) {
          key = tree.find(spot, bytes, at, to);
          if (key === undefined) return false;
          spot.guess = key;
        }
        if (key.takes >= NOTHING) {
          isForeign = key.takes === FOREIGN;
          return false;
        }
        at += key.length;
        if (bytes[at] !== COLON) {
          at = blankEnd(bytes, at);
          if (bytes[at] !== COLON) return false;
        }
        at += 1;
        if (depth === 1 && key.takes === ANYTHING) topKeys += 1;
      }
      if (bytes[at]! <= 0x20) at = blankEnd(bytes, at);
      const byte = bytes[at]!;
      const start = at;
      const { takes, field } = key!;
      if (byte === QUOTE) {
        at = textValue(key!, bytes, at, to);
        if (at < 0) return false;
        if (takes === ANYTHING) addOwn(2 * key!.id);
      } else if (byte === OPEN || byte === OPEN_LIST) {
        const list = byte === OPEN_LIST;
        if (takes === ANYTHING && !list) addOwn(2 * key!.id + 1);
        if (depth === MAX_OPEN || (takes !== ANYTHING && (takes !== GROUP || list))) return false;
        at = blankEnd(bytes, at + 1);
        if (bytes[at] !== (list ? CLOSE_LIST : CLOSE)) {
          if (field >= 0) places[2 * field] = start;
          depth += 1;
          isList[depth] = list ? 1 : 0;
          keys[depth] = key;
          spot = key!.inside;
          continue;
        }
        at += 1;
      } else {
        at = plainValue(takes, bytes, at);
        if (at < 0) {
          // Numbers for levels, and times for machines.
          isForeign = takes === TEXT;
          return false;
        }
        // Without a value it becomes no field of an index.
        if (takes === ANYTHING && byte !== SMALL_N) addOwn(2 * key!.id);
      }
      if (field >= 0) {
        seen[field] = line;
        places[2 * field] = start;
        places[2 * field + 1] = at;
      }
      // Behind a value: whatever it ends, then the next.
      let behind: Key = key!;
      for (;;) {
        if (bytes[at]! <= 0x20) at = blankEnd(bytes, at);
        const next = bytes[at];
        at += 1;
        const list = isList[depth] === 1;
        if (next === COMMA) {
          if (!list) spot = behind.after;
          break;
        }
        if (next !== (list ? CLOSE_LIST : CLOSE)) return false;
        if (depth === 1) {
          scanner.ownCount = ownCount <= MAX_OWN ? ownCount : -1;
          return blankEnd(bytes, at) === to && topKeys <= MAX_UNKNOWN_KEYS;
        }
        behind = keys[depth]!;
        depth -= 1;
        key = behind;
        if (!list && behind.takes === GROUP) {
          seen[behind.field] = line;
          places[2 * behind.field + 1] = at;
        }
      }
      if (bytes[at]! <= 0x20) at = blankEnd(bytes, at);
    }
  }

  /** May the level and the message stand as they are? */
  function isNormal(bytes: Buffer): boolean {
    const { line } = scanner;
    if (seen[TIMESTAMP] !== line || seen[LEVEL] !== line || seen[MESSAGE] !== line) return false;
    const first = bytes[places[2 * MESSAGE]! + 1]!;
    if (first === OPEN || first === BACKSLASH) return false;
    if (first <= 0x20 || first >= 0x80) {
      if (looksLikeObject(bytes.toString('utf8', places[2 * MESSAGE]! + 1, places[2 * MESSAGE + 1]! - 1))) return false;
    }
    const from = places[2 * LEVEL]! + 1;
    const known = LEVELS[places[2 * LEVEL + 1]! - 1 - from];
    if (known === undefined) return false;
    for (let i = 0; i < known.length; i++) {
      const { codes, isError } = known[i]!;
      if (!standsAt(bytes, from, codes)) continue;
      scanner.isError = isError;
      return true;
    }
    return false;
  }

  function hasId(bytes: Buffer, eventId: string | undefined, idAt: number): boolean {
    if (idAt >= 0) {
      const isText = seen[EVENT_ID] === scanner.line && bytes[places[2 * EVENT_ID]!] === QUOTE;
      const length = places[2 * EVENT_ID + 1]! - places[2 * EVENT_ID]! - 2;
      return isText && length === ID_LENGTH && same(view, places[2 * EVENT_ID]! + 1, view, idAt, ID_LENGTH);
    }
    if (eventId !== undefined) return scanner.isText(EVENT_ID, eventId);
    if (seen[EVENT_ID] !== scanner.line || bytes[places[2 * EVENT_ID]!] !== QUOTE) return true;
    const [at, end] = [places[2 * EVENT_ID]!, places[2 * EVENT_ID + 1]!];
    return !mayBeSecret(bytes, at, end) || maskedText(bytes, at, end, EVENT_ID) === undefined;
  }

  const none: Buffer = Buffer.alloc(0);
  const scanner = {
    ...{
      line: 0,
      bytes: none,
      start: 0,
      places,
      timeMs: 0,
      isCanonical: false,
      isError: false,
      ownPlaces,
      ownCount: 0,
      isForeign: false,
      masked: NONE_MASKED,
    },
    has: (field: number) => seen[field] === scanner.line,
    valueOf(field: number): unknown {
      if (seen[field] !== scanner.line) return undefined;
      const written = scanner.bytes.toString('utf8', places[2 * field], places[2 * field + 1]);
      return JSON.parse(written);
    },
    isText(field: number, given: string) {
      const { bytes, line } = scanner;
      const from = places[2 * field]! + 1;
      if (seen[field] !== line || places[2 * field + 1]! - 1 - from !== given.length || bytes[from - 1] !== QUOTE)
        return false;
      for (let i = 0; i < given.length; i++) if (bytes[from + i] !== given.charCodeAt(i)) return false;
      return true;
    },
    scan(bytes: Buffer, from: number, to: number, eventId: string | undefined, idAt: number) {
      if (scanner.bytes !== bytes) {
        scanner.bytes = bytes;
        view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      }
      scanner.line += 1;
      if (scanner.line === MAX_LINE) {
        scanner.line = 1;
        seen.fill(0);
      }
      scanner.start = from;
      masked = NONE_MASKED;
      isForeign = false;
      isAscii = true;
      tree.tidy();
      const isFit =
        bytes[from] === OPEN &&
        object(bytes, from, to) &&
        isNormal(bytes) &&
        hasId(bytes, eventId, idAt) &&
        (isAscii || isUtf8(bytes.subarray(from, to)));
      scanner.isForeign = isForeign;
      scanner.masked = isFit ? masked : NONE_MASKED;
      return isFit && masked.length === 0;
    },
  };
  return scanner;
}

/** Is each of four bytes a sign of ASCII that says nothing but itself: no quote, no backslash, no control character? */
function isOrdinary(four: number): boolean {
  // A byte that is subtracted from below itself, or that is zero before, shows in its uppermost bit.
  const odd = four | (four - 0x20202020) | ((four ^ 0x22222222) - 0x01010101) | ((four ^ 0x5c5c5c5c) - 0x01010101);
  return (odd & 0x80808080) === 0;
}

/** Do `length` bytes from here and from there on agree? */
function same(view: DataView, at: number, other: DataView, from: number, length: number): boolean {
  if (length < 4) {
    for (let i = 0; i < length; i++) if (view.getUint8(at + i) !== other.getUint8(from + i)) return false;
    return true;
  }
  if (length < 8) {
    const rest = length - 4;
    return (
      view.getInt32(at, true) === other.getInt32(from, true) &&
      view.getInt32(at + rest, true) === other.getInt32(from + rest, true)
    );
  }
  // Eight at once, the last ones perhaps twice. As numbers, equal ones have equal bytes, but for zero, of which no text is made.
  const last = length - 8;
  for (let i = 0; i < last; i += 8)
    if (view.getFloat64(at + i, true) !== other.getFloat64(from + i, true)) return false;
  return view.getFloat64(at + last, true) === other.getFloat64(from + last, true);
}

/** Does a number have so many digits before its dot, at most, and no exponent? */
function hasDigits(bytes: Buffer, from: number, end: number, most: number): boolean {
  const first = bytes[from] === MINUS ? from + 1 : from;
  const whole = digitsEnd(bytes, first);
  return whole - first <= most && end === (bytes[whole] === DOT ? digitsEnd(bytes, whole + 1) : whole);
}

/** Two digits; more than any two give when there are none. */
function pair(bytes: Buffer, at: number): number {
  const tens = bytes[at]! - ZERO;
  const ones = bytes[at + 1]! - ZERO;
  return tens >= 0 && tens < 10 && ones >= 0 && ones < 10 ? 10 * tens + ones : 1_000;
}
