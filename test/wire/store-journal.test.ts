// The journal of the embedded mode: whatever a crash leaves of the file, every commit that resolved is there, whole.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LostTermError, openJournalStore, readJournal } from '../../src/alerter/store.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import type { StateChange } from '../../src/incidents/records.ts';

/** What the disk does to the next writes: `half` writes half of the bytes and fails; `unsynced` fails when forced. */
const disk = vi.hoisted(() => ({ fault: 'none' as 'none' | 'half' | 'unsynced' | 'rename' }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const full = () => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  const faulty = (file: FileHandle): FileHandle =>
    new Proxy(file, {
      get(target, name) {
        if (name === 'write' && disk.fault === 'half') {
          return async (bytes: Buffer, offset: number, length: number, position: number) => {
            await target.write(bytes, offset, Math.ceil(length / 2), position);
            throw full();
          };
        }
        if (name === 'datasync' && disk.fault === 'unsynced') return () => Promise.reject(full());
        const value = Reflect.get(target, name) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  return {
    ...real,
    open: async (...args: Parameters<typeof real.open>) => faulty(await real.open(...args)),
    rename: (from: string, to: string) => (disk.fault === 'rename' ? Promise.reject(full()) : real.rename(from, to)),
  };
});

const COMMITS: readonly (readonly StateChange[])[] = [
  [{ key: 'alert/a', value: { text: 'line\nend, "quote", é, 🚨' } }],
  [
    { key: 'alert/a', value: { n: 2 } },
    { key: 'outbox/000000000001-slack', value: { deep: [{ x: null }] } },
  ],
  [
    { key: 'alert/a', value: null },
    { key: 'incident/1', value: {} },
  ],
];
/** The records after so many commits. */
const AFTER = COMMITS.reduce<Record<string, object>[]>(
  (states, changes) => {
    const next = new Map(Object.entries(states.at(-1) ?? {}));
    for (const { key, value } of changes) {
      if (value === null) next.delete(key);
      else next.set(key, value);
    }
    states.push(Object.fromEntries(next));
    return states;
  },
  [{}],
);

let root: string;
let folders = 0;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'logpipe-journal-'));
});
afterEach(() => {
  disk.fault = 'none';
  rmSync(root, { recursive: true, force: true });
});

const newFolder = () => join(root, `f${++folders}`);
const fileOf = (folder: string) => join(folder, 'alerts.journal');
const open = (folder: string, more: { log?: Log; rewriteMinBytes?: number } = {}) => {
  const { log = silentLog, ...options } = more;
  return openJournalStore({ folder, ...options }, { log });
};

async function contents(folder: string, log?: Log): Promise<Record<string, object>> {
  const store = await open(folder, log === undefined ? {} : { log });
  await store.close();
  return Object.fromEntries(store.initial);
}

function folderWith(bytes: Buffer): string {
  const folder = newFolder();
  mkdirSync(folder);
  writeFileSync(fileOf(folder), bytes);
  return folder;
}

/** A journal of all commits, and its length after each. */
async function written(): Promise<{ bytes: Buffer; ends: number[] }> {
  const folder = newFolder();
  const store = await open(folder);
  const ends = [0];
  for (const changes of COMMITS) {
    await store.commit(changes);
    ends.push(statSync(fileOf(folder)).size);
  }
  await store.close();
  return { bytes: readFileSync(fileOf(folder)), ends };
}

describe('a crash', () => {
  test('at every byte of every commit, with and without garbage behind it: all before it is there, and writing goes on', async () => {
    const { bytes, ends } = await written();
    for (let cut = 0; cut <= bytes.length; cut++) {
      const whole = ends.filter((end) => end <= cut).length - 1;
      for (const garbage of [Buffer.alloc(0), Buffer.alloc(64), Buffer.from('00000000 []\n{}\n')]) {
        const folder = folderWith(Buffer.concat([bytes.subarray(0, cut), garbage]));
        const store = await open(folder);
        expect(Object.fromEntries(store.initial), `cut at ${cut}`).toEqual(AFTER[whole]);
        if (garbage.length > 0) {
          await store.close();
          expect(statSync(fileOf(folder)).size).toBe(ends[whole]);
          continue;
        }
        await store.commit([{ key: 'after/crash', value: { cut } }]);
        await store.close();
        expect(await contents(folder)).toEqual({ ...AFTER[whole], 'after/crash': { cut } });
      }
    }
  });

  test('a changed byte in the last commit leaves it out; in an earlier one it is left out too, and said as damage', async () => {
    const { bytes, ends } = await written();
    const errors: string[] = [];
    const log: Log = { ...silentLog, error: (message) => errors.push(message) };
    const flipped = (at: number) => {
      const copy = Buffer.from(bytes);
      copy[at] = (copy[at] as number) ^ 1;
      return folderWith(copy);
    };
    expect(await contents(flipped((ends[2] as number) + 20), log)).toEqual(AFTER[2]);
    expect(errors).toEqual([]);
    const rest = await contents(flipped((ends[1] as number) + 20), log);
    expect(rest).toEqual({ 'incident/1': {} });
    expect(errors).toEqual(['The alert journal is damaged: some of its commits were left out']);
  });

  test('while it is rewritten: the old journal counts until the new one has its name', async () => {
    const { bytes } = await written();
    const folder = folderWith(bytes);
    writeFileSync(`${fileOf(folder)}.new`, bytes.subarray(0, 40));
    expect(await contents(folder)).toEqual(AFTER[3]);
    expect(existsSync(`${fileOf(folder)}.new`)).toBe(false);
  });
});

