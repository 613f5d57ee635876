// Observations -> alerts. In: what the rules say at one evaluation. Out: the alerts' next records, in the draft, and those
// that fire now. Guarantee: at most `maxAlerts` alerts of a rule are open, whatever label sets the log invents.
import type { Observation } from '../rules/observation.ts';
import {
  type AlertRecord,
  type AlertRule,
  advanceAlert,
  alertKey,
  beginAlert,
  DEFAULT_MAX_ALERTS,
  type Dismissed,
  type Resolution,
  type Said,
  withPeak,
} from './alert-state.ts';
import { byUrgency, endAlert, notified } from './incident.ts';
import { lastWords } from './notice.ts';
import type { OutboxWriter } from './outbox-entry.ts';
import type { Draft } from './records.ts';

/** What every part of one step of the machine works on. */
export interface Step {
  readonly draft: Draft;
  readonly outbox: OutboxWriter;
  readonly evalMs: number;
  readonly wallMs: number;
  /** As StepInput's. */
  readonly skippedMs: (fromMs: number, toMs: number) => number;
  readonly rules: ReadonlyMap<string, AlertRule>;
}

export interface Observed {
  /** Alerts that fire now, most urgent first; their records are not written yet. */
  readonly fired: AlertRecord[];
  readonly suppressed: number;
}

/** The observations that can matter, by alert: all breaches, and everything about rules that have open or dismissed alerts. */
export function relevant(
  observations: readonly Observation[],
  open: readonly AlertRecord[],
  dismissed: readonly Dismissed[],
  rules: ReadonlyMap<string, AlertRule>,
): Map<string, Observation> {
  const openRules = new Set([...open, ...dismissed].map(({ ruleId }) => ruleId));
  const byKey = new Map<string, Observation>();
  for (const observation of observations) {
    const { ruleId, state, labels } = observation;
    if (!rules.has(ruleId) || (state !== 'breached' && !openRules.has(ruleId))) continue;
    const key = alertKey(ruleId, labels);
    if (!byKey.has(key)) byKey.set(key, observation);
  }
  return byKey;
}

/**
 * @param seen from `relevant`
 * @param evaluated false when nothing at all is known at present: then silence about an alert says nothing
 */
export function observe(
  step: Step,
  seen: ReadonlyMap<string, Observation>,
  evaluated: boolean,
  said: (observation: Observation, rule: AlertRule) => Said,
): Observed {
  const { draft, outbox, evalMs, rules, skippedMs } = step;
  const open = draft.values('alert');
  const openOf = new Map<string, number>();
  const count = (ruleId: string, by: number) => openOf.set(ruleId, (openOf.get(ruleId) ?? 0) + by);
  const fired: AlertRecord[] = [];
  for (const alert of open) {
    count(alert.ruleId, 1);
    const rule = rules.get(alert.ruleId);
    const observation = seen.get(alert.key);
    if (rule === undefined || (observation === undefined && !evaluated)) continue;
    const nowMs = observation?.atMs ?? evalMs;
    const clock = { nowMs, lastedMs: (fromMs: number) => nowMs - fromMs - skippedMs(fromMs, nowMs) };
    const next = advanceAlert(alert, observation?.state, rule, clock, () =>
      observation === undefined ? alert : said(observation, rule),
    );
    switch (next.to) {
      case 'same':
      case 'kept': {
        const kept = next.to === 'same' ? alert : next.record;
        const record = withPeak(kept, observation?.why, observation?.atMs ?? evalMs);
        if (record !== alert) draft.put('alert', alert.key, record);
        break;
      }
      case 'firing':
        fired.push(next.record);
        break;
      case 'inactive':
        draft.remove('alert', alert.key);
        count(alert.ruleId, -1);
        break;
      case 'resolved':
        endFiring(step, alert, next.resolution, { nowText: observation?.nowText });
        count(alert.ruleId, -1);
        break;
    }
  }

  for (const { key, ruleId, watches } of draft.values('dismissed')) {
    const state = seen.get(key)?.state;
    const rule = rules.get(ruleId);
    const over = state === 'clear' || state === 'forgotten' || (rule !== undefined && watches !== rule.watches);
    if (over) draft.remove('dismissed', key);
  }

  let suppressed = 0;
  const known = new Set(open.map(({ key }) => key));
  for (const [key, observation] of seen) {
    const rule = rules.get(observation.ruleId);
    if (rule === undefined || observation.state !== 'breached' || known.has(key)) continue;
    if (draft.get('dismissed', key) !== undefined) continue;
    if ((openOf.get(rule.id) ?? 0) >= (rule.maxAlerts ?? DEFAULT_MAX_ALERTS)) {
      suppressed += 1;
      continue;
    }
    count(rule.id, 1);
    const alert = beginAlert(key, observation.labels, rule, observation.atMs ?? evalMs, said(observation, rule));
    if (alert.phase === 'firing') fired.push(alert);
    else {
      draft.put('alert', key, alert);
      outbox.record({ name: 'pending', alert });
    }
  }
  return { fired: fired.sort(byUrgency), suppressed };
}

/** A firing alert is over: its incident remembers it. */
export function endFiring(
  { draft, outbox, evalMs }: Step,
  alert: AlertRecord,
  resolution: Resolution,
  end: { readonly nowText?: string | undefined; readonly by?: string } = {},
): void {
  draft.remove('alert', alert.key);
  const ended: AlertRecord = {
    ...alert,
    message: lastWords(alert, resolution, { atMs: evalMs, nowText: end.nowText }),
  };
  const incident = draft.get('incident', alert.incidentId ?? '');
  outbox.record({
    name: 'resolved',
    alert: ended,
    resolution,
    ...(incident === undefined ? {} : { incident }),
    ...(end.by === undefined ? {} : { by: end.by }),
  });
  if (incident === undefined) return;
  draft.put('incident', incident.id, endAlert(incident, alert, notified(ended, evalMs)));
}
