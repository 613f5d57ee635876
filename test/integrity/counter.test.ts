// Exact counts on a real Kafka: processes of the counter are killed, joined by others, stopped and continued, and what the
// counts topic adds up to from its beginning is a plain count of the log, to the last record.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Kafka, Message } from 'kafkajs';
import kafkajs from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { sleep } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { createEventIds, type RawRecord } from '../../src/core/record.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { loadMeasures } from '../../src/measure/measure-config.ts';
import { BUCKET_MS, type CountsMessage, decodeCounts, type PartitionProgress } from '../../src/measure/totals.ts';
import { createParser } from '../../src/parse/parse.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { toRecords } from '../../src/source/kafka/record-batch.ts';
import { readTopic } from '../../src/source/kafka/topic-reader.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { createTagger } from '../../src/tag/tag.ts';
import { keepBest, plainCount, sumOfMessages } from '../kit/counts.ts';
import { createTopic, spawnLogpipe, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const KILLS = FULL ? 20 : 5;
/** Between two batches of 200 records: what matters is how many publications a kill meets, not how many records are in them. */
const PACE_MS = FULL ? 20 : 100;
const PARTITIONS = 4;
const START_MS = Date.UTC(2026, 0, 2, 3, 4, 5);
const measures = loadMeasures({ file: join(packageRoot(), 'config', 'measures.yml'), env: {} });

/** A fixed seed, so that a failing run can be repeated: mulberry32. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function createLog() {
  const brokers = testBrokers();
  const topic = uniqueName('counted');
  const yaml = `kafka:
  brokers: [${brokers.map((broker) => `'${broker}'`).join(', ')}]
  counterGroup: ${topic}-counter
  topics: { logs: ${topic}, dlq: ${topic}.dlq, counts: ${topic}-counts, alerts: ${topic}-alerts }
# Quick to notice a dead member, and many publications, so that kills meet them.
intake: { sessionTimeoutMs: 2000, heartbeatMs: 500, commitIntervalMs: 50, maxWaitMs: 50, fetchMaxBytesPerPartition: 65536 }
alerts: { publishMs: 100 }
sinks: { elasticsearch: false, console: { enabled: true } }
http: { enabled: false }
`;
  const { kafka: config, parse } = parseConfig(yaml, {}, 'test');
  // Record times of our own making: minutes of log pass in a second, so that every kill meets the end of a bucket.
  await createTopic(brokers, topic, {
    partitions: PARTITIONS,
    config: { 'message.timestamp.type': 'CreateTime', 'retention.ms': '-1' },
  });
  await ensureTopics(createKafka(config, silentLog), config, silentLog);
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-counter-'));
  const file = join(folder, 'logpipe.yml');
  writeFileSync(file, yaml);

  const kafka: Kafka = new kafkajs.Kafka({ clientId: 'logpipe-test', brokers, logLevel: kafkajs.logLevel.NOTHING });
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  const admin = kafka.admin();
  await admin.connect();
  const following = new AbortController();
  onTestFinished(async () => {
    following.abort();
    await producer.disconnect();
    await admin.disconnect();
    rmSync(folder, { recursive: true, force: true });
  });

  const counts: CountsMessage[] = [];
  let readable = () => {};
  const ready = new Promise<void>((resolve) => {
    readable = resolve;
  });
  void readTopic(
    config,
    {
      topic: config.topics.counts,
      purpose: 'test',
      from: 'beginning',
      follow: true,
      signal: following.signal,
      onReady: readable,
      onRecord({ value }) {
        const message = decodeCounts(value);
        if (message !== undefined) counts.push(message);
        return true;
      },
    },
    silentLog,
  );
  await ready;

  const nextId = createEventIds();
  const random = seeded(7);
  /** The last ids of each partition: what the transport would send again. */
  const recent = Array.from({ length: PARTITIONS }, () => [] as string[]);
  let produced = 0;
  let timeMs = START_MS;

  function toMessage(n: number): Message {
    const partition = n % PARTITIONS;
    const headers: Record<string, string> = {};
    const ids = recent[partition]!;
    let eventId = nextId();
    if (n % 397 === 0 && ids.length > 0) {
      headers.resent = '1';
      eventId = ids[Math.floor(random() * ids.length)]!;
    }
    if (n % 211 === 0) headers.replayed = '1';
    headers.eventId = eventId;
    ids.push(eventId);
    if (ids.length > 500) ids.shift();
    const value = n % 97 === 96 ? null : JSON.stringify(toEvent(n, timeMs - Math.floor(random() ** 8 * 400_000)));
    return { partition, headers, value, timestamp: String(timeMs) };
  }

  async function produce(count: number): Promise<void> {
    const messages: Message[] = [];
    for (let i = 0; i < count; i++) {
      timeMs += Math.floor(random() * 60);
      messages.push(toMessage(produced++));
    }
    await producer.send({ topic, messages, acks: -1 });
  }

  const ends = async () =>
    new Map((await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => [partition, Number(high)]));

  const log = {
    topic,
    group: `${topic}-counter`,
    kafka,
    counts,
    get produced() {
      return produced;
    },
    /** @param limit is asked how far it may go for now: a slow machine must not meet a backlog without end */
    produceContinuously(limit = () => Number.POSITIVE_INFINITY) {
      let going = true;
      const finished = (async () => {
        while (going) {
          if (produced < limit()) await produce(200);
          await sleep(PACE_MS);
        }
      })();
      return () => {
        going = false;
        return finished;
      };
    },
    start: () => spawnLogpipe(['run', '--config', file, '--roles', 'counter', '--exit-with-parent']),
    /** Every partition was counted to its end, says the counts topic. */
    async counted(): Promise<void> {
      const wanted = await ends();
      await waitFor(
        () => {
          const newest = new Map<string, PartitionProgress>();
          for (const message of counts)
            if (message.kind === 'progress') newest.set(message.progress.lane, message.progress);
          return [...wanted].every(([partition, end]) => {
            const progress = newest.get(String(partition));
            return progress?.position === end && progress.caughtUp && progress.lanes === PARTITIONS;
          });
        },
        { what: 'every partition is counted to its end', timeoutMs: 90_000 },
      );
    },
    /** The whole log, and what a plain count makes of it; what was committed must be the first record of a bucket. */
    async verify(): Promise<void> {
      const lanes = Array.from({ length: PARTITIONS }, () => [] as RawRecord[]);
      const complete = await readTopic(
        config,
        {
          topic,
          purpose: 'test-log',
          from: 'beginning',
          follow: false,
          onRecord(message, partition) {
            lanes[partition]!.push(...toRecords([message]));
            return true;
          },
        },
        silentLog,
      );
      expect(complete).toBe(true);
      expect(lanes.reduce((sum, lane) => sum + lane.length, 0)).toBe(produced);
      const parser = createParser(parse, { masker: createMasker() });
      const expected = plainCount(measures, lanes, { parser, tag: createTagger() });
      const found = sumOfMessages(counts);
      expect(found.records).toBe(expected.records);
      expect(found.sums).toEqual(expected.sums);
      expect(Object.keys(expected.sums).length).toBeGreaterThan(500);

      const [committed] = await admin.fetchOffsets({ groupId: `${topic}-counter`, topics: [topic] });
      for (const { partition, offset } of committed!.partitions) {
        const lane = lanes[partition]!;
        const at = lane.findIndex((record) => record.offset === Number(offset));
        expect(at, `partition ${partition} is committed at ${offset}`).toBeGreaterThan(0);
        const bucket = (record: RawRecord) => Math.floor(record.timeMs / BUCKET_MS);
        expect(bucket(lane[at]!)).toBeGreaterThan(bucket(lane[at - 1]!));
      }
    },
  };
  return log;
}

