// What rotated files are called. In: a file's name. Out: the names of the live files it may have been rotated from, and which
// of two rotated files is older when their times do not tell. Pure; the folder is looked at by the follower.

const GZIP = '.gz';
/** What stands behind or within a name: separators, digits, and the letters of a time (2026-11-28T00:00Z) or week (w48). */
const STAMP = /^[-_.]+[\dTZWw:+_.-]*$/;
const STAMP_LETTER = /[\dTZWw:+_.-]/;
const OLD = /[._-](old|bak|prev)$/;
const COUNTER_AT_END = /\.\d{1,5}$/;
const COUNTER = /^\.\d{1,5}$/;
const LONGEST = 255;
const LONGEST_STAMP = 40;

export function isGzip(name: string): boolean {
  return name.endsWith(GZIP);
}

/**
 * The live names that `name` may come from, `name` itself not among them. Known are:
 * `app.log.1`, `app.log.2.gz`, `app.log.old`, `app.log-20261128`, `app.log.2026-11-28.1` (logrotate, log4js, kubelet);
 * `app1.log` (Winston's `maxsize`, with and without `tailable`); `app.1.log` (pino-roll);
 * `app-2026-11-28.log`, `app-2026-11-28.log.1` (winston-daily-rotate-file); `app__2026-11-28_00-00-00.log` (pm2-logrotate);
 * `20261128-0312-01-app.log` (rotating-file-stream).
 */
export function liveNamesOf(name: string): string[] {
  if (name.length > LONGEST) return [];
  const plain = isGzip(name) ? name.slice(0, -GZIP.length) : name;
  const found = new Set<string>(isGzip(name) ? [plain] : []);
  const behind = stripped(plain, true);
  for (const whole of new Set([plain, plain.replace(COUNTER_AT_END, '')])) {
    const dot = extensionAt(whole);
    for (const stem of stripped(whole.slice(0, dot), false)) found.add(stem + whole.slice(dot));
  }
  for (const live of behind) found.add(live);
  const dated = /^[\d_-]{6,}-(?=[^\d])(.+)$/.exec(plain);
  if (dated) found.add(dated[1]!);
  found.delete(name);
  return [...found];
}

/**
 * The names under which the target of a symbolic link may be found in its next turn, for links that are moved on:
 * `current.log` -> `app-2026-11-28.log` (daily), `/var/log/containers/x.log` -> `0.log` (kubelet, at a restart).
 */
export function turnsOf(target: string): string[] {
  const dot = extensionAt(target);
  const stem = target.slice(0, dot);
  if (/^\d{1,5}$/.test(stem)) return [target.slice(dot)];
  return stripped(stem, false).map((other) => other + target.slice(dot));
}

/** For files that were last written in the same moment: `app.log.2` is older than `app.log.1`, `app1.log` than `app2.log`. */
export function olderByName(a: string, b: string): number {
  return counterOf(b) - counterOf(a) || a.localeCompare(b, 'en', { numeric: true });
}

function counterOf(name: string): number {
  return Number(/\.(\d{1,5})(\.gz)?$/.exec(name)?.[1] ?? 0);
}

/** What is left of a name without the stamp at its end, for each place where that may begin. */
function stripped(name: string, isWhole: boolean): string[] {
  const found: string[] = [];
  if (isWhole && OLD.test(name)) found.push(name.replace(OLD, ''));
  const first = Math.max(0, name.length - LONGEST_STAMP);
  for (let at = name.length - 1; at >= first && STAMP_LETTER.test(name[at]!); at--) {
    const before = name.slice(0, at);
    const rest = name.slice(at);
    if (/[-_.]$/.test(before) || (isWhole && at === 0)) continue;
    // Winston's counter follows the name without a separator. `worker-1` + `0` is another worker, not a rotated file.
    const isWinston = !isWhole && /^\d{1,5}$/.test(rest) && !/\d$/.test(before);
    const isStamp = STAMP.test(rest) && (COUNTER.test(rest) || rest.replace(/\D/g, '').length >= 6);
    if (isStamp || isWinston) found.push(before);
  }
  return found;
}

/** Where `.log` begins; the end of the name when it has no such thing. */
function extensionAt(name: string): number {
  const match = /\.[A-Za-z][A-Za-z0-9]{0,9}$/.exec(name);
  return match && match.index > 0 ? match.index : name.length;
}
