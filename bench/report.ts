// What was measured -> the aims and whether they are reached, the table, and the one object of `--json`. Guarantee: what was not measured
// is null there, and has no row in the table.
import { cpus } from 'node:os';
import type { RebuildBench } from './alerting/evaluator.ts';
import { median, round } from './alerting/statistics.ts';
import type { EvaluatorBench } from './evaluator.ts';
import type { Round } from './measure.ts';
import { type ScalingResult, scalingText } from './scaling.ts';
import type { ShipBench } from './ship.ts';
import type { SpoolBench } from './spool.ts';
import type { TransportBench } from './transport.ts';

export interface Line {
  readonly name: string;
  readonly eventsPerSecond: number;
  /** Process CPU per event without the cost of a start. */
  readonly cpuMicros: number;
  /** The same with the start. */
  readonly wholeCpuMicros: number;
  readonly peakMb: number;
  /** In the order in which they were run: the same round of two contenders is a pair. */
  readonly rounds: readonly Round[];
}

/** @param startMicros CPU of a start, for the whole process */
export function toLine(name: string, rounds: readonly Round[], startMicros: number, events: number): Line {
  const wholeCpuMicros = median(rounds.map((r) => r.wholeCpuMicros));
  return {
    name,
    eventsPerSecond: Math.round(median(rounds.map((r) => r.eventsPerSecond))),
    cpuMicros: round(wholeCpuMicros - startMicros / events, 2),
    wholeCpuMicros: round(wholeCpuMicros, 2),
    peakMb: Math.round(median(rounds.map((r) => r.peakMb))),
    rounds,
  };
}

/** The kinds of lines that are measured beside the example application's own. */
export const LINE_KINDS = {
  errors: { lines: 'every second an error', shape: 'winston' },
  ecs: { lines: 'ECS lines', shape: 'ecs' },
  pino: { lines: 'Pino lines', shape: 'pino' },
  masked: { lines: 'something to mask', shape: 'winston' },
} as const;
export type LineKind = keyof typeof LINE_KINDS;

export interface KindResult {
  readonly events: number;
  readonly rounds: number;
  readonly bytesPerLine: number;
  /** logpipe's indexer and the ordinary one. */
  readonly lines: readonly Line[];
}

export interface Results {
  lines: readonly Line[];
  kinds: Partial<Record<LineKind, KindResult>>;
  /** One per compression. */
  transports: TransportBench[];
  spool?: SpoolBench;
  ship?: ShipBench;
  scaling?: readonly ScalingResult[];
  takeOver?: RebuildBench;
  evaluator?: EvaluatorBench;
}

export interface Aim {
  /** Its name in the object of `--json`, where its value stands too. */
  readonly key: string;
  readonly what: string;
  /** null when a side of it was not measured. */
  readonly value: number | null;
  readonly bound: 'at most' | 'at least';
  readonly aim: number;
  readonly reached: boolean | null;
}

/** Every aim, also of what was not measured. */
export function toAims(results: Results): Aim[] {
  const { lines, kinds, transports, scaling, takeOver, evaluator } = results;
  const cpu = (name: string, other: string, among = lines) =>
    ratio(lineOf(among, name)?.cpuMicros, lineOf(among, other)?.cpuMicros);
  const allRoles = lineOf(lines, 'all roles')?.rounds.map(({ peakMb }) => peakMb);
  const uncompressed = transports.find(({ compression }) => compression === 'none');
  return [
    atMost('cpuRatioToRsyslog', 'indexer, CPU by that of rsyslog', cpu('logpipe', 'rsyslog'), 0.26),
    atMost('cpuRatioToOrdinary', 'indexer, CPU by that of the ordinary way', cpu('logpipe', 'ordinary'), 0.45),
    atLeast('ratioToRawBulk', 'indexer, events/s by those of raw bulk', pairedRate(lines, 'logpipe', 'raw bulk'), 0.85),
    atMost('counterRatioToIndexer', 'counter, CPU by that of the indexer', cpu('counter', 'logpipe'), 0.75),
    atMost('counterRatioToRsyslog', 'counter, CPU by that of rsyslog', cpu('counter', 'rsyslog'), 0.2),
    atMost('allRolesRatioToRsyslog', 'all roles, CPU by that of rsyslog', cpu('all roles', 'rsyslog'), 0.55),
    atMost('allRolesPeakMb', 'all roles, highest peak of the rounds, MiB', allRoles && Math.max(...allRoles), 256),
    ...(Object.keys(LINE_KINDS) as LineKind[]).map((kind) => {
      const what = `${LINE_KINDS[kind].lines}: indexer, CPU by that of the ordinary way`;
      return atMost(`${kind}RatioToOrdinary`, what, cpu('logpipe', 'ordinary', kinds[kind]?.lines ?? []), 0.8);
    }),
    atMost(
      'scalingDeviation',
      '1, 4, 16 partitions, one and two indexers: CPU, farthest from one indexer on 4',
      scaling && deviation(scaling),
      0.1,
    ),
    atMost(
      'transportRatioToFile',
      'transport, CPU by that of the File transport',
      uncompressed?.transportRatioToFile,
      0.7,
    ),
    atMost(
      'takeOverMs',
      'take-over at 5,000 events/s, from leading to evaluating, the worst, ms',
      takeOver?.takeOverMs.max,
      4_000,
    ),
    atMost('worstTickMs', 'worst tick, ms', evaluator?.tickMs.max, 40),
  ];
}

