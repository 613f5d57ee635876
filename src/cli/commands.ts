// The command line of replay, backtest, incident export, kibana import and pm2 watch: options, examples, and what they
// start. In: the program and a kit that loads the configuration. Out: commands registered with it. Guarantee: what
// only Kibana and PM2 need is loaded by their commands alone.
import { hostname } from 'node:os';
import { type Command, Option } from 'commander';
import type { Config } from '../config.ts';
import { systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { SOURCE_KINDS } from '../replay/sources.ts';
import { ARRIVAL_SOURCES } from '../replay/stored.ts';
import { runBacktest, withShadowAlerts } from './backtest.ts';
import { clearTextWarnings } from './check-config.ts';
import { runIncidentExport } from './incident.ts';
import { type Io, toNumber } from './io.ts';
import { runReplay } from './replay.ts';

/** What every group of commands is given to register itself with. */
interface CommandKit {
  readonly io: Io;
  /** Adds `--config`. */
  readonly withConfig: (command: Command) => Command;
  readonly load: (options: { config?: string }) => { config: Config; log: Log };
  /** The exit status of the command's work. */
  readonly finish: (work: Promise<number>) => Promise<void>;
}

function collect(value: string, all: string[]): string[] {
  return [...all, value];
}

// --- logpipe replay ---

export function addReplayCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('replay [files...]'))
    .description('Bring a stretch of logs back, by event time. Moves nobody’s offsets, raises no alert.')
    .option('--from <time>', 'where the stretch begins: -2h, -30m or ISO 8601')
    .option('--to <time>', 'where it ends, exclusive (default: now)')
    .option('--time-zone <zone>', 'of times that are written without one (default: UTC)')
    .addOption(new Option('--source <source>', 'where the records lie').choices(SOURCE_KINDS).default('kafka'))
    .option('--lateness <duration>', 'how much later than its event a record may have been written', '10m')
    .option('--index-pattern <pattern>', 'with --source index: other indices than the live log ones')
    .option('--where <condition>', 'only matching events: path=value, path!=value, path~text; repeatable', collect, [])
    .option('--reparse', 'overwrite documents with what the present parser makes, moving them between days', false)
    .option('--to-index <name>', 'into logpipe-replay-<name>-YYYY.MM.dd instead of in place')
    .option('--to-topic <topic>', 'into another topic, marked as replayed')
    .option('--to-dir <dir>', 'into NDJSON files, one per day')
    .option('--to-console', 'to standard output; NDJSON with --json', false)
    .option('--speed <speed>', '10x keeps the spacing of the events, ten times as fast', 'max')
    .option('--throttle <events>', 'at most so many events per second', toNumber)
    .option('--limit <count>', 'end after this many events', toNumber)
    .option('--name <name>', 'remember positions in .logpipe/replay/<name>.json and go on there after a break')
    .option('--no-yield', 'do not wait while the lag of live indexing grows')
    .option('--yield-lag <records>', 'lag of live indexing from which on to wait (default: 5000)', toNumber)
    .option('--dead-letters', 'refused documents go to the dead letters’ topic too', false)
    .addOption(
      new Option('--alerts <mode>', 'shadow: say on standard error what the rules would have done; tells nobody')
        .choices(['none', 'shadow'])
        .default('none'),
    )
    .option('--dry-run', 'read and count, write nothing', false)
    .option('--json', 'summary as one JSON object', false)
    .addHelpText(
      'after',
      `
Examples:
  logpipe replay --from -2h --dry-run
  logpipe replay --from 2026-01-31T08:00 --to 2026-01-31T09:00 --time-zone Europe/Berlin --name outage
  logpipe replay --from -1d --where level=error --to-index incident-7
  logpipe replay --source dlq
  logpipe replay --source file --from 2026-01-31 --to 2026-02-01 archive.ndjson.gz`,
    )
    .action((files: string[], options) => {
      const { config, log } = load(options);
      const { alerts, ...rest } = options;
      if (alerts !== 'shadow') return finish(runReplay(files, config, rest, io, { log }));
      return finish(withShadowAlerts(config, io, (onEvent) => runReplay(files, config, rest, io, { log, onEvent })));
    });
}

// --- logpipe backtest, logpipe incident export ---

