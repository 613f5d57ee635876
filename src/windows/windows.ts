// The counts in memory. In: totals per (partition, arrival bucket) as the counter publishes them, in any order and any number of times,
// and readings that do not come from the log. Out: tables from which values.ts reads windows, and sums of whole hours to be kept.
// Also how far the log was read, and so up to when a window can be judged. Guarantee: what is held equals a recount of the newest
// version of every bucket, in whatever order they came; memory is bounded.

import { isOver, SET_BACK_MS, STEP_MS } from '../core/clock.ts';
import { type CollectedMeasure, isCollected, type Measures } from '../measure/measure-config.ts';
import {
  BUCKET_MS,
  type BucketTotals,
  type CounterValue,
  LABEL_SEPARATOR,
  LATE_MS,
  OLDER_MS,
  OTHER,
  OTHER_NAME,
  type PartitionProgress,
} from '../measure/totals.ts';
import {
  ARRIVES_WITHIN_MS,
  collapsedKey,
  createHourly,
  HOUR_MS,
  type Hourly,
  type HourRecord,
  type Labels,
  type RollupDefinition,
} from './series.ts';
import {
  COARSE_MS,
  createTable,
  type HeldDistribution,
  type HeldValue,
  type Place,
  type Table,
  toHeld,
} from './tables.ts';

interface WindowStoreOptions {
  readonly measures: Measures;
  /** Measures that are summed per hour, for the caller to keep. Default: none. */
  readonly rollups?: readonly RollupDefinition[];
  /** Longest window of percentiles, ms. Default: 15 minutes. */
  readonly binsMs?: number;
  /** Series of one measure in all partitions and buckets together. Default: five times the measure's `maxSeries`. */
  readonly maxSeries?: (measure: CollectedMeasure) => number;
}

export interface WindowStore {
  apply(totals: BucketTotals): Applied;
  /** A reading that does not come from the log but from a health probe or logpipe itself. Labels the measure lacks are ignored. */
  setGauge(measure: string, labels: Labels, value: number, atMs: number): void;
  /** Undefined for a measure that is not collected. */
  table(measure: string): Table | undefined;
  readonly measures: Measures;
  /** How far back histograms reach. */
  readonly binsMs: number;
  readonly hourly: Hourly;
  /** The first arrival bucket ever applied: nothing is known before it. */
  sinceMs(): number | undefined;
  /** Since when, as far as is known, the brokers' clock has not been set: a window that begins before that is incomplete. */
  unbrokenSinceMs(): number;
  /** The brokers' clock was set forward to `toMs`. */
  setForward(toMs: number): void;
  /** Of what arrived before this, only the sums of hours are known; 0 when nothing was left out. */
  coveredFromMs(): number;
  /** Event times of what arrived late since the last call. */
  takeLate(): { readonly fromMs: number; readonly toMs: number } | undefined;
  /** Hours to be kept, each handed out once. */
  takeHours(evalMs: number): HourRecord[];
  /**
   * Takes back hours that were kept. Call it before any totals are applied. Only hours that end before `coveredFromMs`, the first
   * arrival of which totals will be applied, are used: begin reading the counts at a full hour.
   */
  putHours(records: Iterable<HourRecord>, coveredFromMs: number): void;
  /**
   * Takes over the label sets, without their counts, of the store used before the clock was set back: who reported then has not
   * vanished, and has been silent for as long as before. Call it before any totals are applied.
   * @param byMs how far the clock was set back, to `nowMs`
   */
  putSeries(former: WindowStore, byMs: number, nowMs: number): void;
  /** Series held, over all measures. */
  seriesCount(): number;
}

const BINS_MS = 15 * 60_000;
const SERIES_FACTOR = 5;
/** Longer than any slot is kept: a series number is never reused while a slot still holds counts of it. */
const FORGET_SERIES_MS = COARSE_MS + HOUR_MS;

/** What one version of a bucket added, to be subtracted when the next version comes. */
interface Entry {
  readonly table: Table;
  readonly place: Place;
  readonly value: HeldValue;
}

