// Being on call by example: whom a message names and reaches, what happens when nobody answers, what waits for business hours, what is quiet
// because somebody resolved it, and what is silenced. Every notification of a step is compared, so that none is sent beside those.
import { describe, expect, test } from 'vitest';
import { type IncidentRecord, previewSilence, type SilenceRecord } from '../../../src/incidents/incident.ts';
import type { GivenCommand, Plan } from '../../../src/incidents/machine.ts';
import { MINUTE, messages, type Rig, rig, routesFrom, rule, SECOND, seen, transitions } from './machine-kit.ts';

const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** A Tuesday, 03:00 in Berlin. Ada is on call, then Ben. */
const NIGHT = Date.parse('2026-03-03T02:00:00Z');
const at = (text: string) => Date.parse(`${text}Z`);

const ROUTING = `
hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada Lovelace, email: ada@example.org, slackId: U012AB3CD, pagerDutyKey: key-of-ada }
  ben: { name: Ben Hughes, email: ben@example.org, slackId: U045EF6GH }
teams:
  ops:
    name: Operations
    rota: { starts: 2026-03-02, primary: [ada, ben], secondary: [ben, ada] }
`;

const errors = rule('errors', { priority: 'P2', group: 'calls', cooldownMs: 10 * MINUTE });
const down = rule('down', { priority: 'P1', group: 'calls', cooldownMs: 5 * MINUTE, remindMs: 30 * MINUTE });
const slow = rule('slow', { priority: 'P3', group: 'speed' });
const trend = rule('trend', { priority: 'P4', group: 'trends' });
const RULES = [errors, down, slow, trend];

function onCall(yaml = ROUTING, without = /^$/, startMs = NIGHT): Rig {
  const r = rig(RULES, { routes: routesFrom(yaml, { without }) });
  r.now = startMs;
  return r;
}

type State = 'breached' | 'clear';

/** A step at that moment, in which these rules are breached and all others clear. */
function go(r: Rig, nowMs: number, breached: readonly string[] = [], commands: readonly GivenCommand[] = []): Plan {
  r.now = nowMs;
  const observations = RULES.map(({ id }) => seen(id, (breached.includes(id) ? 'breached' : 'clear') as State));
  return r.go({ observations, commands });
}

/** What a plan sends: `reason: channel, channel`, each decision once. */
function told(plan: Plan): string[] {
  const by = new Map<string, string[]>();
  for (const { channel, notification } of messages(plan)) {
    const key = `${notification.action} ${notification.reason}`;
    by.set(key, [...(by.get(key) ?? []), channel]);
  }
  return [...by].map(([key, channels]) => `${key}: ${channels.join(', ')}`);
}

const first = (plan: Plan) => messages(plan)[0]!.notification;
const named = (plan: Plan) => (first(plan).people ?? []).map(({ role, id }) => `${role} ${id}`);
const incidentOf = (r: Rig): IncidentRecord => r.machine.incidents().at(-1)!;

