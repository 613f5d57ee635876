// Who is told of what, when and where: `config/routing.yml`. In: YAML. Out: Routing, frozen. Guarantee: what it names exists; ids are told
// apart; all problems are reported at once, and none repeats a secret. Where there is no such file, everybody is told of everything as
// the sections of `notify` say. routes.ts answers "where does this go now".
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, durationMs, durationSchema } from '../core/clock.ts';
import { conditionSchema, type Where } from '../core/condition.ts';
import {
  createChangedText,
  type Environment,
  invalidConfig,
  LOOK_MS,
  loadYaml,
  readConfigFile,
  type Schema,
} from '../core/config-loader.ts';
import { errorText, reasonInWords } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { PRIORITIES, type Priority } from '../rules/rule-types.ts';
import { type BusinessHours, cronTimes, isTimeZone, localTimeMs, type Rota, readCalendar, type Shift } from './rota.ts';

/** `slack`, `pagerduty`, `email`, `webhook`, `console`; of a team or person with its id behind a colon: `slack:payments`, `email:ada`. */
export type Destination = string;

/** The kinds of destination that a priority can name. */
export const DESTINATION_KINDS = ['pagerduty', 'slack', 'email', 'alertmanager', 'webhook', 'console'] as const;
export type DestinationKind = (typeof DESTINATION_KINDS)[number];

const ID = '[a-z][a-z0-9-]{0,39}';
const IS_ID = /^[a-z][a-z0-9-]{0,39}$/;

/** True for what can be a destination, whether there is such a team or person or not. */
export function isDestination(name: string): name is Destination {
  const [kind, owner, ...rest] = name.split(':');
  return rest.length === 0 && DESTINATION_KINDS.some((known) => known === kind) && IS_ID.test(owner ?? 'nobody');
}

export interface Person {
  readonly id: string;
  readonly name: string;
  readonly email: string;
  /** Member id, like `U012AB3CD`: messages mention it. */
  readonly slackId?: string;
  /** Integration key of a PagerDuty service of their own; secret. */
  readonly pagerDutyKey?: string;
}

export interface PriorityRoute {
  readonly to: readonly DestinationKind[];
  /** P4: not sent, but told in the daily mail. */
  readonly daily: boolean;
  /** Outside business hours it is held, and dropped if it is over before they begin. */
  readonly businessHoursOnly: boolean;
  /** Names the primary, and goes on to the secondary when nobody acknowledges. */
  readonly onCall: boolean;
  readonly answerWithinMs: number;
}

/** Which alerts: every part that is given must match. */
export interface AlertMatch {
  readonly rule?: string;
  readonly group?: string;
  readonly labels?: Where;
  readonly environment?: string;
}

export interface Team {
  readonly id: string;
  readonly name: string;
  /** Destinations of its own; what it does not have goes to the common ones of `notify`. */
  readonly slackWebhookUrl?: string;
  readonly pagerDutyKey?: string;
  readonly emailTo?: readonly string[];
  readonly hours: BusinessHours;
  readonly rota?: Rota;
  /** Who escalates: this program, or PagerDuty, which then gets no second trigger. */
  readonly escalation: { readonly by: 'logpipe' | 'pagerduty'; readonly afterMs: number; readonly repeatMs: number };
  /**
   * Local time of the daily mail, in the zone of its hours, as minutes after midnight. It goes to the team's mail (its own or the common
   * one), and to those who are on call, come or go that day.
   */
  readonly daily: { readonly atMinute: number };
}

/** A recurring silence: alerts that match are muted for `durationMs` from each minute that `cron` names, in its zone. */
export interface MaintenanceWindow {
  readonly id: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly durationMs: number;
  /** Absent: every alert. */
  readonly match?: AlertMatch;
  readonly reason: string;
}

