// Acknowledge, resolve, silence without Kafka: from the command line to the answer and to what people get, over the real journal and the
// real term; and what the commands refuse before they give anything.
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { beginTerm } from '../../../src/alerter/alerter.ts';
import { followFolder } from '../../../src/alerter/commands-given.ts';
import { createCountedWindows } from '../../../src/alerter/counts-follower.ts';
import { openJournalStore } from '../../../src/alerter/store.ts';
import { alertsList } from '../../../src/cli/alerts.ts';
import {
  alertsAck,
  alertsResolve,
  alertsSilence,
  alertsSilences,
  alertsUnsilence,
  type SilenceOptions,
} from '../../../src/cli/on-call.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { Channel, Notification } from '../../../src/incidents/notification.ts';
import { MEASURES, rulesOf, T0 } from '../rules/kit.ts';

const RULES = rulesOf(
  '  silent: { title: Silent, priority: P2, kind: absence, measure: log.silence, above: 2 m }\n' +
    '  busy: { title: Busy, priority: P2, group: search, kind: threshold, measure: elasticsearch.status, atLeast: 2 }',
);
const GIVEN = { by: 'ann', waitSeconds: 20, json: false };

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'logpipe-commands-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function collector() {
  const said: string[] = [];
  const io = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(`! ${text}`) };
  return { said, io };
}

/** A leader in embedded mode, for which nothing has been logged for an hour, and Elasticsearch is red. */
async function embedded() {
  const journalDir = folder();
  const store = await openJournalStore({ folder: journalDir }, { log: silentLog });
  const now = () => T0 + Math.round(performance.now());
  const clock = { ...systemClock, now };
  const told: Notification[] = [];
  const waiting = new Set<() => void>();
  const slack: Channel = {
    name: 'slack',
    ratePerSecond: 1_000,
    async send(notification) {
      told.push(notification);
      for (const look of waiting) look();
      return { ok: true };
    },
    async close() {},
  };
  const term = beginTerm(
    { rules: RULES, environment: 'test', tickMs: 20 },
    {
      ...{ store, clock, log: silentLog, metrics: createMetrics(), masker: createMasker() },
      windows: createCountedWindows({ measures: MEASURES, rules: RULES, coveredFromMs: T0 }),
      ...{ results: new Map(), channels: new Map([['slack', slack]]), history: undefined, onLost() {} },
      onTick() {},
    },
  );
  const at = now() - 3_600_000;
  const totals = {
    ...{ lane: '0', arrivalMs: Math.floor(at / 10_000) * 10_000, upToOffset: 1, records: 1, format: 2 },
    buckets: [{ eventMs: Math.floor(at / 10_000) * 10_000, series: { 'log.events': { 'info\u001fv1': { n: 1 } } } }],
  };
  term.counts({ kind: 'totals', totals }, at, true);
  const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: at, caughtUp: true };
  term.counts({ kind: 'progress', progress }, now(), true);
  term.gauge('elasticsearch.status', {}, 2, now());
  const commands = followFolder(journalDir, { clock: systemClock, log: silentLog, onCommand: term.command });
  term.start();
  onTestFinished(async () => {
    await commands.close();
    await term.stop(0);
    await store.close();
  });

  /** Resolves with the first message that fits. */
  const hears = (what: Partial<Notification>) =>
    new Promise<Notification>((resolve) => {
      const look = () => {
        const found = told.find((one) =>
          Object.entries(what).every(([key, value]) => one[key as keyof Notification] === value),
        );
        if (found !== undefined) resolve(found);
      };
      waiting.add(look);
      look();
    });
  const config = { source: 'files', alerts: { journalDir }, mask: {}, notify: { environment: 'test' } } as never;
  const run = async (work: (config: never, io: ReturnType<typeof collector>['io']) => Promise<number>) => {
    const { said, io } = collector();
    const status = await work(config, io);
    return { status, said };
  };
  await Promise.all([hears({ reason: 'first', title: 'Silent' }), hears({ reason: 'first', title: 'Busy' })]);
  return { run, journalDir, told, hears, now };
}

const silence = (more: Partial<SilenceOptions>): SilenceOptions => ({ ...GIVEN, label: [], preview: false, ...more });

