// When a rule is right to fire, in two forms: exactly, and with windows cut at 10 s. In: intervals. Out: a label of a scenario.
import { atTenSeconds, type Cut, exactly, type Interval, joined } from './truth.ts';

/** A rule, its label set, and when its condition is true. */
export interface Truth {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly when: readonly Interval[];
  /** The same with windows cut at full 10 s, as logpipe promises them: the alert may come then. */
  readonly permitted: readonly Interval[];
}

/** A firing alert is held for this long: a shorter gap does not end it. */
const HOLD_MS = 120_000;

export function truth(rule: string, when: readonly Interval[], labels: Truth['labels'] = {}): Truth {
  const intervals = joined(when, HOLD_MS);
  return { rule, labels, when: intervals, permitted: intervals };
}

/** For rules over a window of events. */
export function windowed(rule: string, holds: (cut: Cut) => readonly Interval[], labels: Truth['labels'] = {}): Truth {
  const when = holds(exactly);
  return { rule, labels, when: joined(when, HOLD_MS), permitted: joined([...when, ...holds(atTenSeconds)], HOLD_MS) };
}