function lineOf(lines: readonly Line[], name: string): Line | undefined {
  return lines.find((line) => line.name === name);
}

function ratio(value: number | undefined, by: number | undefined): number | undefined {
  return value === undefined || by === undefined ? undefined : value / by;
}

/** End to end, each round beside the other's same round: what disturbs the machine changes between rounds. */
function pairedRate(lines: readonly Line[], name: string, other: string): number | undefined {
  const [ours, theirs] = [lineOf(lines, name)?.rounds, lineOf(lines, other)?.rounds];
  if (ours === undefined || theirs === undefined) return undefined;
  return median(ours.map(({ eventsPerSecond }, i) => eventsPerSecond / theirs[i]!.eventsPerSecond));
}

function deviation(results: readonly ScalingResult[]): number {
  const { cpuMicros: usual } = results.find((one) => one.layout === 'one indexer' && one.partitions === 4)!;
  const indexers = results.filter(({ layout }) => layout === 'one indexer' || layout === 'two indexers');
  return Math.max(...indexers.map(({ cpuMicros }) => Math.abs(cpuMicros / usual - 1)));
}

function atMost(key: string, what: string, value: number | undefined, aim: number): Aim {
  const reached = value === undefined ? null : value <= aim;
  return { key, what, value: shown(value), bound: 'at most', aim, reached };
}

function atLeast(key: string, what: string, value: number | undefined, aim: number): Aim {
  const reached = value === undefined ? null : value >= aim;
  return { key, what, value: shown(value), bound: 'at least', aim, reached };
}

/** With three digits, so that what is shown never looks reached when it is not. */
function shown(value: number | undefined): number | null {
  if (value === undefined) return null;
  return value >= 10 ? round(value, 1) : round(value, 3);
}

export interface Machine {
  readonly cores: number;
  readonly processor: string;
  readonly node: string;
  readonly kafka: string;
  readonly elasticsearch: string;
}

export function machine(versions: { kafka: string; elasticsearch: string }): Machine {
  return { cores: cpus().length, processor: cpus()[0]?.model ?? 'unknown', node: process.version, ...versions };
}

/** The object of `--json`: each aim's value by its key, and everything that was measured. */
export function toJson(results: Results, about: object) {
  const { lines, kinds, transports, spool, ship, scaling, takeOver, evaluator } = results;
  const aims = toAims(results);
  const ours = lineOf(lines, 'logpipe');
  const text = lineOf(lines, 'rsyslog text');
  return {
    cpuMicrosPerEvent: ours?.cpuMicros ?? null,
    ...Object.fromEntries(aims.map(({ key, value }) => [key, value])),
    throughputRatioToRsyslog: shown(pairedRate(lines, 'logpipe', 'rsyslog')),
    cpuRatioToRsyslogText: shown(ratio(ours?.cpuMicros, text?.cpuMicros)),
    aims,
    ...about,
    contenders: lines,
    kinds,
    transports,
    spool: spool ?? null,
    ship: ship ?? null,
    scaling: scaling ?? null,
    takeOver: takeOver ?? null,
    evaluator: evaluator ?? null,
  };
}

