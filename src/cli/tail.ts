// `logpipe tail`: the log as it grows, parsed as the pipeline would. In: the log topic; without Kafka the watched files, or what the NDJSON
// sink wrote. Moves nobody's offsets. Guarantee: no record ends it; what is printed is masked, and does nothing to the terminal.

import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Config } from '../config.ts';
import { sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { prettyLine, prettyParts } from '../indexing/sinks.ts';
import { settleStored, storedObject } from '../replay/record-document.ts';
import { parseTime, parseWhere } from '../replay/sources.ts';
import { createFolders } from '../source/files/content.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { toRecords } from '../source/kafka/record-batch.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { createLineSplitter, type LineSplitter, linesOf } from '../source/lines.ts';
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
type TailConfig =
  | { readonly source: 'kafka'; readonly kafka: KafkaConfig }
  | ({ readonly source: 'files' | 'stdin' | 'otlp' } & Pick<Config, 'files' | 'sinks'>);

/** What a record becomes; `reason` when it would go to the dead letters; `dropped` when a transform keeps it from the index. */
interface TailedRecord {
  readonly dropped?: object;
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
}

interface TailDeps {
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
  const take = ({ document, reason, dropped }: TailedRecord, place: () => string): boolean => {
    if (dropped !== undefined) return true;
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
        const record = toRecords([message])[0]!;
        return take(
          deps.parse(record, { kind: 'kafka', topic, partition }),
          () => `${topic}/${partition}@${record.offset}`,
        );
      },
    },
    deps.log,
  );
}

