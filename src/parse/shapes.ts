// What other loggers write, one short entry each: how their records are recognised, and which values belong in which of our
// fields. normalise.ts works from this table, and docs/shapes.md is generated from it. LINE_FORMATS in normalise.ts does the same
// for lines that are not JSON.
//
// To add another logger, add an entry with one of its lines as `example`, run `npm run generate`, and see in docs/shapes.md what
// became of the line. A path such as `log.level` finds the nested value as well as the key with a dot in it. No entry can lose a
// value: what is not moved stays where it was, and what finds its new place taken goes to `extra`.
import { EVENTS } from '../core/catalogue.ts';
import type { LevelScaleName } from './conform.ts';
import { isObject } from './json.ts';

type Json = Record<string, unknown>;

export interface Shape {
  /** Heading in docs/shapes.md. */
  readonly name: string;
  readonly example: string;
  /** Top-level keys; every record of this shape has one of them. */
  readonly keys: readonly string[];
  /** Does this record have the shape? Default: every record with one of the keys does. */
  readonly is?: (doc: Json) => boolean;
  /** Groups whose contents belong to the top level. */
  readonly unfold?: readonly string[];
  /** Where the level is, best first; `level` and the usual names are tried after these. */
  readonly level?: readonly string[];
  /** What a number means as a level. */
  readonly scale?: LevelScaleName;
  /** The level of a record that gives none. */
  readonly silent?: string;
  /** Where the message is when there is no `message`. */
  readonly message?: readonly string[];
  /**
   * Where the event time is when there is no readable `timestamp` or `@timestamp`; in any form and unit that conform.ts reads.
   */
  readonly time?: readonly string[];
  /** Other values: where they are -> where they belong. */
  readonly moves?: Readonly<Record<string, string>>;
  /**
   * A wrapper around what somebody else wrote: a JSON document in its message is the record, and the wrapper's own fields fill
   * gaps. `always`: even when the wrapper has a level, which then says nothing about the message.
   */
  readonly wraps?: 'without a level' | 'always';
  /** Of a wrapper: a JSON document in it that has no message is left without one. */
  readonly lendsNoMessage?: true;
  /** Rebuilds the record before anything else is done; returns a new object. */
  readonly rebuild?: (doc: Json) => Json;
}

const isText = (value: unknown): value is string => typeof value === 'string';
const has = (doc: Json, ...keys: string[]): boolean => keys.some((key) => doc[key] !== undefined);

