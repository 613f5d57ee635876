// What would have fired, had it been known in time: while logpipe was behind, or because events arrived late. In: each evaluation,
// and what is held. Out: the observation of the `late` rule: one summary. Guarantee: nothing of it pages; what fires at the head,
// or fired before, is not in it; what was read back at the start is not reported again.

import { BUCKET_MS } from '../measure/totals.ts';
import { type EvaluateDeps, judge } from './evaluate.ts';
import { clockTime } from './format.ts';
import { type Happened, happenedKey, note } from './happened.ts';
import { lateBreaches } from './late-events.ts';
import type { Observation } from './observation.ts';
import { COMPLETE_MS, type EvaluationTimes, isBehind } from './progress.ts';
import type { Rules } from './rule-config.ts';
import type { LateRule, MeasuredRule } from './rule-types.ts';
import type { Labels } from './series.ts';
import { isInternal } from './why.ts';
import type { WindowStore } from './windows.ts';

export interface LateWatchDeps {
  readonly rules: Rules;
  readonly store: WindowStore;
  /** True when the alert has been firing already: it was told in time. */
  readonly isFiring?: (ruleId: string, labels: Labels) => boolean;
}

export interface LateWatch {
  /** To be called with the observations of every evaluation. */
  observe(observations: readonly Observation[], times: EvaluationTimes): Observation[];
}

const STEP_MS = 60_000;
/** Evaluations of the past per tick: catching up must not make logpipe later still. */
const MAX_STEPS = 60;
/** Late events come in bursts: wait until the burst is over, but not for ever. */
const QUIET_MS = 60_000;
const MAX_WAIT_MS = 600_000;
const MAX_NAMED = 5;
/** Kinds that can be judged at a past time from what is held. */
const REPEATABLE: readonly string[] = ['threshold', 'ratio', 'percentile', 'low-volume', 'spike'];

export function createLateWatch(deps: LateWatchDeps): LateWatch {
  const { rules, store, isFiring = () => false } = deps;
  const lateRule = rules.find((rule): rule is LateRule => rule.kind === 'late');
  const judged = rules.filter(
    (rule): rule is MeasuredRule =>
      rule.kind !== 'late' &&
      rule.priority !== 'P4' &&
      REPEATABLE.includes(rule.kind) &&
      !isInternal(store, rule.measure),
  );
  const none: EvaluateDeps = {};
  let missed = new Map<string, Happened>();
  let catchingUp = false;
  let judgedMs: number | undefined;
  let toldAtHead = new Set<string>();
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

  /** At the head again: what fires now pages as usual, the rest is told in one summary. */
  function settle(breached: ReadonlySet<string>, wallMs: number): void {
    const happened = [...missed]
      .filter(([key, { rule, labels, fromMs, toMs }]) => {
        const told = breached.has(key) || toldAtHead.has(key) || isFiring(rule.id, labels);
        return !told && toMs - fromMs + STEP_MS >= rule.forMs;
      })
      .map(([, entry]) => entry);
    missed = new Map();
    tell(happened, wallMs);
  }

  function tell(found: readonly Happened[], wallMs: number): void {
    // What would have been muted is not told either.
    const happened = found.filter(({ rule }) => !found.some((other) => rule.inhibitedBy.includes(other.rule.id)));
    if (happened.length === 0) return;
    const current = summary !== undefined && wallMs - summary.atMs < (lateRule?.windowMs ?? 0) ? summary.happened : [];
    summary = { happened: [...current, ...happened], atMs: wallMs };
  }

  function watchLate({ wallMs, evalMs }: EvaluationTimes): void {
    const range = store.takeLate();
    // The first call: what was read back at the start was reported by whoever evaluated then.
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
    tell(
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
          settle(breached, wallMs);
          catchingUp = false;
        }
        judgedMs = evalMs;
        toldAtHead = breached;
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
