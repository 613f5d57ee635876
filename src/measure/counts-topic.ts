// The counts topic. In: totals and progress. Out: records of two partitions, in order; and back again.
// Guarantee: `put` resolves only when every in-sync replica has all of it; it tries until then, or until `close`. Records that
// are written twice, or by a former owner that wakes up, change nothing: readers keep the totals with the highest `upToOffset`.
//
// LIVE has every message, in order, twenty versions of each bucket: whoever follows needs nothing else. LASTING has the final
// totals once more, with progress: a quarter of the bytes, which is what a take-over reads of earlier hours.
//
// Compaction keeps the last record of a key, not the best. Final totals of a bucket are the same whoever wrote them, so they
// have the key `partition/arrivalMs`. Those of an open bucket are not: a former owner that was paused may write older ones after
// newer ones. They have the key `open/partition`, which can never replace final ones, and the owner repeats them every minute,
// long before `min.compaction.lag.ms` (source/kafka/topics.ts).

import type { Kafka, Message, Producer } from 'kafkajs';
import kafkajs from 'kafkajs';
import { backoffMs, endsWithin, sleep, within } from '../core/clock.ts';
import { assertAcknowledged } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import { defaultPartitioner, explainKafkaFailure, isTooLargeForKafka } from '../source/kafka/client.ts';
import type { BucketTotals, CountsMessage, CountsSink, PartitionProgress } from './totals.ts';

const LASTING = 0;
export const LIVE = 1;
/**
 * How far back LIVE is read at a take-over. An owner repeats an open bucket every minute, so older ones can only be those of
 * a counter that died, and its successor counts that bucket again.
 */
export const LIVE_READ_MS = 3 * 60_000;

