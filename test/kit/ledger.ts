// A ledger of numbered events: what was produced, and where each event ended. Exactly one document or at least one dead
// letter per number, nothing else, is what every integrity test asks for.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Kafka, Producer } from 'kafkajs';
import kafkajs from 'kafkajs';
import { onTestFinished } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import { createEventIds } from '../../src/core/record.ts';
import type { LogpipeProcess } from './process.ts';
import { createTopic, spawnLogpipe, testBrokers, testEsUrl, uniqueName, waitFor } from './servers.ts';

const PARTITIONS = 4;

export interface Ledger {
  readonly topic: string;
  readonly group: string;
  /** Marks this run's documents in the shared indices (field `service`). */
  readonly service: string;
  readonly kafka: Kafka;
  readonly esUrl: string;
  readonly brokers: string[];
  /** Numbers produced so far. */
  readonly produced: number;
  /** Produces `count` further numbered events; every 97th is a tombstone, which belongs in the dead letters. */
  produce(count: number): Promise<void>;
  /**
   * Produces batches until the returned function is called; that resolves when the last one is acknowledged. `limit` is asked how far
   * it may go for now: a slow machine must not meet a backlog without end.
   */
  produceContinuously(perBatch: number, limit?: () => number): () => Promise<void>;
  /** Starts `logpipe run` on the ledger's topic. */
  start(overrides?: PipelineOptions): LogpipeProcess;
  /** Offsets the group still has to commit; 0 = all accounted for. */
  lag(group?: string): Promise<number>;
  /** Waits until the group has committed everything produced. */
  settled(timeoutMs?: number, group?: string): Promise<void>;
  /** What is wrong with the ledger, in words; empty when each number is exactly where it belongs. */
  verify(options?: { alsoRaw?: boolean }): Promise<string[]>;
  /** Produces these values as they are, without ids, spread over the partitions. */
  produceRaw(values: readonly (Buffer | null)[]): Promise<void>;
  /** `partition/offset` of every record of the topic, of every document and of every dead letter. */
  accounts(): Promise<{ records: Set<string>; documents: Set<string>; letters: Set<string> }>;
  /** Documents of this run in the live indices. */
  documents(): Promise<number>;
}

export interface PipelineOptions {
  readonly group?: string;
  readonly nodeOptions?: string;
  /** Shipped limits and waiting times instead of quick ones. */
  readonly defaults?: boolean;
  /** The `elasticsearch` section as YAML; by default the ledger's server. */
  readonly elasticsearch?: string;
}

/**
 * @param options.brokers instead of the run's shared Kafka
 * @param options.announce brokers named in the pipeline's configuration instead of the real ones
 */
