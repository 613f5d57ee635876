// Histograms of one distribution per time slot and series. In: bin counts to add or take away. Out: merged bins of a range, and
// quantiles of them. Guarantee: merging is exact; a slot that fell out is forgotten as a whole.
//
// Dense arrays between the lowest and the highest bin: bins of durations lie close together, and adding arrays is much
// cheaper than walking maps. Zero and negative values lie far from the rest, so they have a map of their own.
import { valueOfBin } from '../measure/sketch.ts';

export interface Bins {
  /** Counts of the bins from `base` on; `base` is positive. */
  base: number;
  counts: Uint32Array;
  /** Bins of zero and of negative values. */
  low: Map<number, number> | undefined;
}

/** Bins as they are written, read once: they are added and taken away several times. */
export interface PackedBins {
  readonly bins: readonly number[];
  readonly counts: readonly number[];
  /** Of the positive bins; 0 without any. */
  readonly lowest: number;
  readonly highest: number;
}

export interface BinRing {
  /** Adds `sign` times the counts. */
  add(slotStartMs: number, index: number, bins: PackedBins, sign: 1 | -1): void;
  /**
   * All bins of the series in the slots that start in [fromMs, toMs). Shared: read only. The same list of series again (the
   * same object) is cheaper: what each slot holds of it is remembered.
   */
  merge(fromMs: number, toMs: number, indexes: readonly number[]): Bins;
}

const SLACK = 8;

export function createBins(): Bins {
  return { base: 0, counts: new Uint32Array(0), low: undefined };
}

export function packBins(written: Readonly<Record<string, number>>): PackedBins {
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
export function addPacked(into: Bins, { bins, counts, lowest, highest }: PackedBins, sign: 1 | -1): void {
  if (highest > 0) reach(into, lowest, highest);
  const { base, counts: dense } = into;
  for (let i = 0; i < bins.length; i++) {
    const bin = bins[i]!;
    if (bin > 0) dense[bin - base]! += sign * counts[i]!;
    else addLow(into, bin, sign * counts[i]!);
  }
}

function addLow(into: Bins, bin: number, delta: number): void {
  into.low ??= new Map();
  into.low.set(bin, (into.low.get(bin) ?? 0) + delta);
}

function reach(bins: Bins, lowest: number, highest: number): void {
  const { base, counts } = bins;
  if (counts.length === 0 || lowest < base || highest >= base + counts.length) widen(bins, lowest, highest);
}

function widen(bins: Bins, lowest: number, highest: number): void {
  const { base, counts } = bins;
  const last = base + counts.length - 1;
  const from = counts.length === 0 || lowest < base ? Math.max(1, lowest - SLACK) : base;
  const to = counts.length === 0 || highest > last ? highest + SLACK : last;
  const wider = new Uint32Array(to - from + 1);
  if (counts.length > 0) wider.set(counts, base - from);
  bins.base = from;
  bins.counts = wider;
}

function addAll(into: Bins, other: Bins): void {
  if (other.counts.length > 0) {
    reach(into, other.base, other.base + other.counts.length - 1);
    const { base, counts } = other;
    const shift = base - into.base;
    const dense = into.counts;
    for (let i = 0; i < counts.length; i++) dense[i + shift]! += counts[i]!;
  }
  if (other.low !== undefined) for (const [bin, count] of other.low) addLow(into, bin, count);
}

/** @param q between 0 and 1 @returns undefined when nothing was counted; the same value as measure/sketch.ts gives */
export function binQuantile(bins: Bins, q: number): number | undefined {
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

/** Bin -> count, without empty ones, as measure/sketch.ts reads them. */
export function binsAsMap(bins: Bins): Map<number, number> {
  const map = new Map([...(bins.low ?? [])].filter(([, n]) => n > 0));
  for (let i = 0; i < bins.counts.length; i++) if (bins.counts[i]! > 0) map.set(bins.base + i, bins.counts[i]!);
  return map;
}

/** What each slot holds of several series together, and the windows asked for since the last change. */
interface Merged {
  readonly versions: Float64Array;
  readonly slots: (Bins | undefined)[];
  readonly windows: Map<string, Bins>;
  at: number;
}

export function createBinRing(options: { readonly slotMs: number; readonly slots: number }): BinRing {
  const { slotMs, slots } = options;
  const cells: Map<number, Bins>[] = Array.from({ length: slots }, () => new Map());
  const numbers = new Float64Array(slots).fill(-1);
  /** Of each place in the ring: when it was changed last, counted in changes. */
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

  function slotOf(place: number, indexes: readonly number[], own: Merged): Bins | undefined {
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
