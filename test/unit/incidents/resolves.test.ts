// The end of an incident goes to the channels that its beginning may have reached, and to no other: whatever became of the trigger.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AlertRule } from '../../../src/incidents/incident.ts';
import type { Plan } from '../../../src/incidents/machine.ts';
import type { ChannelName } from '../../../src/incidents/notification.ts';
import type { OutboxResult } from '../../../src/incidents/records.ts';
import type { Observation } from '../../../src/rules/rule-types.ts';
import { MINUTE, messages, type Rig, rig, rule, SECOND, seen } from './machine-kit.ts';

/** `slow`: an attempt is under way, and its answer comes with `answered`. */
type Way = 'takes' | 'down' | 'refuses' | 'doubtful' | 'slow';
interface Message {
  readonly id: string;
  readonly channel: ChannelName;
  readonly action: string;
  readonly incidentId: string;
}

const ANSWERS: Readonly<Record<Exclude<Way, 'down' | 'slow'>, OutboxResult['result']>> = {
  takes: { ok: true },
  refuses: { ok: false, retryable: false, reason: 'HTTP 404' },
  doubtful: { ok: false, retryable: false, reason: 'not confirmed: a page', doubtful: true },
};

/** The machine with channels that behave as they are told to; `reached` is what they know in the end. */
function world(rules: readonly AlertRule[], { perChannel = 500 } = {}) {
  const r: Rig = rig(rules, { limits: { perChannel, history: 10_000 } });
  const ways: Partial<Record<ChannelName, Way>> = {};
  let waiting: Message[] = [];
  const underWay: Message[] = [];
  const reached: Message[] = [];
  const dropped: Message[] = [];
  const refused: Message[] = [];

  function handOver(plan: Plan): void {
    const gone = new Set(
      plan.changes.flatMap(({ key, value }) => (value === null ? [key.replace('outbox/', '')] : [])),
    );
    waiting = waiting.filter(({ id }) => !gone.has(id));
    dropped.push(
      ...plan.dropped.map(({ id, channel, notification: n }) => ({
        id,
        channel,
        action: n!.action,
        incidentId: n!.incidentId,
      })),
    );
    for (const { id, channel, notification: n } of messages(plan)) {
      waiting.push({ id, channel, action: n.action, incidentId: n.incidentId });
    }
  }
  function settle(message: Message, result: OutboxResult['result']): void {
    waiting = waiting.filter(({ id }) => id !== message.id);
    if (result.ok || result.doubtful) reached.push(message);
    else refused.push(message);
    r.now += SECOND;
    handOver(r.go({ results: [{ id: message.id, result }] }));
  }
  function send(): void {
    for (;;) {
      const next = waiting.find(
        (one) => (ways[one.channel] ?? 'takes') !== 'down' && !underWay.some((other) => other.channel === one.channel),
      );
      if (next === undefined) return;
      const way = ways[next.channel] ?? 'takes';
      if (way === 'slow') {
        underWay.push(next);
        ways[next.channel] = 'down';
      } else settle(next, ANSWERS[way as 'takes']);
    }
  }
  return {
    r,
    ways,
    reached,
    dropped,
    refused,
    send,
    see(...observations: Observation[]) {
      r.now += MINUTE;
      handOver(r.go({ observations }));
      send();
    },
    answered() {
      for (const message of underWay.splice(0)) settle(message, { ok: true });
    },
    command(commands: Parameters<Rig['go']>[0]) {
      handOver(r.go(commands));
      send();
    },
    /** What each channel was told, in order. */
    told: () =>
      Object.fromEntries(
        (['pagerduty', 'slack', 'email'] as const).map((name) => [
          name,
          reached.filter(({ channel }) => channel === name).map(({ action }) => action),
        ]),
      ),
  };
}

type World = ReturnType<typeof world>;
const page = rule('page', { priority: 'P1', remindMs: 5 * MINUTE, cooldownMs: 0 });
const noise = Array.from({ length: 8 }, (_, i) => rule(`noise${i}`, { priority: 'P1' }));
const up = (...ids: string[]) => ids.map((id) => seen(id, 'breached'));
const clear = (...ids: string[]) => ids.map((id) => seen(id, 'clear'));
const BOTH = ['trigger', 'resolve'];
const only = (told: ReturnType<World['told']>, ...names: string[]) =>
  expect(told).toEqual({
    pagerduty: names.includes('pagerduty') ? BOTH : [],
    slack: names.includes('slack') ? BOTH : [],
    email: names.includes('email') ? BOTH : [],
  });
