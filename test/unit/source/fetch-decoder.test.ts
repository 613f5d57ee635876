// The fast decoder against kafkajs's own: the same objects for the same bytes.
import { createRequire } from 'node:module';
import fc from 'fast-check';
import kafkajs from 'kafkajs';
import { beforeAll, describe, expect, test } from 'vitest';
import { registerCodecs } from '../../../src/core/kafka-codecs.ts';
import { createDecode, installFetchDecoder } from '../../../src/source/fetch-decoder.ts';

type Decode = (bytes: Buffer) => Promise<object>;
interface Encoder {
  readonly buffer: Buffer;
  writeInt8(value: number): Encoder;
  writeInt16(value: number): Encoder;
  writeInt32(value: number): Encoder;
  writeInt64(value: number): Encoder;
  writeString(value: string): Encoder;
  writeEncoder(value: Encoder): Encoder;
  writeBuffer(value: Buffer): Encoder;
}
interface Batch {
  readonly firstOffset: number;
  readonly firstTimestamp: number;
  readonly producerId: number;
  readonly transactional: boolean;
  readonly appendTime: boolean;
  readonly control: boolean;
  readonly compression: number;
  readonly records: readonly Record[];
}
interface Record {
  readonly offsetDelta: number;
  readonly timestampDelta: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [string, Buffer | Buffer[]])[];
}

const require = createRequire(import.meta.url);
const EncoderClass = require('kafkajs/src/protocol/encoder') as new () => Encoder;
const { RecordBatch } = require('kafkajs/src/protocol/recordBatch/v0') as {
  RecordBatch(options: object): Promise<Encoder>;
};
const encodeRecord = require('kafkajs/src/protocol/recordBatch/record/v0') as (record: object) => Encoder;
const response = require('kafkajs/src/protocol/requests/fetch/v11/response') as { decode: Decode };

let theirs: Decode;
let ours: Decode;
beforeAll(() => {
  registerCodecs();
  // kafkajs's own: this test file is a process of its own, and nothing has been installed yet.
  theirs = response.decode;
  ours = createDecode(async () => {
    throw new Error('this format belongs to kafkajs');
  }) as Decode;
});

const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
const headerName = fc.oneof(fc.constantFrom('eventId', 'resent', 'é', 'aé', 'a', ''), fc.string({ maxLength: 12 }));
const record = fc.record({
  timestampDelta: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  key: fc.option(bytes),
  value: fc.option(
    fc.oneof(
      bytes,
      fc.integer({ min: 0, max: 20_000 }).map((length) => Buffer.alloc(length, 97)),
    ),
  ),
  headers: fc.array(fc.tuple(headerName, fc.oneof(bytes, fc.array(bytes, { minLength: 2, maxLength: 3 }))), {
    maxLength: 4,
  }),
});
const batch = fc.record({
  firstOffset: fc.oneof(fc.nat(), fc.integer({ min: 2 ** 31 - 2, max: 2 ** 50 })),
  firstTimestamp: fc.integer({ min: 0, max: 4e12 }),
  producerId: fc.integer({ min: -1, max: 2 ** 40 }),
  transactional: fc.boolean(),
  appendTime: fc.boolean(),
  control: fc.boolean(),
  compression: fc.constantFrom(0, 0, 1, 2, 3),
  records: fc
    .array(record, { minLength: 1, maxLength: 5 })
    .map((list) => list.map((item, i) => ({ ...item, offsetDelta: i * 3 }))),
});
const answer = fc.record({
  topics: fc.array(
    fc.record({
      name: fc.string({ minLength: 1, maxLength: 20 }),
      partitions: fc.array(
        fc.record({
          batches: fc.array(batch, { maxLength: 3 }),
          aborted: fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 2 }),
          /** Bytes missing at the end, as when a broker's limit cuts the last batch. */
          cut: fc.nat(80),
        }),
        { maxLength: 3 },
      ),
    }),
    { maxLength: 2 },
  ),
});

