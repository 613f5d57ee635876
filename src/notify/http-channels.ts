// The channels over HTTP: Slack, PagerDuty, a receiver of the operator's own. In: a notification. Out: one request. Guarantee: masked,
// escaped, within the service's limits; a message counts as sent only when the service's own answer says so.
import { createHash } from 'node:crypto';
import { LogpipeError } from '../core/errors.ts';
import {
  actionLinks,
  alertLines,
  answerText,
  type Channel,
  type ChannelName,
  CUT,
  clean,
  cut,
  cutEscaped,
  escapeSlack,
  type Fact,
  headline,
  isoTime,
  type LinkOptions,
  list,
  maskNotification,
  type NamedPerson,
  type Notification,
  ON_CALL,
  oneLine,
  peopleText,
  type Story,
  tellStory,
} from '../incidents/notification.ts';
import { createHttpSend, type HttpSendDeps } from './http-send.ts';
import type { NotifyConfig } from './notify-config.ts';

// ---- Slack, by an incoming webhook ----
// `text` and a first attachment in the form that the operators' guide prescribes, and a second attachment for people.

// Slack splits a `text` of more than 4,000 characters into several messages and cuts an attachment's text at 8,000. For fields we
// take the limit of its newer kind, 2,000.
const MAX_TEXT = 3_000;
const MAX_FIELD = 2_000;
const MAX_ATTACHMENT = 6_000;

interface SlackOptions {
  /** `slack`, or that of a team. */
  readonly name: ChannelName;
  /** The address's place in the configuration. */
  readonly place: string;
  readonly webhookUrl: string;
  readonly username?: string;
  readonly ratePerSecond: number;
  readonly timeoutMs: number;
  readonly links: LinkOptions;
}

export function createSlack(options: SlackOptions, deps: HttpSendDeps): Channel {
  const send = createHttpSend(
    {
      url: options.webhookUrl,
      place: options.place,
      timeoutMs: options.timeoutMs,
      quote: true,
      confirm: isSlacksOwn(options.webhookUrl) ? sayOk : () => undefined,
    },
    deps,
  );
  return {
    name: options.name,
    ratePerSecond: options.ratePerSecond,
    send: async (notification, signal) => {
      const message = slackMessage(maskNotification(notification, deps.masker), options.links, options.name);
      return send(options.username === undefined ? message : { username: options.username, ...message }, signal);
    },
    async close() {},
  };
}

/** Other services with the same interface answer differently. */
function isSlacksOwn(url: string): boolean {
  return URL.canParse(url) && /(?:^|\.)slack(?:-gov)?\.com\.?$/.test(new URL(url).hostname);
}

function sayOk(words: string): string | undefined {
  const text = words.trim();
  if (text === 'ok') return undefined;
  return text === '' ? 'an empty body instead of “ok”' : 'something other than “ok”';
}

/** The request body. @param notification already masked */
export function slackMessage(notification: Notification, links: LinkOptions, channel: ChannelName = 'slack'): object {
  const { message, metadata, atMs, environment, action } = notification;
  const color = colorOf(notification);
  const fields = [
    { title: 'Message', value: field(message), short: false },
    { title: 'Timestamp', value: isoTime(atMs), short: true },
    { title: 'Environment', value: field(environment), short: true },
  ];
  if (metadata !== undefined) {
    fields.push({ title: 'Metadata', value: field(JSON.stringify(metadata, null, 2)), short: false });
  }
  const attachments: object[] = [{ color, fields }];
  const story = tellStory(notification, links);
  const text = storyText({
    facts: story.facts.filter(({ label }) => label !== ON_CALL),
    links: [...actionLinks(notification, channel, links), ...story.links],
  });
  if (text !== '') attachments.push({ color, mrkdwn_in: ['text'], text });
  const head = action === 'inform' ? '🗓️ ' : `${headOf(notification)}: `;
  const first = cutEscaped(oneLine(`${head}${headline(notification)}`), MAX_TEXT, escapeSlack);
  return { text: [first, ...mentions(notification)].join('\n'), attachments };
}

/** Slack notifies people who are mentioned in the text itself, not in an attachment. */
function mentions(notification: Notification): string[] {
  if (notification.action !== 'trigger') return [];
  const people = peopleText(notification, mention);
  return people === '' ? [] : [[people, answerText(notification) ?? []].flat().join(': ')];
}

