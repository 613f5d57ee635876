// Topics written by others: kcat (librdkafka), rsyslog's omkafka and the Java client, in every codec. Judged from outside: every
// record once, in order and with its bytes, at the time of its appending, by the intake as in production and by a reader without
// a group; nothing of an aborted transaction; and whatever else lies in the log, commits reach its end.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { KafkaMessage } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { silentLog } from '../../src/core/log.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { createEventIds } from '../../src/core/record.ts';
import { readTopic } from '../../src/source/kafka/topic-reader.ts';
import { fetchLibs, findJdks, KAFKA } from '../../stack/index.ts';
import { producerProgram } from '../kit/programs.ts';
import { createTopic, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';
import { kafkaConfig, openSource, testAdmin, untilCommitted } from './intake-kit.ts';

const MIB = 1024 * 1024;
const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

interface Sent {
  readonly key?: Buffer | null;
  readonly value: Buffer | null;
  readonly headers?: readonly (readonly [string, Buffer | null])[];
}

const folder = mkdtempSync(join(tmpdir(), 'logpipe-foreign-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const line = (text: string, n: number) =>
  Buffer.from(`{"level":"info","n":${n},"message":"${text} – ${'xyz '.repeat(n % 50)}"}`);
const lines = (text: string, count: number): Sent[] =>
  Array.from({ length: count }, (_, n) => ({ value: line(text, n) }));

/** A topic with a partition for each codec, unless the test has other ideas. */
async function newTopic(partitions: number = CODECS.length, config: Record<string, string> = {}): Promise<string> {
  const topic = uniqueName('foreign');
  await createTopic(testBrokers(), topic, { partitions, config: { 'max.message.bytes': String(64 * MIB), ...config } });
  return topic;
}

const text = (bytes: Buffer | null | undefined) =>
  bytes === null || bytes === undefined ? null : bytes.toString('latin1');

/** Every record as a text, so that a difference can be read. */
const told = ({ key, value, headers = [] }: Sent) =>
  JSON.stringify([text(key), text(value), headers.map(([name, one]) => [name, text(one)])]);
function toldOf({ key, value, headers }: KafkaMessage): string {
  const list = Object.entries(headers ?? {}).flatMap(([name, one]) =>
    [one].flat().map((each) => [name, each] as const),
  );
  return told({ key, value, headers: list as [string, Buffer | null][] });
}

const untilCaughtUp = ({ source }: Awaited<ReturnType<typeof openSource>>, partitions: number) =>
  waitFor(() => source.positions().filter(({ caughtUp }) => caughtUp).length === partitions, {
    ...{ what: 'caught up', timeoutMs: 60_000 },
  });

/**
 * Waits until everything is read and committed, and compares it with what was sent to each partition. `from` is where reading begins
 * in every partition, as if the group had committed it.
 */
async function arrives(topic: string, sent: readonly (readonly Sent[])[], sinceMs: number, from = 0): Promise<void> {
  const config = kafkaConfig({ topic, group: uniqueName('reader') });
  const admin = await testAdmin();
  if (from > 0) {
    const partitions = sent.map((_, partition) => ({ partition, offset: String(from) }));
    await admin.setOffsets({ groupId: config.group, topic, partitions });
  }
  const taken = await openSource(config, { auto: true });
  await untilCaughtUp(taken, sent.length);
  const untilMs = Date.now();
  const ends = (await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => [partition, Number(high)] as const);

  const read = new Map<number, KafkaMessage[]>(ends.map(([partition]) => [partition, []]));
  const wanted = new Map(ends.map(([partition, to]) => [partition, { from, to }]));
  const options = { topic, purpose: 'test', from: wanted, follow: false } as const;
  const onRecord = (message: KafkaMessage, partition: number) => void read.get(partition)!.push(message);
  expect(await readTopic(config, { ...options, onRecord }, silentLog)).toBe(true);

  for (const [partition, records] of sent.entries()) {
    const mine = taken.records.filter((one) => one.partition === partition);
    expect(mine.map(({ value }) => text(value))).toEqual(records.map(({ value }) => text(value)));
    const offsets = mine.map(({ offset }) => offset);
    expect(offsets).toEqual([...new Set(offsets)].sort((a, b) => a - b));
    for (const { timeMs, refusal } of mine) {
      expect(refusal).toBeUndefined();
      expect(timeMs).toBeGreaterThanOrEqual(sinceMs - 1_000);
      expect(timeMs).toBeLessThanOrEqual(untilMs + 1_000);
    }
    expect(read.get(partition)!.map(toldOf)).toEqual(records.map(told));
    expect(read.get(partition)!.map(({ offset }) => Number(offset))).toEqual(offsets);
    const end = ends.find(([one]) => one === partition)![1];
    if (end > from) await untilCommitted(admin, config, partition, end);
  }
  expect(await taken.metric('dropped')).toBe(0);
}

// ---- kcat ----

/** Runs kcat with these lines, or bytes, on its standard input, and resolves to its exit status. */
function kcat(args: readonly string[], input: string | Buffer): Promise<{ status: number | null; said: string }> {
  const child = spawn(producerProgram('kcat'), ['-P', '-b', testBrokers().join(), ...args], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (bytes) => (said += bytes));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, said }));
  });
}

