// What an alert says: its sentence and its metadata. In: the templates of a rule, checked once, and the facts of an evaluation.
// Out: text and plain data. Guarantee: an unknown placeholder is found when the rules are read, not when an alert fires.
//
// A message holds placeholders in braces: `{value}`, `{threshold}`, `{window}`, `{measure}`, `{title}`, `{volume}`, `{numerator}`,
// `{denominator}`, `{baseline}`, `{basis}`, `{source}`, `{labels}`, and each label of the rule by its name.
// Metadata is `<what>` or `<what> as <form>`: a placeholder's name, `label.<name>`, `source.<label>`, or `measure.<name>`: another
// measure, read for the same label set. Forms: percent (of a ratio), MB (of bytes, 2^20), seconds (of ms), text.
import type { Unit } from '../measure/measure-config.ts';
import { OTHER } from '../measure/totals.ts';
import { formatDuration, formatThreshold, formatValue, round2 } from './format.ts';
import type { Labels } from './series.ts';

/** What is known of a breach. */
export interface Facts {
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
  /** What is usual (spike) or was (trend). */
  readonly baseline?: number;
  /** Labels of the series that spoke, beside those of the rule. */
  readonly source?: Labels;
  /** Newest value of another measure for the same label set. */
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

/** Placeholders of a message that mean nothing. */
export function unknownPlaceholders(message: string, labels: readonly string[]): string[] {
  return [...message.matchAll(/\{([^{}]*)\}/g)]
    .map(([, name]) => name!)
    .filter((name) => !isPlaceholder(name) && !labels.includes(name));
}

export interface MetadataSource {
  readonly kind: 'fact' | 'label' | 'source' | 'measure';
  readonly name: string;
  readonly form: Form | undefined;
}

/** Undefined when the text is none. */
export function parseMetadataSource(text: string): MetadataSource | undefined {
  const [, what = '', written] = /^(\S+)(?: as (\S+))?$/.exec(text) ?? [];
  if (written !== undefined && !(FORMS as readonly string[]).includes(written)) return undefined;
  const form = written as Form | undefined;
  if (isPlaceholder(what)) return { kind: 'fact', name: what, form };
  const [, kind, name] = /^(label|source|measure)\.(.+)$/.exec(what) ?? [];
  return name === undefined ? undefined : { kind: kind as MetadataSource['kind'], name, form };
}

export const METADATA_HELP = `${PLACEHOLDERS.join(', ')}, label.<name>, source.<label>, measure.<name>; with \`as ${FORMS.join('`, `as ')}\``;

export function renderMessage(template: string, facts: Facts): string {
  return template.replace(/\{([^{}]*)\}/g, (_, name: string) =>
    isPlaceholder(name) ? factText(name, facts) : (facts.labels[name] ?? ''),
  );
}

/** What is not known is left out. */
export function renderMetadata(
  sources: Readonly<Record<string, string>>,
  facts: Facts,
): Readonly<Record<string, unknown>> {
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
