// `logpipe trace` of files: what is odd is said, and nobody's text works on the terminal.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type TraceOptions, trace } from '../../../src/cli/trace.ts';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';

const WORKS = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/;

function files(lines: readonly object[]) {
  const dir = mkdtempSync(join(tmpdir(), 'logpipe-trace-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'app.log');
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return { dir, file };
}

async function run(id: string, named: readonly string[], options: TraceOptions = {}, yaml = '') {
  const out: string[] = [];
  const err: string[] = [];
  const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
  const config = parseConfig(yaml, {}, 'test');
  const status = await trace(id, named, config, options, io, { log: silentLog });
  return { status, out, err };
}

const line = (second: number, fields: object) => ({
  timestamp: new Date(Date.UTC(2026, 0, 5, 10, 0, second)).toISOString(),
  level: 'info',
  message: `at ${second}`,
  ...fields,
});

test('any of the three ids; a call without an end, and one with two', async () => {
  const { file } = files([
    line(0, { callId: 'CA1', event: 'call.started' }),
    line(1, { requestId: 'CA1' }),
    line(2, { traceId: 'CA1', callId: 'CA2' }),
    line(3, { userId: 'CA1', message: 'about CA1' }),
  ]);
  const { status, out } = await run('CA1', [file], { json: true });
  expect(status).toBe(0);
  expect(JSON.parse(out.join('\n'))).toMatchObject({
    fields: ['callId', 'requestId', 'traceId'],
    source: 'file',
    notes: ['there is no call.ended: the call goes on, or its event was lost'],
    related: { callId: ['CA2'] },
    events: [{ message: 'at 0' }, { message: 'at 1' }, { message: 'at 2' }],
  });
  const ended = line(9, { callId: 'CA1', event: 'call.ended' });
  const twice = await run('CA1', [files([ended, ended]).file], { json: true });
  expect(JSON.parse(twice.out.join('\n')).notes).toEqual([
    'there is no call.started: it began earlier than what was read, or its event was lost',
    'there are 2 call.ended: each is counted as a call',
  ]);
});

test('hostile texts are harmless, and secrets do not show, in the id of another line either', async () => {
  const works = '\u001b[2J\u202e';
  const { file } = files([
    line(0, {
      callId: 'CA"\\ü',
      message: `${works} password=hunter2secret`,
      service: works,
      host: works,
      event: works,
    }),
    line(90, { callId: 'CA"\\ü', message: 'late', requestId: works, error: { message: works } }),
  ]);
  const { out, err, status } = await run('CA"\\ü', [file], { gap: '10s' });
  expect(status).toBe(0);
  expect(out).toHaveLength(5);
  for (const text of [...out, ...err]) expect(text).not.toMatch(WORKS);
  expect(out.join('\n')).not.toContain('hunter2secret');
  expect(out[2]).toContain('nothing for 90 s');
});

test('what the NDJSON sink wrote, where there is neither server; and what is wrong is said', async () => {
  const { dir } = files([]);
  const embedded = `source: stdin\nsinks: { elasticsearch: false, ndjson: { enabled: true, dir: '${dir}' } }\n`;
  await expect(run('CA1', [], {}, embedded)).rejects.toThrow(/no files of the NDJSON sink/);
  writeFileSync(
    join(dir, 'calling-platform-2026.01.05.ndjson'),
    `${JSON.stringify({ ...line(0, { callId: 'CA1' }), '@timestamp': '2026-01-05T10:00:00Z' })}\n`,
  );
  expect(await run('CA1', [], {}, embedded)).toMatchObject({
    status: 0,
    out: [expect.stringContaining('1 event'), expect.stringContaining('at 0')],
  });
  await expect(run('', [])).rejects.toThrow(/the id is empty/);
  await expect(run('a\nb', [])).rejects.toThrow(/the id is empty/);
  await expect(run('CA1', [], { source: 'dlq' })).rejects.toThrow(/--source/);
  await expect(run('CA1', [], { limit: 0 })).rejects.toThrow(/--limit/);
});
