// How commands reach the leader: by a topic, or in embedded mode by a folder beside the journal. In: commands of people, by the command
// line, HTTP, a link or PagerDuty, and of instances that were cut off. Out: the same commands, handed to the term. Guarantee: nobody's offsets move; a command is handed
// over at least once and obeyed once, because the term answers it by its id in the alert state; anything else is logged and left out.
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { backoffMs, type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { makePrivateFolder, usable, writePrivateSync } from '../core/private-files.ts';
import { isSpecific, type SilenceRecord, VIAS, type Via } from '../incidents/incident.ts';
import type { GivenCommand } from '../incidents/machine.ts';
import { isDestination } from '../oncall/routing.ts';
import { PRIORITIES } from '../rules/rule-types.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';

const FORMAT = 1;
const FOLDER = 'commands';
const LOOK_MS = 500;
const MAX_BYTES = 256 * 1024;
const MAX_ALERTS = 500;
/** A command that nobody has taken for this long no longer counts. */
const KEPT_MS = 86_400_000;

const MAX_CHANNELS = 500;
const MAX_LABELS = 20;
const MAX_ID = 64;
const MAX_NAME = 200;
/** A name as somebody gives it, and the token they had. */
const MAX_BY = 300;
/** Of rules, groups and label values. */
const MAX_TEXT = 1_000;
/** No silence lasts longer. */
export const MAX_SILENCE_MS = 366 * 86_400_000;

export type Command = GivenCommand & { readonly commandId: string };

export interface CommandReader {
  close(): Promise<void>;
}

interface CommandReaderDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** `done` is to be called when its answer is durable. */
  readonly onCommand: (command: Command, done: () => void) => void;
}

// ---- a command as it is written ----

export function encodeCommand(command: Command): string {
  return JSON.stringify({ v: FORMAT, command });
}

type Given = { readonly [name: string]: unknown };

/** Undefined for anything that is not a command: whoever may write to the topic can write anything. What it does not know it leaves out. */
export function decodeCommand(value: Buffer | null): Command | undefined {
  if (value === null || value.length > MAX_BYTES) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString());
  } catch {
    return undefined;
  }
  const { v, command } = (parsed ?? {}) as { v?: unknown; command?: Given | null };
  if (v !== FORMAT || typeof command !== 'object' || command === null) return undefined;
  const { commandId } = command;
  if (!isText(commandId, MAX_ID) || !/^[\w.:-]+$/.test(commandId)) return undefined;
  const decoded = withoutId(command);
  return decoded === undefined ? undefined : { commandId, ...decoded };
}

function withoutId(command: Given): GivenCommand | undefined {
  const { kind, by, via, id } = command;
  if (via !== undefined && !VIAS.some((known) => known === via)) return undefined;
  const way = via === undefined ? {} : { via: via as Via };
  if (kind === 'silence') {
    const silence = silenceOf(command.silence);
    return silence === undefined ? undefined : { kind, silence, ...way };
  }
  if (!isText(by, MAX_BY)) return undefined;
  switch (kind) {
    case 'acknowledge': {
      const { incidentId } = command;
      return isText(incidentId, MAX_ID) ? { kind, incidentId, by, ...way } : undefined;
    }
    case 'resolve': {
      const what = resolved(command);
      return what === undefined ? undefined : { kind, ...what, by, ...way };
    }
    case 'unsilence':
      return isText(id, MAX_ID) ? { kind, id, by, ...way } : undefined;
    case 'blind-over':
      return blindOver(command, by);
    default:
      return undefined;
  }
}

function resolved({ incidentId, alerts, evenIfTrue }: Given) {
  if (evenIfTrue !== undefined && typeof evenIfTrue !== 'boolean') return undefined;
  const quiet = evenIfTrue === true ? ({ evenIfTrue } as const) : {};
  if (incidentId !== undefined) {
    return isText(incidentId, MAX_ID) && alerts === undefined ? { incidentId, ...quiet } : undefined;
  }
  if (!Array.isArray(alerts) || alerts.length === 0 || alerts.length > MAX_ALERTS) return undefined;
  const isAlert = (alert: Given | null) => isText(alert?.key, 4_000) && Number.isFinite(alert?.startedMs);
  if (!alerts.every(isAlert)) return undefined;
  return {
    alerts: alerts.map(({ key, startedMs }): { key: string; startedMs: number } => ({ key, startedMs })),
    ...quiet,
  };
}

/** Undefined for anything that is no silence. */
export function silenceOf(given: unknown): SilenceRecord | undefined {
  if (typeof given !== 'object' || given === null) return undefined;
  const { id, ruleId, group, labels, priority, environment, fromMs, createdMs, untilMs, by, reason } = given as Given;
  const texts = [ruleId, group, environment].every((text) => text === undefined || isText(text, MAX_TEXT));
  const times = [fromMs, createdMs].every((time) => time === undefined || isTime(time));
  if (!texts || !times || !isText(id, MAX_ID) || !isTime(untilMs) || !isText(by, MAX_BY)) return undefined;
  if (typeof reason !== 'string' || reason.length > MAX_TEXT) return undefined;
  if (priority !== undefined && !PRIORITIES.some((known) => known === priority)) return undefined;
  if (labels !== undefined && !areLabels(labels)) return undefined;
  const parts = { ruleId, group, labels, priority, environment, fromMs, createdMs };
  const given_ = Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined));
  const silence = { id, ...given_, untilMs, by, reason } as SilenceRecord;
  return isSpecific(silence) ? silence : undefined;
}

