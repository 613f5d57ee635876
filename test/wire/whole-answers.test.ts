// What Elasticsearch answers with 200 and is only a part: refused by everything that asks, and numbers that JavaScript has not
// come through. At a server of our own, since a real one fails a shard when it likes.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { runReplay } from '../../src/cli/replay.ts';
import { parseConfig } from '../../src/config.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import type { Batch } from '../../src/indexing/batch.ts';
import { createElasticsearchClient, installTemplate } from '../../src/indexing/elasticsearch.ts';
import { createFieldReader } from '../../src/indexing/field-budget.ts';
import { readHistory } from '../../src/replay/export.ts';
import { createStoredIndex } from '../../src/replay/readers/indices.ts';
import { createStoredFiles } from '../../src/replay/readers/log-files.ts';
import { storedText as documentText } from '../../src/replay/record-document.ts';
import type { StoredSource } from '../../src/replay/sources.ts';
import { openByArrival, type StoredRecord } from '../../src/replay/stored.ts';
import { createOldCopies } from '../../src/replay/targets.ts';

const FROM = Date.parse('2026-11-25T10:00:00.000Z');
const RANGE = { fromMs: FROM, toMs: FROM + 60_000 };
const SHARDS = { total: 3, successful: 3, skipped: 0, failed: 0 };
const quiet = { error() {}, warn() {}, info() {}, debug() {} };

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

interface Asked {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Record<string, never>;
}

