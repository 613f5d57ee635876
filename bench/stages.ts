// CPU per event of only the stages: no Kafka, no Elasticsearch. In: nothing; out: microseconds per event.
import { systemClock } from '../src/core/clock.ts';
import { silentLog } from '../src/core/log.ts';
import { createMetrics } from '../src/core/metrics.ts';
import type { Chunk } from '../src/core/record.ts';
import { createMasker } from '../src/core/secrets/mask.ts';
import { createDocumentWriter } from '../src/indexing/batch.ts';
import { createIndexer } from '../src/indexing/indexer.ts';
import { createParser } from '../src/parse/parse.ts';
import { createTagger } from '../src/tag/tag.ts';
import { sampleRecords } from './lines.ts';

/** Parse, tag and write bulk bodies into a sink that takes everything at once. */
export async function benchStages(events: number): Promise<{ cpuMicrosPerEvent: number; bytesPerLine: number }> {
  const records = sampleRecords(20_000, Date.now());
  const masker = createMasker();
  const parser = createParser(
    { maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 },
    { masker, duplicatesRefused: true },
  );
  const indexer = createIndexer(
    {
      maxBytes: 5e6,
      maxDocuments: 2000,
      maxDelayMs: 1000,
      concurrency: 3,
      maxInFlightBytes: 16e6,
      backoffMs: 1,
      maxBackoffMs: 1,
      maxRejectionsPerMinute: 1,
    },
    {
      parser,
      tag: createTagger(),
      documents: createDocumentWriter(parser.time),
      sinks: [{ name: 'none', async write() {}, async close() {} }],
      deadLetters: { async put() {}, async close() {} },
      toDeadLetter: () => {
        throw new Error('no record of this measurement is refused');
      },
      metrics: createMetrics(),
      log: silentLog,
      clock: systemClock,
    },
  );
  const run = async (count: number) => {
    for (let sent = 0; sent < count; sent += 2000) {
      const from = sent % records.length;
      const part = records.slice(from, from + 2000);
      let bytes = 0;
      for (const record of part) bytes += record.value!.length;
      const chunk: Chunk = { origin: { kind: 'kafka', topic: 'bench', partition: 0 }, records: part, bytes, done() {} };
      await indexer.accept(chunk);
    }
    await indexer.drain(10_000);
  };
  await run(events / 4);
  const before = process.cpuUsage();
  await run(events);
  const { user, system } = process.cpuUsage(before);
  const bytesPerLine = records.reduce((sum, r) => sum + r.value!.length, 0) / records.length;
  return { cpuMicrosPerEvent: (user + system) / events, bytesPerLine };
}
