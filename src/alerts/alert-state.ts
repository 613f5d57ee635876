// One alert through time: inactive → pending → firing → resolved. In: its record, what its rule says now, and the
// evaluation time. Out: its next record and the transition it made. Pure. An inactive alert has no record, and everything
// the next step depends on stands in the record: an alert read back after a restart goes on as if nothing had happened.
import type { Masker } from '../core/mask.ts';
import type { Where } from '../measure/measure-config.ts';
import { type Observation, PRIORITIES, type Priority, type RuleInfo, type Why } from '../rules/observation.ts';
import { labelTest } from '../rules/series.ts';

/** What the state machine needs of a rule beyond what it tells people. */
export interface AlertRule extends RuleInfo {
  /** Alerts of this rule that may be open at a time, one per label set. Default `DEFAULT_MAX_ALERTS`. */
  readonly maxAlerts?: number;
  /** Of an absence: silence has no end but an event. Not to be heard of is no end. */
  readonly endsByEvent?: true;
  /** Of an absence with labels: how long one of them may be silent. */
  readonly forgetAfterMs?: number;
  /** Of an absence: what it listens to, as text. Silence of something else is another alert. */
  readonly watches?: string;
  /** The labels its alerts have, and the conditions on them; absent: nothing is known of that. */
  readonly labelNames?: readonly string[];
  readonly where?: Where;
}

export const DEFAULT_MAX_ALERTS = 20;
/** An open alert whose label set the evaluator has stopped speaking of for this long is over. */
export const FORGET_MS = 3_600_000;
/** A new worst value is written down this long after the one before. */
const PEAK_EVERY_MS = 5_000;
/** And when it is this much further beyond the threshold. */
const PEAK_STEP = 1.01;
const MAX_MESSAGE = 2_000;
const MAX_METADATA = 8_000;

/** Why an alert stands muted. A silence is somebody's will and goes before an inhibition. */
export type Muted = 'silenced' | 'inhibited';
/** How a firing alert ended. */
export type Resolution = 'cleared' | 'unobserved' | 'forgotten' | 'rule removed' | 'rule changed' | 'moved' | 'by hand';

/** What the alert says to people; masked. */
export interface Said {
  readonly message: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly why?: Why;
}

export interface Peak {
  readonly valueText: string;
  /** Distance from the threshold. */
  readonly beyond: number;
  /** Evaluation time. */
  readonly atMs: number;
}

/** `alert/<key>`. Title, priority and group are the rule's, kept here because the rule may be gone at the end. */
export interface AlertRecord extends Said {
  readonly key: string;
  readonly ruleId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly title: string;
  readonly priority: Priority;
  readonly group: string;
  readonly runbook: string;
  /** As its rule's. */
  readonly watches?: string;
  readonly phase: 'pending' | 'firing';
  /** Evaluation time of the first breach. */
  readonly startedMs: number;
  /** Evaluation time since when the condition has not been true; absent while it is. */
  readonly clearSinceMs?: number;
  /** Evaluation time since when nothing is known of it. */
  readonly gapSinceMs?: number;
  /** The worst value since it fires, when it is worse than that of `why`; looked at every few seconds. */
  readonly peak?: Peak;
  readonly incidentId?: string;
  /** A message has named it. */
  readonly announced?: true;
  readonly muted?: Muted;
}

/** `dismissed/<alert>`: an absence that somebody ended. It fires again only after something has arrived. */
export interface Dismissed {
  readonly key: string;
  readonly ruleId: string;
  readonly watches?: string;
  readonly atMs: number;
}

export type Advance =
  | { readonly to: 'same' }
  /** A new record without a transition. */
  | { readonly to: 'kept'; readonly record: AlertRecord }
  | { readonly to: 'firing'; readonly record: AlertRecord }
  /** Pending no longer: it never fired. */
  | { readonly to: 'inactive' }
  | { readonly to: 'resolved'; readonly resolution: Resolution };

const SAME: Advance = { to: 'same' };

/** Rule and sorted labels: the same alert has the same key in every process. */
export function alertKey(ruleId: string, labels: Readonly<Record<string, string>>): string {
  const names = Object.keys(labels).sort();
  if (names.length === 0) return ruleId;
  return `${ruleId}{${names.map((name) => `${name}=${JSON.stringify(labels[name])}`).join(',')}}`;
}

/** An alert whose condition is true for the first time. */
export function beginAlert(
  key: string,
  labels: Readonly<Record<string, string>>,
  rule: AlertRule,
  evalMs: number,
  said: Said,
): AlertRecord {
  const { id: ruleId, title, priority, group, runbook, forMs, watches } = rule;
  const phase = forMs <= 0 ? 'firing' : 'pending';
  const what = watches === undefined ? {} : { watches };
  return { key, ruleId, labels, title, priority, group, runbook, ...what, phase, startedMs: evalMs, ...said };
}

/** False when the rule, as it is now, can never speak of the alert again. */
export function canSpeakOf(rule: AlertRule, { labels, watches }: Pick<AlertRecord, 'labels' | 'watches'>): boolean {
  if (watches !== undefined && rule.watches !== undefined && watches !== rule.watches) return false;
  const { labelNames, where = {} } = rule;
  if (labelNames === undefined) return true;
  const names = Object.keys(labels);
  if (names.length !== labelNames.length || !names.every((name) => labelNames.includes(name))) return false;
  const own = Object.fromEntries(Object.entries(where).filter(([name]) => names.includes(name)));
  return labelTest(own, names)(names.map((name) => labels[name] as string));
}

