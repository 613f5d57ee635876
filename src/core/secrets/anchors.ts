// Many literals looked for in one pass. In: literals, once; then texts, or bytes as they were read. Out: each place where a literal
// or a long run of digits stands. Guarantee: linear in what comes in, and no literal is overlooked.
//
// A table of bits says of any four characters in a row whether a literal may stand there. Each literal is filed under the rarest
// four it has at an even place and at an odd one, so that only every second place of the text is looked up.

/** What `visit` may answer besides the place to go on from. */
export const GO_ON = -1;
export const STOP = -2;

type Visit = (index: number, start: number, end: number) => number;

export interface Anchors {
  /**
   * Calls `visit` for each literal (by index) that stands at `text.slice(start, end)`, in any case. `visit` answers `GO_ON`,
   * `STOP`, or a place further on before which nothing is looked for any more.
   */
  scan(text: string, visit: Visit): void;
  /**
   * May `scan` find anything in the text of these bytes, or two dots as in a dotted token? Never false when it would, and cheaper:
   * nothing is decoded or copied.
   */
  mayStand(bytes: Buffer, from: number, to: number): boolean;
}

/** Letters from common to rare in English and in identifiers. */
const BY_FREQUENCY = 'etaoinsrldcmupghfbywvkxjqz';

interface Candidate {
  readonly index: number;
  /** The literal in small letters. */
  readonly codes: Uint8Array;
  /** Where in the literal the four characters begin; -1 when one before it is among them. */
  readonly offset: number;
}

/** Above the number of any candidate. */
const PAIR = 65_536;
const LONG_RUN = 14;
const CHUNK = 16_384;
/** Chunks overlap by more than any literal is long. */
const CHUNK_OVERLAP = 128;

/**
 * Stands for four digits: `visit` gets it instead of a literal's index, at least once for every ten or more in a row, spaces and
 * dashes between them or not.
 */
export const DIGITS = -1;

