// The runner of rule tests: what does not hold is said in words that let people repair it, and nothing unexpected passes.
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { offsetMs, parseRuleTests, runRuleTests } from '../../../src/replay/rule-tests.ts';
import { MEASURES, rulesOf } from '../rules/kit.ts';

const RULES = rulesOf(`
  busy:
    title: Busy
    priority: P2
    kind: threshold
    measure: calls.ended
    above: 2
    labels: [tenantId]
    message: '{value} calls of {tenantId}'
  busier: { title: Busier, priority: P1, kind: threshold, measure: calls.ended, above: 4, group: busy }
  mute: { title: Mute, priority: P3, kind: threshold, measure: calls.ended, above: 4, inhibitedBy: [busier], group: busy }
  late: { title: Reported Late, priority: P3, kind: late }
`);

const CALL = '{ event: call.ended, tenantId: acme, call: { status: completed } }';

/** The problems of one test, which lasts ten minutes. */
async function problemsOf(body: string): Promise<readonly string[]> {
  const text = `tests:\n  - name: test\n    for: 10m\n    ${body.trim().replaceAll('\n', '\n    ')}`;
  const { parse, transforms } = parseConfig('', {}, 'defaults');
  const [result] = await runRuleTests(text, 'my.test.yml', {
    measures: MEASURES,
    rules: RULES,
    parse,
    transforms,
    env: {},
  });
  return result!.problems;
}

