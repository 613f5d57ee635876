// Who is on call: a weekly order of people, overrides, or the events of a calendar file; and local times, with daylight saving. In: a rota and
// a time, or the text of a calendar file. Out: people; or shifts, or in words why the file has none. Guarantee: pure; every moment has exactly
// one answer, and a moment without one is reported before it comes; luxon and ical.js are loaded when they are needed first.
import { createRequire } from 'node:module';
import type ICAL from 'ical.js';
import type { DateTime } from 'luxon';
import cron from 'node-cron';
import { errorText } from '../core/errors.ts';

const load = createRequire(import.meta.url);
let loadedLuxon: typeof import('luxon') | undefined;
let loadedIcal: typeof ICAL | undefined;

/** Only who has a routing loads it: it takes memory that an indexer has better uses for. */
function luxon(): typeof import('luxon') {
  loadedLuxon ??= load('luxon') as typeof import('luxon');
  return loadedLuxon;
}

/** Only who has a calendar loads it. */
function ical(): typeof ICAL {
  loadedIcal ??= load('ical.js') as typeof ICAL;
  return loadedIcal;
}

export interface Rota {
  /** IANA name. */
  readonly timeZone: string;
  /** When a week begins: 1 = Monday … 7 = Sunday, and minutes after local midnight. */
  readonly handOff: { readonly day: number; readonly minute: number };
  /** Person ids, a week each, in turn: the first has the week that begins at or after `startsMs`. Earlier weeks follow the same order. */
  readonly primary: readonly string[];
  /** The same for the secondary; may be empty. */
  readonly secondary: readonly string[];
  readonly startsMs: number;
  /** Of two that say something else about one moment, the later in the list counts. */
  readonly overrides: readonly Shift[];
  /** Events of an iCalendar file instead of the weekly order. Of two that overlap, the one that began later counts. */
  readonly calendar?: readonly Shift[];
}

export interface Shift {
  readonly fromMs: number;
  readonly untilMs: number;
  readonly primary?: string | undefined;
  readonly secondary?: string | undefined;
}

/** Who is on call at a moment, and until when that holds. */
export interface OnCall {
  /** Undefined in a gap. */
  readonly primary: string | undefined;
  readonly secondary: string | undefined;
  /** At most `END_OF_TIME`. */
  readonly untilMs: number;
  readonly from: 'rota' | 'override' | 'calendar';
}

/** The last moment that a Date can hold. */
export const END_OF_TIME = 8.64e15;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

export function onCallAt(rota: Rota, atMs: number): OnCall {
  const base = rota.calendar === undefined ? weekAt(rota, atMs) : calendarAt(rota.calendar, atMs);
  let { primary, secondary, untilMs } = base;
  let overridden = false;
  for (const shift of rota.overrides) {
    untilMs = Math.min(untilMs, nextEdge(shift, atMs));
    if (!covers(shift, atMs)) continue;
    overridden = true;
    primary = shift.primary ?? primary;
    secondary = shift.secondary ?? secondary;
  }
  const from = overridden ? 'override' : rota.calendar === undefined ? 'rota' : 'calendar';
  return { primary, secondary, untilMs, from };
}

const covers = ({ fromMs, untilMs }: Shift, atMs: number): boolean => fromMs <= atMs && atMs < untilMs;

function nextEdge({ fromMs, untilMs }: Shift, atMs: number): number {
  return fromMs > atMs ? fromMs : untilMs > atMs ? untilMs : END_OF_TIME;
}

type Base = Pick<OnCall, 'primary' | 'secondary' | 'untilMs'>;

function weekAt(rota: Rota, atMs: number): Base {
  if (rota.primary.length <= 1 && rota.secondary.length <= 1) {
    return { primary: rota.primary[0], secondary: rota.secondary[0], untilMs: END_OF_TIME };
  }
  const begins = weekOf(rota, atMs);
  const first = weekOf(rota, rota.startsMs);
  const start = first.toMillis() < rota.startsMs ? handOffOf(rota, first, 1) : first;
  const weeks = Math.round((localDay(begins) - localDay(start)) / 7);
  const turn = (people: readonly string[]) => people.at(weeks % people.length);
  return {
    primary: turn(rota.primary),
    secondary: turn(rota.secondary),
    untilMs: handOffOf(rota, begins, 1).toMillis(),
  };
}

