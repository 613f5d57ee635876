// A stretch of the log topic, as a replay and a backtest read it, against brokers at the wire: whole, in order, and over at its end,
// whatever the partitions hold.
import { expect, onTestFinished, test, vi } from 'vitest';
import winston from 'winston';
import { dlqList } from '../../src/cli/dlq.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { DeadLetter } from '../../src/core/record.ts';
import { createKafkaDeadLetters } from '../../src/indexing/dead-letters.ts';
import { openByArrival, openSource, type StoredRecord } from '../../src/replay/stored.ts';
import { KafkaTransport } from '../../src/ship/index.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { type ScriptedKafka, startScriptedKafka } from '../kit/scripted-kafka.ts';

const MINUTE = 60_000;

/** `count` events with keys of all partitions, a few to a batch. */
async function logged(kafka: ScriptedKafka, count: number): Promise<void> {
  const transport = new KafkaTransport({
    ...{ brokers: kafka.brokers, topic: kafka.topic, service: 'api', closeTimeoutMs: 1_000, batch: { maxDelayMs: 5 } },
  });
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  onTestFinished(async () => void (await transport.close()));
  for (let n = 0; n < count; n++) {
    logger.info(`m${n}`, { callId: `CA${n}` });
    if (n % 10 !== 9) continue;
    await vi.waitFor(() => expect(transport.stats().delivered).toBe(n + 1), { timeout: 20_000, interval: 1 });
  }
}

function stores(kafka: ScriptedKafka) {
  const topics = { logs: kafka.topic, dlq: 'none' };
  const config = { ...{ brokers: kafka.brokers, clientId: 'test', ssl: false, topics }, connectionTimeoutMs: 500 };
  return { kafka: { ...config, requestTimeoutMs: 2_000 } as unknown as KafkaConfig, elasticsearch: {} as never };
}

const aroundNow = () => ({ fromMs: Date.now() - MINUTE, toMs: Date.now() + MINUTE });
const byArrival = (kafka: ScriptedKafka, range = aroundNow()) =>
  openByArrival('kafka', stores(kafka), { files: [], range, purpose: 'test' }, silentLog);

async function all(batches: AsyncIterable<readonly StoredRecord[]>): Promise<StoredRecord[]> {
  const found: StoredRecord[] = [];
  for await (const batch of batches) found.push(...batch);
  return found;
}

test('by arrival: all partitions in one order, also where one is empty; and the same to a replay', async () => {
  const kafka = await startScriptedKafka({ brokers: 2, partitions: 3 });
  await logged(kafka, 200);
  kafka.addPartitions(1);
  const arrivals = await byArrival(kafka);
  const found = await all(arrivals.batches);
  expect(found.map(({ value }) => String(value)).sort()).toEqual(kafka.records.map(({ value }) => value).sort());
  expect(new Set(found.map(({ partition }) => partition)).size).toBeGreaterThan(1);
  const times = found.map(({ arrivalMs }) => arrivalMs);
  expect(times).toEqual([...times].sort((a, b) => a - b));
  expect(arrivals.gaps()).toEqual([]);

  const options = { files: [], range: aroundNow(), latenessMs: 0, aheadMs: 0, purpose: 'test', freshTags: false };
  const source = openSource('kafka', stores(kafka), { ...options, order: 'any' }, silentLog);
  const replayed: string[] = [];
  const ended: string[] = [];
  const take = async ({ records, part, next }: Parameters<Parameters<typeof source.feed>[2]>[0]) => {
    expect(ended).not.toContain(part);
    expect(next).toBe(records.at(-1)!.offset + 1);
    replayed.push(...records.map(({ value }) => String(value)));
    return true;
  };
  await source.feed(new Map(), new AbortController().signal, take, (part) => ended.push(part));
  expect(replayed.sort()).toEqual(found.map(({ value }) => String(value)).sort());
  expect(ended.sort()).toEqual([0, 1, 2, 3].map((partition) => `${kafka.topic}/${partition}`));
});

