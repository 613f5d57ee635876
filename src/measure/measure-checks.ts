// What the schema of measures.yml cannot say. In: definitions as written. Out: problems in words, each with its place.
import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { reference, type WrittenMeasure, type WrittenReference } from './measure-complete.ts';
import type { Where } from './measure-config.ts';
import { COLLECTING, KEYS_OF_KIND, type Kind } from './measure-schema.ts';

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

export function findProblems(measures: Written): string[] {
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
    if (path === 'tags') problems.push(`${place}.by: tags is a list and no label; use it in \`where\``);
    else check('by', path, PLAIN, `a label is one of ${PLAIN.join(', ')}`);
  }
  for (const [path, condition] of Object.entries(measure.where ?? {})) {
    const types = compares(condition) ? NUMBERS : PLAIN;
    check('where', path, types, `a condition of this kind wants ${types.join(', ')}`);
  }
  if (measure.field !== undefined) check('field', measure.field, NUMBERS, `measured are ${NUMBERS.join(', ')}`);
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
    problems.push(`${place}.prometheus.name: ${prometheus.name} is the name of ${other} already`);
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
    problems.push(`${place}.prometheus.buckets: for a distribution, and needed there`);
  if (buckets?.some((bound, i) => i > 0 && bound <= buckets[i - 1]!)) {
    problems.push(`${place}.prometheus.buckets: must rise from one to the next`);
  }
  return problems;
}
