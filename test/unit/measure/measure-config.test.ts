// measures.yml: the shipped definitions hold what the documents promise, and a wrong file is told all its faults at once.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LogpipeError } from '../../../src/core/errors.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { collectedOf, loadMeasures, parseMeasures } from '../../../src/measure/measure-config.ts';

const shipped = loadMeasures({ file: join(packageRoot(), 'config', 'measures.yml'), env: {} });

function problems(text: string): string {
  try {
    parseMeasures(text, {}, 'test.yml');
  } catch (error) {
    expect(error).toBeInstanceOf(LogpipeError);
    expect((error as LogpipeError).code).toBe('LOGPIPE_CONFIG_INVALID');
    return (error as LogpipeError).message;
  }
  throw new Error(`accepted: ${text}`);
}

describe('the shipped measures', () => {
  test.each([
    ['log.error_ratio', 'ratio'],
    ['http.error_ratio', 'ratio'],
    ['http.p95', 'percentile'],
    ['http.rate', 'rate'],
    ['call.failure_ratio', 'ratio'],
    ['call.success_ratio', 'ratio'],
    ['call.duration_avg', 'mean'],
    ['call.voicemail_ratio', 'ratio'],
    ['call.retry_success_ratio', 'ratio'],
    ['calls.active', 'sum'],
    ['queue.size', 'gauge'],
    ['queue.rate', 'increase'],
    ['queue.wait_p95', 'percentile'],
    ['connections.active', 'gauge'],
    ['db.pool_used', 'ratio'],
    ['process.heap', 'ratio'],
    ['process.heap_limit', 'ratio'],
    ['system.cpu', 'gauge'],
    ['system.memory', 'gauge'],
    ['system.disk', 'gauge'],
    ['system.network_rx', 'gauge'],
    ['system.network_tx', 'gauge'],
  ])('%s is a %s', (name, kind) => {
    expect(shipped.get(name)?.kind).toBe(kind);
  });

  test.each([
    ['log_events_total', 'counter', ['level']],
    ['http_requests_total', 'counter', ['method', 'route', 'status']],
    ['http_request_duration_seconds', 'histogram', ['method', 'route']],
    ['calls_ended_total', 'counter', ['direction', 'status']],
    ['call_duration_seconds', 'histogram', ['direction', 'status']],
    ['calls_retried_total', 'counter', ['status']],
    ['node_active_calls', 'gauge', []],
    ['bull_queue_waiting_total', 'gauge', ['queue']],
    ['bull_queue_active_total', 'gauge', ['queue']],
    ['bull_queue_completed_total', 'gauge', ['queue']],
    ['bull_queue_failed_total', 'gauge', ['queue']],
    ['queue_wait_seconds', 'histogram', ['queue']],
    ['calls_voicemail_total', 'counter', ['direction']],
    ['node_active_connections', 'gauge', ['host']],
    ['db_pool_in_use', 'gauge', ['system', 'host', 'pid']],
    ['db_pool_size', 'gauge', ['system', 'host', 'pid']],
    ['process_resident_memory_bytes', 'gauge', ['host', 'pid']],
    ['process_cpu_seconds_total', 'counter', ['host', 'pid']],
  ])('Prometheus gets %s as a %s', (name, type, labels) => {
    const exposed = [...shipped.values()].flatMap(({ prometheus }) => (prometheus === undefined ? [] : [prometheus]));
    const found = exposed.find((prometheus) => prometheus.name === name);
    expect(found).toMatchObject({ type });
    expect(Object.keys(found!.labels)).toEqual(labels);
  });

  test('the response times have buckets at their target and at their threshold, in seconds', () => {
    const { prometheus } = shipped.get('http.duration')!;
    expect(prometheus).toMatchObject({ scale: 0.001 });
    expect(prometheus!.buckets).toEqual(expect.arrayContaining([0.2, 0.5]));
  });

  test('each has a comment, itself or the group it stands in, and every collected one is bounded', () => {
    const text = readFileSync(join(packageRoot(), 'config', 'measures.yml'), 'utf8');
    expect(text.match(/^ {2}# /gm)!.length).toBeGreaterThan(10);
    for (const { maxSeries, examples } of collectedOf(shipped)) {
      expect(maxSeries).toBeLessThanOrEqual(5_000);
      expect(examples).toBeLessThanOrEqual(5);
    }
  });

  test('what is not written has its default', () => {
    const { unit, where, by, maxSeries, examples } = collectedOf(shipped).find(({ name }) => name === 'log.events')!;
    expect({ unit, where, by, maxSeries, examples }).toEqual({
      unit: 'count',
      where: {},
      by: ['level', 'version'],
      maxSeries: 200,
      examples: 0,
    });
    expect(shipped.get('http.p95')!.unit).toBe('ms');
    expect(shipped.get('call.failure_ratio')).toMatchObject({
      unit: 'ratio',
      numerator: { of: 'calls.failed', where: {} },
      denominator: { of: 'calls.ended', where: {} },
    });
    expect(shipped.get('queue.size')).toMatchObject({ staleAfterMs: 60_000 });
  });
});

describe('a wrong file', () => {
  test('is told every fault of its references, fields and kinds at once', () => {
    const message = problems(`
measures:
  a: { kind: gauge, by: [nowhere, call, tags], where: { message: x, level: { gt: 1 } } }
  b: { kind: ratio, numerator: { of: c, where: { host: h } }, denominator: missing, p: 95 }
  c: { kind: counter, by: [level] }
  d: { kind: mean, of: c }
  e: { kind: distribution, field: level, prometheus: { name: m, help: h, labels: { l: host }, buckets: [2, 1] } }
  f: { kind: counter, prometheus: { name: m, help: h, type: histogram, buckets: [1] } }
  g: { kind: ratio, numerator: c, denominator: h }
  h: { kind: gauge, field: pid }
`);
    for (const expected of [
      'measures.a.field: missing',
      'measures.a.by: there is no field nowhere',
      'measures.a.by: there is no field call',
      'measures.a.by: tags is a list',
      'measures.a.where: message is text',
      'measures.a.where: level is keyword',
      'measures.b.p: not for a ratio; permitted: ',
      'measures.b.numerator.where: c has no label host; it has: level',
      'measures.b.denominator: there is no measure missing',
      'measures.d.of: c is a counter; a mean is made from a distribution',
      'measures.e.field: level is keyword',
      'measures.e.prometheus.labels.l: host is not in',
      'measures.e.prometheus.buckets: must rise',
      'measures.f.prometheus.name: m is already the name of measures.e',
      'measures.f.prometheus.type: ',
      'measures.f.prometheus.buckets: ',
      'measures.g: numerator and denominator are of different kinds',
    ]) {
      expect(message).toContain(expected);
    }
    expect(message).toMatch(/^test\.yml: 17 problem\(s\)\n/);
  });

  test('is told every fault of its shape at once', () => {
    const message = problems(`
measures:
  Upper: { kind: counter }
  a: { kind: counted, by: level }
  b: { kind: rate, of: a, per: fortnight, colour: red }
`);
    expect(message).toMatch(/measures: found "Upper"; permitted: small letters/);
    expect(message).toMatch(/measures\.a\.kind: found "counted"; permitted: "counter"/);
    expect(message).toMatch(/measures\.b\.per: found "fortnight"; permitted: a duration/);
    expect(message).toMatch(/measures\.b\.colour: unknown key; permitted here: kind/);
  });
});