describe('fetch decoder', () => {
  test('makes of any answer what kafkajs makes of it', async () => {
    await fc.assert(
      fc.asyncProperty(answer, async ({ topics }) => {
        const raw = await encodeAnswer(topics);
        expect(await ours(raw)).toEqual(await theirs(raw));
      }),
      { numRuns: 100 },
    );
  });

  test('leaves message formats before version 2 to kafkajs', async () => {
    const set = Buffer.alloc(80);
    set[16] = 1;
    const raw = frame([{ name: 'old', partitions: [{ body: set, aborted: [] }] }]);
    const decode = createDecode(async () => 'theirs' as never);
    expect(await decode(raw)).toBe('theirs');
  });

  test('a batch cut off before its format is told is left out, where kafkajs throws', async () => {
    const raw = frame([{ name: 'cut', partitions: [{ body: Buffer.alloc(16), aborted: [] }] }]);
    await expect(theirs(raw)).rejects.toThrow(RangeError);
    expect(await ours(raw)).toMatchObject({ responses: [{ partitions: [{ messages: [] }] }] });
  });

  test('a record that reaches beyond its batch is an error, not a wrong record', async () => {
    const whole = await encodeBatch({
      firstOffset: 5,
      firstTimestamp: 0,
      producerId: -1,
      transactional: false,
      appendTime: true,
      control: false,
      compression: 0,
      records: [{ offsetDelta: 0, timestampDelta: 0, key: null, value: Buffer.from('abc'), headers: [] }],
    });
    whole[61] = 120;
    const raw = frame([{ name: 'broken', partitions: [{ body: whole, aborted: [] }] }]);
    await expect(ours(raw)).rejects.toThrow(/record 0 of 1/);
  });

  test('more records in one answer than a call has arguments', async () => {
    const records = Array.from({ length: 150_000 }, (_, offsetDelta) => ({
      offsetDelta,
      timestampDelta: 0,
      key: null,
      value: null,
      headers: [],
    }));
    const shared = { firstOffset: 0, firstTimestamp: 0, producerId: -1, transactional: false, appendTime: true };
    const body = await encodeBatch({ ...shared, control: false, compression: 0, records });
    const decoded = (await ours(frame([{ name: 'many', partitions: [{ body, aborted: [] }] }]))) as {
      responses: { partitions: { messages: { offset: string }[] }[] }[];
    };
    expect(decoded.responses[0]!.partitions[0]!.messages.at(-1)!.offset).toBe('149999');
  });

  test('goes into the kafkajs it was made for, once', () => {
    const own = response.decode;
    try {
      expect(installFetchDecoder()).toBe(true);
      const installed = response.decode;
      expect(installed).not.toBe(own);
      expect(installFetchDecoder()).toBe(true);
      expect(response.decode).toBe(installed);
      expect(require('kafkajs').Kafka).toBe(kafkajs.Kafka);
    } finally {
      response.decode = own;
    }
  });
});

/** Up to the byte that tells the format. */
const SHORTEST = 17;

async function encodeAnswer(
  topics: readonly {
    name: string;
    partitions: readonly { batches: Batch[]; aborted: [number, number][]; cut: number }[];
  }[],
): Promise<Buffer> {
  const encoded = [];
  for (const { name, partitions } of topics) {
    const bodies = [];
    for (const { batches, aborted, cut } of partitions) {
      const body = Buffer.concat(await Promise.all(batches.map(encodeBatch)));
      const length = Math.max(body.length - cut, 0);
      // Of less kafkajs cannot read the format and throws; that case has a test of its own.
      bodies.push({ body: body.subarray(0, length < SHORTEST ? 0 : length), aborted });
    }
    encoded.push({ name, partitions: bodies });
  }
  return frame(encoded);
}

function frame(
  topics: readonly { name: string; partitions: readonly { body: Buffer; aborted: [number, number][] }[] }[],
): Buffer {
  const out = new EncoderClass().writeInt32(7).writeInt16(0).writeInt32(42).writeInt32(topics.length);
  for (const { name, partitions } of topics) {
    out.writeString(name).writeInt32(partitions.length);
    for (const [i, { body, aborted }] of partitions.entries()) {
      out
        .writeInt32(i)
        .writeInt16(0)
        .writeInt64(2 ** 40)
        .writeInt64(2 ** 40 - 1)
        .writeInt64(0);
      out.writeInt32(aborted.length);
      for (const [producer, first] of aborted) out.writeInt64(producer).writeInt64(first);
      out.writeInt32(-1).writeInt32(body.length).writeBuffer(body);
    }
  }
  return out.buffer;
}

async function encodeBatch(batch: Batch): Promise<Buffer> {
  const { appendTime, control, records, ...rest } = batch;
  const encoder = await RecordBatch({
    ...rest,
    maxTimestamp: batch.firstTimestamp + 5,
    lastOffsetDelta: records.at(-1)!.offsetDelta,
    records: records.map(({ headers, ...record }) => encodeRecord({ ...record, headers: Object.fromEntries(headers) })),
  });
  const { buffer } = encoder;
  const bits = (appendTime ? 0x8 : 0) | (control ? 0x20 : 0);
  buffer.writeInt16BE(buffer.readInt16BE(21) | bits, 21);
  return Buffer.from(buffer);
}
