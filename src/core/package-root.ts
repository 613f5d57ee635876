// The package as it is installed: where its own files (config/, stack/, package.json) lie, from src/ as well as from dist/src/, and
// how Node is started for it.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';

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
 * Node's flags for the command's first line, the container and whoever else starts logpipe: the same young generation on every
 * version of Node, and two threads for V8's compilers and collectors instead of four, each of which has memory of its own. 8 MiB more
 * of the young generation and what `settleV8` does to the old one belong together (docs/performance.md has the measurements).
 */
export const NODE_FLAGS = ['--max-semi-space-size=16', '--v8-pool-size=2'] as const;

/**
 * For a process that stays. Collects old objects once the heap has doubled (grown by 70 % where several roles share it), instead of
 * grown to about four times what is in use: records in flight become old, and V8 would keep 80 MiB of dead ones. And on Node 20 compiles
 * what has run four times as often as by default: half of what V8 would compile is called once per fetch or bulk, and costs more to compile
 * than it gains; later ones have a cheaper compiler for that. Not flags of the command line, because a Node that does not know one must
 * start all the same.
 */
export function settleV8(roles = 1): void {
  setFlagsFromString(`--heap-growing-percent=${roles > 1 ? 70 : 100}`);
  if (process.versions.node.startsWith('20.')) setFlagsFromString('--interrupt-budget=250000');
}
