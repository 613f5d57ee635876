// Chunks of raw records -> totals per lane and arrival bucket -> a CountsSink -> acknowledgements. In: the log, lane by lane.
// Out: what publisher.ts makes of the buckets. Guarantee: totals are a pure function of the log; a record of Kafka is
// acknowledged when its bucket is closed and durable, so that a new owner always begins with a whole bucket. Never throws for
// any record; memory is bounded by the publisher's limits beside one open bucket per lane.
import { randomUUID } from 'node:crypto';
import { type Clock, SET_BACK_MS } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Chunk, ChunkOrigin, RawRecord } from '../core/record.ts';
import type { ParsedEvent, Parser } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import { compileCollect } from './collect.ts';
import { acknowledge, addPart, beginAnew, bucketFor, createLane, isDirty, type Lane } from './lane.ts';
import { collectedOf, type Measures } from './measure-config.ts';
import { createPublisher, type PublisherOptions } from './publisher.ts';
import { createRecentIds, type RecentIds } from './recent-ids.ts';
import type { CountsSink, LaneProgress } from './totals.ts';

/** Progress of embedded mode: one lane over all files and runs, though totals have a lane per file and run. */
export const EMBEDDED_LANE = 'embedded';
/** Files whose lanes are held at a time; a rotated one is let go when it has been silent longest. */
const MAX_EMBEDDED_LANES = 100;

/** What a Kafka source knows of a partition it reads (kafka-intake.ts). */
export interface LanePosition {
  readonly partition: number;
  /** Partitions of the topic. */
  readonly lanes: number;
  /** The next offset to read. */
  readonly position: number;
  readonly end: number;
  readonly caughtUp: boolean;
  /** How long ago the log was last looked at, ms. */
  readonly ageMs?: number;
}

/**
 * Tells the event ids of a partition's records with offsets in [from, to), as far as they still exist; not those of records
 * marked `redriven` or `replayed`.
 */
export type Recall = (
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
  readonly parser: Pick<Parser, 'parse'>;
  readonly tag: (event: ParsedEvent) => TaggedEvent;
  readonly sink: CountsSink;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  /** Kafka only: where the source stands. */
  readonly positions?: () => readonly LanePosition[];
  /** Milliseconds by a clock that never steps; without it what is written late counts as said late. */
  readonly monotonic?: () => number;
  /** Kafka only: to recognise a record that was sent again when its first copy was read by another owner. */
  readonly recall?: Recall;
  /** Embedded mode only: names this run's lanes; file identity -> last offset that a former run's durable totals hold. */
  readonly embedded?: { readonly run: string; readonly resume: ReadonlyMap<string, number> };
}

export interface Counter {
  /** The source's `Deliver`: resolves at once unless too much waits to be published. */
  accept(chunk: Chunk): Promise<void>;
  /** A new assignment began: every partition is read anew from a committed offset. Call it from the event itself. */
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
  const lanes = new Map<string, Lane>();
  /** Survives assignments: what a partition carried does not change. */
  const recentIds = new Map<string, RecentIds>();
  /** Chunks that are half counted, or wait for room. */
  let accepting = 0;
  const writer = randomUUID();
  let assignment = 0;
  let counted = 0;

  const publisher = createPublisher(options, { ...deps, lanes: () => lanes.values(), progress });

  function laneOf(origin: ChunkOrigin): Lane {
    const kafka = origin.kind === 'kafka';
    const name = kafka ? String(origin.partition) : `${origin.identity}#${embedded?.run ?? ''}`;
    const known = lanes.get(name);
    if (known !== undefined) return known;
    if (!kafka) letGo();
    const lane = kafka ? createLane(name, true, idsOf(name)) : createLane(name, false);
    lanes.set(name, lane);
    return lane;
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
    const quiet = [...lanes.values()].filter(({ open }) => open === undefined || !isDirty(open));
    if (lanes.size < MAX_EMBEDDED_LANES || quiet.length === 0) return;
    const oldest = quiet.reduce((a, b) => (b.newestMs < a.newestMs ? b : a));
    if (oldest.open !== undefined) acknowledge(oldest.open);
    lanes.delete(oldest.name);
  }

