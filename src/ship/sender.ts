// Records from the queue to Kafka. In: a queue. Out: delivered, refused or still undelivered records. Guarantee: a record leaves
// the queue only when every in-sync replica has it, or Kafka refuses it for good. Its partition is fixed by its first attempt; a
// partition that takes nothing holds up no other.
//
// Each partition has a queue of its own: what waits for it, and what has been attempted. A batch that was attempted is repeated
// unchanged, with the same producer id and sequence number, until whoever leads the partition has answered: the broker drops what
// it already has. Only when a broker no longer knows the numbers (an unclean election, data lost) do the numbers begin anew under
// another producer id, and a second copy is possible; every repetition says `resent`, so that a reader compares ids within the
// partition. Before its first attempt, a record without a key can still move to a partition that works.
//
// A broker gets one request at a time, for all of its partitions that are ready. One that has not answered for two seconds is
// watched: as soon as another broker says that its partitions have a new leader, nobody waits for it any longer.
import errors from 'kafkajs/src/protocol/error.js';
import { backoffMs } from '../core/clock.ts';
import type { Partition } from '../core/kafka/broker-connections.ts';
import type { Brokers, PartitionBatch, ProducerId } from './brokers.ts';
import type { ShipRecord } from './log-record.ts';
import type { BatchOptions, QueueOptions } from './options.ts';
import type { Drops, ShipQueue } from './queue.ts';

export interface Sender {
  /** To be called after every push; cheap. */
  nudge(): void;
  /** Sends what is there without waiting for full batches; resolves when the queue is empty or `abort` was called. */
  drain(): Promise<void>;
  /** Gives up what is under way and disconnects. */
  abort(): void;
  readonly delivered: number;
  /** Why records do not get through at present; undefined when nothing is known to be wrong. */
  readonly trouble: unknown;
}

interface SenderDeps {
  readonly queue: ShipQueue;
  readonly brokers: Brokers;
  readonly drops: Drops;
  onDelivered(batch: { records: number; bytes: number }): void;
  /** Once per outage. */
  onFailed(error: unknown): void;
  /** An outage that was told is over. @param lastedMs since it was told, by the monotonic clock */
  onResumed(lastedMs: number): void;
  /** When to give up on an answer, in ms. Default 15,000. */
  readonly sendTimeoutMs?: number | undefined;
  /** Monotonic clock in ms. */
  readonly now?: (() => number) | undefined;
}

