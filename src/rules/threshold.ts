// Rules of the kinds threshold, ratio and percentile: a value above or below a bound. In: a rule and what is held. Out: verdicts.
// Guarantee: a breach may rest on the unfinished bucket, an end only on complete ones; too few events say nothing, except that
// the last hour may show that all is well again; a label set that has gone is not spoken of.
import { BUCKET_MS } from '../measure/totals.ts';
import { byKey, type JudgeContext, timesFor, type Verdict } from './breach.ts';
import type { Observation } from './observation.ts';
import type { EvaluationTimes } from './progress.ts';
import { exceeds, isUpper, type ThresholdRule } from './rule-types.ts';
import { type Query, type Reading, readMeasure, sourcesOf, windowTo } from './values.ts';
import type { WindowStore } from './windows.ts';

/** With too few events in its window a rule that fires looks back as far as this to end. */
const LOOK_BACK_MS = [900_000, 1_800_000, 2_700_000, 3_600_000] as const;

export function judgeThreshold(rule: ThresholdRule, context: JudgeContext): Verdict[] {
  const { store } = context;
  const times = timesFor(rule, context);
  const gauge = readsGauge(store, rule.measure);
  const measure = gauge ? measureWithData(rule, store, times) : rule.measure;
  const verdicts = gauge ? judgeGauge(rule, measure, store, times) : judgeEvents(rule, measure, store, times);
  return rule.onlyWhile === undefined ? verdicts : verdicts.map((verdict) => gated(rule, verdict, store, times));
}

function readsGauge(store: WindowStore, measure: string): boolean {
  const definition = store.measures.get(measure);
  return definition !== undefined && sourcesOf(definition).some((name) => store.table(name)?.kind === 'gauge');
}

function queryOf(rule: ThresholdRule, window: { fromMs: number; toMs: number }, nowMs: number): Query {
  const { where, labels: by, bound, over } = rule;
  return { ...window, nowMs, where, by, over, pick: isUpper(bound) ? 'highest' : 'lowest' };
}

/** The rule's measure, or its fallback while nobody at all reports the measure itself. */
function measureWithData(rule: ThresholdRule, store: WindowStore, times: EvaluationTimes): string {
  const { measure, fallback, windowMs } = rule;
  if (fallback === undefined) return measure;
  const query = queryOf(rule, windowTo(times.evalMs, windowMs), times.evalMs);
  return readMeasure(store, measure, query).some(({ value }) => value !== undefined) ? measure : fallback;
}

/** Gauges are readings, not parts of a count: the newest one counts, whether its bucket is complete or not. */
function judgeGauge(rule: ThresholdRule, measure: string, store: WindowStore, times: EvaluationTimes): Verdict[] {
  const window = windowTo(times.evalMs, rule.windowMs);
  return readMeasure(store, measure, queryOf(rule, window, times.evalMs))
    .filter(({ gone }) => gone !== true)
    .map((reading) => {
      const { labels, value } = reading;
      if (value === undefined) return { labels, state: 'unknown' };
      if (!exceeds(value, rule.bound)) return { labels, state: 'clear', value };
      return { labels, state: 'breached', breach: { measure, reading, value, threshold: rule.bound.value, ...window } };
    });
}

