// The evaluator's memory against a naive recount, whatever way the totals came.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Measures, parseMeasures } from '../../../src/measure/measure-config.ts';
import {
  addBins,
  type Bins,
  BUCKET_MS,
  type BucketTotals,
  binOf,
  type CounterValue,
  type DistributionValue,
  type EventBucket,
  LABEL_SEPARATOR,
  LATE_MS,
  OLDER_MS,
  OTHER,
  quantile,
} from '../../../src/measure/totals.ts';
import type { Layer } from '../../../src/windows/tables.ts';
import { readMeasure, totalsOf } from '../../../src/windows/values.ts';
import { createWindowStore, type WindowStore } from '../../../src/windows/windows.ts';
import { HOUR, MINUTE, SECOND, T0 } from '../rules/kit.ts';

const MEASURES: Measures = parseMeasures(
  `measures:
  hits: { kind: counter, by: [level, host], maxSeries: 1000 }
  slow: { kind: distribution, field: http.durationMs, by: [host], unit: ms }
  slow.p90: { kind: percentile, of: slow, p: 90 }
  fill: { kind: gauge, field: pid, by: [host] }
`,
  {},
  'measures.yml',
);
const HOSTS = ['a', 'b', 'c'];
const LEVELS = ['info', 'error'];

function totals(lane: string, arrivalMs: number, upToOffset: number, buckets: EventBucket[]): BucketTotals {
  return { lane, arrivalMs, upToOffset, records: upToOffset, buckets };
}

function hits(eventMs: number, key: string, n: number): EventBucket {
  return { eventMs, series: { hits: { [key]: { n } } } };
}

const key = (...labels: string[]) => labels.join(LABEL_SEPARATOR);

function sumOf(store: WindowStore, fromMs: number, toMs: number, layer: Layer = 'live', where = {}): number {
  return readMeasure(store, 'hits', { fromMs, toMs, nowMs: toMs, layer, where })[0]!.volume;
}

interface Event {
  readonly lane: string;
  /** Arrival and age in buckets. */
  readonly arrival: number;
  readonly age: number;
  readonly host: string;
  readonly level: string;
  readonly value: number;
}

const event: fc.Arbitrary<Event> = fc.record({
  lane: fc.constantFrom('0', '1'),
  arrival: fc.integer({ min: 0, max: 20 }),
  age: fc.integer({ min: 0, max: 40 }),
  host: fc.constantFrom(...HOSTS),
  level: fc.constantFrom(...LEVELS),
  value: fc.integer({ min: -3, max: 20_000 }),
});

/** What a counter says of a bucket after its first `count` events: a pure function of the log. */
function versionOf(events: readonly Event[], count: number): BucketTotals {
  const { lane, arrival } = events[0]!;
  const buckets = new Map<number, { hits: Record<string, CounterValue>; slow: Record<string, DistributionValue> }>();
  for (const { age, host, level, value } of events.slice(0, count)) {
    const eventMs = T0 + (arrival - age) * BUCKET_MS;
    const bucket = buckets.get(eventMs) ?? { hits: {}, slow: {} };
    buckets.set(eventMs, bucket);
    bucket.hits[key(level, host)] ??= { n: 0 };
    bucket.hits[key(level, host)]!.n += 1;
    bucket.slow[host] ??= { n: 0, sum: 0, min: 0, max: 0, bins: {} };
    const cell = bucket.slow[host];
    cell.n += 1;
    cell.sum += value;
    cell.bins[binOf(value)] = (cell.bins[binOf(value)] ?? 0) + 1;
  }
  return totals(
    lane,
    T0 + arrival * BUCKET_MS,
    count,
    [...buckets].map(([eventMs, series]) => ({ eventMs, series })),
  );
}

