// One incident with all that is known of it, GET /api/v1/incidents/ID. In: the alert state, and the windows of the term that evaluates here,
// where there is one. Out: the incident as the list shows it, its history in words, a chart of each alert's measure around its time, and a
// query line that finds the events behind it. Guarantee: only what the records say is said; a point that the windows do not reach is null;
// bounded to 200 lines and five charts of 120 points; masked; what an event says cannot change what the query line means.

import type { AlertDesk } from '../alerter/alert-desk.ts';
import type { TermState } from '../alerter/alerter.ts';
import type { Clock } from '../core/clock.ts';
import type { Condition, Scalar, Where } from '../core/condition.ts';
import { oneLine } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { alertKey, type IncidentRecord } from '../incidents/incident.ts';
import { durationText, isoTime, type NotifiedAlert } from '../incidents/notification.ts';
import type { Measure, MeasureReference, Measures } from '../measure/measure-config.ts';
import { BUCKET_MS, OTHER, OTHER_NAME } from '../measure/totals.ts';
import { isUpper, type MeasuredRule, type Rule } from '../rules/rule-types.ts';
import { formatThreshold } from '../rules/words.ts';
import type { Labels } from '../windows/series.ts';
import { FINE_MS } from '../windows/tables.ts';
import { readMeasure } from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';
import { alertsOf, incidentOf, incidentShown } from './alerts-api.ts';
import { type ApiPart, reply } from './guard.ts';
import { quoted } from './logs/query-line.ts';
import type { AlertChart, IncidentDetail } from './page-data.ts';

interface IncidentRoutesDeps {
  readonly clock: Clock;
  readonly masker: Masker;
  readonly desk: AlertDesk;
  /** Undefined where alerts are not evaluated, or not yet. */
  readonly look: () => TermState | undefined;
}

export function incidentRoutes({ clock, masker, desk, look }: IncidentRoutesDeps): ApiPart {
  return (app, { permit }) => {
    app.get('/api/v1/incidents/:id', async (c) => {
      permit(c.env.incoming, 'read');
      const { incidents, alerts } = await desk.state();
      const incident = incidentOf(c.req.param('id'), incidents);
      const nowMs = clock.now();
      const told = incidentAlerts(incident, alerts);
      const charted = told.slice(0, MAX_CHARTS);
      const state = look();
      const history = historyOf(incident, told, nowMs);
      const older = history.length - MAX_LINES;
      const detail: Omit<IncidentDetail, 'incident'> = {
        history: history.slice(-MAX_LINES),
        note: `${older > 0 ? `${older} older lines are left out. ` : ''}${NOTE}`,
        charts: charted.flatMap((alert) => chartOf(alert, state) ?? []),
        query: state === undefined ? null : queryOf(charted, state),
      };
      return reply(c, {
        incident: incidentShown(incident, alerts, { masker, nowMs }),
        ...(masker.value(detail) as object),
      });
    });
  };
}

// ---- its alerts: those that fire, the most urgent first, then those that have ended, the newest first ----

const MAX_CHARTS = 5;

function incidentAlerts(incident: IncidentRecord, alerts: Parameters<typeof alertsOf>[1]): NotifiedAlert[] {
  const firing = alertsOf(incident, alerts).map((alert): NotifiedAlert => ({ ...alert, state: 'firing' }));
  const ended = [...incident.ended].sort((one, other) => endOf(other) - endOf(one));
  return [...firing, ...ended];
}

function endOf({ startedMs, resolvedMs }: NotifiedAlert): number {
  return resolvedMs ?? startedMs;
}

// ---- what was decided and done ----

const MAX_TEXT = 500;
/** An alert with a thousand label sets has as many beginnings. */
const MAX_LINES = 200;
const NOTE =
  'Of messages, acknowledgements and escalations the last one is known. With Elasticsearch, logpipe-alerts-* has all of them.';

