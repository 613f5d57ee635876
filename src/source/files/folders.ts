// What the folders contain. In: folders. Out: the names that belong to a live name, and the name that leads to an inode.
// Guarantee: a folder is read again only when it has changed, once for all the files that are followed in it.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { liveNamesOf } from './content.ts';

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
