// Alerts that belong together are one incident: which one a firing alert joins, what is known of it, and the facts that
// decide whether it is told. In: incident and alert records. Out: new records. Pure.
import { isOver } from '../core/clock.ts';
import type { ChannelName, NotifiedAlert } from '../notify/notification.ts';
import type { Priority } from '../rules/observation.ts';
import { type AlertRecord, type AlertRule, alertKey, type Said } from './alert-state.ts';
import { type NotifyFacts, outranks } from './decide.ts';

/** Incidents stay this long after their end. */
export const KEEP_INCIDENTS_MS = 30 * 86_400_000;
/** Ended alerts an incident remembers, newest last. */
const MAX_ENDED = 20;

export interface ChannelState {
  /** Of the last trigger decided. */
  readonly triggeredMs: number;
  /** Of the resolve decided after it. */
  readonly resolvedMs?: number;
  /** Last time the channel took a message of the incident since that began, or began again. */
  readonly deliveredMs?: number;
  /** Last time it may have taken one: its answer proved nothing, or a part of the recipients refused. */
  readonly perhapsMs?: number;
  /** Why the last message was given up; gone after the next one that arrives. */
  readonly failed?: string;
  /** Entry of the last trigger that was given up for want of room: it may have been under way, and arrive. */
  readonly givenUp?: string;
}

/** The last trigger: what people know, and what the resolve repeats. */
export interface Told extends Said {
  /** Of the alert it led with: another one may have the same title. Absent in incidents of earlier versions. */
  readonly key?: string;
  readonly atMs: number;
  readonly priority: Priority;
  readonly title: string;
}

/** `untold`: no message has named it, because it was muted or ended too soon. */
export type EndedAlert = NotifiedAlert & { readonly untold?: true };

/** `incident/<id>`. Times are wall clock, ms. */
export interface IncidentRecord {
  readonly id: string;
  readonly group: string;
  readonly dedupKey: string;
  readonly state: 'open' | 'resolved';
  readonly openedMs: number;
  readonly resolvedMs?: number;
  /** How often it began again inside the cooldown. */
  readonly reopened: number;
  readonly channels: Readonly<Partial<Record<ChannelName, ChannelState>>>;
  readonly told?: Told;
  readonly acknowledged?: { readonly by: string; readonly atMs: number; readonly told: boolean };
  readonly ended: readonly EndedAlert[];
  /** Alerts that were named and ended since the last trigger. */
  readonly endedSinceTold: number;
}

export interface Joining {
  readonly incident: IncidentRecord;
  readonly how: 'opened' | 'joined' | 'reopened';
}

/** Of each group the open incident, else the one that ended last. */
export function latestByGroup(incidents: Iterable<IncidentRecord>): Map<string, IncidentRecord> {
  const latest = new Map<string, IncidentRecord>();
  for (const incident of incidents) {
    const known = latest.get(incident.group);
    if (known === undefined || endOf(incident) >= endOf(known)) latest.set(incident.group, incident);
  }
  return latest;
}

function endOf({ state, resolvedMs }: IncidentRecord): number {
  return state === 'open' ? Number.POSITIVE_INFINITY : (resolvedMs ?? 0);
}

/**
 * The incident for an alert of `group` that fires now: the group's open one, else its last one when it ended less than
 * `cooldownMs` ago, else a new one.
 */
export function joinIncident(
  latest: IncidentRecord | undefined,
  group: string,
  cooldownMs: number,
  wallMs: number,
  nextId: () => string,
): Joining {
  if (latest?.state === 'open') return { incident: latest, how: 'joined' };
  if (latest?.resolvedMs !== undefined && wallMs - latest.resolvedMs < cooldownMs) {
    const { resolvedMs: _, acknowledged: __, ...rest } = latest;
    return { incident: { ...rest, state: 'open', reopened: latest.reopened + 1 }, how: 'reopened' };
  }
  const id = nextId();
  const incident: IncidentRecord = {
    id,
    group,
    dedupKey: `logpipe/${id}`,
    state: 'open',
    openedMs: wallMs,
    reopened: 0,
    channels: {},
    ended: [],
    endedSinceTold: 0,
  };
  return { incident, how: 'opened' };
}

/**
 * The incident with no moment that decides anything in a time that the clock has left: what lies ahead by more than a minute was
 * told, or ended, just now. A step back is so no reason to remind anybody, nor to stay mute until the clock catches up.
 * @returns the same object when nothing lies ahead
 */
