// The Kafka source: a batch's way from kafkajs to the pipeline. In: the log topic, as one member of a consumer group. Out: chunks
// of records, left where they were fetched, and committed offsets. Guarantee: an offset is committed only when it and everything before it has been
// acknowledged within the present assignment; nothing is skipped because kafkajs read on from a position other than ours; chunks
// of a partition are delivered one after the other, none of an assignment that has ended; whatever ends the consumer, it is
// rebuilt or `ended` rejects.
//
// A batch passes the gate (has the last one been taken?), the check of continuity (is it the next one?) and delivery (chunks,
// each with its segment of the offset tracker). positions.ts commits what is acknowledged.

import { EventEmitter } from 'node:events';
import type { Batch, EachBatchPayload, Kafka } from 'kafkajs';
import { type Clock, certainAgeMs, deferred, type Moment, momentOf, SET_BACK_MS, sleep } from '../../core/clock.ts';
import { errorText, LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Metrics } from '../../core/metrics.ts';
import type { ChunkOrigin, Deliver, Source } from '../../core/record.ts';
import type { IntakeConfig, KafkaConfig } from './client.ts';
import { leaveInPlace } from './fetch-decoder.ts';
import type { FetchedRecords } from './fetched-records.ts';
import { createOffsetTracker, type OffsetTracker } from './offset-tracker.ts';
import { createCommitter, createKafkaPositions, type PartitionPosition, type StartPosition } from './positions.ts';
import { firstOffsetOf, hasPacked, recordsOf, unpackAll } from './record-batch.ts';
import { createSupervisor, HEALTHY_MS, type KafkaSession, openKafkaSession } from './session.ts';

const LAG_INTERVAL_MS = 10_000;
const POSITION_RETRY_MS = 500;
/** On top of the longest wait of a fetch: after a longer silence, nobody knows whether there is more. */
const FRESH_MS = 5_000;

interface KafkaSourceOptions {
  readonly config: Pick<KafkaConfig, 'brokers' | 'topics' | 'group' | 'requestTimeoutMs'>;
  readonly intake: IntakeConfig;
  /** Width of arrival buckets: no chunk extends across the beginning of one. By default chunks are what a fetch brings. */
  readonly splitMs?: number;
  readonly deps: {
    readonly kafka: Kafka;
    readonly log: Log;
    readonly metrics: Metrics;
    readonly clock: Clock;
  };
}

/** What happens inside, for tests and other observers. */
interface KafkaSourceEvents {
  /** A new assignment began; its partitions are read from where the group had committed. */
  joined: [{ epoch: number; partitions: readonly number[] }];
  /** The broker accepted a commit: `offset` is the next one to read. */
  committed: [{ partition: number; offset: number }];
  /** The consumer stopped for good. */
  crash: [{ error: Error }];
  /** A new consumer was built after a crash and has joined. */
  restarted: [];
}

export interface KafkaSource extends Source {
  readonly events: EventEmitter<KafkaSourceEvents>;
  /** The positions in all partitions that are being read. */
  positions(): readonly PartitionPosition[];
}

/**
 * A source reading `kafka.topics.logs`. `ended` rejects with LOGPIPE_KAFKA_FAILED when the consumer cannot be kept
 * running; a Kafka that is merely away is waited for. After `stop` the member stays in the group so that `close` can
 * still commit what is acknowledged in between.
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID when heartbeats would be further apart than the session timeout allows
 */
