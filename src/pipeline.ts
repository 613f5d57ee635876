// The flow of logpipe, in the order data takes. Read this first.
//
//   source ─▶ parse ─▶ transform ─▶ tag ─▶ indexing (batches) ─▶ sinks ─▶ acknowledge ─▶ source commits
//                 │        └── dropped ──────────│───────────────────────────┤
//                 └── refused ─────────────────┴── refused ─▶ dead letters ──┘
//
// This file only composes; every stage is a factory with its own section of the configuration. The second flow, from the log
// to alerts, is composed in alerting.ts.

import type { Config } from './config.ts';
import { type Clock, systemClock } from './core/clock.ts';
import { errorText, LogpipeError } from './core/errors.ts';
import type { Log } from './core/log.ts';
import { createMetrics, type Metrics } from './core/metrics.ts';
import { packageVersion } from './core/package-root.ts';
import { startPm2Metrics } from './core/pm2-metrics.ts';
import type { DeadLetterSink, Deliver, Source } from './core/record.ts';
import { createMasker } from './core/secrets/mask.ts';
import { createDocumentWriter } from './indexing/batch.ts';
import { createBulkWriter, createDegrade, createElasticsearchSink } from './indexing/bulk-writer.ts';
import { createDeadLetter, createFileDeadLetters, createKafkaDeadLetters } from './indexing/dead-letters.ts';
import { createElasticsearchClient, createSendBulk } from './indexing/elasticsearch.ts';
import { createFieldBudget, createFieldReader, type FieldBudget } from './indexing/field-budget.ts';
import { createIndexer, type Indexer } from './indexing/indexer.ts';
import { createLocalSinks, type Sink } from './indexing/sinks.ts';
import type { Api } from './ops/api.ts';
import { createStageLogs, type StageLogs } from './ops/flow.ts';
import { createStatusView, type PageFiles, type Readiness, startHttp } from './ops/http.ts';
import { createPlatformView, pm2Readings } from './ops/stats.ts';
import { createParser } from './parse/parse.ts';
import { createFileSource } from './source/files/files.ts';
import { createKafka } from './source/kafka/client.ts';
import { createKafkaSource } from './source/kafka/intake.ts';
import { createStdinSource } from './source/lines.ts';
import type { createOtlpSource } from './source/otlp.ts';
import { createTagger } from './tag/tag.ts';
import { createTransformingParser } from './transform/transform.ts';

export interface Pipeline {
  /** Resolves when a source that can end has ended and everything is accounted for; rejects when a part fails. */
  readonly ended: Promise<void>;
  readonly metrics: Metrics;
  /** Where /metrics and /ready are served; undefined when HTTP is switched off. */
  readonly url: string | undefined;
  /** In two phases: takes no new records, then finishes what is under way; true when all of it was accounted for in time. */
  stop(): Promise<boolean>;
}

export interface PipelineDeps {
  readonly log: Log;
  readonly clock?: Clock;
  /** The indexer reads nothing before this resolves: until then the index template may be missing. */
  readonly prepared?: Promise<void>;
  readonly stdin?: NodeJS.ReadableStream;
  readonly stdout?: NodeJS.WritableStream;
  /** Options with which another command finds this configuration; undefined: none can, and the API starts no jobs. */
  readonly configArgs?: readonly string[];
}

interface StageDeps {
  readonly log: Log;
  /** `log`, as it is handed to one stage. */
  readonly logOf: StageLogs['of'];
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly prepared: Promise<void>;
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream;
  /** Loaded only where it is wanted, with what reads protobuf. */
  readonly createOtlpSource?: typeof createOtlpSource;
}

