// What the headers of a record say. In: a message of kafkajs; or, for a record that stays where it was fetched, its header bytes.
// Out: the id, the mark, the clock error and the return from the dead letters of a raw record. Guarantee: whoever wrote them, a
// header that is not what logpipe writes is ignored; the same record always says the same, whoever reads it again.
import type { KafkaMessage } from 'kafkajs';
import {
  type DeadLetter,
  eventIdIn,
  ID_LENGTH,
  isEventId,
  isEventIdAt,
  isLineIdAt,
  type RawRecord,
  type RecordMark,
} from '../../core/record.ts';

/** The end of the year 9999: producers may claim any 64 bits, and later dates cannot be written. */
export const MAX_TIME_MS = 253_402_300_799_999;
/** Milliseconds since 1970, from 2001 to 2286. */
const SENT_AT_DIGITS = 13;
/** Less than this may be the time that a request takes. */
const LEAST_CLOCK_ERROR_MS = 2_000;
const MAX_CLOCK_ERROR_MS = 86_400_000;

/** The log that records were read from. */
export interface RecordPlace {
  readonly topic: string;
  readonly partition: number;
}

/**
 * A message as a raw record. An `eventId` header that is not an event id is ignored; a line's id (core/record.ts) is only its
 * document's id, for nothing says that logpipe's transport made the record.
 * @param place without it, what was redriven keeps no id that names a place
 */
export function recordOf(message: KafkaMessage, place?: RecordPlace): RawRecord {
  const { value, headers = {} } = message;
  const offset = Number(message.offset);
  const timeMs = timeWithin(Number(message.timestamp));
  const header = headers.eventId;
  const id = header instanceof Buffer && header.length === ID_LENGTH ? header.toString('latin1') : '';
  const eventId = eventIdIn(id);
  const mark = markOf(headers);
  const record = { value, offset, timeMs, eventId };
  if (mark === 'redriven') return { ...record, mark, ...redrivenOf(headers, offset, timeMs, place) };
  const { sentAt } = headers;
  const timed = mark === undefined && headers.clock === undefined && sentAt instanceof Buffer;
  const clockErrorMs = timed ? clockErrorIn(sentAt, 0, sentAt.length, timeMs) : 0;
  return {
    ...record,
    ...(mark === undefined ? {} : { mark }),
    ...(clockErrorMs === 0 ? {} : { clockErrorMs }),
    ...(eventId === undefined && isEventId(id) ? { documentId: id } : {}),
  };
}

/** A record time as a time that can be written. */
export function timeWithin(ms: number): number {
  return Math.min(Math.max(ms, 0), MAX_TIME_MS);
}

/**
 * The clock error of a host whose record left at `sentMs` by its own clock and arrived at `arrivedMs` by the broker's; 0 when it
 * does not matter.
 */
export function clockErrorOf(sentMs: number, arrivedMs: number): number {
  const error = arrivedMs - sentMs;
  const size = Math.abs(error);
  return size >= LEAST_CLOCK_ERROR_MS && size <= MAX_CLOCK_ERROR_MS ? error : 0;
}

/**
 * The transport writes the time of sending into the header `sentAt`, and the broker stores the time of arrival as the record's
 * time: the difference is the error of that host's clock, plus the time on the way. Less than two seconds proves nothing; more
 * than a day means a clock that nobody relied on. A host that knows its clock to be right says so in the header `clock`
 * (ship/brokers.ts). Nothing is remembered from record to record: the same record must always get the same time, and with it the
 * same index and the same totals, whoever reads it again.
 */
function clockErrorIn(bytes: Uint8Array, at: number, length: number, timeMs: number): number {
  if (length !== SENT_AT_DIGITS) return 0;
  let sentMs = 0;
  for (let i = 0; i < SENT_AT_DIGITS; i++) {
    const digit = bytes[at + i]! - 48;
    if (digit < 0 || digit > 9) return 0;
    sentMs = sentMs * 10 + digit;
  }
  return clockErrorOf(sentMs, timeMs);
}

// ---- records that come back from the dead letters ----

