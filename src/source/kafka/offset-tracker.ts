// Which offsets may be committed. In: segments of consecutive records per partition, and their acknowledgements in any order.
// Out: for each partition, the offset after the last of its contiguous finished segments. Pure: no Kafka, no clock.
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
   * Where reading of a partition starts. `due` asks for this offset itself to be committed (it lies after records that no longer
   * exist).
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

/** What is open in one partition. */
interface Reading {
  live: boolean;
  position: number;
  finished: number | undefined;
  committed: number | undefined;
  /** Unfinished or not yet contiguous pieces, oldest first. */
  pieces: Piece[];
}

/** `onStale(count)` is called for acknowledgements that came after their assignment had ended. */
export function createOffsetTracker(onStale: (count: number) => void = () => {}): OffsetTracker {
  let epoch = 0;
  let partitions = new Map<number, Reading>();
  let unfinished = 0;

  const retire = (reading: Reading) => {
    reading.live = false;
    for (const piece of reading.pieces) unfinished -= piece.left;
  };

  const startReading = (partition: number, offset: number): Reading => {
    const former = partitions.get(partition);
    if (former) retire(former);
    const reading: Reading = { live: true, position: offset, finished: undefined, committed: undefined, pieces: [] };
    partitions.set(partition, reading);
    return reading;
  };

  const advance = (reading: Reading) => {
    let finished = 0;
    while (finished < reading.pieces.length && reading.pieces[finished]!.left === 0) finished++;
    if (finished === 0) return;
    reading.finished = reading.pieces[finished - 1]!.last + 1;
    reading.pieces.splice(0, finished);
  };

  return {
    get epoch() {
      return epoch;
    },

    reset(next) {
      epoch = next;
      for (const reading of partitions.values()) retire(reading);
      partitions = new Map();
    },

    start(partition, offset, due = false) {
      const reading = startReading(partition, offset);
      if (due) reading.finished = offset;
    },

    open(partition, first, last, count) {
      let reading = partitions.get(partition);
      if (reading === undefined || first < reading.position) reading = startReading(partition, first);
      const mine = reading;
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

    position: (partition) => partitions.get(partition)?.position,
    committable: (partition) => partitions.get(partition)?.finished,

    due() {
      const due: DueOffset[] = [];
      for (const [partition, reading] of partitions) {
        if (reading.finished !== undefined && reading.finished !== reading.committed) {
          due.push({ partition, offset: reading.finished });
        }
      }
      return due;
    },

    committed(partition, offset) {
      const reading = partitions.get(partition);
      if (reading) reading.committed = offset;
    },

    unfinished: () => unfinished,
  };
}
