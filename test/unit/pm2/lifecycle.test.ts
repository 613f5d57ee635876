// From PM2's events to what people are told: kinds, cooldown, routing. On a fake clock. The sequences are those a PM2 7.0.4
// sent, except the memory limit's and those of jobs, which follow from its source.
import { beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { Notification } from '../../../src/incidents/notification.ts';
import { channelsFor } from '../../../src/notify/notify-config.ts';
import { createRoutes, routesByPriority } from '../../../src/oncall/routes.ts';
import { parseRouting } from '../../../src/oncall/routing.ts';
import { createLifecycle, type Happening, type Lifecycle } from '../../../src/pm2/lifecycle.ts';
import { createMessages, type Messages, whereTo } from '../../../src/pm2/watch.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { notification } from '../../kit/notifications.ts';

type Status = 'launching' | 'online' | 'stopping' | 'stopped' | 'errored';

let clock: ReturnType<typeof createFakeClock>;
let happenings: Happening[];
let lifecycle: Lifecycle;

beforeEach(() => {
  clock = createFakeClock(Date.parse('2026-01-05T10:00:00Z'));
  happenings = [];
  lifecycle = createLifecycle(
    { quietMs: 2_000 },
    { clock, mask: createMasker().text, onHappening: (happening) => happenings.push(happening) },
  );
});

function see(event: string, status: Status, id: number | string = 0, more: object = {}): void {
  lifecycle.take('process:event', { event, process: { name: 'api', pm_id: id, status, restart_time: 1, ...more } });
}
const kinds = () => happenings.map(({ kind, processes }) => [kind, processes.join()]);

test.each<[string, () => unknown, [string, string][]]>([
  ['start', () => [see('online', 'launching'), see('start', 'online')], [['start', '0']]],
  [
    'restart',
    () => [see('exit', 'stopping'), see('exit', 'stopped'), see('online', 'launching'), see('restart', 'online')],
    [['restart', '0']],
  ],
  ['stop', () => [see('exit', 'stopping'), see('exit', 'stopped'), see('stop', 'stopped')], [['stop', '0']]],
  ['delete', () => [see('exit', 'stopping'), see('exit', 'stopped')], [['stop', '0']]],
  [
    'reload of two workers',
    async () => {
      for (const id of [0, 1]) {
        see('online', 'launching', id);
        see('exit', 'stopping', `_old_${id}`);
        see('exit', 'stopped', `_old_${id}`);
        see('reload', 'online', id);
        if (id === 0) await clock.advance(8_000);
      }
    },
    [['reload', '0,1']],
  ],
  [
    'memory limit: nobody asked',
    () => [see('exit', 'stopping'), see('exit', 'stopped'), see('online', 'launching')],
    [['restart', '0']],
  ],
  ['crash', () => [see('exit', 'stopped', 0, { exit_code: 1 }), see('online', 'launching')], [['error', '0']]],
  [
    'crash of one while another is stopped',
    () => [
      see('exit', 'stopping', 1),
      see('exit', 'stopped', 0, { exit_code: 1 }),
      see('exit', 'stopped', 1),
      see('stop', 'stopped', 1),
    ],
    [
      ['error', '0'],
      ['stop', '1'],
    ],
  ],
  [
    'gave up',
    () => [
      see('exit', 'stopped', 0, { exit_code: 3 }),
      see('online', 'launching'),
      see('restart overlimit', 'errored'),
      see('exit', 'errored', 0, { exit_code: 3 }),
    ],
    [['overlimit', '0']],
  ],
  ['a job that is done', () => see('exit', 'stopped', 0, { autorestart: false, exit_code: 0 }), []],
  ['a job that failed', () => see('exit', 'stopped', 0, { autorestart: false, exit_code: 2 }), [['error', '0']]],
])('%s', async (_name, events, expected) => {
  await events();
  expect(happenings).toEqual([]);
  const failing = expected.some(([kind]) => kind === 'error' || kind === 'overlimit');
  await clock.advance(failing ? 2_000 : 9_999);
  expect(happenings.length > 0).toBe(failing);
  await clock.advance(1);
  expect(kinds()).toEqual(expected);
});

test('a crash says how it ended, how often, and with which exception', async () => {
  lifecycle.take('process:exception', {
    process: { name: 'api', pm_id: 0 },
    data: { name: 'TypeError', message: 'x is not y' },
  });
  see('exit', 'stopped', 0, { exit_code: 1, restart_time: 4 });
  see('online', 'launching', 0, { restart_time: 5 });
  await clock.advance(2_000);
  expect(happenings).toEqual([
    {
      app: 'api',
      kind: 'error',
      atMs: clock.now() - 2_000,
      processes: ['0'],
      message: 'one process of api ended by itself (exit code 1) and was started again: TypeError: x is not y',
      facts: { processes: '0', crashes: 1, exitCode: 1, restarts: 5, exception: 'TypeError: x is not y' },
    },
  ]);
});

test('endless events are told after ten seconds all the same', async () => {
  for (let n = 0; n < 12; n++) {
    see('exit', 'stopped', 0, { exit_code: 1 });
    see('online', 'launching');
    await clock.advance(1_000);
  }
  expect(kinds()).toEqual([['error', '0']]);
  lifecycle.flush();
  expect(happenings).toHaveLength(2);
});

test('PM2’s list and its bus say the same of what was given up: it happened once, whoever speaks first', async () => {
  const list = new Map([
    ['api', ['online', 'errored']],
    ['stopped-by-hand', ['stopped']],
    ['job', ['one-launch-status']],
  ]);
  expect(lifecycle.compare(list)).toBe(true);
  see('exit', 'stopped', 0, { exit_code: 3 });
  see('restart overlimit', 'errored');
  await clock.advance(2_000);
  expect(kinds()).toEqual([['overlimit', '0']]);
  expect(lifecycle.compare(list)).toBe(true);

  happenings = [];
  lifecycle.compare(new Map([['api', ['online']]]));
  expect(happenings).toMatchObject([{ kind: 'overlimit', ended: true }]);
  see('exit', 'stopped', 0, { exit_code: 3 });
  // Not known yet what comes of it: to be looked at again.
  expect(lifecycle.compare(list)).toBe(false);
  see('restart overlimit', 'errored');
  await clock.advance(20_000);
  expect(happenings.map(({ kind, ended }) => [kind, ended])).toEqual([
    ['overlimit', true],
    ['overlimit', undefined],
  ]);
  expect(lifecycle.compare(list)).toBe(true);
});

test('whatever comes on the bus, nothing throws and nothing is told', async () => {
  for (const data of [
    null,
    7,
    'x',
    [],
    {},
    { process: null },
    { event: 'exit', process: { name: 5 } },
    { event: {}, process: {} },
  ]) {
    for (const name of ['process:event', 'process:exception', 'other']) lifecycle.take(name, data);
  }
  lifecycle.flush();
  expect(happenings).toEqual([]);
});

test('a message goes to the team that its route names, and the urgent ones to who is on call', () => {
  const routing = parseRouting(
    `hours: { timeZone: Etc/UTC }
people:
  ada: { name: Ada, email: ada@ops.example, slackId: U012AB3CD, pagerDutyKey: adaKey0123456789 }
teams:
  web: { rota: { primary: [ada] } }
  jobs: { emailTo: [jobs@ops.example] }
defaultTeam: web
routes: [{ match: { labels: { application: worker } }, team: jobs }]
`,
    {},
    'routing.yml',
    0,
  );
  const there = ['slack', 'pagerduty', 'email', 'email:jobs', 'email:ada', 'pagerduty:ada'];
  const routes = createRoutes(routing, { has: (name) => there.includes(name), environment: 'test' });
  const to = (application: string, priority: 'P1' | 'P2' | 'P3') => {
    const alert = { ...notification().alerts[0]!, ruleId: 'pm2-error', labels: { application, host: 'web-1' } };
    return whereTo(notification({ priority, alerts: [alert] }), routes, 0);
  };
  const people = [{ role: 'primary', id: 'ada', name: 'Ada', slackId: 'U012AB3CD' }];
  expect(to('api', 'P1')).toEqual({
    channels: ['pagerduty', 'slack', 'email', 'email:ada', 'pagerduty:ada'],
    ...{ team: 'web', people },
  });
  // A P2 is no call.
  expect(to('api', 'P2')).toEqual({ channels: ['slack', 'email', 'email:ada'], team: 'web', people });
  expect(to('api', 'P3')).toEqual({ channels: ['slack'], team: 'web' });
  expect(to('worker', 'P2')).toEqual({ channels: ['slack', 'email:jobs'], team: 'jobs' });
  const byPriority = routesByPriority((priority) => channelsFor(priority));
  expect(whereTo(notification({ priority: 'P3' }), byPriority, 0)).toEqual({ channels: channelsFor('P3') });
});

describe('messages', () => {
  let sent: { at: number; channels: string; notification: Notification }[];
  let messages: Messages;

  const begin = (yaml = '') => {
    const { pm2 } = parseConfig(yaml, {}, 'pm2');
    sent = [];
    messages = createMessages(
      { ...pm2, environment: 'test', host: 'web-1' },
      {
        clock,
        log: silentLog,
        whereTo: ({ priority }) => ({
          channels: channelsFor(priority).filter((name) => !['alertmanager', 'webhook', 'console'].includes(name)),
        }),
        send: (notification, channels) =>
          sent.push({ at: clock.now() - start, channels: channels.join(), notification }),
      },
    );
  };
  const start = Date.parse('2026-01-05T10:00:00Z');
  const happen = (kind: Happening['kind'], more: Partial<Happening> = {}) =>
    messages.tell({
      app: 'api',
      kind,
      atMs: clock.now(),
      processes: ['0'],
      message: `${kind} it is`,
      facts: { restarts: 1 },
      ...more,
    });
  const told = () => sent.map(({ at, notification }) => [at / 1_000, notification.action, notification.message]);

  test('kinds by their priority: everything to Slack and e-mail, what is down to PagerDuty too', async () => {
    begin('pm2: { priorities: { reload: none, start: P3 } }');
    for (const kind of ['start', 'restart', 'reload', 'stop', 'error', 'overlimit', 'daemonLost'] as const)
      happen(kind);
    expect(
      sent.map(({ channels, notification: { title, severity, priority } }) => [title, severity, priority, channels]),
    ).toEqual([
      ['api: Started', 'info', 'P3', 'slack'],
      ['api: Restarted', 'info', 'P2', 'slack,email'],
      ['api: Stopped', 'info', 'P2', 'slack,email'],
      ['api: Process Ended by Itself', 'warning', 'P2', 'slack,email'],
      ['api: Down: PM2 Gave Up Restarting', 'critical', 'P1', 'pagerduty,slack,email'],
      ['api: Gone: Nothing Restarts the Applications', 'critical', 'P1', 'pagerduty,slack,email'],
    ]);
  });

  test('within the cooldown of ten minutes a kind is told once; what was held back is told at its end', async () => {
    begin();
    for (let n = 0; n < 5; n++) {
      happen('error');
      await clock.advance(60_000);
    }
    happen('error', { app: 'worker' });
    happen('restart');
    await clock.advance(3_600_000);
    happen('error');
    expect(told()).toEqual([
      [0, 'trigger', 'error it is'],
      [300, 'trigger', 'error it is'],
      [300, 'trigger', 'restart it is'],
      [600, 'trigger', 'error it is (4 more since the last message)'],
      [3_900, 'trigger', 'error it is'],
    ]);
    const ids = sent.map(({ notification }) => notification.incidentId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(new Set(sent.map(({ notification }) => notification.dedupKey))).toEqual(
      new Set(['logpipe/pm2/web-1/api/error', 'logpipe/pm2/web-1/worker/error', 'logpipe/pm2/web-1/api/restart']),
    );
  });

  test('a state is resolved with its own key, long after the cooldown, and only when it was told', async () => {
    begin();
    happen('overlimit', { ended: true });
    expect(sent).toEqual([]);
    happen('overlimit');
    await clock.advance(7_200_000);
    happen('overlimit', { ended: true, message: 'runs again' });
    happen('overlimit', { ended: true });
    expect(told()).toEqual([
      [0, 'trigger', 'overlimit it is'],
      [7_200, 'resolve', 'runs again'],
    ]);
    const [down, up] = sent.map(({ notification }) => notification) as [Notification, Notification];
    expect([up.dedupKey, up.incidentId]).toEqual([down.dedupKey, down.incidentId]);
    expect(up.alerts[0]).toMatchObject({ state: 'resolved', startedMs: start, resolvedMs: clock.now() });
    happen('overlimit');
    expect(sent).toHaveLength(3);
  });

  test('at the end what is held back is told', async () => {
    begin();
    happen('error');
    happen('error');
    messages.close();
    expect(told().map(([, , message]) => message)).toEqual([
      'error it is',
      'error it is (1 more since the last message)',
    ]);
  });
});

test('what an application says is masked before it is cut, and works on no terminal', async () => {
  const password = ['opal', 'heron'].join('-');
  const message = `${'x'.repeat(480)} postgres://app:${password}@db.example/calls\u001b[2J`;
  lifecycle.take('process:exception', { process: { name: 'api', pm_id: 0 }, data: { name: 'Error', message } });
  lifecycle.take('process:exception', {
    process: { name: 'worker', pm_id: 1 },
    data: { name: 'Error', message: `token=${password} \u001b]0;x\u0007\u202e` },
  });
  await clock.advance(20_000);
  expect(happenings).toHaveLength(2);
  expect(JSON.stringify(happenings)).not.toContain('opal');
  expect(happenings[1]!.facts.exception).toBe('token=[masked] \\u001b]0;x\\u0007\\u202e');
});
