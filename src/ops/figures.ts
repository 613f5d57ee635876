// What the page shows first: seven figures, each with its target and the thresholds of the rules in force, their last hour, the flow, and how
// many alerts there are. In: the windows, rules and alerts of the term that evaluates here, where there is one, and this process's counters.
// Out: one tick a second for `/api/v1/live`, and the history for `/api/v1/figures`. Guarantee: what is not known is null and says why, never
// 0; a value is the one that a rule would read at that moment; reading changes nothing; a tick reads the present only, and the past is read
// once, in slices of a few ms, and kept.
import type { Term, TermState } from '../alerter/alerter.ts';
import type { Clock } from '../core/clock.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { type AlertRecord, type IncidentRecord, inForce } from '../incidents/incident.ts';
import { isoTime } from '../incidents/notification.ts';
import type { Unit } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import type { Rules } from '../rules/rule-config.ts';
import { exceeds, isUpper, type ThresholdRule } from '../rules/rule-types.ts';
import { formatThreshold, formatValue } from '../rules/words.ts';
import { type Query, readMeasure, windowTo } from '../windows/values.ts';
import { isBehind, type WindowStore } from '../windows/windows.ts';
import { statusOf } from './alerts-api.ts';
import { countOf, createMeter, flowOf, grouped, type Meter, type Sample, type StageLogs } from './flow.ts';
import { type ApiPart, reply } from './guard.ts';
import type { Readiness } from './http.ts';
import type { AlertSpan, AlertsNow, Figure, FigureHistory, FigureId, ThresholdLine, Tick } from './page-data.ts';
import { Refusal, shown } from './requests.ts';

// ---- what is shown: targets as the operators' guide has them; alert thresholds are those of the rules ----

interface Definition {
  readonly id: FigureId;
  readonly label: string;
  /** Of windows; without one, it is known from this process's counters. */
  readonly measure?: string;
  readonly unit: Unit;
  readonly target?: { readonly op: 'below' | 'above'; readonly value: number };
  /** One value for each of these, of which the worst is judged by rules with that label. */
  readonly by?: string;
  /** Alerts on these measures are marked in its chart, beside those on its own. */
  readonly marks: readonly string[];
}

const DEFINITIONS: readonly Definition[] = [
  { id: 'events', label: 'Events per second', unit: 'per-second', marks: ['log.silence', 'log.events'] },
  {
    ...{ id: 'errors', label: 'Error rate', measure: 'log.error_ratio', unit: 'ratio' },
    target: { op: 'below', value: 0.01 },
    // What fails is logged as an error.
    marks: ['log.errors', 'log.error_rate', 'error.templates', 'http.error_ratio', 'call.failure_ratio'],
  },
  {
    ...{ id: 'p95', label: 'Response time, p95', measure: 'http.p95', unit: 'ms' },
    target: { op: 'below', value: 200 },
    marks: ['http.duration'],
  },
  {
    ...{ id: 'calls', label: 'Call success', measure: 'call.success_ratio', unit: 'ratio' },
    target: { op: 'above', value: 0.7 },
    marks: ['call.retry_success_ratio', 'call.silence'],
  },
  {
    ...{ id: 'queues', label: 'Queue size', measure: 'queue.size', unit: 'count', by: 'queue.name' },
    target: { op: 'below', value: 100 },
    marks: ['queue.rate', 'queue.wait', 'queue.wait_p95'],
  },
  {
    ...{ id: 'lag', label: 'Lag', unit: 'count', by: 'group' },
    marks: ['kafka.lag', 'logpipe.lag_seconds', 'logpipe.stalled_seconds'],
  },
  {
    ...{ id: 'deadLetters', label: 'Dead letters per minute', unit: 'per-minute' },
    marks: ['logpipe.dead_letter_ratio', 'logpipe.dropped'],
  },
];

/** As the alerts on the error rate. */
const WINDOW_MS = 300_000;
/** A ratio of fewer events is chance: rules say nothing then either, unless they say so (`minEvents`). */
const FEW = 20;
const LAG = 'kafka.lag';
const EVENTS = 'log.events';

// ---- the parts ----

