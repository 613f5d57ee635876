// What a sink is, and the sinks besides Elasticsearch: console (pretty or NDJSON) and NDJSON files, one per day. Guarantee:
// `write` resolves when the lines are with the operating system; each document is one line; after a failure (a full disk, a kill
// in the middle of a line) nothing is ever appended to half a line, and a failed append leaves nothing in the file.

import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Writable } from 'node:stream';
import { type Backoff, backoffMs, sleep } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { makePrivateFolder, openPrivate } from '../core/private-files.ts';
import { toJson, visible } from '../core/safe-json.ts';
import type { Batch, BatchItem } from './batch.ts';

export const sinksSection = {
  type: 'object',
  description: 'Where documents are written; several sinks may be on at once.',
  additionalProperties: false,
  default: {},
  properties: {
    elasticsearch: { type: 'boolean', default: true, description: 'Index into Elasticsearch.' },
    console: {
      type: 'object',
      description: 'Print every document to standard output.',
      additionalProperties: false,
      default: {},
      properties: {
        enabled: { type: 'boolean', default: false, description: 'Print documents.' },
        format: {
          enum: ['pretty', 'ndjson'],
          default: 'pretty',
          description: '`pretty` for people, `ndjson` for programs: one JSON document per line.',
        },
      },
    },
    ndjson: {
      type: 'object',
      description: 'Write documents to NDJSON files, one per index day.',
      additionalProperties: false,
      default: {},
      properties: {
        enabled: { type: 'boolean', default: false, description: 'Write files.' },
        dir: { type: 'string', minLength: 1, default: 'logs/indexed', description: 'Folder of the files.' },
      },
    },
  },
} as const;

export interface SinksConfig {
  readonly elasticsearch: boolean;
  readonly console: { readonly enabled: boolean; readonly format: 'pretty' | 'ndjson' };
  readonly ndjson: { readonly enabled: boolean; readonly dir: string };
}

/** An item that waits while the rest of its batch is done. */
export interface SetAside {
  /** Its position in the batch. */
  readonly position: number;
  /** Its own copy, because the batch is reused meanwhile. */
  readonly item: BatchItem;
  /** Resolves when the item is settled; rejects only on abort. */
  readonly settled: Promise<void>;
}

/**
 * Takes whole batches. Resolves when each item of the batch is settled in this sink or set aside, and the batch is no longer
 * read; rejects only on abort.
 */
export interface Sink {
  readonly name: string;
  write(batch: Batch, signal: AbortSignal): Promise<readonly SetAside[] | undefined>;
  /** What it is waiting for, in words; undefined while all is well. */
  trouble?(): string | undefined;
  close(): Promise<void>;
}

export interface LocalSinkDeps {
  /** Where the console sink prints. */
  readonly out: Writable;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** The sinks that are switched on, without Elasticsearch. */
export function createLocalSinks(wanted: SinksConfig, deps: LocalSinkDeps): Sink[] {
  const sinks: Sink[] = [];
  if (wanted.console.enabled) sinks.push(createConsoleSink(wanted.console.format, deps));
  if (wanted.ndjson.enabled) sinks.push(createNdjsonSink(wanted.ndjson.dir, deps));
  return sinks;
}

const NEWLINE = Buffer.from('\n');
const BACKOFF = { firstMs: 500, maxMs: 5_000 };

export function createConsoleSink(format: 'pretty' | 'ndjson', deps: { out: Writable; metrics: Metrics }): Sink {
  return {
    name: 'console',
    async write(batch) {
      const lines: string[] = [];
      for (let i = 0; i < batch.count; i++) {
        const line = batch.document(i).toString();
        lines.push(format === 'ndjson' ? line : readable(line));
      }
      await written(deps.out, `${lines.join('\n')}\n`);
      deps.metrics.indexed.inc({ sink: 'console' }, batch.count);
      return undefined;
    },
    async close() {},
  };
}

/** A document that is nested too deeply to be laid out is shown as it is. */
function readable(line: string): string {
  try {
    return prettyLine(JSON.parse(line) as Record<string, unknown>);
  } catch {
    return visible(line);
  }
}

/** A document for people, part by part; `rest` is key=value. */
export function prettyParts(doc: Record<string, unknown>) {
  const { '@timestamp': time, timestamp: _, level, service, message, tags, kafka: __, ...rest } = doc;
  return {
    time: String(time),
    level: String(level ?? '-').padEnd(5),
    service: String(service ?? '-'),
    message: String(message ?? ''),
    tags: Array.isArray(tags) && tags.length > 0 ? `[${tags.join(' ')}]` : undefined,
    rest: Object.entries(rest).map(
      ([key, value]) => `${key}=${typeof value === 'string' && !/\s/.test(value) ? value : toJson(value)}`,
    ),
  };
}

/** One document for people: time, level, service, message, then the rest as key=value. */
export function prettyLine(doc: Record<string, unknown>): string {
  const { time, level, service, message, tags, rest } = prettyParts(doc);
  return visible([time, level, service, message, ...(tags === undefined ? [] : [tags]), ...rest].join(' '));
}

export function createNdjsonSink(dir: string, deps: { metrics: Metrics; log: Log }): Sink {
  const { metrics, log } = deps;
  const files = new Map<string, LineFile>();
  let last: Promise<unknown> = Promise.resolve();
  let closed = false;
  let failing: string | undefined;

  async function file(index: string): Promise<LineFile> {
    let present = files.get(index);
    if (present === undefined) {
      // Around midnight two days are written to; older ones get only stragglers.
      if (files.size >= 4) {
        const [oldest] = [...files.keys()].sort();
        const old = files.get(oldest!)!;
        files.delete(oldest!);
        await old.close();
      }
      present = createLineFile(join(dir, `${index}.ndjson`), { sync: false });
      files.set(index, present);
    }
    return present;
  }

  async function append(lines: ReadonlyMap<string, readonly Buffer[]>, signal: AbortSignal): Promise<void> {
    for (const [index, parts] of lines) {
      await persist(async () => (await file(index)).append(Buffer.concat(parts)), {
        what: 'documents',
        path: join(dir, `${index}.ndjson`),
        log,
        signal,
        backoff: BACKOFF,
        onFailing(reason) {
          failing = reason;
          metrics.paused.set({ reason: 'sink' }, reason === undefined ? 0 : 1);
        },
      });
    }
  }

  return {
    name: 'ndjson',
    async write(batch, signal) {
      const byIndex = new Map<string, Buffer[]>();
      for (let i = 0; i < batch.count; i++) {
        const { index } = batch.action(i);
        const lines = byIndex.get(index) ?? [];
        lines.push(batch.document(i), NEWLINE);
        byIndex.set(index, lines);
      }
      // One batch at a time: taking back a failed append would also remove whatever follows it.
      const mine = last.then(() => append(byIndex, signal));
      last = mine.catch(() => {});
      await mine;
      metrics.indexed.inc({ sink: 'ndjson' }, batch.count);
      return undefined;
    },
    trouble: () => failing,
    async close() {
      if (closed) return;
      closed = true;
      await last;
      for (const open of files.values()) await open.close();
    },
  };
}

function written(out: Writable, data: string | Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    out.write(data, (error) => {
      if (error == null) resolve();
      else
        reject(
          new LogpipeError('LOGPIPE_SINK_FAILED', `sink: ${reasonInWords(error)}; free the disk or the pipe`, error),
        );
    });
  });
}

