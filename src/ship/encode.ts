// Records in Kafka's own format. In: the records of one partition. Out: the bytes that follow a record batch's header.
// https://kafka.apache.org/documentation/#recordbatch (message format 2)
import type { ShipRecord } from './record.ts';

const EVENT_ID_BYTES = 26;
/** Number of headers, then the header up to its value. Lengths are zigzag: 14 stands for 7. */
const ONE_HEADER = Buffer.from('\x02\x0eeventId\x34', 'latin1');
const TWO_HEADERS = Buffer.from('\x04\x0eeventId\x34', 'latin1');
const RESENT = Buffer.from('\x0cresent\x021', 'latin1');
/** Length, attributes, time, offset, the lengths of key and value, at most. */
const FIXED_BYTES = 5 + 1 + 1 + 5 + 5 + 5;

/** Header `eventId` on every record; with `resent`, also `resent: 1`. All records get the batch's time. */
export function encodeRecords(records: readonly ShipRecord[], resent: boolean): Buffer {
  const head = resent ? TWO_HEADERS : ONE_HEADER;
  const headerBytes = head.length + EVENT_ID_BYTES + (resent ? RESENT.length : 0);
  let capacity = 0;
  for (const { key, bytes } of records) capacity += FIXED_BYTES + headerBytes + bytes + (key?.length ?? 0) * 3;
  const out = Buffer.allocUnsafe(capacity);
  let at = 0;
  for (let offset = 0; offset < records.length; offset++) {
    const { line, key, bytes, eventId } = records[offset]!;
    const keyBytes = key === null ? -1 : Buffer.byteLength(key);
    const body =
      1 +
      1 +
      varintSize(offset) +
      varintSize(keyBytes) +
      Math.max(keyBytes, 0) +
      varintSize(bytes) +
      bytes +
      headerBytes;
    at = varint(out, at, body);
    out[at++] = 0;
    out[at++] = 0;
    at = varint(out, at, offset);
    at = varint(out, at, keyBytes);
    if (key !== null) at += out.write(key, at);
    at = varint(out, at, bytes);
    at += out.write(line, at);
    at += head.copy(out, at);
    at += out.write(eventId, at, 'latin1');
    if (resent) at += RESENT.copy(out, at);
  }
  return out.subarray(0, at);
}

/** Signed integer, zigzag and 7 bits per byte. */
function varint(out: Buffer, at: number, value: number): number {
  let rest = ((value << 1) ^ (value >> 31)) >>> 0;
  let next = at;
  while (rest > 127) {
    out[next++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[next++] = rest;
  return next;
}

function varintSize(value: number): number {
  const rest = ((value << 1) ^ (value >> 31)) >>> 0;
  if (rest < 1 << 7) return 1;
  if (rest < 1 << 14) return 2;
  if (rest < 1 << 21) return 3;
  return rest < 1 << 28 ? 4 : 5;
}
