// The application whose alert is measured: a process of its own that logs a paced mix through logpipe's own transport until it is
// told to let calls fail. In: GeneratorOptions on the command line, commands on standard input. Out: one JSON line per answer.
// Guarantee: the reported crossing is the time right before the `logger.error()` that made the rule true.
import { systemClock } from '../../src/core/clock.ts';
import { createLogger, KafkaTransport } from '../../src/ship/index.ts';
import { CYCLE, endOfCall, eventOf, type LoggedEvent, STATS_MS, statistics } from './events.ts';

export interface GeneratorOptions {
  readonly brokers: readonly string[];
  readonly topic: string;
  /** Events per second. */
  readonly rate: number;
}

/**
 * `count`: how many events were logged so far. `fail`: from now on two of three calls fail. `burst`: the same, and at once as
 * many failed calls as it takes to cross the threshold. `stop`: delivers what is queued and ends.
 */
export type Command = 'count' | 'fail' | 'burst' | 'stop';

/** The shipped rule "High Error Rate Detected" fires above this share of at least this many ended calls. */
const THRESHOLD = 0.2;
const MIN_CALLS = 20;
const SLICE_MS = 10;
/** The generator does not catch up on more than this after a pause of its process. */
const MAX_BEHIND_MS = 500;

const options = JSON.parse(process.argv[2]!) as GeneratorOptions;
const logger = createLogger({
  brokers: options.brokers,
  topic: options.topic,
  service: 'calling-platform',
  environment: 'bench',
  version: '1.4.2',
  console: false,
  file: false,
});
const transport = logger.transports.find((one) => one instanceof KafkaTransport) as KafkaTransport;
let logged = 0;
let ended = 0;
let failed = 0;
let failing = false;
let crossedMs: number | undefined;

const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);
/** Finer than Date.now(), and the same clock in all processes of the machine. */
const now = () => performance.timeOrigin + performance.now();

function log({ level, message, meta }: LoggedEvent): void {
  logged += 1;
  const { call } = meta as { call?: { status?: string } };
  if (call?.status !== undefined) {
    ended += 1;
    if (call.status === 'failed') failed += 1;
    if (crossedMs === undefined && failing && ended >= MIN_CALLS && failed / ended > THRESHOLD) {
      crossedMs = now();
      logger[level](message, meta);
      say({ crossed: { atMs: crossedMs, ended, failed } });
      return;
    }
  }
  logger[level](message, meta);
}

let callsOfIncident = 0;

/** Not every call fails, so that the rule about the ratio fires. */
function next(): void {
  log(failing && logged % CYCLE === 0 ? endOfCall(logged, callsOfIncident++ % 3 > 0) : eventOf(logged));
}

let lastMs = now();
let due = 0;
const pace = setInterval(() => {
  const ms = now();
  due += (Math.min(ms - lastMs, MAX_BEHIND_MS) * options.rate) / 1_000;
  lastMs = ms;
  for (; due >= 1; due--) next();
}, SLICE_MS);

let reports = 0;
const stats = setInterval(() => {
  for (const event of statistics(reports, true)) log(event);
  reports += 1;
}, STATS_MS);

const commands: Record<Command, () => void> = {
  count: () => say({ count: { logged, atMs: now() } }),
  fail() {
    failing = true;
  },
  burst() {
    failing = true;
    // Goes on until a failed call crosses the threshold.
    for (let i = 1; crossedMs === undefined; i++) log(endOfCall(-i, true));
  },
  stop() {
    clearInterval(pace);
    clearInterval(stats);
    logger.once('finish', () => {
      const { delivered, dropped } = transport.stats();
      say({ end: { logged, delivered, dropped } });
      // An open standard input would keep it.
      process.exit(0);
    });
    logger.end();
  },
};

process.stdin.setEncoding('utf8').on('data', (text: string) => {
  for (const word of text.split('\n')) commands[word as Command]?.();
});
// Whoever started it must not leave it behind.
process.stdin.once('end', () => systemClock.after(0, () => process.exit(1)));
say({ started: true });