describe('a disk that fails', () => {
  test.each(['half', 'unsynced'] as const)(
    '%s: nothing of the commit remains, the next one succeeds',
    async (fault) => {
      const folder = newFolder();
      const store = await open(folder);
      await store.commit([{ key: 'a', value: { n: 1 } }]);
      disk.fault = fault;
      // Longer than what follows, so that a rest of it would show.
      await expect(store.commit([{ key: 'lost', value: { text: 'x'.repeat(500) } }])).rejects.toThrow('ENOSPC');
      disk.fault = 'none';
      await store.commit([{ key: 'b', value: { n: 2 } }]);
      await store.close();
      expect(await contents(folder)).toEqual({ a: { n: 1 }, b: { n: 2 } });
    },
  );

  test('a rewrite that fails costs nothing but length', async () => {
    const folder = newFolder();
    const store = await open(folder, { rewriteMinBytes: 200 });
    disk.fault = 'rename';
    for (let n = 0; n < 50; n++) await store.commit([{ key: 'a', value: { n } }]);
    expect(statSync(fileOf(folder)).size).toBeGreaterThan(1_000);
    disk.fault = 'none';
    await store.commit([{ key: 'a', value: { n: 50 } }]);
    expect(statSync(fileOf(folder)).size).toBeLessThan(100);
    await store.commit([{ key: 'b', value: {} }]);
    await store.close();
    expect(await contents(folder)).toEqual({ a: { n: 50 }, b: {} });
  });
});

describe('the journal', () => {
  test('stays in proportion to its records', async () => {
    const folder = newFolder();
    const store = await open(folder, { rewriteMinBytes: 1_000 });
    let longest = 0;
    for (let n = 0; n < 300; n++) {
      await store.commit([
        { key: `k${n % 3}`, value: { n, text: 'x'.repeat(50) } },
        { key: `gone${n}`, value: { n } },
        { key: `gone${n - 1}`, value: null },
      ]);
      longest = Math.max(longest, statSync(fileOf(folder)).size);
    }
    await store.close();
    expect(longest).toBeLessThan(2_500);
    expect(Object.keys(await contents(folder)).sort()).toEqual(['gone299', 'k0', 'k1', 'k2']);
  });

  test('concurrent commits are all there, in their order', async () => {
    const folder = newFolder();
    const store = await open(folder, { rewriteMinBytes: 300 });
    await Promise.all(Array.from({ length: 40 }, (_, n) => store.commit([{ key: `k${n % 4}`, value: { n } }])));
    await store.close();
    expect(await contents(folder)).toEqual({ k0: { n: 36 }, k1: { n: 37 }, k2: { n: 38 }, k3: { n: 39 } });
  });

  test('belongs to one process at a time, and to nobody after `close`; others may look', async () => {
    const folder = newFolder();
    const store = await open(folder);
    await expect(open(folder)).rejects.toThrow(`in use by process ${process.pid}`);
    await store.confirm(0);
    await store.commit([{ key: 'b', value: {} }]);
    expect(Object.fromEntries(readJournal(folder))).toEqual({ b: {} });
    await store.commit([{ key: 'b', value: null }]);
    await store.close();
    await store.close();
    await expect(store.commit([{ key: 'a', value: {} }])).rejects.toThrow(LostTermError);
    await expect(store.confirm(1_000)).rejects.toThrow(LostTermError);
    expect(await contents(folder)).toEqual({});
  });

  test('cannot be opened where there is no folder to make, and gives the lock back', async () => {
    const folder = newFolder();
    mkdirSync(fileOf(folder), { recursive: true });
    await expect(open(folder)).rejects.toMatchObject({ code: 'LOGPIPE_FOLDER_UNUSABLE' });
    rmSync(fileOf(folder), { recursive: true });
    expect(await contents(folder)).toEqual({});
  });
});
