// docs/runbooks/: one for each shipped rule and none for anything else, with the parts that a person at night looks for, and
// commands that logpipe and the index know.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { fieldPaths } from '../../../scripts/fields-docs.ts';
import { parseConfig } from '../../../src/config.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { BLIND_TITLE } from '../../../src/incidents/notification.ts';
import { parseCondition } from '../../../src/replay/sources.ts';
import { RULES } from '../rules/kit.ts';

const FOLDER = 'docs/runbooks';
const read = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');
const pages = readdirSync(join(packageRoot(), FOLDER)).sort();
const runbooks = pages.filter((name) => name !== 'README.md').map((name) => `${FOLDER}/${name}`);

/** What Prometheus says of the pipeline; where logpipe has the same alert, they share its runbook. */
const { groups } = parseYaml(read('config/prometheus/rules/logpipe-alerts.yml')) as {
  groups: { rules: { annotations: { summary: string; runbook: string } }[] }[];
};
const OF_PROMETHEUS = groups.flatMap(({ rules }) => rules.map(({ annotations }) => annotations));

/** Title and priority of everything that can be alerted about. */
const ALERTS = new Map([
  ...OF_PROMETHEUS.map(({ runbook, summary: title }) => [runbook, { title, priority: 'P1' }] as const),
  ...RULES.map(({ runbook, title, priority }) => [runbook, { title, priority }] as const),
  [`${FOLDER}/log-pipeline-blind.md`, { title: BLIND_TITLE, priority: 'P1' }] as const,
]);

const commandsOf = (text: string): string[] =>
  [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => block!.split('\n').map((line) => line.trim()));

describe('runbooks', () => {
  it('there is one for each alert, and none without an alert', () => {
    expect(runbooks).toEqual([...ALERTS.keys()].sort());
  });

  it('there is a list of all of them', () => {
    for (const path of runbooks) expect(read(`${FOLDER}/README.md`)).toContain(`(${path.slice(FOLDER.length + 1)})`);
  });

  it.each(runbooks)('%s is what a person at night needs', (path) => {
    const text = read(path);
    const alert = ALERTS.get(path)!;
    expect(text.split('\n')[0]).toBe(`# ${alert.title}`);
    expect(text).toMatch(
      new RegExp(`^(Rule \`${path.slice(FOLDER.length + 1, -3)}\`|No rule: .*), ${alert.priority}\\.$`, 'm'),
    );
    const parts = [
      '**Means.**',
      '## First checks',
      '## Usual causes',
      '## What to do',
      '**Ends by itself**',
      '**Tune.**',
    ];
    const places = parts.map((part) => text.indexOf(part));
    expect(places).toEqual([...places].sort((one, other) => one - other));
    expect(places[0]).toBeGreaterThan(0);
    expect(text.match(/^\d\. /gm)).toEqual(['1. ', '2. ', '3. ']);
    expect(commandsOf(text).length).toBeGreaterThanOrEqual(3);
    expect(text.split('\n').length).toBeLessThan(75);
  });

  it('name keys of the rule where they say how to tune it', () => {
    for (const rule of RULES) {
      const [, tune] = read(rule.runbook).split('**Tune.**') as [string, string];
      for (const [, key] of tune.matchAll(/`([a-zA-Z]+)`/g)) {
        const known: readonly string[] = [
          'above',
          'below',
          'atLeast',
          'window',
          'for',
          'where',
          'baseline',
          'learning',
          'offset',
        ];
        expect(known.includes(key!) || key! in rule, `${rule.id}: ${key}`).toBe(true);
      }
    }
  });
});

describe('commands of runbooks', () => {
  const commands = runbooks.flatMap((path) => commandsOf(read(path)).map((command) => [path, command] as const));

  it('of logpipe have conditions it understands, and alerts that exist', () => {
    const sources = readdirSync(join(packageRoot(), 'src/cli')).map((name) => `src/cli/${name}`);
    const program = ['src/main.ts', ...sources].map(read).join('\n');
    for (const [path, command] of commands.filter(([, text]) => text.startsWith('npx logpipe'))) {
      const [, name = '', sub = ''] = /^npx logpipe (\w[\w-]*)(?: (\w+))?/.exec(command) ?? [];
      expect(program, `${path}: ${command}`).toContain(`.command('${name}`);
      if (name === 'alerts' || name === 'dlq') expect(program).toMatch(new RegExp(`\\.command\\('${sub}[ ']`));
      for (const [option] of command.matchAll(/(?<= )--[a-z]+/g))
        expect(program, `${path}: ${command}`).toContain(option);
      for (const [, condition] of command.matchAll(/--where (\S+)/g)) {
        parseCondition(condition!);
        expect(FIELDS).toContain(condition!.split(/!?[=~]/)[0]);
      }
      const [, shown] = /alerts show ([\w-]+)/.exec(command) ?? [];
      if (shown !== undefined) expect(path).toBe(`${FOLDER}/${shown}.md`);
    }
  });

  it('that search have bodies that are JSON, and fields that are in the catalogue', () => {
    const bodies = commands.flatMap(([path, text]) =>
      [...text.matchAll(/ -d '(\{.*\})'/g)].map(([, body]) => [path, body!] as const),
    );
    expect(bodies.length).toBeGreaterThan(40);
    for (const [path, body] of bodies) {
      for (const field of fieldsOf(JSON.parse(body))) expect(FIELDS, `${path}: ${field}`).toContain(field);
    }
  });

  it('name topics and groups as they are called by default', () => {
    const { kafka } = parseConfig('', {}, 'defaults');
    const known: readonly string[] = [kafka.topics.logs, kafka.group, kafka.counterGroup, kafka.alerterGroup];
    for (const [path, text] of commands) {
      for (const [, name] of text.matchAll(/(?:--topic|--group|--entity-name|-t) (\S+)/g))
        expect(known, path).toContain(name);
    }
  });

  it('follow links that lead somewhere', () => {
    for (const path of [...runbooks, `${FOLDER}/README.md`]) {
      for (const [, target] of read(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
        expect(existsSync(join(packageRoot(), dirname(path), target!)), `${path}: ${target}`).toBe(true);
      }
    }
  });
});

const FIELDS = fieldPaths().flatMap(([path]) => [path, path.split('.')[0]!]);

/** Fields of a search: keys of `term`, `terms`, `range`; values of `field`, `_source`, and what is sorted by. */
function fieldsOf(value: unknown, key = ''): string[] {
  if (Array.isArray(value))
    return value.flatMap((inner) => (typeof inner === 'string' && key === '_source' ? [inner] : fieldsOf(inner, key)));
  if (typeof value !== 'object' || value === null) return key === 'field' ? [String(value)] : [];
  return Object.entries(value).flatMap(([name, inner]) => {
    const names = ['term', 'range', 'sort'].includes(key) || (key === 'terms' && !('field' in value)) ? [name] : [];
    return [...names, ...fieldsOf(inner, name)];
  });
}
