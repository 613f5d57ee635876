// Many literals looked for in one pass. In: literals, later a text. Out: every place where one stands.
// How: each literal is known by three characters of it that are rare in logs; a table says for any three whether to look
// closer. Guarantee: one table look-up per character and, where three fit, one comparison per literal that has them.

/** What `visit` may answer beside the place to go on from. */
export const GO_ON = -1;
export const STOP = -2;

export interface Anchors {
  /**
   * Calls `visit` for each literal (by index) that stands at `text.slice(start, end)`, in any case. `visit` answers `GO_ON`,
   * `STOP`, or a place further on before which nothing is looked for any more.
   */
  scan(text: string, visit: (index: number, start: number, end: number) => number): void;
}

/** Letters from common to rare in English and in identifiers. */
const BY_FREQUENCY = 'etaoinsrldcmupghfbywvkxjqz';

interface Candidate {
  readonly index: number;
  /** The literal in small letters. */
  readonly codes: Uint8Array;
  /** Where in the literal the last of its three characters stands. */
  readonly last: number;
}

/** @param literals ASCII, two characters or more; capitals are taken as small letters. */
export function createAnchors(literals: readonly string[]): Anchors {
  const candidates: (Candidate[] | undefined)[] = new Array(32_768);
  const looks = new Uint8Array(32_768);
  literals.forEach((literal, index) => {
    const codes = Uint8Array.from(Buffer.from(literal.toLowerCase(), 'latin1'));
    const last = rarest(codes);
    for (const three of threes(codes, last)) {
      candidates[three] ??= [];
      candidates[three].push({ index, codes, last });
      looks[three] = 1;
    }
  });

  function stands(text: string, start: number, { codes }: Candidate): boolean {
    for (let i = 0; i < codes.length; i++) {
      const code = text.charCodeAt(start + i);
      if ((code >= 65 && code <= 90 ? code + 32 : code) !== codes[i]) return false;
    }
    return true;
  }

  return {
    scan(text, visit) {
      const { length } = text;
      let three = 0;
      for (let i = 0; i < length; i++) {
        three = ((three << 5) & 32_767) | CLASSES[text.charCodeAt(i)]!;
        if (looks[three] === 0) continue;
        const list = candidates[three]!;
        for (let c = 0; c < list.length; c++) {
          const candidate = list[c]!;
          const start = i - candidate.last;
          if (start < 0 || !stands(text, start, candidate)) continue;
          const answer = visit(candidate.index, start, start + candidate.codes.length);
          if (answer === GO_ON) continue;
          if (answer === STOP) return;
          i = Math.max(i, answer - 1);
          three = 0;
          break;
        }
      }
    },
  };
}

const DIGIT = 27;
const OTHER = 31;
/** Letters 1 to 26 in either case, digits one class, what separates words in names one each. */
const CLASSES = new Uint8Array(65_536);
for (let code = 32; code < 127; code++) CLASSES[code] = OTHER;
for (let code = 0; code < 26; code++) CLASSES[65 + code] = CLASSES[97 + code] = code + 1;
for (let code = 48; code < 58; code++) CLASSES[code] = DIGIT;
CLASSES[45] = 28;
CLASSES[95] = 29;
CLASSES[46] = 30;

/** Where the rarest three characters of a literal end. */
function rarest(codes: Uint8Array): number {
  const rarity = (code: number) =>
    code >= 97 ? BY_FREQUENCY.indexOf(String.fromCharCode(code)) : CLASSES[code] === DIGIT ? 2 : 12;
  let best = codes.length - 1;
  let most = -1;
  for (let last = 2; last < codes.length; last++) {
    const sum = rarity(codes[last]!) + rarity(codes[last - 1]!) + rarity(codes[last - 2]!);
    if (sum > most) [most, best] = [sum, last];
  }
  return best;
}

/** The keys in the table; a literal of two characters may stand before anything. */
function threes(codes: Uint8Array, last: number): number[] {
  const cls = (i: number) => CLASSES[codes[i]!]!;
  if (codes.length > 2) return [(cls(last - 2) << 10) | (cls(last - 1) << 5) | cls(last)];
  return Array.from({ length: 32 }, (_, before) => (before << 10) | (cls(0) << 5) | cls(1));
}