/** When the week began to which a moment belongs. */
function weekOf(rota: Rota, atMs: number): DateTime {
  const monday = luxon().DateTime.fromMillis(atMs, { zone: rota.timeZone }).startOf('week');
  const begins = handOffOf(rota, monday, 0);
  return begins.toMillis() <= atMs ? begins : handOffOf(rota, monday, -1);
}

/** The hand-off in the week of `date`, or so many weeks later. */
function handOffOf({ handOff }: Rota, date: DateTime, weeks: number): DateTime {
  return atMinute(date.startOf('week').plus({ days: handOff.day - 1 + weeks * 7 }), handOff.minute);
}

/** Number of a local date: a day is one more than the day before, however many hours it has. */
function localDay({ year, month, day }: DateTime): number {
  return Date.UTC(year, month - 1, day) / DAY_MS;
}

function calendarAt(calendar: readonly Shift[], atMs: number): Base {
  let untilMs = END_OF_TIME;
  let primary: Shift | undefined;
  let secondary: Shift | undefined;
  for (const shift of calendar) {
    untilMs = Math.min(untilMs, nextEdge(shift, atMs));
    if (!covers(shift, atMs)) continue;
    if (shift.primary !== undefined && shift.fromMs >= (primary?.fromMs ?? 0)) primary = shift;
    if (shift.secondary !== undefined && shift.fromMs >= (secondary?.fromMs ?? 0)) secondary = shift;
  }
  return { primary: primary?.primary, secondary: secondary?.secondary, untilMs };
}

// ---- from one moment to another ----

/** No list of shifts is longer. */
const MAX_SHIFTS = 5_000;

/**
 * Who is on call from `fromMs` until `untilMs`, in order and without holes; a gap is a shift without primary.
 * @param most no more than the first so many
 */
export function shifts(rota: Rota, fromMs: number, untilMs: number, most = MAX_SHIFTS): Shift[] {
  const found: { -readonly [K in keyof Shift]: Shift[K] }[] = [];
  // When the next one has begun, it is known how long those before it last.
  for (let atMs = fromMs; atMs < untilMs && found.length <= most; ) {
    const { primary, secondary, untilMs: endsMs } = onCallAt(rota, atMs);
    const last = found.at(-1);
    const end = Math.min(endsMs, untilMs);
    if (last !== undefined && last.primary === primary && last.secondary === secondary) last.untilMs = end;
    else {
      found.push({
        ...{ fromMs: atMs, untilMs: end },
        ...(primary === undefined ? {} : { primary }),
        ...(secondary === undefined ? {} : { secondary }),
      });
    }
    atMs = end;
  }
  return found.slice(0, most);
}

/** When nobody is on call as primary. */
export function gapsIn(rota: Rota, fromMs: number, untilMs: number): { fromMs: number; untilMs: number }[] {
  const gaps: { fromMs: number; untilMs: number }[] = [];
  for (const shift of shifts(rota, fromMs, untilMs)) {
    if (shift.primary !== undefined) continue;
    const last = gaps.at(-1);
    if (last?.untilMs === shift.fromMs) last.untilMs = shift.untilMs;
    else gaps.push({ fromMs: shift.fromMs, untilMs: shift.untilMs });
  }
  return gaps;
}

// ---- local times ----
// A time that the change to summer skips is an hour later on that day; of one that there is twice, the first counts.

export function isTimeZone(name: string): boolean {
  return luxon().IANAZone.isValidZone(name);
}

/** The moment of a local date and time, like `2026-12-24T09:00`; undefined when it is none. */
export function localTimeMs(text: string, timeZone: string): number | undefined {
  const time = luxon().DateTime.fromISO(text, { zone: timeZone });
  return time.isValid ? time.toMillis() : undefined;
}

/** `Mon 2026-11-30 09:00`, in the zone. */
export function localText(atMs: number, timeZone: string): string {
  return luxon().DateTime.fromMillis(atMs, { zone: timeZone, locale: 'en' }).toFormat('ccc yyyy-MM-dd HH:mm');
}

/** The last moment, not after `atMs`, at which it was so many minutes after local midnight: one a day. */
export function lastDailyMs(timeZone: string, minute: number, atMs: number): number {
  const today = luxon().DateTime.fromMillis(atMs, { zone: timeZone }).startOf('day');
  const time = atMinute(today, minute).toMillis();
  return time <= atMs ? time : atMinute(today.minus({ days: 1 }), minute).toMillis();
}

/** The weekly hours in which P3 is sent. */
export interface BusinessHours {
  /** IANA name, like `Europe/Berlin`. */
  readonly timeZone: string;
  /** 1 = Monday … 7 = Sunday. */
  readonly days: readonly number[];
  /** Minutes after local midnight. */
  readonly fromMinute: number;
  readonly untilMinute: number;
}

