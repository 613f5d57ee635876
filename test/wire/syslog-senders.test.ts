// Real senders: util-linux's `logger` and rsyslog, in every framing they have, through the source and the parser.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createLineParser } from '../../src/cli/parse.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createSyslogSource } from '../../src/source/syslog.ts';
import { findProgram } from '../kit/programs.ts';

/** @throws Error that says how to install it */
function program(name: string, debianPackage: string): string {
  const path = findProgram(name) ?? [`/usr/sbin/${name}`].find(existsSync);
  if (path !== undefined) return path;
  throw new Error(
    `${name} is not installed: apt-get install --no-install-recommends ${debianPackage} (or your system’s package of it)`,
  );
}

const run = promisify(execFile);
/** RFC 3164 has local times; the hosts of the tests are in any zone. */
const env = { ...process.env, TZ: 'UTC', LC_ALL: 'C' };
const until = (assertion: () => unknown) => vi.waitFor(assertion, { timeout: 30_000, interval: 20 });

async function listen(at = '0') {
  const parse = createLineParser({
    parse: { maxRecordBytes: 1_000_000, maxAheadMs: 600_000, maxBehindMs: 600_000 },
    mask: { keys: [], patterns: [] },
    transforms: [],
  });
  const values: string[] = [];
  const documents: Record<string, unknown>[] = [];
  const source = createSyslogSource(
    { address: `tcp://127.0.0.1:${at}`, maxLineBytes: 100_000 },
    { log: silentLog, clock: systemClock, metrics: createMetrics() },
  );
  onTestFinished(() => source.close());
  await source.start(async ({ records, origin }) => {
    for (const record of records) {
      const { document, tags } = parse(record, origin);
      values.push(String(record.value));
      documents.push({ ...document, tags });
    }
  });
  const port = /:(\d+),/.exec(source.status().detail)![1]!;
  return { source, values, documents, port };
}

test.each([['--rfc5424', '--octet-count'], ['--rfc5424'], ['--rfc3164', '--octet-count'], ['--rfc3164']])(
  'logger %s %s',
  async (...options) => {
    const logger = program('logger', 'bsdutils');
    const { documents, port } = await listen();
    const to = ['-n', '127.0.0.1', '-P', port, '-T', ...options, '-t', 'calls', '--id=411', '-p', 'local0.err'];
    const isNew = options[0] === '--rfc5424';
    const more = isNew
      ? ['--msgid', 'ID47', '--sd-id', 'ex@32473', '--sd-param', 'a="b"', '--sd-param', 'c="d e"']
      : [];
    const input = spawn(logger, [...to, ...more], { env, stdio: ['pipe', 'ignore', 'inherit'] });
    const ended = once(input, 'exit');
    input.stdin.end('erste Zeile: größer\n{"level":"warn","message":"call failed","callId":"CA1"}\nthird\n');
    await ended;
    await until(() => expect(documents).toHaveLength(3));
    const common = { service: 'calls', pid: 411, host: hostname().split('.')[0] };
    const syslog = { priority: 131, severity: 3, facility: 16 };
    for (const [i, fields] of [
      { level: 'error', message: 'erste Zeile: größer', syslog },
      { level: 'warn', message: 'call failed', callId: 'CA1', syslog },
      { level: 'error', message: 'third', syslog },
    ].entries()) {
      expect(documents[i]).toMatchObject({ ...common, ...fields });
      expect((documents[i]!.tags as string[]).filter((tag) => tag !== 'error')).toEqual([]);
      if (!isNew) continue;
      expect(documents[i]).toMatchObject({
        syslog: { msgId: 'ID47' },
        extra: { structuredData: { 'ex@32473': { a: 'b', c: 'd e' }, timeQuality: { tzKnown: '1' } } },
      });
    }
  },
);

