// What counting must come to, twice: the sum of the messages of a counts topic, and a plain count of the log. The plain count
// has no buckets in memory, no offsets and no restarts; it shares only parser and tagger with the counter.

import { compileCondition } from '../../src/core/condition.ts';
import type { RawRecord } from '../../src/core/record.ts';
import { SPAN } from '../../src/measure/counter.ts';
import { type CollectedMeasure, collectedOf, type Measures } from '../../src/measure/measure-config.ts';
import {
  addBins,
  type Bins,
  BUCKET_MS,
  type BucketTotals,
  binOf,
  type CountsMessage,
  LABEL_SEPARATOR,
  MAX_AGE_MS,
  MAX_AHEAD_MS,
  OLDER_MS,
  OTHER,
  type SeriesValue,
} from '../../src/measure/totals.ts';
import type { Parser } from '../../src/parse/parse.ts';
import type { createTagger, TaggedEvent } from '../../src/tag/tag.ts';

/** `measure|series|event bucket` -> what was counted there. */
export type Sums = Record<string, unknown>;

export interface Account {
  records: number;
  sums: Sums;
}

interface Sum {
  n: number;
  sum: number;
  bins: Bins;
  v: number;
  at: number;
}

/** The totals a reader keeps: for each partition and arrival bucket, those with the highest `upToOffset`. */
export function keepBest(messages: Iterable<CountsMessage>): Map<string, BucketTotals> {
  const best = new Map<string, BucketTotals>();
  for (const message of messages) {
    if (message.kind !== 'totals') continue;
    const { totals } = message;
    const key = `${totals.lane}/${totals.arrivalMs}`;
    const known = best.get(key);
    if (known === undefined || totals.upToOffset > known.upToOffset) best.set(key, totals);
  }
  return best;
}

export function sumOfMessages(messages: Iterable<CountsMessage>): Account {
  const sums = new Map<string, Sum>();
  let records = 0;
  const ordered = [...keepBest(messages).values()].sort((a, b) => a.arrivalMs - b.arrivalMs);
  for (const totals of ordered) {
    records += totals.records;
    for (const { eventMs, series } of totals.buckets) {
      for (const [measure, values] of Object.entries(series)) {
        for (const [key, value] of Object.entries(values)) merge(sumAt(sums, measure, key, eventMs), value);
      }
    }
  }
  return { records, sums: written(sums) };
}

function merge(sum: Sum, value: SeriesValue): void {
  if ('at' in value) {
    if (value.at >= sum.at) Object.assign(sum, value);
    return;
  }
  sum.n += value.n;
  if (!('bins' in value)) return;
  sum.sum += value.sum;
  addBins(sum.bins, value.bins);
}

/** Counts the records of each partition, given in the order of the log. */
export function plainCount(
  measures: Measures,
  lanes: Iterable<readonly RawRecord[]>,
  deps: { parser: Parser; tag: ReturnType<typeof createTagger> },
): Account {
  const sums = new Map<string, Sum>();
  let records = 0;
  for (const lane of lanes) {
    let arrivalMs = Number.NEGATIVE_INFINITY;
    let seen = new Map<string, Set<string>>();
    const ids = new Map<string, number[]>();
    for (const record of lane) {
      const bucketMs = Math.floor(record.timeMs / BUCKET_MS) * BUCKET_MS;
      if (bucketMs > arrivalMs) {
        arrivalMs = bucketMs;
        seen = new Map();
      }
      if (record.mark === 'redriven' || record.mark === 'replayed') continue;
      const { eventId = '', offset } = record;
      const places = ids.get(eventId) ?? [];
      ids.set(eventId, [...places, offset]);
      const remembered = (Math.floor(offset / SPAN) - 1) * SPAN;
      if (record.mark === 'resent' && eventId !== '' && places.some((place) => place >= remembered)) continue;
      records += 1;
      const result = deps.parser.parse(record);
      if (!result.ok) continue;
      const event = deps.tag(result.event);
      const now = Math.max(record.timeMs, arrivalMs);
      const at = event.timeMs > now + MAX_AHEAD_MS ? now : event.timeMs;
      const eventMs = now - at > MAX_AGE_MS ? OLDER_MS : Math.floor(at / BUCKET_MS) * BUCKET_MS;
      for (const measure of collectedOf(measures)) addPlainly(measure, event, at, eventMs, seen, sums);
    }
  }
  return { records, sums: written(sums) };
}

function addPlainly(
  measure: CollectedMeasure,
  event: TaggedEvent,
  at: number,
  eventMs: number,
  seen: Map<string, Set<string>>,
  sums: Map<string, Sum>,
): void {
  const holds = Object.entries(measure.where).every(([path, wanted]) => compileCondition(wanted)(valueAt(event, path)));
  const value = measure.kind === 'counter' ? 1 : valueAt(event, measure.field);
  if (!holds || typeof value !== 'number') return;
  let key = measure.by.map((path) => labelOf(valueAt(event, path))).join(LABEL_SEPARATOR);
  const known = seen.get(measure.name) ?? new Set();
  seen.set(measure.name, known);
  if (measure.by.length > 0 && !known.has(key) && known.size >= measure.maxSeries) {
    key = measure.by.map(() => OTHER).join(LABEL_SEPARATOR);
  } else {
    known.add(key);
  }
  const sum = sumAt(sums, measure.name, key, eventMs);
  if (measure.kind === 'gauge') {
    if (at >= sum.at) Object.assign(sum, { v: value, at });
    return;
  }
  sum.n += 1;
  if (measure.kind === 'counter') return;
  sum.sum += value;
  sum.bins.set(binOf(value), (sum.bins.get(binOf(value)) ?? 0) + 1);
}

function valueAt(event: TaggedEvent, path: string): unknown {
  const doc: Record<string, unknown> = { ...event.doc, tags: event.tags };
  if (event.grouping !== undefined) doc.error = { ...(doc.error as object), ...event.grouping };
  else if (typeof doc.error === 'object') doc.error = { ...doc.error, template: undefined, fingerprint: undefined };
  return path.split('.').reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], doc);
}

function labelOf(value: unknown): string {
  return ['string', 'number', 'boolean'].includes(typeof value) ? String(value) : '';
}

function sumAt(sums: Map<string, Sum>, measure: string, series: string, eventMs: number): Sum {
  const key = `${measure}|${series}|${eventMs}`;
  let sum = sums.get(key);
  if (sum === undefined) {
    sum = { n: 0, sum: 0, bins: new Map(), v: 0, at: Number.NEGATIVE_INFINITY };
    sums.set(key, sum);
  }
  return sum;
}

/** Rounded to twelve digits, because sums of fractions depend on their order. */
function written(sums: Map<string, Sum>): Sums {
  return Object.fromEntries(
    [...sums].map(([key, { n, sum, bins, v, at }]) => [
      key,
      { n, sum: Number(sum.toPrecision(12)), bins: Object.fromEntries(bins), v, at },
    ]),
  );
}