export function inHours(hours: BusinessHours, atMs: number): boolean {
  return hoursAt(hours, atMs).some(({ fromMs, untilMs }) => fromMs <= atMs && atMs < untilMs);
}

/** The moment when so much of the business hours from `fromMs` on is over. */
export function afterHours(hours: BusinessHours, fromMs: number, lastingMs: number): number {
  let atMs = fromMs;
  let left = lastingMs;
  // A day has hours to spare at least once a week; whoever asks for more than a year gets a year.
  for (let days = 0; days < 370; days++) {
    for (const open of hoursAt(hours, atMs)) {
      const beginsMs = Math.max(open.fromMs, atMs);
      if (open.untilMs <= beginsMs) continue;
      if (open.untilMs - beginsMs >= left) return beginsMs + left;
      left -= open.untilMs - beginsMs;
    }
    atMs = luxon().DateTime.fromMillis(atMs, { zone: hours.timeZone }).startOf('day').plus({ days: 1 }).toMillis();
  }
  return atMs;
}

/** The business hours of the local day to which a moment belongs: one stretch, or none. */
function hoursAt({ timeZone, days, fromMinute, untilMinute }: BusinessHours, atMs: number) {
  const day = luxon().DateTime.fromMillis(atMs, { zone: timeZone }).startOf('day');
  if (!days.includes(day.weekday)) return [];
  return [{ fromMs: atMinute(day, fromMinute).toMillis(), untilMs: atMinute(day, untilMinute).toMillis() }];
}

/** So many minutes after midnight by the clock on the wall; 1440 is the next midnight. */
function atMinute(day: DateTime, minute: number): DateTime {
  const days = Math.floor(minute / (DAY_MS / MINUTE_MS));
  return day
    .startOf('day')
    .plus({ days })
    .set({ hour: Math.floor(minute / 60) % 24, minute: minute % 60 });
}

// ---- cron: the minutes that an expression of five fields names, in local time ----

export interface CronTimes {
  readonly minute: readonly number[];
  readonly hour: readonly number[];
  readonly dayOfMonth: readonly number[];
  readonly month: readonly number[];
  /** 0 = Sunday. */
  readonly dayOfWeek: readonly number[];
}

const EVERY_DAY = 31;

/** Or why it is not read. */
export function cronTimes(expression: string): CronTimes | string {
  if (expression.trim().split(/\s+/).length !== 5 || !cron.validate(expression)) {
    return 'a cron expression of five fields, such as 0 2 * * 6';
  }
  const { minute, hour, dayOfMonth, month, dayOfWeek } = cron.parse(expression);
  const numbers = (values: readonly (number | string)[]) => values.filter((value) => typeof value === 'number');
  const [dates, days] = [numbers(dayOfMonth), numbers(dayOfWeek)];
  if (dates.length < dayOfMonth.length || days.length < dayOfWeek.length)
    return 'numbers and names of days, without L and #';
  const weekdays = [...new Set(days.map((day) => day % 7))];
  // Programs disagree about whether one of the two is enough.
  if (dates.length < EVERY_DAY && weekdays.length < 7) return 'a day of the month or a day of the week, not both';
  return { minute, hour, dayOfMonth: dates, month, dayOfWeek: weekdays };
}

/** The last of its times, not after `atMs` and less than `withinMs` before it; undefined when there is none. */
export function lastCronMs(times: CronTimes, timeZone: string, atMs: number, withinMs: number): number | undefined {
  const { hour, minute, dayOfMonth, month, dayOfWeek } = times;
  const earliest = atMs - withinMs;
  let day = luxon().DateTime.fromMillis(atMs, { zone: timeZone }).startOf('day');
  for (; day.endOf('day').toMillis() > earliest; day = day.minus({ days: 1 }).startOf('day')) {
    if (!dayOfMonth.includes(day.day) || !month.includes(day.month) || !dayOfWeek.includes(day.weekday % 7)) continue;
    let last: number | undefined;
    for (const one of hour) {
      for (const other of minute) {
        const ms = atMinute(day, one * 60 + other).toMillis();
        if (ms <= atMs && ms > earliest && ms > (last ?? earliest)) last = ms;
      }
    }
    if (last !== undefined) return last;
  }
  return undefined;
}

