// The judge that compares logpipe with other tools, and what those tools are given: by labels, messages and readings typed by hand.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createFleet } from '../../../bench/truth/fleet.ts';
import { occurrence } from '../../../bench/truth/occurrence.ts';
import { compare, type Facts, type Reality, realityOf } from '../../../bench/truth/peers/compare.ts';
import { expose } from '../../../bench/truth/peers/exposition.ts';
import { toPeersReport } from '../../../bench/truth/peers/peers.ts';
import { firingsOf } from '../../../bench/truth/peers/prometheus.ts';
import type { ToldMessage } from '../../../bench/truth/peers/told.ts';
import { createRandom } from '../../../bench/truth/random.ts';
import { shipped } from '../../../bench/truth/run.ts';
import { createStage, during, MINUTE, SECOND } from '../../../bench/truth/scenario.ts';
import { packageRoot } from '../../../src/core/package-root.ts';

const FACTS = new Map<string, Facts>(
  shipped().rules.map(({ id, group, priority, cooldownMs, inhibitedBy }) => [
    id,
    { group, priority, cooldownMs, mutedBy: inhibitedBy },
  ]),
);
const START = '2026-03-10T09:00:00Z';
const T0 = Date.parse(START);

function message(minute: number, rule: string, labels: Record<string, string> = {}, kind: 'call' | 'end' = 'call') {
  const atMs = T0 + minute * MINUTE;
  return { atMs, kind, alerts: [{ rule, labels, firedMs: atMs }] } satisfies ToldMessage;
}

/** Something is wrong in these groups from minute 10 to minute 20, and `rules` are to be told. */
function reality(
  rules: readonly [rule: string, labels?: Record<string, string>][],
  groups: readonly string[],
): Reality {
  const [fromMs, toMs] = [T0 + 10 * MINUTE, T0 + 20 * MINUTE];
  return {
    expected: rules.map(([rule, labels = {}]) => ({ rule, labels, group: FACTS.get(rule)!.group, fromMs, toMs })),
    incidents: groups,
    wrong: (group, ms) => groups.includes(group) && ms >= fromMs - MINUTE && ms <= toMs + MINUTE,
  };
}

describe('the judge', () => {
  test('counts from the moment it happened to the first message that names it, and every message about the incident', () => {
    const disks = reality([['high-disk-usage', { host: 'app-2' }]], ['disks']);
    const messages = [
      message(11.5, 'high-disk-usage', { host: 'app-2', pid: '4100' }),
      message(16.5, 'high-disk-usage', { host: 'app-2' }),
      message(25, 'high-disk-usage', { host: 'app-2' }, 'end'),
    ];
    expect(compare({ messages }, disks, FACTS)).toEqual({
      detections: [90],
      falseMessages: [],
      incidents: [{ group: 'disks', calls: 2, ends: 1 }],
    });
  });

  test('another host, a later time and another group are not it', () => {
    const disks = reality([['high-disk-usage', { host: 'app-2' }]], ['disks']);
    const told = { messages: [message(12, 'high-disk-usage', { host: 'app-1' }), message(30, 'high-error-rate')] };
    const { detections, falseMessages } = compare(told, disks, FACTS);
    expect(detections).toEqual(['missed']);
    expect(falseMessages.map(({ rule }) => rule)).toEqual(['high-error-rate']);
  });

  test('a more urgent rule tells what it mutes, and who is called already need not be called again', () => {
    const calls = reality([['elevated-error-rate'], ['low-call-success']], ['calls']);
    const urgent = compare({ messages: [message(10.5, 'high-error-rate')] }, calls, FACTS);
    expect(urgent.detections).toEqual([30, 'missed']);
    const silent = compare({ messages: [message(10.5, 'application-silent')] }, calls, FACTS);
    expect(silent.detections).toEqual(['missed', 'missed']);
    const early = compare({ messages: [message(8.5, 'high-error-rate')] }, calls, FACTS);
    expect(early.detections).toEqual(['still', 'still']);
    // The end was told: nobody is on it.
    const ended = [message(-2, 'high-error-rate'), message(8, 'high-error-rate', {}, 'end')];
    expect(compare({ messages: ended }, calls, FACTS).detections).toEqual(['missed', 'missed']);
  });

  test("what is wrong with logpipe's own way is nobody else's", () => {
    const staged = {
      ...createStage({ random: createRandom(1, 'own'), start: START, minutes: 12 }),
      must: [{ rule: 'log-processing-behind', labels: {}, when: [{ fromMs: T0, toMs: T0 + MINUTE }], permitted: [] }],
      incidents: [{ group: 'logpipe' }],
    };
    const { expected, incidents } = realityOf(staged, FACTS);
    expect({ expected, incidents }).toEqual({ expected: [], incidents: [] });
  });

  test('a label that says when something can be known is asked when it happened', () => {
    const failing = during(START, 7, 11, 0.8, 0.01);
    const stage = createStage({
      random: createRandom(1, 'late'),
      start: START,
      minutes: 16,
      behaviour: { callsPerSecond: () => 2, callFails: failing },
    });
    const known = [{ fromMs: T0 + 10 * MINUTE, toMs: T0 + 12 * MINUTE }];
    const must = [{ rule: 'high-error-rate', labels: {}, when: known, permitted: known }];
    const { expected, wrong } = realityOf({ ...stage, must, incidents: [{ group: 'calls' }] }, FACTS);
    expect(expected).toHaveLength(1);
    expect(expected[0]!.fromMs).toBeLessThan(T0 + 9 * MINUTE);
    expect([wrong('calls', T0 - 5 * MINUTE), wrong('calls', T0 + 9 * MINUTE)]).toEqual([false, true]);
    expect(wrong('disks', T0 + 9 * MINUTE)).toBe(false);
  });

  test('the figures say how many of the missed ones cannot be said', () => {
    const disks = reality(
      [
        ['high-disk-usage', { host: 'app-2' }],
        ['queue-slow', { 'queue.name': 'webhooks' }],
      ],
      ['disks'],
    );
    const outcomes = new Map([['prometheus', compare({ messages: [] }, disks, FACTS)]]);
    const facts = { seed: 1, versions: [], canSay: (_: string, rule: string) => rule !== 'queue-slow' };
    const [figures] = toPeersReport([{ name: 'one', reality: disks, outcomes }], facts).tools;
    expect(figures).toMatchObject({ missed: 2, cannotBeSaid: 1, false: 0, detectSeconds: null, callsPerIncident: 0 });
  });
});

