// Numbers and times as people read them.
import { expect, test } from 'vitest';
import {
  clockTime,
  count,
  duration,
  fullTime,
  milliseconds,
  percent,
  plural,
  relative,
} from '../../../src/page/format.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

test('what is not known is no number', () => {
  for (const format of [percent, count, milliseconds]) {
    for (const value of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) expect(format(value)).toBe('–');
    expect(format(0)).not.toBe('–');
  }
  for (const format of [clockTime, fullTime]) expect(format(Number.NaN, 0)).toBe('–');
});

test('numbers have the digits that matter', () => {
  expect([0, 0.0004, 0.0025, 0.0834, 0.5, 0.9812, 0.9995, 1].map(percent)).toEqual([
    ...['0 %', '0.04 %', '0.25 %', '8.3 %', '50 %', '98.1 %', '99.95 %', '100 %'],
  ]);
  expect([0.2, 1.234, 12.34, 123.4, 1_204, 1_234_567].map(count)).toEqual([
    '0.2',
    '1.23',
    '12.3',
    '123',
    '1,204',
    '1,234,567',
  ]);
  expect([0.5, 420.4, 1_500, 61_240].map(milliseconds)).toEqual(['0.5 ms', '420 ms', '1,500 ms', '61.2 s']);
  expect([plural(1, 'alert'), plural(0, 'alert'), plural(1_200, 'entry', 'entries')]).toEqual([
    '1 alert',
    '0 alerts',
    '1,200 entries',
  ]);
});

test('lengths of time have one unit, or two', () => {
  const lengths = [-5, 0, 40_400, 59_600, 12 * MINUTE, 3 * HOUR, 3 * HOUR + 5 * MINUTE, 52 * HOUR, 48 * HOUR];
  expect(lengths.map(duration)).toEqual([
    '0 s',
    '0 s',
    '40 s',
    '1 min',
    '12 min',
    '3 h',
    '3 h 5 min',
    '2 d 4 h',
    '2 d',
  ]);
  expect([0, 4_000, -4_000, 90_000, -2 * HOUR].map((ago) => relative(HOUR - ago, HOUR))).toEqual([
    ...['just now', 'just now', 'just now', '1 min ago', 'in 2 h'],
  ]);
});

test('times are of the day, of another day with its name, and whole with milliseconds', () => {
  const at = new Date(2026, 10, 30, 9, 5, 7, 12).getTime();
  expect(clockTime(at, at + HOUR)).toBe('09:05');
  expect(clockTime(at, at + HOUR, true)).toBe('09:05:07');
  expect(clockTime(at, at + 24 * HOUR)).toBe('Mon 30 Nov, 09:05');
  expect(fullTime(at)).toBe('2026-11-30 09:05:07.012');
});
