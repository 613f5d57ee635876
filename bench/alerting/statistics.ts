// Quantiles of a few values. In: numbers. Out: what is reported about them.

export interface Summary {
  readonly trials: number;
  readonly median: number;
  readonly p95: number;
  /** With fewer than a hundred trials, the maximum. */
  readonly p99: number;
  readonly max: number;
}

export function summary(values: readonly number[]): Summary {
  return {
    trials: values.length,
    median: round(median(values)),
    p95: round(quantile(values, 0.95)),
    p99: round(quantile(values, 0.99)),
    max: round(Math.max(...values)),
  };
}

export function median(values: readonly number[]): number {
  const sorted = ascending(values);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The smallest value that at least this share of the values does not exceed. */
function quantile(values: readonly number[], q: number): number {
  return ascending(values)[Math.max(0, Math.ceil(values.length * q) - 1)]!;
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

export function round(value: number, digits = 0): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}
