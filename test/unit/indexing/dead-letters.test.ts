// Dead letters in Kafka, with a kafkajs that is scripted: what is sent again, what is given up, and what it does when it is
// closed. On a real broker: test/integration/dlq.test.ts.
import type { Kafka, ProducerConfig, ProducerRecord, RecordMetadata } from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { type Log, silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import type { DeadLetter } from '../../../src/core/record.ts';
import { createKafkaDeadLetters } from '../../../src/indexing/dead-letters.ts';

const PARTITIONS = 4;
const forever = new AbortController().signal;

function letter(n: number, bytes = 10): DeadLetter {
  return {
    reason: 'document_refused',
    detail: 'because',
    value: Buffer.alloc(bytes, 97),
    origin: { kind: 'kafka', topic: 'logs', partition: 0 },
    offset: n,
    timeMs: 0,
    id: `id-${n}`,
  };
}

/** `answer` sees what was sent, by partition, and says which partitions acknowledge. */
function rig(answer: (sent: ReadonlyMap<number, string[]>, n: number) => Promise<number[]> | number[]) {
  const sends: string[][] = [];
  const said: string[] = [];
  const partitionMetadata = [...Array(PARTITIONS).keys()].map((partitionId) => ({
    ...{ partitionErrorCode: 0, partitionId, leader: 0, replicas: [0], isr: [0] },
  }));
  const kafka = {
    producer(config: ProducerConfig) {
      const choose = config.createPartitioner!();
      return {
        async connect() {},
        async disconnect() {},
        async send({ topic, messages }: ProducerRecord): Promise<RecordMetadata[]> {
          const sent = new Map<number, string[]>();
          for (const message of messages) {
            const partition = choose({ topic, partitionMetadata, message });
            sent.set(partition, [...(sent.get(partition) ?? []), String(message.key)]);
          }
          sends.push(messages.map(({ key }) => String(key)));
          const acknowledged = await answer(sent, sends.length - 1);
          return acknowledged.map((partition) => ({ topicName: topic, partition, errorCode: 0 }));
        },
      };
    },
    admin: () => ({
      async connect() {},
      async disconnect() {},
      describeConfigs: async () => ({ resources: [] }),
    }),
  } as unknown as Kafka;
  const log: Log = { ...silentLog, error: (message) => said.push(message), info: (message) => said.push(message) };
  const sink = createKafkaDeadLetters({ kafka, topic: 'logs.dlq', metrics: createMetrics(), log });
  onTestFinished(() => sink.close());
  return { sink, sends, said };
}

const all = (sent: ReadonlyMap<number, string[]>) => [...sent.keys()];

it('a partition that nobody acknowledged is sent again, though kafkajs resolved', async () => {
  let durable = new Set<string>();
  const { sink, sends, said } = rig((sent, n) => {
    const acknowledged = n === 0 ? all(sent).slice(1) : all(sent);
    for (const partition of acknowledged) durable = new Set([...durable, ...sent.get(partition)!]);
    return acknowledged;
  });
  const letters = Array.from({ length: 20 }, (_, n) => letter(n));
  await sink.put(letters, forever);
  expect(durable).toEqual(new Set(letters.map(({ id }) => id)));
  expect(sends).toHaveLength(2);
  expect(said).toEqual(['dead letters cannot be written; trying again', 'dead letters are written again']);
});

it('a letter that nobody waits for any more is not sent, wherever it stands in the queue', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { sink, sends } = rig(async (sent, n) => {
    if (n === 0) await held;
    return all(sent);
  });
  const abort = new AbortController();
  const first = sink.put([letter(0)], forever);
  await expect.poll(() => sends.length).toBe(1);
  const given = [sink.put([letter(1, 900_000)], abort.signal), sink.put([letter(3)], abort.signal)];
  const kept = [sink.put([letter(2)], forever), sink.put([letter(4)], forever)];
  const refused = given.map((one) => expect(one).rejects.toThrow('over'));
  abort.abort(new Error('over'));
  await Promise.all(refused);
  release();
  await Promise.all([first, ...kept]);
  expect(sends).toEqual([['id-0'], ['id-2', 'id-4']]);
  await expect(sink.put([letter(5)], abort.signal)).rejects.toThrow('over');
});

it('only aborted letters in the queue: the next one is written all the same', async () => {
  const abort = new AbortController();
  const { sink, sends } = rig((sent) => {
    if (!abort.signal.aborted) throw new Error('away');
    return all(sent);
  });
  const given = expect(sink.put([letter(0), letter(1)], abort.signal)).rejects.toThrow('over');
  await expect.poll(() => sends.length).toBeGreaterThan(0);
  abort.abort(new Error('over'));
  await given;
  await sink.put([letter(2)], forever);
  expect(sends.at(-1)).toEqual(['id-2']);
});

it('closed while letters wait: who put them is told, and so is who comes later', async () => {
  const { sink, sends } = rig(() => {
    throw new Error('away');
  });
  const waiting = [sink.put([letter(0)], forever), sink.put([letter(1)], forever)];
  const refused = waiting.map((one) => expect(one).rejects.toThrow('closed'));
  await expect.poll(() => sends.length).toBeGreaterThan(0);
  await sink.close();
  await Promise.all(refused);
  await expect(sink.put([letter(2)], forever)).rejects.toThrow('closed');
});