/** Builds what this process's roles ask for and starts the flow. @throws LogpipeError when a stage cannot start. */
export async function startPipeline(config: Config, options: PipelineDeps): Promise<Pipeline> {
  const metrics = createMetrics();
  const { log, clock = systemClock, prepared = Promise.resolve() } = options;
  const { stdin = process.stdin, stdout = process.stdout, configArgs } = options;
  const logs = createStageLogs(log, { clock, masker: createMasker(config.mask) });
  const otlp = config.source === 'otlp' ? await import('./source/otlp.ts') : undefined;
  const deps: StageDeps = { log, logOf: logs.of, clock, metrics, prepared, stdin, stdout, ...otlp };
  if ((config.source === 'stdin' || config.source === 'otlp') && !config.roles.includes('indexer')) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `roles: \`source: ${config.source}\` is read by the indexer; add that role, or use another source`,
    );
  }

  // Loaded only where it is needed: the code that sends messages and looks at queues is a tenth of the indexer's memory.
  const alerts = config.roles.some((role) => role !== 'indexer');
  const alerting = alerts ? await (await import('./alerting.ts')).startAlerting(config, deps) : undefined;
  // Counts are in the brokers' time; this machine's clock may be wrong by hours.
  const brokersTime = { ...clock, now: () => alerting?.now() ?? clock.now() };
  const indexing = config.roles.includes('indexer') ? startIndexing(config, deps, alerting?.tap) : undefined;
  const startedMs = clock.monotonicMs();
  const readiness = () => [...(indexing?.readiness() ?? []), ...(alerting?.readiness() ?? [])];
  const { roles, source } = config;
  const about = { version: packageVersion(), roles, source, group: source === 'kafka' ? config.kafka.group : null };
  // Loaded by its first request, which the indexer alone seldom has.
  let api: Promise<Api> | undefined;
  let page: Promise<PageFiles> | undefined;
  const openApi = async () => {
    const flow = { startedMs, metrics, readiness, lastError: logs.lastError };
    const showTo = indexing?.showTo;
    return (await import('./ops/api.ts')).openApi(config, { log, clock, alerting, configArgs, flow, showTo });
  };
  const http = config.http.enabled
    ? await startHttp(config.http, {
        metrics,
        clock,
        readiness,
        platform: createPlatformView(() => alerting?.windows(), brokersTime),
        status: createStatusView(about, { clock, readiness, alerting: () => alerting?.view() }),
        api() {
          api ??= openApi();
          return api;
        },
        page: config.http.page
          ? () => {
              page ??= import('./ops/page.ts').then(({ createPage }) => createPage());
              return page;
            }
          : undefined,
      })
    : undefined;

  const endPm2 = await startPm2Metrics(
    pm2Readings(() => alerting?.windows(), brokersTime),
    deps,
  );

  async function stop(): Promise<boolean> {
    endPm2();
    // At the same time: neither flow waits for the other, not even at the end.
    const [indexed, alerted] = await Promise.all([indexing?.stop(), alerting?.stop()]);
    // First, so that what pages read ends, instead of breaking off.
    await (await api?.catch(() => undefined))?.close();
    await http?.close();
    return indexed !== false && alerted !== false;
  }
  let stopped: Promise<boolean> | undefined;

  return {
    ended: Promise.all([indexing?.ended, alerting?.ended]).then(() => {}),
    metrics,
    url: http?.url,
    stop() {
      stopped ??= stop();
      return stopped;
    },
  };
}

interface Indexing {
  readonly ended: Promise<void>;
  readonly showTo: Indexer['showTo'];
  readiness(): readonly Readiness[];
  stop(): Promise<boolean>;
}

