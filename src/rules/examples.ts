// Event ids by which people find what was counted. In: the first ids of a series in a bucket. Out: up to a few of a window.
// Guarantee: bounded per bucket and series and over all series of a bucket.
import { BUCKET_MS } from '../measure/totals.ts';
import { FINE_MS } from './layers.ts';

const MAX_PER_SERIES = 10;
const MAX_PER_SLOT = 200;

export interface Examples {
  add(eventMs: number, index: number, ids: readonly string[]): void;
  /** The newest first, from the slots that start in [fromMs, toMs). */
  list(fromMs: number, toMs: number, indexes: readonly number[], max: number): string[];
}

interface Slot {
  number: number;
  count: number;
  ids: Map<number, string[]>;
}

export function createExamples(): Examples {
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
