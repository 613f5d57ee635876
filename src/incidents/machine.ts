// One step of all alerts and incidents. In: what the rules say, what people command, what became of messages, and two clocks. Out: a
// plan: changed records, messages to send, transitions for the history. Guarantee: pure and deterministic; the state changes only when
// `accept` says that the plan is durable, so a plan whose commit failed is decided again; everything a decision rests on is in the
// records, so a machine built from them goes on exactly where the other one stopped.
//
// A step goes through results, commands, expired records, changed rules and observations, then notices.ts.
import { isOver } from '../core/clock.ts';
import type { Masker } from '../core/secrets/mask.ts';
import type { Routes } from '../oncall/routes.ts';
import type { Observation } from '../rules/rule-types.ts';
import {
  type AlertRecord,
  type AlertRule,
  adoptRule,
  advanceAlert,
  alertKey,
  beginAlert,
  byUrgency,
  type ChannelState,
  canSpeakOf,
  createMuting,
  DEFAULT_MAX_ALERTS,
  type Dismissed,
  endAlert,
  type IncidentRecord,
  inForce,
  isSpecific,
  joinIncident,
  KEEP_INCIDENTS_MS,
  latestByGroup,
  notified,
  type Resolution,
  redated,
  type Said,
  type SilenceRecord,
  saidOf,
  togetherKey,
  type Via,
  wasReached,
  withPeak,
} from './incident.ts';
import { createNotices, type Decision, lastWords, notifyIncidents, sendDailyMails } from './notices.ts';
import { BLIND_ENDED, blindNotice, type ChannelName, type Notification, type SendResult } from './notification.ts';
import {
  type CommandAnswer,
  createRecords,
  type Draft,
  type HistoryDocument,
  OUTBOX_LIMITS,
  type OutboxEntry,
  type OutboxLimits,
  type OutboxResult,
  type StateChange,
  type StateKey,
  type Step,
  waitingFor,
  writeOutbox,
} from './records.ts';

export interface StepInput {
  /**
   * What every rule says at this evaluation; absent when nothing was evaluated. An open alert that it does not mention
   * counts as no longer observed, unless everything in it is unknown.
   */
  readonly observations?: readonly Observation[];
  /** Evaluation time: drives `for` and keep-firing. */
  readonly evalMs: number;
  /** Wall clock: drives cooldown, reminders, silences. */
  readonly wallMs: number;
  /** How much of the time between the two the brokers' clock skipped when it was set forward, ms. Default: none. */
  readonly skippedMs?: (fromMs: number, toMs: number) => number;
  /** Only given together with observations: whether an alert may be ended depends on what its rule says. */
  readonly commands?: readonly GivenCommand[];
  readonly results?: readonly OutboxResult[];
  /** Records of others (template/…, rollup/…) that must be durable together with this decision. */
  readonly records?: readonly StateChange[];
}

/** What was decided; none of it is true before it is durable. */
export interface Plan {
  readonly changes: readonly StateChange[];
  readonly transitions: readonly HistoryDocument[];
  /** To be sent once the changes are durable, in this order. */
  readonly enqueued: readonly OutboxEntry[];
  /** Waiting entries that were given up because their channel has too many. */
  readonly dropped: readonly OutboxEntry[];
  /** One per message, however many channels it goes to. */
  readonly decisions: readonly Decision[];
  /** Breached label sets for which the rule had no alert left (`maxAlerts`). */
  readonly suppressed: number;
  /** Sentences for operators, for the log. */
  readonly remarks: readonly string[];
  readonly refused: readonly RefusedCommand[];
}