export function createWindowStore(options: WindowStoreOptions): WindowStore {
  const { measures, binsMs = BINS_MS, maxSeries = (measure) => measure.maxSeries * SERIES_FACTOR } = options;
  const tables = new Map<string, Table>();
  for (const measure of measures.values()) {
    if (isCollected(measure)) tables.set(measure.name, createTable(measure, { maxSeries: maxSeries(measure), binsMs }));
  }
  const hourly = createHourly((options.rollups ?? []).filter(({ measure }) => tables.has(measure)));
  const versions = createVersions<readonly Entry[]>();
  /** Label values of a series -> its key in the hourly sums. */
  const collapsed = new WeakMap<readonly string[], string>();
  let sinceMs: number | undefined;
  let coveredFrom = 0;
  let unbrokenSince = 0;
  let newestArrival = 0;
  let sweptMs = 0;
  let lateFrom = Number.POSITIVE_INFINITY;
  let lateTo = 0;

  function count({ table, place, value }: Entry, arrivalMs: number, sign: 1 | -1): void {
    const { eventMs } = place;
    // The sums of an hour that was read back already hold what arrived in time for it.
    const inHour = eventMs !== OLDER_MS && hourly.imported(eventMs) && arrivalMs < hourEnd(eventMs) + ARRIVES_WITHIN_MS;
    table.add(inHour ? { ...place, eventMs: OLDER_MS } : place, value, sign);
    if (table.kind === 'gauge' || eventMs === OLDER_MS) return;
    const name = table.measure.name;
    const definition = hourly.tracked.get(name);
    if (definition === undefined) return;
    const values = table.series.valuesOf(place.index);
    let key = collapsed.get(values);
    if (key === undefined) {
      key = collapsedKey(values, table.measure.by, definition.labels);
      collapsed.set(values, key);
    }
    const { n, sum = 0 } = value as CounterValue & Partial<HeldDistribution>;
    hourly.add(name, key, eventMs, arrivalMs, sign * n, sign * sum);
  }

  function entriesOf({ arrivalMs, buckets, format }: BucketTotals): Entry[] {
    const entries: Entry[] = [];
    for (const { eventMs, series } of buckets) {
      const late = arrivalMs - eventMs > LATE_MS;
      for (const name in series) {
        const table = tables.get(name);
        if (table === undefined) continue;
        const values = series[name]!;
        const formerOther = format === undefined ? formerOtherOf(table.measure.by) : undefined;
        for (const key in values) {
          const present = key === formerOther ? otherOf(table.measure.by) : key;
          const place = { index: table.series.indexOf(present, arrivalMs), eventMs, late };
          entries.push({ table, place, value: toHeld(table.kind, values[key]!) });
        }
      }
    }
    return entries;
  }

  /** Notes the event times of late events that the previous version did not have. */
  function noteLate(entries: readonly Entry[], before: readonly Entry[]): void {
    const counts = lateCounts(entries);
    if (counts.size === 0) return;
    const known = lateCounts(before);
    for (const [eventMs, n] of counts) {
      if (known.get(eventMs) === n) continue;
      lateFrom = Math.min(lateFrom, eventMs);
      lateTo = Math.max(lateTo, eventMs);
    }
  }

  function sweep(): void {
    sweptMs = newestArrival;
    for (const table of tables.values()) table.series.sweep(newestArrival - FORGET_SERIES_MS, table.free);
  }

  return {
    measures,
    binsMs,
    hourly,
    apply(totals) {
      const { lane: partition, arrivalMs, upToOffset } = totals;
      const known = versions.check(partition, arrivalMs, upToOffset);
      if (known !== 'new') return known;
      sinceMs = Math.min(sinceMs ?? arrivalMs, arrivalMs);
      newestArrival = Math.max(newestArrival, arrivalMs);
      const entries = entriesOf(totals);
      const before = versions.replace(partition, arrivalMs, upToOffset, entries) ?? [];
      noteLate(entries, before);
      for (const entry of before) count(entry, arrivalMs, -1);
      for (const entry of entries) count(entry, arrivalMs, 1);
      if (newestArrival - sweptMs >= HOUR_MS) sweep();
      return 'applied';
    },
    setGauge(measure, labels, value, atMs) {
      const table = tables.get(measure);
      if (table?.kind !== 'gauge' || !Number.isFinite(value)) return;
      const key = table.measure.by.map((name) => labels[name] ?? '').join(LABEL_SEPARATOR);
      const index = table.series.indexOf(key, atMs);
      table.add({ index, eventMs: atMs, late: false }, { v: value, at: atMs }, 1);
    },
    table: (measure) => tables.get(measure),
    sinceMs: () => sinceMs,
    takeLate() {
      if (lateTo === 0) return undefined;
      const range = { fromMs: lateFrom, toMs: lateTo };
      lateFrom = Number.POSITIVE_INFINITY;
      lateTo = 0;
      return range;
    },
    takeHours: (evalMs) => (sinceMs === undefined ? [] : hourly.take(sinceMs, evalMs)),
    coveredFromMs: () => Math.min(coveredFrom, sinceMs ?? coveredFrom),
    putHours(records, coveredFromMs) {
      coveredFrom = coveredFromMs;
      for (const written of records) {
        if (written.hourMs + HOUR_MS > coveredFromMs) continue;
        const record = asPresent(written, tables, hourly);
        hourly.put(record);
        putBack(record, tables);
      }
    },
    putSeries(former, byMs, nowMs) {
      unbrokenSince = nowMs;
      for (const [name, { kind, series }] of tables) {
        const before = former.table(name)?.series;
        if (kind === 'gauge' || before === undefined) continue;
        for (const index of before.indexes()) {
          series.indexOf(before.keyOf(index), Math.min(before.lastArrivalMs(index) - byMs, nowMs));
        }
      }
    },
    unbrokenSinceMs: () => unbrokenSince,
    setForward(toMs) {
      unbrokenSince = Math.max(unbrokenSince, toMs);
    },
    seriesCount: () => [...tables.values()].reduce((sum, { series }) => sum + series.size, 0),
  };
}

