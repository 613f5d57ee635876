// How far a replay is. In: batches as they are begun, and acknowledgements in any order. Out: per lane the position after
// the last batch of an unbroken row of finished ones, and the counts that belong to exactly these batches. Pure.
import type { Position, Positions } from './sources.ts';

/** What became of the records of a batch. `matched` = those that were to be written. */
export interface Tally {
  read: number;
  bytes: number;
  /** Outside of the stretch by event time. */
  outside: number;
  /** In the stretch, but without what `--where` asks for. */
  unmatched: number;
  matched: number;
}

export const TALLY_KEYS = ['read', 'bytes', 'outside', 'unmatched', 'matched'] as const satisfies (keyof Tally)[];

export interface ReplayProgress {
  /** `count` records of the batch are still to be acknowledged. */
  begin(lane: string, next: Position, tally: Tally, count: number): (done: number) => void;
  /** Everything finished, and nothing else. */
  settled(): { positions: Map<string, Position>; tally: Tally };
  /** Counts of everything begun, finished or not. */
  readonly begun: Tally;
}

interface Open {
  readonly next: Position;
  readonly tally: Tally;
  left: number;
}

export function createReplayProgress(positions: Positions, start: Tally): ReplayProgress {
  const at = new Map(positions);
  const settled = { ...start };
  const begun = { ...start };
  const lanes = new Map<string, Open[]>();

  function advance(lane: string, open: Open[]): void {
    while (open.length > 0 && open[0]!.left === 0) {
      const { next, tally } = open.shift()!;
      at.set(lane, next);
      add(settled, tally);
    }
  }

  return {
    begun,
    begin(lane, next, tally, count) {
      const open = lanes.get(lane) ?? [];
      lanes.set(lane, open);
      const entry = { next, tally, left: count };
      open.push(entry);
      add(begun, tally);
      if (count === 0) advance(lane, open);
      return (done) => {
        entry.left -= done;
        if (entry.left < 0) throw new RangeError(`${lane}: ${-entry.left} records too many were acknowledged`);
        if (entry.left === 0) advance(lane, open);
      };
    },
    settled: () => ({ positions: new Map(at), tally: { ...settled } }),
  };
}

export function emptyTally(): Tally {
  return { read: 0, bytes: 0, outside: 0, unmatched: 0, matched: 0 };
}

function add(to: Tally, more: Tally): void {
  for (const key of TALLY_KEYS) to[key] += more[key];
}