function judgeEvents(rule: ThresholdRule, measure: string, store: WindowStore, times: EvaluationTimes): Verdict[] {
  const { windowMs, bound } = rule;
  const kind = store.measures.get(measure)?.kind;
  const plain = kind === 'counter' || kind === 'rate';
  const enough = (reading: Reading | undefined): reading is Reading & { value: number } =>
    reading?.value !== undefined && (plain || reading.volume >= rule.minEvents);

  const openWindow = windowTo(times.evalMs, windowMs);
  const closedWindow = { fromMs: times.completeMs - windowMs, toMs: times.completeMs };
  const open = judgeWindow(openWindow);
  const closed = judgeWindow(closedWindow);
  // A count that is not finished is too low, which is no reason to say that it is below something.
  const trustOpen = !(plain && !isUpper(bound));
  // Nor is one that began within the window: what came before nobody has counted.
  const whole = ({ fromMs }: { readonly fromMs: number }) =>
    trustOpen || ((store.sinceMs() ?? fromMs + 1) <= fromMs && store.unbrokenSinceMs() <= fromMs);
  // Nor that it is above no more, when the clock was set within the window: what had come before is not in it.
  const toldEnd = ({ fromMs }: { readonly fromMs: number }) =>
    !plain || !trustOpen || store.unbrokenSinceMs() <= fromMs;
  const looked = new Map<number, Map<string, Reading>>();

  function judgeWindow(window: { fromMs: number; toMs: number }) {
    const query = queryOf(rule, window, times.evalMs);
    const readings = byKey(readMeasure(store, measure, query));
    const all = rule.againstOthers === undefined ? undefined : readMeasure(store, measure, { ...query, by: [] })[0];
    return { window, readings, all };
  }

  function breachIn({ window, readings, all }: ReturnType<typeof judgeWindow>, key: string): Verdict | undefined {
    const reading = readings.get(key);
    if (!whole(window) || !enough(reading) || !exceeds(reading.value, bound) || !standsOut(rule, reading, all))
      return undefined;
    const { labels, value } = reading;
    return { labels, state: 'breached', breach: { measure, reading, value, threshold: bound.value, ...window } };
  }

  /** Too few events in the window: `clear` when enough of the last hour show it, else nothing is known. */
  function lookBack(key: string): Observation['state'] {
    for (const reachMs of LOOK_BACK_MS) {
      if (reachMs <= windowMs || (kind === 'percentile' && reachMs > store.binsMs)) continue;
      let readings = looked.get(reachMs);
      if (readings === undefined) {
        const window = { fromMs: times.completeMs - reachMs, toMs: times.completeMs };
        readings = byKey(readMeasure(store, measure, queryOf(rule, window, times.evalMs)));
        looked.set(reachMs, readings);
      }
      const reading = readings.get(key);
      if (enough(reading)) return exceeds(reading.value, bound) ? 'unknown' : 'clear';
    }
    return 'unknown';
  }

  return [...open.readings.values()].map(({ key, labels }) => {
    const breach = (trustOpen ? breachIn(open, key) : undefined) ?? breachIn(closed, key);
    if (breach !== undefined) return breach;
    const reading = closed.readings.get(key);
    if (!enough(reading)) return { labels, state: lookBack(key) };
    const ended = exceeds(reading.value, bound) ? whole(closedWindow) : toldEnd(closedWindow);
    return ended ? { labels, state: 'clear', value: reading.value } : { labels, state: 'unknown' };
  });
}

/** Compared with all other label sets together; with too few events of others there is nothing to stand out from. */
function standsOut(rule: ThresholdRule, reading: Reading, all: Reading | undefined): boolean {
  const { againstOthers, minEvents } = rule;
  if (againstOthers === undefined) return true;
  const volume = (all?.denominator ?? 0) - (reading.denominator ?? 0);
  if (volume < minEvents) return false;
  const others = ((all?.numerator ?? 0) - (reading.numerator ?? 0)) / volume;
  return (reading.value ?? 0) >= againstOthers * others;
}

function gated(rule: ThresholdRule, verdict: Verdict, store: WindowStore, times: EvaluationTimes): Verdict {
  const gate = rule.onlyWhile!;
  const { labels, state } = verdict;
  if (state === 'clear') return verdict;
  const definition = store.measures.get(gate.measure)!;
  const known = sourcesOf(definition).map((name) => store.table(name)?.measure.by ?? []);
  // Labels the gate's measure does not have say nothing about it.
  const own = Object.entries(labels).filter(([name]) => known.every((by) => by.includes(name)));
  const toMs = Math.floor(times.evalMs / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  const query = {
    fromMs: toMs - gate.windowMs,
    toMs,
    nowMs: times.evalMs,
    where: { ...gate.where, ...Object.fromEntries(own) },
    over: gate.over,
    pick: isUpper(gate.bound) ? 'highest' : 'lowest',
  } as const;
  const value = readMeasure(store, gate.measure, query)[0]?.value;
  if (value === undefined) return { labels, state: 'unknown' };
  return exceeds(value, gate.bound) ? verdict : { labels, state: 'clear' };
}
