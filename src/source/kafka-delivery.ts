// One kafkajs batch -> chunks for the pipeline, each with its segment of the offset tracker. With `splitMs` no chunk reaches
// over the beginning of an arrival bucket. Guarantee: chunks of a batch are delivered one after the other; none of an
// assignment that has ended.
import type { Batch } from 'kafkajs';
import type { ChunkOrigin, Deliver, RawRecord } from '../core/record.ts';
import { splitAtBuckets } from './bucket-split.ts';
import { toRecords } from './kafka-records.ts';
import type { OffsetTracker } from './offset-tracker.ts';

export interface KafkaDelivery {
  /** Delivers what the batch holds; the first chunk synchronously. Resolves when all of it was taken. */
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

  /** What an ended assignment leaves over is read again in the next one. */
  const takeParts = async (batch: Batch, records: readonly RawRecord[], cuts: readonly number[]) => {
    const { partition } = batch;
    const since = tracker.epoch;
    let first = Number(batch.firstOffset());
    for (let i = 0; i + 1 < cuts.length; i++) {
      if (since !== tracker.epoch || isStopping()) return;
      const part = records.slice(cuts[i], cuts[i + 1]);
      const next = records[cuts[i + 1]!];
      const last = next === undefined ? Number(batch.lastOffset()) : next.offset - 1;
      const { done } = tracker.open(partition, first, last, part.length);
      first = last + 1;
      let bytes = 0;
      for (const { value } of part) bytes += value?.length ?? 0;
      await deliver({ origin: originOf(partition), records: part, bytes, done });
    }
  };

  return {
    take(batch) {
      const { partition, messages } = batch;
      const { records, bytes } = toRecords(messages);
      if (splitMs !== undefined) {
        const cuts = splitAtBuckets(records, splitMs);
        if (cuts.length > 2) return takeParts(batch, records, cuts);
      }
      const first = Number(batch.firstOffset());
      // `lastOffset` includes transaction markers and aborted records behind the last record.
      const { done } = tracker.open(partition, first, Number(batch.lastOffset()), records.length);
      return deliver({ origin: originOf(partition), records, bytes, done });
    },
  };
}
