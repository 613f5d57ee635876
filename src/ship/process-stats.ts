// `process.stats` and `system.stats` at a fixed interval. In: a logger. Out: two records per interval.
// Guarantee: never keeps the process alive, never throws; a reading that is not available is absent, not 0.

import { readFile, statfs } from 'node:fs/promises';
import { cpus, freemem, totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';

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
  /** Of one core, since the previous reading: 100 is one core fully used. */
  cpuPercent: number;
  /** User and system time since the process started. */
  cpuSecondsTotal: number;
  /** How late the event loop was, 99th percentile since the previous reading. Absent until it has been measured once. */
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
  // Network rates are measured from the first reading on.
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
      // A failed reading is retried at the next interval.
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

// ---- the machine: CPU, memory, disk, network, connections ----

/** `system` of the event `system.stats`. Percent from 0 to 100; rates since the previous reading. */
interface SystemFields {
  cpuPercent?: number;
  memoryPercent?: number;
  diskPercent?: number;
  networkRxBytesPerSec?: number;
  networkTxBytesPerSec?: number;
  activeConnections?: number;
}

interface SystemSources {
  /** Text of a file below /proc; rejects where there is none. */
  readProc(path: string): Promise<string>;
  /** Monotonic milliseconds. */
  nowMs(): number;
}

const realSources: SystemSources = {
  readProc: (path) => readFile(path, 'utf8'),
  nowMs: () => performance.now(),
};

/** `read()` gives rates from the second call on. `diskPath`: any path on the disk to watch. */
export function createSystemStats(diskPath: string, sources: SystemSources = realSources) {
  let cpuBefore = cpuTimes();
  let networkBefore: (NetworkTotals & { atMs: number }) | undefined;

  return {
    async read(): Promise<SystemFields> {
      const fields: SystemFields = {};
      const cpu = cpuTimes();
      const total = cpu.total - cpuBefore.total;
      if (total > 0) fields.cpuPercent = percent(1 - (cpu.idle - cpuBefore.idle) / total);
      cpuBefore = cpu;
      if (totalmem() > 0) fields.memoryPercent = percent(1 - freemem() / totalmem());
      const [disk, network, connections] = await Promise.all([
        diskUsed(diskPath),
        sources.readProc('/proc/net/dev').then(networkTotals, () => undefined),
        activeConnections(sources),
      ]);
      if (disk !== undefined) fields.diskPercent = percent(disk);
      if (network !== undefined) {
        const atMs = sources.nowMs();
        const seconds = networkBefore === undefined ? 0 : (atMs - networkBefore.atMs) / 1_000;
        // A counter that went back (an interface was removed) gives no rate.
        if (networkBefore !== undefined && seconds > 0) {
          const rx = network.rx - networkBefore.rx;
          const tx = network.tx - networkBefore.tx;
          if (rx >= 0) fields.networkRxBytesPerSec = round(rx / seconds);
          if (tx >= 0) fields.networkTxBytesPerSec = round(tx / seconds);
        }
        networkBefore = { ...network, atMs };
      }
      if (connections !== undefined) fields.activeConnections = connections;
      return fields;
    },
  };
}

interface NetworkTotals {
  rx: number;
  tx: number;
}

/** Bytes over all interfaces except the loopback. Format: proc(5), /proc/net/dev. */
export function networkTotals(text: string): NetworkTotals | undefined {
  let found = false;
  const totals = { rx: 0, tx: 0 };
  for (const line of text.split('\n')) {
    const match = /^\s*([^\s:]+):\s*(.*)$/.exec(line);
    if (match === null || match[1] === 'lo') continue;
    const columns = match[2]!.trim().split(/\s+/).map(Number);
    if (!Number.isFinite(columns[0]) || !Number.isFinite(columns[8])) continue;
    found = true;
    totals.rx += columns[0]!;
    totals.tx += columns[8]!;
  }
  return found ? totals : undefined;
}

/** Lines in state 01 (established). Format: proc(5), /proc/net/tcp. */
export function establishedConnections(text: string): number {
  let count = 0;
  for (const line of text.split('\n')) if (/^\s*\d+: \S+ \S+ 01 /.test(line)) count++;
  return count;
}

async function activeConnections(sources: SystemSources): Promise<number | undefined> {
  const read = (path: string) => sources.readProc(path).then(establishedConnections, () => undefined);
  const [v4, v6] = await Promise.all([read('/proc/net/tcp'), read('/proc/net/tcp6')]);
  return v4 === undefined && v6 === undefined ? undefined : (v4 ?? 0) + (v6 ?? 0);
}

/** The used share of the space that unprivileged users can use, as `df` counts it. */
async function diskUsed(path: string): Promise<number | undefined> {
  try {
    const { blocks, bfree, bavail } = await statfs(path);
    const used = blocks - bfree;
    return used + bavail > 0 ? used / (used + bavail) : undefined;
  } catch {
    return undefined;
  }
}

function cpuTimes(): { idle: number; total: number } {
  let idle = 0;
  let total = 0;
  for (const { times } of cpus()) {
    idle += times.idle;
    total += times.user + times.nice + times.sys + times.irq + times.idle;
  }
  return { idle, total };
}

function percent(part: number): number {
  return round(Math.min(1, Math.max(0, part)) * 100);
}
