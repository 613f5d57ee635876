// For the tests of the Kafka intake: a source whose chunks are acknowledged when the test says so, and the group's
// committed offsets as the broker has them.

import type { Admin, Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createMetrics, type Metrics } from '../../src/core/metrics.ts';
import { type Chunk, detached, type RawRecord } from '../../src/core/record.ts';
import { createKafka, type IntakeConfig, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { createKafkaSource } from '../../src/source/kafka/intake.ts';
import { testBrokers, waitFor } from '../kit/servers.ts';

export function kafkaConfig(overrides: {
  topic: string;
  group?: string;
  brokers?: string[];
  dlq?: string;
}): KafkaConfig {
  return {
    brokers: overrides.brokers ?? testBrokers(),
    clientId: 'logpipe-test',
    ssl: false,
    connectionTimeoutMs: 2_000,
    requestTimeoutMs: 10_000,
    topics: {
      logs: overrides.topic,
      dlq: overrides.dlq ?? `${overrides.topic}.dlq`,
      counts: `${overrides.topic}-counts`,
      alerts: `${overrides.topic}-alerts`,
      partitions: 4,
      replicationFactor: 1,
      minInsyncReplicas: 1,
      logsRetentionMs: 604_800_000,
      dlqRetentionMs: 2_592_000_000,
    },
    group: overrides.group ?? `${overrides.topic}-group`,
    counterGroup: `${overrides.topic}-counter`,
    alerterGroup: `${overrides.topic}-alerter`,
  };
}

export const quickIntake: IntakeConfig = {
  maxWaitMs: 50,
  fetchMaxBytes: 4_194_304,
  fetchMaxBytesPerPartition: 1_048_576,
  commitIntervalMs: 50,
  sessionTimeoutMs: 10_000,
  heartbeatMs: 300,
  giveUpAfter: 3,
};

export function testKafka(brokers: string[] = testBrokers()): Kafka {
  return new kafkajs.Kafka({
    clientId: 'logpipe-test',
    brokers,
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { initialRetryTime: 50 },
  });
}

export async function testAdmin(brokers?: string[]): Promise<Admin> {
  const admin = testKafka(brokers).admin();
  await admin.connect();
  onTestFinished(() => admin.disconnect());
  return admin;
}

/** Sends values to one partition, each call as one batch, and returns when they are written. */
export async function produce(
  topic: string,
  partition: number,
  messages: readonly (string | null | { value: string | Buffer | null; headers?: Record<string, string> })[],
  options: { brokers?: string[]; batchOf?: number; compression?: number } = {},
): Promise<void> {
  const producer = testKafka(options.brokers).producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  const size = options.batchOf ?? 10_000;
  for (let at = 0; at < messages.length; at += size) {
    await producer.send({
      topic,
      compression: options.compression ?? kafkajs.CompressionTypes.None,
      messages: messages
        .slice(at, at + size)
        .map((message) => ({ partition, ...(typeof message === 'object' && message ? message : { value: message }) })),
    });
  }
  await producer.disconnect();
}

export function numbered(from: number, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `{"n":${from + i}}`);
}

/** Next offsets to read as the broker has them; -1 where nothing was committed. */
export async function committedOffsets(admin: Admin, group: string, topic: string): Promise<Map<number, number>> {
  const [entry] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
  return new Map(entry!.partitions.map(({ partition, offset }) => [partition, Number(offset)]));
}

export async function untilCommitted(admin: Admin, config: KafkaConfig, partition: number, offset: number) {
  await waitFor(
    async () => {
      const now = (await committedOffsets(admin, config.group, config.topics.logs)).get(partition);
      if (now === offset) return true;
      throw new Error(`partition ${partition} is at ${now}`);
    },
    { what: `offset ${offset} committed for partition ${partition}` },
  );
}

export interface TakenRecord extends RawRecord {
  readonly partition: number;
}

/** A running source. `auto` acknowledges at once; `hold` makes `deliver` block until `release()`. */
export async function openSource(
  config: KafkaConfig,
  options: {
    auto?: boolean;
    intake?: Partial<IntakeConfig>;
    log?: Log;
    metrics?: Metrics;
    wait?: boolean;
    hold?: boolean;
    kafka?: Kafka;
  } = {},
) {
  const metrics = options.metrics ?? createMetrics();
  const log = options.log ?? silentLog;
  const source = createKafkaSource({
    config,
    intake: { ...quickIntake, ...options.intake },
    deps: { kafka: options.kafka ?? createKafka(config, log), log, metrics, clock: systemClock },
  });
  const chunks: Chunk[] = [];
  const records: TakenRecord[] = [];
  const joins: { epoch: number; partitions: readonly number[] }[] = [];
  source.events.on('joined', (join) => joins.push(join));
  let blocked: Promise<void> | undefined;
  let release = () => {};
  const taken = {
    source,
    metrics,
    chunks,
    records,
    joins,
    auto: options.auto ?? false,
    hold() {
      blocked = new Promise((resolve) => {
        release = resolve;
      });
    },
    release() {
      blocked = undefined;
      release();
    },
    partitionOf: (chunk: Chunk) => (chunk.origin.kind === 'kafka' ? chunk.origin.partition : -1),
    metric: async (name: 'staleAcks' | 'dropped' | 'sourceRestarts' | 'lag') =>
      (await metrics[name].get()).values.reduce((sum, { value }) => sum + value, 0),
    starting: undefined as Promise<void> | undefined,
  };
  if (options.hold) taken.hold();
  taken.starting = source.start(async (chunk) => {
    chunks.push(chunk);
    const partition = taken.partitionOf(chunk);
    for (const record of chunk.records) records.push({ ...detached(record), partition });
    if (taken.auto) chunk.done(chunk.records.length);
    await blocked;
  });
  onTestFinished(async () => {
    taken.release();
    await source.stop();
    await source.close();
  });
  if (options.wait ?? true) await taken.starting;
  return taken;
}
