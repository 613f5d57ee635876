// CONTRIBUTING's recipes, followed word for word on a copy of src/: a dummy of each is added in the files that the recipe names, the
// copy is compiled with the project's own settings, and its command line shows that each dummy works.
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';
import { startProcess } from '../../kit/process.ts';
import { startReceiver } from '../../kit/receiver.ts';

const MOST_FILES = 3;
const root = packageRoot();

/** One step of a recipe: `text` goes right behind (or before) the only place where the anchor stands. */
type Edit = { readonly file: string } & (
  | { readonly after: string; readonly text: string }
  | { readonly before: string; readonly text: string }
  | { readonly create: string }
);

interface Followed {
  /** As the recipe is headed. */
  readonly recipe: string;
  readonly edits: readonly Edit[];
}

const SHAPE: Followed = {
  recipe: 'A shape of another logger.',
  edits: [
    {
      file: 'src/parse/shapes.ts',
      after: 'export const SHAPES: readonly Shape[] = [',
      text: `
  {
    name: 'Dummy logger',
    example: '{"dummyText":"call failed","dummyLevel":"error","dummyWhen":"2026-11-28T14:22:41.607Z"}',
    keys: ['dummyText'],
    level: ['dummyLevel'],
    message: ['dummyText'],
    time: ['dummyWhen'],
  },`,
    },
  ],
};

const RULE_KIND: Followed = {
  recipe: 'A rule kind.',
  edits: [
    { file: 'src/rules/rule-types.ts', after: 'export const RULE_KINDS = [', text: `\n  'even',` },
    {
      file: 'src/rules/rule-types.ts',
      before: 'export type Rule = ',
      text: `/** Breached while the number of events is even. */
export interface EvenRule extends MeasuringRule {
  readonly kind: 'even';
  readonly bound: Bound;
}

`,
    },
    { file: 'src/rules/rule-types.ts', after: 'export type Rule = ', text: 'EvenRule | ' },
    {
      file: 'src/rules/rule-types.ts',
      after: 'export const KINDS: Readonly<Record<RuleKind, KindFacts>> = {',
      text: `
  even: {
    permitted: BOUNDED,
    required: ['measure'],
    bound: true,
    judges: ['counter'],
    message: 'An even number: {value} (threshold {threshold})',
  },`,
    },
    {
      file: 'src/rules/rule-types.ts',
      before: "    case 'absence':\n      return freeze({",
      text: `    case 'even':
      return freeze({ ...measuring, kind, bound: boundOf(written, unit) });
`,
    },
    { file: 'src/rules/kinds.ts', before: '  exceeds,\n', text: '  type EvenRule,\n' },
    {
      file: 'src/rules/kinds.ts',
      before: "    case 'absence':\n      return judgeAbsence(",
      text: `    case 'even':
      return judgeEven(rule, context);
`,
    },
    {
      file: 'src/rules/kinds.ts',
      before: '/** Identifies what a rule learns:',
      text: `function judgeEven(rule: EvenRule, { store, times }: JudgeContext): Verdict[] {
  const { measure, bound, where, labels: by } = rule;
  const window = windowTo(times.evalMs, rule.windowMs);
  return readMeasure(store, measure, { ...window, nowMs: times.evalMs, where, by }).map((reading) => {
    const { labels, volume: value } = reading;
    if (value % 2 === 1 || !exceeds(value, bound)) return { labels, state: 'clear', value };
    return { labels, state: 'breached', breach: { measure, reading, value, threshold: bound.value, ...window } };
  });
}

`,
    },
  ],
};

const NOTIFIER: Followed = {
  recipe: 'A notifier.',
  edits: [
    { file: 'src/notify/notify-config.ts', after: 'export const CHANNELS = [', text: `'pager', ` },
    { file: 'src/notify/notify-config.ts', after: '  P1: [', text: `'pager', ` },
    {
      file: 'src/notify/notify-config.ts',
      before: '    slack: {\n      type:',
      text: `    pager: {
      type: 'object',
      description: 'A dummy.',
      additionalProperties: false,
      default: {},
      properties: {
        url: { type: 'string', pattern: ADDRESS, secret: true, description: 'Its address.' },
        ratePerSecond: rate(1),
      },
    },
`,
    },
    {
      file: 'src/notify/notify-config.ts',
      before: '  readonly slack: {',
      text: '  readonly pager: { readonly url?: string; readonly ratePerSecond: number };\n',
    },
    {
      file: 'src/notify/http-channels.ts',
      before: '/** Returns a channel, or the key ',
      text: `function createPager(
  options: { url: string; ratePerSecond: number; timeoutMs: number },
  deps: HttpSendDeps,
): Channel {
  const { url, ratePerSecond, timeoutMs } = options;
  const send = createHttpSend({ url, place: 'notify.pager.url', timeoutMs, quote: false }, deps);
  return {
    name: 'pager',
    ratePerSecond,
    send: async (notification, signal) => send({ beep: maskNotification(notification, deps.masker).title }, signal),
    async close() {},
  };
}

`,
    },
    {
      file: 'src/notify/http-channels.ts',
      after: 'export const HTTP_CHANNELS = {',
      text: `
  pager({ pager, timeoutMs }, _links, deps) {
    const { url } = pager;
    return url === undefined ? 'url' : createPager({ ...pager, url, timeoutMs }, deps);
  },`,
    },
  ],
};

