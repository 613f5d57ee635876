// Makes docs/secrets.md from the masking rules: what is masked, what cannot be, and how to add to it.
import { createMasker, OVERLAP, WINDOW } from '../src/core/secrets/mask.ts';
import { EMAIL, IP, PERSONAL_SWITCHES, PHONE } from '../src/core/secrets/personal.ts';
import { FORM_RULES } from '../src/core/secrets/secret-forms.ts';
import { type KeyKind, secretNames } from '../src/core/secrets/secret-keys.ts';
import { createTextRules } from '../src/core/secrets/secret-text.ts';
import { code, document, table } from './markdown.ts';

const KINDS: Readonly<Record<KeyKind, string>> = {
  password: 'every text except `null`, `***` and the like; every number',
  secret: 'every text that is not a state (`expired`, `missing`); numbers from 100,000 on',
  code: 'every text, every number',
  codes: 'the plural of the above: every text, but no number, since that is a count',
  tokens: 'the plural of a password or secret (`tokens`, `apiKeys`): texts and groups; a number is a count and stays',
  opaque: 'only what looks random: `routingKey: "calls.created"` stays',
  phrase: 'all its words, to the end of the line',
  header: 'the whole value; within a text, its scheme stays',
  cookie: 'the whole value, all its pairs',
};

/** What the other rules find; each example is masked where the dots are. */
const FORMS: Readonly<Record<string, readonly [what: string, example: string]>> = {
  jwt: ['a JSON Web Token, even if cut short', '`eyJ….….…`'],
  pem: [
    'a private key in PEM, with line breaks in any notation, even if cut short',
    '`-----BEGIN RSA PRIVATE KEY-----…`',
  ],
  'pem-base64': ['the same in base64; certificates stay', '`LS0tLS1CRUdJTi…`'],
  'auth-scheme': [
    'what follows a scheme, unless it is an ordinary word (`Basic authentication`)',
    '`Bearer …`, `Basic …`',
  ],
  'webhook-url': ['the path of a URL that is a credential by itself', '`https://hooks.slack.com/…`'],
  'url-credentials': [
    'user and password of any URL; a user alone when it looks like a token',
    '`postgres://…@db/calls`',
  ],
  'go-dsn': ['the password of a Go data source name', '`app:…@tcp(db:3306)/calls`'],
  'token-airtable': ['personal access tokens of Airtable', '`pat….…`'],
  'token-telegram': ['bot tokens of Telegram', '`…:AA…`'],
  'token-terraform': ['tokens of Terraform Cloud', '`….atlasv1.…`'],
  'token-new-relic-license': ['licence keys of New Relic', '`…NRAL`'],
  'token-mailchimp': ['keys of Mailchimp', '`…-us12`'],
  'token-azure-client-secret': ['client secrets of Azure', '`…8Q~…`'],
};

const TEXTS: readonly (readonly [id: string, what: string, examples: string])[] = [
  [
    'key',
    'a secret name and its value in JSON at any depth of escaping, YAML, ini, logfmt, XML, query strings, form bodies, URL encoding, util.inspect, Ruby hashes, command-line flags, headers, `{name, value}` pairs; also in a sentence',
    '`password=…`, `"api_key": "…"`, `--token …`, `Password for bob: …`, `invalid token …`, `<pin>…</pin>`, `Cookie: …`',
  ],
  ['query', '`key`, `code` and `ticket` in a query string, when the value looks random', '`?key=…`, `&code=…`'],
  ['code-sentence', 'a code in a sentence', '`Your verification code is …`, `… is your login code`'],
  ['sql-identified', 'passwords in SQL', "`IDENTIFIED BY '…'`"],
];

const BY_LINE: readonly (readonly [id: string, what: string, examples: string])[] = [
  [
    'card',
    'card numbers: a known issuer’s prefix and length, the right check digit, standing alone; not after `id`, `order`, `time`, `phone` and the like',
    '`4… …`, in one run or in printed groups',
  ],
  ['token-discord', 'tokens of Discord: three parts, the second of six characters', '`M….….…`'],
  ['command', 'arguments of known commands', '`curl -u user:…`, `mysql -p…`, `sshpass -p …`, `redis-cli -a …`'],
  ['insert', 'values of secret columns', "`INSERT INTO t (name, password) VALUES ('a', '…')`"],
  ['unicode-escape', 'all of the above written with `\\u0070` escapes or in UTF-16', '`"\\u0070in": "…"`'],
];

