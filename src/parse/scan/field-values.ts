// The values of a scanned line's fields. In: a scan, and which field. Out: the same value that parsing the line would have given it, made
// without parsing. Guarantee: bounded memory, whatever the lines.
//
// What is counted has few values that come again and again: a status, a route, a tenant. A text that was met before is found by its
// bytes, so that no new one is made of them; V8 has then worked out its hash already, too.
import { BACKSLASH, MINUS, NOT_ASCII_FROM, QUOTE, ZERO } from '../../core/json-bytes.ts';
import type { Scan } from './scanner.ts';

/** A power of two. */
const SLOTS = 512;
/** Longer texts seldom come again. */
const MAX_KNOWN = 64;
/** So many digits are exact, however they are added up. */
const MAX_DIGITS = 15;

/** The returned function gives undefined for a field that the line does not have. Not for groups. */
export function createFieldValue(field: number): (scan: Scan) => unknown {
  /** By what their bytes add up to: of two that add up to the same, the later one. */
  const known: (string | undefined)[] = new Array(SLOTS).fill(undefined);
  /** Many a field hardly ever changes. */
  let last = '';

  function text(scan: Scan, from: number, to: number): unknown {
    if (scan.isText(field, last)) return last;
    if (to - from > MAX_KNOWN) return scan.valueOf(field);
    const { bytes } = scan;
    let sum = to - from;
    for (let at = from; at < to; at++) {
      const byte = bytes[at]!;
      if (byte === BACKSLASH || byte >= NOT_ASCII_FROM) return scan.valueOf(field);
      sum = (Math.imul(sum, 31) + byte) | 0;
    }
    const slot = (sum ^ (sum >>> 9)) & (SLOTS - 1);
    const candidate = known[slot];
    if (candidate !== undefined && scan.isText(field, candidate)) last = candidate;
    else {
      last = bytes.toString('latin1', from, to);
      known[slot] = last;
    }
    return last;
  }

  return (scan) => {
    if (!scan.has(field)) return undefined;
    const { bytes, places } = scan;
    const from = places[2 * field]!;
    const to = places[2 * field + 1]!;
    const first = bytes[from]!;
    if (first === QUOTE) return text(scan, from + 1, to - 1);
    return first === MINUS || first - ZERO < 10 ? number(bytes, from, to) : scan.valueOf(field);
  };
}

/** Of a number's bytes in JSON. */
function number(bytes: Buffer, from: number, to: number): number {
  if (to - from > MAX_DIGITS) return Number(bytes.toString('latin1', from, to));
  let value = 0;
  for (let at = from; at < to; at++) {
    const digit = bytes[at]! - ZERO;
    if (digit < 0 || digit > 9) return Number(bytes.toString('latin1', from, to));
    value = 10 * value + digit;
  }
  return value;
}
