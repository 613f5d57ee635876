// The alerts, for whoever asks and commands, in any process. In: the alert state where it is decided, else its topic or journal; commands.
// Out: alerts, incidents and silences as they stand, and what became of commands. Guarantee: what is read was true within the last second,
// or it is said that it cannot be known; a command is given whole or not at all; nobody's offsets move, and nothing is kept running for a
// process that nobody asks.
import type { Producer } from 'kafkajs';
import { backoffMs, type Clock, endsWithin, sleep, within } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { AlertRecord, IncidentRecord, SilenceRecord } from '../incidents/incident.ts';
import type { CommandAnswer, StateKey } from '../incidents/records.ts';
import { createKafka, defaultPartitioner, explainKafkaFailure, type KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type Command, encodeCommand, giveToFolder } from './commands-given.ts';
import { readJournal } from './store.ts';

export interface AlertState {
  readonly alerts: readonly AlertRecord[];
  /** By their beginning. */
  readonly incidents: readonly IncidentRecord[];
  readonly silences: readonly SilenceRecord[];
}

/** Where the alert state is kept. */
export interface Place {
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  readonly kafka: KafkaConfig;
  readonly alerts: { readonly journalDir: string };
}

// ---- read once ----

/**
 * What the topic or the journal holds now.
 * @param view applied to every record
 * @returns with the number of records that are no JSON object
 * @throws LogpipeError LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED, LOGPIPE_FOLDER_UNUSABLE
 */
export async function readAlertState(
  { source, kafka, alerts }: Place,
  log: Log,
  view: (record: object) => unknown = (record) => record,
): Promise<AlertState & { readonly unreadable: number }> {
  if (source !== 'kafka') return stateOf(readJournal(alerts.journalDir), 0, view);
  const records = createStateRecords();
  const options = { topic: kafka.topics.alerts, purpose: 'alerts-list', from: 'beginning', follow: false } as const;
  await readTopic(kafka, { ...options, onRecord: records.take }, log);
  return stateOf(records.known, records.unreadable(), view);
}

function stateOf(
  records: ReadonlyMap<StateKey, object>,
  unreadable: number,
  view: (record: object) => unknown = (record) => record,
): AlertState & { readonly unreadable: number } {
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
  const silences = of<SilenceRecord>('silence', 'id');
  return { alerts, incidents, silences, unreadable: unreadable + strange };
}

interface StateRecords {
  readonly known: ReadonlyMap<StateKey, object>;
  unreadable(): number;
  clear(): void;
  take(message: { readonly key: Buffer | null; readonly value: Buffer | null }): undefined;
}

/** The newest record of each key, as they come. */
function createStateRecords(): StateRecords {
  const known = new Map<StateKey, object>();
  const unreadable = new Set<StateKey>();
  return {
    known,
    unreadable: () => unreadable.size,
    clear() {
      known.clear();
      unreadable.clear();
    },
    take({ key, value }) {
      const name = key?.toString() ?? '';
      const record = value === null ? null : objectOf(value);
      if (record === undefined) unreadable.add(name);
      else unreadable.delete(name);
      if (record) known.set(name, record);
      else known.delete(name);
      return undefined;
    },
  };
}

/** Whoever may write to the topic can write anything. */
export function objectOf(value: Buffer): object | undefined {
  try {
    const parsed: unknown = JSON.parse(value.toString());
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}

// ---- asked again and again, by a process that runs ----

/** The state in the process that decides it. */
export interface OwnAlerts extends AlertState {
  answer(commandId: string): CommandAnswer | undefined;
}

/** Nothing is known, or nothing can be given, now. Its text is for people and holds no address. */
export class DeskClosedError extends Error {
  override readonly name = 'DeskClosedError';
}

export interface AlertDesk {
  /** At most a second old. @throws DeskClosedError when that is not to be had within `waitMs` */
  state(waitMs?: number): Promise<AlertState>;
  /** What became of a command; undefined: nothing yet, or there is none. @throws as state */
  answer(commandId: string): Promise<CommandAnswer | undefined>;
  /**
   * Gives a command, and waits for its answer until `untilMs` (monotonic). Undefined: it is given, and will be carried out.
   * @throws DeskClosedError when it was not given, or when that is not known
   */
  give(command: Command, untilMs: number): Promise<CommandAnswer | undefined>;
  close(): Promise<void>;
}

interface DeskDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined where alerts are not decided, or not yet. */
  readonly own: () => OwnAlerts | undefined;
}