export interface AlertMachine {
  step(input: StepInput): Plan;
  /** The plan of the last step is durable. @throws Error for any other plan */
  accept(plan: Plan): void;
  /** Takes effect at the next step. Alerts that these rules do not know end at once, because they were changed on purpose. */
  changeRules(rules: readonly AlertRule[], hash: string): void;
  /** Takes effect at the next step. An open incident stays with its team. */
  changeRoutes(routes: Routes): void;
  /** Entries of the outbox, in the order of their decisions: what a new leader sends first. */
  waiting(): OutboxEntry[];
  alerts(): AlertRecord[];
  incidents(): IncidentRecord[];
  silences(): SilenceRecord[];
  /** What became of a command; undefined: nothing yet. */
  answer(commandId: string): CommandAnswer | undefined;
}

interface MachineDeps {
  /** Unique ids for incidents, sorting by time. */
  readonly nextId: () => string;
  readonly environment: string;
  /** Where messages go, and who is on call; only destinations that are configured. */
  readonly routes: Routes;
  readonly masker: Masker;
  /** False: no transitions in the outbox, neither new nor old ones, because nobody takes them. Default true. */
  readonly history?: boolean;
  readonly limits?: OutboxLimits;
  /** Hash of the rules; without it they count as the rules that decided last. */
  readonly rulesHash?: string;
}

/**
 * A leader that takes over with different rules keeps firing alerts for this long: while a new version is rolled out, leaders with
 * the old and the new rules may take turns.
 */
const KEEP_FIRING_MS = 5 * 60_000;
const DAY_MS = 86_400_000;