describe('what Prometheus is given', () => {
  const processes = createFleet({ hosts: ['app-1'] }).processes;
  const [one, other] = processes as [(typeof processes)[number], (typeof processes)[number]];
  const successor = { ...one, pid: 4_200 };
  const call = (second: number, process = one) =>
    occurrence(T0 + second * SECOND, process, { event: 'call.ended', tenantId: 'acme', call: { status: 'failed' } });
  const alive = (second: number, process = one) => occurrence(T0 + second * SECOND, process, { message: 'here' });
  const staged = (list: ReturnType<typeof alive>[], delayMs: (second: number) => number = () => 0) => {
    const occurrences = list.sort((a, b) => a.trueMs - b.trueMs);
    const records = occurrences.map((of) => {
      const arrivalMs = of.trueMs + delayMs((of.trueMs - T0) / SECOND);
      return { arrivalMs, partition: 0, value: Buffer.from('{}'), of };
    });
    return { fromMs: T0, toMs: T0 + 150 * SECOND, occurrences, records, must: [], incidents: [] };
  };
  const valuesOf = (series: ReturnType<typeof expose>, name: string, instance = 'app-1:3000') =>
    series.find((own) => own.name === name && own.labels.instance === instance)?.values;

  test('a counter is there from the start of its process, and begins anew with the next one', () => {
    const series = expose(
      staged([
        alive(0),
        call(20),
        call(25),
        alive(50),
        alive(100, successor),
        call(125, successor),
        alive(149, successor),
      ]),
    );
    const gone = null;
    expect(valuesOf(series, 'calls_ended_total')).toEqual([0, 0, 2, 2, gone, gone, gone, 0, 0, 1, 1]);
    expect(valuesOf(series, 'up')).toEqual([1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1]);
  });

  test('a host whose records come much later could not be scraped', () => {
    const seconds = [0, 20, 30, 40, 50, 60, 70, 80, 90, 110, 149];
    const events = seconds.flatMap((second) => [alive(second), alive(second, other)]);
    const series = expose(staged(events, (second) => (second >= 20 && second < 95 ? (95 - second) * SECOND : 0)));
    expect(valuesOf(series, 'up')).toEqual([1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
  });

  test('what promtool prints becomes spans of firing, and what fires at the end goes on', () => {
    const got = (time: string, labels: string) =>
      `    expr: "ALERTS{alertstate=\\"firing\\"}", time: ${time},\n        exp: nil\n        got: {__name__="ALERTS", alertname="a", alertstate="firing"${labels}} 1E+00`;
    const output = ['  FAILED:', got('45s', ''), got('1m', ''), got('2m', ''), got('1h', ', host="app-1"')].join('\n');
    expect(firingsOf(output, T0, T0 + 60 * MINUTE)).toEqual([
      { labels: { alertname: 'a' }, fromMs: T0 + 45 * SECOND, toMs: T0 + 75 * SECOND },
      { labels: { alertname: 'a' }, fromMs: T0 + 120 * SECOND, toMs: T0 + 135 * SECOND },
      { labels: { alertname: 'a', host: 'app-1' }, fromMs: T0 + 60 * MINUTE, toMs: Number.POSITIVE_INFINITY },
    ]);
  });
});

describe("the peers' rules", () => {
  const folder = join(packageRoot(), 'bench', 'truth', 'peers');
  const read = (...path: string[]) => readFileSync(join(folder, ...path), 'utf8');
  const all = [...FACTS.keys()].sort();
  /** Named in the comment above the rules. */
  const unsaid = (text: string) => all.filter((id) => new RegExp(`^#.*\\b${id}\\b`, 'm').test(text));

  test('each of ours is one of theirs, or their file says why not', () => {
    const alerts = read('prometheus', 'alerts.yml');
    const { groups } = parse(alerts) as { groups: { name: string; rules: { alert?: string; labels: object }[] }[] };
    const written = groups.flatMap(({ rules }) => rules).filter(({ alert }) => alert !== undefined);
    expect([...new Set([...written.map(({ alert }) => alert), ...unsaid(alerts)])].sort()).toEqual(all);
    for (const { alert, labels } of written) {
      const { group, priority } = FACTS.get(alert!)!;
      expect({ alert, labels }).toEqual({ alert, labels: { group, priority } });
    }

    const names = readdirSync(join(folder, 'elastalert', 'rules')).map((file) => file.replace(/\.yaml$/, ''));
    expect([...new Set([...names, ...unsaid(read('elastalert', 'base.yaml'))])].sort()).toEqual(all);
    for (const name of names) {
      const rule = parse(read('elastalert', 'rules', `${name}.yaml`)) as { name: string; priority: number };
      expect({ rule: rule.name, priority: `P${rule.priority}` }).toEqual({
        rule: name,
        priority: FACTS.get(name)!.priority,
      });
    }
  });
});
