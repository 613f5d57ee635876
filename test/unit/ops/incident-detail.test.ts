// One incident, asked for as the page does: real windows, rules and machine; numbers counted by hand, and labels of strangers.
import { Hono } from 'hono';
import { describe, expect, it, test } from 'vitest';
import type { AlertDesk } from '../../../src/alerter/alert-desk.ts';
import { DeskClosedError } from '../../../src/alerter/alert-desk.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { ApiApp, Guard } from '../../../src/ops/guard.ts';
import { incidentRoutes } from '../../../src/ops/incident-detail.ts';
import type { IncidentDetail } from '../../../src/ops/page-data.ts';
import { problem, refusalOf } from '../../../src/ops/requests.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { calls, HOUR, MINUTE, RULES, rulesOf, SECOND, T0 } from '../rules/kit.ts';
import { type TermKit, termKit } from './term-kit.ts';

async function ask(kit: TermKit, id = 'incident1', own: { desk?: AlertDesk; look?: () => undefined } = {}) {
  const clock = createFakeClock(T0);
  const deps = { clock, masker: createMasker(), desk: kit.desk, look: kit.term.look, ...own };
  const app: ApiApp = new Hono();
  incidentRoutes(deps)(app, { permit: () => undefined } as unknown as Guard);
  app.onError((error) => problem(refusalOf(error)));
  const answer = await app.request(`/api/v1/incidents/${id}`, {}, { incoming: {} });
  const text = await answer.text();
  return { status: answer.status, text, json: JSON.parse(text) as Record<string, unknown> };
}

const detail = async (kit: TermKit, own = {}) => (await ask(kit, 'incident1', own)).json as unknown as IncidentDetail;

/** One rule about the failure ratio, per tenant. */
const TENANTS = rulesOf(
  '  tenant: { title: Tenant, priority: P1, kind: ratio, measure: call.failure_ratio, above: 20 %, labels: [tenantId], keepFiring: 0s }',
);

describe('the chart of an alert', () => {
  it('is its measure with its labels, each point as it was then', async () => {
    const kit = termKit(TENANTS);
    for (let ago = 20; ago >= 1; ago--) calls(kit.stage, T0 - ago * MINUTE, { ok: 10 });
    // Somebody else's calls are not in it.
    for (let ago = 20; ago >= 1; ago--) calls(kit.stage, T0 - ago * MINUTE, { failed: 5, tenant: 'other' });
    calls(kit.stage, T0, { failed: 50 });
    kit.at(T0 + SECOND);
    const { charts, query, incident } = await detail(kit);
    expect(charts).toHaveLength(2);
    const chart = charts.find(({ labels }) => labels.tenantId === 'acme')!;
    expect(chart).toMatchObject({
      ...{ alert: 'tenant{tenantId="acme"}', rule: 'tenant', measure: 'call.failure_ratio', unit: 'ratio', step: 10 },
      ...{ threshold: 0.2, thresholdText: '20 %', firedAt: '2026-11-24T12:00:01.000Z', resolvedAt: null, note: null },
    });
    const at = (ms: number) => chart.points[(ms - Date.parse(chart.from)) / 1_000 / chart.step];
    // A point is the window that ends there: the 50 of 90 are in the last one only.
    expect([at(T0), at(T0 + 10 * SECOND)]).toEqual([0, 50 / 90]);
    expect(chart.points.length).toBeLessThanOrEqual(120);
    expect(query).toMatch(/^event: "call.ended" and call.status: failed and tenantId: (acme|other)$/);
    expect(incident).toMatchObject({ id: 'incident1', state: 'firing', priority: 'P1' });
  });

  it('ends some minutes after the alert; what the windows do not reach is said', async () => {
    const kit = termKit(TENANTS);
    for (let ago = 6; ago >= 1; ago--) calls(kit.stage, T0 - ago * MINUTE, { ok: 10 });
    calls(kit.stage, T0, { failed: 50 });
    kit.at(T0 + SECOND);
    calls(kit.stage, T0 + 6 * MINUTE, { ok: 100 });
    kit.at(T0 + 6 * MINUTE + 20 * SECOND);
    kit.at(T0 + 6 * MINUTE + 30 * SECOND);
    kit.at(T0 + 40 * MINUTE);
    const [chart] = (await detail(kit)).charts;
    // First counted six minutes before.
    expect(chart).toMatchObject({
      ...{ from: '2026-11-24T11:54:10.000Z', resolvedAt: expect.stringMatching(/^2026-11-24T12:06/) },
      note: 'nothing is known from before 2026-11-24T11:54:10.000Z',
    });
    const end = Date.parse(chart!.from) + (chart!.points.length - 1) * chart!.step * SECOND;
    expect(end).toBeLessThanOrEqual(T0 + 12 * MINUTE);
    expect(end).toBeGreaterThanOrEqual(T0 + 11 * MINUTE);
    kit.at(T0 + 3 * HOUR);
    const [late] = (await detail(kit)).charts;
    expect(late!.points).toEqual([]);
    expect(late!.note).toMatch(/^nothing is known from before /);
  });

  it('of a silence shows what came before it', async () => {
    const kit = termKit(RULES);
    for (let ago = 20; ago >= 4; ago--) kit.stage.count('log.events', ['info', '1'], 30, T0 - ago * MINUTE);
    kit.at(T0);
    const [chart] = (await detail(kit)).charts;
    expect(chart).toMatchObject({ rule: 'application-silent', measure: 'log.events', unit: 'count', threshold: null });
    expect(chart!.note).toContain('events per minute');
    expect(new Set(chart!.points)).toEqual(new Set([30, 0]));
    expect(chart!.points.at(-1)).toBe(0);
  });

  it('without windows has no points, and says where they are', async () => {
    const kit = termKit(TENANTS);
    calls(kit.stage, T0, { failed: 50 });
    kit.at(T0 + SECOND);
    const { charts, query } = await detail(kit, { look: () => undefined });
    expect(charts).toMatchObject([{ points: [], note: expect.stringContaining('role alerter') }]);
    expect(query).toBeNull();
  });
});

