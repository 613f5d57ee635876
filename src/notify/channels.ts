// The configured channels, and which priority goes to which. Guarantee: a channel without configuration is left out and
// said once.
import type { Writable } from 'node:stream';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Masker } from '../core/mask.ts';
import type { Priority } from '../rules/observation.ts';
import { createConsole } from './console.ts';
import { createEmail } from './email.ts';
import type { Channel, ChannelName } from './notification.ts';
import type { NotifyConfig } from './notify-config.ts';
import { createPagerDuty } from './pagerduty.ts';
import { createSlack } from './slack.ts';
import type { LinkOptions } from './story.ts';
import { createWebhook } from './webhook.ts';

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
