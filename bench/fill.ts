// The work every contender gets: a topic filled once, and the bulk bodies that the same records become.
// Guarantee: every record has an event id of its own, so no document is a duplicate of another.
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
import { createTagger } from '../src/tag/tag.ts';
import { sampleRecords } from './lines.ts';

export const PARTITIONS = 4;
/** Documents per bulk and bulks at a time, of every contender. */
export const BULK = { documents: 2_000, concurrency: 3 };
const PER_REQUEST = 1_000;

/** Creates `topic`, and `${topic}-empty` for measuring what a start costs. */
export async function createTopics(config: KafkaConfig, topic: string): Promise<void> {
  const admin = createKafka(config, silentLog).admin();
  await admin.connect();
  const configEntries = [{ name: 'message.timestamp.type', value: 'LogAppendTime' }];
  const topics = [topic, `${topic}-empty`].map((name) => ({ topic: name, numPartitions: PARTITIONS, configEntries }));
  await admin.createTopics({ topics, waitForLeaders: true });
  await admin.disconnect();
}

/**
 * Writes `events` lines into `topic`, 1,000 per partition in turn, and the bulk bodies they become into `bodiesFile`.
 * Returns the length of each body in bytes, in order, and the mean length of a line.
 */
export async function fill(
  config: KafkaConfig,
  options: { topic: string; events: number; bodiesFile: string },
): Promise<{ bodies: number[]; bytesPerLine: number }> {
  const { topic, events } = options;
  const producer = createKafka(config, silentLog).producer({ createPartitioner: defaultPartitioner });
  await producer.connect();
  const records = sampleRecords(events, Date.now() - events);
  const out = createWriteStream(options.bodiesFile);
  const bodies: number[] = [];
  const indexer = bodyBuilder((body) => {
    bodies.push(body.length);
    out.write(Buffer.from(body));
  });
  const offsets = new Array<number>(PARTITIONS).fill(0);
  let bytes = 0;
  for (let sent = 0; sent < events; sent += PER_REQUEST) {
    const partition = (sent / PER_REQUEST) % PARTITIONS;
    const part = records.slice(sent, sent + PER_REQUEST);
    const messages = part.map((r) => ({ value: r.value, partition, headers: { eventId: r.eventId! } }));
    await producer.send({ topic, messages });
    let partBytes = 0;
    for (const record of part) partBytes += record.value!.length;
    bytes += partBytes;
    const placed: RawRecord[] = part.map((record, i) => ({ ...record, offset: offsets[partition]! + i }));
    offsets[partition]! += part.length;
    const origin: Chunk['origin'] = { kind: 'kafka', topic, partition };
    await indexer.accept({ origin, records: placed, bytes: partBytes, done() {} });
  }
  await indexer.drain(60_000);
  await producer.disconnect();
  out.end();
  await finished(out);
  return { bodies, bytesPerLine: bytes / events };
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
