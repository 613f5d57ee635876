// Why an alert fired, for people. In: a breach and the window it rests on. Out: measure, value, threshold, volume, the commonest error
// templates, example event ids, the release that stands out. Guarantee: only what is known, and of the alert's own events;
// bounded; nothing is changed.
import type { MeasureReference, Where } from '../measure/measure-config.ts';
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
    topTemplates: topTemplates(store, query, breach),
    examples: examplesOf(store, breach),
    ...(release === undefined ? {} : { release }),
  };
}

/** Of an alert about errors: those in its measure, and in its label set. Of any other there is nothing to say. */
function topTemplates(store: WindowStore, query: Query, breach: Breach): Why['topTemplates'] {
  const table = store.table(TEMPLATES.measure);
  const own = eventsOf(store, breach);
  const counted = own === undefined ? undefined : store.table(own.of);
  if (own === undefined || counted?.kind !== 'counter' || table?.kind !== 'counter') return [];
  // Both count the same events, and what narrows the alert down narrows the templates down.
  const same = JSON.stringify(sorted(counted.measure.where)) === JSON.stringify(sorted(table.measure.where));
  if (!same || !Object.keys(own.where).every((name) => table.measure.by.includes(name))) return [];
  return counts(store, TEMPLATES, { ...query, where: own.where })
    .sort((a, b) => b.volume - a.volume)
    .slice(0, TOP)
    .map(({ labels, volume }) => ({ template: labels[TEMPLATES.label]!, count: volume }));
}

function sorted(where: Where): [string, unknown][] {
  return Object.entries(where).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** What is counted for the alert: a measure, and the part of it that made the value bad. */
function eventsOf(store: WindowStore, { rule, measure, reading }: Breach): MeasureReference | undefined {
  const definition = store.measures.get(measure);
  if (definition === undefined) return undefined;
  const reference =
    definition.kind === 'ratio'
      ? definition.numerator
      : 'of' in definition
        ? definition.of
        : { of: measure, where: {} };
  return { of: reference.of, where: { ...reference.where, ...rule.where, ...reading.labels } };
}

/** Groups of a counter that has the label, without empty ones. */
function counts(store: WindowStore, { measure, label }: { measure: string; label: string }, query: Query): Reading[] {
  const table = store.table(measure);
  if (table?.kind !== 'counter' || !table.measure.by.includes(label)) return [];
  return readMeasure(store, measure, { ...query, by: [label] }).filter(({ volume }) => volume > 0);
}

/** Of the events that made the value bad, where they were kept. */
function examplesOf(store: WindowStore, breach: Breach): string[] {
  const own = eventsOf(store, breach);
  const table = own === undefined ? undefined : store.table(own.of);
  if (own === undefined || table?.kind !== 'counter' || table.measure.examples === 0) return [];
  const indexes = table.series.select(own.where, []).flatMap((group) => group.indexes);
  return table.examples.list(breach.fromMs, breach.toMs, indexes, MAX_EXAMPLES);
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
