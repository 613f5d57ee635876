// kafkajs's time, repaired: no needless timer, no trust in the wall clock, no time-out for what was slept through, and a broker
// that has stopped answering is left.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { repairKafkaJsTime } from '../../src/core/kafka/kafkajs-timer.ts';

interface Queue {
  push(request: object): void;
  fulfillRequest(response: object): void;
  maybeThrottle(ms: number): void;
  scheduleRequestTimeoutCheck(): void;
  destroy(): void;
}

interface Group {
  heartbeat(options: { interval: number }): Promise<void>;
}

interface ConnectionLike {
  connectionStatus: string;
  chunks: Buffer[];
  bytesBuffered: number;
  readonly requestQueue: Queue;
  connect(): Promise<unknown>;
  isConnected(): boolean;
}

interface Pool {
  metadata: object;
  metadataExpireAt: number;
  refreshMetadata(topics: readonly string[]): Promise<void>;
  refreshMetadataIfNecessary(topics: readonly string[]): Promise<void>;
  connect(): Promise<void>;
  createSeedBroker(): Promise<void>;
  findConnectedBroker(): Promise<{ id: number }>;
  withBroker(ask: (options: { nodeId: string }) => Promise<string>): Promise<string>;
}

const require = createRequire(import.meta.url);
const RequestQueue = require('kafkajs/src/network/requestQueue') as new (options: object) => Queue;

const silent = { debug() {}, warn() {}, error() {}, namespace: () => silent };
const entry = (correlationId: number, apiKey: number) => ({
  ...{ correlationId, apiKey, apiName: 'api', apiVersion: 1 },
  ...{ resolve: () => {}, reject: (_: Error) => {} },
});

