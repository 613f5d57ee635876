// Transforms: what each step makes of an event, that nothing is lost on the way, that the same record is always decided on alike, and
// that every role sees the same. Real parser, tagger, indexer and counter; no server.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { type Chunk, createEventIds, type RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createDocumentWriter } from '../../../src/indexing/batch.ts';
import { createDegrade } from '../../../src/indexing/bulk-writer.ts';
import { createIndexer } from '../../../src/indexing/indexer.ts';
import { createCounter } from '../../../src/measure/counter.ts';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import type { CountsMessage } from '../../../src/measure/totals.ts';
import { documentText, readExact } from '../../../src/parse/json.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createDocumentReader, createRecordReader, storedText } from '../../../src/replay/record-document.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import {
  createTransformingParser,
  type TransformResult,
  type TransformsConfig,
  transformProblems,
} from '../../../src/transform/transform.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

const AT = Date.parse('2026-01-05T10:00:00.000Z');
const ORIGIN = { kind: 'kafka', topic: 'logs', partition: 2 } as const;
const FROM = { origin: ORIGIN };
const PARSE = parseConfig('', {}, 'defaults').parse;
const masker = createMasker();
const nextId = createEventIds(() => AT);

/** As the configuration gives them, after all its checks. */
const steps = (yaml: string): TransformsConfig => parseConfig(`transforms:\n${yaml}`, {}, 'test.yml').transforms;

const parserOf = (list: TransformsConfig, more: { masker?: ReturnType<typeof createMasker> } = {}) => {
  const deps = { masker, ...more };
  return createTransformingParser(createParser(PARSE, { ...deps, duplicatesRefused: true }), list, deps);
};

const EVENT = { timestamp: new Date(AT).toISOString(), level: 'info', message: 'm', service: 'nginx' };

function record(fields: object | string, more: Partial<RawRecord> = {}): RawRecord {
  const value = Buffer.from(typeof fields === 'string' ? fields : JSON.stringify({ ...EVENT, ...fields }));
  return { value, offset: 7, timeMs: AT + 50, eventId: undefined, ...more };
}

/** Document and tags of an event, as JSON would have them. */
function read(result: TransformResult) {
  if (!('event' in result)) throw new Error(`it is refused: ${result.detail}`);
  const { doc, tags } = result.event;
  const { timestamp: _, ...rest } = JSON.parse(documentText(doc)) as Record<string, unknown>;
  return { ...rest, tags };
}

const made = (yaml: string, fields: object) => read(parserOf(steps(yaml)).parse(record(fields), FROM));
const BASE = { level: 'info', message: 'm', service: 'nginx', tags: [] };

