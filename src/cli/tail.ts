// `logpipe tail`: the log as it grows, parsed as the pipeline would. In: the log topic; without Kafka the watched files, or what the NDJSON
// sink wrote. Moves nobody's offsets. Guarantee: no record ends it; what is printed is masked, and does nothing to the terminal.
import type { Config } from '../config.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { prettyLine, prettyParts } from '../indexing/sinks.ts';
import { settleStored, storedObject } from '../replay/record-document.ts';
import { parseTime, parseWhere } from '../replay/sources.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { toRecords } from '../source/kafka/record-batch.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import {
  createTimeText,
  type Io,
  jsonLine,
  type Piece,
  type Style,
  say,
  sayUnfolded,
  shown,
  withoutFolded,
} from './io.ts';
import { followFiles, ndjsonFiles } from './local-logs.ts';

export interface TailOptions {
  /** Conditions, all of which must hold; see replay/sources.ts. */
  readonly where?: readonly string[];
  /** See `parseSince`. */
  readonly since?: string;
  readonly limit?: number;
  readonly json?: boolean;
  /** IANA name, for the times that people read and for `since` without an offset. Default: UTC. */
  readonly timeZone?: string | undefined;
  /** Ends the following; otherwise SIGINT and SIGTERM do. */
  readonly signal?: AbortSignal;
}

/** Where the log is. */
export type TailConfig =
  | { readonly source: 'kafka'; readonly kafka: KafkaConfig }
  | ({ readonly source: 'files' | 'stdin' } & Pick<Config, 'files' | 'sinks'>);

/** What a record becomes; `reason` when it would go to the dead letters. */
export interface TailedRecord {
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
}

export interface TailDeps {
  readonly parse: (record: RawRecord, origin: ChunkOrigin) => TailedRecord;
  readonly log: Log;
  /** Of the configuration; default: the built-in rules alone. */
  readonly masker?: Masker;
  readonly now?: () => number;
}

/**
 * Prints matching documents until it is told to end; exit status 0.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED
 */
export async function tail(config: TailConfig, options: TailOptions, io: Io, deps: TailDeps): Promise<number> {
  const { limit } = options;
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0)) {
    throw new LogpipeError('LOGPIPE_USAGE', `--limit: ${limit} is not a whole number above 0`);
  }
  const { masker = createMasker() } = deps;
  const matches = parseWhere(options.where);
  const now = (deps.now ?? Date.now)();
  const sinceMs = options.since === undefined ? undefined : parseSince(options.since, now, options.timeZone);
  const print = createPrinter(io, masker, options);
  const stop = new AbortController();
  const end = () => stop.abort();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  if (options.signal === undefined) for (const signal of signals) process.once(signal, end);
  else if (options.signal.aborted) end();
  else options.signal.addEventListener('abort', end, { once: true });

  let printed = 0;
  /** False when nothing more is wanted. */
  const take = ({ document, reason }: TailedRecord, place: () => string): boolean => {
    if (document === undefined) {
      // A dead letter has no fields to compare.
      if (matches === undefined) io.err(`${place()}: refused, ${visible(reason ?? 'unknown')}`);
      return true;
    }
    if (matches?.(document) === false) return true;
    print(document);
    printed += 1;
    return printed !== limit;
  };
  try {
    if (config.source === 'kafka') await tailTopic(config.kafka, sinceMs, { io, deps, signal: stop.signal, take });
    else await tailFiles(config, sinceMs, { io, deps, signal: stop.signal, take });
  } finally {
    for (const signal of signals) process.off(signal, end);
    options.signal?.removeEventListener('abort', end);
  }
  return 0;
}

interface Reading {
  readonly io: Io;
  readonly deps: TailDeps;
  readonly signal: AbortSignal;
  readonly take: (record: TailedRecord, place: () => string) => boolean;
}

async function tailTopic(config: KafkaConfig, sinceMs: number | undefined, reading: Reading): Promise<void> {
  const { io, deps, signal, take } = reading;
  const topic = config.topics.logs;
  await readTopic(
    config,
    {
      topic,
      purpose: 'tail',
      from: sinceMs ?? 'end',
      follow: true,
      signal,
      onReady: () => io.err(`following ${topic}; Ctrl-C ends`),
      onRecord(message, partition) {
        const record = toRecords([message]).records[0]!;
        return take(
          deps.parse(record, { kind: 'kafka', topic, partition }),
          () => `${topic}/${partition}@${record.offset}`,
        );
      },
    },
    deps.log,
  );
}

