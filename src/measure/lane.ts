// One lane while it is read: its arrival buckets, oldest first, and the acknowledgements that wait for them. In: records in
// offset order. Out: buckets, each closed by the first record of a later one. Guarantee: a bucket's totals depend on the
// lane's records alone; a record that is delivered twice within an assignment is counted once.
import type { Chunk, RawRecord } from '../core/record.ts';
import { ArrivalBucket } from './bucket.ts';
import type { CollectedMeasure } from './measure-config.ts';
import type { RecentIds } from './recent-ids.ts';
import { BUCKET_MS } from './totals.ts';

/** Acknowledges `count` records. Not the chunk itself: that would keep the bytes of its records in memory. */
export interface Part {
  readonly done: Chunk['done'];
  count: number;
}

/** An arrival bucket with what is known of its publication. */
export interface LaneBucket {
  readonly totals: ArrivalBucket;
  /** As of its lane. */
  readonly replayable: boolean;
  parts: Part[];
  /** A later bucket began: no more records. */
  closed: boolean;
  /** Totals up to this offset are durable. */
  publishedTo: number;
  /** When that was, monotonic. */
  publishedMs: number;
  /** The totals are durable as those of a closed bucket. */
  final: boolean;
}

export interface Lane {
  readonly name: string;
  /** A log that can be read again acknowledges closed buckets only; a journal of totals, everything that is durable. */
  readonly replayable: boolean;
  /** The offset after the last record seen; -1 before the first. */
  next: number;
  /** Arrival time of the newest record, ms. */
  newestMs: number;
  open: LaneBucket | undefined;
  readonly ids: RecentIds | undefined;
}

export function createLane(name: string, replayable: boolean, ids?: RecentIds): Lane {
  return { name, replayable, next: -1, newestMs: 0, open: undefined, ids };
}

/**
 * The bucket a record belongs to: that of its time, but never an earlier one than the lane has reached. Closes the open
 * one where it must.
 */
export function bucketFor(
  lane: Lane,
  record: RawRecord,
  measures: readonly CollectedMeasure[],
  onClosed: (bucket: LaneBucket) => void,
): LaneBucket {
  const { open } = lane;
  if (open !== undefined && !(record.timeMs >= open.totals.arrivalMs + BUCKET_MS)) return open;
  const arrivalMs = Math.floor(record.timeMs / BUCKET_MS) * BUCKET_MS;
  if (open !== undefined) {
    open.closed = true;
    onClosed(open);
  }
  const fresh: LaneBucket = {
    totals: new ArrivalBucket(lane.name, arrivalMs, measures),
    replayable: lane.replayable,
    parts: [],
    closed: false,
    publishedTo: -1,
    publishedMs: 0,
    final: false,
  };
  lane.open = fresh;
  return fresh;
}

/** The clock of the broker that dates the lane's records was set back: what comes now begins a bucket in the new time. */
export function beginAnew(lane: Lane, onClosed: (bucket: LaneBucket) => void): void {
  const { open } = lane;
  lane.open = undefined;
  lane.newestMs = 0;
  if (open === undefined) return;
  open.closed = true;
  onClosed(open);
}

/** One more record of `chunk` waits for the bucket. */
export function addPart(bucket: LaneBucket, chunk: Chunk): void {
  const last = bucket.parts[bucket.parts.length - 1];
  if (last !== undefined && last.done === chunk.done) last.count += 1;
  else bucket.parts.push({ done: chunk.done, count: 1 });
}

/** Has it anything to say that is not durable? Records that count nowhere need no totals. */
export function isDirty({ totals, closed, final, publishedTo }: LaneBucket): boolean {
  return totals.records > 0 && (closed ? !final : totals.upToOffset > publishedTo);
}

/** Acknowledges everything that waits, in one go: no commit falls between two of them. */
export function acknowledge(bucket: LaneBucket): void {
  const { parts } = bucket;
  bucket.parts = [];
  for (const { done, count } of parts) done(count);
}
