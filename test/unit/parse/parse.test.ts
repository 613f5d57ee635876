import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLineParser, type ParsedLine } from '../../../src/cli/parse.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';

const RECORD_MS = Date.parse('2026-11-24T10:00:00.000Z');
const CONFIG = {
  parse: { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 },
  mask: { keys: ['doorCode'], patterns: ['\\bPAT-\\d{6}\\b'] },
  transforms: [],
};
const ORIGIN = { kind: 'kafka', topic: 'calling-platform-logs', partition: 3 } as const;

const parseLine = createLineParser(CONFIG);
const forElasticsearch = createLineParser(CONFIG, { duplicatesRefused: true });

/** As the pipeline parses for Elasticsearch alone. */
function parseForElasticsearch(line: string): ParsedLine {
  const record = { value: Buffer.from(line), offset: 42, timeMs: RECORD_MS, eventId: undefined };
  return forElasticsearch(record, ORIGIN);
}

function parse(value: string | Buffer | null, eventId?: string): ParsedLine {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return parseLine({ value: bytes, offset: 42, timeMs: RECORD_MS, eventId }, ORIGIN);
}

function parseJson(doc: Record<string, unknown>, eventId?: string): ParsedLine {
  return parse(JSON.stringify({ timestamp: '2026-11-24T09:59:59.123Z', level: 'info', message: 'm', ...doc }), eventId);
}

describe('shapes', () => {
  it('takes a Winston line on the fast path, byte for byte, behind what logpipe adds', () => {
    const result = parseJson({ callId: 'CA1', call: { status: 'completed', durationMs: 5 } });
    expect(result.path).toBe('fast');
    expect(result.index).toBe('calling-platform-2026.11.24');
    expect(result.document).toEqual({
      '@timestamp': '2026-11-24T09:59:59.123Z',
      kafka: { topic: 'calling-platform-logs', partition: 3, offset: 42 },
      timestamp: '2026-11-24T09:59:59.123Z',
      level: 'info',
      message: 'm',
      callId: 'CA1',
      call: { status: 'completed', durationMs: 5 },
    });
  });

  it.each([
    [
      'ECS',
      {
        '@timestamp': '2026-11-24T09:59:59.123Z',
        'log.level': 'ERROR',
        message: 'boom',
        ecs: { version: '8.10.0' },
        service: { name: 'calling-platform' },
        process: { pid: 12 },
        error: { type: 'TypeError', message: 'x is not a function', stack_trace: 'TypeError: x\n at y' },
      },
    ],
    [
      'winston-elasticsearch',
      {
        '@timestamp': '2026-11-24T09:59:59.123Z',
        severity: 'error',
        message: 'boom',
        fields: {
          service: 'calling-platform',
          pid: 12,
          error: { name: 'TypeError', message: 'x is not a function', stack: 'TypeError: x\n at y' },
        },
      },
    ],
    [
      'pino',
      {
        level: 50,
        time: Date.parse('2026-11-24T09:59:59.123Z'),
        msg: 'boom',
        service: 'calling-platform',
        pid: 12,
        err: { type: 'TypeError', message: 'x is not a function', stack: 'TypeError: x\n at y' },
      },
    ],
  ])('reads %s as the same document', (_, line) => {
    const { document, tags } = parse(JSON.stringify(line));
    expect(tags).toEqual(['error']);
    expect(document).toMatchObject({
      '@timestamp': '2026-11-24T09:59:59.123Z',
      level: 'error',
      message: 'boom',
      service: 'calling-platform',
      pid: 12,
      error: { name: 'TypeError', message: 'x is not a function', stack: 'TypeError: x\n at y', template: 'boom' },
    });
  });

  it.each([
    ['fatal', true],
    ['crit', true],
    ['alert', true],
    ['emerg', true],
    ['err', true],
    ['ERROR', true],
    [50, true],
    [60, true],
    ['warning', false],
    ['notice', false],
    ['info', false],
    [40, false],
    ['debug', false],
  ])('level %s is an error: %s', (level, error) => {
    expect(parseJson({ level }).tags.includes('error')).toBe(error);
  });

  it('keeps plain text as a message, and says when JSON is broken', () => {
    expect(parse('server listening on :3000')).toMatchObject({
      tags: ['_time_missing'],
      document: { message: 'server listening on :3000' },
    });
    for (const broken of ['{"level":"info","message":"cut of', '[1,2,3]', '"text"', '{"a":1}{"b":2}']) {
      expect(parse(broken)).toMatchObject({ tags: ['_parse_failed', '_time_missing'], document: { message: broken } });
    }
  });

  it('refuses nothing but tombstones, blanks and the oversized', () => {
    expect(parse(null)).toMatchObject({ path: 'refused', reason: 'null_value' });
    expect(parse('  \n')).toMatchObject({ path: 'refused', reason: 'empty_value' });
    expect(parse(Buffer.alloc(5_000_001, 97))).toMatchObject({ path: 'refused', reason: 'too_large' });
  });
});