/** @param literals ASCII, three characters or more; capitals are taken as small letters. */
export function createAnchors(literals: readonly string[]): Anchors {
  const candidates: Candidate[] = [];
  /** Pairs of a hash and the number of a candidate whose four characters have it. */
  const pairs: number[] = [];
  // For each 18 bits of a hash eight bits, chosen by three more: a four that has its bit is almost certainly there.
  const seen = new Uint8Array(1 << 18);
  literals.forEach((literal, index) => {
    const codes = Uint8Array.from(Buffer.from(literal.toLowerCase(), 'latin1'));
    for (const parity of [0, 1]) {
      const offset = rarest(codes, parity);
      for (const four of fours(codes, offset)) {
        const key = hash(four);
        pairs.push((key >>> 14) * PAIR + candidates.length);
        seen[key >>> 14]! |= 1 << ((key >>> 11) & 7);
      }
      candidates.push({ index, codes, offset });
    }
  });
  // Sorted by hash, in one array: one list per hash would make some twenty thousand lists.
  const sorted = Float64Array.from(pairs).sort();
  const members = Uint16Array.from(sorted, (pair) => pair % PAIR);
  const hashes = Uint32Array.from(sorted, (pair) => Math.floor(pair / PAIR));
  if (hashes.length > PAIR) throw new RangeError(`${literals.length} literals are more than the tables hold`);
  const starts = new Uint16Array(1 << 18);
  for (let i = hashes.length - 1; i >= 0; i--) starts[hashes[i]!] = i;
  const buffer = Buffer.alloc(CHUNK + 8);
  const quads = new Uint32Array(buffer.buffer, buffer.byteOffset, buffer.length / 4);

  function stands(text: string, start: number, { codes }: Candidate): boolean {
    for (let i = 0; i < codes.length; i++) {
      const code = text.charCodeAt(start + i);
      if ((code >= 65 && code <= 90 ? code + 32 : code) !== codes[i]) return false;
    }
    return true;
  }

  /** Does a literal stand whose four characters are the ones at `at`? */
  function standsNear(bytes: Buffer, key: number, at: number): boolean {
    const bit = key >>> 14;
    for (let c = starts[bit]!; hashes[c] === bit; c++) {
      const { codes, offset } = candidates[members[c]!]!;
      let i = 0;
      for (; i < codes.length; i++) {
        const code = bytes[at - offset + i]!;
        if ((code >= 65 && code <= 90 ? code + 32 : code) !== codes[i]) break;
      }
      if (i === codes.length) return true;
    }
    return false;
  }

  /** Asks about every literal that may begin near `at`. Returns where to look on from, or `STOP`. */
  function look(text: string, visit: Visit, key: number, at: number, from: number): number {
    if (!isSet(seen, key)) return from;
    const bit = key >>> 14;
    let next = from;
    for (let c = starts[bit]!; hashes[c] === bit; c++) {
      const candidate = candidates[members[c]!]!;
      const start = at - candidate.offset;
      if (start < next || !stands(text, start, candidate)) continue;
      const answer = visit(candidate.index, start, start + candidate.codes.length);
      if (answer === STOP) return STOP;
      if (answer !== GO_ON) next = answer;
    }
    return next;
  }

  return {
    scan(text, visit) {
      const table = seen;
      let from = 0;
      for (let base = 0; base < text.length; base += CHUNK - CHUNK_OVERLAP) {
        // One byte per character: one that does not fit can only look like part of a literal, and `stands` asks the text.
        const part = base === 0 && text.length <= CHUNK ? text : text.slice(base, base + CHUNK);
        const written = buffer.write(part, 'latin1');
        for (let i = written; i < written + 8; i++) buffer[i] = 0;
        const end = (written >> 2) + 1;
        let before = 0x20202020;
        for (let i = 0; i < end; i++) {
          const quad = (quads[i]! | 0x20202020) & 0x7f7f7f7f;
          const across = (quad << 16) | (before >>> 16);
          before = quad;
          const one = hash(across);
          const two = hash(quad);
          if (!isSet(table, one) && !isSet(table, two) && (quad & 0x70707070) !== 0x30303030) continue;
          const at = base + i * 4;
          if (at + 4 < from) continue;
          if (fourDigits(quad) && at >= from && inLongRun(text, at) && visit(DIGITS, at, at + 4) === STOP) return;
          from = look(text, visit, one, at - 2, from);
          if (from === STOP) return;
          from = look(text, visit, two, at, from);
          if (from === STOP) return;
        }
        if (base + written >= text.length) return;
      }
    },
    mayStand(bytes, from, to) {
      const words = wordsOf(bytes);
      const table = seen;
      const shift = viewedFrom;
      const last = (shift + to) >>> 2;
      // The last word is looked at as a whole, so a few bytes have to follow.
      if (last >= words.length) return true;
      let before = 0x20202020;
      for (let i = (shift + from) >>> 2; i <= last; i++) {
        const quad = (words[i]! | 0x20202020) & 0x7f7f7f7f;
        const one = hash((quad << 16) | (before >>> 16));
        const two = hash(quad);
        const at = i * 4 - shift;
        if (isSet(table, one) && standsNear(bytes, one, at - 2)) return true;
        if (isSet(table, two) && standsNear(bytes, two, at)) return true;
        if (fourDigits(quad) && bytesInLongRun(bytes, at)) return true;
        if (hasDot(quad) && dotsApart(bytes, at)) return true;
        before = quad;
      }
      return false;
    },
  };
}

/** The last bytes as words, from the beginning of the memory they lie in: a read is looked at line by line. */
let viewed: Buffer | undefined;
let viewedFrom = 0;
let view: Uint32Array = new Uint32Array(0);

function wordsOf(bytes: Buffer): Uint32Array {
  if (bytes !== viewed) {
    const { buffer, byteOffset } = bytes;
    viewed = bytes;
    viewedFrom = byteOffset;
    view = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
  }
  return view;
}

