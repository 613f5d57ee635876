// Personal data by its form: phone numbers, e-mail addresses and IP addresses, each behind a switch. In: a text, or a value with
// its key; out: the same with what was found replaced by `[phone]`, `[email]` or `[ip]`. Guarantee: linear in what comes in;
// masking twice changes nothing more. When in doubt it is masked, unless the words before say that it is an id or a version.
import { isIPv6 } from 'node:net';
import type { Cut } from './secret-forms.ts';
import { keyWords } from './secret-keys.ts';

export const PERSONAL_SWITCHES = ['phoneNumbers', 'emailAddresses', 'ipAddresses'] as const;
export type PersonalOptions = { readonly [name in (typeof PERSONAL_SWITCHES)[number]]?: boolean };

export const PHONE = '[phone]';
export const EMAIL = '[email]';
export const IP = '[ip]';

/** What a key says about the values below it. */
export interface PersonalKey {
  /** The values may be phone numbers that have no form of their own. */
  readonly phone: PhoneKey | undefined;
  /** It names a part, as `number` does, of what the key above it names. */
  readonly part: boolean;
  /** It says which phone of several, as `home` does, or is a mere number in a list of them. */
  readonly which: boolean;
  /** Four numbers with dots between them are a version. */
  readonly version: boolean;
  /** `from` and `to` below it are offsets or times. */
  readonly counts: boolean;
}

interface PhoneKey {
  readonly minDigits: number;
  /** Spaces and the like may stand between the digits. */
  readonly grouped: boolean;
  /** `from` and `to` also name times and offsets. */
  readonly vague: boolean;
}

export interface Personal {
  /** May a text hold such data, in the form of a line of JSON too? Never false when `cut` or `under` would change something. */
  mayHold(text: string): boolean;
  cut(text: string): string;
  key(name: string): PersonalKey;
  /** A text or number under a key. Undefined: nothing about it but what its own form says. */
  under(value: string | number, key: PhoneKey): string | undefined;
}

