// The spool on real files: what it takes, hands out and saves, what the cap takes, and what becomes of it when the disk is full, the
// folder goes or an old owner comes back.
import { execFileSync } from 'node:child_process';
import * as nodeFs from 'node:fs';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ShipRecord } from '../../../src/ship/log-record.ts';
import {
  createSpool,
  openLeftSpool,
  type SpoolDeps,
  type SpooledRecord,
  type SpoolFiles,
  type SpoolOptions,
} from '../../../src/ship/spool.ts';

let root: string;
let folder: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  folder = join(root, 'brokers', 'owner');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function record(id: number, text = `line of ${id}`, key: string | null = null): ShipRecord {
  const line = JSON.stringify({ eventId: `e${id}`, text });
  return { line, eventId: `e${id}`, key, bytes: Buffer.byteLength(line) };
}

function watched(more: Partial<SpoolDeps> = {}) {
  const told = { dropped: [] as [number, string][], troubles: [] as string[], recovered: 0 };
  let heard = () => {};
  const deps: SpoolDeps = {
    onDropped(records, why) {
      told.dropped.push([records, why]);
      heard();
    },
    onTrouble(error) {
      told.troubles.push((error as NodeJS.ErrnoException).code ?? String(error));
      heard();
    },
    onRecovered() {
      told.recovered++;
      heard();
    },
    retryMs: 5,
    ...more,
  };
  /** Until it holds; looked at when something is told. */
  const until = async (holds: () => boolean) => {
    while (!holds()) await new Promise<void>((resolve) => (heard = resolve));
  };
  return { told, deps, until };
}

/** The first write of which this is true waits until it is released. */
function slowWrites(isSlow: () => boolean) {
  let held: (() => void) | undefined;
  const write = (...args: unknown[]) => {
    const go = () => (nodeFs.write as (...all: unknown[]) => void)(...args);
    if (held === undefined && isSlow()) held = go;
    else go();
  };
  const release = { isHeld: () => held !== undefined, now: () => held!() };
  return { fs: { ...nodeFs, write } as unknown as SpoolFiles, release };
}

const places = (records: readonly SpooledRecord[]) => records.map(({ place }) => place);

const plain = (deps: SpoolDeps, more: Partial<SpoolOptions> = {}) =>
  createSpool({ folder, maxBytes: 1e9, segmentBytes: 8e6, ...more }, deps);
const ids = (records: readonly ShipRecord[]) => records.map(({ eventId }) => Number(eventId.slice(1)));

