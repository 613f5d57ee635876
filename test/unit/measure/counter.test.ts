// The counter by itself: what it publishes and when, what it acknowledges and when, what it does not count, and that nothing
// a record holds can stop it. That the sums are right whatever happens is exactness.test.ts.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { type Chunk, type ChunkOrigin, createEventIds, type RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import {
  type CounterDeps,
  createCounter,
  createRecentIds,
  type SourcePosition,
  SPAN,
} from '../../../src/measure/counter.ts';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import type { BucketTotals, CountsMessage, PartitionProgress } from '../../../src/measure/totals.ts';
import { decodeCounts, encodeCounts } from '../../../src/measure/totals.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

const START = Date.UTC(2026, 0, 2, 3, 4, 0);
const measures = parseMeasures('measures: { events: { kind: counter, by: [level] } }', {}, 'test.yml');
const nextId = createEventIds(() => START);
const parser = createParser(
  { maxRecordBytes: 100_000, maxAheadMs: 6e5, maxBehindMs: 2.6e9 },
  { masker: createMasker() },
);
const tag = createTagger();

function line(offset: number, timeMs: number, more: Partial<RawRecord> = {}): RawRecord {
  const value = Buffer.from(JSON.stringify({ timestamp: new Date(timeMs).toISOString(), level: 'info', message: 'm' }));
  return { value, offset, timeMs, eventId: undefined, ...more };
}

function open(
  options: Partial<Pick<CounterDeps, 'embedded' | 'recall' | 'positions' | 'parser' | 'monotonic'>> & {
    maxWaitingBuckets?: number;
  } = {},
) {
  const clock = createFakeClock(START);
  const metrics = createMetrics();
  const messages: CountsMessage[] = [];
  let gate: Promise<void> | undefined;
  let openGate = () => {};
  let failing = false;
  const { maxWaitingBuckets = 1_000, ...deps } = options;
  const counter = createCounter(
    measures,
    {
      parser,
      tag,
      metrics,
      log: silentLog,
      clock,
      sink: {
        async put(batch) {
          await gate;
          if (failing) throw new Error('no room');
          messages.push(...batch);
        },
        async close() {},
      },
      ...deps,
    },
    { publishMs: 500, maxWaitingBytes: 1e9, maxWaitingBuckets },
  );
  const acknowledged: number[] = [];
  const chunk = (
    records: readonly RawRecord[],
    origin: ChunkOrigin = { kind: 'kafka', topic: 'log', partition: 0 },
  ): Chunk => ({
    origin,
    records,
    bytes: 0,
    done: (count) => acknowledged.push(count),
  });
  return {
    counter,
    clock,
    metrics,
    messages,
    acknowledged,
    chunk,
    accept: (...args: Parameters<typeof chunk>) => counter.accept(chunk(...args)),
    totals: () => messages.flatMap((message) => (message.kind === 'totals' ? [message.totals] : [])),
    progress: () => messages.flatMap((message) => (message.kind === 'progress' ? [message.progress] : [])),
    fail(yes: boolean) {
      failing = yes;
    },
    shut() {
      gate = new Promise((resolve) => {
        openGate = resolve;
      });
    },
    release() {
      gate = undefined;
      openGate();
    },
  };
}

const count = (totals: BucketTotals | undefined) =>
  (totals?.buckets[0]?.series.events?.info as { n: number } | undefined)?.n;