describe('kcat', () => {
  it('in every codec, with keys and headers and without, empty and null', async () => {
    const topic = await newTopic();
    const sinceMs = Date.now();
    const plain = lines('from kcat', 400);
    const keyed = lines('with a key', 50).map(({ value }, n) => ({ value, key: Buffer.from(`k${n % 3}`) }));
    const headers = [
      ['traceparent', Buffer.from('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')],
      ['eventId', Buffer.from('no id')],
    ] as const;
    for (const [partition, codec] of CODECS.entries()) {
      const to = ['-t', topic, '-p', String(partition), ...(codec === 'none' ? [] : ['-z', codec])];
      const all = (records: readonly Sent[]) => records.map(({ value }) => value!.toString()).join('\n');
      await kcat(to, all(plain));
      const withKeys = keyed.map(({ key, value }) => `${key}\t${value}`).join('\n');
      await kcat(
        [...to, '-K', '\t', '-Z', ...headers.flatMap(([name, value]) => ['-H', `${name}=${value}`])],
        `${withKeys}\nk9\t`,
      );
    }
    const records = [
      ...plain,
      ...keyed.map((one) => ({ ...one, headers })),
      { key: Buffer.from('k9'), value: null, headers },
    ];
    await arrives(
      topic,
      CODECS.map(() => records),
      sinceMs,
    );
  });

  it('a transaction that is committed', async () => {
    const topic = await newTopic(1);
    const sinceMs = Date.now();
    const args = ['-t', topic, '-p', '0', '-z', 'lz4', '-X', `transactional.id=${uniqueName('kcat')}`];
    const { status, said } = await kcat(args, 'a\nb\nc');
    expect({ status, said }).toMatchObject({ status: 0 });
    await arrives(topic, [['a', 'b', 'c'].map((value) => ({ value: Buffer.from(value) }))], sinceMs);
  });

  it('as it writes to brokers of version 0.10, without asking what this one is', async () => {
    const codecs = CODECS.filter((codec) => codec !== 'zstd');
    const topic = await newTopic(codecs.length);
    const sinceMs = Date.now();
    const old = ['-X', 'api.version.request=false', '-X', 'broker.version.fallback=0.10.0'];
    const records = lines('from an old one', 100);
    for (const [partition, codec] of codecs.entries()) {
      const to = ['-t', topic, '-p', String(partition), ...(codec === 'none' ? [] : ['-z', codec])];
      await kcat([...old, ...to], records.map(({ value }) => value!.toString()).join('\n'));
    }
    await arrives(
      topic,
      codecs.map(() => records),
      sinceMs,
    );
  });
});

