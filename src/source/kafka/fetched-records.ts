// Records where they were fetched. In: the places of records in the bytes that a broker sent, unpacked. Out: records by position; one
// becomes an object, a view of these bytes, when somebody asks for it. Guarantee: such a record reads as `recordOf`
// (record-headers.ts) would have made it; what was cut off (`slice`) stays the same records.
//
// Thousands of records come in one answer, and an object for each of them, with Buffers for its value and its headers, costs more
// than reading it: numbers in a few arrays cost next to nothing, and no garbage collection looks at them.
import { ID_LENGTH, type RawRecord, type RecordMark, type Records } from '../../core/record.ts';
import type { HeaderNotes, RecordPlace } from './record-headers.ts';

const RESENT = 1;
const REPLAYED = 2;
const LINE_ID = 4;
const APPEND_TIME = 8;
/** It needs more than the arrays hold, and is an object. */
const ODD = 16;

/** Bytes of one record in all arrays. */
const WIDTH = 8 + 8 + 4 + 4 + 4 + 4 + 1;

/** The records of one answer and partition, growing while it is decoded. A class, and its arrays public, for the hot path. */
export class FetchedPlaces {
  length = 0;
  /** The log they were read from. */
  readonly log: RecordPlace;
  /** What each record batch was unpacked into. */
  readonly pieces: Buffer[] = [];
  /** In which piece a record lies. */
  pieceOf = new Int32Array(0);
  starts = new Int32Array(0);
  /** -1 for null. */
  lengths = new Int32Array(0);
  offsets = new Float64Array(0);
  times = new Float64Array(0);
  /** Where the id of the header lies in the piece; -1 without one. */
  ids = new Int32Array(0);
  flags = new Uint8Array(0);
  private clockErrors: Map<number, number> | undefined;
  private odd: Map<number, RawRecord> | undefined;

  constructor(log: RecordPlace) {
    this.log = log;
  }

  /** What is added next lies in this piece. */
  begin(piece: Buffer): void {
    this.pieces.push(piece);
  }

  /** There is room for `count` more. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.starts.length) return;
    const room = Math.max(needed, 2 * this.length);
    const { offsets, times, pieceOf, starts, lengths, ids, flags } = this;
    const memory = new ArrayBuffer(room * WIDTH);
    this.offsets = new Float64Array(memory, 0, room);
    this.times = new Float64Array(memory, 8 * room, room);
    this.pieceOf = new Int32Array(memory, 16 * room, room);
    this.starts = new Int32Array(memory, 20 * room, room);
    this.lengths = new Int32Array(memory, 24 * room, room);
    this.ids = new Int32Array(memory, 28 * room, room);
    this.flags = new Uint8Array(memory, 32 * room, room);
    if (this.length === 0) return;
    this.offsets.set(offsets);
    this.times.set(times);
    this.pieceOf.set(pieceOf);
    this.starts.set(starts);
    this.lengths.set(lengths);
    this.ids.set(ids);
    this.flags.set(flags);
  }

  /** Adds one that lies in the present piece. There is room for it. */
  add(
    start: number,
    length: number,
    offset: number,
    timeMs: number,
    isAppendTime: boolean,
    { idAt, isLineId, resent, replayed, clockErrorMs }: HeaderNotes,
  ): void {
    const at = this.length++;
    this.pieceOf[at] = this.pieces.length - 1;
    this.starts[at] = start;
    this.lengths[at] = length;
    this.offsets[at] = offset;
    this.times[at] = timeMs;
    this.ids[at] = idAt;
    this.flags[at] =
      (replayed ? REPLAYED : resent ? RESENT : 0) | (isLineId ? LINE_ID : 0) | (isAppendTime ? APPEND_TIME : 0);
    if (clockErrorMs === 0) return;
    this.clockErrors ??= new Map();
    this.clockErrors.set(at, clockErrorMs);
  }

