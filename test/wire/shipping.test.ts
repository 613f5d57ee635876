// `logpipe ship` and brokers at the wire: what a record looks like there, that a file's position waits for Kafka, and that streams
// make their writer wait, or go to the spool.
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { shipInputs } from '../../src/cli/ship.ts';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { isEventId } from '../../src/core/record.ts';
import { choosePartition } from '../../src/ship/queue.ts';
import { type Shipping, startShipping } from '../../src/shipping.ts';
import { startProcess } from '../kit/process.ts';
import { type ScriptedKafka, startScriptedKafka } from '../kit/scripted-kafka.ts';
import { waitFor } from '../kit/servers.ts';

let folder: string;
beforeEach(() => {
  const made = mkdtempSync(join(tmpdir(), 'logpipe-shipping-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  folder = made;
});

type Given = Partial<{ inputs: unknown[]; spool: unknown; maxInFlightBytes: number; follow: boolean }>;

function configFor({ brokers, topic }: Pick<ScriptedKafka, 'brokers' | 'topic'>, ship: Given) {
  const given = {
    kafka: { brokers, topics: { logs: topic } },
    shutdownTimeoutMs: 1_000,
    ship: {
      dataDir: join(folder, 'data'),
      pollIntervalMs: 20,
      commitIntervalMs: 10,
      http: { enabled: false },
      ...ship,
    },
  };
  return parseConfig(JSON.stringify(given), {}, 'test');
}

async function start(kafka: ScriptedKafka, ship: Given, stdin?: PassThrough): Promise<Shipping> {
  const shipping = await startShipping(configFor(kafka, ship), { log: silentLog, ...(stdin ? { stdin } : {}) });
  onTestFinished(async () => void (await shipping.stop()));
  return shipping;
}

const position = () => {
  const lines = readFileSync(join(folder, 'data', 'files', 'positions.ndjson'), 'utf8')
    .trim()
    .split('\n');
  return (JSON.parse(lines.at(-1)!) as { position: number }).position;
};

test('a file: ids, keys and headers on the wire, and a position only for what Kafka has', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 4 });
  const app = join(folder, 'app.log');
  writeFileSync(app, '{"level":"info","message":"a","callId":"CA1"}\nplain\n');
  kafka.freeze(0);
  const shipping = await start(kafka, { inputs: [{ files: [app], service: 'edge', name: 'files', host: 'h1' }] });
  appendFileSync(app, 'more\n');
  await waitFor(() => shipping.summary().waiting === 3, { what: 'all lines are read', intervalMs: 5 });
  expect(position()).toBe(0);
  kafka.thaw(0);
  await waitFor(() => kafka.records.length === 3 && position() === 57, {
    what: 'lines are sent and noted',
    intervalMs: 5,
  });
  const json = kafka.records.find(({ key }) => key === 'CA1');
  const others = kafka.records.filter((record) => record !== json);
  expect(others.map(({ value }) => value)).toEqual([
    '{"shippedLine":"plain","service":"edge","host":"h1"}',
    '{"shippedLine":"more","service":"edge","host":"h1"}',
  ]);
  expect(json).toMatchObject({
    key: 'CA1',
    value: '{"service":"edge","host":"h1","level":"info","message":"a","callId":"CA1"}',
  });
  for (const { headers, key } of [json!, ...others]) {
    expect(isEventId(headers.eventId!)).toBe(true);
    expect(headers.eventId).toMatch(/^7/);
    expect(key).not.toBeNull();
    expect(headers).not.toHaveProperty('sentAt');
  }
  // Lines of one stretch of a file share a partition.
  expect(new Set(others.map(({ partition }) => partition)).size).toBe(1);
});

