// The alert machine by example: what people get to see of pending, firing, flapping, escalation, mutes and ends.

import { describe, expect, test } from 'vitest';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { FORGET_MS, type IncidentRecord } from '../../../src/incidents/incident.ts';
import { createAlertMachine } from '../../../src/incidents/machine.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import type { Why } from '../../../src/rules/rule-types.ts';
import { MINUTE, messages, type Rig, rig, rule, SECOND, START, seen, transitions } from './machine-kit.ts';

const DAY = 86_400_000;
const failures = rule('failures', {
  priority: 'P1',
  group: 'calls',
  forMs: 30 * SECOND,
  keepFiringMs: 2 * MINUTE,
  cooldownMs: 5 * MINUTE,
  remindMs: 30 * MINUTE,
});
const success = rule('success', { group: 'calls' });
const tenants = rule('tenants', { priority: 'P3', group: 'tenants', maxAlerts: 3 });
const tenant = (tenantId: string) => ({ tenantId });

describe('one alert', () => {
  test('pending, firing, held, resolved: one trigger and one resolve for each channel', () => {
    const r = rig([failures]);
    const at = (seconds: number, state: 'breached' | 'clear' | 'unknown') => {
      r.now = START + seconds * SECOND;
      return r.go({ observations: [seen('failures', state)] });
    };
    expect(transitions(at(0, 'breached'))).toEqual(['failures: pending']);
    expect(at(10, 'breached').changes).toEqual([]);
    const fires = at(30, 'breached');
    expect(transitions(fires)).toEqual(['failures: firing']);
    expect(r.sent(fires)).toEqual(['pagerduty trigger first', 'slack trigger first', 'email trigger first']);
    const [first] = messages(fires);
    expect(first?.notification).toEqual({
      incidentId: 'incident1',
      dedupKey: 'logpipe/incident1',
      action: 'trigger',
      reason: 'first',
      severity: 'critical',
      priority: 'P1',
      title: 'Title of failures',
      message: 'failures is over',
      atMs: START + 30 * SECOND,
      environment: 'test',
      alerts: [
        {
          ruleId: 'failures',
          title: 'Title of failures',
          priority: 'P1',
          labels: {},
          state: 'firing',
          startedMs: START,
          message: 'failures is over',
          runbook: 'docs/runbooks/failures.md',
        },
      ],
      joined: [],
    });
    // Flap hold: two minutes without a breach, counted from the last time it began.
    expect(at(40, 'clear').enqueued).toEqual([]);
    expect(at(100, 'breached').enqueued).toEqual([]);
    expect(at(110, 'clear').enqueued).toEqual([]);
    expect(at(229, 'clear').enqueued).toEqual([]);
    expect(at(235, 'unknown').enqueued).toEqual([]);
    const ends = at(236, 'clear');
    expect(transitions(ends)).toEqual(['failures: resolved']);
    expect(r.sent(ends)).toEqual([
      'pagerduty resolve all-resolved',
      'slack resolve all-resolved',
      'email resolve all-resolved',
    ]);
    expect(messages(ends)[0]?.notification).toMatchObject({
      dedupKey: 'logpipe/incident1',
      priority: 'P1',
      title: 'Title of failures',
      alerts: [{ ruleId: 'failures', state: 'resolved', startedMs: START, resolvedMs: START + 236 * SECOND }],
    });
    expect(r.machine.alerts()).toEqual([]);
  });

  test('a condition that does not hold never fires, and one that nobody saw for longer than `for` begins anew', () => {
    const r = rig([failures]);
    const at = (seconds: number, state: 'breached' | 'clear' | 'unknown') => {
      r.now = START + seconds * SECOND;
      return transitions(r.go({ observations: [seen('failures', state)] }));
    };
    at(0, 'breached');
    at(20, 'clear');
    expect(at(40, 'breached')).toEqual(['failures: pending']);
    at(50, 'unknown');
    // Ten seconds without data are no reason to begin again; forty are.
    expect(at(60, 'breached')).toEqual([]);
    at(65, 'unknown');
    expect(at(105, 'breached')).toEqual([]);
    expect(at(130, 'breached')).toEqual([]);
    expect(at(135, 'breached')).toEqual(['failures: firing']);
  });

  test('evaluation time that falls back, as after a start far behind, delays nothing beyond `for` and the hold', () => {
    const r = rig([failures]);
    const at = (evalMs: number, state: 'breached' | 'clear') => {
      r.now += SECOND;
      return transitions(r.go({ evalMs, observations: [seen('failures', state)] }));
    };
    at(START, 'breached');
    const behind = START - 120 * MINUTE;
    at(behind, 'breached');
    expect(at(behind + 30 * SECOND, 'breached')).toEqual(['failures: firing']);
    at(START, 'clear');
    at(behind, 'clear');
    expect(at(behind + 2 * MINUTE, 'clear')).toEqual(['failures: resolved']);
  });

  test('what the evaluator has stopped speaking of is over after an hour, and says so; silence about everything is none', () => {
    const r = rig([tenants, success]);
    r.go({ observations: [seen('tenants', 'breached', tenant('a')), seen('success', 'clear')] });
    const others = [seen('success', 'clear')];
    r.now += MINUTE;
    r.go({ observations: others });
    r.now += FORGET_MS;
    // Nothing is known at all: a lag, or no data anywhere.
    expect(r.go({ observations: [seen('success', 'unknown')] }).enqueued).toEqual([]);
    expect(r.go({ observations: [] }).enqueued).toEqual([]);
    expect(r.go({}).enqueued).toEqual([]);
    const plan = r.go({ observations: others });
    expect(r.sent(plan)).toEqual(['slack resolve all-resolved']);
    expect(messages(plan)[0]?.notification.message).toBe(
      'Nothing has been measured for it any more. Before: tenants{tenantId="a"} is over',
    );
  });

  test('what is held changes nothing, however long; what is unknown for an hour is over, and says so', () => {
    const r = rig([success]);
    r.go({ observations: [seen('success', 'breached')] });
    for (let hour = 0; hour < 48; hour++) {
      r.now += 60 * MINUTE;
      expect(r.go({ observations: [seen('success', 'held')] }).changes).toEqual([]);
    }
    expect(r.go({ observations: [seen('success', 'unknown')] }).transitions).toEqual([]);
    r.now += 59 * MINUTE;
    expect(r.go({ observations: [seen('success', 'unknown')] }).transitions).toEqual([]);
    r.now += 1 * MINUTE;
    const plan = r.go({ observations: [seen('success', 'unknown')] });
    expect(r.sent(plan)).toEqual(['slack resolve all-resolved', 'email resolve all-resolved']);
    expect(plan.transitions.map(({ source }) => source)).toMatchObject([
      { transition: 'resolved', alert: { key: 'success', resolution: 'unobserved' } },
    ]);
  });

  test('a rule that left the rules file: its firing alert resolves and says why, its pending one goes', () => {
    const r = rig([failures, success]);
    r.go({ observations: [seen('success', 'breached'), seen('failures', 'breached')] });
    r.restart([tenants]);
    const plan = r.go({ observations: [seen('tenants', 'clear')] });
    expect(r.sent(plan)).toEqual(['slack resolve all-resolved', 'email resolve all-resolved']);
    const said = 'The rule success is no longer in the rules file. Before: success is over';
    expect(messages(plan)[0]?.notification).toMatchObject({ message: said, alerts: [{ message: said }] });
    expect(plan.transitions.map(({ source }) => source)).toMatchObject([
      { transition: 'resolved', alert: { key: 'success', resolution: 'rule removed' } },
    ]);
    expect(r.machine.alerts()).toEqual([]);
  });

  test('only `maxAlerts` label sets of a rule are open; a place that gets free is taken', () => {
    const r = rig([tenants]);
    const of = (names: string, state: 'breached' | 'clear') => [...names].map((n) => seen('tenants', state, tenant(n)));
    const plan = r.go({ observations: of('abcde', 'breached') });
    expect(plan.suppressed).toBe(2);
    expect(r.machine.alerts().map(({ labels }) => labels.tenantId)).toEqual(['a', 'b', 'c']);
    r.go({ observations: [...of('b', 'clear'), ...of('acde', 'breached')] });
    expect(r.machine.alerts().map(({ labels }) => labels.tenantId)).toEqual(['a', 'c', 'd']);
  });

  test('secrets are masked and lengths bounded before anything is kept', () => {
    const r = rig([success]);
    const why = {
      ...{ measure: 'm', windowMs: 1, fromMs: 0, toMs: 1, value: 1, valueText: '1', threshold: 0, thresholdText: '0' },
      ...{ volume: 1, examples: [], topTemplates: [{ template: 'login failed password=hunter2', count: 3 }] },
    };
    const plan = r.go({
      observations: [
        seen(
          'success',
          'breached',
          { tenantId: 'Bearer abcdef123457' },
          {
            message: `Bearer abcdef123456 ${'x'.repeat(5_000)}`,
            metadata: { apiKey: 'k-123456', ok: 'é'.repeat(9_000) },
            why,
          },
        ),
      ],
    });
    const stored = JSON.stringify([...r.store.values()]);
    expect(stored).not.toMatch(/hunter2|abcdef123456|k-123456/);
    expect(JSON.stringify(messages(plan))).not.toContain('abcdef123457');
    expect(messages(plan)[0]?.notification.message.length).toBeLessThan(2_100);
    expect(messages(plan)[0]?.notification.metadata).toEqual({ truncated: expect.stringMatching(/^\d+ characters/) });
  });
});

