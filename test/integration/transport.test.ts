// The transport on a real Kafka: what arrives, what happens while Kafka is away, and what is counted.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaMessage } from 'kafkajs';
import kafkajs from 'kafkajs';
import { describe, expect, it, onTestFinished } from 'vitest';
import winston from 'winston';
import { registerCodecs } from '../../src/core/kafka/codecs.ts';
import { createLogger, KafkaTransport, type KafkaTransportOptions, startProcessStats } from '../../src/ship/index.ts';
import { createTopic, spawnScript, startKafka, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';

registerCodecs();

async function topicFor(brokers = testBrokers(), partitions = 1): Promise<string> {
  const topic = uniqueName('transport');
  await createTopic(brokers, topic, { partitions });
  return topic;
}

function loggerTo(topic: string, more: Partial<KafkaTransportOptions> = {}) {
  const transport = new KafkaTransport({
    brokers: testBrokers(),
    topic,
    service: 'api',
    environment: 'test',
    batch: { maxDelayMs: 20 },
    closeTimeoutMs: 10_000,
    ...more,
  });
  onTestFinished(async () => void (await transport.close()));
  const format = winston.format.combine(winston.format.timestamp(), winston.format.json());
  return { transport, logger: winston.createLogger({ format, transports: [transport] }) };
}

/** Reads `count` records from the beginning of a topic. */
async function read(
  topic: string,
  count: number,
  brokers = testBrokers(),
): Promise<(KafkaMessage & { partition: number })[]> {
  const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
  const consumer = kafka.consumer({ groupId: uniqueName('reader'), maxWaitTimeInMs: 50 });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const messages: (KafkaMessage & { partition: number })[] = [];
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ message, partition }) => void messages.push({ ...message, partition }),
  });
  try {
    await waitFor(() => messages.length >= count, { what: `${count} records in ${topic}` });
  } finally {
    await consumer.disconnect();
  }
  return messages;
}