/** In the order in which they are applied; a record may have several shapes. */
export const SHAPES: readonly Shape[] = [
  // Wrappers: what runs containers and ships logs.
  {
    name: 'Docker (`json-file`)',
    example:
      '{"log":"{\\"level\\":\\"error\\",\\"message\\":\\"call failed\\",\\"callId\\":\\"CA1\\"}\\n","stream":"stdout","time":"2026-11-28T14:22:41.607123456Z"}',
    keys: ['log'],
    is: (doc) => isText(doc.log) && !has(doc, 'message', 'msg'),
    message: ['log'],
    time: ['time'],
    wraps: 'without a level',
  },
  {
    name: 'fluent-bit, Fluentd, FireLens',
    example:
      '{"date":1795875761.607,"log":"{\\"level\\":\\"warn\\",\\"message\\":\\"queue is long\\"}\\n","stream":"stdout","kubernetes":{"pod_name":"calls-1"}}',
    keys: ['log'],
    is: (doc) => isText(doc.log) && has(doc, 'date', 'kubernetes', 'container_name', 'container_id'),
    time: ['date'],
    wraps: 'without a level',
  },
  {
    name: 'Filebeat and other Beats',
    example:
      '{"@timestamp":"2026-11-28T14:22:42.000Z","@metadata":{"beat":"filebeat"},"agent":{"type":"filebeat"},"log":{"offset":0},"message":"{\\"level\\":\\"error\\",\\"message\\":\\"call failed\\",\\"timestamp\\":\\"2026-11-28T14:22:41.607Z\\"}","ecs":{"version":"8.0.0"},"host":{"name":"web1"}}',
    keys: ['@metadata', 'ecs', 'beat'],
    is: ({ '@metadata': metadata, agent, beat }) =>
      (isObject(metadata) && isText(metadata.beat)) ||
      (isObject(agent) && isText(agent.type) && agent.type.endsWith('beat')) ||
      isObject(beat),
    moves: { 'host.name': 'host' },
    wraps: 'without a level',
  },
  {
    name: 'A line that `logpipe ship` read',
    example:
      '{"shippedLine":"time=2026-11-28T14:22:41.607Z level=error msg=\\"call failed\\" callId=CA1","service":"calls","environment":"production","host":"web1"}',
    keys: ['shippedLine'],
    is: (doc) => isText(doc.shippedLine) && !has(doc, 'message', 'msg'),
    message: ['shippedLine'],
    wraps: 'always',
    lendsNoMessage: true,
  },
  {
    name: 'journald (`journalctl -o json`)',
    example:
      '{"__REALTIME_TIMESTAMP":"1795875761607000","PRIORITY":"3","MESSAGE":"disk failed","_PID":"411","SYSLOG_IDENTIFIER":"kernel","_HOSTNAME":"web1"}',
    keys: ['MESSAGE', '__REALTIME_TIMESTAMP', 'PRIORITY'],
    is: (doc) =>
      has(doc, 'MESSAGE') && has(doc, '__REALTIME_TIMESTAMP', 'PRIORITY', 'SYSLOG_IDENTIFIER') && !has(doc, 'message'),
    level: ['PRIORITY'],
    scale: 'syslog',
    message: ['MESSAGE'],
    time: ['__REALTIME_TIMESTAMP', '_SOURCE_REALTIME_TIMESTAMP'],
    moves: { _HOSTNAME: 'host', _PID: 'pid' },
    wraps: 'always',
  },
  {
    name: 'syslog as JSON (rsyslog, syslog-ng)',
    example:
      '{"@timestamp":"2026-11-28T14:22:41.607Z","host":"web1","programname":"sshd","severity":3,"facility":"auth","message":"banner line too long"}',
    keys: ['programname', 'syslogtag', 'syslogseverity', 'syslog_severity', 'PROGRAM'],
    level: ['severity', 'syslogseverity-text', 'syslogseverity', 'syslog_severity', 'PRIORITY'],
    scale: 'syslog',
    message: ['MESSAGE'],
    wraps: 'always',
  },

  // Winston and its formats.
  {
    name: 'winston-elasticsearch',
    example:
      '{"@timestamp":"2026-11-28T14:22:41.607Z","severity":"error","message":"call failed","fields":{"callId":"CA1"}}',
    keys: ['fields'],
    is: ({ fields }) => isObject(fields),
    unfold: ['fields'],
  },
  {
    name: 'Winston, `format.logstash()`',
    example:
      '{"@fields":{"callId":"CA1","level":"error"},"@message":"call failed","@timestamp":"2026-11-28T14:22:41.607Z"}',
    keys: ['@fields', '@message'],
    unfold: ['@fields'],
    message: ['@message'],
  },
  {
    name: 'Winston, `format.metadata()`',
    example:
      '{"level":"error","message":"call failed","metadata":{"callId":"CA1","timestamp":"2026-11-28T14:22:41.607Z"}}',
    keys: ['metadata'],
    // It leaves nothing else at the top level; any other `metadata` is the application's own.
    is: (doc) =>
      isObject(doc.metadata) &&
      Object.keys(doc).every((key) => ['level', 'message', 'metadata', 'timestamp', 'eventId'].includes(key)),
    unfold: ['metadata'],
  },
  {
    name: 'Winston, `format.colorize()` before `json()`',
    example: '{"timestamp":"2026-11-28T14:22:41.607Z","level":"\\u001b[31merror\\u001b[39m","message":"call failed"}',
    keys: [],
  },

  // Schemas.
  {
    name: 'Elastic Common Schema (`@elastic/ecs-winston-format`)',
    example:
      '{"@timestamp":"2026-11-28T14:22:41.607Z","log.level":"error","message":"call failed","ecs":{"version":"8.10.0"},"service":{"name":"calls","version":"1.4.2"},"http":{"request":{"method":"POST"},"response":{"status_code":502}},"error":{"type":"TypeError","message":"x is not a function","stack_trace":"TypeError: x\\n at y"}}',
    keys: ['ecs', 'ecs.version', 'log', 'log.level'],
    is: (doc) => has(doc, 'ecs', 'ecs.version', 'log.level') || isObject(doc.log),
    level: ['level', 'log.level', 'log.syslog.severity.name'],
    moves: {
      'service.name': 'service',
      'service.version': 'version',
      'service.environment': 'environment',
      'host.hostname': 'host',
      'host.name': 'host',
      'process.pid': 'pid',
      'trace.id': 'traceId',
      'user.id': 'userId',
      'error.type': 'error.name',
      'error.stack_trace': 'error.stack',
      'http.request.method': 'http.method',
      'http.response.status_code': 'http.status',
    },
  },
  {
    name: 'OpenTelemetry: a line of the OTLP/JSON file exporter',
    example:
      '{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"calls"}}]},"scopeLogs":[{"scope":{"name":"app"},"logRecords":[{"timeUnixNano":"1795875761607000000","severityNumber":17,"severityText":"ERROR","body":{"stringValue":"call failed"}}]}]}]}',
    keys: ['resourceLogs'],
    rebuild: fromOtlp,
  },
  {
    name: 'OpenTelemetry: a log record',
    example:
      '{"timeUnixNano":"1795875761607000000","severityNumber":17,"severityText":"Error","body":{"stringValue":"call failed"},"attributes":[{"key":"exception.type","value":{"stringValue":"TypeError"}}],"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}',
    keys: ['severityNumber', 'severityText', 'timeUnixNano', 'observedTimeUnixNano', 'resourceLogs'],
    rebuild: withPlainAttributes,
    level: ['severityNumber', 'severityText', 'severity_number', 'severity_text'],
    scale: 'otel',
    message: ['body.stringValue', 'body'],
    time: ['timeUnixNano', 'observedTimeUnixNano', 'timestamp', 'observedTimestamp'],
    moves: openTelemetryMoves('attributes', 'resource.attributes', 'resource'),
  },
  {
    name: 'OpenTelemetry: names in capitals',
    example:
      '{"Timestamp":"1795875761607000000","SeverityText":"ERROR","SeverityNumber":17,"Body":"call failed","TraceId":"5b8efff798038103d269b633813fc60c","Resource":{"service.name":"calls"},"Attributes":{"exception.type":"TypeError"}}',
    keys: ['SeverityText', 'SeverityNumber', 'Body'],
    level: ['SeverityNumber', 'SeverityText'],
    scale: 'otel',
    message: ['Body.stringValue', 'Body'],
    time: ['Timestamp', 'TimeUnixNano', 'ObservedTimestamp'],
    moves: { TraceId: 'traceId', ...openTelemetryMoves('Attributes', 'Resource.Attributes', 'Resource') },
  },
  {
    name: 'GELF (Graylog)',
    example:
      '{"version":"1.1","host":"web1","short_message":"call failed","full_message":"call failed\\nat dial","timestamp":1795875761.607,"level":3,"_callId":"CA1"}',
    keys: ['short_message'],
    scale: 'syslog',
    message: ['short_message'],
    // The version of the format, not of the application.
    moves: { version: 'extra.gelfVersion' },
  },
  {
    name: 'Google Cloud: structured logs and LogEntry',
    example:
      '{"insertId":"1x","jsonPayload":{"message":"call failed","callId":"CA1"},"severity":"ERROR","timestamp":"2026-11-28T14:22:41.607Z","logName":"projects/p/logs/l"}',
    keys: ['jsonPayload', 'textPayload', 'insertId', 'logName'],
    unfold: ['jsonPayload'],
    message: ['textPayload'],
    time: ['receiveTimestamp'],
  },
  {
    name: 'Datadog',
    example:
      '{"ddsource":"nodejs","ddtags":"env:prod","hostname":"web1","service":"calls","status":"error","message":"call failed","date":1795875761607}',
    keys: ['ddsource', 'ddtags', 'dd'],
    level: ['level', 'status'],
    time: ['date'],
    moves: {
      hostname: 'host',
      'dd.service': 'service',
      'dd.env': 'environment',
      'dd.version': 'version',
      'dd.trace_id': 'traceId',
    },
  },

  // Node.js.
  {
    name: 'Pino and Bunyan',
    example:
      '{"name":"calls","hostname":"web1","pid":12,"level":50,"msg":"call failed","err":{"type":"TypeError","message":"x is not a function","stack":"TypeError: x\\n at y"},"time":1795875761607,"v":0}',
    keys: ['msg', 'time'],
    is: (doc) => has(doc, 'msg', 'v') && !isText(doc.level),
    scale: 'pino',
    moves: { hostname: 'host' },
  },
  {
    name: 'NestJS',
    example:
      '{"level":"error","pid":1,"timestamp":1795875761607,"message":"call failed","context":"App","stack":"Error: x\\n at y"}',
    keys: ['stack'],
    moves: { stack: 'error.stack' },
  },
  {
    name: 'tslog',
    example:
      '{"0":"call failed","_meta":{"date":"2026-11-28T14:22:41.607Z","logLevelId":5,"logLevelName":"ERROR","hostname":"web1"}}',
    keys: ['_meta'],
    is: (doc) => isObject(doc._meta) && has(doc._meta, 'logLevelName', 'logLevelId'),
    level: ['_meta.logLevelName'],
    message: ['0'],
    time: ['_meta.date'],
    moves: { '_meta.hostname': 'host' },
  },
  {
    name: 'Roarr',
    example:
      '{"context":{"logLevel":50,"package":"calls"},"message":"call failed","sequence":"0","time":1795875761607,"version":"2.0.0"}',
    keys: ['sequence'],
    is: ({ context }) => isObject(context) && typeof context.logLevel === 'number',
    level: ['context.logLevel'],
    scale: 'pino',
    moves: { version: 'extra.roarrVersion' },
  },

  // Go and Rust.
  {
    name: 'zap',
    example:
      '{"level":"error","ts":1795875761.607,"caller":"calls/dial.go:10","msg":"call failed","stacktrace":"main.main\\n\\t/calls/dial.go:10"}',
    keys: ['stacktrace'],
    moves: { stacktrace: 'error.stack' },
  },
  {
    name: 'zap, development configuration',
    example: '{"L":"ERROR","T":"2026-11-28T14:22:41.607Z","C":"calls/dial.go:10","M":"call failed","S":"main.main"}',
    keys: ['L', 'M'],
    is: (doc) => isText(doc.L) && isText(doc.M),
    level: ['L'],
    message: ['M'],
    time: ['T'],
    moves: { S: 'error.stack' },
  },
  {
    name: 'slog',
    example: '{"time":"2026-11-28T14:22:41.607123456Z","level":"ERROR+2","msg":"call failed","callId":"CA1"}',
    keys: ['msg'],
    is: (doc) => isText(doc.level),
  },
  {
    name: 'zerolog and logrus',
    example: '{"level":"error","error":"provider timeout","time":1795875761,"message":"call failed"}',
    keys: ['time'],
    is: (doc) => isText(doc.level),
  },
  {
    name: 'hclog (Vault, Consul, Nomad, Terraform)',
    example:
      '{"@level":"error","@message":"call failed","@module":"core","@timestamp":"2026-11-28T14:22:41.607123Z","callId":"CA1"}',
    keys: ['@level', '@message'],
    level: ['@level'],
    message: ['@message'],
  },
  {
    name: 'Rust `tracing`',
    example:
      '{"timestamp":"2026-11-28T14:22:41.607123Z","level":"ERROR","fields":{"message":"call failed","callId":"CA1"},"target":"calls"}',
    keys: ['fields'],
    is: ({ fields }) => isObject(fields),
    unfold: ['fields'],
  },

  // Java.
  {
    name: 'Log4j 2 (JSON layouts)',
    example:
      '{"instant":{"epochSecond":1795875761,"nanoOfSecond":607000000},"thread":"main","level":"ERROR","loggerName":"calls.Dial","message":"call failed","thrown":{"name":"java.io.IOException","message":"reset"}}',
    keys: ['instant', 'timeMillis', 'loggerName', 'loggerFqcn', 'endOfBatch', 'thrown'],
    level: ['level.standardLevel', 'level.name'],
    scale: 'log4j',
    time: ['instant', 'timeMillis', 'eventTime'],
    moves: {
      'thrown.name': 'error.name',
      'thrown.message': 'error.message',
      'thrown.extendedStackTrace': 'error.stack',
    },
  },
  {
    name: 'Logback (its own encoder and logstash-logback-encoder)',
    example:
      '{"@timestamp":"2026-11-28T14:22:41.607Z","@version":"1","message":"call failed","logger_name":"calls.Dial","thread_name":"main","level":"ERROR","level_value":40000,"stack_trace":"java.io.IOException: reset\\n\\tat calls.Dial"}',
    keys: ['stack_trace', 'throwable', 'level_value'],
    moves: {
      stack_trace: 'error.stack',
      'throwable.className': 'error.name',
      'throwable.message': 'error.message',
    },
  },
  {
    name: '`java.util.logging` (GlassFish, Payara)',
    example:
      '{"Timestamp":"2026-11-28T14:22:41.607+0000","Level":"SEVERE","LoggerName":"calls","LevelValue":"1000","LogMessage":"call failed"}',
    keys: ['LevelValue', 'LogMessage', 'levelValue'],
    level: ['Level', 'level', 'LevelValue', 'levelValue'],
    scale: 'java',
    message: ['LogMessage'],
    time: ['Timestamp', 'TimeMillis'],
  },

  // .NET.
  {
    name: 'Serilog, compact',
    example:
      '{"@t":"2026-11-28T14:22:41.607Z","@mt":"Call {CallId} failed","@m":"Call CA1 failed","@l":"Error","@x":"System.TimeoutException: …","CallId":"CA1"}',
    keys: ['@t', '@mt', '@l', '@x'],
    level: ['@l'],
    silent: 'info',
    message: ['@m', '@mt'],
    time: ['@t'],
    moves: { '@x': 'error.stack', '@tr': 'traceId' },
  },
  {
    name: 'Serilog, rendered',
    example:
      '{"Timestamp":"2026-11-28T14:22:41.6070000+00:00","Level":"Error","MessageTemplate":"Call {CallId} failed","RenderedMessage":"Call CA1 failed","Properties":{"CallId":"CA1"}}',
    keys: ['MessageTemplate', 'RenderedMessage'],
    level: ['Level'],
    message: ['RenderedMessage', 'MessageTemplate'],
    time: ['Timestamp'],
    moves: { Exception: 'error.stack', TraceId: 'traceId' },
  },
  {
    name: '.NET console (JSON)',
    example:
      '{"EventId":0,"LogLevel":"Critical","Category":"Calls","Message":"call failed","Timestamp":"2026-11-28T14:22:41.607Z"}',
    keys: ['LogLevel'],
    level: ['LogLevel'],
    scale: 'dotnet',
    message: ['Message'],
    time: ['Timestamp'],
    moves: { Exception: 'error.stack' },
  },
  {
    name: 'NLog',
    example:
      '{"time":"2026-11-28 14:22:41.607","level":"Error","message":"call failed","exception":"System.TimeoutException: …"}',
    keys: ['time'],
    is: (doc) => isText(doc.level),
  },

  // Python, PHP, Elixir, databases.
  {
    name: 'Python, `python-json-logger`',
    example:
      '{"asctime":"2026-11-28 14:22:41,607","levelname":"ERROR","name":"calls","message":"call failed","exc_info":"Traceback …\\nValueError: x"}',
    keys: ['levelname', 'levelno', 'asctime', 'exc_info'],
    level: ['levelname', 'level', 'levelno'],
    scale: 'python',
    time: ['asctime', 'created'],
    moves: { exc_info: 'error.stack', process: 'pid' },
  },
  {
    name: 'Python, structlog',
    example: '{"event":"call failed","level":"error","timestamp":"2026-11-28T14:22:41.607Z","callId":"CA1"}',
    keys: ['event'],
    is: (doc) => isText(doc.event) && !has(doc, 'message', 'msg') && !Object.hasOwn(EVENTS, doc.event),
    message: ['event'],
  },
  {
    name: 'Python, loguru (`serialize=True`)',
    example:
      '{"text":"call failed\\n","record":{"level":{"name":"ERROR","no":40},"message":"call failed","time":{"repr":"2026-11-28 14:22:41.607000+00:00","timestamp":1795875761.607}}}',
    keys: ['record'],
    is: ({ record }) => isObject(record) && isObject(record.level),
    level: ['record.level.name'],
    scale: 'python',
    message: ['record.message'],
    time: ['record.time.timestamp'],
  },
  {
    name: 'Monolog (Symfony, Laravel)',
    example:
      '{"message":"call failed","context":{"callId":"CA1"},"level":400,"level_name":"ERROR","channel":"calls","datetime":"2026-11-28T14:22:41.607123+00:00","extra":{}}',
    keys: ['level_name', 'datetime'],
    is: (doc) => has(doc, 'level_name') || (has(doc, 'channel') && has(doc, 'datetime')),
    level: ['level_name'],
    scale: 'monolog',
    time: ['datetime', 'datetime.date'],
    moves: { 'context.exception.class': 'error.name', 'context.exception.message': 'error.message' },
  },
  {
    name: 'Elixir, LoggerJSON',
    example: '{"time":"2026-11-28T14:22:41.607Z","severity":"error","message":"call failed","metadata":{}}',
    keys: ['severity'],
  },
  {
    name: 'MongoDB',
    example:
      '{"t":{"$date":"2026-11-28T14:22:41.607+00:00"},"s":"E","c":"NETWORK","id":23016,"ctx":"listener","msg":"connection refused"}',
    keys: ['t'],
    is: ({ t, s }) => isObject(t) && isText(s),
    rebuild: (doc) => ({ level: MONGO_LEVELS[String(doc.s)[0]!] ?? doc.s, ...doc }),
    time: ['t.$date'],
  },
  {
    name: 'PostgreSQL (`jsonlog`)',
    example:
      '{"timestamp":"2026-11-28 14:22:41.607 UTC","pid":411,"error_severity":"ERROR","state_code":"42P01","message":"relation \\"x\\" does not exist"}',
    keys: ['error_severity'],
    level: ['error_severity'],
    moves: { state_code: 'error.code' },
  },
];

