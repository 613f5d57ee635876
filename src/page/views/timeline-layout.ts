// Where the bars of a timeline stand. In: stretches of time of several kinds, and the range that is shown. Out: a row of each kind, its bars
// as shares of the width, and marks of the time below. Guarantee: pure; every stretch that touches the range is drawn, wide enough to be
// seen, inside it.

export interface Span {
  /** Bars of the same kind share a row. */
  readonly row: string;
  readonly fromMs: number;
  /** Null: it lasts longer than the range. */
  readonly toMs: number | null;
}

export interface Bar<T extends Span> {
  readonly span: T;
  /** From 0 to 1, of the whole width. */
  readonly left: number;
  readonly width: number;
  /** Counted from the top: bars that overlap in time stand in lanes of their own. */
  readonly lane: number;
}

export interface Row<T extends Span> {
  readonly name: string;
  readonly lanes: number;
  readonly bars: readonly Bar<T>[];
}

/** Less cannot be seen, or hit. */
const LEAST_WIDTH = 0.006;

/** Rows in the order in which their first bar begins. */
export function timelineRows<T extends Span>(
  spans: readonly T[],
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): Row<T>[] {
  const whole = Math.max(1, toMs - fromMs);
  const rows = new Map<string, { lanes: number[]; bars: Bar<T>[] }>();
  for (const span of [...spans].sort((one, other) => one.fromMs - other.fromMs)) {
    const endMs = span.toMs ?? toMs;
    if (endMs < fromMs || span.fromMs > toMs) continue;
    const start = Math.max(0, (span.fromMs - fromMs) / whole);
    const end = Math.min(1, (endMs - fromMs) / whole);
    const width = Math.max(LEAST_WIDTH, end - start);
    const left = Math.min(start, 1 - width);
    const row = rows.get(span.row) ?? { lanes: [], bars: [] };
    rows.set(span.row, row);
    const free = row.lanes.findIndex((until) => until <= left);
    const lane = free < 0 ? row.lanes.length : free;
    row.lanes[lane] = left + width;
    row.bars.push({ span, left, width, lane });
  }
  return [...rows].map(([name, { lanes, bars }]) => ({ name, lanes: lanes.length, bars }));
}

const STEPS_MS = [1, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880, 10_080].map((minutes) => minutes * 60_000);

/** Full times, `most` at most, each with its place from 0 to 1. `offsetMs`: how far the reader's clock is ahead of UTC. */
export function timeMarks(
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
  most: number,
  offsetMs = 0,
): { readonly atMs: number; readonly place: number }[] {
  const whole = toMs - fromMs;
  if (!(whole > 0)) return [];
  const step = STEPS_MS.find((one) => whole / one <= most) ?? Math.ceil(whole / most / 86_400_000) * 86_400_000;
  const marks = [];
  for (let atMs = Math.ceil((fromMs + offsetMs) / step) * step - offsetMs; atMs <= toMs; atMs += step) {
    marks.push({ atMs, place: (atMs - fromMs) / whole });
  }
  return marks;
}
