// What an event costs on 1, 4 and 16 partitions, with one and two instances, and with roles in one process or apart. In: Kafka and
// Elasticsearch, which `npm run bench:scaling` starts itself. Out: the CPU of all processes together by the number of events, without what
// starts cost.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Command, CommanderError } from 'commander';
import { parseConfig } from '../src/config.ts';
import { sleep } from '../src/core/clock.ts';
import { errorText } from '../src/core/errors.ts';
import { silentLog } from '../src/core/log.ts';
import { NODE_FLAGS } from '../src/core/package-root.ts';
import { createElasticsearchClient, installTemplate } from '../src/indexing/elasticsearch.ts';
import { createKafka } from '../src/source/kafka/client.ts';
import { ensureTopics } from '../src/source/kafka/topics.ts';
import { startElasticsearch, startKafka } from '../stack/index.ts';
import { createCleanUp } from './clean-up.ts';
import { createTopics, fill } from './fill.ts';
import { deleteIndices } from './measure.ts';
import { type CostReader, createCostReader } from './process-cost.ts';
import { median, round } from './transport.ts';

interface Options {
  readonly events: number;
  readonly rounds: number;
  readonly json: boolean;
}

/** The roles of each process. */
const LAYOUTS = {
  'one indexer': [['indexer']],
  'two indexers': [['indexer'], ['indexer']],
  'indexer and counter in one process': [['indexer', 'counter']],
  'indexer and counter apart': [['indexer'], ['counter']],
} as const;
type Layout = keyof typeof LAYOUTS;

const PARTITIONS = [1, 4, 16];
/** Answering costs the process half a millisecond. */
const LOOK_MS = 250;
const PATIENCE_MS = 300_000;

const say = (text: string) => process.stderr.write(`${text}\n`);

export interface ScalingResult {
  readonly partitions: number;
  readonly layout: Layout;
  readonly cpuMicros: number;
  readonly eventsPerSecond: number;
}

export interface ScalingDeps {
  readonly brokers: readonly string[];
  /** Elasticsearch, with the index template installed. */
  readonly node: string;
  readonly folder: string;
  readonly cost: CostReader;
  readonly say: (line: string) => void;
}

export async function benchScaling(
  { events, rounds }: Pick<Options, 'events' | 'rounds'>,
  { say, ...place }: ScalingDeps,
): Promise<ScalingResult[]> {
  const results: ScalingResult[] = [];
  for (const partitions of PARTITIONS) {
    const deps = { ...place, events };
    const topic = `scaling-${partitions}`;
    const { kafka } = parseConfig(JSON.stringify(configOf(deps, topic, topic)), {}, 'bench');
    await createTopics(kafka, topic, partitions);
    await fill(kafka, { topic, events, partitions });
    for (const layout of Object.keys(LAYOUTS) as Layout[]) {
      const starts = await runLayout(layout, { ...deps, topic: `${topic}-empty`, events: 0 }, `start-${partitions}`);
      const runs = [];
      for (let i = 0; i < rounds; i++) {
        await deleteIndices(place.node);
        runs.push(await runLayout(layout, { ...deps, topic }, `round-${i}-${partitions}`));
      }
      const result: ScalingResult = {
        ...{ partitions, layout },
        cpuMicros: round(median(runs.map(({ cpuMicros }) => (cpuMicros - starts.cpuMicros) / events))),
        eventsPerSecond: Math.round(median(runs.map(({ seconds }) => events / seconds))),
      };
      say(scalingText(result));
      results.push(result);
    }
  }
  return results;
}

export function scalingText({ partitions, layout, cpuMicros, eventsPerSecond }: ScalingResult): string {
  const rate = eventsPerSecond.toLocaleString('en').padStart(8);
  return `${String(partitions).padStart(2)} partitions  ${layout.padEnd(36)} ${cpuMicros.toFixed(1).padStart(6)} µs CPU per event ${rate} events/s`;
}

interface Deps extends Omit<ScalingDeps, 'say'> {
  readonly events: number;
}

const elasticsearchYaml = (node: string) => JSON.stringify({ elasticsearch: { nodes: [node] } });

function configOf({ brokers, node }: Deps, topic: string, group: string) {
  const topics = {
    logs: topic,
    dlq: `${topic}.dlq`,
    counts: `${group}-counts`,
    alerts: `${group}-alerts`,
    commands: `${group}-commands`,
  };
  return {
    kafka: { brokers, topics, group, counterGroup: `${group}-counter`, alerterGroup: `${group}-alerter` },
    elasticsearch: { nodes: [node] },
    http: { port: 0 },
  };
}

