// The contract between the counter, which fills totals, and the windows, which add them up: the totals, the histograms in them, and
// the counts topic, by which they travel. Guarantee: `put` resolves only when every in-sync replica has all of it, and tries until
// then or until `close`; what is written twice, or by a former owner that wakes up, changes nothing.
//
// For each (partition, arrival bucket) the counter publishes the absolute totals of that bucket's records so far. A value is a
// pure function of the log up to `upToOffset`: written twice it changes nothing, and a reader keeps the one with the
// highest `upToOffset`. A partition is one of the log topic, or in embedded mode one reading of one file.
// The written format calls it `lane`, the name it began with.
import { DDSketch } from '@datadog/sketches-js';
import kafkajs, { type Kafka, type Message, type Producer } from 'kafkajs';
import { backoffMs, endsWithin, sleep, within } from '../core/clock.ts';
import { assertAcknowledged } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import { defaultPartitioner, explainKafkaFailure, isTooLargeForKafka } from '../source/kafka/client.ts';

/** Width of arrival and event buckets, in ms. */
export const BUCKET_MS = 10_000;
/** The event bucket of everything that happened more than `MAX_AGE_MS` before it arrived. */
export const OLDER_MS = 0;
/** Events that are older than this when they arrive share one bucket: no window reaches them. */
export const MAX_AGE_MS = 6 * 3_600_000;
/** An event that arrives later than this never pages. */
export const LATE_MS = 120_000;
/** An event whose time is further ahead of its arrival than this counts at its arrival. */
export const MAX_AHEAD_MS = 5_000;

/** Of a counter: how many events, and event ids as examples, up to the configured number. */
export interface CounterValue {
  n: number;
  ex?: string[];
}

/** Of a distribution: exact count, sum and extremes, and a mergeable histogram of relative accuracy. */
export interface DistributionValue {
  n: number;
  sum: number;
  min: number;
  max: number;
  /** Bin number -> count. */
  bins: Record<string, number>;
}

/** Of a gauge: the newest value and the event time (ms) it was measured at. */
export interface GaugeValue {
  v: number;
  at: number;
}

export type SeriesValue = CounterValue | DistributionValue | GaugeValue;

/** Series of one measure: label values in the order of the measure's `by`, joined by `LABEL_SEPARATOR` -> value. */
export type SeriesOfMeasure = Record<string, SeriesValue>;

export const LABEL_SEPARATOR = '\u001f';
/**
 * Stands for every label of what did not fit into a measure's `maxSeries`. No label value contains it (measure/collect.ts), so
 * no name can be mistaken for it.
 */
export const OTHER = '\u001e';
/** What former versions called it, and what Prometheus still sees. */
export const OTHER_NAME = 'other';
/** Characters that no label value contains. */
export const RESERVED = /[\u001e\u001f]/g;
/** The format since OTHER cannot be a name. Before (no `format`), the word `other` stood in every label of the series. */
export const TOTALS_FORMAT = 2;

export interface EventBucket {
  /** Start of the event bucket in ms, or OLDER_MS. */
  eventMs: number;
  /** Measure name -> its series. */
  series: Record<string, SeriesOfMeasure>;
}

export interface BucketTotals {
  /** The partition. */
  lane: string;
  /** Start of the arrival bucket in ms. */
  arrivalMs: number;
  /** The last offset that was counted. */
  upToOffset: number;
  /** Records counted, those without any series included. */
  records: number;
  /** TOTALS_FORMAT; absent in totals of older counters, which may run beside this one. */
  format?: number;
  buckets: EventBucket[];
}

/** How far a partition was read; published after its totals, so that a reader who sees it has seen those too. */
export interface PartitionProgress {
  /** The partition. */
  lane: string;
  /** How many partitions there are in all; they are numbered from 0 with Kafka. */
  lanes: number;
  /** The next offset to read, and the end of the log as far as known. */
  position: number;
  end: number;
  /** Arrival time of the newest record read, ms; 0 before the first one. */
  arrivalMs: number;
  /** `position` had reached `end` at that moment. */
  caughtUp: boolean;
  /** With `caughtUp`: how long before that moment the log had last been looked at, ms. */
  ageMs?: number;
  /** Which counter observed this, and when, ms by its own clock that never steps: a record written late was true at that moment. */
  writer?: string;
  saidMs?: number;
}

