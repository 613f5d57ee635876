// The HTTP channels at real local servers: whole bodies, every class of answer, and no secret in anything that is said.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { loadYaml } from '../../src/core/config-loader.ts';
import type { Log } from '../../src/core/log.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import {
  type Channel,
  type ChannelName,
  CUT,
  headline,
  type Notification,
  type SendResult,
} from '../../src/incidents/notification.ts';
import { createChannels } from '../../src/notify/dispatcher.ts';
import { mailContent } from '../../src/notify/email.ts';
import { channelsFor, type NotifyConfig, notifySection } from '../../src/notify/notify-config.ts';
import { createFakeClock } from '../kit/fake-clock.ts';
import { AT_MS, notification } from '../kit/notifications.ts';
import { type Answer, type Receiver, startReceiver } from '../kit/receiver.ts';

const SLACK_PATH = '/services/T00000001/B00000002/slackSecretXYZ';
const KEY = 'pdIntegrationKey0123456789abcdef';
const never = new AbortController().signal;

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** The configuration as loaded from YAML (JSON is YAML). */
function config(notify: object): NotifyConfig {
  const schema = { type: 'object', properties: { notify: notifySection } } as const;
  return loadYaml<{ notify: NotifyConfig }>(JSON.stringify({ notify }), schema, {}, 'test.yml').notify;
}

function recordingLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const say = (level: string) => (message: string, meta?: object) =>
    void lines.push(`${level} ${message} ${JSON.stringify(meta ?? {})}`);
  return { lines, error: say('error'), warn: say('warn'), info: say('info'), debug: say('debug') };
}

function channels(notify: object, more: { log?: Log; out?: PassThrough; clock?: typeof systemClock } = {}) {
  return createChannels(config(notify), undefined, {
    clock: more.clock ?? systemClock,
    log: more.log ?? recordingLog(),
    masker: createMasker(),
    out: more.out ?? new PassThrough(),
  });
}

async function receiver(answer?: (n: number) => Answer): Promise<Receiver> {
  const started = await startReceiver(answer === undefined ? undefined : (_, n) => answer(n));
  open.push(started.close);
  return started;
}

/** One channel in front of a receiver; `send` gives the result and the body that arrived. */
async function rig(name: 'slack' | 'pagerduty' | 'webhook', answer?: (n: number) => Answer, more: object = {}) {
  const server = await receiver(answer);
  const settings = {
    slack: { webhookUrl: server.url + SLACK_PATH },
    pagerduty: { url: `${server.url}/v2/enqueue`, integrationKey: KEY },
    webhook: { url: `${server.url}/hook?token=webhookSecret99`, headers: { 'X-Auth': 'headerSecret77' } },
  };
  const channel = channels({ [name]: settings[name], ...more }).get(name) as Channel;
  return {
    server,
    channel,
    async send(message: Notification, signal = never) {
      const result = await channel.send(message, signal);
      return { result, request: server.requests.at(-1)! };
    },
  };
}