export interface Routing {
  readonly priorities: Readonly<Record<Priority, PriorityRoute>>;
  readonly people: ReadonlyMap<string, Person>;
  readonly teams: readonly Team[];
  /** The first that matches names the team; without one it is the default team. */
  readonly routes: readonly { readonly match: AlertMatch; readonly team: string }[];
  readonly defaultTeam: string;
  readonly maintenance: readonly MaintenanceWindow[];
  /** Resolved by hand while still true: quiet for this long. */
  readonly reopenAfterMs: number;
  /** Other files that it was made from. */
  readonly calendarFiles: readonly string[];
}

// ---- the shape of routing.yml ----

const id = {
  type: 'string',
  pattern: `^${ID}$`,
  permitted: 'small letters, digits and hyphens, a letter first, at most 40',
} as const;
const clockTime = {
  type: 'string',
  pattern: '^([01]\\d|2[0-3]):[0-5]\\d$',
  permitted: 'a time of day in quotes, like "09:00"',
} as const;
const localTime = {
  type: 'string',
  pattern: '^\\d{4}-\\d\\d-\\d\\d(T\\d\\d:\\d\\d)?$',
  permitted: 'a local date or time, like 2026-12-24 or 2026-12-24T09:00',
} as const;
const DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const;
type Day = (typeof DAYS)[number];
const timeZone = {
  type: 'string',
  minLength: 1,
  maxLength: 64,
  description: 'Name of the time zone, like Europe/Berlin.',
} as const;
const mailbox = {
  type: 'string',
  pattern: '^[^\\s@,;<>]+@[^\\s@,;<>]+$',
  permitted: 'a mail address, like me@example.org',
} as const;
const text = (description: string, maxLength = 200) =>
  ({ type: 'string', minLength: 1, maxLength, description }) as const;
const pagerDutyKey = {
  type: 'string',
  minLength: 1,
  secret: true,
  description: 'Integration key of a PagerDuty service of their own. Also `pagerDutyKeyFile`.',
} as const;

const match = {
  type: 'object',
  additionalProperties: false,
  minProperties: 1,
  description: 'Which alerts: every part that is given must match.',
  properties: {
    rule: text('Id of a rule of rules.yml.', 80),
    group: text('Group of rules.', 80),
    labels: {
      type: 'object',
      minProperties: 1,
      maxProperties: 10,
      description: 'Label -> value, list of values, or comparison, as in rules.yml.',
      additionalProperties: conditionSchema(),
    },
    environment: text('`notify.environment` of the instance that decides.'),
  },
} as const;

const hours = {
  type: 'object',
  additionalProperties: false,
  required: ['timeZone'],
  description: 'Business hours, which P3 waits for.',
  properties: {
    timeZone,
    days: {
      type: 'array',
      minItems: 1,
      uniqueItems: true,
      items: { enum: DAYS },
      description: 'Default: Monday to Friday.',
    },
    from: { ...clockTime, description: 'Default: 09:00.' },
    until: { ...clockTime, description: 'Default: 18:00.' },
  },
} as const;

const daily = {
  type: 'object',
  additionalProperties: false,
  description: 'The daily mail.',
  properties: { at: { ...clockTime, description: 'Local time, in the zone of the hours. Default: 09:00.' } },
} as const;

const escalation = {
  type: 'object',
  additionalProperties: false,
  description: 'What happens when nobody acknowledges.',
  properties: {
    by: {
      enum: ['logpipe', 'pagerduty'],
      description: 'Who escalates. `pagerduty`: its own policy does, and nothing comes from here. Default: logpipe.',
    },
    after: { ...durationSchema, description: 'To the secondary after this long. Default: 15m.' },
    repeat: { ...durationSchema, description: 'Then to both again, each time after this long. Default: 30m.' },
  },
} as const;