// ---- a calendar file as shifts: the events of an iCalendar file (RFC 5545), weekly or single ----
// Bounded work, whatever the file says: nothing is expanded that could go on without end, and never more than MAX_STEPS times. Local times
// go by the zone's present rules (luxon), not by those that the file brings along.

const MAX_BYTES = 1024 * 1024;
const MAX_EVENTS = 500;
/** Occurrences that are looked at, of one event and of all. */
const MAX_OCCURRENCES = 5_000;
const MAX_STEPS = 50_000;
const YEAR_MS = 366 * DAY_MS;
const MAX_YEARS = 5;
/** What a rule may be made of: with anything else it may have no occurrence at all, and be searched for one without end. */
const PARTS = ['FREQ', 'INTERVAL', 'UNTIL', 'COUNT', 'BYDAY', 'WKST'];

export interface CalendarOptions {
  /** What the events' people are on call as. */
  readonly role: 'primary' | 'secondary';
  /** Of events without a zone of their own. */
  readonly timeZone: string;
  /** The person whom a summary names, by id, name or mail address. */
  readonly personOf: (summary: string) => string | undefined;
  /** Shifts that end before this, or begin more than five years after it, are left out. */
  readonly fromMs: number;
}

export interface CalendarShifts {
  /** In the order of their beginnings. */
  readonly shifts: readonly Shift[];
  /** What is wrong; a file with a problem is not used. */
  readonly problems: readonly string[];
}

export function readCalendar(text: string, options: CalendarOptions): CalendarShifts {
  const problems: string[] = [];
  try {
    const shifts = shiftsOf(text, options, problems).sort((one, other) => one.fromMs - other.fromMs);
    return { shifts, problems: [...new Set(problems)].slice(0, 20) };
  } catch (error) {
    return { shifts: [], problems: [`is no iCalendar file that can be read: ${errorText(error).slice(0, 200)}`] };
  }
}

function shiftsOf(text: string, options: CalendarOptions, problems: string[]): Shift[] {
  if (text.length > MAX_BYTES) {
    problems.push(`has ${text.length} characters; at most ${MAX_BYTES} are read: export fewer events`);
    return [];
  }
  const calendar = new (ical().Component)(ical().parse(text));
  if (calendar.name !== 'vcalendar') {
    problems.push('has no VCALENDAR; export it as iCalendar (.ics)');
    return [];
  }
  const components = calendar.getAllSubcomponents('vevent');
  if (components.length > MAX_EVENTS) {
    problems.push(`has ${components.length} events; at most ${MAX_EVENTS} are read: a weekly event repeats itself`);
    return [];
  }
  // With them, lengths of events would be hours rather than days by the clock on the wall.
  calendar.removeAllSubcomponents('vtimezone');
  const events = components.filter((component) => component.getFirstProperty('recurrence-id') === null);
  if (events.length === 0) problems.push('has no events');
  let steps = 0;
  const shifts: Shift[] = [];
  for (const component of events) {
    const name = `the event "${String(component.getFirstPropertyValue('summary') ?? '').slice(0, 60)}"`;
    const why = unusable(component);
    if (why !== undefined) {
      problems.push(`${name} ${why}`);
      continue;
    }
    const zone = zoneOf(component, options.timeZone);
    if (zone === undefined) {
      problems.push(`${name} names a time zone that is not known; use names like Europe/Berlin`);
      continue;
    }
    localise(component, zone);
    for (const other of components) if (overrides(other, component)) localise(other, zone);
    const event = new (ical().Event)(component);
    // Only without moved occurrences is it certain, before an occurrence is looked at, that it is over.
    const lastsMs =
      Object.keys(event.exceptions).length > 0 ? Number.POSITIVE_INFINITY : event.duration.toSeconds() * 1_000;
    const isPast = ({ year, month, day }: ICAL.Time) =>
      Date.UTC(year, month - 1, day) + lastsMs + 3 * DAY_MS < options.fromMs;
    const occurrences = event.isRecurring() ? event.iterator() : undefined;
    for (let count = 0; ; count++) {
      if (count >= MAX_OCCURRENCES || steps >= MAX_STEPS) {
        problems.push(`${name} begins too long ago, or recurs too often: let it begin this year`);
        return [];
      }
      steps += 1;
      const next = occurrences === undefined ? (count === 0 ? event.startDate : undefined) : occurrences.next();
      if (next === undefined || next === null) break;
      if (isPast(next)) continue;
      const { item, startDate, endDate } = event.getOccurrenceDetails(next);
      const own = item.component === component ? zone : zoneOf(item.component, options.timeZone);
      if (own === undefined) {
        problems.push(`${name} names a time zone that is not known; use names like Europe/Berlin`);
        break;
      }
      const fromMs = momentOf(startDate, own);
      const untilMs = momentOf(endDate, own);
      if (momentOf(next, zone) > options.fromMs + MAX_YEARS * YEAR_MS) break;
      if (untilMs <= options.fromMs || untilMs <= fromMs || cancelled(item.component)) continue;
      const summary = String(item.summary ?? '').trim();
      const person = options.personOf(summary);
      if (person === undefined) {
        problems.push(
          `the event "${summary.slice(0, 60)}" names nobody of people; its title is to be an id, a name or a mail address of theirs`,
        );
        break;
      }
      shifts.push({ fromMs, untilMs, [options.role]: person });
    }
  }
  return problems.length > 0 ? [] : shifts;
}

