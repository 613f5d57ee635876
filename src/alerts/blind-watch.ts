// "Log pipeline blind": the one alert that cannot go through Kafka. In: signs of life of Kafka, a regular look. Out: a P1
// straight to the channels after `blindAfterMs` without a sign, and its resolve when Kafka is back.
// Guarantee: the same dedup key from every instance and every restart, so that a service that knows such keys shows one
// incident; an instance that stands by for a holder stays silent.
import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { ChannelName, Notification } from '../notify/notification.ts';
import { type MessageEntry, SEQ_DIGITS } from './outbox-entry.ts';

export interface BlindWatch {
  /** Kafka did something for us: confirmed the hold, took a commit, delivered totals. */
  alive(): void;
  /** Somebody else watches (true) or nobody but us may (false). */
  standBy(standing: boolean): void;
  /** To be called every second or so. */
  look(): void;
  /** True from the alert to its resolve. */
  blind(): boolean;
}

export interface BlindWatchDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Channels of a P1, configured ones only. */
  readonly channels: readonly ChannelName[];
  /** Sends without the outbox, with the usual retries. */
  readonly send: (entries: readonly MessageEntry[]) => void;
}

export const BLIND_TITLE = 'Log pipeline blind';

export function createBlindWatch(
  options: { readonly blindAfterMs: number; readonly brokers: readonly string[]; readonly environment: string },
  deps: BlindWatchDeps,
): BlindWatch {
  const { clock, log, metrics } = deps;
  const brokers = [...options.brokers].sort().join(',');
  const incidentId = `blind-${createHash('sha1').update(brokers).digest('hex').slice(0, 16)}`;
  let lastMs = clock.now();
  let since: number | undefined;
  let standing = false;
  let seq = 0;

  function tell(action: 'trigger' | 'resolve', message: string): void {
    const atMs = clock.now();
    const metadata = { brokers: [...options.brokers], lastSignOfLife: new Date(lastMs).toISOString() };
    const alert = {
      ruleId: 'log-pipeline-blind',
      title: BLIND_TITLE,
      priority: 'P1' as const,
      labels: {},
      state: action === 'trigger' ? ('firing' as const) : ('resolved' as const),
      startedMs: since ?? atMs,
      ...(action === 'resolve' ? { resolvedMs: atMs } : {}),
      message,
      metadata,
      runbook: 'docs/runbooks/log-pipeline-blind.md',
    };
    const notification: Notification = {
      incidentId,
      dedupKey: `logpipe/${incidentId}`,
      action,
      reason: action === 'trigger' ? 'first' : 'all-resolved',
      severity: 'critical',
      priority: 'P1',
      title: BLIND_TITLE,
      message,
      metadata,
      atMs,
      environment: options.environment,
      alerts: [alert],
      joined: [],
    };
    seq += 1;
    const number = String(seq).padStart(SEQ_DIGITS, '0');
    metrics.blind.set(action === 'trigger' ? 1 : 0);
    deps.send(
      deps.channels.map((channel) => ({
        id: `${number}-${channel}`,
        channel,
        createdMs: atMs,
        attempts: 0,
        nextMs: 0,
        notification,
      })),
    );
    if (action === 'trigger') log.error('CRITICAL ALERT', { alert: { title: BLIND_TITLE, message, metadata } });
    else log.info('Kafka answers again: alerts are evaluated', { blindForMs: atMs - alert.startedMs });
  }

  return {
    alive() {
      lastMs = clock.now();
      if (since === undefined) return;
      tell('resolve', 'Kafka answers again; alerts are evaluated.');
      since = undefined;
    },
    standBy(now) {
      if (standing && !now) lastMs = clock.now();
      standing = now;
    },
    look() {
      if (standing || since !== undefined) return;
      const silentMs = clock.now() - lastMs;
      if (silentMs < options.blindAfterMs) return;
      since = clock.now();
      const seconds = Math.round(silentMs / 1_000);
      tell('trigger', `Kafka has not answered for ${seconds} s: logs are not read and no other alert can fire.`);
    },
    blind: () => since !== undefined,
  };
}
