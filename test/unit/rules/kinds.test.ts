// Each kind of rule at its edges: what breaches, what ends it, and what says nothing.
import { describe, expect, it } from 'vitest';
import { usualOf } from '../../../src/rules/kinds.ts';
import { createKnownSet } from '../../../src/rules/known-sets.ts';
import type { SpikeRule } from '../../../src/rules/rule-types.ts';
import { readMeasure, windowTo } from '../../../src/windows/values.ts';
import { calls, createStage, HOUR, MEASURES, MINUTE, of, rulesOf, SECOND, type Stage, stateOf, T0 } from './kit.ts';

const DAY = 24 * HOUR;

/** Ticks every 10 s, as if all was well, and gives the states a rule had. */
function states(stage: Stage, rule: string, fromMs: number, toMs: number): (string | undefined)[] {
  const seen: (string | undefined)[] = [];
  for (let at = fromMs; at <= toMs; at += 10 * SECOND) seen.push(stateOf(stage.tick(at), rule));
  return seen;
}

describe('ratio', () => {
  it.each([
    [10, 40, 'clear'],
    [11, 39, 'breached'],
  ])('%s failed beside %s others: above means above (%s)', (failed, ok, state) => {
    const stage = createStage();
    calls(stage, T0, { failed, ok });
    expect(stateOf(stage.tick(T0 + 20 * SECOND), 'high-error-rate')).toBe(state);
  });

  it('breaches on the unfinished bucket, and says why', () => {
    const stage = createStage();
    calls(stage, T0 + SECOND, { failed: 3, ok: 27 });
    expect(stateOf(stage.tick(T0 + 2 * SECOND), 'high-error-rate')).toBe('unknown');
    calls(stage, T0 + 3 * SECOND, { failed: 9 });
    const [breach] = of(stage.tick(T0 + 4 * SECOND), 'high-error-rate');
    expect(breach).toMatchObject({
      state: 'breached',
      message: 'Error rate is 30.77 % (threshold 20 %): 12 of 39 calls failed in 5 min',
      metadata: { totalCalls: 39, failedCalls: 12, errorRate: 30.77 },
    });
  });

  it('is clear on complete buckets only', () => {
    const stage = createStage();
    calls(stage, T0, { ok: 100 });
    expect(stateOf(stage.tick(T0 + 14_999), 'high-error-rate')).toBe('unknown');
    expect(stateOf(stage.tick(T0 + 15_000), 'high-error-rate')).toBe('clear');
  });

  it('goes on while complete buckets still show it, also when the unfinished one looks better', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 30, ok: 70 });
    calls(stage, T0 + 10 * SECOND, { ok: 100 });
    expect(stateOf(stage.tick(T0 + 16 * SECOND), 'high-error-rate')).toBe('breached');
    expect(stateOf(stage.tick(T0 + 25 * SECOND), 'high-error-rate')).toBe('clear');
  });

  it('needs its volume', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 19 });
    expect(stateOf(stage.tick(T0 + 20 * SECOND), 'high-error-rate')).toBe('unknown');
    calls(stage, T0 + 20 * SECOND, { failed: 1 });
    expect(stateOf(stage.tick(T0 + 21 * SECOND), 'high-error-rate')).toBe('breached');
  });

  it('ends when the hour shows that all is well, though the window itself has too few calls', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 20, ok: 20 });
    expect(stateOf(stage.tick(T0 + SECOND), 'high-error-rate')).toBe('breached');
    // Night falls: three calls each five minutes, none of which fails. First the outage is part of what is looked back on.
    const seen = new Map<number, string | undefined>();
    for (let minute = 5; minute <= 90; minute += 5) {
      calls(stage, T0 + minute * MINUTE, { ok: 3 });
      seen.set(minute, stateOf(stage.tick(T0 + minute * MINUTE + 20 * SECOND), 'high-error-rate'));
    }
    expect(seen.get(10)).toBe('unknown');
    expect(seen.get(25)).toBe('unknown');
    // Twenty calls since then, all well.
    expect(seen.get(45)).toBe('clear');
    expect([...seen.values()].every((state) => state !== 'breached')).toBe(true);
  });

  it('knows nothing where nothing is counted: no data is not 0', () => {
    const stage = createStage();
    const ticked = stage.tick(T0);
    for (const { ruleId, state } of ticked.observations) {
      if (!['log-processing-behind', 'reported-late', 'partition-stalled'].includes(ruleId)) {
        expect(`${ruleId} ${state}`).toBe(`${ruleId} unknown`);
      }
    }
  });

  it('judges below as well: half of the calls succeeding is not below half', () => {
    for (const [failed, state] of [
      [50, 'clear'],
      [51, 'breached'],
    ] as const) {
      const stage = createStage();
      calls(stage, T0, { failed, ok: 50 });
      expect(stateOf(stage.tick(T0 + 20 * SECOND), 'low-call-success')).toBe(state);
    }
  });
});

