// Kafka's record format as brokers.ts writes it: the same bytes as kafkajs writes, and kafkajs reads every field back.
import { createRequire } from 'node:module';
import fc from 'fast-check';
import theirCrc32C from 'kafkajs/src/protocol/recordBatch/crc32C/index.js';
import { expect, test } from 'vitest';
import { crc32C, encodeRecords } from '../../../src/ship/brokers.ts';
import type { ShipRecord } from '../../../src/ship/log-record.ts';

interface Decoder {
  readonly offset: number;
  readVarIntBytes(): Buffer;
}
interface Decoded {
  readonly attributes: number;
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer;
  readonly headers: Readonly<Record<string, Buffer>>;
}

const require = createRequire(import.meta.url);
const DecoderClass = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => Decoder;
const decodeRecord = require('kafkajs/src/protocol/recordBatch/record/v0/decoder') as (
  decoder: Decoder,
  batch: { firstOffset: string; firstTimestamp: string },
) => Decoded;
const encodeRecord = require('kafkajs/src/protocol/recordBatch/record/v0') as (record: object) => { buffer: Buffer };

/** As kafkajs's batch decoder goes through the records of a batch. */
function decodeAll(bytes: Buffer, count: number): Decoded[] {
  const decoder = new DecoderClass(bytes);
  const batch = { firstOffset: '1000', firstTimestamp: '1700000000000' };
  const records = Array.from({ length: count }, () => decodeRecord(new DecoderClass(decoder.readVarIntBytes()), batch));
  expect(decoder.offset).toBe(bytes.length);
  return records;
}

function check(records: readonly ShipRecord[], resent: boolean): void {
  const sentAt = resent ? undefined : 1_790_000_000_000;
  const isClockRight = records.length % 2 === 0;
  const bytes = encodeRecords(records, { resent, sentAt, isClockRight });
  const clock = isClockRight ? { clock: 'right' } : {};
  const headers = (eventId: string) => ({
    ...(resent ? { resent: '1' } : { sentAt: String(sentAt), ...clock }),
    eventId,
  });
  const theirs = records.map(({ key, line, eventId }, offsetDelta) =>
    encodeRecord({ offsetDelta, key, value: line, headers: headers(eventId) }),
  );
  // Not toEqual: on a failure it would print megabytes.
  expect(bytes.equals(Buffer.concat(theirs.map(({ buffer }) => buffer)))).toBe(true);
  decodeAll(bytes, records.length).forEach((decoded, i) => {
    const { key, line, eventId } = records[i]!;
    const { value, headers: read, ...rest } = decoded;
    expect(value.equals(Buffer.from(line))).toBe(true);
    expect(rest).toMatchObject({
      attributes: 0,
      offset: String(1_000 + i),
      timestamp: '1700000000000',
      key: key === null ? null : Buffer.from(key),
    });
    expect(Object.fromEntries(Object.entries(read).map(([name, bytes]) => [name, bytes.toString()]))).toEqual(
      headers(eventId),
    );
  });
}

/** Lengths around the places where a zigzag varint grows by a byte: 2^6, 2^13, 2^20. */
const boundary = fc
  .tuple(fc.constantFrom(64, 8_192, 1_048_576), fc.integer({ min: -90, max: 5 }))
  .map(([size, delta]) => Math.max(0, size + delta));
const text = fc.string({ unit: 'binary', maxLength: 80 });
/** Any text, filled up with one, two, three or four bytes per character to about the wanted number of bytes. */
const sized = fc
  .tuple(text, boundary, fc.constantFrom('x', 'ü', '€', '😀'))
  .map(
    ([start, bytes, fill]) =>
      start + fill.repeat(Math.max(0, bytes - Buffer.byteLength(start)) / Buffer.byteLength(fill)),
  );
const line = fc.oneof({ weight: 3, arbitrary: text }, { weight: 1, arbitrary: sized });
const key = fc.oneof(
  fc.constant(null),
  text,
  fc.integer({ min: 60, max: 68 }).map((length) => 'k'.repeat(length)),
);
const eventId = fc.string({
  unit: fc.constantFrom(...'0123456789ABCDEFGHJKMNPQRSTVWXYZ'),
  minLength: 26,
  maxLength: 26,
});
const record = fc
  .record({ line, key, eventId })
  .map((fields): ShipRecord => ({ ...fields, bytes: Buffer.byteLength(fields.line) }));

test('any records: the bytes that kafkajs writes, and reads back', () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 12 }), fc.boolean(), (records, resent) => check(records, resent)),
    { numRuns: 300 },
  );
});

test('every length from 0 to 200 and around each boundary', () => {
  const lengths = [...Array(200).keys()];
  for (const size of [8_192, 1_000_000, 1_048_576]) for (let at = size - 100; at < size + 3; at++) lengths.push(at);
  const one = (bytes: number): ShipRecord => ({ line: 'x'.repeat(bytes), key: null, eventId: '0'.repeat(26), bytes });
  for (const length of lengths) {
    const bytes = encodeRecords([one(length)], { resent: length % 2 === 0 });
    const [decoded] = decodeAll(bytes, 1);
    expect(decoded!.value.length).toBe(length);
  }
});

test('the largest batch: offsets across the boundaries too', () => {
  const records = Array.from({ length: 10_000 }, (_, n): ShipRecord => {
    const text = `{"n":${n}}`;
    return { line: text, key: n % 3 === 0 ? `CA${n}` : null, eventId: String(n).padStart(26, '0'), bytes: text.length };
  });
  check(records, true);
});

test('the checksum is kafkajs’s, for any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const buffer = Buffer.from(bytes);
      expect(crc32C(buffer)).toBe(theirCrc32C(buffer));
    }),
  );
});
