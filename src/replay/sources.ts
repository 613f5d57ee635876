// The contract of everything a replay, a backtest or an export reads from; and which of the records are wanted (`--from`, `--to`,
// `--time-zone`, `--where`). In: a stretch of time. Out: records in batches, part by part, each batch with the position to go on from
// once it is accounted for. Guarantee of every source: it moves nobody's offsets and changes nothing; the same part and position give
// the same records.

import { errorText, LogpipeError } from '../core/errors.ts';
import type { Chunk, ChunkOrigin, RawRecord } from '../core/record.ts';
import { toJson } from '../core/safe-json.ts';
import { ExactNumber, hasExactNumbers, toExactNumbers, valueAt, writeJson } from '../parse/json.ts';
import type { ParsedEvent } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { TransformingParser, TransformResult } from '../transform/transform.ts';

/** The log topic, the dead letters, existing indices, NDJSON files. */
export const SOURCE_KINDS = ['kafka', 'dlq', 'index', 'file'] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

/** Where a part goes on: an offset, a byte, or the sort values of a search. Can be written as JSON. */
export type Position = number | readonly unknown[];

/** Positions by part; a part without one starts at its beginning. */
export type Positions = ReadonlyMap<string, Position>;

/** Consecutive records of one part, in its order. */
export interface StoredBatch {
  /** `topic/3` (a partition), `index/0-10` (a slice of time) or a file's path. */
  readonly part: string;
  /** As delivered, before selecting by event time: there may be more than what was asked for. */
  readonly records: readonly RawRecord[];
  /** Where record `i` came from; for a dead letter or a document, its place in the log topic. */
  readonly origin: (i: number) => ChunkOrigin;
  /** The stored document that record `i` was read from. */
  readonly document?: (i: number) => Readonly<Record<string, unknown>> | undefined;
  /** False for a record without a time, which got that of its file. Default: every record has one. */
  readonly hasTime?: (i: number) => boolean;
  /** The part goes on here when all records of this batch, and of those before, are accounted for. */
  readonly next: Position;
}

/** What a source holds, before it is read. */
export interface SourcePlan {
  readonly parts: readonly PlannedPart[];
  /** An upper bound of the records to read; unknown for files. */
  readonly records: number | undefined;
  readonly bytes: number | undefined;
  /** Sentences about what is missing: retention, an index that is closed. */
  readonly gaps: readonly string[];
}

export interface PlannedPart {
  readonly part: string;
  readonly from: Position;
  /** The first position that is not read; undefined when only reading can tell. */
  readonly to: Position | undefined;
  readonly records: number | undefined;
}

/** Resolves when the part may go on; false ends the reading. */
export type Take = (batch: StoredBatch) => Promise<boolean>;

export interface StoredSource {
  readonly kind: SourceKind;
  /** What would be read; asks the servers, reads nothing. */
  plan(): Promise<SourcePlan>;
  /**
   * Hands over batches of all parts; those of one part in order, each after the one before it was taken. Ends at the end of the
   * stretch, even when no later record exists, and early on `signal` or a `false`.
   * @param onEnd called for each part that has ended
   */
  feed(from: Positions, signal: AbortSignal, take: Take, onEnd?: (part: string) => void): Promise<void>;
  /** Complete after `feed`: sentences about what was expected and not found. */
  missing(): readonly string[];
}

/** Which records of a topic. */
export interface StretchOptions {
  /** By event time; undefined reads everything. */
  readonly range: TimeRange | undefined;
  /** How much later than its event a record may have been written, and how much earlier (clocks that are ahead). */
  readonly latenessMs: number;
  readonly aheadMs: number;
  /** The purpose in one word, for the log. */
  readonly purpose: string;
}

// ---- which records are wanted: those with an event time in the stretch for which all conditions hold ----
// Records are parsed only once: the indexer's stages get the event that was made here.

type Selection = 'outside' | 'unmatched' | { readonly record: RawRecord; readonly result: TransformResult };

interface Selector {
  select(record: RawRecord, from: Pick<Chunk, 'origin'>): Selection;
  /** A parser for the indexer that already has the results for the records announced by `expect`. */
  readonly parser: TransformingParser;
  readonly tag: (event: ParsedEvent) => TaggedEvent;
  /** Call it right before the indexer gets these records, in this order. */
  expect(results: readonly TransformResult[], records: readonly RawRecord[]): void;
}

