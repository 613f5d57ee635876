// routing.yml: what it says, what is refused and in which words, what check-config finds, and that a running instance takes a changed file
// and keeps a wrong one out.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { readConfigFile } from '../../../src/core/config-loader.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { checkRouting, createRoutes, type Routes } from '../../../src/oncall/routes.ts';
import {
  DEFAULT_PRIORITIES,
  isDestination,
  parseRouting,
  type Routing,
  watchRoutingFile,
} from '../../../src/oncall/routing.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const NOW = Date.parse('2026-03-02T10:00:00Z');
const MINUTE = 60_000;
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'logpipe-routing-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
});

const parse = (yaml: string, env = {}) => parseRouting(yaml, env, 'routing.yml', NOW);

/** Lines of the refusal. */
function refusal(yaml: string, env = {}): string[] {
  try {
    parse(yaml, env);
  } catch (error) {
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim().replace(/^- /, ''));
  }
  return [];
}

const PEOPLE = `
hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada Lovelace, email: ada@example.org, slackId: U012AB3CD, pagerDutyKey: '\${KEY}' }
  ben: { name: Ben Hughes, email: ben@example.org }
`;

const everywhere = (routing: Routing, has: (name: string) => boolean = () => true): Routes =>
  createRoutes(routing, { has, environment: 'production' });

describe('what it says', () => {
  test('the shipped file gives the priorities of the operators’ guide, and nobody is on call', () => {
    const { file, text } = readConfigFile('routing.yml', join(packageRoot(), 'config', 'routing.yml'));
    const routing = parseRouting(text, {}, file, NOW);
    expect(routing.priorities).toEqual(DEFAULT_PRIORITIES);
    expect(routing.priorities).toEqual({
      P1: {
        to: ['pagerduty', 'slack', 'email', 'alertmanager', 'webhook', 'console'],
        ...{ daily: false, businessHoursOnly: false, onCall: true, answerWithinMs: 15 * MINUTE },
      },
      P2: {
        to: ['slack', 'email', 'alertmanager', 'webhook', 'console'],
        ...{ daily: false, businessHoursOnly: false, onCall: true, answerWithinMs: 60 * MINUTE },
      },
      P3: {
        to: ['slack', 'alertmanager', 'webhook', 'console'],
        ...{ daily: false, businessHoursOnly: true, onCall: false, answerWithinMs: 240 * MINUTE },
      },
      P4: { to: [], daily: true, businessHoursOnly: false, onCall: false, answerWithinMs: 1_440 * MINUTE },
    });
    expect(routing.teams).toEqual([
      {
        id: 'everybody',
        name: 'everybody',
        hours: { timeZone: 'Etc/UTC', days: [1, 2, 3, 4, 5], fromMinute: 540, untilMinute: 1_080 },
        escalation: { by: 'logpipe', afterMs: 15 * MINUTE, repeatMs: 30 * MINUTE },
        daily: { atMinute: 540 },
      },
    ]);
    expect(routing.reopenAfterMs).toBe(30 * MINUTE);
  });

  test('its examples are right: uncommented, the shipped file is read', () => {
    const { text } = readConfigFile('routing.yml', join(packageRoot(), 'config', 'routing.yml'));
    const [head, ...examples] = text.split('\n# people:\n');
    const whole = `${head}\npeople:\n${examples.join('').replaceAll(/^# ?/gm, '')}`
      .replace('slackWebhookUrlFile: /run/secrets/slack-payments', 'slackWebhookUrl: https://hooks.example.org/x')
      .replace('calendarFile: config/payments.ics', 'primary: [ada]');
    const routing = parse(whole, { ADA_PAGERDUTY_KEY: 'k' });
    expect(routing.teams.map(({ id }) => id)).toEqual(['platform', 'payments']);
    expect(routing.routes).toHaveLength(2);
    expect(routing.maintenance).toHaveLength(1);
  });

  test('secrets come from variables and from files; a calendar from its file', () => {
    writeFileSync(join(folder, 'key'), 'key-of-ops\n');
    writeFileSync(
      join(folder, 'ops.ics'),
      [
        ...['BEGIN:VCALENDAR', 'BEGIN:VEVENT', 'UID:a', 'SUMMARY:Ada Lovelace', 'DTSTART:20260302T090000'],
        ...['DURATION:P1W', 'RRULE:FREQ=WEEKLY', 'END:VEVENT', 'END:VCALENDAR', ''],
      ].join('\r\n'),
    );
    const routing = parse(
      `${PEOPLE}teams:\n  ops: { pagerDutyKeyFile: ${folder}/key, rota: { calendarFile: ${folder}/ops.ics } }\n`,
      { KEY: 'key-of-ada' },
    );
    expect(routing.people.get('ada')?.pagerDutyKey).toBe('key-of-ada');
    expect(routing.teams[0]?.pagerDutyKey).toBe('key-of-ops');
    expect(routing.teams[0]?.rota?.calendar?.[0]).toEqual({
      fromMs: Date.parse('2026-03-02T08:00:00Z'),
      untilMs: Date.parse('2026-03-09T08:00:00Z'),
      primary: 'ada',
    });
    expect(routing.calendarFiles).toEqual([`${folder}/ops.ics`]);
  });

  test('the first route that matches names the team; each team has its own destinations, or the common ones', () => {
    const routes = everywhere(
      parse(
        `${PEOPLE}teams: { ops: {}, pay: { emailTo: [pay@example.org] }, web: {} }
defaultTeam: ops
routes:
  - { match: { rule: card-errors }, team: pay }
  - { match: { group: payments, environment: staging }, team: ops }
  - { match: { group: payments }, team: pay }
  - { match: { labels: { host: [web-1, web-2], status: { gte: 500 } } }, team: web }
`,
        { KEY: 'k' },
      ),
      (name) => ['slack', 'email', 'email:pay'].includes(name),
    );
    const team = (ruleId: string, group: string, labels = {}) => routes.teamOf({ ruleId, group, labels });
    expect(team('card-errors', 'x')).toBe('pay');
    expect(team('other', 'payments')).toBe('pay');
    expect(team('other', 'x', { host: 'web-2', status: '503' })).toBe('web');
    expect(team('other', 'x', { host: 'web-2' })).toBe('ops');
    expect([routes.channels('P1', 'pay'), routes.channels('P1', 'ops'), routes.channels('P4', 'ops')]).toEqual([
      ['slack', 'email:pay'],
      ['slack', 'email'],
      [],
    ]);
    // A team that the file no longer has.
    expect(routes.team('gone')?.id).toBe('ops');
  });
});

