// The Kafka source on a real broker: what is committed, and when.
import { describe, expect, it } from 'vitest';
import { createEventIds } from '../../src/core/record.ts';
import { createTopic, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';
import {
  committedOffsets,
  kafkaConfig,
  numbered,
  openSource,
  produce,
  testAdmin,
  testKafka,
  untilCommitted,
} from './intake-kit.ts';

async function newTopic(partitions = 1, config: Record<string, string> = {}) {
  const topic = uniqueName('intake');
  await createTopic(testBrokers(), topic, { partitions, config });
  return kafkaConfig({ topic });
}

const until = (what: string, condition: () => unknown) => waitFor(condition, { what });

describe('records', () => {
  it('arrive with offset, append time, format-checked event id and tombstones as null', async () => {
    const config = await newTopic();
    const id = createEventIds()();
    const before = Date.now();
    await produce(config.topics.logs, 0, [
      { value: 'one', headers: { eventId: id } },
      { value: 'two', headers: { eventId: 'not-an-id' } },
      { value: 'three', headers: { eventId: id.toLowerCase(), other: 'x' } },
      null,
      '',
    ]);
    const taken = await openSource(config);
    await until('five records', () => taken.records.length === 5);
    expect(taken.records.map(({ offset, value, eventId }) => [offset, value?.toString() ?? null, eventId])).toEqual([
      [0, 'one', id],
      [1, 'two', undefined],
      [2, 'three', undefined],
      [3, null, undefined],
      [4, '', undefined],
    ]);
    for (const record of taken.records) {
      expect(record.timeMs).toBeGreaterThanOrEqual(before - 1_000);
      expect(record.timeMs).toBeLessThanOrEqual(Date.now() + 1_000);
    }
    expect(taken.chunks[0]!.bytes).toBe('onetwothree'.length);
  });
});

describe('commits', () => {
  it('follow the highest contiguous acknowledged record, whatever the order', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 30), { batchOf: 10 });
    // Small fetches, so that the three batches become three chunks.
    const taken = await openSource(config, { intake: { fetchMaxBytesPerPartition: 100 } });
    await until('three chunks', () => taken.chunks.length === 3);
    const [first, second, third] = taken.chunks;
    third!.done(10);
    second!.done(9);
    first!.done(10);
    await untilCommitted(admin, config, 0, 10);
    second!.done(1);
    await untilCommitted(admin, config, 0, 30);
    await produce(config.topics.logs, 0, numbered(30, 5));
    await until('the rest', () => taken.records.length === 35);
    expect(taken.records.map(({ offset }) => offset)).toEqual(Array.from({ length: 35 }, (_, i) => i));
  });

  it('pass transaction markers, aborted records, and batches of nothing else', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    const producer = testKafka().producer({
      transactionalId: uniqueName('tx'),
      idempotent: true,
      maxInFlightRequests: 1,
    });
    await producer.connect();
    const send = async (values: string[], commit: boolean) => {
      const transaction = await producer.transaction();
      await transaction.send({ topic: config.topics.logs, messages: values.map((value) => ({ value, partition: 0 })) });
      await (commit ? transaction.commit() : transaction.abort());
    };
    await send(['a', 'b'], true);
    const taken = await openSource(config, { auto: true });
    // Two records and a marker; then two aborted records and a marker, none of which is ever delivered.
    await untilCommitted(admin, config, 0, 3);
    await send(['no', 'no'], false);
    await untilCommitted(admin, config, 0, 6);
    await send(['c'], true);
    await untilCommitted(admin, config, 0, 8);
    expect(taken.records.map(({ value }) => String(value))).toEqual(['a', 'b', 'c']);
    expect(await taken.metric('dropped')).toBe(0);
    await producer.disconnect();
  });

  it('take what is acknowledged between stop and close, and nothing is delivered after stop', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 40), { batchOf: 10 });
    const taken = await openSource(config, {
      intake: { commitIntervalMs: 60_000, fetchMaxBytesPerPartition: 100 },
      hold: true,
    });
    // The first chunk blocks, the second batch has been fetched and waits for it.
    await until('a chunk and a waiting batch', async () => {
      return taken.chunks.length === 1 && (await taken.metric('lag')) === 40;
    });
    await taken.source.stop();
    taken.release();
    expect(taken.source.status()).toMatchObject({ ready: false, detail: 'stopped' });
    taken.chunks[0]!.done(10);
    await taken.source.close();
    expect((await committedOffsets(admin, config.group, config.topics.logs)).get(0)).toBe(10);
    expect(taken.records).toHaveLength(10);
    // It has left instead of being waited for.
    const { groups } = await admin.describeGroups([config.group]);
    expect(groups[0]!.members).toEqual([]);
  });
});

