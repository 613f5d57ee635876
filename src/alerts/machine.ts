// Deciding. In: what the rules say, what people command, what became of messages, and two clocks. Out: a plan: changed
// records, messages to send, transitions for the history. Guarantee: pure and deterministic; the state moves only when
// `accept` says that the plan is durable, so a plan whose commit failed is decided again; and everything a decision rests on
// stands in the records, so a machine built from them goes on exactly where the other one stopped.
import { isOver } from '../core/clock.ts';
import type { Masker } from '../core/mask.ts';
import type { ChannelName } from '../notify/notification.ts';
import type { Observation, Priority } from '../rules/observation.ts';
import { type AlertRecord, type AlertRule, adoptRule, alertKey, canSpeakOf, saidOf } from './alert-state.ts';
import { applyCommand, type GivenCommand, type RefusedCommand } from './commands.ts';
import { type IncidentRecord, joinIncident, latestByGroup, redated } from './incident.ts';
import { createMuting, type SilenceRecord } from './mute.ts';
import { createNotices } from './notice.ts';
import { endFiring, observe, relevant, type Step } from './observe.ts';
import { OUTBOX_LIMITS, type OutboxEntry, type OutboxLimits, type OutboxResult, writeOutbox } from './outbox-entry.ts';
import { createRecords, type Draft } from './records.ts';
import { prune, settle } from './settle.ts';
import type { StateChange, StateKey } from './store.ts';
import { type Decision, tellIncidents } from './telling.ts';
import type { HistoryDocument } from './transitions.ts';

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
  /** How much of the time between never was, because the brokers' clock was set forward, ms. Default: nothing. */
  readonly skippedMs?: (fromMs: number, toMs: number) => number;
  /** Given together with observations: whether an alert may be ended depends on what its rule says. */
  readonly commands?: readonly GivenCommand[];
  readonly results?: readonly OutboxResult[];
  /** Records of others (template/…, rollup/…) that must be durable together with this decision. */
  readonly records?: readonly StateChange[];
}

/** What was decided; nothing of it is true before it is durable. */
export interface Plan {
  readonly changes: readonly StateChange[];
  readonly transitions: readonly HistoryDocument[];
  /** To be sent once the changes are durable, in this order. */
  readonly enqueued: readonly OutboxEntry[];
  /** Waiting entries that were given up because their channel has too many. */
  readonly dropped: readonly OutboxEntry[];
  /** One per message, however many channels it goes to. */
  readonly decisions: readonly Decision[];
  /** Breached label sets that found no place among the rule's alerts. */
  readonly suppressed: number;
  /** What there is to say to operators, in sentences. */
  readonly remarks: readonly string[];
  readonly refused: readonly RefusedCommand[];
}

export interface MachineDeps {
  /** Unique ids for incidents, sorting by time. */
  readonly nextId: () => string;
  readonly environment: string;
  /** Where a message of this priority goes; only channels that are configured. */
  readonly channelsFor: (priority: Priority) => readonly ChannelName[];
  readonly masker: Masker;
  /** False: no transitions in the outbox, neither new ones nor those of before, because nobody takes them. Default true. */
  readonly history?: boolean;
  readonly limits?: OutboxLimits;
  /** Of the rules; without it they count as those that decided before. */
  readonly rulesHash?: string;
}

export interface AlertMachine {
  step(input: StepInput): Plan;
  /** The plan of the last step is durable. @throws Error for any other plan */
  accept(plan: Plan): void;
  /** From the next step on. What these rules do not know ends at once: they were given on purpose. */
  changeRules(rules: readonly AlertRule[], hash: string): void;
  /** Entries of the outbox, in the order of their decisions: what a new holder sends first. */
  waiting(): OutboxEntry[];
  alerts(): AlertRecord[];
  incidents(): IncidentRecord[];
  silences(): SilenceRecord[];
}

/**
 * Whoever takes over with other rules keeps what fires for so long: while a new version is rolled out, holders with the old and
 * the new rules may take turns.
 */
const KEEP_FIRING_MS = 5 * 60_000;

