// One term after the other: none begins that was lost while its state was opened, and /ready says when Kafka is silent.
import { expect, test, vi } from 'vitest';
import { type AlerterDeps, createAlerter, type Term } from '../../../src/alerter/alerter.ts';
import { createCountedWindows } from '../../../src/alerter/counts-follower.ts';
import type { LeadershipHooks } from '../../../src/alerter/leadership.ts';
import { type AlertStore, LostTermError } from '../../../src/alerter/store.ts';
import { deferred } from '../../../src/core/clock.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

function running() {
  const clock = createFakeClock();
  const events: string[] = [];
  const followed: number[] = [];
  let dated: AlertStore['dated'];
  let hooks: LeadershipHooks | undefined;
  let epoch: number | undefined;
  let silentMs = 0;
  let trouble: string | undefined;
  let onMessage: Parameters<AlerterDeps['follow']>[1]['onMessage'] | undefined;
  /** Stores that are being opened. */
  const opening: { give(): void; fail(error: Error): void }[] = [];
  const known = deferred();
  const records = new Map<string, object>();
  const silences: string[] = [];
  let stores = 0;
  const alerter = createAlerter(
    { group: 'alerter' },
    {
      createLeadership(own) {
        hooks = own;
        return {
          start: () => {},
          ended: new Promise(() => {}),
          epoch: () => epoch,
          assured: async () => {},
          close: async () => {},
        };
      },
      createStores: () => ({
        async open() {
          const id = ++stores;
          const ready = deferred();
          opening.push({ give: ready.resolve, fail: ready.reject });
          await ready.promise;
          const store: AlertStore = {
            initial: new Map(),
            ...(dated && { dated }),
            commit: async () => {},
            confirm: async () => {},
            close: async () => void events.push(`store ${id} closed`),
          };
          return store;
        },
        known: known.promise.then(() => records),
        close: async () => {},
      }),
      follow(fromMs, own) {
        followed.push(fromMs);
        onMessage = own.onMessage;
        return {
          caughtUp: async () => void events.push('asked to catch up'),
          close: async () => void events.push('reader closed'),
        };
      },
      createWindows(fromMs) {
        const windows = createCountedWindows({ measures: new Map(), rules: [], coveredFromMs: fromMs });
        return { ...windows, counts: () => void events.push('counts while standing by') };
      },
      begin() {
        const id = stores;
        events.push(`term ${id} begins`);
        return {
          counts: (_message, _recordMs, live) => events.push(`counts ${live ? 'live' : 'past'}`),
          start: () => events.push(`term ${id} evaluates`),
          trouble: () => trouble,
          stop: async () => {
            events.push(`term ${id} ends`);
            return true;
          },
        } as Partial<Term> as Term;
      },
      startProbes: () => async () => {},
      blind: {
        alive: () => {},
        leads: (is) => events.push(is ? 'leads' : 'stands by'),
        look() {},
        silentMs: () => silentMs,
      },
      reachMs: () => 60_000,
      onSilences: (all) => void silences.push(all.map(({ id }) => id).join()),
      followCommands: () => undefined,
      clock,
      log: silentLog,
    },
  );
  const member = {
    leads(number: number) {
      epoch = number;
      hooks!.onTerm(number);
    },
    loses(why = 'another member leads') {
      const lost = epoch!;
      epoch = undefined;
      hooks!.onLost(lost, why);
    },
    away: (why: string) => hooks!.onAway!(why),
    standsBy: () => hooks!.onStandby!(),
  };
  const set = (values: { silentMs?: number; trouble?: string | undefined; dated?: AlertStore['dated'] }) => {
    dated = values.dated;
    silentMs = values.silentMs ?? 0;
    trouble = values.trouble;
  };
  return {
    alerter,
    member,
    opening,
    events,
    followed,
    clock,
    set,
    known,
    records,
    silences,
    message: () => onMessage!,
  };
}

test('a term that is lost while its state is opened does not begin, and the next one is the only one', async () => {
  const { member, opening, events } = running();
  member.leads(1);
  await settled();
  member.loses();
  member.leads(2);
  await settled();
  expect(opening).toHaveLength(1);
  opening[0]!.give();
  await settled();
  expect(events).toEqual(['leads', 'leads', 'store 1 closed']);
  opening[1]!.give();
  await settled();
  expect(events.slice(3)).toEqual(['term 2 begins', 'asked to catch up', 'term 2 evaluates']);
  member.loses();
  await settled();
  expect(events.slice(6)).toEqual(['term 2 ends', 'store 2 closed']);
});

test('nor does one whose process is told to stop meanwhile', async () => {
  const { alerter, member, opening, events } = running();
  member.leads(1);
  await settled();
  const stopped = alerter.stop(1_000);
  opening[0]!.give();
  expect(await stopped).toBe(true);
  expect(events).toEqual(['leads', 'store 1 closed']);
});

