// From Winston's info objects to records: the fast path says what the slow one says, and nothing an application logs hurts.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import winston from 'winston';
import Transport from 'winston-transport';
import { isEventId } from '../../../src/core/record.ts';
import {
  createRecordBuilder,
  type Info,
  LEVEL,
  MESSAGE,
  type ShipRecord,
  SPLAT,
} from '../../../src/ship/log-record.ts';
import { type KafkaTransportOptions, transportSettings } from '../../../src/ship/options.ts';

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5, 6);
const { combine, timestamp, json, printf, colorize, errors } = winston.format;

function builder(options: Partial<KafkaTransportOptions> = {}) {
  const settings = transportSettings({ brokers: ['kafka:9092'], service: 'api', environment: 'test', ...options });
  return createRecordBuilder(settings, () => NOW);
}

/** What a real Winston logger hands to its transports, as records. */
function records(
  log: (logger: winston.Logger) => void,
  options: { format?: winston.Logform.Format; transport?: Partial<KafkaTransportOptions>; meta?: object } = {},
): { raw: ShipRecord; json: Record<string, any> }[] {
  const build = builder(options.transport);
  const out: { raw: ShipRecord; json: Record<string, any> }[] = [];
  class Collect extends Transport {
    override log(info: Info, next: () => void) {
      const raw = build(info);
      out.push({ raw, json: JSON.parse(raw.line) });
      next();
    }
  }
  const logger = winston.createLogger({
    format: options.format ?? combine(timestamp(), json()),
    transports: [new Collect()],
    ...(options.meta === undefined ? {} : { defaultMeta: options.meta }),
  });
  log(logger);
  return out;
}

test('a plain record: our fields in front, the metadata as logged, key and id', () => {
  const [record] = records((logger) => logger.info('hello', { callId: 'c1', call: { durationMs: 5 }, tags: ['a'] }), {
    transport: { version: '1.2', tenantId: 't1' },
  });
  expect(record!.json).toEqual({
    ...{ service: 'api', environment: 'test', version: '1.2', tenantId: 't1' },
    ...{ host: expect.any(String), pid: process.pid, eventId: record!.raw.eventId },
    ...{ timestamp: expect.any(String), level: 'info', message: 'hello' },
    ...{ callId: 'c1', call: { durationMs: 5 }, tags: ['a'] },
  });
  expect(isEventId(record!.raw.eventId)).toBe(true);
  expect(record!.raw.key).toBe('c1');
  expect(record!.raw.bytes).toBe(Buffer.byteLength(record!.raw.line));
});

test('without a time stamp in the format one is added; fields of the record win, except eventId, which is in extra', () => {
  const log = (logger: winston.Logger) => logger.warn('x', { service: 'worker', eventId: 'mine', version: 2 });
  const [record] = records(log, { format: json(), transport: { version: '1' } });
  expect(record!.json).toMatchObject({ service: 'worker', version: 2, timestamp: new Date(NOW).toISOString() });
  expect(record!.json.eventId).toBe(record!.raw.eventId);
  expect(record!.raw.line.match(/"eventId"/g)).toHaveLength(2);
  expect(record!.json.extra).toEqual({ eventId: 'mine' });
});

test('the fast path and the slow path give the same record', () => {
  const plain = fc.dictionary(
    fc.string(),
    fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.boolean(), fc.constant(null), fc.array(fc.string())),
  );
  fc.assert(
    fc.property(plain, fc.string({ unit: 'binary' }), (meta, message) => {
      const info: Info = { ...meta, level: 'info', message, timestamp: 't', [LEVEL]: 'info' };
      const fast = JSON.parse(builder()({ ...info, [MESSAGE]: JSON.stringify(info) }).line);
      const slow = JSON.parse(builder()(info).line);
      expect({ ...fast, eventId: '' }).toEqual({ ...slow, eventId: '' });
    }),
    { numRuns: 500 },
  );
});

test('a template that is no JSON, pretty-printed JSON, plain text and colours become one line of JSON', () => {
  const template = printf(({ level, message }) => `{"level":"${level}","message":"${message}"}`);
  for (const format of [
    template,
    json({ space: 2 }),
    printf(({ message }) => `> ${message}`),
    combine(colorize(), json()),
  ]) {
    const all = records((logger) => logger.info('say "hi"\nthere', { n: 1 }), { format });
    expect(all[0]!.json).toMatchObject({ level: 'info', message: 'say "hi"\nthere', n: 1 });
    expect(all[0]!.raw.line).not.toContain('\n');
  }
});

test('a template is caught even after the probation', () => {
  const format = printf(({ level, message }) => `{"level":"${level}","message":"${message}"}`);
  const all = records(
    (logger) => {
      for (let i = 0; i < 100; i++) logger.info(`fine ${i}`);
      logger.info('a "quote"');
    },
    { format },
  );
  expect(all.at(-1)!.json.message).toBe('a "quote"');
});

