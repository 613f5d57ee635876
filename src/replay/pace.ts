// How fast a replay may go. In: `--speed` and `--throttle`. Out: waits. Guarantee: with a speed every event comes no earlier
// than its distance from the beginning of the stretch, divided by the speed; with a throttle never more than that per second.
import { sleep } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';

/** Waits shorter than this cost more than they order. */
const TICK_MS = 50;

/** `10x`, `0.5x` or `max`. @throws LogpipeError LOGPIPE_USAGE */
export function parseSpeed(text: string): number {
  if (text === 'max') return Number.POSITIVE_INFINITY;
  const match = /^(\d{1,6}(?:\.\d{1,3})?)x$/.exec(text);
  const speed = Number(match?.[1] ?? 0);
  if (speed > 0) return speed;
  throw new LogpipeError('LOGPIPE_USAGE', `--speed: found ${JSON.stringify(text)}; write 1x, 10x, 0.5x or max`);
}

export interface Pace {
  /** How many of the events with these times, in their order, may go at once. At least one. */
  fitting(times: readonly number[], from: number): number;
  /** Resolves when an event of this time is due, and `count` events are within the throttle. */
  wait(timeMs: number, count: number, signal: AbortSignal): Promise<void>;
}

export function createPace(
  options: { speed: number; throttle: number | undefined },
  now: () => number = () => performance.now(),
): Pace {
  const { speed, throttle } = options;
  const most = throttle === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Math.ceil(throttle / 10));
  let first: { eventMs: number; wallMs: number } | undefined;
  let nextFree = Number.NEGATIVE_INFINITY;

  return {
    fitting(times, from) {
      let to = Math.min(times.length, from + most);
      if (speed !== Number.POSITIVE_INFINITY) {
        const horizon = times[from]! + TICK_MS * speed;
        let until = from + 1;
        while (until < to && times[until]! <= horizon) until += 1;
        to = until;
      }
      return to - from;
    },
    async wait(timeMs, count, signal) {
      if (speed !== Number.POSITIVE_INFINITY) {
        first ??= { eventMs: timeMs, wallMs: now() };
        const due = first.wallMs + (timeMs - first.eventMs) / speed;
        await until(due, now, signal);
      }
      if (throttle === undefined) return;
      // Reserved before waiting: lanes that wait side by side share one rate.
      const start = Math.max(nextFree, now());
      nextFree = start + (count * 1_000) / throttle;
      await until(start, now, signal);
    },
  };
}

async function until(due: number, now: () => number, signal: AbortSignal): Promise<void> {
  for (let left = due - now(); left > 0 && !signal.aborted; left = due - now()) {
    await sleep(Math.min(left, 2 ** 31 - 1), signal);
  }
}
