// The local servers themselves: they do real work, keep their data through a crash, and leave nothing behind.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@elastic/elasticsearch';
import kafkajs, { type KafkaConfig } from 'kafkajs';
import { expect, onTestFinished, test } from 'vitest';
import { runStack, type StackOptions } from '../../src/cli/stack.ts';
import {
  freePorts,
  portFree,
  processStart,
  readState,
  startKafka as startLocalKafka,
  writeState,
} from '../../stack/index.ts';
import {
  createTopic,
  spawnScript,
  startEs,
  startKafka,
  testEsMajors,
  testEsUrl,
  testEsUrlOf,
  uniqueName,
  waitFor,
} from '../kit/servers.ts';
import { startTlsFront } from '../kit/tls-front.ts';

test('stack up starts both servers, status sees them, down leaves nothing', { timeout: 120_000 }, async () => {
  const [kafkaPort, esPort] = (await freePorts(2)) as [number, number];
  const stack = driveStack({ kafkaPort, esPort });
  expect(await stack.run('status')).toMatchObject({ exit: 3, answer: { up: false, kafka: { state: 'down' } } });

  const started = await stack.run('up');
  const expected = {
    up: true,
    kafka: { state: 'up', port: kafkaPort, brokers: [`127.0.0.1:${kafkaPort}`] },
    elasticsearch: { state: 'up', port: esPort, url: `http://127.0.0.1:${esPort}` },
  };
  expect(started).toMatchObject({ exit: 0, answer: expected });
  const { kafka, elasticsearch } = started.answer as Record<string, { pid: number }>;
  expect(await stack.run('status')).toMatchObject({ exit: 0, answer: expected });
  expect(await stack.run('up')).toMatchObject({ exit: 0, answer: { alreadyUp: true, kafka: { pid: kafka!.pid } } });
  expect(await stack.run('up', { kafkaPort: kafkaPort + 1 })).toMatchObject({ exit: 1, answer: { error: {} } });
  const lines: string[] = [];
  await runStack('up', { folder: stack.folder }, { out: (line) => lines.push(line), err: () => undefined });
  expect(lines).toEqual([
    `export KAFKA_BROKERS=127.0.0.1:${kafkaPort}`,
    `export ELASTICSEARCH_URL=http://127.0.0.1:${esPort}`,
  ]);

  const brokers = [`127.0.0.1:${kafkaPort}`];
  const topic = uniqueName('stack');
  await createTopic(brokers, topic);
  await produce({ brokers }, topic, 'one');
  expect(await consumeOne({ brokers }, topic)).toBe('one');
  await indexAndFind(`http://127.0.0.1:${esPort}`);

  expect(await stack.run('down')).toEqual({ exit: 0, answer: { up: false, stopped: ['kafka', 'elasticsearch'] } });
  expect([processStart(kafka!.pid), processStart(elasticsearch!.pid)]).toEqual([undefined, undefined]);
  expect([await portFree(kafkaPort), await portFree(esPort)]).toEqual([true, true]);
  expect(readdirSync(stack.parent)).toEqual([]);
  expect(await stack.run('down')).toEqual({ exit: 0, answer: { up: false, stopped: [] } });
});

test('down ends only the very process that up started, not one that got its number since', async () => {
  const bystander = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  onTestFinished(() => {
    bystander.kill('SIGKILL');
  });
  const pid = bystander.pid!;
  const stack = driveStack({});
  const entry = { version: '4.1.1', pid, port: 1, logFile: '' };
  writeState(stack.folder, { kafka: { ...entry, start: `${processStart(pid)}0` } });
  expect(await stack.run('down')).toEqual({ exit: 0, answer: { up: false, stopped: [] } });
  expect(processStart(pid)).toBeDefined();
  // With its true start time the same entry is ended: it is the time that protected it.
  writeState(stack.folder, { kafka: { ...entry, start: processStart(pid)! } });
  expect(await stack.run('down')).toEqual({ exit: 0, answer: { up: false, stopped: ['kafka'] } });
  await waitFor(() => processStart(pid) === undefined, { what: 'the process is gone' });
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGKILL', null],
] as const)('an up that %s ends halfway leaves neither server nor file', async (signal, status) => {
  const stack = driveStack({});
  // The usual port is taken, by this test or by somebody else.
  const occupant = createServer();
  onTestFinished(() => void occupant.close());
  await new Promise<void>((resolve) => {
    occupant.once('error', () => resolve());
    occupant.listen(9092, '127.0.0.1', resolve);
  });
  const script = spawnScript('test/kit/stack-up.js', [stack.folder]);
  const begun = await waitFor(
    () => {
      const { kafka, elasticsearch } = readState(stack.folder);
      return kafka && elasticsearch && [kafka, elasticsearch];
    },
    { what: 'both are written down' },
  );
  script.kill(signal);
  expect(await script.exit).toMatchObject({ status, ...(status === null ? { signal } : {}) });
  expect(script.stderr()).toMatch(/port 9092 of 127\.0\.0\.1 is taken; kafka gets \d+ instead/);
  for (const { pid, start } of begun) {
    await waitFor(() => processStart(pid) !== start, { what: `JVM ${pid} is gone`, timeoutMs: 10_000 });
  }
  await waitFor(() => readdirSync(stack.parent).length === 0, { what: 'no file is left', timeoutMs: 10_000 });
});

