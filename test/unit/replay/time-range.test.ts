import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTime, parseTimeRange } from '../../../src/replay/sources.ts';

const NOW = Date.parse('2026-06-15T12:00:00.000Z');
const options = { place: '--from', now: NOW };

describe('a time', () => {
  it.each([
    ['now', NOW],
    ['-90s', NOW - 90_000],
    ['-30m', NOW - 1_800_000],
    ['-2h', NOW - 7_200_000],
    ['-1d', NOW - 86_400_000],
    ['2026-01-31', Date.parse('2026-01-31T00:00:00Z')],
    ['2026-01-31T08:00', Date.parse('2026-01-31T08:00:00Z')],
    ['2026-01-31 08:00:01.5', Date.parse('2026-01-31T08:00:01.500Z')],
    ['2026-01-31T08:00:00Z', Date.parse('2026-01-31T08:00:00Z')],
    ['2026-01-31T08:00:00+02:00', Date.parse('2026-01-31T06:00:00Z')],
    [' 2026-01-31T08:00:00-0530 ', Date.parse('2026-01-31T13:30:00Z')],
  ])('%s', (text, ms) => expect(parseTime(text, options)).toBe(ms));

  it.each([
    ['yesterday', 'is not a time'],
    ['2h', 'is not a time'],
    ['-2w', 'is not a time'],
    ['31.01.2026', 'is not a time'],
    ['2026-02-30', 'does not exist in the calendar'],
    ['2026-01-31T25:00', 'does not exist in the calendar'],
    ['2026-01-31T08:00:61Z', 'does not exist in the calendar'],
    ['2026-01-31T08:00+25:00', 'no possible offset'],
  ])('%s is refused with place, value and fix', (text, why) => {
    expect(() => parseTime(text, options)).toThrow(
      new RegExp(`^--from: "${text.replace(/[.+]/g, '\\$&')}" .*${why}.*write`),
    );
  });

  it('without an offset is read in the time zone, on both sides of a clock change', () => {
    const berlin = { ...options, timeZone: 'Europe/Berlin' };
    expect(parseTime('2026-01-31T08:00', berlin)).toBe(Date.parse('2026-01-31T07:00:00Z'));
    expect(parseTime('2026-07-31T08:00', berlin)).toBe(Date.parse('2026-07-31T06:00:00Z'));
    expect(() => parseTime('2026-03-29T02:30', berlin)).toThrow('the clocks were put forward');
    // 02:30 twice: a stretch is never cut short.
    expect(parseTime('2026-10-25T02:30', { ...berlin, edge: 'start' })).toBe(Date.parse('2026-10-25T00:30:00Z'));
    expect(parseTime('2026-10-25T02:30', { ...berlin, edge: 'end' })).toBe(Date.parse('2026-10-25T01:30:00Z'));
    expect(() => parseTime('2026-01-31', { ...options, timeZone: 'Mars/Base' })).toThrow('--time-zone: "Mars/Base"');
  });

  it('in any zone is the moment at which that zone’s clocks show it', () => {
    const zones = ['Europe/Berlin', 'America/St_Johns', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'Pacific/Apia'];
    fc.assert(
      fc.property(fc.constantFrom(...zones), fc.integer({ min: 0, max: 60 * 24 * 3_650 }), (timeZone, minutes) => {
        const ms = Date.UTC(2020, 0, 1) + minutes * 60_000;
        const clock = new Date(ms).toLocaleString('sv-SE', { timeZone }).replace(' ', 'T');
        const found = [
          parseTime(clock, { ...options, timeZone }),
          parseTime(clock, { ...options, timeZone, edge: 'end' }),
        ];
        expect(found).toContain(ms);
      }),
    );
  });
});

describe('a stretch', () => {
  it('ends now when nothing is said', () => {
    expect(parseTimeRange({ from: '-2h' }, NOW)).toEqual({ fromMs: NOW - 7_200_000, toMs: NOW });
  });

  it('needs a beginning that lies before its end', () => {
    expect(() => parseTimeRange({}, NOW)).toThrow('--from: missing');
    expect(() => parseTimeRange({ from: '-1h', to: '-2h' }, NOW)).toThrow('--from has to be earlier than --to');
    expect(() => parseTimeRange({ from: 'now' }, NOW)).toThrow('earlier');
  });
});
