// What is measured: the definitions of measures.yml. In: YAML. Out: frozen definitions by name, each complete.
// Guarantee: every name, label and field a definition refers to exists and is of a fitting kind; all problems at once.
// Collected measures are counted from events (collect.ts); derived ones are computed over windows (windows/values.ts).

import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { durationMs, durationSchema } from '../core/clock.ts';
import { conditionSchema, type Where } from '../core/condition.ts';
import { type Environment, invalidConfig, loadYaml, readConfigFile, type Schema } from '../core/config-loader.ts';

/** How values are written for people: `ratio` 0.23 as "23.00 %", and `percent` 23 the same. */
export type Unit = (typeof UNITS)[number];

export interface PrometheusName {
  readonly name: string;
  readonly help: string;
  /** The type that Prometheus is told; a gauge whose source only grows may be a `counter`. */
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Prometheus label -> field path, one of the measure's `by`. Series that differ only elsewhere are added up. */
  readonly labels: Readonly<Record<string, string>>;
  /** Values are multiplied by this in Prometheus only (0.001: ms to s). */
  readonly scale: number;
  /** Upper bounds of a histogram, after scaling, ascending. */
  readonly buckets: readonly number[];
}

interface MeasureBase {
  readonly name: string;
  readonly unit: Unit;
  readonly prometheus?: PrometheusName;
}

interface CollectedBase extends MeasureBase {
  readonly where: Where;
  /** Field paths whose values are the labels of a series, in this order. */
  readonly by: readonly string[];
  /** Label sets kept per partition and arrival bucket; later ones count as OTHER. */
  readonly maxSeries: number;
  /** Event ids kept per series and bucket. */
  readonly examples: number;
}

export interface CounterMeasure extends CollectedBase {
  readonly kind: 'counter';
}

export interface DistributionMeasure extends CollectedBase {
  readonly kind: 'distribution';
  /** Path of the number. */
  readonly field: string;
}

export interface GaugeMeasure extends CollectedBase {
  readonly kind: 'gauge';
  /** Path of the number; empty for an internal gauge. */
  readonly field: string;
  /** Not collected from events, but set by logpipe itself or by a health probe (`setGauge` of the windows). */
  readonly internal: boolean;
  /** A value older than this is no data. */
  readonly staleAfterMs: number;
}

/** A measure, or those of its series whose labels fulfil `where`. */
export interface MeasureReference {
  readonly of: string;
  readonly where: Where;
}

/** Of counters: sum by sum. Of gauges: newest by newest, per label set. */
interface RatioMeasure extends MeasureBase {
  readonly kind: 'ratio';
  readonly numerator: MeasureReference;
  readonly denominator: MeasureReference;
}

interface PercentileMeasure extends MeasureBase {
  readonly kind: 'percentile';
  /** A distribution. */
  readonly of: MeasureReference;
  /** Between 0 and 100. */
  readonly p: number;
}

interface MeanMeasure extends MeasureBase {
  readonly kind: 'mean';
  /** A distribution. */
  readonly of: MeasureReference;
}

interface RateMeasure extends MeasureBase {
  readonly kind: 'rate';
  /** A counter. */
  readonly of: MeasureReference;
  readonly perMs: number;
}

interface IncreaseMeasure extends MeasureBase {
  readonly kind: 'increase';
  /** A gauge that only grows; a smaller value means that it has restarted from zero. */
  readonly of: MeasureReference;
  readonly perMs: number;
}

interface SumMeasure extends MeasureBase {
  readonly kind: 'sum';
  /** A gauge: the newest values of all label sets are added up. */
  readonly of: MeasureReference;
}

interface AbsenceMeasure extends MeasureBase {
  readonly kind: 'absence';
  /** A counter: seconds since its newest event arrived. */
  readonly of: MeasureReference;
}

export type CollectedMeasure = CounterMeasure | DistributionMeasure | GaugeMeasure;
type DerivedMeasure =
  | RatioMeasure
  | PercentileMeasure
  | MeanMeasure
  | RateMeasure
  | IncreaseMeasure
  | SumMeasure
  | AbsenceMeasure;
