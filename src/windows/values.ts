// The value of any measure over a window. In: a measure's name, a window, and labels to filter and group by. Out: one reading per
// group, with what it was made from; and the totals since this process began. Guarantee: no data is `undefined`, never 0; a count is 0
// only if the measure is known to be counted. Reading changes nothing.
import type { Where } from '../core/condition.ts';
import type { Measure, MeasureReference } from '../measure/measure-config.ts';
import { BUCKET_MS, type GaugeValue } from '../measure/totals.ts';
import type { Labels, SeriesGroup } from './series.ts';
import {
  binQuantile,
  binsAsMap,
  type CounterTable,
  type DistributionTable,
  type GaugeTable,
  type Layer,
  type Table,
} from './tables.ts';
import type { WindowStore } from './windows.ts';

export interface Query {
  /** The window, aligned to 10 s: event buckets that start in [fromMs, toMs). */
  readonly fromMs: number;
  readonly toMs: number;
  /** The time from which ages are measured: evaluation time, or the wall clock for readings that do not come from the log. */
  readonly nowMs: number;
  readonly where?: Where;
  readonly by?: readonly string[];
  /** Default `live`. */
  readonly layer?: Layer;
  /** Gauges with several series in a group: which one speaks for the group. Default `highest`. */
  readonly pick?: 'highest' | 'lowest';
  /** Gauges: the newest value, or the lowest, highest or mean of the window. Default `newest`. */
  readonly over?: 'newest' | 'lowest' | 'highest' | 'mean';
}

/** The value of one group. */
export interface Reading {
  readonly key: string;
  readonly labels: Labels;
  readonly value: number | undefined;
  /** Events (or readings) it was made from; for a ratio, those of the denominator. */
  readonly volume: number;
  readonly numerator?: number;
  readonly denominator?: number;
  /** Gauges: the labels of the series that spoke for the group. */
  readonly source?: Labels;
  /** The whole group has fallen silent while others of the measure have not. */
  readonly gone?: boolean;
}

