// Backtest and incident export on a real Kafka and a real Elasticsearch: the same result from the topic, the indices and a file; a
// folder whose files hold what is known of the events; nothing secret, and nobody's offsets moved.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import type { BacktestResult } from '../../src/replay/backtest.ts';
import { incidentLog } from '../kit/incident-log.ts';
import { committedOffsets, testAdmin } from './intake-kit.ts';
import { type StoredIncident, storeIncident, workspace } from './stored-incident-kit.ts';

const MINUTE = 60_000;
/** A day that no other test logs on. */
const START = Date.parse('2025-03-17T09:00:00.000Z');
const SECRET = 'hunter2-s3cr3t';
const LOG = incidentLog({
  startMs: START,
  minutes: 30,
  failing: (minute) => (minute >= 15 && minute < 22 ? 0.5 : 0),
  secret: SECRET,
});
const FROM = new Date(START + 10 * MINUTE).toISOString();
const TO = new Date(START + 30 * MINUTE).toISOString();
const IN_RANGE = LOG.filter(({ timeMs }) => timeMs >= START + 10 * MINUTE && timeMs < START + 30 * MINUTE);

let stored: StoredIncident;
let topic = '';

beforeAll(async () => {
  stored = await storeIncident(LOG);
  topic = stored.topic;
  return () => stored.remove();
}, 120_000);

const RANGE = ['--from', FROM, '--to', TO, '--warm-up', '10m'];

describe('backtest', () => {
  it('says the same of the topic, the indices and a file; twice the same bytes; and moves no offsets', async () => {
    const { folder, run } = workspace(stored.configYaml);
    const admin = await testAdmin();
    const groups = async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId);
    const others = await groups();
    const before = await committedOffsets(admin, `${topic}-indexer`, topic);
    expect([...before.values()].reduce((sum, offset) => sum + offset, 0)).toBe(LOG.length);
    const kafka = await run('backtest', ...RANGE, '--json');
    expect(kafka).toMatchObject({ status: 0, err: '' });
    expect((await run('backtest', ...RANGE, '--json')).out).toBe(kafka.out);
    expect(await committedOffsets(admin, `${topic}-indexer`, topic)).toEqual(before);
    expect((await groups()).filter((group) => !others.includes(group))).toEqual([]);

    const file = join(folder, 'app.log.gz');
    writeFileSync(file, gzipSync(LOG.map(({ line }) => line).join('\n')));
    const results = [kafka, await run('backtest', ...RANGE, '--json', '--source', 'index')];
    results.push(await run('backtest', ...RANGE, '--json', '--source', 'file', file));
    const [fromKafka, fromIndex, fromFile] = results.map(({ out, err }) => {
      expect(err).toBe('');
      const { source: _, ...rest } = JSON.parse(out) as BacktestResult & { source: string };
      return rest;
    });
    expect(fromKafka!.records).toBe(IN_RANGE.length);
    expect(fromKafka!.timeline.alerts.map(({ rule }) => rule)).toContain('high-error-rate');
    expect(fromIndex).toEqual(fromKafka);
    expect(fromFile).toEqual(fromKafka);
  });

  it('compares with a second rule set in words, and refuses what it cannot do', async () => {
    const { folder, run } = workspace(stored.configYaml);
    const rules = join(folder, 'candidate.yml');
    writeFileSync(
      rules,
      'rules:\n  early: { title: Early, priority: P1, group: calls, kind: ratio, measure: call.failure_ratio, window: 1m, above: 15 % }\n',
    );
    const compared = await run('backtest', ...RANGE, '--rules', rules, '--compare', 'config/rules.yml', '--no-json');
    expect(compared).toMatchObject({ status: 0, err: '' });
    expect(compared.out).toMatch(/incident in group calls: first page \d+ s earlier\n.* "Early" \(P1\) instead of/);
    expect(compared.out).toMatch(/only with these rules {3}2025-03-17T09:15:\d\dZ .* early: /);
    expect(await run('backtest', '--from', TO, '--to', FROM)).toMatchObject({ status: 2 });
    expect(await run('backtest', ...RANGE, '--tick', '7s')).toMatchObject({
      status: 2,
      err: expect.stringContaining('--tick'),
    });
    expect(await run('backtest', ...RANGE, '--source', 'file')).toMatchObject({ status: 2 });
    expect(await run('backtest', ...RANGE, '--source', 'file', join(folder, 'none.log'))).toMatchObject({
      status: 1,
      err: expect.stringContaining('LOGPIPE_SOURCE_FAILED'),
    });
  });
});

