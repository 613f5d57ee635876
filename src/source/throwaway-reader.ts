// Reads a topic without leaving a trace. In: start positions, and whether to end at the present end or to follow. Out:
// records in partition order. Guarantee: nobody's offsets move; the reader's own group is deleted, and so are groups that
// killed readers left behind.
import { randomUUID } from 'node:crypto';
import type { Admin, KafkaMessage } from 'kafkajs';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { withAdmin } from './kafka-admin.ts';
import { createKafka, type KafkaConfig, METADATA_MAX_AGE_MS } from './kafka-client.ts';
import { failedReading } from './kafka-failures.ts';
import { hasPacked, unpackAll, wholeBatchOf } from './record-batch.ts';

const MIB = 1024 * 1024;
const HEARTBEAT_MS = 3_000;
const GROUP_PREFIX = 'logpipe-throwaway-';
/** Nothing for this long before the end was reached: what is missing was deleted in the meantime. */
const IDLE_MS = 15_000;
const IDLE_LOOKS = 3;

export interface ReadTopicOptions {
  readonly topic: string;
  /** Part of the group's name, for people who list groups. */
  readonly purpose: string;
  /**
   * Where to start: the oldest record, the next one to come, or the first one of this time (ms) or later, which may depend on
   * the partition. Or, by partition, the offsets [from, to) that are wanted; other partitions are not read then.
   */
  readonly from:
    | 'beginning'
    | 'end'
    | number
    | ((partition: number) => number)
    | ReadonlyMap<number, { readonly from: number; readonly to: number }>;
  /** Go on at the present end, until `signal` aborts or `onRecord` says so. */
  readonly follow: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Of every record; false ends the reading. */
  readonly onRecord?: (message: KafkaMessage, partition: number) => boolean | undefined;
  /**
   * Instead of `onRecord`, whole batches: the next one of the same partition comes when this resolves, however long it takes.
   * Partitions do not wait for each other. False ends the reading.
   */
  readonly onBatch?: (messages: readonly KafkaMessage[], partition: number) => Promise<boolean>;
  /** All positions are known: everything written from now on is seen. */
  readonly onReady?: () => void;
  /** With `follow`: everything that was there when the reading began has been handed over. */
  readonly onCaughtUp?: () => void;
  /** Reading has begun: how to hold a partition back when `onRecord` has been given too much of it. */
  readonly onFlow?: (flow: Flow) => void;
  /** Without `follow`: everything of this partition has been handed over. */
  readonly onEnd?: (partition: number) => void;
}

export interface Flow {
  /** What has been fetched of it is still handed over. */
  pause(partition: number): void;
  resume(partition: number): void;
}

/**
 * Resolves when the end is reached, `onRecord` returned false or `signal` aborted; true when every record up to the end
 * was read.
 * @throws LogpipeError LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED
 */
