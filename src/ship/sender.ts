// Batches from the queue to Kafka, one after the other. In: a queue. Out: delivered, refused or still undelivered records.
// Guarantee: a record leaves the queue only when every in-sync replica has it, or Kafka refuses it for good.
//
// What kafkajs does to sequence numbers: it adds the batch's length before sending and takes it off again when the request
// fails. Its own retries therefore repeat the same numbers and the broker drops what it already has. After the last retry
// the outcome is unknown, and the next batch would reuse numbers that the broker may have seen: a different batch of the
// same length would be acknowledged and thrown away. So a producer is never used again after a failed send: the same
// records go out through a new one, with a new producer id, marked `resent: '1'` for the reader to compare ids.
import type { Producer } from 'kafkajs';
import type { ShipClient } from './client.ts';
import type { Drops } from './drops.ts';
import type { BatchOptions } from './options.ts';
import type { ShipQueue } from './queue.ts';
import type { ShipRecord } from './record.ts';

export interface Sender {
  /** To be called after every push; cheap. */
  nudge(): void;
  /** Sends what is there now without waiting for full batches; resolves when the queue is empty or `abort` was called. */
  drain(): Promise<void>;
  /** Gives up what is on its way and disconnects. */
  abort(): void;
  readonly delivered: number;
}

export interface SenderDeps {
  readonly queue: ShipQueue;
  readonly client: ShipClient;
  readonly drops: Drops;
  onDelivered(batch: { records: number; bytes: number }): void;
  /** Once per outage. */
  onFailed(error: unknown): void;
  /** When to give up on an answer, in ms. Default 60,000. */
  readonly sendTimeoutMs?: number | undefined;
}

const FIRST_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 5_000;
/** Longer than all of kafkajs's own time-outs of one request together with its retries should ever take. */
const SEND_TIMEOUT_MS = 60_000;
/**
 * A connected kafkajs producer looks for late answers by a timer for as long as it lives, and no process with one ever ends
 * by itself. So an idle one is let go; the next record connects again.
 */
const IDLE_MS = 3_000;
const REFUSALS = ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD', 'INVALID_TIMESTAMP'];

export function createSender(batchLimits: Required<BatchOptions>, deps: SenderDeps): Sender {
  const { queue, client, drops, sendTimeoutMs = SEND_TIMEOUT_MS } = deps;
  let producer: Producer | undefined;
  let timer: NodeJS.Timeout | undefined;
  let idleTimer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let scheduled = false;
  let draining = false;
  let aborted = false;
  let failing = false;
  let delivered = 0;
  let wake = () => {};

  const full = () => queue.waiting >= batchLimits.maxRecords || queue.waitingBytes >= batchLimits.maxBytes;

  function start(): void {
    scheduled = false;
    clearTimeout(timer);
    timer = undefined;
    if (running !== undefined || aborted) return;
    client.busy(true);
    running = pump().finally(() => {
      running = undefined;
      client.busy(false);
      if (queue.waiting > 0) nudge();
      else idle();
    });
  }

  function idle(): void {
    clearTimeout(idleTimer);
    idleTimer = setTimeout(() => {
      if (running === undefined && queue.records === 0) discardProducer();
    }, IDLE_MS);
    idleTimer.unref();
  }

  function nudge(): void {
    if (running !== undefined || scheduled || aborted) return;
    if (full() || draining) {
      scheduled = true;
      setImmediate(start);
    } else if (timer === undefined) {
      timer = setTimeout(start, batchLimits.maxDelayMs);
      timer.unref();
    }
  }

  async function pump(): Promise<void> {
    do {
      const batch = queue.take(batchLimits.maxRecords, batchLimits.maxBytes);
      if (batch.length === 0) return;
      await deliver(batch, false);
    } while (!aborted && (full() || draining));
  }

  async function deliver(records: ShipRecord[], resent: boolean): Promise<void> {
    let unknown = resent;
    for (let attempt = 0; !aborted; attempt++) {
      try {
        producer ??= await connect();
        if (aborted) return discardProducer();
        const attempted = client.send(producer, records, unknown);
        unknown = true;
        await withTimeout(attempted, sendTimeoutMs);
        settle(records);
        return;
      } catch (error) {
        discardProducer();
        if (isRefusal(error)) return await refused(records);
        if (!failing) deps.onFailed(error);
        failing = true;
        await backoff(attempt);
      }
    }
  }

  function settle(records: ShipRecord[]): void {
    // After `abort` they have been reported as undelivered.
    if (aborted) return;
    failing = false;
    delivered += records.length;
    queue.release(records);
    let bytes = 0;
    for (const record of records) bytes += record.bytes;
    if (queue.relaxed) drops.settle();
    deps.onDelivered({ records: records.length, bytes });
  }

  /** One record among them is to blame: halves until it is alone. */
  async function refused(records: ShipRecord[]): Promise<void> {
    if (records.length === 1) {
      queue.release(records);
      drops.count('refused', 1);
      return;
    }
    const half = records.length >> 1;
    await deliver(records.slice(0, half), true);
    await deliver(records.slice(half), true);
  }

  async function connect(): Promise<Producer> {
    const fresh = client.producer();
    try {
      await withTimeout(fresh.connect(), sendTimeoutMs);
      return fresh;
    } catch (error) {
      fresh.disconnect().catch(() => {});
      throw error;
    }
  }

  function discardProducer(): void {
    producer?.disconnect().catch(() => {});
    producer = undefined;
  }

  /** Waits, doubling each time, with jitter so that many applications do not return together. */
  function backoff(attempt: number): Promise<void> {
    const ms = Math.min(FIRST_BACKOFF_MS * 2 ** Math.min(attempt, 10), MAX_BACKOFF_MS) * (0.5 + Math.random() / 2);
    return new Promise((resolve) => {
      const waiting = setTimeout(resolve, ms);
      waiting.unref();
      wake = () => {
        clearTimeout(waiting);
        resolve();
      };
      if (aborted) wake();
    });
  }

  return {
    nudge,
    async drain() {
      draining = true;
      while (!aborted && queue.records > 0) {
        start();
        await running;
      }
    },
    abort() {
      if (aborted) return;
      aborted = true;
      clearTimeout(timer);
      clearTimeout(idleTimer);
      wake();
      discardProducer();
      client.dispose();
    },
    get delivered() {
      return delivered;
    },
  };
}

function isRefusal(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (REFUSALS.includes((at as { type?: string }).type ?? '')) return true;
  }
  return false;
}

async function withTimeout<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Kafka did not answer within ${ms} ms`)), ms);
    timer.unref();
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
