// The spool: records on disk while Kafka is away. In: records, and what becomes of them. Out: the same records, in order, as often as
// it takes. Guarantee: a record that was taken is handed out until it is done; only the cap, a removed folder and a damaged file take
// records, and each of these is counted. Nothing throws, and nothing here makes the caller wait.
//
// A folder holds segments, oldest first: a log, which only grows, and notes about its records (spool-segment.ts). Both are written by
// position, so that bytes of which it is not known whether they are in the file can be written once more, by saveSync too. What could
// not be written stays in memory, at most MAX_UNWRITTEN_BYTES, and is handed out from there.
import * as nodeFs from 'node:fs';
import { readdir, readFile, rmdir, unlink as unlinkNow } from 'node:fs/promises';
import { join } from 'node:path';
import { refuseNewer } from '../core/errors.ts';
import { makePrivateFolder } from '../core/private-files.ts';
import type { ShipRecord } from './log-record.ts';
import {
  attemptingNote,
  doneNote,
  FORMAT,
  frameBytes,
  frameOf,
  header,
  MAX_FRAME_BYTES,
  MIN_FRAME_BYTES,
  readFrame,
  readHeader,
  readNotes,
  readPlace,
  writeFrame,
} from './spool-segment.ts';

/** Where a record stands in its spool. */
export interface SpoolPlace {
  readonly segment: number;
  readonly ordinal: number;
}

export interface SpooledRecord extends ShipRecord {
  readonly place: SpoolPlace;
  /** Attempted there before, with an unknown outcome: it has to go there again. */
  readonly partition: number | undefined;
}

/** What can be read from a spool, and told to it. Places of records that it no longer has are ignored. */
export interface SpoolReading {
  /**
   * The next records in order, oldest first, without those that are done, held, parked or handed out already. At least one, however
   * large, when there is one; empty when there is nothing at present. Never rejects.
   */
  next(maxRecords: number, maxBytes: number): Promise<SpooledRecord[]>;
  /** To be awaited before the request goes: resolves when it is noted, or cannot be. Never rejects. */
  attempting(partition: number, places: readonly SpoolPlace[]): Promise<void>;
  /** Delivered, or refused for good. */
  done(places: readonly SpoolPlace[]): void;
  /** Not now: they stay in the spool, and are handed out again after `rewind`. Also for records that were held. */
  park(places: readonly SpoolPlace[]): void;
  /** What is parked can be handed out again, in its old order. */
  rewind(): void;
  /** Kept and not done, whoever has them. */
  readonly records: number;
  /** On disk, and on their way there. */
  readonly bytes: number;
  /** Of `records`, those that `next` could hand out. */
  readonly available: number;
  /**
   * Closes, after writing what is to be written. Removes the folder when nothing is left in it.
   * @returns how many records are left in the files
   */
  close(): Promise<number>;
}

export interface Spool extends SpoolReading {
  /**
   * Takes a record; writing it begins within this turn of the event loop, or as soon as the write before it has ended.
   * `partition`: it was attempted there, with an unknown outcome. `hold`: the caller keeps it, and says `done` or `park`.
   * @returns undefined when it cannot be taken (trouble with the disk, more unwritten than there may be, larger than the cap): the
   *   caller keeps it in memory
   */
  append(record: ShipRecord, options?: { partition?: number; hold?: boolean }): SpoolPlace | undefined;
  /** Resolves when everything taken so far is in the file, or cannot be written at present. */
  written(): Promise<void>;
  /**
   * For the end of the process: writes what is not in the file yet, and these records. Never throws.
   * @returns how many records are in the file now and not done
   */
  saveSync(records: readonly { record: ShipRecord; partition?: number }[]): number;
}

/** The spool of a process that has ended. */
export interface LeftSpool extends SpoolReading {
  /** Records that could not be read. A line that was being written when the process ended is not one of them. */
  readonly damaged: number;
}

export interface SpoolOptions {
  /** Its own folder, made when the first record is written. A function is called then, and again when the folder has gone. */
  readonly folder: string | (() => string);
  /** All files together. */
  readonly maxBytes: number;
  /** A file is closed, and another one begun, at this size. */
  readonly segmentBytes: number;
}

/** Why records of a spool are lost: the cap took them, somebody removed the folder, or what was written cannot be read. */
export type SpoolLoss = 'cap' | 'removed' | 'damaged';

export interface SpoolDeps {
  /** Records that nobody has any more; those held or handed out are counted when they are parked. */
  onDropped(records: number, why: SpoolLoss): void;
  /** Reading or writing failed: once per episode. It is tried again by itself. */
  onTrouble(error: unknown): void;
  onRecovered(): void;
  /** Monotonic clock in ms. */
  readonly now?: (() => number) | undefined;
  /** How long after a failure it is tried again. Default 2,000. */
  readonly retryMs?: number | undefined;
  /** The file system, for tests. */
  readonly fs?: SpoolFiles | undefined;
}

export type SpoolFiles = Pick<
  typeof nodeFs,
  | 'open'
  | 'write'
  | 'read'
  | 'close'
  | 'stat'
  | 'fstat'
  | 'unlink'
  | 'openSync'
  | 'writeSync'
  | 'closeSync'
  | 'unlinkSync'
>;

