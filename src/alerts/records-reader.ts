// Follows the alerts topic from its beginning, so that a take-over need not read it first. In: the topic. Out: all records as
// they were when a certain record was written. Guarantee: nothing that was committed before that record is missing and
// nothing of an aborted or open transaction is in it. The end is found by content, not by offset: compaction and transaction
// markers leave holes, and a batch that compaction has emptied shows no offset at all.
import type { KafkaMessage } from 'kafkajs';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { KafkaConfig } from '../source/kafka-client.ts';
import { backoffMs } from '../source/kafka-failures.ts';
import { type Settleable, settleable } from '../source/settleable.ts';
import { readTopic } from '../source/topic-reader.ts';
import type { StateKey } from './store.ts';

/** Written by each take-over, and to confirm a hold: `{ id }`. */
export const HOLDER_KEY = 'meta/holder';

export interface Expected {
  /** @throws Error when the record has not come within `timeoutMs` from now */
  records(timeoutMs: number): Promise<ReadonlyMap<StateKey, object>>;
  /** The brokers' time of the expected record, once it has come. */
  readonly brokersMs: number | undefined;
  /** It will not be written. */
  forget(): void;
}

export interface RecordsReader {
  /** What is in the topic, when it has been read to its end for the first time; nothing when it was closed before. */
  readonly known: Promise<ReadonlyMap<StateKey, object>>;
  /** To be called before the holder record with this id is written. */
  expect(id: string): Expected;
  close(): Promise<void>;
}

interface Waiting {
  found?: ReadonlyMap<StateKey, object>;
  brokersMs?: number;
  readonly done: Settleable;
}

export function createRecordsReader(
  options: { readonly kafka: KafkaConfig; readonly topic: string },
  deps: { readonly log: Log; readonly clock: Clock },
): RecordsReader {
  const { topic } = options;
  const { log, clock } = deps;
  const records = new Map<StateKey, object>();
  const expected = new Map<string, Waiting>();
  const atEnd = settleable();
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
    if (name !== HOLDER_KEY) {
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
      const waiting: Waiting = { done: settleable() };
      expected.set(id, waiting);
      return {
        async records(timeoutMs) {
          const cancel = clock.after(timeoutMs, () => {
            waiting.done.reject(new Error(`topic ${topic} was not read to its end within ${timeoutMs} ms`));
            // Perhaps it is stuck: from the beginning.
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