const rota = {
  type: 'object',
  additionalProperties: false,
  description: 'Who is on call: people by the week, or a calendar.',
  properties: {
    timeZone: { ...timeZone, description: 'Default: that of the hours.' },
    handOff: {
      type: 'object',
      additionalProperties: false,
      description: 'When a week begins. Default: Monday 09:00.',
      properties: { day: { enum: DAYS }, at: clockTime },
    },
    starts: {
      ...localTime,
      description: 'The first of the lists has the week that begins then, or next. Default: 2024-01-01.',
    },
    primary: { type: 'array', minItems: 1, maxItems: 100, items: id, description: 'People, a week each, in turn.' },
    secondary: { type: 'array', minItems: 1, maxItems: 100, items: id, description: 'The same for the secondary.' },
    overrides: {
      type: 'array',
      maxItems: 500,
      description: 'Who is on call instead; the later in the list counts.',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['from', 'until'],
        properties: { from: localTime, until: localTime, primary: id, secondary: id },
      },
    },
    calendarFile: {
      ...text(
        'iCalendar file instead of `primary`: its events’ titles are people, by id, name or mail address.',
        1_000,
      ),
    },
    secondaryCalendarFile: text('The same instead of `secondary`.', 1_000),
  },
} as const;

const priorityRoute = {
  type: 'object',
  additionalProperties: false,
  properties: {
    to: { type: 'array', uniqueItems: true, items: { enum: DESTINATION_KINDS }, description: 'Where it goes.' },
    daily: { type: 'boolean', description: 'Not sent, but told in the daily mail.' },
    businessHoursOnly: {
      type: 'boolean',
      description: 'Outside business hours it is held, and dropped if it is over before they begin.',
    },
    onCall: {
      type: 'boolean',
      description: 'Goes to the primary too, and on to the secondary when nobody acknowledges.',
    },
    answerWithin: { ...durationSchema, description: 'So soon somebody is to acknowledge or resolve it.' },
  },
} as const;

export const ROUTING_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['hours'],
  properties: {
    priorities: {
      type: 'object',
      additionalProperties: false,
      description: 'Where each priority goes, and how soon somebody is to answer.',
      properties: Object.fromEntries(PRIORITIES.map((priority) => [priority, priorityRoute])),
    },
    hours,
    daily,
    escalation,
    reopenAfter: {
      ...durationSchema,
      description: 'What somebody resolves by hand while it is true is quiet for this long. Default: 30m.',
    },
    people: {
      type: 'object',
      description: 'Id -> person. Teams have other ids.',
      propertyNames: id,
      maxProperties: 500,
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        required: ['name', 'email'],
        properties: {
          name: text('What messages call them.', 100),
          email: { ...mailbox, description: 'Their mail address.' },
          slackId: {
            type: 'string',
            pattern: '^[UW][A-Z0-9]{2,20}$',
            permitted: 'a member id of Slack, like U012AB3CD',
            description: 'Their member id: messages mention them.',
          },
          pagerDutyKey,
        },
      },
    },
    teams: {
      type: 'object',
      description: 'Id -> team. Without one, there is a team `everybody` that gets everything.',
      propertyNames: id,
      maxProperties: 200,
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        properties: {
          name: text('What messages call it. Default: its id.', 100),
          slackWebhookUrl: {
            type: 'string',
            pattern: '^https?://[^\\s]+$',
            permitted: 'an address that begins with http:// or https://, without spaces',
            secret: true,
            description:
              'Incoming webhook of its own channel, else that of `notify.slack`. Also `slackWebhookUrlFile`.',
          },
          pagerDutyKey: {
            ...pagerDutyKey,
            description:
              'Integration key of its own service, else that of `notify.pagerduty`. Also `pagerDutyKeyFile`.',
          },
          emailTo: {
            type: 'array',
            minItems: 1,
            maxItems: 50,
            items: mailbox,
            description: 'Mail to the team, else `notify.email.to`.',
          },
          hours,
          daily,
          escalation,
          rota,
        },
      },
    },
    defaultTeam: { ...id, description: 'The team of what no route matches. Default: the only team.' },
    routes: {
      type: 'array',
      maxItems: 500,
      description: 'The first that matches names the team.',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['match', 'team'],
        properties: { match, team: id },
      },
    },
    maintenance: {
      type: 'array',
      maxItems: 100,
      description: 'Silences that recur.',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['id', 'cron', 'duration', 'reason'],
        properties: {
          id,
          cron: text('When it begins: a cron expression of five fields.', 100),
          timeZone: { ...timeZone, description: 'Default: that of the hours.' },
          duration: { ...durationSchema, description: 'How long it lasts, at most 7 days.' },
          match,
          reason: text('Why.', 500),
        },
      },
    },
  },
} as const satisfies Schema;

