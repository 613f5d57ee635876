// How far the indexer is behind, what was deleted before it was read, and what share of the records ends in the dead letters:
// from the brokers, so that it holds for all instances together. The share is that of the records since the run before.
import type { Admin, Kafka } from 'kafkajs';
import type { Probe, Reading } from './reading.ts';

export interface KafkaProbeOptions {
  readonly topic: string;
  readonly dlq: string;
  readonly group: string;
}

export function createKafkaProbe(options: KafkaProbeOptions, deps: { kafka: Kafka }): Probe {
  let admin: Promise<Admin> | undefined;
  let before: { logs: number; letters: number } | undefined;

  const connected = () => {
    admin ??= (async () => {
      const client = deps.kafka.admin();
      await client.connect();
      return client;
    })();
    return admin;
  };

  return {
    name: 'kafka',
    async run(signal) {
      try {
        const client = await connected();
        const [ends, committed, letterEnds] = await Promise.all([
          client.fetchTopicOffsets(options.topic),
          client.fetchOffsets({ groupId: options.group, topics: [options.topic] }),
          client.fetchTopicOffsets(options.dlq),
        ]);
        signal.throwIfAborted();
        const offsets = new Map(committed[0]?.partitions.map((row) => [row.partition, Number(row.offset)]));
        let lag = 0;
        let deleted = 0;
        for (const { partition, high, low } of ends) {
          const at = offsets.get(partition) ?? -1;
          lag += Number(high) - Math.max(at, Number(low));
          if (at >= 0) deleted += Math.max(0, Number(low) - at);
        }
        const readings: Reading[] = [
          { measure: 'kafka.lag', labels: { group: options.group }, value: lag },
          // Deleted before they were read, as long as nothing was committed behind them.
          { measure: 'logpipe.dropped', labels: { reason: 'retention' }, value: deleted },
        ];
        const now = { logs: sumHigh(ends), letters: sumHigh(letterEnds) };
        const logs = now.logs - (before?.logs ?? now.logs);
        // A dead letter may be written twice and a topic re-created: neither may give a share above one or below zero.
        const letters = Math.max(0, now.letters - (before?.letters ?? now.letters));
        before = now;
        if (logs > 0) {
          readings.push({ measure: 'logpipe.dead_letter_ratio', labels: {}, value: Math.min(1, letters / logs) });
        }
        return readings;
      } catch (error) {
        const client = admin;
        admin = undefined;
        await client?.then((connection) => connection.disconnect()).catch(() => {});
        throw error;
      }
    },
    async close() {
      await admin?.then((client) => client.disconnect()).catch(() => {});
    },
  };
}

function sumHigh(rows: readonly { high: string }[]): number {
  return rows.reduce((sum, { high }) => sum + Number(high), 0);
}
