// What being on call adds to messages, at real receivers: whom they name, why they come now, where a link leads, whose address they go
// to; the daily mail; and names that try to be more than names.
import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { loadYaml } from '../../src/core/config-loader.ts';
import type { Log } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import type { Channel, NamedPerson, Notification } from '../../src/incidents/notification.ts';
import { type ChannelsDeps, createChannels, createDispatcher } from '../../src/notify/dispatcher.ts';
import { type NotifyConfig, notifySection } from '../../src/notify/notify-config.ts';
import type { Person, Team } from '../../src/oncall/routing.ts';
import { type MailReceiver, startMailReceiver } from '../kit/mail-receiver.ts';
import { AT_MS, notification } from '../kit/notifications.ts';
import { type Receiver, startReceiver } from '../kit/receiver.ts';

const never = new AbortController().signal;
const ADA_KEY = 'adaIntegrationKey0123456789';
const PAYMENTS_KEY = 'paymentsIntegrationKey0123';
const COMMON_KEY = 'commonIntegrationKey012345';

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

const HOURS = { timeZone: 'UTC', days: [1], fromMinute: 0, untilMinute: 1 };
const team = (id: string, own: Partial<Team> = {}): Team => ({
  ...{ id, name: id, hours: HOURS, daily: { atMinute: 540 } },
  ...{ escalation: { by: 'logpipe', afterMs: 900_000, repeatMs: 900_000 } },
  ...own,
});
const ADA: Person = { id: 'ada', name: 'Ada', email: 'ada@ops.example', slackId: 'U012AB3CD', pagerDutyKey: ADA_KEY };
const BEN: Person = { id: 'ben', name: 'Ben', email: 'ben@ops.example' };
const named = (person: Person, role: NamedPerson['role']): NamedPerson => {
  const { id, name, slackId } = person;
  return { role, id, name, ...(slackId === undefined ? {} : { slackId }) };
};

interface Rig {
  readonly slack: Receiver;
  readonly pagerduty: Receiver;
  readonly mail: MailReceiver;
  readonly channels: ReadonlyMap<string, Channel>;
  readonly out: PassThrough;
  readonly lines: string[];
  readonly log: Log;
  to(name: string, message: Notification): Promise<void>;
}

async function rig(more: Pick<ChannelsDeps, 'actionLinks'> = {}, notify: object = {}): Promise<Rig> {
  const [slack, pagerduty, mail] = [
    await startReceiver(),
    await startReceiver(() => ({ status: 202, body: '{"status":"success"}' })),
    await startMailReceiver(),
  ];
  open.push(slack.close, pagerduty.close, mail.close);
  const yaml = {
    environment: 'production',
    slack: { webhookUrl: `${slack.url}/services/common` },
    pagerduty: { url: pagerduty.url, integrationKey: COMMON_KEY },
    email: { host: '127.0.0.1', port: mail.port, from: 'logpipe@calls.example', to: ['all@ops.example'] },
    webhook: { url: `${slack.url}/webhook` },
    console: { enabled: true },
    ...notify,
  };
  const schema = { type: 'object', properties: { notify: notifySection } } as const;
  const config = loadYaml<{ notify: NotifyConfig }>(JSON.stringify({ notify: yaml }), schema, {}, 'test.yml').notify;
  const lines: string[] = [];
  const say = (text: string, meta?: object) => void lines.push(`${text} ${JSON.stringify(meta ?? {})}`);
  const log: Log = { error: say, warn: say, info: say, debug: say };
  const out = new PassThrough();
  const routing = {
    people: new Map([ADA, BEN].map((person) => [person.id, person])),
    teams: [
      team('calls'),
      team('payments', {
        slackWebhookUrl: `${slack.url}/services/payments/s3cr3tPath`,
        pagerDutyKey: PAYMENTS_KEY,
        emailTo: ['pay-1@ops.example', 'pay-2@ops.example'],
      }),
    ],
  };
  const channels = createChannels(config, routing, { clock: systemClock, log, masker: createMasker(), out, ...more });
  open.push(async () => {
    for (const channel of channels.values()) await channel.close();
  });
  return {
    ...{ slack, pagerduty, mail, channels, out, lines, log },
    async to(name, message) {
      expect(await channels.get(name)!.send(message, never)).toEqual({ ok: true });
    },
  };
}