describe('alerts ack', () => {
  test('by the rule or the incident; people are told by whom; the second one changes nothing', async () => {
    const { run, hears, told } = await embedded();
    const first = await run((config, io) => alertsAck('busy', config, GIVEN, io, silentLog));
    const { incidentId } = told.find(({ title }) => title === 'Busy')!;
    expect(first).toEqual({ status: 0, said: [`acknowledged: Busy, incident ${incidentId}`] });
    expect(await hears({ action: 'acknowledge' })).toMatchObject({ incidentId, by: 'ann' });
    const again = await run((config, io) => alertsAck(incidentId, config, { ...GIVEN, by: 'bob' }, io, silentLog));
    expect(again).toEqual({
      status: 0,
      said: [expect.stringMatching(/^acknowledged already, by ann, 20\d\d-.*Z: nothing changes$/)],
    });
    expect(told.filter(({ action }) => action === 'acknowledge')).toHaveLength(1);
    const list = await run((config, io) => alertsList(config, { all: false, json: false }, io, silentLog));
    expect(list.said.join('\n')).toMatch(/P2 +acknowledged [\s\S]*acknowledged by ann \(cli\), /);
    await expect(run((config, io) => alertsAck('nothing', config, GIVEN, io, silentLog))).rejects.toThrow(
      /alerts ack: no alert of "nothing" is firing/,
    );
  });
});

describe('alerts resolve', () => {
  test('ends a silence; what is still true goes quiet, and people are told so', async () => {
    const { run, hears, told, journalDir } = await embedded();
    const resolve = (id: string, more = {}) =>
      run((config, io) => alertsResolve(id, config, { ...GIVEN, ...more }, io, silentLog));
    expect(await resolve('silent')).toEqual({ status: 0, said: ['1 alert resolved'] });
    await expect(resolve('silent')).rejects.toThrow(/no alert of "silent" is firing/);

    const { incidentId } = told.find(({ title }) => title === 'Busy')!;
    const { status, said } = await resolve(incidentId, { json: true });
    expect([status, JSON.parse(said[0]!)]).toMatchObject([0, { resolved: true, answered: true, stillTrue: ['busy'] }]);
    expect(JSON.parse(said[0]!).detail).toMatch(
      /^busy is still true: quiet until 20\d\d-.*Z, then told again if that has not changed; at once if it becomes worse$/,
    );
    const end = await hears({ action: 'resolve', incidentId });
    expect(end.message).toMatch(/^Resolved by hand by ann, though it is still true: it is quiet for 30 min/);
    const list = await run((config, io) => alertsList(config, { all: false, json: false }, io, silentLog));
    expect(list.said.join('\n')).toMatch(/P2 +quiet [\s\S]*quiet until 20\d\d-.*: resolved by hand by ann/);
    const ack = await run((config, io) => alertsAck(incidentId, config, GIVEN, io, silentLog));
    expect(ack.said[0]).toMatch(/^resolved by hand by ann, quiet until .*: nothing changes$/);
    // What was answered is removed a moment later.
    await expect
      .poll(() => existsSync(join(journalDir, 'commands')) && readdirSync(join(journalDir, 'commands')))
      .toEqual([]);
  });
});

