// The dead man's switch: called every minute while recent counts of every partition are evaluated, and not otherwise.
import { expect, test } from 'vitest';
import { createHeartbeat } from '../../../src/alerter/blindness.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

function running() {
  const clock = createFakeClock();
  let calls = 0;
  const call = async () => {
    calls += 1;
    return { ok: true } as const;
  };
  let isBlind = false;
  const heartbeat = createHeartbeat({ everyMs: 60_000 }, { clock, log: silentLog, call, isBlind: () => isBlind });
  /** Ticks every quarter of a second for so long. */
  const tick = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 250) {
      heartbeat.ticked();
      await clock.advance(250);
    }
  };
  const called = () => {
    const before = calls;
    calls = 0;
    return before;
  };
  const blind = (is: boolean) => {
    isBlind = is;
  };
  return { clock, heartbeat, tick, called, blind };
}

test('with the first tick, then every minute; with the first one after a silence at once again', async () => {
  const { clock, heartbeat, tick, called } = running();
  await clock.advance(300_000);
  expect(called()).toBe(0);
  await tick(1_000);
  expect(called()).toBe(1);
  await tick(119_000);
  expect(called()).toBe(2);
  await clock.advance(180_000);
  expect(called()).toBe(0);
  await tick(1_000);
  expect(called()).toBe(1);
  heartbeat.stop();
  expect(clock.timers()).toBe(0);
});

test('a tick of more than half a minute ago is no sign of life', async () => {
  const { clock, tick, called } = running();
  await tick(20_000);
  expect(called()).toBe(1);
  await clock.advance(41_000);
  expect(called()).toBe(0);
});

test('who is blind calls nobody, however young its last tick; with the first one after that at once again', async () => {
  const { clock, tick, called, blind } = running();
  await tick(50_000);
  expect(called()).toBe(1);
  blind(true);
  await clock.advance(20_000);
  expect(called()).toBe(0);
  await tick(60_000);
  expect(called()).toBe(0);
  blind(false);
  await tick(1_000);
  expect(called()).toBe(1);
});

test('a clock set back does not make an old tick young', async () => {
  const { clock, tick, called } = running();
  await tick(20_000);
  called();
  clock.setWall(clock.now() - 3_600_000);
  await clock.advance(300_000);
  expect(called()).toBe(0);
});