describe('an incident', () => {
  test('one message; what joins is told once per cooldown; some resolved goes along', () => {
    const one = rule('one', { group: 'g' });
    const two = rule('two', { group: 'g' });
    const three = rule('three', { group: 'g', priority: 'P3' });
    const r = rig([one, two, three]);
    const states = (a: 'breached' | 'clear', b: typeof a, c: typeof a) => ({
      observations: [seen('one', a), seen('two', b), seen('three', c)],
    });
    expect(messages(r.go(states('breached', 'clear', 'breached')))[0]?.notification).toMatchObject({
      reason: 'first',
      title: 'Title of one',
      joined: [],
      alerts: [{ ruleId: 'one' }, { ruleId: 'three' }],
    });
    r.now += MINUTE;
    expect(r.go(states('breached', 'breached', 'breached')).enqueued.map(({ channel }) => channel)).toEqual([
      'history',
    ]);
    r.now += MINUTE;
    r.go(states('clear', 'breached', 'breached'));
    r.now = START + 10 * MINUTE - 1;
    expect(r.go(states('clear', 'breached', 'breached')).enqueued).toEqual([]);
    r.now = START + 10 * MINUTE;
    const [update] = messages(r.go(states('clear', 'breached', 'breached')));
    expect(update?.notification).toMatchObject({
      dedupKey: 'logpipe/incident1',
      reason: 'new-alerts',
      title: 'Title of two',
      joined: ['Title of two'],
      alerts: [
        { ruleId: 'two', state: 'firing' },
        { ruleId: 'three', state: 'firing' },
        { ruleId: 'one', state: 'resolved' },
      ],
    });
  });

  test('a more urgent alert that joins is told at once, to its own channels, and ends the acknowledgement', () => {
    const r = rig([failures, success]);
    r.go({ observations: [seen('success', 'breached')] });
    r.go({ commands: [{ kind: 'acknowledge', incidentId: 'incident1', by: 'ann' }] });
    const both = { observations: [seen('success', 'breached'), seen('failures', 'breached')] };
    r.go(both);
    r.now += 30 * SECOND;
    const plan = r.go(both);
    expect(r.sent(plan)).toEqual([
      'pagerduty trigger new-alerts',
      'slack trigger new-alerts',
      'email trigger new-alerts',
    ]);
    expect(messages(plan)[0]?.notification).toMatchObject({ severity: 'critical', joined: ['Title of failures'] });
    r.now += 30 * MINUTE;
    expect(r.sent(r.go(both))).toContain('pagerduty trigger repeat');
  });

  test('reminds while nobody has acknowledged', () => {
    const r = rig([{ ...failures, forMs: 0 }]);
    const on = { observations: [seen('failures', 'breached')] };
    const reasons: string[] = [];
    for (let minute = 0; minute <= 120; minute++) {
      r.now = START + minute * MINUTE;
      const commands = minute === 70 ? [{ kind: 'acknowledge' as const, incidentId: 'incident1', by: 'ann' }] : [];
      const plan = r.go({ ...on, commands });
      for (const { notification, channel } of messages(plan)) {
        if (channel === 'pagerduty') reasons.push(`${minute} ${notification.action} ${notification.reason}`);
      }
    }
    expect(reasons).toEqual([
      '0 trigger first',
      '30 trigger repeat',
      '60 trigger repeat',
      '70 acknowledge acknowledged',
    ]);
  });

  test('a clock that is set back reminds nobody, and then reminds as before; what joins waits for a cooldown at most', () => {
    const r = rig([{ ...failures, forMs: 0, cooldownMs: 10 * MINUTE, labelNames: ['host'] }]);
    const on = (...hosts: string[]) => ({ observations: hosts.map((host) => seen('failures', 'breached', { host })) });
    const paged = (...hosts: string[]) => r.sent(r.go(on(...hosts))).filter((text) => text.startsWith('pagerduty'));
    expect(paged('a')).toEqual(['pagerduty trigger first']);
    r.now += 10 * MINUTE - 60 * MINUTE;
    expect(paged('a')).toEqual([]);
    // A successor reads what was re-dated.
    r.restart();
    r.now += 9 * MINUTE;
    expect(paged('a', 'b')).toEqual([]);
    r.now += MINUTE;
    expect(paged('a', 'b')).toEqual(['pagerduty trigger new-alerts']);
    r.now += 29 * MINUTE;
    expect(paged('a', 'b')).toEqual([]);
    r.now += MINUTE;
    expect(paged('a', 'b')).toEqual(['pagerduty trigger repeat']);
    expect(r.machine.incidents()).toHaveLength(1);
  });

  test('a clock that is set forward reminds nobody, fires nothing early and ends nothing', () => {
    const r = rig([{ ...failures, forMs: 0 }, rule('slow', { forMs: 5 * MINUTE }), rule('quiet')]);
    const step = () => {
      const at = r.now;
      r.now += 60 * MINUTE;
      return { skippedMs: (from: number, to: number) => (from <= at && to >= r.now ? 60 * MINUTE : 0) };
    };
    const slack = (plan: ReturnType<typeof r.go>) => r.sent(plan).filter((text) => text.startsWith('slack'));
    const now = (...states: ('breached' | 'unknown')[]) => ({
      observations: ['failures', 'slow', 'quiet'].map((id, i) => seen(id, states[i]!)),
    });
    expect(slack(r.go(now('breached', 'breached', 'breached')))).toHaveLength(2);
    r.now += MINUTE;
    r.go(now('breached', 'breached', 'unknown'));
    const { skippedMs } = step();
    r.now += MINUTE;
    expect(r.sent(r.go({ ...now('breached', 'breached', 'unknown'), skippedMs }))).toEqual([]);
    r.now += 3 * MINUTE;
    expect(slack(r.go({ ...now('breached', 'breached', 'unknown'), skippedMs }))).toEqual(['slack trigger first']);
    r.now += 25 * MINUTE;
    expect(slack(r.go({ ...now('breached', 'breached', 'unknown'), skippedMs }))).toEqual(['slack trigger repeat']);
    r.now += 31 * MINUTE;
    expect(slack(r.go({ ...now('breached', 'breached', 'unknown'), skippedMs }))).toContain(
      'slack resolve all-resolved',
    );
  });

  test('flapping for two hours beyond the hold: one incident, at most one trigger per cooldown, each with its resolve', () => {
    const flappy = rule('flappy', { keepFiringMs: 30 * SECOND });
    const r = rig([flappy]);
    const slack: { at: number; action: string; reason: string }[] = [];
    for (let i = 0; i <= 720; i++) {
      r.now = START + i * 10 * SECOND;
      // A minute bad, a minute good; in the end good.
      const bad = i % 12 < 6 && i < 700;
      for (const { channel, notification } of messages(
        r.go({ observations: [seen('flappy', bad ? 'breached' : 'clear')] }),
      )) {
        const { action, reason } = notification;
        if (channel === 'slack') slack.push({ at: (r.now - START) / MINUTE, action, reason });
        expect(notification.dedupKey).toBe('logpipe/incident1');
      }
    }
    const triggers = slack.filter(({ action }) => action === 'trigger');
    expect(triggers.length).toBeLessThanOrEqual(12);
    for (let i = 1; i < triggers.length; i++) expect(triggers[i]!.at - triggers[i - 1]!.at).toBeGreaterThanOrEqual(10);
    expect(slack.map(({ action }) => action)).toEqual(triggers.flatMap(() => ['trigger', 'resolve']));
    expect(triggers.map(({ reason }) => reason)).toEqual(['first', ...triggers.slice(1).map(() => 'new-alerts')]);
    expect(r.machine.incidents()).toHaveLength(1);
  });

  test('a re-fire inside the cooldown reopens it, one after is a new incident', () => {
    const r = rig([success]);
    const go = (state: 'breached' | 'clear') => r.go({ observations: [seen('success', state)] });
    go('breached');
    r.now += 8 * MINUTE;
    go('clear');
    r.now += MINUTE;
    const again = go('breached');
    expect(transitions(again)).toEqual(['success: reopened', 'success: firing']);
    expect(r.sent(again)).toEqual([]);
    // The cooldown counts from the trigger: whoever was told of an end learns of the new beginning a minute later.
    r.now += MINUTE;
    const update = go('breached');
    expect(r.sent(update)).toEqual(['slack trigger new-alerts', 'email trigger new-alerts']);
    expect(messages(update)[0]?.notification.dedupKey).toBe('logpipe/incident1');
    expect(r.sent(go('clear'))).toEqual(['slack resolve all-resolved', 'email resolve all-resolved']);
    r.now += 10 * MINUTE;
    const fresh = go('breached');
    expect(messages(fresh)[0]?.notification).toMatchObject({ reason: 'first', dedupKey: 'logpipe/incident2' });
  });

  test('P4 goes nowhere, and is no obstacle for a P3 that joins', () => {
    const r = rig([rule('trend', { priority: 'P4', group: 'g' }), rule('warn', { priority: 'P3', group: 'g' })]);
    const quiet = r.go({ observations: [seen('trend', 'breached')] });
    expect(quiet.enqueued.map(({ channel }) => channel)).toEqual(['history']);
    expect(quiet.decisions).toMatchObject([{ channels: [], notification: { severity: 'info' } }]);
    expect(r.sent(r.go({ observations: [seen('trend', 'breached'), seen('warn', 'breached')] }))).toEqual([
      'slack trigger new-alerts',
    ]);
  });

  test('is kept for 30 days after its end', () => {
    const r = rig([success]);
    r.go({ observations: [seen('success', 'breached')] });
    r.go({ observations: [seen('success', 'clear')] });
    r.now += 30 * DAY - 1;
    r.go({});
    expect([...r.store.keys()]).toContain('incident/incident1');
    r.now += 1;
    r.go({});
    expect([...r.store.keys()]).not.toContain('incident/incident1');
  });
});