describe('labels', () => {
  it('tell the one tenant that fails from the others', () => {
    const stage = createStage();
    calls(stage, T0, { tenant: 'bad', failed: 15, ok: 5 });
    calls(stage, T0, { tenant: 'good', failed: 1, ok: 200 });
    calls(stage, T0, { tenant: '', failed: 15, ok: 5 });
    const observations = of(stage.tick(T0 + SECOND), 'tenant-error-rate');
    expect(observations.map(({ labels, state }) => [labels.tenantId, state])).toEqual([
      ['bad', 'breached'],
      ['good', 'unknown'],
    ]);
    expect(observations[0]!.message).toContain('tenant bad is 75.00 % (threshold 30 %): 15 of 20 calls failed');
    expect(observations[0]!.metadata).toEqual({ tenantId: 'bad', totalCalls: 20, failedCalls: 15, errorRate: 75 });
  });

  it('name no tenant when all fail alike, or when there is only one', () => {
    const stage = createStage();
    for (const tenant of ['a', 'b', 'c']) calls(stage, T0, { tenant, failed: 20, ok: 20 });
    expect(of(stage.tick(T0 + SECOND), 'tenant-error-rate').some(({ state }) => state === 'breached')).toBe(false);
    const alone = createStage();
    calls(alone, T0, { tenant: 'a', failed: 20, ok: 20 });
    expect(of(alone.tick(T0 + SECOND), 'tenant-error-rate').some(({ state }) => state === 'breached')).toBe(false);
  });

  it('are bounded: those with most events speak, about the rest nothing is decided', () => {
    const rules = rulesOf(
      '  r: { title: R, priority: P2, kind: ratio, measure: call.failure_ratio, above: 50 %, labels: [tenantId], maxAlerts: 3 }',
    );
    const stage = createStage(rules);
    for (let i = 1; i <= 10; i++) calls(stage, T0, { tenant: `t${i}`, failed: 20 + i });
    const observations = of(stage.tick(T0 + SECOND), 'r');
    expect(observations.filter(({ state }) => state === 'breached').map(({ labels }) => labels.tenantId)).toEqual([
      't8',
      't9',
      't10',
    ]);
    expect(observations.filter(({ state }) => state === 'held')).toHaveLength(7);
  });

  it('never mean what did not fit into the series of a measure', () => {
    const stage = createStage();
    calls(stage, T0, { tenant: 'good', ok: 50 });
    stage.count('calls.ended', ['other', 'other', 'other'], 50, T0);
    stage.count('calls.failed', ['other', 'other'], 50, T0);
    const ticked = stage.tick(T0 + SECOND);
    expect(of(ticked, 'tenant-error-rate').map(({ labels }) => labels.tenantId)).toEqual(['good']);
    expect(stateOf(ticked, 'high-error-rate')).toBe('breached');
  });
});

describe('low volume', () => {
  it('pages when all of the last ten calls failed, long before there are twenty in five minutes', () => {
    const stage = createStage();
    for (let i = 0; i < 10; i++) {
      const at = T0 + i * 5 * MINUTE;
      calls(stage, at, { failed: 1 });
      const ticked = stage.tick(at + SECOND);
      expect(stateOf(ticked, 'high-error-rate')).toBe('unknown');
      expect(stateOf(ticked, 'most-calls-failing')).toBe(i < 4 ? 'unknown' : 'breached');
      expect(stateOf(ticked, 'all-calls-failing')).toBe(i < 9 ? 'unknown' : 'breached');
    }
  });

  it('catches all of eight calls failing in a quiet hour', () => {
    const stage = createStage();
    for (let i = 0; i < 8; i++) calls(stage, T0 + i * 7 * MINUTE, { failed: 1 });
    const [breach] = of(stage.tick(T0 + 50 * MINUTE), 'most-calls-failing');
    expect(breach).toMatchObject({
      state: 'breached',
      message: expect.stringContaining('8 of the last 8 calls failed'),
    });
  });

  it('stays quiet when a single call of the night fails', () => {
    const stage = createStage();
    for (let i = 0; i < 30; i++) {
      const at = T0 + i * 20 * MINUTE;
      calls(stage, at, i === 11 ? { failed: 1 } : { ok: 1 });
      const ticked = stage.tick(at + 20 * SECOND);
      for (const rule of ['high-error-rate', 'elevated-error-rate', 'most-calls-failing', 'all-calls-failing']) {
        expect(stateOf(ticked, rule)).not.toBe('breached');
      }
    }
  });

  it('looks at the newest calls, and ends with them', () => {
    const stage = createStage();
    for (let i = 0; i < 10; i++) calls(stage, T0 + i * MINUTE, { failed: 1 });
    expect(stateOf(stage.tick(T0 + 10 * MINUTE), 'all-calls-failing')).toBe('breached');
    for (let i = 0; i < 3; i++) calls(stage, T0 + (15 + i) * MINUTE, { ok: 1 });
    const ticked = stage.tick(T0 + 18 * MINUTE);
    expect(stateOf(ticked, 'all-calls-failing')).toBe('clear');
    expect(stateOf(ticked, 'most-calls-failing')).toBe('clear');
  });

  it('is not comforted by what was well before that', () => {
    const stage = createStage();
    for (let i = 0; i < 20; i++) calls(stage, T0 + i * 2 * MINUTE, { ok: 1 });
    for (let i = 0; i < 10; i++) calls(stage, T0 + 40 * MINUTE + i * 90 * SECOND, { failed: 1 });
    const [breach] = of(stage.tick(T0 + 54 * MINUTE), 'all-calls-failing');
    expect(breach).toMatchObject({ state: 'breached', metadata: { totalCalls: 10, failedCalls: 10 } });
  });

  it('leaves the word to the ratio rule as soon as that has its volume', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 40 });
    // In the unfinished bucket, and when it is complete.
    for (const at of [T0 + SECOND, T0 + 20 * SECOND]) {
      const ticked = stage.tick(at);
      expect(stateOf(ticked, 'all-calls-failing')).toBe('clear');
      expect(stateOf(ticked, 'high-error-rate')).toBe('breached');
    }
  });
});

