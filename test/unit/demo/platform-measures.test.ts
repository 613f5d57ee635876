// What the sample platform says of itself under /api/v1/stats and /metrics: exact for a known set of events, and the same as
// logpipe makes of its log, by another way through other code.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createPlatformMetrics } from '../../../examples/calling-platform/metrics.ts';
import { createPlatform, type Platform } from '../../../examples/calling-platform/platform.ts';
import { createPlatformStats } from '../../../examples/calling-platform/stats.ts';
import { parseConfig } from '../../../src/config.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createCounter } from '../../../src/measure/counter.ts';
import { platformMetrics, statsOf } from '../../../src/ops/stats.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import { createWindowStore, type WindowStore } from '../../../src/windows/windows.ts';
import { MEASURES } from '../rules/kit.ts';

const NOW = Date.parse('2026-01-05T10:00:00Z');
const CALL = { attempt: 1, voicemail: false };
const ended = (direction: string, status: string, durationMs: number, more: object = {}) => ({
  event: 'call.ended',
  call: { ...CALL, direction, status, durationMs, ...more },
});

const QUEUE = { name: 'scheduled-calls', waiting: 12, active: 3, delayed: 1, completed: 40, failed: 2 };
const sources = {
  queues: () => [QUEUE],
  pools: () => [
    { system: 'redis', size: 20, inUse: 5 },
    { system: 'mongodb', size: 40, inUse: 1 },
  ],
  activeCalls: () => 7,
};

test('statistics of a known set of events, window by window; what is not known is null', () => {
  const stats = createPlatformStats(sources);
  expect(stats.of('24h', NOW).data.calls).toEqual({
    ...{ total: null, inbound: null, outbound: null, successRate: null, averageDurationMs: null },
  });
  expect(stats.of('24h', NOW).data.voicemail).toEqual({ detected: null, rate: null });

  stats.count(ended('outbound', 'completed', 200_000), NOW - 2 * 3_600_000);
  stats.count(ended('outbound', 'voicemail', 30_000, { voicemail: true }), NOW - 40 * 60_000);
  stats.count(ended('inbound', 'completed', 100_000), NOW - 60_000);
  stats.count(ended('outbound', 'failed', 0, { attempt: 2 }), NOW - 30_000);
  stats.count(ended('outbound', 'busy', 0), NOW - 20_000);
  stats.count({ event: 'call.started' }, NOW);

  expect(stats.of('24h', NOW)).toEqual({
    success: true,
    window: '24h',
    timestamp: '2026-01-05T10:00:00.000Z',
    data: {
      calls: { total: 5, inbound: 1, outbound: 4, successRate: 0.6, averageDurationMs: 150_000 },
      queues: [QUEUE],
      connectionPools: [
        { system: 'mongodb', size: 40, inUse: 1, usage: 0.025 },
        { system: 'redis', size: 20, inUse: 5, usage: 0.25 },
      ],
      voicemail: { detected: 1, rate: 0.5 },
    },
  });
  const data = (window: '5m' | '1h', atMs: number) => stats.of(window, atMs).data;
  expect(data('1h', NOW).calls).toEqual({
    ...{ total: 4, inbound: 1, outbound: 3, successRate: 0.5, averageDurationMs: 100_000 },
  });
  expect(data('5m', NOW).calls.total).toBe(3);
  expect(data('5m', NOW).voicemail).toEqual({ detected: 0, rate: null });
  // Ten minutes later the window is empty: no calls is known, a share of none is not.
  expect(data('5m', NOW + 600_000).calls).toEqual({
    ...{ total: 0, inbound: 0, outbound: 0, successRate: null, averageDurationMs: null },
  });
});

test('metrics of a known set of events, by the names of the operators’ guide', async () => {
  const metrics = createPlatformMetrics(sources);
  const http = { method: 'GET', route: '/api/v1/calls/:id', durationMs: 150 };
  metrics.count('info', { event: 'http.request', http: { ...http, status: 200 } });
  metrics.count('info', { event: 'http.request', http: { ...http, status: 500 } });
  metrics.count('info', { ...ended('outbound', 'completed', 90_000, { attempt: 2 }) });
  metrics.count('info', { event: 'queue.job', queue: { name: 'scheduled-calls', waitMs: 2_000 } });
  metrics.count('error', {});
  const lines = (await metrics.registry.metrics()).split('\n');
  for (const line of [
    'node_active_calls 7',
    'bull_queue_waiting_total{queue="scheduled-calls"} 12',
    'bull_queue_failed_total{queue="scheduled-calls"} 2',
    'http_requests_total{method="GET",route="/api/v1/calls/:id",status="500"} 1',
    'http_request_duration_seconds_bucket{le="0.1",method="GET",route="/api/v1/calls/:id"} 0',
    'http_request_duration_seconds_bucket{le="0.2",method="GET",route="/api/v1/calls/:id"} 2',
    'calls_ended_total{direction="outbound",status="completed"} 1',
    'calls_retried_total{status="completed"} 1',
    'call_duration_seconds_sum{direction="outbound",status="completed"} 90',
    'queue_wait_seconds_count{queue="scheduled-calls"} 1',
    'db_pool_in_use{system="mongodb"} 1',
    'log_events_total{level="error"} 1',
  ]) {
    expect(lines).toContain(line);
  }
  expect(lines.filter((line) => line.startsWith('node_active_connections'))).toEqual([]);
  metrics.count('info', { event: 'system.stats', system: { activeConnections: 31 } });
  expect(await metrics.registry.metrics()).toContain('\nnode_active_connections 31\n');
});

