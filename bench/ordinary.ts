// A plain indexer, written carefully but without tricks: eachBatch, JSON.parse, mutate, `client.bulk()` of objects.
// In: the file of OrdinaryOptions on the command line. Same fetch sizes, bulk size and concurrency as logpipe; commits
// after the bulk. It does less than logpipe: no masking, templates, type checks, dead letters, retries.
import { readFileSync } from 'node:fs';
import { Client } from '@elastic/elasticsearch';
import kafkajs from 'kafkajs';

export interface OrdinaryOptions {
  readonly node: string;
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly group: string;
  readonly documents: number;
  readonly concurrency: number;
  readonly shape: Shape;
}

/** Whose lines: a plain indexer is written for one logger. */
export type Shape = 'winston' | 'ecs' | 'pino';

type Document = Record<string, unknown> & { eventId?: string; tags?: string[] };

interface Reading {
  /** Other loggers' documents do not fit the template's types, and go where none applies. */
  readonly index: string;
  readonly time: (doc: Document) => string;
  readonly isError: (doc: Document) => boolean;
}

const READING: Readonly<Record<Shape, Reading>> = {
  winston: {
    index: 'calling-platform',
    time: (doc) => doc.timestamp as string,
    isError: (doc) => doc.level === 'error',
  },
  ecs: {
    index: 'ordinary',
    time: (doc) => doc['@timestamp'] as string,
    isError: (doc) => doc['log.level'] === 'error',
  },
  pino: {
    index: 'ordinary',
    time: (doc) => new Date(doc.time as number).toISOString(),
    isError: (doc) => (doc.level as number) >= 50,
  },
};

const options = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as OrdinaryOptions;
const { index, time, isError } = READING[options.shape];
const client = new Client({ node: options.node });
const kafka = new kafkajs.Kafka({ brokers: [...options.brokers], logLevel: kafkajs.logLevel.ERROR });
const consumer = kafka.consumer({
  groupId: options.group,
  maxWaitTimeInMs: 250,
  maxBytes: 4_194_304,
  maxBytesPerPartition: 1_048_576,
});
let operations: unknown[] = [];
let offsets = new Map<number, string>();
let inFlight = 0;
let committed: Promise<void> = Promise.resolve();
const waiting: (() => void)[] = [];

async function flush(): Promise<void> {
  if (operations.length === 0) return;
  const bulk = operations;
  const upTo = offsets;
  operations = [];
  offsets = new Map();
  while (inFlight >= options.concurrency) await new Promise<void>((resolve) => waiting.push(resolve));
  inFlight += 1;
  const sent = client.bulk({ operations: bulk }).then((reply) => {
    if (reply.errors) throw new Error('a document was refused');
    inFlight -= 1;
    waiting.shift()?.();
  });
  // In order, because a later bulk that is done first must not commit past an earlier one.
  sent.catch(giveUp);
  committed = Promise.all([committed, sent]).then(() =>
    consumer.commitOffsets([...upTo].map(([partition, offset]) => ({ topic: options.topic, partition, offset }))),
  );
}

function giveUp(error: Error): void {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}

await consumer.connect();
await consumer.subscribe({ topics: [options.topic], fromBeginning: true });
await consumer.run({
  autoCommit: false,
  eachBatch: async ({ batch }) => {
    const { topic, partition } = batch;
    for (const message of batch.messages) {
      const doc = JSON.parse(message.value!.toString()) as Document;
      const timestamp = time(doc);
      doc['@timestamp'] = timestamp;
      if (isError(doc)) doc.tags = ['error'];
      doc.kafka = { topic, partition, offset: Number(message.offset) };
      const day = timestamp.slice(0, 10).replaceAll('-', '.');
      const _id = doc.eventId ?? `${topic}-${partition}-${message.offset}`;
      operations.push({ create: { _index: `${index}-${day}`, _id } }, doc);
      offsets.set(partition, String(Number(message.offset) + 1));
      if (operations.length >= options.documents * 2) await flush();
    }
  },
});
setInterval(() => void flush(), 1_000);
process.once('SIGTERM', () => {
  void committed.then(() => consumer.disconnect()).then(() => process.exit(0));
});
// Whoever started it must not leave it behind.
process.stdin.once('end', () => process.exit(1)).resume();
