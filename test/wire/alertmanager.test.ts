// The channel at real Alertmanagers: its alerts appear, stay for as long as they fire, end when they end, and end by themselves when nobody
// vouches for them any more.
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { loadYaml } from '../../src/core/config-loader.ts';
import type { Log } from '../../src/core/log.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import type { Channel, Notification } from '../../src/incidents/notification.ts';
import type { Standing } from '../../src/notify/alertmanager.ts';
import { createChannels } from '../../src/notify/dispatcher.ts';
import { type NotifyConfig, notifySection } from '../../src/notify/notify-config.ts';
import { routesByPriority } from '../../src/oncall/routes.ts';
import { notification } from '../kit/notifications.ts';
import { type AlertmanagerAlert, startAlertmanager } from '../kit/prometheus.ts';
import { startReceiver } from '../kit/receiver.ts';
import { waitFor } from '../kit/servers.ts';
import { messages, rig, rule, seen } from '../unit/incidents/machine-kit.ts';

const never = new AbortController().signal;

function channel(urls: readonly string[], more: { standing?: () => Standing | undefined; resendMs?: number } = {}) {
  const { standing, resendMs = 1_000 } = more;
  const schema = { type: 'object', properties: { notify: notifySection } } as const;
  const text = JSON.stringify({ notify: { environment: 'test', alertmanager: { urls, resendMs }, timeoutMs: 2_000 } });
  const { notify } = loadYaml<{ notify: NotifyConfig }>(text, schema, {}, 'test.yml');
  const said: string[] = [];
  const say = (message: string) => void said.push(message);
  const log: Log = { error: say, warn: say, info: say, debug: () => {} };
  const deps = { clock: systemClock, log, masker: createMasker(), out: new PassThrough() };
  const made = createChannels(notify, undefined, { ...deps, ...(standing === undefined ? {} : { standing }) });
  const found = made.get('alertmanager') as Channel;
  onTestFinished(() => found.close());
  return { channel: found, said };
}

const now = (changes: Partial<Notification> = {}): Notification => {
  const atMs = Date.now();
  const [alert] = notification().alerts;
  return notification({ atMs, alerts: [{ ...alert!, startedMs: atMs - 60_000 }], ...changes });
};
const firing = async (all: readonly { alerts(): Promise<AlertmanagerAlert[]> }[]) =>
  (await Promise.all(all.map(({ alerts }) => alerts()))).map((alerts) => alerts.length);

test('every one of them has it, for longer than it lives by itself; it ends when it ends', async () => {
  const both = await Promise.all([startAlertmanager(), startAlertmanager()]);
  const { channel: to } = channel(both.map(({ url }) => `${url}/`));
  const sentMs = Date.now();
  expect(await to.send(now({ team: 'payments' }), never)).toEqual({ ok: true });
  const [first] = await both[0].alerts();
  expect(first).toMatchObject({
    labels: {
      ...{ alertname: 'high-error-rate', severity: 'critical', priority: 'P1', service: 'calling-platform' },
      ...{ environment: 'test', team: 'payments' },
    },
    annotations: {
      ...{ summary: 'High Error Rate Detected', incident: '01JDHX', runbook: 'high-error-rate.md' },
      description: 'Error rate is 23.08%, above the threshold of 20%',
    },
  });
  expect(await firing(both)).toEqual([1, 1]);
  // Its life is four rounds of a second; sent again, it is there after eight.
  await waitFor(async () => Date.parse((await both[1].alerts())[0]?.updatedAt ?? '') > sentMs + 8_000, {
    what: 'it to be sent again for eight seconds',
    timeoutMs: 30_000,
  });
  expect(await firing(both)).toEqual([1, 1]);
  expect((await both[0].alerts())[0]!.labels).toEqual(first!.labels);

  const [alert] = now().alerts;
  const resolve = now({
    action: 'resolve',
    alerts: [{ ...alert!, state: 'resolved', resolvedMs: Date.now() }],
    team: 'payments',
  });
  expect(await to.send(resolve, never)).toEqual({ ok: true });
  await waitFor(async () => (await firing(both)).join() === '0,0', { what: 'both to show its end' });
});