describe('time', () => {
  it.each([
    ['2026-11-24T09:59:59Z', '2026-11-24T09:59:59.000Z'],
    ['2026-11-24T10:59:59.5+01:00', '2026-11-24T09:59:59.500Z'],
    ['2026-11-24 09:59:59,123', '2026-11-24T09:59:59.123Z'],
    ['2026-11-24T09:59:59.123456789Z', '2026-11-24T09:59:59.123Z'],
    [1795514399123, '2026-11-24T09:59:59.123Z'],
    [1795514399, '2026-11-24T09:59:59.000Z'],
  ])('reads %s', (timestamp, expected) => {
    const { document, tags } = parseJson({ timestamp });
    expect(document?.['@timestamp']).toBe(expected);
    expect(tags).toEqual([]);
  });

  it.each([
    ['yesterday', '_time_missing'],
    [null, '_time_missing'],
    ['2026-02-30T00:00:00.000Z', '_time_missing'],
    [{}, '_time_missing'],
    ['0001-01-01T00:00:00.000Z', '_time_out_of_range'],
    ['9999-12-31T23:59:59.999Z', '_time_out_of_range'],
    ['2026-11-24T10:10:00.001Z', '_time_out_of_range'],
    ['2026-10-25T09:59:59.999Z', '_time_out_of_range'],
  ])('%s: the record time stands in, tagged %s', (timestamp, tag) => {
    const { document, tags, index } = parseJson({ timestamp });
    expect(document?.['@timestamp']).toBe('2026-11-24T10:00:00.000Z');
    expect(index).toBe('calling-platform-2026.11.24');
    expect(tags).toContain(tag);
  });

  it('takes the day from the event, not from the record', () => {
    expect(parseJson({ timestamp: '2026-11-23T23:59:59.999Z' }).index).toBe('calling-platform-2026.11.23');
  });
});

