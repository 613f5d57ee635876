// Jobs over HTTP, attacked: a listening server, and child processes that do what no command should. What a child was given is read from what
// it says itself; that none is left, from the system. The real commands on real servers are in test/integration/jobs.test.ts.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createApi } from '../../src/ops/guard.ts';
import { createStatusView, startHttp } from '../../src/ops/http.ts';
import { createJobs, type JobsDeps, type JobsOptions } from '../../src/ops/jobs.ts';
import { incidentLog } from '../kit/incident-log.ts';
import { startProcess } from '../kit/process.ts';

const ACT = 'a-token-that-may-act-0123456789';
const READ = 'a-token-that-may-read-0123456789';
const TOPICS = { logs: 'app-logs', dlq: 'app-logs.dlq', counts: 'c', alerts: 'a', commands: 'cmd' };

/** Says what it was given, and does what the first condition says. */
const CHILD = `
import { appendFileSync } from 'node:fs';
const [file, ...args] = process.argv.slice(2);
appendFileSync(file, JSON.stringify({ pid: process.pid, args }) + '\\n');
const what = args.find((arg) => arg.startsWith('--where=do='))?.slice(11);
const progress = (share) => console.error(JSON.stringify({ type: 'progress', share, text: 'read some' }));
const summary = (complete) => console.log(JSON.stringify({ complete, written: { new: 7 } }));
process.stdin.resume().once('end', () => process.exit(9));
const alive = setInterval(() => {}, 1000);
if (what === 'wait' || what === 'stubborn') {
  process.on('SIGINT', () => { if (what === 'wait') { summary(false); process.exit(1); } });
  progress(0.25);
} else if (what === 'die') {
  console.error('{"level":"warn","message":"before it"}');
  console.error('logpipe: Kafka does not answer, password=hunter2-s3cr3t [LOGPIPE_KAFKA]');
  process.exit(1);
} else if (what === 'crash') {
  process.kill(process.pid, 'SIGKILL');
} else if (what === 'flood') {
  const more = () => { while (process.stdout.write('x'.repeat(65536))); process.stdout.once('drain', more); };
  more();
} else if (what === 'mumble') {
  process.stderr.write('m'.repeat(3_000_000), () => process.exit(3));
} else if (what === 'long') {
  const gaps = Array.from({ length: 30_000 }, (_, n) => 'gap ' + n + 'x'.repeat(60));
  process.stdout.write(JSON.stringify({ complete: true, gaps }), () => process.exit(0));
} else {
  progress(0.5);
  summary(true);
  clearInterval(alive);
  process.exitCode = 0;
  process.stdin.unref();
}
`;

interface Started {
  readonly pid: number;
  readonly args: readonly string[];
}

interface Answer {
  readonly status: number;
  readonly location: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: compared as JSON
  readonly json: any;
}

