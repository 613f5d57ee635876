// A clock that stands still until it is advanced. Between two timers everything that is ready runs, so that what a timer started
// has begun before the next one goes off.
import type { Clock } from '../../src/core/clock.ts';

export interface FakeClock extends Clock {
  /** Advances by `ms`, timer by timer. */
  advance(ms: number): Promise<void>;
  /** Sets only the wall clock, as an operator or NTP would; timers do not notice. */
  setWall(ms: number): void;
  /** The process is stopped for `ms`: timers that were due meanwhile go off late, all at once, each once. */
  sleep(ms: number): Promise<void>;
  timers(): number;
}

export function createFakeClock(startMs = Date.parse('2026-11-25T10:00:00.000Z')): FakeClock {
  let elapsed = 0;
  let wallOffset = startMs;
  let order = 0;
  const timers = new Set<{ at: number; order: number; fn: () => void }>();

  const clock: FakeClock = {
    now: () => wallOffset + elapsed,
    monotonicMs: () => elapsed,
    after(ms, fn) {
      const timer = { at: elapsed + Math.max(0, ms), order: order++, fn };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    async advance(ms) {
      const target = elapsed + ms;
      await settled();
      for (;;) {
        const due = [...timers].filter(({ at }) => at <= target).sort((a, b) => a.at - b.at || a.order - b.order)[0];
        if (due === undefined) break;
        timers.delete(due);
        elapsed = Math.max(elapsed, due.at);
        due.fn();
        await settled();
      }
      elapsed = target;
    },
    setWall(ms) {
      wallOffset = ms - elapsed;
    },
    async sleep(ms) {
      await settled();
      elapsed += ms;
      await clock.advance(0);
    },
    timers: () => timers.size,
  };
  return clock;
}

/** Resolves when every promise that can resolve without time passing has done so. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
