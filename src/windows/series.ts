// The series of one measure: label sets as small numbers, which of them a rule means, and their sums per hour. In: label keys as the
// counter writes them, and their values. Guarantee: at most `maxSeries` of them at a time; the rest is the one series OTHER. A number
// is given to another label set only after its own was silent for longer than anything is remembered.
import type { Condition, Where } from '../core/condition.ts';
import { LABEL_SEPARATOR, OTHER } from '../measure/totals.ts';

export type Labels = Readonly<Record<string, string>>;

/** Series with the same values of the labels asked for. */
export interface SeriesGroup {
  readonly key: string;
  readonly labels: Labels;
  readonly indexes: readonly number[];
}

export interface SeriesIndex {
  /** The number of a label set; `arrivalMs` keeps it in use. Never fails: when full it is that of OTHER. */
  indexOf(key: string, arrivalMs: number): number;
  /** Undefined when the label set is not held. */
  find(key: string): number | undefined;
  keyOf(index: number): string;
  /** Values in the order of the measure's `by`. */
  valuesOf(index: number): readonly string[];
  labelsOf(index: number): Labels;
  lastArrivalMs(index: number): number;
  /** Numbers in use, in order of appearance. */
  indexes(): Iterable<number>;
  readonly size: number;
  /** One more than the highest number ever given. */
  readonly capacity: number;
  /**
   * Series whose labels fulfil `where`, grouped by the labels `by`. Without `by` there is exactly one group. With `by`, series
   * that lack one of the labels, or are OTHER, are left out. Conditions of `also` take the place of those of the same label.
   */
  select(where: Where, by: readonly string[], also?: Where): readonly SeriesGroup[];
  /** Drops the series for which nothing has arrived since `beforeMs`; `freed` clears what belongs to their numbers. */
  sweep(beforeMs: number, freed: (index: number) => void): void;
}

/** Rules ask for a fixed set of selections; those of other callers must not pile up. */
const MAX_SELECTIONS = 500;
const NOTHING_ELSE: Where = {};

export function createSeriesIndex(by: readonly string[], maxSeries: number): SeriesIndex {
  const numbers = new Map<string, number>();
  const keys: string[] = [];
  const values: (readonly string[])[] = [];
  const lastArrival: number[] = [];
  const free: number[] = [];
  const selections = new Map<string, readonly SeriesGroup[]>();
  /** The same by what was asked with: rules and measures ask with the same objects each time, and are not read anew. */
  let asked = new WeakMap<Where, WeakMap<readonly string[], WeakMap<Where, readonly SeriesGroup[]>>>();
  const otherKey = by.map(() => OTHER).join(LABEL_SEPARATOR);

  function give(key: string, arrivalMs: number): number {
    const index = free.pop() ?? keys.length;
    numbers.set(key, index);
    keys[index] = key;
    values[index] = by.length === 0 ? [] : key.split(LABEL_SEPARATOR);
    lastArrival[index] = arrivalMs;
    forget();
    return index;
  }

  function labelsOf(index: number, names: readonly string[] = by): Labels {
    return Object.fromEntries(names.map((name) => [name, values[index]![by.indexOf(name)] ?? '']));
  }

  function computeGroups(where: Where, names: readonly string[]): readonly SeriesGroup[] {
    const matches = labelTest(where, by);
    const places = names.map((name) => by.indexOf(name));
    const groups = new Map<string, { key: string; labels: Labels; indexes: number[] }>();
    if (names.length === 0) groups.set('', { key: '', labels: {}, indexes: [] });
    for (const index of numbers.values()) {
      const own = values[index]!;
      if (!matches(own)) continue;
      const parts = places.map((place) => own[place] ?? '');
      if (parts.some((part) => part === '' || part === OTHER)) continue;
      const key = parts.join(LABEL_SEPARATOR);
      let group = groups.get(key);
      if (group === undefined) {
        group = { key, labels: labelsOf(index, names), indexes: [] };
        groups.set(key, group);
      }
      group.indexes.push(index);
    }
    return [...groups.values()];
  }

  function selection(where: Where, names: readonly string[]): readonly SeriesGroup[] {
    const id = JSON.stringify([where, names]);
    let groups = selections.get(id);
    if (groups === undefined) {
      groups = computeGroups(where, names);
      if (selections.size >= MAX_SELECTIONS) forget();
      selections.set(id, groups);
    }
    return groups;
  }

  function forget(): void {
    selections.clear();
    asked = new WeakMap();
  }

  return {
    indexOf(key, arrivalMs) {
      let index = numbers.get(key);
      // OTHER has a place of its own, so that there is always room for it.
      const places = numbers.has(otherKey) ? maxSeries + 1 : maxSeries;
      if (index === undefined && numbers.size >= places && key !== otherKey) {
        return this.indexOf(otherKey, arrivalMs);
      }
      index ??= give(key, arrivalMs);
      if (arrivalMs > lastArrival[index]!) lastArrival[index] = arrivalMs;
      return index;
    },
    find: (key) => numbers.get(key),
    keyOf: (index) => keys[index]!,
    valuesOf: (index) => values[index]!,
    labelsOf: (index) => labelsOf(index),
    lastArrivalMs: (index) => lastArrival[index]!,
    indexes: () => numbers.values(),
    get size() {
      return numbers.size;
    },
    get capacity() {
      return keys.length;
    },
    select(where, names, also = NOTHING_ELSE) {
      const byNames = asked.get(where) ?? new WeakMap();
      const byMore = byNames.get(names) ?? new WeakMap();
      let found = byMore.get(also);
      if (found === undefined) {
        found = selection({ ...where, ...also }, names);
        asked.set(where, byNames.set(names, byMore.set(also, found)));
      }
      return found;
    },
    sweep(beforeMs, freed) {
      for (const [key, index] of numbers) {
        if (lastArrival[index]! >= beforeMs) continue;
        numbers.delete(key);
        free.push(index);
        freed(index);
        forget();
      }
    },
  };
}