const RETRY_MS = 2_000;
const CHUNK_BYTES = 64 * 1024;
/** A disk that hangs must not make memory grow. */
const MAX_UNWRITTEN_BYTES = 4 * 1024 * 1024;
const READ_BYTES = 256 * 1024;
/** How many segments a full spool has at least: the cap takes one at a time. */
const MIN_SEGMENTS = 4;
/** How often at most it is looked whether the folder is still there. */
const CHECK_FOLDER_MS = 1_000;
const NUMBER_DIGITS = 8;
const HEADER_BYTES = header(0).length;
const PRIVATE_FILE = 0o600;
const WRITE = nodeFs.constants.O_RDWR | nodeFs.constants.O_CREAT;
const READ = nodeFs.constants.O_RDONLY;
const NEWLINE = 0x0a;
/** A file of the folder that is not the spool's, and goes with it. */
const OWNER_FILE = 'owner.json';
const NOWHERE = -1;

/** Of each record. */
const AVAILABLE = 0;
const HELD = 1;
const HANDED = 2;
const PARKED = 3;
const DONE = 4;
const STATES = [AVAILABLE, HELD, HANDED, PARKED, DONE] as const;
type State = (typeof STATES)[number];

interface Segment {
  readonly number: number;
  firstOrdinal: number;
  /** By ordinal from `firstOrdinal`. */
  states: Uint8Array;
  /** The partition each was attempted in, or -1. */
  attempted: Int32Array | undefined;
  count: number;
  /** Number of records in each state. */
  readonly inState: [number, number, number, number, number];
  /** Bytes of the log, on disk and on their way there. */
  size: number;
  /** Bytes of the log that are on disk. */
  written: number;
  /** Bytes of the notes that are on disk. */
  notesWritten: number;
  /** Notes on their way to the disk, from there on. */
  notesUnwritten: Buffer | undefined;
  /** Notes that are to be written then. */
  notesNext: string;
  doneNext: number[];
  noteWaiters: (() => void)[];
  /** Operations under way on its files, which are not removed before. */
  users: number;
  /** No longer part of the spool. */
  removed: boolean;
  /** Why, for records that somebody still has in hand. */
  lostBy: SpoolLoss;
  /** Its files are not in the folder any more. */
  filesGone: boolean;
  /** Reading it failed: not tried again before this. */
  readAgainMs: number;
}

/** A piece of a log that is not wholly on disk. Frames do not reach across two. */
interface Chunk {
  readonly segment: Segment;
  readonly buffer: Buffer;
  /** Where it stands in the log. */
  position: number;
  filled: number;
  written: number;
}

/** @throws nothing; a folder that cannot be used is told by `onTrouble` */
export function createSpool(options: SpoolOptions, deps: SpoolDeps): Spool {
  const { folder, maxBytes } = options;
  const segmentBytes = Math.min(options.segmentBytes, Math.max(1, Math.floor(maxBytes / MIN_SEGMENTS)));
  const pathOf = typeof folder === 'string' ? () => folder : folder;
  return createStore({ pathOf, maxBytes, segmentBytes }, deps);
}

/**
 * Opens the folder of a process that has ended. Records are only read; notes are added.
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER, and the system's error when the folder cannot be read
 */
export async function openLeftSpool(folder: string, deps: SpoolDeps): Promise<LeftSpool> {
  const store = createStore({ pathOf: () => folder, maxBytes: 0, segmentBytes: 0 }, deps);
  try {
    await store.load(folder);
  } catch (error) {
    await store.close();
    throw error;
  }
  return store;
}

interface Store extends Spool, LeftSpool {
  load(folder: string): Promise<void>;
}

