// `dlq list`, `dlq show`, `tail` and `alerts` where there is no Kafka: they read what the running pipeline has written, and what people
// see fits their terminal.
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished, test } from 'vitest';
import { openJournalStore } from '../../../src/alerter/store.ts';
import { alertsList, alertsShow } from '../../../src/cli/alerts.ts';
import { dlqList, dlqShow, type ListedLetter } from '../../../src/cli/dlq.ts';
import { type Io, type Piece, widthOf } from '../../../src/cli/io.ts';
import { createLineParser } from '../../../src/cli/parse.ts';
import { type TailOptions, tail } from '../../../src/cli/tail.ts';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import type { DeadLetter } from '../../../src/core/record.ts';
import type { StateChange } from '../../../src/incidents/records.ts';
import { createFileDeadLetters } from '../../../src/indexing/dead-letters.ts';

const NOW = Date.parse('2026-01-05T10:30:00.000Z');
const WORKS = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/;

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-people-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Collects lines; with `columns` as a terminal of that width, where none may be wider or work on it. */
function collector(columns?: number) {
  const out: string[] = [];
  const err: string[] = [];
  const styles: string[] = [];
  let heard = () => {};
  const put = (line: string) => {
    if (columns !== undefined) expect(widthOf(line), line).toBeLessThanOrEqual(columns);
    expect(line).not.toMatch(WORKS);
    out.push(line);
    heard();
  };
  const io: Io = {
    out: put,
    err: (line) => {
      err.push(line);
      heard();
    },
    isTTY: columns !== undefined,
    columns,
    ...(columns === undefined
      ? {}
      : {
          paint(pieces: readonly Piece[]) {
            for (const { style } of pieces) if (style !== undefined) styles.push(style);
            put(pieces.map(({ text }) => text).join(''));
          },
        }),
  };
  /** Resolves as soon as it is so. */
  const until = (isSo: () => boolean) =>
    new Promise<void>((resolve) => {
      heard = () => isSo() && resolve();
      heard();
    });
  return { io, out, err, styles, until };
}

function configIn(folder: string, more = ''): ReturnType<typeof parseConfig> {
  const yaml = `source: files
files: { paths: ['${join(folder, 'app.log')}'] }
dlq: { file: '${join(folder, 'dead-letters.ndjson')}' }
alerts: { journalDir: '${join(folder, 'alerts')}', rulesFile: '${join(folder, 'rules.yml')}' }
mask: { keys: [locker] }
${more}`;
  return parseConfig(yaml, {}, 'test.yml');
}