describe('publishing', () => {
  test('every 500 ms what has changed, totals before the progress that covers them', async () => {
    const position: SourcePosition = { partition: 0, partitions: 4, position: 7, end: 9, caughtUp: false };
    const { accept, clock, messages } = open({ positions: () => [position] });
    await accept([line(5, START + 1), line(6, START + 2)]);
    expect(messages).toEqual([]);
    await clock.advance(500);
    expect(messages.map(({ kind }) => kind)).toEqual(['totals', 'progress']);
    expect(messages[1]).toMatchObject({
      progress: { lane: '0', lanes: 4, position: 7, end: 9, arrivalMs: START + 2, caughtUp: false },
    });
    await clock.advance(500);
    // Nothing new but that the counter lives.
    expect(messages.slice(2).map(({ kind }) => kind)).toEqual(['progress']);
  });

  test('an open bucket that does not change is repeated every minute, whatever the wall clock is set to', async () => {
    const { accept, clock, messages, totals } = open();
    await accept([line(1, START)]);
    await clock.advance(500);
    clock.setWall(clock.now() - 3_600_000);
    await clock.advance(59_000);
    expect(totals()).toHaveLength(1);
    await clock.advance(61_000);
    expect(totals().map(({ records }) => records)).toEqual([1, 1, 1]);
    expect(messages.every((message) => message.kind === 'progress' || message.open === true)).toBe(true);
  });

  test('totals are absolute, and final ones say so, whether or not anything was added to the open ones', async () => {
    const { accept, clock, messages } = open();
    await accept([line(1, START)]);
    await clock.advance(500);
    await accept([line(2, START + 9_999), line(3, START + 10_000)]);
    await clock.advance(500);
    await accept([line(4, START + 20_000)]);
    await clock.advance(500);
    expect(
      messages.map((message) =>
        message.kind === 'totals'
          ? [message.totals.arrivalMs - START, message.totals.upToOffset, message.totals.records, message.open]
          : undefined,
      ),
    ).toEqual([
      [0, 1, 1, true],
      [0, 2, 2, false],
      [10_000, 3, 1, true],
      [10_000, 3, 1, false],
      [20_000, 4, 1, true],
    ]);
  });

  test('what the counts topic holds is what was published', async () => {
    const { accept, counter, messages } = open({
      positions: () => [{ partition: 0, partitions: 1, position: 3, end: 3, caughtUp: true }],
    });
    await accept([line(1, START), line(2, START + 10_000)]);
    await counter.publish();
    const keys = messages.map((message) => encodeCounts(message).key);
    expect(keys).toEqual([`0/${START}`, 'open/0', 'progress/0']);
    const read = messages.map((message) => decodeCounts(Buffer.from(encodeCounts(message).value)));
    expect(read).toEqual([
      { kind: 'totals', totals: (messages[0] as { totals: BucketTotals }).totals, open: false },
      { kind: 'totals', totals: (messages[1] as { totals: BucketTotals }).totals, open: true },
      { kind: 'progress', progress: (messages[2] as { progress: PartitionProgress }).progress },
    ]);
    // The same from a sink that was given objects instead of JSON.
    for (const message of messages) {
      const { written: _, ...plain } = message as CountsMessage & { written?: unknown };
      expect(JSON.parse(encodeCounts(plain as CountsMessage).value)).toEqual(JSON.parse(encodeCounts(message).value));
    }
  });

  test('a record of the counts topic that is something else is passed over', () => {
    for (const text of [
      '',
      'null',
      '[]',
      '{}',
      '{"v":2,"totals":{"lane":"0","buckets":[]}}',
      '{"v":1,"totals":5}',
      '{"v":1',
    ]) {
      expect(decodeCounts(Buffer.from(text)), text).toBeUndefined();
    }
    expect(decodeCounts(null)).toBeUndefined();
  });
});

