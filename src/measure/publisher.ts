// Buckets -> messages for a CountsSink, and acknowledgements when they are durable. In: lanes with their open buckets, and
// buckets that were closed. Out: every `publishMs` what has changed, oldest first, and behind it how far each lane was read.
// Guarantee: one publication at a time; what failed is published again; all records of a closed bucket are acknowledged in
// one synchronous step.
import { type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { ArrivalBucket } from './bucket.ts';
import { acknowledge, isDirty, type Lane, type LaneBucket, type Part } from './lane.ts';
import type { BucketTotals, CountsMessage, CountsSink, LaneProgress } from './totals.ts';

/** An open bucket that does not change is published again after this time: see counts-topic.ts. */
const REFRESH_MS = 60_000;
/** From this share of the limits on, publishing does not wait for its time. */
const EARLY = 0.25;

export interface PublisherOptions {
  readonly publishMs: number;
  /** Closed buckets that are not durable: above this the intake waits. */
  readonly maxWaitingBytes: number;
  readonly maxWaitingBuckets: number;
}

export interface PublisherDeps {
  readonly sink: CountsSink;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  readonly lanes: () => Iterable<Lane>;
  /** How far the lanes are read, at the moment of asking. */
  readonly progress: () => readonly LaneProgress[];
}

export interface Publisher {
  /** The bucket is closed and waits. */
  add(bucket: LaneBucket): void;
  /** Backpressure: resolves when there is room, or `isCurrent` no longer holds. */
  spare(isCurrent: () => boolean): Promise<void>;
  /** Resolves when all that had changed is durable, or could not be made so. */
  publish(): Promise<void>;
  /** Forgets closed buckets: their records are read again. */
  forget(): void;
  drain(deadlineMs: number): Promise<boolean>;
  trouble(): string | undefined;
}

interface Snapshot {
  readonly bucket: LaneBucket;
  readonly upTo: number;
  readonly closed: boolean;
  /** What can be acknowledged as soon as this is durable. */
  readonly parts: readonly Part[];
}

export function createPublisher(options: PublisherOptions, deps: PublisherDeps): Publisher {
  const { sink, metrics, log, clock } = deps;
  /** Oldest first, until their records are acknowledged. */
  let closed: LaneBucket[] = [];
  let waitingBytes = 0;
  let capacity: (() => void)[] = [];
  let stopped = false;
  let trouble: string | undefined;
  let running: Promise<void> | undefined;
  let queued: Promise<void> | undefined;
  let cancelTimer = () => {};

  function keepWaiting(buckets: LaneBucket[]): void {
    closed = buckets;
    waitingBytes = 0;
    for (const { totals } of closed) waitingBytes += totals.bytes;
    metrics.countsWaiting.set(closed.length);
    const waiting = capacity;
    capacity = [];
    for (const resolve of waiting) resolve();
  }

  /** Acknowledges closed buckets that are durable. */
  function settle(): void {
    for (const bucket of closed) if (!isDirty(bucket)) acknowledge(bucket);
    keepWaiting(closed.filter(isDirty));
  }

  function snapshot(): { messages: CountsMessage[]; snapshots: Snapshot[] } {
    const messages: CountsMessage[] = [];
    const snapshots: Snapshot[] = [];
    const add = (bucket: LaneBucket) => {
      const { totals, replayable } = bucket;
      messages.push(totalsMessage(totals, !bucket.closed));
      const parts = replayable ? [] : bucket.parts.splice(0);
      snapshots.push({ bucket, upTo: totals.upToOffset, closed: bucket.closed, parts });
    };
    closed.forEach(add);
    for (const { open } of deps.lanes()) {
      if (open === undefined) continue;
      const { replayable, publishedTo, publishedMs } = open;
      const stale = replayable && publishedTo >= 0 && clock.monotonicMs() - publishedMs >= REFRESH_MS;
      if (isDirty(open) || stale) add(open);
      // Lines that count nowhere have nothing to wait for.
      else if (!replayable) acknowledge(open);
    }
    for (const progress of deps.progress()) messages.push({ kind: 'progress', progress });
    return { messages, snapshots };
  }

  async function publishOnce(): Promise<void> {
    settle();
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
    settle();
  }

  function publish(): Promise<void> {
    if (running === undefined) {
      running = publishOnce().finally(() => {
        running = undefined;
      });
      return running;
    }
    // One more behind the one under way serves all who ask meanwhile.
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
    for (const { open } of deps.lanes()) if (open !== undefined && isDirty(open)) return false;
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
      if (deadlineMs === Number.POSITIVE_INFINITY) return published;
      const expired = new AbortController();
      const late = sleep(deadlineMs, expired.signal).then(() => false);
      const done = await Promise.race([published, late]);
      expired.abort();
      return done;
    },
  };
}

/** The objects are made only for a sink that looks at them. */
function totalsMessage(bucket: ArrivalBucket, open: boolean): CountsMessage {
  const { lane, arrivalMs } = bucket;
  const json = bucket.toJson();
  let totals: BucketTotals | undefined;
  return {
    kind: 'totals',
    open,
    written: { lane, arrivalMs, json },
    get totals() {
      totals ??= JSON.parse(json) as BucketTotals;
      return totals;
    },
  };
}
