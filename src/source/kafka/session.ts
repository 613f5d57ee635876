// Keeps a consumer of a group running. In: settings, and handlers for batches and for what happens in the group. Out: one session
// after another, each with a kafkajs consumer of its own. Guarantee: a session has exactly one end (a crash, a failed start, a
// consumer that fell silent, or `close`) and never restarts by itself; the supervisor opens the next one. A Kafka that is away is
// waited for and logged once per episode; a consumer that keeps failing for any other reason ends the supervision with
// LOGPIPE_KAFKA_FAILED instead of staying dead in silence.
import type { Consumer, EachBatchPayload, Kafka, PartitionAssigner } from 'kafkajs';
import { backoffMs, type Clock, endsWithin, type Moment, momentOf, sleep } from '../../core/clock.ts';
import { LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { explainKafkaFailure, isKafkaAway, METADATA_MAX_AGE_MS } from './client.ts';

const CHECK_MS = 5_000;
const CLOSE_MS = 10_000;

interface SessionOptions {
  readonly topic: string;
  readonly group: string;
  readonly maxWaitMs: number;
  readonly fetchMaxBytes: number;
  readonly fetchMaxBytesPerPartition: number;
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
  /** After this long without a fetch, a heartbeat or a join, the consumer counts as crashed. */
  readonly stallMs: number;
  /** How partitions are assigned to members. Default: kafkajs's round robin. */
  readonly assigner?: PartitionAssigner;
}

interface SessionHandlers {
  /** A new assignment, from inside kafkajs's GROUP_JOIN event. */
  onJoin(partitions: number[]): void;
  /** The group is about to be left for a rejoin; kafkajs still holds the old assignment. */
  onRebalancing(): void;
  onBatch(payload: EachBatchPayload): Promise<void>;
  /** A batch without any record (transaction markers, aborted records), which `onBatch` never sees. */
  onEmptyBatch(partition: number, first: number, last: number): void;
  /**
   * The group has confirmed the membership, by an answered heartbeat or a join. `asked` is when the question was sent: nobody
   * else can have been given the partitions until one session timeout after that.
   */
  onMember?(asked: Moment): void;
  /** A broker has answered a fetch; its batches, if any, come next. */
  onFetch?(): void;
}

export interface KafkaSession {
  /** What ended it; `undefined` after `close`. Never rejects. */
  readonly ended: Promise<Error | undefined>;
  /** Stops fetching, all partitions or some. Membership is kept. */
  pause(partitions?: readonly number[]): void;
  /** Reads the partition from this offset; batches fetched before are marked stale by kafkajs. */
  seek(partition: number, offset: number): void;
  resume(partitions: readonly number[]): void;
  /** Ends the session with an error of the pipeline's own. */
  fail(error: Error): void;
  /** Leaves the group and disconnects, within ten seconds. */
  close(): Promise<void>;
}

/** Connects, joins and reads; the handlers hear what comes of it. */
export function openKafkaSession(
  options: SessionOptions,
  handlers: SessionHandlers,
  deps: { kafka: Kafka; clock: Clock },
): KafkaSession {
  const { topic } = options;
  const consumer = deps.kafka.consumer({
    groupId: options.group,
    ...(options.assigner === undefined ? {} : { partitionAssigners: [options.assigner] }),
    sessionTimeout: options.sessionTimeoutMs,
    // How long the others wait in a rebalance for a member that does not answer: no longer than for a dead member.
    rebalanceTimeout: options.sessionTimeoutMs,
    heartbeatInterval: options.heartbeatMs,
    metadataMaxAge: METADATA_MAX_AGE_MS,
    maxWaitTimeInMs: options.maxWaitMs,
    maxBytes: options.fetchMaxBytes,
    maxBytesPerPartition: options.fetchMaxBytesPerPartition,
    allowAutoTopicCreation: false,
    // The supervisor alone restarts after failures: kafkajs would restart after some and stay dead after others.
    retry: { restartOnFailure: async () => false },
  });

  let finish: (error: Error | undefined) => void = () => {};
  let over = false;
  const ended = new Promise<Error | undefined>((resolve) => {
    finish = (error) => {
      over = true;
      cancelCheck();
      resolve(error);
    };
  });

  let active = true;
  const onActivity = () => {
    active = true;
  };
  // Counts checks instead of comparing times: after a SIGSTOP the clock has jumped, though nothing is wrong.
  let quietChecks = 0;
  let cancelCheck = () => {};
  const check = () => {
    if (over) return;
    quietChecks = active ? 0 : quietChecks + 1;
    active = false;
    if (quietChecks * CHECK_MS >= options.stallMs) {
      void disconnect(consumer, deps.clock);
      return finish(new Error(`the consumer has been silent for ${quietChecks * CHECK_MS} ms`));
    }
    cancelCheck = deps.clock.after(CHECK_MS, check);
  };
  cancelCheck = deps.clock.after(CHECK_MS, check);

  const { events } = consumer;
  let asked: Moment = { wallMs: 0, monotonicMs: Number.NEGATIVE_INFINITY };
  // An answer may have waited in the socket while the process was stopped: what counts is when the question was asked. The two
  // clocks may disagree about that; `certainAgeMs` (core/clock.ts) notices.
  consumer.on(events.REQUEST, ({ payload }) => {
    if (payload.apiName !== 'Heartbeat' && payload.apiName !== 'SyncGroup') return;
    const { wallMs, monotonicMs } = momentOf(deps.clock);
    asked = { wallMs: wallMs - (Date.now() - payload.createdAt), monotonicMs: monotonicMs - payload.duration };
  });
  consumer.on(events.HEARTBEAT, () => {
    onActivity();
    if (!over) handlers.onMember?.(asked);
  });
  consumer.on(events.FETCH, () => {
    onActivity();
    if (!over) handlers.onFetch?.();
  });
  consumer.on(events.GROUP_JOIN, ({ payload }) => {
    onActivity();
    if (over) return;
    handlers.onJoin([...(payload.memberAssignment[topic] ?? [])]);
    // After the assignment: a member that was thrown out and joins again is a member, but no longer owns what it had.
    handlers.onMember?.(asked);
  });
  consumer.on(events.REBALANCING, () => {
    if (!over) handlers.onRebalancing();
  });
  consumer.on(events.END_BATCH_PROCESS, ({ payload }) => {
    if (over || payload.batchSize > 0 || payload.firstOffset === null) return;
    handlers.onEmptyBatch(payload.partition, Number(payload.firstOffset), Number(payload.lastOffset));
  });
  // kafkajs has disconnected by the time it says so.
  consumer.on(events.CRASH, ({ payload }) => finish(payload.error));

  const start = async () => {
    await consumer.connect();
    if (over) return disconnect(consumer, deps.clock);
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    if (over) return disconnect(consumer, deps.clock);
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: (payload) => (over ? Promise.resolve() : handlers.onBatch(payload)),
    });
    if (over) await disconnect(consumer, deps.clock);
  };
  start().catch((error: Error) => {
    void disconnect(consumer, deps.clock);
    finish(error);
  });

  // Before the first join and after a crash kafkajs refuses these; there is nothing to act on then.
  const ifRunning = (act: () => void) => {
    try {
      if (!over) act();
    } catch {}
  };

  return {
    ended,
    pause: (partitions) =>
      ifRunning(() => consumer.pause([partitions ? { topic, partitions: [...partitions] } : { topic }])),
    seek: (partition, offset) => ifRunning(() => consumer.seek({ topic, partition, offset: String(offset) })),
    resume: (partitions) => ifRunning(() => consumer.resume([{ topic, partitions: [...partitions] }])),
    fail(error) {
      if (over) return;
      finish(error);
      void disconnect(consumer, deps.clock);
    },
    async close() {
      finish(undefined);
      await disconnect(consumer, deps.clock);
    },
  };
}

