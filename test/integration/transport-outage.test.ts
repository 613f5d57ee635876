// The transport under load while its broker is frozen, killed and started again: each event is in Kafka or counted as
// dropped, a second copy is marked, and the application never waits.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import winston from 'winston';
import type { SpoolOptions } from '../../src/ship/options.ts';
import { KafkaTransport, type KafkaTransportDeps } from '../../src/ship/transport.ts';
import { createTopic, startKafka, uniqueName, waitFor } from '../kit/servers.ts';

const EVERY_MS = 10;
const PER_TICK = 5;

const kafka = await startKafka({ heap: '256m' });

/** 500 events a second until `stop()`, numbered, with the time each call took. */
async function underLoad(maxRecords: number, deps: KafkaTransportDeps = {}, spool?: SpoolOptions) {
  const topic = uniqueName('outage');
  await createTopic(kafka.brokers, topic, { partitions: 4 });
  const kept = spool === undefined ? {} : { spool };
  const options = { brokers: kafka.brokers, topic, service: 'api', closeTimeoutMs: 60_000, ...kept };
  const transport = new KafkaTransport({ ...options, batch: { maxDelayMs: 20 }, queue: { maxRecords } }, deps);
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  const warnings: string[] = [];
  let failures = 0;
  transport.on('warn', ({ message }: { message: string }) => warnings.push(message));
  transport.on('send-failed', () => failures++);
  const times: number[] = [];
  const tick = () => {
    for (let i = 0; i < PER_TICK; i++) {
      const started = performance.now();
      logger.info(`event ${times.length}`, times.length % 2 === 0 ? { callId: `CA${times.length % 50}` } : {});
      times.push(performance.now() - started);
    }
  };
  const timer = setInterval(tick, EVERY_MS);
  onTestFinished(async () => {
    clearInterval(timer);
    await transport.close();
  });
  return {
    topic,
    transport,
    warnings,
    failures: () => failures,
    delivered: async (more: number) => {
      const goal = transport.stats().delivered + more;
      await waitFor(() => transport.stats().delivered >= goal, { what: `${goal} delivered`, timeoutMs: 60_000 });
    },
    caughtUp: () =>
      waitFor(() => transport.stats().queuedRecords < EVERY_MS * PER_TICK, {
        what: 'an empty queue',
        timeoutMs: 60_000,
      }),
    stop: async () => {
      clearInterval(timer);
      return {
        produced: times.length,
        closed: await transport.close(),
        median: times.sort((a, b) => a - b)[times.length >> 1],
      };
    },
  };
}

/** Per event number: how often it is in the topic, how many of the copies are marked as sent again, and its ids. */
async function readBack(topic: string) {
  const client = new kafkajs.Kafka({ brokers: kafka.brokers, logLevel: kafkajs.logLevel.NOTHING });
  const admin = client.admin();
  await admin.connect();
  const ends = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  const total = ends.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0);
  const consumer = client.consumer({ groupId: uniqueName('reader'), maxWaitTimeInMs: 50 });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const events = new Map<string, { copies: number; resent: number; ids: Set<string> }>();
  let seen = 0;
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ message }) => {
      const { message: name } = JSON.parse(String(message.value)) as { message: string };
      const event = events.get(name) ?? { copies: 0, resent: 0, ids: new Set<string>() };
      events.set(name, event);
      event.copies++;
      if (message.headers?.resent !== undefined) event.resent++;
      event.ids.add(String(message.headers?.eventId));
      seen++;
    },
  });
  try {
    await waitFor(() => seen >= total, { what: `${total} records in ${topic}` });
  } finally {
    await consumer.disconnect();
  }
  return [...events.values()];
}

function expectExactlyOnce(events: Awaited<ReturnType<typeof readBack>>, delivered: number): void {
  expect(events.length).toBe(delivered);
  expect(events.filter(({ ids }) => ids.size !== 1)).toEqual([]);
  // A reader drops what it has seen by its id; the mark tells it where to look.
  expect(events.filter(({ copies, resent }) => copies > 1 && resent < copies - 1)).toEqual([]);
}

