// A rule as the evaluator uses it: every default filled in, durations in ms, thresholds in the unit of their measure.

import { durationSchema } from '../core/clock.ts';
import type { Schema } from '../core/config-loader.ts';
import { MEASURES_SCHEMA, type Unit, type Where } from '../measure/measure-config.ts';
import { PRIORITIES, type RuleInfo } from './observation.ts';

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
  /** See words.ts. */
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

// The shape of rules.yml as JSON Schema, and which kind of rule takes which keys. What a schema cannot say is in
// rule-checks.ts; what a key is when it is not written, in rule-complete.ts.

export const RULE_KINDS = [
  'threshold',
  'ratio',
  'percentile',
  'absence',
  'spike',
  'low-volume',
  'first-seen',
  'trend',
  'late',
] as const;
export type RuleKind = (typeof RULE_KINDS)[number];

export const BOUND_KEYS = ['above', 'below', 'atLeast', 'atMost'] as const;

const COMMON = [
  'title',
  'priority',
  'group',
  'kind',
  'for',
  'keepFiring',
  'cooldown',
  'remind',
  'inhibitedBy',
  'runbook',
  'message',
  'metadata',
];
const MEASURED = [...COMMON, 'measure', 'where', 'window', 'labels', 'maxAlerts'];
const BOUNDED = [...MEASURED, ...BOUND_KEYS, 'minEvents', 'onlyWhile'];

/** Keys a rule of each kind may have, and those it must have beside title, priority and kind. */
export const KEYS_OF_KIND: Readonly<
  Record<RuleKind, { permitted: readonly string[]; required: readonly string[]; bound: boolean }>
> = {
  threshold: { permitted: [...BOUNDED, 'over', 'fallback'], required: ['measure'], bound: true },
  ratio: { permitted: [...BOUNDED, 'againstOthers'], required: ['measure'], bound: true },
  percentile: { permitted: BOUNDED, required: ['measure'], bound: true },
  absence: {
    permitted: [...MEASURED, ...BOUND_KEYS, 'forgetAfter'].filter((key) => key !== 'window'),
    required: ['measure'],
    bound: true,
  },
  spike: {
    permitted: [...MEASURED, 'baseline', 'factor', 'deviations', 'floor'],
    required: ['measure', 'window', 'floor'],
    bound: false,
  },
  'low-volume': {
    permitted: [...MEASURED, ...BOUND_KEYS, 'minEvents', 'last', 'insteadOf'],
    required: ['measure', 'window', 'last', 'insteadOf'],
    bound: true,
  },
  'first-seen': { permitted: [...MEASURED, 'minEvents', 'learning'], required: ['measure', 'labels'], bound: false },
  trend: {
    permitted: [...MEASURED, 'minEvents', 'offset', 'factor', 'floor'].filter(
      (key) => key !== 'labels' && key !== 'maxAlerts',
    ),
    required: ['measure', 'floor'],
    bound: false,
  },
  late: { permitted: [...COMMON, 'window'], required: [], bound: false },
};

const none = { const: '0s' };
const duration = (description: string) => ({ ...durationSchema, description });
const durationOrNone = (description: string) => ({ anyOf: [durationSchema, none], description });

const quantity = {
  anyOf: [
    { type: 'number' },
    { type: 'string', pattern: '^-?\\d+(\\.\\d+)? ?(%|ms|s|m|h|kB|MB|GB|kB/s|MB/s|/s|/min)$' },
  ],
  description: 'A number in the measure’s unit, or with a unit: 10 %, 500 ms, 2 m, 5 /min, 512 MB.',
};
const text = (description: string, maxLength = 200) => ({ type: 'string', minLength: 1, maxLength, description });
const id = { type: 'string', pattern: '^[a-z][a-z0-9]*(-[a-z0-9]+)*$', maxLength: 80 };
// The conditions of measures.yml, here on labels.
const where = MEASURES_SCHEMA.properties.measures.additionalProperties.properties.where;
const over = {
  enum: ['newest', 'lowest', 'highest', 'mean'],
  description: 'Of gauges: which of the window’s readings is meant.',
};
const bounds = { above: quantity, below: quantity, atLeast: quantity, atMost: quantity };

const rule = {
  type: 'object',
  additionalProperties: false,
  required: ['title', 'priority', 'kind'],
  properties: {
    title: text('What people read first.', 120),
    priority: { enum: PRIORITIES, description: 'Who is told, and how urgently.' },
    group: { ...id, description: 'Alerts of one group that fire together are one incident.' },
    kind: { enum: RULE_KINDS, description: 'How the measure is judged.' },
    measure: text('A measure of measures.yml.', 80),
    where,
    window: duration('The time the measure is taken over.'),
    ...bounds,
    minEvents: { type: 'integer', minimum: 1, description: 'With fewer events nothing is said.' },
    over,
    fallback: text('Measure that is read while the other has no data at all.', 80),
    onlyWhile: {
      type: 'object',
      additionalProperties: false,
      required: ['measure'],
      description: 'The rule is judged only while this holds.',
      properties: {
        measure: text('A measure of measures.yml.', 80),
        where,
        window: duration('Its window.'),
        over,
        ...bounds,
      },
    },
    againstOthers: {
      type: 'number',
      exclusiveMinimum: 1,
      description: 'Only label sets with this many times the ratio of all others together.',
    },
    baseline: duration('The recent past a spike stands out from.'),
    factor: { type: 'number', exclusiveMinimum: 1, description: 'How many times the former value.' },
    deviations: { type: 'number', minimum: 0, description: 'How many times the usual spread above the usual value.' },
    floor: { ...quantity, description: 'Least value (spike) or least rise (trend) worth an alert.' },
    last: { type: 'integer', minimum: 1, maximum: 1_000, description: 'How many events are looked at, newest first.' },
    insteadOf: { ...id, description: 'The ratio rule that has too few events while this one is judged.' },
    learning: durationOrNone('For this long after the first start everything is learned without a word.'),
    forgetAfter: duration(
      'A label set that nothing has arrived of for so long is over; without it, silence has no end.',
    ),
    offset: duration('How long ago the time is that a trend is compared with.'),
    for: durationOrNone('How long the condition must hold before the alert fires.'),
    keepFiring: durationOrNone('How long the alert goes on after the condition was last true.'),
    cooldown: durationOrNone('At least this long between two messages about one incident.'),
    remind: durationOrNone('Reminder while nobody has acknowledged; 0s: none.'),
    labels: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      uniqueItems: true,
      maxItems: 4,
      description: 'One alert for each set of values of these labels.',
    },
    maxAlerts: { type: 'integer', minimum: 1, maximum: 200, description: 'Label sets that may fire at a time.' },
    inhibitedBy: {
      type: 'array',
      items: id,
      uniqueItems: true,
      description: 'Rules that mute this one while they fire.',
    },
    runbook: text('Path or address.', 500),
    message: text('One sentence with placeholders.', 500),
    metadata: {
      type: 'object',
      maxProperties: 20,
      description: 'Name -> what it holds.',
      propertyNames: { pattern: '^[A-Za-z][A-Za-z0-9_]*$' },
      additionalProperties: text('See the head of rules.yml.', 120),
    },
  },
};

export const RULES_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['rules'],
  properties: {
    rules: {
      type: 'object',
      description: 'Id -> rule.',
      propertyNames: id,
      maxProperties: 500,
      additionalProperties: rule,
    },
  },
} as const satisfies Schema;
