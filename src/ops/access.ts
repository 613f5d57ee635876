// Who may read and change alerts over HTTP: bearer tokens and what each may do, sessions of the page, links that act once for whoever got
// them, signatures of PagerDuty's webhooks, and how often an address may be wrong. In: the `http` section and what a request carries. Out: who it is, or why
// not. Guarantee: secrets are compared in constant time and are in no message; what is altered by one bit is refused; memory is bounded,
// however many addresses try.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../core/clock.ts';
import type { ConfigProblem } from '../core/config-loader.ts';
import { oneLine } from '../core/safe-json.ts';
import { MASK } from '../core/secrets/mask.ts';
import type { LinkOptions } from '../incidents/notification.ts';

// ---- keys of the `http` section ----

/** `read`: alerts, silences, who is on call, rates. `act`: acknowledge, resolve, silence. */
export const SCOPES = ['read', 'act'] as const;
export type Scope = (typeof SCOPES)[number];

const MIN_TOKEN = 16;
const MIN_SECRET = 32;
const MAX_TOKEN = 512;

export const accessProperties = {
  tokens: {
    type: 'array',
    description:
      'Who may call the alerts’ API: each with a `name`, which the history of alerts repeats, its `token` (or `tokenFile`), a secret of at least 16 characters, and `scopes`: `read`, `act` or both. See docs/api.md.',
    items: {
      type: 'object',
      additionalProperties: false,
      required: ['name'],
      dependentRequired: { name: ['token'] },
      properties: {
        name: {
          type: 'string',
          pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$',
          permitted: 'letters, digits, dots, hyphens and underscores, 40 at most',
        },
        token: { type: 'string', secret: true },
        scopes: { type: 'array', items: { enum: SCOPES }, minItems: 1, uniqueItems: true, default: ['read'] },
      },
    },
  },
  publicUrl: {
    type: 'string',
    pattern: '^https?://[^\\s/?#@]+(?:/[^\\s?#]*)?$',
    permitted: 'an address that begins with https:// or http://, without user, query and fragment',
    description:
      'Address under which people reach this server from outside, for the links in messages; without it messages have no links. It needs `linkSecrets`. Its name counts as one of `allowedHosts`.',
  },
  linkSecrets: {
    type: 'array',
    secret: true,
    minItems: 1,
    items: { type: 'string', secret: true },
    description:
      'Secrets that sign the links, of at least 32 characters, the same in all instances. Links are signed with the first; while it is being replaced, list the former one after it. Also `linkSecretsFile`, one a line.',
  },
} as const;

export interface TokenConfig {
  readonly name: string;
  readonly token: string;
  readonly scopes: readonly Scope[];
}

export interface AccessConfig {
  readonly tokens?: readonly TokenConfig[];
  readonly publicUrl?: string;
  readonly linkSecrets?: readonly string[];
}

/** What the schema cannot tell, because secrets may come from files. No secret is repeated. */
export function accessProblems(
  { tokens = [], publicUrl, linkSecrets = [] }: AccessConfig,
  webhookSecrets: readonly string[] = [],
): ConfigProblem[] {
  const found: ConfigProblem[] = [];
  const names = tokens.map(({ name }) => name);
  for (const [i, { name, token }] of tokens.entries()) {
    if (name === PAGE_NAME) {
      const message = 'is what the history calls the sessions of the page';
      found.push({ path: `http.tokens.${i}.name`, value: JSON.stringify(name), message, fix: 'give it another' });
    }
    if (names.indexOf(name) < i) {
      const message = `is the name of http.tokens.${names.indexOf(name)} too, and the history names tokens`;
      found.push({ path: `http.tokens.${i}.name`, value: JSON.stringify(name), message, fix: 'give it another' });
    }
    if (typeof token !== 'string') continue;
    const path = `http.tokens.${i}.token`;
    found.push(...tooShort(path, token, MIN_TOKEN));
    if (token.length > MAX_TOKEN || !/^[\w.~+/=-]+$/.test(token)) {
      const message = `permitted: letters, digits and - . _ ~ + / =, at most ${MAX_TOKEN} characters`;
      found.push({ path, value: MASK, message, fix: '`openssl rand -hex 32` makes a good one' });
    }
    if (tokens.findIndex((other) => other.token === token) < i) {
      const message = 'is the token of another name too, so nobody could tell which of them acted';
      found.push({ path, value: MASK, message, fix: 'give each a token of its own' });
    }
  }
  for (const [i, secret] of linkSecrets.entries()) found.push(...tooShort(`http.linkSecrets.${i}`, secret, MIN_SECRET));
  for (const [i, secret] of webhookSecrets.entries()) {
    found.push(...tooShort(`notify.pagerduty.webhookSecrets.${i}`, secret, MIN_TOKEN));
  }
  if (publicUrl !== undefined && !URL.canParse(publicUrl)) {
    const message = `permitted: ${accessProperties.publicUrl.permitted}`;
    found.push({ path: 'http.publicUrl', value: JSON.stringify(publicUrl), message });
  }
  if (publicUrl !== undefined && linkSecrets.length === 0) {
    const message = 'links would have no signature, because http.linkSecrets is missing';
    found.push({ path: 'http.publicUrl', value: JSON.stringify(publicUrl), message, fix: 'set it, or leave this out' });
  }
  return found;
}

