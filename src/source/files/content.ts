// The content of a file, plain or gzip, and how it is recognised under another name or inode. In: a path. Out: bytes by place;
// marks, which are hashes of short stretches; for a name, the live files it may have been rotated from, and which of two rotated
// files is older when their times do not tell; what a folder contains, and what a pattern names. Guarantee: a compressed file is
// unpacked as it is read, a window at a time; places in it are those of the unpacked text.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip, type Gunzip } from 'node:zlib';
import picomatch from 'picomatch';
import { glob, isDynamicPattern } from 'tinyglobby';
import type { Mark } from './checkpoints.ts';

const MARK_BYTES = 256;
const PIECE_BYTES = 64 * 1024;
/** Behind the last byte, for whoever looks at words. */
const SLACK_BYTES = 8;
const MAX_ROOMS = 16;
/** A copy of this length that is the same throughout is no coincidence; a shorter one may be a header that files share. */
const TELLING_BYTES = 4_096;

export interface Content {
  readonly gzip: boolean;
  /**
   * Up to `bytes` from place `at` on, fewer only at the end. In gzip, only reading forward is cheap. `room` is what to read into, if
   * it fits; gzip takes its own.
   */
  read(at: number, bytes: number, room?: Buffer): Promise<Buffer>;
  /** Describes the open file, whatever its name leads to by now. */
  stat(): Promise<{ size: number; mtimeMs: number; dev: number; ino: number }>;
  /** The time of birth in nanoseconds; 0 where the system does not tell. */
  born(): Promise<bigint>;
  close(): Promise<void>;
}

/**
 * Opens the file with this inode (`dev ino`). Never call it for a named pipe: opening one waits for a writer.
 * @throws the system's error, or one with ENOENT when the path leads to another file by now
 */
