// What the codecs make of bytes that lie or are damaged. Real servers: test/integration/codecs.test.ts.
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Codec,
  gzipCodec,
  lz4Codec,
  oneAtATime,
  snappyCodec,
  UnreadableBatchError,
  zstdCodec,
} from '../../../src/core/kafka/codecs.ts';

const MIB = 1024 * 1024;
// Noise and repetition, longer than a block of any codec.
const data = Buffer.concat(
  Array.from({ length: 3_000 }, (_, i) => Buffer.from(`${(i * 2654435761) % 4294967296} ${'abc'.repeat(i % 97)}\n`)),
);

// Written by the zstd command from `"0123456789abcdef" × 20,000`: one frame with its length, one without.
const ZSTD_TEXT = Buffer.from('0123456789abcdef'.repeat(20_000));

async function rawSnappy(bytes: Buffer): Promise<Buffer> {
  const { compress } = await import('snappy');
  return compress(bytes);
}

/** A zstd frame of raw blocks; `size` as the header is to claim it, or a window instead. */
function zstdFrame(
  blocks: readonly { raw?: Buffer; packed?: Buffer; repeat?: [byte: number, times: number] }[],
  head: Buffer,
): Buffer {
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), head];
  for (const [i, { raw, packed, repeat }] of blocks.entries()) {
    const header = Buffer.alloc(3);
    const size = (raw ?? packed)?.length ?? repeat![1];
    const type = raw ? 0 : packed ? 2 : 1;
    header.writeUIntLE((size << 3) | (type << 1) | Number(i === blocks.length - 1), 0, 3);
    parts.push(header, raw ?? packed ?? Buffer.from([repeat![0]]));
  }
  return Buffer.concat(parts);
}
/** No length, a window of 2 MiB, as Java writes it. */
const STREAMED = Buffer.from([0x00, 0x58]);
/** The same at level 22: a window of 128 MiB, however little there is. */
const HIGHEST = Buffer.from([0x00, 0x88]);
// The only block of what `zstd --ultra -22` makes of this text when it comes through a pipe.
const CALLS = Buffer.from('call ended after 12 ms, call ended after 13 ms, call ended after 12 ms');
const CALLS_PACKED = Buffer.from('c863616c6c20656e646564206166746572203132206d732c20330300537900c565bd3906', 'hex');

async function inPieces(codec: Codec, bytes: Buffer): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const piece of codec.pieces(bytes)) parts.push(Buffer.from(piece));
  return Buffer.concat(parts);
}

const samples: [string, Codec, () => Promise<Buffer>, Buffer][] = [
  ['gzip', gzipCodec, async () => gzipSync(data), data],
  [
    'gzip in two members',
    gzipCodec,
    async () => Buffer.concat([gzipSync(data), gzipSync(data)]),
    Buffer.concat([data, data]),
  ],
  ['snappy, framed', snappyCodec, () => snappyCodec.compress({ buffer: data }), data],
  ['snappy, raw', snappyCodec, () => rawSnappy(data), data],
  ['lz4', lz4Codec, () => lz4Codec.compress({ buffer: data }), data],
  [
    'zstd without a length',
    zstdCodec,
    async () => zstdFrame([{ raw: ZSTD_TEXT.subarray(0, 100_000) }, { repeat: [120, 90_000] }], STREAMED),
    Buffer.concat([ZSTD_TEXT.subarray(0, 100_000), Buffer.alloc(90_000, 120)]),
  ],
  [
    'zstd at level 22',
    zstdCodec,
    async () =>
      zstdFrame([{ packed: CALLS_PACKED }, { raw: ZSTD_TEXT.subarray(0, 500) }, { repeat: [120, 90] }], HIGHEST),
    Buffer.concat([CALLS, ZSTD_TEXT.subarray(0, 500), Buffer.alloc(90, 120)]),
  ],
  [
    'zstd with its length',
    zstdCodec,
    async () => {
      const head = Buffer.from([0xa0, 0, 0, 0, 0]);
      head.writeUInt32LE(150_000, 1);
      return zstdFrame([{ raw: ZSTD_TEXT.subarray(0, 60_000) }, { repeat: [120, 90_000] }], head);
    },
    Buffer.concat([ZSTD_TEXT.subarray(0, 60_000), Buffer.alloc(90_000, 120)]),
  ],
];

