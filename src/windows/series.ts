// Label sets of one measure <-> small numbers, and which of them a rule means. In: label keys as the counter writes them.
// Guarantee: at most `maxSeries` of them at a time; the rest is the one series OTHER. A number is given to another label set
// only after its own was silent for longer than anything is remembered.
import type { Condition, Where } from '../measure/measure-config.ts';
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
   * that lack a value or are OTHER belong to nobody and are left out.
   */
  select(where: Where, by: readonly string[]): readonly SeriesGroup[];
  /** Lets go of series that nothing arrived for since `beforeMs`; `freed` clears what belongs to their numbers. */
  sweep(beforeMs: number, freed: (index: number) => void): void;
}

/** Rules ask for a fixed set of selections; somebody else's questions must not pile up. */
const MAX_SELECTIONS = 500;

export function createSeriesIndex(by: readonly string[], maxSeries: number): SeriesIndex {
  const numbers = new Map<string, number>();
  const keys: string[] = [];
  const values: (readonly string[])[] = [];
  const lastArrival: number[] = [];
  const free: number[] = [];
  const selections = new Map<string, readonly SeriesGroup[]>();
  const otherKey = by.map(() => OTHER).join(LABEL_SEPARATOR);

  function give(key: string, arrivalMs: number): number {
    const index = free.pop() ?? keys.length;
    numbers.set(key, index);
    keys[index] = key;
    values[index] = by.length === 0 ? [] : key.split(LABEL_SEPARATOR);
    lastArrival[index] = arrivalMs;
    selections.clear();
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

  return {
    indexOf(key, arrivalMs) {
      let index = numbers.get(key);
      // OTHER has a place of its own, so that it can always be given.
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
    select(where, names) {
      const id = JSON.stringify([where, names]);
      let groups = selections.get(id);
      if (groups === undefined) {
        groups = computeGroups(where, names);
        if (selections.size >= MAX_SELECTIONS) selections.clear();
        selections.set(id, groups);
      }
      return groups;
    },
    sweep(beforeMs, freed) {
      for (const [key, index] of numbers) {
        if (lastArrival[index]! >= beforeMs) continue;
        numbers.delete(key);
        free.push(index);
        freed(index);
        selections.clear();
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
