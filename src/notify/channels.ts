// The configured channels, among them the console. In: the `notify` section. Out: a channel by name. Guarantee: a channel without
// configuration is left out, and the log says so once; nothing in a message moves a console reader's cursor.
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
  type LinkOptions,
  maskNotification,
  type Notification,
  oneLine,
  type SendResult,
  severityWord,
  tellStory,
} from '../incidents/notification.ts';
import { createEmail } from './email.ts';
import { HTTP_CHANNELS, type MakeChannel } from './http-channels.ts';
import { errorCode } from './http-send.ts';
import { CHANNELS, type NotifyConfig } from './notify-config.ts';

export interface ChannelsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  /** Where the console channel prints. */
  readonly out: Writable;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID for a secret file that holds no valid address or key. */
export function createChannels(config: NotifyConfig, deps: ChannelsDeps): ReadonlyMap<ChannelName, Channel> {
  const links: LinkOptions = {
    ...(config.kibanaUrl === undefined ? {} : { kibanaUrl: config.kibanaUrl }),
    ...(config.runbookBaseUrl === undefined ? {} : { runbookBaseUrl: config.runbookBaseUrl }),
  };
  const channels = new Map<ChannelName, Channel>();
  for (const name of CHANNELS) {
    if (name === 'history') continue;
    const made = MAKERS[name](config, links, deps);
    if (typeof made !== 'string') channels.set(name, made);
    else if (made !== '')
      deps.log.info(`Channel ${name} is not configured: skipped`, { set: `notify.${name}.${made}` });
  }
  if (channels.size === 0) deps.log.warn('No notification channel is configured: alerts are only logged');
  return channels;
}

const MAKERS: Readonly<Record<Exclude<(typeof CHANNELS)[number], 'history'>, MakeChannel<ChannelsDeps>>> = {
  ...HTTP_CHANNELS,
  email({ email, timeoutMs }, links, deps) {
    const { host, from, to } = email;
    if (host === undefined || from === undefined || to === undefined) return 'host';
    return createEmail({ ...email, host, from, to, timeoutMs, links }, deps);
  },
  // Nobody needs to be told that it is switched off.
  console: (config, links, deps) => (config.console.enabled ? createConsole({ links }, deps) : ''),
};

// ---- messages on standard output: a few lines for people ----

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
