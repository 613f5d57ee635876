// Compares what the simulation did with the labels. In: alerts and messages, and what is right. Out: missed and false alerts, time to
// detect, pages.

import type { Simulated, SimulatedAlert, SimulatedMessage } from '../../src/replay/simulate.ts';
import type { Priority } from '../../src/rules/rule-types.ts';
import type { Truth } from './label.ts';
import type { Staged, TrueIncident } from './scenario.ts';
import type { Interval } from './truth.ts';

export interface Detection {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  /** ISO time at which the condition truly became true. */
  readonly crossed: string;
  /** Seconds from there to the page, or, when people are on its incident already, to its alert. Absent: missed. */
  readonly seconds?: number;
  /** It was still firing from an earlier time. */
  readonly still?: true;
  /** Somebody had been called for the same incident just before: counted from the end of the cooldown. */
  readonly cooldown?: true;
}

export interface FalseAlert {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly at: string;
  readonly message: string;
}

/** Messages about one group's incidents, compared with what is right. */
export interface Pages {
  readonly group: string;
  readonly incidents: number;
  /** Reason `first`: somebody is called. */
  readonly first: number;
  /** The same incident at a higher priority. */
  readonly escalations: number;
  /** The same incident again, after its end was told. */
  readonly reopenings: number;
  /** Other news about an open incident: at most one per cooldown. */
  readonly updates: number;
  /** More than is right. */
  readonly extra: number;
}

export interface Judgement {
  readonly detections: readonly Detection[];
  readonly missed: readonly Detection[];
  readonly falseAlerts: readonly FalseAlert[];
  readonly pages: readonly Pages[];
}

const RANKS: readonly Priority[] = ['P1', 'P2', 'P3', 'P4'];
/** Windows are cut at 10 s: a share may be seen up to that early, and an end up to that late. */
const BUCKET_MS = 10_000;
/** There is an evaluation every second, and an end rests on complete buckets. */
const AFTER_MS = 20_000;

export interface RuleFacts {
  readonly cooldownMs: number;
  readonly group: string;
  readonly priority: Priority;
}

export function judge(staged: Staged, simulated: Simulated, rules: ReadonlyMap<string, RuleFacts>): Judgement {
  const { must, may = [], incidents } = staged;
  const detections = must.flatMap((truth) =>
    real(truth.when).flatMap((interval) => detect(truth, interval, simulated, rules) ?? []),
  );
  const right = [...must, ...may];
  const falseAlerts = simulated.alerts
    .filter((alert) => !alert.muted && !right.some((truth) => permits(truth, alert)))
    .map(({ ruleId, labels, firedMs, message }) => ({ rule: ruleId, labels, at: iso(firedMs), message }));
  const optional = may.map((truth) => rules.get(typeof truth === 'string' ? truth : truth.rule)?.group);
  return {
    detections,
    missed: detections.filter(({ seconds }) => seconds === undefined),
    falseAlerts,
    pages: pagesOf(simulated.messages, incidents, rules, new Set(optional)),
  };
}

/** A condition that holds for less than a bucket may be told, but need not be. */
function real(intervals: readonly Interval[]): Interval[] {
  return intervals.filter(({ fromMs, toMs }) => toMs - fromMs > BUCKET_MS);
}

function isOf({ rule, labels }: Truth, alert: { ruleId: string; labels: Readonly<Record<string, string>> }): boolean {
  if (alert.ruleId !== rule) return false;
  const names = new Set([...Object.keys(labels), ...Object.keys(alert.labels)]);
  return [...names].every((name) => alert.labels[name] === labels[name]);
}

function permits(truth: Truth | string, alert: SimulatedAlert): boolean {
  if (typeof truth === 'string') return alert.ruleId === truth;
  const during = ({ fromMs, toMs }: Interval) =>
    alert.firedMs >= fromMs - BUCKET_MS && alert.firedMs <= toMs + AFTER_MS;
  return isOf(truth, alert) && truth.permitted.some(during);
}

