// The logs in Elasticsearch, for the page. In: a query of our own nodes and a stretch of time. Out: lines, charts, a document. Guarantee:
// one page follows another without a line twice or left out, however many have the same time; an answer that is partial, cut off or not
// Elasticsearch's is none; sizes and times are bounded; nothing that goes out names an address or a credential.
import { type Client, errors } from '@elastic/elasticsearch';
import type { Clock } from '../../core/clock.ts';
import { LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Masker } from '../../core/secrets/mask.ts';
import { INDEX_PREFIX } from '../../indexing/batch.ts';
import {
  createElasticsearchClient,
  type ElasticsearchConfig,
  explainFailure,
  isTimeout,
  keepNumberTexts,
} from '../../indexing/elasticsearch.ts';
import {
  type BulkItemError,
  complete,
  NO_PARTIAL,
  refusalKind,
  totalOf,
  WHOLENESS,
  whole,
} from '../../indexing/outcome.ts';
import { isObject } from '../../parse/json.ts';
import { Refusal } from '../requests.ts';
import {
  barWidth,
  chartsOf,
  DURATION_FIELD,
  LINE_FIELDS,
  type LogQuery,
  type LogStore,
  lineOf,
  maskedDocument,
  type Order,
  STATUS_FIELD,
  stepSeconds,
  TEMPLATE_FIELD,
  TOP,
} from './log-store.ts';
import { toElasticsearch } from './query-line.ts';

const PATTERN = `${INDEX_PREFIX}*`;
const WHAT = `the search in ${PATTERN}`;
/** Elasticsearch ends a search by itself; what does not even answer is given up soon after. */
const SEARCH_TIMEOUT = '10s';
const GIVE_UP_MS = 12_000;
/** Documents have any size. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const MAX_COUNTED = 10_000;
const FILTER = `hits.total,hits.hits._id,hits.hits._index,hits.hits._source,hits.hits.sort,aggregations,${WHOLENESS}`;

/**
 * Lines of the same time: in the order of the log, and else in that of the index. No two documents of a shard have the same number, and
 * it stays with a document until that is written again. Needs neither a point in time to be held open, nor `_id` in memory.
 */
function sortBy(order: Order): object[] {
  const place = { order, unmapped_type: 'long', missing: -1, numeric_type: 'long' };
  return [
    // `numeric_type`, because some index of the pattern may hold its times in nanoseconds.
    { '@timestamp': { order, format: 'epoch_millis', numeric_type: 'date' } },
    { 'kafka.partition': place },
    { 'kafka.offset': place },
    { _seq_no: { order } },
  ];
}
const PLACE_LENGTH = 4;

interface Hit {
  readonly index: string;
  readonly id: string;
  readonly document: unknown;
  readonly place: readonly number[];
}

interface Deps {
  readonly log: Log;
  readonly clock: Clock;
  readonly masker: Masker;
}