export async function createLedger(
  options: { brokers?: string[]; esUrl?: string; announce?: string[] } = {},
): Promise<Ledger> {
  const brokers = options.brokers ?? testBrokers();
  const esUrl = options.esUrl ?? testEsUrl();
  const topic = uniqueName('ledger');
  const group = `${topic}-indexer`;
  await createTopic(brokers, topic, { partitions: PARTITIONS });
  await createTopic(brokers, `${topic}.dlq`, { partitions: 1 });
  const kafka = new kafkajs.Kafka({ clientId: 'logpipe-test', brokers, logLevel: kafkajs.logLevel.NOTHING });
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  const admin = kafka.admin();
  await admin.connect();
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-ledger-'));
  onTestFinished(async () => {
    await producer.disconnect();
    await admin.disconnect();
    rmSync(folder, { recursive: true, force: true });
  });

  const nextId = createEventIds();
  let produced = 0;

  async function produce(count: number): Promise<void> {
    await send(producer, topic, produced, count, nextId);
    produced += count;
  }

  async function lag(of: string = group): Promise<number> {
    const [ends, [committed]] = await Promise.all([
      admin.fetchTopicOffsets(topic),
      admin.fetchOffsets({ groupId: of, topics: [topic] }),
    ]);
    return ends.reduce((sum, { partition, high }) => {
      const at = Number(committed?.partitions.find((p) => p.partition === partition)?.offset ?? -1);
      return sum + Number(high) - Math.max(at, 0);
    }, 0);
  }

  return {
    topic,
    group,
    service: topic,
    kafka,
    esUrl,
    brokers,
    get produced() {
      return produced;
    },
    produce,
    produceContinuously(perBatch, limit = () => Number.POSITIVE_INFINITY) {
      let going = true;
      const finished = (async () => {
        while (going) await (produced < limit() ? produce(perBatch) : sleep(5));
      })();
      return () => {
        going = false;
        return finished;
      };
    },
    start(pipeline = {}) {
      const file = join(folder, `${uniqueName('config')}.yml`);
      const yaml = configYaml(
        { brokers: options.announce ?? brokers, topic, group: pipeline.group ?? group },
        pipeline.elasticsearch ?? `elasticsearch: { nodes: ['${esUrl}'] }\n`,
      );
      writeFileSync(file, pipeline.defaults === true ? yaml : yaml + QUICK);
      const env = pipeline.nodeOptions === undefined ? {} : { NODE_OPTIONS: pipeline.nodeOptions };
      return spawnLogpipe(['run', '--config', file, '--exit-with-parent'], { env });
    },
    lag,
    async settled(timeoutMs = 180_000, of = group) {
      await waitFor(async () => (await lag(of)) === 0, { what: `group ${of} commits everything`, timeoutMs });
    },
    async verify(options = {}) {
      const documents = await readDocuments(esUrl, topic);
      const letters = await readLetters(kafka, `${topic}.dlq`);
      return problems(produced, documents, letters, options.alsoRaw ?? false);
    },
    async produceRaw(values) {
      for (let from = 0; from < values.length; from += 100) {
        const messages = values
          .slice(from, from + 100)
          .map((value, i) => ({ value, partition: (from + i) % PARTITIONS }));
        await producer.send({ topic, messages, acks: -1 });
      }
    },
    async accounts() {
      const records = new Set<string>();
      for (const { partition, high } of await admin.fetchTopicOffsets(topic)) {
        for (let offset = 0; offset < Number(high); offset++) records.add(`${partition}/${offset}`);
      }
      const documents = new Set((await readDocuments(esUrl, topic)).map(originOf));
      return { records, documents, letters: await readLetters(kafka, `${topic}.dlq`) };
    },
    async documents() {
      return (await readDocuments(esUrl, topic)).length;
    },
  };
}

/** Quick to notice a dead member, and small batches, so that kills meet many of them. */
const QUICK = `intake: { sessionTimeoutMs: 2000, heartbeatMs: 500, commitIntervalMs: 100, maxWaitMs: 50 }
bulk: { maxDelayMs: 100, maxDocuments: 500, maxBackoffMs: 1000 }
`;

function configYaml(at: { brokers: string[]; topic: string; group: string }, elasticsearch: string): string {
  // The ledger only checks the indexer.
  return `roles: [indexer]
kafka:
  brokers: [${at.brokers.map((broker) => `'${broker}'`).join(', ')}]
  group: ${at.group}
  topics: { logs: ${at.topic}, dlq: ${at.topic}.dlq }
http: { port: 0 }
${elasticsearch}`;
}

/** Is number `n` one that no sink can take? */
function isPoison(n: number): boolean {
  return n % 97 === 96;
}

async function send(
  producer: Producer,
  topic: string,
  from: number,
  count: number,
  nextId: () => string,
): Promise<void> {
  const messages = [];
  for (let n = from; n < from + count; n++) {
    const eventId = nextId();
    const value = isPoison(n)
      ? null
      : JSON.stringify({
          timestamp: new Date().toISOString(),
          level: n % 50 === 0 ? 'error' : 'info',
          message: `event ${n}`,
          service: topic,
          eventId,
          requestId: String(n),
        });
    // The number is also the key, because the dead letters have no value.
    messages.push({ key: String(n), value, headers: { eventId }, partition: n % PARTITIONS });
  }
  await producer.send({ topic, messages, acks: -1 });
}