describe('alerts silence, silences, unsilence', () => {
  test('previewed, set, listed, and ended before its time', async () => {
    const { run, now } = await embedded();
    const set = (more: Partial<SilenceOptions>) =>
      run((config, io) => alertsSilence(config, silence(more), io, silentLog, now));
    const preview = await set({ group: 'search', preview: true });
    expect(preview.status).toBe(0);
    expect(preview.said).toEqual([
      'a silence of group=search',
      'would mute now: 1 alert',
      expect.stringMatching(/^ {2}P2 Busy, 20\d\d-.*Z: busy$/),
      'would have muted, of what ended in the last 24 hours: nothing',
      '! nothing was changed; without --preview the silence is set',
    ]);
    await run((config, io) => alertsResolve('silent', config, GIVEN, io, silentLog));
    const ended = await set({ priority: 'P2', preview: true, json: true });
    expect(JSON.parse(ended.said[0]!)).toMatchObject({
      match: { priority: 'P2' },
      now: [{ ruleId: 'busy' }],
      lastDay: [{ alert: { ruleId: 'silent' } }],
    });
    const nothing = await run((config, io) => alertsSilences(config, { json: false }, io, silentLog, now));
    expect(nothing.said).toEqual(['! nothing is silenced']);

    const from = new Date(now() + 3_600_000).toISOString();
    expect((await set({ rule: 'silent', label: ['host=web-1'], for: '1h', from, reason: 'later' })).status).toBe(0);
    const { status, said } = await set({ group: 'search', for: '30m', reason: 'upgrade\u001b[2J', json: true });
    const { silence: record } = JSON.parse(said[0]!);
    expect([status, record]).toMatchObject([0, { group: 'search', by: 'ann', reason: 'upgrade\u001b[2J' }]);
    expect(record.untilMs - record.createdMs).toBe(1_800_000);
    const list = await run((config, io) => alertsList(config, { all: false, json: false }, io, silentLog));
    expect(list.said.join('\n')).toMatch(/busy, firing for .*, silenced by ann until .* \(upgrade/);
    const silences = await run((config, io) => alertsSilences(config, { json: false }, io, silentLog, now));
    expect(silences.said).toEqual([
      expect.stringMatching(/^ID +UNTIL +WHAT$/),
      expect.stringMatching(new RegExp(`^${record.id}  20.*Z  group=search$`)),
      '     by ann: upgrade\\u001b[2J',
      expect.stringMatching(/ {2}rule=silent host=web-1$/),
      expect.stringMatching(/^ {5}begins 20.*Z, by ann: later$/),
      '! 2 silences',
    ]);

    const unsilence = (id: string) => run((config, io) => alertsUnsilence(id, config, GIVEN, io, silentLog));
    expect(await unsilence(record.id)).toEqual({
      status: 0,
      said: [`silence ${record.id} has ended: group=search`],
    });
    await expect(unsilence(record.id)).rejects.toThrow(/there is no silence/);
  });

  test.each([
    [{ for: '1h', reason: 'x' }, /say what to silence: --rule, --group/],
    [{ rule: 'busy', reason: 'x' }, /say how long: either --for/],
    [{ rule: 'busy', for: '1h', until: '2030-01-01', reason: 'x' }, /say how long: either --for/],
    [{ rule: 'busy', for: 'soon', reason: 'x' }, /--for: "soon" is not a duration; write 30s, 10m or 2h/],
    [{ rule: 'busy', until: '2020-01-01', reason: 'x' }, /--until: found 2020-01-0\dT.*, which is over/],
    [{ rule: 'busy', until: 'midnight', reason: 'x' }, /--until: "midnight" is not a time/],
    [{ rule: 'busy', for: '500d', reason: 'x' }, /a year at most/],
    [{ rule: 'busy', for: '1h' }, /--reason: missing/],
    [{ rule: 'busy', for: '1h', reason: ' ' }, /--reason: missing/],
    [{ rule: 'busy', for: '1h', reason: 'x'.repeat(501) }, /--reason: 501 characters/],
    [{ label: ['tenantId'], for: '1h', reason: 'x' }, /--label: found "tenantId"; write name=value/],
    [{ label: ['tenantId='], for: '1h', reason: 'x' }, /--label: found "tenantId="/],
    [{ rule: '', for: '1h', reason: 'x' }, /something is empty or too long/],
    [{ rule: 'r'.repeat(2_000), for: '1h', reason: 'x' }, /something is empty or too long/],
    [{ label: ['a=1', 'a=2'], for: '1h', reason: 'x' }, /--label: a is given twice/],
    [{ priority: 'P9', for: '1h', reason: 'x' }, /--priority: found "P9"; permitted: P1, P2, P3, P4/],
    [{ rule: 'busy', for: '1h', reason: 'x', waitSeconds: -1 }, /--wait-seconds takes a number/],
    [{ rule: 'busy', for: '1h', reason: 'x', by: ' ' }, /--by: is empty/],
  ])('%j is refused, and nothing is given', async (options, message) => {
    const journalDir = folder();
    const config = { source: 'files', alerts: { journalDir }, mask: {} } as never;
    await expect(alertsSilence(config, silence(options), collector().io, silentLog, () => T0)).rejects.toThrow(message);
    expect(readdirSync(journalDir)).toEqual([]);
  });
});

test('without an alerter there is no answer, and the command waits for one', async () => {
  const journalDir = folder();
  const config = { source: 'files', alerts: { journalDir }, mask: {} } as never;
  const { said, io } = collector();
  const options = silence({ rule: 'busy', for: '1h', reason: 'x', waitSeconds: 0.1 });
  expect(await alertsSilence(config, options, io, silentLog)).toBe(1);
  expect(said).toEqual(['! no answer within 0.1 s; it is carried out as soon as an alerter runs (within a day)']);
  expect(readdirSync(join(journalDir, 'commands'))).toHaveLength(1);
});