export function redated(incident: IncidentRecord, wallMs: number): IncidentRecord {
  const { told, resolvedMs } = incident;
  const isTold = told !== undefined && isOver(told.atMs, wallMs);
  const hasEnded = resolvedMs !== undefined && isOver(resolvedMs, wallMs);
  if (!isTold && !hasEnded) return incident;
  return {
    ...incident,
    ...(isTold ? { told: { ...told, atMs: wallMs } } : {}),
    ...(hasEnded ? { resolvedMs: wallMs } : {}),
  };
}

/** The incident without an alert that ended, which it remembers. */
export function endAlert(incident: IncidentRecord, alert: AlertRecord, ended: NotifiedAlert): IncidentRecord {
  const key = alert.key;
  const isSame = (other: EndedAlert) => alertKey(other.ruleId, other.labels) === key;
  const others = incident.ended.filter((other) => !isSame(other));
  const before = incident.ended.find(isSame);
  // Once told it stays told, though it fired again in silence.
  const told = alert.announced === true || (before !== undefined && before.untold !== true);
  return {
    ...incident,
    ended: newest([...others, told ? ended : { ...ended, untold: true }], incident.told?.key),
    endedSinceTold: incident.endedSinceTold + (alert.announced ? 1 : 0),
  };
}

/** Whatever else is forgotten, what the resolve speaks of stays. */
function newest(ended: readonly EndedAlert[], toldKey: string | undefined): EndedAlert[] {
  const over = ended.length - MAX_ENDED;
  return ended.filter(({ ruleId, labels }, i) => i >= over || alertKey(ruleId, labels) === toldKey);
}

/** @param resolvedMs evaluation time of its end; absent while it fires */
export function notified(alert: AlertRecord, resolvedMs?: number): NotifiedAlert {
  const { ruleId, title, priority, labels, startedMs, message, metadata, why, runbook } = alert;
  return {
    ruleId,
    title,
    priority,
    labels,
    state: resolvedMs === undefined ? 'firing' : 'resolved',
    startedMs,
    ...(resolvedMs === undefined ? {} : { resolvedMs }),
    message,
    ...(metadata === undefined ? {} : { metadata }),
    ...(why === undefined ? {} : { why }),
    runbook,
  };
}

/** Most urgent first, then the one that began first. */
export function byUrgency(
  one: Pick<AlertRecord, 'priority' | 'startedMs'> & { readonly key?: string },
  other: Pick<AlertRecord, 'priority' | 'startedMs'> & { readonly key?: string },
): number {
  if (one.priority !== other.priority) return outranks(one.priority, other.priority) ? -1 : 1;
  if (one.startedMs !== other.startedMs) return one.startedMs - other.startedMs;
  return compareText(one.key ?? '', other.key ?? '');
}

/** Order of code units: the same in every locale. */
export function compareText(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/**
 * @param firing its alerts, most urgent first
 * @param rule that of the leading audible alert
 * @param breached whether the alert's condition is true at present. One that is merely held, or of which nothing is known,
 *   is not announced: when what inhibited it ends it may be long over.
 */
export function factsOf(
  incident: IncidentRecord,
  firing: readonly AlertRecord[],
  rule: Pick<AlertRule, 'cooldownMs' | 'remindMs'> | undefined,
  breached: (alert: AlertRecord) => boolean,
): NotifyFacts {
  const audible = firing.filter(({ muted }) => muted === undefined);
  const current = audible.filter(breached);
  return {
    firing: firing.length,
    audible: audible.length,
    joined: current.filter((alert) => alert.announced !== true).length,
    breached: current.length,
    resolved: incident.endedSinceTold,
    priority: audible[0]?.priority,
    toldPriority: incident.told?.priority,
    lastTriggerMs: incident.told?.atMs,
    open: openChannels(incident).length > 0,
    acknowledged: incident.acknowledged === undefined ? 'no' : incident.acknowledged.told ? 'told' : 'new',
    cooldownMs: rule?.cooldownMs ?? 0,
    remindMs: rule?.remindMs ?? 0,
  };
}

/** Has the channel taken a message of the incident, as far as can be told? */
export function wasReached(state: ChannelState | undefined): boolean {
  return state?.deliveredMs !== undefined || state?.perhapsMs !== undefined;
}

/** Of the open channels those that know of the incident, or are about to: not those that have refused every trigger. */
export function informedChannels(incident: IncidentRecord): ChannelName[] {
  return openChannels(incident).filter((name) => {
    const state = incident.channels[name];
    return state?.failed === undefined || wasReached(state);
  });
}

/** Channels that got a trigger and no resolve since. */
export function openChannels(incident: IncidentRecord): ChannelName[] {
  return (Object.entries(incident.channels) as [ChannelName, ChannelState][])
    .filter(([, { resolvedMs }]) => resolvedMs === undefined)
    .map(([name]) => name);
}