/** Elasticsearch takes no longer id, in bytes of UTF-8. */
export const MAX_DOCUMENT_ID_BYTES = 512;
const WHOLE = /^\d{1,16}$/;
const SIGNED = /^-?\d{1,8}$/;
/** In base 36. */
const SHORT_TIME = /^[0-9a-z]{1,10}$/;
const TOPIC = /^[\w.-]{1,249}$/;
/** A line of a file (source/files/follower.ts) or of standard input (source/lines.ts). */
const FILE_ID = /^(?:[0-9a-f]{20}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-\d{1,16}$/;
/**
 * How long after its first arrival a record may come back and keep its time: the days for which a log and its dead letters are kept
 * (docs/operations.md), and room. Without a limit, anybody could have indices made for any day there ever was.
 */
const MAX_AWAY_MS = 180 * 86_400_000;
/**
 * How much later than its return its first arrival may seem: a broker's clock was ahead then and has been set right since. Its own
 * time is kept all the same, because a copy that comes back on another day must get the same index. More is a clock that nobody relied on.
 */
const MAX_AHEAD_MS = MAX_CLOCK_ERROR_MS;
/** Far more than `dlq redrive` ever sends. */
export const MAX_RETURNS = 1_000;

/** What a record keeps on its way back: its id, its record time, what was added to its host's times, and how often it came back. */
export function redrivenHeaders(
  letter: Pick<DeadLetter, 'id' | 'timeMs' | 'clockErrorMs' | 'redriven'>,
): Record<string, string> {
  const { id, timeMs, clockErrorMs, redriven = 0 } = letter;
  return {
    ...(isEventId(id) ? { eventId: id } : {}),
    'event-id': id,
    'origin-timestamp': String(timeMs),
    ...(clockErrorMs === undefined ? {} : { 'clock-error': String(clockErrorMs) }),
    redriven: String(redriven + 1),
  };
}

/** The same, read again. What cannot be understood or believed is left out, because any producer may write such headers. */
function redrivenOf(
  headers: NonNullable<KafkaMessage['headers']>,
  offset: number,
  returnedMs: number,
  place: RecordPlace | undefined,
): Pick<RawRecord, 'documentId' | 'redriven' | 'clockErrorMs'> {
  const text = (name: string): string => {
    const given = headers[name];
    return given instanceof Buffer && given.length <= MAX_DOCUMENT_ID_BYTES ? given.toString() : '';
  };
  const whole = (name: string, otherwise: number): number => (WHOLE.test(text(name)) ? Number(text(name)) : otherwise);
  const documentId = text('event-id');
  const firstMs = whole('origin-timestamp', returnedMs);
  const clockErrorMs = SIGNED.test(text('clock-error')) ? Number(text('clock-error')) : 0;
  return {
    ...(mayHaveId(documentId, offset, returnedMs, place) ? { documentId } : {}),
    redriven: {
      firstMs: firstMs <= returnedMs + MAX_AHEAD_MS && firstMs >= returnedMs - MAX_AWAY_MS ? firstMs : returnedMs,
      times: Math.min(Math.max(1, whole('redriven', 1)), MAX_RETURNS),
    },
    ...(clockErrorMs !== 0 && Math.abs(clockErrorMs) <= MAX_CLOCK_ERROR_MS ? { clockErrorMs } : {}),
  };
}

/**
 * May a record come back under this id? Nobody may take the id of another record before that one is indexed, because it would then
 * pass for a duplicate and be lost. Event ids and ids of files cannot be guessed. The id of a record without an event id
 * (`documentId` in core/record.ts) can: it is believed of an earlier record of the same partition, which is indexed first and is
 * where a redrive sends it back to, and of another topic. Earlier is a lower offset, whatever the time says: a broker's clock may have
 * been ahead. It is also an earlier time, at any offset: of a topic that was deleted and made anew. Only a record to come in
 * a topic that will be made anew has a lower offset and a later time: to claim it, one would have to know its millisecond beforehand.
 */
function mayHaveId(id: string, offset: number, returnedMs: number, place: RecordPlace | undefined): boolean {
  if (isEventId(id) || FILE_ID.test(id)) return true;
  if (place === undefined) return false;
  const parts = id.split('-');
  const [time = '', idOffset = '', idPartition = ''] = [parts.pop(), parts.pop(), parts.pop()];
  const topic = parts.join('-');
  if (!TOPIC.test(topic) || !WHOLE.test(idPartition) || !WHOLE.test(idOffset) || !SHORT_TIME.test(time)) return false;
  const ms = Number.parseInt(time, 36);
  if (topic !== place.topic) return ms <= returnedMs;
  if (Number(idPartition) !== place.partition) return false;
  return Number(idOffset) < offset || ms < returnedMs;
}

/** Marks of records that are not counted at all come first. */
function markOf(headers: NonNullable<KafkaMessage['headers']>): RecordMark | undefined {
  if (headers.redriven !== undefined) return 'redriven';
  if (headers.replayed !== undefined) return 'replayed';
  return headers.resent !== undefined ? 'resent' : undefined;
}

// ---- the same, read from the bytes: no header becomes an object ----

/** Which header it is; 0 for one that says nothing here. */
export const HEADER = { eventId: 1, sentAt: 2, clock: 3, resent: 4, replayed: 5, redriven: 6 } as const;

/** By the length of the name. */
const NAMES: readonly (readonly { readonly text: Uint8Array; readonly kind: number }[])[] = Array.from(
  { length: 9 },
  (_, length) =>
    Object.entries(HEADER)
      .filter(([name]) => name.length === length)
      .map(([name, kind]) => ({ text: Buffer.from(name), kind })),
);

/** The header whose name is in these bytes. */
export function headerAt(bytes: Uint8Array, at: number, length: number): number {
  const candidates = NAMES[length];
  if (candidates === undefined) return 0;
  for (let c = 0; c < candidates.length; c++) {
    const { text, kind } = candidates[c]!;
    let same = 0;
    while (same < length && bytes[at + same] === text[same]) same++;
    if (same === length) return kind;
  }
  return 0;
}

/** What the headers of one record say. Filled header by header, and used again for the next record: it is on the hot path. */
export class HeaderNotes {
  /** Where its event id or line's id begins; -1 without one. */
  idAt = -1;
  isLineId = false;
  resent = false;
  replayed = false;
  redriven = false;
  clockErrorMs = 0;
  private idLength = -1;
  private ids = 0;
  private clock = false;
  private sentAt = -1;
  private sentAtLength = 0;
  private sentAts = 0;

  clear(): void {
    this.idAt = -1;
    this.ids = 0;
    this.isLineId = false;
    this.resent = false;
    this.replayed = false;
    this.redriven = false;
    this.clock = false;
    this.sentAts = 0;
    this.clockErrorMs = 0;
  }

  /** @param length of the value; negative for null */
  take(kind: number, at: number, length: number): void {
    switch (kind) {
      case HEADER.eventId:
        this.ids += 1;
        this.idAt = at;
        this.idLength = length;
        return;
      case HEADER.sentAt:
        this.sentAts += 1;
        this.sentAt = at;
        this.sentAtLength = length;
        return;
      case HEADER.clock:
        this.clock = true;
        return;
      case HEADER.resent:
        this.resent = true;
        return;
      case HEADER.replayed:
        this.replayed = true;
        return;
      case HEADER.redriven:
        this.redriven = true;
    }
  }

  /** All have been taken. A header that comes twice says nothing. */
  settle(bytes: Uint8Array, timeMs: number): void {
    if (this.idAt >= 0) {
      const fits = this.ids === 1 && this.idLength === ID_LENGTH;
      this.isLineId = fits && isLineIdAt(bytes, this.idAt);
      if (!fits || !(this.isLineId || isEventIdAt(bytes, this.idAt))) this.idAt = -1;
    }
    const marked = this.resent || this.replayed || this.redriven;
    if (this.sentAts !== 1 || this.clock || marked) return;
    this.clockErrorMs = clockErrorIn(bytes, this.sentAt, this.sentAtLength, timeMs);
  }
}