/** The key of OTHER as former counters wrote it. */
function formerOtherOf(by: readonly string[]): string | undefined {
  return by.length === 0 ? undefined : by.map(() => OTHER_NAME).join(LABEL_SEPARATOR);
}

function otherOf(by: readonly string[]): string {
  return by.map(() => OTHER).join(LABEL_SEPARATOR);
}

/** Converts the sums of an hour kept by an older alerter, which wrote the word `other` for labels that are not told apart. */
function asPresent(record: HourRecord, tables: ReadonlyMap<string, Table>, hourly: Hourly): HourRecord {
  const measures = Object.entries(record.measures).map(([name, keys]) => {
    const by = tables.get(name)?.measure.by;
    const toldApart = hourly.tracked.get(name)?.labels;
    if (by === undefined || toldApart === undefined) return [name, keys] as const;
    const present = Object.entries(keys).map(([key, sums]) => {
      const parts = key.split(LABEL_SEPARATOR);
      const values = parts.map((part, i) => (part === OTHER_NAME && !toldApart.includes(by[i] ?? '') ? OTHER : part));
      return [values.join(LABEL_SEPARATOR), sums] as const;
    });
    return [name, Object.fromEntries(present)] as const;
  });
  return { ...record, measures: Object.fromEntries(measures) };
}

/** Events of each late event bucket, over all counters. */
function lateCounts(entries: readonly Entry[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { place, table, value } of entries) {
    if (!place.late || place.eventMs === OLDER_MS || table.kind !== 'counter') continue;
    counts.set(place.eventMs, (counts.get(place.eventMs) ?? 0) + (value as CounterValue).n);
  }
  return counts;
}

function hourEnd(eventMs: number): number {
  return Math.floor(eventMs / HOUR_MS) * HOUR_MS + HOUR_MS;
}

/** Statistics over a day read 5 min slots; a kept hour goes into its first one. */
function putBack({ hourMs, measures }: HourRecord, tables: ReadonlyMap<string, Table>): void {
  for (const [name, keys] of Object.entries(measures)) {
    const table = tables.get(name);
    if (table === undefined || table.kind === 'gauge') continue;
    for (const [key, [n, sum]] of Object.entries(keys)) {
      const index = table.series.indexOf(key, hourMs);
      table.layers.add(hourMs, false, index, 0, n);
      if (table.kind === 'distribution') table.layers.add(hourMs, false, index, 1, sum);
    }
  }
}

