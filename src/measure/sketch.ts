// A histogram of relative accuracy: which bin a value belongs to, and what a histogram says of quantiles. In: finite
// numbers. Out: bins as plain counts, so that histograms can be added and taken away again exactly.
// Guarantee: a quantile is within RELATIVE_ACCURACY of the value at its rank (DDSketch, https://arxiv.org/abs/1908.10693)
// for absolute values from SMALLEST to LARGEST; below is zero, above is LARGEST. So bin numbers are small and close together.
import { DDSketch } from '@datadog/sketches-js';

export const RELATIVE_ACCURACY = 0.01;

/** The library's own logarithmic mapping; only its bin numbers are used, the counts are ours. */
const { mapping } = new DDSketch({ relativeAccuracy: RELATIVE_ACCURACY });

export const SMALLEST = 1e-6;
export const LARGEST = 1e15;

/** Makes the number of the smallest value 1, so that the sign of a bin can be that of its values. */
const SHIFT = 1 - mapping.key(SMALLEST);
const ZERO = 0;

/** Bin -> count, as totals carry it (JSON keys are text). */
export type WrittenBins = Readonly<Record<string, number>>;
/** Bin -> count, as it is added up. */
export type Bins = Map<number, number>;

/** The bin of a finite value. Bins are ordered as their values are: 0 holds zero, negative values have negative bins. */
export function binOf(value: number): number {
  if (value >= SMALLEST) return mapping.key(value < LARGEST ? value : LARGEST) + SHIFT;
  if (value <= -SMALLEST) return -binOf(-value);
  return ZERO;
}

/** The value a bin stands for: within RELATIVE_ACCURACY of everything in it. */
export function valueOfBin(bin: number): number {
  if (bin === ZERO) return 0;
  return bin > 0 ? mapping.value(bin - SHIFT) : -mapping.value(-bin - SHIFT);
}

/** `sign` -1 takes the bins away again. Bins that become empty are removed. */
export function addBins(into: Bins, bins: WrittenBins, sign: 1 | -1 = 1): void {
  for (const key in bins) {
    const bin = Number(key);
    const count = (into.get(bin) ?? 0) + sign * bins[key]!;
    if (count === 0) into.delete(bin);
    else into.set(bin, count);
  }
}

/** @param q between 0 and 1 @returns undefined when nothing was counted */
export function quantile(bins: Bins, q: number): number | undefined {
  const sorted = [...bins.keys()].sort((a, b) => a - b);
  let total = 0;
  for (const count of bins.values()) total += count;
  if (total <= 0) return undefined;
  const rank = q * (total - 1);
  let seen = 0;
  for (const bin of sorted) {
    seen += bins.get(bin)!;
    if (seen > rank) return valueOfBin(bin);
  }
  return valueOfBin(sorted[sorted.length - 1]!);
}

/** How many values are at most `bound`, to the accuracy of the bins: the cumulative buckets of a Prometheus histogram. */
export function countAtMost(bins: Bins, bound: number): number {
  const last = binOf(bound);
  let count = 0;
  for (const [bin, n] of bins) if (bin <= last) count += n;
  return count;
}
