// One configured path and all that was rotated from it. In: what the folders contain. Out: chunks of lines, oldest file first,
// and journal entries that say how far each file is accounted for.
//
// Content is followed, not names: an entry stands for the bytes of one file, and they are found again by inode, or by marks in a
// copy or a gzip of them. Guarantee: each line is delivered under one identity, which is in the journal before the first line is
// delivered; bytes that vanished before they were read are logged and counted.
import { createHash, randomUUID } from 'node:crypto';
import { lstat, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Clock } from '../../core/clock.ts';
import { errorText, LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Chunk, DropReason, Lines } from '../../core/record.ts';
import type { OffsetTracker } from '../kafka/offset-tracker.ts';
import {
  chunkOfLines,
  createLineSplitter,
  createPipeReader,
  type LineSplitter,
  linesApart,
  type PipeReader,
  sizeOf,
} from '../lines.ts';
import type { FileJournal, JournalEntry, Mark } from './checkpoints.ts';
import {
  type Content,
  compare,
  createRooms,
  type Folders,
  isCopy,
  isGzip,
  isLasting,
  type Listing,
  lastingMarks,
  liveNamesOf,
  markAt,
  olderByName,
  openContent,
  tailOf,
  turnsOf,
} from './content.ts';

const READ_BYTES = 256 * 1024;
const ROOMS = createRooms(READ_BYTES);
const MARK_BYTES = 256;
/** How many extra looks one reading may ask for. */
const MAX_LOOKS = 3;
/** One look in this many checks all names, whether or not the folder appears to have changed. */
const THOROUGH_EVERY = 30;
const HEAD_BYTES = 1_024;
/** The distance between marks in memory, by which a copy that lacks the last bytes is recognised. */
const DENSE_BYTES = 16 * 1_024;
const DENSE_MARKS = 64;
/** Times the rotation grace: how long a renamed file that is still written to holds back its successor. */
const LONGEST_HOLD = 10;
/** Times the rotation grace: how long a removed file may be quiet before it is let go of. */
const REMOVED_GRACE = 30;
/** How long the content of a file that is gone is remembered, for a copy that appears later. */
const REMEMBER_MS = 600_000;

/** Reads one configured path. Calls do not overlap. */
export interface FileFollower {
  readonly path: string;
  /** A change of a name in its folder was announced: a finished file may have been written to again. */
  hint(name: string): void;
  /** Finds out what is there. Never rejects. */
  look(): Promise<void>;
  /** The next chunk; undefined when there is nothing new at the moment. Rejects for what cannot be read. */
  next(): Promise<Chunk | undefined>;
  /** Everything has been read, and nothing is waited for. */
  readonly finished: boolean;
  /** Nothing of it is there or remembered. */
  readonly forgotten: boolean;
  /** What cannot be read, in words. */
  trouble(): string | undefined;
  /** Copies into the journal's entries what is accounted for. */
  commit(): void;
  close(): Promise<void>;
}

/** Open descriptors of all followers; when there are too many, the one unused for longest is closed. */
export interface DescriptorPool {
  use(member: { release(): Promise<void> }): Promise<void>;
  drop(member: { release(): Promise<void> }): void;
}

export interface FollowerDeps {
  readonly journal: FileJournal;
  /** The journal's entries that belong to this path. */
  readonly entries: readonly JournalEntry[];
  readonly tracker: OffsetTracker;
  readonly folders: Folders;
  readonly pool: DescriptorPool;
  /** The follower that reads an inode (`dev ino`): two paths may lead to one file. */
  readonly owners: Map<string, FileFollower>;
  /** Every configured path: a file that is configured itself was not rotated from another. */
  readonly paths: ReadonlySet<string>;
  newPartition(): number;
  /** The follower may have something to read. */
  wake(follower: FileFollower): void;
  dropped(reason: DropReason): void;
  /** Bytes of a hole. */
  skipped(bytes: number): void;
  readonly log: Log;
  readonly clock: Clock;
}

export interface FollowerOptions {
  readonly path: string;
  readonly follow: boolean;
  readonly maxLineBytes: number;
  readonly rotationGraceMs: number;
}

/** A file as a look found it. */
interface Sighting {
  readonly name: string;
  readonly key: string;
  readonly dev: number;
  readonly ino: number;
  readonly size: number;
  readonly mtimeMs: number;
}

