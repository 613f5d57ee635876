// json.ts against JSON.parse and JSON.stringify, which it must agree with wherever they lose nothing.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  documentText,
  ExactNumber,
  mayRepeatKey,
  readJson,
  readObject,
  tooDeep,
  toPlainNumbers,
  writeJson,
} from '../../../src/parse/json.ts';

/** JSON text with blanks, escapes and every form of number. */
const number = fc
  .tuple(
    fc.constantFrom('', '-'),
    fc.oneof(
      fc.constant('0'),
      fc.bigInt({ min: 1n, max: 10n ** 25n }).map(String),
      fc.nat(99).map((n) => String(n + 1)),
    ),
    fc.constantFrom('', '', '.0', '.5', '.10', '.12345678901234567890'),
    fc.constantFrom('', '', '', 'e3', 'E+400', 'e-7'),
  )
  .map((parts) => parts.join(''));
const blank = fc.constantFrom('', '', ' ', '\n\t ');
const text = fc
  .oneof(fc.string({ unit: 'binary' }), fc.constantFrom('a":', '\\', '"', '{"a":1e400}', '\\"', ' : '))
  .map((s) => JSON.stringify(s));
const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4 },
    number,
    text,
    fc.constantFrom('true', 'false', 'null', '[]', '{}', '{ }'),
    fc.tuple(blank, fc.array(fc.tuple(blank, tie('json'), blank).map((p) => p.join('')))).map(([b, l]) => `[${b}${l}]`),
    fc
      .uniqueArray(fc.tuple(text, blank, tie('json'), blank), { selector: ([key]) => key, maxLength: 6 })
      .map(
        (members) => `{${members.map(([key, before, value, after]) => `${key}${before}:${before}${value}${after}`)}}`,
      ),
  ),
}));

/** ExactNumbers as JSON.parse has them. */
function plain(value: unknown): unknown {
  if (value instanceof ExactNumber) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, plain(inner)] as const);
  const copy = {};
  for (const [key, inner] of entries) Object.defineProperty(copy, key, { value: inner, enumerable: true });
  return copy;
}

describe('reading', () => {
  it('agrees with JSON.parse on every value', () => {
    fc.assert(
      fc.property(json, (source) => {
        const { value, repeated } = readJson(source);
        expect(plain(value)).toEqual(JSON.parse(source));
        expect(repeated).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });

  it('keeps the text of every number, whatever JavaScript makes of it', () => {
    fc.assert(
      fc.property(fc.array(number, { minLength: 1 }), (numbers) => {
        const source = `{"list":[${numbers}],"inside":{"n":${numbers[0]}}}`;
        const doc = readJson(source).value as Record<string, unknown>;
        toPlainNumbers(doc);
        expect(JSON.stringify(doc)).toBe(JSON.stringify(JSON.parse(source)));
        expect(documentText({ ...doc })).toBe(source);
      }),
    );
  });

  it('is used for every number that would be written as another value, and for few others', () => {
    for (const token of [
      '9007199254740993',
      '-1234567890123456789',
      '1e400',
      '-0',
      '-0.0',
      '1E3',
      '0.1000000000000000055',
    ]) {
      for (const around of [`{"a":${token}}`, `{"a": [1,\n${token}]}`]) {
        expect(readObject(around)?.exact, around).toBe(true);
      }
    }
    const usual =
      '{"a":1795875761607,"b":-12.5,"id":"5b8e1f0912345678901234567890","t":"2026-11-28T14:22:41.607123456Z"}';
    expect(readObject(usual)?.exact).toBe(false);
  });

  it('tells a key given twice, with the value that lost its place', () => {
    expect(readObject('{"a":1,"b":{"c":[{"d":"x","d":"y"}]},"a":2}')).toMatchObject({
      value: { a: 2, b: { c: [{ d: 'y' }] } },
      repeated: [
        ['b.c.d', 'x'],
        ['a', 1],
      ],
    });
    fc.assert(
      fc.property(text, json, json, blank, (key, first, second, space) => {
        const source = `{${key}${space}:${first},${key}:${second}}`;
        expect(mayRepeatKey(source, JSON.parse(source))).toBe(true);
        expect(readObject(source)?.repeated.length).toBeGreaterThan(0);
      }),
    );
  });
});

describe('writing', () => {
  it('agrees with JSON.stringify, and keeps the sign of -0', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
        expect(JSON.parse(writeJson(value))).toEqual(value);
        const text = JSON.stringify(value);
        expect(writeJson(JSON.parse(text))).toBe(text);
        expect(documentText({ a: JSON.parse(text) })).toBe(`{"a":${text}}`);
      }),
    );
  });

  it('replaces a lone surrogate, and not the text that spells one', () => {
    expect(documentText({ a: '\ud83d', b: '\\ud83d', c: '😀\\ud83d', '\udc00': 1 })).toBe(
      '{"a":"\ufffd","b":"\\\\ud83d","c":"😀\\\\ud83d","\ufffd":1}',
    );
  });

  it('stops at its limit', () => {
    const wide = Array.from({ length: 100_000 }, () => 'x');
    expect(writeJson(wide, 100).length).toBeLessThan(120);
    expect(writeJson({ a: 'x'.repeat(1_000_000) }, 100).length).toBeLessThan(120);
  });
});

describe('nesting', () => {
  const nested = (depth: number, [open, close]: [string, string]) => open.repeat(depth) + close.repeat(depth);

  it.each<[string, [string, string]]>([
    ['lists', ['[', ']']],
    ['objects', ['{"a":', '}']],
  ])('of %s costs no stack', (_, brackets) => {
    const depth = 200_000;
    const source = nested(depth, brackets).replace('":}', '":1}');
    const { value } = readJson(source);
    expect(writeJson(value)).toBe(source);
    expect(tooDeep(value)).toBe(true);
  });

  it('is measured exactly', () => {
    for (const limit of [1, 2, 16]) {
      const value = (depth: number) => JSON.parse(nested(depth, ['[', ']'])) as unknown;
      expect(tooDeep(value(limit), limit)).toBe(false);
      expect(tooDeep(value(limit + 1), limit)).toBe(true);
    }
  });
});
