// The health monitor: at fixed times it asks every probe, hands the readings to the rules, and logs one line about the state of
// the platform. Guarantee: a probe that fails or hangs costs only its own readings; two runs never overlap.

import { readdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@elastic/elasticsearch';
import type { Redis } from 'ioredis';
import type { Admin, Kafka, KafkaMessage } from 'kafkajs';
import type { ScheduledTask } from 'node-cron';
import cron from 'node-cron';
import { type Clock, unlessAborted, within } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { DropReason } from '../core/record.ts';
import { isNews } from '../indexing/dead-letters.ts';
import { createElasticsearchClient, type ElasticsearchConfig } from '../indexing/elasticsearch.ts';
import { createKafka, type KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type Reading, readMeasure, windowTo } from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';

interface HealthMonitor {
  start(): void;
  /** Runs once now; resolves with the readings. */
  run(): Promise<readonly ProbeReading[]>;
  /** The wall clock was set: plans the next run anew. */
  reschedule(): void;
  /** No further run; ends one under way. */
  stop(): Promise<void>;
}

export interface HealthMonitorDeps {
  readonly probes: readonly Probe[];
  /** Takes each reading, for the rules. */
  readonly record: (reading: ProbeReading, atMs: number) => void;
  /** What the log said in the last five minutes: failed calls, heap, queues, disk. Part of the logged line. */
  readonly summary: () => Readonly<Record<string, unknown>>;
  /** Hides credentials that a client's message may quote from an address. */
  readonly mask: (text: string) => string;
  readonly log: Log;
  readonly clock: Clock;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID for a schedule that is not a cron expression */
export function createHealthMonitor(
  config: Pick<MonitorConfig, 'schedule' | 'timeoutMs'>,
  deps: HealthMonitorDeps,
): HealthMonitor {
  const { log, clock } = deps;
  if (!cron.validate(config.schedule)) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_INVALID',
      `monitor.schedule: found "${config.schedule}"; permitted: a cron expression such as */5 * * * *`,
    );
  }
  const ending = new AbortController();
  let task: ScheduledTask | undefined;
  let running: Promise<readonly ProbeReading[]> | undefined;

  async function ask(probe: Probe): Promise<readonly ProbeReading[]> {
    const deadline = new AbortController();
    const signal = AbortSignal.any([ending.signal, deadline.signal]);
    try {
      const answer = within(probe.run(signal), config.timeoutMs, `no answer within ${config.timeoutMs} ms`);
      return await unlessAborted(answer, ending.signal);
    } catch (error) {
      if (!ending.signal.aborted) {
        log.warn(`health check: ${probe.name} gave no answer`, { reason: deps.mask(errorText(error)) });
      }
      return [];
    } finally {
      deadline.abort();
    }
  }

  async function runOnce(): Promise<readonly ProbeReading[]> {
    const readings = (await Promise.all(deps.probes.map(ask))).flat();
    if (ending.signal.aborted) return readings;
    const now = clock.now();
    for (const reading of readings) deps.record(reading, now);
    log.info('health check', { ...deps.summary(), ...Object.fromEntries(readings.map(nameAndValue)) });
    return readings;
  }

  function run(): Promise<readonly ProbeReading[]> {
    running ??= runOnce().finally(() => {
      running = undefined;
    });
    return running;
  }

  const say = (level: LogLevel) => (text: string | Error) =>
    log[level](`health check: ${text instanceof Error ? errorText(text) : text}`);

  function plan(): void {
    void task?.destroy();
    task = cron.schedule(config.schedule, () => run().then(() => undefined), {
      timezone: 'UTC',
      noOverlap: true,
      // By default a run that a busy or stopped process starts a second late is skipped.
      missedExecutionTolerance: Number.POSITIVE_INFINITY,
      // By default it writes to the console, in colours, between our lines of JSON.
      logger: { info: say('info'), warn: say('warn'), error: say('error'), debug: say('debug') },
    });
  }

  return {
    start() {
      plan();
      // The first run is now, not up to five minutes later.
      void run();
    },
    run,
    reschedule() {
      if (task !== undefined && !ending.signal.aborted) plan();
    },
    async stop() {
      ending.abort();
      await task?.destroy();
      await running?.catch(() => {});
      await Promise.all(deps.probes.map((probe) => probe.close().catch(() => {})));
    },
  };
}

