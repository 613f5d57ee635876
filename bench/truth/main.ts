// `npm run bench:truth`: does logpipe report what is wrong, soon, once, and nothing else? Generated, labelled scenarios go through
// the real stages on a clock of their own. Needs no server, but with
// --peers. Exit status 0 whatever the outcome: it measures, tests judge.
import { Command, CommanderError } from 'commander';
import { LogpipeError } from '../../src/core/errors.ts';
import { benchTruth, SEED } from './bench.ts';
import { benchPeers, PEERS, type PeerName, peerNames, toPeersTable } from './peers/peers.ts';
import { toTable } from './report.ts';
import { SCENARIOS } from './scenarios/all.ts';

interface Options {
  json: boolean;
  seed: number;
  only?: string[];
  peers?: PeerName[] | true;
}

const say = (line: string) => process.stderr.write(`${line}\n`);

async function main({ json, seed, only, peers }: Options): Promise<void> {
  if (peers !== undefined) {
    const report = await benchPeers({ seed, only, peers: peers === true ? PEERS : peers, onProgress: say });
    process.stdout.write(`${json ? JSON.stringify(report) : toPeersTable(report)}\n`);
    return;
  }
  const report = await benchTruth({ seed, only, onProgress: say });
  process.stdout.write(`${json ? JSON.stringify(report) : toTable(report)}\n`);
}

const number = (text: string) => {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new LogpipeError('LOGPIPE_USAGE', `bench:truth: found ${text}; permitted: a whole number above 0`);
};
const names = (text: string) => {
  const known = SCENARIOS.map(({ name }) => name);
  const list = text.split(',');
  const unknown = list.find((name) => !known.includes(name));
  if (unknown === undefined) return list;
  throw new LogpipeError('LOGPIPE_USAGE', `bench:truth: --only ${unknown}; permitted: ${known.join(', ')}`);
};

const program = new Command('bench:truth')
  .description(
    'Runs labelled scenarios through counting, rules and alerts: missed, false, time to detect, pages per incident.',
  )
  .option('--json', 'one JSON object on standard output', false)
  .option('--seed <number>', 'of everything that is left to chance', number, SEED)
  .option('--only <names>', 'only these scenarios, comma-separated', names)
  .option('--peers [names]', `beside logpipe also ${PEERS.join(', ')}, or some of them, comma-separated`, peerNames)
  .addHelpText(
    'after',
    `
Time to detect is counted from the second in which the rule's condition, its "for" included, is truly fulfilled, computed from
the plain events without logpipe, to the page; of an alert that joins an incident people were called for already, to its firing.
Windows are cut at full 10 s: a share may be seen some seconds earlier than over the exact five minutes.

--peers runs the same events through ElastAlert 2, on an Elasticsearch of its own, and through Prometheus and Alertmanager, all
of them the real programs, and judges everybody by the messages that people get. It needs prometheus, prometheus-alertmanager
and Python 3.11 with venv; ElastAlert is taken from the PATH or from the Python that LOGPIPE_ELASTALERT names, else installed
into .logpipe/elastalert. All scenarios take a quarter of an hour on two cores.

Examples:
  npm run bench:truth
  npm run bench:truth -- --peers --only sharp-outage,silence
  npm run bench:truth -- --json > truth.json
  npm run bench:truth -- --only sharp-outage,slow-burn --seed 7`,
  )
  .exitOverride();

try {
  await program.parseAsync();
  await main(program.opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof LogpipeError) {
    say(`${error.message} [${error.code}]`);
    process.exitCode = error.code === 'LOGPIPE_USAGE' ? 2 : 1;
  } else throw error;
}
