// Something that a rule would have said at a time, remembered until it can be told. Data and the one way to extend it.
import type { MeasuredRule } from './rule-types.ts';
import type { Labels } from './series.ts';

export interface Happened {
  readonly rule: MeasuredRule;
  readonly labels: Labels;
  readonly fromMs: number;
  toMs: number;
}

/** Rule and sorted labels. */
export function happenedKey(ruleId: string, labels: Labels): string {
  return JSON.stringify([ruleId, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** From the first time it was noted to the last one. */
export function note(into: Map<string, Happened>, rule: MeasuredRule, labels: Labels, atMs: number): void {
  const key = happenedKey(rule.id, labels);
  const known = into.get(key);
  if (known === undefined) into.set(key, { rule, labels, fromMs: atMs, toMs: atMs });
  else known.toMs = atMs;
}