/** Names that any logger may use for the same three things. */
export const USUAL_NAMES = {
  level: ['severity', 'lvl', 'logLevel', 'loglevel', 'log_level', 'levelname', 'Level', '@level', '@l'],
  message: ['msg', 'Message', '@message', '@m', 'MESSAGE', 'log', 'Body', 'body'],
  time: [
    'time',
    'ts',
    '@t',
    'datetime',
    'dateTime',
    'date',
    'Timestamp',
    'Time',
    'eventTime',
    'event_time',
    'timeMillis',
    'millis',
    'instant',
    '__REALTIME_TIMESTAMP',
    'timeUnixNano',
    'asctime',
  ],
} as const;

/** An error given under another name, as an object or as text. */
export const ERROR_NAMES = ['err', 'exception', 'Exception'] as const;

/** Top-level keys that change what becomes of a record with a level, a message and a time: it takes the slow path. */
export const SHAPE_KEYS: readonly string[] = [
  ...new Set([
    ...SHAPES.filter(({ unfold, moves, wraps, rebuild }) => unfold ?? moves ?? wraps ?? rebuild).flatMap(
      ({ keys }) => keys,
    ),
    ...ERROR_NAMES,
  ]),
];

/** https://www.mongodb.com/docs/manual/reference/log-messages/ */
const MONGO_LEVELS: Readonly<Record<string, string>> = { F: 'fatal', E: 'error', W: 'warn', I: 'info', D: 'debug' };