  /** Adds one that is an object already. */
  addObject(record: RawRecord, isAppendTime: boolean): void {
    this.reserve(1);
    const at = this.length++;
    this.lengths[at] = record.value?.length ?? -1;
    this.offsets[at] = record.offset;
    this.times[at] = record.timeMs;
    this.flags[at] = ODD | (isAppendTime ? APPEND_TIME : 0);
    this.odd ??= new Map();
    this.odd.set(at, record);
  }

  record(at: number): RawRecord {
    return (this.flags[at]! & ODD) === 0 ? new FetchedRecord(this, at) : this.odd!.get(at)!;
  }

  clockError(at: number): number | undefined {
    return this.clockErrors?.get(at);
  }
}

/** Consecutive records of an answer. */
export class FetchedRecords implements Records {
  readonly length: number;
  private readonly places: FetchedPlaces;
  private readonly from: number;

  constructor(places: FetchedPlaces, from = 0, to = places.length) {
    this.places = places;
    this.from = from;
    this.length = to - from;
  }

  at(position: number): RawRecord | undefined {
    return position < this.length ? this.places.record(this.from + position) : undefined;
  }

  *[Symbol.iterator](): Generator<RawRecord> {
    for (let i = 0; i < this.length; i++) yield this.places.record(this.from + i);
  }

  offsetAt(position: number): number {
    return this.places.offsets[this.from + position]!;
  }

  timeAt(position: number): number {
    return this.places.times[this.from + position]!;
  }

  /** Is its time the broker's, not its producer's? */
  isAppendTimeAt(position: number): boolean {
    return (this.places.flags[this.from + position]! & APPEND_TIME) !== 0;
  }

  /** The sum of the value lengths. */
  bytes(): number {
    const { lengths } = this.places;
    let bytes = 0;
    for (let at = this.from; at < this.from + this.length; at++) if (lengths[at]! > 0) bytes += lengths[at]!;
    return bytes;
  }

  slice(from: number, to = this.length): FetchedRecords {
    return new FetchedRecords(this.places, this.from + from, this.from + to);
  }
}

/** A view of one record. Its Buffer and its texts come into being when they are read. */
class FetchedRecord implements RawRecord {
  readonly offset: number;
  readonly timeMs: number;
  readonly bytes: Buffer | undefined;
  readonly start: number;
  readonly end: number;
  readonly idAt: number;
  private readonly places: FetchedPlaces;
  private readonly place: number;
  private id: string | undefined;

  constructor(places: FetchedPlaces, at: number) {
    const length = places.lengths[at]!;
    this.offset = places.offsets[at]!;
    this.timeMs = places.times[at]!;
    this.bytes = length < 0 ? undefined : places.pieces[places.pieceOf[at]!];
    this.start = places.starts[at]!;
    this.end = this.start + length;
    this.idAt = places.ids[at]!;
    this.places = places;
    this.place = at;
    this.id = undefined;
  }

  get value(): Buffer | null {
    return this.bytes === undefined ? null : this.bytes.subarray(this.start, this.end);
  }

  get eventId(): string | undefined {
    return this.has(LINE_ID) ? undefined : this.headerId();
  }

  get documentId(): string | undefined {
    return this.has(LINE_ID) ? this.headerId() : undefined;
  }

  get mark(): RecordMark | undefined {
    return this.has(REPLAYED) ? 'replayed' : this.has(RESENT) ? 'resent' : undefined;
  }

  get clockErrorMs(): number | undefined {
    return this.places.clockError(this.place);
  }

  private has(flag: number): boolean {
    return (this.places.flags[this.place]! & flag) !== 0;
  }

  private headerId(): string | undefined {
    const { idAt, places, place } = this;
    if (idAt < 0) return undefined;
    this.id ??= places.pieces[places.pieceOf[place]!]!.toString('latin1', idAt, idAt + ID_LENGTH);
    return this.id;
  }
}
