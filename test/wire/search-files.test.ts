// The page's search where there is no Elasticsearch: over the files that the NDJSON sink itself writes. Pages, filters, charts, events; what
// is too old, too much, half written or broken.
import { appendFileSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../../src/indexing/batch.ts';
import { createNdjsonSink } from '../../src/indexing/sinks.ts';
import { createFileStore } from '../../src/ops/logs/search-files.ts';
import type { LogLine } from '../../src/ops/page-data.ts';
import { createParser } from '../../src/parse/parse.ts';
import { createTagger } from '../../src/tag/tag.ts';
import '../kit/fixed-seed.ts';
import { type SearchServer, serveSearch } from '../kit/search-server.ts';

const NOW = Date.parse('2026-11-29T12:00:00.000Z');
const HOUR = 3_600_000;
const clock = { ...systemClock, now: () => NOW };
const NOTE = 'without Elasticsearch, the NDJSON files of the last day are searched';

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'search-files-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function serve(dir: string): Promise<SearchServer> {
  const page = await serveSearch({ sinks: { elasticsearch: false, ndjson: { enabled: true, dir } } }, { clock });
  onTestFinished(() => page.close());
  return page;
}

/** Through the parser, the tagger and the sink, as the pipeline does it. */
async function write(dir: string, logs: readonly object[]): Promise<void> {
  const masker = createMasker();
  const parser = createParser(parseConfig('', {}, 'test').parse, { masker });
  const tag = createTagger();
  const writer = createDocumentWriter(parser.time);
  const batch = new Batch(64 * 1024);
  const origin = { kind: 'file', path: 'app.log', identity: 'app.log' } as const;
  logs.forEach((log, offset) => {
    const record = { value: Buffer.from(JSON.stringify(log)), offset, timeMs: NOW, eventId: undefined };
    const parsed = parser.parse(record);
    if (!parsed.ok) throw new Error(parsed.reason);
    writer.append(batch, tag(parsed.event), record, { origin, records: [record], bytes: 0, done() {} }, 0);
  });
  const sink = createNdjsonSink(dir, { metrics: createMetrics(), log: silentLog });
  await sink.write(batch, new AbortController().signal);
  await sink.close();
}

const log = (agoMs: number, more: object) => ({
  timestamp: new Date(NOW - agoMs).toISOString(),
  level: 'info',
  service: 'api',
  ...more,
});

async function readAll(page: SearchServer, parameters: Record<string, string>): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for (let after: string | null = ''; after !== null; ) {
    const { json, status } = await page.search(after === '' ? parameters : { ...parameters, after });
    expect(status, json.detail).toBe(200);
    lines.push(...json.lines);
    ({ after } = json);
  }
  return lines;
}

test('every line once, page by page, over two days; those of one moment in the order of the file', async () => {
  const dir = folder();
  const page = await serve(dir);
  await write(dir, [
    ...Array.from({ length: 40 }, (_, n) => log(2 * HOUR, { message: `same ${n}` })),
    log(20 * HOUR, { message: 'yesterday' }),
    log(HOUR, { message: 'newest', level: 'error', error: { message: 'x' }, callId: 'CA1' }),
    log(3 * HOUR, { message: 'late in the file' }),
    log(30 * HOUR, { message: 'too old' }),
  ]);
  for (const order of ['asc', 'desc'] as const) {
    for (const size of ['7', '200']) {
      const lines = await readAll(page, { from: '-2d', order, size });
      const expected = [
        'yesterday',
        'late in the file',
        ...Array.from({ length: 40 }, (_, n) => `same ${n}`),
        'newest',
      ];
      expect(lines.map(({ message }) => message)).toEqual(order === 'asc' ? expected : expected.reverse());
    }
  }
  const { json } = await page.search({ from: '-2d', q: 'callId: "CA1" and level: error' });
  expect(json).toMatchObject({ source: 'files', total: 1, exact: true, note: NOTE });
  expect(json.lines[0]).toMatchObject({ message: 'newest', isError: true, callId: 'CA1', service: 'api' });
  expect((await page.search({ from: '-90m' })).json.total).toBe(1);
  expect((await page.search({ from: '-1d', level: 'error', service: 'web' })).json.total).toBe(0);

  const [{ index, id }] = json.lines as [LogLine];
  const event = await page.event(index, id);
  expect(event.json).toMatchObject({ index, id, document: { message: 'newest', tags: ['error'] } });
  const inside = `@${Number(id.slice(1)) + 1}`;
  for (const other of [inside, '@99999999', '@-1', 'x', '@1e3'])
    expect((await page.event(index, other)).status, other).toBe(404);
  for (const name of ['calling-platform-2026.11.28.x', 'calling-platform-..', 'calling-platform-2026.11.01']) {
    expect((await page.event(name, '@0')).status, name).toBe(404);
  }
});

test('secrets, control characters and numbers: as from Elasticsearch', async () => {
  const dir = folder();
  writeFileSync(
    join(dir, 'calling-platform-2026.11.29.ndjson'),
    `{"@timestamp":"2026-11-29T11:59:00.000Z","message":"password=hunter2secret \\u001b[31m\\nx","extra":{"n":9007199254740993}}\n`,
  );
  const page = await serve(dir);
  const { json, text } = await page.search({});
  expect(text).not.toContain('hunter2secret');
  expect(json.lines[0]!.message).toContain('\\u001b[31m\\nx');
  const event = await page.event(json.lines[0]!.index, json.lines[0]!.id);
  expect(event.text).toContain('"n":9007199254740993');
  expect(event.text).not.toContain('hunter2secret');
});

