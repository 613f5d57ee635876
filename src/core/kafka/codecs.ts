// Compression codecs for kafkajs. In and out: the records of one batch, compressed or not. Guarantee: a codec's package is loaded
// when the first batch needs it, never before; nothing unpacks to more than is permitted, whatever its headers and trailers
// claim, or takes more than linear time; a process unpacks one batch at a time, in the order in which they were asked for.
import { promisify } from 'node:util';
import { type Context, createContext, Script } from 'node:vm';
import { createUnzip, gzip, unzip } from 'node:zlib';
import kafkajs from 'kafkajs';

const MIB = 1024 * 1024;
/** Batches that unpack to more are not read. */
export const MAX_BATCH_BYTES = 128 * MIB;
const PIECE_BYTES = 256 * 1024;

/** A batch that can never be read: its bytes are no records, or too many. Not thrown for faults of the process. */
export class UnreadableBatchError extends Error {
  override readonly name = 'UnreadableBatchError';
  readonly reason: 'batch_undecodable' | 'batch_too_large';

  constructor(reason: UnreadableBatchError['reason'], message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface Codec {
  readonly name: string;
  compress(encoder: { buffer: Buffer }): Promise<Buffer>;
  /** All of it, at most `maxBytes`. @throws UnreadableBatchError */
  decompress(data: Buffer, maxBytes?: number): Promise<Buffer>;
  /**
   * The same piece by piece, for batches too large to be held as a whole; a piece may be overwritten when the next one is asked
   * for. @throws UnreadableBatchError
   */
  pieces(data: Buffer): AsyncIterable<Buffer>;
}

export function tooLarge(maxBytes: number): UnreadableBatchError {
  return new UnreadableBatchError('batch_too_large', `it unpacks to more than ${maxBytes} bytes`);
}

function damaged(message: string): UnreadableBatchError {
  return new UnreadableBatchError('batch_undecodable', message);
}

let last: Promise<unknown> = Promise.resolve();

/** Runs `work` when everything that asked before is done. */
export function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine;
}

/** What a codec's package threw: the data's fault, unless the process has run out of memory or stood still. */
function dataFault(codec: string, error: unknown): unknown {
  if (error instanceof UnreadableBatchError) return error;
  const { code, message = String(error) } = (error ?? {}) as { code?: string; message?: string };
  if (
    code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' ||
    code === 'Z_MEM_ERROR' ||
    code === 'ERR_MEMORY_ALLOCATION_FAILED' ||
    /allocation failed/i.test(message)
  ) {
    return error;
  }
  return damaged(`${codec}: ${message}`);
}

async function guarded<T>(codec: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw dataFault(codec, error);
  }
}

// ---- gzip ----

const gzipAsync = promisify(gzip);
const unzipAsync = promisify(unzip);

