// Outbox entries -> channels. In: what was decided and made durable. Out: attempts over independent queues, one for each channel, and
// their results. Guarantee: a message is given up only if it can never be sent; messages of one incident keep their order in a channel,
// each waits until the result of the one before is recorded; nothing is sent without a confirmed term; when the term is lost,
// everything is forgotten.
import { setMaxListeners } from 'node:events';
import type { Writable } from 'node:stream';
import { backoffMs, type Clock, endsWithin, unlessAborted } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { visible } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import {
  type Channel,
  type ChannelName,
  cut,
  isoTime,
  type LinkOptions,
  maskNotification,
  type Notification,
  oneLine,
  type Retry,
  type SendResult,
  subject,
  tellStory,
} from '../incidents/notification.ts';
import type { Routing } from '../oncall/routing.ts';
import { createAlertmanager, type Standing } from './alertmanager.ts';
import { createEmail, createMailer, type Mailer } from './email.ts';
import { type ChannelOf, HTTP_CHANNELS, type MakeChannel } from './http-channels.ts';
import { errorCode } from './http-send.ts';
import { CHANNELS, type NotifyConfig } from './notify-config.ts';

export interface OutboxEntry {
  readonly id: string;
  readonly channel: ChannelName;
  readonly notification: Notification;
  /** Failed attempts so far. */
  readonly attempts: number;
  /** Not before this time, ms; 0 for at once. */
  readonly nextMs: number;
  /** Doubtful answers so far. */
  readonly doubts?: number;
  /** Recipients that an earlier attempt left over. */
  readonly left?: readonly string[];
}

interface DispatcherOptions {
  /** First wait after a failed attempt, ms; doubles. Default 1 s. */
  readonly minBackoffMs?: number;
  /** Longest wait, ms. Default 5 min. */
  readonly maxBackoffMs?: number;
}

interface DispatcherDeps {
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly masker: Masker;
  /** A number in [0, 1) for the jitter. */
  readonly random: () => number;
  /** Asked right before each attempt. False: the term is lost, for good. A rejection: unknown, asked again later. */
  mayISend(): Promise<boolean>;
  /**
   * Called after each attempt; `retry` is set when another one follows. The next message of the incident to this channel
   * waits until it resolves. A rejection: called again later, with backoff.
   */
  onResult(id: string, result: SendResult, retry: Retry | undefined): Promise<void> | void;
}

export interface Dispatcher {
  /** Takes entries in the order of the outbox. Ignores an entry it already has, and every one after the end. */
  add(entries: readonly OutboxEntry[]): void;
  /** These entries left the outbox unsent: they need not be sent any more. */
  forget(ids: Iterable<string>): void;
  /** Entries not yet settled, by channel or in all. */
  pending(channel?: ChannelName): number;
  /** False once the term was lost or `close` was called. */
  active(): boolean;
  /** First phase of stopping: no attempt begins; true when those under way ended and were recorded within `timeoutMs`. */
  drain(timeoutMs: number): Promise<boolean>;
  /** Second phase: ends attempts under way without a result. Unsettled entries stay in the outbox. Repeatable. */
  close(): Promise<void>;
}

export function createDispatcher(options: DispatcherOptions, deps: DispatcherDeps): Dispatcher {
  const queues = new Map<ChannelName, ChannelQueue>();
  const end = new AbortController();
  // Every queue listens, and so does every attempt while it lasts: that is not a leak.
  setMaxListeners(0, end.signal);
  let draining = false;

  function lose(): void {
    if (end.signal.aborted) return;
    deps.log.warn('Another instance holds the alert state: nothing more is sent from here', { unsettled: pending() });
    end.abort();
  }

  function queueOf(name: ChannelName): ChannelQueue {
    const known = queues.get(name);
    if (known !== undefined) return known;
    const created = createChannelQueue(asItIsNow(name, deps.channels), {
      ...deps,
      minBackoffMs: options.minBackoffMs ?? 1_000,
      maxBackoffMs: options.maxBackoffMs ?? 300_000,
      mayBegin: () => !draining && !end.signal.aborted,
      signal: end.signal,
      lose,
    });
    queues.set(name, created);
    return created;
  }

  function pending(channel?: ChannelName): number {
    if (channel !== undefined) return queues.get(channel)?.pending() ?? 0;
    return [...queues.values()].reduce((sum, each) => sum + each.pending(), 0);
  }

  const idle = () => Promise.all([...queues.values()].map((each) => each.idle()));

  return {
    add(entries) {
      if (draining || end.signal.aborted) return;
      for (const entry of entries) queueOf(entry.channel).add(entry);
    },
    forget(dropped) {
      const set = new Set(dropped);
      if (set.size > 0) for (const each of queues.values()) each.forget(set);
    },
    pending,
    active: () => !end.signal.aborted,
    async drain(timeoutMs) {
      draining = true;
      return endsWithin(idle(), timeoutMs, deps.clock.after);
    },
    async close() {
      draining = true;
      end.abort();
      await idle();
    },
  };
}