const FRESH_MS = 1_000;
const READ_MS = 2_000;
const GIVE_MS = 1_500;
const CLOSE_MS = 2_000;
const LOOK_MS = 50;
/** Nobody has asked for this long: the topic is no longer followed. */
const IDLE_MS = 60_000;

export function createAlertDesk(place: Place, deps: DeskDeps): AlertDesk {
  return place.source === 'kafka' ? topicDesk(place.kafka, deps) : folderDesk(place.alerts.journalDir, deps);
}

/** Without Kafka, alerts are decided in this process or nowhere. */
function folderDesk(journalDir: string, { clock, own }: DeskDeps): AlertDesk {
  const here = (): OwnAlerts => {
    const alerts = own();
    if (alerts === undefined) throw new DeskClosedError('the alerts are not evaluated here, or not yet; try again');
    return alerts;
  };
  return {
    state: async () => here(),
    answer: async (commandId) => here().answer(commandId),
    async give(command, untilMs) {
      here();
      try {
        giveToFolder(journalDir, command);
      } catch (error) {
        throw new DeskClosedError(`the command was not given: ${errorText(error)}`);
      }
      return until(() => own()?.answer(command.commandId), untilMs, clock);
    },
    async close() {},
  };
}

async function until<T>(look: () => T | undefined, untilMs: number, clock: Clock): Promise<T | undefined> {
  for (;;) {
    const found = look();
    if (found !== undefined || clock.monotonicMs() >= untilMs) return found;
    await sleep(LOOK_MS, undefined, clock.after);
  }
}

function topicDesk(kafka: KafkaConfig, deps: DeskDeps): AlertDesk {
  const { clock, log, own } = deps;
  const { commands } = kafka.topics;
  let follower: Follower | undefined;
  let cancelIdle = () => {};
  let closed = false;
  let giving: { readonly producer: Producer; readonly connected: Promise<void> } | undefined;

  function followed(): Follower {
    if (closed) throw new DeskClosedError('logpipe is being stopped');
    follower ??= followState(kafka, deps);
    cancelIdle();
    cancelIdle = clock.after(IDLE_MS, () => {
      void follower?.close();
      follower = undefined;
    });
    return follower;
  }

  async function connectedProducer(): Promise<Producer> {
    if (giving === undefined) {
      const producer = createKafka(kafka, log).producer({
        createPartitioner: defaultPartitioner,
        allowAutoTopicCreation: false,
        // Not idempotent: a command that is there twice is carried out once, and after a failure kafkajs would give the next command
        // the number of the one before, which the broker would then take for that one again.
        retry: { retries: 3, maxRetryTime: 300 },
      });
      const connected = producer.connect();
      connected.catch(() => {});
      giving = { producer, connected };
    }
    const { producer, connected } = giving;
    await connected;
    return producer;
  }

  async function forget(): Promise<void> {
    const given = giving;
    giving = undefined;
    await given?.producer.disconnect().catch(() => {});
  }

  async function send(command: Command): Promise<void> {
    if (commands === undefined) throw new DeskClosedError('kafka.topics.commands: there is no topic for commands');
    let begun = false;
    let over = false;
    const sent = connectedProducer().then((producer) => {
      // Whoever asked has been told that it was not given.
      if (over) return;
      begun = true;
      const messages = [{ key: command.commandId, value: encodeCommand(command) }];
      return producer.send({ topic: commands, acks: -1, timeout: GIVE_MS, messages });
    });
    try {
      await within(sent, GIVE_MS, `Kafka has not answered within ${GIVE_MS} ms`, clock.after);
    } catch (error) {
      over = true;
      // A connection that cannot be made is tried more and more rarely: the next command begins anew.
      if (!begun) void forget();
      const why = explainKafkaFailure(error);
      log.warn('A command about alerts could not be given', { reason: why, begun });
      throw new DeskClosedError(
        begun
          ? `it is not known whether the command was given, and it is carried out once or not at all: ${why}`
          : `the command was not given: ${why}`,
      );
    }
  }

  return {
    async state(waitMs = READ_MS) {
      const mine = own();
      if (mine !== undefined) return mine;
      const records = await followed().records(waitMs);
      return stateOf(records, 0);
    },
    async answer(commandId) {
      const mine = own();
      if (mine !== undefined) return mine.answer(commandId);
      return (await followed().records(READ_MS)).get(`command/${commandId}`) as CommandAnswer | undefined;
    },
    async give(command, untilMs) {
      if (closed) throw new DeskClosedError('logpipe is being stopped');
      // Watched before it is given, so that the answer cannot be missed.
      const mine = own() === undefined ? followed() : follower;
      await send(command);
      const key = `command/${command.commandId}`;
      return until(
        () => own()?.answer(command.commandId) ?? (mine?.known.get(key) as CommandAnswer | undefined),
        untilMs,
        clock,
      );
    },
    async close() {
      closed = true;
      cancelIdle();
      await follower?.close();
      if (giving !== undefined) await endsWithin(forget(), CLOSE_MS, clock.after);
    },
  };
}

