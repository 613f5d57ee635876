// What is held of one collected measure: its series and, by its kind, counts, sums, histograms or readings over time, and the
// totals since this process began. In: series values of an event bucket, added or taken away again. Out: see layers.ts, bins.ts.
import type { CollectedMeasure, CounterMeasure, DistributionMeasure, GaugeMeasure } from '../measure/measure-config.ts';
import {
  BUCKET_MS,
  type CounterValue,
  type DistributionValue,
  type GaugeValue,
  OLDER_MS,
  type SeriesValue,
} from '../measure/totals.ts';
import { addPacked, type BinRing, type Bins, createBinRing, createBins, type PackedBins, packBins } from './bins.ts';
import { createExamples, type Examples } from './examples.ts';
import { createLayers, FINE_MS, type Layers } from './layers.ts';
import { createRing, type Ring } from './ring.ts';
import { createSeriesIndex, type SeriesIndex } from './series.ts';

/** Where and when a series value belongs. */
export interface Place {
  readonly index: number;
  readonly eventMs: number;
  /** Arrived more than LATE_MS after it happened. */
  readonly late: boolean;
}

/** A distribution with its bins read once. */
export interface HeldDistribution {
  readonly n: number;
  readonly sum: number;
  readonly bins: PackedBins;
}

/** A series value as it is added and taken away. */
export type HeldValue = CounterValue | HeldDistribution | GaugeValue;

interface TableBase {
  readonly series: SeriesIndex;
  /** `sign` -1 takes away what was added before. */
  add(place: Place, value: HeldValue, sign: 1 | -1): void;
  /** Clears what belongs to a series number. */
  free(index: number): void;
}

export interface CounterTable extends TableBase {
  readonly kind: 'counter';
  readonly measure: CounterMeasure;
  readonly layers: Layers;
  readonly examples: Examples;
  readonly totals: number[];
}

export interface DistributionTable extends TableBase {
  readonly kind: 'distribution';
  readonly measure: DistributionMeasure;
  /** Two numbers per series: count and sum. */
  readonly layers: Layers;
  readonly bins: BinRing;
  readonly totals: { n: number; sum: number; bins: Bins }[];
}

export interface GaugeTable extends TableBase {
  readonly kind: 'gauge';
  readonly measure: GaugeMeasure;
  /** Two numbers per series and 10 s: newest value and its time; time 0 means none. */
  readonly history: Ring;
  readonly newest: (GaugeValue | undefined)[];
}

export type Table = CounterTable | DistributionTable | GaugeTable;

export function hold(kind: Table['kind'], value: SeriesValue): HeldValue {
  if (kind !== 'distribution') return value as CounterValue | GaugeValue;
  const { n, sum, bins } = value as DistributionValue;
  return { n, sum, bins: packBins(bins) };
}

export interface TableOptions {
  readonly maxSeries: number;
  /** How far back histograms reach: the longest window of a percentile. */
  readonly binsMs: number;
}

export function createTable(measure: CollectedMeasure, options: TableOptions): Table {
  switch (measure.kind) {
    case 'counter':
      return createCounterTable(measure, options);
    case 'distribution':
      return createDistributionTable(measure, options);
    case 'gauge':
      return createGaugeTable(measure, options);
  }
}

function createCounterTable(measure: CounterMeasure, options: TableOptions): CounterTable {
  const layers = createLayers(1);
  const examples = createExamples();
  const totals: number[] = [];
  return {
    kind: 'counter',
    measure,
    series: createSeriesIndex(measure.by, options.maxSeries),
    layers,
    examples,
    totals,
    add({ index, eventMs, late }, value, sign) {
      const { n, ex } = value as CounterValue;
      totals[index] = (totals[index] ?? 0) + sign * n;
      if (eventMs === OLDER_MS) return;
      layers.add(eventMs, late, index, 0, sign * n);
      // Examples that a corrected bucket took back are still events of this series.
      if (sign === 1 && ex !== undefined && !late) examples.add(eventMs, index, ex);
    },
    free(index) {
      totals[index] = 0;
    },
  };
}

function createDistributionTable(measure: DistributionMeasure, options: TableOptions): DistributionTable {
  const layers = createLayers(2);
  const bins = createBinRing({ slotMs: BUCKET_MS, slots: Math.ceil(options.binsMs / BUCKET_MS) + 12 });
  const totals: DistributionTable['totals'] = [];
  return {
    kind: 'distribution',
    measure,
    series: createSeriesIndex(measure.by, options.maxSeries),
    layers,
    bins,
    totals,
    add({ index, eventMs, late }, value, sign) {
      const distribution = value as HeldDistribution;
      totals[index] ??= { n: 0, sum: 0, bins: createBins() };
      const total = totals[index];
      total.n += sign * distribution.n;
      total.sum += sign * distribution.sum;
      addPacked(total.bins, distribution.bins, sign);
      if (eventMs === OLDER_MS) return;
      layers.add(eventMs, late, index, 0, sign * distribution.n);
      layers.add(eventMs, late, index, 1, sign * distribution.sum);
      if (!late) bins.add(eventMs, index, distribution.bins, sign);
    },
    free(index) {
      totals[index] = { n: 0, sum: 0, bins: createBins() };
    },
  };
}

function createGaugeTable(measure: GaugeMeasure, options: TableOptions): GaugeTable {
  const history = createRing({ slotMs: BUCKET_MS, slots: FINE_MS / BUCKET_MS + 12, width: 2 });
  const newest: (GaugeValue | undefined)[] = [];
  return {
    kind: 'gauge',
    measure,
    series: createSeriesIndex(measure.by, options.maxSeries),
    history,
    newest,
    add({ index, eventMs, late }, value, sign) {
      // A reading is replaced by a newer one, never taken back.
      if (sign === -1) return;
      const { v, at } = value as GaugeValue;
      const known = newest[index];
      if (known === undefined || at >= known.at) newest[index] = { v, at };
      if (late || eventMs === OLDER_MS) return;
      if (at >= (history.row(eventMs)?.[index * 2 + 1] ?? 0) && history.set(eventMs, index, 0, v)) {
        history.set(eventMs, index, 1, at);
      }
    },
    free(index) {
      newest[index] = undefined;
    },
  };
}
