// The kinds of rule. In: a rule of rules.yml as it is written. Out: the rule as the evaluator uses it: every default filled in,
// durations in ms, thresholds in the unit of their measure. Guarantee: everything particular to a kind is here, except how it judges
// (kinds.ts).
import { durationMs, durationSchema } from '../core/clock.ts';
import type { Where } from '../core/condition.ts';
import type { Schema } from '../core/config-loader.ts';
import { MEASURES_SCHEMA, type Measure, type Measures, type Unit } from '../measure/measure-config.ts';
import { sourcesOf } from '../windows/values.ts';

// ---- what a rule says of one label set at one evaluation: the contract with incidents; data only ----

export const PRIORITIES = ['P1', 'P2', 'P3', 'P4'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Severity as the operators' guide has it: P1 is critical, P2 and P3 warn, P4 informs. */
export type Severity = 'critical' | 'warning' | 'info';

/** What deciding and notifying need to know about a rule; frozen, from the rules file. */
export interface RuleInfo {
  readonly id: string;
  readonly title: string;
  readonly priority: Priority;
  /** Alerts of one group that fire together are one incident. */
  readonly group: string;
  /** How long the condition must hold before the alert fires. */
  readonly forMs: number;
  /** How long it keeps firing after the condition was last true (flap hold). */
  readonly keepFiringMs: number;
  /** At least this long between two messages about one incident; an alert that fires again later than this is a new incident. */
  readonly cooldownMs: number;
  /** Reminder while nobody has acknowledged; 0 = none. */
  readonly remindMs: number;
  /** Firing alerts of these rules mute this one (same labels where both have the label). */
  readonly inhibitedBy: readonly string[];
  /** Address or path of the runbook. */
  readonly runbook: string;
}

interface TemplateCount {
  readonly template: string;
  readonly count: number;
}

/** Why an alert fired, for people. What is unknown is absent. */
export interface Why {
  readonly measure: string;
  readonly windowMs: number;
  /** Evaluated window, ms. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly value: number;
  /** `value` with its unit: "23.08 %", "812 ms". */
  readonly valueText: string;
  readonly threshold: number;
  readonly thresholdText: string;
  /** Events the value was made from. */
  readonly volume: number;
  readonly topTemplates: readonly TemplateCount[];
  /** Up to five event ids. */
  readonly examples: readonly string[];
  /** Set when errors stand out in one release. */
  readonly release?: string;
}

export interface Observation {
  readonly ruleId: string;
  /** Empty for a rule over everything. */
  readonly labels: Readonly<Record<string, string>>;
  /**
   * `breached` may rest on an unfinished bucket; `clear` only on complete ones; `unknown` (no data, too few events) does not
   * fire, and ends an alert only when it lasts; `held` (logpipe is behind, or more than `maxAlerts` are breached) changes
   * nothing; `forgotten` (silent for longer than the rule's `forgetAfter`) ends an alert at once, with a reason of its own.
   */
  readonly state: 'breached' | 'clear' | 'unknown' | 'held' | 'forgotten';
  /**
   * Set when it was judged by another clock than evaluation time, ms: what does not come from the log is judged by the wall
   * clock, even while nothing is counted.
   */
  readonly atMs?: number;
  /** Present when breached: one sentence with value and threshold, and what the operators' guide wants as metadata. */
  readonly message?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly why?: Why;
  /** Present when clear and the value is known, with its unit: "3.10 %". */
  readonly nowText?: string;
}

// ---- the kinds ----

export interface Bound {
  readonly op: 'above' | 'below' | 'atLeast' | 'atMost';
  /** In the measure's unit: a ratio of 10 % is 0.1. */
  readonly value: number;
}

/** Gauges: which of the window's readings is meant. */
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
  /** How many label sets may be breached at a time. */
  readonly maxAlerts: number;
  /** With the placeholders of words.ts. */
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

interface MeasuringRule extends RuleBase {
  readonly measure: string;
  readonly unit: Unit;
  /** Conditions on labels: which series count. */
  readonly where: Where;
  readonly windowMs: number;
  /** With fewer events the rule says nothing. */
  readonly minEvents: number;
}

export interface ThresholdRule extends MeasuringRule {
  readonly kind: 'threshold' | 'ratio' | 'percentile';
  readonly bound: Bound;
  readonly over: Over;
  /** Read instead while `measure` has no data at all. */
  readonly fallback?: string;
  readonly onlyWhile?: Gate;
  /** Ratios with labels: breached only when this many times as high as the ratio of all other label sets together. */
  readonly againstOthers?: number;
}

export interface AbsenceRule extends MeasuringRule {
  readonly kind: 'absence';
  readonly bound: Bound;
  /** A label set of which nothing has arrived for this long counts as gone. */
  readonly forgetAfterMs?: number;
}

export interface SpikeRule extends MeasuringRule {
  readonly kind: 'spike';
  /** The recent past, before the window, that the value is compared with. */
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
  /** For this long after the beginning everything is learned silently. */
  readonly learningMs: number;
}

export interface TrendRule extends MeasuringRule {
  readonly kind: 'trend';
  /** How long ago the window was that this one is compared with. */
  readonly offsetMs: number;
  /** Breached at `factor` times the earlier value, if it also rose by at least `floor`. */
  readonly factor: number;
  readonly floor: number;
}

/** Says what would have fired, had it been known in time. */
export interface LateRule extends RuleBase {
  readonly kind: 'late';
  /** How long the summary stays up. */
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

// ---- the shape of rules.yml as JSON Schema, and which kind of rule takes which keys ----
// Checks that a schema cannot express are in rule-config.ts.

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

const BOUND_KEYS = ['above', 'below', 'atLeast', 'atMost'] as const;

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

/** The keys of a rule of one kind, and their defaults. */
interface KindFacts {
  /** Keys the rule may have. */
  readonly permitted: readonly string[];
  /** Keys it must have in addition to title, priority and kind. */
  readonly required: readonly string[];
  /** Exactly one of above, below, atLeast, atMost. */
  readonly bound: boolean;
  /** The kinds of measure it can judge; none for a rule that judges other rules. */
  readonly judges?: readonly Measure['kind'][];
  /** Default `window`, where it is not 5 minutes. */
  readonly window?: string;
  /** Default `message`. */
  readonly message: string;
}

export const KINDS: Readonly<Record<RuleKind, KindFacts>> = {
  threshold: {
    permitted: [...BOUNDED, 'over', 'fallback'],
    required: ['measure'],
    bound: true,
    judges: ['counter', 'gauge', 'ratio', 'percentile', 'mean', 'rate', 'increase', 'sum'],
    message: '{measure} is {value} (threshold {threshold})',
  },
  ratio: {
    permitted: [...BOUNDED, 'againstOthers'],
    required: ['measure'],
    bound: true,
    judges: ['ratio'],
    message: '{measure} is {value} (threshold {threshold}): {numerator} of {denominator} in {window}',
  },
  percentile: {
    permitted: BOUNDED,
    required: ['measure'],
    bound: true,
    judges: ['percentile'],
    message: '{measure} is {value} (threshold {threshold}) over {window}',
  },
  absence: {
    permitted: [...MEASURED, ...BOUND_KEYS, 'forgetAfter'].filter((key) => key !== 'window'),
    required: ['measure'],
    bound: true,
    judges: ['absence'],
    message: 'Nothing for {value} (threshold {threshold})',
  },
  spike: {
    permitted: [...MEASURED, 'baseline', 'factor', 'deviations', 'floor'],
    required: ['measure', 'window', 'floor'],
    bound: false,
    judges: ['counter', 'rate', 'gauge'],
    message: '{measure} is {value}, usually {baseline} (threshold {threshold})',
  },
  'low-volume': {
    permitted: [...MEASURED, ...BOUND_KEYS, 'minEvents', 'last', 'insteadOf'],
    required: ['measure', 'window', 'last', 'insteadOf'],
    bound: true,
    judges: ['ratio'],
    message: '{numerator} of the last {denominator}: {value} (threshold {threshold})',
  },
  'first-seen': {
    permitted: [...MEASURED, 'minEvents', 'learning'],
    required: ['measure', 'labels'],
    bound: false,
    judges: ['counter'],
    window: '10m',
    message: 'Never seen before: {labels}, {volume} times in {window}',
  },
  trend: {
    permitted: [...MEASURED, 'minEvents', 'offset', 'factor', 'floor'].filter(
      (key) => key !== 'labels' && key !== 'maxAlerts',
    ),
    required: ['measure', 'floor'],
    bound: false,
    judges: ['counter', 'ratio', 'rate', 'mean'],
    window: '24h',
    message: '{measure} is {value}, a week ago {baseline}',
  },
  late: { permitted: [...COMMON, 'window'], required: [], bound: false, window: '10m', message: '' },
};

const none = { const: '0s' };
const duration = (description: string) => ({ ...durationSchema, description });
const durationOrNone = (description: string) => ({ anyOf: [durationSchema, none], description });

const quantity = {
  anyOf: [
    { type: 'number' },
    {
      type: 'string',
      pattern: '^-?\\d+(\\.\\d+)? ?(%|ms|s|m|h|kB|MB|GB|kB/s|MB/s|/s|/min)$',
      permitted: 'a number, or a quantity like 5 %, 300 ms, 10 min, 2 MB or 3 /min',
    },
  ],
  description: 'A number in the measure’s unit, or with a unit: 10 %, 500 ms, 2 m, 5 /min, 512 MB.',
};
const text = (description: string, maxLength = 200) => ({ type: 'string', minLength: 1, maxLength, description });
const id = {
  type: 'string',
  pattern: '^[a-z][a-z0-9]*(-[a-z0-9]+)*$',
  permitted: 'small letters and digits with hyphens between them, like high-error-rate',
  maxLength: 80,
};
// The same conditions as in measures.yml, but on labels.
const where = MEASURES_SCHEMA.properties.measures.additionalProperties.properties.where;
const over = {
  enum: ['newest', 'lowest', 'highest', 'mean'],
  description: 'For gauges: which of the window’s readings is meant.',
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
    minEvents: { type: 'integer', minimum: 1, description: 'With fewer events the rule says nothing.' },
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
    factor: { type: 'number', exclusiveMinimum: 1, description: 'How many times the usual or earlier value.' },
    deviations: { type: 'number', minimum: 0, description: 'How many times the usual spread above the usual value.' },
    floor: { ...quantity, description: 'Least value (spike) or least rise (trend) worth an alert.' },
    last: { type: 'integer', minimum: 1, maximum: 1_000, description: 'How many events are looked at, newest first.' },
    insteadOf: { ...id, description: 'The ratio rule that has too few events while this one is judged.' },
    learning: durationOrNone('For this long after the first start everything is learned silently.'),
    forgetAfter: duration(
      'A label set of which nothing has arrived for this long counts as gone; without it, a silence lasts.',
    ),
    offset: duration('How long before the window the time is that a trend compares with.'),
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
      propertyNames: {
        pattern: '^[A-Za-z][A-Za-z0-9_]*$',
        permitted: 'letters, digits and underscores, a letter first',
      },
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

// ---- one written rule -> the same with every default filled in ----
// The checks (rule-config.ts) come first.

/** A rule as it is written, after the schema's checks. */
export interface WrittenRule extends WrittenBounds {
  readonly title: string;
  readonly priority: Priority;
  readonly kind: RuleKind;
  readonly group?: string;
  readonly measure?: string;
  readonly where?: Where;
  readonly window?: string;
  readonly minEvents?: number;
  readonly over?: Over;
  readonly fallback?: string;
  readonly onlyWhile?: WrittenGate;
  readonly againstOthers?: number;
  readonly baseline?: string;
  readonly factor?: number;
  readonly deviations?: number;
  readonly floor?: Quantity;
  readonly last?: number;
  readonly insteadOf?: string;
  readonly learning?: string;
  readonly offset?: string;
  readonly forgetAfter?: string;
  readonly for?: string;
  readonly keepFiring?: string;
  readonly cooldown?: string;
  readonly remind?: string;
  readonly labels?: readonly string[];
  readonly maxAlerts?: number;
  readonly inhibitedBy?: readonly string[];
  readonly runbook?: string;
  readonly message?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

export type WrittenBounds = { readonly [key in (typeof BOUND_KEYS)[number]]?: Quantity };

interface WrittenGate extends WrittenBounds {
  readonly measure: string;
  readonly where?: Where;
  readonly window?: string;
  readonly over?: Over;
}

const COOLDOWN: Readonly<Record<Priority, string>> = { P1: '5m', P2: '10m', P3: '10m', P4: '10m' };
const REMIND: Readonly<Record<Priority, string>> = { P1: '30m', P2: '0s', P3: '0s', P4: '0s' };
const KEEP_FIRING = '2m';
const MIN_EVENTS = 20;
const MAX_ALERTS = 20;

export function complete(id: string, written: WrittenRule, measures: Measures): Rule {
  const { kind, measure: name } = written;
  const info = { ...infoOf(id, written), message: written.message ?? KINDS[kind].message };
  const windowMs = durationMs(written.window ?? KINDS[kind].window ?? '5m');
  if (kind === 'late') return freeze({ ...info, kind, windowMs, labels: [], maxAlerts: 1, metadata: {} });

  const measure = measures.get(name!)!;
  const { unit } = measure;
  const measuring = {
    ...info,
    measure: measure.name,
    unit,
    where: written.where ?? {},
    windowMs,
    labels: written.labels ?? [],
    maxAlerts: written.maxAlerts ?? MAX_ALERTS,
    metadata: written.metadata ?? defaultMetadata(kind, written.labels ?? []),
    minEvents: written.minEvents ?? (countsEvents(name!, kind, measures) ? MIN_EVENTS : 1),
  };
  const quantity = (value: Quantity | undefined) => quantityOf(value ?? 0, unit);
  switch (kind) {
    case 'threshold':
    case 'ratio':
    case 'percentile':
      return freeze({
        ...measuring,
        kind,
        bound: boundOf(written, unit),
        over: written.over ?? 'newest',
        ...(written.fallback === undefined ? {} : { fallback: written.fallback }),
        ...(written.againstOthers === undefined ? {} : { againstOthers: written.againstOthers }),
        ...(written.onlyWhile === undefined ? {} : { onlyWhile: gateOf(written.onlyWhile, windowMs, measures) }),
      });
    case 'absence':
      return freeze({
        ...measuring,
        kind,
        bound: boundOf(written, unit),
        ...(written.forgetAfter === undefined ? {} : { forgetAfterMs: durationMs(written.forgetAfter) }),
      });
    case 'spike':
      return freeze({
        ...measuring,
        kind,
        baselineMs: durationMs(written.baseline ?? '1h'),
        factor: written.factor ?? 3,
        deviations: written.deviations ?? 4,
        floor: quantity(written.floor),
      });
    case 'low-volume':
      return freeze({
        ...measuring,
        kind,
        last: written.last!,
        insteadOf: written.insteadOf!,
        minEvents: written.minEvents ?? written.last!,
        bound: boundOf(written, unit),
      });
    case 'first-seen':
      return freeze({ ...measuring, kind, learningMs: durationMs(written.learning ?? '24h') });
    case 'trend':
      return freeze({
        ...measuring,
        kind,
        offsetMs: durationMs(written.offset ?? '7d'),
        factor: written.factor ?? 1.5,
        floor: quantity(written.floor),
      });
  }
}

/** The bounds that were written; exactly one in a checked rule. */
export function boundsOf(written: WrittenBounds): readonly (readonly [Bound['op'], Quantity])[] {
  return BOUND_KEYS.flatMap((op) => (written[op] === undefined ? [] : [[op, written[op]] as const]));
}

function boundOf(written: WrittenBounds, unit: Unit): Bound {
  const [op, value] = boundsOf(written)[0]!;
  return { op, value: quantityOf(value, unit) };
}

function quantityOf(written: Quantity, unit: Unit): number {
  const parsed = parseQuantity(written, unit);
  return parsed.ok ? parsed.value : Number.NaN;
}

function gateOf(written: WrittenGate, windowMs: number, measures: Measures): Gate {
  return {
    measure: written.measure,
    windowMs: written.window === undefined ? windowMs : durationMs(written.window),
    over: written.over ?? 'newest',
    where: written.where ?? {},
    bound: boundOf(written, measures.get(written.measure)!.unit),
  };
}

function infoOf(id: string, written: WrittenRule): RuleInfo {
  const { title, priority } = written;
  return {
    id,
    title,
    priority,
    group: written.group ?? id,
    forMs: durationMs(written.for ?? '0s'),
    keepFiringMs: durationMs(written.keepFiring ?? KEEP_FIRING),
    cooldownMs: durationMs(written.cooldown ?? COOLDOWN[priority]),
    remindMs: durationMs(written.remind ?? REMIND[priority]),
    inhibitedBy: written.inhibitedBy ?? [],
    runbook: written.runbook ?? `docs/runbooks/${id}.md`,
  };
}

/** True when the value is made from a number of events, so that with few of them it is chance. */
function countsEvents(name: string, kind: RuleKind, measures: Measures): boolean {
  const measure = measures.get(name)!;
  if (kind === 'first-seen') return false;
  return (
    ['ratio', 'percentile', 'mean'].includes(measure.kind) && measures.get(sourcesOf(measure)[0]!)?.kind !== 'gauge'
  );
}

function defaultMetadata(kind: RuleKind, labels: readonly string[]): Record<string, string> {
  const named = Object.fromEntries(labels.map((label) => [label.split('.').at(-1)!, `label.${label}`]));
  if (kind === 'first-seen') return { ...named, count: 'volume' };
  return { ...named, value: 'value as text', threshold: 'threshold as text' };
}

function freeze(rule: Rule): Rule {
  return Object.freeze(rule);
}

// ---- thresholds as people write them: a number, or text with a unit -> the number in the measure's unit ----

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
