// The messages an incident gives rise to. In: an incident, its alerts and the reason. Out: notifications as they stand in the
// outbox: masked, and bounded in size, since one that does not fit into a record would block everything behind it.
import type { Masker } from '../core/mask.ts';
import type { Notification, NotifiedAlert, NotifyReason } from '../notify/notification.ts';
import { maskNotification } from '../notify/text.ts';
import { type AlertRecord, alertKey, type Resolution } from './alert-state.ts';
import { byUrgency, type IncidentRecord, notified, type Told } from './incident.ts';
import { severityOf } from './transitions.ts';

const MAX_ALERTS = 30;
const MAX_BYTES = 150_000;
const MAX_JOINED = 20;

export interface Notices {
  /** `audible`: the alerts to tell, most urgent first, at least one. */
  trigger(
    incident: IncidentRecord,
    audible: readonly AlertRecord[],
    reason: NotifyReason,
    wallMs: number,
  ): Notification;
  acknowledge(incident: IncidentRecord, firing: readonly AlertRecord[], wallMs: number): Notification;
  resolve(incident: IncidentRecord, wallMs: number): Notification;
}

export function createNotices(deps: { readonly environment: string; readonly masker: Masker }): Notices {
  const { environment, masker } = deps;

  const build = (
    parts: Pick<Notification, 'incidentId' | 'dedupKey' | 'action' | 'reason' | 'atMs' | 'alerts'> & {
      readonly lead: Omit<Told, 'atMs' | 'why'>;
      readonly joined?: readonly string[];
    },
  ): Notification => {
    const { lead, alerts, joined = [], ...rest } = parts;
    const notification: Notification = {
      ...rest,
      severity: severityOf(lead.priority),
      priority: lead.priority,
      title: lead.title,
      message: lead.message,
      ...(lead.metadata === undefined ? {} : { metadata: lead.metadata }),
      environment,
      alerts: fitting(alerts),
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
        // Of the first message every alert is new: nothing has joined.
        joined: reason === 'first' ? [] : audible.filter(({ announced }) => announced !== true).map(named),
      });
    },

    acknowledge(incident, firing, wallMs) {
      return build({
        incidentId: incident.id,
        dedupKey: incident.dedupKey,
        action: 'acknowledge',
        reason: 'acknowledged',
        atMs: wallMs,
        lead: told(incident),
        alerts: everyAlert(incident, firing),
      });
    },

    resolve(incident, wallMs) {
      const lead = told(incident);
      const end = incident.ended.findLast(({ title }) => title === lead.title);
      return build({
        incidentId: incident.id,
        dedupKey: incident.dedupKey,
        action: 'resolve',
        reason: 'all-resolved',
        atMs: wallMs,
        // Its last words say so when it did not just get better.
        lead: { ...lead, message: end?.message ?? lead.message },
        alerts: everyAlert(incident, []),
      });
    },
  };
}

/** The last words of an alert that ended. */
export function lastWords(alert: AlertRecord, resolution: Resolution): string {
  switch (resolution) {
    case 'cleared':
      return alert.message;
    case 'unobserved':
      return `Nothing has been measured for it any more. Before: ${alert.message}`;
    case 'forgotten':
      return `Nothing has come of it for as long as the rule waits (forgetAfter): it counts as gone. Before: ${alert.message}`;
    case 'by hand':
      return `Resolved by hand. Before: ${alert.message}`;
    case 'moved':
      return `The rule ${alert.ruleId} now belongs to another group: it goes on there. Before: ${alert.message}`;
    case 'rule changed':
      return `The rule ${alert.ruleId} has changed and no longer watches this. Before: ${alert.message}`;
    case 'rule removed':
      return `The rule ${alert.ruleId} is no longer in the rules file. Before: ${alert.message}`;
  }
}

function told(incident: IncidentRecord): Told {
  if (incident.told === undefined) throw new Error(`incident ${incident.id} was never told`);
  return incident.told;
}

function named({ title, labels }: AlertRecord): string {
  const text = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return text.length === 0 ? title : `${title} (${text.join(', ')})`;
}

/** Firing ones first, then those that ended and did not fire again, the newest first. */
function everyAlert(incident: IncidentRecord, firing: readonly AlertRecord[]): NotifiedAlert[] {
  const again = new Set(firing.map(({ key }) => key));
  const ended = incident.ended.filter(({ ruleId, labels }) => !again.has(alertKey(ruleId, labels))).toReversed();
  if (firing.length > 0) return [...firing.map((alert) => notified(alert)), ...ended];
  return ended.toSorted(byUrgency);
}

function fitting(alerts: readonly NotifiedAlert[]): NotifiedAlert[] {
  let bytes = 0;
  return alerts.slice(0, MAX_ALERTS).filter((alert) => {
    bytes += JSON.stringify(alert).length;
    return bytes <= MAX_BYTES;
  });
}
