// What rules say to people: the sentence and the metadata of an alert, why it fired, and numbers as people read them. In: templates of a
// rule, checked once; facts, readings and the window of an evaluation. Out: observations, text, plain data. Guarantee: pure; an unknown
// placeholder is found when the rules are read, not when an alert fires; only what is known is said, and only about the alert's own events.
//
// A message holds placeholders in braces: `{value}`, `{threshold}`, `{window}`, `{measure}`, `{title}`, `{volume}`, `{numerator}`,
// `{denominator}`, `{baseline}`, `{basis}`, `{source}`, `{labels}`, and each label of the rule by its name.
// Metadata is `<what>` or `<what> as <form>`. What: a placeholder's name, `label.<name>`, `source.<label>`, or `measure.<name>`, another
// measure read for the same label set. Forms: percent (of a ratio), MB (of bytes, 2^20), seconds (of ms), text.
import type { Where } from '../core/condition.ts';
import type { MeasureReference, Unit } from '../measure/measure-config.ts';
import { OTHER } from '../measure/totals.ts';
import type { Labels } from '../windows/series.ts';
import { type Query, type Reading, readMeasure, sourcesOf } from '../windows/values.ts';
import type { EvaluationTimes, WindowStore } from '../windows/windows.ts';
import type { MeasuredRule, Observation, Why } from './rule-types.ts';

/** What is known about a breach. */
interface Facts {
  readonly title: string;
  readonly measure: string;
  readonly unit: Unit;
  readonly value: number;
  readonly threshold: number;
  readonly windowMs: number;
  readonly volume: number;
  readonly labels: Labels;
  readonly numerator?: number;
  readonly denominator?: number;
  /** The usual value (spike) or the earlier one (trend). */
  readonly baseline?: number;
  /** Labels of the series that spoke for the group. */
  readonly source?: Labels;
  /** The newest value of another measure for the same label set. */
  readonly read: (measure: string) => number | undefined;
}

const PLACEHOLDERS = [
  'value',
  'threshold',
  'window',
  'measure',
  'title',
  'volume',
  'numerator',
  'denominator',
  'baseline',
  'basis',
  'source',
  'labels',
] as const;
type Placeholder = (typeof PLACEHOLDERS)[number];

const FORMS = ['percent', 'MB', 'seconds', 'text'] as const;
type Form = (typeof FORMS)[number];

/** Placeholders of a message that are neither known nor a label. */
export function unknownPlaceholders(message: string, labels: readonly string[]): string[] {
  return [...message.matchAll(/\{([^{}]*)\}/g)]
    .map(([, name]) => name!)
    .filter((name) => !isPlaceholder(name) && !labels.includes(name));
}

interface MetadataSource {
  readonly kind: 'fact' | 'label' | 'source' | 'measure';
  readonly name: string;
  readonly form: Form | undefined;
}

/** Undefined when the text is not a valid source. */
export function parseMetadataSource(text: string): MetadataSource | undefined {
  const [, what = '', written] = /^(\S+)(?: as (\S+))?$/.exec(text) ?? [];
  if (written !== undefined && !(FORMS as readonly string[]).includes(written)) return undefined;
  const form = written as Form | undefined;
  if (isPlaceholder(what)) return { kind: 'fact', name: what, form };
  const [, kind, name] = /^(label|source|measure)\.(.+)$/.exec(what) ?? [];
  return name === undefined ? undefined : { kind: kind as MetadataSource['kind'], name, form };
}

export const METADATA_HELP = `${PLACEHOLDERS.join(', ')}, label.<name>, source.<label>, measure.<name>; with \`as ${FORMS.join('`, `as ')}\``;

function renderMessage(template: string, facts: Facts): string {
  return template.replace(/\{([^{}]*)\}/g, (_, name: string) =>
    isPlaceholder(name) ? factText(name, facts) : (facts.labels[name] ?? ''),
  );
}

/** Unknown values are left out. */
function renderMetadata(sources: Readonly<Record<string, string>>, facts: Facts): Readonly<Record<string, unknown>> {
  const result: Record<string, unknown> = {};
  for (const [name, text] of Object.entries(sources)) {
    const source = parseMetadataSource(text);
    const value = source === undefined ? undefined : sourceValue(source, facts);
    if (value !== undefined && value !== '') result[name] = value;
  }
  return result;
}

