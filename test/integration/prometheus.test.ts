// The six queries of the operators' guide and every query of the dashboards, at a real Prometheus that scrapes what config/prometheus
// says, while the example application runs. Each value is compared with what the application knows of itself without Prometheus
// and without logpipe: its log file, its process as the kernel sees it, the driver's own counts.
//
// The same from both ways to the application's metrics: its own /metrics, and logpipe's /metrics/platform, which is behind by
// what shipping, counting and evaluation take.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadMeasures } from '../../src/measure/measure-config.ts';
import { RELATIVE_ACCURACY } from '../../src/measure/totals.ts';
import { readDashboard, SHIPPED_DASHBOARDS } from '../kit/dashboards.ts';
import type { Prometheus, Series } from '../kit/prometheus.ts';
import type { PlatformWay } from '../kit/prometheus-config.ts';
import { waitFor } from '../kit/servers.ts';
import { atRate, type LoggedEvent, SPOOL, type Surroundings, startSurroundings } from './prometheus-kit.ts';

/** How late each way may be: one second between scrapes, and what lies in between. */
const WAYS: readonly (readonly [PlatformWay, number])[] = [
  ['metrics', 2_500],
  ['platform', 8_000],
];
/** A sample bears the time at which its scrape began; the value is read while it goes on. */
const SCRAPE_MS = 500;
/** Of the driver. A full minute, for rates over one. */
const DRIVE_SECONDS = 66;

/** What is at most this much above a bound may count as below it. */
const BIN_WIDTH = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY);

/** Of the buckets, in seconds. */
const BOUNDS = loadMeasures({ env: {} }).get('http.duration')!.prometheus!.buckets;

let surroundings: Surroundings;
/** When the driver began, when it ended. */
let driven: { fromMs: number; toMs: number };
/** Calls that the application took into its queue when it was stopped already. */
let stuckJobs = 0;
/** 5xx that were known to Prometheus before the driver began, by series. */
const known = new Map<string, number>();

beforeAll(async () => {
  surroundings = await startSurroundings(WAYS.map(([way]) => way));
  const { platform } = surroundings;
  const call = (direction: 'inbound' | 'outbound') => platform.request('POST', '/api/v1/calls', { direction });
  const incident = (kind: string, seconds: number) => platform.request('POST', '/admin/incident', { kind, seconds });

  // A counter's first sample is no increase: every series has to be there before its rate is compared.
  await incident('provider-outage', 60);
  await atRate(20, 2, () => call('inbound'));
  await platform.request('DELETE', '/admin/incident');
  await atRate(20, 1, (n) => call(n % 2 === 0 ? 'inbound' : 'outbound'));
  await platform.request('GET', '/api/v1/calls/none');
  await platform.request('GET', '/api/v1/health');
  for (const [way] of WAYS) await seen(surroundings.prometheus(way), 'sum(http_requests_total)', total());
  for (const event of platform.logged())
    if (isError(event)) known.set(seriesOf(event), (known.get(seriesOf(event)) ?? 0) + 1);

  const fromMs = Date.now();
  const events = [
    { at: 20, act: () => incident('slow-database', 6) },
    // Long enough for tens of errors on a machine that is slow.
    { at: 40, act: () => incident('provider-outage', 20) },
  ];
  await Promise.all([
    atRate(16, DRIVE_SECONDS, (n) => {
      switch (n % 8) {
        case 0:
        case 1:
          return call('inbound');
        case 2:
          return call('outbound');
        case 3:
          return platform.request('GET', '/api/v1/calls/none');
        default:
          return platform.request('GET', '/api/v1/health');
      }
    }),
    atRate(1, DRIVE_SECONDS, async (second) => events.find(({ at }) => at === second)?.act()),
  ]);
  // Callbacks do not count here: they wait in a queue of their own.
  await incident('queue-stuck', 600);
  await atRate(20, 2, async () => {
    if ((await call('outbound')) === 202) stuckJobs += 1;
  });
  expect(stuckJobs).toBeGreaterThan(30);
  driven = { fromMs, toMs: Date.now() };
  for (const [way] of WAYS) {
    await seen(surroundings.prometheus(way), 'sum(http_requests_total)', total());
    await seen(surroundings.prometheus(way), 'bull_queue_waiting_total{queue="scheduled-calls"}', stuckJobs);
  }
}, 240_000);

afterAll(() => surroundings?.stop());

