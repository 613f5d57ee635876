// One process per folder. A lock left by a process that has ended is taken over.
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LogpipeError } from '../core/errors.ts';

/**
 * Takes the folder (created when missing) and returns what gives it back.
 * @throws LogpipeError LOGPIPE_SOURCE_FAILED while another living process has it
 */
export function lockFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const lock = join(folder, 'lock');
  const mine = join(folder, `lock.${process.pid}.${process.hrtime.bigint()}`);
  const me = fingerprint(process.pid) ?? String(process.pid);
  writeFileSync(mine, me, { mode: 0o600 });
  try {
    for (;;) {
      try {
        linkSync(mine, lock);
        return () => {
          if (read(lock) === me) rmSync(lock, { force: true });
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      takeOverOrThrow(folder, lock);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

function takeOverOrThrow(folder: string, lock: string): void {
  const holder = read(lock);
  if (holder === undefined) return;
  const pid = Number(holder.split(' ')[0]);
  if (isAlive(pid, holder)) throw taken(folder, pid, lock);
  // Renaming first: of two processes that saw the dead holder only one gets the file, and it looks at what it got.
  const stale = `${lock}.stale.${process.pid}`;
  try {
    renameSync(lock, stale);
  } catch {
    return;
  }
  const got = read(stale);
  if (got !== holder) {
    // The other one was quicker and this is its new lock: give it back.
    try {
      linkSync(stale, lock);
    } catch {}
  }
  rmSync(stale, { force: true });
}

function taken(folder: string, pid: number, lock: string): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `files.dataDir: ${folder} is in use by process ${pid}; end that one, choose another folder, or remove ${lock}`,
  );
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function isAlive(pid: number, holder: string): boolean {
  const now = fingerprint(pid);
  if (now !== undefined) return now === holder;
  if (process.platform === 'linux') return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Process id, start time and boot: ids are used again, in containers at every start. Linux only. */
function fingerprint(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything: fields count from its end, and the start time is the 22nd in all.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${pid} ${fields[19]} ${boot}`;
  } catch {
    return undefined;
  }
}
