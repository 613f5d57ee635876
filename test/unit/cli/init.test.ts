// `logpipe init` in folders of its own: what it writes is taken by logpipe's own checks; what is there is never changed; no credential of
// the environment is written down.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as base, expect, onTestFinished } from 'vitest';
import { type InitOptions, init } from '../../../src/cli/init.ts';
import { rulesCheck, rulesTest } from '../../../src/cli/rules.ts';
import { loadConfig } from '../../../src/config.ts';
import { startProcess } from '../../kit/process.ts';

const test = base.extend<{ dir: string }>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest wants the pattern.
  async dir({}, use) {
    const dir = mkdtempSync(join(tmpdir(), 'logpipe-init-'));
    await use(dir);
    rmSync(dir, { recursive: true });
  },
});

async function listening(server: Server): Promise<number> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** A port where nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

async function run(dir: string, options: Partial<InitOptions> = {}, deps: Partial<Parameters<typeof init>[2]> = {}) {
  const lines: string[] = [];
  const io = { out: (line: string) => void lines.push(line), err: (line: string) => void lines.push(line) };
  const port = await freePort();
  const nobody = {
    ...{ systemdFolder: join(dir, 'no-systemd'), kafka: { host: '127.0.0.1', port } },
    ...{ elasticsearchUrl: `http://127.0.0.1:${port}` },
  };
  const all = { dir, keeper: undefined, force: false, dryRun: false, json: false, ...options };
  expect(await init(all, io, { env: {}, ...nobody, ...deps })).toBe(0);
  return lines.join('\n');
}

const read = (dir: string, file: string) => readFileSync(join(dir, file), 'utf8');
const contents = (dir: string) => Object.fromEntries(readdirSync(dir).map((file) => [file, read(dir, file)]));

test('what it writes passes check-config, rules check and rules test; a second run changes nothing and says so', async ({
  dir,
}) => {
  writeFileSync(join(dir, 'package.json'), '{"name":"@acme/shop-api"}');
  const said = await run(dir);
  expect(said).toMatch(/^written {5}logpipe\.yml\nwritten {5}rules\.yml\nwritten {5}rules\.test\.yml\n/);
  expect(said).toContain('service: "shop-api"');
  const config = loadConfig({ file: join(dir, 'logpipe.yml'), env: {} });
  expect(config).toMatchObject({
    source: 'kafka',
    alerts: { rulesFile: 'rules.yml' },
    notify: { console: { enabled: true } },
  });
  const lines: string[] = [];
  const io = { out: (line: string) => void lines.push(line), err: (line: string) => void lines.push(line) };
  const rules = { rules: join(dir, 'rules.yml'), json: false };
  expect(rulesCheck(config, rules, io)).toBe(0);
  // Without a file: the tests beside the rules.
  expect(await rulesTest([], config, rules, io), lines.join('\n')).toBe(0);
  expect(lines.at(-1)).toBe('3 passed, 0 failed');

  const before = contents(dir);
  expect(await run(dir)).toContain('Nothing was changed.');
  expect(contents(dir)).toEqual(before);
});

test('a file that is there is kept, also a link that leads nowhere; with --force a copy of each former one', async ({
  dir,
}) => {
  writeFileSync(join(dir, 'rules.yml'), 'mine');
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'logpipe.yml'));
  const said = await run(dir);
  expect(said).toMatch(/^kept {8}logpipe\.yml .*\nkept {8}rules\.yml .*--force replaces it/);
  expect(read(dir, 'rules.yml')).toBe('mine');
  rmSync(join(dir, 'logpipe.yml'));
  await run(dir, { force: true });
  expect(read(dir, 'rules.yml.bak')).toBe('mine');
  writeFileSync(join(dir, 'rules.yml'), 'mine again');
  expect(await run(dir, { force: true, dryRun: true })).toContain('would be replaced  rules.yml');
  expect(read(dir, 'rules.yml')).toBe('mine again');
  await run(dir, { force: true });
  expect([read(dir, 'rules.yml.bak'), read(dir, 'rules.yml.bak.2')]).toEqual(['mine', 'mine again']);
});

