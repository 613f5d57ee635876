// How far each file was read, on disk. In: positions up to which every record is accounted for. Out: `positions.json`,
// replaced as a whole and forced to disk, so that a crash leaves the old or the new one.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, LogpipeError } from '../core/errors.ts';
import { replacePrivate } from '../core/private-files.ts';

export interface JournalEntry {
  /** The path it is read under; a rotated file keeps the path it had. */
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
  /** Part of the document ids: never changes once lines were delivered under it. */
  readonly identity: string;
  /** Counts truncations. */
  readonly generation: number;
  /** Bytes accounted for. */
  position: number;
  /** SHA-256 of the file's first `headBytes`, to tell the same file from another one with its inode. */
  headBytes: number;
  headHash: string;
}

export interface FileJournal {
  /** Oldest first. */
  readonly entries: JournalEntry[];
  /** Writes all entries when something has changed since the last time. One call at a time. */
  save(): Promise<void>;
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED when positions.json exists and cannot be understood */
export function openJournal(folder: string): FileJournal {
  const file = join(folder, 'positions.json');
  const entries = load(file);
  let saved = JSON.stringify(entries);
  let saving: Promise<void> = Promise.resolve();

  const write = async () => {
    const text = JSON.stringify(entries);
    if (text === saved) return;
    await replacePrivate(file, `{"version":1,"files":${text}}\n`);
    saved = text;
  };

  return {
    entries,
    save() {
      const mine = saving.then(write);
      saving = mine.catch(() => {});
      return mine;
    },
  };
}

function load(file: string): JournalEntry[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unreadable(file, error);
  }
  try {
    const { version, files } = JSON.parse(text) as { version: number; files: JournalEntry[] };
    if (version !== 1 || !Array.isArray(files)) throw new Error(`version ${version} is not known`);
    return files;
  } catch (error) {
    throw unreadable(file, error);
  }
}

function unreadable(file: string, error: unknown): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `files.dataDir: ${file} cannot be used (${errorText(error)}); repair it, or remove it to read every file again`,
    error,
  );
}
