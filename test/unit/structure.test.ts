// The architecture, held by the import graph: stages in flow order, no cycles (types included), no name twice, no file that is only a
// part of another one, none of several concepts; and nothing that belongs to one machine or registry in what is published.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';

/** The order of the flow; a stage imports what stands before it. */
const ORDER = [
  ...[
    'core',
    'source',
    'parse',
    'transform',
    'tag',
    'indexing',
    'measure',
    'windows',
    'rules',
    'oncall',
    'incidents',
    'notify',
    'alerter',
  ],
  ...['replay', 'monitor', 'ops', 'kibana', 'pm2', 'root', 'cli', 'main'],
] as const;
type Stage = (typeof ORDER)[number] | 'ship';

/** A file is one concept; one this long is more than one. */
const MAX_LINES = 900;
/** So many files a stranger can still get to know. */
const MAX_FILES = 186;

/** Imported by one file of their own folder alone, and yet files of their own: what judges each of them, or why it stands apart. */
const APART: Readonly<Record<string, string>> = {
  'alerter/outbox.ts': 'test/unit/alerter/outbox.test.ts',
  'alerting.ts': 'the second flow; the indexer alone does not load it',
  'cli/completion.ts': 'test/unit/cli/completion.test.ts',
  'cli/connections.ts': 'test/wire/check-connections.test.ts',
  'cli/init.ts': 'test/unit/cli/init.test.ts',
  'cli/on-call.ts': 'test/unit/cli/alert-commands.test.ts',
  'cli/kibana.ts': 'loaded when the command runs',
  'cli/page-address.ts': 'test/unit/cli/page-address.test.ts',
  'cli/ship.ts': 'loaded when the command runs',
  'core/secrets/anchors.ts': 'test/unit/core/mask.test.ts',
  'core/secrets/secret-text.ts': 'test/unit/core/mask.test.ts',
  'notify/alertmanager.ts': 'test/wire/alertmanager.test.ts',
  'notify/email.ts': 'test/wire/notify-email.test.ts',
  'notify/http-channels.ts': 'test/wire/notify.test.ts',
  'ops/figures.ts': 'test/unit/ops/figures.test.ts',
  'ops/incident-detail.ts': 'test/unit/ops/incident-detail.test.ts',
  'ops/logs/search-files.ts': 'test/wire/search-files.test.ts',
  'ops/logs/search-index.ts': 'test/integration/search.test.ts',
  'ops/jobs.ts': 'test/wire/jobs.test.ts',
  'ops/live.ts': 'test/wire/live.test.ts',
  'pm2/lifecycle.ts': 'test/unit/pm2/lifecycle.test.ts',
  'ship/logger.ts': 'test/wire/logger.test.ts',
  'ship/process-stats.ts': 'test/unit/ship/process-stats.test.ts',
  'source/files/follower.ts': 'test/unit/source/files-property.test.ts',
  'source/kafka/positions.ts': 'test/unit/source/kafka-positions.test.ts',
  'source/otlp-records.ts': 'test/unit/source/otlp-records.test.ts',
};
/** They send what a transport left, and lines, with the transport's own sender: a second one could do it differently. */
const SEND_AS_TRANSPORT = ['src/cli/ship.ts', 'src/shipping.ts'];
const root = packageRoot();
/** The page is a program of its own, for browsers: test/unit/page/page-structure.test.ts. */
const sources = files('src', /\.ts$/).filter((file) => !file.startsWith('src/page/'));

