// The sample calling platform as a process: serves HTTP on 127.0.0.1, logs with Winston, makes its own visitors.
// On SIGTERM it stops in order and reports what it logged; with --report as JSON lines on standard output.
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { Command, CommanderError, Option } from 'commander';
import { collectDefaultMetrics } from 'prom-client';
import { systemClock } from '../../src/core/clock.ts';
import { errorText, LogpipeError } from '../../src/core/errors.ts';
import { startPm2Metrics } from '../../src/core/pm2-metrics.ts';
import { startProcessStats } from '../../src/ship/index.ts';
import { INCIDENT_KINDS, type IncidentKind } from './incident.ts';
import { createPlatformLogger } from './logger.ts';
import { createPlatform } from './platform.ts';
import { createRandom } from './random.ts';
import type { AppReport } from './report.ts';
import { createTraffic } from './traffic.ts';

interface Flags {
  brokers?: string[];
  topic: string;
  logFile: string;
  port: number;
  metricsPort?: number;
  rate: number;
  incident?: IncidentKind;
  callSpeed: number;
  statsEvery: number;
  seed: number;
  report: boolean;
  exitWithParent: boolean;
}

const REPORT_EVERY_MS = 250;
const INCIDENT_SECONDS = 300;
const MAX_OPEN_REQUESTS = 256;
/** Windows of the figures for PM2: response times of a minute, errors of five minutes as in the alerts. */
const RESPONSE_MS = 60_000;
const ERRORS_MS = 300_000;

const EXAMPLES = `
Examples:
  node dist/examples/calling-platform/main.js --brokers localhost:9092
  node dist/examples/calling-platform/main.js --brokers localhost:9092 --incident provider-outage
  node dist/examples/calling-platform/main.js --log-file logs/app.log --rate 20
  curl -s localhost:3000/admin/incident -H 'content-type: application/json' -d '{"kind":"slow-database","seconds":60}'`;

function command(): Command {
  return new Command('calling-platform')
    .description('A small calling platform with simulated calls, queues and connection pools, logging with Winston.')
    .option('--brokers <list>', 'Kafka, as host:port,…; without it the log goes to the file alone', list)
    .option('--topic <name>', 'topic of the log records', 'calling-platform-logs')
    .option('--log-file <file>', 'JSON lines are appended here', 'logs/app.log')
    .option('--port <port>', 'port on 127.0.0.1; 0 takes a free one', number('--port', 0, 65_535), 3000)
    .option(
      '--metrics-port <port>',
      'serve on this port as well, plus the number of the process under PM2: in cluster mode each worker’s own /metrics',
      number('--metrics-port', 1, 65_000),
    )
    .option(
      '--rate <number>',
      'events per second that its own visitors bring about; 0: no visitors',
      number('--rate', 0, 20_000),
      20,
    )
    .addOption(
      new Option('--incident <kind>', `begin with an incident of ${INCIDENT_SECONDS} s`).choices(INCIDENT_KINDS),
    )
    .option(
      '--call-speed <factor>',
      'how many times faster than life calls are played',
      number('--call-speed', 1, 10_000),
      60,
    )
    .option('--stats-every <seconds>', 'time between two measurements', number('--stats-every', 0.1, 3600), 15)
    .option('--seed <number>', 'the same seed makes the same calls', number('--seed', 0, 2 ** 32), Date.now() % 2 ** 32)
    .option('--report', 'JSON lines about itself on standard output', false)
    .option('--exit-with-parent', 'end when standard input closes', false)
    .addHelpText('after', EXAMPLES)
    .showHelpAfterError('(see --help)')
    .exitOverride();
}

async function run(flags: Flags): Promise<void> {
  const shipping = createPlatformLogger(flags);
  const clock = systemClock;
  const statsEveryMs = flags.statsEvery * 1000;
  const platform = createPlatform(
    { seed: flags.seed, callSpeed: flags.callSpeed, statsEveryMs },
    { clock, log: shipping.log },
  );
  const report = (line: AppReport) => {
    if (flags.report) process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  // Whoever read the reports may be gone, which must not end the platform.
  process.stdout.on('error', () => undefined);
  const stop = stopRequested(flags.exitWithParent);
  const server = await listen(platform, flags.port);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { log, metrics, stats } = platform;
  log.info(`Calling platform listens on ${url}`);
  report({ type: 'listening', url });
  // Only now does PM2 with `wait_ready` end the old process.
  process.send?.('ready');

  collectDefaultMetrics({ register: metrics.registry });
  const metricsServer =
    flags.metricsPort === undefined ? undefined : await listen(platform, ownPort(flags.metricsPort));
  const endPm2 = await startPm2Metrics(
    {
      activeCalls: platform.activeCalls,
      queueSize: platform.waitingJobs,
      averageResponseMs: () => stats.http(RESPONSE_MS, clock.now()).averageMs,
      errorPercent: () => stats.http(ERRORS_MS, clock.now()).errorPercent,
    },
    { log },
  );

  const random = createRandom(flags.seed + 1);
  const traffic = createTraffic(
    { url, rate: flags.rate, maxOpen: MAX_OPEN_REQUESTS },
    { clock, random, logged: () => shipping.counts().produced },
  );
  const stopProcessStats = startProcessStats({ logger: log, intervalMs: statsEveryMs });
  if (flags.incident) platform.incident.start(flags.incident, INCIDENT_SECONDS);
  if (flags.rate > 0) traffic.start();
  const reporting = setInterval(() => report({ type: 'progress', ...shipping.counts() }), REPORT_EVERY_MS);

  await stop;
  await traffic.stop();
  platform.close();
  stopProcessStats();
  endPm2();
  server.close();
  metricsServer?.close();
  log.info('Calling platform stopped');
  const final = await shipping.close();
  clearInterval(reporting);
  report({ type: 'final', ...final });
}

/** PM2 numbers the instances of an application from 0. */
function ownPort(base: number): number {
  return base + Number(process.env.NODE_APP_INSTANCE ?? 0);
}

function listen(platform: ReturnType<typeof createPlatform>, port: number): Promise<ReturnType<typeof serve>> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: platform.app.fetch, hostname: '127.0.0.1', port }, () => resolve(server));
    server.once('error', (error: Error) => {
      const message = `--port: 127.0.0.1:${port} cannot be bound (${errorText(error)}); choose another, or 0`;
      reject(new LogpipeError('LOGPIPE_USAGE', message, error));
    });
  });
}

/** Resolves at SIGTERM, SIGINT or, when asked for, when whoever started this process is gone. A second signal forces. */
function stopRequested(exitWithParent: boolean): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const ask = () => {
      if (asked) process.exit(1);
      asked = true;
      resolve();
    };
    process.on('SIGTERM', ask);
    process.on('SIGINT', ask);
    if (!exitWithParent) return;
    process.stdin.resume();
    // Nobody is left to wait for an orderly end.
    process.stdin.once('close', () => process.exit(1));
  });
}

function list(text: string): string[] {
  return text.split(',').map((part) => part.trim());
}

function number(flag: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text !== '' && value >= min && value <= max) return value;
    throw new LogpipeError('LOGPIPE_USAGE', `${flag}: found "${text}"; expected a number from ${min} to ${max}`);
  };
}

try {
  const program = command();
  program.action((flags: Flags) => run(flags));
  await program.parseAsync();
  process.exit();
} catch (error) {
  if (!(error instanceof CommanderError)) process.stderr.write(`calling-platform: ${errorText(error)}\n`);
  process.exit(error instanceof CommanderError && error.exitCode === 0 ? 0 : 2);
}
