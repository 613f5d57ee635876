// Levels. In: whatever a producer calls its level (npm, syslog, pino numbers, any case); out: one lower-case name, and
// whether it is an error or more severe.

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
]);

/** bunyan and pino: https://getpino.io/#/docs/api?id=logger-levels */
const NUMERIC_LEVELS: readonly [least: number, name: string][] = [
  [60, 'fatal'],
  [50, 'error'],
  [40, 'warn'],
  [30, 'info'],
  [20, 'debug'],
  [Number.NEGATIVE_INFINITY, 'trace'],
];

/** True for `error` and everything more severe. Expects a normalised level. */
export function isErrorLevel(level: unknown): boolean {
  return typeof level === 'string' && ERROR_LEVELS.has(level);
}

/** A lower-case level name; undefined for values that are no level at all. */
export function normaliseLevel(level: unknown): string | undefined {
  if (typeof level === 'number') return NUMERIC_LEVELS.find(([least]) => level >= least)?.[1] ?? undefined;
  if (typeof level !== 'string') return undefined;
  const text = level.trim();
  if (/^\d{2}$/.test(text)) return normaliseLevel(Number(text));
  return text === '' ? undefined : text.toLowerCase();
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
