// How texts are written: quotes at any depth of escaping, groups in brackets, values with and without quotes, header lines.
// In: a text and a place in it. Out: where something ends. Guarantee: one step per character read, and bounded look-ahead.
import { MASK } from './secret-forms.ts';

/** How far one looks for a sign before it gives up. */
export const MAX_LOOK = 128;

export const isSpace = (code: number) => code === 32 || code === 9;
export const isBreak = (code: number) => code === 10 || code === 13;

export function isKeyChar(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 48 && code <= 57) ||
    code === 95 ||
    code === 45 ||
    code === 46 ||
    code === 36 ||
    code > 127
  );
}

const isHex = (code: number) => (code >= 48 && code <= 57) || (code >= 65 && code <= 70) || (code >= 97 && code <= 102);

/** `%` and two digits end before `i`. */
export function escapeBefore(text: string, i: number): boolean {
  return i >= 3 && text.charCodeAt(i - 3) === 37 && isHex(text.charCodeAt(i - 2)) && isHex(text.charCodeAt(i - 1));
}

export const isLetter = (code: number) => (code >= 97 && code <= 122) || (code >= 65 && code <= 90);
export interface Quote {
  /** Where it ends. */
  readonly end: number;
  /** What closes it: a quote with as many backslashes, `%22`, `&quot;`. */
  readonly close: string;
  readonly slashes: number;
}

const NAMED_QUOTES = [
  '%22',
  '%27',
  '%2522',
  '%2527',
  '%252522',
  '&quot;',
  '&#34;',
  '&#39;',
  '&apos;',
  '\\x22',
  '\\x27',
];

export function quoteAt(text: string, at: number): Quote | undefined {
  let i = at;
  while (text.charCodeAt(i) === 92 && i - at < MAX_LOOK) i += 1;
  const char = text[i];
  if (char === '"' || char === "'" || char === '`') return { end: i + 1, close: char, slashes: i - at };
  if (char === '%' || char === '&' || char === 'x') {
    for (const name of NAMED_QUOTES) {
      if (text.startsWith(name, at)) return { end: at + name.length, close: name, slashes: 0 };
    }
  }
  return undefined;
}

/** Where the value of a quote ends (before what closes it); a quote of an outer text ends it too. */
export function quotedEnd(text: string, from: number, quote: Quote): number {
  if (quote.close.length > 1) {
    const at = text.indexOf(quote.close, from);
    return at < 0 ? text.length : at;
  }
  const code = quote.close.charCodeAt(0);
  let slashes = 0;
  for (let i = from; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === 92) slashes += 1;
    else {
      if (char === code) {
        // Inside k backslashes the value's own quotes have 2k+1 or more, and its own backslashes come in pairs of k+1.
        // JSON escapes no apostrophe, so around one any backslash may be the value's own.
        const closes = code === 39 ? slashes === quote.slashes : slashes % (2 * (quote.slashes + 1)) === quote.slashes;
        if (slashes < quote.slashes) return i - slashes;
        if (closes) {
          // SQL and CSV double a quote to write one.
          if (quote.slashes === 0 && text.charCodeAt(i + 1) === code && i > from) i += 1;
          else return i - quote.slashes;
        }
      }
      slashes = 0;
    }
  }
  return text.length;
}

/** Where a group in braces or brackets ends, quotes looked through; the text's end when it is not closed. */
export function groupEnd(text: string, from: number): number {
  let depth = 0;
  for (let i = from; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === 123 || char === 91) depth += 1;
    else if (char === 125 || char === 93) {
      depth -= 1;
      if (depth === 0) return i + 1;
    } else if (char === 92 || char === 34) {
      const quote = quoteAt(text, i);
      if (quote !== undefined) i = Math.min(text.length, quotedEnd(text, quote.end, quote) + quote.slashes);
    }
  }
  return text.length;
}

const NEXT_KEY = /^[,;&|\s]*["']?[\w.$-]{1,40}["']?\s?(?:=|:(?!\/\/))/;

/** Where a value without quotes ends, or `limit`. Punctuation belongs to it unless a new key or nothing follows. */
export function bareEnd(text: string, from: number, encoded: boolean, limit = text.length): number {
  let i = from;
  if (text.startsWith(MASK, from)) i = from + MASK.length;
  for (; i < text.length && i < limit; i++) {
    const char = text.charCodeAt(i);
    if (char <= 32 || char === 34 || char === 96 || (char === 60 && i > from)) break;
    if (char === 92 && endsAtEscape(text, i)) break;
    if (char === 39 && !(i > from && isKeyChar(text.charCodeAt(i - 1)) && isKeyChar(text.charCodeAt(i + 1)))) break;
    if (encoded && char === 37 && /^%(?:25)*(?:2[0267C]|3B|7D|0A|0D|5D)/i.test(text.slice(i, i + 12))) break;
    if (char === 38 && text.startsWith('&quot;', i)) break;
    if (char === 44 || char === 59 || char === 38 || char === 124) {
      const next = text.charCodeAt(i + 1);
      if (Number.isNaN(next) || next <= 32 || next === 34 || next === 39 || NEXT_KEY.test(text.slice(i, i + 48))) break;
    }
    if (char === 41 || char === 93 || char === 125) {
      const next = text.charCodeAt(i + 1);
      if (
        Number.isNaN(next) ||
        next <= 32 ||
        next === 44 ||
        next === 59 ||
        next === 41 ||
        next === 93 ||
        next === 125 ||
        next === 34 ||
        next === 39 ||
        next === 46
      )
        break;
    }
  }
  // The full stop of the sentence.
  while (i > from + 1 && text.charCodeAt(i - 1) === 46 && i > from + MASK.length) i -= 1;
  return i;
}

/** A backslash that begins a written-out quote or line break. */
function endsAtEscape(text: string, at: number): boolean {
  let i = at;
  while (text.charCodeAt(i) === 92 && i - at < MAX_LOOK) i += 1;
  const char = text[i];
  return char === '"' || char === "'" || ((char === 'n' || char === 'r') && i === at + 1);
}

/** Where a header's value ends: at the line's end or at a quote of the text around it. Quotes of its own follow a `=`. */
export function lineEnd(text: string, from: number, limit = text.length): number {
  let i = from;
  for (; i < text.length && i < limit; i++) {
    const char = text.charCodeAt(i);
    if (isBreak(char)) break;
    if (char !== 92 && char !== 34 && char !== 39 && char !== 38 && char !== 37) continue;
    if (char === 92 && /^\\+[nr]/.test(text.slice(i, i + 8))) break;
    if (char === 39 && isLetter(text.charCodeAt(i - 1)) && isLetter(text.charCodeAt(i + 1))) continue;
    const quote = quoteAt(text, i);
    if (quote === undefined) continue;
    if (text.charCodeAt(i - 1) !== 61) break;
    i = Math.min(text.length, quotedEnd(text, quote.end, quote) + quote.slashes + quote.close.length - 1);
  }
  while (i > from && isSpace(text.charCodeAt(i - 1))) i -= 1;
  return Math.min(i, text.length);
}

export function skipSpaces(text: string, from: number, breaks: boolean): number {
  let i = from;
  while (i - from < MAX_LOOK && (isSpace(text.charCodeAt(i)) || (breaks && isBreak(text.charCodeAt(i))))) i += 1;
  return i;
}
