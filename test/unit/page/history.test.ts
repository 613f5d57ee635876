// The charts of the first view, between two answers of the server: what the ticks add to them.
import { expect, test } from 'vitest';
import type { FigureHistory } from '../../../src/ops/page-data.ts';
import { goneOn, type Recent } from '../../../src/page/history.ts';

const START = Date.parse('2026-11-30T09:00:00Z');
const iso = (seconds: number) => new Date(START + seconds * 1_000).toISOString();

const HISTORY: FigureHistory = {
  ...{ from: iso(0), to: iso(30), step: 10, series: { errors: [0.1, null, 0.3] } },
  ...{ thresholds: [], alerts: [], note: null },
};

const ticks = (...values: readonly (readonly [atSeconds: number, value: number | null])[]): Recent =>
  values.map(([at, value]) => ({
    atMs: START + at * 1_000,
    figures: [
      { id: 'errors', value },
      { id: 'lag', value: 7 },
    ],
  }));

test('without ticks the history is what the server said', () => {
  const { series, fromMs, toMs } = goneOn(HISTORY, []);
  expect([series, fromMs, toMs]).toEqual([HISTORY.series, START, START + 30_000]);
});

test('a step has the last value of its time, and one without a tick none', () => {
  const recent = ticks([28, 9], [30, 0.4], [39, 0.5], [50, 0.6], [59.9, null], [61, 0.8]);
  const { series, toMs } = goneOn(HISTORY, recent);
  expect(series.errors).toEqual([0.1, null, 0.3, 0.5, null, null, 0.8]);
  expect(toMs).toBe(START + 61_000);
});

test('a figure of which the server kept nothing begins with the ticks', () => {
  expect(goneOn(HISTORY, ticks([31, 0.4])).series.lag).toEqual([null, null, null, 7]);
});

test('ticks from before the end of the history, and a long sleep, add no more than there is', () => {
  expect(goneOn(HISTORY, ticks([12, 9])).series.errors).toEqual([0.1, null, 0.3, null]);
  const { series } = goneOn(HISTORY, ticks([31, 0.4], [86_400, 0.9]));
  expect(series.errors).toEqual([0.1, null, 0.3, 0.4, null]);
});

test('the time before anything was known is left out, but for five minutes in all', () => {
  const hour = (known: number): FigureHistory => {
    const errors = Array.from({ length: 360 }, (_, i) => (i < 360 - known ? null : 0.1));
    return { ...HISTORY, from: iso(0), to: iso(3_600), series: { errors, lag: errors.map(() => null) } };
  };
  const minutes = ({ series, fromMs, toMs }: ReturnType<typeof goneOn>) => {
    expect(series.errors!.length * 10_000).toBe(toMs - fromMs);
    expect(series.lag).toHaveLength(series.errors!.length);
    expect(series.errors!.at(-1)).toBe(0.1);
    return (toMs - fromMs) / 60_000;
  };
  expect([1, 6, 60, 180, 300].map((known) => minutes(goneOn(hour(known), [])))).toEqual([5, 5, 10, 30, 60]);
  expect(goneOn({ ...hour(0), series: {} }, []).fromMs).toBe(START);
});
