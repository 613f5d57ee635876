// The stages between records and messages, on a clock of their own: one counter, and for each rule set an evaluator and an alert
// machine. In: chunks of records, moments to judge. Out: per rule set the alerts that fired and the messages that would have been
// sent. Guarantee: every stage is the one that runs in earnest; ids are numbers in order; nothing is sent to anybody.
import { type CountedEvaluations, createCountedEvaluations } from '../alerts/evaluation.ts';
import { type AlertMachine, createAlertMachine } from '../alerts/machine.ts';
import type { OutboxResult } from '../alerts/outbox-entry.ts';
import type { StateKey } from '../alerts/store.ts';
import { silentLog } from '../core/log.ts';
import { createMasker, type Masker } from '../core/mask.ts';
import { createMetrics } from '../core/metrics.ts';
import { type Counter, createCounter, type LanePosition } from '../measure/counter.ts';
import type { Measures } from '../measure/measure-config.ts';
import { channelsFor } from '../notify/channels.ts';
import type { ChannelName, Notification } from '../notify/notification.ts';
import { createParser, type ParseConfig } from '../parse/parse.ts';
import { type Rules, toDecidingRule } from '../rules/rule-config.ts';
import { createTagger } from '../tag/tag.ts';
import { createSimulatedClock, type SimulatedClock } from './clock.ts';

export interface DrivenAlert {
  readonly ruleId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly firedMs: number;
  /** Absent: still firing at the end. */
  resolvedMs?: number;
  readonly message: string;
  /** Never told, because it was inhibited or silenced. */
  muted: boolean;
}

export interface DrivenMessage {
  readonly atMs: number;
  readonly channels: readonly ChannelName[];
  readonly notification: Notification;
}

export interface Driven {
  readonly alerts: readonly DrivenAlert[];
  readonly messages: readonly DrivenMessage[];
}

export interface StagesOptions {
  readonly measures: Measures;
  /** Each is judged by itself over the same counts. */
  readonly ruleSets: readonly Rules[];
  readonly parse: ParseConfig;
  readonly fromMs: number;
  /** Records of the alert store to begin with. */
  readonly initial: ReadonlyMap<StateKey, object>;
  readonly masker?: Masker;
  /** See EvaluationOptions. */
  readonly withoutLog?: boolean;
}

export interface Stages {
  readonly clock: SimulatedClock;
  readonly counter: Counter;
  readonly ruleSets: readonly RuleSetStages[];
  /** Judges every rule set at a moment, after what was counted has been published. */
  judge(nowMs: number): void;
}

export interface RuleSetStages extends Driven {
  readonly evaluations: CountedEvaluations;
}

const CHANNELS: readonly ChannelName[] = ['slack', 'pagerduty', 'email'];

/** @param positions where reading stands, as the Kafka source would say */
export function createStages(options: StagesOptions, positions: () => readonly LanePosition[]): Stages {
  const { measures, parse, fromMs, masker = createMasker() } = options;
  const clock = createSimulatedClock(fromMs);
  const ruleSets = options.ruleSets.map((rules) => createRuleSet(rules, options, masker));
  const counter = createCounter(measures, {
    // What is counted is never written anywhere: a key that stands twice in a line need not be looked for.
    parser: createParser(parse, { masker, duplicatesRefused: true }),
    tag: createTagger(),
    metrics: createMetrics(),
    log: silentLog,
    clock,
    sink: {
      put: async (messages) => {
        for (const message of messages) {
          for (const { evaluations } of ruleSets) evaluations.counts(message, clock.now());
        }
      },
      close: async () => {},
    },
    positions,
  });
  return {
    clock,
    counter,
    ruleSets,
    judge(nowMs) {
      for (const ruleSet of ruleSets) ruleSet.judge(nowMs);
    },
  };
}

/** An evaluator and an alert machine alone, for who counts by themselves. */
export function createRuleSet(
  rules: Rules,
  {
    measures,
    fromMs,
    initial,
    withoutLog = false,
  }: Pick<StagesOptions, 'measures' | 'fromMs' | 'initial' | 'withoutLog'>,
  masker: Masker,
): RuleSetStages & { judge(nowMs: number): void } {
  const machine = createAlertMachine(rules.map(toDecidingRule), initial, {
    nextId: numbered(),
    environment: 'simulation',
    channelsFor: (priority) => channelsFor(priority).filter((name) => CHANNELS.includes(name)),
    masker,
    history: false,
  });
  const evaluations = createCountedEvaluations(
    { measures, rules, coveredFromMs: 0, wallMs: fromMs, withoutLog },
    initial,
    {
      isFiring: (ruleId) => machine.alerts().some((alert) => alert.ruleId === ruleId && alert.phase === 'firing'),
    },
  );
  const seen = createTimeline(machine);
  const messages: DrivenMessage[] = [];
  let results: OutboxResult[] = [];
  return {
    alerts: seen.alerts,
    messages,
    evaluations,
    judge(nowMs) {
      const { observations, evalMs, wallMs } = evaluations.evaluate(nowMs);
      const plan = machine.step({ observations, evalMs: evalMs === 0 ? wallMs : evalMs, wallMs, results });
      machine.accept(plan);
      evaluations.accepted();
      results = plan.enqueued.map(({ id }) => ({ id, result: { ok: true } }));
      for (const { notification, channels } of plan.decisions) messages.push({ atMs: nowMs, channels, notification });
      seen.look(nowMs);
    },
  };
}

function createTimeline(machine: AlertMachine) {
  const alerts: DrivenAlert[] = [];
  const open = new Map<string, DrivenAlert>();
  return {
    alerts: alerts as readonly DrivenAlert[],
    look(nowMs: number): void {
      const firing = new Map(
        machine.alerts().flatMap((alert) => (alert.phase === 'firing' ? [[alert.key, alert]] : [])),
      );
      for (const [key, { ruleId, labels, message, muted }] of firing) {
        const known = open.get(key);
        if (known !== undefined) {
          known.muted &&= muted !== undefined;
          continue;
        }
        const alert = { ruleId, labels, firedMs: nowMs, message, muted: muted !== undefined };
        open.set(key, alert);
        alerts.push(alert);
      }
      for (const [key, alert] of open) {
        if (firing.has(key)) continue;
        alert.resolvedMs = nowMs;
        open.delete(key);
      }
    },
  };
}

function numbered(): () => string {
  let count = 0;
  return () => String(++count).padStart(8, '0');
}
