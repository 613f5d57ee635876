// Topics as sources: the log, and the dead letters. In: a stretch of time. Out: the records written from its beginning to its end
// plus lateness; or all dead letters, as the records they were in the log topic, under the ids their documents were to have.
// Guarantee: reading ends even in partitions without later records; no group's offsets move; what retention has removed is reported. A
// record that left several letters comes once; letters whose record was cut are reported, not replayed, because they cannot become the
// same document.
import type { Admin, KafkaMessage } from 'kafkajs';
import type { Log } from '../../core/log.ts';
import type { ChunkOrigin } from '../../core/record.ts';
import { createFirstOf, letterOfMessage, recordOfLetter, type StoredLetter } from '../../indexing/dead-letters.ts';
import { createKafka, failedReading, type KafkaConfig } from '../../source/kafka/client.ts';
import { toRecords } from '../../source/kafka/record-batch.ts';
import { readTopic } from '../../source/kafka/topic-reader.ts';
import { withAdmin } from '../../source/kafka/topics.ts';
import type { PlannedPart, SourcePlan, StoredBatch, StoredSource, StretchOptions } from '../sources.ts';

/** Precision of the reported time of the oldest record that is left. */
const GAP_PRECISION_MS = 1_000;
/** Records per batch, and so what an interruption repeats at most per partition. */
const PIECE = 500;

/** The log topic. */
export function createStoredTopic(config: KafkaConfig, options: StretchOptions, log: Log): StoredSource {
  const topic = config.topics.logs;
  return readingTopic('kafka', config, { ...options, topic }, log, (messages, partition) => {
    const records = toRecords(messages, { topic, partition });
    const origin: ChunkOrigin = { kind: 'kafka', topic, partition };
    return { records, origin: () => origin, next: records.at(-1)!.offset + 1 };
  });
}

/** The dead-letter topic from beginning to end: the records' own times tell which of them are wanted. */
export function createStoredDeadLetters(
  config: KafkaConfig,
  { purpose }: Pick<StretchOptions, 'purpose'>,
  log: Log,
): StoredSource {
  const topic = config.topics.dlq;
  const everything = { topic, range: undefined, latenessMs: 0, aheadMs: 0, purpose };
  const isFirst = createFirstOf();
  let cut = 0;

  /** @throws LogpipeError LOGPIPE_FORMAT_NEWER */
  function toStored(message: KafkaMessage, place: string): StoredLetter | undefined {
    const letter = letterOfMessage(message, place);
    if (letter === undefined || letter.id === '' || !Number.isSafeInteger(letter.offset)) return undefined;
    if (letter.sha256 !== undefined) {
      cut += 1;
      return undefined;
    }
    return isFirst(letter.id) ? letter : undefined;
  }

  const source = readingTopic('dlq', config, everything, log, (messages, partition) => {
    const letters = messages.flatMap((message) => toStored(message, `${topic}/${partition}/${message.offset}`) ?? []);
    const next = Number(messages.at(-1)!.offset) + 1;
    return { records: letters.map(recordOfLetter), origin: (i) => letters[i]!.origin, next };
  });
  return {
    ...source,
    missing: () => [
      ...source.missing(),
      ...(cut === 1 ? [`${topic}: 1 letter holds only part of its record; it is not replayed`] : []),
      ...(cut > 1 ? [`${topic}: ${cut} letters hold only part of their records; they are not replayed`] : []),
    ],
  };
}

// ---- reading a topic ----

interface TopicOptions extends StretchOptions {
  readonly topic: string;
}

/** One partition: its oldest offset, and which offsets are wanted. */
interface Row {
  readonly partition: number;
  readonly low: number;
  readonly from: number;
  readonly to: number;
}

type ToBatch = (messages: readonly KafkaMessage[], partition: number) => Omit<StoredBatch, 'part'>;

function readingTopic(
  kind: 'kafka' | 'dlq',
  config: KafkaConfig,
  options: TopicOptions,
  log: Log,
  toBatch: ToBatch,
): StoredSource {
  const { topic, range, latenessMs, aheadMs, purpose } = options;
  const startMs = range === undefined ? undefined : range.fromMs - aheadMs;
  const endMs = range === undefined ? undefined : range.toMs + latenessMs;
  const missing: string[] = [];
  const partOf = (partition: number) => `${topic}/${partition}`;

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
    const removed = `${partOf(partition)}: ${low} older records were removed by retention`;
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
    return `${removed}; the oldest that is left was written at about ${new Date(early).toISOString()}, and earlier ones are missing`;
  }

  return {
    kind,

    plan: () =>
      asking(async (admin): Promise<SourcePlan> => {
        const parts: PlannedPart[] = [];
        const gaps: string[] = [];
        for (const row of await rows(admin)) {
          const { partition, from, to } = row;
          parts.push({ part: partOf(partition), from, to, records: to - from });
          const gap = await gapOf(admin, row);
          if (gap !== undefined) gaps.push(gap);
        }
        return { parts, records: parts.reduce((sum, { records }) => sum + records!, 0), bytes: undefined, gaps };
      }),

    async feed(from, signal, take, onEnd) {
      const wanted = new Map<number, { from: number; to: number }>();
      for (const row of await asking(rows)) {
        const part = partOf(row.partition);
        const at = from.get(part);
        const start = typeof at === 'number' ? at : row.from;
        if (start < row.low) {
          missing.push(`${part}: offsets ${start} to ${row.low - 1} were removed by retention before they were read`);
        }
        if (start < row.to) wanted.set(row.partition, { from: Math.max(start, row.low), to: row.to });
        else onEnd?.(part);
      }
      if (wanted.size === 0 || signal.aborted) return;
      let wantsMore = true;
      let refused: unknown;
      /** A record that cannot be read ends the reading: that is not Kafka's fault, and trying again would not help. */
      const readable: (...batch: Parameters<ToBatch>) => ReturnType<ToBatch> | undefined = (...batch) => {
        try {
          return toBatch(...batch);
        } catch (error) {
          refused ??= error;
          wantsMore = false;
          return undefined;
        }
      };
      const complete = await readTopic(
        config,
        {
          topic,
          purpose,
          from: wanted,
          follow: false,
          signal,
          async onBatch(messages, partition) {
            for (let at = 0; at < messages.length && wantsMore; at += PIECE) {
              const batch = readable(messages.slice(at, at + PIECE), partition);
              if (batch === undefined) return false;
              const more = await take({ part: partOf(partition), ...batch });
              wantsMore &&= more;
            }
            return wantsMore;
          },
          onEnd: (partition) => onEnd?.(partOf(partition)),
        },
        log,
      );
      if (refused !== undefined) throw refused;
      if (!complete && wantsMore && !signal.aborted) {
        missing.push(`${topic}: the end of the stretch was not reached; records may have been removed meanwhile`);
      }
    },

    missing: () => missing,
  };
}

/** For each partition, the offset of the first record of this time or later; the end of the log when there is none. */
async function offsetsAt(admin: Admin, topic: string, ms: number): Promise<Map<number, number>> {
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, Math.max(0, ms));
  return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
}
