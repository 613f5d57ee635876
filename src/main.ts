#!/usr/bin/env -S node --max-semi-space-size=8
// The command line: every command, its options and examples. Errors end here: one clear message, one exit status.
import { Command, CommanderError, Option } from 'commander';
import { alertsList, alertsResolve, alertsShow } from './cli/alerts.ts';
import { checkConfig } from './cli/check-config.ts';
import { addIncidentCommands, addKibanaCommand, addPm2Commands, addReplayCommand } from './cli/commands.ts';
import { dlqList } from './cli/dlq.ts';
import { describeFailure } from './cli/failure.ts';
import { endDespiteLeftovers, type Io, processIo, toNumber } from './cli/io.ts';
import { createLineParser, parse } from './cli/parse.ts';
import { rulesCheck, rulesTest } from './cli/rules.ts';
import { parseRoles, run } from './cli/run.ts';
import { setup } from './cli/setup.ts';
import { runStack } from './cli/stack.ts';
import { tail } from './cli/tail.ts';
import { CONFIG_SCHEMA, type Config, loadConfig } from './config.ts';
import { secretsIn, withKnownSecrets } from './core/config-loader.ts';
import { createLog, type Log } from './core/log.ts';
import { packageVersion } from './core/package-root.ts';
import { visibleLines } from './core/safe-json.ts';
import { createMasker, type Masker } from './core/secrets/mask.ts';
import { maskedText } from './replay/record-document.ts';

const EXIT = `
Exit status: 0 done, 1 failed, 2 wrong command line or configuration.
LOGPIPE_DEBUG=1 adds the stack to the message of a failure.`;