function createStore(
  settings: { readonly pathOf: () => string; readonly maxBytes: number; readonly segmentBytes: number },
  deps: SpoolDeps,
): Store {
  const { now = () => performance.now(), retryMs = RETRY_MS, fs = nodeFs } = deps;
  const files = promised(fs);
  /** Oldest first. */
  const segments: Segment[] = [];
  /** Those of `segments`, and removed ones of which somebody has records in hand. */
  const byNumber = new Map<number, Segment>();
  const inState = [0, 0, 0, 0, 0];
  let folder: string | undefined;
  let isLeft = false;
  let isClosed = false;
  let nextNumber = 1;
  let bytes = 0;

  // ---- segments and the states of their records ----

  function addSegment(number: number): Segment {
    const segment: Segment = {
      number,
      firstOrdinal: 0,
      states: new Uint8Array(64),
      attempted: undefined,
      count: 0,
      inState: [0, 0, 0, 0, 0],
      size: 0,
      written: 0,
      notesWritten: 0,
      notesUnwritten: undefined,
      notesNext: '',
      doneNext: [],
      noteWaiters: [],
      users: 0,
      removed: false,
      lostBy: 'removed',
      filesGone: false,
      readAgainMs: 0,
    };
    nextNumber = number + 1;
    segments.push(segment);
    byNumber.set(number, segment);
    return segment;
  }

  function addRecord(segment: Segment, partition: number | undefined, state: State): number {
    const index = segment.count++;
    if (index === segment.states.length) {
      const states = new Uint8Array(index * 2);
      states.set(segment.states);
      segment.states = states;
    }
    segment.states[index] = state;
    segment.inState[state]!++;
    inState[state]!++;
    if (partition !== undefined) setAttempted(segment, index, partition);
    return index;
  }

  function setAttempted(segment: Segment, index: number, partition: number): void {
    const { attempted, states } = segment;
    if (attempted === undefined || attempted.length < states.length) {
      segment.attempted = new Int32Array(states.length).fill(NOWHERE);
      if (attempted !== undefined) segment.attempted.set(attempted);
    }
    segment.attempted![index] = partition;
  }

  function attemptedIn(segment: Segment, index: number): number | undefined {
    const partition = segment.attempted?.[index] ?? NOWHERE;
    return partition === NOWHERE ? undefined : partition;
  }

  function setState(segment: Segment, index: number, state: State): void {
    const before = segment.states[index] as State;
    segment.states[index] = state;
    segment.inState[before]!--;
    segment.inState[state]!++;
    if (segment.removed) return;
    inState[before]!--;
    inState[state]!++;
  }

  function setAll(segment: Segment, before: State, state: State, end = segment.count): number {
    let changed = 0;
    for (let i = segment.states.indexOf(before); i !== -1 && i < end; i = segment.states.indexOf(before, i + 1)) {
      setState(segment, i, state);
      changed++;
    }
    return changed;
  }

  /** The records of these places that are not done, by segment. */
  function* groups(places: readonly SpoolPlace[]): Generator<[Segment, number[]]> {
    const found = new Map<Segment, number[]>();
    for (const { segment: number, ordinal } of places) {
      const segment = byNumber.get(number);
      const index = ordinal - (segment?.firstOrdinal ?? 0);
      if (segment === undefined || !(index >= 0 && index < segment.count) || segment.states[index] === DONE) continue;
      const group = found.get(segment);
      if (group === undefined) found.set(segment, [index]);
      else group.push(index);
    }
    yield* found;
  }

  const inHand = (segment: Segment) => segment.inState[HELD] + segment.inState[HANDED];
  const kept = (segment: Segment) => inHand(segment) + segment.inState[AVAILABLE] + segment.inState[PARKED];

  /** Takes a segment out of the spool, with its files. @returns how many of its records nobody has any more */
  function remove(segment: Segment, why: SpoolLoss = 'removed'): number {
    if (segment.removed) return 0;
    forget(segment);
    segment.lostBy = why;
    const lost = setAll(segment, AVAILABLE, DONE) + setAll(segment, PARKED, DONE);
    if (inHand(segment) === 0) byNumber.delete(segment.number);
    if (segment.users === 0) unlinkFiles(segment);
    return lost;
  }

  function forget(segment: Segment): void {
    segment.removed = true;
    segments.splice(segments.indexOf(segment), 1);
    for (const state of STATES) inState[state]! -= segment.inState[state];
    bytes -= segment.size + segment.notesWritten + unwrittenNotes(segment);
    if (current === segment) current = undefined;
    if (filling?.segment === segment) filling = undefined;
    for (const chunk of unwritten) if (chunk.segment === segment) unwrittenBytes -= chunk.filled - chunk.written;
    unwritten = unwritten.filter((chunk) => chunk.segment !== segment);
    dirty.delete(segment);
    noted(segment);
  }

  /** Nothing of this segment is left to deliver. */
  function finish(segment: Segment): void {
    if (!isLeft) remove(segment);
    else {
      const mine = reading.then(() => finishLeft(segment));
      reading = mine.catch(() => {});
      background(mine);
    }
  }

  /** Keeps the files of a segment from being removed while something is done with them. */
  async function using<T>(segment: Segment, work: () => Promise<T>): Promise<T> {
    segment.users++;
    try {
      return await work();
    } finally {
      if (--segment.users === 0 && segment.removed) unlinkFiles(segment);
    }
  }

  // ---- files ----

  const logs = createSlot();
  const notes = createSlot();
  const reads = createSlot();
  /** Files that could not be removed, with their sizes. They count towards the cap. */
  const stuck = new Map<string, number>();
  let stuckBytes = 0;
  let atExit = false;
  const inBackground = new Set<Promise<unknown>>();

  function background(work: Promise<unknown>): void {
    const mine = work.catch(failed).finally(() => inBackground.delete(mine));
    inBackground.add(mine);
  }

  const pathOf = (segment: Segment, ending: 'log' | 'notes') =>
    join(folder!, `${String(segment.number).padStart(NUMBER_DIGITS, '0')}.${ending}`);

  /** One file at a time that stays open. Each is used by one operation at a time. */
  function createSlot() {
    let open: { readonly segment: Segment; readonly file: number } | undefined;
    let isStale = false;
    const close = () => {
      if (open !== undefined) fs.close(open.file, () => {});
      open = undefined;
      isStale = false;
    };
    const has = (segment: Segment) => open?.segment === segment && !isStale;
    return {
      of: (segment: Segment) => (has(segment) ? open?.file : undefined),
      async open(segment: Segment, path: string, flags: number): Promise<number> {
        if (!has(segment)) {
          const file = await files.open(path, flags, PRIVATE_FILE);
          close();
          open = { segment, file };
        }
        return open!.file;
      },
      /** The file of this name is another one by now. It may be in use: it is closed with the next one that is opened. */
      expire(): void {
        isStale = true;
      },
      close(segment?: Segment): void {
        if (segment === undefined || open?.segment === segment) close();
      },
      get file(): number | undefined {
        return open?.file;
      },
    };
  }

  /** The log first: notes without a log say nothing, a log without its notes would be sent again. */
  function unlinkFiles(segment: Segment): void {
    for (const slot of [logs, notes, reads]) slot.close(segment);
    if (folder === undefined || segment.filesGone) return;
    const paths: [string, number][] = [
      [pathOf(segment, 'log'), segment.written],
      [pathOf(segment, 'notes'), segment.notesWritten],
    ];
    if (!atExit) {
      background(unlink(paths));
      return;
    }
    for (const [path] of paths) {
      try {
        fs.unlinkSync(path);
      } catch {
        // Whoever adopts the folder sends it again.
      }
    }
  }

  async function unlink(paths: readonly (readonly [string, number])[]): Promise<void> {
    let hasFailed = false;
    for (const [path, size] of paths) {
      const error: unknown = hasFailed ? undefined : await files.unlink(path).catch((reason: unknown) => reason);
      hasFailed ||= error !== undefined && !isMissing(error);
      if (hasFailed) stuck.set(path, size);
      else stuck.delete(path);
    }
    stuckBytes = 0;
    for (const size of stuck.values()) stuckBytes += size;
    if (hasFailed) retryLater();
  }

  /** Opens a file for writing; makes the folder when it is the first one. undefined: it had gone, and another one begins. */
  async function openToWrite(segment: Segment, kind: 'log' | 'notes'): Promise<number | undefined> {
    const slot = kind === 'log' ? logs : notes;
    if (folder === undefined) makeFolder();
    try {
      return await slot.open(segment, pathOf(segment, kind), WRITE);
    } catch (error) {
      if (!isMissing(error) || isLeft || now() - anewMs < CHECK_FOLDER_MS) throw error;
      const mine = logs.file === undefined ? undefined : await files.fstat(logs.file);
      beginAnew((mine?.nlink ?? 0) > 0);
      return undefined;
    }
  }

  function makeFolder(): void {
    const path = settings.pathOf();
    makePrivateFolder(path, { own: true });
    folder = path;
  }

  // ---- trouble ----

  let isTroubled = false;
  let retryAtMs = 0;
  let retryTimer: NodeJS.Timeout | undefined;

  function failed(error: unknown): void {
    retryAtMs = now() + retryMs;
    for (const segment of dirty) noted(segment);
    settle();
    retryLater();
    if (isTroubled) return;
    isTroubled = true;
    deps.onTrouble(error);
  }

  function retryLater(): void {
    if (retryTimer !== undefined || isClosed) return;
    retryTimer = setTimeout(retry, retryMs);
    retryTimer.unref();
  }

  function retry(): void {
    retryTimer = undefined;
    void pump();
    void writeNotes();
    if (stuck.size > 0) background(unlink([...stuck]));
  }

  function worked(): void {
    if (!isTroubled || unwritten.length > 0 || dirty.size > 0) return;
    isTroubled = false;
    deps.onRecovered();
  }

  // ---- the log ----

  let current: Segment | undefined;
  /** Where the next frame goes when there is room. */
  let filling: Chunk | undefined;
  /** Oldest first. */
  let unwritten: Chunk[] = [];
  let unwrittenBytes = 0;
  let spare: Buffer | undefined;
  let pumping: Promise<void> | undefined;
  let isScheduled = false;
  const writtenWaiters: (() => void)[] = [];
  let checkedMs = Number.NEGATIVE_INFINITY;
  let anewMs = Number.NEGATIVE_INFINITY;

  function put(record: ShipRecord, partition: number | undefined, state: State): SpoolPlace | undefined {
    let frame = frameOf(current === undefined ? 0 : current.firstOrdinal + current.count, record, partition);
    let size = frameBytes(frame);
    if (HEADER_BYTES + size + stuckBytes > settings.maxBytes) return undefined;
    if (current !== undefined && current.size + size > settings.segmentBytes) current = undefined;
    while (bytes + stuckBytes + size + HEADER_BYTES > settings.maxBytes && segments.length > 0) dropOldest();
    if (current === undefined) {
      current = addSegment(nextNumber);
      const chunk = chunkWith(current, HEADER_BYTES);
      grow(chunk, chunk.filled + chunk.buffer.write(header(0), chunk.filled));
      frame = frameOf(0, record, partition);
      size = frameBytes(frame);
    }
    const chunk = chunkWith(current, size);
    grow(chunk, writeFrame(chunk.buffer, chunk.filled, frame));
    const ordinal = current.firstOrdinal + addRecord(current, partition, state);
    return { segment: current.number, ordinal };
  }

  function dropOldest(): void {
    const lost = remove(segments[0]!, 'cap');
    if (lost > 0) deps.onDropped(lost, 'cap');
  }

  function chunkWith(segment: Segment, room: number): Chunk {
    if (filling?.segment === segment && filling.filled + room <= filling.buffer.length) return filling;
    const buffer = room > CHUNK_BYTES ? Buffer.allocUnsafeSlow(room) : (spare ?? Buffer.allocUnsafeSlow(CHUNK_BYTES));
    if (buffer === spare) spare = undefined;
    filling = { segment, buffer, position: segment.size, filled: 0, written: 0 };
    return filling;
  }

  function grow(chunk: Chunk, end: number): void {
    const added = end - chunk.filled;
    if (chunk.filled === chunk.written) unwritten.push(chunk);
    chunk.filled = end;
    chunk.segment.size += added;
    unwrittenBytes += added;
    bytes += added;
  }

  /** Writes what is not written yet, oldest first, one write at a time. */
  function pump(): Promise<void> {
    pumping ??= writeLogs().finally(() => {
      pumping = undefined;
      settle();
      worked();
    });
    return pumping;
  }

  async function writeLogs(): Promise<void> {
    try {
      for (let chunk = unwritten[0]; chunk !== undefined; chunk = unwritten[0]) await writeChunk(chunk);
    } catch (error) {
      failed(error);
    }
  }

  function writeChunk(chunk: Chunk): Promise<void> {
    const { segment } = chunk;
    return using(segment, async () => {
      const file = await openToWrite(segment, 'log');
      if (file === undefined || (await hasMoved(segment, file)) || segment.removed) return;
      const { buffer, written, filled, position } = chunk;
      advance(chunk, written + (await files.write(file, buffer, written, filled - written, position + written)));
    });
  }

  /** So much of the chunk is in the file. */
  function advance(chunk: Chunk, to: number): void {
    const { segment } = chunk;
    // Removed meanwhile, or saveSync was quicker.
    if (segment.removed || to <= chunk.written) return;
    unwrittenBytes -= to - chunk.written;
    chunk.written = to;
    segment.written = chunk.position + to;
    if (to < chunk.filled) return;
    unwritten.shift();
    if (chunk !== filling && chunk.buffer.length === CHUNK_BYTES && !atExit) spare = chunk.buffer;
  }

  function settle(): void {
    for (const resolve of writtenWaiters.splice(0)) resolve();
  }

  /** Somebody may have removed the folder, or taken it over: then another one begins. Writing alone would not show it. */
  async function hasMoved(segment: Segment, file: number): Promise<boolean> {
    if (now() - checkedMs < CHECK_FOLDER_MS) return false;
    checkedMs = now();
    const mine = await files.fstat(file);
    const there = await files.stat(pathOf(segment, 'log')).catch((error: unknown) => {
      if (isMissing(error)) return undefined;
      throw error;
    });
    if (segment.removed || there?.ino === mine.ino) return false;
    beginAnew(mine.nlink > 0);
    return true;
  }

  /** The files have gone: what was only in them is nobody's any more, or another process's. */
  function beginAnew(isTakenOver: boolean): void {
    anewMs = now();
    for (const slot of [logs, notes, reads]) slot.expire();
    folder = undefined;
    cursor = undefined;
    let lost = 0;
    for (const segment of [...segments]) {
      const pieces = unwritten.filter((chunk) => chunk.segment === segment);
      if (pieces.length > 0) lost += moveToNewFile(segment, pieces);
      else {
        segment.filesGone = true;
        lost += remove(segment);
      }
    }
    if (!isTakenOver) lose(lost, 'removed');
  }

  /** What is not in the old file yet begins a new one, with the same ordinals. @returns how many of the others nobody has */
  function moveToNewFile(segment: Segment, pieces: readonly Chunk[]): number {
    if (segment.written < header(segment.firstOrdinal).length) {
      unwrittenBytes += pieces[0]!.written;
      pieces[0]!.written = 0;
      segment.written = 0;
      return 0;
    }
    let frames = 0;
    for (const piece of pieces) {
      // A frame may be half written.
      const from = piece.written === 0 ? 0 : piece.buffer.lastIndexOf(NEWLINE, piece.written - 1) + 1;
      unwrittenBytes += piece.written - from;
      piece.written = from;
      for (let at = from; at < piece.filled; at = piece.buffer.indexOf(NEWLINE, at) + 1) frames++;
    }
    const gone = segment.count - frames;
    const lost = setAll(segment, AVAILABLE, DONE, gone) + setAll(segment, PARKED, DONE, gone);
    const head = Buffer.from(header(segment.firstOrdinal + gone));
    let position = head.length;
    for (const piece of pieces) {
      piece.position = position - piece.written;
      position += piece.filled - piece.written;
    }
    unwritten.unshift({ segment, buffer: head, position: 0, filled: head.length, written: 0 });
    unwrittenBytes += head.length;
    bytes += position - segment.size - segment.notesWritten - unwrittenNotes(segment);
    const noNotes = { notesWritten: 0, notesUnwritten: undefined, notesNext: '', doneNext: [] };
    Object.assign(segment, { size: position, written: 0, ...noNotes });
    return lost;
  }

  // ---- the notes ----

  const dirty = new Set<Segment>();
  let noting: Promise<void> | undefined;
  let notesScheduled = false;

  const unwrittenNotes = (segment: Segment) => (segment.notesUnwritten?.length ?? 0) + segment.notesNext.length;

  function noteLater(segment: Segment): void {
    dirty.add(segment);
    if (notesScheduled || isTroubled) return;
    notesScheduled = true;
    setImmediate(() => {
      notesScheduled = false;
      void writeNotes();
    });
  }

  function noted(segment: Segment): void {
    for (const resolve of segment.noteWaiters.splice(0)) resolve();
  }

  function writeNotes(): Promise<void> {
    noting ??= writeAllNotes().finally(() => {
      noting = undefined;
      worked();
    });
    return noting;
  }

  async function writeAllNotes(): Promise<void> {
    try {
      for (const segment of dirty) await using(segment, () => writeNotesOf(segment));
    } catch (error) {
      failed(error);
    }
  }

  async function writeNotesOf(segment: Segment): Promise<void> {
    const file = await openToWrite(segment, 'notes');
    if (file === undefined) return;
    while (!segment.removed && takeNotes(segment) !== undefined) {
      const waiters = segment.noteWaiters.splice(0);
      try {
        const text = segment.notesUnwritten!;
        for (let at = 0; at < text.length; ) {
          at += await files.write(file, text, at, text.length - at, segment.notesWritten + at);
        }
        notesAreWritten(segment, text);
      } finally {
        for (const resolve of waiters) resolve();
      }
    }
    if (!segment.removed) dirty.delete(segment);
  }

  /** What is to be written, unchanged until it is. */
  function takeNotes(segment: Segment): Buffer | undefined {
    if (segment.notesUnwritten !== undefined) return segment.notesUnwritten;
    let text = segment.notesNext;
    if (segment.doneNext.length > 0) {
      const done = doneNote(segment.doneNext);
      bytes += segment.removed ? 0 : done.length;
      text += done;
    }
    if (text === '') return undefined;
    segment.doneNext = [];
    segment.notesNext = '';
    segment.notesUnwritten = Buffer.from(text, 'latin1');
    return segment.notesUnwritten;
  }

  function notesAreWritten(segment: Segment, text: Buffer): void {
    if (segment.notesUnwritten !== text) return;
    segment.notesWritten += text.length;
    segment.notesUnwritten = undefined;
  }

  // ---- reading ----

  let cursor: Cursor | undefined;
  let readAgainMs = Number.POSITIVE_INFINITY;
  let reading: Promise<unknown> = Promise.resolve();

  /** Where `next` goes on: the oldest segment with something to hand out. */
  function seek(): Cursor | undefined {
    const isReady = (segment: Segment) =>
      !segment.removed && segment.inState[AVAILABLE] > 0 && segment.readAgainMs <= now();
    // A segment that could not be read may be older than where this stands.
    if (now() >= readAgainMs) {
      readAgainMs = Number.POSITIVE_INFINITY;
      cursor = undefined;
    }
    if (cursor !== undefined && isReady(cursor.segment)) return cursor;
    const segment = segments.find(isReady);
    if (segment === undefined) return undefined;
    reads.close();
    const room = Math.min(READ_BYTES, segment.size);
    cursor = { segment, lines: createLines(0, room, (target, at, position) => readAt(segment, target, at, position)) };
    return cursor;
  }

  function readAt(segment: Segment, target: Buffer, at: number, position: number): Promise<number> | number {
    if (position >= segment.written) return copyUnwritten(segment, target, at, position);
    return using(segment, async () => {
      const file = await reads.open(segment, pathOf(segment, 'log'), READ);
      const most = Math.min(target.length - at, segment.written - position);
      return files.read(file, target, at, most, position);
    });
  }

  function copyUnwritten(segment: Segment, target: Buffer, at: number, position: number): number {
    for (const { segment: its, position: start, buffer, filled } of unwritten) {
      if (its === segment && position < start + filled) return buffer.copy(target, at, position - start, filled);
    }
    return 0;
  }

  async function read(maxRecords: number, maxBytes: number): Promise<SpooledRecord[]> {
    const found: SpooledRecord[] = [];
    let size = 0;
    while (found.length < maxRecords) {
      const at = seek();
      if (at === undefined) break;
      const { segment, lines } = at;
      const line = lines.peek();
      if (line === undefined) {
        await readOn(at);
        continue;
      }
      const frame = readFrame(line);
      const index = (frame?.ordinal ?? -1) - segment.firstOrdinal;
      if (frame !== undefined && segment.states[index] === AVAILABLE && index < segment.count) {
        if (found.length > 0 && size + frame.record.bytes > maxBytes) break;
        size += frame.record.bytes;
        setState(segment, index, HANDED);
        const place = { segment: segment.number, ordinal: frame.ordinal };
        found.push({ ...frame.record, place, partition: attemptedIn(segment, index) });
      }
      lines.skip();
    }
    return found;
  }

  async function readOn({ segment, lines }: Cursor): Promise<void> {
    const { written } = segment;
    try {
      if ((await lines.load()) || cursor?.lines !== lines || segment.removed) return;
      // Shorter than it was.
      if (lines.loaded < written) lines.jump(written);
      else if (lines.loaded >= segment.size) unreadable(segment);
    } catch (error) {
      if (segment.removed) return;
      segment.readAgainMs = now() + retryMs;
      readAgainMs = Math.min(readAgainMs, segment.readAgainMs);
      if (isMissing(error) && segment.size === segment.written) {
        segment.filesGone = true;
        lose(remove(segment), 'removed');
      } else failed(error);
    }
  }

  /** The whole log was read, and these records were not in it. */
  function unreadable(segment: Segment): void {
    const lost = setAll(segment, AVAILABLE, DONE);
    damaged += lost;
    lose(lost, 'damaged');
    if (kept(segment) === 0) finish(segment);
  }

  function lose(records: number, why: SpoolLoss): void {
    if (records > 0) deps.onDropped(records, why);
  }

  // ---- what was left ----

  let damaged = 0;

  async function load(path: string): Promise<void> {
    isLeft = true;
    folder = path;
    const numbers: number[] = [];
    for (const name of await readdir(path)) {
      const [, digits] = /^(\d{1,15})\.log$/.exec(name) ?? [];
      if (digits !== undefined && String(Number(digits)).padStart(NUMBER_DIGITS, '0') === digits)
        numbers.push(Number(digits));
    }
    for (const number of numbers.sort((a, b) => a - b)) {
      const segment = addSegment(number);
      await loadRecords(segment);
      await loadNotes(segment);
    }
    for (const segment of [...segments]) if (kept(segment) === 0) remove(segment);
    lose(damaged, 'damaged');
  }

  /** Goes on behind what was read of the log before. */
  async function loadRecords(segment: Segment): Promise<void> {
    const path = pathOf(segment, 'log');
    const from = segment.size;
    const { size } = await files.stat(path);
    segment.written = size;
    const lines = createLines(from, READ_BYTES, (target, at, position) => readAt(segment, target, at, position));
    const mostRecords = size / MIN_FRAME_BYTES;
    let damagedLines = 0;
    for (;;) {
      const line = lines.peek();
      if (line === undefined) {
        if (!(await lines.load())) break;
        continue;
      }
      if (lines.position === 0) {
        const head = readHeader(line);
        refuseNewer(path, head?.newer, FORMAT);
        segment.firstOrdinal = head?.firstOrdinal ?? 0;
      } else if (addLoaded(segment, line, mostRecords)) damagedLines = 0;
      else damagedLines++;
      lines.skip();
    }
    damaged += damagedLines;
    bytes += lines.position - from;
    segment.size = lines.position;
    segment.written = lines.position;
  }

  function addLoaded(segment: Segment, line: Buffer, mostRecords: number): boolean {
    const place = readPlace(line);
    const index = (place?.ordinal ?? -1) - segment.firstOrdinal;
    if (place === undefined || !Number.isInteger(index) || index < segment.count || index > mostRecords) return false;
    // Ordinals without a record were in damaged lines.
    damaged += index - segment.count;
    while (segment.count < index) addRecord(segment, undefined, DONE);
    addRecord(segment, place.partition, AVAILABLE);
    return true;
  }

  async function loadNotes(segment: Segment): Promise<void> {
    let text: Buffer;
    try {
      text = await readFile(pathOf(segment, 'notes'));
    } catch (error) {
      if (!isMissing(error)) failed(error);
      return;
    }
    for (const note of readNotes(text)) {
      for (const [first, last] of note.ranges) {
        const end = Math.min(last - segment.firstOrdinal, segment.count - 1);
        for (let index = Math.max(first - segment.firstOrdinal, 0); index <= end; index++) {
          if (note.kind === 'done') setState(segment, index, DONE);
          else setAttempted(segment, index, note.partition);
        }
      }
    }
    segment.notesWritten = text.length;
    bytes += text.length;
    // What is added must not become part of a torn line.
    if (text.length > 0 && text.at(-1) !== NEWLINE) {
      segment.notesNext = '\n';
      bytes += 1;
    }
  }

  /** Its owner may have come back and written on: what was not read must not be removed. */
  async function finishLeft(segment: Segment): Promise<void> {
    const { size } = await files.stat(pathOf(segment, 'log'));
    if (size > segment.size) await loadRecords(segment);
    if (kept(segment) === 0 && !segment.removed) remove(segment);
  }

  // ---- the end ----

  function saveLogsSync(): void {
    for (const chunk of [...unwritten]) {
      const { segment, buffer } = chunk;
      withFileSync(segment, 'log', logs.of(segment), (file) => {
        while (chunk.written < chunk.filled) {
          const { written, filled, position } = chunk;
          advance(chunk, written + fs.writeSync(file, buffer, written, filled - written, position + written));
        }
      });
    }
  }

  function saveNotesSync(): void {
    for (const segment of [...dirty]) {
      withFileSync(segment, 'notes', notes.of(segment), (file) => {
        for (let text = takeNotes(segment); text !== undefined; text = takeNotes(segment)) {
          for (let at = 0; at < text.length; ) {
            at += fs.writeSync(file, text, at, text.length - at, segment.notesWritten + at);
          }
          notesAreWritten(segment, text);
        }
      });
      dirty.delete(segment);
    }
  }

  function withFileSync(
    segment: Segment,
    kind: 'log' | 'notes',
    open: number | undefined,
    work: (file: number) => void,
  ) {
    if (open !== undefined) return work(open);
    if (folder === undefined) makeFolder();
    const file = fs.openSync(pathOf(segment, kind), WRITE, PRIVATE_FILE);
    try {
      work(file);
    } finally {
      fs.closeSync(file);
    }
  }

  /** Records that are not done and not wholly in a file. */
  function unsaved(): number {
    let records = 0;
    for (const { segment, buffer, written, filled } of unwritten) {
      let at = written === 0 ? 0 : buffer.lastIndexOf(NEWLINE, written - 1) + 1;
      for (let end = buffer.indexOf(NEWLINE, at); end !== -1 && end < filled; end = buffer.indexOf(NEWLINE, at)) {
        const index = (readPlace(buffer.subarray(at, end))?.ordinal ?? -1) - segment.firstOrdinal;
        if (index >= 0 && segment.states[index] !== DONE) records++;
        at = end + 1;
      }
    }
    return records;
  }

  const records = () => inState[AVAILABLE]! + inState[HELD]! + inState[HANDED]! + inState[PARKED]!;

  async function close(): Promise<number> {
    isClosed = true;
    clearTimeout(retryTimer);
    await reading;
    await pump();
    await writeNotes();
    while (inBackground.size > 0) await Promise.all(inBackground);
    if (stuck.size > 0) await unlink([...stuck]);
    for (const slot of [logs, notes, reads]) slot.close();
    if (segments.length === 0 && stuck.size === 0 && folder !== undefined) await removeFolder(folder);
    return records() - unsaved();
  }
  let closing: Promise<number> | undefined;

  return {
    append(record, { partition, hold = false } = {}) {
      if (isClosed) return undefined;
      // While there is trouble, one record at a time tries whether it is over.
      if (isTroubled && (unwritten.length > 0 || now() < retryAtMs)) return undefined;
      if (unwritten.length > 0 && unwrittenBytes + record.bytes > MAX_UNWRITTEN_BYTES) return undefined;
      const place = put(record, partition, hold ? HELD : AVAILABLE);
      if (place !== undefined && pumping === undefined && !isScheduled) {
        isScheduled = true;
        setImmediate(() => {
          isScheduled = false;
          void pump();
        });
      }
      return place;
    },
    async attempting(partition, places) {
      const waits: Promise<void>[] = [];
      for (const [segment, indices] of groups(places)) {
        const news = indices.filter((index) => attemptedIn(segment, index) !== partition);
        if (news.length === 0) continue;
        for (const index of news) setAttempted(segment, index, partition);
        if (segment.removed) continue;
        const note = attemptingNote(
          partition,
          news.map((index) => index + segment.firstOrdinal),
        );
        segment.notesNext += note;
        bytes += note.length;
        noteLater(segment);
        if (!isTroubled) waits.push(new Promise((resolve) => segment.noteWaiters.push(resolve)));
      }
      await Promise.all(waits);
    },
    done(places) {
      for (const [segment, indices] of groups(places)) {
        for (const index of indices) setState(segment, index, DONE);
        if (segment.removed) {
          if (inHand(segment) === 0) byNumber.delete(segment.number);
        } else if (kept(segment) === 0) finish(segment);
        else {
          for (const index of indices) segment.doneNext.push(index + segment.firstOrdinal);
          noteLater(segment);
        }
      }
    },
    park(places) {
      for (const [segment, indices] of groups(places)) {
        for (const index of indices) setState(segment, index, segment.removed ? DONE : PARKED);
        if (!segment.removed) continue;
        if (inHand(segment) === 0) byNumber.delete(segment.number);
        lose(indices.length, segment.lostBy);
      }
    },
    rewind() {
      if (inState[PARKED] === 0) return;
      for (const segment of segments) if (segment.inState[PARKED] > 0) setAll(segment, PARKED, AVAILABLE);
      cursor = undefined;
    },
    next(maxRecords, maxBytes) {
      const mine = reading.then(async () => (isClosed ? [] : read(maxRecords, maxBytes)));
      const safe = mine.catch((error: unknown) => {
        failed(error);
        return [];
      });
      reading = safe;
      return safe;
    },
    written() {
      if (unwritten.length === 0 || isTroubled) return Promise.resolve();
      return new Promise((resolve) => writtenWaiters.push(resolve));
    },
    saveSync(given) {
      atExit = true;
      for (const { record, partition } of given) put(record, partition, AVAILABLE);
      for (const save of [saveLogsSync, saveNotesSync]) {
        try {
          save();
        } catch {
          // What is not in a file is not counted.
        }
      }
      atExit = false;
      return records() - unsaved();
    },
    load,
    close() {
      closing ??= close();
      return closing;
    },
    get records() {
      return records();
    },
    get bytes() {
      return bytes + stuckBytes;
    },
    get available() {
      return inState[AVAILABLE]!;
    },
    get damaged() {
      return damaged;
    },
  };
}

