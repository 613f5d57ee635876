// What an event costs on 1, 4 and 16 partitions, with one and two instances, and with roles in one process or apart. In: nothing; it
// starts Kafka and Elasticsearch. Out: a table; the CPU of all processes together by the number of events, without what starts cost.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { parseConfig } from '../src/config.ts';
import { sleep } from '../src/core/clock.ts';
import { errorText } from '../src/core/errors.ts';
import { silentLog } from '../src/core/log.ts';
import { NODE_FLAGS } from '../src/core/package-root.ts';
import { createElasticsearchClient, installTemplate } from '../src/indexing/elasticsearch.ts';
import { createKafka, defaultPartitioner, type KafkaConfig } from '../src/source/kafka/client.ts';
import { ensureTopics } from '../src/source/kafka/topics.ts';
import { startElasticsearch, startKafka } from '../stack/index.ts';
import { createCleanUp } from './clean-up.ts';
import { sampleRecords } from './lines.ts';
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
const PER_REQUEST = 1_000;
const LOOK_MS = 50;
const PATIENCE_MS = 300_000;

const say = (text: string) => process.stderr.write(`${text}\n`);

interface Result {
  readonly partitions: number;
  readonly layout: Layout;
  readonly cpuMicros: number;
  readonly eventsPerSecond: number;
}

async function scaling({ events, rounds, json }: Options): Promise<void> {
  const cost = createCostReader();
  const { cleanUp, stop } = createCleanUp();
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-bench-scaling-'));
  try {
    const kafka = await startKafka({ onProgress: say });
    cleanUp.push(kafka.stop);
    const elasticsearch = await startElasticsearch({ heap: '2g', onProgress: say });
    cleanUp.push(elasticsearch.stop);
    const client = createElasticsearchClient(
      parseConfig(elasticsearchYaml(elasticsearch.url), {}, 'bench').elasticsearch,
    );
    await installTemplate(client, silentLog);
    await client.close();
    const results: Result[] = [];
    for (const partitions of PARTITIONS) {
      const deps = { brokers: kafka.brokers, node: elasticsearch.url, folder, cost, events };
      const empty = await fill(deps, { topic: `scaling-${partitions}-empty`, partitions, count: 0 });
      const full = await fill(deps, { topic: `scaling-${partitions}`, partitions, count: events });
      for (const layout of Object.keys(LAYOUTS) as Layout[]) {
        const starts = await runLayout(layout, { ...deps, topic: empty, events: 0 }, `start-${partitions}`);
        const runs = [];
        for (let i = 0; i < rounds; i++) {
          await deleteIndices(elasticsearch.url);
          runs.push(await runLayout(layout, { ...deps, topic: full }, `round-${i}-${partitions}`));
        }
        const result: Result = {
          ...{ partitions, layout },
          cpuMicros: round(median(runs.map(({ cpuMicros }) => (cpuMicros - starts.cpuMicros) / events))),
          eventsPerSecond: Math.round(median(runs.map(({ seconds }) => events / seconds))),
        };
        say(text(result));
        results.push(result);
      }
    }
    process.stdout.write(
      json ? `${JSON.stringify({ events, rounds, results })}\n` : `${results.map(text).join('\n')}\n`,
    );
  } finally {
    await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function text({ partitions, layout, cpuMicros, eventsPerSecond }: Result): string {
  const rate = eventsPerSecond.toLocaleString('en').padStart(8);
  return `${String(partitions).padStart(2)} partitions  ${layout.padEnd(36)} ${cpuMicros.toFixed(1).padStart(6)} µs CPU per event ${rate} events/s`;
}

interface Deps {
  readonly brokers: readonly string[];
  readonly node: string;
  readonly folder: string;
  readonly cost: CostReader;
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

async function fill(
  deps: Deps,
  { topic, partitions, count }: { readonly topic: string; readonly partitions: number; readonly count: number },
): Promise<string> {
  const { kafka } = parseConfig(JSON.stringify(configOf(deps, topic, topic)), {}, 'bench');
  const client = createKafka(kafka as KafkaConfig, silentLog);
  const admin = client.admin();
  await admin.connect();
  const configEntries = [{ name: 'message.timestamp.type', value: 'LogAppendTime' }];
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }], waitForLeaders: true });
  await admin.disconnect();
  const producer = client.producer({ createPartitioner: defaultPartitioner });
  await producer.connect();
  const records = sampleRecords(count, Date.now() - count);
  for (let sent = 0; sent < count; sent += PER_REQUEST) {
    const partition = (sent / PER_REQUEST) % partitions;
    const messages = records
      .slice(sent, sent + PER_REQUEST)
      .map(({ value, eventId }) => ({ value, partition, headers: { eventId: eventId! } }));
    await producer.send({ topic, messages });
  }
  await producer.disconnect();
  return topic;
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

const number = (given: string) => {
  const value = Number(given);
  if (Number.isInteger(value) && value > 0) return value;
  throw new CommanderError(2, 'bench', `bench: found ${given}; permitted: a whole number above 0`);
};

const program = new Command('bench:scaling')
  .description('What an event costs with 1, 4 and 16 partitions, one and two instances, roles together and apart.')
  .option('--json', 'one JSON object on standard output', false)
  .option('--events <count>', 'records per topic', number, 200_000)
  .option('--rounds <count>', 'rounds; medians are shown', number, 3)
  .addHelpText('after', '\nExample:\n  npm run bench:scaling -- --events 100000 --rounds 1')
  .exitOverride();
try {
  await program.parseAsync();
  await scaling(program.opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    say(errorText(error));
    process.exitCode = 1;
  }
}
