// `process.stats` and `system.stats` at a fixed interval. In: a logger. Out: two records per interval.
// Guarantee: never keeps the process alive, never throws; a reading that is not available is absent, not 0.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { createSystemStats } from './system-stats.ts';

export interface ProcessStatsOptions {
  /** Anything with Winston's `info(message, metadata)`. */
  readonly logger: { info(message: string, meta: Record<string, unknown>): unknown };
  /** Default 15,000. */
  readonly intervalMs?: number;
  /** Any path on the disk to watch. Default: the working directory. */
  readonly diskPath?: string;
}

/** `process` of the event `process.stats`. */
export interface ProcessFields {
  heapUsedBytes: number;
  heapTotalBytes: number;
  heapLimitBytes: number;
  rssBytes: number;
  /** Of one core, since the reading before: 100 is one core fully used. */
  cpuPercent: number;
  /** User and system time since the process started. */
  cpuSecondsTotal: number;
  /** How late the event loop was, 99th percentile since the reading before. Absent before it was measured once. */
  eventLoopLagMs?: number;
}

const RESOLUTION_MS = 20;

/** Starts logging; the returned `stop()` ends it. Call it once per process. */
export function startProcessStats(options: ProcessStatsOptions): () => void {
  const { logger, intervalMs = 15_000, diskPath = process.cwd() } = options;
  const lag = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  lag.enable();
  const system = createSystemStats(diskPath);
  let cpuBefore = process.cpuUsage();
  let timeBefore = performance.now();
  let stopped = false;
  // The first reading is where the network rates begin.
  void system.read().catch(() => {});

  function processFields(): ProcessFields {
    const memory = process.memoryUsage();
    const cpu = process.cpuUsage();
    const now = performance.now();
    const usedMs = (cpu.user - cpuBefore.user + cpu.system - cpuBefore.system) / 1_000;
    const fields: ProcessFields = {
      heapUsedBytes: memory.heapUsed,
      heapTotalBytes: memory.heapTotal,
      heapLimitBytes: getHeapStatistics().heap_size_limit,
      rssBytes: memory.rss,
      cpuPercent: round((usedMs / Math.max(now - timeBefore, 1)) * 100),
      cpuSecondsTotal: round((cpu.user + cpu.system) / 1_000_000),
    };
    // The histogram holds whole intervals; what exceeds the resolution is the lag.
    if (lag.count > 0) fields.eventLoopLagMs = round(Math.max(0, lag.percentile(99) / 1e6 - RESOLUTION_MS));
    lag.reset();
    cpuBefore = cpu;
    timeBefore = now;
    return fields;
  }

  async function tick(): Promise<void> {
    try {
      const fields = await system.read();
      if (stopped) return;
      logger.info('process stats', { event: 'process.stats', process: processFields() });
      logger.info('system stats', { event: 'system.stats', system: fields });
    } catch {
      // A reading that fails now is tried again at the next interval.
    }
  }

  const timer = setInterval(() => void tick(), intervalMs);
  timer.unref();
  return () => {
    stopped = true;
    clearInterval(timer);
    lag.disable();
  };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
