// A ready-made logger. In: the transport's options. Out: a Winston logger to the console, `logs/app.log` and Kafka.
// Guarantee: the line in the file is the record in Kafka, with the same `eventId`.
import winston from 'winston';
import { createNormaliser } from './normalise.ts';
import { type KafkaTransportOptions, transportSettings } from './options.ts';
import { createRecordBuilder, type Info, LEVEL, MESSAGE, RECORD, type RecordBuilder } from './record.ts';
import { KafkaTransport } from './transport.ts';

export interface CreateLoggerOptions extends Omit<KafkaTransportOptions, 'format'> {
  /** Path of the JSON lines file; `false` for none. Default `logs/app.log`. */
  readonly file?: string | false;
  /** Short readable lines on standard output. Default true. */
  readonly console?: boolean;
}

const DRAIN_POLL_MS = 5;

/**
 * Console + file + Kafka. The Kafka transport is the last of `logger.transports`. `logger.end()` delivers what is queued
 * and then emits `finish`.
 * @throws LogpipeError LOGPIPE_TRANSPORT_OPTIONS
 */
export function createLogger(options: CreateLoggerOptions): winston.Logger {
  const { file = 'logs/app.log', console: toConsole = true, ...transportOptions } = options;
  const kafka = new KafkaTransport(transportOptions);
  const settings = transportSettings(transportOptions);
  const transports: winston.transport[] = [];
  if (toConsole) transports.push(new winston.transports.Console({ format: readable() }));
  if (file !== false) transports.push(new winston.transports.File({ filename: file }));
  transports.push(kafka);
  const logger = winston.createLogger({
    level: settings.level,
    format: recordFormat(createRecordBuilder(settings)),
    transports,
  });
  // A full disk must not end the application: without a listener Winston's 'error' event would.
  logger.on('error', (error: unknown) => {
    kafka.emit('warn', { source: 'transport', message: `The log file cannot be written: ${String(error)}` });
  });
  return survivable(endsEmpty(logger, settings.closeTimeoutMs));
}

/**
 * Builds the record once for file and Kafka. The info object passed on is a new one: an error or an object that is logged
 * twice must not carry the first record's id into the second.
 */
function recordFormat(build: RecordBuilder): winston.Logform.Format {
  return {
    transform(info) {
      const record = build(info as Info);
      const passed: Info = {
        level: info.level,
        [LEVEL]: info[LEVEL],
        [MESSAGE]: record.line,
        [RECORD]: record,
      };
      if (info.exception === true) passed.exception = true;
      return passed as unknown as winston.Logform.TransformableInfo;
    },
  };
}

/** `2026-01-01T00:00:00.000Z info  message`, with the stack of an error below. */
function readable(): winston.Logform.Format {
  return winston.format.printf((info) => {
    const line = (info as Info)[MESSAGE] as string;
    const { timestamp, level, message, error } = JSON.parse(line) as Record<string, unknown>;
    const stack = (error as { stack?: string } | undefined)?.stack;
    return `${timestamp} ${String(level).padEnd(5)} ${message}${stack === undefined ? '' : `\n${stack}`}`;
  });
}

/**
 * A slow file makes Winston hold records back, and its `end()` would end the transports before they come through.
 * Waits for that, at most as long as for Kafka.
 */
function endsEmpty(logger: winston.Logger, timeoutMs: number): winston.Logger {
  const end = logger.end.bind(logger) as (...args: unknown[]) => unknown;
  const held = () =>
    logger.transports.reduce((sum, one) => sum + one.writableLength, logger.writableLength + logger.readableLength);
  logger.end = ((...args: unknown[]) => {
    const deadline = Date.now() + timeoutMs;
    const attempt = () => {
      if (held() === 0 || Date.now() >= deadline) end(...args);
      else setTimeout(attempt, DRAIN_POLL_MS);
    };
    attempt();
    return logger;
  }) as typeof logger.end;
  return logger;
}

/**
 * Winston itself throws at the caller for a frozen error or a throwing getter at the top of the metadata. Then the call is
 * repeated with plain copies.
 */
function survivable(logger: winston.Logger): winston.Logger {
  const methods = logger as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const name of [...Object.keys(logger.levels), 'log']) {
    const original = methods[name]!;
    methods[name] = function (this: unknown, ...args: unknown[]) {
      try {
        return original.apply(this, args);
      } catch {
        const { value } = createNormaliser();
        const copies = args.map((arg) =>
          typeof arg === 'object' && arg !== null ? { ...(value(arg) as object) } : arg,
        );
        try {
          return original.apply(this, copies);
        } catch {
          return this;
        }
      }
    };
  }
  return logger;
}
