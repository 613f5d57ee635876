// Compression codecs for kafkajs, which brings only gzip. In and out: the records of one batch, compressed or not.
// Guarantee: a codec's package is loaded when the first batch needs it, never before.
import kafkajs from 'kafkajs';

interface Codec {
  compress(encoder: { buffer: Buffer }): Promise<Buffer>;
  decompress(data: Buffer): Promise<Buffer>;
}

// snappy-java's framing, which Kafka's Java clients and brokers write and librdkafka and others leave out:
// magic, version 1, compatible from 1, then blocks as (length: int32, raw snappy).
// https://github.com/xerial/snappy-java, SnappyCodec
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const XERIAL_HEADER = Buffer.concat([XERIAL_MAGIC, Buffer.from([0, 0, 0, 1, 0, 0, 0, 1])]);
const XERIAL_BLOCK_BYTES = 32 * 1024;

/** Snappy, read with and without snappy-java's framing and written with it. */
export const snappyCodec: Codec = {
  async compress({ buffer }) {
    const { compress } = await import('snappy');
    const parts: Buffer[] = [XERIAL_HEADER];
    for (let at = 0; at < buffer.length; at += XERIAL_BLOCK_BYTES) {
      const block = await compress(buffer.subarray(at, at + XERIAL_BLOCK_BYTES));
      const length = Buffer.allocUnsafe(4);
      length.writeInt32BE(block.length);
      parts.push(length, block);
    }
    return Buffer.concat(parts);
  },

  async decompress(data) {
    const { uncompress } = await import('snappy');
    const block = async (bytes: Buffer) => (await uncompress(bytes, { asBuffer: true })) as Buffer;
    if (!data.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) return block(data);
    const blocks: Buffer[] = [];
    for (let at = XERIAL_HEADER.length; at < data.length; ) {
      const length = data.readInt32BE(at);
      if (length < 0 || at + 4 + length > data.length) {
        throw new Error(`snappy: a block of ${length} bytes at byte ${at} does not fit into ${data.length} bytes`);
      }
      blocks.push(data.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    // Side by side, each in a thread of its own: one after the other their ways there and back would add up.
    const parts = await Promise.all(blocks.map(block));
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  },
};

/** LZ4 in its frame format, as Kafka has it since message format 2. */
export const lz4Codec: Codec = {
  async compress({ buffer }) {
    const { compressFrame } = await import('lz4-napi');
    return compressFrame(buffer);
  },
  async decompress(data) {
    const { decompressFrame } = await import('lz4-napi');
    return decompressFrame(data);
  },
};

/** Zstandard, for reading only. */
export const zstdCodec: Codec = {
  async compress() {
    throw new Error('zstd: logpipe reads this codec but does not write it; use none, gzip, snappy or lz4');
  },
  async decompress(data) {
    const { decompress } = await import('fzstd');
    const out = decompress(data);
    return Buffer.from(out.buffer, out.byteOffset, out.byteLength);
  },
};

/** Makes every codec known to kafkajs. Its table is one per process; calling this again changes nothing. */
export function registerCodecs(): void {
  const { CompressionCodecs, CompressionTypes } = kafkajs;
  CompressionCodecs[CompressionTypes.Snappy] = () => snappyCodec;
  CompressionCodecs[CompressionTypes.LZ4] = () => lz4Codec;
  CompressionCodecs[CompressionTypes.ZSTD] = () => zstdCodec;
}