export type Measure = CollectedMeasure | DerivedMeasure;

/** Name -> definition, in the order of the file. */
export type Measures = ReadonlyMap<string, Measure>;

export function isCollected(measure: Measure): measure is CollectedMeasure {
  return measure.kind === 'counter' || measure.kind === 'distribution' || measure.kind === 'gauge';
}

/** Those the counter counts from events. */
export function collectedOf(measures: Measures): CollectedMeasure[] {
  return [...measures.values()].filter(isCollected).filter((measure) => !('internal' in measure && measure.internal));
}

/** `file`, else `config/measures.yml` of the working folder, else the shipped one. @throws as parseMeasures, or LOGPIPE_CONFIG_UNREADABLE */
export function loadMeasures(options: { file?: string | undefined; env: Environment }): Measures {
  const { file, text } = readConfigFile('measures.yml', options.file);
  return parseMeasures(text, options.env, file);
}

/**
 * @param place the file's name, for messages
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID, every problem on a line of its own
 */
export function parseMeasures(text: string, env: Environment, place: string): Measures {
  const { measures } = loadYaml<{ measures: Record<string, WrittenMeasure> }>(text, MEASURES_SCHEMA, env, place);
  const problems = findProblems(measures);
  if (problems.length > 0) throw invalidConfig(place, problems, text);
  return new Map(Object.keys(measures).map((name) => [name, complete(name, measures)]));
}

// ---- the shape of measures.yml as JSON Schema ----

const UNITS = ['count', 'ratio', 'percent', 'ms', 's', 'bytes', 'bytes/s', 'per-second', 'per-minute'] as const;

const KINDS = [
  'counter',
  'distribution',
  'gauge',
  'ratio',
  'percentile',
  'mean',
  'rate',
  'increase',
  'sum',
  'absence',
] as const;
type Kind = (typeof KINDS)[number];

const COMMON = ['kind', 'unit', 'prometheus'];
const COLLECTED = [...COMMON, 'where', 'by', 'maxSeries', 'examples'];

/** Keys that are only for collecting from events. */
const COLLECTING = ['field', 'where', 'examples'] as const;

/** Keys a definition of each kind may have, and those it must have (an internal gauge has none of `COLLECTING`). */
const KEYS_OF_KIND: Readonly<Record<Kind, { permitted: readonly string[]; required: readonly string[] }>> = {
  counter: { permitted: COLLECTED, required: [] },
  distribution: { permitted: [...COLLECTED, 'field'], required: ['field'] },
  gauge: { permitted: [...COLLECTED, 'field', 'staleAfter', 'internal'], required: ['field'] },
  ratio: { permitted: [...COMMON, 'numerator', 'denominator'], required: ['numerator', 'denominator'] },
  percentile: { permitted: [...COMMON, 'of', 'p'], required: ['of', 'p'] },
  mean: { permitted: [...COMMON, 'of'], required: ['of'] },
  rate: { permitted: [...COMMON, 'of', 'per'], required: ['of', 'per'] },
  increase: { permitted: [...COMMON, 'of', 'per'], required: ['of', 'per'] },
  sum: { permitted: [...COMMON, 'of'], required: ['of'] },
  absence: { permitted: [...COMMON, 'of'], required: ['of'] },
};

const where = {
  type: 'object',
  maxProperties: 10,
  description: 'Conditions that must all hold: a value, a list of values, or gt, gte, lt, lte, exists, not.',
  additionalProperties: conditionSchema(),
};

const referenceSchema = {
  description: 'A measure of this file, or `{ of, where }`: those of its series whose labels fulfil the conditions.',
  anyOf: [
    { type: 'string', minLength: 1 },
    {
      type: 'object',
      additionalProperties: false,
      required: ['of'],
      properties: { of: { type: 'string', minLength: 1 }, where },
    },
  ],
};

const metricName = '^[a-zA-Z_:][a-zA-Z0-9_:]*$';

