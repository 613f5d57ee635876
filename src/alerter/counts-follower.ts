// The counts, followed and ready to be judged, by the brokers' time. In: the counts topic. Out: windows with an evaluator on top, and the
// time that rules and messages go by. Guarantee: it works the same in the leader and in an instance that stands by, so that a take-over
// need not read the counts again. When the brokers' clock is set back, it begins anew in the new time, because what was counted in the
// period that comes again would count twice; an alert then ends as soon as a whole window of the new time shows that it has.

import type { KafkaMessage } from 'kafkajs';
import {
  backoffMs,
  type Clock,
  type Deferred,
  deferred,
  isWorthSaying,
  momentOf,
  SET_BACK_MS,
  STEP_MS,
  sleep,
} from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { BucketTotals, CountsMessage } from '../measure/totals.ts';
import { decodeCounts, isProgress, LIVE, LIVE_READ_MS, openVersion } from '../measure/totals.ts';
import { createEvaluator, type EvaluatorDeps, type Tick } from '../rules/evaluator.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { HOUR_MS, type HourRecord, type RollupDefinition } from '../windows/series.ts';
import type { WindowStore } from '../windows/windows.ts';
import type { AlertStore } from './store.ts';

export interface CountedWindowsOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** Hourly sums beyond those the rules need, for statistics over a day. */
  readonly rollups?: readonly RollupDefinition[];
  /** The first arrival for which counts will be given, ms: hours that end before it come from the records. */
  readonly coveredFromMs: number;
}

export interface CountedWindows {
  /** Replaced when the brokers' clock is set back. */
  readonly store: WindowStore;
  /** The rules in force. */
  readonly rules: Rules;
  /** @param recordMs when the message was written, by the brokers' clock */
  counts(message: CountsMessage, recordMs: number): void;
  /** The brokers' clock was set back. Totals show that by themselves; this is for when nothing is counted. */
  setBack(nowMs: number): void;
  /** Judges with this memory, that of the term that begins, from now on. */
  remember(memory: EvaluatorDeps): void;
  tick(wallMs: number): Tick;
  /** As Evaluator.changeRules. */
  changeRules(rules: Rules): string | undefined;
}

/** @param hours the sums of hours that the alert state kept */
export function createCountedWindows(
  options: CountedWindowsOptions,
  hours: readonly HourRecord[] = [],
): CountedWindows {
  const { measures, rollups = [] } = options;
  let { rules } = options;
  let memory: EvaluatorDeps = {};
  /** For each partition, how far its totals reach, and in which bucket. */
  const reached = new Map<string, { readonly upToOffset: number; readonly arrivalMs: number }>();
  /** For each partition, the last offset of the time before the clock was set back. */
  const over = new Map<string, number>();

  function begin(coveredFromMs: number) {
    const fresh = createEvaluator({ measures, rules, rollups }, memory);
    fresh.store.putHours(hours, coveredFromMs);
    for (const [partition, { upToOffset }] of reached) over.set(partition, upToOffset);
    reached.clear();
    return fresh;
  }
  let evaluator = begin(options.coveredFromMs);

  /** Begins anew in the time that started at `nowMs`; keeps who was heard of, and when. */
  function beginAnew(nowMs: number): void {
    const { store, progress } = evaluator;
    const formerMs = progress.status(nowMs).times?.evalMs ?? nowMs;
    memory.quiet?.begin(nowMs);
    evaluator = begin(fullHour(nowMs));
    evaluator.store.putSeries(store, Math.max(0, formerMs - nowMs), nowMs);
  }

  /** False for totals from before the clock was set back. Begins anew when offsets go on but arrivals go back. */
  function isOfPresentTime({ lane: partition, upToOffset, arrivalMs }: BucketTotals): boolean {
    const before = reached.get(partition);
    if (before !== undefined && upToOffset > before.upToOffset && before.arrivalMs - arrivalMs > SET_BACK_MS) {
      beginAnew(arrivalMs);
    }
    if (upToOffset <= (over.get(partition) ?? Number.NEGATIVE_INFINITY)) return false;
    if (upToOffset > (reached.get(partition)?.upToOffset ?? Number.NEGATIVE_INFINITY)) {
      reached.set(partition, { upToOffset, arrivalMs });
    }
    return true;
  }

  return {
    get store() {
      return evaluator.store;
    },
    get rules() {
      return rules;
    },
    counts(message, recordMs) {
      if (message.kind === 'progress' || isOfPresentTime(message.totals)) evaluator.apply(message, recordMs);
    },
    setBack: beginAnew,
    remember(next) {
      memory = next;
      evaluator.remember(next);
    },
    tick: (wallMs) => evaluator.tick(wallMs),
    changeRules(next) {
      const problem = evaluator.changeRules(next);
      if (problem === undefined) rules = next;
      return problem;
    },
  };
}

export function fullHour(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS;
}

