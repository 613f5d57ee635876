// Whatever happens to a spool, in any order: writes that fail, stop half-way or write nothing, files that cannot be removed, a process
// killed at any point or ended with a last save. Beside it runs a simple model of what must be there: nothing that is not done is lost,
// nothing that was noted as done comes again, what was attempted comes back with its partition, and the order is kept.
import * as nodeFs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ShipRecord } from '../../../src/ship/log-record.ts';
import {
  createSpool,
  type LeftSpool,
  openLeftSpool,
  type Spool,
  type SpoolDeps,
  type SpooledRecord,
  type SpoolFiles,
  type SpoolPlace,
  type SpoolReading,
} from '../../../src/ship/spool.ts';

type Fault = 'none' | 'short' | 'full' | 'half' | 'broken' | 'unopenable' | 'unremovable';

const number = fc.nat({ max: 1_000 });
const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('append' as const), count: fc.integer({ min: 1, max: 8 }), size: number }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('hold' as const), partition: fc.nat({ max: 3 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('next' as const), count: fc.integer({ min: 1, max: 12 }), bytes: number }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('attempting' as const), partition: fc.nat({ max: 3 }), pick: number }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('done' as const), pick: number }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('park' as const), pick: number }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('rewind' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fault' as const),
      fault: fc.constantFrom<Fault>('none', 'none', 'short', 'full', 'half', 'broken', 'unopenable', 'unremovable'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('exit' as const), count: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const) }) },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

const failure = (code: string) => Object.assign(new Error(code), { code });

/** The file system, with faults. One that was killed calls nobody back. */
function faultyFiles() {
  const state = { fault: 'none' as Fault, killed: false, underWay: 0, budget: 0 };
  const length = (wanted: number): number => {
    if (state.fault === 'short') return Math.ceil(wanted / 2);
    if (state.fault === 'broken') throw failure('EIO');
    if (state.fault !== 'full' && state.fault !== 'half') return wanted;
    const taken = Math.min(wanted, state.budget);
    if (taken === 0) throw failure(state.fault === 'full' ? 'ENOSPC' : 'EDQUOT');
    state.budget -= taken;
    return taken;
  };
  const guarded =
    (work: (...args: never[]) => void, check: (args: unknown[]) => void = () => {}) =>
    (...args: unknown[]) => {
      if (state.killed) return;
      state.underWay++;
      const callback = args.pop() as (...results: unknown[]) => void;
      const answer = (...results: unknown[]) => {
        state.underWay--;
        if (!state.killed) callback(...results);
      };
      try {
        check(args);
      } catch (error) {
        setImmediate(answer, error);
        return;
      }
      (work as (...all: unknown[]) => void)(...args, answer);
    };
  const cut = (args: unknown[]) => {
    args[3] = length(args[3] as number);
  };
  const unopenable = () => {
    if (state.fault === 'unopenable') throw failure('EROFS');
  };
  const unremovable = () => {
    if (state.fault === 'unremovable') throw failure('EPERM');
  };
  const fs = {
    open: guarded(nodeFs.open, unopenable),
    write: guarded(nodeFs.write, cut),
    read: guarded(nodeFs.read),
    close: guarded(nodeFs.close),
    stat: guarded(nodeFs.stat),
    fstat: guarded(nodeFs.fstat),
    unlink: guarded(nodeFs.unlink, unremovable),
    openSync: (...args: Parameters<typeof nodeFs.openSync>) => {
      unopenable();
      return nodeFs.openSync(...args);
    },
    writeSync: (file: number, buffer: Buffer, at: number, wanted: number, position: number) =>
      nodeFs.writeSync(file, buffer, at, length(wanted), position),
    closeSync: nodeFs.closeSync,
    unlinkSync: (path: string) => {
      unremovable();
      nodeFs.unlinkSync(path);
    },
  } as unknown as SpoolFiles;
  return {
    fs,
    set(fault: Fault) {
      state.fault = fault;
      state.budget = fault === 'half' ? 150 : 0;
    },
    kill() {
      state.killed = true;
    },
    get fault() {
      return state.fault;
    },
    /** Nothing is under way, and nothing begins any more. */
    async quiet() {
      for (let calm = 0; calm < 4; calm = state.underWay === 0 ? calm + 1 : 0) await turn();
    },
  };
}

/** What the model knows of a record. */
interface Known {
  readonly id: number;
  readonly record: ShipRecord;
  state: 'available' | 'held' | 'handed' | 'parked' | 'done';
  /** Surely in the file. */
  written: boolean;
  /** Its being done is surely in the notes. */
  noted: boolean;
  partition: number | undefined;
  /** Its partition is surely in the file. */
  partitionNoted: boolean;
  place: SpoolPlace;
}

interface Told {
  readonly folder: string;
  known: Known[];
  troubled: boolean;
}

/** A folder, with the spool that has it open. */
type Open = Told & { readonly spool: SpoolReading };

