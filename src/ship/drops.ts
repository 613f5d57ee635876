// Records that will not reach Kafka. In: a reason and a number. Out: counts by reason, and one notice per episode.

/** Closed list; reasons become metric labels. */
export const DROP_REASONS = ['queue-full', 'refused', 'failed', 'closed'] as const;
export type DropReason = (typeof DROP_REASONS)[number];
export type DropCounts = Record<DropReason, number>;

export interface DropNotice {
  readonly reason: DropReason;
  /** Dropped for this reason since the transport was made, this one included. */
  readonly total: number;
  /** What to do about it. */
  readonly message: string;
}

export interface Drops {
  count(reason: DropReason, records: number): void;
  /** Deliveries work and there is room: what is dropped from now on is a new episode. */
  settle(): void;
  counts(): DropCounts;
  total(): number;
}

const MESSAGES: Record<DropReason, string> = {
  'queue-full':
    'The queue is full, new records are dropped until Kafka takes some; see queue.maxRecords, queue.maxBytes.',
  refused: 'Kafka refuses a record for good; compare the topic’s max.message.bytes with maxRecordBytes.',
  failed: 'A record could not be logged: reading it failed, or a format did, or a transport in front of this one.',
  closed: 'Records were logged after the transport had been closed.',
};

/** `onStart` is called with the first drop of an episode, `onEnd` with the number dropped in it. */
export function createDrops(deps: {
  onStart(notice: DropNotice): void;
  onEnd(reason: DropReason, dropped: number): void;
}): Drops {
  const counts: DropCounts = { 'queue-full': 0, refused: 0, failed: 0, closed: 0 };
  const since: Partial<DropCounts> = {};
  return {
    count(reason, records) {
      const before = counts[reason];
      counts[reason] += records;
      if (since[reason] !== undefined) return;
      since[reason] = before;
      deps.onStart({ reason, total: counts[reason], message: MESSAGES[reason] });
    },
    settle() {
      for (const reason of ['queue-full', 'refused', 'failed'] as const) {
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
