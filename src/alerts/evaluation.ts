// The evaluator with a memory. In: counts, readings, the wall clock, and the records of the alert store. Out: evaluations for
// the alert machine, with the records that must become durable with them: new kinds of errors, who fell silent, finished hours.
// Guarantee: what was learned stands in every evaluation until `accepted` says that it is durable. When the brokers' clock was set
// back, evaluation begins anew in the new time: what was counted in the time that comes again would be counted twice. What has ended
// in it is told as soon as a whole window of it shows so.
import { SET_BACK_MS } from '../core/clock.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { BucketTotals, CountsMessage } from '../measure/totals.ts';
import { createEvaluator } from '../rules/evaluator.ts';
import { HOUR_MS, type HourRecord, type RollupDefinition } from '../rules/hourly.ts';
import { createKnownSet, type KnownEntry } from '../rules/known-set.ts';
import type { Observation } from '../rules/observation.ts';
import type { ProgressStatus } from '../rules/progress.ts';
import {
  createQuietSet,
  QUIET,
  type QuietEntry,
  SKIPPED,
  type SkippedEntry,
  WATCHED,
  type WatchedEntry,
} from '../rules/quiet-set.ts';
import { MAX_LOOK_BACK_MS, type Rules } from '../rules/rule-config.ts';
import type { Labels } from '../rules/series.ts';
import type { WindowStore } from '../rules/windows.ts';
import { ERROR_TEMPLATE_VERSION } from '../tag/template.ts';
import type { StateChange, StateKey } from './store.ts';

export interface Evaluation {
  readonly observations: readonly Observation[];
  readonly evalMs: number;
  readonly wallMs: number;
  readonly progress: ProgressStatus;
  /** How much of the time between never was: the brokers' clock was set forward. */
  readonly skippedMs: (fromMs: number, toMs: number) => number;
  readonly records: readonly StateChange[];
}

export interface Evaluations {
  /** Another one after the brokers' clock was set back. */
  readonly store: WindowStore;
  /** @param recordMs when the message was written, by the brokers' clock */
  counts(message: CountsMessage, recordMs: number): void;
  /** The brokers' clock was set back, which totals show by themselves; where nothing is counted somebody has to say it. */
  setBack(nowMs: number): void;
  evaluate(wallMs: number): Evaluation;
  /** The records of the last evaluation are durable. */
  accepted(): void;
  /** As Evaluator.changeRules. */
  changeRules(rules: Rules): string | undefined;
}

export interface EvaluationOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** Hourly sums beyond those the rules need, for statistics over a day. */
  readonly rollups?: readonly RollupDefinition[];
  /** The first arrival that counts will be given of, ms: hours that end before it come from the records. */
  readonly coveredFromMs: number;
  readonly wallMs: number;
  /** Of a simulation of readings alone: that nothing arrives is no silence. */
  readonly withoutLog?: boolean;
}

const KNOWN_SINCE = 'known/since';
const TEMPLATE = 'template/';
const ROLLUP = 'rollup/';
/** Outdated entries that are removed with one evaluation. */
const MAX_REMOVED = 500;
/** A little more than trends look back. */
const ROLLUP_KEPT_MS = 9 * 24 * HOUR_MS;

/**
 * Since when the counts are to be read at a take-over: from a full hour before all that the rules look at, and from the end of the
 * last hour on whose sums were kept; at most as far as any window reaches.
 */
export function countsFrom(nowMs: number, reachMs: number, initial: ReadonlyMap<StateKey, object>): number {
  const earliestMs = fullHour(nowMs - MAX_LOOK_BACK_MS);
  // With too few events a rule that fires looks back an hour, and statistics show one.
  let fromMs = fullHour(nowMs - Math.max(reachMs, HOUR_MS));
  while (fromMs > earliestMs && !initial.has(`${ROLLUP}${fromMs - HOUR_MS}`)) fromMs -= HOUR_MS;
  return fromMs;
}

