// What the evaluator remembers: how far back a take-over reads the counts, and what was learned of error templates.
import { describe, expect, test } from 'vitest';
import { countsFrom, createStandaloneEvaluator } from '../../../src/alerter/durable-evaluator.ts';
import type { CountsMessage } from '../../../src/measure/totals.ts';
import { ERROR_TEMPLATE_VERSION } from '../../../src/tag/tag.ts';
import { MEASURES, RULES, rulesOf } from '../rules/kit.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOW = Date.parse('2026-11-27T12:20:00Z');
const at = (time: string) => Date.parse(`2026-11-27T${time}:00Z`);
const kept = (...hours: string[]) => new Map(hours.map((hour) => [`rollup/${at(hour)}`, {}] as const));

test('a full hour before all that the rules look at', () => {
  const all = kept('06:00', '07:00', '08:00', '09:00', '10:00', '11:00');
  expect(countsFrom(NOW, 15 * MINUTE, all)).toBe(at('11:00'));
  expect(countsFrom(at('12:00'), 15 * MINUTE, all)).toBe(at('11:00'));
  expect(countsFrom(NOW, 67 * MINUTE, all)).toBe(at('11:00'));
  expect(countsFrom(NOW, 3 * HOUR, all)).toBe(at('09:00'));
});

test('and every hour whose sums were not kept, at most six hours and what is missing of one', () => {
  expect(countsFrom(NOW, 67 * MINUTE, kept('06:00', '07:00', '08:00'))).toBe(at('09:00'));
  // The one before the first hour that is read is what counts: later ones are read anyway.
  expect(countsFrom(NOW, 67 * MINUTE, kept('08:00', '10:00'))).toBe(at('11:00'));
  expect(countsFrom(NOW, 67 * MINUTE, new Map())).toBe(at('06:00'));
  expect(countsFrom(NOW, 6 * HOUR, new Map())).toBe(at('06:00'));
});