describe('what must leave the fast path', () => {
  it.each([
    ['pretty-printed JSON', '{\n "timestamp":"2026-11-24T09:59:59.123Z",\n "level":"info","message":"m"}'],
    ['a bulk action inside', '{"level":"info"}\n{"delete":{"_index":"calling-platform-2026.11.24","_id":"1"}}'],
    [
      'an @timestamp of its own',
      '{"timestamp":"2026-11-24T09:59:59.123Z","@timestamp":"x","level":"info","message":"m"}',
    ],
    ['tags of its own', '{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"m","tags":["a"]}'],
    ['kafka of its own', '{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"m","kafka":{"offset":1}}'],
    ['an escaped key', '{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"m","t\\u0061gs":["a"]}'],
    ['a wrong catalogue type', '{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"m","pid":{"a":1}}'],
    [
      'a wrong nested type',
      '{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"m","call":{"durationMs":"long"}}',
    ],
  ])('%s', (_, line) => {
    const result = parse(line);
    expect(result.path).toBe('slow');
    expect(result.document?.kafka).toEqual({ topic: 'calling-platform-logs', partition: 3, offset: 42 });
  });

  it('both paths make the same document of the same line', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom(
            'callId',
            'tenantId',
            'userId',
            'custom',
            'nested',
            'n',
            'call',
            'http',
            'pid',
            'activeCalls',
          ),
          fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.record({ status: fc.string(), durationMs: fc.nat() })),
        ),
        (fields) => {
          const line = JSON.stringify({
            timestamp: '2026-11-24T09:59:59.123Z',
            level: 'info',
            message: 'm',
            ...fields,
          });
          // A blank in front forces the slow path without changing what the line says.
          const [fast, slow] = [parse(line), parse(` ${line}`)];
          expect(slow.path).toBe('slow');
          expect(fast.document).toEqual(slow.document);
          expect(fast.index).toBe(slow.index);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('degrading', () => {
  it('moves a conflicting catalogue value to extra and tags it', () => {
    const { document, tags } = parseJson({ pid: 'twelve', call: 'none', http: { status: 'ok', route: '/a' } });
    expect(tags).toEqual(['_mapping_degraded']);
    expect(document).toMatchObject({
      http: { route: '/a' },
      extra: { pid: 'twelve', call: 'none', 'http.status': 'ok' },
    });
    expect(document).not.toHaveProperty('pid');
    expect(document).not.toHaveProperty('call');
  });

  it('reads numbers and booleans given as text', () => {
    const { document, tags } = parseJson({ http: { status: '503', durationMs: '1.5' }, call: { voicemail: 'true' } });
    expect(tags).toEqual([]);
    expect(document).toMatchObject({ http: { status: 503, durationMs: 1.5 }, call: { voicemail: true } });
  });

  it('keeps a field explosion out of the mapping', () => {
    const fields = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`f${i}`, i]));
    const { document, tags } = parseJson(fields);
    expect(tags).toEqual(['_mapping_degraded']);
    expect(Object.keys(document ?? {}).length).toBeLessThan(20);
    expect(Object.keys(document?.extra as object)).toHaveLength(500);
    expect(String(document?.extraRaw).length).toBe(8_192);
  });

  it('survives what would break a serialiser or a prototype', () => {
    const deep = `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`;
    const { document } = parse(
      `{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"m","deep":${deep},"x":"\\u0041"}`,
    );
    expect(document).toMatchObject({ level: 'info', message: 'm' });

    const polluting = parse(
      '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"message":"m"}',
    );
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(JSON.stringify(polluting.document)).toContain('"__proto__"');
  });

  it('replaces text that is no Unicode', () => {
    expect(
      parse(Buffer.concat([Buffer.from('{"message":"a'), Buffer.from([0xff, 0xfe]), Buffer.from('b"}')])),
    ).toMatchObject({
      document: { message: 'a\uFFFD\uFFFDb' },
      tags: expect.arrayContaining(['_parse_failed']),
    });
    expect(parse('{"message":"a\\ud800b"}').document?.message).toBe('a\uFFFDb');
  });
});

describe('events', () => {
  it('tags a violated contract and loses nothing', () => {
    const event = {
      event: 'call.ended',
      callId: 'CA1',
      call: { direction: 'outbound', status: 'exploded', durationMs: 1, attempt: 1 },
    };
    expect(parseJson(event).tags).toEqual(['_event_invalid']);
    expect(parseJson({ ...event, call: { ...event.call, status: 'busy' } }).tags).toEqual([]);
    expect(parseJson({ event: 'something.else' }).tags).toEqual([]);
  });
});

