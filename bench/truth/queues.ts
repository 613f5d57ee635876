// A job queue as Bull keeps it: one number of waiting jobs for all hosts. In: how many jobs come and are done at each moment.
// Out: a queue.job for each job taken, and what queue.stats reports.
import type { Behaviour } from './behaviour.ts';
import type { Fleet } from './fleet.ts';
import { type Occurrence, occurrence } from './occurrence.ts';
import type { Random } from './random.ts';

export interface SimulatedQueue {
  readonly jobs: readonly Occurrence[];
  statsAt(ms: number): object;
}

export interface QueueOptions {
  readonly random: Random;
  readonly fromMs: number;
  readonly toMs: number;
  readonly fleet: Fleet;
  readonly behaviour: Behaviour;
}

export function simulateQueue(name: string, options: QueueOptions): SimulatedQueue {
  const { random, fromMs, toMs, fleet, behaviour } = options;
  const jobs: Occurrence[] = [];
  const waiting: number[] = [];
  const completed: number[] = [];
  /** When each waiting job came. */
  const came: number[] = [];
  let next = 0;
  let done = 40_000;
  for (let ms = fromMs; ms < toMs; ms += 1_000) {
    const running = fleet.at(ms);
    const coming = random.poisson(behaviour.jobsPerSecond(ms, name));
    // The platform creates its own jobs, so none come when it stands still.
    for (let n = running.length === 0 ? 0 : coming; n > 0; n--) came.push(ms);
    const capacity = running.length === 0 ? 0 : random.poisson(behaviour.jobsDonePerSecond(ms, name));
    if (
      behaviour.queueRestartMs !== undefined &&
      ms - behaviour.queueRestartMs < 1_000 &&
      ms >= behaviour.queueRestartMs
    ) {
      done = 0;
    }
    for (let n = Math.min(capacity, came.length - next); n > 0; n--) {
      const waitMs = Math.round(ms - came[next]! + random.between(100, 1_500));
      const at = Math.floor(ms + random.next() * 1_000);
      jobs.push(
        occurrence(at, random.pick(running), { event: 'queue.job', message: 'Job taken', queue: { name, waitMs } }),
      );
      next += 1;
      done += 1;
    }
    waiting.push(came.length - next);
    completed.push(done);
  }
  return {
    jobs,
    statsAt(ms) {
      const second = Math.min(waiting.length - 1, Math.max(0, Math.floor((ms - fromMs) / 1_000)));
      return {
        event: 'queue.stats',
        message: 'Queue statistics',
        queue: { name, waiting: waiting[second]!, active: 2, delayed: 5, completed: completed[second]!, failed: 12 },
      };
    },
  };
}