export interface FiguresDeps {
  readonly version: string;
  readonly roles: readonly string[];
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  /** Monotonic. */
  readonly startedMs: number;
  readonly environment: string;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly masker: Masker;
  readonly readiness: () => readonly Readiness[];
  readonly lastError: StageLogs['lastError'];
  /** Undefined where alerts are not evaluated, or not yet. */
  readonly term: () => Pick<Term, 'look' | 'now' | 'waiting'> | undefined;
}

export interface Figures {
  readonly tick: () => Tick;
  /** @throws Refusal 400 */
  history(from: string | undefined, to: string | undefined): Promise<FigureHistory>;
  close(): void;
}

/** From the first page on, counters are looked at every 10 s. */
export function createFigures(deps: FiguresDeps): Figures {
  const { clock, metrics, term, roles } = deps;
  const meter = createMeter(metrics, clock);
  const past = createPast({ ...deps, meter });
  const revision = createRevision(deps);
  return {
    tick() {
      past.begin();
      void meter.take();
      const present = term();
      const state = present?.look();
      const firing = state === undefined ? new Set() : firingFigures(state);
      const dependencies = deps.readiness();
      const known = state !== undefined && state.times.evalMs > 0;
      const { version, source, lastError } = deps;
      return {
        at: isoTime(clock.now()),
        ...{ version, roles },
        uptimeSeconds: Math.round((clock.monotonicMs() - deps.startedMs) / 1_000),
        ready: dependencies.every(({ ready }) => ready),
        figures: DEFINITIONS.map((definition) =>
          figureOf(definition, state, firing.has(definition.id), { ...deps, meter }),
        ),
        flow: flowOf({
          ...{ roles, source, dependencies, lastError, meter },
          evaluationLagMs: known ? Math.max(0, state.times.wallMs - state.times.evalMs) : undefined,
          isBehind: known && isBehind(state.times),
          waiting: present?.waiting(),
        }),
        alerts: state === undefined ? null : alertsNow(state, clock.now(), revision(state)),
      };
    },
    history: past.history,
    close: past.close,
  };
}

export function figureRoutes({ history }: Pick<Figures, 'history'>): ApiPart {
  return (app, { permit }) => {
    app.get('/api/v1/figures', async (c) => {
      permit(c.env.incoming, 'read');
      return reply(c, await history(c.req.query('from'), c.req.query('to')));
    });
  };
}

// ---- one figure, now ----

interface Known {
  readonly value: number;
  /** What rules with the figure's label would judge: the worst. */
  readonly worst: number;
  /** Events it was made from. */
  readonly volume: number;
}

type Source = Pick<FiguresDeps, 'roles' | 'source'> & { readonly meter: Meter };

function figureOf(definition: Definition, state: TermState | undefined, isFiring: boolean, source: Source): Figure {
  const { id, label, target } = definition;
  const rules = state === undefined ? [] : boundsOf(definition, state.rules);
  const known = nowOf(definition, state, source);
  const about = {
    ...{ id, label, target: target === undefined ? null : targetText(definition) },
    threshold: thresholdText(definition, rules),
  };
  if (typeof known === 'string') {
    return { ...about, value: null, text: '–', state: isFiring ? 'bad' : 'unknown', note: known };
  }
  const { value } = known;
  return {
    ...about,
    ...{ value, text: textOf(definition, value, source.meter) },
    ...judged(definition, known, rules, isFiring),
  };
}

function judged(
  definition: Definition,
  { value, worst, volume }: Known,
  rules: readonly ThresholdRule[],
  isFiring: boolean,
): Pick<Figure, 'state' | 'note'> {
  const { target, by } = definition;
  const isOver = rules.some(
    (rule) => volume >= rule.minEvents && exceeds(by === undefined ? value : worst, rule.bound),
  );
  if (isFiring || isOver) return { state: 'bad', note: null };
  const counts = definition.measure !== undefined && by === undefined;
  if (counts && volume < FEW) {
    return { state: 'unknown', note: `of only ${countOf(volume, 'event')} in 5 min` };
  }
  if (target !== undefined) {
    return {
      state: (target.op === 'below' ? value < target.value : value > target.value) ? 'good' : 'warn',
      note: null,
    };
  }
  return { state: definition.id === 'deadLetters' && value > 0 ? 'warn' : 'good', note: null };
}

