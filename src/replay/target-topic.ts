// Another topic as a target. In: batches. Out: records as a producer would have sent them, masked, with their event id and
// marked `replayed`, so that nothing counts them. Guarantee: never the topics the pipeline lives on; after a kill, records
// that had arrived although their position was not saved are recognised by `replay-origin` and not sent again.
import type { Message, Producer } from 'kafkajs';
import { LogpipeError } from '../core/errors.ts';
import { assertAcknowledged } from '../core/kafka-acks.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { documentId } from '../indexing/document.ts';
import { withAdmin } from '../source/kafka-admin.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../source/kafka-client.ts';
import { failedReading } from '../source/kafka-failures.ts';
import { readTopic } from '../source/topic-reader.ts';
import { plainDocuments } from './plain-documents.ts';
import type { Target } from './target.ts';

/** @throws LogpipeError LOGPIPE_USAGE for a topic of the pipeline's own */
export function checkTopic(topic: string, topics: KafkaConfig['topics']): void {
  const own = (['logs', 'dlq', 'counts', 'alerts'] as const).find((name) => topics[name] === topic);
  if (own === undefined) return;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--to-topic: ${topic} is kafka.topics.${own}, which the live pipeline works on; name another topic`,
  );
}

export function createTopicTarget(
  topic: string,
  name: string,
  config: KafkaConfig,
  deps: { log: Log; metrics: Metrics },
): Target {
  const { log, metrics } = deps;
  checkTopic(topic, config.topics);
  const kafka = createKafka(config, log);
  /** Where each record lies that an earlier start had sent beyond its saved positions, until its lane comes to it again. */
  const arrived = new Map<string, { readonly partition: number; readonly offset: number }>();
  let producer: Producer | undefined;
  let partitions: number[] = [];

  async function readEnds(): Promise<Record<string, number>> {
    try {
      const rows = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(topic));
      partitions = rows.map(({ partition }) => partition).sort((a, b) => a - b);
      return Object.fromEntries(rows.map(({ partition, high }) => [String(partition), Number(high)]));
    } catch (error) {
      throw failedReading(error, config, topic);
    }
  }

  async function connect(): Promise<Producer> {
    if (producer) return producer;
    const fresh = kafka.producer({
      createPartitioner: defaultPartitioner,
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
    });
    await fresh.connect();
    producer = fresh;
    return fresh;
  }

  return {
    documents: plainDocuments,
    stepwise: true,
    has: (key) => arrived.delete(key),
    async prepare(saved) {
      const ends = await readEnds();
      if (saved === undefined) return;
      const wanted = new Map(
        partitions.map((partition) => [
          partition,
          { from: saved[partition] ?? 0, to: ends[partition] ?? Number.POSITIVE_INFINITY },
        ]),
      );
      await readTopic(
        config,
        {
          topic,
          purpose: 'replay-resume',
          from: wanted,
          follow: false,
          onRecord({ headers, offset }, partition) {
            if (String(headers?.replayed) === name) {
              arrived.set(String(headers?.['replay-origin']), { partition, offset: Number(offset) });
            }
            return true;
          },
        },
        log,
      );
    },
    sink: {
      name: 'topic',
      async write(batch) {
        const messages: Message[] = batch.items.map(({ record, chunk }, i) => {
          const { origin } = chunk;
          const place = origin.kind === 'kafka' ? origin.partition : 0;
          return {
            value: Buffer.from(batch.document(i)),
            partition: partitions[place % partitions.length]!,
            headers: {
              ...(record.eventId === undefined ? {} : { eventId: record.eventId }),
              replayed: name,
              'replay-origin': documentId(record, chunk),
            },
          };
        });
        const answers = await (await connect()).send({ topic, acks: -1, messages });
        assertAcknowledged(
          answers,
          messages.map(({ partition }) => partition!),
          topic,
        );
        metrics.indexed.inc({ sink: 'topic' }, batch.count);
      },
      async close() {
        await producer?.disconnect();
      },
    },
    // From where a later start looks for what had arrived: the ends, or before them what this one has not come to yet. What
    // a later start finds there though its position was saved stays unclaimed: it is read again, never sent again.
    async checkpoint() {
      const from = await readEnds();
      for (const { partition, offset } of arrived.values()) from[partition] = Math.min(from[partition]!, offset);
      return from;
    },
    counts: () => ({}),
  };
}
