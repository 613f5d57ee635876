// `check-config --connect` against servers that answer, that are not there, and that never say a word.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkConfig } from '../../src/cli/check-config.ts';
import { tryConnections } from '../../src/cli/connections.ts';
import { parseConfig } from '../../src/config.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';

const TOKEN = ['opal', 'heron', '17'].join('-');

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Takes connections and whatever comes, and says nothing. */
const silent = (received: string[] = []) =>
  listening(createServer((socket) => socket.on('data', (bytes) => received.push(String(bytes))).on('error', () => {})));

const elasticsearch = () =>
  listening(
    createHttp((_, response) => {
      response.setHeader('x-elastic-product', 'Elasticsearch');
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ version: { number: '9.9.9' }, cluster_name: 'logs' }));
    }),
  );

test('each server says what it is or why it is not, in its own time; nothing is sent to a channel, no secret is shown', async () => {
  const received: string[] = [];
  const [hook, quiet, search] = [await silent(received), await silent(), await elasticsearch()];
  const config = parseConfig(
    `
kafka: { brokers: ["${quiet}", "127.0.0.1:1"] }
elasticsearch: { nodes: ["http://${search}", "http://127.0.0.1:1"] }
monitor: { redisUrl: "redis://:${TOKEN}@127.0.0.1:1" }
notify:
  webhook: { url: "http://${hook}/${TOKEN}" }
  slack: { webhookUrl: "https://127.0.0.1:1/${TOKEN}" }
  email: { host: 127.0.0.1, port: 1, from: a@example.org, to: [b@example.org] }
`,
    {},
    'test.yml',
  );
  const began = performance.now();
  const found = await tryConnections(config, { masker: createMasker(), env: {}, timeoutMs: 3_000 });
  expect(performance.now() - began).toBeLessThan(20_000);
  expect(found.map(({ path, ok }) => [path, ok])).toEqual([
    ['kafka.brokers', true],
    ['kafka.brokers', false],
    ['kafka', false],
    ['elasticsearch.nodes', true],
    ['elasticsearch.nodes', false],
    ['monitor.redisUrl', false],
    ['notify.slack.webhookUrl', false],
    ['notify.webhook.url', true],
    ['notify.email.host', false],
  ]);
  const [, gone, cluster, node, , redis, slack, , mail] = found;
  for (const one of [gone, redis, slack, mail]) expect(one?.detail).toBe('nothing listens there, ECONNREFUSED');
  expect(cluster?.detail).toMatch(/no answer within 3 s|nothing listens there/);
  expect(node?.detail).toBe('Elasticsearch 9.9.9, cluster logs');
  expect(JSON.stringify(found)).not.toContain(TOKEN);
  expect(received).toEqual([]);
});

test('the exit status tells that a server is away', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-connect-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'x.yml');
  const check = async (search: string) => {
    writeFileSync(config, `source: stdin\nelasticsearch: { nodes: ["http://${search}"] }`);
    const out: string[] = [];
    const io = { out: (line: string) => void out.push(line), err: () => {} };
    const status = await checkConfig({ config, json: false, connect: true }, io, { env: {} });
    return [status, out.filter((line) => /^(?:ok|FAILED)/.test(line)).map((line) => line.replace(/ \(\d+ ms\)$/, ''))];
  };
  const search = await elasticsearch();
  expect(await check(search)).toEqual([0, [`ok     elasticsearch.nodes ${search}: Elasticsearch 9.9.9, cluster logs`]]);
  expect(await check('127.0.0.1:1')).toEqual([
    1,
    [expect.stringMatching(/^FAILED elasticsearch\.nodes 127\.0\.0\.1:1: /)],
  ]);
});
