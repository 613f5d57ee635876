// The log topic as a source. In: a stretch of time. Out: the records written from its beginning to its end plus lateness.
// Guarantee: bounded also for partitions without later records; no group's offsets move; what retention has removed is said.
import type { Admin, KafkaMessage } from 'kafkajs';
import type { Log } from '../../core/log.ts';
import { type ChunkOrigin, isEventId, type RawRecord } from '../../core/record.ts';
import { createKafka, failedReading, type KafkaConfig } from '../../source/kafka/client.ts';
import { toRecords } from '../../source/kafka/record-batch.ts';
import { type Flow, readTopic } from '../../source/kafka/topic-reader.ts';
import { withAdmin } from '../../source/kafka/topics.ts';
import {
  type PlannedLane,
  type Positions,
  type ReplaySource,
  readable,
  type SourcePlan,
  type StretchOptions,
} from '../sources.ts';

/** How exactly the time of the oldest record that is left is told. */
const GAP_PRECISION_MS = 1_000;
/** Records per batch. */
const PIECE = 500;

interface Row {
  readonly partition: number;
  readonly low: number;
  readonly from: number;
  readonly to: number;
}

export function createKafkaReplaySource(config: KafkaConfig, options: StretchOptions, log: Log): ReplaySource {
  const { topic = config.topics.logs, range, latenessMs, aheadMs, purpose } = options;
  const startMs = range === undefined ? undefined : range.fromMs - aheadMs;
  const endMs = range === undefined ? undefined : range.toMs + latenessMs;
  const missing: string[] = [];
  const laneOf = (partition: number) => `${topic}/${partition}`;

  async function asking<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    try {
      return await withAdmin(createKafka(config, log), work);
    } catch (error) {
      throw failedReading(error, config, topic);
    }
  }

  async function rows(admin: Admin): Promise<Row[]> {
    const starts = startMs === undefined ? undefined : await offsetsAt(admin, topic, startMs);
    const ends = endMs === undefined ? undefined : await offsetsAt(admin, topic, endMs);
    const all = await admin.fetchTopicOffsets(topic);
    return all
      .map(({ partition, low, high }) => {
        const from = Math.max(Number(low), starts?.get(partition) ?? 0);
        const to = Math.min(Number(high), ends?.get(partition) ?? Number(high));
        return { partition, low: Number(low), from, to: Math.max(from, to) };
      })
      .sort((a, b) => a.partition - b.partition);
  }

  async function gapOf(admin: Admin, { partition, low, from }: Row): Promise<string | undefined> {
    if (low === 0 || from > low) return undefined;
    const removed = `${laneOf(partition)}: ${low} older records were removed by retention`;
    if (startMs === undefined || endMs === undefined) return `${removed}; what is left is read`;
    const isOldest = async (ms: number) => (await offsetsAt(admin, topic, ms)).get(partition) === low;
    const lastMs = Math.min(endMs, Date.now());
    if (await isOldest(lastMs)) return `${removed}, and nothing of this stretch is left`;
    let early = startMs;
    let late = lastMs;
    while (late - early > GAP_PRECISION_MS) {
      const middle = Math.floor((early + late) / 2);
      if (await isOldest(middle)) early = middle;
      else late = middle;
    }
    if (early <= range!.fromMs) return undefined;
    return `${removed}; the oldest that is left was written at about ${new Date(early).toISOString()}, what came before is missing`;
  }

  return readable({
    kind: 'kafka',
    plan: () =>
      asking(async (admin): Promise<SourcePlan> => {
        const lanes: PlannedLane[] = [];
        const gaps: string[] = [];
        for (const row of await rows(admin)) {
          const { partition, from, to } = row;
          lanes.push({ lane: laneOf(partition), from, to, records: to - from });
          const gap = await gapOf(admin, row);
          if (gap !== undefined) gaps.push(gap);
        }
        return { lanes, records: lanes.reduce((sum, { records }) => sum + records!, 0), bytes: undefined, gaps };
      }),

    async feed(from: Positions, signal, take) {
      const origins = new Map<number, ChunkOrigin>();
      const wanted = new Map<number, { from: number; to: number }>();
      for (const row of await asking(rows)) {
        const at = from.get(laneOf(row.partition));
        const start = typeof at === 'number' ? at : row.from;
        if (start < row.low) {
          missing.push(
            `${laneOf(row.partition)}: offsets ${start} to ${row.low - 1} were removed by retention before they were read`,
          );
        }
        if (start < row.to) wanted.set(row.partition, { from: Math.max(start, row.low), to: row.to });
        origins.set(row.partition, { kind: 'kafka', topic, partition: row.partition });
      }
      if (wanted.size === 0 || signal.aborted) return;
      let wantsMore = true;
      const complete = await readTopic(
        config,
        {
          topic,
          purpose,
          from: wanted,
          follow: false,
          signal,
          async onBatch(messages, partition) {
            const origin = origins.get(partition)!;
            // In pieces: what is between two saved positions is what an interruption repeats.
            for (let at = 0; at < messages.length && wantsMore; at += PIECE) {
              const { records } = toRecords(messages.slice(at, at + PIECE));
              const next = records.at(-1)!.offset + 1;
              const more = await take({ lane: laneOf(partition), records, origin: () => origin, next });
              wantsMore &&= more;
            }
            return wantsMore;
          },
        },
        log,
      );
      if (!complete && wantsMore && !signal.aborted) {
        missing.push(`${topic}: the end of the stretch was not reached; records may have been removed meanwhile`);
      }
    },

    missing: () => missing,
  });
}

