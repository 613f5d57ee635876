// The value of any measure over a window. In: a measure's name and a window, labels to filter and to group by. Out: one reading per
// group, with what it was made from. Guarantee: no data is `undefined`, never 0; a count is 0 only where the measure itself is
// known to be counted. Nothing is changed by reading.
import type { Measure, MeasureReference, Where } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import { binQuantile } from './bins.ts';
import { readGauge, readGaugeRatio, readGaugeSum, readIncrease } from './gauge-values.ts';
import type { Layer } from './layers.ts';
import type { Labels, SeriesGroup } from './series.ts';
import type { CounterTable, DistributionTable, GaugeTable, Table } from './tables.ts';
import type { WindowStore } from './windows.ts';

export interface Query {
  /** The window, aligned to 10 s: event buckets that start in [fromMs, toMs). */
  readonly fromMs: number;
  readonly toMs: number;
  /** What ages are measured against: evaluation time, or the wall clock for readings that do not come from the log. */
  readonly nowMs: number;
  readonly where?: Where;
  readonly by?: readonly string[];
  /** Default `live`. */
  readonly layer?: Layer;
  /** Of gauges with several series in a group: which one speaks for it. Default `highest`. */
  readonly pick?: 'highest' | 'lowest';
  /** Of gauges: the newest value, or the lowest or highest of the window. Default `newest`. */
  readonly over?: 'newest' | 'lowest' | 'highest' | 'mean';
}

/** The value of one group. */
export interface Reading {
  readonly key: string;
  readonly labels: Labels;
  readonly value: number | undefined;
  /** Events (or readings) it was made from; of a ratio those of the denominator. */
  readonly volume: number;
  readonly numerator?: number;
  readonly denominator?: number;
  /** Of gauges: labels of the series that spoke for the group. */
  readonly source?: Labels;
  /** Everything of the group has fallen silent while others of the measure have not. */
  readonly gone?: boolean;
}

