// GET /api/v1/live: what pages see while they are open, as server-sent events. In: a tick once a second, and lines of the tail. Out: the same
// bytes for every page. Guarantee: nothing is done while no page is open; each tick is serialised once, and the lines of a filter once,
// whoever watches; a page that does not take its bytes is dropped and counted, and delays no other; pages, filters and what waits for a page
// are bounded; a page ends with its session.
import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Clock, createThrottle } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { ApiPart } from './guard.ts';
import type { LiveTail, TailWatch } from './live-tail.ts';
import type { Away, LogFilter, Tick } from './page-data.ts';
import { NOT_KEPT, Refusal, shown } from './requests.ts';

const TICK_MS = 1_000;
/** Lines come four times a second, while there are few that read them: each write costs a system call, and each line its bytes. */
const TAIL_BEATS = 4;
const FEW_PAGES = 50;
const MANY_PAGES = 100;
const LINES = { toFew: 50, toMore: 25, toMany: 10 } as const;

const MAX_PAGES = 500;
const MAX_FILTERS = 20;
/** What may wait for a page beyond what the kernel has taken, ... */
const MAX_WAITING = 256 * 1024;
/** ... and for how long. */
const MAX_WAITING_MS = 10_000;

const AWAY: Away = {
  tail: 'logs are not indexed by this process, so it has none to show; open the page of one with the role indexer',
};

/** Where a page's bytes go. */
export type Stream = Pick<ServerResponse, 'write' | 'end' | 'destroy' | 'destroyed' | 'writableLength' | 'once'>;

export interface Live {
  readonly routes: ApiPart;
  /**
   * Everything from the first tick on.
   * @param filter undefined: without lines
   * @param expiresMs when its session ends, by the wall clock
   */
  open(stream: Stream, filter: LogFilter | undefined, expiresMs?: number): void;
  /** Ends all pages. */
  close(): void;
}

interface LiveDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'pages' | 'pagesDropped'>;
  readonly tick: () => Tick;
  /** Undefined where nothing is indexed. */
  readonly tail: LiveTail | undefined;
}

/** Pages with the same filter. */
interface Group {
  readonly key: string;
  readonly watch: TailWatch;
  readonly pages: Set<Page>;
  /** What all of them are sent in this beat. */
  bytes: Buffer | undefined;
}

interface Page {
  readonly stream: Stream;
  readonly group: Group | undefined;
  /** When its session ends, by the wall clock and by the monotonic one, because the former may be set back. */
  readonly expiresMs: number;
  readonly endsMs: number;
  /** When it had last taken everything. */
  emptyMs: number;
}