/** Whether label values (in the order of `by`) fulfil all conditions. A label the measure does not have is missing. */
export function labelTest(where: Where, by: readonly string[]): (values: readonly string[]) => boolean {
  const tests = Object.entries(where).map(([label, condition]) => [by.indexOf(label), valueTest(condition)] as const);
  return (values) => tests.every(([place, test]) => test(values[place] ?? ''));
}

function valueTest(condition: Condition): (value: string) => boolean {
  if (Array.isArray(condition)) {
    const any = new Set(condition.map(String));
    return (value) => any.has(value);
  }
  if (typeof condition !== 'object') return (value) => value === String(condition);
  const { gt, gte, lt, lte, exists, not } = condition as Exclude<
    Condition,
    string | number | boolean | readonly unknown[]
  >;
  const none = not === undefined ? undefined : new Set((Array.isArray(not) ? not : [not]).map(String));
  const compares = gt !== undefined || gte !== undefined || lt !== undefined || lte !== undefined;
  return (value) => {
    if (exists !== undefined && exists !== (value !== '')) return false;
    if (none?.has(value)) return false;
    if (!compares) return true;
    const number = value === '' ? Number.NaN : Number(value);
    return (
      !Number.isNaN(number) &&
      (gt === undefined || number > gt) &&
      (gte === undefined || number >= gte) &&
      (lt === undefined || number < lt) &&
      (lte === undefined || number <= lte)
    );
  };
}

// ---- sums per hour, for comparisons over days and for statistics after a restart ----
// The caller keeps one small record per hour and hands it back after a restart. An hour is a pure function of the log: what
// happened in it and arrived at most ARRIVES_WITHIN_MS after its end. Writing it twice therefore writes the same.

export const HOUR_MS = 3_600_000;
/** What arrives later than this after the end of an hour is not part of its sums. */
export const ARRIVES_WITHIN_MS = 600_000;
/** How far back trends reach. */
export const MAX_REACH_MS = 8 * 24 * HOUR_MS;
/** Eight days and a bit: this hour against the same hour of last week. */
const KEPT_HOURS = 8 * 24 + 6;
/** Events may be a few seconds ahead of their arrival, and progress is only known to the bucket. */
const GRACE_MS = 15_000;

/** A measure to be summed per hour, by these labels; values of its other labels become OTHER. */
export interface RollupDefinition {
  readonly measure: string;
  readonly labels: readonly string[];
}

/** The count and, for a distribution, the sum. */
type HourSum = readonly [n: number, sum: number];

/** One hour as it is kept, under `rollup/<hourMs>`: measure -> label key -> sums. Hours without events are kept too. */
export interface HourRecord {
  readonly hourMs: number;
  readonly measures: Readonly<Record<string, Readonly<Record<string, HourSum>>>>;
}

