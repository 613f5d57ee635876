// Lines of other loggers: what their level, message and time become, and that a text inside a message forges nothing.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LINE_FORMATS } from '../../../src/parse/normalise.ts';
import { SHAPES } from '../../../src/parse/shapes.ts';
import { leaves, parse, TIME, winston } from './kit.ts';

const SECOND = '2026-11-28T14:22:41.000Z';
const RECORD = '2026-11-28T14:23:00.000Z';
const MS = Date.parse(TIME);
const INNER = `{"timestamp":"${TIME}","level":"error","message":"call failed","callId":"CA1"}`;
const PINO = `{"level":50,"time":${MS},"pid":1,"hostname":"h","msg":"call failed"}`;
const json = JSON.stringify;

/** [what, line, level, message, time] */
const LINES: [string, string | object, unknown, unknown, string][] = [
  [
    'Docker around Winston',
    { log: `${INNER}\n`, stream: 'stderr', time: '2026-11-28T14:22:42.6Z' },
    'error',
    'call failed',
    TIME,
  ],
  [
    'Docker around Pino',
    { log: `${PINO}\n`, stream: 'stdout', time: '2026-11-28T14:22:42.6Z' },
    'error',
    'call failed',
    TIME,
  ],
  [
    'Docker around logfmt',
    { log: `level=warn msg="a b" time=${TIME}\n`, stream: 'stdout', time: RECORD },
    'warn',
    'a b',
    TIME,
  ],
  [
    'Docker around JSON with no time',
    { log: '{"level":"warn","message":"x"}\r\n', stream: 'stdout', time: TIME },
    'warn',
    'x',
    TIME,
  ],
  [
    'Docker around JSON with a bad time',
    { log: '{"level":"warn","message":"x","timestamp":"?"}', stream: 'stdout', time: TIME },
    'warn',
    'x',
    TIME,
  ],
  [
    'Docker around a line cut short',
    { log: INNER.slice(0, 40), stream: 'stdout', time: TIME },
    undefined,
    INNER.slice(0, 40),
    TIME,
  ],
  [
    'Google Cloud with its time in two fields',
    { severity: 'ERROR', message: 'x', timestampSeconds: Math.floor(MS / 1000), timestampNanos: (MS % 1000) * 1e6 },
    'error',
    'x',
    TIME,
  ],
  [
    'fluent-bit around Winston',
    { date: 1795875762.607, log: INNER, kubernetes: { pod_name: 'p' } },
    'error',
    'call failed',
    TIME,
  ],
  [
    'Fluentd around Docker around Winston',
    { log: json({ log: INNER, stream: 'stdout', time: RECORD }), container_id: 'c', '@timestamp': RECORD },
    'error',
    'call failed',
    TIME,
  ],
  ['FireLens', { container_name: '/app', source: 'stdout', log: 'plain', date: TIME }, undefined, 'plain', TIME],
  ['CRI around Winston', `2026-11-28T14:22:42.607123456Z stdout F ${INNER}`, 'error', 'call failed', TIME],
  [
    'CRI, a partial line',
    `2026-11-28T14:22:41.607123456+00:00 stdout P ${INNER.slice(0, 40)}`,
    undefined,
    INNER.slice(0, 40),
    TIME,
  ],
  [
    'CRI around klog',
    '2026-11-28T14:22:42.607Z stderr F W1128 14:22:41.607000       1 a.go:9] slow',
    'warning',
    'W1128 14:22:41.607000       1 a.go:9] slow',
    TIME,
  ],
  [
    'Filebeat around Winston',
    { '@timestamp': RECORD, agent: { type: 'filebeat' }, ecs: { version: '8.0.0' }, message: INNER },
    'error',
    'call failed',
    TIME,
  ],
  [
    'journald around Winston',
    { __REALTIME_TIMESTAMP: '1795875762607000', PRIORITY: '6', MESSAGE: INNER },
    'error',
    'call failed',
    TIME,
  ],
  [
    'journald, a warning',
    { __REALTIME_TIMESTAMP: '1795875761607000', PRIORITY: '4', MESSAGE: 'x' },
    'warning',
    'x',
    TIME,
  ],
  ['syslog 5424 around Winston', `<14>1 2026-11-28T14:22:42Z h app - - - ${INNER}`, 'error', 'call failed', TIME],
  ['syslog 5424, nothing known', '<12>1 - - - - - - x', 'warning', 'x', RECORD],
  ['syslog 5424, data with brackets', `<10>1 ${TIME} h a 1 - [a b="\\"]\\]"][c] \ufeffx`, 'crit', 'x', TIME],
  ['syslog 3164', "<34>Nov 28 14:22:41 mymachine su[7]: 'su root' failed", 'crit', "'su root' failed", SECOND],
  ['syslog 3164 around CEE', `<13>Nov 28 14:22:42 h app: @cee: ${INNER}`, 'error', 'call failed', TIME],
  ['a file of rsyslog', '2026-11-28T14:22:41.607+00:00 web1 sshd[1]: closed', undefined, 'closed', TIME],
  ['rsyslog as JSON', { '@timestamp': TIME, programname: 'x', severity: '3', message: 'm' }, 'error', 'm', TIME],
  [
    'GELF, debug',
    { version: '1.1', host: 'h', short_message: 'm', timestamp: MS / 1000, level: 7 },
    'debug',
    'm',
    TIME,
  ],
  [
    'GELF, emergency',
    { version: '1.1', host: 'h', short_message: 'm', timestamp: MS / 1000, level: 0 },
    'emerg',
    'm',
    TIME,
  ],
  ['OpenTelemetry, a text body', { timeUnixNano: `${MS}000000`, severityNumber: 13, body: 'm' }, 'warn', 'm', TIME],
  [
    'OpenTelemetry, a name alone',
    { observedTimeUnixNano: MS * 1e6, severityText: 'FATAL', body: { stringValue: 'm' } },
    'fatal',
    'm',
    TIME,
  ],
  [
    'OTLP with two records',
    {
      resourceLogs: [
        {
          scopeLogs: [
            {
              logRecords: [
                { timeUnixNano: `${MS}000000`, severityNumber: 9, body: { stringValue: 'a' } },
                { timeUnixNano: `${MS}000000`, severityNumber: 18, body: { stringValue: 'b' } },
              ],
            },
          ],
        },
      ],
    },
    'error',
    'b',
    TIME,
  ],
  ['Pino, microseconds', { level: 40, time: MS * 1000, msg: 'm' }, 'warn', 'm', TIME],
  ['Pino, nanoseconds as text', { level: 30, time: `${MS}000000`, msg: 'm' }, 'info', 'm', TIME],
  ['Pino, seconds', { level: 60, time: MS / 1000, msg: 'm' }, 'fatal', 'm', TIME],
  ['Pino, labels and ISO time', { level: 'error', time: TIME, msg: 'm' }, 'error', 'm', TIME],
  ['Pino, a level of its own', { level: 35, time: MS, msg: 'm' }, 'info', 'm', TIME],
  ['Bunyan', { name: 'a', hostname: 'h', pid: 1, level: 50, msg: 'm', time: TIME, v: 0 }, 'error', 'm', TIME],
  ['zap, seconds', { level: 'dpanic', ts: MS / 1000, msg: 'm', caller: 'a.go:1' }, 'dpanic', 'm', TIME],
  ['slog, below a level', { time: TIME, level: 'DEBUG-4', msg: 'm' }, 'debug', 'm', TIME],
  ['Serilog, silent about its level', { '@t': TIME, '@mt': 'Hello, {User}', User: 'n' }, 'info', 'Hello, {User}', TIME],
  [
    'Serilog, rendered',
    { Timestamp: TIME, Level: 'Warning', MessageTemplate: 'a {b}', RenderedMessage: 'a c' },
    'warning',
    'a c',
    TIME,
  ],
  ['.NET, a number', { LogLevel: 4, Message: 'm', Timestamp: TIME }, 'error', 'm', TIME],
  [
    'Monolog, an older time',
    {
      message: 'm',
      level: 550,
      level_name: 'ALERT',
      channel: 'a',
      datetime: { date: '2026-11-28 14:22:41.607000', timezone: 'UTC' },
    },
    'alert',
    'm',
    TIME,
  ],
  ['Monolog without the name', { message: 'm', level: 200, channel: 'a', datetime: TIME }, 'info', 'm', TIME],
  [
    'python-json-logger, a number',
    { asctime: '2026-11-28 14:22:41,607', levelno: 30, message: 'm' },
    'warning',
    'm',
    TIME,
  ],
  ['structlog', { event: 'm', level: 'critical', timestamp: MS / 1000 }, 'critical', 'm', TIME],
  [
    'Google Cloud, text and parts of a time',
    {
      textPayload: 'm',
      severity: 'NOTICE',
      insertId: 'i',
      timestamp: { seconds: Math.floor(MS / 1000), nanos: 607_000_000 },
    },
    'notice',
    'm',
    TIME,
  ],
  ['Datadog', { ddsource: 'a', status: 'warn', message: 'm', date: MS }, 'warn', 'm', TIME],
  [
    'Log4j, a level as a group',
    { timeMillis: MS, level: { standardLevel: 'FATAL', intLevel: 100 }, loggerName: 'a', message: 'm' },
    'fatal',
    'm',
    TIME,
  ],
  ['Log4j, a number', { timeMillis: MS, level: 400, loggerName: 'a', message: 'm' }, 'info', 'm', TIME],
  ['java.util.logging, a number', { level: 900, message: 'm', millis: MS }, 'warning', 'm', TIME],
  ['log15', `t=x lvl=eror msg="m" ts=${TIME}`, 'error', 'm', TIME],
  [
    'Spring Boot',
    '2026-11-28T14:22:41.607Z  WARN 1 --- [main] a.B : slow',
    'warn',
    '2026-11-28T14:22:41.607Z  WARN 1 --- [main] a.B : slow',
    TIME,
  ],
  [
    'Laravel',
    '[2026-11-28 14:22:41] production.ERROR: x',
    'error',
    '[2026-11-28 14:22:41] production.ERROR: x',
    SECOND,
  ],
  [
    'PostgreSQL',
    '2026-11-28 14:22:41.607 UTC [12] FATAL:  x',
    'fatal',
    '2026-11-28 14:22:41.607 UTC [12] FATAL:  x',
    TIME,
  ],
  ['nginx', '2026/11/28 14:22:41 [crit] 1#1: x', 'crit', '2026/11/28 14:22:41 [crit] 1#1: x', SECOND],
  [
    'Elasticsearch',
    '[2026-11-28T14:22:41,607][ERROR][o.e.b.Boot] [n] x',
    'error',
    '[2026-11-28T14:22:41,607][ERROR][o.e.b.Boot] [n] x',
    TIME,
  ],
  [
    'prose behind a time',
    '2026-11-28T14:22:41.607Z user pressed ERROR button',
    undefined,
    '2026-11-28T14:22:41.607Z user pressed ERROR button',
    TIME,
  ],
  ['prose', 'level=unknown is what the user said', undefined, 'level=unknown is what the user said', RECORD],
  ['a duration called time', { level: 'warn', msg: 'm', time: 35 }, 'warn', 'm', RECORD],
  [
    'an alert of our own, with metadata',
    { timestamp: TIME, level: 'error', message: 'CRITICAL ALERT', title: 't', metadata: { level: 'x' } },
    'error',
    'CRITICAL ALERT',
    TIME,
  ],
];

