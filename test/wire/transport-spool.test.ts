// What becomes of records while Kafka is away, and when it is back: the transport with a spool, against brokers at the wire that do
// what the test says. The files are real; what a process that has ended left in them is sent by another one.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test, vi } from 'vitest';
import winston from 'winston';
import { KafkaTransport, type KafkaTransportOptions } from '../../src/ship/index.ts';
import { choosePartition } from '../../src/ship/queue.ts';
import type { KafkaTransportDeps } from '../../src/ship/transport.ts';
import { type ScriptedKafka, type StoredRecord, startScriptedKafka } from '../kit/scripted-kafka.ts';

const NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20;
const OUT_OF_ORDER_SEQUENCE_NUMBER = 45;

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });
const messageOf = ({ value }: StoredRecord) => (JSON.parse(value) as { message: string }).message;
const messagesIn = (kafka: ScriptedKafka) => kafka.records.map(messageOf);

function folderOfTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

function driveTransport(
  kafka: ScriptedKafka,
  dir: string,
  options: Partial<KafkaTransportOptions> = {},
  deps: KafkaTransportDeps = {},
) {
  const transport = new KafkaTransport(
    {
      ...{ brokers: kafka.brokers, topic: kafka.topic, service: 'api', closeTimeoutMs: 1_000 },
      ...{ batch: { maxDelayMs: 5 }, spool: { dir } },
      ...options,
    },
    deps,
  );
  const told: string[] = [];
  transport.on('send-failed', ({ message }: { message: string }) => told.push(`send-failed ${message}`));
  transport.on('dropped', ({ reason }: { reason: string }) => told.push(`dropped ${reason}`));
  transport.on('warn', ({ source, message }: { source: string; message: string }) => {
    if (source === 'transport') told.push(message);
  });
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  onTestFinished(async () => void (await transport.close()));
  const log = (...messages: string[]) => {
    for (const message of messages) logger.info(message);
  };
  return { transport, logger, log, told };
}

