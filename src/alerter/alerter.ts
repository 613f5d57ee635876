// The alerter on Kafka, and one term of the alert state. In: membership, the counts topic, the alerts topic. Out: one term after the other,
// each from its records to ticking: evaluations, decisions, messages.
// Guarantee: who leads evaluates, decides and notifies; everybody else stands by, and follows the counts as who decides does, so that a
// take-over need not read them again. One term at a time in this process, begun only after the former leader was fenced off; when it is
// lost nothing more is decided or sent from it. Kafka gone for long is told directly (blindness.ts), because nothing else can be.
import { backoffMs, type Clock, deferred, isWorthSaying, SET_BACK_MS, sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { createEventIds } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { type AlertRecord, alertKey, type IncidentRecord } from '../incidents/incident.ts';
import { createAlertMachine, type GivenCommand } from '../incidents/machine.ts';
import type { Channel, ChannelName } from '../incidents/notification.ts';
import type { OutboxResult, StateKey } from '../incidents/records.ts';
import type { SendBulk } from '../indexing/elasticsearch.ts';
import type { CountsMessage } from '../measure/totals.ts';
import { createDispatcher } from '../notify/dispatcher.ts';
import { channelsFor } from '../notify/notify-config.ts';
import type { Observation } from '../rules/observation.ts';
import { hashOf, type Rules, toDecidingRule } from '../rules/rule-config.ts';
import type { EvaluationTimes, ProgressStatus } from '../windows/progress.ts';
import type { HourRecord, Labels } from '../windows/series.ts';
import type { WindowStore } from '../windows/windows.ts';
import type { BlindWatch } from './blindness.ts';
import type { CommandReader } from './commands-given.ts';
import { type CountedWindows, type CountsReader, createBrokersClock, type followCounts } from './counts-follower.ts';
import { countsFrom, createDurableEvaluator, hoursOf } from './durable-evaluator.ts';
import { createHistorySender } from './history.ts';
import type { Leadership, LeadershipHooks } from './leadership.ts';
import { createOutbox } from './outbox.ts';
import { type AlertStore, formatChange, LostTermError } from './store.ts';
import type { KafkaStores } from './store-kafka.ts';

const LOOK_MS = 1_000;
/** Two heartbeats missed, and some patience for a busy process. */
const SILENT_MS = 10_000;
const RELEASE_MS = 5_000;

export interface Alerter {
  start(): void;
  /** Rejects when the membership cannot be kept for a reason that does not pass. */
  readonly ended: Promise<void>;
  /** The present term, when it has begun to evaluate. */
  term(): Term | undefined;
  /** Of every term from now on. @returns as Term.changeRules */
  changeRules(rules: Rules): string | undefined;
  status(): { readonly ready: boolean; readonly detail: string };
  /** Why alerts cannot be decided although it is this instance's turn; undefined when they can, or it is not. */
  trouble(): string | undefined;
  /** False when something under way could not be recorded in time; the next leader settles it. */
  stop(timeoutMs: number): Promise<boolean>;
}

export interface AlerterDeps extends TermParts {
  readonly createLeadership: (hooks: LeadershipHooks) => Leadership;
  readonly createStores: (mayTakeOver: () => Promise<void>) => KafkaStores;
  readonly follow: (fromMs: number, own: Pick<Parameters<typeof followCounts>[1], 'now' | 'onMessage'>) => CountsReader;
  /** Undefined where there is no way to give commands. */
  readonly followCommands: (onCommand: Term['command']) => CommandReader | undefined;
  readonly blind: Pick<BlindWatch, 'alive' | 'leads' | 'look' | 'silentMs'>;
  /** How far back the rules look, as they are now. */
  readonly reachMs: () => number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What was counted, followed whoever decides. */
interface Warm {
  readonly windows: CountedWindows;
  readonly reader: CountsReader;
  /** The time it was when it began, less the monotonic clock. */
  readonly assumedMs: number;
}

export function createAlerter(options: { readonly group: string }, deps: AlerterDeps): Alerter {
  const { group } = options;
  const { clock, log, blind } = deps;
  const results: TermDeps['results'] = new Map();
  const stopping = new AbortController();
  let detail = 'not started';
  /** The term that has the state, until it is released. */
  let current: { readonly term: Term; release(timeoutMs: number): Promise<boolean> } | undefined;
  /** The same, once it has caught up with the counts. */
  let evaluating: Term | undefined;
  let warm: Warm | undefined;
  let standby = false;
  let trouble: string | undefined;
  /** Take-overs and releases, one after the other. */
  let turns: Promise<void> = Promise.resolve();
  let cancelLook = () => {};

  /** Rejects when there is a state that this version must not touch: the process ends, and its membership with it. */
  const refused = deferred();

  const leadership = deps.createLeadership({
    onTerm(epoch) {
      blind.leads(true);
      standby = false;
      detail = 'taking over';
      turns = turns.then(() => takeOver(epoch));
    },
    onLost(_epoch, why) {
      detail = why;
      standby = false;
      trouble = undefined;
      const mine = current;
      // At once, for the take-over may be what it waits for; the next term begins behind it.
      if (mine !== undefined) turns = Promise.all([turns, mine.release(RELEASE_MS)]).then(() => {});
    },
    onStandby() {
      detail = 'standing by: another instance decides';
      if (!standby) log.info('standing by: another instance decides about alerts', { group });
      blind.leads(false);
      standby = true;
    },
    onMember: () => blind.alive(),
    onAway(why) {
      detail = `waiting for Kafka: ${why}`;
      standby = false;
    },
  });
  const stores = deps.createStores(() => leadership.assured());

  /** Opens the store until it is open or somebody else's turn; a lost store of a term that goes on is opened again. */
  async function takeOver(epoch: number): Promise<void> {
    for (let failures = 0; leadership.epoch() === epoch && !stopping.signal.aborted; ) {
      try {
        const store = await stores.open();
        // Lost meanwhile: whoever has it now has fenced this store off, and a second term must not begin beside its own.
        if (leadership.epoch() !== epoch || stopping.signal.aborted) return await store.close();
        trouble = undefined;
        await begin(store, epoch);
        return;
      } catch (error) {
        if (error instanceof LogpipeError && error.code === 'LOGPIPE_ALERT_STATE_NEWER') return refused.reject(error);
        failures += 1;
        const text = errorText(error);
        if (isWorthSaying(failures))
          log.warn('the alert state cannot be read; trying again', { error: text, failures });
        if (leadership.epoch() === epoch) trouble = `the alert state cannot be read: ${text}`;
        detail = trouble ?? detail;
        await sleep(backoffMs(failures), stopping.signal);
      }
    }
  }

  /** From now on counts are read, and go to the term where there is one. */
  function warmUp(nowMs: number, records: ReadonlyMap<StateKey, object>): Warm {
    const coveredFromMs = countsFrom(nowMs, deps.reachMs(), records);
    const windows = deps.createWindows(coveredFromMs, hoursOf(records));
    const brokersClock = createBrokersClock(clock);
    const reader = deps.follow(coveredFromMs, {
      now: () => current?.term.now() ?? nowMs + clock.monotonicMs() - startedMs,
      onMessage(message, recordMs, live) {
        blind.alive();
        const isSetBack = live && brokersClock.saw(recordMs);
        if (current !== undefined) return current.term.counts(message, recordMs, live);
        if (isSetBack) windows.setBack(recordMs);
        windows.counts(message, recordMs);
      },
    });
    const startedMs = clock.monotonicMs();
    return { windows, reader, assumedMs: nowMs - startedMs };
  }

  /** Standing by, so that a take-over has little left to read. */
  async function standBy(): Promise<void> {
    const records = await stores.known;
    if (!stopping.signal.aborted) warm ??= warmUp(clock.now(), records);
  }

  async function begin(store: AlertStore, epoch: number): Promise<void> {
    const nowMs = createBrokersClock(clock, store.dated).now();
    // This host's clock was ahead of the brokers' by that much: what it should have read is missing.
    const former = warm;
    if (former === undefined || former.assumedMs - (nowMs - clock.monotonicMs()) > SET_BACK_MS) {
      warm = warmUp(nowMs, store.initial);
      await former?.reader.close();
    }
    const { windows, reader } = warm!;
    let endProbes = async () => {};
    let commands: CommandReader | undefined;
    let released: Promise<boolean> | undefined;
    const gone = deferred();
    const term = deps.begin({
      windows,
      store,
      results,
      onLost() {
        void release(RELEASE_MS).then(() => {
          if (leadership.epoch() === epoch) turns = turns.then(() => takeOver(epoch));
        });
      },
    });

    async function end(timeoutMs: number): Promise<boolean> {
      if (current?.term === term) current = undefined;
      if (evaluating === term) evaluating = undefined;
      await endProbes();
      await commands?.close();
      const drained = await term.stop(timeoutMs);
      await store.close();
      return drained;
    }
    const release = (timeoutMs: number) => {
      gone.resolve();
      released ??= end(timeoutMs);
      return released;
    };

    current = { term, release };
    const startedMs = clock.monotonicMs();
    await Promise.race([reader.caughtUp(), gone.promise]);
    if (released !== undefined) return;
    log.info('alerts are evaluated here', { caughtUpMs: Math.round(clock.monotonicMs() - startedMs) });
    detail = 'evaluating';
    evaluating = term;
    endProbes = deps.startProbes(term);
    term.start();
    commands = deps.followCommands(term.command);
  }

  function look(): void {
    blind.look();
    cancelLook = clock.after(LOOK_MS, look);
  }

  return {
    start() {
      leadership.start();
      void standBy();
      look();
    },
    ended: Promise.race([leadership.ended, refused.promise]),
    term: () => evaluating,
    // One that has not begun to evaluate has its records already.
    changeRules: (rules) =>
      current === undefined ? warm?.windows.changeRules(rules) : current.term.changeRules(rules),
    trouble: () => trouble ?? evaluating?.trouble(),
    status() {
      const silentMs = blind.silentMs();
      if (silentMs > SILENT_MS) {
        return { ready: false, detail: `Kafka has not answered for ${Math.round(silentMs / 1_000)} s (${detail})` };
      }
      const why = trouble ?? evaluating?.trouble();
      if (why !== undefined) return { ready: false, detail: why };
      return { ready: evaluating !== undefined || standby, detail };
    },
    async stop(timeoutMs) {
      stopping.abort();
      cancelLook();
      const drained = await (current?.release(timeoutMs) ?? true);
      await leadership.close();
      await turns.catch(() => {});
      await warm?.reader.close();
      await stores.close();
      return drained;
    },
  };
}

// ---- one term: the same with Kafka and in the embedded mode ----
// An evaluation is decided and durable before the next one begins.

/** Progress older than this is none. */
const YOUNG_MS = 30_000;

interface TermOptions {
  readonly rules: Rules;
  readonly environment: string;
  readonly tickMs: number;
}

export interface TermDeps {
  /** For those same rules. They may know of counts already, and live on when the term is over. */
  readonly windows: CountedWindows;
  readonly store: AlertStore;
  /** Results no commit has taken yet; the same map for every term of this process. */
  readonly results: Map<string, OutboxResult>;
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  /** Where transitions are indexed; absent: nowhere. */
  readonly history: { readonly send: SendBulk; readonly prepare: () => Promise<unknown> } | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly masker: Masker;
  readonly onLost: (error: LostTermError) => void;
  /** An evaluation was decided and is durable. `complete`: the counts of every partition in it are younger than 30 s. */
  readonly onTick: (complete: boolean) => void;
}

/** What every term of this process is made of, wherever its counts and its state are. */
export interface TermParts {
  readonly createWindows: (coveredFromMs: number, hours: readonly HourRecord[]) => CountedWindows;
  readonly begin: (own: Pick<TermDeps, 'windows' | 'store' | 'results' | 'onLost'>) => Term;
  /** The term evaluates: probes may run. The returned function ends them. */
  readonly startProbes: (term: Term) => () => Promise<void>;
}

export interface Term {
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
  /** How things stand after the last evaluation; undefined before the first one. */
  look(): TermState | undefined;
  /** Why nothing is decided at present; undefined when all is well. */
  trouble(): string | undefined;
  /** Ends evaluating, then sending. True when what was under way was recorded in time. */
  stop(timeoutMs: number): Promise<boolean>;
}

/** What a term knows, for whoever looks at it; nobody changes anything of it. */
export interface TermState {
  /** In force. */
  readonly rules: Rules;
  readonly store: WindowStore;
  readonly times: EvaluationTimes;
  /** What every rule said. */
  readonly observations: readonly Observation[];
  /** As they were decided, durably. */
  readonly alerts: readonly AlertRecord[];
  readonly incidents: readonly IncidentRecord[];
}

export function beginTerm(options: TermOptions, deps: TermDeps): Term {
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
  const evaluator = createDurableEvaluator({ windows, wallMs: brokersClock.now() }, store.initial, {
    isFiring,
    onKnown(keys, maxKeys) {
      metrics.firstSeenUsed.set(keys / maxKeys);
      // It never empties, so this is logged once in a term.
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
  let format = formatChange(store.initial);
  let last: Pick<TermState, 'times' | 'observations'> | undefined;

  async function tick(): Promise<void> {
    const startedMs = performance.now();
    firing = undefined;
    const { observations, evalMs, wallMs, records, progress, skippedMs } = evaluator.evaluate(brokersClock.now());
    last = { times: progress.times ?? { evalMs: 0, completeMs: 0, wallMs }, observations };
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
        records: [...format, ...records],
        commands: given.map(({ command }) => command),
      });
      commands = commands.filter((one) => !given.includes(one));
      for (const { done } of given) done();
      for (const remark of remarks) log.warn(remark);
      for (const { why } of refused) log.warn('A command about alerts was not obeyed', { why });
      format = [];
      evaluator.accepted();
      metrics.alertsFiring.set(machine.alerts().filter(({ phase }) => phase === 'firing').length);
      if (failures > 0) log.info('alerts are decided again', { failures });
      failures = 0;
      trouble = undefined;
      deps.onTick(isComplete(progress));
    } catch (error) {
      if (error instanceof LostTermError || stopped) return;
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
    look() {
      if (last === undefined) return undefined;
      const { store, rules } = windows;
      return { ...last, store, rules, alerts: machine.alerts(), incidents: machine.incidents() };
    },
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
      const problem = evaluator.changeRules(next);
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
function isComplete({ lagMs, partitions }: ProgressStatus): boolean {
  return lagMs !== undefined && lagMs < YOUNG_MS && partitions.every(({ stalled }) => !stalled);
}
