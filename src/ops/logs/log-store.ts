// What the page searches the logs in: the contract that Elasticsearch (search-index.ts) and the NDJSON files (search-files.ts) share, and
// what both make of what they found: lines, and the four charts of the Kibana objects. Guarantee: everything shown is masked, and short;
// each part of a chart has the query line that finds its logs.
import { oneLine } from '../../core/safe-json.ts';
import { MASK, type Masker } from '../../core/secrets/mask.ts';
import { isObject, valueAt } from '../../parse/json.ts';
import type { Bucket, Charts, LogLine, SearchAnswer } from '../page-data.ts';
import { Refusal } from '../requests.ts';
import { MAX_CHARACTERS, type QueryNode, quoted } from './query-line.ts';

/** Which of the logs. */
export interface LogQuery {
  readonly fromMs: number;
  /** Not included. */
  readonly toMs: number;
  /** The query line and the filters, as one. */
  readonly node: QueryNode;
}

export type Order = 'asc' | 'desc';

export interface Page {
  readonly order: Order;
  readonly size: number;
  /** Place of the last line that was shown, as the store has it; undefined: from the beginning. */
  readonly after: readonly number[] | undefined;
}

/** Each of them throws a Refusal that says why it cannot be answered. */
export interface LogStore {
  readonly source: SearchAnswer['source'];
  /** How many numbers a place has. */
  readonly placeLength: number;
  search(query: LogQuery, page: Page, signal: AbortSignal): Promise<FoundLines>;
  charts(query: LogQuery, signal: AbortSignal): Promise<Charts>;
  /** A document, masked, its numbers as they were logged (readExact); undefined when there is none. */
  event(index: string, id: string, signal: AbortSignal): Promise<unknown>;
  close(): Promise<void>;
}

export type FoundLines = Omit<SearchAnswer, 'source' | 'after'> & {
  /** Undefined when nothing follows. */
  readonly next: readonly number[] | undefined;
};

// ---- lines ----

/** All that a line needs of a document. */
export const LINE_FIELDS = [
  '@timestamp',
  'level',
  'service',
  'environment',
  'event',
  'callId',
  'message',
  'error.message',
  'tags',
] as const;

const MAX_MESSAGE = 500;
const MAX_NAME = 200;

/** @param document as it is indexed, or LINE_FIELDS of it */
export function lineOf(document: unknown, index: string, id: string, masker: Masker): LogLine {
  const masked = maskedDocument(document, masker);
  const text = (path: string, width: number): string | null => {
    const value = valueAt(masked, path);
    const first = Array.isArray(value) ? value[0] : value;
    return first === undefined || first === null || typeof first === 'object' ? null : oneLine(String(first), width);
  };
  return {
    index,
    id,
    at: text('@timestamp', 40) ?? '',
    level: text('level', MAX_NAME),
    service: text('service', MAX_NAME),
    environment: text('environment', MAX_NAME),
    event: text('event', MAX_NAME),
    callId: text('callId', MAX_NAME),
    message: text('message', MAX_MESSAGE) ?? text('error.message', MAX_MESSAGE) ?? '',
    isError: isError(document),
  };
}

/** A document that cannot be masked is not shown. */
export function maskedDocument(document: unknown, masker: Masker): Readonly<Record<string, unknown>> {
  try {
    const masked = masker.value(document);
    if (isObject(masked)) return masked;
  } catch {}
  return { message: MASK };
}

export function isError(document: unknown): boolean {
  const tags = valueAt(document, 'tags');
  return Array.isArray(tags) ? tags.includes('error') : tags === 'error';
}

// ---- charts ----

/** What was counted for them. */
export interface Counted {
  /** Beginning of each stretch of time, in order. */
  readonly times: readonly { readonly ms: number; readonly total: number; readonly errors: number }[];
  /** Of errors, the most frequent first. */
  readonly templates: readonly (readonly [template: string, count: number])[];
  /** Errors of other templates. */
  readonly otherErrors: number;
  readonly statuses: readonly (readonly [status: string, count: number])[];
  /** Width of a bar, in ms, and the beginning of each. */
  readonly barMs: number;
  readonly bars: readonly (readonly [fromMs: number, count: number])[];
}

/** As in the Kibana objects. */
export const TOP = 10;
export const ERRORS = 'tags: "error"';
export const TEMPLATE_FIELD = 'error.template';
export const STATUS_FIELD = 'call.status';
export const DURATION_FIELD = 'http.durationMs';

