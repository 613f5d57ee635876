// The commands around alerts, on a real Kafka and at real receivers; and standard input, which can be read only once.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { call, createAlerting, QUICK_RULES } from '../kit/alerting.ts';
import { startMailReceiver } from '../kit/mail-receiver.ts';
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

it('on call: named, escalated, acknowledged, resolved by hand, reopened, silenced, all from the command line', async () => {
  const mail = await startMailReceiver();
  onTestFinished(() => mail.close());
  const kit = await createAlerting({
    mailPort: mail.port,
    routing: `hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada, email: ada@ops.example, slackId: U012AB3CD }
  ben: { name: Ben, email: ben@ops.example, slackId: U012AB3CE }
teams: { calls: { rota: { primary: [ada], secondary: [ben] } } }
escalation: { after: 4s, repeat: 1h }
reopenAfter: 4s
`,
  });
  const run = async (...args: string[]) => {
    const child = spawnLogpipe([...args, '--config', kit.configFile]);
    const { status } = await child.exit;
    return { status, out: child.stdout(), err: child.stderr() };
  };
  expect(await run('oncall', '--next', '0')).toMatchObject({
    status: 0,
    out: expect.stringMatching(/ now .* Ada +Ben/),
  });
  const logpipe = kit.start('counter,alerter');
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  const stop = kit.calls(50, () => 5);
  const texts = () => kit.slack.requests.map(({ body }) => String(body.text));
  const first = '🚨 CRITICAL: High Error Rate Detected';

  // The primary, and then the secondary.
  await kit.slack.received(2);
  expect(texts()).toEqual([
    expect.stringContaining(`${first}\n<@U012AB3CD> (primary): answer within`),
    expect.stringContaining(`${first}\n<@U012AB3CE> (secondary)`),
  ]);
  expect(JSON.stringify(kit.slack.requests[1]!.body)).toContain('nobody has acknowledged for 4 s: to the secondary');
  await waitFor(async () => mail.mails.length >= 3, { what: 'mail to the team, Ada and Ben' });
  expect(mail.mails.map(({ to }) => to.join()).sort()).toEqual([
    'ada@ops.example',
    'all@ops.example',
    'ben@ops.example',
  ]);
  // A person without a key of their own is not called, and the team's service only once.
  expect(kit.pagerduty.requests.map(({ body }) => body.event_action)).toEqual(['trigger']);

  // Acknowledged: everybody who was told knows.
  const id = String(kit.pagerduty.requests[0]!.body.dedup_key).replace('logpipe/', '');
  expect(await run('alerts', 'ack', 'high-error-rate', '--by', 'ada')).toMatchObject({
    status: 0,
    out: `acknowledged: High Error Rate Detected, incident ${id}\n`,
  });
  await kit.slack.received(3);
  expect(texts()[2]).toBe('👀 ACKNOWLEDGED: High Error Rate Detected');
  expect(JSON.stringify(kit.slack.requests[2]!.body)).toContain('*Acknowledged:* by ada');
  await kit.pagerduty.received(2);
  expect(kit.pagerduty.requests[1]!.body).toMatchObject({ event_action: 'acknowledge', dedup_key: `logpipe/${id}` });
  const again = await run('alerts', 'ack', id, '--by', 'ben', '--json');
  expect(again.status).toBe(0);
  expect(JSON.parse(again.out)).toMatchObject({
    acknowledged: true,
    detail: expect.stringMatching(/^acknowledged already, by ada, .*: nothing changes$/),
  });

  // Resolved by hand while it is true: quiet, and then the same incident again.
  const resolved = await run('alerts', 'resolve', id, '--by', 'ada');
  expect(resolved).toMatchObject({
    status: 0,
    out: expect.stringContaining('high-error-rate is still true: quiet until'),
  });
  await kit.slack.received(5);
  expect(texts()[3]).toBe('✅ RESOLVED: High Error Rate Detected');
  expect(texts()[4]).toContain(`${first}\n<@U012AB3CD> (primary)`);
  expect(JSON.stringify(kit.slack.requests[4]!.body)).toContain(
    '*Reopened:* resolved by hand by ada, still true after 4 s',
  );

  // Silenced: looked at first, then set; who asks sees it.
  const what = ['alerts', 'silence', '--rule', 'high-error-rate', '--for', '1h', '--reason', 'known'];
  expect(await run(...what, '--preview')).toMatchObject({
    status: 0,
    out: expect.stringContaining('would mute now: 1 alert'),
  });
  expect(await run(...what.slice(0, -2))).toMatchObject({
    status: 2,
    err: expect.stringContaining('--reason: missing'),
  });
  const silenced = await run(...what, '--json');
  const silence = String(JSON.parse(silenced.out).silence.id);
  expect([silenced.status, (await run('alerts', 'silences')).out]).toEqual([0, expect.stringContaining(silence)]);
  await waitFor(async () => (await run('alerts', 'list')).out.includes('silenced by'), {
    what: 'the alert is silenced',
  });
  expect(await run('alerts', 'unsilence', silence)).toMatchObject({ status: 0 });
  expect(await run('alerts', 'unsilence', silence)).toMatchObject({ status: 2 });

  // Nobody decides: the command is given, and that is said.
  await stop();
  logpipe.kill('SIGTERM');
  await logpipe.exit;
  expect(await run('alerts', 'ack', id, '--wait-seconds', '1')).toMatchObject({
    status: 1,
    err: expect.stringContaining('no answer within 1 s; it is carried out as soon as an alerter runs'),
  });
  expect(await run('alerts', 'ack', 'nothing')).toMatchObject({ status: 2, err: expect.stringContaining('"nothing"') });
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
