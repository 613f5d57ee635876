// Bytes in, lines out: the splitter, the joiner of lines that belong together, and the two sources that are only streams, standard
// input and a named pipe. Guarantee: however the bytes are cut into pieces, the lines and their offsets are the same, and each byte
// is examined and copied at most a fixed number of times; memory is bounded by `maxLineBytes`; a line is a view of the piece it
// arrived in, copied only when it spans pieces. What was read from a stream cannot be read again, so nothing is remembered between
// runs.

import { randomUUID } from 'node:crypto';
import { constants, createReadStream, open } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import { createGunzip } from 'node:zlib';
import { type Clock, deferred } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Chunk, ChunkOrigin, Deliver, Lines, RawRecord, Source } from '../core/record.ts';

const NUL = 0x00;
const NEWLINE = 0x0a;
const LINE_BREAK = Buffer.from('\n');
const RETURN = 0x0d;
const FIRST_CAPACITY = 4_096;

export interface LineSplitter {
  /** The complete lines of this piece. Lines of nothing but white space are left out. */
  push(piece: Buffer, timeMs: number): RawRecord[];
  /** The same lines, left where they are. */
  split(piece: Buffer, timeMs: number): Lines;
  /** The line that has no end yet, as if it had one; empty when there is none. */
  flush(timeMs: number): RawRecord[];
  /** Where the first line that was not returned yet begins; everything before it has been returned or skipped. */
  readonly position: number;
}

interface LineSplitterOptions {
  /** Where the first piece lies in the file. */
  readonly offset: number;
  /** Longer lines are cut, at the end of a character. */
  readonly maxLineBytes: number;
  /** Called with the length of a line that is cut. */
  onCut(bytes: number): void;
  /**
   * Called with the length of a hole: a writer that goes on at its old place in an emptied file leaves NULs before it, and so
   * does a machine that loses power. Two NULs in a row are a hole and end the line before them; a single one (UTF-16) is part of
   * its line.
   */
  onHole?(bytes: number): void;
}

