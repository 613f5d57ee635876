// One term: it is confirmed before anything is sent; its evaluations are complete only with recent counts of every partition; it says
// when first-seen rules know as many kinds as they can, since from then on a new error is no news.
import { expect, onTestFinished, test } from 'vitest';
import { beginTerm } from '../../../src/alerter/alerter.ts';
import { type Command, decodeCommand, encodeCommand } from '../../../src/alerter/commands-given.ts';
import { createCountedWindows } from '../../../src/alerter/counts-follower.ts';
import { type AlertStore, LostTermError } from '../../../src/alerter/store.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { Channel } from '../../../src/incidents/notification.ts';
import { parseRouting } from '../../../src/oncall/routing.ts';
import { ERROR_TEMPLATE_VERSION } from '../../../src/tag/tag.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { MEASURES, rulesOf } from '../rules/kit.ts';

test.each([
  [0, 0],
  [10_000, 0.5],
  [20_000, 1],
])('%d kinds known', async (count, share) => {
  const said: string[] = [];
  const metrics = createMetrics();
  const initial = new Map(
    Array.from({ length: count }, (_, i) => {
      const key = `error.templates/fault ${i}`;
      return [`template/${key}`, { key, firstMs: 0, quiet: true, templates: ERROR_TEMPLATE_VERSION }] as const;
    }),
  );
  const term = beginTerm(
    { rules: [], environment: 'test', tickMs: 1_000 },
    {
      store: { initial, commit: async () => {}, confirm: async () => {}, close: async () => {} },
      windows: createCountedWindows({ measures: new Map(), rules: [], coveredFromMs: 0 }),
      results: new Map(),
      channels: new Map(),
      history: undefined,
      clock: createFakeClock(Date.parse('2026-01-05T10:00:00Z')),
      log: { ...silentLog, error: (message) => void said.push(message) },
      metrics,
      masker: createMasker(),
      onLost: () => {},
      onTick: () => {},
    },
  );
  expect((await metrics.firstSeenUsed.get()).values[0]?.value).toBe(share);
  expect(said).toHaveLength(share === 1 ? 1 : 0);
  await term.stop(0);
});

/** A term over a store that can be told to answer no more, with one message from before that waits to be sent. */
function begun(initial: ReadonlyMap<string, object> = new Map()) {
  const clock = createFakeClock();
  const events: string[] = [];
  const ticks: boolean[] = [];
  const kept = new Map(initial);
  const state = {
    confirm: async (): Promise<void> => {},
    async commit(changes: readonly { readonly key: string; readonly value: object | null }[]): Promise<void> {
      for (const { key, value } of changes) value === null ? kept.delete(key) : kept.set(key, value);
    },
  };
  const channel: Channel = {
    name: 'pagerduty',
    ratePerSecond: 100,
    async send({ action, dedupKey }) {
      events.push(dedupKey === undefined ? 'sent' : `sent ${action} ${dedupKey}`);
      return { ok: true };
    },
    close: async () => {},
  };
  const term = beginTerm(
    { rules: [], environment: 'test', tickMs: 250 },
    {
      store: {
        initial,
        commit: (changes) => state.commit(changes),
        async confirm() {
          events.push('asked');
          await state.confirm();
          events.push('confirmed');
        },
        close: async () => {},
      },
      windows: createCountedWindows({ measures: new Map(), rules: [], coveredFromMs: 0 }),
      results: new Map(),
      channels: new Map([['pagerduty', channel]]),
      history: undefined,
      clock,
      log: { ...silentLog, error: (message, meta) => void events.push(`${message} ${JSON.stringify(meta)}`) },
      metrics: createMetrics(),
      masker: createMasker(),
      onLost: ({ why }) => events.push(`lost: ${why}`),
      onTick: (complete) => ticks.push(complete),
    },
  );
  onTestFinished(async () => {
    const stopped = term.stop(0);
    await clock.advance(10_000);
    await stopped;
  });
  return { term, clock, events, ticks, state, kept };
}

const WAITING = new Map([
  [
    'outbox/000000000001-pagerduty',
    {
      id: '000000000001-pagerduty',
      channel: 'pagerduty',
      createdMs: 1,
      attempts: 0,
      nextMs: 0,
      notification: { incidentId: 'i', priority: 'P1', action: 'trigger', title: 'a page from before' },
    },
  ],
]);

test('nothing is sent before the term is confirmed, and nothing when it is lost', async () => {
  const kept = begun(WAITING);
  let confirm = () => {};
  kept.state.confirm = () => new Promise((resolve) => (confirm = resolve));
  kept.term.start();
  await kept.clock.advance(2_000);
  expect(kept.events).toEqual(['asked']);
  confirm();
  await kept.clock.advance(0);
  expect(kept.events).toEqual(['asked', 'confirmed', 'sent']);

  const lost = begun(WAITING);
  lost.state.confirm = async () => {
    throw new LostTermError();
  };
  lost.term.start();
  await lost.clock.advance(2_000);
  expect(lost.events).toEqual(['asked', 'lost: taken']);
});

