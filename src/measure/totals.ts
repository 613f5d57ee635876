// What the counter publishes and the evaluator adds up. Contracts only: the counter fills them, windows read them.
//
// For each (lane, arrival bucket) the counter publishes the absolute totals of that bucket's records so far. A value is a
// pure function of the log up to `upToOffset`: written twice it changes nothing, and a reader keeps the one with the
// highest `upToOffset`. A lane is a partition of the log topic, or in embedded mode one reading of one file.

/** Width of arrival and event buckets, in ms. */
export const BUCKET_MS = 10_000;
/** Event bucket of everything that happened longer before its arrival than `MAX_AGE_MS`. */
export const OLDER_MS = 0;
/** Events older than this at their arrival share one bucket: no window reaches them. */
export const MAX_AGE_MS = 6 * 3_600_000;
/** An event that arrived later than this never pages. */
export const LATE_MS = 120_000;
/** An event time further ahead of its arrival than this counts at its arrival. */
export const MAX_AHEAD_MS = 5_000;

/** Of a counter: how many, and up to the configured number of event ids as examples. */
export interface CounterValue {
  n: number;
  ex?: string[];
}

/** Of a distribution: exact count, sum and extremes, and a mergeable histogram of relative accuracy (sketch.ts). */
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
 * Stands for every label of what did not fit into a measure's `maxSeries`. No value of a label is this or holds it
 * (measure/series.ts), so that nobody's name means it.
 */
export const OTHER = '\u001e';
/** What former versions called it, and Prometheus is shown. */
export const OTHER_NAME = 'other';
/** What no label value holds. */
export const RESERVED = /[\u001e\u001f]/g;
/** Of totals since OTHER is no possible name. Before (no `format`) it was the word `other`, in every label of the series. */
export const TOTALS_FORMAT = 2;

export interface EventBucket {
  /** Start of the event bucket in ms, or OLDER_MS. */
  eventMs: number;
  /** Measure name -> its series. */
  series: Record<string, SeriesOfMeasure>;
}

export interface BucketTotals {
  lane: string;
  /** Start of the arrival bucket in ms. */
  arrivalMs: number;
  /** The last offset counted in. */
  upToOffset: number;
  /** Records counted in, those without any series included. */
  records: number;
  /** TOTALS_FORMAT; absent in those of former counters, which may run beside this one. */
  format?: number;
  buckets: EventBucket[];
}

/** How far a lane was read; published behind its totals, so that a reader who sees it has seen those too. */
export interface LaneProgress {
  lane: string;
  /** How many lanes there are in all; lanes are numbered from 0 with Kafka. */
  lanes: number;
  /** The next offset to read, and the end of the log as far as known. */
  position: number;
  end: number;
  /** Arrival time of the newest record read, ms; 0 before the first one. */
  arrivalMs: number;
  /** `position` had reached `end` when this was said. */
  caughtUp: boolean;
  /** With `caughtUp`: how long ago the log had last been looked at then, ms. */
  ageMs?: number;
  /** Who says it, and when, by a clock of its own that never steps, ms: what is written late was true when it was said. */
  writer?: string;
  saidMs?: number;
}

/**
 * `open`: more records of this bucket may come. Totals that are final are the same whoever counted them; open ones are not,
 * so a compacted topic must never let the ones replace the others (counts-topic.ts).
 */
export type CountsMessage =
  | {
      readonly kind: 'totals';
      readonly totals: BucketTotals;
      readonly open?: boolean;
      /** `totals` as JSON, when it is at hand: whoever only passes it on need not touch `totals`, which costs more. */
      readonly written?: { readonly lane: string; readonly arrivalMs: number; readonly json: string };
    }
  | { readonly kind: 'progress'; readonly progress: LaneProgress };

/** Takes what the counter has to say, in order. Resolves when it is durable. */
export interface CountsSink {
  put(messages: readonly CountsMessage[]): Promise<void>;
  close(): Promise<void>;
}
