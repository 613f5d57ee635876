// `logpipe alerts list | show | resolve`: the alert state, read from its topic or journal, and ending alerts by hand. Moves nobody's
// offsets and holds nothing: what is commanded is obeyed, and answered, by whoever holds the state. Guarantee: masked; a record that
// cannot be read is counted and said, the others are shown.
import { randomUUID } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import { type Command, giveToFolder, giveToTopic } from '../alerter/commands-given.ts';
import { readJournal } from '../alerter/store-journal.ts';
import type { Config } from '../config.ts';
import { sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import type { AlertRecord, IncidentRecord } from '../incidents/incident.ts';
import type { CommandAnswer, StateKey } from '../incidents/records.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type Io, jsonBlock, jsonLine, shown as masked } from './io.ts';

const LOOK_MS = 200;

export interface AlertsListOptions {
  readonly all: boolean;
  readonly json: boolean;
}

interface State {
  readonly alerts: readonly AlertRecord[];
  readonly incidents: readonly IncidentRecord[];
  /** Records that are no JSON object. */
  readonly unreadable: number;
}

function sayUnreadable(count: number, io: Io): void {
  if (count > 0)
    io.err(
      `${count} record${count === 1 ? '' : 's'} of the alert state cannot be read and ${count === 1 ? 'is' : 'are'} left out`,
    );
}

/** Open incidents with their alerts; with `all` the resolved ones of the last 30 days too. */
export async function alertsList(config: Config, options: AlertsListOptions, io: Io, log: Log): Promise<number> {
  const masker = createMasker(config.mask);
  const { alerts, incidents, unreadable } = await readState(config, log, (record) => masked(record, masker));
  const shown = incidents.filter(({ state }) => options.all || state === 'open');
  const pending = alerts.filter(({ phase }) => phase === 'pending');
  sayUnreadable(unreadable, io);
  if (options.json) {
    for (const incident of shown) io.out(jsonLine({ ...incident, alerts: alertsOf(incident, alerts) }, masker));
    return 0;
  }
  for (const incident of shown) {
    const { id, state, openedMs, told, acknowledged, group } = incident;
    const status = state === 'resolved' ? 'resolved' : acknowledged === undefined ? 'firing' : 'acknowledged';
    const title = told?.title ?? `(${group}: not told)`;
    io.out(
      `${visible(id)}  ${visible(String(told?.priority ?? '--')).padEnd(2)}  ${status.padEnd(12)}  ${time(openedMs)}  ${oneLine(String(title), 60)}`,
    );
    for (const { title: name, message } of alertsOf(incident, alerts))
      io.out(`    ${oneLine(`${name}: ${message}`, 140)}`);
  }
  for (const { title, startedMs, message } of pending) {
    io.out(
      `${'-'.repeat(26)}  --  ${'pending'.padEnd(12)}  ${time(startedMs)}  ${oneLine(`${title}: ${message}`, 100)}`,
    );
  }
  io.err(shown.length === 0 ? 'no alerts are firing' : `${shown.length} incident${shown.length === 1 ? '' : 's'}`);
  return 0;
}

/** Everything about one incident or alert. @throws LogpipeError LOGPIPE_USAGE when there is none of that name */
export async function alertsShow(
  id: string,
  config: Config,
  options: { json: boolean },
  io: Io,
  log: Log,
): Promise<number> {
  const { alerts, incidents, unreadable } = await readState(config, log);
  const masker = createMasker(config.mask);
  sayUnreadable(unreadable, io);
  const incident = incidents.find((known) => known.id === id);
  const alert = alerts.find((known) => known.key === id || known.ruleId === id);
  const found = incident === undefined ? alert : { ...incident, alerts: alertsOf(incident, alerts) };
  if (found === undefined) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `alerts show: there is no incident or alert "${id}"; see logpipe alerts list --all`,
    );
  }
  io.out(options.json ? jsonLine(found, masker) : jsonBlock(found, masker));
  return 0;
}

export interface AlertsResolveOptions {
  /** Who commands it; default user and host. */
  readonly by?: string;
  /** Longest wait for the answer. */
  readonly waitSeconds: number;
  readonly json: boolean;
}

/**
 * Ends the firing alerts of an incident, a rule or one label set. Exit status 1 when that was refused, or nobody has answered.
 * @throws LogpipeError LOGPIPE_USAGE when nothing of that name fires, LOGPIPE_KAFKA_FAILED
 */