test('what the environment says is written as the default, without credentials or what would break the file', async ({
  dir,
}) => {
  const password = ['pass', 'word1'].join('');
  const said = await run(
    dir,
    {},
    {
      env: {
        KAFKA_BROKERS: 'kafka-1:9092,kafka-2:9092',
        ELASTICSEARCH_URL: `https://elastic:${password}@es.example:9200/`,
      },
    },
  );
  expect(said).toContain('a user name: it is not written down; set ELASTICSEARCH_USERNAME');
  const config = loadConfig({ file: join(dir, 'logpipe.yml'), env: {} });
  expect(config.kafka.brokers).toEqual(['kafka-1:9092', 'kafka-2:9092']);
  expect(config.elasticsearch.nodes).toEqual(['https://es.example:9200']);
  expect(JSON.stringify(contents(dir)) + said).not.toContain(password);

  const other = join(dir, 'other');
  await run(other, {}, { env: { KAFKA_BROKERS: "a}: b\n#'", ELASTICSEARCH_URL: 'http://a}b' } });
  expect(loadConfig({ file: join(other, 'logpipe.yml'), env: {} }).kafka.brokers).toEqual(['localhost:9092']);
});

test('servers of this machine are found within a bound; what only listens is no Elasticsearch', async ({ dir }) => {
  const kafka = await listening(createServer());
  const elasticsearch = createHttpServer((_, response) =>
    response.writeHead(200, { 'x-elastic-product': 'Elasticsearch' }).end('{"version":{"number":"9.1.2"}}'),
  );
  const url = `http://127.0.0.1:${await listening(elasticsearch)}`;
  const found = await run(dir, { dryRun: true }, { kafka: { host: '127.0.0.1', port: kafka }, elasticsearchUrl: url });
  expect(found).toContain('something listens there');
  expect(found).toContain('it answers as 9.1.2');
  expect(found).not.toContain('note:');
  expect(readdirSync(dir)).toEqual([]);
  const silent = await listening(createServer());
  const begin = performance.now();
  expect(await run(dir, { dryRun: true }, { elasticsearchUrl: `http://127.0.0.1:${silent}` })).toContain(
    'nothing answers there now',
  );
  expect(performance.now() - begin).toBeLessThan(5_000);
});

test('PM2 where it is used, else systemd where it runs, else neither; what is asked for goes before', async ({
  dir,
}) => {
  const systemdFolder = dir;
  const keptBy = async (options: Partial<InitOptions> = {}, env = {}) =>
    /Kept running {3}(.*)/.exec(await run(dir, { dryRun: true, ...options }, { systemdFolder, env }))?.[1];
  expect(await keptBy()).toBe('by systemd (systemd runs)');
  mkdirSync(join(dir, 'bin'));
  writeFileSync(join(dir, 'bin', 'pm2'), '');
  expect(await keptBy({}, { PATH: join(dir, 'bin') })).toBe('by pm2 (pm2 is on the path)');
  writeFileSync(join(dir, 'ecosystem.config.cjs'), '');
  expect(await keptBy()).toBe('by pm2 (ecosystem.config.cjs is here)');
  expect(await keptBy({ keeper: 'none' })).toBe('by nobody yet (as asked for)');

  await run(dir, { keeper: 'systemd' });
  const unit = read(dir, 'logpipe.service');
  expect(unit).toContain(`\nWorkingDirectory=${dir}\n`);
  expect(unit).toMatch(
    /\nExecStart="\/[^"]+" --max-semi-space-size=16 --v8-pool-size=2 "\/[^"]+\/dist\/src\/main\.js" run\n/,
  );
  await run(dir, { keeper: 'pm2' });
  const { apps } = createRequire(import.meta.url)(join(dir, 'logpipe.config.cjs')) as { apps: object[] };
  expect(apps).toEqual([
    expect.objectContaining({
      name: 'logpipe',
      args: 'run',
      cwd: dir,
      exec_mode: 'fork',
      script: expect.stringMatching(/main\.js$/),
    }),
  ]);
});

test('logpipe finds what init wrote in the folder it is started in; as one JSON object', async ({ dir }) => {
  const one = startProcess('src/main.js', ['init', '--none', '--json'], {
    cwd: dir,
    env: { KAFKA_BROKERS: 'kafka-9:9092' },
  });
  expect(await one.exit).toEqual({ status: 0, signal: null });
  expect(JSON.parse(one.stdout())).toMatchObject({
    files: ['logpipe.yml', 'rules.yml', 'rules.test.yml'].map((file) => ({ file, action: 'written' })),
    found: { keeper: 'none', kafka: 'kafka-9:9092' },
  });
  const check = startProcess('src/main.js', ['check-config', '--json'], { cwd: dir });
  expect(await check.exit).toEqual({ status: 0, signal: null });
  expect(JSON.parse(check.stdout())).toMatchObject({
    ok: true,
    configuration: { kafka: { brokers: ['kafka-9:9092'] }, alerts: { rulesFile: 'rules.yml' } },
  });
});
