// A transport among loggers: levels, loggers that come and go, a crash, a log file that is taken away, credentials in clear.
// Kafka is away throughout; what came through is in the queue or in the file.
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test, vi } from 'vitest';
import winston from 'winston';
import {
  type CreateLoggerOptions,
  createLogger,
  KafkaTransport,
  type KafkaTransportOptions,
} from '../../src/ship/index.ts';
import { type Info, MESSAGE } from '../../src/ship/log-record.ts';
import { LogFile } from '../../src/ship/logger.ts';

const NOWHERE = { brokers: ['127.0.0.1:1'], service: 'api', closeTimeoutMs: 50 };
type Loose = Record<string, (...args: unknown[]) => unknown>;

function folderOfTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-life-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

function readyMade(options: Partial<CreateLoggerOptions> = {}) {
  const logger = createLogger({ ...NOWHERE, console: false, file: false, ...options });
  const kafka = logger.transports.at(-1) as KafkaTransport;
  onTestFinished(async () => void (await kafka.close()));
  return { logger, kafka };
}

function transportOf(options: Partial<KafkaTransportOptions> = {}): KafkaTransport {
  const kafka = new KafkaTransport({ ...NOWHERE, ...options });
  onTestFinished(async () => void (await kafka.close()));
  return kafka;
}

const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 5 });
const linesOf = (file: string) => readFileSync(file, 'utf8').trim().split('\n');
const messagesIn = (file: string) => linesOf(file).map((line) => (JSON.parse(line) as { message: string }).message);

test.each([{ level: 'WARN' }, { level: 'warn' }, { level: 'Warn' }])(
  'capitals of a level do not matter: %j',
  (options) => {
    const { logger, kafka } = readyMade(options);
    const own = transportOf(options);
    const other = winston.createLogger({ transports: [own] });
    for (const one of [logger, other]) for (const level of ['info', 'warn', 'error']) one.log(level, 'm');
    expect([kafka.stats().queuedRecords, own.stats().queuedRecords]).toEqual([2, 2]);
  },
);

test('a level that there is not is refused with those there are', () => {
  const message = /level is "loud"; permitted: error, warn, info, http, verbose, debug, silly/;
  expect(() => readyMade({ level: 'loud' })).toThrow(message);
  expect(() => winston.createLogger({ transports: [transportOf({ level: 'loud' })] })).toThrow(message);
  const ambiguous = { levels: { Warn: 0, WARN: 1 }, level: 'warn' };
  expect(() => readyMade(ambiguous)).toThrow(/level is "warn"; permitted: Warn, WARN/);
  expect(() => readyMade({ levels: { a: 'x' } as never })).toThrow(/levels is \{"a":"x"\}; permitted: an object/);
});

test.each<[Record<string, number>, string]>([
  [{ error: 0, warn: 1, notice: 2, debug: 3 }, 'notice'],
  [{ fatal: 0, INFO: 1, noise: 2 }, 'INFO'],
  [{ debug: 0, trace: 1 }, 'trace'],
  [winston.config.syslog.levels, 'info'],
])('levels of its own are sent without being told which: %j', (levels, level) => {
  const { logger, kafka } = readyMade({ levels });
  expect(logger.level).toBe(level);
  const own = transportOf();
  const other = winston.createLogger({ levels, level, transports: [own] });
  for (const one of [logger, other]) for (const name of Object.keys(levels)) (one as unknown as Loose)[name]!('m');
  const sent = Object.values(levels).filter((number) => number <= levels[level]!).length;
  expect([kafka.stats().queuedRecords, own.stats().queuedRecords]).toEqual([sent, sent]);
});

test('the level set at run time holds for file and Kafka; a wrong one changes nothing and is told', async () => {
  const file = join(folderOfTest(), 'app.log');
  const { logger, kafka } = readyMade({ file });
  const warnings: string[] = [];
  kafka.on('warn', ({ message }: { message: string }) => warnings.push(message));
  logger.debug('not yet');
  logger.level = 'DEBUG';
  logger.debug('now');
  logger.level = 'loud';
  logger.debug('still');
  logger.level = 'error';
  logger.warn('no more');
  await until(() => expect(messagesIn(file)).toEqual(['now', 'still']));
  expect(kafka.stats().queuedRecords).toBe(2);
  const told = warnings.filter((message) => message.includes('level is'));
  expect(told).toEqual([expect.stringMatching(/"loud".*It stays debug/)]);
});

