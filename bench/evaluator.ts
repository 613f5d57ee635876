// The evaluator alone: time of a tick with 1,000 series and 100 rules, and of the rebuild from six hours of four partitions' totals.
// In: nothing; out: milliseconds. No Kafka: reading the topic comes on top, parsing its JSON is included.
import { pathToFileURL } from 'node:url';
import { systemClock } from '../src/core/clock.ts';
import { createMetrics } from '../src/core/metrics.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { createMasker } from '../src/core/secrets/mask.ts';
import { loadMeasures, type Measures } from '../src/measure/measure-config.ts';
import { BUCKET_MS, type BucketTotals, binOf, LABEL_SEPARATOR, type SeriesOfMeasure } from '../src/measure/totals.ts';
import { createFigures } from '../src/ops/figures.ts';
import { createEvaluator, type Evaluator } from '../src/rules/evaluator.ts';
import { loadRules, parseRules, type Rules } from '../src/rules/rule-config.ts';

const LANES = 4;
const RULES = 100;
const TENANTS = 60;
const START = Date.parse('2026-11-24T06:00:00Z');
const REBUILD_MS = 6 * 3_600_000;

export interface EvaluatorBench {
  readonly series: number;
  readonly rules: number;
  /** Only evaluating, each time after something had changed. */
  readonly tickMs: { readonly p50: number; readonly p99: number; readonly max: number; readonly meanCpu: number };
  /** Taking in the new totals of all partitions before each evaluation. */
  readonly applyMs: { readonly p50: number; readonly p99: number };
  /** What a page asks: a tick a second; and the last hour, of which the first page has all read and later ones nothing. */
  readonly page: {
    readonly tickMs: { readonly p50: number; readonly p99: number; readonly max: number };
    readonly firstHourMs: number;
    /** For so long at a time nothing else could run meanwhile. */
    readonly longestSliceMs: number;
    readonly nextHourMs: number;
  };
  readonly rebuild: readonly {
    readonly name: string;
    readonly megabytes: number;
    readonly ms: number;
    /** User and system time: what other work on the machine does not change. */
    readonly cpuMs: number;
    readonly heapMB: number;
  }[];
}

function configuration(): { measures: Measures; rules: Rules } {
  const place = { env: {} };
  const measures = loadMeasures({ ...place, file: `${packageRoot()}/config/measures.yml` });
  const shipped = loadRules({ ...place, file: `${packageRoot()}/config/rules.yml`, measures });
  const kinds = [
    'kind: ratio, measure: call.failure_ratio, above: 97 %, labels: [tenantId]',
    'kind: ratio, measure: http.error_ratio, above: 97 %',
    'kind: percentile, measure: http.p95, above: 100 m',
    'kind: ratio, measure: call.success_ratio, below: 1 %, labels: [tenantId]',
    'kind: threshold, measure: queue.size, above: 100000, labels: [queue.name]',
    'kind: threshold, measure: log.error_rate, above: 10000000 /min',
  ];
  const more = Array.from({ length: RULES - shipped.length }, (_, i) => {
    const window = [1, 5, 10, 15, 30, 60][i % 6]!;
    return `  bench-${i}: { title: Bench, priority: P2, window: ${window}m, ${kinds[i % kinds.length]} }`;
  });
  return { measures, rules: [...shipped, ...parseRules(`rules:\n${more.join('\n')}`, {}, 'bench', measures)] };
}