test('servers die with their parent, even when it is killed, and take their data along', async () => {
  const parent = spawnScript('test/kit/hold-servers.js', []);
  const line = await parent.waitForLine(/^\[.*\]$/, 50_000);
  const servers = JSON.parse(line) as { pid: number; port: number; dataDir: string }[];
  expect(servers.map(({ pid, dataDir }) => processStart(pid) !== undefined && existsSync(dataDir))).toEqual([
    true,
    true,
  ]);
  parent.kill('SIGKILL');
  for (const { pid, port, dataDir } of servers) {
    await waitFor(() => processStart(pid) === undefined, { what: `JVM ${pid} is gone`, timeoutMs: 10_000 });
    expect(await portFree(port)).toBe(true);
    expect(existsSync(dataDir)).toBe(false);
  }
});

test('a server that does not start says why, from its log', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const dataDir = join(folder, 'kafka');
  const starting = startLocalKafka({ dataDir, disposable: true, properties: { 'process.roles': 'nonsense' } });
  await expect(starting).rejects.toMatchObject({
    code: 'LOGPIPE_STACK_FAILED',
    message: expect.stringMatching(/Kafka [\d.]+ ended with status 1 before it was ready[\s\S]*nonsense/),
  });
  expect(readdirSync(folder)).toEqual([]);
});

test('Kafka keeps its log through a kill, and opens the listeners asked for', { timeout: 90_000 }, async () => {
  const [port, saslPort, controller] = (await freePorts(3)) as [number, number, number];
  const jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="secret";';
  const at = (name: string, number: number) => `${name}://127.0.0.1:${number}`;
  const kafka = await startKafka({
    port,
    properties: {
      'controller.quorum.voters': `1@127.0.0.1:${controller}`,
      listeners: [at('PLAINTEXT', port), at('SASL_PLAINTEXT', saslPort), at('CONTROLLER', controller)].join(),
      'advertised.listeners': [at('PLAINTEXT', port), at('SASL_PLAINTEXT', saslPort)].join(),
      'sasl.enabled.mechanisms': 'PLAIN',
      'listener.name.sasl_plaintext.plain.sasl.jaas.config': jaas,
    },
  });
  const topic = uniqueName('kill');
  await createTopic(kafka.brokers, topic, { partitions: 1 });
  await produce({ brokers: kafka.brokers }, topic, 'kept');
  await kafka.kill();
  expect(await portFree(port)).toBe(true);
  await kafka.start();
  const sasl = (password: string): KafkaConfig => ({
    brokers: [`127.0.0.1:${saslPort}`],
    sasl: { mechanism: 'plain', username: 'app', password },
  });
  expect(await consumeOne(sasl('secret'), topic)).toBe('kept');
  await expect(produce(sasl('wrong'), topic, 'never')).rejects.toThrow(/[Aa]uthentication/);
});

test('Elasticsearch keeps its documents through a kill, and answers nothing while paused', async () => {
  const server = await startEs();
  await indexAndFind(server.url);
  await server.kill();
  await server.start();
  const count = async (signal?: AbortSignal) => {
    const response = await fetch(`${server.url}/_all/_count`, { signal: signal ?? null });
    return ((await response.json()) as { count: number }).count;
  };
  expect(await count()).toBe(1);
  await server.pause();
  await expect(count(AbortSignal.timeout(500))).rejects.toThrow(/timeout/);
  await server.resume();
  expect(await waitFor(count, { what: 'it answers again' })).toBe(1);
});

