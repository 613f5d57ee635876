// The logs in the files of the NDJSON sink, for the page where there is no Elasticsearch: the last day of them. In: a query of our own nodes
// and a stretch of time. Out: lines, charts, a document. Guarantee: no more than 64 MiB are read, the newest, and what was not is said; a
// line that is only half written is none; other work goes on meanwhile.
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../core/clock.ts';
import { systemReason } from '../../core/errors.ts';
import type { Masker } from '../../core/secrets/mask.ts';
import { INDEX_PATTERN, INDEX_PREFIX } from '../../indexing/batch.ts';
import { valueAt } from '../../parse/json.ts';
import { storedObject } from '../../replay/record-document.ts';
import { Refusal } from '../requests.ts';
import {
  barWidth,
  type Counted,
  chartsOf,
  DURATION_FIELD,
  isError,
  type LogQuery,
  type LogStore,
  lineOf,
  maskedDocument,
  type Page,
  STATUS_FIELD,
  stepSeconds,
  TEMPLATE_FIELD,
  TOP,
} from './log-store.ts';
import { type Predicate, toPredicate } from './query-line.ts';

const DAY_MS = 86_400_000;
const MAX_READ = 64 * 1024 * 1024;
const CHUNK = 256 * 1024;
const MAX_LINE = 16 * 1024 * 1024;
const NEWLINE = 10;
const QUOTE = 34;
/** As the indexer begins each document. */
const TIME_FIRST = Buffer.from('{"@timestamp":"');
const MAX_TIME = 40;
const MAX_KEYS = 10_000;
const ENDING = '.ndjson';

/** Time, file and place in it: one order for all lines, that stays. */
type Place = readonly [ms: number, day: number, offset: number];
const PLACE_LENGTH = 3;

interface Line {
  readonly place: Place;
  readonly index: string;
  readonly text: string;
}

interface Options {
  /** Folder of the sink. */
  readonly dir: string;
  /** For tests. */
  readonly maxRead?: number;
}

export function createFileStore(
  { dir, maxRead = MAX_READ }: Options,
  { clock, masker }: { readonly clock: Clock; readonly masker: Masker },
): LogStore {
  /** Calls `take` for each matching line, in no order. Resolves with what limited it. */
  async function scan(query: LogQuery, signal: AbortSignal, take: (line: Line, document: object) => void) {
    const oldest = clock.now() - DAY_MS;
    const fromMs = Math.max(query.fromMs, oldest);
    const matches = toPredicate(query.node);
    const notes = ['without Elasticsearch, the NDJSON files of the last day are searched'];
    let left = maxRead;
    for (const index of await indices(fromMs, query.toMs)) {
      const { read, unread } = await within(index, async (file) => {
        const { size } = await file.stat();
        const start = Math.max(0, size - left);
        await readLines(file, index, start, size, signal, (line) => judge(line, fromMs, query.toMs, matches, take));
        return { read: size - start, unread: start };
      });
      left -= read;
      if (unread > 0)
        notes.push(
          `${index}: the first ${inMegabytes(unread)} MB were not read, to stay below ${inMegabytes(maxRead)} MB`,
        );
    }
    return { note: notes.join('; '), isWhole: notes.length === 1 };
  }

  /** Newest first: documents are in the file of their UTC day. */
  async function indices(fromMs: number, toMs: number): Promise<string[]> {
    const [first, last] = [fromMs, toMs - 1].map((ms) => `${INDEX_PREFIX}${dayOf(ms)}`) as [string, string];
    const names = await readdir(dir).catch((error: unknown) => {
      if (systemReason(error)?.code === 'ENOENT') return [];
      throw unreadable(error);
    });
    return names
      .filter((name) => name.endsWith(ENDING))
      .map((name) => name.slice(0, -ENDING.length))
      .filter((index) => INDEX_PATTERN.test(index) && index >= first && index <= last)
      .sort()
      .reverse();
  }

  async function within<T>(index: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
    let file: FileHandle | undefined;
    try {
      file = await open(join(dir, `${index}${ENDING}`), 'r');
      return await work(file);
    } catch (error) {
      throw error instanceof Refusal ? error : unreadable(error);
    } finally {
      await file?.close();
    }
  }

  return {
    source: 'files',
    placeLength: PLACE_LENGTH,

    async search(query, { order, size, after }: Page, signal) {
      const sign = order === 'asc' ? 1 : -1;
      const first = createFirst<Line>(size + 1, (one, other) => sign * compare(one.place, other.place));
      let total = 0;
      const { note, isWhole } = await scan(query, signal, (line) => {
        total += 1;
        if (after === undefined || sign * compare(line.place, after as Place) > 0) first.add(line);
      });
      const found = first.inOrder();
      const page = found.slice(0, size);
      return {
        lines: page.map(({ text, index, place }) => lineOf(storedObject(text), index, `@${place[2]}`, masker)),
        total,
        exact: isWhole,
        next: found.length > size ? page.at(-1)!.place : undefined,
        note,
      };
    },

    async charts(query, signal) {
      const counter = createCounter(query);
      const { note } = await scan(query, signal, (line, document) => counter.take(line.place[0], document));
      return chartsOf('files', query, counter.counted(), { masker, note });
    },

    async event(index, id, signal) {
      const offset = Number(/^@(\d{1,15})$/.exec(id)?.[1] ?? Number.NaN);
      if (!INDEX_PATTERN.test(index) || Number.isNaN(offset)) return undefined;
      if (!(await indices(0, clock.now() + DAY_MS)).includes(index)) return undefined;
      return within(index, async (file) => {
        const { size } = await file.stat();
        if (offset >= size || !(await beginsLine(file, offset))) return undefined;
        let text: string | undefined;
        await readLines(file, index, offset, Math.min(size, offset + MAX_LINE), signal, (line) => {
          text ??= line.bytes.toString();
          return 'enough';
        });
        const document = text === undefined ? undefined : storedObject(text);
        return document === undefined ? undefined : maskedDocument(document, masker);
      });
    },

    async close() {},
  };
}

