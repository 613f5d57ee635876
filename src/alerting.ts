// The second flow of logpipe, from the log to people, in the order data takes. It never waits for the first one (pipeline.ts).
//
//   source ─▶ parse ─▶ transform ─▶ tag ─▶ counter ─▶ counts topic ─▶ windows ─▶ rules ─▶ alert state ─▶ outbox ─▶ channels
//                                                           readings of probes ──┘
//
// This file only composes: `startAlerting` hands over every dependency, and the sections below make the larger parts. With Kafka,
// counter and alerter are roles of any number of processes; without it both run here, and the journal takes the place of the topics.
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { OwnAlerts } from './alerter/alert-desk.ts';
import {
  type Alerter,
  type AlerterDeps,
  beginTerm,
  createAlerter,
  routesOf,
  type Term,
  type TermDeps,
  type TermParts,
} from './alerter/alerter.ts';
import {
  BLIND_ALERT,
  type BlindWatch,
  blindIncidentId,
  createBlindWatch,
  createHeartbeat,
  createKeptSilences,
  type KeptSilences,
} from './alerter/blindness.ts';
import { followTopic, giveToTopic } from './alerter/commands-given.ts';
import { createCountedWindows, followCounts } from './alerter/counts-follower.ts';
import { type EmbeddedAlerting, startEmbeddedAlerting } from './alerter/embedded.ts';
import { installAlertsTemplate } from './alerter/history.ts';
import { createThreadedLeadership } from './alerter/leadership.ts';
import { createKafkaStores } from './alerter/store-kafka.ts';
import type { Config } from './config.ts';
import { type Clock, type ClockWatch, watchClock } from './core/clock.ts';
import { readConfigFile } from './core/config-loader.ts';
import type { Log } from './core/log.ts';
import type { Metrics } from './core/metrics.ts';
import { createEventIds, type Deliver } from './core/record.ts';
import { createMasker, type Masker } from './core/secrets/mask.ts';
import { inForce, silenceMatches } from './incidents/incident.ts';
import type { Channel, ChannelName } from './incidents/notification.ts';
import { createElasticsearchClient, createSendBulk } from './indexing/elasticsearch.ts';
import { type CountingDeps, type CountingSource, startCounting } from './measure/counter.ts';
import { type Measures, parseMeasures } from './measure/measure-config.ts';
import { createHealthMonitor, createProbes, healthSummary, SPOOL_MEASURE } from './monitor/health-monitor.ts';
import { createRetention, retentionIsOn } from './monitor/retention.ts';
import { createChannels, createDispatcher } from './notify/dispatcher.ts';
import { createHttpSend } from './notify/http-send.ts';
import { findRouting, parseRouting, type Routing, watchRoutingFile } from './oncall/routing.ts';
import { createActionLinks } from './ops/access.ts';
import { type AlertingView, createAlertingView } from './ops/explain.ts';
import type { Readiness } from './ops/http.ts';
import type { StageId } from './ops/page-data.ts';
import { STATS_ROLLUPS } from './ops/stats.ts';
import { parseRules, type Rules, reachOf, watchRulesFile } from './rules/rule-config.ts';
import { createKafka } from './source/kafka/client.ts';
import type { WindowStore } from './windows/windows.ts';

export interface Alerting {
  /** Rejects when a part cannot be kept running. */
  readonly ended: Promise<void>;
  readiness(): readonly Readiness[];
  /** The counts, in the process that evaluates them; undefined in other processes. */
  windows(): WindowStore | undefined;
  /** The time that evaluations go by, ms: the brokers'; undefined in other processes. */
  now(): number | undefined;
  /** The term that evaluates, in the same process. */
  term(): Pick<Term, 'look' | 'now' | 'waiting'> | undefined;
  /** How rules and alerts stand, in the same process. */
  view(): AlertingView | undefined;
  /** The alert state, in the same process. */
  own(): OwnAlerts | undefined;
  /** In force here; undefined where there is none, or alerts are not decided. */
  routing(): Routing | undefined;
  /** Counts the chunks of a source that can be read only once (standard input), without acknowledging them. */
  readonly tap: Deliver | undefined;
  /** Two-phase; false when something under way could not be recorded in time and is settled after the next start. */
  stop(): Promise<boolean>;
}

export interface AlertingDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly stdout: NodeJS.WritableStream;
  /** `log`, as it is handed to one stage. Default: the same for all. */
  readonly logOf?: (stage: StageId) => Log;
}

