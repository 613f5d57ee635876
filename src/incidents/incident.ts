// What an alert is, and what an incident is. In: the records of each, what rules say, and two clocks. Out: their next records,
// and whether an incident has something to report. Guarantee: pure; an inactive alert has no record, and everything the next step
// depends on is in the records, so an alert read back after a restart goes on as if nothing had happened.
//
// Read on: machine.ts takes one step of all of them, notices.ts turns what there is to report into messages, records.ts keeps them.
import { isOver } from '../core/clock.ts';
import type { Where } from '../core/condition.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { type Observation, PRIORITIES, type Priority, type RuleInfo, type Why } from '../rules/rule-types.ts';
import { labelTest } from '../windows/series.ts';
import type { ChannelName, NotifiedAlert, NotifyReason } from './notification.ts';

// ---- one alert through time: inactive -> pending -> firing -> resolved ----

/** `alert/<key>`. Title, priority and group are the rule's, kept here because the rule may be gone at the end. */
export interface AlertRecord extends Said {
  readonly key: string;
  readonly ruleId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly title: string;
  readonly priority: Priority;
  readonly group: string;
  readonly runbook: string;
  /** That of its rule. */
  readonly watches?: string;
  readonly phase: 'pending' | 'firing';
  /** Evaluation time of the first breach. */
  readonly startedMs: number;
  /** Evaluation time since when the condition has not been true; absent while it is. */
  readonly clearSinceMs?: number;
  /** Evaluation time since when nothing is known about it. */
  readonly gapSinceMs?: number;
  /** The worst value since it began to fire, when worse than that of `why`; updated every few seconds at most. */
  readonly peak?: Peak;
  readonly incidentId?: string;
  /** A message has named it. */
  readonly announced?: true;
  readonly muted?: Muted;
}

/** What the alert says to people; masked. */
export interface Said {
  readonly message: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly why?: Why;
}

interface Peak {
  readonly valueText: string;
  /** Distance from the threshold. */
  readonly beyond: number;
  /** Evaluation time. */
  readonly atMs: number;
}

/** By which way a person gave a command. */
export const VIAS = ['cli', 'api', 'link', 'pagerduty'] as const;
export type Via = (typeof VIAS)[number];

/** How a firing alert ended. */
export type Resolution = 'cleared' | 'unobserved' | 'forgotten' | 'rule removed' | 'rule changed' | 'moved' | 'by hand';

/** `dismissed/<alert>`: an absence that somebody ended by hand. It fires again only after something has arrived. */
export interface Dismissed {
  readonly key: string;
  readonly ruleId: string;
  readonly watches?: string;
  readonly atMs: number;
}

/** What the state machine needs of a rule, beyond what people are told. */
export interface AlertRule extends RuleInfo {
  /** How many alerts of this rule may be open at a time, one per label set. Default `DEFAULT_MAX_ALERTS`. */
  readonly maxAlerts?: number;
  /** Absence: only an event ends the silence; an alert that is no longer observed goes on. */
  readonly endsByEvent?: true;
  /** Absence with labels: how long a label set may be silent before it counts as gone. */
  readonly forgetAfterMs?: number;
  /** Absence: what it listens to, as text. The silence of something else is another alert. */
  readonly watches?: string;
  /** The labels its alerts have, and the conditions on them; absent when unknown. */
  readonly labelNames?: readonly string[];
  readonly where?: Where;
}

export const DEFAULT_MAX_ALERTS = 20;

/** Rule and sorted labels: the same alert has the same key in every process. */
export function alertKey(ruleId: string, labels: Readonly<Record<string, string>>): string {
  const names = Object.keys(labels).sort();
  if (names.length === 0) return ruleId;
  return `${ruleId}{${names.map((name) => `${name}=${JSON.stringify(labels[name])}`).join(',')}}`;
}

/** An alert whose condition is true for the first time. */
export function beginAlert(
  key: string,
  labels: Readonly<Record<string, string>>,
  rule: AlertRule,
  evalMs: number,
  said: Said,
): AlertRecord {
  const { id: ruleId, title, priority, group, runbook, forMs, watches } = rule;
  const phase = forMs <= 0 ? 'firing' : 'pending';
  const what = watches === undefined ? {} : { watches };
  return { key, ruleId, labels, title, priority, group, runbook, ...what, phase, startedMs: evalMs, ...said };
}