describe('an incident’s whole life', () => {
  test('P2 at 03:00, P1, the secondary, acknowledged, resolved, the daily mail: every notification, and none beside', () => {
    const r = onCall();
    go(r, NIGHT - MINUTE);
    const all: string[] = [];
    const note = (plan: Plan) => {
      for (const line of told(plan)) all.push(`${new Date(r.now).toISOString().slice(8, 16)} ${line}`);
      return plan;
    };
    /** Every 15 s. */
    const until = (endMs: number, breached: readonly string[]) => {
      for (let nowMs = r.now + 15 * SECOND; nowMs <= endMs; nowMs += 15 * SECOND) note(go(r, nowMs, breached));
    };

    const begins = note(go(r, NIGHT, ['errors']));
    expect(first(begins)).toMatchObject({
      priority: 'P2',
      team: 'ops',
      people: [{ role: 'primary', id: 'ada', name: 'Ada Lovelace', slackId: 'U012AB3CD' }],
      answerBy: NIGHT + HOUR,
    });
    until(NIGHT + 5 * MINUTE, ['errors']);
    const worse = note(go(r, NIGHT + 6 * MINUTE, ['errors', 'down']));
    // It is due as soon as a P1 is, and no later than it was.
    expect(first(worse)).toMatchObject({ priority: 'P1', reason: 'new-alerts', answerBy: NIGHT + 21 * MINUTE });
    until(NIGHT + 15 * MINUTE, ['errors', 'down']);
    expect(incidentOf(r).escalation).toEqual({ level: 1, atMs: NIGHT + 15 * MINUTE, sinceMs: NIGHT });
    until(NIGHT + 22 * MINUTE, ['errors', 'down']);
    expect(incidentOf(r).missed).toEqual({ atMs: NIGHT + 21 * MINUTE, priority: 'P1' });
    until(NIGHT + 45 * MINUTE, ['errors', 'down']);

    const { id } = incidentOf(r);
    const acknowledge = { kind: 'acknowledge', incidentId: id, by: 'link from #ops', via: 'link' } as const;
    const taken = note(go(r, NIGHT + 50 * MINUTE, ['errors', 'down'], [{ ...acknowledge, commandId: 'c1' }]));
    expect(first(taken)).toMatchObject({ by: 'link from #ops', action: 'acknowledge' });
    expect(taken.transitions[0]?.source).toMatchObject({
      transition: 'acknowledged',
      by: 'link from #ops',
      via: 'link',
      team: 'ops',
    });
    // Whoever comes second learns how it stands, and nobody is told again.
    const second = note(
      go(r, NIGHT + 51 * MINUTE, ['errors', 'down'], [{ ...acknowledge, by: 'ben', commandId: 'c2' }]),
    );
    expect(second.changes.find(({ key }) => key === 'command/c2')?.value).toEqual({
      id: 'c2',
      atMs: r.now,
      noChange: true,
    });
    until(NIGHT + 2 * HOUR, ['errors', 'down']);
    note(go(r, NIGHT + 2 * HOUR + MINUTE, []));
    until(at('2026-03-03T08:05'), []);

    expect(all).toEqual([
      '03T02:00 trigger first: slack, email, email:ada',
      '03T02:06 trigger new-alerts: pagerduty, slack, email, email:ada, pagerduty:ada',
      // Ben has no PagerDuty of his own.
      '03T02:15 trigger escalated: slack, email:ben',
      '03T02:45 trigger escalated: slack, email:ada, pagerduty:ada, email:ben',
      '03T02:50 acknowledge acknowledged: slack, email, email:ada, pagerduty, pagerduty:ada, email:ben',
      '03T04:01 resolve all-resolved: slack, email, email:ada, pagerduty, pagerduty:ada, email:ben',
      '03T08:00 inform daily: email, email:ada, email:ben',
    ]);
  });

  test('the escalation names the secondary, then both; each says for how long nobody has answered', () => {
    const r = onCall();
    go(r, NIGHT, ['errors']);
    expect(told(go(r, NIGHT + 15 * MINUTE - 250, ['errors']))).toEqual([]);
    const one = go(r, NIGHT + 15 * MINUTE, ['errors']);
    expect(named(one)).toEqual(['secondary ben']);
    expect(first(one)).toMatchObject({ action: 'trigger', reason: 'escalated', waitedMs: 15 * MINUTE, priority: 'P2' });
    expect(transitions(one)).toEqual([`${incidentOf(r).id}: escalated`]);
    const two = go(r, NIGHT + 45 * MINUTE, ['errors']);
    expect(named(two)).toEqual(['primary ada', 'secondary ben']);
    expect(first(two).waitedMs).toBe(45 * MINUTE);
    expect(told(go(r, NIGHT + 75 * MINUTE, ['errors']))).toEqual([
      'trigger escalated: slack, email:ada, pagerduty:ada, email:ben',
    ]);
  });
});

