// How a dead letter is written down: as a Kafka record, or as a line of a file.
import { createHash } from 'node:crypto';
import type { Message } from 'kafkajs';
import type { DeadLetter } from '../core/record.ts';

/** Length fields of a record and its headers. */
const RECORD_OVERHEAD = 128;

/** Key = id, value = the bytes, everything else in headers. */
export function toMessage(letter: DeadLetter): Message {
  const { origin } = letter;
  const place =
    origin.kind === 'kafka'
      ? { 'origin-topic': origin.topic, 'origin-partition': String(origin.partition) }
      : { 'origin-file': origin.path, 'origin-identity': origin.identity };
  return {
    key: letter.id,
    value: letter.value,
    headers: {
      reason: letter.reason,
      detail: letter.detail,
      ...place,
      'origin-offset': String(letter.offset),
      'origin-timestamp': String(letter.timeMs),
      'event-id': letter.id,
    },
  };
}

/** An upper bound of what the message adds to a batch. */
export function sizeOf({ key, value, headers }: Message): number {
  let bytes = RECORD_OVERHEAD + Buffer.byteLength(key ?? '') + (value === null ? 0 : Buffer.byteLength(value));
  for (const [name, text] of Object.entries(headers ?? {})) bytes += name.length + Buffer.byteLength(String(text)) + 8;
  return bytes;
}

/** The letter with its value cut so that it needs at most `limit` bytes; its full bytes stay recognisable by a hash. */
export function cutToFit(letter: DeadLetter, limit: number): Message {
  const message = toMessage(letter);
  const { value } = letter;
  if (value === null || value.length === 0 || sizeOf(message) <= limit) return message;
  message.headers = {
    ...message.headers,
    sha256: createHash('sha256').update(value).digest('hex'),
    'original-bytes': String(value.length),
  };
  const rest = sizeOf({ ...message, value: null });
  return { ...message, value: value.subarray(0, Math.max(0, Math.floor(limit - rest))) };
}

/** Bytes that are no UTF-8 go into `valueBase64`, because they would not survive as text. */
export function toLine(letter: DeadLetter): Record<string, unknown> {
  const { origin, value } = letter;
  const text = value?.toString() ?? null;
  const exact = value === null || Buffer.from(text!).equals(value);
  return {
    id: letter.id,
    reason: letter.reason,
    detail: letter.detail,
    origin: { ...origin, offset: letter.offset, time: new Date(letter.timeMs).toISOString() },
    ...(exact ? { value: text } : { valueBase64: value!.toString('base64') }),
  };
}