export function chartsOf(
  source: Charts['source'],
  query: LogQuery,
  counted: Counted,
  { masker, note }: { readonly masker: Masker; readonly note: string | null },
): Charts {
  const { templates, otherErrors, statuses, barMs } = counted;
  const named = (field: string, [value, count]: readonly [string, number], also = ''): Bucket => ({
    label: oneLine(maskedLabel(value, masker), MAX_NAME),
    count,
    query: lineFor(field, value, also, masker),
  });
  const top = templates.map((one) => named(TEMPLATE_FIELD, one, `${ERRORS} and `));
  if (otherErrors > 0)
    top.push({ label: 'all other messages', count: otherErrors, query: othersLine(templates, masker) });
  return {
    source,
    from: new Date(query.fromMs).toISOString(),
    step: stepSeconds(query),
    errorRate: counted.times.map(({ ms, total, errors }) => ({
      at: new Date(ms).toISOString(),
      rate: total === 0 ? null : errors / total,
      total,
      errors,
    })),
    topErrors: top,
    callStatus: statuses.map((one) => named(STATUS_FIELD, one)),
    responseTimes: counted.bars.map(([fromMs, count]) => {
      const [from, to] = [fromMs, fromMs + barMs].map(plainNumber) as [string, string];
      return {
        label: `${from} to ${to} ms`,
        count,
        query: `${DURATION_FIELD} >= ${from} and ${DURATION_FIELD} < ${to}`,
        fromMs: Number(from),
      };
    }),
    note,
  };
}

function maskedLabel(text: string, masker: Masker): string {
  try {
    return masker.text(text);
  } catch {
    return MASK;
  }
}

/** A value that is masked finds nothing, and the value itself must not be shown: then all that have one. */
function lineFor(field: string, value: string, also: string, masker: Masker): string {
  return maskedLabel(value, masker) === value ? `${also}${field}: ${quoted(value)}` : `${also}${field}: *`;
}

/** All errors, if the line would be too long. */
function othersLine(templates: Counted['templates'], masker: Masker): string {
  const shown = templates.filter(([template]) => maskedLabel(template, masker) === template);
  const top = shown.map(([template]) => quoted(template)).join(' or ');
  const line = `${ERRORS} and ${TEMPLATE_FIELD}: * and not ${TEMPLATE_FIELD}: (${top})`;
  return shown.length === templates.length && line.length <= MAX_CHARACTERS ? line : ERRORS;
}

/** As a query line reads it. */
function plainNumber(value: number): string {
  const most = Number.MAX_SAFE_INTEGER;
  return String(Number(Math.min(Math.max(value, -most), most).toFixed(3)));
}

const STEPS = [
  ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200],
  ...[10_800, 21_600, 43_200, 86_400],
];
const MAX_STEPS = 90;

/** Between two points in time, so that there are 90 at most. */
export function stepSeconds({ fromMs, toMs }: Pick<LogQuery, 'fromMs' | 'toMs'>): number {
  return STEPS.find((step) => (toMs - fromMs) / 1_000 / step <= MAX_STEPS) ?? STEPS.at(-1)!;
}

const BARS = 40;
const MIN_BAR_MS = 0.001;

/** The width of a bar: 1, 2 or 5 times a power of ten, so that there are some 40 at most. */
export function barWidth(minMs: number, maxMs: number): number {
  const wanted = Math.max((maxMs - minMs) / BARS, Math.abs(maxMs) / 1_000, MIN_BAR_MS);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const width = [1, 2, 5].map((times) => times * power).find((one) => one >= wanted) ?? 10 * power;
  return Number(width.toPrecision(1));
}

// ---- places to go on from ----

/** For the next page: a place, with the stretch it belongs to, so that "the last hour" does not move while it is read. */
export interface Cursor {
  readonly fromMs: number;
  readonly toMs: number;
  readonly order: Order;
  readonly place: readonly number[];
}

const MAX_CURSOR = 300;
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z');

export function writeCursor(source: LogStore['source'], { fromMs, toMs, order, place }: Cursor): string {
  return Buffer.from(JSON.stringify([source, order, fromMs, toMs, ...place])).toString('base64url');
}

/** @throws Refusal 400 */
export function readCursor(text: string, store: Pick<LogStore, 'source' | 'placeLength'>): Cursor {
  const [source, order, ...numbers] = listIn(text);
  const [fromMs, toMs, ...place] = numbers as number[];
  if (
    source !== store.source ||
    (order !== 'asc' && order !== 'desc') ||
    !numbers.every((number) => Number.isSafeInteger(number)) ||
    place.length !== store.placeLength ||
    !(fromMs! >= 0 && fromMs! < toMs! && toMs! <= LAST_MS)
  ) {
    throw new Refusal(400, 'after: is not what a search has answered; leave it out to begin anew');
  }
  return { fromMs: fromMs!, toMs: toMs!, order, place };
}

function listIn(text: string): unknown[] {
  if (text.length > MAX_CURSOR || !/^[\w-]+$/.test(text)) return [];
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}
