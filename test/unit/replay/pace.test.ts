import { describe, expect, it } from 'vitest';
import { createGate, createPace, parseSpeed } from '../../../src/replay/replay.ts';

describe('--speed', () => {
  it('is a factor or max', () => {
    expect(parseSpeed('10x')).toBe(10);
    expect(parseSpeed('0.5x')).toBe(0.5);
    expect(parseSpeed('max')).toBe(Number.POSITIVE_INFINITY);
    for (const text of ['0x', '10', '-1x', 'fast', '']) expect(() => parseSpeed(text)).toThrow('--speed: found');
  });

  it('lets go together what is due at the same moment, and nothing later', () => {
    const pace = createPace({ speed: 10, throttle: undefined });
    expect(pace.fitting([0, 100, 499, 501, 502], 0)).toBe(3);
    expect(pace.fitting([0, 100, 499, 501, 502], 3)).toBe(2);
    expect(createPace({ speed: Number.POSITIVE_INFINITY, throttle: undefined }).fitting([0, 1e9], 0)).toBe(2);
    // Late events do not hold anything up.
    expect(pace.fitting([1_000, 5], 0)).toBe(2);
  });
});

it('--throttle lets a tenth of a second’s events go at once, parts sharing one rate', async () => {
  let now = 0;
  const pace = createPace({ speed: Number.POSITIVE_INFINITY, throttle: 100 }, () => now);
  expect(pace.fitting(new Array(50).fill(0), 0)).toBe(10);
  expect(createPace({ speed: 1, throttle: 0.5 }).fitting([0, 0], 0)).toBe(1);
  const { signal } = new AbortController();
  await pace.wait(0, 10, signal);
  let second = false;
  const waiting = pace.wait(0, 10, signal).then(() => {
    second = true;
  });
  await Promise.resolve();
  expect(second).toBe(false);
  now = 100;
  await waiting;
});

describe('live indexing first', () => {
  it('holds back while the lag is beyond the bound and does not shrink, and only for somebody who indexes', () => {
    const gate = createGate(100);
    expect(gate.look(50, true)).toBe(false);
    expect(gate.look(90, true)).toBe(false);
    expect(gate.look(150, true)).toBe(true);
    expect(gate.look(150, true)).toBe(true);
    expect(gate.look(140, true)).toBe(false);
    expect(gate.look(141, true)).toBe(true);
    expect(gate.look(200, false)).toBe(false);
    expect(gate.look(90, true)).toBe(false);
  });
});