function tooShort(path: string, secret: unknown, least: number): ConfigProblem[] {
  if (typeof secret !== 'string' || secret.length >= least) return [];
  const fix = '`openssl rand -hex 32` makes a good one';
  return [{ path, value: MASK, message: `needs ${least} characters at least`, fix }];
}

// ---- tokens ----

/** Whom a token stands for. */
export interface Holder {
  readonly name: string;
  readonly scopes: ReadonlySet<Scope>;
  /** Of a session, by the wall clock. */
  readonly expiresMs?: number;
}

/** Whose token it is; takes as long for any text of the same length. */
export function createTokens(tokens: readonly TokenConfig[]): (presented: string) => Holder | undefined {
  // Both sides are hashed with a key nobody knows: what can be timed says nothing about the token.
  const key = randomBytes(32);
  const hashed = (text: string) => createHmac('sha256', key).update(text).digest();
  const known = tokens.map(({ name, token, scopes }) => ({
    hash: hashed(token),
    holder: { name, scopes: new Set(scopes) },
  }));
  return (presented) => {
    const given = hashed(presented);
    let found: Holder | undefined;
    for (const { hash, holder } of known) if (timingSafeEqual(hash, given)) found = holder;
    return found;
  };
}

/** The token of an Authorization header; undefined for any other form. */
export function bearerToken(header: string): string | undefined {
  return header.length > MAX_TOKEN + 100 ? undefined : /^Bearer +([\w.~+/=-]+) *$/i.exec(header)?.[1];
}

// ---- tokens of the page: one that opens a session, once, and the session's own ----
// Signed, not stored: every instance with the same secrets takes them, after a restart too.

/** The name of the page's tokens in the history of alerts. */
export const PAGE_NAME = 'page';

export type PassKind = 'once' | 'session';
const PASS_MS: Readonly<Record<PassKind, number>> = { once: 15 * 60_000, session: 12 * 3_600_000 };
const PASS_VERSION = 1;

export interface Pass {
  readonly scopes: readonly Scope[];
  readonly expiresMs: number;
  readonly id: string;
}

/** @param nowMs by the wall clock, from which it holds for 15 minutes, or 12 hours */
export function signPass(
  kind: PassKind,
  secret: string,
  { scopes, nowMs }: { readonly scopes: readonly Scope[]; readonly nowMs: number },
): { readonly token: string; readonly expiresMs: number } {
  const expiresMs = nowMs + PASS_MS[kind];
  const content = { v: PASS_VERSION, s: scopes, e: expiresMs, i: randomBytes(12).toString('base64url') };
  const payload = Buffer.from(JSON.stringify(content)).toString('base64url');
  return { token: `${payload}.${signatureOf(`page ${kind}`, payload, secret)}`, expiresMs };
}

/** @param secrets any of them may have signed */
export function createPassReader(
  kind: PassKind,
  secrets: readonly string[],
  clock: Pick<Clock, 'now'>,
): (token: string) => Pass | 'altered' | 'expired' {
  return (token) => {
    const payload = signedPayload(`page ${kind}`, token, secrets);
    const pass = payload === undefined ? undefined : passOf(payload);
    if (pass === undefined) return 'altered';
    return clock.now() >= pass.expiresMs ? 'expired' : pass;
  };
}

function passOf(payload: string): Pass | undefined {
  try {
    const { v, s, e, i } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
    if (v !== PASS_VERSION || !Array.isArray(s) || typeof e !== 'number' || typeof i !== 'string') return undefined;
    return { scopes: SCOPES.filter((scope) => s.includes(scope)), expiresMs: e, id: i };
  } catch {
    return undefined;
  }
}

// ---- failures, by address ----

const WINDOW_MS = 60_000;

export interface Failures {
  /** How long the address has to wait, ms; 0: it may ask. */
  waitMs(address: string): number;
  /** True when the address has to wait from now on. */
  failed(address: string): boolean;
}

