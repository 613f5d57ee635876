// The logs of an incident. In: records as they were stored. Out: matching documents as NDJSON in a gzip file, and what there is to say
// about them. Guarantee: documents as the pipeline would index them, masked once more; no record ends it: what is no document is
// written as the beginning of its text, and counted; memory does not grow with their number; the file has its name only when it is
// whole.
import { createWriteStream, renameSync, rmSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { errorText } from '../core/errors.ts';
import type { Masker } from '../core/mask.ts';
import { openPrivateSync } from '../core/private-files.ts';
import { bounded } from '../core/safe-json.ts';
import { visibleJson } from '../core/terminal-text.ts';
import { hasExactNumbers, settleNumbers, unsettleNumbers } from '../parse/json.ts';
import type { ParseConfig } from '../parse/parse.ts';
import { createRecordReader, maskedText, shownText } from '../replay/record-document.ts';
import { storedText } from '../replay/stored-document.ts';
import type { Matches } from '../replay/where.ts';
import type { StoredRecord } from '../simulate/feed.ts';
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
  /** Resolves when the file is whole and has its name. */
  close(): Promise<{ readonly facts: Facts; readonly refused: RefusedFacts }>;
  /** Leaves no file behind. */
  abandon(): Promise<void>;
}

/** Records of the stretch, by arrival, that are no documents. */
export interface RefusedFacts {
  readonly count: number;
  readonly byReason: Readonly<Record<string, number>>;
  /** False when only matching logs were asked for: what has no fields matches nothing. */
  readonly written: boolean;
}

type Document = Record<string, unknown>;
type Read = { readonly document: Document } | { readonly reason: string; readonly detail: string } | undefined;

const MAX_TEXT = 8_192;

export function createLogs(options: LogsOptions, masker: Masker): IncidentLogs {
  const { path, fromMs, toMs, where } = options;
  const read = createReader(options, masker);
  const facts = createFacts();
  const refused = new Map<string, number>();
  const draft = `${path}.part`;
  rmSync(draft, { force: true });
  const gzip = createGzip();
  // Logs may hold what is nobody else's business, even without secrets.
  const written = pipeline(gzip, createWriteStream(draft, { fd: openPrivateSync(draft, 'wx') }));
  let waiting: ((error: unknown) => void) | undefined;
  // Looked at in `take` and `close`; until then a failure is no unhandled one.
  written.catch((error: unknown) => waiting?.(error));

  function write(document: Document): Promise<void> | undefined {
    if (gzip.write(`${visibleJson(storedText(document))}\n`)) return undefined;
    return new Promise<void>((resolve, reject) => {
      waiting = reject;
      gzip.once('drain', resolve);
    });
  }

  function takeDocument(document: Document): Promise<void> | undefined {
    const time = document['@timestamp'];
    const timeMs = typeof time === 'string' || typeof time === 'number' ? Date.parse(String(time)) : Number.NaN;
    if (!(timeMs >= fromMs && timeMs < toMs)) return undefined;
    if (where !== undefined && !where(document)) return undefined;
    facts.add(document, timeMs);
    return write(document);
  }

  function takeRefused(record: StoredRecord, reason: string, detail: string): Promise<void> | undefined {
    const { arrivalMs, value, lane, offset = 0 } = record;
    // It has no event time.
    if (!(arrivalMs >= fromMs && arrivalMs < toMs)) return undefined;
    refused.set(reason, (refused.get(reason) ?? 0) + 1);
    if (where !== undefined) return undefined;
    return write({
      '@timestamp': new Date(arrivalMs).toISOString(),
      tags: ['_parse_failed'],
      kafka: { topic: options.topic, partition: lane, offset },
      message: shownText(value, masker, MAX_TEXT),
      refused: { reason, detail: maskedText(detail, masker), bytes: value?.length ?? 0 },
    });
  }

  return {
    take(record) {
      const found = read(record);
      if (found === undefined) return undefined;
      if ('document' in found) {
        try {
          return takeDocument(found.document);
        } catch (error) {
          return takeRefused(record, 'processing_failed', errorText(error));
        }
      }
      return takeRefused(record, found.reason, found.detail);
    },
    async close() {
      gzip.end();
      await written;
      renameSync(draft, path);
      const byReason = Object.fromEntries([...refused].sort(([a], [b]) => (a < b ? -1 : 1)));
      const count = [...refused.values()].reduce((sum, value) => sum + value, 0);
      return { facts: facts.result(), refused: { count, byReason, written: where === undefined } };
    },
    async abandon() {
      gzip.destroy();
      await written.catch(() => {});
      rmSync(draft, { force: true });
    },
  };
}

function createReader({ parse, topic }: LogsOptions, masker: Masker): (record: StoredRecord) => Read {
  const toDocument = createRecordReader(parse, { masker });

  function parsed({ arrivalMs, lane, offset = 0, value, eventId, mark, clockErrorMs }: StoredRecord): Read {
    // Counted and indexed when they first arrived.
    if (mark === 'redriven' || mark === 'replayed') return undefined;
    const origin = { kind: 'kafka', topic, partition: lane } as const;
    const known = clockErrorMs === undefined ? {} : { clockErrorMs };
    const result = toDocument({ value, offset, timeMs: arrivalMs, eventId, ...known }, origin);
    return result.ok ? { document: result.document } : { reason: result.reason, detail: result.detail };
  }

  return (record) => {
    const found = record.document === undefined ? parsed(record) : { document: record.document };
    if (found === undefined || !('document' in found)) return found;
    try {
      const { document } = found;
      if (!hasExactNumbers(document)) return { document: masker.value(bounded(document)) as Document };
      // What is masked is a copy: the numbers' texts go with the values.
      const masked = masker.value(bounded(unsettleNumbers(document))) as Document;
      settleNumbers(masked);
      return { document: masked };
    } catch (error) {
      return { reason: 'processing_failed', detail: errorText(error) };
    }
  };
}
