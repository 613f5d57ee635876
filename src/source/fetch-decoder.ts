// kafkajs's decoding of fetch answers, done faster. In: the bytes of a fetch response, version 11. Out: the very objects
// kafkajs makes of them. https://kafka.apache.org/protocol#The_Messages_Fetch
//
// kafkajs reads each record through a dozen small objects and two big integers, which costs more than all of logpipe's
// parsing. Everything around it (connections, groups, sessions, transactions) stays kafkajs's. Its versions are looked up
// anew for every request, so replacing one function is enough. Installed only into the very version it was compared
// with (test/unit/source/fetch-decoder.test.ts); message formats older than 2 go to kafkajs's own decoder.
import { createRequire } from 'node:module';
import kafkajs from 'kafkajs';

const KAFKAJS_VERSION = '2.2.4';
const RESPONSE = 'kafkajs/src/protocol/requests/fetch/v11/response.js';

type Codec = () => { decompress(data: Buffer): Promise<Buffer> };
type Decode = (bytes: Buffer) => Promise<FetchResponse>;

interface FetchResponse {
  readonly throttleTime: number;
  readonly clientSideThrottleTime: number;
  readonly errorCode: number;
  readonly sessionId: number;
  readonly responses: { topicName: string; partitions: FetchedPartition[] }[];
}

interface FetchedPartition {
  readonly partition: number;
  readonly errorCode: number;
  readonly highWatermark: string;
  readonly lastStableOffset: string;
  readonly lastStartOffset: string;
  readonly abortedTransactions: { producerId: string; firstOffset: string }[];
  readonly preferredReadReplica: number;
  messages: FetchedRecord[];
}

/** What every record of a batch shares. */
interface BatchContext {
  readonly firstOffset: string;
  readonly firstTimestamp: string;
  readonly partitionLeaderEpoch: number;
  readonly inTransaction: boolean;
  readonly isControlBatch: boolean;
  readonly lastOffsetDelta: number;
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  readonly maxTimestamp: string;
  readonly timestampType: number;
  readonly magicByte: number;
}

interface FetchedRecord {
  readonly magicByte: number;
  readonly attributes: number;
  readonly timestamp: string;
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Headers;
  readonly isControlRecord: boolean;
  readonly batchContext: BatchContext;
}

/** A name that occurs more than once has a list. */
type Headers = Record<string, Buffer | null | (Buffer | null)[]>;

const MAGIC_AT = 16;
const MAGIC = 2;
/** From the first offset to the number of records. */
const BATCH_HEADER = 61;
const LOG_APPEND_TIME = 1;

/** Replaces kafkajs's decoder for the whole process; false when this is another kafkajs and nothing was replaced. */
export function installFetchDecoder(): boolean {
  const require = createRequire(import.meta.url);
  const { version } = require('kafkajs/package.json') as { version: string };
  if (version !== KAFKAJS_VERSION) return false;
  const response = require(RESPONSE) as { decode: Decode };
  if (response.decode.name !== decodeFetch.name) response.decode = createDecode(response.decode);
  return true;
}

/** `original` takes what this decoder does not know. */
export function createDecode(original: Decode): Decode {
  return async function decodeFetch(bytes) {
    return (await decode(new Reader(bytes))) ?? original(bytes);
  };
}

/** Only its name is used: to recognise a decoder that is already in place. */
function decodeFetch(): void {}

