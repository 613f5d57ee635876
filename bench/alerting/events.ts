// What a busy, healthy calling platform logs: requests, calls, plain lines, some errors, and what processes, hosts and queues report
// about themselves. In: a number. Out: level, message, fields. Guarantee: the same number gives the same event; on its own, none of
// it exceeds a threshold of the shipped rules.
export interface LoggedEvent {
  readonly level: 'info' | 'warn' | 'error';
  readonly message: string;
  readonly meta: Readonly<Record<string, unknown>>;
}

/** The mix repeats after this many events; one of them ends a call. */
export const CYCLE = 50;
/** Statistics are logged this often. */
export const STATS_MS = 15_000;

const ROUTES = 24;
const TENANTS = 20;
const QUEUES = ['dialer', 'webhooks', 'recordings', 'transcripts', 'billing'] as const;
const ENDINGS = ['completed', 'completed', 'completed', 'voicemail', 'busy', 'no-answer'] as const;
const PROVIDER_ERRORS = ['timeout', 'busy trunk', 'no route', 'codec refused'] as const;

/** A hash of the number, so that a cycle of numbers shows no pattern. */
const mixed = (i: number): number => Math.imul(i ^ (i >>> 15), 0x2c1b3c6d) >>> 8;

/** @param i number of the event, from 0 */
export function eventOf(i: number): LoggedEvent {
  const place = i % CYCLE;
  const some = mixed(i);
  if (place === 0) return endOfCall(i, (i / CYCLE) % 40 === 39);
  if (place < 29) {
    const status = some % 97 === 0 ? 500 : some % 31 === 0 ? 404 : 200;
    const route = `/api/v1/resource-${some % ROUTES}`;
    const http = { method: some % 5 < 3 ? 'GET' : 'POST', route, status, durationMs: 4 + (some % 220) };
    const level = status === 500 ? 'error' : 'info';
    const message = status === 500 ? 'Request failed: upstream timeout' : 'Request served';
    return { level, message, meta: { event: 'http.request', requestId: `req-${i}`, tenantId: tenant(some), http } };
  }
  if (place < 46)
    return { level: 'info', message: `Campaign step ${some % 90} is running`, meta: { userId: `u-${some % 50}` } };
  if (place === 46) return { level: 'warn', message: `Redis answered after ${200 + (some % 700)} ms`, meta: {} };
  if (place === 47) {
    const queue = { name: QUEUES[some % QUEUES.length], waitMs: 20 + (some % 4_000) };
    return { level: 'info', message: 'Job taken', meta: { event: 'queue.job', queue } };
  }
  if (place === 48) {
    return {
      level: 'error',
      message: `Webhook ${i} failed with status 502 after ${1 + (some % 3)} attempts`,
      meta: {},
    };
  }
  const callId = `CA${i.toString(16)}`;
  return {
    level: 'info',
    message: 'Call started',
    meta: { event: 'call.started', callId, call: { direction: 'outbound' } },
  };
}

/** A call at its final state. */
export function endOfCall(i: number, failed: boolean): LoggedEvent {
  const some = mixed(i);
  const status = failed ? 'failed' : ENDINGS[some % ENDINGS.length]!;
  const answered = status === 'completed' || status === 'voicemail';
  return {
    level: failed ? 'error' : 'info',
    message: failed
      ? `Call to +4930${1_000_000 + (some % 9_000)} failed: ${PROVIDER_ERRORS[some % PROVIDER_ERRORS.length]}`
      : 'Call ended',
    meta: {
      event: 'call.ended',
      callId: `CA${i.toString(16)}`,
      tenantId: tenant(some),
      call: {
        direction: some % 10 < 7 ? 'outbound' : 'inbound',
        status,
        provider: 'twilio',
        durationMs: answered ? 20_000 + (some % 180_000) : 500 + (some % 8_000),
        attempt: some % 8 === 0 ? 2 : 1,
        voicemail: status === 'voicemail',
      },
    },
  };
}

/** What one process reports about itself and, if it is the first of its host, about host and queues. */
export function statistics(n: number, first: boolean): LoggedEvent[] {
  const mb = 2 ** 20;
  const events: LoggedEvent[] = [
    info('Process statistics', 'process.stats', {
      process: {
        heapUsedBytes: (300 + (n % 40)) * mb,
        heapTotalBytes: 400 * mb,
        heapLimitBytes: 2_048 * mb,
        rssBytes: 600 * mb,
        cpuPercent: 30,
        cpuSecondsTotal: n * 5,
        eventLoopLagMs: 3,
      },
    }),
    info('Platform statistics', 'platform.stats', { activeCalls: 40 + (n % 20) }),
    info('Pool statistics', 'db.pool', { db: { system: 'mongodb', poolSize: 100, poolInUse: 20 + (n % 10) } }),
  ];
  if (!first) return events;
  const system = {
    cpuPercent: 40,
    memoryPercent: 55,
    diskPercent: 40,
    networkRxBytesPerSec: 2e6,
    networkTxBytesPerSec: 3e6,
  };
  events.push(info('System statistics', 'system.stats', { system: { ...system, activeConnections: 200 + (n % 50) } }));
  for (const name of QUEUES) {
    const queue = { name, waiting: n % 20, active: 5, delayed: 2, completed: n * 400, failed: 3 };
    events.push(info('Queue statistics', 'queue.stats', { queue }));
  }
  return events;
}

function tenant(some: number): string {
  return `tenant-${some % TENANTS}`;
}

function info(message: string, event: string, fields: Record<string, unknown>): LoggedEvent {
  return { level: 'info', message, meta: { event, ...fields } };
}