/** Per partition the offset of the first record of this time or later; the end of the log where there is none. */
async function offsetsAt(admin: Admin, topic: string, ms: number): Promise<Map<number, number>> {
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, Math.max(0, ms));
  return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
}

// The dead letters as a source. In: the topic of the dead letters. Out: the records as they were in the log topic, with the
// id their documents were to have; a record that left several letters comes once.
// Guarantee: letters whose record was cut cannot become the document they were: they are told, not replayed.

/** Letters of a record that was delivered twice lie close together. */
const MAX_REMEMBERED = 100_000;

/** @param options.range the letters' records by their own time; the topic is read from its beginning to its end */
export function createDlqReplaySource(config: KafkaConfig, options: StretchOptions, log: Log): ReplaySource {
  const topic = config.topics.dlq;
  const whole = createKafkaReplaySource(config, { ...options, topic, range: undefined }, log);
  const seen = new Set<string>();
  const missing: string[] = [];
  let cut = 0;

  function toRecord(message: KafkaMessage): { record: RawRecord; origin: ChunkOrigin } | undefined {
    const header = (name: string): string | undefined => {
      const value = message.headers?.[name];
      return value === undefined ? undefined : String(Array.isArray(value) ? value[0] : value);
    };
    const id = header('event-id') ?? message.key?.toString();
    const offset = Number(header('origin-offset'));
    if (id === undefined || !Number.isSafeInteger(offset)) return undefined;
    if (header('sha256') !== undefined) {
      cut += 1;
      return undefined;
    }
    if (seen.has(id)) return undefined;
    if (seen.size >= MAX_REMEMBERED) seen.delete(seen.values().next().value!);
    seen.add(id);
    const from = header('origin-topic');
    const origin: ChunkOrigin =
      from === undefined
        ? { kind: 'file', path: header('origin-file') ?? '', identity: header('origin-identity') ?? '' }
        : { kind: 'kafka', topic: from, partition: Number(header('origin-partition')) };
    const timeMs = Number(header('origin-timestamp') ?? message.timestamp);
    const eventId = isEventId(id) ? id : undefined;
    return { record: { value: message.value, offset, timeMs, eventId, documentId: id, mark: 'redriven' }, origin };
  }

  return readable({
    kind: 'dlq',
    plan: whole.plan,
    async feed(from, signal, take) {
      const plan = await whole.plan();
      const wanted = new Map<number, { from: number; to: number }>();
      for (const lane of plan.lanes) {
        const at = from.get(lane.lane) ?? lane.from;
        if (Number(at) < Number(lane.to)) {
          wanted.set(Number(lane.lane.slice(topic.length + 1)), { from: Number(at), to: Number(lane.to) });
        }
      }
      if (wanted.size === 0 || signal.aborted) return;
      let wantsMore = true;
      await readTopic(
        config,
        {
          topic,
          purpose: options.purpose,
          from: wanted,
          follow: false,
          signal,
          async onBatch(messages, partition) {
            const letters = messages.flatMap((message) => toRecord(message) ?? []);
            const more = await take({
              lane: `${topic}/${partition}`,
              records: letters.map(({ record }) => record),
              origin: (i) => letters[i]!.origin,
              next: Number(messages.at(-1)!.offset) + 1,
            });
            wantsMore &&= more;
            return wantsMore;
          },
        },
        log,
      );
      if (cut > 0) missing.push(`${topic}: ${cut} letters hold only a part of their record; they are not replayed`);
    },
    missing: () => missing,
  });
}

