// `logpipe ship` beside rsyslog's imfile -> omkafka: the same file into a topic of its own, the same packing, every line acknowledged by
// the broker. In: a Kafka; it works in a temporary folder. Out: medians over interleaved rounds. rsyslog copies each line as text;
// logpipe reads it, gives it an id and masks what is secret.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import kafkajs from 'kafkajs';
import { sleep } from '../src/core/clock.ts';
import { NODE_FLAGS } from '../src/core/package-root.ts';
import { createEventIds } from '../src/core/record.ts';
import { createUsable } from '../src/source/kafka/topics.ts';
import { MODULE_FOLDERS, RSYSLOGD } from './contenders.ts';
import { sampleLine } from './lines.ts';
import type { CostReader } from './process-cost.ts';
import { median, round } from './transport.ts';

export interface ShipBench {
  readonly events: number;
  readonly rounds: number;
  /** CPU per line without what a start costs, and lines a second from the first to the last in the topic. */
  readonly logpipe: ShipCost;
  readonly rsyslog: ShipCost;
  /** logpipe's by rsyslog's. */
  readonly cpuRatio: number;
  readonly throughputRatio: number;
}

interface ShipCost {
  readonly cpuMicros: number;
  readonly linesPerSecond: number;
  readonly peakMb: number;
}

type Name = 'logpipe' | 'rsyslog';

const PARTITIONS = 4;
const LOOK_MS = 10;

export function shipPeerInstalled(): boolean {
  const has = (module: string) => MODULE_FOLDERS.some((folder) => existsSync(join(folder, module)));
  return existsSync(RSYSLOGD) && has('imfile.so') && has('omkafka.so');
}

/** @throws when lines are missing in the topic */
export async function benchShip(
  brokers: readonly string[],
  cost: CostReader,
  { events, rounds }: { readonly events: number; readonly rounds: number },
): Promise<ShipBench> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-bench-ship-'));
  const admin = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    const files = { full: join(folder, 'full.log'), short: join(folder, 'short.log') };
    fillFile(files.full, events);
    fillFile(files.short, 1);
    const results: Record<Name, ShipCost[]> = { logpipe: [], rsyslog: [] };
    for (let i = 0; i <= rounds; i++) {
      const names: Name[] = i % 2 === 0 ? ['logpipe', 'rsyslog'] : ['rsyslog', 'logpipe'];
      for (const name of names) {
        const start = await run(name, files.short, 1, `start-${i}`);
        const whole = await run(name, files.full, events, `round-${i}`);
        // The first round warms up the broker and the disk.
        if (i > 0) results[name].push({ ...whole, cpuMicros: (whole.cpuMicros - start.cpuMicros) / events });
      }
    }
    const of = (name: Name): ShipCost => ({
      cpuMicros: round(median(results[name].map(({ cpuMicros }) => cpuMicros))),
      linesPerSecond: Math.round(median(results[name].map(({ linesPerSecond }) => linesPerSecond))),
      peakMb: Math.round(median(results[name].map(({ peakMb }) => peakMb))),
    });
    const [logpipe, rsyslog] = [of('logpipe'), of('rsyslog')];
    return {
      ...{ events, rounds, logpipe, rsyslog },
      cpuRatio: round(logpipe.cpuMicros / rsyslog.cpuMicros),
      throughputRatio: round(logpipe.linesPerSecond / rsyslog.linesPerSecond),
    };
  } finally {
    await admin.disconnect();
    rmSync(folder, { recursive: true, force: true });
  }

  async function run(name: Name, file: string, lines: number, id: string): Promise<ShipCost> {
    const topic = `bench-ship-${name}-${id}`;
    const configEntries = [{ name: 'message.timestamp.type', value: 'LogAppendTime' }];
    await createUsable(admin, { topic, numPartitions: PARTITIONS, configEntries });
    const home = join(folder, topic);
    mkdirSync(home);
    const { command, args } = (name === 'logpipe' ? logpipeShip : rsyslogShip)({ brokers, topic, file, home });
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      let firstMs = 0;
      for (;;) {
        const sent = await sentTo(topic);
        const nowMs = performance.now();
        if (sent > 0 && firstMs === 0) firstMs = nowMs;
        if (sent >= lines) {
          const { cpuMicros, peakMb } = cost(child.pid!);
          return { cpuMicros, peakMb, linesPerSecond: (lines / (nowMs - firstMs)) * 1_000 };
        }
        if (child.exitCode !== null) throw new Error(`bench: ${name} ended with ${sent} of ${lines} lines sent`);
        await sleep(LOOK_MS);
      }
    } finally {
      await end(child);
      await admin.deleteTopics({ topics: [topic] });
    }
  }

  async function sentTo(topic: string): Promise<number> {
    try {
      return (await admin.fetchTopicOffsets(topic)).reduce((sum, { high }) => sum + Number(high), 0);
    } catch (error) {
      // A new topic's leaders may not know yet that they lead.
      if ((error as { retriable?: boolean }).retriable === true) return 0;
      throw error;
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}

function fillFile(path: string, events: number): void {
  const nextId = createEventIds();
  const file = openSync(path, 'w');
  for (let i = 0; i < events; ) {
    let text = '';
    for (const until = Math.min(events, i + 1_000); i < until; i++) {
      text += `${sampleLine(i, Date.now(), nextId())}\n`;
    }
    writeSync(file, text);
  }
  closeSync(file);
}

interface Launch {
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly file: string;
  readonly home: string;
}

function logpipeShip({ brokers, topic, file, home }: Launch) {
  const config = join(home, 'logpipe.yml');
  // JSON is YAML too.
  const ship = { dataDir: join(home, 'data'), http: { enabled: false }, inputs: [{ files: [file], service: 'bench' }] };
  writeFileSync(config, JSON.stringify({ kafka: { brokers, topics: { logs: topic } }, ship, log: { level: 'warn' } }));
  const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
  return { command: process.execPath, args: [...NODE_FLAGS, main, 'ship', '--config', config] };
}

function rsyslogShip({ brokers, topic, file, home }: Launch) {
  const config = join(home, 'rsyslog.conf');
  const list = brokers.map((broker) => `"${broker}"`).join(',');
  writeFileSync(
    config,
    `global(workDirectory="${home}" maxMessageSize="64k")
module(load="imfile")
module(load="omkafka")
template(name="line" type="list") { property(name="msg") }
input(type="imfile" file="${file}" tag="bench" freshStartTail="off" ruleset="ship")
ruleset(name="ship" queue.type="FixedArray" queue.size="50000" queue.dequeueBatchSize="2000") {
  action(type="omkafka" broker=[${list}] topic="${topic}" template="line" partitions.auto="on"
    confParam=["compression.codec=lz4", "acks=all", "linger.ms=50", "batch.num.messages=5000"])
}
`,
  );
  return { command: RSYSLOGD, args: ['-n', '-f', config, '-i', join(home, 'pid')] };
}
