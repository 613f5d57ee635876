// Retention against a real HTTP server that answers as Elasticsearch does: closed and read-only indices, 404, refusals, answers in part,
// answers by somebody else. What it proves about deleted indices is what that server still has.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { retention } from '../../src/cli/run.ts';
import { type Clock, deferred } from '../../src/core/clock.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createRetention, type RetentionConfig, runRetention } from '../../src/monitor/retention.ts';
import { createFakeClock } from '../kit/fake-clock.ts';

const DAY = 86_400_000;
const NOW = Date.parse('2026-11-29T10:00:00Z');
const CONFIG: RetentionConfig = { retentionDays: 7, schedule: '0 3 * * *', timeZone: 'UTC' };

interface StoredIndex {
  closed?: boolean;
  blocks?: string[];
  createdMs?: number;
  alias?: boolean;
}

type Reply = { status: number; body: unknown; foreign?: boolean } | 'drop' | undefined;

const ok = { status: 200, body: { acknowledged: true } };
const refusal = (status: number, type: string, reason = 'because') => ({
  status,
  body: { error: { type, reason, root_cause: [] }, status },
});

/** @param script what to answer in place of the truth; undefined: the truth */
async function startServer(
  names: readonly string[] | Record<string, StoredIndex>,
  script: (method: string, path: string, indices: Map<string, StoredIndex>) => Reply | Promise<Reply> = () => undefined,
) {
  const entries = Array.isArray(names) ? names.map((name) => [name, {}] as const) : Object.entries(names);
  const indices = new Map<string, StoredIndex>(entries as [string, StoredIndex][]);
  const changes: string[] = [];
  let timeMs = NOW;

  function truth(method: string, path: string, body: string): Exclude<Reply, 'drop' | undefined> {
    const found = [...indices];
    if (path.startsWith('/_resolve/index/')) {
      const kind = (alias: boolean) => found.filter(([, index]) => (index.alias ?? false) === alias);
      const resolved = kind(false).map(([name, { closed }]) => ({ name, attributes: [closed ? 'closed' : 'open'] }));
      const aliases = kind(true).map(([name]) => ({ name, indices: ['other'] }));
      return { status: 200, body: { indices: resolved, aliases, data_streams: [] } };
    }
    if (path.startsWith('/_cat/health')) return { status: 200, body: [{ epoch: String(timeMs / 1_000) }] };
    if (path.startsWith('/_cat/indices/')) {
      const rows = found.map(([index, { closed, createdMs = NOW }]) => {
        const stats = closed ? { 'docs.count': null, 'store.size': null } : { 'docs.count': '5', 'store.size': '1000' };
        return { index, 'creation.date': String(createdMs), ...stats };
      });
      return { status: 200, body: rows };
    }
    const name = decodeURIComponent(path.split('/')[1] ?? '');
    if (method === 'GET') {
      const rows = found.map(([index, { blocks = [] }]) => [
        index,
        { settings: Object.fromEntries(blocks.map((block) => [block, 'true'])) },
      ]);
      return { status: 200, body: Object.fromEntries(rows) };
    }
    const index = indices.get(name);
    if (index === undefined) return refusal(404, 'index_not_found_exception', `no such index [${name}]`);
    if (method === 'PUT') {
      for (const [block, on] of Object.entries(JSON.parse(body) as Record<string, boolean>)) {
        const others = (index.blocks ?? []).filter((one) => one !== block);
        index.blocks = on ? [...others, block] : others;
      }
      return ok;
    }
    if ((index.blocks ?? []).length > 0) {
      const words = index.blocks!.map((block) =>
        block.endsWith('metadata') ? '[FORBIDDEN/9/index metadata (api)]' : '[FORBIDDEN/5/index read-only (api)]',
      );
      return refusal(403, 'cluster_block_exception', `index [${name}] blocked by: ${words.join('')};`);
    }
    indices.delete(name);
    return ok;
  }

  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', async () => {
      const { method = '', url = '' } = request;
      const path = url.split('?')[0]!;
      const body = Buffer.concat(parts).toString();
      if (method !== 'GET') changes.push(`${method} ${path}${body === '' ? '' : ` ${body}`}`);
      const reply = (await script(method, path, indices)) ?? truth(method, path, body);
      if (reply === 'drop') return void response.destroy();
      const product = reply.foreign ? {} : { 'x-elastic-product': 'Elasticsearch' };
      response.writeHead(reply.status, { 'content-type': 'application/json', ...product });
      response.end(JSON.stringify(reply.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return {
    elasticsearch: {
      nodes: [`http://127.0.0.1:${(server.address() as AddressInfo).port}`],
      requestTimeoutMs: 5_000,
      installTemplate: false,
    },
    indices,
    changes,
    setTime(ms: number) {
      timeMs = ms;
    },
  };
}

type Server = Awaited<ReturnType<typeof startServer>>;

const run = (server: Server, more: Partial<Parameters<typeof runRetention>[1]> = {}) =>
  runRetention(server.elasticsearch, { config: CONFIG, dryRun: false, clocks: () => ({ host: NOW }), ...more });

const YESTERDAY = 'calling-platform-2026.11.28';
const OLD = 'calling-platform-2026.11.01';
const OLDER = 'calling-platform-2026.10.31';

test('the oldest first, each by its exact name, closed ones and read-only ones too; what only looks alike stays', async () => {
  const server = await startServer({
    [OLD]: { closed: true },
    [OLDER]: { blocks: ['index.blocks.read_only'] },
    'calling-platform-2026.10.30': { alias: true },
    [`${OLD}-old`]: {},
    'calling-platform-2026.11': { blocks: ['index.blocks.read_only'] },
    'logpipe-alerts-2020.01': {},
    'logpipe-replay-x-2020.01.01': { createdMs: 0 },
    [YESTERDAY]: { blocks: ['index.blocks.read_only'] },
    'calling-platform-2026.11.29': {},
  });
  const dry = await run(server, { dryRun: true });
  expect(server.changes).toEqual([]);
  expect(dry.indices.filter(({ decision }) => decision === 'delete').map(({ name }) => name)).toEqual([OLDER, OLD]);
  expect(dry.indices.find(({ name }) => name === OLD)).toMatchObject({ closed: true, documents: undefined });

  const { indices } = await run(server);
  expect(server.changes).toEqual([
    `DELETE /${OLDER}`,
    `PUT /${OLDER}/_settings {"index.blocks.read_only":false}`,
    `DELETE /${OLDER}`,
    `DELETE /${OLD}`,
  ]);
  expect(indices.filter(({ result }) => result !== undefined).map(({ result }) => result)).toEqual([
    'deleted',
    'deleted',
  ]);
  expect([...server.indices.keys()]).toEqual([
    'calling-platform-2026.10.30',
    `${OLD}-old`,
    'calling-platform-2026.11',
    'logpipe-alerts-2020.01',
    'logpipe-replay-x-2020.01.01',
    YESTERDAY,
    'calling-platform-2026.11.29',
  ]);
  expect(server.indices.get(YESTERDAY)?.blocks).toEqual(['index.blocks.read_only']);
  // Again: nothing is left to do.
  expect((await run(server)).indices.some(({ result }) => result !== undefined)).toBe(false);
  expect(server.changes).toHaveLength(4);
});

/** It does what it was asked for, and answers this. */
const after = (reply: Reply) => (indices: Map<string, StoredIndex>) => {
  indices.delete(OLD);
  return reply;
};

test.each<[string, (indices: Map<string, StoredIndex>) => Reply, string, RegExp | undefined]>([
  ['somebody else was faster', after(undefined), 'gone', undefined],
  [
    'not every node has heard of it, and it is gone',
    after({ status: 200, body: { acknowledged: false } }),
    'deleted',
    undefined,
  ],
  [
    'not every node has heard of it, and it is there',
    () => ({ status: 200, body: { acknowledged: false } }),
    'waits',
    /HTTP 200/,
  ],
  ['the answer was lost on its way', after('drop'), 'deleted', undefined],
  ['the request was lost on its way', () => 'drop', 'waits', /socket hang up|ECONNRESET|aborted|closed/i],
  [
    '404 of something that is not Elasticsearch',
    () => ({ ...refusal(404, 'index_not_found_exception'), foreign: true }),
    'waits',
    /HTTP 404 from something else/,
  ],
  [
    '404 for another reason',
    () => refusal(404, 'resource_not_found_exception'),
    'failed',
    /resource_not_found_exception/,
  ],
  [
    'a snapshot is being taken',
    () => refusal(400, 'snapshot_in_progress_exception'),
    'waits',
    /when the snapshot is done/,
  ],
  ['no master', () => refusal(503, 'master_not_discovered_exception'), 'waits', /HTTP 503 master_not_discovered/],
  [
    'a privilege is missing',
    () => refusal(403, 'security_exception'),
    'failed',
    /index privilege delete_index on calling-platform-\*/,
  ],
  [
    'the whole cluster is read-only',
    () => refusal(403, 'cluster_block_exception', 'blocked by: [FORBIDDEN/6/cluster read-only (api)]'),
    'failed',
    /cluster read-only.*lift the block/,
  ],
])('%s', async (_, answer, result, words) => {
  const server = await startServer([OLD, OLDER, YESTERDAY], (method, path, indices) =>
    method === 'DELETE' && path === `/${OLD}` ? answer(indices) : undefined,
  );
  const { indices } = await run(server);
  const row = indices.find(({ name }) => name === OLD)!;
  expect(row.result).toBe(result);
  if (words === undefined) expect(row.failure).toBeUndefined();
  else expect(row.failure).toMatch(words);
  expect(server.indices.has(OLD)).toBe(result === 'waits' || result === 'failed');
  // The others go all the same.
  expect(indices.find(({ name }) => name === OLDER)?.result).toBe('deleted');
  expect(server.indices.has(YESTERDAY)).toBe(true);
});

test('an index whose metadata may not be read hides the details of all, and is deleted all the same', async () => {
  const blocks = ['index.blocks.read_only', 'index.blocks.metadata'];
  const server = await startServer({ [OLDER]: { blocks }, [OLD]: {}, [YESTERDAY]: {} }, (method, path) =>
    method === 'GET' && (path.startsWith('/_cat/indices') || path.includes('/_settings'))
      ? refusal(403, 'cluster_block_exception', `index [${OLDER}] blocked by: [FORBIDDEN/9/index metadata (api)];`)
      : undefined,
  );
  const { indices } = await run(server);
  expect(indices.map(({ name, result }) => [name, result])).toEqual([
    [OLDER, 'deleted'],
    [OLD, 'deleted'],
    [YESTERDAY, undefined],
  ]);
  expect(server.changes).toEqual([
    `DELETE /${OLDER}`,
    `PUT /${OLDER}/_settings {"index.blocks.read_only":false}`,
    `PUT /${OLDER}/_settings {"index.blocks.metadata":false}`,
    `DELETE /${OLDER}`,
    `DELETE /${OLD}`,
  ]);
});

test('a block that was lifted is put back when the index stays', async () => {
  let deletes = 0;
  const blocks = ['index.blocks.read_only'];
  const server = await startServer({ [OLD]: { blocks }, [YESTERDAY]: {} }, (method) =>
    method === 'DELETE' && ++deletes === 2 ? refusal(400, 'snapshot_in_progress_exception') : undefined,
  );
  const [row] = (await run(server)).indices;
  expect(row).toMatchObject({ name: OLD, result: 'waits' });
  expect(server.indices.get(OLD)?.blocks).toEqual(blocks);
  // May the block not be lifted, both privileges are named.
  const strict = await startServer({ [OLD]: { blocks }, [YESTERDAY]: {} }, (method) =>
    method === 'PUT' ? refusal(403, 'security_exception') : undefined,
  );
  expect((await run(strict)).indices[0]?.failure).toMatch(/privilege delete_index and manage on calling-platform-\*/);
  expect(strict.changes.filter((change) => change.startsWith('DELETE'))).toHaveLength(1);
});

test.each([
  ['the list of indices', '/_resolve/index/', 503, 'no master', /answered 503/],
  ['the list of indices, without the privilege', '/_resolve/index/', 403, 'security_exception', /docs\/operations\.md/],
  ['the time', '/_cat/health', 403, 'security_exception', /answered 403/],
])('without %s nothing is deleted', async (_, begin, status, type, words) => {
  const server = await startServer([OLD, YESTERDAY], (_method, path) =>
    path.startsWith(begin) ? refusal(status, type) : undefined,
  );
  await expect(run(server)).rejects.toMatchObject({
    code: 'LOGPIPE_ES_REFUSED',
    message: expect.stringMatching(words),
  });
  expect(server.changes).toEqual([]);
});

test('when Elasticsearch’s clock, the brokers’ or this host’s is wrong by years, nothing is deleted', async () => {
  const server = await startServer([OLD, OLDER, YESTERDAY]);
  const away = NOW + 700 * DAY;
  for (const clocks of [{ host: away }, { host: NOW, brokers: away }, { host: away, brokers: away }]) {
    const { problem, indices } = await run(server, { clocks: () => clocks });
    expect(problem).toMatch(/more than a day apart.*set the one that is wrong/);
    expect(indices).toEqual([]);
  }
  server.setTime(away);
  expect((await run(server)).problem).toMatch(/Elasticsearch’s says 2028-/);
  expect(server.changes).toEqual([]);
});

// ---- on the leader ----

function leader(server: Server, options: { clock: Clock; schedule?: string; brokersMs?: number }) {
  const metrics = createMetrics();
  const lines: string[] = [];
  const note = (level: string) => (message: string, meta?: object) =>
    void lines.push(`${level} ${message} ${JSON.stringify(meta ?? {})}`);
  const job = createRetention(
    { retention: { ...CONFIG, schedule: options.schedule ?? CONFIG.schedule }, elasticsearch: server.elasticsearch },
    {
      clock: options.clock,
      brokersNow: () => options.brokersMs ?? options.clock.now(),
      log: { error: note('error'), warn: note('warn'), info: note('info'), debug: () => {} },
      metrics,
    },
  );
  onTestFinished(() => job.stop());
  return { job, metrics, lines };
}

test('the leader: five minutes after its term began, then by schedule; what failed comes again; metrics and log tell', async () => {
  const clock = createFakeClock(NOW);
  let refused = true;
  const began = deferred();
  const server = await startServer([OLD, OLDER, YESTERDAY], (method, path) => {
    if (method === 'DELETE') began.resolve();
    const waits = method === 'DELETE' && path === `/${OLD}` && refused;
    return waits ? refusal(400, 'snapshot_in_progress_exception') : undefined;
  });
  const { job, metrics, lines } = leader(server, { clock });
  job.start();
  await clock.advance(299_999);
  expect(server.changes).toEqual([]);
  await clock.advance(1);
  await began.promise;
  // Joins the run under way.
  await job.run();
  expect([...server.indices.keys()]).toEqual([OLD, YESTERDAY]);
  expect(lines[0]).toBe(
    `info retention: deleted an index ${JSON.stringify({ index: OLDER, documents: 5, bytes: 1_000 })}`,
  );
  expect(lines[1]).toMatch(
    /^error retention: expired indices that are still there: 1; tried again at the next run .*snapshot/,
  );
  expect((await metrics.retentionSucceeded.get()).values[0]?.value).toBe(0);
  refused = false;
  await job.run();
  expect([...server.indices.keys()]).toEqual([YESTERDAY]);
  expect((await metrics.retentionDeleted.get()).values).toEqual([{ labels: { kind: 'logs' }, value: 2 }]);
  expect((await metrics.retentionSucceeded.get()).values[0]?.value).toBe(clock.now() / 1_000);
  await job.stop();

  // A successor whose brokers are elsewhere in time says so and deletes nothing.
  const later = leader(server, { clock, brokersMs: NOW + 900 * DAY });
  await later.job.run();
  expect(later.lines).toEqual([
    expect.stringMatching(/^error retention: nothing is deleted: the clocks are .*tried again at the next run/),
  ]);

  // By schedule, in real time: every second.
  const ran = deferred();
  const often = await startServer([OLD, YESTERDAY], (method) => {
    if (method === 'DELETE') ran.resolve();
    return undefined;
  });
  const scheduled = leader(often, { clock, schedule: '* * * * * *' });
  scheduled.job.start();
  await ran.promise;
  await scheduled.job.stop();
  expect(often.indices.has(YESTERDAY)).toBe(true);
});

test('once the term is over, the run under way deletes nothing more', async () => {
  const asked = deferred();
  const server = await startServer([OLD, OLDER, YESTERDAY], async (method) => {
    if (method !== 'DELETE') return undefined;
    asked.resolve();
    await new Promise(() => {});
  });
  const { job, lines } = leader(server, { clock: createFakeClock(NOW) });
  void job.run();
  await asked.promise;
  await job.stop();
  expect(server.changes).toEqual([`DELETE /${OLDER}`]);
  expect(lines).toEqual([]);
});

// ---- the command ----

async function command(
  server: Server,
  config: Partial<RetentionConfig>,
  options: { dryRun?: boolean; json?: boolean },
  hostMs = NOW,
) {
  const out: string[] = [];
  const err: string[] = [];
  const settings = {
    retention: { schedule: CONFIG.schedule, timeZone: 'UTC', ...config },
    elasticsearch: server.elasticsearch,
  };
  const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
  const deps = { clock: { now: () => hostMs }, stop: new AbortController().signal };
  const status = await retention(settings, { dryRun: false, json: false, ...options }, io, deps);
  return { status, out, err };
}

test('the command: name, documents, size, age, decision and why; exit status 0, 1', async () => {
  const server = await startServer([OLDER, OLD, YESTERDAY, `${OLD}-old`]);
  const dry = await command(server, { retentionDays: 7 }, { dryRun: true });
  expect(dry.status).toBe(0);
  expect(dry.out.map((line) => line.replace(/ {2,}/g, ' | '))).toEqual([
    'index | documents | size | age | decision | why',
    `${OLDER} | 5 | 1 kB | 28 d | delete | older than retention.retentionDays (7)`,
    `${OLD} | 5 | 1 kB | 27 d | delete | older than retention.retentionDays (7)`,
    `${OLD}-old | 5 | 1 kB | - | keep | not a name that logpipe gives`,
    `${YESTERDAY} | 5 | 1 kB | 0 d | keep | until 2026-12-06T00:00:00Z: retention.retentionDays (7)`,
  ]);
  expect(dry.err).toEqual(['2 of 4 would be deleted (2 kB); nothing was changed']);
  const off = await command(server, {}, { dryRun: true });
  expect(off.out[1]).toMatch(/keep {6}retention\.retentionDays is not set$/);
  await expect(command(server, {}, {})).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
  expect(server.changes).toEqual([]);

  const json = await command(server, { retentionDays: 7 }, { json: true });
  expect(json.status).toBe(0);
  expect(JSON.parse(json.out.join(''))).toMatchObject({
    dryRun: false,
    now: '2026-11-29T10:00:00.000Z',
    configured: { retentionDays: 7 },
    ...{ expired: 2, deleted: 2, left: 0, doubted: 0 },
    indices: [
      { name: OLDER, kind: 'logs', documents: 5, bytes: 1_000, ageDays: 28, decision: 'delete', result: 'deleted' },
      { name: OLD, result: 'deleted' },
      { name: `${OLD}-old`, decision: 'keep' },
      { name: YESTERDAY, decision: 'keep' },
    ],
  });

  const wrong = await command(server, { retentionDays: 7 }, {}, NOW + 40 * DAY);
  expect(wrong).toMatchObject({ status: 1, out: [] });
  expect(wrong.err[0]).toMatch(/^nothing was deleted: the clocks are more than a day apart/);
  server.setTime(NOW + 40 * DAY);
  const doubtful = await command(server, { retentionDays: 7 }, {}, NOW + 40 * DAY);
  expect(doubtful.status).toBe(1);
  expect(doubtful.out.join('\n')).toMatch(/doubt .*no log index of the 7 days before today/);
  expect(server.indices.has(YESTERDAY)).toBe(true);
});

test('the command: exit status 1 when something expired stays', async () => {
  const server = await startServer([OLD, YESTERDAY], (method) =>
    method === 'DELETE' ? refusal(403, 'security_exception', 'action is unauthorized') : undefined,
  );
  const { status, err } = await command(server, { retentionDays: 7 }, {});
  expect(status).toBe(1);
  expect(err[0]).toMatch(/^still there: calling-platform-2026\.11\.01: HTTP 403 .*privilege delete_index on/);
  expect(err[1]).toBe('0 deleted (0 B), 1 kept, 1 expired but still there');
});
