// The command line of init, alerts ack to unsilence, oncall, replay, backtest, incident export, ship, retention, kibana import, top, page, completion and pm2 watch: options,
// examples, and what they start. In: the program and a kit that loads the configuration. Out: commands registered with it. Guarantee: what
// only Kibana and PM2 need is loaded by their commands alone.
import { hostname } from 'node:os';
import { Argument, type Command, Option } from 'commander';
import type { Config } from '../config.ts';
import { systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { SOURCE_KINDS } from '../replay/sources.ts';
import { ARRIVAL_SOURCES } from '../replay/stored.ts';
import { PRIORITIES } from '../rules/rule-types.ts';
import { clearTextWarnings } from './check-config.ts';
import type { Shell } from './completion.ts';
import { endWithParent, type Io, type LogKind, toNumber } from './io.ts';
import { runIncidentExport, runReplay } from './replay.ts';
import { runBacktest, withShadowAlerts } from './rules.ts';

/** What every group of commands is given to register itself with. */
interface CommandKit {
  readonly io: Io;
  /** Adds `--config`. */
  readonly withConfig: (command: Command) => Command;
  readonly load: (options: { config?: string }, kind?: LogKind) => { config: Config; log: Log };
  /** The exit status of the command's work. */
  readonly finish: (work: Promise<number>) => Promise<void>;
}

function collect(value: string, all: string[]): string[] {
  return [...all, value];
}

/** For who starts a command and waits for it: a program, or the API (ops/jobs.ts). */
function forPrograms(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--progress <form>',
        'json: every second one JSON object on standard error, with how far it is',
      ).choices(['text', 'json']),
    )
    .addOption(new Option('--exit-with-parent', 'end when standard input closes').default(false));
}

const JSON_WHERE = 'one JSON object; without it readable lines on a terminal, JSON in a pipe or a file';
const NO_JSON = 'readable lines in a pipe or a file, too';

// --- logpipe init ---

export function addInitCommand(program: Command, { io, finish }: CommandKit): void {
  program
    .command('init')
    .description('Write a configuration, rules with a test, and a systemd unit or PM2 file into this folder.')
    .option('--dir <folder>', 'into another folder', '.')
    .addOption(new Option('--systemd', 'with a systemd unit, whatever is found').conflicts(['pm2', 'none']))
    .addOption(new Option('--pm2', 'with a file for PM2, whatever is found').conflicts(['systemd', 'none']))
    .option('--none', 'with neither')
    .option('--force', 'replace what is there and differs; a copy is kept', false)
    .option('--dry-run', 'say what would be written', false)
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      `
What it can find out it does not ask: KAFKA_BROKERS and ELASTICSEARCH_URL of the environment, else what listens on localhost:9092 and
localhost:9200; the name in package.json; PM2, else systemd. What is there is left as it is: repeating it changes nothing.

Examples:
  logpipe init
  logpipe init --dir deploy --systemd --dry-run`,
    )
    .action(async ({ dir, systemd, pm2, none, force, dryRun, json }) => {
      const { init } = await import('./init.ts');
      const keeper = systemd ? 'systemd' : pm2 ? 'pm2' : none ? 'none' : undefined;
      return finish(init({ dir, keeper, force, dryRun, json }, io, { env: process.env }));
    });
}

// --- logpipe alerts ack, resolve, silence, silences, unsilence ---

