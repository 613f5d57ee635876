// Which partition a record ends up in, and what stops when a leader is missing or a broker is silent: the transport against
// brokers at the wire that do what the test says.
import { expect, onTestFinished, test, vi } from 'vitest';
import winston from 'winston';
import { KafkaTransport } from '../../src/ship/index.ts';
import { choosePartition } from '../../src/ship/queue.ts';
import { type ScriptedKafka, type StoredRecord, startScriptedKafka } from '../kit/scripted-kafka.ts';

const NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20;
const OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
const TOPIC_AUTHORIZATION_FAILED = 29;
const MESSAGE_TOO_LARGE = 10;

function driveTransport(kafka: ScriptedKafka, options: { maxRecords?: number } = {}) {
  const transport = new KafkaTransport({
    ...{ brokers: kafka.brokers, topic: kafka.topic, service: 'api', closeTimeoutMs: 1_000 },
    ...{ batch: { maxDelayMs: 5 }, queue: { maxRecords: options.maxRecords ?? 10_000 } },
  });
  const failures: string[] = [];
  transport.on('send-failed', ({ message }: { message: string }) => failures.push(message));
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  onTestFinished(async () => void (await transport.close()));
  return { transport, logger, failures };
}

/** A key for each partition of `count`. */
const keysOf = (count: number) =>
  Array.from({ length: count }, (_, partition) => {
    const all = Array.from({ length: count }, (__, partitionId) => ({ partitionId }));
    for (let n = 0; ; n++) if (choosePartition(all, all, `CA${n}`, 0) === partition) return `CA${n}`;
  });
const messageOf = ({ value }: StoredRecord) => (JSON.parse(value) as { message: string }).message;
const messagesIn = (kafka: ScriptedKafka) => kafka.records.map(messageOf).sort();
const partitionsOf = (kafka: ScriptedKafka) => [...new Set(kafka.records.map(({ partition }) => partition))].sort();
const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });

test('a partition without leader: the others go on, what belongs to it waits, and the rest goes elsewhere', async () => {
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 3 });
  const { transport, logger, failures } = driveTransport(kafka);
  kafka.lead(1, -1);
  const keys = keysOf(3);
  for (let n = 0; n < 300; n++) logger.info(`m${n}`, n % 2 === 0 ? {} : { callId: keys[n % 3] });
  await until(() => expect(transport.stats().delivered).toBe(250));
  expect(partitionsOf(kafka)).toEqual([0, 2]);
  expect(transport.stats().queuedRecords).toBe(50);
  await until(() => expect(failures).toEqual([expect.stringMatching(/partition 1 has no leader/)]));
  kafka.lead(1, 2);
  await until(() => expect(transport.stats().delivered).toBe(300));
  expect(messagesIn(kafka)).toEqual(Array.from({ length: 300 }, (_, n) => `m${n}`).sort());
  for (const { partition, key } of kafka.records) if (key !== null) expect(key).toBe(keys[partition]);
});

test('one of sixty partitions has a leader: records without key go there at once, and do not try each of the others first', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 60 });
  for (let partition = 0; partition < 59; partition++) kafka.lead(partition, -1);
  const { transport, logger } = driveTransport(kafka);
  for (let n = 0; n < 3; n++) {
    logger.info(`m${n}`);
    // Each of the others would cost its turn, a second.
    await vi.waitFor(() => expect(transport.stats().delivered).toBe(n + 1), { timeout: 10_000, interval: 5 });
  }
  expect(partitionsOf(kafka)).toEqual([59]);
});

test('a record that was attempted stays with its partition, whoever leads it and however many there are by then', async () => {
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 4 });
  const { transport, logger } = driveTransport(kafka);
  const [, , keyOfTwo] = keysOf(4);
  // Whichever partition takes it: it has it, loses its leader, and nobody has said that it is there.
  for (let partition = 0; partition < 4; partition++) {
    kafka.answer(partition, NOT_ENOUGH_REPLICAS_AFTER_APPEND, true);
    kafka.answer(partition, NOT_ENOUGH_REPLICAS_AFTER_APPEND, true);
  }
  logger.info('without key');
  logger.info('with key', { callId: keyOfTwo });
  await until(() => expect(messagesIn(kafka)).toEqual(['with key', 'without key']));
  const before = kafka.records.map(({ partition }) => partition);
  for (const partition of before) kafka.lead(partition, -1);
  kafka.addPartitions(3);
  const asked = kafka.requests.length;
  logger.info('another');
  await until(() => expect(kafka.requests.length).toBeGreaterThan(asked));
  for (const partition of before) kafka.lead(partition, 2);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 3, queuedRecords: 0 }));
  expect(messagesIn(kafka)).toEqual(['another', 'with key', 'without key']);
});

test('sequence numbers that the cluster has lost: a second copy, in the same partition, marked', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 4 });
  const { transport, logger, failures } = driveTransport(kafka);
  for (let n = 0; n < 4; n++) {
    logger.info(`before ${n}`);
    await until(() => expect(transport.stats().delivered).toBe(n + 1));
  }
  const firstSent = kafka.records.map(({ headers }) => Number(headers.sentAt));
  expect(firstSent.every((ms) => Math.abs(ms - Date.now()) < 10_000)).toBe(true);
  expect(kafka.records.some(({ headers }) => headers.resent !== undefined)).toBe(false);
  for (let partition = 0; partition < 4; partition++) {
    kafka.answer(partition, NOT_ENOUGH_REPLICAS_AFTER_APPEND, true);
    kafka.answer(partition, OUT_OF_ORDER_SEQUENCE_NUMBER);
  }
  logger.info('twice');
  await until(() => expect(messagesIn(kafka)).toContain('twice'));
  await until(() => expect(transport.stats().queuedRecords).toBe(0));
  const copies = kafka.records.filter((record) => messageOf(record) === 'twice');
  expect(new Set(copies.map(({ partition }) => partition)).size).toBe(1);
  expect(new Set(copies.map(({ headers }) => headers.eventId)).size).toBe(1);
  expect(failures).toEqual([]);
  // The last copy has lost its sending time, which would be that of the repetition.
  for (const { headers } of copies.slice(1))
    expect(headers).toEqual({ eventId: copies[0]!.headers.eventId, resent: '1' });
});

