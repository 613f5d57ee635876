// Backtests over records at hand: the same bytes each time, the same alerts as the driver of rule tests, what two rule sets differ
// in, windows that are filled before the range begins.
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { type BacktestOptions, backtest, createShadowAlerts } from '../../../src/replay/backtest.ts';
import { simulate } from '../../../src/replay/simulate.ts';
import type { StoredRecord } from '../../../src/replay/stored.ts';
import { type Rules, reachOf } from '../../../src/rules/rule-config.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import { incidentLog, type LoggedEvent } from '../../kit/incident-log.ts';
import { MEASURES, MINUTE, RULES, rulesOf, SECOND, T0 } from '../rules/kit.ts';

const { parse } = parseConfig('', {}, 'defaults');

/** Calls fail from the 20th minute to the 30th: a little at first. */
const LOG = incidentLog({
  startMs: T0,
  minutes: 40,
  failing: (minute) => (minute < 20 || minute >= 30 ? 0 : minute < 24 ? 0.1 : 0.6),
});

const CANDIDATE = rulesOf(`
  calls-begin-to-fail:
    title: Calls Begin To Fail
    priority: P1
    group: calls
    kind: ratio
    measure: call.failure_ratio
    window: 2m
    above: 8 %
    minEvents: 20
    message: '{numerator} of {denominator} calls failed in {window}'
`);

const records = (log: readonly LoggedEvent[]): StoredRecord[] =>
  log.map(({ timeMs, partition, line, eventId }) => ({
    arrivalMs: timeMs,
    partition,
    value: Buffer.from(line),
    eventId,
  }));

async function* inBatches<T>(list: readonly T[], size = 500): AsyncGenerator<readonly T[]> {
  for (let i = 0; i < list.length; i += size) yield list.slice(i, i + size);
}

const run = (options: Partial<BacktestOptions> = {}, list = records(LOG), batch?: number) =>
  backtest(inBatches(list, batch), {
    measures: MEASURES,
    rules: RULES,
    parse,
    transforms: [],
    fromMs: T0 + 15 * MINUTE,
    toMs: T0 + 40 * MINUTE,
    warmUpMs: 10 * MINUTE,
    tickMs: 5 * SECOND,
    ...options,
  });

