// What the health monitor's line says of the platform's last five minutes, as the operators' guide lists it. In: the
// evaluator's windows. Out: a few numbers; what is not known is left out.
import { type Reading, readMeasure, windowTo } from '../rules/values.ts';
import type { WindowStore } from '../rules/windows.ts';

const WINDOW_MS = 300_000;
const MEGABYTE = 1_048_576;

export function healthSummary(store: WindowStore, nowMs: number): Record<string, unknown> {
  const query = { ...windowTo(nowMs, WINDOW_MS), nowMs };
  const one = (measure: string) => readMeasure(store, measure, query)[0];
  const worst = (measure: string, label: string): Reading | undefined =>
    readMeasure(store, measure, { ...query, by: [label] })
      .filter(({ value }) => value !== undefined)
      .sort((a, b) => (b.value ?? 0) - (a.value ?? 0))[0];

  const summary: Record<string, unknown> = {};
  const calls = one('call.failure_ratio');
  if (calls?.denominator !== undefined) {
    summary.totalCalls = calls.denominator;
    summary.failedCalls = calls.numerator ?? 0;
    summary.errorRate = percent(calls.value ?? 0);
  }
  const heap = one('process.heap_limit') ?? one('process.heap');
  if (heap?.value !== undefined) {
    summary.heapUsedMB = Math.round((heap.numerator ?? 0) / MEGABYTE);
    summary.heapUsagePercent = percent(heap.value);
  }
  const queue = worst('queue.size', 'queue.name');
  if (queue?.value !== undefined) {
    summary.longestQueue = queue.labels['queue.name'];
    summary.waiting = queue.value;
  }
  const disk = worst('system.disk', 'host');
  if (disk?.value !== undefined) summary.diskPercent = disk.value;
  return summary;
}

function percent(ratio: number): number {
  return Math.round(ratio * 10_000) / 100;
}