/** The watched files; of standard input, which only logpipe can read, what the NDJSON sink made of it. */
async function tailFiles(
  { source, files, sinks }: Extract<TailConfig, { source: 'files' | 'stdin' }>,
  sinceMs: number | undefined,
  { io, deps, signal, take }: Reading,
): Promise<void> {
  const { dir } = sinks.ndjson;
  if (source === 'stdin' && !sinks.ndjson.enabled) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'tail: with `source: stdin` only logpipe run reads the log; switch on sinks.ndjson.enabled to follow what it writes',
    );
  }
  const what = source === 'files' ? files.paths.join(', ') : dir;
  await followFiles({
    paths: async () => (source === 'files' ? files.paths : await ndjsonFiles(dir)),
    sinceMs,
    maxLineBytes: files.maxLineBytes,
    signal,
    onReady: () => io.err(`following ${visible(what)}; Ctrl-C ends`),
    onTrouble: (text) => io.err(visible(text)),
    onLine(record, path) {
      const origin = { kind: 'file', path, identity: path } as const;
      const result = source === 'files' ? deps.parse(record, origin) : indexed(record);
      // A line tells no time but that of its event.
      if (sinceMs !== undefined && Date.parse(String(result.document?.['@timestamp'])) < sinceMs) return true;
      return take(result, () => `${visible(path)}@${record.offset}`);
    },
  });
}

/** A line of the NDJSON sink is a document already. */
function indexed(record: RawRecord): TailedRecord {
  const document = storedObject(record.value?.toString() ?? '');
  if (document === undefined) return { reason: 'not a document' };
  settleStored(document);
  return { document };
}

// ---- how a document is shown ----

const LEVEL_STYLES: Readonly<Record<string, Style>> = {
  ...{ emerg: 'red', alert: 'red', crit: 'red', fatal: 'red', error: 'red' },
  ...{ warn: 'yellow', warning: 'yellow', notice: 'cyan', info: 'green', debug: 'dim', silly: 'dim', verbose: 'dim' },
};
const STACK_INDENT = 4;

/** For programs JSON, in a pipe one line; for people colours, and what spans lines beneath the line it belongs to. */
function createPrinter(
  io: Io,
  masker: Masker,
  { json, timeZone }: Pick<TailOptions, 'json' | 'timeZone'>,
): (document: Record<string, unknown>) => void {
  const timeText = createTimeText(timeZone);
  if (json) return (document) => io.out(jsonLine(document, masker));
  const forPeople = io.isTTY === true || io.paint !== undefined;
  return (document) => {
    try {
      const masked = shown(document, masker) as Record<string, unknown>;
      const ms = Date.parse(String(masked['@timestamp']));
      const doc = Number.isNaN(ms) ? masked : { ...masked, '@timestamp': timeText(ms, 'ms') };
      if (!forPeople) {
        io.out(oneLine(prettyLine(doc)));
        return;
      }
      const { value, folded } = withoutFolded(doc);
      say(io, piecesOf(value as Record<string, unknown>), STACK_INDENT);
      for (const { text } of folded) sayUnfolded(io, text, STACK_INDENT);
    } catch (error) {
      io.out(`(a document that cannot be shown: ${visible(errorText(error))})`);
    }
  };
}

function piecesOf(doc: Record<string, unknown>): Piece[] {
  const { time, level, service, message, tags, rest } = prettyParts(doc);
  const style = LEVEL_STYLES[level.trim().toLowerCase()];
  return [
    { text: `${time} `, style: 'dim' },
    { text: `${level} `, style },
    { text: `${service} `, style: 'cyan' },
    { text: message, style: style === 'red' ? 'bold' : undefined },
    ...(tags === undefined ? [] : [{ text: ` ${tags}`, style: 'yellow' } as const]),
    ...(rest.length === 0 ? [] : [{ text: ` ${rest.join(' ')}`, style: 'dim' } as const]),
  ];
}

/**
 * A time in ms: `-90s`, `-10m`, `-2h`, `-1d` before `now`, or ISO 8601, without an offset in `timeZone`.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function parseSince(text: string, now: number, timeZone?: string): number {
  return parseTime(text, { place: '--since', now, timeZone });
}