/** Undefined when nobody had to be called, because it was over before the cooldown after the last call. */
function detect(
  truth: Truth,
  interval: Interval,
  simulated: Simulated,
  rules: ReadonlyMap<string, RuleFacts>,
): Detection | undefined {
  const { rule, labels } = truth;
  const facts = { rule, labels, crossed: iso(interval.fromMs) };
  const alerts = simulated.alerts.filter((alert) => isOf(truth, alert) && !alert.muted);
  // The first alert that fires while the condition is true, or still fires when it becomes true.
  const alert = alerts.find(
    ({ firedMs, resolvedMs = Number.POSITIVE_INFINITY }) =>
      resolvedMs > interval.fromMs && firedMs <= interval.toMs + AFTER_MS,
  );
  if (alert === undefined) return facts;
  const permitted = truth.permitted.find(({ fromMs, toMs }) => fromMs <= interval.fromMs && toMs >= interval.fromMs);
  // It has been firing since an earlier time at which the condition was true too.
  if (alert.firedMs < (permitted ?? interval).fromMs - BUCKET_MS) return { ...facts, seconds: 0, still: true };
  const before = tellings(alert, simulated.messages, rules)
    .filter(({ action }) => action === 'trigger')
    .at(-1);
  if (isTold(alert, simulated.messages, rules)) return { ...facts, seconds: (alert.firedMs - interval.fromMs) / 1_000 };
  const { cooldownMs, priority } = rules.get(rule)!;
  const againMs = before === undefined || outranks(priority, before.priority) ? 0 : before.atMs + cooldownMs;
  if (againMs >= interval.toMs) return undefined;
  const named = namedAt(truth, alert.firedMs, simulated.messages);
  if (named === undefined) return facts;
  if (againMs > interval.fromMs) return { ...facts, seconds: (named - againMs) / 1_000, cooldown: true };
  return { ...facts, seconds: (named - interval.fromMs) / 1_000 };
}

/** What was told about its group before it fired. */
function tellings(
  { ruleId, firedMs }: SimulatedAlert,
  messages: readonly SimulatedMessage[],
  rules: ReadonlyMap<string, RuleFacts>,
): SimulatedMessage['notification'][] {
  const { group } = rules.get(ruleId)!;
  return messages
    .filter(({ atMs, notification }) => atMs < firedMs && groupOf(notification, rules) === group)
    .map(({ notification }) => notification);
}

/** People already work on its incident, called at no lower priority: the alert is news for the next update. */
function isTold(
  alert: SimulatedAlert,
  messages: readonly SimulatedMessage[],
  rules: ReadonlyMap<string, RuleFacts>,
): boolean {
  const last = tellings(alert, messages, rules).at(-1);
  return last?.action === 'trigger' && !outranks(rules.get(alert.ruleId)!.priority, last.priority);
}

function outranks(one: Priority, other: Priority): boolean {
  return RANKS.indexOf(one) < RANKS.indexOf(other);
}

function namedAt(truth: Truth, firedMs: number, messages: readonly SimulatedMessage[]): number | undefined {
  return messages.find(
    ({ atMs, notification: { action, alerts } }) =>
      atMs >= firedMs && action === 'trigger' && alerts.some((alert) => alert.state === 'firing' && isOf(truth, alert)),
  )?.atMs;
}

function groupOf({ alerts }: SimulatedMessage['notification'], rules: ReadonlyMap<string, RuleFacts>): string {
  return rules.get(alerts[0]?.ruleId ?? '')?.group ?? '';
}

function pagesOf(
  messages: readonly SimulatedMessage[],
  incidents: readonly TrueIncident[],
  rules: ReadonlyMap<string, RuleFacts>,
  optional: ReadonlySet<string | undefined>,
): Pages[] {
  const groups = new Set(incidents.map(({ group }) => group));
  for (const { notification } of messages) groups.add(groupOf(notification, rules));
  return [...groups].map((group) => {
    const counts = { first: 0, escalations: 0, reopenings: 0, updates: 0 };
    const told = new Map<string, SimulatedMessage['notification']>();
    for (const { notification } of messages) {
      if (groupOf(notification, rules) !== group) continue;
      const { action, incidentId, priority } = notification;
      const last = told.get(incidentId);
      told.set(incidentId, notification);
      if (action !== 'trigger') continue;
      if (last === undefined) counts.first += 1;
      else if (last.action === 'resolve') counts.reopenings += 1;
      else if (outranks(priority, last.priority)) counts.escalations += 1;
      else counts.updates += 1;
    }
    const own = incidents.filter((incident) => incident.group === group);
    const sum = (of: (incident: TrueIncident) => number | undefined) => own.reduce((n, one) => n + (of(one) ?? 0), 0);
    // What may be told, but need not be, is one page at most.
    const permitted = own.length === 0 && optional.has(group) ? 1 : own.length;
    const extra =
      Math.max(0, counts.first - permitted) +
      Math.max(0, counts.escalations - sum(({ escalations }) => escalations)) +
      Math.max(0, counts.reopenings - sum(({ reopenings }) => reopenings));
    return { group, incidents: own.length, ...counts, extra };
  });
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