interface SlackBody {
  readonly text: string;
  readonly attachments: readonly { readonly text?: string; readonly fields?: readonly { readonly value: string }[] }[];
}
const slackBody = ({ slack }: Rig) => slack.requests.at(-1)!.body as unknown as SlackBody;
const plain = () => {
  const { why: _, ...alert } = notification().alerts[0]!;
  return notification({ alerts: [{ ...alert, runbook: '' }] });
};

describe('destinations', () => {
  test('the common ones, those of teams and those of people, each to its own address with its own key', async () => {
    const it = await rig();
    expect([...it.channels.keys()]).toEqual([
      ...['slack', 'pagerduty', 'email', 'webhook', 'console'],
      ...['slack:payments', 'pagerduty:payments', 'email:payments'],
      ...['pagerduty:ada', 'email:ada', 'email:ben'],
    ]);
    for (const [name, channel] of it.channels) expect(channel.name).toBe(name);
    expect(it.channels.get('slack:payments')!.ratePerSecond).toBe(it.channels.get('slack')!.ratePerSecond);

    await it.to('slack', plain());
    await it.to('slack:payments', plain());
    expect(it.slack.requests.map(({ path }) => path)).toEqual(['/services/common', '/services/payments/s3cr3tPath']);
    for (const name of ['pagerduty', 'pagerduty:payments', 'pagerduty:ada']) {
      for (const action of ['trigger', 'acknowledge', 'resolve'] as const) await it.to(name, { ...plain(), action });
    }
    const events = it.pagerduty.requests.map(({ body }) => [body.routing_key, body.event_action, body.dedup_key]);
    expect(events).toEqual(
      [COMMON_KEY, PAYMENTS_KEY, ADA_KEY].flatMap((key) =>
        ['trigger', 'acknowledge', 'resolve'].map((action) => [key, action, 'logpipe/01JDHX']),
      ),
    );
    for (const name of ['email', 'email:payments', 'email:ada']) await it.to(name, plain());
    expect(it.mail.mails.map(({ to }) => to)).toEqual([
      ['all@ops.example'],
      ['pay-1@ops.example', 'pay-2@ops.example'],
      ['ada@ops.example'],
    ]);
  });

  test('without a mail server or a common key, people have what does not need it', async () => {
    const it = await rig({}, { slack: {}, email: {}, pagerduty: {}, webhook: {}, console: {} });
    expect([...it.channels.keys()]).toEqual(['slack:payments', 'pagerduty:payments', 'pagerduty:ada']);
  });

  test('all mail goes over a few connections, however many destinations send at once', async () => {
    let [present, most] = [0, 0];
    const server = await startMailReceiver({
      onConnect(_, callback) {
        most = Math.max(most, ++present);
        callback();
      },
      onClose() {
        present -= 1;
      },
    });
    open.push(server.close);
    const it = await rig(
      {},
      { email: { host: '127.0.0.1', port: server.port, from: 'a@b.example', to: ['c@d.example'] } },
    );
    const names = [...it.channels.keys()].filter((name) => name.startsWith('email'));
    expect(names).toHaveLength(4);
    await Promise.all([...names, ...names].map((name) => it.to(name, plain())));
    expect(server.mails).toHaveLength(8);
    expect(most).toBeLessThanOrEqual(3);
    // One that is closed leaves the others their connections.
    await it.channels.get('email:ada')!.close();
    await it.channels.get('email:ada')!.close();
    await it.to('email:ben', plain());
  });

  test('a failure names the destination, and no address or key', async () => {
    const it = await rig();
    await it.slack.close();
    await it.pagerduty.close();
    const failed: string[] = [];
    let finish = () => {};
    const all = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const dispatcher = createDispatcher(
      { minBackoffMs: 60_000 },
      {
        ...{ channels: it.channels, clock: systemClock, log: it.log, metrics: createMetrics(), masker: createMasker() },
        random: () => 0,
        mayISend: async () => true,
        onResult(id) {
          failed.push(id);
          if (failed.length === 3) finish();
        },
      },
    );
    open.push(dispatcher.close);
    const names = ['slack:payments', 'pagerduty:ada', 'slack'];
    dispatcher.add(names.map((channel) => ({ id: channel, channel, notification: plain(), attempts: 0, nextMs: 0 })));
    await all;
    const lines = it.lines.filter((line) => line.startsWith('Failed'));
    expect(lines.sort()).toEqual([
      expect.stringMatching(/^Failed to send PagerDuty alert .*"destination":"pagerduty:ada"/),
      expect.stringMatching(/^Failed to send Slack alert .*"destination":"slack:payments"/),
      expect.stringMatching(/^Failed to send Slack alert (?!.*destination)/),
    ]);
    expect(it.lines.join('\n')).not.toMatch(/s3cr3t|IntegrationKey0|127\.0\.0\.1/);
  });
});

