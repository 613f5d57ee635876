// `npm run bench:alerts`: how fast alerting is and what it costs, on servers it starts itself. In: options. Out: a table, or one
// object with --json; progress on standard error. What it measures is beside it, one file each.

import { randomBytes } from 'node:crypto';
import { loadavg } from 'node:os';
import { Command, CommanderError } from 'commander';
import { errorText, LogpipeError } from '../../src/core/errors.ts';
import { silentLog } from '../../src/core/log.ts';
import { createElasticsearchClient, installTemplate } from '../../src/indexing/elasticsearch.ts';
import { startElasticsearch, startKafka } from '../../stack/index.ts';
import { createCleanUp } from '../clean-up.ts';
import { createCostReader } from '../process-cost.ts';
import { machine } from '../report.ts';
import { BLIND_CASES, type BlindCase, measureBlind } from './blind.ts';
import { measureCost } from './cost.ts';
import { measureEvaluator, measureRebuild } from './evaluator.ts';
import { type LatencyTrial, measureLatency, SPLITS, type Split } from './latency.ts';
import { type AlertingResults, toBlind, toLatency, toTable } from './report.ts';
import { createRig, type Servers } from './rig.ts';

interface Options {
  json: boolean;
  trials?: number;
  events: number;
  rounds: number;
  only?: string[];
}

const PARTS = ['latency', 'blind', 'cost', 'evaluator'] as const;
/** With fewer, the 95th percentile would be the maximum. */
const LATENCY_TRIALS = 20;
const BLIND_TRIALS = 5;
const REBUILDS = 3;
/** As in bench/main.ts: with less it refuses bulks. */
const HEAP = '2g';

const say = (line: string) => process.stderr.write(`${line}\n`);

async function bench(options: Options): Promise<void> {
  const wanted = (part: string) =>
    options.only === undefined || options.only.some((name) => name.split(':')[0] === part);
  /** `latency:split` and the like leave out the others of that part. */
  const chosen = <T extends string>(part: string, all: readonly T[]): T[] => {
    const named =
      options.only?.flatMap((name) => (name.startsWith(`${part}:`) ? [name.slice(part.length + 1)] : [])) ?? [];
    return named.length === 0 ? [...all] : all.filter((one) => named.includes(one));
  };
  const cost = createCostReader();
  const [loadBefore] = loadavg();
  const { folder, cleanUp, stop } = createCleanUp();
  try {
    const servers = await startServers(folder, wanted('latency') || wanted('blind') || wanted('cost'), cleanUp);
    const deps = { servers, cost, say, run: `bench-${randomBytes(3).toString('hex')}` };
    const results: AlertingResults = {};
    if (wanted('latency')) {
      results.latency = {};
      const trials = options.trials ?? LATENCY_TRIALS;
      const splits = chosen('latency', Object.keys(SPLITS) as Split[]);
      const all = new Map<Split, LatencyTrial[]>(splits.map((split) => [split, []]));
      // Interleaved, so that disturbances of the machine affect both.
      for (let trial = 0; trial < trials; trial++) {
        for (const split of splits) {
          const result = await attempted(() => measureLatency(split, trial, deps), results);
          say(`latency ${split} ${trial + 1}: ${Object.values(result).slice(0, 3).map(Math.round).join(', ')} ms`);
          all.get(split)!.push(result);
        }
      }
      for (const [split, list] of all) results.latency[split] = toLatency(list);
    }
    if (wanted('blind')) {
      const trials = options.trials ?? BLIND_TRIALS;
      const cases = chosen('blind', Object.keys(BLIND_CASES) as BlindCase[]);
      const all = new Map<BlindCase, number[]>();
      for (const name of cases) {
        const list: number[] = [];
        for (let trial = 0; trial < trials; trial++) {
          list.push(await attempted(() => measureBlind(name, trial, { ...deps, trials }), results));
          say(`blind ${name} ${trial + 1}: ${Math.round(list.at(-1)!)} ms from kill to page`);
        }
        all.set(name, list);
      }
      results.blind = toBlind(all);
    }
    if (wanted('cost')) results.cost = await measureCost(options, deps);
    if (wanted('evaluator')) {
      say('the evaluator alone …');
      const alone = await measureEvaluator();
      results.evaluator = { ...alone, takeOver: await measureRebuild(options.trials ?? REBUILDS, deps) };
    }
    const { kafkaVersion: kafka, elasticsearch } = servers;
    const versions = { kafka, elasticsearch: elasticsearch?.version ?? 'not started' };
    const about = { ...machine(versions), loadBefore };
    const output = options.json
      ? JSON.stringify({ ...results, machine: about })
      : toTable(results, [JSON.stringify(about)]);
    process.stdout.write(`${output}\n`);
  } finally {
    await stop();
  }
}

