// What the page shows first, judged against numbers counted by hand: real windows, rules and alert machine, and a clock that stands still.
import { describe, expect, it, onTestFinished, test } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createFigures, type FiguresDeps } from '../../../src/ops/figures.ts';
import { createStageLogs } from '../../../src/ops/flow.ts';
import type { FigureId, Tick } from '../../../src/ops/page-data.ts';
import { Refusal } from '../../../src/ops/requests.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';
import { calls, MINUTE, rulesOf, SECOND, T0 } from '../rules/kit.ts';
import { type TermKit, termKit } from './term-kit.ts';

interface Rig {
  readonly kit: TermKit;
  readonly clock: ReturnType<typeof createFakeClock>;
  readonly metrics: ReturnType<typeof createMetrics>;
  readonly figures: ReturnType<typeof createFigures>;
  /** Asks, waits until the counters were read, and asks again. */
  tick(): Promise<Tick>;
  figure(id: FigureId): Promise<Tick['figures'][number]>;
}

function rig(own: Partial<FiguresDeps> = {}, kit = termKit()): Rig {
  const clock = createFakeClock(T0);
  const metrics = createMetrics();
  const figures = createFigures({
    ...{
      version: '1.2.3',
      roles: ['indexer', 'counter', 'alerter'],
      source: 'kafka',
      startedMs: 0,
      environment: 'test',
    },
    ...{ clock, metrics, masker: createMasker(), readiness: () => [], lastError: () => null, term: () => kit.term },
    ...own,
  });
  onTestFinished(() => figures.close());
  const tick = async () => {
    figures.tick();
    await settled();
    return figures.tick();
  };
  return {
    ...{ kit, clock, metrics, figures, tick },
    figure: async (id) => (await tick()).figures.find((one) => one.id === id)!,
  };
}

/** `errors` of `all` events in the 10 s of `atMs`. */
function events({ stage }: TermKit, atMs: number, all: number, errors = 0): void {
  stage.count('log.events', ['info', '1'], all - errors, atMs);
  if (errors === 0) return;
  stage.count('log.events', ['error', '1'], errors, atMs);
  stage.count('log.errors', ['1', 'api'], errors, atMs);
}

