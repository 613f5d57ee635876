// One log file, through its rotations. In: a path. Out: chunks of its lines, oldest file first, and journal entries that
// say how far each file is accounted for. Guarantee: identities are written down before a line is delivered under them.
import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Chunk, RawRecord } from '../core/record.ts';
import type { FileJournal, JournalEntry } from './file-journal.ts';
import { createLineSplitter, type LineSplitter } from './lines.ts';
import type { OffsetTracker } from './offset-tracker.ts';

const READ_BYTES = 256 * 1024;
const HEAD_BYTES = 256;

export interface FileFollower {
  /** The next chunk; undefined when there is nothing new at the moment. Rejects when the file cannot be read. */
  next(): Promise<Chunk | undefined>;
  /** Read to the end, and not following. */
  readonly finished: boolean;
  /** Takes over what is accounted for into the journal's entries. */
  settle(): void;
  close(): Promise<void>;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly entry: JournalEntry;
  /** Its number in the tracker. */
  readonly lane: number;
  readonly splitter: LineSplitter;
  /** The next byte to read; the splitter holds those from its own position on. */
  readAt: number;
  /** Since when it has had nothing new while its path names another file. */
  quietSince: number | undefined;
}

export function createFileFollower(
  options: { path: string; follow: boolean; maxLineBytes: number; rotationGraceMs: number },
  deps: { journal: FileJournal; tracker: OffsetTracker; newLane: () => number; log: Log; clock: Clock },
): FileFollower {
  const { path, follow, maxLineBytes, rotationGraceMs } = options;
  const { journal, tracker, newLane, log, clock } = deps;
  let current: OpenFile | undefined;
  let finished = false;
  /** Files read to their end whose last records are not yet accounted for. */
  const leaving = new Map<number, { entry: JournalEntry; end: number }>();

  const splitterAt = (offset: number) =>
    createLineSplitter({
      offset,
      maxLineBytes,
      onCut: (bytes) => log.warn('a line was cut', { path, bytes, keptBytes: maxLineBytes }),
    });

  const begin = (handle: FileHandle, entry: JournalEntry): OpenFile => {
    const lane = newLane();
    tracker.start(lane, entry.position);
    log.info('reading file', { path, identity: entry.identity, from: entry.position });
    return { handle, entry, lane, splitter: splitterAt(entry.position), readAt: entry.position, quietSince: undefined };
  };

  /** The file to read next: first the rest of one that was rotated away, then the one the path names. */
  const openNext = async (): Promise<OpenFile | undefined> => {
    let lost: JournalEntry | undefined;
    for (const entry of journal.entries.filter((candidate) => candidate.path === path && !isLeaving(candidate))) {
      const found = await findFile(entry);
      if (found) return begin(found, entry);
      lost = entry;
      journal.entries.splice(journal.entries.indexOf(entry), 1);
    }
    const handle = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (lost) log.warn('a file is gone or was emptied; what had not been read of it is lost', { ...lost });
    if (!handle) return undefined;
    const entry = await newEntry(path, handle, 0);
    // Emptied, or its inode used again: the same numbers must not give the same identity.
    const again = lost?.ino === entry.ino && lost.dev === entry.dev;
    return adopt(handle, again ? await newEntry(path, handle, lost!.generation + 1) : entry);
  };

  const adopt = (handle: FileHandle, entry: JournalEntry) => {
    journal.entries.push(entry);
    return begin(handle, entry);
  };

  const isLeaving = (entry: JournalEntry) => [...leaving.values()].some((other) => other.entry === entry);

  /** The same inode, now with other content: another generation, read from its beginning. */
  const restart = async (file: OpenFile): Promise<OpenFile> => {
    log.info('file was truncated', { path, read: file.readAt });
    const entry = await newEntry(path, file.handle, file.entry.generation + 1);
    journal.entries.splice(journal.entries.indexOf(file.entry), 1);
    return adopt(file.handle, entry);
  };

  const leave = async (file: OpenFile) => {
    leaving.set(file.lane, { entry: file.entry, end: file.splitter.position });
    current = undefined;
    await file.handle.close();
  };

  const toChunk = (file: OpenFile, records: RawRecord[], from: number): Chunk | undefined => {
    const end = file.splitter.position;
    if (end === from) return undefined;
    const segment = tracker.open(file.lane, from, end - 1, records.length);
    if (records.length === 0) return undefined;
    let bytes = 0;
    for (const { value } of records) bytes += value?.length ?? 0;
    return { origin: { kind: 'file', path, identity: file.entry.identity }, records, bytes, done: segment.done };
  };

  const next = async (): Promise<Chunk | undefined> => {
    while (!finished) {
      current ??= await openNext();
      if (!current) {
        if (follow) return undefined;
        throw new LogpipeError('LOGPIPE_SOURCE_FAILED', `files.paths: ${path} does not exist; name an existing file`);
      }
      const { size } = await current.handle.stat();
      if (size < current.readAt || (size > current.readAt && !(await sameHead(current)))) {
        current = await restart(current);
        continue;
      }
      const from = current.splitter.position;
      if (size > current.readAt) {
        current.quietSince = undefined;
        const piece = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, size - current.readAt));
        const { bytesRead } = await current.handle.read(piece, 0, piece.length, current.readAt);
        if (bytesRead === 0) return undefined;
        current.readAt += bytesRead;
        await rememberHead(current);
        const chunk = toChunk(current, current.splitter.push(piece.subarray(0, bytesRead), clock.now()), from);
        if (chunk) return chunk;
        continue;
      }
      const replaced = await isReplaced(current);
      if (follow) {
        if (!replaced) return undefined;
        // The writer may go on in the renamed file until it opens the new one.
        current.quietSince ??= clock.now();
        if (clock.now() - current.quietSince < rotationGraceMs) return undefined;
      }
      const file = current;
      const chunk = toChunk(file, file.splitter.flush(clock.now()), from);
      await leave(file);
      finished = !follow && !replaced;
      if (chunk) return chunk;
    }
    return undefined;
  };

  /** The path names another file now, or this one has been deleted. */
  const isReplaced = async ({ handle, entry }: OpenFile): Promise<boolean> => {
    try {
      const { ino, dev } = await stat(path);
      return ino !== entry.ino || dev !== entry.dev;
    } catch {
      return (await handle.stat()).nlink === 0;
    }
  };

  /** False for a file that was emptied and has already grown beyond what was read. */
  const sameHead = async ({ handle, entry }: OpenFile): Promise<boolean> =>
    (await hashHead(handle, entry.headBytes)) === entry.headHash;

  const rememberHead = async ({ handle, entry, readAt }: OpenFile) => {
    if (entry.headBytes === HEAD_BYTES) return;
    const first = entry.headBytes === 0;
    entry.headBytes = Math.min(readAt, HEAD_BYTES);
    entry.headHash = await hashHead(handle, entry.headBytes);
    if (first) await journal.save();
  };

  return {
    next,
    get finished() {
      return finished;
    },
    settle() {
      if (current) current.entry.position = tracker.committable(current.lane) ?? current.entry.position;
      for (const [lane, { entry, end }] of leaving) {
        entry.position = tracker.committable(lane) ?? entry.position;
        if (entry.position < end) continue;
        leaving.delete(lane);
        // A file read once is remembered: the next run has only what is new to do. A rotated one never comes back.
        if (follow) journal.entries.splice(journal.entries.indexOf(entry), 1);
      }
    },
    async close() {
      finished = true;
      const file = current;
      current = undefined;
      await file?.handle.close();
    },
  };
}