function nameAndValue({ measure, labels, value }: ProbeReading): [string, number] {
  const suffix = Object.values(labels).join(',');
  return [suffix === '' ? measure : `${measure}{${suffix}}`, value];
}

// ---- the logged line ----

const WINDOW_MS = 300_000;
const MEGABYTE = 1_048_576;

/** The platform's last five minutes, as the operators' guide lists them; unknown values are left out. */
export function healthSummary(store: WindowStore, nowMs: number): Record<string, unknown> {
  const query = { ...windowTo(nowMs, WINDOW_MS), nowMs };
  const one = (measure: string) => readMeasure(store, measure, query)[0];
  const worst = (measure: string, label: string): Reading | undefined =>
    readMeasure(store, measure, { ...query, by: [label] })
      .filter(({ value }) => value !== undefined)
      .sort((a, b) => (b.value ?? 0) - (a.value ?? 0))[0];

  const summary: Record<string, unknown> = {};
  const calls = one('call.failure_ratio');
  if (calls?.denominator !== undefined) {
    summary.totalCalls = calls.denominator;
    summary.failedCalls = calls.numerator ?? 0;
    summary.errorRate = percent(calls.value ?? 0);
  }
  const heap = one('process.heap_limit') ?? one('process.heap');
  if (heap?.value !== undefined) {
    summary.heapUsedMB = Math.round((heap.numerator ?? 0) / MEGABYTE);
    summary.heapUsagePercent = percent(heap.value);
  }
  const queue = worst('queue.size', 'queue.name');
  if (queue?.value !== undefined) {
    summary.longestQueue = queue.labels['queue.name'];
    summary.waiting = queue.value;
  }
  const disk = worst('system.disk', 'host');
  if (disk?.value !== undefined) summary.diskPercent = disk.value;
  return summary;
}

function percent(ratio: number): number {
  return Math.round(ratio * 10_000) / 100;
}

// ---- probes: what is checked besides the log ----

// Brokers, Elasticsearch, Bull's queues, a disk spool, and what this process lost. They only read; one that cannot tell rejects, and
// absent readings mean no data, never 0.

// ---- the `monitor` section ----

/** `monitor` section, JSON Schema. */
export const monitorSection = {
  type: 'object',
  description:
    'The health monitor, which regularly checks Kafka, Elasticsearch, the spool and Bull’s queues. Role alerter.',
  additionalProperties: false,
  default: {},
  properties: {
    enabled: { type: 'boolean', default: true, description: 'Run the health monitor.' },
    schedule: {
      type: 'string',
      minLength: 9,
      default: '*/5 * * * *',
      description: 'When it runs: a cron expression of five or six fields, in UTC.',
    },
    timeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 120_000,
      default: 10_000,
      description: 'A probe without an answer for this long has failed; its measures then have no data.',
    },
    redisUrl: {
      type: 'string',
      minLength: 1,
      secret: true,
      description:
        'Redis of the Bull queues, `redis://…` or `rediss://…`; without it, the backlog is taken from the log. Also `redisUrlFile`.',
    },
    bullPrefix: { type: 'string', minLength: 1, default: 'bull', description: 'Key prefix of the queues.' },
    spoolDir: {
      type: 'string',
      minLength: 1,
      description: 'Folder of a disk spool to watch. Default: none.',
    },
    spoolMaxBytes: {
      type: 'integer',
      minimum: 1,
      default: 536_870_912,
      description: 'The size at which that spool is full.',
    },
  },
} as const;

export interface MonitorConfig {
  readonly enabled: boolean;
  readonly schedule: string;
  readonly timeoutMs: number;
  readonly redisUrl?: string;
  readonly bullPrefix: string;
  readonly spoolDir?: string;
  readonly spoolMaxBytes: number;
}

// ---- probes ----