/** @param onConfig gets the configuration and its masker as soon as there is one */
function build(onConfig: (config: Config, masker: Masker) => void): Command {
  const io = processIo();
  const program = new Command('logpipe')
    .description('Winston logs through Kafka into daily Elasticsearch indices, each record exactly once.')
    .version(packageVersion())
    .showHelpAfterError('(see --help)')
    .exitOverride()
    // What is quoted there came from the command line.
    .configureOutput({ writeErr: (text) => void process.stderr.write(visibleLines(maskedText(text, createMasker()))) })
    .addHelpText('after', EXIT);

  const withConfig = (command: Command) =>
    command.option('-c, --config <file>', 'YAML file (default: config/logpipe.yml, else the shipped one)');
  const load = (options: { config?: string }): { config: Config; log: Log } => {
    const config = loadConfig({ file: options.config ?? process.env.LOGPIPE_CONFIG, env: process.env });
    const masker = withKnownSecrets(createMasker(config.mask), secretsIn(config, CONFIG_SCHEMA));
    onConfig(config, masker);
    return { config, log: createLog(config.log, masker) };
  };
  const finish = async (work: Promise<number>) => {
    process.exitCode = await work;
  };

  withConfig(program.command('run'))
    .description('Run the pipeline until it is told to stop (SIGTERM or Ctrl-C; twice forces).')
    .option('--roles <list>', 'what this process does, comma-separated (default: all of the configuration)')
    .addOption(new Option('--exit-with-parent', 'end when standard input closes').default(false))
    .addHelpText('after', '\nExamples:\n  logpipe run\n  logpipe run --config /etc/logpipe.yml --roles counter,alerter')
    .action((options) => {
      const { config, log } = load(options);
      const roles = options.roles === undefined ? config.roles : parseRoles(options.roles);
      return finish(run({ ...config, roles }, options, log));
    });

  withConfig(program.command('setup'))
    .description('Create the topics and install the index template; what exists already is left alone.')
    .option('--json', 'one JSON object', false)
    .addHelpText('after', '\nExample:\n  KAFKA_BROKERS=kafka-1:9092 ELASTICSEARCH_URL=https://es:9200 logpipe setup')
    .action((options) => {
      const { config, log } = load(options);
      return finish(setup(config, options, io, log));
    });

  withConfig(program.command('check-config'))
    .description(
      'Check the configuration and the files it names: all problems at once, and whom each priority reaches.',
    )
    .option('--connect', 'try every server that it names, too; sends no message', false)
    .option('--json', 'one JSON object: problems, routing, connections, and what takes effect, secrets masked', false)
    .addHelpText(
      'after',
      `
Examples:
  logpipe check-config --config config/logpipe.yml
  logpipe check-config --connect
Exit status: 0 fine, 1 a server is not as it should be, 2 something is wrong with a file.`,
    )
    .action((options) => finish(checkConfig(options, io, { env: process.env, onConfig })));

  withConfig(program.command('parse [files...]'))
    .description('Show what lines become: path, tags, index and document. No file, or -, reads standard input.')
    .option('--json', 'one JSON object per line', false)
    .addHelpText('after', '\nExamples:\n  tail -1 logs/app.log | logpipe parse\n  logpipe parse --json logs/app.log')
    .action((files: string[], options) => finish(parse(files, load(options).config, options, io)));

  withConfig(program.command('tail'))
    .description('Follow the log topic; moves nobody’s offsets.')
    .option(
      '--where <condition>',
      'only matching documents: path=value, path!=value, path~text; repeatable',
      collect,
      [],
    )
    .option('--since <time>', 'from a time on: -10m, -2h or ISO 8601 (default: from now)')
    .option('--limit <count>', 'end after this many documents', toNumber)
    .option('--json', 'NDJSON instead of readable lines', false)
    .addHelpText(
      'after',
      '\nExamples:\n  logpipe tail --where level=error\n  logpipe tail --since -10m --where callId=CA123 --json',
    )
    .action((options) => {
      const { config, log } = load(options);
      return finish(
        tail(config.kafka, options, io, {
          parse: createLineParser(config),
          masker: createMasker(config.mask),
          log,
        }),
      );
    });

  const dlq = program.command('dlq').description('Dead letters: records that could not be indexed.');
  withConfig(dlq.command('list'))
    .description('List the dead letters with reason, origin and a preview.')
    .option('--reason <reason>', 'only this reason')
    .option('--limit <count>', 'at most this many', toNumber)
    .option('--json', 'NDJSON instead of a table', false)
    .addHelpText('after', '\nExample:\n  logpipe dlq list --reason document_refused --json')
    .action((options) => {
      const { config, log } = load(options);
      return finish(dlqList(config.kafka, { ...options, mask: config.mask }, io, log));
    });

  addAlerting(program, { io, withConfig, load, finish });
  addReplayCommand(program, { io, withConfig, load, finish });
  addIncidentCommands(program, { io, withConfig, load, finish });
  addKibanaCommand(program, { io, withConfig, load, finish });
  addPm2Commands(program, { io, withConfig, load, finish });

  const stack = program.command('stack').description('Local Kafka and Elasticsearch for development, without Docker.');
  for (const [action, what] of [
    ['up', 'Start them and wait until they answer; one that has died since is started again.'],
    ['down', 'End them and remove their data.'],
    ['status', 'Say what runs where; exit status 3 when not everything is up.'],
  ] as const) {
    const command = stack
      .command(action)
      .description(what)
      .option('--json', 'one JSON object', false)
      .option('--kafka-port <port>', 'port of the first broker (default 9092, else a free one)', toNumber)
      .option('--es-port <port>', 'port of the first node (default 9200, else a free one)', toNumber)
      .addOption(new Option('--es <major>', 'Elasticsearch 8.19 or 9.x').choices(['8', '9', 'auto']).default('auto'))
      .action((options) => finish(runStack(action, options, io)));
    if (action !== 'up') continue;
    command
      .option('--brokers <count>', 'Kafka brokers, 1 to 5 (default: as many as are up, else 1)', toNumber)
      .option('--es-nodes <count>', 'Elasticsearch nodes, 1 to 5 (default: as many as are up, else 1)', toNumber)
      .addHelpText('after', STACK_HELP);
  }

  program
    .command('version')
    .description('Print the version.')
    .action(() => io.out(packageVersion()));
  return program;
}

const STACK_HELP = `
Several of one kind form a cluster: three brokers keep their own topics three times and need two of them, and any one of
three nodes may be lost. Three and three take about 5 GB of memory; a busy machine may need minutes to start them.
docker-compose.yml knows one of each only.

Examples:
  logpipe stack up
  logpipe stack up --brokers 3 --es-nodes 3 --json
  kill -9 <pid of one>; logpipe stack up        # that one again, on its data`;

