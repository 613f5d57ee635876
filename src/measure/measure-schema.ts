// The shape of measures.yml as JSON Schema: which keys there are, which values they take, which kind needs what.
// What one schema cannot say (names, labels and fields that must exist) is in measure-checks.ts.
import type { Schema } from '../core/config-loader.ts';
import { durationSchema } from '../core/duration.ts';

export const UNITS = ['count', 'ratio', 'percent', 'ms', 's', 'bytes', 'bytes/s', 'per-second', 'per-minute'] as const;

export const KINDS = [
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
export type Kind = (typeof KINDS)[number];

const COMMON = ['kind', 'unit', 'prometheus'];
const COLLECTED = [...COMMON, 'where', 'by', 'maxSeries', 'examples'];

/** What only collecting from events needs. */
export const COLLECTING = ['field', 'where', 'examples'] as const;

/** Keys a definition of each kind may have, and those it must have (an internal gauge has none of `COLLECTING`). */
export const KEYS_OF_KIND: Readonly<Record<Kind, { permitted: readonly string[]; required: readonly string[] }>> = {
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

const scalar = { type: ['string', 'number', 'boolean'] };
const scalars = { type: 'array', items: scalar, minItems: 1, maxItems: 50 };

const condition = {
  anyOf: [
    scalar,
    scalars,
    {
      type: 'object',
      additionalProperties: false,
      minProperties: 1,
      properties: {
        gt: { type: 'number' },
        gte: { type: 'number' },
        lt: { type: 'number' },
        lte: { type: 'number' },
        exists: { type: 'boolean' },
        not: { anyOf: [scalar, scalars] },
      },
    },
  ],
};

const where = {
  type: 'object',
  maxProperties: 10,
  description: 'Conditions that must all hold: a value, a list of values, or gt, gte, lt, lte, exists, not.',
  additionalProperties: condition,
};

const reference = {
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
    name: { type: 'string', pattern: metricName },
    help: { type: 'string', minLength: 1 },
    type: { enum: ['counter', 'gauge', 'histogram'] },
    labels: {
      type: 'object',
      propertyNames: { pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$' },
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
      description: 'Label sets kept per partition and 10 s; the rest counts together.',
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
      description: 'Set by logpipe itself or a health probe, not collected from events; its labels are no fields.',
    },
    numerator: reference,
    denominator: reference,
    of: reference,
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
      propertyNames: { pattern: '^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)*$', maxLength: 80 },
      maxProperties: 500,
      additionalProperties: measure,
    },
  },
} as const satisfies Schema;
