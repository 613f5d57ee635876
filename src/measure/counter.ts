// Chunks of raw records -> totals per partition and arrival bucket -> a CountsSink -> acknowledgements. In: the log, partition by
// partition. Out: every `publishMs` the totals that have changed, oldest first, followed by how far each partition was read.
// Guarantee: totals are a pure function of the log; a Kafka record is acknowledged when its bucket is closed and durable, a whole
// bucket in one synchronous step, so that a new owner always begins with a whole bucket. Never throws for any record; memory is
// bounded by the publisher's limits, plus one open bucket and 3 MB of event ids per partition. `startCounting` runs it.
import { randomUUID } from 'node:crypto';
import { type Clock, endsWithin, SET_BACK_MS } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { type Chunk, type ChunkOrigin, type Deliver, lastingId, type RawRecord, type Source } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { createParser, type ParseConfig, type ParsedEvent } from '../parse/parse.ts';
import { createFileSource, type FilesConfig } from '../source/files/files.ts';
import { createKafka, type IntakeConfig, type KafkaConfig } from '../source/kafka/client.ts';
import { createKafkaSource } from '../source/kafka/intake.ts';
import { toRecords } from '../source/kafka/record-batch.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { createTagger, type TaggedEvent } from '../tag/tag.ts';
import { createTransformingParser, type TransformingParser, type TransformsConfig } from '../transform/transform.ts';
import { ArrivalBucket, compileCollect, fieldsRead } from './collect.ts';
import { type CollectedMeasure, collectedOf, type Measures } from './measure-config.ts';
import {
  BUCKET_MS,
  type BucketTotals,
  type CountsMessage,
  type CountsSink,
  createKafkaCounts,
  type PartitionProgress,
} from './totals.ts';

/** Embedded mode reports progress as one partition over all files and runs, though totals have a partition per file and run. */
const EMBEDDED_PARTITION = 'embedded';
/** How many files have a partition at a time; beyond it, the one that has been quiet longest is let go. */
const MAX_EMBEDDED_PARTITIONS = 100;

/** What a Kafka source knows of a partition it reads (source/kafka/intake.ts). */
export interface SourcePosition {
  readonly partition: number;
  /** Partitions of the topic. */
  readonly partitions: number;
  /** The next offset to read. */
  readonly position: number;
  readonly end: number;
  readonly caughtUp: boolean;
  /** How long ago the log was last looked at, ms. */
  readonly ageMs?: number;
}

/**
 * Reports the event ids of a partition's records with offsets in [from, to), as far as they still exist, except those of records
 * marked `redriven` or `replayed`.
 */
type Recall = (
  partition: number,
  from: number,
  to: number,
  onId: (eventId: string, offset: number) => void,
) => Promise<void>;

export const COUNTER_DEFAULTS: PublisherOptions = {
  publishMs: 500,
  maxWaitingBytes: 32 * 1024 * 1024,
  maxWaitingBuckets: 500,
};

export interface CounterDeps {
  readonly parser: Pick<TransformingParser, 'parse'>;
  readonly tag: (event: ParsedEvent) => TaggedEvent;
  readonly sink: CountsSink;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  /** Kafka only: where the source stands. */
  readonly positions?: () => readonly SourcePosition[];
  /** Milliseconds by a clock that never steps; without it, progress that is written late seems to be observed late. */
  readonly monotonic?: () => number;
  /** Kafka only: to recognise a record that was sent again when its first copy was read by another owner. */
  readonly recall?: Recall;
  /** Embedded mode only: names this run's partitions; file identity -> last offset that a former run's durable totals hold. */
  readonly embedded?: { readonly run: string; readonly resume: ReadonlyMap<string, number> };
}

export interface Counter {
  /** The source's `Deliver`: resolves at once unless too much waits to be published. */
  accept(chunk: Chunk): Promise<void>;
  /** A new assignment began: every partition is read again from its committed offset. Call it synchronously from the event. */
  assigned(): void;
  /** Publishes what has changed, now. Resolves when that is durable; a failure is logged and tried again later. */
  publish(): Promise<void>;
  /** Publishes everything, open buckets included, and then no more; false when `deadlineMs` ran out first. */
  drain(deadlineMs: number): Promise<boolean>;
  /** What publishing waits for; undefined when nothing is wrong. */
  trouble(): string | undefined;
}

