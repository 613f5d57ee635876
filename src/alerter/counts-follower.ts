// What was counted, followed and ready to be judged, by the brokers' time. In: the counts topic. Out: windows with an evaluator on top, and
// the time that rules and messages go by. Guarantee: the same in an instance that decides and in one that stands by, so that a take-over
// need not read the counts again; when the brokers' clock was set back it begins anew in the new time, for what was counted in the time
// that comes again would be counted twice. What has ended in it is told as soon as a whole window of it shows so.

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
import { decodeCounts, isProgress, LIVE, LIVE_READ_MS, openVersion } from '../measure/counts-topic.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { BucketTotals, CountsMessage } from '../measure/totals.ts';
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
  /** The first arrival that counts will be given of, ms: hours that end before it come from the records. */
  readonly coveredFromMs: number;
}

export interface CountedWindows {
  /** Another one after the brokers' clock was set back. */
  readonly store: WindowStore;
  /** What it is judged by now. */
  readonly rules: Rules;
  /** @param recordMs when the message was written, by the brokers' clock */
  counts(message: CountsMessage, recordMs: number): void;
  /** The brokers' clock was set back, which totals show by themselves; where nothing is counted somebody has to say it. */
  setBack(nowMs: number): void;
  /** What is judged with from now on: of the term that begins. */
  remember(memory: EvaluatorDeps): void;
  tick(wallMs: number): Tick;
  /** As Evaluator.changeRules. */
  changeRules(rules: Rules): string | undefined;
}

/** @param hours that were kept, of the alert state */
export function createCountedWindows(
  options: CountedWindowsOptions,
  hours: readonly HourRecord[] = [],
): CountedWindows {
  const { measures, rollups = [] } = options;
  let { rules } = options;
  let memory: EvaluatorDeps = {};
  /** Of each partition, how far its totals reach and in which bucket. */
  const reached = new Map<string, { readonly upToOffset: number; readonly arrivalMs: number }>();
  /** Of each partition, up to where its totals belong to a time that is over. */
  const over = new Map<string, number>();

  function begin(coveredFromMs: number) {
    const fresh = createEvaluator({ measures, rules, rollups }, memory);
    fresh.store.putHours(hours, coveredFromMs);
    for (const [partition, { upToOffset }] of reached) over.set(partition, upToOffset);
    reached.clear();
    return fresh;
  }
  let evaluator = begin(options.coveredFromMs);

  /** In the time that began at `nowMs`: who was heard of, and when, goes on. */
  function beginAnew(nowMs: number): void {
    const { store, progress } = evaluator;
    const formerMs = progress.status(nowMs).times?.evalMs ?? nowMs;
    memory.quiet?.begin(nowMs);
    evaluator = begin(fullHour(nowMs));
    evaluator.store.putSeries(store, Math.max(0, formerMs - nowMs), nowMs);
  }

  /** False for totals of a time that is over. Begins anew where offsets go on and arrivals go back. */
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

// ---- the counts topic, from a time on and then as it grows ----
// Whatever ends the reading, it begins again, a little before where it was, until it is closed; what comes twice is
// harmless, because windows keep the newest version of each bucket.

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
  const waiting = new Set<{ readonly sinceMs: number; readonly done: Deferred }>();
  /** Where it would begin again. */
  let againMs = fromMs;
  let newestMs = fromMs;
  /** Records in no format that is known here. */
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

// ---- the counts topic while it is read from hours ago ----
// What is handed over adds up to the same as all records would; versions of an interval that is over, or that a later version has
// replaced, are not even parsed. There are some twenty of each until the broker compacts them, after up to an hour.

type CountsRecord = Pick<KafkaMessage, 'key' | 'value' | 'timestamp'>;

interface CatchUp {
  take(record: CountsRecord): void;
  /** Everything that was there has been taken: hands over what was held back. */
  end(): void;
}

export function createCatchUp(hand: (record: CountsRecord) => void): CatchUp {
  /** By the key of the final totals, or of the progress; undefined where one has been handed over and none came since. */
  const held = new Map<string, { readonly record: CountsRecord; readonly upToOffset: number } | undefined>();

  /** To the end of the order, so that a partition's progress stays behind its totals. */
  function holdBack(key: string, record: CountsRecord, upToOffset: number): void {
    held.delete(key);
    held.set(key, { record, upToOffset });
  }

  return {
    take(record) {
      const key = record.key?.toString() ?? '';
      if (isProgress(key)) {
        if (held.has(key)) return holdBack(key, record, 0);
        // The first one tells since when something is known of the partition.
        held.set(key, undefined);
        return hand(record);
      }
      const version = openVersion(record);
      if (version === undefined) {
        // Final totals hold all that their open versions hold.
        held.delete(key);
        return hand(record);
      }
      const { finalKey, upToOffset } = version;
      // A former owner that was paused may write an older version behind a newer one.
      if (upToOffset >= (held.get(finalKey)?.upToOffset ?? Number.NEGATIVE_INFINITY))
        holdBack(finalKey, record, upToOffset);
    },
    end() {
      for (const one of held.values()) if (one !== undefined) hand(one.record);
      held.clear();
    },
  };
}

// ---- what time it is for the rules: the brokers' time, as far as it is known here ----
// An alerter whose wall clock is set forward does not take the log for history, and one whose clock is set back does not
// wait: a step is believed only when the brokers made it too, and then at once.

interface BrokersClock {
  /** Whole milliseconds since the epoch. */
  now(): number;
  /** The brokers' time of a record that was written just now, in the order of its partition. True: their clock was set back by a lot. */
  saw(recordMs: number): boolean;
}

/** @param dated the brokers' time at a moment of this process, where it is known: its own wall clock may be wrong by hours */
export function createBrokersClock(clock: Clock, dated?: AlertStore['dated']): BrokersClock {
  let last = momentOf(clock);
  let present = dated === undefined ? last.wallMs : dated.brokersMs + last.monotonicMs - dated.monotonicMs;
  let sawMs = Number.NEGATIVE_INFINITY;

  function now(): number {
    const at = momentOf(clock);
    const lasted = at.monotonicMs - last.monotonicMs;
    const byWall = at.wallMs - last.wallMs;
    // Slewed, the wall clock is the better one: the brokers' are slewed too.
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
      // Also by a little, as by another leader: ahead of what is written, all would look late for ever, and the heartbeat end.
      if (backMs > STEP_MS) present = recordMs;
      sawMs = recordMs;
      // Set right, or set together with theirs: the wall clock is nearer now.
      const isNearer = Math.abs(last.wallMs - recordMs) < Math.abs(present - recordMs);
      if (Math.abs(last.wallMs - present) > STEP_MS && isNearer) present = last.wallMs;
      // Nothing was written in the future.
      present = Math.max(present, recordMs);
      return backMs > SET_BACK_MS;
    },
  };
}
