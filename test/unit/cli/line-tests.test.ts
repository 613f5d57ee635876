// What people see of transforms: `logpipe parse` and its --explain, tests of lines (--test), tail; rule tests, which see the same.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createLineParser, parse, runLineTests } from '../../../src/cli/parse.ts';
import { tail } from '../../../src/cli/tail.ts';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { runRuleTests } from '../../../src/replay/rule-tests.ts';
import { MEASURES, rulesOf } from '../rules/kit.ts';

const folder = mkdtempSync(join(tmpdir(), 'logpipe-line-tests-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const CONFIG = parseConfig(
  `
mask: { keys: [locker] }
transforms:
  - rename: { clientip: http.clientIp }
  - where: { http.route: /health }
    drop: true
  - where: { http.route: /noise }
    drop: true
    counts: true
  - where: { service: nginx }
    tag: [edge]`,
  {},
  'test.yml',
);
const AT = '2026-01-05T10:00:00.000Z';
const line = (fields: object) => JSON.stringify({ timestamp: AT, level: 'info', message: 'm', ...fields });

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function printed(files: readonly string[], options: Parameters<typeof parse>[2]) {
  const out: string[] = [];
  const now = vi.spyOn(Date, 'now').mockReturnValue(Date.parse(AT));
  onTestFinished(() => now.mockRestore());
  const status = await parse(files, CONFIG, options, { out: (text) => out.push(text), err: () => {} });
  return { status, out };
}

describe('parse', () => {
  const lines = [
    line({ clientip: '10.0.0.1', http: { route: '/health' } }),
    line({ http: { route: '/noise' } }),
    line({ service: 'nginx' }),
  ];
  const path = file('lines', `${lines.join('\n')}\n`);

  it('shows what a transform drops, with its document; it is no failure', async () => {
    const { status, out } = await printed([path], { json: true });
    expect(status).toBe(0);
    expect(out.map((text) => JSON.parse(text))).toMatchObject([
      {
        path: 'slow',
        dropped: { by: 'transforms.1.drop', counted: true },
        document: { http: { route: '/health', clientIp: '10.0.0.1' } },
      },
      { path: 'fast', dropped: { by: 'transforms.2.drop', counted: false } },
      { path: 'fast', tags: ['edge'], document: { service: 'nginx', tags: ['edge'] } },
    ]);
    const readable = await printed([path], { json: false });
    expect(readable.out[0]).toMatch(/^slow path {2}dropped by transforms\.1\.drop, still counted {2}calling-platform-/);
  });

  it('explains which step did what', async () => {
    const { out } = await printed([path], { json: false, explain: true });
    expect(out[0]!.split('\n').slice(1)).toEqual([
      '  why      a transform changed it',
      '  step     transforms.0.rename: clientip → http.clientIp',
      '  step     transforms.1.drop: dropped, still counted',
    ]);
    expect(out[2]!.split('\n').slice(1)).toEqual(['  step     transforms.3.tag: edge']);
  });
});

describe('tests of lines', () => {
  const problemsOf = (body: string) => {
    const text = `tests:\n  - name: one\n    ${body.trim().replaceAll('\n', '\n    ')}`;
    return runLineTests(text, 'my.test.yml', CONFIG, {})[0]!.problems;
  };

  it('hold when lines become what is expected', () => {
    const yaml = `
event: { service: nginx, clientip: 10.0.0.1 }
expect:
  document: { level: info, message: test, service: nginx, http: { clientIp: 10.0.0.1 }, tags: [edge] }
  fields: { http.clientIp: 10.0.0.1 }
  absent: [clientip]
  tags: [edge]
  index: calling-platform-2026.01.05`;
    expect(problemsOf(yaml)).toEqual([]);
    expect(problemsOf("line: 'not JSON'\nexpect: { fields: { message: not JSON } }")).toEqual([]);
    expect(problemsOf("line: ' '\nexpect: { refused: empty_value }")).toEqual([]);
    expect(problemsOf('event: { http: { route: /health } }\nexpect: { dropped: index }')).toEqual([]);
    expect(problemsOf('event: { http: { route: /noise } }\nexpect: { dropped: everywhere }')).toEqual([]);
  });

  it('of old lines need not say when they arrived', () => {
    const old = `line: '{"timestamp":"2019-03-04T05:06:07Z","level":"info","message":"m"}'`;
    expect(problemsOf(`${old}\nexpect: { index: calling-platform-2019.03.04, tags: [] }`)).toEqual([]);
  });

  it('say field by field what does not hold', () => {
    expect(
      problemsOf(`
event: { service: nginx, http: { status: 200 }, note: x }
expect:
  document: { level: info, message: test, service: nginx, http: { status: 404 }, host: a, tags: [edge] }
  absent: [note]
  tags: [core]`),
    ).toEqual([
      'tags: expected ["core"], found ["edge"]',
      'note: not expected, found "x"',
      'http.status: expected 404, found 200',
      'host: expected "a", found nothing',
      'note: not expected, found "x"',
    ]);
  });

  it('fail when a line is dropped, indexed or refused unexpectedly', () => {
    const health = 'event: { http: { route: /health } }';
    expect(problemsOf(`${health}\nexpect: { tags: [] }`)).toEqual([
      'expected a document, it is dropped (index) by transforms.1.drop',
    ]);
    expect(problemsOf(`${health}\nexpect: { dropped: everywhere }`)).toHaveLength(1);
    expect(problemsOf('event: {}\nexpect: { dropped: index }')).toEqual([
      'expected it to be dropped (index), it is indexed',
    ]);
    expect(problemsOf("line: ' '\nexpect: { tags: [] }")[0]).toMatch(
      /^expected a document, it is refused: empty_value/,
    );
  });

  it('are run by --test: readable or JSON, exit status 1 when one fails, and nothing masked is shown', async () => {
    const text = `tests:
  - { name: fine, event: {}, expect: { tags: [] } }
  - { name: wrong, event: { locker: open-sesame }, expect: { fields: { host: a }, absent: [locker] } }`;
    const path = file('my.test.yml', text);
    const readable = await printed([], { json: false, test: [path] });
    expect(readable).toEqual({
      status: 1,
      out: [
        'ok      fine',
        'FAILED  wrong',
        '        host: expected "a", found nothing',
        '        locker: not expected, found "[masked]"',
        '1 passed, 1 failed',
      ],
    });
    const { out } = await printed([], { json: true, test: [path] });
    expect(JSON.parse(out[0]!)).toMatchObject({ passed: 1, failed: 1, tests: [{ name: 'fine', problems: [] }, {}] });
    expect(JSON.stringify(out)).not.toContain('sesame');
    await expect(printed([path], { json: false, test: [path] })).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
    await expect(printed([], { json: false, test: [join(folder, 'none')] })).rejects.toMatchObject({
      code: 'LOGPIPE_CONFIG_UNREADABLE',
    });
    const wrong = file('wrong.test.yml', 'tests: [{ name: a, event: {}, expect: { tag: [] } }]');
    await expect(printed([], { json: false, test: [wrong] })).rejects.toThrow('unknown key');
  });
});

it('the documentation’s own transforms are accepted, and its tests hold', () => {
  const text = readFileSync(join(packageRoot(), 'docs', 'transforms.md'), 'utf8');
  const [written, tests] = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block]) => block!);
  const results = runLineTests(tests!, 'docs/transforms.md', parseConfig(written!, {}, 'docs/transforms.md'), {});
  expect(results.map(({ problems }) => problems)).toEqual([[], []]);
});

