// Outbox entries -> channels. In: what was decided and made durable. Out: attempts over independent lanes, one for each
// channel, and their results. Guarantee: given up only for what can never be sent; nothing is sent without the hold; a
// lost hold forgets everything.
import { setMaxListeners } from 'node:events';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Masker } from '../core/mask.ts';
import type { Metrics } from '../core/metrics.ts';
import { createLane, type Lane } from './lane.ts';
import type { Channel, ChannelName, Notification, SendResult } from './notification.ts';

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

/** When the next attempt is made, and of what, for the outbox to keep. */
export type Retry = Pick<OutboxEntry, 'attempts' | 'nextMs' | 'doubts' | 'left'>;

export interface DispatcherOptions {
  /** First wait after a failed attempt, ms; doubles. Default 1 s. */
  readonly minBackoffMs?: number;
  /** Longest wait, ms. Default 5 min. */
  readonly maxBackoffMs?: number;
}

export interface DispatcherDeps {
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly masker: Masker;
  /** A number in [0, 1) for the jitter. */
  readonly random: () => number;
  /** Asked right before each attempt. False: the hold is lost, for good. A rejection: not known, asked again later. */
  mayISend(): Promise<boolean>;
  /**
   * Told after each attempt; `retry` is set when another one follows. The next message of the incident to this channel
   * waits for it. A rejection: told again later, with backoff.
   */
  onResult(id: string, result: SendResult, retry: Retry | undefined): Promise<void> | void;
}

export interface Dispatcher {
  /** Takes entries in the order of the outbox. An entry it already has, or any after the end, is ignored. */
  add(entries: readonly OutboxEntry[]): void;
  /** Entries that left the outbox unsent: they need not be sent any more. */
  forget(ids: Iterable<string>): void;
  /** Entries not yet settled, by channel or in all. */
  pending(channel?: ChannelName): number;
  /** False once the hold was lost or `close` was called. */
  active(): boolean;
  /** First phase of a stop: no attempt begins; true when those under way ended and were recorded within `timeoutMs`. */
  drain(timeoutMs: number): Promise<boolean>;
  /** Second phase: ends attempts under way without a result. What is unsettled stays in the outbox. Repeatable. */
  close(): Promise<void>;
}

export function createDispatcher(options: DispatcherOptions, deps: DispatcherDeps): Dispatcher {
  const lanes = new Map<ChannelName, Lane>();
  const end = new AbortController();
  // Every lane listens, and every attempt while it lasts: no leak.
  setMaxListeners(0, end.signal);
  let draining = false;

  function lose(): void {
    if (end.signal.aborted) return;
    deps.log.warn('Another instance holds the alert state: nothing more is sent from here', { unsettled: pending() });
    end.abort();
  }

  function lane(name: ChannelName): Lane {
    const known = lanes.get(name);
    if (known !== undefined) return known;
    const created = createLane(deps.channels.get(name) ?? notConfigured(name), {
      ...deps,
      minBackoffMs: options.minBackoffMs ?? 1_000,
      maxBackoffMs: options.maxBackoffMs ?? 300_000,
      mayBegin: () => !draining && !end.signal.aborted,
      signal: end.signal,
      lose,
    });
    lanes.set(name, created);
    return created;
  }

  function pending(channel?: ChannelName): number {
    if (channel !== undefined) return lanes.get(channel)?.pending() ?? 0;
    return [...lanes.values()].reduce((sum, each) => sum + each.pending(), 0);
  }

  const idle = () => Promise.all([...lanes.values()].map((each) => each.idle()));

  return {
    add(entries) {
      if (draining || end.signal.aborted) return;
      for (const entry of entries) lane(entry.channel).add(entry);
    },
    forget(dropped) {
      const set = new Set(dropped);
      if (set.size > 0) for (const each of lanes.values()) each.forget(set);
    },
    pending,
    active: () => !end.signal.aborted,
    async drain(timeoutMs) {
      draining = true;
      let cancel = () => {};
      const late = new Promise<false>((resolve) => {
        cancel = deps.clock.after(timeoutMs, () => resolve(false));
      });
      const done = await Promise.race([idle().then(() => true), late]);
      cancel();
      return done;
    },
    async close() {
      draining = true;
      end.abort();
      await idle();
    },
  };
}

/** Stands for a channel the outbox still knows and the configuration no longer does. */
function notConfigured(name: ChannelName): Channel {
  return {
    name,
    ratePerSecond: 1_000,
    send: async () => ({ ok: false, retryable: false, reason: 'the channel is no longer configured' }),
    async close() {},
  };
}