// ---- which version of each bucket was counted ----
// No version is counted twice, and none after a newer one; what the previous version had added is subtracted.

/**
 * `applied`: counted. `known`: this or a later version was already counted. `too-old`: a new version of a bucket that can no longer
 * be corrected.
 */
type Applied = 'applied' | 'known' | 'too-old';

/**
 * How long it is remembered what a version added. A new version of a bucket comes only while it is the newest of its partition, or
 * when a new owner reads it again, which goes back at most one bucket: so this is generous.
 */
const CORRECTABLE_MS = 10 * 60_000;
/** How long it is remembered that a bucket was counted: longer than the counts topic is read back. */
const KNOWN_MS = 25 * 3_600_000;
/** A partition from which nothing came for this long is gone. */
const PARTITION_MS = 25 * 3_600_000;

interface Versions<T> {
  check(partition: string, arrivalMs: number, upToOffset: number): 'new' | Exclude<Applied, 'applied'>;
  /** Remembers the version; returns what the previous one had added. */
  replace(partition: string, arrivalMs: number, upToOffset: number, added: T): T | undefined;
}

interface PartitionVersions<T> {
  newestMs: number;
  readonly upTo: Map<number, number>;
  readonly added: Map<number, T>;
}

function createVersions<T>(): Versions<T> {
  const partitions = new Map<string, PartitionVersions<T>>();
  let newestMs = 0;

  function versionsOf(name: string): PartitionVersions<T> {
    let partition = partitions.get(name);
    if (partition === undefined) {
      partition = { newestMs: 0, upTo: new Map(), added: new Map() };
      partitions.set(name, partition);
      for (const [other, { newestMs: last }] of partitions) {
        if (other !== name && last < newestMs - PARTITION_MS) partitions.delete(other);
      }
    }
    return partition;
  }

  return {
    check(name, arrivalMs, upToOffset) {
      const partition = versionsOf(name);
      if (arrivalMs < partition.newestMs - KNOWN_MS) return 'too-old';
      const known = partition.upTo.get(arrivalMs);
      if (known === undefined) return 'new';
      if (upToOffset <= known) return 'known';
      return partition.added.has(arrivalMs) ? 'new' : 'too-old';
    },
    replace(name, arrivalMs, upToOffset, added) {
      const partition = versionsOf(name);
      const before = partition.added.get(arrivalMs);
      partition.upTo.set(arrivalMs, upToOffset);
      partition.added.set(arrivalMs, added);
      if (arrivalMs > partition.newestMs) {
        partition.newestMs = arrivalMs;
        newestMs = Math.max(newestMs, arrivalMs);
        prune(partition.added, arrivalMs - CORRECTABLE_MS);
        prune(partition.upTo, arrivalMs - KNOWN_MS);
      }
      return before;
    },
  };
}

/** Buckets come nearly in order, so the old ones are in front; one that is out of order goes a little later. */
function prune(map: Map<number, unknown>, beforeMs: number): void {
  for (const key of map.keys()) {
    if (key >= beforeMs) break;
    map.delete(key);
  }
}

// ---- how far the log was read, over all partitions, and so up to when a window can be judged ----
// In: progress records, each with the broker's time. Out: evaluation time, end of the last complete bucket, lag, stalled partitions.
// Guarantee: evaluation time never goes back; no host's clock moves it; a stalled partition holds it back for at most 30 s.

/** A partition that is further than this behind the furthest one is stalled: evaluation no longer waits for it. */
export const STALLED_MS = 30_000;
/** When evaluation is further than this behind the wall clock, what the log says is history. */
const BEHIND_MS = 120_000;
/** Once behind, it stays history until the lag is below this: a lag is caught up quickly, and what shows in its rest may be over. */
const HEAD_MS = 40_000;
/** Or until the lag has been below BEHIND_MS for this long: the brokers' clock and this one may differ. */
const HEAD_WAIT_MS = 60_000;
/** A bucket is complete this long after its end: totals are published every 500 ms, and producers send in batches. */
export const COMPLETE_MS = 5_000;