function areLabels(labels: unknown): boolean {
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) return false;
  const entries = Object.entries(labels);
  return entries.length <= MAX_LABELS && entries.every((entry) => entry.every((text) => isText(text, MAX_TEXT)));
}

function blindOver({ incidentId, environment, sinceMs, channels }: Given, by: string): GivenCommand | undefined {
  if (!isText(incidentId, MAX_ID) || !/^blind-[0-9a-f]{16}$/.test(incidentId) || !isText(environment, MAX_NAME))
    return undefined;
  if (!isTime(sinceMs) || !Array.isArray(channels) || channels.length > MAX_CHANNELS) return undefined;
  const known = channels.filter((name) => isText(name, MAX_NAME) && isDestination(name));
  if (known.length === 0) return undefined;
  return { kind: 'blind-over', by, incidentId, environment, sinceMs, channels: [...new Set(known)] };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && Math.abs(value) <= 8.64e15;
}

function isText(value: unknown, longest: number): value is string {
  return typeof value === 'string' && value !== '' && value.length <= longest;
}

// ---- by the commands topic ----

/** @throws kafkajs's errors unless the command is known to be written */
export async function giveToTopic(kafka: KafkaConfig, topic: string, command: Command, log: Log): Promise<void> {
  const producer = createKafka(kafka, log).producer({
    createPartitioner: defaultPartitioner,
    allowAutoTopicCreation: false,
    idempotent: true,
    maxInFlightRequests: 1,
    retry: { retries: 5 },
  });
  try {
    await producer.connect();
    const message = { key: command.commandId, value: encodeCommand(command) };
    await producer.send({ topic, acks: -1, messages: [message] });
  } finally {
    await producer.disconnect().catch(() => {});
  }
}

/** Hands over the commands of the last day, and then new ones. */
export function followTopic(kafka: KafkaConfig, topic: string, deps: CommandReaderDeps): CommandReader {
  const { clock, log, onCommand } = deps;
  const closing = new AbortController();

  async function follow(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      try {
        await readTopic(
          kafka,
          {
            topic,
            purpose: 'alert-commands',
            from: clock.now() - KEPT_MS,
            follow: true,
            signal: closing.signal,
            onReady: () => (failures = 0),
            onRecord({ value }) {
              const command = decodeCommand(value);
              if (command !== undefined) onCommand(command, () => {});
              else if (value !== null) log.warn('A record of the commands topic is not a command: left out', { topic });
              return undefined;
            },
          },
          log,
        );
      } catch (error) {
        if (closing.signal.aborted) return;
        failures += 1;
        if (failures === 1) log.warn('Commands cannot be read; trying again', { topic, error: errorText(error) });
        await sleep(backoffMs(failures), closing.signal);
      }
    }
  }
  const following = follow();

  return {
    async close() {
      closing.abort();
      await following;
    },
  };
}

// ---- by a folder beside the journal ----

/** @param journalDir the folder of the alert journal @throws LogpipeError LOGPIPE_FOLDER_UNUSABLE */
export function giveToFolder(journalDir: string, command: Command): void {
  const folder = join(journalDir, FOLDER);
  usable('alerts.journalDir', folder, () => {
    makePrivateFolder(folder, { own: true });
    writePrivateSync(join(folder, `${command.commandId.replaceAll(/[^\w-]/g, '_')}.json`), encodeCommand(command));
  });
}

/** Looks twice a second; a file is removed when its command has been answered. */
export function followFolder(journalDir: string, deps: CommandReaderDeps): CommandReader {
  const { clock, log, onCommand } = deps;
  const folder = join(journalDir, FOLDER);
  const taken = new Set<string>();
  let failing = false;
  let cancel = () => {};

  function take(name: string): void {
    const path = join(folder, name);
    const { size, mtimeMs } = statSync(path);
    const command = size > MAX_BYTES ? undefined : decodeCommand(readFileSync(path));
    if (command === undefined || clock.now() - mtimeMs > KEPT_MS) {
      log.warn('A file of the commands folder is not a command, or is a day old: removed', { path });
      rmSync(path, { force: true });
      return;
    }
    taken.add(name);
    onCommand(command, () => {
      rmSync(path, { force: true });
      taken.delete(name);
    });
  }

  function look(): void {
    let failed: { readonly error: unknown } | undefined;
    try {
      for (const name of namesIn(folder)) {
        if (!name.endsWith('.json') || taken.has(name)) continue;
        try {
          take(name);
        } catch (error) {
          // One that cannot be read, such as another user's, holds up nobody else's.
          failed ??= { error };
        }
      }
    } catch (error) {
      failed = { error };
    }
    if (failed !== undefined && !failing) {
      log.warn('Commands cannot be read; trying again', { folder, error: errorText(failed.error) });
    }
    failing = failed !== undefined;
    cancel = clock.after(LOOK_MS, look);
  }
  look();

  return {
    async close() {
      cancel();
    },
  };
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
