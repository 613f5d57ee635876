// Rules as they are read: defaults by priority and kind, and every mistake named at once with its place.
import { describe, expect, it } from 'vitest';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import { rollupsOf, toRuleInfo } from '../../../src/rules/rule-config.ts';
import type { SpikeRule, ThresholdRule } from '../../../src/rules/rule-types.ts';
import { formatThreshold, formatValue } from '../../../src/rules/words.ts';
import { MEASURES, RULES, rulesOf } from './kit.ts';

/** The lines of the error. */
function problemsOf(yaml: string): string[] {
  try {
    rulesOf(yaml);
  } catch (error) {
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.replace('  - ', ''));
  }
  return [];
}

describe('defaults', () => {
  const minimal = (priority: string) =>
    rulesOf(
      `  some-rule: { title: Some, priority: ${priority}, kind: ratio, measure: call.failure_ratio, above: 10 % }`,
    )[0]!;

  it('follow the priority', () => {
    expect(toRuleInfo(minimal('P1'))).toEqual({
      id: 'some-rule',
      title: 'Some',
      priority: 'P1',
      group: 'some-rule',
      forMs: 0,
      keepFiringMs: 120_000,
      cooldownMs: 300_000,
      remindMs: 1_800_000,
      inhibitedBy: [],
      runbook: 'docs/runbooks/some-rule.md',
      maxAlerts: 20,
    });
    expect(toRuleInfo(minimal('P2'))).toMatchObject({ cooldownMs: 600_000, remindMs: 0 });
  });

  it('ask for twenty events where a value rests on events, and for none where it is a reading', () => {
    expect((minimal('P2') as ThresholdRule).minEvents).toBe(20);
    const [p95, disk] = rulesOf(
      `  a: { title: A, priority: P3, kind: percentile, measure: http.p95, above: 1 s }
  b: { title: B, priority: P3, kind: threshold, measure: db.pool_used, above: 90 % }`,
    ) as ThresholdRule[];
    expect(p95!.minEvents).toBe(20);
    expect(disk!.minEvents).toBe(1);
  });

  it('are frozen', () => {
    expect(Object.isFrozen(RULES) && RULES.every((rule) => Object.isFrozen(rule))).toBe(true);
  });
});

describe('bounds', () => {
  it.each([
    ['call.failure_ratio', 'ratio', '10 %', 0.1],
    ['call.failure_ratio', 'ratio', '0.1', 0.1],
    ['system.cpu', 'threshold', '85 %', 85],
    ['http.p95', 'percentile', '500 ms', 500],
    ['http.p95', 'percentile', '2 m', 120_000],
    ['queue.rate', 'threshold', '5 /min', 5],
    ['process.rss', 'threshold', '2 GB', 2e9],
    ['system.network_rx', 'threshold', '10 MB/s', 1e7],
    ['queue.size', 'threshold', '500', 500],
  ])('%s above %s %s is %s', (measure, kind, written, value) => {
    const [rule] = rulesOf(`  a: { title: A, priority: P3, kind: ${kind}, measure: ${measure}, above: ${written} }`);
    expect((rule as ThresholdRule).bound).toEqual({ op: 'above', value });
  });

  it('reads the floor of a spike in the unit of its measure', () => {
    const [rule] = rulesOf(
      `  a: { title: A, priority: P3, kind: spike, measure: http.denied_rate, window: 1m, floor: 1 /s }`,
    );
    expect((rule as SpikeRule).floor).toBe(60);
  });
});