/** @returns a text when there is none: why */
function nowOf(definition: Definition, state: TermState | undefined, source: Source): Known | string {
  const { roles, meter } = source;
  const isRead = roles.includes('indexer') || roles.includes('counter');
  switch (definition.id) {
    case 'events': {
      if (isRead) return counted(meter.perSecond(roles.includes('indexer') ? 'consumed' : 'counted'));
      const lastMs = 60_000;
      const known = measured(definition, state, roles, { measure: EVENTS, windowMs: lastMs });
      return typeof known === 'string' ? known : counted((known.value * 1_000) / lastMs);
    }
    case 'lag': {
      if (source.source !== 'kafka') return 'without Kafka nothing waits in a log';
      const lag = meter.newest()?.lag;
      if (lag !== undefined) return counted(lag);
      const measure = { measure: LAG, windowMs: WINDOW_MS };
      return isRead && state === undefined ? NOT_YET : measured(definition, state, roles, measure, 'worst');
    }
    case 'deadLetters':
      if (!roles.includes('indexer')) return 'no log is indexed here; the process with the role indexer knows it';
      return counted(meter.inLastMinute('deadLettered'));
    default:
      return measured(definition, state, roles, { measure: definition.measure!, windowMs: WINDOW_MS });
  }
}

const NOT_YET = 'it is known in a few seconds';

function counted(value: number | null): Known | string {
  return value === null ? NOT_YET : { value, worst: value, volume: Number.POSITIVE_INFINITY };
}

function measured(
  { by }: Definition,
  state: TermState | undefined,
  roles: readonly string[],
  { measure, windowMs }: { readonly measure: string; readonly windowMs: number },
  show: 'sum' | 'worst' = 'sum',
): Known | string {
  if (state === undefined) {
    return roles.includes('alerter')
      ? 'the alerts are not evaluated here now: another instance does, or it begins in a moment'
      : 'the alerts are not evaluated here; the process with the role alerter knows it';
  }
  const { store, times } = state;
  if (!store.measures.has(measure)) return `measures.yml has no ${measure}`;
  if (times.evalMs === 0 && measure !== LAG) return 'nothing was counted yet';
  // What logpipe reads itself does not come by the log, and goes by the wall clock.
  const nowMs = measure === LAG ? times.wallMs : times.evalMs;
  const known = readAt(store, { measure, by }, { ...windowTo(nowMs, windowMs), nowMs }, show);
  return known ?? `there is nothing of ${measure} in the last ${windowMs / 60_000} min`;
}

/** The measure over a window, or the sum over its sets; undefined: nothing is known. */
function readAt(
  store: WindowStore,
  { measure, by }: { readonly measure: string; readonly by: string | undefined },
  query: Query,
  show: 'sum' | 'worst' = 'sum',
): Known | undefined {
  const readings = readMeasure(store, measure, by === undefined ? query : { ...query, by: namesOf(by) });
  const values = readings.flatMap(({ value }) => value ?? []);
  if (values.length === 0) return undefined;
  const worst = Math.max(...values);
  const sum = values.reduce((total, value) => total + value, 0);
  return { value: show === 'sum' ? sum : worst, worst, volume: readings.reduce((n, { volume }) => n + volume, 0) };
}

/** The same list for the same label: selections of series are kept by it. */
const NAMES: Readonly<Record<string, readonly string[]>> = { 'queue.name': ['queue.name'], group: ['group'] };

function namesOf(by: string): readonly string[] {
  return NAMES[by] ?? [by];
}

// ---- targets and thresholds ----

/** The rules that compare the figure with a bound, the mildest bound first. Rules about a part of it are not about the figure. */
function boundsOf({ id, measure, by }: Definition, rules: Rules): ThresholdRule[] {
  const own = id === 'lag' ? LAG : measure;
  return rules
    .filter(
      (rule): rule is ThresholdRule => rule.kind === 'threshold' || rule.kind === 'ratio' || rule.kind === 'percentile',
    )
    .filter(({ measure: of, where, labels, againstOthers, onlyWhile }) => {
      const isWhole = labels.length === 0 || (labels.length === 1 && labels[0] === by);
      return of === own && isWhole && Object.keys(where).length === 0 && (againstOthers ?? onlyWhile) === undefined;
    })
    .sort(({ bound: one }, { bound: other }) => (isUpper(one) ? one.value - other.value : other.value - one.value));
}

