// The time of evaluations: a step of this process alone is not believed, a step of the brokers is, and slewing is followed.
import { expect, test } from 'vitest';
import { createBrokersClock } from '../../../src/alerter/counts-follower.ts';
import { momentOf } from '../../../src/core/clock.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const HOUR = 3_600_000;

test.each([HOUR, -HOUR])('a step of this process by %d ms changes nothing', async (byMs) => {
  const clock = createFakeClock();
  const start = clock.now();
  const brokers = createBrokersClock(clock);
  await clock.advance(5_000);
  brokers.saw(start + 4_950);
  clock.setWall(clock.now() + byMs);
  expect(brokers.now()).toBe(start + 5_000);
  await clock.advance(10_000);
  brokers.saw(start + 14_950);
  expect(brokers.now()).toBe(start + 15_000);
});

test.each([HOUR, -HOUR])(
  'a step by %d ms that the brokers made too is taken up with their next record',
  async (byMs) => {
    const clock = createFakeClock();
    const start = clock.now();
    const brokers = createBrokersClock(clock);
    brokers.saw(start);
    clock.setWall(clock.now() + byMs);
    await clock.advance(1_000);
    expect(brokers.now()).toBe(start + 1_000);
    brokers.saw(start + byMs + 950);
    expect(Math.abs(brokers.now() - (start + byMs + 1_000))).toBeLessThanOrEqual(50);
  },
);

test('a clock that was wrong from the start is corrected: by a record of the future, or by being set right', async () => {
  const behind = createFakeClock();
  const slow = createBrokersClock(behind);
  slow.saw(behind.now() + HOUR);
  expect(slow.now()).toBe(behind.now() + HOUR);

  const ahead = createFakeClock();
  const right = ahead.now() - HOUR;
  const fast = createBrokersClock(ahead);
  fast.saw(right);
  ahead.setWall(right + 100);
  fast.saw(right + 100);
  expect(fast.now()).toBe(right + 100);
});

test('at a take-over it is known from the first record: a host whose clock is an hour off is no worse', async () => {
  const clock = createFakeClock();
  const brokersMs = clock.now() - HOUR;
  const { monotonicMs } = momentOf(clock);
  await clock.advance(700);
  const brokers = createBrokersClock(clock, { brokersMs, monotonicMs });
  expect(brokers.now()).toBe(brokersMs + 700);
  await clock.advance(60_000);
  brokers.saw(brokersMs + 60_600);
  expect(brokers.now()).toBe(brokersMs + 60_700);
  const fraction = createBrokersClock(clock, { brokersMs, monotonicMs: monotonicMs + 0.3 });
  expect(Number.isInteger(fraction.now())).toBe(true);
});

test('while nothing is counted time goes on, and slewing is followed', async () => {
  const clock = createFakeClock();
  const brokers = createBrokersClock(clock);
  for (let i = 0; i < 240; i++) {
    await clock.advance(250);
    clock.setWall(clock.now() - 1);
    brokers.now();
  }
  expect(brokers.now()).toBe(clock.now());
});

test('a step back of the brokers alone is told, and taken up', async () => {
  const clock = createFakeClock();
  const start = clock.now();
  const brokers = createBrokersClock(clock);
  expect(brokers.saw(start)).toBe(false);
  await clock.advance(500);
  expect(brokers.saw(start + 500 - HOUR)).toBe(true);
  expect(brokers.now()).toBe(start + 500 - HOUR);
  await clock.advance(500);
  expect(brokers.saw(start + 1_000 - HOUR)).toBe(false);
  // Another leader, a little behind: no new time, but nothing is late because of it.
  await clock.advance(500);
  expect(brokers.saw(start - 40_000 - HOUR)).toBe(false);
  await clock.advance(500);
  brokers.saw(start - 39_500 - HOUR);
  expect(brokers.now()).toBe(start - 39_500 - HOUR);
});