describe('progress', () => {
  /** Behind each progress: no more was read than the totals before it hold. */
  const checked = (messages: readonly CountsMessage[]) => {
    let upTo = -1;
    let newestMs = 0;
    return messages.flatMap((message) => {
      if (message.kind === 'totals') {
        upTo = Math.max(upTo, message.totals.upToOffset);
        newestMs = Math.max(newestMs, message.totals.arrivalMs + 10_000);
        return [];
      }
      const { position, arrivalMs, caughtUp } = message.progress;
      expect(position, 'position').toBeLessThanOrEqual(upTo + 1);
      expect(arrivalMs, 'arrival').toBeLessThan(newestMs + 1);
      return [{ position, caughtUp }];
    });
  };

  test('is never ahead of its totals, while a chunk is half counted and while a publication is under way', async () => {
    let delivered = 0;
    const looked: (() => void)[] = [];
    const { accept, counter, messages, shut, release } = open({
      positions: () => [{ partition: 0, partitions: 1, position: delivered, end: delivered, caughtUp: true }],
      recall: () => new Promise<void>((resolve) => void looked.push(resolve)),
    });
    // The source has handed the whole chunk over; its second record is still looked up.
    delivered = 140_003;
    const accepting = accept([
      line(140_000, START, { eventId: nextId() }),
      line(140_001, START + 1, { eventId: nextId(), mark: 'resent' }),
      line(140_002, START + 15_000),
    ]);
    await settled();
    await counter.publish();
    expect(checked(messages)).toEqual([{ position: 140_001, caughtUp: false }]);
    looked[0]!();
    await accepting;
    shut();
    const published = counter.publish();
    await settled();
    delivered = 140_005;
    await accept([line(140_003, START + 30_000), line(140_004, START + 40_000)]);
    release();
    await published;
    expect(checked(messages).at(-1)).toEqual({ position: 140_003, caughtUp: true });
    await counter.publish();
    expect(checked(messages).at(-1)).toEqual({ position: 140_005, caughtUp: true });
  });

  test('says when it was true: how long ago the log was looked at, and when that is said, also through the topic', async () => {
    let monotonicMs = 7_000_000.4;
    const { counter, progress } = open({
      positions: () => [{ partition: 0, partitions: 1, position: 5, end: 5, caughtUp: true, ageMs: 4_321 }],
      monotonic: () => monotonicMs,
    });
    await counter.publish();
    monotonicMs += 90_000;
    await counter.publish();
    const said = progress().map((one) =>
      decodeCounts(Buffer.from(encodeCounts({ kind: 'progress', progress: one }).value)),
    );
    expect(said).toMatchObject([
      { progress: { caughtUp: true, ageMs: 4_321, saidMs: 7_000_000 } },
      { progress: { caughtUp: true, ageMs: 4_321, saidMs: 7_090_000 } },
    ]);
    const [first, second] = progress();
    expect(first?.writer).toMatch(/./);
    expect(second?.writer).toBe(first?.writer);
  });

  test('of a partition whose first record is looked up is where that one stands', async () => {
    const { accept, counter, messages } = open({
      positions: () => [{ partition: 0, partitions: 1, position: 140_001, end: 140_001, caughtUp: true }],
      recall: () => new Promise<void>(() => {}),
    });
    void accept([line(140_000, START, { eventId: nextId(), mark: 'resent' })]);
    await settled();
    await counter.publish();
    expect(messages).toMatchObject([{ progress: { position: 140_000, caughtUp: false, arrivalMs: 0 } }]);
  });

  test('one of two chunks that are counted at a time does not speak for the other', async () => {
    const { accept, chunk, counter, messages } = open({
      positions: () =>
        [0, 1].map((partition) => ({ partition, partitions: 2, position: 140_001, end: 140_001, caughtUp: true })),
      recall: () => new Promise<void>(() => {}),
    });
    void counter.accept(
      chunk([line(140_000, START, { eventId: nextId(), mark: 'resent' })], {
        kind: 'kafka',
        topic: 'log',
        partition: 1,
      }),
    );
    await accept([line(140_000, START)]);
    await counter.publish();
    expect(messages.at(-1)).toMatchObject({ progress: { lane: '1', position: 140_000, caughtUp: false } });
  });

  test('totals that could not be written are written before the next progress', async () => {
    const { accept, counter, messages, fail } = open({
      positions: () => [{ partition: 0, partitions: 1, position: 2, end: 2, caughtUp: true }],
    });
    fail(true);
    await accept([line(0, START), line(1, START + 10_000)]);
    await counter.publish();
    fail(false);
    await counter.publish();
    expect(checked(messages)).toEqual([{ position: 2, caughtUp: true }]);
  });
});

