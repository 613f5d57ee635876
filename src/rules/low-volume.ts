// Rules of the kind low-volume: the last few events when there are too few for a ratio, as in a quiet night. In: a rule, the ratio
// rule it stands in for, what is held. Out: a verdict per label set. Guarantee: while the ratio rule has enough events it alone
// speaks, and this one is clear, so that one fault never fires twice for one reason.
import { BUCKET_MS } from '../measure/totals.ts';
import { byKey, type JudgeContext, type Verdict } from './breach.ts';
import { exceeds, type LowVolumeRule, type ThresholdRule } from './rule-types.ts';
import { type Query, type Reading, readMeasure, windowTo } from './values.ts';

export function judgeLowVolume(rule: LowVolumeRule, ratioRule: ThresholdRule, context: JudgeContext): Verdict[] {
  const { store, times } = context;
  const { measure, bound, where, labels: by } = rule;
  const queryFor = (window: { fromMs: number; toMs: number }): Query => ({ ...window, nowMs: times.evalMs, where, by });
  const closedMs = times.completeMs;
  // The ratio rule looks at both: at what is complete, and at the unfinished bucket as well.
  const ratioWindows = [
    { fromMs: closedMs - ratioRule.windowMs, toMs: closedMs },
    windowTo(times.evalMs, ratioRule.windowMs),
  ].map((window) => byKey(readMeasure(store, measure, queryFor(window))));

  return readMeasure(store, measure, queryFor(windowTo(times.evalMs, rule.windowMs))).map((whole): Verdict => {
    const { key, labels } = whole;
    const spokenFor = ratioWindows.some((readings) => (readings.get(key)?.volume ?? 0) >= ratioRule.minEvents);
    if (spokenFor) return { labels, state: 'clear' };
    const newest = lastEvents(rule, windowTo(times.evalMs, rule.windowMs), context, labels);
    const value = newest?.reading.value;
    if (newest !== undefined && value !== undefined && exceeds(value, bound)) {
      const { reading, window } = newest;
      return { labels, state: 'breached', breach: { measure, reading, value, threshold: bound.value, ...window } };
    }
    const closed = lastEvents(rule, { fromMs: closedMs - rule.windowMs, toMs: closedMs }, context, labels);
    if (closed?.reading.value === undefined) return { labels, state: 'unknown' };
    return exceeds(closed.reading.value, bound)
      ? { labels, state: 'unknown' }
      : { labels, state: 'clear', value: closed.reading.value };
  });
}

/**
 * The newest events of the window: whole buckets until there are at least `last`. Undefined with fewer than `minEvents`.
 * The shortest window with that many is found by halving: volume only grows with the window.
 */
function lastEvents(
  rule: LowVolumeRule,
  whole: { fromMs: number; toMs: number },
  { store, times }: JudgeContext,
  labels: Readonly<Record<string, string>>,
): { reading: Reading; window: { fromMs: number; toMs: number } } | undefined {
  const read = (buckets: number) => {
    const window = { fromMs: whole.toMs - buckets * BUCKET_MS, toMs: whole.toMs };
    const query = { ...window, nowMs: times.evalMs, where: { ...rule.where, ...labels } };
    return { reading: { ...readMeasure(store, rule.measure, query)[0]!, labels }, window };
  };
  let most = Math.round((whole.toMs - whole.fromMs) / BUCKET_MS);
  const all = read(most);
  if (all.reading.volume < rule.minEvents) return undefined;
  if (all.reading.volume <= rule.last) return all;
  let least = 0;
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2);
    if (read(middle).reading.volume >= rule.last) most = middle;
    else least = middle;
  }
  return read(most);
}
