// Counts messages in, observations out: windows, progress, rules and the watch for what became known late, put together. Kafka, the
// journal, rule tests and backtests drive this same object. Guarantee: no I/O and no clock of its own, time comes in with each call; what
// became known late never pages; what fires now, or fired in time, is not reported late.
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS, type CountsMessage } from '../measure/totals.ts';
import type { HourRecord, Labels, RollupDefinition } from '../windows/series.ts';
import type { Layer } from '../windows/tables.ts';
import { type Reading, readMeasure, sourcesOf, windowTo } from '../windows/values.ts';
import {
  COMPLETE_MS,
  createProgress,
  createWindowStore,
  type EvaluationTimes,
  isBehind,
  type Progress,
  type ProgressStatus,
  type WindowStore,
} from '../windows/windows.ts';
import { type JudgeDeps, judge, judgeRules } from './kinds.ts';
import type { KnownSet, QuietSet } from './known-sets.ts';
import { longestPercentileMs, type Rules, rollupsOf } from './rule-config.ts';
import { exceeds, type LateRule, type MeasuredRule, type Observation, type ThresholdRule } from './rule-types.ts';
import { clockTime, isInternal } from './words.ts';

interface EvaluatorOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** Hourly sums in addition to those the trends need. */
  readonly rollups?: readonly RollupDefinition[];
}

export interface EvaluatorDeps {
  readonly known?: KnownSet;
  readonly quiet?: QuietSet;
  /** Asks the alert state: what is already firing is not reported late. */
  readonly isFiring?: (ruleId: string, labels: Labels) => boolean;
}

export interface Tick {
  readonly times: EvaluationTimes;
  readonly progress: ProgressStatus;
  readonly observations: readonly Observation[];
  /** Finished hours, to be kept as `rollup/<hourMs>`. */
  readonly hours: readonly HourRecord[];
}

export interface Evaluator {
  readonly store: WindowStore;
  readonly progress: Progress;
  /** @param recordMs the broker's (or journal's) time of the message */
  apply(message: CountsMessage, recordMs: number): void;
  tick(wallMs: number): Tick;
  /** From the next tick on, judges with this memory instead of the previous one. */
  remember(memory: EvaluatorDeps): void;
  /**
   * Judges by other rules from the next tick on; windows that are longer than what is held fill up over time.
   * @returns why that needs a restart; nothing has changed then
   */
  changeRules(rules: Rules): string | undefined;
}

/** Nothing is known yet: rules about the log say so, and those about logpipe itself are judged. */
const NEVER = { evalMs: 0, completeMs: 0 } as const;
const LAG = 'logpipe.lag_seconds';
const STALLED = 'logpipe.stalled_seconds';

/** Three windows: with too few events, a percentile looks that far back before it says that nothing is known. */
function binsFor(rules: Rules, measures: Measures): number {
  return Math.min(3_600_000, 3 * longestPercentileMs(rules, measures));
}

export function createEvaluator(options: EvaluatorOptions, first: EvaluatorDeps = {}): Evaluator {
  const { measures, rollups = [] } = options;
  let { rules } = options;
  let memory = first;
  const store = createWindowStore({
    measures,
    binsMs: binsFor(rules, measures),
    rollups: rollupsOf(rules, measures, rollups),
  });
  store.setForward(memory.quiet?.unbrokenSinceMs() ?? 0);
  const progress = createProgress((fromMs, toMs) => {
    memory.quiet?.skip(fromMs, toMs);
    store.setForward(toMs);
  });
  const isFiring = (ruleId: string, labels: Labels) => memory.isFiring?.(ruleId, labels) === true;
  const watchLate = () => createLateWatch({ rules, store, isFiring });
  let lateWatch = watchLate();

  return {
    store,
    progress,
    apply(message, recordMs) {
      if (message.kind === 'totals') store.apply(message.totals);
      else progress.apply(message.progress, recordMs);
    },
    tick(wallMs) {
      const status = progress.status(wallMs);
      if (status.lagMs !== undefined) store.setGauge(LAG, {}, Math.max(0, status.lagMs) / 1_000, wallMs);
      for (const { partition, behindMs } of status.partitions)
        store.setGauge(STALLED, { lane: partition }, behindMs / 1_000, wallMs);
      const times = status.times ?? { ...NEVER, wallMs };
      const observations = judgeRules(rules, store, times, memory);
      observations.push(...lateWatch.observe(observations, times));
      return { times, progress: status, observations, hours: status.times ? store.takeHours(times.evalMs) : [] };
    },
    remember(next) {
      memory = next;
      store.setForward(memory.quiet?.unbrokenSinceMs() ?? 0);
    },
    changeRules(next) {
      if (binsFor(next, measures) > store.binsMs) {
        return 'a percentile is taken over a longer window than histograms are kept for';
      }
      const missing = rollupsOf(next, measures, rollups).find(({ measure, labels }) => {
        const held = store.hourly.tracked.get(measure)?.labels ?? [];
        return !store.hourly.tracked.has(measure) || !labels.every((label) => held.includes(label));
      });
      if (missing !== undefined) return `no sums per hour are kept of ${missing.measure}, which a trend needs`;
      rules = next;
      lateWatch = watchLate();
      return undefined;
    },
  };
}

