// `logpipe oncall`, and what check-config says of a routing.yml: who is on call now and next, by the calendar on the wall.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkConfig } from '../../../src/cli/check-config.ts';
import { type OncallOptions, oncall } from '../../../src/cli/on-call.ts';
import { parseConfig } from '../../../src/config.ts';

const ROUTING = `hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada Berg, email: ada@ops.example, slackId: U012AB3CD, pagerDutyKey: adaKey0123456789 }
  ben: { name: Ben Holm, email: ben@ops.example, slackId: U012AB3CE, pagerDutyKey: benKey0123456789 }
  cid: { name: "Cid\\u001b[31m <b>", email: cid@ops.example, slackId: U012AB3CF, pagerDutyKey: cidKey0123456789 }
teams:
  calls:
    name: Calls
    rota:
      starts: 2026-03-23
      primary: [ada, ben]
      secondary: [ben, ada]
      overrides: [{ from: 2026-03-28T12:00, until: 2026-03-29T12:00, primary: cid }]
  payments:
    slackWebhookUrl: https://hooks.example/payments/s3cr3t
    emailTo: [pay@ops.example]
defaultTeam: calls
`;
/** A Saturday; the clocks are put forward in the night that follows. */
const NOW = Date.parse('2026-03-28T10:00:00Z');

function place(routing: string, more = '') {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-oncall-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'routing.yml');
  const main = join(folder, 'logpipe.yml');
  writeFileSync(file, routing);
  writeFileSync(main, `alerts: { routingFile: '${file}' }\n${more}`);
  return { folder, file, main };
}

/** By a calendar in which the week begins on Monday, the 30th. */
function withGap(): string {
  const { folder } = place('');
  const calendar = join(folder, 'rota.ics');
  const lines = ['BEGIN:VCALENDAR', 'VERSION:2.0', 'PRODID:x', 'BEGIN:VEVENT', 'UID:1', 'SUMMARY:ada'];
  const times = ['DTSTART:20260330T070000Z', 'DTEND:20260406T070000Z', 'END:VEVENT', 'END:VCALENDAR', ''];
  writeFileSync(calendar, [...lines, ...times].join('\r\n'));
  return ROUTING.replace('primary: [ada, ben]', `calendarFile: '${calendar}'`)
    .replace(/ +secondary: .*\n/, '')
    .replace(/ +overrides.*\n/, '');
}

function ask(options: Partial<OncallOptions> = {}, routing = ROUTING) {
  const { file } = place(routing);
  const out: string[] = [];
  const io = { out: (line: string) => void out.push(line), err: (line: string) => void out.push(line) };
  const config = parseConfig(`alerts: { routingFile: '${file}' }`, {}, 'test.yml');
  const status = oncall(config, { next: 1, json: false, ...options }, io, () => NOW);
  return { status, out };
}

describe('logpipe oncall', () => {
  test('who it is now, and who comes next, in the time of the rota', () => {
    expect(ask({ next: 4 })).toEqual({
      status: 0,
      out: [
        'calls (Calls), times in Europe/Berlin',
        '  FROM                  UNTIL                 PRIMARY               SECONDARY',
        '  now                   Sat 2026-03-28 12:00  Ada Berg              Ben Holm',
        '  Sat 2026-03-28 12:00  Sun 2026-03-29 12:00  Cid\\u001b[31m <b>     Ben Holm  (override)',
        '  Sun 2026-03-29 12:00  Mon 2026-03-30 09:00  Ada Berg              Ben Holm',
        '  Mon 2026-03-30 09:00  Mon 2026-04-06 09:00  Ben Holm              Ada Berg',
        '  Mon 2026-04-06 09:00  Mon 2026-04-13 09:00  Ada Berg              Ben Holm',
        'payments, times in Europe/Berlin',
        '  nobody is on call: the team has no rota',
      ],
    });
  });

  test('at another time, in another zone, of one team; an override is called one', () => {
    const { out } = ask({ at: '2026-03-29T09:00', timeZone: 'UTC', team: 'calls', next: 0 });
    expect(out.slice(2)).toEqual([
      '  Sun 2026-03-29 09:00  Sun 2026-03-29 10:00  Cid\\u001b[31m <b>     Ben Holm  (override)',
    ]);
  });

  test('--json: ids, names, moments; the same as the API gives', () => {
    const { out } = ask({ json: true });
    expect(JSON.parse(out[0]!)).toEqual({
      at: '2026-03-28T10:00:00.000Z',
      teams: [
        {
          ...{ team: 'calls', name: 'Calls', timeZone: 'Europe/Berlin' },
          now: {
            ...{ from: '2026-03-28T10:00:00Z', until: '2026-03-28T11:00:00Z', by: 'rota' },
            primary: { id: 'ada', name: 'Ada Berg' },
            secondary: { id: 'ben', name: 'Ben Holm' },
          },
          next: [
            {
              ...{ from: '2026-03-28T11:00:00Z', until: '2026-03-29T10:00:00Z', by: 'override' },
              primary: { id: 'cid', name: 'Cid\u001b[31m <b>' },
              secondary: { id: 'ben', name: 'Ben Holm' },
            },
          ],
        },
        { team: 'payments', name: 'payments', timeZone: 'Europe/Berlin', now: null, next: [] },
      ],
    });
    expect(out.join()).not.toMatch(/Key0123|s3cr3t/);
  });

  test('one person alone has no next shift; a gap is exit status 1', () => {
    const alone = ROUTING.replace('primary: [ada, ben]', 'primary: [ada]')
      .replace('secondary: [ben, ada]', 'secondary: [ben]')
      .replace(/ +overrides.*\n/, '');
    expect(ask({ team: 'calls' }, alone).out[2]).toBe(
      '  now                   no change this year   Ada Berg              Ben Holm',
    );
    const gap = withGap();
    const { status, out } = ask({ team: 'calls' }, gap);
    expect(status).toBe(1);
    expect(out.slice(2)).toEqual([
      '  now                   Mon 2026-03-30 09:00  nobody                nobody',
      '  Mon 2026-03-30 09:00  Mon 2026-04-06 09:00  Ada Berg              nobody',
    ]);
  });

  test.each([
    [{ team: 'sales' }, /--team: found "sales"; there is: calls, payments/],
    [{ next: 1.5 }, /--next: takes a whole number, 0 to 52/],
    [{ next: Number.NaN }, /--next/],
    [{ timeZone: 'Mars/Olympus' }, /--time-zone: found "Mars\/Olympus"/],
    [{ at: 'soon' }, /--at: "soon" is not a time/],
  ])('%j is refused', (options, message) => {
    expect(() => ask(options)).toThrow(message);
  });
});

