// Secrets that their own form gives away, wherever they stand: tokens with a known head, keys in PEM, credentials in a URL, card
// numbers. In: a text and the place where an anchor was found. Out: what to cut. Guarantee: a rule reads a bounded number of
// characters, or cuts what it has read; so all rules together are linear.
export const MASK = '[masked]';

/** `text.slice(from, to)` is to be replaced by `put`. */
export interface Cut {
  readonly from: number;
  readonly to: number;
  readonly put: string;
}

export interface Rule {
  /** Stable name, quoted by `docs/secrets.md`. */
  readonly id: string;
  /** Without one of these, in any case, the rule finds nothing. */
  readonly anchors: readonly string[];
  /**
   * May `find` cut something here, or in what this text says once JSON's escapes are undone? Default: yes. Bounded; when in
   * doubt, yes.
   */
  near?(text: string, start: number, end: number): boolean;
  /** An anchor stands at `text.slice(start, end)`. */
  find(text: string, start: number, end: number): Cut | undefined;
}

// ---- what characters and words look like ----

const DIGIT = 1;
const LETTER = 2;
const HEX = 4;
const UNDERSCORE = 8;
const DASH = 16;
const DOT = 32;
const BASE64 = 64;
const CAPITAL = 128;
const CHARS = new Uint8Array(128);
for (let c = 48; c <= 57; c++) CHARS[c] = DIGIT | HEX;
for (let c = 97; c <= 122; c++) CHARS[c] = LETTER | (c <= 102 ? HEX : 0);
for (let c = 65; c <= 90; c++) CHARS[c] = LETTER | CAPITAL | (c <= 70 ? HEX : 0);
for (const [char, kind] of [
  ['_', UNDERSCORE],
  ['-', DASH],
  ['.', DOT],
  ['+', BASE64],
  ['/', BASE64],
  ['=', BASE64],
] as const) {
  CHARS[char.charCodeAt(0)] = kind;
}
const ALNUM = DIGIT | LETTER;
const SETS = {
  alnum: ALNUM,
  hex: HEX,
  upper: DIGIT | CAPITAL,
  word: ALNUM | UNDERSCORE,
  dashed: ALNUM | UNDERSCORE | DASH,
  dotted: ALNUM | UNDERSCORE | DASH | DOT,
  wide: ALNUM | UNDERSCORE | DASH | DOT | BASE64,
} as const;

function is(text: string, i: number, kinds: number): boolean {
  const code = text.charCodeAt(i);
  return code < 128 && (CHARS[code]! & kinds) !== 0;
}

/** Where a run of such characters ends; `limit` bounds the search of rules that may still find nothing. */
function runEnd(text: string, from: number, kinds: number, limit = text.length): number {
  let i = from;
  while (i < limit && is(text, i, kinds)) i += 1;
  return i;
}

/** Does a word begin here? After `%3D` and after a written-out `\n` it does. */
function beginsWord(text: string, i: number): boolean {
  if (i === 0 || !is(text, i - 1, ALNUM | UNDERSCORE)) return true;
  if (i >= 3 && text.charCodeAt(i - 3) === 37 && is(text, i - 2, HEX) && is(text, i - 1, HEX)) return true;
  return i >= 2 && text.charCodeAt(i - 2) === 92 && 'nrtbf'.includes(text[i - 1]!);
}

const MAX_LOOK = 256;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * Does a word look random rather than written by somebody: digits among letters, or capitals where no word begins?
 * @param min how many characters between punctuation it takes
 */
export function looksRandom(value: string, min: number): boolean {
  const text = value.slice(0, MAX_LOOK);
  let from = 0;
  let longest = 0;
  for (let i = 0; i <= text.length; i++) {
    if (is(text, i, ALNUM)) continue;
    longest = Math.max(longest, i - from);
    if (i - from >= min && mixed(text.slice(from, i))) return true;
    from = i + 1;
  }
  // Random base64 breaks at its own - and _ and +.
  return (
    longest >= 3 &&
    text.length >= Math.max(min, 20) &&
    /^[\w+/=~-]+$/.test(text) &&
    !UUID.test(text) &&
    mixed(text.replace(/[^A-Za-z0-9]/g, '')) &&
    switches(text) * 8 >= text.length
  );
}