describe('whom a message names, and why it comes now', () => {
  const people = [named(ADA, 'primary'), named(BEN, 'secondary')];

  test('Slack: a mention in the text itself; the rest of the message is what it was', async () => {
    const it = await rig();
    await it.to('slack', plain());
    const before = slackBody(it);
    await it.to('slack', { ...plain(), team: 'calls', people: people.slice(0, 1), answerBy: AT_MS + 900_000 });
    expect(slackBody(it)).toEqual({
      ...before,
      text: '🚨 CRITICAL: High Error Rate Detected\n<@U012AB3CD> (primary): answer within 15 min',
    });
  });

  test.each([
    [
      { reason: 'escalated', people: [people[1]!], answerBy: AT_MS, waitedMs: 900_000 },
      'Ben (secondary): answer now',
      '*Escalated:* nobody has acknowledged for 15 min: to the secondary\n',
    ],
    [
      { reason: 'escalated', people, answerBy: AT_MS + 60_000, waitedMs: 2_700_000 },
      '<@U012AB3CD> (primary), Ben (secondary): answer within 1 min',
      '*Escalated:* nobody has acknowledged for 45 min: again, to everybody on call\n',
    ],
    [
      { reason: 'reopened', people: people.slice(0, 1), answerBy: AT_MS, waitedMs: 1_800_000, by: 'Ben' },
      '<@U012AB3CD> (primary): answer now',
      '*Reopened:* resolved by hand by Ben, still true after 30 min\n',
    ],
    [{ reason: 'reopened' }, undefined, '*Reopened:* resolved by hand, still true\n'],
    [
      { reason: 'repeat', people: [people[1]!] },
      'Ben (secondary)',
      '*Reminder:* still firing, and nobody has acknowledged',
    ],
    [
      { action: 'acknowledge', reason: 'acknowledged', by: 'link from #calls' },
      undefined,
      '*Acknowledged:* by link from #calls\n',
    ],
    // Whoever has it need not be called.
    [{ action: 'acknowledge', reason: 'acknowledged', people, answerBy: AT_MS + 1 }, undefined, '*First seen:*'],
    [{ action: 'resolve', reason: 'all-resolved', people, answerBy: AT_MS + 1 }, undefined, '*First seen:*'],
  ] as const)('%j', async (changes, line, story) => {
    const it = await rig();
    await it.to('slack', { ...plain(), ...changes });
    const { text, attachments } = slackBody(it);
    expect(text.split('\n').slice(1)).toEqual(line === undefined ? [] : [line]);
    expect(attachments[1]!.text!.slice(0, story.length)).toBe(story);
  });

  test('mail, console and webhook say the same in their own way', async () => {
    const it = await rig();
    const message = {
      ...plain(),
      ...{
        reason: 'escalated' as const,
        team: 'calls',
        people: [people[1]!],
        answerBy: AT_MS + 900_000,
        waitedMs: 900_000,
      },
    };
    await it.to('email:ben', message);
    const { text, html } = it.mail.mails[0]!.parsed;
    const [why, whom] = [
      'nobody has acknowledged for 15 min: to the secondary',
      'Ben (secondary): answer within 15 min',
    ];
    expect(text).toContain(`Priority: P1\nEscalated: ${why}\nOn call: ${whom}\nFirst seen:`);
    expect(html).toContain(`<th align="left" valign="top">On call</th><td>${whom}</td>`);
    await it.to('console', message);
    expect(String(it.out.read())).toContain(`  Escalated: ${why}\n  On call: ${whom}\n`);
    await it.to('webhook', message);
    expect(it.slack.requests.at(-1)!.body).toEqual(JSON.parse(JSON.stringify(message)));
    // PagerDuty's form is the guide's, whoever is on call.
    await it.to('pagerduty', plain());
    await it.to('pagerduty', message);
    const [one, other] = it.pagerduty.requests.map(({ body }) => body);
    expect(other).toEqual(one);
  });
});

