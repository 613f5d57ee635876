// Every codec Kafka knows, written by others and by us. The broker itself compresses again when a topic asks for a
// codec, so it both produces what we have to read and reads what we have written.
import kafkajs from 'kafkajs';
import * as snappy from 'snappy';
import { describe, expect, it } from 'vitest';
import { snappyCodec, zstdCodec } from '../../src/core/kafka/codecs.ts';
import { silentLog } from '../../src/core/log.ts';
import { readTopic } from '../../src/source/kafka/topic-reader.ts';
import { createTopic, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';
import { kafkaConfig, numbered, openSource, produce, testAdmin, testKafka, untilCommitted } from './intake-kit.ts';

// Long and repetitive enough for several blocks of every codec, with bytes that are no text.
const values = Array.from({ length: 300 }, (_, i) =>
  Buffer.concat([Buffer.from(`{"n":${i},"x":"${'abc'.repeat(i)}"}`), Buffer.from([0, 255, i])]),
);

async function roundTrip(topicConfig: Record<string, string>, compression: number) {
  const topic = uniqueName('codec');
  await createTopic(testBrokers(), topic, { partitions: 1, config: topicConfig });
  const config = kafkaConfig({ topic });
  const taken = await openSource(config, { auto: true });
  await produce(
    topic,
    0,
    values.map((value) => ({ value })),
    { compression },
  );
  await waitFor(() => taken.records.length === values.length, { what: `${values.length} records` });
  expect(taken.records.every(({ value }, i) => value!.equals(values[i]!))).toBe(true);
}

describe('written by the broker', () => {
  it.each(['gzip', 'snappy', 'lz4', 'zstd'])('%s', async (codec) => {
    await roundTrip({ 'compression.type': codec }, kafkajs.CompressionTypes.None);
  });
});

describe('written by us', () => {
  const written = Object.entries({ gzip: 1, snappy: 2, lz4: 3 });

  it.each(written)('%s, read by the broker', async (_name, compression) => {
    await roundTrip({ 'compression.type': 'zstd' }, compression);
  });

  it.each(written)('%s, read by us', async (_name, compression) => {
    await roundTrip({ 'compression.type': 'producer' }, compression);
  });

  it('zstd is refused with what to use instead', async () => {
    const topic = uniqueName('codec');
    await createTopic(testBrokers(), topic, { partitions: 1 });
    const admin = await testAdmin();
    const producer = testKafka().producer({
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
      retry: { retries: 0 },
    });
    await producer.connect();
    await expect(
      producer.send({ topic, compression: kafkajs.CompressionTypes.ZSTD, messages: [{ value: 'x' }] }),
    ).rejects.toThrow('use none, gzip, snappy or lz4');
    await producer.disconnect();
    expect((await admin.fetchTopicOffsets(topic))[0]!.high).toBe('0');
    await expect(zstdCodec.compress({ buffer: Buffer.from('x') })).rejects.toThrow('zstd');
  });
});

describe('batches that unpack to much more', () => {
  const MIB = 1024 * 1024;
  const large = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ value: Buffer.alloc(MIB, 97 + (i % 26)) }));

  it('two of 100 MB each and a bomb: slices and one letter, and the group is not left meanwhile', async () => {
    const topic = uniqueName('codec');
    await createTopic(testBrokers(), topic, { partitions: 1, config: { 'compression.type': 'producer' } });
    for (const count of [100, 140, 100]) {
      await produce(topic, 0, large(count), { compression: kafkajs.CompressionTypes.GZIP });
    }
    await produce(topic, 0, numbered(0, 5));
    const config = kafkaConfig({ topic });
    // Shorter than what the unpacking takes in all, on most machines.
    const taken = await openSource(config, { auto: true, intake: { sessionTimeoutMs: 3_000, heartbeatMs: 500 } });
    await waitFor(() => taken.records.at(-1)?.offset === 344, { what: 'the last record', timeoutMs: 100_000 });
    expect(taken.joins).toHaveLength(1);
    const offsets = [...Array.from({ length: 101 }, (_, i) => i), ...Array.from({ length: 105 }, (_, i) => 240 + i)];
    expect(taken.records.map(({ offset }) => offset)).toEqual(offsets);
    expect(taken.records[100]!.refusal).toMatchObject({
      reason: 'batch_too_large',
      detail: expect.stringContaining(`${topic}/0, offsets 100 to 239`),
    });
    expect(taken.records[339 - 139]!.value!.equals(Buffer.alloc(MIB, 97 + (99 % 26)))).toBe(true);
    for (const { bytes } of taken.chunks) expect(bytes).toBeLessThanOrEqual(4 * MIB);
    await untilCommitted(await testAdmin(), config, 0, 345);
  });

  it('90,000 tiny records, with and without compression, also for a reader that leaves no trace', async () => {
    const topic = uniqueName('codec');
    await createTopic(testBrokers(), topic, { partitions: 1, config: { 'compression.type': 'producer' } });
    // In all more than an answer brings unpacked; of larger batches kafkajs's producer copies its list once a message.
    const tiny = Array.from({ length: 15_000 }, () => ({ value: Buffer.from('x') }));
    for (let i = 0; i < 6; i++) {
      const compression = i % 2 === 0 ? kafkajs.CompressionTypes.GZIP : kafkajs.CompressionTypes.None;
      await produce(topic, 0, tiny, { compression, batchOf: tiny.length });
    }
    const config = kafkaConfig({ topic });
    const taken = await openSource(config, { auto: true });
    await waitFor(() => taken.records.length === 90_000, { what: 'all records', timeoutMs: 60_000 });
    expect(taken.records.every(({ offset }, i) => offset === i)).toBe(true);
    let next = 0;
    await readTopic(
      config,
      {
        topic,
        purpose: 'test',
        from: 'beginning',
        follow: false,
        onRecord({ offset }) {
          if (Number(offset) !== next) throw new Error(`offset ${offset} where ${next} was expected`);
          next += 1;
          return true;
        },
      },
      silentLog,
    );
    expect(next).toBe(90_000);
  });
});

describe('snappy', () => {
  const data = Buffer.from('snappy '.repeat(20_000));

  it('without framing, as librdkafka writes it', async () => {
    expect((await snappyCodec.decompress(snappy.compressSync(data))).equals(data)).toBe(true);
  });

  it('with framing in several blocks, and cut short', async () => {
    const framed = await snappyCodec.compress({ buffer: data });
    expect(framed.subarray(0, 8).toString('latin1')).toBe('\u0082SNAPPY\u0000');
    expect((await snappyCodec.decompress(framed)).equals(data)).toBe(true);
    await expect(snappyCodec.decompress(framed.subarray(0, -1))).rejects.toThrow('does not fit');
  });
});