export function createAlertMachine(
  ruleList: readonly AlertRule[],
  initial: ReadonlyMap<StateKey, object>,
  deps: MachineDeps,
): AlertMachine {
  let rules = new Map(ruleList.map((rule) => [rule.id, rule]));
  let muting = createMuting(ruleList);
  let { rulesHash, routes } = deps;
  /** Hash of rules that were given to the running process, rather than found when it started. */
  let givenHash: string | undefined;
  const notices = createNotices(deps);
  const records = createRecords(initial);
  const { environment, limits = OUTBOX_LIMITS, history = true } = deps;
  const said = (observation: Observation, rule: AlertRule) => saidOf(observation, rule, deps.masker);
  let latest: { readonly plan: Plan; readonly draft: Draft } | undefined;

  /** True when alerts that these rules do not know may end: see `KEEP_FIRING_MS`. */
  function rulesAreCertain({ draft, wallMs }: Step, remarks: string[]): boolean {
    if (rulesHash === undefined) return true;
    const present = draft.get('rules', 'present');
    if (present === undefined || givenHash === rulesHash || present.hash === rulesHash) {
      if (present?.hash !== rulesHash || present.next !== undefined) draft.put('rules', 'present', { hash: rulesHash });
      return true;
    }
    const { next } = present;
    if (next?.hash !== rulesHash) {
      draft.put('rules', 'present', { ...present, next: { hash: rulesHash, sinceMs: wallMs } });
      remarks.push(
        'The rules differ from those that decided last: firing alerts that the new rules do not know are kept for 5 minutes',
      );
      return false;
    }
    // The clock was set back meanwhile.
    if (isOver(next.sinceMs, wallMs)) {
      draft.put('rules', 'present', { ...present, next: { ...next, sinceMs: wallMs } });
      return false;
    }
    if (wallMs - next.sinceMs < KEEP_FIRING_MS) return false;
    draft.put('rules', 'present', { hash: rulesHash });
    remarks.push('The new rules have been in force for 5 minutes: alerts that they do not know end now');
    return true;
  }

  /** A changed rule takes effect on what is open. @returns alerts that go on in another incident */
  function followRules(step: Step, certain: boolean): AlertRecord[] {
    const moved: AlertRecord[] = [];
    for (const { key, ruleId } of step.draft.values('dismissed')) {
      if (certain && !rules.has(ruleId)) step.draft.remove('dismissed', key);
    }
    for (const alert of step.draft.values('alert')) {
      const rule = rules.get(alert.ruleId);
      const firing = alert.phase === 'firing';
      if (rule === undefined || !canSpeakOf(rule, alert)) {
        if (!certain) continue;
        if (firing) endFiring(step, alert, rule === undefined ? 'rule removed' : 'rule changed');
        else step.draft.remove('alert', alert.key);
        continue;
      }
      const adopted = adoptRule(alert, rule);
      const { group } = rule;
      if (firing && group !== alert.group && certain) {
        endFiring(step, alert, 'moved');
        const { incidentId: _, announced: __, muted: ___, ...rest } = adopted;
        moved.push({ ...rest, group });
      } else if (!firing && group !== alert.group) step.draft.put('alert', alert.key, { ...adopted, group });
      else if (adopted !== alert) step.draft.put('alert', alert.key, adopted);
    }
    return moved;
  }

  function join({ draft, outbox, wallMs }: Step, fired: readonly AlertRecord[]): void {
    if (fired.length === 0) return;
    const teamIn = ({ team }: IncidentRecord) => team ?? routes.team(undefined)?.id;
    const latest = latestByGroup(draft.values('incident'), teamIn);
    for (const alert of fired) {
      const { group } = alert;
      const team = routes.teamOf(alert);
      const key = togetherKey(group, team);
      const { cooldownMs } = rules.get(alert.ruleId) as AlertRule;
      const of = { group, ...(team === undefined ? {} : { team }) };
      const { incident, how } = joinIncident(latest.get(key), of, cooldownMs, wallMs, deps.nextId);
      latest.set(key, incident);
      const joined = { ...alert, incidentId: incident.id };
      draft.put('alert', alert.key, joined);
      if (how !== 'joined') draft.put('incident', incident.id, incident);
      if (how === 'reopened') outbox.record({ name: 'reopened', alert: joined, incident });
      outbox.record({ name: 'firing', alert: joined, incident });
    }
  }

  function mute({ draft, outbox, wallMs }: Step): void {
    const silences = inForce(draft.values('silence'), { nowMs: wallMs, environment });
    const mutedBy = muting(silences, routes.maintenance(wallMs));
    const firing = draft.values('alert').filter(({ phase }) => phase === 'firing');
    for (const alert of firing) {
      const muted = mutedBy(alert, firing);
      if (muted === alert.muted) continue;
      const { muted: _, ...rest } = alert;
      const changed: AlertRecord = muted === undefined ? rest : { ...rest, muted };
      draft.put('alert', alert.key, changed);
      if (muted === undefined) continue;
      const incident = draft.get('incident', alert.incidentId ?? '');
      outbox.record({ name: muted, alert: changed, ...(incident === undefined ? {} : { incident }) });
    }
  }

  return {
    step(input) {
      const { evalMs, wallMs, observations = [], results = [], commands = [], skippedMs = () => 0 } = input;
      const draft = records.draft();
      const outbox = writeOutbox(draft, { wallMs, environment, limits, history });
      const step: Step = { draft, outbox, evalMs, wallMs, skippedMs, rules, routes };

      settleResults(step, results);
      for (const incident of draft.values('incident')) {
        const present = redated(incident, wallMs);
        if (present !== incident) draft.put('incident', incident.id, present);
      }
      let trueNow: ReadonlySet<string> | undefined;
      const isTrue = (key: string) => {
        trueNow ??= new Set(
          observations
            .filter(({ state }) => state === 'breached' || state === 'held')
            .map(({ ruleId, labels }) => alertKey(ruleId, labels)),
        );
        return trueNow.has(key);
      };
      const refused = commands.flatMap((command) => applyCommand(step, command, isTrue) ?? []);
      prune(draft, wallMs, history);
      const remarks: string[] = [];
      const moved = followRules(step, rulesAreCertain(step, remarks));
      join(step, moved);
      const seen = relevant(observations, draft.values('alert'), draft.values('dismissed'), rules);
      const evaluated = observations.some(({ state }) => state === 'breached' || state === 'clear');
      const { fired, suppressed } = observe(step, seen, evaluated, said);
      join(step, fired);
      mute(step);
      const decisions = notifyIncidents(step, {
        notices,
        current(alert: AlertRecord): AlertRecord | undefined {
          const observation = seen.get(alert.key);
          const rule = rules.get(alert.ruleId);
          if (observation?.state !== 'breached' || rule === undefined) return undefined;
          return { ...alert, ...said(observation, rule) };
        },
      });
      decisions.push(...sendDailyMails(step, deps));
      const { transitions, enqueued, dropped } = outbox.finish();
      const changes = [...draft.changes(), ...(input.records ?? [])];
      const plan: Plan = { changes, transitions, enqueued, dropped, decisions, suppressed, remarks, refused };
      latest = { plan, draft };
      return plan;
    },

    accept(plan) {
      if (latest?.plan !== plan) throw new Error('only the plan of the last step can be accepted, and once');
      records.apply(latest.draft);
      latest = undefined;
    },

    changeRules(list, hash) {
      rules = new Map(list.map((rule) => [rule.id, rule]));
      muting = createMuting(list);
      rulesHash = hash;
      givenHash = hash;
    },

    changeRoutes(next) {
      routes = next;
    },

    waiting: () => records.draft().values('outbox'),
    alerts: () => records.draft().values('alert'),
    incidents: () => records.draft().values('incident'),
    silences: () => records.draft().values('silence'),
    answer: (commandId) => records.draft().get('command', commandId),
  };
}