// ---- what would have fired, had it been known in time ----
// It was not known because logpipe was behind, or because events arrived late. All of it becomes one summary, the observation of
// the `late` rule. What is read back at start-up is not reported again.

interface LateWatchDeps {
  readonly rules: Rules;
  readonly store: WindowStore;
  /** True when the alert is already firing: it was reported in time. */
  readonly isFiring?: (ruleId: string, labels: Labels) => boolean;
}

interface LateWatch {
  /** To be called with the observations of every evaluation. */
  observe(observations: readonly Observation[], times: EvaluationTimes): Observation[];
}

const STEP_MS = 60_000;
/** Evaluations of the past per tick: catching up must not delay logpipe further. */
const MAX_STEPS = 60;
/** Late events come in bursts: wait until a burst is over, but not forever. */
const QUIET_MS = 60_000;
const MAX_WAIT_MS = 600_000;
const MAX_NAMED = 5;
/** Kinds that can be judged for a past time from what is held. */
const REPEATABLE: readonly string[] = ['threshold', 'ratio', 'percentile', 'low-volume', 'spike'];

function createLateWatch(deps: LateWatchDeps): LateWatch {
  const { rules, store, isFiring = () => false } = deps;
  const lateRule = rules.find((rule): rule is LateRule => rule.kind === 'late');
  const judged = rules.filter(
    (rule): rule is MeasuredRule =>
      rule.kind !== 'late' &&
      rule.priority !== 'P4' &&
      REPEATABLE.includes(rule.kind) &&
      !isInternal(store, rule.measure),
  );
  const none: JudgeDeps = {};
  let missed = new Map<string, Happened>();
  let catchingUp = false;
  let judgedMs: number | undefined;
  let breachedAtHead = new Set<string>();
  let late: { fromMs: number; toMs: number; firstMs: number; lastMs: number } | undefined;
  let started = false;
  let summary: { happened: readonly Happened[]; atMs: number } | undefined;

  /** Judges the past between two evaluations as it would have been judged then. */
  function catchUp(evalMs: number): void {
    const from = judgedMs ?? evalMs;
    const step = Math.max(STEP_MS, Math.ceil((evalMs - from) / MAX_STEPS / BUCKET_MS) * BUCKET_MS);
    for (let at = from + step; at <= evalMs; at += step) {
      const completeMs = Math.floor((at - COMPLETE_MS) / BUCKET_MS) * BUCKET_MS;
      const times = { evalMs: at, completeMs, wallMs: at };
      for (const rule of judged) {
        for (const { state, labels } of judge(rule, rules, { store, times }, none)) {
          if (state === 'breached') note(missed, rule, labels, at);
        }
      }
      judgedMs = at;
    }
    judgedMs ??= evalMs;
  }

  /** No longer behind: what fires now pages as usual, the rest goes into one summary. */
  function reportMissed(breached: ReadonlySet<string>, wallMs: number): void {
    const happened = [...missed]
      .filter(([key, { rule, labels, fromMs, toMs }]) => {
        const told = breached.has(key) || breachedAtHead.has(key) || isFiring(rule.id, labels);
        return !told && toMs - fromMs + STEP_MS >= rule.forMs;
      })
      .map(([, entry]) => entry);
    missed = new Map();
    summarise(happened, wallMs);
  }

  function summarise(found: readonly Happened[], wallMs: number): void {
    // What would have been muted is not reported either.
    const happened = found.filter(({ rule }) => !found.some((other) => rule.inhibitedBy.includes(other.rule.id)));
    if (happened.length === 0) return;
    const current = summary !== undefined && wallMs - summary.atMs < (lateRule?.windowMs ?? 0) ? summary.happened : [];
    summary = { happened: [...current, ...happened], atMs: wallMs };
  }

  function watchLate({ wallMs, evalMs }: EvaluationTimes): void {
    const range = store.takeLate();
    // Before the first call: what was read back at start-up was reported by whoever evaluated then.
    if (range !== undefined && started) {
      late = {
        fromMs: Math.min(late?.fromMs ?? range.fromMs, range.fromMs),
        toMs: Math.max(late?.toMs ?? range.toMs, range.toMs),
        firstMs: late?.firstMs ?? wallMs,
        lastMs: wallMs,
      };
    }
    started = true;
    if (late === undefined || (wallMs - late.lastMs < QUIET_MS && wallMs - late.firstMs < MAX_WAIT_MS)) return;
    const found = lateBreaches(judged, store, late, evalMs);
    late = undefined;
    summarise(
      found.filter(({ rule, labels }) => !isFiring(rule.id, labels)),
      wallMs,
    );
  }

  return {
    observe(observations, times) {
      if (lateRule === undefined) return [];
      const { evalMs, wallMs } = times;
      if (isBehind(times)) {
        catchingUp ||= evalMs > 0;
        if (catchingUp) catchUp(evalMs);
      } else {
        const breached = new Set(
          observations
            .filter(({ state }) => state === 'breached')
            .map(({ ruleId, labels }) => happenedKey(ruleId, labels)),
        );
        if (catchingUp) {
          catchUp(evalMs);
          reportMissed(breached, wallMs);
          catchingUp = false;
        }
        judgedMs = evalMs;
        breachedAtHead = breached;
        watchLate(times);
      }
      return [summaryOf(lateRule, summary, wallMs)];
    },
  };
}

