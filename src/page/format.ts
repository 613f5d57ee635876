// Numbers and times for people. In: values in the unit of their measure, and ms since 1970. Out: text, in the reader's own time zone.
// Guarantee: what is not known is "–", never 0.

/** What stands for a value that is not known. */
export const UNKNOWN = '–';

/** A ratio from 0 to 1, closely where it is near either of them. */
export function percent(value: number | null | undefined): string {
  if (!isKnown(value)) return UNKNOWN;
  const whole = value * 100;
  return `${trimmed(whole, whole < 1 || whole >= 99 ? 2 : 1)} %`;
}

/** At most three digits after the point of a small number, none of a large one: 0.25, 12.3, 1,204. */
export function count(value: number | null | undefined): string {
  if (!isKnown(value)) return UNKNOWN;
  const size = Math.abs(value);
  return trimmed(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export function milliseconds(value: number | null | undefined): string {
  if (!isKnown(value)) return UNKNOWN;
  return value >= 10_000 ? `${trimmed(value / 1_000, 1)} s` : `${count(value)} ms`;
}

/** A length of time, by its largest unit or two: "40 s", "12 min", "3 h 5 min", "2 d 4 h". */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return joined(`${hours} h`, minutes % 60, 'min');
  return joined(`${Math.floor(hours / 24)} d`, hours % 24, 'h');
}

/** "3 min ago", "in 2 h"; "just now" for less than 5 s. */
export function relative(atMs: number, nowMs: number): string {
  const awayMs = nowMs - atMs;
  if (Math.abs(awayMs) < 5_000) return 'just now';
  return awayMs > 0 ? `${duration(awayMs)} ago` : `in ${duration(-awayMs)}`;
}

/** "14:05"; with the day where it is not today; with seconds if they are asked for. */
export function clockTime(atMs: number, nowMs: number, withSeconds = false): string {
  const at = new Date(atMs);
  if (Number.isNaN(at.getTime())) return UNKNOWN;
  const time = [at.getHours(), at.getMinutes(), ...(withSeconds ? [at.getSeconds()] : [])].map(two).join(':');
  return isSameDay(at, new Date(nowMs))
    ? time
    : `${DAYS[at.getDay()]} ${at.getDate()} ${MONTHS[at.getMonth()]}, ${time}`;
}

/** "2026-11-30 09:00:12.345", by the reader's own clock. */
export function fullTime(atMs: number): string {
  const at = new Date(atMs);
  if (Number.isNaN(at.getTime())) return UNKNOWN;
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('-');
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':');
  return `${day} ${time}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

/** "1 alert", "2 alerts". */
export function plural(many: number, one: string, several = `${one}s`): string {
  return `${count(many)} ${many === 1 ? one : several}`;
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

const two = (value: number) => String(value).padStart(2, '0');
const isKnown = (value: number | null | undefined): value is number => Number.isFinite(value);

function isSameDay(one: Date, other: Date): boolean {
  return one.toDateString() === other.toDateString();
}

function joined(first: string, rest: number, unit: string): string {
  return rest === 0 ? first : `${first} ${rest} ${unit}`;
}

function trimmed(value: number, digits: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}
