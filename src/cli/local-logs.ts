// What commands read where there is no Kafka: log files as they grow, and files of lines once. In: paths. Out: lines. Guarantee: reads
// alone: logpipe's own positions and locks are not touched, a named pipe, whose lines another reader would lose, is left alone; a file
// that is rotated, emptied or not yet there ends nothing.
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { RawRecord } from '../core/record.ts';
import { createFolders } from '../source/files/content.ts';
import { createLineSplitter, type LineSplitter, linesOf } from '../source/lines.ts';

const PIECE_BYTES = 64 * 1024;
const LOOK_MS = 250;
const NEWLINE = 0x0a;

/** Hears of every line; false ends the reading. */
export type OnLine = (record: RawRecord, path: string) => boolean;

interface FollowOptions {
  /** The files to follow, asked for again at every look: a day's file may be new. */
  readonly paths: () => Promise<readonly string[]>;
  /** Also what was there before, in rotated files too, unless they have not been changed since then, ms. Default: new lines only. */
  readonly sinceMs?: number | undefined;
  readonly maxLineBytes: number;
  readonly signal: AbortSignal;
  readonly onLine: OnLine;
  /** What a person should know: a file that is not there, that cannot be read. Said once for each. */
  readonly onTrouble: (text: string) => void;
  /** Every line from now on is seen. */
  readonly onReady?: () => void;
}

interface Followed {
  readonly file: FileHandle;
  readonly inode: string;
  position: number;
  splitter: LineSplitter;
  /** Reading began within a line, whose rest is nobody's. */
  skipsFirst: boolean;
}

/** Resolves when `signal` aborts or `onLine` has returned false. */
export async function followFiles(options: FollowOptions): Promise<void> {
  const { paths, sinceMs, signal, maxLineBytes, onLine, onTrouble } = options;
  const followed = new Map<string, Followed>();
  const told = new Set<string>();
  let wantsMore = true;
  let isFirstLook = true;

  const tell = (text: string) => {
    if (told.has(text)) return;
    told.add(text);
    onTrouble(text);
  };
  const splitterAt = (offset: number) => createLineSplitter({ offset, maxLineBytes, onCut() {} });
  const hand = (lines: readonly RawRecord[], path: string) => {
    for (const line of lines) {
      wantsMore &&= onLine(line, path);
      if (!wantsMore) return;
    }
  };

  async function begin(path: string, atEnd: boolean): Promise<Followed | undefined> {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) {
      tell(`${path} is not there yet; waiting for it`);
      return undefined;
    }
    if (!found.isFile()) {
      tell(`${path} is not a regular file; its lines can be read only once, so they are left to logpipe`);
      return undefined;
    }
    const file = await open(path, 'r');
    const { size, dev, ino } = await file.stat();
    const position = atEnd ? size : 0;
    const before = Buffer.alloc(1);
    if (position > 0) await file.read(before, 0, 1, position - 1);
    const skipsFirst = position > 0 && before[0] !== NEWLINE;
    return { file, inode: `${dev} ${ino}`, position, splitter: splitterAt(position), skipsFirst };
  }

  async function readOn(path: string, at: Followed): Promise<void> {
    const { size } = await at.file.stat();
    if (size < at.position) {
      at.position = 0;
      at.splitter = splitterAt(0);
      at.skipsFirst = false;
    }
    const piece = Buffer.alloc(PIECE_BYTES);
    while (wantsMore && !signal.aborted) {
      const { bytesRead } = await at.file.read(piece, 0, PIECE_BYTES, at.position);
      if (bytesRead === 0) return;
      at.position += bytesRead;
      // A copy: lines are views of the piece.
      const lines = at.splitter.push(Buffer.from(piece.subarray(0, bytesRead)), Date.now());
      if (at.skipsFirst && lines.length > 0) {
        lines.shift();
        at.skipsFirst = false;
      }
      hand(lines, path);
    }
  }

  async function look(path: string): Promise<void> {
    let at = followed.get(path);
    if (at !== undefined) {
      const named = await stat(path).catch(() => undefined);
      await readOn(path, at);
      if (named === undefined || `${named.dev} ${named.ino}` === at.inode) return;
      // Rotated: what stands in the old file was read just now, and its last line has no end.
      hand(at.splitter.flush(Date.now()), path);
      followed.delete(path);
      await at.file.close();
    }
    at = await begin(path, isFirstLook && sinceMs === undefined);
    if (at === undefined) return;
    followed.set(path, at);
    await readOn(path, at);
  }

  async function history(path: string): Promise<void> {
    const folder = dirname(path);
    const rotated: { path: string; changedMs: number }[] = [];
    for (const name of (await createFolders().list(folder)).siblings(basename(path))) {
      const found = await stat(join(folder, name)).catch(() => undefined);
      if (name === basename(path) || !found?.isFile() || found.mtimeMs < sinceMs!) continue;
      rotated.push({ path: join(folder, name), changedMs: found.mtimeMs });
    }
    rotated.sort((one, other) => one.changedMs - other.changedMs);
    for (const old of rotated) {
      for await (const line of linesOf(old.path, maxLineBytes)) {
        hand([line], old.path);
        if (!wantsMore || signal.aborted) return;
      }
    }
  }

  try {
    while (wantsMore && !signal.aborted) {
      for (const path of await paths()) {
        if (!wantsMore || signal.aborted) break;
        try {
          if (isFirstLook && sinceMs !== undefined) await history(path);
          if (wantsMore) await look(path);
        } catch (error) {
          tell(`${path} cannot be read (${errorText(error)})`);
        }
      }
      if (isFirstLook) options.onReady?.();
      isFirstLook = false;
      if (wantsMore) await sleep(LOOK_MS, signal);
    }
  } finally {
    for (const { file } of followed.values()) await file.close().catch(() => {});
  }
}

/** The day files of the NDJSON sink, in the order of their names. Empty when the folder is not there. */
export async function ndjsonFiles(dir: string): Promise<string[]> {
  const names = await readdir(dir).catch((): string[] => []);
  return names
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .map((name) => join(dir, name));
}
