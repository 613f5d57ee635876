// The platform's figures as counted from its log, for people and their tools: statistics for `GET /api/v1/stats`,
// `/metrics/platform` for Prometheus, four figures for PM2. In: the evaluator's windows, where this process has them. Out: the
// shape that the operators' guide asks for; the text exposition format,
// https://prometheus.io/docs/instrumenting/exposition_formats/; readings; undefined where there are no windows. Guarantee: what
// is not known is null or absent, never 0; counters are cumulative as long as the same instance is leader; what is counted
// together because it did not fit is a series of its own that no host's or queue's name can collide with.
import type { Clock } from '../core/clock.ts';
import type { Pm2Readings } from '../core/pm2-metrics.ts';
import { isCollected, type Measure, type Measures, type PrometheusName } from '../measure/measure-config.ts';
import { countAtMost, OTHER, OTHER_NAME } from '../measure/totals.ts';
import type { RollupDefinition } from '../windows/series.ts';
import {
  type Query,
  type Reading,
  readMeasure,
  type TotalSeries,
  type TotalValue,
  totalsOf,
  windowTo,
} from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';

/** The figures for HTTP; undefined where the alerts are not evaluated. */
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

// ---- GET /api/v1/stats ----

export const STATS_WINDOWS = { '5m': 300_000, '1h': 3_600_000, '24h': 86_400_000 } as const;
export type StatsWindow = keyof typeof STATS_WINDOWS;

export function isStatsWindow(text: string): text is StatsWindow {
  return Object.hasOwn(STATS_WINDOWS, text);
}

/** Hourly sums that let a day's statistics survive a restart. */
export const STATS_ROLLUPS: readonly RollupDefinition[] = [
  { measure: 'calls.ended', labels: ['call.direction', 'call.status'] },
  { measure: 'calls.voicemail', labels: ['call.direction'] },
  { measure: 'call.duration', labels: ['call.status'] },
];

/** A pool that has not reported for this long is gone. */
const STALE_MS = 60_000;

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

/** @param nowMs evaluation time, or the wall clock as long as nothing has been counted */
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
        // Before the first voicemail, nothing of the kind has been counted: that means none, if calls were counted.
        detected: one('calls.voicemail') ?? (one('calls.ended') === null ? null : 0),
        rate: rounded(one('call.voicemail_ratio')),
      },
    },
  };
}

/** Each process has its own pool: sizes and connections in use are added up. */
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

// ---- /metrics/platform ----

export const PLATFORM_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const GAUGE_WINDOW_MS = 60_000;
/** Marks the series for all that did not fit: a host or queue may have the same name. */
const REST = 'logpipe_rest="true"';

/** Written here rather than by the metrics library: these values are counted elsewhere and only need printing. */
export function platformMetrics(store: WindowStore, measures: Measures, nowMs: number): string {
  const lines: string[] = [];
  for (const measure of measures.values()) {
    const { prometheus } = measure;
    if (prometheus === undefined) continue;
    const series = isCollected(measure)
      ? collectedLines(store, measure, prometheus, nowMs)
      : derivedLines(store, measure, prometheus, nowMs);
    if (series.length === 0) continue;
    lines.push(
      `# HELP ${prometheus.name} ${escapeHelp(prometheus.help)}`,
      `# TYPE ${prometheus.name} ${prometheus.type}`,
    );
    lines.push(...series);
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

function collectedLines(store: WindowStore, measure: Measure, prometheus: PrometheusName, nowMs: number): string[] {
  const by = isCollected(measure) ? measure.by : [];
  const groups = new Map<string, TotalValue[]>();
  for (const series of totalsOf(store, measure.name)) {
    if (measure.kind === 'gauge' && series.value.kind === 'gauge' && nowMs - series.value.at > measure.staleAfterMs) {
      continue;
    }
    const labels = labelsOf(series, by, prometheus);
    const group = groups.get(labels);
    if (group === undefined) groups.set(labels, [series.value]);
    else group.push(series.value);
  }
  return [...groups].flatMap(([labels, values]) => valueLines(labels, values, prometheus));
}

function valueLines(labels: string, values: readonly TotalValue[], prometheus: PrometheusName): string[] {
  const { name, scale } = prometheus;
  if (values[0]?.kind !== 'distribution') {
    const sum = values.reduce(
      (total, value) => total + (value.kind === 'counter' ? value.n : value.kind === 'gauge' ? value.v : 0),
      0,
    );
    return [`${name}${braced(labels)} ${sum * scale}`];
  }
  const distributions = values.flatMap((value) => (value.kind === 'distribution' ? [value] : []));
  const n = distributions.reduce((total, value) => total + value.n, 0);
  const sum = distributions.reduce((total, value) => total + value.sum, 0);
  const buckets = prometheus.buckets.map((bound) => {
    const below = distributions.reduce((total, { bins }) => total + countAtMost(bins, bound / scale), 0);
    return `${name}_bucket${braced(joined(labels, `le="${bound}"`))} ${below}`;
  });
  return [
    ...buckets,
    `${name}_bucket${braced(joined(labels, 'le="+Inf"'))} ${n}`,
    `${name}_sum${braced(labels)} ${sum * scale}`,
    `${name}_count${braced(labels)} ${n}`,
  ];
}

function derivedLines(store: WindowStore, measure: Measure, prometheus: PrometheusName, nowMs: number): string[] {
  const { name, scale } = prometheus;
  return readMeasure(store, measure.name, { ...windowTo(nowMs, GAUGE_WINDOW_MS), nowMs }).flatMap(({ value }) =>
    value === undefined ? [] : [`${name} ${value * scale}`],
  );
}

function labelsOf({ values }: TotalSeries, by: readonly string[], { labels }: PrometheusName): string {
  const shown = Object.entries(labels).map(([label, field]) => [label, values[by.indexOf(field)] ?? ''] as const);
  const parts = shown.map(([label, value]) => `${label}="${value === OTHER ? OTHER_NAME : escapeLabel(value)}"`);
  if (shown.some(([, value]) => value === OTHER)) parts.push(REST);
  return parts.join(',');
}

function joined(labels: string, more: string): string {
  return labels === '' ? more : `${labels},${more}`;
}

function braced(labels: string): string {
  return labels === '' ? '' : `{${labels}}`;
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

// ---- the four figures for PM2 ----

const NOW_MS = 60_000;
/** The same window as in the alerts on the error rate. */
const RATE_MS = 300_000;

/** Undefined where there is no data. */
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