const MAX_PERSON = 60;

/** A name cannot mention anybody; an id can, so it must be one. */
function mention({ name, slackId = '' }: NamedPerson): string {
  return /^[UW][A-Z0-9]{2,20}$/.test(slackId) ? `<@${slackId}>` : cutEscaped(oneLine(name), MAX_PERSON, escapeSlack);
}

function headOf({ action, severity }: Notification): string {
  if (action === 'resolve') return '✅ RESOLVED';
  if (action === 'acknowledge') return '👀 ACKNOWLEDGED';
  return { critical: '🚨 CRITICAL', warning: '⚠️ WARNING', info: 'ℹ️ INFO' }[severity];
}

function colorOf({ action, severity }: Notification): string {
  if (action === 'resolve') return 'good';
  return { critical: 'danger', warning: 'warning', info: '#439FE0' }[severity];
}

function field(text: string): string {
  return cutEscaped(clean(text), MAX_FIELD, escapeSlack);
}

/** Cut between lines, so that no entity or address is split; the links always stay at the end. */
function storyText({ facts, links }: Story): string {
  const tail = links.map(({ label, url }) => `<${address(url)}|${label}>`).join(' · ');
  const lines: string[] = [];
  let length = tail.length + CUT.length + 2;
  for (const line of facts.flatMap(factLines)) {
    length += line.length + 1;
    if (length > MAX_ATTACHMENT) {
      lines.push(CUT);
      break;
    }
    lines.push(line);
  }
  if (tail !== '') lines.push(tail);
  return lines.join('\n');
}

function factLines(fact: Fact): string[] {
  const label = escapeSlack(fact.label);
  const [first = '', ...more] = fact.lines.map(escapeSlack);
  if (more.length === 0) return [`*${label}:* ${first}`];
  return [`*${label}:*`, ...[first, ...more].map((line) => `• ${line}`)];
}