/** @param most failures per minute; `addresses`: so many are remembered, those that failed last */
export function createFailures(
  clock: Pick<Clock, 'monotonicMs'>,
  { most = 20, addresses = 10_000 }: { readonly most?: number; readonly addresses?: number } = {},
): Failures {
  const times = new Map<string, number[]>();
  const young = (address: string, nowMs: number) =>
    (times.get(networkOf(address)) ?? []).filter((ms) => nowMs - ms < WINDOW_MS);
  return {
    waitMs(address) {
      const nowMs = clock.monotonicMs();
      const recent = young(address, nowMs);
      return recent.length < most ? 0 : recent[recent.length - most]! + WINDOW_MS - nowMs;
    },
    failed(address) {
      const nowMs = clock.monotonicMs();
      const recent = [...young(address, nowMs), nowMs].slice(-most);
      times.delete(networkOf(address));
      times.set(networkOf(address), recent);
      const [oldest] = times.keys();
      if (times.size > addresses && oldest !== undefined) times.delete(oldest);
      return recent.length >= most;
    },
  };
}

/** Whoever has one IPv6 address has the 2^64 of its network. */
function networkOf(address: string): string {
  const mapped = /^::ffff:([\d.]+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('%', 1)[0]!.split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const filled =
    tail === undefined
      ? groups
      : [...groups, ...Array(Math.max(0, 8 - groups.length - after.length)).fill('0'), ...after];
  return filled.slice(0, 4).join(':');
}

// ---- where a request comes from ----

/** Headers that a proxy adds: the connection is then the proxy's, and says nothing of who asks. */
const OF_PROXIES =
  /^(?:forwarded|via|x-forwarded.*|x-real-ip|x-client-ip|x-cluster-client-ip|x-original-.*|x-envoy-.*|x-amzn-.*|cf-.*|true-client-ip|fastly-client-ip|fly-client-ip|client-ip)$/;

/** True when a program on this machine asks, and nobody else through it. */
export function isFromHere({ socket, headers }: IncomingMessage): boolean {
  return isLoopback(socket.remoteAddress ?? '') && !Object.keys(headers).some((name) => OF_PROXIES.test(name));
}

export function isLoopback(address: string): boolean {
  return address === '::1' || /^(?:::ffff:)?127\./i.test(address);
}

/** The values of a header, one for each time that it was sent. */
export function valuesOf({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>, name: string): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]!.toLowerCase() === name);
}

// ---- links that act ----

/** A link works for so long from the time of its message on. */
const LINK_MS = 24 * 3_600_000;
const LINK_VERSION = 1;
const MAX_PAYLOAD = 800;

const LINK_ACTIONS = ['acknowledge', 'resolve'] as const;
export type LinkAction = (typeof LINK_ACTIONS)[number];

export interface Link {
  readonly action: LinkAction;
  readonly incidentId: string;
  /** Whom it was made for: a channel, for a link proves no person. */
  readonly channel: string;
  readonly expiresMs: number;
  /** The same for the same link, whatever secret it was signed with. */
  readonly id: string;
}

type ActionLinks = NonNullable<LinkOptions['actionLinks']>;

/**
 * Makes the links of a message.
 * @param secrets the first one signs
 * @returns undefined without an address or a secret: then messages have no links
 */
export function createActionLinks({
  publicUrl,
  secrets = [],
}: {
  readonly publicUrl: string | undefined;
  readonly secrets: readonly string[] | undefined;
}): ActionLinks | undefined {
  const [secret] = secrets;
  if (publicUrl === undefined || secret === undefined) return undefined;
  const base = publicUrl.replace(/\/+$/, '');
  return (incidentId, channelName, atMs) => {
    const linkTo = (action: LinkAction) => {
      const content = { v: LINK_VERSION, a: action, i: incidentId, c: channelName, e: atMs + LINK_MS };
      const payload = Buffer.from(JSON.stringify(content)).toString('base64url');
      return payload.length > MAX_PAYLOAD ? undefined : `${base}/a/${payload}.${signatureOf('link', payload, secret)}`;
    };
    const acknowledge = linkTo('acknowledge');
    const resolve = linkTo('resolve');
    return acknowledge === undefined || resolve === undefined ? undefined : { acknowledge, resolve };
  };
}

/** `altered`: not signed by any of the secrets. */
export type LinkReading = Link | 'altered' | 'expired';