/** Leaves the group. A broker that does not answer must not keep the process from ending. */
async function disconnect(consumer: Consumer, clock: Clock): Promise<void> {
  await endsWithin(consumer.disconnect(), CLOSE_MS, clock.after).catch(() => {});
}

// ---- the supervisor ----

/** A consumer that read for this long was healthy: its crash does not continue a series. */
export const HEALTHY_MS = 60_000;

/** What the supervisor counts: the part of core/metrics.ts that is available in another thread. */
export interface RestartMetrics {
  readonly sourceRestarts: { inc(): void };
}

interface Supervisor {
  /** Resolves after `stop`, or `close` of the session; rejects with LogpipeError LOGPIPE_KAFKA_FAILED when giving up. */
  run(): Promise<void>;
  /** The session has joined its group and reads. */
  reading(): void;
  /** Opens no further session. */
  stop(): void;
}

/** Opens a session, and after every crash the next one, with backoff. */
export function createSupervisor(
  options: { topic: string; brokers: readonly string[]; giveUpAfter: number },
  hooks: {
    open(): KafkaSession;
    /** The session is over; nothing of its assignment counts any more. */
    onEnd(error: Error | undefined, detail: string): void;
    onRestarted(): void;
  },
  deps: { log: Log; metrics: RestartMetrics; clock: Clock },
): Supervisor {
  const { topic, brokers, giveUpAfter } = options;
  const { log, metrics, clock } = deps;
  const stopping = new AbortController();
  let readingSince: number | undefined;
  let crashed = false;
  /** Sessions in a row that failed for a reason that does not pass by itself. */
  let failures = 0;
  /** Sessions in a row that found no Kafka. */
  let absences = 0;

  const afterCrash = async (error: Error): Promise<void> => {
    const healthy = readingSince !== undefined && clock.monotonicMs() - readingSince >= HEALTHY_MS;
    if (readingSince !== undefined) metrics.sourceRestarts.inc();
    const what = explainKafkaFailure(error);
    if (isKafkaAway(error)) {
      absences += 1;
      if (absences === 1) log.error('Kafka is unreachable; trying until it answers', { topic, brokers, error: what });
      return sleep(backoffMs(absences), stopping.signal, clock.after);
    }
    failures = healthy ? 1 : failures + 1;
    log.error('the Kafka consumer failed', { topic, error: what, failures, giveUpAfter });
    if (failures >= giveUpAfter) {
      throw new LogpipeError(
        'LOGPIPE_KAFKA_FAILED',
        `topic ${topic}: the consumer failed ${failures} times in a row: ${what}`,
        error,
      );
    }
    await sleep(backoffMs(failures), stopping.signal, clock.after);
  };

  return {
    async run() {
      while (!stopping.signal.aborted) {
        readingSince = undefined;
        const error = await hooks.open().ended;
        hooks.onEnd(error, error === undefined ? 'closed' : explainKafkaFailure(error));
        if (error === undefined || stopping.signal.aborted) return;
        crashed = true;
        await afterCrash(error);
      }
    },
    reading() {
      readingSince ??= clock.monotonicMs();
      if (absences > 0) log.info('Kafka answers again', { topic });
      absences = 0;
      if (crashed) hooks.onRestarted();
      crashed = false;
    },
    stop() {
      stopping.abort();
    },
  };
}
