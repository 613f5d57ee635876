// How far the log was read, over all partitions: the time up to which a window can be judged. In: progress records with the broker's
// time of each. Out: evaluation time, end of the last complete bucket, lag, stalled partitions.
// Guarantee: evaluation time never goes back; no host's clock moves it; a partition that stalls holds it back for 30 s, then no more.
import { isOver, SET_BACK_MS, STEP_MS } from '../core/clock.ts';
import { BUCKET_MS, type PartitionProgress } from '../measure/totals.ts';

/** A partition that is further behind the furthest one is stalled: evaluation waits no more. */
export const STALLED_MS = 30_000;
/** Behind the wall clock by more than this, what the log says is history. */
const BEHIND_MS = 120_000;
/** Once behind, it is history until it is closer than this: a lag is read up fast, and what is left of it may be over. */
const HEAD_MS = 40_000;
/** Or until it has been within BEHIND_MS for so long: the brokers' clock and this one may differ. */
const HEAD_WAIT_MS = 60_000;
/** A bucket is complete this long after its end: totals are published every 500 ms, and producers send in batches. */
export const COMPLETE_MS = 5_000;

/** How long the quickest writing of a counter is remembered: what takes longer than that was said earlier. */
const QUICKEST_MS = 60_000;
const MAX_WRITERS = 64;

interface PartitionStatus {
  readonly partition: string;
  /** Behind the furthest partition; of a partition that never said anything: since the first one did. */
  readonly behindMs: number;
  /** So far behind that evaluation does not wait for it. */
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
  /** A lag is being read up. Absent: see BEHIND_MS. */
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
  /** The partition has ended (a rotated file was read to its end); it holds nothing back any more. */
  forget(partition: string): void;
  status(wallMs: number): ProgressStatus;
}

const NUMBER = /^\d+$/;

interface Writer {
  startedMs: number;
  least: number;
  before: number;
  /** Of the newest publication, the first record of it: what is sent again comes later. */
  saidMs: number;
  recordMs: number;
}

/** @param onSkipped hears of time that never was: the brokers' clock was set forward, from the one moment to the other */
export function createProgress(onSkipped: (fromMs: number, toMs: number) => void = () => {}): Progress {
  const partitions = new Map<string, number>();
  let expected = 0;
  let firstRecordMs: number | undefined;
  let evalMs: number | undefined;
  let behind = false;
  /** Since when it has been within BEHIND_MS again. */
  let nearSinceMs: number | undefined;

  /** Of each counter the least that the brokers' clock was ahead of its own, in this stretch of time and the one before. */
  const writers = new Map<string, Writer>();

  /**
   * What a counter said before was written before it says this, and what it has read had arrived: by no less is the brokers' clock
   * ahead of its own. More than was known means that it was set forward. Of arrivals only a lot counts: other brokers take them.
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
    // The record before is the first of the new time, or the last of the former one.
    const fromMs = byMs === byWritten ? known.recordMs - byMs : known.recordMs;
    onSkipped(fromMs, fromMs + byMs);
  }

  /** How much later than others of the same counter the record was written, after it was said. */
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

  /** Partitions of Kafka are numbered; those beyond the topic's partitions belong to a topic that is gone. */
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
      // When it was true, which is earlier than when it stood in the log.
      const trueMs = recordMs - lateMs - (progress.ageMs ?? 0);
      // An arrival that lies ahead by more is of a time that the brokers' clock has left.
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
      // Of a partition that never said anything it is only known how long it has been silent.
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
