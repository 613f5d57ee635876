// Everything counted since this process began to hold it, for Prometheus and statistics. In: the store. Out: one value per
// series of a collected measure. Guarantee: counts never go down while a series is held; a reading says how old it is.
import { binsAsMap } from './bins.ts';
import type { WindowStore } from './windows.ts';

export type TotalValue =
  | { readonly kind: 'counter'; readonly n: number }
  | { readonly kind: 'distribution'; readonly n: number; readonly sum: number; readonly bins: Map<number, number> }
  | { readonly kind: 'gauge'; readonly v: number; readonly at: number };

export interface TotalSeries {
  /** In the order of the measure's `by`; OTHER where what did not fit into the measure is counted together. */
  readonly values: readonly string[];
  readonly value: TotalValue;
}

/** Nothing for a derived measure, or one nothing was ever heard of. */
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
