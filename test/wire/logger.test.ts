// The ready-made logger on a broken machine: whatever is logged, however the disk behaves, each record is in Kafka's queue
// or counted with its reason, and nothing throws. Kafka is away throughout, so the queue shows what came through.
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import Transport from 'winston-transport';
import { type CreateLoggerOptions, createLogger, type DropNotice, type KafkaTransport } from '../../src/ship/index.ts';
import { type Info, MESSAGE } from '../../src/ship/log-record.ts';
import { LogFile } from '../../src/ship/logger.ts';

function folderOfTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-logger-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

function loggerOn(options: Partial<CreateLoggerOptions> = {}) {
  const logger = createLogger({
    ...{ brokers: ['127.0.0.1:1'], service: 'api', console: false, file: false, closeTimeoutMs: 50 },
    ...options,
  });
  const kafka = logger.transports.at(-1) as KafkaTransport;
  onTestFinished(async () => void (await kafka.close()));
  const warnings: string[] = [];
  kafka.on('warn', ({ message }: { message: string }) => warnings.push(message));
  const notices: DropNotice[] = [];
  kafka.on('dropped', (notice: DropNotice) => notices.push(notice));
  return { logger, kafka, warnings, notices };
}

/** Winston hands nothing on before the next turn of the event loop. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });

const throwing = (trap: () => never = () => expect.fail('trap')) =>
  new Proxy({}, { get: trap, ownKeys: trap, getPrototypeOf: trap, getOwnPropertyDescriptor: trap, set: trap });
const nullPrototype = (fields: object) => Object.assign(Object.create(null) as object, fields);
type Loose = Record<'info' | 'debug' | 'log', (...args: unknown[]) => unknown>;

test.each<[string, (logger: Loose) => unknown, 'kept' | 'failed']>([
  ['a frozen error', (logger) => logger.info(Object.freeze(new Error('frozen'))), 'kept'],
  [
    'metadata with a throwing getter',
    (logger) =>
      logger.info(
        'x',
        Object.freeze({
          get a() {
            return expect.fail();
          },
        }),
      ),
    'kept',
  ],
  ['a proxy that throws at everything, as metadata', (logger) => logger.info('x', throwing()), 'kept'],
  ['the same as message', (logger) => logger.info(throwing()), 'kept'],
  [
    'a second text that is an object without prototype',
    (logger) => logger.info('x', { message: nullPrototype({ a: 1 }) }),
    'kept',
  ],
  ['a symbol, and metadata with a text', (logger) => logger.info(Symbol('s'), { message: 'x' }), 'kept'],
  [
    'a function whose message throws',
    (logger) => logger.info(Object.defineProperty(() => {}, 'message', { get: () => expect.fail() })),
    'kept',
  ],
  ['no level and no text', (logger) => logger.log(null), 'failed'],
  ['a text where the level belongs', (logger) => logger.log('only a text'), 'failed'],
])('%s is in the queue or counted', async (_what, log, outcome) => {
  const { logger, kafka, notices } = loggerOn();
  await turn();
  expect(log(logger as unknown as Loose)).toBe(logger);
  const { queuedRecords, dropped } = kafka.stats();
  expect({ queuedRecords, failed: dropped.failed }).toEqual({
    queuedRecords: outcome === 'kept' ? 1 : 0,
    failed: outcome === 'failed' ? 1 : 0,
  });
  expect(notices.map(({ reason }) => reason)).toEqual(outcome === 'failed' ? ['failed'] : []);
});

test('what a level keeps out is not lost; a format that throws costs no record and no exception', async () => {
  const { logger, kafka, warnings } = loggerOn();
  await turn();
  logger.format = { transform: () => expect.fail('a format of the application') };
  logger.debug('below the level');
  expect(kafka.stats().dropped.failed).toBe(0);
  for (let n = 0; n < 2; n++) logger.warn('above it', { n });
  expect(kafka.stats()).toMatchObject({ queuedRecords: 2, dropped: { failed: 0 } });
  expect(warnings).toEqual([expect.stringMatching(/^The logger's format throws/)]);
});

test('a transport behind ours that throws makes neither a loss nor a second copy', async () => {
  class Broken extends Transport {
    override log(): void {
      throw new Error('broken');
    }
  }
  const { logger, kafka } = loggerOn();
  logger.add(new Broken());
  await turn();
  for (let n = 0; n < 3; n++) logger.info(`event ${n}`);
  expect(kafka.stats()).toMatchObject({ queuedRecords: 3, dropped: { failed: 0 } });
});

test('records after the end are counted, and nothing else happens', async () => {
  const { logger, kafka, notices, warnings } = loggerOn();
  logger.info('in time');
  const finished = new Promise((resolve) => logger.once('finish', resolve));
  logger.end();
  await finished;
  for (let n = 0; n < 3; n++) logger.child({ n }).info('late');
  logger.debug('late, and below the level');
  expect(kafka.stats()).toMatchObject({ queuedRecords: 1, dropped: { closed: 3 } });
  expect(notices.map(({ reason }) => reason)).toEqual(['closed']);
  expect(warnings.filter((text) => text.includes('write after end'))).toEqual([]);
});

test('while the disk is full Kafka gets everything, nothing grows, and finish comes', async () => {
  // Any path that cannot be opened for writing does; a folder is one on every system.
  const file = folderOfTest();
  const { logger, kafka, warnings } = loggerOn({ file, queue: { maxRecords: 500 } });
  await turn();
  for (let n = 0; n < 2_000; n++) logger.info(`event ${n}`);
  expect(kafka.stats()).toMatchObject({ queuedRecords: 500, dropped: { 'queue-full': 1_500 } });
  expect(logger.writableLength + logger.readableLength).toBe(0);
  await until(() => expect(warnings.join()).toContain(`${file} cannot be written`));
  const finished = new Promise((resolve) => logger.once('finish', resolve));
  logger.end();
  await finished;
  expect(warnings.join()).toContain(`${file} was closed; 2000 lines are missing from it`);
});

function logFile(filename: string, options: { maxWaiting?: number } = {}) {
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message.replace(filename, 'FILE'));
  const file = new LogFile({ filename, warn, closeTimeoutMs: 5_000, retryMs: 5, ...options });
  const log = (line: string) => void file.write({ level: 'info', [MESSAGE]: line } as Info);
  const end = () => new Promise<void>((resolve) => file.end(resolve));
  return { log, end, warnings };
}

test('a disk that comes back gets every line once, in order', async () => {
  const path = join(folderOfTest(), 'logs', 'app.log');
  mkdirSync(path, { recursive: true });
  const { log, end, warnings } = logFile(path);
  for (let n = 0; n < 100; n++) log(`line ${n}`);
  await until(() => expect(warnings).toHaveLength(1));
  log('line 100');
  rmdirSync(path);
  await until(() => expect(readFileSync(path, 'utf8')).toContain('line 100'));
  for (let n = 101; n < 200; n++) log(`line ${n}`);
  await end();
  expect(readFileSync(path, 'utf8')).toBe(Array.from({ length: 200 }, (_, n) => `line ${n}\n`).join(''));
  expect(warnings).toEqual([expect.stringMatching(/^The log file FILE cannot be written: EISDIR/)]);
});

test('what the buffer has no room for is left out and told', async () => {
  const path = join(folderOfTest(), 'app.log');
  mkdirSync(path);
  const { log, end, warnings } = logFile(path, { maxWaiting: 100 });
  for (let n = 0; n < 12; n++) log('123456789');
  await until(() => expect(warnings).toHaveLength(2));
  rmdirSync(path);
  await until(() => expect(warnings).toHaveLength(3));
  await end();
  expect(readFileSync(path, 'utf8')).toBe('123456789\n'.repeat(10));
  expect(warnings).toEqual([
    'The log file FILE cannot keep up: lines are left out until it can be written.',
    expect.stringContaining('cannot be written'),
    'The log file FILE is written again; 2 lines are missing from it.',
  ]);
});
