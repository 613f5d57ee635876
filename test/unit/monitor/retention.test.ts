// What retention decides: judged by days counted here once more, for any clocks, names and time zones.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { HISTORY_PREFIX } from '../../../src/incidents/records.ts';
import { INDEX_PREFIX, REPLAY_PREFIX } from '../../../src/indexing/batch.ts';
import {
  agreedTime,
  type FoundIndex,
  indexKind,
  planRetention,
  type RetentionConfig,
  retentionIsOn,
} from '../../../src/monitor/retention.ts';

const DAY = 86_400_000;
const SCHEDULE = { schedule: '0 3 * * *', timeZone: 'UTC' };
const NOW = Date.parse('2026-11-29T03:00:00Z');

const index = (name: string, more: Partial<FoundIndex> = {}): FoundIndex => ({
  name,
  form: 'index',
  closed: false,
  blocks: [],
  ...more,
});
const dotted = (ms: number) => new Date(ms).toISOString().slice(0, 10).replaceAll('-', '.');
const logs = (ms: number) => index(`calling-platform-${dotted(ms)}`);

/** Names by decision. */
function decided(found: readonly FoundIndex[], config: Partial<RetentionConfig>, nowMs = NOW) {
  const plan = planRetention(found, { ...SCHEDULE, ...config }, nowMs);
  const names = (wanted: string) => plan.filter(({ decision }) => decision === wanted).map(({ name }) => name);
  return { deleted: names('delete'), kept: names('keep'), doubted: names('doubt'), plan };
}

describe('a name', () => {
  test.each([
    [`${INDEX_PREFIX}2026.11.28`, 'logs', '2026-11-29T00:00:00Z'],
    [`${INDEX_PREFIX}2024.02.29`, 'logs', '2024-03-01T00:00:00Z'],
    [`${HISTORY_PREFIX}2026.11`, 'alert_history', '2026-12-01T00:00:00Z'],
    [`${HISTORY_PREFIX}2026.12`, 'alert_history', '2027-01-01T00:00:00Z'],
    // Created at 42.
    [`${REPLAY_PREFIX}incident-7-2026.11.28`, 'replay', '1970-01-01T00:00:00.042Z'],
  ])('%s: %s', (name, kind, end) => {
    expect(indexKind(name, 42)).toEqual({ kind, endMs: Date.parse(end) });
  });

  test.each([
    'calling-platform-2026.11.28-old',
    'calling-platform-2026.11.28\n',
    'my-calling-platform-2026.11.28',
    '.calling-platform-2026.11.28',
    'calling-platform-2026.11',
    'calling-platform-2026.02.30',
    'calling-platform-2026.13.01',
    'calling-platform-2026-11-28',
    'calling-platform-*',
    'calling-platform-2026.11.28,x',
    'Calling-Platform-2026.11.28',
    'logpipe-alerts-2026.13',
    'logpipe-alerts-2026.00',
    'logpipe-alerts-2026.11.28',
    'logpipe-replay-2026.11.28',
    'logpipe-replay--2026.11.28',
    'logpipe-replay-x-2026.11.31',
    'logpipe-replay-X-2026.11.28',
    'logpipe-replay-x-2026.11.28-2',
  ])('%j is none that logpipe gives', (name) => {
    expect(indexKind(name, 42)).toBeUndefined();
    const { plan } = decided([index(name, { createdMs: 42 })], {
      retentionDays: 1,
      alertHistoryDays: 1,
      replayDays: 1,
    });
    expect(plan[0]).toMatchObject({ decision: 'keep', kind: undefined, why: 'not a name that logpipe gives' });
  });
});

