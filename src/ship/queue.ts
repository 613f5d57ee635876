// Records between the application and Kafka. In: records, one at a time. Out: batches in the same order; counts of what will not
// reach Kafka. Guarantee: never holds more than its limits, what is being sent included; refuses records instead of growing.

import type { ShipRecord } from './log-record.ts';
import type { QueueOptions } from './options.ts';
import type { LeftSpool, Spool, SpooledRecord, SpoolPlace } from './spool.ts';

export interface ShipQueue {
  /** False when there is no room. */
  push(record: ShipRecord): boolean;
  /** The next batch, empty when there is nothing. Its records keep counting until `release`. */
  take(maxRecords: number, maxBytes: number): ShipRecord[];
  /** Hands out what waits, oldest first, until `takes` returns false; what it has taken leaves the queue. */
  takeWhile(takes: (record: ShipRecord) => boolean): void;
  /** These records of a batch are delivered or given up. */
  release(records: readonly ShipRecord[]): void;
  /** Waiting and being sent. */
  readonly records: number;
  readonly bytes: number;
  /** Waiting, without what is being sent. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** At most half full. */
  readonly relaxed: boolean;
}

/** Memory a record needs besides its text. */
const RECORD_OVERHEAD_BYTES = 100;
const COMPACT_AFTER = 4_096;

/** @param onReleased is told what has left memory: delivered, given up, or in the spool */
export function createQueue(
  limits: Required<QueueOptions>,
  onReleased: (records: readonly ShipRecord[]) => void = () => {},
): ShipQueue {
  let entries: (ShipRecord | undefined)[] = [];
  let head = 0;
  let waitingBytes = 0;
  let sending = 0;
  let sendingBytes = 0;

  const records = () => entries.length - head + sending;
  const bytes = () => waitingBytes + sendingBytes;

  function compact(): void {
    if (head === entries.length) {
      entries = [];
      head = 0;
    } else if (head >= COMPACT_AFTER && head * 2 >= entries.length) {
      entries = entries.slice(head);
      head = 0;
    }
  }

  return {
    push(record) {
      const size = record.bytes + RECORD_OVERHEAD_BYTES;
      if (records() >= limits.maxRecords || bytes() + size > limits.maxBytes) return false;
      entries.push(record);
      waitingBytes += size;
      return true;
    },
    take(maxRecords, maxBytes) {
      const batch: ShipRecord[] = [];
      let size = 0;
      while (head < entries.length && batch.length < maxRecords) {
        const record = entries[head]!;
        if (batch.length > 0 && size + record.bytes > maxBytes) break;
        entries[head++] = undefined;
        batch.push(record);
        size += record.bytes;
      }
      const counted = size + batch.length * RECORD_OVERHEAD_BYTES;
      waitingBytes -= counted;
      sending += batch.length;
      sendingBytes += counted;
      compact();
      return batch;
    },
    takeWhile(takes) {
      const taken: ShipRecord[] = [];
      for (; head < entries.length && takes(entries[head]!); head++) {
        waitingBytes -= entries[head]!.bytes + RECORD_OVERHEAD_BYTES;
        taken.push(entries[head]!);
        entries[head] = undefined;
      }
      compact();
      onReleased(taken);
    },
    release(batch) {
      sending -= batch.length;
      for (const record of batch) sendingBytes -= record.bytes + RECORD_OVERHEAD_BYTES;
      onReleased(batch);
    },
    get records() {
      return records();
    },
    get bytes() {
      return bytes();
    },
    get waiting() {
      return entries.length - head;
    },
    get waitingBytes() {
      return waitingBytes;
    },
    get relaxed() {
      return records() * 2 <= limits.maxRecords && bytes() * 2 <= limits.maxBytes;
    },
  };
}

// ---- records that will not reach Kafka: counts by reason, and one notice per episode ----

/** Closed list; reasons become metric labels. */
export const DROP_REASONS = ['queue-full', 'spool-full', 'spool-lost', 'refused', 'failed', 'closed'] as const;
export type DropReason = (typeof DROP_REASONS)[number];
export type DropCounts = Record<DropReason, number>;

export interface DropNotice {
  readonly reason: DropReason;
  /** Dropped for this reason since the transport was created, this one included. */
  readonly total: number;
  /** What to do about it. */
  readonly message: string;
}

export interface Drops {
  count(reason: DropReason, records: number): void;
  /** Deliveries succeed and there is room: whatever is dropped from now on is a new episode. */
  endEpisodes(): void;
  counts(): DropCounts;
  total(): number;
}

