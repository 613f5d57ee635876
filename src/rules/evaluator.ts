// Counting's messages in, observations out: windows, progress, rules and the watch for what came late, put together. Kafka, the
// journal, rule tests and backtests drive this same object. Guarantee: pure but for what it holds; time comes in with each call.
import type { Measures } from '../measure/measure-config.ts';
import type { CountsMessage } from '../measure/totals.ts';
import { evaluate } from './evaluate.ts';
import type { HourRecord, RollupDefinition } from './hourly.ts';
import type { KnownSet } from './known-set.ts';
import { createLateWatch } from './late-watch.ts';
import type { Observation } from './observation.ts';
import { createProgress, type EvaluationTimes, type Progress, type ProgressStatus } from './progress.ts';
import type { QuietSet } from './quiet-set.ts';
import { longestPercentileMs, type Rules, rollupsOf } from './rule-config.ts';
import type { Labels } from './series.ts';
import { createWindowStore, type WindowStore } from './windows.ts';

export interface EvaluatorOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** Hourly sums beside those the trends need. */
  readonly rollups?: readonly RollupDefinition[];
}

export interface EvaluatorDeps {
  readonly known?: KnownSet;
  readonly quiet?: QuietSet;
  /** Of the alert state: what fires already is not reported late. */
  readonly isFiring?: (ruleId: string, labels: Labels) => boolean;
}

export interface Tick {
  readonly times: EvaluationTimes;
  readonly progress: ProgressStatus;
  readonly observations: readonly Observation[];
  /** Settled hours, to be kept as `rollup/<hourMs>`. */
  readonly hours: readonly HourRecord[];
}

export interface Evaluator {
  readonly store: WindowStore;
  readonly progress: Progress;
  /** @param recordMs the broker's (or journal's) time of the message */
  apply(message: CountsMessage, recordMs: number): void;
  tick(wallMs: number): Tick;
  /** Judges with this memory from the next tick on, instead of the one before. */
  remember(memory: EvaluatorDeps): void;
  /**
   * Judges by other rules from the next tick on; windows longer than what is held fill as time goes by.
   * @returns why that takes a restart; nothing has changed then
   */
  changeRules(rules: Rules): string | undefined;
}

/** What nothing is known of yet: every rule about the log says so, those about logpipe itself are judged. */
const NEVER = { evalMs: 0, completeMs: 0 } as const;
const LAG = 'logpipe.lag_seconds';
const STALLED = 'logpipe.stalled_seconds';

/** Three windows: with too few events a percentile looks back that far before it says that nothing is known. */
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
      for (const { lane, behindMs } of status.lanes) store.setGauge(STALLED, { lane }, behindMs / 1_000, wallMs);
      const times = status.times ?? { ...NEVER, wallMs };
      const observations = evaluate(rules, store, times, memory);
      observations.push(...lateWatch.observe(observations, times));
      return { times, progress: status, observations, hours: status.times ? store.takeHours(times.evalMs) : [] };
    },
    remember(next) {
      memory = next;
      store.setForward(memory.quiet?.unbrokenSinceMs() ?? 0);
    },
    changeRules(next) {
      if (binsFor(next, measures) > store.binsMs) {
        return 'a percentile is taken over a longer window than histograms are held for';
      }
      const missing = rollupsOf(next, measures, rollups).find(({ measure, labels }) => {
        const held = store.hourly.tracked.get(measure)?.labels ?? [];
        return !store.hourly.tracked.has(measure) || !labels.every((label) => held.includes(label));
      });
      if (missing !== undefined) return `no sums per hour are kept of ${missing.measure}, which a trend compares`;
      rules = next;
      lateWatch = watchLate();
      return undefined;
    },
  };
}