describe('mistakes', () => {
  it('are all told at once, each with its place', () => {
    const problems = problemsOf(`  a: { title: A, priority: P2, kind: ratio, measure: call.lost, above: 10 % }
  b: { title: B, priority: P2, kind: ratio, measure: http.p95, above: 10 % }
  c: { title: C, priority: P2, kind: ratio, measure: call.failure_ratio }
  d: { title: D, priority: P2, kind: ratio, measure: call.failure_ratio, above: 10 %, below: 5 % }
  e: { title: E, priority: P2, kind: ratio, measure: call.failure_ratio, above: 10, labels: [tenant] }
  f: { title: F, priority: P2, kind: ratio, measure: call.failure_ratio, above: 500 ms, inhibitedBy: [nobody, f] }
  g: { title: G, priority: P2, kind: ratio, measure: call.failure_ratio, above: 10 %, message: '{vlaue}', floor: 3 }
  h: { title: H, priority: P2, kind: threshold, measure: queue.size, above: 1, window: 15s, metadata: { x: valu, y: measure.no } }`);
    // The file begins with `rules:`.
    expect(problems.map((problem) => /^line (\d+), rules\.(\w)/.exec(problem)?.slice(1))).toEqual(
      [...'abcdeeefffggghhh'].map((id) => [String(id.charCodeAt(0) - 95), id]),
    );
    expect(problems.map((problem) => problem.replace(/^line \d+, /, ''))).toEqual([
      'rules.a.measure: there is no measure call.lost',
      'rules.b.measure: http.p95 is a percentile; a rule of kind ratio judges: ratio',
      'rules.c: exactly one of above, below, atLeast, atMost is needed, found none',
      'rules.d: exactly one of above, below, atLeast, atMost is needed, found above and below',
      'rules.e.above: found 10; permitted: 0 to 100 %; did you mean 10 %?',
      'rules.e.labels: calls.failed has no label tenant; it has: tenantId, call.direction',
      'rules.e.labels: calls.ended has no label tenant; it has: call.direction, call.status, tenantId',
      'rules.f.inhibitedBy: there is no rule nobody',
      'rules.f.inhibitedBy: a rule cannot mute itself',
      'rules.f.above: found 500 ms; the measure is in ratio, which takes %',
      expect.stringMatching(/^rules\.g\.floor: not for a rule of kind ratio; permitted: title, priority/),
      'rules.g.message: {vlaue} is neither a placeholder nor a label of the rule',
      'rules.g.floor: found 3; permitted: 0 to 100 %; did you mean 3 %?',
      expect.stringMatching(/^rules\.h\.metadata\.x: found "valu"; permitted: value, threshold/),
      'rules.h.metadata.y: there is no measure no',
      'rules.h.window: must be a multiple of 10 s',
    ]);
  });

  it.each([
    ['unknown keys', 'kind: ratio, measure: call.failure_ratio, above: 10 %, cooldwon: 5m', /cooldwon: unknown key/],
    ['forgetting without anybody', 'kind: absence, measure: log.silence, above: 2 m, forgetAfter: 1d', /needs labels/],
    [
      'forgetting before it could fire',
      'kind: absence, measure: log.silence, above: 2 m, forgetAfter: 1m, labels: [version]',
      /must be longer than above: such a rule could not fire/,
    ],
    ['forgetting elsewhere', 'kind: ratio, measure: call.failure_ratio, above: 1 %, forgetAfter: 1d', /not for a rule/],
    [
      'a reading of what has none',
      'kind: threshold, measure: calls.ended, above: 5, over: lowest',
      /calls.ended is a counter; lowest, highest and mean are for gauges/,
    ],
    [
      'the same of a gate',
      'kind: threshold, measure: system.cpu, above: 5, onlyWhile: { measure: calls.active, over: mean, above: 1 }',
      /onlyWhile.over: calls.active is a sum/,
    ],
    ['thresholds that never happen', 'kind: ratio, measure: call.failure_ratio, above: 100 %', /that never happens/],
    ['windows that are not kept', 'kind: ratio, measure: call.failure_ratio, above: 1 %, window: 2h', /at most 1h/],
    [
      'a spike without a past',
      'kind: spike, measure: http.denied_rate, window: 5m, baseline: 10m, floor: 1',
      /at least five times/,
    ],
    [
      'a past that is not kept',
      'kind: spike, measure: http.denied_rate, window: 10m, baseline: 1h, floor: 1',
      /at most 65 minutes/,
    ],
    [
      'a trend longer than a week',
      'kind: trend, measure: log.error_ratio, window: 48h, floor: 1 %',
      /kept for eight days/,
    ],
    ['a trend of gauges', 'kind: trend, measure: db.pool_used, floor: 1 %', /made from gauges/],
    [
      'low volume instead of nothing',
      'kind: low-volume, measure: call.failure_ratio, insteadOf: x, window: 1h, last: 10, atLeast: 80 %',
      /is not a rule of kind ratio/,
    ],
    [
      'more events needed than are looked at',
      'kind: low-volume, measure: call.failure_ratio, insteadOf: r, window: 1h, last: 5, minEvents: 6, atLeast: 80 %',
      /at most `last`/,
    ],
    [
      'a fallback in another unit',
      'kind: threshold, measure: queue.size, above: 1, fallback: system.cpu',
      /in another unit/,
    ],
    [
      'a gate that is not there',
      'kind: threshold, measure: queue.size, above: 1, onlyWhile: { measure: nope, above: 1 }',
      /there is no measure nope/,
    ],
    ['others of nobody', 'kind: ratio, measure: call.failure_ratio, above: 1 %, againstOthers: 2', /others of what/],
    ['first-seen of nothing', 'kind: first-seen, measure: error.templates, labels: []', /at least one is needed/],
    ['absence of a counter', 'kind: absence, measure: log.events, above: 2 m', /judges: absence/],
  ])('%s', (_, rest, problem) => {
    const r = '  r: { title: R, priority: P2, kind: ratio, measure: call.failure_ratio, above: 10 % }';
    expect(problemsOf(`${r}\n  a: { title: A, priority: P2, ${rest} }`).join('\n')).toMatch(problem);
  });

  it('rules that mute each other, also over a third one', () => {
    const rule = (id: string, by: string) =>
      `  ${id}: { title: T, priority: P2, kind: ratio, measure: call.failure_ratio, above: 10 %, inhibitedBy: [${by}] }`;
    const problems = problemsOf([rule('a', 'b'), rule('b', 'c'), rule('c', 'a')].join('\n'));
    expect(problems[0]).toBe('line 2, rules.a.inhibitedBy: b and this rule mute each other: nobody would be told');
  });

  it('a ratio of gauges with different labels, which has no common series', () => {
    const measures = parseMeasures(
      `measures:
  a: { kind: gauge, field: pid, by: [host] }
  b: { kind: gauge, field: pid }
  r: { kind: ratio, numerator: a, denominator: b }`,
      {},
      'measures.yml',
    );
    expect(() =>
      rulesOf('  x: { title: X, priority: P2, kind: threshold, measure: r, above: 10 % }', measures),
    ).toThrow(/divides gauges of different labels/);
  });
});

