// A stretch of a topic, each partition as a stream of its own. In: a range of record times. Out: per partition batches of records in
// order of their offsets. Guarantee: nobody's offsets move; a partition that nobody takes from is paused, so that at most
// MAX_HELD_BYTES and one batch of it are held; a stream ends at the range's end, also where no later record was ever written.
import type { Log } from '../core/log.ts';
import type { RawRecord } from '../core/record.ts';
import { withAdmin } from './kafka-admin.ts';
import { createKafka, type KafkaConfig } from './kafka-client.ts';
import { toRecords } from './kafka-records.ts';
import { type Flow, readTopic } from './topic-reader.ts';

const MAX_HELD_BYTES = 4 * 1024 * 1024;
const BATCH = 1_000;

export interface TopicStreams {
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
