// What the application's processes would expose to Prometheus. In: what happened in a scenario. Out: series with a value for each
// scrape. Guarantee: a process that has ended, or whose host is cut off, is not scraped; every counter exists from the start of its
// process, as careful use of a client library makes it, so that nothing is lost before the first scrape.
import type { Occurrence } from '../occurrence.ts';
import type { Staged } from '../scenario.ts';
import { field } from '../truth.ts';

export const SCRAPE_MS = 15_000;
/** A process that has logged nothing for this long before the end was stopped; each reports every 15 s. */
const GONE_MS = 30_000;
/** Records that come later than this were held back: their host could not be reached. Slow shipping takes up to a minute. */
const CUT_OFF_MS = 65_000;

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** One per scrape; null when the process was not there. */
  readonly values: (number | null)[];
}

interface Instance {
  readonly name: string;
  readonly host: string;
}

const REQUEST_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5, 10, Number.POSITIVE_INFINITY];
const WAIT_BUCKETS = [0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 900, Number.POSITIVE_INFINITY];

/** At `fromMs` and every 15 s after it, up to `toMs`. */
export function expose({ fromMs, toMs, occurrences, records }: Staged): Series[] {
  const scrapes = Math.floor((toMs - fromMs) / SCRAPE_MS) + 1;
  const counted = new Map<string, Sample>();
  for (const one of occurrences) for (const sample of countersOf(one)) counted.set(keyOf(sample), sample);
  const lives = livesOf(occurrences, fromMs, toMs);
  const isCutOff = cutOff(records as readonly Arrival[]);

  const series = new Map<string, Series>();
  const put = (scrape: number, instance: Instance, { name, labels }: Named, value: number) => {
    const all = { ...labels, instance: instance.name, job: 'calling-platform' };
    const key = keyOf({ name, labels: all });
    let own = series.get(key);
    if (own === undefined) {
      own = { name, labels: all, values: Array.from({ length: scrapes }, () => null) };
      series.set(key, own);
    }
    own.values[scrape] = value;
  };

  let next = 0;
  for (let scrape = 0; scrape < scrapes; scrape++) {
    const ms = fromMs + scrape * SCRAPE_MS;
    for (; next < occurrences.length && occurrences[next]!.trueMs <= ms; next++) {
      lives.get(processOf(occurrences[next]!))!.take(occurrences[next]!);
    }
    const up = new Set<string>();
    for (const life of lives.values()) {
      if (ms < life.fromMs || ms > life.toMs || isCutOff(life.instance.host, ms)) continue;
      up.add(life.instance.name);
      for (const [key, sample] of counted) put(scrape, life.instance, sample, life.counters.get(key) ?? 0);
      for (const sample of life.gauges.values()) put(scrape, life.instance, sample, sample.value);
    }
    for (const { instance } of lives.values()) {
      put(scrape, instance, { name: 'up', labels: {} }, up.has(instance.name) ? 1 : 0);
    }
  }
  return [...series.values()];
}