describe('windows', () => {
  it('equal a naive recount of the newest versions, however often and in whatever order these came', () => {
    const scenario = fc
      .array(event, { minLength: 1, maxLength: 60 })
      .chain((events) => {
        const byBucket = new Map<string, Event[]>();
        for (const one of events) {
          const id = `${one.lane}/${one.arrival}`;
          byBucket.set(id, [...(byBucket.get(id) ?? []), one]);
        }
        const versions = [...byBucket.values()].flatMap((own) => own.map((_, i) => versionOf(own, i + 1)));
        // Every version at least once, some again, all shuffled.
        return fc.tuple(
          fc.constant(events),
          fc.shuffledSubarray([...versions, ...versions], { minLength: versions.length }),
        );
      })
      .chain(([events, sent]) =>
        fc.tuple(
          fc.constant(events),
          fc.constant(sent),
          fc.integer({ min: -45, max: 22 }),
          fc.integer({ min: 1, max: 60 }),
          fc.constantFrom<Layer>('live', 'late', 'all'),
        ),
      );
    fc.assert(
      fc.property(scenario, ([events, sent, fromBucket, width, layer]) => {
        const store = createWindowStore({ measures: MEASURES, binsMs: HOUR });
        const fromMs = T0 + fromBucket * BUCKET_MS;
        const toMs = fromMs + width * BUCKET_MS;
        sent.forEach((one, i) => {
          store.apply(one);
          // Reading in between fills every cache; what comes later must still be seen.
          if (i % 7 === 3) {
            sumOf(store, fromMs, toMs, layer);
            readMeasure(store, 'slow.p90', { fromMs, toMs, nowMs: toMs });
          }
        });
        // Not every bucket's last version need have been sent.
        const newest = new Map<string, BucketTotals>();
        for (const one of sent) {
          const id = `${one.lane}/${one.arrivalMs}`;
          if (one.upToOffset > (newest.get(id)?.upToOffset ?? 0)) newest.set(id, one);
        }
        expect(events.length).toBeGreaterThan(0);
        const buckets = [...newest.values()].flatMap(({ arrivalMs, buckets: own }) =>
          own.map((bucket) => ({ ...bucket, late: arrivalMs - bucket.eventMs > LATE_MS })),
        );
        const inside = buckets.filter(
          ({ eventMs, late }) =>
            eventMs >= fromMs && eventMs < toMs && (layer === 'all' || late === (layer === 'late')),
        );
        for (const host of HOSTS) {
          const where = { host };
          const expected = inside.reduce(
            (sum, { series }) =>
              sum + LEVELS.reduce((n, level) => n + ((series.hits?.[key(level, host)] as CounterValue)?.n ?? 0), 0),
            0,
          );
          expect(sumOf(store, fromMs, toMs, layer, where)).toBe(expected);
        }
        if (layer === 'live') {
          const bins: Bins = new Map();
          for (const { series } of inside) {
            for (const cell of Object.values(series.slow ?? {})) addBins(bins, (cell as DistributionValue).bins);
          }
          const read = readMeasure(store, 'slow.p90', { fromMs, toMs, nowMs: toMs })[0]!;
          expect(read.value).toBe(quantile(bins, 0.9));
        }
        const total = [...totalsOf(store, 'hits')].reduce(
          (n, { value }) => n + (value.kind === 'counter' ? value.n : 0),
          0,
        );
        expect(total).toBe([...newest.values()].reduce((n, { upToOffset }) => n + upToOffset, 0));
      }),
      { numRuns: 300 },
    );
  });

  it('an older version, or the same one again, changes nothing; a correction replaces', () => {
    const store = createWindowStore({ measures: MEASURES });
    expect(store.apply(totals('0', T0, 5, [hits(T0, key('info', 'a'), 5)]))).toBe('applied');
    expect(store.apply(totals('0', T0, 5, [hits(T0, key('info', 'a'), 99)]))).toBe('known');
    expect(store.apply(totals('0', T0, 3, [hits(T0, key('info', 'a'), 3)]))).toBe('known');
    expect(store.apply(totals('0', T0, 7, [hits(T0, key('error', 'b'), 7)]))).toBe('applied');
    expect(sumOf(store, T0, T0 + MINUTE)).toBe(7);
    expect(sumOf(store, T0, T0 + MINUTE, 'live', { level: 'info' })).toBe(0);
    // Another partition's bucket of the same time is another bucket.
    expect(store.apply(totals('1', T0, 3, [hits(T0, key('info', 'a'), 3)]))).toBe('applied');
    expect(sumOf(store, T0, T0 + MINUTE)).toBe(10);
  });

  it('reads a corrected histogram anew, though it was read before', () => {
    const store = createWindowStore({ measures: MEASURES });
    const slow = (upToOffset: number, values: Record<string, number>) => {
      const cells = Object.entries(values).map(([host, value]) => {
        return [host, { n: 1, sum: value, min: value, max: value, bins: { [binOf(value)]: 1 } }] as const;
      });
      store.apply(totals('0', T0, upToOffset, [{ eventMs: T0, series: { slow: Object.fromEntries(cells) } }]));
      return readMeasure(store, 'slow.p90', { fromMs: T0, toMs: T0 + MINUTE, nowMs: T0 })[0]!.value;
    };
    expect(slow(1, { a: 100, b: 100 })).toBeCloseTo(100, -1);
    expect(slow(2, { a: 900, b: 900 })).toBeCloseTo(900, -1.3);
  });

  it('a bucket that is long closed cannot be corrected, and is not counted twice either', () => {
    const store = createWindowStore({ measures: MEASURES });
    store.apply(totals('0', T0, 5, [hits(T0, key('info', 'a'), 5)]));
    store.apply(totals('0', T0 + 30 * MINUTE, 9, [hits(T0 + 30 * MINUTE, key('info', 'a'), 4)]));
    expect(store.apply(totals('0', T0, 8, [hits(T0, key('info', 'a'), 8)]))).toBe('too-old');
    expect(sumOf(store, T0, T0 + HOUR)).toBe(9);
  });

  it('keeps late and very old events out of the live layer; totals count them', () => {
    const store = createWindowStore({ measures: MEASURES });
    store.apply(
      totals('0', T0, 10, [
        hits(T0 - 2 * MINUTE, key('info', 'a'), 1),
        hits(T0 - 2 * MINUTE - BUCKET_MS, key('info', 'a'), 2),
        hits(OLDER_MS, key('info', 'a'), 4),
      ]),
    );
    expect(sumOf(store, T0 - HOUR, T0)).toBe(1);
    expect(sumOf(store, T0 - HOUR, T0, 'late')).toBe(2);
    expect(sumOf(store, T0 - HOUR, T0, 'all')).toBe(3);
    expect([...totalsOf(store, 'hits')][0]!.value).toEqual({ kind: 'counter', n: 7 });
    expect(store.takeLate()).toEqual({ fromMs: T0 - 130 * SECOND, toMs: T0 - 130 * SECOND });
    expect(store.takeLate()).toBeUndefined();
  });

  it('remembers 10 s for an hour, 5 min for a day, and nothing after that', () => {
    const store = createWindowStore({ measures: MEASURES });
    const every = 7 * MINUTE;
    const end = T0 + 30 * HOUR;
    for (let at = T0; at < end; at += every) store.apply(totals('0', at, at, [hits(at, key('info', 'a'), 1)]));
    const count = (fromMs: number, toMs: number) => Math.ceil((toMs - T0) / every) - Math.ceil((fromMs - T0) / every);
    expect(sumOf(store, end - HOUR, end)).toBe(count(end - HOUR, end));
    expect(sumOf(store, end - 10 * MINUTE, end - 5 * MINUTE)).toBe(count(end - 10 * MINUTE, end - 5 * MINUTE));
    expect(sumOf(store, end - 24 * HOUR, end)).toBe(count(end - 24 * HOUR, end));
    expect(sumOf(store, T0, T0 + 2 * HOUR)).toBe(0);
  });

  it('bounds the series of a measure: what comes later is `other`, and no event is lost', () => {
    const store = createWindowStore({ measures: MEASURES, maxSeries: () => 3 });
    for (let i = 0; i < 10; i++) {
      store.apply(totals('0', T0 + i * BUCKET_MS, i + 1, [hits(T0 + i * BUCKET_MS, key('info', `host${i}`), 1)]));
    }
    expect(sumOf(store, T0, T0 + 2 * MINUTE)).toBe(10);
    const query = { fromMs: T0, toMs: T0 + 2 * MINUTE, nowMs: T0, by: ['host'] };
    expect(readMeasure(store, 'hits', query).map(({ labels }) => labels.host)).toEqual(['host0', 'host1', 'host2']);
    expect(sumOf(store, T0, T0 + 2 * MINUTE, 'live', { host: OTHER })).toBe(7);
  });

  it('gives the place of a series to another one only when nothing of it is left', () => {
    const store = createWindowStore({ measures: MEASURES, maxSeries: () => 2 });
    const at = (ms: number, host: string, n: number) =>
      store.apply(totals('0', ms, ms, [hits(ms, key('info', host), n)]));
    at(T0, 'old', 5);
    at(T0 + 10 * MINUTE, 'busy', 1);
    for (let ms = T0 + HOUR; ms < T0 + 27 * HOUR; ms += HOUR) at(ms, 'busy', 1);
    const now = T0 + 27 * HOUR;
    at(now, 'new', 3);
    expect(sumOf(store, now, now + MINUTE, 'live', { host: 'new' })).toBe(3);
    expect(sumOf(store, now - 24 * HOUR, now + MINUTE, 'live', { host: 'new' })).toBe(3);
    expect([...totalsOf(store, 'hits')].map(({ values }) => values[1]).sort()).toEqual(['busy', 'new']);
    expect([...totalsOf(store, 'hits')].find(({ values }) => values[1] === 'new')!.value).toEqual({
      kind: 'counter',
      n: 3,
    });
  });

  it('takes a correction away from where it was counted, also when the label set has a place of its own by now', () => {
    const store = createWindowStore({ measures: MEASURES, maxSeries: () => 1 });
    const at = T0 + 25 * HOUR;
    store.apply(totals('0', T0, 1, [hits(T0, key('info', 'first'), 1)]));
    // Full: counted as `other`. Then the place of `first` becomes free.
    store.apply(totals('0', at, 2, [hits(at, key('info', 'second'), 1)]));
    expect(sumOf(store, at, at + MINUTE, 'live', { host: OTHER })).toBe(1);
    store.apply(totals('1', T0 + 26 * HOUR, 1, []));
    store.apply(totals('0', at, 3, [hits(at, key('info', 'second'), 2)]));
    expect(sumOf(store, at, at + MINUTE, 'live', { host: 'second' })).toBe(2);
    expect(sumOf(store, at, at + MINUTE, 'live', { host: OTHER })).toBe(0);
    expect(sumOf(store, at, at + MINUTE)).toBe(2);
  });

  it('keeps the newest reading of a gauge, whichever partition and order it came in', () => {
    const store = createWindowStore({ measures: MEASURES });
    const fill = (lane: string, arrivalMs: number, v: number, at: number) =>
      store.apply(totals(lane, arrivalMs, at, [{ eventMs: arrivalMs, series: { fill: { a: { v, at } } } }]));
    fill('0', T0 + 10_000, 7, T0 + 12_000);
    fill('1', T0, 3, T0 + 5_000);
    const read = (nowMs: number) =>
      readMeasure(store, 'fill', { fromMs: nowMs - MINUTE, toMs: nowMs, nowMs })[0]!.value;
    expect(read(T0 + 20_000)).toBe(7);
    // At an earlier time the earlier reading was the newest.
    expect(read(T0 + 10_000)).toBe(3);
    expect(read(T0 + 72_000)).toBe(7);
    expect(read(T0 + 72_001)).toBeUndefined();
  });
});