describe('Slack', () => {
  const LINKS = { kibanaUrl: 'https://kibana.example/s/ops/', runbookBaseUrl: 'https://wiki.example/runbooks' };

  test('a critical alert: the guide’s text and attachment, and one for people', async () => {
    const { send } = await rig('slack', undefined, LINKS);
    const { result, request } = await send(notification());
    expect(result).toEqual({ ok: true });
    expect(request.method).toBe('POST');
    expect(request.path).toBe(SLACK_PATH);
    expect(request.headers['content-type']).toBe('application/json');
    expect(request.body).toEqual({
      text: '🚨 CRITICAL: High Error Rate Detected',
      attachments: [
        {
          color: 'danger',
          fields: [
            { title: 'Message', value: 'Error rate is 23.08%, above the threshold of 20%', short: false },
            { title: 'Timestamp', value: '2026-11-25T10:05:00.000Z', short: true },
            { title: 'Environment', value: 'production', short: true },
            {
              title: 'Metadata',
              value: '{\n  "totalCalls": 130,\n  "failedCalls": 30,\n  "errorRate": 23.08\n}',
              short: false,
            },
          ],
        },
        {
          color: 'danger',
          mrkdwn_in: ['text'],
          text: [
            '*Why:* call.failure_ratio over 5 min: 23.08 % (threshold 20 %), from 130 events',
            '*First seen:* 2026-11-25T10:04:00.000Z',
            '*Top errors:*',
            '• 17 × Carrier refused call &lt;id&gt;',
            '• 9 × Timeout after &lt;n&gt; ms',
            '*Example events:* ev-1, ev-2',
            '*Release:* errors stand out in 2.4.1',
            "<https://kibana.example/s/ops/app/discover#/?_g=(time:(from:'2026-11-25T10:00:00.000Z',to:'2026-11-25T10:05:00.000Z'))|Events in Kibana> · <https://wiki.example/runbooks/high-error-rate.md|Runbook>",
          ].join('\n'),
        },
      ],
    });
  });

  test('a warning without metadata, that others joined', async () => {
    const { send } = await rig('slack');
    const { metadata: _, ...base } = notification();
    const { metadata: __, why: ___, ...alert } = base.alerts[0]!;
    const { request } = await send({
      ...base,
      severity: 'warning',
      priority: 'P2',
      reason: 'new-alerts',
      environment: 'staging',
      alerts: [
        { ...alert, labels: { tenantId: 'acme' }, runbook: '' },
        {
          ...alert,
          ruleId: 'queue',
          priority: 'P2',
          title: 'Queue is long',
          message: '700 waiting',
          state: 'resolved',
        },
      ],
      joined: Array.from({ length: 12 }, (_, i) => `Queue ${i} is long`),
    });
    expect(request.body).toEqual({
      text: '⚠️ WARNING: High Error Rate Detected',
      attachments: [
        {
          color: 'warning',
          fields: [
            { title: 'Message', value: 'Error rate is 23.08%, above the threshold of 20%', short: false },
            { title: 'Timestamp', value: '2026-11-25T10:05:00.000Z', short: true },
            { title: 'Environment', value: 'staging', short: true },
          ],
        },
        {
          color: 'warning',
          mrkdwn_in: ['text'],
          text: [
            '*First seen:* 2026-11-25T10:04:00.000Z',
            '*Concerns:* tenantId=acme',
            '*Joined:*',
            ...Array.from({ length: 10 }, (_, i) => `• Queue ${i} is long`),
            '• and 2 more',
            '*Alerts of this incident:*',
            '• P1 firing: High Error Rate Detected: Error rate is 23.08%, above the threshold of 20%',
            '• P2 resolved: Queue is long: 700 waiting',
          ].join('\n'),
        },
      ],
    });
  });

  test('resolved: green, and how long it lasted', async () => {
    const { send } = await rig('slack');
    const base = notification({ action: 'resolve', reason: 'all-resolved', atMs: AT_MS + 600_000 });
    const { why: _, ...alert } = base.alerts[0]!;
    const { request } = await send({
      ...base,
      alerts: [{ ...alert, state: 'resolved', resolvedMs: AT_MS + 540_000, runbook: '' }],
    });
    expect(request.body).toMatchObject({
      text: '✅ RESOLVED: High Error Rate Detected',
      attachments: [
        { color: 'good', fields: [{ title: 'Message' }, { value: '2026-11-25T10:15:00.000Z' }, {}, {}] },
        { color: 'good', text: '*First seen:* 2026-11-25T10:04:00.000Z\n*Lasted:* 10 min' },
      ],
    });
  });

  test('log data cannot mention a channel, hide an address or break a link; secrets are masked', async () => {
    const { send } = await rig('slack', undefined, { runbookBaseUrl: 'https://wiki.example' });
    const base = notification();
    const { request } = await send({
      ...base,
      title: '<!channel> & co\nsecond line',
      message: 'see <https://evil.example|here> password=hunter2 \u0007\ud800',
      metadata: { note: '<@U1>', apiKey: 'hunter3' },
      alerts: [{ ...base.alerts[0]!, runbook: 'x|y>z.md', labels: { tenantId: '<!here>' } }],
    });
    const { text, attachments } = request.body as { text: string; attachments: Record<string, never>[] };
    expect(text).toBe('🚨 CRITICAL: &lt;!channel&gt; &amp; co second line');
    const [message, , , metadata] = attachments[0]!.fields as unknown as { value: string }[];
    expect(message!.value).toBe('see &lt;https://evil.example|here&gt; password=[masked]  \ufffd');
    expect(metadata!.value).toBe('{\n  "note": "&lt;@U1&gt;",\n  "apiKey": "[masked]"\n}');
    expect(attachments[1]!.text).toContain('*Concerns:* tenantId=&lt;!here&gt;');
    expect(attachments[1]!.text).toContain('<https://wiki.example/x%7Cy%3Ez.md|Runbook>');
    expect(JSON.stringify(request.body)).not.toMatch(/hunter[23]|<!|<@/);
  });

  test('over-long texts are cut with a marker, inside Slack’s limits, and never through a character', async () => {
    const { send } = await rig('slack', undefined, LINKS);
    const base = notification();
    const long = '<😀'.repeat(20_000);
    const alert = base.alerts[0]!;
    const { result, request } = await send({
      ...base,
      title: long,
      message: long,
      metadata: { long },
      joined: Array.from({ length: 500 }, () => long),
      alerts: Array.from({ length: 300 }, () => ({ ...alert, title: long, message: long })),
    });
    expect(result).toEqual({ ok: true });
    const { text, attachments } = request.body as { text: string; attachments: Record<string, never>[] };
    const values = [text, ...(attachments[0]!.fields as unknown as { value: string }[]).map(({ value }) => value)];
    for (const value of values) {
      expect(value.length).toBeLessThanOrEqual(3_000);
      expect(value).not.toMatch(/&(?!lt;|gt;|amp;)|\ufffd/);
    }
    for (const value of [values[0]!, values[1]!, values[4]!]) expect(value.endsWith(CUT)).toBe(true);
    const people = String(attachments[1]!.text);
    expect(people.length).toBeLessThanOrEqual(6_000);
    expect(people).toContain(`\n${CUT}\n<https://kibana.example`);
    expect(people.endsWith('|Runbook>')).toBe(true);
  });
});

