// `logpipe alerts list | show`: the alert state, read from its topic or journal. Moves nobody's offsets and holds nothing.
import type { AlertRecord } from '../alerts/alert-state.ts';
import type { IncidentRecord } from '../alerts/incident.ts';
import type { StateKey } from '../alerts/store.ts';
import { readJournal } from '../alerts/store-journal.ts';
import type { Config } from '../config.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { readTopic } from '../source/throwaway-reader.ts';
import type { Io } from './io.ts';
import { oneLine } from './terminal.ts';

export interface AlertsListOptions {
  readonly all: boolean;
  readonly json: boolean;
}

interface State {
  readonly alerts: readonly AlertRecord[];
  readonly incidents: readonly IncidentRecord[];
}

/** Open incidents with their alerts; with `all` the resolved ones of the last 30 days too. */
export async function alertsList(config: Config, options: AlertsListOptions, io: Io, log: Log): Promise<number> {
  const { alerts, incidents } = await readState(config, log);
  const shown = incidents.filter(({ state }) => options.all || state === 'open');
  const pending = alerts.filter(({ phase }) => phase === 'pending');
  if (options.json) {
    for (const incident of shown) io.out(JSON.stringify({ ...incident, alerts: alertsOf(incident, alerts) }));
    return 0;
  }
  for (const incident of shown) {
    const { id, state, openedMs, told, acknowledged, group } = incident;
    const status = state === 'resolved' ? 'resolved' : acknowledged === undefined ? 'firing' : 'acknowledged';
    const title = told?.title ?? `(${group}: not told)`;
    io.out(
      `${id}  ${(told?.priority ?? '--').padEnd(2)}  ${status.padEnd(12)}  ${time(openedMs)}  ${oneLine(title, 60)}`,
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
  const { alerts, incidents } = await readState(config, log);
  const incident = incidents.find((known) => known.id === id);
  const alert = alerts.find((known) => known.key === id || known.ruleId === id);
  const found = incident === undefined ? alert : { ...incident, alerts: alertsOf(incident, alerts) };
  if (found === undefined) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `alerts show: there is no incident or alert "${id}"; see logpipe alerts list --all`,
    );
  }
  io.out(options.json ? JSON.stringify(found) : JSON.stringify(found, null, 2));
  return 0;
}

function alertsOf(incident: IncidentRecord, alerts: readonly AlertRecord[]): AlertRecord[] {
  return alerts.filter(({ incidentId, phase }) => incidentId === incident.id && phase === 'firing');
}

async function readState(config: Config, log: Log): Promise<State> {
  const records = config.source === 'kafka' ? await fromTopic(config, log) : readJournal(config.alerts.journalDir);
  const of = <T>(kind: string) =>
    [...records].flatMap(([key, value]) => (key.startsWith(`${kind}/`) ? [value as T] : []));
  const incidents = of<IncidentRecord>('incident').sort((one, other) => one.openedMs - other.openedMs);
  return { alerts: of<AlertRecord>('alert'), incidents };
}

async function fromTopic(config: Config, log: Log): Promise<Map<StateKey, object>> {
  const records = new Map<StateKey, object>();
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
        if (value === null) records.delete(name);
        else records.set(name, JSON.parse(value.toString()) as object);
        return undefined;
      },
    },
    log,
  );
  return records;
}

function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
