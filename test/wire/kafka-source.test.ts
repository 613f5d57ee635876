// The source against brokers at the wire: what is in flight when its group joins again is read again, and an acknowledgement that
// comes late moves nothing. The coordinator takes commits of the present generation only.
import { expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { Chunk } from '../../src/core/record.ts';
import { createKafka, type IntakeConfig, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { createKafkaSource } from '../../src/source/kafka/intake.ts';
import { startScriptedKafka } from '../kit/scripted-kafka.ts';

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });

async function setUp() {
  const scripted = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const config = {
    ...{ brokers: scripted.brokers, clientId: 'test', ssl: false, connectionTimeoutMs: 3_000, requestTimeoutMs: 5_000 },
    ...{ topics: { logs: scripted.topic }, group: 'g' },
  } as unknown as KafkaConfig;
  const intake: IntakeConfig = {
    ...{ maxWaitMs: 50, fetchMaxBytes: 1e6, fetchMaxBytesPerPartition: 1e6, commitIntervalMs: 10 },
    ...{ sessionTimeoutMs: 2_000, heartbeatMs: 50, giveUpAfter: 3 },
  };
  const kafka = createKafka(config, silentLog);
  const metrics = createMetrics();
  const source = createKafkaSource({ config, intake, deps: { kafka, log: silentLog, metrics, clock: systemClock } });
  const chunks: { chunk: Chunk; take(): void }[] = [];
  await source.start((chunk) => new Promise((take) => chunks.push({ chunk, take })));
  onTestFinished(() => source.close());
  const producer = kafka.producer({ createPartitioner: () => () => 0, idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  onTestFinished(() => producer.disconnect());
  const write = (count: number) =>
    producer.send({ topic: scripted.topic, messages: Array.from({ length: count }, () => ({ value: '{}' })) });
  const nextChunk = async () => {
    await until(() => expect(chunks).not.toEqual([]));
    const { chunk, take } = chunks.shift()!;
    const offsets = [...chunk.records].map(({ offset }) => offset);
    return { offsets, take, done: () => chunk.done(offsets.length) };
  };
  const stale = async () => (await metrics.staleAcks.get()).values[0]?.value ?? 0;
  return { scripted, source, chunks, write, nextChunk, stale };
}

test('a rebalance with records in flight: they come again, and only their second acknowledgement is committed', async () => {
  const { scripted, source, write, nextChunk, stale } = await setUp();
  const { asked } = scripted.group;
  await write(3);
  const first = await nextChunk();
  expect(first.offsets).toEqual([0, 1, 2]);
  first.take();
  first.done();
  await until(() => expect(asked).toEqual(['join', 'sync', 'commit 0:3']));

  await write(2);
  const late = await nextChunk();
  expect(late.offsets).toEqual([3, 4]);
  // Not taken yet: the intake is held back, and hears of the rebalance by its heartbeats all the same.
  await write(1);
  const joined = new Promise<void>((resolve) => source.events.once('joined', () => resolve()));
  scripted.group.rebalance();
  await joined;
  const again = new Promise<void>((resolve) => source.events.once('committed', () => resolve()));
  late.take();
  late.done();
  const second = await nextChunk();
  expect(second.offsets[0]).toBe(3);
  expect(await stale()).toBe(2);
  expect(asked.filter((one) => one.startsWith('commit'))).toEqual(['commit 0:3']);
  second.take();
  second.done();
  await again;
  const end = second.offsets.at(-1)! + 1;
  expect(asked.filter((one) => one.startsWith('commit'))).toEqual(['commit 0:3', `commit 0:${end}`]);
});

test('what is acknowledged between stop and close is committed before the group is left, and nothing more is delivered', async () => {
  const { scripted, source, chunks, write, nextChunk } = await setUp();
  await write(3);
  const only = await nextChunk();
  only.take();
  await source.stop();
  await write(3);
  only.done();
  await source.close();
  expect(chunks).toEqual([]);
  expect(scripted.group.asked).toEqual(['join', 'sync', 'commit 0:3', 'leave']);
});

test('batches that compaction has emptied: read past and committed, though no record comes of them', async () => {
  const { scripted, source, write, nextChunk } = await setUp();
  const { asked } = scripted.group;
  await write(3);
  (await nextChunk()).take();
  scripted.emptyBatches(0);
  scripted.group.rebalance();
  await until(() => expect(asked).toContain('commit 0:3'));
  await until(() => expect(source.positions()).toMatchObject([{ position: 3, end: 3, caughtUp: true }]));
  await write(1);
  const next = await nextChunk();
  expect(next.offsets).toEqual([3]);
  next.take();
  next.done();
  await until(() => expect(asked).toContain('commit 0:4'));
});
