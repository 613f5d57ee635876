// Three real brokers, each frozen once (SIGSTOP: it takes connections and answers nothing). What it led is written and read again
// within 20 s, or soon after the brokers themselves have found it another leader. What others lead waits no longer than Kafka itself
// does: with acks=all a write is confirmed by all replicas that count as in sync, which the frozen one does until the controller
// misses it; what is confirmed is read at once, at the latest after the time-out of one request. A partition that is added is
// read within 30 s.

import type { Producer } from 'kafkajs';
import kafkajs from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { sleep, systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { createKafkaSource } from '../../src/source/kafka/intake.ts';
import type { ClusterMember } from '../../stack/index.ts';
import { kafkaConfig, quickIntake } from '../integration/intake-kit.ts';
import { startTestCluster, uniqueName, waitFor } from '../kit/servers.ts';

const PARTITIONS = 6;
const LONGEST_MS = 20_000;
/** The time-out of a request. */
const REQUEST_MS = 10_000;
/** From a new leader to going on: a request that began before times out after 10 s, and a question of it after 4 s. */
const FOUND_MS = REQUEST_MS + 4_000;
/** A metadata request may be given up meanwhile. */
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
    const movedMs = await frozen(member, cluster.kafka, { topic, node });
    await sleep(LONGEST_MS + FOUND_MS);
    const gaps = [...leaders].map(([partition, leader]) => ({
      partition,
      frozen: leader === node,
      read: read.longest(partition),
      written: written.longest(partition),
    }));
    await member.kill('SIGCONT');
    const about = `broker ${node} frozen${coordinates ? ', the coordinator' : ''}, without it after ${movedMs} ms`;
    console.log(`${about}: ${JSON.stringify(gaps)}`);
    for (const gap of gaps) {
      const text = `${about}: ${JSON.stringify(gap)}`;
      const limit = Math.max(LONGEST_MS, movedMs + FOUND_MS);
      expect(gap.written, text).toBeLessThan(gap.frozen ? limit : movedMs + UNTOUCHED_MS);
      // Nothing can be read that was not written. One request may have to time out: a heartbeat of a frozen coordinator, or what
      // was asked together with a partition of the frozen one.
      expect(gap.read, text).toBeLessThan(gap.frozen ? limit : Math.max(gap.written, REQUEST_MS) + UNTOUCHED_MS);
    }
  }

  await waitFor(isWhole, { what: 'all replicas again', timeoutMs: 120_000 });
  await admin.createPartitions({ topicPartitions: [{ topic, count: PARTITIONS + 1 }] });
  const addedMs = Date.now();
  writing.push(keepWriting(config, PARTITIONS, stop.signal, () => {}));
  await waitFor(() => read.seen() === PARTITIONS + 1, { what: 'the new partition read', timeoutMs: 30_000 });
  console.log(`a new partition is read after ${Date.now() - addedMs} ms`);
});

/** Freezes it. @returns how long the others took to lead without it, ms: asked of them alone */
async function frozen(
  member: ClusterMember,
  all: readonly ClusterMember[],
  { topic, node }: { topic: string; node: number },
): Promise<number> {
  const brokers = all.filter((other) => other !== member).map(({ address }) => address);
  const admin = new kafkajs.Kafka({ brokers, requestTimeout: 2_000, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    await member.kill('SIGSTOP');
    const sinceMs = performance.now();
    const isWithout = async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      return topics[0]!.partitions.every(({ leader, isr }) => leader !== node && !isr.includes(node));
    };
    await waitFor(() => isWithout().catch(() => false), { what: 'other leaders', timeoutMs: 90_000 });
    return Math.round(performance.now() - sinceMs);
  } finally {
    await admin.disconnect().catch(() => {});
  }
}

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
