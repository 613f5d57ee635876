// The flow of logpipe, in the order data takes. Read this first.
//
//   source ─▶ parse ─▶ tag ─▶ indexing (batches) ─▶ sinks ─▶ acknowledge ─▶ source commits
//                 └── refused ──────────┴── refused ─▶ dead letters ──┘
//
// This file only composes; every stage is a factory with its own section of the configuration.

import type { Config } from './config.ts';
import { type Clock, systemClock } from './core/clock.ts';
import { errorText } from './core/errors.ts';
import type { Log } from './core/log.ts';
import { createMasker } from './core/mask.ts';
import { createMetrics, type Metrics } from './core/metrics.ts';
import type { DeadLetterSink, Source } from './core/record.ts';
import { createBulkWriter } from './indexing/bulk-writer.ts';
import { createFileDeadLetters, createKafkaDeadLetters } from './indexing/dead-letters.ts';
import { createDocumentWriter } from './indexing/document.ts';
import { createElasticsearchClient, createSendBulk } from './indexing/elasticsearch.ts';
import { createDegrade, createElasticsearchSink } from './indexing/elasticsearch-sink.ts';
import { createIndexer, type Indexer } from './indexing/indexer.ts';
import { createDeadLetter } from './indexing/refused.ts';
import { createConsoleSink, createNdjsonSink, type Sink } from './indexing/sinks.ts';
import { type HttpServer, type Readiness, startHttp } from './ops/http.ts';
import { createParser } from './parse/parse.ts';
import { createFileSource } from './source/file.ts';
import { createKafka } from './source/kafka-client.ts';
import { createKafkaSource } from './source/kafka-intake.ts';
import { createStdinSource } from './source/stdin.ts';
import { createTagger } from './tag/tag.ts';

export interface Pipeline {
  /** Resolves when a source that can end has ended and everything is accounted for; rejects when the source fails. */
  readonly ended: Promise<void>;
  readonly metrics: Metrics;
  readonly source: Source;
  /** Where /metrics and /ready are served; undefined when switched off. */
  readonly url: string | undefined;
  /** Two-phase: no new records, then what is under way; true when all of it was accounted for in time. */
  stop(): Promise<boolean>;
}

/** Builds every stage and starts the flow. @throws LogpipeError when a stage cannot start. */
export async function startPipeline(
  config: Config,
  deps: { log: Log; clock?: Clock; stdin?: NodeJS.ReadableStream; stdout?: NodeJS.WritableStream },
): Promise<Pipeline> {
  const { log } = deps;
  const clock = deps.clock ?? systemClock;
  const metrics = createMetrics();
  const masker = createMasker(config.mask);

  const source = createSource(config, { ...deps, clock, metrics });
  const { sinks: wanted } = config;
  const duplicatesRefused = wanted.elasticsearch && !wanted.console.enabled && !wanted.ndjson.enabled;
  const parser = createParser(config.parse, { masker, duplicatesRefused });
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const deadLetters = createDeadLetterSink(config, { log, metrics });
  const toDeadLetter = createDeadLetter(config.dlq, masker);

  // The indexer is made after the sinks it fills; the bulk writer buries through it only once records flow.
  const sinks: Sink[] = [];
  const indexer: Indexer = createIndexer(config.bulk, {
    parser,
    tag,
    documents,
    sinks,
    deadLetters,
    toDeadLetter,
    metrics,
    log,
    clock,
  });
  let trouble: () => string | undefined = () => undefined;
  if (config.sinks.elasticsearch) {
    const client = createElasticsearchClient(config.elasticsearch);
    const writer = createBulkWriter(config.bulk, {
      send: createSendBulk(client),
      degrade: createDegrade({ parser, tag, documents }),
      deadLetter: ({ record, chunk }, reason, detail, signal) => indexer.bury(record, chunk, reason, detail, signal),
      metrics,
      log,
      clock,
      random: Math.random,
    });
    sinks.push(createElasticsearchSink(client, writer));
    trouble = writer.trouble;
  }
  const out = (deps.stdout ?? process.stdout) as NodeJS.WriteStream;
  if (config.sinks.console.enabled) sinks.push(createConsoleSink(config.sinks.console.format, { out, metrics }));
  if (config.sinks.ndjson.enabled) sinks.push(createNdjsonSink(config.sinks.ndjson.dir, { metrics }));

  const readiness = (): Readiness[] => {
    const reading = source.status();
    const dependencies: Readiness[] = [{ name: config.source, ready: reading.ready, detail: reading.detail }];
    if (config.sinks.elasticsearch) {
      const reason = trouble();
      dependencies.push({
        name: 'elasticsearch',
        ready: reason === undefined,
        detail: reason ?? 'accepting documents',
      });
    }
    return dependencies;
  };
  const http: HttpServer | undefined = config.http.enabled
    ? await startHttp(config.http, { metrics, clock, readiness })
    : undefined;

  // Not awaited: while Kafka is away the process is up, says so under /ready, and can be told to stop.
  const started = source.start(indexer.accept);
  let stopped: Promise<boolean> | undefined;

  async function stop(): Promise<boolean> {
    await source.stop();
    const drained = await indexer.drain(config.shutdownTimeoutMs);
    await source.close();
    await deadLetters.close();
    for (const sink of sinks) {
      await sink.close().catch((error) => log.warn(`Sink ${sink.name} did not close`, { reason: errorText(error) }));
    }
    await http?.close();
    return drained;
  }
  const stopOnce = () => (stopped ??= stop());

  return {
    ended: Promise.all([started, source.ended]).then(async () => {
      if (stopped === undefined) await indexer.drain(Number.POSITIVE_INFINITY);
    }),
    metrics,
    source,
    url: http?.url,
    stop: stopOnce,
  };
}

function createSource(
  config: Config,
  deps: { log: Log; clock: Clock; metrics: Metrics; stdin?: NodeJS.ReadableStream },
): Source {
  switch (config.source) {
    case 'kafka': {
      const kafka = createKafka(config.kafka, deps.log);
      return createKafkaSource({ config: config.kafka, intake: config.intake, deps: { kafka, ...deps } });
    }
    case 'files':
      return createFileSource(config.files, deps);
    case 'stdin':
      return createStdinSource({ input: deps.stdin ?? process.stdin, maxLineBytes: config.files.maxLineBytes }, deps);
  }
}

function createDeadLetterSink(config: Config, deps: { log: Log; metrics: Metrics }): DeadLetterSink {
  if (config.source !== 'kafka') return createFileDeadLetters({ path: config.dlq.file, ...deps });
  const kafka = createKafka(config.kafka, deps.log);
  return createKafkaDeadLetters({ kafka, topic: config.kafka.topics.dlq, ...deps });
}
