// What happened in a simulation, as it is printed: alerts, messages, incidents, and how many pages that makes. In: what was driven
// and its rules. Out: plain data with ISO times. Guarantee: the same events give the same bytes; only what falls into the range.
import type { ChannelName, NotifyReason } from '../notify/notification.ts';
import type { Priority } from '../rules/observation.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { Driven, DrivenAlert, DrivenMessage } from './stages.ts';

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

export interface TimelineMessage {
  readonly at: string;
  readonly action: 'trigger' | 'acknowledge' | 'resolve';
  readonly reason: NotifyReason;
  readonly priority: Priority;
  readonly title: string;
  readonly message: string;
  readonly channels: readonly ChannelName[];
}

/** Alerts of one group that were one incident: from its first message on. */
export interface TimelineIncident {
  readonly group: string;
  readonly first: string;
  /** Absent: not over at the end. */
  readonly over?: string;
  /** The highest it had. */
  readonly priority: Priority;
  /** Of each priority the first message. */
  readonly paged: Readonly<Partial<Record<Priority, string>>>;
  /** Of the first message. */
  readonly title: string;
  readonly pages: number;
}

export interface Pages {
  /** Messages that call somebody: every one but resolutions. */
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
  { alerts, messages }: Driven,
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

  function describe({ ruleId, labels, firedMs, resolvedMs, message, muted }: DrivenAlert): TimelineAlert {
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

function say({ atMs, channels, notification }: DrivenMessage): TimelineMessage {
  const { action, reason, priority, title, message } = notification;
  return { at: iso(atMs), action, reason, priority, title, message, channels };
}

function incidentsOf(messages: readonly DrivenMessage[], groupOf: (ruleId: string) => string): TimelineIncident[] {
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

function countPages(messages: readonly DrivenMessage[]): Pages {
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