describe('absence', () => {
  it('fires after two minutes without any event, and ends with the next', () => {
    const stage = createStage();
    for (let at = T0; at < T0 + MINUTE; at += 15 * SECOND) stage.count('log.events', ['info', 'v1'], 1, at);
    expect(stateOf(stage.tick(T0 + MINUTE), 'application-silent')).toBe('clear');
    // The last event came within the bucket that ended at 50 s.
    expect(stateOf(stage.tick(T0 + 170 * SECOND), 'application-silent')).toBe('clear');
    const [breach] = of(stage.tick(T0 + 171 * SECOND), 'application-silent');
    expect(breach).toMatchObject({ state: 'breached', metadata: { silentSeconds: 121 } });
    stage.count('log.events', ['info', 'v1'], 1, T0 + 200 * SECOND);
    expect(stateOf(stage.tick(T0 + 201 * SECOND), 'application-silent')).toBe('clear');
  });

  it('is not what logpipe fails to hear: while reading stands still, so does the silence', () => {
    const stage = createStage();
    stage.count('log.events', ['info', 'v1'], 1, T0);
    stage.tick(T0 + 20 * SECOND);
    for (let at = T0 + MINUTE; at < T0 + HOUR; at += MINUTE) {
      const ticked = stage.evaluator.tick(at);
      expect(stateOf(ticked, 'application-silent')).not.toBe('breached');
      expect(stateOf(ticked, 'log-processing-behind')).toBe(at > T0 + 140 * SECOND ? 'breached' : 'clear');
    }
  });

  it('does not count the time logpipe is behind as silence', () => {
    const stage = createStage();
    stage.count('log.events', ['info', 'v1'], 1, T0);
    expect(stateOf(stage.tick(T0 + 190 * SECOND, { readMs: T0 + 100 * SECOND }), 'application-silent')).toBe('clear');
  });

  it('counts events of any age: a host with a wrong clock is not silent', () => {
    const stage = createStage();
    for (let at = T0; at < T0 + 10 * MINUTE; at += 30 * SECOND) {
      stage.count('log.events', ['info', 'v1'], 1, at - 5 * MINUTE, { arrivalMs: at });
    }
    expect(stateOf(stage.tick(T0 + 10 * MINUTE), 'application-silent')).toBe('clear');
  });
});

describe('spike', () => {
  const denied = (stage: Stage, atMs: number, n: number) => n > 0 && stage.count('http.denied', ['401'], n, atMs);

  /** Each minute's count for an hour before T0, then `now` within the minute from T0 on. */
  function state(past: (minute: number) => number, now: number, hours = 1): string | undefined {
    const stage = createStage();
    const minutes = hours * 60 + 5;
    stage.count('log.events', ['info', 'v1'], 1, T0 - minutes * MINUTE);
    for (let minute = 1; minute <= minutes; minute++) denied(stage, T0 - minute * MINUTE, past(minute));
    denied(stage, T0 + 10 * SECOND, now);
    return stateOf(stage.tick(T0 + 50 * SECOND), 'access-denied-spike');
  }

  it.each([
    ['flat', () => 40, 199, 'clear'],
    ['flat', () => 40, 201, 'breached'],
    ['of zeros', () => 0, 60, 'clear'],
    ['of zeros', () => 0, 61, 'breached'],
    ['noisy', (minute: number) => (minute % 2) * 100, 350, 'clear'],
    ['noisy', (minute: number) => (minute % 2) * 100, 600, 'breached'],
    ['with a spike an hour long', () => 500, 600, 'clear'],
  ])('against a past that is %s: %#', (_, past, now, expected) => {
    expect(state(past, now)).toBe(expected);
  });

  it('says nothing before there is a past: a new installation is no attack', () => {
    expect(state(() => 100, 300, 0.2)).toBe('unknown');
  });

  it('goes on as long as the spike does, up to half of the past', () => {
    const stage = createStage();
    stage.count('log.events', ['info', 'v1'], 1, T0 - 65 * MINUTE);
    for (let minute = -64; minute < 0; minute++) denied(stage, T0 + minute * MINUTE, 10);
    for (let minute = 0; minute < 25; minute++) {
      denied(stage, T0 + minute * MINUTE, 400);
      expect(stateOf(stage.tick(T0 + minute * MINUTE + 30 * SECOND), 'access-denied-spike'), `${minute}`).toBe(
        'breached',
      );
    }
  });

  it('takes median and median distance, which outliers do not move', () => {
    const rule = { factor: 2, deviations: 3, floor: 5 } as SpikeRule;
    expect(usualOf([10, 10, 10, 10, 1_000], rule)).toEqual({ median: 10, threshold: 20 });
    expect(usualOf([0, 0, 0, 0], rule)).toEqual({ median: 0, threshold: 5 });
    expect(usualOf([80, 90, 110, 120], { ...rule, factor: 1.1 }).threshold).toBeCloseTo(100 + 3 * 1.4826 * 15, 6);
  });
});

