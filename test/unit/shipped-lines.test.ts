// A line that `logpipe ship` sends becomes the document that it would become without, with the input's fields where it lacks them.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { type Chunk, createEventIds, createLineIds, eventIdIn } from '../../src/core/record.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { LINE_FORMATS } from '../../src/parse/normalise.ts';
import { createParser } from '../../src/parse/parse.ts';
import { SHAPES } from '../../src/parse/shapes.ts';
import { createLineBuilder } from '../../src/shipping.ts';

const RECORD_MS = Date.parse('2026-11-28T14:23:00.000Z');
const INPUT = { files: ['/x'], service: 'edge', environment: 'test', host: 'h1' };
const masker = createMasker();
const build = createLineBuilder(INPUT, masker);
const parser = createParser(parseConfig('{}', {}, 'test').parse, { masker });
const identity = '0123456789abcdef0123';
const chunk: Chunk = { origin: { kind: 'file', path: '/x', identity }, records: [], bytes: 0, done() {} };

function ship(line: string | Buffer, offset = 0) {
  const value = Buffer.from(line);
  return build({ value, offset, timeMs: RECORD_MS, eventId: undefined }, chunk, createLineIds(identity));
}

function documentOf(value: string | Buffer, eventId?: string) {
  const result = parser.parse({ value: Buffer.from(value), offset: 0, timeMs: RECORD_MS, eventId });
  if (!result.ok) return result.reason;
  const { doc, tags, timeMs } = result.event;
  return { doc: JSON.parse(JSON.stringify(doc)), tags: [...tags].sort(), timeMs };
}

/** The document of the line alone, with the fields that it lacks. */
function expected(line: string | Buffer) {
  const bare = documentOf(line);
  if (typeof bare === 'string') return bare;
  const { service, environment, host } = INPUT;
  return { ...bare, doc: { service, environment, host, ...bare.doc } };
}

const examples = [...SHAPES, ...LINE_FORMATS].map(({ name, example }) => [name, example] as const);

test.each(examples.filter(([name]) => !name.includes('logpipe ship')))('%s', (_name, example) => {
  const { line, eventId } = ship(example);
  const own = eventIdIn(eventId);
  expect(withoutExtra(documentOf(line, own))).toEqual(withoutExtra(expected(example)));
});

/** What is set aside may be named otherwise, since the wrapper has names of its own. */
function withoutExtra(document: ReturnType<typeof documentOf>) {
  if (typeof document === 'string') return document;
  const { extra: _, ...doc } = document.doc;
  return { ...document, doc };
}

test('the bytes of a JSON line stay as they are, behind what it lacks', () => {
  expect(ship('{"level":"info","service":"own","n":1.50}').line).toBe(
    '{"environment":"test","host":"h1","level":"info","service":"own","n":1.50}',
  );
  expect(ship('{"service":"a","environment":"b","host":"c"}').line).toBe(
    '{"service":"a","environment":"b","host":"c"}',
  );
  expect(ship('{}').line).toBe('{"service":"edge","environment":"test","host":"h1"}');
});

test('a line of logpipe’s own keeps its id, and the key of its call; any other goes by its place', () => {
  const own = createEventIds(() => RECORD_MS)();
  expect(ship(`{"eventId":"${own}","callId":"CA1","message":"x"}`)).toMatchObject({ eventId: own, key: 'CA1' });
  const [first, later, far] = [ship('a', 0), ship('a', 2), ship('a', 5 * 1024 * 1024)];
  expect(eventIdIn(first.eventId)).toBeUndefined();
  expect(first.key).toBe(later.key);
  expect(first.key).not.toBe(far.key);
  // Only the top level counts: what somebody logged is no id.
  expect(eventIdIn(ship(`{"message":"{\\"eventId\\":\\"${own}\\"}"}`).eventId)).toBeUndefined();
});

test('what a former run may have sent is marked', () => {
  const known: Chunk = { ...chunk, origin: { kind: 'file', path: '/x', identity, knownBelow: 10 } };
  const record = { value: Buffer.from('a'), timeMs: 0, eventId: undefined };
  expect(build({ ...record, offset: 9 }, known, createLineIds(identity)).resent).toBe(true);
  expect(build({ ...record, offset: 10 }, known, createLineIds(identity)).resent).toBe(false);
});

test('secrets do not leave the host; numbers beside them keep their digits', () => {
  const secret = ['hunter', '2hunter2'].join('');
  for (const line of [`{"password":"${secret}","n":12345678901234567890}`, `login password=${secret} ok`]) {
    const shipped = ship(line);
    expect(shipped.line).not.toContain(secret);
    const document = documentOf(shipped.line);
    expect(document).toMatchObject({ tags: expect.arrayContaining(['_masked']) });
  }
  expect(ship(`{"password":"${secret}","n":12345678901234567890}`).line).toContain('12345678901234567890');
});

test('whatever the line, it is a record that the topic takes, and the document of the line alone', () => {
  const line = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.json({ maxDepth: 4 }),
    fc.constantFrom('{', '{"a":', '[1]', '"x"', '{"a":1}x', ' {"a":1} ', '{"message":"{\\"level\\":\\"error\\"}"}'),
    fc
      .object({ key: fc.constantFrom('service', 'host', 'message', 'level', 'msg', 'n'), maxDepth: 2 })
      .map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(line, (text) => {
      fc.pre(text.trim() !== '' && !/[\r\n]/.test(text));
      const { line: shipped, bytes } = ship(text);
      expect(bytes).toBe(Buffer.byteLength(shipped));
      expect(() => JSON.parse(shipped)).not.toThrow();
      const [made, alone] = [documentOf(shipped), expected(text)];
      expect(typeof made).toBe('object');
      if (typeof alone === 'string' || typeof made === 'string') return;
      expect(made.doc.message).toEqual(alone.doc.message);
      expect(made.doc.level).toEqual(alone.doc.level);
      expect(made.timeMs).toBe(alone.timeMs);
    }),
    { numRuns: 500 },
  );
  const long = ship('"'.repeat(899_000));
  expect(long.bytes).toBeLessThanOrEqual(1_000_000);
  expect(JSON.parse(long.line)).toMatchObject({
    tags: expect.arrayContaining(['_truncated']),
    originalBytes: expect.any(Number),
  });
});

test('a line that is no UTF-8 says so', () => {
  const { line } = ship(Buffer.from([0x66, 0xff, 0x6f]));
  expect(documentOf(line)).toMatchObject({ tags: ['_parse_failed', '_time_missing'] });
});