/** @param tap sees every chunk first: for the counter, when it cannot read the source itself */
function startIndexing(config: Config, deps: StageDeps, tap: Deliver | undefined): Indexing {
  const { metrics, logOf } = deps;
  const log = logOf('index');
  const masker = createMasker(config.mask);

  const source = createSource(config, { ...deps, log: logOf('source') });
  const { sinks: wanted } = config;
  const out = deps.stdout as NodeJS.WriteStream;
  const local = createLocalSinks(wanted, { out, metrics, log });
  const duplicatesRefused = wanted.elasticsearch && local.length === 0;
  const parsed = createParser(config.parse, { masker, duplicatesRefused });
  const parser = createTransformingParser(parsed, config.transforms, { masker });
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const deadLetters = createDeadLetterSink(config, { metrics, log: logOf('deadLetters') });
  const toDeadLetter = createDeadLetter(config.dlq, masker);

  // The array is filled after the indexer exists, because the bulk writer buries through it; no record flows before that.
  const sinks: Sink[] = [];
  let budget: FieldBudget | undefined;
  const indexer: Indexer = createIndexer(config.bulk, {
    ...deps,
    log,
    parser,
    tag,
    ...(wanted.elasticsearch
      ? { fields: { admits: (event) => budget!.admits(event), move: (event) => budget!.move(event) } }
      : {}),
    documents,
    sinks,
    deadLetters,
    toDeadLetter,
  });
  if (wanted.elasticsearch) {
    const client = createElasticsearchClient(config.elasticsearch, { log });
    const writer = createBulkWriter(config.bulk, {
      ...deps,
      log,
      send: createSendBulk(client),
      degrade: createDegrade({ parser, tag, documents }),
      deadLetter: ({ record, chunk }, reason, detail, signal) => indexer.bury(record, chunk, reason, detail, signal),
      random: Math.random,
    });
    sinks.push(createElasticsearchSink(client, writer));
    budget = createFieldBudget({ ...deps, log, read: createFieldReader(client), day: parser.time.day });
  }
  sinks.push(...local);

  const deliver: Deliver =
    tap === undefined
      ? indexer.accept
      : async (chunk) => {
          await tap(chunk);
          await indexer.accept(chunk);
        };
  let stopping = false;
  let isPrepared = false;
  // Not awaited: while a server is away, the process is up, says so under /ready and can be stopped.
  const started = deps.prepared.then(() => {
    isPrepared = true;
    return stopping ? undefined : source.start(deliver);
  });

  return {
    ended: Promise.all([started, source.ended]).then(async () => {
      if (!stopping) await indexer.drain(Number.POSITIVE_INFINITY);
    }),
    showTo: indexer.showTo,
    readiness() {
      const dependencies: Readiness[] = [{ name: config.source, ...source.status() }];
      const add = (name: string, trouble: string | undefined, well: string) =>
        dependencies.push({ name, ready: trouble === undefined, detail: trouble ?? well });
      add('indexer', indexer.trouble(), 'taking records');
      for (const { name, trouble } of sinks) {
        const waiting = name === 'elasticsearch' && !isPrepared ? 'the index template is not in place yet' : undefined;
        const notice = name === 'elasticsearch' ? budget?.notice() : undefined;
        const well = notice === undefined ? 'accepting documents' : `accepting documents; ${notice}`;
        if (trouble !== undefined) add(name, waiting ?? trouble(), well);
      }
      return dependencies;
    },
    async stop() {
      stopping = true;
      await source.stop();
      const drained = await indexer.drain(config.shutdownTimeoutMs);
      await source.close();
      await deadLetters.close();
      budget?.close();
      for (const sink of sinks) {
        await sink.close().catch((error) => log.warn(`Sink ${sink.name} did not close`, { reason: errorText(error) }));
      }
      return drained;
    },
  };
}

function createSource(config: Config, deps: StageDeps): Source {
  switch (config.source) {
    case 'kafka': {
      const kafka = createKafka(config.kafka, deps.log);
      return createKafkaSource({ config: config.kafka, intake: config.intake, deps: { kafka, ...deps } });
    }
    case 'files':
      return createFileSource(config.files, deps);
    case 'stdin':
      return createStdinSource({ input: deps.stdin, maxLineBytes: config.files.maxLineBytes }, deps);
    case 'otlp':
      return deps.createOtlpSource!({ ...config.otlp, maxLineBytes: config.files.maxLineBytes }, deps);
  }
}

function createDeadLetterSink(config: Config, deps: { log: Log; metrics: Metrics }): DeadLetterSink {
  if (config.source !== 'kafka') return createFileDeadLetters({ path: config.dlq.file, ...deps });
  const kafka = createKafka(config.kafka, deps.log);
  return createKafkaDeadLetters({ kafka, topic: config.kafka.topics.dlq, ...deps });
}
