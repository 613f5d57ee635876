// What may be committed, whatever the order of acknowledgements.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createOffsetTracker, type Segment } from '../../../src/source/kafka/offset-tracker.ts';

it('commits only past contiguous finished segments', () => {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  tracker.start(0, 100);
  const a = tracker.open(0, 100, 109, 10);
  const b = tracker.open(0, 110, 119, 10);
  b.done(10);
  expect(tracker.due()).toEqual([]);
  a.done(9);
  expect(tracker.due()).toEqual([]);
  expect(tracker.unfinished()).toBe(1);
  a.done(1);
  expect(tracker.due()).toEqual([{ partition: 0, offset: 120 }]);
  tracker.committed(0, 120);
  expect(tracker.due()).toEqual([]);
});

it('passes offsets that hold no record, and batches that hold none at all', () => {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  // Records 5, 7, 9 with a transaction marker at 10; then a marker alone at 11.
  const segment = tracker.open(3, 5, 10, 3);
  tracker.open(3, 11, 11, 0);
  expect(tracker.committable(3)).toBeUndefined();
  segment.done(3);
  expect(tracker.committable(3)).toBe(12);
  expect(tracker.position(3)).toBe(12);
});

it('asks for a start behind deleted records to be committed', () => {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  tracker.start(0, 500, true);
  tracker.start(1, 7);
  expect(tracker.due()).toEqual([{ partition: 0, offset: 500 }]);
});

it('counts acknowledgements of a former assignment as stale and ignores them', () => {
  let stale = 0;
  const tracker = createOffsetTracker((count) => {
    stale += count;
  });
  tracker.reset(1);
  const old = tracker.open(0, 0, 9, 10);
  old.done(4);
  tracker.reset(2);
  expect(tracker.unfinished()).toBe(0);
  const fresh = tracker.open(0, 0, 9, 10);
  old.done(6);
  expect(stale).toBe(6);
  expect(tracker.due()).toEqual([]);
  fresh.done(10);
  expect(tracker.due()).toEqual([{ partition: 0, offset: 10 }]);
});

it('starts a partition over when it is read again from an earlier offset', () => {
  let stale = 0;
  const tracker = createOffsetTracker((count) => {
    stale += count;
  });
  tracker.reset(1);
  tracker.open(0, 0, 99, 100).done(100);
  tracker.committed(0, 100);
  const open = tracker.open(0, 100, 199, 100);
  const again = tracker.open(0, 0, 9, 10);
  open.done(100);
  expect(stale).toBe(100);
  expect(tracker.due()).toEqual([]);
  again.done(10);
  expect(tracker.due()).toEqual([{ partition: 0, offset: 10 }]);
});

it('refuses more acknowledgements than there are records', () => {
  const tracker = createOffsetTracker();
  const segment = tracker.open(0, 0, 1, 2);
  segment.done(1);
  expect(() => segment.done(2)).toThrow(RangeError);
});

type Step =
  | { do: 'open'; partition: number; records: number; gap: number }
  | { do: 'done'; pick: number; count: number }
  | { do: 'commit' }
  | { do: 'reset' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      partition: fc.nat(2),
      records: fc.nat(5),
      gap: fc.nat(3),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('done' as const), pick: fc.nat(50), count: fc.integer({ min: 1, max: 5 }) }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'commit' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'reset' as const }) },
);

it('any interleaving: never past an unfinished record, only forwards, everything finished means the end', () => {
  interface Open {
    epoch: number;
    partition: number;
    first: number;
    last: number;
    left: number;
    segment: Segment;
  }
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      let stale = 0;
      let staleExpected = 0;
      const tracker = createOffsetTracker((count) => {
        stale += count;
      });
      let epoch = 1;
      tracker.reset(epoch);
      const ends = new Map<number, number>();
      const best = new Map<number, number>();
      const all: Open[] = [];

      const check = () => {
        for (const { partition, offset } of tracker.due()) {
          for (const open of all) {
            if (open.epoch === epoch && open.partition === partition && open.left > 0) {
              expect(offset).toBeLessThanOrEqual(open.first);
            }
          }
          expect(offset).toBeLessThanOrEqual(ends.get(partition)!);
          expect(offset).toBeGreaterThanOrEqual(best.get(partition) ?? 0);
          best.set(partition, offset);
        }
      };

      for (const one of steps) {
        if (one.do === 'open') {
          const first = (ends.get(one.partition) ?? 0) + one.gap;
          const last = first + one.records;
          const segment = tracker.open(one.partition, first, last, one.records);
          ends.set(one.partition, last + 1);
          all.push({ epoch, partition: one.partition, first, last, left: one.records, segment });
        } else if (one.do === 'done') {
          const open = all[one.pick % Math.max(1, all.length)];
          if (!open || open.left === 0) continue;
          const count = Math.min(open.left, one.count);
          open.left -= count;
          if (open.epoch !== epoch) staleExpected += count;
          open.segment.done(count);
        } else if (one.do === 'commit') {
          for (const { partition, offset } of tracker.due()) tracker.committed(partition, offset);
          expect(tracker.due()).toEqual([]);
        } else {
          epoch += 1;
          tracker.reset(epoch);
          ends.clear();
          best.clear();
        }
        check();
      }

      for (const open of all) {
        if (open.left === 0) continue;
        if (open.epoch !== epoch) staleExpected += open.left;
        open.segment.done(open.left);
        open.left = 0;
        check();
      }
      for (const [partition, end] of ends) expect(tracker.committable(partition)).toBe(end);
      expect(tracker.unfinished()).toBe(0);
      expect(stale).toBe(staleExpected);
    }),
    { numRuns: 500 },
  );
});