/** Why an event is not expanded. */
function unusable(component: ICAL.Component): string | undefined {
  if (!(component.getFirstPropertyValue('dtstart') instanceof ical().Time)) return 'has no beginning (DTSTART)';
  const rules = component.getAllProperties('rrule');
  if (component.getFirstProperty('exrule') !== null || rules.length > 1) return 'has more than one recurrence rule';
  const rule = rules[0]?.getFirstValue();
  if (rule === undefined || rule === null) return undefined;
  const parts = String(rule)
    .split(';')
    .map((part) => part.split('=') as [string, string?]);
  const value = (name: string) => parts.find(([part]) => part === name)?.[1];
  const unknown = parts.find(([name]) => !PARTS.includes(name));
  const weekly = value('FREQ') === 'WEEKLY';
  const days = value('BYDAY');
  const interval = Number(value('INTERVAL') ?? 1);
  if (
    unknown !== undefined ||
    (!weekly && (value('FREQ') !== 'DAILY' || days !== undefined)) ||
    (days !== undefined && !/^(MO|TU|WE|TH|FR|SA|SU)(,(MO|TU|WE|TH|FR|SA|SU))*$/.test(days)) ||
    !(interval >= 1 && interval <= 1_000)
  ) {
    return 'recurs by a rule that is not read; permitted: every so many days or weeks, on days of the week (FREQ, INTERVAL, BYDAY, COUNT, UNTIL)';
  }
  return undefined;
}

function overrides(other: ICAL.Component, component: ICAL.Component): boolean {
  const uid = component.getFirstPropertyValue('uid');
  return (
    other !== component &&
    other.getFirstPropertyValue('uid') === uid &&
    other.getFirstProperty('recurrence-id') !== null
  );
}

/** Brings what names an occurrence in UTC, as the standard wants it of UNTIL, to the local time that occurrences are told apart by. */
function localise(component: ICAL.Component, zone: string): void {
  for (const name of ['exdate', 'recurrence-id']) {
    for (const property of component.getAllProperties(name)) {
      const values = property.getValues().map((value) => localTime(value, zone));
      if (values.length === 1) property.setValue(values[0] as never);
      else property.setValues(values);
    }
  }
  const rule = component.getFirstPropertyValue('rrule');
  if (rule instanceof ical().Recur && rule.until !== null) rule.until = localTime(rule.until, zone) as ICAL.Time;
}

function localTime(value: unknown, zone: string): never {
  if (!(value instanceof ical().Time) || value.isDate || value.zone?.tzid !== 'UTC') return value as never;
  const { year, month, day, hour, minute, second } = luxon().DateTime.fromMillis(momentOf(value, zone), { zone });
  return ical().Time.fromData({ year, month, day, hour, minute, second, isDate: false }) as never;
}

function cancelled(component: ICAL.Component): boolean {
  return component.getFirstPropertyValue('status') === 'CANCELLED';
}

/** Of DTSTART; undefined when it is not known. */
function zoneOf(component: ICAL.Component, timeZone: string): string | undefined {
  const tzid = component.getFirstProperty('dtstart')?.getFirstParameter('tzid');
  if (tzid === undefined || tzid === null || tzid === '') return timeZone;
  return isTimeZone(tzid) ? tzid : undefined;
}

function momentOf(time: ICAL.Time, zone: string): number {
  const { year, month, day, hour, minute, second, isDate } = time;
  const at = isDate ? { year, month, day } : { year, month, day, hour, minute, second };
  const utc = time.zone?.tzid === 'UTC';
  return luxon()
    .DateTime.fromObject(at, { zone: utc ? 'utc' : zone })
    .toMillis();
}
