// Incidents -> messages. In: the open incidents of a draft. Out: messages in the outbox, and incidents that note what was told.
// Guarantee: a channel that got a trigger gets exactly one resolve, one that never got it gets none; a message and the note of it
// are one change. Messages are masked, and bounded in size: one that does not fit into a record would block all that follow.
import type { Masker } from '../core/secrets/mask.ts';
import type { Priority } from '../rules/rule-types.ts';
import {
  type AlertRecord,
  alertKey,
  byUrgency,
  type ChannelState,
  decideNotify,
  factsOf,
  type IncidentRecord,
  informedChannels,
  notified,
  openChannels,
  outranks,
  type Resolution,
  type Told,
} from './incident.ts';
import {
  alertName,
  type ChannelName,
  durationText,
  maskNotification,
  type Notification,
  type NotifiedAlert,
  type NotifyReason,
} from './notification.ts';
import { type Step, severityOf } from './records.ts';

/** A message, as it is logged: 'CRITICAL ALERT' and so on. */
export interface Decision {
  readonly notification: Notification;
  readonly channels: readonly ChannelName[];
}

interface NotifyDeps {
  readonly notices: Notices;
  readonly channelsFor: (priority: Priority) => readonly ChannelName[];
  /** The alert with what its rule says now; undefined unless the condition is true. */
  readonly current: (alert: AlertRecord) => AlertRecord | undefined;
}

/** Closes incidents without firing alerts, and sends what there is to report, including an end that a channel is still owed. */
export function notifyIncidents(step: Step, deps: NotifyDeps): Decision[] {
  const firingOf = new Map<string, AlertRecord[]>();
  for (const alert of step.draft.values('alert')) {
    if (alert.phase !== 'firing' || alert.incidentId === undefined) continue;
    const siblings = firingOf.get(alert.incidentId);
    if (siblings === undefined) firingOf.set(alert.incidentId, [alert]);
    else siblings.push(alert);
  }
  return step.draft
    .values('incident')
    .filter((incident) => incident.state === 'open' || openChannels(incident).length > 0)
    .flatMap((incident) => notify(step, deps, incident, (firingOf.get(incident.id) ?? []).sort(byUrgency)) ?? []);
}

function notify(
  step: Step,
  deps: NotifyDeps,
  present: IncidentRecord,
  firing: readonly AlertRecord[],
): Decision | undefined {
  const { draft, outbox, wallMs, rules, skippedMs } = step;
  const { notices } = deps;
  const incident: IncidentRecord =
    firing.length === 0 && present.state === 'open' ? { ...present, state: 'resolved', resolvedMs: wallMs } : present;
  const audible = firing.filter(({ muted }) => muted === undefined);
  const [lead] = audible;
  const rule = lead === undefined ? undefined : rules.get(lead.ruleId);
  const isTrue = (alert: AlertRecord) => deps.current(alert) !== undefined;
  const { cooldownMs = 0 } = rule ?? {};
  const facts = factsOf(incident, firing, { cooldownMs, remindMs: remindMs(audible.find(isTrue), rules) }, isTrue);
  const { lastTriggerMs } = facts;
  const reason = decideNotify(facts, lastTriggerMs === undefined ? wallMs : wallMs - skippedMs(lastTriggerMs, wallMs));

  const say = (notification: Notification, channels: readonly ChannelName[], next: IncidentRecord): Decision => {
    outbox.send(channels, notification);
    draft.put('incident', next.id, next);
    return { notification, channels };
  };

  switch (reason) {
    case 'none':
    case 'daily':
    case 'escalated':
    case 'reopened':
      if (incident !== present) draft.put('incident', incident.id, incident);
      return undefined;
    case 'all-resolved': {
      const channels = informedChannels(incident);
      const ended = Object.fromEntries(
        openChannels(incident).map((name) => [
          name,
          { ...(incident.channels[name] as ChannelState), resolvedMs: wallMs },
        ]),
      );
      const next = { ...incident, channels: { ...incident.channels, ...ended }, endedSinceTold: 0 };
      return say(notices.resolve(incident, wallMs), channels, next);
    }
    case 'acknowledged': {
      const { acknowledged } = incident;
      const next =
        acknowledged === undefined ? incident : { ...incident, acknowledged: { ...acknowledged, told: true } };
      return say(notices.acknowledge(incident, firing, wallMs), informedChannels(incident), next);
    }
    case 'first':
    case 'new-alerts':
    case 'some-resolved':
    case 'repeat': {
      // A reminder is about what is true now: such an alert leads, and decides how urgent the message is.
      const reminder = reason === 'repeat' || reason === 'some-resolved';
      const told = reminder ? [...audible.filter(isTrue), ...audible.filter((alert) => !isTrue(alert))] : audible;
      const current = told.map((alert) => deps.current(alert) ?? alert);
      const notification = notices.trigger(incident, current, reason, wallMs);
      const channels = deps.channelsFor(notification.priority).filter((name) => name !== 'history');
      for (const alert of current) draft.put('alert', alert.key, { ...alert, announced: true });
      return say(notification, channels, triggered(incident, notification, current[0]?.key, channels, wallMs));
    }
  }
}

