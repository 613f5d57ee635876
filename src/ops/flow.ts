// The flow of this process as a picture: of each stage how much passes, what waits, what is wrong, and what it complained of last. In: the
// counters of /metrics, the states that /ready shows, and the log as each stage writes it. Out: the stages, in the order data takes.
// Guarantee: a rate is a difference over monotonic time, never a count over the life of the process; what runs elsewhere is said to, and its
// numbers are null; texts of the log are masked, and cut.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { oneLine } from '../core/safe-json.ts';
import { MASK, type Masker } from '../core/secrets/mask.ts';
import type { Readiness } from './http.ts';
import type { Flow, Stage, StageId } from './page-data.ts';

// ---- what each stage complained of last ----

export interface StageLogs {
  /** The same log, for one stage. */
  of(stage: StageId): Log;
  /** Its last warning or error; null: none since the start. */
  lastError(stage: StageId): Stage['lastError'];
}

/** Alerts are news of the platform, and no trouble of the stage that tells them. */
const ALERTS: ReadonlySet<string> = new Set(['CRITICAL ALERT', 'WARNING ALERT']);
/** Where a line says why. */
const REASONS = ['error', 'reason', 'detail', 'why'] as const;
const MAX_TEXT = 300;

export function createStageLogs(
  log: Log,
  { clock, masker }: { readonly clock: Pick<Clock, 'now'>; readonly masker: Pick<Masker, 'text'> },
): StageLogs {
  const last = new Map<StageId, { readonly atMs: number; readonly text: string }>();

  function remember(stage: StageId, message: string, meta: Record<string, unknown> | undefined): void {
    if (ALERTS.has(message)) return;
    const why = REASONS.map((name) => meta?.[name]).find((value) => typeof value === 'string');
    last.set(stage, { atMs: clock.now(), text: typeof why === 'string' ? `${message}: ${why}` : message });
  }

  return {
    of: (stage) => ({
      ...log,
      error(message, meta) {
        remember(stage, message, meta);
        log.error(message, meta);
      },
      warn(message, meta) {
        remember(stage, message, meta);
        log.warn(message, meta);
      },
    }),
    lastError(stage) {
      const line = last.get(stage);
      if (line === undefined) return null;
      return { at: new Date(line.atMs).toISOString(), text: shownText(line.text, masker) };
    },
  };
}

/** Masked whole, because half a secret is not known as one. */
function shownText(text: string, masker: Pick<Masker, 'text'>): string {
  try {
    return oneLine(masker.text(text), MAX_TEXT);
  } catch {
    return MASK;
  }
}

// ---- how much passes ----

/** Counters and gauges of one moment. */
export interface Sample {
  /** Monotonic. */
  readonly atMs: number;
  readonly consumed: number;
  /** Documents, by the sink that took most. */
  readonly indexed: number;
  readonly deadLettered: number;
  readonly counted: number;
  readonly evaluations: number;
  readonly sent: number;
  readonly inFlightBytes: number;
  readonly countsWaiting: number;
  /** Of the consumer group that is furthest behind; undefined without one. */
  readonly lag: number | undefined;
  /** Why the intake waits. */
  readonly paused: readonly string[];
}

type Counted = 'consumed' | 'indexed' | 'deadLettered' | 'counted' | 'evaluations' | 'sent';

export interface Meter {
  /** Takes a sample. The registry answers by promises, so what it says is known a moment later. */
  take(): Promise<void>;
  newest(): Sample | undefined;
  /** Over some 5 s; null: not known yet. */
  perSecond(what: Counted): number | null;
  /** How many in the last minute, or since the first sample when that is less long ago; null: not known yet. */
  inLastMinute(what: Counted): number | null;
}

/** A second is too short for what comes in batches. */
const RATE_MS = 5_000;
/** Nobody looked for a while: what is older says nothing about now. */
const MAX_RATE_MS = 15_000;
const MINUTE_MS = 60_000;
/** However often somebody asks. */
const MAX_SAMPLES = 100;

