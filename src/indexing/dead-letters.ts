// Dead letters: records that can never be indexed go to a Kafka topic, or to a file in embedded mode. In: refused records. Out:
// durable letters: masked bytes, the id the document would have had, and why; the same letters read again; and receipts, which say
// beside the letters which of them were redriven. Guarantee: at least once. `put` resolves only when the letters are safe, and a record
// that is delivered again may leave a second letter with the same id and origin, which readers count as one.

import { createHash } from 'node:crypto';
import type { ICustomPartitioner, Kafka, KafkaMessage, Message, Producer } from 'kafkajs';
import { backoffMs, sleep, unlessAborted } from '../core/clock.ts';
import { errorText, refuseNewer } from '../core/errors.ts';
import { assertAcknowledged } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import {
  type Chunk,
  type DeadLetter,
  type DeadLetterReason,
  type DeadLetterSink,
  documentId,
  eventIdIn,
  firstArrivalMs,
  type RawRecord,
} from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { isObject } from '../parse/json.ts';
import { defaultPartitioner, isTooLargeForKafka } from '../source/kafka/client.ts';
import { MAX_DOCUMENT_ID_BYTES, MAX_RETURNS, MAX_TIME_MS } from '../source/kafka/record-headers.ts';
import { topicMaxBytes } from '../source/kafka/topics.ts';
import { createLineFile, persist } from './sinks.ts';

export const dlqSection = {
  type: 'object',
  description: 'Dead letters: records that can never be indexed.',
  additionalProperties: false,
  default: {},
  properties: {
    keepRaw: {
      type: 'boolean',
      default: false,
      description: 'Keep the original bytes, secrets included. Off: dead letters are masked like documents.',
    },
    file: {
      type: 'string',
      minLength: 1,
      default: 'logs/dead-letters.ndjson',
      description: 'Where dead letters go without Kafka (sources `files` and `stdin`).',
    },
  },
} as const;

export interface DlqConfig {
  readonly keepRaw: boolean;
  readonly file: string;
}

const MAX_DETAIL = 1_000;

/** A refused record as a letter. */
export function createDeadLetter(config: DlqConfig, masker: Masker) {
  return (record: RawRecord, chunk: Pick<Chunk, 'origin'>, reason: DeadLetterReason, detail: string): DeadLetter => ({
    reason,
    detail: masker.text(detail).slice(0, MAX_DETAIL),
    value: config.keepRaw ? record.value : maskedBytes(record.value, masker),
    ...identityOf(record, chunk),
  });
}

/** What a redrive needs besides the value: the record's place, and what decides its id and its day. */
export function identityOf(
  record: RawRecord,
  chunk: Pick<Chunk, 'origin'>,
): Omit<DeadLetter, 'reason' | 'detail' | 'value'> {
  const { clockErrorMs, redriven } = record;
  return {
    origin: chunk.origin,
    offset: record.offset,
    timeMs: firstArrivalMs(record),
    id: documentId(record, chunk),
    ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    ...(redriven === undefined ? {} : { redriven: redriven.times }),
  };
}

/**
 * The same bytes when they hold no secret. Masked as text and then as the value it stands for, so that no secret survives under a
 * key given twice, in a broken line or under an escaped key; whatever is next to a secret stays as it was written.
 */
function maskedBytes(value: Buffer | null, masker: Masker): Buffer | null {
  if (value === null) return null;
  const text = value.toString();
  const masked = masker.text(text);
  return masked === text ? value : Buffer.from(masked);
}

// ---- a topic of letters ----

const DEFAULT_MAX_BYTES = 1_048_588;
/** Batch header, with room to spare. */
const BATCH_OVERHEAD = 512;
const MAX_BATCH_BYTES = 1_000_000;
/** The headers alone need this much. */
const MIN_LIMIT = 8_192;
const BACKOFF = { firstMs: 100, maxMs: 5_000 };

interface Queued {
  readonly bytes: number;
  readonly letter: DeadLetter;
  readonly signal: AbortSignal;
  readonly written: () => void;
  readonly failed: (error: unknown) => void;
}