interface Member {
  readonly entry: JournalEntry;
  /** `there`: found under its name. `removed`: open, but no name leads to it. `lost`: its bytes are elsewhere, or gone. */
  place: 'there' | 'removed' | 'lost';
  content: Content | undefined;
  /** Closes it for the pool. */
  readonly release: () => Promise<void>;
  readonly partition: number;
  /** A former run may have handed on what begins before this; undefined when none knew the file. */
  knownBelow: number | undefined;
  readonly splitter: LineSplitter;
  /** The next byte to read; the splitter holds the bytes before it, from its own position on. */
  readAt: number;
  /** The bytes before `readAt`; undefined when this process did not read them. */
  tail: Buffer | undefined;
  /** Marks of what this process read; only the newest are kept. */
  readonly recent: Mark[];
  size: number;
  mtimeMs: number;
  /** Its size when this process saw it first. */
  firstSize: number;
  /** This process has checked that it still holds what was read of it. */
  isVerified: boolean;
  /** The size of a copy that lacks the last bytes, which were read from the original. */
  shortBytes: number | undefined;
  /** Its size or time differs from when it was last read to its end. */
  isNews: boolean;
  /** How long there has been nothing new since it was rotated. */
  quiet: 'no' | 'waiting' | 'short' | 'long';
  cancelQuiet: () => void;
  /** Set when it no longer holds back the files after it. */
  hasPassed: boolean;
  cancelHold: (() => void) | undefined;
  /** Read to its end, and nothing more is expected. */
  isDone: boolean;
  /** Lost and given up: only remembered, in case a copy appears. */
  isForgettable: boolean;
}

const keyOf = ({ dev, ino }: { dev: number; ino: number }) => `${dev} ${ino}`;