describe('muted', () => {
  const silence = rule('silence', { priority: 'P1', group: 'availability' });
  const ratio = rule('ratio', { group: 'calls', inhibitedBy: ['silence'] });

  test('an inhibited alert is told when the other one ends and it still fires, not before', () => {
    const r = rig([silence, ratio]);
    const go = (a: 'breached' | 'clear', b: typeof a) => r.go({ observations: [seen('silence', a), seen('ratio', b)] });
    const plan = go('breached', 'breached');
    expect(messages(plan).map(({ notification }) => notification.title)).toEqual(Array(3).fill('Title of silence'));
    expect(transitions(plan)).toContain('ratio: inhibited');
    r.now += MINUTE;
    const after = go('clear', 'breached');
    expect(r.sent(after)).toEqual([
      'pagerduty resolve all-resolved',
      'slack resolve all-resolved',
      'email resolve all-resolved',
      'slack trigger first',
      'email trigger first',
    ]);
  });

  test('an inhibited alert of which nothing is known, or that is only held, is not told when the other one ends', () => {
    const r = rig([silence, { ...ratio, keepFiringMs: 5 * MINUTE }]);
    const go = (a: 'breached' | 'clear', b: 'breached' | 'clear' | 'unknown') =>
      r.go({ observations: [seen('silence', a), seen('ratio', b)] });
    go('breached', 'breached');
    r.now += 60 * MINUTE;
    expect(r.sent(go('clear', 'unknown')).join()).not.toContain('first');
    expect(r.sent(go('clear', 'clear'))).toEqual([]);
    r.now += 5 * MINUTE;
    expect(transitions(go('clear', 'clear'))).toEqual(['ratio: resolved']);
  });

  test('inhibition asks for the same value of the labels both have', () => {
    const r = rig([rule('down', { inhibitedBy: [] }), rule('slow', { inhibitedBy: ['down'], group: 'slow' })]);
    r.go({
      observations: [
        seen('down', 'breached', tenant('a')),
        seen('slow', 'breached', tenant('a')),
        seen('slow', 'breached', tenant('b')),
        seen('slow', 'breached', { host: 'h' }),
      ],
    });
    expect(r.machine.alerts().map(({ key, muted }) => [key, muted])).toEqual([
      ['down{tenantId="a"}', undefined],
      ['slow{host="h"}', 'inhibited'],
      ['slow{tenantId="a"}', 'inhibited'],
      ['slow{tenantId="b"}', undefined],
    ]);
  });

  test('rules that inhibit each other in a circle do not silence everything', () => {
    const r = rig([
      rule('a', { inhibitedBy: ['a', 'c'] }),
      rule('b', { inhibitedBy: ['a'] }),
      rule('c', { inhibitedBy: ['b'] }),
    ]);
    r.go({ observations: [seen('a', 'breached'), seen('b', 'breached'), seen('c', 'breached')] });
    expect(r.machine.alerts().filter(({ muted }) => muted === undefined)).not.toEqual([]);
  });

  test('what was told before it was silenced is still resolved; what begins to fire in a silence is told at its end', () => {
    const r = rig([success, tenants]);
    const on = { observations: [seen('success', 'breached'), seen('tenants', 'breached', tenant('a'))] };
    const silenceOf = (id: string, ruleId: string) => ({
      kind: 'silence' as const,
      silence: { id, ruleId, untilMs: START + 60 * MINUTE, by: 'ann', reason: 'maintenance' },
    });
    r.go({ commands: [silenceOf('s1', 'tenants')] });
    const first = r.go(on);
    expect(r.sent(first)).toEqual(['slack trigger first', 'email trigger first']);
    expect(transitions(r.go({ commands: [silenceOf('s2', 'success')] }))).toEqual([
      's2: silence set',
      'success: silenced',
    ]);
    const end = r.go({ observations: [seen('success', 'clear'), seen('tenants', 'breached', tenant('a'))] });
    expect(r.sent(end)).toEqual(['slack resolve all-resolved', 'email resolve all-resolved']);
    r.now = START + 60 * MINUTE;
    expect(r.sent(r.go({ observations: [seen('tenants', 'breached', tenant('a'))] }))).toEqual(['slack trigger first']);
    expect(r.machine.silences()).toEqual([]);
  });

  test('commands that cannot be obeyed are said, repeated ones change nothing', () => {
    const r = rig([success]);
    r.go({ observations: [seen('success', 'breached')] });
    const acknowledge = { kind: 'acknowledge' as const, incidentId: 'incident1', by: 'ann' };
    expect(r.sent(r.go({ commands: [acknowledge] }))).toEqual([
      'slack acknowledge acknowledged',
      'email acknowledge acknowledged',
    ]);
    expect(r.go({ commands: [acknowledge] }).changes).toEqual([]);
    const whole = { id: 's', untilMs: START + 1, by: 'ann', reason: '' };
    const plan = r.go({
      commands: [
        { ...acknowledge, incidentId: 'other' },
        { kind: 'silence', silence: whole },
        { kind: 'silence', silence: { ...whole, ruleId: 'success', untilMs: START } },
        { kind: 'unsilence', id: 'none', by: 'ann' },
      ],
    });
    expect(plan.refused.map(({ why }) => why)).toEqual([
      'there is no incident other',
      'a silence names a rule, a group, labels, a priority or an environment',
      'the silence has ended already',
      'there is no silence none',
    ]);
    expect(plan.changes).toEqual([]);
  });
});

