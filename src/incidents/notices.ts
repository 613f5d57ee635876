// Incidents -> messages. In: the open incidents of a draft. Out: messages in the outbox, and incidents that note what was told.
// Guarantee: a channel that got a trigger gets exactly one resolve, one that never got it gets none; a message and the note of it
// are one change. Nobody is told twice of what escalates, nor of what was held and is over. Messages are masked, and bounded in size: one
// that does not fit into a record would block all that follow. At the end of the file: the daily mail to each team.
import { isOver } from '../core/clock.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { localText } from '../oncall/rota.ts';
import type { PeopleOnCall, Routes } from '../oncall/routes.ts';
import type { Person, Team } from '../oncall/routing.ts';
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
  cut,
  durationText,
  maskNotification,
  type NamedPerson,
  type Notification,
  type NotifiedAlert,
  type NotifyReason,
  oneLine,
  type ReportPart,
} from './notification.ts';
import { type Step, severityOf } from './records.ts';

/** A message, as it is logged: 'CRITICAL ALERT' and so on. */
export interface Decision {
  readonly notification: Notification;
  readonly channels: readonly ChannelName[];
}

interface NotifyDeps {
  readonly notices: Notices;
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
  const { draft, outbox, wallMs, rules, routes } = step;
  const { notices } = deps;
  const audible = firing.filter(({ muted }) => muted === undefined);
  const incident =
    firing.length === 0 ? closed(step, present) : goesOn(step, unanswered(step, present, audible), audible);
  const [lead] = audible;
  const rule = lead === undefined ? undefined : rules.get(lead.ruleId);
  const isTrue = (alert: AlertRecord) => deps.current(alert) !== undefined;
  const { cooldownMs = 0 } = rule ?? {};
  // Whoever is told again and again by an escalation needs no reminder beside it.
  const escalates = (incident.escalation?.level ?? 0) > 0;
  const reminder = escalates ? 0 : remindMs(audible.find(isTrue), rules);
  const facts = {
    ...factsOf(incident, firing, { cooldownMs, remindMs: reminder }, isTrue, wallMs),
    escalate: isDue(step, incident, audible),
  };
  const { lastTriggerMs } = facts;
  const nowMs = lastTriggerMs === undefined ? wallMs : lastedTo(step, lastTriggerMs);
  const reason = decideNotify(facts, nowMs);

  const say = (notification: Notification, channels: readonly ChannelName[], next: IncidentRecord): Decision => {
    outbox.send(channels, notification);
    draft.put('incident', next.id, next);
    return { notification, channels };
  };

  switch (reason) {
    case 'none':
    case 'daily':
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
      return say(notices.resolve(incident, firing, wallMs), channels, next);
    }
    case 'acknowledged': {
      const { acknowledged } = incident;
      const next =
        acknowledged === undefined ? incident : { ...incident, acknowledged: { ...acknowledged, told: true } };
      return say(notices.acknowledge(incident, firing, wallMs), informedChannels(incident), next);
    }
    case 'escalated': {
      const current = audible.map((alert) => deps.current(alert) ?? alert);
      const { priority } = current[0]!;
      const { next, asked } = escalated(step, incident, priority);
      outbox.record({ name: 'escalated', incident: next });
      if (decideNotify({ ...facts, escalate: false }, nowMs) !== 'new-alerts') {
        const channels = withTriggers(incident, asked.channels, wallMs);
        return say(notices.trigger(incident, current, reason, wallMs, asked), asked.channels, { ...next, channels });
      }
      // As after a silence: one message has all the news, for everybody.
      const all = asking(step, next, priority, false);
      const channels = dispatched([...all.asked.channels, ...asked.channels]);
      const { waitedMs } = asked;
      const notification = notices.trigger(incident, current, reason, wallMs, { ...all.asked, channels, waitedMs });
      for (const alert of current) draft.put('alert', alert.key, { ...alert, announced: true });
      return say(notification, channels, triggered(all.next, notification, current[0]?.key, channels, wallMs));
    }
    case 'first':
    case 'new-alerts':
    case 'some-resolved':
    case 'repeat':
    case 'reopened': {
      // A reminder is about what is true now: such an alert leads, and decides how urgent the message is.
      const aboutTruth = reason !== 'first' && reason !== 'new-alerts';
      const told = aboutTruth ? [...audible.filter(isTrue), ...audible.filter((alert) => !isTrue(alert))] : audible;
      const current = told.map((alert) => deps.current(alert) ?? alert);
      const { priority } = current[0]!;
      if (routes.waits(priority, incident.team, wallMs)) {
        const isNews = reason === 'first' || reason === 'new-alerts' || reason === 'reopened';
        const next = isNews ? held(step, incident, current[0]!) : incident;
        if (next !== present) draft.put('incident', next.id, next);
        return undefined;
      }
      const begins = reason === 'reopened' ? reopened(step, incident, current[0]!) : incident;
      const { next, asked } = asking(step, begins, priority, !facts.open);
      const notification = notices.trigger(incident, current, reason, wallMs, asked);
      for (const alert of current) draft.put('alert', alert.key, { ...alert, announced: true });
      return say(notification, asked.channels, triggered(next, notification, current[0]?.key, asked.channels, wallMs));
    }
  }
}

