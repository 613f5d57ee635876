// Alerting without Kafka: one process follows a log file; counts and alert state are in its journal. Killed and started
// again it counts no line twice, forgets no alert and pages once.
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { call, QUICK_RULES } from '../kit/alerting.ts';
import { startReceiver } from '../kit/receiver.ts';
import { spawnLogpipe, waitFor } from '../kit/servers.ts';

interface StatsReply {
  readonly data: { readonly calls: { readonly total: number | null; readonly successRate: number | null } };
}

it('a file is counted once, an incident paged once, over SIGKILLs and restarts', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-embedded-'));
  const receiver = await startReceiver();
  onTestFinished(async () => {
    await receiver.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const log = join(folder, 'app.log');
  const rules = join(folder, 'rules.yml');
  const config = join(folder, 'logpipe.yml');
  writeFileSync(log, '');
  writeFileSync(rules, QUICK_RULES);
  writeFileSync(
    config,
    `source: files
files: { paths: ['${log}'], dataDir: '${join(folder, 'positions')}', pollIntervalMs: 100 }
dlq: { file: '${join(folder, 'dead-letters.ndjson')}' }
sinks: { elasticsearch: false, ndjson: { enabled: true, dir: '${join(folder, 'out')}' } }
alerts: { rulesFile: '${rules}', journalDir: '${join(folder, 'alerts')}' }
notify:
  environment: test
  pagerduty: { url: '${receiver.url}/v2/enqueue', integrationKey: k3yk3yk3y }
http: { port: 0 }
`,
  );
  let written = 0;
  const write = (count: number, failing: number) => {
    const lines = Array.from({ length: count }, () => {
      const event = call(written++, failing);
      return JSON.stringify({ timestamp: new Date().toISOString(), level: 'info', message: 'call ended', ...event });
    });
    appendFileSync(log, `${lines.join('\n')}\n`);
  };
  const start = async () => {
    const child = spawnLogpipe(['run', '--config', config, '--exit-with-parent']);
    const { url } = JSON.parse(await child.waitForLine(/"message":"running"/)) as { url: string };
    const stats = async () => (await (await fetch(`${url}/api/v1/stats?window=1h`)).json()) as StatsReply;
    const counted = () =>
      waitFor(async () => (await stats()).data.calls.total === written, { what: `${written} calls are counted` });
    return { child, url, stats, counted };
  };

  let logpipe = await start();
  expect(await logpipe.stats()).toMatchObject({ data: { calls: { total: null, successRate: null }, queues: [] } });
  write(100, 5);
  await receiver.received(1);
  expect(receiver.requests[0]!.body).toMatchObject({ event_action: 'trigger' });
  for (let kill = 0; kill < 5; kill++) {
    write(40, 5);
    // Whether or not the last lines were counted before it.
    if (kill % 2 === 0) await logpipe.counted();
    logpipe.child.kill('SIGKILL');
    await logpipe.child.exit;
    write(10, 5);
    logpipe = await start();
    await logpipe.counted();
  }
  expect(receiver.requests).toHaveLength(1);
  const metrics = await (await fetch(`${logpipe.url}/metrics/platform`)).text();
  expect(metrics).toMatch(
    new RegExp(`^calls_ended_total\\{direction="outbound",status="failed"\\} ${written / 2}$`, 'm'),
  );
  expect((await logpipe.stats()).data.calls.successRate).toBe(0.5);
  const explained = await fetch(`${logpipe.url}/api/v1/status?rule=high-error-rate`);
  expect(await explained.json()).toMatchObject({
    state: 'breached',
    sets: [{ value: 0.5, alert: { phase: 'firing' } }],
  });

  // Healthy calls until the window has forgotten the others.
  await waitFor(
    () => {
      write(20, 0);
      return receiver.requests.length >= 2;
    },
    { what: 'the resolve', timeoutMs: 60_000, intervalMs: 500 },
  );
  expect(receiver.requests[1]!.body).toEqual({
    routing_key: 'k3yk3yk3y',
    event_action: 'resolve',
    dedup_key: receiver.requests[0]!.body.dedup_key,
  });
  logpipe.child.kill('SIGTERM');
  expect((await logpipe.child.exit).status).toBe(0);
  const list = spawnLogpipe(['alerts', 'list', '--all', '--json', '--config', config]);
  expect((await list.exit).status).toBe(0);
  expect(JSON.parse(list.stdout())).toMatchObject({ state: 'resolved', told: { title: 'High Error Rate Detected' } });
});