describe('a line of another logger', () => {
  it.each(LINES)('%s', (_, line, level, message, time) => {
    const text = typeof line === 'string' ? line : json(line);
    const { document, tags } = parse(text);
    expect({ level: document?.level, message: document?.message, time: document?.['@timestamp'] }).toEqual({
      level,
      message,
      time,
    });
    const error = ['error', 'fatal', 'crit', 'critical', 'alert', 'emerg', 'dpanic'].includes(String(level));
    expect(tags).toEqual([...(time === RECORD ? ['_time_missing'] : []), ...(error ? ['error'] : [])]);
  });

  it.each(SHAPES.map((shape) => [shape.name, shape] as const))(
    'the example of %s is told by its own entry',
    (_, shape) => {
      const record = JSON.parse(shape.example) as Record<string, unknown>;
      if (shape.keys.length > 0) expect(shape.keys.some((key) => Object.hasOwn(record, key))).toBe(true);
      if (shape.is !== undefined) expect(shape.is(record)).toBe(true);
      const { document, tags } = parse(shape.example);
      expect(document?.['@timestamp']).toMatch(/^2026-11-28T14:22:41\.(?:607|000)Z$/);
      expect(document).toMatchObject({
        level: expect.stringMatching(/^[a-z]+$/),
        message: expect.stringMatching(/\w/),
      });
      expect(tags.filter((tag) => tag !== 'error')).toEqual([]);
    },
  );

  it.each(LINE_FORMATS.map((format) => [format.name, format] as const))(
    'the example of %s is told by its own entry',
    (_, format) => {
      expect(LINE_FORMATS.find(({ read }) => read(format.example, Date.parse(RECORD)) !== undefined)).toBe(format);
      expect(parse(format.example).tags.filter((tag) => tag !== 'error' && tag !== '_time_missing')).toEqual([]);
    },
  );

  it('an unknown scale makes no error', () => {
    const known = [50, 60, 1000];
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: -10, max: 1200 }), fc.double({ noNaN: true, noDefaultInfinity: true })),
        fc.boolean(),
        (level, asText) => {
          fc.pre(!known.includes(level));
          const { tags, document } = parse(
            json({ timestamp: TIME, level: asText ? String(level) : level, message: 'm' }),
          );
          expect(tags).not.toContain('error');
          expect(leaves(document)).toContain(Object.is(level, -0) && !asText ? '0' : String(level));
        },
      ),
    );
  });
});

