// What a partition carried before this process began to read it. In: a span of offsets. Out: the event ids of its records.
// The counter asks when it meets a record that the transport sent again and may have counted elsewhere. Moves nobody's
// offsets.
import type { Log } from '../core/log.ts';
import type { KafkaConfig } from './kafka-client.ts';
import { toRecords } from './kafka-records.ts';
import { readTopic } from './topic-reader.ts';

/** Records marked `redriven` or `replayed` are left out: they count nowhere. Rejects as `readTopic`. */
export function createKafkaRecall(
  config: KafkaConfig,
  log: Log,
): (partition: number, from: number, to: number, onId: (eventId: string, offset: number) => void) => Promise<void> {
  return async (partition, from, to, onId) => {
    const started = performance.now();
    let ids = 0;
    await readTopic(
      config,
      {
        topic: config.topics.logs,
        purpose: 'recall',
        from: new Map([[partition, { from, to }]]),
        follow: false,
        onRecord(message) {
          const [record] = toRecords([message]).records;
          const { eventId, offset, mark } = record!;
          if (eventId === undefined || mark === 'redriven' || mark === 'replayed') return true;
          onId(eventId, offset);
          ids += 1;
          return true;
        },
      },
      log,
    );
    log.info('looked back for records that were sent again', {
      partition,
      from,
      to,
      ids,
      ms: Math.round(performance.now() - started),
    });
  };
}
