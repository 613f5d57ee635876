// CPU per record of only the Kafka intake: everything is acknowledged at once. For comparison, in the same process, the floor: kafkajs's
// eachBatch with the values untouched. In: brokers; out: microseconds of process CPU per record.
import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { systemClock } from '../src/core/clock.ts';
import { silentLog } from '../src/core/log.ts';
import { createMetrics } from '../src/core/metrics.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../src/source/kafka/client.ts';
import { createKafkaSource } from '../src/source/kafka/intake.ts';
import { createUsable } from '../src/source/kafka/topics.ts';
import { sampleRecords } from './lines.ts';

const PARTITIONS = 4;

export interface IntakeResult {
  /** User and system time of the whole process. */
  readonly cpuMicrosPerEvent: number;
  /** The second half only: without the start and the compiling under load. */
  readonly steadyMicrosPerEvent: number;
  readonly eventsPerSecond: number;
}

/**
 * Fills a new topic of these brokers and reads it `rounds` times with our source and with bare kafkajs in turn. Returns the
 * medians; deletes the topic.
 */
export async function benchIntake(
  brokers: readonly string[],
  options: { events?: number; rounds?: number } = {},
): Promise<{ ours: IntakeResult; kafkajs: IntakeResult }> {
  const events = options.events ?? 400_000;
  const config = benchConfig(brokers);
  const topic = await fillTopic(config, events);
  const filled = { ...config, topics: { ...config.topics, logs: topic } };
  const ours: IntakeResult[] = [];
  const bare: IntakeResult[] = [];
  for (let round = 0; round < (options.rounds ?? 3); round++) {
    bare.push(await readWithKafkaJs(filled, events));
    ours.push(await readWithSource(filled, events));
  }
  const admin = createKafka(config, silentLog).admin();
  await admin.connect();
  await admin.deleteTopics({ topics: [topic] });
  await admin.disconnect();
  return { ours: median(ours), kafkajs: median(bare) };
}

function median(results: readonly IntakeResult[]): IntakeResult {
  const middle = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
  return {
    cpuMicrosPerEvent: middle(results.map((result) => result.cpuMicrosPerEvent)),
    steadyMicrosPerEvent: middle(results.map((result) => result.steadyMicrosPerEvent)),
    eventsPerSecond: middle(results.map((result) => result.eventsPerSecond)),
  };
}

function benchConfig(brokers: readonly string[]): KafkaConfig {
  return {
    brokers,
    clientId: 'logpipe-bench',
    ssl: false,
    connectionTimeoutMs: 3_000,
    requestTimeoutMs: 30_000,
    topics: {
      logs: '',
      dlq: '',
      counts: '',
      alerts: '',
      partitions: PARTITIONS,
      replicationFactor: 1,
      minInsyncReplicas: 1,
      logsRetentionMs: 86_400_000,
      dlqRetentionMs: 86_400_000,
    },
    group: '',
    counterGroup: '',
    alerterGroup: '',
  };
}

/** Writes `events` sample lines with event ids in their headers, 1,000 per request, into a new topic; returns its name. */
export async function fillTopic(config: KafkaConfig, events: number): Promise<string> {
  const kafka = createKafka(config, silentLog);
  const topic = `logpipe-bench-${randomUUID()}`;
  const admin = kafka.admin();
  await admin.connect();
  const configEntries = [{ name: 'message.timestamp.type', value: 'LogAppendTime' }];
  await createUsable(admin, { topic, numPartitions: PARTITIONS, configEntries });
  await admin.disconnect();
  const producer = kafka.producer({ createPartitioner: defaultPartitioner });
  await producer.connect();
  const messages = sampleRecords(10_000, Date.now()).map(({ value, eventId }) => ({
    value,
    headers: { eventId: eventId! },
  }));
  for (let sent = 0; sent < events; sent += 1_000) {
    const from = sent % messages.length;
    const partition = (sent / 1_000) % PARTITIONS;
    await producer.send({
      topic,
      messages: messages.slice(from, from + 1_000).map((message) => ({ ...message, partition })),
    });
  }
  await producer.disconnect();
  return topic;
}

/** Our source with a pipeline that acknowledges at once. */
export async function readWithSource(config: KafkaConfig, events: number): Promise<IntakeResult> {
  const source = createKafkaSource({
    config: { ...config, group: `logpipe-bench-${randomUUID()}` },
    intake: {
      maxWaitMs: 250,
      fetchMaxBytes: 4_194_304,
      fetchMaxBytesPerPartition: 1_048_576,
      commitIntervalMs: 500,
      sessionTimeoutMs: 10_000,
      heartbeatMs: 3_000,
      giveUpAfter: 1,
    },
    deps: { kafka: createKafka(config, silentLog), log: silentLog, metrics: createMetrics(), clock: systemClock },
  });
  const result = await measure(events, (count) =>
    source.start(async (chunk) => {
      chunk.done(chunk.records.length);
      count(chunk.records.length);
    }),
  );
  await source.stop();
  await source.close();
  return result;
}

/** kafkajs alone, values untouched. */
export async function readWithKafkaJs(config: KafkaConfig, events: number): Promise<IntakeResult> {
  const consumer = new kafkajs.Kafka({ brokers: [...config.brokers], logLevel: kafkajs.logLevel.NOTHING }).consumer({
    groupId: `logpipe-bench-${randomUUID()}`,
    maxBytes: 4_194_304,
    maxWaitTimeInMs: 250,
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [config.topics.logs], fromBeginning: true });
  const result = await measure(events, (count) =>
    consumer.run({ eachBatch: async ({ batch }) => count(batch.messages.length) }),
  );
  await consumer.disconnect();
  return result;
}

async function measure(
  events: number,
  start: (count: (records: number) => void) => Promise<void>,
): Promise<IntakeResult> {
  const cpu = process.cpuUsage();
  const since = process.hrtime.bigint();
  let half: { seen: number; cpu: NodeJS.CpuUsage } | undefined;
  await new Promise<void>((resolve, reject) => {
    let seen = 0;
    start((records) => {
      seen += records;
      if (seen * 2 >= events) half ??= { seen, cpu: process.cpuUsage() };
      if (seen >= events) resolve();
    }).catch(reject);
  });
  const sum = ({ user, system }: NodeJS.CpuUsage) => user + system;
  const seconds = Number(process.hrtime.bigint() - since) / 1e9;
  return {
    cpuMicrosPerEvent: sum(process.cpuUsage(cpu)) / events,
    steadyMicrosPerEvent: sum(process.cpuUsage(half!.cpu)) / (events - half!.seen),
    eventsPerSecond: events / seconds,
  };
}
