// The spool: records on disk while Kafka is away. In: records, and what becomes of them. Out: the same records, in order, as often as
// it takes. Guarantee: a record that was taken is handed out until it is done; only the cap, a removed folder and a damaged file take
// records, and each of these is counted. Nothing throws, and nothing here makes the caller wait.
//
// A folder holds segments, oldest first: a log, which only grows, and notes about its records (spool-segment.ts). Both are written by
// position, so that bytes of which it is not known whether they are in the file can be written once more, by saveSync too. What could
// not be written stays in memory, at most MAX_UNWRITTEN_BYTES, and is handed out from there.
import * as nodeFs from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder } from '../core/private-files.ts';
import type { ShipRecord } from './log-record.ts';
import {
  AVAILABLE,
  addRecord,
  applyNotes,
  attemptedIn,
  attemptingNote,
  type Chunk,
  createLeaving,
  createLines,
  createSlot,
  createUnwritten,
  DONE,
  type FileSize,
  frameBytes,
  frameOf,
  GONE,
  HANDED,
  HELD,
  header,
  isKept,
  isMissing,
  keptOf,
  type Lines,
  loadFrames,
  NO_BYTES,
  newSegment,
  notesAreWritten,
  PARKED,
  promised,
  quietly,
  readFrame,
  removeFolder,
  type Segment,
  type SpoolFiles,
  type SpoolLoss,
  type State,
  setAll,
  setAttempted,
  setState,
  TAKEN,
  takeFrom,
  takeNotes,
  unwrittenNotes,
  writeFrame,
} from './spool-segment.ts';

export type { SpoolFiles, SpoolLoss } from './spool-segment.ts';

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
  /**
   * To be awaited before the request goes: resolves when it is noted, or cannot be. Never rejects. Asked afterwards, `isTaken` knows
   * whether another process had the files then.
   */
  attempting(partition: number, places: readonly SpoolPlace[]): Promise<void>;
  /** Delivered, or refused for good. */
  done(places: readonly SpoolPlace[]): void;
  /** Not now: they stay in the spool, and are handed out again after `rewind`. Also for records that were held. */
  park(places: readonly SpoolPlace[]): void;
  /** What is parked can be handed out again, in its old order. */
  rewind(): void;
  /** False when it is done, or in no file of this spool any more: the cap took it, or its folder has gone. */
  has(place: SpoolPlace): boolean;
  /** In a file that another process has taken over, and sends: nobody needs it here. */
  isTaken(place: SpoolPlace): boolean;
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
   * For the end of the process: writes what is not in the file yet, and these records. Never throws. What is lost
   * meanwhile is not told by `onDropped`.
   * @returns how many records are in the file now and not done
   */
  saveSync(records: readonly { record: ShipRecord; partition?: number }[]): number;
}

/** The spool of a process that has ended. */
export interface LeftSpool extends SpoolReading {
  /** Records that could not be read. A line that was being written when the process ended is not one of them. */
  readonly damaged: number;
  /** For the end of the process: notes what became of its records. Never throws. */
  saveNotesSync(): void;
}

export interface SpoolOptions {
  /** Its own folder, made when the first record is written. A function is called then, and again when the folder has gone. */
  readonly folder: string | (() => string);
  /** All files together. */
  readonly maxBytes: number;
  /** A file is closed, and another one begun, at this size. */
  readonly segmentBytes: number;
}

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

const RETRY_MS = 2_000;
/** A disk that hangs must not make memory grow. */
const MAX_UNWRITTEN_BYTES = 4 * 1024 * 1024;
/** How many segments a full spool has at least: the cap takes one at a time. */
const MIN_SEGMENTS = 4;
/** How often at most it is looked whether the folder is still there. */
const CHECK_FOLDER_MS = 1_000;
const NUMBER_DIGITS = 8;
const HEADER_BYTES = header(0).length;
const PRIVATE_FILE = 0o600;
const WRITE = nodeFs.constants.O_RDWR | nodeFs.constants.O_CREAT;
const NOTHING = Buffer.alloc(0);
const READ = nodeFs.constants.O_RDONLY;

