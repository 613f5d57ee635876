// The platform's logger: to Kafka and a file with logpipe's transport, or, without Kafka, plain Winston to a file.
// Counts what the platform logs where it logs it, so that a loss anywhere after that shows.
import { once } from 'node:events';
import winston from 'winston';
import { sleep } from '../../src/core/clock.ts';
import { createLogger, type KafkaTransport } from '../../src/ship/index.ts';
import type { AppLog } from './log.ts';

export interface PlatformLoggerOptions {
  /** Absent: only the file. */
  brokers?: readonly string[];
  topic: string;
  logFile: string;
}

export interface LogCounts {
  /** Events logged. */
  produced: number;
  /** Of these, how many will not reach Kafka. */
  dropped: number;
}

export interface PlatformLogger {
  log: AppLog;
  counts(): LogCounts;
  /** Resolves when everything logged has been delivered, or at the transport's deadline. */
  close(): Promise<LogCounts>;
}

const IDENTITY = { service: 'calling-platform', environment: 'demo', version: '2.14.0' };
const CLOSE_TIMEOUT_MS = 20_000;
const POLL_MS = 10;

export function createPlatformLogger(options: PlatformLoggerOptions): PlatformLogger {
  const { brokers, topic, logFile } = options;
  let produced = 0;
  let dropped = () => 0;
  let logger: winston.Logger;
  if (brokers) {
    const closeTimeoutMs = CLOSE_TIMEOUT_MS;
    logger = createLogger({ ...IDENTITY, brokers, topic, file: logFile, console: false, closeTimeoutMs });
    const kafka = logger.transports.at(-1) as KafkaTransport;
    dropped = () => Object.values(kafka.stats().dropped).reduce((sum, count) => sum + count, 0);
    kafka.on('dropped', ({ message }: { message: string }) => complain(message));
    kafka.on('send-failed', ({ message }: { message: string }) => complain(message));
  } else {
    logger = winston.createLogger({
      level: 'info',
      defaultMeta: IDENTITY,
      format: winston.format.combine(plainErrors(), winston.format.timestamp(), winston.format.json()),
      transports: [new winston.transports.File({ filename: logFile })],
    });
  }
  const counting = (level: keyof AppLog) => (message: string, meta?: object) => {
    produced++;
    logger.log(level, message, meta);
  };
  const counts = () => ({ produced, dropped: dropped() });
  return {
    log: { error: counting('error'), warn: counting('warn'), info: counting('info') },
    counts,
    async close() {
      if (!brokers) await handedOver(logger);
      const finished = once(logger, 'finish');
      logger.end();
      await finished;
      return counts();
    },
  };
}

/**
 * Plain Winston's `end()` ends the transports at once. What the logger itself still holds, because a transport was slow, would
 * then be written after their end: lost, with an 'error' event.
 */
async function handedOver(logger: winston.Logger): Promise<void> {
  while (logger.writableLength + logger.readableLength > 0) await sleep(POLL_MS);
}

/** JSON.stringify writes an Error as {}. */
const plainErrors = winston.format((info) => {
  const { error } = info;
  if (error instanceof Error) {
    const { name, message, stack } = error;
    info.error = { name, code: (error as NodeJS.ErrnoException).code, message, stack };
  }
  return info;
});

function complain(message: string): void {
  process.stderr.write(`calling-platform: ${message}\n`);
}
