// Judges all rules at one moment, kind by kind. In: rules, windows, times. Out: what each rule says of each of its label sets.
// Guarantee: the same input gives the same observations; only the sets of known things and of silent ones change; while logpipe is
// behind, no rule about the log says anything that would begin or end an alert.

import { isOver } from '../core/clock.ts';
import type { Measure, MeasureReference } from '../measure/measure-config.ts';
import { BUCKET_MS, LABEL_SEPARATOR } from '../measure/totals.ts';
import { HOUR_MS, type Labels, labelTest } from '../windows/series.ts';
import { type Query, type Reading, readMeasure, sourcesOf, windowTo } from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';
import { type EvaluationTimes, isBehind } from '../windows/windows.ts';
import type { KnownSet, QuietSet } from './known-sets.ts';
import type { Rules } from './rule-config.ts';
import {
  type AbsenceRule,
  exceeds,
  type FirstSeenRule,
  type Gate,
  isUpper,
  type LowVolumeRule,
  type MeasuredRule,
  type Observation,
  type Rule,
  type SpikeRule,
  type ThresholdRule,
  type TrendRule,
} from './rule-types.ts';
import { byKey, isInternal, type JudgeContext, timesFor, toObservations, type Verdict } from './words.ts';

export interface JudgeDeps {
  /** For first-seen rules; without it they say nothing. */
  readonly known?: KnownSet;
  /** For absence rules; without it they know only what the windows hold. */
  readonly quiet?: QuietSet | undefined;
}

export function judgeRules(
  rules: Rules,
  store: WindowStore,
  times: EvaluationTimes,
  deps: JudgeDeps = {},
): Observation[] {
  const behind = isBehind(times);
  const observations: Observation[] = [];
  for (const rule of rules) {
    if (rule.kind === 'late') continue;
    const internal = isInternal(store, rule.measure);
    const held = behind && !internal;
    // Nothing new must be learned while it cannot be reported.
    if (held && rule.kind === 'first-seen') continue;
    // While a lag is caught up, the log does not tell who is silent.
    const verdicts = judge(rule, rules, { store, times }, held ? { ...deps, quiet: undefined } : deps);
    if (held) for (const { labels } of verdicts) observations.push({ ruleId: rule.id, labels, state: 'held' });
    else {
      const said = toObservations(rule, verdicts, store);
      observations.push(...(internal ? said.map((one) => ({ ...one, atMs: times.wallMs })) : said));
    }
  }
  return observations;
}

export function judge(rule: MeasuredRule, rules: Rules, context: JudgeContext, deps: JudgeDeps): Verdict[] {
  switch (rule.kind) {
    case 'threshold':
    case 'ratio':
    case 'percentile':
      return judgeThreshold(rule, context);
    case 'absence':
      return judgeAbsence(rule, context, deps.quiet);
    case 'spike':
      return judgeSpike(rule, context);
    case 'low-volume': {
      const ratioRule = ratioRuleOf(rule, rules);
      return ratioRule === undefined ? [] : judgeLowVolume(rule, ratioRule, context);
    }
    case 'first-seen':
      return deps.known === undefined ? [] : judgeFirstSeen(rule, context, deps.known);
    case 'trend':
      return judgeTrend(rule, context);
  }
}

// ---- threshold, ratio and percentile: a value above or below a bound ----
// A breach may rest on the unfinished bucket, an end only on complete ones; too few events say nothing, except that
// the last hour may show that all is well again; a label set that has gone is no longer judged.

/** With too few events in its window, a rule looks this far back, step by step, for enough of them to end the alert. */
const LOOK_BACK_MS = [900_000, 1_800_000, 2_700_000, 3_600_000] as const;

