// kafkajs's messages as raw records. The hot path: one object per record and nothing else.
import type { KafkaMessage } from 'kafkajs';
import { isEventId } from '../core/event-id.ts';
import type { RawRecord, RecordMark } from '../core/record.ts';

const EVENT_ID_LENGTH = 26;

/** The records of a batch and the sum of their value lengths. An `eventId` header that is no event id is ignored. */
export function toRecords(messages: readonly KafkaMessage[]): { records: RawRecord[]; bytes: number } {
  const records = new Array<RawRecord>(messages.length);
  let bytes = 0;
  // Records of one batch usually share their append time, and then the very same string.
  let timeText = '';
  let timeMs = 0;
  for (let i = 0; i < messages.length; i++) {
    const { value, offset, timestamp, headers } = messages[i]!;
    if (value !== null) bytes += value.length;
    if (timestamp !== timeText) {
      timeText = timestamp;
      timeMs = Number(timestamp);
    }
    const header = headers?.eventId;
    let eventId: string | undefined;
    if (header instanceof Buffer && header.length === EVENT_ID_LENGTH) {
      const text = header.toString('latin1');
      if (isEventId(text)) eventId = text;
    }
    const mark = headers === undefined ? undefined : markOf(headers);
    records[i] =
      mark === undefined
        ? { value, offset: Number(offset), timeMs, eventId }
        : { value, offset: Number(offset), timeMs, eventId, mark };
  }
  return { records, bytes };
}

/** What is not to be counted at all comes first. */
function markOf(headers: NonNullable<KafkaMessage['headers']>): RecordMark | undefined {
  if (headers.redriven !== undefined) return 'redriven';
  if (headers.replayed !== undefined) return 'replayed';
  return headers.resent !== undefined ? 'resent' : undefined;
}
