// The evaluator: its tick and its rebuild (bench/evaluator.ts, in a process of its own), and a real take-over: an alerter is started on
// a counts topic that holds six hours. In: Kafka. Out: milliseconds.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LogpipeProcess } from '../../test/kit/process.ts';
import type { EvaluatorBench } from '../evaluator.ts';
import type { CostReader } from '../process-cost.ts';
import { FILLED_MS, type FilledCounts, fillCounts } from './counts-fill.ts';
import { RATE } from './latency.ts';
import { addressOf, createRig, evaluates, type Servers, until } from './rig.ts';
import { type Summary, summary } from './statistics.ts';

export interface RebuildBench {
  readonly hours: number;
  readonly filled: FilledCounts;
  /** Start of the process to its first evaluation when no hourly sums were kept, so that all of it is read. */
  readonly firstMs: number;
  /** Its successors read what the shipped rules look at, from a full hour on: from leading to the first evaluation. */
  readonly takeOverMs: Summary;
  /** The same from the start of the process: its group and the alert state come before, and the counts are read meanwhile. */
  readonly startedMs: Summary;
  readonly peakMb: number;
}

/** `bench/evaluator.ts` with its own garbage collected between the measurements. */
export async function measureEvaluator(): Promise<EvaluatorBench> {
  const program = fileURLToPath(new URL('../evaluator.js', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  const [status] = await once(child, 'close');
  process.off('exit', kill);
  if (status !== 0) throw new Error(`the evaluator's measurement ended with status ${status}`);
  return JSON.parse(text) as EvaluatorBench;
}

export async function measureRebuild(
  trials: number,
  deps: {
    readonly servers: Servers;
    readonly cost: CostReader;
    readonly run: string;
    readonly say: (line: string) => void;
  },
): Promise<RebuildBench> {
  const { say, cost } = deps;
  const settings = { sinks: { elasticsearch: false } };
  const rig = await createRig({ name: `${deps.run}-rebuild`, settings }, deps.servers);
  try {
    say('filling six hours of counts …');
    const filled = await fillCounts(rig.config.kafka, RATE);
    say(`${filled.records} records, ${filled.megabytes} MB`);
    const started: number[] = [];
    const caughtUp: number[] = [];
    let peakMb = 0;
    let firstMs = 0;
    for (let trial = 0; trial <= trials; trial++) {
      const began = performance.now();
      const child = rig.start('alerter');
      const { caughtUpMs } = await evaluates(child);
      const ms = Math.round(performance.now() - began);
      if (trial === 0) {
        firstMs = ms;
        await keptHours(child);
      } else {
        started.push(ms);
        caughtUp.push(caughtUpMs);
      }
      peakMb = Math.max(peakMb, cost(child.pid).peakMb);
      say(
        `${trial === 0 ? 'first start' : `take-over ${trial}`}: ${caughtUpMs} ms from leading to evaluating, ${ms} from its start`,
      );
      // A proper stop, so that the next one need not wait for the session timeout.
      child.kill('SIGTERM');
      await child.exit;
    }
    return {
      hours: FILLED_MS / 3_600_000,
      filled,
      firstMs,
      takeOverMs: summary(caughtUp),
      startedMs: summary(started),
      peakMb: Math.round(peakMb),
    };
  } finally {
    await rig.end();
  }
}

/** Resolves when the hours are durable: the first evaluation hands them out, and the second one begins after that. */
async function keptHours(child: LogpipeProcess): Promise<void> {
  const address = await addressOf(child);
  const evaluations = async () => {
    const text = await (await fetch(`${address}/metrics`)).text();
    return Number(/^logpipe_evaluation_seconds_count (\d+)/m.exec(text)?.[1] ?? 0);
  };
  await until(async () => (await evaluations()) >= 2, 'two evaluations', 60_000, 100);
}
