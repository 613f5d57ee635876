// The alert state on the compacted alerts topic. In: changes. Out: one transaction per commit, and all records at a take-over. Guarantee:
// whoever opens the store first fences off the former leader, whose open transaction is aborted and whose later writes are refused, and
// then has everything that was committed before; a commit with an unknown outcome ends the store.
import { randomUUID } from 'node:crypto';
import type { Kafka, KafkaMessage, Message, Producer } from 'kafkajs';
import {
  backoffMs,
  type Clock,
  certainAgeMs,
  type Deferred,
  deferred,
  endsWithin,
  type Moment,
  momentOf,
  sleep,
  within,
} from '../core/clock.ts';
import { causeChain, errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { StateChange, StateKey } from '../incidents/records.ts';
import { defaultPartitioner, type KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type AlertStore, assertKnownFormat, LostTermError } from './store.ts';

/** Bytes of one request; the broker's default limit for a batch is 1 MiB. */
const REQUEST_BYTES = 500_000;
const PARTITION = 0;
const CLOSE_MS = 5_000;

interface KafkaStoreOptions {
  readonly config: KafkaConfig;
  /** One partition, compacted. */
  readonly topic: string;
  /** The same in every instance that may lead, because it is what fences. */
  readonly transactionalId: string;
  /** The outcome of a commit that takes longer counts as unknown. Default 10 s. */
  readonly commitTimeoutMs?: number;
  /** Longest wait for the topic's end at a take-over. Default 30 s. */
  readonly readTimeoutMs?: number;
}

interface KafkaStoreDeps {
  readonly kafka: Kafka;
  readonly clock: Clock;
  readonly log: Log;
  /** Asked right before the former leader is fenced off; rejects when this instance no longer leads. See `Leadership.assured`. */
  readonly mayTakeOver: () => Promise<void>;
}

export interface KafkaStores {
  /**
   * Takes over: fences, then reads to the end. The previous store, of this process or of another one, is over.
   * @throws LostTermError when another instance took over meanwhile; else kafkajs's errors, after which it can be tried again
   */
  open(): Promise<AlertStore>;
  /** For an instance that stands by: what the leader has written, as far as it is known here. Later records are added to the map. */
  readonly known: Promise<ReadonlyMap<StateKey, object>>;
  close(): Promise<void>;
}

/** Begins to follow the topic at once, so that an instance that stands by can take over quickly. */
export function createKafkaStores(options: KafkaStoreOptions, deps: KafkaStoreDeps): KafkaStores {
  const reader = createRecordsReader({ kafka: options.config, topic: options.topic }, deps);
  return {
    open: () => openStore(options, deps, reader),
    known: reader.known,
    close: () => reader.close(),
  };
}

async function openStore(
  options: KafkaStoreOptions,
  deps: KafkaStoreDeps,
  reader: ReturnType<typeof createRecordsReader>,
): Promise<AlertStore> {
  const { topic, commitTimeoutMs = 10_000, readTimeoutMs = 30_000 } = options;
  const { clock, log } = deps;
  const id = randomUUID();
  const producer = deps.kafka.producer({
    transactionalId: options.transactionalId,
    idempotent: true,
    maxInFlightRequests: 1,
    // When nobody takes over, a dead leader's open transaction keeps readers waiting for this long.
    transactionTimeout: commitTimeoutMs,
    createPartitioner: defaultPartitioner,
    retry: { retries: 5 },
  });
  /** Why this store is over. */
  let over: LostTermError | undefined;
  let confirmed: Moment | undefined;
  let tail: Promise<unknown> = Promise.resolve();

  /** kafkajs asks for the producer's epoch at the first `transaction()`, which therefore fences. */
  async function transact(messages: readonly Message[]): Promise<void> {
    const since = momentOf(clock);
    const transaction = await producer.transaction();
    for (const part of inRequests(messages)) await transaction.send({ topic, acks: -1, messages: part });
    await transaction.commit();
    confirmed = since;
  }

  async function write(messages: readonly Message[]): Promise<void> {
    if (over !== undefined) throw over;
    try {
      // A late write does no harm: whoever opens the store next fences it off.
      await within(transact(messages), commitTimeoutMs, `not done within ${commitTimeoutMs} ms`, clock.after);
    } catch (error) {
      // Even after an error before the commit, kafkajs's transaction cannot be used any more.
      over = isFenced(error) ? new LostTermError(error) : new LostTermError(error, 'unknown');
      log.warn(`The alert state was not written: ${over.message}`, { topic, error: errorText(error) });
      void disconnect(producer, clock);
      throw over;
    }
  }

  /** One after the other, because kafkajs has one transaction at a time. */
  function inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = tail.then(act);
    tail = mine.catch(() => {});
    return mine;
  }

  const claim = () => write([{ key: LEADER_KEY, value: JSON.stringify({ id }), partition: PARTITION }]);

  const beganMs = clock.monotonicMs();
  const everything = reader.expect(id);
  let initial: AlertStore['initial'];
  let dated: AlertStore['dated'];
  try {
    await producer.connect();
    await deps.mayTakeOver();
    // Fences, aborts what the former leader left open, and marks the end of everything before.
    await claim();
    const { monotonicMs } = momentOf(clock);
    initial = await everything.records(readTimeoutMs);
    assertKnownFormat(initial, topic);
    // The record was written a moment earlier, so this process's time is late by no more than that.
    const { brokersMs } = everything;
    if (brokersMs !== undefined && brokersMs > 0) dated = { brokersMs, monotonicMs };
  } catch (error) {
    everything.forget();
    void disconnect(producer, clock);
    throw error;
  }
  log.info('took over the alert state', {
    topic,
    records: initial.size,
    ms: Math.round(clock.monotonicMs() - beganMs),
  });

  return {
    initial,
    ...(dated && { dated }),
    commit: (changes) => inTurn(async () => (changes.length === 0 ? undefined : write(changes.map(toMessage)))),
    confirm: (maxAgeMs) =>
      inTurn(async () => {
        if (over !== undefined) throw over;
        if (confirmed === undefined || certainAgeMs(clock, confirmed) > maxAgeMs) await claim();
      }),
    async close() {
      await tail;
      over ??= new LostTermError(undefined, 'unknown');
      await disconnect(producer, clock);
    },
  };
}