/** Totals of one bucket in which every series has events; `share` of them only for a smaller platform. */
function bucketText(share: number): string {
  const series: Record<string, SeriesOfMeasure> = {};
  const add = (measure: string, labels: readonly (string | number)[], value: object) => {
    series[measure] ??= {};
    series[measure][labels.join(LABEL_SEPARATOR)] = value as never;
  };
  const bins = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [binOf(20 * 1.08 ** i), 1 + (i % 4)]));
  const some = (count: number) => Math.max(1, Math.round(count * share));
  for (const status of ['completed', 'voicemail', 'busy', 'no-answer', 'canceled', 'failed']) {
    for (let t = 0; t < some(TENANTS); t++) add('calls.ended', ['outbound', status, `tenant-${t}`], { n: 3 });
    add('call.duration', ['outbound', status], { n: 100, sum: 9e6, min: 1, max: 9e5, bins });
  }
  for (let t = 0; t < some(TENANTS); t++) add('calls.failed', [`tenant-${t}`, 'outbound'], { n: 3, ex: ['01J'] });
  for (let r = 0; r < some(60); r++) {
    for (const status of [200, 404, 500]) add('http.requests', ['GET', `/api/v1/route-${r}`, status], { n: 20 });
    add('http.duration', ['GET', `/api/v1/route-${r}`], { n: 100, sum: 9_000, min: 1, max: 900, bins });
    add('http.errors', [`/api/v1/route-${r}`, 500], { n: 2 });
  }
  for (let e = 0; e < some(100); e++) add('error.templates', [`Something failed for <id> (${e})`], { n: 2 });
  for (const level of ['info', 'warn', 'error']) for (const v of ['1', '2']) add('log.events', [level, v], { n: 900 });
  for (const v of ['1', '2']) add('log.errors', [v, 'api'], { n: 30 });
  const at = START;
  for (let p = 0; p < some(40); p++) {
    for (const name of ['used', 'total', 'limit']) {
      add(`process.heap_${name}_bytes`, [`host-${p % 8}`, p], { v: name === 'used' ? 1e8 : 1e9, at });
    }
  }
  for (let h = 0; h < some(20); h++) {
    for (const name of ['system.cpu', 'system.memory', 'system.disk', 'system.network_rx', 'system.network_tx']) {
      add(name, [`host-${h}`], { v: 30, at });
    }
    for (const name of ['queue.size', 'queue.completed']) add(name, [`queue-${h}`], { v: 30, at });
  }
  const totals: BucketTotals = {
    lane: '0',
    arrivalMs: 0,
    upToOffset: 0,
    records: 5_000,
    buckets: [{ eventMs: 0, series }],
  };
  return JSON.stringify(totals);
}

/** Parses and takes in a message as it comes from the topic. */
function apply(evaluator: Evaluator, text: string, lane: number, atMs: number, version: number): void {
  const totals = JSON.parse(text) as BucketTotals;
  Object.assign(totals, { lane: String(lane), arrivalMs: atMs, upToOffset: version });
  Object.assign(totals.buckets[0]!, { eventMs: atMs });
  for (const [name, values] of Object.entries(totals.buckets[0]!.series)) {
    if (name.startsWith('system.') || name.startsWith('process.') || name.startsWith('queue.')) {
      for (const value of Object.values(values)) Object.assign(value, { at: atMs });
    }
  }
  evaluator.apply({ kind: 'totals', totals }, atMs);
}

function progress(evaluator: Evaluator, atMs: number): void {
  for (let lane = 0; lane < LANES; lane++) {
    const message = { lane: String(lane), lanes: LANES, position: 1, end: 1, arrivalMs: atMs, caughtUp: true };
    evaluator.apply({ kind: 'progress', progress: message }, atMs);
  }
}

function timed(fn: () => void): number {
  const began = performance.now();
  fn();
  return performance.now() - began;
}

function quantile(values: readonly number[], q: number): number {
  return [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))]!;
}

function rebuild(name: string, text: string, options: { measures: Measures; rules: Rules }) {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const evaluator = createEvaluator(options);
  let version = 0;
  const cpu = process.cpuUsage();
  const ms = timed(() => {
    for (let at = START; at < START + REBUILD_MS; at += BUCKET_MS) {
      for (let lane = 0; lane < LANES; lane++) apply(evaluator, text, lane, at, ++version);
    }
    progress(evaluator, START + REBUILD_MS);
    evaluator.tick(START + REBUILD_MS);
  });
  const { user, system } = process.cpuUsage(cpu);
  globalThis.gc?.();
  const after = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const megabytes = (text.length * LANES * REBUILD_MS) / BUCKET_MS / 1e6;
  return {
    evaluator,
    result: { name, megabytes, ms, cpuMs: (user + system) / 1_000, heapMB: (after - before) / 2 ** 20 },
  };
}

