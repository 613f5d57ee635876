// Importing the transport must not load the pipeline: the graph of modules from its entry, walked.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';

const PERMITTED = ['winston', 'winston-transport', 'kafkajs', 'logform', 'triple-beam', 'snappy', 'lz4-napi', 'fzstd'];

it('loads Winston, kafkajs and core alone', () => {
  const root = packageRoot();
  const seen = new Set<string>();
  const packages = new Set<string>();
  const walk = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const source = readFileSync(file, 'utf8');
    const imports = source.matchAll(/(?:import|export)\s[^;]*?from\s+'([^']+)'|import\(\s*'([^']+)'/g);
    for (const [statement, fixed, dynamic] of imports) {
      const specifier = fixed ?? dynamic!;
      if (/^(?:import|export)\s+type\b/.test(statement)) continue;
      if (specifier.startsWith('.')) {
        const target = resolve(dirname(file), specifier);
        expect(existsSync(target), `${specifier} of ${file}`).toBe(true);
        walk(target);
      } else if (!specifier.startsWith('node:')) packages.add(specifier);
    }
  };
  walk(join(root, 'src/ship/index.ts'));
  expect([...packages].filter((name) => !PERMITTED.includes(name))).toEqual([]);
  const outside = [...seen]
    .map((file) => file.slice(root.length + 1))
    .filter((file) => !/^src\/(?:ship|core)\//.test(file));
  expect(outside).toEqual([]);
  expect(packages).toContain('kafkajs');
});
