// Every codec Kafka knows, written by others and by us. The broker itself compresses again when a topic asks for a
// codec, so it both produces what we have to read and reads what we have written.
import kafkajs from 'kafkajs';
import * as snappy from 'snappy';
import { describe, expect, it } from 'vitest';
import { snappyCodec, zstdCodec } from '../../src/core/kafka-codecs.ts';
import { createTopic, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';
import { kafkaConfig, openSource, produce, testAdmin, testKafka } from './intake-kit.ts';

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