describe('rebalances', () => {
  it('late acknowledgements of a former owner do not move the new owner’s offset', async () => {
    const config = await newTopic(2);
    const admin = await testAdmin();
    for (const partition of [0, 1]) await produce(config.topics.logs, partition, numbered(0, 50));
    const slow = await openSource(config);
    await until('both partitions', () => slow.records.length === 100);
    const held = [...slow.chunks];

    const quick = await openSource(config, { auto: true });
    await until(
      'one partition each',
      () => slow.joins.at(-1)!.partitions.length === 1 && quick.joins.at(-1)!.partitions.length === 1,
    );
    const [moved] = quick.joins.at(-1)!.partitions as [number];
    for (const partition of [0, 1]) await produce(config.topics.logs, partition, numbered(50, 50));
    await untilCommitted(admin, config, moved, 100);

    for (const chunk of held) chunk.done(chunk.records.length);
    // The slow one commits again for what it still owns, which a stray commit would have travelled with.
    slow.auto = true;
    for (const chunk of slow.chunks.slice(held.length)) chunk.done(chunk.records.length);
    await produce(config.topics.logs, 1 - moved, numbered(100, 1));
    await untilCommitted(admin, config, 1 - moved, 101);
    expect((await committedOffsets(admin, config.group, config.topics.logs)).get(moved)).toBe(100);
    expect(await slow.metric('staleAcks')).toBe(100);

    // The quick one leaves: the other reads on from where it was, not from its own old position.
    await quick.source.stop();
    await quick.source.close();
    await until('both partitions again', () => slow.joins.at(-1)!.partitions.length === 2);
    const seen = slow.records.length;
    await produce(config.topics.logs, moved, numbered(100, 1));
    await untilCommitted(admin, config, moved, 101);
    expect(slow.records.slice(seen).map(({ partition, offset }) => [partition, offset])).toEqual([[moved, 100]]);
  });

  it('what is finished is committed when a rebalance is noticed', async () => {
    const config = await newTopic(2);
    const admin = await testAdmin();
    for (const partition of [0, 1]) await produce(config.topics.logs, partition, numbered(0, 10));
    const first = await openSource(config, { intake: { commitIntervalMs: 60_000 } });
    await until('both partitions', () => first.records.length === 20);
    for (const chunk of first.chunks) chunk.done(chunk.records.length);
    const second = await openSource(config, { auto: true });
    await until('a second assignment', () => first.joins.length === 2 && second.joins.length > 0);
    expect(await committedOffsets(admin, config.group, config.topics.logs)).toEqual(
      new Map([
        [0, 10],
        [1, 10],
      ]),
    );
    expect(second.records).toEqual([]);
  });

  it('a member held back for longer than its session timeout stays in the group', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 40), { batchOf: 10 });
    const taken = await openSource(config, {
      auto: true,
      intake: { sessionTimeoutMs: 1_000, heartbeatMs: 200, fetchMaxBytesPerPartition: 100 },
      hold: true,
    });
    await until('the chunk that blocks', () => taken.chunks.length === 1);
    const since = Date.now();
    await until('three session timeouts with one and the same member', async () => {
      const { groups } = await admin.describeGroups([config.group]);
      expect(groups[0]!.members).toHaveLength(1);
      return Date.now() - since > 3_000;
    });
    expect(taken.chunks).toHaveLength(1);
    taken.release();
    await untilCommitted(admin, config, 0, 40);
    expect(taken.joins).toHaveLength(1);
    expect(taken.records.map(({ offset }) => offset)).toEqual(Array.from({ length: 40 }, (_, i) => i));
  });
});
