// What the brokers' answers prove about this host's clock: a quick one everything, a slow one nothing.
import { expect, test } from 'vitest';
import { createOwnClock } from '../../../src/ship/brokers.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const HOUR = 3_600_000;

/** A batch that takes `thereMs` to the broker, whose clock is ahead by `aheadMs`, and its answer `backMs`. */
function host() {
  const clock = createFakeClock();
  const own = createOwnClock(clock);
  let brokersMs = clock.now();
  const pass = async (ms: number) => {
    brokersMs += ms;
    await clock.advance(ms);
  };
  return {
    ...{ clock, own, pass },
    async send(thereMs: number, backMs: number, aheadMs = 0) {
      const sent = own.moment();
      await pass(thereMs);
      const writtenMs = brokersMs + aheadMs;
      await pass(backMs);
      own.answered(sent, writtenMs);
      return own.isRight();
    },
  };
}

test('nothing is known before a quick answer; what is slow afterwards proves nothing against it', async () => {
  const { own, send } = host();
  expect(own.isRight()).toBe(false);
  expect(await send(8_000, 10)).toBe(false);
  expect(await send(10, 8_000)).toBe(false);
  expect(await send(10, 10)).toBe(true);
  expect(await send(15_000, 10)).toBe(true);
  expect(await send(10, 15_000)).toBe(true);
  // The broker does not say when it wrote.
  own.answered(own.moment(), -1);
  expect(own.isRight()).toBe(true);
});

test.each([-HOUR, -2_500, 2_500, HOUR])('a clock that is wrong by %d ms is never called right', async (aheadMs) => {
  const { own, send, clock, pass } = host();
  for (const [there, back] of [
    [10, 10],
    [3_000, 10],
    [10, 3_000],
    [3_000, 3_000],
  ] as const)
    expect(await send(there, back, aheadMs)).toBe(false);
  // Set right; and wrong again, which is known before anybody answers.
  expect(await send(10, 10)).toBe(true);
  clock.setWall(clock.now() - aheadMs);
  expect(own.isRight()).toBe(false);
  clock.setWall(clock.now() + aheadMs);
  expect(own.isRight()).toBe(true);
  await pass(HOUR);
  expect(own.isRight()).toBe(true);
  // The brokers' was set instead.
  expect(await send(10, 10, aheadMs)).toBe(false);
});

test('a step while a batch is under way: its answer says nothing', async () => {
  const { own, clock } = host();
  const sent = own.moment();
  clock.setWall(clock.now() + 1_900);
  own.answered(sent, sent.wallMs);
  expect(own.isRight()).toBe(false);
});
