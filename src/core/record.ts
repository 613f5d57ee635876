// The contracts between the stages: what a source delivers, what a sink takes, and how a record is accounted for. Data moves one
// way (source -> parse -> tag -> indexing); only acknowledgements travel back. Also makes the name of a record, its event id.
import { createHash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** Where the records of a chunk come from. */
export type ChunkOrigin =
  | { readonly kind: 'kafka'; readonly topic: string; readonly partition: number }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly identity: string;
      /** A former run may have handed on what begins before this byte, and not have noted it. */
      readonly knownBelow?: number;
    };

/** One record as its source delivered it; nothing has been decoded yet. */
export interface RawRecord {
  /** The bytes as stored; null for a Kafka tombstone. */
  readonly value: Buffer | null;
  /** Where `value` lies in what was fetched with it, for whoever can do without a Buffer of its own. All three, or none. */
  readonly bytes?: Buffer | undefined;
  readonly start?: number;
  readonly end?: number;
  /** Where in `bytes` the text of its `eventId`, or of its `documentId`, lies, if it does; else -1. */
  readonly idAt?: number;
  /** Kafka offset, or byte offset of the line in its file. */
  readonly offset: number;
  /** Record time in ms: the broker's append time, or the time the line was read. */
  readonly timeMs: number;
  /** Event id from the transport's record header, format-checked; never taken from the value. */
  readonly eventId: string | undefined;
  /**
   * What to add to times of the host that sent the record, in ms, when its clock is known to be wrong and that matters: see
   * source/kafka/record-headers.ts.
   */
  readonly clockErrorMs?: number | undefined;
  /** Set when the record may not be the first of its event. */
  readonly mark?: RecordMark | undefined;
  /**
   * The id its document is to have other than an event id: that of a line that `logpipe ship` read; or the one it already has or was
   * to have, when a dead letter or an existing document is read again.
   */
  readonly documentId?: string | undefined;
  /** Set when the record came back from the dead letters: `timeMs` is then the time of its return. */
  readonly redriven?: Redriven;
  /** Why there is nothing to parse: the record stands for a batch that cannot be read. */
  readonly refusal?: { readonly reason: DeadLetterReason; readonly detail: string };
}

/**
 * Record headers that say so: `resent` by the transport after an unknown outcome, so it may be there twice; `redriven`
 * from the dead letters and `replayed` from an older log, both counted when they first arrived.
 */
const RECORD_MARKS = ['resent', 'redriven', 'replayed'] as const;
export type RecordMark = (typeof RECORD_MARKS)[number];

export interface Redriven {
  /** Its record time when it first arrived, in ms. */
  readonly firstMs: number;
  /** How many times it has come back, at least 1. */
  readonly times: number;
}

/**
 * The record time that a record's own times are compared with, in ms: when it first arrived. A record that comes back from the dead
 * letters days later still belongs to its day.
 */
export function firstArrivalMs({ redriven, timeMs }: Pick<RawRecord, 'redriven' | 'timeMs'>): number {
  return redriven === undefined ? timeMs : redriven.firstMs;
}

/** The length of its value in bytes. */
export function lengthOf(record: RawRecord): number {
  // Where there are `bytes`, reading `value` would make a Buffer.
  return record.bytes === undefined ? (record.value?.length ?? 0) : record.end! - record.start!;
}

/**
 * The record with its own copy of the bytes. A record is a part of everything that was fetched with it, so one record kept for
 * minutes would keep megabytes.
 */
export function detached(record: RawRecord): RawRecord {
  const { value, offset, timeMs, eventId, clockErrorMs, mark, documentId, redriven, refusal } = record;
  return {
    ...{ value: value === null ? null : Buffer.from(value), offset, timeMs, eventId },
    ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    ...(mark === undefined ? {} : { mark }),
    ...(documentId === undefined ? {} : { documentId }),
    ...(redriven === undefined ? {} : { redriven }),
    ...(refusal === undefined ? {} : { refusal }),
  };
}