export function createCounter(
  measures: Measures,
  deps: CounterDeps,
  options: PublisherOptions = COUNTER_DEFAULTS,
): Counter {
  const { parser, tag, metrics, log, embedded } = deps;
  const collected = collectedOf(measures);
  const collect = compileCollect(collected);
  const partitions = new Map<string, Partition>();
  /** Kept over assignments: what a partition has carried does not change. */
  const recentIds = new Map<string, RecentIds>();
  /** Chunks that are partly counted, or wait for room. */
  let accepting = 0;
  const writer = randomUUID();
  let assignment = 0;
  let counted = 0;

  const publisher = createPublisher(options, { ...deps, partitions: () => partitions.values(), progress });

  function partitionOf(origin: ChunkOrigin): Partition {
    const kafka = origin.kind === 'kafka';
    const name = kafka ? String(origin.partition) : `${origin.identity}#${embedded?.run ?? ''}`;
    const known = partitions.get(name);
    if (known !== undefined) return known;
    if (!kafka) letGo();
    const partition = kafka ? createPartition(name, true, idsOf(name)) : createPartition(name, false);
    partitions.set(name, partition);
    return partition;
  }

  function idsOf(name: string): RecentIds {
    let ids = recentIds.get(name);
    if (ids === undefined) {
      ids = createRecentIds();
      recentIds.set(name, ids);
    }
    return ids;
  }

  function letGo(): void {
    const quiet = [...partitions.values()].filter(({ open }) => open === undefined || !isDirty(open));
    if (partitions.size < MAX_EMBEDDED_PARTITIONS || quiet.length === 0) return;
    const oldest = quiet.reduce((a, b) => (b.newestMs < a.newestMs ? b : a));
    if (oldest.open !== undefined) acknowledge(oldest.open);
    partitions.delete(oldest.name);
  }

  async function accept(chunk: Chunk): Promise<void> {
    const { origin, records } = chunk;
    const partition = partitionOf(origin);
    const since = assignment;
    const resumeAt = origin.kind === 'file' ? (embedded?.resume.get(origin.identity) ?? -1) : -1;
    const before = counted;
    accepting += 1;
    if (wasSetBack(chunk, partition)) beginAnew(partition, publisher.add);
    try {
      const first = records.at(0);
      if (partition.next < 0 && first !== undefined) {
        partition.ids?.resume(first.offset);
        partition.next = first.offset;
      }
      for (let i = 0; i < records.length; i++) {
        const record = records.at(i)!;
        if (record.offset <= resumeAt) {
          partition.next = record.offset + 1;
          chunk.done(1);
          continue;
        }
        let repeated: boolean | undefined = false;
        const id = record.mark === 'resent' ? lastingId(record) : undefined;
        if (id !== undefined && partition.ids !== undefined) {
          repeated = partition.ids.seenBefore(id, record.offset);
          if (repeated === undefined) {
            repeated = await recall(origin, partition.ids, id, record.offset);
            if (since !== assignment) return;
          }
        }
        take(partition, record, chunk, repeated);
      }
      metrics.counted.inc(counted - before);
      await publisher.spare(() => since === assignment);
    } finally {
      accepting -= 1;
    }
  }

  function take(partition: Partition, record: RawRecord, chunk: Chunk, repeated: boolean): void {
    if (record.offset < partition.next && partition.open !== undefined) {
      // Delivered again within the assignment: already counted, so it is only acknowledged, together with the open bucket.
      addPart(partition.open, chunk);
      return;
    }
    const bucket = bucketFor(partition, record, collected, publisher.add);
    const { totals } = bucket;
    addPart(bucket, chunk);
    partition.next = record.offset + 1;
    totals.upToOffset = record.offset;
    if (record.timeMs > partition.newestMs) partition.newestMs = record.timeMs;
    const { mark } = record;
    const copied = mark === 'redriven' || mark === 'replayed';
    // Repeated records too, as `recall` does: the answer for a third copy must be the same.
    if (!copied) partition.ids?.addOf(record);
    if (copied || repeated) {
      metrics.notCounted.inc({ reason: mark ?? 'resent' });
      return;
    }
    totals.records += 1;
    counted += 1;
    try {
      const result = parser.parse(record, chunk);
      // What a step keeps from the index alone counts.
      if (result.ok || (result.reason === 'configured' && result.counted))
        collect(tag(result.event), record, Math.max(record.timeMs, totals.arrivalMs), totals);
      else metrics.notCounted.inc({ reason: result.reason });
    } catch (error) {
      metrics.notCounted.inc({ reason: 'processing_failed' });
      log.debug('a record could not be counted', {
        partition: partition.name,
        offset: record.offset,
        error: errorText(error),
      });
    }
  }

  /** Reads the part of the log that this process has not seen. When that fails, the record counts: better too much than too little. */
  async function recall(origin: ChunkOrigin, ids: RecentIds, eventId: string, offset: number): Promise<boolean> {
    const { from, to } = ids.missing(offset);
    // Asked for only once, even when it fails.
    ids.completed(from);
    if (deps.recall === undefined || origin.kind !== 'kafka') return false;
    try {
      await deps.recall(origin.partition, from, to, (id, at) => ids.add(id, at));
    } catch (error) {
      log.warn('records sent again could not be compared with the log; they count', { error: errorText(error) });
    }
    return ids.seenBefore(eventId, offset) ?? false;
  }

  function progress(): PartitionProgress[] {
    const said = deps.monotonic === undefined ? {} : { writer, saidMs: Math.round(deps.monotonic()) };
    if (embedded !== undefined) {
      let arrivalMs = 0;
      for (const { newestMs } of partitions.values()) arrivalMs = Math.max(arrivalMs, newestMs);
      // Lines are read as they are written: the end is what was read.
      return [
        {
          lane: EMBEDDED_PARTITION,
          lanes: 1,
          position: counted,
          end: counted,
          arrivalMs,
          caughtUp: accepting === 0,
          ...said,
        },
      ];
    }
    return (deps.positions?.() ?? []).map(({ partition: number, partitions: all, position, end, caughtUp, ageMs }) => {
      const partition = partitions.get(String(number));
      return {
        lane: String(number),
        lanes: all,
        // While a chunk is partly counted, the source is ahead of the totals.
        position: accepting > 0 && partition !== undefined && partition.next >= 0 ? partition.next : position,
        end,
        arrivalMs: partition?.newestMs ?? 0,
        caughtUp: caughtUp && accepting === 0,
        ...(ageMs === undefined ? {} : { ageMs }),
        ...said,
      };
    });
  }

  return {
    accept,
    publish: publisher.publish,
    drain: publisher.drain,
    trouble: publisher.trouble,
    assigned() {
      assignment += 1;
      partitions.clear();
      publisher.forget();
    },
  };
}