// ---- the topic, followed as long as somebody asks ----

interface Follower {
  /** As far as the topic was read; empty while it is read from its beginning. */
  readonly known: ReadonlyMap<StateKey, object>;
  /** All records, as of a second ago or later. @throws DeskClosedError when they are not known within `waitMs` */
  records(waitMs: number): Promise<ReadonlyMap<StateKey, object>>;
  close(): Promise<void>;
}

function followState(kafka: KafkaConfig, { log, clock }: DeskDeps): Follower {
  const { alerts: topic } = kafka.topics;
  const records = createStateRecords();
  const closing = new AbortController();
  const waiting = new Set<() => void>();
  /** Up to when everything was read, monotonic ms of this process. */
  let readToMs = Number.NEGATIVE_INFINITY;
  let trouble: unknown;

  async function follow(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      records.clear();
      readToMs = Number.NEGATIVE_INFINITY;
      try {
        await readTopic(
          kafka,
          {
            topic,
            purpose: 'alerts-api',
            from: 'beginning',
            follow: true,
            signal: closing.signal,
            onRecord: records.take,
            onAnswer({ atEnd, askedMs }) {
              failures = 0;
              if (!atEnd) return;
              readToMs = askedMs;
              for (const wake of waiting) wake();
            },
          },
          log,
        );
      } catch (error) {
        failures += 1;
        trouble = error;
        if (failures === 1)
          log.warn('The alert state cannot be read; trying again', { topic, error: errorText(error) });
        await sleep(backoffMs(failures), closing.signal);
      }
    }
  }
  const following = follow();

  return {
    known: records.known,
    async records(waitMs) {
      // The reader dates its questions by this clock.
      const since = performance.now() - FRESH_MS;
      let wake = () => {};
      const isKnown = new Promise<void>((resolve) => {
        wake = () => {
          if (readToMs >= since) resolve();
        };
      });
      waiting.add(wake);
      wake();
      const inTime = await endsWithin(isKnown, waitMs, clock.after);
      waiting.delete(wake);
      if (inTime) return records.known;
      const why =
        trouble === undefined ? '' : `: ${trouble instanceof LogpipeError ? 'it cannot be reached' : 'it refuses'}`;
      throw new DeskClosedError(`the alert state is not known now, because Kafka does not answer${why}; try again`);
    },
    async close() {
      closing.abort();
      await following;
    },
  };
}
