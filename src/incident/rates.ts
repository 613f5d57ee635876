// Rates per 10 s of a stretch, from the shipped measures. In: the evaluator's windows while the stretch is driven through. Out: rows of
// a CSV file. Guarantee: a value that is not known is an empty cell, never 0; a row is written once events had LATE_MS to arrive.
import { BUCKET_MS, LATE_MS } from '../measure/totals.ts';
import { readMeasure } from '../rules/values.ts';
import type { WindowStore } from '../rules/windows.ts';
import { csvLine } from './csv.ts';

/** Column -> measure of measures.yml; a measure that is not defined is left out. */
const COLUMNS: readonly (readonly [string, string])[] = [
  ['events', 'log.events'],
  ['errors', 'log.errors'],
  ['error_ratio', 'log.error_ratio'],
  ['http_requests', 'http.requests'],
  ['http_5xx', 'http.errors'],
  ['http_error_ratio', 'http.error_ratio'],
  ['http_p95_ms', 'http.p95'],
  ['calls_ended', 'calls.ended'],
  ['calls_failed', 'calls.failed'],
  ['call_failure_ratio', 'call.failure_ratio'],
  ['call_success_ratio', 'call.success_ratio'],
  ['call_duration_avg_ms', 'call.duration_avg'],
  ['calls_active', 'calls.active'],
];

export interface Rates {
  /** To be called after each evaluation, at least every LATE_MS. */
  look(nowMs: number, store: WindowStore): void;
  /** The file's text. */
  csv(): string;
  readonly rows: number;
}

/** Rows of the 10 s that begin in [fromMs, toMs). */
export function createRates(fromMs: number, toMs: number): Rates {
  const lines: string[] = [];
  let columns: readonly (readonly [string, string])[] | undefined;
  let next = Math.floor(fromMs / BUCKET_MS) * BUCKET_MS;

  function row(store: WindowStore, startMs: number): string {
    const query = { fromMs: startMs, toMs: startMs + BUCKET_MS, nowMs: startMs + BUCKET_MS };
    const cells = (columns ?? []).map(([, measure]) => {
      const [reading] = readMeasure(store, measure, query);
      return reading?.value === undefined ? '' : String(Math.round(reading.value * 10_000) / 10_000);
    });
    return csvLine([new Date(startMs).toISOString(), ...cells]);
  }

  return {
    look(nowMs, store) {
      columns ??= COLUMNS.filter(([, measure]) => store.measures.has(measure));
      while (next < toMs && next + BUCKET_MS + LATE_MS <= nowMs + 1) {
        lines.push(row(store, next));
        next += BUCKET_MS;
      }
    },
    csv: () => [csvLine(['time', ...(columns ?? []).map(([name]) => name)]), ...lines].join(''),
    get rows() {
      return lines.length;
    },
  };
}