/** The clock that dates the chunk's records: a broker's, which the source watches, or that of this machine. */
function wasSetBack({ setBack, origin, records }: Chunk, partition: Partition): boolean {
  const first = records.at(0);
  if (first === undefined || first.offset < partition.next) return false;
  return setBack ?? (origin.kind !== 'kafka' && partition.newestMs - first.timeMs > SET_BACK_MS);
}

// ---- publishing: changed totals go to the sink, durable ones are acknowledged ----
// One publication at a time; one that failed is repeated.

/** An open bucket that does not change is published again after this time; totals.ts says why. */
const REFRESH_MS = 60_000;
/** At this share of the limits, publishing no longer waits for `publishMs`. */
const EARLY = 0.25;

interface PublisherOptions {
  readonly publishMs: number;
  /** The intake waits while more than this many bytes, or buckets, are closed and not yet durable. */
  readonly maxWaitingBytes: number;
  readonly maxWaitingBuckets: number;
}

interface PublisherDeps {
  readonly sink: CountsSink;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  readonly partitions: () => Iterable<Partition>;
  /** How far the partitions have been read, now. */
  readonly progress: () => readonly PartitionProgress[];
}

interface Publisher {
  /** Takes a closed bucket. */
  add(bucket: PartitionBucket): void;
  /** Backpressure: resolves when there is room, or `isCurrent` no longer holds. */
  spare(isCurrent: () => boolean): Promise<void>;
  /** Resolves when all that had changed is durable, or the attempt has failed. */
  publish(): Promise<void>;
  /** Forgets the closed buckets: their records will be read again. */
  forget(): void;
  drain(deadlineMs: number): Promise<boolean>;
  trouble(): string | undefined;
}

