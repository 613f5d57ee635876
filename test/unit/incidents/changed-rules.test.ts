// Rules that change while alerts are open: given to a running process, or found by a successor. What takes effect at once, what is
// kept for a while, and what reminders rest on.

import { describe, expect, test } from 'vitest';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { AlertRule } from '../../../src/incidents/incident.ts';
import { type AlertMachine, createAlertMachine, type StepInput } from '../../../src/incidents/machine.ts';
import type { ChannelName } from '../../../src/incidents/notification.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import type { Priority } from '../../../src/rules/rule-types.ts';
import { MINUTE, messages, rig, rule, SECOND, START, save, seen } from './machine-kit.ts';

const CHANNELS: Record<Priority, ChannelName[]> = { P1: ['pagerduty', 'slack'], P2: ['slack'], P3: ['slack'], P4: [] };
const disk = rule('disk', { priority: 'P3', labelNames: ['host'], where: {}, maxAlerts: 10 });
const queue = rule('queue', { priority: 'P2', remindMs: 30 * MINUTE });
const host = (name: string) => ({ host: name });

/** Successors on one store, each with rules of its own. */
function holders() {
  const store = new Map<string, object>();
  let now = START;
  let ids = 0;
  const self = {
    store,
    pass: (ms: number) => {
      now += ms;
    },
    begin(rules: readonly AlertRule[], rulesHash: string): AlertMachine {
      return createAlertMachine(rules, new Map(store), {
        nextId: () => `i${++ids}`,
        environment: 'test',
        routes: routesByPriority((priority) => CHANNELS[priority]),
        masker: createMasker(),
        rulesHash,
      });
    },
    go(machine: AlertMachine, observations: NonNullable<StepInput['observations']>) {
      const plan = machine.step({ evalMs: now, wallMs: now, observations });
      save(store, plan);
      machine.accept(plan);
      return plan;
    },
  };
  return self;
}

const sent = (plan: Parameters<typeof messages>[0]) =>
  messages(plan).map(({ channel, notification: n }) => `${channel} ${n.action} ${n.reason}: ${n.title}`);

