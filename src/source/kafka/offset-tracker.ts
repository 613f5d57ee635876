// Which offsets may be committed. In: segments of consecutive records per partition, and their acknowledgements in any
// order. Out: per partition the offset after the highest contiguous finished segment. Pure: no Kafka, no clock.
//
// Guarantee: nothing is due beyond an unfinished record; within an assignment the due offset of a partition only grows;
// acknowledgements of an assignment that has ended are counted as stale and change nothing.
export interface Segment {
  /** `count` more records of the segment are accounted for. @throws RangeError for more than it holds (a bug). */
  done(count: number): void;
}

export interface DueOffset {
  readonly partition: number;
  /** The next offset to read: one after the last finished record. */
  readonly offset: number;
}

export interface OffsetTracker {
  /** The assignment the tracker now works for. */
  readonly epoch: number;
  /** Forgets everything of the former assignment. */
  reset(epoch: number): void;
  /**
   * Where the reading of a partition starts. `due` asks for this very offset to be committed (it lies after records
   * that no longer exist).
   */
  start(partition: number, offset: number, due?: boolean): void;
  /**
   * Records `first`..`last` (inclusive) were read, `count` of them to be acknowledged; offsets without a record
   * (compaction, transaction markers) are fine. Reading again from an earlier offset restarts the partition: what was
   * open there is stale from then on.
   */
  open(partition: number, first: number, last: number, count: number): Segment;
  /** The offset after everything opened so far; undefined before `start` and the first `open`. */
  position(partition: number): number | undefined;
  /** The offset that may be committed, whether or not it has been; undefined when nothing is finished yet. */
  committable(partition: number): number | undefined;
  /** What is finished and not yet committed. */
  due(): DueOffset[];
  /** `offset` was committed. */
  committed(partition: number, offset: number): void;
  /** Records opened and not yet acknowledged, over all partitions of this assignment. */
  unfinished(): number;
}

interface Piece {
  readonly last: number;
  left: number;
}

interface Lane {
  live: boolean;
  position: number;
  finished: number | undefined;
  committed: number | undefined;
  /** Unfinished or not yet contiguous pieces, oldest first. */
  pieces: Piece[];
}

/** `onStale(count)` hears of acknowledgements that came after their assignment had ended. */
export function createOffsetTracker(onStale: (count: number) => void = () => {}): OffsetTracker {
  let epoch = 0;
  let lanes = new Map<number, Lane>();
  let unfinished = 0;

  const retire = (lane: Lane) => {
    lane.live = false;
    for (const piece of lane.pieces) unfinished -= piece.left;
  };

  const startLane = (partition: number, offset: number): Lane => {
    const former = lanes.get(partition);
    if (former) retire(former);
    const lane: Lane = { live: true, position: offset, finished: undefined, committed: undefined, pieces: [] };
    lanes.set(partition, lane);
    return lane;
  };

  const advance = (lane: Lane) => {
    let finished = 0;
    while (finished < lane.pieces.length && lane.pieces[finished]!.left === 0) finished++;
    if (finished === 0) return;
    lane.finished = lane.pieces[finished - 1]!.last + 1;
    lane.pieces.splice(0, finished);
  };

  return {
    get epoch() {
      return epoch;
    },

    reset(next) {
      epoch = next;
      for (const lane of lanes.values()) retire(lane);
      lanes = new Map();
    },

    start(partition, offset, due = false) {
      const lane = startLane(partition, offset);
      if (due) lane.finished = offset;
    },

    open(partition, first, last, count) {
      let lane = lanes.get(partition);
      if (lane === undefined || first < lane.position) lane = startLane(partition, first);
      const mine = lane;
      const piece: Piece = { last, left: count };
      mine.position = last + 1;
      mine.pieces.push(piece);
      unfinished += count;
      if (count === 0) advance(mine);
      return {
        done(finished) {
          if (!mine.live) return onStale(finished);
          if (finished > piece.left) {
            throw new RangeError(
              `partition ${partition}: ${finished} records acknowledged where only ${piece.left} are open`,
            );
          }
          piece.left -= finished;
          unfinished -= finished;
          if (piece.left === 0 && finished > 0 && mine.pieces[0]!.left === 0) advance(mine);
        },
      };
    },

    position: (partition) => lanes.get(partition)?.position,
    committable: (partition) => lanes.get(partition)?.finished,

    due() {
      const due: DueOffset[] = [];
      for (const [partition, lane] of lanes) {
        if (lane.finished !== undefined && lane.finished !== lane.committed) {
          due.push({ partition, offset: lane.finished });
        }
      }
      return due;
    },

    committed(partition, offset) {
      const lane = lanes.get(partition);
      if (lane) lane.committed = offset;
    },

    unfinished: () => unfinished,
  };
}
