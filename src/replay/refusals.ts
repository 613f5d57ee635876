// Documents a replay could not write. In: dead letters. Out: counts by reason and a few examples for the summary; the topic
// of the dead letters gets them only when that is asked for. Guarantee: texts are masked already.
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { DeadLetter, DeadLetterSink } from '../core/record.ts';
import { createKafkaDeadLetters } from '../indexing/dead-letters.ts';
import { createKafka } from '../source/kafka-client.ts';
import type { Refusal, ReplayConfig, ReplayOptions } from './request.ts';

const MAX_EXAMPLES = 20;

export interface Refusals {
  readonly sink: DeadLetterSink;
  count(): number;
  examples(): { byReason: Record<string, number>; examples: readonly Refusal[] };
}

export function createRefusals(
  config: ReplayConfig,
  options: Pick<ReplayOptions, 'deadLetters'>,
  deps: { metrics: Metrics; log: Log },
): Refusals {
  const topic = options.deadLetters
    ? createKafkaDeadLetters({ kafka: createKafka(config.kafka, deps.log), topic: config.kafka.topics.dlq, ...deps })
    : undefined;
  const byReason: Record<string, number> = {};
  const examples: Refusal[] = [];
  let count = 0;

  return {
    sink: {
      async put(letters, signal) {
        await topic?.put(letters, signal);
        for (const letter of letters) {
          count += 1;
          byReason[letter.reason] = (byReason[letter.reason] ?? 0) + 1;
          if (examples.length < MAX_EXAMPLES) examples.push(toRefusal(letter));
        }
      },
      async close() {
        await topic?.close();
      },
    },
    count: () => count,
    examples: () => ({ byReason, examples }),
  };
}

function toRefusal({ reason, detail, id, origin, offset }: DeadLetter): Refusal {
  const place = origin.kind === 'kafka' ? `${origin.topic}/${origin.partition}` : origin.path;
  return { reason, detail, id, origin: `${place}@${offset}` };
}