describe('rules given to a running process', () => {
  test('a P3 that becomes a P1 pages at the next evaluation, with its new title', () => {
    const h = holders();
    const machine = h.begin([disk], 'one');
    h.go(machine, [seen('disk', 'breached', host('a'))]);
    h.pass(MINUTE);
    machine.changeRules([{ ...disk, priority: 'P1', title: 'Disk!' }], 'two');
    // Not before its condition is known to be true.
    expect(sent(h.go(machine, [seen('disk', 'unknown', host('a'))]))).toEqual([]);
    const plan = h.go(machine, [seen('disk', 'breached', host('a'))]);
    expect(sent(plan)).toEqual(['pagerduty trigger new-alerts: Disk!', 'slack trigger new-alerts: Disk!']);
    h.pass(MINUTE);
    expect(sent(h.go(machine, [seen('disk', 'clear', host('a'))]))).toEqual([
      'slack resolve all-resolved: Disk!',
      'pagerduty resolve all-resolved: Disk!',
    ]);
  });

  test('less urgent, it is told to nobody anew', () => {
    const h = holders();
    const machine = h.begin([{ ...queue, priority: 'P1' }], 'one');
    h.go(machine, [seen('queue', 'breached')]);
    h.pass(11 * MINUTE);
    machine.changeRules([{ ...queue, priority: 'P3' }], 'two');
    expect(sent(h.go(machine, [seen('queue', 'breached')]))).toEqual([]);
    expect(machine.alerts()[0]?.priority).toBe('P3');
  });

  test('label sets that the rule can no longer produce end at once and say so; the others go on', () => {
    const h = holders();
    const machine = h.begin([disk], 'one');
    const all = ['a', 'b', 'c'].map((name) => seen('disk', 'breached', host(name)));
    h.go(machine, all);
    h.pass(MINUTE);
    machine.changeRules([{ ...disk, where: { host: { not: ['b'] } } }], 'two');
    const plan = h.go(machine, [seen('disk', 'breached', host('a')), seen('disk', 'breached', host('c'))]);
    expect(machine.alerts().map(({ labels }) => labels.host)).toEqual(['a', 'c']);
    expect(plan.transitions.map(({ source }) => source.alert)).toMatchObject([
      { key: 'disk{host="b"}', resolution: 'rule changed', message: expect.stringContaining('no longer watches this') },
    ]);
    machine.changeRules([{ ...disk, labelNames: ['host', 'mount'] }], 'three');
    const ended = h.go(machine, [seen('disk', 'breached', { host: 'a', mount: '/' })]);
    expect(machine.alerts().map(({ labels }) => labels)).toEqual([{ host: 'a', mount: '/' }]);
    expect(ended.transitions.filter(({ source }) => source.transition === 'resolved')).toHaveLength(2);
  });

  test('another group: the alert goes on in an incident there, and its former one ends with words', () => {
    const h = holders();
    const machine = h.begin([queue], 'one');
    h.go(machine, [seen('queue', 'breached')]);
    h.pass(MINUTE);
    machine.changeRules([{ ...queue, group: 'jobs' }], 'two');
    const plan = h.go(machine, [seen('queue', 'breached')]);
    expect(sent(plan)).toEqual(['slack resolve all-resolved: Title of queue', 'slack trigger first: Title of queue']);
    expect(messages(plan)[0]?.notification.message).toMatch(/belongs to another group: it goes on there/);
    expect(machine.alerts()).toMatchObject([{ group: 'jobs', incidentId: 'i2', startedMs: START }]);
    expect(h.go(machine, [seen('queue', 'breached')]).changes).toEqual([]);
  });

  test('what was decided but not written is decided again', () => {
    const h = holders();
    const machine = h.begin([disk], 'one');
    h.go(machine, [seen('disk', 'breached', host('a'))]);
    machine.changeRules([queue], 'two');
    h.pass(SECOND);
    const input = { evalMs: START, wallMs: START, observations: [seen('queue', 'clear')] };
    const lost = machine.step(input);
    expect(machine.step(input)).toEqual(lost);
    expect(sent(lost)).toHaveLength(1);
    expect(lost.changes).toContainEqual({ key: 'rules/present', value: { hash: 'two' } });
  });
});