/** Undefined when this process has neither role. @throws LogpipeError for invalid measures, rules or channels */
export async function startAlerting(config: Config, deps: AlertingDeps): Promise<Alerting | undefined> {
  const counts = config.roles.includes('counter');
  const alerts = config.roles.includes('alerter');
  if (!counts && !alerts) return undefined;
  const { log, clock, metrics, logOf = () => log } = deps;
  const { alerts: settings, notify, kafka } = config;
  const masker = createMasker(config.mask);
  const shared = { ...deps, masker };
  const definitions = readDefinitions(config, clock.now());
  const { measures } = definitions;
  const ends: (() => Promise<unknown>)[] = [];

  // Started at the end, but needed before: "blind" asks why nothing is decided, and statistics read the windows.
  const running: { counter?: CountingSource; alerter?: Alerter; embedded?: EmbeddedAlerting } = {};
  const term = () => running.alerter?.term() ?? running.embedded?.term;
  const trouble = () => running.counter?.trouble() ?? running.alerter?.trouble();

  // The log -> totals.
  const counting = (own: Pick<CountingDeps, 'sink' | 'embedded'>) =>
    startCounting(
      { ...config, measures, dataDir: join(config.files.dataDir, 'counter') },
      { ...shared, log: logOf('count'), ...own },
    );

  // Readings that do not come from the log; and what else only the leader does, by schedule.
  const probes = createProbeRounds(config, { ...deps, mask: masker.text });
  const retention = createRetentionRounds(config, deps);
  const watch = watchClock(clock, {
    onStep(byMs) {
      log.warn('The wall clock was set, or the machine was suspended', { byMs: Math.round(byMs) });
      probes.replan();
      retention.replan();
    },
    onSlept: (ms) => log.warn('This process was stopped, or had no processor', { ms: Math.round(ms) }),
  });
  ends.push(async () => watch.stop());

  // Where messages and transitions go.
  const { publicUrl, linkSecrets } = config.http;
  const actionLinks = createActionLinks({ publicUrl, secrets: linkSecrets });
  const linked = actionLinks === undefined ? {} : { actionLinks };
  const standing = () => term()?.look();
  const sending = { clock, log: logOf('messages'), masker, out: deps.stdout as never, standing, ...linked };
  const live = alerts
    ? createLiveChannels(definitions.routing, (routing) => createChannels(notify, routing, sending))
    : undefined;
  const channels: ReadonlyMap<ChannelName, Channel> = live?.channels ?? new Map();
  if (actionLinks === undefined && [...channels.keys()].some(mayHaveLinks)) {
    log.warn('Messages have no links to acknowledge with: set http.publicUrl and http.linkSecrets (docs/api.md)');
  }
  const history = alerts ? createHistory(config, ends, logOf('messages')) : undefined;

  // What notices that nothing can be decided.
  const blind =
    config.source === 'kafka' && alerts
      ? startBlindWatch(config, { ...shared, channels, routing: () => definitions.routing, watch, trouble }, ends)
      : undefined;
  const heartbeat = startHeartbeat(config, { ...shared, isBlind: () => blind?.blind() === true });
  const onTick = (complete: boolean) => {
    if (!complete) return;
    blind?.evaluated();
    heartbeat?.ticked();
  };
  const onSilences = blind?.keep ?? (() => {});

  // Totals -> windows -> rules -> alert state -> outbox -> channels: the parts of every term, with the rules in force when it begins.
  const terms: TermParts = {
    createWindows: (coveredFromMs, hours) =>
      createCountedWindows({ measures, rules: definitions.rules, rollups: STATS_ROLLUPS, coveredFromMs }, hours),
    begin: (own) =>
      beginTerm(
        {
          rules: definitions.rules,
          routing: definitions.routing,
          environment: notify.environment,
          tickMs: settings.tickMs,
        },
        {
          ...{ ...shared, log: logOf('rules'), messageLog: logOf('messages') },
          ...{ ...own, channels, history, onTick, onSilences },
        },
      ),
    startProbes(term) {
      const ends = [probes.start(term), retention.start(term)];
      return async () => void (await Promise.all(ends.map((end) => end())));
    },
  };

  // Start it: on a journal, with everything in this process, or on Kafka, where this process is one of many.
  if (config.source !== 'kafka') {
    running.embedded = await startEmbeddedAlerting(settings, { ...terms, clock, log: logOf('rules'), counting });
    running.counter = running.embedded.counter;
  } else {
    if (blind !== undefined) {
      const reachMs = () => reachOf(definitions.rules);
      const log = logOf('rules');
      const parts = { ...terms, ...kafkaParts(config, { ...deps, log }), reachMs, blind, onSilences, clock, log };
      running.alerter = createAlerter({ group: kafka.alerterGroup }, parts);
      running.alerter.start();
    }
    if (counts) running.counter = counting({});
  }
  const { counter, alerter, embedded } = running;
  if (alerts || embedded !== undefined) {
    const decides = alerter ?? embedded?.term;
    const takes: Takes = {
      rules: (next) => decides?.changeRules(next),
      routing(next) {
        live?.change(next);
        decides?.changeRouting(next);
      },
    };
    ends.push(definitions.watch({ clock, log }, takes));
  }

  return {
    ended: Promise.all([alerter?.ended, counter?.ended]).then(() => {}),
    tap: counter?.tap,
    windows: () => term()?.windows,
    now: () => term()?.now(),
    term,
    view: createAlertingView(() => term()?.look(), { clock, masker }),
    routing: () => definitions.routing,
    own() {
      const present = term();
      const state = present?.look();
      return present && state && { ...state, answer: present.answer };
    },
    readiness() {
      const states: Readiness[] = [];
      if (counter !== undefined) states.push({ name: 'counter', ...counter.status() });
      if (alerter !== undefined) states.push({ name: 'alerter', ...alerter.status() });
      const refused = definitions.refused();
      if (refused !== undefined) states.push({ name: 'routing', ready: false, detail: refused });
      return states;
    },
    async stop() {
      heartbeat?.stop();
      // Counting stops first, so that what was read is still evaluated where possible.
      const counted = await (counter?.stop(config.shutdownTimeoutMs) ?? true);
      const recorded = await (alerter ?? embedded)?.stop(config.shutdownTimeoutMs);
      for (const end of ends) await end();
      await live?.close();
      metrics.alertsFiring.set(0);
      return counted && recorded !== false;
    },
  };
}