interface Cursor {
  readonly segment: Segment;
  readonly lines: Lines;
}

/** The lines of a file, with at most one piece of it in memory. */
interface Lines {
  /** The next line that is in memory as a whole, without its newline; its bytes are overwritten by `load`. */
  peek(): Buffer | undefined;
  /** Goes behind it. */
  skip(): void;
  /** Reads on. False at the end. */
  load(): Promise<boolean>;
  jump(position: number): void;
  /** Where the line of `peek` begins. */
  readonly position: number;
  /** Where what is in memory ends. */
  readonly loaded: number;
}

function createLines(
  start: number,
  room: number,
  readAt: (target: Buffer, at: number, position: number) => Promise<number> | number,
): Lines {
  let buffer = Buffer.allocUnsafeSlow(room);
  /** Of the file, at the start of the buffer. */
  let base = start;
  let from = 0;
  let to = 0;
  /** Where the next newline is looked for. */
  let searched = 0;
  let end = -1;
  /** Within a line that is longer than any frame. */
  let isEndless = false;
  return {
    peek() {
      if (end === -1) {
        const found = buffer.subarray(0, to).indexOf(NEWLINE, searched);
        searched = to;
        if (found === -1) return undefined;
        end = found;
      }
      return isEndless ? buffer.subarray(0, 0) : buffer.subarray(from, end);
    },
    skip() {
      from = end + 1;
      searched = from;
      end = -1;
      isEndless = false;
    },
    async load() {
      if (to - from > MAX_FRAME_BYTES) {
        isEndless = true;
        from = to;
      }
      const rest = to - from;
      const next = rest * 2 > buffer.length ? Buffer.allocUnsafeSlow(buffer.length * 2) : buffer;
      buffer.copy(next, 0, from, to);
      buffer = next;
      base += from;
      from = 0;
      to = rest;
      searched = rest;
      const read = await readAt(buffer, to, base + to);
      to += read;
      return read > 0;
    },
    jump(position) {
      base = position;
      from = 0;
      to = 0;
      searched = 0;
      end = -1;
    },
    get position() {
      return base + from;
    },
    get loaded() {
      return base + to;
    },
  };
}

