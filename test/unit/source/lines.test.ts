// Lines and offsets do not depend on the pieces the bytes come in.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { RawRecord } from '../../../src/core/record.ts';
import { createLineSplitter } from '../../../src/source/lines.ts';
import { GROWTH_LIMIT, growth } from '../../kit/growth.ts';

function split(bytes: Buffer, cuts: readonly number[], maxLineBytes = 1_000, offset = 0) {
  const long: number[] = [];
  const splitter = createLineSplitter({ offset, maxLineBytes, onCut: (length) => long.push(length) });
  const records: RawRecord[] = [];
  let from = 0;
  for (const to of [...new Set([...cuts, bytes.length])].sort((a, b) => a - b)) {
    records.push(...splitter.push(bytes.subarray(from, to), 5));
    from = to;
  }
  const position = splitter.position;
  records.push(...splitter.flush(5));
  return {
    lines: records.map(({ value, offset: at }) => [at, value!.toString('latin1')]),
    position,
    long,
    end: splitter.position,
  };
}

it('gives each line its offset, drops line ends and blank lines, and holds back the last line', () => {
  const result = split(Buffer.from('{"a":1}\r\n\n\r\n{"b":2}\nrest'), [], 1_000, 100);
  expect(result.lines).toEqual([
    [100, '{"a":1}'],
    [112, '{"b":2}'],
    [120, 'rest'],
  ]);
  expect(result.position).toBe(120);
  expect(result.end).toBe(124);
});

it('takes a line of white space for none, and NULs for a hole that ends a line; a single one belongs to its line', () => {
  const holes: number[] = [];
  const splitter = createLineSplitter({
    offset: 10,
    maxLineBytes: 1_000,
    onCut() {},
    onHole: (bytes) => holes.push(bytes),
  });
  const bytes = Buffer.from(` \t \n\0\0\0{"a":1}\nhalf\0\0\0\0{"b":2}\nu\0t\0f\n${'\0'.repeat(5)}`);
  const records = [...splitter.push(bytes, 5), ...splitter.flush(5)];
  expect(records.map(({ value, offset }) => [offset, String(value)])).toEqual([
    [17, '{"a":1}'],
    [25, 'half'],
    [33, '{"b":2}'],
    [41, 'u\0t\0f'],
  ]);
  expect(holes).toEqual([3, 4, 5]);
  expect(splitter.position).toBe(10 + bytes.length);
});

it('cuts at the end of a character', () => {
  const lines = ['x€€€', '€€€', '😀😀😀', 'üüüüü', 'x'.repeat(12)].map((line) =>
    split(Buffer.from(`${line}\n`), [2], 8),
  );
  expect(lines.map(({ lines: [line] }) => Buffer.from(line![1] as string, 'latin1').toString())).toEqual([
    'x€€',
    '€€',
    '😀😀',
    'üüüü',
    'x'.repeat(8),
  ]);
});

it.each([
  ['64 kB', 65_536],
  ['100 bytes', 100],
  ['single bytes', 1],
])('takes time that grows with the length of a line, in pieces of %s', (_, pieceBytes) => {
  const cost = growth(pieceBytes === 1 ? 40_000 : 250_000, (length) => {
    const bytes = Buffer.alloc(length, 'x');
    const splitter = createLineSplitter({ offset: 0, maxLineBytes: length, onCut() {} });
    for (let at = 0; at < length; at += pieceBytes) splitter.push(bytes.subarray(at, at + pieceBytes), 5);
    const [line] = splitter.push(Buffer.from('\n'), 5);
    expect(line!.value!.length).toBe(length);
  });
  expect(cost).toBeLessThan(GROWTH_LIMIT);
});

it('cuts over-long lines and says how long they were', () => {
  const result = split(Buffer.from(`${'x'.repeat(25)}\nshort\n${'y'.repeat(10)}\n`), [3, 11, 24], 10);
  expect(result.lines).toEqual([
    [0, 'x'.repeat(10)],
    [26, 'short'],
    [32, 'y'.repeat(10)],
  ]);
  expect(result.long).toEqual([25]);
});

it('is the same in any pieces', () => {
  const text = fc.array(fc.constantFrom('a', 'bc', '\n', '\r\n', '{"k":"ü"}', 'z'.repeat(30), '\0', '\0\0', ' ', '€'), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(text, fc.array(fc.nat(300), { maxLength: 12 }), fc.integer({ min: 5, max: 40 }), (parts, cuts, max) => {
      const bytes = Buffer.from(parts.join(''));
      const whole = split(bytes, [], max);
      const pieces = split(
        bytes,
        cuts.filter((cut) => cut < bytes.length),
        max,
      );
      expect(pieces).toEqual(whole);
      expect(whole.end).toBe(bytes.length);
    }),
    { numRuns: 500 },
  );
});