describe('what is refused, all at once, without a secret', () => {
  test('what the schema does not know', () => {
    expect(refusal('hours: { timeZone: Europe/Berlin, form: "09:00" }\npriorities: { P5: {} }')).toEqual([
      expect.stringMatching(/hours\.form: unknown key; did you mean from\?/),
      expect.stringMatching(/priorities\.P5: unknown key/),
    ]);
    expect(refusal('teams: {}')).toEqual([expect.stringMatching(/hours: missing|\(top level\)\.hours: missing/)]);
    const secret = refusal(`${PEOPLE}teams: { ops: { slackWebhookUrl: hunter2-is-no-address } }`, { KEY: 'k' });
    expect(secret).toHaveLength(1);
    expect(secret[0]).not.toContain('hunter2');
  });

  test.each<[string, RegExp]>([
    ['teams: { ada: {} }', /teams\.ada: there is a person of the same id/],
    ['teams: { Ops: {} }', /found "Ops"|Ops/],
    ['teams: { ops: {}, web: {} }', /defaultTeam: missing; one of: ops, web/],
    ['teams: { ops: {} }\ndefaultTeam: web', /defaultTeam: there is no team web; there is: ops/],
    ['routes: [{ match: { rule: x }, team: web }]', /routes\.0\.team: there is no team web/],
    ['routes: [{ match: {}, team: everybody }]', /routes\.0\.match/],
    ['teams: { ops: { rota: { primary: [ada, zoe] } } }', /teams\.ops\.rota\.primary: there is nobody zoe in people/],
    [
      'teams: { ops: { rota: { primary: [ada], overrides: [{ from: 2026-03-01, until: 2026-02-01, primary: zoe }] } } }',
      /overrides\.0: there is nobody zoe[\s\S]*overrides\.0\.until: found 2026-02-01; it is to be later/,
    ],
    [
      'teams: { ops: { rota: { primary: [ada], overrides: [{ from: 2026-03-01, until: 2026-03-02 }] } } }',
      /names nobody/,
    ],
    [
      'teams: { ops: { rota: { primary: [ada], starts: 2026-02-30 } } }',
      /starts: found 2026-02-30; there is no such date/,
    ],
    ['teams: { ops: { rota: {} } }', /exactly one of primary and calendarFile/],
    ['teams: { ops: { rota: { primary: [ada], calendarFile: x.ics } } }', /exactly one of primary and calendarFile/],
    ['teams: { ops: { rota: { calendarFile: /nowhere/x.ics } } }', /calendarFile: the file cannot be read/],
    ['teams: { ops: { rota: { primary: [ada], timeZone: Mars/Base } } }', /timeZone: found "Mars\/Base"/],
    [
      'teams: { ops: { hours: { timeZone: Europe/Berlin, from: "18:00", until: "09:00" } } }',
      /hours\.until: found 09:00; it is to be later than 18:00/,
    ],
    [
      'maintenance: [{ id: a, cron: "0 2 * *", duration: 1h, reason: x }]',
      /maintenance\.0\.cron: found "0 2 \* \*"; permitted: a cron expression of five fields/,
    ],
    ['maintenance: [{ id: a, cron: "0 2 * * *", duration: 8d, reason: x }]', /duration: found 8d; at most 7d/],
    [
      'maintenance: [{ id: a, cron: "0 2 * * *", duration: 1h, reason: x }, { id: a, cron: "0 3 * * *", duration: 1h, reason: x }]',
      /maintenance\.1\.id: found a twice/,
    ],
  ])('%s', (yaml, why) => {
    const lines = refusal(`${PEOPLE}${yaml}\n`, { KEY: 'key-of-ada' });
    expect(lines.join('\n')).toMatch(why);
    expect(lines.join('\n')).not.toContain('key-of-ada');
  });

  test('two ids alike', () => {
    expect(refusal(`${PEOPLE}  ada: { name: Other, email: o@example.org }\n`)).toEqual([
      expect.stringMatching(/repeats a key/),
    ]);
  });
});