describe('PagerDuty', () => {
  test('trigger, acknowledge and resolve: exactly the Events API’s bodies with one dedup key', async () => {
    const { send } = await rig('pagerduty', () => ({ status: 202, body: '{"status":"success"}' }));
    const { result, request } = await send(notification());
    expect(result).toEqual({ ok: true });
    expect(request.path).toBe('/v2/enqueue');
    const head = { routing_key: KEY, dedup_key: 'logpipe/01JDHX' };
    expect(request.body).toEqual({
      ...head,
      event_action: 'trigger',
      payload: {
        summary: 'High Error Rate Detected',
        severity: 'critical',
        source: 'calling-platform',
        custom_details: {
          message: 'Error rate is 23.08%, above the threshold of 20%',
          metadata: { totalCalls: 130, failedCalls: 30, errorRate: 23.08 },
          timestamp: '2026-11-25T10:05:00.000Z',
        },
      },
    });
    for (const action of ['acknowledge', 'resolve'] as const) {
      expect((await send(notification({ action }))).request.body).toEqual({ ...head, event_action: action });
    }
  });

  test('stays within the API’s limits; a long dedup key is always shortened to the same one', async () => {
    const { send } = await rig('pagerduty');
    const dedupKey = 'k'.repeat(400);
    const huge = { list: Array.from({ length: 50_000 }, (_, i) => `entry ${i} "quoted"`) };
    const { request } = await send(
      notification({ dedupKey, title: 'x'.repeat(5_000), message: '\u0001é'.repeat(50_000), metadata: huge }),
    );
    const body = request.body as {
      dedup_key: string;
      payload: { summary: string; custom_details: { message: string } };
    };
    expect(body.payload.summary).toHaveLength(1_024);
    expect(body.payload.summary.endsWith(CUT)).toBe(true);
    expect(body.payload.custom_details.message.endsWith(CUT)).toBe(true);
    expect(Number(request.headers['content-length'])).toBeLessThan(512_000);
    expect(body.dedup_key.length).toBeLessThanOrEqual(255);
    const other = await send(notification({ dedupKey: `${dedupKey}2`, action: 'resolve' }));
    expect(other.request.body.dedup_key).not.toBe(body.dedup_key);
    const same = await send(notification({ dedupKey, action: 'resolve' }));
    expect(same.request.body.dedup_key).toBe(body.dedup_key);
  });

  test('a pattern that hits ids masks the message, never the dedup key', async () => {
    const server = await receiver();
    const channel = createChannels(config({ pagerduty: { url: server.url, integrationKey: KEY } }), undefined, {
      clock: systemClock,
      log: recordingLog(),
      masker: createMasker({ patterns: ['01J[A-Z]+'] }),
      out: new PassThrough(),
    }).get('pagerduty')!;
    await channel.send(notification({ title: 'incident 01JABC' }), never);
    expect(server.requests[0]!.body).toMatchObject({
      dedup_key: 'logpipe/01JDHX',
      payload: { summary: 'incident [masked]' },
    });
  });
});

