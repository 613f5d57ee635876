// Six hours of counts, as the counter of a busy platform would have left them. In: an empty counts topic. Out: the topic filled with
// final totals of every bucket of 10 s and partition; and for the last hour, which the broker has not compacted yet, with every version of
// the open ones too, each followed by progress, twice a second. Guarantee: totals are what the counter itself makes of the mix of
// events.ts; only times are moved, and each record has the time at which it would have been written.

import type { Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createEventIds, type RawRecord } from '../../src/core/record.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createCounter } from '../../src/measure/counter.ts';
import { loadMeasures } from '../../src/measure/measure-config.ts';
import { BUCKET_MS, type BucketTotals, type CountsMessage, createKafkaCounts } from '../../src/measure/totals.ts';
import { createParser } from '../../src/parse/parse.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { createTagger } from '../../src/tag/tag.ts';
import { eventOf, statistics } from './events.ts';

export const LANES = 4;
export const FILLED_MS = 6 * 3_600_000;
/** `max.compaction.lag.ms` of the counts topic: how long all versions may be there. */
const RAW_MS = 3_600_000;
const PUBLISH_MS = 500;
const VERSIONS = BUCKET_MS / PUBLISH_MS;
const HOSTS = 8;
/** Processes per host. */
const PROCESSES = 4;
/** How many different buckets a partition has, used in turn. */
const PATTERNS = 3;

export interface FilledCounts {
  readonly records: number;
  /** JSON, before compression. */
  readonly megabytes: number;
  readonly eventsPerSecond: number;
  readonly seriesPerBucket: number;
}

/** @param eventsPerSecond over all partitions */
export async function fillCounts(kafka: KafkaConfig, eventsPerSecond: number): Promise<FilledCounts> {
  const patterns: BucketTotals[][][] = [];
  for (let lane = 0; lane < LANES; lane++) patterns.push(await countLane(lane, eventsPerSecond / LANES));
  let writtenMs = 0;
  await takeOurTimes(kafka);
  const counts = createKafkaCounts({
    kafka: stamping(createKafka(kafka, silentLog), () => writtenMs),
    topic: kafka.topics.counts,
    log: silentLog,
  });
  const endMs = Math.floor(Date.now() / BUCKET_MS) * BUCKET_MS;
  let records = 0;
  let bytes = 0;
  let waiting: CountsMessage[] = [];
  const put = async (messages: readonly CountsMessage[], least: number) => {
    waiting.push(...messages);
    records += messages.length;
    if (waiting.length < least) return;
    await counts.put(waiting);
    waiting = [];
  };
  let written = 0;
  for (let at = endMs - FILLED_MS; at < endMs; at += BUCKET_MS) {
    const pattern = (at / BUCKET_MS) % PATTERNS;
    const raw = at >= endMs - RAW_MS;
    for (let version = raw ? 1 : VERSIONS; version <= VERSIONS; version++) {
      const open = version < VERSIONS;
      const nowMs = at + version * PUBLISH_MS;
      writtenMs = nowMs;
      const totals = patterns.map((lanes) => moved(lanes[pattern]![version - 1]!, at, written + version));
      const messages = totals.map((one): CountsMessage => {
        bytes += JSON.stringify(one).length;
        return { kind: 'totals', totals: one, open };
      });
      if (raw) messages.push(...totals.map(({ lane, upToOffset }) => progressOf(lane, upToOffset, nowMs)));
      // Live, each publication is a batch of its own.
      await put(messages, raw ? 1 : 100);
    }
    written += VERSIONS;
  }
  await put(
    patterns.map((_, lane) => progressOf(String(lane), written, endMs)),
    1,
  );
  await counts.close();
  const series = Object.values(patterns[0]![0]!.at(-1)!.buckets[0]!.series);
  return {
    records,
    megabytes: Math.round(bytes / 1e6),
    eventsPerSecond,
    seriesPerBucket: series.reduce((sum, one) => sum + Object.keys(one).length, 0),
  };
}

/** Makes the topic keep our times; otherwise records have the brokers' time, and all would be of this minute. */
async function takeOurTimes(kafka: KafkaConfig): Promise<void> {
  const admin = createKafka(kafka, silentLog).admin();
  await admin.connect();
  await admin.alterConfigs({
    validateOnly: false,
    resources: [
      {
        type: kafkajs.ConfigResourceTypes.TOPIC,
        name: kafka.topics.counts,
        configEntries: [
          { name: 'message.timestamp.type', value: 'CreateTime' },
          { name: 'max.message.bytes', value: '10485760' },
        ],
      },
    ],
  });
  await admin.disconnect();
}