const OPS = { above: 'above', below: 'below', atLeast: 'at least', atMost: 'at most' } as const;

/** Two or more thresholds are told apart by their priority. */
function thresholdText({ unit, by }: Definition, rules: readonly ThresholdRule[]): string | null {
  if (rules.length === 0) return null;
  const texts = rules.map(({ bound, priority }) => {
    const text = `${OPS[bound.op]} ${formatThreshold(bound.value, unit)}`;
    return rules.length === 1 ? text : `${text} (${priority})`;
  });
  const one = by === undefined || rules.every(({ labels }) => labels.length === 0) ? '' : ` in one ${by.split('.')[0]}`;
  return `alert ${[...new Set(texts)].join(', ')}${one}`;
}

function targetText({ target, unit }: Definition): string | null {
  return target === undefined ? null : `${target.op} ${formatThreshold(target.value, unit)}`;
}

function textOf({ id, unit }: Definition, value: number, meter: Meter): string {
  switch (id) {
    case 'events':
      return value >= 10 ? `${grouped(value)}/s` : formatThreshold(value, unit);
    case 'queues':
      return grouped(value);
    case 'lag':
      return countOf(value, 'record');
    case 'deadLetters':
      return `${grouped(value)}/min, ${grouped(meter.newest()?.deadLettered ?? 0)} since the start`;
    case 'p95':
      return formatValue(Math.round(value), unit);
    default:
      return formatValue(value, unit);
  }
}

/** Those that an alert is about; it may be about a part that the figure does not show apart. */
function firingFigures({ alerts, rules }: TermState): Set<FigureId> {
  const firing = alerts.filter(({ phase, priority }) => phase === 'firing' && priority !== 'P4');
  const ids = new Set(firing.map(({ ruleId }) => ruleId));
  return new Set(rules.filter(({ id }) => ids.has(id)).flatMap((rule) => figureOfRule(rule)?.id ?? []));
}

/** In whose chart the alerts of a rule are marked. */
function figureOfRule(rule: Rules[number] | undefined): Definition | undefined {
  if (rule === undefined || rule.kind === 'late') return undefined;
  return DEFINITIONS.find(({ measure, marks }) => measure === rule.measure || marks.includes(rule.measure));
}

// ---- alerts in numbers ----

function alertsNow({ alerts, incidents }: TermState, nowMs: number, revision: string): AlertsNow {
  const open = incidents.filter(({ state }) => state === 'open').map((incident) => statusOf(incident, nowMs));
  return {
    firing: open.filter((status) => status === 'firing').length,
    pending: alerts.filter(({ phase }) => phase === 'pending').length,
    acknowledged: open.filter((status) => status === 'acknowledged').length,
    revision,
  };
}

/** Records are replaced, never altered: whether anything has changed is a comparison of references. */
function createRevision({
  clock,
  environment,
}: Pick<FiguresDeps, 'clock' | 'environment'>): (state: TermState) => string {
  // Another process, or this one after a restart, counts from the beginning.
  const begun = clock.now().toString(36);
  let before: readonly unknown[] = [];
  let n = 0;
  return ({ alerts, incidents, silences }) => {
    const nowMs = clock.now();
    // By time alone a quiet incident fires again, and a silence begins or ends.
    const quiet = incidents.filter(({ quiet }) => quiet !== undefined && quiet.untilMs > nowMs).length;
    const present = [...alerts, ...incidents, ...silences, quiet, inForce(silences, { nowMs, environment }).length];
    if (present.length !== before.length || present.some((one, i) => one !== before[i])) n += 1;
    before = present;
    return `${begun}-${n}`;
  };
}

// ---- the past ----

