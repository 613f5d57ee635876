// Writes every generated file; with --check writes none, and exits with 1 when one differs from what would be written.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../src/core/package-root.ts';
import { outputs } from './outputs.ts';

process.exitCode = generate(process.argv.slice(2));

function generate(options: readonly string[]): number {
  const unknown = options.filter((option) => option !== '--check');
  if (unknown.length > 0) {
    console.error(`generate: found ${unknown.join(' ')}; permitted: --check`);
    return 2;
  }
  const all = Object.entries(outputs());
  const differing = all.filter(([path, content]) => present(path) !== content);
  if (options.includes('--check')) {
    for (const [path, content] of differing) console.error(`differs: ${path}${where(present(path), content)}`);
    if (differing.length > 0) console.error('Run `npm run generate` and commit the result.');
    else console.log(`${all.length} generated files are as the code says`);
    return differing.length > 0 ? 1 : 0;
  }
  for (const [path, content] of differing) {
    const file = join(packageRoot(), path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    console.log(`written: ${path}`);
  }
  console.log(`${all.length - differing.length} of ${all.length} were up to date`);
  return 0;
}

function present(path: string): string | undefined {
  const file = join(packageRoot(), path);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

function where(found: string | undefined, wanted: string): string {
  if (found === undefined) return ' (missing)';
  const lines = found.split('\n');
  const line = wanted.split('\n').findIndex((text, i) => text !== lines[i]);
  return ` (from line ${(line === -1 ? lines.length : line) + 1} on)`;
}
