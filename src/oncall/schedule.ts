// Who is on call at a moment and after it, of every team: for `logpipe oncall` and the API. In: the routing and a moment. Out: plain data.
// Guarantee: pure; names and ids alone, nothing by which people are reached; a gap and a team without a rota are said, not left out.
import { type OnCall, onCallAt, shifts } from './rota.ts';
import type { Routing, Team } from './routing.ts';

/** So far ahead a rota is looked at. */
const AHEAD_MS = 366 * 86_400_000;

export interface TeamSchedule {
  readonly team: string;
  readonly name: string;
  /** IANA name: that of the rota, else of the business hours. */
  readonly timeZone: string;
  /** Null where there is no rota. */
  readonly now: ScheduledShift | null;
  /** What follows, in order. */
  readonly next: readonly ScheduledShift[];
}

export interface ScheduledShift {
  /** ISO 8601. */
  readonly from: string;
  /** Null: nothing changes within a year. */
  readonly until: string | null;
  /** Null: nobody. */
  readonly primary: ScheduledPerson | null;
  readonly secondary: ScheduledPerson | null;
  /** What says so. */
  readonly by: OnCall['from'];
}

export interface ScheduledPerson {
  readonly id: string;
  readonly name: string;
}

/** @param next how many shifts that follow are wanted */
export function scheduleOf(
  { teams, people }: Pick<Routing, 'teams' | 'people'>,
  atMs: number,
  next: number,
): TeamSchedule[] {
  const named = (id: string | undefined): ScheduledPerson | null => {
    if (id === undefined) return null;
    return { id, name: people.get(id)?.name ?? id };
  };
  return teams.map(({ id, name, hours, rota }: Team): TeamSchedule => {
    if (rota === undefined) return { team: id, name, timeZone: hours.timeZone, now: null, next: [] };
    const horizonMs = atMs + AHEAD_MS;
    const [now, ...others] = shifts(rota, atMs, horizonMs, next + 1).map(
      ({ fromMs, untilMs, primary, secondary }): ScheduledShift => ({
        from: iso(fromMs),
        until: untilMs >= horizonMs ? null : iso(untilMs),
        primary: named(primary),
        secondary: named(secondary),
        by: onCallAt(rota, fromMs).from,
      }),
    );
    return {
      ...{ team: id, name, timeZone: rota.timeZone },
      now: now ?? null,
      next: others,
    };
  });
}

function iso(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
