// How far the log was read: no host's clock, no stalled partition and no restart may mislead the evaluation time.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PartitionProgress } from '../../../src/measure/totals.ts';
import { createProgress, isBehind, STALLED_MS } from '../../../src/windows/windows.ts';
import { HOUR, SECOND, T0 } from '../rules/kit.ts';

function read(name: string, overrides: Partial<PartitionProgress> = {}): PartitionProgress {
  return { lane: name, lanes: 2, position: 10, end: 10, arrivalMs: T0 - HOUR, caughtUp: true, ...overrides };
}

describe('progress', () => {
  it('knows nothing before anything was said', () => {
    expect(createProgress().status(T0)).toEqual({ times: undefined, lagMs: undefined, partitions: [] });
  });

  it('is the broker’s time of the record for an idle partition, the arrival time for one that is behind', () => {
    const progress = createProgress();
    progress.apply(read('0'), T0);
    progress.apply(read('1', { caughtUp: false, arrivalMs: T0 - 20 * SECOND }), T0);
    const { times, lagMs, partitions } = progress.status(T0 + 250);
    expect(times).toEqual({ evalMs: T0 - 20 * SECOND, completeMs: T0 - 30 * SECOND, wallMs: T0 + 250 });
    expect(lagMs).toBe(20 * SECOND + 250);
    expect(partitions).toEqual([
      { partition: '0', behindMs: 0, stalled: false },
      { partition: '1', behindMs: 20 * SECOND, stalled: false },
    ]);
  });

  it('is the time it was true, not the time it was written: a counter that could not write says nothing of now', () => {
    const progress = createProgress();
    // The counter's own clock is hours away from the brokers', and means nothing but distances.
    const said = (ms: number) => ({ writer: 'a', saidMs: ms - T0 + 77 * HOUR });
    for (let s = 0; s <= 100; s++) {
      progress.apply(read('0', { lanes: 1, ...said(T0 + s * SECOND) }), T0 + s * SECOND + 5);
    }
    expect(progress.status(T0 + 100 * SECOND).times?.evalMs).toBe(T0 + 100 * SECOND + 5);
    // Said at 102 s, written when the brokers were back, at 180 s; and once more, by one that had been frozen, at 185 s.
    progress.apply(read('0', { lanes: 1, ...said(T0 + 102 * SECOND) }), T0 + 180 * SECOND);
    expect(progress.status(T0 + 180 * SECOND).times?.evalMs).toBe(T0 + 102 * SECOND + 5);
    progress.apply(read('0', { lanes: 1, ...said(T0 + 102 * SECOND) }), T0 + 185 * SECOND);
    progress.apply(read('0', { lanes: 1, ...said(T0 + 180.5 * SECOND) }), T0 + 185 * SECOND);
    expect(progress.status(T0 + 185 * SECOND).times?.evalMs).toBe(T0 + 180.5 * SECOND + 5);
    progress.apply(read('0', { lanes: 1, ...said(T0 + 186 * SECOND) }), T0 + 186 * SECOND + 5);
    expect(progress.status(T0 + 186 * SECOND).times?.evalMs).toBe(T0 + 186 * SECOND + 5);
    // It had looked at the log three seconds before; and what it read then is the least that is known.
    progress.apply(read('0', { lanes: 1, ageMs: 3_000, ...said(T0 + 200 * SECOND) }), T0 + 200 * SECOND + 5);
    expect(progress.status(T0 + 200 * SECOND).times?.evalMs).toBe(T0 + 197 * SECOND + 5);
    const arrived = { lanes: 1, ageMs: 60_000, arrivalMs: T0 + 205 * SECOND };
    progress.apply(read('0', { ...arrived, ...said(T0 + 210 * SECOND) }), T0 + 210 * SECOND + 5);
    expect(progress.status(T0 + 210 * SECOND).times?.evalMs).toBe(T0 + 205 * SECOND);
  });

  it('one counter after the other, each with a clock of its own, and brokers whose clock steps: never ahead for long', () => {
    const progress = createProgress();
    const say = (writer: string, own: number, ms: number) =>
      progress.apply(read('0', { lanes: 1, writer, saidMs: own }), ms);
    for (let i = 0; i < 300; i++) say(`w${i}`, i * 1_000_000, T0 + i * SECOND);
    expect(progress.status(T0 + 299 * SECOND).times?.evalMs).toBe(T0 + 299 * SECOND);
    // The brokers' clock is an hour ahead from now on. The first record that says so may as well be late; the next one was said when
    // it had been written.
    const saidAt = (s: number) => say('w299', 299 * 1_000_000 + (s - 299) * SECOND, T0 + HOUR + s * SECOND);
    saidAt(300);
    expect(progress.status(T0 + HOUR + 300 * SECOND).times?.evalMs).toBe(T0 + 300 * SECOND);
    saidAt(300.5);
    expect(progress.status(T0 + HOUR + 300.5 * SECOND).times?.evalMs).toBe(T0 + HOUR + 300 * SECOND);
    for (let s = 301; s <= 430; s++) saidAt(s);
    expect(progress.status(T0 + HOUR + 430 * SECOND).times?.evalMs).toBe(T0 + HOUR + 430 * SECOND);
  });

  it('waits 30 s for a partition that stalls, which is then named, and no longer', () => {
    const progress = createProgress();
    for (const name of ['0', '1']) progress.apply(read(name), T0);
    const evalAt = (ms: number) => {
      progress.apply(read('0'), ms);
      progress.apply(read('1', { caughtUp: false, arrivalMs: T0 }), ms);
      return progress.status(ms);
    };
    expect(evalAt(T0 + STALLED_MS).times?.evalMs).toBe(T0);
    const { times, partitions } = evalAt(T0 + STALLED_MS + SECOND);
    expect(times?.evalMs).toBe(T0 + STALLED_MS + SECOND);
    expect(partitions[1]).toEqual({ partition: '1', behindMs: STALLED_MS + SECOND, stalled: true });
    // Read up again, it counts again.
    progress.apply(read('1', { caughtUp: false, arrivalMs: T0 + 50 * SECOND }), T0 + HOUR);
    progress.apply(read('0'), T0 + 70 * SECOND);
    expect(progress.status(T0 + 70 * SECOND).times?.evalMs).toBe(T0 + 50 * SECOND);
  });

  it('is behind from two minutes on, until the lag is read up; a clock that differs does not keep it there', () => {
    const progress = createProgress();
    const behind = (lagMs: number, wallMs: number) => {
      for (const name of ['0', '1']) progress.apply(read(name), wallMs - lagMs);
      return isBehind(progress.status(wallMs).times!);
    };
    expect(behind(120 * SECOND, T0)).toBe(false);
    expect(behind(121 * SECOND, T0 + 10 * SECOND)).toBe(true);
    expect(behind(41 * SECOND, T0 + 12 * SECOND)).toBe(true);
    expect(behind(40 * SECOND, T0 + 13 * SECOND)).toBe(false);
    expect(behind(100 * SECOND, T0 + 80 * SECOND)).toBe(false);
    expect(behind(200 * SECOND, T0 + 190 * SECOND)).toBe(true);
    expect(behind(90 * SECOND, T0 + 200 * SECOND)).toBe(true);
    expect(behind(90 * SECOND, T0 + 259 * SECOND)).toBe(true);
    expect(behind(90 * SECOND, T0 + 260 * SECOND)).toBe(false);
  });

  it('counts a partition that never said anything as the last one, and as stalled after 30 s', () => {
    const progress = createProgress();
    progress.apply(read('0'), T0);
    expect(progress.status(T0).times?.evalMs).toBe(T0 - STALLED_MS);
    expect(progress.status(T0).partitions[1]).toEqual({ partition: '1', behindMs: 0, stalled: false });
    progress.apply(read('0'), T0 + 31 * SECOND);
    expect(progress.status(T0).partitions[1]).toEqual({ partition: '1', behindMs: 31 * SECOND, stalled: true });
  });

  it('does not wait for partitions of a topic that has fewer now', () => {
    const progress = createProgress();
    for (const name of ['0', '1', '2']) progress.apply(read(name, { lanes: 3 }), T0 - HOUR);
    for (const name of ['0', '1']) progress.apply(read(name, { lanes: 2 }), T0);
    expect(progress.status(T0).times?.evalMs).toBe(T0);
    expect(progress.status(T0).partitions.map(({ partition: name }) => name)).toEqual(['0', '1']);
  });

  it('replaces the reading of a file by the next reading of it, and forgets a file that ended', () => {
    const progress = createProgress();
    progress.apply(read('dev:1#first', { lanes: 1 }), T0 - HOUR);
    progress.apply(read('dev:1#second', { lanes: 1 }), T0);
    expect(progress.status(T0).times?.evalMs).toBe(T0);
    progress.apply(read('dev:2#second', { lanes: 2 }), T0 + HOUR);
    progress.forget('dev:1#second');
    expect(progress.status(T0 + HOUR).times?.evalMs).toBe(T0 + HOUR);
    progress.forget('dev:2#second');
    expect(progress.status(T0 + HOUR).times?.evalMs).toBe(T0 + HOUR);
  });

  it('calls a bucket complete 5 s after its end', () => {
    const progress = createProgress();
    const completeAt = (recordMs: number) => {
      for (const name of ['0', '1']) progress.apply(read(name), recordMs);
      return progress.status(recordMs).times?.completeMs;
    };
    expect(completeAt(T0 + 14_999)).toBe(T0);
    expect(completeAt(T0 + 15_000)).toBe(T0 + 10_000);
  });

  it('never goes back, whatever is said in whatever order', () => {
    const record = fc.record({
      // A topic may get more partitions.
      name: fc.constantFrom('0', '1', '2'),
      lanes: fc.constantFrom(2, 3),
      caughtUp: fc.boolean(),
      arrival: fc.integer({ min: 0, max: 500_000 }),
      at: fc.integer({ min: 0, max: 500_000 }),
    });
    fc.assert(
      fc.property(fc.array(record, { minLength: 1 }), (records) => {
        const progress = createProgress();
        let last = 0;
        for (const { name, lanes, caughtUp, arrival, at } of records) {
          progress.apply(read(name, { lanes, caughtUp, arrivalMs: T0 + arrival }), T0 + at);
          const evalMs = progress.status(T0 + 500_000).times?.evalMs ?? 0;
          expect(evalMs).toBeGreaterThanOrEqual(last);
          last = evalMs;
        }
      }),
    );
  });
});