describe.each(samples)('%s', (_name, codec, compress, plain) => {
  test('whole and in pieces', async () => {
    const packed = await compress();
    expect((await codec.decompress(packed)).equals(plain)).toBe(true);
    expect((await inPieces(codec, packed)).equals(plain)).toBe(true);
  });

  test('one byte more than is permitted', async () => {
    const packed = await compress();
    await expect(codec.decompress(packed, plain.length - 1)).rejects.toMatchObject({ reason: 'batch_too_large' });
  });

  test('damaged bytes end in bytes or an error, and take no memory on their word', async () => {
    const packed = await compress();
    const limit = 4 * plain.length + 8 * MIB;
    const changes = fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(255)), {
      minLength: 1,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(
        changes,
        fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
        fc.boolean(),
        async (list, cut, early) => {
          const bytes = Buffer.from(cut === null ? packed : packed.subarray(0, Math.floor(cut * packed.length)));
          // Headers are where it hurts most.
          for (const [place, byte] of list)
            bytes[Math.floor(place * (early ? Math.min(40, bytes.length) : bytes.length))] = byte;
          for (const work of [() => codec.decompress(bytes, limit), () => inPieces(codec, bytes)]) {
            try {
              expect((await work()).length).toBeLessThanOrEqual(128 * MIB);
            } catch (error) {
              expect(error).toBeInstanceOf(UnreadableBatchError);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  }, 240_000);
});

describe('lies', () => {
  test('a gzip trailer that says zero', async () => {
    const packed = gzipSync(Buffer.alloc(20 * MIB));
    packed.writeUInt32LE(0, packed.length - 4);
    await expect(gzipCodec.decompress(packed, MIB)).rejects.toMatchObject({ reason: 'batch_too_large' });
    await expect(gzipCodec.decompress(packed, 21 * MIB)).rejects.toMatchObject({ reason: 'batch_undecodable' });
  });

  test('twenty bytes of snappy that claim 100 MiB', async () => {
    const bytes = Buffer.alloc(20);
    bytes.set([0x80, 0x80, 0x80, 0x32]);
    await expect(snappyCodec.decompress(bytes)).rejects.toMatchObject({ reason: 'batch_undecodable' });
  });

  test('a zstd window of 1 GiB, and a content of 1 GiB', async () => {
    const wide = zstdFrame([{ raw: data.subarray(0, 100) }], Buffer.from([0x00, 0xa0]));
    await expect(zstdCodec.decompress(wide)).rejects.toMatchObject({ reason: 'batch_too_large' });
    const full = zstdFrame(
      Array.from({ length: 513 }, () => ({ repeat: [120, 131_072] as [number, number] })),
      HIGHEST,
    );
    // fzstd reads no distances beyond 64 MiB rightly.
    await expect(zstdCodec.decompress(full)).rejects.toMatchObject({ reason: 'batch_too_large' });
    const long = zstdFrame([{ raw: data.subarray(0, 100) }], Buffer.from([0xa0, 0, 0, 0, 0x40]));
    await expect(zstdCodec.decompress(long)).rejects.toMatchObject({ reason: 'batch_too_large' });
  });

  test('tiny zstd blocks of a large window do not cost the window each', async () => {
    const frame = zstdFrame(
      Array.from({ length: 100_000 }, () => ({ repeat: [120, 1] as [number, number] })),
      Buffer.from([0x00, 0x68]),
    );
    await expect(zstdCodec.decompress(frame)).rejects.toThrow('too many blocks');
    await expect(inPieces(zstdCodec, frame)).rejects.toThrow('too many blocks');
  });

  test('honest blocks of 50 kB under a window of 32 MiB, as the highest levels of zstd write them, are read', async () => {
    const blocks = Array.from({ length: 250 }, (_, i) => ({ repeat: [65 + (i % 26), 50_000] as [number, number] }));
    const frame = zstdFrame(blocks, Buffer.from([0x00, 0x78]));
    const plain = Buffer.concat(blocks.map(({ repeat: [byte, times] }) => Buffer.alloc(times, byte)));
    expect((await zstdCodec.decompress(frame)).equals(plain)).toBe(true);
  });

  test('ten bytes of zstd that claim 98,303 copies of 65,539 bytes each end in seconds, not in hours', async () => {
    // One literal; that many sequences, each with the same code for literals (0), offset (2) and length (52) and no bits.
    const packed = Buffer.from([0x08, 0x61, 255, 0xff, 0xff, 0x54, 0, 2, 52, 1]);
    const streamed = zstdFrame([{ packed }], STREAMED);
    const single = zstdFrame([{ packed }], Buffer.from([0xa0, 0, 0, 1, 0]));
    for (const frame of [streamed, single]) {
      await expect(inPieces(zstdCodec, frame)).rejects.toMatchObject({
        reason: 'batch_undecodable',
        message: expect.stringContaining('takes longer than'),
      });
    }
    // The next batch is none the worse for it.
    const healthy = zstdFrame([{ raw: data.subarray(0, 1000) }], STREAMED);
    expect((await zstdCodec.decompress(healthy)).equals(data.subarray(0, 1000))).toBe(true);
  });

  test('a zstd block longer than the format permits', async () => {
    const frame = zstdFrame([{ repeat: [120, 131_073] }], STREAMED);
    await expect(zstdCodec.decompress(frame)).rejects.toMatchObject({ reason: 'batch_undecodable' });
  });

  test('a zstd bomb of many repeated blocks stops at the bound', async () => {
    const frame = zstdFrame(
      Array.from({ length: 4_000 }, () => ({ repeat: [120, 131_072] as [number, number] })),
      STREAMED,
    );
    await expect(zstdCodec.decompress(frame)).rejects.toMatchObject({ reason: 'batch_too_large' });
  });
});

test('one batch at a time, in the order of asking, also after one that failed', async () => {
  const order: string[] = [];
  let running = 0;
  const work = (name: string, fails = false) =>
    oneAtATime(async () => {
      running += 1;
      expect(running).toBe(1);
      order.push(name);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      if (fails) throw new Error(name);
    });
  const all = [work('a'), work('b', true), work('c')];
  await expect(all[1]).rejects.toThrow('b');
  await Promise.all([all[0], all[2]]);
  expect(order).toEqual(['a', 'b', 'c']);
});