/** The channel of that name at each moment: the routing may take one away while its queue lasts, and bring it back. */
function asItIsNow(name: ChannelName, channels: DispatcherDeps['channels']): Channel {
  const now = () => channels.get(name) ?? notConfigured(name);
  return {
    name,
    get ratePerSecond() {
      return now().ratePerSecond;
    },
    send: (...message) => now().send(...message),
    async close() {},
  };
}

/** Stands for a channel that the outbox still knows but the configuration does not. */
function notConfigured(name: ChannelName): Channel {
  return {
    name,
    ratePerSecond: 1_000,
    send: async () => ({ ok: false, retryable: false, reason: 'the channel is no longer configured' }),
    async close() {},
  };
}

// ---- one channel's queue ----

/** A message is sent again this often after doubtful answers. */
const MAX_DOUBTS = 3;
/** The remaining recipients of a message that others already have are tried this often: for some eight hours. */
const MAX_ATTEMPTS_FOR_FEW = 100;

/** As the operators' guide writes them in "Failed to send … alert", by kind. */
const LABELS: Readonly<Partial<Record<string, string>>> = {
  slack: 'Slack',
  pagerduty: 'PagerDuty',
  email: 'e-mail',
};

interface ChannelQueueDeps extends DispatcherDeps {
  readonly minBackoffMs: number;
  readonly maxBackoffMs: number;
  /** False once no further attempt may begin. */
  mayBegin(): boolean;
  /** Aborts when everything ends at once. */
  readonly signal: AbortSignal;
  /** The term is lost: every queue ends. */
  lose(): void;
}

interface ChannelQueue {
  add(entry: OutboxEntry): void;
  /** These entries left the outbox unsent; an attempt under way goes on. */
  forget(dropped: ReadonlySet<string>): void;
  pending(): number;
  /** Resolves when no attempt is under way. */
  idle(): Promise<void>;
}

interface Queued {
  readonly entry: OutboxEntry;
  readonly order: number;
  attempts: number;
  doubts: number;
  left: readonly string[] | undefined;
  waiting: boolean;
}

type Failure = Extract<SendResult, { ok: false }>;

