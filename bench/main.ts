// `npm run bench`: everything side by side, on servers it starts itself. In: options. Out: a table, or one object with --json; progress
// on standard error. What it measures is beside it, one file each.
import { randomBytes } from 'node:crypto';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { type Config, loadConfig } from '../src/config.ts';
import { LogpipeError } from '../src/core/errors.ts';
import { silentLog } from '../src/core/log.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { createElasticsearchClient, installTemplate } from '../src/indexing/elasticsearch.ts';
import { startElasticsearch, startKafka } from '../stack/index.ts';
import { measureEvaluator, measureRebuild } from './alerting/evaluator.ts';
import { createCleanUp } from './clean-up.ts';
import {
  type Bench,
  type Contender,
  logpipe,
  ordinary,
  rawBulk,
  rsyslog,
  rsyslogInstalled,
  rsyslogText,
  variant,
} from './contenders.ts';
import { createTopics, fill } from './fill.ts';
import { KINDS } from './lines.ts';
import { type CostReader, createCostReader } from './process-cost.ts';
import { LINE_KINDS, type LineKind, machine, type Results, toJson, toTable } from './report.ts';
import { benchScaling } from './scaling.ts';
import { benchShip, shipPeerInstalled } from './ship.ts';
import { type SideBySideDeps, sideBySide } from './side-by-side.ts';
import { benchSpool } from './spool.ts';
import { benchTransport } from './transport.ts';

interface Options {
  json: boolean;
  events: number;
  rounds: number;
  only?: string[];
  all: boolean;
  variant: string[];
}

const CONTENDERS = ['raw-bulk', 'logpipe', 'ordinary', 'rsyslog', 'counter', 'all-roles'];
/** Names for --only; the last one is run without it only by --all. */
const NAMES = [...CONTENDERS, 'lines', 'transport', 'spool', 'ship', 'take-over', 'ticks', 'scaling'];
const ALONE = ['spool', 'ticks'];
const COMPRESSIONS = ['none', 'gzip', 'lz4'] as const;
const TAKE_OVERS = 3;
const SCALING_SHARE = 2;
const SCALING_ROUNDS = 3;
const TOPIC = 'logpipe-bench';
const HEAP = '2g';

const say = (line: string) => process.stderr.write(`${line}\n`);

/** What all parts share. */
interface Run {
  readonly options: Options;
  readonly wanted: (name: string) => boolean;
  readonly results: Results;
  readonly notes: string[];
  readonly cost: CostReader;
  readonly folder: string;
}

async function bench(options: Options): Promise<void> {
  const chosen = options.only ?? NAMES.filter((name) => name !== 'scaling' || options.all);
  const wanted = (name: string) => chosen.includes(name);
  const results: Results = { lines: [], kinds: {}, transports: [] };
  const notes: string[] = [];
  const versions = { kafka: 'not started', elasticsearch: 'not started' };
  const [loadBefore] = loadavg();
  const cost = createCostReader();
  const { folder, cleanUp, stop } = createCleanUp();
  const run: Run = { options, wanted, results, notes, cost, folder };
  try {
    if (wanted('spool')) {
      say('the spool beside the File transport …');
      results.spool = await benchSpool();
    }
    if (wanted('ticks')) {
      say('the evaluator alone …');
      results.evaluator = await measureEvaluator();
    }
    const contenders = contendersOf(run);
    if (contenders.length > 0 || chosen.some((name) => !ALONE.includes(name))) {
      say('starting Kafka …');
      const kafka = await startKafka({ onProgress: say });
      cleanUp.push(kafka.stop);
      versions.kafka = kafka.version;
      await measureOnKafka(run, kafka);
      if (contenders.length > 0 || wanted('lines') || wanted('scaling')) {
        say('starting Elasticsearch …');
        const elasticsearch = await startElasticsearch({ heap: HEAP, onProgress: say });
        cleanUp.push(elasticsearch.stop);
        versions.elasticsearch = elasticsearch.version;
        await measureOnBoth(run, contenders, { brokers: kafka.brokers, node: elasticsearch.url, folder });
      }
    }
    const { events, rounds } = options;
    const about = { events, rounds, machine: { ...machine(versions), loadBefore } };
    const output = options.json
      ? JSON.stringify(toJson(results, { ...about, notes }))
      : toTable(results, [...notes, JSON.stringify(about.machine)]);
    process.stdout.write(`${output}\n`);
  } finally {
    await stop();
  }
}

async function measureOnKafka(
  { options, wanted, results, notes, cost, folder }: Run,
  { brokers, version }: { readonly brokers: string[]; readonly version: string },
): Promise<void> {
  if (wanted('transport')) {
    for (const compression of COMPRESSIONS) {
      say(`the transport beside the File transport, compression ${compression} …`);
      results.transports.push(await benchTransport(brokers, { compression }));
    }
  }
  if (wanted('ship')) {
    if (shipPeerInstalled()) {
      say('ship beside rsyslog …');
      results.ship = await benchShip(brokers, cost, options);
    } else notes.push('rsyslog with imfile and omkafka is not installed: ship was not measured');
  }
  if (wanted('take-over')) {
    const servers = { brokers, kafkaVersion: version, elasticsearch: undefined, folder };
    const run = `bench-${randomBytes(3).toString('hex')}`;
    results.takeOver = await measureRebuild(TAKE_OVERS, { servers, cost, say, run });
  }
}