describe('first seen', () => {
  const errors = (stage: Stage, template: string, n: number, atMs: number) =>
    stage.count('error.templates', [template], n, atMs);

  it('learns for a day without a word, then reports what is new, once, and ends', () => {
    const known = createKnownSet(T0);
    const stage = createStage(undefined, { known });
    errors(stage, 'old fault <n>', 5, T0 + MINUTE);
    expect(of(stage.tick(T0 + 2 * MINUTE), 'new-error')).toEqual([]);
    expect(known.take()).toEqual([{ key: 'error.templates/old fault <n>', firstMs: T0 + 2 * MINUTE, quiet: true }]);

    const later = T0 + DAY + MINUTE;
    errors(stage, 'old fault <n>', 5, later);
    errors(stage, 'new fault <n>', 2, later);
    expect(of(stage.tick(later + SECOND), 'new-error')).toEqual([]);
    errors(stage, 'new fault <n>', 1, later + 2 * SECOND);
    const [news] = of(stage.tick(later + 3 * SECOND), 'new-error');
    expect(news).toMatchObject({
      labels: { 'error.template': 'new fault <n>' },
      state: 'breached',
      message: 'Never seen before: new fault <n> (3 times in 10 min)',
    });
    errors(stage, 'new fault <n>', 9, later + 9 * MINUTE);
    expect(of(stage.tick(later + 9 * MINUTE), 'new-error')[0]?.state).toBe('breached');
    expect(of(stage.tick(later + 11 * MINUTE), 'new-error')[0]?.state).toBe('clear');
    errors(stage, 'new fault <n>', 9, later + HOUR);
    expect(of(stage.tick(later + HOUR), 'new-error')).toEqual([]);
  });

  it('forgets since when it learned what no rule watches any more, and says so, so that it is kept', () => {
    const known = createKnownSet(T0, [], 10, new Map([['error.templates', T0]]));
    known.watchOnly(['error.templates']);
    expect(known.takeSince()).toBeUndefined();
    known.watchOnly([]);
    expect(known.takeSince()).toEqual({});
  });

  it('learns what is rare as well: one of a kind is enough while it learns', () => {
    const stage = createStage(undefined, { known: createKnownSet(T0) });
    errors(stage, 'rare fault', 1, T0 + MINUTE);
    stage.tick(T0 + 2 * MINUTE);
    errors(stage, 'rare fault', 5, T0 + 2 * DAY);
    expect(of(stage.tick(T0 + 2 * DAY + SECOND), 'new-error')).toEqual([]);
  });

  it('does not report again after a restart what was kept', () => {
    const kept = [{ key: 'error.templates/known', firstMs: T0, quiet: true }];
    const stage = createStage(undefined, { known: createKnownSet(T0 - 2 * DAY, kept) });
    errors(stage, 'known', 10, T0);
    errors(stage, 'unknown', 10, T0);
    expect(of(stage.tick(T0 + SECOND), 'new-error').map(({ labels }) => labels['error.template'])).toEqual(['unknown']);
  });

  it('is bounded: a full set neither learns nor reports', () => {
    const stage = createStage(undefined, { known: createKnownSet(T0 - 2 * DAY, [], 1) });
    for (const template of ['a', 'b', 'c']) errors(stage, template, 10, T0);
    expect(of(stage.tick(T0 + SECOND), 'new-error')).toHaveLength(1);
    expect(of(stage.tick(T0 + 2 * SECOND), 'new-error')).toHaveLength(1);
  });

  it('says how full it is', () => {
    const known = createKnownSet(T0 - 2 * DAY, [{ key: 'error.templates/kept', firstMs: T0, quiet: true }], 2);
    expect([known.size, known.maxKeys]).toEqual([1, 2]);
    const stage = createStage(undefined, { known });
    for (const template of ['a', 'b']) errors(stage, template, 10, T0);
    stage.tick(T0 + SECOND);
    expect([known.size, known.maxKeys]).toEqual([2, 2]);
  });
});