// ---- the files: measures, and the rules in force ----

interface Definitions {
  readonly measures: Measures;
  /** Those in force: the file's when it was last read and accepted. */
  readonly rules: Rules;
  /** The same; undefined where there is no such file. */
  readonly routing: Routing | undefined;
  /** Why the routing file, as it is now, is not in force. */
  refused(): string | undefined;
  /** Checks the files every second, and at SIGHUP. @returns a function that ends it */
  watch(deps: Pick<AlertingDeps, 'clock' | 'log'>, takes: Takes): () => Promise<void>;
}

/** Gives what has changed to what runs. */
interface Takes {
  /** @returns why it needs a restart */
  rules(next: Rules): string | undefined;
  routing(next: Routing): void;
}

function readDefinitions({ alerts, roles, source }: Config, nowMs: number): Definitions {
  const measuresFile = readConfigFile('measures.yml', alerts.measuresFile);
  const measures = parseMeasures(measuresFile.text, process.env, measuresFile.file);
  const rulesFile = readConfigFile('rules.yml', alerts.rulesFile);
  let rules = parseRules(rulesFile.text, process.env, rulesFile.file, measures);
  // Only who decides needs it.
  const decides = roles.includes('alerter') || source !== 'kafka';
  const routingFile = decides ? findRouting(alerts.routingFile) : undefined;
  let routing = routingFile && parseRouting(routingFile.text, process.env, routingFile.file, nowMs);
  let refused: () => string | undefined = () => undefined;
  return {
    measures,
    get rules() {
      return rules;
    },
    get routing() {
      return routing;
    },
    refused: () => refused(),
    watch(deps, takes) {
      const env = process.env;
      const onRules = (next: Rules) => {
        const problem = takes.rules(next);
        if (problem === undefined) rules = next;
        return problem;
      };
      const onRouting = (next: Routing) => {
        // First what may refuse it: an address of which no channel can be made.
        takes.routing(next);
        routing = next;
      };
      const files = { rules: rulesFile, measures: measuresFile };
      const watched: { look(): void; close(): void }[] = [watchRulesFile(files, { ...deps, measures, env, onRules })];
      if (routingFile !== undefined && routing !== undefined) {
        const watch = watchRoutingFile({ ...routingFile, routing }, { ...deps, env, onRouting });
        watched.push(watch);
        refused = watch.refused;
      }
      const look = () => {
        for (const one of watched) one.look();
      };
      process.on('SIGHUP', look);
      return async () => {
        process.off('SIGHUP', look);
        for (const one of watched) one.close();
      };
    },
  };
}

