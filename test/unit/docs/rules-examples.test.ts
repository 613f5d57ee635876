// docs/rules.md: every example is one that logpipe takes, and the tests in it hold.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import { runRuleTests } from '../../../src/replay/rule-tests.ts';
import { parseRules } from '../../../src/rules/rule-config.ts';
import { RULE_KINDS } from '../../../src/rules/rule-types.ts';

const read = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');
const blocks = [...read('docs/rules.md').matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => text!);
const inside = (section: string) =>
  blocks.filter((text) => text.startsWith(`${section}:\n`)).map((text) => text.slice(section.length + 2));

const measures = parseMeasures(`${read('config/measures.yml')}\n${inside('measures').join('')}`, {}, 'measures.yml');
const rules = parseRules(`rules:\n${inside('rules').join('')}`, {}, 'rules.yml', measures);

it('shows rules of every kind, all of them fine', () => {
  expect(rules.length).toBeGreaterThan(8);
  // A rule of the kind late has nothing to show.
  expect([...new Set(rules.map(({ kind }) => kind)), 'late'].sort()).toEqual([...RULE_KINDS].sort());
});

it('shows rule tests that hold', async () => {
  const [tests] = blocks.filter((text) => text.includes('\ntests:\n'));
  const { parse, transforms } = parseConfig('', {}, 'defaults');
  const results = await runRuleTests(tests!, 'docs/rules.md', { measures, rules, parse, transforms, env: {} });
  expect(results.map(({ problems }) => problems)).toEqual([[], []]);
});
