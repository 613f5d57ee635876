// Rules of the kind trend: the last day against the same day a week ago, from hourly sums. In: a rule and the hours held. Out: one
// verdict. Guarantee: nothing is said while too few hours of either time are known.
import type { Measure, MeasureReference } from '../measure/measure-config.ts';
import { LABEL_SEPARATOR } from '../measure/totals.ts';
import type { JudgeContext, Verdict } from './breach.ts';
import { HOUR_MS } from './hourly.ts';
import type { TrendRule } from './rule-types.ts';
import { labelTest } from './series.ts';
import type { Reading } from './values.ts';
import type { WindowStore } from './windows.ts';

/** Share of the hours that must be known. */
const COVERAGE = 0.8;

interface Sum {
  readonly n: number;
  readonly sum: number;
}

export function judgeTrend(rule: TrendRule, { store, times }: JudgeContext): Verdict[] {
  const toMs = store.hourly.settledEndMs(times.evalMs);
  const fromMs = toMs - rule.windowMs;
  const now = valueOver(rule, store, fromMs, toMs);
  const before = valueOver(rule, store, fromMs - rule.offsetMs, toMs - rule.offsetMs);
  if (now?.value === undefined || before?.value === undefined) return [{ labels: {}, state: 'unknown' }];
  if (now.volume < rule.minEvents || before.volume < rule.minEvents) return [{ labels: {}, state: 'unknown' }];

  const threshold = Math.max(before.value * rule.factor, before.value + rule.floor);
  const { value } = now;
  if (value < threshold) return [{ labels: {}, state: 'clear', value }];
  const breach = { measure: rule.measure, reading: now, value, threshold, baseline: before.value, fromMs, toMs };
  return [{ labels: {}, state: 'breached', breach }];
}

function valueOver(rule: TrendRule, store: WindowStore, fromMs: number, toMs: number): Reading | undefined {
  const measure = store.measures.get(rule.measure)!;
  const sumOf = (reference: MeasureReference) => sumHours(rule, store, reference, fromMs, toMs);
  const reading = (value: number | undefined, volume: number, parts: Partial<Reading> = {}): Reading => ({
    key: '',
    labels: {},
    value,
    volume,
    ...parts,
  });
  if (measure.kind === 'ratio') {
    const [above, below] = [sumOf(measure.numerator), sumOf(measure.denominator)];
    if (above === undefined || below === undefined) return undefined;
    const parts = { numerator: above.n, denominator: below.n };
    return reading(below.n > 0 ? above.n / below.n : undefined, below.n, parts);
  }
  const total = sumOf(referenceOf(measure));
  if (total === undefined) return undefined;
  if (measure.kind === 'mean') return reading(total.n > 0 ? total.sum / total.n : undefined, total.n);
  return reading(measure.kind === 'rate' ? (total.n * measure.perMs) / (toMs - fromMs) : total.n, total.n);
}

function referenceOf(measure: Measure): MeasureReference {
  return 'of' in measure ? measure.of : { of: measure.name, where: {} };
}

/** Undefined when too few hours are known. */
function sumHours(
  rule: TrendRule,
  store: WindowStore,
  { of, where }: MeasureReference,
  fromMs: number,
  toMs: number,
): Sum | undefined {
  const by = store.table(of)?.measure.by ?? [];
  const matches = labelTest({ ...where, ...rule.where }, by);
  let known = 0;
  let n = 0;
  let sum = 0;
  for (let hourMs = fromMs; hourMs < toMs; hourMs += HOUR_MS) {
    const keys = store.hourly.hour(of, hourMs);
    if (keys === undefined) continue;
    known++;
    for (const [key, [count, total]] of keys) {
      if (!matches(key.split(LABEL_SEPARATOR))) continue;
      n += count;
      sum += total;
    }
  }
  return known >= (COVERAGE * (toMs - fromMs)) / HOUR_MS ? { n, sum } : undefined;
}
