// The counts topic, from a time on and then as it grows. In: brokers. Out: messages in order, with the time each was written.
// Guarantee: whatever ends the reading, it begins again from the same time until it is closed; what comes twice is harmless,
// because windows keep the newest version of each bucket.
import type { KafkaMessage } from 'kafkajs';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { decodeCounts, LIVE, LIVE_READ_MS } from '../measure/counts-topic.ts';
import type { CountsMessage } from '../measure/totals.ts';
import type { KafkaConfig } from '../source/kafka-client.ts';
import { backoffMs, isWorthSaying } from '../source/kafka-failures.ts';
import { readTopic } from '../source/throwaway-reader.ts';
import { type CatchUp, createCatchUp } from './catch-up.ts';

export interface CountsReader {
  /** Resolves when everything that was there at the start has been handed over. */
  readonly caughtUp: Promise<void>;
  close(): Promise<void>;
}

export function followCounts(
  options: { readonly kafka: KafkaConfig; readonly fromMs: number },
  deps: {
    /** The brokers' time. */
    readonly now: () => number;
    readonly log: Log;
    /**
     * @param recordMs when it was written, by the broker's clock
     * @param live that was just now: everything before it has been handed over
     */
    readonly onMessage: (message: CountsMessage, recordMs: number, live: boolean) => void;
  },
): CountsReader {
  const { kafka, fromMs } = options;
  const { now, log, onMessage } = deps;
  const topic = kafka.topics.counts;
  const closing = new AbortController();
  let done = () => {};
  const caughtUp = new Promise<void>((resolve) => {
    done = resolve;
  });

  const hand =
    (live: boolean) =>
    ({ value, timestamp }: Pick<KafkaMessage, 'value' | 'timestamp'>): void => {
      const message = decodeCounts(value);
      if (message !== undefined) onMessage(message, Number(timestamp), live);
    };
  const handPast = hand(false);
  const handLive = hand(true);

  async function follow(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      let catchUp: CatchUp | undefined = createCatchUp(handPast);
      try {
        await readTopic(
          kafka,
          {
            topic,
            purpose: 'counts',
            from: (partition) => (partition === LIVE ? Math.max(fromMs, now() - LIVE_READ_MS) : fromMs),
            follow: true,
            signal: closing.signal,
            onRecord(record, partition) {
              if (catchUp !== undefined) catchUp.take(record);
              // From now on LIVE says all of it, each progress behind its totals.
              else if (partition === LIVE) handLive(record);
              return undefined;
            },
            onCaughtUp() {
              failures = 0;
              catchUp?.end();
              catchUp = undefined;
              done();
            },
          },
          log,
        );
      } catch (error) {
        if (closing.signal.aborted) return;
        failures += 1;
        if (isWorthSaying(failures)) {
          log.warn('the counts cannot be read; trying again', { topic, error: errorText(error), failures });
        }
        await sleep(backoffMs(failures), closing.signal);
      }
    }
  }
  const following = follow();

  return {
    caughtUp,
    async close() {
      closing.abort();
      await following;
    },
  };
}
