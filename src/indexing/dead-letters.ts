// Dead letters: records that can never be indexed go to a Kafka topic, or to a file in embedded mode. In: refused records. Out:
// durable letters: masked bytes, the id the document would have had, and why. Guarantee: at least once. `put` resolves only when
// the letters are safe, and a record that is delivered again may leave a second letter with the same id and origin, which readers
// count as one.

import { createHash } from 'node:crypto';
import type { ICustomPartitioner, Kafka, Message, Producer } from 'kafkajs';
import { backoffMs, sleep, unlessAborted } from '../core/clock.ts';
import { errorText, refuseNewer } from '../core/errors.ts';
import { assertAcknowledged } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Chunk, DeadLetter, DeadLetterReason, DeadLetterSink, RawRecord } from '../core/record.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { defaultPartitioner, isTooLargeForKafka } from '../source/kafka/client.ts';
import { topicMaxBytes } from '../source/kafka/topics.ts';
import { documentId } from './batch.ts';
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
    origin: chunk.origin,
    offset: record.offset,
    timeMs: record.timeMs,
    id: documentId(record, chunk),
  });
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
export function assertKnownLetter(version: unknown, place: string): void {
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
    },
  };
}

/** An upper bound of what the message adds to a batch. */
function sizeOf({ key, value, headers }: Message): number {
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
    ...(exact ? { value: text } : { valueBase64: value!.toString('base64') }),
  };
}
