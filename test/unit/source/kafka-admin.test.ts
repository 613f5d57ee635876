// Questions to the cluster: an election costs patience, everything else is said at once, and no connection is left behind. The errors
// are kafkajs's own; its admin client is played here.
import { createRequire } from 'node:module';
import type { Admin, Kafka } from 'kafkajs';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { withAdmin } from '../../../src/source/kafka/topics.ts';

const { KafkaJSConnectionError, KafkaJSNumberOfRetriesExceeded, KafkaJSProtocolError } = createRequire(import.meta.url)(
  'kafkajs/src/errors',
) as Record<string, new (error: object | string, more?: object) => Error>;
const protocol = (type: string, retriable = true) =>
  new KafkaJSProtocolError!({ type, code: 6, message: `it says ${type}`, retriable });
const exhausted = (cause: Error) => new KafkaJSNumberOfRetriesExceeded!(cause, { retryCount: 5, retryTime: 300 });

let events: string[];

beforeEach(() => {
  events = [];
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
});

/** Each client fails to connect, or to end, when there is an error for it. */
function cluster({ connect = [], disconnect }: { connect?: (Error | undefined)[]; disconnect?: Error } = {}): Kafka {
  let clients = 0;
  return {
    admin() {
      const name = `client ${++clients}`;
      return {
        name,
        async connect() {
          events.push(`${name} connects`);
          const error = connect[clients - 1];
          if (error !== undefined) throw error;
        },
        async disconnect() {
          events.push(`${name} ends`);
          if (disconnect !== undefined) throw disconnect;
        },
      };
    },
  } as never;
}

/** Answers with these in turn, then with the last one again and again. */
function answering(...answers: (Error | string)[]) {
  let asked = 0;
  return async (admin: Admin) => {
    const answer = answers[Math.min(asked, answers.length - 1)]!;
    asked += 1;
    events.push(`${(admin as unknown as { name: string }).name} asks`);
    if (answer instanceof Error) throw answer;
    return answer;
  };
}

const settled = async <T>(promise: Promise<T>): Promise<T> => {
  promise.catch(() => {});
  await vi.runAllTimersAsync();
  return promise;
};
const client = (n: number) => [`client ${n} connects`, `client ${n} asks`, `client ${n} ends`];

test('an answer is given once the connection is closed, though closing fails', async () => {
  const disconnect = new KafkaJSConnectionError!('the connection was lost');
  expect(await settled(withAdmin(cluster({ disconnect }), answering('the offsets')))).toBe('the offsets');
  expect(events).toEqual(client(1));
});

describe('while leaders are elected', () => {
  test.each([
    ['NOT_LEADER_FOR_PARTITION', protocol('NOT_LEADER_FOR_PARTITION')],
    ['LEADER_NOT_AVAILABLE', protocol('LEADER_NOT_AVAILABLE')],
    ['REPLICA_NOT_AVAILABLE', protocol('REPLICA_NOT_AVAILABLE')],
    ['what kafkajs has tried again in vain', exhausted(protocol('LEADER_NOT_AVAILABLE'))],
  ])('%s: asked again, by a new client each time', async (_, error) => {
    expect(await settled(withAdmin(cluster(), answering(error, error, 'the offsets')))).toBe('the offsets');
    expect(events).toEqual([...client(1), ...client(2), ...client(3)]);
  });

  test('also when it is the connection that fails for it', async () => {
    const connect = [exhausted(protocol('LEADER_NOT_AVAILABLE')), undefined];
    expect(await settled(withAdmin(cluster({ connect }), answering('the offsets')))).toBe('the offsets');
    expect(events).toEqual(['client 1 connects', 'client 1 ends', ...client(2)]);
  });

  test('patience ends after 20 s, with the cluster’s own words', async () => {
    const started = performance.now();
    const asking = withAdmin(cluster(), answering(protocol('NOT_LEADER_FOR_PARTITION')));
    await expect(settled(asking)).rejects.toMatchObject({ type: 'NOT_LEADER_FOR_PARTITION' });
    const lastedMs = performance.now() - started;
    expect(lastedMs).toBeGreaterThan(20_000);
    expect(lastedMs).toBeLessThan(21_000);
    expect(events.filter((event) => event.endsWith('connects'))).toHaveLength(
      events.filter((event) => event.endsWith('ends')).length,
    );
  });
});

describe('anything else is said at once', () => {
  test.each<[string, Error]>([
    ['a topic that is not there', protocol('UNKNOWN_TOPIC_OR_PARTITION')],
    ['no right', protocol('TOPIC_AUTHORIZATION_FAILED', false)],
    ['no connection', new KafkaJSConnectionError!('connection refused')],
    ['no connection, tried often', exhausted(new KafkaJSConnectionError!('connection refused'))],
    ['a fault of ours', new TypeError('row is undefined')],
  ])('%s', async (_, error) => {
    await expect(settled(withAdmin(cluster(), answering(error, 'the offsets')))).rejects.toBe(error);
    expect(events).toEqual(client(1));
  });

  test('and a client that could not connect is ended too', async () => {
    const connect = [new KafkaJSConnectionError!('connection refused')];
    await expect(settled(withAdmin(cluster({ connect }), answering('the offsets')))).rejects.toBe(connect[0]);
    expect(events).toEqual(['client 1 connects', 'client 1 ends']);
  });
});
