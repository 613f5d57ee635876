// A storm of 429, 5xx and broken connections on Slack while PagerDuty is sent to over real connections.
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import type { Log } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import type { Channel, ChannelName } from '../../src/incidents/notification.ts';
import { createDispatcher } from '../../src/notify/dispatcher.ts';
import { createPagerDuty, createSlack } from '../../src/notify/http-channels.ts';
import { notification } from '../kit/notifications.ts';
import { type Answer, startReceiver } from '../kit/receiver.ts';

const INCIDENTS = 30;
const STORM = 90;

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

test('everything reaches Slack in the end, once and in order; PagerDuty notices nothing; no secret is logged', async () => {
  const pagerduty = await startReceiver(() => ({ status: 202 }));
  open.push(pagerduty.close);
  const delivered: string[] = [];
  const trouble: Answer[] = [
    { status: 429, headers: { 'retry-after': '0' } },
    { status: 503 },
    'drop',
    { status: 500 },
  ];
  const slack = await startReceiver(({ body }, n) => {
    // Slack comes back only after PagerDuty has got everything: if one waited for the other, nothing would end.
    if (n < STORM || pagerduty.requests.length < INCIDENTS * 2) return trouble[n % trouble.length]!;
    delivered.push(String(body.text));
    return { status: 200, body: 'ok' };
  });
  open.push(slack.close);

  const lines: string[] = [];
  const say = (text: string, meta?: object) => void lines.push(`${text} ${JSON.stringify(meta ?? {})}`);
  const log: Log = { error: say, warn: say, info: say, debug: say };
  const masker = createMasker();
  const deps = { clock: systemClock, masker };
  const common = { ratePerSecond: 1_000, timeoutMs: 10_000 };
  const channels = new Map<ChannelName, Channel>([
    [
      'slack',
      createSlack(
        {
          ...common,
          name: 'slack',
          place: 'notify.slack.webhookUrl',
          webhookUrl: `${slack.url}/services/T1/B2/slackSecretXYZ`,
          links: {},
        },
        deps,
      ),
    ],
    [
      'pagerduty',
      createPagerDuty(
        {
          ...common,
          url: pagerduty.url,
          name: 'pagerduty',
          place: 'notify.pagerduty.integrationKey',
          integrationKey: 'pdIntegrationKey123',
        },
        deps,
      ),
    ],
  ]);

  const settledIds: string[] = [];
  let finish = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const dispatcher = createDispatcher(
    { minBackoffMs: 1, maxBackoffMs: 20 },
    {
      channels,
      clock: systemClock,
      log,
      metrics: createMetrics(),
      masker,
      random: Math.random,
      mayISend: async () => true,
      onResult(id, _result, retry) {
        if (retry !== undefined) return;
        settledIds.push(id);
        if (settledIds.length === INCIDENTS * 4) finish();
      },
    },
  );
  open.push(() => dispatcher.close());
  for (let i = 0; i < INCIDENTS; i++) {
    for (const channel of channels.keys()) {
      for (const action of ['trigger', 'resolve'] as const) {
        const message = notification({ incidentId: `i${i}`, dedupKey: `logpipe/i${i}`, title: `t${i}`, action });
        dispatcher.add([{ id: `${channel}/${i}/${action}`, channel, notification: message, attempts: 0, nextMs: 0 }]);
      }
    }
  }
  await finished;

  expect(new Set(settledIds).size).toBe(INCIDENTS * 4);
  expect(delivered).toHaveLength(INCIDENTS * 2);
  for (let i = 0; i < INCIDENTS; i++) {
    expect(delivered.filter((text) => text.endsWith(`: t${i}`))).toEqual([`🚨 CRITICAL: t${i}`, `✅ RESOLVED: t${i}`]);
    const events = pagerduty.requests.filter(({ body }) => body.dedup_key === `logpipe/i${i}`);
    expect(events.map(({ body }) => body.event_action)).toEqual(['trigger', 'resolve']);
  }
  expect(pagerduty.requests).toHaveLength(INCIDENTS * 2);
  expect(lines.filter((line) => line.startsWith('Failed to send Slack alert')).length).toBeGreaterThanOrEqual(STORM);
  expect(lines.filter((line) => line.startsWith('Failed to send PagerDuty alert'))).toEqual([]);
  expect(lines.join('\n')).not.toMatch(/slackSecret|pdIntegration|127\.0\.0\.1/);
  expect(await dispatcher.drain(1_000)).toBe(true);
});
