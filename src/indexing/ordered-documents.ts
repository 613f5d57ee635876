// Documents of the live log indices in order of their event time. In: a range. Out: batches of documents with their ids. Guarantee: a
// point in time is read, so what is written meanwhile changes nothing; it is closed at the end; equal times are ordered by
// partition and offset, so that two readings give the same order.
import type { Client } from '@elastic/elasticsearch';
import { INDEX_PREFIX } from './document.ts';

const PAGE = 5_000;
const KEEP_ALIVE = '5m';

export interface StoredDocument {
  readonly id: string;
  readonly source: Readonly<Record<string, unknown>>;
}

interface Hit {
  readonly _id: string;
  readonly _source?: Readonly<Record<string, unknown>>;
  readonly sort?: unknown[];
}

/** @throws the client's errors */
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
  let pit = opened.id;
  const filter = [{ range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } }];
  let after: unknown[] | undefined;
  try {
    for (;;) {
      const reply = await client.search({
        pit: { id: pit, keep_alive: KEEP_ALIVE },
        size: PAGE,
        track_total_hits: false,
        query: { bool: { filter } },
        sort: [
          { '@timestamp': { order: 'asc', format: 'epoch_millis' } },
          { 'kafka.partition': { order: 'asc', unmapped_type: 'long', missing: -1 } },
          { 'kafka.offset': { order: 'asc', unmapped_type: 'long', missing: -1 } },
        ],
        ...(after === undefined ? {} : { search_after: after }),
      } as Parameters<Client['search']>[0]);
      if (reply.pit_id !== undefined) pit = reply.pit_id;
      const hits = reply.hits.hits as unknown as readonly Hit[];
      if (hits.length > 0) yield hits.map(({ _id, _source }) => ({ id: _id, source: _source ?? {} }));
      if (hits.length < PAGE) return;
      after = hits.at(-1)!.sort;
    }
  } finally {
    await client.closePointInTime({ id: pit }).catch(() => {});
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