interface WrittenHours {
  readonly timeZone: string;
  readonly days?: readonly Day[];
  readonly from?: string;
  readonly until?: string;
}

interface WrittenEscalation {
  readonly by?: 'logpipe' | 'pagerduty';
  readonly after?: string;
  readonly repeat?: string;
}

interface WrittenRota {
  readonly timeZone?: string;
  readonly handOff?: { readonly day?: Day; readonly at?: string };
  readonly starts?: string;
  readonly primary?: readonly string[];
  readonly secondary?: readonly string[];
  readonly overrides?: readonly {
    readonly from: string;
    readonly until: string;
    readonly primary?: string;
    readonly secondary?: string;
  }[];
  readonly calendarFile?: string;
  readonly secondaryCalendarFile?: string;
}

interface WrittenTeam extends Pick<Team, 'slackWebhookUrl' | 'pagerDutyKey' | 'emailTo'> {
  readonly name?: string;
  readonly hours?: WrittenHours;
  readonly daily?: { readonly at?: string };
  readonly escalation?: WrittenEscalation;
  readonly rota?: WrittenRota;
}

interface WrittenRouting {
  readonly priorities?: Partial<
    Record<Priority, Partial<Omit<PriorityRoute, 'answerWithinMs'>> & { readonly answerWithin?: string }>
  >;
  readonly hours: WrittenHours;
  readonly daily?: { readonly at?: string };
  readonly escalation?: WrittenEscalation;
  readonly reopenAfter?: string;
  readonly people?: Readonly<Record<string, Omit<Person, 'id'>>>;
  readonly teams?: Readonly<Record<string, WrittenTeam>>;
  readonly defaultTeam?: string;
  readonly routes?: readonly { readonly match: AlertMatch; readonly team: string }[];
  readonly maintenance?: readonly {
    readonly id: string;
    readonly cron: string;
    readonly timeZone?: string;
    readonly duration: string;
    readonly match?: AlertMatch;
    readonly reason: string;
  }[];
}

// ---- a written file -> Routing ----

const EVERY_MESSAGE = ['alertmanager', 'webhook', 'console'] as const;

/** As the operators' guide has them; Alertmanager, a receiver of one's own and the console get every message that is sent. */
export const DEFAULT_PRIORITIES: Routing['priorities'] = {
  P1: route(['pagerduty', 'slack', 'email', ...EVERY_MESSAGE], '15m', { onCall: true }),
  P2: route(['slack', 'email', ...EVERY_MESSAGE], '1h', { onCall: true }),
  P3: route(['slack', ...EVERY_MESSAGE], '4h', { businessHoursOnly: true }),
  P4: route([], '1d', { daily: true }),
};

function route(to: readonly DestinationKind[], answerWithin: string, more: Partial<PriorityRoute>): PriorityRoute {
  const answerWithinMs = durationMs(answerWithin);
  return { to, daily: false, businessHoursOnly: false, onCall: false, answerWithinMs, ...more };
}

const DEFAULT_TEAM = 'everybody';
/** A Monday. */
const STARTS = '2024-01-01';
const MAX_MAINTENANCE_MS = 7 * 86_400_000;

export interface RoutingFile {
  readonly file: string;
  readonly text: string;
}

/** The file that is named, else `config/routing.yml` of the working folder; undefined when there is none. @throws LOGPIPE_CONFIG_UNREADABLE */
export function findRouting(file: string | undefined): RoutingFile | undefined {
  if (file === undefined && !existsSync(join('config', 'routing.yml'))) return undefined;
  return readConfigFile('routing.yml', file);
}

/** @throws as parseRouting, or LOGPIPE_CONFIG_UNREADABLE */
export function loadRouting(options: {
  file?: string | undefined;
  env: Environment;
  nowMs: number;
}): Routing | undefined {
  const found = findRouting(options.file);
  return found === undefined ? undefined : parseRouting(found.text, options.env, found.file, options.nowMs);
}

