// Where records go that can never be indexed: a Kafka topic, or a file in embedded mode. In: letters whose bytes the
// caller has masked. Out: durable letters. Guarantee: at least once. `put` resolves only when the letters are safe, and
// a record delivered again may leave a second letter with the same id and origin, which readers take for one.
import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Kafka, Producer } from 'kafkajs';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { DeadLetter, DeadLetterSink } from '../core/record.ts';
import { defaultPartitioner } from '../source/kafka-client.ts';
import { topicMaxBytes } from '../source/topics.ts';
import { cutToFit, sizeOf, toLine, toMessage } from './letter-format.ts';

const DEFAULT_MAX_BYTES = 1_048_588;
/** Batch header, with room to spare. */
const BATCH_OVERHEAD = 512;
const MAX_BATCH_BYTES = 1_000_000;
/** Headers alone need this much. */
const MIN_LIMIT = 8_192;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;

interface Queued {
  readonly bytes: number;
  readonly letter: DeadLetter;
  readonly signal: AbortSignal;
  readonly settled: () => void;
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
  /** Lowered when the broker finds something too large all the same. */
  let learntLimit = Number.POSITIVE_INFINITY;
  let oneByOne = false;
  const maxBytes = () => Math.min(topicLimit, learntLimit) - BATCH_OVERHEAD;

  const connect = async (): Promise<Producer> => {
    if (producer) return producer;
    // Limited retries on purpose: after a failed send the producer is thrown away. Its sequence numbers would let the
    // broker take the next, different letters for a repetition of the failed ones.
    const fresh = kafka.producer({
      createPartitioner: defaultPartitioner,
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

  const takeBatch = (): Queued[] => {
    const limit = oneByOne ? 0 : Math.min(maxBytes(), MAX_BATCH_BYTES);
    const batch: Queued[] = [];
    let bytes = 0;
    while (queue.length > 0 && (batch.length === 0 || bytes + queue[0]!.bytes <= limit)) {
      const next = queue.shift()!;
      if (next.signal.aborted) continue;
      bytes += next.bytes;
      batch.push(next);
    }
    return batch;
  };

  const work = async () => {
    active = true;
    let retryMs = FIRST_RETRY_MS;
    let failing = false;
    while (queue.length > 0 && !closing.signal.aborted) {
      const batch: Queued[] = [];
      try {
        const present = await connect();
        batch.push(...takeBatch());
        if (batch.length === 0) continue;
        await present.send({ topic, acks: -1, messages: batch.map(({ letter }) => cutToFit(letter, maxBytes())) });
        for (const { settled } of batch) settled();
        retryMs = FIRST_RETRY_MS;
        if (failing) log.info('dead letters are written again', { topic });
        failing = false;
        metrics.paused.set({ reason: 'dead_letters' }, 0);
      } catch (error) {
        queue.unshift(...batch);
        await discard();
        if (isTooLarge(error) && batch.length > 1) oneByOne = true;
        else if (isTooLarge(error)) learntLimit = Math.max(MIN_LIMIT, Math.min(maxBytes(), batch[0]!.bytes) / 2);
        if (!failing) log.error('dead letters cannot be written; trying again', { topic, error: errorText(error) });
        failing = true;
        metrics.paused.set({ reason: 'dead_letters' }, 1);
        await sleep(retryMs, closing.signal);
        retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
      }
    }
    // In the same stretch as the last look at the queue, so that no letter is pushed in between and left there.
    active = false;
    if (failing) metrics.paused.set({ reason: 'dead_letters' }, 0);
  };

  return {
    async put(letters, signal) {
      signal.throwIfAborted();
      let give = () => {};
      const aborted = new Promise<void>((_, reject) => {
        give = () => reject(signal.reason);
        signal.addEventListener('abort', give, { once: true });
      });
      const written = letters.map(
        (letter) =>
          new Promise<void>((settled) => {
            queue.push({ bytes: sizeOf(toMessage(letter)), letter, signal, settled });
          }),
      );
      if (!active) working = work();
      try {
        await Promise.race([Promise.all(written), aborted]);
      } finally {
        signal.removeEventListener('abort', give);
      }
    },

    async close() {
      closing.abort();
      await discard();
      await working;
      await discard();
    },
  };
}

function isTooLarge(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { type } = at as Error & { type?: string };
    if (type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE') return true;
  }
  return false;
}

/** Letters as lines of a file, one JSON object each, on disk when `put` resolves. */
export function createFileDeadLetters(deps: { path: string; log: Log; metrics: Metrics }): DeadLetterSink {
  const { path, log, metrics } = deps;
  let last: Promise<unknown> = Promise.resolve();

  const append = async (text: string) => {
    mkdirSync(dirname(path), { recursive: true });
    const file = await open(path, 'a');
    try {
      await file.appendFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
  };

  const write = async (letters: readonly DeadLetter[], signal: AbortSignal) => {
    const text = letters.map((letter) => `${JSON.stringify(toLine(letter))}\n`).join('');
    for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(retryMs * 2, MAX_RETRY_MS)) {
      signal.throwIfAborted();
      try {
        await append(text);
        metrics.paused.set({ reason: 'dead_letters' }, 0);
        return;
      } catch (error) {
        log.error('dead letters cannot be written; trying again', { path, error: errorText(error) });
        metrics.paused.set({ reason: 'dead_letters' }, 1);
        await sleep(retryMs, signal);
      }
    }
  };

  return {
    put(letters, signal) {
      const mine = last.then(() => write(letters, signal));
      last = mine.catch(() => {});
      return mine;
    },
    async close() {
      await last;
    },
  };
}
