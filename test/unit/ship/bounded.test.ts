// What one record may cost on the application's turn. Judged from outside: how the time grows with the input, which is
// linear at most, and not at all where the input is beyond what a record may hold; and what is left of the record.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRecordBuilder, type Info, LEVEL } from '../../../src/ship/log-record.ts';
import { transportSettings } from '../../../src/ship/options.ts';

const MAX_BYTES = 20_000;

function builder(maxRecordBytes = MAX_BYTES) {
  return createRecordBuilder(
    transportSettings({ brokers: ['kafka:9092'], service: 'api', environment: 'test', maxRecordBytes }),
  );
}

const logged = (fields: object): Info => ({ level: 'info', [LEVEL]: 'info', message: 'm', callId: 'CA1', ...fields });
const numbered = (n: number, value: (i: number) => unknown) =>
  Object.fromEntries(Array.from({ length: n }, (_, i) => [`key${i}`, value(i)]));

/** Best of several, in ms. */
function cost(info: Info): number {
  const build = builder();
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const start = process.hrtime.bigint();
    build(info);
    best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e6);
  }
  return best;
}

/** How the time grows from n to 8n. Other programs use the machine too: looks again while it is over `limit`. */
function growth(make: (n: number) => object, n: number, limit: number): number {
  const small = logged(make(n));
  const large = logged(make(8 * n));
  cost(small);
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 8 && least >= limit; look++) {
    least = Math.min(least, cost(large) / Math.max(cost(small), 0.05));
  }
  return least;
}

const text = (length: number) => 'word '.repeat(length / 5);
const LONG = text(MAX_BYTES);

/** Twice what a record may hold and more: eight times as much costs no more than looking at it. */
test.each<[string, number, (n: number) => object]>([
  ['references to one long text', 20_000, (n) => ({ list: Array<string>(n).fill(LONG) })],
  ['the same in a Map', 20_000, (n) => ({ map: new Map(Array.from({ length: n }, (_, i) => [i, LONG])) })],
  ['the same as toJSON gives it', 20_000, (n) => ({ list: Array(n).fill({ toJSON: () => LONG }) })],
  ['the same as keys', 20_000, (n) => ({ list: Array(n).fill({ [LONG]: 1 }) })],
  ['errors with one long stack', 20_000, (n) => ({ list: Array(n).fill(withStack(LONG)) })],
  ['objects that hold each other twice', 2, (n) => ({ nested: doubled(Math.log2(n) * 4 + 12, {}) })],
  [
    'lists that hold each other twice, as message of an error',
    2,
    (n) => ({
      err: Object.assign(new Error('x'), { message: doubledList(Math.log2(n) * 2 + 14) }),
    }),
  ],
  ['elements of a list', 40_000, (n) => ({ list: Array.from({ length: n }, (_, i) => i) })],
  ['elements of a Set', 40_000, (n) => ({ set: new Set(Array.from({ length: n }, (_, i) => i)) })],
  ['bytes', 1_000_000, (n) => ({ bytes: Buffer.alloc(n), floats: new Float64Array(n / 8) })],
  ['errors held by one', 5_000, (n) => ({ err: new AggregateError(Array(n).fill(new Error('x'))) })],
  ['digits of a BigInt', 200_000, (n) => ({ big: 1n << BigInt(n * 4) })],
])('%s cost a bounded time', (_what, n, make) => {
  expect(growth(make, n, 3.5)).toBeLessThan(3.5);
});

/** Up to what a record may hold, and where the language itself reads everything (the names of an object's keys). */
test.each<[string, number, (n: number) => object]>([
  ['characters of the message', 200_000, (n) => ({ message: text(n) })],
  ['keys with short texts', 1_500, (n) => numbered(n, () => 'v'.repeat(40))],
  ['keys with texts that have to be cut', 20, (n) => numbered(n, () => text(MAX_BYTES / 4))],
  ['keys with one long text', 2_500, (n) => numbered(n, () => LONG)],
  ['keys of an object inside', 2_500, (n) => ({ inside: numbered(n, (i) => i) })],
  ['characters that JSON escapes', 20_000, (n) => ({ message: '\u0001"\\'.repeat(n) })],
  ['colours in the message', 20_000, (n) => ({ message: `\u001b[1mx${'\u001b[1m'.repeat(n)}xm` })],
  ['percent signs in the message', 20_000, (n) => ({ message: '%s %'.repeat(n), [Symbol.for('splat')]: [1, 2] })],
  ['causes', 1_000, (n) => ({ err: chained(n) })],
])('%s cost linear time at most', (_what, n, make) => {
  expect(growth(make, n, 20)).toBeLessThan(20);
});

