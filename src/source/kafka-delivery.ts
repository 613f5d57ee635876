// One kafkajs batch -> chunks for the pipeline, each with its segment of the offset tracker. With `splitMs` no chunk reaches
// over the beginning of an arrival bucket, nor over a moment when the brokers' clock was set back. Guarantee: chunks of a batch are
// delivered one after the other; none of an assignment that has ended.
import type { Batch, KafkaMessage } from 'kafkajs';
import { SET_BACK_MS } from '../core/clock.ts';
import type { ChunkOrigin, Deliver, RawRecord } from '../core/record.ts';
import { splitAtBuckets } from './bucket-split.ts';
import { firstOffsetOf, toRecords } from './kafka-records.ts';
import type { OffsetTracker } from './offset-tracker.ts';
import { hasPacked, isAppendTime, unpackAll } from './record-batch.ts';

export interface KafkaDelivery {
  /**
   * Delivers what the batch holds; the first chunk synchronously unless it has to be unpacked. Resolves when all of it was
   * taken. @throws Error for faults of the process while unpacking
   */
  take(batch: Batch): Promise<void>;
}

export function createKafkaDelivery(
  options: { topic: string; splitMs: number | undefined },
  deps: { tracker: OffsetTracker; deliver: Deliver; isStopping: () => boolean },
): KafkaDelivery {
  const { topic, splitMs } = options;
  const { tracker, deliver, isStopping } = deps;
  const origins = new Map<number, ChunkOrigin>();

  const originOf = (partition: number): ChunkOrigin => {
    const origin: ChunkOrigin = origins.get(partition) ?? { kind: 'kafka', topic, partition };
    origins.set(partition, origin);
    return origin;
  };

  const ended = (since: number) => since !== tracker.epoch || isStopping();

  /** Delivers records as one chunk that covers the offsets `first` to `last`. */
  const hand = (
    partition: number,
    records: readonly RawRecord[],
    bytes: number,
    first: number,
    last: number,
    setBack = false,
  ) => {
    const { done } = tracker.open(partition, first, last, records.length);
    return deliver({ origin: originOf(partition), records, bytes, done, ...(setBack && { setBack }) });
  };

  /** The newest time that a broker gave in this assignment, by partition. */
  const newest = new Map<number, number>();
  let newestEpoch = tracker.epoch;

  /**
   * Indexes of records before which the clock was set back. Producers' times say nothing of the kind: they go back whenever hosts
   * differ.
   */
  const setBacks = (partition: number, messages: readonly KafkaMessage[]): ReadonlySet<number> => {
    const found = new Set<number>();
    if (splitMs === undefined) return found;
    if (newestEpoch !== tracker.epoch) newest.clear();
    newestEpoch = tracker.epoch;
    let newestMs = newest.get(partition) ?? 0;
    let text = '';
    for (let i = 0; i < messages.length; i++) {
      const message = messages[i]!;
      // All records of a batch have the very same time.
      if (message.timestamp === text) continue;
      text = message.timestamp;
      if (!isAppendTime(message)) continue;
      const timeMs = Number(text);
      if (newestMs - timeMs > SET_BACK_MS) {
        found.add(i);
        newestMs = timeMs;
      }
      newestMs = Math.max(newestMs, timeMs);
    }
    newest.set(partition, newestMs);
    return found;
  };

  /** What an ended assignment leaves over is read again in the next one. */
  const handParts = async (
    partition: number,
    records: readonly RawRecord[],
    first: number,
    last: number,
    backs: ReadonlySet<number>,
  ) => {
    const cuts = cutsOf(records, splitMs, backs);
    const since = tracker.epoch;
    let from = first;
    for (let i = 0; i + 1 < cuts.length; i++) {
      if (ended(since)) return;
      const part = records.slice(cuts[i], cuts[i + 1]);
      const next = records[cuts[i + 1]!];
      const to = next === undefined ? last : next.offset - 1;
      let bytes = 0;
      for (const { value } of part) bytes += value?.length ?? 0;
      await hand(partition, part, bytes, from, to, backs.has(cuts[i]!));
      from = to + 1;
    }
  };

  /** Slice by slice: the next one is unpacked when the pipeline has room for it. */
  const takePacked = async (batch: Batch) => {
    const { partition } = batch;
    const since = tracker.epoch;
    let first = firstOffsetOf(batch);
    for await (const messages of unpackAll(batch.messages, first)) {
      if (ended(since)) return;
      const last = Number(messages[messages.length - 1]!.offset);
      await handParts(partition, toRecords(messages).records, first, last, setBacks(partition, messages));
      first = last + 1;
    }
    const last = Number(batch.lastOffset());
    if (!ended(since) && first <= last) tracker.open(partition, first, last, 0);
  };

  return {
    take(batch) {
      const { partition, messages } = batch;
      if (hasPacked(messages)) return takePacked(batch);
      const { records, bytes } = toRecords(messages);
      const first = firstOffsetOf(batch);
      // `lastOffset` includes transaction markers and aborted records behind the last record.
      const last = Number(batch.lastOffset());
      const backs = setBacks(partition, messages);
      if (splitMs !== undefined && (backs.size > 0 || splitAtBuckets(records, splitMs).length > 2)) {
        return handParts(partition, records, first, last, backs);
      }
      return hand(partition, records, bytes, first, last);
    },
  };
}

function cutsOf(
  records: readonly RawRecord[],
  splitMs: number | undefined,
  backs: ReadonlySet<number>,
): readonly number[] {
  if (splitMs === undefined) return [0, records.length];
  if (backs.size === 0) return splitAtBuckets(records, splitMs);
  // Each stretch of its own: what lies before does not make its buckets late.
  const cuts = [0];
  const bounds = [...backs].filter((at) => at > 0).concat(records.length);
  for (const bound of bounds) {
    const from = cuts.at(-1)!;
    cuts.push(
      ...splitAtBuckets(records.slice(from, bound), splitMs)
        .slice(1)
        .map((at) => from + at),
    );
  }
  return cuts;
}