function createChannelQueue(channel: Channel, deps: ChannelQueueDeps): ChannelQueue {
  const { clock, log, metrics, signal } = deps;
  const [kind = '', owner] = channel.name.split(':');
  const label = LABELS[kind] ?? kind;
  /** Whose channel it is, where there are several of the kind. */
  const destination = owner === undefined ? {} : { destination: channel.name };
  /** Messages by incident; the first of each is sent next. */
  const incidents = new Map<string, Queued[]>();
  const ids = new Set<string>();
  const cancels = new Set<() => void>();
  /** How many reasons there are for the whole channel to wait: its rate, and a wait the other side asked for. */
  let pauses = 0;
  let order = 0;
  let running: Promise<void> | undefined;
  let sending: Queued | undefined;
  let asked = true;

  signal.addEventListener('abort', () => {
    for (const cancel of [...cancels]) cancel();
    cancels.clear();
    incidents.clear();
    ids.clear();
  });

  function add(entry: OutboxEntry): void {
    if (signal.aborted || ids.has(entry.id)) return;
    const { incidentId } = entry.notification;
    const { attempts, doubts = 0, left } = entry;
    const queued: Queued = { entry, order: order++, attempts, doubts, left, waiting: false };
    const queue = incidents.get(incidentId);
    if (queue === undefined) incidents.set(incidentId, [queued]);
    else {
      queue.push(queued);
      // It goes to all recipients, so the message before it need not wait for its last few any more.
      const [head] = queue as [Queued];
      if (head.left !== undefined) head.waiting = false;
    }
    ids.add(entry.id);
    // The stored time may be another clock's; no wait is longer than the longest backoff.
    const waitMs = Math.min(entry.nextMs - clock.now(), deps.maxBackoffMs);
    if (waitMs > 0) waitFor(queued, waitMs);
    begin();
  }

  function forget(dropped: ReadonlySet<string>): void {
    for (const [incidentId, queue] of incidents) {
      const kept = queue.filter((queued) => queued === sending || !dropped.has(queued.entry.id));
      if (kept.length === 0) incidents.delete(incidentId);
      else incidents.set(incidentId, kept);
    }
    for (const id of dropped) if (id !== sending?.entry.id) ids.delete(id);
    begin();
  }

  /** Waits are timers, not points in time: a wall clock that is set back does not delay an alert. */
  function after(ms: number, fn: () => void): void {
    const cancel = clock.after(ms, () => {
      cancels.delete(cancel);
      fn();
    });
    cancels.add(cancel);
  }

  function waitFor(queued: Queued, ms: number): void {
    queued.waiting = true;
    after(ms, () => {
      queued.waiting = false;
      begin();
    });
  }

  function pause(ms: number): void {
    pauses += 1;
    after(ms, () => {
      pauses -= 1;
      begin();
    });
  }

  function begin(): void {
    if (running !== undefined || pauses > 0 || !deps.mayBegin()) return;
    const next = pick();
    if (next === undefined) return;
    sending = next;
    running = attempt(next).finally(() => {
      running = undefined;
      sending = undefined;
      begin();
    });
  }

  /** The most urgent of the messages that need not wait; among equals the one that came first. */
  function pick(): Queued | undefined {
    let best: Queued | undefined;
    for (const [head] of incidents.values()) {
      if (head === undefined || head.waiting) continue;
      if (best === undefined || before(head, best)) best = head;
    }
    return best;
  }

  async function attempt(queued: Queued): Promise<void> {
    if (!(await permitted()) || !deps.mayBegin()) return;
    const { entry } = queued;
    if (queued.left !== undefined && superseded(entry)) {
      const reason = 'not every recipient took it; they get the incident’s next message in its stead';
      await settle(queued, { ok: false, retryable: false, reason, left: queued.left });
      return;
    }
    pause(1_000 / channel.ratePerSecond);
    const result = await ended(sendSafely(queued));
    if (result === undefined) return;
    queued.attempts += 1;
    if (!result.ok) {
      if (result.doubtful) queued.doubts += 1;
      queued.left = result.left ?? queued.left;
    }
    if (!result.ok && goesOn(queued, result)) {
      const waitMs = Math.max(deps.minBackoffMs, result.retryAfterMs ?? backoff(queued.attempts));
      waitFor(queued, waitMs);
      // Asked to come back later, the whole channel waits: the limit applies to the address, not to the message.
      if (result.retryAfterMs !== undefined) pause(waitMs);
      metrics.notifications.inc({ channel: channel.name, result: 'retried' });
      sayFailure(queued, result.reason, { retryInMs: Math.round(waitMs) });
      const { attempts, doubts, left } = queued;
      const retry = {
        attempts,
        nextMs: clock.now() + Math.round(waitMs),
        ...(doubts === 0 ? {} : { doubts }),
        ...(left === undefined ? {} : { left }),
      };
      await record(entry.id, result, retry);
      return;
    }
    await settle(queued, result.ok || !result.doubtful ? result : notConfirmed(result));
  }

  function superseded({ id, notification }: OutboxEntry): boolean {
    return incidents.get(notification.incidentId)?.at(-1)?.entry.id !== id;
  }

  function goesOn({ doubts, left, attempts }: Queued, { retryable, doubtful }: Failure): boolean {
    if (doubtful) return doubts <= MAX_DOUBTS;
    return retryable && (left === undefined || attempts < MAX_ATTEMPTS_FOR_FEW);
  }

  async function settle(queued: Queued, result: SendResult): Promise<void> {
    const outcome = result.ok ? 'sent' : result.doubtful ? 'not_confirmed' : 'given_up';
    metrics.notifications.inc({ channel: channel.name, result: outcome });
    if (result.ok) log.info(`Sent ${label} alert`, about(queued));
    else sayFailure(queued, result.reason, result.doubtful ? { notConfirmed: true } : { givenUp: true });
    if (await record(queued.entry.id, result, undefined)) remove(queued.entry);
  }

  function remove({ id, notification }: OutboxEntry): void {
    const queue = incidents.get(notification.incidentId);
    queue?.shift();
    if (queue?.length === 0) incidents.delete(notification.incidentId);
    ids.delete(id);
  }

  async function sendSafely({ entry, left }: Queued): Promise<SendResult> {
    try {
      return await channel.send(entry.notification, signal, left);
    } catch (error) {
      return { ok: false, retryable: true, reason: `unexpected: ${errorText(error)}` };
    }
  }

  /** Tries until it is recorded: what was sent but not recorded would be sent again after a restart. */
  async function record(id: string, result: SendResult, retry: Retry | undefined): Promise<boolean> {
    for (let tries = 1; !signal.aborted; tries++) {
      try {
        await deps.onResult(id, result, retry);
        return !signal.aborted;
      } catch (error) {
        if (signal.aborted) break;
        log.warn('Result of a notification not recorded yet', {
          channel: channel.name,
          error: reasonText(errorText(error)),
        });
      }
      await ended(
        new Promise<true>((resolve) => after(Math.max(deps.minBackoffMs, backoff(tries)), () => resolve(true))),
      );
      await permitted();
    }
    return false;
  }

  /** Asks whether the term goes on. When that is unknown, the channel waits and asks again. */
  async function permitted(): Promise<boolean> {
    let answer: boolean | undefined;
    try {
      answer = await ended(deps.mayISend());
      asked = true;
    } catch (error) {
      if (signal.aborted) return false;
      if (asked) log.warn('Notifications wait: the term is not confirmed', { error: reasonText(errorText(error)) });
      asked = false;
      pause(deps.minBackoffMs);
      return false;
    }
    if (answer === false) deps.lose();
    return answer === true && !signal.aborted;
  }

  /** The value, or undefined when everything ends first: a channel that ignores the signal cannot hold up the end. */
  function ended<T>(value: Promise<T>): Promise<T | undefined> {
    return unlessAborted(value, signal).catch((error) => {
      if (signal.aborted) return undefined;
      throw error;
    });
  }

  function backoff(attempts: number): number {
    return backoffMs(attempts, { firstMs: deps.minBackoffMs, maxMs: deps.maxBackoffMs }, deps.random);
  }

  function sayFailure(queued: Queued, reason: string, more: object): void {
    log.error(`Failed to send ${label} alert`, { error: reasonText(reason), ...about(queued), ...more });
  }

  function about({ entry, attempts }: Queued) {
    const { incidentId, action, reason, priority } = entry.notification;
    return { incidentId, action, reason, priority, attempts, ...destination };
  }

  function reasonText(text: string): string {
    return cut(deps.masker.text(oneLine(text)), 300);
  }

  return {
    add,
    forget,
    pending: () => ids.size,
    idle: async () => {
      while (running !== undefined) await running;
    },
  };
}