const SINK: Followed = {
  recipe: 'A sink.',
  edits: [
    {
      file: 'src/indexing/sinks.ts',
      before: '    ndjson: {\n      type:',
      text: `    stderr: { type: 'boolean', default: false, description: 'A dummy.' },
`,
    },
    {
      file: 'src/indexing/sinks.ts',
      after: 'export interface SinksConfig {',
      text: '\n  readonly stderr: boolean;',
    },
    {
      file: 'src/indexing/sinks.ts',
      before: '  if (wanted.ndjson.enabled) sinks.push(',
      text: '  if (wanted.stderr) sinks.push(createStderrSink(deps));\n',
    },
    {
      file: 'src/indexing/sinks.ts',
      before: 'export function createConsoleSink(',
      text: `function createStderrSink({ metrics }: LocalSinkDeps): Sink {
  return {
    name: 'stderr',
    async write(batch) {
      for (let i = 0; i < batch.count; i++) await written(process.stderr, \`dummy \${batch.document(i)}\\n\`);
      metrics.indexed.inc({ sink: 'stderr' }, batch.count);
      return undefined;
    },
    async close() {},
  };
}

`,
    },
  ],
};

const COMMAND: Followed = {
  recipe: 'A command.',
  edits: [
    {
      file: 'src/cli/<command>.ts',
      create: `// \`logpipe greet\`: a dummy.
import type { Io } from './io.ts';

export function greet(name: string, io: Io): number {
  io.out(\`Good day, \${name}.\`);
  return 0;
}
`,
    },
    {
      file: 'src/main.ts',
      before: "import { tail } from './cli/tail.ts';",
      text: "import { greet } from './cli/greet.ts';\n",
    },
    {
      file: 'src/main.ts',
      before: "  program\n    .command('version')",
      text: `  program
    .command('greet <name>')
    .description('Greet somebody.')
    .addHelpText('after', '\\nExample:\\n  logpipe greet Ada')
    .action((name: string) => {
      process.exitCode = greet(name, io);
    });

`,
    },
  ],
};

const RECIPES = [SHAPE, RULE_KIND, NOTIFIER, SINK, COMMAND];

/** The recipe's paragraph in CONTRIBUTING.md, and the files it names. */
function told(recipe: string): { text: string; files: string[] } {
  const contributing = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
  const text = contributing.split(/\n\n+/).find((paragraph) => paragraph.startsWith(`**${recipe}**`));
  if (text === undefined) throw new Error(`CONTRIBUTING.md has no recipe ${recipe}`);
  const named = [...text.matchAll(/`([\w-]+(?:\/[\w<>.-]+)+\.\w+)`/g)].map(([, file]) => file!);
  return { text, files: [...new Set(named)] };
}

describe.each(RECIPES)('$recipe', ({ recipe, edits }) => {
  const { files } = told(recipe);

  test(`names at most ${MOST_FILES} files, and each exists, or will in a folder that does`, () => {
    expect(files.length).toBeGreaterThan(0);
    expect(files.length, files.join(', ')).toBeLessThanOrEqual(MOST_FILES);
    for (const file of files) {
      expect(existsSync(join(root, file.includes('<') ? dirname(file) : file)), `${recipe} ${file}`).toBe(true);
    }
  });

  test('needs each source file it names, and no other', () => {
    const edited = [...new Set(edits.map(({ file }) => file))].sort();
    expect(files.filter((file) => file.startsWith('src/')).sort()).toEqual(edited);
  });
});

