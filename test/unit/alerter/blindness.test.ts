// "Log pipeline blind": who is told when, by whom it is taken back, and that a restart forgets nothing. What this process slept
// through is nobody's silence.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import {
  type BlindTold,
  blindIncidentId,
  createBlindWatch,
  createKeptSilences,
} from '../../../src/alerter/blindness.ts';
import { watchClock } from '../../../src/core/clock.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import type { SilenceRecord } from '../../../src/incidents/incident.ts';
import type { ChannelName } from '../../../src/incidents/notification.ts';
import { createFakeClock, type FakeClock } from '../../kit/fake-clock.ts';

const SECOND = 1_000;
const HOUR = 3_600_000;
const NAMES: readonly ChannelName[] = ['pagerduty', 'slack', 'email'];
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'logpipe-blind-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
});

/** An instance that is looked at every second; its channels take what they are given, or `later` when the test says what they answer. */
function instance(
  clock: FakeClock = createFakeClock(),
  { refuse = [] as readonly ChannelName[], later = false, channels = NAMES } = {},
) {
  const watch = watchClock(clock);
  const sent: string[] = [];
  const said: string[] = [];
  const keys = new Set<string>();
  const state = {
    trouble: undefined as string | undefined,
    answers: false,
    commands: true,
    silenced: undefined as string | undefined,
  };
  const waiting = new Map<string, string>();
  const handed: BlindTold[] = [];
  const metrics = createMetrics();
  const blind = createBlindWatch(
    {
      blindAfterMs: 60 * SECOND,
      brokers: ['k1:9092'],
      environment: 'test',
      pipeline: 'calling-platform-alerts',
      noteFile: join(folder, 'alerter', 'blind.json'),
    },
    {
      clock,
      awakeMs: watch.awakeMs,
      log: silentLog,
      metrics,
      channels: () => channels,
      silenced: () => state.silenced,
      send(entries) {
        for (const { id, channel, notification } of entries) {
          sent.push(`${notification.action} ${channel}`);
          said.push(notification.message);
          keys.add(notification.dedupKey);
          waiting.set(id, `${notification.action} ${channel}`);
          if (!later) blind.onResult(id, !refuse.includes(channel));
        }
      },
      forget: (ids) => {
        for (const id of ids) waiting.delete(id);
      },
      handOver: async (told) => {
        if (!state.commands) throw new Error('the commands topic takes nothing');
        handed.push(told);
      },
      trouble: () => state.trouble,
    },
  );
  let ended = false;
  const look = () => {
    if (ended) return;
    if (state.answers) blind.alive();
    blind.look();
    clock.after(SECOND, look);
  };
  look();
  const gauge = async () => (await metrics.blind.get()).values[0]?.value;
  const end = () => {
    ended = true;
    watch.stop();
  };
  return { clock, blind, sent, said, keys, state, waiting, handed, gauge, end };
}

const TOLD = ['trigger pagerduty', 'trigger slack', 'trigger email'];
const TAKEN_BACK = TOLD.map((line) => line.replace('trigger', 'resolve'));