interface Named {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface Sample extends Named {
  readonly value: number;
}

/** A metric always has the same label names, in the same order. */
function keyOf({ name, labels }: Named): string {
  return `${name} ${Object.values(labels).join(' ')}`;
}

/** One process: what it has counted and what it last read. */
interface Life {
  readonly instance: Instance;
  readonly fromMs: number;
  toMs: number;
  readonly counters: Map<string, number>;
  readonly gauges: Map<string, Sample>;
  take(one: Occurrence): void;
}

function processOf({ host, doc }: Occurrence): string {
  return `${host}/${doc.pid}`;
}

/** A new process at the same address continues its predecessor's series, from 0. */
function livesOf(occurrences: readonly Occurrence[], fromMs: number, toMs: number): Map<string, Life> {
  const lives = new Map<string, Life>();
  for (const one of occurrences) {
    const known = lives.get(processOf(one));
    if (known !== undefined) {
      known.toMs = one.trueMs;
      continue;
    }
    const counters = new Map<string, number>();
    const gauges = new Map<string, Sample>();
    lives.set(processOf(one), {
      instance: { name: `${one.host}:300${Number(one.doc.pid) % 10}`, host: one.host },
      fromMs: one.trueMs - fromMs < GONE_MS ? fromMs : one.trueMs,
      toMs: one.trueMs,
      counters,
      gauges,
      take(event) {
        for (const sample of countersOf(event)) {
          if (sample.value === 0) continue;
          const key = keyOf(sample);
          counters.set(key, (counters.get(key) ?? 0) + sample.value);
        }
        for (const sample of gaugesOf(event)) gauges.set(keyOf(sample), sample);
      },
    });
  }
  for (const life of lives.values()) if (toMs - life.toMs < GONE_MS) life.toMs = toMs;
  return lives;
}

interface Arrival {
  readonly arrivalMs: number;
  readonly mark?: string;
  readonly of?: Occurrence;
}

/** Whether a host could not be reached at a moment: what it logged then came much later. */
function cutOff(records: readonly Arrival[]): (host: string, ms: number) => boolean {
  const spans = new Map<string, { fromMs: number; toMs: number }>();
  for (const { arrivalMs, mark, of } of records) {
    // A copy says nothing of how the first one came.
    if (of === undefined || mark !== undefined || arrivalMs - of.trueMs <= CUT_OFF_MS) continue;
    // They all come when it can be reached again, the first of them just then.
    if (!spans.has(of.host)) spans.set(of.host, { fromMs: of.trueMs, toMs: arrivalMs });
  }
  return (host, ms) => {
    const span = spans.get(host);
    return span !== undefined && ms >= span.fromMs && ms < span.toMs;
  };
}

function countersOf(event: Occurrence): Sample[] {
  const { doc } = event;
  const samples: Sample[] = [{ name: 'log_events_total', labels: { level: String(doc.level) }, value: 1 }];
  const count = (name: string, labels: Record<string, string>) => samples.push({ name, labels, value: 1 });
  const text = (path: string) => String(field(doc, path));
  if (doc.event === 'call.ended') {
    count('calls_ended_total', { status: text('call.status'), tenant: text('tenantId') });
    if (Number(field(doc, 'call.attempt')) > 1) count('calls_retried_total', { status: text('call.status') });
  } else if (doc.event === 'http.request') {
    count('http_requests_total', { status: text('http.status') });
    observe(samples, 'http_request_duration_seconds', {}, Number(text('http.durationMs')) / 1_000, REQUEST_BUCKETS);
  } else if (doc.event === 'queue.job') {
    const labels = { queue: text('queue.name') };
    observe(samples, 'queue_wait_seconds', labels, Number(text('queue.waitMs')) / 1_000, WAIT_BUCKETS);
  }
  return samples;
}

/** A histogram; what a bucket does not hold counts as 0, so that all of them exist. */
function observe(to: Sample[], name: string, labels: Named['labels'], seconds: number, buckets: readonly number[]) {
  for (const le of buckets) {
    const value = seconds <= le ? 1 : 0;
    to.push({
      name: `${name}_bucket`,
      labels: { ...labels, le: le === Number.POSITIVE_INFINITY ? '+Inf' : String(le) },
      value,
    });
  }
  to.push({ name: `${name}_count`, labels, value: 1 });
}

/** Each with its metric, the field it is read from, and the field that labels it. */
const GAUGES: Readonly<Record<string, readonly (readonly [name: string, path: string])[]>> = {
  'process.stats': [
    ['nodejs_heap_used_bytes', 'process.heapUsedBytes'],
    ['nodejs_heap_limit_bytes', 'process.heapLimitBytes'],
  ],
  'db.pool': [
    ['db_pool_in_use', 'db.poolInUse'],
    ['db_pool_size', 'db.poolSize'],
  ],
  'queue.stats': [['bull_queue_waiting', 'queue.waiting']],
  'system.stats': [
    ['host_cpu_percent', 'system.cpuPercent'],
    ['host_memory_percent', 'system.memoryPercent'],
    ['host_disk_percent', 'system.diskPercent'],
    ['host_network_receive_bytes_per_second', 'system.networkRxBytesPerSec'],
    ['host_network_transmit_bytes_per_second', 'system.networkTxBytesPerSec'],
    ['host_active_connections', 'system.activeConnections'],
  ],
};

function gaugesOf({ host, doc }: Occurrence): Sample[] {
  const labels: Record<string, string> =
    doc.event === 'db.pool'
      ? { system: String(field(doc, 'db.system')) }
      : doc.event === 'queue.stats'
        ? { queue: String(field(doc, 'queue.name')) }
        : doc.event === 'system.stats'
          ? { host }
          : {};
  return (GAUGES[String(doc.event)] ?? []).map(([name, path]) => ({ name, labels, value: Number(field(doc, path)) }));
}
