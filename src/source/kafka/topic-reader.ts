// Reads a topic without leaving a trace. In: start positions, and whether to stop at the present end or to follow. Out: records
// in partition order. Guarantee: there is no group, so nobody's offsets move and nobody can be expelled, however slow this
// process is; a position never passes what was handed over; a partition that has no leader, or whose leader does not answer, is
// retried and holds up no other.
import type { KafkaMessage } from 'kafkajs';
import filterAborted from 'kafkajs/src/consumer/filterAbortedMessages.js';
import errors from 'kafkajs/src/protocol/error.js';
import { backoffMs, isWorthSaying, sleep } from '../../core/clock.ts';
import { errorText } from '../../core/errors.ts';
import {
  answerWithin,
  type BrokerConnections,
  createBrokerConnections,
  type Partition,
} from '../../core/kafka/broker-connections.ts';
import type { Log } from '../../core/log.ts';
import { addressesOf, explainKafkaFailure, failedReading, type KafkaConfig } from './client.ts';
import { hasPacked, takenOut, unpackAll, wholeBatchOf } from './record-batch.ts';

const MIB = 1024 * 1024;
/** How long a broker holds a fetch for which it has no records yet. */
const WAIT_MS = 250;
/** If nothing comes for this long before the end is reached, the missing records were deleted in the meantime. */
const IDLE_MS = 15_000;
const IDLE_LOOKS = 3;
/** How long to try at the beginning while no broker can be reached or the topic does not exist. Elections take longer. */
const START_PATIENCE_MS = 6_000;
const ELECTION_PATIENCE_MS = 20_000;
const START_PAUSE_MS = 200;
/** A broker that has not answered by then never will. */
const ANSWER_MS = 10_000 + WAIT_MS;
/** A broker that has not answered for this long may be frozen: the others are asked who leads. */
const SLOW_MS = 2_000;
/** Longest pause between two questions about leaders. */
const MAX_LOOK_MS = 1_000;

const OFFSET_OUT_OF_RANGE = 1;
const LATEST = '-1';
const EARLIEST = '-2';
/** The leader of the partition has changed, is being elected, or is not ready yet. */
const ELECTING = new Set([
  ...['LEADER_NOT_AVAILABLE', 'NOT_LEADER_FOR_PARTITION', 'REPLICA_NOT_AVAILABLE', 'KAFKA_STORAGE_ERROR'],
  ...['FENCED_LEADER_EPOCH', 'UNKNOWN_LEADER_EPOCH', 'OFFSET_NOT_AVAILABLE'],
]);

export interface ReadTopicOptions {
  readonly topic: string;
  /** What the topic is read for, in one word, for the log. */
  readonly purpose: string;
  /**
   * Where to start: the oldest record, the next one to come, or the first one of this time (ms) or later, which may depend on the
   * partition. Or the wanted offsets [from, to) by partition; then other partitions are not read.
   */
  readonly from:
    | 'beginning'
    | 'end'
    | number
    | ((partition: number) => number)
    | ReadonlyMap<number, { readonly from: number; readonly to: number }>;
  /** Continue past the present end, until `signal` aborts or `onRecord` says to stop. */
  readonly follow: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Called for every record; returning false ends the reading. */
  readonly onRecord?: (message: KafkaMessage, partition: number) => boolean | undefined;
  /**
   * Instead of `onRecord`, called with whole batches: the next of the same partition comes when this resolves, however long it
   * takes. Partitions do not wait for each other. Resolving to false ends the reading.
   */
  readonly onBatch?: (messages: readonly KafkaMessage[], partition: number) => Promise<boolean>;
  /** All positions are known: everything written from now on is seen. */
  readonly onReady?: () => void;
  /** With `follow`: everything that was there when the reading began has been handed over. */
  readonly onCaughtUp?: () => void;
  /** A broker has answered; `atEnd`: every partition has been read to its end, as that was at `askedMs` or later. */
  readonly onAnswer?: (progress: { readonly atEnd: boolean; readonly askedMs: number }) => void;
  /** Without `follow`: everything of this partition has been handed over. */
  readonly onEnd?: (partition: number) => void;
}

