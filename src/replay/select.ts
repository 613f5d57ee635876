// Which records a replay wants. In: a record. Out: its tagged event when its event time lies in the stretch and the
// conditions hold. Guarantee: parsed once; the indexer's stages get the event that was made here.
import { errorText } from '../core/errors.ts';
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import type { ParsedEvent, ParseResult, Parser } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { TimeRange } from './time-range.ts';
import type { Matches } from './where.ts';

export type Selection = 'outside' | 'unmatched' | { readonly record: RawRecord; readonly result: ParseResult };

export interface Selector {
  select(record: RawRecord): Selection;
  /** A parser for the indexer: knows the results of the records that are handed over next, in their order. */
  readonly parser: Parser;
  readonly tag: (event: ParsedEvent) => TaggedEvent;
  /** Before the indexer gets these records. */
  expect(results: readonly ParseResult[], records: readonly RawRecord[]): void;
}

/** @param onEvent sees every event that is wanted, in the order of its lane */
export function createSelector(options: {
  parser: Parser;
  tag: (event: ParsedEvent) => TaggedEvent;
  range: TimeRange | undefined;
  matches: Matches | undefined;
}): Selector {
  const { parser, range, matches } = options;
  let records: readonly RawRecord[] = [];
  let results: readonly ParseResult[] = [];
  let at = 0;

  const isInside = (ms: number) => range === undefined || (ms >= range.fromMs && ms < range.toMs);
  const tag = (event: ParsedEvent): TaggedEvent => ('grouping' in event ? (event as TaggedEvent) : options.tag(event));

  return {
    select(record) {
      const parsed = parser.parse(record);
      if (!parsed.ok) {
        // It has no event time but the record's, and no fields to compare.
        if (!isInside(record.timeMs)) return 'outside';
        return matches === undefined ? { record, result: parsed } : 'unmatched';
      }
      if (!isInside(parsed.event.timeMs)) return 'outside';
      try {
        const event = tag(parsed.event);
        if (matches !== undefined && !matches(viewOf(event))) return 'unmatched';
        return { record, result: { ok: true, event } };
      } catch (error) {
        // No record ends a replay: it is refused, and the summary says so.
        return { record, result: { ok: false, reason: 'processing_failed', detail: errorText(error) } };
      }
    },
    parser: {
      time: parser.time,
      degrade: parser.degrade,
      reparse: parser.reparse,
      parse(record) {
        // Asked again for a record that was refused by the server: then it is parsed again.
        if (records[at] !== record) return parser.parse(record);
        const result = results[at]!;
        at += 1;
        return result;
      },
    },
    tag,
    expect(nextResults, nextRecords) {
      results = nextResults;
      records = nextRecords;
      at = 0;
    },
  };
}

/** The document's fields as a reader of Elasticsearch knows them. */
export function viewOf(event: TaggedEvent): Record<string, unknown> {
  const { doc, tags, grouping } = event;
  const view: Record<string, unknown> = { ...doc, '@timestamp': new Date(event.timeMs).toISOString(), tags };
  if (grouping !== undefined) {
    view.error = typeof doc.error === 'object' && doc.error !== null ? { ...doc.error, ...grouping } : grouping;
  }
  return view;
}

/** Records of one origin in a row: what an indexer's chunk holds. */
export function byOrigin<T>(items: readonly T[], originOf: (item: T) => ChunkOrigin): [ChunkOrigin, T[]][] {
  const groups = new Map<string | ChunkOrigin, [ChunkOrigin, T[]]>();
  let last: [ChunkOrigin, T[]] | undefined;
  for (const item of items) {
    const origin = originOf(item);
    if (last?.[0] !== origin) {
      const key = origin.kind === 'kafka' ? `${origin.topic}/${origin.partition}` : origin.identity;
      last = groups.get(key);
      if (last === undefined) {
        last = [origin, []];
        groups.set(key, last);
      }
    }
    last[1].push(item);
  }
  return [...groups.values()];
}
