// Secrets in running text. The word before gives them away: `password=x`, `"api_key": "x"`, `Cookie: a=b`, `--token x`, `Password
// for bob: x`, `<pin>x</pin>`, in JSON, YAML, query strings, XML, SQL, command lines and any escaping of these; or by their place
// in a command or statement: `curl -u user:x`, `mysql -px`, `INSERT … VALUES ('x')`. In: a text and the place of a word such as
// `token`. Out: what to cut. Guarantee: a rule cuts what it reads, or reads a bounded number of characters; each line and each
// list of values is read once.

import { type Cut, looksRandom, MASK, type Rule } from './secret-forms.ts';
import {
  bareEnd,
  escapeBefore,
  groupEnd,
  isBreak,
  isKeyChar,
  isLetter,
  isSpace,
  type KeyKind,
  keyWords,
  kindOfWords,
  lineEnd,
  MAX_LOOK,
  quoteAt,
  quotedEnd,
  secretNames,
  skipSpaces,
} from './secret-keys.ts';

const MAX_KEY = 64;
/** This much of a value is read to judge it; the rest only when it is cut. */
const MAX_VALUE = 300;

/** Values that say there is no secret, or that it has been taken out already. */
const NOTHING =
  /^(?:null|undefined|none|nil|nan|true|false|yes|no|n\/a|[*x.•-]+|[[<({]{1,2}(?:(?:redacted|filtered|masked|hidden|removed|omitted|sensitive|secret|password|token|circular|object|array|empty|none|null|undefined|your)[a-z _:-]{0,24}(?:Object)?)?[\]>)}]{1,2}|\$\{[^}]{1,60}\}|%[sdjoO]|\?|redacted|hidden|masked|filtered|process\.env\.\w+)$/i;
/** A variable of a shell or a place in a statement. */
const VARIABLE = /^\$(?:\d{1,2}|[A-Z][A-Z_]{1,40})$/;
const isNothing = (value: string) => NOTHING.test(value) || VARIABLE.test(value);
/** Words that tell what became of a secret. */
const STATES = new Set(
  (
    'missing required expired invalid valid wrong incorrect empty set unset not is was are were must has have should cannot can may will too ' +
    'denied accepted rejected enabled disabled changed reset updated created deleted revoked refreshed rotated unknown default optional ' +
    'string number boolean object failed failure failing success succeeded successful ok okay granted active inactive closed closing open opened started ' +
    'starting ended ending provided present absent lost found verified unverified blocked allowed forbidden unauthorized unauthenticated ' +
    'authenticated authorized authorised required length mismatch mismatched matched matches pending sent received stored saved loaded ' +
    'loading used unused reused renewed issued requested generated confirmed skipped disconnected connected established terminated ' +
    'timeout timed the a an for from with and or in on at to of by based auth basic bearer digest apikey jwt cookie password token secret error'
  ).split(' '),
);
const UNEXPECTED = /(?:unexpected|expected|illegal|unrecognized|unknown|unterminated|missing|duplicate|next|syntax)$/i;

/** The words that lead here. `start`: only where a word of a key begins; `whole`: only as a whole word of it. */
interface WordAnchor {
  readonly word: string;
  readonly at?: 'start' | 'whole';
}

/** Distinct enough to lead here wherever they stand, also inside a word: `userpassword`. */
const ANYWHERE = (
  'passw passphrase passcode passkey secret token cookie credential apikey api_key api-key authoriz session sessid mnemonic signature ' +
  'passwort kennwort contrasena senha motdepasse wachtwoord cardnumber creditcard pwd pswd samlres assertion pass mfa cvv cvc iban jwt'
).split(' ');
/** Only as words of a name: `pin` leads here, `spinning` does not. */
const WHOLE =
  'pin pins otp otps ssn csc cvn psk psw sid sig key keys auth card cards cred salt hmac sas pan seed csrf xsrf bearer social'.split(
    ' ',
  );