// A stretch of a topic, each partition as a stream of its own. In: a range of record times. Out: per partition batches of records in
// order of their offsets. Guarantee: nobody's offsets move; a partition that nobody takes from is paused, so that at most
// MAX_HELD_BYTES and one batch of it are held; a stream ends at the range's end, also where no later record was ever written.

const MAX_HELD_BYTES = 4 * 1024 * 1024;
const BATCH = 1_000;

interface TopicStreams {
  /** Partition -> its records. */
  readonly partitions: ReadonlyMap<number, AsyncIterable<readonly RawRecord[]>>;
  /** Sentences about what retention has removed, or what was not there when it was to be read. */
  gaps(): readonly string[];
  /** Ends the reading; resolves when the group is gone. */
  close(): Promise<void>;
}

/** @throws LogpipeError LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED; the streams throw the same */
export async function openTopicStreams(
  config: KafkaConfig,
  range: { readonly topic: string; readonly purpose: string; readonly fromMs: number; readonly toMs: number },
  log: Log,
): Promise<TopicStreams> {
  const { topic, purpose, fromMs, toMs } = range;
  const ranges = await offsetsOf(config, topic, fromMs, toMs, log);
  const streams = new Map([...ranges.keys()].map((partition) => [partition, createStream()] as const));
  const stop = new AbortController();
  const gaps = [...ranges].flatMap(([partition, { removed }]) =>
    removed ? [`${topic}/${partition}: older records were removed; the stretch may begin before what is left`] : [],
  );
  let flow: Flow | undefined;

  const reading = readTopic(
    config,
    {
      topic,
      purpose,
      from: ranges,
      follow: false,
      signal: stop.signal,
      onFlow: (control) => {
        flow = control;
        for (const [partition, stream] of streams) stream.onRoom = () => control.resume(partition);
      },
      onRecord(message, partition) {
        const stream = streams.get(partition);
        if (stream === undefined) return undefined;
        const [record] = toRecords([message]).records as [RawRecord];
        // After a rebalance the beginning of a batch is delivered again.
        if (record.offset <= stream.lastOffset) return undefined;
        stream.lastOffset = record.offset;
        if (stream.push(record)) flow?.pause(partition);
        return undefined;
      },
      onEnd: (partition) => streams.get(partition)?.end(),
    },
    log,
  ).then(
    (complete) => {
      if (!complete && !stop.signal.aborted) gaps.push(`topic ${topic}: the end of the stretch was not reached`);
      for (const stream of streams.values()) stream.end();
    },
    (error: unknown) => {
      for (const stream of streams.values()) stream.end(error);
    },
  );
  return {
    partitions: new Map([...streams].map(([partition, stream]) => [partition, stream.records()])),
    gaps: () => gaps,
    async close() {
      stop.abort();
      await reading;
    },
  };
}

function offsetsOf(config: KafkaConfig, topic: string, fromMs: number, toMs: number, log: Log) {
  return withAdmin(createKafka(config, log), async (admin) => {
    const rows = await admin.fetchTopicOffsets(topic);
    const [starts, ends] = await Promise.all([
      admin.fetchTopicOffsetsByTimestamp(topic, fromMs),
      admin.fetchTopicOffsetsByTimestamp(topic, toMs),
    ]);
    const at = (list: typeof starts, partition: number) =>
      Number(list.find((row) => row.partition === partition)?.offset ?? 0);
    return new Map(
      rows.map(({ partition, low }) => {
        const from = at(starts, partition);
        // Records were removed, and the first one left is later than the range's beginning.
        return [partition, { from, to: at(ends, partition), removed: Number(low) > 0 && from === Number(low) }];
      }),
    );
  });
}

function createStream() {
  let queue: RawRecord[] = [];
  let bytes = 0;
  let ended = false;
  let failure: unknown;
  let paused = false;
  let wake = () => {};

  const stream = {
    lastOffset: -1,
    onRoom: () => {},
    /** True when the partition is to be paused. */
    push(record: RawRecord): boolean {
      queue.push(record);
      bytes += record.value?.length ?? 0;
      wake();
      if (paused || bytes < MAX_HELD_BYTES) return false;
      paused = true;
      return true;
    },
    end(error?: unknown): void {
      ended = true;
      failure ??= error;
      wake();
    },
    async *records(): AsyncGenerator<readonly RawRecord[]> {
      for (;;) {
        if (queue.length > 0) {
          const batch = queue;
          queue = [];
          bytes = 0;
          if (paused) {
            paused = false;
            stream.onRoom();
          }
          for (let i = 0; i < batch.length; i += BATCH) yield batch.slice(i, i + BATCH);
          continue;
        }
        if (failure !== undefined) throw failure;
        if (ended) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
  return stream;
}
