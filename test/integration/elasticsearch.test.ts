import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { LogpipeError } from '../../src/core/errors.ts';
import { silentLog } from '../../src/core/log.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import {
  createElasticsearchClient,
  explainFailure,
  indexTemplate,
  installTemplate,
  TEMPLATE_VERSION,
} from '../../src/indexing/elasticsearch.ts';
import { createLedger } from '../kit/ledger.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import { spawnLogpipe, startEs, testEsMajors, testEsUrl, testEsUrlOf, waitFor } from '../kit/servers.ts';
import { startTlsFront } from '../kit/tls-front.ts';

const CONFIG = { requestTimeoutMs: 10_000, installTemplate: true };

function clientFor(url: string) {
  const client = createElasticsearchClient({ ...CONFIG, nodes: [url] });
  onTestFinished(() => client.close());
  return client;
}

describe.each(testEsMajors())('index template on Elasticsearch %s', (major) => {
  it('is installed, left alone the second time, and never put over a newer one', async () => {
    const client = clientFor(await testEsUrlOf(major));
    const path = '/_index_template/calling-platform';
    await client.transport.request({ method: 'DELETE', path }).catch(() => undefined);
    expect(await installTemplate(client, silentLog)).toBe('installed');
    expect(await installTemplate(client, silentLog)).toBe('unchanged');

    const newer = { ...indexTemplate(), version: TEMPLATE_VERSION + 1 };
    await client.transport.request({ method: 'PUT', path, body: newer });
    await expect(installTemplate(client, silentLog)).rejects.toMatchObject({ code: 'LOGPIPE_TEMPLATE_NEWER' });

    const older = { ...indexTemplate(), version: TEMPLATE_VERSION - 1 };
    await client.transport.request({ method: 'PUT', path, body: older });
    expect(await installTemplate(client, silentLog)).toBe('updated');
  });

  it('takes every document the catalogue allows and maps it as declared', async () => {
    const client = clientFor(await testEsUrlOf(major));
    await installTemplate(client, silentLog);
    const index = 'calling-platform-1999.12.31';
    await client.indices.delete({ index, ignore_unavailable: true });
    onTestFinished(async () => void (await client.indices.delete({ index, ignore_unavailable: true })));
    await client.index({
      index,
      document: { '@timestamp': '1999-12-31T00:00:00.000Z', call: { status: 'busy' }, unknown: { deep: 'x' } },
    });
    const mapping = (await client.indices.getMapping({ index }))[index]?.mappings.properties as Record<string, unknown>;
    expect(mapping).toMatchObject({
      '@timestamp': { type: 'date' },
      tags: { type: 'keyword' },
      message: { type: 'text' },
      extra: { type: 'flattened' },
      call: { properties: { status: { type: 'keyword' }, durationMs: { type: 'long' } } },
      error: { properties: { template: { type: 'keyword' } } },
      unknown: { properties: { deep: { type: 'keyword', ignore_above: 1024 } } },
    });
  });
});

it('the shipped template file is the one that is installed', () => {
  const file = join(packageRoot(), 'config/elasticsearch/calling-platform.template.json');
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(indexTemplate());
});