describe('nobody answers', () => {
  test('who takes over meanwhile is asked: the hand-off at 09:00 local time comes between', () => {
    const monday = at('2026-03-09T07:50');
    const r = onCall(ROUTING, /^$/, monday);
    expect(named(go(r, monday, ['errors']))).toEqual(['primary ada']);
    expect(named(go(r, monday + 15 * MINUTE, ['errors']))).toEqual(['secondary ada']);
    expect(named(go(r, monday + 45 * MINUTE, ['errors']))).toEqual(['primary ben', 'secondary ada']);
  });

  test('PagerDuty escalates itself where that is wanted; nobody is called where there is no rota, or for a P3', () => {
    const pagerduty = onCall(`${ROUTING}    escalation: { by: pagerduty }\n`);
    go(pagerduty, NIGHT, ['down']);
    // The reminder of the rule goes on.
    expect(told(go(pagerduty, NIGHT + 30 * MINUTE, ['down']))).toEqual([
      'trigger repeat: pagerduty, slack, email, email:ada, pagerduty:ada',
    ]);
    const alone = onCall('hours: { timeZone: Europe/Berlin }');
    go(alone, NIGHT, ['errors']);
    expect(told(go(alone, NIGHT + 5 * HOUR, ['errors']))).toEqual([]);
    const p3 = onCall(ROUTING, /^$/, at('2026-03-03T10:00'));
    expect(told(go(p3, p3.now, ['slow']))).toEqual(['trigger first: slack']);
    expect(told(go(p3, p3.now + 5 * HOUR, ['slow']))).toEqual([]);
  });

  test('somebody who cannot be reached is named all the same; without a secondary the primary is asked again', () => {
    const r = onCall(ROUTING.replace(', secondary: [ben, ada]', ''), /^(email:ada|pagerduty:ada)$/);
    expect(told(go(r, NIGHT, ['errors']))).toEqual(['trigger first: slack, email']);
    const again = go(r, NIGHT + 15 * MINUTE, ['errors']);
    expect(told(again)).toEqual(['trigger escalated: slack']);
    expect(named(again)).toEqual(['primary ada']);
  });

  test('what becomes worse than was acknowledged begins anew; what becomes no worse does not', () => {
    const r = onCall();
    go(r, NIGHT, ['errors']);
    const { id } = incidentOf(r);
    go(r, NIGHT + MINUTE, ['errors'], [{ kind: 'acknowledge', incidentId: id, by: 'ada' }]);
    expect(told(go(r, NIGHT + 40 * MINUTE, ['errors']))).toEqual([]);
    go(r, NIGHT + 41 * MINUTE, ['errors', 'down']);
    expect(told(go(r, NIGHT + 55 * MINUTE, ['errors', 'down']))).toEqual([]);
    expect(told(go(r, NIGHT + 56 * MINUTE, ['errors', 'down']))).toEqual(['trigger escalated: slack, email:ben']);
  });

  test('what was told before there was a rota, as by an earlier version, goes on to the secondary all the same', () => {
    const before = rig(RULES);
    before.now = NIGHT;
    before.go({ observations: [seen('errors', 'breached')] });
    const r = rig(RULES, { routes: routesFrom(ROUTING), store: before.store });
    expect(told(go(r, NIGHT + HOUR, ['errors']))).toEqual([]);
    expect(told(go(r, NIGHT + HOUR + 15 * MINUTE - 250, ['errors']))).toEqual([]);
    const plan = go(r, NIGHT + HOUR + 15 * MINUTE, ['errors']);
    expect(told(plan)).toEqual(['trigger escalated: slack, email:ben']);
    expect(first(plan).waitedMs).toBe(75 * MINUTE);
    // Nobody is asked again about what somebody has taken.
    const taken = rig(RULES, { store: before.store });
    const acknowledge = { kind: 'acknowledge', incidentId: 'incident1', by: 'ada' } as const;
    go(taken, NIGHT + HOUR, ['errors'], [acknowledge]);
    taken.machine.changeRoutes(routesFrom(ROUTING));
    for (const minutes of [61, 90, 120]) expect(told(go(taken, NIGHT + minutes * MINUTE, ['errors']))).toEqual([]);
  });

  test('what somebody took before anybody was told stays theirs, unless it has become worse', () => {
    const silence = { id: 's', group: 'calls', untilMs: NIGHT + 30 * MINUTE, by: 'ada', reason: 'known' };
    const muted = (then: readonly string[]) => {
      const r = onCall();
      go(r, NIGHT, [], [{ kind: 'silence', silence }]);
      go(r, NIGHT + MINUTE, ['errors']);
      const { id } = incidentOf(r);
      go(r, NIGHT + 2 * MINUTE, ['errors'], [{ kind: 'acknowledge', incidentId: id, by: 'ada' }]);
      return [30, 31, 45, 46].map((minutes) => told(go(r, NIGHT + minutes * MINUTE, then)));
    };
    expect(muted(['errors'])).toEqual([
      ['trigger first: slack, email, email:ada'],
      ['acknowledge acknowledged: slack, email, email:ada'],
      [],
      [],
    ]);
    expect(muted(['errors', 'down'])).toEqual([
      ['trigger first: pagerduty, slack, email, email:ada, pagerduty:ada'],
      [],
      ['trigger escalated: slack, email:ben'],
      [],
    ]);
  });

  test('a clock that is set neither hurries nor forgets it', () => {
    const r = onCall();
    go(r, NIGHT, ['errors']);
    // Two hours back, after five minutes: it counts from there.
    go(r, NIGHT + 5 * MINUTE, ['errors']);
    expect(told(go(r, NIGHT - 115 * MINUTE, ['errors']))).toEqual([]);
    expect(told(go(r, NIGHT - 101 * MINUTE, ['errors']))).toEqual([]);
    expect(told(go(r, NIGHT - 100 * MINUTE, ['errors']))).toEqual(['trigger escalated: slack, email:ben']);
    // An hour forward, which the brokers' clock skipped.
    r.now = NIGHT - 35 * MINUTE;
    const observations = [seen('errors', 'breached')];
    const skippedMs = (fromMs: number, toMs: number) =>
      fromMs < NIGHT - 99 * MINUTE && toMs > NIGHT - 99 * MINUTE ? HOUR : 0;
    expect(told(r.go({ observations, skippedMs }))).toEqual([]);
    r.now += 25 * MINUTE;
    expect(told(r.go({ observations, skippedMs }))).toEqual([
      'trigger escalated: slack, email:ada, pagerduty:ada, email:ben',
    ]);
  });

  test('not while it is silenced, nor while all of it is about to end; a silence that expires says how it stands, once', () => {
    const held = rule('errors', { priority: 'P2', group: 'calls', keepFiringMs: HOUR });
    const r = rig([held], { routes: routesFrom(ROUTING) });
    r.now = NIGHT;
    const step = (minutes: number, state: State, commands: readonly GivenCommand[] = []) => {
      r.now = NIGHT + minutes * MINUTE;
      return told(r.go({ observations: [seen('errors', state)], commands }));
    };
    step(0, 'breached');
    const silence = { id: 's', ruleId: 'errors', untilMs: NIGHT + 30 * MINUTE, by: 'ada', reason: 'known' };
    step(1, 'breached', [{ kind: 'silence', silence }]);
    expect(step(20, 'breached')).toEqual([]);
    expect(step(29, 'clear')).toEqual([]);
    expect(step(31, 'clear')).toEqual([]);
    expect(step(32, 'breached')).toEqual(['trigger escalated: slack, email:ben']);
    expect(step(33, 'breached')).toEqual([]);
  });
});

