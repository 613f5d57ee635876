#!/usr/bin/env -S node --max-semi-space-size=16 --v8-pool-size=2
// The command line: every command, its options and examples. Errors end here: one clear message, one exit status.
import { Command, CommanderError, Option } from 'commander';
import { alertsList, alertsShow } from './cli/alerts.ts';
import { checkConfig } from './cli/check-config.ts';
import {
  addAlertCommands,
  addCompletionCommand,
  addIncidentCommands,
  addInitCommand,
  addKibanaCommand,
  addOncallCommand,
  addPageCommand,
  addPm2Commands,
  addReplayCommand,
  addRetentionCommand,
  addShipCommand,
  addTopCommand,
} from './cli/commands.ts';
import { dlqList, dlqRedrive, dlqShow } from './cli/dlq.ts';
import {
  commandLog,
  describeFailure,
  endDespiteLeftovers,
  type Io,
  type LogKind,
  processIo,
  toNumber,
} from './cli/io.ts';
import { createLineParser, parse } from './cli/parse.ts';
import { rulesCheck, rulesExplain, rulesTest } from './cli/rules.ts';
import { parseRoles, run, setup } from './cli/run.ts';
import { runStack, stackNumber } from './cli/stack.ts';
import { tail } from './cli/tail.ts';
import { trace } from './cli/trace.ts';
import { CONFIG_SCHEMA, type Config, loadConfig } from './config.ts';
import { secretsIn, withKnownSecrets } from './core/config-loader.ts';
import type { Log } from './core/log.ts';
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
    command.option(
      '-c, --config <file>',
      'YAML file (default: config/logpipe.yml, else logpipe.yml, else the shipped one)',
    );
  const load = (options: { config?: string }, kind: LogKind = 'command'): { config: Config; log: Log } => {
    const config = loadConfig({ file: options.config ?? process.env.LOGPIPE_CONFIG, env: process.env });
    const masker = withKnownSecrets(createMasker(config.mask), secretsIn(config, CONFIG_SCHEMA));
    onConfig(config, masker);
    return { config, log: commandLog(kind, config.log, masker) };
  };
  const finish = async (work: Promise<number>) => {
    process.exitCode = await work;
  };

  withConfig(program.command('run'))
    .description('Run the pipeline until it is told to stop (SIGTERM or Ctrl-C; a second one ends it at once).')
    .option('--roles <list>', 'what this process does, comma-separated (default: the roles of the configuration)')
    .addOption(new Option('--exit-with-parent', 'end when standard input closes').default(false))
    .addHelpText('after', '\nExamples:\n  logpipe run\n  logpipe run --config /etc/logpipe.yml --roles counter,alerter')
    .action((options) => {
      const { config, log } = load(options, 'service');
      const roles = options.roles === undefined ? config.roles : parseRoles(options.roles);
      return finish(run({ ...config, roles }, options, log));
    });

  addInitCommand(program, { io, withConfig, load, finish });
  withConfig(program.command('setup'))
    .description('Create the topics and install the index templates. What exists already is left alone.')
    .option('--json', 'one JSON object; without it readable lines on a terminal, JSON in a pipe or a file')
    .option('--no-json', 'readable lines in a pipe or a file, too')
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
    .option('--explain', 'show instead what was masked, renamed and moved, and why not the fast path', false)
    .option('--test <file>', 'run tests instead: lines in, the documents that must come out; repeatable', collect, [])
    .addHelpText(
      'after',
      '\nExamples:\n  tail -1 logs/app.log | logpipe parse\n  tail -1 logs/app.log | logpipe parse --explain\n  logpipe parse --json logs/app.log\n  logpipe parse --config my.yml --test my.test.yml',
    )
    .action((files: string[], options) => finish(parse(files, load(options).config, options, io)));

  withConfig(program.command('tail'))
    .description('Follow the log as it grows: the log topic, or without Kafka the files. Moves nobody’s offsets.')
    .option(
      '--where <condition>',
      'only matching documents: path=value, path!=value, path~text; repeatable',
      collect,
      [],
    )
    .option('--since <time>', 'start at a time: -10m, -2h or ISO 8601 (default: now)')
    .option('--time-zone <zone>', 'of the times shown, and of --since without an offset (default: UTC)')
    .option('--limit <count>', 'end after this many documents', toNumber)
    .option('--json', 'NDJSON instead of readable lines', false)
    .addHelpText(
      'after',
      `
On a terminal levels are coloured and stack traces unfolded; in a pipe each
record is one line. NO_COLOR=1 turns colours off, FORCE_COLOR=1 keeps them.

Examples:
  logpipe tail --where level=error
  logpipe tail --since -10m --where callId=CA123 --json
  logpipe tail --time-zone Europe/Berlin`,
    )
    .action((options) => {
      const { config, log } = load(options);
      return finish(
        tail(config, options, io, {
          parse: createLineParser(config),
          masker: createMasker(config.mask),
          log,
        }),
      );
    });

  withConfig(program.command('trace <id> [files...]'))
    .description('Everything about one call, request or trace, in the order of its time, across days.')
    .option('--source <source>', 'index, kafka or file (default: the indices, if there are any)')
    .option('--from <time>', 'only from then on: -2h, now, ISO 8601 (default: all; of the topic the last day)')
    .option('--to <time>', 'only until then (default: now)')
    .option('--time-zone <zone>', 'of the times shown, and of times written without an offset (default: UTC)')
    .option('--gap <duration>', 'mark a longer silence (default: 1m)')
    .option('--limit <count>', 'at most this many events (default: 5000)', toNumber)
    .option('--json', 'one JSON object: the events, and what is odd about them', false)
    .addHelpText(
      'after',
      `
The id is that of a call, a request or a trace: callId, requestId or traceId. Marked are errors, gaps, a call
that has no beginning or no end, and what could not be read. Exit status 1 when nothing was found.

Examples:
  logpipe trace CA123
  logpipe trace CA123 --gap 10s --time-zone Europe/Berlin
  logpipe trace req-42 --source kafka --from -3h
  logpipe trace CA123 --json logs/app.log`,
    )
    .action((id: string, files: string[], options) => {
      const { config, log } = load(options);
      return finish(trace(id, files, config, options, io, { log }));
    });

  const dlq = program.command('dlq').description('Dead letters: records that could not be indexed.');
  withConfig(dlq.command('show <id>'))
    .description('Show one dead letter whole: reason, origin and value, stack traces unfolded.')
    .option('--time-zone <zone>', 'of the times shown (default: UTC)')
    .option('--json', 'NDJSON', false)
    .addHelpText('after', '\nExample:\n  logpipe dlq show 01KE70Q0VG0000000000000001')
    .action((id: string, options) => {
      const { config, log } = load(options);
      return finish(dlqShow(id, config, options, io, log));
    });
  withConfig(dlq.command('list'))
    .description('List the dead letters, oldest first: reason, origin and a preview.')
    .option('--reason <reason>', 'only this reason')
    .option('--since <time>', 'only letters written since then: -2h or ISO 8601')
    .option('--until <time>', 'only letters written before then')
    .option('--limit <count>', 'at most this many', toNumber)
    .option('--time-zone <zone>', 'of the times shown, and of times written without an offset (default: UTC)')
    .option('--json', 'NDJSON instead of a table', false)
    .addHelpText(
      'after',
      '\nExamples:\n  logpipe dlq list --reason document_refused --json\n  logpipe dlq list --since -1h',
    )
    .action((options) => {
      const { config, log } = load(options);
      return finish(dlqList(config, options, io, log));
    });
  withConfig(dlq.command('redrive [ids...]'))
    .description('Bring records back from the dead letters, once their fault is repaired. Without ids: all that match.')
    .option('--reason <reason>', 'only this reason')
    .option('--since <time>', 'only letters written since then: -2h or ISO 8601')
    .option('--until <time>', 'only letters written before then')
    .option('--time-zone <zone>', 'of times written without an offset (default: UTC)')
    .option('--where <condition>', 'only matching records: path=value, path!=value, path~text; repeatable', collect, [])
    .option('--limit <count>', 'end after this many letters', toNumber)
    .option('--again', 'also what died again after a redrive, up to five times', false)
    .option('--throttle <letters>', 'at most this many per second (default: 500)', toNumber)
    .option('--no-yield', 'do not wait while the lag of live indexing grows')
    .option('--yield-lag <records>', 'wait while live indexing lags by more than this (default: 5000)', toNumber)
    .option('--dry-run', 'read and count, write nothing', false)
    .option('--json', 'one JSON object; without it readable lines on a terminal, JSON in a pipe or a file')
    .option('--no-json', 'readable lines in a pipe or a file, too')
    .addHelpText('after', REDRIVE_HELP)
    .action((ids: string[], options) => {
      const { config, log } = load(options);
      return finish(dlqRedrive(ids, config, options, io, log));
    });

  addAlerting(program, { io, withConfig, load, finish });
  addOncallCommand(program, { io, withConfig, load, finish });
  addReplayCommand(program, { io, withConfig, load, finish });
  addIncidentCommands(program, { io, withConfig, load, finish });
  addShipCommand(program, { io, withConfig, load, finish });
  addRetentionCommand(program, { io, withConfig, load, finish });
  addKibanaCommand(program, { io, withConfig, load, finish });
  addPm2Commands(program, { io, withConfig, load, finish });
  addTopCommand(program, { io, withConfig, load, finish });
  addPageCommand(program, { io, withConfig, load, finish });
  addCompletionCommand(program, { io, withConfig, load, finish });

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
      .action((options) => finish(runStack(action, options, io)));
    if (action !== 'up') continue;
    const number = (flag: string, value: string, text: string) =>
      command.option(`${flag} <${value}>`, text, stackNumber(flag));
    number('--kafka-port', 'port', 'port of the first broker (default: 9092, or a free one when that is taken)');
    number('--es-port', 'port', 'port of the first node (default: 9200, or a free one when that is taken)');
    number('--brokers', 'count', 'Kafka brokers, 1 to 5 (default: as many as are up, or 1)');
    number('--es-nodes', 'count', 'Elasticsearch nodes, 1 to 5 (default: as many as are up, or 1)');
    command
      .addOption(
        new Option('--es <major>', 'Elasticsearch 8.19 or 9.x; auto: 9.x where Java 21 is installed')
          .choices(['8', '9', 'auto'])
          .default('auto'),
      )
      .addHelpText('after', STACK_HELP);
  }

  program
    .command('version')
    .description('Print the version.')
    .action(() => io.out(packageVersion()));
  return program;
}

