// The daily mail: what it says, when it comes, and that none is lost or sent twice; and a year on call, with both changes of daylight
// saving, incidents at random, and leaders that die between any two steps. What is expected of the year is computed here by the platform's own
// time zones, from the calendar date.
import { describe, expect, test } from 'vitest';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import {
  type AlertMachine,
  createAlertMachine,
  type GivenCommand,
  type StepInput,
} from '../../../src/incidents/machine.ts';
import type { Notification } from '../../../src/incidents/notification.ts';
import type { OutboxResult, StateKey } from '../../../src/incidents/records.ts';
import { parseRouting } from '../../../src/oncall/routing.ts';
import { MINUTE, messages, type Rig, rig, routesFrom, routesOfRouting, rule, save, seen } from './machine-kit.ts';

const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const at = (text: string) => Date.parse(`${text}Z`);

const ROUTING = `
hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada, email: ada@example.org }
  ben: { name: Ben, email: ben@example.org }
  cleo: { name: Cleo, email: cleo@example.org }
teams:
  ops:
    rota: { starts: 2026-01-05, primary: [ada, ben, cleo], secondary: [ben, cleo, ada] }
`;
const RULES = [
  rule('errors', { priority: 'P2', group: 'calls' }),
  rule('slow', { priority: 'P3', group: 'speed' }),
  rule('trend', { priority: 'P4', group: 'trends' }),
];

function onCall(startMs: number, yaml = ROUTING, without = /^$/): Rig {
  const r = rig(RULES, { routes: routesFrom(yaml, { nowMs: startMs, without }) });
  r.now = startMs;
  r.go();
  return r;
}

function go(r: Rig, nowMs: number, breached: readonly string[] = [], commands: readonly GivenCommand[] = []) {
  r.now = nowMs;
  return r.go({
    observations: RULES.map(({ id }) => seen(id, breached.includes(id) ? 'breached' : 'clear')),
    commands,
  });
}

const mails = (plan: ReturnType<typeof go>) =>
  messages(plan)
    .filter(({ notification }) => notification.action === 'inform')
    .map(({ channel, notification }) => ({ channel, notification }));