describe('business hours', () => {
  test('a P3 at night waits for 09:00 local time, if it is true then, and is told once', () => {
    const r = onCall();
    expect(transitions(go(r, NIGHT, ['slow']))).toEqual(['slow: firing', 'slow: held']);
    for (let nowMs = NIGHT + MINUTE; nowMs < at('2026-03-03T08:00'); nowMs += MINUTE) {
      const plan = go(r, nowMs, ['slow']);
      expect([...told(plan), ...transitions(plan)]).toEqual([]);
    }
    const morning = go(r, at('2026-03-03T08:00'), ['slow']);
    expect(told(morning)[0]).toBe('trigger first: slack');
    // Four business hours.
    expect(first(morning).answerBy).toBe(at('2026-03-03T12:00'));
    expect(told(go(r, at('2026-03-03T08:01'), ['slow']))).toEqual([]);
    // Its end is told at any time.
    expect(told(go(r, at('2026-03-03T20:00'), []))).toEqual(['resolve all-resolved: slack']);
  });

  test('one that is over before is dropped, and the history says so', () => {
    const r = onCall();
    go(r, NIGHT, ['slow']);
    const over = go(r, NIGHT + HOUR, []);
    expect(told(over)).toEqual([]);
    expect(transitions(over)).toEqual(['slow: resolved', `${incidentOf(r).id}: dropped`]);
    expect(told(go(r, at('2026-03-03T08:00'), [])).filter((line) => !line.startsWith('inform'))).toEqual([]);
  });

  test('a P2 that joins is told at once, with all there is', () => {
    const both = [rule('slow', { priority: 'P3', group: 'calls' }), errors];
    const r = rig(both, { routes: routesFrom(ROUTING) });
    r.now = NIGHT;
    r.go({ observations: [seen('slow', 'breached')] });
    r.now += MINUTE;
    const plan = r.go({ observations: [seen('slow', 'breached'), seen('errors', 'breached')] });
    expect(told(plan)).toEqual(['trigger first: slack, email, email:ada']);
    expect(first(plan).alerts.map(({ ruleId }) => ruleId)).toEqual(['errors', 'slow']);
  });

  test('an escalation of what goes in business hours alone waits for them, too', () => {
    const evening = at('2026-03-03T16:50');
    const r = onCall(`priorities: { P2: { businessHoursOnly: true } }\n${ROUTING}`, /^$/, evening);
    expect(told(go(r, evening, ['errors']))).toEqual(['trigger first: slack, email, email:ada']);
    expect(told(go(r, evening + 20 * MINUTE, ['errors']))).toEqual([]);
    expect(told(go(r, at('2026-03-04T07:59'), ['errors']))).toEqual([]);
    expect(told(go(r, at('2026-03-04T08:00'), ['errors']))[0]).toBe('trigger escalated: slack, email:ben');
  });

  test('on a Friday evening it waits until Monday', () => {
    const friday = at('2026-03-27T17:00');
    const r = onCall(ROUTING, /^$/, friday);
    expect(told(go(r, friday, ['slow']))).toEqual([]);
    for (const time of ['2026-03-28T10:00', '2026-03-29T10:00', '2026-03-30T06:59']) {
      expect(
        told(go(r, at(time), ['slow'])).filter((line) => !line.startsWith('inform')),
        time,
      ).toEqual([]);
    }
    // Meanwhile summer time has begun.
    expect(told(go(r, at('2026-03-30T07:00'), ['slow']))).toContain('trigger first: slack');
  });
});

