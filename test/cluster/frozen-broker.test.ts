// Three real brokers, each frozen once (SIGSTOP: it takes connections and answers nothing). What it led goes on within 20 s, writing
// and reading; what others lead does not pause, but for the group's coordinator; a partition that is added is read within 30 s.
import kafkajs, { type Producer } from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { sleep, systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../../src/source/kafka-client.ts';
import { createKafkaSource } from '../../src/source/kafka-intake.ts';
import { kafkaConfig, quickIntake } from '../integration/intake-kit.ts';
import { startTestCluster, uniqueName, waitFor } from '../kit/servers.ts';

const PARTITIONS = 6;
const LONGEST_MS = 20_000;
/** A fetch of another leader may be waited for, a metadata request given up. */
const UNTOUCHED_MS = 5_000;

it('each broker frozen in turn, and partitions added', async () => {
  const cluster = await startTestCluster({ brokers: 3, esNodes: 0 });
  const topic = uniqueName('frozen');
  const config = kafkaConfig({ topic, brokers: [...cluster.brokers] });
  const client = new kafkajs.Kafka({ brokers: [...cluster.brokers], logLevel: kafkajs.logLevel.NOTHING });
  const admin = client.admin();
  await admin.connect();
  onTestFinished(() => admin.disconnect());
  await admin.createTopics({
    waitForLeaders: false,
    topics: [
      {
        topic,
        numPartitions: PARTITIONS,
        replicationFactor: 3,
        configEntries: [
          { name: 'min.insync.replicas', value: '2' },
          { name: 'message.timestamp.type', value: 'LogAppendTime' },
        ],
      },
    ],
  });
  const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions;
  const isWhole = async () => {
    const found = await partitions().catch(() => []);
    return found.length === PARTITIONS && found.every(({ isr, leader }) => isr.length === 3 && leader >= 0);
  };
  await waitFor(isWhole, { what: 'all replicas', timeoutMs: 120_000 });

  const read = createGaps();
  const written = createGaps();
  const metrics = createMetrics();
  const source = createKafkaSource({
    config,
    intake: quickIntake,
    deps: { kafka: createKafka(config, silentLog), log: silentLog, metrics, clock: systemClock },
  });
  await source.start(async ({ origin, records, done }) => {
    if (origin.kind === 'kafka') read.mark(origin.partition);
    done(records.length);
  });
  onTestFinished(() => source.close());
  const stop = new AbortController();
  const writing = Array.from({ length: PARTITIONS }, (_, partition) =>
    keepWriting(config, partition, stop.signal, () => written.mark(partition)),
  );
  onTestFinished(async () => {
    stop.abort();
    await Promise.all(writing);
  });
  await waitFor(() => read.seen() === PARTITIONS, { what: 'all partitions read', timeoutMs: 60_000 });

  for (const [i, member] of cluster.kafka.entries()) {
    await waitFor(isWhole, { what: 'all replicas again', timeoutMs: 120_000 });
    const node = i + 1;
    const leaders = new Map((await partitions()).map(({ partitionId, leader }) => [partitionId, leader]));
    const coordinates = (await coordinatorOf(admin, config.group)) === node;
    read.reset();
    written.reset();
    await member.kill('SIGSTOP');
    await sleep(LONGEST_MS + 5_000);
    const gaps = [...leaders].map(([partition, leader]) => ({
      partition,
      frozen: leader === node,
      read: read.longest(partition),
      written: written.longest(partition),
    }));
    await member.kill('SIGCONT');
    console.log(`broker ${node} frozen${coordinates ? ', the coordinator' : ''}: ${JSON.stringify(gaps)}`);
    for (const gap of gaps) {
      const limit = gap.frozen || coordinates ? LONGEST_MS : UNTOUCHED_MS;
      expect(gap.read, JSON.stringify(gap)).toBeLessThan(limit);
      expect(gap.written, JSON.stringify(gap)).toBeLessThan(gap.frozen ? LONGEST_MS : UNTOUCHED_MS);
    }
  }

  await waitFor(isWhole, { what: 'all replicas again', timeoutMs: 120_000 });
  await admin.createPartitions({ topicPartitions: [{ topic, count: PARTITIONS + 1 }] });
  const addedMs = Date.now();
  writing.push(keepWriting(config, PARTITIONS, stop.signal, () => {}));
  await waitFor(() => read.seen() === PARTITIONS + 1, { what: 'the new partition read', timeoutMs: 30_000 });
  console.log(`a new partition is read after ${Date.now() - addedMs} ms`);
});

/** Longest time without a mark, by partition. */
function createGaps() {
  const last = new Map<number, number>();
  const longest = new Map<number, number>();
  const gap = (partition: number) => performance.now() - (last.get(partition) ?? 0);
  return {
    mark(partition: number) {
      if (last.has(partition)) longest.set(partition, Math.max(longest.get(partition) ?? 0, gap(partition)));
      last.set(partition, performance.now());
    },
    reset: () => longest.clear(),
    longest: (partition: number) => Math.round(Math.max(longest.get(partition) ?? 0, gap(partition))),
    seen: () => last.size,
  };
}

/** As the counts are written: a failed producer is thrown away. */
async function keepWriting(config: KafkaConfig, partition: number, signal: AbortSignal, mark: () => void) {
  let producer: Producer | undefined;
  for (let n = 0; !signal.aborted; n++) {
    try {
      producer ??= await connected(config);
      await producer.send({ topic: config.topics.logs, acks: -1, messages: [{ partition, value: String(n) }] });
      mark();
    } catch {
      producer?.disconnect().catch(() => {});
      producer = undefined;
    }
    await sleep(200, signal);
  }
  await producer?.disconnect().catch(() => {});
}

async function connected(config: KafkaConfig): Promise<Producer> {
  const producer = createKafka(config, silentLog).producer({
    createPartitioner: defaultPartitioner,
    idempotent: true,
    maxInFlightRequests: 1,
    retry: { retries: 5 },
  });
  await producer.connect();
  return producer;
}

/** The leader of the group's part of the offsets topic. */
async function coordinatorOf(admin: kafkajs.Admin, group: string): Promise<number> {
  const { topics } = await admin.fetchTopicMetadata({ topics: ['__consumer_offsets'] });
  const { partitions } = topics[0]!;
  let hash = 0;
  for (const char of group) hash = (Math.imul(31, hash) + char.charCodeAt(0)) | 0;
  const part = (hash & 0x7fffffff) % partitions.length;
  return partitions.find(({ partitionId }) => partitionId === part)!.leader;
}
