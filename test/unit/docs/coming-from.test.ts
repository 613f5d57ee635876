// docs/coming-from.md: every block for logpipe is one that it takes, and what stands in for ElastAlert's rules fires as its tests say.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { parseMeasures } from '../../../src/measure/measure-config.ts';
import { runRuleTests } from '../../../src/replay/rule-tests.ts';
import { parseRules } from '../../../src/rules/rule-config.ts';

const read = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');

/** The YAML blocks by the name in their first line. */
const blocks = [...read('docs/coming-from.md').matchAll(/```yaml\n# (\S+)[^\n]*\n([\s\S]*?)```/g)].map(
  ([, name, text]) => ({ name: name!, text: text! }),
);
const textsOf = (name: string) => blocks.filter((block) => block.name === name).map(({ text }) => text);
const OTHERS = ['filebeat.yml', 'vector.yaml', 'elastalert:'];

it('names the file of every block, and nothing but files that are checked here or are another tool’s', () => {
  const count = [...read('docs/coming-from.md').matchAll(/```yaml/g)].length;
  expect(blocks).toHaveLength(count);
  const known = ['logpipe.yml', 'ship.yml', 'measures.yml', 'rules.yml', 'rules.test.yml', ...OTHERS];
  expect(blocks.map(({ name }) => name).filter((name) => !known.includes(name))).toEqual([]);
});

const configurations = blocks.filter(({ name }) => ['logpipe.yml', 'ship.yml'].includes(name));
it.each(configurations)('takes $text', ({ name, text }) => {
  parseConfig(text, { ES_API_KEY: 'key' }, name);
});

describe('instead of ElastAlert', () => {
  const measures = parseMeasures(textsOf('measures.yml').join(''), {}, 'measures.yml');
  const rules = parseRules(textsOf('rules.yml').join(''), {}, 'rules.yml', measures);

  it('one rule for each of its rules, of the same name', () => {
    const theirs = [...textsOf('elastalert:')[0]!.matchAll(/name: ([\w-]+)/g)].map(([, name]) => name);
    expect(rules.map(({ id }) => id)).toEqual(theirs);
  });

  it('they fire when they should', async () => {
    const { parse, transforms } = parseConfig('', {}, 'defaults');
    const results = await runRuleTests(textsOf('rules.test.yml')[0]!, 'coming-from.md', {
      measures,
      rules,
      parse,
      transforms,
      env: {},
    });
    for (const { name, problems } of results) expect({ name, problems }).toEqual({ name, problems: [] });
  });
});
