// The second flow of logpipe, from the log to people, in the order data takes. It never waits for the first one (pipeline.ts).
//
//   source ─▶ parse ─▶ tag ─▶ counter ─▶ counts topic ─▶ windows ─▶ rules ─▶ alert state ─▶ outbox ─▶ channels
//                                              readings of probes ──┘
//
// This file only composes. With Kafka, counter and alerter are roles of any number of processes; without it both are here,
// and the journal takes the place of the topics.
import { hostname } from 'node:os';
import { join } from 'node:path';
import {
  type Alerter,
  type AlerterDeps,
  beginTerm,
  createAlerter,
  type Term,
  type TermDeps,
} from './alerter/alerter.ts';
import { type BlindWatch, blindIncidentId, createBlindWatch, createHeartbeat } from './alerter/blindness.ts';
import { followTopic, giveToTopic } from './alerter/commands-given.ts';
import { createCountedWindows, followCounts } from './alerter/counts-follower.ts';
import { type EmbeddedAlerting, startEmbeddedAlerting } from './alerter/embedded.ts';
import { installAlertsTemplate } from './alerter/history.ts';
import { createKafkaStores } from './alerter/store-kafka.ts';
import { createThreadedLeadership } from './alerter/threaded-leadership.ts';
import type { Config } from './config.ts';
import { type Clock, type ClockWatch, watchClock } from './core/clock.ts';
import { readConfigFile } from './core/config-loader.ts';
import type { Log } from './core/log.ts';
import type { Metrics } from './core/metrics.ts';
import { createEventIds, type Deliver } from './core/record.ts';
import { createMasker, type Masker } from './core/secrets/mask.ts';
import { createElasticsearchClient, createSendBulk } from './indexing/elasticsearch.ts';
import { type CountingSource, startCounting } from './measure/counting.ts';
import { parseMeasures } from './measure/measure-config.ts';
import { createHealthMonitor, healthSummary } from './monitor/health-monitor.ts';
import { createProbes, SPOOL_MEASURE } from './monitor/probes.ts';
import { createChannels } from './notify/channels.ts';
import { createDispatcher } from './notify/dispatcher.ts';
import { createHttpSend } from './notify/http-send.ts';
import { channelsFor } from './notify/notify-config.ts';
import type { Readiness } from './ops/http.ts';
import { STATS_ROLLUPS } from './ops/stats.ts';
import { parseRules, reachOf, watchRulesFile } from './rules/rule-config.ts';
import { createKafka } from './source/kafka/client.ts';
import type { HourRecord } from './windows/hourly.ts';
import type { WindowStore } from './windows/windows.ts';

export interface Alerting {
  /** Rejects when a part cannot be kept running. */
  readonly ended: Promise<void>;
  readiness(): readonly Readiness[];
  /** What is counted, where it is evaluated: in the process that holds the alert state. */
  windows(): WindowStore | undefined;
  /** The time that evaluations go by, ms: the brokers'; undefined in other processes. */
  now(): number | undefined;
  /** Takes the chunks of a source that can be read only once (standard input), without acknowledging them. */
  readonly tap: Deliver | undefined;
  /** Two-phase; false when something under way could not be recorded in time and is settled after the next start. */
  stop(): Promise<boolean>;
}

export interface AlertingDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly stdout: NodeJS.WritableStream;
}