describe('several alerts in one incident', () => {
  const hosts = rule('cpu', { title: 'High CPU', group: 'hosts', maxAlerts: 5 });
  const cpu = (host: string, state: 'breached' | 'clear', more = {}) => seen('cpu', state, { host }, more);

  test('the end of one host never speaks of another with the same title', () => {
    const r = rig([hosts]);
    const go = (a: 'breached' | 'clear', b: 'breached' | 'clear') => r.go({ observations: [cpu('a', a), cpu('b', b)] });
    go('breached', 'clear');
    r.now += 5 * MINUTE;
    go('breached', 'breached');
    r.now += MINUTE;
    go('clear', 'breached');
    r.now += 5 * MINUTE;
    // The cooldown is over: the message is about b from now on.
    expect(messages(go('clear', 'breached'))[0]?.notification.joined).toEqual(['High CPU (host=b)']);
    r.restart();
    r.now += MINUTE;
    const [resolve] = messages(go('clear', 'clear'));
    const { action, title, message, alerts } = resolve!.notification;
    expect({ action, title }).toEqual({ action: 'resolve', title: 'High CPU' });
    expect(alerts.map(({ labels }) => labels.host)).toEqual(['b', 'a']);
    expect(message).toContain('cpu{host="b"}');
    expect(alerts[0]?.message).toBe(message);
  });

  test('an end does not name what nobody was told of', () => {
    const other = rule('disk', { title: 'Disk Full', group: 'hosts', inhibitedBy: ['cpu'] });
    const r = rig([hosts, other]);
    r.go({ observations: [cpu('a', 'breached'), seen('disk', 'breached')] });
    r.now += MINUTE;
    const [resolve] = messages(r.go({ observations: [cpu('a', 'clear'), seen('disk', 'clear')] }));
    expect(resolve?.notification).toMatchObject({ action: 'resolve', title: 'High CPU' });
    expect(resolve?.notification.alerts.map(({ ruleId }) => ruleId)).toEqual(['cpu']);
  });

  test('of twenty and more that ended, the one that was told stays', () => {
    const r = rig([{ ...hosts, maxAlerts: 100, keepFiringMs: 0 }]);
    const many = (n: number, state: 'breached' | 'clear') => Array.from({ length: n }, (_, i) => cpu(`h${i}`, state));
    r.go({ observations: [cpu('first', 'breached'), ...many(30, 'breached')] });
    const lead = (r.store.get('incident/incident1') as IncidentRecord).told?.key;
    r.now += MINUTE;
    r.go({ observations: [cpu('first', 'clear'), ...many(30, 'clear')] });
    const resolve = messages(r.go()).concat(messages(r.go()));
    expect(resolve).toEqual([]);
    const { ended } = r.store.get('incident/incident1') as IncidentRecord;
    expect(ended.map(({ labels }) => `cpu{host=${JSON.stringify(labels.host)}}`)).toContain(lead);
  });

  test('an end says how it ended: the value now, the worst, how long', () => {
    const r = rig([hosts]);
    const why = (value: number): Why => ({
      ...{ measure: 'cpu', windowMs: MINUTE, fromMs: r.now - MINUTE, toMs: r.now, value, valueText: `${value} %` },
      ...{ threshold: 80, thresholdText: '80 %', volume: 6, topTemplates: [], examples: [] },
    });
    for (const value of [85, 97, 91]) {
      r.go({ observations: [cpu('a', 'breached', { why: why(value) })] });
      r.now += MINUTE;
    }
    r.restart();
    const plan = r.go({ observations: [cpu('a', 'clear', { nowText: '12 %' })] });
    const [resolve] = messages(plan);
    const message = 'Now 12 % (threshold 80 %), at its worst 97 %; it lasted 3 min. Before: cpu{host="a"} is over';
    expect(resolve?.notification.message).toBe(message);
    expect(resolve?.notification.alerts[0]?.message).toBe(message);
    expect(plan.transitions[0]?.source.alert?.message).toBe(message);
  });

  test('an acknowledgement speaks of what still fires', () => {
    const r = rig([hosts]);
    r.go({ observations: [cpu('a', 'breached'), cpu('b', 'breached')] });
    r.now += MINUTE;
    r.go({ observations: [cpu('a', 'clear'), cpu('b', 'breached')] });
    const plan = r.go({
      observations: [cpu('a', 'clear'), cpu('b', 'breached')],
      commands: [{ kind: 'acknowledge', incidentId: 'incident1', by: 'ann' }],
    });
    const [acknowledge] = messages(plan);
    expect(acknowledge?.notification).toMatchObject({ action: 'acknowledge', message: 'cpu{host="b"} is over' });
  });
});