const STACK_HELP = `
Several servers of one kind form a cluster. Three brokers keep three copies of
their own topics and go on while two of them run; of three nodes any one may be
lost. Three and three take about 5 GB of memory, and a busy machine may need
minutes to start them. docker-compose.yml has only one of each.

Standard output is two lines for a shell, export KAFKA_BROKERS=… and
export ELASTICSEARCH_URL=…; all else goes to standard error. Interrupted or
killed before everything is up, it leaves neither a server nor a file.

Examples:
  logpipe stack up
  eval "$(logpipe stack up)"; logpipe setup; logpipe run
  logpipe stack up --brokers 3 --es-nodes 3 --json
  kill -9 <pid of one>; logpipe stack up        # that one again, on its data`;

const REDRIVE_HELP = `
Each record goes back to its partition of the log topic and keeps its id and
its day: one that is indexed already changes nothing. It is not counted again
and raises no alert. Receipts among the letters say what is back, so the same
command goes on after Ctrl-C, a crash or a kill.

What goes back is what the letter holds: masked, unless dlq.keepRaw was on.
Letters that were cut or hold no value cannot go back; they are listed by cause.
Without Kafka the records are indexed by this command.

Examples:
  logpipe dlq redrive --reason document_refused --dry-run
  logpipe dlq redrive --reason document_refused --since -2h
  logpipe dlq redrive --where tenantId=t-7 --limit 10
  logpipe dlq redrive 01KE70Q0VG0000000000000001
Exit status: 0 all that was asked for is back, 1 something could not go back or
it was ended early, 2 wrong command line or configuration.`;

