// One record batch of Kafka's message format 2. In: its bytes as a broker sent them. Out: kafkajs's messages, or the places of its
// records in what it was unpacked into; and raw records of either. https://kafka.apache.org/documentation/#recordbatch
//
// Guarantee: linear in the bytes, whatever they are; nothing is read past them, and no memory is allocated just because they
// claim a length. A batch becomes its records or, as ONE message in place of all of them,
// - a batch left in place: where each of its records lies (fetched-records.ts), for the topics that are read by `recordsOf`;
// - a packed batch: too large to be held unpacked; `unpack` makes slices of it when they are wanted;
// - an unreadable batch: says what is wrong and which offsets it stands for. `recordsOf` makes a refused record of it.
//
// Each of them stands at its last offset, so that kafkajs, which knows nothing of this, reads on after it. Where compaction has removed
// a batch's last records, or all of them, a control record that no application sees stands there for the same reason.
import type { Batch, KafkaMessage } from 'kafkajs';
import { codecOf, MAX_BATCH_BYTES, oneAtATime, tooLarge, UnreadableBatchError } from '../../core/kafka/codecs.ts';
import type { RawRecord } from '../../core/record.ts';
import { FetchedPlaces, FetchedRecords } from './fetched-records.ts';
import { HeaderNotes, headerAt, type RecordPlace, recordOf, timeWithin } from './record-headers.ts';

const MIB = 1024 * 1024;

/** What every record of a batch shares; the names are kafkajs's. */
interface BatchContext {
  readonly firstOffset: string;
  readonly firstTimestamp: string;
  readonly partitionLeaderEpoch: number;
  readonly inTransaction: boolean;
  readonly isControlBatch: boolean;
  readonly lastOffsetDelta: number;
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  readonly maxTimestamp: string;
  readonly timestampType: number;
  readonly magicByte: number;
}

export interface FetchedRecord {
  readonly magicByte: number;
  readonly attributes: number;
  readonly timestamp: string;
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Headers;
  readonly isControlRecord: boolean;
  readonly batchContext: BatchContext;
  readonly whole?: WholeBatch;
}

/** A batch that a single message stands for. */
interface WholeBatch {
  readonly firstOffset: number;
  readonly lastOffset: number;
  /** It cannot be read. */
  readonly failure?: { readonly reason: UnreadableBatchError['reason']; readonly detail: string };
  /** It is to be unpacked. */
  readonly packed?: PackedBatch;
  /** Its records were left in place. */
  readonly inPlace?: BatchInPlace;
}

/** Its records are `from` to `to` of `places`; they can be read from `bytes` again. */
interface BatchInPlace {
  readonly places: FetchedPlaces;
  readonly from: number;
  readonly to: number;
  readonly count: number;
  readonly bytes: Buffer;
}

interface PackedBatch {
  readonly place: string;
  readonly context: BatchContext;
  readonly codec: number;
  readonly count: number;
  /** The whole batch, header included. */
  readonly bytes: Buffer;
}

/** A name that occurs more than once has a list of values. */
type Headers = Record<string, Buffer | null | (Buffer | null)[]>;

export const MAGIC = 2;
export const MAGIC_AT = 16;
/** From the first offset to the number of records. */
export const BATCH_HEADER = 61;
const LENGTH_AT = 8;
const CRC_AT = 17;
const ATTRIBUTES_AT = 21;
/** The distance from the first offset to the last. */
const LAST_OFFSET_DELTA_AT = 23;
const COUNT_AT = 57;
/** Length, attributes, two deltas, no key, no value, no headers. */
const SHORTEST_RECORD = 7;
const LOG_APPEND_TIME = 1;
const KEPT_NAMES = 8;

/** How much is unpacked at a time. */
const SLICE_BYTES = 4 * MIB;
const SLICE_RECORDS = 20_000;

/** How much of an answer may still be unpacked; batches beyond that stay packed. */
export interface Allowance {
  bytes: number;
  records: number;
}

