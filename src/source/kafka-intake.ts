// The Kafka source. In: the log topic, as one member of the indexer's consumer group. Out: chunks of raw records, and
// committed offsets. Guarantee: an offset is committed only when it and everything before it has been acknowledged
// within the present assignment; whatever ends the consumer, it is rebuilt or the process is told.
import type { EachBatchPayload, Kafka } from 'kafkajs';
import { type Clock, certainAgeMs, type Moment, momentOf } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Deliver, Source } from '../core/record.ts';
import { createGate } from './gate.ts';
import type { IntakeConfig } from './intake-config.ts';
import type { KafkaConfig } from './kafka-client.ts';
import { createCommitter } from './kafka-commits.ts';
import { createContinuityCheck } from './kafka-continuity.ts';
import { createKafkaDelivery } from './kafka-delivery.ts';
import { createKafkaEvents, type KafkaSourceEmitter } from './kafka-events.ts';
import { createKafkaPositions, type PartitionPosition, type StartPosition } from './kafka-positions.ts';
import { firstOffsetOf } from './kafka-records.ts';
import { type KafkaSession, openKafkaSession } from './kafka-session.ts';
import { createSupervisor, HEALTHY_MS } from './kafka-supervisor.ts';
import { createOffsetTracker } from './offset-tracker.ts';
import { settleable } from './settleable.ts';

const LAG_INTERVAL_MS = 10_000;
const POSITION_RETRY_MS = 500;
/** Beyond the longest wait of a fetch: without an answer for longer nobody knows whether there is more. */
const FRESH_MS = 5_000;

export interface KafkaSourceOptions {
  readonly config: Pick<KafkaConfig, 'brokers' | 'topics' | 'group' | 'requestTimeoutMs'>;
  readonly intake: IntakeConfig;
  /** Width of arrival buckets: no chunk reaches over the beginning of one. By default chunks are what a fetch brings. */
  readonly splitMs?: number;
  readonly deps: {
    readonly kafka: Kafka;
    readonly log: Log;
    readonly metrics: Metrics;
    readonly clock: Clock;
  };
}

export interface KafkaSource extends Source {
  readonly events: KafkaSourceEmitter;
  /** Of the partitions that are read at present. */
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

  const events = createKafkaEvents();
  const gate = createGate(clock);
  const patience = createGate(clock);
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

  const started = settleable();
  const ended = settleable();

  const newEpoch = (partitions: readonly number[]) => {
    epoch += 1;
    tracker.reset(epoch);
    continuity.reset();
    ready.clear();
    fetched = undefined;
    positions.keep(partitions);
    gate.wake();
  };

  /** Nothing is fetched before it is known where to start, so that neither a gap nor an old batch goes unnoticed. */
  const position = async (mine: KafkaSession, partitions: readonly number[], since: number) => {
    let starts: StartPosition[] | undefined;
    while (starts === undefined) {
      try {
        starts = await positions.startOf(partitions);
      } catch (error) {
        log.warn('the committed offsets could not be read; trying again', { topic, error: errorText(error) });
        joined = false;
        detail = 'the committed offsets cannot be read';
        await patience.wait(POSITION_RETRY_MS);
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
    // Also while the batch has to wait: the log is known to be longer.
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
    // The next fetch goes on while this chunk is being worked on.
    resolveOffset(messages[messages.length - 1]!.offset);
  };

  const onEmptyBatch = (partition: number, first: number, last: number) => {
    // Only when it continues what was read: an old batch must not move the position.
    if (ready.has(partition) && tracker.position(partition) === first) tracker.open(partition, first, last, 0);
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
    patience.wake();
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
        const lanes = positions.partitionCount();
        return { partition, lanes, position, end, caughtUp: current && position === end, ageMs };
      });
    },

    start(sink) {
      deliver = sink;
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
