// What the transport asks Kafka's brokers. In: its settings. Out: the topic's partitions, producer ids, produce requests in
// Kafka's own format. Guarantee: that of core/kafka/broker-connections.ts; a warning when credentials go over the network
// unencrypted; the same records give the same batch, except for the headers that tell a first attempt from a later one; once one
// quick answer has shown that this host's clock is right, a batch that is long on its way does not make it look wrong.

import Encoder from 'kafkajs/src/protocol/encoder.js';
import { type Clock, type Moment, momentOf, STEP_MS, systemClock } from '../core/clock.ts';
import { type BrokerConnections, createBrokerConnections, type Partition } from '../core/kafka/broker-connections.ts';
import { gzipCodec, lz4Codec, snappyCodec } from '../core/kafka/codecs.ts';
import { timeOfEventId } from '../core/record.ts';
import type { ShipRecord } from './log-record.ts';
import type { Compression, TransportSettings } from './options.ts';
import type { ProducerId } from './queue.ts';

export interface Brokers extends Pick<BrokerConnections, 'busy' | 'connect' | 'destroy' | 'disconnect' | 'giveUp'> {
  /** Like BrokerConnections.partitions, for the transport's topic. */
  partitions(): Promise<readonly Partition[]>;
  producerId(): Promise<ProducerId>;
  /**
   * Kafka's error code for each partition, 0 for those that all in-sync replicas have. A rejection says nothing about what
   * has arrived.
   */
  produce(nodeId: number, batches: readonly PartitionBatch[]): Promise<ReadonlyMap<number, number>>;
}

/** How long a broker may wait for its replicas: shorter than anybody waits for the broker's answer. */
const REPLICAS_TIMEOUT_MS = 10_000;

export function createBrokers(
  settings: TransportSettings,
  deps: {
    warn(source: 'kafkajs', message: string): void;
    /** Called once, before the first connection, with something that must be seen. */
    warnLoudly(message: string): void;
    /** Wall clock in ms. */
    now?: (() => number) | undefined;
  },
): Brokers {
  const { now = Date.now } = deps;
  /** One for each broker: their clocks differ. */
  const clocks = new Map<number, OwnClock>();
  const inClear = clearTextBroker(settings);
  const rooms: Buffer[] = [];
  const connections = createBrokerConnections(settings, {
    warn: (message) => deps.warn('kafkajs', message),
    onFirst() {
      if (inClear === undefined) return;
      deps.warnLoudly(
        `The credentials of sasl (${settings.sasl?.mechanism}) go to ${inClear} unencrypted, as all records do; set ssl.`,
      );
    },
  });

  return {
    ...connections,
    partitions: () => connections.partitions(settings.topic),
    async producerId() {
      const { producerId, producerEpoch } = await connections.askAny<{ producerId: string; producerEpoch: number }>(
        'InitProducerId',
        { transactionTimeout: 60_000 },
      );
      return { id: String(producerId), epoch: producerEpoch };
    },
    async produce(nodeId, batches) {
      const clock = clocks.get(nodeId) ?? createOwnClock({ ...systemClock, now });
      clocks.set(nodeId, clock);
      const body = await encodeProduce(settings.topic, batches, {
        compression: settings.compression,
        timeoutMs: REPLICAS_TIMEOUT_MS,
        nowMs: now(),
        isClockRight: clock.isRight(),
        rooms,
      });
      const sent = clock.moment();
      const answer = await connections.ask<{
        topics: readonly {
          partitions: readonly { partition: number; errorCode: number; logAppendTime: string }[];
        }[];
      }>(nodeId, 'Produce', { acks: -1, topicData: [] }, ({ request, response }) => {
        if (request.apiVersion < 3) throw new Error('this Kafka is older than 0.11 and knows no record headers');
        return {
          // Not written into it: kafkajs would copy it once more.
          request: { ...request, encode: async () => Object.assign(new Encoder(), { buf: body, offset: body.length }) },
          response: { decode: response.decode, parse: async (parsed: unknown) => parsed },
        };
      });
      const codes = new Map<number, number>();
      const again = new Set(batches.flatMap(({ partition, resent }) => (resent ? [partition] : [])));
      for (const { partition, errorCode, logAppendTime } of answer.topics[0]?.partitions ?? []) {
        codes.set(partition, errorCode);
        if (errorCode === 0 && !again.has(partition)) clock.answered(sent, Number(logAppendTime));
      }
      return codes;
    },
  };
}