/** The event buckets of a window of `windowMs` that ends with the bucket of `evalMs`. */
export function windowTo(evalMs: number, windowMs: number): { fromMs: number; toMs: number } {
  const toMs = Math.floor(evalMs / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
  return { fromMs: toMs - windowMs, toMs };
}

/** @returns exactly one reading without `by`; else one per known group, in order of appearance */
export function readMeasure(store: WindowStore, name: string, query: Query): Reading[] {
  const measure = store.measures.get(name);
  if (measure === undefined) return [];
  switch (measure.kind) {
    case 'counter':
      return readCounts(store, { of: name, where: NO_CONDITION }, query, (n) => n);
    case 'rate': {
      const perWindow = measure.perMs / (query.toMs - query.fromMs);
      return readCounts(store, measure.of, query, (n) => n * perWindow);
    }
    case 'distribution':
      return readMean(store, { of: name, where: NO_CONDITION }, query);
    case 'mean':
      return readMean(store, measure.of, query);
    case 'percentile':
      return readPercentile(store, measure.of, measure.p, query);
    case 'absence':
      return readAbsence(store, measure.of, query);
    case 'ratio':
      return readRatio(store, measure, query);
    case 'gauge':
      return withGauge(store, { of: name, where: NO_CONDITION }, query, readGauge);
    case 'sum':
      return withGauge(store, measure.of, query, readGaugeSum);
    case 'increase':
      return withGauge(store, measure.of, query, (table, groups, of) => readIncrease(table, groups, of, measure.perMs));
  }
}

/** The collected measures that a measure is made from. */
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

const NO_CONDITION: Where = {};
const NO_LABELS: readonly string[] = [];

function groupsOf(table: Table, reference: MeasureReference, { where, by }: Query): readonly SeriesGroup[] {
  return table.series.select(reference.where, by ?? NO_LABELS, where);
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

// ---- gauges: newest, over a window, ratio, sum, and growth ----
// A reading older than the measure's `staleAfter` is no data; readings after the window's end are ignored.

/** Two readings that are more intervals apart than this say nothing about the time between them. */
const MAX_GAP = 3;

/** One series that may speak for its group. */
interface Candidate {
  readonly index: number;
  readonly value: number;
  readonly numerator?: number;
  readonly denominator?: number;
}

function readGauge(table: GaugeTable, groups: readonly SeriesGroup[], query: Query): Reading[] {
  return spoken(table, groups, query, (index) => {
    const value = overWindow(table, index, query);
    return value === undefined ? undefined : { index, value };
  });
}

/** The newest value divided by the newest value, per label set: both measures have the same labels. */
function readGaugeRatio(table: GaugeTable, groups: readonly SeriesGroup[], below: GaugeTable, query: Query): Reading[] {
  return spoken(table, groups, query, (index) => {
    const other = below.series.find(table.series.keyOf(index));
    const numerator = readingAt(table, index, query)?.v;
    const denominator = other === undefined ? undefined : readingAt(below, other, query)?.v;
    if (other === undefined || numerator === undefined || denominator === undefined || denominator <= 0)
      return undefined;
    const value = readingsOver(numerator / denominator, query, table, (fromMs) =>
      ratiosOf(readingsOf(table, index, fromMs, query.toMs), readingsOf(below, other, fromMs, query.toMs)),
    );
    return value === undefined ? undefined : { index, value, numerator, denominator };
  });
}

/** One reading per group, which is that of the candidate that `pick` asks for. */
function spoken(
  table: GaugeTable,
  groups: readonly SeriesGroup[],
  query: Query,
  candidateOf: (index: number) => Candidate | undefined,
): Reading[] {
  const sign = query.pick === 'lowest' ? -1 : 1;
  let heard = false;
  const readings = groups.map(({ key, labels, indexes }) => {
    let best: Candidate | undefined;
    let volume = 0;
    for (const index of indexes) {
      const candidate = candidateOf(index);
      if (candidate === undefined) continue;
      volume++;
      if (best === undefined || sign * candidate.value > sign * best.value) best = candidate;
    }
    if (best === undefined) return { key, labels, value: undefined, volume };
    heard = true;
    const { index, value, numerator, denominator } = best;
    const parts = numerator === undefined || denominator === undefined ? {} : { numerator, denominator };
    return { key, labels, value, volume, source: table.series.labelsOf(index), ...parts };
  });
  return markGone(readings, heard, query);
}

/** While no group reports, the application may be silent; once others report, a group that does not is gone. */
function markGone(readings: Reading[], heard: boolean, { by = [] }: Query): Reading[] {
  if (!heard || by.length === 0) return readings;
  return readings.map((reading) => (reading.value === undefined ? { ...reading, gone: true } : reading));
}

function readGaugeSum(table: GaugeTable, groups: readonly SeriesGroup[], query: Query): Reading[] {
  return groups.map(({ key, labels, indexes }) => {
    let sum = 0;
    let volume = 0;
    for (const index of indexes) {
      const reading = readingAt(table, index, query);
      if (reading === undefined) continue;
      sum += reading.v;
      volume++;
    }
    return { key, labels, value: volume > 0 ? sum : undefined, volume };
  });
}

/** Growth per `perMs` of gauges that only grow, added up over the series of a group. */
function readIncrease(table: GaugeTable, groups: readonly SeriesGroup[], query: Query, perMs: number): Reading[] {
  let heard = false;
  const readings = groups.map(({ key, labels, indexes }) => {
    let sum = 0;
    let volume = 0;
    for (const index of indexes) {
      const rate = growth(table, index, query);
      if (rate === undefined) continue;
      sum += rate * perMs;
      volume++;
    }
    heard ||= volume > 0;
    return { key, labels, value: volume > 0 ? sum : undefined, volume };
  });
  return markGone(readings, heard, query);
}

/** Growth per ms over the window; undefined when the readings do not cover it. */
function growth(table: GaugeTable, index: number, query: Query): number | undefined {
  if (readingAt(table, index, query) === undefined) return undefined;
  // Growth within the window begins at the newest reading before it.
  const readings = readingsOf(table, index, query.fromMs - table.measure.staleAfterMs, query.toMs);
  if (!covers(readings, query)) return undefined;
  const first = Math.max(
    0,
    readings.findLastIndex(({ at }) => at < query.fromMs),
  );
  let grown = 0;
  for (let i = first + 1; i < readings.length; i++) {
    const step = readings[i]!.v - readings[i - 1]!.v;
    // A smaller value means that the process restarted: all it has counted happened since.
    grown += step >= 0 ? step : readings[i]!.v;
  }
  const elapsed = (readings.at(-1)?.at ?? 0) - (readings[first]?.at ?? 0);
  return elapsed > 0 ? grown / elapsed : undefined;
}

/** The series' newest value, or the lowest, highest or mean of the window. */
function overWindow(table: GaugeTable, index: number, query: Query): number | undefined {
  const newest = readingAt(table, index, query);
  if (newest === undefined) return undefined;
  return readingsOver(newest.v, query, table, (fromMs) => readingsOf(table, index, fromMs, query.toMs));
}

/** Ratios of readings from the same 10 s. */
function ratiosOf(above: readonly GaugeValue[], below: readonly GaugeValue[]): GaugeValue[] {
  const denominators = new Map(below.map(({ at, v }) => [Math.floor(at / BUCKET_MS), v] as const));
  return above.flatMap(({ at, v }) => {
    const denominator = denominators.get(Math.floor(at / BUCKET_MS)) ?? 0;
    return denominator > 0 ? [{ at, v: v / denominator }] : [];
  });
}

/** @param since returns the readings since a time, oldest first */
function readingsOver(
  newest: number,
  query: Query,
  { measure }: GaugeTable,
  since: (fromMs: number) => readonly GaugeValue[],
): number | undefined {
  const { over = 'newest', fromMs, pick = 'highest' } = query;
  if (over === 'newest') return newest;
  const readings = since(fromMs - measure.staleAfterMs);
  // One high reading is enough to make the highest of a window high; everything else needs readings of the whole window.
  if (over !== pick && !covers(readings, query)) return undefined;
  const values = readings.filter(({ at }) => at >= fromMs).map(({ v }) => v);
  if (values.length === 0) return undefined;
  if (over === 'lowest') return Math.min(...values);
  if (over === 'highest') return Math.max(...values);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * True when readings cover the whole window: the first one is at least as old as the window less one interval, and no two
 * neighbours are more than MAX_GAP intervals apart. The interval is the median distance of two readings.
 * @param readings oldest first, including some from before the window
 */
function covers(readings: readonly GaugeValue[], { fromMs, toMs, nowMs }: Query): boolean {
  const gaps = readings.slice(1).map(({ at }, i) => at - readings[i]!.at);
  const intervalMs = Math.max(BUCKET_MS, gaps.toSorted((a, b) => a - b)[Math.floor(gaps.length / 2)] ?? 0);
  const begin = readings.findLastIndex(({ at }) => nowMs - at >= toMs - fromMs - intervalMs);
  return begin >= 0 && gaps.slice(begin).every((gap) => gap <= MAX_GAP * intervalMs);
}

/** The newest reading of the series at the end of the window, unless it is stale. */
function readingAt(table: GaugeTable, index: number, { toMs, nowMs }: Query): GaugeValue | undefined {
  const freshMs = nowMs - table.measure.staleAfterMs;
  const newest = table.newest[index];
  if (newest === undefined || newest.at < freshMs) return undefined;
  if (newest.at < toMs) return newest;
  for (let slotMs = toMs - BUCKET_MS; slotMs > freshMs - BUCKET_MS; slotMs -= BUCKET_MS) {
    const reading = slotReading(table, index, slotMs);
    if (reading !== undefined) return reading.at >= freshMs ? reading : undefined;
  }
  return undefined;
}

/** One reading per 10 s, oldest first. */
function readingsOf(table: GaugeTable, index: number, fromMs: number, toMs: number): GaugeValue[] {
  const result: GaugeValue[] = [];
  for (let slotMs = Math.floor(fromMs / BUCKET_MS) * BUCKET_MS; slotMs < toMs; slotMs += BUCKET_MS) {
    const reading = slotReading(table, index, slotMs);
    if (reading !== undefined) result.push(reading);
  }
  return result;
}

function slotReading(table: GaugeTable, index: number, slotMs: number): GaugeValue | undefined {
  const row = table.history.row(slotMs);
  const at = row?.[index * 2 + 1] ?? 0;
  return at > 0 ? { v: row![index * 2]!, at } : undefined;
}

// ---- everything counted since this process began, for Prometheus and statistics ----
// Counts never go down while a series is held; a reading carries its time.

export type TotalValue =
  | { readonly kind: 'counter'; readonly n: number }
  | { readonly kind: 'distribution'; readonly n: number; readonly sum: number; readonly bins: Map<number, number> }
  | { readonly kind: 'gauge'; readonly v: number; readonly at: number };

export interface TotalSeries {
  /** In the order of the measure's `by`; OTHER for what did not fit into the measure and is counted together. */
  readonly values: readonly string[];
  readonly value: TotalValue;
}

/** Yields nothing for a derived measure, or for one that was never counted. */
export function* totalsOf(store: WindowStore, measure: string): Generator<TotalSeries> {
  const table = store.table(measure);
  if (table === undefined) return;
  for (const index of table.series.indexes()) {
    const values = table.series.valuesOf(index);
    switch (table.kind) {
      case 'counter':
        yield { values, value: { kind: 'counter', n: table.totals[index] ?? 0 } };
        break;
      case 'distribution': {
        const total = table.totals[index];
        if (total === undefined) break;
        yield { values, value: { kind: 'distribution', n: total.n, sum: total.sum, bins: binsAsMap(total.bins) } };
        break;
      }
      case 'gauge': {
        const newest = table.newest[index];
        if (newest !== undefined) yield { values, value: { kind: 'gauge', v: newest.v, at: newest.at } };
      }
    }
  }
}
