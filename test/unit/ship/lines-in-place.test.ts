// Lines that stay where they were read become, byte for byte, the records that the long way makes of them.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { createEventIds, createLineIds, type Lines } from '../../../src/core/record.ts';
import { createMasker, type MaskOptions } from '../../../src/core/secrets/mask.ts';
import { FORM_RULES } from '../../../src/core/secrets/secret-forms.ts';
import { COMMAND_ANCHORS, createTextRules } from '../../../src/core/secrets/secret-text.ts';
import { LINE_FORMATS } from '../../../src/parse/normalise.ts';
import { SHAPES } from '../../../src/parse/shapes.ts';
import { encodeRecords } from '../../../src/ship/brokers.ts';
import { type HeldRead, isInPlace, type LineInPlace, type LineRecord } from '../../../src/ship/lines-in-place.ts';
import { choosePartition } from '../../../src/ship/queue.ts';
import { createLineBuilder, createReader } from '../../../src/shipping.ts';
import { createLineSplitter, recordsOf } from '../../../src/source/lines.ts';
import { INNOCENT, SECRETS } from '../core/mask-cases.ts';

const INPUT = { files: ['/x'], service: 'edge', environment: 'tést', host: 'h"1' };
const identity = '0123456789abcdef01234567';
const ids = createLineIds(identity);
const PARTITIONS = Array.from({ length: 7 }, (_, partitionId) => ({ partitionId }));

/** Both ways through what was read, with what a masker of these options holds back. */
function createWays(options: MaskOptions = {}, input: Partial<typeof INPUT> = INPUT) {
  const masker = createMasker(options);
  const given = { ...input, files: ['/x'] };
  const build = createLineBuilder(given, masker);
  const reader = createReader(given, masker);
  const knownBelow = 100;
  const origin = { kind: 'file', path: '/x', identity, knownBelow } as const;
  const done = () => {};

  function both(lines: Lines): { fast: LineRecord[]; long: LineRecord[] } {
    const chunk = { origin, records: [], bytes: 0, done };
    const long = recordsOf(lines).map((record) => build(record, chunk, ids));
    const read = { lines, identity, ids, knownBelow, done };
    const { records } = reader(read, (record) => build(record, chunk, ids));
    return { fast: records, long };
  }

  /** @returns how many lines stayed where they were */
  return function check(file: Buffer, cuts: readonly number[] = []): number {
    const splitter = createLineSplitter({ offset: 0, maxLineBytes: 5_000, onCut() {} });
    const places = [...new Set([0, ...cuts.filter((cut) => cut < file.length), file.length])].sort((a, b) => a - b);
    let inPlace = 0;
    for (let i = 1; i < places.length; i++) {
      const lines = splitter.split(piece(file, places[i - 1]!, places[i]!), 0);
      const { fast, long } = both(lines);
      expect(fast.map(fieldsOf)).toEqual(long.map(fieldsOf));
      const headers = { resent: false, sentAt: 1_790_000_000_000, isClockRight: true };
      expect(encodeRecords(fast, headers).equals(encodeRecords(long, headers))).toBe(true);
      const kept = fast.filter(isInPlace);
      inPlace += kept.length;
      checkCompacted(kept);
    }
    return inPlace;
  };
}

/** As the file source reads it: with some bytes behind it. */
function piece(file: Buffer, from: number, to: number): Buffer {
  const read = Buffer.alloc(to - from + 8, 'x');
  file.copy(read, 0, from, to);
  return read.subarray(0, to - from);
}

function fieldsOf(record: LineRecord) {
  const { line, key, eventId, bytes, resent } = record;
  const hashed = record.inPlace?.keyHash ?? key;
  return { line, key, eventId, bytes, resent, partition: choosePartition(PARTITIONS, PARTITIONS, hashed, 0) };
}

/** What is left says the same when the rest is gone. */
function checkCompacted(records: readonly LineInPlace[]): void {
  const left = records.filter((_, i) => i % 3 === 0);
  const before = left.map(fieldsOf);
  for (const record of records) if (!left.includes(record)) record.held.letGo(record.at);
  const [held]: readonly HeldRead[] = records.map((record) => record.held);
  const wasBytes = held?.bytes.length ?? 0;
  held?.compact();
  expect(left.map(fieldsOf)).toEqual(before);
  if (held !== undefined && 2 * held.leftBytes < wasBytes) expect(held.bytes.length).toBe(held.leftBytes);
}

const check = createWays();

