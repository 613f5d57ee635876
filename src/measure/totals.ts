// The contract between the counter, which fills totals, and the windows, which add them up; and the histograms in it.
//
// For each (partition, arrival bucket) the counter publishes the absolute totals of that bucket's records so far. A value is a
// pure function of the log up to `upToOffset`: written twice it changes nothing, and a reader keeps the one with the
// highest `upToOffset`. A partition is one of the log topic, or in embedded mode one reading of one file.
// The written format calls it `lane`, the name it began with.
import { DDSketch } from '@datadog/sketches-js';

/** Width of arrival and event buckets, in ms. */
export const BUCKET_MS = 10_000;
/** The event bucket of everything that happened more than `MAX_AGE_MS` before it arrived. */
export const OLDER_MS = 0;
/** Events that are older than this when they arrive share one bucket: no window reaches them. */
export const MAX_AGE_MS = 6 * 3_600_000;
/** An event that arrives later than this never pages. */
export const LATE_MS = 120_000;
/** An event whose time is further ahead of its arrival than this counts at its arrival. */
export const MAX_AHEAD_MS = 5_000;

/** Of a counter: how many events, and event ids as examples, up to the configured number. */
export interface CounterValue {
  n: number;
  ex?: string[];
}

/** Of a distribution: exact count, sum and extremes, and a mergeable histogram of relative accuracy. */
export interface DistributionValue {
  n: number;
  sum: number;
  min: number;
  max: number;
  /** Bin number -> count. */
  bins: Record<string, number>;
}

/** Of a gauge: the newest value and the event time (ms) it was measured at. */
export interface GaugeValue {
  v: number;
  at: number;
}

export type SeriesValue = CounterValue | DistributionValue | GaugeValue;

/** Series of one measure: label values in the order of the measure's `by`, joined by `LABEL_SEPARATOR` -> value. */
export type SeriesOfMeasure = Record<string, SeriesValue>;

export const LABEL_SEPARATOR = '\u001f';
/**
 * Stands for every label of what did not fit into a measure's `maxSeries`. No label value contains it (measure/collect.ts), so
 * no name can be mistaken for it.
 */
export const OTHER = '\u001e';
/** What former versions called it, and what Prometheus still sees. */
export const OTHER_NAME = 'other';
/** Characters that no label value contains. */
export const RESERVED = /[\u001e\u001f]/g;
/** The format since OTHER cannot be a name. Before (no `format`), the word `other` stood in every label of the series. */
export const TOTALS_FORMAT = 2;

export interface EventBucket {
  /** Start of the event bucket in ms, or OLDER_MS. */
  eventMs: number;
  /** Measure name -> its series. */
  series: Record<string, SeriesOfMeasure>;
}

export interface BucketTotals {
  /** The partition. */
  lane: string;
  /** Start of the arrival bucket in ms. */
  arrivalMs: number;
  /** The last offset that was counted. */
  upToOffset: number;
  /** Records counted, those without any series included. */
  records: number;
  /** TOTALS_FORMAT; absent in totals of older counters, which may run beside this one. */
  format?: number;
  buckets: EventBucket[];
}

/** How far a partition was read; published after its totals, so that a reader who sees it has seen those too. */
export interface PartitionProgress {
  /** The partition. */
  lane: string;
  /** How many partitions there are in all; they are numbered from 0 with Kafka. */
  lanes: number;
  /** The next offset to read, and the end of the log as far as known. */
  position: number;
  end: number;
  /** Arrival time of the newest record read, ms; 0 before the first one. */
  arrivalMs: number;
  /** `position` had reached `end` at that moment. */
  caughtUp: boolean;
  /** With `caughtUp`: how long before that moment the log had last been looked at, ms. */
  ageMs?: number;
  /** Which counter observed this, and when, ms by its own clock that never steps: a record written late was true at that moment. */
  writer?: string;
  saidMs?: number;
}

/**
 * `open`: more records of this bucket may come. Final totals are the same whoever counted them; open ones are not, so compaction
 * must never let open ones replace final ones (counts-topic.ts).
 */
export type CountsMessage =
  | {
      readonly kind: 'totals';
      readonly totals: BucketTotals;
      readonly open?: boolean;
      /** `totals` as JSON, when at hand: whoever only passes it on need not touch `totals`, which would be parsed. */
      readonly written?: { readonly lane: string; readonly arrivalMs: number; readonly json: string };
    }
  | { readonly kind: 'progress'; readonly progress: PartitionProgress };

/** Takes what the counter publishes, in order. `put` resolves when it is durable. */
export interface CountsSink {
  put(messages: readonly CountsMessage[]): Promise<void>;
  close(): Promise<void>;
}

// ---- a histogram of relative accuracy: bins of values, and quantiles from bins ----
// Bins are plain counts, so that histograms can be added and subtracted exactly.
// A quantile is within RELATIVE_ACCURACY of the value at its rank (DDSketch, https://arxiv.org/abs/1908.10693) for absolute values
// from SMALLEST to LARGEST; smaller ones count as zero, larger ones as LARGEST, which keeps bin numbers small and close together.

export const RELATIVE_ACCURACY = 0.01;

/** Of the library only the logarithmic mapping to bin numbers is used; the counts are ours. */
const { mapping } = new DDSketch({ relativeAccuracy: RELATIVE_ACCURACY });

export const SMALLEST = 1e-6;
export const LARGEST = 1e15;

/** Makes the smallest value's bin number 1, so that a bin has the sign of its values. */
const SHIFT = 1 - mapping.key(SMALLEST);
const ZERO = 0;

/** Bin -> count, as totals carry it (JSON keys are text). */
type WrittenBins = Readonly<Record<string, number>>;
/** Bin -> count, as it is added up. */
export type Bins = Map<number, number>;

/** The bin of a finite value. Bins are ordered like their values: 0 holds zero, negative values have negative bins. */
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

/** @param sign -1 subtracts the bins again; those that become empty are removed */
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
