// What announces a secret, and where it ends: keys, and the ways texts are written. In: a key in any spelling; a text and a place in
// it. Out: the kind of secret, or undefined; where a quote, a group, a value or a header line ends.
// A key is split into words where case or punctuation changes, and judged by how it *ends*: `dbPassword`, `api.key` and
// `X-Auth-Token` are secret; `passwordReset`, `token_count`, `apiKeyId` and `secretary` are not. Guarantee: linear in the key; one
// step per character read, and bounded look-ahead.
import { MASK } from './secret-forms.ts';

/**
 * What a secret under such a key looks like: `password` anything; `secret` any text and long numbers; `code` anything with
 * digits, however short; `tokens` any text or group, but a number only counts them; `codes` likewise; `opaque` only what looks
 * random; `phrase` several words; `header` and `cookie` a header's whole value.
 */
export type KeyKind = 'password' | 'secret' | 'code' | 'codes' | 'tokens' | 'opaque' | 'phrase' | 'header' | 'cookie';

/** Words that stand before `key` in the names of secret keys. `cacheKey`, `publicKey` and `primaryKey` are not secret. */
const KEY_OWNERS =
  'api app application access secret private priv signing signature sign encryption encrypt decryption auth authentication ' +
  'authorization account integration service services master shared storage session subscription ingest ingestion ' +
  'write deploy hmac aes rsa jwt cookie crypto cipher webhook wrapping unseal root recovery ssh gpg pgp tls ssl vault ' +
  'consumer bot stripe openai anthropic twilio sendgrid mailgun mailchimp datadog relic algolia pagerduty deepgram ' +
  'elevenlabs gemini azure mistral groq cohere replicate pinecone assembly admin maps';

/** Names by the kind of secret they hold, written without anything between their words. */
const NAMES: Readonly<Record<KeyKind, string>> = {
  password:
    'password passwd passwrd passwort kennwort contrasena senha motdepasse wachtwoord pass pwd pw pswd psw passcode passkey ' +
    'userpass psk presharedkey wpapsk secretanswer securityanswer identifiedby pincodehash',
  secret:
    'secret secretkey secretaccesskey apikeysecret token jwt bearer credential creds cred session sessionid sessid connectsid ' +
    'jsessionid phpsessid keypem privatepem xapikey sharedaccesssignature sastoken csrftoken authtoken clientsecret',
  code:
    'pin otp totp cvv cvc csc cvn pincode otpcode totpcode mfacode tfacode facode mfa securitycode verificationcode verifycode ' +
    'smscode authcode authenticationcode authorizationcode accesscode logincode confirmationcode resetcode recoverycode ' +
    'backupcode onetimecode onetimepin onetimepassword cvvcode cvccode cardcode cardcvv cardcvc activationcode scratchcode ' +
    'cardnumber cardnum cardno ccnumber ccnum ccno creditcard creditcardno creditcardnum creditcardnumber debitcard ' +
    'debitcardnumber cardpan primaryaccountnumber ssn socialsecurity socialsecurityno socialsecuritynumber iban sippin',
  codes: '',
  tokens: '',
  opaque:
    'sig signature assertion clientassertion samlresponse samlassertion csrf xsrf salt hmac sid auth authentication routingkey ' +
    'clientkey serverkey secretid licensekey sas pan seed codeverifier otpauth passwordsalt hubsignature',
  phrase:
    'mnemonic mnemonicphrase seedphrase recoveryphrase secretphrase walletphrase passphrase walletseed seedwords backupphrase',
  header: 'authorization proxyauthorization',
  cookie: 'cookie setcookie',
};

const KINDS = new Map<string, KeyKind>();
for (const [kind, names] of Object.entries(NAMES))
  for (const name of names.split(' ')) KINDS.set(name, kind as KeyKind);
for (const owner of KEY_OWNERS.split(' ')) KINDS.set(`${owner}key`, 'secret');
KINDS.delete('');

/** Names that mean something else when written as one word: `pincode` is a postal code. */
const NOT_AS_ONE_WORD = new Set(['pincode', 'seed', 'pan']);
const ONE_WORD_END =
  /(?:password|passwd|passphrase|passwort|passcode|secret|token|api_?key|accesskey|secretkey|privatekey|authkey|accountkey|signingkey|encryptionkey|credential|cookie|cardnumber|creditcard|sessionid|sessid|pwd|mnemonic|authorization)s?$/;
const ONE_WORD_PASS =
  /^(?:db|user|usr|smtp|mail|email|imap|pop|redis|mysql|pg|postgres|mongo|ftp|sftp|ssh|root|admin|ldap|bind|proxy|http|my|new|old|sip|rabbit|amqp|mq|login|auth|app|key|store|keystore|truststore|cert|sudo|vault|wifi|svn|git|ha|jmx)(?:pass|pw)$/;

