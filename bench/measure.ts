// One contender, one round: started, watched until every line is done, its costs read, ended by pid. The same ruler for all:
// Elasticsearch's own count of indexed documents, for a counter what it says in the counts topic, and /proc for the process.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import kafkajs from 'kafkajs';
import { sleep } from '../src/core/clock.ts';
import { LogpipeError } from '../src/core/errors.ts';
import { silentLog } from '../src/core/log.ts';
import { createKafka } from '../src/source/kafka/client.ts';
import { ensureTopics } from '../src/source/kafka/topics.ts';
import { endProcess } from '../stack/index.ts';
import type { Bench, Contender, Launch } from './contenders.ts';
import { followCounter } from './counter-progress.ts';
import type { CostReader } from './process-cost.ts';

const POLL_MS = 20;
/** What contenders write into. */
const INDICES = 'calling-platform-*,ordinary-*';
const STALL_MS = 60_000;
/** Characters; more than what logpipe says while it starts. */
const OUTPUT_KEPT = 20_000;

export interface Round {
  /** From the first to the last document that Elasticsearch took, or line that was counted. */
  readonly eventsPerSecond: number;
  /** CPU of the process over the whole round, start included, per event. */
  readonly wholeCpuMicros: number;
  readonly peakMb: number;
}

export interface MeasureDeps {
  readonly bench: Bench;
  readonly events: number;
  readonly topic: string;
  readonly cost: CostReader;
}

/** @throws LogpipeError LOGPIPE_USAGE when the contender ends early or makes no progress for a minute */
export async function measureRound(contender: Contender, id: string, deps: MeasureDeps): Promise<Round> {
  const { bench, events, cost } = deps;
  const launch = contender.launch(bench, deps.topic, id);
  await prepare(launch);
  const counter = launch.counter && (await followCounter(launch.counter));
  const running = start(launch, contender.name);
  try {
    if (contender.kind === 'prompted') {
      await running.line;
      running.child.stdin!.write('go\n');
    }
    const progress = async () => {
      const counted = counter?.progress().position ?? events;
      return contender.indexes ? Math.min(counted, await indexedCount(bench.node)) : counted;
    };
    let first: { at: number; count: number } | undefined;
    let last = { at: performance.now(), count: 0 };
    while (last.count < events) {
      running.check();
      const count = await progress();
      const at = performance.now();
      if (count > 0) first ??= { at, count };
      if (count > last.count) last = { at, count };
      else if (at - last.at > STALL_MS)
        throw failed(contender.name, `stands at ${count} of ${events}`, running.output());
      if (count < events) await sleep(POLL_MS);
    }
    const { cpuMicros, peakMb } = cost(running.pid);
    // So far attempts were counted; a contender whose documents were refused has not done the work.
    const found = contender.indexes ? await searchableCount(bench.node) : events;
    if (found < events) throw failed(contender.name, `indexed only ${found} of ${events}`, running.output());
    const seconds = (last.at - first!.at) / 1_000;
    return { eventsPerSecond: (last.count - first!.count) / seconds, wholeCpuMicros: cpuMicros / events, peakMb };
  } finally {
    await running.end();
    await counter?.end();
  }
}

/** Topics of its own, which logpipe does not create. */
async function prepare({ counter: kafka }: Launch): Promise<void> {
  if (kafka !== undefined) await ensureTopics(createKafka(kafka, silentLog), kafka, silentLog);
}

/**
 * CPU, in microseconds, of a start: the same program on an empty topic until it has joined its groups, works, and was idle for
 * a second; for a prompted one, until it waits.
 */
export async function measureStart(contender: Contender, id: string, deps: MeasureDeps): Promise<number> {
  const { bench } = deps;
  const launch = contender.launch(bench, `${deps.topic}-empty`, id);
  await prepare(launch);
  const running = start(launch, contender.name);
  try {
    if (contender.kind === 'prompted') await running.line;
    else await joined(bench.brokers, launch.groups, () => running.check());
    const deadline = performance.now() + STALL_MS;
    while (contender.ready !== undefined && !contender.ready.test(running.output())) {
      running.check();
      if (performance.now() > deadline) throw failed(contender.name, 'does not say that it works', running.output());
      await sleep(POLL_MS);
    }
    await sleep(1_000);
    running.check();
    return deps.cost(running.pid).cpuMicros;
  } finally {
    await running.end();
  }
}

/** Documents indexed so far; unlike a search it needs no refresh. */
export async function indexedCount(node: string): Promise<number> {
  const path = `${INDICES}/_stats/indexing?filter_path=_all.primaries.indexing.index_total`;
  const reply = await fetch(`${node}/${path}`);
  const body = (await reply.json()) as { _all?: { primaries?: { indexing?: { index_total?: number } } } };
  return body._all?.primaries?.indexing?.index_total ?? 0;
}

async function searchableCount(node: string): Promise<number> {
  await fetch(`${node}/${INDICES}/_refresh`, { method: 'POST' });
  return ((await (await fetch(`${node}/${INDICES}/_count`)).json()) as { count: number }).count;
}

/** Removes the indices of the previous round: every round writes into new ones. `node` is the bench's own server. */
export async function deleteIndices(node: string): Promise<void> {
  const reply = await fetch(`${node}/_cat/indices/${INDICES}?format=json&h=index`);
  if (!reply.ok) throw new Error(`listing indices: ${reply.status} ${await reply.text()}`);
  for (const { index } of (await reply.json()) as { index: string }[]) {
    await fetch(`${node}/${index}`, { method: 'DELETE' });
  }
}

async function joined(brokers: readonly string[], groups: readonly string[], check: () => void): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    const deadline = performance.now() + STALL_MS;
    while (performance.now() < deadline) {
      check();
      const described = await admin.describeGroups([...groups]);
      if (described.groups.every(({ state }) => state === 'Stable')) return;
      await sleep(100);
    }
  } finally {
    await admin.disconnect();
  }
  throw failed(groups.join(', '), 'did not join its consumer groups', '');
}

function start(launch: Launch, name: string) {
  const { PATH = '', HOME = '', TMPDIR = '' } = process.env;
  const child: ChildProcess = spawn(launch.command, launch.args, {
    env: { PATH, HOME, ...(TMPDIR && { TMPDIR }), ...launch.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close').then(() => undefined);
  let output = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_KEPT);
    });
  }
  child.stdin!.on('error', () => undefined);
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  return {
    child,
    pid: child.pid!,
    line: once(child.stdout!, 'data'),
    output: () => output,
    check() {
      if (child.exitCode !== null || child.signalCode !== null) throw failed(name, 'ended early', output);
    },
    async end() {
      await endProcess(child.pid!, { graceMs: 15_000, ended });
      process.off('exit', kill);
    },
  };
}

function failed(name: string, why: string, output: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', `bench: ${name} ${why}. Its output ends:\n${output.slice(-600)}`);
}
