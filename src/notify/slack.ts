// Slack incoming webhook. In: a notification. Out: `text` and a first attachment in the form the operators' guide
// prescribes, and a second attachment for people. Guarantee: masked, escaped, within Slack's limits; sent is what Slack
// has answered with its `ok`.

import { createHttpSend, type HttpSendDeps } from './http-send.ts';
import type { Channel, Notification } from './notification.ts';
import { type Fact, type LinkOptions, type Story, tellStory } from './story.ts';
import { CUT, clean, cutEscaped, escapeSlack, headline, isoTime, maskNotification, oneLine } from './text.ts';

// Slack splits a `text` above 4,000 characters into several messages and cuts an attachment's at 8,000; a field has the
// 2,000 of its newer kind.
const MAX_TEXT = 3_000;
const MAX_FIELD = 2_000;
const MAX_ATTACHMENT = 6_000;

export interface SlackOptions {
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
      place: 'notify.slack.webhookUrl',
      timeoutMs: options.timeoutMs,
      quote: true,
      confirm: isSlacksOwn(options.webhookUrl) ? sayOk : () => undefined,
    },
    deps,
  );
  return {
    name: 'slack',
    ratePerSecond: options.ratePerSecond,
    send: async (notification, signal) => {
      const message = slackMessage(maskNotification(notification, deps.masker), options.links);
      return send(options.username === undefined ? message : { username: options.username, ...message }, signal);
    },
    async close() {},
  };
}

/** Services with the same interface answer in words of their own. */
function isSlacksOwn(url: string): boolean {
  return URL.canParse(url) && /(?:^|\.)slack(?:-gov)?\.com\.?$/.test(new URL(url).hostname);
}

function sayOk(words: string): string | undefined {
  const text = words.trim();
  if (text === 'ok') return undefined;
  return text === '' ? 'an empty body instead of “ok”' : 'something else than “ok”';
}

/** The request body. @param notification already masked */
export function slackMessage(notification: Notification, links: LinkOptions): object {
  const { message, metadata, atMs, environment } = notification;
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
  const text = storyText(tellStory(notification, links));
  if (text !== '') attachments.push({ color, mrkdwn_in: ['text'], text });
  return {
    text: cutEscaped(oneLine(`${headOf(notification)}: ${headline(notification)}`), MAX_TEXT, escapeSlack),
    attachments,
  };
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

/** Line by line, so that no cut falls into an entity or an address; the links keep their place at the end. */
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

function factLines({ label, lines }: Fact): string[] {
  const [first = '', ...more] = lines.map(escapeSlack);
  if (more.length === 0) return [`*${label}:* ${first}`];
  return [`*${label}:*`, ...[first, ...more].map((line) => `• ${line}`)];
}

function address(url: string): string {
  return escapeSlack(url.replace(/[<>|"]/g, encodeURIComponent));
}
