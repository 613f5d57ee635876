// What happened in a simulation, ready to print: alerts, messages, incidents and the number of pages; and the difference of two.
// In: what happened, and its rules. Out: plain data with ISO times. Guarantee: the same events give the same bytes; only what falls
// into the range is included. In a difference, every alert and incident of both is in exactly one place; those that overlap belong
// together: alerts of one rule and label set, incidents of one group.
import type { ChannelName, NotifyAction, NotifyReason } from '../incidents/notification.ts';
import type { Rules } from '../rules/rule-config.ts';
import { PRIORITIES, type Priority } from '../rules/rule-types.ts';
import type { Simulated, SimulatedAlert, SimulatedMessage } from './simulate.ts';

export interface TimelineAlert {
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly group: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly fired: string;
  /** Absent: still firing at the end. */
  readonly resolved?: string;
  /** It fired before the range began. */
  readonly before?: true;
  /** Nobody would have been told: inhibited by another alert. */
  readonly muted?: true;
  readonly message: string;
}

interface TimelineMessage {
  readonly at: string;
  readonly action: NotifyAction;
  readonly reason: NotifyReason;
  readonly priority: Priority;
  readonly title: string;
  readonly message: string;
  readonly channels: readonly ChannelName[];
}

/** Alerts of one group that were one incident: from its first message on. */
interface TimelineIncident {
  readonly group: string;
  readonly first: string;
  /** Absent: not over at the end. */
  readonly over?: string;
  /** The highest it had. */
  readonly priority: Priority;
  /** Time of the first message of each priority. */
  readonly paged: Readonly<Partial<Record<Priority, string>>>;
  /** That of the first message. */
  readonly title: string;
  readonly pages: number;
}

interface Pages {
  /** Messages that call somebody, which are the triggers that go to a channel. */
  readonly total: number;
  /** UTC day -> pages. */
  readonly perDay: Readonly<Record<string, number>>;
  readonly perPriority: Readonly<Partial<Record<Priority, number>>>;
  readonly perChannel: Readonly<Partial<Record<ChannelName, number>>>;
}

export interface Timeline {
  readonly alerts: readonly TimelineAlert[];
  readonly messages: readonly TimelineMessage[];
  readonly incidents: readonly TimelineIncident[];
  readonly pages: Pages;
}

export function timelineOf(
  { alerts, messages }: Simulated,
  rules: Rules,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): Timeline {
  const known = new Map(rules.map((rule) => [rule.id, rule]));
  const told = messages.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  return {
    alerts: alerts
      .filter(({ firedMs, resolvedMs = Number.POSITIVE_INFINITY }) => firedMs <= toMs && resolvedMs >= fromMs)
      .map(describe),
    messages: told.map(say),
    incidents: incidentsOf(told, (ruleId) => known.get(ruleId)?.group ?? ''),
    pages: countPages(told),
  };

  function describe({ ruleId, labels, firedMs, resolvedMs, message, muted }: SimulatedAlert): TimelineAlert {
    const { title = ruleId, priority = 'P4', group = '' } = known.get(ruleId) ?? {};
    return {
      rule: ruleId,
      title,
      priority,
      group,
      labels,
      fired: iso(firedMs),
      ...(resolvedMs === undefined ? {} : { resolved: iso(resolvedMs) }),
      ...(firedMs < fromMs ? { before: true } : {}),
      ...(muted ? { muted } : {}),
      message,
    };
  }
}

function say({ atMs, channels, notification }: SimulatedMessage): TimelineMessage {
  const { action, reason, priority, title, message } = notification;
  return { at: iso(atMs), action, reason, priority, title, message, channels };
}

function incidentsOf(messages: readonly SimulatedMessage[], groupOf: (ruleId: string) => string): TimelineIncident[] {
  const incidents = new Map<string, { -readonly [K in keyof TimelineIncident]: TimelineIncident[K] }>();
  for (const { atMs, notification } of messages) {
    const { incidentId, action, priority, title, alerts } = notification;
    let incident = incidents.get(incidentId);
    if (action === 'resolve') {
      if (incident !== undefined) incident.over = iso(atMs);
      continue;
    }
    if (action !== 'trigger') continue;
    if (incident === undefined) {
      const group = groupOf(alerts[0]?.ruleId ?? '');
      incident = { group, first: iso(atMs), priority, paged: {}, title, pages: 0 };
      incidents.set(incidentId, incident);
    }
    // Fired again within its cooldown.
    delete incident.over;
    incident.pages += 1;
    if (priority < incident.priority) incident.priority = priority;
    if (incident.paged[priority] === undefined) incident.paged = { ...incident.paged, [priority]: iso(atMs) };
  }
  return [...incidents.values()];
}

function countPages(messages: readonly SimulatedMessage[]): Pages {
  const perDay: Record<string, number> = {};
  const perPriority: Partial<Record<Priority, number>> = {};
  const perChannel: Partial<Record<ChannelName, number>> = {};
  let total = 0;
  for (const { atMs, channels, notification } of messages) {
    const { action, priority } = notification;
    if (action !== 'trigger' || channels.length === 0) continue;
    total += 1;
    const day = iso(atMs).slice(0, 10);
    perDay[day] = (perDay[day] ?? 0) + 1;
    perPriority[priority] = (perPriority[priority] ?? 0) + 1;
    for (const channel of channels) perChannel[channel] = (perChannel[channel] ?? 0) + 1;
  }
  return { total, perDay, perPriority: sorted(perPriority), perChannel: sorted(perChannel) };
}