const PERSONAL: Readonly<Record<(typeof PERSONAL_SWITCHES)[number], readonly [masked: string, stays: string]>> = {
  phoneNumbers: [
    'international numbers in any grouping (`+49 30 …`, `(+49) …`, `0049…`, `%2B49…`); national ones with a leading zero or as in North America (`(415) 555-…`, `030/…`, `0171 …`); what follows `tel:`, `sip:`, `sms:`, `whatsapp:`; bare digits behind a word such as `phone`, `caller`, `called_number`, `exten`, and under a key that names a phone or a party of a call (`phone`, `callerId`, `caller: { id }`, `calledParty`, `toNumber`, `phones: { home }`), JSON numbers included, but in a group of phones only under a name for one (`home`, `work`, `mobile`); from ten digits on behind and under words that say less (`to`, `from`, `destination`, `customerNumber`), behind another number (`… to …`, `… -> …`, lists), in a channel’s name (`PJSIP/…`), and as the name or address of a party (`"…" <sip:…>`, `<…>`)',
    'fewer than seven digits (extensions, `112`); times, days, durations, amounts, UUIDs, ULIDs, hashes; what follows `id`, `order`, `offset`, `bytes` and the like (`callId`, `orders`), and digits in a path (`/calls/0123456789`); under `to` and `from` milliseconds and seconds since 1970, and what an `offset` or `range` goes from and to; rows of numbers of two or of four digits, as of an IBAN; the host of a SIP address',
  ],
  emailAddresses: [
    'name, `@` or `%40`, and a domain that ends in letters; also as a SIP address (`sip:alice@…`)',
    'names of hosts alone, the user of a URL (`redis://default@…`), packages (`lodash@4.17.21`), files (`logo@2x.png`), SIP’s Call-ID and ids of mails when the part before the `@` is a UUID or 14 or more hexadecimal digits, SIP users of digits alone (`sip:1001@…`)',
  ],
  ipAddresses: [
    'IPv4 and IPv6 (RFC 4291, shortened, with an IPv4 address in it), private, loopback and link-local ones too; in `[…]` with its brackets',
    'ports, zones (`%eth0`) and prefixes (`/8`); MAC addresses; a version, which looks the same: behind `v`, `version`, `release`, `build`, under such a key, and in the name of a browser (`Chrome/120.0.0.0`); four numbers without such a word are an address; `::` alone',
  ],
};

