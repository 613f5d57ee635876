// Where a simulation takes its records from: the log topic, the indices, or files. In: a range of arrival times. Out: records in order
// of arrival. Guarantee: nobody's offsets move, nothing is written; memory does not grow with the range. Indices and files do not
// tell when a record arrived: there it arrived when it happened.
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { errorText, LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { isEventId, type RawRecord } from '../../core/record.ts';
import { createElasticsearchClient, type ElasticsearchConfig, explainFailure } from '../../indexing/elasticsearch.ts';
import { asWritten, closedIndices, readDocuments, type StoredDocument } from '../../indexing/whole-answers.ts';
import { correctionOf } from '../../parse/parse.ts';
import { createTimeParser } from '../../parse/time.ts';
import type { KafkaConfig } from '../../source/kafka/client.ts';
import { createLineSplitter } from '../../source/lines.ts';
import type { StoredRecord } from '../backtest.ts';
import { settleStored, storedObject, storedText } from '../record-document.ts';
import { openTopicStreams } from './kafka.ts';

export const STORED_SOURCES = ['kafka', 'index', 'file'] as const;
export type StoredSource = (typeof STORED_SOURCES)[number];

interface StoredOptions {
  readonly source: StoredSource;
  readonly files: readonly string[];
  readonly fromMs: number;
  readonly toMs: number;
  /** For people who list groups. */
  readonly purpose: string;
}

interface Stored {
  readonly batches: AsyncIterable<readonly StoredRecord[]>;
  /** Known when all was read: sentences about what is missing. */
  gaps(): readonly string[];
  close(): Promise<void>;
}

/** @throws LogpipeError when the source cannot be reached; so does reading */
export async function openStored(
  config: { readonly kafka: KafkaConfig; readonly elasticsearch: ElasticsearchConfig },
  options: StoredOptions,
  log: Log,
): Promise<Stored> {
  switch (options.source) {
    case 'kafka':
      return openTopic(config.kafka, options, log);
    case 'index':
      return openIndices(config.elasticsearch, options);
    case 'file':
      return openFiles(options);
  }
}

async function openTopic(config: KafkaConfig, { fromMs, toMs, purpose }: StoredOptions, log: Log): Promise<Stored> {
  const streams = await openTopicStreams(config, { topic: config.topics.logs, purpose, fromMs, toMs }, log);
  const lanes = [...streams.partitions].sort(([a], [b]) => a - b);
  return {
    batches: mergeByArrival(
      lanes.map(async function* ([lane, batches]): AsyncGenerator<readonly StoredRecord[]> {
        for await (const batch of batches) {
          yield batch.map(({ value, timeMs: arrivalMs, eventId, mark, offset, clockErrorMs }) => {
            return { arrivalMs, lane, value, eventId, mark, offset, clockErrorMs };
          });
        }
      }),
    ),
    gaps: streams.gaps,
    close: streams.close,
  };
}

function openIndices(config: ElasticsearchConfig, { fromMs, toMs }: StoredOptions): Stored {
  const client = createElasticsearchClient(config);
  let gaps: readonly string[] = [];
  async function* batches(): AsyncGenerator<readonly StoredRecord[]> {
    try {
      gaps = await closedIndices(client);
      for await (const documents of readDocuments(client, { fromMs, toMs })) yield documents.map(toRecord);
    } catch (error) {
      throw error instanceof LogpipeError ? error : await explainFailure(error, config);
    }
  }
  return { batches: batches(), gaps: () => gaps, close: () => client.close() };
}

const time = createTimeParser();

function toRecord({ id, source }: StoredDocument): StoredRecord {
  return {
    arrivalMs: time.parse(source['@timestamp']) ?? 0,
    lane: laneOf(source),
    value: Buffer.from(storedText(asWritten(source))),
    eventId: isEventId(id) ? id : undefined,
    clockErrorMs: correctionOf(source),
    document: source,
  };
}

/** The partition it came from, where that is known. */
function laneOf(source: Readonly<Record<string, unknown>>): number {
  const { kafka } = source as { readonly kafka?: { readonly partition?: unknown } | null };
  return typeof kafka?.partition === 'number' ? kafka.partition : 0;
}

function openFiles({ files, fromMs, toMs }: StoredOptions): Stored {
  if (files.length === 0) throw new LogpipeError('LOGPIPE_USAGE', '--source file: name at least one file to read');
  const merged = mergeByArrival(files.map((path) => readLines(path)));
  async function* batches(): AsyncGenerator<readonly StoredRecord[]> {
    for await (const batch of merged) yield batch.filter(({ arrivalMs }) => arrivalMs >= fromMs && arrivalMs < toMs);
  }
  return { batches: batches(), gaps: () => [], close: async () => {} };
}

const LINES = 1_000;
const MAX_LINE_BYTES = 10_000_000;

/** Log lines or exported documents, plain or gzip. */
async function* readLines(path: string): AsyncGenerator<readonly StoredRecord[]> {
  let newestMs = 0;
  let batch: StoredRecord[] = [];
  try {
    const input = createReadStream(path);
    const text = (await isGzip(path)) ? unzip(input) : input;
    // Only a line feed ends a line: a record may hold any other separator.
    const splitter = createLineSplitter({ offset: 0, maxLineBytes: MAX_LINE_BYTES, onCut() {} });
    const take = (lines: readonly RawRecord[]) => {
      for (const { value } of lines) {
        const line = value?.toString() ?? '';
        if (line.trim() === '') continue;
        const record = toStored(line, newestMs);
        newestMs = Math.max(newestMs, record.arrivalMs);
        batch.push(record);
      }
    };
    for await (const piece of text) {
      take(splitter.push(Buffer.from(piece as Buffer), 0));
      for (; batch.length >= LINES; batch = batch.slice(LINES)) yield batch.slice(0, LINES);
    }
    take(splitter.flush(0));
  } catch (error) {
    throw new LogpipeError('LOGPIPE_SOURCE_FAILED', `${path} cannot be read (${errorText(error)})`, error);
  }
  if (batch.length > 0) yield batch;
}

function unzip(input: NodeJS.ReadableStream): NodeJS.ReadableStream {
  const gunzip = createGunzip();
  input.on('error', (error) => gunzip.destroy(error));
  return input.pipe(gunzip);
}

async function isGzip(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(2), 0, 2, 0);
    return buffer[0] === 0x1f && buffer[1] === 0x8b;
  } finally {
    await file.close();
  }
}

