// What a labelled scenario is, and the usual way to make one. In: how the platform behaves. Out: records, and what is right.
import type { SimulatedReading, SimulatedRecord, SimulationOptions } from '../../src/replay/simulate.ts';
import type { Behaviour } from './behaviour.ts';
import type { Fleet } from './fleet.ts';
import type { Truth } from './label.ts';
import type { Occurrence } from './occurrence.ts';
import { runPlatform } from './platform.ts';
import type { Random } from './random.ts';
import { type Shipped, type ShippingOptions, ship } from './shipping.ts';

/** One thing that goes wrong, however many alerts tell of it. */
export interface TrueIncident {
  readonly group: string;
  /** It becomes more urgent: the page is repeated at the higher priority. Default 0. */
  readonly escalations?: number;
  /** It ends, its end is told, and it begins again within the cooldown: the same incident is told once more. Default 0. */
  readonly reopenings?: number;
}

export interface Staged {
  readonly fromMs: number;
  readonly toMs: number;
  readonly records: readonly SimulatedRecord[];
  /** What really happened. Its error messages have been seen before, except those of `unknown`. */
  readonly occurrences: readonly Occurrence[];
  readonly unknown?: RegExp;
  /** For how long the platform was watched before. Default: a week, so that the usual errors are known. */
  readonly watchedMs?: number;
  /** Must be told from the beginning of each of their intervals. */
  readonly must: readonly Truth[];
  /** May be told as well: a rule at any time, or while it is true. Nothing else may. */
  readonly may?: readonly (Truth | string)[];
  readonly incidents: readonly TrueIncident[];
  readonly readableTo?: SimulationOptions['readableTo'];
  readonly readings?: readonly SimulatedReading[];
}

export interface Scenario {
  readonly name: string;
  /** What happens, in one sentence. */
  readonly about: string;
  /** Part of the subset that the unit tests run. */
  readonly quick?: true;
  stage(random: Random): Staged;
}

export interface StageOptions {
  readonly random: Random;
  /** ISO 8601. */
  readonly start: string;
  readonly minutes: number;
  readonly fleet?: Fleet;
  readonly behaviour?: Partial<Behaviour>;
  /** What else happens. */
  readonly more?: readonly Occurrence[];
  readonly shipping?: Omit<ShippingOptions, 'random'>;
}

/** A span of the platform's life on its way into the log. */
export interface Stage {
  readonly fromMs: number;
  readonly toMs: number;
  readonly occurrences: readonly Occurrence[];
  readonly records: Shipped[];
}

export const SECOND = 1_000;
export const MINUTE = 60_000;
export const HOUR = 3_600_000;

export function createStage(options: StageOptions): Stage {
  const { random, start, minutes, fleet, behaviour, more = [], shipping = {} } = options;
  const fromMs = Date.parse(start);
  const toMs = fromMs + minutes * MINUTE;
  const usual = runPlatform({ random, fromMs, toMs, ...(fleet && { fleet }), ...(behaviour && { behaviour }) });
  const occurrences = [...usual, ...more].sort((one, other) => one.trueMs - other.trueMs);
  return { fromMs, toMs, occurrences, records: ship(occurrences, { random, ...shipping }) };
}

/** `inside` from minute `from` to minute `to` after `start`, else `outside`. */
export function during<T>(start: string, from: number, to: number, inside: T, outside: T): (ms: number) => T {
  const fromMs = Date.parse(start);
  return (ms) => (ms >= fromMs + from * MINUTE && ms < fromMs + to * MINUTE ? inside : outside);
}

/** Goes linearly from `before` to `after` between two minutes after `start`. */
export function ramp(start: string, from: number, to: number, before: number, after: number): (ms: number) => number {
  const fromMs = Date.parse(start);
  return (ms) => {
    const done = (ms - fromMs - from * MINUTE) / ((to - from) * MINUTE);
    return before + (after - before) * Math.min(1, Math.max(0, done));
  };
}
