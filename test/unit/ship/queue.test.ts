// The queue's limits and order; drops are counted by reason and told once per episode.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ShipRecord } from '../../../src/ship/log-record.ts';
import { createDrops, createQueue, type DropNotice } from '../../../src/ship/queue.ts';

const record = (n: number, bytes = 10): ShipRecord => ({ line: String(n), eventId: '', key: null, bytes });
const numbers = (records: readonly ShipRecord[]) => records.map(({ line }) => Number(line));

test('never over its limits, every accepted record comes out once and in order', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ push: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ take: fc.integer({ min: 1, max: 8 }), bytes: fc.integer({ min: 1, max: 900 }) }),
      fc.constant({ release: true }),
    ),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(steps, (all) => {
      const queue = createQueue({ maxRecords: 10, maxBytes: 2_000 });
      const accepted: number[] = [];
      const out: number[] = [];
      const sending: ShipRecord[][] = [];
      all.forEach((step, n) => {
        if ('push' in step) {
          if (queue.push(record(n, step.push))) accepted.push(n);
        } else if ('take' in step) {
          const batch = queue.take(step.take, step.bytes);
          if (batch.length > 1)
            expect(batch.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(step.bytes);
          sending.push(batch);
          out.push(...numbers(batch));
        } else queue.release(sending.shift() ?? []);
        expect(queue.records).toBeLessThanOrEqual(10);
        expect(queue.bytes).toBeLessThanOrEqual(2_000);
      });
      for (let rest = queue.take(5, 1e9); rest.length > 0; rest = queue.take(5, 1e9)) {
        out.push(...numbers(rest));
        queue.release(rest);
      }
      for (const batch of sending) queue.release(batch);
      expect(out).toEqual(accepted);
      expect([queue.records, queue.bytes]).toEqual([0, 0]);
    }),
  );
});

/** Memory that a record is counted with besides its text. */
const OVERHEAD = 100;

test('what is being sent counts until it is released: for the limits, the numbers and the end of an episode', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ push: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ take: fc.integer({ min: 1, max: 8 }) }),
      // Of a batch that is refused the halves are released one after the other, in any order.
      fc.record({ release: fc.nat(3), half: fc.boolean() }),
    ),
    { maxLength: 100 },
  );
  fc.assert(
    fc.property(steps, (all) => {
      const queue = createQueue({ maxRecords: 10, maxBytes: 2_000 });
      let held: ShipRecord[] = [];
      const sending: ShipRecord[][] = [];
      const bytesHeld = () => held.reduce((sum, { bytes }) => sum + bytes + OVERHEAD, 0);
      all.forEach((step, n) => {
        if ('push' in step) {
          const one = record(n, step.push);
          const fits = held.length < 10 && bytesHeld() + one.bytes + OVERHEAD <= 2_000;
          expect(queue.push(one)).toBe(fits);
          if (fits) held.push(one);
        } else if ('take' in step) sending.push(queue.take(step.take, 1e9));
        else {
          const [batch = []] = sending.splice(step.release % (sending.length || 1), 1);
          const gone = step.half ? batch.slice(batch.length >> 1) : batch;
          if (step.half) sending.push(batch.slice(0, batch.length >> 1));
          queue.release(gone);
          held = held.filter((one) => !gone.includes(one));
        }
        const { records, bytes, relaxed, waiting } = queue;
        expect({ records, bytes, relaxed, waiting }).toEqual({
          records: held.length,
          bytes: bytesHeld(),
          relaxed: held.length <= 5 && bytesHeld() <= 1_000,
          waiting: held.length - sending.flat().length,
        });
      });
    }),
  );
});

test('what is taken from its front until somebody has enough leaves it, and nothing else does', () => {
  fc.assert(
    fc.property(fc.nat(20), fc.nat(20), fc.nat(20), (count, sending, enough) => {
      const queue = createQueue({ maxRecords: 100, maxBytes: 1e9 });
      for (let n = 0; n < count; n++) queue.push(record(n));
      const batch = queue.take(sending, 1e9);
      const gone: ShipRecord[] = [];
      queue.takeWhile((one) => gone.length < enough && gone.push(one) > 0);
      const left = Math.max(0, count - batch.length - enough);
      expect([queue.records, queue.waiting, queue.bytes]).toEqual([
        batch.length + left,
        left,
        (batch.length + left) * (10 + OVERHEAD),
      ]);
      expect(numbers([...batch, ...gone, ...queue.take(100, 1e9)])).toEqual([...Array(count).keys()]);
    }),
  );
});

test('one notice per episode and reason', () => {
  const started: DropNotice[] = [];
  const ended: [string, number][] = [];
  const drops = createDrops({
    onStart: (notice) => started.push(notice),
    onEnd: (reason, dropped) => ended.push([reason, dropped]),
  });
  for (let i = 0; i < 5; i++) drops.count('queue-full', 1);
  drops.count('refused', 1);
  drops.endEpisodes();
  drops.endEpisodes();
  drops.count('queue-full', 2);
  expect(started.map(({ reason, total }) => [reason, total])).toEqual([
    ['queue-full', 1],
    ['refused', 1],
    ['queue-full', 7],
  ]);
  expect(ended).toEqual([
    ['queue-full', 5],
    ['refused', 1],
  ]);
  expect(drops.counts()).toEqual({
    ...{ 'queue-full': 7, 'spool-full': 0, 'spool-lost': 0 },
    ...{ refused: 1, failed: 0, closed: 0 },
  });
});
