// From decision to delivery, with the real machine and dispatcher, a store that fails on request, and crashes at every point
// between them.

import { describe, expect, test } from 'vitest';
import { createOutbox, type Outbox } from '../../../src/alerter/outbox.ts';
import { type AlertStore, LostTermError } from '../../../src/alerter/store.ts';
import type { Log } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createAlertMachine } from '../../../src/incidents/machine.ts';
import type { Channel, ChannelName, SendResult } from '../../../src/incidents/notification.ts';
import type { HistoryEntry, OutboxEntry, OutboxResult, StateKey } from '../../../src/incidents/records.ts';
import { createDispatcher, type Dispatcher } from '../../../src/notify/dispatcher.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { MINUTE, routesFrom, rule, save, seen } from '../incidents/machine-kit.ts';

const RULE = rule('r', { priority: 'P1' });
const OK: SendResult = { ok: true };
const DOWN: SendResult = { ok: false, retryable: true, reason: 'HTTP 503' };

/** What outlives a process: the store, and what the receivers got. */
function world() {
  const clock = createFakeClock();
  const stored = new Map<StateKey, object>();
  const received: string[] = [];
  const lines: string[] = [];
  const say = (level: string) => (text: string, meta?: object) =>
    void lines.push(`${level} ${text} ${JSON.stringify(meta)}`);
  const log: Log = { error: say('error'), warn: say('warn'), info: say('info'), debug() {} };
  let ids = 0;

  return {
    clock,
    stored,
    received,
    lines,
    log,
    answers: { pagerduty: OK, slack: OK } as Partial<Record<ChannelName, SendResult>>,
    /** When a commit fails, and how. */
    commitFails: undefined as (() => Error) | undefined,
    /** Called with the name of each point that is reached: throwing there is a crash. */
    reach: (_: string) => {},
    commits: 0,

    /** One term. `results` is shared by the terms of one process. */
    term(results = new Map<string, OutboxResult>(), routes = routesByPriority(() => ['pagerduty', 'slack'])) {
      const self = this;
      let alive = true;
      const lost: LostTermError[] = [];
      const point = (name: string) => {
        if (!alive) throw new Error('dead');
        try {
          self.reach(name);
        } catch (error) {
          alive = false;
          throw error;
        }
      };
      const store: AlertStore = {
        initial: new Map(stored),
        async commit(changes) {
          if (changes.length === 0) return;
          point('decided');
          await Promise.resolve();
          if (self.commitFails !== undefined) throw self.commitFails();
          save(stored, { changes });
          self.commits += 1;
          point('committed');
        },
        async confirm() {
          if (!alive) throw new Error('dead');
        },
        async close() {},
      };
      const machine = createAlertMachine([RULE], store.initial, {
        nextId: () => `incident${++ids}`,
        environment: 'test',
        routes,
        masker: createMasker(),
      });
      const metrics = createMetrics();
      const outbox: Outbox = createOutbox(
        {},
        { machine, store, results, clock, log, metrics, onLost: (error) => lost.push(error) },
      );
      const channel = (name: ChannelName): [ChannelName, Channel] => [
        name,
        {
          name,
          ratePerSecond: 1_000,
          async send({ dedupKey, action }) {
            point(`sending ${name}`);
            const answer = self.answers[name] ?? OK;
            if (answer.ok) received.push(`${name} ${action} ${dedupKey}`);
            point(`sent ${name}`);
            return answer;
          },
          async close() {},
        },
      ];
      const dispatcher: Dispatcher = createDispatcher(
        {},
        {
          channels: new Map([channel('pagerduty'), channel('slack')]),
          clock,
          log,
          metrics,
          masker: createMasker(),
          random: () => 0,
          mayISend: outbox.mayISend,
          async onResult(id, result, retry) {
            point('recording');
            await outbox.onResult(id, result, retry);
          },
        },
      );
      const documents: HistoryEntry[] = [];
      outbox.start(dispatcher, { add: (entries) => documents.push(...entries), forget() {} });
      const step = (state: 'breached' | 'clear') =>
        outbox.step({ evalMs: clock.now(), wallMs: clock.now(), observations: [seen('r', state)] });
      const end = async () => {
        alive = false;
        await outbox.stop();
        await dispatcher.close();
      };
      return { machine, outbox, dispatcher, documents, lost, results, step, end };
    },
  };
}

const waiting = (stored: ReadonlyMap<StateKey, object>) =>
  [...stored.keys()].filter((key) => key.startsWith('outbox/') && !key.endsWith('-history'));

