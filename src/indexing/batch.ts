// The unit between assembling and writing: one NDJSON bulk body and, item by item, the record it came from.
// The body is written once, by copying the record's own bytes where they can be used; sinks read slices of it.
import type { Chunk, RawRecord } from '../core/record.ts';

export interface BatchItem {
  readonly record: RawRecord;
  readonly chunk: Chunk;
}

/** Bookkeeping per record that counts against the in-flight limit: tiny records cost memory too. */
export const RECORD_OVERHEAD = 256;

/** Bytes that a record counts in the in-flight limit. */
export function weightOf(record: RawRecord): number {
  return (record.value?.length ?? 0) + RECORD_OVERHEAD;
}

/**
 * The item with bytes of its own. A record is a slice of what was fetched with it, and its chunk holds all of that: kept for
 * minutes, one record would keep megabytes.
 */
export function apart({ record, chunk }: BatchItem): BatchItem {
  const value = record.value === null ? null : Buffer.from(record.value);
  const { origin, done } = chunk;
  return { record: { ...record, value }, chunk: { origin, records: [], bytes: 0, done } };
}

const NEWLINE = 10;

/** A growing bulk body. A class, because one is filled per few thousand records on the hot path. */
export class Batch {
  /** Action line and document line per item, each ended by a newline. Valid up to `length`. */
  buffer: Buffer;
  length = 0;
  readonly items: BatchItem[] = [];
  /** Where item i begins (its action line). */
  private readonly starts: number[] = [];
  /** Where the document line of item i begins. */
  private readonly documents: number[] = [];
  /** Bytes of the records as consumed, for the in-flight limit. */
  consumedBytes = 0;

  constructor(capacity: number) {
    this.buffer = Buffer.allocUnsafeSlow(capacity);
  }

  get count(): number {
    return this.items.length;
  }

  /**
   * Appends one item.
   * @param action the action line without its newline
   * @param head the beginning of the document, `{"@timestamp":…,`
   * @param ascii true when action and head hold no character above 0x7f
   * @param rest the remaining bytes of the document, from `restStart` on
   */
  add(item: BatchItem, action: string, head: string, ascii: boolean, rest: Buffer, restStart: number): void {
    const most = (action.length + head.length) * (ascii ? 1 : 3) + rest.length + 2;
    if (this.length + most > this.buffer.length) this.grow(this.length + most);
    const { buffer } = this;
    const start = this.length;
    let position = start;
    // One call for both: each one costs as much as the characters it writes.
    const document = position + (ascii ? action.length : Buffer.byteLength(action)) + 1;
    position += buffer.write(`${action}\n${head}`, position, ascii ? 'latin1' : 'utf8');
    position += rest.copy(buffer, position, restStart);
    buffer[position++] = NEWLINE;
    // Only now, so that a failure leaves no half item behind.
    this.starts.push(start);
    this.documents.push(document);
    this.length = position;
    this.items.push(item);
    this.consumedBytes += item.record.value?.length ?? 0;
  }

  /** The whole body. */
  body(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  /** Action and document line of item `index`. */
  item(index: number): Buffer {
    return this.buffer.subarray(this.starts[index], this.starts[index + 1] ?? this.length);
  }

  /** The document of item `index`, without its newline. */
  document(index: number): Buffer {
    return this.buffer.subarray(this.documents[index], (this.starts[index + 1] ?? this.length) - 1);
  }

  /** Index name and document id of item `index`, read back from its action line. */
  action(index: number): { index: string; id: string } {
    const line = this.buffer.toString('utf8', this.starts[index], this.documents[index]);
    const [target] = Object.values(JSON.parse(line) as Record<string, { _index: string; _id: string }>);
    return { index: target!._index, id: target!._id };
  }

  /** Empties the batch for reuse; its buffer must no longer be read by anyone. */
  clear(): void {
    this.length = 0;
    this.items.length = 0;
    this.starts.length = 0;
    this.documents.length = 0;
    this.consumedBytes = 0;
  }

  private grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }
}