/** One partition of the topic, with what goes there. */
interface PartitionQueue {
  readonly number: number;
  /** Never attempted, oldest first. */
  waiting: ShipRecord[];
  /** Some of the waiting records may have no key. */
  mixed: boolean;
  /** Attempted, oldest first: these must stay in this partition. */
  attempted: (readonly ShipRecord[])[];
  /** An earlier attempt of the first attempted batch may have arrived. */
  uncertain: boolean;
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

/** A batch under way. */
interface Sent {
  readonly partition: PartitionQueue;
  readonly batch: PartitionBatch;
}

const SEND_TIMEOUT_MS = 15_000;
/** A broker that has not answered within this may be frozen: the others are asked who leads. */
const SLOW_MS = 2_000;
const BACKOFF = { firstMs: 50, maxMs: 5_000 };
/** How often at most metadata is asked for while something is wrong, and how old it may get otherwise. */
const MAX_LOOK_MS = 1_000;
const METADATA_MAX_AGE_MS = 30_000;
/** A change of leaders takes less time, and is not an outage. */
const OUTAGE_MS = 2_500;
/** Something that listens but does not answer as a broker is no broker: it may never fail. */
const UNANSWERED_MS = 5_000;
/** Records without a key go to the same partition for this long. */
const TURN_MS = 1_000;
/** An idle connection is closed after this; the next record connects again. */
const IDLE_MS = 3_000;
/** How much of the queue one partition that takes nothing may fill; the rest is for the others. */
const STUCK_SHARE = 0.5;

const REFUSALS = ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD', 'INVALID_TIMESTAMP'];
/** The broker does not know the sequence numbers it is given. */
const NUMBERS_LOST = [
  ...['OUT_OF_ORDER_SEQUENCE_NUMBER', 'UNKNOWN_PRODUCER_ID', 'INVALID_PRODUCER_EPOCH'],
  'INVALID_PRODUCER_ID_MAPPING',
];
const ALREADY_THERE = 'DUPLICATE_SEQUENCE_NUMBER';
const SEQUENCES = 2 ** 31;

export function createSender(
  limits: { readonly batch: Required<BatchOptions>; readonly queue: Required<QueueOptions> },
  deps: SenderDeps,
): Sender {
  const { queue, brokers, drops, sendTimeoutMs = SEND_TIMEOUT_MS, now = () => performance.now() } = deps;
  const { batch: batchLimits } = limits;
  const maxStuck = Math.ceil(limits.queue.maxRecords * STUCK_SHARE);
  const partitions = new Map<number, PartitionQueue>();
  /** Brokers that owe an answer, with the time since when. */
  const asked = new Map<number, number>();
  let metadata: readonly Partition[] = [];
  let leaders = new Map<number, number>();
  let lookedMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> | undefined;
  let lookFailures = 0;
  let blindSinceMs: number | undefined;
  let turn = Math.floor(Math.random() * 1_000);
  let turnMs = Number.NEGATIVE_INFINITY;
  let nextProducer: Promise<ProducerId> | undefined;
  let fillTimer: NodeJS.Timeout | undefined;
  let idleTimer: NodeJS.Timeout | undefined;
  let troubleTimer: NodeJS.Timeout | undefined;
  let troubleLooks = 0;
  let lastError: unknown;
  let activeMs = 0;
  let scheduled = false;
  let draining = false;
  let aborted = false;
  let toldMs: number | undefined;
  let delivered = 0;
  const drained: (() => void)[] = [];

  const full = () => queue.waiting >= batchLimits.maxRecords || queue.waitingBytes >= batchLimits.maxBytes;
  const hasWork = (partition: PartitionQueue) => partition.attempted.length > 0 || partition.waiting.length > 0;
  const leaderOf = (partition: PartitionQueue) => leaders.get(partition.number) ?? -1;
  const isSlow = (nodeId: number) => now() - (asked.get(nodeId) ?? Number.POSITIVE_INFINITY) >= SLOW_MS;

  function takes(partition: PartitionQueue): boolean {
    if (partition.failures > 0 && (hasWork(partition) || now() < partition.notBeforeMs)) return false;
    const leader = leaderOf(partition);
    return leader >= 0 && !isSlow(leader);
  }

  function nudge(): void {
    if (scheduled || aborted) return;
    if (full() || draining) {
      scheduled = true;
      setImmediate(start);
    } else if (fillTimer === undefined) {
      fillTimer = setTimeout(start, batchLimits.maxDelayMs);
      fillTimer.unref();
    }
  }

  function start(): void {
    scheduled = false;
    clearTimeout(fillTimer);
    fillTimer = undefined;
    flush();
  }

  /** Hands every free broker what is ready for it. */
  function flush(): void {
    if (aborted) return;
    if (now() - lookedMs > METADATA_MAX_AGE_MS && looking === undefined && !inTrouble()) {
      void look();
      return;
    }
    if (metadata.length === 0) return;
    place();
    const ready = new Map<number, PartitionQueue[]>();
    for (const partition of partitions.values()) {
      if (!hasWork(partition) || partition.askedOf !== undefined || now() < partition.notBeforeMs) continue;
      const leader = leaderOf(partition);
      if (leader < 0 || asked.has(leader)) continue;
      const group = ready.get(leader);
      if (group === undefined) ready.set(leader, [partition]);
      else group.push(partition);
    }
    for (const [nodeId, group] of ready) void send(nodeId, group);
    tend();
    rest();
  }

  /** From the queue to the partitions' queues, as long as one of them works. */
  function place(): void {
    const usable: PartitionQueue[] = [];
    for (const partition of partitions.values()) if (takes(partition)) usable.push(partition);
    if (usable.length === 0) return;
    const choice = usable.map(({ number }) => ({ partitionId: number }));
    if (now() - turnMs >= TURN_MS) {
      turn += 1;
      turnMs = now();
    }
    for (const partition of partitions.values()) {
      if (!partition.mixed || takes(partition)) continue;
      const all = partition.waiting;
      partition.waiting = [];
      partition.mixed = false;
      for (const record of all) {
        if (record.key !== null) partition.waiting.push(record);
        else putInto(queueOf(choosePartition(metadata, choice, null, turn)), record);
      }
    }
    while (queue.waiting > 0) {
      for (const record of queue.take(batchLimits.maxRecords, batchLimits.maxBytes)) {
        const partition = queueOf(choosePartition(metadata, choice, record.key, turn));
        if (partition.waiting.length >= maxStuck && !takes(partition)) giveBack(record);
        else putInto(partition, record);
      }
    }
  }

  function queueOf(number: number): PartitionQueue {
    let partition = partitions.get(number);
    if (partition === undefined) {
      partition = {
        number,
        waiting: [],
        mixed: false,
        attempted: [],
        uncertain: false,
        producer: undefined,
        sequence: 0,
        askedOf: undefined,
        failures: 0,
        failedBy: undefined,
        notBeforeMs: 0,
        stuckSinceMs: undefined,
      };
      partitions.set(number, partition);
    }
    return partition;
  }

  function putInto(partition: PartitionQueue, record: ShipRecord): void {
    partition.waiting.push(record);
    if (record.key === null) partition.mixed = true;
  }

  /** Drops a record whose partition takes nothing and has used up its share of the queue. */
  function giveBack(record: ShipRecord): void {
    queue.release([record]);
    drops.count('queue-full', 1);
  }

  async function send(nodeId: number, group: PartitionQueue[]): Promise<void> {
    asked.set(nodeId, now());
    brokers.busy(true);
    let sent: Sent[] = [];
    const watch = watchOver(nodeId);
    try {
      await brokers.connect(nodeId);
      for (const partition of group) partition.producer ??= await producerId();
      if (aborted) return;
      sent = takeBatches(nodeId, group);
      if (sent.length === 0) return;
      asked.set(nodeId, now());
      const codes = await brokers.produce(
        nodeId,
        sent.map(({ batch }) => batch),
      );
      if (aborted) return;
      for (const partition of partitions.values()) if (partition.failedBy === nodeId) works(partition);
      answered(sent, codes);
      if (blindSinceMs !== undefined) {
        // A broker that takes records also answers questions. Waiting for the next look would merge the next outage with this
        // one.
        lookFailures = 0;
        void look();
      }
    } catch (error) {
      if (aborted) return;
      for (const partition of sent.length > 0 ? sent.map((one) => one.partition) : group)
        failed(partition, error, nodeId);
    } finally {
      clearInterval(watch);
      for (const { partition } of sent) partition.askedOf = undefined;
      asked.delete(nodeId);
      if (asked.size === 0) brokers.busy(false);
      if (!aborted) flush();
    }
  }

  /** Takes batches of the partitions that this broker still leads; synchronous, so that whatever is taken is attempted. */
  function takeBatches(nodeId: number, group: PartitionQueue[]): Sent[] {
    const taken: Sent[] = [];
    let records = batchLimits.maxRecords;
    let bytes = batchLimits.maxBytes;
    // The first partitions may use up the request, so the order is random.
    group.sort(() => Math.random() - 0.5);
    for (const partition of group) {
      if (leaderOf(partition) !== nodeId || partition.askedOf !== undefined || partition.producer === undefined)
        continue;
      if (taken.length > 0 && (records <= 0 || bytes <= 0)) break;
      const isNew = partition.attempted.length === 0;
      if (isNew) partition.attempted.push(firstOf(partition, Math.max(records, 1), bytes));
      const [batch] = partition.attempted;
      if (batch === undefined || batch.length === 0) {
        partition.attempted.shift();
        continue;
      }
      records -= batch.length;
      for (const record of batch) bytes -= record.bytes;
      taken.push({
        partition,
        batch: {
          partition: partition.number,
          records: batch,
          producer: partition.producer,
          sequence: partition.sequence,
          resent: partition.uncertain,
        },
      });
      partition.uncertain = true;
      partition.askedOf = nodeId;
    }
    return taken;
  }

  function firstOf(partition: PartitionQueue, maxRecords: number, maxBytes: number): ShipRecord[] {
    let count = 0;
    let size = 0;
    for (; count < partition.waiting.length && count < maxRecords; count++) {
      size += partition.waiting[count]!.bytes;
      if (count > 0 && size > maxBytes) break;
    }
    if (count === partition.waiting.length) {
      const all = partition.waiting;
      partition.waiting = [];
      partition.mixed = false;
      return all;
    }
    return partition.waiting.splice(0, count);
  }

  /** Gives up on a broker that answers too late, or whose partitions have another leader by now. */
  function watchOver(nodeId: number): NodeJS.Timeout {
    const watch = setInterval(
      () => {
        const waitedMs = now() - asked.get(nodeId)!;
        if (waitedMs >= sendTimeoutMs) {
          brokers.giveUp(nodeId, `broker ${nodeId} has not answered for ${Math.round(waitedMs / 1000)} s`);
        } else if (waitedMs >= SLOW_MS) {
          void look();
          flush();
        }
      },
      Math.min(MAX_LOOK_MS, sendTimeoutMs),
    );
    watch.unref();
    return watch;
  }

  /** What the broker's answer means for each batch. */
  function answered(sent: readonly Sent[], codes: ReadonlyMap<number, number>): void {
    let records = 0;
    let bytes = 0;
    for (const { partition, batch } of sent) {
      partition.askedOf = undefined;
      const code = codes.get(partition.number);
      const error =
        code === 0 ? undefined : code === undefined ? unanswered(partition) : errors.createErrorFromCode(code);
      const type = (error as { type?: string } | undefined)?.type ?? '';
      if (error === undefined || type === ALREADY_THERE) {
        partition.sequence = (partition.sequence + batch.records.length) % SEQUENCES;
        done(partition);
        queue.release(batch.records);
        records += batch.records.length;
        for (const record of batch.records) bytes += record.bytes;
      } else if (REFUSALS.includes(type)) {
        refused(partition, batch.records);
      } else {
        if (NUMBERS_LOST.includes(type)) {
          partition.producer = undefined;
          partition.sequence = 0;
        }
        failed(partition, error);
      }
    }
    if (records === 0) return;
    delivered += records;
    if (queue.relaxed) drops.endEpisodes();
    outageOver();
    deps.onDelivered({ records, bytes });
    if (queue.records === 0) for (const resolve of drained.splice(0)) resolve();
  }

  const unanswered = ({ number }: PartitionQueue) => new Error(`Kafka's answer leaves out partition ${number}`);

  function done(partition: PartitionQueue): void {
    partition.attempted.shift();
    partition.uncertain = partition.attempted.length > 0;
    works(partition);
  }

  function works(partition: PartitionQueue): void {
    partition.failures = 0;
    partition.failedBy = undefined;
    partition.notBeforeMs = 0;
    partition.stuckSinceMs = undefined;
  }

  /** One of the records is to blame: the batch is halved until that one is alone. */
  function refused(partition: PartitionQueue, records: readonly ShipRecord[]): void {
    done(partition);
    if (records.length === 1) {
      queue.release(records);
      drops.count('refused', 1);
      if (queue.records === 0) for (const resolve of drained.splice(0)) resolve();
      return;
    }
    const half = records.length >> 1;
    partition.attempted.unshift(records.slice(0, half), records.slice(half));
    partition.uncertain = true;
  }

  /** @param by the broker, when it was the broker that failed and with it all of its partitions */
  function failed(partition: PartitionQueue, error: unknown, by?: number): void {
    lastError = error;
    partition.failures += 1;
    partition.failedBy = by;
    partition.notBeforeMs = now() + backoff(partition.failures);
    partition.stuckSinceMs ??= now();
    // When the numbers were lost, new ones are the remedy: that is not reported.
    if ((error as { retriable?: boolean } | undefined)?.retriable === false && partition.producer !== undefined)
      tell(error);
    void look();
  }

  function producerId(): Promise<ProducerId> {
    nextProducer ??= brokers.producerId().finally(() => {
      nextProducer = undefined;
    });
    return nextProducer;
  }

  /** Asks for the partitions; repeated while something is wrong (`tend`). */
  function look(): Promise<void> {
    if (aborted) return Promise.resolve();
    looking ??= (async () => {
      if (asked.size === 0) brokers.busy(true);
      const startedMs = now();
      const late = setTimeout(() => {
        blindSinceMs ??= startedMs;
        lastError ??= new Error(`nobody there has answered as a Kafka broker for ${UNANSWERED_MS / 1_000} s`);
        tell(lastError);
      }, UNANSWERED_MS);
      late.unref();
      try {
        learn(await brokers.partitions());
        lookFailures = 0;
        blindSinceMs = undefined;
        outageOver();
      } catch (error) {
        lastError = error;
        lookFailures += 1;
        blindSinceMs ??= now();
        if ((error as { retriable?: boolean } | undefined)?.retriable === false) tell(error);
      } finally {
        clearTimeout(late);
        looking = undefined;
        if (asked.size === 0) brokers.busy(false);
      }
      if (blindSinceMs === undefined) flush();
      else tend();
    })();
    return looking;
  }

  function learn(fresh: readonly Partition[]): void {
    metadata = fresh;
    lookedMs = now();
    leaders = new Map(fresh.map(({ partitionId, leader }) => [partitionId, leader]));
    for (const { partitionId } of fresh) queueOf(partitionId);
    for (const partition of partitions.values()) {
      const leader = leaderOf(partition);
      if (leader < 0) partition.stuckSinceMs ??= now();
      else if (partition.failures === 0) partition.stuckSinceMs = undefined;
      const { askedOf } = partition;
      if (askedOf === undefined || leader === askedOf || leader < 0 || !isSlow(askedOf)) continue;
      brokers.giveUp(askedOf, `broker ${askedOf} does not answer and no longer leads partition ${partition.number}`);
    }
  }

  function inTrouble(): boolean {
    if (blindSinceMs !== undefined) return true;
    let some = false;
    for (const partition of partitions.values()) {
      if (takes(partition)) some = true;
      else if (hasWork(partition)) return true;
    }
    return !some && queue.waiting > 0 && partitions.size > 0;
  }

  /** Looks and tries again, at growing intervals, until all partitions with records work. */
  function tend(): void {
    if (aborted || troubleTimer !== undefined) return;
    if (!inTrouble()) {
      troubleLooks = 0;
      return;
    }
    let since = blindSinceMs ?? Number.POSITIVE_INFINITY;
    let reason = lastError;
    for (const partition of partitions.values()) {
      if (partition.stuckSinceMs === undefined || (!hasWork(partition) && queue.waiting === 0)) continue;
      since = Math.min(since, partition.stuckSinceMs);
      reason ??= new Error(`partition ${partition.number} has no leader`);
    }
    if (now() - since >= OUTAGE_MS) {
      lastError = reason;
      tell(reason);
    }
    const delay = blindSinceMs === undefined ? Math.min(backoff(++troubleLooks), MAX_LOOK_MS) : backoff(lookFailures);
    troubleTimer = setTimeout(() => {
      troubleTimer = undefined;
      void look();
    }, delay);
    troubleTimer.unref();
  }

  function tell(error: unknown): void {
    if (toldMs !== undefined || aborted) return;
    toldMs = now();
    deps.onFailed(error);
  }

  function outageOver(): void {
    if ((lastError === undefined && toldMs === undefined) || inTrouble()) return;
    lastError = undefined;
    if (toldMs === undefined) return;
    const lastedMs = now() - toldMs;
    toldMs = undefined;
    deps.onResumed(lastedMs);
  }

  function rest(): void {
    activeMs = now();
    if (idleTimer === undefined) waitForRest(IDLE_MS);
  }

  function waitForRest(ms: number): void {
    idleTimer = setTimeout(() => {
      idleTimer = undefined;
      const restMs = now() - activeMs;
      const idle = queue.records === 0 && asked.size === 0 && looking === undefined;
      if (idle && restMs >= IDLE_MS) brokers.disconnect();
      else if (!aborted) waitForRest(Math.max(IDLE_MS - restMs, IDLE_MS / 3));
    }, ms);
    idleTimer.unref();
  }

  return {
    nudge,
    drain() {
      draining = true;
      if (aborted || queue.records === 0) return Promise.resolve();
      flush();
      return new Promise((resolve) => drained.push(resolve));
    },
    abort() {
      if (aborted) return;
      aborted = true;
      for (const timer of [fillTimer, idleTimer, troubleTimer]) clearTimeout(timer);
      brokers.destroy();
      for (const resolve of drained.splice(0)) resolve();
    },
    get delivered() {
      return delivered;
    },
    get trouble() {
      return lastError;
    },
  };
}

/** With jitter, so that many applications do not come back at the same moment. */
function backoff(failures: number): number {
  return backoffMs(failures, BACKOFF, Math.random);
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
