// The page's search on a real Elasticsearch: every line once however many share a moment, filters, the story of a call, one event; and that
// a query line means the same there as of a document in hand. Its charts are compared with Kibana's in kibana-numbers.test.ts.
import type { Client } from '@elastic/elasticsearch';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/core/log.ts';
import { createElasticsearchClient, installTemplate } from '../../src/indexing/elasticsearch.ts';
import { printQueryLine, toElasticsearch, toPredicate, wordsOf } from '../../src/ops/logs/query-line.ts';
import type { LogLine } from '../../src/ops/page-data.ts';
import '../kit/fixed-seed.ts';
import { queryNodes, searchedDocuments } from '../kit/query-nodes.ts';
import { type SearchServer, serveSearch } from '../kit/search-server.ts';
import { testEsMajors, testEsUrlOf } from '../kit/servers.ts';

const DAY = '2001-03-04';
const INDEX = 'calling-platform-2001.03.04';
const NEXT_INDEX = 'calling-platform-2001.03.05';
/** With more shards than the template has: two documents may have the same number there. */
const WIDE_INDEX = 'calling-platform-2001.03.06-wide';
const CHANCE_INDEX = 'calling-platform-2001.03.09';
const INDICES = [INDEX, NEXT_INDEX, WIDE_INDEX, CHANCE_INDEX];
const RANGE = { from: `${DAY}T00:00:00Z`, to: '2001-03-06T00:00:00Z' };
const SAME = 137;

