// The live tail: lines of what was indexed, for whoever watches. In: batches as they were written, and filters. Out: for each filter at most
// 50 lines a second, and how much was looked at. Guarantee: nothing is done while nobody watches; whatever comes, no more than 400 documents
// and 2 MiB a second are parsed, and 8 MiB read through; errors get half of that, so that they are seen among many other lines; counts add up
// (passed >= looked >= matched >= lines); nothing is thrown at the indexer.
import type { Clock } from '../core/clock.ts';
import { oneLine } from '../core/safe-json.ts';
import type { Batch } from '../indexing/batch.ts';
import type { LogFilter, LogLine, TailLines } from './page-data.ts';

/** What is looked at of a batch, while it is being offered. */
export type Indexed = Pick<Batch, 'count' | 'document' | 'action'>;

export interface LiveTail {
  /** @param filter with what it asks for, at least nothing: then everything matches */
  watch(filter: LogFilter): TailWatch;
}

export interface TailWatch {
  /**
   * What came since the last one; undefined: nothing that is worth saying yet.
   * @param perSecond so many lines at most; default: 50
   */
  take(perSecond?: number): TailLines | undefined;
  close(): void;
}

const SECOND_MS = 1_000;
const MAX_LINES = 50;
const MAX_PARSED = 400;
/** A filter that everything matches needs no more than are shown, and some to choose from. */
const EASY_COST = 4;
const MAX_PARSED_BYTES = 2 << 20;
const MAX_SCANNED_BYTES = 8 << 20;
/** Longer ones are not looked at. */
const MAX_DOCUMENT = 256 << 10;
const MAX_MESSAGE = 500;
const MAX_FIELD = 200;
/** The tags stand at the beginning of a document. */
const HEAD_BYTES = 160;
const BACKSLASH = 0x5c;
const ERROR_TAG = Buffer.from('"error"');

interface Shown {
  readonly order: number;
  readonly line: LogLine;
}

interface Watched {
  readonly filter: LogFilter;
  /** What the bytes of a matching document hold, or an escape instead; the text folded. */
  readonly needles: readonly (Buffer | string)[];
  readonly text: string | undefined;
  passed: number;
  looked: number;
  matched: number;
  errors: Shown[];
  others: Shown[];
}

interface Candidate {
  readonly index: number;
  /** Those whose filter it may match. */
  readonly wanted: readonly Watched[];
}

/** @param attach gives the indexer what to call with each batch; undefined: nobody watches */
export function createLiveTail(
  attach: (offer: ((batch: Indexed) => void) | undefined) => void,
  { clock }: { readonly clock: Pick<Clock, 'monotonicMs'> },
): LiveTail {
  const watches = new Set<Watched>();
  const now = () => clock.monotonicMs();
  const parsed = createAllowance(MAX_PARSED, now);
  const parsedBytes = createAllowance(MAX_PARSED_BYTES, now);
  const scanned = createAllowance(MAX_SCANNED_BYTES, now);
  let order = 0;

  function offer(batch: Indexed): void {
    for (const watched of watches) watched.passed += batch.count;
    const { errors, others } = candidates(batch);
    const isEasy = [...watches].every(({ filter, needles }) => needles.length === 0 && filter.level.length === 0);
    const cost = isEasy ? EASY_COST : 1;
    const most = Math.min(Math.floor(parsed.left() / cost), errors.length + others.length);
    const [ofErrors, ofOthers] = shares(most, errors.length, others.length);
    const picked = [...spread(errors, ofErrors), ...spread(others, ofOthers)].sort((a, b) => a.index - b.index);
    for (const { index, wanted } of picked) {
      parsed.take(cost);
      look(batch, index, wanted);
    }
  }

  /** What is not one of these was read through and matches nothing, or is not looked at. */
  function candidates(batch: Indexed): { readonly errors: Candidate[]; readonly others: Candidate[] } {
    const errors: Candidate[] = [];
    const others: Candidate[] = [];
    const all = [...watches];
    const open = all.filter(({ needles }) => needles.length === 0);
    const narrow = all.filter(({ needles }) => needles.length > 0);
    for (let index = 0; index < batch.count && scanned.left() > 0; index++) {
      const document = batch.document(index);
      scanned.take(HEAD_BYTES);
      if (document.length > MAX_DOCUMENT) continue;
      const wanted = narrow.length === 0 ? open : [...open, ...mayMatch(document, narrow)];
      if (wanted.length === 0) continue;
      const isError = document.subarray(0, HEAD_BYTES).includes(ERROR_TAG);
      (isError ? errors : others).push({ index, wanted });
    }
    return { errors, others };
  }

  function mayMatch(document: Buffer, narrow: readonly Watched[]): Watched[] {
    scanned.take(document.length * narrow.length);
    let text: string | undefined;
    let hasEscapes: boolean | undefined;
    const has = (needle: Buffer | string) => {
      if (typeof needle !== 'string') return document.includes(needle);
      text ??= folded(document);
      return text.includes(needle);
    };
    return narrow.filter((watched) => {
      if (watched.needles.every(has)) return true;
      // A producer may write any character as an escape.
      hasEscapes ??= document.includes(BACKSLASH) && (document.includes('\\u') || document.includes('\\/'));
      if (!hasEscapes) watched.looked += 1;
      return hasEscapes;
    });
  }

  function look(batch: Indexed, index: number, wanted: readonly Watched[]): void {
    const bytes = batch.document(index);
    if (parsedBytes.left() < bytes.length) return;
    parsedBytes.take(bytes.length);
    const doc = documentOf(bytes);
    if (doc === undefined) return;
    let line: LogLine | undefined;
    for (const watched of wanted) {
      watched.looked += 1;
      if (!matches(watched, doc)) continue;
      watched.matched += 1;
      line ??= lineOf(doc, batch.action(index));
      const kept = line.isError ? watched.errors : watched.others;
      kept.push({ order: order++, line });
      if (kept.length > MAX_LINES) kept.shift();
    }
  }

  return {
    watch(filter) {
      const text = filter.text === null ? undefined : asciiLower(filter.text);
      const watched: Watched = {
        ...{ filter, text, needles: needlesOf(filter) },
        ...{ passed: 0, looked: 0, matched: 0, errors: [], others: [] },
      };
      watches.add(watched);
      if (watches.size === 1) attach(offer);
      /** Of the last second: when, and how many. */
      let given: { readonly atMs: number; readonly lines: number }[] = [];
      let takenMs = Number.NEGATIVE_INFINITY;
      let saidMs = Number.NEGATIVE_INFINITY;
      return {
        take(perSecond = MAX_LINES) {
          const nowMs = now();
          given = given.filter(({ atMs }) => nowMs - atMs < SECOND_MS);
          const left = perSecond - given.reduce((sum, { lines }) => sum + lines, 0);
          // Evenly over the second, so that a reader can follow.
          const most = Math.min(Math.max(0, left), Math.ceil((perSecond * (nowMs - takenMs)) / SECOND_MS));
          takenMs = nowMs;
          const { errors, others, passed, looked, matched } = watched;
          const [ofErrors, ofOthers] = shares(most, errors.length, others.length);
          const newest = [...errors.slice(errors.length - ofErrors), ...others.slice(others.length - ofOthers)];
          if (newest.length === 0 && (passed === 0 || nowMs - saidMs < SECOND_MS)) return undefined;
          Object.assign(watched, { passed: 0, looked: 0, matched: 0, errors: [], others: [] });
          saidMs = nowMs;
          if (newest.length > 0) given.push({ atMs: nowMs, lines: newest.length });
          const lines = newest.sort((a, b) => a.order - b.order).map(({ line }) => line);
          return { lines, passed, looked, matched };
        },
        close() {
          if (watches.delete(watched) && watches.size === 0) attach(undefined);
        },
      };
    },
  };
}

