// What becomes of records while Kafka is away, and when it is back: the transport with a spool, against brokers at the wire that do
// what the test says. The files are real; what a process that has ended left in them is sent by another one.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import winston from 'winston';
import { KafkaTransport, type KafkaTransportOptions } from '../../src/ship/index.ts';
import { choosePartition } from '../../src/ship/sender.ts';
import { type ScriptedKafka, type StoredRecord, startScriptedKafka } from '../kit/scripted-kafka.ts';

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });
const messageOf = ({ value }: StoredRecord) => (JSON.parse(value) as { message: string }).message;
const messagesIn = (kafka: ScriptedKafka) => kafka.records.map(messageOf);

function folderOfTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

function driveTransport(kafka: ScriptedKafka, dir: string, options: Partial<KafkaTransportOptions> = {}) {
  const transport = new KafkaTransport({
    ...{ brokers: kafka.brokers, topic: kafka.topic, service: 'api', closeTimeoutMs: 1_000 },
    ...{ batch: { maxDelayMs: 5 }, spool: { dir } },
    ...options,
  });
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