// ---- a file of whole lines, for this user alone (0600, in folders 0700) ----

const NEWLINE_BYTE = 10;
const LOOK_BACK = 64 * 1024;

interface LineFile {
  /** Appends whole lines, each with its newline; one call at a time. If it rejects, nothing of them is left in the file. */
  append(lines: Buffer): Promise<void>;
  close(): Promise<void>;
}

/** Opened by the first `append`. `sync`: on disk when `append` resolves; otherwise with the operating system. */
export function createLineFile(path: string, options: { readonly sync: boolean }): LineFile {
  let file: FileHandle | undefined;

  async function opened(): Promise<FileHandle> {
    if (file !== undefined) return file;
    makePrivateFolder(dirname(path), { own: false });
    const fresh = await openPrivate(path, 'a+');
    try {
      await mend(fresh);
    } catch (error) {
      await fresh.close();
      throw error;
    }
    file = fresh;
    return fresh;
  }

  async function close(): Promise<void> {
    const old = file;
    file = undefined;
    await old?.close();
  }

  return {
    async append(lines) {
      const present = await opened();
      const { size } = await present.stat();
      try {
        for (let done = 0; done < lines.length; ) {
          const { bytesWritten } = await present.write(lines, done);
          done += bytesWritten;
        }
        if (options.sync) await present.datasync();
      } catch (error) {
        // If this fails too, the next opening looks at the file's end again.
        await takeBack(present, size, lines.length).catch(() => {});
        await close().catch(() => {});
        throw error;
      }
    },
    close,
  };
}

/** Cuts off what a failed append left, unless another process has appended since. */
async function takeBack(file: FileHandle, size: number, length: number): Promise<void> {
  const now = (await file.stat()).size;
  if (now > size && now - size <= length) await file.truncate(size);
}

/**
 * Completes a last line that lacks only its newline, and cuts off half a line: whoever wrote that was never told that it is safe.
 */
async function mend(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  if (size === 0) return;
  const parts: Buffer[] = [];
  let start = size;
  let lineStart = 0;
  while (start > 0 && lineStart === 0) {
    const length = Math.min(LOOK_BACK, start);
    start -= length;
    const part = Buffer.alloc(length);
    await file.read(part, 0, length, start);
    const newline = part.lastIndexOf(NEWLINE_BYTE);
    parts.unshift(newline === -1 ? part : part.subarray(newline + 1));
    if (newline !== -1) lineStart = start + newline + 1;
  }
  if (lineStart === size) return;
  if (isJson(Buffer.concat(parts))) await file.write('\n');
  else await file.truncate(lineStart);
}

function isJson(line: Buffer): boolean {
  try {
    JSON.parse(line.toString());
    return true;
  } catch {
    return false;
  }
}

interface Persistence {
  /** What cannot be written, for the log: `dead letters`. */
  readonly what: string;
  readonly path: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly backoff: Backoff;
  /** Called with the reason why writing fails, and with undefined when it works again. */
  readonly onFailing: (reason: string | undefined) => void;
}

/** Tries until `attempt` succeeds. A failure is logged once, and again when the reason changes. @throws signal's reason */
export async function persist(attempt: () => Promise<void>, options: Persistence): Promise<void> {
  const { what, path, log, signal, onFailing } = options;
  let said: string | undefined;
  for (let failures = 1; ; failures++) {
    signal.throwIfAborted();
    try {
      await attempt();
      if (said === undefined) return;
      onFailing(undefined);
      log.info(`${what} are written again`, { path });
      return;
    } catch (error) {
      const reason = errorText(error);
      if (reason !== said) {
        onFailing(reason);
        log.error(`${what} cannot be written; trying until they can`, { path, error: reason });
      }
      said = reason;
      await sleep(backoffMs(failures, options.backoff), signal);
    }
  }
}
