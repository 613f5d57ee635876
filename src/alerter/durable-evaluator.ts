// The evaluator together with what must outlive it. In: windows, the wall clock, and the records of the alert store. Out: evaluations for
// the alert machine, with the records that must become durable with them: new kinds of errors, who fell silent, finished hours.
// Guarantee: what was learned is part of every evaluation until `accepted` says that it is durable.

import type { StateChange, StateKey } from '../incidents/records.ts';
import { learnedBy } from '../rules/kinds.ts';
import {
  createKnownSet,
  createQuietSet,
  type KnownEntry,
  QUIET,
  type QuietEntry,
  SKIPPED,
  type SkippedEntry,
  WATCHED,
  type WatchedEntry,
} from '../rules/known-sets.ts';
import { MAX_LOOK_BACK_MS, type Rules } from '../rules/rule-config.ts';
import type { FirstSeenRule, Observation } from '../rules/rule-types.ts';
import { ERROR_TEMPLATE_VERSION } from '../tag/tag.ts';
import { HOUR_MS, type HourRecord, type Labels } from '../windows/series.ts';
import type { ProgressStatus } from '../windows/windows.ts';
import { type CountedWindows, type CountedWindowsOptions, createCountedWindows, fullHour } from './counts-follower.ts';

interface Evaluation {
  readonly observations: readonly Observation[];
  readonly evalMs: number;
  readonly wallMs: number;
  readonly progress: ProgressStatus;
  /** How much of the time between the two the brokers' clock skipped when it was set forward, ms. */
  readonly skippedMs: (fromMs: number, toMs: number) => number;
  readonly records: readonly StateChange[];
}

interface DurableEvaluator {
  evaluate(wallMs: number): Evaluation;
  /** The records of the last evaluation are durable. */
  accepted(): void;
  /** As Evaluator.changeRules. */
  changeRules(rules: Rules): string | undefined;
}

interface DurableEvaluatorOptions {
  readonly windows: CountedWindows;
  readonly wallMs: number;
  /** For a simulation of readings only: that nothing arrives is not silence. */
  readonly withoutLog?: boolean;
}

const KNOWN_SINCE = 'known/since';
/** Since when each first-seen rule has learned, by what it watches. */
const KNOWN_RULES = 'known/rules';
const TEMPLATE = 'template/';
const ROLLUP = 'rollup/';
/** How many outdated entries are removed with one evaluation. */
const MAX_REMOVED = 500;
/** A little more than trends look back. */
const ROLLUP_KEPT_MS = 9 * 24 * HOUR_MS;

/**
 * From when on the counts are read at a take-over: from the full hour before anything the rules look at, and no later than the end of
 * the last hour whose sums were kept; but no further back than any window reaches.
 */
export function countsFrom(nowMs: number, reachMs: number, initial: ReadonlyMap<StateKey, object>): number {
  const earliestMs = fullHour(nowMs - MAX_LOOK_BACK_MS);
  // With too few events a firing rule looks back an hour, and statistics show an hour.
  let fromMs = fullHour(nowMs - Math.max(reachMs, HOUR_MS));
  while (fromMs > earliestMs && !initial.has(`${ROLLUP}${fromMs - HOUR_MS}`)) fromMs -= HOUR_MS;
  return fromMs;
}

/** Hours whose sums were kept. */
export function hoursOf(initial: ReadonlyMap<StateKey, object>): HourRecord[] {
  return recordsOf<HourRecord>(initial, ROLLUP);
}