describe('links that act', () => {
  const made: unknown[] = [];
  const actionLinks: ChannelsDeps['actionLinks'] = (incidentId, channel, atMs) => {
    made.push([incidentId, channel, atMs]);
    const at = `https://logs.example/a/${channel.replace(':', '-')}`;
    return { acknowledge: `${at}.ack?a=1&b=<2>`, resolve: `${at}.res` };
  };

  test('are made for the channel that carries them, and stand in Slack and mail', async () => {
    made.length = 0;
    const it = await rig({ actionLinks });
    await it.to('slack:payments', plain());
    expect(slackBody(it).attachments[1]!.text).toBe(
      '*First seen:* 2026-11-25T10:04:00.000Z\n' +
        '<https://logs.example/a/slack-payments.ack?a=1&amp;b=%3C2%3E|Acknowledge> · <https://logs.example/a/slack-payments.res|Resolve>',
    );
    await it.to('email:ada', plain());
    const { text, html } = it.mail.mails[0]!.parsed;
    expect(text).toContain(
      '\n\nAcknowledge: https://logs.example/a/email-ada.ack?a=1&b=<2>\nResolve: https://logs.example/a/email-ada.res\n\nTime:',
    );
    expect(html).toContain(
      '<p><a href="https://logs.example/a/email-ada.ack?a=1&amp;b=&lt;2&gt;">Acknowledge</a> &middot; <a href="https://logs.example/a/email-ada.res">Resolve</a></p>',
    );
    expect(made).toEqual(['slack:payments', 'email:ada'].map((channel) => ['01JDHX', channel, AT_MS]));
    for (const name of ['console', 'webhook', 'pagerduty']) await it.to(name, plain());
    expect(made).toHaveLength(2);
  });

  test('end with what they could do', async () => {
    const it = await rig({ actionLinks });
    const links = async (changes: Partial<Notification>) => {
      await it.to('slack', { ...plain(), ...changes });
      return [...slackBody(it).attachments[1]!.text!.matchAll(/\|(\w+)>/g)].map(([, label]) => label);
    };
    expect(await links({ action: 'acknowledge', reason: 'acknowledged' })).toEqual(['Resolve']);
    expect(await links({ action: 'resolve', reason: 'all-resolved' })).toEqual([]);
    // It is no incident of the alert state.
    const blind = { ...plain().alerts[0]!, ruleId: 'log-pipeline-blind' };
    expect(await links({ alerts: [blind] })).toEqual([]);
  });
});

const DAILY: Notification = {
  ...{ incidentId: 'daily-calls-2026-11-25', dedupKey: 'logpipe/daily-calls-2026-11-25' },
  ...{ action: 'inform', reason: 'daily', severity: 'info', priority: 'P4' },
  title: 'Daily: calling-platform, 2 incidents, hand-off to Ben',
  message: 'The last 24 hours, and who is on call.',
  ...{ atMs: AT_MS, environment: 'production', alerts: [], joined: [], team: 'calls' },
  report: [
    { heading: 'Hand-off', lines: ['Ben takes over from Ada at 09:00 (Europe/Berlin)'] },
    { heading: 'Incidents', lines: Array.from({ length: 52 }, (_, n) => `P2 Queue is long <${n}>`) },
    { heading: 'Not answered in time', lines: [] },
  ],
};

