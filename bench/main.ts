import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { type Config, loadConfig } from '../src/config.ts';
import { errorText, LogpipeError } from '../src/core/errors.ts';
import { silentLog } from '../src/core/log.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { createElasticsearchClient, installTemplate } from '../src/indexing/elasticsearch.ts';
import { startElasticsearch, startKafka } from '../stack/index.ts';
import { createCleanUp } from './clean-up.ts';
import {
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
import { deleteIndices, type MeasureDeps, measureRound, measureStart, type Round } from './measure.ts';
import { createCostReader } from './process-cost.ts';
import { type Line, machine, toJson, toLine, toTable } from './report.ts';
import { benchShip, type ShipBench, shipPeerInstalled } from './ship.ts';
import { benchSpool, type SpoolBench } from './spool.ts';
import { benchTransport, type TransportBench } from './transport.ts';

interface Options {
  json: boolean;
  events: number;
  rounds: number;
  only?: string[];
  variant: string[];
}

const NAMES = ['raw-bulk', 'logpipe', 'ordinary', 'rsyslog', 'transport', 'spool', 'ship'];
const TOPIC = 'logpipe-bench';
const HEAP = '2g';

const say = (line: string) => process.stderr.write(`${line}\n`);

async function bench(options: Options): Promise<void> {
  const wanted = (name: string) => options.only === undefined || options.only.includes(name);
  const notes: string[] = [];
  const contenders: Contender[] = [];
  if (wanted('raw-bulk')) contenders.push(rawBulk);
  if (wanted('logpipe')) contenders.push(logpipe('logpipe'));
  contenders.push(...options.variant.map(variant));
  if (wanted('ordinary')) contenders.push(ordinary);
  if (wanted('rsyslog')) {
    if (rsyslogInstalled()) contenders.push(rsyslog, rsyslogText);
    else notes.push('rsyslog with imkafka and omelasticsearch is not installed: not in this table');
  }
  const cost = createCostReader();
  const { folder, cleanUp, stop } = createCleanUp();
  try {
    let spool: SpoolBench | undefined;
    if (wanted('spool')) {
      say('the spool beside the File transport …');
      spool = await benchSpool();
    }
    if (options.only?.every((name) => name === 'spool') && contenders.length === 0) {
      const about = machine({ kafka: 'not started', elasticsearch: 'not started' });
      process.stdout.write(`${options.json ? JSON.stringify({ spool, machine: about }) : spoolLine(spool!)}\n`);
      return;
    }
    say('starting Kafka and Elasticsearch …');
    const kafka = await startKafka({ onProgress: say });
    cleanUp.push(kafka.stop);
    let transport: TransportBench | undefined;
    if (wanted('transport')) {
      say('the transport beside the File transport …');
      transport = await benchTransport(kafka.brokers);
    }
    let ship: ShipBench | undefined;
    if (wanted('ship')) {
      if (shipPeerInstalled()) {
        say('ship beside rsyslog …');
        ship = await benchShip(kafka.brokers, cost, options);
      } else notes.push('rsyslog with imfile and omkafka is not installed: ship was not measured');
    }
    const versions = { kafka: kafka.version, elasticsearch: 'not started' };
    let lines: Line[] = [];
    if (contenders.length > 0) {
      const elasticsearch = await startElasticsearch({ heap: HEAP, onProgress: say });
      cleanUp.push(elasticsearch.stop);
      versions.elasticsearch = elasticsearch.version;
      const config: Config = loadConfig({
        // The shipped one, not one in the current folder.
        file: join(packageRoot(), 'config', 'logpipe.yml'),
        env: { KAFKA_BROKERS: kafka.brokers[0], ELASTICSEARCH_URL: elasticsearch.url },
      });
      const client = createElasticsearchClient(config.elasticsearch);
      await installTemplate(client, silentLog);
      await client.close();
      await createTopics(config.kafka, TOPIC);
      say(`filling ${options.events} records …`);
      const file = join(folder, 'bodies.ndjson');
      const filled = await fill(config.kafka, { topic: TOPIC, events: options.events, bodiesFile: file });
      notes.push(
        `${options.events} lines of ${Math.round(filled.bytesPerLine)} bytes, ${options.rounds} rounds, medians`,
      );
      lines = await measure(contenders, options.rounds, {
        bench: { brokers: kafka.brokers, node: elasticsearch.url, folder, bodies: { file, lengths: filled.bodies } },
        events: options.events,
        topic: TOPIC,
        cost,
      });
    }
    const about = { events: options.events, rounds: options.rounds, machine: machine(versions) };
    const output = options.json
      ? JSON.stringify({ ...toJson(lines, transport, about), spool: spool ?? null, ship: ship ?? null })
      : toTable(lines, transport, [
          ...(spool === undefined ? [] : [spoolLine(spool)]),
          ...(ship === undefined ? [] : [shipLine(ship)]),
          ...[...notes, JSON.stringify(about.machine)],
        ]);
    process.stdout.write(`${output}\n`);
  } finally {
    await stop();
  }
}

function spoolLine({ spoolMicrosPerInfo, fileMicrosPerInfo, spoolRatioToFile, drainedPerSecond }: SpoolBench): string {
  const write = `spool ${spoolMicrosPerInfo} µs, File transport ${fileMicrosPerInfo} µs CPU: ratio ${spoolRatioToFile}`;
  return `logger.info: ${write}; drained at ${drainedPerSecond.toLocaleString('en')} records/s`;
}

function shipLine({ logpipe, rsyslog, cpuRatio, throughputRatio }: ShipBench): string {
  const of = ({ cpuMicros, linesPerSecond, peakMb }: ShipBench['logpipe']) =>
    `${cpuMicros} µs CPU, ${linesPerSecond.toLocaleString('en')} lines/s, ${peakMb} MB`;
  return `ship: ${of(logpipe)}; rsyslog: ${of(rsyslog)}; CPU ratio ${cpuRatio}, throughput ratio ${throughputRatio}`;
}

/** Interleaves the contenders, so that disturbances of the machine affect all of them. */
async function measure(contenders: readonly Contender[], rounds: number, deps: MeasureDeps): Promise<Line[]> {
  const { node } = deps.bench;
  const starts = new Map<string, number>();
  for (const [i, contender] of contenders.entries()) {
    const micros = await measureStart(contender, `start-${i}`, deps);
    say(`${contender.name}: a start costs ${Math.round(micros / 1_000)} ms of CPU`);
    starts.set(contender.name, micros);
  }
  // Elasticsearch compiles and grows in its first seconds, which no contender should pay for.
  await measureRound(rawBulk, 'warm-up', deps);
  const results = new Map<string, Round[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 1; round <= rounds; round++) {
    // Each round begins with a different contender, so that none always follows the same one.
    const order = contenders.map((_, i) => contenders[(i + round) % contenders.length]!);
    for (const contender of order) {
      const id = `round-${round}-${contenders.indexOf(contender)}`;
      const result = await surviving(contender, id, deps);
      results.get(contender.name)!.push(result);
      const { eventsPerSecond, wholeCpuMicros } = result;
      say(
        `round ${round}: ${contender.name} ${Math.round(eventsPerSecond)} events/s, ${wholeCpuMicros.toFixed(1)} µs with start`,
      );
    }
  }
  await deleteIndices(node);
  return contenders.map(({ name }) => toLine(name, results.get(name)!, starts.get(name)!, deps.events));
}

/** A contender without retries may not survive a single 429: its round is repeated, and the report says so. */
async function surviving(contender: Contender, id: string, deps: MeasureDeps): Promise<Round> {
  for (let attempt = 1; ; attempt++) {
    await deleteIndices(deps.bench.node);
    try {
      return await measureRound(contender, `${id}-${attempt}`, deps);
    } catch (error) {
      if (attempt === 3) throw error;
      say(`${errorText(error)}\nonce more`);
    }
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
  .description('Measures logpipe beside a raw bulk, a plain indexer and rsyslog, on servers it starts itself.')
  .option('--json', 'one JSON object on standard output', false)
  .option('--events <count>', 'records per round', number, 600_000)
  .option('--rounds <count>', 'rounds; medians are shown', number, 3)
  .option('--only <names>', `only these: ${NAMES.join(', ')}`, names)
  .option(
    '--variant <text>',
    'logpipe once more with Node flags and settings; repeatable',
    (v, all: string[]) => [...all, v],
    [],
  )
  .addHelpText(
    'after',
    `
Examples:
  npm run bench
  npm run bench -- --json > bench.json
  npm run bench -- --events 1000000 --only raw-bulk,logpipe
  npm run bench -- --only logpipe --variant "--max-semi-space-size=32" --variant "bulk.concurrency=4"
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
