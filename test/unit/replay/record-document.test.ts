// A document that is read again becomes itself.
import { describe, expect, it } from 'vitest';
import type { RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../../../src/indexing/batch.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createDocumentReader } from '../../../src/replay/record-document.ts';
import { createTagger } from '../../../src/tag/tag.ts';

const START = Date.parse('2026-01-31T23:59:59.000Z');
const PARSE = { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const newParser = () => createParser(PARSE, { masker: createMasker(), duplicatesRefused: true });

function record(fields: object, extra: Partial<RawRecord> = {}): RawRecord {
  const value = Buffer.from(JSON.stringify({ timestamp: new Date(START).toISOString(), level: 'error', ...fields }));
  return { value, offset: 7, timeMs: START + 50, eventId: undefined, ...extra };
}

describe('a document that is read again', () => {
  const parser = newParser();
  const tag = createTagger();
  const origin = { kind: 'kafka', topic: 'logs', partition: 3 } as const;

  /** As the pipeline writes it. */
  function indexed(from: RawRecord, place: { kind: 'kafka'; topic: string; partition: number }) {
    const result = parser.parse(from);
    if (!result.ok) throw new Error(result.detail);
    const batch = new Batch(1_024);
    const chunk = { origin: place, records: [from], bytes: 0, done() {} };
    createDocumentWriter(parser.time).append(batch, tag(result.event), from, chunk, 0);
    return { ...batch.action(0), source: JSON.parse(batch.document(0).toString()) as Record<string, unknown> };
  }

  it.each([
    ['an error', record({ message: 'Call 1 failed', service: 'a', error: { name: 'E' } })],
    ['an error without a group of its own', record({ message: 'Call 1 failed' })],
    ['tags of its producer', record({ level: 'info', message: 'm', tags: ['mine', 'error'] })],
    ['a secret', record({ level: 'info', message: 'm', password: 'hunter2hunter2' })],
    ['a value in no type', record({ level: 'info', message: 'm', call: { durationMs: 'long' } })],
    ['no time', { ...record({}), value: Buffer.from('{"level":"info","message":"m"}') }],
    ['a time out of range', record({ timestamp: '2020-01-01T00:00:00.000Z', level: 'info', message: 'm' })],
    ['no JSON', { ...record({}), value: Buffer.from('plain text') }],
    [
      'an event id',
      record({ message: 'm', eventId: '01J00000000000000000000000' }, { eventId: '01J00000000000000000000000' }),
    ],
  ])('%s: becomes itself, under its id, on its day', (_, raw) => {
    const first = indexed(raw, origin);
    const stored = createDocumentReader({ freshTags: false })(first.id, first.source, 0);
    expect(stored.origin).toEqual(origin);
    const again = indexed(stored.record, origin);
    const sorted = (source: Record<string, unknown>) => ({
      ...source,
      tags: [...((source.tags as string[]) ?? [])].sort(),
    });
    expect({ ...again, source: sorted(again.source) }).toEqual({ ...first, source: sorted(first.source) });
  });

  it('keeps any id, and the action line stays JSON', () => {
    const id = 'a"b\\c\nä/😀';
    const again = indexed(createDocumentReader({ freshTags: false })(id, { message: 'm' }, START).record, origin);
    expect(again.id).toBe(id);
  });
});
