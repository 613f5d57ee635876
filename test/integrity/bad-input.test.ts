// Thousands of broken, hostile and odd records among healthy ones, on the real servers: the process stays up, each
// record is accounted for exactly once, and no healthy document is harmed.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLedger } from '../kit/ledger.ts';
import { testEsMajors, testEsUrlOf } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const CASES = 2_400;
const json = (value: unknown) => JSON.stringify(value);
const text = (value: string) => Buffer.from(value);
const base = { timestamp: '2026-11-24T00:00:00.000Z', level: 'info', message: 'odd' };

/** Values that contradict each other: the first to arrive decides the mapping, the rest conflict with it. */
const conflicting = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.integer(),
  fc.double({ noNaN: true }),
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.integer(), { maxLength: 3 }),
  fc.record({ inner: fc.string() }),
  fc.array(fc.record({ a: fc.integer() }), { maxLength: 2 }),
);
const oddKey = fc.constantFrom(
  '',
  '.',
  '..',
  'a.',
  '.a',
  'a..b',
  'a.b',
  'a',
  ' ',
  '__proto__',
  'constructor',
  '_id',
  '_index',
  '_source',
  '_routing',
  'kafka',
  'tags',
  '@timestamp',
  'extra',
  'extraRaw',
  'eventId',
  'key\nwith\nbreaks',
  'k'.repeat(40_000),
  '\u0000',
  '💥',
);
const catalogueKey = fc.constantFrom(
  'pid',
  'call',
  'http',
  'error',
  'queue',
  'process',
  'level',
  'tags',
  'timestamp',
  'message',
  'service',
  'activeCalls',
);

const badRecord: fc.Arbitrary<Buffer | null> = fc.oneof(
  { weight: 4, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 400 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 3, arbitrary: fc.object().map((value) => text(json({ ...base, ...value }))) },
  { weight: 3, arbitrary: fc.object().map((value) => text(json({ ...base, value }).slice(0, -3))) },
  { weight: 2, arbitrary: fc.object().map((value) => text(JSON.stringify({ ...base, value }, null, 2))) },
  {
    weight: 4,
    arbitrary: fc
      .dictionary(fc.constantFrom('conflictA', 'conflictB', 'conflictC'), conflicting)
      .map((value) => text(json({ ...base, ...value }))),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(catalogueKey, conflicting).map(([key, value]) => text(json({ ...base, [key]: value }))),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(oddKey, conflicting)
      .map(([key, value]) => text(`{"level":"info",${json(key)}:${json(value)}}`)),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(oddKey, oddKey)
      .map(([one, two]) => text(`{${json(one)}:1,${json(two)}:{"x":2},${json(one)}:"again"}`)),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(
        '{"index":{"_index":"calling-platform-2026.11.24"}}\n{"a":1}\n',
        '{"delete":{"_index":"calling-platform-2026.11.24","_id":"1"}}\n',
        '{"level":"info","message":"a"}\r\n{"create":{}}\r\n',
      )
      .map(text),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(
        '{"p\\u0061ssword":"x"}',
        '{"\\u0040timestamp":"x"}',
        '{"t\\u0061gs":{"a":1}}',
        '{"a":1,"\\u0061":2}',
        '{"message":"\\ud800"}',
      )
      .map(text),
  },
  {
    weight: 1,
    arbitrary: fc
      .integer({ min: 15, max: 12_000 })
      .map((depth) => text(`{"deep":${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}}`)),
  },
  {
    weight: 1,
    arbitrary: fc
      .integer({ min: 15, max: 12_000 })
      .map((depth) => text(`{"deep":${'['.repeat(depth)}1${']'.repeat(depth)}}`)),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(
        '0001-01-01T00:00:00.000Z',
        '9999-12-31T23:59:59.999Z',
        '2026-02-30T00:00:00.000Z',
        '1e400',
        '',
        '-1',
        '+275760-09-13T00:00:00.000Z',
      )
      .map((timestamp) => text(json({ ...base, timestamp }))),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(
        '{"n":1e400}',
        '{"n":-1e999}',
        '{"n":123456789012345678901234567890}',
        '{"pid":1e400}',
        '{"http":{"status":99999}}',
        '{"n":0.1e-999}',
      )
      .map(text),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      null,
      Buffer.alloc(0),
      text(' '),
      text('null'),
      text('true'),
      text('[]'),
      text('[{"a":1}]'),
      text('""'),
      text('{}'),
      text('\uFEFF{"a":1}'),
    ),
  },
);

// In short: the main line alone.
describe.each(FULL ? testEsMajors() : testEsMajors().slice(0, 1))('Elasticsearch %s', (major) => {
  it(`${CASES} generated records and as many healthy ones`, async () => {
    const ledger = await createLedger({ esUrl: await testEsUrlOf(major) });
    const cases = fc.sample(badRecord, { numRuns: CASES - 1, seed: 20261124 });
    const explosion = text(
      json({ ...base, ...Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`field${i}`, i])) }),
    );
    cases.push(explosion);
    const process = ledger.start();
    for (let from = 0; from < CASES; from += 400) {
      await ledger.produceRaw(cases.slice(from, from + 400));
      await ledger.produce(400);
    }
    await ledger.settled(120_000);
    process.kill('SIGTERM');
    expect(await process.exit).toEqual({ status: 0, signal: null });

    expect(await ledger.verify({ alsoRaw: true })).toEqual([]);
    const { records, documents, letters } = await ledger.accounts();
    expect([...records].filter((origin) => !documents.has(origin) && !letters.has(origin))).toEqual([]);
    expect([...documents].filter((origin) => letters.has(origin))).toEqual([]);
    // What is merely odd is a document: only tombstones and blanks end as dead letters.
    const blanks = cases.filter((value) => value === null || value.toString().trim() === '').length;
    const poison = Math.floor(CASES / 97);
    expect(letters.size - poison - blanks).toBe(0);
  });
});