async function play(commands: readonly Command[], segmentBytes: number): Promise<void> {
  const root = nodeFs.mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  let files = faultyFiles();
  let clockMs = 0;
  let lastId = 0;
  let sessions = 0;
  /** What a spool tells, kept with its folder. */
  const listen = (folder: string): { deps: SpoolDeps; told: Told } => {
    const told: Told = { folder, known: [], troubled: false };
    const deps = {
      onDropped: (records: number, why: string) => expect.unreachable(`${records} ${why}`),
      onTrouble() {
        expect(told.troubled).toBe(false);
        told.troubled = true;
      },
      onRecovered() {
        expect(told.troubled).toBe(true);
        told.troubled = false;
      },
      ...{ retryMs: 1, fs: files.fs, now: () => clockMs },
    };
    return { deps, told };
  };
  let own!: Open & { spool: Spool };
  let open: Open[] = [];

  const begin = () => {
    const folder = join(root, `${++sessions}`);
    const { deps, told } = listen(folder);
    own = Object.assign(told, { spool: createSpool({ folder, maxBytes: 1e9, segmentBytes }, deps) });
    open.push(own);
  };
  const record = (size: number): ShipRecord => {
    const id = ++lastId;
    const line = `${id}${['', '\n', '\t', '\u2028', 'é'][id % 5]}${'x'.repeat(id % 7 === 0 ? size * 10 : size % 50)}`;
    const key = [null, '', 'key', '\t-\n"é'][id % 4]!;
    return { line, eventId: id % 9 === 0 ? `"\t${id}` : `e${id}`, key, bytes: Buffer.byteLength(line) };
  };
  const append = (size: number, options?: { partition?: number; hold?: boolean }) => {
    const made = record(size);
    const place = own.spool.append(made, options);
    if (place === undefined) return;
    const { partition, hold = false } = options ?? {};
    own.known.push({
      ...{
        id: lastId,
        record: made,
        state: hold ? 'held' : 'available',
        written: false,
        noted: false,
        partition,
        place,
      },
      partitionNoted: true,
    });
  };
  const agree = ({ spool, known }: Open) => {
    expect(spool.records).toBe(known.filter(({ state }) => state !== 'done').length);
    expect(spool.available).toBe(known.filter(({ state }) => state === 'available').length);
  };
  /** Without trouble, everything is in the files a moment later. */
  const settle = async () => {
    await files.quiet();
    if (!isWhole(files.fault)) return;
    for (const one of open) if (!one.troubled) allWritten(one);
  };
  const allWritten = ({ folder, known }: Open, atExit = false) => {
    const alive = new Set(known.filter(({ state }) => state !== 'done').map(({ place }) => place.segment));
    for (const one of known) {
      one.written = true;
      one.partitionNoted = true;
      // A file that cannot be removed has nobody to tell what became of its last records.
      const log = join(folder, `${String(one.place.segment).padStart(8, '0')}.log`);
      one.noted = one.state === 'done' && (atExit || alive.has(one.place.segment) || !nodeFs.existsSync(log));
    }
  };
  const pick = (from: readonly Known[], by: number) => from.filter((_, i) => (by >> (i % 10)) & 1);
  const inHand = (one: Known) => one.state === 'handed' || one.state === 'held';
  const check = (got: readonly SpooledRecord[], from: Open, count: number, bytes: number) => {
    const expected: Known[] = [];
    if (files.fault === 'unopenable') {
      const places = new Set(got.map(({ place }) => `${place.segment} ${place.ordinal}`));
      const some = from.known.filter(({ place }) => places.has(`${place.segment} ${place.ordinal}`));
      expect(some).toHaveLength(got.length);
      for (const one of some) {
        expect(one.state).toBe('available');
        one.state = 'handed';
      }
      return;
    }
    let size = 0;
    for (const one of from.known) {
      if (one.state !== 'available') continue;
      if (expected.length === count || (expected.length > 0 && size + one.record.bytes > bytes)) break;
      size += one.record.bytes;
      expected.push(one);
    }
    expect(
      got.map(({ line, eventId, key, bytes: its, partition, place }) => ({
        line,
        eventId,
        key,
        its,
        partition,
        place,
      })),
    ).toEqual(
      expected.map(({ record: { line, eventId, key, bytes: its }, partition, place }) => ({
        line,
        eventId,
        key,
        its,
        partition,
        place,
      })),
    );
    for (const one of expected) one.state = 'handed';
  };

  /** After the end of a process: what its folders hold, and must hold. */
  const reopen = async (saved?: number) => {
    await files.quiet();
    files = faultyFiles();
    const old = open;
    const ended = own;
    open = [];
    for (const one of old) {
      const { folder, known } = one;
      const kept = known.filter(({ state }) => state !== 'done');
      if (!nodeFs.existsSync(folder)) {
        expect(kept.filter(({ written }) => written)).toEqual([]);
        continue;
      }
      const { deps, told } = listen(folder);
      const spool = await openLeftSpool(folder, deps);
      const got = await spool.next(1e9, 1e9);
      expect(got.length).toBe(spool.records);
      const byId = new Map(known.map((was) => [was.id, was]));
      for (const found of got) {
        const was = byId.get(Number.parseInt(found.line, 10))!;
        expect(found).toMatchObject(was.record);
        expect(was.noted, `${was.id} was noted as done`).toBe(false);
        if (was.partitionNoted) expect(found.partition).toBe(was.partition);
        else expect([undefined, was.partition]).toContain(found.partition);
        told.known.push({
          ...{ ...was, state: 'available', written: true, noted: false, place: found.place },
          ...{ partition: found.partition, partitionNoted: true },
        });
      }
      const foundIds = told.known.map(({ id }) => id);
      expect(foundIds).toEqual([...foundIds].sort((x, y) => x - y));
      expect(kept.filter(({ written, id }) => written && !foundIds.includes(id))).toEqual([]);
      if (saved !== undefined && one === ended) {
        // Whose being done was not noted comes again.
        expect(kept.filter(({ id }) => foundIds.includes(id))).toHaveLength(saved);
      }
      spool.park(got.map(({ place }) => place));
      spool.rewind();
      open.push(Object.assign(told, { spool }));
    }
    begin();
  };

  try {
    begin();
    for (const it of commands) {
      const target = open[('pick' in it ? it.pick : lastId) % open.length]!;
      switch (it.do) {
        case 'append':
          for (let i = 0; i < it.count; i++) append(it.size);
          break;
        case 'hold':
          append(5, { partition: it.partition, hold: true });
          break;
        case 'next':
          clockMs += 10;
          check(await target.spool.next(it.count, it.bytes), target, it.count, it.bytes);
          break;
        case 'attempting': {
          const some = pick(
            target.known.filter((one) => inHand(one) && one.partition === undefined),
            it.pick,
          );
          for (const one of some) {
            one.partition = it.partition;
            one.partitionNoted = false;
          }
          await target.spool.attempting(
            it.partition,
            some.map(({ place }) => place),
          );
          break;
        }
        case 'done': {
          const some = pick(target.known.filter(inHand), it.pick);
          for (const one of some) one.state = 'done';
          target.spool.done(some.map(({ place }) => place));
          break;
        }
        case 'park': {
          const some = pick(target.known.filter(inHand), it.pick);
          for (const one of some) one.state = 'parked';
          target.spool.park(some.map(({ place }) => place));
          break;
        }
        case 'rewind':
          for (const one of target.known) if (one.state === 'parked') one.state = 'available';
          target.spool.rewind();
          break;
        case 'settle':
          await settle();
          break;
        case 'turn':
          await turn();
          break;
        case 'fault':
          files.set(it.fault);
          break;
        case 'crash':
          files.kill();
          await reopen();
          break;
        case 'exit': {
          const more = Array.from({ length: it.count }, () => ({ record: record(20), id: lastId }));
          const saved = own.spool.saveSync(more.map((one) => ({ record: one.record, partition: 1 })));
          for (const one of more) {
            const place = { segment: -1, ordinal: one.id };
            const flags = { written: false, noted: false, partition: 1, partitionNoted: true };
            own.known.push({ ...one, state: 'available', ...flags, place });
          }
          if (isWhole(files.fault)) {
            expect(saved).toBe(own.known.filter(({ state }) => state !== 'done').length);
            for (const one of open) {
              if (one !== own) (one.spool as LeftSpool).saveNotesSync();
              if (!one.troubled || one === own) allWritten(one, files.fault !== 'unremovable');
            }
          }
          files.kill();
          await reopen(saved);
          break;
        }
        case 'close': {
          const results = await Promise.all(open.map(({ spool }) => spool.close()));
          if (isWhole(files.fault)) {
            for (const [i, one] of open.entries()) {
              expect(results[i]).toBe(one.known.filter(({ state }) => state !== 'done').length);
              allWritten(one);
            }
          }
          await reopen();
          break;
        }
      }
      for (const one of open) agree(one);
    }
    // The end: everything comes out.
    files.set('none');
    clockMs += 10;
    for (const one of open) {
      one.spool.park(one.known.filter(inHand).map(({ place }) => place));
      one.spool.rewind();
      const left = one.known.filter(({ state }) => state !== 'done');
      const got = await one.spool.next(1e9, 1e9);
      expect(got.map(({ place }) => place)).toEqual(left.map(({ place }) => place));
      one.spool.done(got.map(({ place }) => place));
      expect(await one.spool.close()).toBe(0);
      expect(nodeFs.existsSync(one.folder) && nodeFs.readdirSync(one.folder)).toBe(false);
    }
  } finally {
    nodeFs.rmSync(root, { recursive: true, force: true });
  }
}

/** Everything that is written gets into the files, soon. */
function isWhole(fault: Fault): boolean {
  return fault === 'none' || fault === 'short' || fault === 'unremovable';
}

it('nothing that is not done is lost, and nothing done comes again', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 60 }), fc.constantFrom(60, 400, 5_000), play),
    { numRuns: 100 },
  );
}, 60_000);