function mixed(run: string): boolean {
  const digits = /\d/.test(run);
  const letters = /[A-Za-z]/.test(run);
  if (digits && letters) return switches(run) >= 2 || run.length >= 16;
  // Letters alone: a capital every few letters, or capitals in the middle of words.
  return letters && /[a-z]/.test(run) && /[A-Z]/.test(run) && switches(run) * 4 >= run.length;
}

/** How often small letters, capitals and digits change places; one capital at the start of a word does not count. */
function switches(run: string): number {
  let count = 0;
  for (let i = 1; i < run.length; i++) {
    const [a, b] = [kindOf(run, i - 1), kindOf(run, i)];
    if (a !== b && !(a === CAPITAL && b === LETTER && i === 1)) count += 1;
  }
  return count;
}

function kindOf(text: string, i: number): number {
  const code = text.charCodeAt(i);
  return code > 127 ? 0 : CHARS[code]! & (DIGIT | CAPITAL) || CHARS[code]! & LETTER;
}

// ---- tokens with a known head ----

type TokenRow = readonly [id: string, set: keyof typeof SETS, min: number, heads: string];

/** Heads are case-sensitive; each is followed by at least `min` characters of the set. */
const TOKENS: readonly TokenRow[] = [
  ['github', 'alnum', 16, 'ghp_ gho_ ghu_ ghs_ ghr_'],
  ['github-fine', 'word', 20, 'github_pat_'],
  ['gitlab', 'dotted', 16, 'glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- glsoat- gloas- glffct- GR1348941'],
  ['slack', 'dashed', 8, 'xoxb- xoxp- xoxa- xoxr- xoxs- xoxe- xoxc- xoxd- xoxo- xapp-'],
  ['slack-refresh', 'wide', 16, 'xoxe.'],
  ['stripe', 'alnum', 10, 'sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_ pk_live_ pk_test_'],
  ['webhook-signing', 'wide', 16, 'whsec_'],
  ['openai', 'dashed', 20, 'sk-'],
  ['hex-key', 'hex', 32, 'sk_ key- dapi'],
  // The head of Twilio's keys is too short to look for without what follows it.
  ['twilio', 'hex', 31, '0123456789abcdef'.replace(/./g, ' SK$&').trim()],
  ['sendgrid', 'dotted', 32, 'SG.'],
  ['npm', 'alnum', 30, 'npm_'],
  ['pypi', 'dashed', 32, 'pypi-'],
  ['huggingface', 'alnum', 20, 'hf_ api_org_'],
  ['shopify', 'alnum', 16, 'shpat_ shpca_ shppa_ shpss_ shpua_'],
  ['digitalocean', 'alnum', 32, 'dop_v1_ doo_v1_ dor_v1_'],
  ['doppler', 'dashed', 16, 'dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit. dp.said. dp.sit.'],
  ['doppler-config', 'dotted', 24, 'dp.st.'],
  ['google-api', 'dashed', 30, 'AIza'],
  ['google-oauth', 'dotted', 16, 'ya29. GOCSPX- 1//0'],
  ['aws', 'upper', 12, 'AKIA ASIA ABIA ACCA'],
  ['aws-bedrock', 'wide', 40, 'ABSK bedrock-api-key-'],
  ['new-relic', 'dashed', 16, 'NRAK- NRII- NRAA- NRRA- NRSP- NRIQ-'],
  ['linear', 'alnum', 16, 'lin_api_ lin_oauth_'],
  ['notion', 'alnum', 40, 'secret_'],
  ['notion-integration', 'alnum', 20, 'ntn_'],
  ['postman', 'dashed', 16, 'PMAK- PMAT-'],
  ['square', 'dashed', 16, 'sq0atp- sq0csp- sq0idp-'],
  ['square-facebook', 'dashed', 50, 'EAAA EAA'],
  ['atlassian', 'wide', 16, 'ATATT3 ATCTT3 ATBB'],
  ['vault', 'dashed', 16, 'hvs. hvb. hvr.'],
  ['heroku', 'dashed', 16, 'HRKU-'],
  ['supabase', 'dashed', 16, 'sbp_ sb_secret_'],
  ['planetscale', 'dotted', 16, 'pscale_tkn_ pscale_pw_ pscale_oauth_'],
  ['grafana', 'wide', 16, 'glc_ glsa_'],
  ['sentry', 'wide', 16, 'sntrys_ sntryu_'],
  ['age', 'upper', 16, 'AGE-SECRET-KEY-'],
  ['docker', 'dashed', 16, 'dckr_pat_ dckr_oat_'],
  ['brevo', 'dashed', 16, 'xkeysib- xsmtpsib-'],
  ['dynatrace', 'dotted', 24, 'dt0c01. dt0s01. dt0s16.'],
  ['ai', 'dashed', 20, 'gsk_ r8_ pplx- xai- lsv2_ fw_ AQVN pcsk_ tvly- jina_ nvapi- csk- co_api_'],
  ['hubspot', 'dashed', 20, 'pat-na1- pat-na2- pat-eu1-'],
  [
    'contentful',
    'dashed',
    16,
    'CFPAT- figd_ tfp_ rdme_ nfp_ rnd_ pnu_ sgp_ bkua_ CCIPAT_ fo1_ fm1_ fm2_ dnkey- ops_ snyk_ tskey- ico- vcp_',
  ],
  ['hex-40', 'hex', 32, 'pul- rubygems_ squ_ sqp_ sqa_ pul_'],
  ['registry', 'alnum', 40, 'oy2 AKCp cio'],
  [
    'payment',
    'dashed',
    12,
    'rzp_live_ rzp_test_ FLWSECK- FLWSECK_ access-sandbox- access-production- access-development- shpss_ EZAK EZTK',
  ],
  ['alibaba', 'alnum', 12, 'LTAI'],
  ['tencent', 'alnum', 32, 'AKID'],
  ['telnyx', 'word', 20, 'KEY0'],
  ['launchdarkly', 'dashed', 32, 'sdk- mob-'],
  ['cloudflare', 'dashed', 24, 'v1.0- cfut_ cfat_ cfk_'],
  ['mapbox', 'dotted', 40, 'sk.eyJ'],
];