describe('what was learned of error templates', () => {
  const DAY = 24 * HOUR;
  const old = Array.from({ length: 700 }, (_, i) => [
    `template/error.templates/fault ${i}`,
    { key: `error.templates/fault ${i}`, firstMs: NOW - 9 * DAY, quiet: true },
  ]);
  const start = (records: ReadonlyMap<string, object>, wallMs: number) =>
    createStandaloneEvaluator({ measures: MEASURES, rules: RULES, coveredFromMs: wallMs, wallMs }, records, {
      isFiring: () => false,
    });
  let offset = 0;
  const seen = (evaluator: ReturnType<typeof start>, template: string, atMs: number) => {
    const bucketMs = Math.floor(atMs / 10_000) * 10_000;
    const buckets = [{ eventMs: bucketMs, series: { 'error.templates': { [template]: { n: 5 } } } }];
    offset += 1;
    const totals = { lane: '0', arrivalMs: bucketMs, upToOffset: offset, records: 5, buckets };
    evaluator.counts({ kind: 'totals', totals }, atMs);
    const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: atMs, caughtUp: true };
    evaluator.counts({ kind: 'progress', progress }, atMs);
  };
  const news = ({ observations }: { observations: readonly { ruleId: string; state: string }[] }) =>
    observations.filter(({ ruleId, state }) => ruleId === 'new-error' && state === 'breached');

  test('stands in every evaluation until it is durable, and in none after that', () => {
    const records = new Map<string, object>([
      ['known/since', { sinceMs: NOW - 9 * DAY, templates: ERROR_TEMPLATE_VERSION }],
    ]);
    const evaluator = start(records, NOW);
    seen(evaluator, 'fault 1', NOW + 1_000);
    const first = evaluator.evaluate(NOW + 12_000);
    expect(news(first)).toHaveLength(1);
    const key = 'template/error.templates/fault 1';
    const watched = 'watched/application-silent';
    expect(first.records.map((change) => change.key)).toEqual([key, watched]);
    // Its commit failed: nothing of it may be lost, and what is new comes to it.
    seen(evaluator, 'fault 2', NOW + 13_000);
    const second = evaluator.evaluate(NOW + 24_000);
    expect(second.records.map((change) => change.key)).toEqual([key, watched, 'template/error.templates/fault 2']);
    expect(evaluator.evaluate(NOW + 25_000).records).toEqual(second.records);
    evaluator.accepted();
    expect(evaluator.evaluate(NOW + 26_000).records).toEqual([]);
    // A successor of a process that died before that commit has it as news once more; after it, no more.
    for (const [kept, expected] of [
      [records, 1],
      [new Map([...records, ...second.records.map(({ key: id, value }) => [id, value as object] as const)]), 0],
    ] as const) {
      const successor = start(kept, NOW + 30 * MINUTE);
      seen(successor, 'fault 1', NOW + 30 * MINUTE);
      expect(news(successor.evaluate(NOW + 31 * MINUTE))).toHaveLength(expected);
    }
  });

  test('is no news again when the brokers’ clock is set back', () => {
    const evaluator = start(
      new Map([['known/since', { sinceMs: NOW - 9 * DAY, templates: ERROR_TEMPLATE_VERSION }]]),
      NOW,
    );
    seen(evaluator, 'fault 1', NOW + 1_000);
    expect(news(evaluator.evaluate(NOW + 12_000))).toHaveLength(1);
    const later = NOW + 50 * MINUTE;
    seen(evaluator, 'fault 2', later);
    expect(news(evaluator.evaluate(later))).toHaveLength(1);
    const back = later - HOUR;
    evaluator.setBack(back);
    seen(evaluator, 'fault 1', back + 1_000);
    expect(news(evaluator.evaluate(back + 12_000))).toEqual([]);
    seen(evaluator, 'fault 3', back + 20_000);
    expect(news(evaluator.evaluate(back + 32_000))).toMatchObject([{ labels: { 'error.template': 'fault 3' } }]);
  });

  test('by another version is forgotten, little by little, and learned anew without a word', () => {
    const records = new Map<string, object>([['known/since', { sinceMs: NOW - 9 * DAY }], ...(old as [])]);
    const keep = (changes: readonly { key: string; value: object | null }[]) => {
      expect(changes.length).toBeLessThanOrEqual(502);
      for (const { key, value } of changes) value === null ? records.delete(key) : records.set(key, value);
    };
    const first = start(records, NOW);
    seen(first, 'fault 3', NOW + 1_000);
    const learning = first.evaluate(NOW + 2_000);
    expect(news(learning)).toEqual([]);
    keep(learning.records);
    first.accepted();
    expect(records.get('known/since')).toEqual({ sinceMs: NOW, templates: ERROR_TEMPLATE_VERSION });
    for (let i = 3; i < 6; i++) {
      keep(first.evaluate(NOW + i * 1_000).records);
      first.accepted();
    }
    // What was learned meanwhile is not removed with the old entry of the same name.
    expect([...records.keys()].filter((key) => key.startsWith('template/'))).toEqual([
      'template/error.templates/fault 3',
    ]);

    // A restart of the same version goes on: known is known, the new is news.
    const later = NOW + 2 * DAY;
    const second = start(records, later);
    seen(second, 'fault 3', later + 1_000);
    seen(second, 'fault 4', later + 11_000);
    const evaluation = second.evaluate(later + 22_000);
    expect(news(evaluation)).toMatchObject([{ labels: { 'error.template': 'fault 4' } }]);
    expect(evaluation.records.filter(({ key }) => key === 'known/since')).toEqual([]);
  });
});

