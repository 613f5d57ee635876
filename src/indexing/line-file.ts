// A file of whole lines. In: lines. Out: lines on disk, or with the operating system. Guarantee: what is appended after a
// failure (a full disk, a kill amid a line) never stands behind half a line; a failed append leaves nothing behind; the file
// is the user's alone (0600, in folders 0700).

import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { makePrivateFolder, openPrivate } from '../core/private-files.ts';

const NEWLINE = 10;
const LOOK_BACK = 64 * 1024;

export interface LineFile {
  /** Appends whole lines, each with its newline; one call at a time. Rejects with nothing of them left in the file. */
  append(lines: Buffer): Promise<void>;
  close(): Promise<void>;
}

/** Opened by the first `append`. `sync`: on disk when `append` resolves; otherwise with the operating system. */
export function createLineFile(path: string, options: { readonly sync: boolean }): LineFile {
  let file: FileHandle | undefined;

  async function opened(): Promise<FileHandle> {
    if (file !== undefined) return file;
    makePrivateFolder(dirname(path), { own: false });
    const fresh = await openPrivate(path, 'a+');
    try {
      await mend(fresh);
    } catch (error) {
      await fresh.close();
      throw error;
    }
    file = fresh;
    return fresh;
  }

  async function close(): Promise<void> {
    const old = file;
    file = undefined;
    await old?.close();
  }

  return {
    async append(lines) {
      const present = await opened();
      const { size } = await present.stat();
      try {
        for (let done = 0; done < lines.length; ) {
          const { bytesWritten } = await present.write(lines, done);
          done += bytesWritten;
        }
        if (options.sync) await present.datasync();
      } catch (error) {
        // Also when this fails: the next opening looks at the file's end again.
        await takeBack(present, size, lines.length).catch(() => {});
        await close().catch(() => {});
        throw error;
      }
    },
    close,
  };
}

/** Cuts what a failed append has left, unless another process has appended since. */
async function takeBack(file: FileHandle, size: number, length: number): Promise<void> {
  const now = (await file.stat()).size;
  if (now > size && now - size <= length) await file.truncate(size);
}

/** Ends a last line that lacks only its newline, and cuts half a line: whoever wrote it was never told that it is safe. */
async function mend(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  if (size === 0) return;
  const parts: Buffer[] = [];
  let start = size;
  let lineStart = 0;
  while (start > 0 && lineStart === 0) {
    const length = Math.min(LOOK_BACK, start);
    start -= length;
    const part = Buffer.alloc(length);
    await file.read(part, 0, length, start);
    const newline = part.lastIndexOf(NEWLINE);
    parts.unshift(newline === -1 ? part : part.subarray(newline + 1));
    if (newline !== -1) lineStart = start + newline + 1;
  }
  if (lineStart === size) return;
  if (isJson(Buffer.concat(parts))) await file.write('\n');
  else await file.truncate(lineStart);
}

function isJson(line: Buffer): boolean {
  try {
    JSON.parse(line.toString());
    return true;
  } catch {
    return false;
  }
}

export interface Persistence {
  /** What cannot be written, for the log: `dead letters`. */
  readonly what: string;
  readonly path: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly firstRetryMs: number;
  readonly maxRetryMs: number;
  /** Hears why writing fails, and undefined when it works again. */
  readonly onFailing: (reason: string | undefined) => void;
}

/** Tries until `attempt` succeeds. A failure is said once, and again when it is another one. @throws signal's reason */
export async function persist(attempt: () => Promise<void>, options: Persistence): Promise<void> {
  const { what, path, log, signal, onFailing } = options;
  let said: string | undefined;
  for (let retryMs = options.firstRetryMs; ; retryMs = Math.min(retryMs * 2, options.maxRetryMs)) {
    signal.throwIfAborted();
    try {
      await attempt();
      if (said === undefined) return;
      onFailing(undefined);
      log.info(`${what} are written again`, { path });
      return;
    } catch (error) {
      const reason = errorText(error);
      if (reason !== said) {
        onFailing(reason);
        log.error(`${what} cannot be written; trying until they can`, { path, error: reason });
      }
      said = reason;
      await sleep(retryMs, signal);
    }
  }
}