export async function readTopic(
  config: Pick<KafkaConfig, 'brokers'> & KafkaConfig,
  options: ReadTopicOptions,
  log: Log,
): Promise<boolean> {
  const { topic, follow, signal } = options;
  const kafka = createKafka(config, log);
  const admin = kafka.admin();
  const group = `${GROUP_PREFIX}${options.purpose}-${randomUUID()}`;
  const consumer = kafka.consumer({
    groupId: group,
    sessionTimeout: 10_000,
    heartbeatInterval: HEARTBEAT_MS,
    maxWaitTimeInMs: 100,
    metadataMaxAge: METADATA_MAX_AGE_MS,
    // Whole batches are worked on for a while: small ones die young, large ones are copied by each garbage collection.
    ...(options.onBatch === undefined ? { maxBytes: 4 * MIB } : { maxBytes: MIB, maxBytesPerPartition: MIB / 4 }),
    allowAutoTopicCreation: false,
    retry: { restartOnFailure: async () => false },
  });
  let joined = false;
  let sweeping: Promise<void> | undefined;
  async function cleanUp(): Promise<void> {
    await consumer.disconnect().catch(() => {});
    await sweeping;
    if (joined) await deleteGroup(admin, group, log);
    await admin.disconnect().catch(() => {});
  }
  let failed = false;
  try {
    await admin.connect();
    const ranges = await withAdmin(kafka, (one) => findRanges(one, options));
    options.onReady?.();
    const behind = new Set([...ranges].filter(([, { next, end }]) => next < end).map(([partition]) => partition));
    if (behind.size === 0) options.onCaughtUp?.();
    const open = new Set(
      [...ranges].filter(([, { next, end }]) => follow || next < end).map(([partition]) => partition),
    );
    for (const partition of ranges.keys()) if (!open.has(partition)) options.onEnd?.(partition);
    if (open.size === 0) return true;
    // Asks every broker, and one of them may be frozen: nobody waits for it.
    sweeping = sweepLeftovers(admin, log);
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });

    return await new Promise<boolean>((resolve, reject) => {
      let over = false;
      let active = true;
      const finish = (complete: boolean) => {
        over = true;
        clearInterval(watch);
        signal?.removeEventListener('abort', onAbort);
        resolve(complete);
      };
      const onAbort = () => finish(false);
      const held = new Set<number>();
      // Counts looks instead of comparing times: after a SIGSTOP the late one comes before what waits in the socket is read.
      let quiet = 0;
      const watch = setInterval(() => {
        quiet = active || held.size > 0 ? 0 : quiet + 1;
        active = false;
        if (quiet >= IDLE_LOOKS && !follow) finish(false);
      }, IDLE_MS / IDLE_LOOKS);
      if (signal?.aborted) return finish(false);
      signal?.addEventListener('abort', onAbort, { once: true });

      const advance = (partition: number, next: number) => {
        const range = ranges.get(partition);
        if (!range) return;
        active = true;
        range.next = Math.max(range.next, next);
        if (range.next >= range.end && behind.delete(partition) && behind.size === 0) options.onCaughtUp?.();
        if (follow || range.next < range.end) return;
        if (open.delete(partition)) options.onEnd?.(partition);
        if (open.size === 0) finish(true);
      };
      options.onFlow?.({
        pause(partition) {
          if (over) return;
          held.add(partition);
          consumer.pause([{ topic, partitions: [partition] }]);
        },
        resume(partition) {
          active = true;
          if (held.delete(partition) && !over) consumer.resume([{ topic, partitions: [partition] }]);
        },
      });
      const { events } = consumer;
      consumer.on(events.GROUP_JOIN, ({ payload }) => {
        joined = true;
        const unwanted = (payload.memberAssignment[topic] ?? []).filter((partition) => !ranges.has(partition));
        if (unwanted.length > 0) consumer.pause([{ topic, partitions: unwanted }]);
        for (const [partition, { next }] of ranges) consumer.seek({ topic, partition, offset: String(next) });
      });
      // Says how far a batch reached even when it held nothing but transaction markers.
      consumer.on(events.END_BATCH_PROCESS, ({ payload }) => {
        if (!over) advance(payload.partition, Number(payload.lastOffset) + 1);
      });
      consumer.on(events.CRASH, ({ payload }) => {
        clearInterval(watch);
        if (!over) reject(payload.error);
      });
      consumer
        .run({
          autoCommit: false,
          eachBatchAutoResolve: true,
          ...(options.onBatch === undefined ? {} : { partitionsConsumedConcurrently: Math.max(1, ranges.size) }),
          eachBatch: async ({ batch, isStale, heartbeat }) => {
            const { partition } = batch;
            const range = ranges.get(partition);
            if (!range || over || isStale()) return;
            const wanted = (message: KafkaMessage) => {
              const whole = wholeBatchOf(message);
              if (whole?.failure !== undefined) log.warn('a batch cannot be read', { detail: whole.failure.detail });
              const { offset } = message;
              return Number(offset) >= range.next && (follow || (whole?.firstOffset ?? Number(offset)) < range.end);
            };
            const take = async (messages: readonly KafkaMessage[]): Promise<void> => {
              if (options.onBatch === undefined) {
                for (const message of messages) {
                  if (over || isStale()) return;
                  if (wanted(message) && options.onRecord?.(message, partition) === false) return finish(false);
                }
                return;
              }
              const taken = messages.filter(wanted);
              if (taken.length === 0) return;
              // Taken from now on: after a rejoin it is not to come again.
              range.next = Number(taken.at(-1)!.offset) + 1;
              if (!(await options.onBatch(taken, partition))) finish(false);
            };
            const packed = hasPacked(batch.messages);
            if (!packed && options.onBatch === undefined) return take(batch.messages);
            const alive = setInterval(() => {
              active = true;
              heartbeat().catch(() => {});
            }, HEARTBEAT_MS);
            try {
              if (!packed) return await take(batch.messages);
              for await (const messages of unpackAll(batch.messages, range.next)) {
                if (over || isStale()) return;
                await take(messages);
              }
            } catch (error) {
              over = true;
              clearInterval(watch);
              reject(error);
            } finally {
              clearInterval(alive);
            }
          },
        })
        .catch(reject);
    });
  } catch (error) {
    failed = true;
    throw failedReading(error, config, topic);
  } finally {
    const cleaned = cleanUp();
    // Whoever follows begins anew at once: a broker that does not answer would hold it up for as long as it takes to give it up.
    if (!failed || !follow) await cleaned;
  }
}

