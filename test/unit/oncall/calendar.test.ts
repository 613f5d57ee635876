// Calendar files as rotas: what people export, and what an attacker writes.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readCalendar } from '../../../src/oncall/rota.ts';

const utc = (text: string) => Date.parse(`${text}Z`);
const PEOPLE: Record<string, string> = { 'ada lovelace': 'ada', 'ada@example.org': 'ada', ben: 'ben' };
const options = {
  role: 'primary',
  timeZone: 'Europe/Berlin',
  personOf: (summary: string) => PEOPLE[summary.toLowerCase()],
  fromMs: utc('2026-10-01T00:00'),
} as const;

const event = (...lines: string[]) => ['BEGIN:VEVENT', ...lines, 'END:VEVENT'];
const file = (...events: string[][]) =>
  ['BEGIN:VCALENDAR', 'VERSION:2.0', 'PRODID:-//test//EN', ...events.flat(), 'END:VCALENDAR', ''].join('\r\n');
const read = (...events: string[][]) => readCalendar(file(...events), options);
const shift = (from: string, until: string, primary: string) => ({ fromMs: utc(from), untilMs: utc(until), primary });

/** As calendars write a zone along: with last year's rules, which are not read. */
const VTIMEZONE = [
  'BEGIN:VTIMEZONE',
  'TZID:Europe/Berlin',
  ...['BEGIN:STANDARD', 'DTSTART:19961027T030000', 'TZOFFSETFROM:+0200', 'TZOFFSETTO:+0300', 'END:STANDARD'],
  'END:VTIMEZONE',
];
const WEEKLY = event(
  'UID:a',
  'SUMMARY:Ada Lovelace',
  'DTSTART;TZID=Europe/Berlin:20261012T090000',
  'DTEND;TZID=Europe/Berlin:20261019T090000',
  'RRULE:FREQ=WEEKLY;INTERVAL=2;UNTIL=20261123T080000Z',
);

describe('a weekly event', () => {
  test('is a week by the clock on the wall, over the end of summer time', () => {
    expect(readCalendar(file(VTIMEZONE, WEEKLY), options)).toEqual({
      problems: [],
      shifts: [
        shift('2026-10-12T07:00', '2026-10-19T07:00', 'ada'),
        // This one has an hour more.
        shift('2026-10-26T08:00', '2026-11-02T08:00', 'ada'),
        shift('2026-11-09T08:00', '2026-11-16T08:00', 'ada'),
        // UNTIL is in UTC, and names the last one.
        shift('2026-11-23T08:00', '2026-11-30T08:00', 'ada'),
      ],
    });
    const over = event(...['UID:b', 'SUMMARY:ben', 'DTSTART;TZID=Europe/Berlin:20261019T090000', 'DURATION:P1W']);
    expect(read(over).shifts).toEqual([shift('2026-10-19T07:00', '2026-10-26T08:00', 'ben')]);
  });

  test('without an occurrence that was deleted, and with one that was moved and given to somebody else', () => {
    const deleted = [...WEEKLY.slice(0, -1), 'EXDATE;TZID=Europe/Berlin:20261026T090000', 'END:VEVENT'];
    const moved = event(
      ...['UID:a', 'RECURRENCE-ID:20261109T080000Z', 'SUMMARY:ben'],
      ...['DTSTART;TZID=Europe/Berlin:20261110T120000', 'DTEND;TZID=Europe/Berlin:20261116T090000'],
    );
    expect(read(deleted, moved).shifts).toEqual([
      shift('2026-10-12T07:00', '2026-10-19T07:00', 'ada'),
      shift('2026-11-10T11:00', '2026-11-16T08:00', 'ben'),
      shift('2026-11-23T08:00', '2026-11-30T08:00', 'ada'),
    ]);
    const cancelled = [...moved.slice(0, -1), 'STATUS:CANCELLED', 'END:VEVENT'];
    expect(read(deleted, cancelled).shifts).toHaveLength(2);
  });

  test('of whole days, without a zone, or in UTC', () => {
    const days = event('UID:d', 'SUMMARY:ben', 'DTSTART;VALUE=DATE:20261024', 'DTEND;VALUE=DATE:20261026');
    expect(read(days).shifts).toEqual([shift('2026-10-23T22:00', '2026-10-25T23:00', 'ben')]);
    const floating = event('UID:f', 'SUMMARY:ben', 'DTSTART:20261030T090000', 'DTEND:20261030T100000');
    expect(read(floating).shifts).toEqual([shift('2026-10-30T08:00', '2026-10-30T09:00', 'ben')]);
    const zulu = event('UID:z', 'SUMMARY:ada@example.org', 'DTSTART:20261030T090000Z', 'DTEND:20261030T100000Z');
    expect(read(zulu).shifts).toEqual([shift('2026-10-30T09:00', '2026-10-30T10:00', 'ada')]);
  });

  test('that goes on for ever is read for five years, from now on', () => {
    const daily = event('UID:x', 'SUMMARY:ben', 'DTSTART:20200101T090000', 'DTEND:20200101T180000', 'RRULE:FREQ=DAILY');
    const { shifts, problems } = read(daily);
    expect(problems).toEqual([]);
    expect(shifts[0]).toEqual(shift('2026-10-01T07:00', '2026-10-01T16:00', 'ben'));
    expect(shifts.length).toBeGreaterThan(5 * 365);
    expect(shifts.length).toBeLessThan(5 * 366 + 5);
  });
});

