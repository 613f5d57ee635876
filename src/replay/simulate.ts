// The whole way from log records to messages, without servers and on a clock of its own; rule tests, backtests and the alert
// benchmark use it. In: records with arrival times. Out: which alerts fired when, and what would have been sent. Guarantee: the same
// records and rules give the same result; the stages are those of the live pipeline: one counter, and for each rule set an evaluator
// and an alert machine; ids are consecutive numbers; nothing is sent to anybody.

import { createStandaloneEvaluator, type StandaloneEvaluator } from '../alerter/durable-evaluator.ts';
import type { Clock } from '../core/clock.ts';
import { silentLog } from '../core/log.ts';
import { createMetrics } from '../core/metrics.ts';
import type { Chunk, RawRecord } from '../core/record.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { alertKey, type IncidentRecord } from '../incidents/incident.ts';
import { type AlertMachine, createAlertMachine, type GivenCommand } from '../incidents/machine.ts';
import type { ChannelName, Notification } from '../incidents/notification.ts';
import type { OutboxResult, StateKey } from '../incidents/records.ts';
import { type Counter, createCounter, type SourcePosition } from '../measure/counter.ts';
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import { channelsFor } from '../notify/notify-config.ts';
import { createRoutes, ownDestinations, routesByPriority } from '../oncall/routes.ts';
import type { Routing } from '../oncall/routing.ts';
import { createParser, type ParseConfig } from '../parse/parse.ts';
import { type Rules, toDecidingRule } from '../rules/rule-config.ts';
import { clockErrorOf } from '../source/kafka/record-headers.ts';
import { createTagger } from '../tag/tag.ts';
import { createTransformingParser, type TransformsConfig } from '../transform/transform.ts';

export interface SimulatedRecord {
  /** When the broker appended it, ms. */
  readonly arrivalMs: number;
  readonly partition: number;
  readonly value: Buffer;
  readonly eventId?: string;
  /** When the transport sent it, by its host's clock, ms. */
  readonly sentMs?: number;
  readonly mark?: RawRecord['mark'];
}

/** A reading that does not come from the log. */
export interface SimulatedReading {
  readonly atMs: number;
  readonly measure: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface SimulationOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly partitions: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** Time from one evaluation to the next. Default 1 s. */
  readonly tickMs?: number | ((nowMs: number) => number);
  /** Up to which arrival time a partition may be read at a moment. Default: now. */
  readonly readableTo?: (partition: number, nowMs: number) => number;
  readonly readings?: readonly SimulatedReading[];
  /** Records of the alert store to begin with: what was learned before. Default: none, learning begins. */
  readonly initial?: ReadonlyMap<StateKey, object>;
  /** Who is told; without it messages go by their priority to Slack, PagerDuty and mail. Every destination that it names is there. */
  readonly routing?: Routing;
  readonly environment?: string;
  /** What people do at a moment, given what is open then. */
  readonly commandsAt?: (nowMs: number, incidents: readonly IncidentRecord[]) => readonly GivenCommand[];
}