describe('dead letters in a file', () => {
  const STACK = 'Error: boom \u001b[2J\n    at call (app.js:1:2)\n    at run (app.js:3:4)';
  const VALUE = JSON.stringify({ level: 'error', error: { stack: STACK }, locker: 'opal', note: 'x'.repeat(300) });

  async function letters(folder: string): Promise<void> {
    const path = join(folder, 'dead-letters.ndjson');
    const sink = createFileDeadLetters({ path, metrics: createMetrics(), log: silentLog });
    const letter = (n: number, value: Buffer | null, more: Partial<DeadLetter> = {}): DeadLetter => ({
      reason: 'document_refused',
      detail: `failed to parse field [n${n}] ${'of a long name '.repeat(20)}`,
      value,
      origin: { kind: 'file', path: `/var/log/${'deep/'.repeat(20)}app.log`, identity: 'file-1' },
      offset: n,
      timeMs: NOW,
      id: `id-${n}`,
      ...more,
    });
    const signal = new AbortController().signal;
    await sink.put([letter(1, Buffer.from(VALUE)), letter(2, Buffer.from([0xff, 0x00]))], signal);
    // Delivered twice.
    await sink.put([letter(1, Buffer.from(VALUE)), letter(3, null, { reason: 'null_value' })], signal);
    await sink.close();
    appendFileSync(path, 'not a letter\n');
  }

  it('are listed once each, with what is needed to ask for one', async () => {
    const folder = newFolder();
    const config = configIn(folder);
    const none = collector(80);
    expect(await dlqList(config, {}, none.io, silentLog)).toBe(0);
    expect(none.err).toEqual([expect.stringMatching(/^no dead letters \(there is no .*dead-letters\.ndjson\)$/)]);
    await letters(folder);

    const json = collector();
    expect(await dlqList(config, { json: true }, json.io, silentLog)).toBe(0);
    expect(json.out.map((line) => JSON.parse(line) as ListedLetter)).toMatchObject([
      { id: 'id-1', reason: 'document_refused', origin: { identity: 'file-1', offset: 1 }, bytes: VALUE.length },
      { id: 'id-2', bytes: 2 },
      { id: 'id-3', reason: 'null_value', value: null, bytes: 0 },
    ]);
    const only = collector();
    expect(await dlqList(config, { json: true, reason: 'null_value' }, only.io, silentLog)).toBe(0);
    expect(only.out).toHaveLength(1);

    const people = collector(80);
    await dlqList(config, { timeZone: 'Europe/Berlin' }, people.io, silentLog);
    expect(people.out[1]).toBe('2026-01-05T11:30:00+01:00  document_refused   id-1');
    expect(people.out[2]).toMatch(/^ {4}….*app\.log@1, \d+ bytes$/);
    expect(people.err).toEqual(['3 dead letters; logpipe dlq show <id> shows one whole']);
    const pipe = collector();
    await dlqList(config, {}, pipe.io, silentLog);
    expect(pipe.out).toHaveLength(4);
    expect(json.out.join() + people.out.join() + pipe.out.join()).not.toContain('opal');
  });

  it('are shown whole: reason, place, masked value, the stack line by line', async () => {
    const folder = newFolder();
    const config = configIn(folder);
    await letters(folder);
    const { io, out } = collector(80);
    expect(await dlqShow('id-1', config, {}, io, silentLog)).toBe(0);
    expect(out).toContain('reason    document_refused');
    expect(out.join('\n')).toContain('"locker": "[masked]"');
    expect(out.slice(out.indexOf('error.stack'))).toEqual([
      'error.stack',
      '  Error: boom \\u001b[2J',
      '      at call (app.js:1:2)',
      '      at run (app.js:3:4)',
    ]);
    expect(out.join('').match(/x/g)!.length).toBeGreaterThanOrEqual(300);
    const json = collector();
    await dlqShow('id-1', config, { json: true }, json.io, silentLog);
    expect((JSON.parse(json.out[0]!) as ListedLetter).value).toContain('x'.repeat(300));
    await expect(dlqShow('id-9', config, {}, io, silentLog)).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
  });
});

