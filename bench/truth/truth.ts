// When a condition was really true. In: what happened, by a correct clock. Out: intervals of time. Guarantee: independent of logpipe:
// every second the plain definition is applied to the plain events, without buckets, sketches or partitions.
import type { Occurrence } from './occurrence.ts';

/** [fromMs, toMs). `fromMs` is the last second at which it was not yet true, so that no detection looks faster than it is. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Reading {
  readonly atMs: number;
  readonly value: number;
}

const SECOND = 1_000;
/** An older reading no longer counts. */
const STALE_MS = 60_000;

export function whileTrue(span: Span, holds: (ms: number) => boolean): Interval[] {
  const intervals: Interval[] = [];
  let fromMs: number | undefined;
  for (let ms = span.fromMs; ms <= span.toMs; ms += SECOND) {
    if (holds(ms)) fromMs ??= Math.max(span.fromMs, ms - SECOND);
    else if (fromMs !== undefined) {
      intervals.push({ fromMs, toMs: ms });
      fromMs = undefined;
    }
  }
  if (fromMs !== undefined) intervals.push({ fromMs, toMs: span.toMs });
  return intervals;
}

/** The rest of each interval after it has lasted for `ms`. */
export function lasting(intervals: readonly Interval[], ms: number): Interval[] {
  return intervals
    .filter(({ fromMs, toMs }) => toMs - fromMs > ms)
    .map(({ fromMs, toMs }) => ({ fromMs: fromMs + ms, toMs }));
}

/** In order, with overlapping intervals joined, and those with gaps up to `gapMs`. */
export function joined(intervals: readonly Interval[], gapMs: number): Interval[] {
  const result: Interval[] = [];
  for (const interval of [...intervals].sort((one, other) => one.fromMs - other.fromMs)) {
    const last = result.at(-1);
    if (last !== undefined && interval.fromMs - last.toMs <= gapMs) {
      result[result.length - 1] = { fromMs: last.fromMs, toMs: Math.max(last.toMs, interval.toMs) };
    } else result.push(interval);
  }
  return result;
}

/** @param events in order of time @returns those of (afterMs, ms] */
export function between(events: readonly Occurrence[]): (afterMs: number, ms: number) => readonly Occurrence[] {
  const firstAfter = (ms: number) => {
    let [low, high] = [0, events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (events[middle]!.trueMs <= ms) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return (afterMs, ms) => events.slice(firstAfter(afterMs), firstAfter(ms));
}

/** @param events in order of time @returns those of (ms - windowMs, ms] */
export function windowOf(events: readonly Occurrence[]): (ms: number, windowMs: number) => readonly Occurrence[] {
  const within = between(events);
  return (ms, windowMs) => within(ms - windowMs, ms);
}

export function ofEvent(events: readonly Occurrence[], event: string): Occurrence[] {
  return events.filter(({ doc }) => doc.event === event);
}

const PATHS = new Map<string, readonly string[]>();

/** A field by its path; undefined when it is not there. */
export function field(doc: Occurrence['doc'], path: string): unknown {
  let keys = PATHS.get(path);
  if (keys === undefined) {
    keys = path.split('.');
    PATHS.set(path, keys);
  }
  let value: unknown = doc;
  for (const key of keys) value = (value as Record<string, unknown> | undefined)?.[key];
  return value;
}

/** Where the window of a moment begins: exactly, or at the full 10 s that logpipe promises, up to 10 s later. */
export type Cut = (ms: number, windowMs: number) => number;
export const exactly: Cut = (ms, windowMs) => ms - windowMs;
export const atTenSeconds: Cut = (ms, windowMs) => Math.floor(ms / 10_000) * 10_000 + 10_000 - windowMs - 1;

export interface Share {
  readonly windowMs: number;
  readonly minEvents: number;
  readonly part: (event: Occurrence) => boolean;
  readonly holds: (share: number) => boolean;
}

/** While `holds` is true of the share of `part` among the events of the window, if there are enough of them. */
export function shareOf(events: readonly Occurrence[], span: Span, share: Share, cut: Cut): Interval[] {
  const { windowMs, minEvents, part, holds } = share;
  const within = between(events);
  return whileTrue(span, (ms) => {
    const window = within(cut(ms, windowMs), ms);
    return window.length >= minEvents && holds(window.filter(part).length / window.length);
  });
}

/** Readings of each series. */
export function readings(
  events: readonly Occurrence[],
  read: (event: Occurrence) => number | undefined,
  seriesOf: (event: Occurrence) => string,
): Map<string, Reading[]> {
  const series = new Map<string, Reading[]>();
  for (const event of events) {
    const value = read(event);
    if (value === undefined) continue;
    const key = seriesOf(event);
    const list = series.get(key);
    if (list === undefined) series.set(key, [{ atMs: event.trueMs, value }]);
    else list.push({ atMs: event.trueMs, value });
  }
  return series;
}

/** While `holds` is true of the newest reading of any series, unless it is stale. */
export function anyNewest(
  series: Iterable<readonly Reading[]>,
  span: Span,
  holds: (value: number) => boolean,
): Interval[] {
  const newest = [...series].map((list) => {
    let next = 0;
    return (ms: number) => {
      while (next < list.length && list[next]!.atMs <= ms) next += 1;
      const reading = list[next - 1];
      return reading !== undefined && ms - reading.atMs <= STALE_MS ? reading.value : undefined;
    };
  });
  return whileTrue(span, (ms) => {
    // Calls all of them, because each remembers how far it has come.
    const values = newest.map((at) => at(ms));
    return values.some((value) => value !== undefined && holds(value));
  });
}