export function createSelector(options: {
  parser: TransformingParser;
  tag: (event: ParsedEvent) => TaggedEvent;
  range: TimeRange | undefined;
  matches: Matches | undefined;
}): Selector {
  const { parser, range, matches } = options;
  let records: readonly RawRecord[] = [];
  let results: readonly TransformResult[] = [];
  let at = 0;

  const isInside = (ms: number) => range === undefined || (ms >= range.fromMs && ms < range.toMs);
  const tag = (event: ParsedEvent): TaggedEvent => ('grouping' in event ? (event as TaggedEvent) : options.tag(event));

  return {
    select(record, from) {
      const parsed = parser.parse(record, from);
      if (!parsed.ok && parsed.reason !== 'configured') {
        // It has no event time but the record's, and no fields to compare.
        if (!isInside(record.timeMs)) return 'outside';
        return matches === undefined ? { record, result: parsed } : 'unmatched';
      }
      if (!isInside(parsed.event.timeMs)) return 'outside';
      try {
        const event = tag(parsed.event);
        if (matches !== undefined && !matches(viewOf(event))) return 'unmatched';
        return { record, result: { ...parsed, event } };
      } catch (error) {
        // No record ends a replay: it is refused, and the summary says so.
        return { record, result: { ok: false, reason: 'processing_failed', detail: errorText(error) } };
      }
    },
    parser: {
      time: parser.time,
      degrade: parser.degrade,
      reparse: parser.reparse,
      parse(record, from) {
        // A record that the server refused is asked for again, and parsed again.
        if (records[at] !== record) return parser.parse(record, from);
        const result = results[at]!;
        at += 1;
        return result;
      },
    },
    tag,
    expect(nextResults, nextRecords) {
      results = nextResults;
      records = nextRecords;
      at = 0;
    },
  };
}

/** The document's fields as they appear in Elasticsearch. */
function viewOf(event: TaggedEvent): Record<string, unknown> {
  const { doc, tags, grouping } = event;
  const view: Record<string, unknown> = { ...doc, '@timestamp': new Date(event.timeMs).toISOString(), tags };
  if (grouping !== undefined) {
    view.error = typeof doc.error === 'object' && doc.error !== null ? { ...doc.error, ...grouping } : grouping;
  }
  return view;
}

/** Groups records by origin, because a chunk of the indexer has one origin. */
export function byOrigin<T>(items: readonly T[], originOf: (item: T) => ChunkOrigin): [ChunkOrigin, T[]][] {
  const groups = new Map<string | ChunkOrigin, [ChunkOrigin, T[]]>();
  let last: [ChunkOrigin, T[]] | undefined;
  for (const item of items) {
    const origin = originOf(item);
    if (last?.[0] !== origin) {
      const key = origin.kind === 'kafka' ? `${origin.topic}/${origin.partition}` : origin.identity;
      last = groups.get(key);
      if (last === undefined) {
        last = [origin, []];
        groups.set(key, last);
      }
    }
    last[1].push(item);
  }
  return [...groups.values()];
}

// ---- conditions on documents: --where ----

export type Matches = (document: Readonly<Record<string, unknown>>) => boolean;

/** Nested lists are searched down to this depth; anything deeper is compared as text. */
const MAX_LIST_DEPTH = 16;

/** All conditions as one; undefined when there are none, so that callers can skip the work. @throws LogpipeError LOGPIPE_USAGE */
export function parseWhere(texts: readonly string[] | undefined): Matches | undefined {
  if (texts === undefined || texts.length === 0) return undefined;
  const conditions = texts.map(parseCondition);
  return (document) => conditions.every((matches) => matches(document));
}

/**
 * A condition on a document: `path=value`, `path!=value` (also true when there is no such field), `path~text` (contains, ignoring
 * case). The path is dotted; one element of a list has to match.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function parseCondition(text: string): Matches {
  const at = text.search(/[=~]/u);
  const operator = text[at - 1] === '!' && text[at] === '=' ? '!=' : text[at];
  const path = text.slice(0, operator === '!=' ? at - 1 : Math.max(at, 0)).trim();
  if (at < 0 || path === '' || /[!\s]/u.test(path)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--where: ${JSON.stringify(text)} is not path=value, path!=value or path~text`,
    );
  }
  const wanted = text.slice(at + 1).trim();
  const lower = wanted.toLowerCase();
  const test = (value: unknown, json: (value: unknown) => string, depth = 0): boolean => {
    if (Array.isArray(value) && depth < MAX_LIST_DEPTH) return value.some((item) => test(item, json, depth + 1));
    if (value === undefined || value === null) return false;
    return textsOf(value, json).some((found) =>
      operator === '~' ? found.toLowerCase().includes(lower) : found === wanted,
    );
  };
  return (document) => {
    const exact = hasExactNumbers(document);
    const fields = exact ? toExactNumbers(document as Record<string, unknown>) : document;
    return test(valueAt(fields, path), exact ? writeJson : toJson) !== (operator === '!=');
  };
}

/** The texts that match a value: for a number, as it was logged, and as JavaScript writes it if that is the same number. */
function textsOf(value: unknown, json: (value: unknown) => string): string[] {
  if (value instanceof ExactNumber) {
    return Math.abs(value.value) <= Number.MAX_SAFE_INTEGER ? [value.text, String(value.value)] : [value.text];
  }
  return [typeof value === 'object' ? json(value) : String(value)];
}

