// A rule for people who ask. In: a rule with its measures, and the state of the term that judges it, where there is one. Out: what it
// means, in words, from the files alone; of each label set what is read now, why that fires or not, and how its alert stands; and all
// alerts and rules in short, masked.
// Guarantee: pure, and nothing is learned or changed by asking; bounded, the most urgent label sets first.
import type { TermState } from '../alerter/alerter.ts';
import type { Clock } from '../core/clock.ts';
import type { Condition, Where } from '../core/condition.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { type AlertRecord, agree, alertKey, byUrgency } from '../incidents/incident.ts';
import type { Measure, MeasureReference, Measures, Unit } from '../measure/measure-config.ts';
import { OTHER } from '../measure/totals.ts';
import { type Now, readNow } from '../rules/kinds.ts';
import {
  type Bound,
  exceeds,
  isUpper,
  type MeasuredRule,
  type Observation,
  type Over,
  type Priority,
  type Rule,
  type RuleKind,
} from '../rules/rule-types.ts';
import { formatDuration, formatThreshold, formatValue } from '../rules/words.ts';
import type { Labels } from '../windows/series.ts';
import { sourcesOf } from '../windows/values.ts';
import { isBehind } from '../windows/windows.ts';

// ---- what a rule means, from the files alone ----

/** What is said, and its name: "fires when". */
export type MeaningLine = readonly [name: string, text: string];

/** For people, in the order in which one asks. */
export function meaningOf(rule: Rule, measures: Measures): MeaningLine[] {
  const lines: MeaningLine[] = [];
  if (rule.kind !== 'late') lines.push(...measureLines(rule, measures));
  lines.push(...conditionLines(rule, measures));
  if (rule.kind !== 'late') lines.push(['grouping', grouping(rule)]);
  lines.push(['for', rule.forMs === 0 ? 'at once' : `when that has held for ${time(rule.forMs)}`]);
  lines.push(['ends', `when it has not been true for ${time(rule.keepFiringMs)}`]);
  if (rule.inhibitedBy.length > 0) lines.push(['muted', `while ${anyOf(rule.inhibitedBy)} fires`]);
  const reminder = rule.remindMs === 0 ? '' : `, again every ${time(rule.remindMs)} until acknowledged`;
  lines.push([
    'messages',
    `${rule.priority}, in incidents of group ${rule.group}, one per ${time(rule.cooldownMs)}${reminder}`,
  ]);
  lines.push(['runbook', rule.runbook]);
  return lines;
}

function measureLines(rule: MeasuredRule, measures: Measures): MeaningLine[] {
  const measure = measures.get(rule.measure);
  if (measure === undefined) return [];
  const where = whereText(rule.where);
  const own: MeaningLine = [
    'measure',
    `${rule.measure}: ${measureText(measure)}${where === '' ? '' : `, where ${where}`}`,
  ];
  const sources = isDerived(measure) ? [...new Set(sourcesOf(measure))] : [];
  const made = sources.flatMap((name): MeaningLine[] => {
    const source = measures.get(name);
    return source === undefined ? [] : [['', `${name}: ${measureText(source)}`]];
  });
  return [own, ...made];
}

function isDerived(measure: Measure): boolean {
  return 'of' in measure || measure.kind === 'ratio';
}

function measureText(measure: Measure): string {
  switch (measure.kind) {
    case 'counter': {
      const where = whereText(measure.where);
      return where === '' ? 'all events' : `events where ${where}`;
    }
    case 'distribution':
      return `${measure.field}${ofEvents(measure.where)}`;
    case 'gauge':
      return measure.internal ? 'read by logpipe itself' : `the newest ${measure.field}${ofEvents(measure.where)}`;
    case 'ratio':
      return `${referenceText(measure.numerator)} divided by ${referenceText(measure.denominator)}`;
    case 'percentile':
      return `what ${measure.p} % of ${referenceText(measure.of)} do not exceed`;
    case 'mean':
      return `the mean of ${referenceText(measure.of)}`;
    case 'rate':
      return `${referenceText(measure.of)} per ${time(measure.perMs)}`;
    case 'increase':
      return `by how much ${referenceText(measure.of)} grows per ${time(measure.perMs)}`;
    case 'sum':
      return `the sum of ${referenceText(measure.of)} over all label sets`;
    case 'absence':
      return `the time since the newest event of ${referenceText(measure.of)}`;
  }
}