test('a logger that has no such level, and a level that no logger has, lose nothing', () => {
  vi.spyOn(console, 'error').mockReturnValue();
  onTestFinished(() => void vi.restoreAllMocks());
  const own = transportOf();
  const loud = winston.createLogger({ level: 'WARN', transports: [own] });
  loud.log('fatal', 'm');
  loud.warn('m');
  loud.error('m');
  expect(own.stats().queuedRecords).toBe(3);
});

test('a transport lives on after remove and add, configure, clear, and a sibling that closes or ends', async () => {
  const kafka = transportOf();
  const one = winston.createLogger({ transports: [kafka] });
  let sent = 0;
  const works = (logger: winston.Logger) => {
    logger.info('m');
    expect(kafka.stats()).toMatchObject({ queuedRecords: ++sent, dropped: { closed: 0 } });
  };
  one.remove(kafka).add(kafka);
  works(one);
  const two = winston.createLogger({ transports: [kafka] });
  one.remove(kafka);
  works(two);
  two.remove(kafka);
  two.add(kafka);
  works(two);
  two.configure({ transports: [kafka] });
  works(two);
  one.add(kafka);
  works(one);
  one.close();
  works(two);
  two.clear();
  one.add(kafka).add(kafka);
  two.add(kafka);
  works(two);
  one.remove(kafka);
  const third = winston.createLogger({ transports: [kafka] });
  const finished = new Promise((resolve) => third.once('finish', resolve));
  third.end();
  await finished;
  works(two);
  await kafka.close();
  two.info('late');
  expect(kafka.stats().dropped.closed).toBe(1);
});

test('a logger that comes back writes its file again', async () => {
  const file = join(folderOfTest(), 'app.log');
  const { logger } = readyMade({ file });
  const [toFile] = logger.transports as [LogFile];
  logger.info('first');
  await until(() => expect(messagesIn(file)).toEqual(['first']));
  logger.remove(toFile);
  logger.add(toFile);
  logger.info('second');
  await until(() => expect(messagesIn(file)).toEqual(['first', 'second']));
});

test('twelve loggers, and one transport in twelve, are no leak', async () => {
  const warnings: string[] = [];
  const hear = (warning: Error) => warnings.push(warning.message);
  process.on('warning', hear);
  onTestFinished(() => void process.removeListener('warning', hear));
  const before = process.listenerCount('beforeExit');
  const shared = transportOf();
  const all = Array.from({ length: 12 }, () => readyMade({ handleExceptions: true, handleRejections: true }));
  onTestFinished(() => {
    for (const { logger } of all) logger.exceptions.unhandle();
    for (const { logger } of all) logger.rejections.unhandle();
  });
  for (const { logger } of all) logger.info('m');
  for (let n = 0; n < 12; n++) winston.createLogger({ transports: [shared] }).info('m');
  await new Promise((resolve) => setImmediate(resolve));
  expect(warnings).toEqual([]);
  expect(process.listenerCount('beforeExit')).toBeLessThanOrEqual(before + 1);
});