/** One partition that is read. */
interface Range {
  readonly partition: number;
  /** The next offset that is wanted. */
  next: number;
  /** The end of the log when the reading began. */
  readonly end: number;
  /** What was fetched is being handed over. */
  busy: boolean;
  /** Not asked for before this time, monotonic ms. */
  notBeforeMs: number;
  /** When the question was asked whose answer last reached the end, monotonic ms. */
  atEndMs: number;
}

interface Fetched {
  readonly errorCode: number;
  readonly responses: readonly { readonly partitions: readonly FetchedPartition[] }[];
}

interface FetchedPartition {
  readonly partition: number;
  readonly errorCode: number;
  readonly lastStableOffset: string;
  readonly abortedTransactions: readonly { producerId: string; firstOffset: string }[];
  readonly messages: (KafkaMessage & { readonly isControlRecord?: boolean })[];
}

/**
 * Resolves when the end is reached, `onRecord` returned false or `signal` aborted; true when every record up to the end
 * was read. With `follow` a Kafka that is away is waited for.
 * @throws LogpipeError LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED
 */
export async function readTopic(config: KafkaConfig, options: ReadTopicOptions, log: Log): Promise<boolean> {
  const { topic, follow, signal } = options;
  const connections = createBrokerConnections(addressesOf(config), {
    warn: (message) => log.debug(message, { topic, purpose: options.purpose }),
  });
  connections.busy(true);
  try {
    const { ranges, leaders } = await findRanges(connections, options);
    if (signal?.aborted) return false;
    options.onReady?.();
    if (!ranges.some(({ next, end }) => next < end)) options.onCaughtUp?.();
    const open = ranges.filter(({ next, end }) => follow || next < end);
    for (const range of ranges) if (!open.includes(range)) options.onEnd?.(range.partition);
    if (open.length === 0) return true;
    return await read(connections, options, { ranges: open, leaders, log });
  } catch (error) {
    throw failedReading(error, config, topic);
  } finally {
    connections.destroy();
  }
}

