// Whether this host's clock agrees with a broker's, as far as its answers prove it. In: when a batch was sent and answered by this
// host's clocks, and when the broker wrote it, by its own. Out: whether batches have to say when they were sent.
// Guarantee: a batch that was long on its way is not taken for a wrong clock once one quick answer has shown that the clock is
// right; nothing is concluded from a slow answer, nor over a step of this host's clock.
import { type Clock, type Moment, momentOf, STEP_MS } from '../core/clock.ts';

export interface OwnClock {
  /** By this host's clocks; to be given back with the answer. */
  moment(): Moment;
  /** A batch that left at `sent`, for the first time, was answered just now. @param writtenMs the broker's time; -1: it does not say */
  answered(sent: Moment, writtenMs: number): void;
  /** It is right to two seconds, and has not been set since that was known. */
  isRight(): boolean;
}

/** From an error of this size on logpipe corrects event times (kafka-records.ts). */
const RIGHT_MS = 2_000;

export function createOwnClock(clock: Clock): OwnClock {
  let proof: Moment | undefined;

  const moment = () => momentOf(clock);
  /** How far the wall clock was set between them. */
  const setBy = (from: Moment, to: Moment) => Math.abs(to.wallMs - from.wallMs - (to.monotonicMs - from.monotonicMs));

  return {
    moment,
    answered(sent, writtenMs) {
      const answered = moment();
      if (writtenMs < 0 || setBy(sent, answered) > STEP_MS) return;
      // It was written after it was sent and before it was answered: what the clock is behind lies between these two.
      const [least, most] = [writtenMs - answered.wallMs, writtenMs - sent.wallMs];
      if (least > -RIGHT_MS && most < RIGHT_MS) proof = answered;
      else if (least >= RIGHT_MS || most <= -RIGHT_MS) proof = undefined;
    },
    isRight: () => proof !== undefined && setBy(proof, moment()) <= STEP_MS,
  };
}
