// A ready-made logger. In: the transport's options. Out: a Winston logger to the console, `logs/app.log` and Kafka.
// Guarantee: the line in the file is the record in Kafka, with the same `eventId`.
import winston from 'winston';
import { errorText } from '../core/errors.ts';
import { LogFile } from './log-file.ts';
import { createNormaliser } from './normalise.ts';
import { type KafkaTransportOptions, transportSettings } from './options.ts';
import { createRecordBuilder, type Info, LEVEL, MESSAGE, RECORD, type RecordBuilder } from './record.ts';
import { HANDED, KafkaTransport, LOST } from './transport.ts';

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
  const warn = (message: string) => {
    try {
      kafka.emit('warn', { source: 'transport', message });
    } catch {
      // A listener's mistake stays the listener's.
    }
  };
  if (file !== false) transports.push(new LogFile({ filename: file, closeTimeoutMs: settings.closeTimeoutMs, warn }));
  transports.push(kafka);
  const logger = winston.createLogger({
    level: settings.level,
    format: recordFormat(createRecordBuilder(settings)),
    transports,
  });
  // Another transport's failure must not end the application: without a listener Winston's 'error' event would.
  logger.on('error', (error: unknown) => warn(`A transport failed: ${errorText(error)}`));
  return survivable(endsEmpty(logger, kafka, settings.closeTimeoutMs), kafka);
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
 * What is logged before the transports run, and what another transport holds back, is still in the logger when it ends;
 * Winston's `end()` would end the transports before it comes through. Waits for that, but not longer than for Kafka.
 */
function endsEmpty(logger: winston.Logger, kafka: KafkaTransport, timeoutMs: number): winston.Logger {
  const end = logger.end.bind(logger) as (...args: unknown[]) => unknown;
  const write = logger.write.bind(logger) as (info: Info, ...rest: unknown[]) => boolean;
  let ended = false;
  logger.end = ((...args: unknown[]) => {
    const deadline = Date.now() + timeoutMs;
    const attempt = () => {
      if (logger.writableLength + logger.readableLength > 0 && Date.now() < deadline) {
        setTimeout(attempt, DRAIN_POLL_MS);
        return;
      }
      ended = true;
      end(...args);
    };
    attempt();
    return logger;
  }) as typeof logger.end;
  logger.write = ((info: Info, ...rest: unknown[]) => {
    if (!ended) return write(info, ...rest);
    kafka[LOST]('closed', info[LEVEL]);
    return true;
  }) as typeof logger.write;
  return logger;
}

/**
 * Winston itself throws at the caller for a frozen error, a throwing getter at the top of the metadata and the like. Then
 * the call is repeated with plain copies; a record that is lost all the same is counted.
 */
function survivable(logger: winston.Logger, kafka: KafkaTransport): winston.Logger {
  const methods = logger as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const name of [...Object.keys(logger.levels), 'log']) {
    const original = methods[name]!;
    methods[name] = function (this: unknown, ...args: unknown[]) {
      const handed = kafka[HANDED];
      let given = args;
      for (let attempt = 0; attempt < 2; attempt++) {
        try {
          return original.apply(this, given);
        } catch {
          // A transport behind ours threw: the record is in Kafka's queue and must not go there twice.
          if (kafka[HANDED] !== handed) return this;
        }
        given = args.map(plainCopy);
      }
      const [first] = given as [unknown];
      kafka[LOST]('failed', name !== 'log' ? name : ((first as Info | null)?.level ?? first));
      return this;
    };
  }
  return logger;
}

function plainCopy(arg: unknown): unknown {
  const plain = createNormaliser(1_000_000).value(arg);
  if (typeof plain !== 'object' || plain === null) return plain;
  const copy: Record<string, unknown> = { ...plain };
  // Winston appends it to the text, which objects without prototype do not survive.
  if (typeof copy.message === 'object' && copy.message !== null) copy.message = JSON.stringify(copy.message);
  return copy;
}