describe('a dummy of each, all at once', () => {
  let copy: string;

  beforeAll(async () => {
    copy = mkdtempSync(join(tmpdir(), 'logpipe-recipes-'));
    for (const folder of ['src', 'stack']) cpSync(join(root, folder), join(copy, folder), { recursive: true });
    for (const name of ['config', 'package.json', 'node_modules']) symlinkSync(join(root, name), join(copy, name));
    cpSync(join(root, 'tsconfig.json'), join(copy, 'tsconfig.json'));
    writeFileSync(
      join(copy, 'tsconfig.build.json'),
      JSON.stringify({
        extends: './tsconfig.json',
        compilerOptions: { sourceMap: false, declaration: false },
        include: ['src', 'stack'],
      }),
    );
    for (const { edits } of RECIPES) for (const edit of edits) apply(copy, edit);
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    await promisify(execFile)(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: copy }).catch(
      ({ stdout }: { stdout: string }) => {
        throw new Error(`The copy does not compile:\n${stdout}`);
      },
    );
    vi.stubEnv('LOGPIPE_TEST_DIST', join(copy, 'dist'));
  }, 180_000);

  afterAll(() => {
    vi.unstubAllEnvs();
    rmSync(copy, { recursive: true, force: true });
  });

  /** Runs the copy's command line to its end. */
  async function logpipe(
    args: string[],
    input = '',
  ): Promise<{ status: number | null; stdout: string; stderr: string }> {
    const started = startProcess('src/main.js', args, { cwd: copy });
    started.stdin.end(input);
    const { status } = await started.exit;
    return { status, stdout: started.stdout(), stderr: started.stderr() };
  }

  function written(name: string, text: string): string {
    const file = join(copy, name);
    writeFileSync(file, text);
    return file;
  }

  test('the shape is understood', async () => {
    const line = '{"dummyText":"call failed","dummyLevel":"error","dummyWhen":"2026-11-28T14:22:41.607Z"}';
    const { stdout } = await logpipe(['parse', '--json', '--explain'], `${line}\n`);
    expect(JSON.parse(stdout)).toMatchObject({
      explanation: { renamed: expect.arrayContaining([{ from: 'dummyText', to: 'message' }]) },
      document: { '@timestamp': '2026-11-28T14:22:41.607Z', level: 'error', message: 'call failed' },
    });
  });

  test('a rule of the kind fires, says so and ends', async () => {
    const rules = written(
      'even.yml',
      `rules:
  even-calls: { title: Even, priority: P2, kind: even, measure: calls.ended, window: 5m, atLeast: 4, keepFiring: 0s }
`,
    );
    const tests = written(
      'even.test.yml',
      `tests:
  - name: four calls are an even number, five are not
    for: 4m
    log:
      - { every: 1s, from: 1m, to: 1m3s, event: &ended { event: call.ended, callId: 'C{n}', call: { direction: outbound, status: completed, durationMs: 9, attempt: 1 } } }
      - { at: 2m, event: *ended }
      - { at: 3m, event: *ended }
    expect:
      alerts: [{ rule: even-calls, fires: 2m..2m15s, resolves: 3m..3m30s }]
      messages:
        - { at: 2m..2m15s, title: Even, to: [slack, email], message: 'An even number: 4 (threshold 4)' }
        - { at: 3m..3m30s, title: Even, action: resolve, to: [slack, email] }
`,
    );
    const { stdout, stderr, status } = await logpipe(['rules', 'test', '--rules', rules, tests]);
    expect(stdout + stderr).toMatch(/^ok .*\n1 passed, 0 failed\n$/);
    expect(status).toBe(0);
  });

  test('the notifier is sent to', async () => {
    const receiver = await startReceiver();
    try {
      const config = written('pager.yml', JSON.stringify({ notify: { pager: { url: `${receiver.url}/beep` } } }));
      const { stdout } = await logpipe(['notify', 'test', '--config', config, '--channel', 'pager', '--json']);
      expect(JSON.parse(stdout)).toEqual({ pager: { ok: true } });
      expect(receiver.requests.map(({ path, body }) => [path, body])).toEqual([
        ['/beep', { beep: 'Test of logpipe’s notifications' }],
        ['/beep', { beep: 'Test of logpipe’s notifications' }],
      ]);
    } finally {
      await receiver.close();
    }
  });

  test('the sink is written to', async () => {
    const config = written(
      'stderr.yml',
      JSON.stringify({
        source: 'stdin',
        roles: ['indexer'],
        sinks: { elasticsearch: false, stderr: true },
        dlq: { file: join(copy, 'dead-letters.ndjson') },
        http: { enabled: false },
      }),
    );
    const { stderr, status } = await logpipe(['run', '--config', config], '{"level":"info","message":"to the sink"}\n');
    const documents = stderr
      .split('\n')
      .flatMap((line) => (line.startsWith('dummy ') ? [JSON.parse(line.slice(6))] : []));
    expect(documents, stderr).toMatchObject([{ level: 'info', message: 'to the sink' }]);
    expect(status).toBe(0);
  });

  test('the command is listed, explained and obeyed', async () => {
    expect((await logpipe(['--help'])).stdout).toMatch(/^ {2}greet <name> +Greet somebody\.$/m);
    expect((await logpipe(['greet', '--help'])).stdout).toContain('logpipe greet Ada');
    expect(await logpipe(['greet', 'Ada'])).toMatchObject({ status: 0, stdout: 'Good day, Ada.\n' });
  });
});

function apply(copy: string, edit: Edit): void {
  const path = join(copy, edit.file.replace('<command>', 'greet'));
  if ('create' in edit) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, edit.create);
    return;
  }
  const anchor = 'after' in edit ? edit.after : edit.before;
  const parts = readFileSync(path, 'utf8').split(anchor);
  if (parts.length !== 2) throw new Error(`${edit.file}: found ${parts.length - 1} times, not once: ${anchor}`);
  const text = 'after' in edit ? `${anchor}${edit.text}` : `${edit.text}${anchor}`;
  writeFileSync(path, parts.join(text));
}
