// Sums per hour, for comparisons over days and for statistics after a restart. In: series values of chosen measures. Out: one
// small record per hour for somebody to keep, and back in again. Guarantee: an hour is a pure function of the log: it holds
// what happened in it and arrived at most ARRIVES_WITHIN_MS after its end, so that writing it twice writes the same.
import { LABEL_SEPARATOR, OTHER } from '../measure/totals.ts';

export const HOUR_MS = 3_600_000;
/** What arrives later than this after the end of an hour is not part of it. */
export const ARRIVES_WITHIN_MS = 600_000;
/** How far back trends reach. */
export const MAX_REACH_MS = 8 * 24 * HOUR_MS;
/** Eight days and a bit: this hour against the same hour of last week. */
const KEPT_HOURS = 8 * 24 + 6;
/** Events may lie a few seconds ahead of their arrival; progress is known to the bucket. */
const GRACE_MS = 15_000;

/** A measure to be summed per hour, and the labels by which it is told apart; values of other labels become OTHER. */
export interface RollupDefinition {
  readonly measure: string;
  readonly labels: readonly string[];
}

/** Count and, of a distribution, sum. */
type HourSum = readonly [n: number, sum: number];

/** What is kept of one hour, as `rollup/<hourMs>`: measure -> label key -> sums. Hours without events are kept too. */
export interface HourRecord {
  readonly hourMs: number;
  readonly measures: Readonly<Record<string, Readonly<Record<string, HourSum>>>>;
}

export interface Hourly {
  readonly tracked: ReadonlyMap<string, RollupDefinition>;
  add(measure: string, key: string, eventMs: number, arrivalMs: number, n: number, sum: number): void;
  /** True when the sums of this hour were read back, so that what arrived within ARRIVES_WITHIN_MS of it is counted in already. */
  imported(eventMs: number): boolean;
  put(record: HourRecord): void;
  /** Finished hours whose log was seen from its beginning (`sinceMs`) and that were not handed out before. */
  take(sinceMs: number, evalMs: number): HourRecord[];
  /** Sums by label key; undefined when nothing is known of the hour. */
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
    // An hour nobody has spoken of is unknown; one that was taken or read back without this measure had no events of it.
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

/** The label key with all labels that are not told apart replaced by OTHER. */
export function collapsedKey(values: readonly string[], by: readonly string[], labels: readonly string[]): string {
  return by.map((name, i) => (labels.includes(name) ? (values[i] ?? '') : OTHER)).join(LABEL_SEPARATOR);
}
