// The page's search at a listening server that plays Elasticsearch: exactly what it is asked, and what becomes of answers that are late,
// partial, refused, cut off, too long or somebody else's. What a real one says is in test/integration/search.test.ts.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Clock, deferred, systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { serveSearch } from '../kit/search-server.ts';

const NOW = Date.parse('2026-11-29T12:00:00.000Z');
const SHARDS = { total: 1, successful: 1, skipped: 0, failed: 0 };
const HIT = {
  _index: 'calling-platform-2026.11.29',
  _id: 'a',
  _source: { '@timestamp': '2026-11-29T11:59:00.000Z', message: 'hello', level: 'info' },
  sort: ['1796212740000', 0, 7, 3],
};
const EMPTY = { _shards: SHARDS, timed_out: false, hits: { total: { value: 0, relation: 'eq' } } };
const ONE = { ...EMPTY, hits: { total: { value: 1, relation: 'eq' }, hits: [HIT] } };

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: Record<string, string>;
  readonly body: Record<string, unknown>;
}
type Behaviour = (asked: Asked, response: ServerResponse, request: IncomingMessage) => void;

function json(response: ServerResponse, value: unknown, status = 200, product = 'Elasticsearch'): void {
  response.writeHead(status, { 'content-type': 'application/json', 'x-elastic-product': product });
  response.end(typeof value === 'string' ? value : JSON.stringify(value));
}