const ownId = createEventIds(() => 1_790_000_000_000);
const word = fc.constantFrom(
  ...['a', 'level', 'message', 'service', 'host', 'environment', 'callId', 'eventId', 'tenantId', 'msg', 'err'],
  ...['__proto__', 'constructor', 'token', 'password', 'kéy', 'x y', 'time', 'stack', 'version', 'pid', ''],
);
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.string({ maxLength: 40 }),
  fc.constantFrom(
    'info',
    'call ended',
    '4111 1111 1111 1111',
    'MTIzNDU2Nzg5MDEyMzQ1Njc4.AbCdEf.x',
    '\u2028',
    '\u00a0',
    'ü',
  ),
  fc.constant(0).map(() => ownId()),
  fc.integer({ min: 0, max: 1e15 }).map(String),
);
const value: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    { weight: 6, arbitrary: anyText },
    { weight: 3, arbitrary: fc.oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean()) },
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.array(fc.tuple(word, tie('value')), { maxLength: 4 }).map((entries) => ({ entries })),
  ),
})).value;

/** JSON by hand: keys come twice, escapes and white space as they like. */
function written(of: unknown, space: string): string {
  if (Array.isArray(of)) return `[${of.map((one) => space + written(one, space)).join(',')}${space}]`;
  if (typeof of === 'object' && of !== null && 'entries' in of) {
    const entries = of.entries as [string, unknown][];
    return `{${entries.map(([key, one]) => `${space}${JSON.stringify(key)}${space}:${written(one, space)}`).join(',')}}`;
  }
  return space + JSON.stringify(of);
}
const record = fc
  .tuple(fc.array(fc.tuple(word, value), { maxLength: 8 }), fc.constantFrom('', '', '', ' ', '\t', ' \r'))
  .map(([entries, space]) => written({ entries }, space));
/** Like each other but for some values. */
const series = fc
  .tuple(
    fc.array(fc.tuple(word, value), { minLength: 1, maxLength: 8 }),
    fc.array(fc.array(value, { minLength: 1, maxLength: 3 }), { maxLength: 8 }),
  )
  .map(([entries, others]) =>
    others.map((some) => {
      const changed = entries.map(([key, one], i): [string, unknown] => [
        key,
        i % 2 === 0 ? some[i % some.length] : one,
      ]);
      return written({ entries: changed }, '');
    }),
  );
const damaged = fc
  .tuple(record, fc.nat(), fc.constantFrom('', '"', '\\', '}', ',', '\x01', '0', '\\u0041', 'é', ' ', '-', '.', 'e'))
  .map(([text, at, put]) => {
    const place = at % (text.length + 1);
    return text.slice(0, place) + put + text.slice(place + 1);
  });
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ maxLength: 200 }).map((rest) => `2026-11-29 12:00:00 INFO ${rest}`),
  fc.constantFrom(...[...SHAPES, ...LINE_FORMATS].map(({ example }) => String(example))),
  fc.constantFrom(...SECRETS.map(({ line }) => String(line)), ...INNOCENT.map((line) => String(line))),
  fc.constant('x'.repeat(6_000)),
);
const line = fc.oneof(
  { weight: 4, arbitrary: series },
  { weight: 2, arbitrary: fc.oneof(record, damaged, text).map((one) => [one]) },
);
const file = fc
  .tuple(
    fc.array(line, { maxLength: 12 }),
    fc.constantFrom('\n', '\n', '\r\n'),
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 2 }),
  )
  .map(([lines, end, damages]) => {
    const bytes = Buffer.from(
      lines
        .flat()
        .map((one) => one + end)
        .join(''),
    );
    // Anything may stand in a file.
    for (const [at, byte] of damages) if (at % 3 === 0 && bytes.length > 0) bytes[at % bytes.length] = byte;
    return bytes;
  });

test('any file, cut anywhere', () => {
  let inPlace = 0;
  let files = 0;
  fc.assert(
    fc.property(file, fc.array(fc.nat(2_000), { maxLength: 3 }), (bytes, cuts) => {
      files++;
      inPlace += check(bytes, cuts);
    }),
    { numRuns: 3_000 },
  );
  expect(inPlace).toBeGreaterThan(files);
});

test('secrets of every form, each among lines like it', () => {
  for (const { line: secret } of SECRETS) {
    const text = String(secret);
    check(
      Buffer.from(
        [text.replaceAll(/[0-9]/g, 'x'), text, '{"message":"x"}', text, text].map((one) => `${one}\n`).join(''),
      ),
    );
  }
});

test('what is escaped within a text may be a secret too', () => {
  // The text of a message that is JSON itself, as a serialiser wrote it: the second backslash stands for the first.
  for (const text of [
    '\\u0070assword=Zx1drawn9drawn',
    '{"\\u0070assword":"Zx1drawn9drawn"}',
    'a\\\\u0070wd=Zx1drawn9drawn',
  ]) {
    const lines = [{ message: 'x' }, { message: text }, { message: [text] }, { [text]: 1 }].map((one) =>
      JSON.stringify(one),
    );
    check(Buffer.from(lines.map((one) => `${one}\n`).join('')));
    expect(createMasker().text(text)).not.toBe(text);
  }
});

