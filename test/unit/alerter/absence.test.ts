// Absence over days and restarts: evaluator and machine together, on a store that is a map. Nothing but an event, a changed rule, a
// command or `forgetAfter` ends a silence.

import { describe, expect, test } from 'vitest';
import { countsFrom, createStandaloneEvaluator } from '../../../src/alerter/durable-evaluator.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { type AlertMachine, createAlertMachine } from '../../../src/incidents/machine.ts';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import type { BucketTotals } from '../../../src/measure/totals.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import { parseRules, type Rules, reachOf, toDecidingRule } from '../../../src/rules/rule-config.ts';
import { messages, save } from '../incidents/machine-kit.ts';

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const T0 = Date.parse('2026-11-24T12:00:00Z');
const MEASURES = parseMeasures(
  `measures:
  beats: { kind: counter, where: { event: beat }, by: [host] }
  beat.silence: { kind: absence, of: beats }
  noise: { kind: counter, where: { event: noise }, by: [host] }`,
  {},
  'measures.yml',
);
const rules = (text: string) => parseRules(`rules:\n${text}`, {}, 'rules.yml', MEASURES);
const ALL = rules('  silent: { title: Silent, priority: P2, kind: absence, measure: beat.silence, above: 2 m }');
const HOSTS = rules(
  '  host-silent: { title: Host Silent, priority: P2, kind: absence, measure: beat.silence, above: 2 m, labels: [host], message: "{host} {value}" }',
);
const FORGET = rules(
  '  host-silent: { title: Host Silent, priority: P2, kind: absence, measure: beat.silence, above: 2 m, labels: [host], forgetAfter: 8h }',
);

function world(first: Rules) {
  const store = new Map<string, object>();
  const log: BucketTotals[] = [];
  let ids = 0;
  let offset = 0;
  let nowMs = T0;
  /** The counter's own clock. */
  let ownMs = 0;
  let ruleSet = first;
  let machine: AlertMachine;
  let evaluator: ReturnType<typeof createStandaloneEvaluator>;
  const sent: string[] = [];

  const self = {
    store,
    get now() {
      return nowMs;
    },
    sent,
    firing: () => machine.alerts().filter(({ phase }) => phase === 'firing'),
    /** Reads of the counts what a take-over would. */
    restart(next: Rules = ruleSet) {
      ruleSet = next;
      const initial = new Map(store);
      machine = createAlertMachine(next.map(toDecidingRule), initial, {
        nextId: () => `i${++ids}`,
        environment: 'test',
        routes: routesByPriority(() => ['slack']),
        masker: createMasker(),
        history: false,
      });
      const coveredFromMs = countsFrom(nowMs, reachOf(next), initial);
      evaluator = createStandaloneEvaluator(
        { measures: MEASURES, rules: next, coveredFromMs, wallMs: nowMs },
        initial,
        {
          isFiring: () => false,
        },
      );
      for (const totals of log) {
        if (totals.arrivalMs >= coveredFromMs) evaluator.counts({ kind: 'totals', totals }, totals.arrivalMs);
      }
      self.tick();
    },
    event(measure: string, host: string) {
      const arrivalMs = Math.floor(nowMs / 10_000) * 10_000;
      const buckets = [{ eventMs: arrivalMs, series: { [measure]: { [host]: { n: 1 } } } }];
      const totals = { lane: '0', arrivalMs, upToOffset: ++offset, records: 1, format: 2, buckets };
      log.push(totals);
      evaluator.counts({ kind: 'totals', totals }, nowMs);
    },
    publish() {
      const said = { writer: 'counter', saidMs: ownMs };
      const progress = { lane: '0', lanes: 1, position: offset, end: offset, arrivalMs: 0, caughtUp: true, ...said };
      evaluator.counts({ kind: 'progress', progress }, nowMs);
    },
    tick(commands: Parameters<AlertMachine['step']>[0]['commands'] = []) {
      self.publish();
      const { observations, evalMs, wallMs, records } = evaluator.evaluate(nowMs);
      const plan = machine.step({ observations, evalMs, wallMs, records, commands });
      save(store, plan);
      machine.accept(plan);
      evaluator.accepted();
      for (const { notification: n } of messages(plan)) sent.push(`${n.action}: ${n.message}`);
      return plan;
    },
    /** The brokers’ clock is set back, and the next record tells. */
    setBack(ms: number) {
      nowMs -= ms;
      evaluator.setBack(nowMs);
    },
    /** The brokers’ clock is set forward, and two publications come. */
    setForward(ms: number) {
      nowMs += ms;
      for (let i = 0; i < 2; i++) {
        nowMs += 500;
        ownMs += 500;
        self.publish();
      }
    },
    /** Time passes, each step seen. */
    pass(ms: number, stepMs = MINUTE, each = () => {}) {
      for (const end = nowMs + ms; nowMs < end; ) {
        nowMs += stepMs;
        ownMs += stepMs;
        each();
        self.tick();
      }
    },
  };
  self.restart(first);
  return self;
}