describe('tail of files', () => {
  /** An event of long ago would get the time at which it was read. */
  const PRESENT = Math.floor(Date.now() / 1_000) * 1_000;
  const line = (n: number, more: object = {}) =>
    `${JSON.stringify({ timestamp: new Date(PRESENT + n * 1_000).toISOString(), level: 'info', message: `m${n}`, ...more })}\n`;

  function follow(config: ReturnType<typeof configIn>, options: TailOptions, columns?: number) {
    const abort = new AbortController();
    const seen = collector(columns);
    const parse = createLineParser(config);
    const deps = { parse, log: silentLog, now: () => PRESENT };
    const ended = tail(config, { signal: abort.signal, ...options }, seen.io, deps);
    onTestFinished(async () => {
      abort.abort();
      await ended.catch(() => {});
    });
    const messages = () => seen.out.map((text) => (JSON.parse(text) as { message: string }).message);
    return {
      ...seen,
      abort,
      ended,
      messages,
      ready: seen.until(() => seen.err.some((text) => text.startsWith('following'))),
    };
  }

  it('follows from now on, through rotation, a new file and one that is emptied', async () => {
    const folder = newFolder();
    const log = join(folder, 'app.log');
    writeFileSync(log, `${line(0)}{"half":`);
    const { messages, out, until, ready, abort, ended } = follow(configIn(folder), { json: true });
    await ready;
    appendFileSync(log, `"old"}\n${line(1)}`);
    await until(() => out.length === 1);
    renameSync(log, join(folder, 'app.log.1'));
    appendFileSync(join(folder, 'app.log.1'), line(2).trimEnd());
    writeFileSync(log, line(3));
    await until(() => out.length === 3);
    truncateSync(log);
    // Shorter than what stood there, so that it shows at once.
    appendFileSync(log, '{"message":"m4"}\n');
    await until(() => out.length === 4);
    expect(messages()).toEqual(['m1', 'm2', 'm3', 'm4']);
    abort.abort();
    expect(await ended).toBe(0);
  });

  it('begins in the past, in rotated files too, and keeps its hands off what is no file', async () => {
    const folder = newFolder();
    const log = join(folder, 'app.log');
    writeFileSync(join(folder, 'app.log.2.gz'), gzipSync(line(-7_200) + line(-3_000)));
    writeFileSync(join(folder, 'app.log.1'), line(-2_000));
    writeFileSync(log, line(-1_000));
    const { messages, ended } = follow(configIn(folder), { json: true, since: '-1h', limit: 3 });
    expect(await ended).toBe(0);
    expect(messages().sort()).toEqual(['m-1000', 'm-2000', 'm-3000']);

    rmSync(log);
    mkdirSync(log);
    const none = follow(configIn(folder), {});
    await none.ready;
    expect(none.err[0]).toContain('is not a regular file');
  });

  it('shows people colours, their own time, and stacks line by line; programs one line', async () => {
    const folder = newFolder();
    const log = join(folder, 'app.log');
    writeFileSync(log, '');
    const error = {
      name: 'Error',
      message: 'boom',
      stack: 'Error: boom\n\u001b[31m  at a (b.js:1:2)\n2026-01-05T10:00:00.000Z info  forged',
    };
    const people = follow(configIn(folder), { timeZone: 'Europe/Berlin' }, 80);
    const pipe = follow(configIn(folder), {});
    await Promise.all([people.ready, pipe.ready]);
    appendFileSync(
      log,
      line(0, { level: 'error', message: `failed\nsecond ${'long '.repeat(30)}`, error, locker: 'opal' }),
    );
    await Promise.all([
      people.until(() => people.out.join().includes('forged')),
      pipe.until(() => pipe.out.length === 1),
    ]);
    expect(people.out[0]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000\+0[12]:00 error - failed /);
    expect(people.out).toContain('    Error: boom');
    expect(people.out).toContain('    \\u001b[31m  at a (b.js:1:2)');
    expect(people.out.filter((text) => /^\S/.test(text))).toHaveLength(1);
    expect(people.styles).toContain('red');
    expect(pipe.out[0]).toContain('failed\\nsecond');
    expect(people.out.join() + pipe.out.join()).not.toContain('opal');
  });

  it('of standard input is what the NDJSON sink wrote, also into the next day’s file', async () => {
    const folder = newFolder();
    const dir = join(folder, 'out');
    const stdin = (more = '') => {
      const config = configIn(folder, more);
      return { ...config, source: 'stdin' } as typeof config;
    };
    await expect(follow(stdin(), {}).ended.catch((error: unknown) => Promise.reject(error))).rejects.toThrow(
      'sinks.ndjson',
    );
    mkdirSync(dir);
    const document = (n: number) =>
      `${JSON.stringify({ '@timestamp': new Date(PRESENT).toISOString(), message: `m${n}` })}\n`;
    writeFileSync(join(dir, 'calling-platform-2026.01.05.ndjson'), document(0));
    const { messages, out, until, ready } = follow(stdin(`sinks: { ndjson: { enabled: true, dir: '${dir}' } }`), {
      json: true,
    });
    await ready;
    appendFileSync(join(dir, 'calling-platform-2026.01.05.ndjson'), document(1));
    writeFileSync(join(dir, 'calling-platform-2026.01.06.ndjson'), document(2));
    await until(() => out.length === 2);
    expect(messages()).toEqual(['m1', 'm2']);
  });
});

