// Who is on call: a weekly order of people, overrides, or the events of a calendar file; and local times, with daylight saving. In: a rota and
// a time. Out: people. Guarantee: pure; every moment has exactly one answer, and a moment without one is reported before it comes.
import { createRequire } from 'node:module';
import type { DateTime } from 'luxon';
import cron from 'node-cron';

const load = createRequire(import.meta.url);
let loaded: typeof import('luxon') | undefined;

/** Only who has a routing loads it: it takes memory that an indexer has better uses for. */
export function luxon(): typeof import('luxon') {
  loaded ??= load('luxon') as typeof import('luxon');
  return loaded;
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