describe('an incident of several alerts', () => {
  const base = notification({ reason: 'new-alerts', joined: ['High Error Rate Detected (tenantId=b)'] });
  const { why: _, ...alert } = base.alerts[0]!;
  const queue = { ...alert, ruleId: 'queue', priority: 'P2' as const, title: 'Queue is long', message: '700 waiting' };
  const alerts = [{ ...alert, labels: { tenantId: 'a' } }, { ...alert, labels: { tenantId: 'b' } }, queue];
  const NAMES = 'High Error Rate Detected (+2: High Error Rate Detected (tenantId=b), Queue is long)';

  test('is told in every headline, and what joined with it', async () => {
    const slack = await rig('slack');
    const { text, attachments } = (await slack.send({ ...base, alerts })).request.body as {
      text: string;
      attachments: { text: string }[];
    };
    expect(text).toBe(`🚨 CRITICAL: ${NAMES}`);
    expect(attachments[1]?.text).toContain('*Joined:* High Error Rate Detected (tenantId=b)');
    const pagerduty = await rig('pagerduty', () => ({ status: 202, body: '{"status":"success"}' }));
    const { payload } = (await pagerduty.send({ ...base, alerts })).request.body as {
      payload: { summary: string; custom_details: object };
    };
    expect(payload.summary).toBe(NAMES);
    expect(payload.custom_details).toMatchObject({
      joined: ['High Error Rate Detected (tenantId=b)'],
      alerts: [
        'P1 firing: High Error Rate Detected (tenantId=a): Error rate is 23.08%, above the threshold of 20%',
        'P1 firing: High Error Rate Detected (tenantId=b): Error rate is 23.08%, above the threshold of 20%',
        'P2 firing: Queue is long: 700 waiting',
      ],
    });
    const out = new PassThrough();
    await channels({ console: { enabled: true } }, { out })
      .get('console')!
      .send({ ...base, alerts }, never);
    expect(String(out.read())).toMatch(`CRITICAL: ${NAMES}\n`);
    expect(mailContent({ ...base, alerts }, {}).subject).toBe(`CRITICAL: ${NAMES}`);
  });

  test('counts what fires, at the end what ended, and what there is no room for', () => {
    const ended = alerts.map((each) => ({ ...each, state: 'resolved' as const }));
    expect(headline({ ...base, alerts: [alerts[0]!, ended[1]!] })).toBe('High Error Rate Detected');
    expect(headline({ ...base, action: 'resolve', alerts: ended })).toBe(NAMES);
    const many = Array.from({ length: 30 }, (_, i) => ({ ...queue, labels: { queue: `q${i}` } }));
    expect(headline({ ...base, alerts: many, unnamed: 20 })).toBe(
      'High Error Rate Detected (+49: Queue is long (queue=q1), Queue is long (queue=q2), Queue is long (queue=q3), …)',
    );
  });
});

