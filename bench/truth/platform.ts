// A calling platform that logs: calls, requests, queues, pools, processes and hosts over a span of time. In: how it behaves at
// each moment. Out: what happened, by a correct clock. Guarantee: the same seed and behaviour give the same log; what a behaviour does
// not change is as in a healthy platform.
import { type Behaviour, HEALTH, POOL_SIZE, QUEUES } from './behaviour.ts';
import { createFleet, type Fleet, type Process } from './fleet.ts';
import { type Occurrence, occurrence } from './occurrence.ts';
import { simulateQueue } from './queues.ts';
import type { Random } from './random.ts';

export interface PlatformOptions {
  readonly random: Random;
  readonly fromMs: number;
  readonly toMs: number;
  readonly fleet?: Fleet;
  readonly behaviour?: Partial<Behaviour>;
}

/** Windows are empty in the beginning, and chance decides the first twenty calls, which is not what a scenario is about. */
const CALM_MS = 300_000;
const STATS_MS = 15_000;
const HEAP_LIMIT = 2_048 * 2 ** 20;
const TENANTS = [
  ['acme', 35],
  ['initech', 25],
  ['globex', 20],
  ['umbrella', 12],
  ['hooli', 8],
] as const;
const ENDINGS = [
  ['completed', 62],
  ['voicemail', 20],
  ['busy', 7],
  ['no-answer', 9],
  ['canceled', 2],
] as const;
const ROUTES = [
  '/api/v1/calls',
  '/api/v1/calls/:id',
  '/api/v1/campaigns',
  '/api/v1/health',
  '/webhooks/voice',
] as const;

/** In order of time. */
export function runPlatform(options: PlatformOptions): Occurrence[] {
  const { random, fromMs, toMs, fleet = createFleet() } = options;
  const behaviour: Behaviour = { ...HEALTH, ...options.behaviour };
  const list: Occurrence[] = [];
  const chance = { calls: random.fork('calls'), http: random.fork('http'), lines: random.fork('lines') };

  const log = (trueMs: number, process: Process, doc: object) => list.push(occurrence(trueMs, process, doc));
  /** As many moments of this second as the rate asks for, each in a process that runs then. */
  const each = (own: Random, ms: number, rate: number, then: (atMs: number, process: Process) => void) => {
    for (let n = own.poisson(rate); n > 0; n--) {
      const atMs = Math.floor(ms + own.next() * 1_000);
      const running = fleet.at(atMs);
      const turn = own.next();
      if (running.length > 0) then(atMs, running[Math.floor(turn * running.length)]!);
    }
  };

  for (let ms = fromMs; ms < toMs; ms += 1_000) {
    each(chance.calls, ms, behaviour.callsPerSecond(ms), (at, process) => {
      const tenantId = chance.calls.weighted(TENANTS);
      const attempt = chance.calls.chance(behaviour.callRetried(at)) ? 2 : 1;
      const unlucky = chance.calls.chance(behaviour.callFails(at, { tenantId, host: process.host, attempt }));
      const failed = unlucky && at >= fromMs + Math.min(CALM_MS, (toMs - fromMs) / 4);
      log(at, process, endOfCall(chance.calls, { tenantId, attempt, failed }));
    });
    each(chance.http, ms, behaviour.requestsPerSecond(ms), (at, process) => {
      const failed = chance.http.chance(behaviour.requestFails(at, process.host));
      const status = failed ? chance.http.pick([500, 502, 503]) : chance.http.chance(0.03) ? 404 : 200;
      log(at, process, request(chance.http, status, behaviour.requestMillis(at)));
    });
    each(chance.http, ms, behaviour.deniedPerSecond(ms), (at, process) => {
      log(at, process, request(chance.http, chance.http.pick([401, 403]), behaviour.requestMillis(at) / 4));
    });
    each(chance.lines, ms, behaviour.linesPerSecond(ms), (at, process) => log(at, process, line(chance.lines)));
  }
  list.push(...statistics(options, fleet, behaviour));
  return list.sort((one, other) => one.trueMs - other.trueMs);
}

