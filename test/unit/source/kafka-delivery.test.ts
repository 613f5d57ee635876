// Batches that come as one message: slices with backpressure, letters, and what may be committed meanwhile.
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import type { Batch, KafkaMessage } from 'kafkajs';
import { beforeAll, describe, expect, test } from 'vitest';
import { registerCodecs } from '../../../src/core/kafka/codecs.ts';
import type { Chunk } from '../../../src/core/record.ts';
import { createKafkaDelivery } from '../../../src/source/kafka/intake.ts';
import { createOffsetTracker } from '../../../src/source/kafka/offset-tracker.ts';
import {
  createAllowance,
  decodeBatch,
  type FetchedRecord,
  firstOffsetOf,
} from '../../../src/source/kafka/record-batch.ts';
import { encodeBatch } from './batches.ts';

const require = createRequire(import.meta.url);
const KafkaBatch = require('kafkajs/src/consumer/batch') as new (
  topic: string,
  fetchedOffset: string,
  data: object,
) => Batch;
const MIB = 1024 * 1024;

beforeAll(registerCodecs);

/** What kafkajs makes of these batches of one partition, read from `fetched` on. */
async function batchOf(bodies: readonly Buffer[], fetched: number, aborted: object[] = []): Promise<Batch> {
  const messages: FetchedRecord[] = [];
  const left = createAllowance();
  for (const body of bodies) await decodeBatch(body, { place: 't/0', end: 1e6, isFirst: true }, left, messages);
  const data = { partition: 0, highWatermark: '1000000', abortedTransactions: aborted, messages };
  return new KafkaBatch('t', String(fetched), data);
}

const record = (offsetDelta: number, value: Buffer, timestampDelta = 0) => ({
  offsetDelta,
  timestampDelta,
  key: null,
  value,
  headers: [],
});
const SHARED = { firstTimestamp: 5_000, producerId: -1, transactional: false, appendTime: false, control: false };
const large = (firstOffset: number, count: number, more: object = {}) =>
  encodeBatch({
    ...SHARED,
    firstOffset,
    compression: 1,
    records: Array.from({ length: count }, (_, i) => record(i, Buffer.alloc(MIB, 97), i * 1_000)),
    ...more,
  });
const small = (firstOffset: number, count: number) =>
  encodeBatch({
    ...SHARED,
    firstOffset,
    compression: 0,
    records: Array.from({ length: count }, (_, i) => record(i, Buffer.from('x'))),
  });
async function broken(firstOffset: number, count: number): Promise<Buffer> {
  const batch = await small(firstOffset, count);
  batch[61] = 1;
  return batch;
}

function setUp(splitMs?: number) {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  const chunks: Chunk[] = [];
  const waiting: (() => void)[] = [];
  const state = { stopping: false };
  const delivery = createKafkaDelivery(
    { topic: 't', splitMs },
    {
      tracker,
      deliver(chunk) {
        chunks.push(chunk);
        return new Promise((resolve) => waiting.push(resolve));
      },
      isStopping: () => state.stopping,
    },
  );
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise((resolve) => setImmediate(resolve));
  };
  return { tracker, chunks, waiting, state, delivery, until };
}

describe('a packed batch between others', () => {
  test('comes in slices, each when the one before was taken, and covers every offset', async () => {
    const { tracker, chunks, waiting, delivery, until } = setUp();
    const batch = await batchOf([await small(100, 3), await large(103, 30), await small(133, 2)], 100);
    expect(firstOffsetOf(batch)).toBe(100);
    const taken = delivery.take(batch);
    let seen = 0;
    let over = false;
    void taken.then(() => (over = true));
    while (!over) {
      await until(() => waiting.length > 0 || over);
      if (over) break;
      // One at a time: nothing is unpacked for a pipeline that is full.
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(waiting).toHaveLength(1);
      const chunk = chunks.at(-1)!;
      expect(chunk.bytes).toBeLessThanOrEqual(4 * MIB);
      for (const { offset } of chunk.records) expect(offset).toBe(100 + seen++);
      expect(tracker.committable(0) ?? 100).toBe(chunk.records.at(0)!.offset);
      chunk.done(chunk.records.length);
      waiting.pop()!();
    }
    expect(seen).toBe(35);
    expect(chunks.length).toBeGreaterThan(8);
    expect(tracker.committable(0)).toBe(135);
  });

  test('begins where the reading begins, and ends with its assignment', async () => {
    const { tracker, chunks, waiting, delivery, until } = setUp();
    const batch = await batchOf([await large(100, 30)], 117);
    expect(firstOffsetOf(batch)).toBe(117);
    const taken = delivery.take(batch);
    await until(() => chunks.length === 1);
    expect(chunks[0]!.records.at(0)!.offset).toBe(117);
    tracker.reset(2);
    waiting.pop()!();
    await taken;
    expect(chunks).toHaveLength(1);
    expect(tracker.position(0)).toBeUndefined();
  });

  test('is cut at arrival buckets like any other', async () => {
    const { chunks, waiting, delivery, until } = setUp(10_000);
    let over = false;
    void delivery.take(await batchOf([await large(0, 30)], 0)).then(() => (over = true));
    while (!over) {
      await until(() => waiting.length > 0 || over);
      waiting.pop()?.();
    }
    for (const { records } of chunks) {
      expect(new Set([...records].map(({ timeMs }) => Math.floor(timeMs / 10_000))).size).toBe(1);
    }
    expect(chunks.flatMap(({ records }) => [...records])).toHaveLength(30);
  });

  test('of an aborted transaction is dropped with it', async () => {
    const aborted = await large(0, 30, { transactional: true, producerId: 7 });
    const batch = await batchOf([aborted, await small(30, 1)], 0, [{ producerId: '7', firstOffset: '0' }]);
    expect(batch.messages.map(({ offset }) => offset)).toEqual(['30']);
  });
});