const MESSAGES: Record<DropReason, string> = {
  'queue-full':
    'The queue is full: new records are dropped until Kafka takes some; see queue.maxRecords, queue.maxBytes.',
  'spool-full': 'The spool is full: its oldest records are dropped until Kafka takes some; see spool.maxBytes.',
  'spool-lost': 'Files of the spool were removed or damaged, and with them records that Kafka had not taken yet.',
  refused: 'Kafka refuses a record for good; compare the topic’s max.message.bytes with maxRecordBytes.',
  failed: 'A record could not be logged: reading it failed, or a format or a transport before this one did.',
  closed: 'Records were logged after the transport had been closed.',
};

/** `onStart` is called with the first drop of an episode, `onEnd` with the number dropped in it. */
export function createDrops(deps: {
  onStart(notice: DropNotice): void;
  onEnd(reason: DropReason, dropped: number): void;
}): Drops {
  const counts: DropCounts = { 'queue-full': 0, 'spool-full': 0, 'spool-lost': 0, refused: 0, failed: 0, closed: 0 };
  const since: Partial<DropCounts> = {};
  return {
    count(reason, records) {
      const before = counts[reason];
      counts[reason] += records;
      if (since[reason] !== undefined) return;
      since[reason] = before;
      deps.onStart({ reason, total: counts[reason], message: MESSAGES[reason] });
    },
    endEpisodes() {
      for (const reason of ['queue-full', 'spool-full', 'spool-lost', 'refused', 'failed'] as const) {
        const before = since[reason];
        if (before === undefined) continue;
        delete since[reason];
        deps.onEnd(reason, counts[reason] - before);
      }
    },
    counts: () => ({ ...counts }),
    total: () => DROP_REASONS.reduce((sum, reason) => sum + counts[reason], 0),
  };
}

// ---- what goes to one partition: live records, and such as come out of a spool's file ----

// A batch is of one kind: live, or out of one file and alike in whether its records may have been attempted before; the two kinds take turns; a
// key always leads to the same partition.

/** The producer in whose name a partition's records are numbered. */
export interface ProducerId {
  /** 64 bits, as a decimal text. */
  readonly id: string;
  readonly epoch: number;
}

/** What records are read from: this process's own spool, or one that was left. */
export type Source = Pick<
  Spool,
  'next' | 'attempting' | 'done' | 'park' | 'rewind' | 'has' | 'isTaken' | 'records' | 'available'
> &
  Partial<LeftSpool>;

/** A record out of a file, with the partition that it goes to noted there. */
interface Drained {
  readonly record: SpooledRecord;
  readonly source: Source;
  /** By the monotonic clock. */
  readonly notedMs: number;
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
  if (record.inPlace === undefined && record.key === null) partition.mixed = true;
}

/** Most of what a batch may hold. */
interface Room {
  readonly records: number;
  /** Of them, out of a file. */
  readonly drainedRecords: number;
  readonly bytes: number;
  /** What was noted earlier may have been sent by another process meanwhile. */
  readonly notedAfterMs: number;
}

