// Existing indices as a source. In: a pattern and a stretch of time. Out: their documents as records, with the ids they have.
// The stretch is cut into slices of about equal size that are read side by side, or read as one in the order of event time; always
// from one point in time (PIT), so that what is written meanwhile changes nothing. Guarantee: a position outlives the PIT (it is a time,
// and the ids of that very millisecond that are done), so a replay goes on after a restart of either side; a partial answer is refused,
// and the number of documents read is compared with the number announced; numbers keep the text they were indexed with.
import { type Client, errors } from '@elastic/elasticsearch';
import { LogpipeError } from '../../core/errors.ts';
import type { ChunkOrigin } from '../../core/record.ts';
import { INDEX_PREFIX } from '../../indexing/batch.ts';
import {
  createElasticsearchClient,
  type ElasticsearchConfig,
  explainFailure,
  keepNumberTexts,
} from '../../indexing/elasticsearch.ts';
import { complete, NO_PARTIAL, totalOf, WHOLENESS, whole } from '../../indexing/outcome.ts';
import { createDocumentReader } from '../record-document.ts';
import type { PlannedPart, Position, SourcePlan, StoredSource, Take, TimeRange } from '../sources.ts';

const PAGE = 2_000;
const SLICES = 4;
const KEEP_ALIVE = '5m';
const FILTER = `pit_id,hits.total,hits.hits._id,hits.hits._index,hits.hits._source,hits.hits.sort,${WHOLENESS}`;
/** Fewer documents are not worth slices. */
const WORTH_SLICING = 20_000;

interface StoredIndexOptions {
  readonly range: TimeRange;
  /** Default: the live log indices. */
  readonly pattern?: string;
  /** A query that the documents have to match. */
  readonly only?: object;
  /** Tags that the present stages can judge anew are left to them. */
  readonly freshTags?: boolean;
  /**
   * `slices` (default): by event time, in slices of time side by side. `time`: by event time over everything. `log`: the same, with equal
   * times ordered by partition and offset, so that two readings give the same order; needs logpipe's mapping.
   */
  readonly order?: 'slices' | 'time' | 'log';
  readonly pageSize?: number;
}

/** `numeric_type`, because some index of a pattern may hold its times in nanoseconds. */
const BY_TIME = { '@timestamp': { order: 'asc', format: 'epoch_millis', numeric_type: 'date' } };
const BY_PLACE = ['kafka.partition', 'kafka.offset'].map((field) => ({
  [field]: { order: 'asc', unmapped_type: 'long', missing: -1 },
}));

interface Hit {
  readonly _id: string;
  readonly _index: string;
  readonly _source?: Record<string, unknown>;
  readonly sort: readonly [number, ...unknown[]];
}