describe('a step', () => {
  test('sets fields, in groups too; what was there is kept', () => {
    const yaml = '- set: { environment: production, http.status: 200, team.name: web }';
    expect(made(yaml, { environment: 'prod', http: { route: '/' } })).toEqual({
      ...BASE,
      environment: 'production',
      http: { route: '/', status: 200 },
      team: { name: 'web' },
      extra: { environment: 'prod' },
    });
  });

  test('renames, whether a path is nested or a key with dots; what was there is kept', () => {
    const yaml = '- rename: { clientip: http.clientIp, a.b: http.route }';
    const renamed = { http: { clientIp: '10.0.0.1', route: '/new' }, extra: { 'http.route': '/old' } };
    expect(made(yaml, { clientip: '10.0.0.1', a: { b: '/new' }, http: { route: '/old' } })).toEqual({
      ...BASE,
      ...renamed,
    });
    expect(made(yaml, { clientip: '10.0.0.1', 'a.b': '/new', http: { route: '/old' } })).toMatchObject(renamed);
  });

  test('gives a renamed value the type of its field, or leaves it to extra', () => {
    const yaml = '- rename: { status: http.status }';
    expect(made(yaml, { status: '404' })).toEqual({ ...BASE, http: { status: 404 } });
    expect(made(yaml, { status: 'none' })).toEqual({
      ...BASE,
      http: {},
      extra: { 'http.status': 'none' },
      tags: ['_mapping_degraded'],
    });
  });

  test('makes a level of what is renamed to one, and keeps what is none', () => {
    const yaml = '- rename: { weight: level }';
    expect(made(yaml, { weight: 'ERROR' })).toMatchObject({ level: 'error', extra: { level: 'info' } });
    expect(made(yaml, { weight: 7 })).toMatchObject({ level: 'info', extra: { weight: 7 } });
  });

  test('ends where a value stays in its place', () => {
    expect(made('- rename: { extra.weight: level }', { extra: { weight: 7 } })).toEqual({
      ...BASE,
      extra: { weight: 7 },
    });
    const both = { team: 'operations', extra: { team: { name: 'web' } } };
    expect(made('- rename: { extra.team.name: team.name }', both)).toMatchObject({ extra: { 'team.name': 'web' } });
    expect(made('- rename: { extra.host: host }', { host: 'a', extra: { host: 'b' } })).toMatchObject({
      host: 'a',
      extra: { host: 'b' },
    });
    const spelt = { a: { b: { c: 1 }, 'b.c': 2 }, 'a.b': { c: 3 }, 'a.b.c': 4 };
    expect(made('- remove: [a.b.c]', spelt)).toEqual(BASE);
  });

  test('leaves in extra what has no place where it should go', () => {
    expect(made('- set: { team.name: web }', { team: 'operations' })).toEqual({
      ...BASE,
      team: 'operations',
      extra: { 'team.name': 'web' },
    });
  });

  test('removes fields, and groups that are empty then', () => {
    const yaml = '- remove: [debug, http.route, extra.trace, nothing]';
    expect(made(yaml, { debug: { a: 1 }, http: { route: '/' }, extra: { trace: 1, kept: 2 } })).toEqual({
      ...BASE,
      extra: { kept: 2 },
    });
  });

  test('tags, each once, beside the record’s own bytes', () => {
    const result = parserOf(steps('- tag: [edge, web]\n- tag: [edge]')).parse(record({}), FROM);
    expect(read(result).tags).toEqual(['edge', 'web']);
    expect(result).toMatchObject({ event: { verbatim: true } });
    expect(parserOf(steps('- set: { host: a }')).parse(record({}), FROM)).toMatchObject({ event: { verbatim: false } });
  });

  test('acts on what the one before it left, where its conditions hold', () => {
    const yaml = `
- rename: { app: service }
- where: { service: [shop, cart], http.status: { gte: 500 } }
  tag: [broken]
- where: { tags: broken, message: { startsWith: 'GET ', contains: /pay } }
  set: { tenantId: t-1 }`;
    const broken = { app: 'shop', message: 'GET /pay', http: { status: 503 } };
    expect(made(yaml, broken)).toMatchObject({ service: 'shop', tenantId: 't-1', tags: ['broken'] });
    expect(made(yaml, { ...broken, http: { status: 200 } })).not.toHaveProperty('tenantId');
    expect(made(yaml, { ...broken, message: 'POST /pay' })).not.toHaveProperty('tenantId');
  });

  test('drops: the event is still there for the counts, with what later steps make of it', () => {
    const yaml = `
- where: { http.route: /health }
  drop: true
- set: { environment: production }`;
    const result = parserOf(steps(yaml)).parse(record({ http: { route: '/health' } }), FROM);
    expect(result).toMatchObject({ ok: false, reason: 'configured', counted: true, by: 'transforms.0.drop' });
    expect(read(result)).toMatchObject({ environment: 'production' });
    const both = parserOf(steps(`${yaml.replace('drop: true', 'drop: true\n  counts: true')}`));
    expect(both.parse(record({ http: { route: '/health' } }), FROM)).toMatchObject({ counted: false });
    expect(both.parse(record({ http: { route: '/' } }), FROM)).toMatchObject({ ok: true });
  });

  test('without any, the parser is the very same', () => {
    const parser = createParser(PARSE, { masker });
    expect(createTransformingParser(parser, [], { masker })).toBe(parser);
    const other = parserOf(steps('- where: { service: other }\n  set: { host: a }'));
    const given = record({});
    expect(other.parse(given, FROM)).toEqual(parserOf([]).parse(given, FROM));
  });
});