/** The functions that are needed, as promises. */
function promised(fs: SpoolFiles) {
  const call = <T>(start: (callback: (error: Error | null, result: T) => void) => void) =>
    new Promise<T>((resolve, reject) => start((error, result) => (error === null ? resolve(result) : reject(error))));
  const write = (file: number, from: Buffer, at: number, length: number, position: number) =>
    call<number>((done) => fs.write(file, from, at, length, position, done));
  return {
    open: (path: string, flags: number, mode?: number) => call<number>((done) => fs.open(path, flags, mode, done)),
    /** @throws when nothing at all was written */
    async write(file: number, from: Buffer, at: number, length: number, position: number): Promise<number> {
      if (length === 0) return 0;
      const written = await write(file, from, at, length, position);
      if (written === 0) throw new Error('the file took no bytes');
      return written;
    },
    read: (file: number, into: Buffer, at: number, length: number, position: number) =>
      call<number>((done) => fs.read(file, into, at, length, position, done)),
    stat: (path: string) => call<nodeFs.Stats>((done) => fs.stat(path, done)),
    fstat: (file: number) => call<nodeFs.Stats>((done) => fs.fstat(file, done)),
    unlink: (path: string) => call<unknown>((done) => fs.unlink(path, (error) => done(error, undefined))),
  };
}

const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** Nothing but the owner's own file may be in it. */
async function removeFolder(folder: string): Promise<void> {
  try {
    const names = await readdir(folder);
    if (names.some((name) => name !== OWNER_FILE)) return;
    for (const name of names) await unlinkNow(join(folder, name));
    await rmdir(folder);
  } catch {
    // An empty folder does no harm.
  }
}