describe('the plan', () => {
  const days = [...Array(12).keys()].map((n) => logs(NOW - n * DAY));

  test('a log index goes when its whole day is older than the days; today and what lies ahead stay', () => {
    const { deleted, kept, doubted } = decided([logs(NOW + 400 * DAY), ...days], { retentionDays: 7 });
    expect(deleted).toEqual(['2026.11.21', '2026.11.20', '2026.11.19', '2026.11.18'].map((day) => INDEX_PREFIX + day));
    expect(kept).toHaveLength(9);
    expect(doubted).toEqual([]);
    // To the millisecond: all of 2026.11.22 is seven days old at the end of 2026.11.29.
    const midnight = Date.parse('2026-11-30T00:00:00Z');
    expect(decided(days, { retentionDays: 7 }, midnight - 1).deleted).not.toContain(`${INDEX_PREFIX}2026.11.22`);
    expect(decided(days, { retentionDays: 7 }, midnight).deleted).toContain(`${INDEX_PREFIX}2026.11.22`);
  });

  test('each kind has days of its own, and without days nothing of it goes', () => {
    const all = [
      ...days,
      index('logpipe-alerts-2026.09'),
      index('logpipe-alerts-2026.10'),
      index('logpipe-replay-a-2020.01.01', { createdMs: NOW - 2 * DAY }),
      index('logpipe-replay-b-2026.11.29', { createdMs: NOW - 3 * DAY }),
      index('logpipe-replay-c-2020.01.01'),
    ];
    expect(decided(all, {}).deleted).toEqual([]);
    expect(decided(all, { alertHistoryDays: 30 }).deleted).toEqual(['logpipe-alerts-2026.09']);
    expect(decided(all, { alertHistoryDays: 28 }).deleted).toEqual([
      'logpipe-alerts-2026.09',
      'logpipe-alerts-2026.10',
    ]);
    // By creation, whatever day is replayed; unknown creation: never.
    expect(decided(all, { replayDays: 3 }).deleted).toEqual(['logpipe-replay-b-2026.11.29']);
    expect(decided(all, { retentionDays: 9 }).deleted).toHaveLength(2);
  });

  test('aliases and data streams are left alone, whatever their name', () => {
    const name = `${INDEX_PREFIX}2020.01.01`;
    const found = [
      ...days,
      index(name, { form: 'alias' }),
      index(name, { form: 'data stream' }),
      index(name, { dataStream: 'calls' }),
    ];
    expect(decided(found, { retentionDays: 300 }).deleted).toEqual([]);
    expect(decided([...days, index(name)], { retentionDays: 300 }).deleted).toEqual([name]);
  });

  test('when every clock has leapt, only today’s index bears it out, and that is its own work: nothing goes, of no kind', () => {
    const found = [
      ...days,
      index('logpipe-alerts-2026.09'),
      index('logpipe-replay-a-2026.11.28', { createdMs: NOW - 2 * DAY }),
    ];
    const all = { retentionDays: 7, alertHistoryDays: 30, replayDays: 7 };
    const leapt = NOW + 700 * DAY;
    for (const now of [found, [...found, logs(leapt)], [...found, logs(leapt), logs(leapt + DAY)]]) {
      const { deleted, doubted } = decided(now, all, leapt);
      expect(deleted).toEqual([]);
      expect(doubted).toHaveLength(14);
    }
    // A platform that was off for two years: a day after it is back, yesterday's index bears it out.
    const back = decided([...found, logs(leapt), logs(leapt - DAY)], all, leapt);
    expect(back.doubted).toEqual([]);
    expect(back.deleted).toHaveLength(14);
  });
});

describe('the time', () => {
  test('is the earliest of the clocks', () => {
    expect(agreedTime({ host: NOW + 5_000, elasticsearch: NOW, brokers: NOW + 9_000 })).toEqual({ nowMs: NOW });
    expect(agreedTime({ host: NOW - DAY, elasticsearch: NOW })).toEqual({ nowMs: NOW - DAY });
  });

  test.each([
    ['host', { host: NOW + 800 * DAY, elasticsearch: NOW, brokers: NOW }],
    ['brokers', { host: NOW, elasticsearch: NOW, brokers: NOW + DAY + 1 }],
    ['elasticsearch', { host: NOW, elasticsearch: NOW - 2 * DAY }],
    ['nonsense', { host: Number.NaN, elasticsearch: NOW }],
  ])('nobody’s, when one of them is more than a day off: %s', (_, clocks) => {
    const agreed = agreedTime(clocks);
    expect(agreed).not.toHaveProperty('nowMs');
    const { problem } = agreed as { problem: string };
    expect(problem).toMatch(/Elasticsearch’s says 2026-11-\d\dT03:00:00Z/);
    expect(problem).toMatch(/this host’s says .*set the one that is wrong/);
  });
});

