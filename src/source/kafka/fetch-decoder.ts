// kafkajs's decoding of fetch answers, done faster. In: the bytes of a fetch response, version 11. Out: exactly the objects that
// kafkajs makes of them, but for aborted transactions: their records are control records here, which no application sees, and
// the list of them is empty. https://kafka.apache.org/protocol#The_Messages_Fetch
//
// Of topics that were asked to be left in place, one message stands for each record batch, at its last offset, and kafkajs, which
// only filters and counts messages, takes it for one; `recordsOf` and `takenOut` (record-batch.ts) know better.
//
// kafkajs reads each record through a dozen small objects and two big integers, which costs more than all of logpipe's parsing.
// Everything around it (connections, groups, sessions, transactions) stays kafkajs's. kafkajs looks the decoder up for every
// request, so replacing one function is enough. Installed only into the version it was compared with
// (test/unit/source/fetch-decoder.test.ts); message formats older than 2 go to kafkajs's own decoder.
import { createRequire } from 'node:module';
import { FetchedPlaces } from './fetched-records.ts';
import {
  type Allowance,
  BATCH_HEADER,
  batchLength,
  createAllowance,
  decodeBatch,
  type FetchedRecord,
  int64,
  MAGIC,
  MAGIC_AT,
  takenOut,
} from './record-batch.ts';

const KAFKAJS_VERSION = '2.2.4';
const RESPONSE = 'kafkajs/src/protocol/requests/fetch/v11/response.js';

type Decode = (bytes: Buffer) => Promise<FetchResponse>;
type Topics = { has(topic: string): boolean };

interface FetchResponse {
  readonly throttleTime: number;
  readonly clientSideThrottleTime: number;
  readonly errorCode: number;
  readonly sessionId: number;
  readonly responses: { topicName: string; partitions: FetchedPartition[] }[];
}

interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
}

interface FetchedPartition {
  readonly partition: number;
  readonly errorCode: number;
  readonly highWatermark: string;
  readonly lastStableOffset: string;
  readonly lastStartOffset: string;
  readonly abortedTransactions: AbortedTransaction[];
  readonly preferredReadReplica: number;
  messages: FetchedRecord[];
}

/** The answer is not what a broker sends, and asking again may help. Not thrown for what is stored; see record-batch.ts. */
class FetchResponseError extends Error {
  override readonly name = 'FetchResponseError';
}

/** Who reads a topic in place; for the whole process, as the decoder is. */
const readers = new Map<string, number>();

/**
 * Leaves the records of a topic where they are fetched, until the returned function is called. Whoever else reads the topic in this
 * process meanwhile has to take them out.
 */
export function leaveInPlace(topic: string): () => void {
  readers.set(topic, (readers.get(topic) ?? 0) + 1);
  let ended = false;
  return () => {
    if (ended) return;
    ended = true;
    const left = readers.get(topic)! - 1;
    if (left > 0) readers.set(topic, left);
    else readers.delete(topic);
  };
}

/** Replaces kafkajs's decoder for the whole process; false when this is another kafkajs and nothing was replaced. */
export function installFetchDecoder(): boolean {
  const require = createRequire(import.meta.url);
  const { version } = require('kafkajs/package.json') as { version: string };
  if (version !== KAFKAJS_VERSION) return false;
  const response = require(RESPONSE) as { decode: Decode };
  if (response.decode.name !== decodeFetch.name) response.decode = createDecode(response.decode, readers);
  return true;
}

/** `original` decodes what this decoder does not know. */
export function createDecode(original: Decode, inPlace: Topics = new Set()): Decode {
  return async function decodeFetch(bytes) {
    return (await decode(new Reader(bytes), inPlace)) ?? original(bytes);
  };
}

/** Only its name is used: to recognise a decoder that is already in place. */
function decodeFetch(): void {}

