// The histogram: its promise of accuracy, and that adding and taking away are exact.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  addBins,
  type Bins,
  binOf,
  countAtMost,
  LARGEST,
  quantile,
  RELATIVE_ACCURACY,
  SMALLEST,
  valueOfBin,
} from '../../../src/measure/totals.ts';

/** Durations, both signs, zero, and whatever a producer may log. */
const value = fc.oneof(
  fc.double({ min: 0.01, max: 1e6, noNaN: true }),
  fc.double({ min: -1e15, max: 1e15, noNaN: true }),
  fc.constantFrom(0, -0, 1, -1, 200, SMALLEST, -SMALLEST, LARGEST),
);
const values = fc.array(value, { minLength: 1, maxLength: 200 });

function toBins(all: readonly number[]): Bins {
  const bins: Bins = new Map();
  for (const one of all) bins.set(binOf(one), (bins.get(binOf(one)) ?? 0) + 1);
  return bins;
}

const written = (bins: Bins) => Object.fromEntries(bins);
const sorted = (bins: Bins) => [...bins].sort(([a], [b]) => a - b);

/** Floating-point arithmetic may cost a hair more than the algorithm promises. */
const TOLERANCE = RELATIVE_ACCURACY + 1e-9;

test('a quantile is within one per cent of the value at its rank', () => {
  fc.assert(
    fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (all, q) => {
      const exact = [...all].sort((a, b) => a - b)[Math.floor(q * (all.length - 1))]!;
      const estimate = quantile(toBins(all), q)!;
      if (Math.abs(exact) < SMALLEST) expect(estimate).toBe(0);
      else expect(Math.abs(estimate - exact)).toBeLessThanOrEqual(Math.abs(exact) * TOLERANCE);
    }),
    { numRuns: 1_000 },
  );
});

test('bins lie in the order of their values, and close together', () => {
  fc.assert(
    fc.property(value, value, (a, b) => {
      if (a < b) expect(binOf(a)).toBeLessThanOrEqual(binOf(b));
      expect(Math.abs(binOf(a))).toBeLessThan(2_500);
      expect(binOf(-a)).toBe(binOf(a) === 0 ? 0 : -binOf(a));
      expect(binOf(valueOfBin(binOf(a)))).toBe(binOf(a));
    }),
  );
  expect(binOf(Number.MAX_VALUE)).toBe(binOf(LARGEST));
  expect(binOf(Number.MIN_VALUE)).toBe(0);
});

test('adding is the union, and taking away leaves what was there before', () => {
  fc.assert(
    fc.property(values, values, (some, others) => {
      const merged = toBins(some);
      addBins(merged, written(toBins(others)));
      expect(sorted(merged)).toEqual(sorted(toBins([...some, ...others])));
      addBins(merged, written(toBins(some)), -1);
      expect(sorted(merged)).toEqual(sorted(toBins(others)));
    }),
  );
});

test('counts up to a bound, as a Prometheus histogram wants them', () => {
  const bins = toBins([-5, 0, 10, 199, 200, 500, 501, 10_000]);
  expect([0, 200, 500, 600, 1e9].map((bound) => countAtMost(bins, bound))).toEqual([2, 5, 7, 7, 8]);
});

test('nothing has no quantile', () => {
  expect(quantile(new Map(), 0.5)).toBeUndefined();
});