/** The next batch, now attempted; at least one record, unless only records out of a file wait and there is no room for them. */
export function nextBatch(partition: PartitionQueue, room: Room): Batch | undefined {
  const { waiting, drained } = partition;
  const isDrained = drained.length > 0 && (waiting.length === 0 || !partition.drainedLast);
  if (isDrained ? room.drainedRecords <= 0 : waiting.length === 0) return undefined;
  const batch = isDrained
    ? firstDrained(partition, Math.max(Math.min(room.records, room.drainedRecords), 1), room)
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
function firstDrained(
  { drained }: PartitionQueue,
  maxRecords: number,
  { bytes, notedAfterMs }: Pick<Room, 'bytes' | 'notedAfterMs'>,
): Batch {
  const isUncertain = ({ record, notedMs }: Drained) => record.partition !== undefined || notedMs < notedAfterMs;
  const { source } = drained[0]!;
  const uncertain = isUncertain(drained[0]!);
  const other = drained.findIndex((one) => one.source !== source || isUncertain(one) !== uncertain);
  const alike = other < 0 ? drained.length : other;
  const first = drained.splice(
    0,
    howMany(alike, maxRecords, bytes, (n) => drained[n]!.record.bytes),
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

// ---- the spool's copies of what was attempted, and what goes there at the end ----

// The cap, or whoever removes the folder, may take the file of a record that is in memory: then memory alone has it.

/** For whoever comes after this process; the records stay in memory, where their numbers are. @returns false: not taken now */
export function copyInto(spool: Spool, { number }: PartitionQueue, batch: Batch): boolean {
  if (batch.source !== undefined) return true;
  const places: SpoolPlace[] = [];
  for (const record of batch.records) {
    const place = spool.append(record, { partition: number, hold: true });
    if (place === undefined) {
      spool.done(places);
      return false;
    }
    places.push(place);
  }
  batch.source = spool;
  batch.places = places;
  return true;
}

/** Where a file has a record of the batch; another process may have taken that file over. */
function copyOf({ source, places }: Batch, n: number): SpoolPlace | undefined {
  const place = places[n];
  if (place === undefined || source === undefined) return undefined;
  return source.has(place) || source.isTaken(place) ? place : undefined;
}

/** Records of the spool that are in this queue too, less those that were read from it and are in no file any more. */
export function copiesOf({ attempted, drained }: PartitionQueue, spool: Source): number {
  let count = 0;
  for (const batch of attempted) {
    if (batch.source !== spool) continue;
    for (const place of batch.places) if (spool.has(place) !== batch.isDrained) count += batch.isDrained ? -1 : 1;
  }
  for (const { source, record } of drained) if (source === spool && !spool.has(record.place)) count--;
  return count;
}

/** The attempted records, each with where a file has it. */
export function attemptedOnes({ number, attempted }: PartitionQueue) {
  return attempted.flatMap((batch) =>
    batch.records.map((record, n) => ({ record, partition: number, copy: copyOf(batch, n) })),
  );
}

/** At the end: what came out of a file stays there. The spool counts what is in none any more. */
export function putBack(partition: PartitionQueue): void {
  for (const { source, record } of partition.drained.splice(0)) source.park([record.place]);
  for (const { isDrained, source, places } of partition.attempted) if (isDrained) source?.park(places);
  partition.attempted = partition.attempted.filter(({ isDrained }) => !isDrained);
}

/** At the end, after `putBack`: what the spool has, or takes, leaves memory. */
export function moveInto(spool: Spool, partition: PartitionQueue, queue: ShipQueue): void {
  const { number, attempted, waiting } = partition;
  const left: Batch[] = [];
  for (const batch of attempted) {
    const rest: ShipRecord[] = [];
    for (const [n, record] of batch.records.entries()) {
      const copy = copyOf(batch, n);
      if (copy !== undefined) spool.park([copy]);
      // In their order: what follows one that is not taken waits.
      else if (rest.length > 0 || spool.append(record, { partition: number }) === undefined) rest.push(record);
      if (rest.at(-1) !== record) queue.release([record]);
    }
    if (rest.length > 0) left.push({ ...batch, records: rest, source: undefined, places: [] });
  }
  partition.attempted = left;
  let count = 0;
  while (count < waiting.length && spool.append(waiting[count]!) !== undefined) count++;
  queue.release(waiting.splice(0, count));
}

// ---- which partition takes a record at its first attempt ----

/**
 * The partition's number. A number is the hash of a key. Keys are placed as Kafka's Java client places them (murmur2), so that all producers of a call's records
 * agree. Records without a key go to one `usable` partition for a while, then to the next, which makes few, large batches.
 */
export function choosePartition(
  partitions: readonly { readonly partitionId: number }[],
  usable: readonly { readonly partitionId: number }[],
  key: string | number | null,
  turn: number,
): number {
  if (key !== null) return ((typeof key === 'number' ? key : hashOf(key)) & 0x7fffffff) % partitions.length;
  const choice = usable.length > 0 ? usable : partitions;
  return choice[turn % choice.length]!.partitionId;
}

function hashOf(key: string): number {
  const data = Buffer.from(key);
  return murmur2(data, 0, data.length);
}

/** 32-bit murmur2 with Kafka's seed over a key's UTF-8 bytes. org.apache.kafka.common.utils.Utils#murmur2 */
export function murmur2(data: Uint8Array, from: number, to: number): number {
  const m = 0x5bd1e995;
  let h = 0x9747b28c ^ (to - from);
  let at = from;
  for (; at + 4 <= to; at += 4) {
    let k = Math.imul(data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24), m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  const rest = to - at;
  if (rest === 3) h ^= data[at + 2]! << 16;
  if (rest >= 2) h ^= data[at + 1]! << 8;
  if (rest >= 1) h = Math.imul(h ^ data[at]!, m);
  h = Math.imul(h ^ (h >>> 13), m);
  return h ^ (h >>> 15);
}
