// Calls and what becomes of them, through real Winston loggers: the table of docs/transport.md, row by row, for the ready-made
// logger and for the bare transport behind the usual formats; and the property behind it: nothing that was said vanishes.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { format as formatText } from 'node:util';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import winston from 'winston';
import Transport from 'winston-transport';
import { packageRoot } from '../../../src/core/package-root.ts';
import { AttachedTransport } from '../../../src/ship/attached.ts';
import { createLogger, type KafkaTransport } from '../../../src/ship/index.ts';
import { createRecordBuilder, type Info, MESSAGE } from '../../../src/ship/log-record.ts';
import { transportSettings } from '../../../src/ship/options.ts';

const { combine, timestamp, json, errors, splat, metadata, logstash, colorize } = winston.format;
type Log = (logger: any, error: Error, other: Error) => void;
type Fields = Record<string, any>;

const OURS = ['timestamp', 'service', 'environment', 'host', 'pid', 'eventId'];

/** The records without what every record has. */
function told(records: readonly Fields[]): Fields[] {
  return records.map((record) => {
    const said = Object.entries(record).filter(([key]) => !OURS.includes(key));
    return JSON.parse(JSON.stringify(Object.fromEntries(said), (key, value) => (key === 'stack' ? undefined : value)));
  });
}

const errorsOf = () => {
  const cause = new TypeError('the cause');
  return {
    error: Object.assign(new RangeError('too much', { cause }), { code: 'E_MUCH' }),
    other: new SyntaxError('another'),
  };
};

function readyMade(log: Log): Fields[] {
  const lines: string[] = [];
  class Collect extends Transport {
    override log(info: Info, next: () => void) {
      lines.push(info[MESSAGE] as string);
      next();
    }
  }
  const logger = createLogger({ brokers: ['127.0.0.1:1'], service: 'api', console: false, file: false });
  onTestFinished(async () => void (await (logger.transports[0] as KafkaTransport).close()));
  (logger.transports[0] as KafkaTransport).silent = true;
  logger.add(new Collect());
  const { error, other } = errorsOf();
  log(logger, error, other);
  return lines.map((line) => JSON.parse(line));
}

function bare(format: winston.Logform.Format, log: Log): Fields[] {
  const build = createRecordBuilder(transportSettings({ brokers: ['kafka:9092'], service: 'api' }));
  const records: Fields[] = [];
  class Collect extends AttachedTransport {
    override take(info: Info) {
      records.push(JSON.parse(build(info).line));
    }
    override alone() {}
  }
  const { error, other } = errorsOf();
  const transport = new Collect({ warn: (message) => expect.fail(message) });
  log(winston.createLogger({ format, transports: [transport] }), error, other);
  return records;
}

const FORMATS: [string, () => winston.Logform.Format][] = [
  ['json', () => json()],
  ['timestamp, errors, json', () => combine(timestamp(), errors({ stack: true }), json())],
  ['metadata, json', () => combine(timestamp(), metadata(), json())],
  ['logstash', () => combine(timestamp(), logstash())],
  ['colours, json', () => combine(colorize(), json())],
];

const page = readFileSync(join(packageRoot(), 'docs/transport.md'), 'utf8');
const rows = [...page.matchAll(/^\| `(logger\..*?)` \| `(\{.*?\})` \|(.*)$/gm)].map(([, call, record, bareNote]) => ({
  call: call!.replaceAll('\\|', '|'),
  record: JSON.parse(record!) as Fields,
  same: !bareNote!.includes('lost'),
}));

test('the page has the table', () => expect(rows.length).toBeGreaterThan(20));

test.each(rows)('as documented: $call', ({ call, record, same }) => {
  const log = new Function('logger', 'error', 'other', call) as Log;
  const expected: Fields = { level: 'info', ...record };
  expect(told(readyMade(log))).toEqual([expected]);
  if (!same) return;
  for (const [name, format] of FORMATS) {
    // Throws itself for a level without a colour.
    if (name.startsWith('colours') && call.includes('fatal')) continue;
    const [found] = told(bare(format(), log));
    // format.errors() keeps neither the name of an error that is logged alone nor its code in it.
    if (expected.error?.code && found!.error && found!.code) {
      const { code, ...rest } = found!;
      expect({ name, ...rest, error: { ...rest.error, code } }).toEqual({ name, ...expected });
    } else expect({ name, ...found }).toEqual({ name, ...expected });
  }
});

test('behind format.splat(), what it leaves is neither doubled nor torn', () => {
  const calls: [string, Log, Fields][] = [
    ['filled', (logger) => logger.info('user %s', 'bob', { a: 1 }), { message: 'user bob', a: 1 }],
    ['percent', (logger) => logger.info('%d%% of %s', 50, 'x'), { message: '50% of x' }],
    ['text', (logger) => logger.info('user', 'bob'), { message: 'user', extra: { args: ['bob'] } }],
    ['metadata', (logger) => logger.info('m', { a: 1 }), { message: 'm', a: 1 }],
  ];
  for (const [what, log, record] of calls) {
    expect({ what, ...told(bare(combine(splat(), json()), log))[0] }).toEqual({ what, level: 'info', ...record });
  }
});