export function createLineSplitter(options: LineSplitterOptions): LineSplitter {
  const { maxLineBytes, onCut, onHole = () => {} } = options;
  /** Where the line under way begins. */
  let lineStart = options.offset;
  /** What is kept of the line under way from earlier pieces, in a buffer that doubles. */
  let held = Buffer.alloc(0);
  let heldBytes = 0;
  /** Length of the line under way, including what was not kept. */
  let length = 0;
  /** How many NULs were just seen: it is not known yet whether they are a hole or a single one. */
  let nuls = 0;

  const hold = (part: Buffer) => {
    length += part.length;
    const taken = Math.min(part.length, maxLineBytes - heldBytes);
    if (taken <= 0) return;
    if (heldBytes + taken > held.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.min(maxLineBytes, Math.max(FIRST_CAPACITY, 2 * held.length, heldBytes + taken)),
      );
      held.copy(grown, 0, 0, heldBytes);
      held = grown;
    }
    part.copy(held, heldBytes, 0, taken);
    heldBytes += taken;
  };

  /** The line under way ends with `last`. */
  const finish = (last: Buffer, timeMs: number, into: RawRecord[]) => {
    hold(last);
    let value = held.subarray(0, heldBytes);
    held = Buffer.alloc(0);
    heldBytes = 0;
    if (length > maxLineBytes) {
      onCut(length);
      value = value.subarray(0, endOfCharacter(value, maxLineBytes));
    } else if (value[value.length - 1] === RETURN) value = value.subarray(0, -1);
    if (!isBlank(value)) into.push({ value, offset: lineStart, timeMs, eventId: undefined });
    lineStart += length;
    length = 0;
  };

  /** Takes a piece without NULs. */
  const take = (piece: Buffer, timeMs: number): Lines => {
    const apart: RawRecord[] = [];
    let from = 0;
    if (length > 0) {
      // The line under way ends here, or goes on.
      const at = piece.indexOf(NEWLINE);
      if (at >= 0) {
        finish(piece.subarray(0, at), timeMs, apart);
        lineStart += 1;
        from = at + 1;
      } else {
        hold(piece);
        from = piece.length;
      }
    }
    const offset = lineStart - from;
    const starts: number[] = [];
    const ends: number[] = [];
    for (let at = piece.indexOf(NEWLINE, from); at >= 0; at = piece.indexOf(NEWLINE, from)) {
      let end = at;
      if (at - from > maxLineBytes) {
        onCut(at - from);
        end = from + endOfCharacter(piece.subarray(from, at), maxLineBytes);
      } else if (at > from && piece[at - 1] === RETURN) end -= 1;
      if (!isBlank(piece, from, end)) {
        starts.push(from);
        ends.push(end);
      }
      from = at + 1;
    }
    if (length === 0) lineStart = offset + from;
    // A copy, because the start of a line that may stay unfinished for hours would keep the whole piece alive.
    if (from < piece.length) hold(piece.subarray(from));
    return { apart, bytes: piece, offset, starts, ends, timeMs };
  };

  /** Ends the run of NULs that was just seen. */
  const endHole = (timeMs: number, into: RawRecord[]) => {
    const count = nuls;
    nuls = 0;
    if (count === 1 && length > 0) return hold(Buffer.alloc(1));
    if (length > 0) finish(Buffer.alloc(0), timeMs, into);
    lineStart += count;
    if (count > 1) onHole(count);
  };

  const takeWithHoles = (piece: Buffer, timeMs: number, into: RawRecord[]) => {
    let at = 0;
    while (at < piece.length) {
      if (piece[at] === NUL) {
        nuls += 1;
        at += 1;
        continue;
      }
      if (nuls > 0) endHole(timeMs, into);
      const next = piece.indexOf(NUL, at);
      const end = next < 0 ? piece.length : next;
      for (const record of recordsOf(take(piece.subarray(at, end), timeMs))) into.push(record);
      at = end;
    }
  };

  const split = (piece: Buffer, timeMs: number): Lines => {
    if (nuls === 0 && piece.indexOf(NUL) < 0) return take(piece, timeMs);
    const records: RawRecord[] = [];
    takeWithHoles(piece, timeMs, records);
    return linesApart(records);
  };

  return {
    push: (piece, timeMs) => recordsOf(split(piece, timeMs)),
    split,
    flush(timeMs) {
      const records: RawRecord[] = [];
      if (nuls > 0) endHole(timeMs, records);
      if (length > 0) finish(Buffer.alloc(0), timeMs, records);
      return records;
    },
    get position() {
      return lineStart;
    },
  };
}

/** Each line as a record of its own, a view of what was read. */
export function recordsOf({ apart, bytes, offset, starts, ends, timeMs }: Lines): RawRecord[] {
  const records = [...apart];
  for (let i = 0; i < starts.length; i++) {
    const start = starts[i]!;
    records.push({ value: bytes.subarray(start, ends[i]), offset: offset + start, timeMs, eventId: undefined });
  }
  return records;
}

export function sizeOf({ apart, starts, ends }: Lines): { readonly count: number; readonly bytes: number } {
  let bytes = 0;
  for (const { value } of apart) bytes += value!.length;
  for (let i = 0; i < starts.length; i++) bytes += ends[i]! - starts[i]!;
  return { count: apart.length + starts.length, bytes };
}

/** Its records come into being when somebody asks for them. */
export function chunkOfLines(chunk: Omit<Chunk, 'records'> & { readonly lines: Lines }): Chunk {
  let records: RawRecord[] | undefined;
  return {
    ...chunk,
    get records() {
      records ??= recordsOf(chunk.lines);
      return records;
    },
  };
}

export function linesApart(records: readonly RawRecord[]): Lines {
  return { apart: records, bytes: Buffer.alloc(0), offset: 0, starts: [], ends: [], timeMs: 0 };
}

/** Does it consist of spaces, tabs and the like, or nothing? */
export function isBlank(value: Buffer, from = 0, to = value.length): boolean {
  for (let at = from; at < to; at++) {
    const byte = value[at]!;
    if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return false;
  }
  return true;
}

