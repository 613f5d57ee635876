// From a log line to a page on real servers: exact bodies at real receivers, with Elasticsearch dead, with Kafka dead.
import { expect, it } from 'vitest';
import { createAlerting } from '../kit/alerting.ts';
import { startEs, startKafka, testEsUrl, waitFor } from '../kit/servers.ts';

const ISO = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const MESSAGE = /^Error rate is \d\d\.\d\d % \(threshold 20 %\): \d+ of \d+ calls failed in 20 s$/;

it('failing calls page Slack and PagerDuty once, with the exact bodies, and resolve', async () => {
  const kit = await createAlerting();
  const logpipe = kit.start();
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  let failing = 0;
  const stop = kit.calls(50, () => failing);
  await waitFor(async () => kit.heartbeats.requests.length > 0, { what: 'a heartbeat' });
  failing = 4;
  await kit.pagerduty.received(1);
  await kit.slack.received(1);
  await kit.goOn();
  failing = 0;
  await kit.pagerduty.received(2);
  await kit.slack.received(2);
  await stop();

  const [trigger, resolve] = kit.pagerduty.requests.map(({ body }) => body);
  const metadata = { totalCalls: expect.any(Number), failedCalls: expect.any(Number), errorRate: expect.any(Number) };
  expect(trigger).toEqual({
    routing_key: 'k3yk3yk3y',
    event_action: 'trigger',
    dedup_key: expect.stringMatching(/^logpipe\/[0-9A-Z]{26}$/),
    payload: {
      summary: 'High Error Rate Detected',
      severity: 'critical',
      source: 'calling-platform',
      custom_details: { message: expect.stringMatching(MESSAGE), metadata, timestamp: ISO },
    },
  });
  expect(resolve).toEqual({ routing_key: 'k3yk3yk3y', event_action: 'resolve', dedup_key: trigger!.dedup_key });
  const [slack, recovered] = kit.slack.requests.map(({ body }) => body as unknown) as [SlackBody, SlackBody];
  expect(slack.text).toBe('🚨 CRITICAL: High Error Rate Detected');
  expect(slack.attachments[0]).toEqual({
    color: 'danger',
    fields: [
      { title: 'Message', value: expect.stringMatching(MESSAGE), short: false },
      { title: 'Timestamp', value: ISO, short: true },
      { title: 'Environment', value: 'test', short: true },
      { title: 'Metadata', value: expect.stringContaining('"failedCalls"'), short: false },
    ],
  });
  expect(recovered.text).toContain('RESOLVED');
  const more = JSON.stringify(slack.attachments[1]);
  expect(more).toMatch(/\*Why:\* call\.failure_ratio over 20 s: /);
  // The errors of that minute are not this measure's own.
  expect(more).not.toMatch(/provider timeout/);

  // The history in Elasticsearch, and the command line, tell the same.
  const id = String(trigger!.dedup_key).replace('logpipe/', '');
  const history = async () => {
    await fetch(`${testEsUrl()}/logpipe-alerts-*/_refresh?allow_no_indices=true`, { method: 'POST' });
    const query = `q=${encodeURIComponent(`incident.id:"${id}"`)}&size=100&allow_no_indices=true`;
    const reply = await fetch(`${testEsUrl()}/logpipe-alerts-*/_search?${query}`);
    const { hits } = (await reply.json()) as { hits: { hits: { _source: HistoryHit }[] } };
    return hits.hits.map(({ _source }) => _source.transition).sort();
  };
  // What became of the last messages is written after the resolve itself.
  const whole = ['firing', 'notified', 'notified', 'notified', 'notified', 'resolved'];
  await waitFor(async () => (await history()).length >= whole.length, { what: 'the whole history' });
  expect(await history()).toEqual(whole);

  logpipe.kill('SIGTERM');
  expect((await logpipe.exit).status).toBe(0);
  expect(kit.pagerduty.requests).toHaveLength(2);
  expect(kit.slack.requests).toHaveLength(2);
  const said = logpipe
    .stderr()
    .split('\n')
    .filter((line) => line.includes('"CRITICAL ALERT"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(said).toHaveLength(1);
  expect(said[0]).toMatchObject({
    level: 'error',
    message: 'CRITICAL ALERT',
    alert: { title: 'High Error Rate Detected', message: expect.stringMatching(MESSAGE), metadata },
  });
  expect(logpipe.stderr() + logpipe.stdout()).not.toMatch(/s3cr3t|k3yk3yk3y/);
});

it('pages with Elasticsearch dead, also when it was dead at the start', async () => {
  const es = await startEs({});
  const kit = await createAlerting({ esUrl: es.url });
  const logpipe = kit.start();
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  es.kill();
  logpipe.kill('SIGTERM');
  await logpipe.exit;
  const again = kit.start();
  await again.waitForLine(/alerts are evaluated here/, 30_000);
  expect(again.stderr()).not.toMatch(/index template/);
  const stop = kit.calls(50, () => 5);
  await kit.pagerduty.received(1);
  await kit.slack.received(1);
  await stop();
  expect(kit.pagerduty.requests[0]!.body).toMatchObject({ event_action: 'trigger' });
});

it('Kafka dead is told directly and once, the heartbeat stops, and its return resolves it', async () => {
  const kafka = await startKafka();
  const kit = await createAlerting({ brokers: kafka.brokers });
  const logpipe = kit.start('counter,alerter');
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(await logpipe.waitForLine(/http:\/\/127\.0\.0\.1:\d+/))!;
  const blindGauge = async () => /^logpipe_blind .*$/m.exec(await (await fetch(`${url}/metrics`)).text())?.[0];
  await waitFor(async () => kit.heartbeats.requests.length > 1, { what: 'heartbeats' });
  expect(await blindGauge()).toBe('logpipe_blind 0');
  kafka.kill();
  await kit.pagerduty.received(1);
  await kit.slack.received(1);
  const beats = kit.heartbeats.requests.length;
  const dedup = kit.pagerduty.requests[0]!.body.dedup_key;
  expect(kit.pagerduty.requests[0]!.body).toMatchObject({
    event_action: 'trigger',
    payload: { summary: 'Log pipeline blind', severity: 'critical', source: 'calling-platform' },
  });
  expect((kit.slack.requests[0]!.body as unknown as SlackBody).text).toBe('🚨 CRITICAL: Log pipeline blind');
  expect(await blindGauge()).toBe('logpipe_blind 1');
  await kafka.start();
  await kit.pagerduty.received(2);
  expect(await blindGauge()).toBe('logpipe_blind 0');
  expect(kit.pagerduty.requests[1]!.body).toMatchObject({ event_action: 'resolve', dedup_key: dedup });
  expect(kit.heartbeats.requests.length).toBeLessThanOrEqual(beats + 1);
  await waitFor(async () => kit.heartbeats.requests.length > beats + 1, {
    what: 'heartbeats again',
    timeoutMs: 60_000,
  });
  // And the rest works again.
  const stop = kit.calls(50, () => 5);
  await kit.pagerduty.received(3);
  await stop();
  expect(kit.pagerduty.requests[2]!.body).toMatchObject({ payload: { summary: 'High Error Rate Detected' } });
});

interface SlackBody {
  readonly text: string;
  readonly attachments: readonly [object, object];
}

interface HistoryHit {
  readonly transition: string;
}
