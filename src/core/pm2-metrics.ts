// The four metrics of `pm2 monit` and `pm2 describe`. In: functions that read them. Out: numbers that PM2 shows with the process.
// Guarantee: nothing happens outside PM2, without `@pm2/io`, or when PM2 goes away; what is not known is not shown. Also
// `logpipe/pm2` for applications.
import { errorText } from './errors.ts';

/** Each is read about once a second; undefined while it is not known. */
export interface Pm2Readings {
  /** Calls under way. */
  readonly activeCalls: () => number | undefined;
  /** Jobs waiting, all queues. */
  readonly queueSize: () => number | undefined;
  /** Mean time to serve an HTTP request, ms. */
  readonly averageResponseMs: () => number | undefined;
  /** HTTP requests answered with 5xx, percent. */
  readonly errorPercent: () => number | undefined;
}

export interface Pm2Deps {
  readonly log: { warn(message: string, meta?: Record<string, unknown>): unknown };
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** As much of `@pm2/io` as is used. */
interface Io {
  init(config: object): unknown;
  metric(options: { name: string; unit: string; historic: boolean; value: () => number | undefined }): unknown;
  destroy(): void;
}

/**
 * Left to itself it watches exceptions, wraps `http` and traces. PM2 7 puts its own edition of `@pm2/io` into the process, which
 * answers to the same name; with PM2 6 it is the one installed with logpipe.
 */
const NOTHING_ELSE = {
  tracing: { enabled: false },
  catchExceptions: false,
  profiling: false,
  standalone: false,
  metrics: { v8: false, network: false, eventLoop: false, runtime: false, http: false },
};

/**
 * Shows the metrics while this process runs under PM2; the returned function ends that. Resolves at once elsewhere.
 * `@pm2/io` is an optional dependency: when it is not installed, a warning says so.
 */
export async function startPm2Metrics(readings: Pm2Readings, deps: Pm2Deps): Promise<() => void> {
  const { log, env = process.env } = deps;
  // PM2 numbers its processes; the channel to it is Node's own.
  if (env.pm_id === undefined || process.send === undefined) return () => {};
  let io: Io;
  try {
    io = ((await import('@pm2/io')) as unknown as { default: Io }).default;
    io.init(NOTHING_ELSE);
  } catch (error) {
    log.warn('No metrics for PM2: @pm2/io cannot be loaded', { error: errorText(error) });
    return () => {};
  }
  const metric = (name: string, unit: string, read: () => number | undefined) =>
    io.metric({ name, unit, historic: true, value: () => rounded(read) });
  metric('Active Calls', 'calls', readings.activeCalls);
  metric('Queue Size', 'jobs', readings.queueSize);
  metric('Avg Response Time', 'ms', readings.averageResponseMs);
  metric('Error Rate', '%', readings.errorPercent);

  let stopped = false;
  const stop = () => {
    if (stopped) return;
    stopped = true;
    process.off('disconnect', stop);
    io.destroy();
  };
  // @pm2/io ends the process when PM2 is gone, in the middle of whatever it does.
  process.once('disconnect', stop);
  return stop;
}

function rounded(read: () => number | undefined): number | undefined {
  try {
    const value = read();
    return value === undefined ? undefined : Math.round(value * 100) / 100;
  } catch {
    return undefined;
  }
}