/** Gzip; the length that its trailer claims is ignored. */
export const gzipCodec: Codec = {
  name: 'gzip',
  compress: ({ buffer }) => gzipAsync(buffer),

  decompress: (data, maxBytes = MAX_BATCH_BYTES) =>
    oneAtATime(async () => {
      try {
        return await unzipAsync(data, { maxOutputLength: maxBytes });
      } catch (error) {
        if ((error as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes);
        throw dataFault('gzip', error);
      }
    }),

  async *pieces(data) {
    const stream = createUnzip({ chunkSize: PIECE_BYTES });
    stream.end(data);
    try {
      yield* stream as AsyncIterable<Buffer>;
    } catch (error) {
      throw dataFault('gzip', error);
    } finally {
      stream.destroy();
    }
  },
};

// ---- snappy ----

// snappy-java's framing, which Kafka's Java clients and brokers write and librdkafka and others leave out:
// magic, version 1, compatible from 1, then blocks as (length: int32, raw snappy).
// https://github.com/xerial/snappy-java, SnappyCodec
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const XERIAL_HEADER = Buffer.concat([XERIAL_MAGIC, Buffer.from([0, 0, 0, 1, 0, 0, 0, 1])]);
const XERIAL_BLOCK_BYTES = 32 * 1024;
/** Three bytes of raw snappy unpack to at most 64. A block that claims more lies, and the memory would be allocated first. */
const SNAPPY_RATIO = 22;

interface SnappyBlock {
  readonly bytes: Buffer;
  readonly unpacked: number;
}

/** Snappy, read with and without snappy-java's framing and written with it. */
export const snappyCodec: Codec = {
  name: 'snappy',

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

  async decompress(data, maxBytes = MAX_BATCH_BYTES) {
    const blocks = snappyBlocks(data);
    let unpacked = 0;
    for (const block of blocks) unpacked += block.unpacked;
    if (unpacked > maxBytes) throw tooLarge(maxBytes);
    return oneAtATime(async () => {
      const parts = await uncompressBlocks(blocks);
      return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    });
  },

  async *pieces(data) {
    const blocks = snappyBlocks(data);
    for (let from = 0; from < blocks.length; ) {
      let to = from;
      for (let bytes = 0; to < blocks.length && (to === from || bytes < PIECE_BYTES); to++)
        bytes += blocks[to]!.unpacked;
      if (blocks[from]!.unpacked > MAX_BATCH_BYTES) throw tooLarge(MAX_BATCH_BYTES);
      yield* await uncompressBlocks(blocks.slice(from, to));
      from = to;
    }
  },
};

function snappyBlocks(data: Buffer): SnappyBlock[] {
  if (!data.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) return [snappyBlock(data)];
  const blocks: SnappyBlock[] = [];
  for (let at = XERIAL_HEADER.length; at < data.length; ) {
    const length = at + 4 > data.length ? -1 : data.readInt32BE(at);
    if (length < 0 || at + 4 + length > data.length) {
      throw damaged(`snappy: a block of ${length} bytes at byte ${at} does not fit into ${data.length} bytes`);
    }
    blocks.push(snappyBlock(data.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return blocks;
}

/** Raw snappy begins with the length it unpacks to, 7 bits a byte. */
function snappyBlock(bytes: Buffer): SnappyBlock {
  let unpacked = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[i];
    if (byte === undefined) break;
    unpacked += (byte & 127) * 2 ** (7 * i);
    if (byte > 127) continue;
    if (unpacked > bytes.length * SNAPPY_RATIO) break;
    return { bytes, unpacked };
  }
  throw damaged(`snappy: a block of ${bytes.length} bytes cannot have the length it claims`);
}

async function uncompressBlocks(blocks: readonly SnappyBlock[]): Promise<Buffer[]> {
  const { uncompress } = await import('snappy');
  // Side by side, each in a thread of its own: one after the other, their round trips would add up.
  return guarded('snappy', () =>
    Promise.all(blocks.map(async ({ bytes }) => (await uncompress(bytes, { asBuffer: true })) as Buffer)),
  );
}

// ---- lz4 ----

let lz4: typeof import('lz4-napi') | undefined;

/** LZ4 in its frame format, as Kafka uses it since message format 2. */
export const lz4Codec: Codec = {
  name: 'lz4',

  async compress({ buffer }) {
    // Asking for a package that is there takes longer than a small batch does.
    lz4 ??= await import('lz4-napi');
    return lz4.compressFrame(buffer);
  },

  async decompress(data, maxBytes = MAX_BATCH_BYTES) {
    let most = 0;
    for (const { bytes, packed, max } of lz4Blocks(data)) {
      // One byte of a match stands for at most 255.
      most += packed ? Math.min(max, bytes.length * 255) : bytes.length;
    }
    if (most > maxBytes) throw tooLarge(maxBytes);
    const { decompressFrame } = await import('lz4-napi');
    return oneAtATime(() => guarded('lz4', () => decompressFrame(data)));
  },

  async *pieces(data) {
    let room: Buffer | undefined;
    let end = 0;
    for (const { bytes, packed, max, linked } of lz4Blocks(data)) {
      if (!linked) {
        end = 0;
        if (!packed) {
          yield bytes;
          continue;
        }
      }
      // A linked block may refer to the 64 kB before it: those stay in front of it.
      if (room === undefined || room.length < LZ4_WINDOW + 4 * max) room = grown(room, end, LZ4_WINDOW + 4 * max);
      if (end + max > room.length) {
        room.copyWithin(0, end - LZ4_WINDOW, end);
        end = LZ4_WINDOW;
      }
      const start = end;
      end = packed ? lz4Block(bytes, room, start, start + max) : start + bytes.copy(room, start);
      yield room.subarray(start, end);
    }
  },
};

function grown(room: Buffer | undefined, used: number, size: number): Buffer {
  const larger = Buffer.allocUnsafe(size);
  room?.copy(larger, 0, 0, used);
  return larger;
}

const LZ4_MAGIC = 0x184d2204;
const LZ4_WINDOW = 64 * 1024;

interface Lz4Block {
  readonly bytes: Buffer;
  readonly packed: boolean;
  /** Bytes it may unpack to. */
  readonly max: number;
  readonly linked: boolean;
}

/** https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md */
function* lz4Blocks(data: Buffer): Generator<Lz4Block> {
  for (let at = 0; at < data.length; ) {
    if (at + 7 > data.length) throw damaged('lz4: the frame is cut off');
    const magic = data.readUInt32LE(at);
    const flags = data[at + 4]!;
    const sizeCode = (data[at + 5]! >> 4) & 7;
    if (magic !== LZ4_MAGIC || flags >> 6 !== 1 || sizeCode < 4) throw damaged('lz4: this is not a frame');
    const max = 1 << (2 * sizeCode + 8);
    const linked = (flags & 0x20) === 0;
    at += 7 + (flags & 0x08 ? 8 : 0) + (flags & 0x01 ? 4 : 0);
    for (;;) {
      if (at + 4 > data.length) throw damaged('lz4: the frame is cut off');
      const size = data.readUInt32LE(at);
      at += 4;
      if (size === 0) break;
      const length = size & 0x7fffffff;
      if (length > max || at + length > data.length) {
        throw damaged(`lz4: a block of ${length} bytes at byte ${at} does not fit into ${data.length} bytes`);
      }
      yield { bytes: data.subarray(at, at + length), packed: size < 0x80000000, max, linked };
      at += length + (flags & 0x10 ? 4 : 0);
    }
    if (flags & 0x04) at += 4;
  }
}

/**
 * Unpacks into `out` from `start` on, at most to `limit`; returns the end.
 * https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
 */
function lz4Block(bytes: Buffer, out: Buffer, start: number, limit: number): number {
  // No function in here reads on for both lengths: a closure that moves `at` is compiled wrongly by Node 26.12 now and then.
  let to = start;
  let at = 0;
  while (at < bytes.length) {
    const token = bytes[at++]!;
    let literals = token >> 4;
    if (literals === 15) {
      for (let byte = 255; byte === 255; literals += byte) byte = bytes[at++] ?? 0;
    }
    if (at + literals > bytes.length || to + literals > limit) break;
    bytes.copy(out, to, at, at + literals);
    at += literals;
    to += literals;
    if (at >= bytes.length) return to;
    const distance = bytes[at]! | ((bytes[at + 1] ?? 0) << 8);
    at += 2;
    let length = token & 15;
    if (length === 15) {
      for (let byte = 255; byte === 255; length += byte) byte = bytes[at++] ?? 0;
    }
    length += 4;
    if (distance === 0 || distance > to || to + length > limit) break;
    if (distance >= length) out.copyWithin(to, to - distance, to - distance + length);
    else for (const end = to + length; to < end; to++) out[to] = out[to - distance]!;
    if (distance >= length) to += length;
  }
  throw damaged('lz4: a block is damaged');
}

// ---- zstd ----

/** For reading only. */
export const zstdCodec: Codec = {
  name: 'zstd',

  async compress() {
    throw new Error('zstd: logpipe reads this codec but does not write it; use none, gzip, snappy or lz4');
  },

  async decompress(data, maxBytes = MAX_BATCH_BYTES) {
    return oneAtATime(async () => {
      const parts: Buffer[] = [];
      let bytes = 0;
      for await (const piece of zstdPieces(data, maxBytes)) {
        bytes += piece.length;
        if (bytes > maxBytes) throw tooLarge(maxBytes);
        parts.push(piece);
      }
      return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    });
  },

  pieces: (data) => zstdPieces(data, MAX_BATCH_BYTES),
};

/** What the format permits. */
const ZSTD_MAX_BLOCK = 128 * 1024;
/** Per step: what unpacks to at most 4 MiB; then other work gets its turn. */
const ZSTD_STEP_BLOCKS = 32;
const ZSTD_STEP_BYTES = 16 * 1024;
const ZSTD_MAX_WINDOW = 64 * MIB;
const ZSTD_ROOM = 256 * MIB;
/** Levels from 20 on cut their blocks to some 50 kB, under a window of 32 MiB and more. */
const ZSTD_SHIFTS = 1024;

async function* zstdPieces(data: Buffer, maxBytes: number): AsyncGenerator<Buffer> {
  const { Decompress, decompress } = await import('fzstd');
  const within = createWorkLimit('zstd');
  for (const { bytes: frame, content, window, single, steps } of zstdFrames(data)) {
    if ((content ?? 0) > maxBytes) throw tooLarge(maxBytes);
    // fzstd allocates the window before it has read anything that needs it, and reads no longer distances rightly.
    if (window > ZSTD_MAX_WINDOW) throw tooLarge(ZSTD_MAX_WINDOW);
    if (single) {
      // fzstd writes a single segment in place; as a stream it would move all of it once per block.
      const out = await guarded('zstd', () => within(frame.length + content!, () => decompress(frame)));
      yield Buffer.from(out.buffer, out.byteOffset, out.byteLength);
      continue;
    }
    let ready: Buffer[] = [];
    let bytes = 0;
    let shifted = 0;
    const stream = new Decompress((piece) => {
      bytes += piece.length;
      if (bytes > maxBytes) throw tooLarge(maxBytes);
      // fzstd moves the whole window for each block: many tiny blocks with a large window are an attack, not data.
      shifted += window;
      if (shifted > ZSTD_ROOM + ZSTD_SHIFTS * bytes) throw damaged('zstd: too many blocks for what they hold');
      if (piece.length > 0) ready.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
    });
    let at = 0;
    let known = 0;
    for (const end of steps) {
      const step = frame.subarray(at, end);
      await guarded('zstd', () => within(step.length + bytes - known, () => stream.push(step, end >= frame.length)));
      at = end;
      known = bytes;
      const pieces = ready;
      ready = [];
      yield* pieces;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Less than the third of a session that a fetch may take without a heartbeat. */
const WORK_AT_ONCE_MS = 3_000;
/** Processor time that a batch may take, some fifty times what honest data needs. */
const WORK_BASE_MS = 2_000;
const WORK_BYTES_PER_MS = 2_000;

/**
 * For a decoder that trusts its input: a block of ten bytes can keep fzstd busy for hours. Runs `work` and ends it when this
 * batch has used up its time, which grows with the bytes it turned out to hold.
 * @throws UnreadableBatchError; a plain Error, worth another try, when it was the machine that stood still
 */
function createWorkLimit(codec: string): <T>(bytes: number, work: () => T) => T {
  let leftMs = WORK_BASE_MS;
  return (bytes, work) => {
    const before = process.cpuUsage();
    const usedMs = () => {
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1000;
    };
    try {
      const done = endedAfter(WORK_AT_ONCE_MS, work);
      leftMs += bytes / WORK_BYTES_PER_MS - usedMs();
      if (leftMs > 0) return done;
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      // A loaded or stopped machine gives little of that time; honest data needs less than a tenth of this.
      if (usedMs() < Math.min(WORK_AT_ONCE_MS / 2, 200 + bytes / WORK_BYTES_PER_MS)) throw error;
    }
    throw damaged(`${codec}: unpacking it takes longer than any honest data would`);
  };
}

const call = new Script('work()');
let room: Context | undefined;

/** The only way to end a loop that runs in this thread. @throws ERR_SCRIPT_EXECUTION_TIMEOUT, and what `work` throws */
function endedAfter<T>(timeout: number, work: () => T): T {
  room ??= createContext({});
  room.work = work;
  try {
    return call.runInContext(room, { timeout }) as T;
  } finally {
    room.work = undefined;
  }
}

interface ZstdFrame {
  readonly bytes: Buffer;
  /** The length of its content and its window, both as the frame claims. */
  readonly content: number | undefined;
  readonly window: number;
  readonly single: boolean;
  /** Ends of runs of whole blocks. */
  readonly steps: readonly number[];
}

/**
 * The frames of https://www.rfc-editor.org/rfc/rfc8878, each with a window no larger than what its blocks can hold: the higher
 * levels claim up to 128 MiB for a few records, and no distance reaches further back than there is content.
 */
function* zstdFrames(data: Buffer): Generator<ZstdFrame> {
  for (let start = 0; start < data.length; ) {
    if (start + 9 > data.length || data.readUInt32LE(start) !== 0xfd2fb528) throw damaged('zstd: this is not a frame');
    const flags = data[start + 4]!;
    const single = (flags & 0x20) !== 0;
    const sizeBytes = flags >> 6 === 0 ? Number(single) : 1 << (flags >> 6);
    let at = start + (single ? 5 : 6) + [0, 1, 2, 4][flags & 3]!;
    let content: number | undefined;
    if (sizeBytes > 0) {
      content = sizeBytes === 2 ? 256 : 0;
      for (let i = 0; i < sizeBytes; i++) content += (data[at + i] ?? 0) * 2 ** (8 * i);
    }
    const base = 2 ** (10 + (data[start + 5]! >> 3));
    let window = single ? content! : base + (base / 8) * (data[start + 5]! & 7);
    if (window > MAX_BATCH_BYTES) throw tooLarge(MAX_BATCH_BYTES);
    at += sizeBytes;
    const steps: number[] = [];
    let blocks = 0;
    let most = 0;
    let stepStart = start;
    for (let isLast = false; !isLast; ) {
      if (at + 3 > data.length) throw damaged('zstd: the frame is cut off');
      const header = data.readUIntLE(at, 3);
      isLast = (header & 1) === 1;
      if (header >> 3 > ZSTD_MAX_BLOCK) throw damaged(`zstd: a block of ${header >> 3} bytes is longer than permitted`);
      // A block of one repeated byte gives its count, not its own length.
      at += 3 + ((header & 6) === 2 ? 1 : header >> 3);
      most += (header & 6) === 4 ? Math.min(window, ZSTD_MAX_BLOCK) : header >> 3;
      blocks++;
      if (!isLast && (blocks % ZSTD_STEP_BLOCKS === 0 || at - stepStart >= ZSTD_STEP_BYTES)) {
        steps.push(at - start);
        stepStart = at;
        blocks = 0;
      }
    }
    const end = at + ((flags & 0x04) === 0 ? 0 : 4);
    if (end > data.length) throw damaged('zstd: the frame is cut off');
    steps.push(end - start);
    let bytes = data.subarray(start, end);
    const [narrow, descriptor] = zstdWindow(most);
    if (!single && narrow < window) {
      window = narrow;
      bytes = Buffer.from(bytes);
      bytes[5] = descriptor;
    }
    yield { bytes, content, window, single, steps };
    start = end;
  }
}

/** The smallest window of at least so many bytes, and the byte that describes it. */
function zstdWindow(bytes: number): [bytes: number, descriptor: number] {
  const exponent = Math.max(10, Math.floor(Math.log2(bytes)));
  const eighth = 2 ** (exponent - 3);
  const eighths = Math.max(8, Math.ceil(bytes / eighth));
  // Sixteen eighths are the next power of two, and its descriptor is the next one.
  return [eighths * eighth, ((exponent - 10) << 3) + eighths - 8];
}

// ---- all of them ----

const CODECS: readonly (Codec | undefined)[] = [undefined, gzipCodec, snappyCodec, lz4Codec, zstdCodec];

/**
 * By the number a batch names it with, from kafkajs's table; undefined for 0, not compressed.
 * @throws UnreadableBatchError for a number that Kafka does not know
 */
export function codecOf(type: number): Codec | undefined {
  if (type >= CODECS.length) throw damaged(`there is no codec ${type}`);
  if (type === 0) return undefined;
  const registered = (kafkajs.CompressionCodecs as unknown as Record<number, () => Codec>)[type]!();
  return registered.pieces === undefined ? CODECS[type] : registered;
}

/** Makes every codec known to kafkajs. Its table is one per process; calling this again changes nothing. */
export function registerCodecs(): void {
  const { CompressionCodecs, CompressionTypes } = kafkajs;
  CompressionCodecs[CompressionTypes.GZIP] = () => gzipCodec;
  CompressionCodecs[CompressionTypes.Snappy] = () => snappyCodec;
  CompressionCodecs[CompressionTypes.LZ4] = () => lz4Codec;
  CompressionCodecs[CompressionTypes.ZSTD] = () => zstdCodec;
}
