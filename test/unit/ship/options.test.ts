// Options: what is refused and how, what the defaults are.
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { LogpipeError } from '../../../src/core/errors.ts';
import { type KafkaTransportOptions, transportSettings } from '../../../src/ship/options.ts';

const GOOD: KafkaTransportOptions = { brokers: ['kafka:9092'], service: 'api' };

test('defaults', () => {
  const settings = transportSettings(GOOD);
  expect(settings).toMatchObject({
    topic: 'calling-platform-logs',
    level: 'info',
    clientId: 'api',
    compression: 'none',
    maxRecordBytes: 1_000_000,
    batch: { maxRecords: 500, maxBytes: 500_000, maxDelayMs: 100 },
    pid: process.pid,
  });
  expect(settings.spool).toBeUndefined();
  expect(transportSettings({ ...GOOD, spool: { dir: 'spool' } }).spool).toEqual({
    ...{ dir: resolve('spool'), maxBytes: 512 * 1024 * 1024, segmentBytes: 8 * 1024 * 1024 },
  });
  expect(settings.environment).toBe(process.env.NODE_ENV);
  expect(Object.isFrozen(settings)).toBe(true);
});

const sasl = (value: object) => ({ sasl: value }) as unknown as Partial<KafkaTransportOptions>;

test.each<[Partial<KafkaTransportOptions> | Record<string, unknown>, RegExp]>([
  [{ brokers: [] }, /brokers is \[\]; permitted: a list/],
  [{ brokers: ['http://kafka:9092'] }, /brokers is "http:\/\/kafka:9092"; permitted: host:port/],
  [{ service: ' ' }, /service is " "; permitted: a non-empty text/],
  [{ topic: 'a b' }, /topic is "a b"; permitted: up to 249/],
  [{ compression: 'zstd' }, /compression is "zstd"; permitted: none, gzip, snappy, lz4/],
  [{ batch: { maxRecords: 0 } }, /batch\.maxRecords is 0; permitted: a whole number from 1 to 10000/],
  [{ batch: { maxRecord: 5 } }, /batch\.maxRecord is not an option; permitted: maxRecords, maxBytes, maxDelayMs/],
  [{ queue: { maxBytes: Number.NaN } }, /queue\.maxBytes is null/],
  [{ spool: 'spool' }, /spool is "spool"; permitted: an object of dir, maxBytes, segmentBytes/],
  [{ spool: { dir: '' } }, /spool\.dir is ""; permitted: a non-empty text/],
  [{ spool: { dir: 'a', maxbytes: 1 } }, /spool\.maxbytes is not an option; permitted: dir, maxBytes, segmentBytes/],
  [{ spool: { dir: 'a', maxBytes: 1_000 } }, /spool\.maxBytes is 1000; permitted: a whole number from 4194304 to /],
  [{ spool: { dir: 'a', segmentBytes: 0.5 } }, /spool\.segmentBytes is 0\.5; permitted: a whole number from 65536 to /],
  [{ maxRecordBytes: 2_000_000 }, /maxRecordBytes is 2000000; permitted: a whole number from 1000 to 1000000/],
  [{ mask: { patterns: ['('] } }, /mask\.patterns is "\("; permitted: the source of a regular expression/],
  [
    { mask: { patterns: ['(a+)+b'] } },
    /mask\.patterns is "\(a\+\)\+b" and may take exponential time, since a repeated part/,
  ],
  [{ mask: { phoneNumbers: 'yes' } }, /mask\.phoneNumbers is "yes"; permitted: true or false/],
  [
    { mask: { phones: true } },
    /mask\.phones is not an option; permitted: keys, patterns, phoneNumbers, emailAddresses/,
  ],
  [{ brocker: 'x' }, /brocker is not an option/],
  [{ sasl: { mechanism: 'magic' } }, /sasl\.mechanism is "magic"; permitted: plain/],
])('%j is refused', (options, message) => {
  const make = () => transportSettings({ ...GOOD, ...options } as KafkaTransportOptions);
  expect(make).toThrow(message);
  expect(make).toThrow(expect.objectContaining({ code: 'LOGPIPE_TRANSPORT_OPTIONS' }));
});

test.each([
  [{ cert: 'nonsense' }, /ssl fails \(error:.*\); permitted: certificates and keys in PEM/],
  [{ pfx: Buffer.from('x'), passphrase: 4711 }, /ssl fails/],
])('TLS files that cannot be used are refused at once: %j', (ssl, message) => {
  const make = () => transportSettings({ ...GOOD, ssl } as unknown as KafkaTransportOptions);
  expect(make).toThrow(message);
  expect(make).not.toThrow(/4711/);
});

test('a refused password is not shown', () => {
  const bad = sasl({ mechanism: 'plain', username: 'u', password: ['hunter2'] });
  try {
    transportSettings({ ...GOOD, ...bad });
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(LogpipeError);
    expect(String(error)).not.toContain('hunter2');
  }
});
