// What somebody on call does and asks: `logpipe alerts ack | resolve | silence | silences | unsilence`, and `logpipe oncall`. In: ids and
// matchers; routing.yml. Out: commands by the commands topic, or the folder beside the journal, and their answers; who is on call and comes
// next. Moves nobody's offsets and decides nothing: a command is obeyed, and answered, by the leader. Guarantee: "done" is said only of what
// is durable; a command without an answer is carried out later, once; a gap in a rota is shown as one.
import { randomUUID } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import { type AlertState, objectOf, readAlertState } from '../alerter/alert-desk.ts';
import {
  type Command,
  decodeCommand,
  encodeCommand,
  giveToFolder,
  giveToTopic,
  MAX_SILENCE_MS,
} from '../alerter/commands-given.ts';
import { readJournal } from '../alerter/store.ts';
import type { Config } from '../config.ts';
import { sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createEventIds } from '../core/record.ts';
import { createMasker } from '../core/secrets/mask.ts';
import {
  type AlertRecord,
  alertKey,
  type IncidentRecord,
  isSpecific,
  previewSilence,
  type SilenceMatch,
  type SilenceRecord,
  silenceText,
} from '../incidents/incident.ts';
import type { NotifiedAlert } from '../incidents/notification.ts';
import type { CommandAnswer } from '../incidents/records.ts';
import { isTimeZone, localText } from '../oncall/rota.ts';
import { type ScheduledPerson, type ScheduledShift, scheduleOf, type TeamSchedule } from '../oncall/routes.ts';
import { loadRouting } from '../oncall/routing.ts';
import { parseTime } from '../replay/sources.ts';
import { PRIORITIES, type Priority } from '../rules/rule-types.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type AlertsView, alertsOf, sayUnreadable, text } from './alerts.ts';
import { column, createTimeText, type Io, jsonLine, say, toDuration } from './io.ts';

const LOOK_MS = 200;
/** As far as a decoder of commands accepts it. */
const MAX_BY = 200;

/** Of every command that is given. */
interface GivingOptions {
  /** Who commands it; default user and host. */
  readonly by?: string | undefined;
  /** Longest wait for the answer. */
  readonly waitSeconds: number;
  readonly json: boolean;
}

// ---- `logpipe alerts ack` ----

/**
 * Says that somebody is at it: reminders and escalation end. Exit status 1 when that was refused, or nobody has answered.
 * @throws LogpipeError LOGPIPE_USAGE when nothing of that name is open, LOGPIPE_KAFKA_FAILED
 */
export async function alertsAck(
  id: string,
  config: Config,
  options: GivingOptions & { readonly timeZone?: string | undefined },
  io: Io,
  log: Log,
): Promise<number> {
  const timeText = createTimeText(options.timeZone);
  const incident = incidentOf('ack', id, await readAlertState(config, log));
  const command = { kind: 'acknowledge', incidentId: incident.id, by: nameOf(options), via: 'cli' } as const;
  const answer = await give('ack', command, config, options, log);
  const done =
    answer?.noChange === true
      ? `${soAlready(incident, timeText)}: nothing changes`
      : `acknowledged: ${incident.told?.title ?? incident.group}, incident ${incident.id}`;
  return tell('acknowledged', answer, { incidentId: incident.id }, done, { config, options, io });
}

function soAlready({ acknowledged, quiet }: IncidentRecord, timeText: (ms: number) => string): string {
  if (acknowledged !== undefined) return `acknowledged already, by ${acknowledged.by}, ${timeText(acknowledged.atMs)}`;
  if (quiet !== undefined) return `resolved by hand by ${quiet.by}, quiet until ${timeText(quiet.untilMs)}`;
  return 'somebody was quicker';
}

/** Named by its id, or by a rule or an alert of it that fires. */
function incidentOf(command: string, id: string, { alerts, incidents }: AlertState): IncidentRecord {
  const named = incidents.find((known) => known.id === id);
  if (named !== undefined) return named;
  const alert = firingOf(id, alerts).find(({ incidentId }) => incidentId !== undefined);
  const found = incidents.find((known) => known.id === alert?.incidentId);
  if (found === undefined) throw nothingFires(command, id);
  return found;
}

function firingOf(id: string, alerts: readonly AlertRecord[]): AlertRecord[] {
  return alerts.filter(({ phase, key, ruleId }) => phase === 'firing' && (key === id || ruleId === id));
}