export function createAlertMachine(
  ruleList: readonly AlertRule[],
  initial: ReadonlyMap<StateKey, object>,
  deps: MachineDeps,
): AlertMachine {
  let rules = new Map(ruleList.map((rule) => [rule.id, rule]));
  let muting = createMuting(ruleList);
  let { rulesHash } = deps;
  /** Given to this process, and not merely found by it. */
  let givenHash: string | undefined;
  const notices = createNotices(deps);
  const records = createRecords(initial);
  const { environment, limits = OUTBOX_LIMITS, history = true } = deps;
  const said = (observation: Observation, rule: AlertRule) => saidOf(observation, rule, deps.masker);
  let latest: { readonly plan: Plan; readonly draft: Draft } | undefined;

  /** True when what these rules do not know may end: see `KEEP_FIRING_MS`. */
  function settleRules({ draft, wallMs }: Step, remarks: string[]): boolean {
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
        'The rules differ from those the alerts were decided by: what fires and they do not know is kept for 5 minutes',
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
    remarks.push('The rules that differed have held for 5 minutes: what they do not know ends');
    return true;
  }

  /** A changed rule takes effect on what is open. @returns alerts that go on in another incident */
  function followRules(step: Step, settled: boolean): AlertRecord[] {
    const moved: AlertRecord[] = [];
    for (const { key, ruleId } of step.draft.values('dismissed')) {
      if (settled && !rules.has(ruleId)) step.draft.remove('dismissed', key);
    }
    for (const alert of step.draft.values('alert')) {
      const rule = rules.get(alert.ruleId);
      const firing = alert.phase === 'firing';
      if (rule === undefined || !canSpeakOf(rule, alert)) {
        if (!settled) continue;
        if (firing) endFiring(step, alert, rule === undefined ? 'rule removed' : 'rule changed');
        else step.draft.remove('alert', alert.key);
        continue;
      }
      const adopted = adoptRule(alert, rule);
      const { group } = rule;
      if (firing && group !== alert.group && settled) {
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
    const latest = latestByGroup(draft.values('incident'));
    for (const alert of fired) {
      const { group } = alert;
      const { cooldownMs } = rules.get(alert.ruleId) as AlertRule;
      const { incident, how } = joinIncident(latest.get(group), group, cooldownMs, wallMs, deps.nextId);
      latest.set(group, incident);
      const joined = { ...alert, incidentId: incident.id };
      draft.put('alert', alert.key, joined);
      if (how !== 'joined') draft.put('incident', incident.id, incident);
      if (how === 'reopened') outbox.record({ name: 'reopened', alert: joined, incident });
      outbox.record({ name: 'firing', alert: joined, incident });
    }
  }

  function mute({ draft, outbox }: Step): void {
    const mutedBy = muting(draft.values('silence'));
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
      const step: Step = { draft, outbox, evalMs, wallMs, skippedMs, rules };

      settle(step, results);
      for (const incident of draft.values('incident')) {
        const present = redated(incident, wallMs);
        if (present !== incident) draft.put('incident', incident.id, present);
      }
      const isTrue = (key: string) =>
        observations.some(
          ({ ruleId, labels, state }) => (state === 'breached' || state === 'held') && alertKey(ruleId, labels) === key,
        );
      const refused = commands.flatMap((command) => applyCommand(step, command, isTrue) ?? []);
      prune(draft, wallMs, history);
      const remarks: string[] = [];
      const moved = followRules(step, settleRules(step, remarks));
      join(step, moved);
      const seen = relevant(observations, draft.values('alert'), draft.values('dismissed'), rules);
      const evaluated = observations.some(({ state }) => state === 'breached' || state === 'clear');
      const { fired, suppressed } = observe(step, seen, evaluated, said);
      join(step, fired);
      mute(step);
      const decisions = tellIncidents(step, {
        notices,
        channelsFor: deps.channelsFor,
        current(alert: AlertRecord): AlertRecord | undefined {
          const observation = seen.get(alert.key);
          const rule = rules.get(alert.ruleId);
          if (observation?.state !== 'breached' || rule === undefined) return undefined;
          return { ...alert, ...said(observation, rule) };
        },
      });
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

    waiting: () => records.draft().values('outbox'),
    alerts: () => records.draft().values('alert'),
    incidents: () => records.draft().values('incident'),
    silences: () => records.draft().values('silence'),
  };
}
