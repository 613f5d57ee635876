// Which rules would have fired, had late events arrived in time. In: rules, what is held, the time the late events are of. Out: rule,
// labels, from and to. Guarantee: only what the events that came in time did not show already.
import { BUCKET_MS } from '../measure/totals.ts';
import { type Happened, happenedKey, note } from './happened.ts';
import type { Layer } from './layers.ts';
import { exceeds, type MeasuredRule, type ThresholdRule } from './rule-types.ts';
import { type Reading, readMeasure, sourcesOf, windowTo } from './values.ts';
import type { WindowStore } from './windows.ts';

const STEP_MS = 60_000;
/** One look at six hours of late events must not hold up the evaluation of now. */
const MAX_STEPS = 120;

export function lateBreaches(
  rules: readonly MeasuredRule[],
  store: WindowStore,
  late: { readonly fromMs: number; readonly toMs: number },
  evalMs: number,
): Happened[] {
  const found = new Map<string, Happened>();
  const inTime = new Map<string, Happened>();
  const coveredFromMs = store.coveredFromMs();
  for (const rule of rules) {
    if (!countsEvents(rule, store)) continue;
    const toMs = Math.min(late.toMs + rule.windowMs, evalMs);
    const step = Math.max(STEP_MS, Math.ceil((toMs - late.fromMs) / MAX_STEPS / BUCKET_MS) * BUCKET_MS);
    // Of a window that begins before what is known only the late part would be seen.
    for (let at = Math.max(late.fromMs, coveredFromMs + rule.windowMs); at <= toMs; at += step) {
      const shown = breached(rule, store, at, 'live');
      for (const { labels } of shown.values()) note(inTime, rule, labels, at);
      for (const [key, { labels }] of breached(rule, store, at, 'all')) {
        if (!shown.has(key)) note(found, rule, labels, at);
      }
    }
  }
  return [...found.values()].filter(({ rule, labels, fromMs, toMs }) => {
    // With late events it only began a little earlier, or ended a little later.
    const told = inTime.get(happenedKey(rule.id, labels));
    const same = told !== undefined && told.fromMs <= toMs + rule.windowMs && told.toMs >= fromMs - rule.windowMs;
    return !same && toMs - fromMs + STEP_MS >= rule.forMs;
  });
}

/** Histograms and readings of late events are not kept. */
function countsEvents(rule: MeasuredRule, store: WindowStore): rule is ThresholdRule {
  if ((rule.kind !== 'ratio' && rule.kind !== 'threshold') || rule.againstOthers !== undefined) return false;
  const measure = store.measures.get(rule.measure);
  if (measure === undefined) return false;
  return sourcesOf(measure).every((name) => store.table(name)?.kind === 'counter');
}

function breached(rule: ThresholdRule, store: WindowStore, atMs: number, layer: Layer): Map<string, Reading> {
  const query = { ...windowTo(atMs, rule.windowMs), nowMs: atMs, where: rule.where, by: rule.labels, layer };
  const readings = readMeasure(store, rule.measure, query).filter(
    ({ value, volume }) => value !== undefined && volume >= rule.minEvents && exceeds(value, rule.bound),
  );
  return new Map(readings.map((reading) => [reading.key, reading] as const));
}
