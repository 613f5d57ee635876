// config/rules.test.yml: every test of it holds, every shipped rule fires in one and comes close to it in another. A rule that
// is added without tests fails here.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { parseRuleTests, runRuleTest } from '../../../src/replay/rule-tests.ts';
import type { Rule } from '../../../src/rules/rule-types.ts';
import { MEASURES, RULES } from '../rules/kit.ts';

const TESTS = parseRuleTests(
  readFileSync(join(packageRoot(), 'config', 'rules.test.yml'), 'utf8'),
  'rules.test.yml',
  {},
);
const CLOSE = TESTS.filter(({ expect: { silent } }) => silent.length > 0);
const ids = RULES.map(({ id }) => id).sort();

const run = (test: (typeof TESTS)[number], rules: readonly Rule[]) =>
  runRuleTest(test, { ...parseConfig('', {}, 'defaults'), measures: MEASURES, rules });

/** How close a silent rule has to be: it fires with bounds that are a seventh tighter, at once, … */
const MARGIN = 0.15;

function tighter(rule: Rule): Rule {
  switch (rule.kind) {
    case 'threshold':
    case 'ratio':
    case 'percentile':
    case 'absence':
    case 'low-volume': {
      const { op, value } = rule.bound;
      const bound =
        op === 'above' || op === 'atLeast'
          ? { op: 'atLeast' as const, value: value * (1 - MARGIN) }
          : { op: 'atMost' as const, value: value * (1 + MARGIN) };
      return { ...rule, bound, forMs: 0 };
    }
    case 'spike': {
      const { factor, deviations, floor } = rule;
      return {
        ...rule,
        factor: factor * (1 - MARGIN),
        deviations: deviations * (1 - MARGIN),
        floor: floor * (1 - MARGIN),
      };
    }
    case 'trend':
      return { ...rule, factor: 1 + (rule.factor - 1) * (1 - MARGIN), floor: rule.floor * (1 - MARGIN) };
    case 'first-seen':
      return { ...rule, minEvents: rule.minEvents - 1 };
    default:
      return rule;
  }
}

/** … or with a single event. */
const hasty = (rule: Rule): Rule => ('minEvents' in rule ? { ...rule, minEvents: 1 } : rule);

describe('the shipped rule tests', () => {
  it('speak of every rule, firing and silent', () => {
    expect([...new Set(TESTS.flatMap((test) => test.expect.alerts.map(({ rule }) => rule)))].sort()).toEqual(ids);
    expect([...new Set(CLOSE.flatMap((test) => test.expect.silent))].sort()).toEqual(ids);
  });

  it('have names of their own', () => {
    expect(new Set(TESTS.map(({ name }) => name)).size).toBe(TESTS.length);
  });

  it.each(TESTS)('$name', async (test) => {
    expect((await run(test, RULES)).problems).toEqual([]);
  });
});

describe('what is called silent comes close', () => {
  it.each(CLOSE)('$name', async (test) => {
    const { fired } = await run(test, RULES.map(tighter));
    const far = test.expect.silent.filter((id) => !fired.includes(id));
    if (far.length === 0) return;
    expect((await run(test, RULES.map(hasty))).fired).toEqual(expect.arrayContaining(far));
  });
});