/** A trial that ends without a message is repeated; the report counts it, and the reason is on standard error. */
async function attempted<T>(trial: () => Promise<T>, results: AlertingResults): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await trial();
    } catch (error) {
      if (attempt === 3) throw error;
      results.repeated = (results.repeated ?? 0) + 1;
      say(`${errorText(error)}\nonce more`);
    }
  }
}

async function startServers(
  folder: string,
  withElasticsearch: boolean,
  cleanUp: (() => Promise<void> | void)[],
): Promise<Servers> {
  say(`starting Kafka${withElasticsearch ? ' and Elasticsearch' : ''} …`);
  const kafka = await startKafka({ onProgress: say });
  cleanUp.push(kafka.stop);
  const { brokers, version: kafkaVersion } = kafka;
  if (!withElasticsearch) return { brokers, kafkaVersion, elasticsearch: undefined, folder };
  const elasticsearch = await startElasticsearch({ heap: HEAP, onProgress: say });
  cleanUp.push(elasticsearch.stop);
  const servers = { brokers, kafkaVersion, elasticsearch, folder };
  const rig = await createRig({ name: 'bench-template' }, servers);
  const client = createElasticsearchClient(rig.config.elasticsearch);
  await installTemplate(client, silentLog);
  await client.close();
  await rig.end();
  return servers;
}

const number = (text: string) => {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new LogpipeError('LOGPIPE_USAGE', `bench:alerts: found ${text}; permitted: a whole number above 0`);
};
const names = (text: string) => {
  const all: string[] = [...PARTS];
  all.push(
    ...Object.keys(SPLITS).map((name) => `latency:${name}`),
    ...Object.keys(BLIND_CASES).map((name) => `blind:${name}`),
  );
  const list = text.split(',');
  const unknown = list.find((name) => !all.includes(name));
  if (unknown === undefined) return list;
  throw new LogpipeError('LOGPIPE_USAGE', `bench:alerts: --only ${unknown}; permitted: ${all.join(', ')}`);
};

const program = new Command('bench:alerts')
  .description('Measures how fast alerting is and what it costs, on servers it starts itself.')
  .option('--json', 'one JSON object on standard output', false)
  .option(
    '--trials <count>',
    `trials of latency (${LATENCY_TRIALS}), blind time (${BLIND_TRIALS}) and rebuild (${REBUILDS})`,
    number,
  )
  .option('--events <count>', 'records of the topic whose reading is measured', number, 600_000)
  .option('--rounds <count>', 'rounds of measuring the cost; medians are shown', number, 3)
  .option('--only <names>', `only these: ${PARTS.join(', ')}; also latency:split, blind:alerter and the like`, names)
  .addHelpText(
    'after',
    `
Examples:
  npm run bench:alerts
  npm run bench:alerts -- --json > alerts.json
  npm run bench:alerts -- --only latency:split --trials 30
  npm run bench:alerts -- --only cost --events 200000 --rounds 1`,
  )
  .exitOverride();

try {
  await program.parseAsync();
  await bench(program.opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof LogpipeError) {
    say(`bench:alerts: ${error.message} [${error.code}]`);
    process.exitCode = error.code === 'LOGPIPE_USAGE' ? 2 : 1;
  } else throw error;
}