function judgeThreshold(rule: ThresholdRule, context: JudgeContext): Verdict[] {
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

/** Made a million times in a simulated day, and a spread takes longer than all of reading. */
function queryOf(rule: ThresholdRule, { fromMs, toMs }: { fromMs: number; toMs: number }, nowMs: number): Query {
  const { where, labels: by, bound, over } = rule;
  return { fromMs, toMs, nowMs, where, by, over, pick: isUpper(bound) ? 'highest' : 'lowest' };
}

/** The rule's measure, or its fallback while nobody reports the measure itself. */
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
  // An unfinished count is too low, which does not mean that it is below the bound.
  const trustOpen = !(plain && !isUpper(bound));
  // The same goes for counting that began within the window: nobody has counted what came before.
  const whole = ({ fromMs }: { readonly fromMs: number }) =>
    trustOpen || ((store.sinceMs() ?? fromMs + 1) <= fromMs && store.unbrokenSinceMs() <= fromMs);
  // And when the clock was set within the window, a low count is no end: what came before the step is not in it.
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

  /** Too few events in the window: `clear` when enough events of the last hour show it, else nothing is known. */
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

/** Compares with all other label sets together; with too few events of others there is nothing to stand out from. */
function standsOut(rule: ThresholdRule, reading: Reading, all: Reading | undefined): boolean {
  const { againstOthers, minEvents } = rule;
  if (againstOthers === undefined) return true;
  const volume = (all?.denominator ?? 0) - (reading.denominator ?? 0);
  if (volume < minEvents) return false;
  const others = ((all?.numerator ?? 0) - (reading.numerator ?? 0)) / volume;
  return (reading.value ?? 0) >= againstOthers * others;
}

function gated(rule: ThresholdRule, verdict: Verdict, store: WindowStore, times: EvaluationTimes): Verdict {
  const { labels, state } = verdict;
  if (state === 'clear') return verdict;
  const gate = rule.onlyWhile!;
  const value = gateValue(gate, labels, store, times);
  if (value === undefined) return { labels, state: 'unknown' };
  return exceeds(value, gate.bound) ? verdict : { labels, state: 'clear' };
}

function gateValue(gate: Gate, labels: Labels, store: WindowStore, times: EvaluationTimes): number | undefined {
  const definition = store.measures.get(gate.measure)!;
  const known = sourcesOf(definition).map((name) => store.table(name)?.measure.by ?? []);
  // Labels that the gate's measure does not have cannot narrow it down.
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
  return readMeasure(store, gate.measure, query)[0]?.value;
}

// ---- spike: a value far above its own recent past ----
// The past before the window is cut into pieces of the window's length. The usual value is their median, and the spread is the
// median distance from it: both stay the same until a lasting spike fills half of the past, whereas mean and standard deviation
// would follow the spike and end the alert. Breached above all of: `floor`, `factor` × usual, usual + `deviations` × spread.
// With a flat past the factor decides, with a noisy one the deviations, with a past of zeros the floor.

const MIN_SAMPLES = 3;
/** Makes the median distance comparable with a standard deviation. */
const MAD_TO_SIGMA = 1.4826;

interface Usual {
  readonly median: number;
  readonly threshold: number;
}

function judgeSpike(rule: SpikeRule, context: JudgeContext): Verdict[] {
  const { store } = context;
  const times = timesFor(rule, context);
  const { measure, windowMs } = rule;
  const openWindow = windowTo(times.evalMs, windowMs);
  const closedWindow = { fromMs: times.completeMs - windowMs, toMs: times.completeMs };
  const read = (window: { fromMs: number; toMs: number }) => readMeasure(store, measure, spikeQueryOf(rule, window));
  const closed = byKey(read(closedWindow));
  const past = pastWindows(rule, closedWindow.fromMs, store).map((window) => byKey(read(window)));
  const least = leastSamples(rule);

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

/** With fewer pieces of the past known nothing is said. */
function leastSamples({ baselineMs, windowMs }: SpikeRule): number {
  return Math.max(MIN_SAMPLES, Math.ceil(baselineMs / windowMs / 2));
}

/** Means of gauges, for the present window as for the past ones. */
function spikeQueryOf(rule: SpikeRule, { fromMs, toMs }: { fromMs: number; toMs: number }): Query {
  return { fromMs, toMs, nowMs: toMs, where: rule.where, by: rule.labels, over: 'mean' };
}

/** Windows from before the first totals, or before a step of the clock, are left out: their counts would be 0 only because nobody counted. */
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

// ---- trend: the last day against the same day a week ago, from hourly sums ----
// Nothing is said while too few hours of either day are known.

/** Share of the hours that must be known. */
const COVERAGE = 0.8;

interface Sum {
  readonly n: number;
  readonly sum: number;
}

function judgeTrend(rule: TrendRule, { store, times }: JudgeContext): Verdict[] {
  const toMs = store.hourly.finishedEndMs(times.evalMs);
  const fromMs = toMs - rule.windowMs;
  const now = valueOver(rule, store, fromMs, toMs);
  const before = valueOver(rule, store, fromMs - rule.offsetMs, toMs - rule.offsetMs);
  if (now?.value === undefined || before?.value === undefined) return [{ labels: {}, state: 'unknown' }];
  if (now.volume < rule.minEvents || before.volume < rule.minEvents) return [{ labels: {}, state: 'unknown' }];

  const threshold = trendThreshold(rule, before.value);
  const { value } = now;
  if (value < threshold) return [{ labels: {}, state: 'clear', value }];
  const breach = { measure: rule.measure, reading: now, value, threshold, baseline: before.value, fromMs, toMs };
  return [{ labels: {}, state: 'breached', breach }];
}

function trendThreshold({ factor, floor }: TrendRule, before: number): number {
  return Math.max(before * factor, before + floor);
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

// ---- low-volume: the last few events when there are too few for a ratio, as on a quiet night ----
// While the ratio rule it stands in for has enough events, only that one speaks and this one is clear, so that one fault never
// fires twice.

function judgeLowVolume(rule: LowVolumeRule, ratioRule: ThresholdRule, context: JudgeContext): Verdict[] {
  const { store, times } = context;
  const { measure, bound, where, labels: by } = rule;
  const query = { ...windowTo(times.evalMs, rule.windowMs), nowMs: times.evalMs, where, by };
  const closedMs = times.completeMs;
  const isSpokenFor = ratioSpeaks(rule, ratioRule, context);

  return readMeasure(store, measure, query).map((whole): Verdict => {
    const { key, labels } = whole;
    if (isSpokenFor(key)) return { labels, state: 'clear' };
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

/** Whether the ratio rule has enough events itself, of each label set by its key. */
function ratioSpeaks(
  { measure, where, labels: by }: LowVolumeRule,
  ratioRule: ThresholdRule,
  { store, times }: JudgeContext,
): (key: string) => boolean {
  const { evalMs: nowMs, completeMs: toMs } = times;
  // It looks at both: at what is complete, and at the unfinished bucket as well.
  const windows = [{ fromMs: toMs - ratioRule.windowMs, toMs }, windowTo(nowMs, ratioRule.windowMs)].map((window) =>
    byKey(readMeasure(store, measure, { ...window, nowMs, where, by })),
  );
  return (key) => windows.some((readings) => (readings.get(key)?.volume ?? 0) >= ratioRule.minEvents);
}

function ratioRuleOf(rule: LowVolumeRule, rules: Rules): (ThresholdRule & Rule) | undefined {
  return rules.find((other): other is ThresholdRule & Rule => other.id === rule.insteadOf && 'bound' in other);
}

/**
 * The newest events of the window: whole buckets until there are at least `last`. Undefined with fewer than `minEvents`.
 * The shortest window with that many is found by bisection, because volume only grows with the window.
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

// ---- absence: nothing arrived for too long ----
// Judged by how far the log was read: while logpipe is behind, or Kafka is away, that time stands still, so nobody is called
// silent whom logpipe merely cannot hear. A silence lasts, however long, until something arrives or the rule's `forgetAfter` is
// over.

const NEVER = 'no event has ever arrived';
/** A forgotten label set is reported for this long, so that its alert ends. */
const SPOKEN_OF_MS = 3_600_000;

/** @param quiet without it, only what the windows hold is known */
function judgeAbsence(rule: AbsenceRule, { store, times }: JudgeContext, quiet?: QuietSet): Verdict[] {
  const { measure, where, labels: by } = rule;
  const { evalMs } = times;
  const verdicts: Verdict[] = [];
  const heard = new Set<string>();

  for (const { key, labels, value } of readMeasure(store, measure, { ...at(evalMs), where, by })) {
    if (value === undefined) continue;
    heard.add(key);
    const lastMs = evalMs - value * 1_000;
    verdicts.push(
      judgeSilence(rule, evalMs, key, labels, quiet?.hear(rule, key, labels, lastMs, evalMs) ?? lastMs, quiet),
    );
  }
  for (const entry of quiet?.of(rule) ?? []) {
    const { key, labels, lastMs } = entry;
    if (heard.has(key)) continue;
    // Silent at least since the clock was set back; for how long before that is unknown.
    if (isOver(lastMs, evalMs)) verdicts.push({ labels, state: 'unknown' });
    else if (rule.forgetAfterMs !== undefined && evalMs - lastMs >= rule.forgetAfterMs + SPOKEN_OF_MS)
      quiet?.forget(entry);
    else verdicts.push(judgeSilence(rule, evalMs, key, labels, lastMs, quiet));
  }
  if (by.length > 0 || verdicts.length > 0) return verdicts;

  if (quiet === undefined) return [{ labels: {}, state: 'unknown' }];
  const { sinceMs, heard: before } = quiet.watched(rule, evalMs);
  // What arrived before is older than anything that was read back.
  const fromMs = before ? Math.max(sinceMs, store.coveredFromMs()) : sinceMs;
  const verdict = judgeSilence(rule, evalMs, '', {}, fromMs, quiet, before ? undefined : NEVER);
  // Nothing has arrived, so nothing has ended.
  return [verdict.state === 'clear' ? { labels: {}, state: 'unknown' } : verdict];
}

function judgeSilence(
  rule: AbsenceRule,
  evalMs: number,
  key: string,
  labels: Labels,
  lastMs: number,
  quiet: QuietSet | undefined,
  remark?: string,
): Verdict {
  const { measure, bound, windowMs, forgetAfterMs } = rule;
  const value = Math.max(0, evalMs - lastMs - (quiet?.skippedMs(lastMs, evalMs) ?? 0)) / 1_000;
  if (forgetAfterMs !== undefined && value * 1_000 >= forgetAfterMs) return { labels, state: 'forgotten' };
  if (!exceeds(value, bound)) return { labels, state: 'clear' };
  const reading = { key, labels, value, volume: 0 };
  const window = windowTo(evalMs, Math.max(windowMs, value * 1_000));
  const breach = { measure, reading, value, threshold: bound.value, ...window };
  return { labels, state: 'breached', breach: remark === undefined ? breach : { ...breach, remark } };
}

function at(evalMs: number): { fromMs: number; toMs: number; nowMs: number } {
  return { fromMs: evalMs, toMs: evalMs, nowMs: evalMs };
}

// ---- first-seen: a label set that was never there before, such as a new error template ----
// A breach for one window after something was first seen, then an end, then nothing. In the learning period everything is learned
// silently; what is known is never reported again.

/** Identifies what a rule learns: the same text as long as the rule is about the same label sets. */
export function learnedBy({ measure, labels, where }: FirstSeenRule): string {
  return JSON.stringify([measure, labels, where]);
}

function judgeFirstSeen(rule: FirstSeenRule, { store, times }: JudgeContext, known: KnownSet): Verdict[] {
  const { measure, windowMs, where, labels: by, minEvents } = rule;
  const { evalMs } = times;
  const window = windowTo(evalMs, windowMs);
  const learning = evalMs < known.since(learnedBy(rule), evalMs) + rule.learningMs;
  const verdicts: Verdict[] = [];

  for (const reading of readMeasure(store, measure, { ...window, nowMs: evalMs, where, by })) {
    const { key: labelKey, labels, volume } = reading;
    const key = `${measure}/${labelKey}`;
    let entry = known.has(key);
    // While learning, once is enough: what is rare but old is no news later.
    if (entry === undefined && volume >= (learning ? 1 : minEvents)) {
      const fresh = { key, firstMs: evalMs, quiet: learning };
      if (known.learn(fresh)) entry = fresh;
    }
    if (entry === undefined || entry.quiet) continue;
    const age = evalMs - entry.firstMs;
    // First seen before the clock was set back: no longer news.
    if (isOver(entry.firstMs, evalMs)) verdicts.push({ labels, state: 'clear' });
    else if (age < windowMs) {
      const breach = { measure, reading, value: volume, threshold: minEvents, ...window };
      verdicts.push({ labels, state: 'breached', breach });
    } else if (age < 2 * windowMs + rule.keepFiringMs) {
      verdicts.push({ labels, state: 'clear' });
    }
  }
  return verdicts;
}

// ---- what a rule looks at now, for people who ask why it says what it says; nothing is learned of it ----

/** Of one label set, whether it is enough to say anything or not. */
export interface Now {
  readonly labels: Labels;
  /** Measure that was read: the rule's, or its fallback. */
  readonly measure: string;
  /** In the measure's unit; undefined: nothing is known. */
  readonly value: number | undefined;
  readonly volume: number;
  readonly numerator?: number;
  readonly denominator?: number;
  /** What the value is held against; of a spike and a trend it follows the past. Undefined when too little of that is known. */
  readonly threshold: number | undefined;
  /** What is usual (spike) or was (trend). */
  readonly baseline?: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** Of a rule with `onlyWhile`: what that looks at. */
  readonly gate?: { readonly value: number | undefined; readonly isOpen: boolean };
  /** Of low-volume: the ratio rule has enough events itself. */
  readonly isSpokenFor?: boolean;
}

/** One for each label set there is anything of, in order of appearance. */
export function readNow(rule: MeasuredRule, rules: Rules, context: JudgeContext): Now[] {
  const { store } = context;
  const times = timesFor(rule, context);
  const { measure, where, labels: by } = rule;
  const nowMs = times.evalMs;
  const window = windowTo(nowMs, rule.windowMs);
  const now = (reading: Reading, threshold: number | undefined, more: Partial<Now> = {}): Now => {
    const { labels, value, volume, numerator, denominator } = reading;
    const parts = numerator === undefined || denominator === undefined ? {} : { numerator, denominator };
    return { labels, measure, value, volume, ...parts, threshold, ...window, ...more };
  };
  switch (rule.kind) {
    case 'threshold':
    case 'ratio':
    case 'percentile': {
      const { bound, onlyWhile } = rule;
      const read = readsGauge(store, measure) ? measureWithData(rule, store, times) : measure;
      return readMeasure(store, read, queryOf(rule, window, nowMs))
        .filter(({ gone }) => gone !== true)
        .map((reading) => {
          if (onlyWhile === undefined) return now(reading, bound.value, { measure: read });
          const value = gateValue(onlyWhile, reading.labels, store, times);
          const gate = { value, isOpen: value !== undefined && exceeds(value, onlyWhile.bound) };
          return now(reading, bound.value, { measure: read, gate });
        });
    }
    case 'absence':
      return readMeasure(store, measure, { ...at(nowMs), where, by }).map((reading) => now(reading, rule.bound.value));
    case 'spike': {
      const past = pastWindows(rule, times.completeMs - rule.windowMs, store).map((piece) =>
        byKey(readMeasure(store, measure, spikeQueryOf(rule, piece))),
      );
      return readMeasure(store, measure, spikeQueryOf(rule, window)).map((reading) => {
        const samples = past.flatMap((piece) => piece.get(reading.key)?.value ?? []);
        if (samples.length < leastSamples(rule)) return now(reading, undefined);
        const { threshold, median } = usualOf(samples, rule);
        return now(reading, threshold, { baseline: median });
      });
    }
    case 'low-volume': {
      const ratioRule = ratioRuleOf(rule, rules);
      const isSpokenFor = ratioRule === undefined ? () => false : ratioSpeaks(rule, ratioRule, context);
      return readMeasure(store, measure, { ...window, nowMs, where, by }).map((whole) => {
        const newest = lastEvents(rule, window, context, whole.labels);
        const more = { ...newest?.window, isSpokenFor: isSpokenFor(whole.key) };
        return now(newest?.reading ?? whole, rule.bound.value, more);
      });
    }
    case 'first-seen':
      return readMeasure(store, measure, { ...window, nowMs, where, by })
        .filter(({ volume }) => volume > 0)
        .map((reading) => now(reading, rule.minEvents));
    case 'trend': {
      const toMs = store.hourly.finishedEndMs(nowMs);
      const hours = { fromMs: toMs - rule.windowMs, toMs };
      const present = valueOver(rule, store, hours.fromMs, toMs);
      const before = valueOver(rule, store, hours.fromMs - rule.offsetMs, toMs - rule.offsetMs)?.value;
      const reading = present ?? { key: '', labels: {}, value: undefined, volume: 0 };
      if (before === undefined) return [now(reading, undefined, hours)];
      return [now(reading, trendThreshold(rule, before), { ...hours, baseline: before })];
    }
    default:
      // A kind that says nothing here of how it reads: its window, and no threshold.
      return readMeasure(store, measure, { ...window, nowMs, where, by }).map((reading) => now(reading, undefined));
  }
}
