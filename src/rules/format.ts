// Numbers as people read them. In: a value and its unit. Out: short text: "23.08 %", "812 ms", "1.4 GB", "3 min".
import type { Unit } from '../measure/measure-config.ts';

const BYTES = ['B', 'kB', 'MB', 'GB', 'TB'] as const;

/** A measured value: percentages always with two decimals. */
export function formatValue(value: number, unit: Unit): string {
  switch (unit) {
    case 'ratio':
      return `${(value * 100).toFixed(2)} %`;
    case 'percent':
      return `${value.toFixed(2)} %`;
    default:
      return format(value, unit);
  }
}

/** A threshold: as it was written, without decimals that say nothing. */
export function formatThreshold(value: number, unit: Unit): string {
  return unit === 'ratio' || unit === 'percent'
    ? `${short(unit === 'ratio' ? value * 100 : value)} %`
    : format(value, unit);
}

function format(value: number, unit: Exclude<Unit, 'ratio' | 'percent'> | Unit): string {
  switch (unit) {
    case 'ms':
      return formatDuration(value);
    case 's':
      return formatDuration(value * 1_000);
    case 'bytes':
      return formatBytes(value);
    case 'bytes/s':
      return `${formatBytes(value)}/s`;
    case 'per-second':
      return `${short(value)}/s`;
    case 'per-minute':
      return `${short(value)}/min`;
    default:
      return short(value);
  }
}

export function formatDuration(ms: number): string {
  if (Math.abs(ms) < 1_000) return `${short(ms)} ms`;
  if (ms < 120_000) return `${short(Math.round(ms / 100) / 10)} s`;
  if (ms < 2 * 3_600_000) return `${short(Math.round(ms / 6_000) / 10)} min`;
  return `${short(Math.round(ms / 360_000) / 10)} h`;
}

function formatBytes(bytes: number): string {
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 1_000 && step < BYTES.length - 1) {
    value /= 1_000;
    step++;
  }
  return `${short(value)} ${BYTES[step]}`;
}

/** At most two decimals. */
export function round2(value: number): number {
  return Math.round(value * 100) / 100;
}

function short(value: number): string {
  return String(round2(value));
}

/** "12:03" of the day, UTC. */
export function clockTime(ms: number): string {
  return new Date(ms).toISOString().slice(11, 16);
}