interface Range {
  next: number;
  /** The end of the log when the reading began. */
  readonly end: number;
}

async function findRanges(admin: Admin, { topic, from }: ReadTopicOptions): Promise<Map<number, Range>> {
  const rows = await admin.fetchTopicOffsets(topic);
  if (typeof from === 'object') {
    return new Map(
      rows.flatMap(({ partition, low, high }) => {
        const wanted = from.get(partition);
        if (wanted === undefined) return [];
        return [[partition, { next: Math.max(wanted.from, Number(low)), end: Math.min(wanted.to, Number(high)) }]];
      }),
    );
  }
  const ranges = new Map<number, Range>();
  const offsets = new Map<number, ReturnType<Admin['fetchTopicOffsetsByTimestamp']>>();
  const offsetsAt = (ms: number) => {
    const known = offsets.get(ms) ?? admin.fetchTopicOffsetsByTimestamp(topic, ms);
    offsets.set(ms, known);
    return known;
  };
  for (const { partition, low, high } of rows) {
    let start = Number(from === 'end' ? high : low);
    const ms = typeof from === 'function' ? from(partition) : from;
    if (typeof ms === 'number') {
      const found = await offsetsAt(ms);
      start = Number(found.find((row) => row.partition === partition)?.offset ?? low);
    }
    ranges.set(partition, { next: Math.max(start, Number(low)), end: Number(high) });
  }
  return ranges;
}

/** Groups of readers that were killed: empty by now, and nobody else's. */
async function sweepLeftovers(admin: Admin, log: Log): Promise<void> {
  try {
    const { groups } = await admin.listGroups();
    const candidates = groups.map(({ groupId }) => groupId).filter((groupId) => groupId.startsWith(GROUP_PREFIX));
    if (candidates.length === 0) return;
    const described = await admin.describeGroups(candidates);
    const empty = described.groups.filter(({ state }) => state === 'Empty').map(({ groupId }) => groupId);
    if (empty.length > 0) await admin.deleteGroups(empty);
  } catch (error) {
    log.debug('leftover reader groups were not removed', { error: errorText(error) });
  }
}

async function deleteGroup(admin: Admin, group: string, log: Log): Promise<void> {
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      await admin.deleteGroups([group]);
      return;
    } catch (error) {
      // The broker may still be taking notice that the only member has left; the next reader sweeps otherwise.
      log.debug('the reader group was not removed yet', { group, error: errorText(error) });
      await sleep(100);
    }
  }
}
