// Rotas and local times, in zones with daylight saving: who is on call at every moment of a year, when weeks change, and what local times
// are. Expected moments are written out in UTC, so that nothing here is computed the way the code does.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  afterHours,
  type BusinessHours,
  cronTimes,
  END_OF_TIME,
  gapsIn,
  inHours,
  lastCronMs,
  lastDailyMs,
  localText,
  localTimeMs,
  onCallAt,
  type Rota,
  type Shift,
  shifts,
} from '../../../src/oncall/rota.ts';
import { scheduleOf } from '../../../src/oncall/routes.ts';
import type { Team } from '../../../src/oncall/routing.ts';

const utc = (text: string) => Date.parse(`${text}Z`);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Berlin: summer time from 2026-03-29 01:00 UTC until 2026-10-25 01:00 UTC. Monday 09:00 is 08:00 UTC in winter, 07:00 in summer. */
const BERLIN: Rota = {
  timeZone: 'Europe/Berlin',
  handOff: { day: 1, minute: 9 * 60 },
  primary: ['ada', 'ben', 'cleo'],
  secondary: ['ben', 'cleo', 'ada'],
  startsMs: utc('2026-01-05T08:00'),
  overrides: [],
};

describe('a weekly order', () => {
  test('changes at 09:00 local time, in winter, in summer, and in the weeks of the change', () => {
    const who = (text: string) => onCallAt(BERLIN, utc(text)).primary;
    expect([who('2026-01-05T08:00'), who('2026-01-12T07:59'), who('2026-01-12T08:00')]).toEqual(['ada', 'ada', 'ben']);
    // The last Monday of winter, and the first of summer.
    expect([who('2026-03-23T07:59'), who('2026-03-23T08:00')]).toEqual(['ben', 'cleo']);
    expect([who('2026-03-30T06:59'), who('2026-03-30T07:00')]).toEqual(['cleo', 'ada']);
    expect([who('2026-10-26T07:59'), who('2026-10-26T08:00')]).toEqual(['cleo', 'ada']);
    expect(onCallAt(BERLIN, utc('2026-03-29T12:00'))).toEqual({
      primary: 'cleo',
      secondary: 'ada',
      untilMs: utc('2026-03-30T07:00'),
      from: 'rota',
    });
  });

  test('has one primary at every moment of a year, and 52 or 53 hand-offs, each on a Monday at 09:00', () => {
    const from = utc('2026-01-01T00:00');
    const until = utc('2027-01-01T00:00');
    const year = shifts(BERLIN, from, until);
    expect(year[0]!.fromMs).toBe(from);
    expect(year.at(-1)!.untilMs).toBe(until);
    for (const [i, shift] of year.entries()) {
      if (i > 0) expect(shift.fromMs).toBe(year[i - 1]!.untilMs);
      if (i > 0) expect(localText(shift.fromMs, 'Europe/Berlin')).toMatch(/^Mon .* 09:00$/);
      if (i > 0)
        expect(BERLIN.primary.indexOf(shift.primary!)).toBe((BERLIN.primary.indexOf(year[i - 1]!.primary!) + 1) % 3);
    }
    expect(year).toHaveLength(53);
    const hours = year.slice(1, -1).map((shift) => (shift.untilMs - shift.fromMs) / HOUR);
    expect(new Set(hours)).toEqual(new Set([167, 168, 169]));
    expect(gapsIn(BERLIN, from, until)).toEqual([]);
  });

  test('the first of the list has the week that begins at or after the start; earlier weeks follow the same order', () => {
    const late = { ...BERLIN, startsMs: utc('2026-01-06T00:00') };
    expect(onCallAt(late, utc('2026-01-12T08:00')).primary).toBe('ada');
    expect(onCallAt(late, utc('2026-01-06T08:00')).primary).toBe('cleo');
    expect(onCallAt(late, utc('2025-12-23T08:00')).primary).toBe('ada');
  });

  test('a hand-off in the hour that summer time skips comes an hour later, in the one there is twice once', () => {
    const sunday = { ...BERLIN, handOff: { day: 7, minute: 150 } };
    expect(onCallAt(sunday, utc('2026-03-29T00:59')).untilMs).toBe(utc('2026-03-29T01:30'));
    const changes = shifts(sunday, utc('2026-10-24T00:00'), utc('2026-10-27T00:00')).map(({ fromMs }) => fromMs);
    expect(changes).toEqual([utc('2026-10-24T00:00'), utc('2026-10-25T00:30')]);
  });

  test('asked at any moments in any order, it says what a walk through the shifts says', () => {
    const overrides = fc.array(
      fc.record({
        from: fc.integer({ min: 0, max: 100 * 24 }),
        hours: fc.integer({ min: 1, max: 300 }),
        primary: fc.option(fc.constantFrom('dora', 'eve'), { nil: undefined }),
        secondary: fc.option(fc.constantFrom('fay'), { nil: undefined }),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(
        overrides,
        fc.array(fc.integer({ min: 0, max: 100 * 24 * 60 }), { maxLength: 30 }),
        (some, moments) => {
          const start = utc('2026-02-20T00:00');
          const rota: Rota = {
            ...BERLIN,
            overrides: some.map(({ from, hours, ...who }): Shift => {
              return { fromMs: start + from * HOUR, untilMs: start + (from + hours) * HOUR, ...who };
            }),
          };
          const all = shifts(rota, start, start + 101 * DAY);
          for (const moment of moments) {
            const atMs = start + moment * MINUTE;
            const { primary, secondary, untilMs } = onCallAt(rota, atMs);
            const shift = all.find(({ fromMs, untilMs }) => fromMs <= atMs && atMs < untilMs)!;
            expect([primary, secondary]).toEqual([shift.primary, shift.secondary]);
            expect(untilMs).toBeGreaterThan(atMs);
            // The last override that speaks of the moment is in force.
            const last = rota.overrides.findLast((one) => one.primary && one.fromMs <= atMs && atMs < one.untilMs);
            if (last !== undefined) expect(primary).toBe(last.primary);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('a schedule', () => {
  test('looks no further ahead than what it shows, for every caller waits for it, and so do the pages', () => {
    const asked = (lists: Pick<Rota, 'primary' | 'secondary'>, next: number) => {
      let looks = 0;
      const rota: Rota = {
        ...{ ...BERLIN, ...lists },
        get overrides() {
          looks += 1;
          return [];
        },
      };
      const team = { id: 'ops', name: 'Ops', rota } as unknown as Team;
      const [shown] = scheduleOf({ teams: [team], people: new Map() }, utc('2026-01-06T12:00'), next);
      return { looks, until: [shown!.now!, ...shown!.next].map(({ until }) => until) };
    };
    expect(asked(BERLIN, 1)).toEqual({ looks: 5, until: ['2026-01-12T08:00:00Z', '2026-01-19T08:00:00Z'] });
    expect(asked({ primary: ['ada'], secondary: [] }, 3)).toEqual({ looks: 2, until: [null] });
  });
});

describe('overrides and calendars', () => {
  const shift = (from: string, until: string, who: Partial<Shift>): Shift => ({
    fromMs: utc(from),
    untilMs: utc(until),
    ...who,
  });

  test('an override replaces whom it names, the later one counts, and says until when', () => {
    const rota = {
      ...BERLIN,
      overrides: [
        shift('2026-01-06T12:00', '2026-01-08T12:00', { primary: 'dora' }),
        shift('2026-01-07T00:00', '2026-01-07T06:00', { primary: 'eve', secondary: 'dora' }),
      ],
    };
    expect(shifts(rota, utc('2026-01-05T08:00'), utc('2026-01-12T08:00'))).toEqual([
      shift('2026-01-05T08:00', '2026-01-06T12:00', { primary: 'ada', secondary: 'ben' }),
      shift('2026-01-06T12:00', '2026-01-07T00:00', { primary: 'dora', secondary: 'ben' }),
      shift('2026-01-07T00:00', '2026-01-07T06:00', { primary: 'eve', secondary: 'dora' }),
      shift('2026-01-07T06:00', '2026-01-08T12:00', { primary: 'dora', secondary: 'ben' }),
      shift('2026-01-08T12:00', '2026-01-12T08:00', { primary: 'ada', secondary: 'ben' }),
    ]);
    expect(onCallAt(rota, utc('2026-01-06T13:00')).from).toBe('override');
  });

  test('a calendar with a hole is a gap from its end to the next beginning, unless an override fills it', () => {
    const calendar = [
      shift('2026-01-05T08:00', '2026-01-12T08:00', { primary: 'ada' }),
      shift('2026-01-14T08:00', '2026-01-19T08:00', { primary: 'ben' }),
      shift('2026-01-05T08:00', '2026-01-19T08:00', { secondary: 'cleo' }),
    ];
    const rota = { ...BERLIN, calendar };
    const span = [utc('2026-01-05T08:00'), utc('2026-01-19T08:00')] as const;
    expect(gapsIn(rota, ...span)).toEqual([{ fromMs: utc('2026-01-12T08:00'), untilMs: utc('2026-01-14T08:00') }]);
    expect(onCallAt(rota, utc('2026-01-13T00:00'))).toMatchObject({
      primary: undefined,
      secondary: 'cleo',
      from: 'calendar',
    });
    expect(onCallAt(rota, utc('2027-01-13T00:00')).untilMs).toBe(END_OF_TIME);
    const filled = { ...rota, overrides: [shift('2026-01-11T08:00', '2026-01-14T08:00', { primary: 'dora' })] };
    expect(gapsIn(filled, ...span)).toEqual([]);
  });
});

describe('local times', () => {
  const HOURS: BusinessHours = { timeZone: 'Europe/Berlin', days: [1, 2, 3, 4, 5], fromMinute: 540, untilMinute: 1080 };

  test('business hours are those of the zone, on both sides of the change', () => {
    const open = (text: string) => inHours(HOURS, utc(text));
    // Friday in winter: 08:00 to 17:00 UTC.
    expect(['2026-03-27T07:59', '2026-03-27T08:00', '2026-03-27T16:59', '2026-03-27T17:00'].map(open)).toEqual([
      false,
      true,
      true,
      false,
    ]);
    // Monday in summer: 07:00 to 16:00 UTC. Not on Saturday.
    expect(['2026-03-30T06:59', '2026-03-30T07:00', '2026-03-30T15:59', '2026-03-30T16:00'].map(open)).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect(open('2026-03-28T10:00')).toBe(false);
  });

  test('four business hours from Friday at 17:00 on end on Monday at 12:00', () => {
    expect(afterHours(HOURS, utc('2026-03-27T16:00'), 4 * HOUR)).toBe(utc('2026-03-30T10:00'));
    expect(afterHours(HOURS, utc('2026-03-25T08:00'), 4 * HOUR)).toBe(utc('2026-03-25T12:00'));
    expect(afterHours(HOURS, utc('2026-03-28T23:00'), 4 * HOUR)).toBe(utc('2026-03-30T11:00'));
  });

  test('a daily time comes once a day in every zone, however long the day is', () => {
    const zones = [
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
      'America/Sao_Paulo',
      'Etc/UTC',
    ];
    fc.assert(
      fc.property(fc.constantFrom(...zones), fc.integer({ min: 0, max: 1_439 }), (zone, minute) => {
        const times = new Set<number>();
        for (let atMs = utc('2026-01-01T00:00'); atMs < utc('2027-01-01T00:00'); atMs += 7 * HOUR) {
          const due = lastDailyMs(zone, minute, atMs);
          expect(due).toBeLessThanOrEqual(atMs);
          expect(atMs - due).toBeLessThanOrEqual(25 * HOUR);
          times.add(due);
        }
        const days = [...times].map((ms) => localText(ms, zone).slice(4, 14));
        expect(new Set(days).size).toBe(days.length);
        expect(days.length).toBeGreaterThanOrEqual(364);
      }),
      { numRuns: 30 },
    );
    expect(lastDailyMs('Europe/Berlin', 540, utc('2026-03-29T06:59'))).toBe(utc('2026-03-28T08:00'));
    expect(lastDailyMs('Europe/Berlin', 540, utc('2026-03-29T07:00'))).toBe(utc('2026-03-29T07:00'));
  });

  test('a written date is one of the zone; what is no date is none', () => {
    expect(localTimeMs('2026-07-01T09:00', 'Europe/Berlin')).toBe(utc('2026-07-01T07:00'));
    expect(localTimeMs('2026-12-24', 'Europe/Berlin')).toBe(utc('2026-12-23T23:00'));
    expect(localTimeMs('2026-02-30', 'Europe/Berlin')).toBeUndefined();
  });
});

describe('cron', () => {
  const last = (expression: string, at: string, within = DAY, zone = 'Europe/Berlin') => {
    const times = cronTimes(expression);
    if (typeof times === 'string') throw new Error(times);
    return lastCronMs(times, zone, utc(at), within);
  };

  test('names the last time in the zone, if it is near enough', () => {
    expect(last('0 2 * * *', '2026-01-10T01:00')).toBe(utc('2026-01-10T01:00'));
    expect(last('0 2 * * *', '2026-01-10T00:59')).toBe(utc('2026-01-09T01:00'));
    expect(last('0 2 * * *', '2026-01-10T00:59', HOUR)).toBeUndefined();
    expect(last('30 22 * * 6', '2026-01-11T03:00')).toBe(utc('2026-01-10T21:30'));
    expect(last('30 22 * * 6', '2026-01-12T03:00')).toBeUndefined();
    expect(last('*/15 8-9 1 * *', '2026-07-01T07:59')).toBe(utc('2026-07-01T07:45'));
    expect(last('0 0 * * 7', '2026-01-11T12:00', DAY, 'Etc/UTC')).toBe(utc('2026-01-11T00:00'));
  });

  test('says what it does not read', () => {
    expect(cronTimes('0 2 * *')).toContain('five fields');
    expect(cronTimes('0 2 L * *')).toContain('without L and #');
    expect(cronTimes('0 2 1 * 1')).toContain('not both');
    expect(cronTimes('0 25 * * *')).toContain('five fields');
  });
});