function files(folder: string, name: RegExp): string[] {
  const path = join(root, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

const read = (path: string) => readFileSync(join(root, path), 'utf8');

interface Import {
  readonly path: string;
}

/** Relative imports and re-exports, static and dynamic, as paths below the package's root. */
function importsOf(file: string): Import[] {
  const text = read(file);
  const found: Import[] = [];
  const add = (specifier: string) => found.push({ path: relative(root, join(root, dirname(file), specifier)) });
  for (const [, specifier] of text.matchAll(/^(?:import|export)\s[^;'"]*?from\s+['"](\.[^'"]+)['"]/gm)) add(specifier!);
  for (const [, specifier] of text.matchAll(/(?:^import\s+|\bimport\()['"](\.[^'"]+)['"]/gm)) add(specifier!);
  return found;
}

function stageOf(file: string): Stage {
  const [, first = '', second] = file.split('/');
  if (second === undefined) return first === 'main.ts' ? 'main' : 'root';
  if (first !== 'ship' && !(ORDER as readonly string[]).includes(first)) {
    throw new Error(`${file}: the folder src/${first} has no place in the order of stages; add it to ORDER`);
  }
  return first as Stage;
}

const graph = new Map(sources.map((file) => [file, importsOf(file)]));

describe('src/', () => {
  test('was found, and its imports were understood', () => {
    expect(sources).toEqual(expect.arrayContaining(['src/main.ts', 'src/pipeline.ts', 'src/core/catalogue.ts']));
    expect(graph.get('src/pipeline.ts')?.length).toBeGreaterThan(10);
    for (const [file, imports] of graph) {
      for (const { path } of imports) expect(existsSync(join(root, path)), `${file} imports ${path}`).toBe(true);
    }
  });

  test('has no import cycle, types included', () => {
    expect(cycles()).toEqual([]);
  });

  test('has no base name twice, commands excepted', () => {
    const names = new Map<string, string[]>();
    for (const file of sources) {
      if (stageOf(file) === 'cli') continue;
      const name = basename(file);
      names.set(name, [...(names.get(name) ?? []), file]);
    }
    expect([...names.values()].filter(({ length }) => length > 1)).toEqual([]);
  });

  test('has no file that only one other file of its folder imports, unless a test of its own judges it', () => {
    const importers = new Map<string, Set<string>>();
    for (const [file, imports] of graph) {
      for (const { path } of imports) importers.set(path, (importers.get(path) ?? new Set()).add(file));
    }
    const apart = [...importers]
      .filter(([file, by]) => by.size === 1 && dirname(file) === dirname([...by][0]!))
      .map(([file]) => file.replace(/^src\//, ''));
    expect(apart.sort()).toEqual(Object.keys(APART).sort());
    for (const reason of Object.values(APART)) {
      if (reason.startsWith('test/')) expect(existsSync(join(root, reason)), reason).toBe(true);
    }
  });

  test(`has at most ${MAX_FILES} files`, () => {
    expect(sources.length).toBeLessThanOrEqual(MAX_FILES);
  });

  test('imports go against the flow never', () => {
    const wrong: string[] = [];
    for (const [file, imports] of graph) {
      const stage = stageOf(file);
      for (const { path } of imports) {
        if (!path.startsWith('src/')) continue;
        const target = stageOf(path);
        const permitted =
          target === stage ||
          (SEND_AS_TRANSPORT.includes(file) && target === 'ship') ||
          (stage === 'ship' ? target === 'core' : target !== 'ship' && ORDER.indexOf(target) < ORDER.indexOf(stage));
        if (!permitted) wrong.push(`${file} (${stage}) imports ${path} (${target})`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('outside of src/ only the command line imports, and only the local servers', () => {
    const outside = [...graph].flatMap(([file, imports]) =>
      imports.filter(({ path }) => !path.startsWith('src/')).map(({ path }) => ({ file, path })),
    );
    for (const { file, path } of outside) {
      expect(stageOf(file), `${file} imports ${path}`).toBe('cli');
      expect(path).toMatch(/^stack\//);
    }
  });

  test(`no file is longer than ${MAX_LINES} lines`, () => {
    const long = sources.map((file) => [file, read(file).split('\n').length] as const);
    expect(long.filter(([, lines]) => lines > MAX_LINES)).toEqual([]);
  });

  test('every file opens with a comment that says what it is', () => {
    const silent = sources.filter((file) => !/^(?:#!.*\n)?\/\/ \S/.test(read(file)));
    expect(silent).toEqual([]);
  });
});

describe('what is published', () => {
  const published = [
    ...sources,
    ...files('docs', /\.md$/),
    ...files('config', /\.(?:yml|json)$/),
    ...files('stack', /\.(?:ts|java|xml)$/),
    ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'Dockerfile', 'docker-compose.yml', 'package.json'].filter(
      (file) => existsSync(join(root, file)),
    ),
  ];

  test('names no path of one machine', () => {
    // Folders that exist on the machines of people, not in a description of how to use logpipe.
    const machine = /(?<![\w.~])\/(?:root|work|home\/\w+|Users\/\w+|tmp\/\w+)\b/;
    expect(hits(published, machine)).toEqual([]);
  });

  test('names no package registry, and package-lock.json pins none', () => {
    const registry = /registry\.(?:npmjs|yarnpkg)\.|npm\.pkg\.github|artifactory|verdaccio|:4873\b|\bnexus\./i;
    expect(hits(published, registry)).toEqual([]);
    const resolved = read('package-lock.json').match(/"resolved": "[^"]+"/g) ?? [];
    expect(resolved.filter((line) => !line.includes('https://registry.npmjs.org/'))).toEqual([]);
  });
});

describe('test/', () => {
  test('skips, focuses and postpones nothing', () => {
    const tests = files('test', /\.ts$/);
    expect(tests.length).toBeGreaterThan(10);
    expect(
      hits(tests, /\b(?:it|test|describe|suite)\s*\.\s*(?:skip|only|todo|skipIf|runIf)\b|\bx(?:it|describe)\(/),
    ).toEqual([]);
  });
});

function hits(paths: readonly string[], pattern: RegExp): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split('\n')
      .flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1}: ${line.trim().slice(0, 120)}`] : [])),
  );
}

/** Every import cycle, as the path that closes it. */
function cycles(): string[] {
  const found: string[] = [];
  const finished = new Set<string>();
  const visit = (file: string, trail: readonly string[]) => {
    if (trail.includes(file)) {
      found.push([...trail.slice(trail.indexOf(file)), file].join(' -> '));
      return;
    }
    if (finished.has(file)) return;
    for (const { path } of graph.get(file) ?? []) visit(path, [...trail, file]);
    finished.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return found;
}
