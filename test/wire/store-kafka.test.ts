// The alert state on a topic, with Node alone: what a take-over finds is read by the real reader from a scripted broker; transactions are
// answered as a coordinator would. test/integration/alert-store.test.ts has the same with Kafka.
import { randomUUID } from 'node:crypto';
import type { Kafka, Message, ProducerConfig } from 'kafkajs';
import kafkajs from 'kafkajs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { LostTermError } from '../../src/alerter/store.ts';
import { createKafkaStores } from '../../src/alerter/store-kafka.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { createFakeClock, settled } from '../kit/fake-clock.ts';
import { type ScriptedKafka, startScriptedKafka } from '../kit/scripted-kafka.ts';

type Fate = 'written' | 'lost' | 'unanswered' | Error;

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });
const configOf = (kafka: ScriptedKafka) =>
  ({
    ...{ brokers: kafka.brokers, clientId: 'test', ssl: false, connectionTimeoutMs: 500, requestTimeoutMs: 2_000 },
  }) as unknown as KafkaConfig;

/** A coordinator of transactions: the first one of a producer fences off those of before, and nothing is written before the commit. */
function coordinator(kafka: ScriptedKafka) {
  const producer = createKafka(configOf(kafka), silentLog).producer({ idempotent: true, maxInFlightRequests: 1 });
  onTestFinished(() => producer.disconnect());
  const write = (messages: readonly Message[]) =>
    producer.send({ topic: kafka.topic, acks: -1, messages: messages.map((one) => ({ ...one, partition: 0 })) });
  const made = {
    write: async (messages: readonly Message[]) => {
      await producer.connect();
      await write(messages);
    },
    /** What becomes of the next commit. */
    next: 'written' as Fate,
    /** Messages of each request, transaction by transaction. */
    transactions: [] as number[][],
    kafka: {
      producer({ transactionalId }: ProducerConfig) {
        expect(transactionalId).toBe('alerter-state');
        const id = randomUUID();
        let begun = false;
        return {
          connect: () => producer.connect(),
          async disconnect() {},
          async transaction() {
            if (!begun) newest = id;
            begun = true;
            const messages: Message[] = [];
            const requests: number[] = [];
            made.transactions.push(requests);
            return {
              async send(sent: { messages: Message[] }) {
                if (newest !== id) throw fenced();
                requests.push(sent.messages.length);
                messages.push(...sent.messages);
              },
              async commit() {
                const fate = made.next;
                made.next = 'written';
                if (fate instanceof Error) throw fate;
                if (fate === 'unanswered') await new Promise(() => {});
                if (fate === 'written') await write(messages);
              },
            };
          },
        };
      },
    } as unknown as Kafka,
  };
  let newest = '';
  return made;
}

/** As a broker of today refuses a fenced producer: in a code that kafkajs does not know. */
function fenced(): Error {
  const cause = Object.assign(new Error('Unknown error code 90'), { type: 'KAFKAJS_UNKNOWN_ERROR_CODE' });
  return Object.assign(new kafkajs.KafkaJSNonRetriableError('Producer was fenced'), { cause });
}

async function running() {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  kafka.writeAt(() => Date.now());
  const clock = createFakeClock();
  const said: string[] = [];
  const log: Log = { ...silentLog, error: (message) => said.push(message), warn: (message) => said.push(message) };
  const transactions = coordinator(kafka);
  const instance = (mayTakeOver = async () => {}) => {
    const stores = createKafkaStores(
      { config: configOf(kafka), topic: kafka.topic, transactionalId: 'alerter-state' },
      { kafka: transactions.kafka, clock, log, mayTakeOver },
    );
    onTestFinished(() => stores.close());
    return stores;
  };
  const leaderRecords = () => kafka.records.filter(({ key }) => key === 'meta/holder').length;
  return { kafka, clock, said, transactions, instance, leaderRecords };
}

const contents = (records: ReadonlyMap<string, object>) => Object.fromEntries(records);

test('a take-over has what was committed before it, without what was removed or cannot be read; the former leader is out', async () => {
  const { kafka, said, transactions, instance } = await running();
  const old = await instance().open();
  expect(contents(old.initial)).toEqual({});
  await old.commit([
    { key: 'alert/a', value: { n: 1 } },
    { key: 'alert/b', value: { text: 'é 🚨' } },
  ]);
  await old.commit([
    { key: 'alert/a', value: null },
    { key: 'alert/c', value: { n: 3 } },
  ]);
  await transactions.write([
    { key: 'alert/d', value: '{"n":' },
    { key: 'alert/e', value: '7' },
  ]);
  const stores = instance();
  const fresh = await stores.open();
  expect(contents(fresh.initial)).toEqual({ 'alert/b': { text: 'é 🚨' }, 'alert/c': { n: 3 } });
  expect(said).toContain('A record of the alert state cannot be read: left out');
  await expect(old.commit([{ key: 'alert/a', value: {} }])).rejects.toMatchObject({
    name: 'LostTermError',
    why: 'taken',
  });
  await expect(old.confirm(0)).rejects.toThrow(LostTermError);
  await fresh.commit([{ key: 'alert/c', value: { n: 4 } }]);
  const known = await stores.known;
  await until(() => expect(known.get('alert/c')).toEqual({ n: 4 }));
  // Every batch of before lost its records to compaction: the end is found by what stands there, not by offsets.
  kafka.emptyBatches(0);
  const third = await instance().open();
  expect(contents(third.initial)).toEqual({});
  // One that had followed the topic all the time has seen them.
  expect(contents((await stores.open()).initial)).toEqual({ 'alert/b': { text: 'é 🚨' }, 'alert/c': { n: 4 } });
});