type Advance =
  | { readonly to: 'same' }
  /** A new record without a transition. */
  | { readonly to: 'kept'; readonly record: AlertRecord }
  | { readonly to: 'firing'; readonly record: AlertRecord }
  /** No longer pending: it never fired. */
  | { readonly to: 'inactive' }
  | { readonly to: 'resolved'; readonly resolution: Resolution };

const SAME: Advance = { to: 'same' };

/** Evaluation time: now, and how long something that began at `fromMs` has lasted, without time that a clock skipped. */
interface EvaluationClock {
  readonly nowMs: number;
  lastedMs(fromMs: number): number;
}

/**
 * The next step of an open alert. `state` is undefined when the evaluator did not mention the alert, though it mentioned others.
 * `said` is called only when the alert fires.
 */
export function advanceAlert(
  record: AlertRecord,
  state: Observation['state'] | undefined,
  rule: AlertRule,
  clock: EvaluationClock,
  said: () => Said,
): Advance {
  if (state === 'held') return SAME;
  return record.phase === 'pending'
    ? advancePending(record, state, rule, clock, said)
    : advanceFiring(record, state, rule, clock);
}

type Seen = Exclude<Observation['state'], 'held'> | undefined;

function advancePending(
  record: AlertRecord,
  state: Seen,
  rule: AlertRule,
  clock: EvaluationClock,
  said: () => Said,
): Advance {
  const { nowMs: evalMs, lastedMs } = clock;
  if (state === 'clear' || state === 'forgotten') return { to: 'inactive' };
  if (state !== 'breached') return gap(record, clock, { to: 'inactive' });
  const { gapSinceMs, ...rest } = record;
  // The condition has to *hold*: if it was not observed for longer than `for`, it begins anew. So does one that began in the future:
  // just after a start, before it is known how far the log was read, evaluation time is the wall clock's.
  if (evalMs < record.startedMs || (gapSinceMs !== undefined && lastedMs(gapSinceMs) > rule.forMs)) {
    return { to: 'kept', record: { ...rest, startedMs: evalMs } };
  }
  if (lastedMs(record.startedMs) >= rule.forMs)
    return { to: 'firing', record: { ...rest, phase: 'firing', ...said() } };
  return gapSinceMs === undefined ? SAME : { to: 'kept', record: rest };
}

function advanceFiring(record: AlertRecord, state: Seen, rule: AlertRule, clock: EvaluationClock): Advance {
  const { nowMs: evalMs, lastedMs } = clock;
  // An alert about which nothing can be said for an hour is over: a tenant that stopped calling, a night without calls.
  if (state === undefined || state === 'unknown') {
    const { endsByEvent, forgetAfterMs = Number.POSITIVE_INFINITY } = rule;
    if (endsByEvent === undefined) return gap(record, clock, { to: 'resolved', resolution: 'unobserved' });
    return lastedMs(record.startedMs) >= forgetAfterMs ? { to: 'resolved', resolution: 'forgotten' } : SAME;
  }
  const { gapSinceMs, ...rest } = record;
  const present = gapSinceMs === undefined ? SAME : ({ to: 'kept', record: rest } as const);
  switch (state) {
    case 'forgotten':
      return { to: 'resolved', resolution: 'forgotten' };
    case 'breached': {
      if (record.clearSinceMs === undefined) return present;
      const { clearSinceMs: _, ...breached } = rest;
      return { to: 'kept', record: breached };
    }
    case 'clear': {
      const since = Math.min(record.clearSinceMs ?? evalMs, evalMs);
      if (lastedMs(since) >= rule.keepFiringMs) return { to: 'resolved', resolution: 'cleared' };
      return since === record.clearSinceMs ? present : { to: 'kept', record: { ...rest, clearSinceMs: since } };
    }
  }
}

/** An open alert that the evaluator has not mentioned for this long is over. */
export const FORGET_MS = 3_600_000;

function gap(record: AlertRecord, { nowMs: evalMs, lastedMs }: EvaluationClock, end: Advance): Advance {
  if (record.gapSinceMs === undefined || evalMs < record.gapSinceMs) {
    return { to: 'kept', record: { ...record, gapSinceMs: evalMs } };
  }
  return lastedMs(record.gapSinceMs) >= FORGET_MS ? end : SAME;
}