describe('webhook and console', () => {
  test('the webhook gets the notification as JSON, masked, with its headers', async () => {
    const { send } = await rig('webhook');
    const { result, request } = await send(
      notification({ message: 'token=hunter2', metadata: { half: 'a\ud83d', nested: ['\udc00'] } }),
    );
    expect(result).toEqual({ ok: true });
    expect(request.path).toBe('/hook?token=webhookSecret99');
    expect(request.headers).toMatchObject({ 'x-auth': 'headerSecret77', 'content-type': 'application/json' });
    // Half a character would make the JSON invalid for strict receivers.
    expect(request.body).toEqual(
      notification({ message: 'token=[masked]', metadata: { half: 'a\ufffd', nested: ['\ufffd'] } }),
    );
  });

  test('the console prints lines for people, without control characters; a closed output is given up', async () => {
    const out = new PassThrough();
    const console = channels({ console: { enabled: true } }, { out }).get('console')!;
    const message = notification({ title: 'Gone\u001b[2J', message: 'line one\nline two' });
    expect(await console.send(message, never)).toEqual({ ok: true });
    expect(String(out.read())).toBe(
      `${[
        '2026-11-25T10:05:00.000Z CRITICAL: Gone [2J',
        '  line one line two',
        '  Why: call.failure_ratio over 5 min: 23.08 % (threshold 20 %), from 130 events',
        '  First seen: 2026-11-25T10:04:00.000Z',
        '  Top errors: 17 × Carrier refused call <id>',
        '    9 × Timeout after <n> ms',
        '  Example events: ev-1, ev-2',
        '  Release: errors stand out in 2.4.1',
        '  Runbook: high-error-rate.md',
      ].join('\n')}\n`,
    );
    out.on('error', () => {});
    out.destroy();
    expect(await console.send(message, never)).toEqual({
      ok: false,
      retryable: false,
      reason: 'output failed: ERR_STREAM_DESTROYED',
    });
  });
});

