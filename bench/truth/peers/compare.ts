// Compares what several tools told of the same scenario. In: its labels, what really happened, and each tool's messages. Out: what each
// missed, told for nothing, and after how long; messages per incident. Guarantee: the same judge for all, logpipe included; stricter
// than judge.ts, because nothing counts but messages that people get, from the moment it truly happened.
import type { Simulated } from '../../../src/replay/simulate.ts';
import type { Priority } from '../../../src/rules/rule-types.ts';
import {
  allCallsFailing,
  anyTenant,
  elevatedErrorRate,
  highErrorRate,
  lowCallSuccess,
  lowRetrySuccess,
  manyCallsFailing,
  mostCallsFailing,
  tenantErrorRate,
} from '../call-labels.ts';
import { HOSTS } from '../fleet.ts';
import type { Truth } from '../label.ts';
import {
  accessDeniedSpike,
  criticalDisk,
  criticalMemory,
  elevatedHttpErrorRate,
  highCpu,
  highDisk,
  highHttpErrorRate,
  highMemory,
  poolExhausted,
  queueBacklog,
  queueSlow,
  queueWait,
  silent,
  slowResponses,
} from '../labels.ts';
import type { Staged } from '../scenario.ts';
import type { Interval } from '../truth.ts';
import type { Told, ToldAlert } from './told.ts';