test('a read may be written over when the last of its lines is delivered, and not before', () => {
  const masker = createMasker();
  const build = createLineBuilder(INPUT, masker);
  // The second would be too long with its escapes; the third holds a secret.
  const texts = ['{"a":1}', '\x01'.repeat(180_000), `password=${'hunter'}2hunter2`, 'plain'];
  const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(''));
  const splitter = createLineSplitter({ offset: 0, maxLineBytes: 1_000_000, onCut() {} });
  let reused = 0;
  const lines = { ...splitter.split(piece(bytes, 0, bytes.length), 0), reuse: () => void reused++ };
  const chunk = { origin: { kind: 'file', path: '/x', identity } as const, records: [], bytes: 0, done() {} };
  const read = { lines, identity, ids, knownBelow: 0, done() {} };
  const { held, records } = createReader(INPUT, masker)(read, (record) => build(record, chunk, ids));
  expect(records.map(isInPlace)).toEqual([true, false, false, true]);
  expect(records[1]!.bytes).toBeLessThanOrEqual(1_000_000);
  const [first, last] = records.filter(isInPlace);
  held.letGo(first!.at);
  expect([held.left, reused]).toEqual([1, 0]);
  held.letGo(last!.at);
  expect([held.left, reused]).toEqual([0, 1]);
});

test('what was read leaves memory when the lines that still wait have been copied together', async () => {
  const masker = createMasker();
  const build = createLineBuilder(INPUT, masker);
  const reader = createReader(INPUT, masker);
  const chunk = { origin: { kind: 'file', path: '/x', identity } as const, records: [], bytes: 0, done() {} };
  const { done } = chunk;
  /** Two lines, of which the first is delivered. */
  function readTwo(): { left: LineInPlace; memory: WeakRef<ArrayBufferLike> } {
    const bytes = Buffer.from(`{"a":"${'x'.repeat(4_000)}"}\n{"a":1}\n`);
    const memory = piece(bytes, 0, bytes.length);
    const lines = createLineSplitter({ offset: 0, maxLineBytes: 5_000, onCut() {} }).split(memory, 0);
    // As a read that was not a full one: nobody can use its memory again.
    const read = { lines: { ...lines, reuse: () => void memory.length }, identity, ids, knownBelow: 0, done };
    const { held, records } = reader(read, (record) => build(record, chunk, ids));
    const [first, left] = records.filter(isInPlace);
    held.letGo(first!.at);
    held.compact();
    return { left: left!, memory: new WeakRef(memory.buffer) };
  }
  // The first one and the last one may be kept, whatever their number.
  readTwo();
  const { left, memory } = readTwo();
  readTwo();
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  await vi.waitFor(() => {
    collect();
    expect(memory.deref() === undefined).toBe(true);
  });
  expect(left.line).toContain('"a":1}');
});

test('one line that still waits does not keep what is known of the others', () => {
  const masker = createMasker();
  const bytes = Buffer.from(Array.from({ length: 1_000 }, (_, n) => `{"n":${n}}\n`).join(''));
  const lines = createLineSplitter({ offset: 0, maxLineBytes: 5_000, onCut() {} }).split(
    piece(bytes, 0, bytes.length),
    0,
  );
  const read = { lines, identity, ids, knownBelow: 0, done() {} };
  const { held, records } = createReader(INPUT, masker)(read, () => expect.fail('all stay in place'));
  const all = records.filter(isInPlace);
  const left = all[500]!;
  const before = fieldsOf(left);
  for (const record of all) if (record !== left) held.letGo(record.at);
  held.compact();
  expect(fieldsOf(left)).toEqual(before);
  expect(held.slots.byteLength).toBeLessThan(100);
  held.letGo(left.at);
  expect([held.left, held.leftBytes]).toEqual([0, 0]);
});

test('with what an operator has named, every line is looked at as a whole', () => {
  const named = createWays({ keys: ['door1'], patterns: ['BEGIN.{0,9}END'] });
  const lines = [
    '{"door":1,"code":7}',
    '{"door":2,"code":7}',
    '{"message":"BEGIN 1 END"}',
    '{"message":"BEGIN 2","n":"END"}',
  ];
  named(Buffer.from(lines.map((one) => `${one}\n`).join('')));
  expect(createWays({ keys: ['door1'] })(Buffer.from('{"a":1}\n{"a":2}\n'))).toBe(2);
});

test('an input that knows nothing of its lines leaves all of their bytes', () => {
  expect(createWays({}, {})(Buffer.from('{"a":1}\n{"a":2}\nplain\n'))).toBe(3);
});

test('nothing that masking looks for lies across two values of a JSON line', () => {
  const rules = [...FORM_RULES, ...createTextRules(() => false)];
  const literals = new Set([...rules.flatMap(({ anchors }) => anchors), ...COMMAND_ANCHORS]);
  expect(literals.size).toBeGreaterThan(500);
  for (const literal of literals) {
    // Inside of a text, its closing quote at most; not of numbers, words and what stands between them.
    expect(literal).toMatch(/^[^"]+"?$/);
    expect(literal.replaceAll(/true|false|null|[-+.\d\s{}[\],:]/g, '')).not.toBe('');
  }
});
