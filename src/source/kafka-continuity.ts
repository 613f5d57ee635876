// Does a batch continue what was read? In: batches as kafkajs hands them over. Out: take it, or have it fetched again.
// Guarantee: nothing is skipped because kafkajs read on from another position than ours.
import type { Batch } from 'kafkajs';
import type { OffsetTracker } from './offset-tracker.ts';

export interface ContinuityCheck {
  /** False: the batch is not to be taken; `seek` has been called. */
  continues(batch: Batch): boolean;
  /** A new assignment. */
  reset(): void;
}

/**
 * kafkajs can hand over a batch that was fetched before a rejoin although the seek of the new assignment is no longer
 * pending: with several brokers, when the partition's leader moved, the fetcher of the new leader has applied it while
 * the batch still waited in the queue of the old one. Such a batch lies beyond the committed offset. One seek back to
 * our position tells that apart from records that no longer exist: after those the same gap comes again.
 */
export function createContinuityCheck(
  tracker: Pick<OffsetTracker, 'position'>,
  seek: (partition: number, offset: number) => void,
): ContinuityCheck {
  const soughtBack = new Map<number, number>();
  return {
    continues(batch) {
      const { partition, fetchedOffset } = batch as Batch & { readonly fetchedOffset?: string };
      const expected = tracker.position(partition);
      // Not the first record's offset: compaction and transaction markers leave gaps behind a right position.
      if (expected === undefined || !(Number(fetchedOffset) > expected)) return true;
      if (soughtBack.get(partition) === expected) return true;
      soughtBack.set(partition, expected);
      seek(partition, expected);
      return false;
    },
    reset: () => soughtBack.clear(),
  };
}