/** https://opentelemetry.io/docs/specs/semconv/ */
function openTelemetryMoves(attributes: string, ...resources: string[]): Record<string, string> {
  const moves: Record<string, string> = {
    [`${attributes}.exception.type`]: 'error.name',
    [`${attributes}.exception.message`]: 'error.message',
    [`${attributes}.exception.stacktrace`]: 'error.stack',
  };
  for (const resource of resources) {
    moves[`${resource}.service.name`] = 'service';
    moves[`${resource}.service.version`] = 'version';
    moves[`${resource}.deployment.environment`] = 'environment';
    moves[`${resource}.deployment.environment.name`] = 'environment';
    moves[`${resource}.host.name`] = 'host';
  }
  return moves;
}

/**
 * The single log record of an OTLP line, with its resource. If there are several, the most severe supplies level, message and
 * time.
 */
function fromOtlp(doc: Json): Json {
  const scopes = objects(doc.resourceLogs).flatMap((resource) =>
    objects(resource.scopeLogs).map((scope) => ({ resource, scope })),
  );
  const records = scopes.flatMap(({ scope }) => objects(scope.logRecords));
  if (records.length === 0) return doc;
  if (records.length === 1 && scopes.length === 1 && objects(doc.resourceLogs).length === 1) {
    const [{ resource, scope }] = scopes as [{ resource: Json; scope: Json }];
    const parts = [without(doc, 'resourceLogs'), without(resource, 'scopeLogs'), without(scope, 'logRecords')];
    const whole = Object.assign({}, ...parts, records[0]) as Json;
    const keys = [...parts, records[0]!].reduce((count, part) => count + Object.keys(part).length, 0);
    if (Object.keys(whole).length === keys) return whole;
  }
  const severity = (record: Json) => Number(record.severityNumber) || 0;
  const worst = records.reduce((a, b) => (severity(b) > severity(a) ? b : a));
  const { timeUnixNano, severityNumber, body } = worst;
  return { timeUnixNano, severityNumber, body, ...doc };
}