const prometheus = {
  type: 'object',
  description: 'Under which name and labels the measure is exposed to Prometheus.',
  additionalProperties: false,
  required: ['name', 'help'],
  properties: {
    name: {
      type: 'string',
      pattern: metricName,
      permitted: 'the name of a metric: letters, digits, underscores and colons, no digit first',
    },
    help: { type: 'string', minLength: 1 },
    type: { enum: ['counter', 'gauge', 'histogram'] },
    labels: {
      type: 'object',
      propertyNames: {
        pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$',
        permitted: 'names of labels: letters, digits and underscores, no digit first',
      },
      additionalProperties: { type: 'string', minLength: 1 },
    },
    scale: { type: 'number', exclusiveMinimum: 0 },
    buckets: { type: 'array', items: { type: 'number', exclusiveMinimum: 0 }, minItems: 1, maxItems: 50 },
  },
};

const measure = {
  type: 'object',
  additionalProperties: false,
  required: ['kind'],
  properties: {
    kind: { enum: KINDS, description: 'What is counted or computed.' },
    unit: { enum: UNITS, description: 'How values are written for people.' },
    where,
    by: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      uniqueItems: true,
      maxItems: 6,
      description: 'Fields whose values tell series apart.',
    },
    maxSeries: {
      type: 'integer',
      minimum: 1,
      maximum: 5_000,
      description: 'Label sets kept per partition and 10 s; the rest is counted together.',
    },
    examples: {
      type: 'integer',
      minimum: 0,
      maximum: 20,
      description: 'Event ids kept per series and 10 s, for links to examples.',
    },
    field: { type: 'string', minLength: 1, description: 'The number that is measured.' },
    staleAfter: { ...durationSchema, description: 'An older value is no data.' },
    internal: {
      type: 'boolean',
      description: 'Set by logpipe itself or a health probe, not collected from events; its labels are not fields.',
    },
    numerator: referenceSchema,
    denominator: referenceSchema,
    of: referenceSchema,
    p: { type: 'number', minimum: 0, maximum: 100, description: 'Percentile.' },
    per: { ...durationSchema, description: 'Time the rate is given for.' },
    prometheus,
  },
};

export const MEASURES_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['measures'],
  properties: {
    measures: {
      type: 'object',
      description: 'Name -> definition.',
      propertyNames: {
        pattern: '^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)*$',
        permitted: 'small letters, digits, underscores and dots, like call.failure_ratio',
        maxLength: 80,
      },
      maxProperties: 500,
      additionalProperties: measure,
    },
  },
} as const satisfies Schema;

// ---- a definition with every default filled in, durations in ms ----

const MAX_SERIES = 200;
const STALE_AFTER = '60s';

/** A definition as it is written, after the schema's checks. */
interface WrittenMeasure {
  readonly kind: Kind;
  readonly unit?: Unit;
  readonly where?: Where;
  readonly by?: readonly string[];
  readonly maxSeries?: number;
  readonly examples?: number;
  readonly field?: string;
  readonly staleAfter?: string;
  readonly internal?: boolean;
  readonly numerator?: WrittenReference;
  readonly denominator?: WrittenReference;
  readonly of?: WrittenReference;
  readonly p?: number;
  readonly per?: string;
  readonly prometheus?: Partial<PrometheusName> & { readonly name: string; readonly help: string };
}

type WrittenReference = string | { readonly of: string; readonly where?: Where };

const UNIT_OF_KIND: Partial<Record<Kind, Unit>> = { ratio: 'ratio', rate: 'per-second', absence: 's' };

