// The platform's own `/metrics`, with the names that logpipe gives the same measures under `/metrics/platform`
// (config/measures.yml). In: the events the platform logs, and its parts, for present values. Out: a registry.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { LoggedEvent, StatsSources } from './stats.ts';

export interface MeteredEvent extends LoggedEvent {
  readonly call?: NonNullable<LoggedEvent['call']> & { attempt?: number };
  readonly queue?: { name: string; waitMs?: number };
  readonly system?: { activeConnections?: number };
}

export interface PlatformMetrics {
  readonly registry: Registry;
  count(level: string, event: MeteredEvent): void;
}

export function createPlatformMetrics(sources: StatsSources & { activeCalls: () => number }): PlatformMetrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
    new Counter<L>({ name, help, labelNames, registers });
  const histogram = <L extends string>(name: string, help: string, labelNames: L[], buckets: number[]) =>
    new Histogram<L>({ name, help, labelNames, buckets, registers });
  /** Read at each scrape, so that no value is older than the scrape. */
  const reading = <L extends string>(name: string, help: string, labelNames: L[], read: (gauge: Gauge<L>) => void) =>
    new Gauge<L>({
      name,
      help,
      labelNames,
      registers,
      collect() {
        read(this);
      },
    });

  const logged = counter('log_events_total', 'Log events by level.', ['level']);
  const requests = counter('http_requests_total', 'HTTP requests served.', ['method', 'route', 'status']);
  // 0.2 is the target of the 95th percentile, 0.5 its alert threshold.
  const served = histogram(
    'http_request_duration_seconds',
    'Time to serve an HTTP request.',
    ['method', 'route'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5, 10],
  );
  const ended = counter('calls_ended_total', 'Calls that reached their final state.', ['direction', 'status']);
  const voicemail = counter('calls_voicemail_total', 'Calls that a machine answered.', ['direction']);
  const retried = counter('calls_retried_total', 'Calls ended that were a second or later attempt.', ['status']);
  const duration = histogram(
    'call_duration_seconds',
    'Duration of calls.',
    ['direction', 'status'],
    [1, 5, 15, 30, 60, 120, 180, 240, 300, 600, 1800],
  );
  const waited = histogram(
    'queue_wait_seconds',
    'Time jobs waited in their queue.',
    ['queue'],
    [0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 900],
  );
  reading('node_active_calls', 'Calls going on.', [], (gauge) => gauge.set(sources.activeCalls()));
  for (const [state, help] of [
    ['waiting', 'Jobs waiting.'],
    ['active', 'Jobs being worked on.'],
    ['delayed', 'Jobs set for later.'],
    ['completed', 'Jobs done.'],
    ['failed', 'Jobs that failed.'],
  ] as const) {
    reading(`bull_queue_${state}_total`, help, ['queue'], (gauge) => {
      for (const queue of sources.queues()) gauge.set({ queue: queue.name }, queue[state]);
    });
  }
  reading('db_pool_in_use', 'Database connections in use.', ['system'], (gauge) => {
    for (const { system, inUse } of sources.pools()) gauge.set({ system }, inUse);
  });
  reading('db_pool_size', 'Database connections there can be.', ['system'], (gauge) => {
    for (const { system, size } of sources.pools()) gauge.set({ system }, size);
  });
  // A gauge without labels would show 0 before anything was measured.
  let connections: number | undefined;
  reading('node_active_connections', 'Open connections of this host.', [], (gauge) => {
    if (connections === undefined) gauge.remove();
    else gauge.set(connections);
  });

  return {
    registry,
    count(level, { event, http, call, queue, system }) {
      logged.inc({ level });
      if (event === 'http.request' && http !== undefined) {
        const { method, route, status } = http;
        requests.inc({ method, route, status: String(status) });
        served.observe({ method, route }, http.durationMs / 1000);
      }
      if (event === 'call.ended' && call !== undefined) {
        const { direction, status } = call;
        ended.inc({ direction, status });
        duration.observe({ direction, status }, call.durationMs / 1000);
        if (call.voicemail === true && (status === 'completed' || status === 'voicemail')) voicemail.inc({ direction });
        if ((call.attempt ?? 1) > 1) retried.inc({ status });
      }
      if (event === 'queue.job' && queue?.waitMs !== undefined) {
        waited.observe({ queue: queue.name }, queue.waitMs / 1000);
      }
      if (event === 'system.stats') connections = system?.activeConnections;
    },
  };
}
