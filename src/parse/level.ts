// Levels. In: whatever a producer calls its level (npm, syslog, numbers of many scales, any case); out: one lower-case
// name, and whether it is an error or more severe. Guarantee: a number of no known scale is never taken for an error.
import { ExactNumber } from './json.ts';

const ERROR_LEVELS = new Set([
  'error',
  'err',
  'severe',
  'fatal',
  'crit',
  'critical',
  'alert',
  'emerg',
  'emergency',
  'panic',
  'dpanic',
]);

/** Short and odd names of the same levels. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ['information', 'info'],
  ['informational', 'info'],
  ['inf', 'info'],
  ['wrn', 'warn'],
  ['ftl', 'fatal'],
  ['dbg', 'debug'],
  ['vrb', 'verbose'],
  ['eror', 'error'],
  ['dbug', 'debug'],
]);

/** Numbers by the name that stands for them: the name of the nearest number below, or exactly that one. */
interface LevelScale {
  readonly least: number;
  readonly most: number;
  readonly steps: readonly (readonly [number: number, name: string])[];
}

const scale = (most: number, ...steps: [number, string][]): LevelScale => ({ least: steps[0]![0], most, steps });

/**
 * The scales in use. A shape names its own (shapes.ts), because the same number is a debug message for one logger and
 * an emergency for another.
 */
export const LEVEL_SCALES = {
  /** RFC 5424, table 2; also GELF and journald. */
  syslog: scale(
    7,
    [0, 'emerg'],
    [1, 'alert'],
    [2, 'crit'],
    [3, 'error'],
    [4, 'warning'],
    [5, 'notice'],
    [6, 'info'],
    [7, 'debug'],
  ),
  /** https://getpino.io/#/docs/api?id=logger-levels, the same for Bunyan; levels of one's own lie between. */
  pino: scale(69, [10, 'trace'], [20, 'debug'], [30, 'info'], [40, 'warn'], [50, 'error'], [60, 'fatal']),
  /** Python's `logging`: 50 is CRITICAL. */
  python: scale(59, [10, 'debug'], [20, 'info'], [30, 'warning'], [40, 'error'], [50, 'critical']),
  /** https://github.com/Seldaek/monolog/blob/main/doc/01-usage.md#log-levels */
  monolog: scale(
    600,
    [100, 'debug'],
    [200, 'info'],
    [250, 'notice'],
    [300, 'warning'],
    [400, 'error'],
    [500, 'critical'],
    [550, 'alert'],
    [600, 'emergency'],
  ),
  /** Log4j's `intLevel` falls with severity. */
  log4j: scale(600, [100, 'fatal'], [200, 'error'], [300, 'warn'], [400, 'info'], [500, 'debug'], [600, 'trace']),
  /** `java.util.logging.Level` */
  java: scale(1000, [300, 'trace'], [500, 'debug'], [800, 'info'], [900, 'warning'], [1000, 'error']),
  /** https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
  otel: scale(24, [1, 'trace'], [5, 'debug'], [9, 'info'], [13, 'warn'], [17, 'error'], [21, 'fatal']),
  /** `Microsoft.Extensions.Logging.LogLevel` */
  dotnet: scale(5, [0, 'trace'], [1, 'debug'], [2, 'info'], [3, 'warning'], [4, 'error'], [5, 'critical']),
} as const satisfies Record<string, LevelScale>;
export type LevelScaleName = keyof typeof LEVEL_SCALES;

/** Numbers that only one scale has, so that they speak for themselves: pino's tens, the upper levels of Java. */
const UNMISTAKABLE: ReadonlyMap<number, string> = new Map([
  [10, 'trace'] as const,
  ...LEVEL_SCALES.pino.steps.slice(1),
  ...LEVEL_SCALES.java.steps.slice(2),
]);

const COLOUR = /\u001b\[[0-9;]{0,20}m/g;
/** No level's name is longer. */
const MAX_NAME = 64;

/** True for `error` and everything more severe. Expects a normalised level. */
export function isErrorLevel(level: unknown): boolean {
  return typeof level === 'string' && ERROR_LEVELS.has(level);
}

/**
 * A lower-case level name; undefined for values that are no level, and for numbers that `scale` (or, without one, every
 * scale but one) does not have.
 */
export function normaliseLevel(level: unknown, scale?: LevelScaleName): string | undefined {
  if (level instanceof ExactNumber) return normaliseLevel(level.value, scale);
  if (typeof level === 'number') return scale === undefined ? UNMISTAKABLE.get(level) : onScale(level, scale);
  if (typeof level !== 'string') return undefined;
  if (level.length > MAX_NAME) return level.toLowerCase();
  const text = level.replace(COLOUR, '').trim().toLowerCase();
  if (/^\d{1,4}$/.test(text)) return normaliseLevel(Number(text), scale) ?? text;
  if (text === '') return undefined;
  // slog writes what lies between its levels as ERROR+2.
  const name = /^([a-z]+)[+-]\d{1,3}$/.exec(text)?.[1] ?? text;
  return ALIASES.get(name) ?? name;
}

function onScale(level: number, name: LevelScaleName): string | undefined {
  const { least, most, steps } = LEVEL_SCALES[name];
  if (!(level >= least && level <= most)) return undefined;
  return steps.findLast(([number]) => level >= number)?.[1];
}

/** Level names that need no normalising: npm's and syslog's. */
export const NORMAL_LEVELS: ReadonlySet<string> = new Set([
  ...ERROR_LEVELS,
  'warn',
  'warning',
  'notice',
  'info',
  'http',
  'verbose',
  'debug',
  'silly',
  'trace',
]);
