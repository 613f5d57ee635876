// What is said of a rule to people who ask: what it means, and why it fires or not. The evaluator and the alert machine say what is true;
// the explanation has to say the same, with the numbers people can check, and asking must change nothing.

import { describe, expect, it, test } from 'vitest';
import type { TermState } from '../../../src/alerter/alerter.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createAlertMachine } from '../../../src/incidents/machine.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import { createAlertingView, explainRule, meaningOf } from '../../../src/ops/explain.ts';
import { createStatusView } from '../../../src/ops/http.ts';
import { createKnownSet } from '../../../src/rules/known-sets.ts';
import { type Rules, toDecidingRule } from '../../../src/rules/rule-config.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { calls, createStage, HOUR, MEASURES, MINUTE, RULES, rulesOf, SECOND, T0 } from '../rules/kit.ts';

/** Counting, judging and deciding, as a term does it. */
function scene(rules: Rules = RULES, deps: Parameters<typeof createStage>[1] = {}) {
  const stage = createStage(rules, deps);
  let ids = 0;
  const machine = createAlertMachine(rules.map(toDecidingRule), new Map(), {
    nextId: () => `i${++ids}`,
    environment: 'test',
    routes: routesByPriority(() => []),
    masker: createMasker(),
  });
  return {
    stage,
    at(ms: number, options?: Parameters<typeof stage.tick>[1]): TermState {
      const { times, observations } = stage.tick(ms, options);
      machine.accept(machine.step({ evalMs: times.evalMs, wallMs: ms, observations }));
      const { store } = stage.evaluator;
      return {
        rules,
        store,
        times,
        observations,
        alerts: machine.alerts(),
        incidents: machine.incidents(),
        silences: machine.silences(),
      };
    },
  };
}

function explained(state: TermState, id: string, max = 50) {
  return explainRule(state.rules.find((rule) => rule.id === id)!, state, max);
}

/** What is said of a rule without labels: state, reason, and how its alert stands. */
function said(state: TermState, id: string) {
  const { sets, note } = explained(state, id);
  const [set] = sets;
  return set === undefined ? [note] : [set.state, set.because, ...(set.alert === null ? [] : [set.alert.text])];
}

const textOf = (id: string, rules = RULES) =>
  Object.fromEntries(meaningOf(rules.find((rule) => rule.id === id)!, MEASURES));