describe('the one that decided last', () => {
  test('tells everybody after a minute, and takes it back with its first complete evaluation, not before', async () => {
    const { clock, blind, sent, said, state, gauge } = instance();
    blind.leads(true);
    await clock.advance(59 * SECOND);
    expect(sent).toEqual([]);
    await clock.advance(SECOND);
    expect(sent).toEqual(TOLD);
    expect(said[0]).toBe('Kafka has not answered for 60 s: what is logged is not seen, and no other alert can fire.');
    expect(await gauge()).toBe(1);
    await clock.advance(HOUR);
    expect(sent).toEqual(TOLD);
    state.answers = true;
    await clock.advance(10 * SECOND);
    expect([sent, blind.blind()]).toEqual([TOLD, true]);
    blind.evaluated();
    blind.evaluated();
    expect([sent, blind.blind(), await gauge()]).toEqual([[...TOLD, ...TAKEN_BACK], false, 0]);
    expect(readdirSync(join(folder, 'alerter'))).toEqual([]);
  });

  test('tells nobody of the end who refused the beginning, whether that is known before or after the end', async () => {
    const early = instance(undefined, { refuse: ['slack'] });
    early.blind.leads(true);
    await early.clock.advance(HOUR);
    expect(early.sent).toEqual(TOLD);
    early.state.answers = true;
    await early.clock.advance(SECOND);
    early.blind.evaluated();
    expect(early.sent).toEqual([...TOLD, 'resolve pagerduty', 'resolve email']);

    const late = instance(undefined, { later: true });
    late.blind.leads(true);
    await late.clock.advance(60 * SECOND);
    late.state.answers = true;
    await late.clock.advance(SECOND);
    late.blind.evaluated();
    expect([...late.waiting.values()]).toEqual([...TOLD, ...TAKEN_BACK]);
    for (const [id, what] of [...late.waiting].slice(0, 3)) late.blind.onResult(id, what !== 'trigger slack');
    expect([...late.waiting.values()].slice(3)).toEqual(['resolve pagerduty', 'resolve email']);
  });

  test('is blind, too, while counts cannot be written although Kafka answers', async () => {
    const { clock, blind, sent, said, state } = instance();
    state.answers = true;
    blind.leads(true);
    await clock.advance(100 * SECOND);
    state.trouble = 'not enough replicas';
    await clock.advance(30 * SECOND);
    // Once in a while it works.
    state.trouble = undefined;
    await clock.advance(SECOND);
    state.trouble = 'not enough replicas';
    await clock.advance(60 * SECOND);
    expect(sent).toEqual([]);
    await clock.advance(SECOND);
    expect(sent).toEqual(TOLD);
    expect(said[0]).toMatch(/^For 60 s: not enough replicas: /);
    blind.evaluated();
    expect(sent).toEqual(TOLD);
    state.trouble = undefined;
    blind.evaluated();
    expect(sent).toEqual([...TOLD, ...TAKEN_BACK]);
  });
});

describe('one that stands by', () => {
  test('tells PagerDuty at once and the others two minutes later', async () => {
    const { clock, blind, sent } = instance();
    blind.leads(false);
    await clock.advance(60 * SECOND);
    expect(sent).toEqual(['trigger pagerduty']);
    await clock.advance(119 * SECOND);
    expect(sent).toHaveLength(1);
    await clock.advance(SECOND);
    expect(sent).toEqual(TOLD);
  });

  test('says to those who are told late that it may be the second message', async () => {
    const { clock, blind, said } = instance();
    blind.leads(false);
    await clock.advance(180 * SECOND);
    expect(said).toHaveLength(3);
    expect(said[0]).not.toMatch(/Another instance/);
    for (const words of said.slice(1)) expect(words).toMatch(/Another instance may have told you already\.$/);
  });

  test('and was cut off alone takes nothing back: it hands over to the one that decides, until that is written', async () => {
    const { clock, blind, sent, state, handed, gauge } = instance();
    blind.leads(false);
    state.commands = false;
    const since = clock.now() + 60 * SECOND;
    await clock.advance(200 * SECOND);
    expect(sent).toEqual(TOLD);
    state.answers = true;
    await clock.advance(30 * SECOND);
    expect([handed, blind.blind(), readdirSync(join(folder, 'alerter'))]).toEqual([[], true, ['blind.json']]);
    state.commands = true;
    await clock.advance(6 * SECOND);
    expect(handed).toEqual([
      {
        incidentId: blindIncidentId('test', 'calling-platform-alerts'),
        environment: 'test',
        sinceMs: since,
        channels: expect.toSatisfy((names: string[]) => names.sort().join() === 'email,pagerduty,slack'),
      },
    ]);
    expect([blind.blind(), await gauge(), readdirSync(join(folder, 'alerter'))]).toEqual([false, 0, []]);
    await clock.advance(HOUR);
    expect([sent, handed.length]).toEqual([TOLD, 1]);
  });

  test('hands over only what arrived; what arrives afterwards is handed over as well', async () => {
    const { clock, blind, waiting, state, handed } = instance(undefined, { later: true });
    blind.leads(false);
    await clock.advance(200 * SECOND);
    const [pagerduty, slack, email] = [...waiting.keys()] as [string, string, string];
    blind.onResult(slack, true);
    blind.onResult(email, false);
    state.answers = true;
    await clock.advance(2 * SECOND);
    expect(handed.map(({ channels }) => channels)).toEqual([['slack']]);
    expect([...waiting.keys()]).not.toContain(pagerduty);
    expect(blind.blind()).toBe(false);
    blind.onResult(pagerduty, true);
    await clock.advance(2 * SECOND);
    expect(handed.map(({ channels }) => channels)).toEqual([['slack'], ['pagerduty']]);
  });

  test('that decides by the time it reaches Kafka ends it itself', async () => {
    const { clock, blind, sent, state, handed } = instance();
    blind.leads(false);
    await clock.advance(70 * SECOND);
    state.answers = true;
    blind.leads(true);
    await clock.advance(10 * SECOND);
    blind.evaluated();
    expect([sent, handed]).toEqual([['trigger pagerduty', 'resolve pagerduty'], []]);
  });

  test('has the same key as all the others of its pipeline and environment, and no other', () => {
    const key = blindIncidentId('test', 'calling-platform-alerts');
    // In every process and every version: one that runs beside it has the same.
    expect(key).toBe('blind-b39767a2dff020de');
    expect(blindIncidentId('staging', 'calling-platform-alerts')).not.toBe(key);
    expect(blindIncidentId('test', 'other-alerts')).not.toBe(key);
  });
});