describe('a figure, now', () => {
  it('is the share, the percentile or the sum of the last five minutes, beside target and threshold', async () => {
    const { kit, figure } = rig();
    // Six minutes ago: no longer in any window.
    events(kit, T0 - 6 * MINUTE, 1_000, 900);
    for (let i = 0; i < 5; i++) events(kit, T0 - i * MINUTE, 200, 3);
    kit.stage.observe(
      'http.duration',
      ['GET', '/a'],
      Array.from({ length: 100 }, (_, i) => (i < 90 ? 100 : 400)),
      T0,
    );
    calls(kit.stage, T0, { failed: 10, ok: 30 });
    for (const [name, size] of [
      ['mails', 70],
      ['calls', 60],
    ] as const)
      kit.stage.gauge('queue.size', [name], size, T0);
    kit.at(T0 + SECOND);
    // 15 of 1,000.
    expect(await figure('errors')).toMatchObject({
      ...{ value: 0.015, text: '1.50 %', target: 'below 1 %', threshold: null },
    });
    const p95 = await figure('p95');
    expect(Math.abs(p95.value! - 400)).toBeLessThan(400 * 0.05);
    expect(p95).toMatchObject({ target: 'below 200 ms', threshold: 'alert above 500 ms', state: 'warn', note: null });
    expect(await figure('calls')).toMatchObject({
      ...{ value: 0.75, text: '75.00 %', target: 'above 70 %', threshold: 'alert below 50 %', state: 'good' },
    });
    // Neither queue is over 100; together they are over the target, and no rule would say so.
    expect(await figure('queues')).toMatchObject({
      ...{ value: 130, text: '130', target: 'below 100', threshold: 'alert above 500 in one queue', state: 'warn' },
    });
  });

  it('is bad beyond a threshold, and while an alert on what is marked in it fires', async () => {
    const { kit, figure } = rig();
    events(kit, T0, 100_000);
    kit.stage.gauge('queue.size', ['mails'], 501, T0);
    kit.at(T0 + SECOND);
    // None was an error: that is known.
    expect(await figure('errors')).toMatchObject({ value: 0, state: 'good' });
    events(kit, T0 + SECOND, 10_000, 1);
    kit.at(T0 + 2 * SECOND);
    expect(await figure('errors')).toMatchObject({ state: 'good' });
    expect(await figure('queues')).toMatchObject({ state: 'bad' });
    calls(kit.stage, T0 + 2 * SECOND, { failed: 30, ok: 10 });
    kit.at(T0 + 3 * SECOND);
    expect(await figure('errors')).toMatchObject({ state: 'bad' });
  });

  it('goes by the rules in force, which somebody may have changed', async () => {
    const { kit, figure, figures } = rig();
    events(kit, T0, 1_000, 40);
    kit.at(T0 + SECOND);
    expect(await figure('errors')).toMatchObject({ threshold: null, state: 'warn' });
    const own = (percent: number, priority: string) =>
      `  own-${priority.toLowerCase()}: { title: Own, priority: ${priority}, kind: ratio, measure: log.error_ratio, above: ${percent} % }`;
    kit.changeRules(rulesOf([own(10, 'P1'), own(5, 'P2')].join('\n')));
    expect(await figure('errors')).toMatchObject({ threshold: 'alert above 5 % (P2), above 10 % (P1)', state: 'warn' });
    // Rules about a part of the events are not about this figure.
    kit.changeRules(rulesOf(`${own(3, 'P2')}\n${own(1, 'P3').replace(' }', ', labels: [version] }')}`));
    expect(await figure('errors')).toMatchObject({ threshold: 'alert above 3 %', state: 'bad' });
    expect(await figure('p95')).toMatchObject({ threshold: null });
    const { thresholds } = await figures.history(undefined, undefined);
    expect(thresholds).toEqual([{ figure: 'errors', rule: 'own-p2', priority: 'P2', value: 0.03, text: '3 %' }]);
  });

  it('says nothing of a few events, and null of none', async () => {
    const { kit, figure, tick } = rig();
    kit.at(T0 + SECOND);
    for (const { id, value, text, note } of (await tick()).figures) {
      if (['errors', 'p95', 'calls', 'queues'].includes(id)) {
        expect({ id, value, text }).toEqual({ id, value: null, text: '–' });
        expect(note).toMatch(/^there is nothing of [\w.]+ in the last 5 min$/);
      }
    }
    calls(kit.stage, T0 + SECOND, { failed: 1 });
    kit.at(T0 + 2 * SECOND);
    expect(await figure('calls')).toMatchObject({ value: 0, state: 'unknown', note: 'of only 1 event in 5 min' });
  });

  it('of this process’s counters is a difference over time, not a count', async () => {
    const { kit, figure, metrics, clock, tick } = rig();
    kit.at(T0 + SECOND);
    metrics.consumed.inc(1_000_000);
    metrics.deadLettered.inc({ reason: 'x' }, 7);
    metrics.lag.set({ group: 'indexer', partition: '0' }, 1_000);
    metrics.lag.set({ group: 'indexer', partition: '1' }, 204);
    metrics.lag.set({ group: 'counter', partition: '0' }, 900);
    expect(await figure('events')).toMatchObject({ value: null, note: 'it is known in a few seconds' });
    for (let i = 0; i < 5; i++) {
      await clock.advance(1_000);
      metrics.consumed.inc(50);
      await tick();
    }
    expect(await figure('events')).toMatchObject({ value: 50, text: '50/s', state: 'good' });
    expect(await figure('lag')).toMatchObject({
      value: 1_204,
      text: '1,204 records',
      threshold: 'alert above 100000 in one group',
    });
    await clock.advance(MINUTE);
    metrics.deadLettered.inc({ reason: 'y' }, 2);
    expect(await figure('deadLetters')).toMatchObject({ value: 2, text: '2/min, 9 since the start', state: 'warn' });
  });

  it('says who knows it, where alerts are not evaluated or nothing is read', async () => {
    const { tick } = rig({ term: () => undefined, roles: ['indexer'], source: 'files' });
    const indexer = await tick();
    const note = (id: FigureId, of: Tick) => of.figures.find((one) => one.id === id)!.note;
    expect(note('errors', indexer)).toBe(
      'the alerts are not evaluated here; the process with the role alerter knows it',
    );
    expect(note('lag', indexer)).toBe('without Kafka nothing waits in a log');
    expect(indexer.alerts).toBeNull();
    const alerter = await rig({ roles: ['alerter'] }).tick();
    expect(note('deadLetters', alerter)).toMatch(/the process with the role indexer knows it/);
    expect(alerter.figures.every(({ value }) => value === null)).toBe(true);
  });
});