// ---- reading ----

interface RawLine {
  readonly index: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Whole lines from `start` on; where that is within a line, from the next one on. `take` may end it with false. */
async function readLines(
  file: FileHandle,
  index: string,
  start: number,
  end: number,
  signal: AbortSignal,
  take: (line: RawLine) => 'enough' | undefined,
): Promise<void> {
  let skipping = start > 0 && !(await beginsLine(file, start));
  const open: Buffer[] = [];
  let openBytes = 0;
  let lineStart = start;
  for (let at = start; at < end; ) {
    if (signal.aborted) throw new Refusal(503, 'nobody waits for the answer any more');
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, end - at));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) return;
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0 && to < bytesRead; to = chunk.indexOf(NEWLINE, from)) {
      const rest = chunk.subarray(from, to);
      const bytes = open.length === 0 ? rest : Buffer.concat([...open, rest]);
      open.length = 0;
      openBytes = 0;
      const line = { index, offset: lineStart, bytes };
      from = to + 1;
      lineStart = at + from;
      if (!skipping && take(line) === 'enough') return;
      skipping = false;
    }
    const tail = chunk.subarray(from, bytesRead);
    openBytes += tail.length;
    // Such a line is not of the sink's, and must not be put together in memory.
    if (openBytes > MAX_LINE) skipping = true;
    if (skipping) open.length = 0;
    else if (tail.length > 0) open.push(tail);
    at += bytesRead;
  }
}

async function beginsLine(file: FileHandle, offset: number): Promise<boolean> {
  if (offset === 0) return true;
  const before = Buffer.alloc(1);
  await file.read(before, 0, 1, offset - 1);
  return before[0] === NEWLINE;
}

function judge(
  { index, offset, bytes }: RawLine,
  fromMs: number,
  toMs: number,
  matches: Predicate,
  take: (line: Line, document: object) => void,
): undefined {
  // Most lines of a day are of another hour: they need not be parsed.
  const early = timeAtStart(bytes);
  if (early < fromMs || early >= toMs) return;
  const text = bytes.toString();
  const document = plainObject(text);
  if (document === undefined) return;
  const ms = Date.parse(String(document['@timestamp']));
  if (!(ms >= fromMs && ms < toMs) || !matches(document)) return;
  take({ place: [ms, dayNumber(index), offset], index, text }, document);
}