function address(url: string): string {
  return escapeSlack(url.replace(/[<>|"]/g, encodeURIComponent));
}

// ---- PagerDuty, by the Events API v2 ----
// Trigger, acknowledge and resolve of an incident share its dedup key, so that an event that is sent twice changes nothing.

const MAX_DEDUP_KEY = 255;
const MAX_SUMMARY = 1_024;
const MAX_MESSAGE = 10_000;
// A whole event may have 512 kB, and a character takes up to 6 bytes (as \uXXXX).
const MAX_METADATA = 50_000;
const HASH_LENGTH = 64;

interface PagerDutyOptions {
  /** `pagerduty`, or that of a team or a person. */
  readonly name: ChannelName;
  /** The key's place in the configuration. */
  readonly place: string;
  readonly url: string;
  readonly integrationKey: string;
  readonly ratePerSecond: number;
  readonly timeoutMs: number;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID when the key (perhaps from a secret file) is empty. */
export function createPagerDuty(options: PagerDutyOptions, deps: HttpSendDeps): Channel {
  const { integrationKey } = options;
  if (integrationKey === '') {
    throw new LogpipeError('LOGPIPE_CONFIG_INVALID', `${options.place}: is empty; name the key`);
  }
  const send = createHttpSend(
    {
      url: options.url,
      place: 'notify.pagerduty.url',
      timeoutMs: options.timeoutMs,
      quote: true,
      confirm: (words) => notAccepted(words, isPagerDutysOwn(options.url)),
      secrets: [integrationKey],
    },
    deps,
  );
  return {
    name: options.name,
    ratePerSecond: options.ratePerSecond,
    send: async (notification, signal) => {
      // It would open an incident that nothing ends.
      if (notification.action === 'inform') {
        return { ok: false, retryable: false, reason: 'the daily mail never goes to PagerDuty' };
      }
      return send(pagerDutyEvent(maskNotification(notification, deps.masker), integrationKey), signal);
    },
    async close() {},
  };
}

/** Other receivers with the same interface may send an empty answer. */
function isPagerDutysOwn(url: string): boolean {
  return URL.canParse(url) && /(?:^|\.)pagerduty\.com\.?$/.test(new URL(url).hostname);
}

/** @param strict an answer without JSON proves nothing */
function notAccepted(words: string, strict: boolean): string | undefined {
  let answer: unknown;
  try {
    answer = JSON.parse(words);
  } catch {
    return strict ? 'something other than its JSON' : undefined;
  }
  if (typeof answer !== 'object' || answer === null) return strict ? 'something other than its JSON' : undefined;
  return (answer as { status?: unknown }).status === 'success' ? undefined : 'JSON without “status: success”';
}

/** The request body. @param notification already masked */
export function pagerDutyEvent(notification: Notification, routingKey: string): object {
  const { action, message, metadata, severity, atMs, alerts, joined } = notification;
  const head = { routing_key: routingKey, event_action: action, dedup_key: dedupKey(notification.dedupKey) };
  // The API takes a payload for triggers only.
  if (action !== 'trigger') return head;
  return {
    ...head,
    payload: {
      summary: cut(oneLine(headline(notification)), MAX_SUMMARY),
      severity,
      source: 'calling-platform',
      custom_details: {
        message: cut(clean(message), MAX_MESSAGE),
        ...(metadata === undefined ? {} : { metadata: bounded(metadata) }),
        timestamp: isoTime(atMs),
        // The operators' guide only describes incidents of one alert.
        ...(alerts.length < 2 ? {} : { alerts: list(alertLines(alerts)) }),
        ...(joined.length === 0 ? {} : { joined: list(joined) }),
      },
    },
  };
}

/** The same long key always becomes the same short one. */
function dedupKey(key: string): string {
  if (key.length <= MAX_DEDUP_KEY) return key;
  const hash = createHash('sha256').update(key).digest('hex');
  return `${key.slice(0, MAX_DEDUP_KEY - HASH_LENGTH - 1)}-${hash}`;
}

function bounded(metadata: Readonly<Record<string, unknown>>): unknown {
  const text = JSON.stringify(metadata);
  return text.length <= MAX_METADATA ? metadata : cut(text, MAX_METADATA);
}

// ---- webhook: a receiver of the operator's own ----
// It gets the whole notification as JSON. Its answer is never quoted, because it may hold anything.

interface WebhookOptions {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly ratePerSecond: number;
  readonly timeoutMs: number;
}

export function createWebhook(options: WebhookOptions, deps: HttpSendDeps): Channel {
  const send = createHttpSend(
    {
      url: options.url,
      place: 'notify.webhook.url',
      timeoutMs: options.timeoutMs,
      quote: false,
      ...(options.headers === undefined ? {} : { headers: options.headers }),
    },
    deps,
  );
  return {
    name: 'webhook',
    ratePerSecond: options.ratePerSecond,
    send: async (notification, signal) => send(maskNotification(notification, deps.masker), signal),
    async close() {},
  };
}

/** What a channel needs besides the section: a name, and for one of a team or a person its own address or key. */
export interface ChannelOf {
  readonly name: ChannelName;
  /** Where its address or key stands. */
  readonly place: string;
}

/** Returns a channel, or the key that is missing from its section. */
export type MakeChannel<Deps = HttpSendDeps> = (
  config: NotifyConfig,
  links: LinkOptions,
  deps: Deps,
  of?: ChannelOf,
) => Channel | string;

/** The channels over HTTP, by kind. */
export const HTTP_CHANNELS = {
  slack({ slack, timeoutMs }, links, deps, of = { name: 'slack', place: 'notify.slack.webhookUrl' }) {
    const { webhookUrl } = slack;
    return webhookUrl === undefined
      ? 'webhookUrl'
      : createSlack({ ...slack, ...of, webhookUrl, timeoutMs, links }, deps);
  },
  pagerduty(
    { pagerduty, timeoutMs },
    _links,
    deps,
    of = { name: 'pagerduty', place: 'notify.pagerduty.integrationKey' },
  ) {
    const { integrationKey } = pagerduty;
    return integrationKey === undefined
      ? 'integrationKey'
      : createPagerDuty({ ...pagerduty, ...of, integrationKey, timeoutMs }, deps);
  },
  webhook({ webhook, timeoutMs }, _links, deps) {
    const { url } = webhook;
    return url === undefined ? 'url' : createWebhook({ ...webhook, url, timeoutMs }, deps);
  },
} as const satisfies Readonly<Record<string, MakeChannel>>;
