// Readings of the machine: CPU, memory, disk, network, connections. Guarantee: what cannot be read here is absent, never 0.
import { readFile, statfs } from 'node:fs/promises';
import { cpus, freemem, totalmem } from 'node:os';

/** `system` of the event `system.stats`. Percent from 0 to 100; rates since the reading before. */
export interface SystemFields {
  cpuPercent?: number;
  memoryPercent?: number;
  diskPercent?: number;
  networkRxBytesPerSec?: number;
  networkTxBytesPerSec?: number;
  activeConnections?: number;
}

export interface SystemSources {
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

export interface NetworkTotals {
  rx: number;
  tx: number;
}

/** Bytes over all interfaces but the loopback. Format: proc(5), /proc/net/dev. */
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

/** Used part of what unprivileged users can use, as `df` counts it. */
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

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