interface Shared {
  readonly io: Io;
  readonly withConfig: (command: Command) => Command;
  readonly load: (options: { config?: string }) => { config: Config; log: Log };
  readonly finish: (work: Promise<number>) => Promise<void>;
}

function addAlerting(program: Command, { io, withConfig, load, finish }: Shared): void {
  const rules = program.command('rules').description('Rules: when logpipe alerts.');
  const files = (command: Command) =>
    withConfig(command)
      .option('--rules <file>', 'rules to use instead of the configured ones')
      .option('--measures <file>', 'measures to use instead of the configured ones')
      .option('--json', 'one JSON object', false);
  files(rules.command('check'))
    .description('Check rules and measures; lists every problem, else the rules.')
    .addHelpText('after', '\nExample:\n  logpipe rules check --rules my-rules.yml')
    .action((options) => {
      process.exitCode = rulesCheck(load(options).config, options, io);
    });
  files(rules.command('test [files...]'))
    .description('Run tests of rules: log lines in, expected alerts and messages out. No file: the shipped rules’ own.')
    .addHelpText(
      'after',
      '\nExamples:\n  logpipe rules test\n  logpipe rules test --rules my-rules.yml my-rules.test.yml',
    )
    .action((paths: string[], options) => finish(rulesTest(paths, load(options).config, options, io)));

  const alerts = program.command('alerts').description('Alerts that fire, and what became of earlier ones.');
  withConfig(alerts.command('list'))
    .description('List open incidents with their alerts, and what is about to fire.')
    .option('--all', 'resolved incidents of the last 30 days too', false)
    .option('--json', 'NDJSON, one incident per line', false)
    .addHelpText('after', '\nExample:\n  logpipe alerts list --all --json')
    .action((options) => {
      const { config, log } = load(options);
      return finish(alertsList(config, options, io, log));
    });
  withConfig(alerts.command('show <id>'))
    .description('Everything about one incident, or about the alert of one rule.')
    .option('--json', 'on one line', false)
    .addHelpText('after', '\nExample:\n  logpipe alerts show high-error-rate')
    .action((id: string, options) => {
      const { config, log } = load(options);
      return finish(alertsShow(id, config, options, io, log));
    });
  withConfig(alerts.command('resolve <id>'))
    .description('End firing alerts by hand: of an incident, a rule, or one label set.')
    .option('--by <name>', 'who resolves it (default: user and host)')
    .option('--wait-seconds <seconds>', 'longest wait for the answer', toNumber, 30)
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      `
What is silent for good, a host that was taken away, ends so; it fires again only after something has arrived from it.
An alert whose condition is true now is not ended: acknowledge or silence it.

Examples:
  logpipe alerts resolve application-silent
  logpipe alerts resolve 'host-silent{host="worker-3"}'`,
    )
    .action((id: string, options) => {
      const { config, log } = load(options);
      return finish(alertsResolve(id, config, options, io, log));
    });

  const notify = program.command('notify').description('Channels: where alerts are sent.');
  withConfig(notify.command('test'))
    .description('Send one test message through each configured channel, and its resolve.')
    .option('--channel <name>', 'only this one')
    .option('--json', 'one JSON object', false)
    .addHelpText('after', '\nExample:\n  logpipe notify test --channel slack')
    .action(async (options) => {
      const { config, log } = load(options);
      const { notifyTest } = await import('./cli/notify.ts');
      return finish(notifyTest(config, options, io, log));
    });
}

function collect(value: string, all: string[]): string[] {
  return [...all, value];
}

async function main(): Promise<void> {
  let masker = createMasker();
  let config: Config | undefined;
  const fail = async (error: unknown): Promise<void> => {
    const debug = (process.env.LOGPIPE_DEBUG ?? '') !== '';
    const { text, status } = await describeFailure(error, { config, masker, debug });
    process.stderr.write(`${text}\n`);
    process.exitCode = status;
  };
  // What a library throws where nobody waits for it: the process cannot go on, and must not end with a stack.
  process.on('uncaughtException', (error) => {
    void fail(error).finally(() => process.exit(process.exitCode || 1));
  });
  try {
    await build((loaded, configured) => {
      config = loaded;
      masker = configured;
    }).parseAsync();
  } catch (error) {
    // commander has already said what is wrong; asking for help is no mistake.
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else await fail(error);
  }
}

await main();
endDespiteLeftovers();