export function createMeter(metrics: Metrics, clock: Pick<Clock, 'monotonicMs'>): Meter {
  let samples: Sample[] = [];

  async function read(): Promise<Sample> {
    const atMs = clock.monotonicMs();
    const [consumed, indexed, deadLettered, counted, evaluations, messages, inFlightBytes, countsWaiting, lag, paused] =
      await Promise.all([
        metrics.consumed.get(),
        metrics.indexed.get(),
        metrics.deadLettered.get(),
        metrics.counted.get(),
        metrics.evaluationSeconds.get(),
        metrics.notifications.get(),
        metrics.inFlightBytes.get(),
        metrics.countsWaiting.get(),
        metrics.lag.get(),
        metrics.paused.get(),
      ]);
    const groups = new Map<string | number | undefined, number>();
    for (const { labels, value } of lag.values) groups.set(labels.group, (groups.get(labels.group) ?? 0) + value);
    return {
      atMs,
      consumed: sum(consumed),
      indexed: Math.max(0, ...indexed.values.map(({ value }) => value)),
      deadLettered: sum(deadLettered),
      counted: sum(counted),
      evaluations: evaluations.values.find(({ metricName }) => metricName?.endsWith('_count'))?.value ?? 0,
      sent: sum({ values: messages.values.filter(({ labels }) => labels.result === 'sent') }),
      inFlightBytes: sum(inFlightBytes),
      countsWaiting: sum(countsWaiting),
      lag: groups.size === 0 ? undefined : Math.max(...groups.values()),
      paused: paused.values.flatMap(({ labels, value }) => (value > 0 ? [String(labels.reason ?? '')] : [])),
    };
  }

  /** The oldest of the last `ms` before the newest; else the one before it. */
  function since(ms: number): Sample | undefined {
    const newest = samples.at(-1);
    if (newest === undefined) return undefined;
    const before = samples.slice(0, -1);
    return before.find(({ atMs }) => newest.atMs - atMs <= ms) ?? before.at(-1);
  }

  return {
    async take() {
      const sample = await read();
      samples = [...samples, sample]
        .filter(({ atMs }) => sample.atMs - atMs <= MINUTE_MS || atMs === sample.atMs)
        .slice(-MAX_SAMPLES);
    },
    newest: () => samples.at(-1),
    perSecond(what) {
      const newest = samples.at(-1);
      const from = since(RATE_MS);
      if (newest === undefined || from === undefined) return null;
      const lasted = newest.atMs - from.atMs;
      return lasted > 0 && lasted <= MAX_RATE_MS ? ((newest[what] - from[what]) * 1_000) / lasted : null;
    },
    inLastMinute(what) {
      const newest = samples.at(-1);
      const from = since(MINUTE_MS);
      return newest === undefined || from === undefined ? null : newest[what] - from[what];
    },
  };
}

function sum({ values }: { readonly values: readonly { readonly value: number }[] }): number {
  return values.reduce((total, { value }) => total + value, 0);
}

// ---- the picture ----

/** What this process is, and does. */
export interface FlowView {
  readonly roles: readonly string[];
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  readonly dependencies: readonly Readiness[];
  readonly lastError: StageLogs['lastError'];
  readonly meter: Pick<Meter, 'newest' | 'perSecond'>;
  /** How far evaluation is behind the clock, ms; undefined where alerts are not evaluated. */
  readonly evaluationLagMs: number | undefined;
  /** So far that nothing begins or ends. */
  readonly isBehind: boolean;
  /** Messages that no channel has taken yet; undefined where none are sent. */
  readonly waiting: number | undefined;
}

const SOURCES = { kafka: 'Kafka', files: 'Log files', stdin: 'Standard input', otlp: 'OpenTelemetry' } as const;
/** Evaluation is always behind by some seconds. */
const USUAL_LAG_MS = 15_000;