/** @param records in order of arrival within each partition */
export async function simulate(records: Iterable<SimulatedRecord>, options: SimulationOptions): Promise<Simulated> {
  const { measures, rules, parse, transforms, fromMs, toMs } = options;
  const { tickMs = 1_000, readableTo = (_, now) => now, initial = new Map() } = options;
  const partitions = Array.from({ length: options.partitions }, (): Partition => ({ queue: [], next: 0, offset: 0 }));
  for (const record of records) partitions[record.partition % partitions.length]!.queue.push(record);

  const withoutLog = partitions.every(({ queue }) => queue.length === 0);
  const { routing, environment, commandsAt } = options;
  const own = {
    measures,
    ruleSets: [rules],
    parse,
    transforms,
    fromMs,
    initial,
    withoutLog,
    routing,
    environment,
    commandsAt,
  };
  const stages = createStages(own, () =>
    partitions.map(({ queue, next, offset }, partition) => {
      const arrived = queue[next] !== undefined && queue[next]!.arrivalMs <= clock.now();
      const reached = { position: offset, end: offset + (arrived ? 1 : 0), caughtUp: !arrived };
      return { partition, partitions: partitions.length, ...reached };
    }),
  );
  const { clock, counter } = stages;
  const [{ evaluator, alerts, messages }] = stages.ruleSets as [(typeof stages.ruleSets)[number]];

  async function read(nowMs: number): Promise<void> {
    for (const [number, partition] of partitions.entries()) {
      const until = Math.min(nowMs, readableTo(number, nowMs));
      while (partition.next < partition.queue.length && partition.queue[partition.next]!.arrivalMs <= until) {
        const chunk = nextChunk(partition, number, until);
        await counter.accept(chunk);
      }
    }
  }

  const readings = [...(options.readings ?? [])].sort((one, other) => one.atMs - other.atMs);
  const step = typeof tickMs === 'number' ? () => tickMs : tickMs;
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += step(nowMs)) {
    clock.set(nowMs);
    await read(nowMs);
    await counter.publish();
    while (readings.length > 0 && readings[0]!.atMs <= nowMs) {
      const { measure, labels, value, atMs } = readings.shift()!;
      evaluator.store.setGauge(measure, labels, value, atMs);
    }
    stages.judge(nowMs);
  }
  await counter.drain(0);
  return { alerts, messages };
}

interface Partition {
  readonly queue: SimulatedRecord[];
  next: number;
  offset: number;
}

/** At most one arrival bucket, just as the Kafka source splits what it fetches. */
function nextChunk(from: Partition, partition: number, until: number): Chunk {
  const bucket = Math.floor(from.queue[from.next]!.arrivalMs / BUCKET_MS);
  const records: RawRecord[] = [];
  let bytes = 0;
  for (let record = from.queue[from.next]; record !== undefined; record = from.queue[from.next]) {
    const { arrivalMs, value, eventId, mark } = record;
    const clockErrorMs = mark === undefined ? clockErrorOf(record.sentMs ?? arrivalMs, arrivalMs) : 0;
    if (arrivalMs > until || Math.floor(arrivalMs / BUCKET_MS) !== bucket) break;
    records.push({
      ...{ value, offset: from.offset, timeMs: arrivalMs, eventId },
      ...(mark === undefined ? {} : { mark }),
      ...(clockErrorMs === 0 ? {} : { clockErrorMs }),
    });
    bytes += value.length;
    from.next += 1;
    from.offset += 1;
  }
  return { origin: { kind: 'kafka', topic: 'simulation', partition }, records, bytes, done() {} };
}

// ---- the stages between records and messages ----

export interface SimulatedAlert {
  readonly ruleId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly firedMs: number;
  /** Absent: still firing at the end. */
  resolvedMs?: number;
  readonly message: string;
  /** Nobody was ever told, because it was inhibited or silenced. */
  muted: boolean;
}

export interface SimulatedMessage {
  readonly atMs: number;
  readonly channels: readonly ChannelName[];
  readonly notification: Notification;
}

export interface Simulated {
  readonly alerts: readonly SimulatedAlert[];
  readonly messages: readonly SimulatedMessage[];
}

interface StagesOptions {
  readonly measures: Measures;
  /** Each is judged on its own over the same counts. */
  readonly ruleSets: readonly Rules[];
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly fromMs: number;
  /** Records of the alert store to begin with. */
  readonly initial: ReadonlyMap<StateKey, object>;
  readonly masker?: Masker;
  /** See DurableEvaluatorOptions. */
  readonly withoutLog?: boolean;
  readonly routing?: Routing | undefined;
  readonly environment?: string | undefined;
  readonly commandsAt?: SimulationOptions['commandsAt'] | undefined;
}

export interface Stages {
  readonly clock: SimulatedClock;
  readonly counter: Counter;
  readonly ruleSets: readonly RuleSetStages[];
  /** Judges every rule set at a moment; the counts must have been published. */
  judge(nowMs: number): void;
}

