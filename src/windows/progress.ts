// How far the log was read, over all partitions, and so up to when a window can be judged. In: progress records, each with the
// broker's time. Out: evaluation time, end of the last complete bucket, lag, stalled partitions.
// Guarantee: evaluation time never goes back; no host's clock moves it; a stalled partition holds it back for at most 30 s.
import { isOver, SET_BACK_MS, STEP_MS } from '../core/clock.ts';
import { BUCKET_MS, type PartitionProgress } from '../measure/totals.ts';

/** A partition that is further than this behind the furthest one is stalled: evaluation no longer waits for it. */
export const STALLED_MS = 30_000;
/** When evaluation is further than this behind the wall clock, what the log says is history. */
const BEHIND_MS = 120_000;
/** Once behind, it stays history until the lag is below this: a lag is caught up quickly, and what shows in its rest may be over. */
const HEAD_MS = 40_000;
/** Or until the lag has been below BEHIND_MS for this long: the brokers' clock and this one may differ. */
const HEAD_WAIT_MS = 60_000;
/** A bucket is complete this long after its end: totals are published every 500 ms, and producers send in batches. */
export const COMPLETE_MS = 5_000;

/** How long a counter's quickest write is remembered; other records are late by the time they took longer. */
const QUICKEST_MS = 60_000;
const MAX_WRITERS = 64;

interface PartitionStatus {
  readonly partition: string;
  /** Behind the furthest partition; for one that never reported, since the first one did. */
  readonly behindMs: number;
  /** Evaluation does not wait for it. */
  readonly stalled: boolean;
}

/** The times a rule is judged by, ms. */
export interface EvaluationTimes {
  /** Everything that arrived before it was counted. */
  readonly evalMs: number;
  /** End of the last complete bucket. */
  readonly completeMs: number;
  /** The (injected) wall clock. */
  readonly wallMs: number;
  /** A lag is being caught up. When absent, BEHIND_MS decides. */
  readonly catchingUp?: true;
}

/** While logpipe is behind, nothing that the log says begins or ends an alert. */
export function isBehind({ evalMs, wallMs, catchingUp }: EvaluationTimes): boolean {
  return catchingUp === true || wallMs - evalMs > BEHIND_MS;
}

export interface ProgressStatus {
  /** Undefined until something is known of a partition. */
  readonly times: EvaluationTimes | undefined;
  /** Wall clock less evaluation time. */
  readonly lagMs: number | undefined;
  readonly partitions: readonly PartitionStatus[];
}

export interface Progress {
  /** @param recordMs the broker's time of the progress record */
  apply(progress: PartitionProgress, recordMs: number): void;
  /** The partition has ended (a rotated file was read to its end) and no longer holds anything back. */
  forget(partition: string): void;
  status(wallMs: number): ProgressStatus;
}

const NUMBER = /^\d+$/;

/** What is known of one counter's clock: by how much, at least, the brokers' clock is ahead of it. */
interface Writer {
  /** Begin of the present stretch of QUICKEST_MS, in which `least` was the minimum; `before` is that of the stretch before. */
  startedMs: number;
  least: number;
  before: number;
  /** Times of the first record of the newest publication: what is sent again comes later. */
  saidMs: number;
  recordMs: number;
}

