// What is held of one collected measure: its series and, by its kind, counts, sums, histograms or readings over time, and the
// totals since this process began. In: series values of an event bucket, added or subtracted again. Out: sums, histograms, readings
// and examples of a window. Guarantee: memory is bounded by slots × series; sums and merged histograms are exact; a slot that falls out
// of its ring is forgotten as a whole; nothing late is ever part of the live layer.
import type { CollectedMeasure, CounterMeasure, DistributionMeasure, GaugeMeasure } from '../measure/measure-config.ts';
import {
  BUCKET_MS,
  type CounterValue,
  type DistributionValue,
  type GaugeValue,
  OLDER_MS,
  type SeriesValue,
  valueOfBin,
} from '../measure/totals.ts';
import { createSeriesIndex, type SeriesIndex } from './series.ts';

/** Where and when a series value belongs. */
export interface Place {
  readonly index: number;
  readonly eventMs: number;
  /** Arrived more than LATE_MS after it happened. */
  readonly late: boolean;
}

/** A distribution whose bins are parsed. */
export interface HeldDistribution {
  readonly n: number;
  readonly sum: number;
  readonly bins: PackedBins;
}

/** A series value as it is added and subtracted. */
export type HeldValue = CounterValue | HeldDistribution | GaugeValue;

interface TableBase {
  readonly series: SeriesIndex;
  /** @param sign -1 subtracts what was added before */
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
  readonly totals: { n: number; sum: number; bins: DenseBins }[];
}

export interface GaugeTable extends TableBase {
  readonly kind: 'gauge';
  readonly measure: GaugeMeasure;
  /** Two numbers per series and 10 s: newest value and its time; time 0 means none. */
  readonly history: Ring;
  readonly newest: (GaugeValue | undefined)[];
}

export type Table = CounterTable | DistributionTable | GaugeTable;

export function toHeld(kind: Table['kind'], value: SeriesValue): HeldValue {
  if (kind !== 'distribution') return value as CounterValue | GaugeValue;
  const { n, sum, bins } = value as DistributionValue;
  return { n, sum, bins: packBins(bins) };
}

