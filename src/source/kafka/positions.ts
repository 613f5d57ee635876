// Where a group stands in a topic, and its commits. In: committed offsets, the ends of the log and the group's assignment, from
// the brokers; what the offset tracker calls finished. Out: start positions, records lost to retention (counted once), the lag
// per partition, partitions that nobody reads; committed offsets. Guarantee: an offset of an ended assignment is never committed.

import type { Admin, Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import type { Clock } from '../../core/clock.ts';
import { errorText } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Metrics } from '../../core/metrics.ts';
import type { DueOffset, OffsetTracker } from './offset-tracker.ts';

export interface StartPosition {
  readonly partition: number;
  /** The first offset to read. */
  readonly offset: number;
  /** The committed offset no longer exists: `offset` is to be committed in its place. */
  readonly moved: boolean;
}

/** How far a partition has been read. */
export interface PartitionPosition {
  readonly partition: number;
  /** Partitions of the topic. */
  readonly partitions: number;
  /** The next offset to deliver, and the end of the log as last heard. */
  readonly position: number;
  readonly end: number;
  /** Everything there was a moment ago has been delivered and taken. */
  readonly caughtUp: boolean;
  /** How long ago the brokers' answer said so, ms. */
  readonly ageMs: number;
}

interface KafkaPositions {
  /** Start positions of the given partitions. Rejects when the brokers cannot tell; ask again then. */
  startOf(partitions: readonly number[]): Promise<StartPosition[]>;
  /** A batch began at `found` although `expected` came next: counts what retention deleted in between. */
  gap(partition: number, expected: number, found: number): Promise<void>;
  /** What is known of a partition: the end of the log, or the committed offset. */
  observe(partition: number, what: { end?: number; committed?: number }): void;
  /** The end of the log as last heard; -1 when nothing is known. */
  endOf(partition: number): number;
  /** Partitions of the topic; 0 before the brokers were asked. */
  partitionCount(): number;
  /** Partitions that no member of the group reads, as last heard: new ones, until the group has noticed them. */
  unread(): readonly number[];
  /** Forgets partitions that are no longer ours, and their lag. */
  keep(partitions: readonly number[]): void;
  close(): Promise<void>;
}