function tokenRule([id, set, min, heads]: TokenRow): Rule {
  const list = heads.split(' ').sort((a, b) => b.length - a.length);
  return {
    id: `token-${id}`,
    anchors: list,
    near(text, start, end) {
      if (!list.includes(text.slice(start, end)) || !beginsWord(text, start)) return false;
      // An escaped slash may interrupt the run.
      return set === 'wide' || runEnd(text, end, SETS[set], end + min) === end + min;
    },
    find(text, start, end) {
      const head = text.slice(start, end);
      if (!list.includes(head) || !beginsWord(text, start)) return undefined;
      const seen = runEnd(text, end, SETS[set], end + MAX_LOOK);
      if (seen - end < min) return undefined;
      if (set === 'hex' && is(text, seen, ALNUM | UNDERSCORE)) return undefined;
      const body = text.slice(end, seen);
      if (UUID.test(body) ? id !== 'launchdarkly' && id !== 'heroku' && id !== 'payment' : !drawn(body))
        return undefined;
      // A full stop or dash at the end belongs to the sentence.
      let to = runEnd(text, seen, SETS[set]);
      while (to > end + min && (text[to - 1] === '.' || text[to - 1] === '-')) to -= 1;
      return { from: start, to, put: MASK };
    },
  };
}

/** Asks less than `looksRandom`: a known head has been seen already. */
function drawn(body: string): boolean {
  return /\d/.test(body) || switches(body) >= 4 || (body.length >= 24 && !/[_.-]/.test(body));
}

// ---- forms with more to them than a head ----

/** A header and payload in base64url; it is one without a signature too. */
const JWT: Rule = {
  id: 'jwt',
  anchors: ['eyJ'],
  near: (text, start, end) => text.slice(start, end) === 'eyJ' && runEnd(text, end, SETS.dashed, end + 8) === end + 8,
  find(text, start, end) {
    if (text.slice(start, end) !== 'eyJ' || !(beginsWord(text, start) || text[start - 1] === '_')) return undefined;
    if (runEnd(text, end, SETS.dashed, end + 8) < end + 8) return undefined;
    return { from: start, to: runEnd(text, end, SETS.dotted), put: MASK };
  },
};

