// Query lines and documents by chance, of so few words that they often meet.
import fc from 'fast-check';
import type { QueryNode } from '../../src/ops/logs/query-line.ts';

const WORDS = ['error', 'info', 'gateway', 'Timeout', 'a b', 'foo-bar', 'x1', '7'] as const;
const TEXTS = [
  'level',
  'service',
  'tags',
  'message',
  'error.message',
  'extra.region',
  'extra.deep.er',
  'pod',
  'pod.name',
] as const;
const LIKES = ['level', 'service', 'tags', 'message', 'error.message', undefined] as const;
const NUMBERS = ['http.status', 'http.durationMs', 'call.durationMs', 'pid'] as const;
const NUMBER = ['0', '7', '-1', '0.1', '7.5', '200', '40000', '-40000', '16777217'] as const;
const TIMES = ['2026-11-25T10:00:00.000Z', '2026-11-25T10:00:00.001Z', '2026-11-25T10:00:01.000Z'] as const;
const COMPARISONS = ['<', '<=', '>', '>='] as const;

export function queryNodes(): fc.Arbitrary<QueryNode> {
  const { node } = fc.letrec<{ node: QueryNode }>((tie) => ({
    node: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      leaves(),
      fc.record({
        kind: fc.constantFrom('and' as const, 'or' as const),
        parts: fc.array(tie('node'), { minLength: 2, maxLength: 3 }),
      }),
      fc.record({ kind: fc.constant('not' as const), part: tie('node') }),
    ),
  }));
  return node;
}

function leaves(): fc.Arbitrary<QueryNode> {
  return fc.oneof(
    fc.record({
      kind: fc.constant('is' as const),
      field: fc.constantFrom(...TEXTS, undefined),
      text: fc.constantFrom(...WORDS),
    }),
    fc.record({
      kind: fc.constant('is' as const),
      field: fc.constantFrom(...NUMBERS),
      text: fc.constantFrom(...NUMBER),
    }),
    fc.record({
      kind: fc.constant('like' as const),
      field: fc.constantFrom(...LIKES),
      pieces: fc.constantFrom(['err', ''], ['g', 'y'], ['Time', 't'], ['f', 'o', 'r'], ['foo-', ''], ['a ', '']),
    }),
    fc.record({
      kind: fc.constant('exists' as const),
      field: fc.constantFrom(...TEXTS, ...NUMBERS, 'callId', 'call.voicemail', 'extra'),
    }),
    fc.record({
      kind: fc.constant('range' as const),
      field: fc.constantFrom(...NUMBERS),
      comparison: fc.constantFrom(...COMPARISONS),
      text: fc.constantFrom(...NUMBER),
    }),
    fc.record({
      kind: fc.constant('range' as const),
      field: fc.constant('@timestamp'),
      comparison: fc.constantFrom(...COMPARISONS),
      text: fc.constantFrom(...TIMES),
    }),
    fc.record({
      kind: fc.constant('is' as const),
      field: fc.constant('call.voicemail'),
      text: fc.constantFrom('true', 'false'),
    }),
    fc.constant({ kind: 'all' as const }),
  );
}

/** As logpipe indexes them: of the types that the catalogue says. */
export function searchedDocuments(): fc.Arbitrary<Record<string, unknown>> {
  const text = fc.constantFrom(...WORDS);
  const texts = fc.oneof(text, fc.array(text, { maxLength: 3 }));
  const sentence = fc.array(text, { maxLength: 5 }).map((words) => words.join(' '));
  const maybe = { requiredKeys: [] };
  return fc
    .tuple(
      fc.constantFrom(...TIMES),
      fc.record(
        {
          level: text,
          service: texts,
          tags: fc.array(text, { maxLength: 3 }),
          message: sentence,
          callId: text,
          pid: fc.constantFrom(0, 7, -1, 200, 16_777_217),
          error: fc.record({ message: sentence }, maybe),
          call: fc.record({ voicemail: fc.boolean(), durationMs: fc.constantFrom(0, 7, 40_000) }, maybe),
          http: fc.record(
            { status: fc.constantFrom(0, 7, 200, -1), durationMs: fc.constantFrom(0.1, 7, 7.5, 16_777_217) },
            maybe,
          ),
          extra: fc.record({ region: text, deep: fc.record({ er: texts }, maybe) }, maybe),
          pod: fc.record({ name: text }, maybe),
        },
        maybe,
      ),
    )
    .map(([time, fields]) => ({ '@timestamp': time, ...fields }));
}
