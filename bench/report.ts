// Rounds -> medians -> the table and the one object of `--json`.
import { cpus } from 'node:os';
import type { Round } from './measure.ts';
import type { TransportBench } from './transport.ts';

export interface Line {
  readonly name: string;
  readonly eventsPerSecond: number;
  /** Process CPU per event without the cost of a start. */
  readonly cpuMicros: number;
  /** The same with the start. */
  readonly wholeCpuMicros: number;
  readonly peakMb: number;
  readonly rounds: readonly Round[];
}

/** @param startMicros CPU of a start, for the whole process */
export function toLine(name: string, rounds: readonly Round[], startMicros: number, events: number): Line {
  const wholeCpuMicros = median(rounds.map((r) => r.wholeCpuMicros));
  return {
    name,
    eventsPerSecond: Math.round(median(rounds.map((r) => r.eventsPerSecond))),
    cpuMicros: to2(wholeCpuMicros - startMicros / events),
    wholeCpuMicros: to2(wholeCpuMicros),
    peakMb: Math.round(median(rounds.map((r) => r.peakMb))),
    rounds,
  };
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

/** The object of `--json`; a ratio is null when one of its sides was not measured. */
export function toJson(lines: readonly Line[], transport: TransportBench | undefined, about: object) {
  const line = (name: string) => lines.find((candidate) => candidate.name === name);
  const logpipe = line('logpipe');
  const by = (name: string, key: 'eventsPerSecond' | 'cpuMicros') => {
    const other = line(name);
    return logpipe && other ? to2(logpipe[key] / other[key]) : null;
  };
  return {
    cpuMicrosPerEvent: logpipe?.cpuMicros ?? null,
    ratioToRawBulk: by('raw bulk', 'eventsPerSecond'),
    cpuRatioToRsyslog: by('rsyslog', 'cpuMicros'),
    throughputRatioToRsyslog: by('rsyslog', 'eventsPerSecond'),
    cpuRatioToRsyslogText: by('rsyslog text', 'cpuMicros'),
    cpuRatioToOrdinary: by('ordinary', 'cpuMicros'),
    transportRatioToFile: transport?.transportRatioToFile ?? null,
    ...about,
    contenders: lines,
    transport: transport ?? null,
  };
}

/** For people: one row per contender, ratios to the raw bulk's events/s. */
export function toTable(
  lines: readonly Line[],
  transport: TransportBench | undefined,
  notes: readonly string[],
): string {
  const raw = lines.find(({ name }) => name === 'raw bulk');
  const rows = [['', 'events/s', 'CPU µs/event', 'with start', 'peak MB', 'of raw bulk']];
  for (const line of lines) {
    const ratio = raw === undefined ? '-' : (line.eventsPerSecond / raw.eventsPerSecond).toFixed(2);
    rows.push([
      line.name,
      line.eventsPerSecond.toLocaleString('en'),
      line.cpuMicros.toFixed(1),
      line.wholeCpuMicros.toFixed(1),
      String(line.peakMb),
      ratio,
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (row: string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('   ');
  const text = [...rows.map(pad), ''];
  if (transport !== undefined) {
    const { transportMicrosPerInfo, fileMicrosPerInfo, transportRatioToFile } = transport;
    text.push(
      `logger.info: Kafka transport ${transportMicrosPerInfo} µs, File transport ${fileMicrosPerInfo} µs CPU: ratio ${transportRatioToFile}`,
    );
  }
  return [...text, ...notes].join('\n');
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function to2(value: number): number {
  return Math.round(value * 100) / 100;
}
