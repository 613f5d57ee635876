// The file source. In: the configured files, and those that patterns name by and by, followed through rotations. Out: chunks of lines from all files in
// turn. Guarantee: the journal never runs ahead of what is acknowledged, and only one process at a time uses it; a file that
// cannot be read holds up no other.
import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Clock, deferred, endsWithin, sleep } from '../../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Metrics } from '../../core/metrics.ts';
import { lockFolder } from '../../core/private-files.ts';
import type { Deliver, Source } from '../../core/record.ts';
import { createOffsetTracker } from '../kafka/offset-tracker.ts';
import { createJoiner, type Joiner, type MultilineRule, multilineSection } from '../lines.ts';
import { type FileJournal, openJournal } from './checkpoints.ts';
import { createFolders, createPatterns, liveNamesOf } from './content.ts';
import { createFileFollower, type DescriptorPool, type FileFollower, type FollowerDeps } from './follower.ts';

const CLOSE_MS = 1_000;
const MAX_OPEN = 256;
/** Looking at all files takes at most this share of the time, and so does looking for what a pattern names. */
const LOOK_SHARE = 0.1;
/** How often new files are looked for, unless their folder announces them. */
const EXPAND_MS = 5_000;
/** Files looked at side by side: a slow system call for one must not hold up the others. */
const LOOKERS = 8;

export const filesSection = {
  type: 'object',
  description: 'Files with one JSON record per line, for `source: files`. Always read from their beginning.',
  additionalProperties: false,
  default: {},
  properties: {
    paths: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      minItems: 1,
      uniqueItems: true,
      description:
        'Files to read, or patterns such as `/var/log/nginx/*.log`. Name a file as its writer does; rotated files are found automatically, see docs/files.md.',
      default: ['logs/app.log'],
    },
    follow: {
      type: 'boolean',
      description: 'Wait for more at the end of a file. Off: everything is read once and the process ends.',
      default: true,
    },
    dataDir: {
      type: 'string',
      minLength: 1,
      description: 'Folder that remembers how far each file was read; one running logpipe per folder.',
      default: '.logpipe/files',
    },
    pollIntervalMs: {
      type: 'integer',
      minimum: 20,
      maximum: 60_000,
      description: 'How often files are looked at when the system does not announce changes.',
      default: 1_000,
    },
    commitIntervalMs: {
      type: 'integer',
      minimum: 10,
      maximum: 60_000,
      description: 'How often positions are saved.',
      default: 500,
    },
    maxLineBytes: {
      type: 'integer',
      minimum: 1_000,
      maximum: 16_000_000,
      description:
        'Longer lines are cut to this many bytes; also for `source: stdin`. Default: the longest record Kafka takes.',
      default: 1_048_588,
    },
    multiline: multilineSection,
  },
} as const;

export interface FilesConfig {
  readonly paths: readonly string[];
  readonly follow: boolean;
  readonly dataDir: string;
  readonly pollIntervalMs: number;
  readonly commitIntervalMs: number;
  readonly maxLineBytes: number;
  readonly multiline?: MultilineRule;
}

export interface FileSourceDeps {
  readonly log: Log;
  readonly clock: Clock;
  /** Counts what is lost or skipped. Left out by the second reader of the same files. */
  readonly metrics?: Pick<Metrics, 'dropped' | 'fileHoleBytes'>;
}

/**
 * Reads `files.paths` and what was rotated from them, from their beginning or from where the last run was. With `follow` it
 * never ends. `start` rejects with LOGPIPE_SOURCE_FAILED when the data folder is in use or unreadable; `ended` with the same
 * when, without `follow`, a file cannot be read.
 */