/** Keys that the kind does not have are left out. A percentile, mean or sum has the unit of its source. */
function complete(name: string, all: Readonly<Record<string, WrittenMeasure>>): Measure {
  const written = all[name]!;
  const { kind } = written;
  const source = written.of === undefined ? undefined : all[reference(written.of).of];
  const unit = written.unit ?? UNIT_OF_KIND[kind] ?? source?.unit ?? 'count';
  const base = { name, unit, ...exposed(written) };
  const collected = {
    where: written.where ?? {},
    by: written.by ?? [],
    maxSeries: written.maxSeries ?? MAX_SERIES,
    examples: written.examples ?? 0,
  };
  const of = () => reference(written.of!);
  switch (kind) {
    case 'counter':
      return Object.freeze({ ...base, ...collected, kind });
    case 'distribution':
      return Object.freeze({ ...base, ...collected, kind, field: written.field! });
    case 'gauge':
      return Object.freeze({
        ...base,
        ...collected,
        kind,
        field: written.field ?? '',
        internal: written.internal ?? false,
        staleAfterMs: durationMs(written.staleAfter ?? STALE_AFTER),
      });
    case 'ratio':
      return Object.freeze({
        ...base,
        kind,
        numerator: reference(written.numerator!),
        denominator: reference(written.denominator!),
      });
    case 'percentile':
      return Object.freeze({ ...base, kind, of: of(), p: written.p! });
    case 'rate':
      return Object.freeze({ ...base, kind, of: of(), perMs: durationMs(written.per!) });
    case 'increase':
      return Object.freeze({ ...base, kind, of: of(), perMs: durationMs(written.per!) });
    case 'mean':
      return Object.freeze({ ...base, kind, of: of() });
    case 'sum':
      return Object.freeze({ ...base, kind, of: of() });
    case 'absence':
      return Object.freeze({ ...base, kind, of: of() });
  }
}

/** The short form written out. */
function reference(written: WrittenReference): MeasureReference {
  return Object.freeze(
    typeof written === 'string' ? { of: written, where: {} } : { of: written.of, where: written.where ?? {} },
  );
}

function exposed({ kind, prometheus }: WrittenMeasure): { prometheus?: PrometheusName } {
  if (prometheus === undefined) return {};
  const { name, help, type, labels = {}, scale = 1, buckets = [] } = prometheus;
  const usual = kind === 'counter' ? 'counter' : kind === 'distribution' ? 'histogram' : 'gauge';
  return { prometheus: Object.freeze({ name, help, type: type ?? usual, labels, scale, buckets }) };
}

// ---- the checks that the schema cannot express ----

const NUMBERS: readonly FieldType[] = ['long', 'short', 'float'];
/** Types whose values are short and exact enough to be a label or to be compared. */
const PLAIN: readonly FieldType[] = ['keyword', 'boolean', ...NUMBERS];

type Written = Readonly<Record<string, WrittenMeasure>>;

/** Which kinds a derived measure can be made from. */
const SOURCES: Partial<Record<Kind, readonly Kind[]>> = {
  ratio: ['counter', 'gauge'],
  percentile: ['distribution'],
  mean: ['distribution'],
  rate: ['counter'],
  increase: ['gauge'],
  sum: ['gauge'],
  absence: ['counter'],
};

function findProblems(measures: Written): string[] {
  const problems: string[] = [];
  const exposed = new Map<string, string>();
  for (const [name, measure] of Object.entries(measures)) {
    const place = `measures.${name}`;
    problems.push(
      ...keyProblems(place, measure),
      ...fieldProblems(place, measure),
      ...referenceProblems(place, measure, measures),
      ...prometheusProblems(place, measure, exposed),
    );
  }
  return problems;
}

function keyProblems(place: string, measure: WrittenMeasure): string[] {
  const { permitted, required } = KEYS_OF_KIND[measure.kind];
  const internal = measure.kind === 'gauge' && measure.internal === true;
  const collecting: readonly string[] = internal ? COLLECTING : [];
  const missing = required.filter((key) => !(key in measure) && !collecting.includes(key));
  const unknown = Object.keys(measure).filter((key) => !permitted.includes(key));
  return [
    ...collecting
      .filter((key) => key in measure)
      .map((key) => `${place}.${key}: not for an internal gauge: no event sets it`),
    ...missing.map((key) => `${place}.${key}: missing; a ${measure.kind} needs ${required.join(' and ')}`),
    ...unknown.map((key) => `${place}.${key}: not for a ${measure.kind}; permitted: ${permitted.join(', ')}`),
  ];
}

