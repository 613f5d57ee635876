// `npm run bench:replay`: compares a replay with live indexing on the same records in the same run, and copying out of Elasticsearch
// with elasticdump. Starts its own Kafka and Elasticsearch, never uses others; elasticdump is installed into a temporary folder, and
// left out with a note when that cannot be done.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Command, CommanderError } from 'commander';
import { loadConfig } from '../src/config.ts';
import { sleep } from '../src/core/clock.ts';
import { errorText, LogpipeError } from '../src/core/errors.ts';
import { silentLog } from '../src/core/log.ts';
import { NODE_FLAGS, packageRoot } from '../src/core/package-root.ts';
import { createElasticsearchClient, installTemplate } from '../src/indexing/elasticsearch.ts';
import { startElasticsearch, startKafka } from '../stack/index.ts';
import { createCleanUp } from './clean-up.ts';
import { type Bench, logpipe } from './contenders.ts';
import { BULK, createTopics, fill } from './fill.ts';
import { deleteIndices, indexedCount, measureRound } from './measure.ts';
import { createCostReader } from './process-cost.ts';
import { machine } from './report.ts';
import { startVersionFront } from './version-front.ts';

const TOPIC = 'logpipe-bench';
const HEAP = '2g';
const POLL_MS = 20;
const ELASTICDUMP = 'elasticdump@6';
const run = promisify(execFile);
const say = (line: string) => process.stderr.write(`${line}\n`);

interface Options {
  events: number;
  documents: number;
  rounds: number;
  elasticdump: boolean;
  json: boolean;
}

async function bench(options: Options): Promise<void> {
  const { folder, cleanUp, stop } = createCleanUp();
  try {
    say('starting Kafka and Elasticsearch …');
    const kafka = await startKafka({ onProgress: say });
    cleanUp.push(kafka.stop);
    const elasticsearch = await startElasticsearch({ heap: HEAP, onProgress: say });
    cleanUp.push(elasticsearch.stop);
    const node = elasticsearch.url;
    const config = loadConfig({
      file: join(packageRoot(), 'config', 'logpipe.yml'),
      env: { KAFKA_BROKERS: kafka.brokers[0], ELASTICSEARCH_URL: node },
    });
    const client = createElasticsearchClient(config.elasticsearch);
    await installTemplate(client, silentLog);
    await client.close();
    await createTopics(config.kafka, TOPIC);
    say(`filling ${options.events} records …`);
    const file = join(folder, 'bodies.ndjson');
    const filled = await fill(config.kafka, { topic: TOPIC, events: options.events, bodiesFile: file });
    const place: Bench = { brokers: kafka.brokers, node, folder, bodies: { file, lengths: filled.bodies } };

    const live: number[] = [];
    const replayed: number[] = [];
    const cost = createCostReader();
    // The first round warms Elasticsearch up and is not counted. They take turns at going first.
    for (let round = 0; round <= options.rounds; round++) {
      const rates = { live: 0, replay: 0 };
      for (const which of round % 2 === 0 ? (['live', 'replay'] as const) : (['replay', 'live'] as const)) {
        await deleteIndices(node);
        if (which === 'replay') rates.replay = await measureReplay(place, options.events);
        else {
          const work = { bench: place, events: options.events, topic: TOPIC, cost };
          rates.live = (await measureRound(logpipe('logpipe'), `live-${round}`, work)).eventsPerSecond;
        }
      }
      say(`round ${round}: live ${Math.round(rates.live)} events/s, replay ${Math.round(rates.replay)} events/s`);
      if (round === 0) continue;
      live.push(rates.live);
      replayed.push(rates.replay);
    }
    const front = await startVersionFront(node, elasticsearch.version);
    cleanUp.push(front.stop);
    const again = await wall(replayArgs(place, ['--from', '-2h', '--lateness', '0']));
    const result: Record<string, unknown> = {
      events: options.events,
      bytesPerLine: Math.round(filled.bytesPerLine),
      rounds: options.rounds,
      liveEventsPerSecond: Math.round(median(live)),
      replayEventsPerSecond: Math.round(median(replayed)),
      ratioToLive: to2(median(replayed) / median(live)),
      // Everything is there already: what a second replay costs, from start to end of the process.
      secondReplaySeconds: to2(again),
      // Both tools go through the front, so that neither has an extra hop.
      ...(await copying({ ...place, node: front.url }, options)),
      machine: machine({ kafka: kafka.version, elasticsearch: elasticsearch.version }),
    };
    process.stdout.write(`${JSON.stringify(result, undefined, options.json ? 0 : 2)}\n`);
  } finally {
    await stop();
  }
}

/** From the first to the last document, as Elasticsearch counts them: the ruler of live indexing. */
async function measureReplay(place: Bench, events: number): Promise<number> {
  const child = start(replayArgs(place, ['--from', '-2h', '--lateness', '0', '--no-yield']));
  let ended = false;
  const exit = once(child.process, 'close').then(() => {
    ended = true;
  });
  let first: { at: number; count: number } | undefined;
  let last = { at: performance.now(), count: 0 };
  while (last.count < events) {
    const over = ended;
    const count = await indexedCount(place.node);
    const at = performance.now();
    if (count > 0) first ??= { at, count };
    if (count > last.count) last = { at, count };
    if (over && count < events) throw failed('replay', `indexed ${count} of ${events}`, child.output());
    if (count < events) await sleep(POLL_MS);
  }
  await exit;
  return (last.count - first!.count) / ((last.at - first!.at) / 1_000);
}