function brokerPool(brokers: object): Pool {
  const BrokerPool = require('kafkajs/src/cluster/brokerPool') as new (options: object) => Pool;
  return Object.assign(new BrokerPool({ logger: silent }), { brokers });
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function queue() {
  const logger = { debug: () => {}, warn: () => {} };
  const made = new RequestQueue({
    maxInFlightRequests: 1,
    requestTimeout: 30_000,
    enforceRequestTimeout: true,
    clientId: 'c',
    broker: 'b',
    logger,
  });
  const sent: number[] = [];
  const failed: string[] = [];
  const push = (correlationId: number) => {
    const reject = ({ name, message }: Error) => void failed.push(`${correlationId} ${name} ${message}`);
    made.push({
      entry: { correlationId, apiKey: 0, apiName: 'Produce', apiVersion: 7, resolve: () => {}, reject },
      expectResponse: true,
      sendRequest: () => sent.push(correlationId),
    });
  };
  const answer = (correlationId: number) => made.fulfillRequest({ correlationId, size: 0, payload: Buffer.alloc(0) });
  return { made, sent, failed, push, answer };
}

test('idle: no timer; without us there is one', () => {
  const before = queue();
  before.push(1);
  before.answer(1);
  expect(vi.getTimerCount()).toBe(1);
  vi.clearAllTimers();

  repairKafkaJsTime();
  repairKafkaJsTime();
  const { push, answer, sent } = queue();
  push(1);
  answer(1);
  expect(sent).toEqual([1]);
  expect(vi.getTimerCount()).toBe(0);
});

test('what waits is sent with the answer before it, or when the broker’s throttling is over', () => {
  repairKafkaJsTime();
  const { made, push, answer, sent } = queue();
  push(1);
  push(2);
  expect(sent).toEqual([1]);
  answer(1);
  expect(sent).toEqual([1, 2]);
  answer(2);
  made.maybeThrottle(500);
  push(3);
  vi.advanceTimersByTime(490);
  expect(sent).toEqual([1, 2]);
  vi.advanceTimersByTime(20);
  expect(sent).toEqual([1, 2, 3]);
});

const HOUR = 3_600_000;
/** Date alone is set; timers and the monotonic clock go on, as on a real machine. */
const stepWall = (byMs: number) => {
  const real = Date.now;
  vi.spyOn(Date, 'now').mockImplementation(() => real() + byMs);
};

describe.each([HOUR, -HOUR])('the wall clock is set by %d ms', (byMs) => {
  beforeEach(() => repairKafkaJsTime());
  afterEach(() => void vi.restoreAllMocks());

  test('heartbeats go on at their interval', async () => {
    const ConsumerGroup = require('kafkajs/src/consumer/consumerGroup') as new (options: object) => Group;
    const group = new ConsumerGroup({ logger: { namespace: () => ({}) }, instrumentationEmitter: { emit() {} } });
    let beats = 0;
    Object.assign(group, { memberId: 'm', coordinator: { heartbeat: async () => void beats++ } });
    await group.heartbeat({ interval: 1_000 });
    expect(beats).toBe(0);
    stepWall(byMs);
    vi.advanceTimersByTime(900);
    await group.heartbeat({ interval: 1_000 });
    expect(beats).toBe(0);
    vi.advanceTimersByTime(100);
    await group.heartbeat({ interval: 1_000 });
    expect(beats).toBe(1);
    await group.heartbeat({ interval: 1_000 });
    expect(beats).toBe(1);
  });

  test('requests time out when they are late, not before and not an hour later', () => {
    const { made, push, failed } = queue();
    made.scheduleRequestTimeoutCheck();
    push(1);
    stepWall(byMs);
    vi.advanceTimersByTime(29_900);
    expect(failed).toEqual([]);
    vi.advanceTimersByTime(400);
    expect(failed).toEqual(['1 KafkaJSConnectionError Request Produce(key: 0, version: 7) timed out']);
    made.destroy();
  });

  test('metadata grow old as they should', async () => {
    const pool = brokerPool({});
    let asked = 0;
    pool.refreshMetadata = async () => void asked++;
    pool.metadata = { topicMetadata: [] };
    pool.metadataExpireAt = Date.now() + 12_000;
    stepWall(byMs);
    vi.advanceTimersByTime(11_900);
    await pool.refreshMetadataIfNecessary([]);
    expect(asked).toBe(0);
    vi.advanceTimersByTime(200);
    await pool.refreshMetadataIfNecessary([]);
    expect(asked).toBe(1);
  });

  test('what a broker throttles waits as long as it said', () => {
    const { made, push, sent } = queue();
    made.maybeThrottle(500);
    stepWall(byMs);
    push(1);
    vi.advanceTimersByTime(490);
    expect(sent).toEqual([]);
    vi.advanceTimersByTime(20);
    expect(sent).toEqual([1]);
  });
});

test('a process that was stopped reads the answers that wait before it calls them late', () => {
  repairKafkaJsTime();
  const { made, push, answer, failed } = queue();
  made.scheduleRequestTimeoutCheck();
  push(1);
  vi.advanceTimersByTime(1_000);
  // Stopped for a minute: both clocks go on, no timer does.
  const { now } = performance;
  const { now: wall } = Date;
  vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + 60_000);
  vi.spyOn(Date, 'now').mockImplementation(() => wall() + 60_000);
  vi.advanceTimersByTime(100);
  expect(failed).toEqual([]);
  answer(1);
  push(2);
  vi.advanceTimersByTime(30_500);
  expect(failed).toHaveLength(1);
  made.destroy();
  vi.restoreAllMocks();
});

