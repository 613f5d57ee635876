// `logpipe ship --spool`: what ended processes left goes to brokers at the wire as it would have gone then; what a living process has,
// what nobody answers for, and what must not be sent there stays.
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { ship } from '../../src/cli/ship.ts';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import type { ShipRecord } from '../../src/ship/log-record.ts';
import { choosePartition } from '../../src/ship/queue.ts';
import { createSpool } from '../../src/ship/spool.ts';
import { spoolFolders } from '../../src/ship/spool-folder.ts';
import { startProcess } from '../kit/process.ts';
import { type ScriptedKafka, startScriptedKafka } from '../kit/scripted-kafka.ts';

const MESSAGE_TOO_LARGE = 10;

let dir: string;
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-ship-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  dir = folder;
});

type To = Pick<ScriptedKafka, 'brokers' | 'topic'>;

function recordOf(n: number, key: string | null = null): ShipRecord {
  const line = JSON.stringify({ message: `m${n}` });
  return { line, eventId: `01KE70Q0VG${String(n).padStart(16, '0')}`, key, bytes: Buffer.byteLength(line) };
}

/**
 * A spool as a process leaves it; `partition`: records were attempted there, and nobody knows what became of them; `done`: so many were
 * delivered.
 */
async function leave(
  { brokers, topic }: To,
  records: readonly ShipRecord[],
  {
    partition,
    done = 0,
    lives = false,
    deps,
  }: { partition?: number; done?: number; lives?: boolean; deps?: Parameters<typeof spoolFolders>[1] } = {},
): Promise<string> {
  const folders = spoolFolders({ dir, brokers, topic, service: 'import' }, deps);
  const spoolDeps = {
    onDropped: () => {},
    onTrouble: (error: unknown) => expect.unreachable(String(error)),
    onRecovered: () => {},
  };
  const folder = folders.own();
  const spool = createSpool({ folder, maxBytes: 2 ** 26, segmentBytes: 2 ** 16 }, spoolDeps);
  for (const record of records) spool.append(record, partition === undefined ? {} : { partition });
  if (done > 0) spool.done((await spool.next(done, Number.POSITIVE_INFINITY)).map(({ place }) => place));
  await spool.close();
  if (lives) onTestFinished(() => folders.close());
  else folders.close();
  return folder;
}

/** The command, as a program calls it. */
async function run(
  kafka: Partial<{ brokers: readonly string[]; sasl: unknown }> = {},
  options: Partial<Parameters<typeof ship>[1]> = {},
  deps: Parameters<typeof ship>[3] = {},
) {
  const [out, err]: [string[], string[]] = [[], []];
  const config = {
    kafka: {
      ...{
        brokers: ['localhost:9092'],
        clientId: 'logpipe',
        ssl: false,
        connectionTimeoutMs: 1_000,
        requestTimeoutMs: 1_000,
      },
      ...kafka,
    },
  };
  const status = await ship(
    config as unknown as Parameters<typeof ship>[0],
    { spool: dir, timeout: '30s', dryRun: false, ...options },
    { out: (line) => out.push(line), err: (line) => err.push(line) },
    deps,
  );
  return { status, err, out, summary: options.json === false ? undefined : JSON.parse(out.join('\n')) };
}

const messagesOf = (kafka: ScriptedKafka) =>
  kafka.records.map(({ value }) => (JSON.parse(value) as { message: string }).message);
const numbered = (count: number, from = 0) => Array.from({ length: count }, (_, n) => `m${from + n}`);
/** Everything that is left below the folder, but for the folders of destinations. */
const rest = () => readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((path) => path.includes('/'));

test('records go out with id, key and partition, in order; nothing stays, and a second time there is nothing to send', async () => {
  const kafka = await startScriptedKafka({ brokers: 2, partitions: 4 });
  const all = Array.from({ length: 4 }, (_, partitionId) => ({ partitionId }));
  await leave(
    kafka,
    Array.from({ length: 1_500 }, (_, n) => recordOf(n, n % 3 === 0 ? `CA${n % 7}` : null)),
  );
  const { status, summary } = await run();
  expect(summary).toEqual({ dir, sent: 1_500, refused: 0, lost: 0, left: 0, problems: [], living: 0 });
  expect(status).toBe(0);
  expect(messagesOf(kafka).sort()).toEqual(numbered(1_500).sort());
  for (const { key, partition, headers, value } of kafka.records) {
    const n = Number((JSON.parse(value) as { message: string }).message.slice(1));
    expect({ key, id: headers.eventId, resent: headers.resent }).toEqual({
      ...{ key: n % 3 === 0 ? `CA${n % 7}` : null, id: recordOf(n).eventId, resent: undefined },
    });
    if (key !== null) expect(partition).toBe(choosePartition(all, all, key, 0));
  }
  expect(rest()).toEqual([]);
  expect(await run()).toMatchObject({ status: 0, summary: { sent: 0, left: 0 } });
});