const MAX_MESSAGE = 2_000;
const MAX_METADATA = 8_000;

/** What an observation says to people, masked and bounded, as it is kept and sent. */
export function saidOf(observation: Observation, rule: RuleInfo, masker: Masker): Said {
  const { metadata, why } = observation;
  const message = observation.message ?? rule.title;
  const said: Said = {
    message: message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message,
    ...(metadata === undefined ? {} : { metadata: bounded(metadata) }),
    ...(why === undefined ? {} : { why }),
  };
  return masker.value(said) as Said;
}

function bounded(metadata: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const length = JSON.stringify(metadata).length;
  return length <= MAX_METADATA ? metadata : { truncated: `${length} characters of metadata were left out` };
}

/** A new worst value is recorded this long after the previous one at the earliest. */
const PEAK_EVERY_MS = 5_000;
/** And only when it is this many times as far beyond the threshold. */
const PEAK_STEP = 1.01;

/** A firing alert with its worst value so far; the same record when that has not changed. */
export function withPeak(record: AlertRecord, why: Why | undefined, evalMs: number): AlertRecord {
  if (record.phase !== 'firing' || why === undefined) return record;
  const { peak, why: first } = record;
  const beyond = Math.abs(why.value - why.threshold);
  const known = peak?.beyond ?? (first === undefined ? -1 : Math.abs(first.value - first.threshold));
  // Every change is written to the store: a value that grows with each event is written now and then, one that grows all day ever more rarely.
  if (!(beyond > known * PEAK_STEP) || (peak !== undefined && evalMs - peak.atMs < PEAK_EVERY_MS)) return record;
  return { ...record, peak: { valueText: why.valueText, beyond, atMs: evalMs } };
}

// ---- an alert whose rule has changed ----

/** False when the rule, as it is now, can never report on the alert again. */
export function canSpeakOf(rule: AlertRule, { labels, watches }: Pick<AlertRecord, 'labels' | 'watches'>): boolean {
  if (watches !== undefined && rule.watches !== undefined && watches !== rule.watches) return false;
  const { labelNames, where = {} } = rule;
  if (labelNames === undefined) return true;
  const names = Object.keys(labels);
  if (names.length !== labelNames.length || !names.every((name) => labelNames.includes(name))) return false;
  const own = Object.fromEntries(Object.entries(where).filter(([name]) => names.includes(name)));
  return labelTest(own, names)(names.map((name) => labels[name] as string));
}

/** The alert with its rule's present title, priority and runbook. One that has become more urgent must be announced again. */
export function adoptRule(record: AlertRecord, rule: AlertRule): AlertRecord {
  const { title, priority, runbook, watches = record.watches } = rule;
  const same =
    title === record.title && priority === record.priority && runbook === record.runbook && watches === record.watches;
  if (same) return record;
  const { announced, ...rest } = record;
  const told = announced === undefined || PRIORITIES.indexOf(priority) < PRIORITIES.indexOf(record.priority);
  return {
    ...rest,
    ...(told ? {} : { announced }),
    ...(watches === undefined ? {} : { watches }),
    ...{ title, priority, runbook },
  };
}

// ---- what mutes a firing alert: silences, which people set, and inhibition, which rules declare ----
// Inhibition is never circular, so behind every inhibited alert there is one that is not.

/** Why an alert is muted. A silence is somebody's decision and takes precedence over inhibition. */
type Muted = 'silenced' | 'inhibited';

/** `silence/<id>`: nobody is told of matching alerts until it ends. Every part that is given must match; one must be given. */
export interface SilenceRecord {
  readonly id: string;
  readonly ruleId?: string;
  readonly group?: string;
  /** Equal texts. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly priority?: Priority;
  readonly environment?: string;
  /** Wall clock, ms. Absent: from the beginning. */
  readonly fromMs?: number;
  /** Wall clock, ms: when it was set. */
  readonly createdMs?: number;
  /** Wall clock, ms. */
  readonly untilMs: number;
  readonly by: string;
  readonly reason: string;
}

type MutedBy = (alert: AlertRecord, firing: readonly AlertRecord[]) => Muted | undefined;

