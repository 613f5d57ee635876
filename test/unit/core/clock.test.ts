// The two detectors: a wall clock that was set, and a process that slept (what was slept is nobody's silence). And waiting: for
// a bounded time, until an abort, after failures in a row.
import { expect, test } from 'vitest';
import {
  backoffMs,
  certainAgeMs,
  endsWithin,
  isWorthSaying,
  momentOf,
  unlessAborted,
  watchClock,
  within,
} from '../../../src/core/clock.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const HOUR = 3_600_000;

function watched() {
  const clock = createFakeClock();
  const steps: number[] = [];
  const sleeps: number[] = [];
  const watch = watchClock(clock, { onStep: (ms) => steps.push(ms), onSlept: (ms) => sleeps.push(ms) });
  return { clock, steps, sleeps, watch };
}

test.each([HOUR, -HOUR, 1_500, -1_500])(
  'a wall clock set by %d ms is noticed within a second, and once',
  async (byMs) => {
    const { clock, steps, sleeps, watch } = watched();
    await clock.advance(10_300);
    clock.setWall(clock.now() + byMs);
    await clock.advance(1_000);
    expect(steps).toEqual([byMs]);
    await clock.advance(60_000);
    expect(steps).toHaveLength(1);
    expect(sleeps).toEqual([]);
    expect(watch.awakeMs()).toBe(71_300);
  },
);

test('a clock that is slewed was not set', async () => {
  const { clock, steps } = watched();
  for (let i = 0; i < 100; i++) {
    await clock.advance(1_000);
    clock.setWall(clock.now() + 500);
  }
  expect(steps).toEqual([]);
});

test('of a sleep three seconds count, also for who asks before the late look has come', async () => {
  const { clock, steps, sleeps, watch } = watched();
  await clock.advance(10_000);
  const asked: number[] = [];
  // Due before the watch's own look, and so it goes off first.
  clock.after(500, () => asked.push(watch.awakeMs()));
  await clock.sleep(HOUR);
  expect(asked).toEqual([13_000]);
  expect(sleeps).toEqual([HOUR - 1_000]);
  expect(steps).toEqual([]);
  expect(watch.awakeMs()).toBe(13_000);
  await clock.advance(5_000);
  expect(watch.awakeMs()).toBe(18_000);
});

test('a process that is merely slow has been awake', async () => {
  const { clock, sleeps, watch } = watched();
  for (let i = 0; i < 20; i++) await clock.sleep(2_500);
  expect(watch.awakeMs()).toBe(50_000);
  expect(sleeps).toEqual([]);
});

test('an age is certain only while both clocks say the same', async () => {
  const clock = createFakeClock();
  const since = momentOf(clock);
  await clock.advance(2_000);
  expect(certainAgeMs(clock, since)).toBe(2_000);
  // Suspended: the monotonic clock stood still. Set back: the wall clock knows nothing.
  for (const byMs of [HOUR, -2 * HOUR]) {
    clock.setWall(clock.now() + byMs);
    expect(certainAgeMs(clock, since)).toBe(Number.POSITIVE_INFINITY);
  }
});

test('after its end it looks no more', async () => {
  const { clock, watch } = watched();
  watch.stop();
  expect(clock.timers()).toBe(0);
});

test('who waits for a bounded time gets what came in time, or hears that it is late, and leaves no timer behind', async () => {
  const clock = createFakeClock();
  const never = new Promise<string>(() => {});
  expect(await within(Promise.resolve('in time'), 1_000, 'late', clock.after)).toBe('in time');
  await expect(within(Promise.reject(new Error('broken')), 1_000, 'late', clock.after)).rejects.toThrow('broken');
  expect(clock.timers()).toBe(0);
  const late = expect(within(never, 1_000, 'late', clock.after)).rejects.toThrow('late');
  const ends = endsWithin(never, 1_000, clock.after);
  await clock.advance(1_000);
  await late;
  expect(await ends).toBe(false);
  expect(await endsWithin(Promise.resolve(), Number.POSITIVE_INFINITY, clock.after)).toBe(true);
  expect(clock.timers()).toBe(0);
});

test('an abort ends the waiting for work that ignores it; work that fails afterwards is nobody’s', async () => {
  const end = new AbortController();
  let fail: (error: Error) => void = () => {};
  const work = new Promise<void>((_, reject) => {
    fail = reject;
  });
  const waiting = expect(unlessAborted(work, end.signal)).rejects.toThrow('the end');
  end.abort(new Error('the end'));
  await waiting;
  fail(new Error('too late to matter'));
  await expect(unlessAborted(Promise.resolve(), end.signal)).rejects.toThrow('the end');
  expect(await unlessAborted(Promise.resolve('done'), new AbortController().signal)).toBe('done');
});

test('waits double up to their limit; jitter takes half of one at most', () => {
  const limits = { firstMs: 50, maxMs: 300 };
  expect([1, 2, 3, 4, 5_000].map((failures) => backoffMs(failures, limits))).toEqual([50, 100, 200, 300, 300]);
  expect([0, 1].map((jitter) => backoffMs(3, limits, () => jitter))).toEqual([100, 200]);
  expect([1, 2, 3, 4, 5, 8, 12].filter(isWorthSaying)).toEqual([1, 2, 4, 8]);
});