describe('nothing is lost', () => {
  test('neither numbers that JavaScript cannot hold, nor the first value of a key given twice', () => {
    const line = `{"timestamp":"${EVENT.timestamp}","level":"info","message":"m","amount":9007199254740993,"a":{"rate":1.50},"far":1e400,"k":"one","k":"two"}`;
    const result = parserOf(steps('- set: { host: h }\n- rename: { amount: paid, a.rate: rate }')).parse(
      record(line),
      FROM,
    );
    if (!result.ok) throw new Error('it is a document');
    const text = documentText(result.event.doc);
    expect(text).toContain('"paid":9007199254740993');
    expect(text).toContain('"rate":1.50');
    expect(text).toContain('"far":1e400');
    expect(JSON.parse(text)).toMatchObject({ host: 'h', k: 'two', extra: { k: 'one' } });
  });

  const leaf = fc.oneof(
    fc.constantFrom('web', '200', 'true', 'error', '/health', '', 'ä'),
    fc.integer({ min: -5, max: 40_000 }),
    fc.boolean(),
    fc.constant(null),
    fc.constant([1, 'two']),
  );
  const fields = fc.dictionary(
    fc.constantFrom('a', 'b', 'host', 'tenantId', 'userId', 'activeCalls', 'a.c', 'extra'),
    fc.oneof(leaf, fc.dictionary(fc.constantFrom('c', 'd'), leaf)),
  );
  const groups = fc.record(
    { http: fc.dictionary(fc.constantFrom('status', 'route', 'other'), leaf), call: leaf },
    { requiredKeys: [] },
  );
  const document = fc.tuple(fields, groups).map(([one, two]) => ({ ...EVENT, ...one, ...two }));
  const path = fc.constantFrom(
    'a',
    'b',
    'a.c',
    'host',
    'tenantId',
    'http.route',
    'http.status',
    'http.other',
    'new.one',
  );
  const setting = fc.constantFrom(
    ...[{ host: 'set' }, { 'http.status': 1 }, { b: 'set' }, { 'a.c': true }, { 'new.one': [1, 2] }].map((set) => ({
      set,
    })),
  );
  const keeping = fc.oneof(
    setting,
    fc.tuple(path, path).map(([from, to]) => ({ rename: { [from]: to } })),
    fc.constant({ tag: ['t'] }),
  );
  const accepted = (list: TransformsConfig) => transformProblems(list, masker).length === 0;
  const listOf = (step: fc.Arbitrary<TransformsConfig[number]>) =>
    fc.array(step, { minLength: 1, maxLength: 4 }).filter(accepted);

  /** Every value of a document that is no group, as text. */
  function leaves(value: unknown, into: Set<string> = new Set()): Set<string> {
    if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) leaves(inner, into);
    else if (value !== null && value !== undefined) into.add(String(value));
    return into;
  }

  test('every value is still there unless a step removes it', () => {
    fc.assert(
      fc.property(document, listOf(keeping), (fields, list) => {
        const before = read(parserOf([]).parse(record(fields), FROM));
        const parser = parserOf(list);
        const after = read(parser.parse(record(fields), FROM));
        // As what is sent again when the server has refused it.
        expect(read(parser.reparse(record(fields), FROM))).toEqual(after);
        const left = leaves(after);
        expect([...leaves(before)].filter((value) => !left.has(value))).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  test('a record that is read again, and a document that is replayed, give the same document', () => {
    const any = fc.oneof(
      keeping,
      path.map((remove) => ({ remove: [remove] })),
      fc.constant({ sample: 0.5 }),
    );
    const toRecord = createDocumentReader({ freshTags: false });
    fc.assert(
      fc.property(document, listOf(any), (fields, list) => {
        const config = { parse: PARSE, transforms: list };
        const given = record(fields, { eventId: nextId() });
        const toDocument = createRecordReader(config, { masker });
        const first = toDocument(given, ORIGIN);
        expect(toDocument(given, ORIGIN)).toEqual(first);
        if (!first.ok) throw new Error('it is a document');
        const { document, dropped } = first;
        const copy = readExact(storedText(document)) as Record<string, unknown>;
        const replayed = toDocument(toRecord(given.eventId!, copy, AT).record, ORIGIN);
        expect(replayed).toMatchObject({ ok: true, ...(dropped && { dropped }) });
        if (replayed.ok) expect(tagless(replayed.document)).toEqual(tagless(document));
      }),
      { numRuns: 100 },
    );
  });

  /** A document that is replayed keeps the tags of its record, though nothing is moved any more. */
  function tagless({ tags, kafka: _, ...rest }: Record<string, unknown>) {
    return { ...rest, tags: [...((tags as string[]) ?? [])].sort() };
  }
});

describe('nothing that was masked shows again', () => {
  const secret = ['hun', 'ter2'].join('');

  test('a value that leaves a secret name stays masked, one that comes to one is masked', () => {
    expect(made('- rename: { password: note }', { password: secret })).toMatchObject({ note: '[masked]' });
    const masked = made('- rename: { note: password }', { note: secret });
    expect(masked).toMatchObject({ password: '[masked]', tags: ['_masked'] });
    expect(JSON.stringify(made('- rename: { note: login.password }', { note: { of: secret } }))).not.toContain(secret);
  });
});

describe('a sample', () => {
  const ids = Array.from({ length: 20_000 }, () => nextId());
  const kept = (share: number, of: readonly Partial<RawRecord>[]) => {
    const parser = parserOf([{ sample: share }]);
    return of.map((more) => parser.parse(record({}, more), FROM).ok);
  };

  test('keeps its share, by event ids and by places', () => {
    for (const of of [ids.map((eventId) => ({ eventId })), ids.map((_, offset) => ({ offset }))]) {
      for (const share of [0.01, 0.1, 0.5]) {
        const part = kept(share, of).filter(Boolean).length / of.length;
        expect(Math.abs(part - share), `${share}`).toBeLessThan(4 * Math.sqrt((share * (1 - share)) / of.length));
      }
    }
  });

  test('keeps the same records whoever asks, whatever became of them, and of a smaller share no others', () => {
    const few = ids.slice(0, 500);
    const first = kept(
      0.3,
      few.map((eventId) => ({ eventId })),
    );
    expect(first.filter(Boolean).length).toBeGreaterThan(100);
    expect(
      kept(
        0.3,
        few.map((eventId) => ({ eventId, offset: 99, timeMs: AT + 9_000, mark: 'resent' as const })),
      ),
    ).toEqual(first);
    expect(
      kept(
        0.3,
        few.map((documentId) => ({ documentId, mark: 'redriven' as const })),
      ),
    ).toEqual(first);
    const fewer = kept(
      0.1,
      few.map((eventId) => ({ eventId })),
    );
    expect(fewer.every((is, i) => !is || first[i])).toBe(true);
  });
});

describe('in the roles', () => {
  const YAML = `
- where: { http.route: /health }
  drop: true
- where: { http.route: /noise }
  drop: true
  counts: true
- set: { environment: production }`;
  const ROUTES = ['/', '/health', '/noise', '/health', '/pay'];
  const records = ROUTES.map((route, offset) => record({ http: { route } }, { offset, eventId: nextId() }));

  test('the indexer acknowledges what is dropped, counts it by its own reason, and buries nothing', async () => {
    const metrics = createMetrics();
    const clock = createFakeClock(AT);
    const parser = parserOf(steps(YAML));
    const bodies: string[] = [];
    const buried: unknown[] = [];
    let acknowledged = 0;
    const indexer = createIndexer(parseConfig('', {}, 'defaults').bulk, {
      ...{ parser, tag: createTagger(), documents: createDocumentWriter(parser.time), metrics, clock, log: silentLog },
      sinks: [
        {
          name: 'collecting',
          async write(batch) {
            for (let i = 0; i < batch.count; i++) bodies.push(batch.document(i).toString());
            return [];
          },
          async close() {},
        },
      ],
      deadLetters: { put: async (letters) => void buried.push(...letters), async close() {} },
      toDeadLetter: () => {
        throw new Error('nothing is refused');
      },
    });
    const done = (count: number) => {
      acknowledged += count;
    };
    const bytes = records.reduce((sum, { value }) => sum + value!.length, 0);
    await indexer.accept({ origin: ORIGIN, records, bytes, done });
    expect(acknowledged).toBe(3);
    expect(await indexer.drain(1_000)).toBe(true);
    expect(acknowledged).toBe(5);
    expect(indexer.inFlightBytes()).toBe(0);
    expect(buried).toEqual([]);
    expect(bodies.map((body) => JSON.parse(body))).toMatchObject([
      { http: { route: '/' }, environment: 'production' },
      { http: { route: '/pay' }, environment: 'production' },
    ]);
    expect((await metrics.dropped.get()).values).toEqual([{ labels: { reason: 'configured' }, value: 3 }]);
  });

  test('the counts see what is dropped, with its changed fields, unless they are told not to', async () => {
    const metrics = createMetrics();
    const messages: CountsMessage[] = [];
    const counter = createCounter(
      parseMeasures('measures: { requests: { kind: counter, by: [http.route, environment] } }', {}, 'test.yml'),
      {
        ...{ parser: parserOf(steps(YAML)), tag: createTagger(), metrics, log: silentLog, clock: createFakeClock(AT) },
        sink: { put: async (batch) => void messages.push(...batch), async close() {} },
      },
    );
    await counter.accept({ origin: ORIGIN, records, bytes: 0, done() {} });
    await counter.publish();
    await settled();
    const [totals] = messages.flatMap((message) => (message.kind === 'totals' ? [message.totals] : []));
    const series = Object.entries(totals!.buckets[0]!.series.requests!).map(([key, cell]) => [
      key.split('\u001f')[0],
      (cell as { n: number }).n,
    ]);
    expect(new Map(series as [string, number][])).toEqual(
      new Map([
        ['/', 1],
        ['/health', 2],
        ['/pay', 1],
      ]),
    );
    expect(JSON.stringify(totals)).toContain('production');
    expect((await metrics.notCounted.get()).values).toEqual([{ labels: { reason: 'configured' }, value: 1 }]);
  });

  test('what the server refused is sent again with the steps applied', () => {
    const parser = parserOf(steps('- rename: { clientip: http.clientIp }\n- set: { environment: production }'));
    const degrade = createDegrade({ parser, tag: createTagger(), documents: createDocumentWriter(parser.time) });
    const chunk: Chunk = { ...FROM, records: [], bytes: 0, done() {} };
    const [, body] = degrade({ record: record({ clientip: '10.0.0.1' }), chunk })!
      .toString()
      .split('\n');
    expect(JSON.parse(body!)).toMatchObject({ environment: 'production', extra: { 'http.clientIp': '10.0.0.1' } });
  });
});

describe('a configuration', () => {
  test.each([
    ['- where: { service: a }', 'transforms.0: does nothing'],
    ['- { set: { host: a }, remove: [b] }', 'transforms.0: has set and remove'],
    ['- { set: { host: a }, counts: true }', 'transforms.0.counts: is for drop and sample'],
    ['- drop: true', 'would drop every record'],
    ['- drop: false', 'transforms.0.drop'],
    ['- sample: 1', 'transforms.0.sample'],
    ['- set: { timestamp: 5 }', 'decides the day'],
    ['- rename: { eventId: id }', 'names the record'],
    ['- rename: { id: eventId }', 'names the record'],
    ['- remove: [kafka.offset]', 'is written by logpipe'],
    ['- remove: [tags]', 'a step `tag` adds to it'],
    ['- set: { error.template: x }', 'is written by logpipe'],
    ['- where: { error.fingerprint: x }\n  tag: [a]', 'ask for another field'],
    ['- set: { http.status: ok }', 'found "ok"; the field is short'],
    ['- set: { http.status: 70000 }', 'the field is short'],
    ['- set: { level: loud }', 'is no level'],
    ['- set: { http: 5 }', 'is a group: http.method, http.route'],
    ['- set: { service.name: a }', 'service is a field, not a group'],
    ['- rename: { a: extra }', 'name a field in it'],
    ['- rename: { a: a.b }', 'one holds the other'],
    ['- rename: { a: _id }', 'begins with _'],
    ['- remove: [a..b]', 'is no path of a field'],
    ['- tag: [_masked]', 'logpipe’s own tags'],
    ['- tag: [error]', 'logpipe’s own tags'],
    ['- where: { message: { gte: 5 } }\n  tag: [a]', 'need a number'],
    ['- where: { http: a }\n  tag: [b]', 'is a group'],
    ['- where: { a: { matches: b } }\n  tag: [b]', 'unknown key'],
    ['- rename: { a: b, c: a }', 'would be changed again'],
    ['- remove: [b]\n- rename: { a: b }', 'would be changed again'],
    ['- set: { a: 1 }\n- set: { a: 2 }', 'would be changed again'],
    ['- set: { a: 1 }\n- rename: { a: b }', 'would get it again'],
    ['- set: { a.b: 1 }\n- remove: [a]', 'would get it again'],
  ])('%s is refused', (yaml, words) => {
    expect(() => steps(yaml)).toThrow(words);
  });

  test('with a secret is refused, and the message does not hold it', () => {
    const secret = ['Bea', 'rer eyJhbGciOi', 'JIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk'].join('');
    for (const set of [{ note: secret }, { password: 'short' }]) {
      let message = '';
      try {
        steps(`- set: ${JSON.stringify(set)}`);
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).toContain('documents hold none');
      expect(message).not.toContain(Object.values(set)[0]);
    }
  });

  test('is taken where the same field is written for other records only', () => {
    expect(
      steps('- where: { service: a }\n  rename: { a: b }\n- where: { service: b }\n  rename: { c: a }'),
    ).toHaveLength(2);
  });
});