export function flowOf(view: FlowView): Flow {
  const { roles, source, dependencies, lastError, meter } = view;
  const sample = meter.newest();
  // Without Kafka, one process counts and evaluates.
  const evaluates = roles.includes('alerter') || (source !== 'kafka' && roles.includes('counter'));
  const counts = roles.includes('counter') || (source !== 'kafka' && evaluates);
  const indexes = roles.includes('indexer');
  const isOwn = (...names: readonly string[]) => dependencies.filter(({ name }) => names.includes(name));
  const others = dependencies.filter(
    ({ name }) => ![source, 'indexer', 'counter', 'alerter', 'routing'].includes(name),
  );
  // Another instance decides, and this one stands by.
  const decides = evaluates && (view.waiting !== undefined || !isOwn('alerter').some(({ ready }) => ready));
  const some = (n: number | undefined, one: string) => (n === undefined || n <= 0 ? null : countOf(n, one));

  function stage(
    id: StageId,
    label: string,
    isHere: boolean,
    own: {
      readonly rate: Stage['perSecond'];
      readonly waits: string | null;
      readonly needs: readonly Readiness[];
      readonly isWaiting?: boolean;
    },
  ): Stage {
    if (!isHere) {
      return { id, label, perSecond: null, backlog: null, state: 'elsewhere', trouble: null, lastError: null };
    }
    const trouble = own.needs.find(({ ready }) => !ready)?.detail ?? null;
    return {
      ...{ id, label, perSecond: own.rate, backlog: own.waits },
      state: trouble !== null ? 'failing' : own.isWaiting === true ? 'waiting' : 'good',
      trouble,
      lastError: lastError(id),
    };
  }

  const { evaluationLagMs, waiting } = view;
  const lagsBehind = evaluationLagMs !== undefined && evaluationLagMs > USUAL_LAG_MS;
  const isPaused = (sample?.paused.length ?? 0) > 0;
  return {
    stages: [
      stage('source', SOURCES[source], indexes || counts, {
        rate: indexes ? meter.perSecond('consumed') : meter.perSecond('counted'),
        waits: some(sample?.lag, 'record'),
        needs: isOwn(source),
        isWaiting: isPaused,
      }),
      stage('parse', 'Parse and tag', indexes, { rate: meter.perSecond('consumed'), waits: null, needs: [] }),
      stage('index', 'Index', indexes, {
        rate: meter.perSecond('indexed'),
        waits: sample === undefined || sample.inFlightBytes <= 0 ? null : bytesText(sample.inFlightBytes),
        needs: [...isOwn('indexer'), ...others],
        isWaiting: isPaused,
      }),
      stage('deadLetters', 'Dead letters', indexes, {
        rate: meter.perSecond('deadLettered'),
        waits:
          sample === undefined || sample.deadLettered === 0 ? null : `${grouped(sample.deadLettered)} since the start`,
        needs: [],
      }),
      stage('count', 'Count', counts, {
        rate: meter.perSecond('counted'),
        waits: some(sample?.countsWaiting, 'interval'),
        needs: isOwn('counter'),
      }),
      stage('rules', 'Rules', decides, {
        rate: meter.perSecond('evaluations'),
        waits: lagsBehind ? `${grouped(evaluationLagMs / 1_000)} s behind` : null,
        needs: isOwn('alerter'),
        isWaiting: view.isBehind,
      }),
      stage('messages', 'Messages', decides, {
        rate: meter.perSecond('sent'),
        waits: some(waiting, 'message'),
        needs: isOwn('routing'),
        isWaiting: waiting !== undefined && waiting > 0,
      }),
    ],
    dependencies,
  };
}

export function countOf(n: number, one: string): string {
  return `${grouped(n)} ${one}${Math.round(n) === 1 ? '' : 's'}`;
}

/** "1,204" */
export function grouped(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

function bytesText(bytes: number): string {
  return bytes < 1_000_000 ? `${grouped(bytes / 1_000)} kB` : `${grouped(bytes / 1_000_000)} MB`;
}
