// Where a message goes at a moment, and who is on call then. In: the routing, and which destinations can be reached. Out: pure answers.
// Guarantee: an answer depends on the routing and the moment alone, so that every instance gives the same; what cannot be reached is in
// no answer. Below that, for people: who is on call and comes next, and what check-config finds in a routing.
import { compileCondition } from '../core/condition.ts';
import type { Priority } from '../rules/rule-types.ts';
import {
  afterHours,
  cronTimes,
  gapsIn,
  inHours,
  lastCronMs,
  lastDailyMs,
  localText,
  type OnCall,
  onCallAt,
  type Shift,
  shifts,
} from './rota.ts';
import {
  type AlertMatch,
  DEFAULT_PRIORITIES,
  type Destination,
  type Person,
  type PriorityRoute,
  type Routing,
  type Team,
} from './routing.ts';

/** What routing looks at in an alert. */
export interface RoutedAlert {
  readonly ruleId: string;
  readonly group: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Who is on call, with all that is known of them. */
export interface PeopleOnCall {
  readonly primary?: Person;
  readonly secondary?: Person;
}

export interface Routes {
  /** Undefined where there is no routing: then there are no teams, and nobody is on call. */
  teamOf(alert: RoutedAlert): string | undefined;
  /** All of them, in the order of the file. */
  teams(): readonly Team[];
  /** The default team, if there is no such team any more; undefined where there is no routing. */
  team(id: string | undefined): Team | undefined;
  of(priority: Priority): PriorityRoute;
  /** Those of the team: its own, where it has them, else the common ones. */
  channels(priority: Priority, team: string | undefined): readonly Destination[];
  /** `email:<id>` and `pagerduty:<id>`, as far as the person can be reached there. */
  personChannels(person: Person): readonly Destination[];
  /** Where mail to the whole team goes. */
  mailOf(team: Team): readonly Destination[];
  /** Nobody where there is no rota. */
  onCall(team: Team, atMs: number): PeopleOnCall;
  /** When somebody else comes on call, from after `fromMs` until `untilMs`. */
  changes(
    team: Team,
    fromMs: number,
    untilMs: number,
  ): readonly { readonly atMs: number; readonly who: PeopleOnCall }[];
  /** When the team's daily mail was due last. */
  dailyDueMs(team: Team, atMs: number): number;
  /** Whether a message of this priority to this team waits for business hours. */
  waits(priority: Priority, team: string | undefined, atMs: number): boolean;
  /** Until when somebody is to answer what was told at a moment; undefined when nobody is asked to. */
  answerByMs(priority: Priority, team: string | undefined, atMs: number): number | undefined;
  /** The maintenance window that mutes an alert at this moment, by its id. */
  maintenance(atMs: number): (alert: RoutedAlert) => string | undefined;
  /** What is resolved by hand while it is true is quiet for this long. */
  readonly reopenAfterMs: number;
}

const REOPEN_AFTER_MS = 30 * 60_000;

/** Everybody is told of everything: by the priority alone, at any time. */
export function routesByPriority(channelsFor: (priority: Priority) => readonly Destination[]): Routes {
  return {
    teamOf: () => undefined,
    teams: () => [],
    team: () => undefined,
    of: (priority) => ({ ...DEFAULT_PRIORITIES[priority], businessHoursOnly: false, onCall: false }),
    channels: channelsFor,
    personChannels: () => [],
    mailOf: () => [],
    onCall: () => ({}),
    changes: () => [],
    dailyDueMs: (_, atMs) => atMs,
    waits: () => false,
    answerByMs: () => undefined,
    maintenance: () => () => undefined,
    reopenAfterMs: REOPEN_AFTER_MS,
  };
}

export function createRoutes(
  routing: Routing,
  deps: {
    /** Is there such a destination? */
    readonly has: (destination: Destination) => boolean;
    readonly environment: string;
  },
): Routes {
  const { has, environment } = deps;
  const matchers = routing.routes.map(({ match, team }) => ({ team, matches: matcher(match, environment) }));
  const windows = routing.maintenance.map((window) => ({
    ...window,
    times: cronTimes(window.cron),
    matches: matcher(window.match ?? {}, environment),
  }));
  const teams = new Map(routing.teams.map((team) => [team.id, team]));
  const teamBy = (id: string | undefined) => teams.get(id ?? '') ?? teams.get(routing.defaultTeam);
  const configured = (names: readonly Destination[]) => names.filter(has);

  function peopleOnCall({ primary, secondary }: Pick<Shift, 'primary' | 'secondary'>): PeopleOnCall {
    const person = (role: keyof PeopleOnCall, id: string | undefined) => {
      const found = routing.people.get(id ?? '');
      return found === undefined ? {} : { [role]: found };
    };
    return { ...person('primary', primary), ...person('secondary', secondary) };
  }

  /** Rotas answer until their next change; cron expressions name whole minutes. */
  const held = new Map<string, { readonly fromMs: number; readonly untilMs: number; readonly who: PeopleOnCall }>();
  const dues = new Map<string, { readonly minute: number; readonly dueMs: number }>();
  let open: { readonly minute: number; readonly windows: typeof windows } | undefined;

  return {
    teamOf: (alert) => matchers.find(({ matches }) => matches(alert))?.team ?? routing.defaultTeam,
    teams: () => routing.teams,
    team: teamBy,
    of: (priority) => routing.priorities[priority],
    channels(priority, id) {
      const team = teamBy(id)?.id;
      const { to, daily } = routing.priorities[priority];
      return (daily ? [] : to).flatMap((kind) => {
        const own = `${kind}:${team}`;
        return has(own) ? [own] : configured([kind]);
      });
    },
    personChannels: ({ id }) => configured([`email:${id}`, `pagerduty:${id}`]),
    mailOf({ id }) {
      const own = `email:${id}`;
      return has(own) ? [own] : configured(['email']);
    },
    onCall({ id, rota }, atMs) {
      if (rota === undefined) return {};
      const known = held.get(id);
      if (known !== undefined && known.fromMs <= atMs && atMs < known.untilMs) return known.who;
      const now = onCallAt(rota, atMs);
      const who = peopleOnCall(now);
      held.set(id, { fromMs: atMs, untilMs: now.untilMs, who });
      return who;
    },
    changes({ rota }, fromMs, untilMs) {
      if (rota === undefined) return [];
      return shifts(rota, fromMs, untilMs)
        .slice(1)
        .map((shift) => ({ atMs: shift.fromMs, who: peopleOnCall(shift) }));
    },
    dailyDueMs({ id, hours, daily }, atMs) {
      const minute = Math.floor(atMs / 60_000);
      const known = dues.get(id);
      if (known?.minute === minute) return known.dueMs;
      const dueMs = lastDailyMs(hours.timeZone, daily.atMinute, atMs);
      dues.set(id, { minute, dueMs });
      return dueMs;
    },
    waits(priority, id, atMs) {
      const team = teamBy(id);
      return routing.priorities[priority].businessHoursOnly && team !== undefined && !inHours(team.hours, atMs);
    },
    answerByMs(priority, id, atMs) {
      const { daily, businessHoursOnly, answerWithinMs } = routing.priorities[priority];
      if (daily) return undefined;
      const hours = teamBy(id)?.hours;
      return businessHoursOnly && hours !== undefined ? afterHours(hours, atMs, answerWithinMs) : atMs + answerWithinMs;
    },
    maintenance(atMs) {
      const minute = Math.floor(atMs / 60_000);
      if (open?.minute !== minute) {
        const now = windows.filter(({ times, timeZone, durationMs }) => {
          return typeof times !== 'string' && lastCronMs(times, timeZone, atMs, durationMs) !== undefined;
        });
        open = { minute, windows: now };
      }
      const now = open.windows;
      return (alert) => now.find(({ matches }) => matches(alert))?.id;
    },
    reopenAfterMs: routing.reopenAfterMs,
  };
}

/** What teams and people have of their own. For people that supposes that mail can be sent. */
export function ownDestinations({ teams, people }: Pick<Routing, 'teams' | 'people'>): Destination[] {
  const own = (id: string, kinds: readonly (readonly [string, unknown])[]) =>
    kinds.flatMap(([kind, address]) => (address === undefined ? [] : [`${kind}:${id}`]));
  return [
    ...teams.flatMap(({ id, slackWebhookUrl, pagerDutyKey, emailTo }) =>
      own(id, [
        ['slack', slackWebhookUrl],
        ['pagerduty', pagerDutyKey],
        ['email', emailTo],
      ]),
    ),
    ...[...people.values()].flatMap(({ id, email, pagerDutyKey }) =>
      own(id, [
        ['email', email],
        ['pagerduty', pagerDutyKey],
      ]),
    ),
  ];
}

function matcher({ rule, group, labels = {}, environment }: AlertMatch, here: string): (alert: RoutedAlert) => boolean {
  const tests = Object.entries(labels).map(([name, condition]) => [name, compileCondition(condition)] as const);
  if (environment !== undefined && environment !== here) return () => false;
  return (alert) =>
    (rule === undefined || rule === alert.ruleId) &&
    (group === undefined || group === alert.group) &&
    tests.every(([name, test]) => test(alert.labels[name]));
}

// ---- who is on call at a moment and after it, of every team; for `logpipe oncall` and the API ----
// Names and ids alone, nothing by which people are reached; a gap and a team without a rota are said, not left out.

/** So far ahead a rota is looked at. */
const SCHEDULE_AHEAD_MS = 366 * 86_400_000;

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
    const horizonMs = atMs + SCHEDULE_AHEAD_MS;
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

// ---- what is permitted and hardly meant, or would leave nobody to tell; for `check-config` ----

/** So far ahead a rota is looked at. */
const AHEAD_MS = 8 * 7 * 86_400_000;
const MAX_GAPS = 5;

export interface RoutingFindings {
  /** `path: what is wrong`. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** @param has whether there is such a destination, as `notify` and the routing have it */
export function checkRouting(
  routing: Routing,
  deps: { readonly has: (destination: Destination) => boolean; readonly nowMs: number },
): RoutingFindings {
  const { has, nowMs } = deps;
  const routes = createRoutes(routing, { has, environment: '' });
  const problems: string[] = [];
  const warnings: string[] = [];
  for (const team of routing.teams) {
    const path = `teams.${team.id}`;
    const { rota } = team;
    const gaps = rota === undefined ? [] : gapsIn(rota, nowMs, nowMs + AHEAD_MS);
    for (const { fromMs, untilMs } of gaps.slice(0, MAX_GAPS)) {
      const from = localText(fromMs, rota!.timeZone);
      problems.push(
        `${path}.rota: nobody is on call from ${from} to ${localText(untilMs, rota!.timeZone)}; fill the gap with an override, or with an event`,
      );
    }
    if (gaps.length > MAX_GAPS)
      problems.push(`${path}.rota: and ${gaps.length - MAX_GAPS} more gaps in the next 8 weeks`);
    const people = peopleOf(team, routing);
    const reachable = people.filter((person) => routes.personChannels(person).length > 0);
    if (routes.channels('P1', team.id).length === 0 && reachable.length === 0) {
      problems.push(
        `${path}: nobody of it can be reached: set one of slackWebhookUrl, pagerDutyKey and emailTo, or the common channels of notify`,
      );
    }
    if (routes.mailOf(team).length === 0 && !people.some(({ id }) => has(`email:${id}`))) {
      warnings.push(`${path}: the daily mail, and with it P4, reaches nobody; set emailTo, or notify.email.to`);
    }
    for (const person of people) warnings.push(...lacks(person, team, routing, routes));
  }
  const used = new Set(routing.teams.flatMap((team) => peopleOf(team, routing).map(({ id }) => id)));
  for (const { id } of routing.people.values()) {
    if (!used.has(id)) warnings.push(`people.${id}: is in no rota`);
  }
  return { problems, warnings: [...new Set(warnings)] };
}

/** Those of its rota. */
function peopleOf({ rota }: Team, { people }: Routing): Person[] {
  if (rota === undefined) return [];
  const shifts = [...rota.overrides, ...(rota.calendar ?? [])];
  const ids = [...rota.primary, ...rota.secondary, ...shifts.flatMap(({ primary, secondary }) => [primary, secondary])];
  return [...new Set(ids)].flatMap((id) => people.get(id ?? '') ?? []);
}

/** What somebody on call lacks that messages would use. */
function lacks({ id, slackId, pagerDutyKey, email }: Person, team: Team, routing: Routing, routes: Routes): string[] {
  const onCall = Object.values(routing.priorities).filter((one) => one.onCall);
  const uses = (kind: string) => onCall.some(({ to }) => to.some((one) => one === kind));
  const sent = new Set(routes.channels('P2', team.id).map((name) => name.split(':')[0]));
  const person = new Set(routes.personChannels({ id, name: id, email }).map((name) => name.split(':')[0]));
  const path = `people.${id}`;
  return [
    ...(slackId === undefined && sent.has('slack') ? [`${path}: has no slackId, so Slack mentions nobody`] : []),
    ...(pagerDutyKey === undefined && uses('pagerduty')
      ? [`${path}: has no pagerDutyKey: an escalation to them calls nobody, only the mail goes`]
      : []),
    ...(person.has('email') ? [] : [`${path}: gets no mail, because notify.email.host is not set`]),
  ];
}
