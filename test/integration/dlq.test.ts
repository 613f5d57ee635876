// Dead letters on a real broker and in a file, how `logpipe dlq list` shows them, and `logpipe tail`.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type DlqListOptions, dlqList, type ListedLetter } from '../../src/cli/dlq.ts';
import { type TailOptions, tail } from '../../src/cli/tail.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { DeadLetter } from '../../src/core/record.ts';
import type { MaskOptions } from '../../src/core/secrets/mask.ts';
import { createFileDeadLetters, createKafkaDeadLetters } from '../../src/indexing/dead-letters.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { startKafka, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';
import { kafkaConfig, numbered, produce, testAdmin, testKafka } from './intake-kit.ts';

async function newTopics(brokers?: string[]): Promise<KafkaConfig> {
  const config = kafkaConfig({ topic: uniqueName('dlq'), ...(brokers ? { brokers } : {}) });
  await ensureTopics(createKafka(config, silentLog), config, silentLog);
  return config;
}

function openSink(config: KafkaConfig) {
  const metrics = createMetrics();
  const sink = createKafkaDeadLetters({
    kafka: createKafka(config, silentLog),
    topic: config.topics.dlq,
    metrics,
    log: silentLog,
  });
  onTestFinished(() => sink.close());
  return { sink, metrics };
}

function letter(n: number, overrides: Partial<DeadLetter> = {}): DeadLetter {
  return {
    reason: 'document_refused',
    detail: `failed to parse field [n${n}]`,
    value: Buffer.from(`{"n":${n}}`),
    origin: { kind: 'kafka', topic: 'logs', partition: 1 },
    offset: n,
    timeMs: Date.parse('2026-01-02T03:04:05.678Z'),
    id: `id-${n}`,
    ...overrides,
  };
}

async function list(kafka: KafkaConfig, { mask, ...options }: DlqListOptions & { mask?: MaskOptions } = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const status = await dlqList(
    { source: 'kafka', kafka, ...(mask === undefined ? {} : { mask }) },
    options,
    { out: (line) => out.push(line), err: (line) => err.push(line) },
    silentLog,
  );
  return { status, out, err, letters: () => out.map((line) => JSON.parse(line) as ListedLetter) };
}

const forever = new AbortController().signal;

describe('the topics', () => {
  it('are created once with the right settings, and differences of existing ones are only reported', async () => {
    const config = kafkaConfig({ topic: uniqueName('topics') });
    const kafka = createKafka(config, silentLog);
    const { logs: logTopic, dlq: dlqTopic, counts, alerts } = config.topics;
    expect((await ensureTopics(kafka, config, silentLog)).created).toEqual([logTopic, dlqTopic, counts, alerts]);
    expect(await ensureTopics(kafka, config, silentLog)).toEqual({ created: [], differences: [] });
    const other = { ...config, topics: { ...config.topics, partitions: 6, logsRetentionMs: 3_600_000 } };
    const report = await ensureTopics(kafka, other, silentLog);
    expect(report.created).toEqual([]);
    expect(report.differences).toEqual([
      `topic ${config.topics.logs} has 4 partitions, kafka.topics.partitions says 6`,
      `topic ${config.topics.logs} has retention.ms=604800000, logpipe would set 3600000`,
    ]);
    const admin = await testAdmin();
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [config.topics.logs, config.topics.dlq].map((name) => ({
        type: kafkajs.ConfigResourceTypes.TOPIC,
        name,
      })),
    });
    const setting = (name: string) =>
      resources.map(({ configEntries }) => configEntries.find((entry) => entry.configName === name)!.configValue);
    expect(setting('message.timestamp.type')).toEqual(['LogAppendTime', 'LogAppendTime']);
    expect(setting('retention.ms')).toEqual(['604800000', '2592000000']);
    const [logs, dlq] = setting('max.message.bytes').map(Number) as [number, number];
    expect(dlq).toBeGreaterThan(logs);
  });
});

