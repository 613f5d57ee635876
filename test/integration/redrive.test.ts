// `logpipe dlq redrive` on a real Kafka and Elasticsearch: what died of a mapping comes back once it is repaired, however often the
// command is killed; what dies again is not looped.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { type DlqRedriveOptions, dlqList, dlqRedrive, type ListedLetter } from '../../src/cli/dlq.ts';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createEventIds, type DeadLetter } from '../../src/core/record.ts';
import { createKafkaDeadLetters } from '../../src/indexing/dead-letters.ts';
import { createProbes } from '../../src/monitor/health-monitor.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { spawnLogpipe, testBrokers, testEsUrl, uniqueName, waitFor } from '../kit/servers.ts';
import { testAdmin, testKafka } from './intake-kit.ts';
import { documents, es } from './replay-kit.ts';

const DAY_MS = 86_400_000;
const NOW = Date.now();
const at = (ms: number) => new Date(ms).toISOString();
const indexOf = (ms: number) => `calling-platform-${at(ms).slice(0, 10).replaceAll('-', '.')}`;

/** A live pipeline on topics of its own, which also counts. */
async function createBench() {
  const topic = uniqueName('redrive');
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-redrive-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const yaml = `roles: [indexer, counter]
kafka:
  brokers: ['${testBrokers().join("','")}']
  group: ${topic}-indexer
  counterGroup: ${topic}-counter
  topics: { logs: ${topic}, dlq: ${topic}.dlq, counts: ${topic}-counts, alerts: ${topic}-alerts }
elasticsearch: { nodes: ['${testEsUrl()}'] }
http: { port: 0 }
intake: { sessionTimeoutMs: 2000, heartbeatMs: 500, commitIntervalMs: 100, maxWaitMs: 50 }
bulk: { maxDelayMs: 100, maxDocuments: 500 }
`;
  const file = join(folder, 'logpipe.yml');
  writeFileSync(file, yaml);
  const config = parseConfig(yaml, {}, 'test.yml');
  await ensureTopics(createKafka(config.kafka, silentLog), config.kafka, silentLog);
  const admin = await testAdmin();
  const pipeline = spawnLogpipe(['run', '--config', file, '--exit-with-parent']);
  const { url } = JSON.parse(await pipeline.waitForLine(/"message":"running"/)) as { url: string };
  const producer = testKafka().producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  onTestFinished(() => producer.disconnect());

  async function metric(line: string): Promise<number> {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(
      text
        .split('\n')
        .find((one) => one.startsWith(`${line} `))
        ?.slice(line.length + 1) ?? 0,
    );
  }
  async function ends(name: string): Promise<number> {
    return (await admin.fetchTopicOffsets(name)).reduce((sum, { high }) => sum + Number(high), 0);
  }
  const io = (out: string[]) => ({ out: (line: string) => void out.push(line), err() {} });

  return {
    ...{ topic, config, file, ends, metric },
    produce: (messages: readonly { value: string; headers?: Record<string, string>; partition: number }[]) =>
      producer.send({ topic, messages: [...messages], acks: -1 }),
    /** Everything in the log is indexed or in the dead letters, and counted or left out. */
    async settled() {
      const indexed = async () => {
        const [committed] = await admin.fetchOffsets({ groupId: config.kafka.group, topics: [topic] });
        return committed!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
      };
      const end = await ends(topic);
      for (const [what, read] of Object.entries({ indexed, counted })) {
        await waitFor(async () => (await read()) === end, { what: `all is ${what}`, timeoutMs: 120_000 });
      }
    },
    counted,
    async redrive(options: DlqRedriveOptions = {}, ids: string[] = []) {
      const out: string[] = [];
      const signal = new AbortController().signal;
      const status = await dlqRedrive(ids, config, { throttle: 1e6, signal, ...options }, io(out), silentLog);
      // biome-ignore lint/suspicious/noExplicitAny: the summary is compared as JSON
      return { status, summary: JSON.parse(out[0]!) as any };
    },
    async letters(since?: string) {
      const out: string[] = [];
      await dlqList(config, { json: true, ...(since === undefined ? {} : { since }) }, io(out), silentLog);
      return out.map((line) => JSON.parse(line) as ListedLetter);
    },
    async putLetters(letters: readonly DeadLetter[]) {
      const kafka = createKafka(config.kafka, silentLog);
      const sink = createKafkaDeadLetters({ kafka, topic: `${topic}.dlq`, metrics: createMetrics(), log: silentLog });
      await sink.put(letters, new AbortController().signal);
      await sink.close();
    },
  };

  /** Read by the counter, whether counted or not. */
  async function counted(): Promise<number> {
    const text = await (await fetch(`${url}/metrics`)).text();
    return text
      .split('\n')
      .filter((line) => /^logpipe_(not_)?counted_total[ {]/.test(line))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }
}

/** Of this day there is an index that takes no request id but numbers. */
async function breakDay(ms: number): Promise<string> {
  const index = indexOf(ms);
  await es('DELETE', `/${index}`);
  await es('PUT', `/${index}`, { mappings: { properties: { requestId: { type: 'long' } } } });
  onTestFinished(async () => void (await es('DELETE', `/${index}`)));
  return index;
}

it('what died of a mapping comes back when it is repaired: each id once, on its day, not counted again, through SIGKILL', async () => {
  const bench = await createBench();
  const { topic, config } = bench;
  const eventMs = NOW - 19 * DAY_MS;
  const index = await breakDay(eventMs);
  const nextId = createEventIds();
  // Every second one is refused, and of those every second one has an id of its own. Fifty in a row would make the index wait.
  const count = 60;
  await bench.produce(
    Array.from({ length: count }, (_, n) => {
      const eventId = nextId();
      const value = JSON.stringify({
        ...{ timestamp: at(eventMs + n), level: 'info', message: `event ${n}`, service: topic },
        requestId: n % 2 === 0 ? `r${n}` : String(n),
        ...(n % 4 === 0 ? { eventId } : {}),
      });
      return { value, partition: (n >> 1) % 4, ...(n % 4 === 0 ? { headers: { eventId } } : {}) };
    }),
  );
  await bench.settled();
  const dead = await bench.letters();
  expect(dead).toHaveLength(count / 2);
  expect(new Set(dead.map(({ reason }) => reason))).toEqual(new Set(['document_refused']));
  // Many more of that kind; and some that lay there for two months: too old for now, but not for their own records.
  const oldMs = NOW - 60 * DAY_MS;
  onTestFinished(async () => void (await es('DELETE', `/${indexOf(oldMs)}`)));
  const former = `${topic}-former`;
  const idOf = (partition: number, offset: number, ms: number) => `${former}-${partition}-${offset}-${ms.toString(36)}`;
  const many = Array.from({ length: 1_200 }, (_, n): DeadLetter => {
    const timestamp = n % 2 === 0 ? { timestamp: at(eventMs + n) } : {};
    return {
      ...{ reason: 'document_refused', detail: 'then', offset: n, timeMs: eventMs, id: idOf(n % 4, n, eventMs) },
      value: Buffer.from(
        JSON.stringify({ ...timestamp, level: 'info', message: 'm', service: topic, requestId: `m${n}` }),
      ),
      origin: { kind: 'kafka', topic: former, partition: n % 4 },
    };
  });
  const old = Array.from({ length: 20 }, (_, n): DeadLetter => {
    const timestamp = n % 2 === 0 ? { timestamp: at(oldMs - 1_000) } : {};
    return {
      ...{ reason: 'document_refused', detail: 'then', offset: n, timeMs: oldMs, id: idOf(9, n, oldMs) },
      value: Buffer.from(JSON.stringify({ ...timestamp, level: 'info', message: `old ${n}`, service: topic })),
      origin: { kind: 'kafka', topic: former, partition: 9 },
    };
  });
  await bench.putLetters([...many, ...old]);
  const all = dead.length + many.length + old.length;
  const countedBefore = await bench.metric('logpipe_counted_total');

  expect(await bench.redrive({ dryRun: true })).toMatchObject({
    status: 0,
    summary: { dryRun: true, complete: true, redriven: all, byReason: { document_refused: all } },
  });
  expect(await bench.ends(topic)).toBe(count);
  expect(await bench.ends(`${topic}.dlq`)).toBe(all);

  await es('PUT', `/${index}/_mapping`, { properties: { requestId: { type: 'long', ignore_malformed: true } } });
  const probe = createProbes(config, { log: silentLog, metrics: createMetrics() }).find(
    ({ name }) => name === 'kafka',
  )!;
  onTestFinished(() => probe.close());
  await probe.run(new AbortController().signal);

  // Killed when the first receipt is there and the next letters are on their way.
  const killed = spawnLogpipe(['dlq', 'redrive', '--config', bench.file, '--throttle', '400', '--no-yield']);
  await waitFor(async () => (await bench.ends(`${topic}.dlq`)) > all, { what: 'a receipt', timeoutMs: 60_000 });
  const sent = await bench.ends(topic);
  await waitFor(async () => (await bench.ends(topic)) > sent, { what: 'more records', intervalMs: 5 });
  killed.kill('SIGKILL');
  await killed.exit;
  expect((await bench.ends(topic)) - count).toBeLessThan(all);

  const second = await bench.redrive();
  expect(second).toMatchObject({ status: 0, summary: { complete: true, notRedriven: {} } });
  expect(second.summary.redriven + second.summary.alreadyRedriven).toBe(all);
  expect(second.summary.alreadyRedriven).toBeGreaterThan(0);
  const redriven = (await bench.ends(topic)) - count;
  expect(redriven - all).toBeLessThanOrEqual(500);
  expect(await bench.redrive()).toMatchObject({ status: 0, summary: { redriven: 0, alreadyRedriven: all } });
  expect((await bench.ends(topic)) - count).toBe(redriven);

  await bench.settled();
  const found = await documents('calling-platform-*', topic);
  expect(found).toHaveLength(count + many.length + old.length);
  expect(new Set(found.map(({ _id }) => _id)).size).toBe(found.length);
  const byId = new Map(found.map((one) => [one._id, one]));
  for (const { id } of [...dead, ...many]) expect(byId.get(id)).toMatchObject({ _index: index, _version: 1 });
  const oldFound = old.map(({ id }) => byId.get(id)!);
  expect(new Set(oldFound.map(({ _index }) => _index))).toEqual(new Set([indexOf(oldMs)]));
  const times = oldFound.map(({ _source }) => _source['@timestamp']);
  expect(times.sort()).toEqual([...Array(10).fill(at(oldMs - 1_000)), ...Array(10).fill(at(oldMs))]);
  // Nothing died, nothing was counted, and nothing tells of trouble.
  const letters = await bench.letters();
  expect(letters).toHaveLength(all);
  expect(letters.filter(({ redrivenAt }) => redrivenAt === undefined)).toEqual([]);
  expect(await bench.metric('logpipe_counted_total')).toBe(countedBefore);
  expect(await bench.metric('logpipe_not_counted_total{reason="redriven"}')).toBe(redriven);
  const readings = await probe.run(new AbortController().signal);
  expect(readings.find(({ measure }) => measure === 'logpipe.dead_letter_ratio')).toMatchObject({ value: 0 });
}, 300_000);

it('what dies again is a new letter that stays, unless somebody insists', async () => {
  const bench = await createBench();
  const { topic, config } = bench;
  const eventMs = NOW - 18 * DAY_MS;
  await breakDay(eventMs);
  const value = JSON.stringify({
    ...{ timestamp: at(eventMs), level: 'info', message: 'dies', service: topic, requestId: 'not a number' },
  });
  await bench.produce([{ value, partition: 3 }]);
  await bench.settled();
  const [first] = await bench.letters();
  const probe = createProbes(config, { log: silentLog, metrics: createMetrics() }).find(
    ({ name }) => name === 'kafka',
  )!;
  onTestFinished(() => probe.close());
  await probe.run(new AbortController().signal);

  const { status, summary } = await bench.redrive({}, [first!.id]);
  expect({ status, redriven: summary.redriven }).toEqual({ status: 0, redriven: 1 });
  await bench.settled();
  // As the command says at its end.
  const again = await waitFor(
    async () => {
      const listed = await bench.letters(summary.started);
      return listed.length > 0 ? listed : undefined;
    },
    { what: 'the second letter' },
  );
  expect(again).toMatchObject([
    { id: first!.id, redrives: 1, origin: { partition: 3, offset: 1, time: first!.origin.time } },
  ]);
  expect(again[0]).not.toHaveProperty('redrivenAt');
  const readings = await probe.run(new AbortController().signal);
  expect(readings.find(({ measure }) => measure === 'logpipe.dead_letter_ratio')).toMatchObject({ value: 0 });

  expect(await bench.redrive()).toMatchObject({
    status: 1,
    summary: { redriven: 0, alreadyRedriven: 1, notRedriven: { redriven_before: 1 } },
  });
  expect(await bench.ends(topic)).toBe(2);
  expect(await bench.redrive({ again: true })).toMatchObject({ status: 0, summary: { redriven: 1 } });
  await bench.settled();
  await waitFor(async () => (await bench.letters()).some(({ redrives }) => redrives === 2), { what: 'a third letter' });
}, 120_000);