export function createFileFollower(options: FollowerOptions, deps: FollowerDeps): FileFollower {
  const { path, follow, maxLineBytes, rotationGraceMs } = options;
  const { journal, tracker, folders, pool, owners, clock, log } = deps;
  /** Oldest first. */
  let members: Member[] = [];
  /** Files that need not be read as long as they stay unchanged: copies of others, or too short to tell. */
  const passedOver = new Map<string, { size: number; mtimeMs: number; isDecided: boolean; original: Member }>();
  const troubles = new Map<string, string>();
  let listings: Listing[] = [];
  /** Where the path's symbolic link has led so far. */
  const targets = new Set<string>();
  let pipe: PipeReader | undefined;
  /** `mustLook`: the next look must be thorough. `lookNow`: it must come before anything else is read. */
  let mustLook = true;
  let lookNow = false;
  let looks = 0;
  let served: Member | undefined;
  let hasEnded = false;

  const createMember = (entry: JournalEntry, knownBelow?: number): Member => {
    let hasHole = false;
    const member: Member = {
      entry,
      place: 'there',
      content: undefined,
      async release() {
        const { content } = member;
        member.content = undefined;
        await content?.close();
      },
      partition: deps.newPartition(),
      knownBelow,
      splitter: createLineSplitter({
        offset: entry.position,
        maxLineBytes,
        onCut: (bytes) => log.warn('a line was cut', { path: entry.name, bytes, keptBytes: maxLineBytes }),
        onHole(bytes) {
          deps.skipped(bytes);
          if (!hasHole) log.warn('NUL bytes are skipped in this file', { path: entry.name, bytes });
          hasHole = true;
        },
      }),
      readAt: entry.position,
      tail: undefined,
      recent: [],
      size: 0,
      mtimeMs: 0,
      firstSize: 0,
      isVerified: false,
      shortBytes: undefined,
      isNews: true,
      quiet: 'no',
      cancelQuiet() {},
      hasPassed: entry.finished !== undefined,
      cancelHold: undefined,
      isDone: entry.finished !== undefined,
      isForgettable: false,
    };
    tracker.start(member.partition, entry.position);
    return member;
  };

  const open = async (member: Member): Promise<Content> => {
    member.content ??= await openContent(member.entry.name, keyOf(member.entry));
    await pool.use(member);
    return member.content;
  };

  const shut = async (member: Member) => {
    pool.drop(member);
    await member.release();
  };

  const marksOf = ({ entry, recent }: Member): Mark[] => [...entry.marks, ...recent];

  // ---- what is where ----

  const findListings = async (again: boolean): Promise<{ found: Listing[]; candidates: Set<string> }> => {
    const places = new Map<string, Set<string>>();
    const add = (file: string, lives: readonly string[]) => {
      const folder = dirname(file);
      const known = places.get(folder) ?? new Set();
      for (const live of [basename(file), ...lives]) known.add(live);
      places.set(folder, known);
    };
    add(path, []);
    const isLink = await lstat(path).then(
      (found) => found.isSymbolicLink(),
      () => false,
    );
    if (isLink) {
      const target = await realpath(path).catch(() => undefined);
      if (target !== undefined) targets.add(target);
    }
    for (const target of targets) add(target, [...turnsOf(basename(target)), ...liveNamesOf(basename(target))]);
    const found: Listing[] = [];
    const candidates = new Set<string>();
    for (const [folder, lives] of places) {
      const listing = await folders.list(folder, again);
      found.push(listing);
      for (const live of lives) {
        for (const name of listing.siblings(live)) {
          const file = join(folder, name);
          if (file === path ? !isLink || targets.size === 0 : !deps.paths.has(file)) candidates.add(file);
        }
      }
    }
    return { found, candidates };
  };

  const see = async (name: string): Promise<Sighting | undefined> => {
    try {
      const found = await stat(name);
      if (!found.isFile()) {
        if (name !== path) return undefined;
        if (found.isFIFO())
          pipe ??= createPipeReader({ path, maxLineBytes }, { log, clock, wake: () => deps.wake(self) });
        else throw new Error('is neither a file nor a named pipe');
        return undefined;
      }
      const { dev, ino, size, mtimeMs } = found;
      return { name, key: keyOf(found), dev, ino, size, mtimeMs };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ENOTDIR') note(name, error);
      else troubles.delete(name);
      return undefined;
    }
  };

  const note = (name: string, error: unknown) => {
    const text = errorText(error);
    if (!troubles.has(name)) log.error('a file cannot be read; trying again', { path: name, error: text });
    troubles.set(name, text);
  };

  const overcome = (name: string) => {
    if (troubles.delete(name)) log.info('a file can be read again', { path: name });
  };

  const lookAtAll = async (again: boolean) => {
    mustLook = false;
    const { found, candidates } = await findListings(again);
    listings = found;
    const sightings = new Map<string, Sighting>();
    for (const name of candidates) {
      const sighting = await see(name);
      // With a hard link, or a link next to its target, the first name counts.
      if (sighting && !sightings.has(sighting.key)) sightings.set(sighting.key, sighting);
    }
    for (const name of [...troubles.keys()]) if (!candidates.has(name) && name !== path) troubles.delete(name);
    await findMissing(sightings);

    for (const member of members) {
      if (member.place === 'lost') continue;
      const sighting = sightings.get(keyOf(member.entry));
      if (sighting === undefined) await missing(member);
      else if (await isStill(member, sighting)) sightings.delete(sighting.key);
      else await lose(member);
    }
    const fresh = [...sightings.values()].sort((a, b) => a.mtimeMs - b.mtimeMs || olderByName(a.name, b.name));
    for (const sighting of fresh) {
      const owner = owners.get(sighting.key);
      if (sighting.size === 0 || (owner !== undefined && owner !== self)) continue;
      // As long as the original is there, it is still being compressed.
      if (isGzip(sighting.name) && candidates.has(sighting.name.slice(0, -3))) continue;
      try {
        await welcome(sighting);
        overcome(sighting.name);
      } catch (error) {
        if (isGone(error)) mustLook = true;
        else note(sighting.name, error);
      }
    }
    for (const key of passedOver.keys()) if (!sightings.has(key)) passedOver.delete(key);
    if (troubles.size > 0) mustLook = true;
    lookNow = false;
  };

  /** Rotation may have given a file an unknown kind of name: then it is looked for by its inode, in the same folders. */
  const findMissing = async (sightings: Map<string, Sighting>) => {
    for (const { entry, place, isDone } of members) {
      if (place === 'lost' || isDone || sightings.has(keyOf(entry))) continue;
      for (const folder of new Set([dirname(entry.name), dirname(path)])) {
        const name = (await (await folders.list(folder)).inodes()).get(keyOf(entry));
        if (name === undefined || deps.paths.has(join(folder, name))) continue;
        const sighting = await see(join(folder, name));
        if (sighting?.key === keyOf(entry)) sightings.set(sighting.key, sighting);
      }
    }
  };

  const missing = async (member: Member) => {
    if (member.content && !member.content.gzip && !member.isDone) member.place = 'removed';
    else await lose(member);
  };

  /** Its own file is gone or holds something else now. */
  const lose = async (member: Member) => {
    member.place = 'lost';
    await shut(member);
    calm(member);
    const key = keyOf(member.entry);
    if (owners.get(key) === self) owners.delete(key);
    lookNow = true;
  };

  /** Whether it still holds, as far as marks tell, what an earlier process read of it. */
  const verify = async (member: Member): Promise<boolean> => {
    const { entry, readAt } = member;
    const content = await open(member);
    if (entry.marks.length > 0) {
      const { agrees, isShort } = await compare(content, entry.marks);
      if (!agrees || isShort) return false;
    }
    if (!content.gzip && readAt > 0) {
      const bytes = Math.min(readAt, MARK_BYTES);
      const tail = await content.read(readAt - bytes, bytes);
      if (tail.length < bytes) return false;
      member.tail = tail;
    }
    member.isVerified = true;
    return true;
  };

  /** Whether what was last read is still in its place. */
  const holds = async (member: Member): Promise<boolean> => {
    const { readAt, tail, shortBytes } = member;
    if (!member.isVerified) return verify(member);
    const content = await open(member);
    if (content.gzip || tail === undefined || shortBytes !== undefined) return true;
    return (await content.read(readAt - tail.length, tail.length)).equals(tail);
  };

  /** Whether the inode still holds what was read of it; if so, takes over its name and size. */
  const isStill = async (member: Member, sighting: Sighting): Promise<boolean> => {
    const { entry } = member;
    if (entry.name !== sighting.name) {
      entry.name = sighting.name;
      journal.changed(entry);
    }
    member.place = 'there';
    owners.set(sighting.key, self);
    const { finished } = entry;
    const isKnown = finished?.size === sighting.size && finished.mtimeMs === sighting.mtimeMs;
    if (!isKnown && sighting.size !== member.shortBytes) {
      const isFirst = member.mtimeMs === 0;
      if (isGzip(sighting.name) ? !isFirst && member.size !== sighting.size : sighting.size < member.readAt) {
        return false;
      }
      if (isFirst) {
        member.firstSize = sighting.size;
        if (member.knownBelow !== undefined && !isGzip(sighting.name)) member.knownBelow = sighting.size;
      }
      if (isFirst || member.size !== sighting.size || member.mtimeMs !== sighting.mtimeMs) {
        try {
          if (!(await holds(member))) return false;
          overcome(sighting.name);
        } catch (error) {
          note(sighting.name, error);
          member.hasPassed = true;
          return true;
        }
      }
    }
    if (member.size !== sighting.size || member.mtimeMs !== sighting.mtimeMs) member.isNews = !isKnown;
    member.size = sighting.size;
    member.mtimeMs = sighting.mtimeMs;
    return true;
  };

  /** Handles a file that was not read under this inode before: a copy of a known file, or a new one. */
  const welcome = async (sighting: Sighting) => {
    const before = passedOver.get(sighting.key);
    const isSame = before?.size === sighting.size && before.mtimeMs === sighting.mtimeMs;
    const isOld = clock.now() - sighting.mtimeMs > rotationGraceMs;
    if (isSame && before.original.place !== 'lost' && (before.isDecided || !isOld)) return;
    const content = await openContent(sighting.name, sighting.key);
    let isTaken = false;
    try {
      const heir = await findHeir(content, sighting);
      const original = heir ? undefined : await findOriginal(content, sighting, isOld || !follow);
      if (original) {
        const { size, mtimeMs } = sighting;
        passedOver.set(sighting.key, { size, mtimeMs, ...original });
        if (!original.isDecided) mustLook = true;
        return;
      }
      passedOver.delete(sighting.key);
      const member = heir ? adopt(heir, sighting, content) : await begin(sighting, content);
      isTaken = true;
      await pool.use(member);
    } catch (error) {
      // Somebody is still compressing it.
      if (!isUnfinishedGzip(error) || !follow || isOld) throw error;
      mustLook = true;
    } finally {
      if (!isTaken) await content.close();
    }
  };

  /** The lost file whose bytes these are. */
  const findHeir = async (content: Content, sighting: Sighting): Promise<Member | undefined> => {
    for (const member of members.toReversed()) {
      if (member.place !== 'lost') continue;
      const { agrees, isShort, upTo } = await compare(content, marksOf(member));
      if (agrees && !isShort) return member;
      // A copy may have been made before the last bytes were written, which were read from the original.
      const mayBeShort = !content.gzip && !isLive(sighting) && keyOf(member.entry) !== sighting.key;
      if (agrees && mayBeShort && upTo > sighting.size - 2 * DENSE_BYTES && !isLasting(upTo)) return member;
    }
    return undefined;
  };

  /** The present file of which this is, or may be, a copy: copytruncate between the copy and the truncation. */
  const findOriginal = async (content: Content, sighting: Sighting, mustDecide: boolean) => {
    if (isLive(sighting)) return undefined;
    for (const original of members) {
      if (original.place === 'lost' || !(await compare(content, marksOf(original))).agrees) continue;
      const verdict = await isCopy(content, await open(original));
      if (verdict === 'copy') return { original, isDecided: true };
      if (verdict === 'unclear' && !mustDecide) return { original, isDecided: false };
      // It was emptied at this very moment: the next look finds its heir.
      if (verdict === 'other' && !(await holds(original))) {
        await lose(original);
        return { original, isDecided: false };
      }
    }
    return undefined;
  };

  const isLive = ({ name }: Sighting) => name === path || targets.has(name);

  const attach = (member: Member, sighting: Sighting, content: Content): Member => {
    member.place = 'there';
    member.content = content;
    member.size = sighting.size;
    member.firstSize = sighting.size;
    member.mtimeMs = sighting.mtimeMs;
    owners.set(sighting.key, self);
    return member;
  };

  const adopt = (member: Member, sighting: Sighting, content: Content): Member => {
    const { entry, readAt } = member;
    log.info('a file continues in a copy of it', { path: entry.name, copy: sighting.name, from: readAt });
    entry.name = sighting.name;
    entry.dev = sighting.dev;
    entry.ino = sighting.ino;
    journal.changed(entry);
    calm(member);
    member.isForgettable = false;
    member.isVerified = true;
    member.isNews = true;
    if (!content.gzip && sighting.size < readAt) member.shortBytes = sighting.size;
    return attach(member, sighting, content);
  };

  const begin = async (sighting: Sighting, content: Content): Promise<Member> => {
    const { dev, ino, name, key } = sighting;
    const head = await content.read(0, HEAD_BYTES);
    const nothing = Buffer.alloc(0);
    const marks = lastingMarks(nothing, head, 0);
    if (marks.length === 0 && head.length > 0) marks.push(markAt(head.length, nothing, head, 0)!);
    // Without a time of birth, an inode that is used again would look the same.
    const birth = (await content.born()) || randomUUID();
    let generation = 0;
    for (const { entry } of members) if (entry.born === key) generation = Math.max(generation, entry.generation + 1);
    let identity = identityOf(key, birth, generation);
    while (journal.knows(identity)) identity = identityOf(key, birth, ++generation);
    const entry: JournalEntry = { path, identity, born: key, generation, name, dev, ino, position: 0, marks };
    journal.add(entry);
    const member = createMember(entry);
    member.isVerified = true;
    members.push(member);
    log.info('reading file', { path: name, identity, from: 0 });
    return attach(member, sighting, content);
  };

  /** The cheap look, for when no name has changed. @returns false when one has */
  const lookAtOpen = async (): Promise<boolean> => {
    if (pipe) return true;
    const { found } = await findListings(false);
    if (found.length !== listings.length || found.some((listing, i) => listing !== listings[i])) return false;
    for (const member of members) {
      if (member.isDone || member.place !== 'there') continue;
      const sighting = await see(member.entry.name);
      if (sighting?.key !== keyOf(member.entry)) return false;
      if (member.size !== sighting.size || member.mtimeMs !== sighting.mtimeMs) member.isNews = true;
      member.size = sighting.size;
      member.mtimeMs = sighting.mtimeMs;
    }
    const live = await see(path);
    return live === undefined || live.size === 0 || owners.has(live.key);
  };

  // ---- reading ----

  const calm = (member: Member) => {
    member.cancelQuiet();
    member.cancelQuiet = () => {};
    member.quiet = 'no';
  };

  /** There is nothing new in a rotated file, but its writer may go on writing to it until it opens the new one. */
  const wait = (member: Member) => {
    if (member.quiet !== 'no') return;
    member.quiet = 'waiting';
    const next = (quiet: 'short' | 'long', ms: number, then: () => void) => {
      member.cancelQuiet = clock.after(ms, () => {
        member.quiet = quiet;
        deps.wake(self);
        then();
      });
    };
    next('short', rotationGraceMs, () => next('long', (REMOVED_GRACE - 1) * rotationGraceMs, () => {}));
  };

  /** @returns new bytes; `nothing`; or `changed` when it no longer holds what was read of it */
  const readOn = async (member: Member): Promise<Buffer | 'nothing' | 'changed'> => {
    const { readAt } = member;
    // It was closed for want of descriptors, and no name leads to it any more.
    if (member.place === 'removed' && !member.content) return 'changed';
    const content = await open(member);
    if (content.gzip) {
      const piece = await content.read(readAt, READ_BYTES);
      return piece.length === 0 ? 'nothing' : piece;
    }
    const found = await content.stat();
    if (keyOf(found) !== keyOf(member.entry)) return 'changed';
    if (!member.isVerified && !(await verify(member))) return 'changed';
    if (found.size < readAt && found.size !== member.shortBytes) return 'changed';
    const { tail } = member;
    // The bytes before are read too: a file that was emptied may have outgrown its old size since.
    const overlap = member.shortBytes === undefined && tail ? tail.length : 0;
    const wanted = Math.min(READ_BYTES, Math.max(0, found.size - readAt));
    const room = wanted === READ_BYTES ? ROOMS.take() : undefined;
    const piece = await content.read(readAt - overlap, overlap + wanted, room);
    if (tail && !piece.subarray(0, overlap).equals(tail.subarray(0, overlap))) return 'changed';
    if (piece.length > overlap) return piece.subarray(overlap);
    member.size = found.size;
    member.mtimeMs = found.mtimeMs;
    return 'nothing';
  };

  const take = (member: Member, piece: Buffer): Chunk | undefined => {
    const { entry, splitter, recent, readAt: at } = member;
    const from = splitter.position;
    const tail = member.tail ?? Buffer.alloc(0);
    const split = splitter.split(piece, clock.now());
    // What was unpacked is not the reader's own: what comes next in the file lies behind it.
    const lines = isGzip(entry.name) ? split : { ...split, reuse: () => ROOMS.give(piece) };
    // Marks in memory are made of what was read; those in the journal follow when that is accounted for.
    for (const mark of lastingMarks(tail, piece, at)) recent.push(mark);
    for (let offset = at - (at % DENSE_BYTES) + DENSE_BYTES; offset < at + piece.length; offset += DENSE_BYTES) {
      const mark = markAt(offset, tail, piece, at);
      if (mark) recent.push(mark);
    }
    const end = markAt(splitter.position, tail, piece, at) ?? markAt(at + piece.length, tail, piece, at);
    if (end) recent.push(end);
    member.tail = tailOf(tail, piece);
    member.readAt += piece.length;
    if (entry.finished) {
      delete entry.finished;
      journal.changed(entry);
    }
    member.isDone = false;
    return toChunk(member, lines, from);
  };

  const toChunk = (member: Member, lines: Lines, from: number): Chunk | undefined => {
    const end = member.splitter.position;
    if (end === from) return undefined;
    const { count, bytes } = sizeOf(lines);
    const segment = tracker.open(member.partition, from, end - 1, count);
    if (count === 0) return undefined;
    const { entry, knownBelow } = member;
    const known = knownBelow !== undefined && from < knownBelow ? { knownBelow } : {};
    const origin = { kind: 'file', path, identity: entry.identity, ...known } as const;
    return chunkOfLines({ origin, lines, bytes, done: segment.done });
  };

  /** Nothing more will come: a last line without a line end is delivered. */
  const finish = async (member: Member): Promise<Chunk | undefined> => {
    const from = member.splitter.position;
    const chunk = toChunk(member, linesApart(member.splitter.flush(clock.now())), from);
    member.isDone = true;
    member.hasPassed = true;
    member.cancelHold?.();
    calm(member);
    // From now on it is only remembered, in case a copy appears.
    if (member.place === 'removed') await lose(member);
    else if (member.content?.gzip) await shut(member);
    return chunk;
  };

  /** What to do when everything has been read for now. */
  const atEnd = async (member: Member, isLast: boolean): Promise<Chunk | undefined> => {
    member.isNews = false;
    if (member.isDone) return undefined;
    if (!follow || member.content?.gzip || member.shortBytes !== undefined) return finish(member);
    if (member.place === 'there') {
      if (isLast) return undefined;
      // Nobody has written to it for long, by its time or before our eyes: there is no need to wait.
      const isIdle = clock.now() - member.mtimeMs > rotationGraceMs && member.size === member.firstSize;
      if (isIdle) return finish(member);
    }
    member.cancelHold ??= clock.after(LONGEST_HOLD * rotationGraceMs, () => {
      member.hasPassed = true;
      deps.wake(self);
    });
    wait(member);
    if (member.quiet !== 'waiting') member.hasPassed = true;
    const isEnough = member.place === 'there' ? member.quiet !== 'waiting' : member.quiet === 'long';
    return isEnough ? finish(member) : undefined;
  };

  /** A lost file is waited for as long as a rotation may take; then whatever was not read of it is gone. */
  const awaitCopy = async (member: Member): Promise<Chunk | undefined> => {
    if (member.isForgettable) return undefined;
    wait(member);
    if (follow && member.quiet === 'waiting') return undefined;
    member.isForgettable = true;
    const { entry, readAt, size, isDone, isVerified } = member;
    // Nothing is known since the last run about a file that this process never opened.
    if (!isDone && (size > readAt || !isVerified)) {
      deps.dropped('file_gone');
      const unreadBytes = isVerified ? size - readAt : 'unknown';
      log.warn('a file is gone or was emptied; what was not read of it is lost', {
        path: entry.name,
        identity: entry.identity,
        read: readAt,
        unreadBytes,
      });
    }
    const chunk = isDone ? undefined : await finish(member);
    calm(member);
    member.cancelQuiet = clock.after(REMEMBER_MS, () => forget(member));
    return chunk;
  };

  /** Forgets a file that is gone, but not before its last line is accounted for: the next run needs its identity. */
  const forget = (member: Member) => {
    if (member.place !== 'lost') return;
    if (member.entry.position < member.splitter.position) {
      member.cancelQuiet = clock.after(REMEMBER_MS, () => forget(member));
      return;
    }
    members = members.filter((other) => other !== member);
    journal.remove(member.entry);
  };

  /** A gzip file that breaks off or cannot be unpacked is tried once more after the grace: it may still be being written. */
  const broken = async (member: Member, error: unknown): Promise<Chunk | undefined> => {
    await shut(member);
    wait(member);
    member.hasPassed = true;
    if (follow && member.quiet === 'waiting' && clock.now() - member.mtimeMs <= rotationGraceMs) return undefined;
    deps.dropped('file_damaged');
    log.warn('a compressed file is damaged; what follows the fault is lost', {
      path: member.entry.name,
      read: member.readAt,
      error: errorText(error),
    });
    member.isNews = false;
    return finish(member);
  };

  const advance = async (member: Member, isLast: boolean): Promise<Chunk | undefined> => {
    if (member.place === 'lost') return awaitCopy(member);
    // The next look will notice what is appended to the last file.
    if (!member.isNews && (member.isDone || (isLast && follow && member.place === 'there'))) return undefined;
    if (!journal.holds(member.entry)) return undefined;
    if (isGzip(member.entry.name) && member.quiet === 'waiting') return undefined;
    for (;;) {
      let piece: Buffer | 'nothing' | 'changed';
      try {
        piece = await readOn(member);
        overcome(member.entry.name);
      } catch (error) {
        if (isGone(error)) lookNow = true;
        else if (isGzipFault(error)) return broken(member, error);
        else {
          note(member.entry.name, error);
          member.hasPassed = true;
        }
        return undefined;
      }
      if (piece === 'nothing') return atEnd(member, isLast);
      if (piece === 'changed') {
        log.info('file was truncated', { path: member.entry.name, read: member.readAt });
        await lose(member);
        return undefined;
      }
      // There are late lines: the writer is still at work.
      calm(member);
      const chunk = take(member, piece);
      if (chunk) return chunk;
    }
  };

  /** The files whose turn it is, the one served last at the end. The first that has not passed holds back all after it. */
  const inTurn = (): Member[] => {
    const barrier = members.findIndex(({ hasPassed }) => !hasPassed);
    const eligible = barrier < 0 ? members : members.slice(0, barrier + 1);
    const at = served?.hasPassed ? eligible.indexOf(served) + 1 : 0;
    return [...eligible.slice(at), ...eligible.slice(0, at)];
  };

  const readNext = async (): Promise<Chunk | undefined> => {
    for (let looked = 0; ; ) {
      const turn = inTurn();
      for (const member of turn) {
        const chunk = await advance(member, member === members.at(-1));
        if (!chunk) continue;
        served = member;
        return chunk;
      }
      if (lookNow && looked < MAX_LOOKS) {
        looked += 1;
        await lookAtAll(true);
      } else if (inTurn().length === turn.length) return undefined;
    }
  };

  const failure = (what: string) => new LogpipeError('LOGPIPE_SOURCE_FAILED', `files.paths: ${what}`);

  const self: FileFollower = {
    path,
    hint(name) {
      const file = join(dirname(path), name);
      if (members.some(({ isDone, entry }) => isDone && entry.name === file)) mustLook = true;
    },
    async look() {
      pipe?.look();
      if (pipe || hasEnded) return;
      try {
        looks += 1;
        if (mustLook || looks % THOROUGH_EVERY === 0 || !(await lookAtOpen())) await lookAtAll(false);
      } catch (error) {
        note(path, error);
      }
    },
    async next() {
      if (hasEnded) return undefined;
      const chunk = await (pipe ? pipe.next() : readNext());
      if (chunk || follow) return chunk;
      if (pipe) hasEnded = pipe.hasEnded;
      else {
        const [trouble] = troubles;
        if (trouble) throw failure(`${trouble[0]} cannot be read (${trouble[1]}); make it readable`);
        if (members.length === 0 && !(await isThere(path))) {
          throw failure(`${path} does not exist; name an existing file`);
        }
        const isOver = ({ place, isForgettable, isDone, isNews }: Member) =>
          place === 'lost' ? isForgettable : isDone && !isNews;
        hasEnded = !journal.wanting && !lookNow && members.every(isOver);
      }
      return undefined;
    },
    get finished() {
      return hasEnded;
    },
    get forgotten() {
      return members.length === 0 && pipe === undefined;
    },
    trouble() {
      const [trouble] = troubles;
      return trouble && `${trouble[0]}: ${trouble[1]}`;
    },
    commit() {
      for (const member of members) {
        const { entry, partition, splitter, recent } = member;
        const position = tracker.committable(partition) ?? entry.position;
        if (position > entry.position) {
          entry.position = position;
          const due = recent.filter(([offset]) => offset <= position);
          const newest = due.reduce<Mark | undefined>((a, b) => (a && a[0] > b[0] ? a : b), undefined);
          const lasting = new Map([...entry.marks, ...due].filter(([offset]) => isLasting(offset)));
          if (newest) lasting.set(...newest);
          if (lasting.size > 0) entry.marks = [...lasting].sort(([a], [b]) => a - b);
          recent.splice(0, Math.max(0, due.length - DENSE_MARKS));
          journal.changed(entry);
        }
        if (member.isDone && !member.isNews && member.place === 'there' && position >= splitter.position) {
          if (entry.finished?.size === member.size && entry.finished.mtimeMs === member.mtimeMs) continue;
          entry.finished = { size: member.size, mtimeMs: member.mtimeMs };
          journal.changed(entry);
        }
      }
    },
    async close() {
      hasEnded = true;
      await pipe?.close();
      for (const member of members) {
        member.cancelQuiet();
        member.cancelHold?.();
        await shut(member);
      }
    },
  };

  for (const entry of deps.entries) {
    members.push(createMember(entry, Number.MAX_SAFE_INTEGER));
    owners.set(keyOf(entry), self);
    if (dirname(entry.name) !== dirname(path)) targets.add(entry.name);
    if (!entry.finished) log.info('reading file', { path: entry.name, identity: entry.identity, from: entry.position });
  }
  return self;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function isGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function isGzipFault(error: unknown): boolean {
  return String((error as NodeJS.ErrnoException).code).startsWith('Z_');
}

function isUnfinishedGzip(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'Z_BUF_ERROR';
}

/** The same for one inode whatever its name, and a new one for what is written to it after a truncation. */
function identityOf(inode: string, birth: bigint | string, generation: number): string {
  return createHash('sha256').update(`${inode} ${birth} ${generation}`).digest('hex').slice(0, 20);
}