let records: { line: object; timeMs: number }[];
let platform: Platform;

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  records = [];
  const write = (level: string) => (message: string, meta?: object) => {
    const timeMs = Date.now();
    const line = { timestamp: new Date(timeMs).toISOString(), level, message, host: 'a', pid: 1, ...meta };
    records.push({ line, timeMs });
  };
  platform = createPlatform(
    { seed: 3, callSpeed: 600, statsEveryMs: 15_000 },
    { clock: systemClock, log: { error: write('error'), warn: write('warn'), info: write('info') } },
  );
});
afterEach(() => {
  platform.close();
  vi.useRealTimers();
});

async function ask(path: string): Promise<Response> {
  const answer = platform.app.request(path);
  await vi.advanceTimersByTimeAsync(50);
  return answer;
}

async function playTenMinutes(): Promise<void> {
  for (let i = 0; i < 600; i++) {
    const direction = i % 5 < 2 ? 'inbound' : 'outbound';
    void platform.app.request('/api/v1/calls', { method: 'POST', body: JSON.stringify({ direction }) });
    if (i % 10 === 0) void platform.app.request(`/api/v1/nothing/${i}`);
    await vi.advanceTimersByTimeAsync(1_000);
  }
  // Every call and callback has ended, and the queues and pools have been measured since.
  await vi.advanceTimersByTimeAsync(60_000);
}

/** The same log through parser, counter and windows. */
async function counted(): Promise<WindowStore> {
  const store = createWindowStore({ measures: MEASURES });
  const config = parseConfig('', {}, 'defaults');
  const counter = createCounter(MEASURES, {
    parser: createParser(config.parse, { masker: createMasker(), duplicatesRefused: true }),
    tag: createTagger(),
    metrics: createMetrics(),
    log: silentLog,
    clock: systemClock,
    sink: {
      async put(messages) {
        for (const message of messages) if (message.kind === 'totals') store.apply(message.totals);
      },
      async close() {},
    },
  });
  for (const [offset, { line, timeMs }] of records.entries()) {
    const value = Buffer.from(JSON.stringify(line));
    const origin = { kind: 'kafka', topic: 'logs', partition: 0 } as const;
    await counter.accept({
      origin,
      bytes: value.length,
      records: [{ value, offset, timeMs, eventId: undefined }],
      done() {},
    });
  }
  expect(await counter.drain(0)).toBe(true);
  return store;
}

test('the statistics are those that logpipe makes of the log', async () => {
  await playTenMinutes();
  for (const window of ['5m', '1h', '24h'] as const) {
    // The question is logged too, and answered before that.
    const answer = await ask(`/api/v1/stats?window=${window}`);
    const own = (await answer.json()) as { timestamp: string; data: { calls: { total: number; successRate: number } } };
    const theirs = statsOf(await counted(), window, Date.parse(own.timestamp));
    expect(own).toEqual(theirs);
    expect(own.data.calls.total).toBeGreaterThan(250);
    expect(own.data.calls.successRate).toBeLessThan(1);
  }
  expect((await ask('/api/v1/stats?window=2h')).status).toBe(400);
});

test('every measure has the same name, type and counts under /metrics as under /metrics/platform', async () => {
  await playTenMinutes();
  // Measured by the process around it, which a fake clock has none of.
  platform.log.info('system stats', {
    event: 'system.stats',
    system: { cpuPercent: 1, memoryPercent: 1, activeConnections: 4 },
  });
  const own = series(await (await ask('/metrics')).text());
  const theirs = series(platformMetrics(await counted(), MEASURES, Date.now()));
  expect(theirs.size).toBeGreaterThan(40);
  const missing = [...theirs].filter(([name, value]) => own.get(name) !== value);
  expect(missing).toEqual([]);
  expect([...own.keys()].filter((name) => !theirs.has(name) && !/_(?:sum|bucket)\b/.test(name))).toEqual([]);
});

/** Values and types by name and sorted labels. Host and process are the target's when Prometheus scrapes the process itself. */
function series(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, type, kind] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (type !== undefined) found.set(`type of ${type}`, kind!);
    const [, name, labels = '', value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    // Sums differ in the last digits, and which values lie below a bound is estimated by the sketch.
    if (name === undefined || /_sum$|_bucket$/.test(name)) continue;
    const sorted = labels.split(/,(?=\w+=")/).filter((label) => !/^(?:host|pid)=/.test(label));
    found.set(`${name}{${sorted.sort().join(',')}}`, value!);
  }
  return found;
}