function ofEvents(where: Where): string {
  const text = whereText(where);
  return text === '' ? '' : ` of events where ${text}`;
}

function referenceText({ of, where }: MeasureReference): string {
  const text = whereText(where);
  return text === '' ? of : `${of} (${text})`;
}

function whereText(where: Where): string {
  return Object.entries(where)
    .map(([path, condition]) => conditionText(path, condition))
    .join(' and ');
}

function conditionText(path: string, condition: Condition): string {
  if (typeof condition !== 'object') return `${path} is ${String(condition)}`;
  if (Array.isArray(condition)) return `${path} is ${anyOf(condition.map(String))}`;
  const { gt, gte, lt, lte, exists, not } = condition as Exclude<
    Condition,
    string | number | boolean | readonly unknown[]
  >;
  return [
    ...(gt === undefined ? [] : [`${path} > ${gt}`]),
    ...(gte === undefined ? [] : [`${path} ≥ ${gte}`]),
    ...(lt === undefined ? [] : [`${path} < ${lt}`]),
    ...(lte === undefined ? [] : [`${path} ≤ ${lte}`]),
    ...(exists === undefined ? [] : [exists ? `${path} is there` : `${path} is not there`]),
    ...(not === undefined ? [] : [`${path} is not ${anyOf([not].flat().map(String))}`]),
  ].join(' and ');
}

function conditionLines(rule: Rule, measures: Measures): MeaningLine[] {
  const window: MeaningLine = ['window', `the last ${time(rule.windowMs)}`];
  switch (rule.kind) {
    case 'threshold':
    case 'ratio':
    case 'percentile': {
      const others =
        rule.againstOthers === undefined ? '' : `, and at least ${rule.againstOthers} × that of all others together`;
      const lines: MeaningLine[] = [
        window,
        [
          'fires when',
          `${overText(rule.over)}${rule.measure} is ${boundText(rule.bound, rule.unit)}${others}${enough(rule)}`,
        ],
      ];
      if (rule.fallback !== undefined)
        lines.push(['instead', `${rule.fallback}, while nobody reports ${rule.measure}`]);
      const gate = rule.onlyWhile;
      if (gate === undefined) return lines;
      const unit = measures.get(gate.measure)?.unit ?? 'count';
      const where = whereText(gate.where);
      const what = `${overText(gate.over)}${gate.measure}${where === '' ? '' : ` (${where})`}`;
      return [...lines, ['only while', `${what} is ${boundText(gate.bound, unit)} in ${time(gate.windowMs)}`]];
    }
    case 'absence': {
      const lines: MeaningLine[] = [['fires when', `${rule.measure} is ${boundText(rule.bound, rule.unit)}`]];
      if (rule.forgetAfterMs === undefined) return lines;
      return [...lines, ['forgets', `who has been silent for ${time(rule.forgetAfterMs)}`]];
    }
    case 'spike': {
      const { factor, deviations, floor, unit, baselineMs } = rule;
      const bounds = `${factor} × what is usual, what is usual and ${deviations} × its spread, and ${formatThreshold(floor, unit)}`;
      return [
        window,
        ['fires when', `${rule.measure} is above all of these: ${bounds}`],
        ['usual', `the median of such windows in the ${time(baselineMs)} before`],
      ];
    }
    case 'low-volume':
      return [
        ['window', `the last ${rule.last} events, of ${time(rule.windowMs)} at most`],
        ['fires when', `${rule.measure} is ${boundText(rule.bound, rule.unit)}${enough(rule)}`],
        ['only while', `${rule.insteadOf} has too few events to be judged`],
      ];
    case 'first-seen':
      return [
        window,
        ['fires when', `${rule.labels.join(' and ')} is one never seen before${enough(rule)}`],
        ['learns', `without a word for the first ${time(rule.learningMs)}`],
      ];
    case 'trend': {
      const grown = `${rule.factor} × what it was, and ${formatThreshold(rule.floor, rule.unit)} more`;
      return [
        window,
        ['fires when', `${rule.measure} is at least ${grown}, ${time(rule.offsetMs)} before${enough(rule)}`],
      ];
    }
    case 'late':
      return [['fires when', 'another rule would have fired, had its events been known in time'], window];
    default:
      // A kind that has no words of its own yet.
      return [window, ['fires when', `its condition, of the kind ${(rule as Rule).kind}, holds`]];
  }
}