/** A client whose producers write at that time. */
function stamping(kafka: Kafka, nowMs: () => number): Kafka {
  const producer: Kafka['producer'] = (options) => {
    const real = kafka.producer(options);
    return {
      ...real,
      send: (record) => {
        const timestamp = String(nowMs());
        return real.send({ ...record, messages: record.messages.map((message) => ({ ...message, timestamp })) });
      },
    };
  };
  return Object.assign(Object.create(kafka) as Kafka, { producer });
}

/** The versions, oldest first, of a few buckets of one partition. */
async function countLane(lane: number, eventsPerSecond: number): Promise<BucketTotals[][]> {
  const versions: BucketTotals[][] = Array.from({ length: PATTERNS }, () => []);
  const startMs = Math.floor(Date.now() / BUCKET_MS) * BUCKET_MS;
  const counter = createCounter(loadMeasures({ env: {} }), {
    parser: createParser({ maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 }, { masker: createMasker() }),
    tag: createTagger(),
    metrics: createMetrics(),
    log: silentLog,
    clock: { ...systemClock, after: () => () => {} },
    sink: {
      async put(messages) {
        for (const message of messages) {
          if (message.kind !== 'totals') continue;
          const own = versions[(message.totals.arrivalMs - startMs) / BUCKET_MS];
          // The last version comes again when its bucket ends.
          if (own !== undefined && own.length < VERSIONS) own.push(message.totals);
        }
      },
      async close() {},
    },
  });
  const nextId = createEventIds();
  const perVersion = Math.round((eventsPerSecond * PUBLISH_MS) / 1_000);
  let offset = 0;
  for (let step = 0; step < PATTERNS * VERSIONS; step++) {
    const records: RawRecord[] = [];
    const add = (text: string, timeMs: number) => {
      records.push({ value: Buffer.from(text), offset: offset++, timeMs, eventId: nextId() });
    };
    for (let i = 0; i < perVersion; i++) {
      const timeMs = startMs + step * PUBLISH_MS + Math.floor((i * PUBLISH_MS) / perVersion);
      add(lineOf(eventOf((step * perVersion + i) * LANES + lane), timeMs, i), timeMs);
    }
    // Each process reports every 15 s, so two thirds of them do so within one bucket.
    for (let i = step % VERSIONS; i < HOSTS * PROCESSES; i += VERSIONS * 1.5 * LANES) {
      const timeMs = startMs + (step + 1) * PUBLISH_MS - 1;
      for (const event of statistics(step, i < HOSTS)) add(lineOf(event, timeMs, Math.floor(i)), timeMs);
    }
    const origin = { kind: 'kafka', topic: 'bench', partition: lane } as const;
    await counter.accept({ origin, records, bytes: 0, done() {} });
    await counter.publish();
  }
  return versions;
}

function lineOf({ level, message, meta }: ReturnType<typeof eventOf>, timeMs: number, process: number): string {
  const timestamp = new Date(timeMs).toISOString();
  const base = { timestamp, level, message, service: 'calling-platform', environment: 'bench', version: '1.4.2' };
  return JSON.stringify({
    ...base,
    host: `app-${process % HOSTS}`,
    pid: 100 + (process % (HOSTS * PROCESSES)),
    ...meta,
  });
}

function moved(totals: BucketTotals, arrivalMs: number, upToOffset: number): BucketTotals {
  const by = arrivalMs - totals.arrivalMs;
  const buckets = totals.buckets.map(({ eventMs, series }) => {
    const own = { ...series };
    for (const name in own) {
      const gauge = Object.values(own[name]!).some((value) => 'at' in value);
      if (!gauge) continue;
      own[name] = Object.fromEntries(
        Object.entries(own[name]!).map(([key, value]) => [
          key,
          'at' in value ? { ...value, at: value.at + by } : value,
        ]),
      );
    }
    return { eventMs: eventMs + by, series: own };
  });
  return { ...totals, arrivalMs, upToOffset, buckets };
}

function progressOf(lane: string, position: number, arrivalMs: number): CountsMessage {
  const progress = { lane, lanes: LANES, position, end: position, arrivalMs, caughtUp: true };
  return { kind: 'progress', progress };
}
