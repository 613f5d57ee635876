// One hold of the alert state: from its records to ticking. In: counts, readings, time. Out: evaluations, decisions, messages.
// The same for Kafka and for the embedded mode. Guarantee: an evaluation is decided and durable before the next one begins;
// when the hold is lost nothing more is decided or sent from here.
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { createEventIds } from '../core/event-id.ts';
import type { Log } from '../core/log.ts';
import type { Masker } from '../core/mask.ts';
import type { Metrics } from '../core/metrics.ts';
import type { SendBulk } from '../indexing/elasticsearch.ts';
import type { CountsMessage } from '../measure/totals.ts';
import { channelsFor } from '../notify/channels.ts';
import { createDispatcher } from '../notify/dispatcher.ts';
import type { Channel, ChannelName } from '../notify/notification.ts';
import type { ProgressStatus } from '../rules/progress.ts';
import { hashOf, type Rules, toDecidingRule } from '../rules/rule-config.ts';
import type { Labels } from '../rules/series.ts';
import type { WindowStore } from '../rules/windows.ts';
import { isWorthSaying } from '../source/kafka-failures.ts';
import { alertKey } from './alert-state.ts';
import { createBrokersClock } from './brokers-clock.ts';
import type { GivenCommand } from './commands.ts';
import type { CountedWindows } from './counted-windows.ts';
import { createEvaluations } from './evaluation.ts';
import { createHistorySender } from './history.ts';
import { createAlertMachine } from './machine.ts';
import { createOutbox } from './outbox.ts';
import type { OutboxResult } from './outbox-entry.ts';
import { type AlertStore, LostHoldError } from './store.ts';

/** Progress older than this is none. */
const YOUNG_MS = 30_000;

export interface HoldOptions {
  readonly rules: Rules;
  readonly environment: string;
  readonly tickMs: number;
}

export interface HoldDeps {
  /** For those same rules. They may know of counts already, and live on when the hold is over. */
  readonly windows: CountedWindows;
  readonly store: AlertStore;
  /** Results no commit has taken yet; the same map for every hold of this process. */
  readonly results: Map<string, OutboxResult>;
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  /** Where transitions are indexed; absent: nowhere. */
  readonly history: { readonly send: SendBulk; readonly prepare: () => Promise<unknown> } | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly masker: Masker;
  readonly onLost: (error: LostHoldError) => void;
  /** An evaluation was decided and is durable. `complete`: the counts of every partition in it are younger than 30 s. */
  readonly onTick: (complete: boolean) => void;
}

export interface Hold {
  /** @param live it was written just now, not read back */
  counts(message: CountsMessage, recordMs: number, live: boolean): void;
  gauge(measure: string, labels: Labels, value: number, atMs: number): void;
  /** To be obeyed with the next evaluation. `done`: it has been answered, durably. */
  command(command: GivenCommand, done: () => void): void;
  /** From the next evaluation on. @returns why that takes a restart; the rules of before hold then */
  changeRules(rules: Rules): string | undefined;
  /** The time that evaluations go by, ms: the brokers', as far as it is known. */
  now(): number;
  /** Everything that was known before has been given: evaluation begins. */
  start(): void;
  readonly windows: WindowStore;
  /** Why nothing is decided at present; undefined when all is well. */
  trouble(): string | undefined;
  /** Ends evaluating, then sending. True when what was under way was recorded in time. */
  stop(timeoutMs: number): Promise<boolean>;
}

