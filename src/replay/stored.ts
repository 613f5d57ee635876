// Opens stored records. In: a kind of source and a stretch of time. Out: the source; or all of it as one stream in order of
// arrival, which is what a backtest and an export need. Guarantee: nobody's offsets move, nothing is written; memory does not grow
// with the stretch.
//
// A topic tells when a record arrived. Indices and files do not: a record from them counts as having arrived when it happened, and
// one without a time as having arrived with the record before it. It stands for the record that arrived first, so it is counted
// however it is marked.
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { documentId, type RawRecord } from '../core/record.ts';
import type { ElasticsearchConfig } from '../indexing/elasticsearch.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { createStoredIndex } from './readers/indices.ts';
import { createStoredDeadLetters, createStoredTopic } from './readers/kafka.ts';
import { createStoredFiles } from './readers/log-files.ts';
import type { Position, SourceKind, StoredBatch, StoredSource, StretchOptions, TimeRange } from './sources.ts';

/** The sections of the configuration that tell where records are stored. */
interface StoresConfig {
  readonly kafka: KafkaConfig;
  readonly elasticsearch: ElasticsearchConfig;
}

interface SourceOptions extends StretchOptions {
  /** For `file`. */
  readonly files: readonly string[];
  /** For `index`. Default: the live log indices. */
  readonly indexPattern?: string | undefined;
  /** For `index`: a query that documents have to match, so that finding a few does not mean reading all. */
  readonly only?: object;
  /** For documents: tags that the present stages can judge anew are left to them. */
  readonly freshTags: boolean;
  /** `arrival`: as `inOrderOfArrival` needs it; `time`: by event time as far as the source can; `any`: as fast as it can. */
  readonly order: 'any' | 'time' | 'arrival';
}

const INDEX_ORDER = { any: 'slices', time: 'time', arrival: 'log' } as const;

/** @throws LogpipeError LOGPIPE_USAGE; what cannot be read shows only when the source is read */
export function openSource(kind: SourceKind, config: StoresConfig, options: SourceOptions, log: Log): StoredSource {
  const { files, range, indexPattern, only, freshTags, order } = options;
  switch (kind) {
    case 'kafka':
      return createStoredTopic(config.kafka, options, log);
    case 'dlq':
      return createStoredDeadLetters(config.kafka, options, log);
    case 'index':
      if (range === undefined) throw new LogpipeError('LOGPIPE_USAGE', '--source index: needs a stretch; add --from');
      return createStoredIndex(config.elasticsearch, {
        ...{ range, freshTags, order: INDEX_ORDER[order] },
        ...(indexPattern === undefined ? {} : { pattern: indexPattern }),
        ...(only === undefined ? {} : { only }),
      });
    case 'file':
      if (files.length === 0) throw new LogpipeError('LOGPIPE_USAGE', '--source file: name at least one file to read');
      return order === 'arrival'
        ? createStoredFiles([...new Set(files)], { freshTags, sideBySide: true }, log)
        : createStoredFiles(files, { freshTags }, log);
  }
}

// ---- in order of arrival ----

/** The sources that a backtest or an export can read; dead letters are missing because their records are in the log topic. */
export const ARRIVAL_SOURCES = ['kafka', 'index', 'file'] as const satisfies readonly SourceKind[];

export type ArrivalSource = (typeof ARRIVAL_SOURCES)[number];

/** A stored record, and when it arrived. */
export interface StoredRecord {
  readonly arrivalMs: number;
  /** 0 when unknown. */
  readonly partition: number;
  readonly value: Buffer | null;
  readonly eventId?: string | undefined;
  /** Of a record without an event id. */
  readonly documentId?: string;
  readonly mark?: RawRecord['mark'] | undefined;
  /** Offset in the log topic. */
  readonly offset?: number;
  /** As in a raw record. */
  readonly clockErrorMs?: number | undefined;
  /** The stored document, for a record that was read from one. */
  readonly document?: Readonly<Record<string, unknown>> | undefined;
}

interface Arrivals {
  /** Can be read only once. */
  readonly batches: AsyncIterable<readonly StoredRecord[]>;
  /** Complete when everything has been read: sentences about what is missing. */
  gaps(): readonly string[];
  /** Ends the reading; resolves when everything is released. */
  close(): Promise<void>;
}

/** How much of each part is read ahead, while records are taken from other parts. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;
/** What a record costs in addition to its value. */
const RECORD_BYTES = 256;

/**
 * @param options.range by arrival
 * @throws LogpipeError when the source cannot be reached; so does reading
 */