async function rig(behave: Behaviour = (_, response) => json(response, EMPTY), clock: Partial<Clock> = {}) {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const { pathname, searchParams } = new URL(request.url ?? '', 'http://x');
      const text = Buffer.concat(parts).toString();
      asked.push({
        method: request.method ?? '',
        path: pathname,
        query: Object.fromEntries(searchParams),
        body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
      });
      behave(asked.at(-1)!, response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const logged: string[] = [];
  const log: Log = { ...silentLog, warn: (text, meta) => void logged.push(`${text} ${JSON.stringify(meta)}`) };
  const page = await serveSearch(
    {
      elasticsearch: {
        nodes: [`http://127.0.0.1:${port}`],
        username: 'logpipe',
        password: 'the-password-of-elasticsearch',
        requestTimeoutMs: 30_000,
        installTemplate: false,
      },
    },
    { clock: { ...systemClock, now: () => NOW, ...clock }, log },
  );
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(async () => {
    await page.close();
    await close();
  });
  return { page, asked, logged, port, close };
}

describe('what Elasticsearch is asked', () => {
  test('a search: the pattern, the stretch, the filters, and nothing of a text but as a value', async () => {
    const { page, asked } = await rig();
    const hostile = '"}},"script":{"source":"x"},"q":"';
    const { status } = await page.search({
      q: `message: "${hostile.replaceAll('"', '\\"')}" or http.status >= 500`,
      level: ['error', 'fatal'],
      service: hostile,
      environment: '*',
      size: '10',
      order: 'asc',
    });
    expect(status).toBe(200);
    const place = { order: 'asc', unmapped_type: 'long', missing: -1, numeric_type: 'long' };
    expect(asked).toEqual([
      {
        method: 'POST',
        path: '/calling-platform-*/_search',
        query: {
          ignore_unavailable: 'true',
          allow_no_indices: 'true',
          allow_partial_search_results: 'false',
          filter_path: expect.stringContaining('_shards.failed') as string,
        },
        body: {
          timeout: '10s',
          size: 11,
          track_total_hits: 10_000,
          _source: [
            ...['@timestamp', 'level', 'service', 'environment', 'event', 'callId', 'message', 'error.message', 'tags'],
          ],
          sort: [
            { '@timestamp': { order: 'asc', format: 'epoch_millis', numeric_type: 'date' } },
            { 'kafka.partition': place },
            { 'kafka.offset': place },
            { _seq_no: { order: 'asc' } },
          ],
          query: {
            bool: {
              filter: [
                { range: { '@timestamp': { gte: NOW - 3_600_000, lt: NOW, format: 'epoch_millis' } } },
                {
                  bool: {
                    filter: [
                      {
                        bool: {
                          should: [{ term: { level: { value: 'error' } } }, { term: { level: { value: 'fatal' } } }],
                          minimum_should_match: 1,
                        },
                      },
                      { term: { environment: { value: '*' } } },
                      { term: { service: { value: hostile } } },
                      {
                        bool: {
                          should: [
                            { match_phrase: { message: { query: hostile } } },
                            { range: { 'http.status': { gte: 500 } } },
                          ],
                          minimum_should_match: 1,
                        },
                      },
                    ],
                  },
                },
              ],
            },
          },
        },
      },
    ]);
  });

  test('the next page: the stretch of the first one, and the place of its last line', async () => {
    const second = { ...HIT, _id: 'b', sort: ['1796212730000', 0, 6, 2] };
    const { page, asked } = await rig((_, response) =>
      json(response, { ...EMPTY, hits: { total: { value: 10_000, relation: 'gte' }, hits: [HIT, second] } }),
    );
    const first = await page.search({ size: '1', from: 'now-2h', to: '-1h' });
    expect(first.json).toMatchObject({ total: 10_000, exact: false, lines: [{ id: 'a' }] });
    await page.search({ size: '1', after: first.json.after! });
    expect(asked[1]!.body.search_after).toEqual([1_796_212_740_000, 0, 7, 3]);
    expect(asked[1]!.body.query).toEqual(asked[0]!.body.query);
    expect(JSON.stringify(asked[1]!.body.query)).toContain(`"gte":${NOW - 7_200_000},"lt":${NOW - 3_600_000}`);
  });

  test('a page does not end between two lines of one place; if it has to, that is said', async () => {
    const hits = [1, 2, 3].map((n) => ({ ...HIT, _id: `h${n}`, sort: ['1796212740000', 0, 7, n === 1 ? 4 : 3] }));
    const { page } = await rig(({ body }, response) => {
      const shown = body.search_after === undefined ? hits : hits.slice(1);
      json(response, {
        ...EMPTY,
        hits: { total: { value: 3, relation: 'eq' }, hits: shown.slice(0, body.size as number) },
      });
    });
    const first = await page.search({ size: '2' });
    expect(first.json.lines.map(({ id }) => id)).toEqual(['h1']);
    const rest = await page.search({ size: '2', after: first.json.after! });
    expect(rest.json).toMatchObject({ lines: [{ id: 'h2' }, { id: 'h3' }], after: null, note: null });
    const narrow = await page.search({ size: '1', after: first.json.after! });
    expect(narrow.json.note).toMatch(/choose a larger size/);
  });

  test('one event: a path of its index and id alone', async () => {
    const id = 'a/../_search?q=%20#';
    const { page, asked } = await rig((_, response) => json(response, { ...HIT, _id: id, found: true }));
    expect((await page.event(HIT._index, id)).json.document).toEqual(HIT._source);
    expect(asked.map(({ method, path }) => [method, decodeURIComponent(path)])).toEqual([
      ['GET', `/${HIT._index}/_doc/${id}`],
    ]);
    expect(asked[0]!.path.split('/').length).toBe(4);
    for (const refused of ['..', '.', 'x'.repeat(513), 'a\u0000']) {
      const answer = await page.event(HIT._index, refused);
      // Addresses with dots alone are another path already in the client.
      expect([400, 404], refused).toContain(answer.status);
    }
    expect(asked.length).toBe(1);
  });
});

describe('what is refused before anybody is asked', () => {
  test.each<[Record<string, string | string[]>, RegExp]>([
    [{ from: 'yesterday' }, /^from: found "yesterday"; permitted: now, now-30m/],
    [{ to: '2026-02-30' }, /^to: found/],
    [{ from: 'now', to: '-1h' }, /earlier/],
    [{ from: '-32d' }, /more than 31 days/],
    [{ q: 'a b' }, /^q: column 3: /],
    [{ q: 'x'.repeat(2_201) }, /^q: column 2201: /],
    [{ size: '0' }, /^size: found "0"; permitted: 1 to 200/],
    [{ size: '201' }, /^size/],
    [{ size: '1e2' }, /^size/],
    [{ order: 'up' }, /^order: found "up"; permitted: asc, desc/],
    [{ service: 'x'.repeat(257) }, /^service: longer/],
    [{ level: Array.from({ length: 21 }, (_, n) => `l${n}`) }, /^level: 21 levels/],
    [{ q: ['a', 'b'] }, /^q: given 2 times/],
    [{ after: 'x' }, /^after: is not what a search has answered/],
    [{ after: cursor(['elasticsearch', 'desc', 0, 1, 1, 2, 3]) }, /^after/],
    [{ after: cursor(['files', 'desc', 0, 1, 1, 2, 3, 4]) }, /^after/],
    [{ after: cursor(['elasticsearch', 'desc', 0, 1, 1, 2, 3, { a: 1 }]) }, /^after/],
    [{ after: cursor(['elasticsearch', 'desc', 0, 1e15, 1, 2, 3, 4]) }, /31 days|^after/],
    [{ after: cursor(['elasticsearch', 'asc', 0, 1, 1, 2, 3, 4]), order: 'desc' }, /^after: .* other order/],
  ])('%j', async (parameters, words) => {
    const { page, asked } = await rig();
    const { status, json: said } = await page.search(parameters);
    expect([status, said.detail]).toEqual([400, expect.stringMatching(words)]);
    if (parameters.after === undefined && parameters.order === undefined && parameters.size === undefined) {
      expect((await page.charts(parameters)).status).toBe(400);
    }
    expect(asked).toEqual([]);
  });

  test('whoever may not read', async () => {
    const { page, asked } = await rig();
    for (const path of ['/api/v1/search', '/api/v1/charts', `/api/v1/events/${HIT._index}/a`]) {
      expect((await page.get(path, { 'x-forwarded-for': '10.0.0.1' })).status, path).toBe(401);
    }
    expect(asked).toEqual([]);
  });
});

function cursor(list: unknown[]): string {
  return Buffer.from(JSON.stringify(list)).toString('base64url');
}

describe('answers that are none', () => {
  const AWAY = /does not answer; the log of logpipe has more/;
  const PART = /answered the search in calling-platform-\* in part only/;
  const FOREIGN = /does not answer as Elasticsearch does/;
  test.each<[string, Behaviour, RegExp]>([
    [
      'cut off',
      (_, response) => {
        const head = {
          'content-type': 'application/json',
          'content-length': '100',
          'x-elastic-product': 'Elasticsearch',
        };
        response.writeHead(200, head).write('{"hits"', () => response.destroy());
      },
      AWAY,
    ],
    ['half a text', (_, response) => json(response, '{"hits":{"total"'), FOREIGN],
    ['hung up', (_, response) => void response.destroy(), AWAY],
    [
      'a page of a gateway',
      (_, response) =>
        void response
          .writeHead(200, { 'content-type': 'text/html', 'x-elastic-product': 'Elasticsearch' })
          .end('<html>'),
      FOREIGN,
    ],
    ['another product', (_, response) => json(response, ONE, 200, 'Other'), FOREIGN],
    ['nothing', (_, response) => json(response, {}), FOREIGN],
    ['null', (_, response) => json(response, 'null'), FOREIGN],
    ['no total', (_, response) => json(response, { ...EMPTY, hits: { hits: [HIT] } }), FOREIGN],
    [
      'more than asked for',
      (_, response) => json(response, { ...ONE, hits: { ...ONE.hits, hits: Array(60).fill(HIT) } }),
      FOREIGN,
    ],
    [
      'a place of words',
      (_, response) => json(response, { ...ONE, hits: { ...ONE.hits, hits: [{ ...HIT, sort: ['x', 1, 2, 3] }] } }),
      FOREIGN,
    ],
    [
      'fewer than announced',
      (_, response) => json(response, { ...ONE, hits: { total: { value: 3, relation: 'eq' }, hits: [HIT] } }),
      /1 of 3 documents came/,
    ],
    ['timed out', (_, response) => json(response, { ...ONE, timed_out: true }), PART],
    ['a failed shard', (_, response) => json(response, { ...ONE, _shards: { ...SHARDS, failed: 1 } }), PART],
    ['a missing shard', (_, response) => json(response, { ...ONE, _shards: { ...SHARDS, total: 2 } }), PART],
    [
      'too much to do',
      (_, response) => json(response, { error: { type: 'es_rejected_execution_exception', reason: 'queue' } }, 429),
      /too much to do/,
    ],
    [
      'wrong credentials',
      (_, response) =>
        json(
          response,
          { error: { type: 'security_exception', reason: 'user [logpipe] the-password-of-elasticsearch' } },
          401,
        ),
      /does not let logpipe read/,
    ],
    ['a fault', (_, response) => json(response, { error: { type: 'x', reason: 'node 10.1.2.3' } }, 500), AWAY],
    ['a gateway without a server', (_, response) => json(response, 'bad gateway', 502), FOREIGN],
    [
      'a redirect',
      (_, response) =>
        void response.writeHead(302, { location: 'http://10.1.2.3/', 'x-elastic-product': 'Elasticsearch' }).end(),
      FOREIGN,
    ],
    [
      'without an end',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' });
        const piece = 'x'.repeat(1024 * 1024);
        const more = () => {
          while (!response.destroyed && response.write(piece));
        };
        response.on('drain', more);
        more();
      },
      /longer than 32 MiB/,
    ],
  ])('%s', async (_, behave, words) => {
    const { page, logged, port } = await rig(behave);
    const answer = await page.search({});
    expect([answer.status, answer.json.detail]).toEqual([503, expect.stringMatching(words)]);
    const charts = await page.charts({});
    expect(charts.status).toBe(503);
    const said = answer.text + charts.text + logged.join('\n');
    expect(said).not.toContain('the-password-of-elasticsearch');
    expect(answer.text + charts.text).not.toMatch(new RegExp(`127\\.0\\.0\\.1|10\\.1\\.2\\.3|${port}`));
  });

  test('no answer in time: given up, and Elasticsearch is told so', async () => {
    const giveUp = deferred();
    const ended = deferred();
    const after: Clock['after'] = (ms, fn) => {
      expect(ms).toBe(12_000);
      void giveUp.promise.then(fn);
      return () => undefined;
    };
    const { page } = await rig(
      (_, response) => {
        response.once('close', ended.resolve);
        giveUp.resolve();
      },
      { after },
    );
    const { status, json: said } = await page.search({});
    expect([status, said.detail]).toEqual([503, expect.stringContaining('has not answered within 10 s')]);
    await ended.promise;
  });

  test('nobody there: said to people without an address, and once to the log with it', async () => {
    const { page, logged, close, port } = await rig();
    await close();
    const answer = await page.search({});
    expect([answer.status, answer.json.detail]).toEqual([503, expect.stringMatching(AWAY)]);
    await page.search({});
    expect(logged).toEqual([expect.stringContaining(`127.0.0.1:${port}`)]);
  });

  test('a query that Elasticsearch refuses: in words, with nothing of what was typed', async () => {
    const cause = {
      type: 'query_shard_exception',
      reason: 'Can only use wildcard queries on keyword, text fields - not on [secretword]',
    };
    const { page } = await rig((_, response) =>
      json(
        response,
        { error: { type: 'search_phase_execution_exception', reason: 'all shards failed', root_cause: [cause] } },
        400,
      ),
    );
    const { status, json: said } = await page.search({ q: 'shard: s*' });
    expect(status).toBe(400);
    expect(said.detail).toMatch(
      /^q: Elasticsearch cannot run this query \(query_shard_exception: Can only use wildcard/,
    );
    expect(said.detail).not.toContain('secretword');
  });

  test('an event of another id than asked for is none', async () => {
    const { page } = await rig((_, response) => json(response, { ...HIT, found: true }));
    expect((await page.event(HIT._index, 'other')).status).toBe(503);
  });
});

test('four searches at a time; who hangs up ends theirs, and makes room', async () => {
  const open: ServerResponse[] = [];
  const ended = deferred();
  let arrived = deferred();
  const { page, asked } = await rig((_, response) => {
    open.push(response);
    if (open.length === 1) response.once('close', () => ended.resolve());
    if (open.length >= 4) arrived.resolve();
  });
  const { hostname, port } = new URL(page.url);
  const socket = connect(Number(port), hostname);
  socket.write('GET /api/v1/search HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await expect.poll(() => open.length).toBe(1);
  const others = [page.search({}), page.charts({}), page.search({})];
  await arrived.promise;
  const fifth = await page.search({});
  expect([fifth.status, fifth.json.detail]).toEqual([429, expect.stringContaining('4 searches are under way')]);
  expect(asked.length).toBe(4);

  socket.destroy();
  await ended.promise;
  arrived = deferred();
  const next = page.search({});
  await expect.poll(() => open.length).toBe(5);
  for (const response of open.slice(1)) json(response, { ...EMPTY, aggregations: EMPTY_CHARTS });
  expect((await next).status).toBe(200);
  expect((await Promise.all(others)).map(({ status }) => status)).toEqual([200, 200, 200]);
});

const EMPTY_CHARTS = {
  times: { buckets: [] },
  errors: { doc_count: 0, templates: { sum_other_doc_count: 0, buckets: [] } },
  statuses: { buckets: [] },
  shortest: { value: null },
  longest: { value: null },
};

test('nothing to search in: said, and no server is needed', async () => {
  const page = await serveSearch({ sinks: { elasticsearch: false, ndjson: { enabled: false, dir: 'none' } } });
  onTestFinished(() => page.close());
  for (const path of ['/api/v1/search', '/api/v1/charts', '/api/v1/events/calling-platform-2026.11.29/a']) {
    const { status, json: said } = await page.get(path);
    expect([status, said.detail]).toEqual([
      404,
      expect.stringContaining('neither sinks.elasticsearch nor sinks.ndjson'),
    ]);
  }
});