test('each record says when it was sent, and that the clock is right as soon as that is shown; never of one that is behind', async () => {
  for (const [behindMs, last] of [
    [0, 'right'],
    [60_000, undefined],
  ] as const) {
    const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
    kafka.writeAt(() => Date.now() + behindMs);
    const { transport, logger } = driveTransport(kafka);
    for (let n = 0; n < 3; n++) {
      logger.info(`m${n}`);
      await until(() => expect(transport.stats().delivered).toBe(n + 1));
    }
    expect(kafka.records.map(({ headers }) => headers.clock)).toEqual([undefined, last, last]);
    for (const { headers } of kafka.records) expect(headers.sentAt).toMatch(/^\d{13}$/);
  }
});

test('a frozen broker: the others take what they are given, and its partitions go on with their new leader', async () => {
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 3 });
  const { transport, logger } = driveTransport(kafka);
  const keys = keysOf(3);
  const logRound = (name: string) => {
    for (let n = 0; n < 30; n++) logger.info(`${name} ${n}`, n % 2 === 0 ? {} : { callId: keys[n % 3] });
  };
  logRound('warm');
  await until(() => expect(transport.stats().delivered).toBe(30));
  kafka.freeze(0);
  logRound('frozen');
  const first = performance.now();
  const arrived = (name: string) => messagesIn(kafka).filter((message) => message.startsWith(name)).length;
  // Five have keys of partition 0; those without key are there too when it was its turn.
  await until(() => expect([10, 25]).toContain(arrived('frozen')));
  logRound('still frozen');
  await until(() => expect(arrived('still frozen')).toBe(25));
  kafka.lead(0, 1);
  await until(() => expect(transport.stats().queuedRecords).toBe(0));
  expect(performance.now() - first).toBeLessThan(10_000);
  kafka.thaw(0);
  logRound('after');
  await until(() => expect(transport.stats().delivered).toBe(120));
  const expected = ['warm', 'frozen', 'still frozen', 'after'].flatMap((name) =>
    [...Array(30).keys()].map((n) => `${name} ${n}`),
  );
  expect(messagesIn(kafka)).toEqual(expected.sort());
});

test('one partition that refuses for good reasons or bad: the others go on, and at most half of the queue waits for it', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 2 });
  const { transport, logger, failures } = driveTransport(kafka, { maxRecords: 100 });
  const [zero, one] = keysOf(2);
  for (let n = 0; n < 1_000; n++) kafka.answer(1, TOPIC_AUTHORIZATION_FAILED);
  logger.info('denied', { callId: one });
  await until(() => expect(failures).toHaveLength(1));
  for (let round = 0; round < 20; round++) {
    const { delivered } = transport.stats();
    for (let n = 0; n < 10; n++) logger.info('m', { callId: n % 2 === 0 ? zero : one });
    await until(() => expect(transport.stats().delivered).toBe(delivered + 5));
  }
  const { queuedRecords, dropped } = transport.stats();
  expect(queuedRecords).toBeGreaterThanOrEqual(50);
  expect(queuedRecords).toBeLessThanOrEqual(60);
  expect(dropped).toMatchObject({ 'queue-full': 101 - queuedRecords });
});

test('a batch that is too large for the topic arrives in parts, each record once', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const { transport, logger } = driveTransport(kafka);
  logger.info('first');
  await until(() => expect(transport.stats().delivered).toBe(1));
  // The batch and its first half; in quarters it is taken.
  kafka.answer(0, MESSAGE_TOO_LARGE);
  kafka.answer(0, MESSAGE_TOO_LARGE);
  for (let n = 0; n < 4; n++) logger.info(`m${n}`);
  await until(() => expect(transport.stats().queuedRecords).toBe(0));
  expect(transport.stats()).toMatchObject({ delivered: 5 });
  expect(messagesIn(kafka)).toEqual(['first', 'm0', 'm1', 'm2', 'm3']);
});

test('what the switches of `mask` name is masked in the bytes that go to Kafka: value, key and headers', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const transport = new KafkaTransport({
    ...{ brokers: kafka.brokers, topic: kafka.topic, service: 'api', closeTimeoutMs: 5_000, batch: { maxDelayMs: 5 } },
    mask: { phoneNumbers: true, emailAddresses: true, ipAddresses: true },
  });
  onTestFinished(async () => void (await transport.close()));
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  const [phone, email, ip] = ['+4930123456', 'alice@example.com', '203.0.113.7'];
  logger.info('plain');
  logger.info(`call from ${phone}`, { callId: `7@${ip}`, to: 4930123456, who: { email } });
  logger.error(new Error(`${email} at ${ip}`));
  await until(() => expect(kafka.records).toHaveLength(3));
  const sent = JSON.stringify(kafka.records);
  for (const text of [phone.slice(1), email, ip]) expect(sent).not.toContain(text);
  const record = kafka.records.find(({ value }) => value.includes('call from'))!;
  expect(JSON.parse(record.value)).toMatchObject({
    ...{ message: 'call from [phone]', callId: '7@[ip]', to: '[phone]', who: { email: '[email]' }, tags: ['_masked'] },
  });
});