export async function openContent(path: string, inode: string): Promise<Content> {
  const gzip = isGzip(path);
  const handle = await open(path, 'r');
  const found = await handle.stat().catch(async (error) => {
    await handle.close();
    throw error;
  });
  if (`${found.dev} ${found.ino}` !== inode) {
    await handle.close();
    throw Object.assign(new Error(`${path} is another file now`), { code: 'ENOENT' });
  }
  const plain: Content = {
    gzip,
    async read(at, bytes, room) {
      const needed = bytes + SLACK_BYTES;
      const piece = room?.length === needed ? room : Buffer.allocUnsafeSlow(needed);
      let filled = 0;
      while (filled < bytes) {
        const { bytesRead } = await handle.read(piece, filled, bytes - filled, at + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return piece.subarray(0, filled);
    },
    async stat() {
      const { size, mtimeMs, dev, ino } = await handle.stat();
      return { size, mtimeMs, dev, ino };
    },
    born: async () => (await handle.stat({ bigint: true })).birthtimeNs,
    close: () => handle.close(),
  };
  return gzip ? unpacked(plain) : plain;
}

/**
 * Buffers of full reads that nobody needs any more: where much is to be read, the next read takes one. Made once for all files: a few
 * for each of hundreds that were once far behind would stay for ever.
 */
export function createRooms(bytes: number) {
  const free: Buffer[] = [];
  return {
    take: () => free.pop(),
    give({ buffer, length }: Buffer) {
      if (length === bytes && free.length < MAX_ROOMS) free.push(Buffer.from(buffer));
    },
  };
}

async function* piecesOf(content: Content): AsyncGenerator<Buffer> {
  for (let at = 0; ; ) {
    const piece = await content.read(at, PIECE_BYTES);
    if (piece.length === 0) return;
    at += piece.length;
    yield piece;
  }
}

function unpacked(packed: Content): Content {
  let stream: { unpack: Gunzip; pieces: AsyncIterator<Buffer> } | undefined;
  /** Where `rest` begins: the place that was last asked for. */
  let place = 0;
  let rest: Buffer = Buffer.alloc(0);

  const end = () => {
    stream?.unpack.destroy();
    stream = undefined;
  };

  const begin = () => {
    end();
    place = 0;
    rest = Buffer.alloc(0);
    const raw = Readable.from(piecesOf(packed), { objectMode: false, highWaterMark: PIECE_BYTES });
    const unpack = createGunzip({ chunkSize: PIECE_BYTES });
    raw.on('error', (error) => unpack.destroy(error));
    unpack.on('close', () => raw.destroy());
    raw.pipe(unpack);
    stream = { unpack, pieces: unpack[Symbol.asyncIterator]() as AsyncIterator<Buffer> };
    return stream;
  };

  return {
    ...packed,
    async read(at, bytes) {
      const { pieces } = stream === undefined || at < place ? begin() : stream;
      const parts: Buffer[] = [];
      let have = 0;
      for (;;) {
        const skipped = Math.min(rest.length, at - place);
        place += skipped;
        rest = rest.subarray(skipped);
        if (rest.length > 0) {
          parts.push(rest);
          have += rest.length;
          rest = Buffer.alloc(0);
        }
        if (have >= bytes) break;
        const { value, done } = await pieces.next();
        if (done) break;
        rest = value;
      }
      rest = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      return rest.subarray(0, bytes);
    },
    async close() {
      end();
      await packed.close();
    },
  };
}

/** The stretch whose hash is the mark at `offset`. */
function stretch(offset: number): { from: number; bytes: number } {
  const bytes = Math.min(offset, MARK_BYTES);
  return { from: offset - bytes, bytes };
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 20);
}

/** The bytes before the next piece, as far as marks need them. */
export function tailOf(tail: Buffer, piece: Buffer): Buffer {
  if (piece.length >= MARK_BYTES) return Buffer.from(piece.subarray(-MARK_BYTES));
  return Buffer.concat([tail, piece]).subarray(-MARK_BYTES);
}

/** The mark at `offset`, which lies in or at the end of the piece that begins at `at` and follows `tail`; undefined elsewhere. */
export function markAt(offset: number, tail: Buffer, piece: Buffer, at: number): Mark | undefined {
  const { from, bytes } = stretch(offset);
  if (bytes === 0 || offset <= at || offset > at + piece.length || from < at - tail.length) return undefined;
  if (from >= at) return [offset, hashOf(piece.subarray(from - at, offset - at))];
  const before = tail.subarray(tail.length - (at - from));
  return [offset, hashOf(Buffer.concat([before, piece.subarray(0, offset - at)]).subarray(0, bytes))];
}

export function isLasting(offset: number): boolean {
  return offset >= 64 && Number.isInteger(Math.log2(offset) / 2);
}

/**
 * The marks at 64, 256, 1024 and so on within a piece: few for any length, and dense at the beginning, where files differ first.
 */
export function lastingMarks(tail: Buffer, piece: Buffer, at: number): Mark[] {
  const found: Mark[] = [];
  for (let offset = 64; offset <= at + piece.length; offset *= 4) {
    const mark = markAt(offset, tail, piece, at);
    if (mark) found.push(mark);
  }
  return found;
}

interface Comparison {
  /** At least one mark lies within its length, and none disagrees. */
  readonly agrees: boolean;
  /** The highest place of a mark that agreed. */
  readonly upTo: number;
  /** It ends before the last mark. */
  readonly isShort: boolean;
}

/** Compares the content with marks. Reads no further than the last of them. */
export async function compare(content: Content, marks: readonly Mark[]): Promise<Comparison> {
  let upTo = 0;
  for (const [offset, hash] of [...marks].sort(([a], [b]) => a - b)) {
    const { from, bytes } = stretch(offset);
    const found = await content.read(from, bytes);
    if (found.length < bytes) return { agrees: upTo > 0, upTo, isShort: true };
    if (hashOf(found) !== hash) return { agrees: false, upTo, isShort: false };
    upTo = offset;
  }
  return { agrees: upTo > 0, upTo, isShort: false };
}

/** How a file relates to one that begins in the same way: a copy of it, another one, or too early to tell. */
export async function isCopy(candidate: Content, original: Content): Promise<'copy' | 'other' | 'unclear'> {
  for (let at = 0; ; at += PIECE_BYTES) {
    const mine = await candidate.read(at, PIECE_BYTES);
    const theirs = await original.read(at, PIECE_BYTES);
    if (!theirs.subarray(0, mine.length).equals(mine)) return 'other';
    if (mine.length === PIECE_BYTES) continue;
    return at + mine.length >= TELLING_BYTES || mine.length === theirs.length ? 'copy' : 'unclear';
  }
}

// ---- what rotated files are called ----

const GZIP = '.gz';
/** What may follow a name or stand within it: separators, digits, and the letters of a time (2026-11-28T00:00Z) or week (w48). */
const STAMP = /^[-_.]+[\dTZWw:+_.-]*$/;
const STAMP_LETTER = /[\dTZWw:+_.-]/;
const OLD = /[._-](old|bak|prev)$/;
const COUNTER_AT_END = /\.\d{1,5}$/;
const COUNTER = /^\.\d{1,5}$/;
const LONGEST = 255;
const LONGEST_STAMP = 40;

export function isGzip(name: string): boolean {
  return name.endsWith(GZIP);
}

/**
 * The live names that `name` may come from, without `name` itself. These schemes are known:
 * - `app.log.1`, `app.log.2.gz`, `app.log.old`, `app.log-20261128`, `app.log.2026-11-28.1` (logrotate, log4js, kubelet);
 * - `app1.log` (Winston's `maxsize`, with and without `tailable`); `app.1.log` (pino-roll);
 * - `app-2026-11-28.log`, `app-2026-11-28.log.1` (winston-daily-rotate-file); `app__2026-11-28_00-00-00.log` (pm2-logrotate);
 * - `20261128-0312-01-app.log` (rotating-file-stream).
 */
export function liveNamesOf(name: string): string[] {
  if (name.length > LONGEST) return [];
  const plain = isGzip(name) ? name.slice(0, -GZIP.length) : name;
  const found = new Set<string>(isGzip(name) ? [plain] : []);
  const behind = stripped(plain, true);
  for (const whole of new Set([plain, plain.replace(COUNTER_AT_END, '')])) {
    const dot = extensionAt(whole);
    for (const stem of stripped(whole.slice(0, dot), false)) found.add(stem + whole.slice(dot));
  }
  for (const live of behind) found.add(live);
  const dated = /^[\d_-]{6,}-(?=[^\d])(.+)$/.exec(plain);
  if (dated) found.add(dated[1]!);
  found.delete(name);
  return [...found];
}

/**
 * The names that a symbolic link's target may have next, for links that are moved from file to file: `current.log` ->
 * `app-2026-11-28.log` (daily), `/var/log/containers/x.log` -> `0.log` (kubelet, at a restart).
 */
export function turnsOf(target: string): string[] {
  const dot = extensionAt(target);
  const stem = target.slice(0, dot);
  if (/^\d{1,5}$/.test(stem)) return [target.slice(dot)];
  return stripped(stem, false).map((other) => other + target.slice(dot));
}

/** For files that were last written at the same moment: `app.log.2` is older than `app.log.1`, `app1.log` than `app2.log`. */
export function olderByName(a: string, b: string): number {
  return counterOf(b) - counterOf(a) || a.localeCompare(b, 'en', { numeric: true });
}

function counterOf(name: string): number {
  return Number(/\.(\d{1,5})(\.gz)?$/.exec(name)?.[1] ?? 0);
}

/** A name without the stamp at its end, for each place where that stamp may begin. */
function stripped(name: string, isWhole: boolean): string[] {
  const found: string[] = [];
  if (isWhole && OLD.test(name)) found.push(name.replace(OLD, ''));
  const first = Math.max(0, name.length - LONGEST_STAMP);
  for (let at = name.length - 1; at >= first && STAMP_LETTER.test(name[at]!); at--) {
    const before = name.slice(0, at);
    const rest = name.slice(at);
    if (/[-_.]$/.test(before) || (isWhole && at === 0)) continue;
    // Winston's counter follows the name without a separator. `worker-1` + `0` is another worker, not a rotated file.
    const isWinston = !isWhole && /^\d{1,5}$/.test(rest) && !/\d$/.test(before);
    const isStamp = STAMP.test(rest) && (COUNTER.test(rest) || rest.replace(/\D/g, '').length >= 6);
    if (isStamp || isWinston) found.push(before);
  }
  return found;
}

/** Where the extension, such as `.log`, begins; the end of the name when it has none. */
function extensionAt(name: string): number {
  const match = /\.[A-Za-z][A-Za-z0-9]{0,9}$/.exec(name);
  return match && match.index > 0 ? match.index : name.length;
}

// ---- what the folders contain ----

// A folder is read again only when it has changed, once for all the files that are followed in it.

/** If a folder changed less than this before it was read, it may change again without its time showing that. */
const TICK_MS = 50;

export interface Listing {
  /** A new object for every reading: the same object means that nothing was added, removed or renamed. */
  readonly names: ReadonlySet<string>;
  /** The live name itself, if it is there, and what was rotated from it. */
  siblings(live: string): readonly string[];
  /** Names by device and inode (`dev ino`), of everything in the folder. */
  inodes(): Promise<ReadonlyMap<string, string>>;
}

export interface Folders {
  /** Begins a new round: every folder is checked again. */
  nextRound(): void;
  /** The folder as it was at the first look of this round or, with `again`, as it is now. A missing folder is empty. */
  list(folder: string, again?: boolean): Promise<Listing>;
}

export function createFolders(): Folders {
  const known = new Map<string, { listing: Listing; mtimeMs: number; isCertain: boolean }>();
  const checked = new Set<string>();
  return {
    nextRound: () => checked.clear(),
    async list(folder, again = false) {
      const before = known.get(folder);
      if (before && checked.has(folder) && !again) return before.listing;
      checked.add(folder);
      const now = Date.now();
      const mtimeMs = await stat(folder).then(
        (found) => found.mtimeMs,
        () => 0,
      );
      if (before?.mtimeMs === mtimeMs && before.isCertain) return before.listing;
      const listing = read(folder, await readdir(folder).catch(() => []));
      known.set(folder, { listing, mtimeMs, isCertain: Math.abs(now - mtimeMs) > TICK_MS });
      return listing;
    },
  };
}

function read(folder: string, all: readonly string[]): Listing {
  const names = new Set(all);
  const rotated = new Map<string, string[]>();
  for (const name of all) {
    for (const live of liveNamesOf(name)) {
      const found = rotated.get(live);
      if (found) found.push(name);
      else rotated.set(live, [name]);
    }
  }
  let inodes: Promise<Map<string, string>> | undefined;
  const readInodes = async () => {
    const found = new Map<string, string>();
    for (const name of all) {
      const file = await stat(join(folder, name)).catch(() => undefined);
      if (file?.isFile()) found.set(`${file.dev} ${file.ino}`, name);
    }
    return found;
  };
  return {
    names,
    siblings: (live) => [...(names.has(live) ? [live] : []), ...(rotated.get(live) ?? [])],
    inodes() {
      inodes ??= readInodes();
      return inodes;
    },
  };
}

// ---- which files a pattern names ----

export interface Patterns {
  /** Absolute paths without wildcards, each once. */
  readonly literal: readonly string[];
  readonly hasWildcards: boolean;
  /** Would a pattern find this path, if there were such a file? */
  matches(path: string): boolean;
  /**
   * The files that are there now and match a pattern, hidden ones left out. Of a file and what was rotated from it, only the file:
   * the rotated ones are read as part of it.
   * @param known live paths that need not be there at present
   */
  expand(known: ReadonlySet<string>): Promise<string[]>;
}

/** @param paths relative ones are resolved from the working directory; a file whose name looks like a pattern is that file */
export function createPatterns(paths: readonly string[]): Patterns {
  const absolute = [...new Set(paths.map((path) => resolve(path)))];
  const wild = absolute.filter((path) => isDynamicPattern(path) && !existsSync(path));
  const literal = absolute.filter((path) => !wild.includes(path));
  const matches = wild.length === 0 ? () => false : picomatch(wild);
  return {
    literal,
    hasWildcards: wild.length > 0,
    matches: (path) => matches(path),
    async expand(known) {
      if (wild.length === 0) return [];
      const found = await glob(wild, { absolute: true, expandDirectories: false, onlyFiles: true });
      const all = new Set([...found.map((path) => resolve(path)), ...known]);
      const isRotated = (path: string) =>
        liveNamesOf(basename(path)).some((live) => all.has(join(dirname(path), live)));
      return found.map((path) => resolve(path)).filter((path) => !isRotated(path));
    },
  };
}