/** Undefined when all switches are off. */
export function createPersonal(options: PersonalOptions): Personal | undefined {
  const { phoneNumbers: phones = false, emailAddresses: emails = false, ipAddresses: ips = false } = options;
  if (!phones && !emails && !ips) return undefined;

  /**
   * The first find from `from` on, where an earlier one may have ended.
   * @param loose do not look at the words around: find everything that may be one
   * @param put what stands now for what ended there
   */
  function find(text: string, from: number, loose: boolean, put = ''): Cut | undefined {
    /** Where the colons and digits end that have been looked at already. */
    let colonsTo = from;
    /** Is there a word for phones in the text? Asked once. */
    let named: boolean | undefined;
    for (let i = from; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 64) continue;
      if (isDigit(code)) {
        const end = digitsEnd(text, i);
        if (ips) {
          const to = ipv4End(text, i, from);
          if (to > 0 && (loose || !followsVersionWord(text.slice(Math.max(0, i - 32), i))))
            return { from: i, to, put: IP };
          if (to > 0) {
            i = to - 1;
            continue;
          }
        }
        if (phones) {
          const day = dayEnd(text, i);
          if (day > 0) {
            i = day - 1;
            continue;
          }
          if (loose) {
            const cut = { from: i, to: end, put: PHONE };
            if (mayBeWhole(text, i, end)) return cut;
            named ??= PHONE_WORD.test(text);
            if (named && digitsNear(text, i) >= 7) return cut;
          }
          const found = phoneAt(text, i, from, loose, put);
          if (typeof found === 'object') return found;
          if (found !== undefined) {
            i = found - 1;
            continue;
          }
        }
        // An address whose first group ends here is looked at when its colon comes.
        i = end - 1;
      } else if (code === 64) {
        const found = emails ? emailAt(text, i, 1, from) : undefined;
        if (found !== undefined) return found;
      } else if (code === 37) {
        if (emails && text.charCodeAt(i + 1) === 52 && text.charCodeAt(i + 2) === 48) {
          const found = emailAt(text, i, 3, from);
          if (found !== undefined) return found;
        }
        if (isHex(text.charCodeAt(i + 1)) && isHex(text.charCodeAt(i + 2))) i += 2;
      } else if (code === 58 && ips && i >= colonsTo) {
        const run = colonRun(text, i, from);
        colonsTo = run.to;
        const found = ipv6In(text, run, from);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  }

  return {
    mayHold(text) {
      // JSON writes these two control characters as letters that could belong to an address.
      if (ips && (text.includes('\\b') || text.includes('\\f'))) return true;
      return find(text, 0, true) !== undefined;
    },
    cut(text) {
      let out = '';
      let done = 0;
      for (let found = find(text, 0, false); found !== undefined; found = find(text, done, false, found.put)) {
        out += text.slice(done, found.from) + found.put;
        done = found.to;
      }
      return done === 0 ? text : out + text.slice(done);
    },
    key: (name) => ({
      phone: phones ? phoneKey(name) : undefined,
      part: phones && PARTS.has(keyWords(name).at(-1) ?? ''),
      which: phones && saysWhich(name),
      version: ips && isWhole(VERSION_KEY.exec(name.slice(-24))),
      counts: phones && COUNTS.has((keyWords(name).at(-1) ?? '').replace(/s$/, '')),
    }),
    under: (value, key) => (isPhoneUnder(String(value), key) ? PHONE : undefined),
  };
}

const isDigit = (code: number) => code >= 48 && code <= 57;
const isHex = (code: number) => isDigit(code) || (code >= 97 && code <= 102) || (code >= 65 && code <= 70);
const isLetter = (code: number) => (code >= 97 && code <= 122) || (code >= 65 && code <= 90);
const isWord = (code: number) => isDigit(code) || isLetter(code) || code === 95;

/** May a number or address begin here: after no word, or after an escape such as `%3D` or a written-out `\n`? */
function begins(text: string, at: number, from: number): boolean {
  if (at <= from) return true;
  const before = text.charCodeAt(at - 1);
  if (!isDigit(before) && !isLetter(before)) return true;
  if (text.charCodeAt(at - 3) === 37 && isHex(text.charCodeAt(at - 2)) && isHex(before)) return true;
  return text.charCodeAt(at - 2) === 92 && 'nrtbf'.includes(text[at - 1]!);
}

function digitsEnd(text: string, from: number): number {
  let i = from;
  while (isDigit(text.charCodeAt(i))) i += 1;
  return i;
}

// ---- IP addresses ----

/** What a version follows, at the end of a text: `version: 1.2.3.4`, `"appVersion":"`. */
const VERSION_BEFORE = /(versions?|ver|release|revision|rev|build|firmware)\\?["']?\s?[:=/]?\s?\\?["']?$/i;
const VERSION_KEY = /(versions?|ver|release|revision|rev|build|firmware)$/i;
/** `HeadlessChrome/120.0.0.0` in a browser's name for itself. */
const BROWSER_BEFORE =
  /(?:chrome|chromium|crios|edg|edga|edgios|opr|opera|safari|firefox|browser|vivaldi|electron|webview)\/$/i;

/** Is what was found a word of its own, as in `appVersion`, and not the end of another one, as in `server`, `driver` or `prev`? */
function isWhole(found: RegExpExecArray | null): boolean {
  if (found === null) return false;
  const [, word = ''] = found;
  return keyWords(found.input.slice(0, found.index + word.length)).at(-1) === word.toLowerCase();
}

const followsVersionWord = (lead: string) => isWhole(VERSION_BEFORE.exec(lead)) || BROWSER_BEFORE.test(lead);

/** A text that is a version as a whole, when its key says so. */
export const VERSION_VALUE = /^\d{1,3}(?:\.\d{1,3}){3}$/;

/** Where an IPv4 address that begins at `at` ends; 0 when there is none. More than four numbers in a row are none. */
function ipv4End(text: string, at: number, from: number): number {
  if (!begins(text, at, from)) return 0;
  if (at > from && text.charCodeAt(at - 1) === 46 && isDigit(text.charCodeAt(at - 2))) return 0;
  const end = octetsEnd(text, at);
  if (end === 0 || isWord(text.charCodeAt(end))) return 0;
  return text.charCodeAt(end) === 46 && isDigit(text.charCodeAt(end + 1)) ? 0 : end;
}

function octetsEnd(text: string, at: number): number {
  let i = at;
  for (let octet = 0; octet < 4; octet++) {
    let value = 0;
    const start = i;
    for (; i - start < 4 && isDigit(text.charCodeAt(i)); i++) value = value * 10 + text.charCodeAt(i) - 48;
    if (i === start || i - start > 3 || value > 255 || (i - start > 1 && text.charCodeAt(start) === 48)) return 0;
    if (octet < 3 && text.charCodeAt(i++) !== 46) return 0;
  }
  return i;
}

interface Run {
  readonly start: number;
  readonly to: number;
}

const inAddress = (code: number) => isHex(code) || code === 58 || code === 46;

/** Everything around a colon that an IPv6 address may consist of. */
function colonRun(text: string, colon: number, from: number): Run {
  let start = colon;
  while (start > from && colon - start < 5 && isHex(text.charCodeAt(start - 1))) start -= 1;
  let to = colon + 1;
  while (inAddress(text.charCodeAt(to))) to += 1;
  return { start, to };
}

/** The longest notation: six groups of four and an IPv4 address. */
const MAX_ADDRESS = 45;
/** Node's own messages write a port behind an address without brackets. */
const PORT_FOLLOWS = /\bE[A-Z]{4,12}:? (?:address already in use )?$/;
/** Eight bytes, as in the identifier of an interface or a dump. */
const BYTES = /^(?:[0-9a-f]{2}:){7}[0-9a-f]{2}$/i;

function ipv6In(text: string, run: Run, from: number): Cut | undefined {
  let { start, to } = run;
  // `client:2001:db8::1`: the first colon belongs to the word.
  if (text.charCodeAt(start) === 58 && text.charCodeAt(start + 1) !== 58) start += 1;
  else if (!begins(text, start, from) || (start > from && text.charCodeAt(start - 1) === 95)) return undefined;
  if (isWord(text.charCodeAt(to))) return undefined;
  // What ends the sentence, or leads to what follows.
  while (
    to > start &&
    (text.charCodeAt(to - 1) === 46 || (text.charCodeAt(to - 1) === 58 && text.charCodeAt(to - 2) !== 58))
  )
    to -= 1;
  if (to - start < 3 || to - start > MAX_ADDRESS + 6) return undefined;
  const given = text.slice(start, to);
  const port = /:\d{1,5}$/.exec(given);
  const bare = port === null ? given : given.slice(0, port.index);
  const hasPort =
    port !== null &&
    isIPv6(bare) &&
    (!isIPv6(given) || bare === '::1' || PORT_FOLLOWS.test(text.slice(Math.max(0, start - 48), start)));
  const address = hasPort ? bare : given;
  // Without a digit it is a name, as `std::abc` in C++, or no address in particular.
  if (!isIPv6(address) || !/\d/.test(address) || BYTES.test(address)) return undefined;
  const end = start + address.length;
  const inBrackets = start > from && text.charCodeAt(start - 1) === 91 && text.charCodeAt(end) === 93;
  return inBrackets ? { from: start - 1, to: end + 1, put: IP } : { from: start, to: end, put: IP };
}

// ---- e-mail addresses ----

const LOCAL = new Set([...'._+-'].map((char) => char.charCodeAt(0)));
/** What `%` may write in the first part: the sign itself is not looked for. */
const LOCAL_ESCAPES = /^%(?:2B|2D|2E|5F|27)$/i;
/** `logo@2x.png`, `getty@tty1.service`, `render@app.js`. */
const FILE_END =
  /\.(?:png|jpe?g|gif|svg|webp|avif|css|s[ac]ss|[cm]?[jt]sx?|json|map|html?|txt|log|gz|tgz|zip|service|socket|timer|target|mount|slice)$/i;
/** SIP's Call-ID and the ids of mails: as many hexadecimal digits as no name has. */
const DRAWN = /^[0-9a-f][0-9a-f._-]{12,}[0-9a-f]$/i;

/** The address around an `@` at `at`, which may be written `%40`. */
function emailAt(text: string, at: number, width: number, from: number): Cut | undefined {
  let start = at;
  while (start > from) {
    const code = text.charCodeAt(start - 1);
    if (isDigit(code) || isLetter(code) || LOCAL.has(code) || code > 127) start -= 1;
    else if (code === 39 && isLetter(text.charCodeAt(start)) && isLetter(text.charCodeAt(start - 2))) start -= 1;
    else if (code === 37) {
      // The two characters behind the sign have been passed as if they were the name's.
      if (LOCAL_ESCAPES.test(text.slice(start - 1, start + 2))) start -= 1;
      else {
        if (isHex(text.charCodeAt(start)) && isHex(text.charCodeAt(start + 1))) start += 2;
        break;
      }
    } else break;
  }
  // A written-out line break or tab before the name.
  if (start > from && text.charCodeAt(start - 1) === 92 && 'nrt'.includes(text[start]!)) start += 1;
  while (start < at && (text.charCodeAt(start) === 46 || text.charCodeAt(start) === 45)) start += 1;
  if (start >= at) return undefined;
  // The user of a URL: what stands behind it is a host.
  if (width === 1 && text.charCodeAt(start - 1) === 47 && text.charCodeAt(start - 2) === 47) return undefined;
  const begin = at + width;
  let stop = begin;
  for (; stop < text.length; stop++) {
    const code = text.charCodeAt(stop);
    if (!(isDigit(code) || isLetter(code) || code === 45 || code === 46 || code > 127)) break;
  }
  const domain = domainOf(text.slice(begin, Math.min(stop, begin + 255)));
  if (domain === undefined || FILE_END.test(domain)) return undefined;
  const local = text.slice(start, at);
  if (local.length < 80 && DRAWN.test(local) && /\d/.test(local)) return undefined;
  // A number in the place of a name: the user of a SIP address is a phone number.
  const isNumber = /^(?:\+|%2B)?[\d.-]+$/i.test(local.slice(0, 80));
  if (isNumber && /sips?(?::|%3A)$/i.test(text.slice(Math.max(0, start - 8), start))) return undefined;
  return { from: start, to: begin + domain.length, put: EMAIL };
}

/** Names with dots between them, up to the last one of letters alone. */
function domainOf(text: string): string | undefined {
  // `name@1.2.3-beta.next` is a version.
  if (/^\d{1,5}\.\d/.test(text)) return undefined;
  const labels = text.split('.');
  const empty = labels.indexOf('');
  let count = empty < 0 ? labels.length : empty;
  while (count > 1 && !/^(?:xn--[a-z\d-]{2,59}|[a-z\u0080-\uffff]{2,63})$/i.test(labels[count - 1]!)) count -= 1;
  return count < 2 ? undefined : labels.slice(0, count).join('.');
}

// ---- phone numbers ----

/** Digits of an international number, with the country's code: ITU-T E.164. Shorter than seven digits are extensions. */
const MAX_DIGITS = 15;
const MIN_INTERNATIONAL = 8;
/** So many digits are a whole number: a further group behind a space is something else. */
const ENOUGH = 11;

/** Digits behind these words are a phone number. */
const LABEL =
  /(?:(?<!micro|head|ear|mega|saxo)phone|\btel|(?<!auto|snow)mobile|\bcell|\bfax|msisdn|caller(?:[ _-]?id)?|callee|\bani|\bdnis|clid|whatsapp|landline)(?:[ _-]?(?:number|num|no|nr)\.?)?s?(?: (?:to|from|is))?\\?["']?\s?[:=]?\s?\[?\\?["']?[<(]?$/i;
/** The same for digits in one run. */
const NUMBER_LABEL =
  /(?:^|[^a-z])(?:(?:call(?:ed|ing|back)|dial(?:l?ed|l?ing)|connected|contact)[ _-]?(?:(?:party|line)[ _-]?)?num(?:ber)?|[ab][_-]?num(?:ber)?|(?:called|calling|connected)[ _-]?party|exten|sip[_.](?:from|to)[_.]user)\\?["']?\s?[:=]?\s?\[?\\?["']?[<(]?$/i;
/** The same when there are ten or more: these words also stand before times and offsets. */
const VAGUE_LABEL =
  /(?:\bdial(?:l?ed|l?ing)?|\bcalling|\b(?:call|sms) (?:to|from)|(?:^|[^a-z])(?:from|to)|\bcli)(?: number)? \\?["']?$|\bcall (?:connected|established|answered|bridged|started|ended|failed|transferred|forwarded|routed|missed): $|(?:^|[^a-z])(?:to|from|called|dst|src|destination|recipient|customer(?=[ _]?n))(?:[ _]?number)?\\?["']?\s?[:=]\s?\[?\\?["']?$/i;
/** A channel of a switch: `PJSIP/…`, `SIP/trunk/…`, `sofia/gateway/trunk/…`. */
const CHANNEL = /(?:^|[^a-z])(?:(?:pj)?sip|sofia|iax2?|dahdi)(?:\\{0,3}\/[\w.-]{1,32}){0,2}\\{0,3}\/$/i;
/** Behind another phone number, in a list or as the other end of a call. */
const JOINED = /\[phone\]\\{0,3}["']?(?: (?:to|and|or) |\s?(?:[,;|&/]|-{1,2}>|=>|→)\s?)\\{0,3}["']?$/;
/** `from` and `to` behind these are no parties of a call. */
const RANGE =
  /(?:\b|_)(?:offset|range|position|sequence|seq|counter|version|block|row|timestamp|size|balance)s?(?: (?:(?:changed|moved|reset|set|advanced|increased) )?(?:from |from \d{1,15} to |to )|\\{0,3}["']\s?:\s?\{[^{}]{0,30}(?:from|to)\\{0,3}["']\s?:\s?)\\{0,3}["']?$/i;
/** Schemes whose addresses begin with a number. */
const SCHEME = /(?:^|[^a-z])(?:tel|sips?|callto|sms|smsto|mms|fax|whatsapp)(?::|%3A)(?:\/\/)?(?:\+|%2B)?$/i;
/** Words before a number that say it is no phone number, once `callId` is written `call_Id`. */
const NAMES_AN_ID =
  /(?:\b|_)(?:id|uuid|order|invoice|tracking|trace|ref|reference|sequence|seq|offset|serial|batch|job|ticket|case|build|sku|isbn|account|imei|imsi|iccid|amount|total|bytes|size|length|count|time|timestamp|ts)s?(?:[ _]?(?:number|num|no\.?|nr\.?))?\\?["']?\s?[:=#]?\s?\\?["']?$|ids?\\?["']?\s?[:=]\s?\\?["']?$/i;
/** The part of a path that ends before a number. */
const IN_PATH = /([\w.-]{1,40})\\{0,3}\/$/;
const NUMBER_OF_JSON = /(\\{0,3}")\s?:\s?\[?$/;
const LIST_OF_JSON = /\[phone\](\\{0,3}")\s?,\s?$/;
/** Latitude and longitude have a sign too. */
const COORDINATE = /\b(?:coords?|coordinates?|lat|latitude|lon|longitude|lng|geo|gps)\b[^a-z]{0,30}$/i;
/** Any word that a key for phones may hold. */
const PHONE_WORD = /phone|tel|mobile|cell|fax|msisdn|caller|ani|dnis|clid|whatsapp|landline/i;

interface Groups {
  /** Lengths of the groups of digits. */
  readonly sizes: number[];
  /** What stands between them, as one character each: a space, a sign, or `)`. */
  readonly between: string[];
  readonly total: number;
  readonly end: number;
}

const SPACES = new Set([32, 0xa0, 0x202f, 0x2009]);
const DASHES = new Set([45, 0x2010, 0x2011, 0x2012, 0x2013]);

/**
 * Groups of digits from `at` on, until they have `enough`. A group that runs into a word or a time does not belong to them, nor
 * does an IPv4 address behind enough digits for a phone number.
 */
function groupsAt(text: string, at: number, enough: number): Groups {
  const sizes: number[] = [];
  const between: string[] = [];
  let total = 0;
  let end = at;
  let next = at;
  let sign = '';
  while (total < enough && total <= MAX_DIGITS) {
    const to = digitsEnd(text, next);
    const after = text.charCodeAt(to);
    // A lone digit stands at the beginning, or behind the code of the country.
    if (to - next === 1 && sizes.at(-1) === 1) break;
    if (to === next || (sizes.length > 0 && (isWord(after) || (after === 58 && isDigit(text.charCodeAt(to + 1))))))
      break;
    if (total >= 7 && ipv4End(text, next, at) > 0) break;
    if (sizes.length > 0) between.push(sign);
    sizes.push(to - next);
    total += to - next;
    end = to;
    // One sign, or a bracket with a space or sign around it.
    sign = '';
    next = to;
    for (let i = 0; i < 3; i++) {
      const code = text.charCodeAt(next);
      if (code === 41 || code === 40) sign = ')';
      else if (sign === '' && SPACES.has(code)) sign = ' ';
      else if (sign === '' && DASHES.has(code)) sign = '-';
      else if (sign === '' && (code === 46 || code === 47)) sign = text[next]!;
      else if (sign === ')' && (SPACES.has(code) || DASHES.has(code))) {
        // Belongs to the bracket.
      } else if (sign === '' && code === 92 && text.charCodeAt(next + 1) === 47) {
        // JSON may write a slash with a backslash.
        sign = '/';
        next += 1;
      } else if (sign === ' ' && (code === 40 || code === 47)) sign = ')';
      else break;
      next += 1;
    }
    if (sign === '') break;
  }
  return { sizes, between, total, end };
}

/** Where `2026-11-28` ends; 0 when there is no such day. */
function dayEnd(text: string, at: number): number {
  if (text.charCodeAt(at + 4) !== 45 || text.charCodeAt(at + 7) !== 45) return 0;
  return /^(?:19|20)\d\d-(?:0\d|1[0-2])-[0-3]\d(?!\d)/.test(text.slice(at, at + 11)) ? at + 10 : 0;
}

/** May the digits be all of a text or of a number of JSON, in any notation, so that a key alone can tell what they are? */
function mayBeWhole(text: string, at: number, end: number): boolean {
  const after = text.charCodeAt(end);
  const isNumber = after === 46 || after === 69 || after === 101;
  if (isWord(after) && !isNumber) return false;
  if (!begins(text, at, 0) && !(at > 0 && text.charCodeAt(at - 1) === 46)) return false;
  return end - at >= 7 || (isNumber && /^(?:\.\d{1,24})?e/i.test(text.slice(end, end + 27)));
}

/** Besides ASCII, what `isPhoneUnder` lets stand between digits. */
const BETWEEN = /[\s\u2010-\u2013]/;

/** How many digits follow within some eighty characters of what stands between a number's groups, escapes included. */
function digitsNear(text: string, at: number): number {
  let count = 0;
  for (let i = at; i < at + 80; i++) {
    const code = text.charCodeAt(i);
    if (isDigit(code)) count += 1;
    else if (!(code <= 32 || '()+-./\\tnrbf'.includes(text[i]!) || (code > 127 && BETWEEN.test(text[i]!)))) break;
  }
  return count;
}

/**
 * A phone number whose digits begin at `at`; or where to look on behind a list of numbers that is none.
 * @param loose although it may be an id
 * @param put what stands now for what ended at `from`
 */
function phoneAt(text: string, at: number, from: number, loose: boolean, put: string): Cut | number | undefined {
  const before = at > from ? text.charCodeAt(at - 1) : 32;
  const encodedPlus = at - from >= 3 && text.slice(at - 3, at).toUpperCase() === '%2B';
  if (before === 43 || encodedPlus) {
    const start = encodedPlus ? at - 3 : at - 1;
    return text.charCodeAt(at) === 48 || !begins(text, start, from) || text.charCodeAt(start - 1) === 43
      ? undefined
      : international(text, at, start, MIN_INTERNATIONAL, from, loose);
  }
  if (!begins(text, at, from)) return undefined;
  const all = groupsAt(text, at, MAX_DIGITS + 1);
  if (all.total < 7) return undefined;
  const lead = at - from < 40 ? put + text.slice(from, at) : text.slice(at - 40, at);
  if (SCHEME.test(lead)) {
    const found = groupsAt(text, at, ENOUGH);
    return found.total < 7 || found.total > MAX_DIGITS ? undefined : { from: at, to: found.end, put: PHONE };
  }
  // Behind a sign after a word it is a part of something longer: of a UUID, a decimal fraction, a colour.
  if (before === 35 || before === 95) return undefined;
  if ((before === 45 || before === 46) && isWord(text.charCodeAt(at - 2))) return undefined;
  if (LABEL.test(lead)) {
    const found = groupsAt(text, at, ENOUGH);
    return labelled(text, at, lead, found.end, GROUPED);
  }
  const end = digitsEnd(text, at);
  const isNumber = NUMBER_LABEL.test(lead);
  if (
    isNumber ||
    (VAGUE_LABEL.test(lead) && !RANGE.test(lead)) ||
    JOINED.test(lead) ||
    CHANNEL.test(lead) ||
    isBesideAddress(text, at, end)
  ) {
    const found = labelled(text, at, lead, end, isNumber ? IN_ONE_RUN : VAGUE);
    if (found !== undefined) return found;
  }
  if (all.total > MAX_DIGITS) return listEnd(text, at);
  if (!loose && isId(lead, all.sizes.length === 1)) return undefined;
  if (text.startsWith('00', at)) {
    return text.charCodeAt(at + 2) === 48 || !isDigit(text.charCodeAt(at + 2))
      ? undefined
      : international(text, at + 2, at, 10, from, loose);
  }
  return national(text, at, all, before === 40);
}

/** Does what stands before a number say that it is an id? One that is masked is lost, so in a path all digits in one run are ids. */
function isId(lead: string, isOneRun: boolean): boolean {
  if (NAMES_AN_ID.test(lead.replace(/([a-z])([A-Z])/g, '$1_$2'))) return true;
  const part = isOneRun ? IN_PATH.exec(lead)?.[1] : undefined;
  return part !== undefined && phoneKey(part) === undefined;
}

/**
 * Where numbers of two digits, or of four as in an IBAN, end that follow each other in a row; otherwise where the first one ends.
 * A number that leads to something longer is not of the row: an address or a phone number may begin there.
 */
function listEnd(text: string, at: number): number {
  let end = digitsEnd(text, at);
  const size = end - at;
  const sign = text.charCodeAt(end);
  if ((size !== 2 && size !== 4) || (sign !== 32 && sign !== 47)) return end;
  for (;;) {
    const to = digitsEnd(text, end + 1);
    const after = text.charCodeAt(to);
    if (to - end - 1 !== size || isWord(after) || (after !== sign && '()-./\\'.includes(text[to] ?? ' '))) return end;
    if (after === sign && digitsEnd(text, to + 1) - to - 1 > size) return end;
    end = to;
    if (after !== sign) return end;
  }
}

/** `"4155552671" <sip:…>`, `<4155552671>`: the name or the address of a party. */
function isBesideAddress(text: string, at: number, end: number): boolean {
  const before = text.charCodeAt(at - 1);
  if (before === 60) return text.charCodeAt(end) === 62;
  return before === 34 && /^\\{0,3}"\s?<(?:sips?:|tel:|[+\d])/i.test(text.slice(end, end + 12));
}

function international(
  text: string,
  at: number,
  plus: number,
  minDigits: number,
  from: number,
  loose: boolean,
): Cut | undefined {
  const first = digitsEnd(text, at) - at;
  const found = groupsAt(text, at, first >= MIN_INTERNATIONAL ? 1 : ENOUGH);
  if (found.total < minDigits || found.total > MAX_DIGITS) return undefined;
  const after = text.charCodeAt(found.end);
  // `+14155552671_1.wav`
  if (isWord(after) && !(after === 95 && text.charCodeAt(plus) !== 48)) return undefined;
  const isDecimal = found.sizes.length === 2 && found.sizes[0]! < 4 && found.between[0] === '.';
  if (!loose && isDecimal && COORDINATE.test(text.slice(Math.max(from, plus - 40), plus))) return undefined;
  const inBrackets = plus > from && text.charCodeAt(plus - 1) === 40 && text.slice(at, found.end).includes(')');
  return { from: inBrackets ? plus - 1 : plus, to: found.end, put: PHONE };
}

function labelled(text: string, at: number, lead: string, end: number, key: PhoneKey): Cut | undefined {
  const after = text.charCodeAt(end);
  if (isWord(after) || (after === 46 && isDigit(text.charCodeAt(end + 1)))) return undefined;
  if (!isPhoneUnder(text.slice(at, end), key)) return undefined;
  // A number of JSON becomes a text: as such it has the quotes of its key.
  const json = NUMBER_OF_JSON.exec(text.slice(Math.max(0, at - 8), at)) ?? LIST_OF_JSON.exec(lead.slice(-16));
  const quote = json?.[1] ?? '';
  return { from: at, to: end, put: quote + PHONE + quote };
}

/** Ways in which numbers are written within a country: the sizes of the groups, and what stands between them. */
function national(
  text: string,
  at: number,
  { sizes, between, total, end }: Groups,
  inBrackets: boolean,
): Cut | undefined {
  const after = text.charCodeAt(end);
  if (isWord(after) || ((after === 45 || after === 46 || after === 58) && isDigit(text.charCodeAt(end + 1))))
    return undefined;
  const shape = sizes.join('-');
  const signs = between.join('');
  const isTrunk = text.charCodeAt(at) === 48;
  const cut = { from: inBrackets && signs.includes(')') ? at - 1 : at, to: end, put: PHONE };
  if (inBrackets && signs[0] === ')') {
    const isAmerican = /^3-3-4$/.test(shape) && text.charCodeAt(at) > 49;
    const isBrazilian = /^2-[45]-4$/.test(shape) && signs[1] === '-';
    const isLocal = isTrunk && sizes[0]! <= 6 && total >= 8 && total <= 12;
    return isAmerican || isBrazilian || isLocal ? cut : undefined;
  }
  if (isTrunk) {
    if (text.charCodeAt(at + 1) === 48) return undefined;
    if (sizes.length === 1) return total >= 10 && total <= 12 ? cut : undefined;
    if (signs.includes('.')) return /^2(?:-2){4}$/.test(shape) && signs === '....' ? cut : undefined;
    if (/^2-2-4/.test(shape) && /^[-/]/.test(signs)) return undefined;
    return total >= 9 && total <= 12 && sizes[0]! <= 6 && sizes.every((size) => size > 1) ? cut : undefined;
  }
  // North America: 415-555-2671, 1-415-555-2671, 1 (415) 555-2671.
  const area = shape === '3-3-4' ? at : shape === '1-3-3-4' && text.charCodeAt(at) === 49 ? at + 2 : -1;
  if (area < 0) return undefined;
  const plain = shape === '3-3-4' ? /^(?:--|\.\.)$/.test(signs) : /^(?:---|\.\.\.|\)\)[-. ])$/.test(signs);
  const digits = text.slice(at, end).replace(/\D/g, '').slice(-10);
  return plain && /^[2-9]\d\d[2-9]/.test(digits) ? cut : undefined;
}

// ---- phone numbers under a key ----

const GROUPED: PhoneKey = { minDigits: 7, grouped: true, vague: false };
const IN_ONE_RUN: PhoneKey = { minDigits: 7, grouped: false, vague: false };
const VAGUE: PhoneKey = { minDigits: 10, grouped: false, vague: true };
const PHONES = new Set(
  'phone phones telephone telephones tel mobile cell cellphone fax msisdn msisdns landline whatsapp ani dnis clid'.split(
    ' ',
  ),
);
const ENDS_IN_PHONE = /(?:(?<!micro|head|ear|mega|saxo)phone|msisdn|(?<!auto|snow)mobile)(?:number|num|no|nr)?s?$/;
const PARTIES = new Set(
  'caller callee called calling from to dialed dialled destination recipient dst src cli did ddi'.split(' '),
);
const PARTS = new Set(
  'number numbers num nr no value raw e formatted normalized normalised international national'.split(' '),
);

/** Which phone of somebody it is. */
const WHICH = new Set(
  (
    'home work office business company private personal main primary secondary other alternative alternate default ' +
    'first second direct day night emergency voice sms old new'
  ).split(' '),
);

/** `home`, `workMobile`, `0`; not `price`, `lastSeen`. */
function saysWhich(name: string): boolean {
  const last = keyWords(name).at(-1);
  return last === undefined || WHICH.has(last) || PHONES.has(last);
}

/** What the last word of a key says when one of these stands before it. */
const ENDS_OF_A_CALL: Readonly<Record<string, ReadonlySet<string>>> = {
  party: new Set(['calling', 'called', 'caller', 'connected', 'a', 'b']),
  line: new Set(['calling', 'called', 'caller', 'connected']),
};
/** With `number` behind. */
const NUMBERED = new Set(['a', 'b', 'callback', 'contact']);
const NUMBER = new Set(['number', 'numbers', 'num', 'nr', 'no']);
/** Below these, `from` and `to` are no parties of a call. */
const COUNTS = new Set('offset range period interval window time byte position sequence seq id row version'.split(' '));

/** `phone`, `customerPhoneNumber`, `to_number`, `callerId`, `from`; not `phoneId`, `phoneVerifiedAt`. */
function phoneKey(name: string): PhoneKey | undefined {
  const words = keyWords(name);
  let end = words.length;
  while (end > 1 && PARTS.has(words[end - 1]!)) end -= 1;
  const last = words[end - 1] ?? '';
  if (PHONES.has(last) || ENDS_IN_PHONE.test(last.slice(-40))) return GROUPED;
  const owner = words[end - 2] ?? '';
  if (last === 'callerid' || (last === 'id' && owner === 'caller')) return GROUPED;
  if (last === 'id' && owner === 'callee') return IN_ONE_RUN;
  if (last === 'exten' || (Object.hasOwn(ENDS_OF_A_CALL, last) && ENDS_OF_A_CALL[last]!.has(owner))) return IN_ONE_RUN;
  if (last === 'user' && (owner === 'from' || owner === 'to') && words[end - 3] === 'sip') return IN_ONE_RUN;
  if (NUMBER.has(words[end] ?? '')) {
    if (NUMBERED.has(last)) return IN_ONE_RUN;
    // May also be an account.
    if (last === 'customer') return VAGUE;
  }
  if (!PARTIES.has(last) && !PARTIES.has(last.replace(/s$/, ''))) return undefined;
  return end < words.length ? IN_ONE_RUN : VAGUE;
}

/** Milliseconds and seconds begin with a one: of the numbers that do, only North America's are phone numbers. */
const AMERICAN = /^1[2-9]\d\d[2-9]\d{6}$/;
const DAY_AND_TIME = /^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d$/;

function isPhoneUnder(value: string, key: PhoneKey): boolean {
  if (value.length > 40) return false;
  const digits = value.replace(/\D/g, '');
  if (digits.length < key.minDigits || digits.length > MAX_DIGITS) return false;
  if (digits !== value && !(key.grouped && /^[\s(+]{0,3}\d[\d\s()./\u2010-\u2013-]*$/.test(value))) return false;
  if (/^\d{4}-\d\d-\d\d|^\d+\.\d+$/.test(value)) return false;
  return !key.vague || ((!digits.startsWith('1') || AMERICAN.test(digits)) && !DAY_AND_TIME.test(digits));
}
