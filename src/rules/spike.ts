// Rules of the kind spike: a value far above its own recent past. In: a rule and what is held. Out: a verdict per label set.
//
// The past before the window is cut into pieces of the window's length. What is usual is their median, how much it varies the
// median distance from it: both stay what they were while a spike that goes on fills up to half of the past, where mean and
// standard deviation would follow it and end the alert. Breached above all of: `floor`, `factor` × usual,
// usual + `deviations` × spread. On a flat past the factor decides, on a noisy one the deviations, on a past of zeros the floor.
import { byKey, type JudgeContext, timesFor, type Verdict } from './breach.ts';
import type { SpikeRule } from './rule-types.ts';
import { type Query, type Reading, readMeasure, windowTo } from './values.ts';
import type { WindowStore } from './windows.ts';

const MIN_SAMPLES = 3;
/** Makes the median distance comparable with a standard deviation. */
const MAD_TO_SIGMA = 1.4826;

export interface Usual {
  readonly median: number;
  readonly threshold: number;
}

export function judgeSpike(rule: SpikeRule, context: JudgeContext): Verdict[] {
  const { store } = context;
  const times = timesFor(rule, context);
  const { measure, windowMs } = rule;
  const openWindow = windowTo(times.evalMs, windowMs);
  const closedWindow = { fromMs: times.completeMs - windowMs, toMs: times.completeMs };
  const read = (window: { fromMs: number; toMs: number }) => readMeasure(store, measure, queryOf(rule, window));
  const closed = byKey(read(closedWindow));
  const past = pastWindows(rule, closedWindow.fromMs, store).map((window) => byKey(read(window)));
  const least = Math.max(MIN_SAMPLES, Math.ceil(rule.baselineMs / windowMs / 2));

  return read(openWindow).map((reading): Verdict => {
    const { key, labels, gone } = reading;
    const samples = past.map((piece) => piece.get(key)?.value).filter((value) => value !== undefined);
    if (gone === true || samples.length < least) return { labels, state: 'unknown' };
    const usual = usualOf(samples, rule);
    const breach = (of: Reading | undefined, window: { fromMs: number; toMs: number }): Verdict | undefined =>
      of?.value !== undefined && of.value > usual.threshold
        ? {
            labels,
            state: 'breached',
            breach: {
              measure,
              reading: of,
              value: of.value,
              threshold: usual.threshold,
              baseline: usual.median,
              ...window,
            },
          }
        : undefined;
    const ended = closed.get(key);
    return (
      breach(reading, openWindow) ??
      breach(ended, closedWindow) ?? {
        labels,
        state: ended?.value === undefined ? 'unknown' : 'clear',
        value: ended?.value,
      }
    );
  });
}

/** The newest reading of a gauge for what is now, means for the past: one window, one number. */
function queryOf(rule: SpikeRule, window: { fromMs: number; toMs: number }): Query {
  return { ...window, nowMs: window.toMs, where: rule.where, by: rule.labels, over: 'mean' };
}

/** Before the first totals, and over a step of the clock, nothing is known: a count of those times would be 0 without being one. */
function pastWindows(rule: SpikeRule, endMs: number, store: WindowStore): { fromMs: number; toMs: number }[] {
  const sinceMs = Math.max(store.sinceMs() ?? Number.POSITIVE_INFINITY, store.unbrokenSinceMs());
  const windows: { fromMs: number; toMs: number }[] = [];
  for (let toMs = endMs; toMs - rule.windowMs >= endMs - rule.baselineMs; toMs -= rule.windowMs) {
    const fromMs = toMs - rule.windowMs;
    if (fromMs >= sinceMs) windows.push({ fromMs, toMs });
  }
  return windows;
}

export function usualOf(samples: readonly number[], { factor, deviations, floor }: SpikeRule): Usual {
  const median = medianOf(samples);
  const spread = MAD_TO_SIGMA * medianOf(samples.map((value) => Math.abs(value - median)));
  return { median, threshold: Math.max(floor, factor * median, median + deviations * spread) };
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