export async function benchEvaluator(): Promise<EvaluatorBench> {
  const options = configuration();
  const small = rebuild('ordinary', bucketText(0.05), options).result;
  const text = bucketText(1);
  const { evaluator, result: large } = rebuild('every series in every bucket', text, options);

  const ticks: number[] = [];
  const applies: number[] = [];
  let cpuMicros = 0;
  let wall = START + REBUILD_MS;
  let version = 1_000_000;
  // Twice a second something has changed in every partition, as the counter publishes.
  for (let i = 0; i < 240; i++) {
    wall += 500;
    const at = Math.floor(wall / BUCKET_MS) * BUCKET_MS;
    applies.push(
      timed(() => {
        for (let lane = 0; lane < LANES; lane++) apply(evaluator, text, lane, at, ++version);
        progress(evaluator, wall);
      }),
    );
    const cpu = process.cpuUsage();
    ticks.push(timed(() => void evaluator.tick(wall)));
    const { user, system } = process.cpuUsage(cpu);
    cpuMicros += user + system;
  }
  const page = await benchPage(evaluator, options.rules, (i) => {
    wall += 500;
    const at = Math.floor(wall / BUCKET_MS) * BUCKET_MS;
    for (let lane = 0; lane < LANES; lane++) apply(evaluator, text, lane, at, 2_000_000 + i * LANES + lane);
    progress(evaluator, wall);
    return evaluator.tick(wall);
  });
  const breached = evaluator.tick(wall).observations.filter(({ state }) => state === 'breached').length;
  if (breached > RULES) throw new Error('the measurement has come to measure alerts');
  return {
    series: evaluator.store.seriesCount(),
    rules: options.rules.length,
    tickMs: {
      p50: quantile(ticks, 0.5),
      p99: quantile(ticks, 0.99),
      max: Math.max(...ticks),
      meanCpu: cpuMicros / 1_000 / ticks.length,
    },
    applyMs: { p50: quantile(applies, 0.5), p99: quantile(applies, 0.99) },
    page,
    rebuild: [small, large],
  };
}

/** @param next takes in what half a second brings, and evaluates it */
async function benchPage(
  evaluator: Evaluator,
  rules: Rules,
  next: (i: number) => ReturnType<Evaluator['tick']>,
): Promise<EvaluatorBench['page']> {
  let { times, observations } = next(0);
  const none = { alerts: [], incidents: [], silences: [] };
  const figures = createFigures({
    ...{ version: '1', roles: ['indexer', 'counter', 'alerter'], source: 'kafka', startedMs: 0, environment: 'bench' },
    ...{ clock: systemClock, metrics: createMetrics(), masker: createMasker() },
    readiness: () => [],
    lastError: () => null,
    term: () => ({
      look: () => ({ ...{ rules, store: evaluator.store, times, observations }, ...none }),
      now: () => times.wallMs,
      waiting: () => 0,
    }),
  });
  let longest = 0;
  let before = performance.now();
  let watching = true;
  const look = () => {
    longest = Math.max(longest, performance.now() - before);
    before = performance.now();
    if (watching) setImmediate(look);
  };
  setImmediate(look);
  const began = performance.now();
  await figures.history(undefined, undefined);
  const firstHourMs = performance.now() - began;
  watching = false;
  const ticks: number[] = [];
  for (let i = 1; i <= 240; i++) {
    ({ times, observations } = next(i));
    ticks.push(timed(() => void figures.tick()));
    await Promise.resolve();
  }
  const again = performance.now();
  await figures.history(undefined, undefined);
  const nextHourMs = performance.now() - again;
  figures.close();
  const tickMs = { p50: quantile(ticks, 0.5), p99: quantile(ticks, 0.99), max: Math.max(...ticks) };
  return { tickMs, firstHourMs, longestSliceMs: longest, nextHourMs };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.stdout.write(`${JSON.stringify(await benchEvaluator(), null, 2)}\n`);
}