/** To be caught: a file that is not there is no failure. */
function ifMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}

type Cursor = { readonly segment: Segment; readonly lines: Lines };

/** @throws nothing; a folder that cannot be used is told by `onTrouble` */
export function createSpool(options: SpoolOptions, deps: SpoolDeps): Spool {
  const { folder, maxBytes } = options;
  const segmentBytes = Math.min(options.segmentBytes, Math.max(1, Math.floor(maxBytes / MIN_SEGMENTS)));
  const pathOf = typeof folder === 'string' ? () => folder : folder;
  return createStore({ pathOf, maxBytes, segmentBytes }, deps);
}

/**
 * Opens the folder of a process that has ended. Records are only read; notes are added.
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER, and the system's error when the folder, a log or its notes cannot be read
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
  /** Records of `segments` in each state. */
  const totals = [0, 0, 0, 0, 0, 0, 0];
  let folder: string | undefined;
  let isLeft = false;
  let isClosed = false;
  let nextNumber = 1;
  let bytes = 0;

  // ---- segments and the states of their records ----

  function addSegment(number: number): Segment {
    const segment = newSegment(number, totals);
    nextNumber = number + 1;
    segments.push(segment);
    byNumber.set(number, segment);
    return segment;
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

  function stateOf({ segment: number, ordinal }: SpoolPlace): number {
    const segment = byNumber.get(number);
    return segment?.states[ordinal - segment.firstOrdinal] ?? DONE;
  }

  const kept = (segment: Segment) => keptOf(segment.inState);

  /** Takes a segment out of the spool, with its files. @returns how many of its records nobody has any more */
  function remove(segment: Segment, why: SpoolLoss = 'removed', inHand: State = GONE): number {
    if (segment.removed) return 0;
    forget(segment);
    segment.lostBy = why;
    const lost = takeFrom(segment, segment.count, inHand);
    forgetNumber(segment);
    if (segment.users === 0) unlinkFiles(segment);
    return lost;
  }

  function forgetNumber(segment: Segment): void {
    if (segment.removed && segment.inState[GONE] + segment.inState[TAKEN] === 0) byNumber.delete(segment.number);
  }

  function forget(segment: Segment): void {
    segment.removed = true;
    segments.splice(segments.indexOf(segment), 1);
    bytes -= segment.size + segment.notesWritten + unwrittenNotes(segment);
    if (current === segment) current = undefined;
    unwritten.forget(segment);
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

  const logs = createSlot(fs);
  const notes = createSlot(fs);
  const reads = createSlot(fs);
  const leaving = createLeaving(fs);
  let atExit = false;
  const inBackground = new Set<Promise<unknown>>();

  function background(work: Promise<unknown>): void {
    const mine = work.catch(failed).finally(() => inBackground.delete(mine));
    inBackground.add(mine);
  }

  const pathOf = (segment: Segment, ending: 'log' | 'notes') =>
    join(folder!, `${String(segment.number).padStart(NUMBER_DIGITS, '0')}.${ending}`);

  /** The log first: notes without a log say nothing, a log without its notes would be sent again. */
  function unlinkFiles(segment: Segment): void {
    for (const slot of [logs, notes, reads]) slot.close(segment);
    if (folder === undefined || segment.filesGone) return;
    const paths: FileSize[] = [
      [pathOf(segment, 'log'), segment.written],
      [pathOf(segment, 'notes'), segment.notesWritten],
    ];
    leaving.add(paths);
    if (!atExit) background(unlink(paths));
  }

  async function unlink(paths: readonly FileSize[]): Promise<void> {
    if (!(await leaving.unlink(paths))) retryLater();
  }

  /** Opens a file for writing; makes the folder when it is the first one. undefined: it had gone, and another one begins. */
  async function openToWrite(segment: Segment, kind: 'log' | 'notes'): Promise<number | undefined> {
    const slot = kind === 'log' ? logs : notes;
    if (folder === undefined) makeFolder();
    const since = anewMs;
    try {
      const file = await slot.open(segment, pathOf(segment, kind), WRITE);
      if (since === anewMs) return file;
      slot.expire();
    } catch (error) {
      if (since === anewMs && (!isMissing(error) || now() - anewMs < CHECK_FOLDER_MS)) throw error;
      await folderHasGone(since);
    }
    return undefined;
  }

  /** @param since somebody else may have found it out since */
  async function folderHasGone(since: number): Promise<void> {
    const file = logs.file ?? notes.file ?? reads.file;
    const mine = file === undefined ? undefined : await files.fstat(file);
    if (since === anewMs) beginAnew((mine?.nlink ?? 0) > 0);
  }

  function makeFolder(): void {
    const path = settings.pathOf();
    makePrivateFolder(path, { own: true });
    folder = path;
  }

  // ---- trouble ----

  let isTroubled = false;
  /** Something was written or read since the last failure. */
  let hasWorked = false;
  let retryAtMs = 0;
  let retryTimer: NodeJS.Timeout | undefined;

  function failed(error: unknown): void {
    hasWorked = false;
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
    if (leaving.stuck().length > 0) background(unlink(leaving.stuck()));
  }

  function worked(): void {
    if (!isTroubled || unwritten.first !== undefined || dirty.size > 0) return;
    if (!hasWorked && totals[AVAILABLE]! > 0) return;
    isTroubled = false;
    deps.onRecovered();
  }

  // ---- the log ----

  let current: Segment | undefined;
  const unwritten = createUnwritten();
  let pumping: Promise<void> | undefined;
  let isScheduled = false;
  const writtenWaiters: (() => void)[] = [];
  let checkedMs = Number.NEGATIVE_INFINITY;
  let anewMs = Number.NEGATIVE_INFINITY;

  function put(record: ShipRecord, partition: number | undefined, state: State): SpoolPlace | undefined {
    let frame = frameOf(current === undefined ? 0 : current.firstOrdinal + current.count, record, partition);
    let size = frameBytes(frame);
    if (HEADER_BYTES + size + leaving.bytes > settings.maxBytes) return undefined;
    if (current !== undefined && current.size + size > settings.segmentBytes) current = undefined;
    let lost = 0;
    while (bytes + leaving.bytes + size + HEADER_BYTES > settings.maxBytes && segments.length > 0)
      lost += remove(segments[0]!, 'cap');
    if (current === undefined) {
      current = addSegment(nextNumber);
      unwritten.add(current, HEADER_BYTES, (buffer, at) => at + buffer.write(header(0), at));
      bytes += HEADER_BYTES;
      frame = frameOf(0, record, partition);
      size = frameBytes(frame);
    }
    unwritten.add(current, size, (buffer, at) => writeFrame(buffer, at, frame));
    bytes += size;
    const place = { segment: current.number, ordinal: current.firstOrdinal + addRecord(current, partition, state) };
    // Last of all: whoever hears of it may log.
    lose(lost, 'cap');
    return place;
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
      for (let chunk = unwritten.first; chunk !== undefined; chunk = unwritten.first) await writeChunk(chunk);
    } catch (error) {
      failed(error);
    }
  }

  function writeChunk(chunk: Chunk): Promise<void> {
    const { segment } = chunk;
    return using(segment, async () => {
      const file = await openToWrite(segment, 'log');
      if (file === undefined || (await hasMoved(segment, file, 'log')) || segment.removed) return;
      const { buffer, written, filled, position } = chunk;
      const taken = await files.write(file, buffer, written, filled - written, position + written);
      if (unwritten.advance(chunk, written + taken, true)) hasWorked = true;
    });
  }

  function settle(): void {
    for (const resolve of writtenWaiters.splice(0)) resolve();
  }

  /** Somebody may have removed the folder, or taken it over: then another one begins. Writing alone would not show it. */
  async function hasMoved(segment: Segment, file: number, kind: 'log' | 'notes'): Promise<boolean> {
    if (now() - checkedMs < CHECK_FOLDER_MS) return false;
    checkedMs = now();
    const there = await files.stat(pathOf(segment, kind)).catch(ifMissing);
    // Second: a file that could not be found because it was removed has no name left by now; one that was taken over still has.
    const mine = await files.fstat(file);
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
    const inHand = isTakenOver ? TAKEN : GONE;
    let lost = 0;
    for (const segment of [...segments]) {
      const before = segment.size + segment.notesWritten + unwrittenNotes(segment);
      const frames = unwritten.moveToNewFile(segment);
      if (frames === 0) {
        segment.filesGone = true;
        lost += remove(segment, 'removed', inHand);
        continue;
      }
      bytes += segment.size - before;
      Object.assign(segment, { notesWritten: 0, notesUnwritten: undefined, notesNext: '', doneNext: [] });
      lost += takeFrom(segment, segment.count - frames, inHand);
      noted(segment);
    }
    if (!isTakenOver) lose(lost, 'removed');
  }

  // ---- the notes ----

  const dirty = new Set<Segment>();
  let noting: Promise<void> | undefined;
  let notesScheduled = false;

  function noteLater(segment: Segment): void {
    dirty.add(segment);
    if (isTroubled) retryLater();
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
    for (;;) {
      const text = take(segment) ?? NOTHING;
      const waiters = segment.noteWaiters.splice(0);
      if (segment.removed || text.length + waiters.length === 0) break;
      try {
        const file = await openToWrite(segment, 'notes');
        if (file === undefined || (await hasMoved(segment, file, 'notes'))) continue;
        for (let at = 0; segment.notesUnwritten === text && at < text.length; ) {
          at += await files.write(file, text, at, text.length - at, segment.notesWritten + at);
        }
        if (notesAreWritten(segment, text)) hasWorked = true;
      } finally {
        for (const resolve of waiters) resolve();
      }
    }
    dirty.delete(segment);
  }

  function take(segment: Segment): Buffer | undefined {
    const before = unwrittenNotes(segment);
    const text = takeNotes(segment);
    if (!segment.removed) bytes += unwrittenNotes(segment) - before;
    return text;
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
    const readAt = reader(segment);
    cursor = { segment, lines: createLines(0, segment.size, readAt) };
    return cursor;
  }

  function reader(segment: Segment) {
    return (target: Buffer, at: number, position: number): Promise<number> | number => {
      if (position >= segment.written) return unwritten.copy(segment, target, at, position);
      return using(segment, async () => {
        const file = await reads.open(segment, pathOf(segment, 'log'), READ);
        const most = Math.min(target.length - at, segment.written - position);
        return files.read(file, target, at, most, position);
      });
    };
  }

  async function read(maxRecords: number, maxBytes: number): Promise<SpooledRecord[]> {
    const found: SpooledRecord[] = [];
    let size = 0;
    while (found.length < maxRecords) {
      const at = seek();
      if (at === undefined) break;
      const { segment, lines } = at;
      const text = lines.peek();
      if (text === undefined) {
        await readOn(at);
        continue;
      }
      const frame = readFrame(text);
      const index = (frame?.ordinal ?? -1) - segment.firstOrdinal;
      if (frame !== undefined && segment.states[index] === AVAILABLE && index < segment.count) {
        const { line, eventId, key, bytes, ordinal } = frame;
        if (found.length > 0 && size + bytes > maxBytes) break;
        size += bytes;
        setState(segment, index, HANDED);
        const place = { segment: segment.number, ordinal };
        found.push({ line, eventId, key, bytes, place, partition: attemptedIn(segment, index) });
      }
      lines.skip();
    }
    return found;
  }

  async function readOn({ segment, lines }: Cursor): Promise<void> {
    const { written } = segment;
    try {
      const hasRead = await lines.load();
      hasWorked = true;
      worked();
      if (hasRead || cursor?.lines !== lines || segment.removed) return;
      // Shorter than it was.
      if (lines.loaded < written) lines.jump(written);
      else if (lines.loaded >= segment.size) unreadable(segment);
    } catch (error) {
      if (cursor?.lines !== lines || segment.removed) return;
      segment.readAgainMs = now() + retryMs;
      readAgainMs = Math.min(readAgainMs, segment.readAgainMs);
      const since = anewMs;
      if (isMissing(error) && segment.size === segment.written && now() - since >= CHECK_FOLDER_MS) {
        if ((await files.stat(folder!).catch(() => undefined)) === undefined) return folderHasGone(since);
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
    if (records > 0 && !atExit) deps.onDropped(records, why);
  }

  // ---- what was left ----

  let damaged = 0;

  async function load(path: string): Promise<void> {
    isLeft = true;
    folder = path;
    const names = new Set(await readdir(path));
    const numbers: number[] = [];
    for (const name of names) {
      const [, digits = '', ending] = /^(\d{8}|[1-9]\d{8,14})\.(log|notes)$/.exec(name) ?? [];
      if (ending === 'log') numbers.push(Number(digits));
      // The log was removed, or never written.
      else if (ending === 'notes' && !names.has(`${digits}.log`)) background(unlink([[join(path, name), 0]]));
    }
    for (const number of numbers.sort((a, b) => a - b)) {
      const segment = addSegment(number);
      await loadRecords(segment);
      // Only when there are none: without its notes a record would be sent again, and they would be overwritten.
      applyNotes(segment, (await readFile(pathOf(segment, 'notes')).catch(ifMissing)) ?? NOTHING);
      bytes += segment.notesWritten + unwrittenNotes(segment);
    }
    for (const segment of [...segments]) if (kept(segment) === 0) remove(segment);
    lose(damaged, 'damaged');
  }

  async function sizeOf(path: string): Promise<number> {
    return (await files.stat(path).catch(ifMissing))?.size ?? 0;
  }

  /** Goes on behind what was read of the log before. */
  async function loadRecords(segment: Segment): Promise<void> {
    const path = pathOf(segment, 'log');
    const from = segment.size;
    const size = await sizeOf(path);
    segment.written = size;
    const lines = createLines(from, size, reader(segment));
    damaged += await loadFrames(segment, lines, path);
    bytes += lines.position - from;
    segment.size = lines.position;
    segment.written = lines.position;
  }

  /** Its owner may have come back and written on: what was not read must not be removed. */
  async function finishLeft(segment: Segment): Promise<void> {
    if (segment.removed) return;
    const size = await sizeOf(pathOf(segment, 'log'));
    if (size > segment.size) await loadRecords(segment);
    if (kept(segment) === 0 && !segment.removed) remove(segment);
  }

  // ---- the end ----

  function saveLogsSync(): void {
    for (let chunk = unwritten.first; chunk !== undefined; chunk = unwritten.first) {
      try {
        saveChunkSync(chunk);
      } catch (error) {
        if (!isMissing(error) || now() - anewMs < CHECK_FOLDER_MS) throw error;
        beginAnew(false);
      }
    }
  }

  function saveChunkSync(chunk: Chunk): void {
    const { segment, buffer } = chunk;
    withFileSync(segment, 'log', logs.of(segment), (file) => {
      while (chunk.written < chunk.filled) {
        const { written, filled, position } = chunk;
        const taken = fs.writeSync(file, buffer, written, filled - written, position + written);
        // An earlier write of the same bytes may be under way.
        unwritten.advance(chunk, written + taken, false);
        if (taken === 0) throw new Error(NO_BYTES);
      }
    });
  }

  function saveNotesSync(): void {
    for (const segment of [...dirty]) {
      withFileSync(segment, 'notes', notes.of(segment), (file) => {
        for (let text = take(segment); text !== undefined; text = take(segment)) {
          for (let at = 0; at < text.length; ) {
            const taken = fs.writeSync(file, text, at, text.length - at, segment.notesWritten + at);
            if (taken === 0) throw new Error(NO_BYTES);
            at += taken;
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

  const records = () => keptOf(totals);

  async function close(): Promise<number> {
    isClosed = true;
    clearTimeout(retryTimer);
    await reading;
    await pump();
    await writeNotes();
    while (inBackground.size > 0) await Promise.all(inBackground);
    await unlink(leaving.stuck());
    for (const slot of [logs, notes, reads]) slot.close();
    if (segments.length === 0 && leaving.stuck().length === 0 && folder !== undefined) await removeFolder(folder);
    return records() - unwritten.records();
  }
  let closing: Promise<number> | undefined;

  return {
    append(record, { partition, hold = false } = {}) {
      if (isClosed) return undefined;
      // While there is trouble, one record at a time tries whether it is over.
      if (isTroubled && (unwritten.first !== undefined || now() < retryAtMs)) return undefined;
      if (unwritten.first !== undefined && unwritten.bytes + record.bytes > MAX_UNWRITTEN_BYTES) return undefined;
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
        const isNews = (index: number) => isKept(segment.states[index]!) && attemptedIn(segment, index) !== partition;
        const news = indices.filter(isNews);
        for (const index of news) setAttempted(segment, index, partition);
        if (news.length > 0) {
          const ordinals = news.map((index) => index + segment.firstOrdinal);
          const note = attemptingNote(partition, ordinals);
          segment.notesNext += note;
          bytes += note.length;
        } else if (segment.removed || now() - checkedMs < CHECK_FOLDER_MS) continue;
        noteLater(segment);
        if (!isTroubled) waits.push(new Promise((resolve) => segment.noteWaiters.push(resolve)));
      }
      await Promise.all(waits);
    },
    done(places) {
      for (const [segment, indices] of groups(places)) {
        for (const index of indices) setState(segment, index, DONE);
        forgetNumber(segment);
        if (segment.removed) continue;
        const isFinished = kept(segment) === 0;
        if (isFinished) finish(segment);
        if (isFinished && !isLeft) continue;
        for (const index of indices) segment.doneNext.push(index + segment.firstOrdinal);
        noteLater(segment);
      }
    },
    park(places) {
      for (const [segment, indices] of groups(places)) {
        let lost = 0;
        for (const index of indices) {
          const state = segment.states[index]!;
          setState(segment, index, isKept(state) ? PARKED : DONE);
          if (state === GONE) lost++;
        }
        forgetNumber(segment);
        lose(lost, segment.lostBy);
      }
    },
    has: (place) => isKept(stateOf(place)),
    isTaken: (place) => stateOf(place) === TAKEN,
    rewind() {
      if (totals[PARKED] === 0) return;
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
      if (unwritten.first === undefined || isTroubled) return Promise.resolve();
      return new Promise((resolve) => writtenWaiters.push(resolve));
    },
    saveSync(given) {
      atExit = true;
      for (const { record, partition } of given) put(record, partition, AVAILABLE);
      quietly(saveLogsSync);
      quietly(saveNotesSync);
      leaving.unlinkSync();
      atExit = false;
      return records() - unwritten.records();
    },
    saveNotesSync() {
      quietly(saveNotesSync);
      leaving.unlinkSync();
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
      return bytes + leaving.bytes;
    },
    get available() {
      return totals[AVAILABLE]!;
    },
    get damaged() {
      return damaged;
    },
  };
}
