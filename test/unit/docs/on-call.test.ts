// docs/on-call.md: every piece of YAML in it is read as what it says it is, each on top of the first one; every command in it exists, with
// its options.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../../src/config.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { loadMeasures } from '../../../src/measure/measure-config.ts';
import { scheduleOf } from '../../../src/oncall/routes.ts';
import { parseRouting } from '../../../src/oncall/routing.ts';
import { parseRules } from '../../../src/rules/rule-config.ts';
import { startProcess } from '../../kit/process.ts';

const page = readFileSync(join(packageRoot(), 'docs/on-call.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'logpipe-on-call-'));
afterAll(() => rmSync(folder, { recursive: true }));
/** Secrets of which the page names the files. */
const blocks = [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(([, text]) =>
  text!.replace(/\/etc\/logpipe\/([\w-]+)/g, (_, name: string) => {
    const file = join(folder, name);
    writeFileSync(file, name.includes('slack') ? 'https://hooks.example/x' : `${'0123456789abcdef'.repeat(4)}\n`);
    return file;
  }),
);
type Mapping = { readonly [key: string]: unknown };
const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function onTopOf(base: unknown, more: unknown): unknown {
  if (!isMapping(base) || !isMapping(more)) return more;
  return {
    ...base,
    ...Object.fromEntries(Object.entries(more).map(([key, value]) => [key, onTopOf(base[key], value)])),
  };
}

const NOW = Date.parse('2026-11-29T12:00:00Z');
const routing = (value: unknown) => parseRouting(JSON.stringify(value), {}, 'docs/on-call.md', NOW);
const kinds = { notify: 'config', http: 'config', source: 'config', rules: 'rules' } as const;

describe('docs/on-call.md', () => {
  const first = parse(blocks[0]!) as Mapping;
  const kindOf = (value: Mapping) => Object.entries(kinds).find(([key]) => value[key] !== undefined)?.[1] ?? 'routing';

  test('has what it is about', () => {
    const found = blocks.map((text) => kindOf(parse(text) as Mapping));
    expect(found.filter((kind) => kind === 'routing').length).toBeGreaterThan(6);
    expect(found).toContain('config');
    expect(found).toContain('rules');
  });

  test.each(blocks.map((text) => [text.split('\n').slice(0, 2).join(' '), text] as const))('%s', (_, text) => {
    const value = parse(text) as Mapping;
    switch (kindOf(value)) {
      case 'config':
        parseConfig(text, {}, 'docs/on-call.md');
        break;
      case 'rules':
        parseRules(text, {}, 'docs/on-call.md', loadMeasures({ file: undefined, env: {} }));
        break;
      case 'routing': {
        // A second team needs somebody to say which is the default one.
        const whole = onTopOf({ ...first, defaultTeam: 'calls' }, value);
        expect(routing(whole).teams.length).toBeGreaterThan(0);
      }
    }
  });

  test('the table of `logpipe oncall` is that of the first rota', () => {
    const [calls] = scheduleOf(routing(first), NOW, 1);
    expect([calls!.now!.primary!.name, calls!.next[0]!.primary!.name]).toEqual(['Cid Ruiz', 'Ada Berg']);
    expect(page).toContain('  now                   Mon 2026-11-30 09:00  Cid Ruiz              Ada Berg\n');
  });

  const commands = new Map<string, Set<string>>();
  for (const [, line] of page.matchAll(/npx logpipe ((?:[^\n`#'|)]|'[^']*')+)/g)) {
    const words = line!.trim().match(/'[^']*'|\S+/g) ?? [];
    const at = words.findIndex((word) => word.startsWith('-') || !/^[a-z-]+$/.test(word));
    const named = (at === -1 ? words : words.slice(0, at)).slice(
      0,
      words[0] === 'alerts' || words[0] === 'notify' || words[0] === 'pm2' ? 2 : 1,
    );
    const flags = words.filter((word) => word.startsWith('--')).map((word) => word.split('=', 1)[0]!);
    const known = commands.get(named.join(' ')) ?? new Set();
    for (const flag of flags) known.add(flag);
    commands.set(named.join(' '), known);
  }

  test.each([...commands])('logpipe %s exists, with its options', async (name, flags) => {
    const help = startProcess('src/main.js', [...name.split(' '), '--help']);
    expect(await help.exit).toMatchObject({ status: 0 });
    for (const flag of flags) expect(help.stdout(), flag).toContain(flag);
  });

  test('commands were found', () => {
    expect([...commands.keys()]).toEqual(
      expect.arrayContaining(['check-config', 'oncall', 'alerts ack', 'alerts silence', 'alerts unsilence', 'run']),
    );
  });
});
