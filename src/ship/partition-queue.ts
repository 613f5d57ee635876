// What goes to one partition of the topic. In: records, live ones and such as come out of a spool's file. Out: batches, in order.
// Guarantee: a batch is of one kind: live, or out of one file and alike in whether its records were attempted before; live records and
// those out of a file take turns; a key always leads to the same partition.
import type { ProducerId } from './brokers.ts';
import type { ShipRecord } from './log-record.ts';
import type { LeftSpool, Spool, SpooledRecord, SpoolPlace } from './spool.ts';

/** What records are read from: this process's own spool, or one that was left. */
export type Source = Pick<Spool, 'next' | 'attempting' | 'done' | 'park' | 'rewind' | 'records' | 'available'> &
  Partial<LeftSpool>;

/** A record out of a file, with the partition that it goes to noted there. */
export interface Drained {
  readonly record: SpooledRecord;
  readonly source: Source;
}

/** Records that were attempted together. */
export interface Batch {
  readonly records: readonly ShipRecord[];
  /** Where they or their copies are in a file; undefined while they are in memory alone. */
  source: Source | undefined;
  places: readonly SpoolPlace[];
  /** They come from the file and do not count in the queue. */
  readonly isDrained: boolean;
  /** An earlier attempt may have arrived. */
  uncertain: boolean;
}

/** One partition of the topic, with what goes there. */
export interface PartitionQueue {
  readonly number: number;
  /** Never attempted, oldest first. */
  waiting: ShipRecord[];
  /** Some of the waiting records may have no key. */
  mixed: boolean;
  /** Out of a file, oldest first. */
  drained: Drained[];
  /** The batch before was one of these. */
  drainedLast: boolean;
  /** The spool keeps records for it that are read again when it takes some. */
  parked: boolean;
  /** Attempted, oldest first: these must stay in this partition. */
  attempted: Batch[];
  producer: ProducerId | undefined;
  sequence: number;
  /** The broker whose answer the first attempted batch waits for. */
  askedOf: number | undefined;
  failures: number;
  /** The broker that failed it by not answering; undefined when it was the partition's own fault. */
  failedBy: number | undefined;
  /** Not tried again before this. */
  notBeforeMs: number;
  /** Since when it has taken nothing. */
  stuckSinceMs: number | undefined;
}

export function createPartitionQueue(number: number): PartitionQueue {
  return {
    ...{ number, waiting: [], mixed: false, drained: [], drainedLast: false, parked: false, attempted: [] },
    ...{ producer: undefined, sequence: 0, askedOf: undefined },
    ...{ failures: 0, failedBy: undefined, notBeforeMs: 0, stuckSinceMs: undefined },
  };
}

export function putInto(partition: PartitionQueue, record: ShipRecord): void {
  partition.waiting.push(record);
  if (record.key === null) partition.mixed = true;
}

/** Most of what a batch may hold. */
export interface Room {
  readonly records: number;
  /** Of them, out of a file. */
  readonly drainedRecords: number;
  readonly bytes: number;
}

/** The next batch, now attempted; at least one record, unless only records out of a file wait and there is no room for them. */
export function nextBatch(partition: PartitionQueue, room: Room): Batch | undefined {
  const { waiting, drained } = partition;
  const isDrained = drained.length > 0 && (waiting.length === 0 || !partition.drainedLast);
  if (isDrained ? room.drainedRecords <= 0 : waiting.length === 0) return undefined;
  const batch = isDrained
    ? firstDrained(partition, Math.max(Math.min(room.records, room.drainedRecords), 1), room.bytes)
    : firstWaiting(partition, Math.max(room.records, 1), room.bytes);
  partition.drainedLast = isDrained;
  partition.attempted.push(batch);
  return batch;
}

function firstWaiting(partition: PartitionQueue, maxRecords: number, maxBytes: number): Batch {
  const { waiting } = partition;
  const count = howMany(waiting.length, maxRecords, maxBytes, (n) => waiting[n]!.bytes);
  const live = { source: undefined, places: [], isDrained: false, uncertain: false };
  if (count < waiting.length) return { records: waiting.splice(0, count), ...live };
  partition.waiting = [];
  partition.mixed = false;
  return { records: waiting, ...live };
}

/** Of one source, and alike in whether they were attempted before. */
function firstDrained(partition: PartitionQueue, maxRecords: number, maxBytes: number): Batch {
  const { drained } = partition;
  const { source, record } = drained[0]!;
  const uncertain = record.partition !== undefined;
  const other = drained.findIndex((one) => one.source !== source || (one.record.partition !== undefined) !== uncertain);
  const alike = other < 0 ? drained.length : other;
  const first = drained.splice(
    0,
    howMany(alike, maxRecords, maxBytes, (n) => drained[n]!.record.bytes),
  );
  const records = first.map((one) => one.record);
  return { records, source, places: records.map(({ place }) => place), isDrained: true, uncertain };
}

/** A batch that was refused, as two. */
export function halves(batch: Batch): [Batch, Batch] {
  const half = batch.records.length >> 1;
  const part = (from: number, to?: number): Batch => ({
    ...batch,
    records: batch.records.slice(from, to),
    places: batch.places.slice(from, to),
  });
  return [part(0, half), part(half)];
}

/** How many of so many records go into a batch; at least one. */
function howMany(length: number, maxRecords: number, maxBytes: number, bytesOf: (n: number) => number): number {
  let size = 0;
  for (let count = 0; count < length && count < maxRecords; count++) {
    size += bytesOf(count);
    if (count > 0 && size > maxBytes) return count;
  }
  return Math.min(length, maxRecords);
}

// ---- which partition takes a record at its first attempt ----

/**
 * The partition's number. Keys are placed as Kafka's Java client places them (murmur2), so that all producers of a call's records
 * agree. Records without a key go to one `usable` partition for a while, then to the next, which makes few, large batches.
 */
export function choosePartition(
  partitions: readonly { readonly partitionId: number }[],
  usable: readonly { readonly partitionId: number }[],
  key: string | null,
  turn: number,
): number {
  if (key !== null) return (murmur2(key) & 0x7fffffff) % partitions.length;
  const choice = usable.length > 0 ? usable : partitions;
  return choice[turn % choice.length]!.partitionId;
}

/** 32-bit murmur2 with Kafka's seed over the key's UTF-8 bytes. org.apache.kafka.common.utils.Utils#murmur2 */
function murmur2(key: string): number {
  const data = Buffer.from(key);
  const m = 0x5bd1e995;
  const length = data.length;
  let h = 0x9747b28c ^ length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let k = Math.imul(data.readInt32LE(at), m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  const rest = length - at;
  if (rest === 3) h ^= data[at + 2]! << 16;
  if (rest >= 2) h ^= data[at + 1]! << 8;
  if (rest >= 1) h = Math.imul(h ^ data[at]!, m);
  h = Math.imul(h ^ (h >>> 13), m);
  return h ^ (h >>> 15);
}
