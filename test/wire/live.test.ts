// What open pages are told, over real sockets: the same bytes for all of them, however many; who does not read is dropped, and the others go on;
// who may not read any more is ended.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { signPass } from '../../src/ops/access.ts';
import { createLive, type Live, type Stream } from '../../src/ops/live.ts';
import { createLiveTail, type Indexed } from '../../src/ops/live-tail.ts';
import type { Tick } from '../../src/ops/page-data.ts';
import { createFakeClock, type FakeClock } from '../kit/fake-clock.ts';
import { servePage } from '../kit/page-server.ts';

const SECRET = 'the-secret-that-signs-pages-0123456789';
const PUBLIC = 'https://logs.example.org';
const SECOND = 1_000;

const TICK: Tick = {
  ...{ at: '2026-11-29T10:00:00.000Z', version: '1', roles: ['indexer'], uptimeSeconds: 1, ready: true },
  ...{ figures: [], flow: { stages: [], dependencies: [] }, alerts: null },
};

interface Options {
  readonly indexes?: boolean;
  readonly clock?: Clock;
  readonly tick?: () => Tick;
}

async function serve({ indexes = true, clock = createFakeClock(), tick = () => TICK }: Options = {}) {
  let ticks = 0;
  let offer: ((batch: Indexed) => void) | undefined;
  const metrics = createMetrics();
  const tail = createLiveTail(
    (next) => {
      offer = next;
    },
    { clock },
  );
  const counted = () => {
    ticks += 1;
    return tick();
  };
  let live: Live | undefined;
  const server = await servePage({
    ...{ access: { publicUrl: PUBLIC, linkSecrets: [SECRET] }, folder: undefined, clock, metrics },
    parts({ log }) {
      live = createLive({ clock, log, metrics, tick: counted, tail: indexes ? tail : undefined });
      return [live.routes];
    },
  });
  onTestFinished(() => live!.close());
  return {
    ...server,
    clock: clock as FakeClock,
    live: live!,
    ticks: () => ticks,
    isWatched: () => offer !== undefined,
    offer(...documents: readonly object[]) {
      const bytes = documents.map((one) => Buffer.from(JSON.stringify(one)));
      offer?.({
        count: bytes.length,
        document: (i) => bytes[i]!,
        action: (i) => ({ index: 'calling-platform-2026.11.29', id: `id${i}` }),
      });
    },
    open: (query = '', headers = {}) => openPage(server.port, query, headers),
    async metric(name: string) {
      const text = await metrics.registry.getSingleMetricAsString(`logpipe_${name}`);
      return Number(/^\w+ (\d+)$/m.exec(text)?.[1]);
    },
  };
}

interface OpenPage {
  readonly response: IncomingMessage;
  readonly bytes: () => string;
  readonly isOver: () => boolean;
  /** Of these events, the data so far. */
  events(name: string): Record<string, unknown>[];
  /** Waits for so many of them. */
  until(name: string, count: number): Promise<Record<string, unknown>[]>;
  leave(): void;
}

async function openPage(port: number, query: string, headers: object): Promise<OpenPage> {
  const path = `/api/v1/live${query}`;
  const asked = request({ host: '127.0.0.1', port, path, headers: { host: 'localhost', ...headers }, agent: false });
  asked.on('error', () => {});
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  let text = '';
  let over = false;
  response.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  response.on('error', () => {});
  response.on('close', () => {
    over = true;
  });
  onTestFinished(() => void response.destroy());
  const events = (name: string) =>
    text
      .split('\n\n')
      .slice(0, -1)
      .flatMap((event) => {
        const [head, data] = event.split('\n');
        return head === `event: ${name}` ? [JSON.parse(data!.slice('data: '.length)) as Record<string, unknown>] : [];
      });
  return {
    ...{ response, events, bytes: () => text, isOver: () => over, leave: () => void response.destroy() },
    async until(name, count) {
      await expect.poll(() => events(name).length, { interval: 5 }).toBeGreaterThanOrEqual(count);
      return events(name);
    },
  };
}