/** A line without a readable time is taken to be of the time of the one before. */
function toStored(line: string, newestMs: number): StoredRecord {
  // A line of plain text, or cut: the parser decides what becomes of it.
  const doc = storedObject(line);
  if (doc === undefined) return { arrivalMs: newestMs, lane: 0, value: Buffer.from(line) };
  settleStored(doc);
  const arrivalMs = time.parse(doc['@timestamp'] ?? doc.timestamp ?? doc.time) ?? newestMs;
  const { eventId } = doc;
  const exported = doc['@timestamp'] !== undefined && (doc.kafka !== undefined || doc.tags !== undefined);
  return {
    arrivalMs,
    lane: laneOf(doc),
    value: Buffer.from(exported ? storedText(asWritten(doc)) : line),
    ...(exported ? { clockErrorMs: correctionOf(doc) } : {}),
    ...(typeof eventId === 'string' && isEventId(eventId) ? { eventId } : {}),
  };
}

// Several ordered streams as one. In: streams of batches, each in order of arrival. Out: batches in order of arrival over all of
// them; of equal times the stream that stands first. Guarantee: of each stream at most one batch is held; a stream that goes
// back in time is taken as if it had stood still, so that nothing is lost and nothing waits for ever.

const BATCH = 1_000;

export async function* mergeByArrival<T extends { readonly arrivalMs: number }>(
  streams: readonly AsyncIterable<readonly T[]>[],
): AsyncGenerator<readonly T[]> {
  const heads: Head<T>[] = streams.map((stream) => ({
    batches: stream[Symbol.asyncIterator](),
    batch: [],
    next: 0,
    newestMs: Number.NEGATIVE_INFINITY,
  }));
  try {
    let open = await fill(heads);
    let out: T[] = [];
    while (open.length > 0) {
      const head = earliest(open);
      out.push(head.batch[head.next]!);
      head.next += 1;
      advance(head);
      if (out.length >= BATCH) {
        yield out;
        out = [];
      }
      if (head.next < head.batch.length) continue;
      // What is there goes first: the stream may have to wait for its next batch.
      if (out.length > 0) yield out;
      out = [];
      open = await fill(open);
    }
    if (out.length > 0) yield out;
  } finally {
    await Promise.all(heads.map(({ batches }) => batches.return?.()));
  }
}

interface Head<T> {
  readonly batches: AsyncIterator<readonly T[]>;
  batch: readonly T[];
  next: number;
  /** Of the record at `next`, and never less than that of one before it. */
  newestMs: number;
}

/** Those that have a record; waits for the next batch of each that has none left. */
async function fill<T extends { readonly arrivalMs: number }>(heads: readonly Head<T>[]): Promise<Head<T>[]> {
  await Promise.all(
    heads.map(async (head) => {
      while (head.next >= head.batch.length) {
        const { value, done } = await head.batches.next();
        if (done === true) return;
        head.batch = value;
        head.next = 0;
        advance(head);
      }
    }),
  );
  return heads.filter(({ batch, next }) => next < batch.length);
}

function advance<T extends { readonly arrivalMs: number }>(head: Head<T>): void {
  const record = head.batch[head.next];
  if (record !== undefined && record.arrivalMs > head.newestMs) head.newestMs = record.arrivalMs;
}

function earliest<T>(heads: readonly Head<T>[]): Head<T> {
  let found = heads[0]!;
  for (let i = 1; i < heads.length; i++) if (heads[i]!.newestMs < found.newestMs) found = heads[i]!;
  return found;
}
