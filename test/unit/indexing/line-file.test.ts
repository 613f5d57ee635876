// Files of whole lines: after a kill amid a line, after a failed append, and who may read them. What dead letters and the
// NDJSON sink make of it.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type Log, silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import type { DeadLetter } from '../../../src/core/record.ts';
import { Batch } from '../../../src/indexing/batch.ts';
import { createFileDeadLetters } from '../../../src/indexing/dead-letters.ts';
import { createConsoleSink, createLineFile, createNdjsonSink, persist } from '../../../src/indexing/sinks.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'logpipe-lines-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
});

const forever = new AbortController().signal;
const modeOf = (path: string) => statSync(path).mode & 0o777;

function listening() {
  const said: string[] = [];
  const log: Log = {
    ...silentLog,
    error: (message, meta) => said.push(`${message}: ${String(meta?.error)}`),
    info: (message) => said.push(message),
  };
  return { said, log };
}

function letter(n: number): DeadLetter {
  return {
    reason: 'document_refused',
    detail: 'because',
    value: Buffer.from(`{"n":${n}}`),
    origin: { kind: 'file', path: 'app.log', identity: 'a' },
    offset: n,
    timeMs: 0,
    id: `id-${n}`,
  };
}

describe('a file of lines', () => {
  it.each([
    ['half a line', '{"a":1}\n{"b":', '{"a":1}\n{"c":3}\n'],
    ['half a line and nothing else', '{"b', '{"c":3}\n'],
    ['a line that lacks only its newline', '{"a":1}\n{"b":2}', '{"a":1}\n{"b":2}\n{"c":3}\n'],
    ['half a character', Buffer.from([0x7b, 0x22, 0xc3]), '{"c":3}\n'],
    ['nothing', '', '{"c":3}\n'],
    ['whole lines', '{"a":1}\n', '{"a":1}\n{"c":3}\n'],
    ['half a line longer than one look back', `{"a":1}\n{"b":"${'x'.repeat(200_000)}`, '{"a":1}\n{"c":3}\n'],
  ])('that ends with %s goes on with a whole line', async (_, before, after) => {
    const path = join(folder, 'lines.ndjson');
    writeFileSync(path, before);
    const file = createLineFile(path, { sync: true });
    await file.append(Buffer.from('{"c":3}\n'));
    await file.close();
    expect(readFileSync(path, 'utf8')).toBe(after);
  });

  it('cut anywhere by a kill, it keeps every whole line and never glues two', async () => {
    const lines = fc.array(fc.string({ maxLength: 20 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(lines, fc.nat(), async (texts, cut) => {
        const path = join(folder, 'cut.ndjson');
        const written = Buffer.from(texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));
        const kept = written.subarray(0, cut % (written.length + 1));
        writeFileSync(path, kept);
        const file = createLineFile(path, { sync: false });
        await file.append(Buffer.from('{"text":"last"}\n'));
        await file.close();
        const read = readFileSync(path, 'utf8')
          .trimEnd()
          .split('\n')
          .map((line) => (JSON.parse(line) as { text: string }).text);
        const whole = kept.toString().split('\n').length - 1;
        // One more when only its newline was missing.
        expect([texts.slice(0, whole), texts.slice(0, whole + 1)]).toContainEqual(read.slice(0, -1));
        expect(read.at(-1)).toBe('last');
        rmSync(path);
      }),
      { numRuns: 100 },
    );
  });

  it('is readable for its user alone, and so are the folders made for it', async () => {
    const path = join(folder, 'new', 'deeper', 'lines.ndjson');
    const file = createLineFile(path, { sync: false });
    await file.append(Buffer.from('{}\n'));
    await file.close();
    const umask = process.umask();
    expect([modeOf(path), modeOf(dirname(path)), modeOf(dirname(dirname(path)))]).toEqual(
      [0o600, 0o700, 0o700].map((mode) => mode & ~umask),
    );
  });
});

it('a failure is logged once, another one is said too, and so is its end', async () => {
  const { said, log } = listening();
  const failing: (string | undefined)[] = [];
  const errors = ['full', 'full', 'full', 'gone', 'gone'];
  const attempt = async () => {
    const error = errors.shift();
    if (error !== undefined) throw new Error(error);
  };
  const retry = { backoff: { firstMs: 1, maxMs: 1 }, onFailing: (reason?: string) => failing.push(reason) };
  await persist(attempt, { what: 'letters', path: 'p', log, signal: forever, ...retry });
  expect(said).toEqual([
    'letters cannot be written; trying until they can: full',
    'letters cannot be written; trying until they can: gone',
    'letters are written again',
  ]);
  expect(failing).toEqual(['full', 'gone', undefined]);
});

/** A device that is always full. */
const FULL = '/dev/full';

describe('letters in a file', () => {
  it('wait for a full disk, which is logged once, and each is there once when there is room', async () => {
    const { said, log } = listening();
    const metrics = createMetrics();
    const path = join(folder, 'dead.ndjson');
    symlinkSync(FULL, path);
    const sink = createFileDeadLetters({ path, log, metrics });
    const puts = [sink.put([letter(1)], forever), sink.put([letter(2), letter(3)], forever)];
    const paused = async () => (await metrics.paused.get()).values[0]?.value;
    await expect.poll(paused).toBe(1);
    rmSync(path);
    await Promise.all(puts);
    await sink.close();
    const ids = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { id: string }).id);
    expect(ids).toEqual(['id-1', 'id-2', 'id-3']);
    expect(said).toEqual([
      expect.stringMatching(/^dead letters cannot be written; trying until they can: ENOSPC/),
      'dead letters are written again',
    ]);
    expect(await paused()).toBe(0);
    expect(modeOf(path)).toBe(0o600 & ~process.umask());
  });

  it('a letter that cannot be written down is refused, and the next one is not held up', async () => {
    const path = join(folder, 'dead.ndjson');
    const sink = createFileDeadLetters({ path, log: silentLog, metrics: createMetrics() });
    const impossible = { ...letter(1), value: { toString: () => '', equals() {} } as unknown as Buffer };
    await expect(sink.put([impossible], forever)).rejects.toThrow();
    await sink.put([letter(2)], forever);
    await sink.close();
    expect(readFileSync(path, 'utf8')).toContain('id-2');
  });
});