test('an evaluation is complete when the counts of every partition are younger than half a minute, however few', async () => {
  const { term, clock, ticks } = begun();
  const told = (lane: string, atMs = clock.now()) =>
    term.counts(
      { kind: 'progress', progress: { lane, lanes: 2, position: 7, end: 7, arrivalMs: 1, caughtUp: true } },
      atMs,
      true,
    );
  const last = async (ms: number) => {
    await clock.advance(ms);
    return ticks.at(-1);
  };
  term.start();
  expect(await last(1_000)).toBe(false);
  told('0');
  expect(await last(250)).toBe(false);
  told('1');
  expect(await last(250)).toBe(true);
  // The wall clock of this process is none of the brokers' business.
  for (const byMs of [3_600_000, -7_200_000]) {
    clock.setWall(clock.now() + byMs);
    expect(await last(1_000)).toBe(true);
  }
  const { now } = term;
  expect(await last(26_000)).toBe(true);
  expect(await last(2_000)).toBe(false);
  told('0', now());
  told('1', now());
  expect(await last(250)).toBe(true);
  for (let n = 0; n < 32; n++) {
    told('0', now());
    await clock.advance(1_000);
  }
  expect(ticks.at(-1)).toBe(false);
});

test('what an instance told that was cut off alone is ended once, when everything is evaluated here', async () => {
  const command = decodeCommand(
    Buffer.from(
      encodeCommand({
        ...{ kind: 'blind-over', commandId: 'c1', by: 'host-2', incidentId: 'blind-0123456789abcdef' },
        ...{ environment: 'test', sinceMs: 5, channels: ['pagerduty'] },
      }),
    ),
  )!;
  const first = begun();
  const complete = async ({ term, clock }: typeof first) => {
    const progress = { lane: '0', lanes: 1, position: 7, end: 7, arrivalMs: 1, caughtUp: true };
    term.counts({ kind: 'progress', progress }, term.now(), true);
    await clock.advance(1_000);
  };
  const sent = ({ events }: typeof first) => events.filter((event) => event.startsWith('sent'));
  let answered = 0;
  first.term.start();
  first.term.command(command, () => answered++);
  await first.clock.advance(5_000);
  expect([sent(first), answered]).toEqual([[], 0]);
  await complete(first);
  expect([sent(first), answered]).toEqual([['sent resolve logpipe/blind-0123456789abcdef'], 1]);
  // The topic is read anew by whoever decides next.
  const second = begun(first.kept);
  second.term.start();
  second.term.command(command, () => answered++);
  await complete(second);
  expect([sent(second), answered]).toEqual([[], 2]);
});

test('what cannot be decided is a trouble, said with a count that doubles', async () => {
  const { term, clock, events, state } = begun();
  state.commit = async () => {
    throw new Error('no answer');
  };
  term.start();
  await clock.advance(250 * 9);
  expect(term.trouble()).toBe('alerts cannot be decided: no answer');
  const said = events.map((line) => JSON.parse(line.slice(line.indexOf('{'))) as { failures: number });
  expect(said.map(({ failures }) => failures)).toEqual([1, 2, 4, 8]);
  state.commit = async () => {};
  await clock.advance(250);
  expect(term.trouble()).toBeUndefined();
});

test('the brokers’ clock set back by an hour, with or without this one: evaluation takes up the new time within a second', async () => {
  for (const withWall of [true, false]) {
    const { term, clock, ticks } = begun();
    let brokersLess = 0;
    const second = async () => {
      for (const lane of ['0', '1']) {
        const progress = { lane, lanes: 2, position: 7, end: 7, arrivalMs: 1, caughtUp: true };
        term.counts({ kind: 'progress', progress }, start + elapsed - brokersLess, true);
      }
      elapsed += 1_000;
      await clock.advance(1_000);
    };
    const start = clock.now();
    let elapsed = 0;
    term.start();
    for (let n = 0; n < 40; n++) await second();
    expect(ticks.at(-1)).toBe(true);
    if (withWall) clock.setWall(clock.now() - 3_600_000);
    brokersLess = 3_600_000;
    await second();
    expect(ticks.at(-1)).toBe(true);
    expect(Math.abs(term.now() - (start + elapsed - brokersLess))).toBeLessThan(1_500);
    for (let n = 0; n < 40; n++) await second();
    expect(ticks.slice(-150).every(Boolean)).toBe(true);
  }
});

