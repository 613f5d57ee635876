// No record uses up an index's field limit: which events pass as they are, which have their new fields in `extra`, and
// what is learnt from the server's mapping.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createDocumentWriter } from '../../../src/indexing/batch.ts';
import { createFieldBudget, type FieldUse, MAX_NEW_FIELDS } from '../../../src/indexing/field-budget.ts';
import { createIndexer } from '../../../src/indexing/indexer.ts';
import type { Sink } from '../../../src/indexing/sinks.ts';
import { FIELD_MAP, type FieldMap } from '../../../src/parse/conform.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createTagger, type TaggedEvent } from '../../../src/tag/tag.ts';
import { createTransformingParser } from '../../../src/transform/transform.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

type Json = Record<string, unknown>;

const NOW = Date.parse('2026-11-25T10:00:00.000Z');
const LIMIT = 1_000;
const CATALOGUE = countOf(FIELD_MAP);

function countOf(map: FieldMap): number {
  let count = 0;
  for (const type of map.values()) count += typeof type === 'string' ? 1 : 1 + countOf(type);
  return count;
}

function create(server: Record<string, Partial<FieldUse> | Error> = {}) {
  const clock = createFakeClock(NOW);
  const metrics = createMetrics();
  const said: string[] = [];
  const reads: string[] = [];
  const say = (message: string) => void said.push(message);
  const budget = createFieldBudget({
    clock,
    metrics,
    log: { error: say, warn: say, info: say, debug() {} },
    day: (ms) => new Date(ms).toISOString().slice(0, 10).replaceAll('-', '.'),
    async read(index) {
      reads.push(index);
      const use = server[index];
      if (use instanceof Error) throw use;
      return use && { paths: [], limit: undefined, ignoredDocuments: 0, ignoredFields: [], ...use };
    },
  });
  const event = (doc: Json, timeMs = NOW): TaggedEvent =>
    ({ doc, verbatim: true, timeMs, timeText: undefined, tags: [] }) as unknown as TaggedEvent;
  const taken = (given: TaggedEvent) => (budget.admits(given) ? given : budget.move(given));
  const admit = (doc: Json, timeMs = NOW) => taken(event(doc, timeMs));
  /** Fills the budget, as ordinary applications would over a day. */
  const fill = (count: number) => {
    for (let i = 0; i < count; i++) admit({ message: 'm', [`filled${i}`]: 1 });
  };
  const plain = (doc: Json) => JSON.parse(JSON.stringify(taken(event(doc)).doc)) as Json;
  return { budget, clock, metrics, said, reads, event, taken, admit, fill, plain };
}

const many = (count: number, prefix = 'k') =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`${prefix}${i}`, i]));
const room = LIMIT - CATALOGUE;

describe('passes as it is', () => {
  test('an event of the catalogue, one with few new fields, and one with the same again', () => {
    const { taken, event } = create();
    for (const doc of [
      { timestamp: 't', level: 'info', message: 'm', http: { method: 'GET' } },
      { message: 'm', customer: { tier: 'gold', tags: ['a', 'b'] } },
      { message: 'm', ...many(MAX_NEW_FIELDS) },
      { message: 'm', extra: many(400), nothing: null, empty: {} },
    ]) {
      const given = event(doc);
      expect(taken(given)).toBe(given);
      expect(taken(given)).toBe(given);
    }
  });

  test('many that the index has already, however they are written', async () => {
    const paths = Object.keys(many(300)).map((key) => `payload.${key}`);
    const { admit, event, taken } = create({ 'calling-platform-2026.11.25': { paths: ['payload.', ...paths] } });
    admit({ message: 'first sight' });
    await settled();
    for (const doc of [
      { payload: many(300) },
      Object.fromEntries(paths.map((path) => [path, 1])),
      { payload: [many(200), many(300)] },
    ]) {
      const given = event(doc);
      expect(taken(given)).toBe(given);
    }
  });
});