function nothingFires(command: string, id: string): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_USAGE',
    `alerts ${command}: no alert of "${id}" is firing; see logpipe alerts list for incidents, rules and alerts`,
  );
}

// ---- `logpipe alerts resolve` ----

/**
 * Ends the firing alerts of an incident, a rule or one label set. What is still true does not end: it is quiet for a while. Exit status 1
 * when that was refused, or nobody has answered.
 * @throws LogpipeError LOGPIPE_USAGE when nothing of that name fires, LOGPIPE_KAFKA_FAILED
 */
export async function alertsResolve(
  id: string,
  config: Config,
  options: GivingOptions & { readonly timeZone?: string | undefined },
  io: Io,
  log: Log,
): Promise<number> {
  const timeText = createTimeText(options.timeZone);
  const { alerts, incidents } = await readAlertState(config, log);
  const incident = incidents.find((known) => known.id === id);
  const meant = incident === undefined ? firingOf(id, alerts) : alertsOf(incident, alerts);
  if (meant.length === 0) throw nothingFires('resolve', id);
  const named = meant.map(({ key, startedMs }) => ({ key, startedMs }));
  const who = { by: nameOf(options), via: 'cli' } as const;
  const what = incident === undefined ? { alerts: named } : { incidentId: incident.id };
  const command = { kind: 'resolve', ...what, evenIfTrue: true, ...who } as const;
  const answer = await give('resolve', command, config, options, log);
  // What is durable together with the answer says which of them were still true.
  const left = answer === undefined || answer.refused !== undefined ? undefined : await leftOf(named, config, log);
  const ended = meant.length - (left?.still.length ?? 0);
  const quietMs = left?.quietUntilMs;
  const done = [
    ...(ended === 0 ? [] : [`${counted(ended, 'alert')} resolved`]),
    ...(left === undefined || left.still.length === 0
      ? []
      : [
          `${left.still.join(', ')} ${left.still.length === 1 ? 'is' : 'are'} still true: ${
            quietMs === undefined ? 'quiet for now' : `quiet until ${timeText(quietMs)}`
          }, then told again if that has not changed; at once if it becomes worse`,
        ]),
  ].join('; ');
  const more = { alerts: named, ...(quietMs === undefined ? {} : { quietUntilMs: quietMs, stillTrue: left?.still }) };
  return tell('resolved', answer, more, done, { config, options, io });
}