test('what a term began with does not change under it, whatever is written later', async () => {
  const { instance } = await running();
  const stores = instance();
  const store = await stores.open();
  await store.commit([{ key: 'alert/a', value: { n: 1 } }]);
  const again = await stores.open();
  await again.commit([
    { key: 'alert/a', value: { n: 2 } },
    { key: 'alert/b', value: {} },
  ]);
  await until(async () => expect(contents(await stores.known)).toEqual({ 'alert/a': { n: 2 }, 'alert/b': {} }));
  expect(contents(store.initial)).toEqual({});
  expect(contents(again.initial)).toEqual({ 'alert/a': { n: 1 } });
});

test('who stands by knows what is there, and it goes on without a take-over', async () => {
  const { instance, leaderRecords } = await running();
  const leader = await instance().open();
  await leader.commit([{ key: 'alert/a', value: { n: 1 } }]);
  const standby = instance();
  const known = await standby.known;
  expect(contents(known)).toEqual({ 'alert/a': { n: 1 } });
  await leader.commit([{ key: 'alert/b', value: { n: 2 } }]);
  await until(() => expect(contents(known)).toEqual({ 'alert/a': { n: 1 }, 'alert/b': { n: 2 } }));
  expect(leaderRecords()).toBe(1);
});

test('one that may not take over fences nobody off', async () => {
  const { instance, leaderRecords } = await running();
  const leader = await instance().open();
  await expect(instance(() => Promise.reject(new LostTermError())).open()).rejects.toThrow(LostTermError);
  await leader.commit([{ key: 'alert/a', value: {} }]);
  expect(leaderRecords()).toBe(1);
});

test('a take-over whose own record does not come back in time fails, and the topic is read anew from its beginning', async () => {
  const { kafka, clock, said, transactions, instance } = await running();
  const stores = instance();
  const first = await stores.open();
  await first.commit([{ key: 'alert/old', value: {} }]);
  const old = kafka.records.length;
  await first.commit([{ key: 'alert/a', value: { n: 1 } }]);
  await transactions.write([{ key: 'alert/x', value: '{"n":' }]);
  const known = await stores.known;
  await until(() => expect(said).toHaveLength(1));
  expect(contents(known)).toEqual({ 'alert/old': {}, 'alert/a': { n: 1 } });
  kafka.removeBefore(0, old);
  transactions.next = 'lost';
  const opening = stores.open();
  opening.catch(() => {});
  await until(() => expect(transactions.transactions).toHaveLength(4));
  await until(() => expect(clock.timers()).toBe(1));
  await clock.advance(30_000);
  await expect(opening).rejects.toThrow('was not read to its end within 30000 ms');
  await until(() => expect(said).toHaveLength(2));
  expect(contents((await stores.open()).initial)).toEqual({ 'alert/a': { n: 1 } });
});

test.each([
  ['is refused', new Error('The coordinator is not available'), 0, 'unknown'],
  ['is refused because it was fenced off', fenced(), 0, 'taken'],
  ['is not answered', 'unanswered' as const, 10_000, 'unknown'],
])('a commit that %s ends the store: nothing more is written with it', async (_what, fate, afterMs, why) => {
  const { kafka, clock, transactions, instance } = await running();
  const store = await instance().open();
  const before = kafka.records.length;
  transactions.next = fate;
  const commit = store.commit([{ key: 'alert/a', value: {} }]);
  commit.catch(() => {});
  await settled();
  await clock.advance(afterMs);
  await expect(commit).rejects.toMatchObject({ name: 'LostTermError', why });
  await expect(store.commit([{ key: 'alert/a', value: {} }])).rejects.toMatchObject({ why });
  await expect(store.confirm(60_000)).rejects.toMatchObject({ why });
  expect(kafka.records).toHaveLength(before);
});

test('a term is confirmed by its last commit for as long as the clocks agree, and else asked for', async () => {
  const { clock, instance, leaderRecords } = await running();
  const store = await instance().open();
  await store.confirm(3_000);
  await clock.advance(3_000);
  await store.confirm(3_000);
  expect(leaderRecords()).toBe(1);
  await clock.advance(1);
  await store.confirm(3_000);
  expect(leaderRecords()).toBe(2);
  await clock.advance(2_000);
  await store.commit([{ key: 'alert/a', value: {} }]);
  await clock.advance(2_000);
  await store.confirm(3_000);
  expect(leaderRecords()).toBe(2);
  // Set, or suspended: nobody knows how long that was.
  clock.setWall(clock.now() - 3_600_000);
  await store.confirm(3_000);
  expect(leaderRecords()).toBe(3);
});

test('a commit that is larger than a request is one transaction of several', async () => {
  const { transactions, instance } = await running();
  const store = await instance().open();
  const value = { text: 'x'.repeat(200_000) };
  await store.commit(['a', 'b', 'c', 'd', 'e'].map((name) => ({ key: `outbox/${name}`, value })));
  expect(transactions.transactions.at(-1)).toEqual([2, 2, 1]);
  await store.commit([]);
  expect(transactions.transactions).toHaveLength(2);
});

test('a store knows the brokers’ time at a moment of this process, and takes nothing any more when it is closed', async () => {
  const { clock, instance } = await running();
  await clock.advance(5_000);
  const store = await instance().open();
  expect(Math.abs(store.dated!.brokersMs - Date.now())).toBeLessThan(60_000);
  expect(store.dated!.monotonicMs).toBe(5_000);
  await store.close();
  await expect(store.commit([{ key: 'alert/a', value: {} }])).rejects.toThrow(LostTermError);
});
