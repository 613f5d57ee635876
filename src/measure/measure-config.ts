// What is measured: the definitions of measures.yml. In: YAML. Out: frozen definitions by name, each complete.
// Guarantee: every name, label and field a definition refers to exists and is of a fitting kind; all problems at once.
// Collected measures are counted from events (collect.ts); derived ones are computed over windows (src/rules/).
import { readConfigFile } from '../core/config-file.ts';
import { type Environment, loadYaml } from '../core/config-loader.ts';
import { LogpipeError } from '../core/errors.ts';
import { findProblems } from './measure-checks.ts';
import { complete, type WrittenMeasure } from './measure-complete.ts';
import { MEASURES_SCHEMA, type UNITS } from './measure-schema.ts';

export type Scalar = string | number | boolean;

/** All that are given must hold. `not` is true when none of the values is there, also when the field is missing. */
export interface Comparison {
  readonly gt?: number;
  readonly gte?: number;
  readonly lt?: number;
  readonly lte?: number;
  readonly exists?: boolean;
  readonly not?: Scalar | readonly Scalar[];
}

/** A value it equals, a list of which it is one, or a comparison. Compiled by conditions.ts. */
export type Condition = Scalar | readonly Scalar[] | Comparison;

/** Field path (of a collected measure) or label (of a reference) -> condition; all must hold. */
export type Where = Readonly<Record<string, Condition>>;

/** For people: `ratio` 0.23 reads "23.00 %", `percent` 23 reads the same. */
export type Unit = (typeof UNITS)[number];

export interface PrometheusName {
  readonly name: string;
  readonly help: string;
  /** As it is exposed; a gauge whose source only grows may be a `counter`. */
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
  /** Label sets kept per lane and arrival bucket; later ones count as OTHER. */
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
  /** Not collected from events: logpipe itself, or a health probe, sets it (WindowStore.setGauge). */
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
export interface RatioMeasure extends MeasureBase {
  readonly kind: 'ratio';
  readonly numerator: MeasureReference;
  readonly denominator: MeasureReference;
}

export interface PercentileMeasure extends MeasureBase {
  readonly kind: 'percentile';
  /** A distribution. */
  readonly of: MeasureReference;
  /** Between 0 and 100. */
  readonly p: number;
}

export interface MeanMeasure extends MeasureBase {
  readonly kind: 'mean';
  /** A distribution. */
  readonly of: MeasureReference;
}

export interface RateMeasure extends MeasureBase {
  readonly kind: 'rate';
  /** A counter. */
  readonly of: MeasureReference;
  readonly perMs: number;
}

export interface IncreaseMeasure extends MeasureBase {
  readonly kind: 'increase';
  /** A gauge that only grows; a smaller value means that it started anew. */
  readonly of: MeasureReference;
  readonly perMs: number;
}

export interface SumMeasure extends MeasureBase {
  readonly kind: 'sum';
  /** A gauge: the newest values of all label sets are added up. */
  readonly of: MeasureReference;
}

export interface AbsenceMeasure extends MeasureBase {
  readonly kind: 'absence';
  /** A counter: seconds since its newest event arrived. */
  readonly of: MeasureReference;
}

export type CollectedMeasure = CounterMeasure | DistributionMeasure | GaugeMeasure;
export type DerivedMeasure =
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
 * @param place stands in messages
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID, every problem on a line of its own
 */
export function parseMeasures(text: string, env: Environment, place: string): Measures {
  const { measures } = loadYaml<{ measures: Record<string, WrittenMeasure> }>(text, MEASURES_SCHEMA, env, place);
  const problems = findProblems(measures);
  if (problems.length > 0) {
    const list = problems.map((problem) => `  - ${problem}`).join('\n');
    throw new LogpipeError('LOGPIPE_CONFIG_INVALID', `${place}: ${problems.length} problem(s)\n${list}`);
  }
  return new Map(Object.keys(measures).map((name) => [name, complete(name, measures)]));
}
