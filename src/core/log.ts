// logpipe's own log: to stderr only, so that it can never end up in the topic logpipe reads and stdout stays data.
import { inspect } from 'node:util';
import winston from 'winston';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Log {
  error(message: string, meta?: Record<string, unknown>): void;
  warn(message: string, meta?: Record<string, unknown>): void;
  info(message: string, meta?: Record<string, unknown>): void;
  debug(message: string, meta?: Record<string, unknown>): void;
}

/** A logger writing JSON lines, or short readable lines on a terminal, to stderr. */
export function createLog(options: { level: LogLevel; format: 'json' | 'pretty' }): Log {
  const pretty = winston.format.printf(({ timestamp, level, message, ...meta }) => {
    const rest = Object.keys(meta).length === 0 ? '' : ` ${inspect(meta, { breakLength: Infinity, depth: 4 })}`;
    return `${timestamp} ${level.padEnd(5)} ${message}${rest}`;
  });
  return winston.createLogger({
    level: options.level,
    format: winston.format.combine(
      winston.format.timestamp(),
      options.format === 'json' ? winston.format.json() : pretty,
    ),
    transports: [new winston.transports.Console({ stderrLevels: [...LOG_LEVELS], forceConsole: false })],
  });
}

/** For library use and tests: says nothing. */
export const silentLog: Log = { error() {}, warn() {}, info() {}, debug() {} };
