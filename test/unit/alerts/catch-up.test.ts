// What is left out while the counts are read from hours ago: nothing that any later reader would miss.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createCatchUp } from '../../../src/alerts/catch-up.ts';
import { decodeCounts, encodeCounts } from '../../../src/measure/counts-topic.ts';
import type { BucketTotals, CountsMessage } from '../../../src/measure/totals.ts';

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
