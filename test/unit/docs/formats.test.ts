// docs/releasing.md, "Formats and their versions": what this logpipe does with a format of a newer one.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBlindWatch } from '../../../src/alerter/blindness.ts';
import { decodeCommand, encodeCommand } from '../../../src/alerter/commands-given.ts';
import { formatChange, openJournalStore } from '../../../src/alerter/store.ts';
import { dlqList } from '../../../src/cli/dlq.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { createFileDeadLetters, receiptLine } from '../../../src/indexing/dead-letters.ts';
import { decodeCounts, encodeCounts } from '../../../src/measure/counts-topic.ts';
import { openState } from '../../../src/replay/request.ts';
import { createSpool, openLeftSpool } from '../../../src/ship/spool.ts';
import { spoolFolders } from '../../../src/ship/spool-folder.ts';
import { openJournal } from '../../../src/source/files/checkpoints.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const page = readFileSync(join(packageRoot(), 'docs/releasing.md'), 'utf8');

/** The row of the table that begins so. */
function row(format: string): string {
  const found = page.split('\n').find((line) => line.startsWith(`| ${format} |`));
  if (found === undefined) throw new Error(`docs/releasing.md has no row ${format}`);
  return found;
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'logpipe-formats-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('refused, by its version', () => {
  test('positions of files', async () => {
    const file = join(folder, 'positions.ndjson');
    const journal = openJournal(folder);
    journal.add({
      path: 'a',
      identity: 'i',
      born: '1 2',
      generation: 0,
      name: 'a',
      dev: 1,
      ino: 2,
      position: 0,
      marks: [],
    });
    await journal.save();
    const written = readFileSync(file, 'utf8');
    const { version } = JSON.parse(written.split('\n')[0]!) as { version: number };
    expect(row('positions of files')).toContain(`\`{"version":${version}}\``);
    expect(openJournal(folder).entries.size).toBe(1);
    writeFileSync(file, written.replace(`{"version":${version}}`, `{"version":${version + 1}}`));
    expect(() => openJournal(folder)).toThrow(
      expect.objectContaining({
        code: 'LOGPIPE_SOURCE_FAILED',
        message: expect.stringContaining(`version ${version + 1} is not known`),
      }),
    );
    expect(row('positions of files')).toContain(`"version ${version + 1} is not known"`);
    expect(readFileSync(file, 'utf8')).toContain(`{"version":${version + 1}}`);
  });

  test('the state of a named replay', () => {
    mkdirSync(folder, { recursive: true });
    const file = join(folder, 'outage.json');
    const newer = `${JSON.stringify({ version: 2, name: 'outage', request: {} })}\n`;
    writeFileSync(file, newer);
    expect(() => openState({ name: 'outage', folder, request: {} })).toThrow(
      expect.objectContaining({
        code: 'LOGPIPE_SOURCE_FAILED',
        message: expect.stringContaining('version 2 is not known'),
      }),
    );
    expect(row('state of a named replay')).toContain('"version 2 is not known"');
    expect(readFileSync(file, 'utf8')).toBe(newer);
    writeFileSync(file, newer.replace('"version":2', '"version":1'));
    openState({ name: 'outage', folder, request: {} }).close();
  });

  test('the alert state', async () => {
    const where = { folder };
    const deps = { log: silentLog };
    const store = await openJournalStore(where, deps);
    const [format] = formatChange(store.initial);
    expect(format).toEqual({ key: 'meta/format', value: { v: 1 } });
    expect(row('alert state: alerts, incidents, outbox, hours')).toContain('`v: 1` in the record `meta/format`');
    await store.commit([format!]);
    await store.close();
    const again = await openJournalStore(where, deps);
    expect(formatChange(again.initial)).toEqual([]);
    await again.commit([{ key: 'meta/format', value: { v: 2 } }]);
    await again.close();
    // Given back each time: a newer logpipe can have the folder.
    for (let n = 0; n < 2; n++) {
      await expect(openJournalStore(where, deps)).rejects.toMatchObject({
        code: 'LOGPIPE_ALERT_STATE_NEWER',
        message: expect.stringContaining('has format 2, written by a newer logpipe; this one knows 1'),
      });
    }
    expect(row('alert state: alerts, incidents, outbox, hours')).toContain('`LOGPIPE_ALERT_STATE_NEWER`');
  });

  test('dead letters of a file', async () => {
    const file = join(folder, 'dead-letters.ndjson');
    const sink = createFileDeadLetters({ path: file, metrics: createMetrics(), log: silentLog });
    const origin = { kind: 'file', path: 'a', identity: 'i' } as const;
    const letter = { reason: 'null_value', detail: '', value: null, origin, offset: 1, timeMs: 0, id: 'one' } as const;
    await sink.put([letter], new AbortController().signal);
    await sink.close();
    const written = readFileSync(file, 'utf8');
    expect(JSON.parse(written)).toMatchObject({ v: 1, id: 'one' });
    expect(row('dead letters')).toContain('`v: 1`');
    const listed: string[] = [];
    const list = () => {
      const config = { source: 'files', dlq: { file } } as Parameters<typeof dlqList>[0];
      return dlqList(config, { json: true }, { out: (line) => void listed.push(line), err() {} }, silentLog);
    };
    writeFileSync(file, written.replace('"v":1,', ''));
    expect(await list()).toBe(0);
    expect(listed).toHaveLength(1);
    writeFileSync(file, written.replace('"v":1', '"v":2'));
    await expect(list()).rejects.toMatchObject({
      code: 'LOGPIPE_FORMAT_NEWER',
      message: expect.stringContaining('offset 0: the dead letter has format 2'),
    });
  });

  test('receipts of redrives beside a file', async () => {
    const file = join(folder, 'dead-letters.ndjson');
    const line = receiptLine({ startedMs: 0, runs: [[0, 1]] }, 'identity');
    expect(row('receipts of redrives')).toContain('`v: 1`');
    writeFileSync(file, '');
    writeFileSync(`${file}.receipts`, line);
    const list = () => {
      const config = { source: 'files', dlq: { file } } as Parameters<typeof dlqList>[0];
      return dlqList(config, { json: true }, { out() {}, err() {} }, silentLog);
    };
    expect(await list()).toBe(0);
    writeFileSync(`${file}.receipts`, line.replace('"v":1', '"v":2'));
    await expect(list()).rejects.toMatchObject({
      code: 'LOGPIPE_FORMAT_NEWER',
      message: expect.stringContaining('offset 0: the receipt of a redrive has format 2'),
    });
  });

  test('who was told that the pipeline is blind', async () => {
    const noteFile = join(folder, 'blind.json');
    const options = { blindAfterMs: 60_000, brokers: [], environment: 'test', pipeline: 'p', noteFile };
    const clock = createFakeClock();
    const watch = () =>
      createBlindWatch(options, {
        clock,
        awakeMs: clock.monotonicMs,
        log: silentLog,
        metrics: createMetrics(),
        channels: () => ['slack'],
        send: ([entry]) => entry && blind.onResult(entry.id, true),
        forget: () => {},
        trouble: () => 'no counts are taken',
      });
    const blind = watch();
    blind.leads(true);
    for (let second = 0; second < 130; second++) {
      await clock.advance(1_000);
      blind.look();
    }
    const written = readFileSync(noteFile, 'utf8');
    expect(JSON.parse(written)).toMatchObject({ v: 1, told: ['slack'] });
    expect(row('"Log pipeline blind": who was told')).toContain('`"v":1`');
    writeFileSync(noteFile, written.replace('"v":1,', ''));
    expect(watch().blind()).toBe(true);
    writeFileSync(noteFile, written.replace('"v":1', '"v":2'));
    expect(watch).toThrow(expect.objectContaining({ code: 'LOGPIPE_FORMAT_NEWER' }));
  });
});

