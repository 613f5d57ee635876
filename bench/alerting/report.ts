// What was measured -> the table and the object of --json. Guarantee: every number is shown with its aim.
import type { EvaluatorBench } from '../evaluator.ts';
import { BLIND_CASES, type BlindCase } from './blind.ts';
import { COST_ROLES, type CostBench } from './cost.ts';
import type { RebuildBench } from './evaluator.ts';
import { type LatencyTrial, RATE, SPLITS, type Split } from './latency.ts';
import { median, round, type Summary, summary } from './statistics.ts';

export interface LatencyResult {
  readonly pagerdutyMs: Summary;
  readonly slackMs: Summary;
  /** To the commit of the decision. */
  readonly decidedMs: Summary;
  /** Events per second that were really logged. */
  readonly rate: number;
  /** logpipe's, per event, at that rate. */
  readonly cpuMicrosPerEvent: number;
}

export interface BlindResult {
  /** From the kill to the page, less the median of the trials without a kill; null when those were not run. */
  readonly blindMs: { readonly median: number; readonly worst: number } | null;
  readonly killToPageMs: readonly number[];
}

export interface AlertingResults {
  /** Trials of latency and blind time that ended without a message and were made again. */
  repeated?: number;
  latency?: Partial<Record<Split, LatencyResult>>;
  blind?: Partial<Record<BlindCase, BlindResult>>;
  cost?: CostBench;
  evaluator?: EvaluatorBench & { readonly takeOver: RebuildBench };
}

export function toLatency(trials: readonly LatencyTrial[]): LatencyResult {
  const of = (key: 'pagerdutyMs' | 'slackMs' | 'decidedMs') => summary(trials.map((trial) => trial[key]));
  return {
    pagerdutyMs: of('pagerdutyMs'),
    slackMs: of('slackMs'),
    decidedMs: of('decidedMs'),
    rate: round(median(trials.map(({ rate }) => rate))),
    cpuMicrosPerEvent: round(median(trials.map(({ cpuMicrosPerEvent }) => cpuMicrosPerEvent)), 1),
  };
}

export function toBlind(all: ReadonlyMap<BlindCase, readonly number[]>): Partial<Record<BlindCase, BlindResult>> {
  const normal = all.get('none');
  const usual = normal === undefined ? undefined : median(normal);
  const result: Partial<Record<BlindCase, BlindResult>> = {};
  for (const [name, list] of all) {
    const beyond = usual === undefined ? undefined : list.map((ms) => Math.max(0, ms - usual));
    result[name] = {
      blindMs: beyond === undefined ? null : { median: round(median(beyond)), worst: round(Math.max(...beyond)) },
      killToPageMs: list.map((ms) => round(ms)),
    };
  }
  return result;
}

const SPLIT_TEXTS: Readonly<Record<Split, string>> = {
  allRoles: 'all roles in one process',
  split: 'counter and alerter in one process, no indexer',
};