/** One reading of an internal gauge, named as in measures.yml. */
export interface ProbeReading {
  readonly measure: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Asks one dependency. Rejects when it cannot tell; absent readings mean no data, never 0. */
export interface Probe {
  /** For the log and the summary. */
  readonly name: string;
  run(signal: AbortSignal): Promise<readonly ProbeReading[]>;
  close(): Promise<void>;
}

interface ProbesConfig {
  readonly source: string;
  readonly kafka: KafkaConfig;
  readonly sinks: { readonly elasticsearch: boolean };
  readonly elasticsearch: ElasticsearchConfig;
  readonly monitor: MonitorConfig;
}

/** The probes that this configuration asks for. */
export function createProbes(config: ProbesConfig, deps: { readonly log: Log; readonly metrics: Metrics }): Probe[] {
  const { monitor, kafka, elasticsearch } = config;
  const { logs, dlq } = kafka.topics;
  const probes: Probe[] = [createDropsProbe(deps.metrics)];
  if (config.source === 'kafka') {
    probes.push(
      createKafkaProbe(
        { topic: logs, dlq, group: kafka.group },
        {
          kafka: createKafka(kafka, deps.log),
          noNews: (ranges, signal) => countNoNews(kafka, ranges, signal, deps.log),
        },
      ),
    );
  }
  if (config.sinks.elasticsearch) {
    const timeout = { requestTimeoutMs: Math.min(elasticsearch.requestTimeoutMs, monitor.timeoutMs) };
    probes.push(createElasticsearchProbe(createElasticsearchClient({ ...elasticsearch, ...timeout })));
  }
  if (monitor.redisUrl !== undefined) {
    const { redisUrl, bullPrefix: prefix, timeoutMs } = monitor;
    probes.push(createBullProbe({ redisUrl, prefix, timeoutMs }));
  }
  if (monitor.spoolDir !== undefined) {
    probes.push(createSpoolProbe({ dir: monitor.spoolDir, maxBytes: monitor.spoolMaxBytes }));
  }
  return probes;
}

// ---- Redis: Bull and BullMQ ----

const MAX_QUEUES = 200;
const MAX_SCANS = 1_000;

/**
 * Jobs waiting per queue: list and set lengths, and a bounded scan for the names of the queues. The keys are those of both
 * libraries:
 * https://docs.bullmq.io/guide/architecture and https://github.com/OptimalBits/bull (lib/queue.js).
 */
export function createBullProbe(options: { redisUrl: string; prefix: string; timeoutMs: number }): Probe {
  const { prefix } = options;
  let redis: Redis | undefined;

  async function connected(signal: AbortSignal): Promise<Redis> {
    if (redis === undefined) {
      // Loaded only here. It has a class that extends String, and then V8 looks up every method of a text anew: an indexer with this client
      // in it costs a tenth more.
      const { Redis } = await import('ioredis');
      // Who closed the probe meanwhile found nothing to close.
      signal.throwIfAborted();
      redis = new Redis(options.redisUrl, {
        lazyConnect: true,
        maxRetriesPerRequest: 1,
        enableOfflineQueue: false,
        connectTimeout: options.timeoutMs,
        // One attempt per run: the next run is the retry.
        retryStrategy: () => null,
      });
      // The message may contain the address; the failing run logs what matters.
      redis.on('error', () => {});
    }
    if (redis.status !== 'ready') await redis.connect();
    return redis;
  }

  async function queueNames(redis: Redis, signal: AbortSignal): Promise<string[]> {
    const names = new Set<string>();
    // BullMQ keeps `meta` and Bull `id` per queue.
    for (const ending of ['meta', 'id']) {
      let cursor = '0';
      for (let scans = 0; scans < MAX_SCANS && names.size < MAX_QUEUES; scans++) {
        signal.throwIfAborted();
        const [next, keys] = await redis.scan(cursor, 'MATCH', `${prefix}:*:${ending}`, 'COUNT', 500);
        for (const key of keys) {
          const name = key.slice(prefix.length + 1, -ending.length - 1);
          // `bull:<queue>:<job>:…` is a job of a queue, not a queue.
          if (!name.includes(':')) names.add(name);
        }
        cursor = next;
        if (cursor === '0') break;
      }
    }
    return [...names].slice(0, MAX_QUEUES);
  }

  return {
    name: 'redis',
    async run(signal) {
      const redis = await connected(signal);
      const readings: ProbeReading[] = [];
      for (const name of await queueNames(redis, signal)) {
        signal.throwIfAborted();
        const key = (part: string) => `${prefix}:${name}:${part}`;
        const replies = await redis.pipeline().llen(key('wait')).llen(key('paused')).zcard(key('prioritized')).exec();
        // A key of another type, a command that is not permitted: absent means no data, a part would look like less.
        if (replies === null || replies.some(([error]) => error !== null)) continue;
        const waiting = replies.reduce((sum, [, count]) => sum + Number(count), 0);
        readings.push({ measure: 'queue.size', labels: { 'queue.name': name }, value: waiting });
      }
      return readings;
    },
    async close() {
      redis?.disconnect();
    },
  };
}

// ---- this process ----

/** What was lost for good since the last look, by reason; what the configuration drops is no loss. */
function createDropsProbe(metrics: Pick<Metrics, 'dropped'>): Probe {
  const before = new Map<string, number>();
  return {
    name: 'drops',
    async run() {
      const { values } = await metrics.dropped.get();
      const lossy = values.filter(({ labels }) => labels.reason !== ('configured' satisfies DropReason));
      return lossy.map(({ labels, value }) => {
        const reason = `${String(labels.reason)} (this process)`;
        const lost = value - (before.get(reason) ?? 0);
        before.set(reason, value);
        return { measure: 'logpipe.dropped', labels: { reason }, value: lost };
      });
    },
    async close() {},
  };
}

// ---- Elasticsearch ----

const STATUS: Readonly<Record<string, number>> = { green: 0, yellow: 1, red: 2 };
/** No answer is a reading too: the alert is about that. */
const UNREACHABLE = 3;

/** The cluster's health: 0 green, 1 yellow, 2 red, 3 no answer. */
export function createElasticsearchProbe(client: Client): Probe {
  return {
    name: 'elasticsearch',
    async run(signal) {
      const value = await client.transport
        .request<{ status?: string }>(
          { method: 'GET', path: '/_cluster/health', querystring: { filter_path: 'status' } },
          { signal },
        )
        .then(
          ({ status }) => STATUS[status ?? ''] ?? UNREACHABLE,
          () => UNREACHABLE,
        );
      return [{ measure: 'elasticsearch.status', labels: {}, value }];
    },
    close: () => client.close(),
  };
}

// ---- Kafka ----

interface KafkaProbeOptions {
  readonly topic: string;
  readonly dlq: string;
  readonly group: string;
}

/** Offsets [from, to) by partition. */
type OffsetRanges = ReadonlyMap<number, { readonly from: number; readonly to: number }>;

interface KafkaProbeDeps {
  readonly kafka: Kafka;
  /** How many of these records of the dead-letter topic tell of no new trouble. */
  readonly noNews: (ranges: OffsetRanges, signal: AbortSignal) => Promise<number>;
}

/**
 * How far the indexer is behind, what was deleted before it was read, and what share of the records since the previous run ended
 * in the dead letters. From the brokers, so that it covers all instances together.
 */
export function createKafkaProbe(options: KafkaProbeOptions, deps: KafkaProbeDeps): Probe {
  let admin: Promise<Admin> | undefined;
  let before: { logs: number; letters: number; ends: ReadonlyMap<number, number> } | undefined;

  const connected = () => {
    admin ??= (async () => {
      const client = deps.kafka.admin();
      await client.connect();
      return client;
    })();
    return admin;
  };

  return {
    name: 'kafka',
    async run(signal) {
      try {
        const client = await connected();
        const [ends, committed, letterEnds] = await Promise.all([
          client.fetchTopicOffsets(options.topic),
          client.fetchOffsets({ groupId: options.group, topics: [options.topic] }),
          client.fetchTopicOffsets(options.dlq),
        ]);
        signal.throwIfAborted();
        const offsets = new Map(committed[0]?.partitions.map((row) => [row.partition, Number(row.offset)]));
        let lag = 0;
        let deleted = 0;
        for (const { partition, high, low } of ends) {
          const at = offsets.get(partition) ?? -1;
          // A topic that was created anew has an end below what was committed of the old one.
          lag += Math.max(0, Number(high) - Math.max(at, Number(low)));
          if (at >= 0) deleted += Math.max(0, Number(low) - at);
        }
        const readings: ProbeReading[] = [
          { measure: 'kafka.lag', labels: { group: options.group }, value: lag },
          // Deleted before they were read, unless a later offset has been committed.
          { measure: 'logpipe.dropped', labels: { reason: 'retention' }, value: deleted },
        ];
        const now = { logs: sumHigh(ends), letters: sumHigh(letterEnds), ends: highs(letterEnds) };
        const logs = now.logs - (before?.logs ?? now.logs);
        // A dead letter may be written twice and a topic re-created: neither may give a share above one or below zero.
        let letters = Math.max(0, now.letters - (before?.letters ?? now.letters));
        if (letters > 0) {
          const fresh = new Map(
            [...now.ends].map(([partition, to]) => [partition, { from: before!.ends.get(partition) ?? 0, to }]),
          );
          letters -= Math.min(letters, await deps.noNews(fresh, signal));
        }
        before = now;
        if (logs > 0) {
          readings.push({ measure: 'logpipe.dead_letter_ratio', labels: {}, value: Math.min(1, letters / logs) });
        }
        return readings;
      } catch (error) {
        const client = admin;
        admin = undefined;
        await client?.then((connection) => connection.disconnect()).catch(() => {});
        throw error;
      }
    },
    async close() {
      await admin?.then((client) => client.disconnect()).catch(() => {});
    },
  };
}

function sumHigh(rows: readonly { high: string }[]): number {
  return rows.reduce((sum, { high }) => sum + Number(high), 0);
}

function highs(rows: readonly { partition: number; high: string }[]): ReadonlyMap<number, number> {
  return new Map(rows.map(({ partition, high }) => [partition, Number(high)]));
}

/** Of new letters no more than this is read, in bytes of their values. */
const MAX_LOOK_BYTES = 16 * 1024 * 1024;

/** Receipts of redrives, and letters of records that died again after one: whoever redrives sees those. */
async function countNoNews(config: KafkaConfig, ranges: OffsetRanges, signal: AbortSignal, log: Log): Promise<number> {
  const from = new Map([...ranges].filter(([, range]) => range.from < range.to));
  const look = createLook(from);
  const options = { topic: config.topics.dlq, purpose: 'monitor', from, follow: false, signal, onRecord: look.take };
  await readTopic(config, options, log);
  return look.noNews();
}

/**
 * How many of the letters in `ranges` are no news. After 16 MiB (a redrive brings more between two looks) it has seen enough, and
 * what lies behind counts as being of the same kinds.
 */
export function createLook(ranges: OffsetRanges): {
  /** False once it has seen enough. */
  take(message: Pick<KafkaMessage, 'offset' | 'headers' | 'value'>, partition: number): boolean;
  noNews(): number;
} {
  let seen = 0;
  let found = 0;
  let bytes = 0;
  return {
    take(message, partition) {
      // What was written meanwhile belongs to the next look.
      if (Number(message.offset) >= (ranges.get(partition)?.to ?? 0)) return true;
      seen += 1;
      if (!isNews(message)) found += 1;
      bytes += message.value?.length ?? 0;
      return bytes < MAX_LOOK_BYTES;
    },
    noNews() {
      if (bytes < MAX_LOOK_BYTES) return found;
      const all = [...ranges.values()].reduce((sum, { from, to }) => sum + to - from, 0);
      return Math.round((found / seen) * all);
    },
  };
}

// ---- a disk spool ----

export const SPOOL_MEASURE = 'logpipe.spool_used';

/** Used share of the permitted size, 0 to 1; above 1 if it overflows. */
export function createSpoolProbe(options: { dir: string; maxBytes: number }): Probe {
  return {
    name: 'spool',
    async run(signal) {
      let bytes = 0;
      for (const entry of await readdir(options.dir, { withFileTypes: true, recursive: true })) {
        signal.throwIfAborted();
        if (!entry.isFile()) continue;
        // Delivered segments may be removed at any time.
        const size = await stat(join(entry.parentPath, entry.name)).then(
          (found) => found.size,
          () => 0,
        );
        bytes += size;
      }
      return [{ measure: SPOOL_MEASURE, labels: { host: hostname() }, value: bytes / options.maxBytes }];
    },
    async close() {},
  };
}