describe('what check-config finds', () => {
  const check = (yaml: string, has: (name: string) => boolean) => {
    const { problems, warnings } = checkRouting(parse(`${PEOPLE}${yaml}`, { KEY: 'k' }), { has, nowMs: NOW });
    return { problems, warnings };
  };
  const ROTA = 'teams: { ops: { rota: { primary: [ada, ben] } } }\n';

  test('gaps of the next eight weeks, with from and to; none further away', () => {
    const lines = (weeks: number) => [
      ...['BEGIN:VCALENDAR', 'BEGIN:VEVENT', 'UID:a', 'SUMMARY:ada', 'DTSTART:20260302T090000', 'DURATION:P1W'],
      ...[`RRULE:FREQ=WEEKLY;COUNT=${weeks}`, 'EXDATE:20260316T090000', 'END:VEVENT', 'END:VCALENDAR', ''],
    ];
    writeFileSync(join(folder, 'a.ics'), lines(20).join('\r\n'));
    const yaml = `teams: { ops: { rota: { calendarFile: ${folder}/a.ics } } }\n`;
    expect(check(yaml, () => true).problems).toEqual([
      'teams.ops.rota: nobody is on call from Mon 2026-03-16 09:00 to Mon 2026-03-23 09:00; fill the gap with an override, or with an event',
    ]);
    expect(check(ROTA, () => true).problems).toEqual([]);
  });

  test('a team that nobody can reach, a mail that reaches nobody, and people who lack what would be used', () => {
    expect(check('teams: { ops: {} }\n', () => false).problems).toEqual([
      expect.stringMatching(/^teams\.ops: nobody of it can be reached: set one of/),
    ]);
    const { problems, warnings } = check(ROTA, (name) =>
      ['slack', 'email:ada', 'email:ben', 'pagerduty:ada'].includes(name),
    );
    expect(problems).toEqual([]);
    expect(warnings).toEqual([
      'people.ben: has no slackId, so Slack mentions nobody',
      'people.ben: has no pagerDutyKey: an escalation to them calls nobody, only the mail goes',
    ]);
    expect(check(ROTA, (name) => name === 'slack').warnings).toEqual(
      expect.arrayContaining([
        'teams.ops: the daily mail, and with it P4, reaches nobody; set emailTo, or notify.email.to',
        'people.ada: gets no mail, because notify.email.host is not set',
      ]),
    );
    expect(check('teams: { ops: { rota: { primary: [ada] } } }\n', () => true).warnings).toContain(
      'people.ben: is in no rota',
    );
  });
});

test('a destination is a kind, or a kind with an owner', () => {
  for (const name of ['slack', 'email:ada', 'pagerduty:ops-2']) expect(isDestination(name), name).toBe(true);
  for (const name of ['history', 'fax', 'slack:', 'slack:A', ':ada', 'slack:a:b', '', `email:${'x'.repeat(41)}`]) {
    expect(isDestination(name), name).toBe(false);
  }
});

