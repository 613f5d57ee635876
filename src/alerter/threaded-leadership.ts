// The membership, kept in a thread of its own (leader-thread.ts): heartbeats go on while this thread catches up on a busy machine.
// In: what createLeadership takes. Out: a Leadership that mirrors the one in the thread. Guarantee: `assured` is answered by the thread,
// and an answer that took long, because of a busy spell, a stop or a step of the clock, does not count: the question is asked again.
// Whatever the thread reported before its answer is known before the answer. A thread that dies ends the term and rejects `ended`; one
// that hangs does not keep `close` from ending.
//
// Between two messages this thread may believe that it leads when it no longer does, as any member may: the store's fence decides
// who writes. A main thread that hangs for good must not lead for good: without its signs of life the thread leaves the group.
import { Worker } from 'node:worker_threads';
import { type Clock, certainAgeMs, type Deferred, deferred, endsWithin, momentOf } from '../core/clock.ts';
import { type ErrorCode, errorText, LogpipeError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import type { RestartMetrics } from '../source/kafka/session.ts';
import type { Leadership, LeadershipHooks, LeadershipOptions } from './leadership.ts';
import { LostTermError } from './store.ts';

export interface LeaderThreadData {
  readonly kafka: KafkaConfig;
  readonly leadership: LeadershipOptions;
  readonly hungAfterMs: number;
}

export type ToLeaderThread =
  | { readonly type: 'alive' }
  | { readonly type: 'assured'; readonly question: number }
  | { readonly type: 'close' };

export type FromLeaderThread =
  | { readonly type: 'term'; readonly epoch: number }
  | { readonly type: 'lost'; readonly epoch: number; readonly why: string }
  | { readonly type: 'standby' }
  | { readonly type: 'member' }
  | { readonly type: 'away'; readonly why: string }
  | { readonly type: 'answer'; readonly question: number; readonly assured: boolean }
  | { readonly type: 'restarted' }
  | {
      readonly type: 'log';
      readonly level: LogLevel;
      readonly message: string;
      readonly meta?: Record<string, unknown>;
    }
  /** In parts, because an error loses its own properties between threads, and its cause may not be sendable at all. */
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string; readonly cause?: Error }
  | { readonly type: 'closed' };

/** Longer than the membership needs to end (source/kafka/session.ts). */
const CLOSE_MS = 12_000;
const TERMINATE_MS = 2_000;
/** How many signs of life are sent in the time after which this thread counts as hung. */
const BEATS = 12;
/** kafkajs needs some 10 MB of heap; the first fetch brings at most 16 MiB, unpacked outside of the heap. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

interface ThreadedLeadershipOptions extends LeadershipOptions {
  readonly kafka: KafkaConfig;
  /** The group is left when this thread has not run for this long, and joined again when it does. Default 60 s. */
  readonly hungAfterMs?: number;
}

/**
 * `start` starts the thread; until `close` has ended, it keeps the process alive. As createLeadership, but problems with the options
 * (LOGPIPE_CONFIG_INVALID) or a TLS file (LOGPIPE_CONFIG_UNREADABLE) are found in the thread and reject `ended`.
 */
