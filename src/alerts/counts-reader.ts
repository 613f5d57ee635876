// The counts topic, from a time on and then as it grows. In: brokers. Out: messages in order, with the time each was written.
// Guarantee: whatever ends the reading, it begins again, a little before where it was, until it is closed; what comes twice is
// harmless, because windows keep the newest version of each bucket.
import type { KafkaMessage } from 'kafkajs';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { decodeCounts, LIVE, LIVE_READ_MS } from '../measure/counts-topic.ts';
import type { CountsMessage } from '../measure/totals.ts';
import type { KafkaConfig } from '../source/kafka-client.ts';
import { backoffMs, isWorthSaying } from '../source/kafka-failures.ts';
import { type Settleable, settleable } from '../source/settleable.ts';
import { readTopic } from '../source/topic-reader.ts';
import { type CatchUp, createCatchUp } from './catch-up.ts';

export interface CountsReader {
  /** Resolves when everything that is there now has been handed over. */
  caughtUp(): Promise<void>;
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
  const waiting = new Set<{ readonly sinceMs: number; readonly done: Settleable }>();
  /** Where it would begin again. */
  let againMs = fromMs;
  let newestMs = fromMs;

  const hand =
    (live: boolean) =>
    ({ value, timestamp }: Pick<KafkaMessage, 'value' | 'timestamp'>): void => {
      const message = decodeCounts(value);
      newestMs = Number(timestamp);
      if (message !== undefined) onMessage(message, newestMs, live);
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
            from: (partition) => (partition === LIVE ? Math.max(againMs, now() - LIVE_READ_MS) : againMs),
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
            },
            onAnswer({ atEnd, askedMs }) {
              if (!atEnd || catchUp !== undefined) return;
              // All before it has been handed over, and an owner repeats an open interval every minute.
              againMs = Math.max(fromMs, newestMs - LIVE_READ_MS);
              for (const one of waiting) {
                if (askedMs < one.sinceMs) continue;
                waiting.delete(one);
                one.done.resolve();
              }
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
    caughtUp() {
      const done = settleable();
      waiting.add({ sinceMs: performance.now(), done });
      return done.promise;
    },
    async close() {
      closing.abort();
      await following;
      for (const { done } of waiting) done.resolve();
    },
  };
}