describe('what a rule means', () => {
  it('in words, of every shipped rule', () => {
    for (const rule of RULES) {
      const lines = meaningOf(rule, MEASURES);
      expect(lines.map(([name]) => name)).toEqual(expect.arrayContaining(['fires when', 'for', 'ends', 'messages']));
      expect(JSON.stringify(lines), rule.id).not.toMatch(/undefined|NaN|\[object/);
    }
  });

  it('measure and what it is made of, condition, muting', () => {
    expect(meaningOf(RULES.find(({ id }) => id === 'elevated-error-rate')!, MEASURES).slice(0, 5)).toEqual([
      ['measure', 'call.failure_ratio: calls.failed divided by calls.ended'],
      ['', expect.stringMatching(/^calls\.failed: events where event is call\.ended and call\.status is /)],
      ['', 'calls.ended: events where event is call.ended'],
      ['window', 'the last 5 min'],
      ['fires when', 'call.failure_ratio is above 10 %, with at least 60 events'],
    ]);
    expect(textOf('elevated-error-rate')).toMatchObject({
      grouping: 'one alert over everything',
      for: 'at once',
      muted: 'while high-error-rate or application-silent fires',
    });
    expect(textOf('many-calls-failing')).toMatchObject({
      window: 'the last 60 events, of 60 min at most',
      'only while': 'elevated-error-rate has too few events to be judged',
    });
  });
});

describe('why it fires or not', () => {
  it('too few events, within bounds, breached; the numbers are those of the window', () => {
    const { stage, at } = scene();
    expect(said(at(T0), 'high-error-rate')).toEqual([
      'unknown',
      'there is nothing of call.failure_ratio in the last 5 min',
    ]);
    calls(stage, T0 + SECOND, { failed: 1, ok: 11 });
    expect(said(at(T0 + 2 * SECOND), 'high-error-rate')).toEqual([
      'unknown',
      '12 events in 5 min, and with fewer than 20 nothing is said',
    ]);
    calls(stage, T0 + 3 * SECOND, { ok: 28 });
    expect(said(at(T0 + 20 * SECOND), 'high-error-rate')).toEqual(['clear', '2.50 % (1 of 40) is not above 20 %']);
    calls(stage, T0 + 21 * SECOND, { failed: 20 });
    const state = at(T0 + 22 * SECOND);
    expect(said(state, 'high-error-rate')).toEqual([
      'breached',
      '35.00 % (21 of 60) is above 20 %',
      'fires since 2026-11-24T12:00:22Z',
    ]);
    expect(explained(state, 'high-error-rate').sets[0]).toMatchObject({
      value: 0.35,
      threshold: 0.2,
      volume: 60,
      from: '2026-11-24T11:55:30Z',
      to: '2026-11-24T12:00:30Z',
      alert: { phase: 'firing', incident: 'i1', muted: null },
    });
    // The other one is breached as well, and says whom it waits for.
    expect(said(state, 'elevated-error-rate').at(-1)).toBe(
      'fires since 2026-11-24T12:00:22Z; muted while high-error-rate fires',
    );
  });

  it('pending for so long; then clear, but kept', () => {
    const rules = rulesOf(
      '  slow: { title: Slow, priority: P2, kind: ratio, measure: call.failure_ratio, above: 20 %, for: 2m, keepFiring: 1m }',
    );
    const { stage, at } = scene(rules);
    calls(stage, T0, { failed: 30, ok: 10 });
    at(T0 + SECOND);
    expect(said(at(T0 + 41 * SECOND), 'slow').at(-1)).toBe('pending: it has held for 40 s of 2 min');
    at(T0 + 121 * SECOND);
    calls(stage, T0 + 125 * SECOND, { ok: 400 });
    at(T0 + 145 * SECOND);
    expect(said(at(T0 + 160 * SECOND), 'slow')).toEqual([
      'clear',
      '6.82 % (30 of 440) is not above 20 %',
      expect.stringMatching(/^fires since .*; clear for \d+ s of the 60 s after which it ends$/),
    ]);
  });

  it('of many label sets those nearest to their threshold, and how many more there are', () => {
    const rules = rulesOf(
      '  tenant: { title: Tenant, priority: P2, kind: ratio, measure: call.failure_ratio, above: 50 %, labels: [tenantId] }',
    );
    const { stage, at } = scene(rules);
    for (let i = 0; i < 60; i++) calls(stage, T0, { failed: i, ok: 100 - i, tenant: `t${i}` });
    const status = explained(at(T0 + 20 * SECOND), 'tenant', 3);
    expect(status).toMatchObject({ state: 'breached', more: 57, counts: { breached: 9, clear: 51 } });
    expect(status.sets.map(({ labels }) => labels.tenantId)).toEqual(['t59', 't58', 't57']);
  });

  it('a low-volume rule says who speaks instead; a rule over what never came, that nothing was seen', () => {
    const { stage, at } = scene();
    calls(stage, T0, { ok: 100 });
    const state = at(T0 + 20 * SECOND);
    expect(said(state, 'all-calls-failing')).toEqual([
      'clear',
      'high-error-rate has enough events, and is judged instead',
    ]);
    expect(said(state, 'queue-backlog')).toEqual(['nothing of queue.size has been seen']);
  });

  it('a spike says what is usual, and first that it does not know yet', () => {
    const rules = rulesOf(
      '  spike: { title: Spike, priority: P2, kind: spike, measure: log.errors, window: 5m, baseline: 1h, floor: 20 }',
    );
    const { stage, at } = scene(rules);
    const [labels] = [['api', '1.0', 'x']];
    stage.count('log.errors', labels!, 2, T0);
    expect(said(at(T0 + 20 * SECOND), 'spike')).toEqual([
      'unknown',
      'too little of the last 60 min is known to say what is usual',
    ]);
    for (let minute = 1; minute < 70; minute++) stage.count('log.errors', labels!, 2, T0 + minute * MINUTE);
    stage.count('log.errors', labels!, 100, T0 + 70 * MINUTE);
    expect(said(at(T0 + 70 * MINUTE + 2 * SECOND), 'spike').slice(0, 2)).toEqual([
      'breached',
      expect.stringMatching(/^10\d is above \d+ \(usually 10\)$/),
    ]);
  });

  it('a label set that is no worse than all the others says so', () => {
    const { stage, at } = scene();
    for (const tenant of ['a', 'b', 'c']) calls(stage, T0, { failed: 90, ok: 10, tenant });
    expect(said(at(T0 + 20 * SECOND), 'tenant-error-rate')).toEqual([
      'clear',
      '90.00 % (90 of 100) is above 30 %, but not 3 × that of all others together',
    ]);
  });

  it('while logpipe is behind it says so', () => {
    const { stage, at } = scene();
    calls(stage, T0, { failed: 30, ok: 10 });
    const state = at(T0 + 10 * MINUTE, { readMs: T0 + 5 * SECOND });
    expect(said(state, 'high-error-rate')[0]).toBe('held');
    expect(said(state, 'high-error-rate')[1]).toMatch(/^logpipe is [\d.]+ min behind: until it has caught up/);
  });

  it('of every shipped rule, whatever was counted, without a word that means nothing, and nothing changes by asking', () => {
    const known = createKnownSet(T0 - 48 * HOUR);
    const { stage, at } = scene(RULES, { known });
    calls(stage, T0, { failed: 30, ok: 10 });
    stage.count('error.templates', ['provider failed <n>'], 3, T0);
    stage.gauge('queue.size', ['scheduled-calls'], 900, T0);
    stage.observe('http.duration', ['/api/calls'], [900, 1200], T0);
    const state = at(T0 + 20 * SECOND);
    const size = known.size;
    const before = JSON.stringify(state.observations);
    for (const rule of RULES) {
      const status = explainRule(rule, state, 50);
      expect(JSON.stringify(status), rule.id).not.toMatch(/undefined|NaN|Invalid/);
      expect(status.note === null).toBe(status.sets.length > 0);
      // What the evaluator said is what is explained.
      const first = state.observations.find(({ ruleId, state }) => ruleId === rule.id && state === 'breached');
      if (first !== undefined) expect(status.state, rule.id).toBe('breached');
    }
    expect(explained(state, 'new-error').sets[0]).toMatchObject({
      labels: { 'error.template': 'provider failed <n>' },
      because: 'it was first seen within the last 10 min',
    });
    expect(known.size).toBe(size);
    expect(JSON.stringify(state.observations)).toBe(before);
  });
});

test('the status: alerts most urgent first, masked, made at most twice a second', async () => {
  const secret = ['hunter', '2hunter2'].join('');
  const rules = rulesOf(
    `  a: { title: A, priority: P2, kind: ratio, measure: call.failure_ratio, above: 20 %, message: 'password=${secret}' }
  b: { title: B, priority: P1, kind: ratio, measure: call.failure_ratio, above: 20 % }`,
  );
  const { stage, at } = scene(rules);
  calls(stage, T0, { failed: 30, ok: 10 });
  const state = at(T0 + SECOND);
  const clock = createFakeClock(T0 + SECOND);
  let looks = 0;
  const counted = {
    ...state,
    get alerts() {
      looks += 1;
      return state.alerts;
    },
  };
  const view = createStatusView(
    { version: '1', roles: ['alerter'], source: 'kafka', group: 'g' },
    {
      clock,
      readiness: () => [{ name: 'kafka', ready: false, detail: 'away' }],
      alerting: createAlertingView(() => counted, { clock, masker: createMasker() }),
    },
  );
  const status = view.status();
  expect(status).toMatchObject({
    ready: false,
    roles: ['alerter'],
    uptimeSeconds: 0,
    alerting: { firing: 2, pending: 0 },
  });
  expect(status.alerting!.alerts.map(({ rule }) => rule)).toEqual(['b', 'a']);
  expect(status.alerting!.rules.map(({ id, state }) => [id, state])).toEqual([
    ['a', 'breached'],
    ['b', 'breached'],
  ]);
  expect(JSON.stringify(status)).not.toContain(secret);
  const once = looks;
  expect(once).toBeGreaterThan(0);
  view.status();
  expect(looks).toBe(once);
  await clock.advance(500);
  view.status();
  expect(looks).toBe(2 * once);
  expect(view.rule('b')).toMatchObject({ id: 'b', state: 'breached', meaning: expect.any(Array) });
  expect(view.rule('c')).toBeUndefined();
});
