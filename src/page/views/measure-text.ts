// Values of measures for people. In: a value and the unit of its measure, as rules name it. Out: text. Guarantee: pure; an unknown unit is
// written as a plain number, and an unknown value as "–".
import { count, duration, milliseconds, percent, UNKNOWN } from '../format.ts';

const BYTE_UNITS = ['B', 'KB', 'MB', 'GB', 'TB'] as const;

export function measureText(value: number | null | undefined, unit: string): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  switch (unit) {
    case 'ratio':
      return percent(value);
    case 'percent':
      return percent(value / 100);
    case 'ms':
      return milliseconds(value);
    case 's':
      return value < 10 ? `${count(value)} s` : duration(value * 1_000);
    case 'bytes':
      return bytesText(value);
    case 'bytes/s':
      return `${bytesText(value)}/s`;
    case 'per-second':
      return `${count(value)}/s`;
    case 'per-minute':
      return `${count(value)}/min`;
    default:
      return count(value);
  }
}

export function bytesText(bytes: number): string {
  const step = Math.min(BYTE_UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, Math.abs(bytes))) / 10)));
  return `${count(bytes / 1_024 ** step)} ${BYTE_UNITS[step]}`;
}
