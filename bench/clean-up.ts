// Leaves nothing of a benchmark behind. In: what it starts and where it writes. Out: all of it ended, newest first, even when the
// benchmark is interrupted.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface CleanUp {
  /** For its files; removed at the end. */
  readonly folder: string;
  readonly cleanUp: (() => Promise<void> | void)[];
  readonly stop: () => Promise<void>;
}

export function createCleanUp(): CleanUp {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-bench-'));
  const cleanUp: CleanUp['cleanUp'] = [() => rmSync(folder, { recursive: true, force: true })];
  const stop = async () => {
    while (cleanUp.length > 0) await cleanUp.pop()!();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void stop().then(() => process.exit(1)));
  return { folder, cleanUp, stop };
}
