// The whole platform put together: pools, queues, calls and the HTTP application, with its regular measurements.
// In: a logger, a clock, a seed; out: an application to serve. Knows nothing of Kafka or of the process it runs in.
import type { Clock } from '../../src/core/clock.ts';
import { createApp } from './app.ts';
import { type Call, createCalls } from './calls.ts';
import { createIncident, type Incident } from './incident.ts';
import type { AppLog } from './log.ts';
import { createPool, type Pool } from './pools.ts';
import { createQueue, type Queue } from './queues.ts';
import { createRandom } from './random.ts';

export interface PlatformOptions {
  seed: number;
  /** How many times faster than life calls are played. */
  callSpeed: number;
  /** Time between two `queue.stats`, `db.pool` and `platform.stats`, milliseconds. */
  statsEveryMs: number;
}

export interface Platform {
  app: ReturnType<typeof createApp>;
  incident: Incident;
  /** Takes no further jobs, ends running calls and stops measuring. */
  close(): void;
}

const QUEUE_LIMIT = 20_000;
const MAX_ATTEMPTS = 3;
/** Share of missed calls that are tried again. */
const RETRY_SHARE = 0.8;
/** A missed call is tried again after this long in life, milliseconds. */
const RETRY_AFTER_MS = 120_000;

export function createPlatform(options: PlatformOptions, deps: { clock: Clock; log: AppLog }): Platform {
  const { clock, log } = deps;
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
    for (const { name, stats } of [scheduled, callbacks] as Queue<Call>[]) {
      log.info('Queue measured', { event: 'queue.stats', queue: { name, ...stats() } });
    }
    for (const { system, stats } of [mongodb, redis] as Pool[]) {
      const { size, inUse, waiting } = stats();
      log.info('Pool measured', { event: 'db.pool', db: { system, poolSize: size, poolInUse: inUse } });
      if (waiting > size) log.warn(`${waiting} statements wait for a ${system} connection`, { db: { system } });
    }
    log.info('Platform measured', { event: 'platform.stats', activeCalls: calls.active() });
  };
  const cancelMeasuring = every(clock, options.statsEveryMs, measure);

  return {
    app: createApp({ ...shared, calls, scheduled, mongodb, redis }),
    incident,
    close() {
      cancelMeasuring();
      scheduled.stop();
      callbacks.stop();
      calls.close();
    },
  };
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
