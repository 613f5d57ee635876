// A segment of the spool: its two files as bytes, and what is known of its records. In: records, and what became of them. Out: lines
// of text, and back. Guarantee: a line that is torn or damaged is recognised by its checksum and costs only itself; nothing that a
// file holds makes reading it throw.
//
// `00000001.log` begins with its format and the ordinal of its first record, then one frame for each record:
//   crc32 \t logpipe-spool 1 0 \n
//   crc32 \t R \t ordinal \t event id \t partition or - \t key as JSON or - \t line \n
// crc32 is eight hexadecimal digits over everything behind the tab that follows it, without the newline. Type J instead of R: the line
// would have broken the frame, and is a JSON string. A partition: the record was attempted there before, and the outcome is unknown.
// `00000001.notes` says what became of the records of that segment since:
//   crc32 \t A \t partition \t 0,2,5-9 \n    about to be attempted in that partition
//   crc32 \t D \t 0-499 \n                   done: delivered, or refused and counted
import type * as nodeFs from 'node:fs';
import { readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { refuseNewer } from '../core/errors.ts';
import type { ShipRecord } from './log-record.ts';

/** Of the files; a newer number is refused. */
const FORMAT = 1;
const NAME = 'logpipe-spool';
const CRC_DIGITS = 8;
/** Where the checksummed part of a line begins. */
const BODY = CRC_DIGITS + 1;
/** Where the ordinal begins in it. */
const ORDINAL = 2;
/** No frame is shorter: an ordinal that the file has no room for is not believed. */
const MIN_FRAME_BYTES = 20;
/** No frame is longer: a record has at most 1,000,000 bytes, and JSON makes six of one at worst. */
export const MAX_FRAME_BYTES = 8 * 1024 * 1024;
const TAB = 0x09;
const NEWLINE = 0x0a;
const READ_BYTES = 256 * 1024;
/** In place of a partition. */
const NOWHERE = -1;
const CHUNK_BYTES = 64 * 1024;
const PRIVATE_FILE = 0o600;
/** A file of the folder that is not the spool's, and goes with it. */
const OWNER_FILE = 'owner.json';
const NONE = '-';
const UNSAFE_ID = /[\t\n"]/;

const HEX = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0')).join(''));

/** The first line of a log. */
export function header(firstOrdinal: number): string {
  return checked(`${NAME} ${FORMAT} ${firstOrdinal}`);
}

/** undefined when the line is damaged. */
function readHeader(line: Buffer): { readonly newer: number | undefined; readonly firstOrdinal: number } | undefined {
  const body = checkedBody(line);
  const [, version, first = ''] =
    body === undefined ? [] : (/^logpipe-spool (\d{1,9})(?: (\d{1,15}))?/.exec(body) ?? []);
  if (version === undefined) return undefined;
  return { newer: Number(version) > FORMAT ? Number(version) : undefined, firstOrdinal: Number(first) };
}

/** A record on its way into a file: measured, then written in place. */
export interface Frame {
  readonly head: string;
  readonly line: string;
}

export function frameOf(ordinal: number, record: ShipRecord, partition: number | undefined): Frame {
  const { line, eventId, key } = record;
  const breaks = line.includes('\n');
  const id = UNSAFE_ID.test(eventId) ? JSON.stringify(eventId) : eventId;
  const where = partition === undefined ? NONE : partition;
  const head = `${breaks ? 'J' : 'R'}\t${ordinal}\t${id}\t${where}\t${key === null ? NONE : JSON.stringify(key)}\t`;
  return { head, line: breaks ? JSON.stringify(line) : line };
}

/** Bytes that the frame takes. */
export function frameBytes({ head, line }: Frame): number {
  return BODY + Buffer.byteLength(head) + Buffer.byteLength(line) + 1;
}

/** @returns where the frame ends; the buffer must have room for it */
export function writeFrame(target: Buffer, at: number, { head, line }: Frame): number {
  const body = at + BODY;
  let end = body + target.write(head, body);
  end += target.write(line, end);
  writeHex(target, at, crc32(target.subarray(body, end)));
  target[at + CRC_DIGITS] = TAB;
  target[end] = NEWLINE;
  return end + 1;
}

function writeHex(target: Buffer, at: number, value: number): void {
  for (let i = 0; i < 4; i++) {
    const byte = (value >>> (24 - i * 8)) & 0xff;
    target[at + i * 2] = HEX[byte * 2]!;
    target[at + i * 2 + 1] = HEX[byte * 2 + 1]!;
  }
}

export interface FrameRead extends ShipRecord {
  readonly ordinal: number;
}

/** A line of a log, without its newline. undefined when it is damaged. */
export function readFrame(frame: Buffer): FrameRead | undefined {
  if (!isWhole(frame)) return undefined;
  const text = frame.toString('utf8', BODY);
  const idAt = text.indexOf('\t', ORDINAL) + 1;
  const partitionAt = text.indexOf('\t', idAt) + 1;
  const keyAt = text.indexOf('\t', partitionAt) + 1;
  const lineAt = text.indexOf('\t', keyAt) + 1;
  if (idAt === 0 || partitionAt === 0 || keyAt === 0 || lineAt === 0) return undefined;
  const ordinal = Number(text.slice(ORDINAL, idAt - 1));
  const id = text.slice(idAt, partitionAt - 1);
  const key = text.slice(keyAt, lineAt - 1);
  const rest = text.slice(lineAt);
  try {
    const isJson = text.startsWith('J');
    const line = isJson ? (JSON.parse(rest) as string) : rest;
    return {
      line,
      eventId: id.startsWith('"') ? (JSON.parse(id) as string) : id,
      key: key === NONE ? null : (JSON.parse(key) as string),
      bytes: Buffer.byteLength(line),
      ordinal,
    };
  } catch {
    return undefined;
  }
}

function partitionOf(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** The ordinal alone, for records that are only counted. undefined when the line is damaged. */
export function readPlace(
  line: Buffer,
): { readonly ordinal: number; readonly partition: number | undefined } | undefined {
  if (!isWhole(line)) return undefined;
  const ordinalAt = BODY + ORDINAL;
  const idAt = line.indexOf(TAB, ordinalAt) + 1;
  const partitionAt = line.indexOf(TAB, idAt) + 1;
  if (idAt === 0 || partitionAt === 0) return undefined;
  const ordinal = Number(line.toString('latin1', ordinalAt, idAt - 1));
  const where =
    line[partitionAt] === 0x2d ? NONE : line.toString('latin1', partitionAt, line.indexOf(TAB, partitionAt));
  return { ordinal, partition: partitionOf(where) };
}

// ---- notes ----

export type Note =
  | { readonly kind: 'attempting'; readonly partition: number; readonly ranges: readonly Range[] }
  | { readonly kind: 'done'; readonly ranges: readonly Range[] };
/** First and last ordinal. */
export type Range = readonly [number, number];

/** @param ordinals in any order */
export function attemptingNote(partition: number, ordinals: readonly number[]): string {
  return checked(`A\t${partition}\t${rangesText(ordinals)}`);
}

export function doneNote(ordinals: readonly number[]): string {
  return checked(`D\t${rangesText(ordinals)}`);
}

/** The whole notes of a file; lines that are torn or damaged are left out. */
export function readNotes(bytes: Buffer): Note[] {
  const notes: Note[] = [];
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, at);
    if (newline === -1) break;
    const fields = checkedBody(bytes.subarray(at, newline))?.split('\t');
    if (fields?.[0] === 'D') notes.push({ kind: 'done', ranges: ranges(fields[1]) });
    else if (fields?.[0] === 'A' && partitionOf(fields[1] ?? '') !== undefined)
      notes.push({ kind: 'attempting', partition: Number(fields[1]), ranges: ranges(fields[2]) });
    at = newline + 1;
  }
  return notes;
}

function rangesText(ordinals: readonly number[]): string {
  const sorted = Float64Array.from(ordinals).sort();
  let text = '';
  for (let i = 0; i < sorted.length; ) {
    const first = sorted[i]!;
    let last = first;
    for (i++; i < sorted.length && sorted[i]! <= last + 1; i++) last = sorted[i]!;
    text += `${text === '' ? '' : ','}${first === last ? first : `${first}-${last}`}`;
  }
  return text;
}

function ranges(text = ''): Range[] {
  return text.split(',').map((part) => {
    const [first, last = first] = part.split('-').map(Number) as [number, number?];
    return [first, last];
  });
}

// ---- checksums ----

function checked(body: string): string {
  return `${crc32(body).toString(16).padStart(CRC_DIGITS, '0')}\t${body}\n`;
}

function isWhole(line: Buffer): boolean {
  if (line.length <= BODY || line[CRC_DIGITS] !== TAB) return false;
  const sum = crc32(line.subarray(BODY));
  for (let i = 0; i < 4; i++) {
    const byte = (sum >>> (24 - i * 8)) & 0xff;
    if (line[i * 2] !== HEX[byte * 2] || line[i * 2 + 1] !== HEX[byte * 2 + 1]) return false;
  }
  return true;
}

function checkedBody(line: Buffer): string | undefined {
  return isWhole(line) ? line.toString('utf8', BODY) : undefined;
}

// ---- the lines of a file ----

/** The lines of a file, with at most one piece of it in memory. */
export interface Lines {
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

/** @param size of the file, at least */
export function createLines(
  start: number,
  size: number,
  readAt: (target: Buffer, at: number, position: number) => Promise<number> | number,
): Lines {
  let buffer = Buffer.allocUnsafeSlow(Math.min(size, READ_BYTES));
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

// ---- a segment in memory: what became of each of its records ----

/** Of each record. */
export const AVAILABLE = 0;
export const HELD = 1;
export const HANDED = 2;
export const PARKED = 3;
export const DONE = 4;
/** In hand, and in no file any more. */
export const GONE = 5;
/** In hand, and in a file that another process has taken over. */
export const TAKEN = 6;
const STATES = [AVAILABLE, HELD, HANDED, PARKED, DONE, GONE, TAKEN] as const;
export type State = (typeof STATES)[number];

/** Why records of a spool are lost: the cap took them, somebody removed the folder, or what was written cannot be read. */
export type SpoolLoss = 'cap' | 'removed' | 'damaged';

export interface Segment {
  readonly number: number;
  firstOrdinal: number;
  /** By ordinal from `firstOrdinal`. */
  states: Uint8Array;
  /** The partition each was attempted in, or -1. */
  attempted: Int32Array | undefined;
  count: number;
  /** Number of records in each state. */
  readonly inState: [number, number, number, number, number, number, number];
  /** The same of all segments there ever were in the spool. */
  readonly totals: number[];
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

/** @param totals of the spool, by state */
export function newSegment(number: number, totals: number[]): Segment {
  return {
    number,
    firstOrdinal: 0,
    states: new Uint8Array(64),
    attempted: undefined,
    count: 0,
    inState: [0, 0, 0, 0, 0, 0, 0],
    totals,
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
}

export function addRecord(segment: Segment, partition: number | undefined, state: State): number {
  const index = segment.count++;
  if (index === segment.states.length) {
    const states = new Uint8Array(index * 2);
    states.set(segment.states);
    segment.states = states;
  }
  segment.states[index] = state;
  segment.inState[state]!++;
  segment.totals[state]!++;
  if (partition !== undefined) setAttempted(segment, index, partition);
  return index;
}

export function setAttempted(segment: Segment, index: number, partition: number): void {
  const { attempted, states } = segment;
  if (attempted === undefined || attempted.length < states.length) {
    segment.attempted = new Int32Array(states.length).fill(NOWHERE);
    if (attempted !== undefined) segment.attempted.set(attempted);
  }
  segment.attempted![index] = partition;
}

export function attemptedIn(segment: Segment, index: number): number | undefined {
  const partition = segment.attempted?.[index] ?? NOWHERE;
  return partition === NOWHERE ? undefined : partition;
}

export function setState(segment: Segment, index: number, state: State): void {
  const before = segment.states[index] as State;
  segment.states[index] = state;
  segment.inState[before]!--;
  segment.inState[state]!++;
  segment.totals[before]!--;
  segment.totals[state]!++;
}

export function setAll(segment: Segment, before: State, state: State, end = segment.count): number {
  let changed = 0;
  for (let i = segment.states.indexOf(before); i !== -1 && i < end; i = segment.states.indexOf(before, i + 1)) {
    setState(segment, i, state);
    changed++;
  }
  return changed;
}

/** Of counts by state: not done, and in a file or on the way there. */
export function keptOf(counts: readonly number[]): number {
  return counts[AVAILABLE]! + counts[HELD]! + counts[HANDED]! + counts[PARKED]!;
}

export const isKept = (state: number) => state < DONE;

/**
 * The records before `end` are in no file of the spool any more.
 * @param inHand what becomes of those that somebody has
 * @returns how many nobody has
 */
export function takeFrom(segment: Segment, end: number, inHand: State): number {
  setAll(segment, HELD, inHand, end);
  setAll(segment, HANDED, inHand, end);
  return setAll(segment, AVAILABLE, DONE, end) + setAll(segment, PARKED, DONE, end);
}

/**
 * Adds the records of a log, or of the lines that were added to it.
 * @returns how many of them are damaged
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER, and what reading throws
 */
export async function loadFrames(segment: Segment, lines: Lines, path: string): Promise<number> {
  const mostRecords = segment.written / MIN_FRAME_BYTES;
  let damaged = 0;
  let damagedLines = 0;
  for (;;) {
    const line = lines.peek();
    if (line === undefined) {
      if (!(await lines.load())) return damaged + damagedLines;
      continue;
    }
    if (lines.position === 0) {
      const head = readHeader(line);
      refuseNewer(path, head?.newer, FORMAT);
      segment.firstOrdinal = head?.firstOrdinal ?? 0;
    } else {
      const missing = addLoaded(segment, line, mostRecords);
      damaged += missing ?? 0;
      // Damaged lines before a whole one are counted by its ordinal.
      damagedLines = missing === undefined ? damagedLines + 1 : 0;
    }
    lines.skip();
  }
}

/**
 * A line that is read from what a process left.
 * @param mostRecords that the file has room for
 * @returns how many records before it were damaged; undefined when it is damaged itself
 */
function addLoaded(segment: Segment, line: Buffer, mostRecords: number): number | undefined {
  const place = readPlace(line);
  const index = (place?.ordinal ?? -1) - segment.firstOrdinal;
  if (place === undefined || !Number.isInteger(index) || index < segment.count || index > mostRecords) return undefined;
  const missing = index - segment.count;
  while (segment.count < index) addRecord(segment, undefined, DONE);
  addRecord(segment, place.partition, AVAILABLE);
  return missing;
}

/** What the notes of the file say of the records. */
export function applyNotes(segment: Segment, text: Buffer): void {
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
  // What is added must not become part of a torn line.
  if (text.length > 0 && text.at(-1) !== NEWLINE) segment.notesNext = '\n';
}

/** Bytes of notes that are still in memory. */
export function unwrittenNotes(segment: Segment): number {
  return (segment.notesUnwritten?.length ?? 0) + segment.notesNext.length;
}

/** The notes to be written at `notesWritten`: the same until they are. */
export function takeNotes(segment: Segment): Buffer | undefined {
  if (segment.notesUnwritten !== undefined) return segment.notesUnwritten;
  const text = segment.notesNext + (segment.doneNext.length > 0 ? doneNote(segment.doneNext) : '');
  if (text === '') return undefined;
  segment.doneNext = [];
  segment.notesNext = '';
  segment.notesUnwritten = Buffer.from(text, 'latin1');
  return segment.notesUnwritten;
}

/** False when somebody else was quicker. */
export function notesAreWritten(segment: Segment, text: Buffer): boolean {
  if (segment.notesUnwritten !== text) return false;
  segment.notesWritten += text.length;
  segment.notesUnwritten = undefined;
  return true;
}

// ---- what is not in a file yet ----

/** A piece of a log that is not wholly on disk. Frames do not reach across two. */
export interface Chunk {
  readonly segment: Segment;
  readonly buffer: Buffer;
  /** Where it stands in the log. */
  position: number;
  filled: number;
  written: number;
}

/** The ends of the logs, in memory until they are on disk. Whoever writes takes `first` again and again. */
export function createUnwritten() {
  /** Oldest first. */
  let chunks: Chunk[] = [];
  /** Where the next frame goes when there is room. */
  let filling: Chunk | undefined;
  let spare: Buffer | undefined;
  let bytes = 0;

  function chunkWith(segment: Segment, room: number): Chunk {
    if (filling?.segment === segment && filling.filled + room <= filling.buffer.length) return filling;
    const buffer = room > CHUNK_BYTES ? Buffer.allocUnsafeSlow(room) : (spare ?? Buffer.allocUnsafeSlow(CHUNK_BYTES));
    if (buffer === spare) spare = undefined;
    filling = { segment, buffer, position: segment.size, filled: 0, written: 0 };
    return filling;
  }

  /** The chunks of a segment as new ones: a write that is still under way to its old file knows the old ones. */
  function renewed(segment: Segment): Chunk[] {
    const pieces: Chunk[] = [];
    chunks = chunks.map((chunk) => {
      if (chunk.segment !== segment) return chunk;
      const piece = { ...chunk };
      if (filling === chunk) filling = piece;
      pieces.push(piece);
      return piece;
    });
    return pieces;
  }

  return {
    /** @param write returns where what it wrote ends */
    add(segment: Segment, size: number, write: (buffer: Buffer, at: number) => number): void {
      const chunk = chunkWith(segment, size);
      const end = write(chunk.buffer, chunk.filled);
      if (chunk.filled === chunk.written) chunks.push(chunk);
      segment.size += end - chunk.filled;
      bytes += end - chunk.filled;
      chunk.filled = end;
    },
    /**
     * So much of the chunk is in the file. False when that is nothing new, or another file by now.
     * @param isFree nobody reads its buffer any more
     */
    advance(chunk: Chunk, to: number, isFree: boolean): boolean {
      const { segment, buffer } = chunk;
      const at = chunks.indexOf(chunk);
      // Removed or moved meanwhile, or somebody else was quicker.
      if (at === -1 || to <= chunk.written) return false;
      bytes -= to - chunk.written;
      chunk.written = to;
      segment.written = chunk.position + to;
      if (to < chunk.filled) return true;
      chunks.splice(at, 1);
      if (isFree && chunk !== filling && buffer.length === CHUNK_BYTES) spare = buffer;
      return true;
    },
    /** @returns how many bytes were copied */
    copy(segment: Segment, target: Buffer, at: number, position: number): number {
      for (const { segment: its, position: start, buffer, filled } of chunks) {
        if (its === segment && position < start + filled) return buffer.copy(target, at, position - start, filled);
      }
      return 0;
    },
    forget(segment: Segment): void {
      for (const chunk of chunks) if (chunk.segment === segment) bytes -= chunk.filled - chunk.written;
      chunks = chunks.filter((chunk) => chunk.segment !== segment);
      if (filling?.segment === segment) filling = undefined;
    },
    /**
     * The old file has gone: what is not wholly in it begins a new one, with the same ordinals.
     * @returns the number of frames in the new one; 0 when there is none
     */
    moveToNewFile(segment: Segment): number {
      const pieces = renewed(segment);
      const [first] = pieces;
      if (first === undefined) return 0;
      if (segment.written < header(segment.firstOrdinal).length) {
        bytes += first.written;
        first.written = 0;
        segment.written = 0;
        return segment.count;
      }
      let frames = 0;
      for (const piece of pieces) {
        const from = wholeBytes(piece);
        bytes += piece.written - from;
        piece.written = from;
        for (let at = from; at < piece.filled; at = piece.buffer.indexOf(NEWLINE, at) + 1) frames++;
      }
      const head = Buffer.from(header(segment.firstOrdinal + segment.count - frames));
      let position = head.length;
      for (const piece of pieces) {
        piece.position = position - piece.written;
        position += piece.filled - piece.written;
      }
      chunks.unshift({ segment, buffer: head, position: 0, filled: head.length, written: 0 });
      bytes += head.length;
      segment.size = position;
      segment.written = 0;
      return frames;
    },
    /** Records that are not done and not wholly in a file. */
    records(): number {
      let records = 0;
      for (const chunk of chunks) {
        const { segment, buffer, filled } = chunk;
        for (let at = wholeBytes(chunk); at < filled; ) {
          const end = buffer.indexOf(NEWLINE, at);
          const index = (readPlace(buffer.subarray(at, end))?.ordinal ?? -1) - segment.firstOrdinal;
          if (index >= 0 && segment.states[index] !== DONE) records++;
          at = end + 1;
        }
      }
      return records;
    },
    get first(): Chunk | undefined {
      return chunks[0];
    },
    get bytes() {
      return bytes;
    },
  };
}

/** Bytes of the chunk whose frames are wholly in the file: one may be half written. */
function wholeBytes({ buffer, written }: Chunk): number {
  return written === 0 ? 0 : buffer.lastIndexOf(NEWLINE, written - 1) + 1;
}

// ---- its files ----

export const NO_BYTES = 'the file took no bytes';

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

/** The functions that are needed, as promises. */
export function promised(fs: SpoolFiles) {
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
      if (written === 0) throw new Error(NO_BYTES);
      return written;
    },
    read: (file: number, into: Buffer, at: number, length: number, position: number) =>
      call<number>((done) => fs.read(file, into, at, length, position, done)),
    stat: (path: string) => call<nodeFs.Stats>((done) => fs.stat(path, done)),
    fstat: (file: number) => call<nodeFs.Stats>((done) => fs.fstat(file, done)),
    unlink: (path: string) => call<unknown>((done) => fs.unlink(path, (error) => done(error, undefined))),
  };
}

export const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** One file at a time that stays open. Each is used by one operation at a time. */
export function createSlot(fs: SpoolFiles) {
  const files = promised(fs);
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

export type FileSize = readonly [path: string, bytes: number];

/** The files that are to be removed. */
export function createLeaving(fs: SpoolFiles) {
  const files = promised(fs);
  const leaving = new Set<string>();
  /** Those that could not be removed. They count towards the cap. */
  const stuck = new Map<string, number>();
  let bytes = 0;
  return {
    add(paths: readonly FileSize[]): void {
      for (const [path] of paths) leaving.add(path);
    },
    /** One after the other, none after one that stays. @returns false when some stay */
    async unlink(paths: readonly FileSize[]): Promise<boolean> {
      let hasFailed = false;
      for (const [path, size] of paths) {
        const error: unknown = hasFailed ? undefined : await files.unlink(path).catch((reason: unknown) => reason);
        hasFailed ||= error !== undefined && !isMissing(error);
        if (hasFailed) stuck.set(path, size);
        else {
          stuck.delete(path);
          leaving.delete(path);
        }
      }
      bytes = 0;
      for (const its of stuck.values()) bytes += its;
      return !hasFailed;
    },
    /** At the end of a process: whoever adopts the folder would send again what is in them. */
    unlinkSync(): void {
      for (const path of leaving) quietly(() => fs.unlinkSync(path));
    },
    stuck: (): FileSize[] => [...stuck],
    /** Of those that could not be removed. */
    get bytes(): number {
      return bytes;
    },
  };
}

/** Unless there is more in it than the owner's own file. */
export async function removeFolder(folder: string): Promise<void> {
  try {
    const names = await readdir(folder);
    if (names.some((name) => name !== OWNER_FILE)) return;
    for (const name of names) await unlink(join(folder, name));
    await rmdir(folder);
  } catch {
    // An empty folder does no harm.
  }
}

/** At the end of a process nobody is there to be told; what is not in a file is not counted. */
export function quietly(work: () => void): void {
  try {
    work();
  } catch {}
}