export function createLive({ clock, log, metrics, tick, tail }: LiveDeps): Live {
  const pages = new Set<Page>();
  const groups = new Map<string, Group>();
  const maySay = createThrottle(clock.monotonicMs);
  let tailing = 0;
  let beats = 0;
  let cancel: (() => void) | undefined;
  let newest: { readonly atMs: number; readonly bytes: Buffer } | undefined;
  let closed = false;

  // ---- what is sent ----

  function tickBytes(): Buffer {
    const atMs = clock.monotonicMs();
    newest = { atMs, bytes: made() };
    return newest.bytes;
  }

  function made(): Buffer {
    try {
      return eventOf('tick', tick());
    } catch (error) {
      const reason = errorText(error);
      if (maySay(reason)) log.error('The pages’ figures could not be put together', { reason });
      // Pages learn that the connection stands.
      return Buffer.from(': no figures\n\n');
    }
  }

  function beat(): void {
    beats = tailing === 0 ? 0 : (beats + 1) % TAIL_BEATS;
    const [every, most] =
      tailing <= FEW_PAGES ? [1, LINES.toFew] : tailing <= MANY_PAGES ? [2, LINES.toMore] : [TAIL_BEATS, LINES.toMany];
    const bytes = beats === 0 ? tickBytes() : undefined;
    for (const group of groups.values()) {
      const lines = beats % every === 0 ? group.watch.take(most) : undefined;
      group.bytes = joined(bytes, lines === undefined ? undefined : eventOf('lines', lines));
    }
    for (const page of pages) give(page, page.group === undefined ? bytes : page.group.bytes);
    arm();
  }

  function arm(): void {
    cancel = pages.size === 0 ? undefined : clock.after(tailing === 0 ? TICK_MS : TICK_MS / TAIL_BEATS, beat);
  }

  function give(page: Page, bytes: Buffer | undefined): void {
    const { stream } = page;
    const nowMs = clock.monotonicMs();
    if (stream.writableLength === 0) page.emptyMs = nowMs;
    // It may have gone before it was listened to.
    if (stream.destroyed) leave(page);
    else if (stream.writableLength > MAX_WAITING || nowMs - page.emptyMs > MAX_WAITING_MS) {
      metrics.pagesDropped.inc();
      log.debug('A page did not take what it was sent, and was dropped', { bytes: stream.writableLength });
      leave(page);
      stream.destroy();
    } else if (clock.now() >= page.expiresMs || nowMs >= page.endsMs) finish(page);
    else if (bytes !== undefined) stream.write(bytes);
  }

  // ---- pages come and go ----

  /** @throws Refusal 503 */
  function join(filter: LogFilter | undefined): Group | undefined {
    if (closed) throw new Refusal(503, 'logpipe is stopping', { 'retry-after': '5' });
    if (pages.size >= MAX_PAGES) {
      throw new Refusal(503, `${MAX_PAGES} pages are open here already`, { 'retry-after': '30' });
    }
    if (filter === undefined || tail === undefined) return undefined;
    const key = JSON.stringify([filter.level, filter.environment, filter.service, filter.text]);
    const known = groups.get(key);
    if (known !== undefined) return known;
    if (groups.size >= MAX_FILTERS) {
      throw new Refusal(503, `${MAX_FILTERS} different filters are being watched here already; take one of fewer`, {
        'retry-after': '30',
      });
    }
    const group: Group = { key, watch: tail.watch(filter), pages: new Set(), bytes: undefined };
    groups.set(key, group);
    return group;
  }

  function add(stream: Stream, group: Group | undefined, filter: LogFilter | undefined, expiresMs: number): void {
    const nowMs = clock.monotonicMs();
    const page: Page = { stream, group, expiresMs, endsMs: nowMs + expiresMs - clock.now(), emptyMs: nowMs };
    pages.add(page);
    group?.pages.add(page);
    if (group !== undefined) tailing += 1;
    metrics.pages.set(pages.size);
    stream.once('close', () => leave(page));
    stream.once('error', () => leave(page));
    const isFresh = newest !== undefined && clock.monotonicMs() - newest.atMs < TICK_MS;
    stream.write(isFresh ? newest!.bytes : tickBytes());
    if (filter !== undefined && group === undefined) stream.write(eventOf('away', AWAY));
    if (cancel === undefined) arm();
  }

  function leave(page: Page): void {
    if (!pages.delete(page)) return;
    metrics.pages.set(pages.size);
    const { group } = page;
    if (group !== undefined) {
      tailing -= 1;
      group.pages.delete(page);
      if (group.pages.size === 0) {
        group.watch.close();
        groups.delete(group.key);
      }
    }
    if (pages.size > 0) return;
    cancel?.();
    cancel = undefined;
    newest = undefined;
  }

  function finish(page: Page): void {
    leave(page);
    page.stream.end();
    // Whoever takes nothing would keep the connection.
    clock.after(MAX_WAITING_MS, () => page.stream.destroy());
  }

  function open(stream: Stream, filter: LogFilter | undefined, expiresMs = Number.POSITIVE_INFINITY): void {
    add(stream, join(filter), filter, expiresMs);
  }

  return {
    routes(app, { permit }) {
      app.get('/api/v1/live', (c) => {
        const holder = permit(c.env.incoming, 'read');
        const filter = filterOf(new URL(c.req.url).searchParams);
        if (c.req.method === 'HEAD') return new Response(null, { headers: HEADERS });
        const group = join(filter);
        const response = c.env.outgoing as ServerResponse;
        // It ends with the connection: chunks would cost four buffers for each write, which is half of a page's share.
        response.removeHeader('transfer-encoding');
        response.writeHead(200, HEADERS);
        add(response, group, filter, holder?.expiresMs ?? Number.POSITIVE_INFINITY);
        return RESPONSE_ALREADY_SENT;
      });
    },
    open,
    close() {
      closed = true;
      for (const page of [...pages]) finish(page);
    },
  };
}

const HEADERS = {
  ...NOT_KEPT,
  'content-type': 'text/event-stream; charset=utf-8',
  connection: 'close',
  // nginx would collect what comes.
  'x-accel-buffering': 'no',
} as const;

function eventOf(name: string, data: object): Buffer {
  return Buffer.from(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

function joined(one: Buffer | undefined, other: Buffer | undefined): Buffer | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Buffer.concat([one, other]);
}

// ---- what a page asks for ----

const FILTER_KEYS = ['environment', 'service', 'text'] as const;
const MAX_LEVELS = 10;
const MAX_VALUE = 200;

/** Undefined: no lines. @throws Refusal 400 */
function filterOf(query: URLSearchParams): LogFilter | undefined {
  for (const name of query.keys()) {
    if (!['tail', 'level', ...FILTER_KEYS].includes(name)) throw new Refusal(400, `${shown(name)}: unknown`);
  }
  const value = (name: string): string | null => {
    const [first = '', ...more] = query.getAll(name);
    if (more.length > 0) throw new Refusal(400, `${name}: given twice`);
    if (first.length > MAX_VALUE) throw new Refusal(400, `${name}: longer than ${MAX_VALUE} characters`);
    return first === '' ? null : first;
  };
  const tail = value('tail');
  if (tail !== null && tail !== '0' && tail !== '1') throw new Refusal(400, 'tail: permitted: 0, 1');
  // Repeated, or with commas.
  const levels = query.getAll('level').flatMap((text) => text.split(',', MAX_LEVELS + 1));
  if (levels.length > MAX_LEVELS || levels.some((level) => level.length > MAX_VALUE)) {
    throw new Refusal(400, `level: at most ${MAX_LEVELS}, each of at most ${MAX_VALUE} characters`);
  }
  const level = [...new Set(levels.filter((one) => one !== ''))].sort();
  const filter = { level, environment: value('environment'), service: value('service'), text: value('text') };
  return tail === '1' ? filter : undefined;
}