test('by arrival: nothing of a stretch that is over, what retention removed is said, and a reader that leaves ends it', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 2 });
  const before = Date.now() - 1;
  await logged(kafka, 100);
  expect(await all((await byArrival(kafka, { fromMs: before - MINUTE, toMs: before })).batches)).toEqual([]);

  const arrivals = await byArrival(kafka);
  for await (const batch of arrivals.batches) {
    expect(batch.length).toBeGreaterThan(0);
    break;
  }
  await arrivals.close();

  kafka.removeBefore(0, 10);
  const rest = await byArrival(kafka);
  const found = await all(rest.batches);
  expect(found.filter(({ partition }) => partition === 0)[0]!.offset).toBeGreaterThanOrEqual(10);
  expect(rest.gaps()).toEqual([expect.stringMatching(/^scripted\/0: 10 older records were removed by retention/)]);
});

test('dead letters: each record once, as it was in the log topic and under its id; what is cut is told', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const config = stores(kafka).kafka;
  const topics = { logs: 'none', dlq: kafka.topic } as KafkaConfig['topics'];
  const sink = createKafkaDeadLetters({
    ...{ kafka: createKafka(config, silentLog), topic: kafka.topic, log: silentLog, metrics: createMetrics() },
  });
  const letter = (n: number, bytes = 20): DeadLetter => ({
    ...{ reason: 'document_refused', detail: 'refused then', value: Buffer.alloc(bytes, `${n}`) },
    origin: { kind: 'kafka', topic: 'logs', partition: 2 },
    ...{
      offset: 100 + n,
      timeMs: 1_700_000_000_000 + n,
      id: n === 0 ? '01J00000000000000000000000' : `logs-2-${100 + n}-a`,
    },
  });
  await sink.put([letter(0), letter(1), letter(1), letter(2, 3_000_000)], new AbortController().signal);
  await sink.close();

  const options = { files: [], range: undefined, latenessMs: 0, aheadMs: 0, purpose: 'test', freshTags: false };
  const stored = { kafka: { ...config, topics }, elasticsearch: {} as never };
  const source = openSource('dlq', stored, { ...options, order: 'any' }, silentLog);
  expect(await source.plan()).toMatchObject({ parts: [{ part: `${kafka.topic}/0`, from: 0, to: 4 }], gaps: [] });
  const found: [unknown, unknown][] = [];
  let end: unknown;
  await source.feed(new Map(), new AbortController().signal, async ({ records, origin, next }) => {
    found.push(...records.map((record, i) => [record, origin(i)] as [unknown, unknown]));
    end = next;
    return true;
  });
  expect(found).toEqual(
    [0, 1].map((n) => {
      const { value, offset, timeMs, id, origin } = letter(n);
      const eventId = n === 0 ? id : undefined;
      return [{ value, offset, timeMs, eventId, documentId: id, mark: 'redriven' }, origin];
    }),
  );
  expect(end).toBe(4);
  expect(source.missing()).toEqual([`${kafka.topic}: 1 letter holds only part of its record; it is not replayed`]);

  // A letter of a newer logpipe is not guessed at, whoever reads it: the next may be the one with another meaning.
  const producer = createKafka(config, silentLog).producer({ allowAutoTopicCreation: false });
  await producer.connect();
  await producer.send({
    topic: kafka.topic,
    messages: [{ key: 'new', value: '{}', headers: { v: '2', 'event-id': 'new', 'origin-offset': '1' } }],
  });
  await producer.disconnect();
  const newer = {
    code: 'LOGPIPE_FORMAT_NEWER',
    message: expect.stringContaining(`${kafka.topic}/0/4: the dead letter has format 2`),
  };
  const again = openSource('dlq', stored, { ...options, order: 'any' }, silentLog);
  await expect(again.feed(new Map(), new AbortController().signal, async () => true)).rejects.toMatchObject(newer);
  const io = { out: () => {}, err: () => {} };
  const letters = { source: 'kafka', kafka: stored.kafka, dlq: { file: 'none' } } as Parameters<typeof dlqList>[0];
  await expect(dlqList(letters, { json: true }, io, silentLog)).rejects.toMatchObject(newer);
});
