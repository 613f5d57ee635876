// What the page asks besides the alerts, over a listening server: the API as a process puts it together, on real windows and a real machine.
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { openApi } from '../../src/ops/api.ts';
import { createStatusView, startHttp } from '../../src/ops/http.ts';
import type { FigureHistory, IncidentDetail } from '../../src/ops/page-data.ts';
import { termKit } from '../unit/ops/term-kit.ts';
import { calls, MINUTE, rulesOf, SECOND, T0 } from '../unit/rules/kit.ts';

const READ = 'a-token-that-may-read-0123456789';
const ACT = 'a-token-that-may-act-0123456789';

const RULES = rulesOf(
  '  failing: { title: "<b>Failing</b>", priority: P1, kind: ratio, measure: call.failure_ratio, above: 20 %, labels: [tenantId] }\n' +
    '  low: { title: Low, priority: P2, kind: ratio, measure: call.success_ratio, below: 50 % }',
);

async function serve(kit = termKit(RULES), roles: readonly string[] = ['indexer', 'counter', 'alerter']) {
  const metrics = createMetrics();
  const clock = { ...systemClock, now: () => T0 + 6 * SECOND };
  const http = {
    ...{ enabled: true, host: '127.0.0.1', port: 0, allowedHosts: [] },
    tokens: [
      { name: 'wall', token: READ, scopes: ['read' as const] },
      { name: 'hand', token: ACT, scopes: ['act' as const] },
    ],
  };
  const evaluates = roles.includes('alerter');
  const api = openApi(
    {
      ...{ roles, source: 'files', kafka: {} as never, alerts: { journalDir: 'nowhere' } },
      ...{ http, notify: { environment: 'test', pagerduty: {} }, mask: {} as never },
      ...{
        files: {} as never,
        sinks: { elasticsearch: false, ndjson: { enabled: false } } as never,
        elasticsearch: {} as never,
      },
    },
    {
      ...{ log: silentLog, clock },
      alerting: {
        term: () => (evaluates ? kit.term : undefined),
        own() {
          const state = evaluates ? kit.term.look() : undefined;
          return state && { ...state, answer: () => undefined };
        },
        view: () => undefined,
        routing: () => undefined,
      },
      configArgs: undefined,
      showTo: undefined,
      flow: { startedMs: 0, metrics, readiness: () => [], lastError: () => null },
    },
  );
  const server = await startHttp(http, {
    ...{ metrics, clock, readiness: () => [] },
    platform: { metrics: () => '', stats: () => undefined },
    status: createStatusView(
      { version: '1', roles, source: 'files', group: null },
      { clock, readiness: () => [], alerting: () => undefined },
    ),
    api: async () => api,
  });
  onTestFinished(async () => {
    await server.close();
    await api.close();
  });
  return {
    kit,
    get: (path: string, headers: Record<string, string> = {}) => fetch(`${server.url}${path}`, { headers }),
  };
}

function failing() {
  const kit = termKit(RULES);
  for (let ago = 10; ago >= 1; ago--) calls(kit.stage, T0 - ago * MINUTE, { ok: 4 });
  calls(kit.stage, T0, { failed: 60 });
  kit.at(T0 + 6 * SECOND);
  return kit;
}

test('the last hour: points, thresholds, and the alerts of that time', async () => {
  const { get } = await serve(failing());
  const answer = await get('/api/v1/figures?from=2026-11-24T11:45:00Z&to=2026-11-24T12:00:30Z');
  expect([answer.status, answer.headers.get('cache-control')]).toEqual([200, 'no-store']);
  const history = (await answer.json()) as FigureHistory;
  expect([history.from, history.to, history.step]).toEqual([
    ...['2026-11-24T11:45:00.000Z', '2026-11-24T12:00:10.000Z', 10],
  ]);
  expect(history.series.calls).toHaveLength(91);
  // Four calls a minute, all well, since 11:50; the hour's last point is not complete yet.
  expect(history.series.calls!.slice(28, 32)).toEqual([null, null, 1, 1]);
  expect(history.thresholds).toEqual([{ figure: 'calls', rule: 'low', priority: 'P2', value: 0.5, text: '50 %' }]);
  expect(history.alerts.map(({ figure, rule, to }) => [figure, rule, to])).toEqual([
    ['errors', 'failing', null],
    ['calls', 'low', null],
  ]);
});

test('an incident: the same as in the list, with its history, charts and query line', async () => {
  const { get } = await serve(failing());
  const list = (await (await get('/api/v1/alerts')).json()) as { incidents: { id: string; group: string }[] };
  const listed = list.incidents.find(({ group }) => group === 'failing')!;
  const answer = await get(`/api/v1/incidents/${listed.id}`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json']);
  const { incident, history, charts, query } = (await answer.json()) as IncidentDetail;
  expect(incident).toEqual(listed);
  expect(history[0]!.text).toMatch(/^The incident was opened|^P1 <b>Failing<\/b> \(tenantId=acme\) began/);
  expect(charts[0]).toMatchObject({ labels: { tenantId: 'acme' }, threshold: 0.2 });
  // Four calls a minute in the four full minutes before, within five.
  expect(charts[0]!.points.at(-1)).toBe(60 / 76);
  expect(query).toBe('event: "call.ended" and call.status: failed and tenantId: acme');
});

test('who may not, or asks for what there is not, learns why', async () => {
  const { get } = await serve(failing());
  const proxied = { 'x-forwarded-for': '192.0.2.1' };
  for (const path of ['/api/v1/figures', '/api/v1/incidents/incident1']) {
    expect((await get(path, proxied)).status).toBe(401);
    expect((await get(path, { authorization: `Bearer ${ACT}` })).status).toBe(403);
    expect((await get(path, { origin: 'https://evil.example' })).status).toBe(403);
    expect((await get(path, { ...proxied, authorization: `Bearer ${READ}` })).status).toBe(200);
  }
  const detailOf = async (path: string) => {
    const answer = await get(path);
    return [answer.status, ((await answer.json()) as { detail: string }).detail];
  };
  expect(await detailOf('/api/v1/figures?from=%1b%5B31m')).toEqual([
    ...[400, 'from: found "\\u001b[31m"; permitted: a time, like 2026-11-30T09:00:00Z'],
  ]);
  expect(await detailOf(`/api/v1/figures?to=${'9'.repeat(300)}`)).toEqual([
    400,
    expect.stringMatching(/^to: found "9{1,100}/),
  ]);
  expect(await detailOf('/api/v1/incidents/incident9')).toEqual([404, expect.stringContaining('incident9')]);
});

test('where alerts are not evaluated, the figures say so, and there are no incidents', async () => {
  const { get } = await serve(termKit(RULES), ['indexer']);
  const history = (await (await get('/api/v1/figures')).json()) as FigureHistory;
  expect(history).toMatchObject({ thresholds: [], alerts: [], note: expect.stringContaining('not evaluated here') });
  expect(history.series.errors!.every((value) => value === null)).toBe(true);
  expect((await get('/api/v1/incidents/incident1')).status).toBe(503);
});