describe('JSON in a message', () => {
  const PROTECTED = [
    'level',
    'timestamp',
    '@timestamp',
    'time',
    'tags',
    'service',
    'environment',
    'host',
    'tenantId',
    'eventId',
    'event',
    'error',
    'call',
    'http',
    'queue',
    'db',
    'process',
    'system',
    'message',
    'kafka',
  ];
  /** Other names under which the same would come in. */
  const ALIASES = [
    'severity',
    'ts',
    'msg',
    'err',
    'stack',
    'exception',
    'log.level',
    'call.status',
    'error.name',
    'service.name',
    'hostname',
    'fields',
    'metadata',
    'jsonPayload',
    '@t',
    '@l',
    'ecs',
    'dd',
    'log',
  ];

  it('adds what is lacking to a record that has a level, and sets nothing that it has or that only a record may say', () => {
    const value = fc.oneof(
      fc.constantFrom('fatal', 'victim', 'call.ended', 60, '2026-11-20T00:00:00.000Z'),
      fc.dictionary(
        fc.constantFrom(...PROTECTED, ...ALIASES, 'status', 'name'),
        fc.constantFrom('fatal', 'failed', 'victim', '2026-11-20T00:00:00.000Z'),
        { maxKeys: 4 },
      ),
    );
    const inner = fc.dictionary(fc.constantFrom(...PROTECTED, ...ALIASES, 'callId'), value, { maxKeys: 6 });
    fc.assert(
      fc.property(inner, fc.constantFrom('message', 'msg', 'log'), fc.boolean(), (fields, key, twice) => {
        const text = json(twice ? { message: json(fields) } : fields);
        const record = { timestamp: TIME, level: 'info', tenantId: 't1', [key]: text };
        const { document, tags } = parse(json(record));
        // A value that fits no field may tag it; the record's own fields are what it said.
        const said = PROTECTED.filter((name) => name !== 'tags' && document?.[name] !== undefined);
        const own = Object.fromEntries(said.map((name) => [name, document?.[name]]));
        expect(own).toEqual({ '@timestamp': TIME, timestamp: TIME, level: 'info', tenantId: 't1', message: text });
        expect(tags).not.toContain('error');
      }),
      { numRuns: 1_000 },
    );
  });

  it('is no record of its own where the header has an id', () => {
    const id = '01J00000000000000000000000';
    const line = json({ timestamp: TIME, eventId: id, message: '{"level":"fatal","a":1}' });
    expect(parse(line, id).document).toMatchObject({ a: 1, extra: { level: 'fatal' } });
    expect(parse(line, id).document).not.toHaveProperty('level');
    expect(parse(line).document).toMatchObject({ level: 'fatal', a: 1, eventId: id });
  });

  it('adds fields that are lacking, and keeps those that are not', () => {
    const { document, tags } = parse(
      winston('"callId":"outer"').replace('"m"', json('{"callId":"inner","orderId":7}')),
    );
    expect(document).toMatchObject({
      callId: 'outer',
      orderId: 7,
      message: '{"callId":"inner","orderId":7}',
      extra: { callId: 'inner' },
    });
    expect(tags).toEqual([]);
  });

  it('of a wrapper is the record; the wrapper fills gaps and loses nothing', () => {
    const { document } = parse(
      json({
        log: `${INNER}\n`,
        stream: 'stderr',
        time: '2026-11-28T14:22:42.607123456Z',
        callId: 'outer',
        host: 'web1',
        call: { status: 'busy' },
      }),
    );
    expect(document).toMatchObject({
      level: 'error',
      callId: 'CA1',
      host: 'web1',
      stream: 'stderr',
      call: { status: 'busy' },
      extra: { timestamp: '2026-11-28T14:22:42.607123456Z', callId: 'outer' },
    });
  });
});
