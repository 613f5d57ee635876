// The page is a program of its own: of the server it knows the contract alone, its files stand in order, and nothing becomes markup but what
// is written as such.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';

const MAX_FILES = 40;
const MAX_LINES = 900;
const root = join(packageRoot(), 'src', 'page');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .map((name) => name.replaceAll('\\', '/'))
  .filter((name) => /\.tsx?$/.test(name))
  .sort();
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const imports = new Map(files.map((name) => [name, importsOf(name)]));

/** `[whole statement's beginning, path below src/page or name of a package]` */
function importsOf(name: string): (readonly [statement: string, target: string])[] {
  return [...read(name).matchAll(/^((?:import|export)\s[^;'"]*?from\s+|import\s+)['"]([^'"]+)['"]/gm)].map(
    ([, statement, target]) => {
      const path = target!.startsWith('.') ? relative(root, join(root, dirname(name), target!)) : target!;
      return [statement!, path] as const;
    },
  );
}

test('the files are found, and are not too many or too long', () => {
  expect(files).toEqual(expect.arrayContaining(['main.tsx', 'stream.ts', 'views/now.tsx']));
  expect(imports.get('main.tsx')!.length).toBeGreaterThan(8);
  expect(files.length).toBeLessThanOrEqual(MAX_FILES);
  expect(files.filter((name) => read(name).split('\n').length > MAX_LINES)).toEqual([]);
  expect(files.filter((name) => !/^\/\/ \S/.test(read(name)))).toEqual([]);
});

test('of the server the page imports the contract alone, as types; of packages, what is built in', () => {
  const packages = new Set(['preact', 'preact/hooks', '@preact/signals', 'uplot']);
  const wrong = [...imports].flatMap(([name, all]) =>
    all
      .filter(([statement, target]) => {
        if (files.includes(target) || packages.has(target)) return false;
        return target !== '../ops/page-data.ts' || !/^import type\s/.test(statement);
      })
      .map(([, target]) => `${name} imports ${target}`),
  );
  expect(wrong).toEqual([]);
});

test('there is no cycle', () => {
  const found: string[] = [];
  const finished = new Set<string>();
  const visit = (name: string, trail: readonly string[]) => {
    if (trail.includes(name)) found.push([...trail.slice(trail.indexOf(name)), name].join(' -> '));
    else if (!finished.has(name)) {
      finished.add(name);
      for (const [, target] of imports.get(name) ?? []) visit(target, [...trail, name]);
    }
  };
  for (const name of files) visit(name, []);
  expect(found).toEqual([]);
});

test('no text becomes markup, script or style, and nothing is asked of elsewhere', () => {
  const forbidden =
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(|new Function|srcdoc|https?:\/\/(?!html\.spec\.)/;
  const hits = files.flatMap((name) =>
    read(name)
      .split('\n')
      .flatMap((line, i) => (forbidden.test(line) ? [`${name}:${i + 1}: ${line.trim()}`] : [])),
  );
  expect(hits).toEqual([]);
  // The policy of the page permits none of these.
  expect(readFileSync(join(root, 'index.html'), 'utf8')).not.toMatch(
    /<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/i,
  );
});