interface Snapshot {
  readonly bucket: PartitionBucket;
  readonly upTo: number;
  readonly closed: boolean;
  /** What can be acknowledged as soon as this is durable. */
  readonly parts: readonly Part[];
}

function createPublisher(options: PublisherOptions, deps: PublisherDeps): Publisher {
  const { sink, metrics, log, clock } = deps;
  /** Oldest first, until their records are acknowledged. */
  let closed: PartitionBucket[] = [];
  let waitingBytes = 0;
  let capacity: (() => void)[] = [];
  let stopped = false;
  let trouble: string | undefined;
  let running: Promise<void> | undefined;
  let queued: Promise<void> | undefined;
  let cancelTimer = () => {};

  function keepWaiting(buckets: PartitionBucket[]): void {
    closed = buckets;
    waitingBytes = 0;
    for (const { totals } of closed) waitingBytes += totals.bytes;
    metrics.countsWaiting.set(closed.length);
    const waiting = capacity;
    capacity = [];
    for (const resolve of waiting) resolve();
  }

  /** Acknowledges closed buckets that are durable. */
  function acknowledgeDurable(): void {
    for (const bucket of closed) if (!isDirty(bucket)) acknowledge(bucket);
    keepWaiting(closed.filter(isDirty));
  }

  function snapshot(): { messages: CountsMessage[]; snapshots: Snapshot[] } {
    const messages: CountsMessage[] = [];
    const snapshots: Snapshot[] = [];
    const add = (bucket: PartitionBucket) => {
      const { totals, replayable } = bucket;
      messages.push(totalsMessage(totals, !bucket.closed));
      const parts = replayable ? [] : bucket.parts.splice(0);
      snapshots.push({ bucket, upTo: totals.upToOffset, closed: bucket.closed, parts });
    };
    closed.forEach(add);
    for (const { open } of deps.partitions()) {
      if (open === undefined) continue;
      const { replayable, publishedTo, publishedMs } = open;
      const stale = replayable && publishedTo >= 0 && clock.monotonicMs() - publishedMs >= REFRESH_MS;
      if (isDirty(open) || stale) add(open);
      // Lines that add to no measure have nothing to wait for.
      else if (!replayable) acknowledge(open);
    }
    for (const progress of deps.progress()) messages.push({ kind: 'progress', progress });
    return { messages, snapshots };
  }

  async function publishOnce(): Promise<void> {
    acknowledgeDurable();
    const { messages, snapshots } = snapshot();
    if (messages.length === 0) return;
    const startedMs = clock.monotonicMs();
    try {
      await sink.put(messages);
    } catch (error) {
      metrics.countsPublished.inc({ result: 'failed' }, messages.length);
      if (trouble === undefined) log.error('totals could not be published; trying again', { error: errorText(error) });
      trouble = errorText(error);
      for (const { bucket, parts } of snapshots) bucket.parts.unshift(...parts);
      return;
    }
    trouble = undefined;
    metrics.countsPublished.inc({ result: 'ok' }, messages.length);
    for (const { bucket, upTo, closed: wasClosed, parts } of snapshots) {
      bucket.publishedTo = upTo;
      bucket.publishedMs = startedMs;
      bucket.final = wasClosed;
      for (const { done, count } of parts) done(count);
    }
    acknowledgeDurable();
  }

  function publish(): Promise<void> {
    if (running === undefined) {
      running = publishOnce().finally(() => {
        running = undefined;
      });
      return running;
    }
    // One more, after the one under way, serves all who ask meanwhile.
    queued ??= running.then(() => {
      queued = undefined;
      return publish();
    });
    return queued;
  }

  function schedule(): void {
    if (stopped) return;
    cancelTimer = clock.after(options.publishMs, () => void publish().finally(schedule));
  }
  schedule();

  const over = (share: number) =>
    waitingBytes > options.maxWaitingBytes * share || closed.length > options.maxWaitingBuckets * share;

  const allDurable = () => {
    for (const { open } of deps.partitions()) if (open !== undefined && isDirty(open)) return false;
    return closed.length === 0;
  };

  return {
    publish,
    trouble: () => trouble,

    add(bucket) {
      closed.push(bucket);
      waitingBytes += bucket.totals.bytes;
      metrics.countsWaiting.set(closed.length);
    },

    async spare(isCurrent) {
      if (over(EARLY)) void publish();
      while (over(1) && !stopped && isCurrent()) await new Promise<void>((resolve) => capacity.push(resolve));
    },

    forget: () => keepWaiting([]),

    async drain(deadlineMs) {
      stopped = true;
      cancelTimer();
      keepWaiting(closed);
      const published = publish().then(allDurable);
      return (await endsWithin(published, deadlineMs)) && published;
    },
  };
}

