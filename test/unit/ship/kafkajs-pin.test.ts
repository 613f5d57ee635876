// logpipe reaches into kafkajs's inside (docs/kafkajs.md), so another version of it is another program: it is pinned, and the
// pinned one is what is installed and tested.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';

test('kafkajs is pinned exactly, and that version is installed', () => {
  const read = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
  const manifest = read(join(packageRoot(), 'package.json')) as { dependencies: Record<string, string> };
  const lock = read(join(packageRoot(), 'package-lock.json')) as { packages: Record<string, { version: string }> };
  const installed = createRequire(import.meta.url)('kafkajs/package.json') as { version: string };
  const pin = manifest.dependencies.kafkajs;
  expect(pin).toMatch(/^\d+\.\d+\.\d+$/);
  expect(installed.version).toBe(pin);
  expect(lock.packages['node_modules/kafkajs']?.version).toBe(pin);
});
