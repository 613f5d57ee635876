// The contract of everything a replay, a backtest or an export reads from. In: a stretch of time. Out: records in batches, part by
// part, each batch with the position to go on from once it is accounted for.
// Guarantee of every source: it moves nobody's offsets and changes nothing; the same part and position give the same records.
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import type { TimeRange } from './selection.ts';

/** The log topic, the dead letters, existing indices, NDJSON files. */
export const SOURCE_KINDS = ['kafka', 'dlq', 'index', 'file'] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

/** Where a part goes on: an offset, a byte, or the sort values of a search. Fit for JSON. */
export type Position = number | readonly unknown[];

/** Positions by part; a part without one starts at its beginning. */
export type Positions = ReadonlyMap<string, Position>;

/** Consecutive records of one part, in its order. */
export interface StoredBatch {
  /** `topic/3` (a partition), `index/0-10` (a slice of time) or a file's path. */
  readonly part: string;
  /** As delivered, before the event time is looked at: the stretch may reach further than what is asked for. */
  readonly records: readonly RawRecord[];
  /** Where record `i` came from. A dead letter and a document tell the place they had in the log topic. */
  readonly origin: (i: number) => ChunkOrigin;
  /** The document that record `i` was read from, as it is stored. */
  readonly document?: (i: number) => Readonly<Record<string, unknown>> | undefined;
  /** False for a record that tells no time: it has that of its file. Default: every record tells one. */
  readonly hasTime?: (i: number) => boolean;
  /** The part goes on here when all records of this batch, and of those before, are accounted for. */
  readonly next: Position;
}

/** What a source holds, before it is read. */
export interface SourcePlan {
  readonly parts: readonly PlannedPart[];
  /** An upper bound of the records to read; for a file it is not known. */
  readonly records: number | undefined;
  readonly bytes: number | undefined;
  /** Sentences about what is missing: retention, an index that is closed. */
  readonly gaps: readonly string[];
}

export interface PlannedPart {
  readonly part: string;
  readonly from: Position;
  /** The first position that is not read; undefined where only reading tells. */
  readonly to: Position | undefined;
  readonly records: number | undefined;
}

/** Resolves when the part may go on; false ends the reading. */
export type Take = (batch: StoredBatch) => Promise<boolean>;

export interface StoredSource {
  readonly kind: SourceKind;
  /** What would be read; asks the servers, reads nothing. */
  plan(): Promise<SourcePlan>;
  /**
   * Hands over batches of all parts, those of one part in order, each when the one before it was taken. Ends at the end of the
   * stretch also where no later record exists, and early at `signal` or a `false`.
   * @param onEnd told of each part of which nothing more comes
   */
  feed(from: Positions, signal: AbortSignal, take: Take, onEnd?: (part: string) => void): Promise<void>;
  /** Known after `feed`: sentences about what was expected and not found. */
  missing(): readonly string[];
}

/** Which records of a topic. */
export interface StretchOptions {
  /** By event time; undefined reads everything. */
  readonly range: TimeRange | undefined;
  /** How much later than its event a record may have been written, and how much earlier (clocks that are ahead). */
  readonly latenessMs: number;
  readonly aheadMs: number;
  /** What for, in one word: for the log. */
  readonly purpose: string;
}