const FORMAT = 1;
const OPEN = 'open/';
const PROGRESS = 'progress/';
/** The beginning of open totals, as encodeCounts writes them. */
const OPEN_HEAD = /^\{"v":1,"open":true,"totals":\{"lane":"[^"\\]*","arrivalMs":(\d+),"upToOffset":(-?\d+),/;
const OPEN_HEAD_BYTES = 120;
/** One send is one record batch for the broker. A single message may be larger. */
const MAX_BATCH_BYTES = 900_000;
/** Below this size compression costs more than it saves. */
const MIN_COMPRESSED_BYTES = 2_000;
const BACKOFF = { firstMs: 100, maxMs: 5_000 };
/** Longer than kafkajs should ever need for one request with its retries. */
const SEND_TIMEOUT_MS = 60_000;
const CLOSE_MS = 5_000;

interface KafkaCounts extends CountsSink {
  /** Why nothing can be written now; undefined when nothing is wrong. */
  trouble(): string | undefined;
}

export function createKafkaCounts(deps: { kafka: Kafka; topic: string; log: Log }): KafkaCounts {
  const { kafka, topic, log } = deps;
  const closing = new AbortController();
  let producer: Producer | undefined;
  let trouble: string | undefined;
  let working: Promise<void> = Promise.resolve();

  const connect = async (): Promise<Producer> => {
    // Retries are limited on purpose, as everywhere: after a failed send the producer is thrown away, because its sequence
    // numbers would make the broker mistake the next, different batch for a repetition.
    const fresh = kafka.producer({
      createPartitioner: defaultPartitioner,
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      retry: { retries: 5 },
    });
    try {
      await fresh.connect();
      return fresh;
    } catch (error) {
      fresh.disconnect().catch(() => {});
      throw error;
    }
  };

  const discard = () => {
    producer?.disconnect().catch(() => {});
    producer = undefined;
  };

  const fail = (error: unknown, bytes: number) => {
    discard();
    const reason = isTooLargeForKafka(error)
      ? `totals of ${bytes} bytes are too large for topic ${topic}; raise its max.message.bytes`
      : explainKafkaFailure(error);
    if (trouble === undefined) log.error('counts cannot be written; trying until they can', { topic, error: reason });
    trouble = reason;
  };

  const send = async (messages: Message[], bytes: number): Promise<void> => {
    const { None, Snappy } = kafkajs.CompressionTypes;
    for (let failures = 1; ; failures++) {
      closing.signal.throwIfAborted();
      try {
        producer ??= await connect();
        const compression = bytes < MIN_COMPRESSED_BYTES ? None : Snappy;
        const sent = producer.send({ topic, acks: -1, compression, messages });
        const answers = await within(sent, SEND_TIMEOUT_MS, `Kafka did not answer within ${SEND_TIMEOUT_MS} ms`);
        assertAcknowledged(
          answers,
          messages.map(({ partition }) => partition!),
          topic,
        );
        break;
      } catch (error) {
        if (closing.signal.aborted) throw error;
        if (isTooLargeForKafka(error) && messages.length > 1) {
          discard();
          for (const message of messages) await send([message], sizeOf(message));
          return;
        }
        fail(error, bytes);
        await sleep(backoffMs(failures, BACKOFF), closing.signal);
      }
    }
    if (trouble !== undefined) log.info('counts are written again', { topic });
    trouble = undefined;
  };

  const putAll = async (messages: readonly CountsMessage[]) => {
    let batch: Message[] = [];
    let bytes = 0;
    for (const message of recordsOf(messages)) {
      const size = sizeOf(message);
      if (batch.length > 0 && bytes + size > MAX_BATCH_BYTES) {
        await send(batch, bytes);
        batch = [];
        bytes = 0;
      }
      batch.push(message);
      bytes += size;
    }
    if (batch.length > 0) await send(batch, bytes);
  };

  return {
    trouble: () => trouble,
    put(messages) {
      const mine = working.then(() => putAll(messages));
      working = mine.catch(() => {});
      return mine;
    },
    async close() {
      closing.abort(new Error('the counts topic is closed'));
      // This ends a send that is under way, too: `drain` has waited for what matters.
      const last = producer;
      producer = undefined;
      await endsWithin(Promise.all([last?.disconnect(), working]), CLOSE_MS).catch(() => {});
    },
  };
}

/**
 * The records of a publication, in order. In LIVE, final totals have the key of open ones: there they are only the last version,
 * and compaction keeps nothing twice.
 */
export function* recordsOf(messages: readonly CountsMessage[]): Generator<Message> {
  let lasting = false;
  for (const message of messages) {
    if (message.kind === 'totals' && message.open !== true) {
      lasting = true;
      yield { ...encodeCounts(message), partition: LASTING };
      // Not a copy of the message: copying would evaluate `totals`.
      yield { ...encodeCounts(message, true), partition: LIVE };
      continue;
    }
    const encoded = encodeCounts(message);
    // A take-over needs it when nothing was counted for longer than LIVE is read back.
    if (lasting && message.kind === 'progress') yield { ...encoded, partition: LASTING };
    yield { ...encoded, partition: LIVE };
  }
}

/** @param asOpen writes final totals like those of an open bucket */
export function encodeCounts(message: CountsMessage, asOpen = false): { readonly key: string; readonly value: string } {
  if (message.kind === 'progress') {
    const { progress } = message;
    return { key: `${PROGRESS}${progress.lane}`, value: JSON.stringify({ v: FORMAT, progress }) };
  }
  const { written } = message;
  const open = asOpen || message.open === true;
  const { lane: partition, arrivalMs } = written ?? message.totals;
  const json = written?.json ?? JSON.stringify(message.totals);
  const key = open ? `${OPEN}${partition}` : `${partition}/${arrivalMs}`;
  return { key, value: `{"v":${FORMAT},${open ? '"open":true,' : ''}"totals":${json}}` };
}

export function isProgress(key: string): boolean {
  return key.startsWith(PROGRESS);
}

/**
 * Which version of which open totals a record holds, without parsing it; undefined for every other record. `finalKey` is the
 * key that the final totals will have.
 */
export function openVersion(record: {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}): { readonly finalKey: string; readonly upToOffset: number } | undefined {
  const { key, value } = record;
  if (key === null || value === null || !key.toString().startsWith(OPEN)) return undefined;
  const partition = key.toString().slice(OPEN.length);
  const head = OPEN_HEAD.exec(value.toString('latin1', 0, OPEN_HEAD_BYTES + partition.length));
  if (head === null) return undefined;
  return { finalKey: `${partition}/${head[1]}`, upToOffset: Number(head[2]) };
}

/** Undefined for any other record: a tombstone, another format, something unknown. */
export function decodeCounts(value: Buffer | null): CountsMessage | undefined {
  if (value === null) return undefined;
  try {
    const record = JSON.parse(value.toString()) as {
      v?: unknown;
      totals?: Partial<BucketTotals>;
      progress?: Partial<PartitionProgress>;
      open?: boolean;
    } | null;
    if (record?.v !== FORMAT) return undefined;
    const { totals, progress } = record;
    if (typeof totals?.lane === 'string' && Array.isArray(totals.buckets)) {
      return { kind: 'totals', totals: totals as BucketTotals, open: record.open === true };
    }
    return typeof progress?.lane === 'string'
      ? { kind: 'progress', progress: progress as PartitionProgress }
      : undefined;
  } catch {
    return undefined;
  }
}

function sizeOf({ value }: Message): number {
  return typeof value === 'string' ? Buffer.byteLength(value) + 100 : 100;
}