/** The last place up to `end` that is not inside a UTF-8 character. */
export function endOfCharacter(value: Buffer, end: number): number {
  for (let at = end; at > end - 4 && at > 0; at--) {
    const lead = value[at - 1]!;
    if (lead < 0x80) return at;
    if (lead < 0xc0) continue;
    const size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    return at - 1 + size <= end ? end : at - 1;
  }
  return end;
}

// ---- lines that belong together: a stack trace below its message ----

export const multilineSection = {
  type: 'object',
  description:
    'Joins lines that belong together, such as a stack trace and its message: `starts` says how a first line begins, `continues` how any other does. One of them.',
  additionalProperties: false,
  minProperties: 1,
  maxProperties: 1,
  properties: {
    starts: {
      type: 'string',
      minLength: 1,
      format: 'regex',
      description: 'A line in which this regular expression is found begins a record.',
    },
    continues: {
      type: 'string',
      minLength: 1,
      format: 'regex',
      description: 'A line in which this regular expression is found belongs to the record before it.',
    },
  },
} as const;

/** Regular expressions; exactly one of them. */
export interface MultilineRule {
  readonly starts?: string;
  readonly continues?: string;
}

export interface Joiner {
  readonly deliver: Deliver;
  /** Hands on what waits for further lines. */
  flush(): Promise<void>;
  /** Forgets what waits, without acknowledging it. */
  close(): void;
}

/** How long a record waits for a further line. */
const JOIN_MS = 1_000;
const MAX_JOINED_LINES = 1_000;
/** The rule looks at so much of a line: no line takes long, whatever the expression. */
const RULE_BYTES = 256;

/** The lines of a record that is not complete yet. */
interface Open {
  readonly lines: RawRecord[];
  bytes: number;
  /** The chunks they came with. */
  readonly parts: { readonly done: Chunk['done']; count: number }[];
  readonly origin: ChunkOrigin;
  cancel: () => void;
}

/**
 * Joins the lines of each file. A record has the place and the time of its first line; its lines are accounted for together. It ends
 * with the next first line, after a second without any, or when it is `maxBytes` or a thousand lines long.
 */
export function createJoiner(
  rule: MultilineRule,
  deliver: Deliver,
  { clock, maxBytes }: { readonly clock: Pick<Clock, 'after'>; readonly maxBytes: number },
): Joiner {
  const pattern = new RegExp(rule.starts ?? rule.continues!);
  const begins = ({ value }: RawRecord) =>
    pattern.test(value!.toString('utf8', 0, RULE_BYTES)) === (rule.starts !== undefined);
  const opened = new Map<string, Open>();
  /** Chunks go on one after the other, also those that a timer hands on. */
  let last: Promise<void> = Promise.resolve();

  const send = (chunk: Chunk): Promise<void> => {
    last = last.catch(() => {}).then(() => deliver(chunk));
    return last;
  };

  const joined = ({ lines }: Open): RawRecord => {
    const [first] = lines;
    if (lines.length === 1) return first!;
    const values = lines.flatMap(({ value }, i) => (i === 0 ? [value!] : [LINE_BREAK, value!]));
    return { ...first!, value: Buffer.concat(values) };
  };

  /** The newest of its lines are views of a whole piece of the file, which must not wait with them. */
  const keep = ({ lines }: Open, newest: number): void => {
    for (let i = Math.max(0, lines.length - newest); i < lines.length; i++) {
      lines[i] = { ...lines[i]!, value: Buffer.from(lines[i]!.value!) };
    }
  };

  /** A chunk of whole records: when all of them are accounted for, so are their lines. */
  const chunkOf = (origin: ChunkOrigin, whole: readonly Open[]): Chunk => {
    const records = whole.map(joined);
    let left = records.length;
    let bytes = 0;
    for (const { value } of records) bytes += value!.length;
    return {
      origin,
      records,
      bytes,
      done(count) {
        left -= count;
        if (left > 0) return;
        for (const { parts } of whole) for (const { done, count: lines } of parts) done(lines);
      },
    };
  };

  const flush = (key: string): Promise<void> => {
    const open = opened.get(key);
    if (open === undefined) return Promise.resolve();
    open.cancel();
    opened.delete(key);
    return send(chunkOf(open.origin, [open]));
  };

  return {
    deliver(chunk) {
      const { origin, records } = chunk;
      const key = origin.kind === 'file' ? origin.identity : `${origin.topic} ${origin.partition}`;
      let open = opened.get(key);
      open?.cancel();
      const whole: Open[] = [];
      for (const record of records) {
        const length = record.value?.length ?? 0;
        const isFull =
          open !== undefined && (open.lines.length >= MAX_JOINED_LINES || open.bytes + length + 1 > maxBytes);
        if (open === undefined || isFull || begins(record)) {
          if (open !== undefined) whole.push(open);
          open = { lines: [], bytes: 0, parts: [], origin, cancel() {} };
        }
        open.lines.push(record);
        open.bytes += length + 1;
        const part = open.parts.at(-1);
        if (part?.done === chunk.done) part.count += 1;
        else open.parts.push({ done: chunk.done, count: 1 });
      }
      if (open !== undefined) {
        keep(open, records.length);
        opened.set(key, open);
        // A failure is that of the next delivery, too.
        open.cancel = clock.after(JOIN_MS, () => void flush(key).catch(() => {}));
      }
      return whole.length === 0 ? last : send(chunkOf(origin, whole));
    },
    async flush() {
      await Promise.all([...opened.keys()].map(flush));
    },
    close() {
      for (const { cancel } of opened.values()) cancel();
      opened.clear();
    },
  };
}

