// The messages an incident gives rise to. In: an incident, its alerts and the reason. Out: notifications as they stand in the
// outbox: masked, and bounded in size, since one that does not fit into a record would block everything behind it.
import type { Masker } from '../core/mask.ts';
import type { Notification, NotifiedAlert, NotifyReason } from '../notify/notification.ts';
import { alertName, durationText, maskNotification } from '../notify/text.ts';
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
        // Of the first message every alert is new: nothing has joined.
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
        // What the message is about stands first: nothing in it speaks of another host.
        alerts: end === undefined ? others : [end, ...others],
      });
    },
  };
}

/** By rule and labels; of an incident from before those were kept, by its title. */
function isTold(alert: Pick<NotifiedAlert, 'ruleId' | 'labels' | 'title'>, { key, title }: Told): boolean {
  return key === undefined ? alert.title === title : alertKey(alert.ruleId, alert.labels) === key;
}

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

/** "Now 3.10 % (threshold 20 %), at its worst 45.20 %; it lasted 12 min." Undefined when it is about no value. */
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

function told(incident: IncidentRecord): Told {
  if (incident.told === undefined) throw new Error(`incident ${incident.id} was never told`);
  return incident.told;
}

/** Firing ones first, then those that ended and did not fire again, the newest first; at the end those that were told. */
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

function fitting(alerts: readonly NotifiedAlert[]): NotifiedAlert[] {
  let bytes = 0;
  return alerts.slice(0, MAX_ALERTS).filter((alert) => {
    bytes += JSON.stringify(alert).length;
    return bytes <= MAX_BYTES;
  });
}