/** The reminder interval of the alert that a reminder would be about; 0 = none. */
function remindMs(alert: AlertRecord | undefined, rules: Step['rules']): number {
  const rule = rules.get(alert?.ruleId ?? '');
  return rule === undefined || rule.remindMs === 0 ? 0 : Math.max(rule.remindMs, rule.cooldownMs);
}

function triggered(
  incident: IncidentRecord,
  { priority, title, message, metadata }: Notification,
  key: string | undefined,
  channels: readonly ChannelName[],
  wallMs: number,
): IncidentRecord {
  const states = channels.map((name) => {
    const { resolvedMs, failed: _, ...state } = incident.channels[name] ?? { triggeredMs: wallMs };
    // The incident has begun again: what was delivered before its end says nothing about this trigger.
    if (resolvedMs !== undefined) return [name, { triggeredMs: wallMs }];
    return [name, { ...state, triggeredMs: wallMs }];
  });
  const { acknowledged, ...rest } = incident;
  // Whoever acknowledged a P2 has not acknowledged the P1 it became.
  const keeps = acknowledged !== undefined && !outranks(priority, incident.told?.priority);
  return {
    ...rest,
    ...(keeps ? { acknowledged } : {}),
    channels: { ...incident.channels, ...Object.fromEntries(states) },
    told: {
      ...(key === undefined ? {} : { key }),
      ...{ atMs: wallMs, priority, title, message },
      ...(metadata === undefined ? {} : { metadata }),
    },
    endedSinceTold: 0,
  };
}

// ---- the message for each reason ----

interface Notices {
  /** `audible`: the alerts to name, most urgent first, at least one. */
  trigger(
    incident: IncidentRecord,
    audible: readonly AlertRecord[],
    reason: NotifyReason,
    wallMs: number,
  ): Notification;
  acknowledge(incident: IncidentRecord, firing: readonly AlertRecord[], wallMs: number): Notification;
  resolve(incident: IncidentRecord, wallMs: number): Notification;
}

const MAX_JOINED = 20;

export function createNotices(deps: { readonly environment: string; readonly masker: Masker }): Notices {
  const { environment, masker } = deps;

  const build = (
    parts: Pick<Notification, 'incidentId' | 'dedupKey' | 'action' | 'reason' | 'atMs' | 'alerts'> & {
      readonly lead: Omit<Told, 'atMs' | 'why'>;
      readonly joined?: readonly string[];
    },
  ): Notification => {
    const { lead, alerts, joined = [], ...rest } = parts;
    const named = fitting(alerts);
    const notification: Notification = {
      ...rest,
      severity: severityOf(lead.priority),
      priority: lead.priority,
      title: lead.title,
      message: lead.message,
      ...(lead.metadata === undefined ? {} : { metadata: lead.metadata }),
      environment,
      alerts: named,
      ...(named.length === alerts.length ? {} : { unnamed: alerts.length - named.length }),
      joined: joined.slice(0, MAX_JOINED),
    };
    return maskNotification(notification, masker);
  };

  return {
    trigger(incident, audible, reason, wallMs) {
      const [lead] = audible as [AlertRecord];
      return build({
        incidentId: incident.id,
        dedupKey: incident.dedupKey,
        action: 'trigger',
        reason,
        atMs: wallMs,
        lead,
        alerts: everyAlert(incident, audible),
        // In the first message every alert is new, so none has joined.
        joined: reason === 'first' ? [] : audible.filter(({ announced }) => announced !== true).map(alertName),
      });
    },

    acknowledge(incident, firing, wallMs) {
      const last = told(incident);
      // The alert that was told may be over, and another one goes on.
      const present = firing.find(({ key }) => key === last.key) ?? firing[0];
      const lead = present === undefined || isTold(present, last) ? last : present;
      return build({
        incidentId: incident.id,
        dedupKey: incident.dedupKey,
        action: 'acknowledge',
        reason: 'acknowledged',
        atMs: wallMs,
        lead,
        alerts: everyAlert(incident, firing),
      });
    },

    resolve(incident, wallMs) {
      const lead = told(incident);
      const alerts = everyAlert(incident, []);
      const end = alerts.find((alert) => isTold(alert, lead));
      const others = alerts.filter((alert) => alert !== end);
      return build({
        incidentId: incident.id,
        dedupKey: incident.dedupKey,
        action: 'resolve',
        reason: 'all-resolved',
        atMs: wallMs,
        // Its last words say how it ended.
        lead: { ...lead, message: end?.message ?? lead.message },
        // The alert that the message is about comes first: channels take details from it.
        alerts: end === undefined ? others : [end, ...others],
      });
    },
  };
}

