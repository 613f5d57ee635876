// The page's history of logs over HTTP (docs/api.md): search, charts, and one event. In: requests of whoever may read. Out: what the store
// finds, Elasticsearch or the NDJSON files. Guarantee: time range, size and number of searches at a time are bounded; whoever hangs up
// ends their search; whoever is refused learns why, and nothing else.
import type { Clock } from '../../core/clock.ts';
import { LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Masker } from '../../core/secrets/mask.ts';
import { INDEX_PREFIX, REPLAY_PREFIX } from '../../indexing/batch.ts';
import type { ElasticsearchConfig } from '../../indexing/elasticsearch.ts';
import type { SinksConfig } from '../../indexing/sinks.ts';
import { writeJson } from '../../parse/json.ts';
import { parseTime } from '../../replay/sources.ts';
import { type ApiPart, type Ask, reply } from '../guard.ts';
import type { SearchAnswer } from '../page-data.ts';
import { NOT_KEPT, Refusal, shown } from '../requests.ts';
import { type LogQuery, type LogStore, type Order, readCursor, writeCursor } from './log-store.ts';
import { parseQueryLine, QueryLineError, type QueryNode } from './query-line.ts';
import { createFileStore } from './search-files.ts';
import { createIndexStore } from './search-index.ts';

const HOUR_MS = 3_600_000;
const MAX_RANGE_DAYS = 31;
const MAX_RANGE_MS = MAX_RANGE_DAYS * 24 * HOUR_MS;
const MAX_SIZE = 200;
const DEFAULT_SIZE = 50;
const MAX_AT_ONCE = 4;
const MAX_NAME = 256;
const MAX_LEVELS = 20;
const MAX_ID = 512;
/** Nothing else of what the server has is shown. */
const PREFIXES = [INDEX_PREFIX, REPLAY_PREFIX];
const INDEX_NAME = /^[a-z0-9][a-z0-9._-]{0,254}$/;

interface SearchOptions {
  readonly sinks: Pick<SinksConfig, 'elasticsearch' | 'ndjson'>;
  readonly elasticsearch: ElasticsearchConfig;
}

interface SearchDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
}

/** The part, and how to close what it has opened. */
export function createSearch(options: SearchOptions, deps: SearchDeps): { routes: ApiPart; close(): Promise<void> } {
  const store = storeFor(options, deps);
  const { clock } = deps;
  let underWay = 0;

  /** @throws Refusal */
  function present(): LogStore {
    if (store !== undefined) return store;
    throw new Refusal(404, 'there is nothing to search: neither sinks.elasticsearch nor sinks.ndjson.enabled is set');
  }

  /** One of a few at a time, for as long as somebody waits for it. */
  async function bounded<T>(c: Ask, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (underWay >= MAX_AT_ONCE) {
      throw new Refusal(429, `${MAX_AT_ONCE} searches are under way; try again in a moment`, { 'retry-after': '1' });
    }
    const gone = new AbortController();
    const { outgoing } = c.env;
    const leave = () => gone.abort();
    outgoing.once('close', leave);
    underWay += 1;
    try {
      return await work(gone.signal);
    } finally {
      underWay -= 1;
      outgoing.off('close', leave);
    }
  }

  const routes: ApiPart = (app, guard) => {
    app.get('/api/v1/search', async (c) => {
      guard.permit(c.env.incoming, 'read');
      const from = present();
      const { source } = from;
      const { node, order, size, after } = askedFor(c, from, clock.now());
      const range = limited(after ?? rangeOf(c, clock.now()));
      const query: LogQuery = { fromMs: range.fromMs, toMs: range.toMs, node };
      const { next, ...found } = await bounded(c, (signal) =>
        from.search(query, { order, size, after: after?.place }, signal),
      );
      const answer: SearchAnswer = {
        source,
        ...found,
        after: next === undefined ? null : writeCursor(source, { ...query, order, place: next }),
      };
      return reply(c, answer);
    });

    app.get('/api/v1/charts', async (c) => {
      guard.permit(c.env.incoming, 'read');
      const from = present();
      const { node } = askedFor(c, from, clock.now());
      const query: LogQuery = { ...limited(rangeOf(c, clock.now())), node };
      return reply(c, await bounded(c, (signal) => from.charts(query, signal)));
    });

    app.get('/api/v1/events/:index/:id', async (c) => {
      guard.permit(c.env.incoming, 'read');
      const from = present();
      const { index, id } = c.req.param();
      if (!INDEX_NAME.test(index) || !PREFIXES.some((prefix) => index.startsWith(prefix))) {
        throw new Refusal(404, `there are events in ${INDEX_PREFIX}* and ${REPLAY_PREFIX}* only`);
      }
      // These two would make another path of it.
      if (id.length > MAX_ID || id === '.' || id === '..' || !isText(id)) {
        throw new Refusal(400, `the event's id is not one: ${MAX_ID} characters at most`);
      }
      const document = await bounded(c, (signal) => from.event(index, id, signal));
      if (document === undefined) throw new Refusal(404, 'there is no such event; its day may have been deleted');
      // Numbers stay as they were logged, which c.json() does not know.
      return c.body(writeJson({ index, id, document }), 200, { ...NOT_KEPT, 'content-type': 'application/json' });
    });
  };

  return {
    routes,
    async close() {
      await store?.close();
    },
  };
}

