// `GET /api/v1/stats`: what the platform did in a window, from the measures. In: the evaluator's windows. Out: the shape the
// operators' guide asks for. Guarantee: what is not known is null, never 0.
import { OTHER } from '../measure/totals.ts';
import type { RollupDefinition } from '../rules/hourly.ts';
import { totalsOf } from '../rules/totals-view.ts';
import { type Query, type Reading, readMeasure, windowTo } from '../rules/values.ts';
import type { WindowStore } from '../rules/windows.ts';

export const STATS_WINDOWS = { '5m': 300_000, '1h': 3_600_000, '24h': 86_400_000 } as const;
export type StatsWindow = keyof typeof STATS_WINDOWS;

/** A pool that has said nothing for this long is gone. */
const STALE_MS = 60_000;

/** Hourly sums that let a day's statistics survive a restart. */
export const STATS_ROLLUPS: readonly RollupDefinition[] = [
  { measure: 'calls.ended', labels: ['call.direction', 'call.status'] },
  { measure: 'calls.voicemail', labels: ['call.direction'] },
  { measure: 'call.duration', labels: ['call.status'] },
];

export interface Stats {
  readonly success: true;
  readonly window: StatsWindow;
  readonly timestamp: string;
  readonly data: {
    /** Calls ended; `successRate` from 0 to 1; durations of completed calls. */
    readonly calls: {
      readonly total: number | null;
      readonly inbound: number | null;
      readonly outbound: number | null;
      readonly successRate: number | null;
      readonly averageDurationMs: number | null;
    };
    readonly queues: readonly {
      readonly name: string;
      readonly waiting: number | null;
      readonly active: number | null;
      readonly delayed: number | null;
      readonly completed: number | null;
      readonly failed: number | null;
    }[];
    readonly connectionPools: readonly {
      readonly system: string;
      readonly size: number | null;
      readonly inUse: number | null;
      readonly usage: number | null;
    }[];
    /** `rate` from 0 to 1, of outbound calls that were answered. */
    readonly voicemail: { readonly detected: number | null; readonly rate: number | null };
  };
}

export function isStatsWindow(text: string): text is StatsWindow {
  return Object.hasOwn(STATS_WINDOWS, text);
}

/** @param nowMs evaluation time, or the wall clock before anything was counted */
export function statsOf(store: WindowStore, window: StatsWindow, nowMs: number): Stats {
  const query: Query = { ...windowTo(nowMs, STATS_WINDOWS[window]), nowMs };
  const one = (measure: string, where: Query['where'] = {}) =>
    numberOf(readMeasure(store, measure, { ...query, where })[0]);
  const per = (measure: string, label: string) =>
    new Map(
      readMeasure(store, measure, { ...query, by: [label] }).map((reading) => [reading.labels[label] ?? '', reading]),
    );
  const column = (rows: ReadonlyMap<string, Reading>, name: string) => numberOf(rows.get(name));

  const queueMeasures = ['queue.size', 'queue.active', 'queue.delayed', 'queue.completed', 'queue.failed'] as const;
  const [waiting, active, delayed, completed, failed] = queueMeasures.map((name) => per(name, 'queue.name')) as [
    Map<string, Reading>,
    Map<string, Reading>,
    Map<string, Reading>,
    Map<string, Reading>,
    Map<string, Reading>,
  ];
  const pools = poolsOf(store, nowMs);

  return {
    success: true,
    window,
    timestamp: new Date(nowMs).toISOString(),
    data: {
      calls: {
        total: one('calls.ended'),
        inbound: one('calls.ended', { 'call.direction': 'inbound' }),
        outbound: one('calls.ended', { 'call.direction': 'outbound' }),
        successRate: rounded(one('call.success_ratio')),
        averageDurationMs: whole(one('call.duration_avg')),
      },
      queues: [...waiting.keys()].sort().map((name) => ({
        name,
        waiting: column(waiting, name),
        active: column(active, name),
        delayed: column(delayed, name),
        completed: column(completed, name),
        failed: column(failed, name),
      })),
      connectionPools: pools,
      voicemail: {
        // Without a single voicemail nothing of its kind was ever counted: that is none, if calls were.
        detected: one('calls.voicemail') ?? (one('calls.ended') === null ? null : 0),
        rate: rounded(one('call.voicemail_ratio')),
      },
    },
  };
}

/** Each process has a pool of its own: sizes and uses are added up. */
function poolsOf(store: WindowStore, nowMs: number): Stats['data']['connectionPools'] {
  const sums = (measure: string) => {
    const bySystem = new Map<string, number>();
    for (const { values, value } of totalsOf(store, measure)) {
      const [system = ''] = values;
      if (value.kind !== 'gauge' || nowMs - value.at > STALE_MS || system === OTHER) continue;
      bySystem.set(system, (bySystem.get(system) ?? 0) + value.v);
    }
    return bySystem;
  };
  const inUse = sums('db.pool_in_use');
  return [...sums('db.pool_size')]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([system, size]) => {
      const used = inUse.get(system) ?? null;
      return { system, size, inUse: used, usage: used === null || size === 0 ? null : rounded(used / size) };
    });
}

function numberOf(reading: Reading | undefined): number | null {
  return reading?.value ?? null;
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 10_000) / 10_000;
}

function whole(value: number | null): number | null {
  return value === null ? null : Math.round(value);
}