describe('while logpipe runs', () => {
  const GOOD = 'hours: { timeZone: Europe/Berlin }\n';

  function watching(text = GOOD) {
    const file = join(folder, 'routing.yml');
    writeFileSync(file, text);
    const clock = createFakeClock(NOW);
    const taken: Routing[] = [];
    const said: string[] = [];
    const say = (level: string) => (words: string) => void said.push(`${level}: ${words}`);
    const log = { info: say('info'), warn: say('warn'), error: say('error'), debug() {} };
    const watch = watchRoutingFile(
      { file, text, routing: parseRouting(text, {}, file, NOW) },
      { env: {}, clock, log: log as never, onRouting: (routing) => taken.push(routing) },
    );
    onTestFinished(() => watch.close());
    return { file, clock, taken, said, watch };
  }

  test('a changed file is taken, a wrong one is refused as a whole and said until it is right again', async () => {
    const { file, clock, taken, said, watch } = watching();
    await clock.advance(10_000);
    expect([taken, said]).toEqual([[], []]);
    writeFileSync(file, `${GOOD}reopenAfter: 1h\n`);
    await clock.advance(3_000);
    expect(taken.map(({ reopenAfterMs }) => reopenAfterMs)).toEqual([60 * MINUTE]);
    writeFileSync(file, `${GOOD}reopenAfter: soon\n`);
    await clock.advance(10_000);
    expect(taken).toHaveLength(1);
    expect(said).toEqual([
      'info: The routing was read again',
      'error: The changed routing file is refused as a whole; the previous routing stays in force',
    ]);
    expect(watch.refused()).toContain('reopenAfter');
    rmSync(file);
    await clock.advance(10_000);
    expect(said.slice(2)).toEqual(['warn: The routing file cannot be read; the present routing stays in force']);
    writeFileSync(file, GOOD);
    await clock.advance(3_000);
    expect([taken.length, watch.refused()]).toEqual([2, undefined]);
  });

  test('a calendar that changes is a change; asked for, it is looked at once', async () => {
    const ics = (who: string) =>
      [
        ...['BEGIN:VCALENDAR', 'BEGIN:VEVENT', 'UID:a', `SUMMARY:${who}`, 'DTSTART:20260302T090000', 'DURATION:P1W'],
        ...['RRULE:FREQ=WEEKLY', 'END:VEVENT', 'END:VCALENDAR', ''],
      ].join('\r\n');
    const calendar = join(folder, 'a.ics');
    writeFileSync(calendar, ics('ada'));
    const people = PEOPLE.replace(/, pagerDutyKey.*\}/, ' }');
    const { clock, taken, said, watch } = watching(
      `${people}teams: { ops: { rota: { calendarFile: ${calendar} } } }\n`,
    );
    await clock.advance(5_000);
    expect(taken).toEqual([]);
    writeFileSync(calendar, ics('ben'));
    await clock.advance(3_000);
    expect(taken[0]?.teams[0]?.rota?.calendar?.[0]?.primary).toBe('ben');
    writeFileSync(calendar, ics('nobody at all'));
    watch.look();
    expect(watch.refused()).toContain('names nobody of people');
    writeFileSync(calendar, ics('ada'));
    watch.look();
    expect([taken.length, watch.refused()]).toEqual([2, undefined]);
    watch.look();
    expect(said.at(-1)).toBe('info: The routing has not changed');
  });

  test('a calendar that is gone holds up no change of the file that names it no longer', async () => {
    const calendar = join(folder, 'a.ics');
    writeFileSync(
      calendar,
      [
        ...['BEGIN:VCALENDAR', 'BEGIN:VEVENT', 'UID:a', 'SUMMARY:ada', 'DTSTART:20260302T090000', 'DURATION:P1W'],
        ...['RRULE:FREQ=WEEKLY', 'END:VEVENT', 'END:VCALENDAR', ''],
      ].join('\r\n'),
    );
    const people = PEOPLE.replace(/, pagerDutyKey.*\}/, ' }');
    const { file, clock, taken, watch } = watching(
      `${people}teams: { ops: { rota: { calendarFile: ${calendar} } } }\n`,
    );
    await clock.advance(5_000);
    rmSync(calendar);
    writeFileSync(file, `${people}teams: { ops: { rota: { primary: [ben] } } }\n`);
    await clock.advance(5_000);
    expect(taken.map(({ teams }) => teams[0]?.rota?.primary)).toEqual([['ben']]);
    expect(watch.refused()).toBeUndefined();
  });
});
