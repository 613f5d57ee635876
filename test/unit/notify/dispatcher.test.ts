// The dispatcher on a clock of its own: order, rate, independence, backoff, the term, and the two phases of a stop.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Log } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { Channel, ChannelName, Notification, Retry, SendResult } from '../../../src/incidents/notification.ts';
import { createDispatcher, type Dispatcher, type OutboxEntry } from '../../../src/notify/dispatcher.ts';
import { createFakeClock, type FakeClock, settled } from '../../kit/fake-clock.ts';
import { notification } from '../../kit/notifications.ts';

const OK: SendResult = { ok: true };
const DOWN: SendResult = { ok: false, retryable: true, reason: 'HTTP 503' };
const DOUBTFUL: SendResult = { ok: false, retryable: true, reason: 'HTTP 200 with a web page', doubtful: true };
const REFUSED: SendResult = { ok: false, retryable: false, reason: 'HTTP 404: no_service' };
const busy = (retryAfterMs: number): SendResult => ({ ok: false, retryable: true, retryAfterMs, reason: 'HTTP 429' });

interface Sent {
  readonly channel: ChannelName;
  readonly incidentId: string;
  readonly action: string;
  /** ms since the start */
  readonly at: number;
}

type Answer = (
  message: Notification,
  signal: AbortSignal,
  left?: readonly string[],
) => Promise<SendResult> | SendResult;

interface Rig {
  readonly dispatcher: Dispatcher;
  readonly clock: FakeClock;
  readonly start: number;
  /** Of the routing, which may change. */
  readonly channels: Map<ChannelName, Channel>;
  readonly sent: Sent[];
  readonly results: [id: string, result: SendResult, retry?: Retry][];
  readonly lines: string[];
  readonly metrics: ReturnType<typeof createMetrics>;
  confirm: () => Promise<boolean>;
  onResult: (id: string) => Promise<void> | void;
  asked: number;
  add(
    ...entries: Partial<OutboxEntry & { incident: string; action: Notification['action']; priority: 'P1' | 'P3' }>[]
  ): void;
}

let ids = 0;

function rig(answers: Partial<Record<ChannelName, Answer>>, ratePerSecond = 1_000): Rig {
  const clock = createFakeClock();
  const start = clock.now();
  const sent: Sent[] = [];
  const results: Rig['results'] = [];
  const lines: string[] = [];
  const metrics = createMetrics();
  const say = (level: string) => (text: string, meta?: object) =>
    void lines.push(`${level} ${text} ${JSON.stringify(meta ?? {})}`);
  const log: Log = { error: say('error'), warn: say('warn'), info() {}, debug() {} };
  const channels = new Map<ChannelName, Channel>();
  for (const [name, answer] of Object.entries(answers) as [ChannelName, Answer][]) {
    channels.set(name, {
      name,
      ratePerSecond,
      async send(message, signal, left) {
        const { incidentId, action } = message;
        sent.push({ channel: name, incidentId, action, at: clock.now() - start });
        return answer(message, signal, left);
      },
      async close() {},
    });
  }
  const made: Rig = {
    clock,
    start,
    channels,
    sent,
    results,
    lines,
    metrics,
    confirm: async () => true,
    onResult: () => {},
    asked: 0,
    dispatcher: createDispatcher(
      {},
      {
        channels,
        clock,
        log,
        metrics,
        masker: createMasker(),
        random: () => 0.5,
        mayISend: () => {
          made.asked += 1;
          return made.confirm();
        },
        async onResult(id, result, retry) {
          await made.onResult(id);
          results.push(retry === undefined ? [id, result] : [id, result, retry]);
        },
      },
    ),
    add(...entries) {
      made.dispatcher.add(
        entries.map(({ incident = 'A', action = 'trigger', priority = 'P1', ...entry }) => ({
          id: `outbox/${ids++}`,
          channel: 'slack',
          attempts: 0,
          nextMs: 0,
          notification: notification({ incidentId: incident, action, priority }),
          ...entry,
        })),
      );
    },
  };
  return made;
}

/** Answers in turn, the last one for ever. */
function inTurn(...answers: SendResult[]): Answer {
  let n = 0;
  return () => answers[Math.min(n++, answers.length - 1)]!;
}

