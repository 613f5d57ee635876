// The daily mail to each team. In: the schedules of the routing, the incidents, the clock. Out: at most one mail per team and due time, in the
// outbox, and the note that it was due. Guarantee: what was missed is made up for once, however many days it was; a clock that is set
// neither doubles nor loses one; a team for which nobody is on call, and about which there is nothing to say, gets none.
import { isOver } from '../core/clock.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { localText } from '../oncall/rota.ts';
import type { PeopleOnCall } from '../oncall/routes.ts';
import type { Person, Team } from '../oncall/routing.ts';
import type { Priority } from '../rules/rule-types.ts';
import { type AlertRecord, byUrgency, type IncidentRecord } from './incident.ts';
import type { Decision } from './notices.ts';
import { cut, durationText, maskNotification, type Notification, oneLine, type ReportPart } from './notification.ts';
import { type Step, severityOf } from './records.ts';

const DAY_MS = 86_400_000;
/** No report reaches further back. */
const MAX_BACK_MS = 7 * DAY_MS;
const MAX_LINES = 40;
const MAX_LINE = 300;

interface DailyDeps {
  readonly environment: string;
  readonly masker: Masker;
}

export function sendDailyMails(step: Step, deps: DailyDeps): Decision[] {
  const { draft, wallMs, routes } = step;
  return routes.teams().flatMap((team) => {
    const id = `daily-${team.id}`;
    const dueMs = routes.dailyDueMs(team, wallMs);
    const before = draft.get('schedule', id)?.atMs;
    // Never before, so there is nothing to make up for; or the clock was days ahead, and what was due then is to be due again.
    if (before === undefined || isOver(before - 2 * DAY_MS, wallMs)) draft.put('schedule', id, { atMs: dueMs });
    if (before === undefined || dueMs <= before) return [];
    draft.put('schedule', id, { atMs: dueMs });
    const decision = mailTo(step, team, { dueMs, sinceMs: Math.max(before, wallMs - MAX_BACK_MS) }, deps);
    if (decision === undefined) return [];
    step.outbox.send(decision.channels, decision.notification);
    return [decision];
  });
}

interface Span {
  readonly dueMs: number;
  /** What was before is in an earlier mail. */
  readonly sinceMs: number;
}

function mailTo(step: Step, team: Team, span: Span, deps: DailyDeps): Decision | undefined {
  const { routes, wallMs } = step;
  const now = routes.onCall(team, wallMs);
  const before = routes.onCall(team, span.sinceMs);
  const people = [now.primary, now.secondary, before.primary, before.secondary];
  const mail = people.flatMap((person) =>
    person === undefined ? [] : routes.personChannels(person).filter((name) => name.startsWith('email:')),
  );
  const channels = [...new Set([...routes.mailOf(team), ...mail])];
  if (channels.length === 0) return undefined;
  const { incidents, counts, parts } = reportOf(step, team, span);
  if (team.rota === undefined && parts.length === 0) return undefined;
  const onCall = team.rota === undefined ? [] : [handOff(step, team, now, before)];
  const { timeZone } = team.hours;
  const notification: Notification = {
    incidentId: `daily-${team.id}-${localText(span.dueMs, timeZone).split(' ')[1]}`,
    dedupKey: `logpipe/daily-${team.id}-${span.dueMs}`,
    action: 'inform',
    reason: 'daily',
    severity: severityOf('P4'),
    priority: 'P4',
    title: `Daily: ${[team.name, incidents, ...whoIsNext(step, team, now, before)].join(', ')}`,
    message: counts,
    atMs: wallMs,
    environment: deps.environment,
    alerts: [],
    joined: [],
    team: team.id,
    report: [...onCall, ...parts],
  };
  return { notification: maskNotification(notification, deps.masker), channels };
}

// ---- hand-off ----

function handOff({ routes, wallMs }: Step, team: Team, now: PeopleOnCall, before: PeopleOnCall): ReportPart {
  const lines = [`now: ${namesOf(now)}`];
  if (!same(now, before)) lines.push(`since the last mail: ${namesOf(now)} came, ${namesOf(before)} went`);
  for (const { atMs, who } of routes.changes(team, wallMs, wallMs + DAY_MS)) {
    lines.push(`from ${localText(atMs, team.hours.timeZone)}: ${namesOf(who)}`);
  }
  return { heading: 'On call', lines };
}

/** For the title: who has taken over since the last mail, or will within a day; else who is on call. */
function whoIsNext({ routes, wallMs }: Step, team: Team, now: PeopleOnCall, before: PeopleOnCall): string[] {
  if (team.rota === undefined) return [];
  const name = ({ primary }: PeopleOnCall) => primary?.name ?? 'nobody';
  if (now.primary?.id !== before.primary?.id) return [`hand-off to ${name(now)}`];
  const [next] = routes.changes(team, wallMs, wallMs + DAY_MS);
  const comes = next !== undefined && next.who.primary?.id !== now.primary?.id;
  return [comes ? `hand-off to ${name(next.who)}` : `on call: ${name(now)}`];
}

