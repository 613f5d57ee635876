// GET /api/v1/status: how this instance stands, for `logpipe top` and `logpipe rules explain`: what /metrics cannot hold. In: readiness,
// and the term where alerts are evaluated. Out: plain data, masked. Guarantee: bounded; read-only; made at most twice a second, however
// many ask, for reading all rules costs as much as judging them.
import type { TermState } from '../alerter/alerter.ts';
import type { Clock } from '../core/clock.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { byUrgency } from '../incidents/incident.ts';
import type { Priority } from '../rules/observation.ts';
import { isBehind } from '../windows/progress.ts';
import type { Labels } from '../windows/series.ts';
import { explainRule, type MeaningLine, meaningOf, type RuleStatus } from './explain.ts';

/** One dependency's state, as /ready shows it. */
export interface Readiness {
  readonly name: string;
  readonly ready: boolean;
  readonly detail: string;
}

export interface Status {
  readonly version: string;
  /** ISO 8601, by this host's clock. */
  readonly timestamp: string;
  readonly uptimeSeconds: number;
  readonly roles: readonly string[];
  readonly source: string;
  /** The consumer group of the indexer, by which its lag is found in /metrics; null without Kafka. */
  readonly group: string | null;
  readonly ready: boolean;
  readonly dependencies: readonly Readiness[];
  /** Null where alerts are not evaluated. */
  readonly alerting: AlertingStatus | null;
}

export interface AlertingStatus {
  /** Up to when everything that arrived is counted, ISO 8601; null before anything was. */
  readonly evaluatedTo: string | null;
  readonly lagSeconds: number | null;
  /** So far behind the log that nothing begins or ends. */
  readonly behind: boolean;
  readonly firing: number;
  readonly pending: number;
  /** Firing ones first, the most urgent first; at most 50. */
  readonly alerts: readonly AlertStatus[];
  /** In the order of the file, each with its most urgent label set. */
  readonly rules: readonly RuleStatus[];
}

export interface AlertStatus {
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly labels: Labels;
  readonly phase: 'pending' | 'firing';
  readonly since: string;
  readonly muted: 'silenced' | 'inhibited' | null;
  readonly acknowledgedBy: string | null;
  readonly message: string;
}

/** One rule in full. */
export interface RuleExplanation extends RuleStatus {
  readonly meaning: readonly MeaningLine[];
}

export interface StatusView {
  status(): Status;
  /** `elsewhere`: alerts are not evaluated here. Undefined: there is no such rule. */
  rule(id: string): RuleExplanation | 'elsewhere' | undefined;
}

export interface StatusDeps {
  readonly clock: Clock;
  readonly masker: Masker;
  readonly readiness: () => readonly Readiness[];
  /** Undefined where alerts are not evaluated, or not yet. */
  readonly look: () => TermState | undefined;
}

const MAX_ALERTS = 50;
const MAX_SETS = 50;
/** Longer ones are cut: a screen shows no more. */
const MAX_MESSAGE = 500;
const FRESH_MS = 500;

export function createStatusView(
  about: Pick<Status, 'version' | 'roles' | 'source' | 'group'>,
  { clock, masker, readiness, look }: StatusDeps,
): StatusView {
  const startedMs = clock.monotonicMs();
  let made: { readonly atMs: number; readonly alerting: AlertingStatus | null } | undefined;

  function alerting(): AlertingStatus | null {
    const atMs = clock.monotonicMs();
    if (made === undefined || atMs - made.atMs >= FRESH_MS) {
      const state = look();
      made = { atMs, alerting: state === undefined ? null : (masker.value(alertingStatus(state)) as AlertingStatus) };
    }
    return made.alerting;
  }

  return {
    status() {
      const dependencies = readiness();
      return {
        ...about,
        timestamp: new Date(clock.now()).toISOString(),
        uptimeSeconds: Math.round((clock.monotonicMs() - startedMs) / 1_000),
        ready: dependencies.every(({ ready }) => ready),
        dependencies,
        alerting: alerting(),
      };
    },
    rule(id) {
      const state = look();
      if (state === undefined) return 'elsewhere';
      const rule = state.rules.find((one) => one.id === id);
      if (rule === undefined) return undefined;
      const { measures } = state.store;
      return masker.value({
        ...explainRule(rule, state, MAX_SETS),
        meaning: meaningOf(rule, measures),
      }) as RuleExplanation;
    },
  };
}

function alertingStatus(state: TermState): AlertingStatus {
  const { evalMs, wallMs } = state.times;
  const known = evalMs > 0;
  const firing = state.alerts.filter(({ phase }) => phase === 'firing').sort(byUrgency);
  const pending = state.alerts.filter(({ phase }) => phase === 'pending').sort(byUrgency);
  const acknowledged = new Map(state.incidents.map(({ id, acknowledged }) => [id, acknowledged?.by]));
  return {
    evaluatedTo: known ? new Date(evalMs).toISOString() : null,
    lagSeconds: known ? Math.max(0, Math.round((wallMs - evalMs) / 100) / 10) : null,
    behind: known && isBehind(state.times),
    firing: firing.length,
    pending: pending.length,
    alerts: [...firing, ...pending].slice(0, MAX_ALERTS).map((alert) => ({
      rule: alert.ruleId,
      title: alert.title,
      priority: alert.priority,
      labels: alert.labels,
      phase: alert.phase,
      since: new Date(alert.startedMs).toISOString(),
      muted: alert.muted ?? null,
      acknowledgedBy: acknowledged.get(alert.incidentId ?? '') ?? null,
      message: alert.message.slice(0, MAX_MESSAGE),
    })),
    rules: state.rules.map((rule) => explainRule(rule, state, 1)),
  };
}