describe('trend', () => {
  /** Hourly sums of 8 days: `share` of a thousand events an hour are errors. */
  function state(share: (hoursAgo: number) => number, missing: (hoursAgo: number) => boolean = () => false) {
    const stage = createStage();
    const records = [];
    for (let ago = 8 * 24 + 4; ago > 0; ago--) {
      if (missing(ago)) continue;
      const errors = Math.round(1_000 * share(ago));
      records.push({
        hourMs: T0 - ago * HOUR,
        measures: {
          'log.events': { 'other\u001fother': [1_000, 0] },
          'log.errors': { 'other\u001fother': [errors, 0] },
        },
      });
    }
    stage.evaluator.store.putHours(records as never, T0);
    return of(stage.tick(T0 + 11 * MINUTE), 'error-trend')[0]!;
  }

  it('compares the last day with the same day of last week', () => {
    expect(state(() => 0.02).state).toBe('clear');
    const rise = state((ago) => (ago <= 24 ? 0.035 : 0.02));
    expect(rise).toMatchObject({ state: 'breached', metadata: { errorRate: 3.5, lastWeek: 2, events: 24_000 } });
    expect(rise.message).toBe('3.50 % of all events were errors in 24 h, a week earlier 2.00 %');
    // Half as much again, but of next to nothing.
    expect(state((ago) => (ago <= 24 ? 0.004 : 0.001)).state).toBe('clear');
    // The days between do not matter.
    expect(state((ago) => (ago > 24 && ago <= 144 ? 0.5 : 0.02)).state).toBe('clear');
  });

  it('says nothing about hours nobody knows', () => {
    expect(
      state(
        (ago) => (ago <= 24 ? 0.1 : 0.01),
        (ago) => ago > 160 && ago <= 180,
      ).state,
    ).toBe('unknown');
    expect(
      state(
        (ago) => (ago <= 24 ? 0.1 : 0.01),
        (ago) => ago > 170 && ago <= 174,
      ).state,
    ).toBe('breached');
  });
});

