// What a named replay remembers. In: its request at the first start, then positions. Out: one JSON file, replaced as a
// whole and forced to disk. Guarantee: after SIGKILL or a power cut the file is the last one saved; one process at a time
// works under a name; a name cannot be used for another request; the file is for this user alone.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, LogpipeError } from '../core/errors.ts';
import { makePrivateFolder, replacePrivate } from '../core/private-files.ts';
import { lockFolder } from '../source/folder-lock.ts';
import type { Tally } from './progress.ts';
import type { Position } from './sources.ts';
import type { TimeRange } from './time-range.ts';

export const STATE_FOLDER = '.logpipe/replay';

/** What a first start decides and a later one has to ask for again. */
export type ReplayRequest = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface ReplayState {
  readonly version: 1;
  readonly name: string;
  readonly request: ReplayRequest;
  /** Fixed at the first start: `-2h` means the same after a break. */
  readonly range: TimeRange | undefined;
  positions: Record<string, Position>;
  tally: Tally;
  /** New, already there, refused; as far as they had been told when the file was written. */
  written: Record<string, number>;
  /** What the target needs to take up its work: lengths of files, ends of partitions. */
  target: Record<string, number>;
  complete: boolean;
}

export interface StateFile {
  readonly path: string;
  /** Undefined at the first start. */
  readonly found: ReplayState | undefined;
  save(state: ReplayState): Promise<void>;
  close(): void;
}

/** @throws LogpipeError LOGPIPE_USAGE (bad name, another request), LOGPIPE_SOURCE_FAILED (in use, unreadable) */
export function openState(options: { name: string; folder?: string; request: ReplayRequest }): StateFile {
  const { name, request } = options;
  if (!/^[a-z0-9][a-z0-9._-]{0,99}$/.test(name)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--name: found ${JSON.stringify(name)}; permitted: lower-case letters, digits, dots, hyphens and underscores`,
    );
  }
  const folder = options.folder ?? STATE_FOLDER;
  const path = join(folder, `${name}.json`);
  makePrivateFolder(folder, { own: true });
  const unlock = lockFolder(join(folder, `${name}.lock`));
  try {
    const found = load(path);
    if (found !== undefined) checkSame(found, request, path);
    let saving: Promise<unknown> = Promise.resolve();
    return {
      path,
      found,
      save(state) {
        const text = `${JSON.stringify(state)}\n`;
        const mine = saving.then(() => replacePrivate(path, text));
        saving = mine.catch(() => {});
        return mine;
      },
      close: unlock,
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

function checkSame(found: ReplayState, request: ReplayRequest, path: string): void {
  const names = [...new Set([...Object.keys(found.request), ...Object.keys(request)])];
  const different = names.filter((name) => JSON.stringify(found.request[name]) !== JSON.stringify(request[name]));
  if (different.length === 0) return;
  const [first] = different;
  const text = (value: unknown) => JSON.stringify(value) ?? 'nothing';
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--name ${found.name}: began with another ${first} (${text(found.request[first!])}, now ${text(request[first!])}); ` +
      `repeat the first command line, choose another name, or remove ${path} to begin anew`,
  );
}

function load(path: string): ReplayState | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(path, error);
  }
  try {
    const state = JSON.parse(text) as ReplayState;
    if (state.version !== 1) throw new Error(`version ${state.version} is not known`);
    return state;
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `${path}: the state of the replay cannot be used (${errorText(error)}); repair it, or remove it to begin anew`,
    error,
  );
}