function isPlaceholder(name: string): name is Placeholder {
  return (PLACEHOLDERS as readonly string[]).includes(name);
}

function sourceValue(source: MetadataSource, facts: Facts): unknown {
  const { kind, name, form } = source;
  switch (kind) {
    case 'label':
      return facts.labels[name];
    case 'source':
      return known(facts.source?.[name] ?? facts.labels[name]);
    case 'measure':
      return formed(facts.read(name), form);
    case 'fact':
      if (form === 'text') return factText(name as Placeholder, facts);
      return formed(factValue(name as Placeholder, facts), form);
  }
}

function formed(value: unknown, form: Form | undefined): unknown {
  if (typeof value !== 'number') return value;
  switch (form) {
    case 'percent':
      return round2(value * 100);
    case 'MB':
      return round2(value / 2 ** 20);
    case 'seconds':
      return round2(value / 1_000);
    case 'text':
      return String(round2(value));
    default:
      return Math.round(value * 10_000) / 10_000;
  }
}

function factValue(name: Placeholder, facts: Facts): unknown {
  switch (name) {
    case 'value':
    case 'threshold':
    case 'volume':
    case 'numerator':
    case 'denominator':
    case 'baseline':
      return facts[name];
    case 'window':
      return facts.windowMs;
    default:
      return factText(name, facts);
  }
}

function factText(name: Placeholder, facts: Facts): string {
  const { unit } = facts;
  switch (name) {
    case 'value':
      return formatValue(facts.value, unit);
    case 'threshold':
      return formatThreshold(facts.threshold, unit);
    case 'baseline':
      return facts.baseline === undefined ? 'unknown' : formatValue(facts.baseline, unit);
    case 'window':
      return formatDuration(facts.windowMs);
    case 'measure':
    case 'basis':
      return facts.measure;
    case 'title':
      return facts.title;
    case 'volume':
    case 'numerator':
    case 'denominator':
      return String(facts[name] ?? 'unknown');
    case 'labels':
      return labelText(facts.labels);
    case 'source':
      return labelText(facts.source ?? facts.labels);
  }
}

/** What did not fit into the measure has no name. */
function known(value: string | undefined): string | undefined {
  return value === OTHER ? undefined : value;
}

function labelText(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => (value === OTHER ? `a ${name} that is not told apart` : `${name} ${value}`))
    .join(', ');
}

// ---- from verdicts to observations: what every kind of rule shares ----

export interface JudgeContext {
  readonly store: WindowStore;
  readonly times: EvaluationTimes;
}

/** A judged label set, not yet in words: only what is reported needs them. */
export interface Verdict {
  readonly labels: Labels;
  readonly state: Observation['state'];
  /** When clear: the present value. */
  readonly value?: number | undefined;
  /** When breached: what the breach rests on. */
  readonly breach?: Omit<Breach, 'rule'> & {
    readonly baseline?: number;
    /** Added to the message. */
    readonly remark?: string;
  };
}

/** Readings that do not come from the log are judged by the wall clock, everything else by how far the log has been read. */
export function timesFor(rule: MeasuredRule, { store, times }: JudgeContext): EvaluationTimes {
  const { wallMs } = times;
  return isInternal(store, rule.measure) ? { wallMs, evalMs: wallMs, completeMs: wallMs } : times;
}

/**
 * Puts verdicts into words. At most `maxAlerts` breaches are reported, those with the most events first; the others neither begin
 * nor end an alert.
 */
