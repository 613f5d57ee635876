// The alert-truth benchmark in small: nothing missed, nothing false, one page each, on a fixed seed. `npm run bench:truth` is all of it.
import { describe, expect, it } from 'vitest';
import { SEED } from '../../../bench/truth/bench.ts';
import { runScenario, shipped } from '../../../bench/truth/run.ts';
import { SCENARIOS } from '../../../bench/truth/scenarios/all.ts';
import type { Rule } from '../../../src/rules/rule-types.ts';

const SHIPPED = shipped();
const QUICK = SCENARIOS.filter(({ quick }) => quick);
const named = (name: string) => SCENARIOS.find((scenario) => scenario.name === name)!;

describe('alert truth', () => {
  it.each(QUICK)('$name: told within 30 s, once, and nothing else', async (scenario) => {
    const { missed, falseAlerts, detections, pages } = await runScenario(scenario, SEED, SHIPPED);
    expect({ missed, falseAlerts }).toEqual({ missed: [], falseAlerts: [] });
    for (const { rule, seconds } of detections) expect(seconds, rule).toBeLessThanOrEqual(30);
    expect(pages.filter(({ extra }) => extra > 0)).toEqual([]);
    for (const { group, incidents, first } of pages) expect(first, group).toBeGreaterThanOrEqual(incidents);
  });

  it('a rule that is not there is missed, one that is too strict is false', async () => {
    const deaf = SHIPPED.rules.filter(({ id }) => id !== 'application-silent');
    const rules = deaf.map((rule): Rule => {
      return rule.id === 'elevated-error-rate' && 'bound' in rule
        ? { ...rule, bound: { ...rule.bound, value: 0 } }
        : rule;
    });
    const { missed, falseAlerts, pages } = await runScenario(named('silence'), SEED, { ...SHIPPED, rules });
    expect(missed.map(({ rule }) => rule)).toEqual(['application-silent']);
    expect(new Set(falseAlerts.map(({ rule }) => rule))).toEqual(new Set(['elevated-error-rate']));
    expect(pages.find(({ group }) => group === 'calls')?.extra).toBeGreaterThan(0);
  });
});