/** @param alerts the command above them */
export function addAlertCommands(alerts: Command, { io, withConfig, load, finish }: CommandKit): void {
  const giving = (command: Command, who: string) =>
    withConfig(command)
      .option('--by <name>', `who ${who} (default: user and host)`)
      .option('--wait-seconds <seconds>', 'how long to wait for the answer', toNumber, 30)
      .option('--json', 'one JSON object', false);

  giving(alerts.command('ack <id>'), 'acknowledges it')
    .description('Acknowledge an incident, named by its id, or by a rule or alert that fires: you are at it.')
    .option('--time-zone <zone>', 'of the times shown (default: UTC)')
    .addHelpText(
      'after',
      `
Reminders and escalation end. They begin again when the incident becomes more
urgent than what was acknowledged.

Examples:
  logpipe alerts ack 01KE70Q0VG0000000000000000
  logpipe alerts ack high-error-rate --by ada
${GIVEN}`,
    )
    .action(async (id: string, options) => {
      const { config, log } = load(options);
      const { alertsAck } = await import('./on-call.ts');
      return finish(alertsAck(id, config, options, io, log));
    });

  giving(alerts.command('resolve <id>'), 'resolves it')
    .description('End firing alerts by hand: of an incident, a rule, or one label set.')
    .option('--time-zone <zone>', 'of the times shown (default: UTC)')
    .addHelpText(
      'after',
      `
What will never be heard of again, such as a host that was taken away, ends; it
fires again only after something has arrived from it. What is still true goes
quiet: people are told that it is over, and told again if it is true half an
hour later (reopenAfter of routing.yml), or at once if it becomes worse.

Examples:
  logpipe alerts resolve application-silent
  logpipe alerts resolve 'host-silent{host="worker-3"}'
${GIVEN}`,
    )
    .action(async (id: string, options) => {
      const { config, log } = load(options);
      const { alertsResolve } = await import('./on-call.ts');
      return finish(alertsResolve(id, config, options, io, log));
    });

  giving(alerts.command('silence'), 'silences them')
    .description('Tell nobody of matching alerts until a time. All that is given must match.')
    .option('--rule <id>', 'of this rule')
    .option('--group <name>', 'of this group')
    .option('--label <name=value>', 'with this label; repeatable', collect, [])
    .addOption(new Option('--priority <priority>', 'of this priority').choices(PRIORITIES))
    .option('--environment <name>', 'of this environment (notify.environment)')
    .option('--for <duration>', 'for so long: 30m, 2h, 1d')
    .option('--until <time>', 'until then, ISO 8601')
    .option('--from <time>', 'beginning then (default: now)')
    .option('--reason <text>', 'why; whoever is on call reads it')
    .option('--preview', 'say what it would mute now, and would have muted in the last day; set nothing', false)
    .option('--time-zone <zone>', 'of the times shown, and of times written without an offset (default: UTC)')
    .addHelpText(
      'after',
      `
When it ends, what still fires is told as it is then: one message for each
incident, not what was missed. "Log pipeline blind" obeys it too
(--rule log-pipeline-blind), even while Kafka is away.

Examples:
  logpipe alerts silence --rule queue-backlog --label queue=scheduled-calls --for 2h --preview
  logpipe alerts silence --group calls --for 30m --reason 'carrier maintenance'
  logpipe alerts silence --rule log-pipeline-blind --from 2026-12-01T22:00 --for 2h --time-zone Europe/Berlin --reason 'Kafka upgrade'
${GIVEN}`,
    )
    .action(async (options) => {
      const { config, log } = load(options);
      const { alertsSilence } = await import('./on-call.ts');
      return finish(alertsSilence(config, options, io, log));
    });

  withConfig(alerts.command('silences'))
    .description('List the silences in force and to come: until when, of what, by whom and why.')
    .option('--time-zone <zone>', 'of the times shown (default: UTC)')
    .option('--json', 'NDJSON, one silence per line', false)
    .addHelpText('after', '\nExample:\n  logpipe alerts silences --time-zone Europe/Berlin')
    .action(async (options) => {
      const { config, log } = load(options);
      const { alertsSilences } = await import('./on-call.ts');
      return finish(alertsSilences(config, options, io, log));
    });

  giving(alerts.command('unsilence <id>'), 'ends it')
    .description('End a silence before its time; its id is in logpipe alerts silences.')
    .addHelpText('after', `\nExample:\n  logpipe alerts unsilence 01KE70Q0VG0000000000000003\n${GIVEN}`)
    .action(async (id: string, options) => {
      const { config, log } = load(options);
      const { alertsUnsilence } = await import('./on-call.ts');
      return finish(alertsUnsilence(id, config, options, io, log));
    });
}

