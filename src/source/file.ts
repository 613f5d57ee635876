// The file source (embedded mode). In: the configured files, followed through rotations. Out: chunks of lines.
// Guarantee: `positions.json` never runs ahead of what is acknowledged, and one process at a time uses it.
import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Deliver, Source } from '../core/record.ts';
import { createFileFollower, type FileFollower } from './file-follower.ts';
import { type FileJournal, openJournal } from './file-journal.ts';
import type { FilesConfig } from './files-config.ts';
import { lockFolder } from './folder-lock.ts';
import { createOffsetTracker } from './offset-tracker.ts';
import { settleable } from './settleable.ts';

const CLOSE_MS = 1_000;

/**
 * Reads `files.paths` from their beginning, or from where the last run was. With `follow` it never ends.
 * `start` rejects with LOGPIPE_SOURCE_FAILED when the data folder is in use or unreadable; `ended` with the same when,
 * without `follow`, a file cannot be read.
 */
export function createFileSource(config: FilesConfig, deps: { log: Log; clock: Clock }): Source {
  const { log, clock } = deps;
  const tracker = createOffsetTracker();
  const ended = settleable();
  const watchers: FSWatcher[] = [];
  let followers: FileFollower[] = [];
  let journal: FileJournal | undefined;
  let unlock = () => {};
  let lanes = 0;
  let stopping = false;
  let started = false;
  let troubled: string | undefined;
  let loop: Promise<void> = Promise.resolve();
  let cancelSave = () => {};
  let wake = new AbortController();

  const wakeUp = () => wake.abort();
  /** Until something happens or it is time to look anyway. Keeps the process alive. */
  const idle = async () => {
    await sleep(config.pollIntervalMs, wake.signal);
    wake = new AbortController();
  };

  const watchFolders = () => {
    const names = new Set(config.paths.map((path) => basename(path)));
    for (const folder of new Set(config.paths.map((path) => dirname(resolve(path))))) {
      try {
        const watcher = watch(folder, (_event, name) => {
          if (name === null || names.has(name)) wakeUp();
        });
        // A folder that is removed or a limit of the system: polling goes on.
        watcher.on('error', () => watcher.close());
        watchers.push(watcher);
      } catch (error) {
        log.debug('changes are not announced; polling', { folder, error: errorText(error) });
      }
    }
  };

  const read = async (follower: FileFollower) => {
    try {
      const chunk = await follower.next();
      troubled = undefined;
      return chunk;
    } catch (error) {
      if (stopping) return undefined;
      if (!config.follow) throw error;
      if (troubled === undefined) log.error('a file cannot be read; trying again', { error: errorText(error) });
      troubled = errorText(error);
      return undefined;
    }
  };

  const run = async (deliver: Deliver) => {
    while (!stopping) {
      let idleRound = true;
      for (const follower of followers) {
        const chunk = await read(follower);
        if (stopping) return;
        if (!chunk) continue;
        idleRound = false;
        await deliver(chunk);
      }
      if (followers.every((follower) => follower.finished)) return ended.resolve();
      if (idleRound) await idle();
    }
  };

  const save = async () => {
    for (const follower of followers) follower.settle();
    await journal?.save();
  };

  const scheduleSave = () => {
    cancelSave = clock.after(config.commitIntervalMs, () => {
      save()
        .catch((error) => log.error('the positions could not be written down', { error: errorText(error) }))
        .finally(() => {
          if (started) scheduleSave();
        });
    });
  };

  return {
    ended: ended.promise,

    async start(deliver) {
      unlock = lockFolder(config.dataDir);
      try {
        const opened = openJournal(config.dataDir);
        journal = opened;
        followers = config.paths.map((path) =>
          createFileFollower(
            {
              path: resolve(path),
              follow: config.follow,
              maxLineBytes: config.maxLineBytes,
              rotationGraceMs: 2 * config.pollIntervalMs,
            },
            { journal: opened, tracker, newLane: () => lanes++, log, clock },
          ),
        );
      } catch (error) {
        unlock();
        throw error;
      }
      if (config.follow) watchFolders();
      started = true;
      scheduleSave();
      loop = run(deliver).catch((error: Error) => {
        troubled = errorText(error);
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
      for (const watcher of watchers) watcher.close();
      if (!wasStarted) return;
      await save();
      for (const follower of followers) await follower.close();
      // A chunk that nobody takes any more must not keep the process from ending.
      await Promise.race([loop, new Promise<void>((resolve) => clock.after(CLOSE_MS, resolve))]);
      unlock();
    },

    status: () => ({
      ready: started && !stopping && troubled === undefined,
      detail: troubled ?? `reading ${config.paths.join(', ')}`,
    }),
  };
}