test('nobody vouches for it any more: it ends by itself', async () => {
  const one = await startAlertmanager();
  const { channel: to } = channel([one.url]);
  await to.send(now(), never);
  expect(await firing([one])).toEqual([1]);
  await to.close();
  await waitFor(async () => (await firing([one]))[0] === 0, { what: 'its end', timeoutMs: 20_000 });
});

test('as the alert state has it: what began, ended and was never told of; nothing of it from memory', async () => {
  const one = await startAlertmanager();
  const routes = routesByPriority(() => ['alertmanager']);
  const r = rig([rule('failures'), rule('slow', { priority: 'P3' })], { routes, environment: 'test' });
  r.now = Date.now();
  let decides = true;
  const standing = () => (decides ? { alerts: r.machine.alerts(), incidents: r.machine.incidents() } : undefined);
  const { channel: to } = channel([one.url], { standing });
  const labels = { 'queue.name': 'a"b\n\u202e', queue_name: 'other', severity: 'mine', empty: '' };
  const step = async (...observations: Parameters<typeof seen>[]) => {
    r.now = Date.now();
    const plan = r.go({ observations: observations.map((args) => seen(...args)) });
    for (const { notification: message } of messages(plan)) expect(await to.send(message, never)).toEqual({ ok: true });
  };
  const names = async () => (await one.alerts()).map((alert) => alert.labels.alertname).sort();

  await step(['failures', 'breached', labels]);
  expect((await one.alerts())[0]!.labels).toMatchObject({
    ...{
      alertname: 'failures',
      severity: 'warning',
      queue_name: 'a"b',
      label_queue_name: 'other',
      label_severity: 'mine',
    },
  });
  // Another one of the same incident, within the cooldown: nobody is told of it, and so nobody has it.
  await step(['failures', 'breached', labels], ['failures', 'breached', { 'queue.name': 'second' }]);
  const before = (await one.alerts())[0]!.updatedAt;
  await waitFor(async () => (await one.alerts())[0]!.updatedAt > before, { what: 'the next round' });
  expect(await names()).toEqual(['failures']);

  // Decided elsewhere from now on: nothing is said from memory.
  decides = false;
  await waitFor(async () => (await names()).length === 0, { what: 'its end without a word', timeoutMs: 20_000 });
  decides = true;
  await waitFor(async () => (await names()).length === 1, { what: 'it to be told again', timeoutMs: 20_000 });
});

test('one of two is away, or something else answers in its place: it alone is asked again', async () => {
  const there = await startAlertmanager();
  const gone = await startAlertmanager();
  await gone.stop();
  const { channel: to, said } = channel([there.url, gone.url]);
  const result = await to.send(now(), never);
  expect(result).toMatchObject({
    ok: false,
    retryable: true,
    left: ['1'],
    reason: expect.stringMatching(/^1 of 2: connection failed/),
  });
  expect(JSON.stringify(result)).not.toContain('127.0.0.1');
  const back = await startAlertmanager(Number(new URL(gone.url).port));
  expect(await to.send(now(), never, ['1'])).toEqual({ ok: true });
  expect(await firing([there, back])).toEqual([1, 1]);
  await back.stop();
  await waitFor(() => said.some((line) => line.includes('could not be sent to Alertmanager again')), {
    what: 'a word about it',
    timeoutMs: 20_000,
  });

  const page = await startReceiver(() => ({ status: 200, body: '{"status":"success"}' }));
  onTestFinished(() => page.close());
  expect(await channel([page.url]).channel.send(now(), never)).toMatchObject({
    ok: false,
    retryable: true,
    doubtful: true,
  });
  const refuses = await startReceiver(() => ({ status: 400, body: '"bad labels"' }));
  onTestFinished(() => refuses.close());
  expect(await channel([refuses.url]).channel.send(now(), never)).toMatchObject({ ok: false, retryable: false });
});