/** Connects with the first search. */
export function createIndexStore(config: ElasticsearchConfig, { log, clock, masker }: Deps): LogStore {
  let client: Client | undefined;
  let failing = false;

  function connected(): Client {
    if (client === undefined) {
      client = createElasticsearchClient({ ...config, requestTimeoutMs: GIVE_UP_MS }, { log });
      keepNumberTexts(client);
    }
    return client;
  }

  /** @throws Refusal */
  async function ask(
    request: { method: string; path: string; querystring?: object; body?: object },
    signal: AbortSignal,
  ) {
    const given = new AbortController();
    const stop = () => given.abort();
    signal.addEventListener('abort', stop, { once: true });
    const cancel = clock.after(GIVE_UP_MS, stop);
    try {
      const answer: unknown = await connected().transport.request(request as never, {
        signal: given.signal,
        maxResponseSize: MAX_ANSWER_BYTES,
      });
      failing = false;
      return answer;
    } catch (error) {
      if (given.signal.aborted && !signal.aborted) throw tooLate();
      throw error;
    } finally {
      cancel();
      signal.removeEventListener('abort', stop);
    }
  }

  /** What people are told; the log has more. */
  async function refused(error: unknown): Promise<Refusal> {
    if (error instanceof Refusal) return error;
    const refusal = refusalFor(error);
    if (refusal.status === 503 && !failing) {
      failing = true;
      const said = error instanceof LogpipeError ? error : await explainFailure(error, config);
      log.warn('A search in Elasticsearch failed', { error: said.message });
    }
    return refusal;
  }

  async function searched(body: object, signal: AbortSignal): Promise<Record<string, unknown>> {
    const answer = await ask(
      {
        method: 'POST',
        path: `/${PATTERN}/_search`,
        querystring: { ignore_unavailable: true, allow_no_indices: true, filter_path: FILTER, ...NO_PARTIAL },
        body: { timeout: SEARCH_TIMEOUT, ...body },
      },
      signal,
    );
    if (!isObject(answer) || !isObject(answer._shards) || typeof answer._shards.total !== 'number') throw foreign();
    return whole(answer, WHAT);
  }

  async function lines(
    query: LogQuery,
    { order, size, after }: Parameters<LogStore['search']>[1],
    signal: AbortSignal,
  ) {
    // One more, to learn whether there are more.
    const answer = await searched(
      {
        size: size + 1,
        query: queryFor(query),
        sort: sortBy(order),
        track_total_hits: MAX_COUNTED,
        _source: LINE_FIELDS,
        ...(after === undefined ? {} : { search_after: after }),
      },
      signal,
    );
    const { hits, total, exact } = hitsOf(answer, size + 1);
    if (after === undefined) complete(hits.length, Math.min(total, size + 1), WHAT);
    const { page, skipped } = cutPage(hits, size);
    return {
      lines: page.map(({ document, index, id }) => lineOf(document, index, id, masker)),
      total,
      exact,
      next: hits.length > size ? page.at(-1)!.place : undefined,
      note: skipped ? 'more lines of the same moment cannot be shown; choose a larger size' : null,
    };
  }

  async function counted(query: LogQuery, signal: AbortSignal) {
    const { fromMs, toMs } = query;
    const errorsOnly = { term: { tags: { value: 'error' } } };
    const answer = await searched(
      {
        size: 0,
        track_total_hits: false,
        query: queryFor(query),
        aggs: {
          times: {
            date_histogram: {
              field: '@timestamp',
              fixed_interval: `${stepSeconds(query)}s`,
              min_doc_count: 0,
              extended_bounds: { min: fromMs, max: toMs - 1 },
            },
            aggs: { errors: { filter: errorsOnly } },
          },
          errors: { filter: errorsOnly, aggs: { templates: { terms: { field: TEMPLATE_FIELD, size: TOP } } } },
          statuses: { terms: { field: STATUS_FIELD, size: TOP } },
          shortest: { min: { field: DURATION_FIELD } },
          longest: { max: { field: DURATION_FIELD } },
        },
      },
      signal,
    );
    const found = part(answer.aggregations);
    const times = bucketsOf(found.times).map((bucket) => ({
      ms: numberOf(bucket.key),
      total: numberOf(bucket.doc_count),
      errors: numberOf(part(bucket.errors).doc_count),
    }));
    const templates = part(part(found.errors).templates);
    // Null where there was none.
    const [min, max] = [part(found.shortest).value, part(found.longest).value];
    const hasBars = min !== null && max !== null;
    return {
      times,
      templates: termsOf(templates),
      otherErrors: numberOf(templates.sum_other_doc_count),
      statuses: termsOf(part(found.statuses)),
      ...(hasBars ? await bars(query, numberOf(min), numberOf(max), signal) : { barMs: 1, bars: [] }),
    };
  }

  /** The width of the bars depends on what there is, so it takes a second search. */
  async function bars(query: LogQuery, min: number, max: number, signal: AbortSignal) {
    const barMs = barWidth(min, max);
    const answer = await searched(
      {
        size: 0,
        track_total_hits: false,
        query: queryFor(query),
        aggs: {
          // What arrives meanwhile must not make a million of them.
          bars: {
            histogram: {
              field: DURATION_FIELD,
              interval: barMs,
              min_doc_count: 0,
              hard_bounds: { min: min - barMs, max: max + barMs },
            },
          },
        },
      },
      signal,
    );
    return {
      barMs,
      bars: bucketsOf(part(answer.aggregations).bars).map(
        ({ key, doc_count: count }) => [numberOf(key), numberOf(count)] as const,
      ),
    };
  }

  async function or<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw await refused(error);
    }
  }

  return {
    source: 'elasticsearch',
    placeLength: PLACE_LENGTH,
    search: (query, page, signal) => or(lines(query, page, signal)),
    charts: (query, signal) =>
      or(counted(query, signal).then((all) => chartsOf('elasticsearch', query, all, { masker, note: null }))),
    async event(index, id, signal) {
      try {
        // At once, not only after the next refresh: the tail shows documents that a search does not find yet.
        const answer = await ask({ method: 'GET', path: `/${index}/_doc/${encodeURIComponent(id)}` }, signal);
        if (!isObject(answer) || answer._index !== index || answer._id !== id) throw foreign();
        return isObject(answer._source) ? maskedDocument(answer._source, masker) : undefined;
      } catch (error) {
        if (error instanceof errors.ResponseError && error.statusCode === 404) return undefined;
        throw await refused(error);
      }
    },
    async close() {
      await client?.close();
    },
  };
}

