// Cuts a batch where a new arrival bucket begins, so that a commit can name the first record of a bucket. Pure.
// Guarantee: every record that may be the first of its bucket begins a part. A record time that goes back begins none.
import type { RawRecord } from '../core/record.ts';

/**
 * Indexes of `records` between which the parts lie, the first and the last included. What the partition had reached before
 * need not be known: a cut more does no harm.
 */
export function splitAtBuckets(records: readonly RawRecord[], widthMs: number): number[] {
  const cuts = [0];
  let endMs = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < records.length; i++) {
    const { timeMs } = records[i]!;
    if (timeMs < endMs) continue;
    if (i > 0) cuts.push(i);
    endMs = Math.floor(timeMs / widthMs) * widthMs + widthMs;
  }
  if (records.length > 0) cuts.push(records.length);
  return cuts;
}