// ---- standard input as a source: one record per line, until it ends ----

/**
 * Whoever pipes data in is responsible for sending it again. `ended` resolves at the end of input; it rejects with
 * LOGPIPE_SOURCE_FAILED when reading fails.
 */
export function createStdinSource(
  options: { input: NodeJS.ReadableStream; maxLineBytes: number; multiline?: MultilineRule | undefined },
  deps: { log: Log; clock: Clock },
): Source {
  const { input, maxLineBytes, multiline } = options;
  const { log, clock } = deps;
  // Every run has an identity of its own: the third line of one run is not the third line of the next.
  const origin: ChunkOrigin = { kind: 'file', path: 'stdin', identity: randomUUID() };
  const splitter = createLineSplitter({
    offset: 0,
    maxLineBytes,
    onCut: (bytes) => log.warn('a line was cut', { path: 'stdin', bytes, keptBytes: maxLineBytes }),
  });
  const ended = deferred();
  let detail = 'not started';
  let reading = false;

  let joiner: Joiner | undefined;

  const run = async (deliver: Deliver) => {
    const take = async (records: RawRecord[]) => {
      if (records.length === 0) return;
      let bytes = 0;
      for (const { value } of records) bytes += value?.length ?? 0;
      await deliver({ origin, records, bytes, done() {} });
    };
    for await (const piece of input) {
      if (!reading) return;
      await take(splitter.push(Buffer.isBuffer(piece) ? piece : Buffer.from(piece), clock.now()));
    }
    if (reading) {
      await take(splitter.flush(clock.now()));
      await joiner?.flush();
    }
    detail = 'standard input has ended';
    reading = false;
    ended.resolve();
  };

  const letGo = () => {
    reading = false;
    // Ends the loop, and the process with it: an open pipe would keep both alive.
    if ('destroy' in input && typeof input.destroy === 'function') input.destroy();
  };

  return {
    ended: ended.promise,
    async start(deliver) {
      reading = true;
      detail = 'reading standard input';
      joiner = multiline && createJoiner(multiline, deliver, { clock, maxBytes: maxLineBytes });
      run(joiner?.deliver ?? deliver).catch((error: unknown) => {
        if (!reading) return;
        reading = false;
        detail = errorText(error);
        ended.reject(
          new LogpipeError('LOGPIPE_SOURCE_FAILED', `standard input cannot be read: ${reasonInWords(error)}`, error),
        );
      });
    },
    async stop() {
      letGo();
      detail = 'stopped';
    },
    async close() {
      letGo();
    },
    status: () => ({ ready: reading, detail }),
  };
}

