// A Kafka cluster with one topic, at the wire and in this process: any number of brokers, whose leaders, silence and answers the test
// decides. It keeps records as brokers do: a partition's leader drops a batch whose producer and sequence numbers it already has,
// and refuses numbers that leave a gap.
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import crc32C from 'kafkajs/src/protocol/recordBatch/crc32C/index.js';
import { onTestFinished } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import { createScriptedGroup, GROUP_VERSIONS, type ScriptedGroup } from './scripted-group.ts';

interface Decoder {
  readInt16(): number;
  readInt32(): number;
  readInt64(): { toString(): string };
  readInt8(): number;
  readString(): string;
  /** Reads bytes that follow their length. */
  readBytes(): Buffer;
}
interface Encoder {
  readonly buffer: Buffer;
  writeInt16(value: number): Encoder;
  writeBuffer(value: Buffer): Encoder;
  writeInt32(value: number): Encoder;
  writeInt64(value: number): Encoder;
  writeString(value: string | null): Encoder;
  writeBoolean(value: boolean): Encoder;
  writeBytes(value: Buffer): Encoder;
}
interface DecodedBatch {
  readonly producerId: string;
  readonly firstSequence: number;
  readonly records: readonly { key: Buffer | null; value: Buffer | null; headers: Record<string, Buffer> }[];
}

const require = createRequire(import.meta.url);
const DecoderClass = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => Decoder;
const EncoderClass = require('kafkajs/src/protocol/encoder') as new () => Encoder;
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder') as (
  decoder: Decoder,
) => Promise<DecodedBatch>;

const PRODUCE = 0;
const FETCH = 1;
const LIST_OFFSETS = 2;
const METADATA = 3;
const API_VERSIONS = 18;
const INIT_PRODUCER_ID = 22;
/** Highest version of each request that is answered. */
const VERSIONS = {
  ...{ [PRODUCE]: 5, [FETCH]: 11, [LIST_OFFSETS]: 2, [METADATA]: 5, [API_VERSIONS]: 2, [INIT_PRODUCER_ID]: 0 },
  ...GROUP_VERSIONS,
};

/** Place of a batch's newest time stamp. */
const MAX_TIME_AT = 35;

const OFFSET_OUT_OF_RANGE = 1;
const LEADER_NOT_AVAILABLE = 5;
const NOT_LEADER = 6;
const OUT_OF_ORDER = 45;