/** The watched files; of standard input and OpenTelemetry, which only logpipe can read, what the NDJSON sink made of it. */
async function tailFiles(
  { source, files, sinks }: Exclude<TailConfig, { source: 'kafka' }>,
  sinceMs: number | undefined,
  { io, deps, signal, take }: Reading,
): Promise<void> {
  const { dir } = sinks.ndjson;
  if (source !== 'files' && !sinks.ndjson.enabled) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `tail: with \`source: ${source}\` only logpipe run reads the log; switch on sinks.ndjson.enabled to follow what it writes`,
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

// ---- where there is no Kafka: log files as they grow ----

// logpipe's own positions and locks are not touched; a named pipe, whose lines another reader would lose, is left alone; a file that is
// rotated, emptied or not yet there ends nothing.

const PIECE_BYTES = 64 * 1024;
const LOOK_MS = 250;
const NEWLINE = 0x0a;

/** Hears of every line; false ends the reading. */
type OnLine = (record: RawRecord, path: string) => boolean;

interface FollowOptions {
  /** The files to follow, asked for again at every look: a day's file may be new. */
  readonly paths: () => Promise<readonly string[]>;
  /** Also what was there before, in rotated files too, unless they have not been changed since then, ms. Default: new lines only. */
  readonly sinceMs?: number | undefined;
  readonly maxLineBytes: number;
  readonly signal: AbortSignal;
  readonly onLine: OnLine;
  /** What a person should know: a file that is not there, that cannot be read. Said once for each. */
  readonly onTrouble: (text: string) => void;
  /** Every line from now on is seen. */
  readonly onReady?: () => void;
}

interface Followed {
  readonly file: FileHandle;
  readonly inode: string;
  position: number;
  splitter: LineSplitter;
  /** Reading began within a line, whose rest is nobody's. */
  skipsFirst: boolean;
}

/** Resolves when `signal` aborts or `onLine` has returned false. */
async function followFiles(options: FollowOptions): Promise<void> {
  const { paths, sinceMs, signal, maxLineBytes, onLine, onTrouble } = options;
  const followed = new Map<string, Followed>();
  const told = new Set<string>();
  let wantsMore = true;
  let isFirstLook = true;

  const tell = (text: string) => {
    if (told.has(text)) return;
    told.add(text);
    onTrouble(text);
  };
  const splitterAt = (offset: number) => createLineSplitter({ offset, maxLineBytes, onCut() {} });
  const hand = (lines: readonly RawRecord[], path: string) => {
    for (const line of lines) {
      wantsMore &&= onLine(line, path);
      if (!wantsMore) return;
    }
  };

  async function begin(path: string, atEnd: boolean): Promise<Followed | undefined> {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) {
      tell(`${path} is not there yet; waiting for it`);
      return undefined;
    }
    if (!found.isFile()) {
      tell(`${path} is not a regular file; its lines can be read only once, so they are left to logpipe`);
      return undefined;
    }
    const file = await open(path, 'r');
    const { size, dev, ino } = await file.stat();
    const position = atEnd ? size : 0;
    const before = Buffer.alloc(1);
    if (position > 0) await file.read(before, 0, 1, position - 1);
    const skipsFirst = position > 0 && before[0] !== NEWLINE;
    return { file, inode: `${dev} ${ino}`, position, splitter: splitterAt(position), skipsFirst };
  }

  async function readOn(path: string, at: Followed): Promise<void> {
    const { size } = await at.file.stat();
    if (size < at.position) {
      at.position = 0;
      at.splitter = splitterAt(0);
      at.skipsFirst = false;
    }
    const piece = Buffer.alloc(PIECE_BYTES);
    while (wantsMore && !signal.aborted) {
      const { bytesRead } = await at.file.read(piece, 0, PIECE_BYTES, at.position);
      if (bytesRead === 0) return;
      at.position += bytesRead;
      // A copy: lines are views of the piece.
      const lines = at.splitter.push(Buffer.from(piece.subarray(0, bytesRead)), Date.now());
      if (at.skipsFirst && lines.length > 0) {
        lines.shift();
        at.skipsFirst = false;
      }
      hand(lines, path);
    }
  }

  async function look(path: string): Promise<void> {
    let at = followed.get(path);
    if (at !== undefined) {
      const named = await stat(path).catch(() => undefined);
      await readOn(path, at);
      if (named === undefined || `${named.dev} ${named.ino}` === at.inode) return;
      // Rotated: what stands in the old file was read just now, and its last line has no end.
      hand(at.splitter.flush(Date.now()), path);
      followed.delete(path);
      await at.file.close();
    }
    at = await begin(path, isFirstLook && sinceMs === undefined);
    if (at === undefined) return;
    followed.set(path, at);
    await readOn(path, at);
  }

  async function history(path: string): Promise<void> {
    const folder = dirname(path);
    const rotated: { path: string; changedMs: number }[] = [];
    for (const name of (await createFolders().list(folder)).siblings(basename(path))) {
      const found = await stat(join(folder, name)).catch(() => undefined);
      if (name === basename(path) || !found?.isFile() || found.mtimeMs < sinceMs!) continue;
      rotated.push({ path: join(folder, name), changedMs: found.mtimeMs });
    }
    rotated.sort((one, other) => one.changedMs - other.changedMs);
    for (const old of rotated) {
      for await (const line of linesOf(old.path, maxLineBytes)) {
        hand([line], old.path);
        if (!wantsMore || signal.aborted) return;
      }
    }
  }

  try {
    while (wantsMore && !signal.aborted) {
      for (const path of await paths()) {
        if (!wantsMore || signal.aborted) break;
        try {
          if (isFirstLook && sinceMs !== undefined) await history(path);
          if (wantsMore) await look(path);
        } catch (error) {
          tell(`${path} cannot be read (${errorText(error)})`);
        }
      }
      if (isFirstLook) options.onReady?.();
      isFirstLook = false;
      if (wantsMore) await sleep(LOOK_MS, signal);
    }
  } finally {
    for (const { file } of followed.values()) await file.close().catch(() => {});
  }
}

/** The day files of the NDJSON sink, in the order of their names. Empty when the folder is not there. */
async function ndjsonFiles(dir: string): Promise<string[]> {
  const names = await readdir(dir).catch((): string[] => []);
  return names
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .map((name) => join(dir, name));
}