describe('secrets', () => {
  it.each([
    ['a key', { password: 'hunter2' }],
    ['a key in disguise', { 'X-Api-Key': 'hunter2' }],
    ['a nested key', { headers: { Authorization: 'hunter2' } }],
    ['a configured key', { 'door-code': 'hunter2' }],
    ['text', { message: 'login with password=hunter2 failed' }],
    ['quoted text', { message: 'sent {"token": "x hunter2"}' }],
    ['JSON in message', { message: JSON.stringify({ cvv: 'hunter2', message: 'paid' }) }],
    ['a URL', { url: 'mongodb://app:hunter2@db/calls' }],
    ['a bearer token', { header: 'Bearer hunter2hunter2' }],
    ['a JWT', { note: 'eyJhbGciOiJIUzI1NiJ9.hunter2.sig' }],
    ['a configured pattern', { note: 'PAT-123456' }],
    ['a Slack webhook', { note: 'https://hooks.slack.com/services/T0/B0/hunter2' }],
  ])('are masked in %s', (_, fields) => {
    const line = JSON.stringify({ timestamp: '2026-11-24T09:59:59.123Z', level: 'info', message: 'm', ...fields });
    for (const parsed of [parse(line), parseForElasticsearch(line)]) {
      expect(JSON.stringify(parsed.document)).not.toMatch(/hunter2|PAT-123456/);
      expect(JSON.stringify(parsed.document)).toContain('[masked]');
      expect(parsed.tags).toContain('_masked');
    }
  });

  it('are seen in the first of two values under one key, unless the sink refuses such a line', () => {
    const line = '{"timestamp":"2026-11-24T09:59:59.123Z","level":"info","message":"pwd=hunter2","message":"m"}';
    expect(parse(line)).toMatchObject({ path: 'slow', document: { message: 'm' } });
    // test/integration/elasticsearch.test.ts shows that Elasticsearch takes no such line.
    expect(parseForElasticsearch(line).path).toBe('fast');
  });

  it('either way of looking finds what masking would change', () => {
    const masker = createMasker(CONFIG.mask);
    const word = fc.constantFrom('password', 'token', 'apiKey', 'pin', 'doorCode', 'a', 'note');
    const text = fc.oneof(
      fc.tuple(word, fc.constantFrom('=', ': ', ' ', '":"'), fc.string()).map((parts) => parts.join('')),
      fc.string(),
      fc.constantFrom('Bearer abcdefgh', 'PAT-123456', 'https://u:p@h/'),
    );
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof({ maxDepth: 4 }, text, fc.integer(), fc.array(tie('value'), { maxLength: 3 }), tie('object')),
      object: fc.dictionary(word, tie('value'), { maxKeys: 3 }),
    }));
    fc.assert(
      fc.property(fc.dictionary(fc.oneof(word, fc.constantFrom('call', 'message', 'host')), value), (fields) => {
        const line = { timestamp: '2026-11-24T09:59:59.123Z', level: 'info', ...fields };
        const { path } = parseForElasticsearch(JSON.stringify(line));
        if (path === 'fast') expect(masker.value(line)).toBe(line);
      }),
      { numRuns: 2_000 },
    );
  });

  it('are masked behind an escaped key name', () => {
    const { document } = parse('{"p\\u0061ssword":"hunter2","level":"info"}');
    expect(document).toMatchObject({ password: '[masked]' });
  });

  it('are not seen in what only counts or names them', () => {
    const { document, tags } = parseJson({ promptTokens: 512, tokenExpiresAt: 'x', hasPassword: true });
    expect(tags).toEqual([]);
    expect(document).toMatchObject({ promptTokens: 512, tokenExpiresAt: 'x', hasPassword: true });
  });

  it('the raw test never misses what masking would find', () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ maxDepth: 4 }),
        fc.constantFrom('password', 'apiKey', 'x_secret', 'pin', 'Cookie'),
        (value, key) => {
          const { document } = parseJson({ wrapped: { [key]: `s3cr3t${JSON.stringify(value).slice(0, 5)}`, value } });
          expect(document?.wrapped).toHaveProperty([key], '[masked]');
        },
      ),
    );
  });
});

describe('any bytes', () => {
  it('never throw and always end in a document or a reason', () => {
    const jsonish = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
      fc.json({ maxDepth: 6 }).map((text) => Buffer.from(text.slice(0, -1))),
      fc.object({ withBigInt: false, withDate: false }).map((value) => Buffer.from(JSON.stringify(value))),
      fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
    );
    fc.assert(
      fc.property(jsonish, (bytes) => {
        const result = parse(bytes);
        if (result.path === 'refused') expect(['null_value', 'empty_value']).toContain(result.reason);
        else expect(result.index).toMatch(/^calling-platform-\d{4}\.\d\d\.\d\d$/);
      }),
      { numRuns: 2_000 },
    );
  });
});