describe('resolved by hand while it is true', () => {
  const resolve = (r: Rig): GivenCommand => ({
    ...{ kind: 'resolve', incidentId: incidentOf(r).id, evenIfTrue: true, by: 'ben', via: 'api' },
  });

  test('its channels hear of the end, it is quiet for 30 minutes, then the same incident reopens and says so', () => {
    const r = onCall();
    const begins = go(r, NIGHT, ['errors']);
    const quiet = go(r, NIGHT + MINUTE, ['errors'], [resolve(r)]);
    expect(told(quiet)).toEqual(['resolve all-resolved: slack, email, email:ada']);
    expect(first(quiet)).toMatchObject({
      by: 'ben',
      message: expect.stringMatching(/^Resolved by hand by ben, though it is still true: it is quiet for 30 min/),
    });
    expect(quiet.transitions.find(({ source }) => source.transition === 'quiet')?.source).toMatchObject({
      by: 'ben',
      via: 'api',
    });
    for (let minute = 2; minute < 31; minute++) expect(told(go(r, NIGHT + minute * MINUTE, ['errors']))).toEqual([]);
    const again = go(r, NIGHT + 31 * MINUTE, ['errors']);
    expect(told(again)).toEqual(['trigger reopened: slack, email, email:ada']);
    expect(first(again)).toMatchObject({
      dedupKey: first(begins).dedupKey,
      by: 'ben',
      waitedMs: 30 * MINUTE,
      answerBy: NIGHT + 91 * MINUTE,
    });
    expect(incidentOf(r)).toMatchObject({ reopened: 1, state: 'open' });
    expect(incidentOf(r).quiet).toBeUndefined();
    expect(told(go(r, NIGHT + 46 * MINUTE, ['errors']))).toEqual(['trigger escalated: slack, email:ben']);
  });

  test('a worse priority reopens it at once; another P2 does not', () => {
    const other = rule('other', { priority: 'P2', group: 'calls' });
    const r = rig([errors, other, down], { routes: routesFrom(ROUTING) });
    r.now = NIGHT;
    const step = (minutes: number, ids: readonly string[], commands: readonly GivenCommand[] = []) => {
      r.now = NIGHT + minutes * MINUTE;
      return told(r.go({ observations: ids.map((id) => seen(id, 'breached')), commands }));
    };
    step(0, ['errors']);
    step(1, ['errors'], [resolve(r)]);
    expect(step(2, ['errors', 'other'])).toEqual([]);
    expect(step(3, ['errors', 'other', 'down'])).toEqual([
      'trigger reopened: pagerduty, slack, email, email:ada, pagerduty:ada',
    ]);
  });

  test('what clears meanwhile is over, without another word; what is unknown at the end waits', () => {
    const r = onCall();
    go(r, NIGHT, ['errors']);
    go(r, NIGHT + MINUTE, ['errors'], [resolve(r)]);
    const over = go(r, NIGHT + 10 * MINUTE, []);
    expect(told(over)).toEqual([]);
    expect(incidentOf(r)).toMatchObject({ state: 'resolved', resolvedMs: NIGHT + 10 * MINUTE });
    // Soon after it begins again as after any end.
    expect(told(go(r, NIGHT + 12 * MINUTE, ['errors']))).toEqual(['trigger new-alerts: slack, email, email:ada']);

    const unsure = onCall();
    go(unsure, NIGHT, ['errors']);
    go(unsure, NIGHT + MINUTE, ['errors'], [resolve(unsure)]);
    unsure.now = NIGHT + 40 * MINUTE;
    expect(told(unsure.go({ observations: [seen('errors', 'unknown')] }))).toEqual([]);
    expect(told(go(unsure, NIGHT + 41 * MINUTE, ['errors']))).toEqual(['trigger reopened: slack, email, email:ada']);
  });

  test('what is not true any more ends; without evenIfTrue it is refused; twice changes nothing', () => {
    const r = onCall();
    go(r, NIGHT, ['errors']);
    const { id } = incidentOf(r);
    const plan = go(r, NIGHT + MINUTE, ['errors'], [{ kind: 'resolve', incidentId: id, by: 'ben', commandId: 'c' }]);
    expect(plan.refused.map(({ why }) => why)).toEqual([expect.stringContaining('is true now')]);
    go(r, NIGHT + 2 * MINUTE, ['errors'], [resolve(r)]);
    const twice = go(r, NIGHT + 3 * MINUTE, ['errors'], [{ ...resolve(r), commandId: 'd' }]);
    expect(twice.changes).toEqual([{ key: 'command/d', value: { id: 'd', atMs: r.now, noChange: true } }]);
    const unknown = go(r, NIGHT + 4 * MINUTE, ['errors'], [{ kind: 'resolve', incidentId: 'none', by: 'ben' }]);
    expect(unknown.refused.map(({ why }) => why)).toEqual(['there is no incident none']);

    const held = rig([rule('errors', { priority: 'P2', keepFiringMs: HOUR })], { routes: routesFrom(ROUTING) });
    held.go({ observations: [seen('errors', 'breached')] });
    held.now += MINUTE;
    const ends = held.go({ observations: [seen('errors', 'clear')], commands: [resolve(held)] });
    expect(told(ends)).toEqual(['resolve all-resolved: slack, email, email:ada']);
    expect(held.machine.alerts()).toEqual([]);
  });
});

