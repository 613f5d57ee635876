// What `GET /api/v1/stats` answers: this process's calls over a window, and its queues and pools now. In: the events the
// platform logs. Out: the same shape as logpipe's answer (src/ops/stats.ts), from the same definitions.
// Guarantee: an unknown value is null, never 0; memory is bounded by a day of 10 s buckets.
import { STATS_WINDOWS, type Stats, type StatsWindow } from '../../src/ops/stats.ts';

export interface LoggedEvent {
  readonly event?: string;
  readonly call?: { direction: string; status: string; durationMs: number; voicemail?: boolean };
  readonly http?: { method: string; route: string; status: number; durationMs: number };
}

export interface StatsSources {
  readonly queues: () => readonly {
    name: string;
    waiting: number;
    active: number;
    delayed: number;
    completed: number;
    failed: number;
  }[];
  readonly pools: () => readonly { system: string; size: number; inUse: number }[];
}

export interface PlatformStats {
  count(event: LoggedEvent, atMs: number): void;
  of(window: StatsWindow, nowMs: number): Stats;
  /** Requests of the last `windowMs`; undefined where there were none. */
  http(windowMs: number, nowMs: number): { averageMs: number | undefined; errorPercent: number | undefined };
}

const BUCKET_MS = 10_000;
const KEEP_MS = STATS_WINDOWS['24h'];

const EMPTY = {
  inbound: 0,
  outbound: 0,
  reached: 0,
  reachedOutbound: 0,
  completed: 0,
  completedMs: 0,
  voicemail: 0,
  voicemailOutbound: 0,
  requests: 0,
  requestsMs: 0,
  failedRequests: 0,
};
type Sums = typeof EMPTY;

export function createPlatformStats(sources: StatsSources): PlatformStats {
  const buckets = new Map<number, Sums>();
  let anyCalls = false;

  function bucketAt(atMs: number): Sums {
    const start = Math.floor(atMs / BUCKET_MS) * BUCKET_MS;
    let bucket = buckets.get(start);
    if (bucket === undefined) {
      bucket = { ...EMPTY };
      buckets.set(start, bucket);
      for (const old of buckets.keys()) if (old < start - KEEP_MS) buckets.delete(old);
    }
    return bucket;
  }

  function sum(windowMs: number, nowMs: number): Sums {
    const to = Math.floor(nowMs / BUCKET_MS) * BUCKET_MS + BUCKET_MS;
    const total = { ...EMPTY };
    for (const [start, bucket] of buckets) {
      if (start < to - windowMs || start >= to) continue;
      for (const key of Object.keys(total) as (keyof Sums)[]) total[key] += bucket[key];
    }
    return total;
  }

  return {
    count({ event, call, http }, atMs) {
      if (event === 'call.ended' && call !== undefined) {
        anyCalls = true;
        countCall(bucketAt(atMs), call);
      }
      if (event === 'http.request' && http !== undefined) {
        const bucket = bucketAt(atMs);
        bucket.requests++;
        bucket.requestsMs += http.durationMs;
        if (http.status >= 500) bucket.failedRequests++;
      }
    },
    of(window, nowMs) {
      const sums = sum(STATS_WINDOWS[window], nowMs);
      // Before the first call has ended, nothing is known about calls; afterwards a quiet window has none.
      const known = (value: number) => (anyCalls ? value : null);
      const calls = sums.inbound + sums.outbound;
      return {
        success: true,
        window,
        timestamp: new Date(nowMs).toISOString(),
        data: {
          calls: {
            total: known(calls),
            inbound: known(sums.inbound),
            outbound: known(sums.outbound),
            successRate: ratio(sums.reached, calls),
            averageDurationMs: sums.completed === 0 ? null : Math.round(sums.completedMs / sums.completed),
          },
          queues: [...sources.queues()].sort(byName((queue) => queue.name)),
          connectionPools: sources
            .pools()
            .map(({ system, size, inUse }) => ({ system, size, inUse, usage: ratio(inUse, size) }))
            .sort(byName((pool) => pool.system)),
          voicemail: {
            detected: known(sums.voicemail),
            rate: ratio(sums.voicemailOutbound, sums.reachedOutbound),
          },
        },
      };
    },
    http(windowMs, nowMs) {
      const { requests, requestsMs, failedRequests } = sum(windowMs, nowMs);
      if (requests === 0) return { averageMs: undefined, errorPercent: undefined };
      return { averageMs: requestsMs / requests, errorPercent: (failedRequests / requests) * 100 };
    },
  };
}

function countCall(bucket: Sums, call: NonNullable<LoggedEvent['call']>): void {
  const outbound = call.direction === 'outbound';
  bucket[outbound ? 'outbound' : 'inbound']++;
  if (call.status === 'completed') {
    bucket.completed++;
    bucket.completedMs += call.durationMs;
  }
  if (call.status !== 'completed' && call.status !== 'voicemail') return;
  bucket.reached++;
  if (outbound) bucket.reachedOutbound++;
  if (call.voicemail !== true) return;
  bucket.voicemail++;
  if (outbound) bucket.voicemailOutbound++;
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.round((part / whole) * 10_000) / 10_000;
}

function byName<T>(name: (item: T) => string): (one: T, other: T) => number {
  return (one, other) => (name(one) < name(other) ? -1 : 1);
}
