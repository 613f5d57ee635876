// Exact counts without transactions: whatever dies, pauses, comes twice or late, and wherever batches are cut, what a reader
// of the counts topic adds up is a plain count of the log. One owner after the other and two at a time, with the real offset
// tracker and the real splitting of batches.
import fc from 'fast-check';
import type { Batch } from 'kafkajs';
import { expect, test } from 'vitest';
import type { Clock } from '../../../src/core/clock.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createEventIds, type RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createCounter } from '../../../src/measure/counter.ts';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import { BUCKET_MS, type CountsMessage, decodeCounts, encodeCounts } from '../../../src/measure/totals.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createKafkaDelivery } from '../../../src/source/kafka/intake.ts';
import { createOffsetTracker } from '../../../src/source/kafka/offset-tracker.ts';
import { toRecords } from '../../../src/source/kafka/record-batch.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import { plainCount, sumOfMessages } from '../../kit/counts.ts';

const PARTITIONS = 2;
const START_MS = Date.UTC(2026, 0, 2, 3, 4, 5);

const measures = parseMeasures(
  `
measures:
  events: { kind: counter, by: [level, tenantId], maxSeries: 3, examples: 1 }
  errors: { kind: counter, where: { tags: error }, by: [error.template] }
  failing: { kind: counter, where: { event: http.request, http.status: { gte: 500 } } }
  took: { kind: distribution, where: { event: http.request }, field: http.durationMs, by: [http.route], maxSeries: 2 }
  waiting: { kind: gauge, where: { event: queue.stats }, field: queue.waiting, by: [queue.name] }
`,
  {},
  'test.yml',
);
const parser = createParser({ maxRecordBytes: 1e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 }, { masker: createMasker() });
const tag = createTagger();

interface Spec {
  readonly gapMs: number;
  readonly lateMs: number;
  readonly kind: 'plain' | 'error' | 'http' | 'queue' | 'junk' | 'tombstone';
  readonly n: number;
  readonly header: 'none' | 'resent' | 'redriven' | 'replayed';
  /** Carries the id of the record this many places before. */
  readonly copyOf: number;
  /** Offsets without a record in front of it: transaction markers, what compaction took. */
  readonly skipped: number;
}

const spec: fc.Arbitrary<Spec> = fc.record({
  // Sometimes back in time: a new leader's clock.
  gapMs: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 2_000 }) },
    { weight: 2, arbitrary: fc.integer({ min: -4_000, max: 25_000 }) },
  ),
  lateMs: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 3_000 }) },
    { weight: 2, arbitrary: fc.constantFrom(-3_000, -5_000, -5_001, -90_000, 130_000, 21_600_000, 21_600_001, 1e8) },
  ),
  kind: fc.constantFrom('plain', 'plain', 'error', 'http', 'http', 'queue', 'junk', 'tombstone'),
  n: fc.integer({ min: 0, max: 5 }),
  header: fc.oneof(
    { weight: 8, arbitrary: fc.constant('none' as const) },
    { weight: 3, arbitrary: fc.constantFrom('resent' as const, 'redriven' as const, 'replayed' as const) },
  ),
  copyOf: fc.integer({ min: 0, max: 6 }),
  skipped: fc.constantFrom(0, 0, 0, 1, 30_000),
});

const nextId = createEventIds(() => START_MS);

interface Message {
  readonly value: Buffer | null;
  readonly offset: string;
  readonly timestamp: string;
  readonly headers: Record<string, Buffer>;
}

function toLog(specs: readonly Spec[]): Message[] {
  let timeMs = START_MS;
  let offset = 0;
  const ids: string[] = [];
  return specs.map(({ gapMs, lateMs, kind, n, header, copyOf, skipped }) => {
    timeMs += gapMs;
    offset += 1 + skipped;
    const eventId = header === 'none' || copyOf === 0 ? nextId() : (ids.at(-copyOf) ?? nextId());
    ids.push(eventId);
    const headers: Record<string, Buffer> = { eventId: Buffer.from(eventId) };
    if (header !== 'none') headers[header] = Buffer.from('1');
    const value = toValue(kind, n, new Date(timeMs - lateMs).toISOString());
    return { value, offset: String(offset), timestamp: String(timeMs), headers };
  });
}