describe('a first-seen rule that is added later', () => {
  const DAY = 24 * HOUR;
  const errorRule = (more = '') =>
    `  new-error: { title: New Error, priority: P3, kind: first-seen, measure: error.templates, labels: [error.template], minEvents: 3, learning: 24h${more} }`;
  const routeRule = (id = 'new-route', labels = 'http.route') =>
    `  ${id}: { title: New Route, priority: P3, kind: first-seen, measure: http.errors, labels: [${labels}], minEvents: 3, learning: 24h }`;
  const BEFORE = rulesOf(errorRule(), MEASURES);
  const AFTER = rulesOf(`${errorRule()}\n${routeRule()}`, MEASURES);
  /** As a version left it that kept one beginning for all rules. */
  const former = new Map<string, object>([
    ['known/since', { sinceMs: NOW - 90 * DAY, templates: ERROR_TEMPLATE_VERSION }],
    [
      'template/error.templates/old fault',
      { key: 'error.templates/old fault', firstMs: NOW - 9 * DAY, quiet: true, templates: ERROR_TEMPLATE_VERSION },
    ],
  ]);
  let offset = 0;

  function process(records: Map<string, object>, rules: typeof BEFORE, wallMs: number) {
    const evaluator = createStandaloneEvaluator({ measures: MEASURES, rules, coveredFromMs: wallMs, wallMs }, records, {
      isFiring: () => false,
    });
    return {
      evaluator,
      /** Errors of these kinds, and what is reported of them. */
      see(atMs: number, kinds: { template?: string; route?: string }) {
        const bucketMs = Math.floor(atMs / 10_000) * 10_000;
        const series = {
          ...(kinds.template === undefined ? {} : { 'error.templates': { [kinds.template]: { n: 5 } } }),
          ...(kinds.route === undefined ? {} : { 'http.errors': { [`${kinds.route}\u001f500`]: { n: 5 } } }),
        };
        offset += 1;
        const totals = {
          lane: '0',
          arrivalMs: bucketMs,
          upToOffset: offset,
          records: 5,
          format: 2,
          buckets: [{ eventMs: bucketMs, series }],
        };
        evaluator.counts({ kind: 'totals', totals }, atMs);
        const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: atMs, caughtUp: true };
        evaluator.counts({ kind: 'progress', progress }, atMs);
        const { observations, records: changes } = evaluator.evaluate(atMs + 1_000);
        for (const { key, value } of changes) value === null ? records.delete(key) : records.set(key, value);
        evaluator.accepted();
        return observations
          .filter(({ state }) => state === 'breached')
          .map(({ labels }) => Object.values(labels).join());
      },
    };
  }

  test.each<[string, () => Map<string, object>]>([
    ['in state of this version', () => new Map()],
    ['in state of a former version', () => new Map(former)],
  ])('learns silently first, as all do at the first start: by a reload and by a restart, %s', (name, begin) => {
    for (const way of ['reload', 'restart']) {
      const records = begin();
      const first = process(records, BEFORE, NOW);
      first.see(NOW + MINUTE, { template: 'old fault' });
      let at = NOW + 10 * DAY;
      expect(first.see(at, { template: 'new fault', route: '/calls' }), name).toEqual(['new fault']);
      at += HOUR;
      let now = first;
      if (way === 'reload') expect(first.evaluator.changeRules(AFTER)).toBeUndefined();
      else now = process(records, AFTER, at);
      // The rule that was there goes on; the new one learns, whatever was counted before it came.
      expect(now.see(at + MINUTE, { template: 'second new fault', route: '/calls' }), way).toEqual([
        'second new fault',
      ]);
      expect(now.see(at + 23 * HOUR, { route: '/stats' }), way).toEqual([]);
      // Over a restart it goes on learning where it was, and is done a day after it came.
      now = process(records, AFTER, at + 23.5 * HOUR);
      expect(now.see(at + 23.5 * HOUR, { route: '/users' }), way).toEqual([]);
      expect(now.see(at + 25 * HOUR, { route: '/calls' }), way).toEqual([]);
      expect(now.see(at + 25 * HOUR + MINUTE, { route: '/new' }), way).toEqual(['/new']);
    }
  });

  test('and one that watches something else by now learns anew; one that only says something else does not', () => {
    const records = new Map<string, object>();
    process(records, AFTER, NOW).see(NOW + MINUTE, { template: 'old fault', route: '/calls' });
    const at = NOW + 10 * DAY;
    const renamed = rulesOf(`${errorRule(', window: 20m')}\n${routeRule('renamed')}`, MEASURES);
    expect(process(records, renamed, at).see(at, { template: 'a', route: '/a' })).toEqual(['a', '/a']);
    const byStatus = rulesOf(`${errorRule()}\n${routeRule('new-route', 'http.status, http.route')}`, MEASURES);
    expect(process(records, byStatus, at + HOUR).see(at + HOUR, { template: 'b', route: '/b' })).toEqual(['b']);
  });
});