describe('too many at once', () => {
  test.each<[string, Json]>([
    ['on top', many(1_500)],
    ['nested', { payload: many(1_500) }],
    ['in a group of the catalogue', { http: many(1_500), message: 'm' }],
    ['in a list', { list: Array.from({ length: 1_500 }, (_, i) => ({ [`k${i}`]: i })) }],
    ['with dots', many(1_500, 'a.b')],
    ['below an object that was empty before', { empty: many(1_500) }],
  ])('%s: none becomes a field, and others still can', (_, doc) => {
    const { admit, taken, event } = create();
    admit({ empty: {} });
    const moved = admit(doc);
    expect(moved.verbatim).toBe(false);
    expect(moved.tags).toEqual(['_mapping_degraded']);
    expect(Object.keys(moved.doc).filter((key) => !FIELD_MAP.has(key) && key !== 'empty')).toEqual([]);
    expect(String(moved.doc.extraRaw ?? '').length).toBeLessThanOrEqual(8_192);
    // Not one of the budget was used: it still takes all there is room for, but for the reserve.
    for (let i = 0; i < room - 55; i++) {
      const given = event({ [`own${i}`]: 'x' });
      expect(taken(given)).toBe(given);
    }
  });

  test('as many as possible stay searchable, the rest is kept as text', () => {
    const { plain } = create();
    const { extra, extraRaw, ...rest } = plain({
      message: 'm',
      payload: many(1_500),
      http: { method: 'GET', odd: many(3) },
    });
    expect(rest).toEqual({ message: 'm', http: { method: 'GET' } });
    expect(Object.keys(extra as Json)).toHaveLength(500);
    expect(extra).toMatchObject({ 'payload.k0': 0, 'payload.k499': 499 });
    expect(extraRaw).toMatch(/"payload.k500":500/);
  });

  test('what the index has stays in place, and what was in extra stays there', () => {
    const { admit, plain } = create();
    admit({ customer: { tier: 'gold' } });
    const doc = plain({ customer: { tier: 'silver', ...many(200) }, extra: { mine: 1 }, extraRaw: 'raw', gone: null });
    expect(doc).toMatchObject({ customer: { tier: 'silver' }, extra: { mine: 1, 'customer.k7': 7 }, extraRaw: 'raw' });
    expect(doc.gone).toBeNull();
  });

  test('nesting beyond every limit is moved, not followed', () => {
    const { admit } = create();
    let deep: unknown = 'x';
    for (let i = 0; i < 5_000; i++) deep = { d: deep };
    const moved = admit({ message: 'm', deep });
    expect(moved.doc.deep).toBeUndefined();
    expect(moved.tags).toEqual(['_mapping_degraded']);
    let list: unknown = 'x';
    for (let i = 0; i < 5_000; i++) list = [list];
    expect(admit({ message: 'm', list, http: list }).doc.list).toBeUndefined();
  });
});