function read(
  connections: BrokerConnections,
  options: ReadTopicOptions,
  start: { readonly ranges: readonly Range[]; readonly leaders: ReadonlyMap<number, number>; readonly log: Log },
): Promise<boolean> {
  const { topic, follow, signal } = options;
  const { log } = start;
  const byBatch = options.onBatch !== undefined;
  const open = new Map(start.ranges.map((range) => [range.partition, range]));
  const behind = new Set(start.ranges.filter(({ next, end }) => next < end).map(({ partition }) => partition));
  let leaders = start.leaders;
  /** Brokers that owe an answer, with the time since when (monotonic ms) and the partitions asked about. */
  const asked = new Map<number, { readonly sinceMs: number; readonly ranges: readonly Range[] }>();
  let over = false;
  let active = true;
  let looking = false;
  /** In a row, by whatever broker. */
  let failures = 0;
  let lastError: unknown;
  let turn = 0;
  let wakeUp: NodeJS.Timeout | undefined;

  return new Promise<boolean>((resolve, reject) => {
    const end = () => {
      over = true;
      clearInterval(watch);
      clearTimeout(wakeUp);
      signal?.removeEventListener('abort', onAbort);
    };
    const finish = (complete: boolean) => {
      if (over) return;
      end();
      resolve(complete);
    };
    const fail = (error: unknown) => {
      if (over) return;
      end();
      reject(error);
    };
    const onAbort = () => finish(false);
    // Counts looks instead of comparing times: after a SIGSTOP, the late look comes before what waits in the socket is read.
    let quiet = 0;
    const watch = setInterval(() => {
      const waiting = [...open.values()].some(({ busy }) => busy);
      quiet = active || waiting ? 0 : quiet + 1;
      active = false;
      if (quiet < IDLE_LOOKS || follow) return;
      if (failures > 0) fail(lastError);
      else finish(false);
    }, IDLE_MS / IDLE_LOOKS);
    signal?.addEventListener('abort', onAbort, { once: true });

    /** Puts a question to each broker that owes none and leads something that is wanted. */
    function ask(): void {
      if (over) return;
      const now = performance.now();
      const wanted = new Map<number, Range[]>();
      let soonest = Number.POSITIVE_INFINITY;
      let leaderless = false;
      for (const range of open.values()) {
        if (range.busy) continue;
        const leader = leaders.get(range.partition) ?? -1;
        if (leader < 0) leaderless = true;
        else if (range.notBeforeMs > now) soonest = Math.min(soonest, range.notBeforeMs);
        else if (!asked.has(leader)) wanted.set(leader, [...(wanted.get(leader) ?? []), range]);
      }
      for (const [nodeId, ranges] of wanted) void fetchFrom(nodeId, ranges);
      if (leaderless) void look();
      if (soonest < Number.POSITIVE_INFINITY) {
        clearTimeout(wakeUp);
        wakeUp = setTimeout(ask, Math.max(1, soonest - now));
      }
    }

    async function fetchFrom(nodeId: number, ranges: readonly Range[]): Promise<void> {
      const askedMs = performance.now();
      asked.set(nodeId, { sinceMs: askedMs, ranges });
      const slow = setInterval(() => void look(), SLOW_MS);
      try {
        // In turn, because a broker fills its answer from the first partition on.
        const from = turn++ % ranges.length;
        const inTurn = [...ranges.slice(from), ...ranges.slice(0, from)];
        const answer = await answerWithin(
          connections.ask<Fetched>(nodeId, 'Fetch', {
            maxWaitTime: WAIT_MS,
            minBytes: 1,
            // Whole batches live for a while: small ones die young, large ones are copied by every garbage collection.
            maxBytes: byBatch ? MIB : 4 * MIB,
            topics: [
              {
                topic,
                partitions: inTurn.map(({ partition, next }) => ({
                  partition,
                  fetchOffset: String(next),
                  maxBytes: byBatch ? MIB / 4 : MIB,
                })),
              },
            ],
          }),
          ANSWER_MS,
          `broker ${nodeId}`,
        );
        if (over) return;
        if (answer.errorCode !== 0) throw errors.createErrorFromCode(answer.errorCode);
        if (failures > 1) log.info('the topic is read again', { topic, purpose: options.purpose, failures });
        failures = 0;
        for (const part of answer.responses[0]?.partitions ?? []) take(part, askedMs);
        if (!over) options.onAnswer?.(endOfAll());
      } catch (error) {
        if (over) return;
        connections.giveUp(nodeId, errorText(error));
        failed(error, ranges);
      } finally {
        clearInterval(slow);
        asked.delete(nodeId);
        ask();
      }
    }

    /** As of what time everything has been read. */
    function endOfAll(): { atEnd: boolean; askedMs: number } {
      let askedMs = Number.POSITIVE_INFINITY;
      for (const range of open.values()) askedMs = Math.min(askedMs, range.busy ? -1 : range.atEndMs);
      return { atEnd: askedMs > 0, askedMs };
    }

    function failed(error: unknown, ranges: readonly Range[]): void {
      failures += 1;
      lastError = error;
      if (!passes(error)) {
        fail(error);
        return;
      }
      const now = performance.now();
      for (const range of ranges) range.notBeforeMs = now + Math.min(backoffMs(failures), MAX_LOOK_MS);
      if (isWorthSaying(failures) && failures > 1) {
        const { purpose } = options;
        log.warn('A topic cannot be read; trying again', {
          topic,
          purpose,
          error: explainKafkaFailure(error),
          failures,
        });
      }
      void look();
    }

    /** Asks who leads what now; repeated by `ask` while some partition has no leader. */
    async function look(): Promise<void> {
      if (looking || over) return;
      looking = true;
      try {
        leaders = leadersOf(await connections.partitions(topic));
        leaveFormer();
      } catch (error) {
        failures += 1;
        lastError = error;
        if (!passes(error)) return fail(error);
      }
      if (over) return;
      await sleep(Math.min(backoffMs(Math.max(1, failures)), MAX_LOOK_MS), signal);
      looking = false;
      ask();
    }

    /** Stops waiting for brokers that do not answer and no longer lead what they were asked for. */
    function leaveFormer(): void {
      for (const [nodeId, { sinceMs, ranges }] of asked) {
        if (performance.now() - sinceMs < SLOW_MS) continue;
        const lost = ranges.find(
          ({ partition }) => (leaders.get(partition) ?? -1) >= 0 && leaders.get(partition) !== nodeId,
        );
        if (lost === undefined) continue;
        connections.giveUp(nodeId, `broker ${nodeId} does not answer and no longer leads partition ${lost.partition}`);
      }
    }

    function take(part: FetchedPartition, askedMs: number): void {
      const range = open.get(part.partition);
      if (range === undefined || range.busy || over) return;
      if (part.errorCode !== 0) {
        if (part.errorCode === OFFSET_OUT_OF_RANGE) void findAgain(range);
        else failed(errors.createErrorFromCode(part.errorCode), [range]);
        return;
      }
      const last = part.messages.at(-1);
      if (last === undefined) {
        if (range.next >= Number(part.lastStableOffset)) range.atEndMs = askedMs;
        return;
      }
      const next = Number(last.offset) + 1;
      const atEnd = next >= Number(part.lastStableOffset);
      const done = () => {
        if (atEnd) range.atEndMs = askedMs;
        taken(range, next);
      };
      const messages = filterAborted({ ...part, messages: [...takenOut(part.messages)] }).filter(
        ({ isControlRecord }) => isControlRecord !== true,
      );
      range.busy = true;
      const handed = hand(range, messages);
      if (handed === undefined) done();
      else handed.then(done, fail);
    }

    function taken(range: Range, next: number): void {
      range.busy = false;
      if (over) return;
      active = true;
      range.next = Math.max(range.next, next);
      if (range.next >= range.end && behind.delete(range.partition) && behind.size === 0) options.onCaughtUp?.();
      if (!follow && range.next >= range.end) {
        open.delete(range.partition);
        options.onEnd?.(range.partition);
        if (open.size === 0) finish(true);
      }
      ask();
    }

    /** Synchronous unless it has to wait for somebody. */
    function hand(range: Range, messages: readonly KafkaMessage[]): Promise<void> | undefined {
      if (messages.length === 0) return undefined;
      try {
        if (hasPacked(messages)) return handPacked(range, messages);
        return handAll(range, messages);
      } catch (error) {
        return Promise.reject(error);
      }
    }

    async function handPacked(range: Range, messages: readonly KafkaMessage[]): Promise<void> {
      for await (const some of unpackAll(messages, range.next)) {
        if (over) return;
        await handAll(range, some);
      }
    }

    function handAll(range: Range, messages: readonly KafkaMessage[]): Promise<void> | undefined {
      const { partition } = range;
      const wanted = (message: KafkaMessage) => {
        const whole = wholeBatchOf(message);
        if (whole?.failure !== undefined) log.warn('a batch cannot be read', { detail: whole.failure.detail });
        const offset = Number(message.offset);
        return offset >= range.next && (follow || (whole?.firstOffset ?? offset) < range.end);
      };
      if (options.onBatch === undefined) {
        for (const message of messages) {
          if (over) return undefined;
          if (wanted(message) && options.onRecord?.(message, partition) === false) finish(false);
        }
        return undefined;
      }
      const taken = messages.filter(wanted);
      if (taken.length === 0) return undefined;
      return options.onBatch(taken, partition).then((more) => {
        if (!more) finish(false);
      });
    }

    /** Retention has removed what was wanted next, or the log was truncated: continues from the oldest record left. */
    async function findAgain(range: Range): Promise<void> {
      range.busy = true;
      try {
        const low = (await offsetsAt(connections, topic, leaders, [range.partition], EARLIEST)).get(range.partition)!;
        log.warn('Records that were wanted are gone; continuing with the oldest one left', {
          ...{ topic, partition: range.partition, wanted: range.next, oldest: low },
        });
        range.next = low;
      } catch (error) {
        if (!over) failed(error, [range]);
      }
      taken(range, range.next);
    }

    if (signal?.aborted) return finish(false);
    ask();
  });
}

