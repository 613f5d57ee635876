// Records between the application and Kafka. In: records, one at a time. Out: batches in the same order; counts of what will not
// reach Kafka. Guarantee: never holds more than its limits, what is being sent included; refuses records instead of growing.

import type { ShipRecord } from './log-record.ts';
import type { QueueOptions } from './options.ts';

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

export function createQueue(limits: Required<QueueOptions>): ShipQueue {
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
      for (; head < entries.length && takes(entries[head]!); head++) {
        waitingBytes -= entries[head]!.bytes + RECORD_OVERHEAD_BYTES;
        entries[head] = undefined;
      }
      compact();
    },
    release(batch) {
      sending -= batch.length;
      for (const record of batch) sendingBytes -= record.bytes + RECORD_OVERHEAD_BYTES;
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
