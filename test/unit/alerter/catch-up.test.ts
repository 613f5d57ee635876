// What is left out while the counts are read from hours ago: nothing that any later reader would miss.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createCatchUp } from '../../../src/alerter/counts-follower.ts';
import type { BucketTotals, CountsMessage } from '../../../src/measure/totals.ts';
import { decodeCounts, encodeCounts, LIVE, recordsOf } from '../../../src/measure/totals.ts';

interface Written {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly timestamp: string;
}

const written = (message: CountsMessage, timestamp: number): Written => {
  const { key, value } = encodeCounts(message);
  return { key: Buffer.from(key), value: Buffer.from(value), timestamp: String(timestamp) };
};

const totals = (lane: string, arrivalMs: number, upToOffset: number): BucketTotals => ({
  lane,
  arrivalMs,
  upToOffset,
  records: upToOffset,
  buckets: [],
});

const open = (lane: string, arrivalMs: number, upToOffset: number, at = 0) =>
  written({ kind: 'totals', totals: totals(lane, arrivalMs, upToOffset), open: true }, at);
const final = (lane: string, arrivalMs: number, upToOffset: number, at = 0) =>
  written({ kind: 'totals', totals: totals(lane, arrivalMs, upToOffset) }, at);
const progress = (lane: string, position: number, at = 0) =>
  written({ kind: 'progress', progress: { lane, lanes: 4, position, end: 9, arrivalMs: at, caughtUp: true } }, at);

function through(records: readonly Written[]): Written[] {
  const handed: Written[] = [];
  const catchUp = createCatchUp((record) => handed.push(record as Written));
  for (const record of records) catchUp.take(record);
  catchUp.end();
  return handed;
}

/** As windows and progress keep it. */
function kept(records: readonly Written[]) {
  const best = new Map<string, number>();
  const newest = new Map<string, number>();
  let first: number | undefined;
  for (const { value, timestamp } of records) {
    const message = decodeCounts(value);
    if (message?.kind === 'totals') {
      const { lane, arrivalMs, upToOffset } = message.totals;
      const key = `${lane}/${arrivalMs}`;
      best.set(key, Math.max(best.get(key) ?? -1, upToOffset));
    } else if (message?.kind === 'progress') {
      first ??= Number(timestamp);
      newest.set(message.progress.lane, Number(timestamp));
    }
  }
  return { best: Object.fromEntries(best), newest: Object.fromEntries(newest), first };
}

test('adds up to the same as all records, whatever their order', () => {
  const lane = fc.constantFrom('0', '1');
  const record = fc.oneof(
    fc.tuple(lane, fc.integer({ min: 1, max: 3 }), fc.nat(9)).map(([l, bucket, n]) => open(l, bucket * 10_000, n)),
    // Final totals are one and the same whoever writes them, and no open version is newer.
    fc.tuple(lane, fc.integer({ min: 1, max: 3 })).map(([l, bucket]) => final(l, bucket * 10_000, 9)),
    fc.tuple(lane, fc.nat(9)).map(([l, n]) => progress(l, n)),
    fc.constantFrom({ key: Buffer.from('open/0'), value: Buffer.from('{}'), timestamp: '0' }),
  );
  fc.assert(
    fc.property(fc.array(record, { maxLength: 40 }), (list) => {
      const records = list.map((one, i) => ({ ...one, timestamp: String(i) }));
      expect(kept(through(records))).toEqual(kept(records));
    }),
    { numRuns: 500 },
  );
});

test('of twenty versions of an interval none is parsed once its final totals are there', () => {
  const records = Array.from({ length: 20 }, (_, i) => [open('0', 10_000, i), progress('0', i, i)]).flat();
  const last = progress('0', 21, 21);
  expect(through([...records, final('0', 10_000, 20), last])).toEqual([records[1], final('0', 10_000, 20), last]);
});

test('progress stays behind the totals it speaks of', () => {
  const records = [
    progress('0', 1),
    open('0', 10_000, 5),
    progress('0', 6, 1),
    open('0', 10_000, 7),
    progress('0', 8, 2),
  ];
  expect(through(records)).toEqual([records[0], records[3], records[4]]);
});

describe('the two partitions', () => {
  /** Of one lane: per publication how many records came, and whether a new interval had begun by then. */
  const course = fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.boolean()), { minLength: 1, maxLength: 30 });

  function publications(steps: readonly (readonly [number, boolean])[]): CountsMessage[][] {
    let [bucket, upTo] = [1, 0];
    return steps.map(([count, isNew]) => {
      const messages: CountsMessage[] = [];
      if (isNew && upTo > 0) messages.push({ kind: 'totals', totals: totals('0', bucket++ * 10_000, upTo) });
      upTo += count;
      messages.push({ kind: 'totals', totals: totals('0', bucket * 10_000, upTo), open: true });
      const lane = {
        lane: '0',
        lanes: 1,
        position: upTo + 1,
        end: upTo + 1,
        arrivalMs: bucket * 10_000,
        caughtUp: true,
      };
      return [...messages, { kind: 'progress', progress: lane }];
    });
  }

  const toWritten = (messages: readonly CountsMessage[]) =>
    [...recordsOf(messages)].map(({ partition, key, value }) => ({
      partition: partition!,
      record: { key: Buffer.from(key as string), value: Buffer.from(value as string), timestamp: '0' } as Written,
    }));

  test('what lasts and the end of what is live add up to all that was said, in whatever order they come', () => {
    fc.assert(
      fc.property(course, fc.nat(29), fc.infiniteStream(fc.boolean()), (steps, seen, turns) => {
        const all = publications(steps);
        const lasting = all.flatMap(toWritten).filter(({ partition }) => partition !== LIVE);
        const live = all.slice(Math.min(seen, all.length - 1)).flatMap(toWritten);
        const tail = live.filter(({ partition }) => partition === LIVE);
        const read: Written[] = [];
        for (const turn of turns) {
          const next = turn ? (lasting.shift() ?? tail.shift()) : (tail.shift() ?? lasting.shift());
          if (next === undefined) break;
          read.push(next.record);
        }
        const everything = all.flat().map((message) => written(message, 0));
        expect(kept(through(read)).best).toEqual(kept(everything).best);
      }),
    );
  });

  test('whoever follows what is live misses nothing, each progress behind its totals', () => {
    fc.assert(
      fc.property(course, (steps) => {
        const all = publications(steps);
        const live = all.flatMap(toWritten).filter(({ partition }) => partition === LIVE);
        const everything = all.flat().map((message) => written(message, 0));
        expect(live.map(({ record }) => kindOf(record))).toEqual(everything.map(kindOf));
        expect(kept(live.map(({ record }) => record)).best).toEqual(kept(everything).best);
      }),
    );
  });

  test('final totals never share a key with those of an open bucket where they last', () => {
    const messages = publications([
      [1, false],
      [1, true],
    ])[1]!;
    expect([...recordsOf(messages)].map(({ partition, key }) => `${partition} ${key}`)).toEqual([
      '0 0/10000',
      '1 open/0',
      '1 open/0',
      '0 progress/0',
      '1 progress/0',
    ]);
  });
});

function kindOf({ value }: Written): string {
  const message = decodeCounts(value)!;
  return message.kind === 'totals'
    ? `totals ${message.totals.arrivalMs} ${message.totals.upToOffset}`
    : `progress ${message.progress.position}`;
}