describe('the daily mail', () => {
  test('is a mail with a heading and a list for each section, as text and as HTML', async () => {
    const it = await rig({ actionLinks: () => ({ acknowledge: 'https://never.example' }) });
    await it.to('email:payments', DAILY);
    const { subject, text, html } = it.mail.mails[0]!.parsed;
    expect(subject).toBe('Daily: calling-platform, 2 incidents, hand-off to Ben');
    const items = Array.from({ length: 50 }, (_, n) => `P2 Queue is long <${n}>`);
    expect(text).toBe(
      [
        'The last 24 hours, and who is on call.',
        '',
        'Hand-off',
        '  - Ben takes over from Ada at 09:00 (Europe/Berlin)',
        '',
        'Incidents',
        ...items.map((line) => `  - ${line}`),
        '  - and 2 more',
        '',
        'Not answered in time',
        '  - none',
        '',
        'Environment: production',
        '',
      ].join('\n'),
    );
    const escaped = items.map((line) => `<li>${line.replace('<', '&lt;').replace('>', '&gt;')}</li>`);
    expect(html).toBe(
      [
        '<h2>Daily: calling-platform, 2 incidents, hand-off to Ben</h2>',
        '<p>The last 24 hours, and who is on call.</p>',
        '<h3>Hand-off</h3>',
        '<ul><li>Ben takes over from Ada at 09:00 (Europe/Berlin)</li></ul>',
        '<h3>Incidents</h3>',
        `<ul>${escaped.join('')}<li>and 2 more</li></ul>`,
        '<h3>Not answered in time</h3>',
        '<ul><li>none</li></ul>',
        '<p>Environment: production</p>',
      ].join('\n'),
    );
  });

  test('elsewhere its sections are lines; PagerDuty never gets it', async () => {
    const it = await rig();
    await it.to('slack', DAILY);
    const { text, attachments } = slackBody(it);
    expect(text).toBe('🗓️ Daily: calling-platform, 2 incidents, hand-off to Ben');
    expect(attachments[1]!.text).toMatch(
      /^\*Hand-off:\* Ben takes over from Ada at 09:00 .*\n\*Incidents:\*\n• P2 Queue is long &lt;0&gt;\n/,
    );
    await it.to('console', DAILY);
    expect(String(it.out.read())).toMatch(/^\S+ Daily: calling-platform, .*\n.*\n {2}Hand-off: Ben takes over/);
    for (const name of ['pagerduty', 'pagerduty:ada']) {
      expect(await it.channels.get(name)!.send(DAILY, never)).toMatchObject({ ok: false, retryable: false });
    }
    expect(it.pagerduty.requests).toEqual([]);
  });
});

describe('a name is only a name', () => {
  const HOSTILE = [
    { role: 'primary', id: 'eve', name: '<!channel>\r\nBcc: victim@evil.example', slackId: 'U012AB3CD> <!here' },
    { role: 'secondary', id: 'mal', name: '<img src=x onerror=alert(1)> *bold*', slackId: '!channel' },
  ] as const;
  const message: Notification = {
    ...plain(),
    ...{ reason: 'escalated', people: HOSTILE, answerBy: AT_MS + 60_000 },
  };

  test('in Slack it mentions nobody', async () => {
    const it = await rig();
    await it.to('slack', message);
    const { text } = slackBody(it);
    expect(text.split('\n')).toEqual([
      '🚨 CRITICAL: High Error Rate Detected',
      '&lt;!channel&gt; Bcc: victim@evil.example (primary), &lt;img src=x onerror=alert(1)&gt; *bold* (secondary): answer within 1 min',
    ]);
    await it.to('slack', { ...message, by: '<!here>', action: 'acknowledge', reason: 'acknowledged' });
    const report = [{ heading: '<!channel>', lines: ['<@U012AB3CD>'] }];
    await it.to('slack', { ...DAILY, title: 'Hand-off to <!everyone>', report });
    expect(JSON.stringify(it.slack.requests.map(({ body }) => body))).not.toMatch(/<[!@]/);
  });

  test('in a mail it adds no header, no recipient and no tag', async () => {
    const it = await rig();
    await it.to('email', message);
    const title = 'Daily: hand-off to <b>Eve\r\nBcc: victim@evil.example\r\n\r\nbody';
    await it.to('email', { ...DAILY, title, report: [{ heading: 'x</h3><script>\r\n.\r\n', lines: ['</ul><i>'] }] });
    for (const { to, raw, parsed } of it.mail.mails) {
      expect(to).toEqual(['all@ops.example']);
      expect(parsed.headers.has('bcc')).toBe(false);
      expect(raw.split('\r\n\r\n', 1)[0]).not.toMatch(/^Bcc/im);
      expect(String(parsed.html)).not.toMatch(/<(?:img|script|b|i)\b/);
    }
    expect(it.mail.mails[1]!.parsed.subject).toBe('Daily: hand-off to <b>Eve Bcc: victim@evil.example body');
  });

  test('many people, and long names, stay within the limits', async () => {
    const it = await rig();
    const crowd = Array.from({ length: 100 }, (_, n) => ({ ...HOSTILE[1], id: `p${n}`, name: '<'.repeat(5_000) }));
    await it.to('slack', { ...message, title: 'x'.repeat(5_000), people: crowd });
    expect(slackBody(it).text.length).toBeLessThan(4_000);
    await it.to('email', { ...message, people: crowd });
    expect(it.mail.mails[0]!.raw.length).toBeLessThan(50_000);
  });
});