export const WORD_ANCHORS: readonly WordAnchor[] = [
  ...ANYWHERE.map((word) => ({ word })),
  ...WHOLE.map((word) => ({ word, at: 'whole' as const })),
  // Two letters are too few to look for without what follows them.
  ...[...'"=: _-.s\\%1\''].map((after) => ({ word: `pw${after}` })),
  // `code`, `phrase` and `answer` are too common alone.
  ...joined(
    'security verification verify sms auth authentication authorization access login confirmation reset recovery backup time',
    'code',
  ),
  ...joined('activation scratch fa card pin otp mfa cvv totp tfa', 'code'),
  ...joined('seed recovery secret wallet backup mnemonic pass', 'phrase'),
  ...joined('cc', 'number num no n'),
  ...joined('security secret', 'answer'),
  ...[
    ['seed', 'words'],
    ['wallet', 'seed'],
    ['primary', 'account'],
    ['time', 'pin'],
    ['identified', 'by'],
    ['key', 'pem'],
    ['private', 'pem'],
  ].flatMap(([first, second]) => joined(first!, second!)),
  ...[
    ['wpa', 'psk'],
    ['pre', 'shared'],
    ['access', 'signature'],
    ['code', 'verifier'],
    ['debit', 'card'],
  ].flatMap(([first, second]) => joined(first!, second!)),
  // What is left when a name is written as one word: `masterkey`.
  ...[...secretNames().keys()]
    .filter((name) => name.length > 3 && !WHOLE.includes(name) && !ANYWHERE.some((word) => name.includes(word)))
    .map((word) => ({ word })),
];

/** Two words of a name with what may stand between them. */
function joined(firsts: string, seconds: string): WordAnchor[] {
  const pairs = firsts.split(' ').flatMap((first) => seconds.split(' ').map((second) => [first, second] as const));
  return pairs.flatMap(([first, second]) => ['', ' ', '_', '-', '.'].map((by) => ({ word: first + by + second })));
}

const MAX_WORD = 20;

/** The end of the next word, one space away. */
function wordEnd(text: string, at: number): number | undefined {
  if (text.charCodeAt(at) !== 32 && text.charCodeAt(at) !== 43) return undefined;
  let i = at + 1;
  while (i - at <= MAX_WORD && isLetter(text.charCodeAt(i))) i += 1;
  return i === at + 1 || i - at > MAX_WORD ? undefined : i;
}

/** The beginning of the word before, one space away. */
function wordBegin(text: string, at: number): number | undefined {
  if (text.charCodeAt(at - 1) !== 32) return undefined;
  let i = at - 1;
  while (i > 0 && at - i <= MAX_WORD && isLetter(text.charCodeAt(i - 1))) i -= 1;
  return i === at - 1 || at - i > MAX_WORD ? undefined : i;
}

interface Place {
  /** Where the value begins. */
  readonly at: number;
  /** What stands between key and value. */
  readonly by: 'assign' | 'encoded' | 'element' | 'pair';
  /** The key stands in quotes, so this is a data notation and not a sentence. */
  readonly quoted: boolean;
  readonly spaced: boolean;
}