function before(one: Queued, other: Queued): boolean {
  const [a, b] = [one.entry.notification.priority, other.entry.notification.priority];
  return a === b ? one.order < other.order : a < b;
}

/** Nobody knows whether it arrived; later messages of the incident go to the channel all the same. */
function notConfirmed({ reason }: Failure): SendResult {
  return { ok: false, retryable: false, reason: `not confirmed: ${reason}`, doubtful: true };
}

// ---- the configured channels ----

// The configured channels, among them the console, and those of teams and people. In: the `notify` section, and the routing. Out: a
// channel by name. Guarantee: a channel without configuration is left out, and the log says so once; nothing in a message moves a
// console reader's cursor.

export interface ChannelsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  /** Where the console channel prints. */
  readonly out: Writable;
  /** Makes the links with which people acknowledge and resolve. */
  readonly actionLinks?: LinkOptions['actionLinks'];
  /** How alerts stand; returns undefined where they are not decided, or not yet. */
  readonly standing?: () => Standing | undefined;
}

interface Makers {
  readonly config: NotifyConfig;
  readonly links: LinkOptions;
  readonly deps: ChannelsDeps;
  /** Undefined without a mail server. */
  readonly mailer: Mailer | undefined;
}

/**
 * One channel for each destination: the common ones of `notify`, those of teams (`slack:payments`) and of people (`email:ada`).
 * @param routing undefined: the common ones alone
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID for a secret file that holds no valid address or key.
 */