function objects(list: unknown): Json[] {
  return Array.isArray(list) ? list.filter(isObject) : [];
}

function without(doc: Json, key: string): Json {
  const { [key]: _, ...rest } = doc;
  return rest;
}

/** OTLP writes attributes as a list of `{ key, value: { stringValue } }`. */
function withPlainAttributes(doc: Json): Json {
  const { attributes, resource } = doc;
  const plain: Json = { ...doc };
  if (Array.isArray(attributes)) plain.attributes = plainAttributes(attributes);
  if (isObject(resource) && Array.isArray(resource.attributes)) {
    plain.resource = { ...resource, attributes: plainAttributes(resource.attributes) };
  }
  return plain;
}

/** The list itself when it is not a list of attributes, or has a key twice. */
function plainAttributes(list: readonly unknown[]): unknown {
  const plain: Json = Object.create(null);
  for (const item of list) {
    if (!isObject(item) || !isText(item.key) || Object.keys(item).length !== 2 || Object.hasOwn(plain, item.key)) {
      return list;
    }
    const { value } = item;
    const inner = isObject(value) ? Object.values(value) : [];
    plain[item.key] = inner.length === 1 ? inner[0] : value;
  }
  return plain;
}

// ---- the shapes that a record has, and what they say of it ----

const MAX_PLANS = 256;
const NO_SHAPES: Shape[] = [];

