// What one event adds to the measures: kinds, conditions, labels and their bound, event time, and the bound of a bucket.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Condition, compileCondition } from '../../../src/core/condition.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { ArrivalBucket, compileCollect, compileLabelTest } from '../../../src/measure/collect.ts';
import { type CollectedMeasure, collectedOf, parseMeasures } from '../../../src/measure/measure-config.ts';
import {
  type BucketTotals,
  type CounterValue,
  type DistributionValue,
  LABEL_SEPARATOR,
  OTHER,
} from '../../../src/measure/totals.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createTagger, type TaggedEvent } from '../../../src/tag/tag.ts';

const parser = createParser({ maxRecordBytes: 1e6, maxAheadMs: 6e8, maxBehindMs: 2.6e9 }, { masker: createMasker() });
const tag = createTagger();
/** In the middle of an arrival bucket. */
const ARRIVAL = Date.UTC(2026, 0, 2, 3, 4, 4);
const BUCKET = ARRIVAL - 4_000;

type Doc = Record<string, unknown>;

/** Documents that arrive at `ARRIVAL`; `timestamp` is when they happened. */
function toEvents(docs: readonly Doc[]): TaggedEvent[] {
  return docs.flatMap((doc, offset) => {
    const full = { timestamp: new Date(ARRIVAL).toISOString(), level: 'info', message: 'm', ...doc };
    const value = Buffer.from(JSON.stringify(full));
    const result = parser.parse({ value, offset, timeMs: ARRIVAL, eventId: undefined });
    return result.ok ? [tag(result.event)] : [];
  });
}

const measuresOf = (yaml: string) => collectedOf(parseMeasures(`measures:\n${yaml}`, {}, 'test.yml'));

function fill(measures: readonly CollectedMeasure[], events: readonly TaggedEvent[], maxBytes?: number): ArrivalBucket {
  const collect = compileCollect(measures);
  const bucket = new ArrivalBucket('0', BUCKET, measures, maxBytes);
  for (const event of events) collect(event, { eventId: undefined }, ARRIVAL, bucket);
  return bucket;
}

const totalsOf = (bucket: ArrivalBucket) => JSON.parse(bucket.toJson()) as BucketTotals;

function count(yaml: string, docs: readonly Doc[], maxBytes?: number): BucketTotals {
  return totalsOf(fill(measuresOf(yaml), toEvents(docs), maxBytes));
}

const at = (ms: number) => ({ timestamp: new Date(ms).toISOString() });
const seriesOf = (totals: BucketTotals, measure: string) =>
  totals.buckets.map(({ eventMs, series }) => [eventMs, series[measure]]);
const only = (totals: BucketTotals, measure: string) => {
  expect(totals.buckets.map(({ eventMs }) => eventMs)).toEqual([BUCKET]);
  return totals.buckets[0]!.series[measure];
};
const key = (...labels: string[]) => labels.join(LABEL_SEPARATOR);