export function secretsDocs(): string {
  const names = new Map<KeyKind, string[]>();
  for (const [name, kind] of secretNames()) names.set(kind, [...(names.get(kind) ?? []), name]);
  const heads = FORM_RULES.filter(({ id }) => FORMS[id] === undefined);
  check();
  return document([
    `# Secrets

What looks like a secret is replaced with \`[masked]\`, and the document gets the tag \`_masked\`. This happens in the
application’s transport, and again at the intake, because not every record comes through the transport; in dead letters (unless
\`dlq.keepRaw\` is on); in records that the command line shows; and in notifications and incident reports. The same rules
apply everywhere. Their cost is linear in the text’s length; a text that cannot be masked, for whatever reason, becomes
\`[masked]\` as a whole. \`logpipe parse --explain\` shows in which fields of a line something was masked, and of what kind.

## By the key

A key is split into words where case or punctuation changes, and judged by how it *ends*: \`dbPassword\`, \`db.pass\`, \`X-Api-Key\`
and \`Pass Word\` are secret; \`passwordReset\`, \`token_count\`, \`apiKeyId\`, \`secretary\` and \`pincode\` are not. Words such as
\`value\`, \`hash\`, \`new\`, \`confirm\` and digits at the end do not matter. Booleans and \`null\` stay. In lists and objects below a secret
key, all texts are masked, and so are keys that look random. Two keys may form one name: \`card: { code }\`,
\`api: { key }\`, \`session: { id }\`. In \`{ "name": "X-Api-Key", "value": … }\`, JSON patches, \`["--password", "…"]\` and Node’s
\`rawHeaders\`, the value is masked.

${table(
  ['kind', 'what is masked', 'names, without case and punctuation'],
  Object.entries(KINDS).map(([kind, what]) => [code(kind), what, (names.get(kind as KeyKind) ?? []).sort().join(', ')]),
)}

## By its form, wherever it stands

Tokens with a known head, followed by at least as many characters as such a token has.

${table(
  ['rule', 'heads'],
  heads.map(({ id, anchors }) => [
    code(id),
    [...new Set(anchors)].map((anchor) => code(`${anchor.trim()}…`)).join(' '),
  ]),
)}

Forms with more to them:

${table(
  ['rule', 'what', 'example'],
  Object.entries(FORMS).map(([id, [what, example]]) => [code(id), what, example]),
)}

## By the words around it

${table(
  ['rule', 'what', 'examples'],
  [...TEXTS, ...BY_LINE].map(([id, what, examples]) => [code(id), what, examples]),
)}

## What cannot be masked

- A secret without a recognisable beginning, under a name that says nothing: \`"data": "hunter2"\`, \`"x": "…"\`.
- A password in a sentence that does not look random: \`the password hunter\` (\`password: hunter\` is masked).
- A secret that was encrypted, compressed or encoded (base64, hexadecimal) before it was logged, except under a secret key and
  except private keys in PEM; a secret that is split over several records.
- Numbers: a card number as a JSON number under an ordinary key; a code of digits in a sentence that does not name it.
- A passphrase of several words after \`password:\` in a text without quotes: its first word is masked. Under a key all of it is.
- Names and postal addresses: they are personal, but have no form of their own. Leave them out of what you log. For phone numbers,
  e-mail and IP addresses there are [switches](#personal-data).
- Field names: a secret within a *name* stays visible unless something marks it as one.
- The other way round, ordinary text is sometimes masked: what looks random after \`token\` may have been an id.

Masking is the second line of defence. The first is not to log a secret.

## Personal data

Phone numbers, e-mail addresses and IP addresses are no secrets, and often what a log is searched for. So they stay unless you say
otherwise:

\`\`\`yaml
mask:
  phoneNumbers: true   # becomes ${code(PHONE)}
  emailAddresses: true # becomes ${code(EMAIL)}
  ipAddresses: true    # becomes ${code(IP)}
\`\`\`

The transport’s option \`mask\` has the same three: what it masks never leaves the application. Set them in both places, for other
producers and for the dead letters. They work as masking of secrets does: in every text at any depth, in keys, in notifications and in
what commands print, with the tag \`_masked\`. While all three are off nothing is looked for. Every number or address gets the same
mask: two callers cannot be told apart any more, so search by \`callId\`, \`requestId\` or \`traceId\`.

${table(
  ['switch', 'what is masked', 'what stays'],
  PERSONAL_SWITCHES.map((name) => [name, ...PERSONAL[name]] as const).map(([name, masked, stays]) => [
    code(`mask.${name}`),
    masked,
    stays,
  ]),
)}

When in doubt, it is masked. Good to know before you switch it on:

- A JSON number under a key that names a phone number, such as \`"to": 4915112345678\`, becomes the text ${code(PHONE)}. An index that has
  the field as a number already refuses that; the value then goes to \`extra\` (\`_mapping_degraded\`) until the next day’s index.
  No field of the catalogue is affected: a masked text is a text, and no number of the catalogue is a phone number.
- \`host\` is masked too where an application gives an address as its name, and so are links in rules. Use names.
- Templates of errors have the masks in them, so known errors may count as new once.
- \`check-config\` shows the operator’s own configuration and masks secrets alone.
- Masked although it is none: a version of four numbers behind a program’s name (\`nginx/1.25.3.1\`, \`jdk 17.0.9.11\`), because a
  host’s name and address are written the same way; ten or more digits behind \`from\` or \`to\` that are an account or an amount and do
  not begin with 1; a coordinate with a plus (\`+48.85661400\`) without a word such as \`lat\` or \`coords\` before it.
- Not found: numbers written in words or in other digits than 0 to 9; addresses in base64, in hexadecimal or in names such as
  \`ip-10-0-0-1\` and \`10.0.0.1_access.log\`; IPv6 addresses whose colons are written \`%3A\`; a bare run of digits in a text whose words do not say that it is
  a phone number (\`customer 4155552671\`, \`leg A 4155552671\`, \`/calls/4155552671\`, \`trunk-4155552671\`, \`4155552671_1.wav\`); bare
  digits of fewer than ten behind another number in a list, or under \`to\` and \`from\`; bare numbers there that begin with 1, except
  North America’s; national numbers without a leading zero in other groups than North America’s (\`(415)5552671\`); a second number in pairs of digits
  behind a first one (\`01 23 45 67 89 06 …\`). \`mask.patterns\` can add what your logs have.

## Your own keys and patterns

\`\`\`yaml
mask:
  keys: [doorCode]              # doorCode, door-code, DOOR_CODE; as a key and in texts
  patterns: ['\\bPAT-\\d{6}\\b'] # regular expressions; each whole match is masked
\`\`\`

The transport has the same option \`mask\`. Give both the same values, or a secret that the intake would mask stays in Kafka.
A key also covers a catalogue field of that name. A pattern sees each text by itself, unescaped, in windows of
${WINDOW.toLocaleString('en')} characters that overlap by ${OVERLAP.toLocaleString('en')}: that is the longest match which is
sure to be found, and \`^\` and \`$\` match at a window’s ends in a longer text. A pattern that may take exponential time, such as
\`(a+)+b\`, is refused by \`logpipe check-config\` and by the transport. Several \`.*\` in one pattern are permitted, but slow.
With patterns, every text of every record is tried against each of them: some microseconds per event.`,
  ]);
}

/** @throws Error when the page misses a rule, or describes one that does not exist */
function check(): void {
  const known = new Set([...FORM_RULES, ...createTextRules(() => false)].map(({ id }) => id));
  const told = [...Object.keys(FORMS), ...TEXTS.map(([id]) => id)];
  for (const id of told)
    if (!known.has(id)) throw new Error(`docs/secrets.md tells of the rule ${id}, which does not exist`);
  for (const { id } of createTextRules(() => false))
    if (!told.includes(id)) throw new Error(`docs/secrets.md does not tell of the rule ${id}`);
  const masker = createMasker();
  for (const name of secretNames().keys()) {
    const oneWord = name === 'pincode' || name === 'seed' || name === 'pan';
    if (!oneWord && !masker.isSecretKey(name))
      throw new Error(`docs/secrets.md names the key ${name}, which is not secret`);
  }
}