export const createAllowance = (): Allowance => ({ bytes: 16 * MIB, records: 50_000 });

/** The length of a batch in bytes, from its header; undefined when that is damaged. */
export function batchLength(bytes: Buffer, start: number): number | undefined {
  const length = bytes.readInt32BE(start + LENGTH_AT) + LENGTH_AT + 4;
  return length < BATCH_HEADER ? undefined : length;
}

/** Is the record's time the broker's, not its producer's? */
function isAppendTime(message: object): boolean {
  return (message as Partial<FetchedRecord>).batchContext?.timestampType === LOG_APPEND_TIME;
}

/** The batch that a message stands for, if it stands for one. */
export function wholeBatchOf(message: object | undefined): WholeBatch | undefined {
  return (message as Partial<FetchedRecord> | undefined)?.whole;
}

/**
 * Appends what the batch becomes to `to`. False: its bytes were damaged on their way or on a disk, so nothing after it can be
 * trusted to begin where it seems to.
 * @param batch all of its bytes
 * @param partition what the answer says about the partition
 * @param isFirst a damaged batch is judged only when it is the first of an answer, because the broker's index vouches for where
 * it begins
 * @param places takes the records, unless no application may see them; then one message stands for all
 * @throws Error for faults of the process, never for what the batch holds
 */
export async function decodeBatch(
  batch: Buffer,
  partition: { readonly place: string; readonly end: number; readonly isFirst: boolean },
  left: Allowance,
  to: FetchedRecord[],
  places?: FetchedPlaces,
): Promise<boolean> {
  const context = contextOf(batch);
  const before = to.length;
  const placed = places?.length ?? 0;
  try {
    await decode();
    return true;
  } catch (error) {
    if (!(error instanceof UnreadableBatchError)) throw error;
    to.length = before;
    const intact = checksumMatches(batch);
    if (intact || partition.isFirst) to.push(unreadable(batch, partition, context, error, intact));
    return intact;
  }

  async function decode(): Promise<void> {
    const type = batch.readInt16BE(ATTRIBUTES_AT) & 7;
    const count = batch.readInt32BE(COUNT_AT);
    if (batch[MAGIC_AT] !== MAGIC) throw damaged(`there is no message format ${batch[MAGIC_AT]}`);
    const codec = codecOf(type);
    if (context.lastOffsetDelta < 0) throw damaged(`its last offset would be its first ${context.lastOffsetDelta}`);
    let records = batch.subarray(BATCH_HEADER);
    checkCount(count, codec ? MAX_BATCH_BYTES : records.length);
    if (count === 0) {
      to.push(endOf(context));
      return;
    }
    if (count > left.records || (codec && left.bytes === 0)) return pack(type, count);
    if (codec !== undefined) {
      try {
        records = await codec.decompress(records, left.bytes);
      } catch (error) {
        if (!(error instanceof UnreadableBatchError) || error.reason !== 'batch_too_large') throw error;
        // Trying the next ones would be in vain, each at the same cost.
        left.bytes = 0;
        return pack(type, count);
      }
      left.bytes -= records.length;
      checkCount(count, records.length);
    }
    left.records -= count;
    const reader = new RecordReader(context, count);
    reader.take(records);
    const leave = context.isControlBatch ? undefined : places;
    leave?.begin(records);
    leave?.reserve(count);
    reader.decode(leave ?? to, count);
    if (reader.next < count) throw damaged(`record ${reader.next} of ${count} reaches beyond its batch`);
    if (leave !== undefined) {
      const inPlace = { places: leave, from: placed, to: leave.length, count, bytes: records };
      const lastOffset = Number(context.firstOffset) + context.lastOffsetDelta;
      to.push(standIn(context, { firstOffset: leave.offsets[placed]!, lastOffset, inPlace }));
    } else if (reader.lastDelta < context.lastOffsetDelta) to.push(endOf(context));
  }

  function pack(codec: number, count: number): void {
    if (!checksumMatches(batch)) throw damaged('its bytes are not those that were written');
    const packed = { place: partition.place, context, codec, count, bytes: batch };
    const firstOffset = Number(context.firstOffset);
    to.push(standIn(context, { firstOffset, lastOffset: firstOffset + context.lastOffsetDelta, packed }));
  }
}