// ---- what became of messages ----
// Their entries leave the outbox, and the incidents note whom a message reached.

const REFUSED_TRIGGER = 'not sent: the channel has refused the trigger';

function settleResults({ draft, outbox, wallMs }: Step, results: readonly OutboxResult[]): void {
  for (const { id, result, retry } of results) {
    const entry = draft.get('outbox', id);
    if (entry === undefined) {
      if (reachedSomebody(result)) arrivedAfterAll(draft, id, wallMs);
      continue;
    }
    if (!result.ok && retry !== undefined) {
      draft.put('outbox', id, { ...entry, ...retry });
      continue;
    }
    draft.remove('outbox', id);
    const { channel, notification } = entry;
    if (notification === undefined) continue;
    const incident = draft.get('incident', notification.incidentId);
    const { waiting, trigger } = waitingFor(draft, channel, notification.incidentId);
    const next = incident === undefined ? undefined : reached(incident, entry, result, waiting, wallMs);
    if (next !== undefined) draft.put('incident', next.id, next);
    const record = ({ action, reason }: Notification, failure?: string) =>
      outbox.record({
        name: 'notified',
        ...(next === undefined ? {} : { incident: next }),
        notification: {
          ...{ channel, action, reason, delivered: failure === undefined },
          ...(failure === undefined ? {} : { failure }),
        },
      });
    record(notification, result.ok ? undefined : result.reason);
    const before = incident?.channels[channel];
    if (notification.action !== 'trigger' || reachedSomebody(result) || wasReached(before)) continue;
    // A channel that refused the trigger has no use for the resolve.
    for (const other of trigger === -1 ? waiting : waiting.slice(0, trigger)) {
      draft.remove('outbox', other.id);
      if (other.notification !== undefined) record(other.notification, REFUSED_TRIGGER);
    }
  }
}

/** A trigger that was given up for want of room, but was under way and arrived: the channel knows of the incident and is owed its end. */
function arrivedAfterAll(draft: Draft, id: string, wallMs: number): void {
  for (const incident of draft.values('incident')) {
    for (const [name, state] of Object.entries(incident.channels)) {
      if (state.givenUp !== id) continue;
      const { givenUp: _, failed: __, resolvedMs: ___, ...rest } = state;
      const next = { ...rest, deliveredMs: wallMs };
      draft.put('incident', incident.id, { ...incident, channels: { ...incident.channels, [name]: next } });
      return;
    }
  }
}

/** True when it may have: an answer that proves nothing counts. */
function reachedSomebody(result: SendResult): boolean {
  return result.ok || result.doubtful === true || result.left !== undefined;
}

