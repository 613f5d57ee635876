// The sample platform on a fake clock: its events keep their contract, its figures are those of a working platform,
// each incident shows where it should and nowhere after its end.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createPlatform, type Platform } from '../../../examples/calling-platform/platform.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { createEventCheck } from '../../../src/tag/tag.ts';

type Line = Record<string, unknown> & {
  level: string;
  event?: string;
  call?: { direction: string; status: string; durationMs: number; attempt: number; voicemail: boolean };
  queue?: { name: string; waiting: number; waitMs: number };
  db?: { system: string; poolSize: number; poolInUse: number };
  http?: { route: string; status: number; durationMs: number };
};

let lines: Line[];
let platform: Platform;

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-01-05T10:00:00Z') });
  lines = [];
  platform = start(11);
});
afterEach(() => {
  platform.close();
  vi.useRealTimers();
});

function start(seed: number): Platform {
  const write = (level: string) => (message: string, meta?: object) => void lines.push({ level, message, ...meta });
  const log = { error: write('error'), warn: write('warn'), info: write('info') };
  return createPlatform({ seed, callSpeed: 60, statsEveryMs: 15_000 }, { clock: systemClock, log });
}

const of = (event: string) => lines.filter((line) => line.event === event);

async function post(path: string, body: unknown): Promise<Response> {
  const answer = platform.app.request(path, { method: 'POST', body: JSON.stringify(body) });
  await vi.advanceTimersByTimeAsync(50);
  return answer;
}

/** One call every 50 ms of the fake clock. */
async function traffic(calls: number, direction = (i: number) => (i % 5 < 2 ? 'inbound' : 'outbound')): Promise<void> {
  for (let i = 0; i < calls; i++) await post('/api/v1/calls', { direction: direction(i) });
}

function callFigures() {
  const ended = of('call.ended').map((line) => line.call!);
  const reached = ended.filter(({ status }) => status === 'completed' || status === 'voicemail');
  const share = (part: unknown[], whole: unknown[]) => part.length / whole.length;
  const talked = ended.filter(({ status }) => status === 'completed');
  const outbound = reached.filter((call) => call.direction === 'outbound');
  const retried = ended.filter(({ attempt }) => attempt > 1);
  return {
    success: share(reached, ended),
    failed: share(
      ended.filter(({ status }) => status === 'failed'),
      ended,
    ),
    voicemail: share(
      outbound.filter((call) => call.voicemail),
      outbound,
    ),
    retrySuccess: share(
      retried.filter((call) => reached.includes(call)),
      retried,
    ),
    durationMs: talked.reduce((sum, call) => sum + call.durationMs, 0) / talked.length,
  };
}

test('a working day: shares as an operator knows them, each call ends once, every event keeps its contract', async () => {
  await traffic(3000);
  platform.close();
  const figures = callFigures();
  expect(figures.success).toBeGreaterThan(0.69);
  expect(figures.success).toBeLessThan(0.76);
  expect(figures.failed).toBeLessThan(0.1);
  expect(figures.voicemail).toBeGreaterThan(0.2);
  expect(figures.voicemail).toBeLessThan(0.3);
  expect(figures.retrySuccess).toBeGreaterThan(0.4);
  expect(figures.durationMs).toBeGreaterThan(120_000);
  expect(figures.durationMs).toBeLessThan(300_000);

  const started = of('call.started').map((line) => line.callId);
  const ended = of('call.ended').map((line) => line.callId);
  expect(new Set(ended).size).toBe(ended.length);
  expect(ended.toSorted()).toEqual(started.toSorted());

  const keepsContract = createEventCheck();
  expect(lines.filter((line) => !keepsContract(line))).toEqual([]);
  const events = new Set(lines.map((line) => line.event));
  for (const event of ['http.request', 'queue.job', 'queue.stats', 'db.pool', 'platform.stats']) {
    expect(events).toContain(event);
  }
  const errors = lines.filter((line) => line.level === 'error');
  expect(errors.length / lines.length).toBeLessThan(0.05);
  expect(errors.every((line) => line.error instanceof Error)).toBe(true);
});