test('a tick at once, and one each second; none while no page is open', async () => {
  const s = await serve();
  expect([s.clock.timers(), s.ticks()]).toEqual([0, 0]);
  const page = await s.open();
  expect(page.response.statusCode).toBe(200);
  expect(page.response.headers).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
    'x-content-type-options': 'nosniff',
    connection: 'close',
  });
  expect(page.response.headers).not.toHaveProperty('transfer-encoding');
  expect(await page.until('tick', 1)).toEqual([TICK]);
  for (let i = 2; i <= 5; i++) {
    await s.clock.advance(SECOND);
    await page.until('tick', i);
  }
  expect([s.ticks(), await s.metric('pages')]).toEqual([5, 1]);
  page.leave();
  await expect.poll(s.clock.timers).toBe(0);
  await s.clock.advance(10 * SECOND);
  expect([s.ticks(), await s.metric('pages'), await s.metric('pages_dropped_total')]).toEqual([5, 0, 0]);
  // The next one has figures of its own time.
  await (await s.open()).until('tick', 1);
  expect(s.ticks()).toBe(6);
  const head = await s.ask('HEAD', '/api/v1/live?tail=1', { host: 'localhost' });
  expect([head.status, head.headers['content-type'], await s.metric('pages')]).toEqual([
    ...[200, 'text/event-stream; charset=utf-8', 1],
  ]);
});

test('two hundred pages are told the same, put together once', async () => {
  const s = await serve();
  const pages = await Promise.all(Array.from({ length: 200 }, (_, i) => s.open(i % 2 === 0 ? '?tail=1' : '')));
  await Promise.all(pages.map((page) => page.until('tick', 1)));
  expect(s.ticks()).toBe(1);
  const stringify = vi.spyOn(JSON, 'stringify');
  s.offer({ '@timestamp': TICK.at, level: 'info', message: 'hello' });
  stringify.mockClear();
  await s.clock.advance(SECOND);
  const made = stringify.mock.calls.length;
  stringify.mockRestore();
  expect(made).toBe(2);
  await Promise.all(pages.map((page) => page.until('tick', 2)));
  await Promise.all(pages.map((page, i) => page.until('lines', i % 2 === 0 ? 1 : 0)));
  expect(s.ticks()).toBe(2);
  expect(new Set(pages.map((page) => page.bytes())).size).toBe(2);
  expect(await s.metric('pages')).toBe(200);
});

test('lines are those of each page’s filter, and nothing of them breaks the stream', async () => {
  const s = await serve();
  expect(s.isWatched()).toBe(false);
  const all = await s.open('?tail=1');
  const errors = await s.open('?tail=1&level=error,fatal&level=warn');
  const text = await s.open(`?tail=1&text=${encodeURIComponent('</script>')}&service=api&environment=production`);
  const none = await s.open('?tail=0&level=error');
  const plain = await s.open();
  const hostile = `a\n\nevent: tick\ndata: {"at":1}\r\n\u2028\u0000</script><img src=x onerror=alert(1)>`;
  s.offer(
    { level: 'info', message: 'quiet' },
    { level: 'error', tags: ['error'], service: 'api', environment: 'production', message: hostile },
  );
  await s.clock.advance(SECOND);
  const [given] = await all.until('lines', 1);
  expect(given).toMatchObject({ passed: 2, looked: 2, matched: 2 });
  const messages = (page: OpenPage) =>
    page.events('lines').flatMap(({ lines }) => (lines as { message: string }[]).map(({ message }) => message));
  const shown = hostile
    .replaceAll('\n', '\\n')
    .replace('\r', '\\r')
    .replace('\u2028', '\\u2028')
    .replace('\u0000', '\\u0000');
  expect(messages(all)).toEqual(['quiet', shown]);
  await errors.until('lines', 1);
  await text.until('lines', 1);
  expect([messages(errors), messages(text)]).toEqual([[shown], [shown]]);
  await none.until('tick', 2);
  await plain.until('tick', 2);
  expect([none.events('lines'), plain.events('lines'), all.events('tick')]).toEqual([[], [], [TICK, TICK]]);
  for (const page of [all, errors, text]) page.leave();
  await expect.poll(s.isWatched).toBe(false);
});

test('lines come four times a second at most, and once while many read them', async () => {
  const s = await serve();
  const first = await s.open('?tail=1');
  await s.clock.advance(SECOND);
  const secondOf = async (page: OpenPage) => {
    const before = page.events('lines').length;
    for (let i = 0; i < 20; i++) {
      s.offer({ level: 'info', message: `m${i}` });
      await s.clock.advance(SECOND / 20);
    }
    const ticks = page.events('tick').length;
    await s.clock.advance(SECOND);
    await page.until('tick', ticks + 1);
    return page.events('lines').length - before;
  };
  expect(await secondOf(first)).toBeLessThanOrEqual(5);
  expect(first.events('lines').length).toBeGreaterThanOrEqual(4);
  const more = await Promise.all(Array.from({ length: 100 }, () => s.open('?tail=1&text=m')));
  expect(await secondOf(more[0]!)).toBeLessThanOrEqual(2);
});