function historyOf(
  incident: IncidentRecord,
  alerts: readonly NotifiedAlert[],
  nowMs: number,
): IncidentDetail['history'] {
  const { openedMs, told, channels, escalation, acknowledged, quiet, missed, heldFromMs, answerBy } = incident;
  const lines: { readonly atMs: number; readonly text: string }[] = [];
  const add = (atMs: number | undefined, text: string) => {
    if (atMs !== undefined && Number.isFinite(atMs)) lines.push({ atMs, text: oneLine(text, MAX_TEXT) });
  };
  for (const alert of alerts) {
    const { title, priority, labels, startedMs, resolvedMs, message } = alert;
    const name = `${priority} ${title}${labelsText(labels)}`;
    add(startedMs, `${name} began: ${message}`);
    if (alert.state === 'resolved') add(resolvedMs, `${name} ended`);
  }
  add(openedMs, `The incident was opened${incident.team === undefined ? '' : ` for the team ${incident.team}`}`);
  if (told !== undefined) add(told.atMs, `People were told last: ${told.priority} ${told.title}`);
  add(heldFromMs, 'A message was held until business hours');
  for (const [name, channel] of Object.entries(channels)) {
    const { triggeredMs, resolvedMs, deliveredMs, perhapsMs, failed } = channel;
    if (failed !== undefined) add(triggeredMs, `${name} did not take the message: ${failed}`);
    else if (deliveredMs === undefined && perhapsMs === undefined)
      add(triggeredMs, `A message for ${name} was decided on, and waits`);
    add(deliveredMs, `${name} took a message`);
    if (deliveredMs === undefined) add(perhapsMs, `${name} may have taken a message: its answer proves nothing`);
    add(resolvedMs, `The end was sent to ${name}`);
  }
  if (escalation !== undefined && escalation.level > 0) {
    const waited = durationText(Math.max(0, escalation.atMs - escalation.sinceMs));
    const whom = escalation.level === 1 ? 'the secondary was told as well' : 'both were told again';
    add(escalation.atMs, `Nobody had acknowledged it for ${waited}: ${whom}`);
  }
  if (acknowledged !== undefined)
    add(acknowledged.atMs, `Acknowledged by ${acknowledged.by}${viaText(acknowledged.via)}`);
  if (quiet !== undefined) {
    add(quiet.fromMs, `Resolved by hand by ${quiet.by} while it was true: quiet until ${isoTime(quiet.untilMs)}`);
  }
  if (missed !== undefined) add(missed.atMs, `Nobody had answered the ${missed.priority} in time`);
  if (answerBy !== undefined && answerBy.atMs <= nowMs) add(answerBy.atMs, 'The time to answer was over');
  if (incident.reopened > 0) {
    // When is not kept: not before its first alert that is still known.
    const times = incident.reopened === 1 ? 'once' : `${incident.reopened} times`;
    add(told?.atMs ?? openedMs, `It had begun again ${times} by now`);
  }
  add(incident.resolvedMs, 'The incident was resolved: none of its alerts fires any more');
  return lines.sort((one, other) => one.atMs - other.atMs).map(({ atMs, text }) => ({ at: isoTime(atMs), text }));
}

function viaText(via: string | undefined): string {
  return via === undefined ? '' : ` (${via})`;
}