const refusal = (text: string): string => {
  try {
    parseRuleTests(text, 'my.test.yml', {});
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

/** Three calls in the first three seconds: one alert of `busy` and its message, both over after two minutes. */
const THREE_CALLS = `log: [{ every: 1s, to: 3s, event: ${CALL} }]`;

describe('a rule test', () => {
  it('holds when all that happens is expected', async () => {
    expect(
      await problemsOf(`
${THREE_CALLS}
expect:
  silent: [busier]
  alerts: [{ rule: busy, labels: { tenantId: acme }, fires: 3s, resolves: 7m..7m30s }]
  messages:
    - at: 2s..4s
      title: Busy
      reason: first
      to: [email, slack]
      message: 3 calls of acme
      metadata: { tenantId: acme, value: '3', threshold: '2' }
    - { at: 7m..7m30s, title: Busy, action: resolve }`),
    ).toEqual([]);
  });

  it('names the place and both times of what differs', async () => {
    const problems = await problemsOf(`
${THREE_CALLS}
expect:
  alerts:
    - { rule: busy, labels: { tenantId: acme }, fires: 1m30s..2m, resolves: 9m, muted: true }
    - { rule: busier, fires: 10s }
  messages:
    - { at: 3s, title: Busier }
    - { at: 7m..7m30s, title: Busy, action: resolve, to: [slack] }
    - { at: 9m, title: Busy }`);
    expect(problems).toEqual([
      'busy{tenantId=acme}: expected to fire at 1m30s..2m, it fired at 3s',
      'busy{tenantId=acme}: expected to be muted, it was not',
      expect.stringMatching(/^busy\{tenantId=acme\}: expected to resolve at 9m, it did at 7m\d+s$/),
      'busier: expected to fire at 10s, it did not fire',
      'message 1: expected {"at":"3s","title":"Busier","action":"trigger"}, found "Busy" (trigger, first) at 3s to slack, email: 3 calls of acme',
      expect.stringMatching(
        /^message 2: expected .*"to":\["slack"\].*, found "Busy" \(resolve, all-resolved\) at 7m\d+s to slack, email: /,
      ),
      'message 3: expected "Busy" at 9m, none was sent',
    ]);
  });

  it.each([
    ['reason: new-alerts', 'first'],
    ['message: 4 calls of acme', '3 calls of acme'],
    ["metadata: { tenantId: acme, value: '4', threshold: '2' }", '{"tenantId":"acme","value":"3","threshold":"2"}'],
  ])('compares %s', async (key, found) => {
    const problems = await problemsOf(`
${THREE_CALLS}
expect:
  alerts: [{ rule: busy, labels: { tenantId: acme }, fires: 3s }]
  messages: [{ at: 3s, title: Busy, ${key} }, { at: 7m..8m, title: Busy, action: resolve }]`);
    expect(problems).toEqual([expect.stringContaining(found)]);
  });

  it('fails for alerts and messages that nobody expected', async () => {
    expect(await problemsOf(`${THREE_CALLS}\nexpect: { messages: [] }`)).toEqual([
      'busy{tenantId=acme}: not expected, it fired at 3s: 3 calls of acme',
      'message 1: not expected: "Busy" (trigger, first) at 3s to slack, email: 3 calls of acme',
      expect.stringMatching(/^message 2: not expected: "Busy" \(resolve, all-resolved\) at 7m/),
    ]);
  });

  it('fails for an alert that fires at the end though it should have resolved, and tells muted from heard', async () => {
    const problems = await problemsOf(`
log: [{ every: 1s, event: ${CALL} }]
expect:
  alerts:
    - { rule: busy, labels: { tenantId: acme }, fires: 3s, resolves: 5m }
    - { rule: busier, fires: 5s }
    - { rule: mute, fires: 5s, muted: true }`);
    expect(problems).toEqual(['busy{tenantId=acme}: expected to resolve at 5m, it still fires']);
  });

  it('fails for rules that there are not', async () => {
    expect(
      await problemsOf('expect: { silent: [bussy], alerts: [{ rule: buzy, fires: 1s }, { rule: buzy, fires: 2s }] }'),
    ).toEqual(expect.arrayContaining(['bussy: there is no such rule', 'buzy: there is no such rule']));
  });
});

describe('the log of a test', () => {
  it('counts repetitions, takes lines as they are, and puts fields over those of an event', async () => {
    const problems = await problemsOf(`
log:
  - { every: 1m, to: 2m, event: ${CALL}, with: { tenantId: 't{n}' } }
  - { every: 1m, to: 2m, event: ${CALL}, with: { tenantId: 't{n}' } }
  - { every: 1m, to: 2m, line: '{"timestamp":"{time}","event":"call.ended","tenantId":"t{n}","call":{"status":"failed"}}' }
expect: {}`);
    expect(problems).toEqual([
      'busy{tenantId=t0}: not expected, it fired at 1s: 3 calls of t0',
      'busier: not expected, it fired at 1m1s: calls.ended is 6 (threshold 4)',
      'busy{tenantId=t1}: not expected, it fired at 1m1s: 3 calls of t1',
      'mute: not expected, it fired at 1m1s: calls.ended is 6 (threshold 4)',
    ]);
  });

  it('arrives late where the test says so: by one minute it counts, by ten it is only reported', async () => {
    const arrives = (late: string) =>
      problemsOf(
        `log: [{ every: 1s, to: 1500ms, late: ${late}, event: ${CALL} }, { at: 1s, late: ${late}, event: ${CALL} }]\nexpect: {}`,
      );
    expect(await arrives('1m')).toEqual(['busy{tenantId=acme}: not expected, it fired at 1m2s: 3 calls of acme']);
    expect(await arrives('5m')).toEqual([
      'late: not expected, it fired at 6m2s: Busy (acme) happened 10:00-10:04 UTC, reported late',
    ]);
  });

  it('stands still during a stall, of one partition or of all', async () => {
    const stalled = (stall: string) =>
      problemsOf(`log: [{ every: 1s, to: 3s, event: ${CALL} }]\nstalls: [${stall}]\nexpect: {}`);
    const fired = (at: string) => [`busy{tenantId=acme}: not expected, it fired at ${at}: 3 calls of acme`];
    expect(await stalled('{ from: 0, to: 90s }')).toEqual(fired('1m30s'));
    expect(await stalled('{ from: 0, to: 90s, partition: 1 }')).toEqual(fired('1m30s'));
    // Records go to partitions 0 to 3 in turn: this one holds none of them.
    expect(await stalled('{ from: 0, to: 90s, partition: 3 }')).toEqual(fired('3s'));
  });

  it('takes readings that do not come from a log, and looks as often as it is told to', async () => {
    const rules = rulesOf(
      '  red: { title: Red, priority: P2, kind: threshold, measure: elasticsearch.status, atLeast: 2 }',
    );
    const { parse, transforms } = parseConfig('', {}, 'defaults');
    const text = `tests: [{ name: one, for: 2m, tick: 30s, readings: [{ at: 40s, measure: elasticsearch.status, value: 2 }],
      expect: { alerts: [{ rule: red, fires: 1m }], messages: [{ at: 40s, title: Red }] } }]`;
    expect(await runRuleTests(text, 't.yml', { measures: MEASURES, rules, parse, transforms, env: {} })).toEqual([
      { name: 'one', problems: [], fired: ['red'], silent: [] },
    ]);
  });
});

describe('a file of rule tests', () => {
  it.each([
    ['0', 0],
    ['90s', 90_000],
    ['1m30s', 90_000],
    ['1h2m3s4ms', 3_723_004],
    ['7d12h', 648_000_000],
  ])('reads %s', (text, ms) => {
    expect(offsetMs(text)).toBe(ms);
  });

  it('is refused with every problem and its place', () => {
    const message = refusal(`
tests:
  - name: a
    for: 10 minutes
    alert: {}
    log: [{ every: 5 }]
    expect: { alerts: [{ rule: busy, fires: soon }] }
  - { for: 1m }`);
    expect(message).toMatch(/^my\.test\.yml: \d+ problem\(s\)\n/);
    for (const place of [
      'tests.0.for',
      'tests.0.alert',
      'tests.0.log.0.every',
      'tests.0.expect.alerts.0.fires',
      'tests.1.name',
      'tests.1.expect',
    ]) {
      expect(message).toContain(place);
    }
  });
});