function summaryOf(
  rule: LateRule,
  summary: { happened: readonly Happened[]; atMs: number } | undefined,
  wallMs: number,
): Observation {
  if (summary === undefined || wallMs - summary.atMs >= rule.windowMs) {
    return { ruleId: rule.id, labels: {}, state: 'clear' };
  }
  const lines = summary.happened.map(({ rule: { title }, labels, fromMs, toMs }) => {
    const of = Object.values(labels).join(', ');
    return `${title}${of === '' ? '' : ` (${of})`} happened ${clockTime(fromMs)}-${clockTime(toMs)} UTC`;
  });
  const more = lines.length > MAX_NAMED ? ` and ${lines.length - MAX_NAMED} more` : '';
  return {
    ruleId: rule.id,
    labels: {},
    state: 'breached',
    message: `${lines.slice(0, MAX_NAMED).join('; ')}${more}, reported late`,
    metadata: { happened: lines.slice(0, 20), count: lines.length },
  };
}

// ---- which rules late events would have made fire ----
// Except what the events that came in time already showed.

/** Looking at six hours of late events must not hold up the present evaluation. */
const MAX_LATE_STEPS = 120;

function lateBreaches(
  rules: readonly MeasuredRule[],
  store: WindowStore,
  late: { readonly fromMs: number; readonly toMs: number },
  evalMs: number,
): Happened[] {
  const found = new Map<string, Happened>();
  const inTime = new Map<string, Happened>();
  const coveredFromMs = store.coveredFromMs();
  for (const rule of rules) {
    if (!countsEvents(rule, store)) continue;
    const toMs = Math.min(late.toMs + rule.windowMs, evalMs);
    const step = Math.max(STEP_MS, Math.ceil((toMs - late.fromMs) / MAX_LATE_STEPS / BUCKET_MS) * BUCKET_MS);
    // A window that begins before what is known would show only its late part.
    for (let at = Math.max(late.fromMs, coveredFromMs + rule.windowMs); at <= toMs; at += step) {
      const shown = breached(rule, store, at, 'live');
      for (const { labels } of shown.values()) note(inTime, rule, labels, at);
      for (const [key, { labels }] of breached(rule, store, at, 'all')) {
        if (!shown.has(key)) note(found, rule, labels, at);
      }
    }
  }
  return [...found.values()].filter(({ rule, labels, fromMs, toMs }) => {
    // Late events only made it begin a little earlier, or end a little later.
    const told = inTime.get(happenedKey(rule.id, labels));
    const same = told !== undefined && told.fromMs <= toMs + rule.windowMs && told.toMs >= fromMs - rule.windowMs;
    return !same && toMs - fromMs + STEP_MS >= rule.forMs;
  });
}

/** Histograms and readings of late events are not kept. */
function countsEvents(rule: MeasuredRule, store: WindowStore): rule is ThresholdRule {
  if ((rule.kind !== 'ratio' && rule.kind !== 'threshold') || rule.againstOthers !== undefined) return false;
  const measure = store.measures.get(rule.measure);
  if (measure === undefined) return false;
  return sourcesOf(measure).every((name) => store.table(name)?.kind === 'counter');
}

function breached(rule: ThresholdRule, store: WindowStore, atMs: number, layer: Layer): Map<string, Reading> {
  const query = { ...windowTo(atMs, rule.windowMs), nowMs: atMs, where: rule.where, by: rule.labels, layer };
  const readings = readMeasure(store, rule.measure, query).filter(
    ({ value, volume }) => value !== undefined && volume >= rule.minEvents && exceeds(value, rule.bound),
  );
  return new Map(readings.map((reading) => [reading.key, reading] as const));
}

// ---- breaches of the past, remembered until they can be reported ----

interface Happened {
  readonly rule: MeasuredRule;
  readonly labels: Labels;
  readonly fromMs: number;
  toMs: number;
}

/** Rule and sorted labels. */
function happenedKey(ruleId: string, labels: Labels): string {
  return JSON.stringify([ruleId, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** Notes a breach; it lasts from the first time it is noted to the last. */
function note(into: Map<string, Happened>, rule: MeasuredRule, labels: Labels, atMs: number): void {
  const key = happenedKey(rule.id, labels);
  const known = into.get(key);
  if (known === undefined) into.set(key, { rule, labels, fromMs: atMs, toMs: atMs });
  else known.toMs = atMs;
}
