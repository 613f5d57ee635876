// An export of records that nobody would send: whole or nothing, what is missing is said, nothing in it works on a reader's program.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { loadMeasures } from '../../../src/measure/measure-config.ts';
import { csvLine, exportIncident } from '../../../src/replay/export.ts';
import { parseWhere } from '../../../src/replay/sources.ts';
import type { StoredRecord } from '../../../src/replay/stored.ts';

const FROM = Date.parse('2026-01-05T10:00:00Z');
const TO = FROM + 60_000;
const CONFIG = parseConfig('', {}, 'test.yml');
const KEYWORD = ['opal', 'heron'].join('-');

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'logpipe-export-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const record = (line: string | null, offset = 0): StoredRecord => ({
  arrivalMs: FROM + 1_000,
  partition: 0,
  offset,
  value: line === null ? null : Buffer.from(line),
});
const event = (fields: object) => JSON.stringify({ timestamp: '2026-01-05T10:00:01.000Z', level: 'error', ...fields });
const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;

async function* batches(records: readonly StoredRecord[], failure?: Error) {
  yield records;
  if (failure !== undefined) throw failure;
}

function run(
  source: AsyncIterable<readonly StoredRecord[]>,
  more: { where?: string[]; out?: string; force?: boolean } = {},
) {
  const { where = [], out = dir, force = false } = more;
  return exportIncident(
    source,
    {
      dir: out,
      force,
      fromMs: FROM,
      toMs: TO,
      warmUpMs: 0,
      tickMs: 5_000,
      source: 'kafka',
      where,
      matches: parseWhere(where),
      measures: loadMeasures({ file: undefined, env: {} }),
      rules: [],
      parse: CONFIG.parse,
      transforms: CONFIG.transforms,
      topic: 'logs',
    },
    { masker: createMasker({ keys: ['locker'] }), history: { found: false, reason: 'none' }, gaps: () => [] },
  );
}

const logs = () =>
  gunzipSync(readFileSync(join(dir, 'logs.ndjson.gz')))
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const read = (name: string) => readFileSync(join(dir, name), 'utf8');

it('no record ends it, and what is no document is written as text and said', async () => {
  const lines = [
    event({ message: 'first' }),
    ...[6_000, 30_000].flatMap((n) => [
      event({ x: JSON.parse(deep(n)) === null ? 0 : 1 }).replace('"x":1', `"x":${deep(n)}`),
      deep(n),
    ]),
    ` ${'\t'.repeat(9)}`,
    event({ message: { toString: 1, valueOf: 1 } }),
    event({ error: { name: { toString: null } }, locker: KEYWORD }),
    event({ message: 'last' }),
  ];
  const records = [...lines.map((line, i) => record(line, i)), record(null, 99)];
  const summary = await run(batches(records));
  expect(summary.refused).toEqual({ empty_value: 1, null_value: 1 });
  expect(summary.gaps).toEqual([expect.stringMatching(/^2 records are not documents \(empty_value 1, null_value 1\)/)]);
  expect(read('README.md')).toContain('2 records are not documents');
  const written = logs();
  expect(written).toHaveLength(records.length);
  expect(summary.events).toBe(records.length - 2);
  expect(written.map(({ message }) => message)).toEqual(expect.arrayContaining(['first', 'last']));
  expect(written.at(-1)).toMatchObject({ kafka: { offset: 99 }, refused: { reason: 'null_value' }, message: null });
  expect(JSON.stringify(written)).not.toContain(KEYWORD);
  expect(readdirSync(dir).sort()).toEqual(summary.files);
});

it('numbers stand in it as they were logged, also beside what is masked', async () => {
  const numbers = '"big":9007199254740993,"list":[1.50,{"far":1e400}],"zero":-0';
  const line = (more: object) => event({ message: 'a', ...more }).replace(/\}$/, `,"extra":{${numbers}}}`);
  await run(batches([record(line({})), record(line({ locker: KEYWORD }), 1)]));
  const written = gunzipSync(readFileSync(join(dir, 'logs.ndjson.gz')))
    .toString()
    .trimEnd()
    .split('\n');
  expect(written).toHaveLength(2);
  for (const text of written) expect(text).toContain(`"extra":{${numbers}}`);
  expect(written.join()).not.toContain(KEYWORD);
  // And are found as they were logged, not as the number next to them.
  const found = async (where: string) =>
    (await run(batches([record(line({}))]), { where: [where], force: true })).events;
  for (const where of ['extra.big=9007199254740993', 'extra.list=1.5', 'extra.list=1.50', 'extra.list~1e400']) {
    expect(await found(where), where).toBe(1);
  }
  expect(await found('extra.big=9007199254740992')).toBe(0);
});

it('with conditions, what has no fields is left out, which is said', async () => {
  const summary = await run(batches([record(event({ message: 'a' })), record(null)]), { where: ['message=a'] });
  expect(logs()).toHaveLength(1);
  expect(summary.gaps.join()).toContain('1 record is not a document (null_value 1)');
});

