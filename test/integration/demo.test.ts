// `npm run demo` as a user runs it: everything produced arrives, nothing stays behind, nobody else's server is touched.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { expect, inject, onTestFinished, test } from 'vitest';
import type { DemoReport } from '../../examples/demo/report.ts';
import { processStart } from '../../stack/index.ts';
import { spawnScript, testBrokers, testEsUrl, waitFor } from '../kit/servers.ts';

const DEMO = 'examples/demo/main.js';
/** With Docker the demo's own servers are containers; without, it must not depend on a daemon started meanwhile. */
const ownServers = () => (inject('backend') === 'docker' ? [] : ['--no-docker']);

/** An address that must never be called, in every variable that could lead there; and a folder for temporary files. */
async function surroundings() {
  let contacts = 0;
  const trap = createServer((socket) => {
    contacts++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve));
  const address = `127.0.0.1:${(trap.address() as AddressInfo).port}`;
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-test-demo-'));
  onTestFinished(() => {
    trap.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const url = `http://${address}`;
  const env = {
    TMPDIR: folder,
    ELASTICSEARCH_URL: url,
    ELASTICSEARCH_NODES: url,
    KAFKA_BROKERS: address,
    SLACK_WEBHOOK_URL: url,
    PAGERDUTY_EVENTS_URL: url,
    LOGPIPE_CONFIG: join(folder, 'not-there.yml'),
  };
  return { env, folder, contacts: () => contacts };
}

function pidsIn(text: string): number[] {
  return [...text.matchAll(/\(pid (\d+)\)/g)].map((match) => Number(match[1]));
}

async function report(demo: ReturnType<typeof spawnScript>): Promise<DemoReport> {
  const { status } = await demo.exit;
  expect(status, demo.stderr()).toBe(0);
  expect(demo.stdout().trimEnd().split('\n')).toHaveLength(1);
  return JSON.parse(demo.stdout());
}

function expectComplete(result: DemoReport): void {
  expect(result.produced).toBeGreaterThan(500);
  expect(result).toMatchObject({ indexed: result.produced, deadLettered: 0, dropped: 0 });
  const indices = Object.entries(result.indices);
  expect(indices.length).toBeGreaterThan(0);
  for (const [index] of indices) expect(index).toMatch(/^calling-platform-\d{4}\.\d\d\.\d\d$/);
  expect(indices.reduce((sum, [, documents]) => sum + documents, 0)).toBe(result.produced);
  // In a few seconds there may be none.
  expect(result.errorRate).toBeGreaterThanOrEqual(0);
  expect(result.errorRate).toBeLessThan(0.1);
}

test('on its own Kafka and Elasticsearch every event arrives, and all of it ends with the demo', async () => {
  const around = await surroundings();
  const demo = spawnScript(DEMO, ['--for', '8s', '--json', ...ownServers()], { env: around.env });
  const result = await report(demo);
  expectComplete(result);
  expect(around.contacts()).toBe(0);
  const pids = pidsIn(demo.stderr());
  expect(pids.length).toBeGreaterThanOrEqual(2);
  expect(pids.map(processStart)).toEqual(pids.map(() => undefined));
  expect(readdirSync(around.folder)).toEqual([]);
}, 180_000);

test('killed, it leaves no process behind; the next demo, without servers, removes its folder', async () => {
  const around = await surroundings();
  const demo = spawnScript(DEMO, ['--json', ...ownServers()], { env: around.env });
  await demo.waitForLine(/produced [1-9]/, 120_000);
  const pids = pidsIn(demo.stderr());
  expect(pids.length).toBeGreaterThanOrEqual(2);
  expect(pids.map(processStart)).not.toContain(undefined);
  demo.kill('SIGKILL');
  await demo.exit;
  const what = 'all that the killed demo started to be gone';
  await waitFor(() => pids.every((pid) => processStart(pid) === undefined), { what, timeoutMs: 30_000 });

  const kept = join(around.folder, 'kept');
  const args = ['--embedded', '--for', '4s', '--json', '--keep', kept];
  const result = await report(spawnScript(DEMO, args, { env: around.env }));
  expectComplete(result);
  const files = readdirSync(kept);
  const lines = files.flatMap((file) => readFileSync(join(kept, file), 'utf8').trimEnd().split('\n'));
  expect(lines).toHaveLength(result.produced);
  const errors = lines.filter((line) => (JSON.parse(line) as { tags?: string[] }).tags?.includes('error'));
  expect(result.errorRate).toBeCloseTo(errors.length / lines.length, 3);
  expect(around.contacts()).toBe(0);
  await waitFor(() => readdirSync(around.folder).join() === 'kept', { what: 'only the kept files to be left' });
}, 240_000);

test('outside servers only when named, said first, in topics of its own that are removed', async () => {
  const around = await surroundings();
  const [broker] = testBrokers() as [string];
  const args = ['--for', '4s', '--json', '--kafka', broker, '--elasticsearch', testEsUrl()];
  const demo = spawnScript(DEMO, args, { env: around.env });
  const result = await report(demo);
  expectComplete(result);
  expect(demo.stderr().split('\n')[0]).toContain(`Kafka ${broker}, Elasticsearch ${testEsUrl()}`);
  expect(around.contacts()).toBe(0);
  const kafka = new kafkajs.Kafka({ clientId: 'logpipe-test', brokers: [broker], logLevel: kafkajs.logLevel.ERROR });
  const admin = kafka.admin();
  await admin.connect();
  const topics = await admin.listTopics().finally(() => admin.disconnect());
  expect(topics.filter((topic) => topic.startsWith('logpipe-demo-'))).toEqual([]);
}, 120_000);

test('an incident pages, nobody answers, the secondary is told; acknowledged by the link, nobody is told again; it resolves', async () => {
  const around = await surroundings();
  const [broker] = testBrokers() as [string];
  const servers = ['--kafka', broker, '--elasticsearch', testEsUrl()];
  const demo = spawnScript(DEMO, ['--for', '60s', '--incident', '--json', ...servers], { env: around.env });
  const { status } = await demo.exit;
  expect(status, demo.stderr()).toBe(0);
  const { alerts } = JSON.parse(demo.stdout()) as DemoReport;
  const of = (channel: string, what: RegExp) =>
    alerts.filter((alert) => alert.channel === channel && what.test(alert.what)).map(({ action }) => action);
  expect(of('slack', /High Error Rate Detected/)).toEqual(['trigger', 'trigger', 'acknowledge', 'resolve']);
  expect(demo.stderr()).toMatch(/Acknowledged: nobody else is called/);
  expect(alerts.filter(({ channel }) => channel === 'pagerduty').map(({ action }) => action)).toEqual([
    'trigger',
    'acknowledge',
    'resolve',
  ]);
  expect(demo.stderr()).toMatch(/PagerDuty would get \(trigger\):.*"summary": "High Error Rate Detected"/s);
  expect(around.contacts()).toBe(0);
}, 180_000);

test('Docker answers but another server holds its port: refused before anything is started or written', async () => {
  const around = await surroundings();
  const log = join(around.folder, 'docker.log');
  // Starts nothing: were the refusal missing, the demo must not get as far as writing to whoever holds the port.
  const answer = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/docker.log"\n[ "$1" = info ] && echo 27.0\n';
  writeFileSync(join(around.folder, 'docker'), answer, { mode: 0o755 });
  let contacts = 0;
  const other = createServer(() => {
    contacts++;
  });
  onTestFinished(() => void other.close());
  // When the port is in use already, that is as good.
  await new Promise<void>((resolve) => {
    other.once('error', () => resolve());
    other.listen(9092, '127.0.0.1', resolve);
  });
  const env = { ...around.env, PATH: `${around.folder}:${process.env.PATH}` };
  const demo = spawnScript(DEMO, ['--for', '1s', '--json'], { env });
  expect((await demo.exit).status).toBe(1);
  expect(demo.stderr()).toMatch(/Port 9092 .* is in use by another program.* --no-docker/);
  expect(contacts).toBe(0);
  expect(readFileSync(log, 'utf8').trim().split('\n')).toEqual([expect.stringMatching(/^info /)]);
});

test('one of two outside servers is a mistake that is explained', async () => {
  const demo = spawnScript(DEMO, ['--kafka', '127.0.0.1:9092', '--json']);
  expect((await demo.exit).status).toBe(2);
  expect(demo.stderr()).toContain('--kafka needs --elasticsearch as well');
  expect(demo.stdout()).toBe('');
});
