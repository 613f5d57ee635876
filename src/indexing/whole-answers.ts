// Checks that an answer of Elasticsearch is complete. In: the answer to a search, a count or the like. Out: the same, or an
// error. Guarantee: no answer is used in which a shard, a cluster or the rest after a time-out is missing, nor one with fewer
// documents than announced. In all these cases the server's status is 200.
import { LogpipeError } from '../core/errors.ts';

/** For `filter_path`: the fields that `whole` checks. */
export const WHOLENESS = '_shards.total,_shards.successful,_shards.failed,_clusters,timed_out,terminated_early';
/** Makes the server itself refuse a search that misses a shard, as far as it notices. */
export const NO_PARTIAL = { allow_partial_search_results: false } as const;

interface Answer {
  readonly _shards?: { readonly total?: number; readonly successful?: number; readonly failed?: number };
  readonly _clusters?: { readonly total?: number; readonly successful?: number };
  readonly timed_out?: boolean;
  readonly terminated_early?: boolean | null;
}

/**
 * @param what was asked, in words: `the search in calling-platform-*`
 * @throws LogpipeError LOGPIPE_ES_INCOMPLETE
 */
export function whole<T extends object>(answer: T, what: string): T {
  const problem = partOf(answer as Answer);
  if (problem === undefined) return answer;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `Elasticsearch answered ${what} in part only: ${problem}; the answer is not used. Repeat this when the cluster is green or yellow`,
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
 * A refresh is judged by failed shards alone: copies that are not assigned take no part in it and miss nothing.
 * @throws LogpipeError LOGPIPE_ES_INCOMPLETE
 */
export function refreshed<T extends object>(answer: T, what: string): T {
  const { total = 0, failed = 0 } = (answer as Answer)._shards ?? {};
  whole({ _shards: { total, failed } }, what);
  return answer;
}

/** @throws LogpipeError LOGPIPE_ES_INCOMPLETE when fewer documents were read than announced */
export function complete(read: number, announced: number, what: string): void {
  if (read >= announced) return;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `${what}: ${read} of ${announced} documents came; the result would be incomplete. Repeat this when the cluster is green or yellow`,
  );
}

/** The number in `hits.total`, in either of the forms that servers use. */
export function totalOf(hits: { readonly total?: unknown } | undefined): number {
  const total = hits?.total;
  if (typeof total === 'number') return total;
  const { value } = (total ?? {}) as { value?: unknown };
  return typeof value === 'number' ? value : 0;
}