/** Something that was to be told: a rule's condition, true in [fromMs, toMs). */
export interface Expected {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly group: string;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Facts {
  readonly group: string;
  readonly priority: Priority;
  readonly cooldownMs: number;
  /** More urgent rules that mute it. */
  readonly mutedBy: readonly string[];
}

export interface Outcome {
  /** For each of what was expected: seconds to the message; `still`: people had been called for its incident already; `missed`. */
  readonly detections: readonly (number | 'still' | 'missed')[];
  readonly falseMessages: readonly {
    readonly rule: string;
    readonly labels: ToldAlert['labels'];
    readonly atMs: number;
  }[];
  /** For each incident: messages that something is wrong, and that it is over. */
  readonly incidents: readonly { readonly group: string; readonly calls: number; readonly ends: number }[];
}

/** logpipe's own way to the alert: the others have another one. */
const OWN_GROUPS: ReadonlySet<string> = new Set(['logpipe', 'elasticsearch', 'data-loss']);
/** The summary of what was known too late to page is about calls in every scenario. */
const LATE = 'reported-late';
const QUEUES = ['scheduled-calls', 'webhooks'];
/** Nobody need tell of less. */
const SHORT_MS = 10_000;
/** A value at its bound is seen above or below it by chance; tools look every 15 s to a minute. */
const NEAR_MS = 60_000;
/** An alert that is held for two minutes may still be told then. */
const HELD_MS = NEAR_MS + 120_000;
/** Another tool's window may show earlier what is about to be true by ours: early is not false. */
const EARLY_MS = 10 * 60_000;
/** A summary may come this late. */
const SUMMARY_MS = 15 * 60_000;
/** People who were called this long ago, and were not told that it is over, are on it. */
const ON_IT_MS = 30 * 60_000;

type Naive = (staged: Staged) => readonly Truth[];
const of =
  (...rules: readonly ((events: Staged['occurrences'], span: Staged) => Truth)[]): Naive =>
  (staged) =>
    rules.map((rule) => rule(staged.occurrences, staged));

/** All that may be wrong in each group, from what happened. */
const NAIVE: Readonly<Record<string, Naive>> = {
  platform: of(silent),
  calls: (staged) => [
    ...of(
      highErrorRate,
      elevatedErrorRate,
      lowCallSuccess,
      lowRetrySuccess,
      allCallsFailing,
      mostCallsFailing,
      manyCallsFailing,
    )(staged),
    ...anyTenant(staged.occurrences, staged),
  ],
  http: of(highHttpErrorRate, elevatedHttpErrorRate, slowResponses),
  security: of(accessDeniedSpike),
  queues: of(...QUEUES.flatMap((name) => [queueBacklog(name), queueSlow(name), queueWait(name)])),
  databases: of(poolExhausted),
  memory: of(criticalMemory, highMemory),
  hosts: of(...HOSTS.map((host) => highCpu(host))),
  disks: of(...HOSTS.flatMap((host) => [criticalDisk(host), highDisk(host)])),
};

export interface Reality {
  readonly expected: readonly Expected[];
  /** Groups in which something is wrong, each one incident. */
  readonly incidents: readonly string[];
  /** Whether something of this group was wrong at about this moment, or soon would be. */
  wrong(group: string, ms: number): boolean;
}

export function realityOf(staged: Staged, rules: ReadonlyMap<string, Facts>): Reality {
  const { must, may = [], occurrences } = staged;
  const naive = new Map<string, readonly Truth[]>();
  const truths = (group: string) => {
    let own = naive.get(group);
    if (own === undefined) {
      own = NAIVE[group]?.(staged) ?? [];
      naive.set(group, own);
    }
    return own;
  };
  const groupOf = (rule: string) => (rule === LATE ? 'calls' : (rules.get(rule)?.group ?? rule));

  const expected: Expected[] = [];
  const add = ({ rule, labels }: Pick<Truth, 'rule' | 'labels'>, { fromMs, toMs }: Interval) => {
    if (toMs - fromMs <= SHORT_MS) return;
    if (expected.some((one) => one.rule === rule && one.fromMs === fromMs && sameLabels(one.labels, labels))) return;
    expected.push({ rule, labels, group: groupOf(rule), fromMs, toMs });
  };
  for (const truth of must) {
    if (OWN_GROUPS.has(groupOf(truth.rule))) continue;
    if (truth.rule === LATE) {
      for (const one of [highErrorRate, elevatedErrorRate].map((rule) => rule(occurrences, staged))) {
        for (const interval of one.when) add(one, interval);
      }
      continue;
    }
    const real = happened(truth, staged);
    for (const interval of truth.when) {
      // Where a scenario's label says when it can be known, this table asks when it happened.
      const began = real?.when.filter(({ fromMs, toMs }) => fromMs <= interval.toMs && toMs >= interval.fromMs) ?? [];
      if (began.length === 0) add(truth, interval);
      for (const one of began) add(truth, one);
    }
  }

  const permitted = (group: string) => [
    ...[...must, ...may].flatMap((truth) =>
      typeof truth !== 'string' && groupOf(truth.rule) === group ? truth.permitted : [],
    ),
    ...expected.filter((one) => one.group === group),
  ];
  const near = (ms: number) => (interval: Interval) =>
    ms >= interval.fromMs - EARLY_MS && ms <= interval.toMs + NEAR_MS;
  return {
    expected,
    incidents: [
      ...new Set([
        ...staged.incidents
          .map(({ group }) => (group === 'late' ? 'calls' : group))
          .filter((group) => !OWN_GROUPS.has(group)),
        ...expected.map(({ group }) => group),
      ]),
    ],
    wrong(group, ms) {
      if (may.some((truth) => typeof truth === 'string' && groupOf(truth) === group)) return true;
      // The second question is dear, so it is asked only where the labels do not answer.
      return permitted(group).some(near(ms)) || truths(group).some(({ permitted: own }) => own.some(near(ms)));
    },
  };
}

/** The same condition by what happened; undefined where the label itself is that. */
function happened({ rule, labels }: Truth, staged: Staged): Truth | undefined {
  const { occurrences } = staged;
  const { tenantId } = labels;
  if (rule === 'tenant-error-rate' && tenantId !== undefined) return tenantErrorRate(occurrences, staged, tenantId);
  if (rule === 'high-error-rate') return highErrorRate(occurrences, staged);
  return rule === 'elevated-error-rate' ? elevatedErrorRate(occurrences, staged) : undefined;
}

export function compare({ messages }: Told, reality: Reality, rules: ReadonlyMap<string, Facts>): Outcome {
  const { expected, incidents, wrong } = reality;
  const groupOf = (rule: string) => (rule === LATE ? 'calls' : (rules.get(rule)?.group ?? rule));
  const calls = messages.filter(
    ({ kind, alerts }) => kind === 'call' && alerts.some(({ rule }) => !OWN_GROUPS.has(groupOf(rule))),
  );

  const detections = expected.map((one): number | 'still' | 'missed' => {
    const facts = rules.get(one.rule);
    const says = ({ rule, labels }: ToldAlert) =>
      (rule === one.rule && sameLabels(labels, one.labels)) ||
      // "Nothing is logged any more" says nothing of the calls.
      (facts?.mutedBy.includes(rule) === true && groupOf(rule) === one.group);
    const first = calls.find(
      ({ atMs, alerts }) => atMs >= one.fromMs - NEAR_MS && atMs <= one.toMs + HELD_MS && alerts.some(says),
    );
    const before = calls.findLast(({ atMs, alerts }) => atMs < one.fromMs - NEAR_MS && alerts.some(says));
    // What was told a moment ago is not told again for a while, by any of them.
    if (before !== undefined && one.fromMs - before.atMs <= (facts?.cooldownMs ?? 0)) return 'still';
    if (facts !== undefined && isOnIt(one, facts)) return 'still';
    if (first !== undefined) return (first.atMs - one.fromMs) / 1_000;
    const summary = calls.find(
      ({ atMs, alerts }) =>
        atMs >= one.fromMs &&
        atMs <= one.toMs + SUMMARY_MS &&
        alerts.some(({ rule }) => rule === LATE && one.group === 'calls'),
    );
    return summary === undefined ? 'missed' : (summary.atMs - one.fromMs) / 1_000;
  });

  /** Called for its incident, at no lower priority. */
  function isOnIt({ group, fromMs }: Expected, { priority }: Facts): boolean {
    const earlier = messages.filter(
      ({ atMs, alerts }) =>
        atMs < fromMs - NEAR_MS && atMs >= fromMs - ON_IT_MS && alerts.some(({ rule }) => groupOf(rule) === group),
    );
    const last = earlier.at(-1);
    return last?.kind === 'call' && last.alerts.some(({ rule }) => (rules.get(rule)?.priority ?? 'P4') <= priority);
  }

  const isRight = ({ rule, firedMs }: ToldAlert) => rule === LATE || wrong(groupOf(rule), firedMs);
  const falseMessages = calls.flatMap(({ atMs, alerts }) => {
    if (alerts.some(isRight)) return [];
    const [{ rule, labels }] = alerts as [ToldAlert];
    return [{ rule, labels, atMs }];
  });
  const about = (group: string, kind: 'call' | 'end') =>
    messages.filter((message) => message.kind === kind && groupOf(message.alerts[0]?.rule ?? '') === group).length;
  return {
    detections,
    falseMessages,
    incidents: incidents.map((group) => ({
      group,
      calls: about(group, 'call') - falseMessages.filter(({ rule }) => groupOf(rule) === group).length,
      ends: about(group, 'end'),
    })),
  };
}

/** A tool may name more than logpipe does (the process), never something else. */
function sameLabels(told: ToldAlert['labels'], labels: ToldAlert['labels']): boolean {
  return Object.entries(labels).every(([name, value]) => told[name] === value);
}

/** logpipe's messages in the same form. */
export function toldBy({ alerts, messages }: Simulated): Told {
  const firedMs = (rule: string, labels: ToldAlert['labels'], atMs: number) =>
    alerts.findLast((one) => one.ruleId === rule && one.firedMs <= atMs && sameLabels(one.labels, labels))?.firedMs ??
    atMs;
  return {
    messages: messages.map(({ atMs, notification }) => ({
      atMs,
      kind: notification.action === 'trigger' ? 'call' : 'end',
      alerts: notification.alerts
        .filter(({ state }) => notification.action !== 'trigger' || state === 'firing')
        .map(({ ruleId, labels }) => ({ rule: ruleId, labels, firedMs: firedMs(ruleId, labels, atMs) })),
    })),
  };
}
