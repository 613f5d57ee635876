// Record batches as a broker stores them, by kafkajs's own encoder.
import { createRequire } from 'node:module';

export interface Encoder {
  readonly buffer: Buffer;
  writeInt8(value: number): Encoder;
  writeInt16(value: number): Encoder;
  writeInt32(value: number): Encoder;
  writeInt64(value: number): Encoder;
  writeString(value: string): Encoder;
  writeEncoder(value: Encoder): Encoder;
  writeBuffer(value: Buffer): Encoder;
}
export interface Batch {
  readonly firstOffset: number;
  readonly firstTimestamp: number;
  readonly producerId: number;
  readonly transactional: boolean;
  readonly appendTime: boolean;
  readonly control: boolean;
  readonly compression: number;
  readonly records: readonly Record[];
}
export interface Record {
  readonly offsetDelta: number;
  readonly timestampDelta: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [string, Buffer | Buffer[]])[];
}

const require = createRequire(import.meta.url);
export const EncoderClass = require('kafkajs/src/protocol/encoder') as new () => Encoder;
const { RecordBatch } = require('kafkajs/src/protocol/recordBatch/v0') as {
  RecordBatch(options: object): Promise<Encoder>;
};
const encodeRecord = require('kafkajs/src/protocol/recordBatch/record/v0') as (record: object) => Encoder;

export async function encodeBatch(batch: Batch): Promise<Buffer> {
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
  // As the broker does when it sets the time.
  seal(buffer);
  return Buffer.from(buffer);
}

/** An answer to a fetch, version 11, with these batches. */
export function frame(
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

/** Gives a batch the checksum of its bytes. */
export function seal(batch: Buffer): void {
  batch.writeInt32BE(crc32c(batch.subarray(21)), 17);
}

/** Bit by bit, as the Castagnoli polynomial is defined. */
function crc32c(bytes: Buffer): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc;
}
