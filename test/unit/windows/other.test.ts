// Whatever a host, a tenant or a queue is called, its alert is its own: what did not fit into a measure has a name that no label can
// have, in what is counted now and beside what former counters and alerters wrote.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ArrivalBucket, compileCollect } from '../../../src/measure/collect.ts';
import { collectedOf, parseMeasures } from '../../../src/measure/measure-config.ts';
import { type BucketTotals, decodeCounts, encodeCounts, LABEL_SEPARATOR, OTHER } from '../../../src/measure/totals.ts';
import { createEvaluator } from '../../../src/rules/evaluator.ts';
import { totalsOf } from '../../../src/windows/values.ts';
import { createWindowStore } from '../../../src/windows/windows.ts';
import { HOUR, rulesOf, SECOND, T0 } from '../rules/kit.ts';

const MEASURES = parseMeasures(
  `measures:
  faults: { kind: counter, where: { event: fault }, by: [host, queue.name], maxSeries: 4 }`,
  {},
  'measures.yml',
);
const RULES = rulesOf(
  '  faulty: { title: Faulty, priority: P2, kind: threshold, measure: faults, window: 5m, atLeast: 1, labels: [host], maxAlerts: 50, message: "{host} {volume}" }',
  MEASURES,
);

/** Counted as the counter does, and through the counts topic. */
function counted(pairs: readonly (readonly [host: string, queue: string])[]): BucketTotals {
  const bucket = new ArrivalBucket('0', T0, collectedOf(MEASURES));
  const collect = compileCollect(collectedOf(MEASURES));
  for (const [host, name] of pairs) {
    const doc = { event: 'fault', host, queue: { name } };
    collect({ doc, tags: [], timeMs: T0 } as never, { eventId: undefined }, T0, bucket);
  }
  bucket.records = pairs.length;
  bucket.upToOffset = pairs.length;
  const message = { kind: 'totals', totals: JSON.parse(bucket.toJson()) as BucketTotals } as const;
  const read = decodeCounts(Buffer.from(encodeCounts(message).value));
  return (read as { totals: BucketTotals }).totals;
}

function alerting(totals: BucketTotals): Map<string, string> {
  const evaluator = createEvaluator({ measures: MEASURES, rules: RULES });
  evaluator.apply({ kind: 'totals', totals }, T0);
  const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: T0 + 20 * SECOND, caughtUp: true };
  evaluator.apply({ kind: 'progress', progress }, T0 + 20 * SECOND);
  return new Map(
    evaluator
      .tick(T0 + 20 * SECOND)
      .observations.filter(({ state }) => state === 'breached')
      .map(({ labels, message = '' }) => [labels.host as string, message]),
  );
}

/** As a label shows it. */
const shown = (value: string) => value.replaceAll(/[\u001e\u001f]/g, ' ').slice(0, 256);
const name = fc.oneof(
  fc.constantFrom('other', 'Other', OTHER, `${OTHER}other`, LABEL_SEPARATOR, '__proto__', 'constructor', 'null', ' '),
  fc.string({ minLength: 1, maxLength: 12 }),
);

describe('a label set', () => {
  test('alerts under its name, whatever that is', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, name), { minLength: 1, maxLength: 4 }), (pairs) => {
        const expected = new Map<string, number>();
        for (const [host] of pairs) expected.set(shown(host), (expected.get(shown(host)) ?? 0) + 1);
        const found = alerting(counted(pairs));
        expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
        for (const [host, n] of expected) expect(found.get(host)).toBe(`${host} ${n}`);
      }),
      { numRuns: 300 },
    );
  });

  test('that did not fit is nobody’s', () => {
    const hosts = ['a', 'b', 'other', 'c', 'd', 'e'].map((host) => [host, 'q'] as const);
    const totals = counted(hosts);
    expect([...alerting(totals).keys()]).toEqual(['a', 'b', 'other', 'c']);
    const store = createWindowStore({ measures: MEASURES });
    store.apply(totals);
    const read = [...totalsOf(store, 'faults')].map(({ values, value }) => `${values} ${(value as { n: number }).n}`);
    expect(read).toEqual(['a,q 1', 'b,q 1', 'other,q 1', 'c,q 1', `${OTHER},${OTHER} 2`]);
  });
});

