// What time it is for the rules: the brokers' time, as far as it is known here. In: this process's clocks, and the brokers' time of
// each record that is read while it is written. Out: the present time that lag and messages go by.
// Guarantee: an alerter whose wall clock is set forward does not take the log for history, and one whose clock is set back does not
// wait: a step is believed only when the brokers made it too, and then at once.
import { type Clock, momentOf, SET_BACK_MS, STEP_MS } from '../core/clock.ts';
import type { AlertStore } from './store.ts';

export interface BrokersClock {
  /** Whole milliseconds since the epoch. */
  now(): number;
  /** The brokers' time of a record that was written just now, in the order of its partition. True: their clock was set back by a lot. */
  saw(recordMs: number): boolean;
}

/** @param dated the brokers' time at a moment of this process, where it is known: its own wall clock may be wrong by hours */
export function createBrokersClock(clock: Clock, dated?: AlertStore['dated']): BrokersClock {
  let last = momentOf(clock);
  let present = dated === undefined ? last.wallMs : dated.brokersMs + last.monotonicMs - dated.monotonicMs;
  let sawMs = Number.NEGATIVE_INFINITY;

  function now(): number {
    const at = momentOf(clock);
    const lasted = at.monotonicMs - last.monotonicMs;
    const byWall = at.wallMs - last.wallMs;
    // Slewed, the wall clock is the better one: the brokers' are slewed too.
    present += Math.abs(byWall - lasted) > STEP_MS ? lasted : byWall;
    last = at;
    // The monotonic clock has fractions; offsets are looked up by whole milliseconds.
    return Math.round(present);
  }

  return {
    now,
    saw(recordMs) {
      now();
      const backMs = sawMs - recordMs;
      // Also by a little, as by another leader: ahead of what is written, all would look late for ever, and the heartbeat end.
      if (backMs > STEP_MS) present = recordMs;
      sawMs = recordMs;
      // Set right, or set together with theirs: the wall clock is nearer now.
      const isNearer = Math.abs(last.wallMs - recordMs) < Math.abs(present - recordMs);
      if (Math.abs(last.wallMs - present) > STEP_MS && isNearer) present = last.wallMs;
      // Nothing was written in the future.
      present = Math.max(present, recordMs);
      return backMs > SET_BACK_MS;
    },
  };
}