/** The first broker on another machine that would receive credentials without TLS. */
function clearTextBroker({ brokers, sasl, ssl }: TransportSettings): string | undefined {
  if (sasl === undefined || ssl !== false) return undefined;
  return brokers.find(
    (broker) => !/^(?:localhost|127(?:\.\d{1,3}){3}|\[(?:::1|::ffff:127[\d.a-f:]*)\]):\d+$/i.test(broker),
  );
}

// ---- what a produce request says ----

// https://kafka.apache.org/documentation/#recordbatch (message format 2), https://kafka.apache.org/protocol#The_Messages_Produce
// kafkajs builds every record from a dozen small buffers, more than half of the CPU time of a log line.

/** What one request brings to one partition. */
export interface PartitionBatch {
  readonly partition: number;
  readonly records: readonly ShipRecord[];
  readonly producer: ProducerId;
  /** Number of the first record, counted per producer and partition. */
  readonly sequence: number;
  /** An earlier attempt may have arrived. */
  readonly resent: boolean;
}

const EVENT_ID_BYTES = 26;
/** The last header up to its value. Lengths are zigzag: 14 stands for 7. */
const EVENT_ID = '\x0eeventId\x34';
const RESENT = '\x0cresent\x021';
const CLOCK_RIGHT = '\x0aclock\x0aright';
/** Records that waited longer were logged by a clock that may have been set since. */
const MAX_WAIT_MS = 60_000;
/** Length, attributes, time, offset, the lengths of key and value: their greatest size. */
const FIXED_BYTES = 5 + 1 + 1 + 5 + 5 + 5;
/** A record batch without its records; its checksum covers what comes after the first 21 bytes. */
const BATCH_HEADER = 61;
const CHECKED_FROM = 21;
const CODECS = {
  none: { bits: 0, codec: undefined },
  gzip: { bits: 1, codec: gzipCodec },
  snappy: { bits: 2, codec: snappyCodec },
  lz4: { bits: 3, codec: lz4Codec },
} as const;
const ALL_IN_SYNC = -1;

interface ProduceOptions {
  readonly compression: Compression;
  /** How long the broker waits for the replicas. */
  readonly timeoutMs: number;
  /** Wall clock. */
  readonly nowMs: number;
  /** The wall clock is known to be right: a batch that is long on its way does not prove otherwise. */
  readonly isClockRight?: boolean;
  /** Buffers that nobody uses at present: a batch is written into one of them before it is compressed. */
  readonly rooms: Buffer[];
}

const MAX_ROOMS = 4;

/** The body of a produce request, versions 3 to 8. */
async function encodeProduce(
  topic: string,
  batches: readonly PartitionBatch[],
  options: ProduceOptions,
): Promise<Buffer> {
  const name = Buffer.from(topic);
  const packed = await Promise.all(batches.map((batch) => packRecords(batch, options)));
  const bytes = packed.reduce((sum, { length }) => sum + 8 + BATCH_HEADER + length, 0);
  const out = Buffer.allocUnsafe(2 + 2 + 4 + 4 + 2 + name.length + 4 + bytes);
  let at = out.writeInt16BE(-1, 0);
  at = out.writeInt16BE(ALL_IN_SYNC, at);
  at = out.writeInt32BE(options.timeoutMs, at);
  at = out.writeInt32BE(1, at);
  at = out.writeInt16BE(name.length, at);
  at += name.copy(out, at);
  at = out.writeInt32BE(batches.length, at);
  for (const [i, batch] of batches.entries()) {
    const records = packed[i]!;
    at = out.writeInt32BE(batch.partition, at);
    at = out.writeInt32BE(BATCH_HEADER + records.length, at);
    const whole = out.subarray(at, at + BATCH_HEADER + records.length);
    records.copy(whole, BATCH_HEADER);
    writeBatchHeader(whole, batch, options);
    at += whole.length;
  }
  return out;
}