describe('gauges', () => {
  const disk = (stage: Stage, host: string, value: number, atMs: number) =>
    stage.gauge('system.disk', [host], value, atMs);

  it('are judged at their newest value, per host', () => {
    const stage = createStage();
    disk(stage, 'a', 85, T0);
    disk(stage, 'b', 85.1, T0);
    disk(stage, 'c', 95, T0);
    const ticked = stage.tick(T0 + SECOND);
    const by = (rule: string) => of(ticked, rule).map(({ labels, state }) => `${labels.host} ${state}`);
    expect(by('high-disk-usage')).toEqual(['a clear', 'b breached', 'c breached']);
    expect(by('critical-disk-usage')).toEqual(['a clear', 'b clear', 'c breached']);
    disk(stage, 'c', 50, T0 + 15 * SECOND);
    expect(of(stage.tick(T0 + 16 * SECOND), 'critical-disk-usage')[2]?.state).toBe('clear');
  });

  it('say nothing once stale; one that alone has gone is not spoken of any more', () => {
    const stage = createStage();
    disk(stage, 'a', 95, T0);
    disk(stage, 'b', 95, T0);
    expect(of(stage.tick(T0 + 61 * SECOND), 'critical-disk-usage').map(({ state }) => state)).toEqual([
      'unknown',
      'unknown',
    ]);
    disk(stage, 'b', 95, T0 + 60 * SECOND);
    expect(of(stage.tick(T0 + 62 * SECOND), 'critical-disk-usage').map(({ labels }) => labels.host)).toEqual(['b']);
  });

  it('must hold for the whole window where the rule says lowest', () => {
    const stage = createStage();
    const cpu = (value: number, atMs: number) => stage.gauge('system.cpu', ['a'], value, atMs);
    for (let s = 0; s <= 105; s += 15) cpu(99, T0 + s * SECOND);
    // Half of the window must have been seen.
    expect(of(stage.tick(T0 + 30 * SECOND), 'high-cpu')[0]?.state).toBe('unknown');
    expect(of(stage.tick(T0 + 110 * SECOND), 'high-cpu')[0]?.state).toBe('breached');
    cpu(20, T0 + 120 * SECOND);
    for (let s = 135; s <= 225; s += 15) cpu(99, T0 + s * SECOND);
    expect(of(stage.tick(T0 + 226 * SECOND), 'high-cpu')[0]?.state).toBe('clear');
    for (let s = 240; s <= 270; s += 15) cpu(99, T0 + s * SECOND);
    expect(of(stage.tick(T0 + 271 * SECOND), 'high-cpu')[0]?.state).toBe('breached');
  });

  describe('over a window', () => {
    const judged = (over: string, bound: string, more = 'measure: system.cpu, labels: [host]') =>
      rulesOf(`  busy: { title: Busy, priority: P2, kind: threshold, ${more}, window: 2m, over: ${over}, ${bound} }`);
    const at = (
      rules: ReturnType<typeof rulesOf>,
      readings: readonly (readonly [s: number, v: number])[],
      s: number,
    ) => {
      const stage = createStage(rules);
      for (const [second, v] of readings) stage.gauge('system.cpu', ['a'], v, T0 + second * SECOND);
      return of(stage.tick(T0 + s * SECOND), 'busy')[0]?.state;
    };
    const every = (step: number, from: number, to: number, v = 100) =>
      Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => [from + i * step, v] as const);

    it.each(['lowest', 'mean'])('says nothing of it before it was seen: %s', (over) => {
      const rules = judged(over, 'above: 90');
      for (const seen of [2, 30, 61, 90, 104]) expect(at(rules, every(15, 0, seen), seen), `${seen} s`).toBe('unknown');
      expect(at(rules, every(2, 0, 2), 2)).toBe('unknown');
      expect(at(rules, every(5, 0, 100), 100)).toBe('unknown');
      expect(at(rules, every(15, 0, 105), 106)).toBe('breached');
      expect(at(rules, every(5, 0, 115), 116)).toBe('breached');
    });

    it('is judged at every moment, whatever the interval', () => {
      const rules = judged('lowest', 'above: 90');
      for (const step of [1, 5, 7, 10, 13, 15, 25, 40]) {
        for (let s = 200; s < 230; s++)
          expect(at(rules, every(step, 0, s), s), `every ${step} s, ${s}`).toBe('breached');
      }
    });

    it('says nothing across a gap of more than three intervals', () => {
      const rules = judged('lowest', 'above: 90');
      expect(at(rules, [...every(15, 0, 60), ...every(15, 105, 180)], 181)).toBe('breached');
      expect(at(rules, [...every(15, 0, 60), ...every(15, 110, 180)], 181)).toBe('unknown');
      // Once the window lies behind it, it is of no consequence.
      expect(at(rules, [...every(15, 0, 60), ...every(15, 120, 240)], 241)).toBe('breached');
    });

    it('one reading is enough for the highest to be high, and the lowest to be low', () => {
      expect(at(judged('highest', 'above: 90'), every(15, 0, 0), 1)).toBe('breached');
      expect(at(judged('lowest', 'below: 5'), every(15, 0, 0, 1), 1)).toBe('breached');
      expect(at(judged('highest', 'below: 5'), every(15, 0, 30, 1), 31)).toBe('unknown');
    });

    it('of a ratio of gauges as well', () => {
      const rules = judged('lowest', 'above: 90 %', 'measure: process.heap_limit');
      const stage = createStage(rules);
      for (const [s, v] of [...every(15, 0, 60), [75, 10] as const, ...every(15, 90, 120)]) {
        stage.gauge('process.heap_used_bytes', ['a', '1'], v, T0 + s * SECOND);
        stage.gauge('process.heap_limit_bytes', ['a', '1'], 100, T0 + s * SECOND);
        if (s === 15) expect(of(stage.tick(T0 + 16 * SECOND), 'busy')[0]?.state).toBe('unknown');
      }
      expect(of(stage.tick(T0 + 121 * SECOND), 'busy')[0]?.state).toBe('clear');
    });

    it('nor is growth known, nor a count too low, before the window was seen', () => {
      const grows = createStage(
        rulesOf(
          '  slow: { title: Slow, priority: P2, kind: threshold, measure: queue.rate, window: 5m, below: 5 /min }',
        ),
      );
      for (let s = 0; s <= 330; s += 15) {
        grows.gauge('queue.completed', ['calls'], s, T0 + s * SECOND);
        if (s === 180) expect(stateOf(grows.tick(T0 + 181 * SECOND), 'slow')).toBe('unknown');
      }
      expect(stateOf(grows.tick(T0 + 331 * SECOND), 'slow')).toBe('clear');

      const few = createStage(
        rulesOf('  few: { title: Few, priority: P2, kind: threshold, measure: calls.ended, window: 5m, below: 50 }'),
      );
      for (let s = 0; s <= 310; s += 10) {
        calls(few, T0 + s * SECOND, { ok: 1 });
        const state = stateOf(few.tick(T0 + (s + 16) * SECOND), 'few');
        expect(state, `${s} s`).toBe(s < 290 ? 'unknown' : 'breached');
      }
    });
  });

  it('grow: jobs per minute across a restart of the counter, and only while jobs are waiting', () => {
    const stage = createStage();
    const report = (atMs: number, completed: number, waiting: number) => {
      stage.gauge('queue.completed', ['calls'], completed, atMs);
      stage.gauge('queue.size', ['calls'], waiting, atMs);
    };
    const run = (fromS: number, toS: number, from: number, perMinute: number, waiting: number) => {
      for (let s = fromS; s < toS; s += 15)
        report(T0 + s * SECOND, Math.round(from + ((s - fromS) / 60) * perMinute), waiting);
    };
    run(0, 300, 1_000, 40, 20);
    expect(of(stage.tick(T0 + 290 * SECOND), 'queue-slow')[0]?.state).toBe('clear');
    // Redis began anew: 40 a minute go on, from 0.
    run(300, 600, 0, 40, 20);
    expect(of(stage.tick(T0 + 590 * SECOND), 'queue-slow')[0]?.state).toBe('clear');
    run(600, 1_000, 200, 2, 20);
    expect(of(stage.tick(T0 + 990 * SECOND), 'queue-slow')[0]).toMatchObject({
      state: 'breached',
      metadata: { queue: 'calls', waiting: 20 },
    });
    // Nothing to do is not slow.
    run(1_000, 1_400, 220, 2, 0);
    expect(of(stage.tick(T0 + 1_390 * SECOND), 'queue-slow')[0]?.state).toBe('clear');
  });

  describe('of the heap', () => {
    const MB = 2 ** 20;
    function heap(stage: Stage, pid: string, used: number, total: number, limit: number | undefined, atMs = T0) {
      stage.gauge('process.heap_used_bytes', ['host', pid], used * MB, atMs);
      stage.gauge('process.heap_total_bytes', ['host', pid], total * MB, atMs);
      if (limit !== undefined) stage.gauge('process.heap_limit_bytes', ['host', pid], limit * MB, atMs);
    }

    it('a full heap far below its limit is what V8 does, and no alert', () => {
      const stage = createStage();
      heap(stage, '1', 96, 100, 4_000);
      expect(stateOf(stage.tick(T0 + SECOND), 'critical-memory-usage')).toBe('clear');
      expect(stateOf(stage.tick(T0 + SECOND), 'high-memory-usage')).toBe('clear');
    });

    it('near its limit it is one, and the alert says what it was measured against, of the worst process', () => {
      const stage = createStage();
      heap(stage, '1', 100, 200, 4_000);
      heap(stage, '2', 3_700, 3_800, 4_000);
      const [breach] = of(stage.tick(T0 + SECOND), 'critical-memory-usage');
      expect(breach).toMatchObject({
        state: 'breached',
        labels: {},
        message: 'Memory usage is 92.50 % (threshold 90 %) by process.heap_limit, host host, pid 2',
        metadata: {
          heapUsedMB: 3_700,
          heapTotalMB: 3_800,
          usagePercent: 92.5,
          heapLimitMB: 4_000,
          usedOfTotalPercent: 97.37,
          basis: 'process.heap_limit',
          host: 'host',
          pid: '2',
        },
      });
    });

    it('without any limit reported the heap’s total decides, and the alert says so', () => {
      const stage = createStage();
      heap(stage, '1', 96, 100, undefined);
      expect(of(stage.tick(T0 + SECOND), 'critical-memory-usage')[0]).toMatchObject({
        state: 'breached',
        metadata: { usagePercent: 96, basis: 'process.heap' },
      });
    });

    it('the alert ends when the process is gone and the others are well', () => {
      const stage = createStage();
      heap(stage, '1', 3_900, 3_950, 4_000);
      heap(stage, '2', 100, 200, 4_000);
      expect(stateOf(stage.tick(T0 + SECOND), 'critical-memory-usage')).toBe('breached');
      heap(stage, '2', 100, 200, 4_000, T0 + 61 * SECOND);
      expect(stateOf(stage.tick(T0 + 62 * SECOND), 'critical-memory-usage')).toBe('clear');
    });
  });
});