describe('what is wrong is said, and nothing of the file is used', () => {
  const at = ['DTSTART:20261030T090000', 'DTEND:20261030T100000'];
  test.each<[string, string, RegExp]>([
    ['somebody who is not there', file(WEEKLY, event('UID:s', 'SUMMARY:Zoe', ...at)), /"Zoe" names nobody of people/],
    [
      'a zone that is none',
      file(event('UID:s', 'SUMMARY:ben', 'DTSTART;TZID=W. Europe:20261030T090000')),
      /time zone that is not known/,
    ],
    ['no beginning', file(event('UID:s', 'SUMMARY:ben')), /no beginning/],
    ['no events', file(), /no events/],
    ['something else', 'Monday: Ada', /no iCalendar file/],
    ['an empty file', '', /no VCALENDAR/],
    ['a contact', 'BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Ada\r\nEND:VCARD\r\n', /no VCALENDAR/],
    [
      'too many events',
      file(...Array.from({ length: 501 }, (_, i) => event(`UID:${i}`, 'SUMMARY:ben', ...at))),
      /at most 500/,
    ],
    ['a huge file', `${file(WEEKLY)}${' '.repeat(1024 * 1024)}`, /characters; at most/],
  ])('%s', (_, text, why) => {
    const { shifts, problems } = readCalendar(text, options);
    expect(problems.join('\n')).toMatch(why);
    expect(shifts).toEqual([]);
  });

  test.each([
    'FREQ=SECONDLY',
    'FREQ=MINUTELY;INTERVAL=1',
    'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30',
    'FREQ=MONTHLY;BYDAY=5MO',
    'FREQ=DAILY;BYDAY=MO;INTERVAL=7',
    'FREQ=DAILY;BYMONTHDAY=31;BYMONTH=2',
    'FREQ=WEEKLY;BYSETPOS=9;BYDAY=MO',
    'FREQ=WEEKLY;BYDAY=9MO',
    'FREQ=WEEKLY;INTERVAL=999999999',
  ])('a rule that may have no end, or no occurrence: %s', (rule) => {
    const startedMs = performance.now();
    const { shifts, problems } = read(event('UID:r', 'SUMMARY:ben', ...at, `RRULE:${rule}`));
    expect(problems.length).toBeGreaterThan(0);
    expect(shifts).toEqual([]);
    expect(performance.now() - startedMs).toBeLessThan(1_000);
  });

  test('many events that each recur daily since the year 1000 are given up in words, soon', () => {
    const old = Array.from({ length: 500 }, (_, i) =>
      event(`UID:${i}`, 'SUMMARY:ben', 'DTSTART:10000101T090000', 'DURATION:PT1H', 'RRULE:FREQ=DAILY'),
    );
    const startedMs = performance.now();
    expect(read(...old).problems.join()).toMatch(/begins too long ago, or recurs too often/);
    expect(performance.now() - startedMs).toBeLessThan(5_000);
  });

  test('whatever a file says, it is read or refused, and never throws', () => {
    const line = fc.oneof(
      fc.constantFrom('BEGIN:VEVENT', 'END:VEVENT', 'BEGIN:VCALENDAR', 'END:VCALENDAR', 'SUMMARY:ben', 'UID:a'),
      fc.constantFrom('DTSTART:20261030T090000', 'DTEND:99999999T999999', 'DTSTART;TZID=Europe/Berlin:20260330T023000'),
      fc.constantFrom(
        'RRULE:FREQ=WEEKLY;COUNT=3',
        'RRULE:FREQ=DAILY;UNTIL=x',
        'EXDATE:20261030T090000',
        'DURATION:-P1W',
      ),
      fc.constantFrom('RECURRENCE-ID:20261030T090000', 'RDATE:20261101T090000,20261102T090000'),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 20 }), (lines) => {
        const { shifts, problems } = readCalendar(file(event(...lines)), options);
        if (problems.length > 0) expect(shifts).toEqual([]);
        for (const { fromMs, untilMs } of shifts) expect(untilMs).toBeGreaterThan(fromMs);
      }),
      { numRuns: 300 },
    );
  });
});
