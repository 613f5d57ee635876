// What commands print where a person reads: no line wider than the terminal, nothing in a log that works on it, and colour only where it
// is wanted; where a program reads, JSON.
import fc from 'fast-check';
import { describe, expect, it, test, vi } from 'vitest';
import {
  column,
  commandLog,
  type Io,
  type Piece,
  say,
  sayUnfolded,
  streamIo,
  widthOf,
  wrapped,
} from '../../../src/cli/io.ts';
import { withProgress } from '../../../src/cli/rules.ts';
import { setup } from '../../../src/cli/run.ts';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { visible } from '../../../src/core/safe-json.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { StoredRecord } from '../../../src/replay/stored.ts';

const ESC = '\u001b';
const HOSTILE = `${ESC}[2J${ESC}]0;title\u0007 \u202edrow\u202c a\u0000b\r\nnext \u009b31m`;

/** A terminal that keeps what is written to it. */
function screen(options: { isTTY?: boolean; columns?: number; env?: Record<string, string> } = {}) {
  const written: string[] = [];
  const out = { write: (text: string) => written.push(text), isTTY: options.isTTY, columns: options.columns };
  return { io: streamIo(out, out, options.env ?? {}), written, text: () => written.join('') };
}

const textOf = (lines: readonly (readonly Piece[])[]) => lines.map((line) => line.map(({ text }) => text).join(''));

describe('colour', () => {
  test.each([
    [{ isTTY: true }, true],
    [{ isTTY: false }, false],
    [{ isTTY: true, env: { NO_COLOR: '1' } }, false],
    [{ isTTY: true, env: { NO_COLOR: '' } }, true],
    [{ isTTY: true, env: { TERM: 'dumb' } }, false],
    [{ isTTY: true, env: { FORCE_COLOR: '0' } }, false],
    [{ isTTY: false, env: { FORCE_COLOR: '1' } }, true],
    [{ isTTY: false, env: { FORCE_COLOR: '1', NO_COLOR: '1' } }, true],
  ])('of %j: %s', (options, coloured) => {
    const { io, text } = screen(options);
    say(io, [{ text: 'plain ' }, { text: 'red', style: 'red' }]);
    expect(text()).toBe(coloured ? `plain ${ESC}[31mred${ESC}[0m\n` : 'plain red\n');
  });

  it('is the only thing that works on the terminal', () => {
    const { io, text } = screen({ isTTY: true, columns: 80 });
    say(io, [{ text: HOSTILE, style: 'yellow' }]);
    io.paint!([{ text: HOSTILE }]);
    sayUnfolded(io, `at a\n${HOSTILE}`, 4);
    expect(text().replaceAll(/\u001b\[(0|2|33)m/g, '')).not.toMatch(
      /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/,
    );
    expect(text()).toContain('\\u001b[2J');
  });
});

describe('width', () => {
  it('counts cells, not characters', () => {
    expect(widthOf('plain')).toBe(5);
    expect(widthOf('電話 e\u0301 🚨')).toBe(9);
    expect(column('電話がつながらない', 9)).toBe('電話がつ…');
    expect(widthOf(column('電話', 9))).toBe(9);
  });

  it('is kept by every line, whatever the text, and nothing of it is lost', () => {
    const word = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 60 }),
      fc.constantFrom('電話', 'a'.repeat(300), ' ', HOSTILE),
    );
    const pieces = fc.array(fc.record({ text: fc.array(word, { maxLength: 8 }).map((words) => words.join(' ')) }));
    fc.assert(
      fc.property(pieces, fc.integer({ min: 24, max: 120 }), fc.integer({ min: 0, max: 4 }), (given, width, indent) => {
        const lines = textOf(wrapped(given, width, indent));
        for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(width);
        const bare = (text: string) => text.replaceAll(' ', '');
        expect(bare(lines.join(''))).toBe(bare(visible(given.map(({ text }) => text).join(''))));
        for (const line of lines.slice(1)) expect(line.startsWith(' '.repeat(indent))).toBe(true);
      }),
    );
  });

  it('breaks between words, keeps styles, and does nothing in a pipe', () => {
    const line: Piece[] = [{ text: 'the quick brown ' }, { text: 'fox jumps over', style: 'red' }];
    expect(textOf(wrapped(line, 24, 2))).toEqual(['the quick brown fox', '  jumps over']);
    expect(wrapped(line, 24, 2)[1]).toEqual([{ text: '  ' }, { text: 'jumps over', style: 'red' }]);
    expect(textOf(wrapped(line, undefined, 2))).toEqual(['the quick brown fox jumps over']);
  });

  it('takes time in proportion to the text', () => {
    const lines = wrapped([{ text: 'x'.repeat(300_000) }, { text: ' y'.repeat(100_000) }], 80, 4);
    expect(lines.length).toBeGreaterThan(6_000);
  });
});