/** Which of the alerts still fire, and until when their incident is quiet. */
async function leftOf(
  meant: readonly { readonly key: string; readonly startedMs: number }[],
  config: Config,
  log: Log,
): Promise<{ readonly still: readonly string[]; readonly quietUntilMs: number | undefined }> {
  const { alerts, incidents } = await readAlertState(config, log);
  const still = alerts.filter(
    (alert) =>
      alert.phase === 'firing' &&
      meant.some(({ key, startedMs }) => key === alert.key && startedMs === alert.startedMs),
  );
  const ids = new Set(still.map(({ incidentId }) => incidentId));
  const until = incidents.flatMap(({ id, quiet }) => (ids.has(id) && quiet !== undefined ? [quiet.untilMs] : []));
  return { still: still.map(({ key }) => key), quietUntilMs: until.length === 0 ? undefined : Math.max(...until) };
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

// ---- `logpipe alerts silence | silences | unsilence` ----

export interface SilenceOptions extends GivingOptions {
  readonly rule?: string | undefined;
  readonly group?: string | undefined;
  /** `name=value`. */
  readonly label: readonly string[];
  readonly priority?: string | undefined;
  readonly environment?: string | undefined;
  readonly from?: string | undefined;
  readonly for?: string | undefined;
  readonly until?: string | undefined;
  readonly reason?: string | undefined;
  readonly preview: boolean;
  readonly timeZone?: string | undefined;
}

const MAX_REASON = 500;
const MAX_SHOWN = 20;

/**
 * Mutes what matches until a time; with `preview` it only says what that would be. Exit status 1 when it was refused, or nobody has
 * answered.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_KAFKA_FAILED
 */
export async function alertsSilence(
  config: Config,
  options: SilenceOptions,
  io: Io,
  log: Log,
  now: () => number = Date.now,
): Promise<number> {
  const timeText = createTimeText(options.timeZone);
  const match = matchOf(options);
  const nowMs = now();
  if (options.preview) return showPreview(match, config, options, { io, log, nowMs, timeText });
  const silence: SilenceRecord = {
    ...{ id: createEventIds(now)(), ...match, createdMs: nowMs },
    ...spanOf(options, nowMs),
    ...{ by: nameOf(options), reason: reasonOf(options.reason) },
  };
  const answer = await give('silence', { kind: 'silence', silence, via: 'cli' }, config, options, log);
  const from = silence.fromMs === undefined ? '' : ` from ${timeText(silence.fromMs)}`;
  const done = `silence ${silence.id}: ${silenceText(silence)}${from} until ${timeText(silence.untilMs)}; end it earlier: logpipe alerts unsilence ${silence.id}`;
  return tell('silenced', answer, { silence }, done, { config, options, io });
}

function matchOf({ rule, group, label, priority, environment }: SilenceOptions): SilenceMatch {
  const labels: Record<string, string> = {};
  for (const written of label) {
    const at = written.indexOf('=');
    const [name, value] = [written.slice(0, at).trim(), written.slice(at + 1).trim()];
    if (at < 1 || name === '' || value === '') {
      throw usage(
        'alerts silence',
        `--label: found ${JSON.stringify(written)}; write name=value, for example tenantId=acme`,
      );
    }
    if (Object.hasOwn(labels, name))
      throw usage('alerts silence', `--label: ${name} is given twice; an alert has one value of each label`);
    labels[name] = value;
  }
  if (priority !== undefined && !(PRIORITIES as readonly string[]).includes(priority)) {
    throw usage('alerts silence', `--priority: found ${JSON.stringify(priority)}; permitted: ${PRIORITIES.join(', ')}`);
  }
  const match: SilenceMatch = {
    ...(rule === undefined ? {} : { ruleId: rule }),
    ...(group === undefined ? {} : { group }),
    ...(label.length === 0 ? {} : { labels }),
    ...(priority === undefined ? {} : { priority: priority as Priority }),
    ...(environment === undefined ? {} : { environment }),
  };
  if (!isSpecific(match)) {
    throw usage(
      'alerts silence',
      'say what to silence: --rule, --group, --label name=value, --priority or --environment; all given must match',
    );
  }
  return match;
}

function spanOf(options: SilenceOptions, nowMs: number): { readonly fromMs?: number; readonly untilMs: number } {
  const { timeZone } = options;
  const fromMs =
    options.from === undefined ? undefined : parseTime(options.from, { place: '--from', now: nowMs, timeZone });
  if ((options.for === undefined) === (options.until === undefined)) {
    throw usage('alerts silence', 'say how long: either --for, such as --for 2h, or --until with a time');
  }
  const beginsMs = fromMs ?? nowMs;
  const untilMs =
    options.for === undefined
      ? parseTime(options.until ?? '', { place: '--until', now: nowMs, timeZone, edge: 'end' })
      : beginsMs + toDuration('alerts silence: --for', options.for);
  if (untilMs <= Math.max(beginsMs, nowMs))
    throw usage('alerts silence', `--until: found ${new Date(untilMs).toISOString()}, which is over`);
  if (untilMs - nowMs > MAX_SILENCE_MS)
    throw usage('alerts silence', 'a silence lasts a year at most; change the rule instead');
  return { ...(fromMs === undefined ? {} : { fromMs }), untilMs };
}

function reasonOf(reason: string | undefined): string {
  const written = reason?.trim() ?? '';
  if (written === '')
    throw usage('alerts silence', '--reason: missing; whoever is on call reads it at night, so say why');
  if (written.length > MAX_REASON)
    throw usage('alerts silence', `--reason: ${written.length} characters; permitted: ${MAX_REASON} at most`);
  return written;
}

type ShownAlert = Pick<NotifiedAlert, 'ruleId' | 'labels' | 'priority' | 'title' | 'startedMs' | 'resolvedMs'>;

interface PreviewDeps {
  readonly io: Io;
  readonly log: Log;
  readonly nowMs: number;
  readonly timeText: (ms: number) => string;
}

async function showPreview(
  match: SilenceMatch,
  config: Config,
  options: SilenceOptions,
  { io, log, nowMs, timeText }: PreviewDeps,
): Promise<number> {
  const state = await readAlertState(config, log);
  sayUnreadable(state.unreadable, io);
  const masker = createMasker(config.mask);
  const { environment } = config.notify;
  const found = previewSilence(match, state.alerts, state.incidents, { nowMs, environment });
  const preview = masker.value(found) as typeof found;
  if (options.json) {
    io.out(jsonLine({ match, ...preview }, masker));
    return 0;
  }
  const list = (alerts: readonly ShownAlert[], heading: string) => {
    say(io, `${heading}: ${alerts.length === 0 ? 'nothing' : counted(alerts.length, 'alert')}`);
    for (const { ruleId, labels, priority, title, startedMs, resolvedMs } of alerts.slice(0, MAX_SHOWN)) {
      const when = `${timeText(startedMs)}${resolvedMs === undefined ? '' : ` to ${timeText(resolvedMs)}`}`;
      say(io, `  ${text(priority)} ${text(title)}, ${when}: ${text(alertKey(ruleId, labels))}`, 4);
    }
    if (alerts.length > MAX_SHOWN) say(io, `  and ${alerts.length - MAX_SHOWN} more`);
  };
  say(io, `a silence of ${text(silenceText(match))}`, 2);
  list(preview.now, 'would mute now');
  list(
    preview.lastDay.map(({ alert }) => alert),
    'would have muted, of what ended in the last 24 hours',
  );
  io.err('nothing was changed; without --preview the silence is set');
  return 0;
}

const ID_WIDTH = 26;

/** Silences in force and to come, by their end. */
export async function alertsSilences(
  config: Config,
  options: AlertsView,
  io: Io,
  log: Log,
  now: () => number = Date.now,
): Promise<number> {
  const timeText = createTimeText(options.timeZone);
  const masker = createMasker(config.mask);
  const state = await readAlertState(config, log, (record) => masker.value(record));
  sayUnreadable(state.unreadable, io);
  const nowMs = now();
  const silences = state.silences
    .filter(({ untilMs }) => untilMs > nowMs)
    .toSorted((one, other) => one.untilMs - other.untilMs);
  if (options.json) {
    for (const silence of silences) io.out(jsonLine(silence, masker));
    return 0;
  }
  const width = timeText(0).length;
  const row = (cells: readonly [string, string, string]) =>
    say(io, `${column(cells[0], ID_WIDTH)}  ${column(cells[1], width)}  ${cells[2]}`, ID_WIDTH + width + 4);
  if (silences.length > 0) row(['ID', 'UNTIL', 'WHAT']);
  for (const silence of silences) {
    const { id, fromMs = 0, untilMs, by, reason } = silence;
    row([text(id), timeText(untilMs), text(silenceText(silence))]);
    const begins = fromMs > nowMs ? `begins ${timeText(fromMs)}, ` : '';
    say(io, `     ${begins}by ${text(by)}: ${text(reason)}`, 7);
  }
  io.err(silences.length === 0 ? 'nothing is silenced' : counted(silences.length, 'silence'));
  return 0;
}

/**
 * Ends a silence: what still fires and matches is told again, as it is by then.
 * @throws LogpipeError LOGPIPE_USAGE when there is no silence of that id, LOGPIPE_KAFKA_FAILED
 */
export async function alertsUnsilence(
  id: string,
  config: Config,
  options: GivingOptions,
  io: Io,
  log: Log,
): Promise<number> {
  const { silences } = await readAlertState(config, log);
  const silence = silences.find((known) => known.id === id);
  if (silence === undefined) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `alerts unsilence: there is no silence "${id}"; see logpipe alerts silences`,
    );
  }
  const command = { kind: 'unsilence', id, by: nameOf(options), via: 'cli' } as const;
  const answer = await give('unsilence', command, config, options, log);
  const done = `silence ${id} has ended: ${silenceText(silence)}`;
  return tell('unsilenced', answer, { id }, done, { config, options, io });
}