/** Copies the same documents from one index into another with each tool, measured from start to end of its process. */
async function copying(place: Bench, options: Options): Promise<Record<string, unknown>> {
  const { node } = place;
  const source = 'logpipe-replay-source-*';
  await wall(
    replayArgs(place, ['--from', '-2h', '--no-yield', '--limit', String(options.documents), '--to-index', 'source']),
  );
  await es(node, 'POST', `/${source}/_refresh`);
  const count = async (index: string) => {
    await es(node, 'POST', `/${index}/_refresh`);
    const found = ((await es(node, 'GET', `/${index}/_count`)) as { count: number }).count;
    if (found !== options.documents) throw failed(index, `holds ${found} of ${options.documents}`, '');
    await es(node, 'DELETE', `/${index}`);
  };
  const args = ['--source', 'index', '--index-pattern', source, '--from', '-1d', '--no-yield', '--to-index', 'bench'];
  const ours: number[] = [];
  for (let round = 0; round < options.rounds; round++) {
    ours.push(await wall(replayArgs(place, args)));
    const [{ index }] = (await es(node, 'GET', '/_cat/indices/logpipe-replay-bench-*?format=json&h=index')) as [
      { index: string },
    ];
    await count(index);
    say(`copying with logpipe: ${ours.at(-1)!.toFixed(1)} s`);
  }
  const result = { documents: options.documents, copySeconds: to2(median(ours)) };
  const elasticdump = options.elasticdump ? await install(place.folder) : undefined;
  if (elasticdump === undefined) return { ...result, elasticdump: 'not measured: it could not be installed' };
  // Named so that both copies get the same mappings.
  const dumped = 'logpipe-replay-dumped-2026.01.01';
  const dump = async (limit: number) => {
    const seconds = await wall([
      elasticdump,
      `--input=${node}/${source}`,
      `--output=${node}/${dumped}`,
      '--type=data',
      `--limit=${limit}`,
      '--quiet',
    ]);
    await count(dumped);
    say(`copying with elasticdump, --limit=${limit}: ${seconds.toFixed(1)} s`);
    return seconds;
  };
  const shipped = await dump(100);
  // Its own limit is 100; this is the best it can do.
  const best = Math.min(await dump(2_000), await dump(10_000));
  return {
    ...result,
    elasticdumpSeconds: to2(shipped),
    elasticdumpBestSeconds: to2(best),
    ratioToElasticdump: to2(shipped / median(ours)),
    ratioToElasticdumpBest: to2(best / median(ours)),
  };
}

async function install(folder: string): Promise<string | undefined> {
  try {
    say(`installing ${ELASTICDUMP} into a temporary folder …`);
    const args = [
      'install',
      ELASTICDUMP,
      '--prefix',
      folder,
      '--no-save',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
    ];
    await run('npm', args, { cwd: folder, timeout: 180_000 });
    return join(folder, 'node_modules', 'elasticdump', 'bin', 'elasticdump');
  } catch (error) {
    say(`elasticdump could not be installed: ${errorText(error).slice(0, 200)}`);
    return undefined;
  }
}

function replayArgs(place: Bench, args: readonly string[]): string[] {
  const config = {
    kafka: { brokers: place.brokers, topics: { logs: TOPIC, dlq: `${TOPIC}.dlq` } },
    elasticsearch: { nodes: [place.node] },
    bulk: { maxDocuments: BULK.documents, concurrency: BULK.concurrency },
  };
  const file = join(place.folder, 'replay.yml');
  // JSON is YAML too.
  writeFileSync(file, JSON.stringify(config));
  const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
  return [...NODE_FLAGS, main, 'replay', '--config', file, '--json', ...args];
}

function start(args: readonly string[]) {
  const { PATH = '', HOME = '', TMPDIR = '' } = process.env;
  const child = spawn(process.execPath, args, { env: { PATH, HOME, TMPDIR }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-1_000);
    });
  }
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('close', () => process.off('exit', kill));
  return { process: child, output: () => output };
}

/** Seconds from start to end. */
async function wall(args: readonly string[]): Promise<number> {
  const began = performance.now();
  const child = start(args);
  const [status] = await once(child.process, 'close');
  if (status !== 0) throw failed(args[1] ?? 'program', `ended with ${status}`, child.output());
  return (performance.now() - began) / 1_000;
}

async function es(node: string, method: string, path: string, body?: object): Promise<unknown> {
  const reply = await fetch(`${node}${path}`, {
    method,
    headers: { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await reply.text();
  if (!reply.ok) throw failed(`${method} ${path}`, `was answered ${reply.status}`, text.slice(0, 300));
  return JSON.parse(text);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function to2(value: number): number {
  return Math.round(value * 100) / 100;
}

function failed(name: string, why: string, output: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', `bench: ${name} ${why}. Its output ends:\n${output}`);
}

const number = (text: string) => {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new LogpipeError('LOGPIPE_USAGE', `bench: found ${text}; permitted: a whole number above 0`);
};

const program = new Command('bench:replay')
  .description('Measures a replay beside live indexing, and a copy of an index beside elasticdump.')
  .option('--events <count>', 'records in Kafka', number, 400_000)
  .option('--documents <count>', 'documents to copy', number, 200_000)
  .option('--rounds <count>', 'rounds; medians are shown', number, 3)
  .option('--no-elasticdump', 'leave elasticdump out')
  .option('--json', 'on one line', false)
  .addHelpText('after', '\nExamples:\n  npm run bench:replay\n  npm run bench:replay -- --events 200000 --rounds 1')
  .exitOverride();

try {
  await program.parseAsync();
  await bench(program.opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof LogpipeError) {
    say(`bench: ${error.message} [${error.code}]`);
    process.exitCode = error.code === 'LOGPIPE_USAGE' ? 2 : 1;
  } else throw error;
}