/** @param waiting messages of the incident that are still waiting for the channel */
function reached(
  incident: IncidentRecord,
  { channel, notification }: OutboxEntry,
  result: SendResult,
  waiting: readonly OutboxEntry[],
  wallMs: number,
): IncidentRecord {
  const present = incident.channels[channel];
  if (present === undefined) return incident;
  const actions = [notification?.action, ...waiting.map((other) => other.notification?.action)];
  const trigger = actions.lastIndexOf('trigger');
  // The incident has begun again since then: earlier messages no longer matter.
  if (actions.slice(0, Math.max(0, trigger)).includes('resolve')) return incident;
  const { failed: _, ...state } = present;
  let next: ChannelState = present;
  if (result.ok) next = { ...state, deliveredMs: wallMs };
  else if (reachedSomebody(result)) next = { ...state, failed: result.reason, perhapsMs: wallMs };
  // Otherwise the next trigger decides.
  else if (trigger <= 0) next = { ...state, failed: result.reason };
  return { ...incident, channels: { ...incident.channels, [channel]: next } };
}

// ---- commands: from people, and from an instance that was cut off and asks to end its "Log pipeline blind" ----
// Repeating a command changes nothing; one that cannot be obeyed is answered with the reason.

export type AlertCommand =
  | { readonly kind: 'acknowledge'; readonly incidentId: string; readonly by: string; readonly via?: Via }
  | {
      readonly kind: 'resolve';
      /** All alerts of this incident that fire; or else those of `alerts`. */
      readonly incidentId?: string;
      /** Each with its beginning: one that began later is another alert. */
      readonly alerts?: readonly { readonly key: string; readonly startedMs: number }[];
      /** What is still true does not end: its incident is quiet for a while, and reopens when it is true then. Otherwise it is refused. */
      readonly evenIfTrue?: true;
      readonly by: string;
      readonly via?: Via;
    }
  | { readonly kind: 'silence'; readonly silence: SilenceRecord; readonly via?: Via }
  | { readonly kind: 'unsilence'; readonly id: string; readonly by: string; readonly via?: Via }
  | {
      /** "Log pipeline blind" was told by an instance that does not decide. */
      readonly kind: 'blind-over';
      readonly incidentId: string;
      readonly environment: string;
      readonly sinceMs: number;
      readonly channels: readonly ChannelName[];
      /** The instance's host. */
      readonly by: string;
    };

/** A command, with the id under which it is answered. */
export type GivenCommand = AlertCommand & { readonly commandId?: string };

interface RefusedCommand {
  readonly command: GivenCommand;
  readonly why: string;
}

const MAX_SILENCES = 500;
/** No silence lasts longer. */
const MAX_SILENCE_DAYS = 366;

/** @param isTrue whether the condition of an alert is true now */
function applyCommand(step: Step, command: GivenCommand, isTrue: (key: string) => boolean): RefusedCommand | undefined {
  const { commandId: id } = command;
  const { draft, wallMs } = step;
  if (id !== undefined && draft.get('command', id) !== undefined) return undefined;
  const answer = obey(step, command, isTrue);
  if (id !== undefined) draft.put('command', id, { id, atMs: wallMs, ...answer });
  return answer?.refused === undefined ? undefined : { command, why: answer.refused };
}

type Answer = Pick<CommandAnswer, 'refused' | 'noChange'> | undefined;

const SO_ALREADY: Answer = { noChange: true };