describe('a silence', () => {
  test('goes on for three days while other events come, and ends with an event', () => {
    const w = world(ALL);
    w.event('beats', 'a');
    w.pass(72 * HOUR, 5 * MINUTE, () => w.event('noise', 'a'));
    expect(w.sent).toHaveLength(1);
    expect(w.firing()).toHaveLength(1);
    w.pass(5 * MINUTE, MINUTE, () => w.event('beats', 'a'));
    expect(w.sent.map((text) => text.split(':')[0])).toEqual(['trigger', 'resolve']);
  });

  test('of one host among others, likewise, and over take-overs in silence', () => {
    const w = world(HOSTS);
    w.event('beats', 'gone');
    w.pass(30 * HOUR, 5 * MINUTE, () => w.event('beats', 'there'));
    expect(w.firing().map(({ labels }) => labels.host)).toEqual(['gone']);
    w.restart();
    w.pass(10 * HOUR, 5 * MINUTE, () => w.event('beats', 'there'));
    expect(w.firing().map(({ labels }) => labels.host)).toEqual(['gone']);
    expect(w.sent).toHaveLength(1);
  });

  test('of everything: a take-over in it neither ends it nor forgets since when', () => {
    const w = world(ALL);
    w.event('beats', 'a');
    w.pass(8 * HOUR);
    w.restart();
    w.pass(3 * HOUR);
    expect(w.sent).toHaveLength(1);
    expect(w.firing()).toHaveLength(1);
  });

  test('goes on when the brokers’ clock is set back, over a take-over too; who falls silent then is called silent in time', () => {
    const w = world(HOSTS);
    const firing = () => w.firing().map(({ labels }) => labels.host);
    w.event('beats', 'gone');
    w.pass(10 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    w.event('beats', 'late');
    w.setBack(HOUR);
    w.tick();
    w.pass(2 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    expect(firing()).toEqual(['gone']);
    w.pass(2 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    expect(firing()).toEqual(['gone', 'late']);
    w.pass(20 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    w.restart();
    w.pass(20 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    expect(firing()).toEqual(['gone', 'late']);
    expect(w.sent).toHaveLength(2);
    w.pass(5 * MINUTE, MINUTE, () => {
      for (const host of ['gone', 'there']) w.event('beats', host);
    });
    expect(firing()).toEqual(['late']);
  });

  test('is not what the brokers’ clock was set forward over, nor for a successor; what was silent before stays so', () => {
    const w = world(HOSTS);
    const firing = () => w.firing().map(({ labels }) => labels.host);
    w.event('beats', 'gone');
    w.pass(10 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    w.event('beats', 'late');
    w.setForward(HOUR);
    w.tick();
    expect(firing()).toEqual(['gone']);
    w.pass(MINUTE, 10 * SECOND);
    expect(firing()).toEqual(['gone']);
    w.restart();
    expect(firing()).toEqual(['gone']);
    w.pass(3 * MINUTE, 10 * SECOND, () => w.event('beats', 'there'));
    expect(firing()).toEqual(['gone', 'late']);
    expect(w.sent).toHaveLength(2);
  });

  test.each([
    ['of everything', ALL, 'noise'],
    ['of a host', HOSTS, 'beats'],
  ])('%s that a former version wrote down goes on, though nobody knows since when', (_, which, others) => {
    const w = world(which);
    w.event('beats', 'a');
    w.pass(8 * HOUR, 5 * MINUTE);
    for (const key of w.store.keys()) if (/^(quiet|watched)\//.test(key)) w.store.delete(key);
    w.restart();
    w.pass(5 * HOUR, MINUTE, () => w.event(others, 'b'));
    expect(w.firing()).toHaveLength(1);
    expect(w.sent).toHaveLength(1);
    w.pass(5 * MINUTE, MINUTE, () => {
      w.event('beats', 'a');
      w.event(others, 'b');
    });
    expect(w.firing()).toEqual([]);
  });

  test('that begins to count before a take-over is told in its time by the successor', () => {
    const daily = rules(
      '  silent: { title: Daily, priority: P2, kind: absence, measure: beat.silence, above: 26 h, message: "{value}" }',
    );
    const w = world(daily);
    w.event('beats', 'a');
    w.pass(20 * HOUR, 10 * MINUTE);
    w.restart();
    w.pass(5 * HOUR, 10 * MINUTE);
    expect(w.sent).toEqual([]);
    w.pass(2 * HOUR, 10 * MINUTE);
    expect(w.sent).toHaveLength(1);
  });
});

describe('with no event ever', () => {
  test('counts from the first time the rule was seen, over restarts, and says so', () => {
    const w = world(ALL);
    w.pass(MINUTE, 10 * SECOND);
    w.restart();
    w.pass(50 * SECOND, 10 * SECOND);
    expect(w.sent).toEqual([]);
    w.pass(30 * SECOND, 10 * SECOND);
    expect(w.sent).toEqual([expect.stringMatching(/^trigger: .*: no event has ever arrived$/)]);
    w.pass(3 * MINUTE, MINUTE, () => w.event('beats', 'a'));
    expect(w.firing()).toEqual([]);
    // From now on there has been one.
    w.pass(10 * HOUR, 5 * MINUTE);
    expect(w.sent.at(-1)).toMatch(/^trigger: (?!.*ever arrived)/);
  });

  test('rules with labels have nobody to speak of', () => {
    const w = world(HOSTS);
    w.pass(HOUR);
    expect(w.sent).toEqual([]);
  });

  test('a rule that listens to something else is another one', () => {
    const w = world(ALL);
    w.event('beats', 'a');
    w.pass(HOUR);
    expect(w.firing()).toHaveLength(1);
    w.restart(
      rules(
        '  silent: { title: Silent, priority: P2, kind: absence, measure: beat.silence, where: { host: b }, above: 2 m }',
      ),
    );
    expect(w.firing()).toEqual([]);
    expect(w.sent.at(-1)).toMatch(/^resolve: The rule silent has changed and no longer watches this/);
    w.pass(3 * MINUTE);
    expect(w.sent.at(-1)).toMatch(/no event has ever arrived/);
  });
});

test('`forgetAfter` ends the silence of a host in words of its own, also over a take-over', () => {
  for (const restarts of [false, true]) {
    const w = world(FORGET);
    w.event('beats', 'gone');
    w.pass(7 * HOUR + 50 * MINUTE, 5 * MINUTE, () => w.event('beats', 'there'));
    if (restarts) w.restart();
    expect(w.firing()).toHaveLength(1);
    w.pass(20 * MINUTE, 5 * MINUTE, () => w.event('beats', 'there'));
    expect(w.firing()).toEqual([]);
    expect(w.sent.at(-1)).toMatch(/^resolve: Nothing has come of it for as long as the rule waits \(forgetAfter\)/);
    w.pass(48 * HOUR, 5 * MINUTE, () => w.event('beats', 'there'));
    expect(w.sent).toHaveLength(2);
    // Nothing is left of it, but what belongs to nobody: it may come back and be silent again.
    expect([...w.store.keys()].filter((key) => key.startsWith('quiet/'))).toEqual([]);
    w.event('beats', 'gone');
    w.pass(5 * MINUTE, MINUTE, () => w.event('beats', 'there'));
    expect(w.sent).toHaveLength(3);
  }
});

describe('resolved by hand', () => {
  const resolve = (w: ReturnType<typeof world>, commandId = 'c1') => ({
    kind: 'resolve' as const,
    commandId,
    alerts: w.firing().map(({ key, startedMs }) => ({ key, startedMs })),
    by: 'ann',
  });

  test('a silence stays ended, over a restart too, until something has arrived again', () => {
    const w = world(HOSTS);
    w.event('beats', 'a');
    w.pass(HOUR);
    w.tick([resolve(w)]);
    expect(w.sent.at(-1)).toMatch(/^resolve: Resolved by hand/);
    expect(w.store.get('command/c1')).toMatchObject({ id: 'c1' });
    w.pass(3 * HOUR);
    w.restart();
    w.pass(HOUR);
    expect(w.sent).toHaveLength(2);
    w.event('beats', 'a');
    w.pass(20 * MINUTE);
    expect(w.sent).toHaveLength(3);
    // What was commanded of the former alert says nothing of this one, however often it comes.
    const plan = w.tick([{ ...resolve(w), commandId: 'c1' }]);
    expect(plan.decisions).toEqual([]);
    expect(w.firing()).toHaveLength(1);
  });

  test('an alert whose condition is true is kept, and the answer says why', () => {
    const w = world(
      rules('  many: { title: Many, priority: P2, kind: threshold, measure: noise, window: 5m, above: 0 }'),
    );
    w.event('noise', 'a');
    w.pass(MINUTE, 10 * SECOND);
    const plan = w.tick([resolve(w)]);
    expect(plan.refused).toMatchObject([{ why: expect.stringContaining('is true now') }]);
    expect(w.store.get('command/c1')).toMatchObject({ refused: expect.stringContaining('acknowledge or silence') });
    expect(w.firing()).toHaveLength(1);
  });

  test('an answer is kept for two days', () => {
    const w = world(ALL);
    w.event('beats', 'a');
    w.pass(HOUR);
    w.tick([resolve(w)]);
    w.pass(47 * HOUR, HOUR);
    expect(w.store.has('command/c1')).toBe(true);
    w.pass(2 * HOUR, HOUR);
    expect(w.store.has('command/c1')).toBe(false);
  });
});