describe('a restart while blind', () => {
  test('tells nobody twice, and takes back what was told before', async () => {
    const before = instance();
    before.blind.leads(true);
    await before.clock.advance(60 * SECOND);
    expect(before.sent).toEqual(TOLD);
    before.end();
    const note = join(folder, 'alerter', 'blind.json');
    expect(statSync(note).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(note, 'utf8'))).toMatchObject({
      told: expect.arrayContaining(['pagerduty', 'slack', 'email']),
      led: true,
    });

    const after = instance();
    expect([after.blind.blind(), await after.gauge()]).toEqual([true, 1]);
    await after.clock.advance(HOUR);
    expect(after.sent).toEqual([]);
    after.state.answers = true;
    await after.clock.advance(SECOND);
    after.blind.leads(true);
    after.blind.evaluated();
    expect(after.sent.sort()).toEqual(TAKEN_BACK.toSorted());
    expect([...after.keys]).toEqual([...before.keys]);
  });

  test('tells again what nobody took', async () => {
    const before = instance(undefined, { refuse: ['pagerduty', 'slack', 'email'] });
    before.blind.leads(true);
    await before.clock.advance(60 * SECOND);
    before.end();
    const after = instance();
    after.blind.leads(true);
    await after.clock.advance(60 * SECOND);
    expect(after.sent).toEqual(TOLD);
  });
});

test('neither a sleep of an hour nor a clock that is set is Kafka’s silence', async () => {
  const { clock, blind, sent, state } = instance();
  blind.leads(true);
  state.answers = true;
  await clock.advance(10 * SECOND);
  state.answers = false;
  await clock.sleep(HOUR);
  expect(blind.silentMs()).toBeLessThan(5 * SECOND);
  for (const byMs of [HOUR, -2 * HOUR]) {
    clock.setWall(clock.now() + byMs);
    await clock.advance(20 * SECOND);
  }
  expect(sent).toEqual([]);
  await clock.advance(20 * SECOND);
  expect(sent).toEqual(TOLD);
});