async function serve(given: { readonly options?: Partial<JobsOptions>; readonly deps?: Partial<JobsDeps> } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-jobs-'));
  const script = join(folder, 'child.mjs');
  const told = join(folder, 'told');
  writeFileSync(script, CHILD);
  writeFileSync(told, '');
  const logged: string[] = [];
  const log: Log = { ...silentLog, info: (text, meta) => void logged.push(`${text} ${JSON.stringify(meta)}`) };
  const tokens = [
    { name: 'ops', token: ACT, scopes: ['read', 'act'] as const },
    { name: 'wall', token: READ, scopes: ['read'] as const },
  ];
  const options: JobsOptions = {
    ...{ source: 'kafka', sinks: { elasticsearch: true }, kafka: { topics: TOPICS }, files: { paths: [] }, alerts: {} },
    ...given.options,
  };
  const jobs = createJobs(options, {
    ...{ clock: systemClock, log, masker: createMasker(), configArgs: ['--config=/etc/logpipe.yml'] },
    command: [script, told],
    ...given.deps,
  });
  const api = createApi({ tokens }, { clock: systemClock, log }, [jobs.routes]);
  const server = await startHttp(
    { enabled: true, host: '127.0.0.1', port: 0, allowedHosts: [], tokens },
    {
      metrics: createMetrics(),
      clock: systemClock,
      readiness: () => [],
      platform: { metrics: () => '', stats: () => undefined },
      status: createStatusView(
        { version: '1', roles: ['indexer'], source: 'kafka', group: 'g' },
        { clock: systemClock, readiness: () => [], alerting: () => undefined },
      ),
      api: async () => api,
    },
  );
  onTestFinished(async () => {
    await jobs.close();
    await server.close();
    for (const { pid } of started()) expect(existsSync(`/proc/${pid}/exe`), `the child ${pid} is left`).toBe(false);
    rmSync(folder, { recursive: true, force: true });
  });
  const started = (): Started[] =>
    readFileSync(told, 'utf8')
      .split('\n')
      .filter((text) => text !== '')
      .map((text) => JSON.parse(text) as Started);
  const ask = async (method: string, path: string, body?: unknown, token: string | null = ACT): Promise<Answer> => {
    const reply = await fetch(`${server.url}${path}`, {
      method,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: reply.status, location: reply.headers.get('location'), json: await reply.json() };
  };
  return {
    ...{ jobs, ask, started, logged },
    post: (body: unknown, token?: string | null) => ask('POST', '/api/v1/jobs', body, token),
    /** The job when it has ended. */
    async ended(id: string) {
      const job = async () => (await ask('GET', `/api/v1/jobs/${id}`)).json;
      await expect.poll(async () => (await job()).state).not.toBe('running');
      return job();
    },
  };
}

const RANGE = { from: '2026-01-05T10:00:00Z', to: '2026-01-05T12:00' };
const IN_PLACE = { kind: 'replay', ...RANGE, target: { kind: 'in-place' }, dryRun: false };
const doing = (what: string) => ({ ...IN_PLACE, where: [`do=${what}`] });

test('a replay is started with the command line one would write, watched, and kept with its summary', async () => {
  const { post, ask, ended, started, logged } = await serve();
  const where = ['level=error', 'message~$(touch /pwned); --dry-run', '-c=x'];
  const target = { kind: 'index', name: 'incident-7' };
  const { status, json, location } = await post({ ...IN_PLACE, where, target, by: 'ada' });
  expect(status).toBe(202);
  const request = { kind: 'replay', from: '2026-01-05T10:00:00.000Z', to: '2026-01-05T12:00:00.000Z', where, target };
  expect(json).toMatchObject({ by: 'ada, by token ops', state: 'running', ended: null, result: null, error: null });
  expect(json.request).toEqual({ ...request, dryRun: false });
  expect(location).toBe(`/api/v1/jobs/${json.id}`);
  const job = await ended(json.id);
  expect(job).toMatchObject({ state: 'done', share: 1, progress: 'read some', error: null });
  expect(job.result).toEqual({ complete: true, written: { new: 7 }, cut: null });
  expect(started().map(({ args }) => args)).toEqual([
    [
      ...['replay', '--config=/etc/logpipe.yml', '--source=kafka'],
      ...[`--from=${request.from}`, `--to=${request.to}`],
      ...where.map((condition) => `--where=${condition}`),
      ...['--to-index=incident-7', '--json', '--progress=json', '--exit-with-parent'],
    ],
  ]);
  const { json: list } = await ask('GET', '/api/v1/jobs');
  expect(list.jobs).toEqual([job]);
  expect(logged).toEqual([
    expect.stringMatching(/^A job was started .*"by":"ada, by token ops".*"incident-7"/),
    expect.stringMatching(/^A job has ended .*"state":"done"/),
  ]);
});

test('nobody starts or ends one without a token that may', async () => {
  const { post, ask, started, ended } = await serve();
  expect((await post(IN_PLACE, null)).status).toBe(401);
  expect((await post(IN_PLACE, 'a-token-that-is-none-0123456789')).status).toBe(401);
  expect((await post(IN_PLACE, READ)).status).toBe(403);
  expect(started()).toEqual([]);
  const { json } = await post(doing('wait'));
  const path = `/api/v1/jobs/${json.id}`;
  expect((await ask('DELETE', path, undefined, null)).status).toBe(401);
  expect((await ask('DELETE', path, undefined, READ)).status).toBe(403);
  // On this machine, as all that is read.
  expect((await ask('GET', path, undefined, null)).json).toMatchObject({ id: json.id, state: 'running' });
  expect((await ask('GET', '/api/v1/jobs/none')).status).toBe(404);
  expect((await ask('DELETE', '/api/v1/jobs/none')).status).toBe(404);
  await ask('DELETE', path);
  await ended(json.id);
});

test.each([
  ['no JSON', '{', /no JSON/],
  ['a list', [IN_PLACE], /object/],
  ['another kind', { ...IN_PLACE, kind: 'run' }, /kind: permitted: replay, backtest/],
  ['an unknown key', { ...IN_PLACE, config: '/etc/passwd' }, /config: unknown/],
  ['no target', { kind: 'replay', ...RANGE, dryRun: true }, /target/],
  ['a target of its own', { ...IN_PLACE, target: { kind: 'dir', name: '/tmp' } }, /target.kind: permitted/],
  ['a target with more', { ...IN_PLACE, target: { kind: 'in-place', reparse: true } }, /reparse: unknown/],
  ['a name in place', { ...IN_PLACE, target: { kind: 'in-place', name: 'x' } }, /target.name/],
  ['an index without a name', { ...IN_PLACE, target: { kind: 'index' } }, /target.name/],
  ['a live index', { ...IN_PLACE, target: { kind: 'index', name: '../calling-platform-*' } }, /target.name: permitted/],
  ['an option as an index', { ...IN_PLACE, target: { kind: 'index', name: '--no-yield' } }, /target.name: permitted/],
  ['capital letters', { ...IN_PLACE, target: { kind: 'index', name: 'Incident' } }, /target.name: permitted/],
  ['the log topic', { ...IN_PLACE, target: { kind: 'topic', name: 'app-logs' } }, /kafka.topics.logs/],
  ['the commands topic', { ...IN_PLACE, target: { kind: 'topic', name: 'cmd' } }, /kafka.topics.commands/],
  ['Kafka’s own', { ...IN_PLACE, target: { kind: 'topic', name: '__consumer_offsets' } }, /topics of Kafka itself/],
  ['no topic', { ...IN_PLACE, target: { kind: 'topic', name: 'a b;c' } }, /target.name: permitted/],
  ['a text for a switch', { ...IN_PLACE, dryRun: 'no' }, /dryRun/],
  ['a time that is none', { ...IN_PLACE, from: '--dry-run' }, /from: .*is not a time/],
  ['a number as a time', { ...IN_PLACE, from: 5 }, /from/],
  ['a stretch that ends first', { ...IN_PLACE, to: '2026-01-05T09:00' }, /earlier/],
  ['a stretch of a year', { ...IN_PLACE, from: '2025-01-05' }, /31 days at most/],
  ['a long condition', { ...IN_PLACE, where: [`a=${'x'.repeat(500)}`] }, /where.0/],
  ['many conditions', { ...IN_PLACE, where: Array(21).fill('a=b') }, /where/],
  ['no condition', { ...IN_PLACE, where: ['level'] }, /where: .*path=value/],
  ['what cannot be seen', { ...IN_PLACE, where: ['a=\u202eb'] }, /cannot be seen/],
  ['a condition that is none', { ...IN_PLACE, where: 'a=b' }, /where/],
  ['a NUL', { ...IN_PLACE, where: ['a=\u0000'] }, /cannot be seen/],
  ['a backtest of a month', { kind: 'backtest', from: '-30d', to: 'now' }, /7 days at most/],
  ['a backtest with a target', { kind: 'backtest', from: '-1h', to: 'now', target: {} }, /target: unknown/],
  ['a threshold of nothing', { kind: 'backtest', from: '-1h', to: 'now', threshold: 1 }, /rule: missing/],
  ['no rule', { kind: 'backtest', from: '-1h', to: 'now', rule: 'high-eror-rate' }, /did you mean high-error-rate/],
  ['a rule of every object', { kind: 'backtest', from: '-1h', to: 'now', rule: 'constructor' }, /there is no rule/],
  [
    'a threshold in per cent',
    { kind: 'backtest', from: '-1h', to: 'now', rule: 'high-error-rate', threshold: 5 },
    /did you mean 5 %/,
  ],
  ['a threshold in words', { kind: 'backtest', from: '-1h', to: 'now', rule: 'x', threshold: '5 %' }, /threshold/],
  [
    'a rule without one',
    { kind: 'backtest', from: '-1h', to: 'now', rule: 'new-error', threshold: 5 },
    /no single one: it fires for whatever is new/,
  ],
])('%s is refused in words, and nothing is started', async (_, body, words) => {
  const { post, started } = await serve();
  const { status, json } = await post(body);
  expect(json.detail).toMatch(words);
  expect(status).toBe(400);
  expect(started()).toEqual([]);
});

test('what this process has not is said, and what can be read instead is read', async () => {
  const index = { ...IN_PLACE, target: { kind: 'index', name: 'x' } };
  const topic = { ...IN_PLACE, target: { kind: 'topic', name: 'x' } };
  const backtest = { kind: 'backtest', ...RANGE };
  const refused = async (options: Partial<JobsOptions>, body: object) => {
    const { status, json } = await (await serve({ options })).post(body);
    return `${status} ${json.detail}`;
  };
  const embedded = { source: 'files' } as const;
  const bare = { source: 'stdin', sinks: { elasticsearch: false } } as const;
  expect(await refused({ sinks: bare.sinks }, IN_PLACE)).toMatch(/409 .*Elasticsearch is switched off/);
  expect(await refused(embedded, IN_PLACE)).toMatch(/409 .*choose an index/);
  expect(await refused(embedded, topic)).toMatch(/409 .*no Kafka here/);
  expect(await refused(bare, index)).toMatch(/409 .*Elasticsearch is switched off/);
  expect(await refused(bare, backtest)).toMatch(/409 .*of what only `logpipe run` reads/);
  expect(await refused({ ...embedded, sinks: bare.sinks, files: { paths: ['/none/*.log'] } }, backtest)).toMatch(/409/);
  const noConfig = await serve({ deps: { configArgs: undefined } });
  expect(await noConfig.post(IN_PLACE)).toMatchObject({ status: 503 });

  const fromIndex = await serve({ options: embedded });
  await fromIndex.ended((await fromIndex.post(index)).json.id);
  expect(fromIndex.started()[0]!.args).toContain('--source=index');
  const folder = ownFolder();
  const file = join(folder, '--app.log');
  writeFileSync(file, '');
  const paths = [join(folder, '*.log'), join(folder, 'none.log')];
  const fromFiles = await serve({ options: { ...embedded, sinks: bare.sinks, files: { paths } } });
  await fromFiles.ended((await fromFiles.post(backtest)).json.id);
  expect(fromFiles.started()[0]!.args.slice(-3)).toEqual(['--source=file', '--', file]);
});

test('one of each kind runs at a time; canceled, it says what it had written', async () => {
  const { post, ask, ended, logged } = await serve();
  const { json: job } = await post(doing('wait'));
  await expect.poll(async () => (await ask('GET', `/api/v1/jobs/${job.id}`)).json.share).toBe(0.25);
  const second = await post(IN_PLACE);
  expect(second.status).toBe(409);
  expect(second.json.detail).toMatch(new RegExp(`^a replay runs already: ${job.id}, .* by token ops; wait`));
  const other = await post({ kind: 'backtest', ...RANGE });
  expect(other.status).toBe(202);
  expect(await ask('DELETE', `/api/v1/jobs/${job.id}`)).toMatchObject({ status: 202, json: { state: 'running' } });
  const result = { complete: false, written: { new: 7 }, cut: null };
  expect(await ended(job.id)).toMatchObject({ state: 'canceled', result, error: null, share: 0.25 });
  expect(await ask('DELETE', `/api/v1/jobs/${job.id}`)).toMatchObject({ status: 200, json: { state: 'canceled' } });
  expect(logged.filter((text) => text.startsWith('A job is canceled'))).toEqual([
    expect.stringContaining('"by":"token ops"'),
  ]);
  await ended(other.json.id);
  // One that runs is kept, however many came after it.
  const { json: third } = await post(doing('wait'));
  for (let n = 0; n < 20; n++) await ended((await post({ kind: 'backtest', ...RANGE })).json.id);
  expect((await post(IN_PLACE)).status).toBe(409);
  const kept = async () => (await ask('GET', '/api/v1/jobs')).json.jobs.map(({ id }: { id: string }) => id);
  expect(await kept()).toHaveLength(21);
  expect((await kept()).at(-1)).toBe(third.id);
  await ask('DELETE', `/api/v1/jobs/${third.id}`);
  await ended(third.id);
  await ended((await post(IN_PLACE)).json.id);
  expect(await kept()).toHaveLength(20);
  expect(await kept()).not.toContain(third.id);
});

test('one that does not end when it is told to is killed', async () => {
  const clock: Clock = { ...systemClock, after: (ms, fn) => systemClock.after(ms / 100, fn) };
  const { post, ask, ended } = await serve({ deps: { clock } });
  const { json } = await post(doing('stubborn'));
  await expect.poll(async () => (await ask('GET', `/api/v1/jobs/${json.id}`)).json.share).toBe(0.25);
  await ask('DELETE', `/api/v1/jobs/${json.id}`);
  expect(await ended(json.id)).toMatchObject({
    state: 'canceled',
    result: null,
    error: expect.stringMatching(/was killed/),
  });
});

test.each([
  ['die', /^Kafka does not answer, password=\[masked\] \[LOGPIPE_KAFKA\]$/],
  ['crash', /^ended by SIGKILL, without a word$/],
  ['flood', /longer than 4 MiB/],
  ['mumble', /^m{900}/],
])('a child that does %s is a job that failed, and says why', async (what, words) => {
  const { post, ended } = await serve();
  const job = await ended((await post(doing(what))).json.id);
  expect(job).toMatchObject({ state: 'failed', result: null });
  expect(job.error).toMatch(words);
  expect(job.error.length).toBeLessThan(1_100);
});

test('a child that cannot be started, and a result that is too long', async () => {
  const broken = await serve({ deps: { command: ['--no-such-option-of-node'] } });
  expect(await broken.ended((await broken.post(IN_PLACE)).json.id)).toMatchObject({ state: 'failed' });
  const { post, ended } = await serve();
  const job = await ended((await post(doing('long'))).json.id);
  expect(job).toMatchObject({ state: 'done', result: { complete: true, cut: 'gaps: 500 of 30000' } });
  expect(job.result.gaps).toHaveLength(500);
});

test('when the process ends, so do its children; and none is started any more', async () => {
  const { post, jobs, started, ask } = await serve();
  const { json } = await post(doing('wait'));
  await expect.poll(started).toHaveLength(1);
  await jobs.close();
  expect(existsSync(`/proc/${started()[0]!.pid}/exe`)).toBe(false);
  expect((await ask('GET', `/api/v1/jobs/${json.id}`)).json.state).toBe('canceled');
  expect((await post(IN_PLACE)).status).toBe(503);
});

/** `logpipe run` with this configuration, and what it answers. */
async function running(folder: string, config: object) {
  const file = join(folder, 'logpipe.yml');
  const http = { port: 0, tokens: [{ name: 'ops', token: ACT, scopes: ['read', 'act'] }] };
  writeFileSync(file, JSON.stringify({ http, roles: ['indexer'], ...config }));
  const child = startProcess('src/main.js', ['run', '--config', file], { cwd: folder });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await child.exit;
  });
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await child.waitForLine(/"url":"http/))![0];
  const headers = { authorization: `Bearer ${ACT}`, 'content-type': 'application/json' };
  return {
    ...{ child, file },
    async ask(path: string, body?: object) {
      const post = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
      const reply = await fetch(`${url}/api/v1/jobs${path}`, { headers, ...post });
      return { status: reply.status, json: (await reply.json()) as Answer['json'] };
    },
  };
}

function ownFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-jobs-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('without Kafka and Elasticsearch, what would be paged is read from the files', async () => {
  const folder = ownFolder();
  const startMs = Date.parse('2025-03-22T09:00:00.000Z');
  const log = incidentLog({ startMs, minutes: 20, failing: (minute) => (minute >= 12 ? 0.5 : 0) });
  writeFileSync(join(folder, 'app.log'), log.map(({ line }) => `${line}\n`).join(''));
  const rule = { title: 'Failing', priority: 'P1', kind: 'ratio', measure: 'call.failure_ratio', above: '20 %' };
  // An alias ties the two together, and yet only one of them gets another threshold.
  writeFileSync(
    join(folder, 'rules.yml'),
    `rules:\n  one: &rule\n${Object.entries(rule)
      .map(([key, value]) => `    ${key}: ${value}\n`)
      .join('')}  two: *rule\n`,
  );
  const { ask } = await running(folder, {
    source: 'files',
    files: { paths: ['*.log'] },
    sinks: { elasticsearch: false, ndjson: { enabled: true } },
    alerts: { rulesFile: 'rules.yml' },
  });
  const stretch = { from: '2025-03-22T09:00', to: '2025-03-22T09:20' };
  const { status, json } = await ask('', { kind: 'backtest', ...stretch, rule: 'one', threshold: 0.9 });
  expect({ status, detail: json.detail }).toEqual({ status: 202, detail: undefined });
  const job = async () => (await ask(`/${json.id}`)).json;
  await expect.poll(async () => (await job()).state).not.toBe('running');
  const { state, result, error } = await job();
  expect({ state, error }).toEqual({ state: 'done', error: null });
  expect(result.now).toMatchObject({ source: 'file', records: log.length });
  const rulesOf = ({ timeline }: { timeline: { alerts: { rule: string }[] } }) =>
    timeline.alerts.map(({ rule }) => rule);
  expect(rulesOf(result.now)).toEqual(['one', 'two']);
  expect(rulesOf(result.then)).toEqual(['two']);
  expect(result.difference.pages.total).toBe(-1);
});

test('a pipeline that is killed leaves no command behind', async () => {
  // Takes connections, and never answers: the command waits for it.
  const silent = createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void silent.close());
  const { port } = silent.address() as { port: number };
  const elasticsearch = { nodes: ['http://127.0.0.1:1'] };
  const kafka = { brokers: [`127.0.0.1:${port}`], requestTimeoutMs: 60_000 };
  const { child: parent, file, ask } = await running(ownFolder(), { kafka, elasticsearch });
  const { status } = await ask('', { ...IN_PLACE, from: '-1h', to: 'now', dryRun: true });
  expect(status).toBe(202);
  const [child] = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').trim().split(' ');
  const commandOf = () => readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0');
  await expect.poll(commandOf).toEqual(expect.arrayContaining(['replay', `--config=${file}`, '--dry-run']));
  expect(commandOf().join(' ')).not.toContain(ACT);
  parent.kill('SIGKILL');
  await parent.exit;
  await expect.poll(() => existsSync(`/proc/${child}/exe`)).toBe(false);
});
