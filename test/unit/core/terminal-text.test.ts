// Somebody else's text on a terminal, and somebody else's values as JSON.
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  bounded,
  oneLine,
  TOO_DEEP,
  toJson,
  toPrettyJson,
  visible,
  visibleJson,
  visibleLines,
} from '../../../src/core/safe-json.ts';

/** What a terminal acts upon or nobody sees. */
const WORKS = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/u;

describe('visible', () => {
  test.each([
    ['ESC of a colour', '\u001b[31mred', '\\u001b[31mred'],
    ['an OSC title', '\u001b]0;x\u0007', '\\u001b]0;x\\u0007'],
    ['C1', '\u009b2J', '\\u009b2J'],
    ['lines', 'a\r\nb\tc', 'a\\r\\nb\\tc'],
    ['separators', 'a\u2028b\u2029c', 'a\\u2028b\\u2029c'],
    ['direction', 'a\u202eb\u2066c\u200fd\u061ce', 'a\\u202eb\\u2066c\\u200fd\\u061ce'],
    ['without width', 'pass\u200bword\ufeff', 'pass\\u200bword\\ufeff'],
    ['a tag outside of the first plane', 'a\u{e0041}b', 'a\\udb40\\udc41b'],
    ['half a pair', 'a\ud83db', 'a\\ud83db'],
    ['what is fine', 'äöü 漢字 😀 → "x" \\n', 'äöü 漢字 😀 → "x" \\n'],
  ])('%s', (_, text, shown) => {
    expect(visible(text)).toBe(shown);
  });

  it('leaves nothing in any text that works, and lines where they are meant', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(visible(text)).not.toMatch(WORKS);
        expect(oneLine(text, 20)).not.toMatch(WORKS);
        expect(visibleLines(text).replace(/[\n\t]/g, '')).not.toMatch(WORKS);
        const json = visibleJson(JSON.stringify({ [text]: text }));
        expect(json).not.toMatch(WORKS);
        expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify({ [text]: text })));
      }),
    );
  });

  it('cuts what is long, and says so', () => {
    expect(oneLine('abcdef', 4)).toBe('abc…');
    expect(oneLine('abcd', 4)).toBe('abcd');
    expect(oneLine('ab😀def', 4)).toBe('ab…');
  });
});

function nested(levels: number, key?: string): unknown {
  let value: unknown = 1;
  for (let i = 0; i < levels; i++) value = key === undefined ? [value] : { [key]: value };
  return value;
}

describe('JSON of any value', () => {
  test.each([undefined, 'a'])('at any depth it is complete (key %s)', (key) => {
    const text = toJson({ x: nested(100_000, key), last: true });
    expect(text.startsWith(key === undefined ? '{"x":[[' : '{"x":{"a":{"a":')).toBe(true);
    expect(text.endsWith('},"last":true}') || text.endsWith('],"last":true}')).toBe(true);
    expect(toJson(JSON.parse(text))).toBe(text);
  });

  it('is what JSON.stringify gives, for what both can write', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        // The deep part makes the slow way be taken.
        const text = toJson([value, nested(9_000)]);
        expect(text.startsWith(`[${JSON.stringify(value)},[[`)).toBe(true);
      }),
      { numRuns: 15 },
    );
  });

  it('names what cannot be written', () => {
    const loop: Record<string, unknown> = { big: 10n, none: undefined };
    loop.self = loop;
    Object.defineProperty(loop, 'broken', {
      enumerable: true,
      get() {
        throw new Error('no');
      },
    });
    expect(toJson(loop)).toBe('{"big":"10","self":"[circular]","broken":"[unreadable]"}');
  });

  it('for people it is cut, and the cut is named', () => {
    const text = toPrettyJson({ x: nested(6_000, 'a') });
    expect(text).toContain(TOO_DEEP);
    expect(text.length).toBeLessThan(20_000);
    const value = { a: [1, { b: 2 }] };
    expect(bounded(value)).toBe(value);
  });
});