it('a broker that freezes beyond the time-out of a request, and goes on', { timeout: 180_000 }, async () => {
  const load = await underLoad(2_000);
  await load.delivered(500);
  await kafka.pause();
  try {
    await waitFor(() => load.warnings.some((text) => /has not answered for/.test(text)), {
      what: 'a request that is no longer waited for',
      timeoutMs: 60_000,
    });
    expect(load.transport.stats().queuedRecords).toBe(2_000);
  } finally {
    await kafka.resume();
  }
  await load.delivered(3_000);
  const { produced, closed, median } = await load.stop();
  expect(closed.dropped).toBeGreaterThan(0);
  expect(closed).toEqual({ delivered: produced - closed.dropped, dropped: closed.dropped, undelivered: 0 });
  expect(load.transport.stats().dropped).toMatchObject({ 'queue-full': closed.dropped });
  expect(median).toBeLessThan(5);
  const events = await readBack(load.topic);
  expectExactlyOnce(events, closed.delivered);
  // The request was repeated with the same numbers: the broker saw that it had it already.
  expect(events.filter(({ copies }) => copies > 1)).toEqual([]);
});

it('a broker that freezes until the transport gives up on its answer', { timeout: 180_000 }, async () => {
  const load = await underLoad(100_000, { sendTimeoutMs: 2_000 });
  await load.delivered(500);
  await kafka.pause();
  try {
    await waitFor(() => load.failures() === 1, { what: 'send-failed', timeoutMs: 60_000 });
  } finally {
    await kafka.resume();
  }
  await load.delivered(1_000);
  const { produced, closed, median } = await load.stop();
  expect(closed).toEqual({ delivered: produced, dropped: 0, undelivered: 0 });
  expect(median).toBeLessThan(5);
  const events = await readBack(load.topic);
  expectExactlyOnce(events, produced);
  // The frozen broker had the request all the time, and dropped the repetitions.
  expect(events.filter(({ copies }) => copies > 1)).toEqual([]);
});

it('a broker that is killed and started again, twice', { timeout: 180_000 }, async () => {
  const load = await underLoad(100_000);
  await load.delivered(500);
  for (const outage of [1, 2]) {
    await kafka.kill();
    try {
      await waitFor(() => load.failures() === outage, { what: `send-failed ${outage}`, timeoutMs: 60_000 });
    } finally {
      await kafka.start();
    }
    // All partitions, not only those that came back first: what is not over is not told again.
    await load.caughtUp();
    await load.delivered(100);
  }
  const { produced, closed, median } = await load.stop();
  expect(closed).toEqual({ delivered: produced, dropped: 0, undelivered: 0 });
  expect(load.failures()).toBe(2);
  expect(median).toBeLessThan(5);
  expectExactlyOnce(await readBack(load.topic), produced);
});

it('a broker that is killed and started again, with a spool: more than the queue holds is in files, and nothing is lost', {
  timeout: 180_000,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const load = await underLoad(2_000, {}, { dir });
  await load.delivered(500);
  await kafka.kill();
  try {
    await waitFor(() => load.transport.stats().spooledRecords > 4_000, { what: 'a spool', timeoutMs: 60_000 });
    // One batch of each partition at most.
    expect(load.transport.stats().queuedRecords).toBeLessThanOrEqual(4 * 500);
  } finally {
    await kafka.start();
  }
  await waitFor(() => load.transport.stats().spooledRecords === 0, { what: 'an empty spool', timeoutMs: 60_000 });
  await load.delivered(100);
  const { produced, closed, median } = await load.stop();
  expect(closed).toEqual({ delivered: produced, dropped: 0, undelivered: 0, spooled: 0 });
  expect(median).toBeLessThan(5);
  expectExactlyOnce(await readBack(load.topic), produced);
});