it('tail shows what the index gets', async () => {
  const out: string[] = [];
  const log = file('app.log', `${[line({ http: { route: '/health' } }), line({ clientip: '10.0.0.1' })].join('\n')}\n`);
  const config = parseConfig(`source: files\nfiles: { paths: ['${log}'] }`, {}, 'test.yml');
  await tail(
    config,
    { since: '2026-01-01T00:00:00Z', limit: 1, json: true },
    { out: (text) => out.push(text), err: () => {} },
    {
      parse: (record, origin) => createLineParser(CONFIG)({ ...record, timeMs: Date.parse(AT) }, origin),
      log: silentLog,
    },
  );
  expect(out.map((text) => JSON.parse(text))).toMatchObject([{ http: { clientIp: '10.0.0.1' } }]);
});

describe('a rule test', () => {
  const RULES = rulesOf('  busy: { title: Busy, priority: P2, kind: threshold, measure: calls.ended, above: 2 }');
  const run = async (transforms: string) => {
    const text = `tests:
  - name: three calls
    for: 5m
    log: [{ every: 1s, to: 3s, event: { event: call.ended, call: { status: completed } } }]
    expect: {}`;
    const { parse: section, transforms: list } = parseConfig(transforms, {}, 'test.yml');
    const options = { measures: MEASURES, rules: RULES, parse: section, transforms: list, env: {} };
    return (await runRuleTests(text, 'my.test.yml', options))[0]!.fired;
  };

  it('counts what is dropped from the index alone', async () => {
    const drop = 'transforms: [{ where: { event: call.ended }, drop: true';
    expect(await run('')).toEqual(['busy']);
    expect(await run(`${drop} }]`)).toEqual(['busy']);
    expect(await run(`${drop}, counts: true }]`)).toEqual([]);
  });
});
