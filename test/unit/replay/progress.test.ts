import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createReplayProgress, emptyTally, openState, type ReplayState } from '../../../src/replay/request.ts';

describe('positions', () => {
  it('never lie behind a record that is open, and the counts are exactly those of what lies before them', () => {
    const batches = fc.array(fc.record({ part: fc.constantFrom('a', 'b'), count: fc.nat(4) }), { maxLength: 12 });
    fc.assert(
      fc.property(batches, fc.infiniteStream(fc.nat()), (list, random) => {
        const progress = createReplayProgress(new Map([['a', 0]]), emptyTally());
        const open: { part: string; index: number; left: number; done: (n: number) => void }[] = [];
        const all = list.map(({ part, count }, index) => {
          const done = progress.begin(part, index + 1, { ...emptyTally(), read: 1, matched: count }, count);
          const entry = { part, index, left: count, done };
          if (count > 0) open.push(entry);
          return entry;
        });
        const check = () => {
          const { positions, tally } = progress.finished();
          let read = 0;
          for (const part of ['a', 'b']) {
            const mine = all.filter((entry) => entry.part === part);
            const first = mine.findIndex(({ left }) => left > 0);
            const finished = first === -1 ? mine : mine.slice(0, first);
            read += finished.length;
            expect(positions.get(part) ?? 0).toBe(finished.length === 0 ? 0 : finished.at(-1)!.index + 1);
          }
          expect(tally.read).toBe(read);
        };
        check();
        while (open.length > 0) {
          const entry = open[random.next().value! % open.length]!;
          const part = 1 + (random.next().value! % entry.left);
          entry.left -= part;
          entry.done(part);
          if (entry.left === 0) open.splice(open.indexOf(entry), 1);
          check();
        }
        expect(progress.finished().tally).toEqual(progress.begun);
      }),
    );
  });

  it('more acknowledgements than records are a bug that shows', () => {
    const progress = createReplayProgress(new Map(), emptyTally());
    expect(() => progress.begin('a', 1, emptyTally(), 1)(2)).toThrow(RangeError);
  });
});

describe('the state of a named replay', () => {
  const state = (positions: ReplayState['positions']): ReplayState => ({
    version: 1,
    name: 'incident',
    request: { from: '-2h', where: [] },
    range: { fromMs: 1, toMs: 2 },
    positions,
    tally: emptyTally(),
    written: {},
    target: {},
    complete: false,
  });

  function folder(): string {
    const path = mkdtempSync(join(tmpdir(), 'logpipe-state-'));
    onTestFinished(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }

  it('is the last one saved, belongs to one process, and to one request', async () => {
    const at = { name: 'incident', folder: folder(), request: { from: '-2h', where: [] } };
    const first = openState(at);
    expect(first.found).toBeUndefined();
    expect(() => openState(at)).toThrow('in use by process');
    await Promise.all([first.save(state({ a: 1 })), first.save(state({ a: 2 })), first.save(state({ a: [3, 'x'] }))]);
    first.close();
    const second = openState(at);
    expect(second.found).toEqual(state({ a: [3, 'x'] }));
    second.close();
    expect(() => openState({ ...at, request: { from: '-2h', where: ['level=error'] } })).toThrow(
      'began with another where ([], now ["level=error"])',
    );
    // A draft that a kill left behind changes nothing.
    writeFileSync(`${second.path}.new`, '{"half');
    const third = openState(at);
    expect(third.found?.positions).toEqual({ a: [3, 'x'] });
    await third.save(state({ a: 4 }));
    third.close();
    expect(JSON.parse(readFileSync(third.path, 'utf8')).positions).toEqual({ a: 4 });
  });

  it('that cannot be read stops the replay, and so does a name that is no file name', () => {
    const at = { name: 'broken', folder: folder(), request: {} };
    writeFileSync(join(at.folder, 'broken.json'), '{');
    expect(() => openState(at)).toThrow('remove it to begin anew');
    expect(() => openState({ ...at, name: '../up' })).toThrow('--name: found "../up"');
  });
});