describe('the brokers’ clock set back by an hour', () => {
  const SECOND = 1_000;
  const rules = rulesOf(`  many:
    title: Many errors
    priority: P1
    group: g
    kind: threshold
    measure: error.templates
    window: 2m
    above: 50
`);

  /** Two partitions that are read to their ends every ten seconds, ten events in each; what a crowd of `errors` adds falls into lane 0. */
  function log() {
    const written: { message: CountsMessage; recordMs: number }[] = [];
    let offset = 0;
    return {
      written,
      interval(atMs: number, errors = 1) {
        for (const lane of ['0', '1']) {
          offset += 10;
          const n = lane === '0' ? errors : 1;
          const buckets = [{ eventMs: atMs, series: { 'error.templates': { fault: { n } } } }];
          const totals = { lane, arrivalMs: atMs, upToOffset: offset, records: 10, buckets };
          const recordMs = atMs + 9 * SECOND;
          const progress = { lane, lanes: 2, position: offset + 1, end: offset + 1, arrivalMs: atMs, caughtUp: true };
          written.push(
            { message: { kind: 'totals', totals }, recordMs },
            { message: { kind: 'progress', progress }, recordMs },
          );
        }
      },
    };
  }

  const evaluatorFrom = (wallMs: number) =>
    createStandaloneEvaluator({ measures: MEASURES, rules, coveredFromMs: wallMs - HOUR, wallMs }, new Map(), {
      isFiring: () => false,
    });
  const breached = (evaluator: ReturnType<typeof evaluatorFrom>, wallMs: number) =>
    evaluator.evaluate(wallMs).observations.some(({ state }) => state === 'breached');

  /** A crowd is seen for as long as the window is, and one interval more. */
  const within = (s: number, crowd: number) => s >= crowd && s <= crowd + 120;

  test('the hour that comes again is counted once, and pages again', () => {
    const { written, interval } = log();
    const evaluator = evaluatorFrom(NOW);
    let fed = 0;
    const feed = () => {
      for (; fed < written.length; fed++) evaluator.counts(written[fed]!.message, written[fed]!.recordMs);
    };
    // The first life of the hour, with a crowd in the middle and one at the end.
    for (let s = 0; s < 3_600; s += 10) {
      interval(NOW + s * SECOND, s === 1_800 || s === 3_590 ? 100 : 1);
      feed();
      expect(breached(evaluator, NOW + (s + 10) * SECOND), String(s)).toBe(within(s, 1_800) || s === 3_590);
    }
    // The second one: nothing of the first is seen, a crowd of its own is.
    for (let s = 0; s < 3_600; s += 10) {
      interval(NOW + s * SECOND, s === 600 ? 100 : 1);
      feed();
      expect(breached(evaluator, NOW + (s + 10) * SECOND), String(s)).toBe(within(s, 600));
    }
    // And read from the beginning, by a successor or after a failure, it is the same.
    for (const again of [evaluator, evaluatorFrom(NOW)]) {
      for (const { message, recordMs } of written) again.counts(message, recordMs);
      expect(breached(again, NOW + HOUR)).toBe(false);
      expect(again.evaluate(NOW + HOUR).evalMs).toBe(NOW + HOUR - SECOND);
    }
  });

  test('where nothing is counted it has to be said', () => {
    const { written, interval } = log();
    const evaluator = evaluatorFrom(NOW);
    interval(NOW, 100);
    for (const { message, recordMs } of written) evaluator.counts(message, recordMs);
    expect(breached(evaluator, NOW + 10 * SECOND)).toBe(true);
    evaluator.setBack(NOW - HOUR);
    expect(evaluator.evaluate(NOW - HOUR).evalMs).toBe(0);
    for (const { message } of written.filter(({ message }) => message.kind === 'progress')) {
      evaluator.counts(message, NOW - HOUR);
    }
    expect(evaluator.evaluate(NOW - HOUR).evalMs).toBe(NOW - HOUR);
    expect(breached(evaluator, NOW - HOUR)).toBe(false);
  });

  test('what fired is neither over at once nor unknown for an hour: a whole window of the new time tells', () => {
    const each = rulesOf(`  one:
    title: Many errors
    priority: P1
    kind: threshold
    measure: error.templates
    labels: [error.template]
    window: 2m
    above: 50
`);
    const { written, interval } = log();
    const evaluator = createStandaloneEvaluator(
      { measures: MEASURES, rules: each, coveredFromMs: NOW - HOUR, wallMs: NOW },
      new Map(),
      { isFiring: () => false },
    );
    interval(NOW, 100);
    for (const { message, recordMs } of written) evaluator.counts(message, recordMs);
    const state = (atMs: number) => {
      for (const lane of ['0', '1']) {
        const progress = { lane, lanes: 2, position: 1, end: 1, arrivalMs: NOW - HOUR, caughtUp: true };
        evaluator.counts({ kind: 'progress', progress }, atMs);
      }
      return evaluator.evaluate(atMs).observations.map((one) => one.state);
    };
    expect(state(NOW + 10 * SECOND)).toEqual(['breached']);
    const backMs = NOW + 10 * SECOND - HOUR;
    evaluator.setBack(backMs);
    for (const s of [1, 60, 120]) expect(state(backMs + s * SECOND), String(s)).toEqual(['unknown']);
    expect(state(backMs + 140 * SECOND)).toEqual(['clear']);
  });
});