function told(incident: IncidentRecord): Told {
  if (incident.told === undefined) throw new Error(`incident ${incident.id} was never told`);
  return incident.told;
}

/** Compares rule and labels; for an incident from before those were kept, the title. */
function isTold(alert: Pick<NotifiedAlert, 'ruleId' | 'labels' | 'title'>, { key, title }: Told): boolean {
  return key === undefined ? alert.title === title : alertKey(alert.ruleId, alert.labels) === key;
}

/**
 * While alerts fire: those, then the ended ones that do not fire again, newest first. After the end: the ended ones that were told,
 * most urgent first.
 */
function everyAlert(incident: IncidentRecord, firing: readonly AlertRecord[]): NotifiedAlert[] {
  const again = new Set(firing.map(({ key }) => key));
  const ended = incident.ended
    .filter(({ ruleId, labels, untold }) => {
      return !again.has(alertKey(ruleId, labels)) && (firing.length > 0 || untold !== true);
    })
    .map(({ untold: _, ...alert }) => alert)
    .toReversed();
  if (firing.length > 0) return [...firing.map((alert) => notified(alert)), ...ended];
  return ended.toSorted(byUrgency);
}

const MAX_ALERTS = 30;
const MAX_BYTES = 150_000;

function fitting(alerts: readonly NotifiedAlert[]): NotifiedAlert[] {
  let bytes = 0;
  return alerts.slice(0, MAX_ALERTS).filter((alert) => {
    bytes += JSON.stringify(alert).length;
    return bytes <= MAX_BYTES;
  });
}

// ---- the last words of an alert ----

/**
 * The last words of an alert that ended: how long it lasted, the worst it came to, and what is true now.
 * @param end evaluation time of the end, and the value at it where one is known
 */
export function lastWords(
  alert: AlertRecord,
  resolution: Resolution,
  end: { readonly atMs: number; readonly nowText?: string | undefined },
): string {
  const before = `Before: ${alert.message}`;
  const how = courseOf(alert, end);
  const said = (words: string) => [words, ...(how === undefined ? [] : [how]), before].join(' ');
  switch (resolution) {
    case 'cleared':
      return how === undefined ? alert.message : `${how} ${before}`;
    case 'unobserved':
      return said('Nothing has been measured for it any more.');
    case 'forgotten':
      return said('Nothing has come of it for as long as the rule waits (forgetAfter): it counts as gone.');
    case 'by hand':
      return said('Resolved by hand.');
    case 'moved':
      return `The rule ${alert.ruleId} now belongs to another group: it goes on there. ${before}`;
    case 'rule changed':
      return `The rule ${alert.ruleId} has changed and no longer watches this. ${before}`;
    case 'rule removed':
      return `The rule ${alert.ruleId} is no longer in the rules file. ${before}`;
  }
}

/** "Now 3.10 % (threshold 20 %), at its worst 45.20 %; it lasted 12 min." Undefined for an alert without a value. */
function courseOf(
  { startedMs, why, peak }: AlertRecord,
  { atMs, nowText }: { readonly atMs: number; readonly nowText?: string | undefined },
): string | undefined {
  const worst = peak?.valueText ?? why?.valueText;
  if (nowText === undefined && worst === undefined) return undefined;
  const threshold = why === undefined ? '' : ` (threshold ${why.thresholdText})`;
  const values = [
    ...(nowText === undefined ? [] : [`now ${nowText}${threshold}`]),
    ...(worst === undefined ? [] : [`at its worst ${worst}${nowText === undefined ? threshold : ''}`]),
  ].join(', ');
  return `${values.charAt(0).toUpperCase()}${values.slice(1)}; it lasted ${durationText(atMs - startedMs)}.`;
}
