// Runs the counter: its own source, the counter, and the sink its totals go to. In: configuration. Out: totals in the sink.
// Guarantee: counting never waits for Elasticsearch, because its source is read apart from the indexer's; standard input, which
// cannot be read twice, is tapped instead.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { type Deliver, lastingId, type Source } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { createParser, type ParseConfig } from '../parse/parse.ts';
import { createFileSource, type FilesConfig } from '../source/files/files.ts';
import { createKafka, type IntakeConfig, type KafkaConfig } from '../source/kafka/client.ts';
import { createKafkaSource } from '../source/kafka/intake.ts';
import { toRecords } from '../source/kafka/record-batch.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { createTagger } from '../tag/tag.ts';
import { createTransformingParser, type TransformsConfig } from '../transform/transform.ts';
import { COUNTER_DEFAULTS, type Counter, type CounterDeps, createCounter } from './counter.ts';
import type { Measures } from './measure-config.ts';
import { BUCKET_MS, type CountsSink, createKafkaCounts } from './totals.ts';

interface CountingOptions {
  readonly source: 'kafka' | 'files' | 'stdin';
  readonly kafka: KafkaConfig;
  readonly intake: IntakeConfig;
  readonly files: FilesConfig;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly alerts: { readonly publishMs: number };
  readonly measures: Measures;
  /** Where the counter keeps its positions in files, apart from the indexer's. */
  readonly dataDir: string;
}

export interface CountingDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly masker: Masker;
  /** Embedded mode only: where totals go instead of the counts topic, and how far files were counted. */
  readonly sink?: CountsSink;
  readonly embedded?: NonNullable<CounterDeps['embedded']>;
}

export interface CountingSource {
  readonly ended: Promise<void>;
  /** Standard input only: takes chunks to count; does not acknowledge them. */
  readonly tap: Deliver | undefined;
  status(): { readonly ready: boolean; readonly detail: string };
  /** Why nothing can be published; undefined when it can. */
  trouble(): string | undefined;
  /** False when not everything that was read could be published in time: the next owner counts it. */
  stop(timeoutMs: number): Promise<boolean>;
}

export function startCounting(options: CountingOptions, deps: CountingDeps): CountingSource {
  const { kafka, measures } = options;
  const { log, clock, metrics } = deps;
  const { masker } = deps;
  const parsed = createParser(options.parse, { masker, duplicatesRefused: true });
  const parser = createTransformingParser(parsed, options.transforms, { masker });
  const shared = { ...deps, parser, tag: createTagger() };
  const publishing = { ...COUNTER_DEFAULTS, publishMs: options.alerts.publishMs };
  let source: Source | undefined;
  let counter: Counter;
  let sink: CountsSink;
  let sinkTrouble: () => string | undefined = () => undefined;

  if (options.source === 'kafka') {
    const mine = createKafkaSource({
      config: { ...kafka, group: kafka.counterGroup },
      intake: options.intake,
      splitMs: BUCKET_MS,
      deps: { kafka: createKafka(kafka, log), log, metrics, clock },
    });
    const counts = createKafkaCounts({ kafka: createKafka(kafka, log), topic: kafka.topics.counts, log });
    sink = counts;
    sinkTrouble = counts.trouble;
    const recall = createKafkaRecall(kafka, log);
    counter = createCounter(
      measures,
      { ...shared, sink, positions: mine.positions, monotonic: () => performance.now(), recall },
      publishing,
    );
    mine.events.on('joined', () => counter.assigned());
    source = mine;
  } else {
    if (deps.sink === undefined) throw new Error('without Kafka the counter needs a sink');
    sink = deps.sink;
    counter = createCounter(measures, { ...shared, sink, monotonic: () => performance.now() }, publishing);
    if (options.source === 'files') {
      source = createFileSource({ ...options.files, dataDir: options.dataDir }, { log, clock });
    }
  }
  const started = source?.start(counter.accept);

  return {
    ended: Promise.all([started, source?.ended]).then(() => {}),
    tap: source === undefined ? (chunk) => counter.accept({ ...chunk, done() {} }) : undefined,
    trouble: () => counter.trouble() ?? sinkTrouble(),
    status() {
      const trouble = counter.trouble() ?? sinkTrouble();
      if (trouble !== undefined) return { ready: false, detail: trouble };
      return source?.status() ?? { ready: true, detail: 'counting what is read' };
    },
    async stop(timeoutMs) {
      await source?.stop();
      const drained = await counter.drain(timeoutMs);
      await source?.close();
      await sink.close();
      return drained;
    },
  };
}

// ---- the event ids that a partition carried before this process began to read it ----
// The counter asks for them when it meets a record that was sent again and may have been counted elsewhere. Moves no offsets.

/** Records marked `redriven` or `replayed` are left out: they are never counted. Rejects as `readTopic`. */
function createKafkaRecall(
  config: KafkaConfig,
  log: Log,
): (partition: number, from: number, to: number, onId: (eventId: string, offset: number) => void) => Promise<void> {
  return async (partition, from, to, onId) => {
    const started = performance.now();
    let ids = 0;
    await readTopic(
      config,
      {
        topic: config.topics.logs,
        purpose: 'recall',
        from: new Map([[partition, { from, to }]]),
        follow: false,
        onRecord(message) {
          const [record] = toRecords([message]).records;
          const { offset, mark } = record!;
          const id = lastingId(record!);
          if (id === undefined || mark === 'redriven' || mark === 'replayed') return true;
          onId(id, offset);
          ids += 1;
          return true;
        },
      },
      log,
    );
    log.info('looked back for records that were sent again', {
      partition,
      from,
      to,
      ids,
      ms: Math.round(performance.now() - started),
    });
  };
}