/** Its records, compressed. */
async function packRecords(batch: PartitionBatch, options: ProduceOptions): Promise<Buffer> {
  const { records, resent } = batch;
  const { compression, nowMs, isClockRight = false, rooms } = options;
  const waited = Math.abs(nowMs - timeOfEventId(records[0]!.eventId));
  const sentAt = resent || waited > MAX_WAIT_MS ? undefined : nowMs;
  const { codec } = CODECS[compression];
  const plain = encodeRecords(records, { resent, sentAt, isClockRight }, rooms.pop());
  if (codec === undefined) return plain;
  const packed = await codec.compress({ buffer: plain });
  if (rooms.length < MAX_ROOMS) rooms.push(Buffer.from(plain.buffer));
  return packed;
}

/** @param out the whole batch, its records in place */
function writeBatchHeader(out: Buffer, { records, producer, sequence }: PartitionBatch, options: ProduceOptions): void {
  const { compression, nowMs } = options;
  let at = out.writeBigInt64BE(0n, 0);
  at = out.writeInt32BE(out.length - 12, at);
  at = out.writeInt32BE(-1, at);
  out[at++] = 2;
  at = out.writeInt16BE(CODECS[compression].bits, CHECKED_FROM);
  at = out.writeInt32BE(records.length - 1, at);
  at = out.writeBigInt64BE(BigInt(nowMs), at);
  at = out.writeBigInt64BE(BigInt(nowMs), at);
  at = out.writeBigInt64BE(BigInt(producer.id), at);
  at = out.writeInt16BE(producer.epoch, at);
  at = out.writeInt32BE(sequence, at);
  out.writeInt32BE(records.length, at);
  out.writeUInt32BE(crc32C(out.subarray(CHECKED_FROM)), 17);
}

/**
 * Headers `eventId` on every record, `sentAt` (wall clock in ms) on those of a first attempt, with `clock: right` where
 * that is known, `resent: 1` on those of a later one. All records get the batch's time.
 * @param room to write into, if they fit
 */
export function encodeRecords(
  records: readonly ShipRecord[],
  headers: { readonly resent: boolean; readonly sentAt?: number | undefined; readonly isClockRight?: boolean },
  room?: Buffer,
): Buffer {
  const { resent, sentAt, isClockRight = false } = headers;
  const sent = sentAt === undefined ? '' : String(sentAt);
  const sentHeader = sent === '' ? '' : `\x0csentAt${String.fromCharCode(sent.length * 2)}${sent}`;
  const clock = sent !== '' && isClockRight ? CLOCK_RIGHT : '';
  const count = 1 + [resent, sent !== '', clock !== ''].filter(Boolean).length;
  const head = Buffer.from(
    `${String.fromCharCode(count * 2)}${resent ? RESENT : ''}${sentHeader}${clock}${EVENT_ID}`,
    'latin1',
  );
  const headerBytes = head.length + EVENT_ID_BYTES;
  let capacity = 0;
  for (const record of records) {
    const keyRoom = record.inPlace?.keyBytes ?? (record.key?.length ?? 0) * 3;
    capacity += FIXED_BYTES + headerBytes + record.bytes + keyRoom;
  }
  // With some to spare: the next batch is about as long.
  const out = room !== undefined && room.length >= capacity ? room : Buffer.allocUnsafeSlow(capacity + (capacity >> 3));
  let at = 0;
  for (let offset = 0; offset < records.length; offset++) {
    const record = records[offset]!;
    const { inPlace, bytes } = record;
    const keyBytes = inPlace?.keyBytes ?? (record.key === null ? -1 : Buffer.byteLength(record.key));
    const body =
      1 +
      1 +
      varintSize(offset) +
      varintSize(keyBytes) +
      Math.max(keyBytes, 0) +
      varintSize(bytes) +
      bytes +
      headerBytes;
    at = varint(out, at, body);
    out[at++] = 0;
    out[at++] = 0;
    at = varint(out, at, offset);
    at = varint(out, at, keyBytes);
    if (inPlace !== undefined) {
      at = inPlace.writeKey(out, at);
      at = inPlace.writeValue(out, varint(out, at, bytes));
      out.set(head, at);
      at = inPlace.writeEventId(out, at + head.length);
      continue;
    }
    if (record.key !== null) at += out.write(record.key, at);
    at = varint(out, at, bytes);
    at += out.write(record.line, at);
    at += head.copy(out, at);
    at += out.write(record.eventId, at, 'latin1');
  }
  return out.subarray(0, at);
}

