// `logpipe alerts list | show`: the alert state, read from its topic or journal; and `logpipe notify test`. Moves nobody's offsets.
// Guarantee: masked; a record that cannot be read is counted and reported, the others are shown.
import { type AlertState, readAlertState } from '../alerter/alert-desk.ts';
import type { Config } from '../config.ts';
import { systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createEventIds } from '../core/record.ts';
import { oneLine, toJson, visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { type AlertRecord, createMuters, type IncidentRecord, type Muting } from '../incidents/incident.ts';
import { type ChannelName, durationText, type Notification, type SendResult } from '../incidents/notification.ts';
import { loadMeasures } from '../measure/measure-config.ts';
import { createChannels } from '../notify/dispatcher.ts';
import { CHANNELS } from '../notify/notify-config.ts';
import { loadRouting, type Routing } from '../oncall/routing.ts';
import { loadRules } from '../rules/rule-config.ts';
import {
  column,
  createTimeText,
  type Io,
  jsonLine,
  shown as masked,
  type Piece,
  type Style,
  say,
  wantsJson,
} from './io.ts';

export interface AlertsView {
  readonly json: boolean;
  /** IANA name, for the times that people read. Default: UTC. */
  readonly timeZone?: string | undefined;
}

interface AlertsListOptions extends AlertsView {
  readonly all: boolean;
}

export function sayUnreadable(count: number, io: Io): void {
  if (count > 0)
    io.err(
      `${count} record${count === 1 ? '' : 's'} of the alert state cannot be read and ${count === 1 ? 'is' : 'are'} left out`,
    );
}

/** PRI, STATE, FOR; what follows is a time, as wide as its zone makes it, and a title. */
const WIDTHS = [3, 12, 10] as const;
const DETAIL_INDENT = 5;

/** Open incidents with their alerts; with `all` the resolved ones of the last 30 days too. */
export async function alertsList(
  config: Config,
  options: AlertsListOptions,
  io: Io,
  log: Log,
  now: () => number = Date.now,
): Promise<number> {
  const timeText = createTimeText(options.timeZone);
  const masker = createMasker(config.mask);
  const state = await readAlertState(config, log, (record) => masked(record, masker));
  const { alerts, incidents } = state;
  const shown = incidents.filter((incident) => options.all || incident.state === 'open');
  sayUnreadable(state.unreadable, io);
  if (options.json) {
    for (const incident of shown) io.out(jsonLine({ ...incident, alerts: alertsOf(incident, alerts) }, masker));
    return 0;
  }
  const pending = alerts.filter(({ phase }) => phase === 'pending');
  const mutingOf = createMutingOf(config, state);
  const nowMs = now();
  const row = (cells: readonly [string, string, string, string, string], style?: Style) => {
    const [priority, status, lasted, since, title] = cells;
    const timeWidth = timeText(0).length;
    const pieces: Piece[] = [
      { text: `${column(priority, WIDTHS[0])}  ` },
      { text: column(status, WIDTHS[1]), style },
      { text: `  ${column(lasted, WIDTHS[2])}  ${column(since, timeWidth)}  ` },
      { text: title, style: style === undefined ? undefined : 'bold' },
    ];
    say(io, pieces, WIDTHS[0] + WIDTHS[1] + WIDTHS[2] + timeWidth + 8);
  };
  const detail = (text: string) => say(io, `${' '.repeat(DETAIL_INDENT)}${text}`, DETAIL_INDENT + 2);

  if (shown.length + pending.length > 0) row(['PRI', 'STATE', 'FOR', 'SINCE', 'TITLE']);
  for (const incident of shown) {
    const { id, openedMs, resolvedMs, told, group } = incident;
    const status = statusOf(incident);
    const lasted = lastedText((resolvedMs ?? nowMs) - openedMs);
    const title = text(told?.title ?? '(nobody has been told)');
    row([text(told?.priority ?? '-'), status, lasted, timeText(openedMs), title], STATUS_STYLE[status]);
    detail(
      `incident ${text(id)}, group ${text(group)}${incident.team === undefined ? '' : `, team ${text(incident.team)}`}`,
    );
    for (const [name, value] of peopleOf(incident, timeText)) detail(`${name} ${value}`);
    for (const alert of alertsOf(incident, alerts)) {
      const muting = mutedText(alert, mutingOf(alert), timeText);
      const notes = [`firing for ${lastedText(nowMs - alert.startedMs)}`, ...(muting === undefined ? [] : [muting])];
      detail(`- ${text(alert.key)}, ${notes.join(', ')}: ${text(alert.message)}`);
    }
  }
  for (const { key, priority, title, startedMs, message } of pending) {
    row([text(priority), 'pending', lastedText(nowMs - startedMs), timeText(startedMs), text(title)]);
    detail(`- ${text(key)}: ${text(message)}`);
  }
  const count = `${shown.length} incident${shown.length === 1 ? '' : 's'}`;
  const waiting = pending.length === 0 ? '' : `, ${pending.length} pending`;
  if (shown.length === 0) io.err(`no alerts are firing${waiting}`);
  else {
    const more = io.isTTY === true ? '; logpipe alerts show <incident, rule or alert> tells more' : '';
    io.err(`${count}${waiting}${more}`);
  }
  return 0;
}

type Status = 'firing' | 'acknowledged' | 'quiet' | 'resolved';

const STATUS_STYLE: Readonly<Record<Status, Style>> = {
  firing: 'red',
  acknowledged: 'yellow',
  quiet: 'yellow',
  resolved: 'green',
};

function statusOf({ state, acknowledged, quiet }: IncidentRecord): Status {
  if (state === 'resolved') return 'resolved';
  if (quiet !== undefined) return 'quiet';
  return acknowledged === undefined ? 'firing' : 'acknowledged';
}

/** What people have done about an incident, and who is asked to do something; what holds now, by name. */
function peopleOf(
  incident: IncidentRecord,
  timeText: (ms: number) => string,
): (readonly [name: string, value: string])[] {
  const { state, acknowledged, quiet, onCall, escalation, answerBy, missed, heldFromMs, told } = incident;
  const found: (readonly [string, string])[] = [];
  if (acknowledged !== undefined) {
    const via = acknowledged.via === undefined ? '' : ` (${text(acknowledged.via)})`;
    found.push(['acknowledged', `by ${text(acknowledged.by)}${via}, ${timeText(acknowledged.atMs)}`]);
  }
  if (state === 'resolved') return found;
  if (quiet !== undefined)
    found.push(['quiet', `until ${timeText(quiet.untilMs)}: resolved by hand by ${text(quiet.by)}`]);
  if (heldFromMs !== undefined && (told === undefined || told.atMs < heldFromMs)) {
    found.push(['held', `until business hours, since ${timeText(heldFromMs)}`]);
  }
  const people = [onCall?.primary, onCall?.secondary].filter((id) => id !== undefined).map(text);
  if (people.length > 0) found.push(['on call', people.join(', then ')]);
  if (escalation !== undefined && escalation.level > 0) {
    const often = escalation.level === 1 ? 'once' : `${escalation.level} times`;
    found.push(['escalated', `${often}, last ${timeText(escalation.atMs)}`]);
  }
  if (answerBy !== undefined) found.push(['answer', `until ${timeText(answerBy.atMs)}`]);
  else if (missed !== undefined) found.push(['unanswered', `since ${timeText(missed.atMs)}`]);
  return found;
}

/** Whoever may write to the topic can write anything, and where a text is expected, too. */
export function text(value: unknown): string {
  return visible(typeof value === 'string' ? value : value === undefined ? '' : toJson(value));
}

/** "45 s", "12 min", "3 h 5 min": seconds tell nobody anything once there are minutes. */
function lastedText(ms: number): string {
  if (!Number.isFinite(ms)) return '?';
  return durationText(ms < 60_000 ? ms : ms - (ms % 60_000));
}

/** What mutes an alert, as far as the present rules tell; asked for only when one is muted. */
function createMutingOf(config: Config, { alerts, silences }: AlertState): (alert: AlertRecord) => Muting | undefined {
  const firing = alerts.filter(
    ({ phase, labels }) => phase === 'firing' && typeof labels === 'object' && labels !== null,
  );
  let mutingOf: ReturnType<ReturnType<typeof createMuters>> | undefined;
  return (alert) => {
    if (alert.muted === undefined || !firing.includes(alert)) return undefined;
    mutingOf ??= createMuters(rulesOf(config))(silences);
    return mutingOf(alert, firing);
  };
}

/** None when they cannot be read: that an alert is muted stands in its record. */
function rulesOf({ alerts: { measuresFile, rulesFile } }: Config) {
  try {
    return loadRules({
      file: rulesFile,
      env: process.env,
      measures: loadMeasures({ file: measuresFile, env: process.env }),
    });
  } catch {
    return [];
  }
}

function mutedText(
  alert: AlertRecord,
  muting: Muting | undefined,
  timeText: (ms: number) => string,
): string | undefined {
  if (alert.muted === undefined) return undefined;
  if (muting?.silence !== undefined) {
    const { by, untilMs, reason } = muting.silence;
    return `silenced by ${text(by)} until ${timeText(untilMs)} (${text(reason)})`;
  }
  if (muting?.inhibitor !== undefined) return `muted by ${text(muting.inhibitor.key)}`;
  return alert.muted === 'silenced' ? 'silenced' : 'muted by another alert';
}

/** Everything about one incident or alert. @throws LogpipeError LOGPIPE_USAGE when there is none of that name */
export async function alertsShow(
  id: string,
  config: Config,
  options: AlertsView,
  io: Io,
  log: Log,
  now: () => number = Date.now,
): Promise<number> {
  const timeText = createTimeText(options.timeZone);
  const state = await readAlertState(config, log);
  const { alerts, incidents } = state;
  const masker = createMasker(config.mask);
  sayUnreadable(state.unreadable, io);
  const incident = incidents.find((known) => known.id === id);
  const alert = alerts.find((known) => known.key === id || known.ruleId === id);
  const found = incident === undefined ? alert : { ...incident, alerts: alertsOf(incident, alerts) };
  if (found === undefined) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `alerts show: there is no incident or alert "${id}"; see logpipe alerts list --all`,
    );
  }
  if (options.json) {
    io.out(jsonLine(found, masker));
    return 0;
  }
  const mutingOf = createMutingOf(config, state);
  const view: Shower = { io, masker, timeText, nowMs: now(), mutingOf };
  if (incident !== undefined) {
    showIncident(incident, view);
    for (const one of alertsOf(incident, alerts)) {
      io.out('');
      showAlert(one, view);
    }
  } else if (alert !== undefined) showAlert(alert, view);
  return 0;
}