describe('when the index is full', () => {
  test('further fields go to extra, known ones go on, and an operator sees it', () => {
    const { admit, budget, fill, metrics, plain, said } = create();
    fill(room + 100);
    expect(plain({ message: 'm', filled0: 2, late: 'here' })).toEqual({
      message: 'm',
      filled0: 2,
      extra: { late: 'here' },
    });
    expect(admit({ filled1: 1 }).tags).toEqual([]);
    expect(said).toEqual([expect.stringContaining('calling-platform-2026.11.25: a record brought more new fields')]);
    expect(budget.notice()).toMatch(/^calling-platform-2026\.11\.25: \d+ records have new fields in `extra`$/);
    expect(metrics.fieldsMoved).toBeDefined();
  });

  test('another day has a budget of its own', () => {
    const { admit, fill } = create();
    fill(room + 100);
    expect(admit({ late: 1 }).tags).toEqual(['_mapping_degraded']);
    expect(admit({ late: 1 }, NOW + 86_400_000).tags).toEqual([]);
    expect(admit({ later: 1 }).tags).toEqual(['_mapping_degraded']);
  });

  test('by others: the mapping is read at first sight and every minute while it is written to', async () => {
    const index = 'calling-platform-2026.11.25';
    const server: Record<string, Partial<FieldUse> | Error> = {};
    const { admit, clock, reads } = create(server);
    expect(admit({ one: 1 }).tags).toEqual([]);
    await settled();
    expect(reads).toEqual([index]);
    server[index] = { paths: Object.keys(many(room, 'theirs')) };
    await clock.advance(60_000);
    expect(reads).toEqual([index, index]);
    expect(admit({ theirs5: 1 }).tags).toEqual([]);
    expect(admit({ one: 1 }).tags).toEqual(['_mapping_degraded']);
    // A larger limit, set by hand, counts too.
    server[index] = { paths: Object.keys(many(room, 'theirs')), limit: 2_000 };
    await clock.advance(60_000);
    expect(admit({ one: 1 }).tags).toEqual([]);
    await clock.advance(60_000);
    server[index] = new Error('no answer');
    admit({ one: 1 });
    await clock.advance(60_000);
    expect(admit({ one: 1 }).tags).toEqual([]);
    // Nobody writes any more: nobody asks.
    await clock.advance(120_000);
    const asked = reads.length;
    await clock.advance(600_000);
    expect(reads.length - asked).toBeLessThanOrEqual(10);
  });

  test('what Elasticsearch ignores is told apart from values it does not index, and logged once a day', async () => {
    const index = 'calling-platform-2026.11.25';
    const { admit, budget, clock, metrics, said } = create({
      [index]: { paths: ['custom'], ignoredDocuments: 7, ignoredFields: ['custom', 'message', 'lost', 'lost.too'] },
    });
    admit({ message: 'm' });
    await clock.advance(60_000);
    admit({ message: 'm' });
    await clock.advance(60_000);
    expect(budget.notice()).toBe(`${index}: 2 field names beyond the field limit are not searchable`);
    expect(said).toEqual([`${index}: Elasticsearch ignores new fields, so they are not searchable`]);
    const text = await metrics.registry.metrics();
    expect(text).toMatch(/^logpipe_ignored_fields 2$/m);
    expect(text).toMatch(/^logpipe_ignored_documents 7$/m);
  });
});

test('closing ends the asking', async () => {
  const { admit, budget, clock } = create();
  admit({ message: 'm' });
  budget.close();
  expect(clock.timers()).toBe(0);
});

test('whatever comes, no more than the limit is admitted, nothing disappears, and what passes is untouched', () => {
  // Names that are always objects, and others that never are: what contradicts itself the server refuses as a whole.
  const objects = fc.constantFrom('o', 'p', 'o.p', 'http', 'p.o');
  const letters = fc.stringMatching(/^[a-e]{1,2}$/);
  const leaves = fc.oneof(
    letters,
    letters.map((name) => `o.${name}`),
    fc.constantFrom('message', 'method', 'p.a'),
  );
  const scalar = fc.constantFrom<unknown>('text', 7, true, null, ['text', null, 'text']);
  const nested = (levels: number): fc.Arbitrary<Json> => {
    const own = fc.dictionary(leaves, scalar, { maxKeys: 4 });
    if (levels === 0) return own;
    const below = nested(levels - 1);
    const either = fc.oneof(below, fc.array(below, { maxLength: 3 }));
    return fc.tuple(own, fc.dictionary(objects, either, { maxKeys: 2 })).map(([one, other]) => ({ ...one, ...other }));
  };
  const docs = fc.array(nested(3), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(docs, fc.integer({ min: 0, max: 40 }), (all, left) => {
      const { taken, event, fill } = create();
      fill(room - 50 - left);
      const fields = new Set<string>();
      for (const doc of all) {
        const before = JSON.stringify(doc);
        const given = event(doc);
        const admitted = taken(given);
        expect(JSON.stringify(doc)).toBe(before);
        if (admitted !== given) expect(admitted.tags).toEqual(['_mapping_degraded']);
        for (const path of serverPaths(admitted.doc)) fields.add(path);
        const { extraRaw, ...rest } = admitted.doc;
        const raw = extraRaw === undefined ? {} : JSON.parse(String(extraRaw));
        expect(scalars([rest, raw])).toEqual(scalars(given.doc));
      }
      expect(fields.size).toBeLessThanOrEqual(left);
    }),
    { numRuns: 100 },
  );
});