test.each(testEsMajors())('Elasticsearch %s indexes and searches', async (major) => {
  const url = await testEsUrlOf(major);
  const nodes = await (await fetch(`${url}/_nodes?filter_path=nodes.*.version`)).json();
  expect(Object.values((nodes as { nodes: object }).nodes)).toEqual([
    { version: expect.stringMatching(new RegExp(`^${major}\\.`)) },
  ]);
  await indexAndFind(url);
});

test('the TLS front lets in the right credentials over a trusted connection, and nobody else', async () => {
  const secret = { user: 'app', password: 'öpen', apiKey: 'aWQ6a2V5' };
  const front = await startTlsFront({ target: testEsUrl(), ...secret });
  onTestFinished(front.stop);
  const ca = readFileSync(front.caFile, 'utf8');
  const status = async (options: ConstructorParameters<typeof Client>[0]) => {
    const client = new Client({ node: front.url, maxRetries: 0, ...options });
    try {
      return (await client.cluster.health()).status;
    } catch (error) {
      return (error as { statusCode?: number }).statusCode ?? String(error);
    } finally {
      await client.close();
    }
  };
  const answers = /green|yellow|red/;
  const basic = { username: secret.user, password: secret.password };
  expect(await status({ tls: { ca }, auth: basic })).toMatch(answers);
  expect(await status({ tls: { ca }, auth: { apiKey: secret.apiKey } })).toMatch(answers);
  const pinned = { caFingerprint: front.caFingerprint, tls: { rejectUnauthorized: false } };
  expect(await status({ ...pinned, auth: basic })).toMatch(answers);
  expect(front.requests).toEqual({ passed: 3, refused: 0 });
  expect(await status({ tls: { ca } })).toBe(401);
  expect(await status({ tls: { ca }, auth: { ...basic, password: 'open' } })).toBe(401);
  expect(await status({ tls: { ca }, auth: { apiKey: 'other' } })).toBe(401);
  expect(front.requests).toEqual({ passed: 3, refused: 3 });
  expect(await status({ auth: basic })).toMatch(/certificate/);
  expect(await status({ ...pinned, caFingerprint: front.caFingerprint.replace(/^../, '00') })).toMatch(/fingerprint/);
  expect(front.requests).toEqual({ passed: 3, refused: 3 });
});

/** `runStack --json` on a folder of its own, ended with the test. */
function driveStack(options: StackOptions) {
  const parent = mkdtempSync(join(tmpdir(), 'logpipe-test-'));
  const folder = join(parent, 'stack');
  const run = async (action: 'up' | 'down' | 'status', more: StackOptions = {}) => {
    const lines: string[] = [];
    const io = { out: (line: string) => lines.push(line), err: () => undefined };
    const exit = await runStack(action, { ...options, ...more, folder, json: true }, io);
    expect(lines).toHaveLength(1);
    return { exit, answer: JSON.parse(lines[0]!) as Record<string, unknown> };
  };
  onTestFinished(async () => {
    await run('down');
    rmSync(parent, { recursive: true });
  });
  return { parent, folder, run };
}

async function produce(config: KafkaConfig, topic: string, value: string): Promise<void> {
  const kafka = new kafkajs.Kafka({ logLevel: kafkajs.logLevel.NOTHING, ...config });
  const producer = kafka.producer({ retry: { retries: 3 } });
  try {
    await producer.connect();
    await producer.send({ topic, messages: [{ value }] });
  } finally {
    await producer.disconnect();
  }
}

async function consumeOne(config: KafkaConfig, topic: string): Promise<string | undefined> {
  const kafka = new kafkajs.Kafka({ logLevel: kafkajs.logLevel.NOTHING, ...config });
  const consumer = kafka.consumer({ groupId: uniqueName('stack-test') });
  try {
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    let received: string | undefined;
    await consumer.run({
      eachMessage: async ({ message }) => {
        received = message.value?.toString();
      },
    });
    return await waitFor(() => received, { what: `a record of ${topic}` });
  } finally {
    await consumer.disconnect();
  }
}

async function indexAndFind(url: string): Promise<void> {
  const index = uniqueName('stack-test');
  const client = new Client({ node: url });
  try {
    await client.index({ index, document: { message: 'call answered' }, refresh: true });
    const found = await client.search({ index, query: { match: { message: 'answered' } } });
    expect(found.hits.hits.map((hit) => hit._source)).toEqual([{ message: 'call answered' }]);
  } finally {
    await client.close();
  }
}
