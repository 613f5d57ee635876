// One session after the other: how long between two, what is said, and when it is given up.
import { expect, test } from 'vitest';
import { createSupervisor, HEALTHY_MS, type KafkaSession } from '../../../src/source/kafka/session.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

function setUp(giveUpAfter = 3) {
  const clock = createFakeClock();
  const said: string[] = [];
  const ends: string[] = [];
  /** When sessions were opened, ms from the start. */
  const opened: number[] = [];
  let restarts = 0;
  let restarted = 0;
  let finish: (error?: Error) => void = () => {};
  const say = (level: string) => (message: string) => void said.push(`${level} ${message}`);
  const supervisor = createSupervisor(
    { topic: 'logs', brokers: ['here:9092'], giveUpAfter },
    {
      open() {
        opened.push(clock.monotonicMs());
        const ended = new Promise<Error | undefined>((resolve) => {
          finish = resolve;
        });
        return { ended, pause() {}, seek() {}, resume() {}, fail() {}, close: async () => {} } satisfies KafkaSession;
      },
      onEnd: (error, detail) => ends.push(error === undefined ? 'closed' : detail),
      onRestarted: () => void restarted++,
    },
    {
      clock,
      log: { error: say('error'), warn: say('warn'), info: say('info'), debug: say('debug') },
      metrics: { sourceRestarts: { inc: () => void restarts++ } },
    },
  );
  const outcome: { error?: unknown; over?: true } = {};
  const running = supervisor.run().then(
    () => Object.assign(outcome, { over: true }),
    (error) => Object.assign(outcome, { over: true, error }),
  );
  const crash = async (error: Error) => {
    finish(error);
    await settled();
  };
  return {
    ...{ clock, supervisor, said, ends, opened, outcome, running, crash },
    close: () => finish(),
    counts: () => ({ restarts, restarted }),
  };
}

const away = () => Object.assign(new Error('connect ECONNREFUSED'), { name: 'KafkaJSConnectionError' });
/** As kafkajs wraps what it tried again in vain. */
const wrapped = () =>
  Object.assign(new Error('gave up', { cause: away() }), { name: 'KafkaJSNumberOfRetriesExceeded' });
const broken = () => new Error('something else');

test('a Kafka that is away is waited for, longer and longer, without end, and logged once', async () => {
  const { clock, supervisor, said, opened, outcome, crash, counts } = setUp();
  for (let n = 0; n < 12; n++) {
    await crash(n % 2 === 0 ? away() : wrapped());
    await clock.advance(5_000);
  }
  const waits = opened.slice(1).map((at, n) => at - 5_000 * n);
  expect(waits).toEqual([200, 400, 800, 1_600, 3_200, ...Array(7).fill(5_000)]);
  expect(outcome.over).toBeUndefined();
  expect(said).toEqual(['error Kafka is unreachable; trying until it answers']);
  expect(counts()).toEqual({ restarts: 0, restarted: 0 });

  supervisor.reading();
  supervisor.reading();
  expect(said.at(-1)).toBe('info Kafka answers again');
  expect(counts().restarted).toBe(1);
  // Another episode: said again, the wait begins anew, and now a session that read was lost.
  await crash(away());
  expect(said.filter((line) => line.startsWith('error'))).toHaveLength(2);
  const before = opened.length;
  await clock.advance(199);
  expect(opened).toHaveLength(before);
  await clock.advance(1);
  expect(opened).toHaveLength(before + 1);
  expect(counts()).toEqual({ restarts: 1, restarted: 1 });
});

test('a consumer that keeps failing ends it, with the number and the last reason', async () => {
  const { clock, said, opened, outcome, crash } = setUp();
  for (let n = 0; n < 3; n++) {
    await crash(broken());
    await clock.advance(5_000);
  }
  expect(outcome.error).toMatchObject({
    code: 'LOGPIPE_KAFKA_FAILED',
    message: 'topic logs: the consumer failed 3 times in a row: something else',
  });
  expect(opened).toHaveLength(3);
  expect(said).toEqual(Array(3).fill('error the Kafka consumer failed'));
});

test('failures are of one row until a consumer has read for a minute; an absence of Kafka breaks no row', async () => {
  const { clock, supervisor, outcome, crash } = setUp();
  for (let n = 0; n < 6; n++) {
    await crash(broken());
    await clock.advance(1_000);
    supervisor.reading();
    await clock.advance(HEALTHY_MS);
    expect(outcome.over).toBeUndefined();
  }
  for (const error of [broken(), away(), broken(), away()]) {
    await crash(error);
    await clock.advance(1_000);
    supervisor.reading();
    await clock.advance(HEALTHY_MS - 2_000);
    expect(outcome.over).toBeUndefined();
  }
  await crash(broken());
  expect(outcome.error).toMatchObject({ code: 'LOGPIPE_KAFKA_FAILED' });
});

test('stopped while it waits: it ends at once, opens nothing more and leaves no timer', async () => {
  const { clock, supervisor, opened, outcome, running, crash } = setUp();
  await crash(away());
  supervisor.stop();
  await running;
  expect(outcome.error).toBeUndefined();
  expect(opened).toHaveLength(1);
  expect(clock.timers()).toBe(0);
});

test('a session that was closed is the last one', async () => {
  const { ends, opened, outcome, running, close } = setUp();
  close();
  await running;
  expect([outcome.error, ends, opened.length]).toEqual([undefined, ['closed'], 1]);
});
