// A small stage for rules: what is counted is said in one line, time goes where the test sends it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../src/core/package-root.ts';
import { type Measures, parseMeasures } from '../../../src/measure/measure-config.ts';
import {
  BUCKET_MS,
  type BucketTotals,
  binOf,
  type CounterValue,
  type DistributionValue,
  LABEL_SEPARATOR,
  MAX_AGE_MS,
  OLDER_MS,
  type SeriesValue,
} from '../../../src/measure/totals.ts';
import { createEvaluator, type EvaluatorDeps, type Tick } from '../../../src/rules/evaluator.ts';
import { parseRules, type Rules } from '../../../src/rules/rule-config.ts';
import type { Observation } from '../../../src/rules/rule-types.ts';

export const T0 = Date.parse('2026-11-24T12:00:00.000Z');
export const SECOND = 1_000;
export const MINUTE = 60_000;
export const HOUR = 3_600_000;

const shipped = (name: string) => readFileSync(join(packageRoot(), 'config', name), 'utf8');
export const MEASURES: Measures = parseMeasures(shipped('measures.yml'), {}, 'measures.yml');
export const RULES: Rules = parseRules(shipped('rules.yml'), {}, 'rules.yml', MEASURES);

/** Rules of YAML lines below `rules:`, on the shipped measures. */
export function rulesOf(yaml: string, measures = MEASURES): Rules {
  return parseRules(`rules:\n${yaml}`, {}, 'rules.yml', measures);
}

interface Where {
  readonly lane?: string;
  /** Default: when it happened. */
  readonly arrivalMs?: number;
}

export interface Stage {
  readonly evaluator: ReturnType<typeof createEvaluator>;
  /** `n` events at a time, labels in the order of the measure's `by`. */
  count(measure: string, labels: readonly string[], n: number, atMs: number, where?: Where & { ex?: string[] }): void;
  observe(measure: string, labels: readonly string[], values: readonly number[], atMs: number, where?: Where): void;
  gauge(measure: string, labels: readonly string[], value: number, atMs: number, where?: Where): void;
  /** Publishes what was counted and how far every partition was read, then evaluates. */
  tick(wallMs: number, options?: { readMs?: number; lanes?: Readonly<Record<string, number>> }): Tick;
  /** Publishes what was counted. */
  publish(): void;
}

export function createStage(rules: Rules = RULES, deps: EvaluatorDeps = {}, measures: Measures = MEASURES): Stage {
  const evaluator = createEvaluator({ measures, rules }, deps);
  const buckets = new Map<string, BucketTotals>();
  const changed = new Set<BucketTotals>();
  let offset = 0;

  function valueAt<T extends SeriesValue>(
    measure: string,
    labels: readonly string[],
    atMs: number,
    { lane = '0', arrivalMs = atMs }: Where,
    empty: T,
  ): T {
    const arrival = floor(arrivalMs);
    const id = `${lane}/${arrival}`;
    let totals = buckets.get(id);
    if (totals === undefined) {
      totals = { lane, arrivalMs: arrival, upToOffset: 0, records: 0, buckets: [] };
      buckets.set(id, totals);
    }
    totals.upToOffset = ++offset;
    totals.records++;
    changed.add(totals);
    const eventMs = arrivalMs - atMs > MAX_AGE_MS ? OLDER_MS : floor(atMs);
    let event = totals.buckets.find((bucket) => bucket.eventMs === eventMs);
    if (event === undefined) {
      event = { eventMs, series: {} };
      totals.buckets.push(event);
    }
    event.series[measure] ??= {};
    const key = labels.join(LABEL_SEPARATOR);
    event.series[measure][key] ??= empty;
    return event.series[measure][key] as T;
  }

  const publish = () => {
    for (const totals of [...changed].sort((a, b) => a.arrivalMs - b.arrivalMs)) {
      evaluator.apply({ kind: 'totals', totals: structuredClone(totals) }, totals.arrivalMs);
    }
    changed.clear();
  };

  return {
    evaluator,
    publish,
    count(measure, labels, n, atMs, where = {}) {
      const value = valueAt<CounterValue>(measure, labels, atMs, where, { n: 0 });
      value.n += n;
      if (where.ex !== undefined) value.ex = [...(value.ex ?? []), ...where.ex].slice(0, 5);
    },
    observe(measure, labels, values, atMs, where = {}) {
      const empty: DistributionValue = { n: 0, sum: 0, min: Infinity, max: -Infinity, bins: {} };
      const cell = valueAt(measure, labels, atMs, where, empty);
      for (const value of values) {
        cell.n++;
        cell.sum += value;
        const bin = binOf(value);
        cell.bins[bin] = (cell.bins[bin] ?? 0) + 1;
      }
    },
    gauge(measure, labels, value, atMs, where = {}) {
      const cell = valueAt(measure, labels, atMs, where, { v: value, at: atMs });
      cell.v = value;
      cell.at = atMs;
    },
    tick(wallMs, { readMs = wallMs, lanes = { '0': readMs } } = {}) {
      publish();
      for (const [lane, at] of Object.entries(lanes)) {
        const progress = { lane, lanes: Object.keys(lanes).length, position: 1, end: 1, arrivalMs: at, caughtUp: true };
        evaluator.apply({ kind: 'progress', progress }, at);
      }
      return evaluator.tick(wallMs);
    },
  };
}

export function floor(ms: number): number {
  return Math.floor(ms / BUCKET_MS) * BUCKET_MS;
}

export function of(ticked: Tick, ruleId: string): Observation[] {
  return ticked.observations.filter((observation) => observation.ruleId === ruleId);
}

/** The state of a rule that has no labels. */
export function stateOf(ticked: Tick, ruleId: string): Observation['state'] | undefined {
  return of(ticked, ruleId)[0]?.state;
}

/** `n` calls that ended, some of them failed, with what the measures need of each. */
export function calls(
  stage: Stage,
  atMs: number,
  { failed = 0, ok = 0, tenant = 'acme', ...where }: { failed?: number; ok?: number; tenant?: string } & Where,
): void {
  if (failed > 0) {
    stage.count('calls.ended', ['outbound', 'failed', tenant], failed, atMs, where);
    stage.count('calls.failed', [tenant, 'outbound'], failed, atMs, where);
  }
  if (ok > 0) stage.count('calls.ended', ['outbound', 'completed', tenant], ok, atMs, where);
}
