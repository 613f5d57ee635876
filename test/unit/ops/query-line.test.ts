// The query line: what it takes, what it refuses and with which words, what becomes of it, and that its two meanings say the same of
// documents written by hand; test/integration/search.test.ts compares them with a real Elasticsearch.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';
import {
  MAX_CHARACTERS,
  parseQueryLine,
  printQueryLine,
  QueryLineError,
  type QueryNode,
  quoted,
  toElasticsearch,
  toPredicate,
} from '../../../src/ops/logs/query-line.ts';
import { GROWTH_LIMIT, growth } from '../../kit/growth.ts';
import '../../kit/fixed-seed.ts';
import { queryNodes } from '../../kit/query-nodes.ts';

const NOW = Date.parse('2026-11-29T12:00:00.000Z');
const parse = (text: string) => parseQueryLine(text, NOW);
const phrase = (field: string, query: string) => ({ match_phrase: { [field]: { query } } });
const term = (field: string, value: unknown) => ({ term: { [field]: { value } } });
const any = (...should: object[]) => ({ bool: { should, minimum_should_match: 1 } });

describe('what becomes of a line', () => {
  test.each<[string, object]>([
    ['', { match_all: {} }],
    ['  * ', { match_all: {} }],
    ['level: error', term('level', 'error')],
    ['level:"error"', term('level', 'error')],
    ['callId: "CA 1"', term('callId', 'CA 1')],
    ['message: "gateway timeout"', phrase('message', 'gateway timeout')],
    ['timeout', any(phrase('message', 'timeout'), phrase('error.message', 'timeout'))],
    [
      '"a \\"quoted\\" \\\\ text"',
      any(phrase('message', 'a "quoted" \\ text'), phrase('error.message', 'a "quoted" \\ text')),
    ],
    ['callId: *', { exists: { field: 'callId' } }],
    ['service: call-*', { wildcard: { service: { value: 'call-*' } } }],
    ['service: a?\\*b*', { wildcard: { service: { value: 'a\\?\\*b*' } } }],
    ['message: Gate*', { wildcard: { message: { value: 'gate*' } } }],
    ['http.status >= 500', { range: { 'http.status': { gte: 500 } } }],
    ['http.status<99999', { range: { 'http.status': { lt: 32_769 } } }],
    ['http.status: 99999', { match_none: {} }],
    ['http.status: 200', term('http.status', 200)],
    ['call.voicemail: true', term('call.voicemail', true)],
    [
      '@timestamp >= now-2h',
      { range: { '@timestamp': { gte: '2026-11-29T10:00:00.000Z', format: 'strict_date_optional_time' } } },
    ],
    ['extra.region: eu', term('extra.region', 'eu')],
    ['shard: 5', { match: { shard: { query: '5', lenient: true } } }],
    ['tags: (error or _masked)', any(term('tags', 'error'), term('tags', '_masked'))],
    ['not level: info', { bool: { must_not: [term('level', 'info')] } }],
    ['a\\:b', any(phrase('message', 'a:b'), phrase('error.message', 'a:b'))],
    ['\\or', any(phrase('message', 'or'), phrase('error.message', 'or'))],
  ])('%s', (line, query) => {
    expect(toElasticsearch(parse(line))).toEqual(query);
  });

  test('not binds before and, and before or, in any case of letters', () => {
    expect(printQueryLine(parse('level: a OR NOT level: b AND level: c'))).toBe(
      'level: "a" or not level: "b" and level: "c"',
    );
    expect(parse('level: a or (not level: b and level: c)')).toEqual(parse('level: a or not level: b and level: c'));
    expect(parse('(level: a or level: b) and level: c')).toMatchObject({ kind: 'and' });
  });
});

