// Files and folders for this user alone: what logpipe writes holds log data. In: paths. Out: files 0600, folders 0700, whatever the
// umask. Guarantee: what exists with looser modes is tightened when it is opened, or the caller is told why it is not.
import {
  chmodSync,
  closeSync,
  existsSync,
  fchmodSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LogpipeError, reasonInWords, systemReason } from './errors.ts';

const PRIVATE_FILE = 0o600;
const PRIVATE_FOLDER = 0o700;
/** Group and others. */
const OTHERS = 0o077;
/** The folder belongs to everybody on purpose, like the system's folder for temporary files. */
const STICKY = 0o1000;

/**
 * What is said of a place that cannot be written or read as it has to be: another error is passed on as it is.
 * @param setting the key or option that names the place
 */
export function unusable(setting: string, path: string, error: unknown): unknown {
  const code = systemReason(error)?.code;
  if (error instanceof LogpipeError || code === undefined) return error;
  const fix =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? 'free some space there, or name another place'
      : code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
        ? `name a place that this user${process.getuid === undefined ? '' : ` (id ${process.getuid()})`} may write, or permit it`
        : 'name another place, or remove what is in the way';
  return new LogpipeError(
    'LOGPIPE_FOLDER_UNUSABLE',
    `${setting}: ${path} cannot be used (${reasonInWords(error)}); ${fix}`,
    error,
  );
}

/** The result of `work`. @throws LogpipeError LOGPIPE_FOLDER_UNUSABLE in place of the system's error, see `unusable` */
export function usable<T>(setting: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw unusable(setting, path, error);
  }
}

/**
 * Makes the folder, and those above it that are missing. `own`: the folder is logpipe's alone, so one that exists is tightened;
 * otherwise it is left as whoever made it wanted it.
 * @returns a warning, to be logged once, when others can still look into it
 * @throws the system's error when it cannot be made
 */
export function makePrivateFolder(folder: string, { own }: { readonly own: boolean }): string | undefined {
  const created = makeFolders(folder);
  // Windows has no such modes.
  if (process.platform === 'win32') return undefined;
  const { mode } = statSync(folder);
  if (created || (mode & OTHERS) === 0) return undefined;
  if (own && (mode & STICKY) === 0) {
    try {
      chmodSync(folder, PRIVATE_FOLDER);
      return undefined;
    } catch {
      // It belongs to another user; the warning below says so.
    }
  }
  return `${folder}: other users of this machine can look into it (mode ${(mode & 0o7777).toString(8)}); chmod 700 it`;
}

/** Node's own `recursive` never ends where a file system makes no folders and says that there is none, as /proc does. */
function makeFolders(folder: string): boolean {
  try {
    mkdirSync(folder, PRIVATE_FOLDER);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const above = dirname(folder);
    if (code === 'EEXIST' && statSync(folder).isDirectory()) return false;
    if (code !== 'ENOENT' || above === folder || existsSync(above)) throw error;
    makeFolders(above);
    return makeFolders(folder);
  }
}

/**
 * Opens a file, making it for this user alone. One that exists with a looser mode is tightened; one that belongs to another user is
 * used as it is.
 */
export async function openPrivate(path: string, flags: string | number): Promise<FileHandle> {
  const handle = await open(path, flags, PRIVATE_FILE);
  try {
    if (((await handle.stat()).mode & OTHERS) !== 0) await handle.chmod(PRIVATE_FILE);
  } catch {
    // Only its owner can do that; the file could be opened, so go on.
  }
  return handle;
}

/** Like `openPrivate`, for streams and synchronous writers. @returns a file descriptor */
export function openPrivateSync(path: string, flags: string | number): number {
  const file = openSync(path, flags, PRIVATE_FILE);
  try {
    if ((fstatSync(file).mode & OTHERS) !== 0) fchmodSync(file, PRIVATE_FILE);
  } catch {
    // As above.
  }
  return file;
}

/** A whole file under its name or nothing: written next to it, then renamed. For what need not survive a power cut. */
export function writePrivateSync(path: string, text: string): void {
  const draft = `${path}.part`;
  rmSync(draft, { force: true });
  const file = openPrivateSync(draft, 'wx');
  try {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}

/** Replaces a file as a whole and forces it to disk: a crash or a power cut leaves the old one or the new one. */
export async function replacePrivate(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  const file = await openPrivate(draft, 'w');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  await syncFolder(dirname(path));
}

/** A new name in a folder is durable only when the folder is. */
export async function syncFolder(folder: string): Promise<void> {
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

// ---- one process per folder ----
// A lock left by a process that has ended is taken over.

/**
 * Takes the folder (created when missing) and returns the function that gives it back.
 * @param setting the key or option that names the folder
 * @throws LogpipeError LOGPIPE_SOURCE_FAILED while another living process has it, LOGPIPE_FOLDER_UNUSABLE
 */
export function lockFolder(folder: string, setting: string): () => void {
  return usable(setting, folder, () => lock(folder, setting));
}

function lock(folder: string, setting: string): () => void {
  makePrivateFolder(folder, { own: true });
  const file = join(folder, 'lock');
  const mine = join(folder, `lock.${process.pid}.${process.hrtime.bigint()}`);
  const me = fingerprint(process.pid) ?? String(process.pid);
  writeFileSync(mine, me, { mode: PRIVATE_FILE });
  try {
    for (;;) {
      try {
        linkSync(mine, file);
        return () => {
          if (read(file) === me) rmSync(file, { force: true });
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      takeOverOrThrow(folder, file, setting);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

function takeOverOrThrow(folder: string, lock: string, setting: string): void {
  const holder = read(lock);
  if (holder === undefined) return;
  const pid = Number(holder.split(' ')[0]);
  if (isAlive(pid, holder)) throw taken(setting, folder, pid, lock);
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

function taken(setting: string, folder: string, pid: number, lock: string): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `${setting}: ${folder} is in use by process ${pid}; end that process, choose another folder, or remove ${lock}`,
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
  const start = processStart(pid);
  const boot = bootId();
  return start === undefined || start.hasEnded || boot === undefined ? undefined : `${pid} ${start.ticks} ${boot}`;
}

/**
 * When a process started, in clock ticks since the boot, and whether only its exit status is left of it. Undefined when the system
 * does not show it. Linux only.
 */
export function processStart(pid: number): { readonly ticks: string; readonly hasEnded: boolean } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything: fields count from its end, and the start time is the 22nd in all.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, ticks] = [fields[0], fields[19]];
    return ticks === undefined ? undefined : { ticks, hasEnded: state === 'Z' || state === 'X' };
  } catch {
    return undefined;
  }
}

/** Another one after every boot. Linux only. */
export function bootId(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return undefined;
  }
}