/** @param onSkipped hears of time that never passed: the brokers' clock was set forward, from `fromMs` to `toMs` */
export function createProgress(onSkipped: (fromMs: number, toMs: number) => void = () => {}): Progress {
  const partitions = new Map<string, number>();
  let expected = 0;
  let firstRecordMs: number | undefined;
  let evalMs: number | undefined;
  let behind = false;
  /** Since when the lag has been below BEHIND_MS again. */
  let nearSinceMs: number | undefined;

  const writers = new Map<string, Writer>();

  /**
   * When a counter reports, its last report has been written and what it has read has arrived. So the brokers' clock is ahead of
   * the counter's by at least the difference to those two times; if that is more than was known, it was set forward. Arrivals
   * count only when the difference is large, because other brokers date them.
   */
  function noteSetForward(known: Writer, now: { saidMs: number; recordMs: number; arrivalMs: number }): void {
    const least = Math.min(known.least, known.before);
    const byWritten = known.recordMs - now.saidMs - least;
    const byRead = Math.min(now.arrivalMs, now.recordMs) - now.saidMs - least;
    const byMs = Math.max(byWritten, byRead > SET_BACK_MS ? byRead : 0);
    if (byMs <= 0) return;
    known.least = Math.max(known.least, least + byMs);
    known.before = Math.max(known.before, least + byMs);
    if (byMs <= STEP_MS) return;
    // The previous record is the first of the new time, or the last of the old one.
    const fromMs = byMs === byWritten ? known.recordMs - byMs : known.recordMs;
    onSkipped(fromMs, fromMs + byMs);
  }

  /** How much longer than the counter's quickest record this one took from observation to writing. */
  function lateBy({ writer, saidMs, arrivalMs }: PartitionProgress, recordMs: number): number {
    if (writer === undefined || saidMs === undefined) return 0;
    const ahead = recordMs - saidMs;
    const known = writers.get(writer);
    if (known === undefined) {
      const [oldest] = writers.keys();
      if (writers.size >= MAX_WRITERS && oldest !== undefined) writers.delete(oldest);
      writers.set(writer, { startedMs: saidMs, least: ahead, before: ahead, saidMs, recordMs });
      return 0;
    }
    if (saidMs - known.startedMs >= QUICKEST_MS) {
      known.before = known.least;
      known.least = ahead;
      known.startedMs = saidMs;
    } else known.least = Math.min(known.least, ahead);
    if (saidMs > known.saidMs) {
      noteSetForward(known, { saidMs, recordMs, arrivalMs });
      known.saidMs = saidMs;
      known.recordMs = recordMs;
    }
    return ahead - Math.min(known.least, known.before);
  }

  /** Kafka's partitions are numbered; one beyond the topic's number of partitions belongs to a topic that is gone. */
  const counts = (partition: string) => !NUMBER.test(partition) || Number(partition) < expected;
  const numbered = () => [...partitions.keys()].some((partition) => NUMBER.test(partition));

  function partitionStatuses(furthest: number): PartitionStatus[] {
    const statuses: PartitionStatus[] = [];
    const add = (partition: string, behindMs: number) =>
      statuses.push({ partition, behindMs, stalled: behindMs > STALLED_MS });
    for (const [partition, at] of partitions) if (counts(partition)) add(partition, furthest - at);
    for (let partition = 0; numbered() && partition < expected; partition++) {
      if (!partitions.has(String(partition)))
        add(String(partition), Math.max(0, furthest - (firstRecordMs ?? furthest)));
    }
    return statuses;
  }

  function isCatchingUp(lagMs: number, wallMs: number): boolean {
    if (lagMs > BEHIND_MS) {
      behind = true;
      nearSinceMs = undefined;
      return false;
    }
    nearSinceMs ??= wallMs;
    if (lagMs <= HEAD_MS || wallMs - nearSinceMs >= HEAD_WAIT_MS) behind = false;
    return behind;
  }

  return {
    apply(progress, recordMs) {
      const { lane: partition, caughtUp, arrivalMs } = progress;
      expected = progress.lanes;
      firstRecordMs ??= recordMs;
      // A reading of one file replaces the former reading of the same file: `<identity>#<run>`.
      const [identity, run] = partition.split('#');
      if (run !== undefined) {
        for (const other of partitions.keys())
          if (other !== partition && other.startsWith(`${identity}#`)) partitions.delete(other);
      }
      const lateMs = lateBy(progress, recordMs);
      // When it was true, which is before it was written to the log.
      const trueMs = recordMs - lateMs - (progress.ageMs ?? 0);
      // An arrival far ahead belongs to the time before the brokers' clock was set back.
      const ofFormerTime = isOver(arrivalMs, recordMs);
      const readMs = caughtUp ? (ofFormerTime ? trueMs : Math.max(arrivalMs, trueMs)) : arrivalMs;
      partitions.set(partition, Math.max(partitions.get(partition) ?? 0, readMs));
    },
    forget: (partition) => void partitions.delete(partition),
    status(wallMs) {
      const known = [...partitions].filter(([partition]) => counts(partition)).map(([, at]) => at);
      const furthest = Math.max(0, ...known);
      if (furthest === 0 && evalMs === undefined) return { times: undefined, lagMs: undefined, partitions: [] };
      const missing = known.length === 0 || (numbered() && known.length < expected);
      // Of a partition that never reported, all that is known is how long it has been silent.
      const waited = known.filter((at) => furthest - at <= STALLED_MS);
      if (missing && furthest - (firstRecordMs ?? furthest) <= STALLED_MS) waited.push(furthest - STALLED_MS);
      evalMs = Math.max(evalMs ?? 0, waited.length === 0 ? 0 : Math.min(...waited));
      const catchingUp = isCatchingUp(wallMs - evalMs, wallMs);
      const completeMs = Math.floor((evalMs - COMPLETE_MS) / BUCKET_MS) * BUCKET_MS;
      return {
        times: { evalMs, completeMs, wallMs, ...(catchingUp && { catchingUp }) },
        lagMs: wallMs - evalMs,
        partitions: partitionStatuses(furthest),
      };
    },
  };
}
