// The thread that keeps the membership: the entry of a worker, run by leadership.ts and imported by nobody. In: how to reach
// Kafka, questions, signs of life of the main thread. Out: what createLeadership reports, as messages, in the same order.
// Guarantee: whether this instance leads is answered from what is known when the question is read. No monotonic time crosses threads,
// because each counts from a moment of its own. When the main thread has hung for long, the group is left, so that another instance
// decides; it is joined again at the next sign of life.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Kafka } from 'kafkajs';
import { systemClock as clock } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import { toJson } from '../core/safe-json.ts';
import { createKafka } from '../source/kafka/client.ts';
import {
  createLeadership,
  type FromLeaderThread,
  type Leadership,
  type LeaderThreadData,
  type ToLeaderThread,
} from './leadership.ts';

/** How many times signs of life are looked for before the main thread counts as hung. */
const LOOKS = 6;
const HUNG = 'this process hung';

if (parentPort !== null) keepMembership(parentPort, workerData as LeaderThreadData);

function keepMembership(
  port: MessagePort,
  { kafka: config, leadership: options, hungAfterMs }: LeaderThreadData,
): void {
  const post = (message: FromLeaderThread) => port.postMessage(message);
  const log = createPostedLog(post);
  let kafka: Kafka | undefined;
  let leadership: Leadership | undefined;
  let left: Promise<void> = Promise.resolve();
  /** Closed, or failed for good: the group is not joined again. */
  let over = false;
  /** Counts the terms of all memberships. */
  let epochs = 0;
  let heard = true;
  let quietLooks = 0;

  function join(): void {
    try {
      kafka ??= createKafka(config, log);
      leadership = createLeadership(
        options,
        {
          onTerm() {
            epochs += 1;
            post({ type: 'term', epoch: epochs });
          },
          onLost: (_epoch, why) => post({ type: 'lost', epoch: epochs, why: quietLooks < LOOKS ? why : HUNG }),
          onStandby: () => post({ type: 'standby' }),
          onMember: () => post({ type: 'member' }),
          onAway: (why) => post({ type: 'away', why }),
        },
        { kafka, clock, log, metrics: { sourceRestarts: { inc: () => post({ type: 'restarted' }) } } },
      );
      leadership.ended.catch(fail);
      leadership.start();
    } catch (error) {
      fail(error);
    }
  }

  function leave(): void {
    const mine = leadership;
    leadership = undefined;
    if (mine !== undefined) left = mine.close();
  }

  function fail(error: unknown): void {
    over = true;
    const code = error instanceof LogpipeError ? error.code : 'LOGPIPE_KAFKA_FAILED';
    const from = error instanceof Error ? error.cause : undefined;
    const cause = from === undefined ? undefined : new Error(errorText(from));
    if (cause !== undefined && from instanceof Error && from.stack !== undefined) cause.stack = from.stack;
    post({ type: 'failed', code, message: errorText(error), ...(cause && { cause }) });
  }

  async function answer(question: number): Promise<void> {
    const assured =
      (await leadership?.assured().then(
        () => true,
        () => false,
      )) ?? false;
    post({ type: 'answer', question, assured });
  }

  /** Counts looks, not time: a process that was stopped as a whole did not hang. */
  function look(): void {
    quietLooks = heard ? 0 : quietLooks + 1;
    heard = false;
    if (quietLooks === LOOKS && leadership !== undefined) {
      log.error('the alerter leaves its group: the rest of this process hangs', { forMs: hungAfterMs });
      leave();
    }
    clock.after(hungAfterMs / LOOKS, look);
  }

  /** Called at the main thread's first sign of life after it hung. */
  async function joinAgain(): Promise<void> {
    await left;
    if (leadership !== undefined || over) return;
    quietLooks = 0;
    join();
  }

  port.on('message', (message: ToLeaderThread) => {
    heard = true;
    switch (message.type) {
      case 'alive':
        if (leadership === undefined) void joinAgain();
        return;
      case 'assured':
        return void answer(message.question);
      case 'close':
        over = true;
        leave();
        return void left.then(() => post({ type: 'closed' }));
    }
  });
  join();
  look();
}

function createPostedLog(post: (message: FromLeaderThread) => void): Log {
  const write = (level: LogLevel) => (message: string, meta?: Record<string, unknown>) =>
    post({ type: 'log', level, message, ...(meta && { meta: sendable(meta) }) });
  return { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') };
}

/** A copy that can be sent between threads, whatever is in it. */
function sendable(meta: Record<string, unknown>): Record<string, unknown> {
  const texts = Object.entries(meta).map(([key, value]) => [key, value instanceof Error ? errorText(value) : value]);
  return JSON.parse(toJson(Object.fromEntries(texts)));
}
