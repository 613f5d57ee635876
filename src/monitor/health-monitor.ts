// The health monitor: at fixed times it asks every probe, hands the readings to the rules, and logs one line about the state of
// the platform. Guarantee: a probe that fails or hangs costs only its own readings; two runs never overlap.

import type { ScheduledTask } from 'node-cron';
import cron from 'node-cron';
import { type Clock, unlessAborted, within } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import { type Reading, readMeasure, windowTo } from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';
import type { MonitorConfig, Probe, ProbeReading } from './probes.ts';

interface HealthMonitor {
  start(): void;
  /** Runs once now; resolves with the readings. */
  run(): Promise<readonly ProbeReading[]>;
  /** The wall clock was set: plans the next run anew. */
  reschedule(): void;
  /** No further run; ends one under way. */
  stop(): Promise<void>;
}

export interface HealthMonitorDeps {
  readonly probes: readonly Probe[];
  /** Takes each reading, for the rules. */
  readonly record: (reading: ProbeReading, atMs: number) => void;
  /** What the log said in the last five minutes: failed calls, heap, queues, disk. Part of the logged line. */
  readonly summary: () => Readonly<Record<string, unknown>>;
  /** Hides credentials that a client's message may quote from an address. */
  readonly mask: (text: string) => string;
  readonly log: Log;
  readonly clock: Clock;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID for a schedule that is not a cron expression */
export function createHealthMonitor(
  config: Pick<MonitorConfig, 'schedule' | 'timeoutMs'>,
  deps: HealthMonitorDeps,
): HealthMonitor {
  const { log, clock } = deps;
  if (!cron.validate(config.schedule)) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_INVALID',
      `monitor.schedule: found "${config.schedule}"; permitted: a cron expression such as */5 * * * *`,
    );
  }
  const ending = new AbortController();
  let task: ScheduledTask | undefined;
  let running: Promise<readonly ProbeReading[]> | undefined;

  async function ask(probe: Probe): Promise<readonly ProbeReading[]> {
    const deadline = new AbortController();
    const signal = AbortSignal.any([ending.signal, deadline.signal]);
    try {
      const answer = within(probe.run(signal), config.timeoutMs, `no answer within ${config.timeoutMs} ms`);
      return await unlessAborted(answer, ending.signal);
    } catch (error) {
      if (!ending.signal.aborted) {
        log.warn(`health check: ${probe.name} gave no answer`, { reason: deps.mask(errorText(error)) });
      }
      return [];
    } finally {
      deadline.abort();
    }
  }

  async function runOnce(): Promise<readonly ProbeReading[]> {
    const readings = (await Promise.all(deps.probes.map(ask))).flat();
    if (ending.signal.aborted) return readings;
    const now = clock.now();
    for (const reading of readings) deps.record(reading, now);
    log.info('health check', { ...deps.summary(), ...Object.fromEntries(readings.map(nameAndValue)) });
    return readings;
  }

  function run(): Promise<readonly ProbeReading[]> {
    running ??= runOnce().finally(() => {
      running = undefined;
    });
    return running;
  }

  const say = (level: LogLevel) => (text: string | Error) =>
    log[level](`health check: ${text instanceof Error ? errorText(text) : text}`);

  function plan(): void {
    void task?.destroy();
    task = cron.schedule(config.schedule, () => run().then(() => undefined), {
      timezone: 'UTC',
      noOverlap: true,
      // By default a run that a busy or stopped process starts a second late is skipped.
      missedExecutionTolerance: Number.POSITIVE_INFINITY,
      // By default it writes to the console, in colours, between our lines of JSON.
      logger: { info: say('info'), warn: say('warn'), error: say('error'), debug: say('debug') },
    });
  }

  return {
    start() {
      plan();
      // The first run is now, not up to five minutes later.
      void run();
    },
    run,
    reschedule() {
      if (task !== undefined && !ending.signal.aborted) plan();
    },
    async stop() {
      ending.abort();
      await task?.destroy();
      await running?.catch(() => {});
      await Promise.all(deps.probes.map((probe) => probe.close().catch(() => {})));
    },
  };
}

function nameAndValue({ measure, labels, value }: ProbeReading): [string, number] {
  const suffix = Object.values(labels).join(',');
  return [suffix === '' ? measure : `${measure}{${suffix}}`, value];
}

// ---- the logged line ----

const WINDOW_MS = 300_000;
const MEGABYTE = 1_048_576;

/** The platform's last five minutes, as the operators' guide lists them; unknown values are left out. */
export function healthSummary(store: WindowStore, nowMs: number): Record<string, unknown> {
  const query = { ...windowTo(nowMs, WINDOW_MS), nowMs };
  const one = (measure: string) => readMeasure(store, measure, query)[0];
  const worst = (measure: string, label: string): Reading | undefined =>
    readMeasure(store, measure, { ...query, by: [label] })
      .filter(({ value }) => value !== undefined)
      .sort((a, b) => (b.value ?? 0) - (a.value ?? 0))[0];

  const summary: Record<string, unknown> = {};
  const calls = one('call.failure_ratio');
  if (calls?.denominator !== undefined) {
    summary.totalCalls = calls.denominator;
    summary.failedCalls = calls.numerator ?? 0;
    summary.errorRate = percent(calls.value ?? 0);
  }
  const heap = one('process.heap_limit') ?? one('process.heap');
  if (heap?.value !== undefined) {
    summary.heapUsedMB = Math.round((heap.numerator ?? 0) / MEGABYTE);
    summary.heapUsagePercent = percent(heap.value);
  }
  const queue = worst('queue.size', 'queue.name');
  if (queue?.value !== undefined) {
    summary.longestQueue = queue.labels['queue.name'];
    summary.waiting = queue.value;
  }
  const disk = worst('system.disk', 'host');
  if (disk?.value !== undefined) summary.diskPercent = disk.value;
  return summary;
}

function percent(ratio: number): number {
  return Math.round(ratio * 10_000) / 100;
}