describe('acknowledging', () => {
  test('a bucket as a whole, when it is closed and durable', async () => {
    const { accept, clock, acknowledged, shut, release } = open();
    await accept([line(1, START), line(2, START + 1)]);
    await accept([line(3, START + 2)]);
    await clock.advance(500);
    expect(acknowledged).toEqual([]);
    shut();
    await accept([line(4, START + 10_000)]);
    await clock.advance(1_000);
    expect(acknowledged).toEqual([]);
    release();
    await settled();
    expect(acknowledged).toEqual([2, 1]);
  });

  test.each([
    ['of Kafka', undefined, { kind: 'kafka', topic: 'log', partition: 0 }, [1]],
    ['of a file', { run: 'r', resume: new Map() }, { kind: 'file', path: 'app.log', identity: 'f' }, [1, 1]],
  ] as const)(
    'after a failed publication nothing %s, until it has succeeded',
    async (_name, embedded, origin, acks) => {
      const { accept, clock, counter, acknowledged, totals, fail } = open(embedded === undefined ? {} : { embedded });
      fail(true);
      await accept([line(1, START), line(2, START + 10_000)], origin);
      await clock.advance(2_000);
      expect(acknowledged).toEqual([]);
      expect(counter.trouble()).toBe('no room');
      fail(false);
      await clock.advance(500);
      expect(counter.trouble()).toBeUndefined();
      expect(acknowledged).toEqual(acks);
      expect(totals()).toHaveLength(2);
    },
  );

  test('records that count nowhere go with their bucket, and a bucket of nothing else needs no totals', async () => {
    const { accept, clock, acknowledged, messages } = open();
    const mark = { mark: 'replayed' } as const;
    await accept([line(1, START, mark), line(2, START + 1, { mark: 'redriven' })]);
    await accept([line(3, START + 10_000)]);
    await clock.advance(500);
    expect(acknowledged).toEqual([2]);
    expect(messages).toHaveLength(1);
  });

  test('of a former assignment nothing', async () => {
    const { accept, counter, clock, acknowledged, totals, shut, release } = open();
    await accept([line(1, START), line(2, START + 10_000)]);
    shut();
    const publishing = counter.publish();
    counter.assigned();
    release();
    await publishing;
    expect(acknowledged).toEqual([]);
    // The new one begins with the whole bucket again.
    await accept([line(1, START), line(2, START + 10_000), line(3, START + 20_000)]);
    await clock.advance(500);
    expect(acknowledged).toEqual([1, 1]);
    expect(totals().at(-1)).toMatchObject({ upToOffset: 3, records: 1 });
  });
});

describe('backpressure', () => {
  test('the intake waits while too many closed buckets are not durable, and goes on afterwards', async () => {
    const { accept, shut, release, acknowledged } = open({ maxWaitingBuckets: 3 });
    shut();
    const records = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, i) => line(from + i, START + (from + i) * 10_000));
    await accept(records(0, 4));
    let taken = false;
    const waiting = accept(records(4, 8)).then(() => {
      taken = true;
    });
    await settled();
    expect(taken).toBe(false);
    release();
    await waiting;
    expect(acknowledged.reduce((sum, n) => sum + n, 0)).toBeGreaterThan(0);
  });

  test('a new assignment does not wait for the old one', async () => {
    const { accept, counter, shut } = open({ maxWaitingBuckets: 1 });
    shut();
    const waiting = accept(Array.from({ length: 5 }, (_, i) => line(i, START + i * 10_000)));
    await settled();
    counter.assigned();
    await waiting;
  });
});

