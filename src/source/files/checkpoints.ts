// Records on disk how far each file was read. In: positions up to which every record is accounted for. Out: `positions.ndjson`,
// with a line per change, of which the last one for a file counts; forced to disk before `save` resolves. Guarantee: a crash
// leaves at worst a torn last line, which is cut off; a full disk costs positions, never records.
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { LogpipeError, reasonInWords } from '../../core/errors.ts';
import { openPrivate, replacePrivate, syncFolder } from '../../core/private-files.ts';

const VERSION = 2;
const HEADER = `${JSON.stringify({ version: VERSION })}\n`;
const COMPACT_BYTES = 1_000_000;

/** The hash of the bytes before `offset`: 256 of them, or as many as there are. */
export type Mark = readonly [offset: number, hash: string];

/** The content of one file, whatever it is called and wherever a copy of it lies. */
export interface JournalEntry {
  /** The configured path it belongs to; a rotated file keeps it. */
  readonly path: string;
  /** Part of the document ids: never changes once lines were delivered under it. */
  readonly identity: string;
  /** The inode (`dev ino`) it was written to, and how many contents that inode held before. */
  readonly born: string;
  readonly generation: number;
  /** Where it was when last looked at. */
  name: string;
  dev: number;
  ino: number;
  /** Bytes accounted for; in a file that has been compressed since, bytes of the unpacked text. */
  position: number;
  /** What it is recognised by, in order of offset: at powers of four, and where it was read to. */
  marks: Mark[];
  /** Set when it was rotated and read to its end: its size and time of change at that moment. */
  finished?: { readonly size: number; readonly mtimeMs: number };
}

export interface FileJournal {
  /** Oldest first. */
  readonly entries: ReadonlySet<JournalEntry>;
  add(entry: JournalEntry): void;
  changed(entry: JournalEntry): void;
  remove(entry: JournalEntry): void;
  /** Whether the disk has it: only then may lines be delivered under its identity. */
  holds(entry: JournalEntry): boolean;
  /** Whether an entry has this identity. */
  knows(identity: string): boolean;
  /** Whether there is an entry that the disk does not have yet. */
  readonly wanting: boolean;
  /** Writes down what has changed. Rejects when the disk takes nothing; the next call tries all of it again. */
  save(): Promise<void>;
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED when the positions exist and cannot be understood */
export function openJournal(folder: string): FileJournal {
  const file = join(folder, 'positions.ndjson');
  const loaded = load(folder, file);
  const entries = new Set(loaded.entries);
  const identities = new Set(loaded.entries.map(({ identity }) => identity));
  /** Identities that the disk has. */
  const held = new Set(loaded.bytes === 0 ? [] : loaded.entries.map(({ identity }) => identity));
  let dirty = new Set(loaded.bytes === 0 ? loaded.entries : []);
  let gone = new Set<string>();
  /** Entries that the disk does not have. */
  const wanted = new Set<JournalEntry>(dirty);
  /** Length of the file up to its last whole line. */
  let length = loaded.bytes;
  let compactAt = Math.max(COMPACT_BYTES, 4 * length);
  let saving: Promise<void> = Promise.resolve();

  const append = async (text: string) => {
    const handle = await openPrivate(file, 'a');
    try {
      // An attempt that failed half-way has left this behind.
      if ((await handle.stat()).size > length) await handle.truncate(length);
      await handle.writeFile(text);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    if (length === 0) await syncFolder(folder);
    length += Buffer.byteLength(text);
  };

  const compact = async () => {
    const all = [...entries].filter(({ identity }) => held.has(identity));
    const text = HEADER + all.map((entry) => `${JSON.stringify(entry)}\n`).join('');
    await replacePrivate(file, text);
    length = Buffer.byteLength(text);
    compactAt = Math.max(COMPACT_BYTES, 4 * length);
  };

  const write = async () => {
    if (dirty.size === 0 && gone.size === 0) return;
    const [changes, removals] = [dirty, gone];
    dirty = new Set();
    gone = new Set();
    try {
      let text = length === 0 ? HEADER : '';
      for (const entry of changes) text += `${JSON.stringify(entry)}\n`;
      for (const identity of removals) text += `${JSON.stringify({ identity, gone: true })}\n`;
      await append(text);
    } catch (error) {
      for (const entry of changes) if (entries.has(entry)) dirty.add(entry);
      for (const identity of removals) gone.add(identity);
      throw error;
    }
    for (const entry of changes) {
      held.add(entry.identity);
      wanted.delete(entry);
    }
    for (const identity of removals) held.delete(identity);
    if (length > compactAt) await compact();
  };

  return {
    entries,
    add(entry) {
      entries.add(entry);
      identities.add(entry.identity);
      dirty.add(entry);
      wanted.add(entry);
    },
    changed: (entry) => void dirty.add(entry),
    remove(entry) {
      entries.delete(entry);
      identities.delete(entry.identity);
      dirty.delete(entry);
      wanted.delete(entry);
      gone.add(entry.identity);
    },
    holds: ({ identity }) => held.has(identity),
    knows: (identity) => identities.has(identity),
    get wanting() {
      return wanted.size > 0;
    },
    save() {
      const mine = saving.then(write);
      saving = mine.catch(() => {});
      return mine;
    },
  };
}

function load(folder: string, file: string): { entries: JournalEntry[]; bytes: number } {
  let content: Buffer;
  try {
    content = readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { entries: loadFirstVersion(folder), bytes: 0 };
    throw unreadable(file, error);
  }
  const found = new Map<string, JournalEntry>();
  let bytes = 0;
  let torn: unknown;
  let begin = 0;
  for (let end = content.indexOf(0x0a); end >= 0; end = content.indexOf(0x0a, begin)) {
    const text = content.toString('utf8', begin, end);
    begin = end + 1;
    try {
      const line = JSON.parse(text) as Partial<JournalEntry> & {
        version?: number;
        gone?: true;
      };
      if (torn !== undefined) throw unreadable(file, torn);
      if (bytes === 0 && line.version !== VERSION) throw unreadable(file, `version ${line.version} is not known`);
      if (line.gone) found.delete(line.identity!);
      else if (line.identity !== undefined) found.set(line.identity, line as JournalEntry);
      bytes = begin;
    } catch (error) {
      if (error instanceof LogpipeError) throw error;
      torn ??= error;
    }
  }
  // A crash or a full disk tore the last write. That write had not been confirmed, so nothing depends on it.
  if (bytes < content.length) truncateSync(file, bytes);
  return { entries: [...found.values()], bytes };
}

/** `positions.json` of earlier versions: the hash of a file's head becomes its first mark. */
function loadFirstVersion(folder: string): JournalEntry[] {
  const file = join(folder, 'positions.json');
  type First = Omit<JournalEntry, 'name' | 'marks' | 'born'> & { headBytes: number; headHash: string };
  try {
    const { version, files } = JSON.parse(readFileSync(file, 'utf8')) as { version: number; files: First[] };
    if (version !== 1 || !Array.isArray(files)) throw new Error(`version ${version} is not known`);
    return files.map(({ headBytes, headHash, ...entry }) => ({
      ...entry,
      name: entry.path,
      born: `${entry.dev} ${entry.ino}`,
      marks: headBytes > 0 ? [[headBytes, headHash]] : [],
    }));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unreadable(file, error);
  }
}

function unreadable(file: string, error: unknown): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `files.dataDir: ${file} cannot be used (${reasonInWords(error)}); repair it, or remove it to read every file again`,
    error,
  );
}