/** What mutes an alert. What people decided takes precedence over an inhibiting alert. */
export interface Muting {
  readonly silence?: SilenceRecord;
  /** Id of a maintenance window (oncall/routing.ts). */
  readonly maintenance?: string;
  readonly inhibitor?: AlertRecord;
}

type MaintenanceOf = (alert: AlertRecord) => string | undefined;

/** The silences that count at a moment in an environment. */
export function inForce(
  silences: readonly SilenceRecord[],
  { nowMs, environment }: { readonly nowMs: number; readonly environment: string },
): SilenceRecord[] {
  return silences.filter(
    ({ fromMs = Number.NEGATIVE_INFINITY, untilMs, environment: of = environment }) =>
      fromMs <= nowMs && nowMs < untilMs && of === environment,
  );
}

/** What mutes each alert, given all that fire and the silences in force; undefined when nothing does. */
export function createMuters(
  rules: readonly Pick<RuleInfo, 'id' | 'inhibitedBy'>[],
): (
  silences: readonly SilenceRecord[],
  maintenanceOf?: MaintenanceOf,
) => (alert: AlertRecord, firing: readonly AlertRecord[]) => Muting | undefined {
  const inhibitors = withoutCircles(rules);
  return (silences, maintenanceOf = () => undefined) =>
    (alert, firing) => {
      const silence = silences.find((one) => silenceMatches(one, alert));
      if (silence !== undefined) return { silence };
      const maintenance = maintenanceOf(alert);
      if (maintenance !== undefined) return { maintenance };
      const by = inhibitors.get(alert.ruleId);
      if (by === undefined) return undefined;
      const inhibitor = firing.find((other) => by.has(other.ruleId) && agree(other.labels, alert.labels));
      return inhibitor === undefined ? undefined : { inhibitor };
    };
}

/** How each alert stands, given all that fire and the silences in force. */
export function createMuting(
  rules: readonly RuleInfo[],
): (silences: readonly SilenceRecord[], maintenanceOf?: MaintenanceOf) => MutedBy {
  const muters = createMuters(rules);
  return (silences, maintenanceOf) => {
    const mutingOf = muters(silences, maintenanceOf);
    return (alert, firing) => {
      const muting = mutingOf(alert, firing);
      if (muting === undefined) return undefined;
      return muting.inhibitor === undefined ? 'silenced' : 'inhibited';
    };
  };
}

/** What a silence matches. */
export type SilenceMatch = Pick<SilenceRecord, 'ruleId' | 'group' | 'labels' | 'priority' | 'environment'>;

/** True when the silence names at least one thing to match. */
export function isSpecific({ ruleId, group, labels = {}, priority, environment }: SilenceMatch): boolean {
  return [ruleId, group, priority, environment].some((part) => part !== undefined) || Object.keys(labels).length > 0;
}

/** `rule=queue-long tenantId=acme`, for people. */
export function silenceText({ ruleId, group, labels = {}, priority, environment }: SilenceMatch): string {
  const parts = Object.entries({ rule: ruleId, group, priority, environment, ...labels });
  return parts.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])).join(' ');
}

/** Whether an alert is one that the silence is about; not whether the silence is in force. */
export function silenceMatches(
  { ruleId, group, priority, labels = {} }: SilenceMatch,
  alert: Pick<AlertRecord, 'ruleId' | 'group' | 'priority' | 'labels'>,
): boolean {
  return (
    (ruleId === undefined || ruleId === alert.ruleId) &&
    (group === undefined || group === alert.group) &&
    (priority === undefined || priority === alert.priority) &&
    Object.entries(labels).every(([name, value]) => alert.labels[name] === value)
  );
}

/** What a silence is about, before it is set. */
export interface SilencePreview {
  /** Alerts that fire now and would be muted, most urgent first. */
  readonly now: readonly AlertRecord[];
  /** Alerts of the last day that it would have muted, the newest first; each with its incident. */
  readonly lastDay: readonly { readonly incidentId: string; readonly alert: NotifiedAlert }[];
}

const DAY_MS = 86_400_000;