export interface Hourly {
  readonly tracked: ReadonlyMap<string, RollupDefinition>;
  add(measure: string, key: string, eventMs: number, arrivalMs: number, n: number, sum: number): void;
  /** True when the sums of this hour were read back: what arrived within ARRIVES_WITHIN_MS of it is already counted. */
  imported(eventMs: number): boolean;
  put(record: HourRecord): void;
  /** Finished hours that were seen from their beginning (they start at `sinceMs` or later) and were not handed out before. */
  take(sinceMs: number, evalMs: number): HourRecord[];
  /** Sums by label key; undefined when nothing is known about the hour. */
  hour(measure: string, hourMs: number): ReadonlyMap<string, HourSum> | undefined;
  /** Start of the hour after the last one that is finished at `evalMs`. */
  finishedEndMs(evalMs: number): number;
}

interface Hour {
  imported: boolean;
  taken: boolean;
  readonly measures: Map<string, Map<string, HourSum>>;
}

export function createHourly(definitions: readonly RollupDefinition[]): Hourly {
  const tracked = new Map(definitions.map((definition) => [definition.measure, definition] as const));
  const hours = new Map<number, Hour>();
  let newest = 0;

  function hourAt(hourMs: number): Hour {
    let hour = hours.get(hourMs);
    if (hour === undefined) {
      hour = { imported: false, taken: false, measures: new Map() };
      hours.set(hourMs, hour);
      newest = Math.max(newest, hourMs);
      for (const old of hours.keys()) if (old <= newest - KEPT_HOURS * HOUR_MS) hours.delete(old);
    }
    return hour;
  }

  return {
    tracked,
    add(measure, key, eventMs, arrivalMs, n, sum) {
      const hourMs = startOf(eventMs);
      if (arrivalMs >= hourMs + HOUR_MS + ARRIVES_WITHIN_MS || hourMs <= newest - KEPT_HOURS * HOUR_MS) return;
      const hour = hourAt(hourMs);
      if (hour.imported) return;
      let keys = hour.measures.get(measure);
      if (keys === undefined) {
        keys = new Map();
        hour.measures.set(measure, keys);
      }
      const [oldN, oldSum] = keys.get(key) ?? [0, 0];
      keys.set(key, [oldN + n, oldSum + sum]);
    },
    imported: (eventMs) => hours.get(startOf(eventMs))?.imported === true,
    put({ hourMs, measures }) {
      if (hourMs <= newest - KEPT_HOURS * HOUR_MS) return;
      const hour = hourAt(hourMs);
      hour.imported = true;
      hour.taken = true;
      hour.measures.clear();
      for (const [measure, keys] of Object.entries(measures)) {
        if (tracked.has(measure)) hour.measures.set(measure, new Map(Object.entries(keys)));
      }
    },
    take(sinceMs, evalMs) {
      const result: HourRecord[] = [];
      const end = this.finishedEndMs(evalMs);
      const first = Math.max(Math.ceil(sinceMs / HOUR_MS) * HOUR_MS, end - 24 * HOUR_MS);
      for (let hourMs = first; hourMs < end; hourMs += HOUR_MS) {
        const hour = hourAt(hourMs);
        if (hour.taken) continue;
        hour.taken = true;
        result.push({
          hourMs,
          measures: Object.fromEntries([...hour.measures].map(([name, keys]) => [name, Object.fromEntries(keys)])),
        });
      }
      return result;
    },
    // An hour that was never seen is unknown; one that was taken or read back without this measure had no events of it.
    hour(measure, hourMs) {
      const hour = hours.get(hourMs);
      if (hour === undefined || !tracked.has(measure)) return undefined;
      return hour.measures.get(measure) ?? NO_SUMS;
    },
    finishedEndMs: (evalMs) => startOf(evalMs - ARRIVES_WITHIN_MS - GRACE_MS),
  };
}

const NO_SUMS: ReadonlyMap<string, HourSum> = new Map();

function startOf(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS;
}

/** The label key with every label that is not in `labels` replaced by OTHER. */
export function collapsedKey(values: readonly string[], by: readonly string[], labels: readonly string[]): string {
  return by.map((name, i) => (labels.includes(name) ? (values[i] ?? '') : OTHER)).join(LABEL_SEPARATOR);
}
