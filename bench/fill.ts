// The work every contender gets: a topic filled once, and the bulk bodies that the same records become, where they are asked for.
// Guarantee: records that have event ids have each their own, so no document is a duplicate of another.
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { systemClock } from '../src/core/clock.ts';
import { silentLog } from '../src/core/log.ts';
import { createMetrics } from '../src/core/metrics.ts';
import type { Chunk, RawRecord } from '../src/core/record.ts';
import { createMasker } from '../src/core/secrets/mask.ts';
import { createDocumentWriter } from '../src/indexing/batch.ts';
import { createIndexer } from '../src/indexing/indexer.ts';
import { createParser } from '../src/parse/parse.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../src/source/kafka/client.ts';
import { createUsable } from '../src/source/kafka/topics.ts';
import { createTagger } from '../src/tag/tag.ts';
import { EVENTS_PER_SECOND, type LineOf, sampleRecords } from './lines.ts';

export const PARTITIONS = 4;
/** Documents per bulk and bulks at a time, of every contender. */
export const BULK = { documents: 2_000, concurrency: 3 };
const PER_REQUEST = 1_000;

/** Creates `topic`, and `${topic}-empty` for measuring what a start costs. */
export async function createTopics(config: KafkaConfig, topic: string, partitions = PARTITIONS): Promise<void> {
  const admin = createKafka(config, silentLog).admin();
  await admin.connect();
  // As if it had been written while it happened, not within a few seconds.
  const configEntries = [{ name: 'message.timestamp.type', value: 'CreateTime' }];
  for (const name of [topic, `${topic}-empty`])
    await createUsable(admin, { topic: name, numPartitions: partitions, configEntries });
  await admin.disconnect();
}

/**
 * Writes `events` lines into `topic`, 1,000 per partition in turn, and the bulk bodies they become into `bodiesFile`.
 * Returns the length of each body in bytes, in order, and the mean length of a line.
 */
export async function fill(
  config: KafkaConfig,
  options: { topic: string; events: number; bodiesFile?: string; line?: LineOf; partitions?: number },
): Promise<{ bodies: number[]; bytesPerLine: number }> {
  const { topic, events, bodiesFile, line, partitions = PARTITIONS } = options;
  const producer = createKafka(config, silentLog).producer({ createPartitioner: defaultPartitioner });
  await producer.connect();
  const startMs = Date.now() - Math.ceil((events * 1_000) / EVENTS_PER_SECOND);
  const bodies = bodiesFile === undefined ? undefined : bodiesWriter(bodiesFile, topic, partitions);
  let bytes = 0;
  for (let sent = 0; sent < events; sent += PER_REQUEST) {
    const partition = (sent / PER_REQUEST) % partitions;
    const part = sampleRecords(Math.min(PER_REQUEST, events - sent), startMs, line, sent);
    const messages = part.map(({ value, eventId, timeMs }) => ({
      ...{ value, partition, timestamp: String(timeMs) },
      ...(eventId === undefined ? {} : { headers: { eventId } }),
    }));
    await producer.send({ topic, messages });
    for (const record of part) bytes += record.value!.length;
    await bodies?.add(part, partition);
  }
  await producer.disconnect();
  return { bodies: (await bodies?.end()) ?? [], bytesPerLine: bytes / events };
}

function bodiesWriter(file: string, topic: string, partitions: number) {
  const out = createWriteStream(file);
  const lengths: number[] = [];
  const offsets = new Array<number>(partitions).fill(0);
  const indexer = bodyBuilder((body) => {
    lengths.push(body.length);
    out.write(Buffer.from(body));
  });
  return {
    async add(records: readonly RawRecord[], partition: number): Promise<void> {
      const placed = records.map((record, i): RawRecord => ({ ...record, offset: offsets[partition]! + i }));
      offsets[partition]! += records.length;
      const bytes = records.reduce((sum, { value }) => sum + value!.length, 0);
      const origin: Chunk['origin'] = { kind: 'kafka', topic, partition };
      await indexer.accept({ origin, records: placed, bytes, done() {} });
    },
    /** Lengths of the bodies, in order. */
    async end(): Promise<number[]> {
      await indexer.drain(60_000);
      out.end();
      await finished(out);
      return lengths;
    },
  };
}

/** logpipe's own stages in front of a sink that keeps the bodies. */
function bodyBuilder(take: (body: Buffer) => void) {
  const parser = createParser({ maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 }, { masker: createMasker() });
  return createIndexer(
    {
      maxBytes: 5_000_000,
      maxDocuments: BULK.documents,
      maxDelayMs: 60_000,
      concurrency: 1,
      maxInFlightBytes: 16e6,
      backoffMs: 1,
      maxBackoffMs: 1,
      maxRejectionsPerMinute: 1,
    },
    {
      parser,
      tag: createTagger(),
      documents: createDocumentWriter(parser.time),
      sinks: [
        {
          name: 'bodies',
          async write(batch) {
            take(batch.body());
          },
          async close() {},
        },
      ],
      deadLetters: { async put() {}, async close() {} },
      toDeadLetter: () => {
        throw new Error('no record of this measurement is refused');
      },
      metrics: createMetrics(),
      log: silentLog,
      clock: systemClock,
    },
  );
}
