// The whole platform put together: pools, queues, calls and the HTTP application, with its regular measurements.
// In: a logger, a clock, a seed; out: an application to serve. Knows nothing of Kafka or of the process it runs in.
import type { Clock } from '../../src/core/clock.ts';
import { createApp } from './app.ts';
import { type Call, createCalls } from './calls.ts';
import { createIncident, type Incident } from './incident.ts';
import type { AppLog } from './log.ts';
import { createPlatformMetrics, type MeteredEvent, type PlatformMetrics } from './metrics.ts';
import { createPool } from './pools.ts';
import { createQueue } from './queues.ts';
import { createRandom } from './random.ts';
import { createPlatformStats, type PlatformStats } from './stats.ts';

export interface PlatformOptions {
  seed: number;
  /** How many times faster than in real life calls are played. */
  callSpeed: number;
  /** Time between two `queue.stats`, `db.pool` and `platform.stats`, milliseconds. */
  statsEveryMs: number;
}

export interface Platform {
  app: ReturnType<typeof createApp>;
  incident: Incident;
  /** What is logged through it counts in the platform's own metrics and statistics. */
  log: AppLog;
  metrics: PlatformMetrics;
  stats: PlatformStats;
  activeCalls(): number;
  waitingJobs(): number;
  /** Takes no further jobs, ends running calls and stops measuring. */
  close(): void;
}

const QUEUE_LIMIT = 20_000;
const MAX_ATTEMPTS = 3;
/** Share of missed calls that are tried again. */
const RETRY_SHARE = 0.8;
/** A missed call is tried again after this much real-life time, milliseconds. */
const RETRY_AFTER_MS = 120_000;

export function createPlatform(options: PlatformOptions, deps: { clock: Clock; log: AppLog }): Platform {
  const { clock } = deps;
  const sources = {
    queues: () => [scheduled, callbacks].map(({ name, stats: read }) => ({ name, ...read() })),
    pools: () => [mongodb, redis].map(({ system, stats: read }) => ({ system, ...read() })),
    activeCalls: () => calls.active(),
  };
  const metrics = createPlatformMetrics(sources);
  const stats = createPlatformStats(sources);
  const log = countedLog(deps.log, (level, event) => {
    metrics.count(level, event);
    stats.count(event, clock.now());
  });
  const random = createRandom(options.seed);
  const incident = createIncident({ clock });
  const shared = { clock, log, random, incident };
  const pool = { acquireTimeoutMs: 2000, failureShare: 0.002 };
  const mongodb = createPool({ system: 'mongodb', size: 40, medianMs: 4, ...pool }, shared);
  const redis = createPool({ system: 'redis', size: 20, medianMs: 0.6, ...pool, failureShare: 0.0005 }, shared);

  const dial = async (call: Call) => {
    try {
      await mongodb.run('update calls');
    } catch (error) {
      log.error(`Job failed: ${(error as Error).message}`, { ...owner(call), error });
      throw error;
    }
    calls.begin(call);
  };
  const queue = { workers: 20, limit: QUEUE_LIMIT, work: dial, describe: owner };
  const scheduled = createQueue<Call>({ name: 'scheduled-calls', ...queue }, shared);
  const callbacks = createQueue<Call>({ name: 'callbacks', ...queue }, shared);
  const calls = createCalls(
    {
      speed: options.callSpeed,
      keep: 5000,
      onMissed(call) {
        if (call.attempt >= MAX_ATTEMPTS || !random.chance(RETRY_SHARE)) return;
        const again = calls.create({ ...call.order, attempt: call.attempt + 1 });
        try {
          callbacks.add(again, random.around(RETRY_AFTER_MS, 0.3) / options.callSpeed);
        } catch (error) {
          log.error(`No callback: ${(error as Error).message}`, { ...owner(call), error });
        }
      },
    },
    shared,
  );

  const measure = () => {
    for (const queue of sources.queues()) log.info('Queue measured', { event: 'queue.stats', queue });
    for (const { system, size, inUse, waiting } of sources.pools()) {
      log.info('Pool measured', { event: 'db.pool', db: { system, poolSize: size, poolInUse: inUse } });
      if (waiting > size) log.warn(`${waiting} statements wait for a ${system} connection`, { db: { system } });
    }
    log.info('Platform measured', { event: 'platform.stats', activeCalls: calls.active() });
  };
  const cancelMeasuring = every(clock, options.statsEveryMs, measure);

  return {
    app: createApp({ ...shared, calls, scheduled, mongodb, redis, metrics, stats }),
    incident,
    log,
    metrics,
    stats,
    activeCalls: () => calls.active(),
    waitingJobs: () => sources.queues().reduce((sum, { waiting }) => sum + waiting, 0),
    close() {
      cancelMeasuring();
      scheduled.stop();
      callbacks.stop();
      calls.close();
    },
  };
}

/** Counts events where they are logged, so that metrics and statistics count what is logged. */
function countedLog(log: AppLog, count: (level: string, event: MeteredEvent) => void): AppLog {
  const counted = (level: keyof AppLog) => (message: string, meta?: object) => {
    count(level, meta ?? {});
    log[level](message, meta);
  };
  return { error: counted('error'), warn: counted('warn'), info: counted('info') };
}

/** Runs `fn` at once and then every `ms`. */
function every(clock: Clock, ms: number, fn: () => void): () => void {
  let cancel = () => {};
  const round = () => {
    cancel = clock.after(ms, round);
    fn();
  };
  round();
  return () => cancel();
}

function owner(call: Call): object {
  const { tenantId, campaignId, userId, traceId } = call.order;
  return { callId: call.id, tenantId, campaignId, userId, traceId };
}