describe('what is refused, and how', () => {
  test.each<[string, number, RegExp]>([
    ['connection refused', 12, /found "refused"; expected and, or, or the end; several words.* quotes/],
    ['http: 5', 1, /http is a group of fields; name one of them, like http\.method/],
    ['extraRaw: x', 1, /cannot be searched/],
    ['http.status: abc', 14, /http\.status takes a number, like 500 or 0\.5; found "abc"/],
    ['http.status: 1e999', 14, /takes a number/],
    ['http.status: 5*', 14, /is a number; wildcards are for text/],
    ['level > 5', 9, /level is a text; > is for numbers and times/],
    ['@timestamp > yesterday', 14, /is a time; found "yesterday"; expected now-2h/],
    ['@timestamp > 2026-11-25T10:00:00Z', 14, /found "2026-11-25T10"; expected .*in quotes/],
    ['call.voicemail: maybe', 17, /true or false/],
    ['a:b:c', 4, /found ":"/],
    ['*foo', 1, /wildcard at the beginning/],
    ['level: a*b*c*d*', 8, /more than 3 wildcards/],
    ['lev*: x', 1, /without quotes and wildcards/],
    ['"level": x', 1, /field's name/],
    ['_id$: x', 1, /field's name/],
    [`${'a'.repeat(129)}: x`, 1, /field's name/],
    ['(level: a', 10, /expected and, or, or the "\)" for the "\(" in column 1/],
    ['level: a)', 9, /found "\)"/],
    ['level:', 7, /found the end; expected a value for level/],
    ['level: or', 8, /found "or"/],
    ['level: (a: b)', 10, /values only/],
    ['and', 1, /expected a word/],
    ['a and', 6, /found the end/],
    ['"abc', 1, /not closed/],
    ['a\\', 2, /backslash/],
    ['{a}', 1, /quotes/],
    ['extra.a: b*', 10, /wildcards are for text/],
    [Array.from({ length: 51 }, () => 'a').join(' or '), 251, /more than 50 terms/],
    [`${'('.repeat(21)}a${')'.repeat(21)}`, 21, /more than 20 levels/],
    [`${'not '.repeat(21)}a`, 81, /more than 20 levels/],
    ['x'.repeat(MAX_CHARACTERS + 1), MAX_CHARACTERS + 1, /longer than/],
  ])('%s', (line, column, words) => {
    let thrown: unknown;
    try {
      parse(line);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(QueryLineError);
    expect((thrown as QueryLineError).message).toMatch(words);
    expect((thrown as QueryLineError).column).toBe(column);
  });
});

test('docs/api.md shows lines that are understood', () => {
  const docs = readFileSync(join(packageRoot(), 'docs/api.md'), 'utf8');
  const rows = docs.slice(docs.indexOf('### The query line')).matchAll(/^\| (`.+?`) \| .*$/gm);
  const lines = [...rows].flatMap(([, cell]) => [...cell!.matchAll(/`([^`]+)`/g)].map(([, line]) => line!));
  const shown = lines.filter((line) => !['and', 'or', 'not', '( … )'].includes(line));
  expect(shown.length).toBeGreaterThan(8);
  for (const line of shown) expect(parse(line).kind, line).not.toBe('all');
});

describe('of any text', () => {
  const scraps = fc.array(
    fc.oneof(
      fc.constantFrom(
        '(',
        ')',
        ':',
        '*',
        '"',
        '\\',
        ' and ',
        ' or ',
        ' not ',
        '>=',
        '<',
        ' ',
        'level',
        'http.status',
        '5',
        'now',
        '{',
      ),
      fc.string({ unit: 'binary', maxLength: 8 }),
    ),
    { maxLength: 60 },
  );

  test('it is a query or a QueryLineError, and what was typed is never a part of the structure', () => {
    const NAMES =
      /^(?:bool|filter|should|must_not|minimum_should_match|match_all|match_none|match_phrase|match|term|range|wildcard|exists)$/;
    const LEAVES = new Set(['match_phrase', 'match', 'term', 'range', 'wildcard']);
    const check = (query: unknown): void => {
      if (Array.isArray(query)) {
        query.forEach(check);
        return;
      }
      for (const [key, value] of Object.entries(query as object)) {
        expect(key).toMatch(NAMES);
        if (LEAVES.has(key)) {
          const [field, ...more] = Object.keys(value as object);
          expect(more).toEqual([]);
          expect(field).toMatch(/^[A-Za-z_@][\w.@-]{0,127}$/);
          for (const [option, typed] of Object.entries(Object.values(value as object)[0] as object)) {
            expect(['query', 'lenient', 'value', 'gte', 'gt', 'lte', 'lt', 'format']).toContain(option);
            expect(['string', 'number', 'boolean']).toContain(typeof typed);
          }
        } else if (key === 'exists') expect(Object.keys(value as object)).toEqual(['field']);
        else if (typeof value === 'object') check(value);
      }
    };
    fc.assert(
      fc.property(scraps, (parts) => {
        let node: QueryNode;
        try {
          node = parse(parts.join(''));
        } catch (error) {
          expect(error).toBeInstanceOf(QueryLineError);
          return;
        }
        check(toElasticsearch(node));
        toPredicate(node)({ message: 'x', level: ['a', null, { b: 1 }] });
        const printed = printQueryLine(node);
        if (printed.length <= MAX_CHARACTERS) expect(parse(printed)).toEqual(node);
      }),
      { numRuns: 2_000 },
    );
  });

  test('what is printed says the same again', () => {
    fc.assert(
      fc.property(queryNodes(), (node) => {
        const printed = printQueryLine(node);
        fc.pre(printed.length <= MAX_CHARACTERS);
        const read = parse(printed);
        expect(printQueryLine(read)).toBe(printQueryLine(parse(printQueryLine(read))));
        expect(parse(printQueryLine(read))).toEqual(read);
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        expect(parse(`error.template: ${quoted(text)}`)).toEqual({ kind: 'is', field: 'error.template', text });
      }),
    );
  });

  test.each<[string, (size: number) => string]>([
    ['brackets', (size) => '('.repeat(size)],
    ['stars', (size) => `a${'*'.repeat(size)}`],
    ['backslashes', (size) => '\\'.repeat(size)],
    ['an open quote', (size) => `"${'a\\"'.repeat(size / 3)}`],
    ['blanks', (size) => ' '.repeat(size)],
    ['not', (size) => 'not '.repeat(size / 4)],
  ])('the work grows with the length alone: %s', (_, make) => {
    const small = Math.floor(MAX_CHARACTERS / 64);
    const work = (size: number) => {
      const text = make(size);
      for (let i = 0; i < 400; i++) {
        try {
          parse(text);
        } catch {}
      }
    };
    expect(growth(small, work)).toBeLessThan(GROWTH_LIMIT);
  });

  test('a document that almost matches costs as much as its length', () => {
    const matches = toPredicate(parse('message: "a a a a a a a a b" and service: a*a*a*b'));
    const work = (size: number) =>
      matches({ message: `${'a '.repeat(size)}c`, service: 'a'.repeat(Math.min(size, 1_024)) });
    expect(growth(2_000, work)).toBeLessThan(GROWTH_LIMIT);
  });
});

describe('a document in hand', () => {
  const document = {
    '@timestamp': '2026-11-29T11:30:00.000Z',
    level: 'error',
    message: "Gateway 10.0.0.1 didn't answer: foo-bar_baz",
    tags: ['error', '_masked'],
    http: { status: 503, durationMs: 0.1 },
    'call.status': 'failed',
    error: { message: 'socket hang up' },
    extra: { a: { b: 'deep' }, 'c.d': 1 },
    shard: 5,
    name: 'five',
    long: 'x'.repeat(1_025),
    call: { voicemail: false },
  };
  test.each<[string, boolean]>([
    ['level: error', true],
    ['level: ERROR', false],
    ['level: err', false],
    ['level: err*', true],
    ['level: e*r*r', true],
    ['level: e*x*r', false],
    ['GATEWAY', true],
    ['"10.0.0.1 didn\'t"', true],
    ['message: "gateway didn\'t"', false],
    ['foo-bar_baz', true],
    ['foo', true],
    ['bar', false],
    ['hang', true],
    ['han*', true],
    ['"---"', false],
    ['tags: (error and _masked)', true],
    ['tags: (error and not _masked)', false],
    ['http.status >= 500 and http.status < 600', true],
    ['http.status: 503', true],
    ['http.durationMs <= 0.1', true],
    ['http.durationMs < 0.1', false],
    ['call.status: failed', true],
    ['call.voicemail: false', true],
    ['not callId: *', true],
    ['call.status: *', true],
    ['extra.a.b: deep', true],
    ['extra.c.d: 1', true],
    ['extra: deep', true],
    ['extra.a: deep', false],
    ['shard: 5', true],
    ['shard > 4', true],
    ['name: five', true],
    ['long: *', false],
    ['@timestamp >= now-1h', true],
    ['@timestamp < now-1h', false],
    ['*', true],
  ])('%s: %s', (line, expected) => {
    expect(toPredicate(parse(line))(document)).toBe(expected);
  });
});