interface Shared {
  readonly io: Io;
  readonly withConfig: (command: Command) => Command;
  readonly load: (options: { config?: string }, kind?: LogKind) => { config: Config; log: Log };
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
    .description('Check rules and measures: list every problem or, when there is none, the rules.')
    .addHelpText('after', '\nExample:\n  logpipe rules check --rules my-rules.yml')
    .action((options) => {
      process.exitCode = rulesCheck(load(options).config, options, io);
    });
  files(rules.command('test [files...]'))
    .description(
      'Run tests of rules: log lines in, expected alerts and messages out. Without files: those of the shipped rules.',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  logpipe rules test\n  logpipe rules test --rules my-rules.yml my-rules.test.yml',
    )
    .action((paths: string[], options) => finish(rulesTest(paths, load(options).config, options, io)));
  files(rules.command('explain <id>'))
    .description('What a rule means, its value now and its threshold, and why it fires or not.')
    .option('--url <address>', 'of a running logpipe (default: http of the configuration); repeatable', collect, [])
    .option('--offline', 'what it means, from the files alone', false)
    .addHelpText(
      'after',
      '\nExamples:\n  logpipe rules explain high-error-rate\n  logpipe rules explain high-error-rate --offline --rules my-rules.yml',
    )
    .action((id: string, options) => finish(rulesExplain(id, load(options).config, options, io)));

  const alerts = program.command('alerts').description('Alerts: what is firing, and what became of earlier ones.');
  withConfig(alerts.command('list'))
    .description('List open incidents with their alerts, and what is about to fire.')
    .option('--all', 'resolved incidents of the last 30 days too', false)
    .option('--time-zone <zone>', 'of the times shown (default: UTC)')
    .option('--json', 'NDJSON, one incident per line', false)
    .addHelpText('after', '\nExample:\n  logpipe alerts list --all --json')
    .action((options) => {
      const { config, log } = load(options);
      return finish(alertsList(config, options, io, log));
    });
  withConfig(alerts.command('show <id>'))
    .description('Everything about one incident, or about one alert, named by its rule or its key.')
    .option('--time-zone <zone>', 'of the times shown (default: UTC)')
    .option('--json', 'one JSON object on one line', false)
    .addHelpText('after', '\nExample:\n  logpipe alerts show high-error-rate')
    .action((id: string, options) => {
      const { config, log } = load(options);
      return finish(alertsShow(id, config, options, io, log));
    });
  addAlertCommands(alerts, { io, withConfig, load, finish });

  const notify = program.command('notify').description('Channels: where alerts are sent.');
  withConfig(notify.command('test'))
    .description(
      'Send a test message, and its end, through each configured channel; to people only where they are named.',
    )
    .option('--channel <name>', 'only this one: slack, slack:payments, email:ada')
    .option('--json', 'one JSON object; without it readable lines on a terminal, JSON in a pipe or a file')
    .option('--no-json', 'readable lines in a pipe or a file, too')
    .addHelpText('after', '\nExample:\n  logpipe notify test --channel slack')
    .action(async (options) => {
      const { config, log } = load(options);
      const { notifyTest } = await import('./cli/alerts.ts');
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