/** The messages, with those of batches that were left in place. */
export function takenOut<T extends object>(messages: readonly T[]): readonly T[] {
  if (!messages.some((message) => wholeBatchOf(message)?.inPlace !== undefined)) return messages;
  return (messages as readonly object[] as FetchedRecord[]).flatMap(outOfPlace) as readonly object[] as T[];
}

/** The last of them stands for what compaction has removed behind it. */
function outOfPlace(message: FetchedRecord): FetchedRecord[] {
  const { batchContext: context, whole } = message;
  if (whole?.inPlace === undefined) return [message];
  const { count, bytes } = whole.inPlace;
  const records: FetchedRecord[] = [];
  const reader = new RecordReader(context, count);
  reader.take(bytes);
  reader.decode(records, count);
  if (reader.lastDelta < context.lastOffsetDelta) records.push(endOf(context));
  return records;
}

/** The messages, with packed batches replaced by their records from offset `from` on. See `unpack`. */
export async function* unpackAll(
  messages: readonly KafkaMessage[],
  from: number,
): AsyncGenerator<readonly KafkaMessage[]> {
  let start = 0;
  for (let i = 0; i < messages.length; i++) {
    const whole = wholeBatchOf(messages[i]);
    if (whole?.packed === undefined) continue;
    if (i > start) yield messages.slice(start, i);
    yield* unpack(whole, from);
    start = i + 1;
  }
  if (start < messages.length) yield start === 0 ? messages : messages.slice(start);
}

/** Is any of them a packed batch? */
export function hasPacked(messages: readonly KafkaMessage[]): boolean {
  for (let i = 0; i < messages.length; i++) {
    const message = messages[i]!;
    if (message.value === null && wholeBatchOf(message)?.packed !== undefined) return true;
  }
  return false;
}

/**
 * The records of a packed batch from offset `from` on, in slices of some 4 MiB; or one message that stands for all of it
 * when it turns out that it cannot be read. It is unpacked twice: nothing of an unreadable batch is handed out.
 * @throws Error for faults of the process
 */
async function* unpack(whole: WholeBatch, from: number): AsyncGenerator<KafkaMessage[]> {
  const { packed } = whole;
  if (packed === undefined) return;
  const { bytes, place, context } = packed;
  try {
    await oneAtATime(async () => {
      for await (const _ of slices(packed));
    });
  } catch (error) {
    if (!(error instanceof UnreadableBatchError)) throw error;
    yield [unreadable(bytes, { place, end: Number.MAX_SAFE_INTEGER }, context, error, true) as KafkaMessage];
    return;
  }
  for await (const slice of slices(packed)) {
    const wanted = Number(slice[0]!.offset) >= from ? slice : slice.filter(({ offset }) => Number(offset) >= from);
    if (wanted.length > 0) yield wanted as KafkaMessage[];
  }
}