const SHAPES_BY_KEY = new Map<string, Shape[]>();
for (const shape of SHAPES) {
  for (const key of shape.keys) SHAPES_BY_KEY.set(key, [...(SHAPES_BY_KEY.get(key) ?? []), shape]);
}

/** A dotted path, taken apart once. */
export interface Path {
  readonly text: string;
  /** Its first name and what follows; empty and undefined without a dot. */
  readonly head: string;
  readonly rest: Path | undefined;
}

export function toPath(text: string): Path {
  const dot = text.indexOf('.');
  return dot <= 0
    ? { text, head: '', rest: undefined }
    : { text, head: text.slice(0, dot), rest: toPath(text.slice(dot + 1)) };
}

interface PathMove {
  readonly from: Path;
  /** The names of which the new path consists. */
  readonly to: readonly string[];
}

/** Moves in a row from within one group, or of one name. */
export interface GroupMoves {
  readonly head: string;
  readonly moves: PathMove[];
}

function groupMoves(moves: readonly (readonly [from: string, to: string])[]): readonly GroupMoves[] {
  const groups: GroupMoves[] = [];
  for (const [name, to] of moves) {
    const from = toPath(name);
    const head = from.head === '' ? name : from.head;
    if (groups.at(-1)?.head !== head) groups.push({ head, moves: [] });
    groups.at(-1)!.moves.push({ from, to: to.split('.') });
  }
  return groups;
}