it('a level, a release or an error called `other` is its own; what did not fit is said apart', async () => {
  const lines = [
    JSON.stringify({ timestamp: '2026-01-05T10:00:01.000Z', message: 'no level at all' }),
    event({ level: 'other', message: 'of that level' }),
    ...Array.from({ length: 19 }, (_, i) =>
      event({ level: `strange${'abcdefghijklmnopqrs'[i]}`, message: 'of many levels' }),
    ),
    event({ level: 'strangez', message: 'no level beyond twenty' }),
    ...Array.from({ length: 201 }, (_, i) => event({ level: 'other', version: `v${i}` })),
    ...[1, 2].map(() => event({ level: 'error', message: 'other' })),
    ...Array.from({ length: 5_002 }, (_, i) => {
      const word = [...String(i)].map((digit) => 'abcdefghij'[Number(digit)]).join('');
      return event({ level: 'fatal', message: `${word} is broken` });
    }),
  ];
  await run(batches(lines.map((line, i) => record(line, i))));
  const text = read('README.md');
  const errors = read('errors.csv')
    .split('\n')
    .filter((row) => /^"?2"?,"?other"?,/.test(row));
  expect(errors).toHaveLength(1);
  expect(text).toContain('1 event of further releases.');
  expect(text).toMatch(/\d+ more errors are not listed/);
  expect(text).toMatch(/\| Events \| \d+ \(.*; \d+ of further levels, 1 without a level\) \|/);
});

it('one that fails leaves no file that looks whole', async () => {
  await expect(run(batches([record(event({ message: 'a' }))], new Error('the log is gone')))).rejects.toThrow(
    'the log is gone',
  );
  expect(readdirSync(dir)).toEqual([]);
});

it('what was there stays until the new file is whole', async () => {
  writeFileSync(join(dir, 'logs.ndjson.gz'), 'the old one');
  await expect(run(batches([], new Error('gone')), { force: true })).rejects.toThrow('gone');
  expect(read('logs.ndjson.gz')).toBe('the old one');
  await run(batches([record(event({ message: 'a' }))]), { force: true });
  expect(logs()).toHaveLength(1);
});

it('is for this user alone', async () => {
  const out = join(dir, 'new');
  const { files } = await run(batches([record(event({ message: 'a' }))]), { out });
  expect(statSync(out).mode & 0o777).toBe(0o700);
  for (const name of files) expect(statSync(join(out, name)).mode & 0o777, name).toBe(0o600);
});

describe('a log text', () => {
  const EVIL = [
    '<script>alert(1)</script>',
    '[click](https://evil.example)',
    '![x](http://evil.example/x.png)',
    'a|b\\|c',
    '`code` **bold** _it_ ~~s~~ $m$',
    '# head',
    '](x)',
    'https://evil.example www.evil.example',
    '&lt;b&gt;',
    'one\n\n## two\n| three |',
    '\u001b[31mred\u202e\u2028',
  ];

  it('is rendered as no markup in the README', async () => {
    await run(
      batches(
        EVIL.map((message, i) => record(event({ message, version: message, service: message, eventId: message }), i)),
      ),
    );
    const text = read('README.md');
    const lines = text.split('\n');
    const rows = lines.slice(lines.indexOf('## Releases seen'), lines.indexOf('## Cause, and what is to be done'));
    expect(rows.length).toBeGreaterThan(15);
    const body = rows.join('\n');
    for (const markup of [
      '<',
      '>',
      '](',
      '![',
      'https://',
      'www.',
      '**',
      '~~',
      '\u001b',
      '\u202e',
      '\u2028',
      '## two',
    ]) {
      expect(body.replaceAll(/\\./g, '··'), markup).not.toContain(markup);
    }
    // Every bracket, bar and sign that would mean something has its backslash, and rows have as many cells as their head.
    expect(body.replaceAll(/\\./g, '')).not.toMatch(/[`*_[\]$~]/);
    const cells = (row: string) => row.replaceAll(/\\./g, '').split('|').length;
    for (const row of rows.filter((line) => line.startsWith('|'))) expect([6, 7]).toContain(cells(row));
    expect(body).toContain('&lt;script&gt;alert\\(1\\)&lt;/script&gt;');
  });

  test.each([
    ['=1+1', "'=1+1"],
    ['+1+1', "'+1+1"],
    ['-2+3+cmd', "'-2+3+cmd"],
    ['-12.5', '-12.5'],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['\t=1', "'\\t=1"],
    ['\r=1', "'\\r=1"],
    ['  =1', "'  =1"],
    ['\uff1d1', "'\uff1d1"],
    ['a\r\nb', 'a\\r\\nb'],
    ['plain text', 'plain text'],
    ['\u001b[2J\u202e', '\\u001b[2J\\u202e'],
  ])('%j is %j in a CSV cell', (text, shown) => {
    const line = csvLine([text, 'b']);
    expect(line.replaceAll('"', '')).toBe(`${shown},b\n`);
    expect(line.split('\n')).toHaveLength(2);
  });

  it('with quotes and separators stays one cell', () => {
    expect(csvLine(['a"b,c;d', 'e'])).toBe('"a""b,c;d",e\n');
  });
});
