// Bytes in, lines out. Guarantee: whatever the pieces the bytes come in, the same lines with the same offsets; memory is
// bounded by `maxLineBytes`; a line is a view of the piece it arrived in, copied only when it spans pieces.
import type { RawRecord } from '../core/record.ts';

const NEWLINE = 0x0a;
const RETURN = 0x0d;

export interface LineSplitter {
  /** The complete lines of this piece. Blank lines are no records. */
  push(piece: Buffer, timeMs: number): RawRecord[];
  /** The line that has no end yet, as if it had one; nothing when there is none. */
  flush(timeMs: number): RawRecord[];
  /** Where the first line that was not returned begins: everything before is accounted for by what was returned. */
  readonly position: number;
}

/** `offset` is where the first piece lies in the file; `onCut(bytes)` hears of lines longer than `maxLineBytes`. */
export function createLineSplitter(options: {
  offset: number;
  maxLineBytes: number;
  onCut: (bytes: number) => void;
}): LineSplitter {
  const { maxLineBytes, onCut } = options;
  /** Where the line under way begins. */
  let lineStart = options.offset;
  let kept: Buffer[] = [];
  let keptBytes = 0;
  /** Length of the line under way, dropped bytes included. */
  let length = 0;

  const keep = (part: Buffer) => {
    length += part.length;
    const room = maxLineBytes - keptBytes;
    if (room <= 0 || part.length === 0) return;
    const fitting = part.length > room ? part.subarray(0, room) : part;
    kept.push(fitting);
    keptBytes += fitting.length;
  };

  const finish = (timeMs: number, into: RawRecord[]) => {
    let value = kept.length === 1 ? kept[0]! : Buffer.concat(kept);
    if (length > maxLineBytes) onCut(length);
    else if (value[value.length - 1] === RETURN) value = value.subarray(0, -1);
    if (value.length > 0) into.push({ value, offset: lineStart, timeMs, eventId: undefined });
    lineStart += length;
    kept = [];
    keptBytes = 0;
    length = 0;
  };

  return {
    push(piece, timeMs) {
      const records: RawRecord[] = [];
      let from = 0;
      for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, from)) {
        keep(piece.subarray(from, at));
        finish(timeMs, records);
        lineStart += 1;
        from = at + 1;
      }
      // A copy: the rest of the piece would be kept alive by the start of a line that may stay unfinished for hours.
      if (from < piece.length) keep(Buffer.from(piece.subarray(from)));
      return records;
    },
    flush(timeMs) {
      const records: RawRecord[] = [];
      if (length > 0) finish(timeMs, records);
      return records;
    },
    get position() {
      return lineStart;
    },
  };
}
