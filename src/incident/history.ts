// What became of alerts in a stretch, as it was recorded while it happened. In: the alert history. Out: its transitions in order, or
// why there are none. Guarantee: masked; at most MAX transitions; a part of
// them is none; a server that does not answer is no failure.
import type { Client } from '@elastic/elasticsearch';
import { HISTORY_PREFIX, type HistorySource } from '../alerts/transitions.ts';
import { errorText } from '../core/errors.ts';
import type { Masker } from '../core/mask.ts';
import { complete, NO_PARTIAL, totalOf, whole } from '../indexing/whole-answer.ts';

const MAX = 5_000;

export type HistoryResult =
  | { readonly found: true; readonly transitions: readonly HistorySource[]; readonly cut: boolean }
  | { readonly found: false; readonly reason: string };

export async function readHistory(
  client: Client,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
  masker: Masker,
): Promise<HistoryResult> {
  try {
    const reply = await client.search({
      index: `${HISTORY_PREFIX}*`,
      ignore_unavailable: true,
      allow_no_indices: true,
      size: MAX,
      track_total_hits: true,
      ...NO_PARTIAL,
      query: { range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } },
      sort: [{ '@timestamp': { order: 'asc', unmapped_type: 'date' } }],
    } as Parameters<Client['search']>[0]);
    const what = `the search in ${HISTORY_PREFIX}*`;
    complete(whole(reply, what).hits.hits.length, Math.min(totalOf(reply.hits), MAX), what);
    if ((reply._shards?.total ?? 0) === 0) return { found: false, reason: `there is no index ${HISTORY_PREFIX}*` };
    const hits = reply.hits.hits as unknown as readonly { readonly _source: HistorySource }[];
    const transitions = hits.map(({ _source }) => masker.value(_source) as HistorySource);
    return { found: true, transitions, cut: hits.length === MAX };
  } catch (error) {
    return { found: false, reason: masker.text(errorText(error)).slice(0, 200) };
  }
}