describe('left out, by its version', () => {
  test('counts', () => {
    const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: 0, caughtUp: true };
    const { value } = encodeCounts({ kind: 'progress', progress });
    expect(row('counts')).toContain('`v: 1`');
    expect(decodeCounts(Buffer.from(value))).toMatchObject({ kind: 'progress' });
    expect(decodeCounts(Buffer.from(value.replace('"v":1', '"v":2')))).toBeUndefined();
  });

  test('spools of the transport', async () => {
    const to = { dir: folder, brokers: ['kafka:9092'], topic: 'logs', service: 'api' };
    const folders = spoolFolders(to);
    const own = folders.own();
    const log = join(own, '00000001.log');
    const deps = { onDropped: () => {}, onTrouble: () => {}, onRecovered: () => {} };
    const spool = createSpool({ folder: own, maxBytes: 2 ** 24, segmentBytes: 2 ** 20 }, deps);
    spool.append({ line: 'a', eventId: '01KE70Q0VG0000000000000001', key: null, bytes: 1 });
    await spool.close();
    folders.close();
    const format = readFileSync(log, 'utf8').split('\n')[0]!.split('\t')[1]!;
    expect(format).toBe('logpipe-spool 1 0');
    for (const version of ['"v":1', 'logpipe-spool 1'])
      expect(row('spools of the transport')).toContain(`\`${version}\``);

    const owner = join(own, '..', 'owner.json');
    const written = readFileSync(owner, 'utf8');
    writeFileSync(owner, written.replace('"v":1', '"v":2'));
    const said: string[] = [];
    const next = spoolFolders(to, { warn: (message) => said.push(message) });
    expect(await next.adopt()).toEqual([]);
    expect(said).toEqual([expect.stringContaining('newer logpipe')]);
    writeFileSync(owner, written);
    // A checksum covers the line.
    const body = 'logpipe-spool 2 0';
    writeFileSync(log, `${crc32(body).toString(16).padStart(8, '0')}\t${body}\n`);
    const [adopted] = await next.adopt();
    await expect(openLeftSpool(adopted!, deps)).rejects.toMatchObject({ code: 'LOGPIPE_FORMAT_NEWER' });
    expect(readFileSync(join(adopted!, '00000001.log'), 'utf8')).toContain(body);
    next.close();
  });

  test('commands to the alerter', () => {
    const value = encodeCommand({ kind: 'resolve', commandId: 'c', by: 'me', alerts: [{ key: 'a{}', startedMs: 1 }] });
    expect(row('commands to the alerter')).toContain('`v: 1`');
    expect(decodeCommand(Buffer.from(value))).toMatchObject({ kind: 'resolve' });
    expect(decodeCommand(Buffer.from(value.replace('"v":1', '"v":2')))).toBeUndefined();
  });
});