// ---- the counts topic, read from a time on and then followed ----
// Whatever interrupts it, reading begins again a little before where it was, until it is closed; what comes twice is harmless,
// because windows keep the newest version of each bucket.

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
     * @param live it was written just now, and everything before it has been handed over
     */
    readonly onMessage: (message: CountsMessage, recordMs: number, live: boolean) => void;
  },
): CountsReader {
  const { kafka, fromMs } = options;
  const { now, log, onMessage } = deps;
  const topic = kafka.topics.counts;
  const closing = new AbortController();
  const waiting = new Set<{ readonly sinceMs: number; readonly done: Deferred }>();
  /** Where reading would begin again. */
  let againMs = fromMs;
  let newestMs = fromMs;
  /** Records in an unknown format. */
  let unknown = 0;

  const hand =
    (live: boolean) =>
    ({ value, timestamp }: Pick<KafkaMessage, 'value' | 'timestamp'>): void => {
      const message = decodeCounts(value);
      newestMs = Number(timestamp);
      if (message !== undefined) onMessage(message, newestMs, live);
      else if (value !== null && isWorthSaying(++unknown)) {
        const why = 'Counts in a format that this logpipe does not know are left out: was a newer counter started?';
        log.error(why, { topic, records: unknown });
      }
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
              // From now on LIVE alone is enough: it has everything, each progress after its totals.
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
              // Everything before it has been handed over, and an owner repeats an open bucket every minute.
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
      const done = deferred();
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

// ---- catching up: fewer records that add up to the same ----
// Versions of a bucket that is final, or that a later version replaces, are not even parsed. There are some twenty of each until
// the broker compacts them, which takes up to an hour.

type CountsRecord = Pick<KafkaMessage, 'key' | 'value' | 'timestamp'>;

interface CatchUp {
  take(record: CountsRecord): void;
  /** Everything that was there has been taken: hands over what was held back. */
  end(): void;
}

export function createCatchUp(hand: (record: CountsRecord) => void): CatchUp {
  /** By the key of the final totals, or of the progress; undefined when one was handed over and none has come since. */
  const held = new Map<string, { readonly record: CountsRecord; readonly upToOffset: number } | undefined>();

  /** Moves it to the end, so that a partition's progress stays after its totals. */
  function holdBack(key: string, record: CountsRecord, upToOffset: number): void {
    held.delete(key);
    held.set(key, { record, upToOffset });
  }

  return {
    take(record) {
      const key = record.key?.toString() ?? '';
      if (isProgress(key)) {
        if (held.has(key)) return holdBack(key, record, 0);
        // The first one tells since when the partition is known.
        held.set(key, undefined);
        return hand(record);
      }
      const version = openVersion(record);
      if (version === undefined) {
        // Final totals include all that their open versions hold.
        held.delete(key);
        return hand(record);
      }
      const { finalKey, upToOffset } = version;
      // A former owner that was paused may write an older version after a newer one.
      if (upToOffset >= (held.get(finalKey)?.upToOffset ?? Number.NEGATIVE_INFINITY))
        holdBack(finalKey, record, upToOffset);
    },
    end() {
      for (const one of held.values()) if (one !== undefined) hand(one.record);
      held.clear();
    },
  };
}

// ---- the time that rules go by: the brokers', as far as it is known here ----
// An alerter whose own clock is set forward does not mistake the log for history, and one whose clock is set back does not wait: a
// step counts only when the brokers' clock made it too, and then at once.

interface BrokersClock {
  /** Whole milliseconds since the epoch. */
  now(): number;
  /** @param recordMs the brokers' time of a record written just now. @returns true when their clock was set back by a lot */
  saw(recordMs: number): boolean;
}

/** @param dated the brokers' time at a moment of this process, if known: its own wall clock may be wrong by hours */
export function createBrokersClock(clock: Clock, dated?: AlertStore['dated']): BrokersClock {
  let last = momentOf(clock);
  let present = dated === undefined ? last.wallMs : dated.brokersMs + last.monotonicMs - dated.monotonicMs;
  let sawMs = Number.NEGATIVE_INFINITY;

  function now(): number {
    const at = momentOf(clock);
    const lasted = at.monotonicMs - last.monotonicMs;
    const byWall = at.wallMs - last.wallMs;
    // When clocks are slewed, the wall clock is the better one, because the brokers' clocks are slewed too.
    present += Math.abs(byWall - lasted) > STEP_MS ? lasted : byWall;
    last = at;
    // The monotonic clock has fractions; offsets are looked up by whole milliseconds.
    return Math.round(present);
  }

  return {
    now,
    saw(recordMs) {
      now();
      const backMs = sawMs - recordMs;
      // Even when it is only a little, as after a change of partition leader: if we stayed ahead, everything would look late forever
      // and the heartbeat would stop.
      if (backMs > STEP_MS) present = recordMs;
      sawMs = recordMs;
      // The wall clock was corrected, or was set together with theirs, and is nearer now.
      const isNearer = Math.abs(last.wallMs - recordMs) < Math.abs(present - recordMs);
      if (Math.abs(last.wallMs - present) > STEP_MS && isNearer) present = last.wallMs;
      // Nothing is written in the future.
      present = Math.max(present, recordMs);
      return backMs > SET_BACK_MS;
    },
  };
}