/**
 * `open`: more records of this bucket may come. Final totals are the same whoever counted them; open ones are not, so compaction
 * must never let open ones replace final ones (below).
 */
export type CountsMessage =
  | {
      readonly kind: 'totals';
      readonly totals: BucketTotals;
      readonly open?: boolean;
      /** `totals` as JSON, when at hand: whoever only passes it on need not touch `totals`, which would be parsed. */
      readonly written?: { readonly lane: string; readonly arrivalMs: number; readonly json: string };
    }
  | { readonly kind: 'progress'; readonly progress: PartitionProgress };

/** Takes what the counter publishes, in order. `put` resolves when it is durable. */
export interface CountsSink {
  put(messages: readonly CountsMessage[]): Promise<void>;
  close(): Promise<void>;
}

// ---- a histogram of relative accuracy: bins of values, and quantiles from bins ----
// Bins are plain counts, so that histograms can be added and subtracted exactly.
// A quantile is within RELATIVE_ACCURACY of the value at its rank (DDSketch, https://arxiv.org/abs/1908.10693) for absolute values
// from SMALLEST to LARGEST; smaller ones count as zero, larger ones as LARGEST, which keeps bin numbers small and close together.

export const RELATIVE_ACCURACY = 0.01;

/** Of the library only the logarithmic mapping to bin numbers is used; the counts are ours. */
const { mapping } = new DDSketch({ relativeAccuracy: RELATIVE_ACCURACY });

export const SMALLEST = 1e-6;
export const LARGEST = 1e15;

/** Makes the smallest value's bin number 1, so that a bin has the sign of its values. */
const SHIFT = 1 - mapping.key(SMALLEST);
const ZERO = 0;

/** Bin -> count, as totals carry it (JSON keys are text). */
type WrittenBins = Readonly<Record<string, number>>;
/** Bin -> count, as it is added up. */
export type Bins = Map<number, number>;

/** The bin of a finite value. Bins are ordered like their values: 0 holds zero, negative values have negative bins. */
export function binOf(value: number): number {
  if (value >= SMALLEST) return mapping.key(value < LARGEST ? value : LARGEST) + SHIFT;
  if (value <= -SMALLEST) return -binOf(-value);
  return ZERO;
}

/** The value a bin stands for: within RELATIVE_ACCURACY of everything in it. */
export function valueOfBin(bin: number): number {
  if (bin === ZERO) return 0;
  return bin > 0 ? mapping.value(bin - SHIFT) : -mapping.value(-bin - SHIFT);
}

/** @param sign -1 subtracts the bins again; those that become empty are removed */
export function addBins(into: Bins, bins: WrittenBins, sign: 1 | -1 = 1): void {
  for (const key in bins) {
    const bin = Number(key);
    const count = (into.get(bin) ?? 0) + sign * bins[key]!;
    if (count === 0) into.delete(bin);
    else into.set(bin, count);
  }
}

/** @param q between 0 and 1 @returns undefined when nothing was counted */
export function quantile(bins: Bins, q: number): number | undefined {
  const sorted = [...bins.keys()].sort((a, b) => a - b);
  let total = 0;
  for (const count of bins.values()) total += count;
  if (total <= 0) return undefined;
  const rank = q * (total - 1);
  let seen = 0;
  for (const bin of sorted) {
    seen += bins.get(bin)!;
    if (seen > rank) return valueOfBin(bin);
  }
  return valueOfBin(sorted[sorted.length - 1]!);
}

/** How many values are at most `bound`, to the accuracy of the bins: the cumulative buckets of a Prometheus histogram. */
export function countAtMost(bins: Bins, bound: number): number {
  const last = binOf(bound);
  let count = 0;
  for (const [bin, n] of bins) if (bin <= last) count += n;
  return count;
}