function overText(over: Over): string {
  return over === 'newest' ? '' : `the ${over} `;
}

function enough({ minEvents }: MeasuredRule): string {
  return minEvents > 1 ? `, with at least ${minEvents} events` : '';
}

function grouping({ labels, maxAlerts }: MeasuredRule): string {
  if (labels.length === 0) return 'one alert over everything';
  return `one alert for each ${labels.join(' and ')}, at most ${maxAlerts} at a time`;
}

const OPS: Readonly<Record<Bound['op'], string>> = {
  above: 'above',
  below: 'below',
  atLeast: 'at least',
  atMost: 'at most',
};

function boundText({ op, value }: Bound, unit: Unit): string {
  return `${OPS[op]} ${formatThreshold(value, unit)}`;
}

const DAY_MS = 86_400_000;

function time(ms: number): string {
  return ms >= 2 * DAY_MS && ms % DAY_MS === 0 ? `${ms / DAY_MS} days` : formatDuration(ms);
}

function anyOf(names: readonly string[]): string {
  return names.length < 2 ? (names[0] ?? '') : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

// ---- why it fires or not, now ----

/** `silent`: no label set is spoken of. */
export type RuleState = Observation['state'] | 'silent';

export interface SetStatus {
  readonly labels: Labels;
  readonly state: Observation['state'];
  /** In the unit of the measure; null: nothing is known. */
  readonly value: number | null;
  readonly valueText: string | null;
  readonly threshold: number | null;
  readonly thresholdText: string | null;
  /** How near the value is to the threshold: 1 at it, more beyond it; null: unknown. */
  readonly near: number | null;
  /** Events the value was made from. */
  readonly volume: number;
  /** The window, ISO 8601. */
  readonly from: string;
  readonly to: string;
  /** Why it is so, in one sentence. */
  readonly because: string;
  readonly alert: SetAlert | null;
}

interface SetAlert {
  readonly phase: AlertRecord['phase'];
  /** Evaluation time of the first breach, ISO 8601. */
  readonly since: string;
  readonly incident: string | null;
  readonly muted: AlertRecord['muted'] | null;
  /** Rules whose alerts mute it. */
  readonly mutedBy: readonly string[];
  /** How it stands, in one sentence. */
  readonly text: string;
}

export interface RuleStatus {
  readonly id: string;
  readonly title: string;
  readonly priority: Priority;
  readonly group: string;
  readonly kind: RuleKind;
  /** Null of a rule that judges other rules. */
  readonly measure: string | null;
  readonly windowMs: number;
  /** That of its most urgent label set. */
  readonly state: RuleState;
  /** Label sets by state. */
  readonly counts: Readonly<Partial<Record<Observation['state'], number>>>;
  /** The most urgent ones first. */
  readonly sets: readonly SetStatus[];
  /** How many more there are. */
  readonly more: number;
  /** Said when there is no label set. */
  readonly note: string | null;
}

const URGENCY: readonly Observation['state'][] = ['breached', 'held', 'forgotten', 'clear', 'unknown'];

interface Case {
  readonly labels: Labels;
  readonly state: Observation['state'];
  readonly observation: Observation | undefined;
  readonly now: Now | undefined;
  readonly alert: AlertRecord | undefined;
}

/** @param max so many label sets at most */
export function explainRule(rule: Rule, state: TermState, max: number): RuleStatus {
  const { id, title, priority, group, kind, windowMs } = rule;
  const nows = rule.kind === 'late' ? [] : readNow(rule, state.rules, state);
  const cases = casesOf(rule, nows, state);
  const counts: Partial<Record<Observation['state'], number>> = {};
  for (const one of cases) counts[one.state] = (counts[one.state] ?? 0) + 1;
  const ranked = cases
    .map((one) => ({ one, rank: URGENCY.indexOf(one.state), near: nearness(rule, one.now) ?? -1 }))
    .sort((a, b) => a.rank - b.rank || b.near - a.near);
  return {
    ...{ id, title, priority, group, kind, measure: rule.kind === 'late' ? null : rule.measure, windowMs },
    state: ranked[0]?.one.state ?? 'silent',
    counts,
    sets: ranked.slice(0, max).map(({ one }) => setStatus(rule, one, state)),
    more: Math.max(0, ranked.length - max),
    note: cases.length > 0 ? null : noteOf(rule, nows, state),
  };
}

/** What was said of each label set, beside what is read of it. */
function casesOf(rule: Rule, nows: readonly Now[], { observations, alerts }: TermState): Case[] {
  const alertOf = new Map(alerts.map((alert) => [alert.key, alert]));
  const nowOf = new Map(nows.map((now) => [alertKey(rule.id, now.labels), now]));
  const cases = new Map<string, Case>();
  for (const observation of observations) {
    if (observation.ruleId !== rule.id) continue;
    const { labels, state } = observation;
    const key = alertKey(rule.id, labels);
    cases.set(key, { labels, state, observation, now: nowOf.get(key), alert: alertOf.get(key) });
  }
  for (const alert of alerts) {
    if (alert.ruleId !== rule.id || cases.has(alert.key)) continue;
    const { labels, key } = alert;
    cases.set(key, { labels, state: 'unknown', observation: undefined, now: nowOf.get(key), alert });
  }
  return [...cases.values()];
}

/** So that what will fire next stands first. */
function nearness(rule: Rule, now: Now | undefined): number | undefined {
  const { value, threshold } = now ?? {};
  // What is not judged now is near to nothing.
  if (now?.isSpokenFor === true || now?.gate?.isOpen === false) return undefined;
  if (value === undefined || threshold === undefined) return undefined;
  const upper = !('bound' in rule) || isUpper(rule.bound);
  const [part, whole] = upper ? [value, threshold] : [threshold, value];
  return whole > 0 ? Math.round((part / whole) * 1_000) / 1_000 : undefined;
}

function setStatus(rule: Rule, one: Case, state: TermState): SetStatus {
  const { labels, now, observation, alert } = one;
  // A breach may rest on the last complete buckets, and not on the present one.
  const { why } = observation ?? {};
  const unit = rule.kind === 'late' ? 'count' : rule.unit;
  const value = why?.value ?? now?.value;
  const threshold = why?.threshold ?? now?.threshold;
  const { evalMs } = state.times;
  const fromMs = why?.fromMs ?? now?.fromMs ?? evalMs - rule.windowMs;
  return {
    labels: Object.fromEntries(Object.entries(labels).map(([name, text]) => [name, text === OTHER ? '(other)' : text])),
    state: one.state,
    value: value ?? null,
    valueText: value === undefined ? null : formatValue(value, unit),
    threshold: threshold ?? null,
    thresholdText: threshold === undefined ? null : formatThreshold(threshold, unit),
    near: nearness(rule, now) ?? null,
    volume: why?.volume ?? now?.volume ?? 0,
    from: iso(fromMs),
    to: iso(why?.toMs ?? now?.toMs ?? evalMs),
    because: rule.kind === 'late' ? lateBecause(one) : because(rule, one, state),
    alert: alert === undefined ? null : alertOf(rule, alert, state),
  };
}

function lateBecause({ state }: Case): string {
  return state === 'breached' ? 'something would have fired, had it been known in time' : 'nothing is reported late';
}

function because(rule: MeasuredRule, one: Case, state: TermState): string {
  const { observation, now } = one;
  switch (one.state) {
    case 'breached':
      return breachedBecause(rule, one);
    case 'held':
      if (!isBehind(state.times)) {
        return `more than ${rule.maxAlerts} label sets are breached, and those with more events go first`;
      }
      return `logpipe is ${time(Math.max(0, state.times.wallMs - state.times.evalMs))} behind: until it has caught up nothing begins or ends`;
    case 'forgotten':
      return `silent for longer than the rule cares${'forgetAfterMs' in rule ? ` (${time(rule.forgetAfterMs ?? 0)})` : ''}`;
    case 'clear':
      return clearBecause(rule, observation, now);
    case 'unknown':
      return unknownBecause(rule, now, state);
  }
}

function breachedBecause(rule: MeasuredRule, { observation, now }: Case): string {
  const why = observation?.why;
  if (rule.kind === 'first-seen') return `it was first seen within the last ${time(rule.windowMs)}`;
  if (why === undefined) return `the condition holds`;
  const usual =
    now?.baseline === undefined
      ? ''
      : ` (${rule.kind === 'trend' ? 'it was' : 'usually'} ${formatValue(now.baseline, rule.unit)})`;
  const op = 'bound' in rule ? OPS[rule.bound.op] : rule.kind === 'trend' ? 'at least' : 'above';
  return `${why.valueText}${parts(now)} is ${op} ${why.thresholdText}${usual}`;
}

function clearBecause(rule: MeasuredRule, observation: Observation | undefined, now: Now | undefined): string {
  if (now?.isSpokenFor === true && rule.kind === 'low-volume')
    return `${rule.insteadOf} has enough events, and is judged instead`;
  if (now?.gate?.isOpen === false && rule.kind !== 'absence' && 'onlyWhile' in rule && rule.onlyWhile !== undefined) {
    return `it is not judged now: ${rule.onlyWhile.measure} does not say that it should be (only while)`;
  }
  if (rule.kind === 'first-seen') return 'it is new no more';
  const { value, threshold } = now ?? {};
  if (value === undefined || threshold === undefined) return 'the condition does not hold';
  const op = 'bound' in rule ? OPS[rule.bound.op] : rule.kind === 'trend' ? 'at least' : 'above';
  // What begins and ends within the present 10 s is judged when they are over.
  const isTrue = 'bound' in rule ? exceeds(value, rule.bound) : value > threshold;
  if (isTrue && 'againstOthers' in rule && rule.againstOthers !== undefined) {
    const bound = `${op} ${formatThreshold(threshold, rule.unit)}`;
    return `${formatValue(value, rule.unit)}${parts(now)} is ${bound}, but not ${rule.againstOthers} × that of all others together`;
  }
  const text =
    isTrue && observation?.nowText !== undefined
      ? observation.nowText
      : `${formatValue(value, rule.unit)}${parts(now)}`;
  return `${text} is not ${op} ${formatThreshold(threshold, rule.unit)}`;
}

function unknownBecause(rule: MeasuredRule, now: Now | undefined, { times }: TermState): string {
  if (times.evalMs === 0) return 'nothing was counted yet';
  if (now === undefined || (now.value === undefined && now.volume === 0)) {
    return `there is nothing of ${rule.measure} in the last ${time(rule.windowMs)}`;
  }
  if (rule.kind === 'spike' && now.threshold === undefined) {
    return `too little of the last ${time(rule.baselineMs)} is known to say what is usual`;
  }
  if (rule.kind === 'trend' && now.threshold === undefined) return 'too few hours of both times are known';
  if (now.volume < rule.minEvents) {
    const seen = now.volume === 1 ? '1 event' : `${now.volume} events`;
    return `${seen} in ${time(rule.windowMs)}, and with fewer than ${rule.minEvents} nothing is said`;
  }
  if (now.gate !== undefined && now.gate.value === undefined)
    return 'nothing is known of what it is judged by (only while)';
  return 'too little is known of the last complete 10 s';
}

/** " (37 of 1600)" */
function parts(now: Now | undefined): string {
  const { numerator, denominator } = now ?? {};
  return numerator === undefined || denominator === undefined || !Number.isInteger(numerator)
    ? ''
    : ` (${numerator} of ${denominator})`;
}

function alertOf(rule: Rule, alert: AlertRecord, { alerts, times }: TermState): SetAlert {
  const { phase, startedMs, incidentId, muted, clearSinceMs } = alert;
  const mutedBy = (muted === 'inhibited' ? alerts : [])
    .filter((other) => other.phase === 'firing' && rule.inhibitedBy.includes(other.ruleId))
    .filter((other) => agree(other.labels, alert.labels))
    .map(({ ruleId }) => ruleId);
  const lasted = (fromMs: number) => time(Math.max(0, Math.round((times.evalMs - fromMs) / 1_000) * 1_000));
  const text =
    phase === 'pending'
      ? `pending: it has held for ${lasted(startedMs)} of ${time(rule.forMs)}`
      : [
          `fires since ${iso(startedMs)}`,
          ...(clearSinceMs === undefined
            ? []
            : [`clear for ${lasted(clearSinceMs)} of the ${time(rule.keepFiringMs)} after which it ends`]),
          ...(muted === 'inhibited' ? [`muted while ${anyOf([...new Set(mutedBy)]) || 'another rule'} fires`] : []),
          ...(muted === 'silenced' ? ['silenced by hand'] : []),
        ].join('; ');
  return { phase, since: iso(startedMs), incident: incidentId ?? null, muted: muted ?? null, mutedBy, text };
}

function noteOf(rule: Rule, nows: readonly Now[], { times }: TermState): string {
  if (times.evalMs === 0) return 'nothing was counted yet';
  if (rule.kind === 'late') return 'nothing is reported late';
  if (rule.kind !== 'first-seen') return `nothing of ${rule.measure} has been seen`;
  const kinds = nows.length === 1 ? '1 label set' : `${nows.length} label sets`;
  return `${kinds} in the last ${time(rule.windowMs)}, and none of them is new, or it learns still`;
}

function iso(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? 'at an unknown time' : `${date.toISOString().slice(0, 19)}Z`;
}

// ---- all of it, as an instance serves it (http.ts) ----

export interface AlertingStatus {
  /** Up to when everything that arrived is counted, ISO 8601; null before anything was. */
  readonly evaluatedTo: string | null;
  readonly lagSeconds: number | null;
  /** So far behind the log that nothing begins or ends. */
  readonly behind: boolean;
  readonly firing: number;
  readonly pending: number;
  /** Firing ones first, the most urgent first; at most 50. */
  readonly alerts: readonly AlertStatus[];
  /** In the order of the file, each with its most urgent label set. */
  readonly rules: readonly RuleStatus[];
}

export interface AlertStatus {
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly labels: Labels;
  readonly phase: 'pending' | 'firing';
  readonly since: string;
  readonly muted: 'silenced' | 'inhibited' | null;
  readonly acknowledgedBy: string | null;
  readonly message: string;
}

/** One rule in full. */
export interface RuleExplanation extends RuleStatus {
  readonly meaning: readonly MeaningLine[];
}

/** What every rule reads now, GET /api/v1/rates. */
export interface Rates {
  /** As AlertingStatus. */
  readonly evaluatedTo: string | null;
  readonly behind: boolean;
  readonly rates: readonly RuleRates[];
}

/** One rule's measure over its window. */
interface RuleRates {
  readonly rule: string;
  readonly measure: string;
  readonly unit: Unit;
  readonly windowMs: number;
  /** One of each label set, the most urgent first; at least one, whose value is null when nothing is known. */
  readonly sets: readonly RateOfSet[];
  /** How many more there are. */
  readonly more: number;
}

interface RateOfSet extends Pick<SetStatus, 'labels' | 'value' | 'threshold' | 'volume' | 'from' | 'to'> {
  readonly state: RuleState;
}

/** What is said of the alerts where they are evaluated. */
export interface AlertingView {
  status(): AlertingStatus;
  rates(): Rates;
  /** Undefined: there is no such rule. */
  rule(id: string): RuleExplanation | undefined;
}

const MAX_ALERTS = 50;
const MAX_SETS = 50;
/** Longer ones are cut: a screen shows no more. */
const MAX_MESSAGE = 500;
/** Reading all rules costs as much as judging them: it is done at most so often, however many ask. */
const FRESH_MS = 500;

/** @param look undefined where alerts are not evaluated, or not yet */
export function createAlertingView(
  look: () => TermState | undefined,
  { clock, masker }: { readonly clock: Clock; readonly masker: Masker },
): () => AlertingView | undefined {
  let made: { readonly atMs: number; readonly status: AlertingStatus } | undefined;
  let rated: { readonly atMs: number; readonly rates: Rates } | undefined;
  return () => {
    const state = look();
    if (state === undefined) return undefined;
    return {
      status() {
        const atMs = clock.monotonicMs();
        if (made === undefined || atMs - made.atMs >= FRESH_MS) {
          made = { atMs, status: masker.value(alertingStatus(state)) as AlertingStatus };
        }
        return made.status;
      },
      rates() {
        const atMs = clock.monotonicMs();
        if (rated === undefined || atMs - rated.atMs >= FRESH_MS) {
          rated = { atMs, rates: masker.value(ratesOf(state)) as Rates };
        }
        return rated.rates;
      },
      rule(id) {
        const rule = state.rules.find((one) => one.id === id);
        if (rule === undefined) return undefined;
        const meaning = meaningOf(rule, state.store.measures);
        return masker.value({ ...explainRule(rule, state, MAX_SETS), meaning }) as RuleExplanation;
      },
    };
  };
}

function alertingStatus(state: TermState): AlertingStatus {
  const { evalMs, wallMs } = state.times;
  const known = evalMs > 0;
  const firing = state.alerts.filter(({ phase }) => phase === 'firing').sort(byUrgency);
  const pending = state.alerts.filter(({ phase }) => phase === 'pending').sort(byUrgency);
  const acknowledged = new Map(state.incidents.map(({ id, acknowledged }) => [id, acknowledged?.by]));
  return {
    evaluatedTo: known ? new Date(evalMs).toISOString() : null,
    lagSeconds: known ? Math.max(0, Math.round((wallMs - evalMs) / 100) / 10) : null,
    behind: known && isBehind(state.times),
    firing: firing.length,
    pending: pending.length,
    alerts: [...firing, ...pending].slice(0, MAX_ALERTS).map((alert) => ({
      rule: alert.ruleId,
      title: alert.title,
      priority: alert.priority,
      labels: alert.labels,
      phase: alert.phase,
      since: new Date(alert.startedMs).toISOString(),
      muted: alert.muted ?? null,
      acknowledgedBy: acknowledged.get(alert.incidentId ?? '') ?? null,
      message: alert.message.slice(0, MAX_MESSAGE),
    })),
    rules: state.rules.map((rule) => explainRule(rule, state, 1)),
  };
}

function ratesOf(state: TermState): Rates {
  const { evalMs } = state.times;
  const rates = state.rules.flatMap((rule): RuleRates[] => {
    if (rule.kind === 'late') return [];
    const { id, measure, unit, windowMs } = rule;
    const { sets, more } = explainRule(rule, state, MAX_SETS);
    const nothing: RateOfSet = {
      ...{ labels: {}, value: null, threshold: null, volume: 0 },
      ...{ from: iso(evalMs - windowMs), to: iso(evalMs), state: 'silent' },
    };
    const known = sets.map(
      ({ labels, value, threshold, volume, from, to, state }): RateOfSet => ({
        ...{ labels, value, threshold, volume },
        ...{ from, to, state },
      }),
    );
    return [{ rule: id, measure, unit, windowMs, sets: known.length === 0 ? [nothing] : known, more }];
  });
  return {
    evaluatedTo: evalMs > 0 ? new Date(evalMs).toISOString() : null,
    behind: evalMs > 0 && isBehind(state.times),
    rates,
  };
}