test('a text that format.colorize() has wrapped is without its colours again, one of the application keeps its own', () => {
  const log: Log = (logger) => {
    logger.info('two\nlines', { a: 1 });
    logger.error('m', { message: 'inside' });
    logger.info('one \u001b[31mred\u001b[39m word');
  };
  const [two, one] = told(bare(combine(colorize({ all: true }), json()), log));
  expect(two).toEqual({ level: 'info', message: 'two\nlines', a: 1 });
  expect(one).toEqual({ level: 'error', message: 'm', extra: { message: 'inside' } });
  expect(told(bare(json(), log))[2]!.message).toBe('one \u001b[31mred\u001b[39m word');
});

test('an error keeps its causes in every way it can be logged', () => {
  const calls: Log[] = [
    (logger, error) => logger.error(error),
    (logger, error) => logger.error('m', error),
    (logger, error) => logger.error('m', { a: 1 }, error),
    (logger, error) => logger.error('m', { err: error }),
    (logger, error) => logger.child({ a: 1 }).error(error),
    (logger, error) => logger.child({ a: 1 }).error('m', error),
    (logger, error) => logger.child({ err: error }).error('m'),
    (logger, error) => logger.log({ level: 'error', message: error }),
    (logger, error) => logger.log('error', error),
  ];
  for (const log of calls) {
    for (const records of [readyMade(log), bare(json(), log), bare(combine(metadata(), json()), log)]) {
      expect(records[0]!.error).toMatchObject({ name: 'RangeError', message: 'too much' });
      expect(records[0]!.error.stack).toMatch(/^RangeError: too much[\s\S]*\nCaused by: TypeError: the cause/);
      expect([records[0]!.cause, records[0]!.stack]).toEqual([undefined, undefined]);
    }
  }
});

test('beside an error, fields that only have the names of its parts stay', () => {
  const log: Log = (logger, error) => {
    logger.child({ name: 'worker', cause: 'mine' }).error('m', new Error('no cause'));
    logger.error('m', error, { stack: { a: 1 } }, { code: 5 });
  };
  for (const records of [readyMade(log), bare(json(), log)]) {
    expect(records[0]).toMatchObject({ name: 'worker', cause: 'mine', error: { name: 'Error', message: 'no cause' } });
    expect(records[1]).toMatchObject({ message: 'm', stack: { a: 1 }, code: 5, error: { code: 'E_MUCH' } });
  }
});

test('tokens are filled as util.format fills them', () => {
  const value = fc.oneof(fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.constant(null), fc.bigInt());
  const token = fc.constantFrom('%s', '%d', '%i', '%f', '%o', '%O', '%%', 'text', ' ');
  fc.assert(
    fc.property(fc.array(token), fc.array(value, { minLength: 1, maxLength: 4 }), (parts, args) => {
      const template = parts.join('');
      const tokens = parts.filter((part) => /^%[sdifoO]$/.test(part)).length;
      const [record] = readyMade((logger) => logger.info(template, ...args));
      // util.format appends what is over, and needs an argument to look at the text at all.
      const bare =
        tokens === 0 ? formatText(template, '').slice(0, -1) : formatText(template, ...args.slice(0, tokens));
      expect(record!.message).toBe(bare);
    }),
    { numRuns: 200, examples: [[['%O'], [-0]]] },
  );
});

test('nothing that was said vanishes, and nothing replaces level or message', () => {
  let n = 0;
  const unique = () => `said-${n++}-end`;
  const argument = fc.oneof(
    fc.constant(() => unique()),
    fc.constant(() => [unique(), unique()]),
    fc
      .constantFrom('a', 'b', 'level', 'message', 'callId', 'extra', 'error', 'stack')
      .map((key) => () => ({ [key]: unique() })),
    fc.constant(() => ({ a: { b: [unique()] }, tags: [unique()] })),
    fc.constant(() => new Error(unique())),
    fc.constant(() => ({ err: new Error(unique()) })),
    fc.constant(() => new Map([['k', unique()]])),
    fc.constant(() => new URL(`http://host/${unique()}`)),
  );
  const message = fc.constantFrom('m', 'disk 90%full', '%s', '%s and %d', '%j', '100%%', '');
  fc.assert(
    fc.property(message, fc.array(argument, { maxLength: 4 }), fc.boolean(), (text, make, isChild) => {
      const args = make.map((one) => one());
      const said = new Set(describe(args).match(/said-\d+-end/g) ?? []);
      const log: Log = (logger) => (isChild ? logger.child({ child: 1 }) : logger).warn(text, ...args);
      for (const [record] of [readyMade(log), bare(json(), log), bare(combine(timestamp(), metadata(), json()), log)]) {
        const line = JSON.stringify(record);
        expect([...said].filter((one) => !line.includes(one))).toEqual([]);
        expect(record!.level).toBe('warn');
        expect(record!.message.slice(0, 1)).toBe(
          text === '%s' || text === '%s and %d' || text === '%j' ? record!.message.slice(0, 1) : text.slice(0, 1),
        );
      }
    }),
    { numRuns: 300 },
  );
});

function describe(args: unknown): string {
  return JSON.stringify(args, (_key, value) => {
    if (value instanceof Error) return value.message;
    return value instanceof Map ? [...value] : value;
  });
}