/** Paths of all files below. */
const filesIn = (dir: string) =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
/** What is written in the logs, of whatever process. */
const messagesInFiles = (dir: string) =>
  filesIn(dir)
    .filter((file) => file.endsWith('.log'))
    .flatMap((file) => [...readFileSync(file, 'utf8').matchAll(/"message":"([^"]*)"/g)].map(([, message]) => message!));

/** A key for each partition of `count`. */
const keysOf = (count: number) =>
  Array.from({ length: count }, (_, partition) => {
    const all = Array.from({ length: count }, (__, partitionId) => ({ partitionId }));
    for (let n = 0; ; n++) if (choosePartition(all, all, `CA${n}`, 0) === partition) return `CA${n}`;
  });

/** `name 0`, `name 1`, … */
const series = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name} ${n}`);

test('Kafka refuses connections: records are in the file alone; when it is back, they arrive once and in order, and the file goes', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const { transport, log, told } = driveTransport(kafka, dir);
  const all = series('away', 1_500);
  log(...all.slice(0, 500));
  await until(() => expect(messagesInFiles(dir)).toEqual(all.slice(0, 500)));
  log(...all.slice(500));
  // Nothing of it stays in memory, from the moment it is logged.
  expect(transport.stats()).toMatchObject({ queuedRecords: 0, spooledRecords: 1_500, delivered: 0 });
  await until(() => expect(messagesInFiles(dir)).toEqual(all));
  await kafka.start(0);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 1_500, spooledRecords: 0, queuedRecords: 0 }));
  expect(messagesIn(kafka)).toEqual(all);
  expect(kafka.records.some(({ headers }) => headers.resent !== undefined)).toBe(false);
  await until(() => expect(messagesInFiles(dir)).toEqual([]));
  log('after');
  await until(() => expect(messagesIn(kafka).at(-1)).toBe('after'));
  expect(await transport.close()).toEqual({ delivered: 1_501, dropped: 0, undelivered: 0, spooled: 0 });
  expect(filesIn(dir)).toEqual([]);
  expect(told.filter((line) => !/^send-failed|^Records reach Kafka again/.test(line))).toEqual([]);
});

test('a record is on its way to the file in the turn in which it is logged, or as soon as the write before it has ended', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  let written = '';
  let [begun, ended] = [0, 0];
  const seen = <T extends (...args: never[]) => unknown>(real: T): T =>
    ((...args: unknown[]) => {
      begun += 1;
      const done = args.pop() as (...results: unknown[]) => void;
      const [, buffer, from, length] = args as [number, Buffer, number, number];
      if (buffer instanceof Uint8Array) written += buffer.toString('utf8', from, from + length);
      return (real as unknown as (...all: unknown[]) => unknown)(...args, (...results: unknown[]) => {
        done(...results);
        ended += 1;
      });
    }) as unknown as T;
  // Once a second it is looked first whether the file is still where it was.
  const spoolFiles = { ...fs, write: seen(fs.write), stat: seen(fs.stat), fstat: seen(fs.fstat), open: seen(fs.open) };
  const { log } = driveTransport(kafka, dir, {}, { spoolFiles });
  log('first');
  await until(() => expect(messagesInFiles(dir)).toEqual(['first']));
  for (const message of series('next', 20)) {
    await until(() => expect(ended).toBe(begun));
    const before = begun;
    log(message);
    await new Promise((resolve) => setImmediate(resolve));
    expect(begun).toBeGreaterThan(before);
    // One that is logged meanwhile goes with the next write.
    log(`${message}, second`);
    await until(() => expect(written).toContain(`"message":"${message}, second"`));
  }
  await until(() => expect(messagesInFiles(dir)).toHaveLength(41));
});

test('after an outage a new record waits for a request or two, however much the file holds', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const { transport, log } = driveTransport(kafka, dir, { batch: { maxRecords: 50, maxDelayMs: 5 } });
  const all = series('away', 20_000);
  log(...all);
  await until(() => expect(messagesInFiles(dir)).toHaveLength(20_000));
  await kafka.start(0);
  const live: { message: string; arrivedBefore: number }[] = [];
  await until(() => expect(kafka.records.length).toBeGreaterThan(0));
  for (let n = 0; n < 20; n++) {
    const message = `live ${n}`;
    live.push({ message, arrivedBefore: kafka.records.length });
    log(message);
    await until(() => expect(messagesIn(kafka)).toContain(message));
  }
  expect(transport.stats().spooledRecords).toBeGreaterThan(0);
  const order = messagesIn(kafka);
  // What was under way, and what was given to the same request or the one before.
  for (const { message, arrivedBefore } of live)
    expect(order.indexOf(message) - arrivedBefore).toBeLessThanOrEqual(150);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 20_020, spooledRecords: 0 }));
  expect(messagesIn(kafka).filter((message) => message.startsWith('away'))).toEqual(all);
});

test('a partition that takes nothing: its calls wait in the file, the others’ and records without key pass it by', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 3 });
  const { transport, logger } = driveTransport(kafka, dir, { batch: { maxRecords: 50, maxDelayMs: 5 } });
  const keys = keysOf(3);
  const ofPartition = (partition: number) =>
    kafka.records.filter((record) => record.partition === partition && record.key !== null).map(messageOf);
  let logged = 0;
  const logSome = (name: string) => {
    for (const message of series(name, 400)) {
      logger.info(message, logged % 4 === 3 ? {} : { callId: keys[logged % 4] });
      logged++;
    }
  };
  kafka.lead(1, -1);
  logSome('partly');
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 300, queuedRecords: 0, spooledRecords: 100 }));
  for (let broker = 0; broker < 3; broker++) await kafka.stop(broker);
  logSome('away');
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 300, spooledRecords: 500 }));
  for (let broker = 0; broker < 3; broker++) await kafka.start(broker);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 600, queuedRecords: 0, spooledRecords: 200 }));
  expect(ofPartition(1)).toEqual([]);
  kafka.lead(1, 2);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 800, queuedRecords: 0, spooledRecords: 0 }));
  expect(ofPartition(1)).toEqual([...series('partly', 400), ...series('away', 400)].filter((_, n) => n % 4 === 1));
  expect(new Set(messagesIn(kafka)).size).toBe(800);
  expect(kafka.records).toHaveLength(800);
});

test('a frozen broker: after a second all is in the file; when it answers after all, nothing is sent again', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const { transport, log } = driveTransport(kafka, dir);
  log('warm');
  await until(() => expect(transport.stats().delivered).toBe(1));
  kafka.freeze(0);
  log('attempted');
  await until(() => expect(transport.stats().queuedRecords).toBe(1));
  await until(() => expect(messagesInFiles(dir)).toEqual(['attempted']));
  log('waits');
  await until(() => expect(messagesInFiles(dir)).toEqual(['attempted', 'waits']));
  expect(transport.stats()).toMatchObject({ queuedRecords: 1, spooledRecords: 2 });
  kafka.thaw(0);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 3, queuedRecords: 0, spooledRecords: 0 }));
  expect(messagesIn(kafka)).toEqual(['warm', 'attempted', 'waits']);
  expect(kafka.records.some(({ headers }) => headers.resent !== undefined)).toBe(false);
  expect(await transport.close()).toMatchObject({ undelivered: 0, spooled: 0 });
  expect(filesIn(dir)).toEqual([]);
});

test('nobody answers from the start: records are in the file long before that is told as an outage', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 2, partitions: 2 });
  for (const broker of [0, 1]) kafka.freeze(broker);
  const { transport, log, told } = driveTransport(kafka, dir);
  log('first');
  await until(() => expect(messagesInFiles(dir)).toEqual(['first']));
  log('second');
  expect(transport.stats()).toMatchObject({ queuedRecords: 0, spooledRecords: 2 });
  expect(told).toEqual([]);
  for (const broker of [0, 1]) kafka.thaw(broker);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 2, spooledRecords: 0 }));
  expect(messagesIn(kafka)).toEqual(['first', 'second']);
});

test('one frozen broker of three: after a second its calls are in the file, all others arrive; then each of them once', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 3, partitions: 3 });
  const { transport, logger } = driveTransport(kafka, dir);
  const keys = keysOf(3);
  const logSome = (name: string) => {
    for (const [n, message] of series(name, 90).entries())
      logger.info(message, n % 2 === 0 ? {} : { callId: keys[n % 3] });
  };
  logSome('warm');
  await until(() => expect(transport.stats().delivered).toBe(90));
  kafka.freeze(0);
  for (let n = 0; n < 5; n++) logger.info(`attempted ${n}`, { callId: keys[0] });
  await until(() => expect(messagesInFiles(dir)).toEqual(series('attempted', 5)));
  logSome('frozen');
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 165, queuedRecords: 5, spooledRecords: 20 }));
  kafka.thaw(0);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 185, queuedRecords: 0, spooledRecords: 0 }));
  expect(messagesIn(kafka).sort()).toEqual(
    [...series('warm', 90), ...series('attempted', 5), ...series('frozen', 90)].sort(),
  );
  expect(kafka.records.some(({ headers }) => headers.resent !== undefined)).toBe(false);
});

test('brokers that come back without their memory: what they may have is sent to the same partition again, marked', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 3 });
  const { transport, log } = driveTransport(kafka, dir);
  for (let partition = 0; partition < 3; partition++) kafka.answer(partition, NOT_ENOUGH_REPLICAS_AFTER_APPEND, true);
  log('twice');
  await until(() => expect(messagesIn(kafka)).toEqual(['twice']));
  await kafka.stop(0);
  log('once');
  await until(() => expect(messagesInFiles(dir).sort()).toEqual(['once', 'twice']));
  kafka.forgetProducers();
  kafka.answer(kafka.records[0]!.partition, OUT_OF_ORDER_SEQUENCE_NUMBER);
  await kafka.start(0);
  await until(() => expect(transport.stats()).toMatchObject({ queuedRecords: 0, spooledRecords: 0 }));
  const copies = kafka.records.filter((record) => messageOf(record) === 'twice');
  expect(copies).toHaveLength(2);
  expect(copies[1]).toMatchObject({ partition: copies[0]!.partition, headers: { resent: '1' } });
  expect(copies[1]!.headers.eventId).toBe(copies[0]!.headers.eventId);
  expect(messagesIn(kafka).filter((message) => message === 'once')).toHaveLength(1);
});

test('a full disk: records wait in memory as without a spool, one line says so, and it is used again when there is room', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  let isFull = false;
  const write = ((...args: Parameters<typeof fs.write>) => {
    const done = args.at(-1) as unknown as (error: Error | null) => void;
    if (!isFull) return fs.write(...args);
    setImmediate(done, Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }));
  }) as typeof fs.write;
  const options = { queue: { maxRecords: 100 } };
  const { transport, log, told } = driveTransport(kafka, dir, options, { spoolFiles: { ...fs, write } });
  log('before');
  await until(() => expect(messagesInFiles(dir)).toEqual(['before']));
  isFull = true;
  log('notices');
  await until(() => expect(told.filter((line) => /cannot be used.*ENOSPC/.test(line))).toHaveLength(1));
  log(...series('full', 150));
  expect(transport.stats()).toMatchObject({ queuedRecords: 100, dropped: { 'queue-full': 50 } });
  isFull = false;
  await until(() => expect(transport.stats()).toMatchObject({ queuedRecords: 0, spooledRecords: 102 }));
  log('there is room');
  await kafka.start(0);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 103, spooledRecords: 0 }));
  const arrived = ['before', 'notices', ...series('full', 100), 'there is room'];
  expect(messagesIn(kafka)).toEqual(arrived);
  expect(told.filter((line) => /cannot be used|is used again/.test(line))).toHaveLength(2);
});

test('close() on a full disk: what is in memory alone is undelivered; if there is room when the process ends, it is saved', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  let isFull = false;
  const error = () => Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  const write = ((...args: Parameters<typeof fs.write>) => {
    if (!isFull) return fs.write(...args);
    setImmediate(args.at(-1) as unknown as (error: Error) => void, error());
  }) as typeof fs.write;
  const exits = process.listeners('exit');
  const { transport, log, told } = driveTransport(
    kafka,
    dir,
    { closeTimeoutMs: 300 },
    { spoolFiles: { ...fs, write } },
  );
  log('before');
  await until(() => expect(messagesInFiles(dir)).toEqual(['before']));
  isFull = true;
  log(...series('full', 100));
  expect(await transport.close()).toEqual({ delivered: 0, dropped: 0, undelivered: 100, spooled: 1 });
  for (const listener of process.listeners('exit')) if (!exits.includes(listener)) listener(0);
  expect(messagesInFiles(dir)).toEqual(['before', ...series('full', 100)]);
  expect(told.filter((line) => /not delivered|are kept in/.test(line))).toEqual([`101 records are kept in ${dir}`]);
});

test('a spool that is full loses its oldest records, which are counted and told once', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const { transport, logger, told } = driveTransport(kafka, dir, { spool: { dir, maxBytes: 4 * 1024 * 1024 } });
  logger.info('0');
  await until(() => expect(transport.stats().spooledRecords).toBe(1));
  for (let n = 1; n < 800; n++) {
    logger.info(String(n), { text: 'x'.repeat(10_000) });
    if (n % 100 === 0) await until(() => expect(messagesInFiles(dir)).toContain(String(n)));
  }
  const { dropped, spooledRecords, spooledBytes } = transport.stats();
  expect(dropped['spool-full']).toBeGreaterThan(300);
  expect(dropped['spool-full'] + spooledRecords).toBe(800);
  expect(spooledBytes).toBeLessThanOrEqual(4 * 1024 * 1024);
  expect(told.filter((line) => line === 'dropped spool-full')).toHaveLength(1);
  await kafka.start(0);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: spooledRecords, spooledRecords: 0 }));
  const kept = Array.from({ length: spooledRecords }, (_, n) => String(800 - spooledRecords + n));
  expect(messagesIn(kafka)).toEqual(kept);
});

test('close() and the logger’s end with Kafka away: in time, what is left is in the file, and the next transport sends it', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const one = driveTransport(kafka, dir, { closeTimeoutMs: 300 });
  const two = driveTransport(kafka, dir, { closeTimeoutMs: 300 });
  one.log('warm');
  await until(() => expect(one.transport.stats().delivered).toBe(1));
  kafka.freeze(0);
  one.log('attempted');
  two.log('waits');
  await until(() => expect(filesIn(dir).filter((file) => file.endsWith('owner.json'))).toHaveLength(2));
  const result = await one.transport.close();
  expect(result).toEqual({ delivered: 1, dropped: 0, undelivered: 0, spooled: 1 });
  const finished = new Promise((resolve) => two.logger.once('finish', resolve));
  two.logger.end();
  await finished;
  expect(messagesInFiles(dir).sort()).toEqual(['attempted', 'waits']);
  await kafka.stop(0);
  await kafka.start(0);
  kafka.thaw(0);
  const { transport } = driveTransport(kafka, dir);
  await until(() => expect(messagesIn(kafka).sort()).toEqual(['attempted', 'waits', 'warm']));
  const again = kafka.records.find((record) => messageOf(record) === 'attempted');
  expect(again?.headers.resent).toBe('1');
  await transport.close();
  expect(filesIn(dir)).toEqual([]);
});

test('Kafka works: no file is made, and records of a queue that is full go there instead of being lost', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const { transport, log } = driveTransport(kafka, dir, { queue: { maxRecords: 100 } });
  log(...series('calm', 100));
  await until(() => expect(transport.stats().delivered).toBe(100));
  expect(filesIn(dir)).toEqual([]);
  log(...series('burst', 1_000));
  expect(transport.stats()).toMatchObject({ queuedRecords: 100, spooledRecords: 900 });
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 1_100, spooledRecords: 0 }));
  expect(transport.stats().dropped['queue-full']).toBe(0);
  expect(messagesIn(kafka).sort()).toEqual([...series('calm', 100), ...series('burst', 1_000)].sort());
});

// ---- processes that end ----

test('what another one left and cannot be opened is said once, tried again, and sent when it can be', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const one = driveTransport(kafka, dir, { closeTimeoutMs: 200 });
  one.log('left');
  expect(await one.transport.close()).toMatchObject({ spooled: 1 });
  await kafka.start(0);
  const log = filesIn(dir).find((file) => file.endsWith('.log'))!;
  let tries = 0;
  let isBroken = true;
  const stat = ((path: string, done: (error: Error | null, stats?: fs.Stats) => void) => {
    if (!path.endsWith('.log') || !isBroken) return fs.stat(path, done);
    tries += 1;
    setImmediate(done, Object.assign(new Error('EIO: i/o error, stat'), { code: 'EIO' }));
  }) as typeof fs.stat;
  const { told } = driveTransport(kafka, dir, {}, { adoptMs: 20, spoolFiles: { ...fs, stat } });
  await until(() => expect(tries).toBeGreaterThan(2));
  expect(told.filter((line) => /cannot be sent/.test(line))).toHaveLength(1);
  expect(messagesInFiles(dir)).toEqual(['left']);
  isBroken = false;
  await until(() => expect(messagesIn(kafka)).toEqual(['left']));
  await until(() => expect(filesIn(dir).some((file) => file.endsWith(basename(log)))).toBe(false));
});

test('the last logger leaves while what another process left is being sent: all of it arrives once, and so do new records', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const one = driveTransport(kafka, dir, { closeTimeoutMs: 200 });
  const left = series('left', 1_000);
  one.log(...left);
  expect(await one.transport.close()).toMatchObject({ spooled: 1_000 });
  await kafka.start(0);
  const { transport, logger, log } = driveTransport(kafka, dir, { batch: { maxRecords: 10, maxDelayMs: 5 } });
  let arrived = Number.POSITIVE_INFINITY;
  transport.once('delivered', () => {
    // The next batch arrives, and its answers do not.
    for (let n = 0; n < 2; n++) kafka.answer(0, NOT_ENOUGH_REPLICAS_AFTER_APPEND, true);
    arrived = kafka.records.length;
  });
  log('first');
  await until(() => expect(kafka.records.length).toBeGreaterThan(arrived));
  logger.remove(transport);
  logger.add(transport);
  // As many as in that batch: under its sequence numbers they would pass for a copy of it.
  const live = series('live', 10);
  log(...live);
  await until(() => expect(transport.stats()).toMatchObject({ delivered: 1_011, queuedRecords: 0 }));
  expect(messagesIn(kafka).sort()).toEqual([...left, ...live, 'first'].sort());
});

const SHIP = fileURLToPath(new URL('../../dist/src/ship/index.js', import.meta.url));

/** Another process with the same destination and folder; `body` uses `logger` and `kafka`, the transport. */
function processOf(kafka: ScriptedKafka, dir: string, body: string, options: Partial<KafkaTransportOptions> = {}) {
  const script = join(folderOfTest(), 'app.mjs');
  const given = {
    brokers: kafka.brokers,
    topic: kafka.topic,
    service: 'api',
    console: false,
    file: false,
    spool: { dir },
  };
  writeFileSync(
    script,
    `import { createLogger } from ${JSON.stringify(SHIP)};
     const logger = createLogger(${JSON.stringify({ ...given, batch: { maxDelayMs: 5 }, ...options })});
     const kafka = logger.transports.at(-1);
     ${body}`,
  );
  const child = spawn(process.execPath, [script]);
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (bytes) => {
    stderr += String(bytes);
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, ended, stderr: () => stderr };
}

test.each([
  ['right after a call', 'process.exit(3);'],
  ['after a close() that had no time', 'kafka.close().then(() => process.exit(3));'],
])(
  'process.exit() %s: the records are in the file, the last line says so, and the next process sends them',
  async (_when, end) => {
    const dir = folderOfTest();
    const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
    const { ended, stderr } = processOf(kafka, dir, `for (let n = 0; n < 3; n++) logger.info('m' + n); ${end}`, {
      closeTimeoutMs: 0,
    });
    expect(await ended).toBe(3);
    expect(stderr()).toMatch(
      /^logpipe: 3 log records are kept in .*: the next process that logs there sends them, or logpipe ship --spool \S+\.\n$/,
    );
    for (const file of filesIn(dir)) expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(messagesIn(kafka)).toEqual([]);
    const { transport } = driveTransport(kafka, dir);
    await until(() => expect(messagesIn(kafka)).toEqual(['m0', 'm1', 'm2']));
    await transport.close();
    expect(filesIn(dir)).toEqual([]);
  },
);

test('SIGKILL while Kafka is away: a process that runs sends all that was written; what was attempted to its partition, marked', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 5 });
  const { transport } = driveTransport(kafka, dir, {}, { adoptMs: 50 });
  const { child, ended } = processOf(
    kafka,
    dir,
    `process.stdin.once('data', () => {
       logger.info('attempted');
       process.stdin.once('data', () => { for (let n = 0; n < 500; n++) logger.info('away ' + n); });
     });`,
  );
  for (let partition = 0; partition < 5; partition++) kafka.answer(partition, NOT_ENOUGH_REPLICAS_AFTER_APPEND, true);
  child.stdin.write('attempt');
  await until(() => expect(messagesIn(kafka)).toEqual(['attempted']));
  await kafka.stop(0);
  child.stdin.write('log');
  await until(() => expect(messagesInFiles(dir).sort()).toEqual(['attempted', ...series('away', 500)].sort()));
  child.kill('SIGKILL');
  await ended;
  await kafka.start(0);
  await until(() => expect(messagesIn(kafka).filter((message) => message === 'attempted')).toHaveLength(2));
  await until(() =>
    expect(messagesIn(kafka).filter((message) => message !== 'attempted')).toEqual(series('away', 500)),
  );
  const [first, again] = kafka.records.filter((record) => messageOf(record) === 'attempted');
  expect(again).toMatchObject({
    partition: first!.partition,
    headers: { eventId: first!.headers.eventId, resent: '1' },
  });
  await transport.close();
  expect(filesIn(dir)).toEqual([]);
});

test('a script that simply ends while Kafka is away: its last line says where the records are', async () => {
  const dir = folderOfTest();
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  await kafka.stop(0);
  const { ended, stderr } = processOf(kafka, dir, `logger.info('m0');`, { closeTimeoutMs: 500 });
  expect(await ended).toBe(0);
  expect(stderr()).toMatch(
    /^logpipe: 1 log record is kept in .*: the next process that logs there sends it, or logpipe ship --spool \S+\.\n$/,
  );
  await kafka.start(0);
  const { transport } = driveTransport(kafka, dir);
  await until(() => expect(messagesIn(kafka)).toEqual(['m0']));
  await transport.close();
});
