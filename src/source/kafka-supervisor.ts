// Keeps one consumer session running. In: a way to open a session. Out: a new session after every crash, with backoff.
// Guarantee: a Kafka that is away is waited for and logged once per episode; a consumer that keeps failing for another
// reason ends the supervision with LOGPIPE_KAFKA_FAILED instead of being silently dead.
import type { Clock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createGate } from './gate.ts';
import { backoffMs, explainKafkaFailure, isKafkaAway } from './kafka-failures.ts';
import type { KafkaSession } from './kafka-session.ts';

/** A consumer that read this long was healthy: its crash is not one of a row. */
export const HEALTHY_MS = 60_000;

/** What it counts; a part of core/metrics.ts that can be had in another thread. */
export interface RestartMetrics {
  readonly sourceRestarts: { inc(): void };
}

export interface Supervisor {
  /** Resolves after `stop` or `close` of the session; rejects with LogpipeError LOGPIPE_KAFKA_FAILED when giving up. */
  run(): Promise<void>;
  /** The session has joined its group and reads. */
  reading(): void;
  /** The last session is the last one. */
  stop(): void;
}

export function createSupervisor(
  options: { topic: string; brokers: readonly string[]; giveUpAfter: number },
  hooks: {
    open(): KafkaSession;
    /** The session is over; nothing of its assignment counts any more. */
    onEnd(error: Error | undefined, detail: string): void;
    onRestarted(): void;
  },
  deps: { log: Log; metrics: RestartMetrics; clock: Clock },
): Supervisor {
  const { topic, brokers, giveUpAfter } = options;
  const { log, metrics, clock } = deps;
  const waiting = createGate(clock);
  let stopped = false;
  let readingSince: number | undefined;
  let crashed = false;
  /** Sessions in a row that failed for a reason that does not pass by itself. */
  let failures = 0;
  /** Sessions in a row that found no Kafka. */
  let absences = 0;

  const afterCrash = async (error: Error): Promise<void> => {
    const healthy = readingSince !== undefined && clock.monotonicMs() - readingSince >= HEALTHY_MS;
    if (readingSince !== undefined) {
      absences = 0;
      metrics.sourceRestarts.inc();
    }
    const what = explainKafkaFailure(error);
    if (isKafkaAway(error)) {
      absences += 1;
      if (absences === 1) log.error('Kafka is unreachable; trying until it answers', { topic, brokers, error: what });
      return waiting.wait(backoffMs(absences));
    }
    failures = healthy ? 1 : failures + 1;
    log.error('the Kafka consumer failed', { topic, error: what, failures, giveUpAfter });
    if (failures >= giveUpAfter) {
      throw new LogpipeError(
        'LOGPIPE_KAFKA_FAILED',
        `topic ${topic}: the consumer failed ${failures} times in a row: ${what}`,
        error,
      );
    }
    await waiting.wait(backoffMs(failures));
  };

  return {
    async run() {
      while (!stopped) {
        readingSince = undefined;
        const error = await hooks.open().ended;
        hooks.onEnd(error, error === undefined ? 'closed' : explainKafkaFailure(error));
        if (error === undefined || stopped) return;
        crashed = true;
        await afterCrash(error);
      }
    },
    reading() {
      readingSince ??= clock.monotonicMs();
      if (absences > 0) log.info('Kafka answers again', { topic });
      absences = 0;
      if (crashed) hooks.onRestarted();
      crashed = false;
    },
    stop() {
      stopped = true;
      waiting.wake();
    },
  };
}