describe('the last hour', () => {
  it('has each point as it was then, and null where nothing was', async () => {
    const kit = termKit();
    // Every minute for half an hour: 60 events; errors only in one minute, 20 minutes ago.
    for (let ago = 30; ago >= 0; ago--) events(kit, T0 - ago * MINUTE, 60, ago === 20 ? 30 : 0);
    calls(kit.stage, T0 - 10 * MINUTE, { failed: 1, ok: 3 });
    kit.at(T0 + 16 * SECOND);
    const { figures } = rig({}, kit);
    const { from, step, series } = await figures.history(undefined, undefined);
    const at = (id: FigureId, ms: number) => series[id]![(ms - Date.parse(from)) / 1_000 / step];
    expect(step).toBe(10);
    expect(series.errors).toHaveLength(360);
    // 60 events in the 10 s that begin with the minute, none in the others; before anything was counted, nothing is known.
    expect([at('events', T0), at('events', T0 - 10 * SECOND), at('events', T0 - 31 * MINUTE)]).toEqual([6, 0, null]);
    // 30 of the five minutes' 300, for five minutes.
    const shares = [-10, 0, 290, 300].map((s) => at('errors', T0 - 20 * MINUTE + s * SECOND));
    expect(shares).toEqual([0, 0.1, 0.1, 0]);
    expect(at('errors', T0 - 40 * MINUTE)).toBeNull();
    expect([at('calls', T0 - 10 * MINUTE), at('calls', T0 - 5 * MINUTE), at('calls', T0 - 11 * MINUTE)]).toEqual([
      ...[0.75, null, null],
    ]);
    expect(series.p95!.every((value) => value === null)).toBe(true);
  });

  it('is read once, and goes on with what comes', async () => {
    const kit = termKit();
    events(kit, T0 - MINUTE, 100, 10);
    kit.at(T0 + 6 * SECOND);
    const clock = createFakeClock(T0);
    const { figures, metrics } = rig({ clock, term: () => ({ ...kit.term, now: clock.now }) }, kit);
    await figures.history(undefined, undefined);
    metrics.consumed.inc(500);
    metrics.deadLettered.inc({ reason: 'x' }, 3);
    events(kit, T0 + SECOND, 100, 0);
    for (let s = 10; s <= 60; s += 10) {
      kit.at(T0 + s * SECOND + 6 * SECOND);
      await clock.advance(10 * SECOND + 60);
    }
    const { from, series } = await figures.history(undefined, undefined);
    const at = (id: FigureId, ms: number) => series[id]![(ms - Date.parse(from)) / 10_000];
    expect([at('events', T0), at('errors', T0), at('errors', T0 - 10 * SECOND)]).toEqual([10, 0.05, 0.1]);
    // Three letters in 10 s are 18 a minute; before the first look nothing is known.
    const letters = series.deadLetters!.filter((value) => value !== null);
    expect(letters.map((value) => Math.round(value))).toEqual([18, 0, 0, 0, 0, 0]);
    expect(at('deadLetters', T0 - MINUTE)).toBeNull();
  });

  it('marks alerts in the chart that they are about, ended ones too', async () => {
    const kit = termKit(
      rulesOf(
        '  failing: { title: "Failing token=hunter2secret", priority: P1, kind: ratio, measure: call.failure_ratio, above: 20 %, keepFiring: 0s }',
      ),
    );
    calls(kit.stage, T0, { failed: 30, ok: 10 });
    kit.at(T0 + 6 * SECOND);
    const { figures } = rig({}, kit);
    const spans = async () => (await figures.history(undefined, undefined)).alerts;
    expect(await spans()).toMatchObject([
      {
        figure: 'errors',
        rule: 'failing',
        priority: 'P1',
        incident: 'incident1',
        from: '2026-11-24T12:00:06.000Z',
        to: null,
      },
    ]);
    expect(JSON.stringify(await spans())).not.toContain('hunter2secret');
    calls(kit.stage, T0 + 6 * MINUTE, { ok: 100 });
    kit.at(T0 + 6 * MINUTE + 20 * SECOND);
    kit.at(T0 + 6 * MINUTE + 30 * SECOND);
    expect(await spans()).toMatchObject([{ rule: 'failing', to: expect.stringMatching(/^2026-11-24T12:06/) }]);
  });

  it('further back has sums of five minutes, for a day; what it cannot have is left out', async () => {
    const kit = termKit();
    events(kit, T0 - 3 * 60 * MINUTE, 300, 30);
    for (let ago = 179; ago >= 0; ago--) events(kit, T0 - ago * MINUTE, 60);
    kit.at(T0 + 6 * SECOND);
    const { figures } = rig({}, kit);
    const { step, from, series, note } = await figures.history('2026-11-24T08:00:00Z', undefined);
    expect([step, from]).toEqual([300, '2026-11-24T08:00:00.000Z']);
    expect(series.errors!.slice(11, 14)).toEqual([null, 30 / 540, 0]);
    expect(series.events!.slice(12, 14)).toEqual([540 / 300, 1]);
    // The present five minutes are not over.
    expect(series.events!.slice(-2)).toEqual([1, null]);
    expect(series.p95).toBeUndefined();
    expect(note).toContain('only events, error rate and call success');
    expect((await figures.history('2020-01-01T00:00:00Z', undefined)).series.errors!.length).toBeLessThanOrEqual(289);
  });

  it('refuses what is no time, and a time that is none', async () => {
    const { figures } = rig();
    for (const [from, to] of [
      ['yesterday', undefined],
      ['2026-13-40T00:00:00Z', undefined],
      ['2026-11-24T12:00:00Z', '2026-11-24T11:00:00Z'],
      ['2027-11-24T12:00:00Z', undefined],
    ] as const) {
      await expect(figures.history(from, to)).rejects.toBeInstanceOf(Refusal);
    }
  });
});

