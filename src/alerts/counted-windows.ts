// What was counted, ready to be judged. In: the counter's messages. Out: windows and an evaluator on top of them. Guarantee: the same
// in an instance that decides and in one that stands by, so that a take-over need not read the counts again; when the brokers' clock
// was set back it begins anew in the new time, for what was counted in the time that comes again would be counted twice. What has
// ended in it is told as soon as a whole window of it shows so.
import { SET_BACK_MS } from '../core/clock.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { BucketTotals, CountsMessage } from '../measure/totals.ts';
import { createEvaluator, type EvaluatorDeps, type Tick } from '../rules/evaluator.ts';
import { HOUR_MS, type HourRecord, type RollupDefinition } from '../rules/hourly.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { WindowStore } from '../rules/windows.ts';

export interface CountedWindowsOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** Hourly sums beyond those the rules need, for statistics over a day. */
  readonly rollups?: readonly RollupDefinition[];
  /** The first arrival that counts will be given of, ms: hours that end before it come from the records. */
  readonly coveredFromMs: number;
}

export interface CountedWindows {
  /** Another one after the brokers' clock was set back. */
  readonly store: WindowStore;
  /** What it is judged by now. */
  readonly rules: Rules;
  /** @param recordMs when the message was written, by the brokers' clock */
  counts(message: CountsMessage, recordMs: number): void;
  /** The brokers' clock was set back, which totals show by themselves; where nothing is counted somebody has to say it. */
  setBack(nowMs: number): void;
  /** What is judged with from now on: of the hold that begins. */
  remember(memory: EvaluatorDeps): void;
  tick(wallMs: number): Tick;
  /** As Evaluator.changeRules. */
  changeRules(rules: Rules): string | undefined;
}

/** @param hours that were kept, of the alert state */
export function createCountedWindows(
  options: CountedWindowsOptions,
  hours: readonly HourRecord[] = [],
): CountedWindows {
  const { measures, rollups = [] } = options;
  let { rules } = options;
  let memory: EvaluatorDeps = {};
  /** Of each lane, how far its totals reach and in which bucket. */
  const reached = new Map<string, { readonly upToOffset: number; readonly arrivalMs: number }>();
  /** Of each lane, up to where its totals belong to a time that is over. */
  const over = new Map<string, number>();

  function begin(coveredFromMs: number) {
    const fresh = createEvaluator({ measures, rules, rollups }, memory);
    fresh.store.putHours(hours, coveredFromMs);
    for (const [lane, { upToOffset }] of reached) over.set(lane, upToOffset);
    reached.clear();
    return fresh;
  }
  let evaluator = begin(options.coveredFromMs);

  /** In the time that began at `nowMs`: who was heard of, and when, goes on. */
  function beginAnew(nowMs: number): void {
    const { store, progress } = evaluator;
    const formerMs = progress.status(nowMs).times?.evalMs ?? nowMs;
    memory.quiet?.begin(nowMs);
    evaluator = begin(fullHour(nowMs));
    evaluator.store.putSeries(store, Math.max(0, formerMs - nowMs), nowMs);
  }

  /** False for totals of a time that is over. Begins anew where offsets go on and arrivals go back. */
  function isOfPresentTime({ lane, upToOffset, arrivalMs }: BucketTotals): boolean {
    const before = reached.get(lane);
    if (before !== undefined && upToOffset > before.upToOffset && before.arrivalMs - arrivalMs > SET_BACK_MS) {
      beginAnew(arrivalMs);
    }
    if (upToOffset <= (over.get(lane) ?? Number.NEGATIVE_INFINITY)) return false;
    if (upToOffset > (reached.get(lane)?.upToOffset ?? Number.NEGATIVE_INFINITY)) {
      reached.set(lane, { upToOffset, arrivalMs });
    }
    return true;
  }

  return {
    get store() {
      return evaluator.store;
    },
    get rules() {
      return rules;
    },
    counts(message, recordMs) {
      if (message.kind === 'progress' || isOfPresentTime(message.totals)) evaluator.apply(message, recordMs);
    },
    setBack: beginAnew,
    remember(next) {
      memory = next;
      evaluator.remember(next);
    },
    tick: (wallMs) => evaluator.tick(wallMs),
    changeRules(next) {
      const problem = evaluator.changeRules(next);
      if (problem === undefined) rules = next;
      return problem;
    },
  };
}

export function fullHour(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS;
}