/** @param secrets any of them may have signed */
export function createLinkReader(
  secrets: readonly string[],
  clock: Pick<Clock, 'now'>,
): (token: string) => LinkReading {
  return (token) => {
    const payload = signedPayload('link', token, secrets);
    const link = payload === undefined ? undefined : contentOf(payload);
    if (link === undefined) return 'altered';
    return clock.now() >= link.expiresMs ? 'expired' : link;
  };
}

type Purpose = 'link' | `page ${PassKind}`;

/** The purpose is signed too: what is signed for one cannot be used as another. */
function signatureOf(purpose: Purpose, payload: string, secret: string): string {
  return createHmac('sha256', secret).update(`logpipe ${purpose} ${payload}`).digest('base64url');
}

/** What was signed, if one of the secrets signed it for this purpose. */
function signedPayload(purpose: Purpose, token: string, secrets: readonly string[]): string | undefined {
  const [, payload, signature] = /^([\w-]{1,800})\.([\w-]{43})$/.exec(token) ?? [];
  if (payload === undefined || signature === undefined) return undefined;
  let isOurs = false;
  // As texts: of the last character, some bits are not part of the signature.
  for (const secret of secrets) isOurs = same(signatureOf(purpose, payload, secret), signature) || isOurs;
  return isOurs ? payload : undefined;
}

function contentOf(payload: string): Link | undefined {
  try {
    const { v, a, i, c, e } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
    if (v !== LINK_VERSION || typeof i !== 'string' || typeof c !== 'string' || typeof e !== 'number') return undefined;
    const action = LINK_ACTIONS.find((one) => one === a);
    const id = createHash('sha256').update(payload).digest('base64url').slice(0, 32);
    return action && { action, incidentId: i, channel: c, expiresMs: e, id };
  } catch {
    return undefined;
  }
}

function same(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// ---- PagerDuty's webhooks (v3) ----
// https://developer.pagerduty.com/docs/verifying-webhook-signatures: `v1=<hex>,v1=<hex>`, one for each secret that is in use there.

const MAX_SIGNATURES = 10;

/** Whether one of the signatures was made of exactly these bytes with one of the secrets. */
export function isSignedByPagerDuty(body: Buffer, header: string, secrets: readonly string[]): boolean {
  const given = header.split(',', MAX_SIGNATURES + 1).map((part) => part.trim());
  if (given.length > MAX_SIGNATURES) return false;
  let isTheirs = false;
  for (const secret of secrets) {
    const expected = `v1=${createHmac('sha256', secret).update(body).digest('hex')}`;
    for (const one of given) isTheirs = same(expected, one) || isTheirs;
  }
  return isTheirs;
}

const DEDUP = /^logpipe\/([\w-]{1,64})$/;
const ACTIONS: Readonly<Record<string, LinkAction>> = {
  'incident.acknowledged': 'acknowledge',
  'incident.resolved': 'resolve',
};

export interface PagerDutyEvent {
  readonly kind: LinkAction;
  readonly incidentId: string;
  readonly by: string;
  readonly occurredMs: number;
  /** Made of the event's own, which a repeated delivery has too. */
  readonly id: string;
}

/** A text says why it is none of our business. */
export function pagerDutyEvent(payload: unknown): PagerDutyEvent | string {
  const { event } = (payload ?? {}) as { readonly event?: unknown };
  const { id, event_type: type, occurred_at: occurredAt, agent, data } = (event ?? {}) as Record<string, unknown>;
  if (typeof id !== 'string' || id === '' || typeof type !== 'string') return 'there is no event in it';
  const kind = Object.hasOwn(ACTIONS, type) ? ACTIONS[type] : undefined;
  // Escalating, and what it takes back, is PagerDuty's own affair.
  if (kind === undefined) return `events of the type ${oneLine(type, 80)} change nothing here`;
  // Of our own messages it says the same, with the integration as the agent; and time alone resolves nothing.
  const { type: agentType, summary } = (agent ?? {}) as Record<string, unknown>;
  if (agentType !== 'user_reference') return 'no person did that';
  const { incident_key: key } = (data ?? {}) as Record<string, unknown>;
  const incidentId = typeof key === 'string' ? DEDUP.exec(key)?.[1] : undefined;
  if (incidentId === undefined) return 'the incident is not one of logpipe';
  const occurredMs = typeof occurredAt === 'string' ? Date.parse(occurredAt) : Number.NaN;
  return {
    kind,
    incidentId,
    by: `${typeof summary === 'string' && summary !== '' ? oneLine(summary, 150) : 'somebody'}, in PagerDuty`,
    occurredMs: Number.isNaN(occurredMs) ? Number.POSITIVE_INFINITY : occurredMs,
    id: createHash('sha256').update(id).digest('base64url').slice(0, 32),
  };
}