describe('a successor with another file', () => {
  const kept = [seen('disk', 'clear', host('z'))];

  test('keeps what is firing and it does not know for five minutes, logs that once, and then ends it', () => {
    const h = holders();
    h.go(h.begin([disk, queue], 'old'), [seen('disk', 'breached', host('a')), seen('queue', 'breached')]);
    h.pass(MINUTE);
    let machine = h.begin([disk], 'new');
    const first = h.go(machine, [seen('disk', 'breached', host('a')), ...kept]);
    expect(first.remarks).toEqual([expect.stringMatching(/kept for 5 minutes/)]);
    expect(sent(first)).toEqual([]);
    for (let minute = 0; minute < 4; minute++) {
      h.pass(MINUTE);
      // A restart does not begin anew.
      if (minute === 2) machine = h.begin([disk], 'new');
      const plan = h.go(machine, [seen('disk', 'breached', host('a')), ...kept]);
      expect([plan.remarks, sent(plan)]).toEqual([[], []]);
    }
    expect(machine.alerts().map(({ ruleId }) => ruleId)).toEqual(['disk', 'queue']);
    h.pass(MINUTE);
    const over = h.go(machine, [seen('disk', 'breached', host('a')), ...kept]);
    expect(sent(over)).toEqual(['slack resolve all-resolved: Title of queue']);
    expect(over.remarks).toHaveLength(1);
    expect(machine.alerts().map(({ ruleId }) => ruleId)).toEqual(['disk']);
  });

  test('and the five minutes are not over because the clock was set back', () => {
    const h = holders();
    h.go(h.begin([disk, queue], 'old'), [seen('disk', 'breached', host('a')), seen('queue', 'breached')]);
    const machine = h.begin([disk], 'new');
    const go = () => sent(h.go(machine, [seen('disk', 'breached', host('a')), ...kept]));
    expect(go()).toEqual([]);
    h.pass(MINUTE - 60 * MINUTE);
    expect(go()).toEqual([]);
    h.pass(4 * MINUTE);
    expect(go()).toEqual([]);
    h.pass(MINUTE);
    expect(go()).toEqual(['slack resolve all-resolved: Title of queue']);
  });

  test('holders that take turns while a version is rolled out end nothing and page nothing twice', () => {
    const h = holders();
    h.go(h.begin([disk, queue], 'old'), [seen('disk', 'breached', host('a')), seen('queue', 'breached')]);
    for (let turn = 0; turn < 8; turn++) {
      h.pass(2 * MINUTE);
      const isOld = turn % 2 === 1;
      const machine = h.begin(isOld ? [disk, queue] : [disk], isOld ? 'old' : 'new');
      const own = isOld ? [seen('queue', 'breached')] : kept;
      expect(sent(h.go(machine, [seen('disk', 'breached', host('a')), ...own]))).toEqual([]);
      expect(machine.alerts()).toHaveLength(2);
    }
  });

  test('nor do they bring back a silence that somebody ended, until the rule is really gone', () => {
    const silent = rule('silent', { endsByEvent: true, watches: 'calls', labelNames: ['host'] });
    const h = holders();
    const on = [seen('silent', 'breached', host('a'))];
    const old = h.begin([silent, disk], 'old');
    h.go(old, on);
    const alerts = old.alerts().map(({ key, startedMs }) => ({ key, startedMs }));
    const plan = old.step({
      evalMs: START,
      wallMs: START,
      observations: on,
      commands: [{ kind: 'resolve', alerts, by: 'ann' }],
    });
    save(h.store, plan);
    for (let turn = 0; turn < 4; turn++) {
      h.pass(2 * MINUTE);
      h.go(h.begin([disk], 'new'), kept);
      h.pass(MINUTE);
      const again = h.begin([silent, disk], 'old');
      expect(sent(h.go(again, [...on, ...kept]))).toEqual([]);
    }
    const gone = h.begin([disk], 'new');
    h.go(gone, kept);
    h.pass(5 * MINUTE);
    h.go(gone, kept);
    expect([...h.store.keys()].filter((key) => key.startsWith('dismissed/'))).toEqual([]);
  });

  test('the same rules, or a state from before hashes, are no change', () => {
    const h = holders();
    h.go(h.begin([disk, queue], 'same'), [seen('queue', 'breached')]);
    h.store.delete('rules/present');
    const plan = h.go(h.begin([disk, queue], 'other'), [seen('queue', 'breached')]);
    expect(plan.remarks).toEqual([]);
    expect(h.go(h.begin([disk, queue], 'other'), [seen('queue', 'breached')]).changes).toEqual([]);
  });
});

describe('reminders', () => {
  test('need an evaluation after a restart, and a condition that is true now', () => {
    const r = rig([queue]);
    r.go({ observations: [seen('queue', 'breached')] });
    r.now += 40 * MINUTE;
    r.restart();
    for (const observations of [
      undefined,
      [],
      [seen('queue', 'unknown')],
      [seen('queue', 'held')],
      [seen('other', 'clear')],
    ]) {
      expect(r.sent(r.go(observations === undefined ? {} : { observations }))).toEqual([]);
    }
    expect(r.sent(r.go({ observations: [seen('queue', 'breached')] }))).toEqual([
      'slack trigger repeat',
      'email trigger repeat',
    ]);
  });

  test('of an incident are about what is true in it: a host that vanished neither leads nor pages', () => {
    const cpu = rule('cpu', { priority: 'P1', group: 'hosts', remindMs: 30 * MINUTE });
    const net = rule('net', { priority: 'P3', group: 'hosts', remindMs: 30 * MINUTE });
    const r = rig([cpu, net]);
    r.go({ observations: [seen('cpu', 'breached', host('gone')), seen('net', 'breached', host('b'))] });
    r.now += 31 * MINUTE;
    const plan = r.go({ observations: [seen('net', 'breached', host('b'))] });
    expect(r.sent(plan)).toEqual(['slack trigger repeat']);
    expect(messages(plan)[0]?.notification).toMatchObject({ title: 'Title of net', priority: 'P3' });
  });
});