/** Letters as records of `topic`: key = id, value = the bytes, everything else in headers. */
export function createKafkaDeadLetters(deps: {
  kafka: Kafka;
  topic: string;
  metrics: Metrics;
  log: Log;
}): DeadLetterSink {
  const { kafka, topic, metrics, log } = deps;
  const closing = new AbortController();
  const queue: Queued[] = [];
  let active = false;
  let working: Promise<void> | undefined;
  let producer: Producer | undefined;
  let topicLimit = DEFAULT_MAX_BYTES;
  /** Lowered when the broker finds something too large nevertheless. */
  let learntLimit = Number.POSITIVE_INFINITY;
  let oneByOne = false;
  /** Partitions of the present send, as kafkajs chose them. */
  const chosen = new Set<number>();
  const noting: ICustomPartitioner = () => {
    const choose = defaultPartitioner();
    return (args) => {
      const partition = choose(args);
      chosen.add(partition);
      return partition;
    };
  };
  const maxBytes = () => Math.min(topicLimit, learntLimit) - BATCH_OVERHEAD;

  const connect = async (): Promise<Producer> => {
    if (producer) return producer;
    // Limited retries on purpose: after a failed send the producer is discarded. With its sequence numbers, the broker would
    // mistake the next, different letters for a repetition of the failed ones.
    const fresh = kafka.producer({
      createPartitioner: noting,
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      retry: { retries: 5 },
    });
    producer = fresh;
    await fresh.connect();
    topicLimit = (await topicMaxBytes(kafka, topic, log)) ?? DEFAULT_MAX_BYTES;
    return fresh;
  };

  const discard = async () => {
    const old = producer;
    producer = undefined;
    await old?.disconnect().catch(() => {});
  };

  /** Removes letters whose signal has aborted: nobody waits for them any more. */
  const dropAborted = () => {
    for (let i = queue.length - 1; i >= 0; i--) if (queue[i]!.signal.aborted) queue.splice(i, 1);
  };

  const takeBatch = (): Queued[] => {
    dropAborted();
    const limit = oneByOne ? 0 : Math.min(maxBytes(), MAX_BATCH_BYTES);
    let count = 0;
    for (let bytes = 0; count < queue.length; count++) {
      bytes += queue[count]!.bytes;
      if (count > 0 && bytes > limit) break;
    }
    return queue.splice(0, count);
  };

  const send = async (batch: readonly Queued[]) => {
    const present = await connect();
    const messages = batch.map(({ letter }) => fitting(letter, maxBytes()));
    chosen.clear();
    const answers = await present.send({ topic, acks: -1, messages });
    assertAcknowledged(answers, chosen, topic);
  };

  const work = async () => {
    active = true;
    let failures = 0;
    for (dropAborted(); queue.length > 0 && !closing.signal.aborted; dropAborted()) {
      const batch: Queued[] = [];
      try {
        await connect();
        batch.push(...takeBatch());
        if (batch.length === 0) continue;
        await send(batch);
        for (const { written } of batch) written();
        if (failures > 0) {
          log.info('dead letters are written again', { topic });
          metrics.paused.set({ reason: 'dead_letters' }, 0);
        }
        failures = 0;
      } catch (error) {
        queue.unshift(...batch);
        await discard();
        if (isTooLargeForKafka(error) && batch.length > 1) oneByOne = true;
        else if (isTooLargeForKafka(error))
          learntLimit = Math.max(MIN_LIMIT, Math.min(maxBytes(), batch[0]!.bytes) / 2);
        if (failures === 0)
          log.error('dead letters cannot be written; trying again', { topic, error: errorText(error) });
        failures += 1;
        metrics.paused.set({ reason: 'dead_letters' }, 1);
        await sleep(backoffMs(failures, BACKOFF), closing.signal);
      }
    }
    // Synchronously after the last look at the queue, so that no letter is pushed in between and left there.
    active = false;
    if (closing.signal.aborted) for (const { failed } of queue.splice(0)) failed(closing.signal.reason);
    if (failures > 0) metrics.paused.set({ reason: 'dead_letters' }, 0);
  };

  return {
    async put(letters, signal) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      const written = letters.map(
        (letter) =>
          new Promise<void>((written, failed) => {
            queue.push({ bytes: sizeOf(toMessage(letter)), letter, signal, written, failed });
          }),
      );
      // An abort may end the wait before they reject.
      for (const one of written) one.catch(() => {});
      if (!active) working = work();
      await unlessAborted(Promise.all(written), signal);
    },

    async close() {
      closing.abort(new Error('the dead letters are closed'));
      await discard();
      await working;
      await discard();
    },
  };
}