export interface Hit {
  _id: string;
  _index: string;
  fields: { requestId?: [string]; 'kafka.partition': [number]; 'kafka.offset': [number] };
  sort: unknown[];
}

/** Every document of the run, page by page over a point in time. */
export async function readDocuments(esUrl: string, topic: string): Promise<Hit[]> {
  await request(esUrl, 'POST', '/calling-platform-*/_refresh?allow_no_indices=true');
  const { id: pit } = (await request(
    esUrl,
    'POST',
    '/calling-platform-*/_pit?keep_alive=1m&allow_no_indices=true',
  )) as { id: string };
  const all: Hit[] = [];
  for (let after: unknown[] | undefined; ; ) {
    const reply = (await request(esUrl, 'POST', '/_search', {
      size: 10_000,
      query: { term: { 'kafka.topic': topic } },
      pit: { id: pit, keep_alive: '1m' },
      sort: [{ _shard_doc: 'asc' }],
      _source: false,
      fields: ['requestId', 'kafka.partition', 'kafka.offset'],
      track_total_hits: false,
      ...(after === undefined ? {} : { search_after: after }),
    })) as { hits: { hits: Hit[] } };
    const { hits } = reply.hits;
    all.push(...hits);
    if (hits.length < 10_000) break;
    after = hits.at(-1)!.sort;
  }
  await request(esUrl, 'DELETE', '/_pit', { id: pit });
  return all;
}

async function request(esUrl: string, method: string, path: string, body?: unknown): Promise<unknown> {
  const ask = () =>
    fetch(`${esUrl}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  // Right after a load its circuit breaker may refuse for a moment, until the garbage is collected.
  const response = await waitFor(
    async () => {
      const reply = await ask();
      return reply.status === 429 ? undefined : reply;
    },
    { what: `${method} ${path} is not refused with 429`, intervalMs: 500 },
  );
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Origin `partition/offset` of every dead letter; a letter may be there twice after a kill. */
async function readLetters(kafka: Kafka, topic: string): Promise<Set<string>> {
  const admin = kafka.admin();
  await admin.connect();
  const [end] = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  const origins = new Set<string>();
  const last = Number(end!.high) - 1;
  if (last < 0) return origins;
  const consumer = kafka.consumer({ groupId: uniqueName('letters') });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise<void>((resolve) => {
    void consumer.run({
      autoCommit: false,
      eachMessage: async ({ message }) => {
        const header = (name: string) => message.headers?.[name]?.toString();
        origins.add(`${header('origin-partition')}/${header('origin-offset')}`);
        if (Number(message.offset) >= last) resolve();
      },
    });
  });
  await consumer.disconnect();
  return origins;
}

function originOf({ fields }: Pick<Hit, 'fields'>): string {
  return `${fields['kafka.partition'][0]}/${fields['kafka.offset'][0]}`;
}

function problems(produced: number, documents: Hit[], letters: Set<string>, alsoRaw: boolean): string[] {
  const found: string[] = [];
  const seen = new Map<number, number>();
  const origins = new Set<string>();
  for (const { fields } of documents) {
    const n = Number(fields.requestId?.[0] ?? Number.NaN);
    if (!Number.isNaN(n)) seen.set(n, (seen.get(n) ?? 0) + 1);
    origins.add(originOf({ fields }));
  }
  let poison = 0;
  for (let n = 0; n < produced; n++) {
    const times = seen.get(n) ?? 0;
    if (isPoison(n)) poison += 1;
    const expected = isPoison(n) ? 0 : 1;
    if (times !== expected) found.push(`event ${n}: ${times} documents instead of ${expected}`);
  }
  if (seen.size > produced - poison) found.push(`${seen.size - produced + poison} documents nobody produced`);
  if (!alsoRaw && letters.size !== poison)
    found.push(`${letters.size} records in the dead letters instead of ${poison}`);
  for (const origin of letters) if (origins.has(origin)) found.push(`${origin} is a document and a dead letter`);
  return found.slice(0, 20);
}
