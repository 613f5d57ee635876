// Sends records that are already in Kafka's format through a kafkajs producer. In: a batch. Out: when it is acknowledged.
//
// kafkajs builds every record from a dozen small buffers, more than half of the CPU time of a log line. So it is given
// empty stand-ins instead, as many as there are records, and a codec of our own, which kafkajs asks for the bytes of each
// partition: encode.ts writes them. Connections, metadata, leaders, retries and sequence numbers stay with kafkajs.
// kafkajs puts only the lowest three bits of a codec's number into the batch, so numbers from 8 up are free, and other
// users of kafkajs in the process see no change. Depends on kafkajs 2.2's way through its arrays (`reduce` to group, `map`
// to encode), so that version is pinned; test/integration/transport.test.ts reads every byte back.
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import kafkajs, { type CompressionTypes, type ICustomPartitioner, type Message, type Producer } from 'kafkajs';
import { assertAcknowledged } from '../core/kafka-acks.ts';
import { snappyCodec } from '../core/kafka-codecs.ts';
import { encodeRecords } from './encode.ts';
import type { Compression } from './options.ts';
import { choosePartition, turnOf } from './partition.ts';
import type { ShipRecord } from './record.ts';

export interface EncodedSend {
  readonly partitioner: ICustomPartitioner;
  /** Resolves when all in-sync replicas have the records. */
  send(producer: Producer, topic: string, records: readonly ShipRecord[], resent: boolean): Promise<void>;
  /** Takes the codec out of kafkajs's table. */
  dispose(): void;
}

const CODEC_BITS = { none: 0, gzip: 1, snappy: 2 } as const;
/** Where the first stand-in's value begins: behind length, attributes, time, offset, no key and its own length, a byte each. */
const VALUE_AT = 6;
const STAND_IN: Message = Object.freeze({ key: null, value: null });
const gzipped = promisify(gzip);

export function createEncodedSend(compression: Compression): EncodedSend {
  const table = kafkajs.CompressionCodecs as Record<number, unknown>;
  const batches = new Map<number, Batch>();
  let lastId = 0;
  let codec = 8 + CODEC_BITS[compression];
  while (table[codec] !== undefined) codec += 8;
  table[codec] = () => ({
    async compress({ buffer }: { buffer: Buffer }): Promise<Buffer> {
      const batch = batches.get(buffer.readInt32BE(VALUE_AT));
      const records = batch?.partitions.get(buffer.readInt32BE(VALUE_AT + 4));
      if (batch === undefined || records === undefined) throw new Error('the batch to encode has been given up');
      const bytes = encodeRecords(records, batch.resent);
      if (compression === 'gzip') return gzipped(bytes);
      return compression === 'snappy' ? snappyCodec.compress({ buffer: bytes }) : bytes;
    },
    decompress: async (bytes: Buffer) => bytes,
  });

  return {
    partitioner:
      () =>
      ({ partitionMetadata, message }) => {
        if (message instanceof Probe) message.partitions = partitionMetadata;
        return 0;
      },
    async send(producer, topic, records, resent) {
      lastId = (lastId + 1) & 0x7fffffff;
      const batch = new Batch(lastId, records, resent);
      batches.set(lastId, batch);
      const { id } = batch;
      try {
        const answers = await producer.send({
          topic,
          messages: batch,
          acks: -1,
          compression: codec as CompressionTypes,
        });
        // What nobody acknowledged is not delivered: the caller sends the batch again.
        assertAcknowledged(answers, batch.partitions.keys(), topic);
      } finally {
        // Only now: when nobody waits any more kafkajs may still be retrying, and must find this batch and no other.
        batches.delete(id);
      }
    },
    dispose: () => {
      delete table[codec];
    },
  };
}

/** Learns the topic's partitions from the question where to put it. */
class Probe {
  readonly key = null;
  readonly value = null;
  partitions: readonly { partitionId: number; leader: number }[] = [];
}

/** The messages of one send: as many stand-ins as records, which group themselves by partition. */
class Batch extends Array<Message> {
  readonly id: number;
  readonly resent: boolean;
  readonly partitions = new Map<number, ShipRecord[]>();
  readonly #records: readonly ShipRecord[];
  #groups: Record<number, Message[]> | undefined;

  constructor(id: number, records: readonly ShipRecord[], resent: boolean) {
    super(records.length);
    this.fill(STAND_IN);
    this.id = id;
    this.resent = resent;
    this.#records = records;
  }

  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }

  /**
   * kafkajs groups by partition with this, once per attempt. Every attempt gets the first one's answer: another partition
   * would break the sequence numbers that protect from duplicates.
   */
  override reduce<U>(callback: (...args: never[]) => U, initial?: U): U {
    this.#groups ??= this.#group((probe) => (callback as (result: unknown, message: unknown) => U)({}, probe));
    void initial;
    return this.#groups as U;
  }

  #group(ask: (probe: Probe) => void): Record<number, Message[]> {
    const probe = new Probe();
    ask(probe);
    for (const record of this.#records) {
      const turn = record.key === null ? turnOf(record.eventId) : 0;
      const partition = choosePartition(probe.partitions, record.key, turn);
      const records = this.partitions.get(partition);
      if (records === undefined) this.partitions.set(partition, [record]);
      else records.push(record);
    }
    const groups: Record<number, Message[]> = {};
    for (const [partition, records] of this.partitions) {
      groups[partition] = new StandIns(records.length, this.id, partition);
    }
    return groups;
  }
}

/** One partition's stand-ins. The first one says in its value which batch and partition this is. */
class StandIns extends Array<Message> {
  constructor(length: number, batch: number, partition: number) {
    super(length);
    this.fill(STAND_IN);
    const value = Buffer.allocUnsafe(8);
    value.writeInt32BE(batch, 0);
    value.writeInt32BE(partition, 4);
    this[0] = { key: null, value };
  }

  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }

  /** All but the first are the same object, so `callback` sees two of them only: this is what saves the time. */
  override map<U>(callback: (message: Message, index: number, all: Message[]) => U): U[] {
    const results = new Array<U>(this.length);
    if (this.length > 1) results.fill(callback(this[1]!, 1, this));
    results[0] = callback(this[0]!, 0, this);
    return results;
  }
}
