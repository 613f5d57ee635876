// Where records go that can never be indexed: a Kafka topic, or a file in embedded mode. In: letters whose bytes the
// caller has masked. Out: durable letters. Guarantee: at least once. `put` resolves only when the letters are safe, and
// a record delivered again may leave a second letter with the same id and origin, which readers take for one.
import type { ICustomPartitioner, Kafka, Message, Producer } from 'kafkajs';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { assertAcknowledged } from '../core/kafka-acks.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { DeadLetter, DeadLetterSink } from '../core/record.ts';
import { defaultPartitioner } from '../source/kafka-client.ts';
import { topicMaxBytes } from '../source/topics.ts';
import { cutToFit, sizeOf, toLine, toMessage } from './letter-format.ts';
import { createLineFile, persist } from './line-file.ts';

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
  /** Lowered when the broker finds something too large all the same. */
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
    // Limited retries on purpose: after a failed send the producer is thrown away. Its sequence numbers would let the
    // broker take the next, different letters for a repetition of the failed ones.
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

  /** Nobody waits any more for a letter whose signal has aborted. */
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
    let retryMs = FIRST_RETRY_MS;
    let failing = false;
    for (dropAborted(); queue.length > 0 && !closing.signal.aborted; dropAborted()) {
      const batch: Queued[] = [];
      try {
        await connect();
        batch.push(...takeBatch());
        if (batch.length === 0) continue;
        await send(batch);
        for (const { settled } of batch) settled();
        retryMs = FIRST_RETRY_MS;
        if (failing) {
          log.info('dead letters are written again', { topic });
          metrics.paused.set({ reason: 'dead_letters' }, 0);
        }
        failing = false;
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
    if (closing.signal.aborted) for (const { failed } of queue.splice(0)) failed(closing.signal.reason);
    if (failing) metrics.paused.set({ reason: 'dead_letters' }, 0);
  };

  return {
    async put(letters, signal) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      let give = () => {};
      const aborted = new Promise<void>((_, reject) => {
        give = () => reject(signal.reason);
        signal.addEventListener('abort', give, { once: true });
      });
      const written = letters.map(
        (letter) =>
          new Promise<void>((settled, failed) => {
            queue.push({ bytes: sizeOf(toMessage(letter)), letter, signal, settled, failed });
          }),
      );
      // The abort may end the waiting first.
      for (const one of written) one.catch(() => {});
      if (!active) working = work();
      try {
        await Promise.race([Promise.all(written), aborted]);
      } finally {
        signal.removeEventListener('abort', give);
      }
    },

    async close() {
      closing.abort(new Error('the dead letters are closed'));
      await discard();
      await working;
      await discard();
    },
  };
}

/** A letter whose value cannot be cut (or hashed) goes without it. */
function fitting(letter: DeadLetter, limit: number): Message {
  try {
    return cutToFit(letter, limit);
  } catch {
    return cutToFit({ ...letter, value: null }, limit);
  }
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
          firstRetryMs: FIRST_RETRY_MS,
          maxRetryMs: MAX_RETRY_MS,
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