test('a file without a record in it is cleared away, also while no broker answers', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const folder = await leave(kafka, [recordOf(1)]);
  for (const name of readdirSync(folder)) writeFileSync(join(folder, name), '');
  const { status, summary } = await run({}, { timeout: '1s' });
  expect(summary).toEqual({ dir, sent: 0, refused: 0, lost: 0, left: 0, problems: [], living: 0 });
  expect(status).toBe(0);
  expect(rest()).toEqual([]);
});

test('what was attempted goes to the same partition, marked, so that a reader finds the first copy', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 4 });
  await leave(kafka, [recordOf(1), recordOf(2)], { partition: 3 });
  await leave(kafka, [recordOf(3)]);
  expect(await run()).toMatchObject({ status: 0, summary: { sent: 3 } });
  const found = kafka.records.map(({ partition, headers, value }) => [
    JSON.parse(value).message,
    partition,
    headers.resent,
  ]);
  expect(found).toEqual(
    expect.arrayContaining([
      ['m1', 3, '1'],
      ['m2', 3, '1'],
    ]),
  );
  expect(found.find(([message]) => message === 'm3')![2]).toBeUndefined();
});

test('a living process is left alone, each destination gets its own', async () => {
  const one = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const two = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await leave(one, [recordOf(1)]);
  await leave(two, [recordOf(2)]);
  const living = await leave(one, [recordOf(3)], { lives: true });
  expect(await run()).toMatchObject({ status: 0, summary: { sent: 2, living: 1, problems: [] } });
  expect([messagesOf(one), messagesOf(two)]).toEqual([['m1'], ['m2']]);
  expect(readdirSync(living)).toContain('00000001.log');
});

test('no broker answers: after the time it was given it says so, and everything stays; --brokers sends it elsewhere', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await leave({ brokers: ['127.0.0.1:1'], topic: kafka.topic }, [recordOf(1), recordOf(2)]);
  const { status, summary, err } = await run({}, { timeout: '1s' });
  expect({ status, ...summary }).toMatchObject({ status: 1, sent: 0, left: 2 });
  expect(err).toEqual([
    expect.stringMatching(/^nothing got through to 127\.0\.0\.1:1, topic scripted, for 1 s: .*nothing listens/),
  ]);
  const again = await run({}, { brokers: kafka.brokers.join() });
  expect(again).toMatchObject({ status: 0, summary: { sent: 2, left: 0 } });
  expect(messagesOf(kafka)).toEqual(['m1', 'm2']);
});

test('owners whose processes cannot be seen are watched: the silent one is dead, the other one lives', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  // A second passes in ten milliseconds.
  const clock: Clock = { ...systemClock, after: (ms, fn) => systemClock.after(ms / 100, fn) };
  const elsewhere = { clock, self: { bootId: 'another' } };
  const silent = await leave(kafka, [recordOf(1)], { lives: true, deps: { self: elsewhere.self } });
  utimesSync(join(dirname(silent), 'owner.json'), 1_000, 1_000);
  const living = await leave(kafka, [recordOf(2)], { lives: true, deps: elsewhere });
  const { status, summary, err } = await run({}, {}, { clock });
  expect(summary).toMatchObject({ sent: 1, left: 0, problems: [], living: 1 });
  expect(status).toBe(0);
  expect(err).toEqual([
    'the processes of 2 spools cannot be seen from here; waiting up to a minute for a sign of life',
  ]);
  expect(messagesOf(kafka)).toEqual(['m1']);
  expect(readdirSync(living)).toContain('00000001.log');
});

test('stopped on its way it ends, and the next one sends the rest', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await leave(
    kafka,
    Array.from({ length: 10 }, (_, n) => recordOf(n)),
  );
  kafka.freeze(0);
  const ending = new AbortController();
  const stopped = run({}, { timeout: '1h' }, { stop: ending.signal });
  setImmediate(() => ending.abort());
  const { status, summary } = await stopped;
  expect({ status, left: summary.left + summary.sent }).toEqual({ status: 1, left: 10 });
  kafka.thaw(0);
  expect(await run()).toMatchObject({ status: 0, summary: { left: 0 } });
  expect([...new Set(messagesOf(kafka))].sort()).toEqual(numbered(10));
});

test('what Kafka refuses for good is counted, and does not stay', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await leave(kafka, [recordOf(1)]);
  kafka.answer(0, MESSAGE_TOO_LARGE);
  const { status, summary } = await run();
  expect({ status, ...summary }).toMatchObject({ status: 1, sent: 0, refused: 1, left: 0 });
  expect(summary.problems).toEqual([expect.stringMatching(/max\.message\.bytes/)]);
  expect(rest()).toEqual([]);
});

test('what nobody can make sense of stays, and is said: no owner.json, brokers that cannot be any', async () => {
  const nameless = await leave({ brokers: ['a:1'], topic: 'logs' }, [recordOf(1)]);
  writeFileSync(join(dirname(nameless), 'owner.json'), '');
  await leave({ brokers: ['not an address'], topic: 'logs' }, [recordOf(1)]);
  const { status, summary } = await run();
  expect(status).toBe(1);
  expect(summary.problems).toEqual([
    `${dirname(nameless)}: nothing there says which brokers its records are for; start the application, which sends them`,
    expect.stringMatching(/^records for not an address, topic logs, stay: .*host:port/),
  ]);
});