describe('what is not counted', () => {
  test('redriven and replayed records, and those sent again that are known', async () => {
    const { accept, counter, totals, metrics } = open();
    const [a, b, c] = [nextId(), nextId(), nextId()];
    await accept([
      line(1, START, { eventId: a }),
      line(2, START, { eventId: b, mark: 'redriven' }),
      line(3, START, { eventId: c, mark: 'replayed' }),
      line(4, START, { eventId: a, mark: 'resent' }),
      // Sent again although nothing had arrived the first time.
      line(5, START, { eventId: b, mark: 'resent' }),
      line(6, START, { eventId: b, mark: 'resent' }),
      // The same id without the mark is two events: a producer of its own making.
      line(7, START, { eventId: a }),
      line(8, START, { mark: 'resent' }),
    ]);
    await counter.publish();
    expect(totals()[0]).toMatchObject({ records: 4, upToOffset: 8 });
    expect(count(totals()[0])).toBe(4);
    const reasons = Object.fromEntries(
      (await metrics.notCounted.get()).values.map(({ labels, value }) => [labels.reason, value]),
    );
    expect(reasons).toEqual({ redriven: 1, replayed: 1, resent: 2 });
  });

  test('a record sent again is looked up in the log when its first copy was read by another owner', async () => {
    const first = nextId();
    const asked: unknown[] = [];
    const { accept, counter, totals } = open({
      async recall(partition, from, to, onId) {
        asked.push([partition, from, to]);
        onId(first, 70_000);
      },
    });
    await accept([
      line(140_000, START, { eventId: nextId() }),
      line(140_001, START, { eventId: first, mark: 'resent' }),
      line(140_002, START, { eventId: nextId(), mark: 'resent' }),
    ]);
    await counter.publish();
    expect(totals()[0]).toMatchObject({ records: 2 });
    expect(asked).toEqual([[0, SPAN, 140_000]]);
  });

  test('when the log cannot be looked up, the record counts', async () => {
    const { accept, counter, totals } = open({
      recall: async () => {
        throw new Error('Kafka is away');
      },
    });
    await accept([line(140_001, START, { eventId: nextId(), mark: 'resent' })]);
    await counter.publish();
    expect(totals()[0]).toMatchObject({ records: 1 });
  });

  test('recent ids are those of a span of offsets and the one before it, wherever reading began', () => {
    const id = fc.integer({ min: 0, max: 5 });
    const ids = Array.from({ length: 6 }, nextId);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(id, fc.constantFrom(1, 2, 20_000, 70_000)), { maxLength: 30 }),
        fc.nat(29),
        (steps, begin) => {
          let offset = 0;
          const log = steps.map(([n, gap]) => {
            offset += gap;
            return { id: ids[n]!, offset };
          });
          const recent = createRecentIds();
          for (const [i, record] of log.entries()) {
            if (i < begin) continue;
            if (i === begin) recent.resume(record.offset);
            const least = (Math.floor(record.offset / SPAN) - 1) * SPAN;
            const expected = log.slice(0, i).some((other) => other.id === record.id && other.offset >= least);
            let answer = recent.seenBefore(record.id, record.offset);
            if (answer === undefined) {
              const { from, to } = recent.missing(record.offset);
              for (const other of log)
                if (other.offset >= from && other.offset < to) recent.add(other.id, other.offset);
              recent.completed(from);
              answer = recent.seenBefore(record.id, record.offset);
            }
            expect(answer).toBe(expected);
            recent.add(record.id, record.offset);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test('ids by the hundred thousand are told apart, in bounded memory', () => {
    const recent = createRecentIds();
    const ids = Array.from({ length: 200_000 }, nextId);
    recent.resume(0);
    let mistaken = 0;
    for (const [offset, id] of ids.entries()) {
      if (recent.seenBefore(id, offset) === true) mistaken += 1;
      recent.add(id, offset);
    }
    expect(mistaken).toBe(0);
    expect(ids.slice(131_072).every((id) => recent.seenBefore(id, 200_001))).toBe(true);
    expect(ids.slice(0, 131_072).some((id) => recent.seenBefore(id, 200_001))).toBe(false);
  });
});

describe('strange records', () => {
  test('no bytes can stop the counting', async () => {
    const value = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.json().map((text) => Buffer.from(text)),
      fc.constant(null),
    );
    const { accept, counter, totals } = open();
    let offset = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(value, { minLength: 1, maxLength: 20 }), async (values) => {
        await accept(
          values.map((bytes) => line(offset++, START, { value: bytes === null ? null : Buffer.from(bytes) })),
        );
        await counter.publish();
        expect(totals().at(-1)).toMatchObject({ records: offset, upToOffset: offset - 1 });
      }),
      { numRuns: 500 },
    );
  });

  test('a stage that throws costs one record, not the chunk', async () => {
    const { accept, counter, totals } = open({
      parser: {
        parse({ offset }) {
          if (offset === 2) throw new RangeError('Maximum call stack size exceeded');
          return { ok: false, reason: 'empty_value', detail: '' };
        },
      },
    });
    await accept([line(1, START), line(2, START), line(3, START)]);
    await counter.publish();
    expect(totals()[0]).toMatchObject({ records: 3, upToOffset: 3 });
  });
});