// ---- a named pipe among the files: one without a writer holds up nobody ----

export interface PipeReader {
  /** Asks to check again whether a writer has come. */
  look(): void;
  /** What has arrived; undefined when nothing has. Rejects when the pipe cannot be opened. */
  next(): Promise<Chunk | undefined>;
  /** A writer was there, and the last one has left. */
  readonly hasEnded: boolean;
  close(): Promise<void>;
}

export function createPipeReader(
  options: { path: string; maxLineBytes: number },
  deps: { wake(): void; log: Log; clock: Clock },
): PipeReader {
  const { path, maxLineBytes } = options;
  const { wake, log, clock } = deps;
  const origin = { kind: 'file', path, identity: randomUUID() } as const;
  const splitter = createLineSplitter({
    offset: 0,
    maxLineBytes,
    onCut: (bytes) => log.warn('a line was cut', { path, bytes, keptBytes: maxLineBytes }),
  });
  let socket: Socket | undefined;
  let piece: Buffer | undefined;
  let hasLeft = false;
  let hasRead = false;
  let mayConnect = true;

  const connect = async () => {
    // Without NONBLOCK, opening would wait for a writer and block a thread that all file operations share.
    const fd = await promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const mine = new Socket({ fd, readable: true, writable: false });
    socket = mine;
    mine.on('data', (data) => {
      piece = data;
      hasRead = true;
      mine.pause();
      wake();
    });
    const end = () => {
      if (socket !== mine) return;
      socket = undefined;
      hasLeft = hasRead;
      mine.destroy();
      if (!hasRead) return;
      mayConnect = true;
      wake();
    };
    mine.on('end', end);
    mine.on('error', end);
  };

  const toChunk = (records: RawRecord[]): Chunk | undefined => {
    if (records.length === 0) return undefined;
    let bytes = 0;
    for (const { value } of records) bytes += value?.length ?? 0;
    return { origin, records, bytes, done() {} };
  };

  return {
    look() {
      mayConnect = true;
    },
    async next() {
      const data = piece;
      if (data) {
        piece = undefined;
        socket?.resume();
        return toChunk(splitter.push(data, clock.now()));
      }
      if (socket) return undefined;
      const last = hasLeft ? toChunk(splitter.flush(clock.now())) : undefined;
      if (last || !mayConnect) return last;
      mayConnect = false;
      await connect();
      return undefined;
    },
    get hasEnded() {
      return hasLeft && piece === undefined;
    },
    async close() {
      socket?.destroy();
      socket = undefined;
    },
  };
}

// ---- a file, once ----

const FILE_PIECE_BYTES = 64 * 1024;

/**
 * The lines of a file, plain or gzip.
 * @param endAt read only so many bytes of the file, and no line that has no end among them. Default: all
 * @throws LogpipeError LOGPIPE_SOURCE_FAILED when it cannot be read
 */
export async function* linesOf(path: string, maxLineBytes: number, endAt?: number): AsyncGenerator<RawRecord> {
  if (endAt === 0) return;
  const splitter = createLineSplitter({ offset: 0, maxLineBytes, onCut() {} });
  const end = endAt === undefined ? {} : { end: endAt - 1 };
  const raw = createReadStream(path, { highWaterMark: FILE_PIECE_BYTES, ...end });
  const content = path.endsWith('.gz') ? raw.pipe(createGunzip()) : raw;
  if (content !== raw) raw.on('error', (error) => content.destroy(error));
  try {
    for await (const piece of content) yield* splitter.push(Buffer.from(piece as Buffer), Date.now());
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_SOURCE_FAILED',
      `${path} cannot be read (${errorText(error)}); run it as a user who may read it`,
      error,
    );
  } finally {
    raw.destroy();
  }
  if (endAt === undefined) yield* splitter.flush(Date.now());
}