/** @param silence its times do not matter, and another environment than `environment` matches nothing */
export function previewSilence(
  silence: SilenceMatch,
  alerts: readonly AlertRecord[],
  incidents: readonly IncidentRecord[],
  { nowMs, environment }: { readonly nowMs: number; readonly environment: string },
): SilencePreview {
  if ((silence.environment ?? environment) !== environment) return { now: [], lastDay: [] };
  const now = alerts.filter((alert) => alert.phase === 'firing' && silenceMatches(silence, alert));
  const ended = incidents.flatMap(({ id: incidentId, group, ended }) =>
    ended
      .filter(({ resolvedMs = 0 }) => nowMs - resolvedMs < DAY_MS)
      .filter((alert) => silenceMatches(silence, { ...alert, group }))
      .map(({ untold: _, ...alert }) => ({ incidentId, alert })),
  );
  const end = ({ alert }: (typeof ended)[number]) => alert.resolvedMs ?? 0;
  return { now: now.sort(byUrgency), lastDay: ended.sort((one, other) => end(other) - end(one)) };
}

/** The same value of every label that both have. */
export function agree(one: AlertRecord['labels'], other: AlertRecord['labels']): boolean {
  return Object.keys(one).every((name) => other[name] === undefined || other[name] === one[name]);
}

/** Rule -> the rules that mute it. In the order of the rules, a declaration that would close a circle is left out. */
function withoutCircles(rules: readonly Pick<RuleInfo, 'id' | 'inhibitedBy'>[]): Map<string, ReadonlySet<string>> {
  const result = new Map<string, Set<string>>();
  const leadsTo = (from: string, to: string): boolean =>
    from === to || [...(result.get(from) ?? [])].some((next) => leadsTo(next, to));
  for (const { id, inhibitedBy } of rules) {
    const by = new Set<string>();
    result.set(id, by);
    for (const other of inhibitedBy) if (!leadsTo(other, id)) by.add(other);
  }
  for (const [id, by] of result) if (by.size === 0) result.delete(id);
  return result;
}

// ---- one incident: alerts that belong together ----

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
  readonly channels: Readonly<Record<ChannelName, ChannelState>>;
  readonly told?: Told;
  readonly acknowledged?: {
    readonly by: string;
    readonly via?: Via;
    readonly atMs: number;
    readonly told: boolean;
    /** What it was, when people had not been told of it yet. */
    readonly priority?: Priority;
  };
  /** Whose it is; absent where there is no routing, and in incidents of earlier versions. */
  readonly team?: string;
  /** Who was on call when people were last told, person ids. */
  readonly onCall?: { readonly primary?: string; readonly secondary?: string };
  /**
   * As long as nobody has acknowledged: 0 = the primary was told, 1 = the secondary as well, each further number a repetition to both.
   * `sinceMs` is when people were first told, `atMs` when that level was reached.
   */
  readonly escalation?: { readonly level: number; readonly atMs: number; readonly sinceMs: number };
  /** Resolved by hand while its condition was true: nobody is told until then, unless it becomes worse than `priority`. */
  readonly quiet?: {
    readonly fromMs: number;
    readonly untilMs: number;
    readonly priority: Priority;
    readonly by: string;
  };
  /** Since when a message has been held until business hours. Stays when it was told, or was over before. */
  readonly heldFromMs?: number;
  /** Until when somebody is to acknowledge or resolve it. Absent once somebody has, or once that is over (`missed`). */
  readonly answerBy?: { readonly atMs: number; readonly priority: Priority };
  /** The last time that nobody answered in time. */
  readonly missed?: { readonly atMs: number; readonly priority: Priority };
  readonly ended: readonly EndedAlert[];
  /** Alerts that were named and ended since the last trigger. */
  readonly endedSinceTold: number;
}

export interface ChannelState {
  /** When the last trigger was decided. */
  readonly triggeredMs: number;
  /** When the resolve after it was decided. */
  readonly resolvedMs?: number;
  /** When the channel last took a message of the incident, since the incident began or began again. */
  readonly deliveredMs?: number;
  /** When it may last have taken one: its answer proved nothing, or some of the recipients refused. */
  readonly perhapsMs?: number;
  /** Why the last message was given up; cleared when a later one arrives. */
  readonly failed?: string;
  /** The entry of the last trigger that was given up for want of room: it may be under way, and arrive after all. */
  readonly givenUp?: string;
}

/** The last trigger: what people know, and what the resolve repeats. */
export interface Told extends Said {
  /** Key of the alert it led with, because another one may have the same title. Absent in incidents of earlier versions. */
  readonly key?: string;
  readonly atMs: number;
  readonly priority: Priority;
  readonly title: string;
}