test('alerts: how long, muted by what, and times as times, within 80 columns', async () => {
  const folder = newFolder();
  const config = configIn(folder);
  const rule = (id: string, more = '') =>
    `  ${id}: { title: T, priority: P1, group: calls, kind: ratio, measure: call.failure_ratio, window: 5m, above: 20 %${more} }\n`;
  writeFileSync(
    join(folder, 'rules.yml'),
    `rules:\n${rule('provider-down')}${rule('slow-calls', ', inhibitedBy: [provider-down]')}`,
  );
  const alert = (ruleId: string, minutes: number, more: object = {}) => ({
    key: `alert/${ruleId}`,
    value: {
      ...{
        key: ruleId,
        ruleId,
        labels: {},
        title: `Title of ${ruleId}`,
        priority: 'P1',
        group: 'calls',
        runbook: 'docs/r.md',
      },
      ...{
        phase: 'firing',
        startedMs: NOW - minutes * 60_000,
        incidentId: 'INCIDENT',
        message: `${ruleId} is at 23 % \u001b[2J`,
      },
      ...more,
    },
  });
  const changes: StateChange[] = [
    alert('provider-down', 12, {
      why: {
        ...{ measure: 'call.failure_ratio', windowMs: 300_000, fromMs: NOW, toMs: NOW, value: 0.23, valueText: '23 %' },
        ...{
          threshold: 0.2,
          thresholdText: '20 %',
          volume: 184,
          topTemplates: [{ template: 'timeout after <n> ms', count: 37 }],
        },
        examples: ['01KE70Q0VG0000000000000001'],
      },
    }),
    alert('slow-calls', 3, { muted: 'inhibited' }),
    alert('quiet-host', 95, { muted: 'silenced', labels: { host: 'w-3' } }),
    alert('about-to', 0.5, { phase: 'pending', incidentId: undefined }),
    {
      key: 'silence/1',
      value: { id: '1', labels: { host: 'w-3' }, untilMs: NOW + 3_600_000, by: 'anna', reason: 'deploy' },
    },
    {
      key: 'incident/INCIDENT',
      value: {
        ...{ id: 'INCIDENT', group: 'calls', dedupKey: 'd', state: 'open', openedMs: NOW - 12 * 60_000, reopened: 0 },
        told: { atMs: NOW - 11 * 60_000, priority: 'P1', title: `Provider Down ${'very '.repeat(20)}`, message: 'm' },
        channels: {
          slack: { triggeredMs: NOW, deliveredMs: NOW - 60_000 },
          pagerduty: { triggeredMs: NOW, failed: '401' },
        },
        ...{ ended: [], endedSinceTold: 0 },
      },
    },
  ];
  const store = await openJournalStore({ folder: join(folder, 'alerts') }, { log: silentLog });
  await store.commit(changes);
  await store.close();

  const list = collector(80);
  expect(await alertsList(config, { all: false, json: false }, list.io, silentLog, () => NOW)).toBe(0);
  const text = list.out.join('\n');
  expect(list.out[0]).toMatch(/^PRI {2}STATE {9}FOR {9}SINCE {17}TITLE$/);
  expect(list.out[1]).toMatch(/^P1 {3}firing {8}12 min {6}2026-01-05T10:18:00Z {2}Provider Down/);
  expect(text).toMatch(/slow-calls, firing for 3 min, muted by provider-down:/);
  const flat = text.replaceAll(/\n +/g, ' ');
  expect(flat).toContain('quiet-host, firing for 1 h 35 min, silenced by anna until 2026-01-05T11:30:00Z (deploy):');
  expect(text).toMatch(/^P1 {3}pending {7}30 s /m);
  expect(list.styles).toContain('red');

  const show = collector(80);
  expect(
    await alertsShow('INCIDENT', config, { json: false, timeZone: 'Asia/Kolkata' }, show.io, silentLog, () => NOW),
  ).toBe(0);
  expect(show.out).toContain('state         firing for 12 min');
  expect(show.out).toContain('slack         delivered 2026-01-05T15:59:00+05:30');
  expect(show.out).toContain('pagerduty     FAILED: 401');
  expect(show.out.join('\n').replaceAll(/\n +/g, ' ')).toContain(
    'why           call.failure_ratio over 5 min: 23 % (threshold 20 %), from 184 events',
  );
  const json = collector();
  await alertsShow('slow-calls', config, { json: true }, json.io, silentLog);
  expect(JSON.parse(json.out[0]!)).toMatchObject({ key: 'slow-calls', muted: 'inhibited' });
});
