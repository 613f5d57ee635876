// A topic read without a group, against brokers at the wire that do what the test says: what one partition suffers is no other
// one's affair, each record comes once and in order, and the end is found whatever was removed.
import { expect, onTestFinished, test, vi } from 'vitest';
import winston from 'winston';
import { deferred } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { KafkaTransport } from '../../src/ship/index.ts';
import type { KafkaConfig } from '../../src/source/kafka/client.ts';
import { type ReadTopicOptions, readTopic } from '../../src/source/kafka/topic-reader.ts';
import { type ScriptedKafka, startScriptedKafka } from '../kit/scripted-kafka.ts';

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });

function producer(kafka: ScriptedKafka) {
  const transport = new KafkaTransport({
    ...{ brokers: kafka.brokers, topic: kafka.topic, service: 'api', closeTimeoutMs: 1_000, batch: { maxDelayMs: 5 } },
  });
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  onTestFinished(async () => void (await transport.close()));
  let sent = 0;
  /** So many events, with keys of all partitions. */
  function log(count: number): void {
    for (let n = 0; n < count; n++) logger.info(`m${sent + n}`, { callId: `CA${sent + n}` });
    sent += count;
  }
  return {
    log,
    /** Resolves when they are delivered. */
    async send(count: number) {
      log(count);
      await until(() => expect(transport.stats().delivered).toBe(sent));
    },
  };
}

function reading(kafka: ScriptedKafka, options: Partial<ReadTopicOptions>) {
  const config = {
    ...{ brokers: kafka.brokers, clientId: 'test', ssl: false, connectionTimeoutMs: 500, requestTimeoutMs: 2_000 },
  } as unknown as KafkaConfig;
  const stop = new AbortController();
  const seen: { partition: number; offset: number; value: string }[] = [];
  const done = readTopic(
    config,
    {
      ...{ topic: kafka.topic, purpose: 'test', from: 'beginning', follow: false, signal: stop.signal },
      onRecord({ offset, value }, partition) {
        seen.push({ partition, offset: Number(offset), value: String(value) });
        return undefined;
      },
      ...options,
    },
    silentLog,
  );
  onTestFinished(() => stop.abort());
  const of = (partition: number) => seen.filter((one) => one.partition === partition);
  return { done, seen, of, stop: () => stop.abort() };
}

const inOrder = (records: readonly { offset: number }[]) => records.map(({ offset }) => offset);
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n);
const countIn = (kafka: ScriptedKafka, partition: number) =>
  kafka.records.filter((record) => record.partition === partition).length;

test('to the present end: all there is, each once and in order', async () => {
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 4 });
  await producer(kafka).send(200);
  const { done, seen, of } = reading(kafka, {});
  expect(await done).toBe(true);
  expect(seen).toHaveLength(200);
  for (const partition of upTo(4)) expect(inOrder(of(partition))).toEqual(upTo(countIn(kafka, partition)));
});

test('a frozen broker, a missing leader: the other partitions go on, and theirs with their new leader', async () => {
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 3 });
  const { log, send } = producer(kafka);
  await send(60);
  const { seen, of } = reading(kafka, { follow: true });
  await until(() => expect(seen).toHaveLength(60));
  // The question that waits there will not be answered.
  kafka.freeze(0);
  const others = async (total: number) => {
    log(30);
    await until(() => expect(countIn(kafka, 1) + countIn(kafka, 2)).toBeGreaterThan(total));
    await until(() => expect(of(1).length + of(2).length).toBe(countIn(kafka, 1) + countIn(kafka, 2)));
    return of(1).length + of(2).length;
  };
  const total = await others(of(1).length + of(2).length);
  kafka.lead(0, -1);
  await others(total);
  kafka.lead(0, 1);
  await until(() => expect(seen).toHaveLength(120));
  for (const partition of upTo(3)) expect(inOrder(of(partition))).toEqual(upTo(countIn(kafka, partition)));
});

test('what retention removes before it is read is passed over, not waited for', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const { send } = producer(kafka);
  await send(5);
  const held = deferred();
  const offsets: number[] = [];
  reading(kafka, {
    follow: true,
    async onBatch(messages) {
      offsets.push(...messages.map(({ offset }) => Number(offset)));
      if (offsets.length >= 5) await held.promise;
      return true;
    },
  });
  await until(() => expect(offsets).toHaveLength(5));
  await send(20);
  kafka.removeBefore(0, 15);
  held.resolve();
  await until(() => expect(offsets.at(-1)).toBe(24));
  expect(offsets).toEqual([...upTo(5), ...upTo(25).slice(15)]);
});

test('the end is found behind batches that compaction has emptied, and said as of the moment it was asked for', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await producer(kafka).send(30);
  kafka.emptyBatches(0);
  const { done, seen } = reading(kafka, {});
  expect(await done).toBe(true);
  expect(seen).toEqual([]);

  const answers: { atEnd: boolean; askedMs: number }[] = [];
  const sinceMs = performance.now();
  let caughtUp = false;
  const following = reading(kafka, {
    follow: true,
    onCaughtUp: () => (caughtUp = true),
    onAnswer: (answer) => answers.push(answer),
  });
  await until(() => expect(answers.some(({ atEnd, askedMs }) => atEnd && askedMs > sinceMs)).toBe(true));
  expect(caughtUp).toBe(true);
  following.stop();
  expect(await following.done).toBe(false);
});