describe('hours', () => {
  const rollups = [{ measure: 'hits', labels: ['level'] }];
  const day: BucketTotals[] = [];
  for (let at = T0 - 3 * HOUR; at < T0 + 5 * HOUR; at += 90 * SECOND) {
    // Some arrive three minutes late, some fifteen: those are not part of a finished hour.
    const age = [0, 180, 900][day.length % 3]! * SECOND;
    day.push(
      totals('0', at, at, [hits(at - age, key(LEVELS[day.length % 2]!, HOSTS[day.length % 3]!), 1 + (day.length % 5))]),
    );
  }
  const now = T0 + 5 * HOUR;

  function run(from: number, kept: readonly object[] = []) {
    const store = createWindowStore({ measures: MEASURES, rollups });
    store.putHours(kept as never, from);
    for (const one of day) if (one.arrivalMs >= from) store.apply(one);
    return store;
  }

  it('are handed out once, finished, with the labels that matter only', () => {
    const store = run(T0 - 3 * HOUR);
    const hours = store.takeHours(T0 + HOUR + 30 * SECOND);
    expect(hours.map(({ hourMs }) => hourMs)).toEqual([T0 - 3 * HOUR, T0 - 2 * HOUR, T0 - HOUR]);
    expect(Object.keys(hours[1]!.measures.hits!)).toEqual([key('info', OTHER), key('error', OTHER)].sort().reverse());
    expect(store.takeHours(T0 + HOUR + 30 * SECOND)).toEqual([]);
    expect(store.takeHours(T0 + HOUR + 11 * MINUTE).map(({ hourMs }) => hourMs)).toEqual([T0]);
  });

  it('hold what happened in them and came at most ten minutes after their end', () => {
    for (const { hourMs, measures } of run(T0 - 3 * HOUR).takeHours(now)) {
      const expected = new Map<string, number>();
      for (const { arrivalMs, buckets } of day) {
        for (const { eventMs, series } of buckets) {
          if (eventMs < hourMs || eventMs >= hourMs + HOUR || arrivalMs >= hourMs + HOUR + 10 * MINUTE) continue;
          for (const [label, cell] of Object.entries(series.hits!)) {
            const level = key(label.split(LABEL_SEPARATOR)[0]!, OTHER);
            expected.set(level, (expected.get(level) ?? 0) + (cell as CounterValue).n);
          }
        }
      }
      expect(measures.hits).toEqual(Object.fromEntries([...expected].map(([level, n]) => [level, [n, 0]])));
    }
  });

  it('read back after a restart give the same as if there had been none', () => {
    const whole = run(T0 - 3 * HOUR);
    const kept = whole.takeHours(now);
    for (const from of [T0, T0 + HOUR, T0 + 4 * HOUR]) {
      const restarted = run(from, kept);
      const finished = whole.hourly.finishedEndMs(now);
      for (let hourMs = T0 - 3 * HOUR; hourMs < finished; hourMs += HOUR) {
        expect(
          restarted.hourly.hour('hits', hourMs),
          `hour ${(hourMs - T0) / HOUR} from ${(from - T0) / HOUR}`,
        ).toEqual(whole.hourly.hour('hits', hourMs));
      }
      // Nor is anything handed out again that was kept, or that was seen in part only.
      expect(restarted.takeHours(now).map(({ hourMs }) => hourMs)).toEqual(
        kept.map(({ hourMs }) => hourMs).filter((hourMs) => hourMs >= from),
      );
    }
  });

  it('carry statistics over a day across a restart', () => {
    const kept = run(T0 - 3 * HOUR).takeHours(now);
    const restarted = run(T0 + HOUR, kept);
    const finished = kept.filter(({ hourMs }) => hourMs < T0 + HOUR);
    const before = finished.reduce(
      (sum, { measures }) => sum + Object.values(measures.hits!).reduce((n, [count]) => n + count, 0),
      0,
    );
    const fromMs = now - 24 * HOUR;
    const after = run(T0 + HOUR);
    // What arrived after the restart and belongs to a kept hour stands in that hour already, if it came in time for it.
    const own = sumOf(after, T0 + HOUR, now, 'all');
    const veryLate = sumOf(after, fromMs, T0 + HOUR, 'all') - inTime(after);
    expect(sumOf(restarted, fromMs, now, 'all')).toBe(before + own + veryLate);

    function inTime(store: WindowStore): number {
      void store;
      return day
        .filter(({ arrivalMs }) => arrivalMs >= T0 + HOUR)
        .flatMap(({ arrivalMs, buckets }) => buckets.map((bucket) => ({ arrivalMs, ...bucket })))
        .filter(({ arrivalMs, eventMs }) => {
          const hourEnd = Math.floor(eventMs / HOUR) * HOUR + HOUR;
          return eventMs < T0 + HOUR && arrivalMs < hourEnd + 10 * MINUTE;
        })
        .reduce(
          (sum, { series }) => sum + Object.values(series.hits!).reduce((n, cell) => n + (cell as CounterValue).n, 0),
          0,
        );
    }
  });
});