// ---- channels that follow the routing ----

interface LiveChannels {
  /** A channel stays the same one, whatever becomes of its address: whoever has it need not know. */
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  change(routing: Routing): void;
  close(): Promise<void>;
}

function createLiveChannels(
  routing: Routing | undefined,
  make: (routing: Routing | undefined) => ReadonlyMap<ChannelName, Channel>,
): LiveChannels {
  let made = make(routing);
  const channels = new Map<ChannelName, Channel>();
  const closing: Promise<unknown>[] = [];

  function forward({ name, ratePerSecond }: Channel): Channel {
    return {
      name,
      ratePerSecond,
      send: async (...message) =>
        made.get(name)?.send(...message) ?? {
          ...{ ok: false, retryable: false, reason: 'the channel is no longer configured' },
        },
      close: async () => {},
    };
  }
  const closeAll = (all: ReadonlyMap<ChannelName, Channel>) =>
    closing.push(...[...all.values()].map((channel) => channel.close()));
  for (const [name, channel] of made) channels.set(name, forward(channel));

  return {
    channels,
    change(next) {
      const before = made;
      made = make(next);
      for (const name of channels.keys()) if (!made.has(name)) channels.delete(name);
      for (const [name, channel] of made) if (!channels.has(name)) channels.set(name, forward(channel));
      closeAll(before);
    },
    async close() {
      closeAll(made);
      await Promise.all(closing);
    },
  };
}

/** PagerDuty acknowledges by itself, and programs by the API. */
function mayHaveLinks(channel: string): boolean {
  return /^(?:slack|email)(?::|$)/.test(channel);
}

// ---- where transitions go ----

function createHistory(config: Config, ends: (() => Promise<unknown>)[], log: Log): TermDeps['history'] {
  if (!config.sinks.elasticsearch) return undefined;
  const client = createElasticsearchClient(config.elasticsearch);
  ends.push(() => client.close());
  return { send: createSendBulk(client), prepare: () => installAlertsTemplate(client, log) };
}

// ---- what does not go through the log: probes, retention, the heartbeat, "blind" ----

/** What happens by schedule as long as this instance leads. */
interface Rounds {
  /** Begins with the term's evaluations. The returned function ends that. */
  start(term: Term): () => Promise<void>;
  /** Plans the next round again, because the wall clock was set. */
  replan(): void;
}

function createRetentionRounds(config: Config, deps: AlertingDeps): Rounds {
  let replan = () => {};
  return {
    replan: () => replan(),
    start(term) {
      if (!config.sinks.elasticsearch || !retentionIsOn(config.retention)) return async () => {};
      const retention = createRetention(config, { ...deps, brokersNow: term.now });
      retention.start();
      replan = retention.reschedule;
      return retention.stop;
    },
  };
}

/** The readings go to the term. */
function createProbeRounds(config: Config, deps: AlertingDeps & { mask: (text: string) => string }): Rounds {
  let replan = () => {};
  return {
    replan: () => replan(),
    start(term) {
      if (!config.monitor.enabled) return async () => {};
      const monitor = createHealthMonitor(config.monitor, {
        ...deps,
        probes: createProbes(config, deps),
        record: ({ measure, labels, value }) => {
          term.gauge(measure, labels, value, term.now());
          if (measure === SPOOL_MEASURE) deps.metrics.spoolUsed.set({ host: labels.host ?? '' }, value);
        },
        summary: () => healthSummary(term.windows, term.now()),
      });
      monitor.start();
      replan = monitor.reschedule;
      return async () => {
        await monitor.stop();
        // From now on another instance probes.
        deps.metrics.spoolUsed.reset();
      };
    },
  };
}

function startHeartbeat(config: Config, deps: AlertingDeps & { masker: Masker; isBlind: () => boolean }) {
  const { heartbeatUrl, heartbeatMs } = config.alerts;
  if (heartbeatUrl === undefined || !config.roles.includes('alerter')) return undefined;
  const { timeoutMs } = config.notify;
  const call = createHttpSend({ url: heartbeatUrl, place: 'alerts.heartbeatUrl', timeoutMs, quote: false }, deps);
  return createHeartbeat({ everyMs: heartbeatMs }, { ...deps, call });
}