describe('a spool', () => {
  test('keeps records and hands them out in order, once', async () => {
    const { told, deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 100; i++) spool.append(record(i));
    expect(spool.records).toBe(100);
    const first = await spool.next(60, 1e9);
    expect(ids(first)).toEqual(Array.from({ length: 60 }, (_, i) => i));
    expect(first[5]).toMatchObject(record(5));
    await spool.written();
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, '00000001.log')).mode & 0o777).toBe(0o600);
    await spool.attempting(3, places(first));
    spool.done(places(first.slice(0, 50)));
    expect(await spool.close()).toBe(50);

    const left = await openLeftSpool(folder, deps);
    expect([left.records, left.available, left.damaged]).toEqual([50, 50, 0]);
    const again = await left.next(100, 1e9);
    expect(ids(again)).toEqual(Array.from({ length: 50 }, (_, i) => i + 50));
    expect(again.map(({ partition }) => partition)).toEqual([...Array(10).fill(3), ...Array(40).fill(undefined)]);
    left.done(places(again));
    expect(await left.close()).toBe(0);
    expect(readdirSync(join(folder, '..'))).toEqual([]);
    expect(told).toEqual({ dropped: [], troubles: [], recovered: 0 });
  });

  test('saves at once what is not written yet, when nothing was ever written', () => {
    const { deps } = watched();
    const spool = plain(deps);
    spool.append(record(0));
    expect(spool.saveSync([{ record: record(1), partition: 7 }, { record: record(2) }])).toBe(3);
    expect(readFileSync(join(folder, '00000001.log'), 'utf8').split('\n')).toHaveLength(5);
  });

  test('a second save writes what was logged after the first, and a write under way does no harm', async () => {
    const { deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 1_000; i++) spool.append(record(i));
    const written = spool.written();
    await new Promise(setImmediate);
    spool.append(record(1_000));
    expect(spool.saveSync([{ record: record(1_001) }])).toBe(1_002);
    expect(spool.saveSync([{ record: record(1_002) }])).toBe(1_003);
    spool.append(record(1_003));
    await written;
    expect(await spool.close()).toBe(1_004);
    const left = await openLeftSpool(folder, deps);
    expect(ids(await left.next(1e9, 1e9))).toEqual(Array.from({ length: 1_004 }, (_, i) => i));
    await left.close();
  });

  test('a write that is still under way after a save writes what it was given', async () => {
    const { fs, release } = slowWrites(() => true);
    const { deps } = watched({ fs });
    const spool = plain(deps);
    for (let i = 0; i < 1_200; i++) spool.append(record(i));
    while (!release.isHeld()) await new Promise(setImmediate);
    expect(spool.saveSync([])).toBe(1_200);
    for (let i = 1_200; i < 3_600; i++) spool.append(record(i));
    release.now();
    expect(await spool.close()).toBe(3_600);
    const left = await openLeftSpool(folder, deps);
    expect([left.records, left.damaged]).toEqual([3_600, 0]);
    await left.close();
  });

  test('what is done at exit is noted', async () => {
    const { deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 4; i++) spool.append(record(i));
    await spool.close();
    const left = await openLeftSpool(folder, deps);
    const got = await left.next(3, 1e9);
    void left.attempting(4, places(got));
    left.done(places(got.slice(0, 2)));
    left.saveNotesSync();
    const next = await openLeftSpool(folder, deps);
    const again = await next.next(9, 1e9);
    expect(again.map(({ eventId, partition }) => [eventId, partition])).toEqual([
      ['e2', 4],
      ['e3', undefined],
    ]);
    await Promise.all([left.close(), next.close()]);
  });

  test('a batch is limited by bytes, and has one record at least, however large', async () => {
    const { deps } = watched();
    const spool = plain(deps, { segmentBytes: 1_000 });
    for (let i = 0; i < 3; i++) spool.append(record(i, 'x'.repeat(1_000_000)));
    spool.append(record(3));
    expect(ids(await spool.next(10, 1_000))).toEqual([0]);
    expect(ids(await spool.next(10, 1_000_500))).toEqual([1]);
    await spool.written();
    expect(ids(await spool.next(10, 1_500_000))).toEqual([2, 3]);
    expect(await spool.next(10, 1e9)).toEqual([]);
    await spool.close();
  });

  test('takes no more than 4 MiB that it cannot write', async () => {
    const { deps } = watched({ fs: { ...nodeFs, open() {} } as unknown as SpoolFiles });
    const spool = plain(deps);
    let taken = 0;
    while (spool.append(record(taken, 'x'.repeat(1_000))) !== undefined) taken++;
    expect(taken * 1_000).toBeGreaterThan(3.8e6);
    expect(taken * 1_000).toBeLessThan(4.2e6);
    // It is all in memory, and can be delivered.
    expect(await spool.next(1e9, 1e9)).toHaveLength(taken);
  });

  test('hundreds of segments: each goes when its records are done, in any order', async () => {
    const { told, deps } = watched();
    const spool = plain(deps, { segmentBytes: 1 });
    for (let i = 0; i < 600; i++) spool.append(record(i));
    await spool.written();
    expect(readdirSync(folder)).toHaveLength(600);
    const got = await spool.next(600, 1e9);
    expect(ids(got)).toEqual(Array.from({ length: 600 }, (_, i) => i));
    spool.park(places(got.slice(0, 300)));
    spool.done(places(got.slice(300)));
    spool.rewind();
    const again = await spool.next(600, 1e9);
    expect(ids(again)).toEqual(Array.from({ length: 300 }, (_, i) => i));
    spool.done(places(again.reverse()));
    expect([spool.records, spool.bytes]).toEqual([0, 0]);
    expect(await spool.close()).toBe(0);
    expect(existsSync(folder)).toBe(false);
    expect(told).toEqual({ dropped: [], troubles: [], recovered: 0 });
  });
});