async function decode(reader: Reader, inPlace: Topics): Promise<FetchResponse | undefined> {
  const clientSideThrottleTime = reader.int32();
  const errorCode = reader.int16();
  const sessionId = reader.int32();
  const responses: FetchResponse['responses'] = [];
  const left = createAllowance();
  for (let topics = reader.count('topics', TOPIC_BYTES); topics > 0; topics--) {
    const topicName = reader.text(reader.int16());
    const partitions: FetchedPartition[] = [];
    for (let count = reader.count('partitions', PARTITION_BYTES); count > 0; count--) {
      const { partition, aborted } = reader.partition();
      const bytes = reader.bytes(Math.max(reader.int32(), 0));
      const place = { topic: topicName, partition: partition.partition };
      const places = inPlace.has(topicName) ? new FetchedPlaces(place) : undefined;
      const records = await decodeBatches(bytes, { topic: topicName, ...partition, aborted }, left, places);
      if (records === undefined) return undefined;
      partition.messages = records;
      partitions.push(partition);
    }
    responses.push({ topicName, partitions });
  }
  // The broker has not throttled this request, but asks the client to: kafkajs's convention.
  return { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
}

/** Undefined for message formats before version 2. A batch that was cut off at the end is left out. */
async function decodeBatches(
  bytes: Buffer,
  { topic, partition, highWatermark, aborted }: FetchedPartition & { topic: string; aborted: AbortedTransaction[] },
  left: Allowance,
  places: FetchedPlaces | undefined,
): Promise<FetchedRecord[] | undefined> {
  const records: FetchedRecord[] = [];
  const hideAborted = aborted.length === 0 ? undefined : createAbortFilter(aborted);
  for (let start = 0; start + BATCH_HEADER <= bytes.length; ) {
    const magic = bytes[start + MAGIC_AT]!;
    const isFirst = start === 0;
    if (isFirst && magic < MAGIC) return undefined;
    const length = batchLength(bytes, start);
    const end = start + (length ?? BATCH_HEADER);
    if (end > bytes.length) break;
    const where = { place: `${topic}/${partition}`, end: Number(highWatermark), isFirst };
    const before = records.length;
    const goOn = await decodeBatch(bytes.subarray(start, end), where, left, records, places);
    hideAborted?.(records, before);
    if (!goOn || length === undefined) break;
    start = end;
  }
  return records;
}

/**
 * Makes control records of the records of aborted transactions. kafkajs's own filter lets some of them through: it takes the list
 * as sorted, which it is not when transactions overlap; begins at most one transaction per record; and takes every record whose
 * key is four zero bytes (a Java integer, say) for the end of its transaction.
 */
function createAbortFilter(aborted: readonly AbortedTransaction[]) {
  const inOrder = [...aborted].sort((a, b) => Number(a.firstOffset) - Number(b.firstOffset));
  let begun = 0;
  const open = new Set<string>();
  /** @param records those from `from` on are one batch's; batches come in order */
  return (records: FetchedRecord[], from: number): void => {
    const last = records.at(-1);
    if (last === undefined || records.length === from) return;
    const { producerId, inTransaction, isControlBatch } = last.batchContext;
    while (begun < inOrder.length && Number(inOrder[begun]!.firstOffset) <= Number(last.offset)) {
      open.add(inOrder[begun++]!.producerId);
    }
    if (isControlBatch) {
      if (last.key?.equals(ABORT) === true) open.delete(producerId);
    } else if (inTransaction && open.has(producerId)) {
      // One by one, so that an empty batch of kafkajs begins where it did.
      for (const record of takenOut(records.splice(from))) records.push({ ...record, isControlRecord: true });
    }
  };
}

/** The key of a control record: version 0, type 0. */
const ABORT = Buffer.alloc(4);

/** Name and number of partitions. */
const TOPIC_BYTES = 6;
/** From its number to the length of its records. */
const PARTITION_BYTES = 42;
const TRANSACTION_BYTES = 16;

/** A cursor over the frame around the batches. @throws FetchResponseError when it would read past the end */
class Reader {
  private at = 0;
  private readonly buffer: Buffer;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  private step(length: number): number {
    const from = this.at;
    if (length < 0 || from + length > this.buffer.length) {
      throw new FetchResponseError(
        `an answer of ${this.buffer.length} bytes to a fetch claims ${length} bytes at byte ${from}`,
      );
    }
    this.at = from + length;
    return from;
  }

  int16(): number {
    return this.buffer.readInt16BE(this.step(2));
  }

  int32(): number {
    return this.buffer.readInt32BE(this.step(4));
  }

  int64(): string {
    return int64(this.buffer, this.step(8));
  }

  bytes(length: number): Buffer {
    const from = this.step(length);
    return this.buffer.subarray(from, this.at);
  }

  text(length: number): string {
    return this.bytes(length).toString();
  }

  /** How many of something follow, each of at least `size` bytes; null means none. */
  count(what: string, size: number): number {
    const count = this.int32();
    if (count < -1 || count > (this.buffer.length - this.at) / size) {
      throw new FetchResponseError(`an answer of ${this.buffer.length} bytes to a fetch claims ${count} ${what}`);
    }
    return count;
  }

  partition(): { partition: FetchedPartition; aborted: AbortedTransaction[] } {
    const head = {
      partition: this.int32(),
      errorCode: this.int16(),
      highWatermark: this.int64(),
      lastStableOffset: this.int64(),
      lastStartOffset: this.int64(),
    };
    const aborted: AbortedTransaction[] = [];
    for (let count = this.count('aborted transactions', TRANSACTION_BYTES); count > 0; count--) {
      aborted.push({ producerId: this.int64(), firstOffset: this.int64() });
    }
    const partition = { ...head, abortedTransactions: [], preferredReadReplica: this.int32(), messages: [] };
    return { partition, aborted };
  }
}