test('a format of the transport that throws costs no record and no exception', () => {
  const kafka = transportOf({ format: { transform: () => expect.fail('a format of the application') } });
  const warnings: string[] = [];
  kafka.on('warn', ({ message }: { message: string }) => warnings.push(message));
  const logger = winston.createLogger({ transports: [kafka] });
  for (let n = 0; n < 2; n++) logger.info('m', { n });
  expect(kafka.stats()).toMatchObject({ queuedRecords: 2, dropped: { failed: 0 } });
  expect(warnings).toEqual([expect.stringMatching(/^The transport's format throws/)]);
});

test("an application's own field `exception: true` keeps no record back", () => {
  const { logger, kafka } = readyMade();
  const own = transportOf();
  for (const one of [logger, winston.createLogger({ transports: [own] })]) one.info('m', { exception: true });
  expect([kafka.stats().queuedRecords, own.stats().queuedRecords]).toEqual([1, 1]);
});

const SHIP = fileURLToPath(new URL('../../dist/src/ship/index.js', import.meta.url));

test.each(['throw new Error("the crash")', 'Promise.reject(new Error("the crash"))'])(
  'a crash is in the file and on standard error while Kafka is away: %s',
  (crash) => {
    const folder = folderOfTest();
    const script = join(folder, 'crash.mjs');
    const options = {
      ...NOWHERE,
      console: true,
      file: join(folder, 'app.log'),
      handleExceptions: true,
      handleRejections: true,
    };
    writeFileSync(
      script,
      `import { createLogger } from ${JSON.stringify(SHIP)};
       createLogger(${JSON.stringify(options)}).info('before');
       setTimeout(() => { ${crash} }, 20);`,
    );
    const { status, stderr, stdout } = spawnSync(process.execPath, [script], { encoding: 'utf8', timeout: 30_000 });
    expect(status).toBe(1);
    expect(stderr.match(/Error: the crash/g)).toHaveLength(1);
    expect(stdout).not.toContain('the crash');
    const [, line] = linesOf(options.file);
    const { level, message, error } = JSON.parse(line!) as { level: string; message: string; error: object };
    expect(level).toBe('error');
    expect(message).toContain('the crash');
    expect(error).toMatchObject({ name: 'Error', message: 'the crash' });
  },
);

function logFile(filename: string, options: { mode?: number; now?: () => number } = {}) {
  const file = new LogFile({ filename, warn: (message) => expect.fail(message), closeTimeoutMs: 5_000, ...options });
  onTestFinished(() => new Promise<void>((resolve) => void file.end(resolve)));
  return (line: string) => void file.write({ level: 'info', [MESSAGE]: line } as Info);
}

test('a log file that is renamed, then deleted, then replaced is made again within a second', async () => {
  const file = join(folderOfTest(), 'app.log');
  let now = 0;
  const log = logFile(file, { now: () => now });
  const writes = async (line: string, where: string, lines: string[]) => {
    log(line);
    await until(() => expect(linesOf(where)).toEqual(lines));
  };
  await writes('1', file, ['1']);
  renameSync(file, `${file}.1`);
  now += 999;
  await writes('2', `${file}.1`, ['1', '2']);
  expect(existsSync(file)).toBe(false);
  now += 1;
  await writes('3', file, ['3']);
  rmSync(file);
  now += 1_000;
  await writes('4', file, ['4']);
  rmSync(file);
  writeFileSync(file, 'of another\n');
  now += 1_000;
  await writes('5', file, ['of another', '5']);
  // copytruncate: the same file, shorter.
  writeFileSync(file, '');
  now += 1_000;
  await writes('6', file, ['6']);
});

test('fileMode: as given whatever the umask is; without it the umask decides; a file that is there keeps its own', async () => {
  const folder = folderOfTest();
  const before = process.umask(0o027);
  onTestFinished(() => void process.umask(before));
  const modeOf = async (name: string, mode?: number) => {
    const file = join(folder, name);
    logFile(file, mode === undefined ? {} : { mode })('x');
    await until(() => expect(linesOf(file)).toEqual(['x']));
    return (statSync(file).mode & 0o777).toString(8);
  };
  writeFileSync(join(folder, 'there'), '');
  chmodSync(join(folder, 'there'), 0o604);
  expect(await modeOf('asked', 0o664)).toBe('664');
  expect(await modeOf('umask')).toBe('640');
  expect(await modeOf('there', 0o664)).toBe('604');
});

test.each([0o640, '640', '0640', '0o640'])('fileMode %j is taken', async (fileMode) => {
  const file = join(folderOfTest(), 'app.log');
  readyMade({ file, fileMode }).logger.info('m');
  await until(() => expect(statSync(file).mode & 0o777).toBe(0o640));
});

test.each([640, 0o440, '888', 'rw', -1, 1.5, null])('fileMode %j is refused', (fileMode) => {
  expect(() => readyMade({ fileMode: fileMode as never })).toThrow(/fileMode is .*permitted: octal permissions/);
});

const sasl = { mechanism: 'plain', username: 'u', password: 'p' } as const;

test.each<[string, Partial<KafkaTransportOptions>, number]>([
  ['to another machine', { brokers: ['kafka.invalid:9092', '127.0.0.1:1'], sasl }, 1],
  ['with TLS', { brokers: ['kafka.invalid:9092'], sasl, ssl: true }, 0],
  ['to this machine', { brokers: ['localhost:1', '127.0.0.1:1', '[::1]:1'], sasl }, 0],
  ['none', { brokers: ['kafka.invalid:9092'] }, 0],
])('credentials %s in clear text are told once', async (_what, options, times) => {
  const kafka = transportOf({ batch: { maxDelayMs: 0 }, ...options });
  const warnings: string[] = [];
  kafka.on('warn', ({ message }: { message: string }) => warnings.push(message));
  const failed = new Promise((resolve) => kafka.once('send-failed', resolve));
  winston.createLogger({ transports: [kafka] }).info('m');
  await failed;
  await kafka.close();
  const told = warnings.filter((message) => message.includes('unencrypted'));
  expect(told).toEqual(
    Array(times).fill(
      'The credentials of sasl (plain) go to kafka.invalid:9092 unencrypted, as all records do; set ssl.',
    ),
  );
});

test('when nobody listens, credentials in clear text are one of the process’s warnings', async () => {
  const heard = new Promise<Error>((resolve) => process.once('warning', resolve));
  const kafka = transportOf({ brokers: ['kafka.invalid:9092'], sasl, batch: { maxDelayMs: 0 } });
  winston.createLogger({ transports: [kafka] }).info('m');
  expect((await heard).message).toContain('go to kafka.invalid:9092 unencrypted');
});

// ---- what is read on standard error when nobody listens ----

/** An application that knows a wrong address. */
function scriptOf(body: string, closeTimeoutMs = 50): string {
  const script = join(folderOfTest(), 'app.mjs');
  const given = { ...NOWHERE, closeTimeoutMs, console: false, file: false };
  writeFileSync(
    script,
    `import { createLogger } from ${JSON.stringify(SHIP)};
     const given = ${JSON.stringify(given)};
     const logger = createLogger(given);
     const kafka = logger.transports.at(-1);
     ${body}`,
  );
  return script;
}

function endOf(body: string, options: { closeTimeoutMs?: number; stdio?: 'pipe' | 'gone' } = {}) {
  const script = scriptOf(body, options.closeTimeoutMs);
  // A reader that has gone before anything is written.
  const command = `"$0" "$1"${options.stdio === 'gone' ? ' 2>&1 >/dev/null | :' : ''}; exit "\${PIPESTATUS[0]}"`;
  const { status, stderr, stdout } = spawnSync('bash', ['-c', command, process.execPath, script], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, lines: stderr.split('\n').filter((line) => line !== '') };
}

test('an application with a wrong address reads one line for the outage and one at its end, and ends as it wants', () => {
  const { status, lines } = endOf(`for (let n = 0; n < 3; n++) logger.info('m'); process.exitCode = 7;`, {
    closeTimeoutMs: 10_000,
  });
  expect(lines).toEqual([
    expect.stringMatching(
      /^logpipe: log records do not reach Kafka \(127\.0\.0\.1:1, topic .*nothing listens there\. Up to 100,000 /,
    ),
    expect.stringMatching(
      /^logpipe: 3 log records did not reach Kafka by the end of this process .*nothing listens there\.$/,
    ),
  ]);
  expect(status).toBe(7);
});

test('a log file that cannot be written is one line', async () => {
  const child = spawn(process.execPath, [
    scriptOf(`createLogger({ ...given, file: '.' }).info('m'); setInterval(() => {}, 1_000);`),
  ]);
  onTestFinished(() => void child.kill());
  let text = '';
  child.stderr.on('data', (bytes) => {
    text += String(bytes);
  });
  await until(() => expect(text).toMatch(/^logpipe: The log file \. cannot be written: EISDIR.*\n/));
});

test('process.exit() right after a call says what was left behind', () => {
  const { status, lines } = endOf(`logger.info('m'); process.exit(3);`);
  expect(lines).toEqual([expect.stringMatching(/^logpipe: 1 log record did not .* wait for close\(\)/)]);
  expect(status).toBe(3);
});

test('listeners take the place of the lines, and hear how many were left', () => {
  const { lines, stdout } = endOf(
    `kafka.on('send-failed', ({ message }) => { console.log('failed', message); process.exit(); });
     kafka.on('warn', ({ source, message }) => { if (source === 'transport') console.log('warn', message); });
     logger.info('m');`,
    { closeTimeoutMs: 20_000 },
  );
  expect(lines).toEqual([]);
  expect(stdout).toMatch(/^failed .*nothing listens there\nwarn 1 records were not delivered when the process ended/);
});

test('a standard error that nobody reads any more harms nothing', () => {
  const { status, lines } = endOf(`setTimeout(() => { logger.info('m'); process.exit(5); }, 50);`, { stdio: 'gone' });
  expect([status, lines]).toEqual([5, []]);
});