export function createStoredIndex(config: ElasticsearchConfig, options: StoredIndexOptions): StoredSource {
  const { pattern = `${INDEX_PREFIX}*`, range, only, freshTags = false, order = 'slices', pageSize = PAGE } = options;
  const sort = [BY_TIME, ...(order === 'log' ? BY_PLACE : []), '_shard_doc'];
  const toRecord = createDocumentReader({ freshTags });
  const inRange = (fromMs: number, toMs: number): object => {
    const range = { range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } };
    return only === undefined ? range : { bool: { filter: [range, only] } };
  };
  const what = `the search in ${pattern}`;
  /** How many documents the stretch had when it was planned. */
  let counted: number | undefined;

  async function withClient<T>(work: (client: Client) => Promise<T>): Promise<T> {
    const client = createElasticsearchClient(config);
    try {
      return await work(client);
    } catch (error) {
      throw error instanceof LogpipeError ? error : await explainFailure(error, config);
    } finally {
      await client.close();
    }
  }

  async function planned(client: Client): Promise<SourcePlan> {
    const { count } = whole(
      await client.transport.request<{ count: number }>({
        method: 'POST',
        path: `/${pattern}/_count`,
        querystring: { allow_no_indices: true, ignore_unavailable: true },
        body: { query: inRange(range.fromMs, range.toMs) },
      }),
      `the count of ${pattern}`,
    );
    counted = count;
    const bounds = count < WORTH_SLICING || order !== 'slices' ? [] : await quantiles(client);
    const edges = [...new Set([range.fromMs, ...bounds, range.toMs])].sort((a, b) => a - b);
    const parts: PlannedPart[] = edges.slice(0, -1).map((from, i) => {
      const to = edges[i + 1]!;
      return { part: sliceName(from, to), from: [from], to: [to], records: undefined };
    });
    const closed = await closedIndices(client, pattern);
    return { parts, records: count, bytes: undefined, gaps: closed };
  }

  /** Times that divide the documents into about equal parts. */
  async function quantiles(client: Client): Promise<number[]> {
    const percents = Array.from({ length: SLICES - 1 }, (_, i) => ((i + 1) * 100) / SLICES);
    const reply = await client.transport.request<{ aggregations: { at: { values: Record<string, number | null> } } }>({
      method: 'POST',
      path: `/${pattern}/_search`,
      querystring: { allow_no_indices: true, ignore_unavailable: true, ...NO_PARTIAL },
      body: {
        size: 0,
        query: inRange(range.fromMs, range.toMs),
        aggs: { at: { percentiles: { field: '@timestamp', percents, keyed: true } } },
      },
    });
    return Object.values(whole(reply, what).aggregations.at.values)
      .filter((value): value is number => typeof value === 'number')
      .map(Math.floor)
      .filter((ms) => ms > range.fromMs && ms < range.toMs);
  }

  /** Resolves with the number of documents the slice has from `at` on; undefined when it was not read to its end. */
  async function readSlice(
    client: Client,
    pit: Pit,
    part: string,
    at: Position,
    signal: AbortSignal,
    take: Take,
  ): Promise<number | undefined> {
    const toMs = Number(part.slice(part.lastIndexOf('-') + 1));
    const [fromMs, ...done] = at as [number, ...string[]];
    const skip = new Set(done);
    let position: { ms: number; ids: string[] } = { ms: fromMs, ids: [...done] };
    let page = search(client, pit, fromMs, toMs, undefined, signal);
    const announced = (await page).total;
    for (let read = 0; ; ) {
      const { hits } = await page;
      if (signal.aborted) return undefined;
      read += hits.length;
      if (hits.length < pageSize) complete(read, announced, `${pattern}, ${part}`);
      if (hits.length === 0) return announced;
      // The next page is fetched while this one is taken.
      const more = hits.length === pageSize;
      if (more) page = search(client, pit, fromMs, toMs, hits.at(-1)!.sort, signal);
      page.catch(() => {});
      const fresh = hits.filter(({ _id, sort }) => !(sort[0] === fromMs && skip.has(_id)));
      const found = fresh.map(({ _id, _index, _source: document = {}, sort: [ms] }) => {
        const { record, origin = fileOrigin(_index) } = toRecord(_id, document, ms);
        return { document, record, origin };
      });
      position = advance(position, hits);
      const batch = {
        part,
        records: found.map(({ record }) => record),
        origin: (i: number) => found[i]!.origin,
        document: (i: number) => found[i]!.document,
        next: [position.ms, ...position.ids],
      };
      if (!(await take(batch))) return undefined;
      if (!more) return announced;
    }
  }

  async function search(
    client: Client,
    pit: Pit,
    fromMs: number,
    toMs: number,
    after: readonly unknown[] | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly hits: readonly Hit[]; readonly total: number }> {
    try {
      const reply = await client.transport.request<{ pit_id: string; hits?: { total?: unknown; hits?: Hit[] } }>(
        {
          method: 'POST',
          path: '/_search',
          querystring: { filter_path: FILTER, ...NO_PARTIAL },
          body: {
            size: pageSize,
            pit: { id: pit.id, keep_alive: KEEP_ALIVE },
            query: inRange(fromMs, toMs),
            sort,
            // Only the first page needs to announce how many are to come.
            track_total_hits: after === undefined,
            ...(after === undefined ? {} : { search_after: after }),
          },
        },
        { signal },
      );
      pit.id = whole(reply, what).pit_id ?? pit.id;
      const hits = reply.hits?.hits ?? [];
      return {
        hits: hits.map((hit) => ({ ...hit, sort: [Number(hit.sort[0]), ...hit.sort.slice(1)] as const })),
        total: totalOf(reply.hits),
      };
    } catch (error) {
      if (signal.aborted) return { hits: [], total: 0 };
      throw error;
    }
  }

  return {
    kind: 'index',
    plan: () => withClient(planned),
    feed: (from, signal, take, onEnd) =>
      withClient(async (client) => {
        // Slices are cut only once: after a break the first ones go on.
        const plan = from.size > 0 ? undefined : await withClient(planned);
        const slices = plan?.parts.map(({ part, from: at }) => [part, at] as const) ?? [...from];
        // Only a reading from the beginning can be compared with the plan: nobody has counted the rest after a break.
        const fresh = slices.every(([part, at]) => isBeginning(part, at)) ? counted : undefined;
        const pit = await openPit(client, pattern);
        if (pit === undefined) {
          complete(0, fresh ?? 0, pattern);
          return;
        }
        keepNumberTexts(client);
        try {
          const found = await Promise.all(
            slices.map(async ([part, at]) => {
              const count = await readSlice(client, pit, part, at, signal, take);
              onEnd?.(part);
              return count;
            }),
          );
          const sum = found.reduce<number | undefined>(
            (a, b) => (a === undefined || b === undefined ? undefined : a + b),
            0,
          );
          if (fresh !== undefined && sum !== undefined) complete(sum, fresh, pattern);
        } finally {
          await client.transport
            .request({ method: 'DELETE', path: '/_pit', body: { id: pit.id } })
            .catch(() => undefined);
        }
      }),
    missing: () => [],
  };
}

interface Pit {
  id: string;
}

async function openPit(client: Client, pattern: string): Promise<Pit | undefined> {
  try {
    const pit = await client.transport.request<Pit>({
      method: 'POST',
      path: `/${pattern}/_pit`,
      querystring: { keep_alive: KEEP_ALIVE, ignore_unavailable: true, allow_no_indices: true },
    });
    return whole(pit, `the point in time of ${pattern}`);
  } catch (error) {
    if (error instanceof errors.ResponseError && error.statusCode === 404) return undefined;
    throw error;
  }
}

/** Keeps the ids of the last millisecond's documents, because the next PIT may order them differently. */
function advance(before: { ms: number; ids: string[] }, hits: readonly Hit[]): { ms: number; ids: string[] } {
  const ms = hits.at(-1)!.sort[0];
  const ids = ms === before.ms ? [...before.ids] : [];
  for (const { _id, sort } of hits) if (sort[0] === ms && !ids.includes(_id)) ids.push(_id);
  return { ms, ids };
}

function isBeginning(part: string, at: Position): boolean {
  return Array.isArray(at) && at.length === 1 && part.startsWith(`index/${at[0]}-`);
}

function sliceName(fromMs: number, toMs: number): string {
  return `index/${fromMs}-${toMs}`;
}

function fileOrigin(index: string): ChunkOrigin {
  return { kind: 'file', path: index, identity: index };
}

/** Sentences about closed indices of a pattern; none when asking is not permitted. */
async function closedIndices(client: Client, pattern: string): Promise<string[]> {
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