describe('letters in Kafka', () => {
  it('keep bytes, reason and origin, and are listed once though put twice', async () => {
    const config = await newTopics();
    const { sink } = openSink(config);
    const binary = Buffer.from([0xff, 0xfe, 0x00, 0x41]);
    await sink.put(
      [letter(1), letter(2, { value: null, reason: 'null_value' }), letter(3, { value: binary })],
      forever,
    );
    await sink.put(
      [letter(1), letter(4, { origin: { kind: 'file', path: '/var/log/app.log', identity: 'abc' } })],
      forever,
    );

    const { status, letters } = await list(config, { json: true });
    expect(status).toBe(0);
    expect(letters()).toMatchObject([
      {
        id: 'id-1',
        reason: 'document_refused',
        detail: 'failed to parse field [n1]',
        origin: { topic: 'logs', partition: 1, offset: 1, time: '2026-01-02T03:04:05.678Z' },
        bytes: 7,
        value: '{"n":1}',
      },
      { id: 'id-2', reason: 'null_value', value: null, bytes: 0 },
      { id: 'id-3', bytes: 4 },
      { id: 'id-4', origin: { file: '/var/log/app.log', identity: 'abc', offset: 4 } },
    ]);
    expect((await list(config, { json: true, reason: 'null_value' })).letters().map(({ id }) => id)).toEqual(['id-2']);
    expect((await list(config, { json: true, limit: 2 })).letters().map(({ id }) => id)).toEqual(['id-1', 'id-2']);
    await expect(list(config, { reason: 'nonsense' })).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
  });

  it('are cut with a hash when they are larger than the topic takes', async () => {
    const config = await newTopics();
    const { sink } = openSink(config);
    const huge = randomBytes(3_000_000);
    await sink.put([letter(1, { value: huge }), letter(2)], forever);
    const [first, second] = (await list(config, { json: true })).letters();
    expect(first).toMatchObject({
      id: 'id-1',
      bytes: 3_000_000,
      sha256: createHash('sha256').update(huge).digest('hex'),
    });
    expect(second).toMatchObject({ id: 'id-2' });
    expect(second).not.toHaveProperty('sha256');
    // What is there are the first bytes, and as many as fit.
    const stored = await readOne(config.topics.dlq);
    expect(stored.length).toBeGreaterThan(2_000_000);
    expect(stored.equals(huge.subarray(0, stored.length))).toBe(true);
  });

  it('wait for a broker that is away, and the waiting ends when it is aborted', async () => {
    const kafka = await startKafka({ heap: '256m' });
    const config = await newTopics(kafka.brokers);
    const { sink, metrics } = openSink(config);
    await sink.put([letter(1)], forever);
    await kafka.kill();
    const abort = new AbortController();
    const given = sink.put([letter(2)], abort.signal);
    const kept = sink.put([letter(3)], forever);
    const paused = async () =>
      (await metrics.paused.get()).values.find(({ labels }) => labels.reason === 'dead_letters')?.value;
    await waitFor(async () => (await paused()) === 1, { what: 'the outage to be noticed' });
    abort.abort(new Error('shutting down'));
    await expect(given).rejects.toThrow('shutting down');
    await kafka.start();
    await kept;
    const ids = (await list(config, { json: true })).letters().map(({ id }) => id);
    expect(ids.slice().sort()).toEqual(expect.arrayContaining(['id-1', 'id-3']));
    expect(await paused()).toBe(0);
  }, 120_000);
});

/** Of consumers, as the broker knows them. */
async function groups(): Promise<string[]> {
  const admin = await testAdmin();
  return (await admin.listGroups()).groups.map(({ groupId }) => groupId).sort();
}

describe('dlq list', () => {
  it('says so at once when there is nothing, and leaves no group behind', async () => {
    const config = await newTopics();
    const before = await groups();
    const { status, out, err } = await list(config);
    expect({ status, out, err }).toEqual({ status: 0, out: [], err: ['no dead letters'] });
    const { sink } = openSink(config);
    await sink.put([letter(1)], forever);
    await list(config);
    expect((await groups()).filter((group) => !before.includes(group))).toEqual([]);
  });

  it('prints a table that no record can break', async () => {
    const config = await newTopics();
    const { sink } = openSink(config);
    await sink.put(
      [letter(1, { detail: 'bad\nline\u001b[31m', value: Buffer.from('{"password":"hunter22","a":\n1}') })],
      forever,
    );
    const { out, err } = await list(config);
    expect(err).toEqual(['1 dead letter']);
    expect(out).toHaveLength(2);
    expect(out[1]).toContain('logs/1@1');
    expect(out[1]).toContain('bad\\nline\\u001b[31m');
    expect(out.join('')).not.toContain('\u001b');
    expect(out.join('')).not.toContain('hunter22');
  });

  it('masks by the configured keys and patterns what was kept raw, at any depth', async () => {
    const config = await newTopics();
    const { sink } = openSink(config);
    const deep = `{"x":${'['.repeat(9_000)}${']'.repeat(9_000)},"locker":"opal"}`;
    const values = ['{"l\\u006fcker":"opal"}', '{"note":"ZZ-1234"}', deep];
    await sink.put(
      values.map((value, i) => letter(i, { value: Buffer.from(value) })),
      forever,
    );
    const mask = { keys: ['locker'], patterns: ['ZZ-[0-9]{4}'] };
    const { letters, out } = await list(config, { json: true, mask });
    expect(letters().map(({ value }) => value!.slice(0, 20))).toEqual([
      '{"locker":"[masked]"',
      '{"note":"[masked]"}',
      '{"x":[[[[[[[[[[[[[[[',
    ]);
    expect(out.join() + (await list(config, { mask })).out.join()).not.toMatch(/opal|ZZ-1234/);
  });

  it('ends at the present end behind transaction markers', async () => {
    const config = await newTopics();
    const producer = testKafka().producer({
      transactionalId: uniqueName('tx'),
      idempotent: true,
      maxInFlightRequests: 1,
    });
    await producer.connect();
    for (const commit of [true, false]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: config.topics.dlq, messages: [{ key: `tx-${commit}`, value: 'v' }] });
      await (commit ? transaction.commit() : transaction.abort());
    }
    await producer.disconnect();
    const { status, letters } = await list(config, { json: true });
    expect(status).toBe(0);
    expect(letters().map(({ id }) => id)).toEqual(['tx-true']);
  });

  it('says what is wrong when there is no topic or no Kafka', async () => {
    await expect(list(kafkaConfig({ topic: uniqueName('none') }))).rejects.toMatchObject({
      code: 'LOGPIPE_KAFKA_FAILED',
      message: expect.stringContaining('logpipe setup') as string,
    });
    await expect(list(kafkaConfig({ topic: 'x', brokers: ['127.0.0.1:1'] }))).rejects.toMatchObject({
      code: 'LOGPIPE_KAFKA_UNREACHABLE',
      message: expect.stringContaining('127.0.0.1:1') as string,
    });
  });
});