/** `totals` is parsed only for a sink that reads it. */
function totalsMessage(bucket: ArrivalBucket, open: boolean): CountsMessage {
  const { partition, arrivalMs } = bucket;
  const json = bucket.toJson();
  let totals: BucketTotals | undefined;
  return {
    kind: 'totals',
    open,
    written: { lane: partition, arrivalMs, json },
    get totals() {
      totals ??= JSON.parse(json) as BucketTotals;
      return totals;
    },
  };
}

// ---- one partition while it is read: its open bucket, and the acknowledgements that wait ----
// A bucket is closed by the first record of a later one. Its totals depend only on the partition's records; a record that is
// delivered twice within an assignment is counted once.

/** Acknowledges `count` records. Not the chunk itself: that would keep the bytes of its records in memory. */
interface Part {
  readonly done: Chunk['done'];
  count: number;
}

/** An arrival bucket, and how far it is published. */
interface PartitionBucket {
  readonly totals: ArrivalBucket;
  /** That of its partition. */
  readonly replayable: boolean;
  parts: Part[];
  /** A later bucket has begun: no more records come. */
  closed: boolean;
  /** Totals up to this offset are durable. */
  publishedTo: number;
  /** When that was, monotonic. */
  publishedMs: number;
  /** The totals of the closed bucket are durable. */
  final: boolean;
}

interface Partition {
  readonly name: string;
  /** The log can be read again (Kafka): only closed buckets are acknowledged. Else (a journal of totals) everything durable is. */
  readonly replayable: boolean;
  /** The offset after the last record seen; -1 before the first. */
  next: number;
  /** Arrival time of the newest record, ms. */
  newestMs: number;
  open: PartitionBucket | undefined;
  readonly ids: RecentIds | undefined;
}

function createPartition(name: string, replayable: boolean, ids?: RecentIds): Partition {
  return { name, replayable, next: -1, newestMs: 0, open: undefined, ids };
}

/**
 * The bucket a record belongs to: that of its time, but never an earlier one than the partition has reached. Closes the open
 * bucket when a later one begins.
 */
function bucketFor(
  partition: Partition,
  record: RawRecord,
  measures: readonly CollectedMeasure[],
  onClosed: (bucket: PartitionBucket) => void,
): PartitionBucket {
  const { open } = partition;
  if (open !== undefined && !(record.timeMs >= open.totals.arrivalMs + BUCKET_MS)) return open;
  const arrivalMs = Math.floor(record.timeMs / BUCKET_MS) * BUCKET_MS;
  if (open !== undefined) {
    open.closed = true;
    onClosed(open);
  }
  const fresh: PartitionBucket = {
    totals: new ArrivalBucket(partition.name, arrivalMs, measures),
    replayable: partition.replayable,
    parts: [],
    closed: false,
    publishedTo: -1,
    publishedMs: 0,
    final: false,
  };
  partition.open = fresh;
  return fresh;
}