export interface RuleSetStages extends Simulated {
  readonly evaluator: StandaloneEvaluator;
}

const CHANNELS: readonly ChannelName[] = ['slack', 'pagerduty', 'email'];

/** One counter for all rule sets. @param positions where reading stands, as the Kafka source would report it */
export function createStages(options: StagesOptions, positions: () => readonly SourcePosition[]): Stages {
  const { measures, parse, transforms, fromMs, masker = createMasker() } = options;
  const clock = createSimulatedClock(fromMs);
  const ruleSets = options.ruleSets.map((rules) => createRuleSet(rules, options, masker));
  // Counted records are not written anywhere, so a key that occurs twice in a line need not be looked for.
  const parsed = createParser(parse, { masker, duplicatesRefused: true });
  const counter = createCounter(measures, {
    parser: createTransformingParser(parsed, transforms, { masker }),
    tag: createTagger(),
    metrics: createMetrics(),
    log: silentLog,
    clock,
    sink: {
      put: async (messages) => {
        for (const message of messages) {
          for (const { evaluator } of ruleSets) evaluator.counts(message, clock.now());
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

/** Only an evaluator and an alert machine, for callers with a counter of their own. */
export function createRuleSet(
  rules: Rules,
  {
    measures,
    fromMs,
    initial,
    withoutLog = false,
    routing,
    environment = 'simulation',
    commandsAt = () => [],
  }: Pick<StagesOptions, 'measures' | 'fromMs' | 'initial' | 'withoutLog' | 'routing' | 'environment' | 'commandsAt'>,
  masker: Masker,
): RuleSetStages & { judge(nowMs: number): void } {
  const machine = createAlertMachine(rules.map(toDecidingRule), initial, {
    nextId: numbered(),
    environment,
    routes:
      routing === undefined
        ? routesByPriority((priority) => channelsFor(priority).filter((name) => CHANNELS.includes(name)))
        : createRoutes(routing, { has: isIn([...CHANNELS, ...ownDestinations(routing)]), environment }),
    masker,
    history: false,
  });
  const evaluator = createStandaloneEvaluator(
    { measures, rules, coveredFromMs: 0, wallMs: fromMs, withoutLog },
    initial,
    {
      isFiring(ruleId, labels) {
        const firing = alertKey(ruleId, labels);
        return machine.alerts().some(({ key, phase }) => key === firing && phase === 'firing');
      },
    },
  );
  const seen = watchAlerts(machine);
  const messages: SimulatedMessage[] = [];
  let results: OutboxResult[] = [];
  return {
    alerts: seen.alerts,
    messages,
    evaluator,
    judge(nowMs) {
      const { observations, evalMs, wallMs } = evaluator.evaluate(nowMs);
      const commands = commandsAt(nowMs, machine.incidents());
      const plan = machine.step({ observations, evalMs: evalMs === 0 ? wallMs : evalMs, wallMs, results, commands });
      machine.accept(plan);
      evaluator.accepted();
      results = plan.enqueued.map(({ id }) => ({ id, result: { ok: true } }));
      for (const { notification, channels } of plan.decisions) messages.push({ atMs: nowMs, channels, notification });
      seen.look(nowMs);
    },
  };
}

function isIn(names: readonly ChannelName[]): (name: ChannelName) => boolean {
  const all = new Set(names);
  return (name) => all.has(name);
}

function watchAlerts(machine: AlertMachine) {
  const alerts: SimulatedAlert[] = [];
  const open = new Map<string, SimulatedAlert>();
  return {
    alerts: alerts as readonly SimulatedAlert[],
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

// ---- the clock ----

/** Stands still until it is set. Timers never fire: whoever drives a simulation does their work. */
interface SimulatedClock extends Clock {
  set(nowMs: number): void;
}

function createSimulatedClock(startMs: number): SimulatedClock {
  let nowMs = startMs;
  return {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    after: () => () => {},
    set(ms) {
      nowMs = ms;
    },
  };
}