test('resolving looks at what is true once, not once for every alert that fires', () => {
  const many = rule('many', { group: 'calls', maxAlerts: 200 });
  const r = rig([many], { routes: routesFrom(ROUTING) });
  let looks = 0;
  const counted = (host: string) =>
    new Proxy<Record<string, string>>(
      { host },
      {
        ownKeys: (labels) => {
          looks += 1;
          return Reflect.ownKeys(labels);
        },
      },
    );
  const observations = Array.from({ length: 200 }, (_, i) => seen('many', 'breached', { host: `web-${i}` }));
  r.go({ observations });
  const again = observations.map((one, i) => ({ ...one, labels: counted(`web-${i}`) }));
  r.go({ observations: again });
  const before = looks;
  r.go({
    observations: again,
    commands: [{ kind: 'resolve', incidentId: incidentOf(r).id, evenIfTrue: true, by: 'ada' }],
  });
  expect(incidentOf(r).quiet?.by).toBe('ada');
  expect(looks - before).toBeLessThanOrEqual(before + 400);
});

describe('teams', () => {
  const TWO = `${ROUTING}  pay:
    slackWebhookUrl: https://hooks.example.org/pay
    emailTo: [pay@example.org]
defaultTeam: ops
routes:
  - { match: { labels: { tenantId: [acme, globex] } }, team: pay }
  - { match: { rule: never, environment: elsewhere }, team: pay }
`;
  const tenants = rule('tenants', { priority: 'P2', group: 'tenants', maxAlerts: 5 });

  test('a team per tenant: alerts of one group are an incident for each team, each at its own destinations', () => {
    const r = rig([tenants], { routes: routesFrom(TWO) });
    r.now = NIGHT;
    const observations = ['acme', 'initech', 'globex'].map((tenantId) => seen('tenants', 'breached', { tenantId }));
    const plan = r.go({ observations });
    expect(plan.decisions.map(({ notification: n, channels }) => [n.team, n.alerts.length, channels.join()])).toEqual([
      ['pay', 2, 'slack:pay,email:pay'],
      ['ops', 1, 'slack,email,email:ada'],
    ]);
    r.now += MINUTE;
    expect(
      told(r.go({ observations: observations.slice(0, 1).concat(seen('tenants', 'clear', { tenantId: 'initech' })) })),
    ).toEqual(['resolve all-resolved: slack, email, email:ada']);
  });

  test('routing that changes moves no open incident, and reaches the next one', () => {
    const r = rig([tenants], { routes: routesFrom(TWO) });
    r.now = NIGHT;
    const observations = [seen('tenants', 'breached', { tenantId: 'acme' })];
    r.go({ observations });
    r.machine.changeRoutes(routesFrom(ROUTING));
    r.now += 20 * MINUTE;
    expect(told(r.go({ observations: [seen('tenants', 'clear', { tenantId: 'acme' })] }))).toEqual([
      'resolve all-resolved: slack:pay, email:pay',
    ]);
    r.now += 20 * MINUTE;
    expect(r.go({ observations }).decisions.map(({ notification: n }) => n.team)).toEqual(['ops']);
  });

  test('an incident from before there was routing goes on as the default team’s', () => {
    const before = rig([errors, down]);
    before.go({ observations: [seen('errors', 'breached')] });
    const after = rig([errors, down], { routes: routesFrom(TWO), store: before.store });
    after.now = before.now + MINUTE;
    const plan = after.go({ observations: [seen('errors', 'breached'), seen('down', 'breached')] });
    expect(after.machine.incidents()).toHaveLength(1);
    expect(told(plan)).toEqual(['trigger new-alerts: pagerduty, slack, email, email:ada, pagerduty:ada']);
  });
});

