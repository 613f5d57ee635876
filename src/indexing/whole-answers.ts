// Documents of the live log indices in order of their event time. In: a range. Out: batches of documents with their ids. Guarantee: a
// point in time is read, so what is written meanwhile changes nothing; it is closed at the end; equal times are ordered by
// partition and offset, so that two readings give the same order; an answer with a part of the documents is refused, and what
// was read is counted; numbers keep the text they were indexed with, for `documentText`.
import { type Client, errors } from '@elastic/elasticsearch';
import { LogpipeError } from '../core/errors.ts';
import { settleNumbers } from '../parse/json.ts';
import { INDEX_PREFIX } from './document.ts';
import { keepNumberTexts } from './elasticsearch.ts';

const PAGE = 5_000;
const KEEP_ALIVE = '5m';

export interface StoredDocument {
  readonly id: string;
  readonly source: Readonly<Record<string, unknown>>;
}

interface Hit {
  readonly _id: string;
  readonly _source?: Record<string, unknown>;
  readonly sort?: unknown[];
}

/** @param client from now on keeps the texts of numbers. @throws LogpipeError LOGPIPE_ES_INCOMPLETE and the client's errors */
export async function* readDocuments(
  client: Client,
  range: { readonly fromMs: number; readonly toMs: number; readonly index?: string },
): AsyncGenerator<readonly StoredDocument[]> {
  const { fromMs, toMs, index = `${INDEX_PREFIX}*` } = range;
  const opened = await client.openPointInTime({
    index,
    keep_alive: KEEP_ALIVE,
    ignore_unavailable: true,
    allow_no_indices: true,
  } as Parameters<Client['openPointInTime']>[0]);
  const what = `the search in ${index}`;
  let pit = whole(opened, what).id;
  keepNumberTexts(client);
  let [read, announced] = [0, 0];
  const filter = [{ range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } }];
  let after: unknown[] | undefined;
  try {
    for (;;) {
      const reply = await client.search({
        pit: { id: pit, keep_alive: KEEP_ALIVE },
        size: PAGE,
        // The first page announces how many are to come.
        track_total_hits: after === undefined,
        ...NO_PARTIAL,
        query: { bool: { filter } },
        sort: [
          { '@timestamp': { order: 'asc', format: 'epoch_millis' } },
          { 'kafka.partition': { order: 'asc', unmapped_type: 'long', missing: -1 } },
          { 'kafka.offset': { order: 'asc', unmapped_type: 'long', missing: -1 } },
        ],
        ...(after === undefined ? {} : { search_after: after }),
      } as Parameters<Client['search']>[0]);
      pit = whole(reply, what).pit_id ?? pit;
      const hits = reply.hits.hits as unknown as readonly Hit[];
      if (after === undefined) announced = totalOf(reply.hits);
      read += hits.length;
      if (hits.length < PAGE) complete(read, announced, index);
      for (const { _source } of hits) if (_source !== undefined) settleNumbers(_source);
      if (hits.length > 0) yield hits.map(({ _id, _source }) => ({ id: _id, source: _source ?? {} }));
      if (hits.length < PAGE) return;
      after = hits.at(-1)!.sort;
    }
  } finally {
    await client.closePointInTime({ id: pit }).catch(() => {});
  }
}

/** Sentences about indices of a pattern that cannot be read; none where asking is not permitted. */
export async function closedIndices(client: Client, pattern = `${INDEX_PREFIX}*`): Promise<string[]> {
  try {
    const rows = await client.transport.request<{ index: string; status: string }[]>({
      method: 'GET',
      path: `/_cat/indices/${pattern}`,
      querystring: { format: 'json', h: 'index,status', expand_wildcards: 'all' },
    });
    return rows.filter(({ status }) => status === 'close').map(({ index }) => `${index} is closed and cannot be read`);
  } catch (error) {
    if (error instanceof errors.ResponseError && (error.statusCode === 403 || error.statusCode === 404)) return [];
    throw error;
  }
}

/** Tags that logpipe gives, and gives again when the record is read again. */
const OWN_TAG = /^(?:error|_.*)$/;

/**
 * The document as its producer wrote it, as far as that can be told: without what logpipe adds. The event time stays where it
 * stood in the record; where only `@timestamp` has it, that stays.
 */
export function asWritten(source: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { kafka: _, tags, '@timestamp': time, ...rest } = source;
  const own = Array.isArray(tags) ? tags.filter((tag) => !OWN_TAG.test(String(tag))) : tags;
  return {
    ...(rest.timestamp === undefined ? { '@timestamp': time } : {}),
    ...rest,
    ...(own === undefined || (Array.isArray(own) && own.length === 0) ? {} : { tags: own }),
  };
}

// Is an answer of Elasticsearch the whole one? In: the answer to a search, a count or the like. Out: the same, or an error.
// Guarantee: nothing rests on an answer in which a shard, a cluster or the rest after a time-out is missing, nor on fewer
// documents than were announced. A server answers 200 to all of these.

/** For `filter_path`: what `whole` looks at. */
export const WHOLENESS = '_shards.total,_shards.successful,_shards.failed,_clusters,timed_out,terminated_early';
/** A search that misses a shard is refused by the server itself, as far as it notices. */
export const NO_PARTIAL = { allow_partial_search_results: false } as const;

interface Answer {
  readonly _shards?: { readonly total?: number; readonly successful?: number; readonly failed?: number };
  readonly _clusters?: { readonly total?: number; readonly successful?: number };
  readonly timed_out?: boolean;
  readonly terminated_early?: boolean | null;
}

/**
 * @param what was asked, for people: `the search in calling-platform-*`
 * @throws LogpipeError LOGPIPE_ES_INCOMPLETE
 */
export function whole<T extends object>(answer: T, what: string): T {
  const problem = partOf(answer as Answer);
  if (problem === undefined) return answer;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `Elasticsearch answered ${what} in part only: ${problem}; nothing is made of it. Repeat it when the cluster is green or yellow`,
  );
}

function partOf({ _shards: shards, _clusters: clusters, timed_out: late, terminated_early: cut }: Answer) {
  if (late === true) return 'it timed out';
  if (cut === true) return 'it was ended early';
  const { total = 0, successful = total, failed = 0 } = shards ?? {};
  if (failed > 0) return `${failed} of ${total} shards failed`;
  if (successful < total) return `${total - successful} of ${total} shards are missing`;
  const { total: all = 0, successful: answered = all } = clusters ?? {};
  return answered < all ? `${all - answered} of ${all} clusters are missing` : undefined;
}

/**
 * Shards alone are asked of a refresh: copies that are not assigned take no part in it, and miss nothing.
 * @throws LogpipeError LOGPIPE_ES_INCOMPLETE
 */
export function refreshed<T extends object>(answer: T, what: string): T {
  const { total = 0, failed = 0 } = (answer as Answer)._shards ?? {};
  whole({ _shards: { total, failed } }, what);
  return answer;
}

/** @throws LogpipeError LOGPIPE_ES_INCOMPLETE when fewer were read than announced */
export function complete(read: number, announced: number, what: string): void {
  if (read >= announced) return;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `${what}: ${read} of ${announced} documents came; the result would be incomplete. Repeat it when the cluster is green or yellow`,
  );
}

/** Of `hits.total`, in both forms that servers give it. */
export function totalOf(hits: { readonly total?: unknown } | undefined): number {
  const total = hits?.total;
  if (typeof total === 'number') return total;
  const { value } = (total ?? {}) as { value?: unknown };
  return typeof value === 'number' ? value : 0;
}
