// The configured channels, and which priority goes to which. Guarantee: a channel without configuration is left out and
// said once.
import type { Writable } from 'node:stream';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import { visible } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import {
  type Channel,
  type ChannelName,
  headline,
  isoTime,
  maskNotification,
  type Notification,
  oneLine,
  type SendResult,
  severityWord,
} from '../incidents/notification.ts';
import type { Priority } from '../rules/observation.ts';
import { createEmail } from './email.ts';
import { createPagerDuty, createSlack, createWebhook } from './http-channels.ts';
import { errorCode } from './http-send.ts';
import type { NotifyConfig } from './notify-config.ts';
import { type LinkOptions, tellStory } from './story.ts';

export interface ChannelsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  /** Where the console channel prints. */
  readonly out: Writable;
}

const EVERY_MESSAGE = ['webhook', 'console'] as const;
const BY_PRIORITY: Readonly<Record<Priority, readonly ChannelName[]>> = {
  P1: ['pagerduty', 'slack', 'email', ...EVERY_MESSAGE],
  P2: ['slack', 'email', ...EVERY_MESSAGE],
  P3: ['slack', ...EVERY_MESSAGE],
  P4: [],
};

/**
 * Channels a message of this priority goes to, configured or not. `history` is not among them: it gets every
 * transition.
 */
export function channelsFor(priority: Priority): readonly ChannelName[] {
  return BY_PRIORITY[priority];
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID for an address or key from a file that is none. */
export function createChannels(config: NotifyConfig, deps: ChannelsDeps): ReadonlyMap<ChannelName, Channel> {
  const { timeoutMs, slack, pagerduty, email, webhook } = config;
  const links: LinkOptions = {
    ...(config.kibanaUrl === undefined ? {} : { kibanaUrl: config.kibanaUrl }),
    ...(config.runbookBaseUrl === undefined ? {} : { runbookBaseUrl: config.runbookBaseUrl }),
  };
  const channels = new Map<ChannelName, Channel>();
  const add = (channel: Channel) => channels.set(channel.name, channel);
  const skip = (name: ChannelName, key: string) =>
    deps.log.info(`Channel ${name} is not configured: skipped`, { set: `notify.${name}.${key}` });

  if (slack.webhookUrl === undefined) skip('slack', 'webhookUrl');
  else add(createSlack({ ...slack, webhookUrl: slack.webhookUrl, timeoutMs, links }, deps));

  if (pagerduty.integrationKey === undefined) skip('pagerduty', 'integrationKey');
  else add(createPagerDuty({ ...pagerduty, integrationKey: pagerduty.integrationKey, timeoutMs }, deps));

  const { host, from, to } = email;
  if (host === undefined || from === undefined || to === undefined) skip('email', 'host');
  else add(createEmail({ ...email, host, from, to, timeoutMs, links }, deps));

  if (webhook.url === undefined) skip('webhook', 'url');
  else add(createWebhook({ ...webhook, url: webhook.url, timeoutMs }, deps));

  if (config.console.enabled) add(createConsole({ links }, deps));
  if (channels.size === 0) deps.log.warn('No notification channel is configured: alerts are only logged');
  return channels;
}

// Messages on standard output. In: a notification. Out: a few lines for people. Guarantee: nothing in a message moves
// the reader's cursor; an output that has gone away is not written to for ever.

function createConsole(options: { readonly links: LinkOptions }, deps: { out: Writable; masker: Masker }): Channel {
  return {
    name: 'console',
    ratePerSecond: 1_000,
    send(notification) {
      const text = consoleText(maskNotification(notification, deps.masker), options.links);
      return new Promise<SendResult>((resolve) => {
        deps.out.write(text, (error) => {
          if (error == null) return resolve({ ok: true });
          // A closed pipe does not open again.
          resolve({ ok: false, retryable: false, reason: `output failed: ${errorCode(error)}` });
        });
      });
    },
    async close() {},
  };
}

function consoleText(notification: Notification, options: LinkOptions): string {
  const { facts, links } = tellStory(notification, options);
  const lines = [
    `${isoTime(notification.atMs)} ${severityWord(notification)}: ${headline(notification)}`,
    `  ${notification.message}`,
    ...facts.flatMap(({ label, lines: [first = '', ...more] }) => [
      `  ${label}: ${first}`,
      ...more.map((line) => `    ${line}`),
    ]),
    ...links.map(({ label, url }) => `  ${label}: ${url}`),
  ];
  return lines.map((line) => `${/^ */.exec(line)![0]}${visible(oneLine(line))}\n`).join('');
}