function batchOf(items: readonly [index: string, document: string][]): Batch {
  const batch = new Batch(1_000);
  const chunk = { origin: { kind: 'file', path: 'p', identity: 'i' } as const, records: [], bytes: 0, done() {} };
  items.forEach(([index, document], offset) => {
    const action = `{"create":{"_index":"${index}","_id":"n${offset}"}}`;
    batch.add(chunk, 0, action, '{', Buffer.from(document));
  });
  return batch;
}

describe('the NDJSON sink', () => {
  const DAY = 'calling-platform-2026.11.24';
  const NEXT = 'calling-platform-2026.11.25';

  it('ends a torn line first, and keeps its files to its user', async () => {
    const dir = join(folder, 'indexed');
    mkdirSync(dir);
    writeFileSync(join(dir, `${DAY}.ndjson`), '{"n":0}\n{"n":');
    const sink = createNdjsonSink(dir, { metrics: createMetrics(), log: silentLog });
    await sink.write(
      batchOf([
        [DAY, '{"n":1}'],
        [NEXT, '{"n":2}'],
        [DAY, '{"n":3}'],
      ]),
      forever,
    );
    await sink.close();
    expect(readFileSync(join(dir, `${DAY}.ndjson`), 'utf8')).toBe('{"n":0}\n{"n":1}\n{"n":3}\n');
    expect(modeOf(join(dir, `${NEXT}.ndjson`))).toBe(0o600 & ~process.umask());
  });

  it('a disk that fills up between two days: logged once, and no document is there twice', async () => {
    const { said, log } = listening();
    symlinkSync(FULL, join(folder, `${NEXT}.ndjson`));
    const metrics = createMetrics();
    const sink = createNdjsonSink(folder, { metrics, log });
    const writing = sink.write(
      batchOf([
        [DAY, '{"n":1}'],
        [NEXT, '{"n":2}'],
      ]),
      forever,
    );
    await expect.poll(async () => (await metrics.paused.get()).values[0]?.value).toBe(1);
    expect(sink.trouble?.()).toMatch(/^ENOSPC/);
    rmSync(join(folder, `${NEXT}.ndjson`));
    await writing;
    expect(sink.trouble?.()).toBeUndefined();
    await sink.close();
    expect(readFileSync(join(folder, `${DAY}.ndjson`), 'utf8')).toBe('{"n":1}\n');
    expect(readFileSync(join(folder, `${NEXT}.ndjson`), 'utf8')).toBe('{"n":2}\n');
    expect(said).toHaveLength(2);
  });

  it('stops waiting when told to', async () => {
    const stop = new AbortController();
    const metrics = createMetrics();
    symlinkSync(FULL, join(folder, `${DAY}.ndjson`));
    const sink = createNdjsonSink(folder, { metrics, log: silentLog });
    const writing = sink.write(batchOf([[DAY, '{"n":1}']]), stop.signal);
    await expect.poll(async () => (await metrics.paused.get()).values[0]?.value).toBe(1);
    stop.abort(new Error('over'));
    await expect(writing).rejects.toThrow('over');
    await sink.close();
  });
});

/** An output that keeps what it was given. */
function keeping() {
  const out: string[] = [];
  const stream = {
    write(text: string, done: () => void) {
      out.push(text);
      done();
    },
  };
  return { out, stream };
}

it('the console shows a document of any depth', async () => {
  const { out, stream } = keeping();
  const sink = createConsoleSink('pretty', { out: stream as never, metrics: createMetrics() });
  const value = '['.repeat(20_000) + ']'.repeat(20_000);
  const deep = `{"a":${value}}`;
  await sink.write(
    batchOf([
      ['i', deep],
      ['i', '{"message":"hello"}'],
    ]),
    forever,
  );
  const [first, second] = out.join('').trimEnd().split('\n');
  expect(first!.endsWith(` a=${value}`)).toBe(true);
  expect(second).toContain('hello');
});

it('the console moves no cursor and turns no text round for what is in a document', async () => {
  const { out, stream } = keeping();
  const sink = createConsoleSink('pretty', { out: stream as never, metrics: createMetrics() });
  await sink.write(batchOf([['i', '{"message":"a\\u001b[2Jb\\u202ec\\u2066d"}']]), forever);
  expect(out.join('')).toMatch(/ a\\u001b\[2Jb\\u202ec\\u2066d\n$/);
});
