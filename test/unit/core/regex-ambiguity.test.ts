import { expect, test } from 'vitest';
import { exponentialReason } from '../../../src/core/regex-ambiguity.ts';

test.each([
  ...[
    '(a+)+$',
    '(a*)*b',
    '(a|a)*b',
    '(a|aa)+$',
    '([a-z]+)*\\d',
    '(?:\\w+\\s?)+!',
    '(.*a){20}',
    '(\\d+|[0-9a-f]+)+x',
    '((ab)*)*c',
    '(?:a?b?)*c',
  ],
  ...[
    '^(([a-z])+.)+[A-Z]([a-z])+$',
    '(x+x+)+y',
    '(?=(a+)+$)b',
    '(a{1,50}){1,50}b',
    '(?<n>[^@]+)*@',
    '(?:[\\s\\S]|\\n)*x',
    '(\\x61+)+b',
    '(?:a|\\u0061)*b',
  ],
])('%s may take exponential time', (source) => {
  expect(exponentialReason(source)).toMatch(/in more than one way|places/);
});

test.each([
  ...[
    '[A-Z0-9]+@corp',
    '\\bPAT-\\d{6}\\b',
    'a*b*c*',
    '(?:[a-z]+\\.)+com',
    '(?:\\w+-)+\\w+',
    '(a|b)*c',
    '(?:ab)+',
    '[^"]*"',
    '.*foo.*',
    '^\\s+|\\s+$',
    '(\\d{3}-){2}\\d{4}',
  ],
  ...[
    '(?:a+b)*c',
    'x{2,5}(?:y|z){3}',
    '([\'"]).*?\\1',
    '(?<!\\d)\\d{16}(?!\\d)',
    '(?:[A-Z][a-z]*)+',
    'SK[0-9a-f]{32}',
    '[\\]a-]+',
    'a|b|',
    '',
    '(?:)',
    '\\cA\\t\\0[\\b]',
    '(?:/[^/]+)*/$',
  ],
])('%s does not', (source) => {
  expect(exponentialReason(source)).toBeUndefined();
});

test('what is no regular expression is not judged', () => {
  expect(() => exponentialReason('(')).toThrow(SyntaxError);
});
