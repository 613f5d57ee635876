// The platform's four figures for PM2, where the alerts are evaluated. In: the evaluator's windows. Out: readings; undefined for
// what is no data, and everywhere else.
import type { Clock } from '../core/clock.ts';
import type { Pm2Readings } from '../core/pm2-metrics.ts';
import { readMeasure, windowTo } from '../rules/values.ts';
import type { WindowStore } from '../rules/windows.ts';

const NOW_MS = 60_000;
/** The error rate is the one that alerts are about. */
const RATE_MS = 300_000;

export function pm2Readings(windows: () => WindowStore | undefined, clock: Clock): Pm2Readings {
  const read = (measure: string, windowMs: number, by: readonly string[] = []) => {
    const store = windows();
    if (store === undefined) return [];
    const nowMs = clock.now();
    return readMeasure(store, measure, { ...windowTo(nowMs, windowMs), nowMs, by }).flatMap(({ value }) => value ?? []);
  };
  return {
    activeCalls: () => read('calls.active', NOW_MS)[0],
    queueSize() {
      const sizes = read('queue.size', NOW_MS, ['queue.name']);
      return sizes.length === 0 ? undefined : sizes.reduce((sum, size) => sum + size, 0);
    },
    averageResponseMs: () => read('http.duration', NOW_MS)[0],
    errorPercent() {
      const [ratio] = read('http.error_ratio', RATE_MS);
      return ratio === undefined ? undefined : ratio * 100;
    },
  };
}