// ---- a stretch of time: --from, --to, --time-zone ----

interface TimeRangeOptions {
  readonly from?: string | undefined;
  /** Default: now. */
  readonly to?: string | undefined;
  /** IANA name, for times that are written without an offset. Default: UTC. */
  readonly timeZone?: string | undefined;
}

/** [fromMs, toMs) */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const RELATIVE = /^-(\d{1,9})([smhd])$/;
const ISO = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?$/i;
const FIX =
  'write -2h, -30m, now, or ISO 8601 like 2026-01-31T08:00:00Z; without Z or an offset it is read in --time-zone';

/** @throws LogpipeError LOGPIPE_USAGE */
export function parseTimeRange(options: TimeRangeOptions, now: number): TimeRange {
  const { timeZone } = options;
  if (options.from === undefined) throw usage('--from: missing; say where the stretch begins, for example --from -2h');
  const fromMs = parseTime(options.from, { place: '--from', now, timeZone, edge: 'start' });
  const toMs = parseTime(options.to ?? 'now', { place: '--to', now, timeZone, edge: 'end' });
  if (fromMs >= toMs) {
    const found = `${new Date(fromMs).toISOString()} to ${new Date(toMs).toISOString()}`;
    throw usage(`--from, --to: found ${found}; --from has to be earlier than --to`);
  }
  return { fromMs, toMs };
}

interface ParseTimeOptions {
  /** The option's name, for messages. */
  readonly place: string;
  readonly now: number;
  readonly timeZone?: string | undefined;
  /** For a time that a clock change made happen twice: the first or the second, so that a stretch is never cut short. */
  readonly edge?: 'start' | 'end';
}

/**
 * `now`; `-90s`, `-30m`, `-2h`, `-1d` before now; a date; or a date and time, with or without an offset.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function parseTime(text: string, options: ParseTimeOptions): number {
  const { place, now, timeZone = 'UTC', edge = 'start' } = options;
  const offsetAt = zoneOffsets(timeZone);
  const wanted = text.trim();
  if (wanted === 'now') return now;
  const relative = RELATIVE.exec(wanted);
  if (relative) return Math.max(0, now - Number(relative[1]) * UNIT_MS[relative[2] as keyof typeof UNIT_MS]);
  const match = ISO.exec(wanted);
  if (!match) throw usage(`${place}: ${JSON.stringify(text)} is not a time; ${FIX}`);
  const [, date, clock = '00:00', seconds = '00', fraction = '0', offset] = match;
  // Read as UTC; impossible dates (30 February) and hours show when it is formatted again.
  const local = Date.parse(`${date}T${clock}:${seconds}.${fraction.padEnd(3, '0').slice(0, 3)}Z`);
  if (!Number.isFinite(local) || !new Date(local).toISOString().startsWith(`${date}T${clock}:${seconds}`)) {
    throw usage(`${place}: ${JSON.stringify(text)} does not exist in the calendar; ${FIX}`);
  }
  if (offset !== undefined) return local - offsetMs(offset, place, text);
  // The zone's offset depends on the moment we look for, so the offsets of the day before and after are candidates.
  const moments = [...new Set([local - UNIT_MS.d, local, local + UNIT_MS.d].map((near) => local - offsetAt(near)))]
    .filter((moment) => moment + offsetAt(moment) === local)
    .sort((a, b) => a - b);
  const found = edge === 'start' ? moments[0] : moments.at(-1);
  if (found === undefined) {
    throw usage(
      `${place}: ${JSON.stringify(text)} does not exist in ${timeZone}, the clocks were put forward; write it with an offset`,
    );
  }
  return found;
}

function offsetMs(text: string, place: string, whole: string): number {
  if (/^z$/i.test(text)) return 0;
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(text) as unknown as [string, string, string, string];
  if (Number(hours) > 18 || Number(minutes) > 59) {
    throw usage(`${place}: ${JSON.stringify(whole)} has no possible offset; ${FIX}`);
  }
  return (sign === '-' ? -1 : 1) * (Number(hours) * UNIT_MS.h + Number(minutes) * UNIT_MS.m);
}

/** How far the zone's clocks are ahead of UTC at a moment. @throws LogpipeError LOGPIPE_USAGE for an unknown zone */
export function zoneOffsets(timeZone: string): (ms: number) => number {
  if (timeZone === 'UTC') return () => 0;
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch {
    throw usage(`--time-zone: ${JSON.stringify(timeZone)} is not known; write an IANA name like Europe/Berlin or UTC`);
  }
  return (ms) => {
    const part = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    const { year, month, day, hour, minute, second } = part as Record<string, number>;
    return Date.UTC(year!, month! - 1, day!, hour!, minute!, second!) - (ms - (ms % 1_000));
  };
}

function usage(message: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', message);
}