describe('where the log is read unevenly', () => {
  it('a stalled partition does not stop the evaluation of the others, and is an alert of its own', () => {
    const stage = createStage();
    let breachedAt: number | undefined;
    for (let at = T0; at <= T0 + 5 * MINUTE; at += 10 * SECOND) {
      calls(stage, at, { failed: 5, ok: 5, lane: '0' });
      const ticked = stage.tick(at, { lanes: { '0': at, '1': T0 - 10 * SECOND } });
      expect(ticked.times.evalMs).toBeGreaterThanOrEqual(at - 30 * SECOND);
      if (stateOf(ticked, 'high-error-rate') === 'breached') breachedAt ??= at;
      const stalled = of(ticked, 'partition-stalled').find(({ labels }) => labels.lane === '1');
      expect(stalled?.state).toBe(at - T0 + 10 * SECOND > 30 * SECOND ? 'breached' : 'clear');
    }
    expect(breachedAt).toBeLessThanOrEqual(T0 + MINUTE);
  });

  it('says nothing about the log while it is behind, and judges what does not come from the log', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 100 });
    stage.tick(T0 + SECOND);
    stage.evaluator.store.setGauge('elasticsearch.status', {}, 2, T0 + 10 * MINUTE);
    const ticked = stage.tick(T0 + 10 * MINUTE, { readMs: T0 + MINUTE });
    expect(stateOf(ticked, 'high-error-rate')).toBe('held');
    expect(stateOf(ticked, 'log-processing-behind')).toBe('breached');
    expect(stateOf(ticked, 'elasticsearch-red')).toBe('breached');
    expect(stateOf(ticked, 'partition-stalled')).toBe('clear');
  });

  it('late events do not page, in whatever number', () => {
    const stage = createStage();
    calls(stage, T0, { ok: 50 });
    calls(stage, T0 - 5 * MINUTE, { failed: 1_000, arrivalMs: T0 });
    expect(states(stage, 'high-error-rate', T0, T0 + 4 * MINUTE)).not.toContain('breached');
  });
});

describe('values', () => {
  const read = (stage: Stage, name: string, atMs: number) =>
    readMeasure(stage.evaluator.store, name, { ...windowTo(atMs, 5 * MINUTE), nowMs: atMs })[0]!.value;

  it('are unknown where nothing was ever counted, and 0 only where nothing is counted now', () => {
    const stage = createStage();
    for (const name of MEASURES.keys()) expect(`${name} ${read(stage, name, T0)}`).toBe(`${name} undefined`);
    stage.count('http.requests', ['GET', '/', '200'], 600, T0);
    stage.observe('http.duration', ['GET', '/'], [10, 20, 30], T0);
    stage.gauge('platform.active_calls', ['a', '1'], 3, T0);
    stage.gauge('platform.active_calls', ['a', '2'], 4, T0);
    stage.tick(T0 + SECOND);
    expect(read(stage, 'http.rate', T0 + SECOND)).toBe(2);
    expect(read(stage, 'http.error_ratio', T0 + SECOND)).toBe(0);
    expect(read(stage, 'http.duration', T0 + SECOND)).toBe(20);
    expect(read(stage, 'http.p95', T0 + SECOND)).toBeCloseTo(20, 0);
    expect(read(stage, 'calls.active', T0 + SECOND)).toBe(7);
    const later = T0 + 10 * MINUTE;
    expect(read(stage, 'http.rate', later)).toBe(0);
    expect(read(stage, 'http.error_ratio', later)).toBeUndefined();
    expect(read(stage, 'http.p95', later)).toBeUndefined();
    expect(read(stage, 'calls.active', later)).toBeUndefined();
  });
});

