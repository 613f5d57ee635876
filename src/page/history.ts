// The figures' history, gone on with the ticks. In: an answer of GET /api/v1/figures, and what the ticks have said lately. Out: the same history
// up to the newest tick. Guarantee: a step has the last value of its time; of a step without a tick nothing is known; after a long gap, as of
// a machine that slept, only so much is added as there are ticks for.
import type { Figure, FigureHistory } from '../ops/page-data.ts';

/** The oldest first. */
export type Recent = readonly { readonly atMs: number; readonly figures: readonly Pick<Figure, 'id' | 'value'>[] }[];

export interface Gone extends Omit<FigureHistory, 'from' | 'to'> {
  readonly fromMs: number;
  readonly toMs: number;
}

export function goneOn({ from, to, ...history }: FigureHistory, recent: Recent): Gone {
  const fromMs = Date.parse(from);
  const stepMs = history.step * 1_000;
  const newest = recent.at(-1);
  const toMs = Math.max(Date.parse(to), newest?.atMs ?? 0);
  const long = Math.max(0, ...Object.values(history.series).map(({ length }) => length));
  const missing = Math.floor((toMs - fromMs) / stepMs) + 1 - long;
  const added = newest === undefined ? 0 : Math.max(0, Math.min(recent.length, missing));
  const all: Record<string, readonly (number | null)[]> = { ...history.series };
  for (const { id } of newest?.figures ?? []) {
    const points = Array.from({ length: long }, (_, i) => history.series[id]?.[i] ?? null);
    for (let i = long; i < long + added; i++) {
      const beginsMs = fromMs + i * stepMs;
      const last = recent.findLast(({ atMs }) => beginsMs <= atMs && atMs < beginsMs + stepMs);
      points.push(last?.figures.find((figure) => figure.id === id)?.value ?? null);
    }
    all[id] = points;
  }
  return begun({ ...history, series: all, fromMs, toMs });
}

/** Shorter than this nothing is seen on a chart. */
const SHORTEST_MS = 5 * 60_000;
/** Nothing of so small a part is left out. */
const WORTH = 0.25;

/** Without the time before anything was known, of which a chart would show nothing but emptiness. */
function begun(history: Gone): Gone {
  const { series, fromMs, toMs } = history;
  const stepMs = history.step * 1_000;
  const begins = Object.values(series).flatMap((points) => {
    const first = points.findIndex((point) => point !== null);
    return first < 0 ? [] : [first];
  });
  const latestMs = toMs - SHORTEST_MS;
  const known = begins.length === 0 ? 0 : Math.min(...begins);
  const skipped = Math.floor(Math.min(known * stepMs, latestMs - fromMs) / stepMs);
  if (skipped * stepMs < WORTH * (toMs - fromMs)) return history;
  const left = Object.entries(series).map(([id, points]) => [id, points.slice(skipped)]);
  return { ...history, series: Object.fromEntries(left), fromMs: fromMs + skipped * stepMs };
}