export function createKafkaSource(options: KafkaSourceOptions): KafkaSource {
  const { config, intake, splitMs } = options;
  const { kafka, log, metrics, clock } = options.deps;
  const topic = config.topics.logs;
  if (intake.heartbeatMs * 2 > intake.sessionTimeoutMs) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_INVALID',
      `intake.heartbeatMs: ${intake.heartbeatMs} is more than half of intake.sessionTimeoutMs ` +
        `(${intake.sessionTimeoutMs}); make it a third`,
    );
  }

  const events = new EventEmitter<KafkaSourceEvents>();
  const gate = createGate(clock);
  /** Aborts at the end: nothing is waited for any more. */
  const ending = new AbortController();
  const tracker = createOffsetTracker((count) => metrics.staleAcks.inc(count));
  const positions = createKafkaPositions(
    { topic, group: config.group, lagIntervalMs: LAG_INTERVAL_MS },
    { kafka, metrics, log, clock },
  );
  const committer = createCommitter(
    { topic, intervalMs: intake.commitIntervalMs },
    {
      tracker,
      metrics,
      log,
      clock,
      onCommitted(committed) {
        positions.observe(committed.partition, { committed: committed.offset });
        events.emit('committed', committed);
      },
    },
  );
  const continuity = createContinuityCheck(tracker, (partition, offset) => session?.seek(partition, offset));

  let deliver: Deliver = async () => {};
  const delivery = createKafkaDelivery(
    { topic, splitMs },
    { tracker, deliver: (chunk) => deliver(chunk), isStopping: () => stopping },
  );
  let session: KafkaSession | undefined;
  let epoch = 0;
  /** Partitions of the present assignment whose start position is known. */
  const ready = new Set<number>();
  let fetched: Moment | undefined;
  /** The group’s last answer, monotonic. */
  let answeredMs = Number.NEGATIVE_INFINITY;
  let joined = false;
  let stopping = false;
  let detail = 'not started';
  let endInPlace = () => {};

  const started = deferred();
  const ended = deferred();

  const newEpoch = (partitions: readonly number[]) => {
    epoch += 1;
    tracker.reset(epoch);
    continuity.reset();
    ready.clear();
    fetched = undefined;
    positions.keep(partitions);
    gate.wake();
  };

  /** Nothing is fetched before the start positions are known, so that neither a gap nor an old batch goes unnoticed. */
  const position = async (mine: KafkaSession, partitions: readonly number[], since: number) => {
    let starts: StartPosition[] | undefined;
    while (starts === undefined) {
      try {
        starts = await positions.startOf(partitions);
      } catch (error) {
        log.warn('the committed offsets could not be read; trying again', { topic, error: errorText(error) });
        joined = false;
        detail = 'the committed offsets cannot be read';
        await sleep(POSITION_RETRY_MS, ending.signal, clock.after);
      }
      if (since !== epoch || (stopping && starts === undefined)) return;
    }
    for (const { partition, offset, moved } of starts) {
      tracker.start(partition, offset, moved);
      mine.seek(partition, offset);
      ready.add(partition);
    }
    if (!stopping) mine.resume(partitions);
    joined = true;
    detail = partitions.length === 0 ? 'standing by: every partition has a reader' : `reading ${partitions.join(', ')}`;
    supervisor.reading();
    started.resolve();
  };

  const onJoin = (mine: KafkaSession, partitions: number[]) => {
    newEpoch(partitions);
    mine.pause(partitions);
    committer.resume();
    metrics.rebalances.inc();
    log.info('joined the consumer group', { topic, group: config.group, epoch, partitions });
    events.emit('joined', { epoch, partitions });
    void position(mine, partitions, epoch);
  };

  const onBatch = async (mine: KafkaSession, payload: EachBatchPayload) => {
    const { batch } = payload;
    const since = epoch;
    // Even while the batch has to wait: the log is known to be longer.
    if (ready.has(batch.partition)) positions.observe(batch.partition, { end: Number(batch.highWatermark) });
    // The last chunk is still being taken in. Heartbeats keep the membership meanwhile; one that reports a rebalance
    // throws, kafkajs rejoins, and this batch is read again by whoever then owns it.
    while (!gate.open && !stopping && since === epoch) {
      await gate.wait(intake.heartbeatMs / 2);
      if (!gate.open && !stopping && since === epoch) await payload.heartbeat();
    }
    if (stopping) {
      mine.pause();
      return;
    }
    // `isStale`: fetched before the seek that began this assignment. Not resolved, so kafkajs fetches it again.
    if (since !== epoch || mine !== session || !ready.has(batch.partition) || payload.isStale()) return;
    if (!continuity.continues(batch)) return;
    committer.use(payload.commitOffsetsIfNecessary);
    take(mine, payload);
  };

  const take = (mine: KafkaSession, { batch, resolveOffset }: EachBatchPayload) => {
    const { partition, messages } = batch;
    const first = firstOffsetOf(batch);
    const expected = tracker.position(partition);
    if (expected !== undefined && first > expected) void positions.gap(partition, expected, first);
    positions.observe(partition, { end: Number(batch.highWatermark) });
    const taken = delivery.take(batch);
    gate.shutUntil(taken);
    taken.catch((error: unknown) => mine.fail(error instanceof Error ? error : new Error(errorText(error))));
    // The next fetch goes ahead while this chunk is being processed.
    resolveOffset(messages[messages.length - 1]!.offset);
  };

  const onEmptyBatch = (partition: number, first: number, last: number) => {
    const position = tracker.position(partition);
    // An old batch must not move the position.
    if (!ready.has(partition) || position === undefined || last < position) return;
    // Where it was fetched from is not known; if it begins later only because of compaction, it does so again.
    if (!continuity.continues({ partition, fetchedOffset: String(first) })) return;
    if (first > position) void positions.gap(partition, position, first);
    tracker.open(partition, position, last, 0);
  };

  const open = (): KafkaSession => {
    const mine: KafkaSession = openKafkaSession(
      { ...intake, topic, group: config.group, stallMs: HEALTHY_MS + config.requestTimeoutMs },
      {
        onJoin: (partitions) => onJoin(mine, partitions),
        onRebalancing: () => committer.hold(),
        onBatch: (payload) => onBatch(mine, payload),
        onEmptyBatch,
        onFetch() {
          fetched = momentOf(clock);
        },
        onMember() {
          answeredMs = clock.monotonicMs();
        },
      },
      { kafka, clock },
    );
    session = mine;
    return mine;
  };

  const supervisor = createSupervisor(
    { topic, brokers: config.brokers, giveUpAfter: intake.giveUpAfter },
    {
      open,
      onEnd(error, why) {
        session = undefined;
        joined = false;
        committer.drop();
        newEpoch([]);
        if (error === undefined || stopping) return;
        detail = `waiting for Kafka: ${why}`;
        events.emit('crash', { error });
      },
      onRestarted: () => events.emit('restarted'),
    },
    { log, metrics, clock },
  );

  const end = () => {
    stopping = true;
    supervisor.stop();
    gate.wake();
    ending.abort();
    started.resolve();
  };

  return {
    events,
    ended: ended.promise,

    positions() {
      const ageMs = fetched === undefined ? Number.POSITIVE_INFINITY : certainAgeMs(clock, fetched);
      const current = gate.open && joined && ageMs <= FRESH_MS + intake.maxWaitMs;
      return [...ready].map((partition) => {
        const position = tracker.position(partition) ?? 0;
        const end = Math.max(positions.endOf(partition), position);
        const partitions = positions.partitionCount();
        return { partition, partitions, position, end, caughtUp: current && position === end, ageMs };
      });
    },

    start(sink) {
      deliver = sink;
      endInPlace = leaveInPlace(topic);
      detail = 'connecting';
      supervisor.run().catch((error: Error) => {
        detail = errorText(error);
        started.reject(error);
        ended.reject(error);
      });
      return started.promise;
    },

    async stop() {
      end();
      detail = 'stopped';
      session?.pause();
    },

    async close() {
      end();
      detail = 'closed';
      await committer.flush();
      committer.stop();
      await session?.close();
      endInPlace();
      await positions.close();
    },

    status() {
      if (!joined || stopping) return { ready: false, detail };
      const silentMs = clock.monotonicMs() - answeredMs;
      if (silentMs > Math.max(intake.sessionTimeoutMs, FRESH_MS)) {
        return { ready: false, detail: `Kafka has not answered for ${Math.round(silentMs / 1_000)} s` };
      }
      const unread = positions.unread();
      return unread.length === 0
        ? { ready: true, detail }
        : { ready: false, detail: `${detail}; partition ${unread.join(', ')} is read by no instance yet` };
    },
  };
}