function sorted<T extends object>(counts: T): T {
  return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1))) as T;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

// ---- two timelines compared ----

interface MovedAlert {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly fired: string;
  readonly comparedFired: string;
  /** Positive: fired earlier than in the compared rule set. */
  readonly earlierSeconds: number;
}

interface MovedIncident {
  readonly group: string;
  readonly title: string;
  readonly comparedTitle: string;
  readonly first: string;
  readonly comparedFirst: string;
  /** Positive: the first page comes earlier than in the compared rule set. */
  readonly earlierSeconds: number;
  readonly priority: string;
  readonly comparedPriority: string;
  /** The same for the first page of each priority that both have. */
  readonly earlierByPriority: Readonly<Record<string, number>>;
}

export interface Difference {
  readonly alerts: {
    readonly only: readonly TimelineAlert[];
    readonly onlyCompared: readonly TimelineAlert[];
    readonly moved: readonly MovedAlert[];
    /** Fired at the same moment in both. */
    readonly same: number;
  };
  readonly incidents: {
    readonly only: readonly TimelineIncident[];
    readonly onlyCompared: readonly TimelineIncident[];
    readonly moved: readonly MovedIncident[];
    readonly same: number;
  };
  /** More (positive) or fewer pages than in the compared rule set. */
  readonly pages: { readonly total: number; readonly perDay: Pages['perDay']; readonly perPriority: Pages['perDay'] };
}

/** Two of a kind that are no further apart than this are the same one, seen earlier or later. */
const NEAR_MS = 10 * 60_000;

export function difference(one: Timeline, other: Timeline): Difference {
  const alerts = pair(one.alerts, other.alerts, alertKey, ({ fired, resolved }) => [fired, resolved]);
  const incidents = pair(
    one.incidents,
    other.incidents,
    ({ group }) => group,
    ({ first, over }) => [first, over],
  );
  return {
    alerts: {
      only: alerts.only,
      onlyCompared: alerts.onlyOther,
      moved: alerts.pairs
        .filter(([a, b]) => a.fired !== b.fired)
        .map(([a, b]) => ({
          rule: a.rule,
          labels: a.labels,
          fired: a.fired,
          comparedFired: b.fired,
          earlierSeconds: seconds(a.fired, b.fired),
        })),
      same: alerts.pairs.filter(([a, b]) => a.fired === b.fired).length,
    },
    incidents: {
      only: incidents.only,
      onlyCompared: incidents.onlyOther,
      moved: incidents.pairs
        .filter(([a, b]) => !isSame(a, b))
        .map(([a, b]) => ({
          group: a.group,
          title: a.title,
          comparedTitle: b.title,
          first: a.first,
          comparedFirst: b.first,
          earlierSeconds: seconds(a.first, b.first),
          priority: a.priority,
          comparedPriority: b.priority,
          earlierByPriority: byPriority(a, b),
        })),
      same: incidents.pairs.filter(([a, b]) => isSame(a, b)).length,
    },
    pages: {
      total: one.pages.total - other.pages.total,
      perDay: minus(one.pages.perDay, other.pages.perDay),
      perPriority: minus(one.pages.perPriority, other.pages.perPriority),
    },
  };
}

function isSame(one: TimelineIncident, other: TimelineIncident): boolean {
  return PRIORITIES.every((priority) => one.paged[priority] === other.paged[priority]);
}

function byPriority(one: TimelineIncident, other: TimelineIncident): Record<string, number> {
  const found: Record<string, number> = {};
  for (const priority of PRIORITIES) {
    const [at, otherAt] = [one.paged[priority], other.paged[priority]];
    if (at !== undefined && otherAt !== undefined) found[priority] = seconds(at, otherAt);
  }
  return found;
}

function alertKey({ rule, labels }: TimelineAlert): string {
  return JSON.stringify([rule, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** Pairs each item with the first of the other side that it overlaps or nearly overlaps, in order of time. */
function pair<T>(
  one: readonly T[],
  other: readonly T[],
  keyOf: (item: T) => string,
  spanOf: (item: T) => readonly [string, string | undefined],
): { only: T[]; onlyOther: T[]; pairs: [T, T][] } {
  const rest = [...other];
  const only: T[] = [];
  const pairs: [T, T][] = [];
  for (const item of one) {
    const at = rest.findIndex((candidate) => keyOf(candidate) === keyOf(item) && meet(spanOf(item), spanOf(candidate)));
    if (at < 0) only.push(item);
    else pairs.push([item, rest.splice(at, 1)[0]!]);
  }
  return { only, onlyOther: rest, pairs };
}

function meet(one: readonly [string, string | undefined], other: readonly [string, string | undefined]): boolean {
  const [from, to] = span(one);
  const [otherFrom, otherTo] = span(other);
  return from <= otherTo + NEAR_MS && otherFrom <= to + NEAR_MS;
}

function span([from, to]: readonly [string, string | undefined]): [number, number] {
  return [Date.parse(from), to === undefined ? Number.POSITIVE_INFINITY : Date.parse(to)];
}

function seconds(one: string, other: string): number {
  return (Date.parse(other) - Date.parse(one)) / 1_000;
}

function minus(
  one: Readonly<Record<string, number>>,
  other: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])].sort();
  return Object.fromEntries(keys.map((key) => [key, (one[key] ?? 0) - (other[key] ?? 0)]));
}