describe('the cap', () => {
  test('takes the oldest records, and counts those that nobody has', async () => {
    const { told, deps } = watched();
    const maxBytes = 20_000;
    const spool = plain(deps, { maxBytes, segmentBytes: 600 });
    const held = spool.append(record(0), { hold: true, partition: 1 })!;
    spool.append(record(1));
    spool.append(record(2));
    const [first, second] = await spool.next(2, 1e9);
    for (let i = 3; i < 1_000; i++) {
      expect(spool.append(record(i))).toBeDefined();
      expect(spool.bytes).toBeLessThanOrEqual(maxBytes);
      if (i % 50 === 0) await spool.written();
    }
    const dropped = () => told.dropped.reduce((sum, [records]) => sum + records, 0);
    // Not those in hand.
    expect(spool.records + dropped()).toBe(1_000 - 3);
    const before = dropped();
    spool.done([held, first!.place]);
    expect(dropped()).toBe(before);
    expect(spool.has(second!.place)).toBe(false);
    // Whoever gives up a record that the spool no longer has, loses it.
    spool.park([second!.place]);
    expect(dropped()).toBe(before + 1);
    expect(told.dropped.every(([, why]) => why === 'cap')).toBe(true);
    const kept = ids(await spool.next(1_000, 1e9));
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => 1_000 - kept.length + i));
    await spool.close();
    const onDisk = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    expect(onDisk).toBeLessThanOrEqual(maxBytes);
  });

  test('a listener that logs when it takes something', async () => {
    let dropped = 0;
    let last = 0;
    const onDropped = (records: number) => {
      dropped += records;
      if (last < 1_200) spool.append(record(last++));
    };
    const { told, deps } = watched({ onDropped });
    const spool = plain(deps, { maxBytes: 20_000, segmentBytes: 3_000 });
    while (last < 1_000) spool.append(record(last++));
    expect(dropped + spool.records).toBe(last);
    expect(ids(await spool.next(1e9, 1e9))).toEqual(Array.from({ length: last - dropped }, (_, i) => dropped + i));
    await spool.close();
    const left = await openLeftSpool(folder, deps);
    expect([left.records, left.damaged]).toEqual([last - dropped, 0]);
    await left.close();
    expect(told.troubles).toEqual([]);
  });

  test('what it takes from the last save is not told: it is missing from what is saved', () => {
    const { told, deps } = watched();
    const spool = plain(deps, { maxBytes: 3_000 });
    for (let i = 0; i < 20; i++) spool.append(record(i));
    expect(told.dropped).toEqual([]);
    const more = Array.from({ length: 40 }, (_, i) => ({ record: record(20 + i) }));
    const saved = spool.saveSync(more);
    expect(saved).toBeGreaterThan(20);
    expect(saved).toBeLessThan(60);
    expect(told.dropped).toEqual([]);
  });

  test('a record larger than the cap is not taken, and takes nothing', () => {
    const { told, deps } = watched();
    const spool = plain(deps, { maxBytes: 500, segmentBytes: 8e6 });
    expect(spool.append(record(0))).toBeDefined();
    expect(spool.append(record(1, 'x'.repeat(600)))).toBeUndefined();
    expect(spool.append(record(2))).toBeDefined();
    expect(spool.records).toBe(2);
    expect(told.dropped).toEqual([]);
    expect(spool.saveSync([{ record: record(3, 'x'.repeat(600)) }])).toBe(2);
  });

  test('files that cannot be removed count towards it', async () => {
    const unlink = (_path: string, callback: (error: Error) => void) =>
      setImmediate(callback, Object.assign(new Error('EPERM'), { code: 'EPERM' }));
    const { deps } = watched({ fs: { ...nodeFs, unlink } as unknown as SpoolFiles });
    const spool = plain(deps, { maxBytes: 4_000, segmentBytes: 1_000 });
    for (let i = 0; i < 500; i++) {
      spool.append(record(i));
      await spool.written();
      const onDisk = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
      expect(onDisk).toBeLessThanOrEqual(5_000);
    }
    await spool.close();
  });
});