export async function alertsResolve(
  id: string,
  config: Config,
  options: AlertsResolveOptions,
  io: Io,
  log: Log,
): Promise<number> {
  if (!(options.waitSeconds >= 0)) {
    throw new LogpipeError('LOGPIPE_USAGE', 'alerts resolve: --wait-seconds takes a number of seconds');
  }
  const { alerts, incidents } = await readState(config, log);
  const incident = incidents.find((known) => known.id === id);
  const meant =
    incident === undefined
      ? alerts.filter(({ phase, key, ruleId }) => phase === 'firing' && (key === id || ruleId === id))
      : alertsOf(incident, alerts);
  if (meant.length === 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `alerts resolve: no alert of "${id}" is firing; see logpipe alerts list for incidents, rules and alerts`,
    );
  }
  const command: Command = {
    kind: 'resolve',
    commandId: randomUUID(),
    alerts: meant.map(({ key, startedMs }) => ({ key, startedMs })),
    by: (options.by ?? `${userName()}@${hostname()}`).slice(0, 200),
  };
  const waitMs = options.waitSeconds * 1_000;
  const answer =
    config.source === 'kafka'
      ? await overTopics(config, command, waitMs, log)
      : await overFolder(config.alerts.journalDir, command, waitMs);
  const masker = createMasker(config.mask);
  const resolved = answer !== undefined && answer.refused === undefined;
  const said = resolved
    ? `${meant.length} alert${meant.length === 1 ? '' : 's'} resolved`
    : answer === undefined
      ? `not answered within ${options.waitSeconds} s: it is obeyed as soon as an alerter runs (within a day)`
      : `refused: ${answer.refused}`;
  if (options.json) {
    io.out(jsonLine({ resolved, answered: answer !== undefined, alerts: command.alerts, detail: said }, masker));
  } else if (resolved) io.out(said);
  else io.err(masker.text(said));
  return resolved ? 0 : 1;
}

/** In a container the user often has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
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
      purpose: 'alerts-resolve',
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

function alertsOf(incident: IncidentRecord, alerts: readonly AlertRecord[]): AlertRecord[] {
  return alerts.filter(({ incidentId, phase }) => incidentId === incident.id && phase === 'firing');
}

async function readState(
  config: Config,
  log: Log,
  view: (record: object) => unknown = (record) => record,
): Promise<State> {
  const { records, unreadable } =
    config.source === 'kafka'
      ? await fromTopic(config, log)
      : { records: readJournal(config.alerts.journalDir), unreadable: 0 };
  let strange = 0;
  const of = <T>(kind: string, identity: keyof T): T[] =>
    [...records].flatMap(([key, value]) => {
      if (!key.startsWith(`${kind}/`)) return [];
      const record = view(value) as T;
      if (typeof record?.[identity] === 'string') return [record];
      strange += 1;
      return [];
    });
  const alerts = of<AlertRecord>('alert', 'key');
  const incidents = of<IncidentRecord>('incident', 'id').sort((one, other) => one.openedMs - other.openedMs);
  return { alerts, incidents, unreadable: unreadable + strange };
}

async function fromTopic(
  config: Config,
  log: Log,
): Promise<{ readonly records: Map<StateKey, object>; readonly unreadable: number }> {
  const records = new Map<StateKey, object>();
  const unreadable = new Set<StateKey>();
  const options = {
    topic: config.kafka.topics.alerts,
    purpose: 'alerts-list',
    from: 'beginning',
    follow: false,
  } as const;
  await readTopic(
    config.kafka,
    {
      ...options,
      onRecord({ key, value }) {
        const name = key?.toString() ?? '';
        const record = value === null ? null : objectOf(value);
        if (record === undefined) unreadable.add(name);
        else unreadable.delete(name);
        if (record) records.set(name, record);
        else records.delete(name);
        return undefined;
      },
    },
    log,
  );
  return { records, unreadable: unreadable.size };
}

/** Whoever may write to the topic can write anything. */
function objectOf(value: Buffer): object | undefined {
  try {
    const parsed: unknown = JSON.parse(value.toString());
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function time(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? 'at an unknown time ' : `${date.toISOString().slice(0, 19)}Z`;
}