/** True for what another broker, or the same one later, may answer. */
function passes(error: unknown): boolean {
  const { type, retriable } = (error ?? {}) as { type?: string; retriable?: boolean };
  return retriable !== false || ELECTING.has(type ?? '');
}

const leadersOf = (partitions: readonly Partition[]) =>
  new Map(partitions.map(({ partitionId, leader }) => [partitionId, leader]));

/** Finds where reading begins and who leads what; waits for elections. */
async function findRanges(
  connections: BrokerConnections,
  { topic, from, signal }: ReadTopicOptions,
): Promise<{ ranges: Range[]; leaders: ReadonlyMap<number, number> }> {
  const startedMs = performance.now();
  for (;;) {
    try {
      const leaders = leadersOf(await connections.partitions(topic));
      const wanted =
        typeof from === 'object' ? [...leaders.keys()].filter((one) => from.has(one)) : [...leaders.keys()];
      const at = (when: string) => offsetsAt(connections, topic, leaders, wanted, when);
      const [lows, highs] = [await at(EARLIEST), await at(LATEST)];
      const times = new Map<number, Map<number, number>>();
      const ranges: Range[] = [];
      for (const partition of wanted) {
        const [low, high] = [lows.get(partition)!, highs.get(partition)!];
        let [next, end] = [from === 'end' ? high : low, high];
        if (typeof from === 'object') {
          next = Math.max(from.get(partition)!.from, low);
          end = Math.min(from.get(partition)!.to, high);
        }
        const ms = typeof from === 'function' ? from(partition) : from;
        if (typeof ms === 'number') {
          if (!times.has(ms)) times.set(ms, await at(String(Math.max(0, Math.floor(ms)))));
          const found = times.get(ms)!.get(partition)!;
          next = Math.max(low, found < 0 ? high : found);
        }
        ranges.push({ partition, next, end, busy: false, notBeforeMs: 0, atEndMs: -1 });
      }
      return { ranges, leaders };
    } catch (error) {
      const electing = error instanceof LeaderlessError || ELECTING.has((error as { type?: string })?.type ?? '');
      const patienceMs = electing ? ELECTION_PATIENCE_MS : START_PATIENCE_MS;
      if (!passes(error) || performance.now() - startedMs > patienceMs || signal?.aborted) throw error;
    }
    await sleep(START_PAUSE_MS, signal);
  }
}