export function toTable(
  { repeated, latency, blind, cost, evaluator }: AlertingResults,
  notes: readonly string[],
): string {
  const parts: string[] = [];
  if (latency !== undefined) {
    const rows = [['logger.error() to the accept, ms', 'trials', 'median', 'p95', 'p99', 'max', 'aim p99']];
    for (const split of Object.keys(SPLITS) as Split[]) {
      const its = latency[split];
      if (its === undefined) continue;
      const row = (text: string, { trials, median: middle, p95, p99, max }: Summary, aim: string) =>
        rows.push([`${SPLIT_TEXTS[split]}: ${text}`, ...[trials, middle, p95, p99, max].map(String), aim]);
      row('page', its.pagerdutyMs, '2000');
      row('Slack', its.slackMs, '');
      row('decided', its.decidedMs, '');
    }
    parts.push(`${table(rows)}\nwith fewer than 100 trials p99 is the maximum`);
    for (const split of Object.keys(latency) as Split[]) {
      const { rate, cpuMicrosPerEvent } = latency[split]!;
      parts.push(
        `${SPLIT_TEXTS[split]}: ${cpuMicrosPerEvent} µs of logpipe's CPU per event at ${rate} events/s (wanted ${RATE})`,
      );
    }
  }
  if (blind !== undefined) {
    const rows = [['blind after SIGKILL, ms', 'trials', 'median', 'worst', 'aim']];
    for (const [name, { blindMs, killToPageMs }] of Object.entries(blind)) {
      const values = blindMs === null ? ['-', '-'] : [String(blindMs.median), String(blindMs.worst)];
      const aim = name === 'none' ? '' : '15000';
      rows.push([BLIND_CASES[name as BlindCase].text, String(killToPageMs.length), ...values, aim]);
    }
    parts.push(table(rows));
    const usual = blind.none?.killToPageMs;
    if (usual !== undefined) parts.push(`subtracted: ${round(median(usual))} ms, the page when nobody is killed`);
  }
  if (cost !== undefined) parts.push(...costParts(cost));
  if (evaluator !== undefined) parts.push(...evaluatorParts(evaluator));
  if (repeated !== undefined) parts.push(`trials repeated, because no message came: ${repeated}`);
  return [...parts, ...notes].join('\n\n');
}

function costParts(cost: CostBench): string[] {
  const rows = [['cost', 'CPU µs/event', 'second half', 'events/s', 'peak MB', 'start ms CPU']];
  const { bareKafkajs, ownIntake } = cost.reading;
  const thousands = (value: number) => value.toLocaleString('en');
  rows.push([
    'reading: bare kafkajs',
    bareKafkajs.cpuMicrosPerEvent.toFixed(2),
    bareKafkajs.steadyMicrosPerEvent.toFixed(2),
    thousands(bareKafkajs.eventsPerSecond),
    '',
    '',
  ]);
  rows.push([
    "reading: logpipe's intake",
    ownIntake.cpuMicrosPerEvent.toFixed(2),
    ownIntake.steadyMicrosPerEvent.toFixed(2),
    thousands(ownIntake.eventsPerSecond),
    '',
    '',
  ]);
  for (const roles of COST_ROLES) {
    const { cpuMicrosPerEvent, steadyMicrosPerEvent, eventsPerSecond, peakMb, startCpuMs } = cost.roles[roles];
    rows.push([
      `--roles ${roles}`,
      cpuMicrosPerEvent.toFixed(2),
      steadyMicrosPerEvent?.toFixed(2) ?? '-',
      thousands(eventsPerSecond),
      String(peakMb),
      String(startCpuMs),
    ]);
  }
  return [
    table(rows),
    `counter on top of logpipe's intake: ${cost.counterOnTopMicros} µs, second half of the events ${cost.counterOnTopSteadyMicros ?? '-'} µs (aim 4)`,
    `${cost.events} lines of ${cost.bytesPerLine} bytes, ${cost.rounds} rounds, medians; peak of all rounds`,
  ];
}

function evaluatorParts({
  series,
  rules,
  tickMs,
  rebuild,
  takeOver,
}: NonNullable<AlertingResults['evaluator']>): string[] {
  const rows = [['evaluator', 'ms', 'aim']];
  rows.push([`tick, ${series} series and ${rules} rules: median`, tickMs.p50.toFixed(1), '50']);
  rows.push(['tick: p99', tickMs.p99.toFixed(1), '50']);
  for (const { name, megabytes, ms } of rebuild)
    rows.push([`rebuild in memory, ${name}, ${Math.round(megabytes)} MB`, ms.toFixed(0), '5000']);
  const { filled, firstMs, takeOverMs, startedMs } = takeOver;
  rows.push([`first start on ${takeOver.hours} h of counts, ${filled.megabytes} MB`, String(firstMs), '']);
  rows.push(['take-over, from leading to the first evaluation: median', String(takeOverMs.median), '4000']);
  rows.push([`take-over: worst of ${takeOverMs.trials}`, String(takeOverMs.max), '4000']);
  rows.push(['from the start of the process: median', String(startedMs.median), '']);
  return [table(rows)];
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('   '))
    .join('\n');
}
