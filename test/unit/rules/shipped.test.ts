// The shipped rules: each can fire, none does in health, and they say what the operators' guide asks for.
import { describe, expect, it } from 'vitest';
import { createKnownSet } from '../../../src/rules/known-sets.ts';
import type { Observation } from '../../../src/rules/rule-types.ts';
import { calls, createStage, HOUR, MINUTE, RULES, SECOND, type Stage, T0 } from './kit.ts';

/** More than an hour of health, so that spikes have a past. */
function healthy(stage: Stage, fromMs = T0 - 70 * MINUTE, toMs = T0): void {
  for (let at = fromMs; at < toMs; at += 15 * SECOND) {
    calls(stage, at, { ok: 8, failed: at % MINUTE === 0 ? 1 : 0, tenant: 'acme' });
    calls(stage, at, { ok: 8, tenant: 'initech' });
    stage.count('calls.retried', ['completed'], 1, at);
    stage.count('log.events', ['info', '1.0.0'], 100, at);
    stage.count('http.requests', ['GET', '/calls', '200'], 50, at);
    stage.count('http.denied', ['401'], 1, at);
    stage.observe('http.duration', ['GET', '/calls'], [20, 50, 80, 120], at);
    stage.observe('queue.wait', ['scheduled-calls'], [500, 900, 2_000], at);
    const completed = ((at - T0 + 2 * HOUR) / (15 * SECOND)) * 12;
    stage.gauge('queue.completed', ['scheduled-calls'], completed, at);
    stage.gauge('queue.size', ['scheduled-calls'], 20, at);
    for (const [name, value] of [
      ['system.cpu', 30],
      ['system.memory', 60],
      ['system.disk', 50],
      ['system.network_rx', 2e6],
      ['system.network_tx', 2e6],
      ['connections.active', 100],
    ] as const) {
      stage.gauge(name, ['host-1'], value, at);
    }
    heap(stage, at, 100);
    stage.gauge('db.pool_in_use', ['mongodb', 'host-1', '1'], 3, at);
    stage.gauge('db.pool_size', ['mongodb', 'host-1', '1'], 10, at);
  }
}

function heap(stage: Stage, at: number, usedMB: number): void {
  stage.gauge('process.heap_used_bytes', ['host-1', '1'], usedMB * 2 ** 20, at);
  stage.gauge('process.heap_total_bytes', ['host-1', '1'], (usedMB + 5) * 2 ** 20, at);
  stage.gauge('process.heap_limit_bytes', ['host-1', '1'], 1_000 * 2 ** 20, at);
}

/** What happens from T0 on, each 15 s. Rules that need nothing of the log are set directly. */
type Fault = (stage: Stage, atMs: number) => void;
const internal =
  (measure: string, value: number, labels = {}): Fault =>
  (stage, at) =>
    stage.evaluator.store.setGauge(measure, labels, value, at);
const gauge =
  (measure: string, value: number): Fault =>
  (stage, at) =>
    stage.gauge(measure, ['host-1'], value, at);

const FAULTS: Readonly<Record<string, Fault>> = {
  'high-error-rate': (stage, at) => calls(stage, at, { failed: 10 }),
  'elevated-error-rate': (stage, at) => calls(stage, at, { failed: 3 }),
  'low-call-success': (stage, at) => stage.count('calls.ended', ['outbound', 'busy', 'acme'], 60, at),
  'low-retry-success': (stage, at) => stage.count('calls.retried', ['failed'], 30, at),
  'tenant-error-rate': (stage, at) => calls(stage, at, { tenant: 'initech', failed: 10 }),
  'high-http-error-rate': (stage, at) => {
    stage.count('http.errors', ['/calls', '503'], 20, at);
    stage.count('http.requests', ['GET', '/calls', '503'], 20, at);
  },
  'elevated-http-error-rate': (stage, at) => {
    stage.count('http.errors', ['/calls', '500'], 5, at);
    stage.count('http.requests', ['GET', '/calls', '500'], 5, at);
  },
  'slow-responses': (stage, at) => stage.observe('http.duration', ['GET', '/calls'], new Array(50).fill(900), at),
  'access-denied-spike': (stage, at) => stage.count('http.denied', ['403'], 100, at),
  'many-connections': gauge('connections.active', 1_200),
  'queue-backlog': (stage, at) => stage.gauge('queue.size', ['scheduled-calls'], 501, at),
  'queue-slow': (stage, at) => stage.gauge('queue.completed', ['scheduled-calls'], 5_760, at),
  'queue-wait': (stage, at) => stage.observe('queue.wait', ['scheduled-calls'], new Array(20).fill(150_000), at),
  'db-pool-exhausted': (stage, at) => stage.gauge('db.pool_in_use', ['mongodb', 'host-1', '1'], 10, at),
  'critical-memory-usage': (stage, at) => heap(stage, at, 910),
  'high-memory-usage': (stage, at) => heap(stage, at, 860),
  'high-cpu': gauge('system.cpu', 96),
  'critical-host-memory': gauge('system.memory', 91),
  'high-host-memory': gauge('system.memory', 86),
  'critical-disk-usage': gauge('system.disk', 91),
  'high-disk-usage': gauge('system.disk', 86),
  'network-receive-spike': gauge('system.network_rx', 90e6),
  'network-send-spike': gauge('system.network_tx', 90e6),
  'new-error': (stage, at) => stage.count('error.templates', ['Cannot reach <quoted>'], 2, at),
  'spool-filling': internal('logpipe.spool_used', 0.8, { host: 'host-1' }),
  'records-dropped': internal('logpipe.dropped', 1, { reason: 'retention' }),
  'dead-letters': internal('logpipe.dead_letter_ratio', 0.011),
  'kafka-lag': internal('kafka.lag', 100_001, { group: 'indexer' }),
  'elasticsearch-red': internal('elasticsearch.status', 2),
  'elasticsearch-yellow': internal('elasticsearch.status', 1),
};
/** Tested where their whole story is: kinds.test.ts and late-watch.test.ts. */
const ELSEWHERE = [
  'application-silent',
  'all-calls-failing',
  'most-calls-failing',
  'many-calls-failing',
  'error-trend',
  'call-failure-trend',
  'log-processing-behind',
  'partition-stalled',
  'reported-late',
];