test('a record whose line is damaged is counted as lost, and the others are sent', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const file = join(await leave(kafka, [recordOf(1), recordOf(2), recordOf(3)]), '00000001.log');
  writeFileSync(file, readFileSync(file, 'utf8').replace('m2', 'm9'));
  expect(await run()).toMatchObject({ status: 1, summary: { sent: 2, lost: 1, left: 0 } });
  expect(messagesOf(kafka)).toEqual(['m1', 'm3']);
});

test('credentials go to no brokers but those they are configured for', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await leave(kafka, [recordOf(1)]);
  const sasl = { mechanism: 'plain', username: 'u', password: ['p', 'w'].join('') };
  const { status, summary } = await run({ brokers: ['kafka:9092'], sasl });
  expect({ status, sent: summary.sent }).toEqual({ status: 1, sent: 0 });
  expect(summary.problems).toEqual([
    `records for ${kafka.brokers[0]} stay: the configuration has TLS or a log-in for kafka:9092 alone; name the same brokers in kafka.brokers, or give --brokers`,
  ]);
  expect(kafka.requests).toEqual([]);
});

test('--dry-run lists what is there and changes nothing', async () => {
  const to = { brokers: ['kafka-1:9092'], topic: 'logs' };
  const spool = await leave(
    to,
    Array.from({ length: 300 }, (_, n) => recordOf(n)),
    { done: 100 },
  );
  await leave({ ...to, topic: 'other' }, [recordOf(1)], { lives: true });
  const before = rest();
  const { status, summary } = await run({}, { dryRun: true });
  expect(status).toBe(0);
  expect(summary.owners).toHaveLength(2);
  expect(summary.owners).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ path: dirname(spool), service: 'import', ...to, state: 'dead', records: 200 }),
      expect.objectContaining({ topic: 'other', state: 'alive', records: 1 }),
    ]),
  );
  expect(rest()).toEqual(before);
  const { out } = await run({}, { dryRun: true, json: false });
  expect(out.join('\n')).toMatch(
    /^import on .*, process \d+, since .*: 200 records \(0\.0 MiB\) for kafka-1:9092, topic logs; its process has ended$/m,
  );
});

test.each<[string, Partial<Parameters<typeof ship>[1]>, RegExp]>([
  [
    'no such folder',
    { spool: 'none' },
    /^--spool: none cannot be read \(there is no such file or folder, ENOENT\); name the folder of/,
  ],
  ['a file', { spool: import.meta.filename }, /is not a folder; name that of the transport's option spool\.dir$/],
  ['no port', { brokers: 'kafka' }, /^--brokers: "kafka" is not host:port; write kafka-1:9092/],
  ['no duration', { timeout: 'soon' }, /^--timeout: "soon" is not a duration; write 30s/],
])('wrong use is said with place, value and fix: %s', async (_, options, message) => {
  await expect(run({}, options)).rejects.toMatchObject({
    code: 'LOGPIPE_USAGE',
    message: expect.stringMatching(message),
  });
});

test('--brokers does not send the records of two clusters to one', async () => {
  await leave({ brokers: ['a:1'], topic: 'logs' }, [recordOf(1)]);
  await leave({ brokers: ['b:1'], topic: 'logs' }, [recordOf(2)]);
  await expect(run({}, { brokers: 'c:1' })).rejects.toMatchObject({
    code: 'LOGPIPE_USAGE',
    message: expect.stringMatching(/for 2 clusters \(a:1; b:1\)/),
  });
});

test('a script logs while Kafka is away and ends at once; the command sends what it left: JSON in a pipe, exit status 0', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const spool = join(dir, 'spool');
  const script = join(dir, 'script.mjs');
  const transport = new URL('../../dist/src/ship/index.js', import.meta.url).href;
  const options = {
    brokers: ['127.0.0.1:1'],
    topic: kafka.topic,
    service: 'import',
    spool: { dir: spool },
    console: false,
    file: false,
  };
  writeFileSync(
    script,
    `import { createLogger } from ${JSON.stringify(transport)};
const logger = createLogger(${JSON.stringify(options)});
for (let n = 0; n < 100; n++) logger.info('m' + n);
process.exit(3);`,
  );
  const logged = startProcess(script, []);
  expect(await logged.exit).toEqual({ status: 3, signal: null });
  expect(logged.stderr()).toContain(`logpipe ship --spool ${spool}`);
  writeFileSync(join(dir, 'logpipe.yml'), 'monitor: { enabled: false }\n');
  const config = ['--config', join(dir, 'logpipe.yml'), '--brokers', kafka.brokers.join()];
  const shipped = startProcess('src/main.js', ['ship', '--spool', spool, ...config]);
  expect({ ...(await shipped.exit), said: shipped.stderr() }).toEqual({ status: 0, signal: null, said: '' });
  expect(JSON.parse(shipped.stdout())).toMatchObject({ sent: 100, left: 0 });
  expect(messagesOf(kafka)).toEqual(numbered(100));
});