function labelsText(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}=${value === OTHER ? OTHER_NAME : value}`);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

// ---- a chart of the measure, around the time of the alert ----

const MAX_POINTS = 120;
const BEFORE_MS = 15 * 60_000;
const AFTER_MS = 5 * 60_000;
/** A window longer than this does not show when something began. */
const MAX_WINDOW_MS = 10 * 60_000;
const ABSENCE_WINDOW_MS = 60_000;

/** Undefined: the rule judges no measure. */
function chartOf(alert: NotifiedAlert, state: TermState | undefined): AlertChart | undefined {
  const { ruleId, labels, startedMs, resolvedMs, why } = alert;
  const rule = state?.rules.find(({ id }) => id === ruleId);
  const name = measureOf(rule, why?.measure, state?.store.measures);
  if (name === undefined) return undefined;
  const about = {
    ...{ alert: alertKey(ruleId, labels), rule: ruleId, measure: name },
    labels: Object.fromEntries(
      Object.entries(labels).map(([key, value]) => [key, value === OTHER ? OTHER_NAME : value]),
    ),
    ...{ threshold: why?.threshold ?? null, thresholdText: why?.thresholdText ?? null },
    firedAt: isoTime(startedMs),
    resolvedAt: resolvedMs === undefined ? null : isoTime(resolvedMs),
  };
  const measure = state?.store.measures.get(name);
  if (state === undefined || measure === undefined) {
    const note =
      state === undefined
        ? 'the alerts are not evaluated here; the process with the role alerter has the chart'
        : `measures.yml no longer has ${name}`;
    return {
      ...about,
      unit: measure?.unit ?? 'count',
      from: isoTime(startedMs),
      step: BUCKET_MS / 1_000,
      points: [],
      note,
    };
  }
  const bound = rule !== undefined && 'bound' in rule ? rule.bound.value : undefined;
  const known = chartPoints({ alert, measure, rule: rule?.kind === 'late' ? undefined : rule }, state);
  const isOwn = known.measure.name === name;
  // What an absence waits for has another unit than its threshold.
  const threshold = isOwn ? (about.threshold ?? bound ?? null) : null;
  return {
    ...about,
    measure: known.measure.name,
    unit: known.measure.unit,
    threshold,
    thresholdText: threshold === null ? null : formatThreshold(threshold, known.measure.unit),
    ...{ from: isoTime(known.fromMs), step: known.stepMs / 1_000, points: known.points, note: known.note },
  };
}

/** That it was judged by, which may be the rule's second choice. */
function measureOf(
  rule: Rule | undefined,
  judged: string | undefined,
  measures: Measures | undefined,
): string | undefined {
  if (judged !== undefined && (measures === undefined || measures.has(judged))) return judged;
  return rule === undefined || rule.kind === 'late' ? judged : rule.measure;
}

interface Charted {
  readonly measure: Measure;
  readonly fromMs: number;
  readonly stepMs: number;
  readonly points: readonly (number | null)[];
  readonly note: string | null;
}

function chartPoints(
  { alert, measure, rule }: { alert: NotifiedAlert; measure: Measure; rule: MeasuredRule | undefined },
  { store, times }: TermState,
): Charted {
  const notes: string[] = [];
  const wanted = rule?.windowMs ?? alert.why?.windowMs ?? MAX_WINDOW_MS;
  const isAbsence = measure.kind === 'absence';
  // How long nothing came is known of the present only; what did come is known of the past, too.
  const shownMeasure = isAbsence ? (store.measures.get(measure.of.of) ?? measure) : measure;
  const windowMs = isAbsence ? ABSENCE_WINDOW_MS : Math.min(wanted, MAX_WINDOW_MS);
  if (isAbsence) notes.push('events per minute');
  else if (windowMs !== wanted) notes.push(`over ${durationText(windowMs)}; the rule looks at ${durationText(wanted)}`);
  const nowMs = Math.max(times.evalMs, BUCKET_MS);
  const endMs = Math.min(ceil(nowMs), ceil((alert.resolvedMs ?? nowMs) + AFTER_MS));
  const oldestMs = ceil(oldestOf(store, shownMeasure, windowMs, nowMs));
  const askedMs = floor(alert.startedMs - BEFORE_MS);
  const beginMs = Math.max(askedMs, oldestMs);
  if (beginMs > askedMs) notes.push(`nothing is known from before ${isoTime(beginMs)}`);
  const stepMs = Math.max(1, Math.ceil((endMs - beginMs) / BUCKET_MS / MAX_POINTS)) * BUCKET_MS;
  const where = whereOf(isAbsence ? measure.of.where : {}, rule, alert.labels);
  const over = rule !== undefined && 'over' in rule && rule.over !== 'newest' ? { over: rule.over } : {};
  const pick = rule !== undefined && 'bound' in rule && !isUpper(rule.bound) ? ({ pick: 'lowest' } as const) : {};
  const points: (number | null)[] = [];
  for (let atMs = beginMs; atMs <= endMs && points.length < MAX_POINTS; atMs += stepMs) {
    const query = { fromMs: atMs - windowMs, toMs: atMs, nowMs: atMs, where, ...over, ...pick };
    const [reading] = readMeasure(store, shownMeasure.name, query);
    points.push(reading?.value ?? null);
  }
  return { measure: shownMeasure, fromMs: beginMs, stepMs, points, note: notes.length === 0 ? null : notes.join('; ') };
}

/** The first point: of what is no longer held whole windows, and of what was just begun all that rules have gone by. */
function oldestOf(store: WindowStore, { kind }: Measure, windowMs: number, nowMs: number): number {
  const reachMs = kind === 'percentile' ? store.binsMs : FINE_MS;
  return Math.max(nowMs - reachMs + windowMs, (store.sinceMs() ?? nowMs) + BUCKET_MS);
}

function whereOf(reference: Where, rule: MeasuredRule | undefined, labels: Labels): Where {
  return { ...reference, ...rule?.where, ...labels };
}

function floor(ms: number): number {
  return Math.floor(ms / BUCKET_MS) * BUCKET_MS;
}

function ceil(ms: number): number {
  return Math.ceil(ms / BUCKET_MS) * BUCKET_MS;
}

// ---- the events behind it, as a line of Kibana's query language ----
// https://www.elastic.co/guide/en/kibana/current/kuery-query.html. Values are quoted, so that nothing in them is syntax.

/** Of the first alert that comes from events; null: none does. */
function queryOf(alerts: readonly NotifiedAlert[], state: TermState): string | null {
  for (const alert of alerts) {
    const rule = state.rules.find(({ id }) => id === alert.ruleId);
    if (rule?.kind === 'late') continue;
    const name = measureOf(rule, alert.why?.measure, state.store.measures);
    const measure = name === undefined ? undefined : state.store.measures.get(name);
    const parts = measure === undefined ? undefined : eventsBehind(measure, rule, alert, state.store.measures);
    if (parts !== undefined && parts.length > 0) return parts.join(' and ');
  }
  return null;
}

/** Undefined: logpipe measures it itself, and there are no events of it. */
function eventsBehind(
  measure: Measure,
  rule: MeasuredRule | undefined,
  { labels, why }: NotifiedAlert,
  measures: Measures,
): string[] | undefined {
  const isLow = rule !== undefined && 'bound' in rule && !isUpper(rule.bound);
  const { of, where, not } = behind(measure, isLow);
  const collected = measures.get(of);
  if (collected === undefined || !('where' in collected)) return undefined;
  if (collected.kind === 'gauge' && collected.internal) return undefined;
  const own = Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== OTHER));
  const parts = [...queryParts(collected.where), ...queryParts(whereOf(where, rule, own))];
  const without = queryParts(not);
  if (without.length > 0) parts.push(`not ${without.length === 1 ? without[0] : `(${without.join(' and ')})`}`);
  const threshold = why?.threshold ?? (rule !== undefined && 'bound' in rule ? rule.bound.value : undefined);
  // Of a mean or a percentile, the values beyond the threshold are the ones to look at.
  const isValue = measure.kind === 'percentile' || measure.kind === 'mean' || measure.kind === 'gauge';
  if ('field' in collected && isValue && threshold !== undefined && Number.isFinite(threshold)) {
    parts.push(`${collected.field} ${isLow ? '<' : '>='} ${threshold}`);
  }
  return [...new Set(parts)];
}

/** What made the value bad: of a ratio that is too low, whatever is not in its numerator. */
function behind(measure: Measure, isLow: boolean): MeasureReference & { readonly not: Where } {
  if (measure.kind !== 'ratio') return { ...('of' in measure ? measure.of : { of: measure.name, where: {} }), not: {} };
  const { numerator, denominator } = measure;
  if (!isLow) return { ...numerator, not: {} };
  return { ...denominator, not: numerator.of === denominator.of ? numerator.where : {} };
}

function queryParts(where: Where): string[] {
  return Object.entries(where).flatMap(([path, condition]) => conditionParts(path, condition));
}

function conditionParts(path: string, condition: Condition): string[] {
  if (typeof condition !== 'object') return [`${path}: ${valueText(condition)}`];
  if (isList(condition)) return [`${path}: ${anyOf(condition)}`];
  const { gt, gte, lt, lte, exists, not } = condition;
  return [
    ...(gt === undefined ? [] : [`${path} > ${gt}`]),
    ...(gte === undefined ? [] : [`${path} >= ${gte}`]),
    ...(lt === undefined ? [] : [`${path} < ${lt}`]),
    ...(lte === undefined ? [] : [`${path} <= ${lte}`]),
    ...(exists === undefined ? [] : [exists ? `${path}: *` : `not ${path}: *`]),
    ...(not === undefined ? [] : [`not ${path}: ${typeof not === 'object' ? anyOf(not) : valueText(not)}`]),
  ];
}

function isList(condition: Condition): condition is readonly Scalar[] {
  return Array.isArray(condition);
}

function anyOf(values: readonly Scalar[]): string {
  return values.length === 1 ? valueText(values[0]!) : `(${values.map(valueText).join(' or ')})`;
}

/** Words of the language itself, whatever their case. */
const KEYWORDS = /^(?:and|or|not|true|false|null)$/i;

function valueText(value: Scalar): string {
  if (typeof value !== 'string') return String(value);
  if (/^[A-Za-z][\w-]{0,63}$/.test(value) && !KEYWORDS.test(value)) return value;
  return quoted(value);
}
