// Job queues in memory: jobs wait, workers take them in order, each taken job is one `queue.job` event.
// Guarantee: a queue never holds more than `limit` jobs; what is added beyond is refused.
import type { Clock } from '../../src/core/clock.ts';
import { queueFull } from './faults.ts';
import type { Incident } from './incident.ts';
import type { AppLog } from './log.ts';

export type QueueName = 'scheduled-calls' | 'callbacks';

export interface QueueOptions<Job> {
  name: QueueName;
  /** Jobs worked on at the same time. */
  workers: number;
  /** Most jobs that wait, delayed ones included. */
  limit: number;
  /** Rejects when the job failed; the queue counts it and goes on. */
  work(job: Job): Promise<void>;
  /** Fields for the `queue.job` event that tell whose job it was. */
  describe(job: Job): object;
}

export interface QueueStats {
  waiting: number;
  active: number;
  delayed: number;
  completed: number;
  failed: number;
}

export interface Queue<Job> {
  readonly name: QueueName;
  /** The job may be taken after `delayMs`. Throws a QueueFullError. */
  add(job: Job, delayMs?: number): void;
  stats(): QueueStats;
  /** Takes no further job. */
  stop(): void;
}

export function createQueue<Job>(
  options: QueueOptions<Job>,
  deps: { clock: Clock; log: AppLog; incident: Incident },
): Queue<Job> {
  const { clock, log, incident } = deps;
  const waiting: { job: Job; since: number }[] = [];
  const stats = { active: 0, delayed: 0, completed: 0, failed: 0 };
  let stopped = false;

  const take = () => {
    while (!stopped && !incident.is('queue-stuck') && stats.active < options.workers) {
      const next = waiting.shift();
      if (!next) return;
      stats.active++;
      const queue = { name: options.name, waitMs: Math.round(clock.now() - next.since) };
      log.info('Job taken', { event: 'queue.job', queue, ...options.describe(next.job) });
      void options.work(next.job).then(
        () => finished('completed'),
        () => finished('failed'),
      );
    }
  };
  const finished = (how: 'completed' | 'failed') => {
    stats.active--;
    stats[how]++;
    take();
  };
  const enqueue = (job: Job) => {
    waiting.push({ job, since: clock.now() });
    take();
  };
  incident.onChange(take);

  return {
    name: options.name,
    add(job, delayMs = 0) {
      if (waiting.length + stats.delayed >= options.limit) throw queueFull(options.name, options.limit);
      if (delayMs <= 0) return enqueue(job);
      stats.delayed++;
      clock.after(delayMs, () => {
        stats.delayed--;
        enqueue(job);
      });
    },
    stats: () => ({ waiting: waiting.length, ...stats }),
    stop() {
      stopped = true;
    },
  };
}
