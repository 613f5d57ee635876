// What every kind of rule shares: the clock it is judged by, what it says of a label set, and how many it may speak of.
// In: a rule, a reading, the window. Out: observations. Pure.

import { formatValue } from './format.ts';
import { type Facts, renderMessage, renderMetadata } from './message.ts';
import type { Observation } from './observation.ts';
import type { EvaluationTimes } from './progress.ts';
import type { MeasuredRule } from './rule-types.ts';
import type { Labels } from './series.ts';
import { type Reading, readMeasure } from './values.ts';
import { type Breach, explain, isInternal } from './why.ts';
import type { WindowStore } from './windows.ts';

export interface JudgeContext {
  readonly store: WindowStore;
  readonly times: EvaluationTimes;
}

/** A judged label set before it is put into words: words are made only for what is said. */
export interface Verdict {
  readonly labels: Labels;
  readonly state: Observation['state'];
  /** When clear: the value that is. */
  readonly value?: number | undefined;
  /** Of a breach: what it rests on. */
  readonly breach?: Omit<Breach, 'rule'> & {
    readonly baseline?: number;
    /** Stands behind the message. */
    readonly remark?: string;
  };
}

/** Readings that do not come from the log are judged by the wall clock, everything else by how far the log was read. */
export function timesFor(rule: MeasuredRule, { store, times }: JudgeContext): EvaluationTimes {
  const { wallMs } = times;
  return isInternal(store, rule.measure) ? { wallMs, evalMs: wallMs, completeMs: wallMs } : times;
}

/**
 * Verdicts in words, at most `maxAlerts` breaches: those with the most events first. Of the others nothing is said that would
 * begin or end an alert.
 */
export function toObservations(rule: MeasuredRule, verdicts: readonly Verdict[], store: WindowStore): Observation[] {
  const breached = verdicts.filter(({ state }) => state === 'breached');
  const spoken =
    breached.length <= rule.maxAlerts
      ? undefined
      : new Set([...breached].sort((a, b) => volumeOf(b) - volumeOf(a)).slice(0, rule.maxAlerts));
  return verdicts.map((verdict): Observation => {
    const { labels, state, breach, value } = verdict;
    if (state !== 'breached' || breach === undefined) {
      const nowText = state === 'clear' && value !== undefined ? { nowText: formatValue(value, rule.unit) } : {};
      return { ruleId: rule.id, labels, state, ...nowText };
    }
    if (spoken?.has(verdict) === false) return { ruleId: rule.id, labels, state: 'held' };
    const facts = factsOf(rule, breach, store);
    const message = renderMessage(rule.message, facts);
    return {
      ruleId: rule.id,
      labels,
      state,
      message: breach.remark === undefined ? message : `${message}: ${breach.remark}`,
      metadata: renderMetadata(rule.metadata, facts),
      why: explain(store, { ...breach, rule }),
    };
  });
}

function volumeOf({ breach }: Verdict): number {
  return breach?.reading.volume ?? 0;
}

function factsOf(rule: MeasuredRule, breach: NonNullable<Verdict['breach']>, store: WindowStore): Facts {
  const { measure, reading, value, threshold, fromMs, toMs, baseline } = breach;
  const { numerator, denominator, source, labels, volume } = reading;
  return {
    title: rule.title,
    measure,
    unit: rule.unit,
    value,
    threshold,
    windowMs: toMs - fromMs,
    volume,
    labels,
    ...(numerator === undefined ? {} : { numerator }),
    ...(denominator === undefined ? {} : { denominator }),
    ...(baseline === undefined ? {} : { baseline }),
    ...(source === undefined ? {} : { source }),
    read: (name) => readMeasure(store, name, { fromMs, toMs, nowMs: toMs, where: source ?? labels })[0]?.value,
  };
}

/** Readings by group. */
export function byKey(readings: readonly Reading[]): Map<string, Reading> {
  return new Map(readings.map((reading) => [reading.key, reading] as const));
}
