// `logpipe dlq redrive` without Kafka: letters of the file go into Elasticsearch through the same stages, and receipts lie beside them.
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type DlqRedriveOptions, dlqList, dlqRedrive, type ListedLetter } from '../../src/cli/dlq.ts';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { DeadLetter } from '../../src/core/record.ts';
import { createFileDeadLetters } from '../../src/indexing/dead-letters.ts';
import { readLetters } from '../../src/replay/redrive.ts';
import { bulkReply, startBulkServer } from '../kit/bulk-server.ts';

const RECORDED = Date.parse('2026-01-02T23:59:00.000Z');
const REFUSED = { type: 'document_parsing_exception', reason: 'failed to parse field [n]' };

function letter(n: number, overrides: Partial<DeadLetter> = {}): DeadLetter {
  return {
    ...{
      reason: 'document_refused',
      detail: 'failed to parse',
      offset: n * 100,
      timeMs: RECORDED,
      id: `file1-${n * 100}`,
    },
    // No time of its own: only that of its record tells the day.
    value: Buffer.from(`{"level":"info","message":"m${n}","n":${n}}`),
    origin: { kind: 'file', path: '/var/log/app.log', identity: 'file1' },
    ...overrides,
  };
}

async function putLetters(file: string, letters: readonly DeadLetter[]): Promise<void> {
  const sink = createFileDeadLetters({ path: file, metrics: createMetrics(), log: silentLog });
  await sink.put(letters, new AbortController().signal);
  await sink.close();
}

it('letters of a file are indexed under their ids on their day; what is refused again stays, and receipts are read by all', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-redrive-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'dead.ndjson');
  /** Ids that Elasticsearch still refuses. */
  const refused = new Set(['file1-200']);
  const present = new Set(['file1-300']);
  const server = await startBulkServer(({ ids }) =>
    bulkReply(
      ids.map((id) => {
        if (refused.has(id)) return { status: 400, error: REFUSED };
        return {
          status: present.has(id) ? 409 : 201,
          ...(present.has(id) ? { error: { type: 'version_conflict_engine_exception', reason: 'exists' } } : {}),
        };
      }),
    ),
  );
  onTestFinished(() => server.close());
  const config = parseConfig(
    `source: files
dlq: { file: ${file} }
elasticsearch: { nodes: ['${server.url}'], installTemplate: false }
bulk: { maxDelayMs: 10 }`,
    {},
    'test.yml',
  );
  const run = async (options: DlqRedriveOptions = {}, ids: string[] = []) => {
    const out: string[] = [];
    const io = { out: (line: string) => void out.push(line), err() {} };
    const status = await dlqRedrive(ids, config, { throttle: 1e6, ...options }, io, silentLog);
    return { status, summary: JSON.parse(out[0]!) as Record<string, unknown> };
  };
  const listed = async () => {
    const out: string[] = [];
    await dlqList(config, { json: true }, { out: (line) => void out.push(line), err() {} }, silentLog);
    return out.map((line) => JSON.parse(line) as ListedLetter);
  };

  // No letters, no file: nothing to do, and nothing is asked of Elasticsearch.
  expect(await run()).toMatchObject({ status: 0, summary: { complete: true, redriven: 0 } });

  await putLetters(file, [
    letter(1),
    letter(2),
    letter(3),
    letter(4, { value: null, reason: 'null_value' }),
    letter(1),
  ]);
  expect(await run({ dryRun: true })).toMatchObject({
    status: 1,
    summary: { dryRun: true, redriven: 3, notRedriven: { no_value: 1 } },
  });
  expect(server.requests).toEqual([]);
  expect(existsSync(`${file}.receipts`)).toBe(false);

  expect(await run()).toMatchObject({
    status: 1,
    summary: {
      ...{ complete: true, read: 5, redriven: 2, alreadyRedriven: 0 },
      notRedriven: { no_value: 1, refused_again: 1 },
      examples: [
        { id: 'file1-400', cause: 'no_value' },
        { id: 'file1-200', cause: 'refused_again', detail: expect.stringContaining('failed to parse field') as string },
      ],
    },
  });
  const sent = server.requests.flatMap(({ ids, indices }) => ids.map((id, i) => [id, indices[i]]));
  expect(new Set(sent.map(([id]) => id))).toEqual(new Set(['file1-100', 'file1-200', 'file1-300']));
  expect(new Set(sent.map(([, index]) => index))).toEqual(new Set(['calling-platform-2026.01.02']));
  // Nobody wrote the refused one down a second time.
  expect(readFileSync(file, 'utf8').trim().split('\n')).toHaveLength(5);

  refused.clear();
  const requests = server.requests.length;
  expect(await run({ reason: 'document_refused' })).toMatchObject({
    status: 0,
    summary: { redriven: 1, alreadyRedriven: 2, notRedriven: {} },
  });
  expect(server.requests.slice(requests).flatMap(({ ids }) => ids)).toEqual(['file1-200']);
  expect((await listed()).map(({ id, redrivenAt }) => [id, redrivenAt === undefined])).toEqual([
    ['file1-100', false],
    ['file1-200', false],
    ['file1-300', false],
    ['file1-400', true],
  ]);

  // Another file of the same name: its letters are others, wherever they lie.
  writeFileSync(file, '');
  await putLetters(file, [letter(8), letter(9)]);
  expect(await run({ where: ['n=9'] })).toMatchObject({ status: 0, summary: { read: 2, redriven: 1 } });
  expect(await run({}, ['file1-900', 'file1-1'])).toMatchObject({
    status: 1,
    summary: { redriven: 0, alreadyRedriven: 1, unknownIds: ['file1-1'] },
  });
});