export function createChannels(
  config: NotifyConfig,
  routing: Pick<Routing, 'teams' | 'people'> | undefined,
  deps: ChannelsDeps,
): ReadonlyMap<ChannelName, Channel> {
  const links: LinkOptions = {
    ...(config.kibanaUrl === undefined ? {} : { kibanaUrl: config.kibanaUrl }),
    ...(config.runbookBaseUrl === undefined ? {} : { runbookBaseUrl: config.runbookBaseUrl }),
    ...(deps.actionLinks === undefined ? {} : { actionLinks: deps.actionLinks }),
  };
  const { host, from } = config.email;
  const { timeoutMs } = config;
  const mailer =
    host === undefined || from === undefined
      ? undefined
      : createMailer({ ...config.email, host, from, timeoutMs, links });
  const makers: Makers = { config, links, deps, mailer };
  const channels = new Map<ChannelName, Channel>();
  for (const name of CHANNELS) {
    if (name === 'history') continue;
    const made = name === 'email' ? commonEmail(makers) : MAKERS[name](config, links, deps);
    if (typeof made !== 'string') channels.set(name, made);
    else if (made !== '')
      deps.log.info(`Channel ${name} is not configured: skipped`, { set: `notify.${name}.${made}` });
  }
  if (routing !== undefined) for (const channel of ownChannels(routing, makers)) channels.set(channel.name, channel);
  if (channels.size === 0) deps.log.warn('No notification channel is configured: alerts are only logged');
  return channels;
}

const MAKERS: Readonly<Record<Exclude<(typeof CHANNELS)[number], 'history' | 'email'>, MakeChannel<ChannelsDeps>>> = {
  ...HTTP_CHANNELS,
  alertmanager({ alertmanager, timeoutMs, environment }, links, deps) {
    const { urls } = alertmanager;
    const { standing = () => undefined } = deps;
    return urls === undefined
      ? 'urls'
      : createAlertmanager({ ...alertmanager, urls, timeoutMs, links }, { ...deps, environment, standing });
  },
  // Nobody needs to be told that it is switched off.
  console: (config, links, deps) => (config.console.enabled ? createConsole({ links }, deps) : ''),
};

function commonEmail({ config, mailer, deps }: Makers): Channel | string {
  const { to } = config.email;
  return mailer === undefined || to === undefined ? 'host' : createEmail(mailer, { name: 'email', to }, deps);
}

/** What teams and people have of their own; each keeps to the limits of its kind. */
function ownChannels({ teams, people }: Pick<Routing, 'teams' | 'people'>, makers: Makers): Channel[] {
  const { mailer, deps } = makers;
  const email = (owner: string, to: readonly string[] | undefined) =>
    mailer === undefined || to === undefined || to.length === 0
      ? []
      : [createEmail(mailer, { name: `email:${owner}`, to }, deps)];
  return [
    ...teams.flatMap(({ id, slackWebhookUrl, pagerDutyKey, emailTo }) => [
      ...ownSlack({ name: `slack:${id}`, place: `teams.${id}.slackWebhookUrl` }, slackWebhookUrl, makers),
      ...ownPagerDuty({ name: `pagerduty:${id}`, place: `teams.${id}.pagerDutyKey` }, pagerDutyKey, makers),
      ...email(id, emailTo),
    ]),
    ...[...people.values()].flatMap(({ id, pagerDutyKey, email: address }) => [
      ...ownPagerDuty({ name: `pagerduty:${id}`, place: `people.${id}.pagerDutyKey` }, pagerDutyKey, makers),
      ...email(id, [address]),
    ]),
  ];
}

function ownSlack(of: ChannelOf, webhookUrl: string | undefined, { config, links, deps }: Makers): Channel[] {
  if (webhookUrl === undefined) return [];
  const made = HTTP_CHANNELS.slack({ ...config, slack: { ...config.slack, webhookUrl } }, links, deps, of);
  return typeof made === 'string' ? [] : [made];
}

function ownPagerDuty(of: ChannelOf, integrationKey: string | undefined, { config, links, deps }: Makers): Channel[] {
  if (integrationKey === undefined) return [];
  const made = HTTP_CHANNELS.pagerduty(
    { ...config, pagerduty: { ...config.pagerduty, integrationKey } },
    links,
    deps,
    of,
  );
  return typeof made === 'string' ? [] : [made];
}

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
    `${isoTime(notification.atMs)} ${subject(notification)}`,
    `  ${notification.message}`,
    ...facts.flatMap(({ label, lines: [first = '', ...more] }) => [
      `  ${label}: ${first}`,
      ...more.map((line) => `    ${line}`),
    ]),
    ...links.map(({ label, url }) => `  ${label}: ${url}`),
  ];
  return lines.map((line) => `${/^ */.exec(line)![0]}${visible(oneLine(line))}\n`).join('');
}
