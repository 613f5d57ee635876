// The platform as it is counted, for HTTP. In: the evaluator's windows, where this process has them. Out: statistics and metrics;
// undefined elsewhere.
import type { Clock } from '../core/clock.ts';
import type { WindowStore } from '../rules/windows.ts';
import { platformMetrics } from './platform-metrics.ts';
import { type Stats, type StatsWindow, statsOf } from './stats.ts';

export interface PlatformView {
  metrics(): string | undefined;
  stats(window: StatsWindow): Stats | undefined;
}

export function createPlatformView(windows: () => WindowStore | undefined, clock: Clock): PlatformView {
  return {
    metrics() {
      const store = windows();
      return store && platformMetrics(store, store.measures, clock.now());
    },
    stats(window) {
      const store = windows();
      return store && statsOf(store, window, clock.now());
    },
  };
}