/** The clock of the broker that dates the partition's records was set back: what comes now begins a bucket in the new time. */
function beginAnew(partition: Partition, onClosed: (bucket: PartitionBucket) => void): void {
  const { open } = partition;
  partition.open = undefined;
  partition.newestMs = 0;
  if (open === undefined) return;
  open.closed = true;
  onClosed(open);
}

/** One more record of `chunk` waits for the bucket. */
function addPart(bucket: PartitionBucket, chunk: Chunk): void {
  const last = bucket.parts[bucket.parts.length - 1];
  if (last !== undefined && last.done === chunk.done) last.count += 1;
  else bucket.parts.push({ done: chunk.done, count: 1 });
}

/** Does it hold anything that is not durable yet? Records that add to no measure need no totals. */
function isDirty({ totals, closed, final, publishedTo }: PartitionBucket): boolean {
  return totals.records > 0 && (closed ? !final : totals.upToOffset > publishedTo);
}

/** Acknowledges everything that waits, in one synchronous step, so that no commit falls in between. */
function acknowledge(bucket: PartitionBucket): void {
  const { parts } = bucket;
  bucket.parts = [];
  for (const { done, count } of parts) done(count);
}

// ---- the event ids a partition carried lately, to recognise records that the transport sent again ----
// The answer is: seen before, new, or unknown, because another owner read that part of the log. It depends only on the log (two
// spans of offsets are remembered, cut at fixed offsets), never on when reading began.

/** How many offsets are forgotten together. A first copy is looked for in the same span and in the one before it. */
export const SPAN = 65_536;

const FIRST_SLOTS = 1_024;
const LOW = 0x200_0000;

interface RecentIds {
  /** Reading goes on at `offset`, which need not be where it stopped. */
  resume(offset: number): void;
  add(eventId: string, offset: number): void;
  /** The id of a record, if it has a lasting one, at its offset. */
  addOf(record: RawRecord): void;
  /** Did an earlier record carry the id? `undefined`: ask again when the ids of `missing(offset)` have been added. */
  seenBefore(eventId: string, offset: number): boolean | undefined;
  /** The offsets [from, to) whose ids are still needed to answer for a record at `offset`. */
  missing(offset: number): { from: number; to: number };
  /** Everything from `offset` on has been added. */
  completed(offset: number): void;
}

export function createRecentIds(): RecentIds {
  let current = new Span(-1);
  let former = new Span(-1);
  /** Everything in [from, to) was added. */
  let from = 0;
  let to = -1;

  const spanOf = (offset: number): Span | undefined => {
    const number = Math.floor(offset / SPAN);
    if (number > current.number) {
      former = number === current.number + 1 ? current : new Span(number - 1);
      current = new Span(number);
    }
    return number === current.number ? current : number === former.number ? former : undefined;
  };
  const addKey = (key: number, offset: number) => {
    if (offset >= to) to = offset + 1;
    spanOf(offset)?.add(key, offset);
  };
  const wantedFrom = (offset: number) => Math.max(0, (Math.floor(offset / SPAN) - 1) * SPAN);

  return {
    resume(offset) {
      const goesOn = to >= 0 && offset >= from && offset <= to;
      const back = offset < from || Math.floor(offset / SPAN) < current.number;
      if (goesOn && !back) return;
      // Earlier spans may be gone already; and in a topic that was created again the old ids mean nothing.
      if (back) {
        current = new Span(-1);
        former = new Span(-1);
      }
      from = offset;
      to = offset;
    },
    add: (eventId, offset) => addKey(keyOf(eventId), offset),
    addOf(record) {
      const { bytes, idAt = -1, offset } = record;
      if (bytes !== undefined && idAt >= 0) return addKey(keyAt(bytes, idAt), offset);
      const id = lastingId(record);
      if (id !== undefined) addKey(keyOf(id), offset);
    },
    seenBefore(eventId, offset) {
      const span = spanOf(offset);
      for (const place of span === current ? [former, current] : [former]) {
        const at = place.offsetOf(eventId);
        if (at >= 0 && at < offset) return true;
      }
      return from <= wantedFrom(offset) ? false : undefined;
    },
    missing: (offset) => ({ from: wantedFrom(offset), to: from }),
    completed(offset) {
      from = Math.min(from, offset);
    },
  };
}