describe('what arrives', () => {
  it.each(['none', 'gzip', 'snappy', 'lz4'] as const)(
    'with compression %s: each record once, in order, with key and header',
    async (compression) => {
      const topic = await topicFor();
      const { logger, transport } = loggerTo(topic, { compression });
      for (let n = 0; n < 1_200; n++) logger.info(`event ${n}`, n % 2 === 0 ? { callId: `CA${n}` } : {});
      expect(await transport.close()).toEqual({ delivered: 1_200, dropped: 0, undelivered: 0 });
      const messages = await read(topic, 1_200);
      expect(messages.map((m) => (JSON.parse(m.value!.toString()) as { message: string }).message)).toEqual(
        Array.from({ length: 1_200 }, (_, n) => `event ${n}`),
      );
      const [first, second] = messages;
      const doc = JSON.parse(first!.value!.toString()) as Record<string, unknown>;
      expect(first!.key?.toString()).toBe('CA0');
      expect(second!.key).toBeNull();
      const { sentAt, ...headers } = first!.headers!;
      expect(Math.abs(Number(sentAt) - Date.now())).toBeLessThan(60_000);
      expect(headers).toEqual({ eventId: Buffer.from(String(doc.eventId)) });
      expect(doc).toMatchObject({
        level: 'info',
        message: 'event 0',
        service: 'api',
        environment: 'test',
        callId: 'CA0',
        pid: process.pid,
      });
      expect(new Set(messages.map((m) => m.headers?.eventId?.toString())).size).toBe(1_200);
    },
  );

  it('one call stays on one partition, where kafkajs and Java would put it too', async () => {
    const topic = await topicFor(testBrokers(), 4);
    const { logger, transport } = loggerTo(topic);
    for (let n = 0; n < 40; n++) logger.info(`event ${n}`, { callId: `CA${n % 4}` });
    await transport.close();
    const producer = new kafkajs.Kafka({ brokers: testBrokers(), logLevel: kafkajs.logLevel.NOTHING }).producer({
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    });
    await producer.connect();
    for (let n = 0; n < 4; n++) await producer.send({ topic, messages: [{ key: `CA${n}`, value: '{}' }] });
    await producer.disconnect();
    const partitions = new Map<string, Set<number>>();
    for (const { key, partition } of await read(topic, 44)) {
      const seen = partitions.get(key!.toString()) ?? new Set();
      partitions.set(key!.toString(), seen.add(partition));
    }
    expect([...partitions.values()].map((seen) => seen.size)).toEqual([1, 1, 1, 1]);
  });

  it('createLogger: the same line and eventId in file and Kafka; finish means delivered', async () => {
    const topic = await topicFor();
    const folder = mkdtempSync(join(tmpdir(), 'logpipe-transport-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'app.log');
    const logger = createLogger({ brokers: testBrokers(), topic, service: 'api', console: false, file });
    logger.error('failed', new Error('boom'));
    const stop = startProcessStats({ logger, intervalMs: 50 });
    await waitFor(() => /"system\.stats"/.test(readFileSync(file, 'utf8')), { what: 'stats in the file' });
    stop();
    const finished = new Promise((resolve) => logger.once('finish', resolve));
    logger.end();
    await finished;
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    const records = await read(topic, lines.length);
    expect(records.map((m) => m.value!.toString())).toEqual(lines);
    expect(records.map((m) => m.headers?.eventId?.toString())).toEqual(
      lines.map((line) => (JSON.parse(line) as { eventId: string }).eventId),
    );
    const stats = lines
      .map((line) => JSON.parse(line) as Record<string, Record<string, number>>)
      .find((doc) => String(doc.event) === 'process.stats');
    expect(stats?.process).toMatchObject({
      heapUsedBytes: expect.any(Number),
      heapLimitBytes: expect.any(Number),
      rssBytes: expect.any(Number),
      cpuSecondsTotal: expect.any(Number),
    });
  });
});

it('a script that logs and simply ends has its records delivered and does end', async () => {
  const topic = await topicFor();
  const script = spawnScript('test/kit/log-and-end.js', [testBrokers()[0]!, topic]);
  expect(await script.exit).toEqual({ status: 0, signal: null });
  expect(await read(topic, 2)).toHaveLength(2);
});

describe('Kafka away', () => {
  it('at the start and in between: nothing is lost within the queue, each episode is told once', async () => {
    const kafka = await startKafka({});
    const topic = await topicFor(kafka.brokers);
    kafka.kill();
    const { logger, transport } = loggerTo(topic, { brokers: kafka.brokers, closeTimeoutMs: 30_000 });
    let failures = 0;
    transport.on('send-failed', () => failures++);
    for (let n = 0; n < 100; n++) logger.info(`event ${n}`);
    await waitFor(() => failures === 1, { what: 'send-failed', timeoutMs: 30_000 });
    await kafka.start();
    await waitFor(() => transport.stats().delivered === 100, { what: 'delivery after the start', timeoutMs: 40_000 });
    expect(failures).toBe(1);
    expect(await transport.close()).toEqual({ delivered: 100, dropped: 0, undelivered: 0 });
    const seen = new Set((await read(topic, 100, kafka.brokers)).map((m) => m.headers?.eventId?.toString()));
    expect(seen.size).toBe(100);
  });

  it('the queue stays bounded, drops are counted, and close() keeps its deadline', async () => {
    const { logger, transport } = loggerTo('nowhere', {
      brokers: ['127.0.0.1:1'],
      queue: { maxRecords: 500 },
      closeTimeoutMs: 300,
    });
    let notices = 0;
    transport.on('dropped', () => notices++);
    for (let n = 0; n < 2_000; n++) logger.info(`event ${n}`);
    expect(transport.stats()).toMatchObject({ delivered: 0, queuedRecords: 500, dropped: { 'queue-full': 1_500 } });
    expect(notices).toBe(1);
    const started = performance.now();
    expect(await transport.close()).toEqual({ delivered: 0, dropped: 1_500, undelivered: 500 });
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});