/** How long ago that was by the wall clock, without what it skipped, as a moment after it. */
function lastedTo({ wallMs, skippedMs }: Step, sinceMs: number): number {
  return wallMs - skippedMs(sinceMs, wallMs);
}

/** An incident without firing alerts is over, told or not. */
function closed({ outbox, wallMs }: Step, incident: IncidentRecord): IncidentRecord {
  if (incident.state !== 'open') return incident;
  const { quiet: _, escalation: __, answerBy: ___, ...rest } = incident;
  const { heldFromMs, told } = incident;
  const next: IncidentRecord = { ...rest, state: 'resolved', resolvedMs: wallMs };
  if (heldFromMs !== undefined && isHeld(incident) && openChannels(incident).length === 0) {
    outbox.record({ name: 'dropped', incident: told === undefined ? next : { ...next, told } });
  }
  return next;
}

// ---- business hours ----

/** Has something been held since people were last told? */
function isHeld({ heldFromMs, told }: IncidentRecord): boolean {
  return heldFromMs !== undefined && (told === undefined || told.atMs < heldFromMs);
}

function held({ outbox, wallMs }: Step, incident: IncidentRecord, alert: AlertRecord): IncidentRecord {
  if (isHeld(incident)) return incident;
  const next = { ...incident, heldFromMs: wallMs };
  outbox.record({ name: 'held', alert, incident: next });
  return next;
}

// ---- resolved by hand while it was true ----

function reopened({ outbox }: Step, incident: IncidentRecord, alert: AlertRecord): IncidentRecord {
  const { quiet: _, ...rest } = incident;
  const next = { ...rest, reopened: incident.reopened + 1 };
  outbox.record({ name: 'reopened', alert, incident: next });
  return next;
}

// ---- on call: who is asked, and what happens when nobody answers ----

/** Whom a message asks, where it goes, and until when there is to be an answer. */
interface Asked {
  readonly team?: string;
  readonly people: readonly NamedPerson[];
  readonly channels: readonly ChannelName[];
  readonly answerBy?: number;
}

/** A person's own destinations, as far as messages of this priority go to such. */
function ownChannels(routes: Routes, priority: Priority, person: PeopleOnCall['primary']): readonly ChannelName[] {
  const kinds: readonly string[] = routes.of(priority).to;
  if (person === undefined) return [];
  return routes.personChannels(person).filter((name) => kinds.includes(kindOf(name)));
}

const kindOf = (name: ChannelName) => name.split(':', 1)[0]!;

function named(role: NamedPerson['role'], person: PeopleOnCall['primary']): readonly NamedPerson[] {
  if (person === undefined) return [];
  const { id, name, slackId } = person;
  return [{ role, id, name, ...(slackId === undefined ? {} : { slackId }) }];
}