export function createThreadedLeadership(
  options: ThreadedLeadershipOptions,
  hooks: LeadershipHooks,
  deps: {
    readonly clock: Clock;
    readonly log: Log;
    readonly metrics: RestartMetrics;
    /** The compiled leader-thread.ts. Default: the one beside this file, compiled too. */
    readonly entry?: URL;
  },
): Leadership {
  const { kafka, hungAfterMs = 60_000, ...leadership } = options;
  const { sessionTimeoutMs = 10_000 } = leadership;
  const { clock, log, metrics, entry = new URL('./leader-thread.js', import.meta.url) } = deps;
  let thread: Worker | undefined;
  let epoch: number | undefined;
  let asked = 0;
  const questions = new Map<number, Deferred>();
  let cancelBeat = () => {};
  let closing = false;
  let gone: Promise<void> | undefined;
  const closed = deferred();
  const ended = deferred();

  const send = (message: ToLeaderThread) => thread?.postMessage(message);

  function lose(why: string): void {
    if (epoch === undefined) return;
    const lost = epoch;
    epoch = undefined;
    for (const question of questions.values()) question.reject(new LostTermError());
    questions.clear();
    hooks.onLost(lost, why);
  }

  /** The membership cannot be kept. */
  function fail(error: LogpipeError): void {
    cancelBeat();
    if (closing) return;
    lose(error.message);
    ended.reject(error);
  }

  function died(why: string, cause?: unknown): void {
    const message = `the thread that keeps the alerter's membership ended: ${why}`;
    fail(new LogpipeError('LOGPIPE_KAFKA_FAILED', message, cause));
    closed.resolve();
  }

  function answered(question: number, assured: boolean): void {
    const asking = questions.get(question);
    questions.delete(question);
    if (assured) asking?.resolve();
    else asking?.reject(new LostTermError());
  }

  function onMessage(message: FromLeaderThread): void {
    switch (message.type) {
      case 'log':
        log[message.level](message.message, message.meta);
        break;
      case 'closed':
        closed.resolve();
        break;
      default:
        if (!closing) onNews(message);
    }
  }

  function onNews(message: Exclude<FromLeaderThread, { readonly type: 'log' | 'closed' }>): void {
    switch (message.type) {
      case 'term':
        epoch = message.epoch;
        hooks.onTerm(epoch);
        break;
      case 'lost':
        lose(message.why);
        break;
      case 'standby':
        hooks.onStandby?.();
        break;
      case 'member':
        hooks.onMember?.();
        break;
      case 'away':
        hooks.onAway?.(message.why);
        break;
      case 'restarted':
        metrics.sourceRestarts.inc();
        break;
      case 'answer':
        // After every message that has arrived by now: one of them may say that the term was lost meanwhile.
        setImmediate(answered, message.question, message.assured);
        break;
      case 'failed':
        fail(new LogpipeError(message.code, message.message, message.cause));
        void thread?.terminate();
    }
  }

  function beat(): void {
    send({ type: 'alive' });
    cancelBeat = clock.after(hungAfterMs / BEATS, beat);
  }

  async function close(): Promise<void> {
    closing = true;
    cancelBeat();
    lose('closed');
    if (thread !== undefined) {
      send({ type: 'close' });
      await endsWithin(closed.promise, CLOSE_MS, clock.after);
      const terminated = thread.terminate();
      thread.unref();
      await endsWithin(terminated, TERMINATE_MS, clock.after);
    }
    ended.resolve();
  }

  return {
    start() {
      if (closing || thread !== undefined) return;
      const workerData: LeaderThreadData = { kafka, leadership, hungAfterMs };
      try {
        thread = new Worker(entry, { name: 'alerter-membership', workerData, resourceLimits: LIMITS });
      } catch (error) {
        return died(errorText(error), error);
      }
      thread.on('message', onMessage);
      // A message that cannot be read may have said that the term was lost.
      thread.on('messageerror', (error) => died(errorText(error), error));
      thread.on('error', (error) => died(errorText(error), error));
      thread.on('exit', (status) => died(`exit status ${status}`));
      beat();
    },
    ended: ended.promise,
    epoch: () => epoch,
    async assured() {
      for (;;) {
        if (epoch === undefined) throw new LostTermError();
        const since = momentOf(clock);
        asked += 1;
        const answer = deferred();
        questions.set(asked, answer);
        send({ type: 'assured', question: asked });
        await answer.promise;
        // The group had seen this member within half a session timeout of the question, or has since; with the answer's way here,
        // within one.
        if (certainAgeMs(clock, since) < sessionTimeoutMs / 2) return;
      }
    },
    close() {
      gone ??= close();
      return gone;
    },
  };
}