// ---- what is asked ----

function queryFor({ fromMs, toMs, node }: LogQuery): object {
  const range = { range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } };
  return { bool: { filter: node.kind === 'all' ? [range] : [range, toElasticsearch(node)] } };
}

// ---- what is answered ----

function hitsOf(answer: Readonly<Record<string, unknown>>, most: number) {
  const { hits } = answer;
  if (!isObject(hits) || !isObject(hits.total)) throw foreign();
  const list = hits.hits ?? [];
  if (!Array.isArray(list) || list.length > most) throw foreign();
  return { hits: list.map(hitOf), total: totalOf(hits), exact: hits.total.relation === 'eq' };
}

function hitOf(hit: unknown): Hit {
  if (!isObject(hit) || typeof hit._index !== 'string' || typeof hit._id !== 'string' || !Array.isArray(hit.sort)) {
    throw foreign();
  }
  const place = hit.sort.map(Number);
  if (place.length !== PLACE_LENGTH || !place.every(Number.isSafeInteger)) throw foreign();
  return { index: hit._index, id: hit._id, document: hit._source, place };
}

/**
 * Documents of two shards may have the same place. A page does not end between them: what would be cut off comes with the next one.
 */
function cutPage(hits: readonly Hit[], size: number): { page: readonly Hit[]; skipped: boolean } {
  const first = hits[size];
  if (first === undefined) return { page: hits, skipped: false };
  let end = size;
  while (end > 0 && isSamePlace(hits[end - 1]!, first)) end -= 1;
  return end > 0 ? { page: hits.slice(0, end), skipped: false } : { page: hits.slice(0, size), skipped: true };
}

function isSamePlace(one: Hit, other: Hit): boolean {
  return one.place.every((number, i) => number === other.place[i]);
}

function part(value: unknown): Readonly<Record<string, unknown>> {
  if (!isObject(value)) throw foreign();
  return value;
}

function bucketsOf(aggregation: unknown): readonly Readonly<Record<string, unknown>>[] {
  const { buckets = [] } = part(aggregation);
  if (!Array.isArray(buckets)) throw foreign();
  return buckets.map(part);
}

function termsOf(aggregation: unknown): (readonly [string, number])[] {
  return bucketsOf(aggregation).map(({ key, doc_count: count }) => [String(key), numberOf(count)] as const);
}

/** Numbers with many digits are no JavaScript numbers yet: see keepNumberTexts. */
function numberOf(value: unknown): number {
  const number = value === null ? Number.NaN : Number(value);
  if (!Number.isFinite(number)) throw foreign();
  return number;
}

// ---- refusals ----

function foreign(): Refusal {
  return new Refusal(
    503,
    'what answers at elasticsearch.nodes does not answer as Elasticsearch does; `logpipe check-config --connect` says more',
  );
}

function tooLate(): Refusal {
  return new Refusal(503, 'Elasticsearch has not answered within 10 s; ask for a shorter time range', {
    'retry-after': '5',
  });
}

const AWAY = 'Elasticsearch does not answer; the log of logpipe has more';

function refusalFor(error: unknown): Refusal {
  if (isTimeout(error)) return tooLate();
  if (error instanceof LogpipeError && error.code === 'LOGPIPE_ES_INCOMPLETE') return new Refusal(503, error.message);
  if (error instanceof errors.RequestAbortedError) {
    const most = `${MAX_ANSWER_BYTES / 1024 / 1024} MiB`;
    return new Refusal(503, `the answer of Elasticsearch is longer than ${most}; ask for fewer lines at a time`);
  }
  // A text that is no JSON, by its beginning or its end.
  const unread = error instanceof errors.DeserializationError || error instanceof SyntaxError;
  if (unread || error instanceof errors.ProductNotSupportedError) return foreign();
  if (!(error instanceof errors.ResponseError)) return new Refusal(503, AWAY, { 'retry-after': '5' });
  switch (error.statusCode) {
    case 400:
      return new Refusal(400, `q: Elasticsearch cannot run this query (${refusalKind(causeOf(error))})`);
    case 401:
    case 403:
      return new Refusal(
        503,
        'Elasticsearch does not let logpipe read the logs; docs/operations.md lists the privileges',
      );
    case 429:
      return new Refusal(503, 'Elasticsearch has too much to do; try again soon', { 'retry-after': '5' });
    default:
      return new Refusal(503, AWAY, { 'retry-after': '5' });
  }
}

/** What a shard says says more than that a shard has said it. */
function causeOf(error: errors.ResponseError): BulkItemError | undefined {
  const { error: said } = (error.body ?? {}) as { error?: BulkItemError & { root_cause?: readonly BulkItemError[] } };
  return said?.root_cause?.[0] ?? said;
}