test('half a line, other files, and lines that are no documents are passed over; no folder is no line', async () => {
  const dir = folder();
  const page = await serve(join(dir, 'not-there'));
  expect((await page.search({})).json).toMatchObject({ total: 0, lines: [], note: NOTE });
  const there = await serve(dir);
  const line = `{"@timestamp":"2026-11-29T11:59:00.000Z","message":"whole"}`;
  writeFileSync(
    join(dir, 'calling-platform-2026.11.29.ndjson'),
    `${line}\n\n{"@timestamp":"2026-11-29T11:59:00\nnull\n[1]\n{"@timestamp":5}\n{"message":"x","@timestamp":"2026-11-29T11:58:00Z"}\n${line}`,
  );
  writeFileSync(join(dir, 'calling-platform-2026.11.29.ndjson.bak'), `${line}\n`);
  writeFileSync(join(dir, 'other-2026.11.29.ndjson'), `${line}\n`);
  expect((await there.search({})).json.lines.map(({ message }) => message)).toEqual(['whole', 'x']);
  appendFileSync(join(dir, 'calling-platform-2026.11.29.ndjson'), '\n');
  expect((await there.search({})).json.total).toBe(3);
});

test('a file that retention deletes while a search begins is no failure', async () => {
  const dir = folder();
  const there = await serve(dir);
  writeFileSync(
    join(dir, 'calling-platform-2026.11.29.ndjson'),
    '{"@timestamp":"2026-11-29T11:59:00.000Z","message":"kept"}\n',
  );
  // Listed, and not there when it is opened.
  symlinkSync(join(dir, 'gone'), join(dir, 'calling-platform-2026.11.28.ndjson'));
  expect((await there.search({ from: '-23h' })).json).toMatchObject({ total: 1, note: NOTE });
});

test('what is too much is left out, the oldest first, and said', async () => {
  const dir = folder();
  const line = (message: string) => `${JSON.stringify({ '@timestamp': '2026-11-29T11:59:00.000Z', message })}\n`;
  writeFileSync(join(dir, 'calling-platform-2026.11.28.ndjson'), line('yesterday').repeat(10));
  writeFileSync(join(dir, 'calling-platform-2026.11.29.ndjson'), line('x'.repeat(1_000)).repeat(1_000) + line('last'));
  const store = createFileStore({ dir, maxRead: 100_000 }, { clock, masker: createMasker() });
  const all = { fromMs: NOW - 24 * HOUR, toMs: NOW, node: { kind: 'all' } as const };
  const { total, exact, note } = await store.search(
    all,
    { order: 'desc', size: 1, after: undefined },
    new AbortController().signal,
  );
  expect(total).toBeGreaterThan(90);
  expect(total).toBeLessThan(100);
  expect(exact).toBe(false);
  expect(note).toBe(
    `${NOTE}; calling-platform-2026.11.29: the first 1 MB were not read, to stay below 1 MB; calling-platform-2026.11.28: the first 1 MB were not read, to stay below 1 MB`,
  );
});

test('charts count what a search finds, whatever there is', async () => {
  const entry = fc.record({
    agoMs: fc.integer({ min: 1, max: 24 * HOUR - 1 }),
    error: fc.option(fc.constantFrom(...Array.from({ length: 14 }, (_, n) => `fault ${'abcdefghijklmn'[n]}`)), {
      nil: undefined,
    }),
    status: fc.option(fc.constantFrom('completed', 'failed', 'busy'), { nil: undefined }),
    durationMs: fc.option(fc.constantFrom(0, 0.3, 12.5, 49, 50, 700, 9_999), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 80 }), async (entries) => {
      const dir = mkdtempSync(join(tmpdir(), 'search-files-'));
      const page = await serveSearch({ sinks: { elasticsearch: false, ndjson: { enabled: true, dir } } }, { clock });
      try {
        await write(
          dir,
          entries.map(({ agoMs, error, status, durationMs }) =>
            log(agoMs, {
              message: error ?? 'fine',
              ...(error === undefined ? {} : { level: 'error' }),
              ...(status === undefined ? {} : { call: { status } }),
              ...(durationMs === undefined ? {} : { http: { durationMs } }),
            }),
          ),
        );
        const { json: charts } = await page.charts({ from: '-1d' });
        const total = async (q: string) => (await page.search({ from: '-1d', q })).json.total;
        const sum = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);
        expect(sum(charts.errorRate.map((point) => point.total))).toBe(entries.length);
        expect(sum(charts.errorRate.map((point) => point.errors))).toBe(entries.filter(({ error }) => error).length);
        expect(charts.topErrors.length).toBeLessThanOrEqual(11);
        expect(sum(charts.topErrors.map(({ count }) => count))).toBe(entries.filter(({ error }) => error).length);
        expect(sum(charts.callStatus.map(({ count }) => count))).toBe(entries.filter(({ status }) => status).length);
        expect(sum(charts.responseTimes.map(({ count }) => count))).toBe(
          entries.filter(({ durationMs }) => durationMs !== undefined).length,
        );
        for (const { query, count } of [...charts.topErrors, ...charts.callStatus, ...charts.responseTimes]) {
          expect(await total(query), query).toBe(count);
        }
      } finally {
        await page.close();
        rmSync(dir, { recursive: true, force: true });
      }
    }),
    { numRuns: 25 },
  );
});