/** A letter whose value cannot be cut (or hashed) is sent without it. */
function fitting(letter: DeadLetter, limit: number): Message {
  try {
    return cutToFit(letter, limit);
  } catch {
    return cutToFit({ ...letter, value: null }, limit);
  }
}

// ---- a file of letters ----

/** Letters as lines of a file, one JSON object each, on disk when `put` resolves. */
export function createFileDeadLetters(deps: { path: string; log: Log; metrics: Metrics }): DeadLetterSink {
  const { path, log, metrics } = deps;
  const file = createLineFile(path, { sync: true });
  let last: Promise<unknown> = Promise.resolve();

  return {
    async put(letters, signal) {
      const lines = Buffer.from(letters.map((letter) => `${JSON.stringify(toLine(letter))}\n`).join(''));
      const mine = last.then(() =>
        persist(() => file.append(lines), {
          what: 'dead letters',
          path,
          log,
          signal,
          backoff: BACKOFF,
          onFailing: (reason) => metrics.paused.set({ reason: 'dead_letters' }, reason === undefined ? 0 : 1),
        }),
      );
      last = mine.catch(() => {});
      await mine;
    },
    async close() {
      await last;
      await file.close();
    },
  };
}

// ---- how a letter is written down: as a Kafka record, or as a line of a file ----

/** Headers and keys that may be missing are no new version; letters of before 0.2 have none. */
const LETTER_FORMAT = 1;

/**
 * @param version of the header, or key, `v`
 * @param place for people: topic, partition and offset, or file and offset
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER
 */
function assertKnownLetter(version: unknown, place: string): void {
  refuseNewer(`${place}: the dead letter`, Number(version), LETTER_FORMAT);
}

/** Length fields of a record and its headers. */
const RECORD_OVERHEAD = 128;