describe('texts', () => {
  it.each([
    [0.23076, 'ratio', '23.08 %'],
    [0, 'ratio', '0.00 %'],
    [91, 'percent', '91.00 %'],
    [812.4, 'ms', '812.4 ms'],
    [1_900, 'ms', '1.9 s'],
    [150, 's', '2.5 min'],
    [1.43e9, 'bytes', '1.43 GB'],
    [4.2, 'per-minute', '4.2/min'],
    [501, 'count', '501'],
  ] as const)('%s %s is %s', (value, unit, text) => {
    expect(formatValue(value, unit)).toBe(text);
  });

  it('thresholds stand as they were written', () => {
    expect(formatThreshold(0.2, 'ratio')).toBe('20 %');
    expect(formatThreshold(0.005, 'ratio')).toBe('0.5 %');
    expect(formatThreshold(120, 's')).toBe('2 min');
  });
});

describe('rollups', () => {
  it('hold what trends and statistics ask for, and no more labels than that', () => {
    const rollups = rollupsOf(RULES, MEASURES, [{ measure: 'calls.ended', labels: ['call.direction'] }]);
    expect(rollups.find(({ measure }) => measure === 'calls.ended')).toEqual({
      measure: 'calls.ended',
      labels: ['call.direction'],
    });
    expect(rollups.map(({ measure }) => measure).sort()).toEqual([
      'calls.ended',
      'calls.failed',
      'log.errors',
      'log.events',
    ]);
    const success = rulesOf('  t: { title: T, priority: P4, kind: trend, measure: call.success_ratio, floor: 1 % }');
    expect(rollupsOf(success, MEASURES)).toEqual([{ measure: 'calls.ended', labels: ['call.status'] }]);
  });
});