function toValue(kind: Spec['kind'], n: number, timestamp: string): Buffer | null {
  const base = { timestamp, level: 'info', message: `number ${n}`, tenantId: `t-${n}` };
  const text = (fields: object) => Buffer.from(JSON.stringify({ ...base, ...fields }));
  switch (kind) {
    case 'plain':
      return text({});
    case 'error':
      return text({ level: n < 3 ? 'error' : 'fatal', message: `${'x'.repeat(n)} failed after ${n} s` });
    case 'http': {
      const http = { method: 'GET', route: `/r${n}`, status: n === 0 ? 503 : 200, durationMs: n * 40 };
      return text({ event: 'http.request', http });
    }
    case 'queue':
      return text({
        event: 'queue.stats',
        queue: { name: `q${n % 2}`, waiting: n, active: 1, completed: 1, failed: 0 },
      });
    case 'junk':
      return Buffer.from(n === 0 ? '' : '{"level": "info", ');
    case 'tombstone':
      return null;
  }
}

interface Written {
  readonly key: string;
  readonly message: CountsMessage;
}

/** The brokers: the log, the group's offsets with its generation, and the counts topic. */
function createCluster(log: readonly (readonly Message[])[]) {
  const topic: Written[] = [];
  /** Requests of processes that are gone; they may still arrive. */
  const limbo: Written[][] = [];
  return { log, topic, limbo, committed: new Array<number>(PARTITIONS).fill(0), generation: 0, nowMs: START_MS };
}

type Cluster = ReturnType<typeof createCluster>;

/** One process of the counter's group. */
function createOwner(cluster: Cluster) {
  const tracker = createOffsetTracker();
  const clock: Clock = { now: () => cluster.nowMs, monotonicMs: () => cluster.nowMs, after: () => () => {} };
  let holding = false;
  const held: { batch: Written[]; resolve: () => void }[] = [];
  let epoch = 0;
  let generation = -1;
  let busy: Promise<void> | undefined;
  const next = new Array<number>(PARTITIONS).fill(0);

  const counter = createCounter(
    measures,
    {
      parser,
      tag,
      metrics: createMetrics(),
      log: silentLog,
      clock,
      sink: {
        put(messages) {
          const batch = messages.map((message) => {
            const { key, value } = encodeCounts(message);
            return { key, message: decodeCounts(Buffer.from(value))! };
          });
          if (holding) return new Promise((resolve) => held.push({ batch, resolve }));
          cluster.topic.push(...batch);
          return Promise.resolve();
        },
        async close() {},
      },
      async recall(partition, from, to, onId) {
        for (const { offset, eventId, mark } of toRecords(cluster.log[partition] as never)) {
          if (offset < from || offset >= to || mark === 'redriven' || mark === 'replayed') continue;
          if (eventId !== undefined) onId(eventId, offset);
        }
      },
    },
    { publishMs: 500, maxWaitingBytes: 1e9, maxWaitingBuckets: 2 },
  );
  const delivery = createKafkaDelivery(
    { topic: 'log', splitMs: BUCKET_MS },
    { tracker, deliver: counter.accept, isStopping: () => false },
  );

  const owner = {
    join() {
      generation = ++cluster.generation;
      tracker.reset(++epoch);
      counter.assigned();
      busy = undefined;
      for (let partition = 0; partition < PARTITIONS; partition++) {
        next[partition] = cluster.committed[partition]!;
        tracker.start(partition, next[partition]!);
      }
    },
    /** One fetch of at most `count` records, unless the last one is still being taken. */
    read(partition: number, count: number) {
      if (busy !== undefined || generation < 0) return;
      const messages = cluster.log[partition]!.filter(({ offset }) => Number(offset) >= next[partition]!).slice(
        0,
        count,
      );
      if (messages.length === 0) return;
      next[partition] = Number(messages.at(-1)!.offset) + 1;
      const batch = {
        partition,
        messages,
        firstOffset: () => messages[0]!.offset,
        lastOffset: () => messages.at(-1)!.offset,
      };
      const mine = delivery.take(batch as unknown as Batch).finally(() => {
        if (busy === mine) busy = undefined;
      });
      busy = mine;
    },
    publish: () => void counter.publish(),
    hold() {
      holding = true;
    },
    release() {
      holding = false;
      for (const { batch, resolve } of held.splice(0)) {
        cluster.topic.push(...batch);
        resolve();
      }
    },
    /** The broker takes commits of the present generation only. */
    commit() {
      if (generation !== cluster.generation) return;
      for (const { partition, offset } of tracker.due()) {
        cluster.committed[partition] = offset;
        tracker.committed(partition, offset);
      }
    },
    die() {
      cluster.limbo.push(...held.splice(0).map(({ batch }) => batch));
    },
    position: (partition: number) => next[partition]!,
    idle: () => busy === undefined,
  };
  return owner;
}