const PRIVATE = /PRIVATE/;
const PEM: Rule = {
  id: 'pem',
  anchors: ['-----BEGIN', '---- BEGIN', 'Private-Lines:', 'Private-MAC:'],
  find(text, start, end) {
    if (text[start] === 'P') {
      return text.startsWith('Private-', start) ? { from: end, to: text.length, put: ` ${MASK}` } : undefined;
    }
    const head = text.slice(end, end + 64);
    const close = head.indexOf('-----') < 0 ? head.indexOf('----') : head.indexOf('-----');
    // A header that was cut off may have been anything.
    if (!PRIVATE.test(close < 0 ? head : head.slice(0, close)) && !(close < 0 && end + head.length === text.length))
      return undefined;
    const stop = endOfPem(text, end);
    return { from: start, to: stop, put: MASK };
  },
};

function endOfPem(text: string, from: number): number {
  let at = text.indexOf('END', from);
  // Random base64 may hold the three letters too.
  while (at >= 0 && !(text[at - 1] === '-' || (text[at - 1] === ' ' && text[at - 2] === '-')))
    at = text.indexOf('END', at + 3);
  if (at < 0) return text.length;
  const close = text.slice(at, at + 96).indexOf('----');
  return close < 0 ? Math.min(text.length, at + 96) : runEnd(text, at + close, DASH);
}

/** `-----BEGIN` in base64; certificates are not secret. */
const PEM_BASE64: Rule = {
  id: 'pem-base64',
  anchors: ['LS0tLS1CRUdJTi'],
  find(text, start, end) {
    if (text.slice(start, end) !== 'LS0tLS1CRUdJTi' || text.startsWith('BDRVJUSUZJQ0FUR', end)) return undefined;
    return { from: start, to: runEnd(text, end, SETS.wide), put: MASK };
  },
};

/** Scheme and credentials as in a header. An ordinary word after the scheme is part of a sentence. */
const SCHEME: Rule = {
  id: 'auth-scheme',
  anchors: [
    'bearer ',
    'basic ',
    'bearer%20',
    'bearer+',
    'geniekey ',
    'flyv1 ',
    'bot m',
    'bot n',
    'bot o',
    'negotiate y',
    'ntlm t',
    'sso-key ',
  ],
  near: (text, start) => beginsWord(text, start),
  find(text, start, end) {
    if (!beginsWord(text, start)) return undefined;
    const from = /[ +0]/.test(text[end - 1]!) ? spacesEnd(text, end) : end - 1;
    let to = runEnd(text, from, SETS.wide);
    while (text[to] === '~' || text[to] === ':' || text[to] === '%') to = runEnd(text, to + 1, SETS.wide);
    const word = text.slice(from, Math.min(to, from + MAX_LOOK));
    if (
      word.length < 6 ||
      !(
        looksRandom(word, 5) ||
        (/\d/.test(word) && !/[a-z]/.test(word)) ||
        word.length >= 24 ||
        word.endsWith('=') ||
        /[a-z]\d|\d[a-z]/i.test(word)
      )
    )
      return undefined;
    return { from, to, put: MASK };
  },
};

function spacesEnd(text: string, from: number): number {
  let i = from;
  while (text.charCodeAt(i) === 32) i += 1;
  return i;
}

