// logpipe's own log: to stderr only, so that it can never end up in the topic logpipe reads and stdout stays data. Guarantee:
// every text in it is masked and harmless to a terminal.
import { inspect } from 'node:util';
import winston from 'winston';
import { errorText } from './errors.ts';
import { bounded, visible, visibleJson, visibleLines } from './safe-json.ts';
import { createMasker, MASK, type Masker } from './secrets/mask.ts';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Log {
  error(message: string, meta?: Record<string, unknown>): void;
  warn(message: string, meta?: Record<string, unknown>): void;
  info(message: string, meta?: Record<string, unknown>): void;
  debug(message: string, meta?: Record<string, unknown>): void;
}

/** Where winston keeps the line that is written. */
const LINE = Symbol.for('message');
const MAX_DEPTH = 16;

/**
 * A logger writing JSON lines, or short readable lines on a terminal, to stderr.
 * @param masker of the configuration; by default the built-in rules alone
 */
export function createLog(
  options: { readonly level: LogLevel; readonly format: 'json' | 'pretty' },
  masker: Pick<Masker, 'text' | 'value'> = createMasker(),
): Log {
  const pretty = winston.format.printf(({ timestamp, level, message, ...meta }) => {
    // Winston's own marks have symbols for names.
    const plain = Object.fromEntries(Object.entries(meta));
    const rest = Object.keys(plain).length === 0 ? '' : ` ${inspect(plain, { breakLength: Infinity, depth: 4 })}`;
    return visibleLines(`${timestamp} ${level.padEnd(5)} ${visible(String(message))}${visible(rest)}`);
  });
  const escaped = winston.format((info) => Object.assign(info, { [LINE]: visibleJson(String(info[LINE])) }));
  const logger = winston.createLogger({
    level: options.level,
    format: winston.format.combine(
      winston.format.timestamp(),
      ...(options.format === 'json' ? [winston.format.json(), escaped()] : [pretty]),
    ),
    transports: [new winston.transports.Console({ stderrLevels: [...LOG_LEVELS], forceConsole: false })],
  });

  const write = (level: LogLevel) => (message: string, meta?: Record<string, unknown>) => {
    if (!logger.isLevelEnabled(level)) return;
    logger.log({ ...maskedMeta(meta, masker), level, message: maskedText(message, masker) });
  };
  return { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') };
}

function maskedText(text: string, masker: Pick<Masker, 'text'>): string {
  try {
    return masker.text(text);
  } catch {
    return MASK;
  }
}

function maskedMeta(meta: Record<string, unknown> | undefined, masker: Pick<Masker, 'value'>): object {
  if (meta === undefined) return {};
  try {
    // An error shows its stack when it is inspected, and nothing as JSON.
    const plain = Object.entries(meta).map(([key, value]) => [key, value instanceof Error ? errorText(value) : value]);
    return masker.value(bounded(Object.fromEntries(plain), MAX_DEPTH)) as object;
  } catch {
    return { meta: MASK };
  }
}

/** For use as a library and for tests: logs nothing. */
export const silentLog: Log = { error() {}, warn() {}, info() {}, debug() {} };