describe('trouble', () => {
  /** Files of this process end at so many bytes: writing stops within a record, then fails. Needs no privileges. */
  function limitFiles(bytes: number | 'unlimited'): void {
    execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
  }

  test('a limit of the system cuts a record in two: the rest is in memory, and is written when there is room', async () => {
    const { told, deps, until } = watched();
    const spool = plain(deps);
    try {
      limitFiles(20_000);
      let taken = 0;
      for (; taken < 1_000; taken++) {
        if (spool.append(record(taken)) === undefined) break;
        if (taken % 20 === 0) await spool.written();
      }
      expect(told.troubles).toEqual(['EFBIG']);
      expect(taken).toBeLessThan(1_000);
      expect(statSync(join(folder, '00000001.log')).size).toBe(20_000);
      // As if it ended here: nothing but the torn record and those behind it is missing.
      const left = await openLeftSpool(folder, deps);
      const whole = left.records;
      expect([left.damaged, ids(await left.next(1e9, 1e9))]).toEqual([0, Array.from({ length: whole }, (_, i) => i)]);
      await left.close();
      expect(spool.saveSync([])).toBe(whole);
      // Deliverable all the same.
      expect(ids(await spool.next(1e9, 1e9))).toEqual(Array.from({ length: taken }, (_, i) => i));
      limitFiles('unlimited');
      await until(() => told.recovered === 1);
      expect(spool.append(record(taken))).toBeDefined();
      expect(await spool.close()).toBe(taken + 1);
      const again = await openLeftSpool(folder, deps);
      expect(ids(await again.next(1e9, 1e9))).toEqual(Array.from({ length: taken + 1 }, (_, i) => i));
      await again.close();
      expect(told).toEqual({ dropped: [], troubles: ['EFBIG'], recovered: 1 });
    } finally {
      limitFiles('unlimited');
    }
  });

  test('a folder that cannot be made: one notice, and the caller keeps its records until it can', async () => {
    mkdirSync(root, { recursive: true });
    writeFileSync(join(root, 'brokers'), 'a file in the way');
    const { told, deps, until } = watched();
    const spool = plain(deps);
    expect(spool.append(record(0))).toBeDefined();
    await until(() => told.troubles.length === 1);
    expect(spool.append(record(1))).toBeUndefined();
    expect(spool.saveSync([{ record: record(2) }])).toBe(0);
    rmSync(join(root, 'brokers'));
    await until(() => told.recovered === 1);
    expect(spool.append(record(3))).toBeDefined();
    expect(await spool.close()).toBe(3);
    expect(told.troubles).toHaveLength(1);
  });

  test('reading that fails once: it is over when a read works, and what is done meanwhile is noted', async () => {
    let fails = false;
    const open = (path: string, flags: number, mode: number, callback: (error: unknown, file?: number) => void) => {
      if (!fails || flags !== nodeFs.constants.O_RDONLY) return nodeFs.open(path, flags, mode, callback);
      fails = false;
      setImmediate(callback, Object.assign(new Error('EMFILE'), { code: 'EMFILE' }));
    };
    let nowMs = 0;
    const { told, deps, until } = watched({ fs: { ...nodeFs, open } as unknown as SpoolFiles, now: () => nowMs });
    const spool = plain(deps);
    for (let i = 0; i < 9; i++) spool.append(record(i));
    await spool.written();
    const failOnce = async () => {
      spool.rewind();
      fails = true;
      expect(await spool.next(3, 1e9)).toEqual([]);
      // Timers of one length keep their order: it was tried again, and nothing was there to be written.
      await new Promise((resolve) => setTimeout(resolve, deps.retryMs));
      nowMs += 10;
    };
    await failOnce();
    const some = await spool.next(3, 1e9);
    expect(ids(some)).toEqual([0, 1, 2]);
    expect(told).toEqual({ dropped: [], troubles: ['EMFILE'], recovered: 1 });
    spool.park(places(some.slice(2)));
    await failOnce();
    spool.done(places(some.slice(0, 2)));
    await until(() => told.recovered === 2);
    expect(readFileSync(join(folder, '00000001.notes'), 'latin1')).toContain('\tD\t0-1\n');
    expect(spool.append(record(9))).toBeDefined();
    expect(spool.append(record(10))).toBeDefined();
    expect(ids(await spool.next(3, 1e9))).toEqual([2, 3, 4]);
    expect(await spool.close()).toBe(9);
    expect(told).toEqual({ dropped: [], troubles: ['EMFILE', 'EMFILE'], recovered: 2 });
  });

  test('a folder that was removed: what was in it is counted, another one begins', async () => {
    let nowMs = 0;
    const { told, deps } = watched({ now: () => nowMs });
    const spool = plain(deps, { segmentBytes: 3_000 });
    for (let i = 0; i < 100; i++) spool.append(record(i));
    await spool.written();
    const held = await spool.next(10, 1e9);
    rmSync(folder, { recursive: true });
    nowMs += 2_000;
    spool.append(record(100));
    await spool.written();
    expect(told.dropped.reduce((sum, [records]) => sum + records, 0)).toBe(90);
    expect(told.dropped.every(([, why]) => why === 'removed')).toBe(true);
    expect(held.some(({ place }) => spool.has(place))).toBe(false);
    spool.done(places(held));
    expect(spool.append(record(101))).toBeDefined();
    expect(ids(await spool.next(1e9, 1e9))).toEqual([100, 101]);
    expect(await spool.close()).toBe(2);
    const left = await openLeftSpool(folder, deps);
    expect([left.records, left.damaged]).toEqual([2, 0]);
    await left.close();
    expect(told.troubles).toEqual([]);
  });

  test('a folder that is removed while it is looked at: what was in it is counted all the same', async () => {
    let nowMs = 0;
    let isDue = false;
    const thenGone = <T extends (...args: never[]) => void>(real: T): T =>
      ((...args: unknown[]) => {
        const done = args.pop() as (...results: unknown[]) => void;
        (real as unknown as (...all: unknown[]) => void)(...args, (...results: unknown[]) => {
          if (isDue) rmSync(join(root, 'first'), { recursive: true });
          isDue = false;
          done(...results);
        });
      }) as unknown as T;
    const fs: SpoolFiles = { ...nodeFs, stat: thenGone(nodeFs.stat), fstat: thenGone(nodeFs.fstat) };
    const { told, deps } = watched({ now: () => nowMs, fs });
    const homes = [join(root, 'first'), join(root, 'second')];
    const spool = createSpool({ folder: () => homes.shift()!, maxBytes: 1e9, segmentBytes: 1e6 }, deps);
    for (let i = 0; i < 10; i++) spool.append(record(i));
    await spool.written();
    for (const id of [10, 11]) {
      nowMs += 2_000;
      isDue = id === 10;
      spool.append(record(id));
      await spool.written();
    }
    const kept = ids(await spool.next(1e9, 1e9));
    expect(kept.at(-1)).toBe(11);
    expect(told).toEqual({ dropped: [[12 - kept.length, 'removed']], troubles: [], recovered: 0 });
    await spool.close();
  });

  test('a folder that was removed while a record of its log was on its way: those in hand are in no file', async () => {
    let nowMs = 0;
    const { told, deps } = watched({ now: () => nowMs });
    const spool = plain(deps);
    const held = spool.append(record(0), { hold: true, partition: 1 })!;
    spool.append(record(1));
    spool.append(record(2));
    const [handed] = await spool.next(1, 1e9);
    await spool.written();
    expect([held, handed!.place].map(spool.has)).toEqual([true, true]);
    rmSync(folder, { recursive: true });
    nowMs += 2_000;
    const later = spool.append(record(3), { hold: true })!;
    await spool.written();
    expect([held, handed!.place, later].map(spool.has)).toEqual([false, false, true]);
    expect([told.dropped, spool.records]).toEqual([[[1, 'removed']], 1]);
    spool.park([held]);
    spool.done([handed!.place, later]);
    expect(told.dropped).toEqual([
      [1, 'removed'],
      [1, 'removed'],
    ]);
    expect(spool.has(later)).toBe(false);
    expect(await spool.close()).toBe(0);
  });

  test('a folder that is found removed by its notes while the log is being written', async () => {
    let isSlow = false;
    const { fs, release } = slowWrites(() => isSlow);
    const { told, deps } = watched({ fs });
    const spool = plain(deps);
    for (let i = 0; i < 10; i++) spool.append(record(i));
    await spool.written();
    const got = await spool.next(5, 1e9);
    isSlow = true;
    spool.append(record(10));
    while (!release.isHeld()) await new Promise(setImmediate);
    rmSync(folder, { recursive: true });
    // Nothing to note any more.
    await spool.attempting(0, places(got));
    expect(places(got).some(spool.has)).toBe(false);
    release.now();
    const again = spool.written();
    // The notes of what survived are for the new folder.
    await spool.attempting(1, places(await spool.next(1, 1e9)));
    await again;
    spool.append(record(11));
    expect(await spool.close()).toBe(2);
    const left = await openLeftSpool(folder, deps);
    expect((await left.next(9, 1e9)).map(({ eventId, partition }) => [eventId, partition])).toEqual([
      ['e10', 1],
      ['e11', undefined],
    ]);
    expect(left.damaged).toBe(0);
    await left.close();
    expect(told).toEqual({ dropped: [[5, 'removed']], troubles: [], recovered: 0 });
  });

  test('a folder that another process took over: its records are not lost, and ours go elsewhere', async () => {
    let nowMs = 0;
    const { told, deps } = watched({ now: () => nowMs });
    const homes = [join(root, 'first'), join(root, 'second')];
    const spool = createSpool({ folder: () => homes.shift()!, maxBytes: 1e9, segmentBytes: 1e6 }, deps);
    for (let i = 0; i < 10; i++) spool.append(record(i));
    await spool.written();
    renameSync(join(root, 'first'), join(root, 'adopted'));
    nowMs += 2_000;
    spool.append(record(10));
    expect(await spool.close()).toBe(1);
    const read = async (name: string) => {
      const left = await openLeftSpool(join(root, name), deps);
      const got = ids(await left.next(1e9, 1e9));
      await left.close();
      return got;
    };
    expect(await read('adopted')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await read('second')).toEqual([10]);
    expect(told).toEqual({ dropped: [], troubles: [], recovered: 0 });
  });

  test('a process that was paused while its folders were taken over learns it before it sends from them', async () => {
    let nowMs = 0;
    const { told, deps } = watched({ now: () => nowMs });
    const homes = [join(root, 'first'), join(root, 'second')];
    const spool = createSpool({ folder: () => homes.shift()!, maxBytes: 1e9, segmentBytes: 200 }, deps);
    for (let i = 0; i < 10; i++) spool.append(record(i), i < 4 ? { partition: 1 } : {});
    const left = createSpool({ folder, maxBytes: 1e9, segmentBytes: 1e6 }, deps);
    for (let i = 0; i < 10; i++) left.append(record(i));
    await Promise.all([spool.written(), left.close()]);
    const adopted = await openLeftSpool(folder, deps);
    for (const one of [spool, adopted]) {
      const some = await one.next(4, 1e9);
      await one.attempting(1, places(some.slice(0, 2)));
      nowMs += 2_000;
      await one.attempting(1, places(some.slice(0, 2)));
      expect(places(some).map(one.has)).toEqual([true, true, true, true]);
      const [from, to] = one === spool ? [join(root, 'first'), join(root, 'moved')] : [folder, join(root, 'left')];
      renameSync(from, to);
      const written = () => readdirSync(to).map((name) => [name, readFileSync(join(to, name), 'latin1')]);
      const before = written();
      nowMs += 2_000;
      // Those of the first have all been attempted there: nothing is to be noted.
      await one.attempting(1, places(some));
      expect(places(some).map(one.has)).toEqual([false, false, false, false]);
      expect(places(some).map(one.isTaken)).toEqual([true, true, true, true]);
      one.park(places(some.slice(0, 2)));
      one.done(places(some.slice(2)));
      expect([one.records, written()]).toEqual([0, before]);
    }
    expect(await adopted.next(9, 1e9)).toEqual([]);
    expect(await adopted.close()).toBe(0);
    spool.append(record(10));
    expect(await spool.close()).toBe(1);
    expect(readdirSync(join(root, 'second'))).toHaveLength(1);
    expect(told).toEqual({ dropped: [], troubles: [], recovered: 0 });
  });

  test('a folder that is found taken over by reading: what is in it is not lost', async () => {
    const { told, deps } = watched();
    const homes = [join(root, 'first'), join(root, 'second')];
    const spool = createSpool({ folder: () => homes.shift()!, maxBytes: 1e9, segmentBytes: 200 }, deps);
    for (let i = 0; i < 10; i++) spool.append(record(i));
    await spool.written();
    renameSync(join(root, 'first'), join(root, 'adopted'));
    expect(await spool.next(9, 1e9)).toEqual([]);
    expect([spool.records, await spool.close()]).toEqual([0, 0]);
    expect(told).toEqual({ dropped: [], troubles: [], recovered: 0 });
  });

  test('removed before the process ends: what is only in memory is saved in a new one', () => {
    const { deps } = watched();
    const spool = plain(deps);
    spool.append(record(0));
    spool.saveSync([]);
    rmSync(folder, { recursive: true });
    expect(spool.saveSync([{ record: record(1) }])).toBe(1);
    expect(readFileSync(join(folder, '00000001.log'), 'utf8').split('\n')).toHaveLength(3);
  });

  test('a log cut short by somebody: what is missing is counted, once', async () => {
    const { told, deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 100; i++) spool.append(record(i));
    await spool.written();
    truncateSync(join(folder, '00000001.log'), 1_000);
    const got = await spool.next(1e9, 1e9);
    expect(ids(got)).toEqual(Array.from({ length: got.length }, (_, i) => i));
    expect(told.dropped).toEqual([[100 - got.length, 'damaged']]);
    expect(await spool.close()).toBe(got.length);
  });
});