/** `untold`: no message has named it, because it was muted or ended too soon. */
type EndedAlert = NotifiedAlert & { readonly untold?: true };
/** Incidents are kept this long after their end. */
export const KEEP_INCIDENTS_MS = 30 * 86_400_000;

/** Alerts of one group are one incident, unless they are of different teams. */
export function togetherKey(group: string, team: string | undefined): string {
  return JSON.stringify([group, team ?? '']);
}

/** For each group and team the open incident, else the one that ended last. @param teamOf of an incident, in today's words */
export function latestByGroup(
  incidents: Iterable<IncidentRecord>,
  teamOf: (incident: IncidentRecord) => string | undefined,
): Map<string, IncidentRecord> {
  const latest = new Map<string, IncidentRecord>();
  for (const incident of incidents) {
    const key = togetherKey(incident.group, teamOf(incident));
    const known = latest.get(key);
    if (known === undefined || endOf(incident) >= endOf(known)) latest.set(key, incident);
  }
  return latest;
}

function endOf({ state, resolvedMs }: IncidentRecord): number {
  return state === 'open' ? Number.POSITIVE_INFINITY : (resolvedMs ?? 0);
}

interface Joining {
  readonly incident: IncidentRecord;
  readonly how: 'opened' | 'joined' | 'reopened';
}

/**
 * The incident for an alert of `group` that fires now: the group's open one, else its last one when it ended less than
 * `cooldownMs` ago, else a new one.
 */
