// Sums of one measure over time: 10 s slots for a bit more than an hour, 5 min slots for a day, each for what arrived in time
// and for what arrived late. In: additions by event bucket. Out: per-series sums of a window.
// Guarantee: nothing late is ever part of the live layer.
import { BUCKET_MS } from '../measure/totals.ts';
import { createRing, type Ring } from './ring.ts';

/** The longest window of a rule that reads 10 s slots. */
export const FINE_MS = 65 * 60_000;
export const COARSE_SLOT_MS = 300_000;
/** How far back sums reach at all. */
export const COARSE_MS = 24 * 3_600_000 + COARSE_SLOT_MS;

/** `late`: what arrived more than LATE_MS after it happened. Rules page on `live` alone; statistics count `all`. */
export type Layer = 'live' | 'late' | 'all';

export interface Layers {
  add(eventMs: number, late: boolean, index: number, field: number, delta: number): void;
  /**
   * Of the slots that start in [fromMs, toMs), `width` numbers per series. A window that begins before the 10 s slots reach is
   * read from 5 min slots: those whose start lies in it.
   */
  sum(fromMs: number, toMs: number, layer: Layer): Float64Array;
  /** One 10 s slot of the live layer. */
  slot(startMs: number): Float64Array | undefined;
}

export function createLayers(width: number): Layers {
  const fine = { slotMs: BUCKET_MS, slots: FINE_MS / BUCKET_MS + 12, width };
  const coarse = { slotMs: COARSE_SLOT_MS, slots: COARSE_MS / COARSE_SLOT_MS + 1, width };
  const live = { fine: createRing(fine), coarse: createRing(coarse) };
  const late = { fine: createRing(fine), coarse: createRing(coarse) };

  function sumOf(layer: { fine: Ring; coarse: Ring }, fromMs: number, toMs: number): Float64Array {
    // The live ring decides for both: it is always the further one.
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