/** @param begins nobody knows of it yet, or it had ended for those who do */
function asking(
  { routes, wallMs }: Step,
  incident: IncidentRecord,
  priority: Priority,
  begins: boolean,
): { readonly next: IncidentRecord; readonly asked: Asked } {
  const team = routes.team(incident.team);
  if (team === undefined) {
    return { next: incident, asked: { people: [], channels: dispatched(routes.channels(priority, incident.team)) } };
  }
  const worse = isWorse(incident, priority);
  const { acknowledged } = incident;
  const answered = acknowledged !== undefined && !worse;
  const onCall = routes.of(priority).onCall ? routes.onCall(team, wallMs) : {};
  const { primary, secondary } = onCall;
  const told = (incident.escalation?.level ?? 0) > 0;
  const channels = [
    ...routes.channels(priority, team.id),
    ...ownChannels(routes, priority, primary),
    ...(told ? ownChannels(routes, priority, secondary) : []),
  ];
  const { escalation: running, answerBy, ...rest } = incident;
  const started = canEscalate(routes, team, priority) ? { level: 0, atMs: wallMs, sinceMs: wallMs } : undefined;
  const escalation = running ?? started;
  const due = routes.answerByMs(priority, team.id, wallMs);
  // One that is due sooner stays due.
  const asks =
    due !== undefined && (begins || worse) ? { atMs: Math.min(due, answerBy?.atMs ?? due), priority } : answerBy;
  const next: IncidentRecord = {
    ...rest,
    ...(answered || escalation === undefined ? {} : { escalation }),
    ...(answered || asks === undefined ? {} : { answerBy: asks }),
    ...(primary === undefined && secondary === undefined ? {} : { onCall: idsOf(onCall) }),
  };
  const people = [...named('primary', primary), ...(told ? named('secondary', secondary) : [])];
  const until = next.answerBy?.atMs;
  return {
    next,
    asked: {
      team: team.id,
      people,
      channels: dispatched(channels),
      ...(until === undefined ? {} : { answerBy: until }),
    },
  };
}

/** More urgent than what people know, or than it was when somebody took it before they knew. */
function isWorse({ told, acknowledged }: IncidentRecord, priority: Priority): boolean {
  return outranks(priority, told?.priority ?? acknowledged?.priority);
}

/** The history has a way of its own. */
function dispatched(channels: readonly ChannelName[]): ChannelName[] {
  return [...new Set(channels)].filter((name) => name !== 'history');
}

function idsOf({ primary, secondary }: PeopleOnCall): NonNullable<IncidentRecord['onCall']> {
  return {
    ...(primary === undefined ? {} : { primary: primary.id }),
    ...(secondary === undefined ? {} : { secondary: secondary.id }),
  };
}

function canEscalate(routes: Routes, { rota, escalation }: Team, priority: Priority): boolean {
  return rota !== undefined && escalation.by === 'logpipe' && routes.of(priority).onCall;
}

/** What people were told of before there was a rota, or by a version that knew of none, goes to the secondary, too: counted from now. */
function goesOn({ routes, wallMs }: Step, incident: IncidentRecord, [lead]: readonly AlertRecord[]): IncidentRecord {
  const { told, acknowledged, quiet, escalation } = incident;
  const isTaken = acknowledged !== undefined || quiet !== undefined || escalation !== undefined;
  const team = routes.team(incident.team);
  if (told === undefined || lead === undefined || isTaken || team === undefined) return incident;
  if (openChannels(incident).length === 0) return incident;
  if (![told, lead].every(({ priority }) => canEscalate(routes, team, priority))) return incident;
  return { ...incident, escalation: { level: 0, atMs: wallMs, sinceMs: Math.min(told.atMs, wallMs) } };
}

/**
 * Has nobody acknowledged for so long that the next is to be told? Not while all of it is muted, or about to end, nor outside the hours in
 * which such messages go. An acknowledgement takes the escalation away.
 */
function isDue(step: Step, { team: id, escalation }: IncidentRecord, audible: readonly AlertRecord[]): boolean {
  const team = step.routes.team(id);
  const [lead] = audible;
  if (escalation === undefined || team === undefined || lead === undefined) return false;
  if (!canEscalate(step.routes, team, lead.priority)) return false;
  if (step.routes.waits(lead.priority, team.id, step.wallMs)) return false;
  if (audible.every(({ clearSinceMs }) => clearSinceMs !== undefined)) return false;
  const { afterMs, repeatMs } = team.escalation;
  return lastedTo(step, escalation.atMs) - escalation.atMs >= (escalation.level === 0 ? afterMs : repeatMs);
}