test('/ready: false while Kafka is away or silent, while the state cannot be read, while nothing can be decided', async () => {
  const { alerter, member, opening, set } = running();
  expect(alerter.status()).toEqual({ ready: false, detail: 'not started' });
  member.standsBy();
  expect(alerter.status().ready).toBe(true);
  set({ silentMs: 11_000 });
  expect(alerter.status()).toEqual({
    ready: false,
    detail: 'Kafka has not answered for 11 s (standing by: another instance decides)',
  });
  set({});
  member.away('connection refused');
  expect(alerter.status()).toEqual({ ready: false, detail: 'waiting for Kafka: connection refused' });
  member.leads(1);
  await settled();
  opening[0]!.fail(new LostTermError(undefined, 'unknown'));
  await settled();
  expect(alerter.status().ready).toBe(false);
  expect(alerter.trouble()).toMatch(/^the alert state cannot be read: /);
  // The wait between attempts is real.
  await vi.waitFor(() => expect(opening).toHaveLength(2));
  opening[1]!.give();
  await settled();
  expect([alerter.status(), alerter.trouble()]).toEqual([{ ready: true, detail: 'evaluating' }, undefined]);
  set({ trouble: 'alerts cannot be decided: no answer' });
  expect(alerter.status()).toEqual({ ready: false, detail: 'alerts cannot be decided: no answer' });
  expect(alerter.trouble()).toBe('alerts cannot be decided: no answer');
});

test('what was written just now is told apart from what is read back', async () => {
  const { member, opening, events, message } = running();
  member.leads(1);
  await settled();
  opening[0]!.give();
  await settled();
  const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: 0, caughtUp: true };
  message()({ kind: 'progress', progress }, 1, false);
  message()({ kind: 'progress', progress }, 2, true);
  expect(events.slice(-2)).toEqual(['counts past', 'counts live']);
});

const PROGRESS = {
  kind: 'progress',
  progress: { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: 0, caughtUp: true },
} as const;

test('who stands by follows the counts, and reads nothing again when it takes over, again and again', async () => {
  const { alerter, member, opening, events, followed, known, message } = running();
  alerter.start();
  member.standsBy();
  known.resolve();
  await settled();
  expect(followed).toHaveLength(1);
  message()(PROGRESS, 1, true);
  for (const epoch of [1, 2]) {
    member.leads(epoch);
    await settled();
    opening[epoch - 1]!.give();
    await settled();
    message()(PROGRESS, 2, true);
    member.loses();
    await settled();
    message()(PROGRESS, 3, true);
  }
  const holdOf = (id: number) => [
    ...['leads', `term ${id} begins`, 'asked to catch up', `term ${id} evaluates`, 'counts live'],
    ...[`term ${id} ends`, `store ${id} closed`, 'counts while standing by'],
  ];
  expect(events).toEqual(['stands by', 'counts while standing by', ...holdOf(1), ...holdOf(2)]);
  expect(followed).toHaveLength(1);
});

test('how far back the counts are read is a matter of the brokers’ time, whatever this host’s clock says', async () => {
  const { alerter, member, opening, events, followed, clock, set, known } = running();
  alerter.start();
  known.resolve();
  await settled();
  const takeOver = async (brokersMs: number) => {
    set({ dated: { brokersMs, monotonicMs: clock.monotonicMs() } });
    const id = opening.length + 1;
    member.leads(id);
    await settled();
    opening[id - 1]!.give();
    await settled();
    member.loses();
    await settled();
  };
  // Behind the brokers it has read more than it needs.
  await takeOver(clock.now() + 2 * 3_600_000);
  expect(followed).toHaveLength(1);
  await takeOver(clock.now() - 5 * 3_600_000);
  expect(events).toContain('reader closed');
  expect(followed[0]! - followed[1]!).toBe(5 * 3_600_000);
  await takeOver(clock.now() - 5 * 3_600_000);
  expect(followed).toHaveLength(2);
});

test('a state of a newer logpipe ends the process; it is not tried again, and no term begins', async () => {
  const { alerter, member, opening, events } = running();
  alerter.start();
  const ended = expect(alerter.ended).rejects.toMatchObject({ code: 'LOGPIPE_ALERT_STATE_NEWER' });
  member.leads(1);
  await settled();
  opening[0]!.fail(new LogpipeError('LOGPIPE_ALERT_STATE_NEWER', 'topic: the alert state has format 2'));
  await ended;
  await settled();
  expect(opening).toHaveLength(1);
  expect(events.filter((event) => event.startsWith('term'))).toEqual([]);
});

test('an instance that stands by gives the silences that the leader has written, and no others', async () => {
  const { alerter, member, known, records, silences, clock } = running();
  alerter.start();
  member.standsBy();
  await clock.advance(3_000);
  // What the leader has written is not known yet.
  expect(silences).toEqual([]);
  known.resolve();
  records.set('alert/a', { id: 'a' });
  await clock.advance(1_000);
  records.set('silence/s1', { id: 's1' });
  await clock.advance(1_000);
  expect(silences.at(-1)).toBe('s1');
  records.delete('silence/s1');
  await clock.advance(1_000);
  expect(silences.at(-1)).toBe('');
  // From now on the term gives them.
  member.leads(1);
  const before = silences.length;
  records.set('silence/s2', { id: 's2' });
  await clock.advance(5_000);
  expect(silences).toHaveLength(before);
});