/**
 * The records of a chunk, by their position in it. A list is one; what was fetched from Kafka stays where it was fetched, and a
 * record of it becomes an object when somebody asks for it (source/kafka/fetched-records.ts).
 */
export interface Records extends Iterable<RawRecord> {
  readonly length: number;
  at(position: number): RawRecord | undefined;
}

/** Lines of one read. Most stay where they lie in it, and have no object of their own until somebody asks for one. */
export interface Lines {
  /** Those that do not lie in `bytes` as a whole; they come before all others. */
  readonly apart: readonly RawRecord[];
  readonly bytes: Buffer;
  /** Byte offset in the file of the first of `bytes`. */
  readonly offset: number;
  /** Where in `bytes` each line begins, and the byte after its last. */
  readonly starts: readonly number[];
  readonly ends: readonly number[];
  readonly timeMs: number;
  /** To be called when nobody needs `bytes` any more: the next read may overwrite them. Not calling it costs memory only. */
  readonly reuse?: () => void;
}

/**
 * Records of one partition (or file) in offset order, with the means to acknowledge them.
 * Every record is acknowledged exactly once, when it is in its sinks or in the dead letters; the source commits only up
 * to the highest contiguous acknowledged record and discards acknowledgements of an assignment that has ended.
 */
export interface Chunk {
  readonly origin: ChunkOrigin;
  readonly records: Records;
  /** The same, as they were read; only from a file. */
  readonly lines?: Lines;
  /** Sum of the value lengths, for the in-flight limit. */
  readonly bytes: number;
  /** Before the first record the clock of the broker that dated it was set back. Only where chunks end at arrival buckets. */
  readonly setBack?: true;
  /** Before `done`: `count` of the records it is about to be called for were refused for good, and are nowhere. */
  refused?(count: number): void;
  /** `count` more records of this chunk are accounted for; their order within the chunk does not matter. */
  done(count: number): void;
}

/** Takes a chunk; resolves as soon as the in-flight limit allows the next one (that is the backpressure). */
export type Deliver = (chunk: Chunk) => Promise<void>;

/** A place records come from. Two-phase end: `stop` ends the intake, `close` commits what was acknowledged since. */
export interface Source {
  /** Resolves once the source delivers (or will as soon as it is assigned something). Rejects when it cannot start. */
  start(deliver: Deliver): Promise<void>;
  /** Resolves when there is nothing more to deliver (stdin ended, a file read once); a following source never ends. */
  readonly ended: Promise<void>;
  /** No further chunk is delivered after this resolves; acknowledgements are still taken. */
  stop(): Promise<void>;
  /** Commits the last acknowledged positions and lets go of everything. */
  close(): Promise<void>;
  /** Ready = reading. `detail` says what it waits for otherwise. */
  status(): { ready: boolean; detail: string };
}

/** Why a record went to the dead letters. A closed list: it becomes a metric label and a record header. */
export const DEAD_LETTER_REASONS = [
  'null_value',
  'empty_value',
  'too_large',
  'batch_undecodable',
  'batch_too_large',
  'document_refused',
  'processing_failed',
] as const;
export type DeadLetterReason = (typeof DEAD_LETTER_REASONS)[number];

