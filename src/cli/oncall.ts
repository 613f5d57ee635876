// `logpipe oncall`: who is on call now, or at a time, and who comes next. In: routing.yml. Out: a table for each team, or JSON. Guarantee:
// it reads files alone; a gap is shown as one.
import type { Config } from '../config.ts';
import { LogpipeError } from '../core/errors.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { isTimeZone, localText } from '../oncall/rota.ts';
import { type ScheduledPerson, type ScheduledShift, scheduleOf, type TeamSchedule } from '../oncall/routes.ts';
import { loadRouting } from '../oncall/routing.ts';
import { parseTime } from '../replay/sources.ts';
import { column, type Io, jsonLine, say } from './io.ts';

export interface OncallOptions {
  /** Default: now. */
  readonly at?: string | undefined;
  /** How many shifts after the present one. */
  readonly next: number;
  readonly team?: string | undefined;
  /** IANA name; default: the team's own. */
  readonly timeZone?: string | undefined;
  readonly json: boolean;
}

const MAX_NEXT = 52;

/**
 * Exit status 1 when a team that has a rota has nobody at that time.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_CONFIG_INVALID
 */
export function oncall(config: Config, options: OncallOptions, io: Io, now: () => number = Date.now): number {
  const { next, timeZone, team } = options;
  if (!Number.isInteger(next) || next < 0 || next > MAX_NEXT)
    throw usage(`--next: takes a whole number, 0 to ${MAX_NEXT}`);
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    throw usage(`--time-zone: found ${JSON.stringify(timeZone)}; permitted: a name like Europe/Berlin`);
  }
  const nowMs = now();
  const routing = loadRouting({ file: config.alerts.routingFile, env: process.env, nowMs });
  if (routing === undefined) {
    throw usage('there is no routing.yml, so there is no rota; name it in alerts.routingFile (docs/on-call.md)');
  }
  const atMs = options.at === undefined ? nowMs : parseTime(options.at, { place: '--at', now: nowMs, timeZone });
  const all = scheduleOf(routing, atMs, next);
  const shown = team === undefined ? all : all.filter((one) => one.team === team);
  if (shown.length === 0) {
    throw usage(`--team: found ${JSON.stringify(team)}; there is: ${all.map((one) => one.team).join(', ')}`);
  }
  if (options.json) io.out(jsonLine({ at: new Date(atMs).toISOString(), teams: shown }, createMasker(config.mask)));
  else for (const one of shown) showTeam(one, options, io);
  return shown.every((one) => one.now === null || one.now.primary !== null) ? 0 : 1;
}

function usage(message: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', `oncall: ${message}`);
}

/** `Mon 2026-11-30 09:00` */
const TIME_WIDTH = 20;
const NAME_WIDTH = 20;

function showTeam(schedule: TeamSchedule, { at, timeZone = schedule.timeZone }: OncallOptions, io: Io): void {
  const { team, name, now, next } = schedule;
  const own = name === team ? '' : ` (${name})`;
  say(io, [{ text: `${team}${own}`, style: 'bold' }, { text: `, times in ${timeZone}` }], 2);
  if (now === null) {
    say(io, '  nobody is on call: the team has no rota', 4);
    return;
  }
  const time = (iso: string) => localText(Date.parse(iso), timeZone);
  const row = (from: string, until: string, primary: string, secondary: string) =>
    `  ${column(from, TIME_WIDTH)}  ${column(until, TIME_WIDTH)}  ${column(primary, NAME_WIDTH)}  ${secondary}`.trimEnd();
  say(io, row('FROM', 'UNTIL', 'PRIMARY', 'SECONDARY'), 4);
  const line = (from: string, { until, primary, secondary, by }: ScheduledShift) => {
    const note = by === 'override' ? '  (override)' : '';
    const text = row(
      from,
      until === null ? 'no change this year' : time(until),
      personText(primary),
      personText(secondary),
    );
    say(io, [{ text: `${text}${note}`, style: primary === null ? 'red' : undefined }], 4);
  };
  line(at === undefined ? 'now' : time(now.from), now);
  for (const shift of next) line(time(shift.from), shift);
}

function personText(person: ScheduledPerson | null): string {
  return person === null ? 'nobody' : person.name;
}
