// Files and folders for this user alone: what logpipe writes holds log data. In: paths. Out: files 0600, folders 0700, whatever the
// umask. Guarantee: what exists with looser modes is tightened when it is opened, or the caller is told why it is not.
import {
  chmodSync,
  closeSync,
  fchmodSync,
  fstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

export const PRIVATE_FILE = 0o600;
export const PRIVATE_FOLDER = 0o700;
/** Group and others. */
const OTHERS = 0o077;
/** Belongs to everybody on purpose, as the system's folder for temporary files. */
const STICKY = 0o1000;

/**
 * Makes the folder, and those above it that are missing. `own`: the folder is logpipe's alone, so one that exists is tightened;
 * otherwise it is left as whoever made it wanted it.
 * @returns what is to be logged once when others can still look into it
 * @throws the system's error when it cannot be made
 */
export function makePrivateFolder(folder: string, { own }: { readonly own: boolean }): string | undefined {
  const created = mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER }) !== undefined;
  // Windows has no such modes.
  if (process.platform === 'win32') return undefined;
  const { mode } = statSync(folder);
  if (created || (mode & OTHERS) === 0) return undefined;
  if (own && (mode & STICKY) === 0) {
    try {
      chmodSync(folder, PRIVATE_FOLDER);
      return undefined;
    } catch {
      // Another user's: said below.
    }
  }
  return `${folder}: other users of this machine can look into it (mode ${(mode & 0o7777).toString(8)}); chmod 700 it`;
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
    // Only its owner can; it could be opened, so there is a reason to go on.
  }
  return handle;
}

/** As `openPrivate`, for streams and synchronous writers. @returns a file descriptor */
export function openPrivateSync(path: string, flags: string | number): number {
  const file = openSync(path, flags, PRIVATE_FILE);
  try {
    if ((fstatSync(file).mode & OTHERS) !== 0) fchmodSync(file, PRIVATE_FILE);
  } catch {
    // As above.
  }
  return file;
}

/** A whole file under its name or nothing: written beside it and renamed. For what need not survive a power cut. */
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