/** Why a record was dropped for good; `configured`: on purpose, by a transform. A closed list. */
export const DROP_REASONS = [
  'retention',
  'file_gone',
  'file_damaged',
  'configured',
  'refused',
  'spool_full',
  'spool_lost',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface DeadLetter {
  readonly reason: DeadLetterReason;
  /** What refused it, in words (an Elasticsearch reason, a parser message); masked, at most 1,000 characters. */
  readonly detail: string;
  /** The record's bytes: masked, unless `dlq.keepRaw`. */
  readonly value: Buffer | null;
  readonly origin: ChunkOrigin;
  readonly offset: number;
  /** Record time when it first arrived, in ms: a redrive keeps it. */
  readonly timeMs: number;
  /** The document id it has or would have had: a redrive keeps it. */
  readonly id: string;
  /** As in a raw record: a redrive keeps it, since it may decide the day. */
  readonly clockErrorMs?: number;
  /** How many times its record had already come back from the dead letters. Default: never. */
  readonly redriven?: number;
}

export interface DeadLetterSink {
  /** Resolves when the letters are durable; retries by itself for as long as it takes unless `signal` aborts. */
  put(letters: readonly DeadLetter[], signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** What became of one bulk item; `rejected` is used for a closed list of document errors only. */
export type ItemOutcome = 'indexed' | 'duplicate' | 'retry' | 'rejected';

// ---- the name of a record ----

/** The document id; also the dead letter's, so that a redrive cannot index a record twice. */
export function documentId(record: RawRecord, chunk: Pick<Chunk, 'origin'>): string {
  if (record.documentId !== undefined) return record.documentId;
  if (record.eventId !== undefined) return record.eventId;
  const { origin } = chunk;
  if (origin.kind === 'file') return `${origin.identity}-${record.offset}`;
  // The record time distinguishes a re-created topic's records from its predecessor's.
  return `${origin.topic}-${origin.partition}-${record.offset}-${record.timeMs.toString(36)}`;
}

// ---- event ids ----

// ULIDs (48-bit millisecond time, 80 random bits, Crockford base 32), so they sort by creation time and
// Elasticsearch, which compresses sorted ids well, can use them as document ids. https://github.com/ulid/spec

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const IN_ALPHABET = Uint8Array.from({ length: 256 }, (_, code) => Number(ALPHABET.includes(String.fromCharCode(code))));
const FORMAT = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const TIME_LENGTH = 10;
const RANDOM_LENGTH = 16;
/** Of an event id, or of a line's, in characters and in bytes. */
export const ID_LENGTH = TIME_LENGTH + RANDOM_LENGTH;

/** True for a canonical (upper case) ULID. */
export function isEventId(text: string): boolean {
  return text.length === ID_LENGTH && FORMAT.test(text);
}

/** Is the text of an event id, and not of a line's id, in these bytes? */
export function isEventIdAt(bytes: Uint8Array, from: number): boolean {
  const first = bytes[from]!;
  return first >= 0x30 && first <= 0x36 && isIdAt(bytes, from);
}

/** Is the id of a line? */
export function isLineIdAt(bytes: Uint8Array, from: number): boolean {
  return beginsLineId(bytes, from) && isIdAt(bytes, from);
}

/** Of an id that was looked at before: is it a line's? */
export function beginsLineId(bytes: Uint8Array, from: number): boolean {
  return bytes[from] === LINE_MARK_CODE;
}

/** But for its first character. */
function isIdAt(bytes: Uint8Array, from: number): boolean {
  for (let i = 1; i < ID_LENGTH; i++) if (IN_ALPHABET[bytes[from + i]!] !== 1) return false;
  return true;
}

/** When an event id was made, in ms, by the clock of the host that made it. */
export function timeOfEventId(eventId: string): number {
  let ms = 0;
  for (let i = 0; i < TIME_LENGTH; i++) ms = ms * 32 + ALPHABET.indexOf(eventId[i]!);
  return ms;
}

function encodeTime(ms: number): string {
  let text = '';
  for (let rest = ms, i = 0; i < TIME_LENGTH; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

/**
 * A generator of strictly increasing ids. Within one millisecond the random part counts up by one, as the ULID
 * specification asks of monotonic factories; a clock that steps back keeps the last time.
 */
export function createEventIds(now: () => number = Date.now): () => string {
  let time = -1;
  let timeText = '';
  // The random part as 12 fixed characters and a counter of the last four (20 bits): incrementing touches only those.
  let head = '';
  let counter = 0;

  const reseed = () => {
    const bytes = randomBytes(RANDOM_LENGTH);
    head = '';
    for (let i = 0; i < RANDOM_LENGTH - 4; i++) head += ALPHABET[bytes[i]! & 31];
    // The top bit stays clear so that at least 2^19 ids fit into the millisecond before it has to be left.
    counter = ((bytes[12]! << 16) | (bytes[13]! << 8) | bytes[14]!) & 0x7ffff;
  };

  return () => {
    const ms = now();
    if (ms > time) {
      time = ms;
      timeText = encodeTime(ms);
      reseed();
    } else if (++counter > 0xfffff) {
      time += 1;
      timeText = encodeTime(time);
      reseed();
    }
    return (
      timeText +
      head +
      ALPHABET[counter >> 15] +
      ALPHABET[(counter >> 10) & 31] +
      ALPHABET[(counter >> 5) & 31] +
      ALPHABET[counter & 31]
    );
  };
}

// ---- ids of lines ----

// A line of a file that `logpipe ship` sends has no event id, and the same one whenever it is read. It is written as an event id, so
// that everything that carries these carries it too. It begins with 7, which no event id does before the year 8889, then come 45 bits
// of the file's identity, the line's place in 40 bits, and 40 bits of its text with its place. The text is part of it because two hosts
// made from one image may have files of the same identity.

const LINE_MARK = '7';
const LINE_MARK_CODE = LINE_MARK.charCodeAt(0);
const HALF = 2 ** 20;
const FORTY_BITS = 2 ** 40;
const PAIRS = Array.from({ length: 1_024 }, (_, i) => ALPHABET[i >> 5]! + ALPHABET[i & 31]!);
const CODES = Uint8Array.from(ALPHABET, (char) => char.charCodeAt(0));
const NEWLINE = 0x0a;

/** The event id in a text, if it is one: undefined for the id of a line, and for any other text. */
export function eventIdIn(text: string): string | undefined {
  return isEventId(text) && !text.startsWith(LINE_MARK) ? text : undefined;
}

/** By what a record is recognised when it comes again: undefined when it has no id apart from its place in the log. */
export function lastingId({ eventId, documentId }: RawRecord): string | undefined {
  return eventId ?? documentId;
}

/** The ids of the lines of one file, of a line's byte offset and its bytes. */
export interface LineIds {
  (offset: number, value: Buffer): string;
  /** Writes the id of a single line as text. @returns where it ends */
  write(out: Uint8Array, at: number, offset: number, line: Uint8Array): number;
}

export function createLineIds(identity: string): LineIds {
  const hash = createHash('sha256').update(identity).digest();
  let head = LINE_MARK;
  for (let i = 0; i < TIME_LENGTH - 1; i++) head += ALPHABET[hash[i]! & 31];
  const headCodes = Buffer.from(head);
  const base = hash.readUIntBE(10, 5);
  const salt = hash[15]!;
  const placed = (offset: number) => (base + offset) % FORTY_BITS;
  const told = (offset: number, line: Uint8Array) =>
    salt * 2 ** 32 + ((crc32(line) ^ Math.imul((offset % HALF) ^ Math.floor(offset / HALF), 0x9e3779b1)) >>> 0);
  const idOf = (offset: number, value: Buffer) => {
    // Of lines that were joined the first: where a record ends may depend on when it was read.
    const end = value.indexOf(NEWLINE);
    return head + fortyBits(placed(offset)) + fortyBits(told(offset, end < 0 ? value : value.subarray(0, end)));
  };
  return Object.assign(idOf, {
    write(out: Uint8Array, at: number, offset: number, line: Uint8Array) {
      out.set(headCodes, at);
      const next = writeFortyBits(out, at + headCodes.length, placed(offset));
      return writeFortyBits(out, next, told(offset, line));
    },
  });
}

/** Eight characters. */
function fortyBits(value: number): string {
  const high = Math.floor(value / HALF);
  const low = value % HALF;
  return PAIRS[high >> 10]! + PAIRS[high & 1_023]! + PAIRS[low >> 10]! + PAIRS[low & 1_023]!;
}

function writeFortyBits(out: Uint8Array, at: number, value: number): number {
  let high = Math.floor(value / HALF);
  let low = value % HALF;
  for (let i = 3; i >= 0; i--) {
    out[at + i] = CODES[high & 31]!;
    out[at + 4 + i] = CODES[low & 31]!;
    high >>>= 5;
    low >>>= 5;
  }
  return at + 8;
}
