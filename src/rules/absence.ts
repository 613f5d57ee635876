// Rules of the kind absence: nothing arrived for too long. In: a rule and what is held. Out: a verdict per label set.
// Guarantee: judged by how far the log was read. While logpipe is behind, or Kafka is away, that time stands still, and so
// nobody is called silent whom logpipe merely does not hear.
import type { JudgeContext, Verdict } from './breach.ts';
import { type AbsenceRule, exceeds } from './rule-types.ts';
import { readMeasure, windowTo } from './values.ts';

export function judgeAbsence(rule: AbsenceRule, { store, times }: JudgeContext): Verdict[] {
  const { measure, bound, where, labels: by } = rule;
  const { evalMs } = times;
  return readMeasure(store, measure, { fromMs: evalMs, toMs: evalMs, nowMs: evalMs, where, by }).map((reading) => {
    const { labels, value } = reading;
    if (value === undefined) return { labels, state: 'unknown' };
    if (!exceeds(value, bound)) return { labels, state: 'clear' };
    const window = windowTo(evalMs, Math.max(rule.windowMs, value * 1_000));
    return { labels, state: 'breached', breach: { measure, reading, value, threshold: bound.value, ...window } };
  });
}