describe('silences', () => {
  const silence = (more: Partial<SilenceRecord>): GivenCommand => ({
    kind: 'silence',
    silence: { id: 's', untilMs: NIGHT + DAY, by: 'ada', reason: 'planned', ...more },
    via: 'cli',
  });
  const muted = (more: Partial<SilenceRecord>, breached: string, environment?: string) => {
    const r = rig(RULES, { routes: routesFrom(ROUTING), ...(environment === undefined ? {} : { environment }) });
    r.now = NIGHT;
    return told(go(r, NIGHT, [breached], [silence(more)])).length === 0;
  };

  test('by rule, group, priority, labels and environment; each that is given must match', () => {
    expect(muted({ ruleId: 'errors' }, 'errors')).toBe(true);
    expect(muted({ group: 'calls' }, 'down')).toBe(true);
    expect(muted({ priority: 'P2' }, 'errors')).toBe(true);
    expect(muted({ priority: 'P2' }, 'down')).toBe(false);
    expect(muted({ ruleId: 'errors', priority: 'P1' }, 'errors')).toBe(false);
    expect(muted({ environment: 'test' }, 'errors')).toBe(true);
    expect(muted({ environment: 'staging' }, 'errors')).toBe(false);
    expect(muted({ environment: 'staging' }, 'errors', 'staging')).toBe(true);
    expect(muted({ ruleId: 'errors', labels: { host: 'a' } }, 'errors')).toBe(false);
  });

  test('who set it, by which way, what it matches and why is in the history; so is who removed it', () => {
    const r = onCall();
    const set = go(r, NIGHT, [], [silence({ ruleId: 'errors', labels: { host: 'a' }, fromMs: NIGHT + HOUR })]);
    expect(set.transitions.map(({ source }) => source)).toEqual([
      {
        '@timestamp': '2026-03-03T02:00:00.000Z',
        transition: 'silence set',
        environment: 'test',
        silence: {
          id: 's',
          matches: 'rule=errors host=a',
          from: '2026-03-03T03:00:00.000Z',
          until: '2026-03-04T02:00:00.000Z',
          reason: 'planned',
        },
        by: 'ada',
        via: 'cli',
      },
    ]);
    const removed = go(r, NIGHT + MINUTE, [], [{ kind: 'unsilence', id: 's', by: 'ben', via: 'api' }]);
    expect(removed.transitions[0]?.source).toMatchObject({ transition: 'silence removed', by: 'ben', via: 'api' });
    expect(r.machine.silences()).toEqual([]);
  });

  test('begins when it says, and what it muted is told at its end in one message per incident', () => {
    const r = onCall();
    go(r, NIGHT, [], [silence({ group: 'calls', fromMs: NIGHT + HOUR, untilMs: NIGHT + 2 * HOUR })]);
    expect(told(go(r, NIGHT + 59 * MINUTE, ['errors']))).toHaveLength(1);
    expect(told(go(r, NIGHT + HOUR, ['errors', 'down']))).toEqual([]);
    expect(told(go(r, NIGHT + 2 * HOUR - 1, ['errors', 'down']))).toEqual([]);
    const resumed = go(r, NIGHT + 2 * HOUR, ['errors', 'down']);
    // In the silence the secondary would have been told, too: that comes along.
    expect(told(resumed)).toEqual(['trigger escalated: pagerduty, slack, email, email:ada, pagerduty:ada, email:ben']);
    expect(first(resumed)).toMatchObject({ priority: 'P1', joined: ['Title of down'] });
    expect(told(go(r, NIGHT + 2 * HOUR + 500, ['errors', 'down']))).toEqual([]);
  });

  test('one that lasts for ever, has ended, or begins after its end is refused in words', () => {
    const r = onCall();
    const wrong = [
      silence({ ruleId: 'errors', untilMs: NIGHT }),
      silence({ ruleId: 'errors', untilMs: NIGHT + 400 * DAY }),
      silence({ ruleId: 'errors', fromMs: NIGHT + 2 * DAY }),
      silence({}),
    ];
    expect(go(r, NIGHT, [], wrong).refused.map(({ why }) => why)).toEqual([
      'the silence has ended already',
      'a silence lasts 366 days at most',
      'the silence ends before it begins',
      'a silence names a rule, a group, labels, a priority or an environment',
    ]);
  });

  test('maintenance mutes what it matches from each time of its cron on, and only then', () => {
    const nightly = `${ROUTING}maintenance:
  - { id: backup, cron: '0 3 * * *', duration: 45m, match: { rule: errors }, reason: nightly backup }
`;
    const r = onCall(nightly);
    const plan = go(r, NIGHT, ['errors']);
    expect(told(plan)).toEqual([]);
    expect(transitions(plan)).toEqual(['errors: firing', 'errors: silenced']);
    expect(told(go(r, NIGHT + MINUTE, ['errors', 'slow', 'down']))).toEqual([
      'trigger first: pagerduty, slack, email, email:ada, pagerduty:ada',
    ]);
    go(r, NIGHT + 44 * MINUTE, ['errors', 'down']);
    expect(r.machine.alerts().find(({ ruleId }) => ruleId === 'errors')?.muted).toBe('silenced');
    go(r, NIGHT + 45 * MINUTE, ['errors', 'down']);
    expect(r.machine.alerts().find(({ ruleId }) => ruleId === 'errors')?.muted).toBeUndefined();
  });

  test('a preview says what it would mute now, and would have muted in the last day', () => {
    const r = onCall();
    go(r, NIGHT, ['errors', 'slow']);
    go(r, NIGHT + HOUR, ['slow']);
    go(r, NIGHT + 2 * HOUR, ['down', 'slow']);
    const preview = (match: Partial<SilenceRecord>, nowMs: number, environment = 'test') => {
      const { now, lastDay } = previewSilence(match, r.machine.alerts(), r.machine.incidents(), { nowMs, environment });
      return [now.map(({ key }) => key), lastDay.map(({ alert }) => alert.ruleId)];
    };
    expect(preview({ group: 'calls' }, r.now)).toEqual([['down'], ['errors']]);
    expect(preview({ priority: 'P3' }, r.now)).toEqual([['slow'], []]);
    expect(preview({ ruleId: 'errors' }, NIGHT + HOUR + DAY - 1)).toEqual([[], ['errors']]);
    expect(preview({ ruleId: 'errors' }, NIGHT + HOUR + DAY)).toEqual([[], []]);
    expect(preview({ group: 'calls', environment: 'staging' }, r.now)).toEqual([[], []]);
  });
});
