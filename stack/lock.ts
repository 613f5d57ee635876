// One holder at a time per lock file, across processes. A lock whose holder died is taken over.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { sleep } from '../src/core/clock.ts';

/** Runs `work` while holding the lock file at `path`; waits for a living holder as long as it takes. */
export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(path), { recursive: true });
  while (!tryLock(path)) {
    // Two waiters may both remove a dead holder's file and one of them the other's new one: the guarded work then runs
    // twice, which the rename at its end makes harmless.
    if (holderDead(path)) rmSync(path, { force: true });
    else await sleep(200);
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function tryLock(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function holderDead(path: string): boolean {
  try {
    const pid = Number(readFileSync(path, 'utf8'));
    // Empty: created this instant, its holder has not written the number yet.
    if (pid === 0) return false;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