describe('a broker that has stopped answering', () => {
  beforeEach(() => repairKafkaJsTime());

  const Connection = require('kafkajs/src/network/connection') as new (options: object) => ConnectionLike;
  const connection = (port: number) =>
    new Connection({ host: 'h', port, logger: silent, requestTimeout: 10_000, connectionTimeout: 1_000 });
  /** Connected, without a socket: what is asked waits for ever. */
  let ports = 0;
  function open() {
    const made = connection(++ports);
    made.connectionStatus = 'connected';
    void made.connect();
    made.requestQueue.scheduleRequestTimeoutCheck();
    const failed: string[] = [];
    const failWith = ({ name, type, message }: Error & { type?: string }) =>
      void failed.push(`${type ?? name} ${message}`);
    const ask = (apiKey: number, correlationId: number) =>
      made.requestQueue.push({
        entry: { ...entry(correlationId, apiKey), reject: failWith },
        expectResponse: true,
        sendRequest: () => {},
      });
    return { made, ask, failed };
  }

  test('is hung up on: all it owes fails at once, and a part of an answer does not reach the next connection', async () => {
    const { made, ask, failed } = open();
    made.chunks = [Buffer.from('half')];
    made.bytesBuffered = 4;
    ask(1, 1);
    vi.advanceTimersByTime(5_000);
    ask(9, 2);
    // Of a heartbeat it means that another broker is to be asked: kafkajs looks for the coordinator and joins again as the same member.
    ask(12, 3);
    vi.advanceTimersByTime(5_200);
    expect(failed).toEqual([
      'KafkaJSConnectionError Request api(key: 1, version: 1) timed out',
      'KafkaJSConnectionError The broker has stopped answering',
      'NOT_COORDINATOR_FOR_GROUP The broker has stopped answering',
    ]);
    await vi.advanceTimersByTimeAsync(0);
    expect(made.isConnected()).toBe(false);
    expect([made.chunks, made.bytesBuffered]).toEqual([[], 0]);
  });

  test.each([3, 10, 17, 18])('is given 4 s for what any broker answers from memory (api %d)', async (apiKey) => {
    const { ask, failed } = open();
    ask(apiKey, 1);
    vi.advanceTimersByTime(3_900);
    expect(failed).toEqual([]);
    vi.advanceTimersByTime(300);
    expect(failed).toHaveLength(1);
  });

  test('is not asked though it is the only one that is connected, be it the address that was asked first', async () => {
    const [frozen, well] = [open(), open()];
    well.made.connectionStatus = 'disconnected';
    const broker = (id: number, { made }: typeof frozen) => ({
      id,
      isConnected: () => made.isConnected(),
      connect: async () => void Object.assign(made, { connectionStatus: 'connected' }),
      connectionPool: { pool: [made] },
    });
    const brokers = [broker(0, frozen), broker(1, well)];
    const pool = Object.assign(brokerPool({ ...brokers }), { seedBroker: brokers[0] });
    frozen.ask(1, 1);
    vi.advanceTimersByTime(10_200);
    await vi.advanceTimersByTimeAsync(0);
    // It takes connections.
    frozen.made.connectionStatus = 'connected';
    expect((await pool.findConnectedBroker()).id).toBe(1);
    for (const { made } of [frozen, well]) made.connectionStatus = 'disconnected';
    let seeds = 0;
    pool.createSeedBroker = async () => void Object.assign(pool, { seedBroker: brokers[++seeds] });
    await pool.connect();
    expect([seeds, frozen.made.isConnected(), well.made.isConnected()]).toEqual([1, false, true]);
  });

  test('is known to every client of the process, until it answers one of them', async () => {
    const [owing, other] = [open(), open()];
    const same = Object.assign(connection(ports - 1), { connectionStatus: 'connected' });
    void same.connect();
    const brokers = Object.fromEntries(
      [same, other.made].map((made, id) => [
        id,
        { id, isConnected: () => made.isConnected(), connectionPool: { pool: [made] } },
      ]),
    );
    const pool = brokerPool(brokers);
    let asked = 0;
    pool.metadata = { topicMetadata: [] };
    pool.metadataExpireAt = Date.now() + HOUR;
    pool.refreshMetadata = async () => void asked++;
    owing.ask(1, 1);
    vi.advanceTimersByTime(10_200);
    for (let i = 0; i < 20; i++) expect((await pool.findConnectedBroker()).id).toBe(1);
    await pool.refreshMetadataIfNecessary([]);
    expect(asked).toBe(1);
    pool.metadataExpireAt = Date.now() + HOUR;
    same.requestQueue.push({ entry: entry(7, 3), expectResponse: true, sendRequest: () => {} });
    same.requestQueue.fulfillRequest({ correlationId: 7, size: 0, payload: Buffer.alloc(0) });
    await pool.refreshMetadataIfNecessary([]);
    expect(asked).toBe(1);
    const chosen = new Set<number>();
    for (let i = 0; i < 50; i++) chosen.add((await pool.findConnectedBroker()).id);
    expect(chosen.size).toBe(2);
  });

  test('is asked last, and what is known of leaders is asked anew once it has timed out', async () => {
    const [frozen, well] = [open(), open()];
    const brokers = Object.fromEntries(
      [frozen, well].map(({ made }, id) => [
        id,
        { id, isConnected: () => made.isConnected(), connectionPool: { pool: [made] } },
      ]),
    );
    const pool = brokerPool(brokers);
    let asked = 0;
    const base = Object.getPrototypeOf(pool).refreshMetadata as unknown;
    expect(base).toBeTypeOf('function');
    pool.metadata = { topicMetadata: [] };
    pool.metadataExpireAt = Date.now() + HOUR;
    pool.refreshMetadata = async () => void asked++;
    const chosen = async () => {
      const ids = new Set<number>();
      for (let i = 0; i < 50; i++) ids.add((await pool.findConnectedBroker()).id);
      return [...ids].sort();
    };
    expect(await chosen()).toEqual([0, 1]);
    frozen.ask(1, 1);
    vi.advanceTimersByTime(2_500);
    expect(await chosen()).toEqual([1]);
    expect(await pool.withBroker(async ({ nodeId }) => nodeId)).toBe('1');
    await pool.refreshMetadataIfNecessary([]);
    expect(asked).toBe(0);
    vi.advanceTimersByTime(8_000);
    await pool.refreshMetadataIfNecessary([]);
    expect(asked).toBe(1);
    // A join waits for the others on purpose.
    well.ask(11, 1);
    vi.advanceTimersByTime(3_000);
    expect(await chosen()).toEqual([1]);
  });
});