/**
 * Reads the calendars that it names, too.
 * @param place the file's name, for messages
 * @param nowMs calendars are read from a month before
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID, every problem on a line of its own
 */
export function parseRouting(yaml: string, env: Environment, place: string, nowMs: number): Routing {
  const written = loadYaml<WrittenRouting>(yaml, ROUTING_SCHEMA, env, place);
  const problems: string[] = [];
  const routing = complete(written, nowMs, (path, problem) => problems.push(`${path}: ${problem}`));
  if (problems.length > 0) throw invalidConfig(place, problems, yaml);
  return Object.freeze(routing);
}

type Say = (path: string, problem: string) => void;

function complete(written: WrittenRouting, nowMs: number, say: Say): Routing {
  const people = new Map(Object.entries(written.people ?? {}).map(([id, person]) => [id, { id, ...person }]));
  const common = hoursOf('hours', written.hours, say);
  const teams = Object.entries(written.teams ?? { [DEFAULT_TEAM]: {} as WrittenTeam }).map(([id, team]): Team => {
    const { slackWebhookUrl, pagerDutyKey, emailTo } = team;
    const hours = team.hours === undefined ? common : hoursOf(`teams.${id}.hours`, team.hours, say);
    const { by = 'logpipe', after = '15m', repeat = '30m' } = { ...written.escalation, ...team.escalation };
    if (people.has(id)) say(`teams.${id}`, 'there is a person of the same id; give one of them another');
    const own = team.rota && rotaOf(`teams.${id}.rota`, team.rota, { hours, people, nowMs, say });
    return {
      id,
      name: team.name ?? id,
      ...(slackWebhookUrl === undefined ? {} : { slackWebhookUrl }),
      ...(pagerDutyKey === undefined ? {} : { pagerDutyKey }),
      ...(emailTo === undefined ? {} : { emailTo }),
      hours,
      ...(own === undefined ? {} : { rota: own }),
      escalation: { by, afterMs: durationMs(after), repeatMs: durationMs(repeat) },
      daily: { atMinute: minuteOf({ at: '09:00', ...written.daily, ...team.daily }.at) },
    };
  });
  const ids = teams.map(({ id }) => id);
  const isTeam = (path: string, id: string) => {
    if (!ids.includes(id)) say(path, `there is no team ${id}; there is: ${ids.join(', ')}`);
  };
  const { defaultTeam = ids[0]!, routes = [] } = written;
  if (written.defaultTeam === undefined && ids.length > 1) say('defaultTeam', `missing; one of: ${ids.join(', ')}`);
  isTeam('defaultTeam', defaultTeam);
  for (const [i, { team }] of routes.entries()) isTeam(`routes.${i}.team`, team);
  return {
    priorities: prioritiesOf(written),
    people,
    teams,
    routes,
    defaultTeam,
    maintenance: maintenanceOf(written, say),
    reopenAfterMs: durationMs(written.reopenAfter ?? '30m'),
    calendarFiles: Object.values(written.teams ?? {}).flatMap(({ rota }) =>
      [rota?.calendarFile, rota?.secondaryCalendarFile].filter((file) => file !== undefined),
    ),
  };
}

function prioritiesOf({ priorities = {} }: WrittenRouting): Routing['priorities'] {
  const all = PRIORITIES.map((priority) => {
    const { answerWithin, ...given } = priorities[priority] ?? {};
    const withinMs = answerWithin === undefined ? {} : { answerWithinMs: durationMs(answerWithin) };
    return [priority, { ...DEFAULT_PRIORITIES[priority], ...given, ...withinMs }] as const;
  });
  return Object.fromEntries(all) as Record<Priority, PriorityRoute>;
}

function hoursOf(path: string, written: WrittenHours, say: Say): BusinessHours {
  const { days = DAYS.slice(0, 5), from = '09:00', until = '18:00' } = written;
  const [fromMinute, untilMinute] = [minuteOf(from), minuteOf(until)];
  if (untilMinute <= fromMinute) say(`${path}.until`, `found ${until}; it is to be later than ${from}`);
  checkZone(`${path}.timeZone`, written.timeZone, say);
  return { timeZone: written.timeZone, days: days.map((day) => DAYS.indexOf(day) + 1), fromMinute, untilMinute };
}