describe('conditions', () => {
  const cases: [Condition, unknown[], unknown[]][] = [
    ['failed', ['failed', ['x', 'failed']], ['FAILED', '', undefined, null, [], {}, ['x']]],
    [500, [500, '500'], [501, '500.0', true, undefined]],
    [true, [true, 'true'], [false, 1, undefined]],
    [
      ['a', 401],
      ['a', 401, '401', ['b', 'a']],
      ['b', 402, undefined, null, {}],
    ],
    [{ gte: 500 }, [500, 599.5, '503'], [499, '499', 'many', '', undefined, null, true, [500]]],
    [{ gt: 1, lte: 3 }, [2, 3, '3'], [1, 4, undefined]],
    [{ lt: 0 }, [-1, '-0.5'], [0, '', undefined]],
    [{ exists: true }, ['x', 0, false, []], ['', undefined, null]],
    [{ exists: false }, ['', undefined, null], ['x', 0]],
    [{ not: 'error' }, ['info', undefined, [], ['x']], ['error', ['x', 'error']]],
    [{ not: [200, 201], lt: 300 }, [204, '299'], [200, '201', 404, undefined]],
  ];

  test.each(cases)('%j', (condition, holds, fails) => {
    const test = compileCondition(condition);
    for (const value of holds) expect(test(value), `${JSON.stringify(value)} holds`).toBe(true);
    for (const value of fails) expect(test(value), `${JSON.stringify(value)} fails`).toBe(false);
  });

  test('never throw, whatever the value', () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        for (const [condition] of cases) expect(typeof compileCondition(condition)(value)).toBe('boolean');
      }),
    );
  });

  test('of labels, which are texts', () => {
    const failed = compileLabelTest({ 'http.status': { gte: 500 }, 'http.method': 'GET' }, [
      'http.method',
      'http.status',
    ]);
    expect(failed(['GET', '503'])).toBe(true);
    expect(failed(['GET', '200'])).toBe(false);
    expect(failed(['GET', OTHER])).toBe(false);
    expect(failed(['', '503'])).toBe(false);
  });
});

describe('kinds', () => {
  test('a counter counts per label set, and keeps the first ids as examples', () => {
    const totals = count('  c: { kind: counter, where: { tags: error }, by: [service, version], examples: 2 }', [
      { level: 'error', service: 'api', version: '1', eventId: 'A' },
      { level: 'info', service: 'api', version: '1', eventId: 'B' },
      { level: 'fatal', service: 'api', version: '1', eventId: 'C' },
      { level: 'crit', service: 'api', version: '1', eventId: 'D' },
      { level: 'error', service: 'api', eventId: 'E' },
    ]);
    expect(only(totals, 'c')).toEqual({
      [key('api', '1')]: { n: 3, ex: ['A', 'C'] },
      [key('api', '')]: { n: 1, ex: ['E'] },
    });
  });

  test('a distribution has its exact count, sum and extremes; what is no number is not in it', () => {
    const request = (durationMs: unknown) => ({ event: 'http.request', http: { durationMs } });
    const totals = count('  d: { kind: distribution, where: { event: http.request }, field: http.durationMs }', [
      request(12.5),
      request(0),
      request(700),
      request('fast'),
      request(null),
      request([1, 2]),
      { event: 'http.request' },
      { event: 'other', http: { durationMs: 5 } },
    ]);
    const { n, sum, min, max, bins } = only(totals, 'd')![''] as DistributionValue;
    expect({ n, sum, min, max }).toEqual({ n: 3, sum: 712.5, min: 0, max: 700 });
    expect(Object.values(bins)).toEqual([1, 1, 1]);
  });

  test('a gauge is the newest by event time, of two at the same time the later one', () => {
    const queue = (name: string, waiting: number, ms: number) => ({
      event: 'queue.stats',
      queue: { name, waiting },
      ...at(ms),
    });
    const totals = count(
      '  g: { kind: gauge, where: { event: queue.stats }, field: queue.waiting, by: [queue.name] }',
      [
        queue('a', 5, ARRIVAL - 1_000),
        queue('a', 7, ARRIVAL - 2_000),
        queue('b', 1, ARRIVAL - 1_000),
        queue('b', 2, ARRIVAL - 1_000),
      ],
    );
    expect(only(totals, 'g')).toEqual({ a: { v: 5, at: ARRIVAL - 1_000 }, b: { v: 2, at: ARRIVAL - 1_000 } });
  });

  test('errors are grouped by the template logpipe makes, not by what the producer calls one', () => {
    const totals = count('  t: { kind: counter, where: { tags: error }, by: [error.template] }', [
      { level: 'error', message: 'Call 17 failed', error: { template: 'mine' } },
      { level: 'error', message: 'Call 18 failed' },
      { level: 'info', message: 'fine', error: { template: 'mine' } },
    ]);
    expect(only(totals, 't')).toEqual({ 'Call <n> failed': { n: 2 } });
  });

  test('an event reaches the measures that name it, and those that name none', () => {
    const totals = count(
      `
  all: { kind: counter }
  calls: { kind: counter, where: { event: [call.started, call.ended] } }
  ended: { kind: counter, where: { event: call.ended } }
  others: { kind: counter, where: { event: { not: call.ended } } }`,
      [{ event: 'call.ended' }, { event: 'call.started' }, { event: 'strange' }, {}, { event: 5 }],
    );
    expect(totals.buckets[0]!.series).toEqual({
      all: { '': { n: 5 } },
      calls: { '': { n: 2 } },
      ended: { '': { n: 1 } },
      others: { '': { n: 4 } },
    });
  });
});

