// What the commands print of records: every one of them, masked by the configured keys, and nothing that works on the terminal.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test } from 'vitest';
import { parse } from '../../../src/cli/parse.ts';
import { parseConfig } from '../../../src/config.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { shownText } from '../../../src/replay/record-document.ts';
import { parseCondition } from '../../../src/replay/sources.ts';

const folder = mkdtempSync(join(tmpdir(), 'logpipe-records-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const CONFIG = parseConfig("mask: { keys: [locker], patterns: ['ZZ-[0-9]{4}'] }", {}, 'test.yml');
const WORKS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e]/;

async function printed(lines: readonly (string | Buffer)[], json: boolean) {
  const file = join(folder, 'lines');
  writeFileSync(file, Buffer.concat(lines.flatMap((line) => [Buffer.from(line as string), Buffer.from('\n')])));
  const out: string[] = [];
  const status = await parse([file], CONFIG, { json }, { out: (line) => out.push(line), err: () => {} });
  return { status, out };
}

const nested = (open: string, close: string, levels: number) => `${open.repeat(levels)}1${close.repeat(levels)}`;
const HOSTILE = [
  '{"timestamp":"2026-01-05T10:00:00.000Z","level":"info","message":"first"}',
  ...[6_000, 60_000].flatMap((n) => [
    `{"level":"error","x":${nested('[', ']', n)}}`,
    `{"level":"info","error":{"x":${nested('{"a":', '}', n)}}}`,
    nested('[', ']', n),
    nested('{"a":', '}', n),
  ]),
  '{"message":{"toString":1},"__proto__":{"x":1},"constructor":1}',
  '{"message":"\u001b[2J\u202edrow\u2028ssap\u200b"}',
  '\u001b]0;title\u0007\u009b2J plain \u202e text',
  '{"message":"last"}',
];

describe.each([true, false])('parse, as JSON: %s', (json) => {
  it('gives every line its answer', async () => {
    const { out } = await printed([...HOSTILE, Buffer.from([0xff, 0xfe, 0x41])], json);
    expect(out).toHaveLength(HOSTILE.length + 1);
    expect(out[0]).toContain('first');
    expect(out.at(-2)).toContain('last');
    expect(out.join('')).not.toMatch(WORKS);
    if (json) for (const line of out) expect(JSON.parse(line)).toHaveProperty('path');
    // Indentation of what is nested deeply would be the square of its depth.
    expect(out.join('').length).toBeLessThan(1_000_000);
  });

  it('masks by the configured keys and patterns', async () => {
    const { out } = await printed(
      ['{"message":"x","locker":"opal","note":"ZZ-1234"}', 'text ZZ-1234 locker=opal'],
      json,
    );
    expect(out.join()).not.toMatch(/opal|ZZ-1234/);
    expect(out.join().match(/\[masked\]/g)!.length).toBeGreaterThanOrEqual(4);
  });
});

test('a line separator within a record ends no line', async () => {
  const { status, out } = await printed(['{"level":"info","message":"a\u2028b\rc"}'.replace('\r', '\\r')], true);
  expect(status).toBe(0);
  expect(JSON.parse(out[0]!).document.message).toBe('a\u2028b\rc');
});

test('a file that is not there is said as such', async () => {
  const nowhere = parse([join(folder, 'nowhere')], CONFIG, { json: true }, { out: () => {}, err: () => {} });
  await expect(nowhere).rejects.toMatchObject({ code: 'LOGPIPE_SOURCE_FAILED' });
});

describe('the text of a dead letter that was kept raw', () => {
  const masker = createMasker(CONFIG.mask);
  const show = (text: string) => shownText(Buffer.from(text), masker, 200)!;

  test.each([
    ['{"locker":"opal","a":1}', '{"locker":"[masked]","a":1}'],
    ['{"l\\u006fcker":"opal"}', '{"locker":"[masked]"}'],
    ['{"a":"ZZ-1234"}', '{"a":"[masked]"}'],
    ['{"locker":"opal","cut', '{"locker":"[masked]","cut'],
    ['{"a": 1}', '{"a": 1}'],
  ])('%s', (text, shown) => {
    expect(show(text)).toBe(shown);
  });

  it('is masked before it is cut, at any depth', () => {
    expect(show(`${'x'.repeat(195)} ZZ-1234`)).not.toContain('ZZ-');
    expect(show(`{"a":${nested('[', ']', 9_000)},"locker":"opal"}`)).not.toContain('opal');
    expect(shownText(null, masker, 10)).toBeNull();
  });
});

test('a condition takes a value at any depth, and its own text in one pass', () => {
  const value = JSON.parse(nested('[', ']', 20_000)) as unknown;
  expect(parseCondition('x~[[1]]')({ x: value })).toBe(true);
  expect(parseCondition('x=2')({ x: value })).toBe(false);
  expect(parseCondition('x != a ')({ x: 'a' })).toBe(false);
  expect(() => parseCondition('a!b=c')).toThrow('--where');
  expect(() => parseCondition(`x${' '.repeat(50_000)}y`)).toThrow('--where');
});