function checkZone(path: string, zone: string, say: Say): boolean {
  if (isTimeZone(zone)) return true;
  say(path, `found "${zone}"; permitted: the name of a time zone, like Europe/Berlin or Etc/UTC`);
  return false;
}

function minuteOf(time: string): number {
  const [hour, minute] = time.split(':').map(Number) as [number, number];
  return hour * 60 + minute;
}

interface RotaDeps {
  readonly hours: BusinessHours;
  readonly people: Routing['people'];
  readonly nowMs: number;
  readonly say: Say;
}

/** Calendars are read from so long ago on. */
const PAST_MS = 31 * 86_400_000;

function rotaOf(path: string, written: WrittenRota, deps: RotaDeps): Rota | undefined {
  const { hours, people, say } = deps;
  const { timeZone = hours.timeZone, primary = [], secondary = [], calendarFile, secondaryCalendarFile } = written;
  if (!(written.timeZone === undefined ? isTimeZone(timeZone) : checkZone(`${path}.timeZone`, timeZone, say)))
    return undefined;
  const known = (key: string, ids: readonly (string | undefined)[]) => {
    for (const id of ids) {
      if (id !== undefined && !people.has(id)) say(`${path}.${key}`, `there is nobody ${id} in people`);
    }
  };
  known('primary', primary);
  known('secondary', secondary);
  if ((primary.length === 0) === (calendarFile === undefined)) {
    say(path, 'exactly one of primary and calendarFile is needed');
  }
  if (secondary.length > 0 && secondaryCalendarFile !== undefined) {
    say(path, 'at most one of secondary and secondaryCalendarFile is permitted');
  }
  if (
    (calendarFile === undefined && secondaryCalendarFile !== undefined) ||
    (calendarFile !== undefined && secondary.length > 0)
  ) {
    say(path, 'primary and secondary are both lists, or both calendars');
  }
  const time = (key: string, value: string): number => {
    const ms = localTimeMs(value, timeZone);
    if (ms === undefined) say(`${path}.${key}`, `found ${value}; there is no such date`);
    return ms ?? 0;
  };
  const overrides = (written.overrides ?? []).map(({ from, until, ...who }, i): Shift => {
    const at = `overrides.${i}`;
    known(at, [who.primary, who.secondary]);
    const shift = { fromMs: time(`${at}.from`, from), untilMs: time(`${at}.until`, until), ...who };
    if (shift.untilMs <= shift.fromMs) say(`${path}.${at}.until`, `found ${until}; it is to be later than ${from}`);
    if (who.primary === undefined && who.secondary === undefined) {
      say(`${path}.${at}`, 'names nobody; give primary, secondary or both');
    }
    return shift;
  });
  const calendar = [
    ...calendarOf(`${path}.calendarFile`, calendarFile, 'primary', timeZone, deps),
    ...calendarOf(`${path}.secondaryCalendarFile`, secondaryCalendarFile, 'secondary', timeZone, deps),
  ];
  const { day = 'monday', at = '09:00' } = written.handOff ?? {};
  return {
    timeZone,
    handOff: { day: DAYS.indexOf(day) + 1, minute: minuteOf(at) },
    primary,
    secondary,
    startsMs: time('starts', written.starts ?? STARTS),
    overrides,
    ...(calendarFile === undefined ? {} : { calendar }),
  };
}

function calendarOf(
  path: string,
  file: string | undefined,
  role: 'primary' | 'secondary',
  timeZone: string,
  { people, nowMs, say }: RotaDeps,
): readonly Shift[] {
  if (file === undefined) return [];
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    say(path, `the file cannot be read (${reasonInWords(error)})`);
    return [];
  }
  const same = (one: string, other: string) => one.toLowerCase() === other.toLowerCase();
  const personOf = (summary: string) =>
    [...people.values()].find(({ id, name, email }) => [id, name, email].some((one) => same(one, summary)))?.id;
  const { shifts, problems } = readCalendar(text, { role, timeZone, personOf, fromMs: nowMs - PAST_MS });
  for (const problem of problems) say(path, problem);
  return shifts;
}

