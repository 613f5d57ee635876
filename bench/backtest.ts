// `npm run bench:backtest`: one hour at 1,000 events a second through `logpipe backtest`'s stages, with the shipped rules and the
// warm-up they ask for. In: nothing; out: seconds and memory. Records are made in this process while they are read; the cost of making
// them is measured separately.
import { pathToFileURL } from 'node:url';
import { parseConfig } from '../src/config.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { createEventIds } from '../src/core/record.ts';
import { loadMeasures } from '../src/measure/measure-config.ts';
import { backtest } from '../src/replay/backtest.ts';
import type { StoredRecord } from '../src/replay/stored.ts';
import { loadRules, reachOf } from '../src/rules/rule-config.ts';
import { sampleLine } from './lines.ts';

const START = Date.parse('2026-11-24T08:00:00.000Z');
const PER_SECOND = 1_000;
const PARTITIONS = 4;
const KINDS = 20_000;
const TIME_AT = '{"timestamp":"'.length;

export interface BacktestBench {
  readonly rangeMinutes: number;
  readonly warmUpMinutes: number;
  readonly records: number;
  readonly warmUpRecords: number;
  readonly seconds: number;
  /** User and system time of the process: what other work on the machine does not change. */
  readonly cpuSeconds: number;
  /** CPU of only making the records; included in `cpuSeconds`. */
  readonly makingSeconds: number;
  readonly peakRssMB: number;
}

/** Lines that differ, with the time of each record written over that of its line. */
async function* generate(fromMs: number, toMs: number): AsyncGenerator<readonly StoredRecord[]> {
  const nextId = createEventIds(() => START);
  const lines = Array.from({ length: KINDS }, (_, i) => {
    const eventId = nextId();
    return { eventId, line: Buffer.from(sampleLine(i, START, eventId)) };
  });
  let n = 0;
  for (let ms = fromMs; ms < toMs; ms += 1_000) {
    const batch: StoredRecord[] = [];
    for (let i = 0; i < PER_SECOND; i++, n++) {
      const arrivalMs = ms + Math.floor((i * 1_000) / PER_SECOND);
      const { eventId, line } = lines[n % KINDS]!;
      const value = Buffer.from(line);
      value.write(new Date(arrivalMs).toISOString(), TIME_AT, 'latin1');
      batch.push({ arrivalMs, partition: n % PARTITIONS, value, eventId });
    }
    yield batch;
  }
}

function cpu(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

export async function benchBacktest(minutes: number, warmUpMs?: number): Promise<BacktestBench> {
  const file = (name: string) => `${packageRoot()}/config/${name}`;
  const measures = loadMeasures({ env: {}, file: file('measures.yml') });
  const rules = loadRules({ env: {}, file: file('rules.yml'), measures });
  const warm = warmUpMs ?? reachOf(rules);
  const [fromMs, toMs] = [START, START + minutes * 60_000];

  let made = 0;
  const before = process.cpuUsage();
  for await (const batch of generate(fromMs - warm, toMs)) made += batch.length;
  const makingSeconds = cpu(before);

  const began = performance.now();
  const used = process.cpuUsage();
  const { records, warmUpRecords } = await backtest(generate(fromMs - warm, toMs), {
    measures,
    rules,
    parse: parseConfig('', {}, 'defaults').parse,
    transforms: [],
    fromMs,
    toMs,
    warmUpMs: warm,
    tickMs: 5_000,
  });
  const seconds = (performance.now() - began) / 1_000;
  if (records + warmUpRecords !== made) throw new Error(`${made} records were made, ${records + warmUpRecords} taken`);
  return {
    rangeMinutes: minutes,
    warmUpMinutes: warm / 60_000,
    records,
    warmUpRecords,
    seconds,
    cpuSeconds: cpu(used),
    makingSeconds,
    peakRssMB: process.resourceUsage().maxRSS / 1024,
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const minutes = Number(process.argv[2] ?? 60);
  if (minutes > 0) process.stdout.write(`${JSON.stringify(await benchBacktest(minutes), null, 2)}\n`);
  else {
    process.stderr.write('Usage: npm run bench:backtest -- [minutes to judge, 60]\n');
    process.exitCode = 2;
  }
}