/** As many points as the page draws, 10 s each: an hour. */
const POINTS = 360;
const HOUR_MS = POINTS * BUCKET_MS;
/** Older: sums of 5 min, for a day. */
const COARSE_STEP_MS = 300_000;
const DAY_MS = 86_400_000;
/** A little more than a page asks for. */
const KEPT = POINTS + 30;
/** Reading the past must not hold up the present. */
const SLICE_MS = 4;
/** What arrived late may still change these. */
const AGAIN = 3;
const MAX_SPANS = 200;

interface Past extends Pick<Figures, 'history' | 'close'> {
  /** From now on counters are looked at; before the first page nobody needs them. */
  begin(): void;
}

function createPast(deps: FiguresDeps & { readonly meter: Meter }): Past {
  const { clock, term, roles, meter, masker } = deps;
  const points = new Map<FigureId, Points>(DEFINITIONS.map(({ id }) => [id, createPoints()]));
  let begunMs: number | undefined;
  /** Up to which slot the windows were read. */
  let readTo: number | undefined;
  let filling: Promise<void> = Promise.resolve();
  let reading: Promise<unknown> = Promise.resolve();
  let last: { readonly slot: number; readonly sample: Sample } | undefined;
  const isIndexer = roles.includes('indexer');
  const isRead = isIndexer || roles.includes('counter');
  let closed = false;

  /** Its own clock is another one than the brokers'. */
  const nowMs = () => term()?.now() ?? clock.now();

  /** The windows' figures that are not kept yet, the oldest first. */
  async function fill(): Promise<void> {
    const state = term()?.look();
    if (state === undefined || state.times.evalMs === 0) return;
    const { store, times } = state;
    const end = slotOf(times.completeMs);
    if (end === readTo) return;
    const begin = Math.max(end - POINTS, readTo === undefined ? 0 : Math.min(readTo, end) - AGAIN);
    const pause = createPause(clock);
    for (let slot = begin; slot < end && !closed; slot++) {
      await pause();
      for (const definition of DEFINITIONS) {
        const value = pastValue(definition, store, slot * BUCKET_MS + BUCKET_MS, BUCKET_MS, times.evalMs);
        if (value !== undefined) points.get(definition.id)!.set(slot, value);
      }
    }
    readTo = end;
  }

  /** What only this process's counters know, of the 10 s that are just over. */
  async function look(): Promise<void> {
    const slot = slotOf(nowMs()) - 1;
    await meter.take();
    const sample = meter.newest();
    if (sample === undefined || closed || slot === last?.slot) return;
    if (last !== undefined && sample.atMs > last.sample.atMs) {
      const { sample: before } = last;
      const per = (what: 'consumed' | 'counted' | 'deadLettered', ms: number) =>
        ((sample[what] - before[what]) * ms) / (sample.atMs - before.atMs);
      // Where there are windows, they know the whole platform's events, and those of before this process began.
      if (isRead && term() === undefined)
        points.get('events')!.set(slot, per(isIndexer ? 'consumed' : 'counted', 1_000));
      if (isIndexer) points.get('deadLetters')!.set(slot, per('deadLettered', 60_000));
    }
    if (deps.source === 'kafka' && sample.lag !== undefined) points.get('lag')!.set(slot, sample.lag);
    last = { slot, sample };
  }

  /** One after the other; a failure is told to whoever waits, and not to those after. */
  function catchUp(first?: Promise<void>): Promise<void> {
    filling = Promise.all([filling.catch(() => {}), first]).then(fill);
    filling.catch(() => {});
    return filling;
  }

  function round(): void {
    catchUp(look());
    cancel = clock.after(toNextSlot(nowMs()), round);
  }
  let cancel = () => {};
  function begin(): void {
    if (begunMs !== undefined || closed) return;
    begunMs = nowMs();
    round();
  }

  /** Each has a slice of its own, so that many at once would hold up the present after all. */
  function inTurn<T>(read: () => Promise<T>): Promise<T> {
    const mine = reading.then(read);
    reading = mine.catch(() => {});
    return mine;
  }

  async function fine(fromMs: number, toMs: number): Promise<FigureHistory['series']> {
    await catchUp();
    const [first, end] = [slotOf(fromMs), slotOf(toMs)];
    return Object.fromEntries(
      DEFINITIONS.map(({ id }) => {
        const kept = points.get(id)!;
        return [id, Array.from({ length: end - first }, (_, i) => kept.get(first + i) ?? null)];
      }),
    );
  }

  async function coarse(fromMs: number, toMs: number): Promise<FigureHistory['series']> {
    const state = term()?.look();
    const steps = Array.from({ length: (toMs - fromMs) / COARSE_STEP_MS }, (_, i) => fromMs + (i + 1) * COARSE_STEP_MS);
    const series: Partial<Record<FigureId, (number | null)[]>> = {};
    if (state === undefined) return series;
    const pause = createPause(clock);
    for (const definition of DEFINITIONS) {
      // Histograms and readings do not reach further back than the fine points.
      if (definition.unit !== 'ratio' && definition.id !== 'events') continue;
      const values: (number | null)[] = [];
      for (const endMs of steps) {
        await pause();
        values.push(pastValue(definition, state.store, endMs, COARSE_STEP_MS, state.times.evalMs) ?? null);
      }
      series[definition.id] = values;
    }
    return series;
  }

  return {
    begin,
    async history(from, to) {
      begin();
      const asked = rangeOf(from, to, nowMs());
      const isFine = asked.toMs - asked.fromMs <= HOUR_MS && asked.fromMs >= slotOf(nowMs()) * BUCKET_MS - HOUR_MS;
      const step = isFine ? BUCKET_MS : COARSE_STEP_MS;
      const endMs = Math.ceil(asked.toMs / step) * step;
      const beginMs = Math.floor(Math.max(asked.fromMs, nowMs() - DAY_MS) / step) * step;
      const fromMs = isFine ? Math.max(beginMs, endMs - HOUR_MS) : beginMs;
      const toMs = Math.max(fromMs, endMs);
      const series = await (isFine ? fine(fromMs, toMs) : inTurn(() => coarse(fromMs, toMs)));
      const state = term()?.look();
      return {
        from: isoTime(fromMs),
        to: isoTime(toMs),
        step: step / 1_000,
        series,
        thresholds: state === undefined ? [] : thresholdLines(state.rules),
        alerts: state === undefined ? [] : spansOf(state, fromMs, toMs, masker),
        note: noteOf({ isFine, isCut: asked.fromMs < nowMs() - DAY_MS, isYoung: fromMs < (begunMs ?? 0), state }),
      };
    },
    close() {
      closed = true;
      cancel();
    },
  };
}

