// The package as it is installed: where its own files (config/, stack/, package.json) lie, from src/ as well as from dist/src/, and
// how Node is started for it.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of the folder that holds logpipe's package.json. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}

/**
 * Node's flags for the command's first line, the container and whoever else starts logpipe. A smaller young generation: records
 * in flight outlive it anyway, and V8 holds it three times over. Measured: 16 MiB less at the peak of a backlog of a million
 * records, and no more CPU.
 */
export const NODE_FLAGS = ['--max-semi-space-size=8'] as const;