/** The alert as its rule is now. One that has become more urgent is news: nobody was told of it as such. */
export function adoptRule(record: AlertRecord, rule: AlertRule): AlertRecord {
  const { title, priority, runbook, watches = record.watches } = rule;
  const same =
    title === record.title && priority === record.priority && runbook === record.runbook && watches === record.watches;
  if (same) return record;
  const { announced, ...rest } = record;
  const told = announced === undefined || PRIORITIES.indexOf(priority) < PRIORITIES.indexOf(record.priority);
  return {
    ...rest,
    ...(told ? {} : { announced }),
    ...(watches === undefined ? {} : { watches }),
    ...{ title, priority, runbook },
  };
}

/** Evaluation time: the present, and how long something has lasted that began at `fromMs`, without what a clock was set forward over. */
export interface EvaluationClock {
  readonly nowMs: number;
  lastedMs(fromMs: number): number;
}

/**
 * The next step of an open alert. `state` is undefined when the evaluator did not speak of it at all, though it spoke of others.
 * `said` is asked for only when the alert fires.
 */
export function advanceAlert(
  record: AlertRecord,
  state: Observation['state'] | undefined,
  rule: AlertRule,
  clock: EvaluationClock,
  said: () => Said,
): Advance {
  if (state === 'held') return SAME;
  return record.phase === 'pending'
    ? advancePending(record, state, rule, clock, said)
    : advanceFiring(record, state, rule, clock);
}

type Seen = Exclude<Observation['state'], 'held'> | undefined;

function advancePending(
  record: AlertRecord,
  state: Seen,
  rule: AlertRule,
  clock: EvaluationClock,
  said: () => Said,
): Advance {
  const { nowMs: evalMs, lastedMs } = clock;
  if (state === 'clear' || state === 'forgotten') return { to: 'inactive' };
  if (state !== 'breached') return gap(record, clock, { to: 'inactive' });
  const { gapSinceMs, ...rest } = record;
  // The condition has to *hold*: what nobody saw for longer than that begins anew. So does what began in the future: at a
  // start, before it is known how far the log was read, evaluation time is the wall clock's.
  if (evalMs < record.startedMs || (gapSinceMs !== undefined && lastedMs(gapSinceMs) > rule.forMs)) {
    return { to: 'kept', record: { ...rest, startedMs: evalMs } };
  }
  if (lastedMs(record.startedMs) >= rule.forMs)
    return { to: 'firing', record: { ...rest, phase: 'firing', ...said() } };
  return gapSinceMs === undefined ? SAME : { to: 'kept', record: rest };
}

function advanceFiring(record: AlertRecord, state: Seen, rule: AlertRule, clock: EvaluationClock): Advance {
  const { nowMs: evalMs, lastedMs } = clock;
  // What nobody can say anything of for an hour is over: a tenant that stopped calling, a night without calls.
  if (state === undefined || state === 'unknown') {
    const { endsByEvent, forgetAfterMs = Number.POSITIVE_INFINITY } = rule;
    if (endsByEvent === undefined) return gap(record, clock, { to: 'resolved', resolution: 'unobserved' });
    return lastedMs(record.startedMs) >= forgetAfterMs ? { to: 'resolved', resolution: 'forgotten' } : SAME;
  }
  const { gapSinceMs, ...rest } = record;
  const present = gapSinceMs === undefined ? SAME : ({ to: 'kept', record: rest } as const);
  switch (state) {
    case 'forgotten':
      return { to: 'resolved', resolution: 'forgotten' };
    case 'breached': {
      if (record.clearSinceMs === undefined) return present;
      const { clearSinceMs: _, ...breached } = rest;
      return { to: 'kept', record: breached };
    }
    case 'clear': {
      const since = Math.min(record.clearSinceMs ?? evalMs, evalMs);
      if (lastedMs(since) >= rule.keepFiringMs) return { to: 'resolved', resolution: 'cleared' };
      return since === record.clearSinceMs ? present : { to: 'kept', record: { ...rest, clearSinceMs: since } };
    }
  }
}

function gap(record: AlertRecord, { nowMs: evalMs, lastedMs }: EvaluationClock, end: Advance): Advance {
  if (record.gapSinceMs === undefined || evalMs < record.gapSinceMs) {
    return { to: 'kept', record: { ...record, gapSinceMs: evalMs } };
  }
  return lastedMs(record.gapSinceMs) >= FORGET_MS ? end : SAME;
}

/** What an observation says, masked and bounded, as it is kept and sent. */
export function saidOf(observation: Observation, rule: RuleInfo, masker: Masker): Said {
  const { metadata, why } = observation;
  const message = observation.message ?? rule.title;
  const said: Said = {
    message: message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message,
    ...(metadata === undefined ? {} : { metadata: bounded(metadata) }),
    ...(why === undefined ? {} : { why }),
  };
  return masker.value(said) as Said;
}

function bounded(metadata: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const length = JSON.stringify(metadata).length;
  return length <= MAX_METADATA ? metadata : { truncated: `${length} characters of metadata were left out` };
}

/** A firing alert with the worst value it has come to; the same record when that has not changed. */
export function withPeak(record: AlertRecord, why: Why | undefined, evalMs: number): AlertRecord {
  if (record.phase !== 'firing' || why === undefined) return record;
  const { peak, why: first } = record;
  const beyond = Math.abs(why.value - why.threshold);
  const known = peak?.beyond ?? (first === undefined ? -1 : Math.abs(first.value - first.threshold));
  // Each change is written: what grows with every event is written now and then, and what grows for a day ever more seldom.
  if (!(beyond > known * PEAK_STEP) || (peak !== undefined && evalMs - peak.atMs < PEAK_EVERY_MS)) return record;
  return { ...record, peak: { valueText: why.valueText, beyond, atMs: evalMs } };
}
