// kafkajs's messages as raw records. The hot path: one object per record and nothing else.
import type { Batch, KafkaMessage } from 'kafkajs';
import { isEventId } from '../core/event-id.ts';
import type { RawRecord, RecordMark } from '../core/record.ts';
import { wholeBatchOf } from './record-batch.ts';

const EVENT_ID_LENGTH = 26;
/** The end of the year 9999: producers may claim any 64 bits, and no date is written beyond. */
const MAX_TIME_MS = 253_402_300_799_999;
/** Milliseconds since 1970, from 2001 to 2286. */
const SENT_AT_DIGITS = 13;
/** A request may well take that long. */
const LEAST_CLOCK_ERROR_MS = 2_000;
const MAX_CLOCK_ERROR_MS = 86_400_000;

/**
 * The records of a batch and the sum of their value lengths. An `eventId` header that is no event id is ignored. What stands
 * for a batch that cannot be read becomes a record with its refusal, at the batch's first offset; packed batches are to be
 * unpacked before (record-batch.ts).
 */
export function toRecords(messages: readonly KafkaMessage[]): { records: RawRecord[]; bytes: number } {
  const records = new Array<RawRecord>(messages.length);
  let bytes = 0;
  // Records of one batch usually share their append time, and then the very same string.
  let timeText = '';
  let timeMs = 0;
  for (let i = 0; i < messages.length; i++) {
    const { value, offset, timestamp, headers } = messages[i]!;
    if (timestamp !== timeText) {
      timeText = timestamp;
      timeMs = Math.min(Math.max(Number(timestamp), 0), MAX_TIME_MS);
    }
    if (value !== null) bytes += value.length;
    else {
      const whole = wholeBatchOf(messages[i]);
      if (whole?.failure !== undefined) {
        records[i] = { value, offset: whole.firstOffset, timeMs, eventId: undefined, refusal: whole.failure };
        continue;
      }
    }
    const header = headers?.eventId;
    let eventId: string | undefined;
    if (header instanceof Buffer && header.length === EVENT_ID_LENGTH) {
      const text = header.toString('latin1');
      if (isEventId(text)) eventId = text;
    }
    const mark = headers === undefined ? undefined : markOf(headers);
    if (mark === undefined && headers?.sentAt !== undefined && headers.clock === undefined) {
      const clockErrorMs = clockError(headers.sentAt, timeMs);
      if (clockErrorMs !== 0) {
        records[i] = { value, offset: Number(offset), timeMs, eventId, clockErrorMs };
        continue;
      }
    }
    records[i] =
      mark === undefined
        ? { value, offset: Number(offset), timeMs, eventId }
        : { value, offset: Number(offset), timeMs, eventId, mark };
  }
  return { records, bytes };
}

/** Of a record that was sent at `sentMs` by its host's clock and arrived at `arrivedMs` by the broker's; 0 when it does not matter. */
export function clockErrorOf(sentMs: number, arrivedMs: number): number {
  const error = arrivedMs - sentMs;
  const size = Math.abs(error);
  return size >= LEAST_CLOCK_ERROR_MS && size <= MAX_CLOCK_ERROR_MS ? error : 0;
}

/**
 * The transport writes the time at which it sends into the header `sentAt`, and the broker, as the record's time, when it
 * arrived: what lies between them is the error of that host's clock, and the way. From less than two seconds nothing is
 * concluded; more than a day is no clock that anybody relied on. A host that knows its clock to be right says so in the
 * header `clock` (ship/own-clock.ts). Nothing is remembered here from record to record: the same record must always get the same time, and with
 * it the same index and the same totals, whoever reads it again.
 */
function clockError(sentAt: unknown, timeMs: number): number {
  if (!(sentAt instanceof Buffer) || sentAt.length !== SENT_AT_DIGITS) return 0;
  let sentMs = 0;
  for (let i = 0; i < SENT_AT_DIGITS; i++) {
    const digit = sentAt[i]! - 48;
    if (digit < 0 || digit > 9) return 0;
    sentMs = sentMs * 10 + digit;
  }
  return clockErrorOf(sentMs, timeMs);
}

/** The first offset a batch of kafkajs brings, also where a message stands for several. */
export function firstOffsetOf(batch: Batch): number {
  const first = Number(batch.firstOffset());
  const whole = wholeBatchOf(batch.messages[0]);
  if (whole === undefined || whole.lastOffset !== first) return first;
  // Its beginning may have been read before.
  const { fetchedOffset } = batch as Batch & { readonly fetchedOffset?: string };
  return Math.max(whole.firstOffset, Number(fetchedOffset ?? whole.firstOffset));
}

/** What is not to be counted at all comes first. */
function markOf(headers: NonNullable<KafkaMessage['headers']>): RecordMark | undefined {
  if (headers.redriven !== undefined) return 'redriven';
  if (headers.replayed !== undefined) return 'replayed';
  return headers.resent !== undefined ? 'resent' : undefined;
}
