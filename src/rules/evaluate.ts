// All rules at one moment. In: rules, what is held, the times. Out: what each rule says of each of its label sets.
// Guarantee: the same input gives the same observations; nothing is changed but what is known and who is silent; while logpipe is behind, no rule
// about the log says anything that would begin or end an alert.
import { judgeAbsence } from './absence.ts';
import { type JudgeContext, toObservations, type Verdict } from './breach.ts';
import { judgeFirstSeen } from './first-seen.ts';
import type { KnownSet } from './known-set.ts';
import { judgeLowVolume } from './low-volume.ts';
import type { Observation } from './observation.ts';
import { type EvaluationTimes, isBehind } from './progress.ts';
import type { QuietSet } from './quiet-set.ts';
import type { Rules } from './rule-config.ts';
import type { MeasuredRule, Rule, ThresholdRule } from './rule-types.ts';
import { judgeSpike } from './spike.ts';
import { judgeThreshold } from './threshold.ts';
import { judgeTrend } from './trend.ts';
import { isInternal } from './why.ts';
import type { WindowStore } from './windows.ts';

export interface EvaluateDeps {
  /** For first-seen rules; without it they say nothing. */
  readonly known?: KnownSet;
  /** For absence rules; without it they know what the windows hold. */
  readonly quiet?: QuietSet | undefined;
}

export function evaluate(
  rules: Rules,
  store: WindowStore,
  times: EvaluationTimes,
  deps: EvaluateDeps = {},
): Observation[] {
  const held = isBehind(times);
  const observations: Observation[] = [];
  for (const rule of rules) {
    if (rule.kind === 'late') continue;
    const internal = isInternal(store, rule.measure);
    const hold = held && !internal;
    // What is new must not be learned while it cannot be said.
    if (hold && rule.kind === 'first-seen') continue;
    // What is silent is not learned from a log that is read up.
    const verdicts = judge(rule, rules, { store, times }, hold ? { ...deps, quiet: undefined } : deps);
    if (hold) for (const { labels } of verdicts) observations.push({ ruleId: rule.id, labels, state: 'held' });
    else {
      const said = toObservations(rule, verdicts, store);
      observations.push(...(internal ? said.map((one) => ({ ...one, atMs: times.wallMs })) : said));
    }
  }
  return observations;
}

export function judge(rule: MeasuredRule, rules: Rules, context: JudgeContext, deps: EvaluateDeps): Verdict[] {
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
      const ratioRule = rules.find(
        (other): other is ThresholdRule & Rule => other.id === rule.insteadOf && 'bound' in other,
      );
      return ratioRule === undefined ? [] : judgeLowVolume(rule, ratioRule, context);
    }
    case 'first-seen':
      return deps.known === undefined ? [] : judgeFirstSeen(rule, context, deps.known);
    case 'trend':
      return judgeTrend(rule, context);
  }
}