/** How long a counter's quickest write is remembered; other records are late by the time they took longer. */
const QUICKEST_MS = 60_000;
const MAX_WRITERS = 64;

interface PartitionStatus {
  readonly partition: string;
  /** Behind the furthest partition; for one that never reported, since the first one did. */
  readonly behindMs: number;
  /** Evaluation does not wait for it. */
  readonly stalled: boolean;
}

/** The times a rule is judged by, ms. */
export interface EvaluationTimes {
  /** Everything that arrived before it was counted. */
  readonly evalMs: number;
  /** End of the last complete bucket. */
  readonly completeMs: number;
  /** The (injected) wall clock. */
  readonly wallMs: number;
  /** A lag is being caught up. When absent, BEHIND_MS decides. */
  readonly catchingUp?: true;
}

/** While logpipe is behind, nothing that the log says begins or ends an alert. */
export function isBehind({ evalMs, wallMs, catchingUp }: EvaluationTimes): boolean {
  return catchingUp === true || wallMs - evalMs > BEHIND_MS;
}

export interface ProgressStatus {
  /** Undefined until something is known of a partition. */
  readonly times: EvaluationTimes | undefined;
  /** Wall clock less evaluation time. */
  readonly lagMs: number | undefined;
  readonly partitions: readonly PartitionStatus[];
}

export interface Progress {
  /** @param recordMs the broker's time of the progress record */
  apply(progress: PartitionProgress, recordMs: number): void;
  /** The partition has ended (a rotated file was read to its end) and no longer holds anything back. */
  forget(partition: string): void;
  status(wallMs: number): ProgressStatus;
}

const NUMBER = /^\d+$/;

/** What is known of one counter's clock: by how much, at least, the brokers' clock is ahead of it. */
interface Writer {
  /** Begin of the present stretch of QUICKEST_MS, in which `least` was the minimum; `before` is that of the stretch before. */
  startedMs: number;
  least: number;
  before: number;
  /** Times of the first record of the newest publication: what is sent again comes later. */
  saidMs: number;
  recordMs: number;
}

