// One consumer of a group against brokers at the wire: what its handlers hear, in which order, and how it ends.
import { expect, onTestFinished, test, vi } from 'vitest';
import { silentLog } from '../../src/core/log.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { openKafkaSession } from '../../src/source/kafka/session.ts';
import { createFakeClock } from '../kit/fake-clock.ts';
import { type ScriptedKafka, startScriptedKafka } from '../kit/scripted-kafka.ts';

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });

async function setUp(onBatch: () => Promise<void> = async () => {}) {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 2 });
  const clock = createFakeClock();
  const config = {
    ...{ brokers: kafka.brokers, clientId: 'test', ssl: false, connectionTimeoutMs: 3_000, requestTimeoutMs: 30_000 },
  } as unknown as KafkaConfig;
  const said: string[] = [];
  const client = createKafka(config, { ...silentLog, warn: (message) => said.push(message) });
  const heard: string[] = [];
  const session = openKafkaSession(
    {
      ...{ topic: kafka.topic, group: 'g', maxWaitMs: 50, fetchMaxBytes: 1e6, fetchMaxBytesPerPartition: 1e6 },
      ...{ sessionTimeoutMs: 2_000, heartbeatMs: 50, stallMs: 10_000 },
    },
    {
      onJoin: (partitions) => heard.push(`join ${partitions.join()}`),
      onRebalancing: () => heard.push('rebalancing'),
      async onBatch({ batch, resolveOffset, heartbeat }) {
        heard.push(`batch ${batch.partition}: ${batch.messages.map(({ offset }) => offset).join()}`);
        await onBatch();
        resolveOffset(batch.lastOffset());
        await heartbeat();
      },
      onEmptyBatch: (partition, first, last) => heard.push(`empty ${partition}: ${first} to ${last}`),
      onMember: () => void (heard.at(-1) === 'member' || heard.push('member')),
      onFetch() {},
    },
    { kafka: client, clock },
  );
  const outcome: { ended?: Error | 'closed' } = {};
  void session.ended.then((error) => {
    outcome.ended = error ?? 'closed';
  });
  onTestFinished(async () => {
    kafka.thaw(0);
    await session.close();
  });
  return { kafka, clock, session, heard, outcome, client, said };
}

async function write(kafka: ScriptedKafka, client: Awaited<ReturnType<typeof setUp>>['client'], count: number) {
  const producer = client.producer({ createPartitioner: () => () => 0 });
  await producer.connect();
  await producer.send({ topic: kafka.topic, messages: Array.from({ length: count }, () => ({ value: 'x' })) });
  await producer.disconnect();
}

test('joined, confirmed, read; closed it leaves its group, and that is the one end', async () => {
  const { kafka, session, heard, outcome, client } = await setUp();
  await until(() => expect(heard).toEqual(['join 0,1', 'member']));
  await write(kafka, client, 3);
  await until(() => expect(heard).toContain('batch 0: 0,1,2'));
  expect(outcome.ended).toBeUndefined();
  await session.close();
  await until(() => expect(outcome.ended).toBe('closed'));
  expect(kafka.group.asked).toEqual(['join', 'sync', 'leave']);
});

test('a rebalance: said before the old assignment ends, then the new one, and only then the membership', async () => {
  const { kafka, heard } = await setUp();
  await until(() => expect(heard).toContain('member'));
  heard.length = 0;
  kafka.group.rebalance();
  await until(() => expect(heard.filter((one) => one !== 'member')).toEqual(['rebalancing', 'join 0,1']));
  await until(() => expect(heard.at(-1)).toBe('member'));
  expect(heard.indexOf('rebalancing')).toBeLessThan(heard.indexOf('join 0,1'));
  expect(kafka.group.asked).toEqual(['join', 'sync', 'join', 'sync']);
});

test('paused it reads nothing and stays a member; sought back and resumed it reads again from there', async () => {
  const { kafka, session, heard, client } = await setUp();
  await until(() => expect(heard).toContain('member'));
  session.pause([0]);
  await write(kafka, client, 3);
  // Heartbeats go on with the fetches of the other partition.
  kafka.group.rebalance();
  await until(() => expect(heard.filter((one) => one === 'join 0,1')).toHaveLength(2));
  expect(heard.filter((one) => one.startsWith('batch'))).toEqual([]);
  session.seek(0, 1);
  session.resume([0]);
  await until(() => expect(heard).toContain('batch 0: 1,2'));
});

test('whatever ends the consumer ends the session with it, once: it never joins again by itself', async () => {
  const { kafka, session, heard, outcome, client, said } = await setUp(() =>
    Promise.reject(new Error('the pipeline failed')),
  );
  await until(() => expect(heard).toContain('member'));
  await write(kafka, client, 1);
  await until(() => expect(outcome.ended).toMatchObject({ message: expect.stringContaining('the pipeline failed') }));
  // Nothing more comes of it, and nothing of these throws.
  const before = [...heard];
  session.pause();
  session.seek(0, 0);
  session.resume([0]);
  session.fail(new Error('too late'));
  await session.close();
  expect(outcome.ended).toMatchObject({ message: expect.stringContaining('the pipeline failed') });
  expect(heard).toEqual(before);
  expect(kafka.group.asked.filter((one) => one === 'join')).toHaveLength(1);
  // What kafkajs says when it is about to.
  expect(said.filter((message) => /restart/i.test(message))).toEqual([]);
  expect(said).not.toEqual([]);
});

test('silent for as long as is permitted: over, by checks and not by what a clock that was slept through says', async () => {
  const { kafka, clock, heard, outcome } = await setUp();
  await until(() => expect(heard).toContain('member'));
  kafka.freeze(0);
  // What is under way may still be answered.
  await clock.advance(5_000);
  await clock.sleep(3_600_000);
  expect(outcome.ended).toBeUndefined();
  await clock.advance(10_000);
  await until(() => expect(outcome.ended).toMatchObject({ message: expect.stringMatching(/silent for 1\d{4} ms/) }));
});

test('a broker that does not answer keeps nobody from closing', async () => {
  const { kafka, clock, session, heard, outcome } = await setUp();
  await until(() => expect(heard).toContain('member'));
  kafka.freeze(0);
  const sinceMs = performance.now();
  const closed = session.close();
  await clock.advance(10_000);
  await closed;
  expect(performance.now() - sinceMs).toBeLessThan(20_000);
  expect(outcome.ended).toBe('closed');
});
