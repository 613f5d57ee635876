// `npm run demo`: the process around one demo. First Ctrl-C ends it in order, a second at once.
import { CommanderError } from 'commander';
import { errorText, LogpipeError } from '../../src/core/errors.ts';
import { type DemoOptions, demoCommand } from './options.ts';
import { complete } from './report.ts';
import { runDemo } from './run.ts';
import { createScreen } from './screen.ts';

const INTERRUPTED = 130;

async function main(): Promise<number> {
  let status = 0;
  try {
    await demoCommand(async (options) => {
      status = await demo(options);
    }).parseAsync();
    return status;
  } catch (error) {
    // commander has already said what is wrong; asking for help is no mistake.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof LogpipeError)) throw error;
    process.stderr.write(`demo: ${error.message} [${error.code}]\n`);
    return error.code === 'LOGPIPE_USAGE' ? 2 : 1;
  }
}

async function demo(options: DemoOptions): Promise<number> {
  // With --json standard output is for the one object alone.
  const screen = createScreen(options.json ? process.stderr : process.stdout, Date.now);
  const stop = new AbortController();
  const onSignal = () => {
    if (stop.signal.aborted) {
      screen.leave();
      screen.step('Ending at once');
      process.exit(INTERRUPTED);
    }
    stop.abort();
    screen.leave();
    screen.step('Ending everything; a second Ctrl-C ends it at once');
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, onSignal);
  const report = await runDemo(options, screen, stop.signal);
  if (!report) return INTERRUPTED;
  if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  return complete(report) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`demo: ${errorText(error)}\n`);
  process.exitCode = 1;
}
// Servers that were still starting when the demo was interrupted end with this process, not before it.
process.stdout.write('', () => process.exit());