describe('alerts in numbers', () => {
  const rules = rulesOf(
    '  failing: { title: Failing, priority: P1, kind: ratio, measure: call.failure_ratio, above: 20 % }\n' +
      '  slow: { title: Slow, priority: P3, kind: ratio, measure: log.error_ratio, above: 1 %, for: 5m }',
  );

  it('change their revision with whatever a list shows, and with nothing else', async () => {
    const kit = termKit(rules);
    const { figures, clock } = rig({}, kit);
    const alerts = () => figures.tick().alerts!;
    kit.at(T0);
    const quiet = alerts();
    expect(quiet).toMatchObject({ firing: 0, pending: 0, acknowledged: 0 });
    events(kit, T0, 1_000, 100);
    kit.at(T0 + SECOND);
    const pending = alerts();
    expect(pending).toMatchObject({ firing: 0, pending: 1 });
    calls(kit.stage, T0 + SECOND, { failed: 30 });
    kit.at(T0 + 2 * SECOND);
    const firing = alerts();
    expect(firing).toMatchObject({ firing: 1, pending: 1, acknowledged: 0 });
    kit.at(T0 + 3 * SECOND);
    expect(alerts()).toEqual(firing);
    const by = { by: 'ada', via: 'api' } as const;
    kit.at(T0 + 4 * SECOND, [{ kind: 'acknowledge', incidentId: 'incident1', commandId: 'c1', ...by }]);
    const taken = alerts();
    expect(taken).toMatchObject({ firing: 0, acknowledged: 1 });
    const silence = { id: 's1', ruleId: 'slow', untilMs: T0 + MINUTE, by: 'ada', reason: 'test' };
    kit.at(T0 + 5 * SECOND, [{ kind: 'silence', commandId: 'c2', silence, via: 'api' }]);
    const silenced = alerts();
    clock.setWall(T0 + 2 * MINUTE);
    const over = alerts();
    const revisions = [quiet, pending, firing, taken, silenced, over].map(({ revision }) => revision);
    expect(new Set(revisions).size).toBe(revisions.length);
    // Another process must not seem to have nothing new.
    clock.setWall(T0 + 3 * MINUTE);
    expect(rig({ clock }, kit).figures.tick().alerts!.revision).not.toBe(over.revision);
  });
});

