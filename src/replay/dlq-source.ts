// The dead letters as a source. In: the topic of the dead letters. Out: the records as they were in the log topic, with the
// id their documents were to have; a record that left several letters comes once.
// Guarantee: letters whose record was cut cannot become the document they were: they are told, not replayed.
import type { KafkaMessage } from 'kafkajs';
import { isEventId } from '../core/event-id.ts';
import type { Log } from '../core/log.ts';
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import type { KafkaConfig } from '../source/kafka-client.ts';
import { readTopic } from '../source/topic-reader.ts';
import { readable } from './feed.ts';
import { createKafkaReplaySource } from './kafka-source.ts';
import type { ReplaySource, StretchOptions } from './sources.ts';

/** Letters of a record that was delivered twice lie close together. */
const MAX_REMEMBERED = 100_000;

/** @param options.range the letters' records by their own time; the topic is read from its beginning to its end */
export function createDlqReplaySource(config: KafkaConfig, options: StretchOptions, log: Log): ReplaySource {
  const topic = config.topics.dlq;
  const whole = createKafkaReplaySource(config, { ...options, topic, range: undefined }, log);
  const seen = new Set<string>();
  const missing: string[] = [];
  let cut = 0;

  function toRecord(message: KafkaMessage): { record: RawRecord; origin: ChunkOrigin } | undefined {
    const header = (name: string): string | undefined => {
      const value = message.headers?.[name];
      return value === undefined ? undefined : String(Array.isArray(value) ? value[0] : value);
    };
    const id = header('event-id') ?? message.key?.toString();
    const offset = Number(header('origin-offset'));
    if (id === undefined || !Number.isSafeInteger(offset)) return undefined;
    if (header('sha256') !== undefined) {
      cut += 1;
      return undefined;
    }
    if (seen.has(id)) return undefined;
    if (seen.size >= MAX_REMEMBERED) seen.delete(seen.values().next().value!);
    seen.add(id);
    const from = header('origin-topic');
    const origin: ChunkOrigin =
      from === undefined
        ? { kind: 'file', path: header('origin-file') ?? '', identity: header('origin-identity') ?? '' }
        : { kind: 'kafka', topic: from, partition: Number(header('origin-partition')) };
    const timeMs = Number(header('origin-timestamp') ?? message.timestamp);
    const eventId = isEventId(id) ? id : undefined;
    return { record: { value: message.value, offset, timeMs, eventId, documentId: id, mark: 'redriven' }, origin };
  }

  return readable({
    kind: 'dlq',
    plan: whole.plan,
    async feed(from, signal, take) {
      const plan = await whole.plan();
      const wanted = new Map<number, { from: number; to: number }>();
      for (const lane of plan.lanes) {
        const at = from.get(lane.lane) ?? lane.from;
        if (Number(at) < Number(lane.to)) {
          wanted.set(Number(lane.lane.slice(topic.length + 1)), { from: Number(at), to: Number(lane.to) });
        }
      }
      if (wanted.size === 0 || signal.aborted) return;
      let wantsMore = true;
      await readTopic(
        config,
        {
          topic,
          purpose: options.purpose,
          from: wanted,
          follow: false,
          signal,
          async onBatch(messages, partition) {
            const letters = messages.flatMap((message) => toRecord(message) ?? []);
            const more = await take({
              lane: `${topic}/${partition}`,
              records: letters.map(({ record }) => record),
              origin: (i) => letters[i]!.origin,
              next: Number(messages.at(-1)!.offset) + 1,
            });
            wantsMore &&= more;
            return wantsMore;
          },
        },
        log,
      );
      if (cut > 0) missing.push(`${topic}: ${cut} letters hold only a part of their record; they are not replayed`);
    },
    missing: () => missing,
  });
}