// ---- the gate: backpressure ----

/** Shut while the pipeline still takes in the last chunk; waiting can be cut short. */
interface Gate {
  readonly open: boolean;
  /** Shut until the promise is done. What a rejection means is the caller's business. */
  shutUntil(done: Promise<void>): void;
  /** Resolves when the gate opens, when `wake` is called, or after `ms`. */
  wait(ms: number): Promise<void>;
  /** Lets every waiter look again. */
  wake(): void;
}

function createGate(clock: Clock): Gate {
  let shutBy: Promise<void> | undefined;
  const waiters = new Set<() => void>();
  const wake = () => {
    for (const waiter of [...waiters]) waiter();
  };
  return {
    get open() {
      return shutBy === undefined;
    },
    shutUntil(done) {
      shutBy = done;
      const open = () => {
        if (shutBy !== done) return;
        shutBy = undefined;
        wake();
      };
      done.then(open, open);
    },
    wait(ms) {
      return new Promise((resolve) => {
        const finish = () => {
          cancel();
          waiters.delete(finish);
          resolve();
        };
        const cancel = clock.after(ms, finish);
        waiters.add(finish);
      });
    },
    wake,
  };
}

// ---- continuity: is this batch the next one? ----

interface ContinuityCheck {
  /** False: the batch is not to be taken; `seek` has been called. */
  continues(batch: { readonly partition: number; readonly fetchedOffset?: string }): boolean;
  /** A new assignment. */
  reset(): void;
}