test('the same seed makes the same calls, another one others', async () => {
  const play = async (seed: number) => {
    platform.close();
    lines = [];
    platform = start(seed);
    await traffic(50);
    return JSON.stringify(of('call.ended').map((line) => [line.callId, line.call]));
  };
  const first = await play(5);
  expect(await play(5)).toBe(first);
  expect(await play(6)).not.toBe(first);
});

test('provider-outage: most calls fail with a 503 until it ends', async () => {
  expect((await post('/admin/incident', { kind: 'provider-outage', seconds: 60 })).status).toBe(200);
  await traffic(400);
  expect(callFigures().failed).toBeGreaterThan(0.7);
  const answers = of('http.request').filter((line) => line.http!.route === '/api/v1/calls');
  expect(answers.filter((line) => line.http!.status === 503).length).toBeGreaterThan(80);
  expect(lines.some((line) => /answered 503 Service Unavailable/.test(String(line.message)))).toBe(true);

  await vi.advanceTimersByTimeAsync(60_000);
  lines = [];
  await traffic(400);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(callFigures().failed).toBeLessThan(0.12);
});

test('slow-database: requests become slow, the pool fills up and statements give up', async () => {
  await post('/admin/incident', { kind: 'slow-database', seconds: 600 });
  // Just before the next regular measurement.
  await vi.advanceTimersByTimeAsync(14_900);
  for (let i = 0; i < 200; i++) void platform.app.request('/api/v1/calls/none');
  await vi.advanceTimersByTimeAsync(15_000);
  const pool = of('db.pool').filter((line) => line.db!.system === 'mongodb');
  expect(pool.some(({ db }) => db!.poolInUse === db!.poolSize)).toBe(true);
  const requests = of('http.request').map((line) => line.http!);
  expect(requests.filter(({ durationMs }) => durationMs > 500).length).toBeGreaterThan(100);
  expect(requests.some(({ status }) => status === 500)).toBe(true);
  expect(lines.some((line) => (line.error as { code?: string })?.code === 'POOL_TIMEOUT')).toBe(true);

  await platform.app.request('/admin/incident', { method: 'DELETE' });
  lines = [];
  await traffic(100);
  const after = of('http.request').map((line) => line.http!.durationMs);
  expect(after.length).toBeGreaterThan(95);
  expect(Math.max(...after)).toBeLessThan(50);
});

test('queue-stuck: jobs pile up and are taken when it ends, with the time they waited', async () => {
  await post('/admin/incident', { kind: 'queue-stuck', seconds: 600 });
  await traffic(600, () => 'outbound');
  expect(of('queue.job')).toEqual([]);
  const stats = of('queue.stats').filter((line) => line.queue!.name === 'scheduled-calls');
  expect(stats.at(-1)!.queue!.waiting).toBeGreaterThan(500);

  const answer = await platform.app.request('/admin/incident', { method: 'DELETE' });
  expect(answer.status).toBe(200);
  await vi.advanceTimersByTimeAsync(15_000);
  const accepted = of('http.request').filter((line) => line.http!.status === 202);
  expect(accepted.length).toBeGreaterThan(580);
  const taken = of('queue.job').filter((line) => line.queue!.name === 'scheduled-calls');
  expect(taken).toHaveLength(accepted.length);
  expect(taken[0]!.queue!.waitMs).toBeGreaterThan(25_000);
});

test('the answers of the HTTP side', async () => {
  const health = await platform.app.request('/api/v1/health');
  expect(await health.json()).toEqual({
    success: true,
    message: 'API is running',
    timestamp: '2026-01-05T10:00:00.000Z',
  });
  const created = (await (await post('/api/v1/calls', { direction: 'outbound' })).json()) as { data: { id: string } };
  const looked = platform.app.request(`/api/v1/calls/${created.data.id}`);
  await vi.advanceTimersByTimeAsync(100);
  expect(await (await looked).json()).toMatchObject({ success: true, data: { id: created.data.id, attempt: 1 } });
  expect((await post('/api/v1/calls', { direction: 'sideways' })).status).toBe(400);
  expect((await post('/admin/incident', { kind: 'fire', seconds: 5 })).status).toBe(400);
  expect((await post('/admin/incident', { kind: 'queue-stuck', seconds: 0 })).status).toBe(400);
  expect((await platform.app.request('/somewhere/else')).status).toBe(404);
  expect(of('http.request').at(-1)!.http!.route).toBe('none');
});