function startBlindWatch(
  config: Config,
  deps: AlertingDeps & {
    channels: TermDeps['channels'];
    routing: () => Routing | undefined;
    masker: Masker;
    watch: ClockWatch;
    trouble: () => string | undefined;
  },
  ends: (() => Promise<unknown>)[],
): BlindWatch & { readonly keep: KeptSilences['keep'] } {
  const { kafka, notify, alerts } = config;
  const { channels, watch, trouble, clock } = deps;
  const direct = createDispatcher(
    {},
    {
      ...deps,
      random: Math.random,
      mayISend: async () => true,
      onResult(id, result, retry) {
        if (retry === undefined) blind.onResult(id, result.ok || result.doubtful === true || result.left !== undefined);
      },
    },
  );
  const { environment } = notify;
  const pipeline = kafka.topics.alerts;
  const { commands } = kafka.topics;
  const nextId = createEventIds(clock.now);
  const incidentId = blindIncidentId(environment, pipeline);
  const folder = join(config.files.dataDir, 'alerter');
  const kept = createKeptSilences(join(folder, `${incidentId}.silences.json`), deps);
  // Of the routing in force, which may have changed since the last time.
  const routes = () => routesOf(deps.routing(), { channels, environment });
  const blind = createBlindWatch(
    {
      blindAfterMs: alerts.blindAfterMs,
      brokers: kafka.brokers,
      environment,
      pipeline,
      noteFile: join(folder, `${incidentId}.json`),
    },
    {
      ...deps,
      awakeMs: watch.awakeMs,
      channels() {
        const now = routes();
        const team = now.teamOf(BLIND_ALERT);
        const of = now.team(team);
        const { primary } = of === undefined ? {} : now.onCall(of, clock.now());
        return [...now.channels('P1', team), ...(primary === undefined ? [] : now.personChannels(primary))];
      },
      silenced() {
        const silences = inForce(kept.silences(), { nowMs: clock.now(), environment });
        const silence = silences.find((one) => silenceMatches(one, BLIND_ALERT));
        if (silence !== undefined) return `by ${silence.by}: ${silence.reason}`;
        const maintenance = routes().maintenance(clock.now())(BLIND_ALERT);
        return maintenance === undefined ? undefined : `maintenance ${maintenance}`;
      },
      send: direct.add,
      forget: direct.forget,
      ...(commands === undefined
        ? {}
        : {
            handOver: (told) =>
              giveToTopic(
                kafka,
                commands,
                { kind: 'blind-over', commandId: nextId(), by: hostname(), ...told },
                deps.log,
              ),
          }),
      trouble,
    },
  );
  ends.push(() => direct.close());
  return { ...blind, keep: kept.keep };
}

// ---- the alerter on Kafka ----

/** Heartbeats per session timeout. */
const BEATS = 6;

/** Each part has a Kafka client of its own, because kafkajs keeps state in its clients. */
function kafkaParts(
  { kafka, alerts }: Config,
  deps: AlertingDeps,
): Pick<AlerterDeps, 'createLeadership' | 'createStores' | 'follow' | 'followCommands'> {
  const { clock, log } = deps;
  const { counts: topic, alerts: state } = kafka.topics;
  return {
    createLeadership: (hooks) =>
      createThreadedLeadership(
        {
          kafka,
          brokers: kafka.brokers,
          group: kafka.alerterGroup,
          topic,
          requestTimeoutMs: kafka.requestTimeoutMs,
          sessionTimeoutMs: alerts.sessionTimeoutMs,
          heartbeatMs: Math.floor(alerts.sessionTimeoutMs / BEATS),
        },
        hooks,
        deps,
      ),
    createStores: (mayTakeOver) =>
      createKafkaStores(
        { config: kafka, topic: state, transactionalId: `${kafka.alerterGroup}-${state}` },
        { kafka: createKafka(kafka, log), clock, log, mayTakeOver },
      ),
    follow: (fromMs, own) => followCounts({ kafka, fromMs }, { log, ...own }),
    followCommands(onCommand) {
      const { commands } = kafka.topics;
      return commands === undefined ? undefined : followTopic(kafka, commands, { clock, log, onCommand });
    },
  };
}