/** The ids of one span of offsets, in an open-addressed table of numbers: a fifth of the memory of a Map of strings. */
class Span {
  readonly number: number;
  private readonly start: number;
  private keys = new Float64Array(FIRST_SLOTS);
  private offsets = new Uint16Array(FIRST_SLOTS);
  private size = 0;

  constructor(number: number) {
    this.number = number;
    this.start = number * SPAN;
  }

  /** For an id that occurs twice, the first offset is kept. */
  add(key: number, offset: number): void {
    if (this.size * 2 >= this.keys.length) this.grow();
    this.insert(key, offset - this.start);
  }

  offsetOf(eventId: string): number {
    const key = keyOf(eventId);
    const slot = this.slotOf(key);
    return this.keys[slot] === key ? this.offsets[slot]! + this.start : -1;
  }

  private insert(key: number, offset: number): void {
    const slot = this.slotOf(key);
    if (this.keys[slot] === key) {
      if (offset < this.offsets[slot]!) this.offsets[slot] = offset;
      return;
    }
    this.keys[slot] = key;
    this.offsets[slot] = offset;
    this.size += 1;
  }

  /** Where the key is, or where it belongs. */
  private slotOf(key: number): number {
    const mask = this.keys.length - 1;
    const high = Math.floor(key / LOW);
    let slot = (Math.imul(high, 0x9e3779b1) ^ Math.imul(key - high * LOW, 0x85ebca6b)) >>> 12;
    for (slot &= mask; ; slot = (slot + 1) & mask) {
      const found = this.keys[slot];
      if (found === key || found === 0) return slot;
    }
  }

  private grow(): void {
    const { keys, offsets } = this;
    this.keys = new Float64Array(keys.length * 2);
    this.offsets = new Uint16Array(keys.length * 2);
    this.size = 0;
    for (let i = 0; i < keys.length; i++) if (keys[i] !== 0) this.insert(keys[i]!, offsets[i]!);
  }
}

/**
 * 50 bits of the id: its last ten characters, which are random and count up within a millisecond, and part of its time.
 * Two ids of a span collide once in some hundred thousand spans. Never 0.
 */
function keyOf(eventId: string): number {
  let high = 0;
  let low = 0;
  for (let i = 16; i < 21; i++) {
    high = (high << 5) | (digitOf(eventId.charCodeAt(i)) ^ digitOf(eventId.charCodeAt(i - 11)));
    low = (low << 5) | digitOf(eventId.charCodeAt(i + 5));
  }
  return high * LOW + low + 1;
}

/** The same of its bytes, where they lie. */
function keyAt(bytes: Uint8Array, at: number): number {
  let high = 0;
  let low = 0;
  for (let i = at + 16; i < at + 21; i++) {
    high = (high << 5) | (digitOf(bytes[i]!) ^ digitOf(bytes[i - 11]!));
    low = (low << 5) | digitOf(bytes[i + 5]!);
  }
  return high * LOW + low + 1;
}

function digitOf(code: number): number {
  return VALUES[code & 127]!;
}

/** Crockford's base 32, as event ids are written (core/record.ts). */
const VALUES = Uint8Array.from({ length: 128 }, (_, code) =>
  Math.max(0, '0123456789ABCDEFGHJKMNPQRSTVWXYZ'.indexOf(String.fromCharCode(code))),
);

// ---- the counter at work: its own source, the counter, and the sink its totals go to ----
// Counting never waits for Elasticsearch, because its source is read apart from the indexer's; standard input and OpenTelemetry, which cannot be read twice,
// are tapped instead.

interface CountingOptions {
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  readonly kafka: KafkaConfig;
  readonly intake: IntakeConfig;
  readonly files: FilesConfig;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly alerts: { readonly publishMs: number };
  readonly measures: Measures;
  /** Where the counter keeps its positions in files, apart from the indexer's. */
  readonly dataDir: string;
}

export interface CountingDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly masker: Masker;
  /** Embedded mode only: where totals go instead of the counts topic, and how far files were counted. */
  readonly sink?: CountsSink;
  readonly embedded?: NonNullable<CounterDeps['embedded']>;
}

