// The alert state on a real Kafka: who takes over is alone, sees everything that was committed and nothing else, and does
// not wait for the dead.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Client } from '@elastic/elasticsearch';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createHistorySender, installAlertsTemplate } from '../../src/alerter/history.ts';
import { createLeadership, createThreadedLeadership, type Leadership } from '../../src/alerter/leadership.ts';
import { type AlertStore, LostTermError } from '../../src/alerter/store.ts';
import { createKafkaStores, type KafkaStores } from '../../src/alerter/store-kafka.ts';
import { sleep, systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { historyDocument, type OutboxResult } from '../../src/incidents/records.ts';
import { createSendBulk } from '../../src/indexing/elasticsearch.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { settled } from '../kit/fake-clock.ts';
import type { HoldAlertsOptions } from '../kit/hold-alerts.ts';
import { startKafkaFront } from '../kit/kafka-front.ts';
import { createTopic, spawnScript, testBrokers, testEsUrl, uniqueName, waitFor } from '../kit/servers.ts';
import { kafkaConfig, testKafka } from './intake-kit.ts';

interface Place {
  readonly config: KafkaConfig;
  readonly topic: string;
  readonly transactionalId: string;
}

async function newTopic(brokers = testBrokers(), settings: Record<string, string> = {}): Promise<Place> {
  const topic = uniqueName('alerts');
  await createTopic(brokers, topic, { partitions: 1, config: { 'cleanup.policy': 'compact', ...settings } });
  return { config: kafkaConfig({ topic, brokers }), topic, transactionalId: `${topic}-tx` };
}

function storesOf(
  place: Place,
  more: { commitTimeoutMs?: number; mayTakeOver?: () => Promise<void> } = {},
): KafkaStores {
  const { mayTakeOver = async () => {}, ...options } = more;
  const stores = createKafkaStores(
    { ...place, ...options },
    { kafka: createKafka(place.config, silentLog), clock: systemClock, log: silentLog, mayTakeOver },
  );
  onTestFinished(() => stores.close());
  return stores;
}

async function open(stores: KafkaStores): Promise<AlertStore> {
  const store = await stores.open();
  onTestFinished(() => store.close());
  return store;
}

const contents = (store: AlertStore) => Object.fromEntries(store.initial);
const lost = (why: string) => ({ name: 'LostTermError', why });

describe('a take-over', () => {
  it('reads commits whole, in order, without what was removed, of a topic full of transaction markers', async () => {
    const place = await newTopic();
    const first = await open(storesOf(place));
    expect(contents(first)).toEqual({});
    await first.commit([
      { key: 'alert/a', value: { n: 1 } },
      { key: 'alert/b', value: { text: 'é 🚨' } },
    ]);
    await first.commit([
      { key: 'alert/a', value: null },
      { key: 'alert/c', value: { n: 3 } },
    ]);
    await Promise.all([1, 2, 3, 4, 5].map((n) => first.commit([{ key: 'alert/n', value: { n } }])));
    await first.commit([]);
    await first.confirm(60_000);
    await first.confirm(0);
    const second = await open(storesOf(place));
    expect(contents(second)).toEqual({ 'alert/b': { text: 'é 🚨' }, 'alert/c': { n: 3 }, 'alert/n': { n: 5 } });
  });

  it('ends the former leader: it can write nothing, and nothing of what it tried is ever seen', async () => {
    const place = await newTopic();
    const old = await open(storesOf(place));
    await old.commit([{ key: 'alert/a', value: { by: 'old' } }]);
    const fresh = await open(storesOf(place));
    await expect(old.commit([{ key: 'alert/a', value: { by: 'nobody' } }])).rejects.toMatchObject(lost('taken'));
    await expect(old.confirm(0)).rejects.toThrow(LostTermError);
    await expect(old.commit([{ key: 'alert/x', value: {} }])).rejects.toThrow(LostTermError);
    await fresh.commit([{ key: 'alert/b', value: { by: 'fresh' } }]);
    await fresh.confirm(0);
    const third = await open(storesOf(place));
    expect(contents(third)).toEqual({ 'alert/a': { by: 'old' }, 'alert/b': { by: 'fresh' } });
    // An instance that has taken over before is as warm as it gets: no group to join, nothing to read twice.
    const stores = storesOf(place);
    await open(stores);
    const since = Date.now();
    await open(stores);
    expect(Date.now() - since).toBeLessThan(2_000);
  });

  it('does not happen when this instance may no longer', async () => {
    const place = await newTopic();
    const leader = await open(storesOf(place));
    const stores = storesOf(place, { mayTakeOver: () => Promise.reject(new LostTermError()) });
    await expect(stores.open()).rejects.toThrow(LostTermError);
    await leader.commit([{ key: 'alert/a', value: {} }]);
  });

  it('takes seconds, not a transaction time-out, when the former leader was killed within a transaction', async () => {
    const place = await newTopic();
    const before = await open(storesOf(place));
    await before.commit([{ key: 'alert/a', value: { n: 1 } }]);
    await killedWithin(place);
    const since = Date.now();
    const store = await open(storesOf(place));
    expect(Date.now() - since).toBeLessThan(5_000);
    expect(contents(store)).toEqual({ 'alert/a': { n: 1 } });
    await store.commit([{ key: 'alert/b', value: { n: 2 } }]);
    // Readers who only look are not held up either.
    expect(contents(await open(storesOf(place)))).toEqual({ 'alert/a': { n: 1 }, 'alert/b': { n: 2 } });
  });

  it('reads to the end of a compacted topic, holes, markers and large commits included', {
    timeout: 240_000,
  }, async () => {
    const place = await newTopic(testBrokers(), {
      'segment.ms': '500',
      'segment.bytes': '1048576',
      'min.cleanable.dirty.ratio': '0.01',
      'delete.retention.ms': '0',
      'max.compaction.lag.ms': '1000',
    });
    const expected = new Map<string, object>();
    const writer = await open(storesOf(place));
    // Counted here: the broker may begin to compact before all is written.
    let written = 0;
    const write = async (n: number) => {
      const big = { n, text: 'x'.repeat(20_000) };
      const changes = [
        // 60 × 20 kB: more than one request takes.
        ...Array.from({ length: n === 0 ? 60 : 2 }, (_, i) => ({ key: `outbox/${i}`, value: big })),
        { key: `gone/${n}`, value: { n } },
        { key: `gone/${n - 1}`, value: null },
      ];
      await writer.commit(changes);
      // And a marker.
      written += changes.length + 1;
      for (const { key, value } of changes) {
        if (value === null) expected.delete(key);
        else expected.set(key, value);
      }
    };
    for (let n = 0; n < 40; n++) await write(n);
    await waitFor(
      async () => {
        // New segments begin with appends only.
        await writer.confirm(0);
        return (await rawRecords(place.topic)) < written / 2;
      },
      { what: 'compaction', timeoutMs: 180_000, intervalMs: 1_000 },
    );
    const store = await open(storesOf(place));
    expect(store.initial).toEqual(expected);
  });

  it('after a commit of which nobody knows: all of it or nothing, and never any more of it', {
    timeout: 120_000,
  }, async () => {
    const front = await startKafkaFront();
    const place = await newTopic(front.brokers);
    const stores = storesOf(place, { commitTimeoutMs: 2_000 });
    const both = (n: number) => [
      { key: 'alert/a', value: { n } },
      { key: 'alert/b', value: { n } },
    ];
    const is = (n: number) => ({ 'alert/a': { n }, 'alert/b': { n } });
    let store = await open(stores);
    await store.commit(both(1));

    // Written, but the answer never came.
    front.lose('answer');
    await expect(store.commit(both(2))).rejects.toMatchObject(lost('unknown'));
    await expect(store.commit(both(0))).rejects.toThrow(LostTermError);
    store = await open(stores);
    expect(contents(store)).toEqual(is(2));

    // Everything but its end was written.
    front.lose('request');
    await expect(store.commit(both(3))).rejects.toMatchObject(lost('unknown'));
    store = await open(stores);
    expect(contents(store)).toEqual(is(2));

    // Its end comes when somebody else has taken over long since.
    front.lose('late');
    await expect(store.commit(both(4))).rejects.toMatchObject(lost('unknown'));
    store = await open(stores);
    expect(contents(store)).toEqual(is(2));
    await front.deliver();
    await store.commit([{ key: 'alert/c', value: {} }]);
    expect(contents(await open(stores))).toEqual({ ...is(2), 'alert/c': {} });
  });
});

describe('leadership', () => {
  const SESSION_MS = 4_000;

  function leadershipOf(config: KafkaConfig, counts: string, clock = systemClock) {
    const events: string[] = [];
    const leadership: Leadership = createLeadership(
      {
        brokers: config.brokers,
        group: config.alerterGroup,
        topic: counts,
        requestTimeoutMs: 10_000,
        sessionTimeoutMs: SESSION_MS,
        heartbeatMs: 300,
      },
      {
        onTerm: (epoch) => events.push(`holding ${epoch}`),
        onLost: (epoch, why) => events.push(`lost ${epoch}: ${why}`),
        onStandby: () => events.push('standby'),
      },
      { kafka: createKafka(config, silentLog), clock, log: silentLog, metrics: createMetrics() },
    );
    leadership.start();
    onTestFinished(() => leadership.close());
    return { leadership, events };
  }

  async function groupOf() {
    const counts = uniqueName('counts');
    await createTopic(testBrokers(), counts, { partitions: 1 });
    return { counts, config: { ...kafkaConfig({ topic: counts }), alerterGroup: `${counts}-alerter` } };
  }

  it('is one member’s; the next one has it within a second of its leaving', async () => {
    const { counts, config } = await groupOf();
    const one = leadershipOf(config, counts);
    await waitFor(() => one.events.includes('holding 1'), { what: 'the first leader' });
    const two = leadershipOf(config, counts);
    await waitFor(() => two.events.length > 0, { what: 'the second member' });
    // Either may have it now; never both, and whoever has it has it once.
    await waitFor(() => (one.leadership.epoch() === undefined) !== (two.leadership.epoch() === undefined), {
      what: 'one leader',
    });
    const [has, waits] = one.leadership.epoch() === undefined ? [two, one] : [one, two];
    await has.leadership.assured();
    await expect(waits.leadership.assured()).rejects.toThrow(LostTermError);
    const since = Date.now();
    await has.leadership.close();
    await waitFor(() => waits.leadership.epoch() !== undefined, { what: 'the other one' });
    expect(Date.now() - since).toBeLessThan(2_000);
    expect(has.events.at(-1)).toBe('lost 1: closed');
    await has.leadership.ended;
  });

  it('is assured only by what the group said lately', async () => {
    const { counts, config } = await groupOf();
    let offset = 0;
    const { leadership, events } = leadershipOf(config, counts, { ...systemClock, now: () => Date.now() + offset });
    await waitFor(() => events.includes('holding 1'), { what: 'the leader' });
    const late = leadership.assured();
    await late;
    // Set back, or suspended for an hour: what was said before counts no more, the next heartbeat does.
    for (const wall of [-3_600_000, 3_600_000]) {
      offset = wall;
      const since = Date.now();
      const assured = leadership.assured();
      let known = false;
      void assured.then(() => (known = true));
      await settled();
      expect(known).toBe(false);
      await assured;
      expect(Date.now() - since).toBeLessThan(2_000);
    }
    offset = 0;
    const waiting = leadership.assured();
    await Promise.all([expect(waiting).rejects.toThrow(LostTermError), leadership.close()]);
  });

  describe('in a thread of its own', () => {
    const SHORT_MS = 3_000;
    const thread = pathToFileURL(join(packageRoot(), 'dist/src/alerter/leader-thread.js'));

    function threaded(config: KafkaConfig, counts: string, more: { hungAfterMs?: number } = {}) {
      const events: string[] = [];
      const leadership = createThreadedLeadership(
        {
          ...{ kafka: config, brokers: config.brokers, group: config.alerterGroup, topic: counts, ...more },
          ...{ requestTimeoutMs: 10_000, sessionTimeoutMs: SHORT_MS, heartbeatMs: 300 },
        },
        {
          onTerm: (epoch) => events.push(`holding ${epoch}`),
          onLost: (epoch, why) => events.push(`lost ${epoch}: ${why}`),
          onStandby: () => events.push('standby'),
        },
        { clock: systemClock, log: silentLog, metrics: createMetrics(), entry: thread },
      );
      leadership.start();
      onTestFinished(() => leadership.close());
      return { leadership, events };
    }

    /** Another process, and what it says. */
    async function standby(config: KafkaConfig, counts: string) {
      const { topic: alerts, transactionalId } = await newTopic();
      const options: HoldAlertsOptions = {
        ...{ config: { ...config, clientId: 'z-other' }, counts, alerts, transactionalId },
        ...{ key: 'other', sessionTimeoutMs: SHORT_MS },
      };
      const other = spawnScript('test/kit/hold-alerts.js', [JSON.stringify(options)]);
      await other.waitForLine(/^standby$/);
      return other;
    }

    /** Nothing else runs in this thread. */
    function busy(ms: number): void {
      for (const until = performance.now() + ms; performance.now() < until; );
    }

    it('is kept while the process is busy for longer than a session', async () => {
      const { counts, config } = await groupOf();
      const { leadership, events } = threaded(config, counts);
      await waitFor(() => events.includes('holding 1'), { what: 'the leader' });
      const other = await standby(config, counts);
      await waitFor(() => leadership.assured().then(() => true), { what: 'one leader' });
      const asked = leadership.assured();
      busy(SHORT_MS + 5_000);
      await asked;
      await leadership.assured();
      expect(events).toEqual(['holding 1']);
      expect(other.stdout()).toBe('standby\n');
    });

    it('is given up by a process that hangs, and may be had again by one that does no more', async () => {
      const { counts, config } = await groupOf();
      const { leadership, events } = threaded(config, counts, { hungAfterMs: 1_500 });
      await waitFor(() => events.includes('holding 1'), { what: 'the leader' });
      const other = await standby(config, counts);
      await waitFor(() => leadership.assured().then(() => true), { what: 'one leader' });
      const asked = leadership.assured();
      busy(7_000);
      await expect(asked).rejects.toThrow(LostTermError);
      expect(events).toEqual(['holding 1', 'lost 1: this process hung']);
      await other.waitForLine(/^committed 1$/);
      await waitFor(() => events.includes('standby'), { what: 'it is a member again' });
      other.kill('SIGKILL');
      await waitFor(() => events.at(-1) === 'holding 2', { what: 'it leads again' });
      await leadership.assured();
    });
  });

  it('a leader stopped for longer than its session neither writes nor takes the state back when it wakes', {
    timeout: 120_000,
  }, async () => {
    const { counts, config } = await groupOf();
    const place = await newTopic();
    const options: HoldAlertsOptions = {
      // The assigner prefers the first in the order of names: awake again, the old one is not given back what it lost.
      config: { ...config, clientId: 'z-old' },
      counts,
      alerts: place.topic,
      transactionalId: place.transactionalId,
      key: 'old',
      sessionTimeoutMs: SESSION_MS,
    };
    const old = spawnScript('test/kit/hold-alerts.js', [JSON.stringify(options)]);
    await old.waitForLine(/^committed 20$/);
    old.kill('SIGSTOP');
    const stoppedMs = Date.now();
    const { leadership } = leadershipOf({ ...config, clientId: 'a-new' }, counts);
    await waitFor(() => leadership.epoch() !== undefined, { what: 'the new leader' });
    const stores = storesOf(place, { mayTakeOver: () => leadership.assured() });
    const store = await open(stores);
    expect(Date.now() - stoppedMs).toBeLessThan(SESSION_MS + 4_000);
    const taken = contents(store);
    expect(taken).toMatchObject({ 'old/0': { n: expect.any(Number) } });
    await store.commit([{ key: 'new/1', value: {} }]);

    const lines = old.stdout().split('\n').length;
    old.kill('SIGCONT');
    await old.waitForLine(/^refused: taken$|^refused: unknown$/);
    const since = () =>
      old
        .stdout()
        .split('\n')
        .slice(lines - 1);
    await waitFor(() => since().some((line) => /^lost |^standby/.test(line)), { what: 'the old one to notice' });
    // For several sessions: it does not fence its successor off.
    const until = Date.now() + 2 * SESSION_MS;
    for (let n = 2; Date.now() < until; n++) {
      await store.commit([{ key: `new/${n % 10}`, value: { n } }]);
      await sleep(100);
    }
    expect(leadership.epoch()).toBe(1);
    expect(since().filter((line) => line.startsWith('opened'))).toEqual([]);
    old.kill('SIGKILL');
    await old.exit;
    const after = Object.entries(contents(await open(stores))).filter(([key]) => key.startsWith('old/'));
    expect(Object.fromEntries(after)).toEqual(taken);
  });
});

it('the history is searchable in the month’s index, once, whatever was sent twice', async () => {
  const client = new Client({ node: testEsUrl() });
  onTestFinished(() => client.close());
  const environment = uniqueName('env');
  const document = historyDocument(
    { name: 'acknowledged', by: 'ann' },
    { wallMs: Date.UTC(2026, 2, 2), seq: 7, environment },
  );
  const results: OutboxResult[] = [];
  const sender = createHistorySender({
    send: createSendBulk(client),
    prepare: () => installAlertsTemplate(client, silentLog),
    onResults: (some) => void results.push(...some),
    clock: systemClock,
    log: silentLog,
  });
  onTestFinished(() => sender.close());
  for (const id of ['1-history', '2-history']) {
    sender.add([{ id, channel: 'history', createdMs: 0, attempts: 0, nextMs: 0, document }]);
  }
  await waitFor(() => results.length === 2, { what: 'both results' });
  expect(results.map(({ result }) => result.ok)).toEqual([true, true]);
  expect(await installAlertsTemplate(client, silentLog)).toBe('unchanged');
  await client.indices.refresh({ index: 'logpipe-alerts-2026.03' });
  const found = await client.search({ index: 'logpipe-alerts-*', query: { term: { environment } } });
  expect(found.hits.hits).toMatchObject([
    { _index: 'logpipe-alerts-2026.03', _id: document.id, _source: document.source },
  ]);
});

/** What a leader leaves that is killed after it has sent and before it has committed, with a time-out of a minute. */
async function killedWithin({ config, topic, transactionalId }: Place): Promise<void> {
  const script = `
    import kafkajs from 'kafkajs';
    const [brokers, topic, transactionalId] = process.argv.slice(1);
    const kafka = new kafkajs.Kafka({ brokers: brokers.split(','), logLevel: kafkajs.logLevel.NOTHING });
    const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1, transactionTimeout: 60000,
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
    await producer.connect();
    const transaction = await producer.transaction();
    await transaction.send({ topic, messages: [{ key: 'alert/open', value: '{}', partition: 0 }] });
    console.log('open');
    setInterval(() => {}, 1000);`;
  const args = ['--input-type=module', '-e', script, config.brokers.join(','), topic, transactionalId];
  const child = spawn(process.execPath, args, { cwd: packageRoot(), stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const exited = new Promise((resolve) => child.once('exit', resolve));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', () => reject(new Error('the child ended before its transaction was open')));
  });
  child.kill('SIGKILL');
  await exited;
}

/** Records that a reader from the beginning is given. */
async function rawRecords(topic: string): Promise<number> {
  const kafka = testKafka();
  const admin = kafka.admin();
  const consumer = kafka.consumer({ groupId: uniqueName('raw'), maxWaitTimeInMs: 100 });
  await admin.connect();
  await consumer.connect();
  try {
    const [row] = await admin.fetchTopicOffsets(topic);
    const end = Number(row?.high);
    let count = 0;
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
        if (Number(payload.lastOffset) >= end - 1) resolve();
      });
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      consumer
        .run({
          autoCommit: false,
          eachBatch: async ({ batch }) => {
            count += batch.messages.length;
          },
        })
        .catch(reject);
    });
    return count;
  } finally {
    await consumer.disconnect();
    await admin.disconnect();
  }
}
