// Records from the queue to Kafka. In: a queue, and with a spool what waits in files. Out: delivered, refused or still undelivered
// records. Guarantee: a record leaves memory only when every in-sync replica has it, when Kafka refuses it for good, or when the
// spool has it. Its partition is fixed by its first attempt; a partition that takes nothing holds up no other.
//
// Each partition has a queue of its own: what waits for it, and what has been attempted. A batch that was attempted is repeated
// unchanged, with the same producer id and sequence number, until whoever leads the partition has answered: the broker drops what
// it already has. Only when a broker no longer knows the numbers (an unclean election, data lost) do the numbers begin anew under
// another producer id, and a second copy is possible; every repetition says `resent`, so that a reader compares ids within the
// partition. Before its first attempt, a record without a key can still move to a partition that works.
//
// A broker gets one request at a time, for all of its partitions that are ready. One that has not answered for two seconds is
// watched: as soon as another broker says that its partitions have a new leader, nobody waits for it any longer.
//
// With a spool there are three states, found anew whenever something becomes known (`flush`):
//
//   state        when                                     in memory                          in the file
//   works        all partitions take records              the queue; at most 2 x             what an outage has left, read in
//                                                         batch.maxRecords out of the file   its order beside the live records
//   partly away  a partition takes nothing (no leader,    the same, and of that partition    also the copies of that batch, and
//                a failure, no answer for 1 s)            one batch, which was attempted     its other records: parked
//   away         no partition takes anything, a look-up   of each partition one batch,       copies of these, and everything
//                failed, or none was answered in time     which was attempted                else, new records at once
//
// Nobody is told of the states: an outage is told as without a spool, when it has lasted. What was attempted stays in memory because
// the broker that may have it knows it by its sequence number; its copy in the file is for the next process, which sends it to the
// same partition, marked. When a partition takes records again, what was parked is read again. Out of the file and live
// records take turns in a partition, and while live ones wait at most half of a request is out of the file, so an outage that
// filled the disk does not keep new records waiting. A file that cannot be written leaves everything in the queue, as without one.
import errors from 'kafkajs/src/protocol/error.js';
import { backoffMs } from '../core/clock.ts';
import type { Partition } from '../core/kafka/broker-connections.ts';
import type { Brokers, PartitionBatch } from './brokers.ts';
import type { ShipRecord } from './log-record.ts';
import type { BatchOptions, QueueOptions } from './options.ts';
import {
  attemptedOnes,
  type Batch,
  choosePartition,
  copiesOf,
  copyInto,
  createPartitionQueue,
  type Drops,
  halves,
  moveInto,
  nextBatch,
  type PartitionQueue,
  type ProducerId,
  putBack,
  putInto,
  type ShipQueue,
  type Source,
} from './queue.ts';
import type { LeftSpool, Spool, SpooledRecord } from './spool.ts';

export interface Sender {
  /** To be called after every push; cheap. */
  nudge(): void;
  /**
   * True when the spool has taken the record: because nothing gets through at present, or because the queue `isFull`. Otherwise
   * the record belongs into the queue. Cheap.
   */
  keep(record: ShipRecord, isFull?: boolean): boolean;
  /** Sends what a dead process left, too, and closes it at its end. */
  adopt(left: LeftSpool): void;
  /**
   * Sends what is there without waiting for full batches; resolves when queue and spool are empty (of adopted ones, what is under
   * way) or `abort` was called.
   */
  drain(): Promise<void>;
  /** Gives up what is under way and disconnects. */
  abort(): void;
  /**
   * After `abort`: what is in memory alone goes to the spool and leaves the queue, as far as the spool takes it. Closes what was
   * adopted.
   */
  save(): Promise<void>;
  /** At the end of the process: all that is not delivered is in the file when this returns, except what is `lost`. */
  saveSync(): { readonly inFile: number; readonly lost: number };
  readonly delivered: number;
  /** Neither delivered nor given up: in memory, in the spool, or both. */
  readonly undelivered: number;
  /** Kafka is known to take nothing at present. Always false without a spool. */
  readonly away: boolean;
  /** Why records do not get through at present; undefined when nothing is known to be wrong. */
  readonly trouble: unknown;
}