test('what answers people on a terminal answers programs with JSON, and --json and --no-json overrule both', async () => {
  const config = parseConfig('{ source: files, sinks: { elasticsearch: false } }', {}, 'test.yml');
  const answer = async (isTTY: boolean, json?: boolean) => {
    const out: string[] = [];
    const io: Io = { out: (line) => out.push(line), err: () => {}, isTTY };
    await setup(config, json === undefined ? {} : { json }, io, silentLog);
    return out.join();
  };
  expect(JSON.parse(await answer(false))).toEqual({});
  expect(await answer(true)).toContain('nothing to set up');
  expect(JSON.parse(await answer(true, true))).toEqual({});
  expect(await answer(false, false)).toContain('nothing to set up');
});

test('a command’s log leaves out what kafkajs says of each attempt, unless somebody looks for it', () => {
  const lines: string[] = [];
  // Winston writes to the console's stream, which is the test runner's here.
  const { _stderr } = console as unknown as { _stderr: NodeJS.WritableStream };
  const stderr = vi.spyOn(_stderr, 'write').mockImplementation((text) => {
    lines.push(String(text));
    return true;
  });
  try {
    const said = (kind: 'command' | 'service' | 'json', level: 'info' | 'debug', isTTY: boolean) => {
      lines.length = 0;
      const log = commandLog(kind, { level, format: 'json' }, createMasker(), isTTY);
      log.warn('Connection error: connect ECONNREFUSED', { from: 'kafkajs Connection' });
      log.warn('a warning of ours');
      return lines.join('');
    };
    expect(said('command', 'info', false)).toMatch(/^\{[^\n]*a warning of ours[^\n]*\}\n$/);
    expect(said('command', 'info', true)).toMatch(/^\S+ warn {2}a warning of ours\n$/);
    expect(said('json', 'info', true)).toMatch(/^\{[^\n]*a warning of ours[^\n]*\}\n$/);
    expect(said('command', 'debug', false)).toContain('ECONNREFUSED');
    expect(said('service', 'info', false)).toContain('ECONNREFUSED');
  } finally {
    stderr.mockRestore();
  }
});

test('on a terminal long reading says every five seconds how far it is, and hands on what it read', async () => {
  let nowMs = 0;
  const said: string[] = [];
  async function* batches(): AsyncGenerator<StoredRecord[]> {
    for (let n = 0; n < 6; n++) {
      nowMs += 2_000;
      const arrivalMs = Date.parse('2026-01-05T10:00:00Z') + n * 60_000;
      yield n === 4 ? [] : [1, 2, 3].map(() => ({ arrivalMs, partition: 0, value: null }));
    }
  }
  let records = 0;
  const io: Io = { out: () => {}, err: (line) => void said.push(line) };
  for await (const _ of withProgress(batches(), io, undefined, () => nowMs));
  expect(said).toEqual([]);
  const terminal: Io = { ...io, isTTY: true };
  for await (const batch of withProgress(batches(), terminal, undefined, () => nowMs)) records += batch.length;
  expect(records).toBe(15);
  expect(said).toEqual(['read 9 records, up to 2026-01-05T10:02:00Z', 'read 15 records, up to 2026-01-05T10:05:00Z']);

  // A program is told every second, wherever standard output goes, and how much of the stretch is read.
  said.length = 0;
  const range = { fromMs: Date.parse('2026-01-05T10:00:00Z'), toMs: Date.parse('2026-01-05T10:10:00Z') };
  for await (const _ of withProgress(batches(), io, range, () => nowMs));
  expect(said.map((line) => JSON.parse(line).share)).toEqual([0, 0.1, 0.2, 0.3, 0.5]);
  expect(JSON.parse(said.at(-1)!)).toEqual({
    ...{ type: 'progress', share: 0.5, read: 15 },
    text: 'read 15 records, up to 2026-01-05T10:05:00Z',
  });
});