/** NaN when the line begins otherwise. */
function timeAtStart(bytes: Buffer): number {
  if (bytes.compare(TIME_FIRST, 0, TIME_FIRST.length, 0, Math.min(TIME_FIRST.length, bytes.length)) !== 0)
    return Number.NaN;
  const end = bytes.indexOf(QUOTE, TIME_FIRST.length);
  const isShort = end > 0 && end < TIME_FIRST.length + MAX_TIME;
  return isShort ? Date.parse(bytes.toString('latin1', TIME_FIRST.length, end)) : Number.NaN;
}

function plainObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10).replaceAll('-', '.');
}

function dayNumber(index: string): number {
  return Number(index.slice(INDEX_PREFIX.length).replaceAll('.', ''));
}

function inMegabytes(bytes: number): string {
  return String(Math.ceil(bytes / 1_000_000));
}

function unreadable(error: unknown): Refusal {
  const why = systemReason(error)?.words ?? 'they cannot be read';
  return new Refusal(503, `the NDJSON files of sinks.ndjson.dir: ${why}`);
}

// ---- the first of many ----

function compare(one: Place, other: Place): number {
  for (let i = 0; i < PLACE_LENGTH; i++) if (one[i] !== other[i]) return one[i]! - other[i]!;
  return 0;
}

/** Keeps the first `count`, whatever comes. */
function createFirst<T>(count: number, order: (one: T, other: T) => number) {
  const kept: T[] = [];
  const cut = () => {
    kept.sort(order);
    kept.length = Math.min(kept.length, count);
  };
  return {
    add(item: T): void {
      kept.push(item);
      if (kept.length >= 4 * count) cut();
    },
    inOrder(): readonly T[] {
      cut();
      return kept;
    },
  };
}

// ---- charts ----

function createCounter(query: LogQuery) {
  const stepMs = stepSeconds(query) * 1_000;
  const begin = (ms: number) => Math.floor(ms / stepMs) * stepMs;
  const totals = new Map<number, { total: number; errors: number }>();
  for (let ms = begin(query.fromMs); ms < query.toMs; ms += stepMs) totals.set(ms, { total: 0, errors: 0 });
  const templates = new Map<string, number>();
  const statuses = new Map<string, number>();
  const durations: number[] = [];

  return {
    take(ms: number, document: object): void {
      const at = totals.get(begin(ms))!;
      at.total += 1;
      if (isError(document)) {
        at.errors += 1;
        count(templates, valueAt(document, TEMPLATE_FIELD));
      }
      count(statuses, valueAt(document, STATUS_FIELD));
      const duration = valueAt(document, DURATION_FIELD);
      if (typeof duration === 'number') durations.push(Math.fround(duration));
    },
    counted(): Counted {
      const ranked = top(templates);
      const named = ranked.reduce((sum, [, times]) => sum + times, 0);
      const all = [...templates.values()].reduce((sum, times) => sum + times, 0);
      return {
        times: [...totals].map(([ms, both]) => ({ ms, ...both })),
        templates: ranked,
        otherErrors: all - named,
        statuses: top(statuses),
        ...barsOf(durations),
      };
    },
  };
}

function count(into: Map<string, number>, value: unknown): void {
  if (typeof value !== 'string' || (into.size >= MAX_KEYS && !into.has(value))) return;
  into.set(value, (into.get(value) ?? 0) + 1);
}

/** As Elasticsearch ranks them: by frequency, then by name. */
function top(counts: ReadonlyMap<string, number>): [string, number][] {
  return [...counts].sort(([a, one], [b, other]) => other - one || (a < b ? -1 : 1)).slice(0, TOP);
}

function barsOf(durations: readonly number[]): Pick<Counted, 'barMs' | 'bars'> {
  if (durations.length === 0) return { barMs: 1, bars: [] };
  const [min, max] = durations.reduce(([low, high], ms) => [Math.min(low, ms), Math.max(high, ms)] as const, [
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ] as const);
  const barMs = barWidth(min, max);
  const [first, last] = [Math.floor(min / barMs), Math.floor(max / barMs)];
  const counts = Array.from({ length: last - first + 1 }, () => 0);
  for (const ms of durations) counts[Math.floor(ms / barMs) - first]! += 1;
  return { barMs, bars: counts.map((times, i) => [(first + i) * barMs, times] as const) };
}