async function decode(reader: Reader): Promise<FetchResponse | undefined> {
  const clientSideThrottleTime = reader.int32();
  const errorCode = reader.int16();
  const sessionId = reader.int32();
  const responses: FetchResponse['responses'] = [];
  for (let topics = reader.int32(); topics > 0; topics--) {
    const topicName = reader.text(reader.int16());
    const partitions: FetchedPartition[] = [];
    for (let count = reader.int32(); count > 0; count--) {
      const partition = reader.partition();
      const records = await decodeBatches(reader.bytes(Math.max(reader.int32(), 0)));
      if (records === undefined) return undefined;
      partition.messages = records;
      partitions.push(partition);
    }
    responses.push({ topicName, partitions });
  }
  // The broker has not throttled this request, but asks the client to: kafkajs's convention.
  return { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
}

/** Undefined for message formats before version 2. A batch that was cut off at the end is left out. */
async function decodeBatches(bytes: Buffer): Promise<FetchedRecord[] | undefined> {
  const records: FetchedRecord[] = [];
  for (let start = 0; start + BATCH_HEADER <= bytes.length; ) {
    if (bytes[start + MAGIC_AT] !== MAGIC) return undefined;
    const end = start + 12 + bytes.readInt32BE(start + 8);
    if (end > bytes.length) break;
    const attributes = bytes.readInt16BE(start + 21);
    const context: BatchContext = {
      firstOffset: int64(bytes, start),
      firstTimestamp: int64(bytes, start + 27),
      partitionLeaderEpoch: bytes.readInt32BE(start + 12),
      inTransaction: (attributes & 0x10) > 0,
      isControlBatch: (attributes & 0x20) > 0,
      lastOffsetDelta: bytes.readInt32BE(start + 23),
      producerId: int64(bytes, start + 43),
      producerEpoch: bytes.readInt16BE(start + 51),
      firstSequence: bytes.readInt32BE(start + 53),
      maxTimestamp: int64(bytes, start + 35),
      timestampType: (attributes & 0x8) >> 3,
      magicByte: MAGIC,
    };
    const count = bytes.readInt32BE(start + 57);
    const codec = (kafkajs.CompressionCodecs as Record<number, Codec | undefined>)[attributes & 7];
    const body = bytes.subarray(start + BATCH_HEADER, end);
    decodeRecords(codec && count > 0 ? await codec().decompress(body) : body, count, context, records);
    start = end;
  }
  return records;
}

/** Appends `count` records to `to`. @throws RangeError when one reaches beyond the batch */
function decodeRecords(bytes: Buffer, count: number, context: BatchContext, to: FetchedRecord[]): void {
  const { isControlBatch, maxTimestamp } = context;
  const appendTime = context.timestampType === LOG_APPEND_TIME;
  const firstOffset = Number(context.firstOffset);
  const firstTimestamp = Number(context.firstTimestamp);
  const reader = new Reader(bytes);
  for (let i = 0; i < count; i++) {
    const end = reader.varint() + reader.at;
    if (end > bytes.length) throw new RangeError(`record ${i} of ${count} reaches beyond its batch`);
    const attributes = bytes.readInt8(reader.at++);
    const delta = reader.varlong();
    const offset = String(firstOffset + reader.varint());
    to.push({
      magicByte: MAGIC,
      attributes,
      timestamp: appendTime ? maxTimestamp : String(firstTimestamp + delta),
      offset,
      key: reader.nullable(),
      value: reader.nullable(),
      headers: reader.headers(),
      isControlRecord: isControlBatch,
      batchContext: context,
    });
    reader.at = end;
  }
}

/** Offsets, times and ids of a broker stay below 2^53 for some thousand years; what does not is written as it is. */
function int64(bytes: Buffer, at: number): string {
  const high = bytes.readInt32BE(at);
  if (high >= 0x200000 || high < -0x200000) return bytes.readBigInt64BE(at).toString();
  return String(high * 0x100000000 + bytes.readUInt32BE(at + 4));
}

/** A cursor over bytes. A class, because one is used for hundreds of records on the hot path. */
class Reader {
  at = 0;
  private readonly buffer: Buffer;
  /** The header name read last and its place: it is nearly always the next one too. */
  private name = '';
  private nameAt = 0;
  private nameLength = -1;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  int16(): number {
    this.at += 2;
    return this.buffer.readInt16BE(this.at - 2);
  }

  int32(): number {
    this.at += 4;
    return this.buffer.readInt32BE(this.at - 4);
  }

  int64(): string {
    this.at += 8;
    return int64(this.buffer, this.at - 8);
  }

  bytes(length: number): Buffer {
    this.at += length;
    return this.buffer.subarray(this.at - length, this.at);
  }

  text(length: number): string {
    return this.bytes(length).toString();
  }

  partition(): FetchedPartition {
    const head = {
      partition: this.int32(),
      errorCode: this.int16(),
      highWatermark: this.int64(),
      lastStableOffset: this.int64(),
      lastStartOffset: this.int64(),
    };
    const abortedTransactions: FetchedPartition['abortedTransactions'] = [];
    for (let count = this.int32(); count > 0; count--) {
      abortedTransactions.push({ producerId: this.int64(), firstOffset: this.int64() });
    }
    return { ...head, abortedTransactions, preferredReadReplica: this.int32(), messages: [] };
  }

  /** Zigzag, 32 bits. */
  varint(): number {
    const { buffer } = this;
    let byte = buffer[this.at++]!;
    let value = byte & 127;
    for (let shift = 7; byte > 127; shift += 7) {
      byte = buffer[this.at++]!;
      value |= (byte & 127) << shift;
    }
    return (value >>> 1) ^ -(value & 1);
  }

  /** Zigzag, 64 bits, as far as a number holds them. */
  varlong(): number {
    const { buffer } = this;
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = buffer[this.at++]!;
      value += (byte & 127) * factor;
      if (byte <= 127) break;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  nullable(): Buffer | null {
    const length = this.varint();
    return length < 0 ? null : this.bytes(length);
  }

  headers(): Headers {
    const headers: Headers = {};
    for (let count = this.varint(); count > 0; count--) {
      const name = this.headerName(this.varint());
      const value = this.nullable();
      const before = Object.hasOwn(headers, name) ? headers[name] : undefined;
      const all = before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value];
      // Plain assignment to `__proto__` would replace the prototype.
      if (name === '__proto__') Object.defineProperty(headers, name, { value: all, enumerable: true, writable: true });
      else headers[name] = all;
    }
    return headers;
  }

  private headerName(length: number): string {
    const { buffer, name, nameAt, at } = this;
    if (length === this.nameLength) {
      let same = 0;
      while (same < length && buffer[nameAt + same] === buffer[at + same]) same++;
      if (same === length) {
        this.at += length;
        return name;
      }
    }
    this.name = this.text(length);
    this.nameAt = at;
    this.nameLength = length;
    return this.name;
  }
}