/** Event buckets of a window of `windowMs` that ends with the bucket `evalMs` lies in. */
export function windowTo(evalMs: number, windowMs: number): { fromMs: number; toMs: number } {
  const toMs = Math.floor(evalMs / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  return { fromMs: toMs - windowMs, toMs };
}

/** @returns exactly one reading without `by`; else one per group there is anything of, in order of appearance */
export function readMeasure(store: WindowStore, name: string, query: Query): Reading[] {
  const measure = store.measures.get(name);
  if (measure === undefined) return [];
  switch (measure.kind) {
    case 'counter':
      return readCounts(store, { of: name, where: {} }, query, (n) => n);
    case 'rate': {
      const perWindow = measure.perMs / (query.toMs - query.fromMs);
      return readCounts(store, measure.of, query, (n) => n * perWindow);
    }
    case 'distribution':
      return readMean(store, { of: name, where: {} }, query);
    case 'mean':
      return readMean(store, measure.of, query);
    case 'percentile':
      return readPercentile(store, measure.of, measure.p, query);
    case 'absence':
      return readAbsence(store, measure.of, query);
    case 'ratio':
      return readRatio(store, measure, query);
    case 'gauge':
      return withGauge(store, { of: name, where: {} }, query, readGauge);
    case 'sum':
      return withGauge(store, measure.of, query, readGaugeSum);
    case 'increase':
      return withGauge(store, measure.of, query, (table, groups, of) => readIncrease(table, groups, of, measure.perMs));
  }
}

/** The collected measures a measure is made from. */
export function sourcesOf(measure: Measure): readonly string[] {
  switch (measure.kind) {
    case 'counter':
    case 'distribution':
    case 'gauge':
      return [measure.name];
    case 'ratio':
      return [measure.numerator.of, measure.denominator.of];
    default:
      return [measure.of.of];
  }
}

function groupsOf(table: Table, reference: MeasureReference, { where = {}, by = [] }: Query): readonly SeriesGroup[] {
  return table.series.select({ ...reference.where, ...where }, by);
}

function total(sums: Float64Array, indexes: readonly number[], width: number, field: number): number {
  let result = 0;
  for (const index of indexes) result += sums[index * width + field] ?? 0;
  return result;
}

function counterTable(store: WindowStore, name: string): CounterTable | undefined {
  const table = store.table(name);
  return table?.kind === 'counter' ? table : undefined;
}

function readCounts(
  store: WindowStore,
  reference: MeasureReference,
  query: Query,
  toValue: (n: number) => number,
): Reading[] {
  const table = counterTable(store, reference.of);
  if (table === undefined) return [];
  const sums = table.layers.sum(query.fromMs, query.toMs, query.layer ?? 'live');
  const counted = table.series.size > 0;
  return groupsOf(table, reference, query).map(({ key, labels, indexes }) => {
    const n = total(sums, indexes, 1, 0);
    return { key, labels, value: counted ? toValue(n) : undefined, volume: n };
  });
}

function readRatio(store: WindowStore, measure: Measure & { kind: 'ratio' }, query: Query): Reading[] {
  const { numerator, denominator } = measure;
  const [above, below] = [store.table(numerator.of), store.table(denominator.of)];
  if (above?.kind === 'gauge' && below?.kind === 'gauge') {
    return readGaugeRatio(above, groupsOf(above, numerator, query), below, query);
  }
  const parts = new Map(readCounts(store, numerator, query, (n) => n).map((reading) => [reading.key, reading.volume]));
  return readCounts(store, denominator, query, (n) => n).map(({ key, labels, volume }) => {
    const part = parts.get(key) ?? 0;
    const value = volume > 0 ? part / volume : undefined;
    return { key, labels, value, volume, numerator: part, denominator: volume };
  });
}

function distributionTable(store: WindowStore, name: string): DistributionTable | undefined {
  const table = store.table(name);
  return table?.kind === 'distribution' ? table : undefined;
}

function readMean(store: WindowStore, reference: MeasureReference, query: Query): Reading[] {
  const table = distributionTable(store, reference.of);
  if (table === undefined) return [];
  const sums = table.layers.sum(query.fromMs, query.toMs, query.layer ?? 'live');
  return groupsOf(table, reference, query).map(({ key, labels, indexes }) => {
    const n = total(sums, indexes, 2, 0);
    return { key, labels, value: n > 0 ? total(sums, indexes, 2, 1) / n : undefined, volume: n };
  });
}

function readPercentile(store: WindowStore, reference: MeasureReference, p: number, query: Query): Reading[] {
  const table = distributionTable(store, reference.of);
  if (table === undefined) return [];
  const sums = table.layers.sum(query.fromMs, query.toMs, 'live');
  return groupsOf(table, reference, query).map(({ key, labels, indexes }) => {
    const n = total(sums, indexes, 2, 0);
    const value = n > 0 ? binQuantile(table.bins.merge(query.fromMs, query.toMs, indexes), p / 100) : undefined;
    return { key, labels, value, volume: n };
  });
}

/** Seconds since the newest event arrived; at most 10 s too few, because arrivals are known to the bucket. */
function readAbsence(store: WindowStore, reference: MeasureReference, query: Query): Reading[] {
  const table = counterTable(store, reference.of);
  if (table === undefined) return [];
  return groupsOf(table, reference, query).map(({ key, labels, indexes }) => {
    if (indexes.length === 0) return { key, labels, value: undefined, volume: 0 };
    let newest = 0;
    for (const index of indexes) newest = Math.max(newest, table.series.lastArrivalMs(index));
    return { key, labels, value: Math.max(0, query.nowMs - newest - BUCKET_MS) / 1_000, volume: 0 };
  });
}

function withGauge(
  store: WindowStore,
  reference: MeasureReference,
  query: Query,
  read: (table: GaugeTable, groups: readonly SeriesGroup[], query: Query) => Reading[],
): Reading[] {
  const table = store.table(reference.of);
  return table?.kind === 'gauge' ? read(table, groupsOf(table, reference, query), query) : [];
}