/** Asks every `lagIntervalMs` for the ends of the log, because no batch tells them while the intake is held back. */
export function createKafkaPositions(
  options: { topic: string; group: string; lagIntervalMs: number },
  deps: { kafka: Kafka; metrics: Metrics; log: Log; clock: Clock },
): KafkaPositions {
  const { topic, group, lagIntervalMs } = options;
  const { kafka, metrics, log, clock } = deps;
  const known = new Map<number, { end: number; committed: number }>();
  // Up to which offset losses were counted: a second look before the first commit must not count it again.
  const counted = new Map<number, number>();
  let admin: Promise<Admin> | undefined;
  let closed = false;
  let partitionCount = 0;
  let unread: readonly number[] = [];

  const connect = async () => {
    const client = kafka.admin();
    await client.connect();
    return client;
  };

  const withAdmin = async <T>(work: (admin: Admin) => Promise<T>): Promise<T> => {
    admin ??= connect();
    const mine = admin;
    try {
      return await work(await mine);
    } catch (error) {
      // A new client also means fresh metadata: the topic may have been re-created.
      if (admin === mine) admin = undefined;
      await mine.then((client) => client.disconnect()).catch(() => {});
      throw error;
    }
  };

  const ends = (client: Admin) =>
    client.fetchTopicOffsets(topic).then((rows) => {
      partitionCount = rows.length;
      return new Map(rows.map((row) => [row.partition, { low: Number(row.low), high: Number(row.high) }]));
    });

  const lost = (partition: number, from: number, to: number) => {
    const start = Math.max(from, counted.get(partition) ?? 0);
    if (to <= start) return;
    counted.set(partition, to);
    metrics.dropped.inc({ reason: 'retention' }, to - start);
    log.error('records were deleted by retention before they were read', {
      topic,
      partition,
      from: start,
      to,
      records: to - start,
      fix: 'raise the retention of the topic, or find out why the pipeline was behind',
    });
  };

  const publish = (partition: number) => {
    const { end, committed } = known.get(partition)!;
    if (committed >= 0 && end >= 0)
      metrics.lag.set({ group, partition: String(partition) }, Math.max(0, end - committed));
  };

  const observe: KafkaPositions['observe'] = (partition, { end, committed }) => {
    const entry = known.get(partition) ?? { end: -1, committed: -1 };
    known.set(partition, entry);
    if (end !== undefined) entry.end = end;
    if (committed !== undefined) entry.committed = committed;
    publish(partition);
  };

  const lagOf = (partition: number) => ({ group, partition: String(partition) });

  /** The lag of such a partition is all that was not committed. Every member reports it, because no member owns it. */
  const lookForUnread = async (client: Admin, rows: Awaited<ReturnType<typeof ends>>): Promise<void> => {
    const read = await assignedIn(client, group, topic);
    const found = read === undefined ? [] : [...rows.keys()].filter((partition) => !read.has(partition));
    const before = unread;
    unread = found;
    for (const partition of before) {
      if (!found.includes(partition) && !known.has(partition)) metrics.lag.remove(lagOf(partition));
    }
    if (found.length === 0) return;
    const committed = await committedIn(client, group, topic);
    for (const partition of found) {
      const { low, high } = rows.get(partition)!;
      metrics.lag.set(lagOf(partition), Math.max(0, high - Math.max(low, committed.get(partition) ?? -1)));
    }
    if (before.length === 0) log.warn('partitions are read by no instance', { topic, group, partitions: found });
  };

  let cancelPoll = () => {};
  const poll = () => {
    if (closed) return;
    const next = () => {
      if (!closed) cancelPoll = clock.after(lagIntervalMs, poll);
    };
    if (known.size === 0) return next();
    withAdmin(async (client) => {
      const rows = await ends(client);
      for (const [partition, { high }] of rows) if (known.has(partition)) observe(partition, { end: high });
      await lookForUnread(client, rows);
    })
      .then(
        () => {},
        (error: unknown) => log.debug('the lag could not be measured', { topic, error: errorText(error) }),
      )
      .finally(next);
  };
  cancelPoll = clock.after(lagIntervalMs, poll);

  return {
    async startOf(partitions) {
      if (partitions.length === 0) return [];
      const { committed, rows } = await withAdmin(async (client) => {
        const [committed, rows] = await Promise.all([committedIn(client, group, topic), ends(client)]);
        const unknown = partitions.filter((partition) => !rows.has(partition) || !committed.has(partition));
        if (unknown.length > 0) throw new Error(`partition ${unknown.join(', ')} of ${topic} is not known yet`);
        return { committed, rows };
      });
      return partitions.map((partition) => {
        const { low, high } = rows.get(partition)!;
        const at = committed.get(partition)!;
        let start = { partition, offset: at, moved: false };
        if (at < 0) {
          counted.delete(partition);
          start = { partition, offset: low, moved: false };
        } else if (at > high) {
          log.warn('the committed offset lies past the end of the log; reading from its beginning', {
            topic,
            partition,
            committed: at,
            end: high,
            hint: 'the topic was probably deleted and created again',
          });
          counted.delete(partition);
          start = { partition, offset: low, moved: true };
        } else if (at < low) {
          lost(partition, at, low);
          start = { partition, offset: low, moved: true };
        }
        observe(partition, { end: high, committed: start.offset });
        return start;
      });
    },

    async gap(partition, expected, found) {
      try {
        const row = (await withAdmin(ends)).get(partition);
        // There may also have been transaction markers or compacted records in between: only what lies before the start of the
        // log was lost.
        if (row) lost(partition, expected, Math.min(row.low, found));
      } catch (error) {
        log.warn('a gap in the offsets could not be explained', {
          topic,
          partition,
          expected,
          found,
          error: errorText(error),
        });
      }
    },

    observe,
    endOf: (partition) => known.get(partition)?.end ?? -1,
    partitionCount: () => partitionCount,
    unread: () => unread,

    keep(partitions) {
      for (const partition of known.keys()) {
        if (partitions.includes(partition)) continue;
        known.delete(partition);
        metrics.lag.remove({ group, partition: String(partition) });
      }
    },

    async close() {
      closed = true;
      cancelPoll();
      const client = admin;
      admin = undefined;
      await client?.then((connected) => connected.disconnect()).catch(() => {});
    },
  };
}

/** Committed offsets by partition; -1 where there is none. */
async function committedIn(client: Admin, group: string, topic: string): Promise<Map<number, number>> {
  const fetched = await client.fetchOffsets({ groupId: group, topics: [topic] });
  return new Map(
    fetched.flatMap((entry) => entry.partitions.map((row) => [row.partition, Number(row.offset)] as const)),
  );
}

/** Partitions that some member has; undefined while the group is sorting itself out. */
async function assignedIn(client: Admin, group: string, topic: string): Promise<Set<number> | undefined> {
  const { groups } = await client.describeGroups([group]);
  const [described] = groups;
  if (described?.state !== 'Stable') return undefined;
  return new Set(
    described.members.flatMap(({ memberAssignment }) => {
      const decoded = kafkajs.AssignerProtocol.MemberAssignment.decode(memberAssignment);
      return decoded?.assignment[topic] ?? [];
    }),
  );
}