async function measureOnBoth(
  { options, wanted, results, notes, cost, folder }: Run,
  contenders: readonly Contender[],
  place: Bench,
): Promise<void> {
  const { events, rounds } = options;
  const config: Config = loadConfig({
    // The shipped one, not one in the current folder.
    file: join(packageRoot(), 'config', 'logpipe.yml'),
    env: { KAFKA_BROKERS: place.brokers[0], ELASTICSEARCH_URL: place.node },
  });
  const client = createElasticsearchClient(config.elasticsearch);
  await installTemplate(client, silentLog);
  await client.close();
  const deps: KindDeps = { bench: place, cost, starts: new Map(), say };
  if (contenders.length > 0) {
    await createTopics(config.kafka, TOPIC);
    say(`filling ${events} records …`);
    const file = join(folder, 'bodies.ndjson');
    const filled = await fill(config.kafka, { topic: TOPIC, events, bodiesFile: file });
    notes.push(`${events} lines of ${Math.round(filled.bytesPerLine)} bytes, ${rounds} rounds, medians`);
    const bench: Bench = { ...place, bodies: { file, lengths: filled.bodies } };
    results.lines = await sideBySide(contenders, rounds, { ...deps, bench, events, topic: TOPIC });
  }
  if (wanted('lines')) await measureKinds(options, results, config, deps);
  if (wanted('scaling')) {
    const work = { events: Math.ceil(events / SCALING_SHARE), rounds: Math.min(rounds, SCALING_ROUNDS) };
    say(`scaling, ${work.events} records …`);
    notes.push(`scaling: ${work.events} lines, ${work.rounds} rounds`);
    results.scaling = await benchScaling(work, { ...place, cost, say });
  }
}

/** Raw bulk first: it warms Elasticsearch up. */
function contendersOf({ options, wanted, notes }: Run): Contender[] {
  const contenders: Contender[] = [];
  if (wanted('raw-bulk')) contenders.push(rawBulk);
  if (wanted('logpipe')) contenders.push(logpipe('logpipe'));
  contenders.push(...options.variant.map(variant));
  if (wanted('ordinary')) contenders.push(ordinary());
  if (wanted('rsyslog')) {
    if (rsyslogInstalled()) contenders.push(rsyslog, rsyslogText);
    else notes.push('rsyslog with imkafka and omelasticsearch is not installed: not in this table');
  }
  if (wanted('counter')) contenders.push(logpipe('counter', ['counter']));
  if (wanted('all-roles')) contenders.push(logpipe('all roles', ['indexer', 'counter', 'alerter']));
  return contenders;
}

type KindDeps = Omit<SideBySideDeps, 'events' | 'topic'>;

/** Each kind of lines has a topic of its own, which the indexer and the ordinary way read. */
async function measureKinds(
  options: Pick<Options, 'events' | 'rounds'>,
  results: Results,
  { kafka }: Config,
  deps: KindDeps,
): Promise<void> {
  const { events, rounds } = options;
  for (const kind of Object.keys(LINE_KINDS) as LineKind[]) {
    const { lines, shape } = LINE_KINDS[kind];
    say(`${lines} …`);
    const topic = `${TOPIC}-${kind}`;
    await createTopics(kafka, topic);
    const { bytesPerLine } = await fill(kafka, { topic, events, line: KINDS[lines] });
    const both = await sideBySide([logpipe('logpipe'), ordinary(shape)], rounds, { ...deps, events, topic });
    results.kinds[kind] = { events, rounds, bytesPerLine: Math.round(bytesPerLine), lines: both };
  }
}

const number = (text: string) => {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new LogpipeError('LOGPIPE_USAGE', `bench: found ${text}; permitted: a whole number above 0`);
};
const names = (text: string) => {
  const list = text.split(',');
  const unknown = list.find((name) => !NAMES.includes(name));
  if (unknown === undefined) return list;
  throw new LogpipeError('LOGPIPE_USAGE', `bench: --only ${unknown}; permitted: ${NAMES.join(', ')}`);
};

const program = new Command('bench')
  .description(
    'Measures logpipe beside a raw bulk, a plain indexer and rsyslog, each number with its aim, on servers it starts itself.',
  )
  .option('--json', 'one JSON object on standard output', false)
  .option('--events <count>', 'records per round', number, 800_000)
  .option('--rounds <count>', 'rounds; medians are shown', number, 5)
  .option('--only <names>', `only these: ${NAMES.join(', ')}`, names)
  .option('--all', 'scaling too, which is otherwise a command of its own', false)
  .option(
    '--variant <text>',
    'logpipe once more with Node flags and settings; repeatable',
    (v, all: string[]) => [...all, v],
    [],
  )
  .addHelpText(
    'after',
    `
Scaling gets half of the events and at most 3 rounds.
Everything but scaling takes about half an hour on two cores; scaling, also \`npm run bench:scaling\`, ten minutes more.

Examples:
  npm run bench
  npm run bench -- --all --json > bench.json
  npm run bench -- --events 1000000 --only raw-bulk,logpipe
  npm run bench -- --only logpipe --variant "--max-semi-space-size=32" --variant "bulk.concurrency=4"
  npm run bench -- --only lines,take-over,ticks
  npm run bench -- --only spool
  npm run bench -- --only ship --events 300000
  npm run bench -- --only raw-bulk --variant "--cpu-prof --cpu-prof-dir=profiles"`,
  )
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