function toMessage({ key, value }: StateChange): Message {
  return { key, value: value === null ? null : JSON.stringify(value), partition: PARTITION };
}

function inRequests(messages: readonly Message[]): Message[][] {
  const parts: Message[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const message of messages) {
    const size = Buffer.byteLength(message.value ?? '') + Buffer.byteLength(message.key ?? '') + 100;
    if (bytes + size > REQUEST_BYTES) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push(message);
    bytes += size;
  }
  return parts;
}

/** In the protocol versions of kafkajs a fenced producer gets an epoch error; newer brokers send a code that kafkajs does not know. */
function isFenced(error: unknown): boolean {
  for (const at of causeChain(error)) {
    const { type } = at as Error & { type?: string };
    if (type === 'INVALID_PRODUCER_EPOCH' || type === 'PRODUCER_FENCED') return true;
    if (type === 'KAFKAJS_UNKNOWN_ERROR_CODE' && /\b90\b/.test(at.message)) return true;
  }
  return false;
}

async function disconnect(producer: Producer, clock: Clock): Promise<void> {
  await endsWithin(producer.disconnect(), CLOSE_MS, clock.after).catch(() => {});
}

// ---- the records, followed from the beginning of the topic so that a take-over need not read it first ----
// A take-over gets all records as they were when its own leader record was written: none that was committed before is missing, and none
// of an aborted or open transaction is among them. The end is found by content, not by offset: compaction and transaction markers leave
// holes, and a batch that compaction has emptied shows no offset at all.

/** Written at each take-over, and to confirm a term: `{ id }`. */
const LEADER_KEY = 'meta/holder';

interface Expected {
  /** @throws Error when the record has not come within `timeoutMs` from now */
  records(timeoutMs: number): Promise<ReadonlyMap<StateKey, object>>;
  /** The brokers' time of the expected record, once it has come. */
  readonly brokersMs: number | undefined;
  /** The record will not be written. */
  forget(): void;
}

interface RecordsReader {
  /** Resolves with the records when the topic has been read to its end for the first time, or when the reader is closed. */
  readonly known: Promise<ReadonlyMap<StateKey, object>>;
  /** Call it before the leader record with this id is written. */
  expect(id: string): Expected;
  close(): Promise<void>;
}

interface Waiting {
  found?: ReadonlyMap<StateKey, object>;
  brokersMs?: number;
  readonly done: Deferred;
}

function createRecordsReader(
  options: { readonly kafka: KafkaConfig; readonly topic: string },
  deps: { readonly log: Log; readonly clock: Clock },
): RecordsReader {
  const { topic } = options;
  const { log, clock } = deps;
  const records = new Map<StateKey, object>();
  const expected = new Map<string, Waiting>();
  const atEnd = deferred();
  let closed = false;
  let current = new AbortController();

  function take({ key, value, timestamp }: KafkaMessage): undefined {
    if (key === null || key === undefined) return;
    const name = key.toString();
    if (value === null) {
      records.delete(name);
      return;
    }
    const record = parse(value, name);
    if (record === undefined) return;
    if (name !== LEADER_KEY) {
      records.set(name, record);
      return;
    }
    const waiting = expected.get(String((record as { id?: unknown }).id));
    if (waiting === undefined || waiting.found !== undefined) return;
    waiting.found = new Map(records);
    waiting.brokersMs = Number(timestamp);
    waiting.done.resolve();
  }

  function parse(value: Buffer, key: string): object | undefined {
    try {
      const parsed: unknown = JSON.parse(value.toString());
      if (typeof parsed === 'object' && parsed !== null) return parsed;
    } catch {}
    log.error('A record of the alert state cannot be read: left out', { topic, key });
    return undefined;
  }

  async function follow(): Promise<void> {
    for (let failures = 0; !closed; ) {
      records.clear();
      current = new AbortController();
      const { signal } = current;
      try {
        await readTopic(
          options.kafka,
          {
            topic,
            purpose: 'alerts',
            from: 'beginning',
            follow: true,
            signal,
            onRecord: take,
            onReady: () => (failures = 0),
            onCaughtUp: atEnd.resolve,
          },
          log,
        );
      } catch (error) {
        failures += 1;
        if (failures === 1)
          log.warn('The alert state cannot be followed; trying again', { topic, error: errorText(error) });
        await sleep(backoffMs(failures), signal);
      }
    }
  }
  const following = follow();

  return {
    known: atEnd.promise.then(() => records),
    expect(id) {
      const waiting: Waiting = { done: deferred() };
      expected.set(id, waiting);
      return {
        async records(timeoutMs) {
          const cancel = clock.after(timeoutMs, () => {
            waiting.done.reject(new Error(`topic ${topic} was not read to its end within ${timeoutMs} ms`));
            // The reader may be stuck: it begins again.
            current.abort();
          });
          try {
            await waiting.done.promise;
          } finally {
            cancel();
            expected.delete(id);
          }
          return waiting.found ?? new Map();
        },
        get brokersMs() {
          return waiting.brokersMs;
        },
        forget() {
          expected.delete(id);
        },
      };
    },
    async close() {
      closed = true;
      current.abort();
      for (const { done } of expected.values()) done.reject(new Error('closed'));
      await following;
      atEnd.resolve();
    },
  };
}
