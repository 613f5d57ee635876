// Is an answer of Elasticsearch the whole one? In: the answer to a search, a count or the like. Out: the same, or an error.
// Guarantee: nothing rests on an answer in which a shard, a cluster or the rest after a time-out is missing, nor on fewer
// documents than were announced. A server answers 200 to all of these.
import { LogpipeError } from '../core/errors.ts';

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