describe.each(testEsMajors())('on Elasticsearch %s', (major) => {
  let client: Client;
  let server: SearchServer;

  async function index(name: string, documents: readonly (readonly [id: string, document: object])[]): Promise<void> {
    const operations = documents.flatMap(([id, document]) => [{ index: { _index: name, _id: id } }, document]);
    const reply = await client.bulk({ refresh: true, operations });
    expect(reply.errors).toBe(false);
  }

  beforeAll(async () => {
    const config = { nodes: [await testEsUrlOf(major)], requestTimeoutMs: 30_000, installTemplate: true };
    client = createElasticsearchClient(config);
    await installTemplate(client, silentLog);
    await client.indices.delete({ index: INDICES, ignore_unavailable: true });
    await client.indices.create({ index: WIDE_INDEX, settings: { number_of_shards: 4 } });
    server = await serveSearch({ elasticsearch: config });
    const time = `${DAY}T12:00:00.000Z`;
    await index(INDEX, [
      ...Array.from({ length: SAME }, (_, n): [string, object] => [
        `same${n}`,
        // Some from Kafka, in no order, and some from files.
        {
          '@timestamp': time,
          message: `same ${n}`,
          level: n % 2 === 0 ? 'info' : 'warn',
          ...(n % 3 === 0 ? {} : { kafka: { topic: 'logs', partition: n % 2, offset: 1_000 - n } }),
        },
      ]),
      [
        'early',
        {
          '@timestamp': `${DAY}T10:00:00Z`,
          level: 'error',
          service: 'api',
          environment: 'production',
          callId: 'CA1',
          event: 'call.started',
          message: 'call started',
          tags: ['error'],
        },
      ],
      [
        'secret',
        {
          '@timestamp': `${DAY}T10:30:00Z`,
          level: 'info',
          message: `password=hunter2secret ${'x'.repeat(600)}`,
          extra: { password: 'hunter2secret' },
          callId: 'CA1',
          big: 1,
        },
      ],
    ]);
    await index(NEXT_INDEX, [
      [
        'late',
        {
          '@timestamp': '2001-03-05T01:00:00Z',
          level: 'info',
          service: 'api',
          callId: 'CA1',
          message: 'call\u001b[31m ended\nbadly',
        },
      ],
    ]);
    await index(
      WIDE_INDEX,
      Array.from({ length: 60 }, (_, n): [string, object] => [
        `w${n}`,
        { '@timestamp': '2001-03-06T12:00:00Z', message: `wide ${n}` },
      ]),
    );
  });

  afterAll(async () => {
    await server.close();
    await client.indices.delete({ index: INDICES, ignore_unavailable: true });
    await client.close();
  });

  async function readAll(parameters: Record<string, string>): Promise<LogLine[]> {
    const lines: LogLine[] = [];
    for (let after: string | null = ''; after !== null; ) {
      const { status, json } = await server.search(after === '' ? parameters : { ...parameters, after });
      expect(status, json.detail).toBe(200);
      lines.push(...json.lines);
      expect(json.lines.length).toBeGreaterThan(0);
      ({ after } = json);
    }
    return lines;
  }

  it.each(['asc', 'desc'])('page by page, %s: every line once, those of one moment too', async (order) => {
    for (const size of ['7', '50']) {
      const lines = await readAll({ ...RANGE, order, size });
      expect(lines.length).toBe(SAME + 3);
      expect(new Set(lines.map(({ id }) => id)).size).toBe(SAME + 3);
      const times = lines.map(({ at }) => Date.parse(at));
      expect(times).toEqual([...times].sort((a, b) => (order === 'asc' ? a - b : b - a)));
    }
    const wide = await readAll({ from: '2001-03-06T00:00:00Z', to: '2001-03-07T00:00:00Z', order, size: '7' });
    expect(new Set(wide.map(({ id }) => id)).size).toBe(60);
    expect(wide.length).toBe(60);
  });

  it('lines of one moment are in the order of the log', async () => {
    const { json } = await server.search({ ...RANGE, q: 'kafka.partition: 1', order: 'asc', size: '200' });
    const numbers = json.lines.map(({ message }) => Number(message.slice('same '.length)));
    expect(numbers.length).toBeGreaterThan(40);
    expect(numbers).toEqual([...numbers].sort((a, b) => b - a));
  });

  it('what arrives between two pages moves nothing', async () => {
    const first = await server.search({ ...RANGE, order: 'desc', size: '100' });
    await index(INDEX, [['meanwhile', { '@timestamp': `${DAY}T23:00:00Z`, message: 'newer' }]]);
    const rest = await server.search({ ...RANGE, order: 'desc', size: '100', after: first.json.after! });
    await client.delete({ index: INDEX, id: 'meanwhile', refresh: true });
    const ids = [...first.json.lines, ...rest.json.lines].map(({ id }) => id);
    expect(new Set(ids).size).toBe(SAME + 3);
    expect(ids.length).toBe(SAME + 3);
  });

  it('what is found is counted, masked, short and on one line', async () => {
    const { json } = await server.search({ ...RANGE, q: 'callId: "CA1"', order: 'asc' });
    expect(json).toMatchObject({ source: 'elasticsearch', total: 3, exact: true, after: null, note: null });
    expect(json.lines.map(({ id }) => id)).toEqual(['early', 'secret', 'late']);
    expect(json.lines[0]).toEqual({
      index: INDEX,
      id: 'early',
      at: `${DAY}T10:00:00Z`,
      level: 'error',
      service: 'api',
      environment: 'production',
      event: 'call.started',
      callId: 'CA1',
      message: 'call started',
      isError: true,
    });
    expect(json.lines[1]!.message.length).toBe(500);
    expect(JSON.stringify(json)).not.toContain('hunter2secret');
    expect(json.lines[2]!.message).toBe('call\\u001b[31m ended\\nbadly');
  });

  it('filters hold together with the query line', async () => {
    const count = async (parameters: Record<string, string | string[]>) =>
      (await server.search({ ...RANGE, ...parameters })).json.total;
    expect(await count({ level: ['error', 'warn'] })).toBe(1 + Math.floor(SAME / 2));
    expect(await count({ level: 'error,warn', service: 'api' })).toBe(1);
    expect(await count({ service: 'api' })).toBe(2);
    expect(await count({ environment: 'production', q: 'not level: error' })).toBe(0);
    expect(await count({ q: 'no-such-word' })).toBe(0);
    expect((await server.search({ from: '1999-01-01', to: '1999-01-02' })).json).toMatchObject({
      total: 0,
      lines: [],
      after: null,
    });
  });

  it('a wildcard in a field of numbers is refused in words', async () => {
    await index(NEXT_INDEX, [['number', { '@timestamp': '2001-03-05T02:00:00Z', shardCount: 5 }]]);
    const { status, json } = await server.search({ ...RANGE, q: 'shardCount: 5*' });
    await client.delete({ index: NEXT_INDEX, id: 'number', refresh: true });
    expect(status).toBe(400);
    expect(json.detail).toMatch(/^q: Elasticsearch cannot run this query \(.*wildcard/);
  });

  it('one event, whole and masked, at once and with its numbers', async () => {
    expect((await server.event(INDEX, 'early')).json).toMatchObject({
      index: INDEX,
      id: 'early',
      document: { callId: 'CA1' },
    });
    const secret = await server.event(INDEX, 'secret');
    expect(secret.status).toBe(200);
    expect(secret.text).not.toContain('hunter2secret');
    const body = '{"@timestamp":"2001-03-05T03:00:00Z","tenantId":"t","extra":{"n":9007199254740993}}';
    // The client would write another number.
    const headers = { 'content-type': 'application/json' };
    await fetch(`${await testEsUrlOf(major)}/${NEXT_INDEX}/_doc/a%2Fb%20c`, { method: 'PUT', headers, body });
    const exact = await server.event(NEXT_INDEX, 'a/b c');
    await client.delete({ index: NEXT_INDEX, id: 'a/b c', refresh: true });
    expect(exact.text).toContain('"n":9007199254740993');
    expect((await server.event(INDEX, 'nobody')).status).toBe(404);
    expect((await server.event('calling-platform-1999.01.01', 'x')).json.detail).toMatch(/no such event/);
    for (const index of [
      '.security',
      'calling-platform-*',
      '_all',
      'logpipe-alerts-2001.02',
      'calling-platform-x,.security',
    ]) {
      expect((await server.event(index, 'early')).status, index).toBe(404);
    }
  });

  it('words begin and end there where they do in a document in hand', async () => {
    const letter = fc.constantFrom(...'aZ09_.,;:\'"-/ @éß\u00a0'.split(''));
    const texts = fc.sample(fc.string({ unit: letter, minLength: 1, maxLength: 40 }), 400);
    texts.push('x'.repeat(600), 'it_is_1.5,000:ms', "o'clock don't 10.0.0.1:9092 a.b.c 1.a a.1 _ __ _a_", 'ÄÖ straße');
    for (const text of texts) {
      const { tokens = [] } = await client.indices.analyze({ analyzer: 'standard', text });
      expect(wordsOf(text), JSON.stringify(text)).toEqual(tokens.map(({ token }) => token));
    }
  });

  it('a query line means there what it means of a document in hand', async () => {
    const documents = fc.sample(searchedDocuments(), 300);
    await index(
      CHANCE_INDEX,
      documents.map((document, n) => [`d${n}`, document]),
    );
    await fc.assert(
      fc.asyncProperty(queryNodes(), async (node) => {
        const reply = await client.search({
          index: CHANCE_INDEX,
          size: 1_000,
          _source: false,
          query: toElasticsearch(node) as object,
        });
        const found = reply.hits.hits.map(({ _id }) => Number(_id!.slice(1))).sort((a, b) => a - b);
        const matches = toPredicate(node);
        const expected = documents.flatMap((document, n) => (matches(document) ? [n] : []));
        expect(found, `${printQueryLine(node)}: ${JSON.stringify(documents[difference(found, expected)])}`).toEqual(
          expected,
        );
      }),
      { numRuns: 300 },
    );
  });
});

function difference(one: readonly number[], other: readonly number[]): number {
  return [...one.filter((n) => !other.includes(n)), ...other.filter((n) => !one.includes(n))][0] ?? -1;
}
