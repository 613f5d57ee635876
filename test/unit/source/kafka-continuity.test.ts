// A batch that kafkajs fetched from another position than ours is not taken, unless there is nothing else to be had.
import type { Batch } from 'kafkajs';
import { expect, test } from 'vitest';
import { createContinuityCheck } from '../../../src/source/kafka/intake.ts';
import { createOffsetTracker } from '../../../src/source/kafka/offset-tracker.ts';

function setUp() {
  const tracker = createOffsetTracker();
  const sought: string[] = [];
  const check = createContinuityCheck(tracker, (partition, offset) => sought.push(`${partition}:${offset}`));
  tracker.reset(1);
  tracker.start(0, 100);
  tracker.start(1, 100);
  const continues = (fetched: number | undefined, partition = 0) =>
    check.continues({
      partition,
      fetchedOffset: fetched === undefined ? undefined : String(fetched),
    } as unknown as Batch);
  return { tracker, sought, check, continues };
}

test('what was fetched from our position, or from before it, is taken', () => {
  const { tracker, sought, continues } = setUp();
  expect(continues(100)).toBe(true);
  tracker.open(0, 100, 149, 50);
  expect(continues(150)).toBe(true);
  // Fetched again: the tracker begins anew there.
  expect(continues(120)).toBe(true);
  // Nothing is known of the partition, or of where it was fetched from.
  expect(continues(7, 2)).toBe(true);
  expect(continues(undefined)).toBe(true);
  expect(sought).toEqual([]);
});

test('of a leader that changed: fetched beyond our position, so that is sought, once, and what comes from there is taken', () => {
  const { tracker, sought, continues } = setUp();
  expect(continues(180)).toBe(false);
  expect(sought).toEqual(['0:100']);
  expect(continues(100)).toBe(true);
  tracker.open(0, 100, 199, 100);
  // The next time it is another position.
  expect(continues(250)).toBe(false);
  expect(sought).toEqual(['0:100', '0:200']);
});

test('records that no longer exist: the same gap comes again after the seek, and is taken', () => {
  const { sought, continues } = setUp();
  expect(continues(180)).toBe(false);
  expect(continues(180)).toBe(true);
  expect(sought).toEqual(['0:100']);
});

test('each partition by itself, and a new assignment has sought nothing yet', () => {
  const { tracker, sought, check, continues } = setUp();
  expect([continues(180), continues(180, 1)]).toEqual([false, false]);
  tracker.reset(2);
  check.reset();
  tracker.start(0, 100);
  expect(continues(180)).toBe(false);
  expect(sought).toEqual(['0:100', '1:100', '0:100']);
});