function obey(step: Step, command: GivenCommand, isTrue: (key: string) => boolean): Answer {
  const { draft, outbox, wallMs, rules } = step;
  const refuse = (refused: string): Answer => ({ refused });
  switch (command.kind) {
    case 'acknowledge': {
      const { by } = command;
      const incident = draft.get('incident', command.incidentId);
      if (incident === undefined) return refuse(`there is no incident ${command.incidentId}`);
      if (incident.state !== 'open') return refuse(`incident ${incident.id} is resolved`);
      if (incident.acknowledged !== undefined || incident.quiet !== undefined) return SO_ALREADY;
      const { escalation: _, answerBy: __, ...rest } = incident;
      const untold = incident.told === undefined ? draft.values('alert').filter(isOf(incident.id)) : [];
      const of = untold
        .sort(byUrgency)
        .slice(0, 1)
        .map(({ priority }) => ({ priority }));
      const next = { ...rest, acknowledged: { by, ...viaOf(command), atMs: wallMs, told: false, ...of[0] } };
      draft.put('incident', incident.id, next);
      outbox.record({ name: 'acknowledged', incident: next, by, ...viaOf(command) });
      return undefined;
    }
    case 'resolve': {
      const { incidentId, by } = command;
      const incident = draft.get('incident', incidentId ?? '');
      if (incidentId !== undefined && incident === undefined) return refuse(`there is no incident ${incidentId}`);
      if (incident?.state === 'resolved' || incident?.quiet !== undefined) return SO_ALREADY;
      const named = incident === undefined ? command.alerts : draft.values('alert').filter(isOf(incident.id));
      const kept: AlertRecord[] = [];
      for (const { key, startedMs } of named ?? []) {
        const alert = draft.get('alert', key);
        if (alert?.phase !== 'firing' || alert.startedMs !== startedMs) continue;
        const silent = rules.get(alert.ruleId)?.endsByEvent === true;
        // It would fire again at once, and page again.
        if (!silent && isTrue(key)) {
          kept.push(alert);
          continue;
        }
        endFiring(step, alert, 'by hand', { by, ...viaOf(command) });
        const { ruleId, watches } = alert;
        const what = watches === undefined ? {} : { watches };
        if (silent) draft.put('dismissed', key, { key, ruleId, ...what, atMs: wallMs });
      }
      if (kept.length === 0) return undefined;
      if (command.evenIfTrue !== true) {
        return refuse(
          `the condition of ${kept.map(({ key }) => key).join(', ')} is true now, or logpipe is behind and cannot tell: acknowledge or silence it instead`,
        );
      }
      for (const id of new Set(kept.map((alert) => alert.incidentId ?? ''))) quieten(step, id, command);
      return undefined;
    }
    case 'silence': {
      const { silence } = command;
      if (!isSpecific(silence)) return refuse('a silence names a rule, a group, labels, a priority or an environment');
      if (silence.untilMs <= wallMs) return refuse('the silence has ended already');
      if (silence.untilMs - Math.max(wallMs, silence.fromMs ?? wallMs) > MAX_SILENCE_DAYS * DAY_MS) {
        return refuse(`a silence lasts ${MAX_SILENCE_DAYS} days at most`);
      }
      if (silence.fromMs !== undefined && silence.fromMs >= silence.untilMs) {
        return refuse('the silence ends before it begins');
      }
      const present = draft.get('silence', silence.id);
      if (present === undefined && draft.values('silence').length >= MAX_SILENCES) {
        return refuse(`there are ${MAX_SILENCES} silences already`);
      }
      draft.put('silence', silence.id, { createdMs: wallMs, ...silence });
      outbox.record({ name: 'silence set', silence, by: silence.by, ...viaOf(command) });
      return undefined;
    }
    case 'unsilence': {
      const silence = draft.get('silence', command.id);
      if (silence === undefined) return refuse(`there is no silence ${command.id}`);
      draft.remove('silence', command.id);
      outbox.record({ name: 'silence removed', silence, by: command.by, ...viaOf(command) });
      return undefined;
    }
    case 'blind-over': {
      const { incidentId, environment, sinceMs, channels } = command;
      outbox.send(
        channels,
        blindNotice('resolve', { incidentId, environment, sinceMs, atMs: wallMs, message: BLIND_ENDED }),
      );
      return undefined;
    }
  }
}

const isOf = (incidentId: string) => (alert: AlertRecord) =>
  alert.incidentId === incidentId && alert.phase === 'firing';