describe('the daily mail', () => {
  test('says who is on call and what comes, what happened, was held, collected and not answered', () => {
    const r = onCall(at('2026-03-07T12:00'));
    // A Saturday: a P3 that is over on the same day, a P4, and a P2 that is acknowledged after two hours.
    go(r, at('2026-03-07T13:00'), ['slow', 'trend', 'errors']);
    go(r, at('2026-03-07T14:00'), ['trend', 'errors']);
    const id = r.machine.incidents().find(({ group }) => group === 'calls')!.id;
    go(r, at('2026-03-07T15:00'), ['trend', 'errors'], [{ kind: 'acknowledge', incidentId: id, by: 'ada' }]);
    go(r, at('2026-03-07T16:00'), ['trend']);
    const plan = go(r, at('2026-03-08T08:00'), ['trend']);
    expect(mails(plan).map(({ channel }) => channel)).toEqual(['email', 'email:cleo', 'email:ada']);
    const { notification } = mails(plan)[0]!;
    expect(notification).toEqual({
      incidentId: 'daily-ops-2026-03-08',
      dedupKey: `logpipe/daily-ops-${at('2026-03-08T08:00')}`,
      action: 'inform',
      reason: 'daily',
      severity: 'info',
      priority: 'P4',
      title: 'On call for ops, Sun 2026-03-08',
      message:
        'Since Sat 2026-03-07 09:00: 1 incident, 1 not answered in time, 1 held outside business hours, 1 in the digest.',
      atMs: at('2026-03-08T08:00'),
      environment: 'test',
      alerts: [],
      joined: [],
      team: 'ops',
      report: [
        { heading: 'On call', lines: ['now: Cleo, then Ada'] },
        {
          heading: 'Not answered in time',
          lines: ['P2 Title of errors: due Sat 2026-03-07 15:00, acknowledged since, by ada'],
        },
        {
          heading: 'Incidents',
          lines: ['P2 Title of errors: from Sat 2026-03-07 14:00, over after 3 h, acknowledged by ada'],
        },
        {
          heading: 'Held outside business hours',
          lines: ['P3 Title of slow: from Sat 2026-03-07 14:00, over before business hours, so nobody was told'],
        },
        { heading: 'Daily digest', lines: ['P4 Title of trend: from Sat 2026-03-07 14:00, goes on for 19 h'] },
      ],
    } satisfies Notification);
    // The next one has only what is new, or goes on; and on Monday who comes and who goes.
    const monday = mails(go(r, at('2026-03-09T08:00'), ['trend']));
    expect(monday.map(({ channel }) => channel)).toEqual(['email', 'email:ada', 'email:ben', 'email:cleo']);
    expect(monday[0]!.notification.report).toEqual([
      {
        heading: 'On call',
        lines: ['now: Ada, then Ben', 'since the last mail: Ada, then Ben came, Cleo, then Ada went'],
      },
      { heading: 'Daily digest', lines: ['P4 Title of trend: from Sat 2026-03-07 14:00, goes on for 1 d 19 h'] },
    ]);
  });

  test('announces what changes within the day', () => {
    const overridden = `${ROUTING.trimEnd().slice(0, -1)}, overrides: [{ from: 2026-03-10T18:00, until: 2026-03-11T08:00, primary: ben }] }\n`;
    const r = onCall(at('2026-03-09T12:00'), overridden);
    const [mail] = mails(go(r, at('2026-03-10T08:00')));
    expect(mail!.notification.report![0]!.lines).toEqual([
      'now: Ada, then Ben',
      'from Tue 2026-03-10 18:00: Ben, then Ben',
      'from Wed 2026-03-11 08:00: Ada, then Ben',
    ]);
  });

  test('goes to nobody where nobody can get it, and is not sent where there is nobody on call and nothing to say', () => {
    const nobody = onCall(at('2026-03-09T12:00'), ROUTING, /^email/);
    expect(mails(go(nobody, at('2026-03-10T08:00'), ['trend']))).toEqual([]);
    const without = onCall(at('2026-03-09T12:00'), 'hours: { timeZone: Europe/Berlin }');
    expect(mails(go(without, at('2026-03-10T08:00')))).toEqual([]);
    go(without, at('2026-03-10T09:00'), ['trend']);
    const [mail] = mails(go(without, at('2026-03-11T08:00'), ['trend']));
    expect(mail).toMatchObject({ channel: 'email', notification: { report: [{ heading: 'Daily digest' }] } });
  });

  test('what was missed while nothing ran is made up for once; the first start has missed nothing', () => {
    const r = onCall(at('2026-03-09T12:00'));
    r.restart();
    const late = mails(go(r, at('2026-03-13T15:00')));
    expect(late.filter(({ channel }) => channel === 'email')).toHaveLength(1);
    expect(late[0]!.notification.message).toContain('Since Mon 2026-03-09 09:00');
    expect(mails(go(r, at('2026-03-13T15:01')))).toEqual([]);
    expect(mails(go(r, at('2026-03-14T07:59')))).toEqual([]);
    expect(mails(go(r, at('2026-03-14T08:00')))).not.toEqual([]);
  });

  test('a clock that is set back sends none again, one that was days ahead loses none', () => {
    const r = onCall(at('2026-03-09T12:00'));
    const count = (nowMs: number) => mails(go(r, nowMs)).filter(({ channel }) => channel === 'email').length;
    expect(count(at('2026-03-10T08:10'))).toBe(1);
    expect(count(at('2026-03-10T07:30'))).toBe(0);
    expect(count(at('2026-03-10T08:00'))).toBe(0);
    expect(count(at('2026-03-11T08:00'))).toBe(1);
    // Ten days ahead by mistake, then back.
    expect(count(at('2026-03-21T09:00'))).toBe(1);
    expect(count(at('2026-03-11T09:00'))).toBe(0);
    expect(count(at('2026-03-12T07:59'))).toBe(0);
    expect(count(at('2026-03-12T08:00'))).toBe(1);
  });

  test('its secrets are masked, and its length is bounded', () => {
    const many = Array.from({ length: 100 }, (_, i) =>
      rule(`r${i}`, { priority: 'P4', title: `Key AKIAIOSFODNN7EXAMPLE ${i}` }),
    );
    const r = rig(many, { routes: routesFrom(ROUTING, { nowMs: at('2026-03-09T12:00') }) });
    r.now = at('2026-03-09T12:00');
    r.go({ observations: many.map(({ id }) => seen(id, 'breached')) });
    r.now = at('2026-03-10T08:00');
    const [mail] = messages(r.go()).map(({ notification }) => notification);
    const digest = mail!.report!.find(({ heading }) => heading === 'Daily digest')!;
    expect(digest.lines).toHaveLength(41);
    expect(digest.lines.at(-1)).toBe('and 60 more');
    expect(JSON.stringify(mail)).not.toContain('AKIA');
  });
});

