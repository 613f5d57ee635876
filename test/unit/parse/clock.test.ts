// Events of a host whose clock is wrong, by an error that is known: their time, their day, and what stays as it was.
import { expect, test } from 'vitest';
import type { RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createDocumentReader } from '../../../src/replay/record-document.ts';

const PARSE = { maxRecordBytes: 1_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const ARRIVED = '2026-11-25T00:01:00.000Z';
const ARRIVED_MS = Date.parse(ARRIVED);
const HOUR_MS = 3_600_000;
const parser = createParser(PARSE, { masker: createMasker() });

function eventOf(timestamp: unknown, clockErrorMs: number | undefined, more = '') {
  const record: RawRecord = {
    value: Buffer.from(`{"timestamp":${JSON.stringify(timestamp)},"level":"info","message":"m"${more}}`),
    ...{ offset: 1, timeMs: ARRIVED_MS, eventId: undefined },
    ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
  };
  const [fast, slow] = [parser.parse(record), parser.reparse(record)];
  if (!fast.ok || !slow.ok) throw new Error('refused');
  expect([slow.event.timeMs, slow.event.tags]).toEqual([fast.event.timeMs, fast.event.tags]);
  return fast.event;
}

test.each([
  // Logged a second before it arrived, by a clock that is an hour behind or ahead: another day, and out of range.
  ['2026-11-24T23:00:59.000Z', HOUR_MS, '2026-11-25T00:00:59.000Z'],
  ['2026-11-25T01:00:59.000Z', -HOUR_MS, '2026-11-25T00:00:59.000Z'],
  [Date.parse('2026-11-24T23:00:59.000Z'), HOUR_MS, '2026-11-25T00:00:59.000Z'],
])('%s by a clock that is off by %d ms', (timestamp, clockErrorMs, expected) => {
  const event = eventOf(timestamp, clockErrorMs);
  expect(parser.time.iso(event.timeMs)).toBe(expected);
  expect(event.tags).toEqual(['_clock_corrected']);
  expect(event.doc.timestamp).toEqual(timestamp);
});

test.each([
  ['its clock is right', '2026-11-25T00:00:59.000Z', undefined],
  ['an older event that was sent on', '2026-11-24T20:00:00.000Z', HOUR_MS],
  ['the time of another clock, which is right', '2026-11-25T00:00:59.000Z', HOUR_MS],
])('stays as it is: %s', (_name, timestamp, clockErrorMs) => {
  const event = eventOf(timestamp, clockErrorMs);
  expect(parser.time.iso(event.timeMs)).toBe(timestamp);
  expect(event.tags).toEqual([]);
});

test('without a time of its own the record time counts, as always', () => {
  const event = eventOf('soon', HOUR_MS);
  expect(event.timeMs).toBe(ARRIVED_MS);
  expect(event.tags).toContain('_time_missing');
  expect(event.tags).not.toContain('_clock_corrected');
});

test('a document that was corrected is read back on the same day', () => {
  const source = {
    ...{ '@timestamp': '2026-11-25T00:00:59.000Z', timestamp: '2026-11-24T23:00:59.000Z' },
    ...{ level: 'info', message: 'm', tags: ['_clock_corrected'] },
  };
  const { record } = createDocumentReader({ freshTags: false })('x', source, 0);
  const result = parser.parse(record);
  if (!result.ok) throw new Error(result.reason);
  expect(parser.time.iso(result.event.timeMs)).toBe('2026-11-25T00:00:59.000Z');
  expect(result.event.tags).toEqual(['_clock_corrected']);
});