function fieldProblems(place: string, measure: WrittenMeasure): string[] {
  const problems: string[] = [];
  if (measure.internal === true) return problems;
  const check = (key: string, path: string, types: readonly FieldType[], what: string) => {
    const type = typeOf(path);
    if (type === undefined)
      problems.push(`${place}.${key}: there is no field ${path} in the catalogue (docs/fields.md)`);
    else if (!types.includes(type)) problems.push(`${place}.${key}: ${path} is ${type}; ${what}`);
  };
  for (const path of measure.by ?? []) {
    if (path === 'tags') problems.push(`${place}.by: tags is a list, not a label; use it in \`where\``);
    else check('by', path, PLAIN, `a label is one of ${PLAIN.join(', ')}`);
  }
  for (const [path, condition] of Object.entries(measure.where ?? {})) {
    const types = compares(condition) ? NUMBERS : PLAIN;
    check('where', path, types, `a condition of this kind needs one of ${types.join(', ')}`);
  }
  if (measure.field !== undefined)
    check('field', measure.field, NUMBERS, `a measured field is one of ${NUMBERS.join(', ')}`);
  return problems;
}

function compares(condition: Where[string]): boolean {
  if (typeof condition !== 'object' || Array.isArray(condition)) return false;
  return 'gt' in condition || 'gte' in condition || 'lt' in condition || 'lte' in condition;
}

/** Type of a catalogue field; undefined when there is none, or when it is a group. */
function typeOf(path: string): FieldType | undefined {
  let at: FieldType | FieldGroup | undefined = FIELDS as FieldGroup;
  for (const part of path.split('.')) {
    at = typeof at === 'object' && Object.hasOwn(at, part) ? at[part] : undefined;
  }
  return typeof at === 'string' ? at : undefined;
}

function referenceProblems(place: string, measure: WrittenMeasure, measures: Written): string[] {
  const sources = SOURCES[measure.kind];
  if (sources === undefined) return [];
  const problems: string[] = [];
  const kinds = new Set<Kind>();
  for (const key of ['of', 'numerator', 'denominator'] as const) {
    const written: WrittenReference | undefined = measure[key];
    if (written === undefined) continue;
    const { of, where } = reference(written);
    const source = Object.hasOwn(measures, of) ? measures[of] : undefined;
    if (source === undefined) {
      problems.push(`${place}.${key}: there is no measure ${of}`);
      continue;
    }
    if (!sources.includes(source.kind)) {
      problems.push(
        `${place}.${key}: ${of} is a ${source.kind}; a ${measure.kind} is made from a ${sources.join(' or ')}`,
      );
      continue;
    }
    kinds.add(source.kind);
    for (const label of Object.keys(where)) {
      if (source.by?.includes(label)) continue;
      problems.push(`${place}.${key}.where: ${of} has no label ${label}; it has: ${source.by?.join(', ') || 'none'}`);
    }
  }
  if (kinds.size > 1) problems.push(`${place}: numerator and denominator are of different kinds`);
  return problems;
}

function prometheusProblems(place: string, measure: WrittenMeasure, exposed: Map<string, string>): string[] {
  const { kind, prometheus, by = [] } = measure;
  if (prometheus === undefined) return [];
  const problems: string[] = [];
  const other = exposed.get(prometheus.name);
  if (other !== undefined)
    problems.push(`${place}.prometheus.name: ${prometheus.name} is already the name of ${other}`);
  exposed.set(prometheus.name, place);
  for (const [label, path] of Object.entries(prometheus.labels ?? {})) {
    if (by.includes(path)) continue;
    problems.push(
      `${place}.prometheus.labels.${label}: ${path} is not in the measure's \`by\`: ${by.join(', ') || 'none'}`,
    );
  }
  const histogram = kind === 'distribution';
  if (
    histogram !== ((prometheus.type ?? 'histogram') === 'histogram') &&
    (histogram || prometheus.type !== undefined)
  ) {
    problems.push(`${place}.prometheus.type: a distribution is a histogram, and nothing else is`);
  }
  const { buckets } = prometheus;
  if (histogram !== (buckets !== undefined))
    problems.push(`${place}.prometheus.buckets: required for a distribution, and only permitted there`);
  if (buckets?.some((bound, i) => i > 0 && bound <= buckets[i - 1]!)) {
    problems.push(`${place}.prometheus.buckets: must rise from one to the next`);
  }
  return problems;
}
