// Error templates: the message with what varies replaced, so that one fault is one line in a chart.
// In: an error text of any length; out: at most 256 characters, and a fingerprint of 16 hex digits.
import { createHash } from 'node:crypto';

const MAX_SOURCE = 512;
const MAX_TEMPLATE = 256;
const MAX_CACHED = 5_000;

// Order matters: the more specific comes first. An apostrophe inside a word (can't) opens no quotation.
const VARIABLES: readonly (readonly [placeholder: string, pattern: string])[] = [
  ['<quoted>', '"[^"]*"|(?<![\\p{L}\\p{N}])\'[^\']*\'|`[^`]*`'],
  ['<url>', '\\bhttps?://[^\\s]+'],
  ['<email>', '[\\w.+-]+@[\\w-]+\\.[\\w.]+'],
  ['<uuid>', '\\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\\b'],
  ['<ip>', '\\b\\d{1,3}(?:\\.\\d{1,3}){3}(?::\\d+)?\\b'],
  ['<phone>', '\\+\\d[\\d ()-]{6,}\\d'],
  // An identifier: at least eight characters, letters and digits mixed, or a run of hexadecimal digits.
  ['<id>', '\\b(?=[\\w-]*\\d)(?=[\\w-]*[A-Za-z])[A-Za-z0-9][\\w-]{7,}\\b|\\b0x[0-9a-fA-F]+\\b'],
  ['<n>', '\\d+(?:[.,]\\d+)*'],
];
/** One group each, without names: named groups cost an object per match, which doubles the time. */
const VARIABLE = new RegExp(VARIABLES.map(([, pattern]) => `(${pattern})`).join('|'), 'gu');

/** The first line of `text` with quotations, addresses, ids and numbers replaced by placeholders. */
export function errorTemplate(text: string): string {
  const start = text.slice(0, MAX_SOURCE).trim();
  const end = start.search(/[\r\n]/);
  const line = end < 0 ? start : start.slice(0, end);
  const template = line.replace(
    VARIABLE,
    (_, ...groups) => VARIABLES[groups.findIndex((group) => group !== undefined)]![0],
  );
  // A cut surrogate pair would be no valid text any more.
  return template.length <= MAX_TEMPLATE ? template.toWellFormed() : template.slice(0, MAX_TEMPLATE).toWellFormed();
}

export interface ErrorGrouping {
  readonly template: string;
  readonly fingerprint: string;
}

/** Templates and fingerprints with a bounded memory of fingerprints: an incident repeats few templates often. */
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