async function startRsyslog(port: string, actions: readonly string[]) {
  const rsyslogd = program('rsyslogd', 'rsyslog');
  const logger = program('logger', 'bsdutils');
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-rsyslog-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, 'log');
  const forward = (options: string) =>
    `action(type="omfwd" target="127.0.0.1" port="${port}" protocol="tcp" action.resumeRetryCount="-1"
    action.resumeInterval="1" ${options})`;
  writeFileSync(
    join(folder, 'rsyslog.conf'),
    `global(workDirectory="${folder}" maxMessageSize="64k")
module(load="imuxsock" sysSock.use="off")
input(type="imuxsock" socket="${socket}" ratelimit.interval="0")
if $programname == "calls" then {
${actions.map(forward).join('\n')}
}
`,
  );
  const daemon = spawn(rsyslogd, ['-n', '-f', join(folder, 'rsyslog.conf'), '-i', join(folder, 'pid')], {
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const exited = once(daemon, 'exit');
  const end = async () => {
    daemon.kill('SIGTERM');
    await exited;
  };
  onTestFinished(end);
  await until(() => expect(existsSync(socket)).toBe(true));
  return {
    end,
    say: (...texts: string[]) => run(logger, ['-u', socket, '-t', 'calls', '--id=411', ...texts], { env }),
    /** One message for each line of a file. */
    sayFile: (file: string) => run(logger, ['-u', socket, '-t', 'calls', '-f', file], { env }),
    folder,
  };
}

test('rsyslog: octet counting, lines, and lines ended by NUL; what it sends as it ends arrives too', async () => {
  const { values, documents, port } = await listen();
  const { say, end } = await startRsyslog(port, [
    'TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"',
    'TCP_Framing="traditional" template="RSYSLOG_ForwardFormat"',
    'TCP_Framing="traditional" TCP_FrameDelimiter="0" template="RSYSLOG_TraditionalForwardFormat"',
  ]);
  await say('-p', 'local0.warning', 'größer als [x="y"]');
  await until(() => expect(values).toHaveLength(3));
  await say('-p', 'local0.err', '{"level":"fatal","message":"call failed","callId":"CA1"}');
  const long = 'x'.repeat(20_000);
  await say('-p', 'local0.info', '--size', '30000', long);
  await end();
  await until(() => expect(values).toHaveLength(9));
  const [octets, lines, nuls] = [/^<\d+>1 /, /^<\d+>\d{4}-/, /^<\d+>[A-Z]/].map((start) =>
    documents.filter((_, i) => start.test(values[i]!)),
  );
  for (const three of [octets!, lines!, nuls!]) {
    expect(three).toHaveLength(3);
    for (const document of three) {
      expect(document).toMatchObject({ service: 'calls', pid: 411, host: hostname().split('.')[0] });
      expect((document.tags as string[]).filter((tag) => tag !== 'error')).toEqual([]);
    }
    expect(three[0]).toMatchObject({ level: 'warning', message: 'größer als [x="y"]' });
    expect(three[1]).toMatchObject({
      level: 'fatal',
      message: 'call failed',
      callId: 'CA1',
      extra: { level: 'error' },
    });
    expect(three[2]).toMatchObject({ level: 'info', message: long });
  }
});

/** Messages that rsyslog takes from its queue at a time, and sends as one. */
const RSYSLOG_BATCH = 1_024;

test('rsyslog loses nothing when the receiver is stopped in order and started again', async () => {
  const first = await listen();
  const { sayFile, folder } = await startRsyslog(first.port, [
    'TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"',
  ]);
  const lines = (from: number) => Array.from({ length: 2_000 }, (_, i) => `message ${from + i} of many`);
  const file = join(folder, 'lines');
  writeFileSync(file, lines(0).join('\n'));
  const saying = sayFile(file);
  await until(() => expect(first.values.length).toBeGreaterThan(100));
  await first.source.stop();
  await first.source.close();
  await saying;
  writeFileSync(file, lines(2_000).join('\n'));
  await sayFile(file);
  const second = await listen(first.port);
  await until(() => expect(second.values.at(-1)).toContain('message 3999 of'));
  const numbers = [...first.values, ...second.values].map((value) => Number(/message (\d+) of/.exec(value)?.[1]));
  expect(new Set(numbers).size).toBe(4_000);
  // Where the connection ends in the middle of a batch, rsyslog sends all of that batch again, and nothing else.
  const twice = second.values.length + first.values.length - 4_000;
  expect(twice).toBeLessThanOrEqual(RSYSLOG_BATCH);
  expect(new Set(first.values).size).toBe(first.values.length);
  expect(new Set(second.values).size).toBe(second.values.length);
});