// ---- commits ----
// The broker does not protect a group here: it accepts a commit for a partition the member no longer owns, as long as the member
// belongs to the present generation. So an offset of a former assignment must never travel with a newer generation. kafkajs has
// two public ways to commit:
// - `consumer.commitOffsets` retries, and a retry after a rejoin goes out with the *newer* generation. Not used.
// - `commitOffsetsIfNecessary(offsets)` of an eachBatch payload takes generation and member id synchronously, when it is called,
//   from the assignment kafkajs then has, and never retries. If the group moves on meanwhile, the broker refuses the commit
//   (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID). So the latter is used, but only while kafkajs's assignment and the tracker's epoch
//   are the same one. kafkajs replaces its assignment and emits GROUP_JOIN (our new epoch) within one run of the microtask queue.
//   A commit is therefore begun from a timer or immediate callback, where no microtask is pending, with the epoch's offsets read
//   in the same synchronous stretch. The other allowed moment is the REBALANCING event, which kafkajs emits right before it asks
//   to rejoin: its assignment is still the old one then, and the broker takes commits of the old generation until all members
//   have rejoined. From that event to GROUP_JOIN nothing is committed.

/** Sends a commit with the consumer's present generation; `partition` and `offset` as kafkajs wants them. */
type SendCommit = (offsets: {
  topics: { topic: string; partitions: { partition: number; offset: string }[] }[];
}) => Promise<void>;

interface Committer {
  /** From now on, commits go through this consumer. */
  use(send: SendCommit): void;
  /** The consumer is gone or owns nothing: nothing is committed until `use`. */
  drop(): void;
  /** REBALANCING: one last commit for the old assignment, then none until `resume`. Call it from the event itself. */
  hold(): void;
  /** GROUP_JOIN: the tracker has been reset to the new epoch. */
  resume(): void;
  /** Commits everything finished so far; resolves when the broker has answered, whatever it said. */
  flush(): Promise<void>;
  /** Ends the timer. */
  stop(): void;
}

interface CommitterDeps {
  readonly tracker: OffsetTracker;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  readonly onCommitted: (committed: DueOffset) => void;
}

/** Commits every `intervalMs` when something is due. */
export function createCommitter(options: { topic: string; intervalMs: number }, deps: CommitterDeps): Committer {
  const { topic, intervalMs } = options;
  const { tracker, metrics, log, clock, onCommitted } = deps;
  let send: SendCommit | undefined;
  let held = false;
  let stopped = false;
  let inFlight: Promise<void> | undefined;

  const begin = () => {
    if (send === undefined || held || inFlight !== undefined) return;
    const due = tracker.due();
    if (due.length === 0) return;
    const epoch = tracker.epoch;
    const partitions = due.map(({ partition, offset }) => ({ partition, offset: String(offset) }));
    inFlight = send({ topics: [{ topic, partitions }] })
      .then(
        () => {
          metrics.commits.inc({ result: 'ok' });
          for (const committed of due) {
            if (tracker.epoch === epoch) tracker.committed(committed.partition, committed.offset);
            onCommitted(committed);
          }
        },
        (error: unknown) => {
          const refused = isFenced(error);
          metrics.commits.inc({ result: refused ? 'refused' : 'failed' });
          // Nothing is lost: the records come again, and their ids make writing them twice harmless.
          log[refused ? 'info' : 'warn']('offsets were not committed', { topic, error: errorText(error), due });
        },
      )
      .finally(() => {
        inFlight = undefined;
      });
  };

  let cancelTimer = () => {};
  const tick = () => {
    if (stopped) return;
    begin();
    cancelTimer = clock.after(intervalMs, tick);
  };
  cancelTimer = clock.after(intervalMs, tick);

  return {
    use(next) {
      send = next;
    },
    drop() {
      send = undefined;
    },
    hold() {
      begin();
      held = true;
    },
    resume() {
      held = false;
    },
    async flush() {
      await inFlight;
      await new Promise<void>((resolve) => {
        setImmediate(() => {
          begin();
          resolve();
        });
      });
      await inFlight;
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}

/** The group has moved on without this member's generation: the expected answer to a late commit. */
function isFenced(error: unknown): boolean {
  const { type } = (error ?? {}) as { type?: unknown };
  return type === 'ILLEGAL_GENERATION' || type === 'UNKNOWN_MEMBER_ID' || type === 'REBALANCE_IN_PROGRESS';
}
