// The demo's temporary folder. Removed at the end; what a killed demo left behind is removed by the next one.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processStart } from '../../stack/index.ts';

const PREFIX = 'logpipe-demo-';
const OWNER = 'owner.json';
/** A folder without an owner is either half made or not worth keeping. */
const HALF_MADE_MS = 60_000;

export interface Workspace {
  path: string;
  /** A folder inside, created. */
  folder(name: string): string;
  remove(): void;
}

export function createWorkspace(root: string = tmpdir()): Workspace {
  sweep(root);
  const path = mkdtempSync(join(root, PREFIX));
  writeFileSync(join(path, OWNER), JSON.stringify({ pid: process.pid, start: processStart(process.pid) }));
  // Also when the demo ends in a hurry.
  process.once('exit', () => remove(path));
  return {
    path,
    folder(name) {
      const folder = join(path, name);
      mkdirSync(folder, { recursive: true });
      return folder;
    },
    remove: () => remove(path),
  };
}

/** Removes the folders of demos that no longer run. */
function sweep(root: string): void {
  for (const name of readdirSync(root)) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(root, name);
    try {
      if (abandoned(path)) remove(path);
    } catch {
      // Somebody else's folder, or gone meanwhile: not ours to remove.
    }
  }
}

function abandoned(path: string): boolean {
  try {
    const { pid, start } = JSON.parse(readFileSync(join(path, OWNER), 'utf8')) as { pid: number; start: string };
    return processStart(pid) !== start;
  } catch {
    return Date.now() - statSync(path).mtimeMs > HALF_MADE_MS;
  }
}

function remove(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}
