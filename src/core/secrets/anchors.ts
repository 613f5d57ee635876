// Many literals looked for in one pass. In: literals, later a text. Out: every place where one stands.
// How: the text is read four bytes at a time, and a table of bits says of any four in a row, at every second place,
// whether a literal may be there; each literal is known by the rarest four it has at an even and at an odd place.
// Guarantee: two look-ups per four characters and, where four fit, one comparison per literal that has them.
/** What `visit` may answer beside the place to go on from. */
export const GO_ON = -1;
export const STOP = -2;

type Visit = (index: number, start: number, end: number) => number;

interface Anchors {
  /**
   * Calls `visit` for each literal (by index) that stands at `text.slice(start, end)`, in any case. `visit` answers `GO_ON`,
   * `STOP`, or a place further on before which nothing is looked for any more.
   */
  scan(text: string, visit: Visit): void;
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

/** Stands for four digits: `visit` gets it instead of a literal's index, at least once for every ten or more in a row, parted
 * or not. */
export const DIGITS = -1;

/** @param literals ASCII, three characters or more; capitals are taken as small letters. */
export function createAnchors(literals: readonly string[]): Anchors {
  const candidates: Candidate[] = [];
  /** Pairs of a hash and the number of a candidate whose four characters have it. */
  const pairs: number[] = [];
  // Two tables of bits by two hashes: what has both is almost certainly there, and both stay in the processor's cache.
  const looks = new Uint32Array(8_192);
  const looksAgain = new Uint32Array(8_192);
  literals.forEach((literal, index) => {
    const codes = Uint8Array.from(Buffer.from(literal.toLowerCase(), 'latin1'));
    for (const parity of [0, 1]) {
      const offset = rarest(codes, parity);
      for (const four of fours(codes, offset)) {
        const bit = hash(four);
        pairs.push(bit * PAIR + candidates.length);
        looks[bit >>> 5]! |= 1 << (bit & 31);
        const again = hashAgain(four);
        looksAgain[again >>> 5]! |= 1 << (again & 31);
      }
      candidates.push({ index, codes, offset });
    }
  });
  // Sorted by hash, in one array: a list of its own for each hash would be some twenty thousand of them.
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

  /** Asks about all that may begin at or about `at`. Answers from where to look on, or `STOP`. */
  function look(text: string, visit: Visit, bit: number, four: number, at: number, from: number): number {
    if (((looks[bit >>> 5]! >>> (bit & 31)) & 1) === 0) return from;
    const again = hashAgain(four);
    if (((looksAgain[again >>> 5]! >>> (again & 31)) & 1) === 0) return from;
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
      let from = 0;
      for (let base = 0; base < text.length; base += CHUNK - CHUNK_OVERLAP) {
        // One byte a character: what does not fit into one can only look like a literal, and `stands` asks the text.
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
          const seen = (looks[one >>> 5]! >>> (one & 31)) | (looks[two >>> 5]! >>> (two & 31));
          if ((seen & 1) === 0 && (quad & 0x70707070) !== 0x30303030) continue;
          const at = base + i * 4;
          if (at + 4 < from) continue;
          if (fourDigits(quad) && at >= from && inLongRun(text, at) && visit(DIGITS, at, at + 4) === STOP) return;
          from = look(text, visit, one, across, at - 2, from);
          if (from === STOP) return;
          from = look(text, visit, two, quad, at, from);
          if (from === STOP) return;
        }
        if (base + written >= text.length) return;
      }
    },
  };
}

/** 18 bits of a product with the golden ratio. */
function hash(four: number): number {
  return Math.imul(four, 0x9e3779b1) >>> 14;
}

function hashAgain(four: number): number {
  return Math.imul(four, 0x85ebca6b) >>> 14;
}

/** A byte as the table sees it: letters small, and with them some punctuation, which the comparison tells apart. */
const folded = (code: number) => (code | 0x20) & 0x7f;

/** Of four folded bytes: all from `0` to `9`. */
function fourDigits(four: number): boolean {
  return (four & 0x70707070) === 0x30303030 && ((four + 0x06060606) & 0x40404040) === 0;
}

/** Do the four stand in a run of digits, spaces and dashes that is longer than a date and hour? */
function inLongRun(text: string, at: number): boolean {
  let [from, to] = [at, at + 4];
  while (to - at < LONG_RUN && parts(text.charCodeAt(to))) to += 1;
  while (to - from < LONG_RUN && from > 0 && parts(text.charCodeAt(from - 1))) from -= 1;
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

/** The best place for a literal's four characters among those of one parity: no stranger among them, then the rarest. */
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

/** The keys in the table; any character may stand before and behind the literal. */
function fours(codes: Uint8Array, offset: number): number[] {
  const free = [0, 1, 2, 3].filter((i) => codes[offset + i] === undefined);
  const four = [0, 1, 2, 3].map((i) => codes[offset + i] ?? 0);
  if (free.length === 0) return [packed(four)];
  // Literals have three characters at least, so that one is free.
  return ANY.map((any) => {
    four[free[0]!] = any;
    return packed(four);
  });
}

/** One of each that `folded` tells apart. */
const ANY = Array.from({ length: 64 }, (_, i) => (i < 32 ? 32 + i : 64 + i));
