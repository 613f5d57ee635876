// Everybody who starts logpipe starts it the same way.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NODE_FLAGS, packageRoot } from '../../../src/core/package-root.ts';

const firstLine = (file: string) => readFileSync(join(packageRoot(), file), 'utf8').split('\n')[0];

test('the command’s first line and the container’s entry point have the flags', () => {
  expect(firstLine('src/main.ts')).toBe(`#!/usr/bin/env -S node ${NODE_FLAGS.join(' ')}`);
  const dockerfile = readFileSync(join(packageRoot(), 'Dockerfile'), 'utf8');
  expect(dockerfile).toContain(
    `ENTRYPOINT ${JSON.stringify(['node', ...NODE_FLAGS, '/app/dist/src/main.js']).replaceAll(',', ', ')}`,
  );
});
