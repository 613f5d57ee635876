// Incidents -> messages. In: the open incidents of a draft. Out: messages in the outbox, and incidents that know what they
// have told. Guarantee: a channel that got a trigger gets exactly one resolve, one that never got it none; what is told is written down with it.
import type { ChannelName, Notification } from '../notify/notification.ts';
import type { Priority } from '../rules/observation.ts';
import type { AlertRecord } from './alert-state.ts';
import { decideNotify, outranks } from './decide.ts';
import {
  byUrgency,
  type ChannelState,
  factsOf,
  type IncidentRecord,
  informedChannels,
  openChannels,
} from './incident.ts';
import type { Notices } from './notice.ts';
import type { Step } from './observe.ts';

/** A message, as it is logged: 'CRITICAL ALERT' and so on. */
export interface Decision {
  readonly notification: Notification;
  readonly channels: readonly ChannelName[];
}

export interface TellDeps {
  readonly notices: Notices;
  readonly channelsFor: (priority: Priority) => readonly ChannelName[];
  /** The alert with what its rule says at present; undefined when that is not that the condition is true. */
  readonly current: (alert: AlertRecord) => AlertRecord | undefined;
}

/** Closes incidents without firing alerts, and tells what there is to tell; also the end that a channel is still owed. */
export function tellIncidents(step: Step, deps: TellDeps): Decision[] {
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
    .flatMap((incident) => tell(step, deps, incident, (firingOf.get(incident.id) ?? []).sort(byUrgency)) ?? []);
}

function tell(
  step: Step,
  deps: TellDeps,
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
      // Who is reminded is reminded of what is true: that leads, and decides how urgent it is.
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

/** Of the alert a reminder would be about; 0 = none. */
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
    // Whom the first part reached need not be whom this one reaches.
    if (resolvedMs !== undefined) return [name, { triggeredMs: wallMs }];
    return [name, { ...state, triggeredMs: wallMs }];
  });
  const { acknowledged, ...rest } = incident;
  // Whoever took a P2 has not taken the P1 that it became.
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