export function openByArrival(
  kind: ArrivalSource,
  config: StoresConfig,
  options: { readonly files: readonly string[]; readonly range: TimeRange; readonly purpose: string },
  log: Log,
): Promise<Arrivals> {
  const anew = { latenessMs: 0, aheadMs: 0, freshTags: true, order: 'arrival' } as const;
  return inOrderOfArrival(openSource(kind, config, { ...options, ...anew }, log));
}

/** @throws LogpipeError as `openByArrival` */
export async function inOrderOfArrival(source: StoredSource, maxHeldBytes = MAX_HELD_BYTES): Promise<Arrivals> {
  const plan = await source.plan();
  const parts = new Map(plan.parts.map(({ part }) => [part, createPart(source, maxHeldBytes)]));
  const from = new Map<string, Position>(plan.parts.map(({ part, from: start }) => [part, start]));
  const stop = new AbortController();
  let reading: Promise<void> | undefined;

  function endAll(error?: unknown): void {
    for (const part of parts.values()) part.end(error);
  }

  async function close(): Promise<void> {
    stop.abort();
    for (const part of parts.values()) part.drop();
    await reading;
  }

  async function* batches(): AsyncGenerator<readonly StoredRecord[]> {
    reading = source
      .feed(
        from,
        stop.signal,
        // A part that was created after the plan holds nothing of the stretch.
        async (batch) => (await parts.get(batch.part)?.put(batch)) ?? true,
        (part) => parts.get(part)?.end(),
      )
      .then(() => endAll(), endAll);
    try {
      yield* mergeByArrival([...parts.values()].map((part) => part.records()));
    } finally {
      await close();
    }
  }

  return { batches: batches(), gaps: () => [...plan.gaps, ...source.missing()], close };
}

/** The batches of one part, held until they are taken. */
function createPart({ kind }: Pick<StoredSource, 'kind'>, maxHeldBytes: number) {
  let queue: StoredRecord[][] = [];
  let bytes = 0;
  let ended = false;
  let dropped = false;
  let failure: unknown;
  let newestMs = 0;
  let wake = () => {};
  /** The source waits here while too much is held. */
  let goOn: ((more: boolean) => void) | undefined;

  function toRecord(batch: StoredBatch, i: number): StoredRecord {
    const record = batch.records[i]!;
    const { value, timeMs, eventId, mark, offset, clockErrorMs } = record;
    const origin = batch.origin(i);
    const arrivalMs = batch.hasTime?.(i) === false ? newestMs : timeMs;
    newestMs = Math.max(newestMs, arrivalMs);
    return {
      ...{ arrivalMs, partition: origin.kind === 'kafka' ? origin.partition : 0, value, eventId, offset, clockErrorMs },
      mark: kind === 'kafka' ? mark : undefined,
      document: batch.document?.(i),
      ...(eventId === undefined ? { documentId: documentId(record, { origin }) } : {}),
    };
  }

  return {
    /** Resolves when the part may go on; false when nobody takes from it any more. */
    put(batch: StoredBatch): Promise<boolean> {
      if (dropped) return Promise.resolve(false);
      if (batch.records.length > 0) queue.push(batch.records.map((_, i) => toRecord(batch, i)));
      for (const { value } of batch.records) bytes += RECORD_BYTES + (value?.length ?? 0);
      wake();
      if (bytes < maxHeldBytes) return Promise.resolve(true);
      return new Promise((resolve) => {
        goOn = resolve;
      });
    },
    end(error?: unknown): void {
      ended = true;
      failure ??= error;
      wake();
    },
    /** Nothing more will be taken. */
    drop(): void {
      dropped = true;
      ended = true;
      queue = [];
      goOn?.(false);
      wake();
    },
    async *records(): AsyncGenerator<readonly StoredRecord[]> {
      for (;;) {
        const held = queue;
        queue = [];
        bytes = 0;
        goOn?.(true);
        goOn = undefined;
        for (const batch of held) yield batch;
        if (held.length > 0) continue;
        if (failure !== undefined) throw failure;
        if (ended) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

// ---- several ordered streams as one ----

const BATCH = 1_000;

/**
 * In order of arrival over all streams; at equal times the stream that is listed first goes first. At most one batch of each stream is
 * held. A stream that goes back in time is treated as if its time stood still, so that nothing is lost and nothing waits forever.
 */
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
      // Hand over what is there first: the stream may have to wait for its next batch.
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
  /** Arrival of the record at `next`, and never less than that of an earlier one. */
  newestMs: number;
}

/** Waits for the next batch of each stream that has no record left; returns the streams that have one. */
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