// ---- how much ----

/** So much a second, and half a second's worth at once. */
function createAllowance(perSecond: number, now: () => number) {
  let left = perSecond / 2;
  let atMs = now();
  return {
    /** Whole ones; below zero when more was taken than there was. */
    left(): number {
      const nowMs = now();
      left = Math.min(perSecond / 2, left + ((nowMs - atMs) * perSecond) / SECOND_MS);
      atMs = nowMs;
      return Math.floor(left);
    },
    take(count: number): void {
      left -= count;
    },
  };
}

/** Of `most`, half for errors; what one kind does not need is the other's. */
function shares(most: number, errors: number, others: number): readonly [number, number] {
  const room = Math.max(0, most);
  const ofErrors = Math.min(errors, Math.max(Math.ceil(room / 2), room - others));
  return [ofErrors, Math.min(others, room - ofErrors)];
}

/** So many of them, at even distances. */
function spread<T>(all: readonly T[], count: number): T[] {
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!);
}

// ---- what matches ----

function documentOf(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    return JSON.parse(bytes.toString()) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** Those that say most, and cost least, first. */
function needlesOf({ level, environment, service, text }: LogFilter): (Buffer | string)[] {
  // Of several levels, any may be there.
  const needles: (Buffer | string)[] = [level.length === 1 ? level[0]! : null, service, environment]
    .filter((value) => value !== null)
    .map((value) => Buffer.from(JSON.stringify(value)));
  if (text !== null) needles.push(folded(Buffer.from(JSON.stringify(text).slice(1, -1))));
  return needles;
}

/** Byte by byte: what is equal but for the case of ASCII letters is equal then. */
function folded(bytes: Buffer): string {
  return bytes.toString('latin1').toLowerCase();
}

function asciiLower(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function matches({ filter, text }: Watched, doc: Readonly<Record<string, unknown>>): boolean {
  const { level, environment, service } = filter;
  return (
    (level.length === 0 || level.includes(doc.level as string)) &&
    (environment === null || doc.environment === environment) &&
    (service === null || doc.service === service) &&
    (text === undefined || holds(doc, text))
  );
}

/** Whether a value in it holds the text, whatever the case of its ASCII letters. */
function holds(doc: unknown, text: string): boolean {
  const left: unknown[] = [doc];
  while (left.length > 0) {
    const value = left.pop();
    if (typeof value === 'object' && value !== null) {
      // No spreading: a list may be longer than a call takes arguments.
      for (const inner of Object.values(value)) left.push(inner);
    } else if (asciiLower(String(value)).includes(text)) return true;
  }
  return false;
}

function lineOf(doc: Readonly<Record<string, unknown>>, { index, id }: { index: string; id: string }): LogLine {
  const field = (value: unknown) => (typeof value === 'string' ? oneLine(value, MAX_FIELD) : null);
  const { message, tags, error } = doc;
  const text = typeof message === 'string' ? message : (error as { message?: unknown } | null | undefined)?.message;
  return {
    index,
    id,
    at: field(doc['@timestamp']) ?? '',
    level: field(doc.level),
    service: field(doc.service),
    environment: field(doc.environment),
    event: field(doc.event),
    callId: field(doc.callId),
    message: typeof text === 'string' ? oneLine(text, MAX_MESSAGE) : '',
    isError: Array.isArray(tags) && tags.includes('error'),
  };
}