async function* slices({ context, codec: type, count, bytes }: PackedBatch): AsyncGenerator<FetchedRecord[]> {
  const codec = codecOf(type);
  const body = bytes.subarray(BATCH_HEADER);
  const reader = new RecordReader(context, count);
  let all = 0;
  // Records refer to the bytes they were read from, so each slice has its own bytes and keeps no other in memory.
  let room = Buffer.allocUnsafeSlow(SLICE_BYTES);
  let used = 0;
  for await (let piece of codec?.pieces(body) ?? [body]) {
    all += piece.length;
    if (all > MAX_BATCH_BYTES) throw tooLarge(MAX_BATCH_BYTES);
    while (piece.length > 0) {
      const taken = piece.copy(room, used);
      used += taken;
      piece = piece.subarray(taken);
      if (used < room.length) continue;
      reader.take(room);
      yield* cut();
      const rest = room.subarray(reader.at);
      // At most twice as much: a claimed length is believed only as far as bytes back it up.
      room = Buffer.allocUnsafeSlow(Math.max(SLICE_BYTES, Math.min(rest.length + reader.missing(), 2 * rest.length)));
      used = rest.copy(room);
    }
  }
  reader.take(room.subarray(0, used));
  yield* cut();
  if (reader.next < count) throw damaged(`record ${reader.next} of ${count} reaches beyond its batch`);

  async function* cut(): AsyncGenerator<FetchedRecord[]> {
    for (;;) {
      const slice: FetchedRecord[] = [];
      reader.decode(slice, SLICE_RECORDS);
      if (slice.length === 0) return;
      yield slice;
      // Some codecs never wait, and no heartbeat is sent until somebody does.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

function contextOf(batch: Buffer): BatchContext {
  const attributes = batch.readInt16BE(ATTRIBUTES_AT);
  return {
    firstOffset: int64(batch, 0),
    firstTimestamp: int64(batch, 27),
    partitionLeaderEpoch: batch.readInt32BE(12),
    inTransaction: (attributes & 0x10) > 0,
    isControlBatch: (attributes & 0x20) > 0,
    lastOffsetDelta: batch.readInt32BE(LAST_OFFSET_DELTA_AT),
    producerId: int64(batch, 43),
    producerEpoch: batch.readInt16BE(51),
    firstSequence: batch.readInt32BE(53),
    maxTimestamp: int64(batch, 35),
    timestampType: (attributes & 0x8) >> 3,
    magicByte: MAGIC,
  };
}

function messageAt(context: BatchContext, lastOffset: number, isControlRecord: boolean): FetchedRecord {
  return {
    magicByte: MAGIC,
    attributes: 0,
    timestamp: context.maxTimestamp,
    offset: String(lastOffset),
    key: null,
    value: null,
    headers: {},
    isControlRecord,
    batchContext: context,
  };
}

function standIn(context: BatchContext, whole: WholeBatch): FetchedRecord {
  return { ...messageAt(context, whole.lastOffset, false), whole };
}

/** The place of a batch's last offset, of which there is no record any more. */
function endOf(context: BatchContext): FetchedRecord {
  return messageAt(context, Number(context.firstOffset) + context.lastOffsetDelta, true);
}

function unreadable(
  batch: Buffer,
  { place, end }: { readonly place: string; readonly end: number },
  context: BatchContext,
  { reason, message }: UnreadableBatchError,
  intact: boolean,
): FetchedRecord {
  const firstOffset = Number(context.firstOffset);
  if (firstOffset < 0) throw new Error(`${place}: a batch begins at offset ${firstOffset}`);
  const count = batch.readInt32BE(COUNT_AT);
  const { lastOffsetDelta: delta } = context;
  let last = Math.max(delta, 0);
  if (!intact) {
    // Better too little: the rest of the batch is fetched again. Too much would skip intact records.
    if (count > 0) last = delta < 0 ? count - 1 : Math.min(last, count - 1);
    last = Math.max(0, Math.min(last, end - 1 - firstOffset, batch.length));
  }
  const lastOffset = firstOffset + last;
  const checksum = intact
    ? 'The checksum matches: it was written like this'
    : 'The checksum does not match: it was damaged';
  const detail = `${place}, offsets ${firstOffset} to ${lastOffset}, ${batch.length} bytes as stored: ${message}. ${checksum}.`;
  return standIn(context, { firstOffset, lastOffset, failure: { reason, detail } });
}

function damaged(message: string): UnreadableBatchError {
  return new UnreadableBatchError('batch_undecodable', message);
}

/** Every record takes some bytes, even an empty one. */
function checkCount(count: number, bytes: number): void {
  if (count < 0 || count > bytes / SHORTEST_RECORD) throw damaged(`it cannot hold ${count} records`);
}

let crcTable: Int32Array | undefined;

/**
 * CRC-32C over everything after the checksum. Checked only when something is wrong, to name the cause, and for batches that stay
 * packed: at 3.4 µs/kB it would cost more than the decoding itself.
 */
function checksumMatches(batch: Buffer): boolean {
  crcTable ??= Int32Array.from({ length: 256 }, (_, i) => {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    return crc;
  });
  let crc = -1;
  for (let i = ATTRIBUTES_AT; i < batch.length; i++) crc = crcTable[(crc ^ batch[i]!) & 255]! ^ (crc >>> 8);
  return ~crc === batch.readInt32BE(CRC_AT);
}

/** Offsets, times and ids of a broker stay below 2^53 for some thousand years; anything larger is written in full. */
export function int64(bytes: Buffer, at: number): string {
  const high = bytes.readInt32BE(at);
  if (high >= 0x200000 || high < -0x200000) return bytes.readBigInt64BE(at).toString();
  return String(high * 0x100000000 + bytes.readUInt32BE(at + 4));
}

/**
 * A cursor over the records of a batch. A class, because one is used for hundreds of records on the hot path. Bytes past the end
 * read as undefined, which ends every number; the check of the record's end then notices it.
 */
class RecordReader {
  at = 0;
  /** The index of the record that comes next. */
  next = 0;
  private buffer: Buffer = Buffer.alloc(0);
  private readonly context: BatchContext;
  private readonly count: number;
  /** The last record's distance from the first offset of the batch. */
  lastDelta = -1;
  /** The header names last read, and where: they are nearly always those of the next record too. */
  private names: { readonly text: string; readonly at: number; readonly length: number }[] = [];
  private readonly notes = new HeaderNotes();

  constructor(context: BatchContext, count: number) {
    this.context = context;
    this.count = count;
  }

  /** Continues with these bytes, which begin with a record. */
  take(buffer: Buffer): void {
    this.buffer = buffer;
    this.at = 0;
    this.names = [];
  }

  /** Bytes that the next record needs beyond those at hand. */
  missing(): number {
    const { at, buffer } = this;
    // Its length itself may be cut off.
    if (buffer.length - at < 5) return 5;
    const length = this.varint();
    const end = this.at + length;
    this.at = at;
    return Math.max(0, end - buffer.length);
  }

  /** Appends at most `most` records to `to`, as far as they are complete. @throws UnreadableBatchError */
  decode(to: FetchedRecord[] | FetchedPlaces, most: number): void {
    const { buffer, context, count } = this;
    const { isControlBatch, maxTimestamp, lastOffsetDelta } = context;
    const appendTime = context.timestampType === LOG_APPEND_TIME;
    const firstOffset = Number(context.firstOffset);
    const firstTimestamp = Number(context.firstTimestamp);
    const appendMs = timeWithin(Number(maxTimestamp));
    const places = to instanceof FetchedPlaces ? to : undefined;
    const messages = to instanceof FetchedPlaces ? undefined : to;
    const stop = Math.min(count, this.next + most);
    for (; this.next < stop; this.next++) {
      const start = this.at;
      const length = this.varint();
      if (length < SHORTEST_RECORD - 1 && this.at <= buffer.length) {
        throw damaged(`record ${this.next} of ${count} has a length of ${length} bytes`);
      }
      const end = this.at + length;
      if (end > buffer.length) {
        this.at = start;
        return;
      }
      const attributes = (buffer[this.at++]! << 24) >> 24;
      const timestampDelta = this.varlong();
      const delta = this.varint();
      if (delta <= this.lastDelta || delta > lastOffsetDelta) {
        throw damaged(`record ${this.next} of ${count} has the offset ${firstOffset + delta}`);
      }
      this.lastDelta = delta;
      const keyLength = this.varint();
      const keyAt = this.skip(keyLength);
      const valueLength = this.varint();
      const valueAt = this.skip(valueLength);
      const headersAt = this.at;
      const offset = firstOffset + delta;
      if (places !== undefined) {
        const timeMs = appendTime ? appendMs : timeWithin(firstTimestamp + timestampDelta);
        if (this.note(end, timeMs)) {
          places.add(valueAt, valueLength < 0 ? -1 : valueLength, offset, timeMs, appendTime, this.notes);
          this.at = end;
          continue;
        }
        this.at = headersAt;
      }
      const headers = this.headers(end);
      if (this.at > end) throw damaged(`record ${this.next} of ${count} reaches beyond its end`);
      const message = {
        magicByte: MAGIC,
        attributes,
        timestamp: appendTime ? maxTimestamp : String(firstTimestamp + timestampDelta),
        offset: String(offset),
        key: this.part(keyAt, keyLength),
        value: this.part(valueAt, valueLength),
        headers,
        isControlRecord: isControlBatch,
        batchContext: context,
      };
      places?.addObject(recordOf(message as KafkaMessage, places.log), appendTime);
      messages?.push(message);
      this.at = end;
    }
  }

  /** Reads the headers into `notes`. False: they say more than that, and have to be read again as they are. */
  private note(end: number, timeMs: number): boolean {
    const { buffer, notes } = this;
    notes.clear();
    for (let left = this.headerCount(end); left > 0; left--) {
      const nameLength = this.headerNameLength(end);
      const nameAt = this.skip(nameLength);
      const length = this.varint();
      const at = this.skip(length);
      const kind = headerAt(buffer, nameAt, nameLength);
      if (kind !== 0) notes.take(kind, at, length);
    }
    if (this.at > end) throw damaged(`record ${this.next} of ${this.count} reaches beyond its end`);
    notes.settle(buffer, timeMs);
    return !notes.redriven;
  }

  /** Zigzag, 32 bits, in at most 5 bytes. */
  private varint(): number {
    const { buffer } = this;
    let byte = buffer[this.at++]!;
    let value = byte & 127;
    for (let shift = 7; byte > 127; shift += 7) {
      if (shift > 28) throw damaged(`record ${this.next} of ${this.count} holds a number that does not end`);
      byte = buffer[this.at++]!;
      value |= (byte & 127) << shift;
    }
    return (value >>> 1) ^ -(value & 1);
  }

  /** Zigzag, 64 bits in at most 10 bytes, as far as a number holds them. */
  private varlong(): number {
    const { buffer } = this;
    let byte = buffer[this.at++]!;
    let value = byte & 127;
    for (let factor = 128; byte > 127; factor *= 128) {
      if (factor > 2 ** 63) throw damaged(`record ${this.next} of ${this.count} holds a number that does not end`);
      byte = buffer[this.at++]!;
      value += (byte & 127) * factor;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** @returns where the part begins; a negative length stands for null */
  private skip(length: number): number {
    const from = this.at;
    if (length > 0) this.at += length;
    return from;
  }

  private part(at: number, length: number): Buffer | null {
    return length < 0 ? null : this.buffer.subarray(at, at + length);
  }

  private nullable(): Buffer | null {
    const length = this.varint();
    return this.part(this.skip(length), length);
  }

  private headerCount(end: number): number {
    const count = this.varint();
    // Each takes two bytes or more.
    if (count > (end - this.at) / 2) throw damaged(`record ${this.next} of ${this.count} cannot hold ${count} headers`);
    return count;
  }

  private headerNameLength(end: number): number {
    const length = this.varint();
    if (length < 0 || this.at + length > end) {
      throw damaged(`record ${this.next} of ${this.count} has a header name of ${length} bytes`);
    }
    return length;
  }

  private headers(end: number): Headers {
    const headers: Headers = {};
    const count = this.headerCount(end);
    for (let i = 0; i < count; i++) {
      const name = this.headerName(i, this.headerNameLength(end));
      const value = this.nullable();
      const before = Object.hasOwn(headers, name) ? headers[name] : undefined;
      if (Array.isArray(before)) {
        before.push(value);
        continue;
      }
      const all = before === undefined ? value : [before, value];
      // Plain assignment to `__proto__` would replace the prototype.
      if (name === '__proto__')
        Object.defineProperty(headers, name, { value: all, enumerable: true, writable: true, configurable: true });
      else headers[name] = all;
    }
    return headers;
  }

  /** Records of one batch have the same headers at the same places, as a rule. */
  private headerName(place: number, length: number): string {
    const { buffer, names, at } = this;
    this.at += length;
    const known = names[place];
    if (known !== undefined && length === known.length) {
      let same = 0;
      while (same < length && buffer[known.at + same] === buffer[at + same]) same++;
      if (same === length) return known.text;
    }
    const text = buffer.toString('utf8', at, at + length);
    if (place < KEPT_NAMES) names[place] = { text, at, length };
    return text;
  }
}

// ---- messages -> raw records ----

/**
 * The records of a batch of kafkajs from the offset on that it was fetched from. What stands for an unreadable batch becomes a record
 * with its refusal, at the batch's first offset. Packed batches must have been unpacked before.
 */
export function recordsOf(
  messages: readonly KafkaMessage[],
  { topic, partition, fetchedOffset }: RecordPlace & { readonly fetchedOffset?: string },
): FetchedRecords {
  const from = Number(fetchedOffset ?? 0);
  const first = wholeBatchOf(messages[0])?.inPlace;
  if (first !== undefined) {
    let { to } = first;
    let next = 1;
    for (; next < messages.length; next++) {
      const inPlace = wholeBatchOf(messages[next])?.inPlace;
      if (inPlace?.places !== first.places || inPlace.from !== to) break;
      to = inPlace.to;
    }
    if (next === messages.length) {
      const records = new FetchedRecords(first.places, first.from, to);
      let read = 0;
      while (read < records.length && records.offsetAt(read) < from) read++;
      return records.slice(read);
    }
  }
  const places = new FetchedPlaces({ topic, partition });
  for (const message of messages) {
    const inPlace = wholeBatchOf(message)?.inPlace;
    const records = inPlace && new FetchedRecords(inPlace.places, inPlace.from, inPlace.to);
    for (const record of records ?? toRecords([message], { topic, partition })) {
      if (records !== undefined && record.offset < from) continue;
      places.addObject(record, isAppendTime(message));
    }
  }
  return new FetchedRecords(places);
}

/** Messages as raw records, none of which stand for batches left in place. @param place see `recordOf` */
export function toRecords(messages: readonly KafkaMessage[], place?: RecordPlace): RawRecord[] {
  return messages.map((message) => {
    const record = recordOf(message, place);
    const whole = wholeBatchOf(message);
    if (whole?.failure === undefined) return record;
    return {
      value: null,
      offset: whole.firstOffset,
      timeMs: record.timeMs,
      eventId: undefined,
      refusal: whole.failure,
    };
  });
}

/** The first offset in a batch of kafkajs, even where a message stands for several. */
export function firstOffsetOf(batch: Batch): number {
  const first = Number(batch.firstOffset());
  const whole = wholeBatchOf(batch.messages[0]);
  if (whole === undefined || whole.lastOffset !== first) return first;
  // Its beginning may have been read before.
  const { fetchedOffset = whole.firstOffset } = batch as Batch & { readonly fetchedOffset?: string };
  const from = Math.max(whole.firstOffset, Number(fetchedOffset));
  if (whole.inPlace === undefined) return from;
  const { places, from: start, to } = whole.inPlace;
  let at = start;
  while (at < to && places.offsets[at]! < from) at++;
  return at < to ? places.offsets[at]! : whole.lastOffset;
}
