// Who owns a spool on disk. In: the spool's folder, where its records are to go. Out: a folder for the records of this process; the
// folders of processes that have died, each for exactly one of those that ask. Guarantee: nobody takes the folder of a process that
// is known to live; whoever dies, also while adopting, leaves folders that can be adopted; a clock that is set makes nobody look
// dead; no link is followed, and what belongs to another user or was written by a newer logpipe is left alone.
//
// <dir>/<destination>/<owner>/owner.json     who the owner is; written to every five seconds
//                            /<spool>/       records of the owner's own, and spools it has adopted
//
// Adopting is one `rename` of a spool out of the dead owner's folder into the adopter's. Its old name says whose it was when the owner
// was judged, so the rename fails for everybody but one, and also for whoever judged an owner that no longer has it. There is no
// moment at which the spool has a new place and an old owner, and nothing to clean up when the adopter dies.
//
// lockFolder (core/private-files.ts) asks only whether a process of this machine lives, for folders of one machine. A spool may lie on
// a volume that several containers and machines share, where nobody sees the others' processes: there a heartbeat decides.
import { createHash, randomBytes } from 'node:crypto';
import { constants, lstatSync, mkdirSync, readdirSync, readlinkSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, lstat, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { type Clock, systemClock } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import { bootId, makePrivateFolder, processStart, unusable, usable, writePrivateSync } from '../core/private-files.ts';

export interface SpoolFolders {
  /**
   * The folder for this owner's records, made when it is first asked for; a new one when the last one is gone: others have adopted
   * it, which happens to a process that was stopped for long, or somebody has deleted it. Synchronous, for the end of the process.
   * @throws LogpipeError LOGPIPE_FOLDER_UNUSABLE
   */
  own(): string;
  /**
   * The spools of dead owners for the same brokers and topic, oldest first: now this owner's. Never rejects. Owners whose processes
   * cannot be seen from here are watched first, and their spools come with a later call.
   */
  adopt(): Promise<string[]>;
  /** How many owners are being watched: nobody knows yet whether they live. */
  readonly watching: number;
  /**
   * Ends the heartbeat. What is empty is deleted; what is not can be adopted by anybody from now on. `own` gives a new folder after
   * it, for the last records of a process.
   */
  close(): void;
}

export interface SpoolFoldersOptions {
  /** The folder of all spools: the option `spool.dir` of the transport. */
  readonly dir: string;
  /** `host:port`; an order of its own means nothing. */
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly service: string;
}

interface SpoolFoldersDeps {
  readonly clock?: Clock;
  /** Said once: what is left alone and why, or why nothing can be adopted. */
  warn?(message: string): void;
  /** In place of what the system says about this process. */
  readonly self?: Partial<ProcessIdentity>;
}

/** What tells a process from every other one. Undefined: the system does not say. */
interface ProcessIdentity {
  readonly host: string;
  readonly bootId: string | undefined;
  /** Only processes of the same namespace see each other. */
  readonly pidNamespace: string | undefined;
  readonly pid: number;
  /** Clock ticks from the boot to the start of the process: process ids are used again. */
  readonly startedTicks: string | undefined;
}

/** owner.json */
interface OwnerRecord extends ProcessIdentity {
  readonly v: number;
  readonly id: string;
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly service: string;
  /** ISO 8601, for people: by the owner's wall clock. */
  readonly createdAt: string;
  /** The owner has given its spools up, whether or not its process lives. */
  readonly closed?: boolean;
}

const FORMAT = 1;
const OWNER_FILE = 'owner.json';
const SETTING = 'spool.dir';
const HEARTBEAT_MS = 5_000;
/** An owner that has been silent for so long by the file system's clock, and does not move while it is watched, is dead. */
const SILENT_MS = 60_000;
/**
 * Looks, one each heartbeat, at which nothing has moved. The second number is for when the file system's clock was set back, so that
 * the silence seems short. Looks are counted, not time: while this process sleeps, so may the owner, and both wake up together.
 */
const QUIET_LOOKS = { silent: 3, always: SILENT_MS / HEARTBEAT_MS };
/** The number of heartbeats, at the end of owner.json: it moves even where the file system keeps no times. */
const BEAT_DIGITS = 10;
const MAX_OWNER_BYTES = 64 * 1024;
const STICKY = 0o1000;

/** Names that logpipe gives; whatever else lies there is none of its business. */
const DESTINATION_NAME = /^[0-9a-f]{16}$/;
const SPOOL_NAME = /^\d{8}T\d{9}Z-[0-9a-f]{12}$/;
/** The owner was dead, and somebody is clearing up after it. */
const GONE_NAME = /^\.gone-\d{8}T\d{9}Z-[0-9a-f]{12}$/;
const OWNER_NAME = /^(?:\.gone-)?\d{8}T\d{9}Z-[0-9a-f]{12}$/;

export function spoolFolders(options: SpoolFoldersOptions, deps: SpoolFoldersDeps = {}): SpoolFolders {
  const { clock = systemClock, warn = () => {} } = deps;
  const { dir, topic, service } = options;
  const brokers = options.brokers.map(withoutCredentials).sort();
  const self = { ...identityOfThisProcess(), ...deps.self };
  const group = join(dir, destinationName(brokers, topic));
  const said = new Set<string>();
  /** Of owners that cannot be judged at once, by folder. */
  const watched = new Map<string, Watched>();
  let home: string | undefined;
  let spool: string | undefined;
  let beats = 0;
  let beatLength = 0;
  let cancelTick: (() => void) | undefined;
  let adopting: Promise<unknown> = Promise.resolve();
  let ticking: Promise<void> = Promise.resolve();
  let isClosed = false;

  function sayOnce(message: string): void {
    if (said.has(message)) return;
    said.add(message);
    warn(message);
  }

  // ---- this owner's folders ----

  function makeHome(): string {
    makePrivateFolder(dir, { own: false });
    sayIfOthers(dir);
    // Before its mode is changed, which would follow a link; again after it was made, for it may have been made by others.
    if (lstatSync(group, { throwIfNoEntry: false }) !== undefined) assertOwn(group);
    makePrivateFolder(group, { own: true });
    assertOwn(group);
    const id = newName(clock);
    const path = join(group, id);
    mkdirSync(path, 0o700);
    try {
      writeOwner(path, id, false);
    } catch (error) {
      // A full disk may have room for a folder, and this is tried again every few seconds.
      rmSync(path, { recursive: true, force: true });
      throw error;
    }
    home = path;
    keepTicking();
    return path;
  }

  /** Whoever owns a folder can put another one in place of what lies in it, unless it is sticky. */
  function sayIfOthers(path: string): void {
    const { uid, mode } = statSync(path);
    if (uid === 0 || uid === (process.geteuid?.() ?? uid) || (mode & STICKY) !== 0) return;
    sayOnce(
      `${SETTING}: ${path} belongs to another user (id ${uid}), who can replace what is in it; name a folder of this user's own`,
    );
  }

  function writeOwner(path: string, id: string, closed: boolean): void {
    const record: OwnerRecord = {
      ...{ v: FORMAT, id, brokers, topic, service },
      ...self,
      createdAt: new Date(clock.now()).toISOString(),
      ...(closed ? { closed } : {}),
    };
    const text = `${JSON.stringify(record)}\n`;
    beatLength = Buffer.byteLength(text);
    writePrivateSync(join(path, OWNER_FILE), `${text}${beatText(beats)}`);
  }

  const ownHome = () => (home !== undefined && isFolder(home) ? home : makeHome());

  function makeSpool(): string {
    const path = join(ownHome(), newName(clock));
    mkdirSync(path, 0o700);
    return path;
  }

  // ---- heartbeat, and watching those of others ----

  function keepTicking(): void {
    if (isClosed || cancelTick !== undefined) return;
    cancelTick = clock.after(HEARTBEAT_MS, () => {
      ticking = tick();
    });
  }

  async function tick(): Promise<void> {
    try {
      await Promise.all([beat(), look()]);
    } catch (error) {
      sayOnce(`${group}: ${reasonInWords(error)}`);
    }
    cancelTick = undefined;
    if (home !== undefined || watched.size > 0) keepTicking();
  }

  async function beat(): Promise<void> {
    const path = home;
    if (path === undefined || (await touch(path)) !== undefined) return;
    // Somebody has deleted it alone: without it this owner would soon look dead.
    const isMissing = (await lstat(join(path, OWNER_FILE)).catch(codeOf)) === 'ENOENT';
    if (isMissing && path === home && isFolder(path)) writeOwner(path, nameOf(path), false);
  }

  /** @returns what the file system takes for now, in ms; undefined when it cannot be written to, or the folder is gone */
  async function touch(path: string): Promise<number | undefined> {
    beats = (beats + 1) % 10 ** BEAT_DIGITS;
    try {
      const file = await open(join(path, OWNER_FILE), constants.O_WRONLY | constants.O_NOFOLLOW);
      try {
        // Written, not given a time: the time is to be the file system's, for hosts' clocks differ.
        await file.write(beatText(beats), beatLength);
        return (await file.stat()).mtimeMs;
      } finally {
        await file.close();
      }
    } catch {
      // A full or broken disk is told by whoever writes records there.
      return undefined;
    }
  }

  /** At those that are watched: has anything moved? */
  async function look(): Promise<void> {
    for (const [path, entry] of watched) {
      if (entry.isDead) continue;
      const { pulse, mtimeMs } = await readOwner(path);
      if (pulse !== entry.pulse) {
        watched.delete(path);
        continue;
      }
      entry.quiet += 1;
      entry.isDead = entry.quiet >= QUIET_LOOKS.always;
      if (entry.isDead || entry.quiet < QUIET_LOOKS.silent) continue;
      const nowMs = await touch(ownHome());
      entry.isDead = nowMs !== undefined && nowMs - mtimeMs >= SILENT_MS;
    }
  }

  // ---- adopting ----

  async function adoptNow(): Promise<string[]> {
    const adopted: string[] = [];
    if (isClosed || !(await isFolderNow(group))) return adopted;
    assertOwn(group, await lstat(group));
    const names = await readdir(group);
    const present = new Set<string>();
    for (const name of names.sort()) {
      const path = join(group, name);
      if (path === home || isClosed) continue;
      if (GONE_NAME.test(name)) {
        await empty(path, adopted);
      } else if (SPOOL_NAME.test(name)) {
        present.add(path);
        if (await isDead(path)) await empty(path, adopted);
      }
    }
    for (const path of watched.keys()) if (!present.has(path)) watched.delete(path);
    return adopted.sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  }

  async function isDead(path: string): Promise<boolean> {
    if (!(await isOwnFolder(path))) return false;
    const found = await readOwner(path);
    const verdict = judge(found, self);
    if (verdict === 'newer') {
      sayOnce(`${path} was written by a newer logpipe and is left alone; upgrade this one to send what is in it`);
    }
    if (verdict !== 'unknown') {
      watched.delete(path);
      return verdict === 'dead';
    }
    const entry = watched.get(path);
    if (entry === undefined) {
      watched.set(path, { pulse: found.pulse, quiet: 0, isDead: false });
      keepTicking();
      return false;
    }
    if (!entry.isDead) return false;
    watched.delete(path);
    return entry.pulse === found.pulse;
  }

  async function isOwnFolder(path: string): Promise<boolean> {
    const wrong = problemOf(await lstat(path).catch(() => undefined));
    if (wrong !== undefined && wrong !== NOT_THERE) sayOnce(`${path} ${wrong}, and is left alone`);
    return wrong === undefined;
  }

  /** Takes the spools of a dead owner, and clears away what is left of it. */
  async function empty(path: string, adopted: string[]): Promise<void> {
    try {
      await takeSpools(path, adopted);
      // Under a name that says so, in case that the owner wakes up just now: it cannot write there unnoticed.
      const gone = GONE_NAME.test(nameOf(path)) ? path : join(group, `.gone-${nameOf(path)}`);
      if (gone !== path) {
        await rename(path, gone);
        await takeSpools(gone, adopted);
      }
      for (const name of [OWNER_FILE, `${OWNER_FILE}.part`]) await rm(join(gone, name), { force: true });
      await rmdir(gone);
    } catch (error) {
      // Others are clearing up as well, or something that is not logpipe's lies there.
      if (['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return;
      sayOnce(`${path}: what a process has left there cannot be taken over (${reasonInWords(error)})`);
    }
  }

  async function takeSpools(path: string, adopted: string[]): Promise<void> {
    for (const name of await readdir(path)) {
      const from = join(path, name);
      if (!SPOOL_NAME.test(name) || !(await isOwnFolder(from))) continue;
      if ((await rmdir(from).then(yes, no)) || isClosed) continue;
      const to = join(ownHome(), name);
      try {
        await rename(from, to);
        adopted.push(to);
      } catch (error) {
        // Another one was quicker.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
  }

  return {
    own() {
      if (spool === undefined || !isFolder(spool)) spool = usable(SETTING, group, makeSpool);
      return spool;
    },
    adopt() {
      const result = Promise.all([adopting, ticking])
        .then(adoptNow)
        .catch((error) => {
          sayOnce(errorText(unusable(SETTING, group, error)));
          return [];
        });
      adopting = result;
      return result;
    },
    get watching() {
      let count = 0;
      for (const { isDead } of watched.values()) if (!isDead) count++;
      return count;
    },
    close() {
      if (isClosed) return;
      isClosed = true;
      cancelTick?.();
      watched.clear();
      const path = home;
      home = undefined;
      spool = undefined;
      if (path === undefined) return;
      try {
        const left = readdirSync(path).filter((name) => SPOOL_NAME.test(name) && !isRemoved(join(path, name)));
        if (left.length > 0) {
          writeOwner(path, nameOf(path), true);
        } else {
          rmSync(join(path, OWNER_FILE), { force: true });
          rmdirSync(path);
        }
      } catch {
        // It stays, and is adopted when this process has ended.
      }
    },
  };
}

interface Watched {
  /** What was seen at the first look. */
  readonly pulse: string;
  quiet: number;
  isDead: boolean;
}

// ---- all owners, for people ----

/** An owner of spools below a folder, as `logpipe ship --spool` shows it. */
export interface SpoolOwner {
  /** Where its spools are to go; undefined when no owner.json says so. */
  readonly destination: { readonly brokers: readonly string[]; readonly topic: string } | undefined;
  /** Undefined when there is no readable owner.json. */
  readonly process:
    | (Pick<OwnerRecord, 'service' | 'host' | 'pid'> & { /** ISO 8601. */ readonly since: string })
    | undefined;
  /** `unknown`: its process cannot be seen from here, and has to be watched. */
  readonly state: Verdict;
  /** The folder of the owner. */
  readonly path: string;
  /** The folders of its spools, oldest first. */
  readonly spools: readonly string[];
}

/**
 * All owners below the folder, grouped by destination, oldest first. What is not logpipe's or belongs to another user is left out
 * and told to `warn`.
 * @throws LogpipeError LOGPIPE_FOLDER_UNUSABLE when it cannot be read
 */
export async function listSpools(dir: string, warn: (message: string) => void = () => {}): Promise<SpoolOwner[]> {
  const self = identityOfThisProcess();
  const owners: SpoolOwner[] = [];
  const isOwn = async (path: string): Promise<boolean> => {
    const wrong = problemOf(await lstat(path).catch(() => undefined));
    if (wrong !== undefined && wrong !== NOT_THERE) warn(`${path} ${wrong}, and is left alone`);
    return wrong === undefined;
  };
  /** Names inside, sorted; none when the folder has been moved meanwhile. */
  const inside = async (path: string, name: RegExp): Promise<string[]> => {
    const names = await readdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' && path !== dir) return [];
      throw unusable(SETTING, path, error);
    });
    const paths = names.filter((one) => name.test(one)).map((one) => join(path, one));
    const own: string[] = [];
    for (const one of paths.sort()) if (await isOwn(one)) own.push(one);
    return own;
  };
  for (const group of await inside(dir, DESTINATION_NAME)) {
    const found: Omit<SpoolOwner, 'destination'>[] = [];
    let destination: SpoolOwner['destination'];
    for (const path of await inside(group, OWNER_NAME)) {
      const spools = await inside(path, SPOOL_NAME);
      const owner = await readOwner(path);
      const { record } = owner;
      if (record !== undefined) destination = { brokers: record.brokers, topic: record.topic };
      found.push({
        process: record && {
          ...{ service: record.service, host: record.host, pid: record.pid },
          since: record.createdAt,
        },
        state: GONE_NAME.test(nameOf(path)) ? 'dead' : judge(owner, self),
        ...{ path, spools },
      });
    }
    owners.push(...found.map((owner) => ({ ...owner, destination })));
  }
  return owners;
}

// ---- is the owner alive? ----

interface FoundOwner {
  readonly record: OwnerRecord | undefined;
  /** Written by a newer logpipe. */
  readonly isNewer: boolean;
  /** Another text after every heartbeat. */
  readonly pulse: string;
  readonly mtimeMs: number;
}

/** Never rejects: an owner that has no readable owner.json (a crash, a power cut) is judged by its silence. */
async function readOwner(path: string): Promise<FoundOwner> {
  let file: FileHandle | undefined;
  try {
    // Opened anew each time: network file systems answer from memory otherwise.
    file = await open(join(path, OWNER_FILE), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await file.stat({ bigint: true });
    if (!stat.isFile() || stat.size > MAX_OWNER_BYTES) throw new Error('not a file that logpipe writes');
    const text = await file.readFile('utf8');
    const pulse = `${stat.ino} ${stat.mtimeNs} ${text}`;
    return { ...parsed(text), pulse, mtimeMs: Number(stat.mtimeMs) };
  } catch {
    const stat = await lstat(path, { bigint: true }).catch(() => undefined);
    return {
      ...{ record: undefined, isNewer: false },
      ...{ pulse: `${stat?.ino} ${stat?.mtimeNs}`, mtimeMs: Number(stat?.mtimeMs ?? 0) },
    };
  } finally {
    await file?.close();
  }
}

function parsed(text: string): Pick<FoundOwner, 'record' | 'isNewer'> {
  try {
    const value = JSON.parse(text.slice(0, text.indexOf('\n'))) as Partial<OwnerRecord> | null;
    if (typeof value?.v !== 'number') return { record: undefined, isNewer: false };
    if (value.v > FORMAT) return { record: undefined, isNewer: true };
    const isWhole =
      [value.id, value.topic, value.service, value.host, value.createdAt].every((one) => typeof one === 'string') &&
      Number.isSafeInteger(value.pid) &&
      (value.pid as number) > 0 &&
      Array.isArray(value.brokers) &&
      value.brokers.every((broker) => typeof broker === 'string');
    return { record: isWhole ? (value as OwnerRecord) : undefined, isNewer: false };
  } catch {
    return { record: undefined, isNewer: false };
  }
}

type Verdict = 'alive' | 'dead' | 'unknown' | 'newer';

/** As far as it can be told at once. */
function judge({ record, isNewer }: FoundOwner, self: ProcessIdentity): Verdict {
  if (isNewer) return 'newer';
  if (record === undefined) return 'unknown';
  if (record.closed === true) return 'dead';
  const { bootId: boot, pidNamespace, startedTicks } = record;
  const isVisible =
    ![boot, pidNamespace, startedTicks].includes(undefined) &&
    boot === self.bootId &&
    pidNamespace === self.pidNamespace;
  // Two machines may have the same name: another boot of the same host could be another host that lives.
  if (!isVisible) return 'unknown';
  const start = processStart(record.pid);
  if (start !== undefined) return start.ticks === startedTicks && !start.hasEnded ? 'alive' : 'dead';
  try {
    process.kill(record.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'dead';
  }
  // There is such a process, and the system hides when it started.
  return 'unknown';
}

function identityOfThisProcess(): ProcessIdentity {
  const { pid } = process;
  const seen = { host: hostname(), bootId: bootId(), pid };
  try {
    // /proc may show another namespace's processes; its numbers would mean nothing.
    if (readlinkSync('/proc/self') === String(pid)) {
      return { ...seen, pidNamespace: readlinkSync('/proc/self/ns/pid'), startedTicks: processStart(pid)?.ticks };
    }
  } catch {
    // Not Linux.
  }
  return { ...seen, pidNamespace: undefined, startedTicks: undefined };
}

// ---- names and folders ----

/** Sorts by time, for people too. */
function newName(clock: Clock): string {
  const time = new Date(clock.now()).toISOString().replace(/[-:.]/g, '');
  return `${time}-${randomBytes(6).toString('hex')}`;
}

const nameOf = (path: string) => basename(path);

function beatText(beats: number): string {
  return `${String(beats).padStart(BEAT_DIGITS, '0')}\n`;
}

/** An address may come with a name and a password in front, which is a mistake that must not reach a file. */
function withoutCredentials(broker: string): string {
  return broker.slice(broker.lastIndexOf('@') + 1);
}

/** The same for the same brokers and topic, whatever the order. */
function destinationName(brokers: readonly string[], topic: string): string {
  return createHash('sha256')
    .update(JSON.stringify([brokers, topic]))
    .digest('hex')
    .slice(0, 16);
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

async function isFolderNow(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() === true;
}

function isRemoved(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}

const codeOf = (error: NodeJS.ErrnoException) => error.code;
const yes = () => true;
const no = () => false;

const NOT_THERE = 'is not there';

interface Looked {
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  readonly uid: number;
}

/** Why this is no folder of logpipe's; undefined when it is one. */
function problemOf(found: Looked | undefined): string | undefined {
  if (found === undefined) return NOT_THERE;
  if (found.isSymbolicLink()) return 'is a link, which logpipe does not follow here';
  if (!found.isDirectory()) return 'is not a folder';
  const me = process.geteuid?.();
  if (me !== undefined && found.uid !== me) return `belongs to another user (id ${found.uid}; this one has id ${me})`;
  return undefined;
}

/** @throws LogpipeError LOGPIPE_FOLDER_UNUSABLE */
function assertOwn(path: string, found: Looked | undefined = lstatSync(path, { throwIfNoEntry: false })): void {
  const wrong = problemOf(found);
  if (wrong === undefined) return;
  throw new LogpipeError(
    'LOGPIPE_FOLDER_UNUSABLE',
    `${SETTING}: ${path} ${wrong}; remove it, or name a folder of this user's own`,
  );
}