export function joinIncident(
  latest: IncidentRecord | undefined,
  { group, team }: Pick<IncidentRecord, 'group' | 'team'>,
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
    ...(team === undefined ? {} : { team }),
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
 * The incident after the clock was set back: a trigger or an end that is ahead of the clock by more than a minute counts as having
 * happened just now. So a step back neither reminds anybody, nor keeps the incident mute until the clock catches up; the same of an
 * escalation and of quiet.
 * @returns the same object when nothing is ahead
 */
export function redated(incident: IncidentRecord, wallMs: number): IncidentRecord {
  const { told, resolvedMs, escalation, quiet, answerBy } = incident;
  const isTold = told !== undefined && isOver(told.atMs, wallMs);
  const hasEnded = resolvedMs !== undefined && isOver(resolvedMs, wallMs);
  const hasEscalated = escalation !== undefined && isOver(escalation.atMs, wallMs);
  const wasQuieted = quiet !== undefined && isOver(quiet.fromMs, wallMs);
  if (!isTold && !hasEnded && !hasEscalated && !wasQuieted) return incident;
  return {
    ...incident,
    ...(isTold ? { told: { ...told, atMs: wallMs } } : {}),
    ...(isTold && answerBy !== undefined
      ? { answerBy: { ...answerBy, atMs: wallMs + Math.max(0, answerBy.atMs - told.atMs) } }
      : {}),
    ...(hasEnded ? { resolvedMs: wallMs } : {}),
    ...(hasEscalated
      ? { escalation: { ...escalation, atMs: wallMs, sinceMs: Math.min(escalation.sinceMs, wallMs) } }
      : {}),
    ...(wasQuieted ? { quiet: { ...quiet, fromMs: wallMs, untilMs: wallMs + quiet.untilMs - quiet.fromMs } } : {}),
  };
}

/** How many ended alerts an incident remembers, newest last. */
const MAX_ENDED = 20;

/** The incident with the alert moved to those that have ended. */
export function endAlert(incident: IncidentRecord, alert: AlertRecord, ended: NotifiedAlert): IncidentRecord {
  const key = alert.key;
  const isSame = (other: EndedAlert) => alertKey(other.ruleId, other.labels) === key;
  const others = incident.ended.filter((other) => !isSame(other));
  const before = incident.ended.find(isSame);
  // Once told, it stays told, even if it fired again while muted.
  const told = alert.announced === true || (before !== undefined && before.untold !== true);
  return {
    ...incident,
    ended: newest([...others, told ? ended : { ...ended, untold: true }], incident.told?.key),
    endedSinceTold: incident.endedSinceTold + (alert.announced ? 1 : 0),
  };
}

/** The newest ones; the alert that the resolve will be about always stays. */
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

/** Has the channel taken a message of the incident, as far as can be told? */
export function wasReached(state: ChannelState | undefined): boolean {
  return state?.deliveredMs !== undefined || state?.perhapsMs !== undefined;
}

/** The open channels that know of the incident or are about to, so not those that have refused every trigger. */
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

// ---- whether an incident has something to report now, and why ----
// A pure function of the facts.

export interface NotifyFacts {
  /** Firing alerts of the incident, muted ones included. */
  readonly firing: number;
  /** Those that are neither silenced nor inhibited. */
  readonly audible: number;
  /** Audible alerts whose condition is true now and that no message has named yet. */
  readonly joined: number;
  /** Audible alerts whose condition is true now. */
  readonly breached: number;
  /** Alerts that a message has named and that ended since the last one. */
  readonly resolved: number;
  /** Highest priority of the audible alerts; undefined when there are none. */
  readonly priority: Priority | undefined;
  /** Priority of the last trigger. */
  readonly toldPriority: Priority | undefined;
  /** When the last trigger was decided, ms, at most a minute ahead of the wall clock (`redated`); undefined before the first. */
  readonly lastTriggerMs: number | undefined;
  /** Some channel got a trigger that no resolve has followed. */
  readonly open: boolean;
  /** `new`: a person has taken the incident, and the channels have not been told yet. */
  readonly acknowledged: 'no' | 'new' | 'told';
  readonly cooldownMs: number;
  /** 0 = no reminders. */
  readonly remindMs: number;
  /** Resolved by hand while true: `over` when the time is over, or something worse is true now. */
  readonly quiet?: 'on' | 'over';
  /** Nobody has acknowledged it for so long that the next one is to be told. */
  readonly escalate?: boolean;
}

/**
 * @param firing its alerts, most urgent first
 * @param rule the leading audible alert's
 * @param breached whether the alert's condition is true now. One that is merely held, or about which nothing is known, is not
 *   announced: by the time its inhibition ends, it may be long over.
 */
export function factsOf(
  incident: IncidentRecord,
  firing: readonly AlertRecord[],
  rule: Pick<AlertRule, 'cooldownMs' | 'remindMs'> | undefined,
  breached: (alert: AlertRecord) => boolean,
  wallMs: number,
): NotifyFacts {
  const audible = firing.filter(({ muted }) => muted === undefined);
  const current = audible.filter(breached);
  const { quiet } = incident;
  const worse = quiet !== undefined && current.some(({ priority }) => outranks(priority, quiet.priority));
  return {
    ...(quiet === undefined ? {} : { quiet: worse || wallMs >= quiet.untilMs ? 'over' : 'on' }),
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

export function decideNotify(facts: NotifyFacts, wallMs: number): NotifyReason {
  // The end is told even when everything is muted: otherwise whoever got the trigger would wait forever.
  if (facts.firing === 0) return facts.open ? 'all-resolved' : 'none';
  if (facts.quiet !== undefined) {
    if (facts.open) return 'all-resolved';
    return facts.quiet === 'over' && facts.breached > 0 ? 'reopened' : 'none';
  }
  if (facts.acknowledged === 'new' && facts.open) return 'acknowledged';
  if (facts.audible === 0 || facts.priority === undefined) return 'none';
  if (facts.lastTriggerMs === undefined) return facts.joined > 0 ? 'first' : 'none';
  if (facts.escalate === true) return 'escalated';
  const since = wallMs - facts.lastTriggerMs;
  if (facts.joined > 0 && (since >= facts.cooldownMs || outranks(facts.priority, facts.toldPriority))) {
    return 'new-alerts';
  }
  // A condition that was true before a restart, or on a host that is gone, is no reason to remind anybody.
  if (facts.breached === 0) return 'none';
  if (facts.acknowledged === 'no' && facts.remindMs > 0 && since >= Math.max(facts.remindMs, facts.cooldownMs)) {
    return facts.resolved > 0 ? 'some-resolved' : 'repeat';
  }
  return 'none';
}

// ---- order ----

/** True when `one` is more urgent than `other`; anything is more urgent than nothing. */
export function outranks(one: Priority, other: Priority | undefined): boolean {
  return other === undefined || PRIORITIES.indexOf(one) < PRIORITIES.indexOf(other);
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