/** The `n`-th event; every kind of measure has its share. */
function toEvent(n: number, timeMs: number): object {
  const base = {
    timestamp: new Date(timeMs).toISOString(),
    level: 'info',
    message: `event ${n}`,
    version: `1.${n % 3}`,
    host: `app-${n % 5}`,
    pid: 100 + (n % 7),
    tenantId: `t-${n % 11}`,
  };
  switch (n % 6) {
    case 0: {
      const status = ['completed', 'voicemail', 'failed', 'busy'][n % 4];
      const call = {
        direction: 'outbound',
        status,
        durationMs: n % 300_000,
        attempt: 1 + (n % 3),
        voicemail: n % 4 === 1,
      };
      return { ...base, event: 'call.ended', callId: `c-${n}`, call };
    }
    case 1:
    case 2: {
      const http = { method: 'GET', route: `/r/${n % 9}`, status: n % 20 === 1 ? 503 : 200, durationMs: n % 900 };
      return { ...base, event: 'http.request', http };
    }
    case 3:
      return { ...base, level: 'error', message: `provider ${n % 4} gave up after ${n} ms` };
    case 4: {
      const queue = { name: `q-${n % 3}`, waiting: n % 500, active: 1, completed: n, failed: 0 };
      return { ...base, event: 'queue.stats', queue };
    }
    default:
      return base;
  }
}