test('reading goes on while a heartbeat waits for its answer, and what became of it is told to the next one', async () => {
  repairKafkaJsTime();
  const Runner = require('kafkajs/src/consumer/runner') as new (options: object) => { heartbeat(): Promise<void> };
  const asked: { answer(): void; fail(error: Error): void }[] = [];
  const consumerGroup = {
    lastRequest: Date.now(),
    heartbeat: () => new Promise<void>((answer, fail) => asked.push({ answer, fail })),
  };
  const runner = new Runner({ logger: silent, consumerGroup, heartbeatInterval: 1_000, autoCommit: false });
  consumerGroup.lastRequest = Date.now() - 1_000;
  let went = false;
  const first = runner.heartbeat().then(() => {
    went = true;
  });
  await vi.advanceTimersByTimeAsync(490);
  expect(went).toBe(false);
  await vi.advanceTimersByTimeAsync(20);
  await first;
  await runner.heartbeat();
  expect(asked).toHaveLength(1);
  asked[0]!.fail(new Error('no longer me'));
  await vi.advanceTimersByTimeAsync(0);
  await expect(runner.heartbeat()).rejects.toThrow('no longer me');
  const second = runner.heartbeat();
  asked[1]!.answer();
  await second;
  const third = runner.heartbeat();
  asked[2]!.fail(new Error('at once'));
  await expect(third).rejects.toThrow('at once');
  expect(vi.getTimerCount()).toBe(0);
});

test('every place where kafkajs reads the wall clock is known: repaired, or of no consequence', () => {
  const root = dirname(require.resolve('kafkajs/package.json'));
  const uses: Record<string, number> = {};
  for (const name of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.js') || /\.spec\.js$|__tests__/.test(name)) continue;
    const found = readFileSync(join(root, 'src', name), 'utf8').match(/\bDate\.now\b|\bnew Date\b/g);
    if (found !== null) uses[name.split(sep).join('/')] = found.length;
  }
  expect(uses).toEqual({
    // Repaired: moments by the monotonic clock, and the look for late answers is ours.
    'cluster/brokerPool.js': 2, // when metadata grow old
    'network/requestQueue/index.js': 4, // late answers, a broker's throttling
    'network/requestQueue/socketRequest.js': 4, // when a request was sent; `createdAt` is only told (source/kafka/session.ts)
    // Repaired: `lastRequest`, the heartbeats' interval. The others: how long a join took, told only; when a preferred replica is
    // forgotten, which brokers name only to clients that give a rack, and ours give none.
    'consumer/consumerGroup.js': 7,
    // Told only, or the client's own times of records: topics have the brokers' (LogAppendTime).
    'consumer/runner.js': 5,
    'instrumentation/event.js': 1,
    'loggers/index.js': 1,
    'protocol/message/v1/index.js': 1,
    'protocol/recordBatch/v0/index.js': 2,
    'protocol/requests/produce/v2/request.js': 1,
    'protocol/requests/produce/v3/request.js': 1,
    'protocol/requests/offsetCommit/v1/request.js': 1, // a version that brokers since 0.9 are not asked in
    'consumer/offsetManager/index.js': 4, // when to commit by itself, which no consumer here does
  });
});