it('a letter written after the beginning, or not yet to its end, is left for the next time', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-redrive-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'dead.ndjson');
  const read = async (onFirst: () => unknown = () => {}) => {
    const ids: string[] = [];
    const reached = await readLetters(
      { source: 'files', dlq: { file } },
      { purpose: 'test' },
      async (placed) => {
        if (ids.length === 0) await onFirst();
        ids.push(...placed.map((one) => one.letter?.id ?? 'none'));
        return true;
      },
      silentLog,
    );
    return { reached, count: ids.length, last: ids.at(-1) };
  };
  writeFileSync(file, '');
  expect(await read()).toEqual({ reached: true, count: 0, last: undefined });
  const some = (from: number, count: number) => Array.from({ length: count }, (_, n) => letter(from + n));
  await putLetters(file, some(0, 1_200));
  expect(await read(() => putLetters(file, some(1_200, 700)))).toEqual({
    ...{ reached: true, count: 1_200, last: 'file1-119900' },
  });
  const whole = readFileSync(file);
  const begun = whole.subarray(0, whole.indexOf('\n'));
  appendFileSync(file, begun.subarray(0, -20));
  expect(await read()).toEqual({ reached: true, count: 1_900, last: 'file1-189900' });
  appendFileSync(file, Buffer.concat([begun.subarray(-20), Buffer.from('\n')]));
  expect(await read()).toEqual({ reached: true, count: 1_901, last: 'file1-0' });
});

it('what is asked wrongly is said with the option, the value and the fix', async () => {
  const config = parseConfig(
    'source: files\nsinks: { elasticsearch: false, console: { enabled: true } }',
    {},
    'test.yml',
  );
  const io = { out() {}, err() {} };
  const refuse = (options: DlqRedriveOptions) =>
    expect(dlqRedrive([], config, options, io, silentLog)).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
  await refuse({ reason: 'nonsense' });
  await refuse({ limit: 0 });
  await refuse({ throttle: -1 });
  await refuse({ since: 'soon' });
  await refuse({ since: '-1h', until: '-2h' });
  await refuse({ where: ['x'] });
  await refuse({});
});