describe.each(WAYS)('from /%s', (way, lateMs) => {
  const prometheus = () => surroundings.prometheus(way);

  it('every target is up', async () => {
    for (const job of ['calling-platform', 'node-exporter', 'mongodb-exporter', 'redis-exporter', 'logpipe']) {
      const targets = await prometheus().targets(job);
      expect(targets, job).toHaveLength(1);
      expect(targets[0], job).toMatchObject({ health: 'up', lastError: '' });
    }
    const [application] = await prometheus().targets('calling-platform');
    expect(new URL(application!.scrapeUrl).pathname).toBe(way === 'metrics' ? '/metrics' : '/metrics/platform');
  });

  it('active calls: node_active_calls', async () => {
    const query = 'node_active_calls';
    expect(await prometheus().query(query)).toHaveLength(1);
    const points = pointsOf(await prometheus().raw(query, '5m'));
    const steps = callsGoingOn(surroundings.platform.logged());
    for (const [atMs, value] of points) {
      const [least, most] = range(steps, atMs - lateMs, atMs + SCRAPE_MS);
      expect(value, `at ${new Date(atMs).toISOString()}`).toBeGreaterThanOrEqual(least);
      expect(value, `at ${new Date(atMs).toISOString()}`).toBeLessThanOrEqual(most);
    }
    expect(Math.max(...points.map(([, value]) => value))).toBeGreaterThan(20);
  });

  it('p95: histogram_quantile(0.95, rate(http_request_duration_seconds_bucket[5m]))', async () => {
    const found = await prometheus().query('histogram_quantile(0.95, rate(http_request_duration_seconds_bucket[5m]))');
    const compared = found.filter(({ labels }) => /calls|health/.test(labels.route!) && labels.method !== 'DELETE');
    expect(compared.length).toBeGreaterThanOrEqual(3);
    for (const { labels, value } of compared) {
      const durations = surroundings.platform
        .logged()
        .flatMap(({ http, atMs }) =>
          http !== undefined && http.route === labels.route && http.method === labels.method && atMs > driven.fromMs
            ? [http.durationMs]
            : [],
        );
      expect(durations.length, labels.route).toBeGreaterThan(50);
      // logpipe's histograms are as exact as their bins; the requests before the driver are a few of a hundred.
      const least = quantileOfBuckets(0.94, way === 'platform' ? durations.map((ms) => ms / BIN_WIDTH) : durations);
      const most = quantileOfBuckets(0.96, durations);
      expect(value, labels.route).toBeGreaterThanOrEqual(least * 0.98);
      expect(value, labels.route).toBeLessThanOrEqual(most * 1.02);
    }
    // The slow database is in it.
    const calls = compared.find(({ labels }) => labels.method === 'POST')!;
    expect(calls.value).toBeGreaterThan(0.2);
  });

  it('errors: rate(http_requests_total{status=~"5.."}[5m])', async () => {
    const found = await prometheus().query('rate(http_requests_total{status=~"5.."}[5m])');
    const own = new Map<string, number>();
    for (const event of surroundings.platform.logged()) {
      if (isError(event)) own.set(seriesOf(event), (own.get(seriesOf(event)) ?? 0) + 1);
    }
    const increases = new Map(found.map(({ labels, value }) => [keyOf(labels), value * 300]));
    const compared = [...known].filter(([, before]) => before > 0);
    expect(compared.length).toBeGreaterThan(0);
    for (const [series, before] of compared) {
      const wanted = own.get(series)! - before;
      expect(wanted, series).toBeGreaterThan(20);
      expect(Math.abs(increases.get(series)! - wanted) / wanted, `${series}: ${increases.get(series)}`).toBeLessThan(
        0.05,
      );
    }
    // The counter behind it, to the last answer that the driver got.
    for (const [key, count] of surroundings.platform.answers) {
      const [method, status] = key.split(' ');
      const [total] = await prometheus().query(`sum(http_requests_total{method="${method}",status="${status}"})`);
      expect(total?.value, key).toBe(count);
    }
  });

  it('queue: bull_queue_waiting_total{queue="scheduled-calls"}', async () => {
    const found = await prometheus().query('bull_queue_waiting_total{queue="scheduled-calls"}');
    expect(found.map(({ value }) => value)).toEqual([stuckJobs]);
  });

  it('memory: process_resident_memory_bytes / 1024 / 1024', async () => {
    const found = await prometheus().query('process_resident_memory_bytes / 1024 / 1024');
    // Exporters have processes too: the application's is the one of its job.
    const own = found.filter(({ labels }) => labels.job === 'calling-platform');
    expect(own).toHaveLength(1);
    const points = pointsOf(await prometheus().raw('process_resident_memory_bytes{job="calling-platform"}', '1m'));
    expect(points.length).toBeGreaterThan(30);
    const steps = surroundings.platform.readings.map(({ atMs, rssBytes }) => [atMs, rssBytes] as const);
    for (const [atMs, value] of points) {
      const [least, most] = range(steps, atMs - lateMs, atMs + SCRAPE_MS);
      expect(value / least, `${value} at ${new Date(atMs).toISOString()}`).toBeGreaterThan(0.97);
      expect(value / most, `${value} at ${new Date(atMs).toISOString()}`).toBeLessThan(1.03);
    }
    expect(own[0]!.value * 1024 * 1024).toBeGreaterThan(30e6);
  });

  it('CPU: rate(process_cpu_seconds_total[1m]) * 100', async () => {
    const atMs = driven.toMs;
    const query = 'rate(process_cpu_seconds_total[1m]) * 100';
    const found = await prometheus().query(query, atMs / 1000);
    const own = found.filter(({ labels }) => labels.job === 'calling-platform');
    expect(own).toHaveLength(1);
    const cpuAt = (ms: number) => surroundings.platform.readings.findLast((reading) => reading.atMs <= ms)!.cpuSeconds;
    const percents = [0, lateMs].map((late) => ((cpuAt(atMs - late) - cpuAt(atMs - late - 60_000)) / 60) * 100);
    const [least, most] = [Math.min(...percents), Math.max(...percents)];
    expect(own[0]!.value, `${percents}`).toBeGreaterThan(least * 0.93 - 0.2);
    expect(own[0]!.value, `${percents}`).toBeLessThan(most * 1.07 + 0.2);
    expect(least).toBeGreaterThan(0.5);
  });

  it('no rule fails, and what they record is there', async () => {
    const answer = await fetch(`${prometheus().url}/api/v1/rules`);
    const { data } = (await answer.json()) as {
      data: { groups: { rules: { name: string; type: string; health: string; lastError?: string }[] }[] };
    };
    const rules = data.groups.flatMap((group) => group.rules);
    expect(rules.filter(({ health }) => health !== 'ok')).toEqual([]);
    expect(rules.length).toBeGreaterThanOrEqual(15);
    const [read] = await prometheus().query('logpipe:consumed:rate5m');
    expect(read!.value).toBeGreaterThan(1);
    const [spool] = await prometheus().query('logpipe_spool_used_ratio');
    expect(spool?.value).toBe(SPOOL.usedBytes / SPOOL.maxBytes);
    expect(await prometheus().query('ALERTS')).toEqual([]);
  });

  for (const file of SHIPPED_DASHBOARDS) {
    for (const { title, type, targets } of readDashboard(file).panels.filter((panel) => panel.type !== 'row')) {
      it(`${file}, ${type} “${title}” has data`, async () => {
        for (const { expr } of targets) {
          const found = await prometheus().query(expr);
          expect(found.filter(({ value }) => Number.isFinite(value)).length, expr).toBeGreaterThan(0);
        }
      });
    }
  }
});