describe('the query line', () => {
  /** What an alert of a rule with this tenant is looked for with. */
  async function lineOf(yaml: string, count: (kit: TermKit) => void): Promise<string | null> {
    const kit = termKit(rulesOf(yaml));
    count(kit);
    kit.at(T0 + SECOND);
    return (await detail(kit)).query;
  }

  it.each([
    ['acme', 'acme'],
    ['a"b', '"a\\"b"'],
    ['a" or tenantId: *', '"a\\" or tenantId: *"'],
    ['back\\', '"back\\\\"'],
    ['or', '"or"'],
    ['NOT', '"NOT"'],
    ['*', '"*"'],
    ['two words (and more)', '"two words (and more)"'],
    ['line\nbreak', '"line\nbreak"'],
    ['42', '"42"'],
  ])('quotes a tenant named %j', async (tenant, quoted) => {
    const yaml =
      '  tenant: { title: T, priority: P1, kind: ratio, measure: call.failure_ratio, above: 20 %, labels: [tenantId] }';
    const line = await lineOf(yaml, (kit) => calls(kit.stage, T0, { failed: 50, tenant }));
    expect(line).toBe(`event: "call.ended" and call.status: failed and tenantId: ${quoted}`);
  });

  it('finds what made the value bad', async () => {
    // A ratio that is too low: whatever is not in its numerator.
    expect(
      await lineOf('  low: { title: T, priority: P1, kind: ratio, measure: call.success_ratio, below: 50 % }', (kit) =>
        calls(kit.stage, T0, { failed: 50 }),
      ),
    ).toBe('event: "call.ended" and not call.status: (completed or voicemail)');
    // A percentile: those that took longer.
    expect(
      await lineOf('  slow: { title: T, priority: P1, kind: percentile, measure: http.p95, above: 500 ms }', (kit) =>
        kit.stage.observe('http.duration', ['GET', '/a'], new Array(60).fill(900), T0),
      ),
    ).toBe('event: "http.request" and http.durationMs >= 500');
    expect(
      await lineOf(
        '  errors: { title: T, priority: P1, kind: ratio, measure: http.error_ratio, above: 5 % }',
        (kit) => {
          kit.stage.count('http.requests', ['GET', '/a', '503'], 60, T0);
          kit.stage.count('http.errors', ['/a', '503'], 60, T0);
        },
      ),
    ).toBe('event: "http.request" and http.status >= 500');
    // Read by logpipe itself: there are no events.
    expect(
      await lineOf(
        '  letters: { title: T, priority: P1, kind: threshold, measure: logpipe.dead_letter_ratio, above: 1 % }',
        (kit) => kit.stage.evaluator.store.setGauge('logpipe.dead_letter_ratio', {}, 0.5, T0),
      ),
    ).toBeNull();
  });
});

describe('the history', () => {
  it('says in words what the records know, oldest first, and that more is not kept', async () => {
    const kit = termKit(TENANTS);
    calls(kit.stage, T0, { failed: 50 });
    kit.at(T0 + SECOND);
    const by = { by: 'ada, by token ops', via: 'api' } as const;
    kit.at(T0 + MINUTE, [{ kind: 'acknowledge', incidentId: 'incident1', commandId: 'c1', ...by }]);
    calls(kit.stage, T0 + 6 * MINUTE, { ok: 100 });
    kit.at(T0 + 6 * MINUTE + 20 * SECOND);
    kit.at(T0 + 6 * MINUTE + 30 * SECOND);
    const { history, note, incident } = await detail(kit);
    expect(incident.state).toBe('resolved');
    const texts = history.map(({ text }) => text);
    expect(texts).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^P1 Tenant \(tenantId=acme\) began: /),
        'The incident was opened',
        'People were told last: P1 Tenant',
        'Acknowledged by ada, by token ops (api)',
        'P1 Tenant (tenantId=acme) ended',
        'The end was sent to slack',
        'The incident was resolved: none of its alerts fires any more',
      ]),
    );
    expect(history.map(({ at }) => at)).toEqual(history.map(({ at }) => at).sort());
    expect(history.find(({ text }) => text.startsWith('Acknowledged'))!.at).toBe('2026-11-24T12:01:00.000Z');
    expect(note).toContain('the last one is known');
  });

  test('nothing that came from a log breaks a line or shows a secret', async () => {
    const kit = termKit(TENANTS);
    calls(kit.stage, T0, { failed: 50, tenant: 'x\u202e\npassword=hunter2secret' });
    kit.at(T0 + SECOND);
    const { text, json } = await ask(kit);
    expect(text).not.toContain('hunter2secret');
    for (const { text } of (json as unknown as IncidentDetail).history) expect(text).not.toMatch(/[\n\u202e]/);
  });
});

describe('who asks for what is not there', () => {
  it('gets 404, and 503 while nothing is known', async () => {
    const kit = termKit(TENANTS);
    expect(await ask(kit, 'incident1')).toMatchObject({
      ...{ status: 404, json: { detail: 'there is no incident incident1; it may be older than 30 days' } },
    });
    const away = async () => {
      throw new DeskClosedError('Kafka does not answer');
    };
    expect(await ask(kit, 'incident1', { desk: { ...kit.desk, state: away } })).toMatchObject({ status: 503 });
  });
});