describe('labels', () => {
  test('the first `maxSeries` label sets of an arrival bucket are kept, the rest is one series', () => {
    const docs = ['a', 'b', 'c', 'a', 'd', 'b'].map((host, i) => ({
      host,
      service: `s${i % 1}`,
      ...at(ARRIVAL - i * 10_000),
    }));
    const totals = count('  c: { kind: counter, by: [host, service], maxSeries: 2 }', docs);
    // Also where the others happened in another event bucket: which sets are kept is decided by arrival.
    const all = totals.buckets.flatMap(({ series }) => Object.entries(series.c!));
    expect(all.map(([name, value]) => [name, (value as CounterValue).n]).sort()).toEqual([
      [key(OTHER, OTHER), 1],
      [key(OTHER, OTHER), 1],
      [key('a', 's0'), 1],
      [key('a', 's0'), 1],
      [key('b', 's0'), 1],
      [key('b', 's0'), 1],
    ]);
  });

  test('which sets are kept depends on the order of the log alone', () => {
    const host = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    fc.assert(
      fc.property(fc.array(fc.tuple(host, fc.integer({ min: 0, max: 3 })), { maxLength: 40 }), (events) => {
        const docs = events.map(([name, ago]) => ({ host: name, ...at(ARRIVAL - ago * 10_000) }));
        const kept = [...new Set(events.map(([name]) => name))].slice(0, 2);
        const totals = count('  c: { kind: counter, by: [host], maxSeries: 2 }', docs);
        const sums: Record<string, number> = {};
        for (const { series } of totals.buckets) {
          for (const [name, value] of Object.entries(series.c ?? {}))
            sums[name] = (sums[name] ?? 0) + (value as CounterValue).n;
        }
        const expected: Record<string, number> = {};
        for (const [name] of events) {
          const label = kept.includes(name) ? name : OTHER;
          expected[label] = (expected[label] ?? 0) + 1;
        }
        expect(sums).toEqual(expected);
      }),
    );
  });

  test('may be anything: prototypes, separators, long texts, numbers, lists, nothing', () => {
    const long = 'x'.repeat(5_000);
    const hosts = [
      '__proto__',
      'constructor',
      `a${LABEL_SEPARATOR}b`,
      'a b',
      long,
      `${long}y`,
      7,
      true,
      ['l'],
      null,
      '"\n',
    ];
    const totals = count(
      '  c: { kind: counter, by: [host] }',
      hosts.map((host) => ({ host })),
    );
    expect(Object.entries(only(totals, 'c')!)).toEqual(
      expect.arrayContaining([
        ['__proto__', { n: 1 }],
        ['constructor', { n: 1 }],
        ['a b', { n: 2 }],
        [long.slice(0, 256), { n: 2 }],
        ['7', { n: 1 }],
        ['true', { n: 1 }],
        ['', { n: 2 }],
        ['"\n', { n: 1 }],
      ]),
    );
  });
});