const owner = fc.integer({ min: 0, max: 1 });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(
      fc.constant('read' as const),
      owner,
      fc.integer({ min: 0, max: PARTITIONS - 1 }),
      fc.integer({ min: 1, max: 30 }),
    ),
  },
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom('publish' as const, 'commit' as const), owner) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom('hold' as const, 'release' as const), owner) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom('kill' as const, 'join' as const), owner) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('land' as const, 'lose' as const, 'minute' as const)) },
);

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test('the sums of the counts topic are a plain count of the log', async () => {
  let kills = 0;
  let overlaps = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(spec, { maxLength: 80, size: 'max' }), { minLength: PARTITIONS, maxLength: PARTITIONS }),
      fc.array(step, { maxLength: 60, size: 'max' }),
      async (specs, steps) => {
        const cluster = createCluster(specs.map(toLog));
        const owners = [createOwner(cluster), createOwner(cluster)];
        owners[0]!.join();
        for (const [what, which = 0, partition = 0, count = 0] of steps) {
          const one = owners[which]!;
          if (what === 'read') one.read(partition, count);
          else if (what === 'land') cluster.topic.push(...(cluster.limbo.shift() ?? []));
          else if (what === 'lose') cluster.limbo.shift();
          else if (what === 'minute') cluster.nowMs += 61_000;
          else if (what === 'kill') {
            one.die();
            kills += 1;
            owners[which] = createOwner(cluster);
          } else {
            // Joining takes everything from the other owner, which does not know and goes on as if nothing had happened.
            if (what === 'join') overlaps += 1;
            one[what]();
          }
          await turn();
        }

        const last = createOwner(cluster);
        last.join();
        for (let partition = 0; partition < PARTITIONS; partition++) {
          const end = Number(cluster.log[partition]!.at(-1)?.offset ?? -1) + 1;
          while (last.position(partition) < end) {
            last.read(partition, 17);
            last.publish();
            await turn();
            last.commit();
          }
        }
        last.publish();
        await turn();
        for (const former of owners) {
          former.publish();
          former.release();
          await turn();
          former.publish();
          await turn();
        }
        for (const batch of cluster.limbo) cluster.topic.push(...batch);

        const partitions: RawRecord[][] = cluster.log.map((messages) => toRecords(messages as never));
        const expected = plainCount(measures, partitions, { parser, tag });
        expect(sumOfMessages(cluster.topic.map(({ message }) => message))).toEqual(expected);

        // Compaction keeps the last record of each key, after the owner has repeated what is open.
        cluster.nowMs += 61_000;
        last.publish();
        await turn();
        const compacted = new Map(cluster.topic.map(({ key, message }) => [key, message]));
        expect(sumOfMessages(compacted.values())).toEqual(expected);
      },
    ),
    { numRuns: 400 },
  );
  // The property was put to the test.
  expect(kills).toBeGreaterThan(300);
  expect(overlaps).toBeGreaterThan(300);
}, 400_000);