// ---- a year ----

const TICK = 5 * MINUTE;
const YEAR_FROM = at('2025-12-31T23:00');
const YEAR_UNTIL = at('2026-12-31T23:00');

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const BERLIN = new Intl.DateTimeFormat('en-GB', {
  timeZone: 'Europe/Berlin',
  ...{ year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
});

/** Local date as a number of days, and minutes after midnight. */
function berlin(ms: number): { day: number; minute: number } {
  const part = Object.fromEntries(BERLIN.formatToParts(ms).map(({ type, value }) => [type, Number(value)])) as Record<
    string,
    number
  >;
  return { day: Date.UTC(part.year!, part.month! - 1, part.day!) / DAY, minute: part.hour! * 60 + part.minute! };
}

/** Week by week from Monday 2026-01-05, 09:00. */
function primaryAt(ms: number): string {
  const { day, minute } = berlin(ms);
  const begun = minute >= 540 ? day : day - 1;
  const weeks = Math.floor((begun - Date.UTC(2026, 0, 5) / DAY) / 7);
  return ['ada', 'ben', 'cleo'].at(weeks % 3)!;
}
const AFTER: Record<string, string> = { ada: 'ben', ben: 'cleo', cleo: 'ada' };

interface Outage {
  readonly fromMs: number;
  readonly ackMs: number | undefined;
  readonly untilMs: number;
}

function outages(next: () => number): Outage[] {
  const all: Outage[] = [];
  const ticks = (most: number) => Math.floor(next() * most) * TICK;
  for (let fromMs = YEAR_FROM + TICK + ticks(600); fromMs < YEAR_UNTIL - 4 * DAY; fromMs += 2 * HOUR + ticks(2_000)) {
    const untilMs = fromMs + TICK + ticks(30);
    const ackMs = next() < 0.5 ? fromMs + TICK + ticks((untilMs - fromMs) / TICK) : undefined;
    all.push({ fromMs, ackMs: ackMs !== undefined && ackMs < untilMs ? ackMs : undefined, untilMs });
    fromMs = untilMs;
  }
  return all;
}

/** `time reason channels`, as they are to arrive. */
function expected(all: readonly Outage[]): string[] {
  const lines: [number, string, string[]][] = [];
  for (const { fromMs, ackMs, untilMs } of all) {
    const first = primaryAt(fromMs);
    const open = new Set(['slack', 'email', `email:${first}`]);
    lines.push([fromMs, 'first', [...open]]);
    for (let level = 0; ; level++) {
      const dueMs = fromMs + 15 * MINUTE + level * 30 * MINUTE;
      if (dueMs >= (ackMs ?? untilMs)) break;
      const primary = primaryAt(dueMs);
      const called = level === 0 ? [AFTER[primary]!] : [primary, AFTER[primary]!];
      const channels = ['slack', ...called.map((id) => `email:${id}`)];
      for (const channel of channels) open.add(channel);
      lines.push([dueMs, 'escalated', channels]);
    }
    if (ackMs !== undefined) lines.push([ackMs, 'acknowledged', [...open]]);
    lines.push([untilMs, 'all-resolved', [...open]]);
  }
  return lines
    .map(([ms, reason, channels]) => `${new Date(ms).toISOString()} ${reason} ${channels.sort().join()}`)
    .sort();
}

describe('a year on call', () => {
  test.each([1, 2, 3])(
    'one mail a day at 09:00 local time, every escalation at its time, none lost or doubled over dying leaders (seed %i)',
    (seed) => {
      const next = random(seed);
      const all = outages(next);
      expect(all.length).toBeGreaterThan(60);
      const store = new Map<StateKey, object>();
      const errors = rule('errors', { priority: 'P2', group: 'calls', cooldownMs: 0 });
      const routing = parseRouting(ROUTING, {}, 'routing.yml', YEAR_FROM);
      let ids = 0;
      let leaders = 0;
      /** Only what is stored; in another order each time. */
      const lead = (): AlertMachine => {
        leaders += 1;
        return createAlertMachine([errors], new Map([...store].reverse()), {
          nextId: () => `incident${String(++ids).padStart(4, '0')}`,
          environment: 'test',
          routes: routesOfRouting(routing),
          masker: createMasker(),
          history: false,
        });
      };
      /** What channels got, by the entry's id, which is all that a repetition is told by. */
      const got = new Map<string, { ms: number; channel: string; notification: Notification }>();
      let results: OutboxResult[] = [];
      let machine = lead();
      const send = (leader: AlertMachine, nowMs: number) => {
        for (const { id, channel, notification } of leader.waiting()) {
          if (notification === undefined) continue;
          const before = got.get(id);
          if (before === undefined) got.set(id, { ms: nowMs, channel, notification });
          else expect(before.notification).toEqual(notification);
        }
        return leader.waiting().map(({ id }) => ({ id, result: { ok: true } as const }));
      };

      let position = 0;
      // Every hour, and during an outage every five minutes.
      const later = (ms: number) => {
        const { fromMs = Number.POSITIVE_INFINITY, untilMs = 0 } = all.find((one) => one.untilMs >= ms) ?? {};
        const hour = ms - (ms % HOUR) + HOUR;
        return fromMs <= ms && ms <= untilMs ? ms + TICK : Math.min(hour, fromMs);
      };
      for (let nowMs = YEAR_FROM; nowMs < YEAR_UNTIL; nowMs = later(nowMs)) {
        while (all[position] !== undefined && all[position]!.untilMs < nowMs) position += 1;
        const outage = all[position];
        const breached = outage !== undefined && outage.fromMs <= nowMs && nowMs < outage.untilMs;
        const [open] = machine.incidents().filter(({ state }) => state === 'open');
        const input: StepInput = {
          evalMs: nowMs,
          wallMs: nowMs,
          observations: [seen('errors', breached ? 'breached' : 'clear')],
          commands:
            outage?.ackMs === nowMs && open !== undefined
              ? [{ kind: 'acknowledge', incidentId: open.id, by: 'ada', commandId: `c${position}` }]
              : [],
        };
        const dies = next() < 0.1 ? Math.floor(next() * 4) : undefined;
        // Dies before anything is durable: the successor decides it all again.
        if (dies === 0) {
          machine.step({ ...input, results });
          machine = lead();
        }
        const plan = machine.step({ ...input, results });
        save(store, plan);
        // Dies once it is durable, and before it sends.
        if (dies === 1) machine = lead();
        else machine.accept(plan);
        results = send(machine, nowMs);
        // Dies when it has sent, and before that is durable: the successor sends again, what it sends is the same.
        if (dies === 2) {
          machine = lead();
          results = send(machine, nowMs);
        }
        // Dies, and its successor takes a command again that was obeyed already.
        if (dies === 3) {
          machine = lead();
          const again = machine.step({ ...input, results });
          save(store, again);
          machine.accept(again);
          results = send(machine, nowMs);
        }
      }
      expect(leaders).toBeGreaterThan(500);

      const arrived = new Map<string, string[]>();
      const daily: number[] = [];
      for (const { ms, channel, notification } of got.values()) {
        expect(ms, 'sent when it was decided').toBe(notification.atMs);
        if (notification.action === 'inform') {
          if (channel === 'email') daily.push(ms);
          continue;
        }
        const key = `${new Date(ms).toISOString()} ${notification.reason}`;
        arrived.set(key, [...(arrived.get(key) ?? []), channel]);
        const role = notification.people?.find((person) => person.role === 'primary');
        if (role !== undefined) expect(role.id).toBe(primaryAt(ms));
      }
      expect([...arrived].map(([key, channels]) => `${key} ${channels.sort().join()}`).sort()).toEqual(expected(all));
      // One a day, each at nine.
      expect(new Set(daily.map((ms) => berlin(ms).minute))).toEqual(new Set([540]));
      expect(daily.map((ms) => berlin(ms).day)).toEqual(
        Array.from({ length: 365 }, (_, i) => Date.UTC(2026, 0, 1) / DAY + i),
      );
    },
    120_000,
  );
});
