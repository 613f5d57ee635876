// JSON, byte by byte. In: bytes, and where in them a number, a word or white space begins. Out: where it ends. Guarantee: what is taken is
// what RFC 8259 calls a number or a literal name; nothing is decoded, copied or allocated.

export const [TAB, SPACE, QUOTE, PLUS, COMMA, MINUS, DOT, ZERO, COLON] = [9, 32, 34, 43, 44, 45, 46, 48, 58];
export const [OPEN_LIST, BACKSLASH, CLOSE_LIST, SMALL_E, SMALL_N, SMALL_U, OPEN, CLOSE] = [
  91, 92, 93, 101, 110, 117, 123, 125,
];

/** Bytes within a text: 0 is like any other, the others are looked at. */
export const [CONTROL, SPECIAL, NOT_ASCII] = [1, 2, 3];
/** The first byte that is no sign of ASCII. */
export const NOT_ASCII_FROM = 0x80;
export const KINDS = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte < 0x20) return CONTROL;
  if (byte === QUOTE || byte === BACKSLASH) return SPECIAL;
  return byte >= NOT_ASCII_FROM ? NOT_ASCII : 0;
});

const WORDS = ['true', 'false', 'null'].map((word) => Buffer.from(word));

/** Behind the number that begins at `from`; -1 when there is none. */
export function numberEnd(bytes: Uint8Array, from: number): number {
  const first = bytes[from] === MINUS ? from + 1 : from;
  let at = digitsEnd(bytes, first);
  if (at === first || (bytes[first] === ZERO && at > first + 1)) return -1;
  if (bytes[at] === DOT) {
    const behind = digitsEnd(bytes, at + 1);
    if (behind === at + 1) return -1;
    at = behind;
  }
  if ((bytes[at]! | 0x20) === SMALL_E) {
    at += bytes[at + 1] === PLUS || bytes[at + 1] === MINUS ? 2 : 1;
    const behind = digitsEnd(bytes, at);
    if (behind === at) return -1;
    at = behind;
  }
  return at;
}

/** Behind `true`, `false` or `null`; -1 when it is none of them. */
export function wordEnd(bytes: Uint8Array, from: number): number {
  for (const codes of WORDS) if (standsAt(bytes, from, codes)) return from + codes.length;
  return -1;
}

export function standsAt(bytes: Uint8Array, at: number, codes: Uint8Array): boolean {
  for (let i = 0; i < codes.length; i++) if (bytes[at + i] !== codes[i]) return false;
  return true;
}

export function digitsEnd(bytes: Uint8Array, from: number): number {
  let at = from;
  while (bytes[at]! >= 48 && bytes[at]! <= 57) at += 1;
  return at;
}

/** Behind spaces and tabs. */
export function blankEnd(bytes: Uint8Array, from: number): number {
  let at = from;
  while (bytes[at] === SPACE || bytes[at] === TAB) at += 1;
  return at;
}
