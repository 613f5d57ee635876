// What /api/v1/stats and /metrics/platform say of the same counts: whole answers compared; what is not known is null or absent.
import { expect, it } from 'vitest';
import { loadMeasures } from '../../../src/measure/measure-config.ts';
import { binOf, LABEL_SEPARATOR, OTHER, type SeriesOfMeasure, TOTALS_FORMAT } from '../../../src/measure/totals.ts';
import { platformMetrics, pm2Readings, statsOf } from '../../../src/ops/stats.ts';
import { createWindowStore } from '../../../src/windows/windows.ts';

const measures = loadMeasures({ env: {} });
const NOW = Date.parse('2026-11-25T10:00:05.000Z');
const BUCKET = Date.parse('2026-11-25T10:00:00.000Z');
const key = (...values: string[]) => values.join(LABEL_SEPARATOR);

function storeWith(series: Record<string, SeriesOfMeasure>) {
  const store = createWindowStore({ measures });
  const buckets = [{ eventMs: BUCKET, series }];
  store.apply({ lane: '0', arrivalMs: BUCKET, upToOffset: 9, records: 10, format: TOTALS_FORMAT, buckets });
  return store;
}

const bins = (...values: number[]) => {
  const counts: Record<string, number> = {};
  for (const value of values) counts[binOf(value)] = (counts[binOf(value)] ?? 0) + 1;
  return counts;
};
const gauge = (v: number) => ({ v, at: NOW - 5_000 });

const platform = () =>
  storeWith({
    'calls.ended': {
      [key('outbound', 'completed', 't-1')]: { n: 6 },
      [key('outbound', 'voicemail', 't-1')]: { n: 2 },
      [key('inbound', 'failed', 't-2')]: { n: 2 },
    },
    'calls.failed': { [key('t-2', 'inbound')]: { n: 2 } },
    'calls.voicemail': { outbound: { n: 2 } },
    'call.duration': {
      [key('outbound', 'completed')]: { n: 2, sum: 180_000, min: 60_000, max: 120_000, bins: bins(60_000, 120_000) },
    },
    'queue.size': { 'scheduled-calls': gauge(12) },
    'queue.active': { 'scheduled-calls': gauge(3) },
    'db.pool_size': { [key('mongodb', 'a', '1')]: gauge(40), [key('mongodb', 'a', '2')]: gauge(40) },
    'db.pool_in_use': { [key('mongodb', 'a', '1')]: gauge(10), [key('mongodb', 'a', '2')]: gauge(30) },
    'platform.active_calls': { [key('a', '1')]: gauge(4), [key('a', '2')]: gauge(5) },
  });

it('statistics over a window, in the shape of the operators’ guide', () => {
  expect(statsOf(platform(), '5m', NOW)).toEqual({
    success: true,
    window: '5m',
    timestamp: '2026-11-25T10:00:05.000Z',
    data: {
      calls: { total: 10, inbound: 2, outbound: 8, successRate: 0.8, averageDurationMs: 90_000 },
      queues: [{ name: 'scheduled-calls', waiting: 12, active: 3, delayed: null, completed: null, failed: null }],
      connectionPools: [{ system: 'mongodb', size: 80, inUse: 40, usage: 0.5 }],
      voicemail: { detected: 2, rate: 0.25 },
    },
  });
});

it('what was never counted is null, never 0', () => {
  expect(statsOf(createWindowStore({ measures }), '24h', NOW).data).toEqual({
    calls: { total: null, inbound: null, outbound: null, successRate: null, averageDurationMs: null },
    queues: [],
    connectionPools: [],
    voicemail: { detected: null, rate: null },
  });
});

it('the same counts for Prometheus; a stale gauge is absent', () => {
  const text = platformMetrics(platform(), measures, NOW);
  const lines = text.split('\n');
  for (const line of [
    '# TYPE calls_ended_total counter',
    'calls_ended_total{direction="outbound",status="completed"} 6',
    'calls_ended_total{direction="inbound",status="failed"} 2',
    '# TYPE call_duration_seconds histogram',
    'call_duration_seconds_bucket{direction="outbound",status="completed",le="30"} 0',
    'call_duration_seconds_bucket{direction="outbound",status="completed",le="60"} 1',
    'call_duration_seconds_bucket{direction="outbound",status="completed",le="120"} 2',
    'call_duration_seconds_bucket{direction="outbound",status="completed",le="+Inf"} 2',
    'call_duration_seconds_sum{direction="outbound",status="completed"} 180',
    'call_duration_seconds_count{direction="outbound",status="completed"} 2',
    'bull_queue_waiting_total{queue="scheduled-calls"} 12',
    'node_active_calls 9',
    'db_pool_in_use{system="mongodb",host="a",pid="2"} 30',
  ]) {
    expect(lines).toContain(line);
  }
  expect(text).not.toMatch(/http_requests_total|process_resident/);
  expect(platformMetrics(platform(), measures, NOW + 600_000)).not.toMatch(/bull_queue|node_active_calls/);
});

it('a queue or system called `other` is its own: what did not fit is beside it, and in no statistics', () => {
  const store = storeWith({
    'queue.size': { other: gauge(12), [OTHER]: gauge(500) },
    'db.pool_size': { [key('other', 'a', '1')]: gauge(40), [key(OTHER, OTHER, OTHER)]: gauge(4_000) },
    'db.pool_in_use': { [key('other', 'a', '1')]: gauge(10) },
  });
  const { queues, connectionPools } = statsOf(store, '5m', NOW).data;
  expect(queues.map(({ name, waiting }) => [name, waiting])).toEqual([['other', 12]]);
  expect(connectionPools).toEqual([{ system: 'other', size: 40, inUse: 10, usage: 0.25 }]);
  const lines = platformMetrics(store, measures, NOW).split('\n');
  expect(lines).toContain('bull_queue_waiting_total{queue="other"} 12');
  expect(lines).toContain('bull_queue_waiting_total{queue="other",logpipe_rest="true"} 500');
});

it('the four figures for PM2, of the same counts; what is no data is not shown', () => {
  const store = storeWith({
    'platform.active_calls': { [key('a', '1')]: gauge(4), [key('a', '2')]: gauge(5) },
    'queue.size': { 'scheduled-calls': gauge(12), callbacks: gauge(3) },
    'http.requests': { [key('GET', '/a', '200')]: { n: 7 }, [key('GET', '/a', '500')]: { n: 1 } },
    'http.errors': { [key('GET', '/a')]: { n: 1 } },
    'http.duration': { [key('GET', '/a')]: { n: 2, sum: 300, min: 100, max: 200, bins: bins(100, 200) } },
  });
  const figures = (windows: () => ReturnType<typeof storeWith> | undefined, nowMs = NOW) => {
    const readings = pm2Readings(windows, { now: () => nowMs, monotonicMs: () => nowMs, after: () => () => {} });
    return Object.fromEntries(Object.entries(readings).map(([name, read]) => [name, read()]));
  };
  expect(figures(() => store)).toEqual({ activeCalls: 9, queueSize: 15, averageResponseMs: 150, errorPercent: 12.5 });
  const nothing = {
    activeCalls: undefined,
    queueSize: undefined,
    averageResponseMs: undefined,
    errorPercent: undefined,
  };
  expect(figures(() => undefined)).toEqual(nothing);
  expect(figures(() => createWindowStore({ measures }))).toEqual(nothing);
  expect(figures(() => store, NOW + 3_600_000)).toEqual(nothing);
});
