// `logpipe pm2 watch`: tells what happens to the applications of a PM2, until a signal.
import { hostname } from 'node:os';
import type { Command } from 'commander';
import type { Config } from '../config.ts';
import { systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createMasker } from '../core/mask.ts';
import { clearTextWarnings } from './check-config.ts';
import type { CommandKit } from './command-kit.ts';

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
export async function pm2Watch(config: Config, options: { home?: string }, log: Log): Promise<number> {
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
