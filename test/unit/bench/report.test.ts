// What the benchmark says about its aims: which numbers are compared, and that what was not measured is neither reached nor missed.
import { describe, expect, test } from 'vitest';
import type { Round } from '../../../bench/measure.ts';
import { type Aim, type Results, toAims, toJson, toLine, toTable } from '../../../bench/report.ts';
import type { ScalingResult } from '../../../bench/scaling.ts';
import type { TransportBench } from '../../../bench/transport.ts';

const EVENTS = 1_000;

const rounds = (rates: readonly number[], cpuMicros: number, peaks = rates.map(() => 100)): Round[] =>
  rates.map((eventsPerSecond, i) => ({ eventsPerSecond, wholeCpuMicros: cpuMicros, peakMb: peaks[i]! }));

const transport = (compression: TransportBench['compression'], transportRatioToFile: number) =>
  ({ compression, transportRatioToFile, transportMicrosPerInfo: 7, fileMicrosPerInfo: 10 }) as TransportBench;

const scaled = (layout: ScalingResult['layout'], partitions: number, cpuMicros: number): ScalingResult => ({
  ...{ layout, partitions, cpuMicros, eventsPerSecond: 1 },
});

const EMPTY: Results = { lines: [], kinds: {}, transports: [] };

/** 1 µs per event of each contender's CPU is its start. */
const line = (name: string, its: Round[]) => toLine(name, its, EVENTS, EVENTS);

const RESULTS: Results = {
  lines: [
    // The machine slows down: medians alone would make 300 by 200.
    line('raw bulk', rounds([400, 200, 100], 3)),
    line('logpipe', rounds([300, 300, 90], 11)),
    line('ordinary', rounds([200, 200, 200], 21)),
    line('rsyslog', rounds([100, 100, 100], 41)),
    line('counter', rounds([500, 500, 500], 9)),
    line('all roles', rounds([90, 90, 90], 23, [240, 257, 250])),
  ],
  kinds: {
    pino: {
      ...{ events: EVENTS, rounds: 1, bytesPerLine: 90 },
      lines: [line('logpipe', rounds([1], 9)), line('ordinary', rounds([1], 11))],
    },
  },
  transports: [transport('none', 0.7), transport('gzip', 1.4)],
  scaling: [
    scaled('one indexer', 4, 10),
    scaled('two indexers', 16, 8),
    scaled('indexer and counter apart', 16, 30),
    scaled('one indexer', 1, 11),
  ],
};

describe('toAims', () => {
  const by = (results: Results) => new Map<string, Aim>(toAims(results).map((aim) => [aim.key, aim]));

  test('CPU without starts, end to end by pairs of rounds, the highest peak, and only indexers for scaling', () => {
    const aims = by(RESULTS);
    const measured = Object.fromEntries([...aims].map(([key, { value, reached }]) => [key, [value, reached]]));
    expect(measured).toEqual({
      cpuRatioToRsyslog: [0.25, true],
      cpuRatioToOrdinary: [0.5, false],
      ratioToRawBulk: [0.9, true],
      counterRatioToIndexer: [0.8, false],
      counterRatioToRsyslog: [0.2, true],
      allRolesRatioToRsyslog: [0.55, true],
      allRolesPeakMb: [257, false],
      errorsRatioToOrdinary: [null, null],
      ecsRatioToOrdinary: [null, null],
      pinoRatioToOrdinary: [0.8, true],
      maskedRatioToOrdinary: [null, null],
      scalingDeviation: [0.2, false],
      transportRatioToFile: [0.7, true],
      takeOverMs: [null, null],
      worstTickMs: [null, null],
    });
  });

  test('nothing measured is nothing reached and nothing missed', () => {
    for (const { value, reached } of toAims(EMPTY)) expect([value, reached]).toEqual([null, null]);
  });
});

test('the object of --json has each value by its key too', () => {
  expect(toJson(RESULTS, { events: EVENTS })).toMatchObject({
    ...{ events: EVENTS, cpuMicrosPerEvent: 10, ratioToRawBulk: 0.9, maskedRatioToOrdinary: null },
    ...{ takeOver: null, transports: [{ compression: 'none' }, { compression: 'gzip' }] },
  });
});

test('the table has a row for each aim that was measured', () => {
  const text = toTable(RESULTS, ['a note']);
  expect(text).toMatch(/^indexer, events\/s by those of raw bulk +0\.9 +≥ 0\.85 +reached$/m);
  expect(text).toMatch(/^all roles, highest peak of the rounds, MiB +257 +≤ 256 +missed$/m);
  expect(text).toMatch(/^Pino lines +1,000 +1 +90 +8\.0 +10\.0$/m);
  expect(text).toMatch(/^logger\.info: Kafka transport, gzip, 7 µs, File transport 10 µs CPU: ratio 1\.4$/m);
  expect(text).not.toMatch(/take-over|null|NaN|undefined/);
  expect(text.endsWith('\n\na note')).toBe(true);
});