test('an alert whose value comes from what did not fit names nobody for it', () => {
  const measures = parseMeasures(
    'measures:\n  fill: { kind: gauge, field: pid, by: [host], maxSeries: 1 }',
    {},
    'measures.yml',
  );
  const rules = rulesOf(
    '  full: { title: Full, priority: P2, kind: threshold, measure: fill, over: highest, above: 90, message: "{value} at {source}", metadata: { host: source.host } }',
    measures,
  );
  for (const [host, words, metadata] of [
    ['other', '95 at host other', { host: 'other' }],
    [OTHER, '95 at a host that is not told apart', {}],
  ] as const) {
    const evaluator = createEvaluator({ measures, rules });
    const series = { fill: { [host]: { v: 95, at: T0 + SECOND } } };
    const totals = {
      lane: '0',
      arrivalMs: T0,
      upToOffset: 1,
      records: 1,
      format: 2,
      buckets: [{ eventMs: T0, series }],
    };
    evaluator.apply({ kind: 'totals', totals }, T0);
    const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: T0 + 2 * SECOND, caughtUp: true };
    evaluator.apply({ kind: 'progress', progress }, T0 + 2 * SECOND);
    const [said] = evaluator.tick(T0 + 2 * SECOND).observations.filter(({ state }) => state === 'breached');
    expect([said?.message, said?.metadata ?? {}]).toEqual([words, metadata]);
  }
});

describe('beside former versions', () => {
  const old = (series: Record<string, { n: number }>, arrivalMs = T0): BucketTotals => ({
    lane: '0',
    arrivalMs,
    upToOffset: 9,
    records: 3,
    buckets: [{ eventMs: arrivalMs, series: { faults: series } }],
  });
  const key = (...values: string[]) => values.join(LABEL_SEPARATOR);

  test('what a former counter could not place is nobody’s, and its named ones are', () => {
    const totals = old({
      [key('other', 'other')]: { n: 5 },
      [key('other', 'mail')]: { n: 2 },
      [key('a', 'q')]: { n: 1 },
    });
    const read = decodeCounts(Buffer.from(JSON.stringify({ v: 1, totals })));
    expect(alerting((read as { totals: BucketTotals }).totals)).toEqual(
      new Map([
        ['other', 'other 2'],
        ['a', 'a 1'],
      ]),
    );
  });

  test('a bucket that a former counter began and a new one goes on with is corrected as a whole', () => {
    const store = createWindowStore({ measures: MEASURES });
    store.apply(old({ [key('other', 'other')]: { n: 5 } }));
    store.apply({
      ...old({ [key(OTHER, OTHER)]: { n: 7 }, [key('other', 'other')]: { n: 1 } }),
      upToOffset: 20,
      format: 2,
    });
    const read = [...totalsOf(store, 'faults')].map(({ value }) => (value as { n: number }).n);
    expect(read.sort()).toEqual([1, 7]);
  });

  test('sums of hours that a former alerter kept are read as they were meant', () => {
    const rollups = [{ measure: 'faults', labels: ['queue.name'] }];
    const store = createWindowStore({ measures: MEASURES, rollups });
    const hourMs = T0 - 3 * HOUR;
    store.putHours(
      [{ hourMs, measures: { faults: { [key('other', 'mail')]: [4, 0], [key('other', 'other')]: [3, 0] } } }],
      T0,
    );
    expect(store.hourly.hour('faults', hourMs)).toEqual(
      new Map([
        [key(OTHER, 'mail'), [4, 0]],
        [key(OTHER, 'other'), [3, 0]],
      ]),
    );
  });
});