function namesOf({ primary, secondary }: PeopleOnCall): string {
  const name = (person: Person | undefined) => person?.name ?? 'nobody';
  return secondary === undefined ? name(primary) : `${name(primary)}, then ${name(secondary)}`;
}

function same(one: PeopleOnCall, other: PeopleOnCall): boolean {
  return one.primary?.id === other.primary?.id && one.secondary?.id === other.secondary?.id;
}

// ---- what happened ----

interface Seen {
  readonly incident: IncidentRecord;
  readonly priority: Priority;
  readonly title: string;
}

function reportOf({ draft, routes, wallMs }: Step, team: Team, { sinceMs }: Span) {
  const firing = new Map<string, AlertRecord[]>();
  for (const alert of draft.values('alert')) {
    if (alert.incidentId === undefined) continue;
    firing.set(alert.incidentId, [...(firing.get(alert.incidentId) ?? []), alert]);
  }
  const seen = draft.values('incident').flatMap((incident): Seen[] => {
    const { id, state, resolvedMs = 0, told, ended } = incident;
    if (routes.team(incident.team)?.id !== team.id || (state === 'resolved' && resolvedMs < sinceMs)) return [];
    const [worst] = [...(firing.get(id) ?? []), ...ended].sort(byUrgency);
    const lead = told ?? worst;
    return lead === undefined ? [] : [{ incident, priority: lead.priority, title: lead.title }];
  });
  seen.sort((one, other) => {
    if (one.priority !== other.priority) return one.priority < other.priority ? -1 : 1;
    return one.incident.openedMs - other.incident.openedMs;
  });
  const isDigest = ({ priority }: Seen) => routes.of(priority).daily;
  const told = seen.filter((one) => !isDigest(one) && one.incident.told !== undefined);
  const held = seen.filter((one) => !isDigest(one) && (one.incident.heldFromMs ?? 0) >= sinceMs);
  const digest = seen.filter(isDigest);
  const missed = seen.filter(({ incident }) => (incident.missed?.atMs ?? 0) >= sinceMs);
  const parts = [
    part(
      'Not answered in time',
      missed.map((one) => missedLine(one, team)),
    ),
    part(
      'Incidents',
      told.map((one) => incidentLine(one, wallMs, team)),
    ),
    part(
      'Held outside business hours',
      held.map((one) => heldLine(one, team)),
    ),
    part(
      'Daily digest',
      digest.map((one) => incidentLine(one, wallMs, team)),
    ),
  ].flatMap((one) => one ?? []);
  const incidents = `${told.length === 0 ? 'no' : told.length} ${told.length === 1 ? 'incident' : 'incidents'}`;
  const counts = [
    incidents,
    ...(missed.length === 0 ? [] : [`${missed.length} not answered in time`]),
    ...(held.length === 0 ? [] : [`${held.length} held outside business hours`]),
    ...(digest.length === 0 ? [] : [`${digest.length} in the digest`]),
  ];
  return { incidents, counts: `Since ${localText(sinceMs, team.hours.timeZone)}: ${counts.join(', ')}.`, parts };
}

function part(heading: string, lines: readonly string[]): ReportPart | undefined {
  if (lines.length === 0) return undefined;
  const shown = lines.slice(0, MAX_LINES).map((line) => cut(oneLine(line), MAX_LINE));
  if (lines.length > MAX_LINES) shown.push(`and ${lines.length - MAX_LINES} more`);
  return { heading, lines: shown };
}

function incidentLine({ incident, priority, title }: Seen, wallMs: number, team: Team): string {
  const { state, openedMs, resolvedMs, acknowledged, quiet } = incident;
  const taken = acknowledged === undefined ? '' : `, acknowledged by ${acknowledged.by}`;
  const lasted = durationText((resolvedMs ?? wallMs) - openedMs);
  const course =
    quiet !== undefined
      ? `resolved by hand by ${quiet.by}, still true`
      : state === 'resolved'
        ? `over after ${lasted}`
        : `goes on for ${lasted}`;
  return `${priority} ${title}: from ${localText(openedMs, team.hours.timeZone)}, ${course}${taken}`;
}

function heldLine({ incident, priority, title }: Seen, team: Team): string {
  const { heldFromMs = 0, told, state } = incident;
  const from = localText(heldFromMs, team.hours.timeZone);
  const what =
    told !== undefined && told.atMs >= heldFromMs
      ? `told ${localText(told.atMs, team.hours.timeZone)}`
      : state === 'resolved'
        ? 'over before business hours, so nobody was told'
        : 'still held';
  return `${priority} ${title}: from ${from}, ${what}`;
}

function missedLine({ incident, title }: Seen, team: Team): string {
  const { missed, acknowledged, state } = incident;
  const since = acknowledged === undefined ? state : `acknowledged since, by ${acknowledged.by}`;
  return `${missed!.priority} ${title}: due ${localText(missed!.atMs, team.hours.timeZone)}, ${since}`;
}