/** To the secondary; where there is none, or it was told before, to everybody on call. */
function escalated(
  { routes, wallMs }: Step,
  incident: IncidentRecord,
  priority: Priority,
): { readonly next: IncidentRecord; readonly asked: Asked & { readonly waitedMs: number } } {
  const team = routes.team(incident.team)!;
  const { level, sinceMs } = incident.escalation!;
  const onCall = routes.onCall(team, wallMs);
  const { secondary } = onCall;
  const primary = level === 0 && secondary !== undefined ? undefined : onCall.primary;
  const called = [primary, secondary].flatMap((person) => (person === undefined ? [] : [person]));
  const channels = [
    // Those in which everybody reads; the team's own mail and PagerDuty have been told.
    ...routes.channels(priority, team.id).filter((name) => !['email', 'pagerduty'].includes(kindOf(name))),
    ...called.flatMap((person) => routes.personChannels(person)),
  ];
  const until = incident.answerBy?.atMs;
  return {
    next: {
      ...incident,
      escalation: { level: level + 1, atMs: wallMs, sinceMs },
      ...(called.length === 0 ? {} : { onCall: idsOf(onCall) }),
    },
    asked: {
      team: team.id,
      people: [...named('primary', primary), ...named('secondary', secondary)],
      channels: dispatched(channels),
      ...(until === undefined ? {} : { answerBy: until }),
      waitedMs: wallMs - sinceMs,
    },
  };
}

/** Notes once that nobody answered in time. What is muted is in somebody's hands. */
function unanswered(
  { outbox, wallMs }: Step,
  incident: IncidentRecord,
  audible: readonly AlertRecord[],
): IncidentRecord {
  const { answerBy, ...rest } = incident;
  if (answerBy === undefined || audible.length === 0 || wallMs < answerBy.atMs) return incident;
  const next = { ...rest, missed: answerBy };
  outbox.record({ name: 'unanswered', incident: next });
  return next;
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
  const { acknowledged, ...rest } = incident;
  // Whoever acknowledged a P2 has not acknowledged the P1 it became.
  const keeps = acknowledged !== undefined && !isWorse(incident, priority);
  return {
    ...rest,
    ...(keeps ? { acknowledged } : {}),
    channels: withTriggers(incident, channels, wallMs),
    told: {
      ...(key === undefined ? {} : { key }),
      ...{ atMs: wallMs, priority, title, message },
      ...(metadata === undefined ? {} : { metadata }),
    },
    endedSinceTold: 0,
  };
}

function withTriggers(
  incident: IncidentRecord,
  channels: readonly ChannelName[],
  wallMs: number,
): IncidentRecord['channels'] {
  const states = channels.map((name) => {
    const { resolvedMs, failed: _, ...state } = incident.channels[name] ?? { triggeredMs: wallMs };
    // The incident has begun again: what was delivered before its end says nothing about this trigger.
    if (resolvedMs !== undefined) return [name, { triggeredMs: wallMs }];
    return [name, { ...state, triggeredMs: wallMs }];
  });
  return { ...incident.channels, ...Object.fromEntries(states) };
}

// ---- the message for each reason ----

interface Notices {
  /** `audible`: the alerts to name, most urgent first, at least one. */
  trigger(
    incident: IncidentRecord,
    audible: readonly AlertRecord[],
    reason: NotifyReason,
    wallMs: number,
    asked: Asked & { readonly waitedMs?: number },
  ): Notification;
  acknowledge(incident: IncidentRecord, firing: readonly AlertRecord[], wallMs: number): Notification;
  /** `firing`: what is still true although somebody has resolved it. */
  resolve(incident: IncidentRecord, firing: readonly AlertRecord[], wallMs: number): Notification;
}

const MAX_JOINED = 20;