export function beginHold(options: HoldOptions, deps: HoldDeps): Hold {
  const { rules, environment, tickMs } = options;
  const { store, windows, channels, clock, log, metrics } = deps;
  const machine = createAlertMachine(rules.map(toDecidingRule), store.initial, {
    nextId: createEventIds(clock.now),
    environment,
    channelsFor: (priority) => channelsFor(priority).filter((name) => channels.has(name)),
    masker: deps.masker,
    history: deps.history !== undefined,
    rulesHash: hashOf(rules),
  });
  /** Asked for each label set of a late summary: read once per evaluation, not once per question. */
  let firing: ReadonlySet<string> | undefined;
  const isFiring = (ruleId: string, labels: Labels) => {
    firing ??= new Set(machine.alerts().flatMap(({ key, phase }) => (phase === 'firing' ? [key] : [])));
    return firing.has(alertKey(ruleId, labels));
  };
  const brokersClock = createBrokersClock(clock, store.dated);
  const evaluations = createEvaluations({ windows, wallMs: brokersClock.now() }, store.initial, {
    isFiring,
    onKnown(keys, maxKeys) {
      metrics.firstSeenUsed.set(keys / maxKeys);
      // It never empties, so this is said once in a hold.
      if (keys >= maxKeys) {
        log.error('First-seen rules know as many kinds as they can hold: further new ones are not reported', { keys });
      }
    },
  });
  // The machine is to hear of one time alone: of two, an hour apart, each message would be a reminder of the one before.
  const outbox = createOutbox({}, { ...deps, machine, clock: { ...clock, now: brokersClock.now } });
  const dispatcher = createDispatcher(
    {},
    { ...deps, random: Math.random, mayISend: outbox.mayISend, onResult: outbox.onResult },
  );
  const history = deps.history && createHistorySender({ ...deps.history, onResults: outbox.onResults, clock, log });
  let cancelTick = () => {};
  let ticking: Promise<void> = Promise.resolve();
  let stopped = false;
  let trouble: string | undefined;
  /** Attempts in a row that could not be decided. */
  let failures = 0;
  let commands: readonly { readonly command: GivenCommand; readonly done: () => void }[] = [];

  async function tick(): Promise<void> {
    const startedMs = performance.now();
    firing = undefined;
    const { observations, evalMs, wallMs, records, progress, skippedMs } = evaluations.evaluate(brokersClock.now());
    metrics.evaluationSeconds.observe((performance.now() - startedMs) / 1_000);
    if (progress.lagMs !== undefined) metrics.evaluationLag.set(Math.max(0, progress.lagMs) / 1_000);
    // An instance was cut off and told so: that is over when all that it did not see is known here.
    const given = commands.filter(({ command: { kind } }) => kind !== 'blind-over' || isComplete(progress));
    try {
      // Before anything was counted rules about logpipe itself are judged by the wall clock.
      const { refused, remarks } = await outbox.step({
        observations,
        evalMs: evalMs === 0 ? wallMs : evalMs,
        wallMs,
        skippedMs,
        records,
        commands: given.map(({ command }) => command),
      });
      commands = commands.filter((one) => !given.includes(one));
      for (const { done } of given) done();
      for (const remark of remarks) log.warn(remark);
      for (const { why } of refused) log.warn('A command about alerts was not obeyed', { why });
      evaluations.accepted();
      metrics.alertsFiring.set(machine.alerts().filter(({ phase }) => phase === 'firing').length);
      if (failures > 0) log.info('alerts are decided again', { failures });
      failures = 0;
      trouble = undefined;
      deps.onTick(isComplete(progress));
    } catch (error) {
      if (error instanceof LostHoldError || stopped) return;
      failures += 1;
      trouble = `alerts cannot be decided: ${errorText(error)}`;
      if (isWorthSaying(failures)) {
        log.error('alerts cannot be decided; trying again', { error: errorText(error), failures });
      }
    }
  }

  function schedule(): void {
    cancelTick = clock.after(tickMs, () => {
      ticking = tick().finally(() => {
        if (!stopped) schedule();
      });
    });
  }

  return {
    get windows() {
      return windows.store;
    },
    trouble: () => trouble,
    now: brokersClock.now,
    counts(message, recordMs, live) {
      if (live && brokersClock.saw(recordMs)) {
        log.warn('The brokers’ clock was set back: alerts are evaluated in its time', {
          now: new Date(recordMs).toISOString(),
        });
        windows.setBack(recordMs);
      }
      windows.counts(message, recordMs);
    },
    gauge: (measure, labels, value, atMs) => windows.store.setGauge(measure, labels, value, atMs),
    changeRules(next) {
      const problem = evaluations.changeRules(next);
      if (problem === undefined) machine.changeRules(next.map(toDecidingRule), hashOf(next));
      return problem;
    },
    command(command, done) {
      commands = [...commands, { command, done }];
    },
    start() {
      if (stopped) return;
      outbox.start(dispatcher, history);
      schedule();
    },
    async stop(timeoutMs) {
      stopped = true;
      cancelTick();
      await ticking;
      const drained = await dispatcher.drain(timeoutMs);
      await history?.close();
      await outbox.stop();
      await dispatcher.close();
      return drained;
    },
  };
}

/** However few events there are: of a partition without any, the counter says every half second that it has read it to its end. */
function isComplete({ lagMs, lanes }: ProgressStatus): boolean {
  return lagMs !== undefined && lagMs < YOUNG_MS && lanes.every(({ stalled }) => !stalled);
}