// ---- a command and its answer ----

function nameOf({ by }: GivingOptions): string {
  const name = by?.trim() ?? `${userName()}@${hostname()}`;
  if (name === '') throw new LogpipeError('LOGPIPE_USAGE', '--by: is empty; name a person');
  return name.slice(0, MAX_BY);
}

/** In a container the user often has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}

/** Says what became of a command. @returns exit status */
function tell(
  done: string,
  answer: CommandAnswer | undefined,
  more: object,
  words: string,
  { config, options, io }: { readonly config: Config; readonly options: GivingOptions; readonly io: Io },
): number {
  const masker = createMasker(config.mask);
  const obeyed = answer !== undefined && answer.refused === undefined;
  const said = obeyed
    ? words
    : answer === undefined
      ? `no answer within ${options.waitSeconds} s; it is carried out as soon as an alerter runs (within a day)`
      : `refused: ${answer.refused}`;
  if (options.json) io.out(jsonLine({ [done]: obeyed, answered: answer !== undefined, ...more, detail: said }, masker));
  else if (obeyed) say(io, masker.text(said));
  else io.err(masker.text(said));
  return obeyed ? 0 : 1;
}

type WithoutId<T> = T extends unknown ? Omit<T, 'commandId'> : never;

async function give(
  name: string,
  parts: WithoutId<Command>,
  config: Config,
  { waitSeconds }: GivingOptions,
  log: Log,
): Promise<CommandAnswer | undefined> {
  if (!(waitSeconds >= 0)) {
    throw new LogpipeError('LOGPIPE_USAGE', `alerts ${name}: --wait-seconds takes a number of seconds`);
  }
  const command = { ...parts, commandId: randomUUID() } as Command;
  // What the leader would leave out must not be given: nobody would ever answer it.
  if (decodeCommand(Buffer.from(encodeCommand(command))) === undefined) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `alerts ${name}: something is empty or too long; a name takes 200 characters, anything else 1000`,
    );
  }
  const waitMs = waitSeconds * 1_000;
  return config.source === 'kafka'
    ? overTopics(config, command, waitMs, log)
    : overFolder(config.alerts.journalDir, command, waitMs);
}