export function addIncidentCommands(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  const stretch = (command: Command) =>
    withConfig(command)
      .requiredOption('--from <time>', 'where the stretch begins: -2h or ISO 8601')
      .option('--to <time>', 'where it ends (default: now)')
      .option('--time-zone <zone>', 'of times that are written without one (default: UTC)')
      .option('--measures <file>', 'measures to use instead of the configured ones')
      .option('--rules <file>', 'rules to use instead of the configured ones');

  stretch(program.command('backtest [files...]'))
    .description(
      'What rules would have done over recorded logs; tells nobody. Files: with --source file, plain or gzip.',
    )
    .addOption(new Option('--source <source>', 'where the records lie').choices(ARRIVAL_SOURCES).default('kafka'))
    .option('--compare <file>', 'a second rule set, to say what differs')
    .option('--warm-up <duration>', 'read so much before --from (default: what the rules look back, at most 6h)')
    .option('--tick <duration>', 'from one evaluation to the next', '5s')
    .option('--json', 'one JSON object, the same bytes for the same records', false)
    .addHelpText(
      'after',
      `
Examples:
  logpipe backtest --from -24h
  logpipe backtest --from 2026-01-31T08:00Z --to 2026-01-31T09:00Z --rules candidate.yml --compare config/rules.yml
  logpipe backtest --from 2026-01-31 --to 2026-02-01 --source file logs.ndjson.gz`,
    )
    .action((files: string[], options) => {
      const { config, log } = load(options);
      return finish(runBacktest(files, config, options, io, { log }));
    });

  const incident = program.command('incident').description('Incidents: what is needed after them.');
  stretch(incident.command('export'))
    .description(
      'Write logs, rates, alerts and frequent errors of a stretch into a folder, with a README to begin a post-mortem.',
    )
    .requiredOption('--out <dir>', 'folder; it must be empty')
    .addOption(new Option('--source <source>', 'where the logs lie').choices(['kafka', 'index']).default('kafka'))
    .option('--where <condition>', 'only matching logs: path=value, path!=value, path~text; repeatable', collect, [])
    .option('--force', 'write into a folder that is not empty', false)
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      '\nExample:\n  logpipe incident export --from 2026-01-31T08:00Z --to 2026-01-31T09:00Z --out incident-2026-01-31',
    )
    .action((options) => {
      const { config, log } = load(options);
      return finish(runIncidentExport(config, options, io, { log }));
    });
}

// --- logpipe kibana import ---

export function addKibanaCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  const kibana = program.command('kibana').description('Kibana: dashboard, charts and data views.');
  withConfig(kibana.command('import [files...]'))
    .description(
      'Import dashboard, charts and data views; repeating it changes nothing. Files: .ndjson (default: the shipped ones).',
    )
    .option('--url <address>', 'address of Kibana (default: kibana.url, KIBANA_URL)')
    .option('--api-key <key>', 'API key, base64 form; others on this host can see it here, so better KIBANA_API_KEY')
    .option('--space <id>', 'space to import into (default: kibana.space, else that of the address)')
    .option('--dry-run', 'check and list the objects; send nothing', false)
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      `
Examples:
  logpipe kibana import --dry-run
  logpipe kibana import --url http://localhost:5601
  KIBANA_API_KEY_FILE=/etc/logpipe/kibana.key logpipe kibana import --url https://kibana.example.org --space ops
  KIBANA_USERNAME=elastic KIBANA_PASSWORD_FILE=/etc/logpipe/kibana.pw logpipe kibana import --json

The log-in comes from KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD, or their _FILE forms.
Exit status: 0 all objects are there, 1 some or all were not taken, 2 wrong command line or configuration.`,
    )
    .action(async (files: string[], options) => {
      const { kibanaImport } = await import('./kibana.ts');
      return finish(kibanaImport(files, load(options).config, options, io));
    });
}

// --- logpipe pm2 watch ---

/** As the operators' guide names the sender in Slack. */
const SLACK_USERNAME = 'Calling Platform Bot';
const STOP_TIMEOUT_MS = 5_000;

export function addPm2Commands(program: Command, { withConfig, load, finish }: CommandKit): void {
  const pm2 = program.command('pm2').description('PM2: what happens to its applications.');
  withConfig(pm2.command('watch'))
    .description('Send a message when an application is started, restarted, reloaded or stopped, or fails.')
    .option('--home <folder>', 'PM2’s folder (default: pm2.home of the configuration, else ~/.pm2)')
    .addHelpText('after', '\nExample:\n  logpipe pm2 watch --home /var/lib/deploy/.pm2')
    .action((options: { config?: string; home?: string }) => {
      const { config, log } = load(options);
      return finish(pm2Watch(config, options, log));
    });
}

/** Runs until SIGINT or SIGTERM. Exit status 1 when messages were left over. @throws LogpipeError LOGPIPE_CONFIG_INVALID */
async function pm2Watch(config: Config, options: { home?: string }, log: Log): Promise<number> {
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve());
  });
  for (const warning of clearTextWarnings(config)) log.warn(warning);
  const [{ createChannels }, { startPm2Watch }] = await Promise.all([
    import('../notify/channels.ts'),
    import('../pm2/watch.ts'),
  ]);
  const masker = createMasker(config.mask);
  const { slack } = config.notify;
  const notify = { ...config.notify, slack: { ...slack, username: slack.username ?? SLACK_USERNAME } };
  const channels = createChannels(notify, { clock: systemClock, log, masker, out: process.stdout });
  const section = options.home === undefined ? config.pm2 : { ...config.pm2, home: options.home };
  const watch = startPm2Watch(
    section,
    { environment: notify.environment, host: hostname() },
    { clock: systemClock, log, masker, channels },
  );
  // The clock's timers keep no process alive, and PM2 may be away.
  const alive = setInterval(() => {}, 60_000);
  await stopped;
  clearInterval(alive);
  if (await watch.stop(STOP_TIMEOUT_MS)) return 0;
  throw new LogpipeError('LOGPIPE_SHUTDOWN_FORCED', 'pm2 watch: a channel did not take the last messages in time');
}