/** Everything that was breached at a tick from T0 on, with what it said last. */
function breachesOf(fault: Fault | undefined): Map<string, Observation> {
  const known = createKnownSet(T0 - 48 * HOUR);
  const stage = createStage(RULES, { known });
  healthy(stage);
  const found = new Map<string, Observation>();
  for (let at = T0; at < T0 + 7 * MINUTE; at += 15 * SECOND) {
    healthy(stage, at, at + SECOND);
    fault?.(stage, at);
    for (const observation of stage.tick(at + SECOND).observations) {
      if (observation.state === 'breached') found.set(observation.ruleId, observation);
    }
  }
  return found;
}

describe('shipped rules', () => {
  it('are all tried, here or elsewhere', () => {
    expect(RULES.map(({ id }) => id).sort()).toEqual([...Object.keys(FAULTS), ...ELSEWHERE].sort());
  });

  it('are quiet in health', () => {
    expect([...breachesOf(undefined).keys()]).toEqual([]);
  });

  it.each(Object.keys(FAULTS))('%s fires', (id) => {
    const breach = breachesOf(FAULTS[id]).get(id);
    expect(breach?.state).toBe('breached');
    expect(breach!.message).not.toMatch(/[{}]|undefined|unknown|NaN/);
    // A metadata value that is left out was not to be found.
    const rule = RULES.find((one) => one.id === id)!;
    const optional = ['active', 'failed'];
    expect(Object.keys(breach!.metadata!)).toEqual(Object.keys(rule.metadata).filter((key) => !optional.includes(key)));
    expect(breach!.why).toMatchObject({ measure: expect.any(String), volume: expect.any(Number) });
  });

  it('mute the warning while the critical one of the same thing fires, and ratios while the application is silent', () => {
    const mutedBy = (id: string) => RULES.find((rule) => rule.id === id)!.inhibitedBy;
    for (const [warning, critical] of [
      ['elevated-error-rate', 'high-error-rate'],
      ['elevated-http-error-rate', 'high-http-error-rate'],
      ['high-memory-usage', 'critical-memory-usage'],
      ['high-host-memory', 'critical-host-memory'],
      ['high-disk-usage', 'critical-disk-usage'],
      ['elasticsearch-yellow', 'elasticsearch-red'],
      ['most-calls-failing', 'all-calls-failing'],
    ] as const) {
      expect(mutedBy(warning)).toContain(critical);
    }
    for (const rule of RULES) {
      if (rule.kind === 'ratio' || rule.kind === 'low-volume') expect(rule.inhibitedBy).toContain('application-silent');
      // Who mutes is at least as urgent, and is told to the same people at least.
      for (const other of rule.inhibitedBy) {
        expect(`${rule.id} ${RULES.find(({ id }) => id === other)!.priority <= rule.priority}`).toBe(`${rule.id} true`);
      }
    }
  });

  it('have titles and priorities as the operators’ guide has them', () => {
    const told = Object.fromEntries(RULES.map(({ id, title, priority }) => [id, `${priority} ${title}`]));
    expect(told).toMatchObject({
      'high-error-rate': 'P1 High Error Rate Detected',
      'elevated-error-rate': 'P2 Elevated Error Rate',
      'critical-memory-usage': 'P1 Critical Memory Usage',
      'new-error': 'P3 New Kind of Error',
      'error-trend': 'P4 More Errors Than Last Week',
    });
    for (const { id, cooldownMs, priority, runbook } of RULES) {
      expect(cooldownMs).toBe(priority === 'P1' ? 5 * MINUTE : 10 * MINUTE);
      expect(runbook).toBe(`docs/runbooks/${id}.md`);
    }
  });
});