/** At the end of a key these say nothing about what it holds. */
const QUALIFIERS = new Set(
  (
    'value val header hash hashed string str confirm confirmation confirmed new old current previous prev original plain plaintext ' +
    'clear cleartext raw pem der text txt base b encoded encrypted enc again repeat repeated retype prod production dev ' +
    'development test live staging sandbox primary secondary main backup data bytes hex ciphertext s md sha bcrypt argon'
  ).split(' '),
);
/** `boarding pass` and the like. */
const NOT_BEFORE_PASS = new Set(
  'boarding first second third by season day bus ski gate test tests did all one two single multi render'.split(' '),
);
/** Before `card`, `code` and others, these make an ordinary name. */
const NAMED_OR_COUNTED = new Set('has is show hide use no without require requires required allow max min'.split(' '));

/** A name has at most this many words: the last ones of a longer key still say what it is. */
const MAX_WORDS = 5;
const MAX_WORD = 64;

/** The kind of secret a key announces. @param words as `keyWords` splits them. */
export function kindOfWords(words: readonly string[]): KeyKind | undefined {
  let end = words.length;
  while (end > 1 && QUALIFIERS.has(words[end - 1]!) && !KINDS.has(words.slice(Math.max(0, end - 2), end).join('')))
    end -= 1;
  if (end === 0) return undefined;
  const last = words[end - 1]!;
  for (let count = Math.min(end, MAX_WORDS); count >= 1; count--) {
    const name = words.slice(end - count, end).join('');
    const single = count === 1;
    const kind = KINDS.get(name);
    if (kind !== undefined) {
      if (single && NOT_AS_ONE_WORD.has(name)) continue;
      const before = words[end - count - 1] ?? '';
      if (name === 'pass' && NOT_BEFORE_PASS.has(before)) return undefined;
      // `callSid` names a call; `sid` alone is a session.
      if (name === 'sid' && before !== '') return undefined;
      if (NAMED_OR_COUNTED.has(before) && kind !== 'secret') return undefined;
      return kind;
    }
    if (name.endsWith('s')) {
      const one = KINDS.get(name.slice(0, -1));
      if (one === undefined || name === 'passs') continue;
      return one === 'opaque' ? 'opaque' : one === 'code' ? 'codes' : 'tokens';
    }
  }
  if (last.length > MAX_WORD) return undefined;
  if (ONE_WORD_PASS.test(last)) return 'password';
  const found = ONE_WORD_END.exec(last);
  if (found === null) return undefined;
  const ending = found[0];
  if (ending.endsWith('s') && !ending.endsWith('pass')) return 'tokens';
  return KINDS.get(ending) ?? 'secret';
}

/** The words of a key in small letters, without digits: `X-Auth0Token2` is x, auth, token. At most its last 16. */
export function keyWords(key: string): string[] {
  const words: string[] = [];
  let from = -1;
  let before = OTHER;
  for (let i = 0; i < key.length; i++) {
    const kind = letterKind(key.charCodeAt(i));
    if (kind === UPPER || kind === LOWER) {
      const starts =
        kind === UPPER && (before === LOWER || (before === UPPER && letterKind(key.charCodeAt(i + 1)) === LOWER));
      if (from < 0) from = i;
      else if (starts) {
        words.push(key.slice(from, i).toLowerCase());
        from = i;
      }
    } else if (from >= 0) {
      words.push(key.slice(from, i).toLowerCase());
      from = -1;
    }
    before = kind;
    // Only the last words matter.
    if (words.length > 64) words.splice(0, 48);
  }
  if (from >= 0) words.push(key.slice(from).toLowerCase());
  return words.length > 16 ? words.slice(-16) : words;
}

/** The kind of secret a key announces, judged by its words and, for `pAsS-wOrD`, by all its letters together. */
export function kindOfKey(key: string): KeyKind | undefined {
  const words = keyWords(key);
  const kind = kindOfWords(words);
  if (kind !== undefined || words.length < 2 || key.length > MAX_WORD) return kind;
  const whole = words.join('');
  return NOT_AS_ONE_WORD.has(whole) ? undefined : KINDS.get(whole);
}

/** The kind of a key by the one it stands below: `key` in `api`, `code` in `card`. */
export function kindBelow(above: string, key: string): KeyKind | undefined {
  const words = keyWords(key);
  const last = words.at(-1);
  if (last === undefined || QUALIFIERS.has(last)) return undefined;
  const kind = kindOfWords([...keyWords(above), ...words]);
  // `key` alone is a word for many things.
  return kind === 'secret' && words.length === 1 && last === 'key' ? 'opaque' : kind;
}

/** All names, for the anchors that lead to them and for the documentation. */
export function secretNames(): ReadonlyMap<string, KeyKind> {
  return KINDS;
}

const OTHER = 0;
const LOWER = 1;
const UPPER = 2;

/** Letters beyond ASCII count as small ones: they never start a word inside another. */
function letterKind(code: number): number {
  if (code >= 97 && code <= 122) return LOWER;
  if (code >= 65 && code <= 90) return UPPER;
  return code > 127 ? LOWER : OTHER;
}

// ---- how texts are written: quotes at any depth of escaping, groups in brackets, values, header lines ----

/** How far to look for a sign before giving up. */
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
interface Quote {
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

/** Where a quoted value ends (before what closes it); a quote of an outer text ends it too. */
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