/** @param initial records of the alert store; those of other kinds are left alone */
export function createEvaluations(
  options: EvaluationOptions,
  initial: ReadonlyMap<StateKey, object>,
  deps: {
    readonly isFiring: (ruleId: string, labels: Labels) => boolean;
    /** Hears how full the set of first-seen rules is, at the beginning and whenever that changes. */
    readonly onKnown?: (keys: number, maxKeys: number) => void;
  },
): Evaluations {
  const { measures, rollups = [] } = options;
  let { rules } = options;
  const since = initial.get(KNOWN_SINCE) as ({ sinceMs?: number } & Versioned) | undefined;
  // Templates of another version would all be news: everything is learned anew, without a word.
  const isPresent = since !== undefined && isOfPresent(since);
  const sinceMs = (isPresent ? since.sinceMs : undefined) ?? options.wallMs;
  const learned = recordsOf<KnownEntry & Versioned>(initial, TEMPLATE);
  const known = createKnownSet(sinceMs, learned.filter(isOfPresent));
  deps.onKnown?.(known.size, known.maxKeys);
  const quiet = createQuietSet(
    recordsOf<QuietEntry>(initial, QUIET),
    recordsOf<WatchedEntry>(initial, WATCHED),
    initial.get(SKIPPED) as SkippedEntry | undefined,
  );
  const outdated = new Set(learned.filter((entry) => !isOfPresent(entry)).map(({ key }) => `${TEMPLATE}${key}`));
  const hours = recordsOf<HourRecord>(initial, ROLLUP);
  /** Of each lane, how far its totals reach and in which bucket. */
  const reached = new Map<string, { readonly upToOffset: number; readonly arrivalMs: number }>();
  /** Of each lane, up to where its totals belong to a time that is over. */
  const over = new Map<string, number>();

  function begin(coveredFromMs: number) {
    const fresh = createEvaluator(
      { measures, rules, rollups },
      { known, isFiring: deps.isFiring, ...(options.withoutLog ? {} : { quiet }) },
    );
    fresh.store.putHours(hours, coveredFromMs);
    for (const [lane, { upToOffset }] of reached) over.set(lane, upToOffset);
    reached.clear();
    return fresh;
  }
  let evaluator = begin(options.coveredFromMs);

  /** In the time that began at `nowMs`: who was heard of, and when, goes on. */
  function beginAnew(nowMs: number): void {
    const { store, progress } = evaluator;
    const formerMs = progress.status(nowMs).times?.evalMs ?? nowMs;
    quiet.begin(nowMs);
    evaluator = begin(fullHour(nowMs));
    evaluator.store.putSeries(store, Math.max(0, formerMs - nowMs), nowMs);
  }

  /** False for totals of a time that is over. Begins anew where offsets go on and arrivals go back. */
  function isOfPresentTime({ lane, upToOffset, arrivalMs }: BucketTotals): boolean {
    const before = reached.get(lane);
    if (before !== undefined && upToOffset > before.upToOffset && before.arrivalMs - arrivalMs > SET_BACK_MS) {
      beginAnew(arrivalMs);
    }
    if (upToOffset <= (over.get(lane) ?? Number.NEGATIVE_INFINITY)) return false;
    if (upToOffset > (reached.get(lane)?.upToOffset ?? Number.NEGATIVE_INFINITY)) {
      reached.set(lane, { upToOffset, arrivalMs });
    }
    return true;
  }
  let kept = hours.map(({ hourMs }) => hourMs);
  let unsaved: StateChange[] = isPresent
    ? []
    : [{ key: KNOWN_SINCE, value: { sinceMs, templates: ERROR_TEMPLATE_VERSION } }];

  function keepHours(finished: readonly HourRecord[], wallMs: number): void {
    if (finished.length === 0) return;
    for (const hour of finished) unsaved.push({ key: `${ROLLUP}${hour.hourMs}`, value: hour });
    kept.push(...finished.map(({ hourMs }) => hourMs));
    for (const hourMs of kept.filter((at) => wallMs - at > ROLLUP_KEPT_MS)) {
      unsaved.push({ key: `${ROLLUP}${hourMs}`, value: null });
    }
    kept = kept.filter((at) => wallMs - at <= ROLLUP_KEPT_MS);
  }

  return {
    get store() {
      return evaluator.store;
    },
    changeRules(next) {
      const problem = evaluator.changeRules(next);
      if (problem === undefined) rules = next;
      return problem;
    },
    counts(message, recordMs) {
      if (message.kind === 'progress' || isOfPresentTime(message.totals)) evaluator.apply(message, recordMs);
    },
    setBack: beginAnew,
    evaluate(wallMs) {
      const { times, progress, observations, hours: finished } = evaluator.tick(wallMs);
      const learnt = known.take();
      for (const entry of learnt) {
        const key = `${TEMPLATE}${entry.key}`;
        outdated.delete(key);
        unsaved.push({ key, value: { ...entry, templates: ERROR_TEMPLATE_VERSION } });
      }
      if (learnt.length > 0) deps.onKnown?.(known.size, known.maxKeys);
      for (const { id, entry } of quiet.take()) unsaved.push({ key: id, value: entry });
      keepHours(finished, wallMs);
      return { observations, evalMs: times.evalMs, wallMs, progress, skippedMs: quiet.skippedMs, records: unsaved };
    },
    accepted() {
      // Not all at once: they would not fit into one request.
      unsaved = [...outdated].slice(0, MAX_REMOVED).map((key) => ({ key, value: null }));
      for (const { key } of unsaved) outdated.delete(key);
    },
  };
}

function fullHour(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS;
}

/** Which templates it was learned with; the first ones had no version. */
interface Versioned {
  readonly templates?: number;
}

function isOfPresent({ templates }: Versioned): boolean {
  return templates === ERROR_TEMPLATE_VERSION;
}

function recordsOf<T>(initial: ReadonlyMap<StateKey, object>, prefix: string): T[] {
  return [...initial].filter(([key]) => key.startsWith(prefix)).map(([, value]) => value as T);
}