/** From the first process to the moment at which all events are indexed and, where there is a counter, counted. */
async function runLayout(
  layout: Layout,
  deps: Deps & { readonly topic: string },
  id: string,
): Promise<{ readonly cpuMicros: number; readonly seconds: number }> {
  const group = `${id}-${Object.keys(LAYOUTS).indexOf(layout)}`;
  const config = configOf(deps, deps.topic, group);
  await ensureTopics(
    createKafka(parseConfig(JSON.stringify(config), {}, 'bench').kafka, silentLog),
    parseConfig(JSON.stringify(config), {}, 'bench').kafka,
    silentLog,
  );
  const home = join(deps.folder, group);
  mkdirSync(home);
  const file = join(home, 'logpipe.yml');
  writeFileSync(file, JSON.stringify(config));
  const processes = LAYOUTS[layout].map((roles) => start(file, roles));
  const hasCounter = LAYOUTS[layout].flat().includes('counter' as never);
  try {
    const urls = await Promise.all(processes.map(({ url }) => url));
    const startedMs = performance.now();
    for (;;) {
      const figures = await Promise.all(urls.map(figuresOf));
      const sum = (key: 'indexed' | 'counted') => figures.reduce((total, figure) => total + figure[key], 0);
      if (sum('indexed') >= deps.events && (!hasCounter || sum('counted') >= deps.events)) break;
      if (performance.now() - startedMs > PATIENCE_MS) throw new Error(`bench: ${layout} stands at ${sum('indexed')}`);
      await sleep(LOOK_MS);
    }
    const seconds = (performance.now() - startedMs) / 1_000;
    if (deps.events === 0) await sleep(3_000);
    const cpuMicros = processes.reduce((sum, { child }) => sum + deps.cost(child.pid!).cpuMicros, 0);
    return { cpuMicros, seconds };
  } finally {
    await Promise.all(processes.map(({ end }) => end()));
  }
}

async function figuresOf(url: string): Promise<{ readonly indexed: number; readonly counted: number }> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const value = (pattern: RegExp) => Number(pattern.exec(metrics)?.[1] ?? 0);
  return {
    indexed: value(/^logpipe_indexed_total\{sink="elasticsearch"\} (\d+)/m),
    counted: value(/^logpipe_counted_total (\d+)/m),
  };
}

function start(config: string, roles: readonly string[]) {
  const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
  const child: ChildProcess = spawn(
    process.execPath,
    [...NODE_FLAGS, main, 'run', '--config', config, '--roles', roles.join(','), '--exit-with-parent'],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  );
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const url = new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stderr! }).on('line', (line) => {
      if (line.includes('"message":"running"')) resolve((JSON.parse(line) as { url: string }).url);
    });
    void exited.then(() => reject(new Error('bench: logpipe ended early')));
  });
  url.catch(() => {});
  return {
    child,
    url,
    async end() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

async function main({ events, rounds, json }: Options): Promise<void> {
  const { folder, cleanUp, stop } = createCleanUp();
  try {
    const kafka = await startKafka({ onProgress: say });
    cleanUp.push(kafka.stop);
    const { url: node, stop: end } = await startElasticsearch({ heap: '2g', onProgress: say });
    cleanUp.push(end);
    const client = createElasticsearchClient(parseConfig(elasticsearchYaml(node), {}, 'bench').elasticsearch);
    await installTemplate(client, silentLog);
    await client.close();
    const deps = { brokers: kafka.brokers, node, folder, cost: createCostReader(), say };
    const results = await benchScaling({ events, rounds }, deps);
    process.stdout.write(
      json ? `${JSON.stringify({ events, rounds, results })}\n` : `${results.map(scalingText).join('\n')}\n`,
    );
  } finally {
    await stop();
  }
}

const number = (given: string) => {
  const value = Number(given);
  if (Number.isInteger(value) && value > 0) return value;
  throw new CommanderError(2, 'bench', `bench: found ${given}; permitted: a whole number above 0`);
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const program = new Command('bench:scaling')
    .description('What an event costs with 1, 4 and 16 partitions, one and two instances, roles together and apart.')
    .option('--json', 'one JSON object on standard output', false)
    .option('--events <count>', 'records per topic', number, 200_000)
    .option('--rounds <count>', 'rounds; medians are shown', number, 3)
    .addHelpText('after', '\nExample:\n  npm run bench:scaling -- --events 100000 --rounds 1')
    .exitOverride();
  try {
    await program.parseAsync();
    await main(program.opts<Options>());
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else {
      say(errorText(error));
      process.exitCode = 1;
    }
  }
}
