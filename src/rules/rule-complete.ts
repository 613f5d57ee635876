// One rule of rules.yml as it is written -> the same with every default filled in. Pure; the checks come before.
import { durationMs } from '../core/duration.ts';
import type { Measures, Unit, Where } from '../measure/measure-config.ts';
import type { Priority, RuleInfo } from './observation.ts';
import { parseQuantity, type Quantity } from './quantity.ts';
import { BOUND_KEYS, type RuleKind } from './rule-schema.ts';
import type { Bound, Gate, Over, Rule } from './rule-types.ts';
import { sourcesOf } from './values.ts';

/** After the schema's checks. */
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

export interface WrittenGate extends WrittenBounds {
  readonly measure: string;
  readonly where?: Where;
  readonly window?: string;
  readonly over?: Over;
}

const COOLDOWN: Readonly<Record<Priority, string>> = { P1: '5m', P2: '10m', P3: '10m', P4: '10m' };
const REMIND: Readonly<Record<Priority, string>> = { P1: '30m', P2: '0s', P3: '0s', P4: '0s' };
const KEEP_FIRING = '2m';
const WINDOW: Partial<Record<RuleKind, string>> = { 'first-seen': '10m', trend: '24h', late: '10m' };
const MIN_EVENTS = 20;
const MAX_ALERTS = 20;

const MESSAGES: Readonly<Record<RuleKind, string>> = {
  threshold: '{measure} is {value} (threshold {threshold})',
  ratio: '{measure} is {value} (threshold {threshold}): {numerator} of {denominator} in {window}',
  percentile: '{measure} is {value} (threshold {threshold}) over {window}',
  absence: 'Nothing for {value} (threshold {threshold})',
  spike: '{measure} is {value}, usually {baseline} (threshold {threshold})',
  'low-volume': '{numerator} of the last {denominator}: {value} (threshold {threshold})',
  'first-seen': 'Never seen before: {labels}, {volume} times in {window}',
  trend: '{measure} is {value}, a week ago {baseline}',
  late: '',
};

export function complete(id: string, written: WrittenRule, measures: Measures): Rule {
  const { kind, measure: name } = written;
  const info = { ...infoOf(id, written), message: written.message ?? MESSAGES[kind] };
  const windowMs = durationMs(written.window ?? WINDOW[kind] ?? '5m');
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

/** True when the value rests on a number of events: with few of them it is chance. */
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
