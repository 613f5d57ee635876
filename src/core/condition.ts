// Conditions on values, as measures, rules and transforms write them: a schema, types, and what a condition is compiled to. In: a
// condition of a configuration file. Out: a test of a value. Guarantee: a test never throws, whatever the value, and takes time
// linear in it; there are no regular expressions.
import type { Schema } from './config-loader.ts';

export type Scalar = string | number | boolean;

/** All that are given must hold. `not` holds when none of the values is there, so also when the field is missing. */
export interface Comparison {
  readonly gt?: number;
  readonly gte?: number;
  readonly lt?: number;
  readonly lte?: number;
  readonly exists?: boolean;
  readonly not?: Scalar | readonly Scalar[];
  /** Of a text; upper and lower case matter. */
  readonly startsWith?: string;
  readonly contains?: string;
}

/** A value to equal, a list to be one of, or a comparison. */
export type Condition = Scalar | readonly Scalar[] | Comparison;

/** Field path or label -> condition; all must hold. */
export type Where = Readonly<Record<string, Condition>>;

const scalar = { type: ['string', 'number', 'boolean'] };
const scalars = { type: 'array', items: scalar, minItems: 1, maxItems: 50 };

/** How a condition is written. @param more comparisons beside those that every condition may have */
export function conditionSchema(more: Readonly<Record<string, Schema>> = {}) {
  return {
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
          ...more,
        },
      },
    ],
  };
}

// ---- compiled ----
// A number equals its text, so that labels, which are texts, can be compared.

export type Test = (value: unknown) => boolean;

/** Of a field with several values (tags), one that fulfils the condition is enough; for `not`, none of the values may be there. */
export function compileCondition(condition: Condition): Test {
  if (typeof condition !== 'object') return equals(condition);
  if (isList(condition)) return isOneOf(condition);
  const tests = compare(condition);
  return tests.length === 1 ? tests[0]! : (value) => tests.every((test) => test(value));
}

function isList(condition: Exclude<Condition, Scalar>): condition is readonly Scalar[] {
  return Array.isArray(condition);
}

function compare({ gt, gte, lt, lte, exists, not, startsWith, contains }: Comparison): Test[] {
  const tests: Test[] = [];
  if (gt !== undefined) tests.push((value) => toNumber(value) > gt);
  if (gte !== undefined) tests.push((value) => toNumber(value) >= gte);
  if (lt !== undefined) tests.push((value) => toNumber(value) < lt);
  if (lte !== undefined) tests.push((value) => toNumber(value) <= lte);
  if (exists !== undefined) tests.push((value) => isPresent(value) === exists);
  if (not !== undefined) {
    const among = typeof not === 'object' ? isOneOf(not) : equals(not);
    tests.push((value) => !among(value));
  }
  if (startsWith !== undefined) tests.push(anyText((text) => text.startsWith(startsWith)));
  if (contains !== undefined) tests.push(anyText((text) => text.includes(contains)));
  return tests;
}

function anyText(test: (text: string) => boolean): Test {
  const one = (value: unknown) => isScalar(value) && test(String(value));
  return (value) => (Array.isArray(value) ? value.some(one) : one(value));
}

function equals(wanted: Scalar): Test {
  const text = String(wanted);
  const one = (value: unknown) =>
    typeof value === 'string' ? value === text : value === wanted || (isScalar(value) && String(value) === text);
  return (value) => (typeof value === 'object' && Array.isArray(value) ? value.some(one) : one(value));
}

function isOneOf(wanted: readonly Scalar[]): Test {
  const texts = new Set(wanted.map(String));
  const one = (value: unknown) =>
    typeof value === 'string' ? texts.has(value) : isScalar(value) && texts.has(String(value));
  return (value) => (typeof value === 'object' && Array.isArray(value) ? value.some(one) : one(value));
}

function isScalar(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '';
}

/** NaN, for which no comparison holds, when the value is not a number. */
function toNumber(value: unknown): number {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && value.trim() !== '' ? Number(value) : Number.NaN;
}
