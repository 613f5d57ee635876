// One kafkajs batch -> chunks for the pipeline, each with its segment of the offset tracker. With `splitMs` no chunk reaches
// over the beginning of an arrival bucket. Guarantee: chunks of a batch are delivered one after the other; none of an
// assignment that has ended.
import type { Batch } from 'kafkajs';
import type { ChunkOrigin, Deliver, RawRecord } from '../core/record.ts';
import { splitAtBuckets } from './bucket-split.ts';
import { firstOffsetOf, toRecords } from './kafka-records.ts';
import type { OffsetTracker } from './offset-tracker.ts';
import { hasPacked, unpackAll } from './record-batch.ts';

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
  const hand = (partition: number, records: readonly RawRecord[], bytes: number, first: number, last: number) => {
    const { done } = tracker.open(partition, first, last, records.length);
    return deliver({ origin: originOf(partition), records, bytes, done });
  };

  /** What an ended assignment leaves over is read again in the next one. */
  const handParts = async (partition: number, records: readonly RawRecord[], first: number, last: number) => {
    const cuts = splitMs === undefined ? [0, records.length] : splitAtBuckets(records, splitMs);
    const since = tracker.epoch;
    let from = first;
    for (let i = 0; i + 1 < cuts.length; i++) {
      if (ended(since)) return;
      const part = records.slice(cuts[i], cuts[i + 1]);
      const next = records[cuts[i + 1]!];
      const to = next === undefined ? last : next.offset - 1;
      let bytes = 0;
      for (const { value } of part) bytes += value?.length ?? 0;
      await hand(partition, part, bytes, from, to);
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
      await handParts(partition, toRecords(messages).records, first, last);
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
      if (splitMs !== undefined && splitAtBuckets(records, splitMs).length > 2) {
        return handParts(partition, records, first, last);
      }
      return hand(partition, records, bytes, first, last);
    },
  };
}