/** @param onSkipped hears of time that never passed: the brokers' clock was set forward, from `fromMs` to `toMs` */
export function createProgress(onSkipped: (fromMs: number, toMs: number) => void = () => {}): Progress {
  const partitions = new Map<string, number>();
  let expected = 0;
  let firstRecordMs: number | undefined;
  let evalMs: number | undefined;
  let behind = false;
  /** Since when the lag has been below BEHIND_MS again. */
  let nearSinceMs: number | undefined;

  const writers = new Map<string, Writer>();

  /**
   * When a counter reports, its last report has been written and what it has read has arrived. So the brokers' clock is ahead of
   * the counter's by at least the difference to those two times; if that is more than was known, it was set forward. Arrivals
   * count only when the difference is large, because other brokers date them.
   */
  function noteSetForward(known: Writer, now: { saidMs: number; recordMs: number; arrivalMs: number }): void {
    const least = Math.min(known.least, known.before);
    const byWritten = known.recordMs - now.saidMs - least;
    const byRead = Math.min(now.arrivalMs, now.recordMs) - now.saidMs - least;
    const byMs = Math.max(byWritten, byRead > SET_BACK_MS ? byRead : 0);
    if (byMs <= 0) return;
    known.least = Math.max(known.least, least + byMs);
    known.before = Math.max(known.before, least + byMs);
    if (byMs <= STEP_MS) return;
    // The previous record is the first of the new time, or the last of the old one.
    const fromMs = byMs === byWritten ? known.recordMs - byMs : known.recordMs;
    onSkipped(fromMs, fromMs + byMs);
  }

  /** How much longer than the counter's quickest record this one took from observation to writing. */
  function lateBy({ writer, saidMs, arrivalMs }: PartitionProgress, recordMs: number): number {
    if (writer === undefined || saidMs === undefined) return 0;
    const ahead = recordMs - saidMs;
    const known = writers.get(writer);
    if (known === undefined) {
      const [oldest] = writers.keys();
      if (writers.size >= MAX_WRITERS && oldest !== undefined) writers.delete(oldest);
      writers.set(writer, { startedMs: saidMs, least: ahead, before: ahead, saidMs, recordMs });
      return 0;
    }
    if (saidMs - known.startedMs >= QUICKEST_MS) {
      known.before = known.least;
      known.least = ahead;
      known.startedMs = saidMs;
    } else known.least = Math.min(known.least, ahead);
    if (saidMs > known.saidMs) {
      noteSetForward(known, { saidMs, recordMs, arrivalMs });
      known.saidMs = saidMs;
      known.recordMs = recordMs;
    }
    return ahead - Math.min(known.least, known.before);
  }

  /** Kafka's partitions are numbered; one beyond the topic's number of partitions belongs to a topic that is gone. */
  const counts = (partition: string) => !NUMBER.test(partition) || Number(partition) < expected;
  const numbered = () => [...partitions.keys()].some((partition) => NUMBER.test(partition));

  function partitionStatuses(furthest: number): PartitionStatus[] {
    const statuses: PartitionStatus[] = [];
    const add = (partition: string, behindMs: number) =>
      statuses.push({ partition, behindMs, stalled: behindMs > STALLED_MS });
    for (const [partition, at] of partitions) if (counts(partition)) add(partition, furthest - at);
    for (let partition = 0; numbered() && partition < expected; partition++) {
      if (!partitions.has(String(partition)))
        add(String(partition), Math.max(0, furthest - (firstRecordMs ?? furthest)));
    }
    return statuses;
  }

  function isCatchingUp(lagMs: number, wallMs: number): boolean {
    if (lagMs > BEHIND_MS) {
      behind = true;
      nearSinceMs = undefined;
      return false;
    }
    nearSinceMs ??= wallMs;
    if (lagMs <= HEAD_MS || wallMs - nearSinceMs >= HEAD_WAIT_MS) behind = false;
    return behind;
  }

  return {
    apply(progress, recordMs) {
      const { lane: partition, caughtUp, arrivalMs } = progress;
      expected = progress.lanes;
      firstRecordMs ??= recordMs;
      // A reading of one file replaces the former reading of the same file: `<identity>#<run>`.
      const [identity, run] = partition.split('#');
      if (run !== undefined) {
        for (const other of partitions.keys())
          if (other !== partition && other.startsWith(`${identity}#`)) partitions.delete(other);
      }
      const lateMs = lateBy(progress, recordMs);
      // When it was true, which is before it was written to the log.
      const trueMs = recordMs - lateMs - (progress.ageMs ?? 0);
      // An arrival far ahead belongs to the time before the brokers' clock was set back.
      const ofFormerTime = isOver(arrivalMs, recordMs);
      const readMs = caughtUp ? (ofFormerTime ? trueMs : Math.max(arrivalMs, trueMs)) : arrivalMs;
      partitions.set(partition, Math.max(partitions.get(partition) ?? 0, readMs));
    },
    forget: (partition) => void partitions.delete(partition),
    status(wallMs) {
      const known = [...partitions].filter(([partition]) => counts(partition)).map(([, at]) => at);
      const furthest = Math.max(0, ...known);
      if (furthest === 0 && evalMs === undefined) return { times: undefined, lagMs: undefined, partitions: [] };
      const missing = known.length === 0 || (numbered() && known.length < expected);
      // Of a partition that never reported, all that is known is how long it has been silent.
      const waited = known.filter((at) => furthest - at <= STALLED_MS);
      if (missing && furthest - (firstRecordMs ?? furthest) <= STALLED_MS) waited.push(furthest - STALLED_MS);
      evalMs = Math.max(evalMs ?? 0, waited.length === 0 ? 0 : Math.min(...waited));
      const catchingUp = isCatchingUp(wallMs - evalMs, wallMs);
      const completeMs = Math.floor((evalMs - COMPLETE_MS) / BUCKET_MS) * BUCKET_MS;
      return {
        times: { evalMs, completeMs, wallMs, ...(catchingUp && { catchingUp }) },
        lagMs: wallMs - evalMs,
        partitions: partitionStatuses(furthest),
      };
    },
  };
}