/** The value of the step that ends at `endMs`; undefined: it is not known, or not from windows. */
function pastValue(
  { id, measure, by, unit }: Definition,
  store: WindowStore,
  endMs: number,
  stepMs: number,
  evalMs: number,
): number | undefined {
  const of = id === 'events' ? EVENTS : measure;
  const knownFromMs = Math.max(store.sinceMs() ?? Number.POSITIVE_INFINITY, store.coveredFromMs());
  if (of === undefined || !store.measures.has(of) || endMs <= knownFromMs) return undefined;
  const windowMs = id === 'events' ? stepMs : Math.max(stepMs, WINDOW_MS);
  const fromMs = endMs - windowMs;
  // Events of half a step are no rate.
  if (id === 'events' && (fromMs < knownFromMs || endMs > evalMs)) return undefined;
  // A histogram that reaches back only in part would say something else.
  if (unit === 'ms' && fromMs < evalMs - store.binsMs) return undefined;
  const known = readAt(store, { measure: of, by }, { fromMs, toMs: endMs, nowMs: endMs });
  if (known === undefined) return undefined;
  return id === 'events' ? (known.value * 1_000) / stepMs : known.value;
}

/** Lets others run whenever this has had its slice. */
function createPause(clock: Pick<Clock, 'monotonicMs'>): () => Promise<void> {
  let sinceMs = clock.monotonicMs();
  return async () => {
    if (clock.monotonicMs() - sinceMs < SLICE_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    sinceMs = clock.monotonicMs();
  };
}

/** Points of 10 s, the newest hour of them. */
interface Points {
  set(slot: number, value: number): void;
  get(slot: number): number | undefined;
}

function createPoints(): Points {
  const values = new Float64Array(KEPT);
  const slots = new Float64Array(KEPT).fill(-1);
  return {
    set(slot, value) {
      values[slot % KEPT] = value;
      slots[slot % KEPT] = slot;
    },
    get: (slot) => (slots[slot % KEPT] === slot ? values[slot % KEPT] : undefined),
  };
}

function slotOf(ms: number): number {
  return Math.floor(ms / BUCKET_MS);
}

/** A moment after the next full 10 s. */
function toNextSlot(nowMs: number): number {
  return BUCKET_MS - (nowMs % BUCKET_MS) + 50;
}

/** @throws Refusal 400 */
function rangeOf(from: string | undefined, to: string | undefined, nowMs: number): { fromMs: number; toMs: number } {
  const timeOf = (name: string, text: string): number => {
    const ms = Date.parse(text);
    if (/^\d{4}-\d\d-\d\dT[\d:.]{5,12}(?:Z|[+-]\d\d:\d\d)$/.test(text) && Number.isFinite(ms)) return ms;
    throw new Refusal(400, `${name}: found "${shown(text)}"; permitted: a time, like 2026-11-30T09:00:00Z`);
  };
  const toMs = to === undefined ? nowMs : Math.min(timeOf('to', to), nowMs);
  const fromMs = from === undefined ? toMs - HOUR_MS : timeOf('from', from);
  if (fromMs >= toMs) {
    throw new Refusal(400, `from: found "${shown(from ?? '')}"; permitted: a time before \`to\`, and before now`);
  }
  return { fromMs, toMs };
}

function noteOf(about: {
  readonly isFine: boolean;
  readonly isCut: boolean;
  /** Some of it is from before the first page asked. */
  readonly isYoung: boolean;
  readonly state: TermState | undefined;
}): string | null {
  const { isFine, isCut, isYoung, state } = about;
  const notes: string[] = [];
  if (state === undefined) notes.push('the alerts are not evaluated here: only what this process counts is shown');
  if (isCut) notes.push('nothing is kept for longer than a day');
  if (!isFine) notes.push('of more than an hour only events, error rate and call success are known');
  else if (isYoung) {
    notes.push(
      'lag and dead letters are kept since this process was first asked, and response times since 15 minutes before',
    );
  }
  return notes.length === 0 ? null : notes.join('; ');
}

function thresholdLines(rules: Rules): ThresholdLine[] {
  return DEFINITIONS.flatMap((definition) =>
    boundsOf(definition, rules).map(({ id, priority, bound }) => ({
      figure: definition.id,
      ...{ rule: id, priority, value: bound.value, text: formatThreshold(bound.value, definition.unit) },
    })),
  );
}

/** Alerts that fired within the time, the newest last. */
function spansOf(
  { rules, alerts, incidents }: TermState,
  fromMs: number,
  toMs: number,
  masker: Pick<Masker, 'text'>,
): AlertSpan[] {
  const figures = new Map(rules.map((rule) => [rule.id, figureOfRule(rule)?.id ?? null]));
  const span = (
    { ruleId, title, priority, startedMs }: Pick<AlertRecord, 'ruleId' | 'title' | 'priority' | 'startedMs'>,
    incident: string | null,
    endedMs: number | undefined,
  ) => ({
    ...{ fromMs: startedMs, toMs: endedMs },
    shown: {
      ...{ figure: figures.get(ruleId) ?? null, rule: ruleId, title, priority, incident },
      ...{ from: isoTime(startedMs), to: endedMs === undefined ? null : isoTime(endedMs) },
    },
  });
  const ended = incidents.flatMap(({ id, ended }: IncidentRecord) =>
    ended.map((alert) => span(alert, id, alert.resolvedMs ?? alert.startedMs)),
  );
  const open = alerts
    .filter(({ phase }) => phase === 'firing')
    .map((alert) => span(alert, alert.incidentId ?? null, undefined));
  return [...ended, ...open]
    .filter((one) => one.fromMs < toMs && (one.toMs ?? Number.POSITIVE_INFINITY) >= fromMs)
    .sort((one, other) => one.fromMs - other.fromMs)
    .slice(-MAX_SPANS)
    .map(({ shown }) => ({ ...shown, title: masker.text(shown.title) }));
}
