// Why an alert fired, for people. In: a breach and the window it rests on. Out: measure, value, threshold, volume, the commonest error
// templates, example event ids, the release that stands out. Guarantee: only what is known; bounded; nothing is changed.
import { OTHER } from '../measure/totals.ts';
import { formatThreshold, formatValue } from './format.ts';
import type { Why } from './observation.ts';
import type { MeasuredRule } from './rule-types.ts';
import { type Query, type Reading, readMeasure, sourcesOf } from './values.ts';
import type { WindowStore } from './windows.ts';

/** Measures and labels the explanation is taken from; what a configuration does not have is not said. */
const TEMPLATES = { measure: 'error.templates', label: 'error.template' } as const;
const ERRORS = { measure: 'log.errors', label: 'version' } as const;
const EVENTS = { measure: 'log.events', label: 'version' } as const;

const TOP = 3;
const MAX_EXAMPLES = 5;
/** A release stands out with this share of all errors, and this many times the error share of the other releases. */
const RELEASE_SHARE = 0.5;
const RELEASE_FACTOR = 2;

export interface Breach {
  readonly rule: MeasuredRule;
  /** Measure that was read: the rule's, or its fallback. */
  readonly measure: string;
  readonly reading: Reading;
  readonly value: number;
  readonly threshold: number;
  readonly fromMs: number;
  readonly toMs: number;
}

export function explain(store: WindowStore, breach: Breach): Why {
  const { rule, measure, reading, value, threshold, fromMs, toMs } = breach;
  const query: Query = { fromMs, toMs, nowMs: toMs };
  const release = standsOut(store, query);
  return {
    measure,
    windowMs: toMs - fromMs,
    fromMs,
    toMs,
    value,
    valueText: formatValue(value, rule.unit),
    threshold,
    thresholdText: formatThreshold(threshold, rule.unit),
    volume: reading.volume,
    topTemplates: topTemplates(store, query),
    examples: examplesOf(store, breach),
    ...(release === undefined ? {} : { release }),
  };
}

function topTemplates(store: WindowStore, query: Query): Why['topTemplates'] {
  return counts(store, TEMPLATES, query)
    .sort((a, b) => b.volume - a.volume)
    .slice(0, TOP)
    .map(({ labels, volume }) => ({ template: labels[TEMPLATES.label]!, count: volume }));
}

/** Groups of a counter that has the label, without empty ones. */
function counts(store: WindowStore, { measure, label }: { measure: string; label: string }, query: Query): Reading[] {
  const table = store.table(measure);
  if (table?.kind !== 'counter' || !table.measure.by.includes(label)) return [];
  return readMeasure(store, measure, { ...query, by: [label] }).filter(({ volume }) => volume > 0);
}

/** Of the events that made the value bad where they were kept, else of the errors in the window. */
function examplesOf(store: WindowStore, { rule, measure, reading, fromMs, toMs }: Breach): string[] {
  const definition = store.measures.get(measure);
  if (definition === undefined) return [];
  const reference =
    definition.kind === 'ratio'
      ? definition.numerator
      : 'of' in definition
        ? definition.of
        : { of: measure, where: {} };
  const where = { ...reference.where, ...rule.where };
  for (const [name, conditions] of [
    [reference.of, { ...where, ...reading.labels }],
    [ERRORS.measure, {}],
  ] as const) {
    const table = store.table(name);
    if (table?.kind !== 'counter' || table.measure.examples === 0) continue;
    const indexes = table.series.select(conditions, []).flatMap((group) => group.indexes);
    const found = table.examples.list(fromMs, toMs, indexes, MAX_EXAMPLES);
    if (found.length > 0) return found;
  }
  return [];
}

/** The version most errors are of, if its share of errors is far above that of the others. */
function standsOut(store: WindowStore, query: Query): string | undefined {
  const errors = counts(store, ERRORS, query);
  const events = new Map(counts(store, EVENTS, query).map(({ key, volume }) => [key, volume] as const));
  const all = { errors: sum(errors.map(({ volume }) => volume)), events: sum(events.values()) };
  for (const { key, volume } of errors) {
    const own = events.get(key) ?? 0;
    const others = { errors: all.errors - volume, events: all.events - own };
    if (key === OTHER || own === 0 || volume < all.errors * RELEASE_SHARE) continue;
    if (volume / own >= RELEASE_FACTOR * (others.errors / others.events)) return key;
  }
  return undefined;
}

function sum(numbers: Iterable<number>): number {
  let result = 0;
  for (const number of numbers) result += number;
  return result;
}

/** True when nothing of the measure comes from the log. */
export function isInternal(store: WindowStore, measure: string): boolean {
  const definition = store.measures.get(measure);
  if (definition === undefined) return false;
  return sourcesOf(definition).every((name) => {
    const table = store.table(name);
    return table?.kind === 'gauge' && table.measure.internal;
  });
}