interface SenderDeps {
  readonly queue: ShipQueue;
  readonly brokers: Brokers;
  readonly drops: Drops;
  readonly spool?: Spool | undefined;
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

/** A batch under way. */
interface Sent {
  readonly partition: PartitionQueue;
  readonly of: Batch;
  readonly batch: PartitionBatch;
}

const SEND_TIMEOUT_MS = 15_000;
/** A broker that has not answered within this may be frozen: the others are asked who leads. */
const SLOW_MS = 2_000;
/** The same with a spool: from then on records go to the file. */
const SLOW_SPOOL_MS = 1_000;
/** With a spool: how long the first look-up may take before records go to the file. */
const START_MS = 250;
/** How often it is asked whether a broker has become slow. */
const WATCH_MS = 100;
/** When the spool took no more, it is given the rest after this: it may only have been busy. */
const REFILL_MS = 50;
/** A file that could not be read is read again after this. */
const REREAD_MS = 1_000;
const BACKOFF = { firstMs: 50, maxMs: 5_000 };
/** How often at most metadata is asked for while something is wrong, and how old it may get otherwise. */
const MAX_LOOK_MS = 1_000;
const METADATA_MAX_AGE_MS = 30_000;
/** A change of leaders takes less time, and is not an outage. */
const OUTAGE_MS = 2_500;
/** Something that listens but does not answer as a broker is no broker: it may never fail. */
const UNANSWERED_MS = 5_000;
/** Whoever was stopped for longer than this may have lost its folder to another process, which sends what was noted there. */
const OLD_NOTE_MS = 5_000;
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
  const { queue, brokers, drops, spool, sendTimeoutMs = SEND_TIMEOUT_MS, now = () => performance.now() } = deps;
  const slowMs = spool === undefined ? SLOW_MS : SLOW_SPOOL_MS;
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
  /** Own first: nobody waits for the others. */
  const sources: Source[] = spool === undefined ? [] : [spool];
  /** Those that could not be read just now. */
  const unreadable = new Set<Source>();
  /** Adopted ones that are empty. */
  const closing: Promise<unknown>[] = [];
  let away = false;
  /** The spool keeps records that only wait for any partition to take some. */
  let parked = false;
  let isLookLate = false;
  /** Being read and on their way to their partitions. */
  let reading = 0;
  let refillTimer: NodeJS.Timeout | undefined;

  const full = () => queue.waiting >= batchLimits.maxRecords || queue.waitingBytes >= batchLimits.maxBytes;
  const hasWork = ({ attempted, waiting, drained }: PartitionQueue) =>
    attempted.length > 0 || waiting.length > 0 || drained.length > 0;
  const hasFiles = () => sources.length > 0;
  /** Records that have no partition yet, or are in a file. */
  const isKept = () => queue.waiting > 0 || sources.some(({ records }) => records > 0);
  const isEmpty = () =>
    queue.records === 0 && (spool === undefined || spool.records === 0) && reading === 0 && !isDrainedUnderWay();
  const leaderOf = (partition: PartitionQueue) => leaders.get(partition.number) ?? -1;
  const isSlow = (nodeId: number) => now() - (asked.get(nodeId) ?? Number.POSITIVE_INFINITY) >= slowMs;

  function isDrainedUnderWay(): boolean {
    for (const { drained, attempted } of partitions.values())
      if (drained.length > 0 || attempted[0]?.isDrained === true) return true;
    return false;
  }

  /** After a failure one batch tries again; with a spool, what has not been attempted only waits here for that. */
  function takes(partition: PartitionQueue): boolean {
    if (partition.failures > 0) {
      const hasEnough = hasFiles() ? partition.attempted.length > 0 : hasWork(partition);
      if (hasEnough || now() < partition.notBeforeMs) return false;
    }
    const leader = leaderOf(partition);
    return leader >= 0 && !isSlow(leader);
  }

  function nudge(): void {
    if (scheduled || aborted) return;
    if (full() || draining || (spool !== undefined && isUnknown())) {
      scheduled = true;
      setImmediate(start);
    } else if (fillTimer === undefined) {
      fillTimer = setTimeout(start, batchLimits.maxDelayMs);
      fillTimer.unref();
    }
  }