describe('the flow', () => {
  it('says of each stage what is wrong, and what it complained of last: masked, cut, on one line', async () => {
    const clock = createFakeClock(T0);
    const logs = createStageLogs(silentLog, { clock, masker: createMasker() });
    logs.of('index').warn('fine so far');
    logs
      .of('index')
      .error('Sink elasticsearch:\nwriting failed', { reason: `password=hunter2secret ${'x'.repeat(1_000)}` });
    logs.of('index').info('written again');
    logs.of('rules').error('CRITICAL ALERT', { title: 'Calls fail' });
    const { tick } = rig({
      lastError: logs.lastError,
      readiness: () => [
        { name: 'kafka', ready: true, detail: 'reading' },
        { name: 'elasticsearch', ready: false, detail: 'it does not answer' },
        { name: 'alerter', ready: true, detail: 'evaluating' },
      ],
    });
    const { flow, ready } = await tick();
    const stage = (id: string) => flow.stages.find((one) => one.id === id)!;
    expect(ready).toBe(false);
    expect(flow.stages.map(({ id }) => id)).toEqual([
      ...['source', 'parse', 'index', 'deadLetters', 'count', 'rules', 'messages'],
    ]);
    expect(stage('index')).toMatchObject({ state: 'failing', trouble: 'it does not answer' });
    const { at, text } = stage('index').lastError!;
    expect(at).toBe('2026-11-24T12:00:00.000Z');
    expect(text).toMatch(/^Sink elasticsearch:\\nwriting failed: /);
    expect(text).not.toContain('hunter2secret');
    expect(text.length).toBeLessThanOrEqual(300);
    expect(stage('rules').lastError).toBeNull();
    expect(stage('source')).toMatchObject({ state: 'good', lastError: null });
  });

  test('a stage of another process is elsewhere, and has no numbers', async () => {
    const { tick, metrics } = rig({ roles: ['indexer'], term: () => undefined });
    metrics.inFlightBytes.set(3_000_000);
    const { stages } = (await tick()).flow;
    expect(stages.map(({ id, state }) => `${id} ${state}`)).toEqual([
      ...['source good', 'parse good', 'index good', 'deadLetters good'],
      ...['count elsewhere', 'rules elsewhere', 'messages elsewhere'],
    ]);
    expect(stages[2]!.backlog).toBe('3 MB');
    expect(stages.slice(4).every(({ perSecond, backlog }) => perSecond === null && backlog === null)).toBe(true);
  });

  test('an instance that stands by decides nothing, and one that cannot decide fails', async () => {
    const alerter = async (ready: boolean, detail: string) => {
      const own = { term: () => undefined, readiness: () => [{ name: 'alerter', ready, detail }] };
      return (await rig(own).tick()).flow.stages.find(({ id }) => id === 'rules')!;
    };
    expect(await alerter(true, 'standing by: another instance decides')).toMatchObject({ state: 'elsewhere' });
    expect(await alerter(false, 'taking over')).toMatchObject({ state: 'failing', trouble: 'taking over' });
  });

  test('messages that no channel has taken wait', async () => {
    const kit = termKit();
    calls(kit.stage, T0, { failed: 30, ok: 10 });
    kit.at(T0 + SECOND);
    const messages = (await rig({}, kit).tick()).flow.stages.at(-1)!;
    expect(messages).toMatchObject({ id: 'messages', state: 'waiting' });
    expect(messages.backlog).toMatch(/^\d+ messages?$/);
  });
});