it(`${KILLS} SIGKILLs at random moments under load`, async () => {
  const log = await createLog();
  const random = seeded(20261125);
  let limit = 0;
  const finish = log.produceContinuously(() => limit);
  const processes = [];
  for (let kill = 0; kill < KILLS; kill++) {
    const process = log.start();
    processes.push(process);
    limit = log.produced + 5_000;
    await process.waitForLine(/"message":"joined the consumer group"/);
    limit += 40_000;
    // In messages of the counts topic instead of milliseconds: there is always a publication or a commit in the middle.
    const wanted = log.counts.length + 20 + Math.floor(random() * 120);
    await waitFor(() => log.counts.length >= wanted, { what: 'publications', intervalMs: 2, timeoutMs: 60_000 });
    process.kill('SIGKILL');
    await process.exit;
  }
  const last = log.start();
  limit = Math.max(20_000, log.produced);
  await waitFor(() => log.produced >= 20_000, { what: 'enough events', timeoutMs: 60_000 });
  await finish();
  await log.counted();
  last.kill('SIGTERM');
  expect(await last.exit).toEqual({ status: 0, signal: null });
  await log.verify();
  expect(keepBest(log.counts).size).toBeGreaterThan(100);
  // Records sent again were met soon after a start, and their first copies looked for in what the process before had read.
  expect([...processes, last].some((process) => process.stderr().includes('looked back for records'))).toBe(true);
});

it('a second instance joins and leaves under load', async () => {
  const log = await createLog();
  const finish = log.produceContinuously();
  const first = log.start();
  await first.waitForLine(/"message":"joined the consumer group"/);
  for (let round = 0; round < 3; round++) {
    const second = log.start();
    await second.waitForLine(/"message":"joined the consumer group".*"partitions":\[\d/, 60_000);
    const wanted = log.counts.length + 100;
    await waitFor(() => log.counts.length >= wanted, { what: 'publications of two instances', timeoutMs: 60_000 });
    // Once by leaving the group, then by falling silent.
    second.kill(round === 0 ? 'SIGTERM' : 'SIGKILL');
    await second.exit;
  }
  await finish();
  await log.counted();
  await log.verify();
});

// In short the indexer's test shows it (kills.test.ts), which has the same intake.
if (FULL) {
  it('SIGSTOP beyond the session timeout, while another takes over, then SIGCONT', async () => {
    const log = await createLog();
    const finish = log.produceContinuously();
    const sleeper = log.start();
    await sleeper.waitForLine(/"message":"joined the consumer group"/);
    const other = log.start();
    await other.waitForLine(/"message":"joined the consumer group".*"partitions":\[\d/, 60_000);
    const members = async () => {
      const admin = log.kafka.admin();
      await admin.connect();
      try {
        const { state, members: all } = (await admin.describeGroups([log.group])).groups[0]!;
        return state === 'Stable' ? all.length : 0;
      } finally {
        await admin.disconnect();
      }
    };
    for (let round = 0; round < 2; round++) {
      await waitFor(async () => (await members()) === 2, { what: 'two members', timeoutMs: 60_000, intervalMs: 200 });
      const before = log.counts.length + 60;
      await waitFor(() => log.counts.length >= before, { what: 'publications', timeoutMs: 60_000 });
      sleeper.kill('SIGSTOP');
      await waitFor(async () => (await members()) === 1, {
        what: 'the sleeper is expelled',
        timeoutMs: 60_000,
        intervalMs: 200,
      });
      const wanted = log.counts.length + 60;
      await waitFor(() => log.counts.length >= wanted, { what: 'publications of the survivor', timeoutMs: 60_000 });
      // It wakes up with partitions in mind that are another's, and with open buckets it will publish.
      sleeper.kill('SIGCONT');
    }
    await waitFor(async () => (await members()) === 2, {
      what: 'the sleeper is back',
      timeoutMs: 60_000,
      intervalMs: 200,
    });
    await finish();
    await log.counted();
    await log.verify();
  });
}