  async function accept(chunk: Chunk): Promise<void> {
    const { origin, records } = chunk;
    const lane = laneOf(origin);
    const since = assignment;
    const resumeAt = origin.kind === 'file' ? (embedded?.resume.get(origin.identity) ?? -1) : -1;
    const before = counted;
    accepting += 1;
    if (wasSetBack(chunk, lane)) beginAnew(lane, publisher.add);
    try {
      if (lane.next < 0 && records.length > 0) {
        lane.ids?.resume(records[0]!.offset);
        lane.next = records[0]!.offset;
      }
      for (const record of records) {
        if (record.offset <= resumeAt) {
          lane.next = record.offset + 1;
          chunk.done(1);
          continue;
        }
        let repeated: boolean | undefined = false;
        if (record.mark === 'resent' && record.eventId !== undefined && lane.ids !== undefined) {
          repeated = lane.ids.seenBefore(record.eventId, record.offset);
          if (repeated === undefined) {
            repeated = await recall(origin, lane.ids, record.eventId, record.offset);
            if (since !== assignment) return;
          }
        }
        take(lane, record, chunk, repeated);
      }
      metrics.counted.inc(counted - before);
      await publisher.spare(() => since === assignment);
    } finally {
      accepting -= 1;
    }
  }

  function take(lane: Lane, record: RawRecord, chunk: Chunk, repeated: boolean): void {
    if (record.offset < lane.next && lane.open !== undefined) {
      // Delivered again within the assignment: counted already, acknowledged with what is counted now.
      addPart(lane.open, chunk);
      return;
    }
    const bucket = bucketFor(lane, record, collected, publisher.add);
    const { totals } = bucket;
    addPart(bucket, chunk);
    lane.next = record.offset + 1;
    totals.upToOffset = record.offset;
    if (record.timeMs > lane.newestMs) lane.newestMs = record.timeMs;
    const { mark, eventId } = record;
    const copied = mark === 'redriven' || mark === 'replayed';
    // Also of a repeated record, as `recall` would: the answer for a third one must be the same.
    if (eventId !== undefined && !copied) lane.ids?.add(eventId, record.offset);
    if (copied || repeated) {
      metrics.notCounted.inc({ reason: mark ?? 'resent' });
      return;
    }
    totals.records += 1;
    counted += 1;
    try {
      const result = parser.parse(record);
      if (result.ok) collect(tag(result.event), eventId, Math.max(record.timeMs, totals.arrivalMs), totals);
      else metrics.notCounted.inc({ reason: result.reason });
    } catch (error) {
      metrics.notCounted.inc({ reason: 'processing_failed' });
      log.debug('a record could not be counted', { lane: lane.name, offset: record.offset, error: errorText(error) });
    }
  }

  /** Reads what this process has not seen of the log. When that fails the record counts: too much rather than too little. */
  async function recall(origin: ChunkOrigin, ids: RecentIds, eventId: string, offset: number): Promise<boolean> {
    const { from, to } = ids.missing(offset);
    // Asked for once, also when it fails.
    ids.completed(from);
    if (deps.recall === undefined || origin.kind !== 'kafka') return false;
    try {
      await deps.recall(origin.partition, from, to, (id, at) => ids.add(id, at));
    } catch (error) {
      log.warn('records sent again could not be compared with the log; they count', { error: errorText(error) });
    }
    return ids.seenBefore(eventId, offset) ?? false;
  }

  function progress(): LaneProgress[] {
    const said = deps.monotonic === undefined ? {} : { writer, saidMs: Math.round(deps.monotonic()) };
    if (embedded !== undefined) {
      let arrivalMs = 0;
      for (const { newestMs } of lanes.values()) arrivalMs = Math.max(arrivalMs, newestMs);
      // Lines are read when they are written: there is no other end than what was read.
      return [
        {
          lane: EMBEDDED_LANE,
          lanes: 1,
          position: counted,
          end: counted,
          arrivalMs,
          caughtUp: accepting === 0,
          ...said,
        },
      ];
    }
    return (deps.positions?.() ?? []).map(({ partition, lanes: all, position, end, caughtUp, ageMs }) => {
      const lane = lanes.get(String(partition));
      return {
        lane: String(partition),
        lanes: all,
        // While a chunk is half counted the source is further than its totals.
        position: accepting > 0 && lane !== undefined && lane.next >= 0 ? lane.next : position,
        end,
        arrivalMs: lane?.newestMs ?? 0,
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
      lanes.clear();
      publisher.forget();
    },
  };
}

/** The clock that dates the chunk's records: a broker's, which the source watches, or that of this machine. */
function wasSetBack({ setBack, origin, records }: Chunk, lane: Lane): boolean {
  const [first] = records;
  if (first === undefined || first.offset < lane.next) return false;
  return setBack ?? (origin.kind !== 'kafka' && lane.newestMs - first.timeMs > SET_BACK_MS);
}