/** Key = id, value = the bytes, everything else in headers. */
function toMessage(letter: DeadLetter): Message {
  const { origin } = letter;
  const place =
    origin.kind === 'kafka'
      ? { 'origin-topic': origin.topic, 'origin-partition': String(origin.partition) }
      : { 'origin-file': origin.path, 'origin-identity': origin.identity };
  return {
    key: letter.id,
    value: letter.value,
    headers: {
      v: String(LETTER_FORMAT),
      reason: letter.reason,
      detail: letter.detail,
      ...place,
      'origin-offset': String(letter.offset),
      'origin-timestamp': String(letter.timeMs),
      'event-id': letter.id,
      ...(letter.clockErrorMs === undefined ? {} : { 'clock-error': String(letter.clockErrorMs) }),
      ...(letter.redriven === undefined ? {} : { redriven: String(letter.redriven) }),
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
function cutToFit(letter: DeadLetter, limit: number): Message {
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

/** Bytes that are not UTF-8 go into `valueBase64`, because they would not survive as text. */
function toLine(letter: DeadLetter): Record<string, unknown> {
  const { origin, value } = letter;
  const text = value?.toString() ?? null;
  const exact = value === null || Buffer.from(text!).equals(value);
  return {
    v: LETTER_FORMAT,
    id: letter.id,
    reason: letter.reason,
    detail: letter.detail,
    origin: { ...origin, offset: letter.offset, time: new Date(letter.timeMs).toISOString() },
    ...(letter.clockErrorMs === undefined ? {} : { clockErrorMs: letter.clockErrorMs }),
    ...(letter.redriven === undefined ? {} : { redriven: letter.redriven }),
    ...(exact ? { value: text } : { valueBase64: value!.toString('base64') }),
  };
}

// ---- letters read again ----

/** A letter as it was written; nothing of it is masked for certain. */
export interface StoredLetter extends Omit<DeadLetter, 'reason'> {
  /** `unknown` when the letter does not say. */
  readonly reason: string;
  /** When the letter was written, in ms; undefined for letters in a file, which do not tell. */
  readonly writtenMs: number | undefined;
  /** Bytes of the record, also when the letter holds less of it. */
  readonly bytes: number;
  /** Hash of the record when the letter holds less of it. */
  readonly sha256?: string;
}

/**
 * Undefined for what is no letter: receipts, and records that say neither an id nor where they come from.
 * @param place for people: topic, partition and offset
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER
 */
export function letterOfMessage(message: KafkaMessage, place: string): StoredLetter | undefined {
  const header = headerReader(message);
  if (header('kind') !== undefined) return undefined;
  assertKnownLetter(header('v'), place);
  const { key, value, timestamp } = message;
  const topic = header('origin-topic');
  const sha256 = header('sha256');
  const origin = header('origin-timestamp') ?? '';
  return {
    id: knownId(header('event-id') ?? key?.toString() ?? ''),
    reason: header('reason') ?? 'unknown',
    detail: header('detail') ?? '',
    writtenMs: Number(timestamp),
    origin:
      topic === undefined
        ? { kind: 'file', path: header('origin-file') ?? '', identity: header('origin-identity') ?? '' }
        : { kind: 'kafka', topic, partition: Number(header('origin-partition')) },
    offset: Number(header('origin-offset')),
    timeMs: DIGITS.test(origin) ? knownTime(Number(origin)) : Number.NaN,
    bytes: Number(header('original-bytes') ?? value?.length ?? 0),
    ...(sha256 === undefined ? {} : { sha256 }),
    value,
    ...numbers({ clockErrorMs: header('clock-error'), redriven: header('redriven') }),
  };
}

/** Does a record of the dead-letter topic tell of a record that died, and not for the second time? */
export function isNews({ headers }: Pick<KafkaMessage, 'headers'>): boolean {
  return headers?.kind === undefined && headers?.redriven === undefined;
}

/** As `toLine` writes it; undefined for anything else. @throws LogpipeError LOGPIPE_FORMAT_NEWER */
export function letterOfLine(line: string, place: string): StoredLetter | undefined {
  const found = parsedObject(line);
  if (found === undefined || !isObject(found.origin)) return undefined;
  assertKnownLetter(found.v, place);
  const { id, reason, detail, origin, value, valueBase64 } = found;
  const text = (given: unknown): string => (typeof given === 'string' ? given : '');
  const bytes =
    typeof valueBase64 === 'string'
      ? Buffer.from(valueBase64, 'base64')
      : typeof value === 'string'
        ? Buffer.from(value)
        : null;
  return {
    id: knownId(text(id)),
    reason: text(reason) || 'unknown',
    detail: text(detail),
    writtenMs: undefined,
    origin:
      origin.kind === 'kafka'
        ? { kind: 'kafka', topic: text(origin.topic), partition: Number(origin.partition) }
        : { kind: 'file', path: text(origin.path), identity: text(origin.identity) },
    offset: Number(origin.offset),
    timeMs: knownTime(Date.parse(text(origin.time))),
    bytes: bytes?.length ?? 0,
    value: bytes,
    ...numbers({ clockErrorMs: found.clockErrorMs, redriven: found.redriven }),
  };
}

/** The record that a letter was made of, under the id that its document was to have. */
export function recordOfLetter(letter: StoredLetter): RawRecord {
  const { value, offset, timeMs, writtenMs, id, clockErrorMs, redriven } = letter;
  const recordMs = Number.isNaN(timeMs) ? (writtenMs ?? 0) : timeMs;
  return {
    ...{ value, offset, timeMs: recordMs, eventId: eventIdIn(id), documentId: id, mark: 'redriven' },
    ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    ...(redriven === undefined ? {} : { redriven: { firstMs: recordMs, times: redriven } }),
  };
}

/** How often it came back is what ends the ways back: what says so and is no number counts as too often. */
function numbers(given: { clockErrorMs: unknown; redriven: unknown }): Pick<DeadLetter, 'clockErrorMs' | 'redriven'> {
  const clockErrorMs = Number(given.clockErrorMs ?? Number.NaN);
  const redriven = Number(given.redriven ?? 0);
  const isCount = Number.isSafeInteger(redriven) && redriven >= 1;
  return {
    ...(Number.isSafeInteger(clockErrorMs) ? { clockErrorMs } : {}),
    ...(given.redriven == null ? {} : { redriven: isCount ? Math.min(redriven, MAX_RETURNS) : MAX_RETURNS }),
  };
}

const DIGITS = /^\d{1,16}$/;

/** NaN for a time that cannot be written as a date, or not as the day of an index. */
function knownTime(ms: number): number {
  return ms >= 0 && ms <= MAX_TIME_MS ? ms : Number.NaN;
}

/** No document has a longer one, and one request with it would be refused as a whole. */
function knownId(id: string): string {
  return Buffer.byteLength(id) > MAX_DOCUMENT_ID_BYTES ? '' : id;
}

function headerReader({ headers }: KafkaMessage): (name: string) => string | undefined {
  return (name) => {
    const value = headers?.[name];
    return value === undefined ? undefined : String(Array.isArray(value) ? value[0] : value);
  };
}

function parsedObject(text: string): Record<string, unknown> | undefined {
  try {
    const found: unknown = JSON.parse(text);
    return isObject(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Letters of a record that was delivered twice lie close together: this many keys find them. */
const MAX_REMEMBERED = 100_000;

/** True for a key that was not among the last ones. */
export function createFirstOf(): (key: string) => boolean {
  const seen = new Set<string>();
  return (key) => {
    if (seen.has(key)) return false;
    if (seen.size >= MAX_REMEMBERED) seen.delete(seen.values().next().value!);
    seen.add(key);
    return true;
  };
}

/** The same for the letters of one record; a record that died again after a redrive has another place. */
export function letterKey({ id, origin, offset }: Pick<DeadLetter, 'id' | 'origin' | 'offset'>): string {
  return origin.kind === 'kafka'
    ? `${id}|${origin.topic}|${origin.partition}|${offset}`
    : `${id}|${origin.identity}||${offset}`;
}

// ---- receipts: which letters were redriven ----

const RECEIPT = 'receipt';
const RECEIPT_FORMAT = 1;

/** Places of letters from `from` up to, not including, `to`: offsets of their partition, or bytes of their file. */
export type Run = readonly [from: number, to: number];

/** Written once the letters are back where they came from: of one partition, into that partition; or of one file, beside it. */
export interface Receipt {
  /** When the redrive began, in ms, by the clock of its host. */
  readonly startedMs: number;
  readonly runs: readonly Run[];
}

/** As a record of the dead-letter topic; no reader of letters takes it for one. */
export function receiptMessage({ startedMs, runs }: Receipt): Pick<Message, 'value' | 'headers'> {
  return {
    headers: { kind: RECEIPT, v: String(RECEIPT_FORMAT) },
    value: JSON.stringify({ startedMs, runs }),
  };
}

/** Undefined for anything that is no receipt. @throws LogpipeError LOGPIPE_FORMAT_NEWER */
export function receiptOfMessage(message: KafkaMessage, place: string): Receipt | undefined {
  const header = headerReader(message);
  if (header('kind') !== RECEIPT) return undefined;
  refuseNewer(`${place}: the receipt of a redrive`, Number(header('v')), RECEIPT_FORMAT);
  return readReceipt(parsedObject(String(message.value)));
}

/** As a line of the file beside a file of letters, which `identity` tells from a later one of the same name. */
export function receiptLine({ startedMs, runs }: Receipt, identity: string): string {
  return `${JSON.stringify({ v: RECEIPT_FORMAT, identity, startedMs, runs })}\n`;
}

/** Undefined for anything else, and for the receipt of another file. @throws LogpipeError LOGPIPE_FORMAT_NEWER */
export function receiptOfLine(line: string, identity: string, place: string): Receipt | undefined {
  const found = parsedObject(line);
  if (found === undefined) return undefined;
  refuseNewer(`${place}: the receipt of a redrive`, Number(found.v), RECEIPT_FORMAT);
  return found.identity === identity ? readReceipt(found) : undefined;
}

function readReceipt(found: Record<string, unknown> | undefined): Receipt | undefined {
  if (found === undefined || !Number.isFinite(found.startedMs) || !Array.isArray(found.runs)) return undefined;
  const runs = found.runs.filter(
    (run): run is Run =>
      Array.isArray(run) && run.length === 2 && run.every((at) => Number.isSafeInteger(at)) && run[0] < run[1],
  );
  return { startedMs: Number(found.startedMs), runs };
}