const GIVEN = `
It is done when the leader has made it durable; without an answer it is carried
out later, within a day.
Exit status: 0 done, 1 refused or no answer, 2 wrong command line or configuration.`;

// --- logpipe oncall ---

export function addOncallCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('oncall'))
    .description('Show who is on call, of each team, and who comes next.')
    .option('--at <time>', 'at that time instead of now, ISO 8601')
    .option('--next <count>', 'so many shifts that follow', toNumber, 1)
    .option('--team <id>', 'only this team')
    .option('--time-zone <zone>', 'of the times (default: the rota’s; of --at without an offset: UTC)')
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      `
It reads routing.yml and asks no server.

Examples:
  logpipe oncall
  logpipe oncall --next 4 --team payments
  logpipe oncall --at 2026-12-24T20:00 --time-zone Europe/Berlin
  logpipe oncall --json | jq -r '.teams[].now.primary.name'
Exit status: 0 somebody is on call, 1 a team with a rota has nobody, 2 wrong
command line or configuration.`,
    )
    .action(async (options) => {
      const { config } = load(options);
      const { oncall } = await import('./on-call.ts');
      return finish(Promise.resolve(oncall(config, options, io)));
    });
}

// --- logpipe replay ---

export function addReplayCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  forPrograms(withConfig(program.command('replay [files...]')))
    .description('Bring a stretch of logs back, by event time. Moves nobody’s offsets, raises no alert.')
    .option('--from <time>', 'where the stretch begins: -2h, -30m or ISO 8601')
    .option('--to <time>', 'where it ends, exclusive (default: now)')
    .option('--time-zone <zone>', 'of times written without an offset (default: UTC)')
    .addOption(new Option('--source <source>', 'where the records lie').choices(SOURCE_KINDS).default('kafka'))
    .option('--lateness <duration>', 'how much later than its event a record may have been written', '10m')
    .option('--index-pattern <pattern>', 'with --source index: indices to read instead of the live ones')
    .option('--where <condition>', 'only matching events: path=value, path!=value, path~text; repeatable', collect, [])
    .option(
      '--reparse',
      'overwrite documents with what today’s parser makes of them; some may move to another day',
      false,
    )
    .option('--to-index <name>', 'write to logpipe-replay-<name>-YYYY.MM.dd instead of the daily indices')
    .option('--to-topic <topic>', 'write to another topic, marked as replayed')
    .option('--to-dir <dir>', 'write to NDJSON files, one per day')
    .option('--to-console', 'write to standard output; NDJSON with --json', false)
    .option('--speed <speed>', '10x keeps the spacing of the events, ten times as fast', 'max')
    .option('--throttle <events>', 'at most this many events per second', toNumber)
    .option('--limit <count>', 'end after this many events', toNumber)
    .option('--name <name>', 'save positions in .logpipe/replay/<name>.json and resume there after a break')
    .option('--no-yield', 'do not wait while the lag of live indexing grows')
    .option('--yield-lag <records>', 'wait while live indexing lags by more than this (default: 5000)', toNumber)
    .option('--dead-letters', 'send refused documents to the dead-letter topic, too', false)
    .addOption(
      new Option(
        '--alerts <mode>',
        'shadow: print on standard error what the rules would have done; nobody is notified',
      )
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
      const { alerts, exitWithParent, ...rest } = options;
      if (exitWithParent) endWithParent();
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
      .option('--time-zone <zone>', 'of times written without an offset (default: UTC)')
      .option('--measures <file>', 'measures to use instead of the configured ones')
      .option('--rules <file>', 'rules to use instead of the configured ones');

  forPrograms(stretch(program.command('backtest [files...]')))
    .description(
      'Show what rules would have done over recorded logs; nobody is notified. Files, plain or gzip, need --source file.',
    )
    .addOption(new Option('--source <source>', 'where the records lie').choices(ARRIVAL_SOURCES).default('kafka'))
    .option('--compare <file>', 'a second rule set; prints what differs')
    .option(
      '--warm-up <duration>',
      'how much to read before --from (default: as far as the rules look back, at most 6h)',
    )
    .option('--tick <duration>', 'time between two evaluations', '5s')
    .option('--json', `${JSON_WHERE}; the same records give the same bytes`)
    .option('--no-json', NO_JSON)
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
      if (options.exitWithParent) endWithParent();
      return finish(runBacktest(files, config, options, io, { log }));
    });

  const incident = program.command('incident').description('Incidents: what you need after one.');
  stretch(incident.command('export'))
    .description(
      'Write logs, rates, alerts and frequent errors of a stretch into a folder, with a README to begin a post-mortem.',
    )
    .requiredOption('--out <dir>', 'folder; it must be empty')
    .addOption(new Option('--source <source>', 'where the logs lie').choices(['kafka', 'index']).default('kafka'))
    .option('--where <condition>', 'only matching logs: path=value, path!=value, path~text; repeatable', collect, [])
    .option('--force', 'write into a folder that is not empty', false)
    .option('--json', JSON_WHERE)
    .option('--no-json', NO_JSON)
    .addHelpText(
      'after',
      '\nExample:\n  logpipe incident export --from 2026-01-31T08:00Z --to 2026-01-31T09:00Z --out incident-2026-01-31',
    )
    .action((options) => {
      const { config, log } = load(options);
      return finish(runIncidentExport(config, options, io, { log }));
    });
}

