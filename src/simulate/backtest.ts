// Rules over what was recorded. In: records in order of arrival, one or two rule sets, a range. Out: per rule set the alerts that
// would have fired, the messages and pages; of two the difference. Guarantee: deterministic, byte for byte; memory does not grow
// with the number of records.
import type { Masker } from '../core/mask.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import { createFeed, type FeedOptions, type StoredRecord } from './feed.ts';
import { type Timeline, timelineOf } from './timeline.ts';
import { type Difference, difference } from './timeline-diff.ts';

export interface BacktestOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** A second rule set, judged over the same counts. */
  readonly compare?: Rules;
  readonly parse: ParseConfig;
  readonly masker?: Masker;
  readonly fromMs: number;
  readonly toMs: number;
  /** Driven on until then, for the sake of what arrives late; the timeline ends at `toMs` all the same. */
  readonly untilMs?: number;
  /** So long before `fromMs` the records begin, so that windows are filled. */
  readonly warmUpMs: number;
  /** From one evaluation to the next. */
  readonly tickMs: number;
  readonly onTick?: FeedOptions['onTick'];
}

export interface BacktestResult {
  readonly from: string;
  readonly to: string;
  readonly warmUpSeconds: number;
  readonly tickSeconds: number;
  /** Records from `from` on, and those of the warm-up. */
  readonly records: number;
  readonly warmUpRecords: number;
  readonly timeline: Timeline;
  /** With two rule sets. */
  readonly compared?: Timeline;
  readonly difference?: Difference;
}

/** @param batches records in order of arrival; those outside of the warm-up and the range are passed over */
export async function backtest(
  batches: AsyncIterable<readonly StoredRecord[]>,
  options: BacktestOptions,
): Promise<BacktestResult> {
  const { rules, compare, fromMs, toMs, untilMs = toMs, warmUpMs, tickMs } = options;
  const beginMs = fromMs - warmUpMs;
  const feed = createFeed({
    measures: options.measures,
    ruleSets: compare === undefined ? [rules] : [rules, compare],
    parse: options.parse,
    ...(options.masker === undefined ? {} : { masker: options.masker }),
    fromMs: beginMs,
    learnedMs: fromMs,
    tickMs,
    ...(options.onTick === undefined ? {} : { onTick: options.onTick }),
  });
  let warmUpRecords = 0;
  let inRange = 0;
  for await (const batch of batches) {
    for (const record of batch) {
      const { arrivalMs } = record;
      if (arrivalMs < beginMs || arrivalMs >= untilMs) continue;
      if (arrivalMs < fromMs) warmUpRecords += 1;
      else if (arrivalMs < toMs) inRange += 1;
      const pending = feed.see(record);
      if (pending !== undefined) await pending;
    }
  }
  await feed.finish(untilMs);

  const [first, second] = feed.ruleSets;
  const timeline = timelineOf(first!, rules, { fromMs, toMs });
  const compared =
    second === undefined || compare === undefined ? undefined : timelineOf(second, compare, { fromMs, toMs });
  return {
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
    warmUpSeconds: warmUpMs / 1_000,
    tickSeconds: tickMs / 1_000,
    records: inRange,
    warmUpRecords,
    timeline,
    ...(compared === undefined ? {} : { compared, difference: difference(timeline, compared) }),
  };
}