interface Shower {
  readonly io: Io;
  readonly masker: Masker;
  readonly timeText: (ms: number) => string;
  readonly nowMs: number;
  readonly mutingOf: (alert: AlertRecord) => Muting | undefined;
}

const NAME_WIDTH = 14;

/** A name and what belongs to it; nothing for what is not known. */
function field(io: Io, name: string, value: string | undefined, style?: Style): void {
  if (value === undefined || value === '') return;
  say(
    io,
    [
      { text: column(name, NAME_WIDTH), style: 'dim' },
      { text: value, style },
    ],
    NAME_WIDTH,
  );
}

function showIncident(record: IncidentRecord, { io, masker, timeText, nowMs }: Shower): void {
  const incident = masked(record, masker) as IncidentRecord;
  const { id, group, team, openedMs, resolvedMs, told, channels, ended, reopened } = incident;
  const status = statusOf(incident);
  const lasted = lastedText((resolvedMs ?? nowMs) - openedMs);
  field(io, 'incident', text(id), 'bold');
  field(io, 'state', `${status}${status === 'resolved' ? ' after' : ' for'} ${lasted}`, STATUS_STYLE[status]);
  field(io, 'opened', timeText(openedMs));
  if (resolvedMs !== undefined) field(io, 'resolved', timeText(resolvedMs));
  if (reopened > 0) field(io, 'reopened', `${reopened} time${reopened === 1 ? '' : 's'}`);
  field(io, 'group', text(group));
  field(io, 'team', text(team));
  field(
    io,
    'told',
    told === undefined ? 'nobody yet' : `${timeText(told.atMs)}  ${text(told.priority)} ${text(told.title)}`,
  );
  field(io, '', told === undefined ? undefined : text(told.message));
  for (const [name, value] of peopleOf(incident, timeText)) field(io, name, value);
  for (const [name, channel] of Object.entries(channels ?? {})) {
    const { deliveredMs, perhapsMs, failed, resolvedMs: endedMs } = channel ?? {};
    const outcome =
      failed !== undefined
        ? `FAILED: ${text(failed)}`
        : deliveredMs !== undefined
          ? `delivered ${timeText(deliveredMs)}`
          : perhapsMs !== undefined
            ? `not confirmed, ${timeText(perhapsMs)}`
            : 'waiting';
    field(
      io,
      text(name),
      `${outcome}${endedMs === undefined ? '' : ', its end was sent'}`,
      failed === undefined ? undefined : 'red',
    );
  }
  for (const { title, message, startedMs, resolvedMs: endedMs } of Array.isArray(ended) ? ended : []) {
    const until = endedMs === undefined ? '' : ` to ${timeText(endedMs)}`;
    field(io, 'ended', `${text(title)}, ${timeText(startedMs)}${until}: ${text(message)}`);
  }
}

