// What an event adds to the measures. In: collected measures, compiled once; then tagged events. Out: cells of a bucket.
// Guarantee: an event touches only the measures that ask for its `event`; a field that is missing or of another type adds
// nothing; never throws for any document.
//
// The hot path: an event's fields are read once into slots, which conditions and labels then share.
import type { TaggedEvent } from '../tag/tag.ts';
import type { ArrivalBucket, EventCells } from './bucket.ts';
import { compileCondition, type Test } from './conditions.ts';
import type { CollectedMeasure, Condition } from './measure-config.ts';
import { BUCKET_MS, MAX_AGE_MS, MAX_AHEAD_MS, OLDER_MS } from './totals.ts';

/** Counts one event into the bucket it arrived in. `arrivalMs` is the record time, not before the bucket's start. */
export type Collect = (
  event: TaggedEvent,
  eventId: string | undefined,
  arrivalMs: number,
  bucket: ArrivalBucket,
) => void;

type Getter = (event: TaggedEvent) => unknown;
type Step = (
  slots: readonly unknown[],
  bucket: ArrivalBucket,
  events: EventCells,
  at: number,
  eventId: string | undefined,
) => void;

/** All that events of one name add to. */
interface Plan {
  readonly getters: readonly Getter[];
  readonly steps: readonly Step[];
}

/** `measures` in the order in which the buckets know them. */
export function compileCollect(measures: readonly CollectedMeasure[]): Collect {
  const plans = new Map(namedEvents(measures).map((name) => [name, compilePlan(measures, name)] as const));
  const otherwise = compilePlan(measures, undefined);
  const slots: unknown[] = [];

  return (event, eventId, arrivalMs, bucket) => {
    const { getters, steps } = plans.get(event.doc.event as string) ?? otherwise;
    if (steps.length === 0) return;
    for (let i = 0; i < getters.length; i++) slots[i] = getters[i]!(event);
    // A host whose clock is ahead must not count in buckets that have not begun.
    const at = event.timeMs > arrivalMs + MAX_AHEAD_MS ? arrivalMs : event.timeMs;
    const events = bucket.at(arrivalMs - at <= MAX_AGE_MS ? at - (at % BUCKET_MS) : OLDER_MS);
    const id = eventId ?? event.doc.eventId;
    const example = typeof id === 'string' ? id : undefined;
    for (let i = 0; i < steps.length; i++) steps[i]!(slots, bucket, events, at, example);
  };
}

/** Event names for which there is anything of their own. */
function namedEvents(measures: readonly CollectedMeasure[]): string[] {
  return [...new Set(measures.flatMap(({ where }) => eventsOf(where.event) ?? []))];
}

/** The events a condition on `event` lists; undefined when it is not a list of names. */
function eventsOf(condition: Condition | undefined): readonly string[] | undefined {
  if (typeof condition === 'string') return [condition];
  if (!Array.isArray(condition)) return undefined;
  return condition.map(String);
}

function compilePlan(measures: readonly CollectedMeasure[], eventName: string | undefined): Plan {
  const paths: string[] = [];
  const slotOf = (path: string) => {
    const known = paths.indexOf(path);
    return known >= 0 ? known : paths.push(path) - 1;
  };
  const steps: Step[] = [];
  measures.forEach((measure, number) => {
    const names = eventsOf(measure.where.event);
    if (names !== undefined && (eventName === undefined || !names.includes(eventName))) return;
    const conditions = Object.entries(measure.where)
      .filter(([path]) => names === undefined || path !== 'event')
      .map(([path, condition]) => ({ slot: slotOf(path), test: compileCondition(condition) }));
    const by = measure.by.map(slotOf);
    const step = compileStep(measure, number, by, slotOf);
    steps.push(conditions.length === 0 ? step : guarded(step, conditions));
  });
  return { getters: paths.map(compileGetter), steps };
}

function guarded(step: Step, conditions: readonly { slot: number; test: Test }[]): Step {
  return (slots, bucket, events, at, eventId) => {
    for (let i = 0; i < conditions.length; i++) {
      const { slot, test } = conditions[i]!;
      if (!test(slots[slot])) return;
    }
    step(slots, bucket, events, at, eventId);
  };
}

function compileStep(
  measure: CollectedMeasure,
  number: number,
  by: readonly number[],
  slotOf: (path: string) => number,
): Step {
  const { examples } = measure;
  if (measure.kind === 'counter') {
    if (examples === 0) return (slots, bucket, events) => void bucket.count(number, slots, by, events);
    return (slots, bucket, events, _at, eventId) => {
      const cell = bucket.count(number, slots, by, events);
      if (eventId !== undefined && cell.n <= examples) bucket.example(cell, eventId, examples);
    };
  }
  const field = slotOf(measure.field);
  if (measure.kind === 'distribution') {
    return (slots, bucket, events) => {
      const value = slots[field];
      if (typeof value === 'number' && Number.isFinite(value)) bucket.observe(number, slots, by, events, value);
    };
  }
  return (slots, bucket, events, at) => {
    const value = slots[field];
    if (typeof value === 'number' && Number.isFinite(value)) bucket.set(number, slots, by, events, value, at);
  };
}

/** Tags and what groups errors are logpipe's own and stand beside the document. */
function compileGetter(path: string): Getter {
  if (path === 'tags') return (event) => event.tags;
  if (path === 'error.template') return (event) => event.grouping?.template;
  if (path === 'error.fingerprint') return (event) => event.grouping?.fingerprint;
  const [head, leaf] = path.split('.') as [string, string | undefined];
  if (leaf === undefined) return (event) => event.doc[head];
  return (event) => {
    const group = event.doc[head];
    return typeof group === 'object' && group !== null ? (group as Record<string, unknown>)[leaf] : undefined;
  };
}