/** Undefined when this process has neither role. @throws LogpipeError for measures, rules or channels that are none */
export async function startAlerting(config: Config, deps: AlertingDeps): Promise<Alerting | undefined> {
  const counts = config.roles.includes('counter');
  const alerts = config.roles.includes('alerter');
  if (!counts && !alerts) return undefined;
  const { log, clock, metrics } = deps;
  const masker = createMasker(config.mask);
  const { alerts: settings, notify, kafka } = config;
  const measuresFile = readConfigFile('measures.yml', settings.measuresFile);
  const measures = parseMeasures(measuresFile.text, process.env, measuresFile.file);
  const rulesFile = readConfigFile('rules.yml', settings.rulesFile);
  let rules = parseRules(rulesFile.text, process.env, rulesFile.file, measures);
  const ends: (() => Promise<unknown>)[] = [];

  const channels = alerts ? createChannels(notify, { clock, log, masker, out: deps.stdout as never }) : new Map();
  const history = alerts ? createHistory(config, ends, log) : undefined;
  let blind: BlindWatch | undefined;
  const heartbeat = startHeartbeat(config, { ...deps, masker, isBlind: () => blind?.blind() === true });
  const createWindows = (coveredFromMs: number, hours: readonly HourRecord[]) =>
    createCountedWindows({ measures, rules, rollups: STATS_ROLLUPS, coveredFromMs }, hours);
  const begin = (own: Pick<TermDeps, 'windows' | 'store' | 'results' | 'onLost' | 'onTick'>) =>
    beginTerm(
      { rules, environment: notify.environment, tickMs: settings.tickMs },
      { ...deps, ...own, channels, history, masker },
    );
  let restartSchedule = () => {};
  const startProbes = (term: Term) => {
    const monitor = startMonitor(config, term, { ...deps, mask: masker.text });
    restartSchedule = monitor.restart;
    return monitor.stop;
  };
  const watch = watchClock(clock, {
    onStep(byMs) {
      log.warn('The wall clock was set, or the machine was suspended', { byMs: Math.round(byMs) });
      restartSchedule();
    },
    onSlept: (ms) => log.warn('This process was stopped, or had no processor', { ms: Math.round(ms) }),
  });
  ends.push(async () => watch.stop());

  const onTick = (complete: boolean) => {
    if (!complete) return;
    blind?.evaluated();
    heartbeat?.ticked();
  };

  const counting = (own: Pick<Parameters<typeof startCounting>[1], 'sink' | 'embedded'>): CountingSource =>
    startCounting({ ...config, measures, dataDir: join(config.files.dataDir, 'counter') }, { ...deps, ...own, masker });
  let counter: CountingSource | undefined;
  let alerter: Alerter | undefined;
  let embedded: EmbeddedAlerting | undefined;

  if (config.source === 'kafka') {
    if (alerts) {
      const own = startBlindWatch(config, { ...deps, channels, masker, watch }, () => {
        return counter?.trouble() ?? alerter?.trouble();
      });
      blind = own.blind;
      ends.push(own.close);
      alerter = createAlerter(
        { group: kafka.alerterGroup },
        {
          ...deps,
          ...kafkaParts(config, deps),
          reachMs: () => reachOf(rules),
          createWindows,
          begin,
          startProbes,
          onTick,
          blind,
        },
      );
      alerter.start();
    }
    if (counts) counter = counting({});
  } else {
    embedded = await startEmbeddedAlerting(settings, { ...deps, createWindows, begin, startProbes, onTick, counting });
    counter = embedded.counter;
  }
  if (alerts || embedded !== undefined) {
    const watched = watchRulesFile(
      { rules: rulesFile, measures: measuresFile },
      {
        ...{ measures, env: process.env, clock, log },
        onRules(next) {
          const problem = alerter !== undefined ? alerter.changeRules(next) : embedded?.term.changeRules(next);
          if (problem === undefined) rules = next;
          return problem;
        },
      },
    );
    process.on('SIGHUP', watched.look);
    ends.push(async () => {
      process.off('SIGHUP', watched.look);
      watched.close();
    });
  }
  const ended = Promise.all([alerter?.ended, counter?.ended]).then(() => {});

  return {
    ended,
    tap: counter?.tap,
    windows: () => (alerter?.term() ?? embedded?.term)?.windows,
    now: () => (alerter?.term() ?? embedded?.term)?.now(),
    readiness() {
      const states: Readiness[] = [];
      if (counter !== undefined) states.push({ name: 'counter', ...counter.status() });
      if (alerter !== undefined) states.push({ name: 'alerter', ...alerter.status() });
      return states;
    },
    async stop() {
      heartbeat?.stop();
      // Counting first: what was read is evaluated once more where it can be.
      const counted = await (counter?.stop(config.shutdownTimeoutMs) ?? true);
      const told = await (alerter ?? embedded)?.stop(config.shutdownTimeoutMs);
      for (const end of ends) await end();
      for (const channel of channels.values()) await channel.close();
      metrics.alertsFiring.set(0);
      return counted && told !== false;
    },
  };
}

function createHistory(config: Config, ends: (() => Promise<unknown>)[], log: Log): TermDeps['history'] {
  if (!config.sinks.elasticsearch) return undefined;
  const client = createElasticsearchClient(config.elasticsearch);
  ends.push(() => client.close());
  return { send: createSendBulk(client), prepare: () => installAlertsTemplate(client, log) };
}

function startHeartbeat(config: Config, deps: AlertingDeps & { masker: Masker; isBlind: () => boolean }) {
  const { heartbeatUrl, heartbeatMs } = config.alerts;
  if (heartbeatUrl === undefined || !config.roles.includes('alerter')) return undefined;
  const { timeoutMs } = config.notify;
  const call = createHttpSend({ url: heartbeatUrl, place: 'alerts.heartbeatUrl', timeoutMs, quote: false }, deps);
  return createHeartbeat({ everyMs: heartbeatMs }, { ...deps, call });
}

function startMonitor(
  config: Config,
  term: Term,
  deps: AlertingDeps & { mask: (text: string) => string },
): { readonly restart: () => void; readonly stop: () => Promise<void> } {
  if (!config.monitor.enabled) return { restart() {}, stop: async () => {} };
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
  return {
    restart: monitor.reschedule,
    async stop() {
      await monitor.stop();
      // Another instance looks from now on.
      deps.metrics.spoolUsed.reset();
    },
  };
}

/** Heartbeats per session timeout. */
const BEATS = 6;

/** Each with a client of its own: kafkajs keeps state in them. */
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

function startBlindWatch(
  config: Config,
  deps: AlertingDeps & { channels: TermDeps['channels']; masker: Masker; watch: ClockWatch },
  trouble: () => string | undefined,
): { readonly blind: BlindWatch; readonly close: () => Promise<void> } {
  const { kafka, notify, alerts } = config;
  const { channels, watch } = deps;
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
  const nextId = createEventIds(deps.clock.now);
  const blind = createBlindWatch(
    {
      blindAfterMs: alerts.blindAfterMs,
      brokers: kafka.brokers,
      environment,
      pipeline,
      noteFile: join(config.files.dataDir, 'alerter', `${blindIncidentId(environment, pipeline)}.json`),
    },
    {
      ...deps,
      awakeMs: watch.awakeMs,
      channels: channelsFor('P1').filter((name) => channels.has(name)),
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
  return { blind, close: () => direct.close() };
}