function storeFor({ sinks, elasticsearch }: SearchOptions, deps: SearchDeps): LogStore | undefined {
  if (sinks.elasticsearch) return createIndexStore(elasticsearch, deps);
  return sinks.ndjson.enabled ? createFileStore({ dir: sinks.ndjson.dir }, deps) : undefined;
}

// ---- parameters ----

/** @throws Refusal 400 */
function askedFor(c: Ask, store: LogStore, nowMs: number) {
  const after = one(c, 'after');
  const cursor = after === undefined ? undefined : readCursor(after, store);
  const order = orderOf(c) ?? cursor?.order ?? 'desc';
  if (cursor !== undefined && cursor.order !== order) {
    throw new Refusal(400, 'after: is of a search in the other order; leave it out to begin anew');
  }
  return { node: all([...filters(c), lineOf(c, nowMs)]), order, size: sizeOf(c), after: cursor };
}

function one(c: Ask, name: string): string | undefined {
  const values = c.req.queries(name) ?? [];
  if (values.length > 1) throw new Refusal(400, `${name}: given ${values.length} times; give it once`);
  return values[0] === '' ? undefined : values[0];
}

function orderOf(c: Ask): Order | undefined {
  const order = one(c, 'order');
  if (order === undefined || order === 'asc' || order === 'desc') return order;
  throw new Refusal(400, `order: found "${shown(order)}"; permitted: asc, desc`);
}

function sizeOf(c: Ask): number {
  const text = one(c, 'size') ?? String(DEFAULT_SIZE);
  const size = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (size >= 1 && size <= MAX_SIZE) return size;
  throw new Refusal(400, `size: found "${shown(text)}"; permitted: 1 to ${MAX_SIZE}`);
}

function lineOf(c: Ask, nowMs: number): QueryNode {
  try {
    return parseQueryLine(one(c, 'q') ?? '', nowMs);
  } catch (error) {
    throw error instanceof QueryLineError ? new Refusal(400, `q: ${error.message}`) : error;
  }
}

function filters(c: Ask): QueryNode[] {
  const levels = (c.req.queries('level') ?? []).flatMap((text) => text.split(',')).filter((level) => level !== '');
  if (levels.length > MAX_LEVELS) throw new Refusal(400, `level: ${levels.length} levels; permitted: ${MAX_LEVELS}`);
  const nodes: QueryNode[] = levels.length === 0 ? [] : [any(levels.map((level) => isNode('level', level)))];
  for (const field of ['environment', 'service']) {
    const value = one(c, field);
    if (value !== undefined) nodes.push(isNode(field, value));
  }
  return nodes;
}

function isNode(field: string, text: string): QueryNode {
  if (text.length > MAX_NAME) throw new Refusal(400, `${field}: longer than ${MAX_NAME} characters`);
  return { kind: 'is', field, text };
}

function any(parts: readonly QueryNode[]): QueryNode {
  return parts.length === 1 ? parts[0]! : { kind: 'or', parts };
}

function all(parts: readonly QueryNode[]): QueryNode {
  const kept = parts.filter(({ kind }) => kind !== 'all');
  if (kept.length === 0) return { kind: 'all' };
  return kept.length === 1 ? kept[0]! : { kind: 'and', parts: kept };
}

/** @throws Refusal 400 */
function rangeOf(c: Ask, nowMs: number): { fromMs: number; toMs: number } {
  const toMs = timeOf(c, 'to', nowMs) ?? nowMs;
  const fromMs = timeOf(c, 'from', nowMs) ?? toMs - HOUR_MS;
  if (fromMs >= toMs) throw new Refusal(400, 'from, to: from has to be earlier than to');
  return { fromMs, toMs };
}

/** @throws Refusal 400 */
function limited<T extends { readonly fromMs: number; readonly toMs: number }>(range: T): T {
  if (range.toMs - range.fromMs <= MAX_RANGE_MS) return range;
  throw new Refusal(400, `from, to: more than ${MAX_RANGE_DAYS} days; search a shorter stretch`);
}

function timeOf(c: Ask, name: 'from' | 'to', nowMs: number): number | undefined {
  const text = one(c, name);
  if (text === undefined) return undefined;
  try {
    return parseTime(text.slice(0, MAX_NAME).replace(/^now(?=-)/, ''), { place: name, now: nowMs });
  } catch (error) {
    if (!(error instanceof LogpipeError)) throw error;
    throw new Refusal(
      400,
      `${name}: found "${shown(text)}"; permitted: now, now-30m, -2h, or ISO 8601 like 2026-01-31T08:00:00Z`,
    );
  }
}

/** Lone surrogates cannot be sent. */
function isText(text: string): boolean {
  return text !== '' && !/[\p{Cs}\p{Cc}]/u.test(text);
}