function showAlert(record: AlertRecord, { io, masker, timeText, nowMs, mutingOf }: Shower): void {
  const alert = masked(record, masker) as AlertRecord;
  const { key, title, priority, phase, startedMs, clearSinceMs, gapSinceMs, peak, incidentId, message, why } = alert;
  field(io, 'alert', text(key), 'bold');
  field(io, 'title', `${text(priority)} ${text(title)}`);
  const status = `${text(phase)} for ${lastedText(nowMs - startedMs)}, since ${timeText(startedMs)}`;
  field(io, 'state', status, phase === 'firing' ? 'red' : undefined);
  // By the record as it was read: masking makes another object of it.
  const muted = mutedText(alert, mutingOf(record), timeText);
  field(io, 'muted', muted === undefined ? undefined : text(masked(muted.replace(/^muted /, ''), masker)), 'yellow');
  if (clearSinceMs !== undefined) field(io, 'now', `its condition has not been true since ${timeText(clearSinceMs)}`);
  if (gapSinceMs !== undefined) field(io, 'now', `nothing has been known of it since ${timeText(gapSinceMs)}`);
  field(io, 'message', text(message));
  if (why !== undefined) {
    const sum = `${text(why.measure)} over ${durationText(why.windowMs)}: ${text(why.valueText)}`;
    field(io, 'why', `${sum} (threshold ${text(why.thresholdText)}), from ${text(why.volume)} events`);
    for (const { template, count } of Array.isArray(why.topTemplates) ? why.topTemplates : []) {
      field(io, 'top errors', `${text(count)} × ${text(template)}`);
    }
    if (Array.isArray(why.examples)) field(io, 'examples', why.examples.map(text).join(', '));
    field(io, 'release', why.release === undefined ? undefined : `errors stand out in ${text(why.release)}`);
  }
  if (peak !== undefined) field(io, 'worst', `${text(peak.valueText)}, ${timeText(peak.atMs)}`);
  field(io, 'metadata', text(alert.metadata));
  field(io, 'incident', text(incidentId));
  field(io, 'runbook', text(alert.runbook));
}

