// The counts in memory. In: totals per (partition, arrival bucket) as the counter publishes them, in any order and any number of times,
// and readings that do not come from the log. Out: tables from which values.ts reads windows, and sums of whole hours to be kept.
// Guarantee: what is held equals a recount of the newest version of every bucket, in whatever order they came; memory is bounded.
import { type CollectedMeasure, isCollected, type Measures } from '../measure/measure-config.ts';
import {
  type BucketTotals,
  type CounterValue,
  LABEL_SEPARATOR,
  LATE_MS,
  OLDER_MS,
  OTHER,
  OTHER_NAME,
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
