// The logs of an incident. In: records as they were stored. Out: matching documents as NDJSON in a gzip file, and what there is to say
// about them. Guarantee: documents as the pipeline would index them, masked once more; memory does not grow with their number.
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Masker } from '../core/mask.ts';
import type { RawRecord } from '../core/record.ts';
import { Batch } from '../indexing/batch.ts';
import { createDocumentWriter } from '../indexing/document.ts';
import { createParser, type ParseConfig } from '../parse/parse.ts';
import type { Matches } from '../replay/where.ts';
import type { StoredRecord } from '../simulate/feed.ts';
import { createTagger } from '../tag/tag.ts';
import { createFacts, type Facts } from './facts.ts';

export interface LogsOptions {
  readonly path: string;
  readonly topic: string;
  readonly parse: ParseConfig;
  /** By event time. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly where: Matches | undefined;
}

export interface IncidentLogs {
  /** Resolves when there is room for more. */
  take(record: StoredRecord): Promise<void> | undefined;
  /** Resolves when the file is complete. */
  close(): Promise<Facts>;
}

type Document = Record<string, unknown>;

export function createLogs(options: LogsOptions, masker: Masker): IncidentLogs {
  const { path, fromMs, toMs, where } = options;
  const toDocument = createReader(options, masker);
  const facts = createFacts();
  const gzip = createGzip();
  // Logs may hold what is nobody else's business, even without secrets.
  const written = pipeline(gzip, createWriteStream(path, { mode: 0o600 }));
  // Looked at in `take` and `close`; until then a failure is no unhandled one.
  written.catch(() => {});

  return {
    take(record) {
      const document = toDocument(record);
      if (document === undefined) return undefined;
      const timeMs = Date.parse(String(document['@timestamp']));
      if (!(timeMs >= fromMs && timeMs < toMs)) return undefined;
      if (where !== undefined && !where(document)) return undefined;
      facts.add(document, timeMs);
      if (gzip.write(`${JSON.stringify(document)}\n`)) return undefined;
      return Promise.race([new Promise<void>((resolve) => gzip.once('drain', resolve)), written]);
    },
    async close() {
      gzip.end();
      await written;
      return facts.result();
    },
  };
}

function createReader({ parse, topic }: LogsOptions, masker: Masker): (record: StoredRecord) => Document | undefined {
  const parser = createParser(parse, { masker });
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const batch = new Batch(64 * 1024);

  function read({ arrivalMs, lane, offset = 0, value, eventId, mark }: StoredRecord): Document | undefined {
    // Counted and indexed when they first arrived.
    if (mark === 'redriven' || mark === 'replayed') return undefined;
    const record: RawRecord = { value, offset, timeMs: arrivalMs, eventId };
    const result = parser.parse(record);
    if (!result.ok) return undefined;
    batch.clear();
    const origin = { kind: 'kafka', topic, partition: lane } as const;
    documents.append(batch, tag(result.event), record, { origin, records: [record], bytes: 0, done() {} });
    return JSON.parse(batch.document(0).toString()) as Document;
  }

  return (record) => {
    const document = record.document ?? read(record);
    return document === undefined ? undefined : (masker.value(document) as Document);
  };
}
