// The two detectors: a wall clock that was set, and a process that slept. What was slept is nobody's silence.
import { expect, test } from 'vitest';
import { certainAgeMs, momentOf, watchClock } from '../../../src/core/clock.ts';
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