/** @param initial records of the alert store; those of other kinds are ignored */
export function createDurableEvaluator(
  options: DurableEvaluatorOptions,
  initial: ReadonlyMap<StateKey, object>,
  deps: {
    readonly isFiring: (ruleId: string, labels: Labels) => boolean;
    /** Called with how full the set of first-seen rules is, at the beginning and whenever that changes. */
    readonly onKnown?: (keys: number, maxKeys: number) => void;
  },
): DurableEvaluator {
  const { windows } = options;
  const since = initial.get(KNOWN_SINCE) as ({ sinceMs?: number } & Versioned) | undefined;
  // Templates of another version would all be news: everything is learned anew, silently.
  const isPresent = since !== undefined && isOfPresent(since);
  const sinceMs = (isPresent ? since.sinceMs : undefined) ?? options.wallMs;
  const learned = recordsOf<KnownEntry & Versioned>(initial, TEMPLATE);
  const valid = learned.filter(isOfPresent);
  const watched = isPresent
    ? watchedSince(initial, firstSeen(windows.rules), valid, sinceMs)
    : new Map<string, number>();
  const known = createKnownSet(sinceMs, valid, undefined, watched);
  deps.onKnown?.(known.size, known.maxKeys);
  const quiet = createQuietSet(
    recordsOf<QuietEntry>(initial, QUIET),
    recordsOf<WatchedEntry>(initial, WATCHED),
    initial.get(SKIPPED) as SkippedEntry | undefined,
  );
  const outdated = new Set(learned.filter((entry) => !isOfPresent(entry)).map(({ key }) => `${TEMPLATE}${key}`));
  windows.remember({ known, isFiring: deps.isFiring, ...(options.withoutLog ? {} : { quiet }) });
  let kept = hoursOf(initial).map(({ hourMs }) => hourMs);
  /** An instance that stood by also finishes hours that the former leader has kept already. */
  const before = new Set(kept);
  let unsaved: StateChange[] = isPresent
    ? []
    : [{ key: KNOWN_SINCE, value: { sinceMs, templates: ERROR_TEMPLATE_VERSION } }];

  function keepHours(all: readonly HourRecord[], wallMs: number): void {
    const finished = all.filter(({ hourMs }) => !before.has(hourMs));
    if (finished.length === 0) return;
    for (const hour of finished) unsaved.push({ key: `${ROLLUP}${hour.hourMs}`, value: hour });
    kept.push(...finished.map(({ hourMs }) => hourMs));
    for (const hourMs of kept.filter((at) => wallMs - at > ROLLUP_KEPT_MS)) {
      unsaved.push({ key: `${ROLLUP}${hourMs}`, value: null });
    }
    kept = kept.filter((at) => wallMs - at <= ROLLUP_KEPT_MS);
  }

  return {
    changeRules(next) {
      const problem = windows.changeRules(next);
      if (problem === undefined) known.watchOnly(firstSeen(next).map(learnedBy));
      return problem;
    },
    evaluate(wallMs) {
      const { times, progress, observations, hours: finished } = windows.tick(wallMs);
      const learnt = known.take();
      for (const entry of learnt) {
        const key = `${TEMPLATE}${entry.key}`;
        outdated.delete(key);
        unsaved.push({ key, value: { ...entry, templates: ERROR_TEMPLATE_VERSION } });
      }
      const since = known.takeSince();
      if (since !== undefined) {
        unsaved = unsaved.filter(({ key }) => key !== KNOWN_RULES);
        unsaved.push({ key: KNOWN_RULES, value: { since } });
      }
      if (learnt.length > 0) deps.onKnown?.(known.size, known.maxKeys);
      for (const { id, entry } of quiet.take()) unsaved.push({ key: id, value: entry });
      keepHours(finished, wallMs);
      return { observations, evalMs: times.evalMs, wallMs, progress, skippedMs: quiet.skippedMs, records: unsaved };
    },
    accepted() {
      // Not all at once, because they would not fit into one request.
      unsaved = [...outdated].slice(0, MAX_REMOVED).map((key) => ({ key, value: null }));
      for (const { key } of unsaved) outdated.delete(key);
    },
  };
}

export interface StandaloneEvaluator extends DurableEvaluator, Pick<CountedWindows, 'store' | 'counts' | 'setBack'> {}

/** An evaluator with windows of its own, for a caller that neither stands by nor takes over, such as a simulation. */
export function createStandaloneEvaluator(
  options: CountedWindowsOptions & Omit<DurableEvaluatorOptions, 'windows'>,
  initial: ReadonlyMap<StateKey, object>,
  deps: Parameters<typeof createDurableEvaluator>[2],
): StandaloneEvaluator {
  const windows = createCountedWindows(options, hoursOf(initial));
  const { counts, setBack } = windows;
  return {
    ...createDurableEvaluator({ ...options, windows }, initial, deps),
    ...{ counts, setBack },
    get store() {
      return windows.store;
    },
  };
}

function firstSeen(rules: Rules): FirstSeenRule[] {
  return rules.filter((rule): rule is (typeof rules)[number] & FirstSeenRule => rule.kind === 'first-seen');
}

/**
 * Since when each of these rules has learned, as it was kept. Earlier versions kept one time for all rules: there, a rule of whose
 * measure nothing is known is new.
 */
function watchedSince(
  initial: ReadonlyMap<StateKey, object>,
  rules: readonly FirstSeenRule[],
  known: readonly KnownEntry[],
  sinceMs: number,
): Map<string, number> {
  const kept = (initial.get(KNOWN_RULES) as { readonly since?: Readonly<Record<string, number>> } | undefined)?.since;
  const isLearned = ({ measure }: FirstSeenRule) =>
    known.length === 0 || known.some(({ key }) => key.startsWith(`${measure}/`));
  return new Map(
    rules.flatMap((rule) => {
      const what = learnedBy(rule);
      const at = kept === undefined ? (isLearned(rule) ? sinceMs : undefined) : kept[what];
      return typeof at === 'number' ? [[what, at] as const] : [];
    }),
  );
}

/** Version of the templates it was learned with; the first ones had none. */
interface Versioned {
  readonly templates?: number;
}

function isOfPresent({ templates }: Versioned): boolean {
  return templates === ERROR_TEMPLATE_VERSION;
}

function recordsOf<T>(initial: ReadonlyMap<StateKey, object>, prefix: string): T[] {
  return [...initial].filter(([key]) => key.startsWith(prefix)).map(([, value]) => value as T);
}