export function toObservations(rule: MeasuredRule, verdicts: readonly Verdict[], store: WindowStore): Observation[] {
  const breached = verdicts.filter(({ state }) => state === 'breached');
  const spoken =
    breached.length <= rule.maxAlerts
      ? undefined
      : new Set([...breached].sort((a, b) => volumeOf(b) - volumeOf(a)).slice(0, rule.maxAlerts));
  return verdicts.map((verdict): Observation => {
    const { labels, state, breach, value } = verdict;
    if (state !== 'breached' || breach === undefined) {
      const nowText = state === 'clear' && value !== undefined ? { nowText: formatValue(value, rule.unit) } : {};
      return { ruleId: rule.id, labels, state, ...nowText };
    }
    if (spoken?.has(verdict) === false) return { ruleId: rule.id, labels, state: 'held' };
    const facts = factsOf(rule, breach, store);
    const message = renderMessage(rule.message, facts);
    return {
      ruleId: rule.id,
      labels,
      state,
      message: breach.remark === undefined ? message : `${message}: ${breach.remark}`,
      metadata: renderMetadata(rule.metadata, facts),
      why: explain(store, { ...breach, rule }),
    };
  });
}

function volumeOf({ breach }: Verdict): number {
  return breach?.reading.volume ?? 0;
}

function factsOf(rule: MeasuredRule, breach: NonNullable<Verdict['breach']>, store: WindowStore): Facts {
  const { measure, reading, value, threshold, fromMs, toMs, baseline } = breach;
  const { numerator, denominator, source, labels, volume } = reading;
  return {
    title: rule.title,
    measure,
    unit: rule.unit,
    value,
    threshold,
    windowMs: toMs - fromMs,
    volume,
    labels,
    ...(numerator === undefined ? {} : { numerator }),
    ...(denominator === undefined ? {} : { denominator }),
    ...(baseline === undefined ? {} : { baseline }),
    ...(source === undefined ? {} : { source }),
    read: (name) => readMeasure(store, name, { fromMs, toMs, nowMs: toMs, where: source ?? labels })[0]?.value,
  };
}

/** Readings by group. */
export function byKey(readings: readonly Reading[]): Map<string, Reading> {
  return new Map(readings.map((reading) => [reading.key, reading] as const));
}

// ---- why an alert fired: measure, value, threshold, volume, the commonest error templates, examples, the release that stands out ----

/** Measures and labels that the explanation is taken from; what a configuration does not have is left out. */
const TEMPLATES = { measure: 'error.templates', label: 'error.template' } as const;
const ERRORS = { measure: 'log.errors', label: 'version' } as const;
const EVENTS = { measure: 'log.events', label: 'version' } as const;

const TOP = 3;
const MAX_EXAMPLES = 5;
/** A release stands out with this share of all errors, and this many times the error share of the other releases. */
const RELEASE_SHARE = 0.5;
const RELEASE_FACTOR = 2;

interface Breach {
  readonly rule: MeasuredRule;
  /** The measure that was read: the rule's, or its fallback. */
  readonly measure: string;
  readonly reading: Reading;
  readonly value: number;
  readonly threshold: number;
  readonly fromMs: number;
  readonly toMs: number;
}

function explain(store: WindowStore, breach: Breach): Why {
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

/** For an alert about errors, the templates of its own measure and label set; for any other alert, none. */
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

/** The events of the alert: a measure, and the part of it that made the value bad. */
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

/** Ids of events that made the value bad, where they were kept. */
function examplesOf(store: WindowStore, breach: Breach): string[] {
  const own = eventsOf(store, breach);
  const table = own === undefined ? undefined : store.table(own.of);
  if (own === undefined || table?.kind !== 'counter' || table.measure.examples === 0) return [];
  const indexes = table.series.select(own.where, []).flatMap((group) => group.indexes);
  return table.examples.list(breach.fromMs, breach.toMs, indexes, MAX_EXAMPLES);
}

/** The version with most of the errors, if its error share is far above that of the others. */
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

/** True when none of the measure comes from the log. */
export function isInternal(store: WindowStore, measure: string): boolean {
  const definition = store.measures.get(measure);
  if (definition === undefined) return false;
  return sourcesOf(definition).every((name) => {
    const table = store.table(name);
    return table?.kind === 'gauge' && table.measure.internal;
  });
}

// ---- numbers as people read them: "23.08 %", "812 ms", "1.4 GB", "3 min" ----

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

/** A threshold, without needless decimals. */
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
function round2(value: number): number {
  return Math.round(value * 100) / 100;
}

function short(value: number): string {
  return String(round2(value));
}

/** "12:03" of the day, UTC. */
export function clockTime(ms: number): string {
  return new Date(ms).toISOString().slice(11, 16);
}
