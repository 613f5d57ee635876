// A calendar file as a rota: the events of an iCalendar file (RFC 5545), weekly or single, as shifts. In: the file's text. Out: shifts, or in
// words why there are none. Guarantee: bounded work, whatever the file says: nothing is expanded that could go on without end, and never
// more than MAX_STEPS times. Local times go by the zone's present rules (luxon), not by those that the file brings along.
import { createRequire } from 'node:module';
import type ICAL from 'ical.js';
import { errorText } from '../core/errors.ts';
import { isTimeZone, luxon, type Shift } from './rota.ts';

const MAX_BYTES = 1024 * 1024;
const MAX_EVENTS = 500;
/** Occurrences that are looked at, of one event and of all. */
const MAX_OCCURRENCES = 5_000;
const MAX_STEPS = 50_000;
const DAY_MS = 86_400_000;
const YEAR_MS = 366 * DAY_MS;
const MAX_YEARS = 5;
/** What a rule may be made of: with anything else it may have no occurrence at all, and be searched for one without end. */
const PARTS = ['FREQ', 'INTERVAL', 'UNTIL', 'COUNT', 'BYDAY', 'WKST'];

const load = createRequire(import.meta.url);
let loaded: typeof ICAL | undefined;

/** Only who has a calendar loads it. */
function ical(): typeof ICAL {
  loaded ??= load('ical.js') as typeof ICAL;
  return loaded;
}

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
