// The parser as the pipeline has it, for one line at a time; and the leaves of JSON values, to see that none is gone.
import { createLineParser, type ParsedLine } from '../../../src/cli/parse.ts';
import type { RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../../../src/indexing/batch.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createTagger } from '../../../src/tag/tag.ts';

export const RECORD_MS = Date.parse('2026-11-28T14:23:00.000Z');
export const TIME = '2026-11-28T14:22:41.607Z';
const PARSE = { maxRecordBytes: 50_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const ORIGIN = { kind: 'file', path: 'app.log', identity: 'app.log' } as const;

const parseLine = createLineParser({ parse: PARSE, mask: { keys: [], patterns: [] }, transforms: [] });

export function recordOf(line: string, eventId?: string): RawRecord {
  return { value: Buffer.from(line), offset: 42, timeMs: RECORD_MS, eventId };
}

export function parse(line: string, eventId?: string): ParsedLine {
  return parseLine(recordOf(line, eventId), ORIGIN);
}

/** The bytes that go to the sink: action line and document. */
export function itemOf(line: string, eventId?: string): string {
  const parser = createParser(PARSE, { masker: createMasker() });
  const batch = new Batch(1024);
  const record = recordOf(line, eventId);
  const result = parser.parse(record);
  if (!result.ok) throw new Error(result.reason);
  const chunk = { origin: ORIGIN, records: [record], bytes: 0, done() {} };
  createDocumentWriter(parser.time).append(batch, createTagger()(result.event), record, chunk, 0);
  return batch.item(0).toString();
}

/** A Winston line with further fields in front of its end. */
export function winston(fields: string, level = 'info'): string {
  return `{"timestamp":"${TIME}","level":"${level}","message":"m"${fields === '' ? '' : `,${fields}`}}`;
}

/** Every value that is no object and no list, as text, with those of JSON documents inside texts. */
export function leaves(value: unknown): string[] {
  if (typeof value === 'object' && value !== null) return Object.values(value).flatMap(leaves);
  if (typeof value === 'string' && value.startsWith('{')) {
    try {
      return leaves(JSON.parse(value));
    } catch {
      // Plain text.
    }
  }
  return [Object.is(value, -0) ? '-0' : String(value)];
}

export function missing(line: string, document: unknown): string[] {
  const there = new Set(leaves(document));
  return leaves(JSON.parse(line)).filter((leaf) => !there.has(leaf));
}
