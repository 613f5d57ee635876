// The log topic as a source. In: a stretch of time. Out: the records written from its beginning to its end plus lateness.
// Guarantee: bounded also for partitions without later records; no group's offsets move; what retention has removed is said.
import type { Admin } from 'kafkajs';
import type { Log } from '../core/log.ts';
import type { ChunkOrigin } from '../core/record.ts';
import { withAdmin } from '../source/kafka-admin.ts';
import { createKafka, type KafkaConfig } from '../source/kafka-client.ts';
import { failedReading } from '../source/kafka-failures.ts';
import { toRecords } from '../source/kafka-records.ts';
import { readTopic } from '../source/topic-reader.ts';
import { readable } from './feed.ts';
import type { PlannedLane, Positions, ReplaySource, SourcePlan, StretchOptions } from './sources.ts';

/** How exactly the time of the oldest record that is left is told. */
const GAP_PRECISION_MS = 1_000;
/** Records per batch. */
const PIECE = 500;

interface Row {
  readonly partition: number;
  readonly low: number;
  readonly from: number;
  readonly to: number;
}

export function createKafkaReplaySource(config: KafkaConfig, options: StretchOptions, log: Log): ReplaySource {
  const { topic = config.topics.logs, range, latenessMs, aheadMs, purpose } = options;
  const startMs = range === undefined ? undefined : range.fromMs - aheadMs;
  const endMs = range === undefined ? undefined : range.toMs + latenessMs;
  const missing: string[] = [];
  const laneOf = (partition: number) => `${topic}/${partition}`;

  async function asking<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    try {
      return await withAdmin(createKafka(config, log), work);
    } catch (error) {
      throw failedReading(error, config, topic);
    }
  }

  async function rows(admin: Admin): Promise<Row[]> {
    const starts = startMs === undefined ? undefined : await offsetsAt(admin, topic, startMs);
    const ends = endMs === undefined ? undefined : await offsetsAt(admin, topic, endMs);
    const all = await admin.fetchTopicOffsets(topic);
    return all
      .map(({ partition, low, high }) => {
        const from = Math.max(Number(low), starts?.get(partition) ?? 0);
        const to = Math.min(Number(high), ends?.get(partition) ?? Number(high));
        return { partition, low: Number(low), from, to: Math.max(from, to) };
      })
      .sort((a, b) => a.partition - b.partition);
  }

  async function gapOf(admin: Admin, { partition, low, from }: Row): Promise<string | undefined> {
    if (low === 0 || from > low) return undefined;
    const removed = `${laneOf(partition)}: ${low} older records were removed by retention`;
    if (startMs === undefined || endMs === undefined) return `${removed}; what is left is read`;
    const isOldest = async (ms: number) => (await offsetsAt(admin, topic, ms)).get(partition) === low;
    const lastMs = Math.min(endMs, Date.now());
    if (await isOldest(lastMs)) return `${removed}, and nothing of this stretch is left`;
    let early = startMs;
    let late = lastMs;
    while (late - early > GAP_PRECISION_MS) {
      const middle = Math.floor((early + late) / 2);
      if (await isOldest(middle)) early = middle;
      else late = middle;
    }
    if (early <= range!.fromMs) return undefined;
    return `${removed}; the oldest that is left was written at about ${new Date(early).toISOString()}, what came before is missing`;
  }

  return readable({
    kind: 'kafka',
    plan: () =>
      asking(async (admin): Promise<SourcePlan> => {
        const lanes: PlannedLane[] = [];
        const gaps: string[] = [];
        for (const row of await rows(admin)) {
          const { partition, from, to } = row;
          lanes.push({ lane: laneOf(partition), from, to, records: to - from });
          const gap = await gapOf(admin, row);
          if (gap !== undefined) gaps.push(gap);
        }
        return { lanes, records: lanes.reduce((sum, { records }) => sum + records!, 0), bytes: undefined, gaps };
      }),

    async feed(from: Positions, signal, take) {
      const origins = new Map<number, ChunkOrigin>();
      const wanted = new Map<number, { from: number; to: number }>();
      for (const row of await asking(rows)) {
        const at = from.get(laneOf(row.partition));
        const start = typeof at === 'number' ? at : row.from;
        if (start < row.low) {
          missing.push(
            `${laneOf(row.partition)}: offsets ${start} to ${row.low - 1} were removed by retention before they were read`,
          );
        }
        if (start < row.to) wanted.set(row.partition, { from: Math.max(start, row.low), to: row.to });
        origins.set(row.partition, { kind: 'kafka', topic, partition: row.partition });
      }
      if (wanted.size === 0 || signal.aborted) return;
      let wantsMore = true;
      const complete = await readTopic(
        config,
        {
          topic,
          purpose,
          from: wanted,
          follow: false,
          signal,
          async onBatch(messages, partition) {
            const origin = origins.get(partition)!;
            // In pieces: what is between two saved positions is what an interruption repeats.
            for (let at = 0; at < messages.length && wantsMore; at += PIECE) {
              const { records } = toRecords(messages.slice(at, at + PIECE));
              const next = records.at(-1)!.offset + 1;
              const more = await take({ lane: laneOf(partition), records, origin: () => origin, next });
              wantsMore &&= more;
            }
            return wantsMore;
          },
        },
        log,
      );
      if (!complete && wantsMore && !signal.aborted) {
        missing.push(`${topic}: the end of the stretch was not reached; records may have been removed meanwhile`);
      }
    },

    missing: () => missing,
  });
}

/** Per partition the offset of the first record of this time or later; the end of the log where there is none. */
async function offsetsAt(admin: Admin, topic: string, ms: number): Promise<Map<number, number>> {
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, Math.max(0, ms));
  return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
}
