// Batches cut at arrival buckets: whatever the batches and the times in them, what may be committed is always the first
// record of a bucket, and every record is delivered once, in order. And the marks of records.
import fc from 'fast-check';
import type { Batch, KafkaMessage } from 'kafkajs';
import { expect, test } from 'vitest';
import type { Chunk } from '../../../src/core/record.ts';
import { createKafkaDelivery, splitAtBuckets } from '../../../src/source/kafka/intake.ts';
import { createOffsetTracker } from '../../../src/source/kafka/offset-tracker.ts';
import { toRecords } from '../../../src/source/kafka/record-batch.ts';

const WIDTH = 10_000;

test.each([
  [[], [0]],
  [[1], [0, 1]],
  [
    [1, 9_999, 10_000, 10_001, 35_000],
    [0, 2, 4, 5],
  ],
  // A time that goes back stays where the partition was.
  [
    [10_000, 9_999, 5, 19_999, 20_000],
    [0, 4, 5],
  ],
])('times %j are cut at %j', (times, cuts) => {
  expect(splitAtBuckets({ length: times.length, timeAt: (i) => times[i]! }, WIDTH)).toEqual(cuts);
});

const message = (offset: number, timeMs: number, headers: KafkaMessage['headers'] = {}) =>
  ({
    key: null,
    value: Buffer.from('x'),
    offset: String(offset),
    timestamp: String(timeMs),
    attributes: 0,
    headers,
  }) as KafkaMessage;

function toBatch(messages: readonly KafkaMessage[], last: number): Batch {
  const firstOffset = () => messages[0]!.offset;
  return { partition: 3, messages, firstOffset, lastOffset: () => String(last) } as unknown as Batch;
}

test('what may be committed is the first record of a bucket, and everything is delivered once, in order', async () => {
  const step = fc.record({
    gapMs: fc.integer({ min: -12_000, max: 15_000 }),
    skipped: fc.constantFrom(0, 0, 1, 5),
    newBatch: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
      const tracker = createOffsetTracker();
      tracker.reset(1);
      tracker.start(3, 0);
      const delivered: number[] = [];
      const firstOfBucket = new Set<number>();
      let reached = Number.NEGATIVE_INFINITY;
      /** Acknowledges a bucket when a later one has begun, as the counter does. */
      let waiting: (() => void)[] = [];
      const deliver = async ({ records, bytes, done }: Chunk) => {
        expect(bytes).toBe(records.length);
        for (const { offset, timeMs } of records) {
          delivered.push(offset);
          const bucket = Math.floor(timeMs / WIDTH);
          if (bucket > reached) {
            reached = bucket;
            firstOfBucket.add(offset);
            for (const acknowledge of waiting) acknowledge();
            waiting = [];
            // With records that were skipped in between, the place in front of them is as good.
            for (const { offset: due } of tracker.due()) {
              expect(delivered.filter((one) => one >= due && one < offset)).toEqual([]);
            }
          }
          waiting.push(() => done(1));
        }
      };
      const delivery = createKafkaDelivery(
        { topic: 't', splitMs: WIDTH },
        { tracker, deliver, isStopping: () => false },
      );

      let offset = 0;
      let timeMs = 100_000;
      let batch: KafkaMessage[] = [];
      const offsets: number[] = [];
      for (const { gapMs, skipped, newBatch } of steps) {
        if (newBatch && batch.length > 0) {
          await delivery.take(toBatch(batch, offset - 1));
          batch = [];
        }
        offset += skipped;
        timeMs += gapMs;
        offsets.push(offset);
        batch.push(message(offset, timeMs));
        offset += 1;
      }
      await delivery.take(toBatch(batch, offset + 2));
      expect(delivered).toEqual(offsets);
      expect(tracker.position(3)).toBe(offset + 3);
    }),
    { numRuns: 500 },
  );
});

test('without a width a batch is one chunk, delivered at once', () => {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  const chunks: Chunk[] = [];
  const deliver = async (chunk: Chunk) => void chunks.push(chunk);
  const delivery = createKafkaDelivery(
    { topic: 't', splitMs: undefined },
    { tracker, deliver, isStopping: () => false },
  );
  void delivery.take(toBatch([message(5, 0), message(6, 90_000)], 9));
  expect(chunks).toHaveLength(1);
  expect(chunks[0]).toMatchObject({ origin: { kind: 'kafka', topic: 't', partition: 3 }, bytes: 2 });
  chunks[0]!.done(2);
  expect(tracker.due()).toEqual([{ partition: 3, offset: 10 }]);
});

test('parts that are left when the assignment ends are not delivered', async () => {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  const taken: number[] = [];
  let goOn = () => {};
  const deliver = (chunk: Chunk) => {
    taken.push(chunk.records.at(0)!.offset);
    return new Promise<void>((resolve) => {
      goOn = resolve;
    });
  };
  const delivery = createKafkaDelivery({ topic: 't', splitMs: WIDTH }, { tracker, deliver, isStopping: () => false });
  const delivering = delivery.take(toBatch([message(1, 0), message(2, 10_000), message(3, 20_000)], 3));
  tracker.reset(2);
  goOn();
  await delivering;
  expect(taken).toEqual([1]);
  expect(tracker.position(3)).toBeUndefined();
});

test('marks come from the headers; what counts nowhere wins', () => {
  const one = Buffer.from('1');
  const headers: KafkaMessage['headers'][] = [
    {},
    { resent: one },
    { redriven: one },
    { replayed: one },
    { resent: one, replayed: one },
    { resent: one, redriven: one },
  ];
  const records = toRecords(headers.map((header, i) => message(i, 0, header)));
  expect(records.map(({ mark }) => mark)).toEqual([
    undefined,
    'resent',
    'redriven',
    'replayed',
    'replayed',
    'redriven',
  ]);
  expect(records[0]).not.toHaveProperty('mark');
});