/** For people: a row per contender and per kind of lines, what else was measured, then the aims. */
export function toTable(results: Results, notes: readonly string[]): string {
  const { lines, kinds, transports, spool, ship, scaling, takeOver, evaluator } = results;
  const parts: string[] = [];
  if (lines.length > 0) parts.push(contenderTable(lines));
  if (Object.keys(kinds).length > 0) parts.push(kindTable(kinds));
  const calls = [...transports.map(transportLine), ...(spool === undefined ? [] : [spoolLine(spool)])];
  if (calls.length > 0) parts.push(calls.join('\n'));
  if (ship !== undefined) parts.push(shipLine(ship));
  if (scaling !== undefined) parts.push(scaling.map(scalingText).join('\n'));
  if (takeOver !== undefined) {
    const { takeOverMs, startedMs } = takeOver;
    const text = ({ median: middle, max }: typeof takeOverMs) => `median ${middle} ms, worst ${max} ms`;
    parts.push(
      `take-over by a new process, ${takeOverMs.trials} times: ${text(takeOverMs)}; from its start: ${text(startedMs)}`,
    );
  }
  if (evaluator !== undefined) {
    const { series, rules, tickMs } = evaluator;
    const figures = `median ${tickMs.p50.toFixed(1)} ms, worst ${tickMs.max.toFixed(1)} ms`;
    parts.push(`tick with ${rules} rules and ${series} series: ${figures}`);
  }
  const measured = toAims(results).filter(({ value }) => value !== null);
  if (measured.length > 0) parts.push(aimTable(measured));
  return [...parts, notes.join('\n')].join('\n\n');
}

function contenderTable(lines: readonly Line[]): string {
  const rows = [['', 'events/s', 'CPU µs/event', 'with start', 'peak MB', 'of raw bulk']];
  for (const line of lines) {
    rows.push([
      line.name,
      line.eventsPerSecond.toLocaleString('en'),
      line.cpuMicros.toFixed(1),
      line.wholeCpuMicros.toFixed(1),
      String(line.peakMb),
      // A counter writes no documents.
      line.name === 'counter' ? '-' : (pairedRate(lines, line.name, 'raw bulk')?.toFixed(2) ?? '-'),
    ]);
  }
  return aligned(rows);
}

function kindTable(kinds: Results['kinds']): string {
  const rows = [['CPU µs/event', 'events', 'rounds', 'bytes', 'logpipe', 'ordinary']];
  for (const [kind, { events, rounds, bytesPerLine, lines }] of Object.entries(kinds)) {
    const cpu = (name: string) => lineOf(lines, name)!.cpuMicros.toFixed(1);
    const counts = [events.toLocaleString('en'), String(rounds), String(bytesPerLine)];
    rows.push([LINE_KINDS[kind as LineKind].lines, ...counts, cpu('logpipe'), cpu('ordinary')]);
  }
  return aligned(rows);
}

function aimTable(aims: readonly Aim[]): string {
  const rows = [['', 'measured', 'aim', '']];
  for (const { what, value, bound, aim, reached } of aims) {
    rows.push([what, String(value), `${bound === 'at most' ? '≤' : '≥'} ${aim}`, reached ? 'reached' : 'missed']);
  }
  return aligned(rows);
}

function transportLine(bench: TransportBench): string {
  const { compression, transportMicrosPerInfo, fileMicrosPerInfo, transportRatioToFile } = bench;
  return `logger.info: Kafka transport, ${compression === 'none' ? 'not compressed' : compression}, ${transportMicrosPerInfo} µs, File transport ${fileMicrosPerInfo} µs CPU: ratio ${transportRatioToFile}`;
}

function spoolLine({ spoolMicrosPerInfo, fileMicrosPerInfo, spoolRatioToFile, drainedPerSecond }: SpoolBench): string {
  const write = `spool ${spoolMicrosPerInfo} µs, File transport ${fileMicrosPerInfo} µs CPU: ratio ${spoolRatioToFile}`;
  return `logger.info: ${write}; drained at ${drainedPerSecond.toLocaleString('en')} records/s`;
}

function shipLine({ logpipe, rsyslog, cpuRatio, throughputRatio }: ShipBench): string {
  const of = ({ cpuMicros, linesPerSecond, peakMb }: ShipBench['logpipe']) =>
    `${cpuMicros} µs CPU, ${linesPerSecond.toLocaleString('en')} lines/s, ${peakMb} MB`;
  return `ship: ${of(logpipe)}; rsyslog: ${of(rsyslog)}; CPU ratio ${cpuRatio}, throughput ratio ${throughputRatio}`;
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('   '))
    .join('\n');
}
