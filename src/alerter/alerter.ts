// The alerter on Kafka, and one term of the alert state. In: membership, the counts topic, the alerts topic. Out: one term after the other,
// each from reading its records to evaluations, decisions and messages.
// Guarantee: only the leader evaluates, decides and notifies; the others stand by and follow the counts like the leader, so that a
// take-over need not read them again. This process has one term at a time, begun only after the former leader was fenced off; once it is
// lost, nothing more is decided or sent. When Kafka is gone for long, blindness.ts says so directly, because nothing else can.

import { backoffMs, type Clock, deferred, isWorthSaying, SET_BACK_MS, sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { createEventIds } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { type AlertRecord, alertKey, type IncidentRecord, type SilenceRecord } from '../incidents/incident.ts';
import { createAlertMachine, type GivenCommand } from '../incidents/machine.ts';
import type { Channel, ChannelName } from '../incidents/notification.ts';
import { type CommandAnswer, isMessage, type OutboxResult, type StateKey } from '../incidents/records.ts';
import type { SendBulk } from '../indexing/elasticsearch.ts';
import type { CountsMessage } from '../measure/totals.ts';
import { createDispatcher } from '../notify/dispatcher.ts';
import { channelsFor } from '../notify/notify-config.ts';
import { createRoutes, type Routes, routesByPriority } from '../oncall/routes.ts';
import type { Routing } from '../oncall/routing.ts';
import { hashOf, type Rules, toDecidingRule } from '../rules/rule-config.ts';
import type { Observation } from '../rules/rule-types.ts';
import type { HourRecord, Labels } from '../windows/series.ts';
import type { EvaluationTimes, ProgressStatus, WindowStore } from '../windows/windows.ts';
import type { BlindWatch } from './blindness.ts';
import type { CommandReader } from './commands-given.ts';
import { type CountedWindows, type CountsReader, createBrokersClock, type followCounts } from './counts-follower.ts';
import { countsFrom, createDurableEvaluator, hoursOf } from './durable-evaluator.ts';
import { createHistorySender } from './history.ts';
import type { Leadership, LeadershipHooks } from './leadership.ts';
import { createOutbox } from './outbox.ts';
import { type AlertStore, formatChange, LostTermError } from './store.ts';
import type { KafkaStores } from './store-kafka.ts';

// ---- the `alerts` section: measures, rules and their evaluation, and what watches logpipe itself ----

/** `alerts` section, JSON Schema. */
export const alertsSection = {
  type: 'object',
  description: 'Measures, rules and their evaluation. Roles counter and alerter.',
  additionalProperties: false,
  default: {},
  properties: {
    measuresFile: {
      type: 'string',
      minLength: 1,
      description: 'File of the measures; without it `config/measures.yml`, else the shipped one.',
    },
    rulesFile: {
      type: 'string',
      minLength: 1,
      description: 'File of the rules; without it `config/rules.yml`, else the shipped one.',
    },
    routingFile: {
      type: 'string',
      minLength: 1,
      description:
        'File that says who is told of what, and who is on call; without it `config/routing.yml` of the working folder, else messages go by their priority alone.',
    },
    publishMs: {
      type: 'integer',
      minimum: 50,
      maximum: 10_000,
      default: 500,
      description: 'The counter publishes its totals this often.',
    },
    tickMs: {
      type: 'integer',
      minimum: 50,
      maximum: 60_000,
      default: 250,
      description: 'The rules are evaluated this often.',
    },
    blindAfterMs: {
      type: 'integer',
      minimum: 1_000,
      default: 60_000,
      description: 'When Kafka is gone for this long, “Log pipeline blind” is sent directly.',
    },
    heartbeatUrl: {
      type: 'string',
      pattern: '^https?://[^\\s]+$',
      permitted: 'an address that begins with http:// or https://, without spaces',
      secret: true,
      description: 'Dead man’s switch: called while the evaluator ticks. Also `heartbeatUrlFile`.',
    },
    heartbeatMs: {
      type: 'integer',
      minimum: 1_000,
      default: 60_000,
      description: 'How often it is called.',
    },
    sessionTimeoutMs: {
      type: 'integer',
      minimum: 1_000,
      maximum: 300_000,
      default: 6_000,
      description: 'How long the group waits for an alerter that fell silent before another one takes over.',
    },
    journalDir: {
      type: 'string',
      minLength: 1,
      default: '.logpipe/alerts',
      description: 'Folder of the alert state when there is no Kafka (sources files and stdin).',
    },
  },
} as const;

export interface AlertsConfig {
  readonly measuresFile?: string;
  readonly rulesFile?: string;
  readonly routingFile?: string;
  readonly publishMs: number;
  readonly tickMs: number;
  readonly blindAfterMs: number;
  readonly heartbeatUrl?: string;
  readonly heartbeatMs: number;
  readonly sessionTimeoutMs: number;
  readonly journalDir: string;
}

// ---- the alerter ----

const LOOK_MS = 1_000;
/** Two heartbeats missed, and some patience for a busy process. */
const SILENT_MS = 10_000;
const RELEASE_MS = 5_000;

export interface Alerter {
  start(): void;
  /** Rejects when the membership is lost for good. */
  readonly ended: Promise<void>;
  /** The present term, once it has begun to evaluate. */
  term(): Term | undefined;
  /** For the present term and later ones. @returns as Term.changeRules */
  changeRules(rules: Rules): string | undefined;
  /** For the present term; later ones begin with what is in force then. */
  changeRouting(routing: Routing | undefined): void;
  status(): { readonly ready: boolean; readonly detail: string };
  /** Why alerts cannot be decided although this instance leads; undefined when they can, or it does not lead. */
  trouble(): string | undefined;
  /** False when something under way could not be recorded in time: the next leader settles it. */
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
  /** The silences that the leader has written, as an instance reads them that stands by; again and again. */
  readonly onSilences?: (silences: readonly SilenceRecord[]) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** The counts, followed whether this instance leads or stands by. */
interface Warm {
  readonly windows: CountedWindows;
  readonly reader: CountsReader;
  /** The wall clock less the monotonic clock, when it began. */
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

  /** Rejects when the alert state is one that this version must not touch: the process ends, and with it the membership. */
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
      // At once, because the take-over may wait for it; the next term begins after it.
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

  /** Tries until the store is open or this instance no longer leads; a store that is lost during a term is opened again. */
  async function takeOver(epoch: number): Promise<void> {
    for (let failures = 0; leadership.epoch() === epoch && !stopping.signal.aborted; ) {
      try {
        const store = await stores.open();
        // The lead was lost meanwhile: the new leader has fenced this store off, and no second term must begin beside its own.
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

  /** Begins to read the counts; they go to the present term, if there is one. */
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
    // This host's clock was far ahead of the brokers', so reading began too late.
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
    if (standby) void stores.known.then((records) => standby && deps.onSilences?.(silencesIn(records)));
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
    // `current`, not `evaluating`: a term that has not begun to evaluate must follow the change too.
    changeRules: (rules) =>
      current === undefined ? warm?.windows.changeRules(rules) : current.term.changeRules(rules),
    changeRouting: (routing) => current?.term.changeRouting(routing),
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

function silencesIn(records: ReadonlyMap<StateKey, object>): SilenceRecord[] {
  return [...records].flatMap(([key, value]) => (key.startsWith('silence/') ? [value as SilenceRecord] : []));
}

// ---- one term: the same with Kafka and in embedded mode ----
// An evaluation is decided and durable before the next one begins.

/** Older progress does not count. */
const YOUNG_MS = 30_000;

interface TermOptions {
  readonly rules: Rules;
  /** Undefined: messages go by their priority alone. */
  readonly routing?: Routing | undefined;
  readonly environment: string;
  readonly tickMs: number;
}

export interface TermDeps {
  /** For the same rules. They may hold counts already, and they outlive the term. */
  readonly windows: CountedWindows;
  readonly store: AlertStore;
  /** Results that no commit has taken yet; the same map for every term of this process. */
  readonly results: Map<string, OutboxResult>;
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  /** Where transitions are indexed; undefined: nowhere. */
  readonly history: { readonly send: SendBulk; readonly prepare: () => Promise<unknown> } | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Of what becomes of messages. Default: `log`. */
  readonly messageLog?: Log;
  readonly metrics: Metrics;
  readonly masker: Masker;
  readonly onLost: (error: LostTermError) => void;
  /** The silences as they are now: at the beginning, and after every change. */
  readonly onSilences?: (silences: readonly SilenceRecord[]) => void;
  /** An evaluation was decided and is durable. `complete`: its counts of every partition are younger than 30 s. */
  readonly onTick: (complete: boolean) => void;
}

/** What every term of this process needs, wherever its counts and its state are kept. */
export interface TermParts {
  readonly createWindows: (coveredFromMs: number, hours: readonly HourRecord[]) => CountedWindows;
  readonly begin: (own: Pick<TermDeps, 'windows' | 'store' | 'results' | 'onLost'>) => Term;
  /** Called when the term evaluates, so that probes, and what else only the leader does, may run. The returned function ends them. */
  readonly startProbes: (term: Term) => () => Promise<void>;
}

export interface Term {
  /** @param live written just now, not read back */
  counts(message: CountsMessage, recordMs: number, live: boolean): void;
  gauge(measure: string, labels: Labels, value: number, atMs: number): void;
  /** Takes a command for the next evaluation. `done` is called when its answer is durable. */
  command(command: GivenCommand, done: () => void): void;
  /** Takes effect at the next evaluation. @returns why that needs a restart; the previous rules stay in force then */
  changeRules(rules: Rules): string | undefined;
  /** Takes effect at the next evaluation; `channels` has what it names. */
  changeRouting(routing: Routing | undefined): void;
  /** The time that evaluations go by, ms: the brokers', as far as it is known. */
  now(): number;
  /** Begins to evaluate. Everything known from before must have been given first. */
  start(): void;
  readonly windows: WindowStore;
  /** How things stand after the last evaluation; undefined before the first one. */
  look(): TermState | undefined;
  /** Messages that no channel has taken yet. */
  waiting(): number;
  /** What became of a command; undefined: nothing yet. */
  answer(commandId: string): CommandAnswer | undefined;
  /** Why nothing can be decided now; undefined when all is well. */
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
  readonly silences: readonly SilenceRecord[];
}

/** Where messages go, as the routing has it, or without one by priority alone; only to channels that there are. */
export function routesOf(
  routing: Routing | undefined,
  { channels, environment }: { readonly channels: ReadonlyMap<ChannelName, unknown>; readonly environment: string },
): Routes {
  const has = (name: ChannelName) => channels.has(name);
  return routing === undefined
    ? routesByPriority((priority) => channelsFor(priority).filter(has))
    : createRoutes(routing, { has, environment });
}

export function beginTerm(options: TermOptions, deps: TermDeps): Term {
  const { rules, environment, tickMs } = options;
  const { store, windows, channels, clock, log, messageLog = log, metrics } = deps;
  const machine = createAlertMachine(rules.map(toDecidingRule), store.initial, {
    nextId: createEventIds(clock.now),
    environment,
    routes: routesOf(options.routing, { channels, environment }),
    masker: deps.masker,
    history: deps.history !== undefined,
    rulesHash: hashOf(rules),
  });
  /** Keys of firing alerts, read once per evaluation: a late summary asks for each label set. */
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
      // The set never shrinks, so this is logged once per term.
      if (keys >= maxKeys) {
        log.error('First-seen rules know as many kinds as they can hold: new ones are no longer reported', { keys });
      }
    },
  });
  // The machine must see only one clock: with two, an hour apart, every message would seem due for a reminder.
  const outbox = createOutbox({}, { ...deps, machine, clock: { ...clock, now: brokersClock.now } });
  const dispatcher = createDispatcher(
    {},
    { ...deps, log: messageLog, random: Math.random, mayISend: outbox.mayISend, onResult: outbox.onResult },
  );
  const history =
    deps.history && createHistorySender({ ...deps.history, onResults: outbox.onResults, clock, log: messageLog });
  let cancelTick = () => {};
  let ticking: Promise<void> = Promise.resolve();
  let stopped = false;
  let trouble: string | undefined;
  /** Evaluations in a row that could not be decided. */
  let failures = 0;
  let commands: { readonly command: GivenCommand; readonly done: () => void }[] = [];
  let format = formatChange(store.initial);
  let last: Pick<TermState, 'times' | 'observations'> | undefined;

  async function tick(): Promise<void> {
    const startedMs = performance.now();
    firing = undefined;
    const { observations, evalMs, wallMs, records, progress, skippedMs } = evaluator.evaluate(brokersClock.now());
    last = { times: progress.times ?? { evalMs: 0, completeMs: 0, wallMs }, observations };
    metrics.evaluationSeconds.observe((performance.now() - startedMs) / 1_000);
    if (progress.lagMs !== undefined) metrics.evaluationLag.set(Math.max(0, progress.lagMs) / 1_000);
    // An instance that was cut off has told people: that ends when everything it did not see is known here.
    const given = commands.filter(({ command: { kind } }) => kind !== 'blind-over' || isComplete(progress));
    try {
      // Before anything was counted, rules about logpipe itself are judged by the wall clock.
      const { changes, refused, remarks } = await outbox.step({
        observations,
        evalMs: evalMs === 0 ? wallMs : evalMs,
        wallMs,
        skippedMs,
        records: [...format, ...records],
        commands: given.map(({ command }) => command),
      });
      const taken = new Set(given);
      commands = commands.filter((one) => !taken.has(one));
      for (const { done } of given) done();
      if (changes.some(({ key }) => key.startsWith('silence/'))) deps.onSilences?.(machine.silences());
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
      const [alerts, incidents, silences] = [machine.alerts(), machine.incidents(), machine.silences()];
      return { ...last, store, rules, alerts, incidents, silences };
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
    changeRouting: (next) => machine.changeRoutes(routesOf(next, { channels, environment })),
    waiting: () => machine.waiting().filter(isMessage).length,
    answer: machine.answer,
    command(command, done) {
      commands.push({ command, done });
    },
    start() {
      if (stopped) return;
      deps.onSilences?.(machine.silences());
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

/** True however few events there are: every half second the counter reports that it has read a quiet partition to its end. */
function isComplete({ lagMs, partitions }: ProgressStatus): boolean {
  return lagMs !== undefined && lagMs < YOUNG_MS && partitions.every(({ stalled }) => !stalled);
}