export interface StoredRecord {
  readonly partition: number;
  readonly key: string | null;
  readonly value: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface ScriptedKafka {
  /** Addresses of all brokers. */
  readonly brokers: string[];
  readonly topic: string;
  /** What is in the topic. */
  readonly records: readonly StoredRecord[];
  /** -1 for none. */
  lead(partition: number, broker: number): void;
  /** From now on answers say when records were written, by this clock. */
  writeAt(clock: () => number): void;
  addPartitions(count: number): void;
  /** Takes connections and requests, and answers nothing until `thaw`. */
  freeze(broker: number): void;
  thaw(broker: number): void;
  /** Ends the broker: its connections break, and nobody listens at its port until `start`. */
  stop(broker: number): Promise<void>;
  start(broker: number): Promise<void>;
  /** All brokers lose the numbers of all producers, as an unclean election or a new disk does. */
  forgetProducers(): void;
  /** The next produce request for the partition gets this error; with `stored`, its records are kept all the same. */
  answer(partition: number, errorCode: number, stored?: boolean): void;
  /** Produce requests so far, as `broker: partition+partition`. */
  readonly requests: readonly string[];
  /** Retention: the partition's records before the offset are gone. */
  removeBefore(partition: number, offset: number): void;
  /** Compaction: the batches stay, without their records. */
  emptyBatches(partition: number): void;
  /** Coordinated by the first broker. */
  readonly group: ScriptedGroup;
}

/** A partition as its leader keeps it. */
interface Log {
  low: number;
  next: number;
  batches: { readonly first: number; readonly last: number; bytes: Buffer }[];
}

interface Broker {
  readonly id: number;
  readonly server: Server;
  /** Known from its first start on. */
  port: number;
  readonly sockets: Set<Socket>;
  frozen: boolean;
  /** Requests that came while it was frozen. */
  held: (() => Promise<void>)[];
}

/** Ends with the test. Partition `n` of `partitions` is led by broker `n % brokers`. */
export async function startScriptedKafka(size: { brokers: number; partitions: number }): Promise<ScriptedKafka> {
  const topic = 'scripted';
  const records: StoredRecord[] = [];
  const requests: string[] = [];
  const leaders = Array.from({ length: size.partitions }, (_, n) => n % size.brokers);
  const errors = new Map<number, { code: number; stored: boolean }[]>();
  const sequences = new Map<string, number>();
  const logs = new Map<number, Log>();
  const logOf = (partition: number): Log => {
    const log = logs.get(partition) ?? { low: 0, next: 0, batches: [] };
    logs.set(partition, log);
    return log;
  };
  let lastProducerId = 1_000;
  let writtenAt = () => -1;
  const coordinator = createScriptedGroup(() => ({ id: 0, port: portOf(brokers[0]!) }));
  const brokers: Broker[] = [];
  for (let id = 0; id < size.brokers; id++) {
    const broker: Broker = { id, server: createServer(), port: 0, sockets: new Set(), frozen: false, held: [] };
    broker.server.on('connection', (socket) => serve(broker, socket));
    await listen(broker);
    brokers.push(broker);
  }
  onTestFinished(async () => {
    for (const { server, sockets } of brokers) {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    }
  });
  const portOf = ({ port }: Broker) => port;

  async function listen(broker: Broker): Promise<void> {
    await new Promise<void>((resolve) => broker.server.listen(broker.port, '127.0.0.1', resolve));
    broker.port = (broker.server.address() as AddressInfo).port;
  }

  function serve(broker: Broker, socket: Socket): void {
    broker.sockets.add(socket);
    socket.on('error', () => {}).once('close', () => broker.sockets.delete(socket));
    let pending = Buffer.alloc(0);
    let last: Promise<void> = Promise.resolve();
    socket.on('data', (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      while (pending.length >= 4 && pending.length >= 4 + pending.readInt32BE(0)) {
        const frame = pending.subarray(4, 4 + pending.readInt32BE(0));
        pending = pending.subarray(4 + frame.length);
        const handle = async () => {
          const reply = await answerTo(broker, frame);
          const head = Buffer.alloc(4);
          head.writeInt32BE(reply.length);
          if (!socket.destroyed) socket.write(Buffer.concat([head, reply]));
        };
        if (broker.frozen) broker.held.push(handle);
        else last = last.then(handle);
      }
    });
  }

  async function answerTo(broker: Broker, frame: Buffer): Promise<Buffer> {
    const request = new DecoderClass(frame);
    const [key, version, correlation] = [request.readInt16(), request.readInt16(), request.readInt32()];
    request.readString();
    const reply = new EncoderClass().writeInt32(correlation);
    if (key === API_VERSIONS) {
      reply.writeInt16(0).writeInt32(Object.keys(VERSIONS).length);
      for (const [api, highest] of Object.entries(VERSIONS))
        reply.writeInt16(Number(api)).writeInt16(0).writeInt16(highest);
      if (version > 0) reply.writeInt32(0);
    } else if (key === INIT_PRODUCER_ID) {
      reply.writeInt32(0).writeInt16(0).writeInt64(++lastProducerId).writeInt16(0);
    } else if (key === METADATA) {
      writeMetadata(reply);
    } else if (coordinator.answer(key, request, reply)) {
      // Answered.
    } else if (key === LIST_OFFSETS) {
      listOffsets(broker, request, reply);
    } else if (key === FETCH) {
      await fetch(broker, request, reply);
    } else {
      await produce(broker, request, reply);
    }
    return reply.buffer;
  }

  function writeMetadata(reply: Encoder): void {
    reply.writeInt32(0).writeInt32(brokers.length);
    for (const broker of brokers)
      reply.writeInt32(broker.id).writeString('127.0.0.1').writeInt32(portOf(broker)).writeString(null);
    reply.writeString(null).writeInt32(0).writeInt32(1).writeInt16(0).writeString(topic).writeBoolean(false);
    reply.writeInt32(leaders.length);
    leaders.forEach((leader, partition) => {
      reply
        .writeInt16(leader < 0 ? LEADER_NOT_AVAILABLE : 0)
        .writeInt32(partition)
        .writeInt32(leader);
      for (let list = 0; list < 3; list++) reply.writeInt32(0);
    });
  }

  async function produce(broker: Broker, request: Decoder, reply: Encoder): Promise<void> {
    request.readString();
    request.readInt16();
    request.readInt32();
    request.readInt32();
    request.readString();
    const count = request.readInt32();
    reply.writeInt32(1).writeString(topic).writeInt32(count);
    const partitions: number[] = [];
    for (let i = 0; i < count; i++) {
      const partition = request.readInt32();
      const bytes = request.readBytes();
      const batch = await decodeBatch(new DecoderClass(bytes));
      partitions.push(partition);
      const code = store(broker, partition, batch, bytes);
      reply.writeInt32(partition).writeInt16(code).writeInt64(0).writeInt64(writtenAt()).writeInt64(0);
    }
    reply.writeInt32(0);
    requests.push(`${broker.id}: ${partitions.join('+')}`);
  }

  function store(broker: Broker, partition: number, batch: DecodedBatch, bytes: Buffer): number {
    if (leaders[partition] !== broker.id) return NOT_LEADER;
    const scripted = errors.get(partition)?.shift();
    if (scripted !== undefined && !scripted.stored) return scripted.code;
    const numbered = `${batch.producerId}/${partition}`;
    // A producer that is not idempotent numbers nothing.
    const next = BigInt(batch.producerId) < 0n ? undefined : sequences.get(numbered);
    const first = batch.firstSequence;
    if (next === undefined || first === next) {
      sequences.set(numbered, first + batch.records.length);
      append(logOf(partition), batch.records.length, bytes);
      for (const { key, value, headers } of batch.records) {
        const texts = Object.entries(headers).map(([name, bytes]) => [name, bytes.toString()]);
        records.push({
          partition,
          key: key?.toString() ?? null,
          value: value?.toString() ?? '',
          headers: Object.fromEntries(texts) as Record<string, string>,
        });
      }
    } else if (first + batch.records.length !== next) {
      return OUT_OF_ORDER;
    }
    return scripted?.code ?? 0;
  }

  function append(log: Log, count: number, bytes: Buffer): void {
    // The checksum does not cover offsets.
    const kept = Buffer.from(bytes);
    kept.writeBigInt64BE(BigInt(log.next), 0);
    log.batches.push({ first: log.next, last: log.next + count - 1, bytes: kept });
    log.next += count;
  }

  /** The end for -1, the beginning for -2, else the first batch with a record of this time or later; -1 when there is none. */
  function offsetAt({ low, next, batches }: Log, ms: number): number {
    if (ms < 0) return ms === -2 ? low : next;
    const found = batches.find(({ bytes }) => Number(bytes.readBigInt64BE(MAX_TIME_AT)) >= ms);
    return found === undefined ? -1 : Math.max(low, found.first);
  }

  function listOffsets(broker: Broker, request: Decoder, reply: Encoder): void {
    request.readInt32();
    request.readInt8();
    request.readInt32();
    request.readString();
    const count = request.readInt32();
    reply.writeInt32(0).writeInt32(1).writeString(topic).writeInt32(count);
    for (let i = 0; i < count; i++) {
      const partition = request.readInt32();
      const log = logOf(partition);
      const offset = offsetAt(log, Number(request.readInt64().toString()));
      const code = leaders[partition] === broker.id ? 0 : NOT_LEADER;
      reply.writeInt32(partition).writeInt16(code).writeInt64(-1).writeInt64(offset);
    }
  }

  /** Waits a little when there is nothing, as a broker does. */
  async function fetch(broker: Broker, request: Decoder, reply: Encoder): Promise<void> {
    for (let field = 0; field < 4; field++) request.readInt32();
    request.readInt8();
    for (let field = 0; field < 3; field++) request.readInt32();
    request.readString();
    const wanted: { partition: number; offset: number }[] = [];
    for (let count = request.readInt32(); count > 0; count--) {
      const partition = request.readInt32();
      request.readInt32();
      wanted.push({ partition, offset: Number(request.readInt64().toString()) });
      request.readInt64();
      request.readInt32();
    }
    const found = ({ partition, offset }: (typeof wanted)[number]) => {
      const { low, next, batches } = logOf(partition);
      if (leaders[partition] !== broker.id) return { code: NOT_LEADER, bytes: Buffer.alloc(0) };
      if (offset < low || offset > next) return { code: OFFSET_OUT_OF_RANGE, bytes: Buffer.alloc(0) };
      return { code: 0, bytes: batches.find(({ last }) => last >= offset)?.bytes ?? Buffer.alloc(0) };
    };
    if (wanted.every((one) => found(one).code === 0 && found(one).bytes.length === 0)) await sleep(50);
    reply.writeInt32(0).writeInt16(0).writeInt32(0).writeInt32(1).writeString(topic).writeInt32(wanted.length);
    for (const one of wanted) {
      const { code, bytes } = found(one);
      const { low, next } = logOf(one.partition);
      reply.writeInt32(one.partition).writeInt16(code).writeInt64(next).writeInt64(next).writeInt64(low);
      reply.writeInt32(0).writeInt32(-1).writeInt32(bytes.length).writeBuffer(bytes);
    }
  }

  return {
    brokers: brokers.map((broker) => `127.0.0.1:${portOf(broker)}`),
    topic,
    records,
    requests,
    group: coordinator.group,
    lead(partition, broker) {
      leaders[partition] = broker;
    },
    writeAt(clock) {
      writtenAt = clock;
    },
    removeBefore(partition, offset) {
      const log = logOf(partition);
      log.low = offset;
      log.batches = log.batches.filter(({ last }) => last >= offset);
    },
    emptyBatches(partition) {
      for (const batch of logOf(partition).batches) batch.bytes = emptied(batch.bytes);
    },
    addPartitions(count) {
      for (let i = 0; i < count; i++) leaders.push(leaders.length % size.brokers);
    },
    freeze(broker) {
      brokers[broker]!.frozen = true;
    },
    thaw(broker) {
      const frozen = brokers[broker]!;
      frozen.frozen = false;
      void frozen.held.splice(0).reduce((before, handle) => before.then(handle), Promise.resolve());
    },
    async stop(broker) {
      const { server, sockets, held } = brokers[broker]!;
      held.length = 0;
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
    start: (broker) => listen(brokers[broker]!),
    forgetProducers() {
      sequences.clear();
    },
    answer(partition, code, stored = false) {
      const list = errors.get(partition) ?? [];
      list.push({ code, stored });
      errors.set(partition, list);
    },
  };
}

/** The batch as compaction leaves it when none of its records is kept: only its header, with the same offsets. */
function emptied(batch: Buffer): Buffer {
  const header = Buffer.from(batch.subarray(0, 61));
  header.writeInt32BE(61 - 12, 8);
  header.writeInt32BE(0, 57);
  header.writeUInt32BE(crc32C(header.subarray(21)) >>> 0, 17);
  return header;
}