test('on call, with terms that end between any two steps: nothing is lost, sent twice, or forgotten', async () => {
  const stored = new Map<string, object>();
  const rules = rulesOf(
    '  busy: { title: Busy, priority: P2, kind: threshold, measure: elasticsearch.status, atLeast: 2, keepFiring: 0s }',
  );
  // A Monday at 11:00 in Berlin.
  const clock = createFakeClock(Date.parse('2026-01-05T10:00:00Z'));
  const yaml = (primary: string) => `
hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada, email: ada@example.org }
  ben: { name: Ben, email: ben@example.org }
  cleo: { name: Cleo, email: cleo@example.org }
teams: { ops: { rota: { primary: [${primary}], secondary: [ben] } } }
`;
  const routingOf = (primary: string) => parseRouting(yaml(primary), {}, 'routing.yml', clock.now());
  let routing = routingOf('ada');
  const sent: string[] = [];
  const silences: string[] = [];
  const channels = new Map<string, Channel>(
    ['slack', 'email', 'email:ada', 'email:ben', 'email:cleo'].map((name) => [
      name,
      {
        ...{ name, ratePerSecond: 100 },
        async send({ action, reason }) {
          sent.push(`${action} ${reason} ${name}`);
          return { ok: true };
        },
        close: async () => {},
      },
    ]),
  );
  const said = () => sent.splice(0).sort();

  async function lead() {
    const store: AlertStore = {
      initial: new Map(stored),
      async commit(changes) {
        for (const { key, value } of changes) {
          if (value === null) stored.delete(key);
          else stored.set(key, JSON.parse(JSON.stringify(value)));
        }
      },
      confirm: async () => {},
      close: async () => {},
    };
    const term = beginTerm(
      { rules, routing, environment: 'test', tickMs: 250 },
      {
        store,
        windows: createCountedWindows({ measures: MEASURES, rules, coveredFromMs: 0 }),
        results: new Map(),
        channels,
        history: undefined,
        clock,
        log: silentLog,
        metrics: createMetrics(),
        masker: createMasker(),
        onLost: () => {},
        onTick: () => {},
        onSilences: (all) => void silences.push(all.map(({ id }) => id).join()),
      },
    );
    term.start();
    return { term };
  }
  let leader = await lead();
  const endTerm = async () => {
    const stopped = leader.term.stop(0);
    await clock.advance(0);
    await stopped;
  };
  onTestFinished(endTerm);
  const pass = async (ms: number, status: number) => {
    leader.term.gauge('elasticsearch.status', {}, status, clock.now());
    await clock.advance(ms + 2_000);
  };
  const successor = async () => {
    await endTerm();
    leader = await lead();
  };
  const command = (given: Command) => {
    let answered = 0;
    leader.term.command(given, () => answered++);
    return () => answered;
  };

  await pass(1_000, 2);
  expect(said()).toEqual(['trigger first email', 'trigger first email:ada', 'trigger first slack']);
  for (let minute = 0; minute < 13; minute++) {
    if (minute % 3 === 0) await successor();
    await pass(60_000, 2);
  }
  expect(said()).toEqual([]);
  await pass(120_000, 2);
  expect(said()).toEqual(['trigger escalated email:ben', 'trigger escalated slack']);
  await successor();
  await pass(1_000, 2);
  expect(said()).toEqual([]);

  const incidentId = leader.term.look()!.incidents[0]!.id;
  const ack: Command = { kind: 'acknowledge', commandId: 'c1', incidentId, by: 'ben', via: 'cli' };
  const first = command(ack);
  await pass(1_000, 2);
  expect([first(), said()]).toEqual([
    1,
    ['email', 'email:ada', 'email:ben', 'slack'].map((name) => `acknowledge acknowledged ${name}`),
  ]);
  // The topic is read again by whoever decides next.
  await successor();
  const again = command(ack);
  await pass(60 * 60_000, 2);
  expect([again(), said()]).toEqual([1, []]);

  await pass(1_000, 0);
  expect(said()).toEqual(['email', 'email:ada', 'email:ben', 'slack'].map((name) => `resolve all-resolved ${name}`));
  routing = routingOf('cleo');
  leader.term.changeRouting(routing);
  await pass(60 * 60_000, 0);
  const untilMs = clock.now() + 3_600_000;
  const silence: Command = {
    ...{ kind: 'silence', commandId: 'c2', via: 'cli' },
    silence: { id: 's1', ruleId: 'busy', untilMs, by: 'ben', reason: 'known' },
  };
  command(silence);
  await pass(1_000, 2);
  await successor();
  await pass(1_000, 2);
  expect([said(), silences.at(-1)]).toEqual([[], 's1']);
  command({ kind: 'unsilence', commandId: 'c3', id: 's1', by: 'ben', via: 'cli' });
  await pass(1_000, 2);
  expect([said(), silences.at(-1)]).toEqual([
    ['trigger first email', 'trigger first email:cleo', 'trigger first slack'],
    '',
  ]);
}, 60_000);

test('a day of commands, read at a take-over, takes a time that grows with their number', async () => {
  const took = async (count: number) => {
    const { term, clock, kept } = begun();
    term.start();
    const before = process.cpuUsage();
    for (let i = 0; i < count; i++) {
      term.command({ kind: 'acknowledge', commandId: `c${i}`, incidentId: 'none', by: 'ada' }, () => {});
    }
    await clock.advance(250);
    const { user, system } = process.cpuUsage(before);
    expect([...kept.keys()].filter((key) => key.startsWith('command/'))).toHaveLength(count);
    return user + system;
  };
  await took(1_000);
  let best = Number.POSITIVE_INFINITY;
  // Processor time: linear is 8, quadratic 64.
  for (let attempt = 0; attempt < 3 && best > 16; attempt++) {
    best = Math.min(best, (await took(40_000)) / (await took(5_000)));
  }
  expect(best).toBeLessThan(24);
});