describe('security, over a TLS front that refuses wrong credentials', () => {
  const user = { user: 'logpipe', password: 'right-horse', apiKey: 'a2V5OnNlY3JldA==' };

  it.each([
    ['basic and caFile', (front: Front) => ({ username: user.user, password: user.password, caFile: front.caFile })],
    ['API key and fingerprint', (front: Front) => ({ apiKey: user.apiKey, caFingerprint: front.caFingerprint })],
  ])('%s: documents arrive', async (_, auth) => {
    const front = await startTlsFront({ target: testEsUrl(), ...user });
    onTestFinished(front.stop);
    const client = createElasticsearchClient({ ...CONFIG, nodes: [front.url], ...auth(front) });
    onTestFinished(() => client.close());
    expect(['installed', 'updated', 'unchanged']).toContain(await installTemplate(client, silentLog));
    expect(front.requests.refused).toBe(0);
  });

  it.each([
    ['a wrong password', { username: user.user, password: 'wrong-horse' }, 401, /apiKey or username/],
    ['a wrong API key', { apiKey: 'wrong-key' }, 401, /apiKey or username/],
  ])('%s is refused, said so, and not repeated in the message', async (_, auth, status, words) => {
    const front = await startTlsFront({ target: testEsUrl(), ...user });
    onTestFinished(front.stop);
    const config = { ...CONFIG, nodes: [front.url], caFile: front.caFile, ...auth };
    const client = createElasticsearchClient(config);
    onTestFinished(() => client.close());
    const error = await installTemplate(client, silentLog).catch((failure: unknown) => explainFailure(failure, config));
    expect(error).toBeInstanceOf(LogpipeError);
    expect((error as LogpipeError).message).toContain(String(status));
    expect((error as LogpipeError).message).toMatch(words);
    expect(JSON.stringify(error) + String((error as LogpipeError).stack)).not.toMatch(/wrong-horse|wrong-key/);
  });

  it.each([
    [
      'http:// against a TLS port',
      (front: Front) => ({ nodes: [front.url.replace('https:', 'http:')] }),
      /speaks TLS; write https/,
    ],
    [
      'an unknown authority',
      (front: Front) => ({ nodes: [front.url] }),
      /set elasticsearch\.caFile or elasticsearch\.caFingerprint/,
    ],
    [
      'another authority than the pinned one',
      (front: Front) => ({
        nodes: [front.url],
        caFingerprint: front.caFingerprint.replace(/^../, (b) => (b === '00' ? '01' : '00')),
      }),
      /set elasticsearch\.caFile or elasticsearch\.caFingerprint/,
    ],
    ['nobody there', () => ({ nodes: ['http://127.0.0.1:1'] }), /check that it runs/],
  ])('%s: the message says what to do', async (_, at, words) => {
    const front = await startTlsFront({ target: testEsUrl(), ...user });
    onTestFinished(front.stop);
    const config = { ...CONFIG, ...at(front) };
    const client = createElasticsearchClient(config);
    onTestFinished(() => client.close());
    const error = await installTemplate(client, silentLog).catch((failure: unknown) => explainFailure(failure, config));
    expect((error as LogpipeError).message).toMatch(words);
  });

  it('a password from a file, and 401 while running: nothing is lost, and it goes on with the right one', async () => {
    const front = await startTlsFront({ target: testEsUrl(), ...user });
    onTestFinished(front.stop);
    const administrator = createElasticsearchClient({ ...CONFIG, nodes: [testEsUrl()] });
    onTestFinished(() => administrator.close());
    await installTemplate(administrator, silentLog);
    const ledger = await createLedger();
    await ledger.produce(500);
    const folder = mkdtempSync(join(tmpdir(), 'logpipe-secret-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const secret = join(folder, 'password');
    writeFileSync(secret, 'wrong-horse\n');
    const at = (file: string) =>
      `elasticsearch: { nodes: ['${front.url}'], username: ${user.user}, passwordFile: '${file}', caFile: '${front.caFile}', installTemplate: false }\n`;
    const refused = ledger.start({ elasticsearch: at(secret) });
    await refused.waitForLine(/Elasticsearch: unauthorized/);
    expect(refused.stderr()).not.toContain('wrong-horse');
    refused.kill('SIGKILL');
    writeFileSync(secret, `${user.password}\n`);
    ledger.start({ elasticsearch: at(secret) });
    await ledger.settled();
    expect(await ledger.verify()).toEqual([]);
  });
});

describe('outages', () => {
  it('Elasticsearch gone and back, under load: the ledger is exact and /ready told', async () => {
    const es = await startEs({});
    const ledger = await createLedger({ esUrl: es.url });
    const finish = ledger.produceContinuously(100);
    const process = ledger.start();
    const url = JSON.parse(await process.waitForLine(/"message":"running"/)).url as string;
    await waitFor(() => ledger.produced > 3_000, { what: 'load' });
    await waitFor(async () => (await fetch(`${url}/ready`)).status === 200, { what: 'ready' });
    es.kill();
    const elasticsearch = async () => {
      const response = await fetch(`${url}/ready`);
      const { dependencies } = (await response.json()) as {
        dependencies: { name: string; ready: boolean; detail: string }[];
      };
      return { status: response.status, ...dependencies.find(({ name }) => name === 'elasticsearch')! };
    };
    await waitFor(async () => !(await elasticsearch()).ready, { what: 'Elasticsearch is missed' });
    expect(await elasticsearch()).toMatchObject({ status: 503, detail: expect.stringMatching(/unreachable|timeout/) });
    expect((await fetch(`${url}/live`)).status).toBe(200);
    const during = ledger.produced;
    await waitFor(() => ledger.produced > during + 3_000, { what: 'load during the outage' });
    await finish();
    await es.start();
    await ledger.settled(90_000);
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    expect(await ledger.verify()).toEqual([]);
  });
});

describe('an index that takes no documents', () => {
  const DAY_MS = 86_400_000;
  const indexOf = (timeMs: number) =>
    `calling-platform-${new Date(timeMs).toISOString().slice(0, 10).replaceAll('-', '.')}`;
  const line = (timeMs: number, service: string, more = {}) =>
    Buffer.from(
      JSON.stringify({ timestamp: new Date(timeMs).toISOString(), level: 'info', message: 'm', service, ...more }),
    );

  async function call(method: string, path: string, body?: object) {
    const response = await fetch(`${testEsUrl()}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  async function withoutIndex(index: string) {
    const remove = () => call('DELETE', `/${index}?ignore_unavailable=true`);
    onTestFinished(async () => void (await remove()));
    await remove();
  }

  async function readyOf(process: LogpipeProcess) {
    const url = JSON.parse(await process.waitForLine(/"message":"running"/)).url as string;
    return async () => {
      const response = await fetch(`${url}/ready`);
      const { dependencies } = (await response.json()) as { dependencies: { name: string; detail: string }[] };
      return { status: response.status, detail: dependencies.find(({ name }) => name === 'elasticsearch')!.detail };
    };
  }

  const messages = (process: LogpipeProcess, name: RegExp) =>
    process
      .stderr()
      .split('\n')
      .filter((text) => name.test(text));

  it('blocked for writing: the others go on, its three documents follow, and it is said twice in all', async () => {
    const old = Date.now() - 20 * DAY_MS;
    await withoutIndex(indexOf(old));
    const ledger = await createLedger();
    await call('PUT', `/${indexOf(old)}`);
    await call('PUT', `/${indexOf(old)}/_block/write`);
    const process = ledger.start();
    const ready = await readyOf(process);
    await ledger.produceRaw(Array(3).fill(line(old, ledger.topic)));
    const trouble = { status: 503, detail: `read_only for ${indexOf(old)}` };
    await waitFor(async () => isDeepStrictEqual(await ready(), trouble), { what: 'the trouble', timeoutMs: 60_000 });
    await ledger.produce(5_000);
    const poison = Math.floor(5_000 / 97);
    await waitFor(
      async () => {
        await call('POST', '/calling-platform-*/_refresh');
        const reply = await call('GET', `/calling-platform-*/_count?q=service:${ledger.topic}`);
        return ((await reply.json()) as { count: number }).count === 5_000 - poison;
      },
      { what: 'all others to be indexed', timeoutMs: 60_000 },
    );
    await call('PUT', `/${indexOf(old)}/_settings`, { index: { 'blocks.write': false } });
    await ledger.settled(60_000);
    expect(await ready()).toEqual({ status: 200, detail: 'accepting documents' });
    expect(await ledger.verify({ alsoRaw: true })).toEqual([]);
    expect(messages(process, new RegExp(`Elasticsearch: .*${indexOf(old)}`))).toEqual([
      expect.stringContaining(`read_only for ${indexOf(old)}`),
      expect.stringContaining(`no document waits for ${indexOf(old)} any more`),
    ]);
    process.kill('SIGTERM');
    expect(await process.exit).toEqual({ status: 0, signal: null });
  }, 240_000);

  it('under a strict template of somebody else: fifty dead letters, not thousands, and the rest follows', async () => {
    const ledger = await createLedger();
    const day = indexOf(Date.now() - 5 * DAY_MS);
    await withoutIndex(day);
    onTestFinished(async () => void (await call('DELETE', '/_index_template/foreign').catch(() => {})));
    await call('PUT', '/_index_template/foreign', {
      index_patterns: [day],
      priority: 9_999,
      template: { mappings: { dynamic: 'strict', properties: { other: { type: 'keyword' } } } },
    });
    const ready = await readyOf(ledger.start());
    await ledger.produceRaw(Array(3_000).fill(line(Date.now() - 5 * DAY_MS, ledger.topic)));
    const pause = `refused_in_a_row for ${day}`;
    await waitFor(async () => (await ready()).detail === pause, { what: 'the pause', timeoutMs: 60_000 });
    await ledger.produce(500);
    await waitFor(async () => (await ledger.documents()) >= 400, { what: 'the others to go on' });
    await call('DELETE', '/_index_template/foreign');
    await call('DELETE', `/${day}`);
    await ledger.settled(90_000);
    const { records, documents, letters } = await ledger.accounts();
    // What ledger.produce makes on purpose is among the letters too.
    expect(letters.size).toBe(50 + Math.floor(500 / 97));
    expect(documents.size).toBe(records.size - letters.size);
    expect((await ready()).status).toBe(200);
    const degraded = await call('GET', `/${day}/_count?q=tags:_mapping_degraded`);
    expect(await degraded.json()).toMatchObject({ count: 0 });
  }, 240_000);
});

describe('a line with one key twice', () => {
  it.each(testEsMajors())(
    'Elasticsearch %s refuses it as it is, and its first value is stored nowhere',
    async (major) => {
      const ledger = await createLedger({ esUrl: await testEsUrlOf(major) });
      const line = (level: string) =>
        `{"timestamp":"${new Date().toISOString()}","level":"${level}","message":"pwd=hunter2","message":"twice"}`;
      await ledger.produceRaw([Buffer.from(line('info')), Buffer.from(line('error'))]);
      const process = ledger.start();
      await ledger.settled();
      process.kill();
      await process.exit;
      const query = `q=${encodeURIComponent(`kafka.topic:"${ledger.topic}"`)}`;
      await fetch(`${ledger.esUrl}/calling-platform-*/_refresh`, { method: 'POST' });
      const reply = await (await fetch(`${ledger.esUrl}/calling-platform-*/_search?${query}`)).text();
      expect(reply).toMatch(/"message":"twice".*"message":"twice"/s);
      expect(reply).toContain('_mapping_degraded');
      expect(reply).not.toContain('hunter2');
    },
  );
});

describe('the command line on real servers', () => {
  it('setup is idempotent, and check-config lists every problem', async () => {
    const ledger = await createLedger();
    const env = { KAFKA_BROKERS: ledger.brokers.join(','), ELASTICSEARCH_URL: ledger.esUrl };
    const first = spawnLogpipe(['setup', '--json'], { env });
    expect((await first.exit).status).toBe(0);
    const second = spawnLogpipe(['setup', '--json'], { env });
    expect((await second.exit).status).toBe(0);
    expect(JSON.parse(second.stdout())).toMatchObject({ topics: { created: [] }, template: 'unchanged' });

    const wrong = spawnLogpipe(['check-config'], {
      env: { ELASTICSEARCH_URL: 'localhost:9200', LOGPIPE_HTTP_PORT: '99999' },
    });
    expect((await wrong.exit).status).toBe(2);
    expect(wrong.stderr()).toMatch(/2 problem\(s\)/);
    expect(wrong.stderr()).toMatch(
      /elasticsearch\.nodes\.0: found "localhost:9200" from ELASTICSEARCH_URL; permitted: addresses/,
    );
    expect(wrong.stderr()).toMatch(/http\.port: found 99999 from LOGPIPE_HTTP_PORT; must be <= 65535/);
  });
});

type Front = Awaited<ReturnType<typeof startTlsFront>>;

it('Kafka away at start: up, not ready, and SIGTERM still ends it cleanly', async () => {
  const ledger = await createLedger({ announce: ['127.0.0.1:1'] });
  const process = ledger.start();
  const url = JSON.parse(await process.waitForLine(/"message":"running"/)).url as string;
  expect((await fetch(`${url}/ready`)).status).toBe(503);
  expect((await fetch(`${url}/live`)).status).toBe(200);
  process.kill('SIGTERM');
  expect(await process.exit).toEqual({ status: 0, signal: null });
});