test('what a run that was killed may have sent goes out again under the same ids, marked; what came later is not', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 2 });
  const app = join(folder, 'app.log');
  writeFileSync(app, 'first\nsecond\n');
  const inputs = [{ files: [app], name: 'files' }];
  const config = join(folder, 'logpipe.yml');
  const { kafka: section, ship } = configFor(kafka, { inputs });
  // It notes nothing before it is killed.
  writeFileSync(
    config,
    JSON.stringify({
      kafka: { brokers: section.brokers, topics: { logs: section.topics.logs } },
      ship: { ...ship, commitIntervalMs: 60_000 },
    }),
  );
  const process = startProcess('src/main.js', ['ship', '--config', config]);
  await waitFor(() => kafka.records.length === 2, { what: 'both lines', timeoutMs: 60_000 });
  process.kill('SIGKILL');
  await process.exit;
  const shipping = await start(kafka, { inputs });
  await waitFor(() => kafka.records.length === 4, { what: 'both again' });
  appendFileSync(app, 'third\n');
  await waitFor(() => kafka.records.length === 5, { what: 'the third' });
  expect(shipping.summary()).toMatchObject({ dropped: 0, waiting: 0 });
  const of = (text: string) => kafka.records.filter(({ value }) => value.includes(text));
  for (const text of ['first', 'second']) {
    const [one, again] = of(text);
    expect(again!.headers.eventId).toBe(one!.headers.eventId);
    expect(again!.partition).toBe(one!.partition);
    expect([one!.headers.resent, again!.headers.resent]).toEqual([undefined, '1']);
  }
  expect(of('third')[0]!.headers).not.toHaveProperty('resent');
});

test('lines of a partition without a leader hold up no others, however much is read meanwhile', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 2 });
  kafka.lead(1, -1);
  const all = [{ partitionId: 0 }, { partitionId: 1 }];
  const keys: [string[], string[]] = [[], []];
  for (let n = 0; keys.some(({ length }) => length < 10); n++)
    keys[choosePartition(all, all, `CA${n}`, 0) as 0 | 1].push(`CA${n}`);
  // Four times what may be in flight, and something for the partition without a leader in each read.
  const lines = Array.from({ length: 8_000 }, (_, n) => {
    const callId = n % 100 === 0 ? keys[1][0] : keys[0][n % 10];
    return `${JSON.stringify({ level: 'info', message: `line ${n}`.padEnd(450, '.'), callId })}\n`;
  });
  const app = join(folder, 'app.log');
  writeFileSync(app, lines.join(''));
  await start(kafka, { inputs: [{ files: [app], name: 'files' }], maxInFlightBytes: 1024 * 1024 });
  await waitFor(() => kafka.records.length === 7_920, { what: 'the others are sent', intervalMs: 5 });
  expect(position()).toBe(0);
  kafka.lead(1, 0);
  await waitFor(() => kafka.records.length === 8_000 && position() === statSync(app).size, {
    what: 'all are sent and noted',
    intervalMs: 5,
  });
  const order = kafka.records
    .filter(({ partition }) => partition === 1)
    .map(({ value }) => /line (\d+)/.exec(value)![1]);
  expect(order).toEqual(Array.from({ length: 80 }, (_, n) => String(n * 100)));
});

test('many inputs, each with a read that waits to be let in, do not hold up each other', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  kafka.freeze(0);
  const names = [...'abcdefgh'];
  const inputs = names.map((name) => {
    const path = join(folder, `${name}.log`);
    writeFileSync(path, `${JSON.stringify({ level: 'info', message: name.repeat(950) })}\n`.repeat(800));
    return { files: [path], name };
  });
  const shipping = await start(kafka, { inputs, maxInFlightBytes: 1024 * 1024 });
  await waitFor(() => shipping.summary().waiting > 800, { what: 'no more is let in', intervalMs: 5 });
  kafka.thaw(0);
  await waitFor(() => kafka.records.length === 800 * names.length, { what: 'all are sent', intervalMs: 5 });
});