/** Answers when told to. */
function held() {
  const waiting: ((result: SendResult) => void)[] = [];
  const answer: Answer = () => new Promise((resolve) => waiting.push(resolve));
  return { answer, give: (result: SendResult) => waiting.shift()!(result) };
}

const brief = ({ channel, incidentId, action, at }: Sent) => `${at} ${channel} ${incidentId} ${action}`;

describe('order', () => {
  test('a resolve never overtakes its trigger, however long that takes; other incidents go on', async () => {
    const answer = inTurn(DOWN, OK, DOWN, OK);
    const { add, clock, sent, dispatcher } = rig({ slack: answer });
    add({ incident: 'A' }, { incident: 'A', action: 'resolve' }, { incident: 'B' });
    await clock.advance(60_000);
    expect(sent.map(brief)).toEqual([
      '0 slack A trigger',
      '1 slack B trigger',
      // 1 s, then 2 s times 0.75 of jitter
      '1000 slack A trigger',
      '2500 slack A trigger',
      '2501 slack A resolve',
    ]);
    expect(dispatcher.pending()).toBe(0);
  });

  test('the next message of an incident waits until the result of the one before is recorded', async () => {
    const made = rig({ slack: () => OK });
    let recorded = () => {};
    made.onResult = () => new Promise((resolve) => (recorded = resolve));
    made.add({ id: 'first' }, { id: 'second', action: 'resolve' });
    await made.clock.advance(60_000);
    expect(made.sent.map(brief)).toEqual(['0 slack A trigger']);
    recorded();
    await made.clock.advance(0);
    expect(made.results).toEqual([['first', OK]]);
    expect(made.sent.map(brief)).toEqual(['0 slack A trigger', '60000 slack A resolve']);
  });

  test('what left the outbox is forgotten, but for the attempt under way', async () => {
    const { answer, give } = held();
    const { add, clock, sent, dispatcher } = rig({ slack: answer });
    add({ id: 'under-way' }, { id: 'next' }, { id: 'other', incident: 'B' }, { id: 'kept', incident: 'C' });
    await clock.advance(10);
    dispatcher.forget(['under-way', 'next', 'other', 'never-there']);
    expect(dispatcher.pending()).toBe(2);
    give(OK);
    await clock.advance(10);
    give(OK);
    await clock.advance(60_000);
    expect(sent.map(brief).map((line) => line.split(' ')[2])).toEqual(['A', 'C']);
    expect(dispatcher.pending()).toBe(0);
  });

  test('the most urgent first, else as they came', async () => {
    const { add, clock, sent } = rig({ slack: () => OK }, 1);
    add(
      { incident: 'first', priority: 'P3' },
      { incident: 'second', priority: 'P3' },
      { incident: 'third', priority: 'P3' },
      { incident: 'urgent', priority: 'P1' },
    );
    await clock.advance(10_000);
    expect(sent.map(({ incidentId }) => incidentId)).toEqual(['first', 'urgent', 'second', 'third']);
  });

  test('for any course of events: each message once, in order, at the rate, after the wait that was asked for', async () => {
    const outcome = fc.oneof(
      { weight: 3, arbitrary: fc.constant('ok' as const) },
      fc.constant('down' as const),
      fc.constant('refused' as const),
      fc.integer({ min: 0, max: 20_000 }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ incident: fc.constantFrom('A', 'B', 'C'), delay: fc.nat(3_000) }), { maxLength: 12 }),
        fc.array(outcome, { maxLength: 30 }),
        fc.constantFrom(0.5, 1, 4),
        async (messages, outcomes, rate) => {
          let n = 0;
          let notBefore = 0;
          const attempts: { title: string; at: number }[] = [];
          const made = rig(
            {
              slack: ({ title }) => {
                const at = made.clock.now() - start;
                expect(at).toBeGreaterThanOrEqual(notBefore);
                const last = attempts.at(-1);
                if (last !== undefined) expect(at - last.at).toBeGreaterThanOrEqual(1_000 / rate);
                attempts.push({ title, at });
                const given = outcomes[n++] ?? 'ok';
                if (typeof given === 'number') notBefore = at + given;
                return given === 'ok' ? OK : given === 'down' ? DOWN : given === 'refused' ? REFUSED : busy(given);
              },
            },
            rate,
          );
          const start = made.clock.now();
          for (const [i, { incident, delay }] of messages.entries()) {
            await made.clock.advance(delay);
            const title = `${incident}${String(i).padStart(2, '0')}`;
            made.add({ id: title, notification: notification({ incidentId: incident, title }) });
          }
          await made.clock.advance(3_600_000);
          const settledIds = made.results.filter(([, , retry]) => retry === undefined).map(([id]) => id);
          expect([...settledIds].sort()).toEqual(
            messages.map((m, i) => `${m.incident}${String(i).padStart(2, '0')}`).sort(),
          );
          for (const incident of ['A', 'B', 'C']) {
            const own = attempts.map(({ title }) => title).filter((title) => title.startsWith(incident));
            expect(own).toEqual([...own].sort());
          }
          expect(made.dispatcher.pending()).toBe(0);
          expect(made.asked).toBe(attempts.length);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('rate and backoff', () => {
  test('at most so many a second, on average', async () => {
    const { add, clock, sent } = rig({ slack: () => OK, pagerduty: () => OK }, 2);
    add(...['A', 'B', 'C', 'D'].map((incident) => ({ incident })));
    add({ channel: 'pagerduty' });
    await clock.advance(10_000);
    expect(sent.map(brief)).toEqual([
      '0 slack A trigger',
      '0 pagerduty A trigger',
      '500 slack B trigger',
      '1000 slack C trigger',
      '1500 slack D trigger',
    ]);
  });

  test('doubles from 1 s to 5 min, with jitter, and never gives up', async () => {
    const made = rig({ slack: () => DOWN });
    made.add({ id: 'x' });
    await made.clock.advance(3 * 3_600_000);
    const times = made.sent.map(({ at }) => at);
    const waits = times.slice(1).map((at, i) => at - times[i]!);
    expect(waits.slice(0, 11)).toEqual([
      1_000, 1_500, 3_000, 6_000, 12_000, 24_000, 48_000, 96_000, 192_000, 225_000, 225_000,
    ]);
    expect(Math.max(...waits)).toBe(225_000);
    expect(made.results.slice(0, 2)).toEqual([
      ['x', DOWN, { attempts: 1, nextMs: made.clock.now() - 3 * 3_600_000 + 1_000 }],
      ['x', DOWN, { attempts: 2, nextMs: made.clock.now() - 3 * 3_600_000 + 2_500 }],
    ]);
    expect(made.dispatcher.pending()).toBe(1);
  });

  test('Retry-After holds the whole channel, for exactly so long', async () => {
    const { add, clock, sent } = rig({ slack: inTurn(busy(30_000), OK), pagerduty: () => OK });
    add({ incident: 'A' }, { incident: 'B' }, { incident: 'A', channel: 'pagerduty' });
    await clock.advance(10_000);
    add({ incident: 'B', channel: 'pagerduty' });
    await clock.advance(60_000);
    expect(sent.map(brief)).toEqual([
      '0 slack A trigger',
      '0 pagerduty A trigger',
      '10000 pagerduty B trigger',
      '30000 slack A trigger',
      '30001 slack B trigger',
    ]);
  });

  test('goes on where the outbox says, but trusts no time that is further off than the longest wait', async () => {
    const made = rig({ slack: inTurn(DOWN, OK) });
    made.add({ incident: 'A', attempts: 5, nextMs: made.clock.now() + 20_000 });
    made.add({ incident: 'B', nextMs: made.clock.now() + 86_400_000 });
    await made.clock.advance(3_600_000);
    // attempt 6: 32 s times 0.75
    expect(made.sent.map(brief)).toEqual(['20000 slack A trigger', '44000 slack A trigger', '300000 slack B trigger']);
  });

  test('a wall clock set back by a day holds nothing up', async () => {
    const { add, clock, sent } = rig({ slack: inTurn(DOWN, OK) }, 1);
    add({ incident: 'A' }, { incident: 'B' });
    await clock.advance(1);
    clock.setWall(clock.now() - 86_400_000);
    await clock.advance(10_000);
    expect(sent.map(({ incidentId }) => incidentId)).toEqual(['A', 'B', 'A']);
  });
});

describe('channels', () => {
  test('one that hangs delays no other', async () => {
    const slack = held();
    const { add, clock, sent, dispatcher } = rig({ slack: slack.answer, pagerduty: () => OK, email: () => OK });
    for (const incident of ['A', 'B']) {
      for (const channel of ['slack', 'pagerduty', 'email'] as const) add({ incident, channel });
    }
    await clock.advance(1_000);
    expect(sent.map(({ channel }) => channel).sort()).toEqual(['email', 'email', 'pagerduty', 'pagerduty', 'slack']);
    expect([dispatcher.pending('slack'), dispatcher.pending('pagerduty'), dispatcher.pending()]).toEqual([2, 0, 2]);
  });

  test('a refusal is given up, said and counted; what comes after it goes', async () => {
    const names = ['slack', 'pagerduty', 'email', 'webhook', 'console', 'history'] as const;
    const made = rig(Object.fromEntries(names.map((name) => [name, inTurn(REFUSED, OK)])));
    for (const channel of names) made.add({ id: `${channel}/1`, channel }, { channel, action: 'resolve' });
    await made.clock.advance(10);
    expect(made.lines.map((line) => line.split(' {')[0])).toEqual(
      ['Slack', 'PagerDuty', 'e-mail', 'webhook', 'console', 'history'].map(
        (name) => `error Failed to send ${name} alert`,
      ),
    );
    expect(made.lines[0]).toBe(
      'error Failed to send Slack alert {"error":"HTTP 404: no_service","incidentId":"A","action":"trigger","reason":"first","priority":"P1","attempts":1,"givenUp":true}',
    );
    expect(made.results).toContainEqual(['slack/1', REFUSED]);
    expect(made.sent).toHaveLength(12);
    const text = await made.metrics.registry.getSingleMetricAsString('logpipe_notifications_total');
    expect(text).toContain('logpipe_notifications_total{channel="slack",result="given_up"} 1');
    expect(text).toContain('logpipe_notifications_total{channel="slack",result="sent"} 1');
  });

  test('a doubtful answer is asked for three times more, then it is not confirmed; what comes after it goes', async () => {
    const made = rig({ slack: inTurn(DOUBTFUL, DOWN, DOUBTFUL, DOUBTFUL, DOUBTFUL, OK) });
    made.add({ id: 'first' }, { action: 'resolve' });
    await made.clock.advance(60_000);
    expect(made.sent.map(({ action }) => action)).toEqual([...Array(5).fill('trigger'), 'resolve']);
    const retries = made.results.filter(([id]) => id === 'first').map(([, , retry]) => retry?.doubts);
    expect(retries).toEqual([1, 1, 2, 3, undefined]);
    expect(made.results.filter(([id]) => id === 'first').at(-1)).toEqual([
      'first',
      { ok: false, retryable: false, reason: 'not confirmed: HTTP 200 with a web page', doubtful: true },
    ]);
    expect(made.lines.find((line) => line.includes('notConfirmed'))).toMatch(
      /^error Failed to send Slack alert \{"error":"not confirmed: HTTP 200 with a web page",/,
    );
    const text = await made.metrics.registry.getSingleMetricAsString('logpipe_notifications_total');
    expect(text).toContain('logpipe_notifications_total{channel="slack",result="not_confirmed"} 1');
    // A successor goes on counting.
    const next = rig({ slack: inTurn(DOUBTFUL) });
    next.add({ attempts: 3, doubts: 3 });
    await next.clock.advance(10);
    expect(next.results.at(-1)?.[1]).toMatchObject({ doubtful: true, retryable: false });
  });

  test('who has a message does not get it again for the others’ sake, and a newer one goes to all at once', async () => {
    const left = ['two@ops.example'];
    const few: SendResult = { ok: false, retryable: true, reason: 'SMTP 450 at RCPT TO', left };
    const asked: unknown[] = [];
    const answers = inTurn(few, DOWN, few, OK);
    const made = rig({
      email: (message, signal, only) => {
        asked.push(only);
        return answers(message, signal, only);
      },
    });
    made.add({ id: 'first', channel: 'email' });
    await made.clock.advance(3_000);
    expect(asked).toEqual([undefined, left, left]);
    expect(made.results.map(([, , retry]) => retry?.left)).toEqual([left, left, left]);
    made.add({ id: 'second', channel: 'email', action: 'resolve' });
    await made.clock.advance(1_100);
    expect(made.results.slice(3)).toEqual([
      ['first', expect.objectContaining({ ok: false, retryable: false, left })],
      ['second', OK],
    ]);
    expect(made.sent.map(({ action }) => action)).toEqual(['trigger', 'trigger', 'trigger', 'resolve']);
    // A successor tries those who are left.
    const next = rig({
      email: (_, __, only) => {
        asked.push(only);
        return OK;
      },
    });
    next.add({ channel: 'email', attempts: 3, left });
    await next.clock.advance(10);
    expect(asked.at(-1)).toEqual(left);
  });

  test('a failed attempt is said with its masked reason, and when the next one is', async () => {
    const made = rig({
      slack: inTurn(DOWN, OK),
      pagerduty: () => {
        throw new Error('post https://user:pw12345@x.example/ password=hunter2\nfailed');
      },
    });
    made.add({}, { channel: 'pagerduty' });
    await made.clock.advance(10);
    expect(made.lines[0]).toMatch(
      /^error Failed to send Slack alert \{"error":"HTTP 503",.*"attempts":1,"retryInMs":1000\}$/,
    );
    expect(made.lines[1]).toMatch(
      /^error Failed to send PagerDuty alert \{"error":"unexpected: post https:\/\/\[masked\]@x\.example\/ password=\[masked\] failed"/,
    );
    const text = await made.metrics.registry.getSingleMetricAsString('logpipe_notifications_total');
    expect(text).toContain('logpipe_notifications_total{channel="slack",result="retried"} 1');
  });

  test('a channel that comes back, or comes, while logpipe runs is used from then on', async () => {
    const made = rig({});
    made.add({ id: 'gone', channel: 'email:ada' });
    await made.clock.advance(10);
    expect(made.results).toEqual([['gone', expect.objectContaining({ ok: false, retryable: false })]]);
    const back: Channel = {
      ...{ name: 'email:ada', ratePerSecond: 0.1, close: async () => {} },
      async send({ incidentId, action }) {
        made.sent.push({ channel: 'email:ada', incidentId, action, at: made.clock.now() - made.start });
        return OK;
      },
    };
    made.channels.set('email:ada', back);
    made.add({ channel: 'email:ada', incident: 'B' }, { channel: 'email:ada', incident: 'C' });
    await made.clock.advance(20_000);
    // At its own rate.
    expect(made.sent.map(brief)).toEqual(['10 email:ada B trigger', '10010 email:ada C trigger']);
  });

  test('an entry of a channel that is no longer configured is settled; one it already has is ignored', async () => {
    const made = rig({ slack: inTurn(DOWN, OK) });
    made.add({ id: 'same' }, { id: 'same' }, { id: 'gone', channel: 'webhook' });
    await made.clock.advance(10);
    made.add({ id: 'same' });
    expect(made.dispatcher.pending()).toBe(1);
    await made.clock.advance(10_000);
    expect(made.sent.map(brief)).toEqual(['0 slack A trigger', '1000 slack A trigger']);
    expect(made.results[1]).toEqual([
      'gone',
      { ok: false, retryable: false, reason: 'the channel is no longer configured' },
    ]);
  });
});

describe('the term', () => {
  test('is asked for before each attempt; when it is lost nothing more is sent, told or kept', async () => {
    const slack = held();
    const signals: AbortSignal[] = [];
    const made = rig({
      slack: (message, signal) => {
        signals.push(signal);
        return slack.answer(message, signal);
      },
      pagerduty: inTurn(DOWN, OK),
    });
    made.add({}, { action: 'resolve' }, { id: 'pd', channel: 'pagerduty' });
    await made.clock.advance(500);
    expect(made.asked).toBe(2);
    made.confirm = async () => false;
    await made.clock.advance(500);
    expect(made.asked).toBe(3);
    expect(made.dispatcher.active()).toBe(false);
    expect(made.dispatcher.pending()).toBe(0);
    // What was under way is cut off, and its result is the new leader's to find out.
    expect(signals[0]!.aborted).toBe(true);
    slack.give(OK);
    made.confirm = async () => true;
    made.add({ incident: 'C' });
    await made.clock.advance(3_600_000);
    expect(made.sent.map(brief)).toEqual(['0 slack A trigger', '0 pagerduty A trigger']);
    expect(made.results.map(([id]) => id)).toEqual(['pd']);
    expect(made.clock.timers()).toBe(0);
    expect(made.lines.filter((line) => line.includes('Another instance'))).toHaveLength(1);
  });

  test('that cannot be confirmed now makes everything wait, and is asked for again', async () => {
    const made = rig({ slack: () => OK });
    made.confirm = async () => {
      throw new Error('no broker');
    };
    made.add({});
    await made.clock.advance(5_500);
    expect(made.sent).toEqual([]);
    expect(made.asked).toBe(6);
    expect(made.lines).toEqual(['warn Notifications wait: the term is not confirmed {"error":"no broker"}']);
    made.confirm = async () => true;
    await made.clock.advance(1_000);
    expect(made.sent.map(brief)).toEqual(['6000 slack A trigger']);
  });

  test('that is confirmed only after the stop began sends nothing', async () => {
    const made = rig({ slack: () => OK });
    let confirm = (_: boolean) => {};
    made.confirm = () => new Promise((resolve) => (confirm = resolve));
    made.add({});
    await settled();
    const drained = made.dispatcher.drain(1_000);
    confirm(true);
    expect(await drained).toBe(true);
    expect(made.sent).toEqual([]);
    expect(made.dispatcher.pending()).toBe(1);
  });
});

describe('recording', () => {
  test('that fails is told again; the message is not sent again', async () => {
    const made = rig({ slack: () => OK });
    let failures = 3;
    made.onResult = () => {
      if (failures-- > 0) throw new Error('no broker');
    };
    made.add({ id: 'x' }, { id: 'y', action: 'resolve' });
    await made.clock.advance(60_000);
    expect(made.sent.map(brief)).toEqual(['0 slack A trigger', '5500 slack A resolve']);
    expect(made.results).toEqual([
      ['x', OK],
      ['y', OK],
    ]);
  });

  test('stops when the term is lost meanwhile', async () => {
    const made = rig({ slack: () => OK });
    made.onResult = () => {
      made.confirm = async () => false;
      throw new Error('fenced');
    };
    made.add({});
    await made.clock.advance(60_000);
    expect(made.dispatcher.active()).toBe(false);
    expect(made.results).toEqual([]);
    expect(made.sent).toHaveLength(1);
  });
});

describe('a stop', () => {
  test('first lets what is under way end and be recorded, and begins nothing', async () => {
    const slack = held();
    const made = rig({ slack: slack.answer, pagerduty: () => DOWN });
    made.add({ id: 'x' }, { incident: 'B' }, { channel: 'pagerduty' });
    await made.clock.advance(500);
    const drained = made.dispatcher.drain(5_000);
    await made.clock.advance(2_000);
    made.add({ incident: 'C' });
    slack.give(OK);
    expect(await drained).toBe(true);
    await made.clock.advance(60_000);
    expect(made.sent.map(brief)).toEqual(['0 slack A trigger', '0 pagerduty A trigger']);
    expect(made.results).toContainEqual(['x', OK]);
    expect(made.dispatcher.pending('slack')).toBe(1);
  });

  test('then ends by force, also when a channel does not react', async () => {
    const made = rig({ slack: held().answer });
    made.add({});
    await made.clock.advance(0);
    const drained = made.dispatcher.drain(5_000);
    await made.clock.advance(5_000);
    expect(await drained).toBe(false);
    await made.dispatcher.close();
    await made.dispatcher.close();
    expect(made.results).toEqual([]);
    expect(made.clock.timers()).toBe(0);
    expect(made.dispatcher.active()).toBe(false);
  });
});