describe('the outbox', () => {
  test('what the clock skipped hurries no escalation, neither at an evaluation nor between two of them', async () => {
    const w = world();
    const routing =
      'hours: { timeZone: Etc/UTC }\npeople: { ada: { name: Ada, email: a@example.org } }\nteams: { ops: { rota: { primary: [ada] } } }';
    const t = w.term(new Map(), routesFrom(routing));
    await t.step('breached');
    await w.clock.advance(5 * MINUTE);
    w.clock.setWall(w.clock.now() + 60 * MINUTE);
    const nowMs = w.clock.now();
    const observations = [seen('r', 'breached')];
    await t.outbox.step({ evalMs: nowMs, wallMs: nowMs, observations, skippedMs: () => 60 * MINUTE });
    void t.outbox.onResult('of another message', OK, undefined);
    await w.clock.advance(MINUTE);
    expect(w.received.filter((line) => line.startsWith('slack'))).toEqual(['slack trigger logpipe/incident1']);
    await t.end();
  });

  test('sends when it is durable, writes down what became of it, and logs what was decided', async () => {
    const w = world();
    const { step, documents, outbox } = w.term();
    const deciding = step('breached');
    await Promise.resolve();
    expect(w.received).toEqual([]);
    await deciding;
    await w.clock.advance(1_000);
    expect(w.received.sort()).toEqual(['pagerduty trigger logpipe/incident1', 'slack trigger logpipe/incident1']);
    expect(waiting(w.stored)).toEqual([]);
    expect(documents.map(({ document }) => document.source.transition)).toEqual(['firing', 'notified', 'notified']);
    const written = outbox.onResults(documents.map(({ id }) => ({ id, result: OK })));
    await w.clock.advance(1_000);
    await written;
    expect([...w.stored.keys()]).toEqual(['alert/r', 'incident/incident1', 'meta/outbox']);
  });

  test('logs every alert as the operators’ guide has it', async () => {
    const w = world();
    const { step } = w.term();
    await step('breached');
    await step('clear');
    const said = w.lines.filter((line) => line.includes('ALERT'));
    expect(said).toEqual([
      expect.stringMatching(/^error CRITICAL ALERT \{"alert":\{"title":"Title of r","message":"r is over"\}/),
      expect.stringMatching(/^info ALERT RESOLVED /),
    ]);
  });

  test('a commit that fails is decided again, with one message in the end', async () => {
    const w = world();
    const { step } = w.term();
    w.commitFails = () => new Error('ENOSPC');
    await expect(step('breached')).rejects.toThrow('ENOSPC');
    await expect(step('breached')).rejects.toThrow('ENOSPC');
    await w.clock.advance(1_000);
    expect([w.received, w.lines.filter((line) => line.includes('ALERT'))]).toEqual([[], []]);
    w.commitFails = undefined;
    await step('breached');
    await w.clock.advance(1_000);
    expect(w.received).toHaveLength(2);
  });

  test('a result whose commit fails is written later; the next message of the incident waits for it', async () => {
    const w = world();
    const { step } = w.term();
    await step('breached');
    w.commitFails = () => new Error('ENOSPC');
    await w.clock.advance(1_000);
    expect(w.received).toHaveLength(2);
    expect(waiting(w.stored)).toHaveLength(2);
    w.commitFails = undefined;
    await step('clear');
    await w.clock.advance(1_000);
    expect(w.received.map((line) => line.split(' ').slice(0, 2).join(' ')).sort()).toEqual([
      'pagerduty resolve',
      'pagerduty trigger',
      'slack resolve',
      'slack trigger',
    ]);
    expect(waiting(w.stored)).toEqual([]);
  });

  test('a result counts when it is durable, one that is tried again at once', async () => {
    const w = world();
    const { step, outbox, machine } = w.term();
    await step('breached');
    // The history's, which nobody else in this test speaks of.
    const entry = machine.waiting().find(({ channel }) => channel === 'history') as OutboxEntry;
    await outbox.onResult(entry.id, DOWN, { attempts: 1, nextMs: 0 });
    let durable = false;
    const told = outbox.onResult(entry.id, OK, undefined).then(() => {
      durable = true;
    });
    await Promise.resolve();
    expect([durable, w.stored.has(`outbox/${entry.id}`)]).toEqual([false, true]);
    await w.clock.advance(1_000);
    await told;
    expect(w.stored.has(`outbox/${entry.id}`)).toBe(false);
  });

  test('a newer result that comes while an older one is written is not dropped with it', async () => {
    const w = world();
    const { step, outbox, machine, results } = w.term();
    await step('breached');
    const entry = machine.waiting().find(({ channel }) => channel === 'history') as OutboxEntry;
    await outbox.onResult(entry.id, DOWN, { attempts: 1, nextMs: 0 });
    let newer: Promise<void> | undefined;
    // Between the decision about the older result and its commit.
    w.reach = (point) => {
      if (point === 'decided') newer ??= outbox.onResult(entry.id, OK, undefined);
    };
    await step('breached');
    expect(w.stored.get(`outbox/${entry.id}`)).toMatchObject({ attempts: 1 });
    expect(results.get(entry.id)).toMatchObject({ result: OK });
    await w.clock.advance(1_000);
    await newer;
    expect(w.stored.has(`outbox/${entry.id}`)).toBe(false);
    expect(results.size).toBe(0);
  });

  test('a retry is remembered, so that a restart does not begin with a storm', async () => {
    const w = world();
    w.answers.slack = DOWN;
    const first = w.term();
    await first.step('breached');
    await w.clock.advance(10_000);
    const [entry] = [...w.stored].filter(([key]) => key.endsWith('-slack')).map(([, value]) => value);
    expect(entry).toMatchObject({ attempts: expect.any(Number), nextMs: expect.any(Number) });
    expect((entry as { attempts: number }).attempts).toBeGreaterThan(1);
    await first.end();
  });

  test.each(['taken', 'unknown'] as const)(
    'a term that is lost (%s) sends and decides nothing more, and says so once',
    async (why) => {
      const w = world();
      const { step, outbox, lost } = w.term();
      await step('breached');
      w.commitFails = () => new LostTermError(undefined, why);
      const waiting = outbox.onResult('000000000001-slack', OK, undefined);
      await expect(step('clear')).rejects.toThrow(LostTermError);
      await expect(step('clear')).rejects.toThrow(LostTermError);
      expect(await outbox.mayISend()).toBe(false);
      // Nobody waits for ever.
      await outbox.onResult('x', OK, undefined);
      await waiting;
      expect(lost).toMatchObject([{ why }]);
    },
  );

  test('what a term sent and could not write down is not sent by the next one of the same process', async () => {
    const w = world();
    const results = new Map<string, OutboxResult>();
    const first = w.term(results);
    await first.step('breached');
    w.commitFails = () => new LostTermError(undefined, 'unknown');
    await w.clock.advance(1_000);
    expect(w.received).toHaveLength(2);
    await first.end();
    w.commitFails = undefined;
    w.term(results);
    await w.clock.advance(60_000);
    expect(w.received).toHaveLength(2);
    expect(waiting(w.stored)).toEqual([]);
    expect(results.size).toBe(0);
  });
});

describe('a process killed', () => {
  // Each channel gets two messages; everything else happens more often.
  const points = { decided: 4, committed: 4, recording: 4 } as Record<string, number>;
  for (const channel of ['slack', 'pagerduty'])
    for (const when of ['sending', 'sent']) points[`${when} ${channel}`] = 2;
  const cases = Object.entries(points).flatMap(([point, times]) =>
    Array.from({ length: times }, (_, i) => [point, i + 1] as const),
  );
  const MESSAGES = ['pagerduty trigger', 'slack trigger', 'pagerduty resolve', 'slack resolve'];

  test.each(cases)(
    'at "%s", time %d: every message once, once more where it was not written down',
    async (point, nth) => {
      const w = world();
      let left: number = nth;
      const unwritten = new Set<string>();
      w.reach = (name) => {
        if (name !== point || --left > 0) return;
        w.reach = () => {};
        for (const [key, value] of w.stored) {
          const { channel, notification } = value as { channel?: string; notification?: { action: string } };
          const message = `${channel} ${notification?.action}`;
          // Received, and still in the outbox.
          if (key.startsWith('outbox/') && w.received.some((line) => line.startsWith(message))) unwritten.add(message);
        }
        throw new Error('killed');
      };
      // The process starts again whenever it was killed; the incident fires, then ends.
      for (const state of ['breached', 'clear'] as const) {
        for (let life = 0; life < 3; life++) {
          const { step, end } = w.term();
          await step(state).catch(() => {});
          await w.clock.advance(5_000);
          await end();
        }
      }
      expect(left, 'the point was never reached').toBeLessThanOrEqual(0);
      expect(waiting(w.stored)).toEqual([]);
      expect(new Set(w.received.map((line) => line.split(' ')[2])).size).toBe(1);
      for (const message of MESSAGES) {
        const times = w.received.filter((line) => line.startsWith(message)).length;
        expect(times, message).toBe(unwritten.has(message) ? 2 : 1);
      }
    },
  );
});
