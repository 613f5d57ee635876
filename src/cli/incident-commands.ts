// The commands around an incident that is over: what the rules would have done, and a folder with everything about it.
import { type Command, Option } from 'commander';
import { STORED_SOURCES } from '../simulate/stored.ts';
import { runBacktest } from './backtest.ts';
import { type CommandKit, collect } from './command-kit.ts';
import { runIncidentExport } from './incident.ts';

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
    .addOption(new Option('--source <source>', 'where the records lie').choices(STORED_SOURCES).default('kafka'))
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
