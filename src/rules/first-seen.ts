// Rules of the kind first-seen: a label set that was never there before, as a new error template. In: a rule, what is held, the set
// of what is known. Out: a breach for one window after something was first seen, then an end, then nothing.
// Guarantee: in the learning period everything is learned without a word; what is known is never reported again.
import { isOver } from '../core/clock.ts';
import type { JudgeContext, Verdict } from './breach.ts';
import type { KnownSet } from './known-set.ts';
import type { FirstSeenRule } from './rule-types.ts';
import { readMeasure, windowTo } from './values.ts';

/** What a rule learns of: the same text as long as it speaks of the same label sets. */
export function watchedBy({ measure, labels, where }: FirstSeenRule): string {
  return JSON.stringify([measure, labels, where]);
}

export function judgeFirstSeen(rule: FirstSeenRule, { store, times }: JudgeContext, known: KnownSet): Verdict[] {
  const { measure, windowMs, where, labels: by, minEvents } = rule;
  const { evalMs } = times;
  const window = windowTo(evalMs, windowMs);
  const learning = evalMs < known.since(watchedBy(rule), evalMs) + rule.learningMs;
  const verdicts: Verdict[] = [];

  for (const reading of readMeasure(store, measure, { ...window, nowMs: evalMs, where, by })) {
    const { key: labelKey, labels, volume } = reading;
    const key = `${measure}/${labelKey}`;
    let entry = known.has(key);
    // While it learns, once is enough: what is rare but known of old is no news later.
    if (entry === undefined && volume >= (learning ? 1 : minEvents)) {
      const fresh = { key, firstMs: evalMs, quiet: learning };
      if (known.learn(fresh)) entry = fresh;
    }
    if (entry === undefined || entry.quiet) continue;
    const age = evalMs - entry.firstMs;
    // First seen in a time that the clock has left: news no more.
    if (isOver(entry.firstMs, evalMs)) verdicts.push({ labels, state: 'clear' });
    else if (age < windowMs) {
      const breach = { measure, reading, value: volume, threshold: minEvents, ...window };
      verdicts.push({ labels, state: 'breached', breach });
    } else if (age < 2 * windowMs + rule.keepFiringMs) {
      verdicts.push({ labels, state: 'clear' });
    }
  }
  return verdicts;
}
