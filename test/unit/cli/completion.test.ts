// What the Tab key offers: the script of bash is run by bash, with the words as bash hands them over; those of zsh and fish, which are not
// everywhere, are held to the same tree of commands, and every quote in them is closed.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { completionScript, SHELLS } from '../../../src/cli/completion.ts';
import { startProcess } from '../../kit/process.ts';

let dir: string;
let script: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'logpipe-completion-'));
  writeFileSync(join(dir, 'my rules.yml'), '');
  writeFileSync(join(dir, 'main.log'), '');
  mkdirSync(join(dir, 'out'));
  const printed = startProcess('src/main.js', ['completion', 'bash']);
  expect(await printed.exit).toEqual({ status: 0, signal: null });
  script = printed.stdout();
});
afterAll(() => rmSync(dir, { recursive: true }));

/** What bash offers for the last of these words, sorted. */
function offered(...words: string[]): string[] {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is for bash.
  const ask = 'eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _logpipe; printf "%s\\n" "${COMPREPLY[@]}"';
  const text = execFileSync('bash', ['--norc', '-c', ask, 'bash', script, 'logpipe', ...words], {
    cwd: dir,
    encoding: 'utf8',
  });
  return text
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

describe('bash', () => {
  test('commands, and those below them', () => {
    expect(offered('')).toEqual(expect.arrayContaining(['alerts', 'completion', 'init', 'rules', 'run', 'top']));
    expect(offered('ba')).toEqual(['backtest']);
    expect(offered('rules', '')).toEqual(['check', 'explain', 'help', 'test']);
    expect(offered('alerts', '')).toEqual([
      'ack',
      'help',
      'list',
      'resolve',
      'show',
      'silence',
      'silences',
      'unsilence',
    ]);
    // Options, with and without values, may stand between.
    expect(offered('stack', 'u')).toEqual(['up']);
    expect(offered('incident', 'export', '--from', 'rules', '--so')).toEqual(['--source']);
  });

  test('options of that command alone; choices; files and folders where they are expected', () => {
    expect(offered('rules', 'explain', '--')).toEqual(
      expect.arrayContaining(['--config', '--offline', '--rules', '--url', '--json', '--help']),
    );
    expect(offered('rules', 'explain', '--')).not.toContain('--from');
    expect(offered('replay', '--source', '')).toEqual(['dlq', 'file', 'index', 'kafka']);
    expect(offered('replay', '--source', '=')).toEqual(['dlq', 'file', 'index', 'kafka']);
    expect(offered('replay', '--source', '=', 'k')).toEqual(['kafka']);
    expect(offered('replay', '--source', '=', 'kafka', '--to-d')).toEqual(['--to-dir']);
    expect(offered('completion', '')).toEqual(['bash', 'fish', 'zsh']);
    expect(offered('alerts', 'silence', '--priority', '')).toEqual(['P1', 'P2', 'P3', 'P4']);
    expect(offered('oncall', '--n')).toEqual(['--next']);
    expect(offered('rules', 'check', '--rules', 'm')).toEqual(['main.log', 'my rules.yml']);
    expect(offered('parse', 'mai')).toEqual(['main.log']);
    expect(offered('replay', '--to-dir', '')).toEqual(['out']);
    expect(offered('replay', '--from', '')).toEqual([]);
    expect(offered('run', '')).toEqual([]);
  });
});

/** A tree with what a shell could stumble over. */
function program(): Command {
  const root = new Command('logpipe').version('1');
  root
    .command('run')
    .description('Don\'t stop: $(reboot) `reboot` "quoted" \\ backslash.')
    .option('-c, --config <file>', "somebody's file");
  const rules = root.command('rules').description('Rules.');
  rules
    .command('test [files...]')
    .description('Test.')
    .addOption(new Option('--kind <kind>', 'of').choices(['one', 'two']));
  rules.command('export').option('--to-dir <folder>', 'where').option('--from <time>', 'when');
  return root;
}

describe.each(SHELLS)('%s', (shell) => {
  const text = () => completionScript(shell, program());

  test('names every command, option and choice', () => {
    const long = shell === 'fish' ? (name: string) => `-l ${name}` : (name: string) => `--${name}`;
    for (const part of [
      'run',
      'rules',
      'rules test',
      'rules export',
      'one',
      'two',
      ...['config', 'kind', 'to-dir', 'from', 'help'].map(long),
    ]) {
      expect(text()).toContain(part);
    }
  });

  test('every quote is closed on its line, and what the tree says is run by nobody', () => {
    for (const line of text().split('\n')) {
      if (line.startsWith('#')) continue;
      // In single quotes nothing has a meaning; fish takes \' there, the others leave the quotes for it.
      const rest =
        shell === 'fish'
          ? line.replace(/'(?:[^'\\]|\\.)*'/g, '')
          : line.replaceAll("'\\''", '').replace(/'[^']*'/g, '');
      expect(rest).not.toMatch(/'|reboot|`/);
    }
  });
});

test('bash takes such a tree, too', () => {
  const out = execFileSync('bash', ['--norc', '-n'], { input: completionScript('bash', program()), encoding: 'utf8' });
  expect(out).toBe('');
});