/** Answers with `answer`'s value as JSON, or with a text as it is; `refused` paths are not there. */
async function elasticsearch(answer: (asked: Asked) => object | string, refused?: RegExp) {
  const asked: Asked[] = [];
  const server = createServer((incoming, response) => {
    const parts: Buffer[] = [];
    incoming.on('data', (part: Buffer) => parts.push(part));
    incoming.on('end', () => {
      const { pathname, searchParams } = new URL(incoming.url ?? '', 'http://x');
      const text = Buffer.concat(parts).toString();
      const body = (text.startsWith('{') && !text.includes('\n') ? JSON.parse(text) : {}) as Asked['body'];
      asked.push({ path: pathname, query: searchParams, body });
      const gone = refused?.test(pathname) === true;
      const reply = gone ? { error: { type: 'index_not_found_exception' } } : answer(asked.at(-1)!);
      response.writeHead(gone ? 404 : 200, {
        'content-type': 'application/json',
        'x-elastic-product': 'Elasticsearch',
      });
      response.end(typeof reply === 'string' ? reply : JSON.stringify(reply));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const nodes = [`http://127.0.0.1:${(server.address() as AddressInfo).port}`];
  const config = { nodes, requestTimeoutMs: 5_000, installTemplate: false };
  const client = createElasticsearchClient(config);
  open.push(() => client.close());
  return { config, client, asked };
}

const hit = (i: number) => ({
  _id: `doc${i}`,
  _index: 'calling-platform-2026.11.25',
  _source: { '@timestamp': new Date(FROM + i).toISOString(), message: `m${i}`, level: 'info' },
  sort: [FROM + i, i],
});

/** An index of three documents; `change` makes of an answer what is to be tried. */
function threeDocuments(change: (reply: object, asked: Asked) => object = (reply) => reply) {
  return (asked: Asked): object => {
    const { path, body } = asked;
    const reply = ((): object => {
      if (path.endsWith('/_count')) return { count: 3, _shards: SHARDS };
      if (path.endsWith('/_pit')) return { id: 'pit', _shards: SHARDS, succeeded: true };
      if (path.startsWith('/_cat/')) return [];
      if (path.endsWith('/_refresh')) return { _shards: { total: 6, successful: 3, failed: 0 } };
      if (path.endsWith('/_bulk')) return { items: [0, 1, 2].map(() => ({ delete: { status: 200, _index: 'x' } })) };
      if (!path.endsWith('/_search')) return {};
      const after = (body as { search_after?: number[] }).search_after;
      const hits = [0, 1, 2].map(hit).filter(({ sort }) => after === undefined || sort[1]! > after[1]!);
      const size = Number((body as { size?: number }).size ?? 10);
      const total = body.track_total_hits ? { total: { value: 3, relation: 'eq' } } : {};
      const aggregations = { names: { buckets: [] } };
      return {
        pit_id: 'pit',
        timed_out: false,
        _shards: SHARDS,
        hits: { ...total, hits: hits.slice(0, size) },
        aggregations,
      };
    })();
    return change(reply, asked);
  };
}

async function readAll(source: StoredSource): Promise<string[]> {
  const { parts } = await source.plan();
  const texts: string[] = [];
  const from = new Map(parts.map(({ part, from: at }) => [part, at]));
  await source.feed(from, new AbortController().signal, async ({ records }) => {
    texts.push(...records.map(({ value }) => String(value)));
    return true;
  });
  return texts;
}

type Server = Awaited<ReturnType<typeof elasticsearch>>;
const batch = {
  count: 3,
  action: (i: number) => ({ index: 'calling-platform-2026.11.26', id: `doc${i}` }),
} as unknown as Batch;

async function byArrival(elasticsearch: Server['config']) {
  const stores = { kafka: {} as never, elasticsearch };
  const arrivals = await openByArrival('index', stores, { files: [], range: RANGE, purpose: 'x' }, quiet);
  open.push(arrivals.close);
  return arrivals.batches;
}

const ASKING: Record<string, (server: Server) => Promise<unknown>> = {
  replay: ({ config }) => readAll(createStoredIndex(config, { range: RANGE, pageSize: 2 })),
  'backtest and export': async ({ config }) => {
    let count = 0;
    for await (const records of await byArrival(config)) count += records.length;
    return count;
  },
  history: async ({ client }) => {
    const result = await readHistory(client, RANGE, createMasker());
    if (!result.found) throw new Error(result.reason);
    return result.transitions.length;
  },
  'old copies': ({ client }) => createOldCopies(client).remove(batch, new Set()),
  'ignored fields': ({ client }) => createFieldReader(client)('calling-platform-2026.11.25'),
};

describe.each(Object.entries(ASKING))('%s', (_, ask) => {
  test('takes the whole answer, and asks for nothing less', async () => {
    const server = await elasticsearch(threeDocuments());
    await ask(server);
    const searches = server.asked.filter(({ path }) => path.endsWith('/_search'));
    expect(searches.length).toBeGreaterThan(0);
    for (const { query, body } of searches) {
      expect({ ...Object.fromEntries(query), ...body }.allow_partial_search_results).toMatch(/false/);
    }
  });

  test.each<[string, object, RegExp]>([
    ['a failed shard', { _shards: { total: 3, successful: 2, failed: 1 } }, /1 of 3 shards failed/],
    ['a missing shard', { _shards: { total: 3, successful: 1, failed: 0 } }, /2 of 3 shards are missing/],
    ['a time-out', { timed_out: true }, /it timed out/],
    ['an early end', { terminated_early: true }, /it was ended early/],
    ['a missing cluster', { _clusters: { total: 2, successful: 1, skipped: 1 } }, /1 of 2 clusters are missing/],
  ])('refuses an answer with %s', async (_name, part, words) => {
    const server = await elasticsearch(
      threeDocuments((reply, { path }) => (path.endsWith('/_search') ? { ...reply, ...part } : reply)),
    );
    await expect(ask(server)).rejects.toThrow(words);
  });
});

describe('counts are held against what was announced', () => {
  const withoutLast = (reply: object, { path }: Asked): object => {
    const { hits } = reply as { hits?: { hits: { _id: string }[] } };
    if (!path.endsWith('/_search') || hits === undefined) return reply;
    return { ...reply, hits: { ...hits, hits: hits.hits.filter(({ _id }) => _id !== 'doc2') } };
  };

  test.each(['replay', 'backtest and export', 'history', 'old copies'])('%s: a document less', async (name) => {
    const server = await elasticsearch(threeDocuments(withoutLast));
    await expect(ASKING[name]!(server)).rejects.toThrow(/2 of 3 documents came/);
  });

  test('replay: less than was planned, a partial count, and a partial point in time', async () => {
    const planned = await elasticsearch(
      threeDocuments((reply, { path }) => (path.endsWith('/_count') ? { count: 5, _shards: SHARDS } : reply)),
    );
    await expect(ASKING.replay!(planned)).rejects.toThrow(/3 of 5 documents came/);
    for (const part of ['_count', '_pit']) {
      const server = await elasticsearch(
        threeDocuments((reply, { path }) =>
          path.endsWith(`/${part}`) ? { ...reply, _shards: { total: 3, successful: 2, failed: 1 } } : reply,
        ),
      );
      await expect(ASKING.replay!(server)).rejects.toMatchObject({ code: 'LOGPIPE_ES_INCOMPLETE' });
    }
  });

  test('replay: an index that was counted and is gone when it is read', async () => {
    await expect(ASKING.replay!(await elasticsearch(threeDocuments(), /_pit$/))).rejects.toThrow(
      /0 of 3 documents came/,
    );
  });

  test('old copies: deletions nobody speaks of, and a refresh that failed', async () => {
    const silent = await elasticsearch(
      threeDocuments((reply, { path }) =>
        path === '/_bulk' ? { items: [{ delete: { status: 200, _index: 'x' } }] } : reply,
      ),
    );
    await expect(ASKING['old copies']!(silent)).rejects.toThrow(/1 of 3 documents came/);
    const whole = await elasticsearch(threeDocuments());
    await createOldCopies(whole.client).refresh();
    const failed = await elasticsearch(() => ({ _shards: { total: 6, successful: 3, failed: 1 } }));
    await expect(createOldCopies(failed.client).refresh()).rejects.toThrow(/1 of 6 shards failed/);
  });

  test('setup: a template that not every node has taken', async () => {
    const server = await elasticsearch(({ path }) =>
      path.includes('_index_template') ? { acknowledged: false, index_templates: [] } : {},
    );
    await expect(installTemplate(server.client, quiet)).rejects.toMatchObject({ code: 'LOGPIPE_ES_INCOMPLETE' });
  });
});

test('a replay that breaks off says where it goes on, and goes on there', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-whole-'));
  open.push(() => rmSync(folder, { recursive: true }));
  let whole = false;
  const server = await elasticsearch(
    threeDocuments((reply, { path }) => (path.endsWith('/_search') && !whole ? { ...reply, timed_out: true } : reply)),
  );
  const config = parseConfig(JSON.stringify({ elasticsearch: { nodes: server.config.nodes } }), {}, 'test.yml');
  const err: string[] = [];
  const io = { out() {}, err: (line: string) => void err.push(line) } as never;
  const run = () =>
    runReplay(
      [],
      config,
      {
        ...{ source: 'index', from: '2026-11-25T10:00:00Z', to: '2026-11-25T10:01:00Z' },
        ...{ toDir: join(folder, 'out'), name: 'again', signal: new AbortController().signal },
      },
      io,
      { log: quiet, stateFolder: join(folder, 'state') },
    );
  const written = () =>
    readdirSync(join(folder, 'out')).flatMap((name) =>
      readFileSync(join(folder, 'out', name), 'utf8')
        .trim()
        .split('\n'),
    );
  await expect(run()).rejects.toMatchObject({
    code: 'LOGPIPE_ES_INCOMPLETE',
    message: expect.stringMatching(
      /in part only: it timed out; .*\. \d of the stretch (?:is|are) written; the same command line goes on from here/,
    ),
  });
  whole = true;
  expect(await run()).toBe(0);
  expect(err).toContain('replay again resumes where it stopped');
  const ids = written().map((line) => (JSON.parse(line) as { _id: string })._id);
  expect(ids.sort()).toEqual(['doc0', 'doc1', 'doc2']);
});

describe('numbers that JavaScript has not', () => {
  const NUMBERS =
    '"callId":9007199254740993,"ratio":1.50,"far":1e400,"zero":-0,"deep":{"list":[12345678901234567890,{"n":-0.0}]}';
  const TIME = '"@timestamp":"2026-11-25T10:00:00.001Z"';

  test('come out of an index and of files as they went in', async () => {
    const server = await elasticsearch((asked) => {
      if (asked.path.endsWith('/_count')) return { count: 1, _shards: SHARDS };
      if (!asked.path.endsWith('/_search')) return threeDocuments()(asked);
      return `{"pit_id":"pit","timed_out":false,"_shards":{"total":1,"successful":1,"failed":0},"hits":{"total":{"value":1,"relation":"eq"},"hits":[{"_id":"a","_index":"calling-platform-2026.11.25","_source":{${TIME},${NUMBERS}},"sort":[${FROM + 1},0]}]}}`;
    });
    const texts = await readAll(createStoredIndex(server.config, { range: RANGE }));
    expect(texts).toHaveLength(1);
    expect(texts[0]).toContain(NUMBERS);

    const found: StoredRecord[] = [];
    for await (const records of await byArrival(server.config)) found.push(...records);
    expect(String(found[0]!.value)).toContain(NUMBERS);
    // Countable, and written as they were.
    expect(found.map(({ document }) => document)).toMatchObject([{ callId: 9007199254740992, ratio: 1.5, zero: -0 }]);
    expect(documentText(found[0]!.document!)).toContain(NUMBERS);

    const folder = mkdtempSync(join(tmpdir(), 'logpipe-numbers-'));
    open.push(() => rmSync(folder, { recursive: true }));
    const lines = [
      `{"_id":"a",${TIME},"kafka":{"partition":0},${NUMBERS}}`,
      `{"_id":"b","_source":{${TIME},${NUMBERS}}}`,
    ];
    writeFileSync(join(folder, 'export.ndjson'), `${lines.join('\n')}\n`);
    const files = await readAll(createStoredFiles([join(folder, 'export.ndjson')], {}, quiet));
    expect(files).toHaveLength(2);
    for (const text of files) expect(text).toContain(NUMBERS);
  });
});

describe('one set of readers', () => {
  const KAFKA = { topic: 'logs', partition: 3, offset: 70 };
  const TAGS = ['mine', 'error', '_time_missing', '_event_invalid'];
  const stored = { '@timestamp': '2026-11-25T10:00:00.001Z', level: 'error', message: 'Call 7 failed', tags: TAGS };
  const document = { ...stored, kafka: KAFKA, error: { name: 'E', template: 'Call <n> failed', fingerprint: 'f' } };

  test('a document is the same record to a replay with the present parser and to a backtest, which counts it', async () => {
    const server = await elasticsearch((asked) => {
      if (asked.path.endsWith('/_count')) return { count: 1, _shards: SHARDS };
      const reply = threeDocuments()(asked) as { hits?: { hits: object[] } };
      if (!asked.path.endsWith('/_search')) return reply;
      const found = { ...hit(1), _source: document, sort: [FROM + 1, 3, 70, 0] };
      return { ...reply, hits: { total: { value: 1, relation: 'eq' }, hits: [found] } };
    });
    const [replayed] = await readAll(createStoredIndex(server.config, { range: RANGE, freshTags: true }));
    const arrived: StoredRecord[] = [];
    for await (const records of await byArrival(server.config)) arrived.push(...records);
    const { error: _, kafka: __, '@timestamp': ___, ...rest } = document;
    expect(JSON.parse(replayed!)).toEqual({ ...rest, tags: ['mine', '_time_missing'], error: { name: 'E' } });
    expect(arrived).toEqual([
      expect.objectContaining({ arrivalMs: FROM + 1, partition: 3, offset: 70, mark: undefined, document }),
    ]);
    expect(String(arrived[0]!.value)).toBe(replayed);
    const [first, second] = server.asked.filter(({ path }) => path.endsWith('/_search')).map(({ body }) => body.sort);
    expect(JSON.stringify(first)).not.toContain('kafka.offset');
    // Two backtests of the same documents give the same bytes.
    expect(JSON.stringify(second)).toMatch(/@timestamp.*kafka\.partition.*kafka\.offset.*_shard_doc/);
  });
});
