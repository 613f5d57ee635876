// Thresholds as people write them. In: a number or a text with a unit, and the unit of the measure. Out: the number in the
// measure's unit, or what is wrong.
import type { Unit } from '../measure/measure-config.ts';

export type Quantity = number | string;

/** Written unit -> for a measure in which unit -> factor. */
const FACTORS: Readonly<Record<string, Partial<Record<Unit, number>>>> = {
  '%': { ratio: 0.01, percent: 1 },
  ms: { ms: 1, s: 0.001 },
  s: { ms: 1_000, s: 1 },
  m: { ms: 60_000, s: 60 },
  h: { ms: 3_600_000, s: 3_600 },
  kB: { bytes: 1e3 },
  MB: { bytes: 1e6 },
  GB: { bytes: 1e9 },
  'kB/s': { 'bytes/s': 1e3 },
  'MB/s': { 'bytes/s': 1e6 },
  '/s': { 'per-second': 1, 'per-minute': 60 },
  '/min': { 'per-minute': 1, 'per-second': 1 / 60 },
};

export function parseQuantity(
  written: Quantity,
  unit: Unit,
): { ok: true; value: number } | { ok: false; problem: string } {
  const [, digits, suffix] = typeof written === 'number' ? [] : (/^(-?[\d.]+) ?(.*)$/.exec(written) ?? []);
  const factor = suffix === undefined ? 1 : FACTORS[suffix]?.[unit];
  if (factor === undefined) {
    const fitting = Object.keys(FACTORS).filter((name) => FACTORS[name]?.[unit] !== undefined);
    const instead = fitting.length > 0 ? fitting.join(', ') : 'a plain number';
    return { ok: false, problem: `found ${written}; the measure is in ${unit}, which takes ${instead}` };
  }
  // Rounded: 10 % is 0.1, not 0.1000…1.
  const value = Number((Number(digits ?? written) * factor).toPrecision(12));
  if (unit === 'ratio' && (value < 0 || value > 1)) {
    const hint = typeof written === 'number' ? `; did you mean ${written} %?` : '';
    return { ok: false, problem: `found ${written}; permitted: 0 to 100 %${hint}` };
  }
  return { ok: true, value };
}