/**
 * CRC-32C by eight bytes at a time; kafkajs takes one. "Slicing-by-8": Kounavis and Berry, A Systematic Approach to Building High
 * Performance Software-based CRC Generators, 2005.
 */
export function crc32C(bytes: Buffer): number {
  const table = CRC_TABLES;
  let crc = -1;
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      table[0x700 | (crc & 255)]! ^
      table[0x600 | ((crc >>> 8) & 255)]! ^
      table[0x500 | ((crc >>> 16) & 255)]! ^
      table[0x400 | (crc >>> 24)]! ^
      table[0x300 | bytes[at + 4]!]! ^
      table[0x200 | bytes[at + 5]!]! ^
      table[0x100 | bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at++) crc = table[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Eight tables of 256: what a byte comes to when so many others follow it. */
const CRC_TABLES = new Int32Array(8 * 256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  CRC_TABLES[byte] = crc;
}
for (let i = 256; i < 8 * 256; i++) {
  const before = CRC_TABLES[i - 256]!;
  CRC_TABLES[i] = CRC_TABLES[before & 255]! ^ (before >>> 8);
}

/** Signed integer, zigzag and 7 bits per byte. */
function varint(out: Buffer, at: number, value: number): number {
  let rest = ((value << 1) ^ (value >> 31)) >>> 0;
  let next = at;
  while (rest > 127) {
    out[next++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[next++] = rest;
  return next;
}

function varintSize(value: number): number {
  const rest = ((value << 1) ^ (value >> 31)) >>> 0;
  if (rest < 1 << 7) return 1;
  if (rest < 1 << 14) return 2;
  if (rest < 1 << 21) return 3;
  return rest < 1 << 28 ? 4 : 5;
}

// ---- does this host's clock agree with a broker's? ----

// Answers prove it: a batch was sent and answered at times of this host's clock, and written in between at a time of the
// broker's. A slow answer proves nothing, nor does one across a step of this host's clock.

interface OwnClock {
  /** Now, by this host's clocks; to be handed back with the answer. */
  moment(): Moment;
  /**
   * A batch that left at `sent`, for the first time, was answered just now. @param writtenMs the broker's time; -1 when the
   * broker does not say
   */
  answered(sent: Moment, writtenMs: number): void;
  /** It is right to within two seconds, and has not been set since that was proved. */
  isRight(): boolean;
}

/** From an error of this size on, logpipe corrects event times (source/kafka/record-batch.ts). */
const RIGHT_MS = 2_000;

export function createOwnClock(clock: Clock): OwnClock {
  let proof: Moment | undefined;

  const moment = () => momentOf(clock);
  /** By how much the wall clock was set in between. */
  const setBy = (from: Moment, to: Moment) => Math.abs(to.wallMs - from.wallMs - (to.monotonicMs - from.monotonicMs));

  return {
    moment,
    answered(sent, writtenMs) {
      const answered = moment();
      if (writtenMs < 0 || setBy(sent, answered) > STEP_MS) return;
      // It was written after it was sent and before it was answered: how far this clock is behind lies between these two.
      const [least, most] = [writtenMs - answered.wallMs, writtenMs - sent.wallMs];
      if (least > -RIGHT_MS && most < RIGHT_MS) proof = answered;
      else if (least >= RIGHT_MS || most <= -RIGHT_MS) proof = undefined;
    },
    isRight: () => proof !== undefined && setBy(proof, moment()) <= STEP_MS,
  };
}
