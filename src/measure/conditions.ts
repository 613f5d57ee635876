// Conditions of measures.yml as tests. In: a field's value as it stands in a document, or a label's text. Out: holds or
// not. Guarantee: never throws for any value; a number and its text are the same value, so that labels can be compared.
import type { Comparison, Condition, Scalar, Where } from './measure-config.ts';

export type Test = (value: unknown) => boolean;

/** Of a field with several values (tags) one that fulfils the condition is enough; for `not`, none may be among them. */
export function compileCondition(condition: Condition): Test {
  if (typeof condition !== 'object') return equals(condition);
  if (isList(condition)) return isOneOf(condition);
  const tests = compare(condition);
  return tests.length === 1 ? tests[0]! : (value) => tests.every((test) => test(value));
}

/** Do labels, in the order of `by`, fulfil `where`? */
export function compileLabelTest(where: Where, by: readonly string[]): (labels: readonly string[]) => boolean {
  const tests = Object.entries(where).map(([label, condition]) => ({
    at: by.indexOf(label),
    test: compileCondition(condition),
  }));
  return (labels) => tests.every(({ at, test }) => test(labels[at]));
}

function isList(condition: Exclude<Condition, Scalar>): condition is readonly Scalar[] {
  return Array.isArray(condition);
}

function compare({ gt, gte, lt, lte, exists, not }: Comparison): Test[] {
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
  return tests;
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

/** NaN, which no comparison holds for, for everything that is no number. */
function toNumber(value: unknown): number {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && value.trim() !== '' ? Number(value) : Number.NaN;
}