// --- logpipe ship ---

export function addShipCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('ship'))
    .description(
      'Send lines of files, standard input and syslog, and OpenTelemetry’s logs, to the log topic, or what a spool holds.',
    )
    .option('--file <pattern...>', 'files, or patterns in quotes such as "/var/log/nginx/*.log"')
    .option('--stdin', 'standard input, until it ends')
    .option('--syslog <address>', 'what senders of syslog bring to tcp://host:port')
    .option('--otlp [address]', 'what OpenTelemetry’s exporters bring to host:port (default: 127.0.0.1:4318)')
    .option('--service <name>', 'field service of records that have none')
    .option('--environment <name>', 'field environment of records that have none')
    .option('--starts <regex>', 'a line in which this is found begins a record; the others belong to the one before')
    .addOption(
      new Option('--continues <regex>', 'a line in which this is found belongs to the record before it').conflicts(
        'starts',
      ),
    )
    .option('--once', 'end when everything is sent that the files hold now', false)
    .option('--data-dir <dir>', 'where positions in files are kept (default: ship.dataDir)')
    .option('--spool <dir>', 'keep streams there while Kafka is away; alone: send what processes left in that folder')
    .option(
      '--brokers <list>',
      'host:port, comma-separated (default: kafka.brokers; with --spool alone, those the records are for)',
    )
    .option('--timeout <duration>', 'with --spool alone: give up when nothing gets through for so long', '30s')
    .option('--dry-run', 'with --spool alone: list what is there and whose it is; send nothing', false)
    .option('--json', JSON_WHERE)
    .option('--no-json', NO_JSON)
    .addHelpText(
      'after',
      `
Without --file, --stdin, --syslog, --otlp and --spool it sends what ship.inputs
of the configuration names, and follows the files until it is told to stop. Where it
was in a file is noted only when Kafka has the lines; after a crash what is sent
again is indexed and counted once.

With --spool alone it sends the records that an application's transport left on
disk because Kafka was away when it ended (its option spool.dir); an application
that runs sends what its predecessors left by itself. TLS and log-in come from
the configuration, which must name the same brokers. What a living process has
there is left alone.

Examples:
  logpipe ship --file "/var/log/nginx/*.log" --service nginx
  logpipe ship --file app.log --once --starts "^\\d{4}-\\d\\d-\\d\\d"
  journalctl -f -o json | logpipe ship --stdin --service journal --spool /var/lib/logpipe/spool
  logpipe ship --syslog tcp://0.0.0.0:6514 --spool /var/lib/logpipe/spool
  logpipe ship --otlp 0.0.0.0:4318
  logpipe ship --config /etc/logpipe.yml
  logpipe ship --spool /var/lib/import/spool --dry-run
  logpipe ship --spool /var/lib/import/spool --brokers kafka-1:9092,kafka-2:9092

Exit status: 0 everything is sent or kept, 1 something was not or was refused,
2 wrong command line or configuration.`,
    )
    .action(async (options) => {
      const { ship, shipInputs } = await import('./ship.ts');
      const hasInput = [options.file, options.stdin, options.syslog, options.otlp].some((given) => given !== undefined);
      if (!hasInput && options.spool !== undefined) {
        const { config } = load(options);
        const ending = new AbortController();
        for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ending.abort());
        return finish(ship(config, options, io, { stop: ending.signal }));
      }
      const { config, log } = load(options, 'service');
      return finish(shipInputs(config, options, io, log));
    });
}