test('where nothing is indexed, a page is told who has the lines', async () => {
  const s = await serve({ indexes: false });
  const page = await s.open('?tail=1');
  const [away] = await page.until('away', 1);
  expect(away!.tail).toMatch(/not indexed by this process/);
  expect((await (await s.open()).until('tick', 1)).length).toBe(1);
});

test('parameters that are none are refused, and so is whoever may not read', async () => {
  const s = await serve();
  const ask = async (query: string, headers = {}) => {
    const { status, json } = await s.ask('GET', `/api/v1/live${query}`, { host: 'localhost', ...headers });
    return [status, json.detail];
  };
  expect(await ask('?tail=2')).toEqual([400, 'tail: permitted: 0, 1']);
  expect(await ask('?tail=1&q=x')).toEqual([400, 'q: unknown']);
  expect(await ask('?tail=1&text=a&text=b')).toEqual([400, 'text: given twice']);
  expect(await ask(`?tail=1&service=${'x'.repeat(201)}`)).toEqual([400, 'service: longer than 200 characters']);
  expect((await ask(`?tail=1&level=${'a,'.repeat(11)}`))[0]).toBe(400);
  expect((await ask('', { host: 'logs.example.org' }))[0]).toBe(401);
  expect((await ask('', { origin: 'https://evil.example' }))[0]).toBe(403);
  expect((await ask('', { 'x-forwarded-for': '10.0.0.1' }))[0]).toBe(401);
  expect([s.ticks(), s.clock.timers()]).toEqual([0, 0]);
});

test('a page ends with its session', async () => {
  const s = await serve();
  const { token } = signPass('session', SECRET, { scopes: ['read'], nowMs: s.clock.now() });
  const page = await s.open('?tail=1', { host: 'logs.example.org', authorization: `Bearer ${token}` });
  const other = await s.open();
  await page.until('tick', 1);
  s.clock.setWall(s.clock.now() + 12 * 3_600 * SECOND - 2 * SECOND);
  await s.clock.advance(SECOND);
  await page.until('tick', 2);
  expect(page.isOver()).toBe(false);
  await s.clock.advance(SECOND);
  await expect.poll(page.isOver).toBe(true);
  expect(page.response.complete).toBe(true);
  expect([other.isOver(), await s.metric('pages')]).toEqual([false, 1]);
});

test('so many pages, and so many filters, and no more', async () => {
  const s = await serve();
  const streams = Array.from({ length: 480 }, () => idleStream());
  for (const stream of streams) s.live.open(stream, undefined);
  const watching = await Promise.all(Array.from({ length: 20 }, (_, i) => s.open(`?tail=1&text=t${i}`)));
  const full = await s.ask('GET', '/api/v1/live', { host: 'localhost' });
  expect([full.status, full.headers['retry-after'], full.json.detail]).toEqual([
    503,
    '30',
    '500 pages are open here already',
  ]);
  streams[0]!.emit('close');
  const other = await s.ask('GET', '/api/v1/live?tail=1&text=t20', { host: 'localhost' });
  expect([other.status, other.json.detail]).toEqual([503, expect.stringMatching(/^20 different filters/)]);
  // One of those that are watched is no other one.
  const same = await s.open('?level=&text=t7&tail=1');
  expect(same.response.statusCode).toBe(200);
  for (const page of [...watching, same]) page.leave();
  await expect.poll(() => s.metric('pages')).toBe(479);
  // Their filters are free again.
  for (let i = 20; i < 40; i++) expect((await s.open(`?tail=1&text=t${i}`)).response.statusCode).toBe(200);
});

test('figures that cannot be put together end no page', async () => {
  let fails = false;
  const s = await serve({
    tick: () => {
      if (fails) throw new Error('no figures');
      return TICK;
    },
  });
  const page = await s.open();
  fails = true;
  for (let i = 0; i < 5; i++) await s.clock.advance(SECOND);
  fails = false;
  await s.clock.advance(SECOND);
  await page.until('tick', 2);
  expect(page.bytes()).toContain(': no figures\n\n');
  expect(s.logged).toEqual(['The pages’ figures could not be put together {"reason":"no figures"}']);
});