export function endOfCall(
  random: Random,
  { tenantId, attempt, failed }: { tenantId: string; attempt: number; failed: boolean },
): object {
  const status = failed ? 'failed' : random.weighted(ENDINGS);
  const callId = `CA${random.eventId(0).slice(10)}`;
  const direction = random.chance(0.7) ? 'outbound' : 'inbound';
  const answered = status === 'completed' || status === 'voicemail';
  const durationMs = Math.round(answered ? random.logNormal(120_000, 0.6) : random.logNormal(8_000, 0.5));
  const call = { direction, status, provider: 'twilio', durationMs, attempt, voicemail: status === 'voicemail' };
  const message = failed ? `Call ${callId} failed: provider timeout` : `Call ${callId} ended`;
  return { event: 'call.ended', level: failed ? 'error' : 'info', message, callId, tenantId, call };
}

function request(random: Random, status: number, medianMs: number): object {
  const route = random.pick(ROUTES);
  const method = random.chance(0.6) ? 'GET' : 'POST';
  const http = { method, route, status, durationMs: Math.round(random.logNormal(medianMs, 0.55) * 10) / 10 };
  const failed = status >= 500;
  const message = failed ? 'Request failed: upstream timeout' : 'Request served';
  return { event: 'http.request', level: failed ? 'error' : 'info', message, http };
}

function line(random: Random): object {
  return random.weighted([
    [{ message: `Campaign ${Math.floor(random.between(1, 90))} is running` }, 80],
    [{ level: 'warn', message: `Redis answered after ${Math.round(random.between(200, 900))} ms` }, 18],
    [
      { level: 'error', message: `Webhook delivery failed with status 502 after ${random.pick([1, 2, 3])} attempts` },
      2,
    ],
  ]);
}

/** What processes, hosts and queues report about themselves every 15 s. */
function statistics({ random, fromMs, toMs }: PlatformOptions, fleet: Fleet, behaviour: Behaviour): Occurrence[] {
  const list: Occurrence[] = [];
  const own = random.fork('statistics');
  const near = (value: number, share = 0.03) => value * own.between(1 - share, 1 + share);
  const queues = QUEUES.map((name) =>
    simulateQueue(name, { random: random.fork(name), fromMs, toMs, fleet, behaviour }),
  );
  for (const queue of queues) list.push(...queue.jobs);

  for (const process of fleet.processes) {
    const begins = Math.max(fromMs, process.fromMs);
    for (let ms = begins + own.between(0, STATS_MS); ms < Math.min(toMs, process.toMs); ms += STATS_MS) {
      const at = Math.floor(ms + own.between(-200, 200));
      const log = (doc: object) => list.push(occurrence(at, process, doc));
      const { host } = process;
      const used = Math.round(near(behaviour.heap(at, process), 0.004) * HEAP_LIMIT);
      const upMs = at - process.fromMs;
      log({
        event: 'process.stats',
        message: 'Process statistics',
        process: {
          heapUsedBytes: used,
          // V8 takes memory only when it needs it, so nearly all of it is in use even in a healthy process.
          heapTotalBytes: Math.round(used / own.between(0.93, 0.975)),
          heapLimitBytes: HEAP_LIMIT,
          rssBytes: Math.round(used * 1.4),
          cpuPercent: Math.round(near(25, 0.3)),
          cpuSecondsTotal: Math.round(upMs * 0.25) / 1_000,
          eventLoopLagMs: Math.round(own.logNormal(3, 0.5)),
        },
      });
      log({ event: 'platform.stats', message: 'Platform statistics', activeCalls: own.poisson(12) });
      const poolInUse = Math.min(POOL_SIZE, Math.round(near(behaviour.poolInUse(at, process))));
      log({ event: 'db.pool', message: 'Pool statistics', db: { system: 'mongodb', poolSize: POOL_SIZE, poolInUse } });
      if (!process.first) continue;
      log({
        event: 'system.stats',
        message: 'System statistics',
        system: {
          cpuPercent: Math.min(100, Math.round(near(behaviour.cpuPercent(at, host), 0.02) * 10) / 10),
          memoryPercent: Math.round(near(behaviour.memoryPercent(at, host), 0.002) * 10) / 10,
          diskPercent: Math.round(near(behaviour.diskPercent(at, host), 0.0002) * 100) / 100,
          networkRxBytesPerSec: Math.round(near(behaviour.networkBytes(at, host), 0.25)),
          networkTxBytesPerSec: Math.round(near(behaviour.networkBytes(at, host), 0.25)),
          activeConnections: Math.round(near(behaviour.connections(at, host), 0.1)),
        },
      });
      for (const queue of queues) log(queue.statsAt(at));
    }
  }
  return list.filter(({ trueMs }) => trueMs >= fromMs && trueMs < toMs);
}
