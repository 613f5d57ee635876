// A stretch of time as people write it. In: `--from`, `--to` and `--time-zone`. Out: [fromMs, toMs) on the epoch's clock.
// Guarantee: an impossible date or an unknown zone is an error that names option, value and fix; nothing is guessed.
import { LogpipeError } from '../core/errors.ts';

export interface TimeRangeOptions {
  readonly from?: string | undefined;
  /** Default: now. */
  readonly to?: string | undefined;
  /** IANA name, for times that are written without an offset. Default: UTC. */
  readonly timeZone?: string | undefined;
}

/** From `fromMs` on, before `toMs`. */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const RELATIVE = /^-(\d{1,9})([smhd])$/;
const ISO = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?$/i;
const FIX =
  'write -2h, -30m, now, or ISO 8601 like 2026-01-31T08:00:00Z; without Z or an offset it is read in --time-zone';

/** @throws LogpipeError LOGPIPE_USAGE */
export function parseTimeRange(options: TimeRangeOptions, now: number): TimeRange {
  const { timeZone } = options;
  if (options.from === undefined) throw usage('--from: missing; say where the stretch begins, for example --from -2h');
  const fromMs = parseTime(options.from, { place: '--from', now, timeZone, edge: 'start' });
  const toMs = parseTime(options.to ?? 'now', { place: '--to', now, timeZone, edge: 'end' });
  if (fromMs >= toMs) {
    const found = `${new Date(fromMs).toISOString()} to ${new Date(toMs).toISOString()}`;
    throw usage(`--from, --to: found ${found}; --from has to be earlier than --to`);
  }
  return { fromMs, toMs };
}

export interface ParseTimeOptions {
  /** Stands in messages. */
  readonly place: string;
  readonly now: number;
  readonly timeZone?: string | undefined;
  /** Of a time that a clock change made happen twice, the first or the second; so that a stretch is never cut short. */
  readonly edge?: 'start' | 'end';
}

/**
 * `now`; `-90s`, `-30m`, `-2h`, `-1d` before now; a date; or a date and time, with or without an offset.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function parseTime(text: string, options: ParseTimeOptions): number {
  const { place, now, timeZone = 'UTC', edge = 'start' } = options;
  const offsetAt = zoneOffsets(timeZone);
  const wanted = text.trim();
  if (wanted === 'now') return now;
  const relative = RELATIVE.exec(wanted);
  if (relative) return Math.max(0, now - Number(relative[1]) * UNIT_MS[relative[2] as keyof typeof UNIT_MS]);
  const match = ISO.exec(wanted);
  if (!match) throw usage(`${place}: ${JSON.stringify(text)} is no time; ${FIX}`);
  const [, date, clock = '00:00', seconds = '00', fraction = '0', offset] = match;
  // As if it were UTC: impossible dates (30 February) and hours show when it is written back.
  const local = Date.parse(`${date}T${clock}:${seconds}.${fraction.padEnd(3, '0').slice(0, 3)}Z`);
  if (!Number.isFinite(local) || !new Date(local).toISOString().startsWith(`${date}T${clock}:${seconds}`)) {
    throw usage(`${place}: ${JSON.stringify(text)} does not exist in the calendar; ${FIX}`);
  }
  if (offset !== undefined) return local - offsetMs(offset, place, text);
  // The offset in force depends on the moment that is looked for: the candidates are those of a day before and after.
  const moments = [...new Set([local - UNIT_MS.d, local, local + UNIT_MS.d].map((near) => local - offsetAt(near)))]
    .filter((moment) => moment + offsetAt(moment) === local)
    .sort((a, b) => a - b);
  const found = edge === 'start' ? moments[0] : moments.at(-1);
  if (found === undefined) {
    throw usage(
      `${place}: ${JSON.stringify(text)} does not exist in ${timeZone}, the clocks were put forward; write it with an offset`,
    );
  }
  return found;
}

function offsetMs(text: string, place: string, whole: string): number {
  if (/^z$/i.test(text)) return 0;
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(text) as unknown as [string, string, string, string];
  if (Number(hours) > 18 || Number(minutes) > 59) {
    throw usage(`${place}: ${JSON.stringify(whole)} has no possible offset; ${FIX}`);
  }
  return (sign === '-' ? -1 : 1) * (Number(hours) * UNIT_MS.h + Number(minutes) * UNIT_MS.m);
}

/** How far the zone's clocks are ahead of UTC at a moment. @throws LogpipeError LOGPIPE_USAGE for an unknown zone */
function zoneOffsets(timeZone: string): (ms: number) => number {
  if (timeZone === 'UTC') return () => 0;
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch {
    throw usage(`--time-zone: ${JSON.stringify(timeZone)} is not known; write an IANA name like Europe/Berlin or UTC`);
  }
  return (ms) => {
    const part = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    const { year, month, day, hour, minute, second } = part as Record<string, number>;
    return Date.UTC(year!, month! - 1, day!, hour!, minute!, second!) - (ms - (ms % 1_000));
  };
}

function usage(message: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', message);
}