const silence = (w: World) => ({
  evalMs: w.r.now,
  wallMs: w.r.now,
  observations: up('page'),
  commands: [
    {
      kind: 'silence' as const,
      silence: { id: 's', ruleId: 'page', untilMs: w.r.now + 600 * MINUTE, by: 'ann', reason: 'known' },
    },
  ],
});

describe('a resolve follows its trigger, per channel', () => {
  test.each<[string, (w: World) => void, string[]]>([
    [
      'taken by all',
      (w) => {
        w.see(...up('page'));
        w.see(...clear('page'));
      },
      ['pagerduty', 'slack', 'email'],
    ],
    [
      'refused for good by one',
      (w) => {
        w.ways.slack = 'refuses';
        w.see(...up('page'));
        w.ways.slack = 'takes';
        w.see(...clear('page'));
      },
      ['pagerduty', 'email'],
    ],
    [
      'refused for good by one, whose resolve was waiting behind it',
      (w) => {
        w.ways.slack = 'down';
        w.see(...up('page'));
        w.see(...clear('page'));
        w.ways.slack = 'refuses';
        w.send();
      },
      ['pagerduty', 'email'],
    ],
    [
      'answered doubtfully by one: it may have it',
      (w) => {
        w.ways.slack = 'doubtful';
        w.see(...up('page'));
        w.ways.slack = 'takes';
        w.see(...clear('page'));
      },
      ['pagerduty', 'slack', 'email'],
    ],
    [
      'given up for want of room, and resolved later',
      (w) => {
        w.ways.slack = 'down';
        w.see(...up('page'));
        w.see(...up('page', ...noise.map(({ id }) => id)));
        w.see(...up('page'), ...clear(...noise.map(({ id }) => id)));
        w.ways.slack = 'takes';
        w.send();
        w.reached.splice(0, w.reached.length, ...w.reached.filter(({ incidentId }) => incidentId === 'incident1'));
        w.see(...clear('page'));
      },
      ['pagerduty', 'email'],
    ],
    [
      'given up for want of room, with a resolve behind it',
      (w) => {
        w.ways.slack = 'down';
        w.see(...up('page'));
        w.see(...clear('page'));
        w.see(...up(...noise.map(({ id }) => id)));
        w.ways.slack = 'takes';
        w.send();
        w.reached.splice(0, w.reached.length, ...w.reached.filter(({ incidentId }) => incidentId === 'incident1'));
      },
      ['pagerduty', 'email'],
    ],
    [
      'given up for want of room while it was under way, and taken after all, before the end',
      (w) => {
        w.ways.slack = 'slow';
        w.see(...up('page'));
        w.see(...up('page', ...noise.map(({ id }) => id)));
        w.answered();
        w.ways.slack = 'takes';
        w.send();
        w.see(...clear('page'), ...up(...noise.map(({ id }) => id)));
        w.reached.splice(0, w.reached.length, ...w.reached.filter(({ incidentId }) => incidentId === 'incident1'));
      },
      ['pagerduty', 'slack', 'email'],
    ],
    [
      'given up for want of room while it was under way, and taken after the end',
      (w) => {
        w.ways.slack = 'slow';
        w.see(...up('page'));
        w.see(...up('page', ...noise.map(({ id }) => id)));
        w.see(...clear('page'), ...up(...noise.map(({ id }) => id)));
        w.answered();
        w.ways.slack = 'takes';
        w.send();
        w.reached.splice(0, w.reached.length, ...w.reached.filter(({ incidentId }) => incidentId === 'incident1'));
      },
      ['pagerduty', 'slack', 'email'],
    ],
    [
      'silenced from the beginning: nobody is told anything',
      (w) => {
        w.command(silence(w));
        w.see(...up('page'));
        w.see(...clear('page'));
      },
      [],
    ],
    [
      'silenced afterwards: the end is told all the same',
      (w) => {
        w.see(...up('page'));
        w.command(silence(w));
        w.see(...clear('page'));
      },
      ['pagerduty', 'slack', 'email'],
    ],
    [
      'of a rule that inhibition mutes',
      (w) => {
        w.r.restart([page, rule('above', { priority: 'P4' }), { ...page, inhibitedBy: ['above'] }]);
        w.see(...up('above'));
        w.see(...up('above', 'page'));
        w.see(...clear('above', 'page'));
      },
      [],
    ],
    [
      'of a rule that is less urgent by now: those who were paged hear of the end',
      (w) => {
        w.see(...up('page'));
        w.r.restart([{ ...page, priority: 'P3', remindMs: 0 }]);
        w.see(...up('page'));
        w.see(...clear('page'));
      },
      ['pagerduty', 'slack', 'email'],
    ],
    [
      'of a rule that became P4 before it fired',
      (w) => {
        w.r.restart([{ ...page, priority: 'P4' }]);
        w.see(...up('page'));
        w.see(...clear('page'));
      },
      [],
    ],
    [
      'of a rule that was removed while it fired',
      (w) => {
        w.see(...up('page'));
        w.r.restart([]);
        w.see();
      },
      ['pagerduty', 'slack', 'email'],
    ],
  ])('%s', (_, play, names) => {
    const w = world([page, ...noise], { perChannel: 6 });
    play(w);
    only(w.told(), ...names);
  });

  test('a reminder that was given up for want of room takes nothing from the page that arrived', () => {
    const w = world([page, ...noise], { perChannel: 4 });
    w.see(...up('page'));
    w.ways.slack = 'down';
    for (let i = 0; i < 30; i++) w.see(...up('page'));
    expect(w.dropped.map(({ channel, action }) => [channel, action])).not.toHaveLength(0);
    w.see(...up(...noise.map(({ id }) => id)), ...clear('page'));
    w.ways.slack = 'takes';
    w.send();
    const slack = w.reached.filter(({ channel, incidentId }) => channel === 'slack' && incidentId === 'incident1');
    expect(slack.map(({ action }) => action)).toEqual(BOTH);
  });

  test('whatever channels do, none hears of an end without a beginning, nor is left with a beginning alone', () => {
    const step = fc.oneof(
      fc.record({ up: fc.subarray([0, 1, 2, 3, 4]) }),
      fc.record({
        name: fc.constantFrom('pagerduty', 'slack', 'email'),
        way: fc.constantFrom<Way>('takes', 'down', 'refuses', 'doubtful', 'slow'),
      }),
      fc.constant('answered' as const),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 2, max: 12 }), (steps, perChannel) => {
        const ids = [0, 1, 2, 3, 4].map((i) => `r${i}`);
        const w = world(
          ids.map((id, i) =>
            rule(id, { priority: i % 2 === 0 ? 'P1' : 'P2', remindMs: 3 * MINUTE, cooldownMs: MINUTE }),
          ),
          { perChannel },
        );
        for (const one of steps) {
          if (one === 'answered') w.answered();
          else if ('up' in one) w.see(...ids.map((id, i) => seen(id, one.up.includes(i) ? 'breached' : 'clear')));
          else w.ways[one.name as ChannelName] = one.way;
        }
        w.answered();
        for (const name of ['pagerduty', 'slack', 'email'] as const) w.ways[name] = 'takes';
        w.see(...clear(...ids));
        w.see(...clear(...ids));
        const byIncident = new Map<string, string[]>();
        for (const { channel, incidentId, action } of w.reached) {
          const of = `${channel}/${incidentId}`;
          byIncident.set(of, [...(byIncident.get(of) ?? []), action]);
        }
        for (const [of, actions] of byIncident) {
          expect(actions[0], of).toBe('trigger');
          // Where nothing but ends waits one is given up; and a channel may refuse it.
          const lost = [...w.dropped, ...w.refused].some(
            ({ channel, incidentId, action }) => `${channel}/${incidentId}` === of && action === 'resolve',
          );
          if (!lost) expect(actions.at(-1), of).toBe('resolve');
        }
      }),
      { numRuns: 150 },
    );
  });
});