describe('embedded mode', () => {
  const file = (identity: string): ChunkOrigin => ({ kind: 'file', path: 'app.log', identity });

  test('goes on behind what a former run made durable, in partitions of its own, and acknowledges what is durable', async () => {
    const embedded = { run: 'r2', resume: new Map([['f', 200]]) };
    const { accept, clock, totals, progress, acknowledged } = open({ embedded });
    await accept([line(100, START), line(200, START), line(300, START)], file('f'));
    expect(acknowledged).toEqual([1, 1]);
    await accept([line(0, START + 1)], file('new'));
    await clock.advance(500);
    expect(totals().map(({ lane, records, upToOffset }) => [lane, records, upToOffset])).toEqual([
      ['f#r2', 1, 300],
      ['new#r2', 1, 0],
    ]);
    // In the open bucket: the journal cannot be read again from the beginning of a bucket.
    expect(acknowledged).toEqual([1, 1, 1, 1]);
    expect(progress()).toEqual([
      { lane: 'embedded', lanes: 1, position: 2, end: 2, arrivalMs: START + 1, caughtUp: true },
    ]);
  });

  test('says that it lives before there is any file', async () => {
    const { clock, progress } = open({ embedded: { run: 'r', resume: new Map() } });
    await clock.advance(500);
    expect(progress()).toMatchObject([{ lane: 'embedded', arrivalMs: 0, caughtUp: true }]);
  });

  test('rotated files do not pile up', async () => {
    const { accept, counter, messages } = open({ embedded: { run: 'r', resume: new Map() } });
    for (let i = 0; i < 500; i++) {
      await accept([line(0, START + i)], file(`f${i}`));
      await counter.publish();
    }
    messages.length = 0;
    // A partition that is held knows that this line was counted; one that was let go does not.
    await accept([line(0, START + 1_000)], file('f499'));
    await accept([line(0, START + 1_000)], file('f0'));
    await counter.publish();
    expect(messages.flatMap((message) => (message.kind === 'totals' ? [message.totals.lane] : []))).toEqual(['f0#r']);
  });
});

describe('the end', () => {
  test('publishes everything, the open bucket too, and then no more', async () => {
    const { accept, counter, clock, totals } = open();
    await accept([line(1, START), line(2, START + 10_000)]);
    expect(await counter.drain(1_000)).toBe(true);
    expect(totals().map(({ upToOffset }) => upToOffset)).toEqual([1, 2]);
    expect(clock.timers()).toBe(0);
  });

  test('gives up when the sink does not answer in time', async () => {
    const { accept, counter, shut } = open();
    await accept([line(1, START)]);
    shut();
    expect(await counter.drain(20)).toBe(false);
  });
});

test('the brokers’ clock set back: a bucket of the new time begins, and the one before is closed and acknowledged', async () => {
  const HOUR = 3_600_000;
  const { counter, accept, chunk, clock, totals, progress, acknowledged } = open({
    positions: () => [{ partition: 0, partitions: 1, position: 4, end: 9, caughtUp: false }],
  });
  await accept([line(1, START), line(2, START + 1_000)]);
  const anew = { ...chunk([line(3, START + 1_500 - HOUR)]), setBack: true } as const;
  await counter.accept(anew);
  await accept([line(4, START + 15_000 - HOUR)]);
  await clock.advance(500);
  expect(totals().map(({ arrivalMs, records }) => [arrivalMs - START, records])).toEqual([
    [0, 2],
    [-HOUR, 1],
    [10_000 - HOUR, 1],
  ]);
  expect(progress().at(-1)!.arrivalMs).toBe(START + 15_000 - HOUR);
  await clock.advance(500);
  expect(acknowledged.reduce((sum, n) => sum + n, 0)).toBe(3);
  // Delivered again within the assignment, it begins nothing.
  await counter.accept(anew);
  await accept([line(5, START + 16_000 - HOUR)]);
  await clock.advance(500);
  expect(totals().at(-1)).toMatchObject({ arrivalMs: START + 10_000 - HOUR, records: 2 });
});

test('this machine’s clock set back: lines of a file go into a bucket of the new time', async () => {
  const HOUR = 3_600_000;
  const { accept, clock, totals } = open({ embedded: { run: 'r', resume: new Map() } });
  const file: ChunkOrigin = { kind: 'file', path: 'a.log', identity: 'i' };
  await accept([line(1, START), line(2, START + 9_000)], file);
  await accept([line(3, START + 8_000)], file);
  await accept([line(4, START + 9_500 - HOUR)], file);
  await clock.advance(500);
  expect(totals().map(({ arrivalMs, records }) => [arrivalMs - START, records])).toEqual([
    [0, 3],
    [-HOUR, 1],
  ]);
});