  /** Nobody was asked yet: whether records can be delivered should be known soon. */
  const isUnknown = () => metadata.length === 0 && looking === undefined && blindSinceMs === undefined;

  function start(): void {
    scheduled = false;
    clearTimeout(fillTimer);
    fillTimer = undefined;
    flush();
  }

  /** Hands every free broker what is ready for it. */
  function flush(): void {
    if (aborted) return;
    for (const source of sources.filter(({ records }) => records === 0)) if (source !== spool) closeLeft(source);
    away = isAway();
    const isStale = now() - lookedMs > METADATA_MAX_AGE_MS;
    if (isStale && looking === undefined && !inTrouble()) void look();
    else if (metadata.length > 0) {
      if (!away) place();
      spill();
      if (!away) unpark();
      distribute();
      tend();
      rest();
      if (!away) pull();
      return;
    }
    spill();
  }

  function distribute(): void {
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
  }

  /** From the queue to the partitions' queues, as long as one of them works. */
  function place(): void {
    const usable = usableOnes();
    if (usable.size === 0) return;
    const choice = choiceOf(usable);
    for (const partition of partitions.values()) {
      if (!partition.mixed || usable.has(partition)) continue;
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
        const key = record.inPlace?.keyHash ?? record.key;
        const partition = queueOf(choosePartition(metadata, choice, key, turn));
        if (usable.has(partition)) putInto(partition, record);
        else if (park(partition, record)) queue.release([record]);
        else if (partition.waiting.length >= maxStuck) giveBack(record);
        else putInto(partition, record);
      }
    }
  }

  function usableOnes(): Set<PartitionQueue> {
    const usable = new Set<PartitionQueue>();
    for (const partition of partitions.values()) if (takes(partition)) usable.add(partition);
    return usable;
  }

  /** What records without a key choose from; it is another one's turn now and then. */
  function choiceOf(usable: ReadonlySet<PartitionQueue>): { partitionId: number }[] {
    if (now() - turnMs >= TURN_MS) {
      turn += 1;
      turnMs = now();
    }
    return [...usable].map(({ number }) => ({ partitionId: number }));
  }

  function queueOf(number: number): PartitionQueue {
    let partition = partitions.get(number);
    if (partition === undefined) {
      partition = createPartitionQueue(number);
      partitions.set(number, partition);
    }
    return partition;
  }

  /** Drops a record whose partition takes nothing and has used up its share of the queue. */
  function giveBack(record: ShipRecord): void {
    drops.count('queue-full', 1);
    queue.release([record]);
  }

  async function send(nodeId: number, group: PartitionQueue[]): Promise<void> {
    asked.set(nodeId, now());
    brokers.busy(true);
    let sent: Sent[] = [];
    const watch = watchOver(nodeId);
    try {
      await brokers.connect(nodeId);
      for (const partition of group) {
        const id = partition.producer ?? (await producerId());
        // Meanwhile another broker, which leads it by now, may have been sent something under another id.
        partition.producer ??= id;
      }
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
    let drainedRecords = records;
    const notedAfterMs = now() - OLD_NOTE_MS;
    if (group.some(({ waiting }) => waiting.length > 0)) drainedRecords = Math.ceil(records / 2);
    // The first partitions may use up the request, so the order is random.
    group.sort(() => Math.random() - 0.5);
    for (const partition of group) {
      if (leaderOf(partition) !== nodeId || partition.askedOf !== undefined || partition.producer === undefined)
        continue;
      if (taken.length > 0 && (records <= 0 || bytes <= 0)) break;
      const of = partition.attempted[0] ?? nextBatch(partition, { records, drainedRecords, bytes, notedAfterMs });
      if (of === undefined) continue;
      records -= of.records.length;
      if (of.isDrained) drainedRecords -= of.records.length;
      for (const record of of.records) bytes -= record.bytes;
      taken.push({
        partition,
        of,
        batch: {
          partition: partition.number,
          records: of.records,
          producer: partition.producer,
          sequence: partition.sequence,
          resent: of.uncertain || of.records.some(({ resent }) => resent === true),
        },
      });
      of.uncertain = true;
      partition.askedOf = nodeId;
    }
    return taken;
  }

  /** Gives up on a broker that answers too late, or whose partitions have another leader by now. */
  function watchOver(nodeId: number): NodeJS.Timeout {
    const watch = setInterval(
      () => {
        const waitedMs = now() - asked.get(nodeId)!;
        if (waitedMs >= sendTimeoutMs) {
          brokers.giveUp(nodeId, `broker ${nodeId} has not answered for ${Math.round(waitedMs / 1000)} s`);
        } else if (waitedMs >= slowMs) {
          if (spool === undefined || now() - lookedMs >= MAX_LOOK_MS) void look();
          flush();
        }
      },
      Math.min(spool === undefined ? MAX_LOOK_MS : WATCH_MS, sendTimeoutMs),
    );
    watch.unref();
    return watch;
  }

  /** What the broker's answer means for each batch. */
  function answered(sent: readonly Sent[], codes: ReadonlyMap<number, number>): void {
    let records = 0;
    let bytes = 0;
    for (const { partition, of, batch } of sent) {
      partition.askedOf = undefined;
      const code = codes.get(partition.number);
      const error =
        code === 0 ? undefined : code === undefined ? unanswered(partition) : errors.createErrorFromCode(code);
      const type = (error as { type?: string } | undefined)?.type ?? '';
      if (error === undefined || type === ALREADY_THERE) {
        partition.sequence = (partition.sequence + batch.records.length) % SEQUENCES;
        done(partition);
        release(of);
        records += batch.records.length;
        for (const record of batch.records) bytes += record.bytes;
      } else if (REFUSALS.includes(type)) {
        refused(partition, of);
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
    endDrain();
  }

  function endDrain(): void {
    if (drained.length > 0 && isEmpty()) for (const resolve of drained.splice(0)) resolve();
  }

  /** These are in Kafka, or will never be: nobody keeps them any longer. */
  function release({ records, source, places, isDrained }: Batch): void {
    if (!isDrained) queue.release(records);
    source?.done(places);
  }

  const unanswered = ({ number }: PartitionQueue) => new Error(`Kafka's answer leaves out partition ${number}`);

  function done(partition: PartitionQueue): void {
    partition.attempted.shift();
    works(partition);
  }

  function works(partition: PartitionQueue): void {
    partition.failures = 0;
    partition.failedBy = undefined;
    partition.notBeforeMs = 0;
    partition.stuckSinceMs = undefined;
  }

  /** One of the records is to blame: the batch is halved until that one is alone. */
  function refused(partition: PartitionQueue, batch: Batch): void {
    done(partition);
    if (batch.records.length === 1) {
      drops.count('refused', 1);
      release(batch);
      endDrain();
      return;
    }
    partition.attempted.unshift(...halves(batch));
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
      const impatient = setTimeout(
        () => {
          isLookLate = true;
          flush();
        },
        metadata.length === 0 ? START_MS : slowMs,
      );
      impatient.unref();
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
        clearTimeout(impatient);
        isLookLate = false;
        looking = undefined;
        if (asked.size === 0) brokers.busy(false);
      }
      if (blindSinceMs === undefined) flush();
      else {
        away = isAway();
        spill();
        tend();
      }
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
      const isOpen = takes(partition);
      if (isOpen) some = true;
      if (isOpen && partition.failures === 0) continue;
      if (hasWork(partition) || partition.parked || (away && isKept())) return true;
    }
    return !some && isKept() && partitions.size > 0;
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
      if (partition.stuckSinceMs === undefined || !(hasWork(partition) || partition.parked || isKept())) continue;
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
      const idle = queue.records === 0 && asked.size === 0 && looking === undefined && reading === 0;
      if (idle && restMs >= IDLE_MS) brokers.disconnect();
      else if (!aborted) waitForRest(Math.max(IDLE_MS - restMs, IDLE_MS / 3));
    }, ms);
    idleTimer.unref();
  }

  // ---- with a spool ----

  function isAway(): boolean {
    if (!hasFiles()) return false;
    if (blindSinceMs !== undefined) return true;
    if (isLookLate && now() - lookedMs > METADATA_MAX_AGE_MS) return true;
    if (metadata.length === 0) return false;
    for (const partition of partitions.values()) if (takes(partition)) return false;
    return true;
  }

  /** What nobody takes at present goes to the file. */
  function spill(): void {
    if (!hasFiles() || aborted) return;
    let isRest = false;
    for (const partition of partitions.values()) {
      if (!away && takes(partition)) continue;
      for (const { record, source } of partition.drained.splice(0)) shelve(partition, source, record);
      if (spool === undefined) continue;
      for (const batch of partition.attempted) if (!copyInto(spool, partition, batch)) isRest = true;
      let count = 0;
      while (count < partition.waiting.length && park(partition, partition.waiting[count]!)) count++;
      queue.release(partition.waiting.splice(0, count));
      if (partition.waiting.length > 0) isRest = true;
      else partition.mixed = false;
    }
    if (away && spool !== undefined) {
      queue.takeWhile((record) => spool.append(record) !== undefined);
      if (queue.waiting > 0) isRest = true;
    }
    if (!isRest || refillTimer !== undefined) return;
    refillTimer = setTimeout(() => {
      refillTimer = undefined;
      flush();
    }, REFILL_MS);
    refillTimer.unref();
  }

  /** Into the file, to be read when the partition takes something. */
  function park(partition: PartitionQueue, record: ShipRecord): boolean {
    const place = spool?.append(record);
    if (spool === undefined || place === undefined) return false;
    if (away) return true;
    spool.park([place]);
    partition.parked = true;
    return true;
  }

  /** Back into its file, to be read again. */
  function shelve(partition: PartitionQueue, source: Source, { key, partition: was, place }: SpooledRecord): void {
    source.park([place]);
    if (key === null && was === undefined) parked = true;
    else partition.parked = true;
  }

  /** What was kept back is read again when whoever it waits for takes records. */
  function unpark(): void {
    let isAgain = parked;
    for (const partition of partitions.values()) {
      if (!partition.parked || !takes(partition)) continue;
      partition.parked = false;
      isAgain = true;
    }
    if (!isAgain) return;
    parked = false;
    for (const source of sources) source.rewind();
  }

  /** Records out of a file that are on their way; those of partitions that take nothing hold up nobody. */
  function onTheirWay(): number {
    let count = reading;
    for (const partition of partitions.values()) {
      if (!takes(partition)) continue;
      count += partition.drained.length;
      for (const batch of partition.attempted) if (batch.isDrained) count += batch.records.length;
    }
    return count;
  }

  /** Reads what comes next in the files, while there is room. */
  function pull(): void {
    if (reading > 0) return;
    // At the end only its own: the others can wait for the next process.
    const source = sources.find(
      (one) => one.available > 0 && !unreadable.has(one) && (one === spool || !draining || spool === undefined),
    );
    if (source === undefined) return;
    const { maxRecords, maxBytes } = batchLimits;
    const room = 2 * maxRecords - onTheirWay();
    if (room < Math.ceil(maxRecords / 2)) return;
    reading = Math.min(room, maxRecords);
    void source
      .next(reading, maxBytes)
      .then((records) => {
        if (aborted) return source.park(records.map(placeOf));
        if (records.length === 0) readLater(source);
        return hand(source, records);
      })
      .finally(() => {
        reading = 0;
        flush();
        endDrain();
      });
  }

  function readLater(source: Source): void {
    unreadable.add(source);
    const timer = setTimeout(() => {
      unreadable.delete(source);
      flush();
    }, REREAD_MS);
    timer.unref();
  }

  /** To their partitions, which is noted in the file before they can be sent. */
  async function hand(source: Source, records: readonly SpooledRecord[]): Promise<void> {
    reading = records.length;
    const usable = usableOnes();
    const choice = choiceOf(usable);
    const groups = new Map<PartitionQueue, SpooledRecord[]>();
    for (const record of records) {
      const { partition: before, key } = record;
      const isKnown = before !== undefined && leaders.has(before);
      const partition = queueOf(isKnown ? before : choosePartition(metadata, choice, key, turn));
      if (away || !usable.has(partition)) shelve(partition, source, record);
      else if (groups.has(partition)) groups.get(partition)!.push(record);
      else groups.set(partition, [record]);
    }
    const notedMs = now();
    const notes = [...groups].map(([{ number }, group]) => source.attempting(number, group.map(placeOf)));
    await Promise.all(notes);
    for (const [partition, group] of groups) {
      for (const record of group) {
        // While this process was stopped: another one sends them.
        if (source.isTaken(record.place)) source.done([record.place]);
        else partition.drained.push({ record, source, notedMs });
      }
    }
  }

  function closeLeft(source: Source): void {
    const at = sources.indexOf(source);
    if (at < 0) return;
    sources.splice(at, 1);
    unreadable.delete(source);
    closing.push(Promise.resolve(source.close?.()).catch(() => {}));
  }

  /** Records of the spool that are in memory too, less those that were read from it and are in no file any more. */
  function inBoth(): number {
    let count = 0;
    for (const partition of partitions.values()) if (spool !== undefined) count += copiesOf(partition, spool);
    return count;
  }

  return {
    nudge,
    keep(record, isFull = false) {
      if (spool === undefined || aborted || !(away || isFull)) return false;
      // What could not be written before comes before this one.
      if (!isFull && queue.waiting > 0) return false;
      if (spool.append(record) === undefined) return false;
      nudge();
      return true;
    },
    adopt(left) {
      sources.push(left);
      if (aborted) closeLeft(left);
      flush();
    },
    drain() {
      draining = true;
      if (aborted || isEmpty()) return Promise.resolve();
      flush();
      return new Promise((resolve) => drained.push(resolve));
    },
    abort() {
      if (aborted) return;
      aborted = true;
      for (const timer of [fillTimer, idleTimer, troubleTimer, refillTimer]) clearTimeout(timer);
      brokers.destroy();
      for (const partition of partitions.values()) putBack(partition);
      for (const resolve of drained.splice(0)) resolve();
    },
    async save() {
      // The spool takes only so much at a time.
      for (
        let before = Number.POSITIVE_INFINITY;
        spool !== undefined && queue.records > 0 && queue.records < before;
      ) {
        before = queue.records;
        for (const partition of partitions.values()) moveInto(spool, partition, queue);
        queue.takeWhile((record) => spool.append(record) !== undefined);
        await spool.written();
      }
      for (const source of [...sources]) if (source !== spool) closeLeft(source);
      await Promise.all(closing);
    },
    saveSync() {
      for (const source of sources) if (source !== spool) source.saveNotesSync?.();
      const all = [...partitions.values()];
      for (const partition of all) putBack(partition);
      const attempted = all.flatMap(attemptedOnes);
      const rest: { record: ShipRecord; partition?: number }[] = attempted.filter(({ copy }) => copy === undefined);
      for (const { waiting } of all) for (const record of waiting) rest.push({ record });
      queue.takeWhile((record) => rest.push({ record }) > 0);
      if (spool === undefined || rest.length + spool.records === 0) return { inFile: 0, lost: rest.length };
      const before = spool.records + rest.length + drops.total();
      let inFile = spool.saveSync(rest);
      // For these the cap may have taken copies of others, and for those further ones: each of them is saved once more.
      const isGone = ({ copy }: (typeof attempted)[number]) =>
        copy !== undefined && !spool.has(copy) && !spool.isTaken(copy);
      for (let copied = attempted, again = copied.filter(isGone); again.length > 0; again = copied.filter(isGone)) {
        copied = copied.filter((one) => !isGone(one));
        inFile = spool.saveSync(again);
      }
      return { inFile, lost: Math.max(0, before - inFile - drops.total()) };
    },
    get delivered() {
      return delivered;
    },
    get undelivered() {
      return queue.records + (spool?.records ?? 0) - inBoth();
    },
    get away() {
      return away;
    },
    get trouble() {
      return lastError;
    },
  };
}

const placeOf = ({ place }: SpooledRecord) => place;

/** With jitter, so that many applications do not come back at the same moment. */
function backoff(failures: number): number {
  return backoffMs(failures, BACKOFF, Math.random);
}