function viaOf({ via }: { readonly via?: Via }): { via?: Via } {
  return via === undefined ? {} : { via };
}

/** Somebody has resolved what is still true: its channels are told that it is over, and for a while nobody is told more. */
function quieten(
  { draft, outbox, wallMs, routes }: Step,
  incidentId: string,
  command: { readonly by: string; readonly via?: Via },
): void {
  const incident = draft.get('incident', incidentId);
  const [worst] = draft.values('alert').filter(isOf(incidentId)).sort(byUrgency);
  if (incident === undefined || worst === undefined || incident.quiet !== undefined) return;
  const { acknowledged: _, escalation: __, answerBy: ___, ...rest } = incident;
  const { by } = command;
  const quiet = { fromMs: wallMs, untilMs: wallMs + routes.reopenAfterMs, priority: worst.priority, by };
  const next: IncidentRecord = { ...rest, quiet };
  draft.put('incident', incidentId, next);
  outbox.record({ name: 'quiet', incident: next, by, ...viaOf(command) });
}

// ---- records that have expired ----

/** Resolved incidents beyond this number are removed early, oldest first. */
const MAX_RESOLVED = 2_000;
/** Dismissed absences beyond this number are removed early, oldest first. */
const MAX_DISMISSED = 1_000;
/** Longer than the commands topic keeps commands. */
const KEEP_ANSWERS_MS = 2 * DAY_MS;

/** Removes ended silences, old answers, incidents that ended 30 days ago, and history documents when nobody takes them. */
function prune(draft: Draft, wallMs: number, history: boolean): void {
  if (!history) {
    for (const { id, channel } of draft.values('outbox')) if (channel === 'history') draft.remove('outbox', id);
  }
  pruneAnswers(draft, wallMs);
  const dismissed = draft.values('dismissed');
  dismissed.sort((one, other) => one.atMs - other.atMs);
  for (const { key } of dismissed.slice(0, Math.max(0, dismissed.length - MAX_DISMISSED)))
    draft.remove('dismissed', key);
  for (const { id, untilMs } of draft.values('silence')) if (untilMs <= wallMs) draft.remove('silence', id);
  const resolved = draft.values('incident').filter(({ state }) => state === 'resolved');
  for (const { id, resolvedMs = 0 } of resolved) {
    if (wallMs - resolvedMs >= KEEP_INCIDENTS_MS) draft.remove('incident', id);
  }
  if (resolved.length <= MAX_RESOLVED) return;
  resolved.sort((one, other) => (one.resolvedMs ?? 0) - (other.resolvedMs ?? 0));
  for (const { id } of resolved.slice(0, resolved.length - MAX_RESOLVED)) draft.remove('incident', id);
}

function pruneAnswers(draft: Draft, wallMs: number): void {
  for (const { id, atMs } of draft.values('command')) {
    if (Math.abs(wallMs - atMs) >= KEEP_ANSWERS_MS) draft.remove('command', id);
  }
}

// ---- observations -> alerts ----
// At most `maxAlerts` alerts of a rule are open, whatever label sets the log invents.

/** The observations that can matter, by alert: all breaches, and everything about rules that have open or dismissed alerts. */
function relevant(
  observations: readonly Observation[],
  open: readonly AlertRecord[],
  dismissed: readonly Dismissed[],
  rules: ReadonlyMap<string, AlertRule>,
): Map<string, Observation> {
  const openRules = new Set([...open, ...dismissed].map(({ ruleId }) => ruleId));
  const byKey = new Map<string, Observation>();
  for (const observation of observations) {
    const { ruleId, state, labels } = observation;
    if (!rules.has(ruleId) || (state !== 'breached' && !openRules.has(ruleId))) continue;
    const key = alertKey(ruleId, labels);
    if (!byKey.has(key)) byKey.set(key, observation);
  }
  return byKey;
}

interface Observed {
  /** Alerts that fire now, most urgent first; their records are not written yet. */
  readonly fired: AlertRecord[];
  readonly suppressed: number;
}