/** Given as soon as the answer would be seen. */
async function overTopics(
  config: Config,
  command: Command,
  waitMs: number,
  log: Log,
): Promise<CommandAnswer | undefined> {
  const key = `command/${command.commandId}`;
  const topic = config.kafka.topics.commands as string;
  const waiting = new AbortController();
  let answer: CommandAnswer | undefined;
  let failure: unknown;
  const give = async () => {
    try {
      await giveToTopic(config.kafka, topic, command, log);
    } catch (error) {
      failure = error;
      waiting.abort();
      return;
    }
    await sleep(waitMs, waiting.signal);
    waiting.abort();
  };
  await readTopic(
    config.kafka,
    {
      topic: config.kafka.topics.alerts,
      purpose: 'alert-commands-cli',
      from: 'end',
      follow: true,
      signal: waiting.signal,
      onReady: () => void give(),
      onRecord({ key: name, value }) {
        if (name?.toString() !== key || value === null) return undefined;
        answer = objectOf(value) as CommandAnswer | undefined;
        return answer === undefined ? undefined : false;
      },
    },
    log,
  );
  waiting.abort();
  if (failure !== undefined) {
    throw new LogpipeError(
      'LOGPIPE_KAFKA_FAILED',
      `the command could not be written to topic ${topic} (${errorText(failure)}); logpipe setup creates it`,
      failure,
    );
  }
  return answer;
}

async function overFolder(journalDir: string, command: Command, waitMs: number): Promise<CommandAnswer | undefined> {
  giveToFolder(journalDir, command);
  for (let waitedMs = 0; waitedMs < waitMs; waitedMs += LOOK_MS) {
    await sleep(LOOK_MS);
    const answer = readJournal(journalDir).get(`command/${command.commandId}`);
    if (answer !== undefined) return answer as CommandAnswer;
  }
  return undefined;
}

// ---- `logpipe oncall`: reads files alone ----

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
    throw usage('oncall', `--next: takes a whole number, 0 to ${MAX_NEXT}`);
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    throw usage('oncall', `--time-zone: found ${JSON.stringify(timeZone)}; permitted: a name like Europe/Berlin`);
  }
  const nowMs = now();
  const routing = loadRouting({ file: config.alerts.routingFile, env: process.env, nowMs });
  if (routing === undefined) {
    throw usage(
      'oncall',
      'there is no routing.yml, so there is no rota; name it in alerts.routingFile (docs/on-call.md)',
    );
  }
  const atMs = options.at === undefined ? nowMs : parseTime(options.at, { place: '--at', now: nowMs, timeZone });
  const all = scheduleOf(routing, atMs, next);
  const shown = team === undefined ? all : all.filter((one) => one.team === team);
  if (shown.length === 0) {
    throw usage('oncall', `--team: found ${JSON.stringify(team)}; there is: ${all.map((one) => one.team).join(', ')}`);
  }
  if (options.json) io.out(jsonLine({ at: new Date(atMs).toISOString(), teams: shown }, createMasker(config.mask)));
  else for (const one of shown) showTeam(one, options, io);
  return shown.every((one) => one.now === null || one.now.primary !== null) ? 0 : 1;
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

function usage(command: string, message: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', `${command}: ${message}`);
}