/** Every value wherever it is, but for null: none of them may get lost on the way to `extra`. */
function scalars(value: unknown): string[] {
  if (value === null || value === undefined) return [];
  if (typeof value !== 'object') return [String(value)];
  return Object.values(value).flatMap(scalars).sort();
}

/** The fields a server would make of a document, beyond the catalogue's: written from Elasticsearch's rules alone. */
function serverPaths(doc: Json): Set<string> {
  const paths = new Set<string>();
  const walk = (value: unknown, path: string) => {
    if (value === null || value === undefined) return;
    if (Array.isArray(value)) {
      for (const item of value) walk(item, path);
    } else if (typeof value === 'object') {
      if (path !== '') put(`${path}.`);
      for (const [key, inner] of Object.entries(value)) walk(inner, path === '' ? key : `${path}.${key}`);
    } else put(path);
  };
  const put = (path: string) => {
    const names = path.split('.').filter((name) => name !== '');
    let at: FieldMap | string | undefined = FIELD_MAP;
    for (const name of names) {
      // Below a leaf nothing is mapped: the server refuses it, or keeps it flattened.
      if (typeof at === 'string') return;
      at = at?.get(name);
    }
    if (at !== undefined) return;
    for (let i = 1; i < names.length; i++) paths.add(`${names.slice(0, i).join('.')}.`);
    paths.add(path.endsWith('.') ? `${names.join('.')}.` : names.join('.'));
  };
  walk(doc, '');
  for (const path of [...paths]) if (isKnown(path)) paths.delete(path);
  return paths;
}

function isKnown(path: string): boolean {
  let at: FieldMap | string | undefined = FIELD_MAP;
  for (const name of path.split('.').filter((part) => part !== '')) at = typeof at === 'string' ? at : at?.get(name);
  return at !== undefined;
}

test('a document written anew keeps every digit, and the first value of a key given twice', async () => {
  const { budget, clock, metrics, fill } = create();
  fill(room);
  const bodies: string[] = [];
  const sink: Sink = {
    name: 'kept',
    async write(batch) {
      bodies.push(batch.item(0).toString());
      return undefined;
    },
    async close() {},
  };
  const masker = createMasker();
  const parser = createParser(
    { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 600_000 },
    { masker, duplicatesRefused: true },
  );
  const indexer = createIndexer(
    {
      ...{ maxBytes: 1_000_000, maxDocuments: 1, maxDelayMs: 1_000, concurrency: 1, maxInFlightBytes: 1_000_000 },
      ...{ backoffMs: 1, maxBackoffMs: 1, maxRejectionsPerMinute: 1_000 },
    },
    {
      ...{ parser: createTransformingParser(parser, [], { masker } as never), tag: createTagger(), fields: budget },
      ...{ documents: createDocumentWriter(parser.time), sinks: [sink], deadLetters: {} as never },
      ...{ toDeadLetter: () => ({}) as never, metrics, log: silentLog, clock },
    },
  );
  const line = `{"timestamp":"${new Date(NOW).toISOString()}","level":"info","message":"m","order":12345678901234567890,"twice":"first","twice":"last"}`;
  const records = [{ value: Buffer.from(line), offset: 0, timeMs: NOW, eventId: undefined }];
  await new Promise<void>((resolve) => {
    const chunk = { origin: { kind: 'kafka', topic: 't', partition: 0 }, records, bytes: line.length, done: resolve };
    void indexer.accept(chunk as never);
  });
  const [, document = ''] = bodies[0]!.split('\n');
  expect(document).toContain('12345678901234567890');
  expect(document).toContain('"first"');
  expect(document).toContain('"last"');
  expect(JSON.parse(document).tags).toContain('_mapping_degraded');
});