/**
 * kafkajs can hand over a batch that was fetched before a rejoin although the seek of the new assignment is no longer pending:
 * with several brokers, when the partition's leader moved, the fetcher of the new leader has applied it while the batch still
 * waited in the queue of the old one. Such a batch lies beyond the committed offset. One seek back to our position tells this
 * case from records that no longer exist, where the same gap comes again.
 */
export function createContinuityCheck(
  tracker: Pick<OffsetTracker, 'position'>,
  seek: (partition: number, offset: number) => void,
): ContinuityCheck {
  const soughtBack = new Map<number, number>();
  return {
    continues({ partition, fetchedOffset }) {
      const expected = tracker.position(partition);
      // Not the first record's offset: compaction and transaction markers leave gaps after a correct position.
      if (expected === undefined || !(Number(fetchedOffset) > expected)) return true;
      if (soughtBack.get(partition) === expected) return true;
      soughtBack.set(partition, expected);
      seek(partition, expected);
      return false;
    },
    reset: () => soughtBack.clear(),
  };
}

// ---- delivery: from a batch to chunks ----

interface KafkaDelivery {
  /**
   * Delivers what the batch holds; the first chunk synchronously, unless the batch has to be unpacked. Resolves when all of it
   * has been taken. @throws Error for faults of the process while unpacking
   */
  take(batch: Batch): Promise<void>;
}

/**
 * With `splitMs`, no chunk extends across the beginning of an arrival bucket, or across a moment when the brokers' clock was set
 * back.
 */