export function createFileSource(config: FilesConfig, deps: FileSourceDeps): Source {
  const { log, clock, metrics } = deps;
  const tracker = createOffsetTracker();
  const ended = deferred();
  /** Of the folders of all followers, with these by their live names. */
  const watched = new Map<
    string,
    { readonly lives: Map<string, FileFollower>; readonly watcher: FSWatcher | undefined }
  >();
  const folders = createFolders();
  const patterns = createPatterns(config.paths);
  /** Every path that is followed. */
  const paths = new Set<string>();
  let followers: FileFollower[] = [];
  let shared: Omit<FollowerDeps, 'entries'> | undefined;
  let nextExpansionMs = 0;
  let joiner: Joiner | undefined;
  let journal: FileJournal | undefined;
  let unlock = () => {};
  let partitions = 0;
  let stopping = false;
  let started = false;
  let failed: string | undefined;
  let diskTrouble: string | undefined;
  let loop: Promise<void> = Promise.resolve();
  let cancelSave = () => {};
  let cancelLook = () => {};
  let isLookDue = true;
  /** Followers for which a change was announced since the last look. */
  const changed = new Set<FileFollower>();
  /** Followers that may have something to read. */
  const busy = new Set<FileFollower>();
  let wake = new AbortController();

  const wakeUp = () => wake.abort();

  const lookSoon = () => {
    isLookDue = true;
    wakeUp();
  };

  /** Waits until something happens or the next look is due. Keeps the process alive. */
  const idle = () => {
    wake = new AbortController();
    return sleep(config.pollIntervalMs, wake.signal);
  };

  const watchFolder = (follower: FileFollower) => {
    const { path } = follower;
    const folder = dirname(path);
    const known = watched.get(folder);
    const lives = known?.lives ?? new Map<string, FileFollower>();
    lives.set(basename(path), follower);
    if (known !== undefined) return;
    let watcher: FSWatcher | undefined;
    try {
      watcher = watch(folder, (_event, name) => {
        if (name === null) return lookSoon();
        let isKnown = false;
        for (const live of [name, ...liveNamesOf(name)]) {
          const found = lives.get(live);
          if (!found) continue;
          isKnown = true;
          found.hint(name);
          changed.add(found);
        }
        if (!isKnown && patterns.matches(join(folder, name))) {
          nextExpansionMs = 0;
          return lookSoon();
        }
        if (changed.size > 0) wakeUp();
      });
      // The folder was removed, or the system has reached a limit: polling goes on.
      watcher.on('error', () => watcher?.close());
    } catch (error) {
      log.debug('changes are not announced; polling', { folder, error: errorText(error) });
    }
    watched.set(folder, { lives, watcher });
  };

  const followPath = (path: string) => {
    paths.add(path);
    const { dataDir: _, follow, maxLineBytes, pollIntervalMs } = config;
    const entries = [...journal!.entries].filter((entry) => entry.path === path);
    const options = { path, follow, maxLineBytes, rotationGraceMs: 2 * pollIntervalMs };
    const follower = createFileFollower(options, { ...shared!, entries });
    followers.push(follower);
    if (follow) watchFolder(follower);
  };

  /** Follows what the patterns name by now, and lets go of what is gone. */
  const expand = async () => {
    const startedMs = performance.now();
    const found = new Set(await patterns.expand(paths));
    for (const path of found) if (!paths.has(path)) followPath(path);
    for (const follower of followers) {
      const { path } = follower;
      if (found.has(path) || patterns.literal.includes(path) || !follower.forgotten) continue;
      paths.delete(path);
      watched.get(dirname(path))?.lives.delete(basename(path));
      busy.delete(follower);
      changed.delete(follower);
      await follower.close();
    }
    followers = followers.filter(({ path }) => paths.has(path));
    const tookMs = performance.now() - startedMs;
    nextExpansionMs = performance.now() + Math.max(EXPAND_MS, config.pollIntervalMs, tookMs / LOOK_SHARE);
  };

  /** A full disk costs positions, never the process: logged once, tried again with every commit. */
  const save = async () => {
    try {
      await journal?.save();
      if (diskTrouble !== undefined) log.info('positions are saved again', { dataDir: config.dataDir });
      diskTrouble = undefined;
    } catch (error) {
      if (diskTrouble === undefined) {
        log.error('the positions could not be saved; trying again', { error: errorText(error) });
      }
      diskTrouble = reasonInWords(error);
    }
  };

  const mustLook = () => isLookDue || changed.size > 0;

  /** Looks at all files when that is due, else at those for which a change was announced. */
  const look = async () => {
    const isRound = isLookDue;
    isLookDue = false;
    if (isRound && patterns.hasWildcards && performance.now() >= nextExpansionMs) await expand();
    const due = isRound ? followers : [...changed];
    changed.clear();
    const startedAt = performance.now();
    folders.nextRound();
    const queue = due.values();
    const lookInTurn = async () => {
      for (const follower of queue) {
        if (stopping) return;
        await follower.look();
        busy.add(follower);
      }
    };
    await Promise.all(Array.from({ length: Math.min(LOOKERS, due.length) }, lookInTurn));
    if (stopping) return;
    // New files must be in the journal before their first line is delivered; one write serves all of them.
    if (journal?.wanting) await save();
    if (!isRound) return;
    cancelLook();
    cancelLook = clock.after(Math.max(config.pollIntervalMs, (performance.now() - startedAt) / LOOK_SHARE), lookSoon);
  };

  /** Files are rotated and removed even while nobody takes a chunk, so they are still looked at and held open. */
  const hand = async (delivered: Promise<void>) => {
    let isTaken = false;
    const taken = delivered.finally(() => {
      isTaken = true;
      wakeUp();
    });
    taken.catch(() => {});
    while (!isTaken && !stopping) {
      await Promise.race([taken, idle()]);
      if (!isTaken && !stopping && mustLook()) await look();
    }
    if (isTaken) await taken;
  };

  const run = async (deliver: Deliver) => {
    let failure: unknown;
    while (!stopping) {
      if (mustLook()) await look();
      for (const follower of [...busy]) {
        const chunk = await follower.next().catch((error: unknown) => {
          failure ??= error;
          return undefined;
        });
        if (stopping) return;
        if (!chunk) {
          busy.delete(follower);
          if (journal?.wanting) {
            await save();
            if (diskTrouble === undefined) busy.add(follower);
          }
          continue;
        }
        await hand(deliver(chunk));
        if (stopping) return;
      }
      if (busy.size > 0 || mustLook()) continue;
      if (failure !== undefined) throw failure;
      if (followers.every((follower) => follower.finished) && (followers.length > 0 || !config.follow)) {
        await joiner?.flush();
        return ended.resolve();
      }
      await idle();
    }
  };

  const commit = async () => {
    for (const follower of followers) follower.commit();
    await save();
  };

  const scheduleSave = () => {
    cancelSave = clock.after(config.commitIntervalMs, () => {
      commit().finally(() => {
        if (started) scheduleSave();
      });
    });
  };

  const open = async () => {
    journal = openJournal(config.dataDir);
    shared = {
      journal,
      tracker,
      folders,
      pool: createPool(),
      owners: new Map<string, FileFollower>(),
      paths,
      newPartition: () => partitions++,
      wake(follower: FileFollower) {
        busy.add(follower);
        wakeUp();
      },
      dropped: (reason: 'file_gone' | 'file_damaged') => metrics?.dropped.inc({ reason }),
      skipped: (bytes: number) => metrics?.fileHoleBytes.inc(bytes),
      log,
      clock,
    };
    // A file that a former run followed is one even while it is away: what was rotated from it is no file of its own.
    const former = [...journal.entries].map(({ path }) => path).filter(patterns.matches);
    for (const path of new Set([...patterns.literal, ...former])) followPath(path);
    if (!patterns.hasWildcards) return;
    await expand();
    if (config.follow || followers.length > 0) return;
    throw new LogpipeError(
      'LOGPIPE_SOURCE_FAILED',
      `files.paths: ${config.paths.join(', ')} matches no file; name existing files`,
    );
  };

  const letGo = () => {
    for (const { watcher } of watched.values()) watcher?.close();
    joiner?.close();
  };

  const trouble = () => {
    if (failed !== undefined) return failed;
    const troubled = followers.map((follower) => follower.trouble()).filter((text) => text !== undefined);
    if (diskTrouble !== undefined) troubled.unshift(`positions are not written down: ${diskTrouble}`);
    const more = troubled.length > 3 ? `, and ${troubled.length - 3} more` : '';
    return troubled.length === 0 ? undefined : troubled.slice(0, 3).join('; ') + more;
  };

  return {
    ended: ended.promise,

    async start(deliver) {
      unlock = lockFolder(config.dataDir, 'files.dataDir');
      try {
        await open();
      } catch (error) {
        letGo();
        unlock();
        throw error;
      }
      started = true;
      scheduleSave();
      joiner = config.multiline && createJoiner(config.multiline, deliver, { clock, maxBytes: config.maxLineBytes });
      loop = run(joiner?.deliver ?? deliver).catch((error: Error) => {
        failed = errorText(error);
        ended.reject(error);
      });
    },

    async stop() {
      stopping = true;
      wakeUp();
    },

    async close() {
      stopping = true;
      wakeUp();
      const wasStarted = started;
      started = false;
      cancelSave();
      cancelLook();
      letGo();
      if (!wasStarted) return;
      // A chunk that nobody takes any more must not keep the process from ending.
      await endsWithin(loop, CLOSE_MS, clock.after);
      await commit();
      for (const follower of followers) await follower.close();
      unlock();
    },

    status() {
      const detail = trouble();
      const { length } = followers;
      const reading = length > 10 ? `reading ${length} files` : `reading ${config.paths.join(', ')}`;
      return { ready: started && !stopping && detail === undefined, detail: detail ?? reading };
    },
  };
}

/** At most `MAX_OPEN` descriptors, whatever the number of files. */
function createPool(): DescriptorPool {
  type Member = Parameters<DescriptorPool['use']>[0];
  /** Longest unused first. */
  const open = new Set<Member>();
  return {
    async use(member) {
      open.delete(member);
      open.add(member);
      if (open.size <= MAX_OPEN) return;
      const [oldest] = open;
      open.delete(oldest!);
      await oldest!.release();
    },
    drop: (member) => void open.delete(member),
  };
}