/**
 * @param seen from `relevant`
 * @param evaluated false when nothing is known at the moment: then it means nothing that an alert is not mentioned
 */
function observe(
  step: Step,
  seen: ReadonlyMap<string, Observation>,
  evaluated: boolean,
  said: (observation: Observation, rule: AlertRule) => Said,
): Observed {
  const { draft, outbox, evalMs, rules, skippedMs } = step;
  const open = draft.values('alert');
  const openOf = new Map<string, number>();
  const count = (ruleId: string, by: number) => openOf.set(ruleId, (openOf.get(ruleId) ?? 0) + by);
  const fired: AlertRecord[] = [];
  for (const alert of open) {
    count(alert.ruleId, 1);
    const rule = rules.get(alert.ruleId);
    const observation = seen.get(alert.key);
    if (rule === undefined || (observation === undefined && !evaluated)) continue;
    const nowMs = observation?.atMs ?? evalMs;
    const clock = { nowMs, lastedMs: (fromMs: number) => nowMs - fromMs - skippedMs(fromMs, nowMs) };
    const next = advanceAlert(alert, observation?.state, rule, clock, () =>
      observation === undefined ? alert : said(observation, rule),
    );
    switch (next.to) {
      case 'same':
      case 'kept': {
        const kept = next.to === 'same' ? alert : next.record;
        const record = withPeak(kept, observation?.why, observation?.atMs ?? evalMs);
        if (record !== alert) draft.put('alert', alert.key, record);
        break;
      }
      case 'firing':
        fired.push(next.record);
        break;
      case 'inactive':
        draft.remove('alert', alert.key);
        count(alert.ruleId, -1);
        break;
      case 'resolved':
        endFiring(step, alert, next.resolution, { nowText: observation?.nowText });
        count(alert.ruleId, -1);
        break;
    }
  }

  for (const { key, ruleId, watches } of draft.values('dismissed')) {
    const state = seen.get(key)?.state;
    const rule = rules.get(ruleId);
    const over = state === 'clear' || state === 'forgotten' || (rule !== undefined && watches !== rule.watches);
    if (over) draft.remove('dismissed', key);
  }

  let suppressed = 0;
  const known = new Set(open.map(({ key }) => key));
  for (const [key, observation] of seen) {
    const rule = rules.get(observation.ruleId);
    if (rule === undefined || observation.state !== 'breached' || known.has(key)) continue;
    if (draft.get('dismissed', key) !== undefined) continue;
    if ((openOf.get(rule.id) ?? 0) >= (rule.maxAlerts ?? DEFAULT_MAX_ALERTS)) {
      suppressed += 1;
      continue;
    }
    count(rule.id, 1);
    const alert = beginAlert(key, observation.labels, rule, observation.atMs ?? evalMs, said(observation, rule));
    if (alert.phase === 'firing') fired.push(alert);
    else {
      draft.put('alert', key, alert);
      outbox.record({ name: 'pending', alert });
    }
  }
  return { fired: fired.sort(byUrgency), suppressed };
}

/** Ends a firing alert; its incident remembers it. */
function endFiring(
  { draft, outbox, evalMs }: Step,
  alert: AlertRecord,
  resolution: Resolution,
  end: { readonly nowText?: string | undefined; readonly by?: string; readonly via?: Via } = {},
): void {
  draft.remove('alert', alert.key);
  const ended: AlertRecord = {
    ...alert,
    message: lastWords(alert, resolution, { atMs: evalMs, nowText: end.nowText }),
  };
  const incident = draft.get('incident', alert.incidentId ?? '');
  outbox.record({
    name: 'resolved',
    alert: ended,
    resolution,
    ...(incident === undefined ? {} : { incident }),
    ...(end.by === undefined ? {} : { by: end.by }),
    ...viaOf(end),
  });
  if (incident === undefined) return;
  draft.put('incident', incident.id, endAlert(incident, alert, notified(ended, evalMs)));
}