/** What separates a key that ends at `end` from its value, if anything does. */
function separator(text: string, begin: number, end: number): Place | undefined {
  let i = end;
  let quoted = false;
  if (text.charCodeAt(i) === 93) i += 1;
  else if (/^%5D/i.test(text.slice(i, i + 3))) i += 3;
  const marks = /^[:*?!]{1,2}(?=\\*["']\s?:)/.exec(text.slice(i, i + 12));
  if (marks !== null) i += marks[0].length;
  const quote = quoteAt(text, i);
  if (quote !== undefined) {
    i = quote.end;
    quoted = true;
  }
  const spaces = skipSpaces(text, i, quoted);
  const element = elementEnd(text, begin, end);
  if (element !== undefined) return { at: element, by: 'element', quoted: true, spaced: false };
  if (quoted) {
    const pair = pairValue(text, i);
    if (pair !== undefined) return { at: pair, by: 'pair', quoted: true, spaced: false };
  }
  const percent = /^%(?:25)*3[AaDd]/.exec(text.slice(spaces, spaces + 12));
  if (percent !== null) return { at: spaces + percent[0].length, by: 'encoded', quoted, spaced: false };
  const sign = /^(?::=|=>|===?|->|=3D|=(?!=)|:(?!:))/.exec(text.slice(spaces, spaces + 3));
  if (sign === null) return undefined;
  const after = spaces + sign[0].length;
  const at = skipSpaces(text, after, quoted);
  return { at, by: 'assign', quoted, spaced: at > after };
}

/** After the `>` of `<password>` or `<wsse:Password Type="x">`. */
function elementEnd(text: string, begin: number, end: number): number | undefined {
  let i = begin;
  while (i > 0 && begin - i < 32 && (isKeyChar(text.charCodeAt(i - 1)) || text.charCodeAt(i - 1) === 58)) i -= 1;
  const open = text.charCodeAt(i - 1) === 60 ? 1 : text.slice(Math.max(0, i - 4), i) === '&lt;' ? 4 : 0;
  if (open === 0) return undefined;
  // `token=<your-token>` is a value in brackets.
  if (/[=:]\s?$/.test(text.slice(Math.max(0, i - open - 2), i - open))) return undefined;
  const close = open === 1 ? '>' : '&gt;';
  const at = text.slice(end, end + 256).indexOf(close);
  if (at < 0 || text[end + at - 1] === '/') return undefined;
  // An attribute of this name is an assignment; an element's name ends in a space or at once.
  if (at > 0 && !isSpace(text.charCodeAt(end))) return undefined;
  return end + at + close.length;
}

const PAIR_VALUE =
  /^\s*,\s*(\\*)(["'])(?:value|val|values|newValue|new_value|oldValue|old_value|new|old|to|from|content|rhs|lhs|after|before)\1\2\s*:\s*/;

/** `"name":"password","value":` with the value next. */
function pairValue(text: string, from: number): number | undefined {
  const found = PAIR_VALUE.exec(text.slice(from, from + MAX_LOOK));
  return found === null ? undefined : from + found[0].length;
}

interface Key {
  readonly begin: number;
  readonly end: number;
  readonly kind: KeyKind;
}

/** @param isCustom whether a name without case and punctuation is one of the operator's own keys. */
export function createTextRules(isCustom: (name: string) => boolean): readonly Rule[] {
  function kindOf(name: string): KeyKind | undefined {
    return kindOfWords(keyWords(name)) ?? (isCustom(name) ? 'password' : undefined);
  }

  /** The key around an anchor: one word, or with the words next to it when these make a name (`card number`). */
  function keysAround(text: string, start: number, end: number): { begin: number; keys: Key[] } {
    let begin = start;
    while (begin > 0 && isKeyChar(text.charCodeAt(begin - 1)) && !escapeBefore(text, begin)) {
      // How a longer key begins does not matter.
      if (start - begin >= MAX_KEY) break;
      begin -= 1;
    }
    // A written-out line break before the word is not part of it.
    if (begin > 0 && text.charCodeAt(begin - 1) === 92 && begin < start && 'nrt'.includes(text[begin]!)) begin += 1;
    while (begin < start && (text[begin] === '-' || text[begin] === '.')) begin += 1;
    let stop = end;
    while (isKeyChar(text.charCodeAt(stop))) {
      stop += 1;
      if (stop - end > MAX_KEY) return { begin, keys: [] };
    }
    while (stop > end && (text[stop - 1] === '.' || text[stop - 1] === '-' || text[stop - 1] === '$')) stop -= 1;
    const keys: Key[] = [];
    const add = (from: number, to: number) => {
      const kind = kindOf(text.slice(from, to));
      if (kind !== undefined) keys.push({ begin: from, end: to, kind });
    };
    // Longest first: `card number` before `card`.
    const ends = [stop];
    for (let i = 0, at = stop; i < 2; i++) {
      const next = wordEnd(text, at);
      if (next === undefined) break;
      ends.push(next);
      at = next;
    }
    const begins = [begin];
    for (let i = 0, at = begin; i < 2; i++) {
      const before = wordBegin(text, at);
      if (before === undefined) break;
      begins.push(before);
      at = before;
    }
    for (let e = ends.length - 1; e >= 0; e--) {
      if (e > 0) add(begin, ends[e]!);
      else for (const from of begins) if (keys.length === 0 || from === begin) add(from, stop);
    }
    return { begin, keys };
  }

  function find(text: string, start: number, end: number): Cut | undefined {
    const { begin, keys } = keysAround(text, start, end);
    for (const key of keys) {
      const cut = assigned(text, key, begin) ?? spoken(text, key);
      if (cut !== undefined) return cut;
    }
    return undefined;
  }

  function assigned(text: string, key: Key, begin: number): Cut | undefined {
    const place = separator(text, begin, key.end);
    if (place === undefined) return undefined;
    const { at } = place;
    if (at >= text.length) return undefined;
    // A line of a file: `/app/token.js:12`, `at token:12:5`.
    if (place.by === 'assign' && !place.quoted && !place.spaced && text[at - 1] === ':') {
      if (/[/\\]/.test(text[begin - 1] ?? '') && /^\d/.test(text.slice(at, at + 1))) return undefined;
      if (text.startsWith('//', at)) return undefined;
    }
    const { kind } = key;
    if (place.by === 'element') return element(text, at);
    const quote = quoteAt(text, at);
    if (kind === 'header' && quote === undefined) return header(text, at);
    if (kind === 'cookie' && quote === undefined) return cookie(text, at, place);
    if (quote !== undefined) {
      const stop = quotedEnd(text, quote.end, quote);
      return judged(text, key, quote.end, stop, place, true);
    }
    const first = text[at]!;
    if ((first === '{' || first === '[') && !text.startsWith(MASK, at)) return group(text, key, at);
    if (kind === 'phrase') return judged(text, key, at, phraseEnd(text, at), place, false);
    if (kind === 'code' || kind === 'codes') {
      const groups = /^\d[\d -]{0,30}\d(?![\w])/.exec(text.slice(at, at + 40));
      if (groups !== null) return { from: at, to: at + groups[0].length, put: numberLike(text, at, place) };
    }
    return judged(text, key, at, bareEnd(text, at, place.by === 'encoded', at + MAX_VALUE), place, false);
  }

  /** A group under a secret key, as a whole. */
  function group(text: string, key: Key, at: number): Cut | undefined {
    if (key.kind === 'opaque' || /session$/i.test(text.slice(key.begin, key.end))) return undefined;
    const short = /^[[{][^\]}]{0,40}[\]}]{1,2}/.exec(text.slice(at, at + 48));
    if (short !== null && isNothing(short[0])) return undefined;
    const to = groupEnd(text, at);
    return { from: at, to, put: maskedGroup(text.slice(at, to), key.kind) };
  }

  /** Is the value a secret of this kind? */
  function judged(text: string, key: Key, from: number, to: number, place: Place, quoted: boolean): Cut | undefined {
    if (to <= from) return undefined;
    const value = text.slice(from, Math.min(to, from + MAX_VALUE));
    // `${NAME}` ends after its brace.
    if (value === MASK || isNothing(value.trim()) || isNothing(text.slice(from, Math.min(to + 1, from + 80))))
      return undefined;
    const { kind } = key;
    if (value.startsWith('/') && isWorkingFolder(text.slice(key.begin, key.end))) return undefined;
    const structured = quoted && place.quoted;
    if (kind !== 'password' || !structured) {
      if (STATES.has(value.replace(/[.!?,;)]+$/, '').toLowerCase()) && !(kind === 'password' && !place.spaced))
        return undefined;
    }
    if (kind === 'opaque' && !isOpaque(value)) return undefined;
    if ((kind === 'tokens' || kind === 'secret') && /^[\d.,]{1,7}$/.test(value)) return undefined;
    if ((kind === 'tokens' || kind === 'codes') && /^\d{1,6}$/.test(value) && !quoted) return undefined;
    if (kind === 'code' && !structured && !/\d/.test(value) && !looksRandom(value, 8)) return undefined;
    if (!place.quoted && place.spaced && (kind === 'secret' || kind === 'tokens')) {
      // In a sentence: "Unexpected token: foo in JSON".
      const before = text.slice(Math.max(0, key.begin - 24), key.begin).trimEnd();
      if (UNEXPECTED.test(before) && !looksRandom(value, 10)) return undefined;
    }
    if (kind === 'secret' && !structured && /^\W*$/.test(value)) return undefined;
    const put = !quoted && place.quoted ? quoteLike(text, from, place) : MASK;
    // Without quotes, only as much has been read as judging takes.
    const end = quoted || to - from < MAX_VALUE ? to : Math.max(to, bareEnd(text, from, place.by === 'encoded'));
    return { from, to: end, put };
  }

  /** In a data notation, a group or number becomes a text in the same quotes, so that it can still be parsed. */
  function quoteLike(text: string, at: number, place: Place): string {
    if (!place.quoted || place.by !== 'assign') return MASK;
    let i = at - 1;
    while (
      i > 0 &&
      at - i < MAX_LOOK &&
      (isSpace(text.charCodeAt(i)) ||
        text[i] === ':' ||
        text[i] === '=' ||
        text[i] === '>' ||
        isBreak(text.charCodeAt(i)))
    )
      i -= 1;
    const char = text[i];
    if (char !== '"' && char !== "'") return MASK;
    let slashes = 0;
    while (slashes < i && text.charCodeAt(i - 1 - slashes) === 92 && slashes < MAX_LOOK) slashes += 1;
    const quote = text.slice(i - slashes, i + 1);
    return `${quote}${MASK}${quote}`;
  }

  const numberLike = (text: string, at: number, place: Place) => (place.quoted ? quoteLike(text, at, place) : MASK);

  function phraseEnd(text: string, at: number): number {
    const line = lineEnd(text, at);
    const comma = text.slice(at, line).search(/[,;&](?=\s|\w+=)/);
    return comma < 0 ? line : at + comma;
  }

  function element(text: string, at: number): Cut | undefined {
    const data = text.startsWith('<![CDATA[', at);
    const from = data ? at + 9 : at;
    const found = data ? text.indexOf(']]>', from) : nextOf(text, from, '<', '&lt;');
    const to = found < 0 ? text.length : found;
    const value = text.slice(from, Math.min(to, from + 64)).trim();
    return value === '' || isNothing(value) ? undefined : { from, to, put: MASK };
  }

  function nextOf(text: string, from: number, a: string, b: string): number {
    for (let i = from; i < text.length; i++) if (text[i] === a || (text[i] === b[0] && text.startsWith(b, i))) return i;
    return -1;
  }

  /** Authorization: one scheme and one word, or a list of parameters to the line's end. */
  function header(text: string, at: number): Cut | undefined {
    const scheme = /^[A-Za-z][\w-]{1,40}(?=\s)/.exec(text.slice(at, at + 48))?.[0];
    if (scheme === undefined) {
      const to = bareEnd(text, at, false);
      const value = text.slice(at, Math.min(to, at + 64));
      return to === at || value === MASK || isNothing(value) || STATES.has(value.toLowerCase())
        ? undefined
        : { from: at, to, put: MASK };
    }
    const from = skipSpaces(text, at + scheme.length, false);
    if (/^(?:digest|oauth|hawk|signature|mac|snowflake|aws4-|aws$|awt|sharedkey|scram|credential)/i.test(scheme)) {
      const to = lineEnd(text, from);
      return text.slice(from, to) === MASK ? undefined : { from, to, put: MASK };
    }
    const to = bareEnd(text, from, false);
    const value = text.slice(from, Math.min(to, from + 64));
    const known =
      /^(?:bearer|basic|token|api-?key|key|negotiate|ntlm|bot|geniekey|sso-key|jwt|splunk|apptoken|client|kakaoak|zoho-oauthtoken|dsn|flyv1)$/i.test(
        scheme,
      );
    if (to === from || value === MASK || isNothing(value)) return undefined;
    if (known && !STATES.has(value.toLowerCase())) return { from, to, put: MASK };
    if (looksRandom(value, 8)) return { from, to, put: MASK };
    // No scheme: the first word is the credential itself, unless it is an ordinary word.
    return looksRandom(scheme, 8) ? { from: at, to: at + scheme.length, put: MASK } : undefined;
  }

  function cookie(text: string, at: number, place: Place): Cut | undefined {
    const isHeader = place.by === 'assign' && text[at - 1] !== '=';
    const end = (limit?: number) =>
      isHeader ? lineEnd(text, at, limit) : bareEnd(text, at, place.by === 'encoded', limit);
    const value = text.slice(at, end(at + MAX_VALUE));
    if (value === '' || value === MASK || isNothing(value) || STATES.has(value.toLowerCase())) return undefined;
    if (/^[\d.]{1,6}$/.test(value) || (!value.includes('=') && !looksRandom(value, 8))) return undefined;
    return { from: at, to: end(), put: MASK };
  }

  /** No sign between word and secret: `password hunter2`, `--token x`, `code is 669446`, `Password for bob: x`. */
  function spoken(text: string, key: Key): Cut | undefined {
    const { kind } = key;
    if (kind === 'opaque' || kind === 'header' || kind === 'cookie') return undefined;
    const rest = text.slice(key.end, key.end + MAX_LOOK);
    const flag = text[key.begin - 1] === '-' && /^ +(?!-)\S/.test(rest);
    const gap = flag ? /^ +/.exec(rest) : /^(?:\s+(?:is|was|are|as|of|to|=|:))?\s+/i.exec(rest);
    if (gap === null) {
      const flagPair = /^(\\*["'])\s*,\s*(?=\\*["'])/.exec(rest);
      if (flagPair === null || text[key.begin - 1] !== '-') return undefined;
      const quote = quoteAt(text, key.end + flagPair[0].length)!;
      return judged(
        text,
        key,
        quote.end,
        quotedEnd(text, quote.end, quote),
        { at: quote.end, by: 'pair', quoted: true, spaced: false },
        true,
      );
    }
    const at = key.end + gap[0].length;
    if (at >= text.length) return undefined;
    const place: Place = { at, by: 'assign', quoted: false, spaced: true };
    if (flag) {
      const quote = quoteAt(text, at);
      return quote === undefined
        ? judged(text, key, at, bareEnd(text, at, false, at + MAX_VALUE), { ...place, spaced: false }, false)
        : judged(text, key, quote.end, quotedEnd(text, quote.end, quote), place, true);
    }
    const owner = /^\s+(?:for|of)\s+(?:[\w@.'-]{1,40}\s+){0,2}[\w@.'-]{1,40}\s?[:=]\s?(?=\S)/i.exec(rest);
    if (owner !== null && (kind === 'password' || kind === 'code' || kind === 'secret')) {
      const from = key.end + owner[0].length;
      const quoted = quoteAt(text, from);
      if (quoted !== undefined) {
        return judged(text, key, quoted.end, quotedEnd(text, quoted.end, quoted), { ...place, quoted: true }, true);
      }
      return judged(text, key, from, bareEnd(text, from, false, from + MAX_VALUE), place, false);
    }
    const before = text.slice(Math.max(0, key.begin - 24), key.begin).trimEnd();
    const unexpected = UNEXPECTED.test(before);
    const quote = quoteAt(text, at);
    if (quote !== undefined) {
      if (unexpected || quote.close === '`') return undefined;
      const stop = quotedEnd(text, quote.end, quote);
      const word = text.slice(quote.end, Math.min(stop, quote.end + 200));
      const shows =
        kind === 'password'
          ? /^\S{3,}$/.test(word) && !STATES.has(word.toLowerCase()) && !/^[,:]/.test(word)
          : looksRandom(word, 8);
      return shows ? judged(text, key, quote.end, stop, place, true) : undefined;
    }
    if (kind === 'code') {
      const digits = /^\d(?:[\d-]{2,18})(?![\w])/.exec(text.slice(at, at + 24))?.[0];
      return digits === undefined ? undefined : { from: at, to: at + digits.length, put: MASK };
    }
    if (kind === 'phrase') return undefined;
    const to = bareEnd(text, at, false);
    const word = text.slice(at, Math.min(to, at + 200));
    if (/^[\w.-]+[=:(]/.test(word) || /^(?:\/|https?:|[A-Z]:\\)/.test(word)) return undefined;
    const shows =
      kind === 'password'
        ? looksRandom(word, 6) ||
          /[!@#$%^&*]\w/.test(word) ||
          (/^(?=.*\d)(?=.*[a-z])[\w!@#$%^&*.-]{7,}$/i.test(word) && !/^[a-z]+-?\d{1,2}$|^\d+[a-z]{1,2}$/i.test(word))
        : looksRandom(word, unexpected ? 16 : 10);
    return shows ? judged(text, key, at, to, place, false) : undefined;
  }

  return [{ id: 'key', anchors: WORD_ANCHORS.map(({ word }) => word), find }, ...PHRASE_RULES];
}

const PHRASE_RULES: readonly Rule[] = [
  {
    id: 'query',
    anchors: ['key=', 'code=', 'ticket=', 'key%3D', 'code%3D', 'ticket%3D'].flatMap((name) => [
      `?${name}`,
      `&${name}`,
      `%3F${name}`,
      `%26${name}`,
    ]),
    find(text, _start, end) {
      const encoded = text[end - 1] !== '=';
      const value = text.slice(end, bareEnd(text, end, encoded, end + MAX_VALUE));
      return value !== MASK && looksRandom(value, 16)
        ? { from: end, to: bareEnd(text, end, encoded), put: MASK }
        : undefined;
    },
  },
  {
    id: 'code-sentence',
    anchors: [' code is ', ' code: ', ' is your ', ' as your ', ' code ', ' pin is '],
    find(text, start, end) {
      const found = text.slice(start, end).toLowerCase();
      if (found === ' is your ' || found === ' as your ') {
        if (!/^[\w -]{0,40}\b(?:code|pin|otp|passcode|password)\b/i.test(text.slice(end, end + 64))) return undefined;
        const digits = /(?:^|[\s:>(-])(\d{4,10})$/.exec(text.slice(Math.max(0, start - 16), start))?.[1];
        return digits === undefined ? undefined : { from: start - digits.length, to: start, put: MASK };
      }
      const before = text.slice(Math.max(0, start - 40), start);
      const secret =
        /(?:your|verification|security|login|log-in|sign-in|access|confirmation|auth|authentication|one-time|otp|sms|2fa|mfa|pin|recovery|reset|twilio|whatsapp|google)$/i.test(
          before,
        );
      if (!secret || (found === ' code ' && /(?:your|access)$/i.test(before))) return undefined;
      const digits = /^\d{3,4}[ -]?\d{1,6}(?![\w])/.exec(text.slice(end, end + 16))?.[0];
      return digits === undefined ? undefined : { from: end, to: end + digits.length, put: MASK };
    },
  },
  {
    id: 'sql-identified',
    anchors: ['identified by ', 'identified with '],
    find(text, _start, end) {
      const lead = /^(?:\S{1,64}\s+(?:by|as)\s+)?(?:password\s+|values\s+)?(?=\\*["'])/i.exec(
        text.slice(end, end + MAX_LOOK),
      );
      if (lead === null) return undefined;
      const quote = quoteAt(text, end + lead[0].length)!;
      const to = quotedEnd(text, quote.end, quote);
      return to === quote.end || text.slice(quote.end, to) === MASK ? undefined : { from: quote.end, to, put: MASK };
    },
  },
];

/** What comes with a token besides the token itself. */
const ABOUT = new Set(
  (
    'type scope scopes expires expiry expire expiration exp iat ttl count limit length status state alg algorithm issued created ' +
    'updated provider enabled max min'
  ).split(' '),
);

/** Is a member of a token's group about the token, and not a secret? */
export function isAbout(key: string, kind: KeyKind): boolean {
  return (
    (kind === 'tokens' || kind === 'secret') && key.length <= MAX_KEY && keyWords(key).some((word) => ABOUT.has(word))
  );
}

/** Under a key of the kind `opaque`: does the value look like a secret? Twilio's ids of calls and accounts do not. */
export function isOpaque(value: string): boolean {
  if (/^(?:AC|CA|SM|MM|PN|RE|WA|CF|QU|CH|MG|PA|TR|RM|VA)[0-9a-f]{32}$/.test(value)) return false;
  return looksRandom(value, 8) || /^[0-9a-f]{16,}$/i.test(value.slice(0, 300));
}

/** The variable of that name holds the working folder. */
export function isWorkingFolder(key: string): boolean {
  return key === 'PWD' || key === 'OLDPWD';
}

/** A group in any notation with its values masked; what is quoted stays so, and JSON stays JSON. */
function maskedGroup(group: string, kind: KeyKind): string {
  let out = '';
  let done = 0;
  let name = '';
  for (let i = 0; i < group.length; i++) {
    const char = group.charCodeAt(i);
    const quote =
      char === 92 || char === 34 || char === 39 || char === 96 || char === 37 || char === 38
        ? quoteAt(group, i)
        : undefined;
    let from = i;
    let to: number;
    if (quote !== undefined) {
      from = quote.end;
      to = quotedEnd(group, from, quote);
    } else if (isKeyChar(char) || char === 43) {
      to = i + 1;
      while (to < group.length && !/[\s,:;{}[\]"'=]/.test(group[to]!)) to += 1;
    } else continue;
    const word = group.slice(from, Math.min(to, from + 300));
    i = quote === undefined ? to - 1 : Math.min(group.length, to + quote.slashes + quote.close.length) - 1;
    const isKey = /^\s{0,8}(?::|=|%3A)/.test(group.slice(i + 1, i + 12));
    if (isKey) name = word;
    const number = quote === undefined && /^[+-]?\d[\d.eE+-]*$/.test(word);
    const kept = isKey
      ? !looksRandom(word, 12) && !/^[0-9a-f-]{20,}$/i.test(word)
      : isAbout(name, kind) ||
        (saysNothing(word, kind === 'password') && !(number && kind === 'password')) ||
        (number && kind !== 'password' && kind !== 'code' && word.length < 7);
    if (kept || word.startsWith(MASK)) continue;
    const sign = quote === undefined ? (group[group.search(/["']/)] ?? '') : '';
    out += group.slice(done, from) + sign + MASK + sign;
    done = to;
  }
  return out + group.slice(done);
}

/** Does the value say that there is no secret, or what became of it? `strict`: only the first counts. */
export function saysNothing(value: string, strict: boolean): boolean {
  if (value.length > 80) return false;
  const trimmed = value.trim();
  return trimmed === '' || isNothing(trimmed) || (!strict && STATES.has(trimmed.toLowerCase()));
}

// ---- commands and statements ----

/** The marks that lead to commands, whose lines are read as a whole. */
export const COMMAND_ANCHORS = [' -u', ' -p', ' -a ', ' -w ', ' --user'];

const COMMAND =
  /\b(?:curl|wget|http|https|mysql\w{0,12}|mariadb\w{0,12}|sshpass|redis-cli|mongo\w{0,10}|ldap\w{2,10}|docker|podman|htpasswd|psql|kinit|smbclient|rabbitmqadmin|mosquitto_(?:pub|sub)|sqlcmd|sqlplus|svn|zip|7z|keytool|cqlsh|influx|etcdctl)\b/;

/** `curl -u user:password`, `mysql -ppassword`, `sshpass -p x`: the arguments of known commands, line by line. */
export function cutCommands(text: string): string {
  return text
    .split('\n')
    .map((line) => {
      const command = COMMAND.exec(line);
      if (command === null) return line;
      const head = line.slice(0, command.index);
      return head + cutArguments(line.slice(command.index), command[0]);
    })
    .join('\n');
}

function cutArguments(line: string, command: string): string {
  const users = /^(?:curl|http|https|wget)$/.test(command);
  const joinedPassword = /^(?:mysql|mariadb|sshpass|7z|mongo|cqlsh)/.test(command);
  const flags = users
    ? ''
    : command === 'redis-cli'
      ? '-a'
      : command.startsWith('ldap')
        ? '-w'
        : command === 'sqlcmd' || command === 'mosquitto_pub' || command === 'mosquitto_sub'
          ? '-P'
          : '-p';
  let flag = '';
  return line.replace(/\S+/g, (word) => {
    const before = flag;
    flag = word;
    if (word.includes(MASK)) return word;
    if (users) {
      const joined = /^-u(?=[^\s:]{1,64}:)/.exec(word)?.[0] ?? /^--user=/.exec(word)?.[0];
      if (
        joined === undefined &&
        before !== '-u' &&
        before !== '--user' &&
        before !== '--proxy-user' &&
        before !== '-U'
      )
        return word;
      const colon = word.indexOf(':', joined?.length ?? 0);
      return colon < 0 || colon === word.length - 1
        ? word
        : `${word.slice(0, colon + 1)}${MASK}${/["']$/.exec(word)?.[0] ?? ''}`;
    }
    if (
      flags !== '' &&
      before === flags &&
      !word.startsWith('-') &&
      (joinedPassword ? /^(?:sshpass|mongo|cqlsh)/.test(command) : !/^\d{1,5}(?::|$)/.test(word)) &&
      !(command === 'docker' || command === 'podman' ? /[:/]/.test(word) : false)
    ) {
      return MASK;
    }
    if (joinedPassword && /^-p[^\s=]/.test(word) && !/^-p(?:ort|rotocol|ath)\b/.test(word)) return `-p${MASK}`;
    return word;
  });
}

const INSERT =
  /\b(?:insert|replace)\s{1,8}into\s{1,8}[\w."`[\]]{1,128}\s{0,8}\(([^()]{1,2000})\)\s{0,8}values\s{0,8}/gi;

/** The values of secret columns in `INSERT INTO t (name, password) VALUES ('a', 'x'), …`. */
export function cutInserts(text: string, isSecret: (column: string) => boolean): string {
  let out = '';
  let done = 0;
  for (const found of text.matchAll(INSERT)) {
    if (found.index < done) continue;
    const secret = found[1]!.split(',').map((column) => isSecret(column));
    if (!secret.includes(true)) continue;
    let i = found.index + found[0].length;
    while (text[i] === '(') {
      i += 1;
      for (let column = 0; i < text.length; column++) {
        i = skipSpaces(text, i, true);
        const quote = quoteAt(text, i);
        const from = quote?.end ?? i;
        let to = from;
        if (quote !== undefined) to = quotedEnd(text, from, quote);
        else while (to < text.length && !/[,)\s]/.test(text[to]!)) to += 1;
        const value = text.slice(from, Math.min(to, from + 64));
        if (secret[column] === true && to > from && !saysNothing(value, true) && !/^[$:?]\w*$/.test(value)) {
          out += text.slice(done, from) + MASK;
          done = to;
        }
        i = quote === undefined ? to : to + quote.slashes + quote.close.length;
        i = skipSpaces(text, i, true);
        if (text[i] !== ',') break;
        i += 1;
      }
      if (text[i] === ')') i += 1;
      const next = /^\s{0,8},\s{0,8}(?=\()/.exec(text.slice(i, i + 20));
      if (next === null) break;
      i += next[0].length;
    }
  }
  return out + text.slice(done);
}