test('a page that does not read is dropped and counted, and the others go on', async () => {
  // More than the kernel takes for a connection, soon.
  const large = { ...TICK, roles: ['x'.repeat(400_000)] };
  const s = await serve({ tick: () => large });
  const socket = connect(s.port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.pause();
  socket.write('GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await expect.poll(() => s.metric('pages')).toBe(1);
  const page = await s.open();
  let ticks = 1;
  while ((await s.metric('pages_dropped_total')) === 0) {
    await s.clock.advance(SECOND);
    ticks += 1;
    await page.until('tick', ticks);
    expect(ticks).toBeLessThan(100);
  }
  expect([await s.metric('pages'), await s.metric('pages_dropped_total')]).toEqual([1, 1]);
  await s.clock.advance(SECOND);
  await page.until('tick', ticks + 1);
  expect(page.isOver()).toBe(false);
});

test('what waits for ten seconds is too long, and more than 256 KiB is too much', async () => {
  const s = await serve();
  const stalled = idleStream();
  const slow = idleStream();
  for (const stream of [stalled, slow]) s.live.open(stream, undefined);
  stalled.writableLength = 10;
  for (let i = 0; i < 12; i++) {
    slow.writableLength = i % 5 === 0 ? 0 : 1_000;
    if (i === 10) expect(stalled.destroyed).toBe(false);
    await s.clock.advance(SECOND);
  }
  expect([stalled.destroyed, slow.destroyed]).toEqual([true, false]);
  expect(await s.metric('pages_dropped_total')).toBe(1);
  // More than may wait is too much at once.
  const full = idleStream();
  s.live.open(full, undefined);
  full.writableLength = 256 * 1024;
  await s.clock.advance(SECOND);
  expect(full.destroyed).toBe(false);
  full.writableLength += 1;
  await s.clock.advance(SECOND);
  expect([full.destroyed, await s.metric('pages_dropped_total')]).toEqual([true, 2]);
  // One that was gone before anybody listened to it.
  slow.writableLength = 0;
  slow.destroyed = true;
  await s.clock.advance(SECOND);
  expect([await s.metric('pages'), await s.metric('pages_dropped_total'), s.clock.timers()]).toEqual([0, 2, 0]);
});

test('when logpipe stops, pages end at once and in order', async () => {
  const s = await serve({ clock: systemClock });
  const pages = await Promise.all(Array.from({ length: 20 }, (_, i) => s.open(i % 2 === 0 ? '?tail=1' : '')));
  await Promise.all(pages.map((page) => page.until('tick', 1)));
  s.live.close();
  await expect.poll(() => pages.every((page) => page.isOver() && page.response.complete)).toBe(true);
  expect((await s.ask('GET', '/api/v1/live', { host: 'localhost' })).status).toBe(503);
  expect([s.isWatched(), await s.metric('pages')]).toEqual([false, 0]);
  await s.close();
});

test('after ten thousand ticks the heap is what it was after a thousand', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const s = await serve();
  for (let i = 0; i < 50; i++) {
    const filter = { level: [], environment: null, service: null, text: i % 3 === 0 ? 'm' : null };
    s.live.open(idleStream(), i % 2 === 0 ? filter : undefined);
  }
  const run = async (ticks: number) => {
    for (let i = 0; i < ticks; i++) {
      s.offer({ level: 'info', message: `m${i}`.repeat(20) }, { tags: ['error'], message: 'x'.repeat(400) });
      await s.clock.advance(SECOND);
      // Pages come and go.
      const passing = idleStream();
      s.live.open(passing, undefined);
      passing.emit('close');
    }
    for (let i = 0; i < 3; i++) collect();
    return process.memoryUsage().heapUsed;
  };
  const early = await run(1_000);
  const late = await run(9_000);
  console.info(`heap after 1,000 ticks ${early}, after 10,000 ${late}`);
  expect(s.ticks()).toBeGreaterThanOrEqual(10_000);
  expect(late).toBeLessThan(early * 1.1);
});

/** A page that takes everything, or what the test says. */
function idleStream() {
  const listeners = new Map<string, () => void>();
  const stream = {
    writableLength: 0,
    write: () => true,
    end: () => stream,
    destroyed: false,
    destroy() {
      stream.destroyed = true;
      return stream;
    },
    once(name: string, listener: () => void) {
      listeners.set(name, listener);
      return stream;
    },
    emit: (name: string) => listeners.get(name)?.(),
  };
  return stream as typeof stream & Stream;
}