/** What the shapes of a record say together. */
export interface Plan {
  readonly shapes: readonly Shape[];
  readonly unfold: readonly string[];
  /** Where the level may be, best first; and the message, and the time. */
  readonly level: readonly Path[];
  readonly message: readonly Path[];
  readonly time: readonly Path[];
  readonly scale: LevelScaleName | undefined;
  readonly silent: string | undefined;
  readonly moves: readonly GroupMoves[];
  readonly lendsMessage: boolean;
}

function planOf(shapes: readonly Shape[]): Plan {
  const paths = (list: readonly string[]) => [...new Set(list)].map(toPath);
  return {
    shapes,
    unfold: [...new Set(shapes.flatMap(({ unfold }) => unfold ?? []))],
    level: paths([...shapes.flatMap(({ level }) => level ?? []), 'level', ...USUAL_NAMES.level]),
    message: paths([...shapes.flatMap(({ message }) => message ?? []), ...USUAL_NAMES.message]),
    time: paths(['timestamp', '@timestamp', ...shapes.flatMap(({ time }) => time ?? []), ...USUAL_NAMES.time]),
    scale: shapes.find(({ scale }) => scale !== undefined)?.scale,
    silent: shapes.find(({ silent }) => silent !== undefined)?.silent,
    moves: groupMoves(shapes.flatMap(({ moves = {} }) => Object.entries(moves))),
    lendsMessage: !shapes.some(({ lendsNoMessage }) => lendsNoMessage),
  };
}

