// The operator's own patterns. In: sources of regular expressions; out: a masker of texts.
// Guarantee: a pattern sees at most 4,096 characters at a time, so one that is quadratic in what it searches costs a
// bounded amount per character; windows overlap by 1,024 characters, which is the longest match that is certainly found.
import { MASK } from './secret-forms.ts';

export const WINDOW = 4_096;
export const OVERLAP = 1_024;

export interface Patterns {
  readonly present: boolean;
  mask(text: string): string;
}

/** @throws SyntaxError for a source that is no regular expression. */
export function createPatterns(sources: readonly string[]): Patterns {
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
