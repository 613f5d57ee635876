// The contract of the alert store: keyed records on a compacted Kafka topic (store-kafka.ts), or in embedded mode in a journal; their
// format's version; and the journal.

import { constants, readFileSync, rmSync } from 'node:fs';
import { type FileHandle, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { errorText, LogpipeError, refuseNewer } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { lockFolder, makePrivateFolder, openPrivate, syncFolder, unusable, usable } from '../core/private-files.ts';
import type { StateChange, StateKey } from '../incidents/records.ts';

/** The store as its present leader sees it. Only the leader can write; a former one gets `LostTermError`. */
export interface AlertStore {
  /** Every record at the moment the term began, read to the end after the former leader was fenced off. */
  readonly initial: ReadonlyMap<StateKey, object>;
  /** The brokers' time at a moment of this process; undefined without brokers. */
  readonly dated?: { readonly brokersMs: number; readonly monotonicMs: number };
  /**
   * Makes all changes durable, together or not at all.
   * @throws LostTermError when another instance has taken over, or when it is unknown whether the changes were written: this store is
   * over, and the state has to be read by opening another one. After any other error nothing was written, and the next commit may
   * succeed.
   */
  commit(changes: readonly StateChange[]): Promise<void>;
  /** Resolves when the term was confirmed (by a commit, or by asking) within the last `maxAgeMs`. @throws as commit */
  confirm(maxAgeMs: number): Promise<void>;
  close(): Promise<void>;
}

const WHY = {
  taken: 'another instance holds the alert state now',
  unknown: 'it is not known whether the last change of the alert state was written: the state has to be read again',
} as const;

export class LostTermError extends Error {
  readonly why: keyof typeof WHY;

  constructor(cause?: unknown, why: keyof typeof WHY = 'taken') {
    super(WHY[why], cause === undefined ? undefined : { cause });
    this.name = 'LostTermError';
    this.why = why;
  }
}

// ---- the version of the records' format ----

/** A new key that may be missing needs no new version; anything that an older logpipe would misread does. */
const FORMAT = 1;
const FORMAT_KEY = 'meta/format';

/** To be written with the first commit of a term; empty when it is already there. Older states have none. */
export function formatChange(initial: AlertStore['initial']): readonly StateChange[] {
  return initial.has(FORMAT_KEY) ? [] : [{ key: FORMAT_KEY, value: { v: FORMAT } }];
}

/**
 * @param where the topic or the file, for people
 * @throws LogpipeError LOGPIPE_ALERT_STATE_NEWER
 */
export function assertKnownFormat(records: AlertStore['initial'], where: string): void {
  const { v = FORMAT } = (records.get(FORMAT_KEY) ?? {}) as { v?: number };
  refuseNewer(`${where}: the alert state`, v, FORMAT, 'LOGPIPE_ALERT_STATE_NEWER');
}

// The alert state of embedded mode. In: changes. Out: one line of a journal per commit, forced to disk before the commit
// resolves. Guarantee: after a crash the file holds every commit that resolved, and the one that was under way either whole or
// not at all; only one process at a time uses it.

// ---- the journal ----

// The alert state of embedded mode. In: changes. Out: one line of a journal per commit, forced to disk before the commit
// resolves. Guarantee: after a crash the file holds every commit that resolved, and the one that was under way either whole or
// not at all; only one process at a time uses it.

const SETTING = 'alerts.journalDir';
const FILE = 'alerts.journal';
/** The journal is rewritten when it is this many times as long as its records and has at least this many bytes. */
const REWRITE_FACTOR = 4;
const REWRITE_MIN_BYTES = 1024 * 1024;
const CRC_DIGITS = 8;
const NEWLINE = 0x0a;

interface JournalOptions {
  /** Created when missing; holds nothing but the alert state. */
  readonly folder: string;
  readonly rewriteMinBytes?: number;
}

/**
 * @throws LogpipeError LOGPIPE_SOURCE_FAILED when another process has the folder or the journal cannot be read, LOGPIPE_FOLDER_UNUSABLE
 */
export async function openJournalStore(options: JournalOptions, deps: { readonly log: Log }): Promise<AlertStore> {
  const { folder, rewriteMinBytes = REWRITE_MIN_BYTES } = options;
  const { log } = deps;
  const loose = usable(SETTING, folder, () => makePrivateFolder(folder, { own: true }));
  if (loose !== undefined) log.warn('The alert journal lies in a folder that others can read', { reason: loose });
  const unlock = lockFolder(folder, SETTING);
  const path = join(folder, FILE);
  const draft = `${path}.new`;
  let file: FileHandle;
  /** Bytes of whole commits; anything after them is the rest of one that failed. */
  let length: number;
  const records = new Map<StateKey, object>();
  /** Bytes that the present records would take. */
  let liveBytes = 0;
  const sizes = new Map<StateKey, number>();
  let closed = false;
  let tail: Promise<unknown> = Promise.resolve();

  const remember = ({ key, value }: StateChange) => {
    liveBytes -= sizes.get(key) ?? 0;
    if (value === null) {
      records.delete(key);
      sizes.delete(key);
      return;
    }
    records.set(key, value);
    const size = JSON.stringify(value).length + key.length;
    sizes.set(key, size);
    liveBytes += size;
  };

  try {
    rmSync(draft, { force: true });
    const bytes = readIfThere(path);
    const { changes, end, damaged } = parse(bytes);
    for (const change of changes) remember(change);
    if (damaged > 0) log.error('The alert journal is damaged: some of its commits were left out', { path, damaged });
    if (end < bytes.length) log.warn('The alert journal ended within a commit, which is left out', { path });
    file = await openPrivate(path, constants.O_RDWR | constants.O_CREAT);
    length = end;
    await file.truncate(length);
    await file.datasync();
    await syncFolder(folder);
  } catch (error) {
    unlock();
    const known = unusable(SETTING, path, error);
    if (known !== error) throw known;
    const text = `${SETTING}: ${path} cannot be used (${errorText(error)}); repair it, or name another folder`;
    throw new LogpipeError('LOGPIPE_SOURCE_FAILED', text, error);
  }
  const initial: ReadonlyMap<StateKey, object> = new Map(records);
  try {
    assertKnownFormat(initial, path);
  } catch (error) {
    await file.close().catch(() => {});
    unlock();
    throw error;
  }

  async function append(changes: readonly StateChange[]): Promise<void> {
    const line = encode(changes);
    // If the previous commit failed half-way, it is overwritten; what remains of it is not a whole line.
    await writeAll(file, line, length);
    await file.datasync();
    length += line.length;
    for (const change of changes) remember(change);
  }

  /** Writes all records as one commit to a new file that replaces the old one: a crash leaves one of the two. */
  async function rewrite(): Promise<void> {
    const line = encode([...records].map(([key, value]) => ({ key, value })));
    const next = await openPrivate(draft, 'w+');
    try {
      await writeAll(next, line, 0);
      await next.datasync();
      await rename(draft, path);
    } catch (error) {
      await next.close().catch(() => {});
      throw error;
    }
    await file.close().catch(() => {});
    file = next;
    length = line.length;
    await syncFolder(folder);
  }

  async function commit(changes: readonly StateChange[]): Promise<void> {
    if (closed) throw new LostTermError();
    if (changes.length === 0) return;
    await append(changes);
    if (length < rewriteMinBytes || length < liveBytes * REWRITE_FACTOR) return;
    // The commit itself is safe: a journal that cannot be shortened just stays long.
    await rewrite().catch((error: unknown) => {
      log.warn('The alert journal could not be rewritten; it keeps growing', { path, error: errorText(error) });
    });
  }

  return {
    initial,
    commit(changes) {
      const mine = tail.then(() => commit(changes));
      tail = mine.catch(() => {});
      return mine;
    },
    async confirm() {
      if (closed) throw new LostTermError();
    },
    async close() {
      if (closed) return;
      closed = true;
      await tail;
      await file.close();
      unlock();
    },
  };
}

/** The records of a journal, read without its lock: another process may be writing. */
export function readJournal(folder: string): Map<StateKey, object> {
  const records = new Map<StateKey, object>();
  const path = join(folder, FILE);
  for (const { key, value } of parse(usable(SETTING, path, () => readIfThere(path))).changes) {
    if (value === null) records.delete(key);
    else records.set(key, value);
  }
  return records;
}

/** `<checksum> <JSON of the changes>\n`: this JSON has no line ends, so a line is a commit. */
function encode(changes: readonly StateChange[]): Buffer {
  const json = Buffer.from(JSON.stringify(changes.map(({ key, value }) => [key, value])));
  return Buffer.concat([Buffer.from(`${checksum(json)} `), json, Buffer.from('\n')]);
}

function parse(bytes: Buffer): { changes: StateChange[]; end: number; damaged: number } {
  const changes: StateChange[] = [];
  let end = 0;
  let damaged = 0;
  let torn = 0;
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, at);
    if (newline === -1) break;
    const line = decode(bytes.subarray(at, newline));
    at = newline + 1;
    if (line === undefined) {
      torn += 1;
      continue;
    }
    // A bad line that good ones follow was whole once: that is a damaged disk, not a crash.
    damaged += torn;
    torn = 0;
    changes.push(...line);
    end = at;
  }
  return { changes, end, damaged };
}

function decode(line: Buffer): StateChange[] | undefined {
  const json = line.subarray(CRC_DIGITS + 1);
  if (line.length <= CRC_DIGITS || line.subarray(0, CRC_DIGITS).toString('latin1') !== checksum(json)) return undefined;
  const pairs = JSON.parse(json.toString()) as [StateKey, object | null][];
  return pairs.map(([key, value]) => ({ key, value }));
}

function checksum(bytes: Buffer): string {
  return crc32(bytes).toString(16).padStart(CRC_DIGITS, '0');
}

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