test('property: for any clocks of which one is not ahead, in any time zone, nothing goes too early, nothing that is not logpipe’s, and the logs never altogether', () => {
  const zone = process.env.TZ;
  const hour = DAY / 24;
  const offset = fc.integer({ min: -36 * hour, max: 36 * hour });
  // Independent of the code's patterns.
  const digits = (text: string, form: string) =>
    form.length === text.length &&
    [...form].every((f, i) => (f === '0' ? text[i]! >= '0' && text[i]! <= '9' : f === text[i]));
  const name = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -60, max: 60 }).map((n) => `calling-platform-${dotted(NOW + n * DAY)}`) },
    fc.integer({ min: -60, max: 3 }).map((n) => `logpipe-replay-x-${dotted(NOW + n * DAY)}`),
    fc.constantFrom('logpipe-alerts-2026.08', 'logpipe-alerts-2026.11', 'logpipe-alerts-2026.12'),
    fc
      .tuple(fc.integer({ min: -60, max: 3 }), fc.string({ minLength: 1, maxLength: 3 }), fc.nat({ max: 30 }))
      .map(([n, extra, at]) => {
        const text = `calling-platform-${dotted(NOW + n * DAY)}`;
        return text.slice(0, at) + extra + text.slice(at);
      }),
  );
  const found = fc.uniqueArray(
    fc
      .record({ name, age: fc.integer({ min: -2, max: 60 }) })
      .map((one) => index(one.name, { createdMs: NOW - one.age * DAY })),
    { selector: (one) => one.name, maxLength: 40 },
  );
  const wanted = fc.option(fc.integer({ min: 1, max: 40 }), { nil: undefined });
  try {
    fc.assert(
      fc.property(
        found,
        fc.record({ retentionDays: wanted, alertHistoryDays: wanted, replayDays: wanted }),
        fc.tuple(
          fc.integer({ min: -36 * hour, max: 0 }),
          offset,
          fc.option(offset, { nil: undefined }),
          fc.nat({ max: 2 }),
        ),
        fc.integer({ min: 0, max: DAY - 1 }),
        fc.constantFrom('UTC', 'Europe/Berlin', 'America/St_Johns', 'Pacific/Kiritimati'),
        (all, chosen, [behind, one, other, turn], dayMs, TZ) => {
          process.env.TZ = TZ;
          const trueNow = NOW - (NOW % DAY) + dayMs;
          const errors = [behind, one, other ?? one];
          const at = (i: number) => trueNow + errors[(i + turn) % 3]!;
          const agreed = agreedTime({ host: at(0), elasticsearch: at(1), brokers: at(2) });
          const apart = Math.max(at(0), at(1), at(2)) - Math.min(at(0), at(1), at(2));
          expect('problem' in agreed).toBe(apart > DAY);
          if ('problem' in agreed) return;
          const config = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
          const { deleted, plan } = decided(all, config, agreed.nowMs);
          const over = (text: string, kept: number | undefined) =>
            kept !== undefined && Date.parse(text.replaceAll('.', '-')) + (kept + 1) * DAY <= trueNow;
          for (const name of deleted) {
            const { createdMs } = all.find((one) => one.name === name)!;
            const right =
              (digits(name, 'calling-platform-0000.00.00') && over(name.slice(17), chosen.retentionDays)) ||
              (name === 'logpipe-alerts-2026.08' && over('2026.08.31', chosen.alertHistoryDays)) ||
              (digits(name, 'logpipe-replay-x-0000.00.00') &&
                chosen.replayDays !== undefined &&
                createdMs! + chosen.replayDays * DAY <= trueNow);
            expect(right, name).toBe(true);
          }
          const logIndices = plan.filter(({ kind }) => kind === 'logs');
          if (logIndices.length > 0) expect(logIndices.some(({ decision }) => decision !== 'delete')).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  } finally {
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  }
});

describe('the configuration', () => {
  const retention = (text: string) => parseConfig(`retention: ${text}`, {}, 'test.yml').retention;

  test('is off unless days are set', () => {
    expect(retention('{}')).toEqual({ schedule: '0 3 * * *', timeZone: 'UTC' });
    expect(retentionIsOn(retention('{}'))).toBe(false);
    for (const key of ['retentionDays', 'alertHistoryDays', 'replayDays']) {
      expect(retentionIsOn(retention(`{ ${key}: 1 }`))).toBe(true);
    }
  });

  test.each([
    ['{ retentionDays: 0 }', /retention\.retentionDays: found 0; must be >= 1/],
    ['{ retentionDays: -7 }', /retention\.retentionDays: found -7/],
    ['{ replayDays: 1.5 }', /retention\.replayDays: found 1\.5/],
    [
      '{ retentionDays: 30, schedule: every night }',
      /retention\.schedule: found "every night"; is not a cron expression; write/,
    ],
    ['{ timeZone: Europe/Berlim }', /retention\.timeZone: found "Europe\/Berlim"; no such time zone is known; write/],
  ])('%s is refused', (text, words) => {
    expect(() => retention(text)).toThrow(LogpipeError);
    expect(() => retention(text)).toThrow(words);
  });
});