const WEBHOOKS: Rule = {
  id: 'webhook-url',
  anchors: [
    'hooks.slack.com',
    'discord.com/api/webhooks',
    'discordapp.com/api/webhooks',
    'webhook.office.com',
    'outlook.office.com/webhook',
    'hooks.zapier.com',
    'api.telegram.org/bot',
    'events.pagerduty.com/integration',
    'maker.ifttt.com/trigger',
    'api.opsgenie.com/v2/heartbeats',
    'discord.com\\/api\\/webhooks',
    'discordapp.com\\/api\\/webhooks',
    'outlook.office.com\\/webhook',
    'api.telegram.org\\/bot',
    'events.pagerduty.com\\/integration',
    'maker.ifttt.com\\/trigger',
    'hc-ping.com',
    'hook.eu1.make.com',
    'hook.us1.make.com',
    'hook.integromat.com',
  ],
  find(text, _start, end) {
    let to = end;
    while (to < text.length && !/[\s"'<>`)\]}]/.test(text[to]!)) to += 1;
    // The rest begins with a slash, or with %2F.
    let from = end;
    while (from < to && (text[from] === '/' || text[from] === '\\')) from += 1;
    if (to - from < 8 || text.startsWith(MASK, from) || text.slice(from, to) === MASK.slice(0, -1)) return undefined;
    return { from, to, put: MASK };
  },
};

// ---- credentials in a URL ----

const MAX_AUTHORITY = 2_048;
const HOST = /^(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d+)?(?=[/?#,;\s"'<>`)\]}\\]|$)/;

/** `://user:password@host`, whatever the password holds; a user alone when it looks like a token. */
const URL_CREDENTIALS: Rule = {
  id: 'url-credentials',
  anchors: ['://', '%3A%2F%2F', ...[1, 2, 3, 4, 7, 8].map((count) => `/${'\\'.repeat(count)}/`)],
  near(text, _start, end) {
    for (let i = end; i < end + 2 * MAX_AUTHORITY; i++) {
      const code = text.charCodeAt(i);
      if (code === 64 || (code === 37 && text.charCodeAt(i + 1) === 52)) return true;
      if (Number.isNaN(code) || code <= 32 || code === 34 || (code === 58 && text.charCodeAt(i + 1) === 47))
        return false;
    }
    return true;
  },
  find(text, start, marked) {
    const encoded = text.charCodeAt(start) === 37;
    let end = marked;
    if (text.charCodeAt(start) === 47) {
      // Escaped slashes: a colon, backslashes, a slash, as many backslashes, a slash.
      let before = start;
      while (before > 0 && start - before < 32 && text.charCodeAt(before - 1) === 92) before -= 1;
      if (before === start || text.charCodeAt(before - 1) !== 58) return undefined;
      end = start + 1 + (start - before);
      if (text.charCodeAt(end) !== 47) return undefined;
      end += 1;
    }
    const limit = Math.min(text.length, end + MAX_AUTHORITY);
    let stop = end;
    let lastAt = -1;
    let authorityAt = -1;
    let authorityOver = false;
    for (; stop < limit; stop++) {
      const code = text.charCodeAt(stop);
      if (code <= 32 || code === 34 || code === 60 || code === 62 || code === 96) break;
      if (stop > end && code === 58 && text.startsWith('://', stop)) break;
      if (encoded && code === 38) break;
      const at = code === 64 || (code === 37 && text.charCodeAt(stop + 1) === 52 && text.charCodeAt(stop + 2) === 48);
      if (at) {
        if (!authorityOver) authorityAt = stop;
        if (HOST.test(text.slice(stop + (code === 64 ? 1 : 3), stop + 260)) || encoded) lastAt = stop;
      } else if (code === 47 || code === 63 || code === 35) authorityOver = true;
    }
    const scheme =
      /[a-z][a-z0-9+.-]{1,30}$/i
        .exec(text.slice(Math.max(0, start - 32), start).replace(/:?\\*$/, ''))?.[0]
        ?.toLowerCase() ?? '';
    const web = scheme === '' || /^(?:https?|wss?|file|git)$/.test(scheme);
    let to = authorityAt;
    if (to < 0 && lastAt >= 0 && text.charCodeAt(end) !== 47) {
      // No @ before the first slash: then the slash belongs to a password, unless a port stands there.
      const colon = text.slice(end, end + 128).search(/[:/?#]/);
      const odd =
        colon >= 0 &&
        text[end + colon] === ':' &&
        !/^\d{1,5}(?=[/?#\\]|$)/.test(text.slice(end + colon + 1, end + colon + 8));
      if (odd || (!web && colon >= 0 && text[end + colon] === ':')) to = lastAt;
    } else if (to >= 0 && lastAt > to && !web && !/[/?#]/.test(text.slice(to, lastAt))) to = lastAt;
    else if (to >= 0 && lastAt > to && !HOST.test(text.slice(to + 1, to + 260))) to = lastAt;
    if (to < 0 || to === end) return undefined;
    const user = text.slice(end, to);
    if (user === MASK) return undefined;
    const password = user.includes(':') || user.includes('%3A') || user.includes('%3a');
    if (
      password
        ? /^[^:]*:$/.test(user) && !looksRandom(user, 16)
        : !looksRandom(user, 12) && !/^[0-9a-f]{20,}$/i.test(user)
    )
      return undefined;
    return { from: end, to, put: MASK };
  },
};

/** `user:password@tcp(host:3306)/db` of Go's drivers. */
const GO_DSN: Rule = {
  id: 'go-dsn',
  anchors: ['@tcp(', '@unix('],
  find(text, start) {
    let from = start;
    while (from > 0 && start - from < 256 && !/[\s"'`=]/.test(text[from - 1]!)) from -= 1;
    const colon = text.slice(from, start).indexOf(':');
    if (colon < 0 || text.slice(from + colon + 1, start) === MASK || from + colon + 1 === start) return undefined;
    return { from: from + colon + 1, to: start, put: MASK };
  },
};

// ---- heads that are too common alone, with a second mark at a fixed distance ----

const DISTANT: readonly Rule[] = [
  {
    id: 'token-airtable',
    anchors: ['pat'],
    find(text, start) {
      if (text.charCodeAt(start + 17) !== 46 || !text.startsWith('pat', start) || !beginsWord(text, start))
        return undefined;
      if (runEnd(text, start, SETS.alnum, start + 17) !== start + 17) return undefined;
      const to = runEnd(text, start + 18, SETS.alnum);
      return to - start - 18 < 32 ? undefined : { from: start, to, put: MASK };
    },
  },
  {
    id: 'token-telegram',
    anchors: [':AA', '%3AAA'],
    find(text, start, end) {
      let from = start;
      while (from > 0 && start - from < 12 && is(text, from - 1, DIGIT)) from -= 1;
      if (start - from < 8 || start - from > 11) return undefined;
      const to = runEnd(text, end, SETS.dashed);
      return to - end < 28 ? undefined : { from, to, put: MASK };
    },
  },
  {
    id: 'token-terraform',
    anchors: ['.atlasv1.'],
    find(text, start, end) {
      let from = start;
      while (from > 0 && start - from < 20 && is(text, from - 1, ALNUM)) from -= 1;
      const to = runEnd(text, end, SETS.dashed);
      return to - end < 20 ? undefined : { from, to, put: MASK };
    },
  },
  {
    id: 'token-new-relic-license',
    anchors: ['NRAL'],
    find(text, start, end) {
      let from = start;
      while (from > 0 && start - from < 48 && is(text, from - 1, ALNUM)) from -= 1;
      return start - from < 30 || start - from > 44 || is(text, end, ALNUM) ? undefined : { from, to: end, put: MASK };
    },
  },
  {
    id: 'token-mailchimp',
    anchors: ['-us'],
    find(text, start, end) {
      let from = start;
      while (from > 0 && start - from < 32 && is(text, from - 1, HEX)) from -= 1;
      if (!beginsWord(text, from)) return undefined;
      const to = runEnd(text, end, DIGIT);
      return start - from !== 32 || to === end || to - end > 3 ? undefined : { from, to, put: MASK };
    },
  },
  {
    id: 'token-azure-client-secret',
    anchors: Array.from({ length: 10 }, (_, digit) => `${digit}Q~`),
    find(text, digit, end) {
      const start = digit + 1;
      if (start < 4 || !is(text, start - 1, DIGIT) || text[start] !== 'Q') return undefined;
      let to = end;
      while (to < end + 64 && (is(text, to, SETS.dotted) || text[to] === '~')) to += 1;
      return to - end < 28 ? undefined : { from: start - 4, to, put: MASK };
    },
  },
];

// ---- three parts with dots between them ----

/** Discord's tokens have no head; their second part has six characters. */
export function mayHoldDotted(text: string): boolean {
  for (let dot = text.indexOf('.'); dot >= 0; dot = text.indexOf('.', dot + 1))
    if (dottedAt(text, dot) !== undefined) return true;
  return false;
}

function dottedAt(text: string, dot: number): Cut | undefined {
  if (text.charCodeAt(dot + 7) !== 46 || runEnd(text, dot + 1, SETS.dashed, dot + 7) !== dot + 7) return undefined;
  let from = dot;
  while (
    from > 0 &&
    dot - from < 28 &&
    is(text, from - 1, SETS.dashed) &&
    !(dot - from >= 23 && beginsWord(text, from))
  )
    from -= 1;
  if (dot - from < 23 || dot - from > 28 || !/[MNO]/.test(text[from]!) || !beginsWord(text, from)) return undefined;
  if (runEnd(text, dot + 8, SETS.dashed, dot + 28) < dot + 28) return undefined;
  return { from, to: runEnd(text, dot + 8, SETS.dashed), put: MASK };
}

export function cutDotted(text: string): string {
  let out = '';
  let done = 0;
  for (let dot = text.indexOf('.'); dot >= 0; dot = text.indexOf('.', Math.max(done, dot + 1))) {
    const cut = dottedAt(text, dot);
    if (cut === undefined || cut.from < done) continue;
    out += text.slice(done, cut.from) + cut.put;
    done = cut.to;
  }
  return done === 0 ? text : out + text.slice(done);
}

// ---- card numbers ----

/** Digits of a card, as one run or in the groups that are printed on it. Bounded, so that the search is linear. */
const CARD_DIGITS = /\d{4}(?:\d{10,15}|([ -])(?:\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{6}\1\d{4,5}))/g;
const NAMES_AN_ID =
  /(?:id|order|invoice|tracking|trace|ref|reference|sequence|seq|offset|time|timestamp|ts|phone|tel|fax|imei|iccid|imsi|serial|batch|job)(?: ?(?:number|num|no\.?|nr\.?))?\\?["']?\s?[:=#]?\s?\\?["']?$/i;

/** Is what was found at `at` a card number: a known issuer's prefix and length, the right check digit, standing alone? */
function isCardAt(text: string, at: number, found: string): boolean {
  if (!beginsWord(text, at) || /[.+#-]/.test(text[at - 1] ?? '')) return false;
  const after = text.slice(at + found.length, at + found.length + 2);
  return !/^(?:[\w-]|[.:]\d)/.test(after) && isCard(found.replace(/[ -]/g, ''));
}

/** May the text hold a card number? Cheaper than `cutCards`, and true whenever `cutCards` cuts. */
export function mayHoldCard(text: string): boolean {
  CARD_DIGITS.lastIndex = 0;
  for (let found = CARD_DIGITS.exec(text); found !== null; found = CARD_DIGITS.exec(text)) {
    if (isCardAt(text, found.index, found[0])) return true;
  }
  return false;
}

export function cutCards(text: string): string {
  return text.replace(CARD_DIGITS, (found: string, _separator: unknown, at: number) => {
    if (!isCardAt(text, at, found) || NAMES_AN_ID.test(text.slice(Math.max(0, at - 32), at))) return found;
    return MASK;
  });
}

/** Issuers' ranges and lengths: ISO/IEC 7812 as published by the card schemes. */
function isCard(digits: string): boolean {
  const two = Number(digits.slice(0, 2));
  const four = Number(digits.slice(0, 4));
  const { length } = digits;
  const issued =
    (digits[0] === '4' && (length === 16 || length === 19)) ||
    (((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720)) && length === 16) ||
    ((two === 34 || two === 37) && length === 15) ||
    (((four >= 3000 && four <= 3059) || two === 36 || two === 38 || two === 39) && length === 14) ||
    ((four === 6011 || two === 65 || (four >= 6440 && four <= 6499)) && (length === 16 || length === 19)) ||
    (four >= 3528 && four <= 3589 && length >= 16) ||
    (two === 62 && length >= 16) ||
    ((two === 50 || (two >= 56 && two <= 58) || two === 67) && length >= 16);
  if (!issued) return false;
  let sum = 0;
  for (let i = 0; i < length; i++) {
    const digit = digits.charCodeAt(length - 1 - i) - 48;
    sum += i % 2 === 0 ? digit : digit < 5 ? digit * 2 : digit * 2 - 9;
  }
  return sum % 10 === 0;
}

/** Their marks hold nothing that JSON escapes, so `find` answers the same before escapes are undone. */
const sure = (rule: Rule): Rule => ({ ...rule, near: (text, start, end) => rule.find(text, start, end) !== undefined });

export const FORM_RULES: readonly Rule[] = [
  ...TOKENS.map(tokenRule),
  JWT,
  PEM,
  PEM_BASE64,
  SCHEME,
  WEBHOOKS,
  URL_CREDENTIALS,
  GO_DSN,
  ...DISTANT.map(sure),
];
