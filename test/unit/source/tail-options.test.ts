// What `logpipe tail` understands on its command line.
import { expect, it } from 'vitest';
import { parseSince } from '../../../src/cli/tail.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { oneLine } from '../../../src/core/safe-json.ts';
import { parseCondition } from '../../../src/replay/sources.ts';

const document = {
  level: 'error',
  call: { status: 'failed', attempt: 2 },
  'http.status': '503',
  tags: ['error', '_masked'],
  message: 'Provider Timeout after 3s',
  nothing: null,
};

it.each([
  ['level=error', true],
  ['level = error ', true],
  ['level=err', false],
  ['level!=error', false],
  ['callId!=x', true],
  ['callId=x', false],
  ['call.status=failed', true],
  ['call.attempt=2', true],
  ['http.status=503', true],
  ['tags=error', true],
  ['tags!=error', false],
  ['tags=other', false],
  ['message~timeout', true],
  ['message~time=out', false],
  ['call~"status":"failed"', true],
  ['nothing=null', false],
  ['constructor~function', false],
])('%s is %s', (text, expected) => {
  expect(parseCondition(text)(document)).toBe(expected);
});

it('refuses other conditions and other times, naming them', () => {
  for (const text of ['level', '=error', '', 'a b=c']) {
    expect(() => parseCondition(text)).toThrow(LogpipeError);
  }
  expect(() => parseCondition('level')).toThrow('"level" is not path=value');
  for (const text of ['10m', 'yesterday', '-10', '2026-13-01', '5'])
    expect(() => parseSince(text, 0)).toThrow('--since');
});

it('reads times relative to now and absolute ones', () => {
  const now = Date.parse('2026-03-01T12:00:00Z');
  expect(parseSince('-90s', now)).toBe(now - 90_000);
  expect(parseSince('-10m', now)).toBe(now - 600_000);
  expect(parseSince('-2h', now)).toBe(now - 7_200_000);
  expect(parseSince('-1d', now)).toBe(now - 86_400_000);
  expect(parseSince('2026-02-28T00:00:00Z', now)).toBe(Date.parse('2026-02-28T00:00:00Z'));
});

it('keeps a record from moving the cursor', () => {
  expect(oneLine('a\u001b[2Jb\r\nc\u202ed')).toBe('a\\u001b[2Jb\\r\\nc\\u202ed');
  expect(oneLine('abcdef', 4)).toBe('abc…');
});