export function createNotices(deps: { readonly environment: string; readonly masker: Masker }): Notices {
  const { environment, masker } = deps;

  const build = (
    incident: IncidentRecord,
    parts: Pick<
      Notification,
      'action' | 'reason' | 'atMs' | 'alerts' | 'people' | 'answerBy' | 'waitedMs' | 'by' | 'team'
    > & {
      readonly lead: Omit<Told, 'atMs' | 'why'>;
      readonly joined?: readonly string[];
    },
  ): Notification => {
    const { lead, alerts, joined = [], ...rest } = parts;
    const named = fitting(alerts);
    const { id: incidentId, dedupKey, team } = incident;
    const notification: Notification = {
      ...{ incidentId, dedupKey },
      ...(team === undefined ? {} : { team }),
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
    trigger(incident, audible, reason, wallMs, { people, answerBy, team, waitedMs }) {
      const [lead] = audible as [AlertRecord];
      const { quiet } = incident;
      const waited = reason === 'reopened' && quiet !== undefined ? wallMs - quiet.fromMs : waitedMs;
      return build(incident, {
        action: 'trigger',
        reason,
        atMs: wallMs,
        lead,
        alerts: everyAlert(incident, audible),
        // In the first message every alert is new, so none has joined.
        joined: reason === 'first' ? [] : audible.filter(({ announced }) => announced !== true).map(alertName),
        ...(team === undefined ? {} : { team }),
        ...(people.length === 0 ? {} : { people }),
        ...(answerBy === undefined ? {} : { answerBy }),
        ...(waited === undefined ? {} : { waitedMs: waited }),
        ...(reason === 'reopened' && quiet !== undefined ? { by: quiet.by } : {}),
      });
    },

    acknowledge(incident, firing, wallMs) {
      const last = told(incident);
      // The alert that was told may be over, and another one goes on.
      const present = firing.find(({ key }) => key === last.key) ?? firing[0];
      const lead = present === undefined || isTold(present, last) ? last : present;
      return build(incident, {
        action: 'acknowledge',
        reason: 'acknowledged',
        atMs: wallMs,
        lead,
        alerts: everyAlert(incident, firing),
        ...(incident.acknowledged === undefined ? {} : { by: incident.acknowledged.by }),
      });
    },

    resolve(incident, firing, wallMs) {
      const lead = told(incident);
      const { quiet } = incident;
      const alerts = everyAlert(incident, firing);
      const end = alerts.find((alert) => isTold(alert, lead));
      const others = alerts.filter((alert) => alert !== end);
      const why = quiet === undefined ? undefined : stillTrue(quiet, lead.message);
      return build(incident, {
        action: 'resolve',
        reason: 'all-resolved',
        atMs: wallMs,
        // Its last words say how it ended.
        lead: { ...lead, message: why ?? end?.message ?? lead.message },
        // The alert that the message is about comes first: channels take details from it.
        alerts: end === undefined ? others : [end, ...others],
        ...(quiet === undefined ? {} : { by: quiet.by }),
      });
    },
  };
}

function stillTrue({ by, fromMs, untilMs }: NonNullable<IncidentRecord['quiet']>, message: string): string {
  const quiet = durationText(untilMs - fromMs);
  return `Resolved by hand by ${by}, though it is still true: it is quiet for ${quiet}, and begins again if it is true then or becomes worse. Before: ${message}`;
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

// ---- the daily mail to each team ----
// In: the schedules of the routing, the incidents, the clock. Out: at most one mail per team and due time, in the outbox, and the note that
// it was due. What was missed is made up for once, however many days it was; a clock that is set neither doubles nor loses one; a team for
// which nobody is on call, and about which there is nothing to say, gets none.

const DAY_MS = 86_400_000;
/** No report reaches further back. */
const MAX_BACK_MS = 7 * DAY_MS;
const MAX_LINES = 40;
const MAX_LINE = 300;

interface DailyDeps {
  readonly environment: string;
  readonly masker: Masker;
}

export function sendDailyMails(step: Step, deps: DailyDeps): Decision[] {
  const { draft, wallMs, routes } = step;
  return routes.teams().flatMap((team) => {
    const id = `daily-${team.id}`;
    const dueMs = routes.dailyDueMs(team, wallMs);
    const before = draft.get('schedule', id)?.atMs;
    // Never before, so there is nothing to make up for; or the clock was days ahead, and what was due then is to be due again.
    if (before === undefined || isOver(before - 2 * DAY_MS, wallMs)) draft.put('schedule', id, { atMs: dueMs });
    if (before === undefined || dueMs <= before) return [];
    draft.put('schedule', id, { atMs: dueMs });
    const decision = mailTo(step, team, { dueMs, sinceMs: Math.max(before, wallMs - MAX_BACK_MS) }, deps);
    if (decision === undefined) return [];
    step.outbox.send(decision.channels, decision.notification);
    return [decision];
  });
}

interface Span {
  readonly dueMs: number;
  /** What was before is in an earlier mail. */
  readonly sinceMs: number;
}

function mailTo(step: Step, team: Team, span: Span, deps: DailyDeps): Decision | undefined {
  const { routes, wallMs } = step;
  const now = routes.onCall(team, wallMs);
  const before = routes.onCall(team, span.sinceMs);
  const people = [now.primary, now.secondary, before.primary, before.secondary];
  const mail = people.flatMap((person) =>
    person === undefined ? [] : routes.personChannels(person).filter((name) => name.startsWith('email:')),
  );
  const channels = [...new Set([...routes.mailOf(team), ...mail])];
  if (channels.length === 0) return undefined;
  const { incidents, counts, parts } = reportOf(step, team, span);
  if (team.rota === undefined && parts.length === 0) return undefined;
  const onCall = team.rota === undefined ? [] : [handOff(step, team, now, before)];
  const { timeZone } = team.hours;
  const notification: Notification = {
    incidentId: `daily-${team.id}-${localText(span.dueMs, timeZone).split(' ')[1]}`,
    dedupKey: `logpipe/daily-${team.id}-${span.dueMs}`,
    action: 'inform',
    reason: 'daily',
    severity: severityOf('P4'),
    priority: 'P4',
    title: `Daily: ${[team.name, incidents, ...whoIsNext(step, team, now, before)].join(', ')}`,
    message: counts,
    atMs: wallMs,
    environment: deps.environment,
    alerts: [],
    joined: [],
    team: team.id,
    report: [...onCall, ...parts],
  };
  return { notification: maskNotification(notification, deps.masker), channels };
}

// - hand-off

function handOff({ routes, wallMs }: Step, team: Team, now: PeopleOnCall, before: PeopleOnCall): ReportPart {
  const lines = [`now: ${namesOf(now)}`];
  if (!same(now, before)) lines.push(`since the last mail: ${namesOf(now)} came, ${namesOf(before)} went`);
  for (const { atMs, who } of routes.changes(team, wallMs, wallMs + DAY_MS)) {
    lines.push(`from ${localText(atMs, team.hours.timeZone)}: ${namesOf(who)}`);
  }
  return { heading: 'On call', lines };
}

/** For the title: who has taken over since the last mail, or will within a day; else who is on call. */
function whoIsNext({ routes, wallMs }: Step, team: Team, now: PeopleOnCall, before: PeopleOnCall): string[] {
  if (team.rota === undefined) return [];
  const name = ({ primary }: PeopleOnCall) => primary?.name ?? 'nobody';
  if (now.primary?.id !== before.primary?.id) return [`hand-off to ${name(now)}`];
  const [next] = routes.changes(team, wallMs, wallMs + DAY_MS);
  const comes = next !== undefined && next.who.primary?.id !== now.primary?.id;
  return [comes ? `hand-off to ${name(next.who)}` : `on call: ${name(now)}`];
}

function namesOf({ primary, secondary }: PeopleOnCall): string {
  const name = (person: Person | undefined) => person?.name ?? 'nobody';
  return secondary === undefined ? name(primary) : `${name(primary)}, then ${name(secondary)}`;
}

function same(one: PeopleOnCall, other: PeopleOnCall): boolean {
  return one.primary?.id === other.primary?.id && one.secondary?.id === other.secondary?.id;
}

// - what happened

interface Seen {
  readonly incident: IncidentRecord;
  readonly priority: Priority;
  readonly title: string;
}

function reportOf({ draft, routes, wallMs }: Step, team: Team, { sinceMs }: Span) {
  const firing = new Map<string, AlertRecord[]>();
  for (const alert of draft.values('alert')) {
    if (alert.incidentId === undefined) continue;
    firing.set(alert.incidentId, [...(firing.get(alert.incidentId) ?? []), alert]);
  }
  const seen = draft.values('incident').flatMap((incident): Seen[] => {
    const { id, state, resolvedMs = 0, told, ended } = incident;
    if (routes.team(incident.team)?.id !== team.id || (state === 'resolved' && resolvedMs < sinceMs)) return [];
    const [worst] = [...(firing.get(id) ?? []), ...ended].sort(byUrgency);
    const lead = told ?? worst;
    return lead === undefined ? [] : [{ incident, priority: lead.priority, title: lead.title }];
  });
  seen.sort((one, other) => {
    if (one.priority !== other.priority) return one.priority < other.priority ? -1 : 1;
    return one.incident.openedMs - other.incident.openedMs;
  });
  const isDigest = ({ priority }: Seen) => routes.of(priority).daily;
  const told = seen.filter((one) => !isDigest(one) && one.incident.told !== undefined);
  const held = seen.filter((one) => !isDigest(one) && (one.incident.heldFromMs ?? 0) >= sinceMs);
  const digest = seen.filter(isDigest);
  const missed = seen.filter(({ incident }) => (incident.missed?.atMs ?? 0) >= sinceMs);
  const parts = [
    part(
      'Not answered in time',
      missed.map((one) => missedLine(one, team)),
    ),
    part(
      'Incidents',
      told.map((one) => incidentLine(one, wallMs, team)),
    ),
    part(
      'Held outside business hours',
      held.map((one) => heldLine(one, team)),
    ),
    part(
      'Daily digest',
      digest.map((one) => incidentLine(one, wallMs, team)),
    ),
  ].flatMap((one) => one ?? []);
  const incidents = `${told.length === 0 ? 'no' : told.length} ${told.length === 1 ? 'incident' : 'incidents'}`;
  const counts = [
    incidents,
    ...(missed.length === 0 ? [] : [`${missed.length} not answered in time`]),
    ...(held.length === 0 ? [] : [`${held.length} held outside business hours`]),
    ...(digest.length === 0 ? [] : [`${digest.length} in the digest`]),
  ];
  return { incidents, counts: `Since ${localText(sinceMs, team.hours.timeZone)}: ${counts.join(', ')}.`, parts };
}

function part(heading: string, lines: readonly string[]): ReportPart | undefined {
  if (lines.length === 0) return undefined;
  const shown = lines.slice(0, MAX_LINES).map((line) => cut(oneLine(line), MAX_LINE));
  if (lines.length > MAX_LINES) shown.push(`and ${lines.length - MAX_LINES} more`);
  return { heading, lines: shown };
}

function incidentLine({ incident, priority, title }: Seen, wallMs: number, team: Team): string {
  const { state, openedMs, resolvedMs, acknowledged, quiet } = incident;
  const taken = acknowledged === undefined ? '' : `, acknowledged by ${acknowledged.by}`;
  const lasted = durationText((resolvedMs ?? wallMs) - openedMs);
  const course =
    quiet !== undefined
      ? `resolved by hand by ${quiet.by}, still true`
      : state === 'resolved'
        ? `over after ${lasted}`
        : `goes on for ${lasted}`;
  return `${priority} ${title}: from ${localText(openedMs, team.hours.timeZone)}, ${course}${taken}`;
}

function heldLine({ incident, priority, title }: Seen, team: Team): string {
  const { heldFromMs = 0, told, state } = incident;
  const from = localText(heldFromMs, team.hours.timeZone);
  const what =
    told !== undefined && told.atMs >= heldFromMs
      ? `told ${localText(told.atMs, team.hours.timeZone)}`
      : state === 'resolved'
        ? 'over before business hours, so nobody was told'
        : 'still held';
  return `${priority} ${title}: from ${from}, ${what}`;
}

function missedLine({ incident, title }: Seen, team: Team): string {
  const { missed, acknowledged, state } = incident;
  const since = acknowledged === undefined ? state : `acknowledged since, by ${acknowledged.by}`;
  return `${missed!.priority} ${title}: due ${localText(missed!.atMs, team.hours.timeZone)}, ${since}`;
}