// ---- the counts topic: totals and progress as records of two partitions, in order; and back again ----
// LIVE has every message, in order, twenty versions of each bucket: whoever follows needs nothing else. LASTING has the final
// totals once more, with progress: a quarter of the bytes, which is what a take-over reads of earlier hours.
//
// Compaction keeps the last record of a key, not the best. Final totals of a bucket are the same whoever wrote them, so they
// have the key `partition/arrivalMs`. Those of an open bucket are not: a former owner that was paused may write older ones after
// newer ones. They have the key `open/partition`, which can never replace final ones, and the owner repeats them every minute,
// long before `min.compaction.lag.ms` (source/kafka/topics.ts).

const LASTING = 0;
export const LIVE = 1;
/**
 * How far back LIVE is read at a take-over. An owner repeats an open bucket every minute, so older ones can only be those of
 * a counter that died, and its successor counts that bucket again.
 */
export const LIVE_READ_MS = 3 * 60_000;

const FORMAT = 1;
const OPEN = 'open/';
const PROGRESS = 'progress/';
/** The beginning of open totals, as encodeCounts writes them. */
const OPEN_HEAD = /^\{"v":1,"open":true,"totals":\{"lane":"[^"\\]*","arrivalMs":(\d+),"upToOffset":(-?\d+),/;
const OPEN_HEAD_BYTES = 120;
/** One send is one record batch for the broker. A single message may be larger. */
const MAX_BATCH_BYTES = 900_000;
/** Below this size compression costs more than it saves. */
const MIN_COMPRESSED_BYTES = 2_000;
const BACKOFF = { firstMs: 100, maxMs: 5_000 };
/** Longer than kafkajs should ever need for one request with its retries. */
const SEND_TIMEOUT_MS = 60_000;
const CLOSE_MS = 5_000;

interface KafkaCounts extends CountsSink {
  /** Why nothing can be written now; undefined when nothing is wrong. */
  trouble(): string | undefined;
}

export function createKafkaCounts(deps: { kafka: Kafka; topic: string; log: Log }): KafkaCounts {
  const { kafka, topic, log } = deps;
  const closing = new AbortController();
  let producer: Producer | undefined;
  let trouble: string | undefined;
  let working: Promise<void> = Promise.resolve();

  const connect = async (): Promise<Producer> => {
    // Retries are limited on purpose, as everywhere: after a failed send the producer is thrown away, because its sequence
    // numbers would make the broker mistake the next, different batch for a repetition.
    const fresh = kafka.producer({
      createPartitioner: defaultPartitioner,
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      retry: { retries: 5 },
    });
    try {
      await fresh.connect();
      return fresh;
    } catch (error) {
      fresh.disconnect().catch(() => {});
      throw error;
    }
  };

  const discard = () => {
    producer?.disconnect().catch(() => {});
    producer = undefined;
  };

  const fail = (error: unknown, bytes: number) => {
    discard();
    const reason = isTooLargeForKafka(error)
      ? `totals of ${bytes} bytes are too large for topic ${topic}; raise its max.message.bytes`
      : explainKafkaFailure(error);
    if (trouble === undefined) log.error('counts cannot be written; trying until they can', { topic, error: reason });
    trouble = reason;
  };

  const send = async (messages: Message[], bytes: number): Promise<void> => {
    const { None, Snappy } = kafkajs.CompressionTypes;
    for (let failures = 1; ; failures++) {
      closing.signal.throwIfAborted();
      try {
        producer ??= await connect();
        const compression = bytes < MIN_COMPRESSED_BYTES ? None : Snappy;
        const sent = producer.send({ topic, acks: -1, compression, messages });
        const answers = await within(sent, SEND_TIMEOUT_MS, `Kafka did not answer within ${SEND_TIMEOUT_MS} ms`);
        assertAcknowledged(
          answers,
          messages.map(({ partition }) => partition!),
          topic,
        );
        break;
      } catch (error) {
        if (closing.signal.aborted) throw error;
        if (isTooLargeForKafka(error) && messages.length > 1) {
          discard();
          for (const message of messages) await send([message], sizeOf(message));
          return;
        }
        fail(error, bytes);
        await sleep(backoffMs(failures, BACKOFF), closing.signal);
      }
    }
    if (trouble !== undefined) log.info('counts are written again', { topic });
    trouble = undefined;
  };

  const putAll = async (messages: readonly CountsMessage[]) => {
    let batch: Message[] = [];
    let bytes = 0;
    for (const message of recordsOf(messages)) {
      const size = sizeOf(message);
      if (batch.length > 0 && bytes + size > MAX_BATCH_BYTES) {
        await send(batch, bytes);
        batch = [];
        bytes = 0;
      }
      batch.push(message);
      bytes += size;
    }
    if (batch.length > 0) await send(batch, bytes);
  };

  return {
    trouble: () => trouble,
    put(messages) {
      const mine = working.then(() => putAll(messages));
      working = mine.catch(() => {});
      return mine;
    },
    async close() {
      closing.abort(new Error('the counts topic is closed'));
      // This ends a send that is under way, too: `drain` has waited for what matters.
      const last = producer;
      producer = undefined;
      await endsWithin(Promise.all([last?.disconnect(), working]), CLOSE_MS).catch(() => {});
    },
  };
}

/**
 * The records of a publication, in order. In LIVE, final totals have the key of open ones: there they are only the last version,
 * and compaction keeps nothing twice.
 */
export function* recordsOf(messages: readonly CountsMessage[]): Generator<Message> {
  let lasting = false;
  for (const message of messages) {
    if (message.kind === 'totals' && message.open !== true) {
      lasting = true;
      yield { ...encodeCounts(message), partition: LASTING };
      // Not a copy of the message: copying would evaluate `totals`.
      yield { ...encodeCounts(message, true), partition: LIVE };
      continue;
    }
    const encoded = encodeCounts(message);
    // A take-over needs it when nothing was counted for longer than LIVE is read back.
    if (lasting && message.kind === 'progress') yield { ...encoded, partition: LASTING };
    yield { ...encoded, partition: LIVE };
  }
}

/** @param asOpen writes final totals like those of an open bucket */
export function encodeCounts(message: CountsMessage, asOpen = false): { readonly key: string; readonly value: string } {
  if (message.kind === 'progress') {
    const { progress } = message;
    return { key: `${PROGRESS}${progress.lane}`, value: JSON.stringify({ v: FORMAT, progress }) };
  }
  const { written } = message;
  const open = asOpen || message.open === true;
  const { lane: partition, arrivalMs } = written ?? message.totals;
  const json = written?.json ?? JSON.stringify(message.totals);
  const key = open ? `${OPEN}${partition}` : `${partition}/${arrivalMs}`;
  return { key, value: `{"v":${FORMAT},${open ? '"open":true,' : ''}"totals":${json}}` };
}

export function isProgress(key: string): boolean {
  return key.startsWith(PROGRESS);
}

/**
 * Which version of which open totals a record holds, without parsing it; undefined for every other record. `finalKey` is the
 * key that the final totals will have.
 */
export function openVersion(record: {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}): { readonly finalKey: string; readonly upToOffset: number } | undefined {
  const { key, value } = record;
  if (key === null || value === null || !key.toString().startsWith(OPEN)) return undefined;
  const partition = key.toString().slice(OPEN.length);
  const head = OPEN_HEAD.exec(value.toString('latin1', 0, OPEN_HEAD_BYTES + partition.length));
  if (head === null) return undefined;
  return { finalKey: `${partition}/${head[1]}`, upToOffset: Number(head[2]) };
}

/** Undefined for any other record: a tombstone, another format, something unknown. */
export function decodeCounts(value: Buffer | null): CountsMessage | undefined {
  if (value === null) return undefined;
  try {
    const record = JSON.parse(value.toString()) as {
      v?: unknown;
      totals?: Partial<BucketTotals>;
      progress?: Partial<PartitionProgress>;
      open?: boolean;
    } | null;
    if (record?.v !== FORMAT) return undefined;
    const { totals, progress } = record;
    if (typeof totals?.lane === 'string' && Array.isArray(totals.buckets)) {
      return { kind: 'totals', totals: totals as BucketTotals, open: record.open === true };
    }
    return typeof progress?.lane === 'string'
      ? { kind: 'progress', progress: progress as PartitionProgress }
      : undefined;
  } catch {
    return undefined;
  }
}

function sizeOf({ value }: Message): number {
  return typeof value === 'string' ? Buffer.byteLength(value) + 100 : 100;
}
