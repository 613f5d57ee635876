// The commands around alerts, on a real Kafka and at real receivers; and standard input, which can be read only once.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { call, createAlerting, QUICK_RULES } from '../kit/alerting.ts';
import { startReceiver } from '../kit/receiver.ts';
import { spawnLogpipe, waitFor } from '../kit/servers.ts';

it('alerts list and show tell what fires; notify test reaches every channel and says which failed', async () => {
  const kit = await createAlerting();
  const logpipe = kit.start('counter,alerter');
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  const run = async (...args: string[]) => {
    const child = spawnLogpipe([...args, '--config', kit.configFile]);
    const { status } = await child.exit;
    return { status, out: child.stdout(), err: child.stderr() };
  };
  expect(await run('alerts', 'list')).toMatchObject({
    status: 0,
    err: expect.stringContaining('no alerts are firing'),
  });

  const stop = kit.calls(50, () => 5);
  await kit.pagerduty.received(1);
  const key = String(kit.pagerduty.requests[0]!.body.dedup_key).replace('logpipe/', '');
  await waitFor(async () => (await run('alerts', 'list')).out.includes(key), { what: 'the alert is listed' });
  const listed = await run('alerts', 'list', '--json');
  expect(JSON.parse(listed.out)).toMatchObject({
    id: key,
    state: 'open',
    told: { title: 'High Error Rate Detected', priority: 'P1' },
    alerts: [{ ruleId: 'high-error-rate', phase: 'firing', why: { measure: 'call.failure_ratio' } }],
  });
  const shown = await run('alerts', 'show', 'high-error-rate', '--json');
  expect(JSON.parse(shown.out)).toMatchObject({ key: 'high-error-rate', incidentId: key });
  expect(await run('alerts', 'show', 'nothing')).toMatchObject({
    status: 2,
    err: expect.stringContaining('"nothing"'),
  });
  await stop();

  const before = kit.slack.requests.length;
  const tested = await run('notify', 'test', '--json');
  expect(JSON.parse(tested.out)).toEqual({ slack: { ok: true }, pagerduty: { ok: true } });
  expect(tested.status).toBe(0);
  expect(kit.slack.requests.length).toBeGreaterThanOrEqual(before + 2);
  await kit.slack.close();
  const refused = await run('notify', 'test', '--channel', 'slack', '--no-json');
  expect(refused).toMatchObject({ status: 1, out: expect.stringMatching(/slack +FAILED: connection failed/) });
  expect(refused.out + refused.err).not.toContain('s3cr3t');
  expect(await run('notify', 'test', '--channel', 'fax')).toMatchObject({ status: 2 });
});

it('standard input is indexed and counted in one reading, and ends when it ends', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-stdin-'));
  const receiver = await startReceiver();
  onTestFinished(async () => {
    await receiver.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const rules = join(folder, 'rules.yml');
  const config = join(folder, 'logpipe.yml');
  writeFileSync(rules, QUICK_RULES);
  writeFileSync(
    config,
    `source: stdin
dlq: { file: '${join(folder, 'dead-letters.ndjson')}' }
sinks: { elasticsearch: false, console: { enabled: true, format: ndjson } }
alerts: { rulesFile: '${rules}', journalDir: '${join(folder, 'alerts')}' }
notify: { pagerduty: { url: '${receiver.url}/v2/enqueue', integrationKey: k3yk3yk3y } }
http: { port: 0 }
`,
  );
  const logpipe = spawnLogpipe(['run', '--config', config]);
  await logpipe.waitForLine(/"message":"running"/);
  const lines = Array.from({ length: 60 }, (_, n) =>
    JSON.stringify({ timestamp: new Date().toISOString(), level: 'info', message: 'call ended', ...call(n, 5) }),
  );
  logpipe.stdin.write(`${lines.join('\n')}\n`);
  await receiver.received(1);
  expect(receiver.requests[0]!.body).toMatchObject({
    event_action: 'trigger',
    payload: { custom_details: { metadata: { totalCalls: 60, failedCalls: 30, errorRate: 50 } } },
  });
  logpipe.stdin.end();
  expect((await logpipe.exit).status).toBe(0);
  expect(logpipe.stdout().trim().split('\n')).toHaveLength(60);
});