describe('the outbox', () => {
  test('an entry goes when it was taken or given up; a retry is remembered; the history says which', () => {
    const r = rig([success]);
    const [slack, email] = messages(r.go({ observations: [seen('success', 'breached')] }));
    const failure = { ok: false, retryable: true, reason: 'HTTP 503' } as const;
    r.go({ results: [{ id: slack!.id, result: failure, retry: { attempts: 2, nextMs: START + 5 } }] });
    r.restart();
    expect(r.machine.waiting().find(({ id }) => id === slack!.id)).toMatchObject({ attempts: 2, nextMs: START + 5 });
    const refused = { ok: false, retryable: false, reason: 'HTTP 404' } as const;
    const plan = r.go({
      results: [
        { id: slack!.id, result: { ok: true } },
        { id: email!.id, result: refused },
        { id: 'never', result: { ok: true } },
      ],
    });
    expect(plan.transitions.map(({ source }) => source.notification)).toEqual([
      { channel: 'slack', action: 'trigger', reason: 'first', delivered: true },
      { channel: 'email', action: 'trigger', reason: 'first', delivered: false, failure: 'HTTP 404' },
    ]);
    expect((r.store.get('incident/incident1') as IncidentRecord).channels).toEqual({
      slack: { triggeredMs: START, deliveredMs: START },
      email: { triggeredMs: START, failed: 'HTTP 404' },
    });
    expect(r.machine.waiting().filter(({ channel }) => channel !== 'history')).toEqual([]);
  });

  test('a channel that refused the trigger for good is not told of the end; one that may have it is', () => {
    const refused = { ok: false, retryable: false, reason: 'HTTP 404' } as const;
    const doubtful = { ok: false, retryable: false, reason: 'not confirmed: a page', doubtful: true } as const;
    const end = (r: Rig) => r.go({ observations: [seen('success', 'clear')] });
    const begin = (r: Rig) => messages(r.go({ observations: [seen('success', 'breached')] }));

    // The refusal is known before the end.
    const known = rig([success]);
    const [slack, email] = begin(known);
    known.go({
      results: [
        { id: slack!.id, result: refused },
        { id: email!.id, result: doubtful },
      ],
    });
    known.restart();
    const resolved = end(known);
    expect(known.sent(resolved)).toEqual(['email resolve all-resolved']);
    expect(resolved.decisions).toHaveLength(1);

    // The end was decided first, and waits behind the trigger.
    const late = rig([success]);
    const [first] = begin(late);
    const waiting = messages(end(late)).find(({ channel }) => channel === 'slack')!;
    const plan = late.go({ results: [{ id: first!.id, result: refused }] });
    expect(plan.changes).toContainEqual({ key: `outbox/${waiting.id}`, value: null });
    expect(plan.transitions.map(({ source }) => source.notification?.failure)).toEqual([
      'HTTP 404',
      'not sent: the channel has refused the trigger',
    ]);

    // It began again meanwhile: that trigger is another one, and so is its end.
    const again = rig([success]);
    const [one] = begin(again);
    again.now += 5 * MINUTE;
    end(again);
    again.now += 6 * MINUTE;
    const two = begin(again).find(({ channel }) => channel === 'slack')!;
    again.go({ results: [{ id: one!.id, result: refused }] });
    expect(
      again.machine
        .waiting()
        .filter(({ channel }) => channel === 'slack')
        .map(({ id }) => id),
    ).toEqual([two.id]);
    again.go({ results: [{ id: two.id, result: { ok: true } }] });
    expect(again.sent(end(again))).toContain('slack resolve all-resolved');

    // What was taken before counts, until it is over.
    const taken = rig([{ ...success, remindMs: 20 * MINUTE }]);
    const [told] = begin(taken);
    taken.go({ results: [{ id: told!.id, result: { ok: true } }] });
    taken.now += 30 * MINUTE;
    const reminder = begin(taken).find(({ channel }) => channel === 'slack')!;
    taken.go({ results: [{ id: reminder.id, result: refused }] });
    expect(taken.sent(end(taken))).toContain('slack resolve all-resolved');
  });

  test('history documents: one per transition, in the month’s index, the same id whenever they are sent', () => {
    const r = rig([success]);
    const plan = r.go({ observations: [seen('success', 'breached')] });
    const [entry] = plan.enqueued.filter(({ channel }) => channel === 'history');
    expect(entry?.document).toMatchObject({
      index: 'logpipe-alerts-2026.03',
      id: expect.stringMatching(/^[\w-]{27}$/),
      source: {
        '@timestamp': '2026-03-02T10:00:00.000Z',
        transition: 'firing',
        environment: 'test',
        priority: 'P2',
        severity: 'warning',
        group: 'calls',
        alert: { key: 'success', rule: 'success', message: 'success is over' },
        incident: { id: 'incident1', dedupKey: 'logpipe/incident1' },
      },
    });
    r.restart();
    expect(r.machine.waiting().find(({ channel }) => channel === 'history')).toEqual(entry);
  });

  test('channels that are away cost their oldest entries, which is said, and nobody else’s', () => {
    const r = rig([success], { limits: { perChannel: 100, history: 4 } });
    let dropped = 0;
    for (let i = 0; i < 10; i++) {
      dropped += r.go({ observations: [seen('success', i % 2 === 0 ? 'breached' : 'clear')] }).dropped.length;
      r.now += 11 * MINUTE;
    }
    const waiting = r.machine.waiting();
    const history = waiting.filter(({ channel }) => channel === 'history');
    expect(history).toHaveLength(4);
    expect(dropped).toBe(6);
    expect(history.map(({ createdMs }) => createdMs)).toEqual([6, 7, 8, 9].map((i) => START + i * 11 * MINUTE));
    expect(waiting.length - history.length).toBe(20);
  });

  test('documents nobody takes any more do not stay', () => {
    const r = rig([success]);
    r.go({ observations: [seen('success', 'breached')] });
    const deps = {
      nextId: () => 'x',
      environment: 'test',
      routes: routesByPriority(() => []),
      masker: createMasker(),
      history: false,
    };
    const without = createAlertMachine([success], r.store, deps);
    const plan = without.step({ evalMs: START, wallMs: START, observations: [seen('success', 'clear')] });
    without.accept(plan);
    expect(without.waiting().map(({ channel }) => channel)).toEqual(['email', 'slack', 'email', 'slack']);
    expect(plan.transitions).toHaveLength(1);
  });

  test('numbers go on after the outbox was empty and after restarts', () => {
    const r = rig([success]);
    const ids = new Set<string>();
    let count = 0;
    for (let i = 0; i < 6; i++) {
      const plan = r.go({ observations: [seen('success', i % 2 === 0 ? 'breached' : 'clear')] });
      const results = plan.enqueued.map(({ id }) => ({ id, result: { ok: true } as const }));
      const after = r.go({ results });
      r.go({ results: after.enqueued.map(({ id }) => ({ id, result: { ok: true } as const })) });
      for (const { id } of [...plan.enqueued, ...after.enqueued]) ids.add(id);
      count += plan.enqueued.length + after.enqueued.length;
      expect(r.machine.waiting()).toEqual([]);
      r.now += 11 * MINUTE;
      r.restart();
    }
    expect(ids.size).toBe(count);
  });

  test('records of others are part of the same commit; only the plan that was committed is accepted', () => {
    const r = rig([success]);
    const other = { key: 'template/abc', value: { seen: 1 } };
    const input = { evalMs: START, wallMs: START, observations: [seen('success', 'breached')], records: [other] };
    const stale = r.machine.step(input);
    expect(stale.changes).toContainEqual(other);
    const plan = r.machine.step(input);
    expect(() => r.machine.accept(stale)).toThrow('only the plan of the last step');
    r.machine.accept(plan);
    expect(() => r.machine.accept(plan)).toThrow('only the plan of the last step');
  });
});