describe('a backtest', () => {
  it('gives the same bytes twice, whatever the batches', async () => {
    const [one, two, three] = [await run(), await run(), await run({}, records(LOG), 7)];
    expect(JSON.stringify(two)).toBe(JSON.stringify(one));
    expect(JSON.stringify(three)).toBe(JSON.stringify(one));
    expect(one.timeline.alerts.map(({ rule }) => rule)).toContain('high-error-rate');
    expect(one.timeline.pages.total).toBeGreaterThan(0);
    expect(one.timeline.pages.perPriority.P1).toBeGreaterThan(0);
  });

  it('says what the driver of rule tests says of the same records', async () => {
    const plain = RULES.filter(({ kind }) => kind !== 'first-seen');
    const fromMs = T0 + 5 * SECOND - 1;
    const simulated = await simulate(
      records(LOG).map((record) => ({ ...record, value: record.value as Buffer, eventId: record.eventId as string })),
      {
        measures: MEASURES,
        rules: plain,
        parse,
        transforms: [],
        partitions: 4,
        fromMs,
        toMs: T0 + 40 * MINUTE,
        tickMs: 5 * SECOND,
      } as Parameters<typeof simulate>[1],
    );
    const { timeline } = await run({ rules: plain, fromMs: T0, warmUpMs: 0 });
    expect(simulated.alerts.length).toBeGreaterThan(1);
    expect(timeline.alerts.map(({ rule, fired, resolved, message }) => ({ rule, fired, resolved, message }))).toEqual(
      simulated.alerts.map(({ ruleId, firedMs, resolvedMs, message }) => ({
        rule: ruleId,
        fired: new Date(firedMs).toISOString(),
        resolved: resolvedMs === undefined ? undefined : new Date(resolvedMs).toISOString(),
        message,
      })),
    );
    expect(timeline.messages.map(({ at, title, reason }) => [at, title, reason])).toEqual(
      simulated.messages.map(({ atMs, notification: { title, reason } }) => [
        new Date(atMs).toISOString(),
        title,
        reason,
      ]),
    );
  });

  it('compares two rule sets: what only one has, and that the incident would have paged earlier', async () => {
    const { timeline, compared, difference } = await run({ rules: [...RULES, ...CANDIDATE], compare: RULES });
    expect(difference!.alerts.only.map(({ rule }) => rule)).toEqual(['calls-begin-to-fail']);
    expect(difference!.alerts.onlyCompared).toEqual([]);
    expect(difference!.alerts.same).toBe(compared!.alerts.length);
    const [incident] = difference!.incidents.moved.filter(({ group }) => group === 'calls');
    expect(incident).toMatchObject({ title: 'Calls Begin To Fail', priority: 'P1' });
    expect(incident!.earlierSeconds).toBeGreaterThan(60);
    expect(difference!.pages.total).toBe(timeline.pages.total - compared!.pages.total);
    // The other way round it is later, and only in the other one.
    const back = (await run({ rules: RULES, compare: [...RULES, ...CANDIDATE] })).difference!;
    expect(back.alerts.onlyCompared).toEqual(difference!.alerts.only);
    expect(back.incidents.moved.find(({ group }) => group === 'calls')!.earlierSeconds).toBe(-incident!.earlierSeconds);
    expect(back.pages.total + difference!.pages.total).toBe(0);
    const same = (await run({ rules: RULES, compare: RULES })).difference!;
    expect(same).toMatchObject({
      alerts: { only: [], onlyCompared: [], moved: [] },
      incidents: { only: [], onlyCompared: [], moved: [] },
      pages: { total: 0 },
    });
  });

  it('fills windows before the range begins, and shows nothing that was over by then', async () => {
    // The range begins amid the incident: without the minutes before it there are too few calls for a ratio over 5 min.
    const fromMs = T0 + 28 * MINUTE + 3 * SECOND;
    const rules = rulesOf(
      '  ratio: { title: R, priority: P1, kind: ratio, measure: call.failure_ratio, window: 5m, above: 40 %, minEvents: 400 }',
    );
    const options = { rules, fromMs, toMs: T0 + 40 * MINUTE };
    const warm = await run({ ...options, warmUpMs: 10 * MINUTE });
    const cold = await run({ ...options, warmUpMs: 0 });
    expect(warm.timeline.alerts).toMatchObject([{ rule: 'ratio', before: true }]);
    expect(warm.warmUpRecords).toBeGreaterThan(1_000);
    expect(cold.timeline.alerts.map(({ before }) => before)).not.toContain(true);
    expect(cold.warmUpRecords).toBe(0);
    // What fired before is no page of this range.
    expect(warm.timeline.messages.every(({ at }) => Date.parse(at) >= fromMs)).toBe(true);
    expect(warm.timeline.pages.total).toBe(0);
    const later = await run({ rules, fromMs: T0 + 39 * MINUTE, toMs: T0 + 40 * MINUTE, warmUpMs: 35 * MINUTE });
    expect(later.timeline.alerts).toEqual([]);
  });

  it('warms up for the longest window the rules look back, at most six hours', () => {
    const ratio = (window: string) =>
      rulesOf(
        `  a: { title: A, priority: P1, kind: ratio, measure: call.failure_ratio, window: ${window}, above: 40 % }`,
      );
    expect(reachOf(ratio('5m'))).toBe(6 * MINUTE);
    expect(reachOf(ratio('1h'))).toBe(61 * MINUTE);
    expect(reachOf(RULES)).toBeGreaterThan(60 * MINUTE);
    expect(reachOf(RULES)).toBeLessThanOrEqual(360 * MINUTE);
  });

  it('learns what is known in the warm-up, and tells what is new after it', async () => {
    const rules = rulesOf(
      '  new: { title: New Error, priority: P3, kind: first-seen, measure: error.templates, labels: [error.template], window: 10m, learning: 7d }',
    );
    const whole = await run({ rules, fromMs: T0 + 15 * MINUTE, warmUpMs: 15 * MINUTE });
    expect(whole.timeline.alerts).toMatchObject([{ rule: 'new' }]);
    // The error was there in the warm-up.
    const second = await run({ rules, fromMs: T0 + 26 * MINUTE, warmUpMs: 16 * MINUTE });
    expect(second.timeline.alerts).toEqual([]);
  });

  it('takes a record that went back in time as arrived with the one before, and loses none', async () => {
    const list = records(LOG);
    const swapped = list.map((record, i) => list[i % 2 === 0 ? Math.min(i + 1, list.length - 1) : i - 1] ?? record);
    const { records: count, warmUpRecords } = await run(
      { rules: CANDIDATE, fromMs: T0 + MINUTE, warmUpMs: MINUTE },
      swapped,
    );
    expect(count + warmUpRecords).toBe(list.length);
  });
});

describe('shadow alerts', () => {
  const parser = createParser(parse, { masker: createMasker() });
  const tag = createTagger();
  const shadowOf = (rules: Rules, list: readonly StoredRecord[], mark?: 'redriven') => {
    const shadow = createShadowAlerts(rules, MEASURES);
    for (const { value, eventId, arrivalMs } of list) {
      const result = parser.parse({ value, eventId, offset: 0, timeMs: arrivalMs });
      if (result.ok) shadow.see(tag(result.event), { eventId, ...(mark && { mark }) }, arrivalMs);
    }
    return shadow.finish();
  };

  it('say what a backtest says, in whatever order the partitions come', async () => {
    const rules = RULES.filter(({ kind }) => kind === 'ratio');
    const list = records(LOG);
    const inOrder = shadowOf(rules, list);
    expect(inOrder.alerts.map(({ rule }) => rule)).toContain('high-error-rate');
    const byPartition = [0, 1, 2, 3].flatMap((partition) => list.filter((record) => record.partition === partition));
    expect(shadowOf(rules, byPartition)).toEqual(inOrder);
    const { timeline } = await run({ rules, fromMs: T0, warmUpMs: 0, tickMs: 10 * SECOND });
    expect(inOrder.alerts).toEqual(timeline.alerts);
    expect(shadowOf(rules, []).alerts).toEqual([]);
  });

  it('do not count what was counted when it first arrived', () => {
    expect(shadowOf(RULES, records(LOG), 'redriven').alerts).toEqual([]);
  });
});