interface TableOptions {
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
      // Examples stay when a bucket is corrected: they are still events of this series.
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
      // A reading is replaced by a newer one, never subtracted.
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

// ---- layers: 10 s slots for a little more than an hour, 5 min slots for a day ----
// Each of them exists twice: for what arrived in time, and for what arrived late.

/** The longest window of a rule that reads 10 s slots. */
export const FINE_MS = 65 * 60_000;
const COARSE_SLOT_MS = 300_000;
/** How far back sums reach. */
export const COARSE_MS = 24 * 3_600_000 + COARSE_SLOT_MS;

/** `late`: what arrived more than LATE_MS after it happened. Only `live` makes rules page; statistics count `all`. */
export type Layer = 'live' | 'late' | 'all';

interface Layers {
  add(eventMs: number, late: boolean, index: number, field: number, delta: number): void;
  /**
   * Sums of the slots that start in [fromMs, toMs), `width` numbers per series. A window that begins before the oldest 10 s slot
   * is read from the 5 min slots that start in it.
   */
  sum(fromMs: number, toMs: number, layer: Layer): Float64Array;
  /** One 10 s slot of the live layer. */
  slot(startMs: number): Float64Array | undefined;
}

function createLayers(width: number): Layers {
  const fine = { slotMs: BUCKET_MS, slots: FINE_MS / BUCKET_MS + 12, width };
  const coarse = { slotMs: COARSE_SLOT_MS, slots: COARSE_MS / COARSE_SLOT_MS + 1, width };
  const live = { fine: createRing(fine), coarse: createRing(coarse) };
  const late = { fine: createRing(fine), coarse: createRing(coarse) };

  function sumOf(layer: { fine: Ring; coarse: Ring }, fromMs: number, toMs: number): Float64Array {
    // The live ring decides for both, because it is always the further one.
    const reach = live.fine.oldestMs() ?? 0;
    const short = toMs - fromMs <= FINE_MS && fromMs >= reach;
    return short ? layer.fine.sum(fromMs, toMs) : layer.coarse.sum(fromMs, toMs);
  }

  return {
    add(eventMs, isLate, index, field, delta) {
      const layer = isLate ? late : live;
      layer.fine.add(eventMs, index, field, delta);
      layer.coarse.add(eventMs, index, field, delta);
    },
    sum(fromMs, toMs, layer) {
      if (layer === 'live') return sumOf(live, fromMs, toMs);
      if (layer === 'late') return sumOf(late, fromMs, toMs);
      const [one, other] = [sumOf(live, fromMs, toMs), sumOf(late, fromMs, toMs)];
      const result = new Float64Array(Math.max(one.length, other.length));
      result.set(one);
      for (let i = 0; i < other.length; i++) result[i]! += other[i]!;
      return result;
    },
    slot: (startMs) => live.fine.row(startMs),
  };
}

// ---- a ring of typed rows: numbers per time slot and series ----
// There is one row per slot, not per series: a window over a thousand series takes a few dozen straight passes, and its sums are
// kept until something changes, so that rules over the same window share them.

interface Ring {
  readonly slotMs: number;
  /** False, and nothing is added, when the slot is older than the ring reaches. */
  add(slotStartMs: number, index: number, field: number, delta: number): boolean;
  /** Replaces instead of adding; otherwise as `add`. */
  set(slotStartMs: number, index: number, field: number, value: number): boolean;
  /** Sums of the slots that start in [fromMs, toMs): `width` numbers per series. Shared: read only. */
  sum(fromMs: number, toMs: number): Float64Array;
  /** The numbers of one slot, undefined when it has none. Shared: read only. */
  row(slotStartMs: number): Float64Array | undefined;
  /** Start of the oldest slot that fits into the ring together with its newest; undefined while it is empty. */
  oldestMs(): number | undefined;
}

interface RingOptions {
  readonly slotMs: number;
  readonly slots: number;
  /** Numbers per series. */
  readonly width: number;
}

const SMALLEST_ROW = 16;

function createRing(options: RingOptions): Ring {
  const { slotMs, slots, width } = options;
  const rows: (Float64Array | undefined)[] = new Array(slots).fill(undefined);
  const numbers = new Float64Array(slots).fill(-1);
  const sums = new Map<string, Float64Array>();
  let newest = -1;

  function rowAt(slot: number): Float64Array | undefined {
    const at = slot % slots;
    return slot > newest - slots && numbers[at] === slot ? rows[at] : undefined;
  }

  /** The slot's row, long enough for the position; undefined when the slot is too old. */
  function writable(slotStartMs: number, position: number): Float64Array | undefined {
    const slot = Math.floor(slotStartMs / slotMs);
    if (slot < 0 || slot <= newest - slots) return undefined;
    if (slot > newest) newest = slot;
    if (sums.size > 0) sums.clear();
    const at = slot % slots;
    let row = rows[at];
    if (numbers[at] !== slot) {
      numbers[at] = slot;
      row?.fill(0);
    }
    if (row === undefined || position >= row.length) {
      const grown = new Float64Array(rowLength(position, row?.length ?? SMALLEST_ROW));
      if (row !== undefined) grown.set(row);
      rows[at] = grown;
      row = grown;
    }
    return row;
  }

  return {
    slotMs,
    add(slotStartMs, index, field, delta) {
      const position = index * width + field;
      const row = writable(slotStartMs, position);
      if (row === undefined) return false;
      row[position]! += delta;
      return true;
    },
    set(slotStartMs, index, field, value) {
      const position = index * width + field;
      const row = writable(slotStartMs, position);
      if (row === undefined) return false;
      row[position] = value;
      return true;
    },
    sum(fromMs, toMs) {
      const from = Math.max(Math.ceil(fromMs / slotMs), newest - slots + 1, 0);
      const to = Math.min(Math.ceil(toMs / slotMs), newest + 1);
      const key = `${from}-${to}`;
      const known = sums.get(key);
      if (known !== undefined) return known;
      let longest = 0;
      for (let slot = from; slot < to; slot++) longest = Math.max(longest, rowAt(slot)?.length ?? 0);
      const result = new Float64Array(longest);
      for (let slot = from; slot < to; slot++) {
        const row = rowAt(slot);
        if (row === undefined) continue;
        for (let i = 0; i < row.length; i++) result[i]! += row[i]!;
      }
      sums.set(key, result);
      return result;
    },
    row: (slotStartMs) => rowAt(Math.floor(slotStartMs / slotMs)),
    oldestMs: () => (newest < 0 ? undefined : Math.max(0, newest - slots + 1) * slotMs),
  };
}

function rowLength(position: number, atLeast: number): number {
  let length = atLeast;
  while (length <= position) length *= 2;
  return length;
}

// ---- a ring of histograms: bin counts per time slot and series ----
// They are dense arrays from the lowest to the highest bin: bins of durations are close together, and adding arrays is much
// cheaper than walking maps. Zero and negative values are far from the rest, so they have a map of their own.

interface DenseBins {
  /** Counts of the bins from `base` on; `base` is positive. */
  base: number;
  counts: Uint32Array;
  /** Bins of zero and of negative values. */
  low: Map<number, number> | undefined;
}

/** Written bins, parsed once: they are added and subtracted several times. */
interface PackedBins {
  readonly bins: readonly number[];
  readonly counts: readonly number[];
  /** Lowest and highest positive bin; 0 without any. */
  readonly lowest: number;
  readonly highest: number;
}

interface BinRing {
  /** Adds `sign` times the counts. */
  add(slotStartMs: number, index: number, bins: PackedBins, sign: 1 | -1): void;
  /**
   * All bins of the series in the slots that start in [fromMs, toMs). Shared: read only. Asking again with the same list (the
   * same object) is cheaper: what each slot holds of its series is remembered.
   */
  merge(fromMs: number, toMs: number, indexes: readonly number[]): DenseBins;
}

const SLACK = 8;

function createBins(): DenseBins {
  return { base: 0, counts: new Uint32Array(0), low: undefined };
}

function packBins(written: Readonly<Record<string, number>>): PackedBins {
  const bins: number[] = [];
  const counts: number[] = [];
  let lowest = 0;
  let highest = 0;
  for (const key in written) {
    const bin = Number(key);
    bins.push(bin);
    counts.push(written[key]!);
    if (bin <= 0) continue;
    if (lowest === 0 || bin < lowest) lowest = bin;
    if (bin > highest) highest = bin;
  }
  return { bins, counts, lowest, highest };
}

/** Adds `sign` times the counts, widening the array once where needed. */
function addPacked(into: DenseBins, { bins, counts, lowest, highest }: PackedBins, sign: 1 | -1): void {
  if (highest > 0) reach(into, lowest, highest);
  const { base, counts: dense } = into;
  for (let i = 0; i < bins.length; i++) {
    const bin = bins[i]!;
    if (bin > 0) dense[bin - base]! += sign * counts[i]!;
    else addLow(into, bin, sign * counts[i]!);
  }
}

function addLow(into: DenseBins, bin: number, delta: number): void {
  into.low ??= new Map();
  into.low.set(bin, (into.low.get(bin) ?? 0) + delta);
}

function reach(bins: DenseBins, lowest: number, highest: number): void {
  const { base, counts } = bins;
  if (counts.length === 0 || lowest < base || highest >= base + counts.length) widen(bins, lowest, highest);
}

function widen(bins: DenseBins, lowest: number, highest: number): void {
  const { base, counts } = bins;
  const last = base + counts.length - 1;
  const from = counts.length === 0 || lowest < base ? Math.max(1, lowest - SLACK) : base;
  const to = counts.length === 0 || highest > last ? highest + SLACK : last;
  const wider = new Uint32Array(to - from + 1);
  if (counts.length > 0) wider.set(counts, base - from);
  bins.base = from;
  bins.counts = wider;
}

function addAll(into: DenseBins, other: DenseBins): void {
  if (other.counts.length > 0) {
    reach(into, other.base, other.base + other.counts.length - 1);
    const { base, counts } = other;
    const shift = base - into.base;
    const dense = into.counts;
    for (let i = 0; i < counts.length; i++) dense[i + shift]! += counts[i]!;
  }
  if (other.low !== undefined) for (const [bin, count] of other.low) addLow(into, bin, count);
}

/** @param q between 0 and 1 @returns the same value as `quantile` of measure/totals.ts; undefined when nothing was counted */
export function binQuantile(bins: DenseBins, q: number): number | undefined {
  const low = [...(bins.low ?? [])].sort(([a], [b]) => a - b);
  let count = 0;
  for (const [, n] of low) count += n;
  for (const n of bins.counts) count += n;
  if (count <= 0) return undefined;
  const rank = q * (count - 1);
  let seen = 0;
  for (const [bin, n] of low) {
    seen += n;
    if (seen > rank) return valueOfBin(bin);
  }
  for (let i = 0; i < bins.counts.length; i++) {
    seen += bins.counts[i]!;
    if (seen > rank) return valueOfBin(bins.base + i);
  }
  return undefined;
}

/** Bin -> count, without empty ones, as measure/totals.ts reads them. */
export function binsAsMap(bins: DenseBins): Map<number, number> {
  const map = new Map([...(bins.low ?? [])].filter(([, n]) => n > 0));
  for (let i = 0; i < bins.counts.length; i++) if (bins.counts[i]! > 0) map.set(bins.base + i, bins.counts[i]!);
  return map;
}

/** What each slot holds of several series together, and the windows asked for since the last change. */
interface Merged {
  readonly versions: Float64Array;
  readonly slots: (DenseBins | undefined)[];
  readonly windows: Map<string, DenseBins>;
  at: number;
}

function createBinRing(options: { readonly slotMs: number; readonly slots: number }): BinRing {
  const { slotMs, slots } = options;
  const cells: Map<number, DenseBins>[] = Array.from({ length: slots }, () => new Map());
  const numbers = new Float64Array(slots).fill(-1);
  /** For each place in the ring, the number of its last change. */
  const versions = new Float64Array(slots);
  const merged = new WeakMap<readonly number[], Merged>();
  let changes = 0;
  let newest = -1;

  function mergedOf(indexes: readonly number[]): Merged {
    let own = merged.get(indexes);
    if (own === undefined) {
      own = { versions: new Float64Array(slots), slots: new Array(slots).fill(undefined), windows: new Map(), at: 0 };
      merged.set(indexes, own);
    }
    if (own.at !== changes) {
      own.windows.clear();
      own.at = changes;
    }
    return own;
  }

  function slotOf(place: number, indexes: readonly number[], own: Merged): DenseBins | undefined {
    const cell = cells[place]!;
    if (indexes.length === 1) return cell.get(indexes[0]!);
    if (own.versions[place] !== versions[place]) {
      const bins = createBins();
      for (const index of indexes) {
        const one = cell.get(index);
        if (one !== undefined) addAll(bins, one);
      }
      own.slots[place] = bins;
      own.versions[place] = versions[place]!;
    }
    return own.slots[place];
  }

  return {
    add(slotStartMs, index, bins, sign) {
      const slot = Math.floor(slotStartMs / slotMs);
      if (slot < 0 || slot <= newest - slots) return;
      if (slot > newest) newest = slot;
      const place = slot % slots;
      const cell = cells[place]!;
      if (numbers[place] !== slot) {
        numbers[place] = slot;
        cell.clear();
      }
      let own = cell.get(index);
      if (own === undefined) {
        own = createBins();
        cell.set(index, own);
      }
      addPacked(own, bins, sign);
      versions[place] = ++changes;
    },
    merge(fromMs, toMs, indexes) {
      const from = Math.max(Math.ceil(fromMs / slotMs), newest - slots + 1, 0);
      const to = Math.min(Math.ceil(toMs / slotMs), newest + 1);
      const own = mergedOf(indexes);
      const key = `${from}-${to}`;
      let result = own.windows.get(key);
      if (result !== undefined) return result;
      result = createBins();
      for (let slot = from; slot < to; slot++) {
        if (numbers[slot % slots] !== slot) continue;
        const bins = slotOf(slot % slots, indexes, own);
        if (bins !== undefined) addAll(result, bins);
      }
      own.windows.set(key, result);
      return result;
    },
  };
}

// ---- examples: event ids by which people find what was counted ----
// A few per series and bucket, and bounded per bucket.

const MAX_PER_SERIES = 10;
const MAX_PER_SLOT = 200;

interface Examples {
  add(eventMs: number, index: number, ids: readonly string[]): void;
  /** The newest first, from the slots that start in [fromMs, toMs). */
  list(fromMs: number, toMs: number, indexes: readonly number[], max: number): string[];
}

interface Slot {
  number: number;
  count: number;
  ids: Map<number, string[]>;
}

function createExamples(): Examples {
  const slots: Slot[] = [];
  const length = FINE_MS / BUCKET_MS + 12;

  return {
    add(eventMs, index, ids) {
      const number = Math.floor(eventMs / BUCKET_MS);
      const at = number % length;
      let slot = slots[at];
      if (slot === undefined || slot.number < number) {
        slot = { number, count: 0, ids: new Map() };
        slots[at] = slot;
      }
      if (slot.number > number) return;
      const own = slot.ids.get(index) ?? [];
      for (const id of ids) {
        if (own.length >= MAX_PER_SERIES || slot.count >= MAX_PER_SLOT) break;
        if (own.includes(id)) continue;
        own.push(id);
        slot.count++;
      }
      slot.ids.set(index, own);
    },
    list(fromMs, toMs, indexes, max) {
      const result: string[] = [];
      const first = Math.ceil(fromMs / BUCKET_MS);
      for (let number = Math.ceil(toMs / BUCKET_MS) - 1; number >= first && result.length < max; number--) {
        const slot = slots[number % length];
        if (slot?.number !== number) continue;
        for (const index of indexes) {
          for (const id of slot.ids.get(index) ?? []) if (!result.includes(id)) result.push(id);
        }
      }
      return result.slice(0, max);
    },
  };
}