/** The journalled file, open, wherever rotation has put it within its folder; undefined when it is not there any more. */
async function findFile(entry: JournalEntry): Promise<FileHandle | undefined> {
  const folder = dirname(entry.path);
  const names = await readdir(folder).catch(() => [] as string[]);
  for (const candidate of [entry.path, ...names.map((name) => join(folder, name))]) {
    const found = await stat(candidate).catch(() => undefined);
    if (found?.ino !== entry.ino || found.dev !== entry.dev || found.size < entry.position) continue;
    const handle = await open(candidate, 'r');
    if ((await hashHead(handle, entry.headBytes)) === entry.headHash) return handle;
    await handle.close();
    return undefined;
  }
  return undefined;
}

async function newEntry(path: string, handle: FileHandle, generation: number): Promise<JournalEntry> {
  const { dev, ino, birthtimeNs } = await handle.stat({ bigint: true });
  return {
    path,
    dev: Number(dev),
    ino: Number(ino),
    identity: createHash('sha256').update(`${dev} ${ino} ${birthtimeNs} ${generation}`).digest('hex').slice(0, 20),
    generation,
    position: 0,
    headBytes: 0,
    headHash: await hashHead(handle, 0),
  };
}

async function hashHead(handle: FileHandle, bytes: number): Promise<string> {
  const head = Buffer.alloc(bytes);
  const { bytesRead } = await handle.read(head, 0, bytes, 0);
  return createHash('sha256').update(head.subarray(0, bytesRead)).digest('hex').slice(0, 20);
}