class LeaderlessError extends Error {
  override readonly name = 'LeaderlessError';
}

/** @param when ms since the epoch, LATEST or EARLIEST. An offset of -1 in the answer: there is nothing of that time or later */
async function offsetsAt(
  connections: BrokerConnections,
  topic: string,
  leaders: ReadonlyMap<number, number>,
  partitions: readonly number[],
  when: string,
): Promise<Map<number, number>> {
  const byLeader = new Map<number, number[]>();
  for (const partition of partitions) {
    const leader = leaders.get(partition) ?? -1;
    if (leader < 0) throw new LeaderlessError(`partition ${partition} of ${topic} has no leader`);
    byLeader.set(leader, [...(byLeader.get(leader) ?? []), partition]);
  }
  const found = new Map<number, number>();
  const questions = [...byLeader].map(async ([nodeId, mine]) => {
    type Answer = { responses: { partitions: { partition: number; errorCode: number; offset: string }[] }[] };
    const topics = [{ topic, partitions: mine.map((partition) => ({ partition, timestamp: when })) }];
    const question = connections.ask<Answer>(nodeId, 'ListOffsets', { topics });
    const { responses } = await answerWithin(question, ANSWER_MS, `broker ${nodeId}`).catch((error) => {
      connections.giveUp(nodeId, errorText(error));
      throw error;
    });
    for (const { partition, errorCode, offset } of responses[0]?.partitions ?? []) {
      if (errorCode !== 0) throw errors.createErrorFromCode(errorCode);
      found.set(partition, Number(offset));
    }
  });
  await Promise.all(questions);
  const missing = partitions.find((partition) => !found.has(partition));
  if (missing !== undefined) throw new Error(`Kafka's answer leaves out partition ${missing} of ${topic}`);
  return found;
}
