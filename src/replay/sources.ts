// The contract of everything a replay, a backtest or an export reads from. In: a stretch of time. Out: records in batches,
// lane by lane, each batch with the position to go on from once it is accounted for.
// Guarantee of every source: it moves nobody's offsets and changes nothing; the same lane and position give the same records.
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import type { TimeRange } from './selection.ts';

/** Where a lane goes on: an offset, a byte, or the sort values of a search. Fit for JSON. */
export type Position = number | readonly unknown[];

/** Positions by lane; a lane without one starts at its beginning. */
export type Positions = ReadonlyMap<string, Position>;

/** Consecutive records of one lane, in its order. */
export interface ReplayBatch {
  /** `topic/3`, `index/0` (a slice) or a file's path. */
  readonly lane: string;
  /** As delivered, before the event time is looked at: the stretch may reach further than what is asked for. */
  readonly records: readonly RawRecord[];
  /** Where record `i` came from. A dead letter and a document tell the place they had in the log topic. */
  readonly origin: (i: number) => ChunkOrigin;
  /** The lane goes on here when all records of this batch, and of those before, are accounted for. */
  readonly next: Position;
}

/** What a source holds, before it is read. */
export interface SourcePlan {
  readonly lanes: readonly PlannedLane[];
  /** An upper bound of the records to read; for a file it is not known. */
  readonly records: number | undefined;
  readonly bytes: number | undefined;
  /** Sentences about what is missing: retention, an index that is closed. */
  readonly gaps: readonly string[];
}

export interface PlannedLane {
  readonly lane: string;
  readonly from: Position;
  /** The first position that is not read; undefined where only reading tells. */
  readonly to: Position | undefined;
  readonly records: number | undefined;
}

/** Resolves when the lane may go on; false ends the reading. */
export type Take = (batch: ReplayBatch) => Promise<boolean>;

/** Hands over batches until the end, `signal`, or a `false`. Lanes do not wait for each other. */
type Feed = (from: Positions, signal: AbortSignal, take: Take) => Promise<void>;

export interface ReplaySource {
  readonly kind: 'kafka' | 'dlq' | 'index' | 'file';
  /** What would be read; asks the servers, reads nothing. */
  plan(): Promise<SourcePlan>;
  /** As `read`, but hands over: each lane goes on when its batch was taken. */
  readonly feed: Feed;
  /**
   * Batches of all lanes, those of one lane in order. Ends at the end of the stretch also where no later record exists.
   * Leaving the loop early ends the reading and lets go of everything.
   */
  read(from: Positions, signal: AbortSignal): AsyncIterable<ReplayBatch>;
  /** Known after `read`: sentences about what was expected and not found. */
  missing(): readonly string[];
}

/** What every source is told. */
export interface StretchOptions {
  /** Of sources in Kafka; default: the log topic. */
  readonly topic?: string;
  /** By event time; undefined reads everything. */
  readonly range: TimeRange | undefined;
  /** How much later than its event a record may have been written, and how much earlier (clocks that are ahead). */
  readonly latenessMs: number;
  readonly aheadMs: number;
  /** Name part of throw-away groups, for people who list groups. */
  readonly purpose: string;
}

// The two ways to take batches from a source. In: a source that hands over. Out: the same as an async iterable.
// Guarantee: a source is held back while its batch has not been taken; ending the loop ends the reading.

/** Gives a source that hands over its `read`. */
export function readable(source: Omit<ReplaySource, 'read'>): ReplaySource {
  return { ...source, read: (from, signal) => iterate(source.feed, from, signal) };
}

async function* iterate(feed: Feed, from: Positions, signal: AbortSignal): AsyncGenerator<ReplayBatch> {
  const waiting: { batch: ReplayBatch; taken: (more: boolean) => void }[] = [];
  let wake = () => {};
  let over = false;
  let failure: unknown;
  let current: { taken: (more: boolean) => void } | undefined;
  const finished = feed(from, signal, (batch) => {
    if (over) return Promise.resolve(false);
    return new Promise((taken) => {
      waiting.push({ batch, taken });
      wake();
    });
  }).then(
    () => {
      over = true;
      wake();
    },
    (error: unknown) => {
      over = true;
      failure = error;
      wake();
    },
  );
  try {
    for (;;) {
      const next = waiting.shift();
      if (next !== undefined) {
        current = next;
        yield next.batch;
        current = undefined;
        next.taken(true);
        continue;
      }
      if (over) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    if (failure !== undefined) throw failure;
  } finally {
    over = true;
    // The loop was left with this batch in hand.
    current?.taken(false);
    for (const { taken } of waiting.splice(0)) taken(false);
    await finished;
  }
}