export interface CountingSource {
  readonly ended: Promise<void>;
  /** Standard input and OpenTelemetry only: takes chunks to count; does not acknowledge them. */
  readonly tap: Deliver | undefined;
  status(): { readonly ready: boolean; readonly detail: string };
  /** Why nothing can be published; undefined when it can. */
  trouble(): string | undefined;
  /** False when not everything that was read could be published in time: the next owner counts it. */
  stop(timeoutMs: number): Promise<boolean>;
}

export function startCounting(options: CountingOptions, deps: CountingDeps): CountingSource {
  const { kafka, measures } = options;
  const { log, clock, metrics, masker } = deps;
  // What a step of the configuration reads is not known.
  const read = options.transforms.length === 0 ? fieldsRead(collectedOf(measures)) : undefined;
  const parsed = createParser(options.parse, { masker, duplicatesRefused: true, read });
  const parser = createTransformingParser(parsed, options.transforms, { masker });
  const shared = { ...deps, parser, tag: createTagger() };
  const publishing = { ...COUNTER_DEFAULTS, publishMs: options.alerts.publishMs };
  let source: Source | undefined;
  let counter: Counter;
  let sink: CountsSink;
  let sinkTrouble: () => string | undefined = () => undefined;

  if (options.source === 'kafka') {
    const mine = createKafkaSource({
      config: { ...kafka, group: kafka.counterGroup },
      intake: options.intake,
      splitMs: BUCKET_MS,
      deps: { kafka: createKafka(kafka, log), log, metrics, clock },
    });
    const counts = createKafkaCounts({ kafka: createKafka(kafka, log), topic: kafka.topics.counts, log });
    sink = counts;
    sinkTrouble = counts.trouble;
    const recall = createKafkaRecall(kafka, log);
    counter = createCounter(
      measures,
      { ...shared, sink, positions: mine.positions, monotonic: () => performance.now(), recall },
      publishing,
    );
    mine.events.on('joined', () => counter.assigned());
    source = mine;
  } else {
    if (deps.sink === undefined) throw new Error('without Kafka the counter needs a sink');
    sink = deps.sink;
    counter = createCounter(measures, { ...shared, sink, monotonic: () => performance.now() }, publishing);
    if (options.source === 'files') {
      source = createFileSource({ ...options.files, dataDir: options.dataDir }, { log, clock });
    }
  }
  const started = source?.start(counter.accept);

  return {
    ended: Promise.all([started, source?.ended]).then(() => {}),
    tap: source === undefined ? (chunk) => counter.accept({ ...chunk, done() {} }) : undefined,
    trouble: () => counter.trouble() ?? sinkTrouble(),
    status() {
      const trouble = counter.trouble() ?? sinkTrouble();
      if (trouble !== undefined) return { ready: false, detail: trouble };
      return source?.status() ?? { ready: true, detail: 'counting what is read' };
    },
    async stop(timeoutMs) {
      await source?.stop();
      const drained = await counter.drain(timeoutMs);
      await source?.close();
      await sink.close();
      return drained;
    },
  };
}

/**
 * The event ids that a partition carried before this process began to read it. The counter asks for them when it meets a record that was
 * sent again and may have been counted elsewhere. Moves no offsets. Records marked `redriven` or `replayed` are left out: they
 * are never counted. Rejects as `readTopic`.
 */
function createKafkaRecall(config: KafkaConfig, log: Log): Recall {
  return async (partition, from, to, onId) => {
    const started = performance.now();
    let ids = 0;
    await readTopic(
      config,
      {
        topic: config.topics.logs,
        purpose: 'recall',
        from: new Map([[partition, { from, to }]]),
        follow: false,
        onRecord(message) {
          const [record] = toRecords([message]);
          const { offset, mark } = record!;
          const id = lastingId(record!);
          if (id === undefined || mark === 'redriven' || mark === 'replayed') return true;
          onId(id, offset);
          ids += 1;
          return true;
        },
      },
      log,
    );
    log.info('looked back for records that were sent again', {
      partition,
      from,
      to,
      ids,
      ms: Math.round(performance.now() - started),
    });
  };
}
