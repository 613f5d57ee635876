// `logpipe replay` on the command line: its options and examples.
import { type Command, Option } from 'commander';
import { type CommandKit, collect } from './command-kit.ts';
import { REPLAY_SOURCES, runReplay } from './replay.ts';
import { withShadowAlerts } from './shadow.ts';

export function addReplayCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  withConfig(program.command('replay [files...]'))
    .description('Bring a stretch of logs back, by event time. Moves nobody’s offsets, raises no alert.')
    .option('--from <time>', 'where the stretch begins: -2h, -30m or ISO 8601')
    .option('--to <time>', 'where it ends, exclusive (default: now)')
    .option('--time-zone <zone>', 'of times that are written without one (default: UTC)')
    .addOption(new Option('--source <source>', 'where the records lie').choices(REPLAY_SOURCES).default('kafka'))
    .option('--lateness <duration>', 'how much later than its event a record may have been written', '10m')
    .option('--index-pattern <pattern>', 'with --source index: other indices than the live log ones')
    .option('--where <condition>', 'only matching events: path=value, path!=value, path~text; repeatable', collect, [])
    .option('--reparse', 'overwrite documents with what the present parser makes, moving them between days', false)
    .option('--to-index <name>', 'into logpipe-replay-<name>-YYYY.MM.dd instead of in place')
    .option('--to-topic <topic>', 'into another topic, marked as replayed')
    .option('--to-dir <dir>', 'into NDJSON files, one per day')
    .option('--to-console', 'to standard output; NDJSON with --json', false)
    .option('--speed <speed>', '10x keeps the spacing of the events, ten times as fast', 'max')
    .option('--throttle <events>', 'at most so many events per second', Number)
    .option('--limit <count>', 'end after this many events', Number)
    .option('--name <name>', 'remember positions in .logpipe/replay/<name>.json and go on there after a break')
    .option('--no-yield', 'do not wait while the lag of live indexing grows')
    .option('--yield-lag <records>', 'lag of live indexing from which on to wait (default: 5000)', Number)
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