// --- logpipe retention ---

export function addRetentionCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('retention'))
    .description('Delete indices whose days are over, as the leader does every night; retentionDays says how many.')
    .option('--dry-run', 'say what would become of each index, and why; change nothing', false)
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      `
Only indices of exactly the names that logpipe gives:
  calling-platform-YYYY.MM.dd         retention.retentionDays
  logpipe-alerts-YYYY.MM              retention.alertHistoryDays
  logpipe-replay-<name>-YYYY.MM.dd    retention.replayDays
A kind without days is kept for ever.

Examples:
  logpipe retention --dry-run
  logpipe retention --dry-run --json | jq '.indices[] | select(.decision == "delete").name'
  logpipe retention
Exit status: 0 nothing expired is left, 1 something is, or the time is in doubt,
2 wrong command line or configuration.`,
    )
    .action(async (options: { config?: string; dryRun: boolean; json: boolean }) => {
      const { config } = load(options);
      const { retention } = await import('./run.ts');
      const ending = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ending.abort());
      return finish(retention(config, options, io, { clock: systemClock, stop: ending.signal }));
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
    .option('--api-key <key>', 'API key in base64; other users of this host can see it here, so prefer KIBANA_API_KEY')
    .option('--space <id>', 'space to import into (default: kibana.space, or that of the address)')
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

The log-in comes from KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD,
or their _FILE forms. Exit status: 0 all objects are there, 1 some or all were
not taken, 2 wrong command line or configuration.`,
    )
    .action(async (files: string[], options) => {
      const { kibanaImport } = await import('./kibana.ts');
      return finish(kibanaImport(files, load(options).config, options, io));
    });
}

// --- logpipe top ---

export function addTopCommand(program: Command, { withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('top'))
    .description('One screen, live, of a running logpipe: rates, lag, errors, alerts, rules, sinks.')
    .option('--url <address>', 'where it serves HTTP (default: http of the configuration); repeatable', collect, [])
    .option('--every <seconds>', 'from one look to the next', Number, 1)
    .option('--once', 'look once and end; exit status 1 when nobody answers', false)
    .option('--json', 'NDJSON, one object per look', false)
    .addHelpText(
      'after',
      `
Where the roles are spread over several processes, name each: what one does not do is not in its answers.

Examples:
  logpipe top
  logpipe top --url 127.0.0.1:8780 --url 127.0.0.1:8781
  logpipe top --once --json | jq .rates`,
    )
    .action(async (options: { config?: string; url: string[]; every: number; once: boolean; json: boolean }) => {
      const { addressesOf, top } = await import('./top.ts');
      const { once, json, every } = options;
      if (!(every >= 0.1 && every <= 3_600)) {
        throw new LogpipeError('LOGPIPE_USAGE', '--every: expected a number of seconds, 0.1 to 3600');
      }
      const urls = addressesOf(options.url, () => load(options).config);
      const ending = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => ending.abort());
      const deps = { out: process.stdout, clock: systemClock, stop: ending.signal };
      return finish(top(urls, { once, json, everyMs: every * 1_000 }, deps));
    });
}

// --- logpipe page ---

export function addPageCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('page'))
    .description('Print the address of the page, which opens a session when it is first used.')
    .option('--read-only', 'a session that cannot acknowledge, silence or replay', false)
    .option('--local', 'the address on this machine, though http.publicUrl is set', false)
    .option('--json', 'one JSON object: url, and when it expires', false)
    .addHelpText(
      'after',
      `
The address works once, within 15 minutes, with every instance that has the same http.linkSecrets; its session ends after twelve hours.
It is as good as a password until then. Without http.linkSecrets, the page can be read on this machine, and nothing changed.

Examples:
  logpipe page
  logpipe page --read-only
  xdg-open "$(logpipe page --local)"
Exit status: 0 printed, 2 there is no page, or a wrong command line or configuration.`,
    )
    .action(async (options: { config?: string; readOnly: boolean; local: boolean; json: boolean }) => {
      const { page } = await import('./page-address.ts');
      return finish(Promise.resolve(page(load(options).config, options, io, systemClock)));
    });
}

// --- logpipe completion ---

export function addCompletionCommand(program: Command, { io, finish }: CommandKit): void {
  program
    .command('completion')
    .description('Print what makes the Tab key complete commands, options and files.')
    .addArgument(new Argument('<shell>', 'for which shell').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'after',
      `
Examples:
  source <(logpipe completion bash)       # in ~/.bashrc; the same with zsh in ~/.zshrc, after compinit
  logpipe completion fish > ~/.config/fish/completions/logpipe.fish`,
    )
    .action(async (shell: Shell) => {
      const { completionScript } = await import('./completion.ts');
      io.out(completionScript(shell, program).trimEnd());
      return finish(Promise.resolve(0));
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
    .option('--json', 'JSON lines; without it readable lines on a terminal, and elsewhere what log.format says', false)
    .addHelpText('after', '\nExample:\n  logpipe pm2 watch --home /var/lib/deploy/.pm2')
    .action((options: { config?: string; home?: string; json: boolean }) => {
      const { config, log } = load(options, options.json ? 'json' : 'command');
      return finish(pm2Watch(config, options, log));
    });
}

/** Runs until SIGINT or SIGTERM. Exit status 1 when messages were left over. @throws LogpipeError LOGPIPE_CONFIG_INVALID */
async function pm2Watch(config: Config, options: { home?: string }, log: Log): Promise<number> {
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve());
  });
  for (const warning of clearTextWarnings(config)) log.warn(warning);
  const [{ createChannels }, { startPm2Watch }, { createRoutes }, { loadRouting }] = await Promise.all([
    import('../notify/dispatcher.ts'),
    import('../pm2/watch.ts'),
    import('../oncall/routes.ts'),
    import('../oncall/routing.ts'),
  ]);
  const masker = createMasker(config.mask);
  const { slack } = config.notify;
  const notify = { ...config.notify, slack: { ...slack, username: slack.username ?? SLACK_USERNAME } };
  const routing = loadRouting({ file: config.alerts.routingFile, env: process.env, nowMs: Date.now() });
  const channels = createChannels(notify, routing, { clock: systemClock, log, masker, out: process.stdout });
  const routes =
    routing && createRoutes(routing, { has: (name) => channels.has(name), environment: notify.environment });
  const section = options.home === undefined ? config.pm2 : { ...config.pm2, home: options.home };
  const watch = startPm2Watch(
    section,
    { environment: notify.environment, host: hostname() },
    { clock: systemClock, log, masker, channels, ...(routes === undefined ? {} : { routes }) },
  );
  // The clock's timers keep no process alive, and PM2 may be away.
  const alive = setInterval(() => {}, 60_000);
  await stopped;
  clearInterval(alive);
  if (await watch.stop(STOP_TIMEOUT_MS)) return 0;
  throw new LogpipeError('LOGPIPE_SHUTDOWN_FORCED', 'pm2 watch: a channel did not take the last messages in time');
}
