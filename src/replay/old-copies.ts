// Old copies of documents that a newer parser puts on another day. In: a batch that was written. Out: the same ids are gone
// from every other live log index. Guarantee: called after the new copy is safe, so that there is never none; what was
// deleted already counts as deleted, so that it can be repeated; an answer with a part of the copies is none.
import type { Client } from '@elastic/elasticsearch';
import type { Batch } from '../indexing/batch.ts';
import { INDEX_PATTERN, INDEX_PREFIX } from '../indexing/document.ts';
import { complete, NO_PARTIAL, refreshed, totalOf, WHOLENESS, whole } from '../indexing/whole-answer.ts';

const PAGE = 1_000;

interface Hit {
  readonly _index: string;
  readonly _id: string;
}

export interface OldCopies {
  /** Makes everything written so far visible to the search for old copies. */
  refresh(): Promise<void>;
  /** Resolves with how many were deleted. `skip` holds ids whose new copy was refused. */
  remove(batch: Batch, skip: ReadonlySet<string>): Promise<number>;
}

export function createOldCopies(client: Client): OldCopies {
  async function find(ids: readonly string[]): Promise<Hit[]> {
    const reply = await client.transport.request<{ hits?: { total?: unknown; hits?: Hit[] } }>({
      method: 'POST',
      path: `/${INDEX_PREFIX}*/_search`,
      querystring: {
        allow_no_indices: true,
        ignore_unavailable: true,
        filter_path: `hits.total,hits.hits._index,hits.hits._id,${WHOLENESS}`,
        ...NO_PARTIAL,
      },
      body: { size: 10 * PAGE, query: { ids: { values: ids } }, _source: false, track_total_hits: true },
    });
    // A copy that is not seen would stay for ever.
    const found = whole(reply, 'the search for old copies').hits?.hits ?? [];
    complete(found.length, totalOf(reply.hits), 'old copies');
    return found;
  }

  async function erase(copies: readonly Hit[]): Promise<void> {
    const body = copies.map(({ _index, _id }) => `${JSON.stringify({ delete: { _index, _id } })}\n`).join('');
    const reply = await client.transport.request<{ items: { delete: { status: number; _index: string } }[] }>({
      method: 'POST',
      path: '/_bulk',
      bulkBody: body,
    });
    complete(reply.items.length, copies.length, 'deleting old copies');
    const failed = reply.items.find(({ delete: item }) => item.status !== 200 && item.status !== 404);
    if (failed) throw new Error(`an old copy in ${failed.delete._index} was not deleted: HTTP ${failed.delete.status}`);
  }

  return {
    async refresh() {
      const reply = await client.transport.request<object>({
        method: 'POST',
        path: `/${INDEX_PREFIX}*/_refresh`,
        querystring: { allow_no_indices: true, ignore_unavailable: true },
      });
      refreshed(reply, `the refresh of ${INDEX_PREFIX}*`);
    },
    async remove(batch, skip) {
      const day = new Map<string, string>();
      for (let i = 0; i < batch.count; i++) {
        const { index, id } = batch.action(i);
        if (!skip.has(id)) day.set(id, index);
      }
      const ids = [...day.keys()];
      let removed = 0;
      for (let from = 0; from < ids.length; from += PAGE) {
        const found = await find(ids.slice(from, from + PAGE));
        const old = found.filter(({ _index, _id }) => INDEX_PATTERN.test(_index) && _index !== day.get(_id));
        if (old.length > 0) await erase(old);
        removed += old.length;
      }
      return removed;
    },
  };
}