export function createKafkaDelivery(
  options: { topic: string; splitMs: number | undefined },
  deps: { tracker: OffsetTracker; deliver: Deliver; isStopping: () => boolean },
): KafkaDelivery {
  const { topic, splitMs } = options;
  const { tracker, deliver, isStopping } = deps;
  const origins = new Map<number, ChunkOrigin>();

  const originOf = (partition: number): ChunkOrigin => {
    const origin: ChunkOrigin = origins.get(partition) ?? { kind: 'kafka', topic, partition };
    origins.set(partition, origin);
    return origin;
  };

  const ended = (since: number) => since !== tracker.epoch || isStopping();

  /** Delivers records as one chunk that covers the offsets `first` to `last`. */
  const hand = async (partition: number, records: FetchedRecords, first: number, last: number, setBack = false) => {
    const { done } = tracker.open(partition, first, last, records.length);
    // Compaction has left nothing of them.
    if (records.length === 0) return;
    const chunk = { origin: originOf(partition), records, bytes: records.bytes(), done };
    await deliver(setBack ? { ...chunk, setBack } : chunk);
  };

  /** The newest time that a broker gave in this assignment, by partition. */
  const newest = new Map<number, number>();
  let newestEpoch = tracker.epoch;

  /**
   * Indexes of records before which the clock was set back. Producers' times do not show that: they go back whenever hosts
   * differ.
   */
  const setBacks = (partition: number, records: FetchedRecords): ReadonlySet<number> => {
    const found = new Set<number>();
    if (splitMs === undefined) return found;
    if (newestEpoch !== tracker.epoch) newest.clear();
    newestEpoch = tracker.epoch;
    let newestMs = newest.get(partition) ?? 0;
    for (let i = 0; i < records.length; i++) {
      if (!records.isAppendTimeAt(i)) continue;
      const timeMs = records.timeAt(i);
      if (newestMs - timeMs > SET_BACK_MS) {
        found.add(i);
        newestMs = timeMs;
      }
      newestMs = Math.max(newestMs, timeMs);
    }
    newest.set(partition, newestMs);
    return found;
  };

  /** What an ended assignment did not deliver is read again in the next one. */
  const handParts = async (
    partition: number,
    records: FetchedRecords,
    first: number,
    last: number,
    backs: ReadonlySet<number>,
  ) => {
    const cuts = cutsOf(records, splitMs, backs);
    const since = tracker.epoch;
    let from = first;
    for (let i = 0; i + 1 < cuts.length; i++) {
      if (ended(since)) return;
      const end = cuts[i + 1]!;
      const to = end === records.length ? last : records.offsetAt(end) - 1;
      await hand(partition, records.slice(cuts[i]!, end), from, to, backs.has(cuts[i]!));
      from = to + 1;
    }
  };

  /** Slice by slice: the next one is unpacked when the pipeline has room for it. */
  const takePacked = async (batch: Batch) => {
    const { partition } = batch;
    const since = tracker.epoch;
    let first = firstOffsetOf(batch);
    for await (const messages of unpackAll(batch.messages, first)) {
      if (ended(since)) return;
      const last = Number(messages[messages.length - 1]!.offset);
      const records = recordsOf(messages, batch);
      await handParts(partition, records, first, last, setBacks(partition, records));
      first = last + 1;
    }
    const last = Number(batch.lastOffset());
    if (!ended(since) && first <= last) tracker.open(partition, first, last, 0);
  };

  return {
    take(batch) {
      const { partition, messages } = batch;
      if (hasPacked(messages)) return takePacked(batch);
      const records = recordsOf(messages, batch);
      const first = firstOffsetOf(batch);
      // `lastOffset` includes transaction markers and aborted records after the last record.
      const last = Number(batch.lastOffset());
      const backs = setBacks(partition, records);
      if (splitMs !== undefined && (backs.size > 0 || splitAtBuckets(records, splitMs).length > 2)) {
        return handParts(partition, records, first, last, backs);
      }
      return hand(partition, records, first, last);
    },
  };
}

function cutsOf(records: FetchedRecords, splitMs: number | undefined, backs: ReadonlySet<number>): readonly number[] {
  if (splitMs === undefined) return [0, records.length];
  if (backs.size === 0) return splitAtBuckets(records, splitMs);
  // Each stretch is split on its own: what lies before must not make its buckets late.
  const cuts = [0];
  const bounds = [...backs].filter((at) => at > 0).concat(records.length);
  for (const bound of bounds) {
    const from = cuts.at(-1)!;
    cuts.push(
      ...splitAtBuckets(records.slice(from, bound), splitMs)
        .slice(1)
        .map((at) => from + at),
    );
  }
  return cuts;
}

/**
 * Cuts where a new arrival bucket begins, so that a commit can name the first record of a bucket: every record that may be the
 * first of a bucket begins a part. A record time that goes back does not.
 *
 * @returns indexes of `records` between which the parts lie, the first and the last included. How far the partition had got
 * before need not be known: one cut too many does no harm.
 */
export function splitAtBuckets(records: Pick<FetchedRecords, 'length' | 'timeAt'>, widthMs: number): number[] {
  const cuts = [0];
  let endMs = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < records.length; i++) {
    const timeMs = records.timeAt(i);
    if (timeMs < endMs) continue;
    if (i > 0) cuts.push(i);
    endMs = Math.floor(timeMs / widthMs) * widthMs + widthMs;
  }
  if (records.length > 0) cuts.push(records.length);
  return cuts;
}
