// Rules of the kind absence: nothing arrived for too long. In: a rule, what is held, who is known to be silent. Out: a verdict per
// label set. Guarantee: judged by how far the log was read: while logpipe is behind, or Kafka is away, that time stands still, and
// so nobody is called silent whom logpipe merely does not hear. Who is silent stays so, however long it lasts, until something
// arrives or the rule's `forgetAfter` is over.
import { isOver } from '../core/clock.ts';
import type { JudgeContext, Verdict } from './breach.ts';
import type { QuietSet } from './quiet-set.ts';
import { type AbsenceRule, exceeds } from './rule-types.ts';
import type { Labels } from './series.ts';
import { readMeasure, windowTo } from './values.ts';

const NEVER = 'no event has ever arrived';
/** A label set is spoken of for so long after it was forgotten, so that its alert ends. */
const TELL_MS = 3_600_000;

/** @param quiet without it nothing is known but what the windows hold */
export function judgeAbsence(rule: AbsenceRule, { store, times }: JudgeContext, quiet?: QuietSet): Verdict[] {
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
    // Silent at least since the clock was set back, and nobody knows for how long before.
    if (isOver(lastMs, evalMs)) verdicts.push({ labels, state: 'unknown' });
    else if (rule.forgetAfterMs !== undefined && evalMs - lastMs >= rule.forgetAfterMs + TELL_MS) quiet?.forget(entry);
    else verdicts.push(judgeSilence(rule, evalMs, key, labels, lastMs, quiet));
  }
  if (by.length > 0 || verdicts.length > 0) return verdicts;

  if (quiet === undefined) return [{ labels: {}, state: 'unknown' }];
  const { sinceMs, heard: before } = quiet.watched(rule, evalMs);
  // What it heard once is older than all that was read back.
  const fromMs = before ? Math.max(sinceMs, store.coveredFromMs()) : sinceMs;
  const verdict = judgeSilence(rule, evalMs, '', {}, fromMs, quiet, before ? undefined : NEVER);
  // Nothing has arrived: that is no end of anything.
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