// ---- rsyslog ----

describe('rsyslog', () => {
  it('in every codec, with a key', async () => {
    const topic = await newTopic();
    const sinceMs = Date.now();
    const here = mkdtempSync(join(folder, 'rsyslog-'));
    const values = lines('from rsyslog', 300).map(({ value }) => value!);
    const input = join(here, 'app.log');
    writeFileSync(input, Buffer.concat(values.flatMap((value) => [value, Buffer.from('\n')])));
    const actions = CODECS.map(
      (codec, partition) => `
  action(type="omkafka" topic="${topic}" broker=["${testBrokers().join('","')}"] template="line"
    partitions.useFixed="${partition}" key="app" confParam=["compression.codec=${codec}", "queue.buffering.max.ms=100"])`,
    );
    const conf = join(here, 'rsyslog.conf');
    writeFileSync(
      conf,
      `global(workDirectory="${here}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
ruleset(name="ship") {${actions.join('')}
}
input(type="imfile" file="${input}" tag="app" ruleset="ship")
`,
    );
    const args = ['-n', '-f', conf, '-i', join(here, 'pid')];
    const child = spawn(producerProgram('rsyslogd'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const ended = new Promise((resolve) => child.once('close', resolve));
    onTestFinished(async () => {
      child.kill('SIGTERM');
      await ended;
    });
    let said = '';
    child.stderr.on('data', (bytes) => (said += bytes));
    const admin = await testAdmin();
    await waitFor(
      async () => {
        const ends = (await admin.fetchTopicOffsets(topic)).map(({ high }) => Number(high));
        if (ends.every((end) => end >= values.length)) return true;
        throw new Error(`${ends.join()} ${said}`);
      },
      { what: 'rsyslog has sent everything', timeoutMs: 60_000, intervalMs: 250 },
    );
    const records = values.map((value) => ({ value, key: Buffer.from('app') }));
    await arrives(
      topic,
      CODECS.map(() => records),
      sinceMs,
    );
  });
});

// ---- the Java client ----

describe('the Java client', () => {
  let java: ChildProcess;
  let answers: AsyncIterator<string>;

  beforeAll(async () => {
    const jars = join(await fetchLibs(KAFKA), 'jars', '*');
    const [jdk] = await findJdks();
    const flags = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx512m', `-Djava.io.tmpdir=${folder}`];
    const source = join(packageRoot(), 'test', 'kit', 'ForeignProducer.java');
    java = spawn(join(jdk!.home, 'bin', 'java'), [...flags, '-cp', jars, source], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    answers = createInterface(java.stdout!)[Symbol.asyncIterator]();
  });
  afterAll(async () => {
    const ended = new Promise((resolve) => java.once('close', resolve));
    java.stdin!.end();
    await ended;
  });

  async function tell(...words: readonly string[]): Promise<void> {
    java.stdin!.write(`${words.join(' ')}\n`);
    for (;;) {
      const { value, done } = await answers.next();
      if (done) throw new Error(`Java has ended before it answered ${words.join(' ')}`);
      if (value === 'ok') return;
      if (String(value).startsWith('error ')) throw new Error(`${words.join(' ')}: ${value}`);
    }
  }

  let files = 0;
  const inBase64 = (bytes: Buffer | null | undefined) => bytes?.toString('base64') ?? '-';

  async function producer(properties: Record<string, string>) {
    const name = uniqueName('p');
    const all = {
      'bootstrap.servers': testBrokers().join(),
      ...{ 'linger.ms': '60000', 'batch.size': '100000', 'buffer.memory': String(128 * MIB) },
      ...{ 'max.request.size': String(64 * MIB), 'delivery.timeout.ms': '120000' },
      ...properties,
    };
    await tell('producer', name, ...Object.entries(all).map(([key, value]) => `${key}=${value}`));
    return {
      async send(topic: string, partition: number, records: readonly Sent[]) {
        const file = join(folder, `records-${files++}`);
        const rows = records.map(({ key, value, headers = [] }) =>
          [inBase64(key), inBase64(value), ...headers.map(([header, one]) => `${header}=${inBase64(one)}`)].join('\t'),
        );
        writeFileSync(file, `${rows.join('\n')}\n`);
        await tell('send', name, topic, String(partition), file);
      },
      begin: () => tell('begin', name),
      commit: () => tell('commit', name),
      abort: () => tell('abort', name),
      close: () => tell('close', name),
    };
  }
  const transactional = (codec: string) =>
    producer({ 'compression.type': codec, 'transactional.id': uniqueName('java') });

  const ZERO = Buffer.alloc(4);
  const odd: Sent[] = [
    { value: null },
    { value: Buffer.alloc(0), key: Buffer.alloc(0) },
    { value: Buffer.from([0, 255, 10, 13, 128]), key: ZERO },
    { value: null, key: Buffer.from([0, 0, 0, 1]), headers: [['a', null]] },
    {
      value: line('headers', 1),
      headers: [
        ['__proto__', Buffer.from('x')],
        ['constructor', Buffer.alloc(0)],
        ['é', null],
      ],
    },
    // Not ids, and not a time: nothing that the transport would have written.
    {
      value: line('twice', 2),
      headers: [
        ['eventId', Buffer.from('a')],
        ['eventId', Buffer.from('b')],
      ],
    },
    {
      value: line('sentAt', 3),
      headers: [
        ['eventId', Buffer.alloc(26, 255)],
        ['sentAt', Buffer.from('yesterday at 5')],
      ],
    },
    { value: line('large', 4), headers: [['blob', Buffer.alloc(100_000, 7)]] },
  ];

  it('in every codec: many records, odd keys, headers and values', async () => {
    const topic = await newTopic();
    const sinceMs = Date.now();
    const records = [...lines('from Java', 3_000), ...odd];
    for (const [partition, codec] of CODECS.entries()) {
      await (await producer({ 'compression.type': codec })).send(topic, partition, records);
    }
    await arrives(
      topic,
      CODECS.map(() => records),
      sinceMs,
    );
  });

  it('one batch of 20 MiB in every codec, and the highest levels', async () => {
    const topic = await newTopic(CODECS.length + 1);
    const sinceMs = Date.now();
    const records = Array.from({ length: 20 }, (_, n) => ({
      value: Buffer.alloc(MIB, `${n} ended after ${n * 7} ms, `),
    }));
    const settings = [
      ...CODECS.map((codec) => ({ codec, level: {} })),
      { codec: 'zstd', level: { 'compression.zstd.level': '22' } },
    ];
    for (const [partition, { codec, level }] of settings.entries()) {
      const java = await producer({ 'compression.type': codec, 'batch.size': String(24 * MIB), ...level });
      await java.send(topic, partition, records);
      // With its memory.
      await java.close();
    }
    await arrives(
      topic,
      settings.map(() => records),
      sinceMs,
    );
  });

  it('a few records at the highest level of zstd', async () => {
    const topic = await newTopic(1);
    const sinceMs = Date.now();
    const records = lines('at level 22', 500);
    await (await producer({ 'compression.type': 'zstd', 'compression.zstd.level': '22' })).send(topic, 0, records);
    await arrives(topic, [records], sinceMs);
  });

  it('an event id that Java sets is the document’s', async () => {
    const topic = await newTopic(1);
    const id = createEventIds()();
    const records: Sent[] = [{ value: line('id', 1), headers: [['eventId', Buffer.from(id)]] }];
    await (await producer({})).send(topic, 0, records);
    const taken = await openSource(kafkaConfig({ topic }), { auto: true });
    await waitFor(() => taken.records.length === 1, { what: 'the record' });
    expect(taken.records[0]).toMatchObject({ eventId: id });
  });

  it('transactions that overlap, in every codec: what was committed, and nothing of what was aborted', async () => {
    const topic = await newTopic();
    const sinceMs = Date.now();
    // A Java integer of 0 as the key: kafkajs takes it for the end of the transaction.
    const keyed = (name: string, count = 3) => lines(name, count).map((one) => ({ ...one, key: ZERO }));
    const expected = keyed('committed').concat(keyed('beside'), keyed('second'), keyed('last'));
    for (const [partition, codec] of CODECS.entries()) {
      const [a, b, c] = [
        await transactional(codec),
        await transactional(codec),
        await producer({ 'compression.type': codec }),
      ];
      const send = (one: typeof c, name: string, count?: number) => one.send(topic, partition, keyed(name, count));
      await a.begin();
      await send(a, 'committed');
      await a.commit();
      await a.begin();
      await send(a, 'aborted first');
      await b.begin();
      await send(b, 'aborted second', 2_000);
      await send(c, 'beside');
      await b.abort();
      await send(a, 'aborted still');
      await b.begin();
      await send(b, 'second');
      await a.abort();
      await b.commit();
      await a.begin();
      await send(a, 'last');
      await a.commit();
      await a.begin();
      await send(a, 'aborted at the end');
      await a.abort();
    }
    await arrives(
      topic,
      CODECS.map(() => expected),
      sinceMs,
    );
    // Three records and a marker; then reading begins within both aborted transactions, at the second's first record.
    await arrives(
      topic,
      CODECS.map(() => expected.slice(3)),
      sinceMs,
      8,
    );
  });

  it('a topic that is compacted while transactions come and go', async () => {
    const admin = await testAdmin();
    const broker = { type: 4, name: '1' };
    const tick = (entries: { name: string; value: string }[]) =>
      admin.alterConfigs({ validateOnly: false, resources: [{ ...broker, configEntries: entries }] });
    await tick([{ name: 'log.cleaner.backoff.ms', value: '200' }]);
    onTestFinished(() => tick([]).then(() => {}));
    const topic = await newTopic(1, {
      ...{ 'cleanup.policy': 'compact', 'segment.ms': '100', 'min.cleanable.dirty.ratio': '0.001' },
      ...{ 'min.compaction.lag.ms': '0', 'delete.retention.ms': '0' },
    });
    const java = await transactional('lz4');
    const keys = Array.from({ length: 5 }, (_, n) => Buffer.from(`k${n}`));
    const round = async (name: string, end: 'commit' | 'abort') => {
      await java.begin();
      const records = keys.map((key, n) => ({ key, value: line(name, n) }));
      await java.send(topic, 0, records);
      await java[end]();
      return records;
    };
    const config = kafkaConfig({ topic });
    let newest: Sent[] = [];
    let rounds = 0;
    // Each round rolls the segment before it, which may then be cleaned.
    await waitFor(
      async () => {
        newest = await round(`round ${rounds++}`, 'commit');
        await round(`aborted ${rounds}`, 'abort');
        let left = 0;
        const options = { topic, purpose: 'test', from: 'beginning', follow: false } as const;
        await readTopic(config, { ...options, onRecord: () => void left++ }, silentLog);
        return rounds >= 10 && left <= (rounds * keys.length) / 2;
      },
      { what: 'compaction', timeoutMs: 90_000, intervalMs: 250 },
    );
    const taken = await openSource(config, { auto: true });
    await untilCaughtUp(taken, 1);
    await untilCommitted(admin, config, 0, Number((await admin.fetchTopicOffsets(topic))[0]!.high));
    const values = taken.records.map(({ value }) => text(value));
    expect(values.slice(-newest.length)).toEqual(newest.map(({ value }) => text(value)));
    expect(values.filter((value) => value?.includes('aborted'))).toEqual([]);
  });
});