describe('incident export', () => {
  const errors = IN_RANGE.filter(({ line }) => line.includes('"level":"error"'));
  const calls = IN_RANGE.filter(({ line }) => line.includes('call.ended'));
  const failedCalls = calls.filter(({ line }) => line.includes('"status":"failed"'));

  it.each(['kafka', 'index'])('from %s: logs, rates, alerts, errors and a README, without secrets', async (source) => {
    const { folder, run } = workspace(stored.configYaml);
    const dir = join(folder, 'incident');
    const args = ['incident', 'export', '--from', FROM, '--to', TO, '--out', dir, '--source', source];
    const { status, out, err } = await run(...args, '--json');
    expect({ status, err }).toEqual({ status: 0, err: '' });
    const summary = JSON.parse(out) as Record<string, unknown>;
    expect(summary).toMatchObject({ events: IN_RANGE.length, errors: errors.length, rateRows: 120 });
    expect(readdirSync(dir).sort()).toEqual(summary.files);

    const read = (name: string) => readFileSync(join(dir, name), 'utf8');
    const logs = gunzipSync(readFileSync(join(dir, 'logs.ndjson.gz'))).toString();
    const documents = logs
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(documents.map(({ eventId }) => eventId).sort()).toEqual(IN_RANGE.map(({ eventId }) => eventId).sort());
    expect(documents[0]).toMatchObject({ '@timestamp': FROM, kafka: { topic } });

    const [head, ...rows] = read('rates.csv')
      .trim()
      .split('\n')
      .map((line) => line.split(','));
    const column = (name: string) => rows.map((row) => Number(row[head!.indexOf(name)]));
    const total = (name: string) => column(name).reduce((sum, value) => sum + value, 0);
    expect(rows.map(([time]) => time).slice(0, 2)).toEqual([FROM, '2025-03-17T09:10:10.000Z']);
    expect(total('events')).toBe(IN_RANGE.length);
    expect(total('errors')).toBe(errors.length);
    expect(total('calls_ended')).toBe(calls.length);
    expect(total('calls_failed')).toBe(failedCalls.length);
    expect(Math.max(...column('call_failure_ratio'))).toBeCloseTo(0.5, 1);
    expect(rows[0]![head!.indexOf('calls_active')]).toBe('');

    const alerts = JSON.parse(read('alerts.json')) as { backtest: { alerts: { rule: string }[] } };
    expect(alerts.backtest.alerts.map(({ rule }) => rule)).toContain('high-error-rate');
    expect(read('errors.csv')).toMatch(new RegExp(`^${failedCalls.length},Call to .* failed: provider timeout,`, 'm'));
    const readme = read('README.md');
    for (const fact of [
      `| Events | ${IN_RANGE.length} (`,
      `| Errors | ${errors.length} |`,
      'high-error-rate',
      '1.4.2',
    ]) {
      expect(readme).toContain(fact);
    }
    expect(readme + logs + read('errors.csv') + read('alerts.json') + read('rates.csv') + out).not.toContain(SECRET);
    expect(logs).toContain('[masked]');

    expect(await run(...args)).toMatchObject({ status: 2, err: expect.stringContaining('--force') });
    const some = await run(...args, '--force', '--where', 'level=error', '--where', 'event=call.ended', '--json');
    expect(JSON.parse(some.out)).toMatchObject({
      events: failedCalls.length,
      errors: failedCalls.length,
      rateRows: 120,
    });
  });

  it('goes on without the alert history, and says why', async () => {
    const { folder, run } = workspace(stored.configYaml);
    const dir = join(folder, 'incident');
    writeFileSync(
      join(folder, 'logpipe.yml'),
      stored.configYaml.replace(/nodes: \['[^']*'\]/, "nodes: ['http://127.0.0.1:1']"),
    );
    const { status, out } = await run('incident', 'export', '--from', FROM, '--to', TO, '--out', dir, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ alerts: { source: 'backtest', fired: expect.any(Number) } });
    expect(readFileSync(join(dir, 'README.md'), 'utf8')).toContain('The alert history could not be read');
  });
});
