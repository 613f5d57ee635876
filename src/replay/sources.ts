// The contract of everything a replay, a backtest or an export reads from. In: a stretch of time. Out: records in batches,
// lane by lane, each batch with the position to go on from once it is accounted for.
// Guarantee of every source: it moves nobody's offsets and changes nothing; the same lane and position give the same records.
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import type { TimeRange } from './time-range.ts';

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
export type Feed = (from: Positions, signal: AbortSignal, take: Take) => Promise<void>;

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