describe('silenced', () => {
  test('tells nobody while it is, and everybody at its end if it is true then', async () => {
    const { clock, blind, sent, state, gauge } = instance();
    blind.leads(true);
    state.silenced = 'by ann: Kafka is upgraded';
    await clock.advance(HOUR);
    expect([sent, blind.blind(), await gauge()]).toEqual([[], true, 1]);
    state.silenced = undefined;
    await clock.advance(SECOND);
    expect(sent).toEqual(TOLD);
  });

  test('an upgrade that is over within it tells nobody at all', async () => {
    const planned = instance();
    planned.blind.leads(true);
    planned.state.silenced = 'maintenance upgrade';
    await planned.clock.advance(HOUR);
    planned.state.answers = true;
    await planned.clock.advance(2 * SECOND);
    planned.blind.evaluated();
    planned.state.silenced = undefined;
    await planned.clock.advance(HOUR);
    expect([planned.sent, planned.blind.blind()]).toEqual([[], false]);
  });

  test('one that stood by leaves it to the others for two minutes after the silence', async () => {
    const { clock, blind, sent, state } = instance();
    blind.leads(false);
    state.silenced = 'by ann';
    await clock.advance(HOUR);
    state.silenced = undefined;
    await clock.advance(119 * SECOND);
    expect(sent).toEqual(['trigger pagerduty']);
    await clock.advance(5 * SECOND);
    expect(sent).toEqual(TOLD);
  });

  test('what was told before is taken back all the same', async () => {
    const { clock, blind, sent, state } = instance();
    blind.leads(true);
    await clock.advance(HOUR);
    state.silenced = 'by ann';
    state.answers = true;
    await clock.advance(2 * SECOND);
    blind.evaluated();
    expect(sent).toEqual([...TOLD, ...TAKEN_BACK]);
  });

  test('a restart takes back what teams and people were told, each by its own channel', async () => {
    const own = ['pagerduty:ops', 'slack:ops', 'email:ada'];
    const before = instance(undefined, { channels: own });
    before.blind.leads(false);
    await before.clock.advance(60 * SECOND);
    // Services with dedup keys at once.
    expect(before.sent).toEqual(['trigger pagerduty:ops']);
    await before.clock.advance(3 * 60 * SECOND);
    before.end();
    const after = instance(createFakeClock(), { channels: own });
    after.blind.leads(true);
    after.state.answers = true;
    await after.clock.advance(2 * SECOND);
    after.blind.evaluated();
    expect(after.sent).toEqual(own.map((name) => `resolve ${name}`));
  });
});

describe('the silences last read', () => {
  const silence: SilenceRecord = { id: 's1', group: 'logpipe', untilMs: 5_000, by: 'ann', reason: 'upgrade' };
  const file = () => join(folder, 'alerter', 'silences.json');

  test('outlive the process, in a file that only its user reads; it is written when they have changed', () => {
    const kept = createKeptSilences(file(), { log: silentLog });
    expect(kept.silences()).toEqual([]);
    kept.keep([silence]);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    const again = createKeptSilences(file(), { log: silentLog });
    expect(again.silences()).toEqual([silence]);
    const { mtimeMs, ino } = statSync(file());
    again.keep([{ ...silence }]);
    expect(statSync(file())).toMatchObject({ mtimeMs, ino });
    again.keep([]);
    expect(createKeptSilences(file(), { log: silentLog }).silences()).toEqual([]);
  });

  test('a file that holds none, or none that can be read, silences nothing; a newer one is not touched', () => {
    createKeptSilences(file(), { log: silentLog }).keep([silence]);
    for (const text of ['', '{', '[]', '{"v":1}', '{"v":1,"silences":[{"id":"x"},7]}']) {
      writeFileSync(file(), text);
      expect(createKeptSilences(file(), { log: silentLog }).silences(), text).toEqual([]);
    }
    writeFileSync(file(), '{"v":2,"silences":[]}');
    expect(() => createKeptSilences(file(), { log: silentLog })).toThrow(/newer/);
  });

  test('a folder that takes nothing is said once, and what was read counts until the end', () => {
    const warned: string[] = [];
    writeFileSync(join(folder, 'alerter'), 'no folder');
    const kept = createKeptSilences(file(), { log: { ...silentLog, warn: (text) => void warned.push(text) } });
    kept.keep([silence]);
    kept.keep([silence]);
    expect([kept.silences(), warned]).toEqual([[silence], ['The silences cannot be saved']]);
  });
});