test('a stream without a spool: its writer waits while Kafka is away, memory is bounded, nothing is lost', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const stdin = new PassThrough({ highWaterMark: 64 * 1024 });
  const shipping = await start(kafka, { inputs: [{ stdin: true }], maxInFlightBytes: 1024 * 1024 }, stdin);
  const line = `${'x'.repeat(1_000)}\n`;
  let written = 0;
  const writing = (async () => {
    for (; written < 3_000; written++) {
      if (!stdin.write(line)) await new Promise((resolve) => stdin.once('drain', resolve));
    }
    stdin.end();
  })();
  await waitFor(() => shipping.summary().waiting > 700, { what: 'it is full' });
  const { values } = await shipping.metrics.inFlightBytes.get();
  expect(values[0]!.value).toBeLessThan(1024 * 1024 * 1.1);
  expect(written).toBeLessThan(2_000);
  await kafka.start(0);
  await writing;
  await shipping.ended;
  expect(kafka.records).toHaveLength(3_000);
  expect(shipping.summary()).toEqual({ sent: 3_000, dropped: 0, waiting: 0, spooled: 0 });
});

test('a stream with a spool: it is read on while Kafka is away, and the next run sends what was kept', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const spool = { dir: join(folder, 'spool') };
  const stdin = new PassThrough();
  const first = await start(kafka, { inputs: [{ stdin: true }], spool, maxInFlightBytes: 1024 * 1024 }, stdin);
  for (let n = 0; n < 5_000; n++) stdin.write(`line ${n} ${'x'.repeat(400)}\n`);
  await waitFor(() => first.summary().spooled === 5_000, { what: 'all of it is in the file' });
  expect(await first.stop()).toBe(true);
  expect(first.summary()).toEqual({ sent: 0, dropped: 0, waiting: 0, spooled: 5_000 });
  await kafka.start(0);
  const later = new PassThrough();
  const second = await start(kafka, { inputs: [{ stdin: true }], spool }, later);
  later.write('last\n');
  await waitFor(() => kafka.records.length === 5_001, { what: 'what was kept, and the last line', timeoutMs: 60_000 });
  later.end();
  await second.ended;
  expect(new Set(kafka.records.map(({ headers }) => headers.eventId)).size).toBe(5_001);
});

test('syslog: the sender’s own host and service stay, the input’s fill the gaps', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const input = { syslog: 'tcp://127.0.0.1:0', environment: 'test' };
  const shipping = await start(kafka, { inputs: [input] });
  const port = Number(/:(\d+)/.exec(shipping.readiness()[0]!.detail)![1]);
  const socket = connect(port, '127.0.0.1');
  socket.end('<11>1 2026-11-28T14:22:41.607Z web1 calls 411 - - it failed\n');
  await waitFor(() => kafka.records.length === 1, { what: 'the message' });
  const { value } = kafka.records[0]!;
  expect(JSON.parse(value)).toEqual({
    shippedLine: '<11>1 2026-11-28T14:22:41.607Z web1 calls 411 - - it failed',
    environment: 'test',
  });
});

test('the command: --once ends with its figures; wrong use says what to do', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  for (const name of ['a', 'b']) writeFileSync(join(folder, `${name}.log`), `${name}1\n  at ${name}\n${name}2\n`);
  const config = configFor(kafka, {});
  const out: string[] = [];
  const io = { out: (line: string) => out.push(line), err: () => {} } as unknown as Parameters<typeof shipInputs>[2];
  const file = [join(folder, '*.log')];
  expect(await shipInputs(config, { file, once: true, continues: '^\\s', service: 's' }, io, silentLog)).toBe(0);
  expect(JSON.parse(out[0]!)).toEqual({ sent: 4, dropped: 0, waiting: 0, spooled: 0 });
  expect(kafka.records.map(({ value }) => JSON.parse(value).shippedLine).sort()).toEqual([
    'a1\n  at a',
    'a2',
    'b1\n  at b',
    'b2',
  ]);
  await expect(shipInputs(config, { once: true }, io, silentLog)).rejects.toThrow(
    /nothing to send: give --file, --stdin, --syslog/,
  );
  await expect(shipInputs(config, { once: true, file, starts: '(a+)+$' }, io, silentLog)).rejects.toThrow(
    /--starts.*exponential/,
  );
  await expect(shipInputs(config, { once: true, file, starts: '(' }, io, silentLog)).rejects.toThrow(/--starts/);
});