test.each<[string, (logger: winston.Logger, error: Error) => void]>([
  ['as second argument', (logger, error) => logger.error('saving', error)],
  ['as the message', (logger, error) => logger.error(error as unknown as string)],
  ['under err', (logger, error) => logger.error('saving', { err: error })],
  ['under error', (logger, error) => logger.error('saving', { error })],
])('an error with causes %s', (_how, log) => {
  for (const format of [combine(timestamp(), json()), combine(errors({ stack: true }), json())]) {
    const cause = new AggregateError([new TypeError('inner one')], 'both failed');
    const error = Object.assign(new RangeError('too much', { cause }), { code: 'E_MUCH' });
    const [record] = records((logger) => log(logger, error), { format });
    const { error: fields, stack, err, code } = record!.json;
    expect(fields).toMatchObject({ message: 'too much' });
    expect(fields.name).toBe('RangeError');
    expect(fields.stack).toContain('RangeError: too much');
    expect([stack, err]).toEqual([undefined, undefined]);
    expect(record!.json.message).toMatch(/saving|too much/);
    // format.errors flattens an error that is the message and keeps neither its causes nor what it was.
    if (fields.code === undefined) expect(code).toBe('E_MUCH');
    else {
      expect(fields.code).toBe('E_MUCH');
      expect(fields.stack).toMatch(/Caused by: AggregateError: both failed[\s\S]*Holds: TypeError: inner one/);
    }
  }
});

test('an error object logged twice gets two ids', () => {
  const error = new Error('again');
  const all = records((logger) => {
    logger.error(error as unknown as string);
    logger.error(error as unknown as string);
  });
  expect(new Set(all.map(({ json }) => json.eventId)).size).toBe(2);
});

test('strange values survive', () => {
  const circular: Record<string, unknown> = { name: 'loop' };
  circular.self = circular;
  const throwing = {
    get boom() {
      throw new Error('getter');
    },
    fine: 1,
  };
  const proxy = new Proxy(
    {},
    {
      ownKeys: () => {
        throw new Error('trap');
      },
      get: () => {
        throw new Error('trap');
      },
    },
  );
  const info: Info = {
    level: 'info',
    [LEVEL]: 'info',
    message: 'odd',
    circular,
    throwing,
    proxy,
    big: 12345678901234567890n,
    bytes: Buffer.from('abc'),
    map: new Map<unknown, unknown>([['k', new Set([1])]]),
    date: new Date(Number.NaN),
    fn: function named() {},
    symbol: Symbol('s'),
    nan: Number.NaN,
    regexp: /a/g,
    json: {
      toJSON: () => {
        throw new Error('toJSON');
      },
    },
    nested: { cause: new Error('deep') },
    url: new URL('http://example.org/'),
    __proto__x: 1,
    [SPLAT]: [],
  };
  const record = JSON.parse(builder()(info).line);
  expect(record).toMatchObject({
    circular: { name: 'loop', self: '[Circular]' },
    throwing: { boom: '[unreadable]', fine: 1 },
    proxy: '[unreadable]',
    big: '12345678901234567890',
    bytes: 'YWJj',
    map: { k: [1] },
    date: 'Invalid Date',
    fn: '[function named]',
    symbol: 'Symbol(s)',
    nan: 'NaN',
    regexp: '/a/g',
    url: 'http://example.org/',
    nested: { cause: { name: 'Error', message: 'deep' } },
  });
});

test('whatever is logged is one line of JSON within the limit, and nothing throws', () => {
  const build = builder({ maxRecordBytes: 2_000 });
  const hostile = fc.anything({
    withBigInt: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
    withObjectString: true,
    withSparseArray: true,
    withUnicodeString: true,
    maxDepth: 5,
  } as fc.ObjectConstraints);
  fc.assert(
    fc.property(fc.dictionary(fc.string(), hostile), hostile, (meta, message) => {
      const { line, bytes } = build({ ...meta, level: 'info', [LEVEL]: 'info', message });
      expect(line).not.toMatch(/[\n\r]/);
      expect(bytes).toBe(Buffer.byteLength(line));
      expect(bytes).toBeLessThanOrEqual(2_000);
      expect(JSON.parse(line)).toMatchObject({
        level: 'info',
        message: expect.any(String),
        eventId: expect.any(String),
      });
    }),
    { numRuns: 1_000 },
  );
});

test('a 2 MB message is cut by bytes and says so', () => {
  const message = 'ü€😀'.repeat(230_000);
  const [record] = records((logger) => logger.info(message, { event: 'big', tags: 'one' }));
  expect(record!.raw.bytes).toBeLessThanOrEqual(1_000_000);
  expect(record!.raw.bytes).toBeGreaterThan(999_000);
  expect(record!.json).toMatchObject({ event: 'big', tags: ['one', '_truncated'], level: 'info' });
  expect(record!.json.originalBytes).toBeGreaterThan(2_000_000);
  expect(message.startsWith(record!.json.message)).toBe(true);
  expect(record!.json.message.isWellFormed()).toBe(true);
});

test('a long stack and long metadata are cut too, the rest is kept', () => {
  const error = Object.assign(new Error('m'.repeat(500)), { stack: 's'.repeat(50_000) });
  const options = { transport: { maxRecordBytes: 5_000 } };
  const [record] = records((logger) => logger.error('failed', { err: error, list: Array(9_000).fill('x') }), options);
  expect(record!.raw.bytes).toBeLessThanOrEqual(5_000);
  expect(record!.json).toMatchObject({ message: 'failed', tags: ['_truncated'], error: { name: 'Error' } });
});

test('secrets are masked and tagged, other text is not', () => {
  const [hit, miss] = records(
    (logger) => {
      logger.info('login with password=hunter2', { headers: { authorization: 'Bearer abcdefgh' }, doorCode: '1234' });
      logger.info('password reset requested', { tokens: 12 });
    },
    { transport: { mask: { keys: ['doorCode'] } } },
  );
  expect(hit!.raw.line).not.toMatch(/hunter2|abcdefgh|1234"/);
  expect(hit!.json.tags).toEqual(['_masked']);
  expect(miss!.json).toMatchObject({ message: 'password reset requested', tokens: 12 });
  expect(miss!.json.tags).toBeUndefined();
});