/** Plans by the shapes they are of: producers have few. */
export function createPlans(): (doc: Json) => Plan {
  const plans = new Map<Shape | string | undefined, Plan>();
  return (doc) => {
    const shapes = shapesOf(doc);
    const key = shapes.length < 2 ? shapes[0] : shapes.map((shape) => SHAPES.indexOf(shape)).join();
    const known = plans.get(key);
    if (known !== undefined) return known;
    if (plans.size >= MAX_PLANS) plans.clear();
    const made = planOf(shapes);
    plans.set(key, made);
    return made;
  };
}

/** In the order in which they are applied. */
function shapesOf(doc: Json): readonly Shape[] {
  let found: Shape[] = NO_SHAPES;
  for (const key in doc) {
    const shapes = SHAPES_BY_KEY.get(key);
    if (shapes === undefined) continue;
    for (const shape of shapes) {
      if (found.includes(shape) || (shape.is !== undefined && !shape.is(doc))) continue;
      if (found.length === 0) found = [shape];
      else found.push(shape);
    }
  }
  return found.length < 2 ? found : found.sort((a, b) => SHAPES.indexOf(a) - SHAPES.indexOf(b));
}

/** Does it wrap another record, as far as is known by now? */
export function isWrapper({ wraps }: Shape, doc: Json): boolean {
  return wraps === 'always' || (wraps !== undefined && doc.level === undefined);
}

/** Names that others give to the parts of an error. */
const ERROR_PARTS: readonly (readonly [from: string, to: string])[] = [
  ['type', 'name'],
  ['kind', 'name'],
  ['class', 'name'],
  ['className', 'name'],
  ['stack_trace', 'stack'],
  ['stacktrace', 'stack'],
  ['stackTrace', 'stack'],
];

export const ERROR_MOVES = groupMoves(ERROR_PARTS.map(([from, to]) => [`error.${from}`, `error.${to}`]));

/** Would this `error` group be changed here? */
export function isForeignError(error: Json): boolean {
  return ERROR_PARTS.some(([from, to]) => error[from] !== undefined && error[to] === undefined);
}