/** A product with the golden ratio; its upper bits are the ones to use. */
function hash(four: number): number {
  return Math.imul(four, 0x9e3779b1);
}

function isSet(table: Uint8Array, key: number): boolean {
  return ((table[key >>> 14]! >>> ((key >>> 11) & 7)) & 1) !== 0;
}

/** A byte as the table sees it: letters in lower case. Some punctuation becomes the same; the comparison tells it apart. */
const folded = (code: number) => (code | 0x20) & 0x7f;

/** Are all four folded bytes digits? */
function fourDigits(four: number): boolean {
  return (four & 0x70707070) === 0x30303030 && ((four + 0x06060606) & 0x40404040) === 0;
}

/** Is one of the four bytes a dot? Other bytes may look like one behind it. */
function hasDot(four: number): boolean {
  const rest = four ^ 0x2e2e2e2e;
  return ((rest - 0x01010101) & ~rest & 0x80808080) !== 0;
}

/** Is one of the four a dot with another one seven bytes on, as in a dotted token? */
function dotsApart(bytes: Buffer, at: number): boolean {
  for (let dot = at; dot < at + 4; dot++) if (bytes[dot] === 46 && bytes[dot + 7] === 46) return true;
  return false;
}

/** Do the four stand in a run of digits, spaces and dashes that is longer than a date and hour? */
function inLongRun(text: string, at: number): boolean {
  let [from, to] = [at, at + 4];
  while (to - at < LONG_RUN && parts(text.charCodeAt(to))) to += 1;
  while (to - from < LONG_RUN && from > 0 && parts(text.charCodeAt(from - 1))) from -= 1;
  return to - from >= LONG_RUN;
}

function bytesInLongRun(bytes: Buffer, at: number): boolean {
  let to = at + 4;
  while (to - at < LONG_RUN && parts(bytes[to]!)) to += 1;
  let from = at;
  while (to - from < LONG_RUN && from > 0 && parts(bytes[from - 1]!)) from -= 1;
  return to - from >= LONG_RUN;
}

const parts = (code: number) => (code >= 48 && code <= 57) || code === 32 || code === 45;

/** Four bytes as they stand in memory. */
function packed(four: readonly number[]): number {
  for (let i = 0; i < 4; i++) FOUR_BYTES[i] = folded(four[i]!);
  return FOUR[0]!;
}

const FOUR_BYTES = new Uint8Array(4);
const FOUR = new Int32Array(FOUR_BYTES.buffer);

/** The best place of one parity for a literal's four characters: all four within the literal if possible, then the rarest. */
function rarest(codes: Uint8Array, parity: number): number {
  const rarity = (code: number | undefined) => {
    if (code === undefined) return -100;
    return code >= 97 ? BY_FREQUENCY.indexOf(String.fromCharCode(code)) : code >= 48 && code <= 57 ? 2 : 8;
  };
  let best = -1;
  let most = Number.NEGATIVE_INFINITY;
  for (let offset = parity === 0 ? 0 : -1; offset < codes.length - 1; offset += 2) {
    const sum = [0, 1, 2, 3].reduce((total, i) => total + rarity(codes[offset + i]), 0);
    if (sum > most) [most, best] = [sum, offset];
  }
  return best;
}

/** The keys in the table; any character may stand before and after the literal. */
function fours(codes: Uint8Array, offset: number): number[] {
  const free = [0, 1, 2, 3].filter((i) => codes[offset + i] === undefined);
  const four = [0, 1, 2, 3].map((i) => codes[offset + i] ?? 0);
  if (free.length === 0) return [packed(four)];
  // Literals have at least three characters, so only one is free.
  return ANY.map((any) => {
    four[free[0]!] = any;
    return packed(four);
  });
}

/** One of each character that `folded` tells apart. */
const ANY = Array.from({ length: 64 }, (_, i) => (i < 32 ? 32 + i : 64 + i));