describe('a batch that cannot be read', () => {
  test('is one record that covers its offsets; nothing is committed before it is accounted for', async () => {
    const { tracker, chunks, waiting, delivery } = setUp();
    const taken = delivery.take(await batchOf([await small(90, 10), await broken(100, 50), await small(150, 1)], 90));
    const [chunk] = chunks;
    expect([...chunk!.records].map(({ offset }) => offset)).toEqual([
      ...Array.from({ length: 11 }, (_, i) => 90 + i),
      150,
    ]);
    expect(chunk!.records.at(10)).toMatchObject({ value: null, refusal: { reason: 'batch_undecodable' } });
    expect(chunk!.records.at(10)!.refusal!.detail).toContain('t/0, offsets 100 to 149');
    chunk!.done(11);
    expect(tracker.committable(0)).toBeUndefined();
    chunk!.done(1);
    expect(tracker.committable(0)).toBe(151);
    waiting.pop()!();
    await taken;
  });

  test('also when it turns out while it is unpacked, in the middle of others', async () => {
    const { tracker, chunks, waiting, delivery, until } = setUp();
    const whole = await large(100, 30, { compression: 0 });
    const batch = Buffer.concat([whole.subarray(0, 61), gzipSync(whole.subarray(61)).subarray(0, -500)]);
    batch[22] = 1;
    batch.writeInt32BE(batch.length - 12, 8);
    const { seal } = await import('./batches.ts');
    seal(batch);
    let over = false;
    void delivery.take(await batchOf([batch, await small(130, 2)], 100)).then(() => (over = true));
    while (!over) {
      await until(() => waiting.length > 0 || over);
      if (over) break;
      chunks.at(-1)!.done(chunks.at(-1)!.records.length);
      waiting.pop()!();
    }
    const records = chunks.flatMap((chunk) => [...chunk.records]);
    expect(records.map(({ offset, refusal }) => [offset, refusal?.reason])).toEqual([
      [100, 'batch_undecodable'],
      [130, undefined],
      [131, undefined],
    ]);
    expect(tracker.committable(0)).toBe(132);
  });
});

test('a record time that no date can hold is brought into range', async () => {
  const { toRecords } = await import('../../../src/source/kafka/record-batch.ts');
  const times = ['-1', '9223372036854775807', '1700000000000'].map(
    (timestamp) =>
      ({ offset: '1', timestamp, value: Buffer.from('x'), key: null, headers: {} }) as unknown as KafkaMessage,
  );
  const records = toRecords(times);
  expect(records.map(({ timeMs }) => new Date(timeMs).toISOString().slice(0, 4))).toEqual(['1970', '9999', '2023']);
});

describe('the brokers’ clock set back by an hour', () => {
  const HOUR = 3_600_000;
  const dated = (firstOffset: number, firstTimestamp: number, appendTime = true) =>
    encodeBatch({
      ...SHARED,
      firstOffset,
      firstTimestamp,
      appendTime,
      compression: 0,
      records: [0, 1].map((i) => record(i, Buffer.from('x'), i)),
    });
  const setBacks = async (batches: readonly (readonly Buffer[])[], splitMs?: number) => {
    const { chunks, waiting, delivery, until } = setUp(splitMs);
    let fetched = 0;
    for (const bodies of batches) {
      let over = false;
      void delivery.take(await batchOf(bodies, fetched)).then(() => (over = true));
      while (!over) {
        await until(() => waiting.length > 0 || over);
        waiting.pop()?.();
      }
      fetched += bodies.length * 2;
    }
    return chunks.map(({ records, setBack }) => `${records.at(0)!.offset}${setBack ? ' set back' : ''}`);
  };

  test('begins a chunk that says so, within a fetch and between two', async () => {
    const now = 10 * HOUR;
    expect(await setBacks([[await dated(0, now), await dated(2, now - HOUR)]], 10_000)).toEqual(['0', '2 set back']);
    const apart = [[await dated(0, now)], [await dated(2, now - HOUR), await dated(4, now - HOUR + 20_000)]];
    expect(await setBacks(apart, 10_000)).toEqual(['0', '2 set back', '4']);
    // Another leader's clock, a little behind; and whoever needs no buckets needs no word.
    expect(await setBacks([[await dated(0, now), await dated(2, now - 30_000)]], 10_000)).toEqual(['0']);
    expect(await setBacks([[await dated(0, now), await dated(2, now - HOUR)]])).toEqual(['0']);
  });

  test('is not what producers’ clocks say', async () => {
    const now = 10 * HOUR;
    const bodies = [await dated(0, now, false), await dated(2, now - HOUR, false), await dated(4, now, false)];
    expect(await setBacks([bodies], 10_000)).toEqual(['0']);
  });
});
