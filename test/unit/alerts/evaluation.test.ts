// How far back a take-over reads the counts: what the rules look at, and no hour that nobody has kept.
import { expect, test } from 'vitest';
import { countsFrom } from '../../../src/alerts/evaluation.ts';

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