describe('a spool that was left', () => {
  test('is not opened when its notes cannot be read: it would be sent again as a whole', async () => {
    const { told, deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 10; i++) spool.append(record(i));
    await spool.written();
    const some = await spool.next(8, 1e9);
    await spool.attempting(3, places(some));
    spool.done(places(some.slice(0, 6)));
    await spool.close();
    const notes = join(folder, '00000001.notes');
    renameSync(notes, join(root, 'notes'));
    mkdirSync(notes);
    await expect(openLeftSpool(folder, deps)).rejects.toMatchObject({ code: 'EISDIR' });
    rmSync(notes, { recursive: true });
    renameSync(join(root, 'notes'), notes);
    const left = await openLeftSpool(folder, deps);
    expect((await left.next(9, 1e9)).map(({ partition }) => partition)).toEqual([3, 3, undefined, undefined]);
    await left.close();
    expect(told.troubles).toEqual([]);
  });

  test('is not removed while its old owner writes on', async () => {
    const { deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 3; i++) spool.append(record(i));
    await spool.close();
    const log = join(folder, '00000001.log');
    const other = join(root, 'other');
    const later = createSpool({ folder: other, maxBytes: 1e9, segmentBytes: 1e9 }, deps);
    for (let i = 0; i < 4; i++) later.append(record(i));
    await later.close();
    const left = await openLeftSpool(folder, deps);
    const got = await left.next(9, 1e9);
    appendFileSync(log, readFileSync(join(other, '00000001.log')).subarray(statSync(log).size));
    left.done(places(got));
    // It is looked at before it is removed.
    const more: SpooledRecord[] = [];
    for (let turns = 0; more.length === 0 && turns < 1_000; turns++) more.push(...(await left.next(9, 1e9)));
    expect(ids(more)).toEqual([3]);
    left.done(places(more));
    expect(await left.close()).toBe(0);
    expect(existsSync(folder)).toBe(false);
  });

  test("goes with its owner's file, but not with what else is there", async () => {
    const { deps } = watched();
    for (const name of ['owner.json', 'something else']) {
      const spool = plain(deps);
      spool.append(record(0));
      await spool.close();
      writeFileSync(join(folder, name), '{}');
      const left = await openLeftSpool(folder, deps);
      left.done(places(await left.next(9, 1e9)));
      expect(await left.close()).toBe(0);
      expect(existsSync(folder)).toBe(name !== 'owner.json');
    }
    expect(readdirSync(folder)).toEqual(['something else']);
  });
});