/** Requests that were answered. */
function total(): number {
  return [...surroundings.platform.answers.values()].reduce((sum, count) => sum + count, 0);
}

function seen(prometheus: Prometheus, expr: string, wanted: number): Promise<unknown> {
  return waitFor(
    async () => {
      const [sample] = await prometheus.query(expr);
      if (sample?.value === wanted) return true;
      throw new Error(`${sample?.value} for ${wanted}`);
    },
    { what: `${expr} of ${prometheus.url}`, timeoutMs: 60_000, intervalMs: 250 },
  );
}

function isError({ http }: LoggedEvent): boolean {
  return http !== undefined && http.status >= 500;
}

function seriesOf({ http }: LoggedEvent): string {
  return `${http!.method} ${http!.route} ${http!.status}`;
}

function keyOf({ method, route, status }: Readonly<Record<string, string>>): string {
  return `${method} ${route} ${status}`;
}

function pointsOf([series, ...more]: readonly Series[]): (readonly [number, number])[] {
  expect(more).toEqual([]);
  return series!.points.map(([seconds, value]) => [seconds * 1000, value] as const);
}

/** [time, calls from then on] */
function callsGoingOn(events: readonly LoggedEvent[]): (readonly [number, number])[] {
  let going = 0;
  const steps: (readonly [number, number])[] = [[0, 0]];
  for (const { atMs, event } of events) {
    if (event === 'call.started') going += 1;
    else if (event === 'call.ended') going -= 1;
    else continue;
    steps.push([atMs, going]);
  }
  return steps;
}

/** Least and most of a value that stays from one step to the next. */
function range(steps: readonly (readonly [number, number])[], fromMs: number, toMs: number): [number, number] {
  const first = Math.max(
    0,
    steps.findLastIndex(([atMs]) => atMs <= fromMs),
  );
  const values = steps.slice(first).flatMap(([atMs, value], i) => (i === 0 || atMs <= toMs ? [value] : []));
  return [Math.min(...values), Math.max(...values)];
}

/** As Prometheus computes it: linear within the bucket. Seconds, of milliseconds. */
function quantileOfBuckets(q: number, durationsMs: readonly number[]): number {
  const rank = q * durationsMs.length;
  const upTo = (bound: number) => durationsMs.filter((ms) => ms / 1000 <= bound).length;
  const i = BOUNDS.findIndex((bound) => upTo(bound) >= rank);
  const [low, high] = [BOUNDS[i - 1] ?? 0, BOUNDS[i]!];
  const below = i === 0 ? 0 : upTo(low);
  return low + ((high - low) * (rank - below)) / (upTo(high) - below);
}