export function alertsOf(incident: IncidentRecord, alerts: readonly AlertRecord[]): AlertRecord[] {
  return alerts.filter(({ incidentId, phase }) => incidentId === incident.id && phase === 'firing');
}

// ---- `logpipe notify test` ----

// `logpipe notify test`: one message to each configured channel, so that a wrong address shows before the first incident.

const CHANNEL_WIDTH = 10;

export interface NotifyTestOptions {
  readonly channel?: string;
  /** Default: readable lines on a terminal, JSON elsewhere. */
  readonly json?: boolean | undefined;
}

/** Sends and resolves a test incident. Exit status 1 when a channel refused or did not confirm, 2 when none is configured. @throws LogpipeError LOGPIPE_USAGE */
export async function notifyTest(config: Config, options: NotifyTestOptions, io: Io, log: Log): Promise<number> {
  const masker = createMasker(config.mask);
  const json = wantsJson(io, options.json);
  // Standard output belongs to the one object.
  const out = json ? process.stderr : process.stdout;
  // Which ones are not configured stands in the answer.
  const quiet: Log = { ...log, info: log.debug };
  const routing = loadRouting({ file: config.alerts.routingFile, env: process.env, nowMs: Date.now() });
  const channels = createChannels(config.notify, routing, { clock: systemClock, log: quiet, masker, out });
  const common: readonly string[] = CHANNELS.filter((name) => name !== 'history');
  const names = [...new Set([...common, ...channels.keys()])];
  if (options.channel !== undefined && !names.includes(options.channel)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--channel: found ${JSON.stringify(options.channel)}; permitted: ${names.join(', ')}`,
    );
  }
  const id = createEventIds()();
  const results: Record<ChannelName, SendResult> = {};
  const width = Math.max(CHANNEL_WIDTH, ...names.map((name) => name.length));
  for (const [name, channel] of channels) {
    if (options.channel === undefined ? isPersons(name, routing) : options.channel !== name) continue;
    const signal = new AbortController().signal;
    const sent = await channel.send(testNotification(id, 'trigger', config.notify.environment), signal);
    // What rings must not go on ringing.
    const arrived = sent.ok || sent.doubtful === true || sent.left !== undefined;
    const ended = arrived
      ? await channel.send(testNotification(id, 'resolve', config.notify.environment), signal)
      : sent;
    const result = sent.ok ? ended : sent;
    results[name] = result;
    if (!json) {
      const outcome = outcomeText(result, (text) => oneLine(masker.text(text), 300));
      say(io, [{ text: `${column(name, width)}  ` }, { text: outcome, style: result.ok ? 'green' : 'red' }], width + 2);
    }
    await channel.close();
  }
  const missing = names.filter((name) => !channels.has(name) && (options.channel ?? name) === name);
  if (!json) for (const name of missing) say(io, `${column(name, width)}  not configured`);
  if (json) io.out(jsonLine(results, masker));
  const outcomes = Object.values(results);
  if (outcomes.length === 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'notify: no such channel is configured; see the section notify of the configuration',
    );
  }
  return outcomes.every(({ ok }) => ok) ? 0 : 1;
}

/** A person's own: only a test that names it rings there. */
function isPersons(name: ChannelName, routing: Routing | undefined): boolean {
  return routing?.people.has(name.split(':')[1] ?? '') === true;
}

function outcomeText(result: SendResult, shown: (text: string) => string): string {
  if (result.ok) return 'sent';
  if (result.doubtful) return `NOT CONFIRMED: ${shown(result.reason)}`;
  return `FAILED: ${shown(result.reason)}`;
}

function testNotification(id: string, action: 'trigger' | 'resolve', environment: string): Notification {
  const atMs = Date.now();
  const [title, message] = ['Test of logpipe’s notifications', 'Sent by `logpipe notify test`. Nothing is wrong.'];
  return {
    incidentId: id,
    dedupKey: `logpipe/test-${id}`,
    action,
    reason: action === 'trigger' ? 'first' : 'all-resolved',
    severity: 'warning',
    priority: 'P3',
    title,
    message,
    atMs,
    environment,
    alerts: [
      {
        ruleId: 'test',
        title,
        priority: 'P3',
        labels: {},
        state: action === 'trigger' ? 'firing' : 'resolved',
        startedMs: atMs,
        ...(action === 'resolve' ? { resolvedMs: atMs } : {}),
        message,
        runbook: 'docs/operations.md',
      },
    ],
    joined: [],
  };
}