describe('answers', () => {
  const given = (retryable: boolean, reason: string, more = {}) => ({ ok: false, retryable, reason, ...more });

  test.each<[Answer, SendResult]>([
    [{ status: 200, body: 'ok' }, { ok: true }],
    [{ status: 202 }, { ok: true }],
    [{ status: 204 }, { ok: true }],
    [{ status: 400, body: 'invalid_payload' }, given(false, 'HTTP 400: invalid_payload')],
    [{ status: 401 }, given(false, 'HTTP 401')],
    [{ status: 403, body: 'action_prohibited' }, given(false, 'HTTP 403: action_prohibited')],
    [{ status: 404, body: 'no_service\n' }, given(false, 'HTTP 404: no_service')],
    [{ status: 408 }, given(true, 'HTTP 408')],
    [{ status: 410, body: 'channel_is_archived' }, given(false, 'HTTP 410: channel_is_archived')],
    [{ status: 413 }, given(false, 'HTTP 413')],
    [{ status: 429 }, given(true, 'HTTP 429')],
    [{ status: 429, headers: { 'retry-after': '30' } }, given(true, 'HTTP 429', { retryAfterMs: 30_000 })],
    [{ status: 429, headers: { 'retry-after': '0' } }, given(true, 'HTTP 429', { retryAfterMs: 0 })],
    [{ status: 429, headers: { 'retry-after': 'soon' } }, given(true, 'HTTP 429')],
    [{ status: 429, headers: { 'retry-after': '99999999' } }, given(true, 'HTTP 429', { retryAfterMs: 3_600_000 })],
    [{ status: 500, body: 'rollup_error' }, given(true, 'HTTP 500: rollup_error')],
    [{ status: 502, body: '<html><h1>Bad Gateway</h1>' }, given(true, 'HTTP 502')],
    [{ status: 503, headers: { 'retry-after': '2' } }, given(true, 'HTTP 503', { retryAfterMs: 2_000 })],
    ['drop', given(true, 'connection failed: ECONNRESET')],
  ])('%j', async (answer, expected) => {
    const { send, server } = await rig('slack', () => answer);
    expect((await send(notification())).result).toEqual(expected);
    expect(server.requests).toHaveLength(1);
  });

  test('Retry-After as a date: by the server’s clock where it tells it, else by ours', async () => {
    const until = 'Wed, 25 Nov 2026 10:00:45 GMT';
    const serverNow = 'Wed, 25 Nov 2026 10:00:15 GMT';
    const clock = createFakeClock(Date.parse('2026-11-25T10:00:00.000Z'));
    const server = await receiver((n) => ({
      status: 429,
      headers: { 'retry-after': n === 2 ? 'Wed, 25 Nov 2020 10:00:00 GMT' : until, date: n === 0 ? serverNow : '' },
    }));
    const slack = channels({ slack: { webhookUrl: server.url } }, { clock }).get('slack')!;
    const waits: unknown[] = [];
    for (let i = 0; i < 3; i++) waits.push(await slack.send(notification(), never));
    expect(waits).toEqual([30_000, 45_000, 0].map((retryAfterMs) => given(true, 'HTTP 429', { retryAfterMs })));
  });

  test('a redirect is not followed: the message and its token stay here', async () => {
    const elsewhere = await receiver();
    for (const status of [301, 302, 307, 308]) {
      const { send } = await rig('webhook', () => ({ status, headers: { location: `${elsewhere.url}/stolen` } }));
      // For a moment only: perhaps the way to a log-in page.
      const more = status === 302 || status === 307 ? { doubtful: true } : {};
      const retryable = status === 302 || status === 307;
      const reason = `HTTP ${status} (redirects are not followed)`;
      expect((await send(notification())).result).toEqual(given(retryable, reason, more));
    }
    expect(elsewhere.requests).toEqual([]);
  });

  test('a server that hangs, before or within its answer, ends at the timeout; a stop ends it at once', async () => {
    const hanging = await rig('slack', () => 'hang', { timeoutMs: 150 });
    expect((await hanging.send(notification())).result).toEqual(given(true, 'no answer within 150 ms'));
    // The status had come: the message is delivered, whatever becomes of the body.
    const endless = await rig('slack', () => 'endless', { timeoutMs: 1_000 });
    expect((await endless.send(notification())).result).toEqual({ ok: true });

    const stopped = await rig('slack', () => 'hang', { timeoutMs: 60_000 });
    const stop = new AbortController();
    const result = stopped.channel.send(notification(), stop.signal);
    await stopped.server.received(1);
    stop.abort();
    expect(await result).toEqual(given(true, 'stopped before an answer'));
    expect(await stopped.channel.send(notification(), stop.signal)).toEqual(given(true, 'stopped before an answer'));
    expect(stopped.server.requests).toHaveLength(1);
  });

  test('nobody listens, or a server that speaks something else', async () => {
    const gone = await startReceiver();
    await gone.close();
    const noisy = createServer();
    noisy.on('connection', (socket) => socket.on('error', () => {}).end('220 mail.example ESMTP\r\n'));
    await new Promise<void>((resolve) => noisy.listen(0, '127.0.0.1', resolve));
    open.push(() => new Promise((resolve) => noisy.close(resolve)));
    const port = (noisy.address() as AddressInfo).port;
    const urls = [gone.url, `http://127.0.0.1:${port}`, `https://127.0.0.1:${port}`];
    const results: SendResult[] = [];
    for (const webhookUrl of urls) {
      results.push(await channels({ slack: { webhookUrl } }).get('slack')!.send(notification(), never));
    }
    expect(results[0]).toEqual(given(true, 'connection failed: ECONNREFUSED'));
    for (const result of results.slice(1)) {
      expect(result).toMatchObject({
        retryable: true,
        reason: expect.stringMatching(/^connection failed: [A-Z_]+$/),
      });
    }
  });

  test('no proxy of the environment stands between logpipe and a receiver on its own host', async () => {
    vi.stubEnv('http_proxy', 'http://127.0.0.1:1');
    open.push(async () => vi.unstubAllEnvs());
    const { send } = await rig('webhook');
    expect((await send(notification())).result).toEqual({ ok: true });
  });
});

