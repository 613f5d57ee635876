// A clock that stands still until it is set. Timers never run by themselves: whoever drives a simulation does their work.
import type { Clock } from '../core/clock.ts';

export interface SimulatedClock extends Clock {
  set(nowMs: number): void;
}

export function createSimulatedClock(startMs: number): SimulatedClock {
  let nowMs = startMs;
  return {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    after: () => () => {},
    set(ms) {
      nowMs = ms;
    },
  };
}