describe('why', () => {
  it('names the commonest templates, examples and the release that stands out', () => {
    const stage = createStage();
    calls(stage, T0, { ok: 20 });
    stage.count('calls.ended', ['outbound', 'failed', 'acme'], 20, T0);
    stage.count('calls.failed', ['acme', 'outbound'], 20, T0, { ex: ['e1', 'e2', 'e3', 'e4', 'e5'] });
    for (const [template, n] of [
      ['one', 1],
      ['four', 4],
      ['two', 2],
      ['three', 3],
    ] as const) {
      stage.count('error.templates', [template], n, T0);
    }
    stage.count('log.events', ['info', '2.0.0'], 100, T0);
    stage.count('log.events', ['info', '1.9.0'], 100, T0);
    stage.count('log.errors', ['2.0.0', 'api'], 30, T0);
    stage.count('log.errors', ['1.9.0', 'api'], 10, T0);
    const why = () => of(stage.tick(T0 + SECOND), 'high-error-rate')[0]!.why;
    expect(why()).toEqual({
      measure: 'call.failure_ratio',
      windowMs: 5 * MINUTE,
      fromMs: T0 + 10 * SECOND - 5 * MINUTE,
      toMs: T0 + 10 * SECOND,
      value: 0.5,
      valueText: '50.00 %',
      threshold: 0.2,
      thresholdText: '20 %',
      volume: 40,
      // Errors of the log are no failed calls.
      topTemplates: [],
      examples: ['e1', 'e2', 'e3', 'e4', 'e5'],
      release: '2.0.0',
    });
    // As many errors as its share of events explains: it does not stand out.
    stage.count('log.events', ['info', '2.0.0'], 400, T0 + SECOND);
    expect(why()!.release).toBeUndefined();
  });

  it('names templates and examples only of the alert’s own events', () => {
    const rules = rulesOf(
      `
  errors: { title: T, kind: threshold, priority: P2, measure: log.errors, window: 5m, above: 0 }
  errors-of-service: { title: T, kind: threshold, priority: P2, measure: log.errors, window: 5m, above: 0, labels: [service] }
  calls-failing: { title: T, kind: threshold, priority: P2, measure: calls.failed, window: 5m, above: 0, labels: [tenantId] }`,
    );
    const stage = createStage(rules);
    for (const [template, n] of [
      ['one', 1],
      ['four', 4],
      ['two', 2],
      ['three', 3],
    ] as const) {
      stage.count('error.templates', [template], n, T0);
    }
    stage.count('log.errors', ['2.0.0', 'api'], 10, T0, { ex: ['e1', 'e2'] });
    stage.count('calls.failed', ['acme', 'outbound'], 5, T0, { ex: ['a1'] });
    stage.count('calls.failed', ['globex', 'outbound'], 5, T0, { ex: ['b1'] });
    const ticked = stage.tick(T0 + SECOND);
    const said = (id: string) =>
      of(ticked, id).map(({ why }) => [why!.topTemplates.map(({ template }) => template), why!.examples]);
    expect(said('errors')).toEqual([
      [
        ['four', 'three', 'two'],
        ['e1', 'e2'],
      ],
    ]);
    // Which templates are that service's nobody has counted.
    expect(said('errors-of-service')).toEqual([[[], ['e1', 'e2']]]);
    expect(said('calls-failing')).toEqual([
      [[], ['a1']],
      [[], ['b1']],
    ]);
  });

  it('tells the value when it is over', () => {
    const stage = createStage();
    calls(stage, T0, { ok: 98, failed: 2 });
    stage.tick(T0 + SECOND);
    expect(of(stage.tick(T0 + 20 * SECOND), 'high-error-rate')[0]).toMatchObject({ state: 'clear', nowText: '2.00 %' });
  });

  it('names no release that has but a small part of the errors', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 40 });
    stage.count('log.events', ['info', 'canary'], 10, T0);
    stage.count('log.events', ['info', 'stable'], 1_000, T0);
    stage.count('log.errors', ['canary', 'api'], 10, T0);
    stage.count('log.errors', ['stable', 'api'], 100, T0);
    expect(of(stage.tick(T0 + SECOND), 'high-error-rate')[0]!.why!.release).toBeUndefined();
  });

  it('names no release when there is only one', () => {
    const stage = createStage();
    calls(stage, T0, { failed: 40 });
    stage.count('log.events', ['info', '2.0.0'], 100, T0);
    stage.count('log.errors', ['2.0.0', 'api'], 30, T0);
    expect(of(stage.tick(T0 + SECOND), 'high-error-rate')[0]!.why!.release).toBeUndefined();
  });
});