test('the brokers’ clock set forward by an hour: what is missing in the windows begins nothing and ends nothing', () => {
  const SECOND = 1_000;
  const own =
    rulesOf(`  many: { title: M, priority: P1, kind: threshold, measure: error.templates, window: 2m, above: 500 }
  few: { title: F, priority: P1, kind: threshold, measure: error.templates, window: 2m, below: 500 }
  spike: { title: S, priority: P1, kind: spike, measure: error.templates, window: 5m, baseline: 1h, floor: 50, factor: 3 }
`);
  const records = new Map<string, object>();
  const begin = () =>
    createStandaloneEvaluator({ measures: MEASURES, rules: own, coveredFromMs: NOW - 2 * HOUR, wallMs: NOW }, records, {
      isFiring: () => false,
    });
  let evaluator = begin();
  const totals: CountsMessage[] = [];
  let saidMs = 0;
  /** Ten seconds with a hundred errors. */
  const pass = (atMs: number) => {
    const buckets = [{ eventMs: atMs, series: { 'error.templates': { fault: { n: 100 } } } }];
    totals.push({
      kind: 'totals',
      totals: { lane: '0', arrivalMs: atMs, upToOffset: totals.length + 1, records: 100, buckets },
    });
    evaluator.counts(totals.at(-1)!, atMs + 9 * SECOND);
    const states: string[] = [];
    for (const ms of [9_000, 9_500]) {
      const said = { writer: 'w', saidMs: saidMs + ms };
      const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: atMs, caughtUp: true, ...said };
      evaluator.counts({ kind: 'progress', progress }, atMs + ms);
      const { observations, records: changed } = evaluator.evaluate(atMs + ms);
      for (const { key, value } of changed) if (value !== null) records.set(key, value);
      evaluator.accepted();
      for (const { ruleId, state } of observations) states.push(`${ruleId} ${state}`);
    }
    saidMs += 10 * SECOND;
    return new Set(states);
  };
  for (let s = 0; s < 3_600; s += 10) pass(NOW - HOUR + s * SECOND);
  const calm = new Set(['many breached', 'few clear', 'spike clear']);
  expect(pass(NOW)).toEqual(calm);
  const unsaid = new Set([
    'many held',
    'many unknown',
    'many breached',
    'few held',
    'few unknown',
    'few clear',
    'spike held',
    'spike unknown',
  ]);
  const after = NOW + HOUR + 10 * SECOND;
  for (let s = 0; s < 3_600; s += 10) {
    if (s === 60) {
      // A successor reads the counts.
      evaluator = begin();
      for (const message of totals) evaluator.counts(message, after);
    }
    const said = [...pass(after + s * SECOND)].filter((state) => !unsaid.has(state));
    if (s < 1_500) expect(said, String(s)).toEqual([]);
    else
      expect(
        said.every((state) => state === 'spike clear'),
        String(s),
      ).toBe(true);
  }
  expect(pass(after + HOUR)).toEqual(calm);
});

describe('other rules', () => {
  const cpu = (more: string) => rulesOf(`  rule: { title: T, priority: P3, kind: ${more} }`);

  test('hold from the next evaluation on, over what is held already', () => {
    const first = cpu('threshold, measure: calls.ended, window: 5m, above: 100');
    const evaluator = createStandaloneEvaluator(
      { measures: MEASURES, rules: first, coveredFromMs: NOW, wallMs: NOW },
      new Map(),
      { isFiring: () => false },
    );
    const buckets = [
      { eventMs: NOW, series: { 'calls.ended': { [['outbound', 'failed', 'a'].join('\u001f')]: { n: 50 } } } },
    ];
    const totals = { lane: '0', arrivalMs: NOW, upToOffset: 1, records: 50, format: 2, buckets };
    evaluator.counts({ kind: 'totals', totals }, NOW);
    const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: NOW, caughtUp: true };
    evaluator.counts({ kind: 'progress', progress }, NOW + 20_000);
    const state = () => evaluator.evaluate(NOW + 20_000).observations.map((one) => one.state);
    expect(state()).toEqual(['clear']);
    expect(evaluator.changeRules(cpu('threshold, measure: calls.ended, window: 5m, above: 10'))).toBeUndefined();
    expect(state()).toEqual(['breached']);
    // What cannot be told from what is held takes a restart, in words; nothing has changed then.
    for (const [rule, why] of [
      ['percentile, measure: http.p95, window: 30m, above: 1 s', /longer window than histograms are kept/],
      ['trend, measure: http.error_ratio, floor: 1 %', /no sums per hour are kept of http/],
    ] as const) {
      expect(evaluator.changeRules(cpu(rule))).toMatch(why);
      expect(state()).toEqual(['breached']);
    }
  });
});