function withStack(stack: string): Error {
  return Object.assign(new Error('x'), { stack });
}

function doubled(depth: number, inner: object): object {
  let value = inner;
  for (let i = 0; i < depth; i++) value = { a: value, b: value };
  return value;
}

function doubledList(depth: number): unknown[] {
  let value: unknown[] = [];
  for (let i = 0; i < depth; i++) value = [value, value];
  return value;
}

function chained(n: number): Error {
  let error = new Error('first');
  for (let i = 0; i < n; i++) error = new Error('next', { cause: error });
  return error;
}

test('of 300 references to one text of 1 MB some are kept, all are counted, and the call keeps its key', () => {
  const info = logged({ list: Array(300).fill('x'.repeat(1_000_000)), callId: 'CA1', event: 'e' });
  const { line, key, bytes } = builder(1_000_000)(info);
  const record = JSON.parse(line);
  expect(bytes).toBeLessThanOrEqual(1_000_000);
  expect(bytes).toBeGreaterThan(900_000);
  expect(record).toMatchObject({ message: 'm', callId: 'CA1', event: 'e', tags: ['_truncated'] });
  expect(record.originalBytes).toBeGreaterThan(299_000_000);
  expect(key).toBe('CA1');
});

test('100,000 keys: who and when survive, wherever they stand', () => {
  const { line, key } = builder(1_000_000)({ ...numbered(100_000, (i) => i), ...logged({ tenantId: 't1' }) });
  expect(JSON.parse(line)).toMatchObject({ message: 'm', callId: 'CA1', tenantId: 't1', tags: ['_truncated'] });
  expect(key).toBe('CA1');
});

test('two long texts share the room, short fields are whole, and a text is cut between words', () => {
  const fields = { message: text(60_000), err: withStack(text(60_000)), a: text(60_000), note: 'short', n: 5 };
  const record = JSON.parse(builder()(logged(fields)).line);
  expect(record).toMatchObject({ note: 'short', n: 5, callId: 'CA1' });
  for (const kept of [record.message, record.error.stack, record.a]) expect(kept.length).toBeGreaterThan(3_000);
});

test('where it stops reading a text, half a secret does not pass for a word', () => {
  // Most of the text is masked away, so that the end of what was read is in the record.
  const secret = 'password=abcdefgh '.repeat(MAX_BYTES);
  const token = `eyJ${'h'.repeat(60)}`;
  for (let shift = 0; shift < 40; shift++) {
    const message = `${secret.slice(0, MAX_BYTES - 60 + shift)}${token} and more`.padEnd(2 * MAX_BYTES, ' more');
    expect(builder()(logged({ message })).line).not.toMatch(/eyJh|=abc/);
  }
});

test('whatever is too long is one line within the limit, with its tags and its own originalBytes aside', () => {
  const long = fc.tuple(fc.string({ minLength: 1, unit: 'binary' }), fc.nat(300)).map(([part, n]) => part.repeat(n));
  const leaf = fc.oneof(fc.string({ unit: 'binary' }), long, fc.double(), fc.constant(null), fc.boolean());
  const tree = fc.letrec((tie) => ({
    node: fc.oneof(
      { depthSize: 'small' },
      leaf,
      fc.array(tie('node'), { maxLength: 8 }),
      fc.dictionary(fc.string({ maxLength: 300, unit: 'binary' }), tie('node'), { maxKeys: 8 }),
    ),
  })).node;
  const kept = fc.constantFrom('timestamp', 'service', 'tags', 'callId', 'originalBytes', 'event', 'level', 'x', 'y');
  fc.assert(
    fc.property(fc.dictionary(kept, tree), tree, fc.integer({ min: 1_000, max: 5_000 }), (fields, message, most) => {
      const info: Info = { ...fields, message, level: 'info', [LEVEL]: 'info' };
      const { line, bytes, eventId } = builder(most)(info);
      const record = JSON.parse(line);
      expect(bytes).toBe(Buffer.byteLength(line));
      expect(bytes).toBeLessThanOrEqual(most);
      expect(record).toMatchObject({ eventId, message: expect.any(String) });
      expect(line.isWellFormed()).toBe(true);
      if (JSON.stringify(info).length > most) {
        expect(record.tags).toContain('_truncated');
        expect(record.originalBytes).toBeGreaterThan(most);
      }
    }),
    { numRuns: 100, endOnFailure: true },
  );
});