describe('check-config', () => {
  const NOTIFY = `notify:
  slack: { webhookUrl: https://hooks.example/x }
  pagerduty: { integrationKey: commonKey0123456 }
  email: { host: 127.0.0.1, from: a@ops.example, to: [all@ops.example] }
`;
  async function check(routing: string, notify = NOTIFY, json = false) {
    const { main, folder } = place(routing, notify);
    const [out, err]: [string[], string[]] = [[], []];
    const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
    const status = await checkConfig({ config: main, json, connect: false }, io, { env: {}, now: () => NOW });
    const plain = (lines: string[]) => lines.join('\n').replaceAll(folder, 'FOLDER').split('\n');
    return { status, out: plain(out), err: plain(err) };
  }

  test('whom each priority reaches, by team, and who is on call', async () => {
    const { status, out, err } = await check(ROUTING);
    expect([status, err]).toEqual([0, ['']]);
    expect(out[3]).toBe('routing        FOLDER/routing.yml (named by the configuration; 2 teams, 3 people)');
    expect(out.slice(4).map((line) => line.replace(/ \(\d+ rules\)/, ''))).toEqual([
      'P1  reaches pagerduty, slack, email and who is on call; not: alertmanager without notify.alertmanager.urls, webhook without notify.webhook.url',
      '               of payments: pagerduty, slack:payments, email:payments',
      'P2  reaches slack, email and who is on call; not: alertmanager without notify.alertmanager.urls, webhook without notify.webhook.url',
      '               of payments: slack:payments, email:payments',
      'P3  reaches slack in business hours; not: alertmanager without notify.alertmanager.urls, webhook without notify.webhook.url',
      '               of payments: slack:payments',
      'P4   reaches the daily mail',
      'on call        calls: Ada Berg, secondary Ben Holm until Sat 2026-03-28 12:00 (Europe/Berlin), then Cid\\u001b[31m <b>, secondary Ben Holm',
      'on call        payments: nobody, because it has no rota',
      'the configuration is fine',
    ]);
    const json = JSON.parse((await check(ROUTING, NOTIFY, true)).out.join('\n'));
    expect(json.routing[0]).toMatchObject({
      ...{ priority: 'P1', reaches: ['pagerduty', 'slack', 'email'], when: 'on call' },
      teams: { payments: ['pagerduty', 'slack:payments', 'email:payments'] },
    });
    expect(json.onCall[0].now.primary).toEqual({ id: 'ada', name: 'Ada Berg' });
    expect(JSON.stringify(json)).not.toMatch(/Key0123|s3cr3t/);
  });

  test('a gap is a problem; somebody without a channel is a warning', async () => {
    const lacking = ROUTING.replace(', pagerDutyKey: benKey0123456789', '').replace(', slackId: U012AB3CE', '');
    const { status, err } = await check(lacking);
    expect(status).toBe(0);
    expect(err).toEqual([
      expect.stringMatching(/^warning: people\.ben: has no slackId/),
      expect.stringMatching(/^warning: people\.ben: has no pagerDutyKey/),
    ]);
    const gap = await check(withGap());
    expect(gap.status).toBe(2);
    expect(gap.err.join('\n')).toMatch(
      /FOLDER\/routing\.yml: 2 problem\(s\)\n.*teams\.calls\.rota: nobody is on call from Sat 2026-03-28 11:00 to Mon 2026-03-30 09:00; fill the gap/,
    );
    expect(gap.out.join('\n')).toContain('calls: NOBODY until Mon 2026-03-30 09:00 (Europe/Berlin), then Ada Berg');
    const wrong = await check(ROUTING.replace('primary: [ada, ben]', 'primary: [ada, eve]'));
    expect(wrong.status).toBe(2);
    expect(wrong.err.join('\n')).toMatch(
      /FOLDER\/routing\.yml: 1 problem\(s\)\n.*teams\.calls\.rota\.primary: there is nobody eve/,
    );
  });

  test('a key from a file that holds none is refused without being repeated', async () => {
    const { status, err } = await check(
      ROUTING.replace(
        'slackWebhookUrl: https://hooks.example/payments/s3cr3t',
        'slackWebhookUrl: hooks.example/s3cr3t',
      ),
    );
    expect(status).toBe(2);
    expect(err.join('\n')).toMatch(/teams\.payments\.slackWebhookUrl/);
    expect(err.join('\n')).not.toContain('s3cr3t');
  });
});
