// Secrets out of log data. In: a serialised line, a text or a JSON value; out: the same with secrets replaced by MASK.
// Guarantee: what is not suspicious is returned as it came (same reference), so callers can compare to learn of a hit.

export const MASK = '[masked]';

const MAX_DEPTH = 64;
const TOO_DEEP = '[nested too deeply]';
const MAX_CACHED_KEYS = 5_000;

// Words that announce a secret, in keys as well as in text ("password=", "api_key: "). `tokens` counts words, it hides none.
const WORDS =
  'passw|passphrase|pwd|secret|token(?!s)|api[-_ ]?key|access[-_]?key|private[-_]?key|authorization|cookie|credential|card[-_]?number|credit[-_]?card|cvv|cvc|ssn';

// A key is secret when it *ends* like this after lower-casing and dropping punctuation: `tokenExpiresAt` is none.
const SECRET_KEY =
  /(?:passw(?:or)?d|passphrase|pwd|secret|token|apikey|accesskey|secretkey|privatekey|authorization|cookie|credential|cardnumber|creditcard)(?:s?|value|header|hash)$|^(?:cvv2?|cvc2?|ssn|pin|otp)$/;
const COUNTED = /tokens$/;

// Values that are secrets wherever they stand. Each keeps its recognisable head so that a reader sees what was there.
const VALUE_RULES: readonly [source: string, replacement: string][] = [
  ['\\b(Bearer|Basic) +[A-Za-z0-9+/=._~-]{6,}', `$1 ${MASK}`],
  ['\\beyJ[A-Za-z0-9_-]{8,}(?:\\.[A-Za-z0-9_-]*)*', MASK],
  ['(:\\/\\/)[^\\/\\s"@]*:[^\\/\\s"@]+@', `$1${MASK}@`],
  ['\\bA[KS]IA[A-Z0-9]{12,}', MASK],
  ['-----BEGIN [A-Z ]*PRIVATE KEY-----[^]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)', MASK],
  ['(hooks\\.slack\\.com\\/)[^\\s"]+', `$1${MASK}`],
  ['\\bxox[abeprs]-[A-Za-z0-9-]+', MASK],
  ['\\bgh[pousr]_[A-Za-z0-9]{16,}', MASK],
  ['\\bsk[-_][A-Za-z0-9_-]{16,}', MASK],
  ['\\bSK[0-9a-f]{32}\\b', MASK],
];

// Cheap stand-ins for VALUE_RULES: they may hit more, never less. Two passes are faster than one big alternation.
const VALUE_TEST =
  'Bearer |Basic |eyJ[A-Za-z0-9_-]{8}|:\\/\\/[^\\/\\s"@]*:[^\\/\\s"@]+@|A[KS]IA[A-Z0-9]{12}|-----BEGIN|hooks\\.slack|xox[abeprs]-|gh[pousr]_|sk[-_][A-Za-z0-9_-]{16}|SK[0-9a-f]{32}';

export interface MaskOptions {
  /** Further key names that hold secrets; compared without case and punctuation. */
  readonly keys?: readonly string[];
  /** Further regular expressions (source text, case-sensitive) whose whole match is a secret. */
  readonly patterns?: readonly string[];
}

export interface Masker {
  /** May this serialised line hold a secret key or value? Never false when `value` would mask something. */
  suspicious(line: string): boolean;
  /**
   * The same question in two parts, which is cheaper for a line that has been parsed anyway: `suspiciousValue` of the
   * whole line, and `isSecretKey` of every key and `suspiciousText` of every text in it.
   */
  suspiciousValue(line: string): boolean;
  suspiciousText(value: string): boolean;
  isSecretKey(key: string): boolean;
  /** The text with secrets masked; the same string when there were none. */
  text(value: string): string;
  /** The JSON value with secrets masked and nesting below 64 levels cut; the same reference when nothing was changed. */
  value(value: unknown): unknown;
}

/** @throws SyntaxError for a pattern that is no regular expression (the configuration schema checks that first). */
export function createMasker(options: MaskOptions = {}): Masker {
  const literal = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  // Punctuation may stand between any two characters of a custom key, as in `door-code` for `doorCode`.
  const loose = (key: string) => [...key.replace(/[^\p{L}\p{N}]/gu, '')].map(literal).join('[-_. ]?');
  const customKeys = new Set((options.keys ?? []).map(plain));
  const words = [WORDS, ...(options.keys ?? []).map(loose)].join('|');
  // `pin` and `otp` are too short to look for in running text, but as whole keys they are secret.
  const wordTest = new RegExp(`${words}|"(?:pin|otp)\\\\*"`, 'i');
  const valueTest = new RegExp([VALUE_TEST, ...(options.patterns ?? [])].join('|'));
  const rules = VALUE_RULES.map(([source, replacement]) => ({ pattern: new RegExp(source, 'g'), replacement }));
  for (const source of options.patterns ?? []) rules.push({ pattern: new RegExp(source, 'g'), replacement: MASK });
  // word, rest of the name, separator, then a quoted value up to its closing quote or a bare one up to a delimiter
  const assignment = new RegExp(
    `((?:${words})[\\w.-]*\\\\*["']?\\s*[:=]\\s*)(?:(\\\\*["'])(?:(?!\\2)[^])*|[^\\s"'\\\\,;&}\\])]+)`,
    'gi',
  );
  const cache = new Map<string, boolean>();

  function isSecretKey(key: string): boolean {
    const known = cache.get(key);
    if (known !== undefined) return known;
    const name = plain(key);
    const secret = (SECRET_KEY.test(name) && !COUNTED.test(name)) || customKeys.has(name);
    if (cache.size >= MAX_CACHED_KEYS) cache.clear();
    cache.set(key, secret);
    return secret;
  }

  function text(value: string): string {
    let masked = value;
    if (valueTest.test(masked)) for (const rule of rules) masked = masked.replace(rule.pattern, rule.replacement);
    if (wordTest.test(masked)) masked = masked.replace(assignment, (_, head, quote) => `${head}${quote ?? ''}${MASK}`);
    return masked;
  }

  function walk(value: unknown, depth: number): unknown {
    if (typeof value === 'string') return text(value);
    if (value === null || typeof value !== 'object') return value;
    if (depth >= MAX_DEPTH) return TOO_DEEP;
    let copy: Record<string, unknown> | undefined;
    for (const key of Object.keys(value)) {
      const before = (value as Record<string, unknown>)[key];
      const after =
        before !== null && before !== undefined && typeof before !== 'boolean' && isSecretKey(key)
          ? MASK
          : walk(before, depth + 1);
      if (after === before) continue;
      copy ??= (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>;
      // Plain assignment to `__proto__` would replace the prototype instead of the field.
      Object.defineProperty(copy, key, { value: after, enumerable: true, configurable: true, writable: true });
    }
    return copy ?? value;
  }

  return {
    suspicious: (line) => wordTest.test(line) || valueTest.test(line),
    suspiciousValue: (line) => valueTest.test(line),
    // Without a colon or an equals sign nothing is assigned to any word.
    suspiciousText: (value) => (value.includes(':') || value.includes('=')) && wordTest.test(value),
    isSecretKey,
    text,
    value: (value) => walk(value, 0),
  };
}

function plain(key: string): string {
  return key.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
}