describe('event time', () => {
  test('a little ahead counts in its own bucket, more than that at its arrival; very old ones share a bucket', () => {
    const totals = count('  c: { kind: counter }', [
      at(ARRIVAL + 5_000),
      at(ARRIVAL + 6_000),
      at(ARRIVAL + 86_400_000),
      at(ARRIVAL - 4_000),
      at(ARRIVAL - 4_001),
      at(ARRIVAL - 6 * 3_600_000),
      at(ARRIVAL - 6 * 3_600_000 - 1),
      at(ARRIVAL - 7 * 86_400_000),
    ]);
    const sixHours = Math.floor((ARRIVAL - 6 * 3_600_000) / 10_000) * 10_000;
    expect(seriesOf(totals, 'c')).toEqual([
      [0, { '': { n: 2 } }],
      [sixHours, { '': { n: 1 } }],
      [BUCKET - 10_000, { '': { n: 1 } }],
      [BUCKET, { '': { n: 4 } }],
    ]);
    // 3:04:09 is ahead and still within the same ten seconds; the next bucket begins at 3:04:10.
    expect(seriesOf(count('  c: { kind: counter }', [at(BUCKET + 9_999)]), 'c')).toEqual([[BUCKET, { '': { n: 1 } }]]);
  });

  test('a gauge from the future is as old as its arrival, so that the next true one replaces it', () => {
    const totals = count('  g: { kind: gauge, field: pid }', [
      { pid: 1, ...at(ARRIVAL + 3_600_000) },
      { pid: 2, ...at(ARRIVAL) },
    ]);
    expect(only(totals, 'g')).toEqual({ '': { v: 2, at: ARRIVAL } });
  });
});

describe('a bucket that weighs too much', () => {
  const docs = Array.from({ length: 3_000 }, (_, i) => ({
    host: `host-${i}-${'x'.repeat(80)}`,
    pid: i * i,
    eventId: `id-${i}`,
    ...at(ARRIVAL - (i % 40) * 10_000),
  }));
  const yaml = `
  c: { kind: counter, by: [host], maxSeries: 5000, examples: 5 }
  d: { kind: distribution, field: pid, by: [host], maxSeries: 5000 }
  g: { kind: gauge, field: pid, by: [host], maxSeries: 5000 }`;

  test('stays near its limit, and loses no count', () => {
    const totals = count(yaml, docs, 100_000);
    const weight = JSON.stringify(totals).length;
    expect(weight).toBeLessThan(130_000);
    expect(weight).toBeGreaterThan(60_000);
    const values = (measure: string) =>
      totals.buckets.flatMap(({ series }) => Object.values(series[measure] ?? {})) as DistributionValue[];
    expect(values('c').reduce((sum, { n }) => sum + n, 0)).toBe(3_000);
    expect(values('d').reduce((sum, { n }) => sum + n, 0)).toBe(3_000);
    expect(values('d').reduce((sum, { sum: s }) => sum + s, 0)).toBe(docs.reduce((sum, { pid }) => sum + pid, 0));
    expect(values('d').every(({ n, min, max }) => n > 0 && min <= max)).toBe(true);
    // What did not fit is where no window reaches.
    expect(totals.buckets[0]).toMatchObject({ eventMs: 0, series: { c: { [OTHER]: {} } } });
  });

  test('wherever the limit falls, no series is left behind empty', () => {
    const measures = measuresOf(yaml);
    const events = toEvents(docs.slice(0, 12));
    // Every limit within one series' weight.
    for (let maxBytes = 1_500; maxBytes < 1_900; maxBytes++) {
      const { buckets } = totalsOf(fill(measures, events, maxBytes));
      const values = buckets.flatMap(({ series }) => Object.values(series.d ?? {})) as DistributionValue[];
      expect(values.every(({ n }) => n > 0)).toBe(true);
    }
  });

  test('what it holds is about what it says it weighs', () => {
    const bucket = fill(measuresOf(yaml), toEvents(docs));
    const weight = Buffer.byteLength(bucket.toJson());
    expect(bucket.bytes).toBeGreaterThan(weight * 0.9);
    expect(bucket.bytes).toBeLessThan(weight * 1.6);
  });
});
