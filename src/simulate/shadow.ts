// What rules would have said about events that are replayed: evaluated, told to nobody. In: events with the times they arrived, in
// any order. Out: a timeline. Guarantee: the order in which events come does not matter as long as they are less than two hours of
// arrival apart; memory is bounded by that; nothing leaves the process.
import { createMasker, type Masker } from '../core/mask.ts';
import type { RawRecord } from '../core/record.ts';
import { ArrivalBucket } from '../measure/bucket.ts';
import { compileCollect } from '../measure/collect.ts';
import { collectedOf, type Measures } from '../measure/measure-config.ts';
import { BUCKET_MS, type BucketTotals } from '../measure/totals.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import { createRuleSet } from './stages.ts';
import { type Timeline, timelineOf } from './timeline.ts';

export interface ShadowAlerts {
  /** Records that were counted when they first arrived (`redriven`, `replayed`) count nowhere, as in earnest. */
  see(event: TaggedEvent, record: Pick<RawRecord, 'eventId' | 'mark'>, arrivalMs: number): void;
  /** Evaluates what is left, and `afterMs` more in which nothing arrives, so that what is over is seen to be over. */
  finish(afterMs?: number): Timeline;
}

/** Two hours. */
const MAX_BUCKETS = 720;
const AFTER_MS = 120_000;

export function createShadowAlerts(rules: Rules, measures: Measures, masker: Masker = createMasker()): ShadowAlerts {
  const collected = collectedOf(measures);
  const collect = compileCollect(collected);
  /** Start -> what arrived in it; those that were evaluated are gone. */
  const buckets = new Map<number, ArrivalBucket>();
  let ruleSet: ReturnType<typeof createRuleSet> | undefined;
  let firstMs = 0;
  /** Start of the next bucket to evaluate. */
  let nextMs = Number.NEGATIVE_INFINITY;

  /** Evaluates up to and including the bucket that starts at `lastMs`. */
  function evaluateTo(lastMs: number): void {
    if (ruleSet === undefined) {
      firstMs = Math.min(...buckets.keys());
      nextMs = firstMs;
      ruleSet = createRuleSet(rules, { measures, fromMs: firstMs, initial: new Map() }, masker);
    }
    for (; nextMs <= lastMs; nextMs += BUCKET_MS) {
      // Just before the next one begins, as in a backtest.
      const atMs = nextMs + BUCKET_MS - 1;
      const bucket = buckets.get(nextMs);
      buckets.delete(nextMs);
      if (bucket !== undefined) {
        const totals = JSON.parse(bucket.toJson()) as BucketTotals;
        ruleSet.evaluations.counts({ kind: 'totals', totals }, atMs);
      }
      const progress = { lane: '0', lanes: 1, position: 0, end: 0, arrivalMs: atMs, caughtUp: true };
      ruleSet.evaluations.counts({ kind: 'progress', progress }, atMs);
      ruleSet.judge(atMs);
    }
  }

  function bucketAt(arrivalMs: number): ArrivalBucket {
    const startMs = Math.max(nextMs, Math.floor(arrivalMs / BUCKET_MS) * BUCKET_MS);
    let bucket = buckets.get(startMs);
    if (bucket === undefined) {
      if (buckets.size >= MAX_BUCKETS) evaluateTo(Math.min(...buckets.keys()));
      bucket = new ArrivalBucket('0', startMs, collected);
      buckets.set(startMs, bucket);
    }
    return bucket;
  }

  return {
    see(event, { eventId, mark }, arrivalMs) {
      if (mark === 'redriven' || mark === 'replayed') return;
      const bucket = bucketAt(arrivalMs);
      bucket.records += 1;
      bucket.upToOffset += 1;
      collect(event, eventId, Math.max(arrivalMs, bucket.arrivalMs), bucket);
    },
    finish(afterMs = AFTER_MS) {
      if (buckets.size === 0 && ruleSet === undefined) {
        return timelineOf({ alerts: [], messages: [] }, rules, { fromMs: 0, toMs: 0 });
      }
      const lastMs = Math.max(nextMs - BUCKET_MS, ...buckets.keys()) + afterMs;
      evaluateTo(Math.floor(lastMs / BUCKET_MS) * BUCKET_MS);
      return timelineOf(ruleSet!, rules, { fromMs: firstMs, toMs: nextMs });
    },
  };
}