function maintenanceOf({ maintenance = [], hours }: WrittenRouting, say: Say): readonly MaintenanceWindow[] {
  const seen = new Set<string>();
  return maintenance.map(({ duration, timeZone = hours.timeZone, ...window }, i) => {
    const path = `maintenance.${i}`;
    if (seen.has(window.id)) say(`${path}.id`, `found ${window.id} twice; ids are told apart`);
    seen.add(window.id);
    const times = cronTimes(window.cron);
    if (typeof times === 'string') say(`${path}.cron`, `found "${window.cron}"; permitted: ${times}`);
    if (timeZone !== hours.timeZone) checkZone(`${path}.timeZone`, timeZone, say);
    const durationOf = durationMs(duration);
    if (durationOf > MAX_MAINTENANCE_MS) say(`${path}.duration`, `found ${duration}; at most 7d`);
    return { ...window, timeZone, durationMs: durationOf };
  });
}

// ---- the file while logpipe runs ----
// It is checked every second, and on demand, together with the calendars that it names.

export interface RoutingWatch {
  /** Checks the files at once and logs the result, even when nothing has changed. */
  look(): void;
  /** Why the file as it is now is not in force; undefined when it is. */
  refused(): string | undefined;
  close(): void;
}

interface RoutingWatchDeps {
  readonly env: Environment;
  readonly clock: Clock;
  readonly log: Log;
  /** Takes a valid routing. */
  readonly onRouting: (routing: Routing) => void;
}

/** @param present the file, its text that is in force, and what was made of it */
export function watchRoutingFile(
  present: RoutingFile & { readonly routing: Routing },
  deps: RoutingWatchDeps,
): RoutingWatch {
  const { clock, log, env } = deps;
  const { file } = present;
  const changed = createChangedText();
  /** The last texts that were read, valid or not. */
  const texts = new Map<string, string>([[file, present.text]]);
  let calendars = present.routing.calendarFiles;
  let refused: string | undefined;
  let away = false;
  let cancel = () => {};

  function take(text: string): void {
    try {
      const routing = parseRouting(text, env, file, clock.now());
      calendars = routing.calendarFiles;
      deps.onRouting(routing);
      refused = undefined;
      log.info('The routing was read again', { file, teams: routing.teams.length });
    } catch (error) {
      refused = errorText(error);
      log.error('The changed routing file is refused as a whole; the previous routing stays in force', {
        error: refused,
      });
    }
  }

  function lookAt(now: boolean): void {
    let isNew = false;
    let failed: { readonly path: string; readonly error: unknown } | undefined;
    for (const path of [file, ...calendars]) {
      try {
        const text = changed(path, texts.get(path) ?? '', now);
        // Of a calendar, the first look is not a change: it was read with the routing.
        if (text !== undefined && (path === file || texts.has(path))) isNew = true;
        if (text !== undefined) texts.set(path, text);
      } catch (error) {
        failed ??= { path, error };
      }
    }
    // What was refused for want of a calendar is right when that is back.
    const isBack = away && failed === undefined && refused !== undefined;
    if (isNew || isBack || (now && refused !== undefined)) take(texts.get(file)!);
    else if (now && failed === undefined) log.info('The routing has not changed', { file });
    // A calendar that is gone may be one that the changed file names no longer.
    if (failed !== undefined && ![file, ...calendars].includes(failed.path)) failed = undefined;
    if (failed !== undefined && (!away || now)) {
      log.warn('The routing file cannot be read; the present routing stays in force', {
        file: failed.path,
        error: errorText(failed.error),
      });
    }
    away = failed !== undefined;
  }

  function schedule(): void {
    cancel = clock.after(LOOK_MS, () => {
      lookAt(false);
      schedule();
    });
  }
  schedule();

  return {
    look: () => lookAt(true),
    refused: () => refused,
    close: () => cancel(),
  };
}
