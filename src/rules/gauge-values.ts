// Values of gauges: newest, over a window, by one another, added up, and growth. In: tables and groups of series. Out: readings.
// Guarantee: a reading older than the measure's `staleAfter` is no data; readings after the window's end are not looked at.
import { BUCKET_MS, type GaugeValue } from '../measure/totals.ts';
import type { SeriesGroup } from './series.ts';
import type { GaugeTable } from './tables.ts';
import type { Query, Reading } from './values.ts';

/** Intervals between two readings beyond which nobody knows what was in between. */
const MAX_GAP = 3;

/** One series as it speaks for its group. */
interface Candidate {
  readonly index: number;
  readonly value: number;
  readonly numerator?: number;
  readonly denominator?: number;
}

export function readGauge(table: GaugeTable, groups: readonly SeriesGroup[], query: Query): Reading[] {
  return spoken(table, groups, query, (index) => {
    const value = overWindow(table, index, query);
    return value === undefined ? undefined : { index, value };
  });
}

/** Newest by newest, per label set: both measures have the same labels. */
export function readGaugeRatio(
  table: GaugeTable,
  groups: readonly SeriesGroup[],
  below: GaugeTable,
  query: Query,
): Reading[] {
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

/** One reading per group: the candidate that `pick` asks for speaks for it. */
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

/** While nobody is heard the application may be silent; once others are heard, who is not has gone. */
function markGone(readings: Reading[], heard: boolean, { by = [] }: Query): Reading[] {
  if (!heard || by.length === 0) return readings;
  return readings.map((reading) => (reading.value === undefined ? { ...reading, gone: true } : reading));
}

export function readGaugeSum(table: GaugeTable, groups: readonly SeriesGroup[], query: Query): Reading[] {
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
export function readIncrease(
  table: GaugeTable,
  groups: readonly SeriesGroup[],
  query: Query,
  perMs: number,
): Reading[] {
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

/** Per ms over the window; undefined when the readings do not cover it. */
function growth(table: GaugeTable, index: number, query: Query): number | undefined {
  if (readingAt(table, index, query) === undefined) return undefined;
  // The newest reading before the window is where the growth within it begins.
  const readings = readingsOf(table, index, query.fromMs - table.measure.staleAfterMs, query.toMs);
  if (!covers(readings, query)) return undefined;
  const first = Math.max(
    0,
    readings.findLastIndex(({ at }) => at < query.fromMs),
  );
  let grown = 0;
  for (let i = first + 1; i < readings.length; i++) {
    const step = readings[i]!.v - readings[i - 1]!.v;
    // A smaller value: the process began anew, and all it counts happened since.
    grown += step >= 0 ? step : readings[i]!.v;
  }
  const elapsed = (readings.at(-1)?.at ?? 0) - (readings[first]?.at ?? 0);
  return elapsed > 0 ? grown / elapsed : undefined;
}

/** What the series says: its newest value, or the lowest, highest or mean of the window. */
function overWindow(table: GaugeTable, index: number, query: Query): number | undefined {
  const newest = readingAt(table, index, query);
  if (newest === undefined) return undefined;
  return readingsOver(newest.v, query, table, (fromMs) => readingsOf(table, index, fromMs, query.toMs));
}

/** Pairs of the same 10 s. */
function ratiosOf(above: readonly GaugeValue[], below: readonly GaugeValue[]): GaugeValue[] {
  const denominators = new Map(below.map(({ at, v }) => [Math.floor(at / BUCKET_MS), v] as const));
  return above.flatMap(({ at, v }) => {
    const denominator = denominators.get(Math.floor(at / BUCKET_MS)) ?? 0;
    return denominator > 0 ? [{ at, v: v / denominator }] : [];
  });
}

/** @param since readings from a time on, oldest first */
function readingsOver(
  newest: number,
  query: Query,
  { measure }: GaugeTable,
  since: (fromMs: number) => readonly GaugeValue[],
): number | undefined {
  const { over = 'newest', fromMs, pick = 'highest' } = query;
  if (over === 'newest') return newest;
  const readings = since(fromMs - measure.staleAfterMs);
  // One high reading is enough for the highest of a window to be high; everything else is said of the whole window.
  if (over !== pick && !covers(readings, query)) return undefined;
  const values = readings.filter(({ at }) => at >= fromMs).map(({ v }) => v);
  if (values.length === 0) return undefined;
  if (over === 'lowest') return Math.min(...values);
  if (over === 'highest') return Math.max(...values);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * True when readings speak for all of the window: the first one is at least as old as the window less one interval, and between no
 * two of them are more than three. The interval is what mostly lies between two readings.
 * @param readings oldest first, those of some time before the window included
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
