// How far a counter has come, by what it says itself in the counts topic: asking its process would cost that process something.
// In: the counts topic. Out: records counted so far; news comes twice a second, as the counter publishes.
import kafkajs from 'kafkajs';
import { decodeCounts } from '../src/measure/totals.ts';
import type { KafkaConfig } from '../src/source/kafka/client.ts';

export interface CounterProgress {
  /** Records that the counter says it has counted. */
  readonly position: number;
  /** Every partition it has reported was read to its end. */
  readonly caughtUp: boolean;
}

/** @param kafka with the counts topic, which must exist */
export async function followCounter(
  kafka: KafkaConfig,
): Promise<{ progress(): CounterProgress; end(): Promise<void> }> {
  const client = new kafkajs.Kafka({ brokers: [...kafka.brokers], logLevel: kafkajs.logLevel.NOTHING });
  const consumer = client.consumer({ groupId: `${kafka.counterGroup}-watch`, maxWaitTimeInMs: 50 });
  const lanes = new Map<string, CounterProgress>();
  await consumer.connect();
  await consumer.subscribe({ topics: [kafka.topics.counts], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      // Totals are long, and not needed here.
      if (message.key?.toString().startsWith('progress/') !== true) return;
      const counts = decodeCounts(message.value);
      if (counts?.kind === 'progress') lanes.set(counts.progress.lane, counts.progress);
    },
  });
  return {
    progress() {
      const all = [...lanes.values()];
      const position = all.reduce((sum, one) => sum + one.position, 0);
      return { position, caughtUp: all.every(({ caughtUp }) => caughtUp) };
    },
    end: () => consumer.disconnect(),
  };
}