describe('letters in a file', () => {
  it('are lines that keep every byte, and wait for the file to become writable', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'logpipe-dlq-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    // A file where the folder should be: nothing can be written until it is gone.
    writeFileSync(join(folder, 'logs'), '');
    const path = join(folder, 'logs', 'dead.ndjson');
    const metrics = createMetrics();
    const sink = createFileDeadLetters({ path, metrics, log: silentLog });
    const put = sink.put(
      [letter(1), letter(2, { value: Buffer.from([0xff, 0x00]) }), letter(3, { value: null })],
      forever,
    );
    await waitFor(async () => (await metrics.paused.get()).values.some(({ value }) => value === 1), {
      what: 'the failure',
    });
    rmSync(join(folder, 'logs'));
    await put;
    await sink.close();
    const lines = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      { id: 'id-1', value: '{"n":1}', origin: { kind: 'kafka', topic: 'logs', partition: 1, offset: 1 } },
      { id: 'id-2', valueBase64: '/wA=' },
      { id: 'id-3', value: null },
    ]);
    expect(lines[1]).not.toHaveProperty('value');
  });
});

describe('tail', () => {
  const parse = ({ value }: { value: Buffer | null }) =>
    value === null ? { reason: 'null_value' } : { document: JSON.parse(value.toString()) as Record<string, unknown> };

  function follow(config: KafkaConfig, options: TailOptions) {
    const abort = new AbortController();
    const out: string[] = [];
    const err: string[] = [];
    const ended = tail(
      { source: 'kafka', kafka: config },
      { signal: abort.signal, ...options },
      { out: (line) => out.push(line), err: (line) => err.push(line) },
      { parse, log: silentLog },
    );
    onTestFinished(() => abort.abort());
    return { abort, out, err, ended };
  }

  it('follows from now, filters, and ends when told to', async () => {
    const config = await newTopics();
    const before = await groups();
    await produce(config.topics.logs, 0, numbered(0, 3));
    const all = follow(config, { json: true });
    const some = follow(config, { where: ['n!=4', 'n~1'] });
    await waitFor(() => all.err.length > 0 && some.err.length > 0, { what: 'both to follow' });
    await produce(config.topics.logs, 0, numbered(3, 10));
    await produce(config.topics.logs, 3, [null, '{"n":21,"message":"hello"}']);
    await waitFor(() => all.out.length === 11 && some.out.length === 4, { what: 'the new records' });
    expect(all.out.map((line) => (JSON.parse(line) as { n: number }).n)).toEqual(expect.arrayContaining([3, 12, 21]));
    expect(all.err.join()).toContain('refused, null_value');
    expect(some.out.some((line) => line.includes('hello n=21'))).toBe(true);
    for (const { abort } of [all, some]) abort.abort();
    expect(await Promise.all([all.ended, some.ended])).toEqual([0, 0]);
    expect((await groups()).filter((group) => !before.includes(group))).toEqual([]);
  });

  it('starts in the past and ends at its limit', async () => {
    const config = await newTopics();
    await produce(config.topics.logs, 0, numbered(0, 5));
    const taken = follow(config, { since: '-5m', limit: 3, json: true });
    expect(await taken.ended).toBe(0);
    expect(taken.out).toHaveLength(3);
    await expect(follow(config, { since: 'soon' }).ended).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
  });
});

/** The first value of a topic as it is stored. */
async function readOne(topic: string): Promise<Buffer> {
  const consumer = testKafka(testBrokers()).consumer({ groupId: uniqueName('check') });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const value = await new Promise<Buffer>((resolve) => {
    void consumer.run({
      autoCommit: false,
      eachMessage: async ({ message }) => {
        if (message.offset === '0') resolve(message.value!);
      },
    });
  });
  await consumer.disconnect();
  return value;
}
