// A rule as the evaluator uses it: every default filled in, durations in ms, thresholds in the unit of their measure.
import type { Unit, Where } from '../measure/measure-config.ts';
import type { RuleInfo } from './observation.ts';

export interface Bound {
  readonly op: 'above' | 'below' | 'atLeast' | 'atMost';
  /** In the measure's unit: a ratio of 10 % is 0.1. */
  readonly value: number;
}

/** Of gauges: which of the window's readings is meant. */
export type Over = 'newest' | 'lowest' | 'highest' | 'mean';

/** The rule is judged only while this holds; otherwise it is clear. */
export interface Gate {
  readonly measure: string;
  readonly windowMs: number;
  readonly over: Over;
  readonly where: Where;
  readonly bound: Bound;
}

interface RuleBase extends RuleInfo {
  /** Label names; one alert per label set. */
  readonly labels: readonly string[];
  /** Label sets that may be breached at a time. */
  readonly maxAlerts: number;
  /** See message.ts. */
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

interface MeasuringRule extends RuleBase {
  readonly measure: string;
  readonly unit: Unit;
  /** Which series count: conditions on labels. */
  readonly where: Where;
  readonly windowMs: number;
  /** With fewer events nothing is said. */
  readonly minEvents: number;
}

export interface ThresholdRule extends MeasuringRule {
  readonly kind: 'threshold' | 'ratio' | 'percentile';
  readonly bound: Bound;
  readonly over: Over;
  /** Read instead while `measure` has no data at all. */
  readonly fallback?: string;
  readonly onlyWhile?: Gate;
  /** Of labelled ratios: breached only when this many times as high as that of all other label sets together. */
  readonly againstOthers?: number;
}

export interface AbsenceRule extends MeasuringRule {
  readonly kind: 'absence';
  readonly bound: Bound;
  /** A label set that nothing has arrived of for so long is over. */
  readonly forgetAfterMs?: number;
}

export interface SpikeRule extends MeasuringRule {
  readonly kind: 'spike';
  /** The recent past it is compared with, before the window. */
  readonly baselineMs: number;
  /** Breached above `factor` times the usual value, `deviations` times its usual spread above it, and `floor`. */
  readonly factor: number;
  readonly deviations: number;
  readonly floor: number;
}

export interface LowVolumeRule extends MeasuringRule {
  readonly kind: 'low-volume';
  /** How many events it looks at, the newest first, within `windowMs`. */
  readonly last: number;
  readonly bound: Bound;
  /** The ratio rule that has too few events when this one is judged. */
  readonly insteadOf: string;
}

export interface FirstSeenRule extends MeasuringRule {
  readonly kind: 'first-seen';
  /** For this long after the beginning everything is learned without a word. */
  readonly learningMs: number;
}

export interface TrendRule extends MeasuringRule {
  readonly kind: 'trend';
  /** How long ago the window is that it is compared with. */
  readonly offsetMs: number;
  /** Breached from `factor` times the former value on, if it also rose by at least `floor`. */
  readonly factor: number;
  readonly floor: number;
}

/** Says what would have fired, had it been known in time. */
export interface LateRule extends RuleBase {
  readonly kind: 'late';
  /** How long it says so. */
  readonly windowMs: number;
}

export type Rule = ThresholdRule | AbsenceRule | SpikeRule | LowVolumeRule | FirstSeenRule | TrendRule | LateRule;
export type MeasuredRule = Exclude<Rule, LateRule>;

export function exceeds(value: number, { op, value: threshold }: Bound): boolean {
  switch (op) {
    case 'above':
      return value > threshold;
    case 'below':
      return value < threshold;
    case 'atLeast':
      return value >= threshold;
    case 'atMost':
      return value <= threshold;
  }
}

/** True when a higher value is worse. */
export function isUpper({ op }: Bound): boolean {
  return op === 'above' || op === 'atLeast';
}