describe('secrets', () => {
  test('stand in no reason, however much the server says of the request', async () => {
    const reasons: string[] = [];
    for (const name of ['slack', 'pagerduty', 'webhook'] as const) {
      for (const status of [400, 302, 500, 429] as const) {
        const server = await startReceiver((request) => {
          const { host, authorization, 'x-auth': own } = request.headers;
          const said = {
            400: `${host}${request.path}`,
            302: `${request.path.slice(0, 40)} ${host}`,
            500: `${own} Authorization: ${authorization}`,
            429: JSON.stringify(request.body),
          }[status];
          return { status, headers: { location: request.path }, body: `you sent ${said}` };
        });
        open.push(server.close);
        const channel = channels({
          slack: { webhookUrl: server.url.replace('//', '//user:urlPassword5@') + SLACK_PATH },
          pagerduty: { url: `${server.url}/v2/enqueue`, integrationKey: KEY },
          webhook: { url: `${server.url}/hook?token=webhookSecret99`, headers: { 'X-Auth': 'headerSecret77' } },
        }).get(name)!;
        const result = await channel.send(notification(), never);
        if (result.ok) throw new Error('the server refuses everything');
        reasons.push(result.reason);
        expect(result.reason).not.toContain(String(server.port));
        await server.close();
        const refused = await channel.send(notification(), never);
        if (!refused.ok) reasons.push(refused.reason);
      }
    }
    expect(reasons).toHaveLength(24);
    expect(reasons.join('\n')).not.toMatch(
      /T00000001|B00000002|slackSecret|urlPassword|webhookSecret|headerSecret|pdIntegration|127\.0\.0\.1|dXNlcjp/,
    );
    // Of Slack and PagerDuty the rest is quoted.
    expect(reasons[0]).toMatch(/^HTTP 400: you sent \[masked\]/);
    expect(reasons[14]).toMatch(/^HTTP 429: you sent \{"routing_key":"\[masked\]"/);
    expect(reasons[16]).toBe('HTTP 400');
  });

  test('are refused without being repeated, wherever they come from', async () => {
    const refusal = (notify: object) => {
      try {
        channels(notify);
      } catch (error) {
        return (error as Error).message;
      }
      throw new Error('accepted');
    };
    expect(refusal({ slack: { webhookUrl: 'hooks.slack.com/secretA' } })).toMatch(
      /notify\.slack\.webhookUrl: found \[masked\]/,
    );
    const headers = refusal({ webhook: { url: 'https://x.example', headers: { 'X-Auth': 'secretB\r\nX: y' } } });
    expect(headers).toMatch(/notify\.webhook\.headers\.X-Auth: found \[masked\]/);
    expect(headers).not.toContain('secretB');
    expect(refusal({ email: { host: 'mail.example' } })).toMatch(
      /notify\.email\.from: missing[\s\S]*notify\.email\.to: missing/,
    );
    const fromFile = { ...config({}), slack: { webhookUrl: 'hooks.slack.com/secretC', ratePerSecond: 1 } };
    const deps = { clock: systemClock, log: recordingLog(), masker: createMasker(), out: new PassThrough() };
    expect(() => createChannels(fromFile, undefined, deps)).toThrow(
      /^notify\.slack\.webhookUrl: is not an http:\/\/ or https:\/\/ address$/,
    );
  });
});

describe('channels', () => {
  test('what is not configured is skipped and logged once', () => {
    const log = recordingLog();
    expect([
      ...channels({ console: { enabled: true }, slack: { webhookUrl: 'https://x.example/y' } }, { log }).keys(),
    ]).toEqual(['slack', 'console']);
    expect(log.lines).toEqual([
      'info Channel pagerduty is not configured: skipped {"set":"notify.pagerduty.integrationKey"}',
      'info Channel email is not configured: skipped {"set":"notify.email.host"}',
      'info Channel alertmanager is not configured: skipped {"set":"notify.alertmanager.urls"}',
      'info Channel webhook is not configured: skipped {"set":"notify.webhook.url"}',
    ]);
    const nothing = recordingLog();
    expect(channels({}, { log: nothing }).size).toBe(0);
    expect(nothing.lines.at(-1)).toMatch(/^warn No notification channel is configured/);
  });

  test('priority to channels, as the operators’ guide has it', () => {
    const sent: Record<string, readonly ChannelName[]> = {};
    for (const priority of ['P1', 'P2', 'P3', 'P4'] as const) sent[priority] = channelsFor(priority);
    expect(sent).toEqual({
      P1: ['pagerduty', 'slack', 'email', 'alertmanager', 'webhook', 'console'],
      P2: ['slack', 'email', 'alertmanager', 'webhook', 'console'],
      P3: ['slack', 'alertmanager', 'webhook', 'console'],
      P4: [],
    });
  });
});
