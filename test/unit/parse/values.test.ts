// What a record said is what its document says: no value gone, none changed, whichever path it took.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIELDS } from '../../../src/core/catalogue.ts';
import { SHAPE_KEYS, USUAL_NAMES } from '../../../src/parse/shapes.ts';
import { itemOf, leaves, missing, parse, TIME, winston } from './kit.ts';

const ID = '01J00000000000000000000000';
const OTHER_ID = '01J00000000000000000000001';

describe('nothing vanishes', () => {
  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    [
      'ECS http beside its version and bytes',
      {
        'ecs.version': '8',
        http: { version: '1.1', request: { method: 'PUT' }, response: { status_code: 404, body: { bytes: 12 } } },
      },
      { http: { method: 'PUT', status: 404, version: '1.1', response: { body: { bytes: 12 } } } },
    ],
    [
      'ECS names with dots',
      {
        'ecs.version': '8',
        'service.name': 's',
        'service.version': '2',
        'service.environment': 'p',
        'service.id': 'i',
      },
      { service: 's', version: '2', environment: 'p', extra: { 'service.id': 'i' } },
    ],
    [
      'an ECS event and host',
      { ecs: { version: '8' }, event: { dataset: 'd' }, host: { name: 'h', ip: ['10.0.0.1'] } },
      { host: 'h', extra: { 'event.dataset': 'd', 'host.ip': ['10.0.0.1'] } },
    ],
    [
      'moved fields that meet others',
      {
        log: { level: 'debug' },
        userId: 'u1',
        user: { id: 'u2' },
        pid: 1,
        process: { pid: 2 },
        stack: 's',
        error: { stack: 't' },
      },
      {
        level: 'info',
        userId: 'u1',
        user: { id: 'u2' },
        pid: 1,
        process: { pid: 2 },
        error: { stack: 't' },
        stack: 's',
      },
    ],
    ['fields to unfold that meet others', { a: 1, fields: { a: 2, b: 3 } }, { a: 1, b: 3, extra: { 'fields.a': 2 } }],
    ['a kafka of its own', { kafka: { topic: 'orders', lag: 5 } }, { extra: { kafka: { topic: 'orders', lag: 5 } } }],
    ['a kafka beside an extra of that name', { kafka: 1, extra: { kafka: 2 } }, { extra: { kafka: 2, kafka_2: 1 } }],
    ['an extraRaw of its own', { extraRaw: 'mine' }, { extraRaw: 'mine' }],
    ['tags that are none', { tags: [{ a: 1 }] }, { extra: { tags: [{ a: 1 }] } }],
    [
      'a dotted name whose group is a text',
      { 'service.id': 'i', service: 's' },
      { service: 's', extra: { 'service.id': 'i' } },
    ],
    [
      'a dotted name that is taken',
      { call: { status: 'busy' }, 'call.status': 'x' },
      { call: { status: 'busy' }, extra: { 'call.status': 'x' } },
    ],
    [
      'a second time',
      { '@timestamp': '2026-11-28T14:20:00.000Z' },
      { extra: { '@timestamp': '2026-11-28T14:20:00.000Z' } },
    ],
    ['a number with zeros in front', { pid: '007' }, { pid: 7, extra: { pid: '007' } }],
    ['JSON in msg', { message: undefined, msg: '{"a":1}' }, { message: '{"a":1}', a: 1 }],
  ])('%s', (_, fields, want) => {
    const line = JSON.stringify({ timestamp: TIME, level: 'info', message: 'm', ...fields });
    const { document, tags } = parse(line);
    expect(document).toMatchObject({ '@timestamp': TIME, ...want });
    expect(tags).toEqual([]);
    expect(missing(line, document)).toEqual([]);
  });

  it('takes the readable time of two, and keeps the other', () => {
    const bad = '28/Nov/2026:14:19:18';
    for (const line of [
      { timestamp: bad, '@timestamp': TIME },
      { timestamp: bad, time: TIME },
      { '@timestamp': bad, ts: TIME },
    ]) {
      const { document, tags } = parse(JSON.stringify({ ...line, level: 'info', message: 'm' }));
      expect(document?.['@timestamp']).toBe(TIME);
      expect(leaves(document)).toContain(bad);
      expect(tags).toEqual([]);
    }
  });

  it('keeps both values of a key given twice, and says so', () => {
    for (const [line, lost] of [
      [winston('"a":1,"a":2'), { a: 1 }],
      [winston('"call":{"status":"busy","status":"failed"}'), { 'call.status': 'busy' }],
      [winston('"message":"second"'), { message: 'm' }],
      [winston('"a\\\\":1,"b":1,"b":2'), { b: 1 }],
    ] as const) {
      const { document, tags, path } = parse(line);
      expect(path).toBe('slow');
      expect(document?.extra).toEqual(lost);
      expect(tags).toEqual(['_mapping_degraded']);
    }
  });

  it('every value is in the document, or the document is tagged', () => {
    const catalogue = Object.entries(FIELDS).flatMap(([name, inner]) =>
      typeof inner === 'string' ? [name] : [name, ...Object.keys(inner).map((leaf) => `${name}.${leaf}`)],
    );
    const names = [...catalogue, ...SHAPE_KEYS, ...Object.values(USUAL_NAMES).flat()].filter(
      (name) => name !== 'extraRaw',
    );
    const key = fc.oneof(
      fc.constantFrom(...names),
      fc.string({ maxLength: 5 }),
      fc.constantFrom('name', 'version', 'id', 'level'),
    );
    let number = 0;
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        // Every leaf differs, or its loss would not show.
        fc.constant(0).map(() => `leaf${++number}`),
        fc.constant(0).map(() => ++number),
        fc.constantFrom('error', 'INFO', 50, 3, TIME, 1795875761607, 1795875761.607, '2026-11-28 14:22:41,607'),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(key, tie('value'), { maxKeys: 4 }),
        fc.dictionary(key, tie('value'), { maxKeys: 4 }).map((inner) => JSON.stringify(inner)),
      ),
    }));
    fc.assert(
      fc.property(fc.dictionary(key, value, { maxKeys: 8 }), (record) => {
        const line = JSON.stringify(record);
        const { document, tags } = parse(line);
        // A name drawn at random may be that of a secret.
        if (!tags.includes('_mapping_degraded') && !tags.includes('_masked'))
          expect(missing(line, document)).toEqual([]);
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('numbers', () => {
  const NUMBERS = [
    '9007199254740993',
    '1234567890123456789',
    '-0',
    '-0.0',
    '1e400',
    '1E5',
    '1.50',
    '0.10000000000000000555',
  ];

  it.each(NUMBERS)('%s is written as it was, on both paths', (token) => {
    const fields = `"orderId":${token},"nested":{"n":[${token},{"a":${token}}]}`;
    const [fast, slow] = [itemOf(winston(fields)), itemOf(` ${winston(fields)}`)];
    expect(fast).toContain(fields);
    // 1.50 alone is no reason to read numbers by their text.
    if (token === '1.50') expect(slow).toContain('"orderId":1.5,');
    else expect(slow).toContain(fields);
  });

  it('keep their text in extra, in groups, in JSON in a message, and when the record is degraded', () => {
    const big = '12345678901234567890';
    for (const line of [
      winston(`"pid":${big}`),
      winston(`"http":{"bytes":${big}}`),
      winston(`"fields":{"a":${big}}`),
      winston(`"extra":{"a":${big}}`),
      `{"message":"{\\"a\\":${big}}"}`,
      winston(Array.from({ length: 101 }, (_, i) => `"k${i}":${big}`).join()),
    ]) {
      expect(itemOf(line)).toContain(`:${big}`);
    }
  });

  it('are numbers for whoever counts with them', () => {
    const { document } = parse(` ${winston('"call":{"durationMs":1e3},"http":{"durationMs":0.10000000000000000555}')}`);
    expect(document).toMatchObject({ call: { durationMs: 1000 }, http: { durationMs: 0.1 } });
  });
});

describe('text', () => {
  it('that spells a surrogate stays; one that is a lone surrogate becomes U+FFFD', () => {
    const line = `2026-11-28 14:22:41 INFO request body {"text":"hi \\ud83d\\ude00 \\ud800"}`;
    expect(parse(line).document?.message).toBe(line);
    expect(itemOf(winston('"a":"\\\\ud83d \\ud83d \\ud83d\\ude00"'))).toContain('"a":"\\\\ud83d \ufffd 😀"');
  });
});

describe('the id', () => {
  it('is the header’s where the record says another', () => {
    const line = winston(`"eventId":"${OTHER_ID}"`);
    const { path, document } = parse(line, ID);
    expect(path).toBe('slow');
    expect(document).toMatchObject({ eventId: ID, extra: { eventId: OTHER_ID } });
    expect(itemOf(line, ID)).toContain(`"_id":"${ID}"`);
    expect(itemOf(winston(`"eventId":"${ID}"`), ID)).toContain(`"_id":"${ID}"`);
    expect(parse(winston(`"eventId":"${ID}"`), ID).path).toBe('fast');
    expect(itemOf(winston(`"eventId":"${ID}"`))).toContain('"_id":"app.log-42"');
  });
});

describe('unknown keys', () => {
  it.each(['', ' '])('100 stay, of 101 all go to extra (on the path behind %j)', (blank) => {
    const keys = (n: number) => Array.from({ length: n }, (_, i) => `k${i}`);
    const line = (n: number) =>
      `${blank}${winston(
        keys(n)
          .map((key) => `"${key}":1`)
          .join(),
      )}`;
    const hundred = parse(line(100));
    expect(hundred).toMatchObject({ path: blank === '' ? 'fast' : 'slow', tags: [] });
    expect(Object.keys(hundred.document!)).toEqual(expect.arrayContaining(keys(100)));
    expect(hundred.document).not.toHaveProperty('extra');
    const more = parse(line(101));
    expect(more).toMatchObject({ path: 'slow', tags: ['_mapping_degraded'] });
    expect(Object.keys(more.document!.extra as object)).toEqual(keys(101));
    expect(more.document).not.toHaveProperty('k0');
  });
});

describe('dates', () => {
  /** `strict_date_optional_time` as its documentation has it, for the years that four digits hold. */
  function elasticsearchTakes(value: unknown): boolean {
    if (typeof value === 'number') return Number.isInteger(value);
    const match = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,]\d{1,9})?)?)?(Z|[+-]\d\d:\d\d)?)?$/.exec(
      String(value),
    );
    if (match === null) return false;
    const [, year, month, day, hour = '0', minute = '0', second = '0', zone = 'Z'] = match;
    const days = new Date(Date.UTC(2000 + (Number(year) % 400), Number(month), 0)).getUTCDate();
    const [zoneHours, zoneMinutes] = zone === 'Z' ? [0, 0] : [Number(zone.slice(1, 3)), Number(zone.slice(4))];
    return (
      Number(month) >= 1 &&
      Number(month) <= 12 &&
      Number(day) >= 1 &&
      Number(day) <= days &&
      Number(hour) <= 23 &&
      Number(minute) <= 59 &&
      Number(second) <= 59 &&
      zoneMinutes <= 59 &&
      zoneHours * 60 + zoneMinutes <= 18 * 60
    );
  }

  const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'));
  const zone = fc.oneof(
    fc.constantFrom('', 'Z', 'z', ' UTC', '+18:00', '+18:01', '-19:00', '+0530', '+05', '-23:59'),
    fc
      .tuple(fc.constantFrom('+', '-', ' +'), two(25), fc.constantFrom(':', ''), two(61))
      .map((parts) => parts.join('')),
  );
  const time = fc
    .tuple(
      fc.constantFrom('2026', '2026', '0000', '9999'),
      fc.constant('-'),
      two(13),
      fc.constant('-'),
      two(32),
      fc.oneof(
        fc.constant(''),
        fc.tuple(fc.constantFrom('T', ' ', 't'), two(25), fc.constant(':'), two(61)).map((parts) => parts.join('')),
        fc
          .tuple(
            fc.constantFrom('T', ' '),
            fc.constantFrom('24', '23', '00'),
            fc.constantFrom(':00:00', ':59:60', ':59:59'),
            fc.constantFrom('', '.000', ',123', '.1234567'),
          )
          .map((parts) => parts.join('')),
      ),
      zone,
    )
    .map((parts) => parts.join(''));
  const any = fc.oneof(
    time,
    fc.constantFrom('2026-11-27T24:00:00.000Z'),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
    fc.bigInt({ min: 0n, max: 10n ** 20n }).map(String),
    fc.constantFrom(1795875761607, 1795875761.607, 1795875761607000, '1795875761607000000'),
  );

  it('that are sent are dates to Elasticsearch, and those that were not are kept', () => {
    fc.assert(
      fc.property(any, fc.constantFrom('timestamp', '@timestamp', 'time'), (value, key) => {
        const line = JSON.stringify({ [key]: value, level: 'info', message: 'm' });
        const { document } = parse(line);
        const sent = document?.timestamp;
        if (sent !== undefined) expect(elasticsearchTakes(sent), String(sent)).toBe(true);
        expect(elasticsearchTakes(document?.['@timestamp'])).toBe(true);
        // In document or extra, and the same moment.
        expect(missing(line, document)).toEqual([]);
        if (sent !== undefined && sent !== value) expect(Object.values(document?.extra as object)).toContain(value);
      }),
      { numRuns: 3_000 },
    );
  });

  it.each([
    ['2026-11-27T24:00:00.000Z', '2026-11-28T00:00:00.000Z'],
    ['2026-11-28T08:20:00.000+18:01', '2026-11-27T14:19:00.000Z'],
    ['2026-11-28T14:22:41.607+0000', TIME],
    ['2026-11-28 14:22:41.607 UTC', TIME],
  ])('%s is sent as %s, with no tag', (timestamp, want) => {
    for (const blank of ['', ' ']) {
      const { document, tags } = parse(`${blank}${JSON.stringify({ timestamp, level: 'info', message: 'm' })}`);
      expect(document).toMatchObject({ '@timestamp': want, timestamp: want, extra: { timestamp } });
      expect(tags).toEqual([]);
    }
  });
});

describe('both paths', () => {
  it('make the same bytes of the same line, whatever its keys', () => {
    const key = fc.constantFrom(
      ...SHAPE_KEYS,
      ...Object.values(USUAL_NAMES).flat(),
      'custom',
      'call',
      'http',
      'pid',
      'host',
      'error',
      'kafka',
      'extra',
    );
    const value = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.constantFrom('error', TIME, 50, '{"a":1}'),
      fc.dictionary(
        fc.constantFrom('level', 'name', 'type', 'stack', 'stack_trace', 'version', 'status', 'message', 'a'),
        fc.oneof(fc.string(), fc.integer()),
      ),
    );
    fc.assert(
      fc.property(fc.dictionary(key, value, { maxKeys: 5 }), (fields) => {
        const line = JSON.stringify({ ...fields, timestamp: TIME, level: 'info', message: 'm' });
        const [fast, slow] = [parse(line), parse(` ${line}`)];
        expect(fast.document).toEqual(slow.document);
        expect(fast.tags).toEqual(slow.tags);
        if (fast.path === 'fast') expect(JSON.stringify(fast.document)).toBe(JSON.stringify(slow.document));
      }),
      { numRuns: 2_000 },
    );
  });
});
